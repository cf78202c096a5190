"""Slurm's states and reasons in words. Pure."""

import signal

from aind_data_transfer_service.executors.base import EndRecord, RunState, RunStatus
from aind_data_transfer_service.executors.slurm.state_reasons import (
    LONGEST_TEXT,
    failure_reason,
    waiting_reason,
)
from aind_data_transfer_service.slurmrest.models import SlurmJob

_QUEUED_AGAIN = frozenset({"REQUEUED", "REQUEUE", "REQUEUE_FED"})
_HELD = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT"})
_HELD_AGAIN = "job requeued in held state"
"""How Slurm describes such a job, unless it says more."""
_DECISIVE = frozenset({"BOOT_FAIL", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"})
_NO_OUTPUT = 53
"""The signal that slurmd tells of where a job's output cannot be opened; seen of Slurm 22.05."""
_REVOKED = "REVOKED"
"""The flag of a job of a federation that another cluster has."""
_ON_ANOTHER_CLUSTER = (
    "is with another cluster of the federation, which runs it; its end is reported here"
)
_MAY_NOT_HAVE_BEGUN = frozenset(
    {"PENDING", "CANCELLED", "BOOT_FAIL", "DEADLINE", "NODE_FAIL", "UNKNOWN"}
)
"""The states of Slurm in which a job may not have begun."""
_PLAIN = frozenset({"", "None", "NonZeroExitCode", "JobLaunchFailure"})


def has_begun(job: SlurmJob) -> bool:
    """Return whether a job began, as far as Slurm's list tells."""
    return bool(job.restarts) or job.state not in _MAY_NOT_HAVE_BEGUN


def run_status(ref: str, job: SlurmJob, cancelled: bool = False) -> RunStatus:
    """Say how a job stands.

    Parameters
    ----------
    ref : str
        The executor's name of the job.
    job : SlurmJob
        As Slurm lists it.
    cancelled : bool
        Whether we asked for its end.
    """
    state, reason = _judge(job, cancelled)
    is_over = state not in (RunState.PENDING, RunState.RUNNING)
    return RunStatus(
        ref=ref,
        state=state,
        reason=reason[:LONGEST_TEXT],
        exit_code=_exit_code(job) if is_over else None,
        started_at=None if state is RunState.PENDING else job.started,
        ended_at=job.ended if is_over else None,
        node=job.nodes[:LONGEST_TEXT],
        decisive=job.state in _DECISIVE and is_over,
    )


def _judge(job: SlurmJob, cancelled: bool) -> tuple[RunState, str]:
    """Decide on the state, and say why."""
    if job.flags & _HELD:
        return RunState.PENDING, waiting_reason(job.reason, job.description or _HELD_AGAIN)
    if job.flags & _QUEUED_AGAIN and job.state != "RUNNING":
        return RunState.PENDING, _queued_again(job)
    if job.state == "PENDING" and _REVOKED in job.flags:
        return RunState.PENDING, _ON_ANOTHER_CLUSTER
    if job.state == "PENDING":
        if job.restarts:
            return RunState.PENDING, _queued_again(job)
        return RunState.PENDING, waiting_reason(job.reason, job.description)
    if job.state == "SUSPENDED" or job.flags & {"STOPPED", "SUSPENDED"}:
        return RunState.RUNNING, "is suspended by the cluster"
    if job.state == "RUNNING":
        if "CONFIGURING" in job.flags:
            return RunState.PENDING, "its node is being made ready"
        return RunState.RUNNING, ""
    if "COMPLETING" in job.flags:
        return RunState.RUNNING, "is ending"
    if job.state in _ENDS:
        run_state, words = _ENDS[job.state]
        return run_state, words(job, cancelled)
    return RunState.RUNNING, f"is {job.state}, in Slurm's word"


def _queued_again(job: SlurmJob) -> str:
    """Say that a job waits once more."""
    why = waiting_reason(job.reason, job.description)
    times = f" ({job.restarts} times so far)" if job.restarts > 1 else ""
    return f"was put back into the queue{times} and {why}"


def _completed(job: SlurmJob, cancelled: bool) -> str:
    return ""


def _cancelled(job: SlurmJob, cancelled: bool) -> str:
    """Say whether it was us."""
    if cancelled:
        return ""
    if _REVOKED in job.flags:
        return "revoked by Slurm, not from here: another cluster of the federation has the job"
    never = " before it began" if not job.nodes else ""
    return f"cancelled on the cluster{never}, not from here"


def _failed(job: SlurmJob, cancelled: bool) -> str:
    """Leave a plain exit code to the job's own words."""
    if job.signal == _NO_OUTPUT:
        return f"its output could not be written{_on(job)}: see that node's log"
    if job.signal:
        return _killed(job.signal)
    if job.exit_code is not None and 128 < job.exit_code <= 128 + signal.NSIG:
        return killed(job.exit_code)
    if job.reason == "JobLaunchFailure":
        return f"could not be started{_on(job)}: see that node's log"
    return "" if job.reason in _PLAIN else failure_reason(job.reason, job.description)


def _timeout(job: SlurmJob, cancelled: bool) -> str:
    """Name the limit."""
    limit = f" of {job.time_limit_minutes} minutes" if job.time_limit_minutes else ""
    return (
        f"stopped at its time limit{limit}; resubmit it to continue, with a larger "
        f"{_where('time_limit')}"
    )


def _out_of_memory(job: SlurmJob, cancelled: bool) -> str:
    """Name the memory."""
    given, name = "", "memory_per_cpu"
    if job.memory_per_cpu_mb:
        given = f" ({job.memory_per_cpu_mb} MB per CPU)"
    elif job.memory_per_node_mb:
        given, name = f" ({job.memory_per_node_mb} MB)", "memory_per_node"
    return f"ran out of memory{given}; resubmit it with a larger {_where(name)}"


def _where(name: str) -> str:
    """Name the settings that a property of a job comes from."""
    variable = "" if name == "memory_per_node" else f"HPC_{name.upper()} or "
    return f"hpc_settings.{name} (default: {variable}HPC_JOB_DEFAULTS.{name})"


def _node_fail(job: SlurmJob, cancelled: bool) -> str:
    return f"the node failed{_on(job)}; resubmit the job to go on"


def _boot_fail(job: SlurmJob, cancelled: bool) -> str:
    return f"the node could not be started{_on(job)}; resubmit the job"


def _preempted(job: SlurmJob, cancelled: bool) -> str:
    return "made way for a job of higher priority; resubmit it to go on"


def _deadline(job: SlurmJob, cancelled: bool) -> str:
    return "stopped at its deadline; resubmit it with a later one"


_ENDS = {
    "COMPLETED": (RunState.COMPLETED, _completed),
    "CANCELLED": (RunState.CANCELLED, _cancelled),
    "FAILED": (RunState.FAILED, _failed),
    "TIMEOUT": (RunState.TIMEOUT, _timeout),
    "DEADLINE": (RunState.TIMEOUT, _deadline),
    "OUT_OF_MEMORY": (RunState.FAILED, _out_of_memory),
    "NODE_FAIL": (RunState.FAILED, _node_fail),
    "BOOT_FAIL": (RunState.FAILED, _boot_fail),
    "PREEMPTED": (RunState.FAILED, _preempted),
}


def _on(job: SlurmJob) -> str:
    """Name the node."""
    return f" ({job.nodes})" if job.nodes else ""


def doubted(record: EndRecord, job: SlurmJob, folder: object) -> str:
    """Say why a job that Slurm reports as successful may not have run.

    Parameters
    ----------
    record : EndRecord
        What the job left.
    job : SlurmJob
        As Slurm lists it.
    folder : object
        The folder of logs, for people.
    """
    node = job.nodes[:LONGEST_TEXT] or "its node"
    if record is EndRecord.MISSING:
        return (
            f"Slurm reports success, but the job left no sign of having run on {node}: check "
            "slurmd there"
        )
    if record is EndRecord.BEGUN:
        return (
            f"Slurm reports success, but the job, which began on {node}, left no record of its "
            f"end in {folder}"
        )
    return (
        f"Slurm reports success, but the service cannot read the job's files in {folder}, so "
        f"that nothing shows that it ran on {node}"
    )


def _exit_code(job: SlurmJob) -> int | None:
    """Give the exit code; Slurm says 0 of what never ran."""
    return job.exit_code if job.state in ("COMPLETED", "FAILED") else None


def killed(exit_code: int) -> str:
    """Name the signal that killed the job's program, by the exit code that a shell gives; or ""."""
    number = exit_code - 128
    return _killed(number) if number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS) else ""


def _killed(number: int) -> str:
    """Name the signal."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = ", as when memory runs out" if number == signal.SIGKILL else ""
    return f"the job's process was killed by {name}{hint}"
