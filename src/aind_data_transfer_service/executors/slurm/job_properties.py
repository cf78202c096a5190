"""What a job on the cluster asks of Slurm: the site's settings, and the user's over them. Pure."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.batch_script import ENDINGS, job_file
from aind_data_transfer_service.settings.env_policy import is_administrators
from aind_data_transfer_service.settings.slurm import MEMORY, HpcSettings
from aind_data_transfer_service.slurmrest.job_properties import read_properties
from aind_data_transfer_service.slurmrest.models import SlurmJob

ALWAYS = frozenset({"name", "mail_user", "mail_type"})
"""What users may always say."""
NEVER = frozenset({"array"})
"""What would make of one job several, of which only one could be followed."""
PROTECTED = frozenset({"account", "environment", "group_id", "user_id"})
"""What users may not say unless `HPC_USER_SETTINGS` names it."""
LOG_PATHS = frozenset({"standard_in", "standard_out", "standard_error"})
_JOBS_NAME = re.compile(r"%[0-9]*x")
_SAFE_PATTERN = re.compile(r"%[juN]")
_APART = re.compile(r"[^.]*[-_]")
"""How a name begins that is no job's own file, whatever its patterns become."""
_OURS = re.compile(
    r"[0-9a-hjkmnp-tv-z]{12}\.|.*\.(?:events\.jsonl|request\.json|script|claim|cancel|end)(?:\.|$)"
)
"""Files that jobs and this service leave in the folder of logs, by the ids of the jobs."""
WORK_PATH = "current_working_directory"
_TRUNCATES = (
    "truncate could erase the log of an earlier job where standard_out or standard_error is set; "
    "write append, or leave it out"
)
_PATTERNS = (
    "could be the file of another job; use only the patterns %x, %j, %u and %N, in a file name "
    "with a - or _ before its first dot, such as %x-%j.out"
)
_MARK = "aind-data-transfer-service:"
_MARKED = re.compile(
    rf"{_MARK}([A-Za-z0-9][A-Za-z0-9_-]{{0,63}}(?:\.shards)?)(?:\+([0-9]{{1,4}}))?(?:\s|$)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LONGEST_COMMENT = 500
_JOINED = {'"': ": "}  # a problem begins with the property's name, quoted where there is none such


def mark_of(job_id: str, shards: int = 0) -> str:
    """Compose what a job's comment begins with; of one that is cut, it tells into how many."""
    return f"{_MARK}{job_id}" + (f"+{shards}" if shards else "")


@lru_cache(maxsize=50_000)
def _read_mark(comment: str) -> tuple[str, int]:
    """Read our own id of a job and its number of shards; empty and zero if there is no mark."""
    found = _MARKED.match(comment)
    return (found[1], int(found[2] or 0)) if found else ("", 0)


def marked_id(comment: str) -> str:
    """Read our own id of a job from its comment; empty where it is none of ours."""
    return _read_mark(comment)[0]


def marked_shards(comment: str) -> int:
    """Read from a job's comment into how many shards it is cut; zero where it is whole."""
    return _read_mark(comment)[1]


def without_copies(jobs: Sequence[SlurmJob], number: int) -> list[SlurmJob]:
    """Leave out jobs of other users whose comment is a copy.

    The job with the number that we know is ours. If none has it, the first with the mark is: other
    users can copy a comment that they see, and their jobs most often have higher numbers.
    """
    first = min(jobs, key=lambda job: (number not in (job.job_id, job.array_job_id), job.job_id))
    return [job for job in jobs if (job.user, job.user_id) == (first.user, first.user_id)]


def job_properties(spec: JobSpec, hpc: HpcSettings) -> dict[str, Any]:
    """Compose the properties of a job, by their names in v0.0.36."""
    found: dict[str, Any] = {
        "current_working_directory": str(hpc.current_working_directory),
        "standard_out": pattern(job_file(hpc.logging_directory, spec.job_id, ENDINGS["stdout"])),
        "standard_error": pattern(job_file(hpc.logging_directory, spec.job_id, ENDINGS["stderr"])),
        "open_mode": "append",
        "name": spec.name,
    }
    user, _ = read_properties(spec.settings)
    user.pop("environment", None)
    found |= site_defaults(user, hpc, is_script=bool(spec.script)) | user
    found["name"] = _CONTROL.sub(" ", str(found["name"])).strip() or spec.job_id
    comment = _CONTROL.sub(" ", str(found.get("comment") or ""))[:_LONGEST_COMMENT]
    found["comment"] = f"{mark_of(spec.job_id)} {comment}".strip()
    return found


def site_defaults(
    asked: Mapping[str, Any], hpc: HpcSettings, is_script: bool = False
) -> dict[str, Any]:
    """Return the site's properties of a job that the job does not set itself.

    A transfer asks for the memory that it needs. If it asked for none, Slurm would give it the
    memory of a complete node on many clusters, and so one transfer would keep out all others.

    Parameters
    ----------
    asked : Mapping
        The properties that the job sets.
    hpc : HpcSettings
        What is known of the cluster.
    is_script : bool
        Whether the job is a script of the user's own, of which nobody knows what it needs.
    """
    replaced = asked.keys() | (MEMORY if MEMORY & asked.keys() else frozenset())
    defaults = hpc.default_properties
    if hpc.transfer_memory and not is_script and not MEMORY & defaults.keys():
        defaults["memory_per_node"] = hpc.transfer_memory
    return {name: value for name, value in defaults.items() if name not in replaced}


def setting_errors(settings: Mapping[str, Any], hpc: HpcSettings) -> list[str]:
    """Tell everything that is wrong with what a user asks of the cluster."""
    found, problems = read_properties(settings)
    errors = [f"hpc_settings{_JOINED.get(text[0], '.')}{text}" for text in problems]
    if found.get("open_mode") == "truncate" and {"standard_out", "standard_error"} & found.keys():
        errors.append(f"hpc_settings.open_mode: {_TRUNCATES}")
    for name, value in found.items():
        if name in LOG_PATHS and isinstance(value, str):
            value = _JOBS_NAME.sub(lambda _: str(found.get("name", "")), value)
        words = _refusal(name, value, hpc)
        if words:
            errors.append(f"hpc_settings.{name}: {words}")
    return errors


def _refusal(name: str, value: Any, hpc: HpcSettings) -> str:
    """Say why users may not set a property so; empty where they may."""
    if name in NEVER:
        return "a transfer is one job, and cannot be an array; submit several jobs"
    if name in ALWAYS:
        return ""
    allowed = hpc.user_settings
    if name == "environment" and allowed and name in allowed:
        return _environment_refusal(value)
    if allowed is None:
        if name in PROTECTED:
            return "is set by this site, and not to be changed (HPC_USER_SETTINGS); leave it out"
        return _path_refusal(name, value, hpc)
    if name not in allowed:
        listed = ", ".join(sorted(allowed | ALWAYS))
        return f"not to be set here; this site lets users set {listed}"
    return _log_refusal(value) if name in LOG_PATHS else ""


def _environment_refusal(value: Any) -> str:
    """Keep from users the variables by which the site steers a job: addresses, keys, folders."""
    taken = sorted(variable for variable in value if is_administrators(variable))
    if not taken:
        return ""
    return f"{', '.join(taken)}: only this site's administrator may set that; leave it out"


def _path_refusal(name: str, value: Any, hpc: HpcSettings) -> str:
    """Keep paths inside of the folders that are there for them."""
    folders = [hpc.logging_directory]
    if name == WORK_PATH:
        folders.append(hpc.current_working_directory)
    elif name not in LOG_PATHS:
        return ""
    if name == "standard_in" and value == "/dev/null":
        return ""
    if isinstance(value, str) and "\\" not in value:  # which Slurm takes out, and then sees ".."
        path = PurePosixPath(value)
        if name in LOG_PATHS and (words := _log_refusal(value)):
            return words
        beneath = (folder for folder in folders if folder and path.is_relative_to(folder))
        if ".." not in path.parts and any(beneath):
            return ""
    return f"write a path beneath {' or '.join(map(str, folders))}"


def _log_refusal(value: str) -> str:
    """Say why a file can be another job's; empty where it cannot."""
    path = PurePosixPath(value)
    if _OURS.match(path.name):
        return "is the name of a job's own file, which may be another's; write some other name"
    if "%" in str(path.parent) or "%" in _SAFE_PATTERN.sub("", path.name):
        return _PATTERNS
    if "%" in path.name and not _APART.match(path.name):
        return _PATTERNS
    return ""


def pattern(path: PurePosixPath) -> str:
    """Write a path so that Slurm, which replaces `%j` and the like, leaves it as it is."""
    return str(path).replace("%", "%%")
