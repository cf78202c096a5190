"""What an ended job asks of the cluster when it is submitted again. Pure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from aind_data_transfer_service.executors.slurm.job_properties import setting_errors, site_defaults
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.slurm import MEMORY, HpcSettings
from aind_data_transfer_service.slurmrest.job_properties import read_properties

_OUT_OF_MEMORY = "ran out of memory"
_GIVEN_MEMORY = re.compile(rf"{_OUT_OF_MEMORY} \((\d{{1,9}}) MB( per CPU)?\)")
"""How the reason of a job's end names the memory that Slurm had given it."""
_GIVEN_MINUTES = re.compile(r"stopped at its time limit of (\d{1,9}) minutes")
"""How it names the time limit that Slurm had given it."""


def asked_limits(job: Job, hpc: HpcSettings) -> dict[str, int] | None:
    """Return the time limit and the memory that a job asked for, or that the site asked for it.

    Parameters
    ----------
    job : Job
        The job that ended.
    hpc : HpcSettings
        The settings of the cluster.

    Returns
    -------
    dict[str, int] | None
        Minutes as `time_limit`, and megabytes as one of the properties for memory, as far as they
        are known. None if the settings of the job cannot be read.
    """
    try:
        stated = stated_settings(job)
    except ValueError:
        return None
    own, _ = read_properties(stated)
    asked = site_defaults(stated, hpc, is_script=bool(job.script)) | own
    memory = next((name for name in sorted(MEMORY) if name in asked), "")
    return {name: asked[name] for name in ("time_limit", memory) if name in asked}


def stated_settings(job: Job) -> dict[str, Any]:
    """Return what a job states for the cluster; raise a `ValueError` if that cannot be read."""
    given = read_object(job.hpc_settings)
    return {name: value for name, value in given.items() if value not in (None, "")}


def suggested_limits(job: Job, asked: Mapping[str, int], hpc: HpcSettings) -> dict[str, int | None]:
    """Suggest a time limit and memory for an ended job that is submitted again.

    The suggestion is what the job had, or, for what it ran out of, twice the larger of what it had
    asked for and what it got.

    Parameters
    ----------
    job : Job
        The job that ended.
    asked : Mapping[str, int]
        What it asked for (`asked_limits`).
    hpc : HpcSettings
        What is known of the cluster.

    Returns
    -------
    dict[str, int | None]
        Minutes as `time_limit`, and megabytes as one of the properties for memory, as far as users
        may set them. None stands for the default of the cluster, which is not known.
    """
    memory, megabytes = _memory(job, asked, hpc)
    limits = {"time_limit": _minutes(job, asked.get("time_limit"), hpc), memory: megabytes}
    return {name: value for name, value in limits.items() if _may_set(name, hpc)}


def former_limits(suggested: Mapping[str, int | None], asked: Mapping[str, int]) -> dict[str, int]:
    """Return what a job asked for or was given, by what is suggested for a new attempt.

    Parameters
    ----------
    suggested : Mapping[str, int | None]
        As `suggested_limits` returns it: what the job asked for, or twice what it had.
    asked : Mapping[str, int]
        What the job asked for (`asked_limits`).
    """
    return {
        name: value if value == asked.get(name) else value // 2
        for name, value in suggested.items()
        if value is not None
    }


def changed_settings(hpc_settings: str, changes: Mapping[str, int | str | None]) -> str:
    """Change properties of a job; one that is None is left out, so that the default counts.

    Parameters
    ----------
    hpc_settings : str
        The job's properties, in JSON.
    changes : Mapping[str, int | str | None]
        What is different, as `hpc_settings` have it. A property for memory replaces the others.

    Returns
    -------
    str
        The properties of the new job; as they were if they cannot be read, which its check reports.
    """
    if not changes:
        return hpc_settings
    try:
        settings: dict[str, Any] = read_object(hpc_settings)
    except ValueError:
        return hpc_settings
    if any(changes.get(name) not in (None, "") for name in MEMORY):
        settings = {name: value for name, value in settings.items() if name not in MEMORY}
    settings |= changes
    kept = {name: value for name, value in settings.items() if value not in (None, "")}
    return json.dumps(kept, ensure_ascii=False)


def _may_set(name: str, hpc: HpcSettings) -> bool:
    """Tell whether users may set a limit."""
    return not setting_errors({name: 1}, hpc)


def _minutes(job: Job, asked: int | None, hpc: HpcSettings) -> int | None:
    """Return the time limit to suggest."""
    if job.state is not JobState.TIMEOUT:
        return asked
    most = max(asked or 0, _had_minutes(job, asked, hpc))
    return 2 * most or None


def _had_minutes(job: Job, asked: int | None, hpc: HpcSettings) -> int:
    """Return the time limit that was in force: Slurm's own word, or for how long the job ran.

    A job that is cut into shards began with the first of them, and each has the whole limit.
    """
    if given := _GIVEN_MINUTES.search(job.reason):
        return int(given[1])
    if (asked and hpc.shards > 1) or not (job.started_at and job.ended_at):
        return 0
    return max(0, math.ceil((job.ended_at - job.started_at).total_seconds() / 60))


def _memory(job: Job, asked: Mapping[str, int], hpc: HpcSettings) -> tuple[str, int | None]:
    """Return the property for memory, and the megabytes to suggest."""
    name = next((one for one in asked if one in MEMORY), "memory_per_cpu")
    megabytes = asked.get(name)
    if _OUT_OF_MEMORY not in job.reason or megabytes == 0:  # the whole node has no more
        return name, megabytes
    if given := _GIVEN_MEMORY.search(job.reason):
        kind = "memory_per_cpu" if given[2] else "memory_per_node"
        if _may_set(kind, hpc):
            same = megabytes if name == kind and megabytes else 0
            return kind, 2 * max(same, int(given[1]))
    return name, 2 * megabytes if megabytes else None
