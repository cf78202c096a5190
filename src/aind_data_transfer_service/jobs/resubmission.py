"""What an ended job asks of the cluster when it is submitted again. Pure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from aind_data_transfer_service.executors.slurm_properties import setting_errors, site_defaults
from aind_data_transfer_service.hpc.properties import read_properties
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.record import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.hpc import MEMORY, HpcSettings

_OUT_OF_MEMORY = "ran out of memory"
_GIVEN_MEMORY = re.compile(rf"{_OUT_OF_MEMORY} \((\d{{1,9}}) MB( per CPU)?\)")
"""How the reason of a job's end names the memory that Slurm had given it."""


def suggested_limits(job: Job, hpc: HpcSettings) -> dict[str, int | None]:
    """Suggest a time limit and memory for an ended job that is submitted again.

    The suggestion is what the job had, or twice as much of what it ran out of.

    Parameters
    ----------
    job : Job
        The job that ended.
    hpc : HpcSettings
        What is known of the cluster.

    Returns
    -------
    dict[str, int | None]
        Minutes as `time_limit`, and megabytes as one of the properties for memory, as far as users
        may set them. None stands for the default of the cluster, which is not known.
    """
    own, _ = read_properties(read_object(job.hpc_settings))
    asked = site_defaults(own, hpc) | own
    memory, megabytes = _memory(job, asked)
    limits = {"time_limit": _minutes(job, asked.get("time_limit")), memory: megabytes}
    return {
        name: value for name, value in limits.items() if not setting_errors({name: value or 1}, hpc)
    }


def changed_settings(hpc_settings: str, changes: Mapping[str, int | None]) -> str:
    """Change properties of a job; one that is None is left out, so that the default counts.

    Parameters
    ----------
    hpc_settings : str
        The job's properties, in JSON.
    changes : Mapping[str, int | None]
        What is different. A property for memory replaces the others.
    """
    if not changes:
        return hpc_settings
    settings: dict[str, Any] = read_object(hpc_settings)
    if any(changes.get(name) for name in MEMORY):
        settings = {name: value for name, value in settings.items() if name not in MEMORY}
    settings |= changes
    kept = {name: value for name, value in settings.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False)


def _minutes(job: Job, asked: int | None) -> int | None:
    """Return the time limit to suggest; if none was asked for, the job ran as long as it could."""
    if job.state is not JobState.TIMEOUT:
        return asked
    if not asked and job.started_at and job.ended_at:
        asked = math.ceil((job.ended_at - job.started_at).total_seconds() / 60)
    return 2 * asked if asked else None


def _memory(job: Job, asked: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the property for memory, and the megabytes to suggest."""
    given = _GIVEN_MEMORY.search(job.reason)
    usual = "memory_per_node" if given and not given[2] else "memory_per_cpu"
    name = next((one for one in sorted(MEMORY) if one in asked), usual)
    megabytes = asked.get(name) or (int(given[1]) if given and name == usual else None)
    if megabytes and _OUT_OF_MEMORY in job.reason:
        megabytes *= 2
    return name, megabytes
