"""How our jobs stand, by all that is known of them: Slurm's list, slurmdbd, what they left behind.

A reference is Slurm's number and our own id, `1234:01jx…`. Slurm counts from one again after it was
reinstalled, so the time of submission on Slurm's clock may follow: `1234:01jx…@1764517442`. It is
added once the job has begun, or if the paths of its output files do not name it. v0.0.36 does not
name the user of a job; there the number of the user follows, `1234:01jx…@1764517442~1000`.
"""

import logging
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import EndRecord, RunState, RunStatus
from aind_data_transfer_service.executors.job_files import FileReads
from aind_data_transfer_service.executors.slurm.accounting import UNTOLD, PastJobs
from aind_data_transfer_service.executors.slurm.array_status import whole_status
from aind_data_transfer_service.executors.slurm.job_array import choose_duplicate, shards_id
from aind_data_transfer_service.executors.slurm.job_matching import Identity
from aind_data_transfer_service.executors.slurm.job_properties import marked_shards
from aind_data_transfer_service.executors.slurm.log_directory import (
    FORGOTTEN,
    NEVER_BEGAN,
    LogFolder,
)
from aind_data_transfer_service.executors.slurm.states import doubted, run_status
from aind_data_transfer_service.slurmrest.models import SlurmJob

logger = logging.getLogger(__name__)

Listed = Mapping[str, list[SlurmJob]]
"""Jobs as Slurm tells of them, by our own ids; several where one was sent twice, or is an array."""
_REF = re.compile(
    r"([0-9]{1,18})(?::([A-Za-z0-9][A-Za-z0-9_-]{0,63})(?:@([0-9]{1,11}))?(?:~([0-9]{1,10}))?)?"
)


class Standing:
    """Says how jobs stand.

    Parameters
    ----------
    folder : LogFolder
        What jobs left behind.
    files : FileReads
        By which it is read.
    past : PastJobs
        What is remembered of those that Slurm no longer lists.
    identity : Identity
        By which our jobs are recognised.
    numbers : mapping of str to int
        Slurm's numbers of jobs as they are known now, by our own ids.
    cancelled : container of str
        Our own ids of the jobs that were cancelled from here.
    may_have_begun : Callable
        Returns whether a job, by our own id, may have begun although it left no file.
    """

    def __init__(
        self,
        folder: LogFolder,
        files: FileReads,
        past: PastJobs,
        identity: Identity,
        numbers: Mapping[str, int],
        cancelled: Container[str],
        may_have_begun: Callable[[str], bool],
    ):
        self._folder = folder
        self._files = files
        self._past = past
        self._identity = identity
        self._numbers = numbers
        self._cancelled = cancelled
        self._may_have_begun = may_have_begun

    async def of(self, refs: Iterable[str], listed: Listed) -> dict[str, RunStatus]:
        """Say how the named jobs stand; slurmdbd is asked once for all that are not listed."""
        missing = {
            job_id: self._numbers.get(job_id, number)
            for number, job_id in map(parts, refs)
            if job_id and job_id not in listed
        }
        past = await self._past.find(missing)
        plain = [ref for ref in refs if self._is_plain(listed.get(parts(ref)[1], []))]
        told = {ref: self._judge(ref, listed, past) for ref in plain}
        others = [ref for ref in refs if ref not in told]
        if not others:
            return told
        try:
            return told | await self._files.read(
                lambda: {ref: self._judge(ref, listed, past) for ref in others}
            )
        except ExecutorError as error:  # what they left cannot be read now: they are asked again
            return told | {ref: self._unread(ref, listed, error) for ref in others}

    @staticmethod
    def _is_plain(jobs: Sequence[SlurmJob]) -> bool:
        """Return whether Slurm's list tells everything, and no file has to be read."""
        return _is_single(jobs) and not _is_completed(jobs[0])

    def _unread(self, ref: str, listed: Listed, error: ExecutorError) -> RunStatus:
        """Say how a job stands whose files cannot be read now."""
        jobs = listed.get(parts(ref)[1], [])
        if not (_is_single(jobs) and _is_completed(jobs[0])):
            return RunStatus(ref, RunState.RUNNING, str(error))
        return self._with_record(run_status(ref, jobs[0]), jobs[0], EndRecord.UNAVAILABLE)

    def _record(self, job_id: str, job: SlurmJob) -> EndRecord:
        """Find out what a job left that Slurm reports as successful."""
        record = self._folder.record(job_id, job.restarts, job.started)
        if record is EndRecord.MISSING and self._folder.is_elsewhere(job_id, job.standard_output):
            return EndRecord.UNREADABLE
        return record

    def _with_record(self, status: RunStatus, job: SlurmJob, record: EndRecord) -> RunStatus:
        """Add to a success that Slurm reports what confirms it."""
        return replace(status, record=record, doubt=doubted(record, job, self._folder.path))

    def _judge(self, ref: str, listed: Listed, past: Listed) -> RunStatus:
        """Say how one job stands; an error in that is this job's alone."""
        try:
            return self._status(ref, listed, past)
        except Exception as error:  # whatever it is, the other jobs are followed
            logger.error("slurm: %s cannot be judged: %s", ref, error, exc_info=error)
            reason = "what Slurm and the job tell of it cannot be understood; see the service's log"
            return RunStatus(ref, RunState.RUNNING, reason)

    def _status(self, ref: str, listed: Listed, past: Listed) -> RunStatus:
        """Say how one job stands."""
        number, job_id = parts(ref)
        if not job_id:
            return not_ours(ref)
        jobs = listed.get(job_id) or past.get(job_id)
        if not jobs:
            return self._told_end(ref, job_id)
        if len(jobs) > 1:  # only one of them does the work
            known = self._numbers.get(job_id, number)
            number, _ = choose_duplicate(jobs, self._folder.claim(job_id), known)
        job = next((job for job in jobs if job.job_id == number), jobs[0])
        if job.job_id:  # else it is on its way anew, and its number is not known yet
            ref = self._current_ref(ref, job_id, job)
        status = run_status(ref, job, cancelled=job_id in self._cancelled)
        if _is_completed(job):
            status = self._with_record(status, job, self._record(job_id, job))
        elif job_id not in listed and status.exit_code is None:  # 22.05 keeps no exit codes
            told = self._folder.end(ref, job_id)
            if told.state is status.state:
                status = replace(status, exit_code=told.exit_code)
        if shards := marked_shards(job.comment):
            tasks = listed.get(shards_id(job_id), [])
            cancelled = job_id in self._cancelled
            return whole_status(status, job_id, shards, tasks, self._folder, cancelled)
        return status

    def _current_ref(self, ref: str, job_id: str, job: SlurmJob) -> str:
        """Return the reference by which a job is to be recorded now."""
        user = "" if job.user or job.user_id is None else f"~{job.user_id}"
        is_named = job.state == "PENDING" and self._identity.is_named_in_paths(job_id, job)
        if job.submitted is None or is_named:
            if parts(ref)[0] != job.job_id:
                return f"{job.job_id}:{job_id}{user}"
            return ref if submitter(ref) is not None else f"{ref}{user}"
        return f"{job.job_id}:{job_id}@{job.submitted.timestamp():.0f}{user}"

    def _told_end(self, ref: str, job_id: str) -> RunStatus:
        """Say how a job ended of which Slurm knows nothing, by what it left in its folder."""
        status = self._folder.end(ref, job_id, cancelled=job_id in self._cancelled)
        if status.record is not EndRecord.FOUND and self._past.is_awaited(job_id):
            return RunStatus(ref, RunState.RUNNING, UNTOLD)
        if status.reason == NEVER_BEGAN and self._may_have_begun(job_id):
            return replace(status, reason=FORGOTTEN, record=EndRecord.UNREADABLE)
        return status


def _is_single(jobs: Sequence[SlurmJob]) -> bool:
    """Return whether a job was sent once, and is not cut into shards."""
    return len(jobs) == 1 and not marked_shards(jobs[0].comment)


def _is_completed(job: SlurmJob) -> bool:
    """Return whether Slurm reports success."""
    return job.state == "COMPLETED" and job.has_ended


def is_ours(ref: str) -> bool:
    """Return whether something is a reference at all."""
    return _REF.fullmatch(ref) is not None


def not_ours(ref: str) -> RunStatus:
    """Say that a reference leads to no job of this service."""
    return RunStatus(ref, RunState.LOST, f'"{ref}" is none of this service\'s jobs')


@lru_cache(maxsize=50_000)
def parts(ref: str) -> tuple[int, str]:
    """Take a reference apart: Slurm's number, and our own id, empty in a reference of another's."""
    found = _REF.fullmatch(ref)
    if not found:
        raise ExecutorError(f'"{ref}" is no reference to a job on the cluster')
    return int(found[1]), found[2] or ""


@lru_cache(maxsize=50_000)
def submitted_at(ref: str) -> datetime | None:
    """Return the time of submission that a reference names, if any."""
    found = _REF.fullmatch(ref)
    return datetime.fromtimestamp(int(found[3]), UTC) if found and found[3] else None


@lru_cache(maxsize=50_000)
def submitter(ref: str) -> int | None:
    """Return the number of the user that a reference names, if any."""
    found = _REF.fullmatch(ref)
    return int(found[4]) if found and found[4] else None
