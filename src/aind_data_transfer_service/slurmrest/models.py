"""One internal form for what Slurm is asked and what it answers, whatever dialect it speaks.

Times are aware and in UTC; a number that Slurm leaves unset or infinite is None; a state is one
word in upper case with its flags beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

WAITING_STATES = frozenset({"PENDING", "SUSPENDED"})
ENDED_STATES = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)
"""The base states that a job does not leave, but by being requeued."""
_UNFINISHED = ("COMPLETING", "REQUEUED", "REQUEUE", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""The flags of a job in such a state that has not ended, or is going to run again."""
BASE_STATES = WAITING_STATES | ENDED_STATES | {"RUNNING"}
"""Every base state; all other words that stand in a job's state are flags."""


@dataclass(frozen=True)
class Submission:
    """A job to be submitted."""

    script: str
    """The batch script, with its `#!` line."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Job properties by their v0.0.36 names; put into the server's own dialect when sent."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The job's environment; may hold secrets, and is shown nowhere."""


@dataclass(frozen=True)
class Submitted:
    """Slurm's answer to a submission that it accepted."""

    slurm_id: int
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The answer as it came."""
    complaints: tuple[str, ...] = ()
    """What Slurm said of the job that it accepted: that it is held, say."""


@dataclass(frozen=True)
class SlurmJob:
    """A job as Slurm lists it."""

    job_id: int
    state: str = "UNKNOWN"
    """The base state in upper case, such as PENDING, RUNNING or OUT_OF_MEMORY."""
    flags: frozenset[str] = frozenset()
    """What is said beside the state: COMPLETING, CONFIGURING, REQUEUED, STOPPED, …"""
    name: str = ""
    reason: str = ""
    """Slurm's own word for why the job waits or ended, such as Resources; empty for None."""
    description: str = ""
    """Slurm's details of the reason: `ReqNodeNotAvail, UnavailableNodes:node[1-3]`."""
    user: str = ""
    """Empty where the dialect does not tell (v0.0.36)."""
    user_id: int | None = None
    partition: str = ""
    nodes: str = ""
    """The nodes that were given to the job, as a list of Slurm's: `node[1-3]`."""
    exit_code: int | None = None
    """The script's exit code; None before the end, and where a signal ended it."""
    signal: int | None = None
    """The number of the signal that ended the job."""
    submitted: datetime | None = None
    eligible: datetime | None = None
    started: datetime | None = None
    """For a waiting job: when Slurm expects it to start, where it says so."""
    ended: datetime | None = None
    """For a running job: when its time limit is going to end it."""
    comment: str = ""
    time_limit_minutes: int | None = None
    """None where there is no limit, or the partition's."""
    restarts: int = 0
    """How often the job was requeued."""
    standard_output: str = ""
    standard_error: str = ""
    working_directory: str = ""
    account: str = ""
    qos: str = ""
    cpus: int | None = None
    memory_per_cpu_mb: int | None = None
    memory_per_node_mb: int | None = None
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_tasks_left: str = ""
    """Which tasks of an array are not on their way yet, as Slurm writes it: `1-3,7`."""
    dependency: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the job is over, its last steps included, and is not going to be run again."""
        return self.state in ENDED_STATES and self.flags.isdisjoint(_UNFINISHED)


class JobList(list[SlurmJob]):
    """Jobs as Slurm lists them, all of them or none.

    Attributes
    ----------
    as_of : datetime, optional
        When Slurm's controller wrote the list, by its own clock; None where it does not say.
    is_unchanged : bool
        Whether Slurm says that no job has changed since the time that was asked about. The list is
        empty then, and the earlier one still holds.
    total : int
        How many jobs Slurm listed, those included that were left out.
    """

    as_of: datetime | None = None
    is_unchanged: bool = False
    total: int = 0


JobStates = dict[int, frozenset[str]]
"""The states of all jobs by Slurm's numbers. Those of an array's tasks that have not begun are
under the number of the array. Two of them are only compared: they are not a job's base state."""


@dataclass(frozen=True)
class SlurmNode:
    """A node as Slurm lists it."""

    name: str
    state: str = "UNKNOWN"
    """The base state in upper case: IDLE, MIXED, ALLOCATED, DOWN, …"""
    flags: frozenset[str] = frozenset()
    """What is said beside the state: DRAIN, NOT_RESPONDING, …"""
    reason: str = ""
    cpus: int | None = None
    memory_mb: int | None = None
    partitions: tuple[str, ...] = ()
    gres: str = ""
    """Its generic resources, as Slurm writes them (https://slurm.schedmd.com/gres.html)."""


@dataclass(frozen=True)
class Pinged:
    """Whether the controllers are there."""

    host: str
    up: bool
    mode: str = ""
    """`primary` or `backup`, where it is told."""
