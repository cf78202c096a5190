"""What slurmdbd tells of jobs that Slurm's controller has forgotten: paths, questions and answers.

slurmrestd serves it beside the live jobs, under `/slurmdb/v0.0.38/…`, where it was told to (`-s
openapi/dbv0.0.38`, from 24.05 on `-s openapi/slurmdbd`); it does not start so on a cluster without
slurmdbd. Seen on real ones: Slurm 22.05 (v0.0.36 to v0.0.38), 24.11 (v0.0.40 to v0.0.42) and 26.05
(v0.0.42 to v0.0.45).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aind_data_transfer_service.slurmrest.api_versions import FIRST_WITH_STRUCTS, NEWEST, OLDEST
from aind_data_transfer_service.slurmrest.models import SlurmJob
from aind_data_transfer_service.slurmrest.parsing import (
    read_exit,
    read_number,
    read_state,
    read_time,
)

NOTHING_FOUND = 9003
"""What Slurm up to 22.05 complains of where it knows none of the jobs; later ones list none."""
_PER_CPU = 2**63
"""Slurm's own mark on an amount of memory that is meant for each CPU."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that a filter takes as they are: at a comma, say, slurmrestd would split them."""
_PATH = re.compile(r"(?P<path>/slurmdb/v0\.0\.(?P<version>\d+)/jobs/?)")


@dataclass(frozen=True)
class PastDialect:
    """A version of the interface to slurmdbd, and where it lists jobs."""

    version: int
    path: str

    @classmethod
    def among(cls, paths: Iterable[str]) -> "PastDialect | None":
        """Choose the newest that is known from the paths that a server lists, if any.

        Of newer ones alone the oldest is chosen, as for live jobs.
        """
        found = (_PATH.fullmatch(path) for path in paths)
        offered = {int(one["version"]): one["path"] for one in found if one}
        version = max(
            (version for version in offered if OLDEST <= version <= NEWEST),
            default=min((version for version in offered if version > NEWEST), default=None),
        )
        return cls(version, offered[version]) if version else None

    def query(self, job_ids: Sequence[int]) -> list[tuple[str, str]]:
        """Ask for several jobs: in one list up to v0.0.38, which later ones do not take apart."""
        words = [str(job_id) for job_id in job_ids]
        if self.version < FIRST_WITH_STRUCTS:
            words = [",".join(words)]
        return [("skip_steps", "true"), *(("step", word) for word in words)]

    def query_since(self, since: datetime, name: str) -> list[tuple[str, str]]:
        """Ask for the jobs that existed at a time or later, of a name if it can be a filter.

        `uts` marks seconds since 1970: v0.0.41 and earlier do not read a bare number as a time.
        """
        query = [("skip_steps", "true"), ("start_time", f"uts{int(since.timestamp())}")]
        return [*query, ("job_name", name)] if _PLAIN_NAME.fullmatch(name) else query


def read_past_jobs(answer: Mapping[str, Any]) -> list[SlurmJob]:
    """Read a list of jobs."""
    listed = answer.get("jobs")
    records = listed if isinstance(listed, list) else []
    return [job for raw in records if isinstance(raw, Mapping) and (job := _read(raw))]


def _read(raw: Mapping[str, Any]) -> SlurmJob | None:
    """Read a job; None where there is not even an id."""
    job_id = read_number(raw.get("job_id"))
    if not job_id:
        return None
    stood, times, array = _part(raw, "state"), _part(raw, "time"), _part(raw, "array")
    state, flags = read_state(stood.get("current"))
    reason = _text(stood.get("reason") or stood.get("previous"))  # so called in v0.0.36
    code, ended_by = read_exit(raw.get("exit_code"))
    if state == "FAILED" and code == 0:
        code = None  # 22.05 says 0 of every code
    per_cpu, per_node = _memory(_part(raw, "required"))
    nodes = _text(raw.get("nodes"))
    return SlurmJob(
        job_id=job_id,
        state=state,
        flags=flags,
        name=_text(raw.get("name")),
        reason="" if reason == "None" else reason,
        user=_text(raw.get("user")),
        partition=_text(raw.get("partition")),
        nodes="" if nodes == "None assigned" else nodes,
        exit_code=code,
        signal=ended_by,
        submitted=read_time(times.get("submission")),
        eligible=read_time(times.get("eligible")),
        started=read_time(times.get("start")),
        ended=read_time(times.get("end")),
        comment=_text(_part(raw, "comment").get("job")),
        time_limit_minutes=read_number(times.get("limit")),
        restarts=read_number(raw.get("restart_cnt")) or 0,
        standard_output=_text(raw.get("stdout")),
        standard_error=_text(raw.get("stderr")),
        working_directory=_text(raw.get("working_directory")),
        account=_text(raw.get("account")),
        qos=_text(raw.get("qos")),
        cpus=read_number(_part(raw, "required").get("CPUs")),
        memory_per_cpu_mb=per_cpu,
        memory_per_node_mb=per_node,
        array_job_id=read_number(array.get("job_id")) or None,
        array_task_id=read_number(array.get("task_id")),
    )


def _memory(required: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Read how much memory was asked for, in MB: for each CPU, or for each node."""
    whole = read_number(required.get("memory")) or 0
    if whole >= _PER_CPU:
        return whole - _PER_CPU, None
    per_cpu = read_number(required.get("memory_per_cpu"))
    return per_cpu or None, whole or read_number(required.get("memory_per_node")) or None


def _part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
