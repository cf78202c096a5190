"""Fields of a job that clients of earlier releases still send.

Most requests have them as null or with their default, which says nothing and is accepted. A value
that has no effect here is accepted with a warning. What only an administrator may decide is
refused, with the name of the setting.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.configs import plain_text
from aind_data_transfer_service.configs.vocabulary import quoted

BEHAVIOR_DIR = "behavior_dir"

_DEFAULTS = {"process_name": "other"}
_CODE_OCEAN = "assets are registered with Code Ocean by this service itself"
_WITHOUT_EFFECT: Mapping[str, str] = {
    "temp_directory": "data are sent from their source and not staged",
    "process_name": "processing.json names the steps of each upload",
    "codeocean_trigger_capsule_id": _CODE_OCEAN,
    "codeocean_trigger_capsule_version": _CODE_OCEAN,
}
_OF_ADMINISTRATOR = "is decided by the administrator ({}); leave it out"
REFUSED: Mapping[str, str] = {
    "aws_param_store_name": _OF_ADMINISTRATOR.format("AWS_PARAM_STORE_NAME"),
    "metadata_service_domain": _OF_ADMINISTRATOR.format("METADATA_SERVICE_URL"),
    "codeocean_domain": _OF_ADMINISTRATOR.format("CODEOCEAN_DOMAIN"),
    "codeocean_api_token": _OF_ADMINISTRATOR.format("CODEOCEAN_TOKEN"),
    "aind_data_transfer_repo_location": _OF_ADMINISTRATOR.format("HPC_SIF_LOCATION"),
    "video_encryption_password": "videos are not encrypted by this service; leave it out",
}
"""Fields that may only be null, and why. Their values can be secrets and are not shown."""

FORMER_FIELDS = frozenset({BEHAVIOR_DIR, *_WITHOUT_EFFECT, *REFUSED})
"""All of these fields; none of them is written."""


def without_former_fields(job: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take these fields out of a job.

    A field that is refused stays. `behavior_dir` becomes a modality, so that its data are uploaded.

    Parameters
    ----------
    job : Mapping[str, Any]
        The fields of the job.

    Returns
    -------
    tuple[dict[str, Any], list[str]]
        The other fields, and a warning for each value that is not used as its sender expects. A
        warning begins with the name of the field.

    Examples
    --------
    >>> without_former_fields({"subject_id": "690165", "temp_directory": "/scratch"})[1]
    ['temp_directory: "/scratch" has no effect; data are sent from their source and not staged']
    """
    left = dict(job)
    warnings = []
    for name in FORMER_FIELDS.intersection(job):
        if _says_nothing(name, job[name]):
            del left[name]
        elif name in _WITHOUT_EFFECT:
            value = getattr(left.pop(name), "value", job[name])
            warnings.append(f"{name}: {quoted(value)} has no effect; {_WITHOUT_EFFECT[name]}")
    folder = left.pop(BEHAVIOR_DIR, None)
    if folder is not None:
        modalities = job.get("modalities")
        if isinstance(modalities, Sequence) and not isinstance(modalities, str):
            if str(folder) not in map(_source, modalities):
                left["modalities"] = [*modalities, {"modality": "behavior", "source": folder}]
        warnings.append(
            f"{BEHAVIOR_DIR}: {quoted(str(folder))} is uploaded as a modality (behavior); list it "
            "in modalities instead"
        )
    return left, sorted(warnings)


def _says_nothing(name: str, value: object) -> bool:
    """Return whether a value is empty or the default of earlier releases."""
    value = getattr(value, "value", value)
    if not isinstance(value, str):
        return value is None
    return plain_text.trim(value).casefold() in ("", _DEFAULTS.get(name, ""))


def _source(modality: object) -> str:
    """Return the folder of a modality; an empty text if it names none."""
    if isinstance(modality, Mapping):
        return str(modality.get("source", ""))
    return str(getattr(modality, "source", ""))
