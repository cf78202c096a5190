"""Jobs that Slurm accepted a moment ago, and whether they can be submitted again if it loses them.

Slurm's controller can die before it has written a job down, and comes back without it. A job that
may have begun must not be submitted again, and each of these signs says so: Slurm listed it as
begun, it left a file, the service heard of it, slurmdbd knows it as begun. If one of them cannot be
asked for, the job is not submitted again either. A job whose answer was lost is judged by the same
signs. A folder of logs that cannot be read is not one without files, and a folder without a file of
any job may be a mount point whose drive is not mounted.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.job_files import FileReads
from aind_data_transfer_service.executors.slurm.accounting import PastJobs
from aind_data_transfer_service.executors.slurm.bounded_memory import drop_oldest
from aind_data_transfer_service.executors.slurm.job_array import array_number
from aind_data_transfer_service.executors.slurm.log_directory import LogFolder
from aind_data_transfer_service.executors.slurm.states import has_begun
from aind_data_transfer_service.executors.slurm.status import Listed

logger = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_SUBMISSIONS = 5
"""How often a lost job is submitted again if jobs that began left files in the log folder."""
_WITNESSES = 16
"""Of how many of the jobs that began last it is asked whether they left files."""
_READ_AT_ONCE = 100
"""For how many jobs the folder is asked in one read, which has a time limit."""
_READ_SECONDS = 2.0
_ASKED_AT_ONCE = 16
"""Of how many jobs the service's record is asked at a time."""
_UNCERTAIN = (
    "the cluster's answer was lost, and whether the job ran cannot be found out now, so it is not "
    "submitted again: {}"
)
_CANCEL = "; if the job surely never ran, cancel it and submit it again"
_EMPTY = (
    "{} has no file of any job, so its drive may not be mounted; mount it, or correct "
    "HPC_LOGGING_DIRECTORY"
)


class NoEvidenceError(ExecutorError):
    """Nothing that can be asked would know whether a job ran.

    Parameters
    ----------
    obstacle : str
        Why the folder of logs tells nothing.
    """

    def __init__(self, obstacle: str):
        super().__init__(_UNCERTAIN.format(obstacle) + _CANCEL)
        self.obstacle = obstacle


@dataclass(frozen=True)
class _Fresh:
    """A job that Slurm accepted a moment ago, or may have accepted."""

    since: float
    spec: JobSpec
    number: int = 0
    """Slurm's number of it; zero if it is not known."""


class FreshJobs:
    """Remembers new jobs until Slurm's controller has surely written them down, or they began.

    Parameters
    ----------
    folder : LogFolder
        Where jobs leave files.
    files : FileReads
        By which the folder is read.
    past : PastJobs
        What slurmdbd knows.
    keep : float
        Seconds after a submission in which the controller may have written nothing down yet.
    grace : float
        Seconds after its start in which the first files of a job may not be visible here yet.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(
        self,
        folder: LogFolder,
        files: FileReads,
        past: PastJobs,
        keep: float,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder, self._files, self._past = folder, files, past
        self._keep, self._grace, self._clock = keep, grace, clock
        self._jobs: dict[str, _Fresh] = {}
        self._begun: dict[str, float] = {}
        self._again: dict[str, int] = {}
        self._withheld: dict[str, None] = {}
        self._answered_at = float("-inf")

    def __contains__(self, job_id: object) -> bool:
        """Return whether a job is new, and Slurm did not list it as begun or ended."""
        return job_id in self._jobs

    def may_have_begun(self, job_id: str) -> bool:
        """Return whether a job, although the folder has no file of it, may have begun."""
        return job_id in self._begun or job_id in self._withheld

    def add(self, spec: JobSpec, number: int = 0) -> None:
        """Note that a job was submitted, or may have been, and its number in Slurm if known."""
        former = self._jobs.get(spec.job_id)
        known = number or (former.number if former else 0)
        self._jobs[spec.job_id] = _Fresh(self._clock(), spec, known)

    def add_unseen(self, spec: JobSpec, number: int) -> None:
        """Note a job that may have been submitted lately, unless more is known of it."""
        if spec.job_id not in self._jobs and spec.job_id not in self._begun:
            self.add(spec, number)

    def spec(self, job_id: str) -> JobSpec:
        """Return a new job as it was submitted."""
        return self._jobs[job_id].spec

    def renew(self, job_id: str) -> None:
        """Remember a job for longer that cannot be submitted again yet."""
        if job := self._jobs.get(job_id):
            self._jobs[job_id] = replace(job, since=self._clock())

    def note_again(self, job_id: str) -> None:
        """Note that a job was submitted again."""
        self._again[job_id] = self._again.pop(job_id, 0) + 1
        drop_oldest(self._again)

    def discard(self, *job_ids: str) -> None:
        """Forget jobs that are not to be submitted again."""
        for job_id in job_ids:
            self._jobs.pop(job_id, None)

    def clear(self) -> None:
        """Forget all jobs: another process submits them from now on."""
        self._jobs.clear()

    def expire(self, listed_at: float) -> None:
        """Forget jobs that were listed, last at a time, after they were surely written down."""
        old = listed_at - self._keep
        self._jobs = {one: job for one, job in self._jobs.items() if job.since >= old}

    def note_answer(self, asked_at: float) -> None:
        """Note that the cluster answered a look that began at a time, whatever it was asked."""
        self._answered_at = asked_at

    def see(self, listed: Listed) -> None:
        """Forget jobs that Slurm lists as begun, or as ended: it may purge those at any time."""
        now = self._clock()
        for job_id, jobs in listed.items():
            if job_id in self._begun:
                continue
            if any(map(has_begun, jobs)):
                self._begun[job_id] = now
                self.discard(job_id)
            elif job_id not in self._jobs:
                continue
            elif all(job.has_ended for job in jobs):
                self.discard(job_id)
            elif (number := array_number(jobs[0])) != self._jobs[job_id].number:
                self._jobs[job_id] = replace(self._jobs[job_id], number=number)
        drop_oldest(self._begun)

    async def unstarted(self, job_ids: Iterable[str]) -> set[str]:
        """Return which of some jobs that Slurm lost are new, and show no sign of having begun."""
        lost = {one: self._jobs[one] for one in job_ids if one in self._jobs}
        late = {one for one, job in lost.items() if job.since + self._keep < self._answered_at}
        self._withhold(late, "Slurm may have forgotten it after its end, which nobody saw")
        lost = {one: job for one, job in lost.items() if one not in late}
        if not lost:
            return set()
        try:
            most = await self._read(partial(self._most_submissions, list(self._begun)))
            with_files = await self._find_with_files(list(lost))
        except ExecutorError as error:
            logger.warning("slurm: %d lost jobs are not submitted again now: %s", len(lost), error)
            return set()
        self._withhold(with_files, f"it left files in {self._folder.path}")
        often = {one for one in lost if self._again.get(one, 0) >= most} - with_files
        why = f"it was lost {most + 1} times"
        if not most:
            why = f"it may have begun: jobs that began left no files in {self._folder.path}"
        self._withhold(often, why)
        left = {one: job for one, job in lost.items() if one not in with_files | often}
        heard = await self._heard_of(left)
        begun = await self._past.begun(
            {one: job.number for one, job in left.items() if one not in heard}
        )
        return (left.keys() - heard - begun) & self._jobs.keys()  # not if cancelled meanwhile

    async def number_if_begun(
        self,
        spec: JobSpec,
        reports: bool,
        has_listened: bool = False,
    ) -> int | None:
        """Return Slurm's number of a job whose answer was lost and which Slurm does not list.

        It is zero if the job began under a number that is not known, and None if no sign says that
        it began: it was never taken then, and can be sent again.

        Parameters
        ----------
        spec : JobSpec
            The job.
        reports : bool
            Whether the job brings its events to the service, so that the folder of logs may be one
            that the service never sees.
        has_listened : bool
            Whether this process has received events ever since it sent the job.

        Raises
        ------
        NoEvidenceError
            If nothing that can be asked would know of the job.
        ExecutorError
            If that cannot be found out now, because one of the signs cannot be asked for.
        """
        obstacle, is_empty = "", False
        try:
            if await self._find_with_files([spec.job_id]):
                return 0
            is_empty = await self._read(self._folder.is_empty)
        except ExecutorError as error:
            obstacle = str(error)
        if await self._has_reported(spec):
            return 0
        past = await self._past.find_sent(spec.job_id)
        if past:
            return array_number(past[0])
        if obstacle and not reports:
            raise ExecutorError(_UNCERTAIN.format(obstacle))
        is_told = past is not None or (reports and has_listened)
        is_sure = is_told or self._was_sent_lately(spec)
        if (obstacle or is_empty) and not is_sure:
            raise NoEvidenceError(obstacle or _EMPTY.format(self._folder.path))
        return None

    async def _has_reported(self, spec: JobSpec) -> bool:
        """Return whether the service has heard of a job; raise an error if that is not known."""
        try:
            return await spec.has_reported()
        except Exception as error:
            logger.warning("slurm: the record of job %s cannot be read: %s", spec.job_id, error)
            raise ExecutorError("the job's record cannot be read; see the service's log") from error

    def _was_sent_lately(self, spec: JobSpec) -> bool:
        """Return whether Slurm would still list a job, had it taken it, even if it has ended."""
        if job := self._jobs.get(spec.job_id):
            return self._clock() - job.since < self._keep
        if spec.recorded_at is None:
            return False
        return (datetime.now(UTC) - spec.recorded_at).total_seconds() < self._keep

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._files.read(work, seconds=_READ_SECONDS)

    async def _find_with_files(self, job_ids: Sequence[str]) -> set[str]:
        """Return which jobs left files; raise an `ExecutorError` if that cannot be found out."""
        found: set[str] = set()
        for start in range(0, len(job_ids), _READ_AT_ONCE):
            some = job_ids[start : start + _READ_AT_ONCE]
            found |= await self._read(lambda: set(filter(self._folder.has_begun, some)))
        return found

    def _most_submissions(self, begun: Sequence[str]) -> int:
        """Return how often a job may be submitted again, by what jobs that began left.

        If jobs that began left no files, this is not the folder that the nodes write to.

        Raises
        ------
        ExecutorError
            If that cannot be found out now.
        """
        if problem := self._folder.problem():
            raise ExecutorError(problem)
        if any(map(self._folder.has_begun, begun[-_WITNESSES:])):
            return _MOST_SUBMISSIONS
        first = next(iter(self._begun.values()), None)
        is_elsewhere = first is not None and self._clock() >= first + self._grace
        return 0 if is_elsewhere else 1

    async def _heard_of(self, jobs: Mapping[str, _Fresh]) -> set[str]:
        """Return which jobs the service has heard of since they were sent, or may have."""
        turns = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(spec: JobSpec) -> bool:
            async with turns:
                return await spec.has_reported()

        asked = (ask(job.spec) for job in jobs.values())
        found = await asyncio.gather(*asked, return_exceptions=True)
        heard = {one for one, answer in zip(jobs, found) if answer is True}
        self._withhold(heard, "it has reported events")
        for job_id, answer in zip(jobs, found):
            if isinstance(answer, BaseException):
                heard.add(job_id)
                text = "slurm: job %s is not submitted again now: its record cannot be read: %s"
                logger.warning(text, job_id, answer)
        return heard

    def _withhold(self, job_ids: Iterable[str], why: str) -> None:
        """Forget jobs that are not submitted again, and log why."""
        for job_id in job_ids:
            logger.warning("slurm: lost job %s is not submitted again: %s", job_id, why)
            self.discard(job_id)
            self._withheld[job_id] = None
        drop_oldest(self._withheld)
