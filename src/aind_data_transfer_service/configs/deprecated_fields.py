"""Fields of a job that clients of earlier releases still send.

Most requests have them as null or with their default, which says nothing and is accepted. A value
that has no effect here is accepted with a warning. What only an administrator may decide is
refused, with the name of the setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs.vocabulary import quoted

BEHAVIOR_DIR = "behavior_dir"

_CAPSULE, _FORMER_CAPSULE = "process_capsule_id", "codeocean_process_capsule_id"
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
    _FORMER_CAPSULE: f"names another capsule than {_CAPSULE}, which replaces it; leave it out",
}
"""Fields that may only be null, and why; `codeocean_process_capsule_id` only if it says what
`process_capsule_id` says. Their values can be secrets and are not shown."""

_OF_TIME = "is a field of earlier releases; write date and time in one field, acq_datetime"
REPLACED: Mapping[str, str] = {
    "acq_date": _OF_TIME,
    "acq_time": _OF_TIME,
    "experiment_type": "is a field of earlier releases; write the platform in the field platform",
}
"""Fields that are refused whatever they hold, and which one replaces them."""

FORMER_FIELDS = frozenset({BEHAVIOR_DIR, *_WITHOUT_EFFECT, *REFUSED})
"""The fields that are accepted from clients of earlier releases; none of them is written."""


def without_former_fields(job: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take these fields out of a job.

    A field that is refused stays, and so does `behavior_dir`, which is read like other paths.

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
    if FORMER_FIELDS.isdisjoint(left):
        return left, []
    warnings = []
    for name in FORMER_FIELDS.intersection(job):
        if _says_nothing(name, job[name]):
            del left[name]
        elif name in _WITHOUT_EFFECT:
            value = getattr(left.pop(name), "value", job[name])
            warnings.append(f"{name}: {quoted(value)} has no effect; {_WITHOUT_EFFECT[name]}")
    if _FORMER_CAPSULE in left and _says_nothing(_CAPSULE, left.get(_CAPSULE)):
        left[_CAPSULE] = left[_FORMER_CAPSULE]
    if _FORMER_CAPSULE in left and _same_text(left[_FORMER_CAPSULE], left[_CAPSULE]):
        del left[_FORMER_CAPSULE]
        warnings.append(f"{_FORMER_CAPSULE}: is read as {_CAPSULE}; write that name instead")
    return left, sorted(warnings)


def behavior_warnings(
    folder: PurePosixPath, is_added: bool, others: Sequence[tuple[str, PurePosixPath]]
) -> Iterator[str]:
    """Say what becomes of `behavior_dir`.

    Parameters
    ----------
    folder : PurePosixPath
        The folder that it names.
    is_added : bool
        Whether it was added as a modality.
    others : Sequence[tuple[str, PurePosixPath]]
        The modalities that the job lists: their folders in the asset, and their sources.
    """
    shown = quoted(str(folder))
    if not is_added:
        yield f"{BEHAVIOR_DIR}: {shown} is a behavior modality already; leave {BEHAVIOR_DIR} out"
        return
    yield (
        f"{BEHAVIOR_DIR}: {shown} is uploaded as a modality (behavior); list it in modalities "
        "instead"
    )
    for name, source in others:
        if folder == source:
            yield f"{BEHAVIOR_DIR}: {shown} is the source of {name} too; its files are sent twice"
        elif source in folder.parents:
            yield (
                f"{BEHAVIOR_DIR}: {shown} is inside of {quoted(str(source))}, the source of {name};"
                " its files are sent twice"
            )
        elif folder in source.parents:
            yield (
                f"{BEHAVIOR_DIR}: {shown} contains {quoted(str(source))}, the source of {name}, "
                "whose files are sent twice"
            )


def _says_nothing(name: str, value: object) -> bool:
    """Return whether a value is empty or the default of earlier releases."""
    value = getattr(value, "value", value)
    if not isinstance(value, str):
        return value is None
    return plain_text.trim(value).casefold() in ("", _DEFAULTS.get(name, ""))


def _same_text(first: object, second: object) -> bool:
    """Return whether two values are equal but for blanks at their ends."""
    if isinstance(first, str) and isinstance(second, str):
        return plain_text.trim(first) == plain_text.trim(second)
    return first == second
