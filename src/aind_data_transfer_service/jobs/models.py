"""What is known of one job, and of what it did."""

import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from aind_data_transfer_service.executors.base import Others
from aind_data_transfer_service.jobs.secret_env import without_values
from aind_data_transfer_service.jobs.states import JobState, job_state

REQUEST_FIELDS = ("upload_job_settings", "hpc_settings", "script")
"""The long fields: a list of jobs comes without them, one job comes with them."""
INTERNAL_FIELDS = ("has_bucket_word",)
"""Fields of the request that the API does not show."""


def utc_now() -> datetime:
    """Tell the time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is recorded. A change makes a new one."""

    id: str
    """Short, and sorts by the time of submission."""
    name: str
    """The asset's name; for a bare script, the name that its settings give."""
    state: JobState = JobState.SUBMITTED
    reason: str = ""
    """One line on why the job is in this state, where there is something to say."""
    submitter: str = ""
    project_name: str = ""
    platform: str = ""
    subject_id: str = ""
    modalities: str = ""
    """Abbreviations, separated by commas."""
    acq_datetime: str = ""
    """ISO 8601, on the lab's wall clock."""
    location: str = ""
    """Where the asset goes; empty for a bare script."""
    upload_job_settings: str = ""
    """JSON text of the upload settings; empty in lists, and for a bare script."""
    hpc_settings: str = ""
    """JSON text of the settings for the cluster; empty in lists."""
    script: str = ""
    """The user's own script, where there is one; empty in lists."""
    has_bucket_word: bool = False
    """Whether its request, of an earlier release, names a bucket by a word such as `private`. False
    in lists."""
    warnings: tuple[str, ...] = ()
    """What the checks at submission could not vouch for."""
    executor: str = ""
    """Which executor has the job."""
    executor_ref: str = ""
    """The executor's own name for the job; empty until it was handed over."""
    node: str = ""
    """Where it runs or last ran, as the cluster writes it: `node[1-3]`."""
    submitted_at: datetime = field(default_factory=utc_now)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime = field(default_factory=utc_now)
    exit_code: int | None = None
    step: str = ""
    """The step that the data transfer job is in, by its own word."""
    files_done: int | None = None
    files_total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    events_offset: int = 0
    """How much of the job's file of events has been read, in bytes."""
    resubmit_of: str = ""
    """The job that this one repeats."""
    batch_id: str = ""
    """The same for all jobs of one request; empty if it had one job alone."""
    cancel_requested: bool = False
    analysis: str = ""
    """How it stands with the asset in Code Ocean (`AnalysisState`); empty where nothing does."""
    analysis_reason: str = ""
    data_asset_id: str = ""
    data_asset_link: str = ""
    computation_id: str = ""
    computation_link: str = ""
    registration: str = ""
    """How it stands with the hook for registration (`RegistrationState`)."""
    registration_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that a job did, as it told."""

    time: datetime
    step: str
    kind: str
    """`start`, `progress`, `warning`, `end` or `fail`."""
    message: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def job_to_json(job: Job, *, full: bool = False) -> dict[str, Any]:
    """Write a job as the API shows it; with `full`, the long fields too."""
    document: dict[str, Any] = {}
    for entry in fields(Job):
        if entry.name in INTERNAL_FIELDS or (entry.name in REQUEST_FIELDS and not full):
            continue
        value = getattr(job, entry.name)
        if entry.name == "hpc_settings":
            value = without_values(value)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, JobState):
            value = value.value
        elif isinstance(value, tuple):
            value = list(value)
        document[entry.name] = value
    document["slurm_job_id"] = slurm_number(job.executor, job.executor_ref)
    return document


def slurm_number(executor: str, ref: str) -> int | None:
    """Read Slurm's number of a job from its reference; None where Slurm does not have it.

    Examples
    --------
    >>> slurm_number("slurm", "1234:2n11ca3ggp3n"), slurm_number("local", "2n11ca3ggp3n")
    (1234, None)
    """
    number = ref.partition(":")[0]
    return int(number) if executor == "slurm" and number.isdecimal() else None


def others_to_json(others: Others) -> dict[str, Any]:
    """Write the jobs that others started as the API shows them."""
    jobs = []
    for job in others.jobs:
        document = asdict(job) | {"state": job_state(job.state).value}
        for name in ("submitted_at", "started_at", "ended_at"):
            document[name] = document[name] and document[name].isoformat()
        jobs.append(document)
    return {"jobs": jobs, "total": others.total}


def event_to_json(event: JobEvent) -> dict[str, Any]:
    """Write an event as the API shows it."""
    return {
        "time": event.time.isoformat(),
        "step": event.step,
        "kind": event.kind,
        "message": event.message,
        "figures": dict(event.figures),
    }


def figures_to_text(figures: Mapping[str, Any]) -> str:
    """Write an event's figures as they are stored."""
    return json.dumps(dict(figures), separators=(",", ":"), default=str)


def storable(text: str) -> str:
    """Make any text fit for a database: no NUL, no half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: ids are read aloud
_RANDOM_BITS = 20
ID_LENGTH = 12
_EPOCH_MS = 1_704_067_200_000  # 2024 began; forty bits of milliseconds last until 2058
_last_number = 0
_number_lock = threading.Lock()


def new_job_id() -> str:
    """Make an id of twelve letters and digits that sorts after all that this process made before.

    Forty bits tell the time in milliseconds, twenty are drawn by lot; ids made within the same
    millisecond count on from one another.
    """
    global _last_number
    elapsed = time.time_ns() // 1_000_000 - _EPOCH_MS
    drawn = (elapsed << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    drawn &= (1 << (5 * ID_LENGTH)) - 1
    with _number_lock:
        number = _last_number = max(drawn, _last_number + 1)
    shifts = range(5 * (ID_LENGTH - 1), -1, -5)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in shifts)
