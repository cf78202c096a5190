"""Handing recorded jobs over to the executor, each exactly once.

A job is recorded before this, and its reference after it. A service that is killed in between hands
the job over again when it is back; the executor knows it by its id and does not start it twice.

A job can be cancelled for good until it is sent. The database decides who is first: a job is
claimed there before it is sent (`jobs.store.dispatch_claims`), and a final cancellation is recorded
only if it is not. The process that claimed a job can still cancel it for good until right before
its request.
"""

import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from aind_data_transfer_service.configs.bucket_aliases import word_problem
from aind_data_transfer_service.errors import ExecutorError, LeaseLostError
from aind_data_transfer_service.executors.base import (
    CANCELLED_BEFORE,
    Executor,
    JobSpec,
    Started,
)
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import Applied, JobChange, JobStore, recorded
from aind_data_transfer_service.jobs.store.threads import LONG_WRITE_SECONDS

logger = logging.getLogger(__name__)

MAIL = frozenset({"mail_user", "mail_type"})
"""The settings that say who gets e-mails, and when."""
AT_ONCE = 100
"""Jobs that are sent before their references are recorded: about 2 s of work for a cluster."""


class Handover:
    """Hands jobs over and records what became of them.

    Parameters
    ----------
    store : JobStore
        Where the jobs are recorded.
    executor : Executor
        Who is to run them.
    feed : Feed
        Who is to hear of it.
    sends_mail : bool
        Whether this service sends the e-mails that jobs ask for, so that the executor need not.
    bucket_names : Mapping[str, str]
        The buckets behind words such as `private`.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        feed: Feed,
        sends_mail: bool = False,
        bucket_names: Mapping[str, str] = MappingProxyType({}),
    ):
        self._store = store
        self._bucket_names = bucket_names
        self._executor = executor
        self._feed = feed
        self._sends_mail = sends_mail
        self._under_way: set[str] = set()
        self._gate = threading.Lock()
        self._sendable: set[str] = set()
        self._sent: set[str] = set()
        self._withdrawn: set[str] = set()

    def is_under_way(self, job_id: str) -> bool:
        """Tell whether a job is being handed over at this moment."""
        return job_id in self._under_way

    def expect(self, job_ids: Collection[str]) -> None:
        """Reserve jobs that are about to be recorded, so that nobody else hands them over."""
        self._under_way |= set(job_ids)

    def forget(self, job_ids: Collection[str]) -> None:
        """Release jobs that were expected and are not handed over from here."""
        self._under_way -= set(job_ids)

    async def give(self, jobs: Sequence[Job]) -> list[Started]:
        """Hand jobs over; a job that the executor refuses has failed.

        A large request is sent in pieces, and what became of each piece is recorded at once. After
        a piece that could not be sent in full, the rest is not tried.

        One of which nothing is decided stays recorded as it is, and is handed over again later. One
        that was cancelled before it was sent is left out of the result.

        Raises
        ------
        ExecutorError
            Where it cannot be told which jobs of the first piece were taken. All stay recorded as
            they are, and are handed over again later.
        """
        ids = {job.id for job in jobs}
        self._under_way |= ids
        self._sent |= {job.id for job in jobs if job.executor}  # in an earlier round, perhaps
        started: list[Started] = []
        try:
            for start in range(0, len(jobs), AT_ONCE):
                try:
                    given = await self._give_piece(jobs[start : start + AT_ONCE])
                except LeaseLostError:
                    raise
                except ExecutorError as error:
                    later = await self._put_off(jobs[start:], str(error))
                    if not started:
                        raise
                    started += later
                    break
                started += given
                if reason := next((one.error for one in given if one.again), None):
                    started += await self._put_off(jobs[start + AT_ONCE :], reason)
                    break
            return [one for one in started if one.job_id not in self._withdrawn]
        finally:
            for kept in (self._under_way, self._sent, self._withdrawn):
                kept -= ids

    async def _give_piece(self, jobs: Sequence[Job]) -> list[Started]:
        """Hand over as many jobs as are sent before their references are recorded."""
        ids = {job.id for job in jobs}
        taken: set[str] = set()
        started: list[Started] = []
        try:
            taken = await self._store.in_thread(self._store.claims.take, ids, self._executor.name)
            self._sendable |= taken
            specs, started = self._specs([job for job in jobs if job.id in taken])
            if specs:
                started += await self._start(specs)
            changes = [self._change(one) for one in started if not one.again]
            changes += _waiting(jobs, started)
            applied = await self._record(changes)
            await self._end_refused(started, applied.refused)
            return started
        finally:
            with self._gate:
                self._sendable -= ids
                earlier = {job.id for job in jobs if job.executor}
                unsent = {one.job_id for one in started if one.again and not one.in_doubt}
                unsent |= taken - self._sent - {one.job_id for one in started}
                self._sent -= unsent - earlier
            await self._give_back(unsent - earlier - self._withdrawn)

    async def _put_off(self, jobs: Sequence[Job], reason: str) -> list[Started]:
        """Say and record that jobs are handed over later, because others could not be sent."""
        later = [Started(job.id, error=reason, again=True) for job in jobs]
        if changes := _waiting(jobs, later):
            await self._record(changes)
        return later

    async def _record(self, changes: Sequence[JobChange]) -> Applied:
        """Record changes, and publish what changed."""
        applied = await self._store.in_thread(
            self._store.apply, changes, seconds=LONG_WRITE_SECONDS
        )
        self._feed.publish(applied.jobs)
        return applied

    async def withdraw(self, job_id: str) -> bool:
        """Cancel a job that was not sent, for good; return whether that is so.

        False means that it was sent, or may have been: only the executor can tell.
        """
        only_if: dict[str, Any] = {"state": JobState.SUBMITTED, "executor_ref": ""}
        with self._gate:
            if job_id in self._sent:
                return False
            if job_id in self._under_way:  # claimed by this process, which does not send it now
                self._withdrawn.add(job_id)
            else:
                only_if["executor"] = ""
        is_final = await self._end_unsent(job_id, only_if)
        if not is_final:
            self._withdrawn.discard(job_id)
        return is_final

    async def recall(self, jobs: Sequence[Job]) -> bool:
        """Cancel jobs that have no reference: for good where they were not sent.

        Returns
        -------
        bool
            Whether some were sent, so that they have a reference now and can be cancelled by it.

        Raises
        ------
        ExecutorError
            Where it cannot be told now whether some of them were taken.
        """
        doubtful = {job.id: job for job in jobs if not await self.withdraw(job.id)}
        doubtful = {one: job for one, job in doubtful.items() if job.executor}
        is_any_sent = False
        if not doubtful:
            return is_any_sent
        for found in await self._executor.find([self._spec(job) for job in doubtful.values()]):
            if found.ref is not None:
                is_any_sent = True
                applied = await self._store.in_thread(self._store.apply, [self._change(found)])
                self._feed.publish(applied.jobs)
            elif not found.in_doubt:
                only_if = {"state": JobState.SUBMITTED, "executor_ref": ""}
                await self._end_unsent(found.job_id, only_if, found.error or CANCELLED_BEFORE)
        return is_any_sent

    async def _end_unsent(
        self, job_id: str, only_if: Mapping[str, Any], reason: str = CANCELLED_BEFORE
    ) -> bool:
        """Record that a job was cancelled and is not sent, unless it was handed over meanwhile."""
        values = {"cancel_requested": True, "executor": "", "reason": reason}
        change = JobChange(job_id, JobState.CANCELLED, values, only_if=only_if)
        applied = await self._store.in_thread(self._store.apply, [change])
        self._feed.publish(applied.jobs)
        return bool(applied.jobs)

    async def _give_back(self, job_ids: set[str]) -> None:
        """Record that jobs were not sent; those that users cancelled meanwhile end with that."""
        if not job_ids:
            return
        given = await self._store.in_thread(self._store.claims.give_back, job_ids)
        for job in await self._store.in_thread(self._store.get_many, sorted(given)):
            if job.cancel_requested:
                await self.withdraw(job.id)

    async def _end_refused(self, started: Sequence[Started], refused: Collection[str]) -> None:
        """Cancel what the executor had although the record says that it was never sent."""
        for one in started:
            if one.ref is not None and one.job_id in refused:
                try:
                    await self._executor.cancel(one.ref)
                except ExecutorError as error:  # the other jobs are none the worse for it
                    logger.error("handover: %s", error, extra={"job_id": one.job_id})

    def _may_send(self, job_id: str) -> bool:
        """Return whether a job is still to be sent; it counts as sent from then on."""
        with self._gate:
            if job_id in self._withdrawn or job_id not in self._sendable:
                return False
            self._sent.add(job_id)
            return True

    async def _has_reported(self, job_id: str) -> bool:
        """Return whether the record has events of a job, or a log that it or a shard brought."""
        job = await self._store.in_thread(self._store.get, job_id)
        if job.events_offset:
            return True
        return await self._store.in_thread(self._store.logs.has_any, job_id)

    async def _references(self) -> list[str]:
        """Return the executor's references of the newest jobs."""
        return await self._store.in_thread(self._store.claims.references)

    async def _start(self, specs: list[JobSpec]) -> list[Started]:
        """Have jobs started; one that the executor cannot deal with fails alone."""
        try:
            return await self._executor.start(specs)
        except ExecutorError:
            raise
        except Exception as error:
            if len(specs) > 1:  # those that were taken are not started twice
                return [one for spec in specs for one in await self._start([spec])]
            return [_failed(specs[0].job_id, error)]

    def _specs(self, jobs: Sequence[Job]) -> tuple[list[JobSpec], list[Started]]:
        """Compose what the executor needs; a job of which that cannot be done has failed."""
        specs, failed = [], []
        for job in jobs:
            if problem := self._word_problem(job):
                failed.append(Started(job.id, error=problem))
                continue
            try:
                specs.append(self._spec(job))
            except ValueError as error:
                failed.append(Started(job.id, error=f"its settings cannot be read: {error}"))
            except Exception as error:  # an old record, or one that somebody edited
                failed.append(_failed(job.id, error))
        return specs, failed

    def _word_problem(self, job: Job) -> str:
        """Return why a job must not be sent to the bucket that its request names; else empty.

        A job that may have been sent already is sent as it was, and so is one with a script of its
        own: the script decides where it uploads to.
        """
        if not job.has_bucket_word or job.executor or job.script:
            return ""
        return word_problem(_bucket_of(job), self._bucket_names)

    def _change(self, started: Started) -> JobChange:
        """Decide what to record of one job."""
        if started.ref is None:
            return JobChange(started.job_id, JobState.FAILED, {"reason": started.error or ""})
        values = {"executor": self._executor.name, "executor_ref": started.ref, "reason": ""}
        return JobChange(started.job_id, JobState.PENDING, values)

    def _spec(self, job: Job) -> JobSpec:
        """Compose what an executor needs."""
        settings = read_object(job.hpc_settings)
        if self._sends_mail:
            settings = {name: value for name, value in settings.items() if name not in MAIL}
        return JobSpec(
            job_id=job.id,
            name=job.name,
            request="" if job.script else job.upload_job_settings,
            script=job.script,
            settings=settings,
            bucket=_bucket_of(job),
            recorded_at=job.submitted_at,
            is_wanted=partial(self._may_send, job.id),
            has_reported=partial(self._has_reported, job.id),
            references=self._references,
        )


def _bucket_of(job: Job) -> str:
    """Return the bucket that a job's request names."""
    return json.loads(job.upload_job_settings or "{}").get("s3_bucket") or ""


def _waiting(jobs: Sequence[Job], started: Sequence[Started]) -> list[JobChange]:
    """Compose the reasons why jobs are not handed over yet, where they are not recorded."""
    waiting = (one for one in started if one.again and one.error != CANCELLED_BEFORE)
    reasons = {one.job_id: recorded("reason", one.error or "") for one in waiting}
    only_if = {"state": JobState.SUBMITTED, "executor_ref": ""}
    return [
        JobChange(job.id, None, {"reason": reasons[job.id]}, only_if=only_if)
        for job in jobs
        if job.id in reasons and job.reason != reasons[job.id]
    ]


def _failed(job_id: str, error: Exception) -> Started:
    """Log an error that nobody foresaw, and say that the job failed of it."""
    logger.error("handover: %s", error, exc_info=error, extra={"job_id": job_id})
    reason = "the job cannot be handed over as it is recorded; see the service's log"
    return Started(job_id, error=reason)
