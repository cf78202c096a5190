"""From what slurmrestd answers to the internal form, told apart by form and not by version.

Numbers come bare, as text, or as `{"set", "infinite", "number"}`; states as a word or as a list;
keys come and go from one release to the next. What is missing stays at its default.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.slurmrest.errors import SlurmComplaint
from aind_data_transfer_service.slurmrest.models import (
    BASE_STATES,
    JobList,
    JobStates,
    Pinged,
    SlurmJob,
    SlurmNode,
)

_UNSET = frozenset({2**32 - 2, 2**32 - 1, 2**64 - 2, 2**64 - 1})
"""What Slurm writes for "not set" and "infinite" where it has no struct for them."""
_STATE_OF_FLAG = {
    "REQUEUED": "PENDING",
    "REQUEUE_FED": "PENDING",
    "REQUEUE_HOLD": "PENDING",
    "RESV_DEL_HOLD": "PENDING",
    "SPECIAL_EXIT": "PENDING",
    "LAUNCH_FAILED": "FAILED",
    "RECONFIG_FAIL": "FAILED",
    "REVOKED": "CANCELLED",
    "CONFIGURING": "RUNNING",
    "COMPLETING": "RUNNING",
    "POWER_UP_NODE": "RUNNING",
    "RESIZING": "RUNNING",
    "SIGNALING": "RUNNING",
    "STAGE_OUT": "RUNNING",
    "STOPPED": "SUSPENDED",
}
"""Older dialects tell one word only: where it is a flag, this is the state that it hides."""
_NODE_STATES = frozenset(
    {"ALLOCATED", "DOWN", "ERROR", "FUTURE", "IDLE", "INVALID", "MIXED", "UNKNOWN"}
)


_JOB_FIELDS = """job_id job_state name state_reason state_description user_name user_id partition
nodes exit_code submit_time eligible_time start_time end_time comment time_limit restart_cnt
standard_output standard_out standard_error current_working_directory account qos cpus
memory_per_cpu memory_per_node array_job_id array_task_id array_task_string dependency""".split()
"""What is read of a job: a quarter of what is told of it."""
_Job: Any = msgspec.defstruct("_Job", [(name, Any, None) for name in _JOB_FIELDS], gc=False)


class _Listing(msgspec.Struct):
    jobs: list[_Job]
    errors: Any = None
    warnings: Any = None
    last_update: Any = None


_NO_CHANGES = "no job changes"
_JOB_NUMBER = re.compile("[0-9]{1,18}")
_LISTING = msgspec.json.Decoder(_Listing)


def read_listing(content: bytes) -> dict[str, Any] | None:
    """Read a list of jobs as JSON, of each job only what is of use here.

    A list of thousands of jobs is tens of megabytes long; this takes a fifth of the time that
    reading all of it does. None where it is anything else than expected.
    """
    try:
        listing = _LISTING.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    jobs = [msgspec.structs.asdict(job) for job in listing.jobs]
    told = {"errors": listing.errors, "warnings": listing.warnings}
    return {"jobs": jobs, "last_update": listing.last_update} | told


def read_number(value: Any) -> int | None:
    """Read a number in any of its forms; None where it is not set, or infinite."""
    if isinstance(value, Mapping):
        if value.get("infinite") or not value.get("set", True):
            return None
        value = value.get("number")
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            return None
    if isinstance(value, float):
        value = int(value) if abs(value) < 2**63 else None
    return value if isinstance(value, int) and value not in _UNSET else None


def read_time(value: Any) -> datetime | None:
    """Read seconds since 1970; None where nothing has happened yet."""
    seconds = read_number(value)
    if not seconds or seconds < 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def read_state(value: Any) -> tuple[str, frozenset[str]]:
    """Tell a job's base state from its flags."""
    words = [str(word).strip().upper() for word in _listed(value)]
    base = [word for word in words if word in BASE_STATES]
    flags = frozenset(word for word in words if word not in BASE_STATES and word)
    if base:
        return base[0], flags
    for flag, state in _STATE_OF_FLAG.items():
        if flag in flags:
            return state, flags
    return "UNKNOWN", flags


def read_exit(value: Any) -> tuple[int | None, int | None]:
    """Read how a job ended: its exit code, or the signal that ended it."""
    if isinstance(value, Mapping) and "return_code" in value:
        code, ended_by = read_number(value["return_code"]), value.get("signal")
        if isinstance(ended_by, Mapping):
            ended_by = ended_by.get("id", ended_by.get("signal_id"))
        signal = read_number(ended_by)
    else:
        status = read_number(value)
        if status is None:
            return None, None
        code, signal = (status >> 8) & 0xFF, status & 0x7F
    return (None, signal) if signal else (code, None)


def read_job(raw: Mapping[str, Any]) -> SlurmJob | None:
    """Read a job; None where there is not even an id."""
    get = raw.get
    job_id = read_number(get("job_id"))
    if not job_id:
        return None
    state, flags = read_state(get("job_state"))
    ended = read_time(get("end_time"))
    is_revoked_alone = get("job_state") in ("REVOKED", ["REVOKED"])
    if is_revoked_alone and ended is None and get("end_time") is not None:
        state = "PENDING"  # another cluster of the federation has the job, which has not ended
    reason = _text(get("state_reason"))
    job = SlurmJob(
        job_id=job_id,
        state=state,
        flags=flags,
        name=_text(get("name")),
        reason="" if reason == "None" else reason,
        description=_text(get("state_description")),
        user=_text(get("user_name")),
        user_id=read_number(get("user_id")),
        partition=_text(get("partition")),
        nodes=_joined(get("nodes")),
        submitted=read_time(get("submit_time")),
        eligible=read_time(get("eligible_time")),
        started=read_time(get("start_time")),
        ended=ended,
        comment=_text(get("comment")),
        time_limit_minutes=read_number(get("time_limit")),
        restarts=read_number(get("restart_cnt")) or 0,
        standard_output=_text(get("standard_output") or get("standard_out")),
        standard_error=_text(get("standard_error")),
        working_directory=_text(get("current_working_directory")),
        account=_text(get("account")),
        qos=_text(get("qos")),
        cpus=read_number(get("cpus")),
        memory_per_cpu_mb=read_number(get("memory_per_cpu")),
        memory_per_node_mb=read_number(get("memory_per_node")),
        array_job_id=read_number(get("array_job_id")) or None,
        array_task_id=read_number(get("array_task_id")),
        array_tasks_left=_text(get("array_task_string")),
        dependency=_text(get("dependency")),
        **_end(state, get("exit_code")),
    )
    return job


def read_jobs(answer: Mapping[str, Any]) -> list[SlurmJob]:
    """Read a list of jobs."""
    return [job for raw in _records(answer.get("jobs")) if (job := read_job(raw))]


def read_job_list(answer: Mapping[str, Any], username: str = "") -> JobList:
    """Read the list of all jobs, or that none of them has changed.

    Up to v0.0.38 the answer is empty then (status 304); later it holds no jobs and a warning.
    Where a user is named, jobs of other users without a comment are left out: reading thousands of
    them takes most of the time.
    """
    jobs = list(_records(answer.get("jobs")))
    kept = jobs
    if username:
        ours = (None, "", username)
        kept = [raw for raw in jobs if raw.get("comment") or raw.get("user_name") in ours]
    found = JobList(job for raw in kept if (job := read_job(raw)))
    found.total = len(jobs)
    warnings = " ".join(map(str, read_complaints(answer, "warnings")))
    found.is_unchanged = "jobs" not in answer or (not jobs and _NO_CHANGES in warnings.lower())
    found.as_of = read_time(answer.get("last_update"))
    return found


def read_job_states(answer: Mapping[str, Any]) -> JobStates:
    """Read the states of all jobs; `6001_4` is the fourth task of the array 6001."""
    states: dict[int, list[str]] = {}
    for raw in _records(answer.get("jobs")):
        name = str(raw.get("job_id"))
        if found := _JOB_NUMBER.match(name):
            words = " ".join(map(str, _listed(raw.get("state"))))
            states.setdefault(int(found[0]), []).append(f"{name} {words}")
    return {number: frozenset(found) for number, found in states.items()}


def read_nodes(answer: Mapping[str, Any]) -> list[SlurmNode]:
    """Read a list of nodes."""
    nodes = []
    for raw in _records(answer.get("nodes")):
        words = [str(word).upper() for word in _listed(raw.get("state"))]
        words += [str(word).upper() for word in _listed(raw.get("state_flags"))]
        base = next((word for word in words if word in _NODE_STATES), "UNKNOWN")
        nodes.append(
            SlurmNode(
                name=_text(raw.get("name")),
                state=base,
                flags=frozenset(words) - {base, ""},
                reason=_text(raw.get("reason")),
                cpus=read_number(raw.get("cpus")),
                memory_mb=read_number(raw.get("real_memory")),
                partitions=tuple(str(name) for name in _listed(raw.get("partitions"))),
                gres=_text(raw.get("gres")),
            )
        )
    return nodes


def read_pings(answer: Mapping[str, Any]) -> list[Pinged]:
    """Read how the controllers answered."""
    return [
        Pinged(
            host=_text(raw.get("hostname")),
            up=_text(raw.get("ping") or raw.get("pinged")).upper() == "UP"
            or raw.get("responding") is True,
            mode=_text(raw.get("mode")),
        )
        for raw in _records(answer.get("pings"))
    ]


def read_complaints(answer: Mapping[str, Any], key: str = "errors") -> tuple[SlurmComplaint, ...]:
    """Read Slurm's own list of errors, whose keys differ from one error to the next."""
    complaints = []
    for raw in _listed(answer.get(key)):
        if not isinstance(raw, Mapping):
            complaints.append(SlurmComplaint(None, str(raw)))
            continue
        numbers = (read_number(raw.get(key)) for key in ("error_number", "error_code", "errno"))
        number = next((number for number in numbers if number), None)
        short, long = _text(raw.get("error")), _text(raw.get("description"))
        if short in ("", "Unspecified error"):
            text = long or short
        else:
            text = f"{short}: {long}" if long and short not in long else long or short
        complaints.append(SlurmComplaint(number, _one_line(text) or "an error without words"))
    return tuple(complaints)


def read_statuses(answer: Mapping[str, Any]) -> tuple[SlurmComplaint, ...]:
    """Read what v0.0.42 and later say of the cancelling of each job, beside the list of errors."""
    told = (raw["error"] for raw in _records(answer.get("status")) if "error" in raw)
    errors = [error for error in _records(list(told)) if read_number(error.get("code"))]
    return tuple(
        SlurmComplaint(
            read_number(error.get("code")),
            _one_line(_text(error.get("message") or error.get("string"))) or "an error",
        )
        for error in errors
    )


def read_slurm_id(answer: Mapping[str, Any]) -> int | None:
    """Read the id that a submission was given; None where there is none."""
    result = answer.get("result")
    nested = result.get("job_id") if isinstance(result, Mapping) else None
    number = read_number(answer.get("job_id")) or read_number(nested)
    return number if number and number > 0 else None


def _end(state: str, value: Any) -> dict[str, int | None]:
    """Tell the exit code of a job that has ended; before that it means nothing."""
    if state in ("PENDING", "RUNNING", "SUSPENDED", "UNKNOWN"):
        return {}
    code, signal = read_exit(value)
    return {"exit_code": code, "signal": signal}


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _records(value: Any) -> Iterable[Mapping[str, Any]]:
    return (raw for raw in _listed(value) if isinstance(raw, Mapping))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else _text(value)


def _one_line(text: str) -> str:
    return on_a_line(text, 500)
