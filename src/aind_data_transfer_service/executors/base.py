"""What a job is to an executor, and what an executor can do.

An executor knows how to start, list, cancel and describe. It knows nothing of spreadsheets, assets
or stores of data. Whoever uses one cannot tell which is beneath: this machine or a cluster.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

Guard = Callable[[], None]
"""Raises `LeaseLostError` if this process may not start or cancel jobs now."""


def unguarded() -> None:
    """Allow everything: there is no other process."""


CANCELLED_BEFORE = "cancelled before it was sent"
JobFile = Literal["stdout", "stderr", "events"]
"""The files that every job leaves: what it said, what it complained of, what it did."""


class RunState(StrEnum):
    """The state of a job in the eyes of whoever runs it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    """The executor has no record of the job."""


class EndRecord(StrEnum):
    """What a scheduler's job itself left to confirm the scheduler's account of its end."""

    FOUND = "found"
    """The job recorded that it ended well."""
    BEGUN = "begun"
    """The job began, but there is no record of its end."""
    MISSING = "missing"
    """The files of jobs can be read, but there is no record of this one."""
    UNREADABLE = "unreadable"
    """The files of jobs cannot be read, so nothing is known."""
    UNAVAILABLE = "unavailable"
    """The files could not be read this time, as when a drive does not answer; they may be later."""


def _always() -> bool:
    return True


async def _never() -> bool:
    return False


async def _no_references() -> Collection[str]:
    return ()


@dataclass(frozen=True)
class JobSpec:
    """What an executor needs in order to run a job.

    Exactly one of `request` and `script` is what runs: where `script` is empty, the data transfer
    job is run with `request`; where it is not, the script itself is.
    """

    job_id: str
    """Our own id: the same id is never started twice."""
    name: str
    request: str = ""
    """JSON text of the upload settings, handed to the data transfer job as data."""
    script: str = ""
    """A script of the user's own, with its `#!` line."""
    bucket: str = ""
    """The bucket that it writes to, which decides on its keys; empty where it names none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The user's settings for the cluster (`hpc_settings`)."""
    recorded_at: datetime | None = None
    """When the job was recorded, which is before it was sent for the first time."""
    is_wanted: Callable[[], bool] = field(default=_always, compare=False, repr=False)
    """Asked right before the job is sent, by any thread. False means that it was cancelled and must
    not be sent; once it has returned True, the job counts as sent."""
    has_reported: Callable[[], Awaitable[bool]] = field(default=_never, compare=False, repr=False)
    """Asked before a job is sent again that whatever runs the jobs has lost. True means that the
    service has received events or a log of it, so that it began."""
    references: Callable[[], Awaitable[Collection[str]]] = field(
        default=_no_references, compare=False, repr=False
    )
    """Asked if it is not known whether the job was sent: the references of the other jobs that are
    recorded, the newest of them, so that none of these is taken for this job."""


@dataclass(frozen=True)
class Started:
    """What became of one job that was handed over: a reference, or the reason why there is none."""

    job_id: str
    ref: str | None = None
    """The executor's own name for the job (a Slurm job id, say)."""
    error: str | None = None
    again: bool = False
    """Whether nothing is decided yet, so that the job is to be handed over again; `error` says why.

    It was not taken, or nobody knows whether it was; in neither case is it going to run twice.
    """
    in_doubt: bool = False
    """Whether the executor may have the job although `ref` is None."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the scheduler itself answered, kept as it was."""


@dataclass(frozen=True)
class RunStatus:
    """How a job stands."""

    ref: str
    """The executor's name for the job now: another one than before where it was handed on anew."""
    state: RunState
    reason: str = ""
    """One line, in words, for the status page."""
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    node: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """How far it is, where the executor knows and the job's own events do not tell."""
    decisive: bool = False
    """Whether the reason is the cause, of which what the job says of its end is the effect."""
    record: EndRecord | None = None
    """What confirms the end; None if the executor saw the end itself, or the job has not ended."""
    doubt: str = ""
    """Why the job may not have ended as `state` says, as the reason of its failure."""


@dataclass(frozen=True)
class FileChunk:
    """A piece of one of a job's files."""

    data: bytes
    offset: int
    """Where in the file the piece begins, in bytes."""
    size: int
    """How long the file is now, in bytes."""
    problem: str = ""
    """Why this file, or another one of the job's, cannot be read; empty if nothing is wrong."""


@dataclass(frozen=True)
class OtherJob:
    """A job that somebody else started where ours run."""

    number: int
    """The scheduler's own number of it."""
    name: str
    state: RunState
    reason: str = ""
    user: str = ""
    """Empty where the scheduler does not tell."""
    node: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Others:
    """The jobs that somebody else started."""

    jobs: tuple[OtherJob, ...] = ()
    """The first of them."""
    total: int = 0


@runtime_checkable
class SeesOthers(Protocol):
    """An executor that sees jobs besides those that it was given."""

    async def others(self, ask: bool) -> Others:
        """List them: as the last answer about our own told, or with `ask` as they stand now."""
        ...


@runtime_checkable
class AsksInTurn(Protocol):
    """An executor that cannot ask for all jobs at each look."""

    def put_first(self, job_ids: Collection[str]) -> None:
        """Ask for these jobs, by our own ids, before others until it is called again."""
        ...


@dataclass(frozen=True)
class Unfit:
    """What is wrong with jobs that are not started yet, by their ids."""

    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """One sentence each, which begins with what it is about: `hpc_settings.argv: …`."""
    warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What could not be checked now."""


@dataclass(frozen=True)
class CappedLimits:
    """A time limit and memory, lowered to what is allowed where the job is to run."""

    limits: Mapping[str, int | None]
    """The limits by their names, such as `time_limit` in minutes; None is the default."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What is allowed, one sentence for each limit that was higher, by the names of the limits."""


@runtime_checkable
class CutsJobs(Protocol):
    """An executor that cuts jobs into shards, each of which leaves files of its own."""

    async def shards(self, ref: str) -> int | None:
        """Return into how many shards a job is cut; 0 if it is not cut, None if that is unknown."""
        ...

    async def read_shard(
        self, ref: str, shard: int, file: JobFile, offset: int, limit: int
    ) -> FileChunk:
        """Read from a file of one of a job's shards, which are counted from 1."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """An executor whose jobs run elsewhere, so that their files may be unreadable here."""

    async def file_problems(self) -> list[str]:
        """Return which files cannot be read now, and what to do; empty if all can."""
        ...


@runtime_checkable
class LeavesOutDefaults(Protocol):
    """An executor that sends a job without a default which the place where it runs may refuse."""

    def left_out(self, job_id: str, settings: Mapping[str, Any]) -> Collection[str]:
        """Return which limits of the site a job was sent without; never waits.

        Parameters
        ----------
        job_id : str
            The job. If it is not known how it was sent, what is known of the place now counts.
        settings : Mapping
            The settings that the job states.
        """
        ...


@runtime_checkable
class ChecksJobs(Protocol):
    """An executor that can tell in advance which jobs it cannot run."""

    async def check(self, specs: Sequence[JobSpec], seconds: float) -> Unfit:
        """Check jobs, all at once, and wait for answers no longer than some seconds."""
        ...

    async def cap(
        self,
        limits: Mapping[str, int | None],
        settings: Mapping[str, Any],
        had: Mapping[str, int],
        seconds: float,
    ) -> CappedLimits:
        """Lower limits for a job with some settings to what is allowed, as far as is known in time.

        Parameters
        ----------
        limits : Mapping
            The limits by their names, such as `time_limit` in minutes; None is the default.
        settings : Mapping
            The user's settings for the cluster.
        had : Mapping
            What an earlier attempt asked for or was given. A limit that is lower does not count.
        seconds : float
            How long to wait for answers.
        """
        ...

    def default_problems(self) -> Sequence[str]:
        """Return what is wrong with the settings that every job gets, as far as is known now."""
        ...


class Executor(Protocol):
    """Where jobs run."""

    name: str
    patience: float
    """Seconds that one question to whatever runs the jobs may take."""

    @property
    def token_ends(self) -> datetime | None:
        """When the token ends by which the executor is let in; None where there is none."""
        ...

    async def open(self, in_doubt: Collection[str] = ()) -> None:
        """Take up work where a former process left off, before jobs are started.

        Called again after `suspend`. Jobs can be looked at without it.

        Parameters
        ----------
        in_doubt : collection of str
            Jobs that another process, or this one before `suspend`, may have sent without learning
            what became of them.
        """
        ...

    async def suspend(self) -> None:
        """Start and cancel no more jobs until `open`: another process runs them. They go on."""
        ...

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Take jobs over, each at most once, however often this is called with the same id."""
        ...

    async def find(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Look for jobs, without starting them.

        One that the executor has comes with its `ref`, one of which that is not known yet is
        `in_doubt`. Of any other the executor makes sure that it does not run.
        """
        ...

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Return how the named jobs are; one that does not exist is `LOST`.

        Jobs of which the executor does not know it yet, as after a start, are left out.
        """
        ...

    async def cancel(self, ref: str) -> None:
        """Stop a job, or take it out of the queue. Nothing happens where it has ended already."""
        ...

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of a job's files; a negative offset counts from the end."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Running jobs go on."""
        ...
