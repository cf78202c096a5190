"""From a request to jobs that can be recorded. Pure: nothing here asks the world."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from aind_data_transfer_service.configs.bucket_aliases import BUCKET_WORDS
from aind_data_transfer_service.configs.error_messages import (
    MOST_ERRORS,
    MOST_JOB_ERRORS,
    first_errors,
)
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.configs.job_requests import parse_jobs, stopped
from aind_data_transfer_service.configs.limits import MAX_COUNTED_ERRORS
from aind_data_transfer_service.configs.vocabulary import limited_hints
from aind_data_transfer_service.executors.slurm.job_properties import setting_errors
from aind_data_transfer_service.jobs.dispatcher import MAIL
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.models import Job, new_job_id, utc_now
from aind_data_transfer_service.jobs.secret_env import variable_errors
from aind_data_transfer_service.jobs.validation.results import ConfigToCheck
from aind_data_transfer_service.plain_text import wrong_character
from aind_data_transfer_service.redaction import redact_all
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.slurmrest.units import two_part_time

MAIL_TYPES = ("BEGIN", "END", "FAIL", "REQUEUE", "ALL")
NO_MAIL = "no e-mails are sent for jobs that run on this machine"

_MAIL_USER = re.compile(r"[\w.][\w.!#%&'*+/=?^`{|}~-]{0,63}(@[\w.-]{1,190})?")
"""What it begins with is no `-`, `|` or `/`: to a cluster's mailer that is an option, a command, a
file."""
_JOB = re.compile(r"job (\d{1,9})\b")
_LONGEST_NAME = 256
LONGEST_SCRIPT = 1024**2
"""In characters."""


@dataclass(frozen=True, slots=True)
class HpcJobRequest:
    """One job as the API takes it: three texts.

    Attributes
    ----------
    upload_job_settings : str
        JSON text of a `BasicUploadJobConfigs`; of an empty object where the script is all there is.
    hpc_settings : str
        JSON text of an object.
    script : str
        Empty for the data transfer job.
    is_recorded : bool
        Whether the bucket is recorded: then it is a name and never a word.
    asset_name : str
        The name under which the asset is recorded; empty if it is still to be given one.
    """

    upload_job_settings: str
    hpc_settings: str = "{}"
    script: str = ""
    is_recorded: bool = False
    asset_name: str = ""

    @property
    def is_bare_script(self) -> bool:
        """Whether no asset is uploaded by the data transfer job's settings."""
        try:
            return bool(json.loads(self.upload_job_settings.strip() or "{}") == {})
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that was understood, and how it is called in messages."""

    label: str
    request: HpcJobRequest
    hpc_settings: Mapping[str, Any]
    config: BasicUploadJobConfigs | None
    """None for a bare script."""
    location: str
    """Where the asset goes; empty for a bare script."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """All drafts of a request, or all that is wrong with it."""

    drafts: tuple[Draft, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: Mapping[str, list[str]] = field(default_factory=dict)
    """By label."""
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What jobs ask of the cluster, by label, if there are errors."""


def asset_location(settings: ServiceSettings, config: ConfigToCheck) -> str:
    """Tell where an asset goes: `s3://bucket/prefix`, or a local path."""
    return next(asset_locations(settings, [config]))


def asset_locations(settings: ServiceSettings, configs: Iterable[ConfigToCheck]) -> Iterator[str]:
    """Yield where each of many assets goes; the settings are read once."""
    default = settings.bucket_for(None) or ""
    root = settings.destination_root
    base = root if root == "s3://" else f"{root.rstrip('/')}/"
    for config in configs:
        yield f"{base}{config.s3_bucket or default}/{config.s3_prefix}"


def draft_basic(texts: Sequence[str], settings: ServiceSettings) -> Drafts:
    """Understand jobs that are given by their upload settings alone."""
    requests = [HpcJobRequest(text) for text in texts]
    with limited_hints(MOST_ERRORS):
        return _draft(requests, set(), settings)


def draft_hpc(requests: Sequence[HpcJobRequest], settings: ServiceSettings) -> Drafts:
    """Understand jobs that bring settings and scripts of their own."""
    bare = {number for number, request in enumerate(requests, start=1) if request.is_bare_script}
    with limited_hints(MOST_ERRORS):
        return _draft(requests, bare, settings)


def _draft(requests: Sequence[HpcJobRequest], bare: set[int], settings: ServiceSettings) -> Drafts:
    """Understand all requests, or tell everything that is wrong with them."""
    numbers = range(1, len(requests) + 1)
    errors: dict[int, list[str]] = {number: [] for number in numbers}
    warnings: dict[str, list[str]] = {}
    configs, general = _parse_configs(requests, numbers, bare, settings, warnings)
    hpc: dict[int, dict[str, Any]] = {}
    count = len(general)
    for number, request in zip(numbers, requests):
        if count >= MAX_COUNTED_ERRORS:
            general = general or [stopped(number)]
            break
        found = _read_hpc_settings(request.hpc_settings)
        if isinstance(found, str):
            errors[number].append(found)
            found = {}
        hpc[number] = found
        errors[number] += _mail_errors(found, settings.sends_mail)
        errors[number] += _cluster_errors(found, settings)
        errors[number] += variable_errors(found)
        errors[number] += _script_errors(request.script, number in bare, settings)
        if number in bare:
            errors[number] += _name_errors(found)
        errors[number] = first_errors(errors[number], most=MOST_JOB_ERRORS)
        count += len(errors[number])
    flat = [f"job {number}, {text}" for number in numbers for text in errors[number]]
    if general or flat:
        asked = {f"job {number}": found for number, found in hpc.items()}
        return Drafts(
            errors=_by_job([*general, *flat]), asked=asked if count < MAX_COUNTED_ERRORS else {}
        )
    drafts = [
        _one_draft(number, request, hpc[number], configs.get(number), settings)
        for number, request in zip(numbers, requests)
    ]
    for draft in drafts:
        if texts := _warnings(draft, settings):
            warnings.setdefault(draft.label, []).extend(texts)
    return Drafts(drafts=tuple(drafts), warnings=warnings)


def _by_job(errors: list[str]) -> tuple[str, ...]:
    """Return errors job by job, those of the request as a whole first."""

    def number(error: str) -> int:
        found = _JOB.match(error)
        return int(found[1]) if found else 0

    return tuple(sorted(errors, key=number))


def _warnings(draft: Draft, settings: ServiceSettings) -> list[str]:
    """List what a request asks for that has no effect, or not the expected one."""
    texts = list(draft.config.warnings if draft.config is not None else ())
    if settings.on_cluster:
        for name in ("time_limit", "time_minimum"):
            if words := two_part_time(draft.hpc_settings.get(name)):
                texts.append(f"hpc_settings.{name}: {words}")
    if draft.request.asset_name and not draft.request.is_recorded:
        texts += _word_warnings(draft)
    if draft.hpc_settings.get("mail_type") and not (settings.on_cluster or settings.sends_mail):
        texts.append(f"mail_type: {NO_MAIL}")
    return [f"{draft.label}, {text}" for text in texts]


def _word_warnings(draft: Draft) -> list[str]:
    """Warn that a repeated job goes to another bucket, which its request names by a word."""
    bucket = draft.config.s3_bucket if draft.config is not None else None
    if bucket is None or bucket in BUCKET_WORDS:
        return []
    return [
        "s3_bucket: the earlier job names its bucket by a word, which the release that recorded it "
        f"took for the bucket's name; the new job uploads to {bucket}"
    ]


def make_jobs(
    drafts: Sequence[Draft],
    warnings: Mapping[str, Sequence[str]],
    settings: ServiceSettings,
    resubmit_of: str = "",
) -> list[Job]:
    """Compose the records of jobs about to be submitted."""
    batch_id = new_job_id() if len(drafts) > 1 else ""
    jobs = [
        _make_job(draft, tuple(warnings.get(draft.label, ())), settings, resubmit_of)
        for draft in drafts
    ]
    submitted_at = utc_now()
    return [replace(job, batch_id=batch_id, submitted_at=submitted_at) for job in jobs]


def _make_job(
    draft: Draft, warnings: tuple[str, ...], settings: ServiceSettings, resubmit_of: str
) -> Job:
    """Compose one record."""
    common: dict[str, Any] = {
        "id": new_job_id(),
        "hpc_settings": draft.request.hpc_settings.strip() or "{}",
        "script": draft.request.script.replace("\r\n", "\n"),
        "warnings": tuple(first_errors(redact_all(warnings), "warning", "warnings")),
        "resubmit_of": resubmit_of,
    }
    config = draft.config
    if config is None:
        return Job(name=draft.hpc_settings["name"].strip(), **common)
    return Job(
        name=config.s3_prefix,
        submitter=config.processor_full_name or "",
        project_name=config.project_name,
        platform=config.platform.abbreviation,
        subject_id=config.subject_id,
        modalities=",".join(item.default_output_folder_name for item in config.modalities),
        acq_datetime=config.acq_datetime.isoformat(),
        location=draft.location,
        upload_job_settings=config.model_dump_json(),
        **common,
    )


def _parse_configs(
    requests: Sequence[HpcJobRequest],
    numbers: Sequence[int],
    bare: set[int],
    settings: ServiceSettings,
    warnings: dict[str, list[str]],
) -> tuple[dict[int, BasicUploadJobConfigs], list[str]]:
    """Read the upload settings of all jobs that have some; warnings are added by label."""
    asked = [(number, request) for number, request in zip(numbers, requests) if number not in bare]
    if not asked and requests:
        return {}, []
    parsed = parse_jobs(
        [request.upload_job_settings for _, request in asked],
        ZoneInfo(settings.lab_timezone),
        settings.date_order,
        [number for number, _ in asked],
        settings.allowed_buckets,
        None if all(request.is_recorded for _, request in asked) else settings.bucket_names,
        not settings.require_processor_full_name,
        settings.path_mappings,
        lambda number, text: warnings.setdefault(f"job {number}", []).append(text),
        settings.names_platform,
        {number: request.asset_name for number, request in asked},
    )
    if parsed.errors:
        return {}, list(parsed.errors)
    return dict(zip((number for number, _ in asked), parsed.configs, strict=True)), []


def _one_draft(
    number: int,
    request: HpcJobRequest,
    hpc_settings: dict[str, Any],
    config: BasicUploadJobConfigs | None,
    settings: ServiceSettings,
) -> Draft:
    """Put a job's pieces together; a job that names no bucket gets the default one."""
    location = ""
    if config is not None:
        if config.s3_bucket is None:
            config = config.model_copy(update={"s3_bucket": settings.bucket_for(None)})
        location = asset_location(settings, config)
    return Draft(f"job {number}", request, hpc_settings, config, location)


def _read_hpc_settings(text: str) -> dict[str, Any] | str:
    """Read the settings for the cluster, or tell what is wrong with them."""
    try:
        return read_object(text)
    except ValueError as error:
        return f"hpc_settings: {error}"


def _mail_errors(hpc_settings: Mapping[str, Any], whole: bool) -> list[str]:
    """Check who gets e-mails, and on what occasions; a cluster knows its users by name alone."""
    errors = []
    user = hpc_settings.get("mail_user")
    known = isinstance(user, str) and _MAIL_USER.fullmatch(user) and ("@" in user or not whole)
    if user is not None and not known:
        errors.append(f"hpc_settings.mail_user: {_shown(user)} is no e-mail address")
    kinds = hpc_settings.get("mail_type")
    if isinstance(kinds, str):
        kinds = [kind.strip() for kind in kinds.split(",")]
    if kinds is not None and not isinstance(kinds, list):
        kinds = [kinds]
    for kind in kinds or ():
        if kind not in MAIL_TYPES:
            listed = ", ".join(MAIL_TYPES)
            errors.append(f"hpc_settings.mail_type: {_shown(kind)} is unknown; known are {listed}")
    return errors


def _cluster_errors(hpc_settings: Mapping[str, Any], settings: ServiceSettings) -> list[str]:
    """Check what is asked of the cluster, where there is one; what is said above is not repeated.

    On this machine nothing else has a meaning, and nothing is refused.
    """
    if not settings.on_cluster:
        return []
    asked = {name: value for name, value in hpc_settings.items() if name not in MAIL}
    return setting_errors(asked, settings.hpc)


def _script_errors(script: str, is_bare: bool, settings: ServiceSettings) -> list[str]:
    """Check a script of the user's own."""
    if not script:
        if is_bare:
            return ["upload_job_settings: empty, and there is no script; a job needs one of them"]
        return []
    if not settings.takes_scripts:
        where = "" if settings.on_cluster else " for jobs on this machine"
        return [
            f"script: custom scripts are turned off{where}; leave it empty, or ask an "
            "administrator to set ALLOW_CUSTOM_SCRIPTS=true"
        ]
    errors = []
    if not script.startswith("#!"):
        errors.append('script: does not begin with "#!"; write "#!/bin/bash" on its first line')
    if len(script) > LONGEST_SCRIPT:
        errors.append(f"script: longer than {LONGEST_SCRIPT:,} characters")
    elif wrong_character(script, has_lines=True):
        lines = enumerate(script.split("\n"), start=1)
        found = (wrong_character(line, True, f"line {number}") for number, line in lines)
        errors.append(f"script: holds {next(filter(None, found))}; remove it")
    return errors


def _name_errors(hpc_settings: Mapping[str, Any]) -> list[str]:
    """Check the name of a job that is a script alone."""
    name = hpc_settings.get("name")
    if name is None:
        return ['hpc_settings.name: missing; a script alone needs one, as in {"name": "my job"}']
    fits = isinstance(name, str) and name.strip() and len(name) <= _LONGEST_NAME
    if not fits or not name.isprintable():
        return [f"hpc_settings.name: {_shown(name)} is no name; write up to 256 plain characters"]
    return []


def _shown(value: Any) -> str:
    """Quote a value of any kind, cut to size."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
