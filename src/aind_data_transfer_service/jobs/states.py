"""The states of a job, and which may follow which."""

from enum import StrEnum

from aind_data_transfer_service.errors import TransitionError
from aind_data_transfer_service.executors.base import RunState


class JobState(StrEnum):
    """Where a job stands, as the status page shows it."""

    SUBMITTED = "SUBMITTED"
    """Recorded here, not yet handed to an executor."""
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    """The asset has arrived and was verified."""
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"
    """The executor has forgotten the job, and it left no word of its end."""


ACTIVE = frozenset({JobState.SUBMITTED, JobState.PENDING, JobState.RUNNING})
ENDED = frozenset(JobState) - ACTIVE

_ENDINGS = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT, JobState.UNKNOWN})
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: _ENDINGS | {JobState.PENDING, JobState.RUNNING, JobState.COMPLETED},
    JobState.PENDING: _ENDINGS | {JobState.RUNNING, JobState.COMPLETED},
    JobState.RUNNING: _ENDINGS | {JobState.PENDING, JobState.COMPLETED},  # a requeue goes back
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.TIMEOUT: frozenset(),
    JobState.UNKNOWN: frozenset(ENDED - {JobState.UNKNOWN}),  # word may still come
}

_FROM_RUN_STATE = {
    **{RunState(state.value): state for state in JobState if state.value in RunState.__members__},
    RunState.LOST: JobState.UNKNOWN,
}


def job_state(run_state: RunState) -> JobState:
    """Translate an executor's word into ours."""
    return _FROM_RUN_STATE[run_state]


def check_transition(job_id: str, old: JobState, new: JobState) -> None:
    """Make sure that `new` may follow `old`.

    Raises
    ------
    TransitionError
        Where it may not.
    """
    if new != old and new not in TRANSITIONS[old]:
        raise TransitionError(f"job {job_id} is {old} and cannot become {new}")
