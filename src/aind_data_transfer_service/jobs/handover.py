"""Handing recorded jobs over to the executor, each exactly once.

A job is recorded before this, and its reference after it. A service that is killed in between hands
the job over again when it is back; the executor knows it by its id and does not start it twice.
"""

import asyncio
import json
import logging
from collections.abc import Sequence

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import Executor, JobSpec, Started
from aind_data_transfer_service.jobs.feed import Feed
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.jobs.record import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import JobChange, JobStore

logger = logging.getLogger(__name__)

MAIL = frozenset({"mail_user", "mail_type"})
"""The settings that say who gets e-mails, and when."""


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
    """

    def __init__(self, store: JobStore, executor: Executor, feed: Feed, sends_mail: bool = False):
        self._store = store
        self._executor = executor
        self._feed = feed
        self._sends_mail = sends_mail
        self._under_way: set[str] = set()

    def is_under_way(self, job_id: str) -> bool:
        """Tell whether a job is being handed over at this moment."""
        return job_id in self._under_way

    async def give(self, jobs: Sequence[Job]) -> list[Started]:
        """Hand jobs over; a job that the executor refuses has failed.

        One of which nothing is decided stays recorded as it is, and is handed over again later.

        Raises
        ------
        ExecutorError
            Where it cannot be told which jobs were taken. They stay recorded as they are, and are
            handed over again later.
        """
        ids = {job.id for job in jobs}
        self._under_way |= ids
        try:
            specs, started = self._specs(jobs)
            if specs:
                started += await self._start(specs)
            changes = [self._change(one) for one in started if not one.again]
            applied = await asyncio.to_thread(self._store.apply, changes)
            self._feed.publish(applied.jobs)
            return started
        finally:
            self._under_way -= ids

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
            try:
                specs.append(self._spec(job))
            except ValueError as error:
                failed.append(Started(job.id, error=f"its settings cannot be read: {error}"))
            except Exception as error:  # an old record, or one that somebody edited
                failed.append(_failed(job.id, error))
        return specs, failed

    def _change(self, started: Started) -> JobChange:
        """Decide what to record of one job."""
        if started.ref is None:
            return JobChange(started.job_id, JobState.FAILED, {"reason": started.error or ""})
        values = {"executor": self._executor.name, "executor_ref": started.ref}
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
            bucket=json.loads(job.upload_job_settings or "{}").get("s3_bucket") or "",
        )


def _failed(job_id: str, error: Exception) -> Started:
    """Log an error that nobody foresaw, and say that the job failed of it."""
    logger.error("handover: %s", error, exc_info=error, extra={"job_id": job_id})
    reason = "the job cannot be handed over as it is recorded; see the service's log"
    return Started(job_id, error=reason)
