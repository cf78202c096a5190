"""What proves that a job did its work when a scheduler reports success.

A scheduler reports on the processes that it started, and can be wrong: Slurm reports success if a
node could not run a single line of the job. So the job itself has to confirm its success: by its
event `done`, by the record of its end, or by the manifest that it left beside the asset.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.errors import TransferServiceError, UnavailableError
from aind_data_transfer_service.executors.base import EndRecord, RunState, RunStatus
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.validation.checks import open_destination
from aind_data_transfer_service.jobs.validation.results import LATE, said
from aind_data_transfer_service.settings.service import ServiceSettings

logger = logging.getLogger(__name__)

_NEVER = float("inf")
_AT_ONCE = 4
"""Stores that are asked at the same time."""


@dataclass(frozen=True)
class Patience:
    """How long evidence is waited for, in seconds."""

    files: float = 70.0
    """For the job's files to appear, or to become readable again after a fault of the drive. NFS
    caches for up to 60 s that a file does not exist."""
    store: float = 600.0
    """For an answer of the store, in all."""
    again: float = 30.0
    """From a look at the store that failed to the next one."""


@dataclass
class _Case:
    """One job that is being judged."""

    since: float
    """When the job had ended and its last event had arrived."""
    unavailable_since: float = _NEVER
    """When the looks at the job's files began to fail."""
    look: asyncio.Task[bool] | None = None
    looked: float = 0.0
    """When the latest look at the store began; the first one in `first_look`."""
    first_look: float = _NEVER
    trouble: str = ""
    """Why the store could not be asked."""

    def files_since(self, now: float, is_available: bool) -> float:
        """Note whether the job's files could be read, and return since when they are awaited."""
        if is_available:
            self.unavailable_since = _NEVER
            return self.since
        self.unavailable_since = min(now, self.unavailable_since)
        return max(self.since, self.unavailable_since)


class Evidence:
    """Judges jobs whose end only a scheduler reports.

    Parameters
    ----------
    is_verified : Callable
        Looks whether a job has left the manifest of its verified asset; raises a
        `TransferServiceError` if that cannot be found out now.
    on_answer : Callable
        Called after each look, so that the job is judged soon.
    patience : Patience
        How long evidence is waited for.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(
        self,
        is_verified: Callable[[Job], Awaitable[bool]],
        on_answer: Callable[[], None] = lambda: None,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ):
        self._is_verified = is_verified
        self._on_answer = on_answer
        self._patience = patience
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._cases: dict[str, _Case] = {}

    def judge(self, job: Job, status: RunStatus, has_news: bool) -> RunStatus:
        """Decide how a job ended that has no event which proves its success.

        Parameters
        ----------
        job : Job
            The job, with its long fields.
        status : RunStatus
            The end that the executor reports, and what the job left.
        has_news : bool
            Whether events of the job arrived since the last look, so that more may follow.

        Returns
        -------
        RunStatus
            The end; as long as it is not known, a state that is none, with the reason.
        """
        is_recorded, is_upload = status.record is EndRecord.FOUND, _leaves_manifest(job)
        is_success = status.state is RunState.COMPLETED
        if status.state is RunState.CANCELLED or is_recorded and not (is_success and is_upload):
            return status
        now = self._clock()
        case = self._cases.setdefault(job.id, _Case(now))
        if has_news:
            case.since = now
        since = case.files_since(now, status.record is not EndRecord.UNAVAILABLE)
        if status.record is not EndRecord.UNREADABLE and now < since + self._patience.files:
            return _waiting(job, status, "the job's files")
        if is_recorded:
            return status
        if is_upload:
            return self._judge_upload(job, status, case, now)
        if is_success and status.record is EndRecord.MISSING:
            return _failed(status, status.doubt)
        return replace(status, reason=status.doubt) if is_success else status

    def forget(self, active: Collection[str]) -> None:
        """Forget all jobs but those with these ids."""
        for job_id in self._cases.keys() - set(active):
            case = self._cases.pop(job_id)
            if case.look is not None:
                case.look.cancel()

    def _judge_upload(self, job: Job, status: RunStatus, case: _Case, now: float) -> RunStatus:
        """Decide by the destination, of which the store is asked in the background."""
        is_success = status.state is RunState.COMPLETED
        is_verified = self._answer(job, case, now)
        if is_verified:
            return replace(status, state=RunState.COMPLETED, reason="")
        if is_verified is None:
            if now < case.first_look + self._patience.store:
                why = f"; it is asked again, because {case.trouble}" if case.trouble else ""
                return _waiting(job, status, f"the store's answer about {job.location}{why}")
            trouble = (
                f"whether {job.location} is complete cannot be checked: {case.trouble or LATE}"
            )
            if not is_success:
                return status
            reason = f"{status.doubt}; {trouble}"
            return replace(status, state=RunState.LOST, reason=reason, exit_code=None)
        if not is_success:
            return status
        if status.record is EndRecord.MISSING:
            return _failed(status, status.doubt)
        return _failed(status, f"{status.doubt}; {job.location} has no manifest of this job")

    def _answer(self, job: Job, case: _Case, now: float) -> bool | None:
        """Return whether the asset is verified; None as long as that is not known."""
        if case.look is not None and case.look.done():
            error = case.look.exception()
            if error is None:
                return case.look.result()
            if not isinstance(error, TransferServiceError):
                logger.error("evidence: %s", error, exc_info=error, extra={"job_id": job.id})
            case.trouble, case.look = said(error), None
        if case.first_look == _NEVER:
            case.first_look = now
        elif case.look is not None or now < case.looked + self._patience.again:
            return None
        case.looked = now
        case.look = asyncio.create_task(self._look(job))
        case.look.add_done_callback(lambda _: self._on_answer())
        return None

    async def _look(self, job: Job) -> bool:
        """Ask the store."""
        async with self._turns:
            return await self._is_verified(job)


class Destinations:
    """Looks at the destinations of jobs.

    Parameters
    ----------
    settings : ServiceSettings
        With which keys, and for how long one answer is waited for.
    """

    def __init__(self, settings: ServiceSettings):
        self._settings = settings
        self._pool = Pool(_AT_ONCE, "evidence", in_caller=False)

    async def is_verified(self, job: Job) -> bool:
        """Return whether the manifest at a job's destination is this job's, and is published.

        Raises
        ------
        TransferServiceError
            If the store gives no answer now.
        """
        answer = asyncio.wrap_future(self._pool.submit(self._look, job.location, job.id))
        try:
            await asyncio.wait([answer], timeout=self._settings.check_timeout)
            if answer.done() and not answer.cancelled():
                return answer.result()
        finally:
            answer.cancel()  # a look that has not begun is dropped
        raise UnavailableError(f"the store {LATE}")

    def close(self) -> None:
        """Let the threads end."""
        self._pool.close()

    def _look(self, location: str, job_id: str) -> bool:
        """Look at one destination."""
        bucket, prefix = location.rsplit("/", 2)[-2:]
        root = location[: -len(f"{bucket}/{prefix}")]
        if root != "s3://" and not (Path(root) / bucket).is_dir():
            raise UnavailableError(f"{root}{bucket} cannot be seen from the service")
        store = open_destination(self._settings, root, bucket)
        header = store.header(prefix) or {}
        return header.get("job_id") == job_id and store.is_published(prefix)


def _leaves_manifest(job: Job) -> bool:
    """Return whether a job writes a manifest: scripts and dry runs do not."""
    if job.script or not job.location:
        return False
    try:
        return read_object(job.upload_job_settings or "{}").get("dry_run") is not True
    except ValueError:
        return True


def _waiting(job: Job, status: RunStatus, what: str) -> RunStatus:
    """Say that evidence of an end is awaited."""
    state = RunState.RUNNING
    if status.state is RunState.COMPLETED:
        reason = f"the cluster reports success; waiting for {what}"
    else:
        reason = f"the cluster no longer lists the job; waiting for {what}"
        if job.state in (JobState.SUBMITTED, JobState.PENDING):  # it may never have begun
            state = RunState.PENDING
    return replace(status, state=state, reason=reason, exit_code=None, ended_at=None, record=None)


def _failed(status: RunStatus, reason: str) -> RunStatus:
    """Say that a job failed although the scheduler reports success: its exit code means nothing."""
    return replace(status, state=RunState.FAILED, reason=reason, exit_code=None, decisive=True)
