"""What the service itself does about verified assets: it tries again, and follows computations.

Whatever asks other systems runs in threads that nobody waits for at the service's end; what such a
thread leaves undone is given up by a later round, and can be tried again.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, ReadingContext
from aind_data_transfer_service.errors import JobError, PostUploadError, UploadError
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.models import Job, utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.validation.checks import open_destination
from aind_data_transfer_service.metadata.documents import RECORD_NAME
from aind_data_transfer_service.post_upload.registration import post_registration
from aind_data_transfer_service.post_upload.states import (
    NO_BUCKET,
    Analysis,
    AnalysisState,
    Registration,
    RegistrationState,
)
from aind_data_transfer_service.settings.service import ServiceSettings

logger = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two rounds."""
_ROUND_SECONDS = 45.0
_LONGEST_ROUND = 2 * _ROUND_SECONDS
_A_ROUND = 100
_LAST_SECONDS = 2.0
_OVER = sys.float_info.max
"""A moment after every deadline. Infinity would not do: a deadline that is counted from there would
never be over, as the difference of infinities is no number."""
_INTERRUPTED = "it was interrupted; try it again"
R = TypeVar("R")


class AfterwardsKeeper:
    """Takes care of what follows uploads.

    Parameters
    ----------
    settings : ServiceSettings
        Whom to ask.
    store : JobStore
        Where it is recorded.
    feed : Feed
        Who hears of changes.
    """

    def __init__(self, settings: ServiceSettings, store: JobStore, feed: Feed):
        self._settings, self._store, self._feed = settings, store, feed
        self._closing = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._after = 0
        self.heartbeat = Heartbeat(INTERVAL, _LONGEST_ROUND)
        self._trouble = ""

    async def run(self) -> None:
        """Make one round after another, whatever goes wrong with one of them."""
        while True:
            try:
                await self.round()
            except Exception as error:  # the next round may fare better
                logger.error("afterwards: %s", error, exc_info=error)
            self.heartbeat.beat()
            await asyncio.sleep(INTERVAL)

    async def close(self) -> None:
        """End what is under way, within seconds."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)

    async def retry(self, job_id: str, step: str) -> Job:
        """Have a job's `analysis` or `registration` done; gives the job as it is meanwhile.

        Raises
        ------
        JobError
            Where there is nothing to be done, or nobody to do it.
        """
        job = await self._store.in_thread(self._store.get, job_id)
        if problem := self._unfit(job, step):
            raise JobError(f"job {job_id}: {problem}")
        if not await self._store.in_thread(self._store.open_ends.begin, job_id, step):
            job = await self._store.in_thread(self._store.get, job_id)
            raise JobError(f"job {job_id}: its {step} is {getattr(job, step)} already")
        task = asyncio.create_task(self._do(job, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await self._tell(job_id)

    async def round(self) -> None:
        """Look once at everything that is open, as much of it as there is time for."""
        longest = max(
            self._settings.post_upload.codeocean_timeout,
            self._settings.post_upload.registration_timeout,
        )
        before = utc_now() - timedelta(seconds=longest + INTERVAL)
        given_up = await self._store.in_thread(self._store.open_ends.abandon, before, _INTERRUPTED)
        for job_id in given_up:
            await self._tell(job_id)
        settings = self._settings.post_upload
        if not settings.code_ocean_enabled:
            return
        ids, self._after = await self._store.in_thread(
            self._store.open_ends.listed, self._after, _A_ROUND
        )
        jobs = await self._store.in_thread(self._store.get_many, ids) if ids else []
        if not jobs:
            return
        for job, found in await self._aside(lambda: self._look(jobs)):
            if found is None:  # taken in meanwhile: now it goes on
                with contextlib.suppress(JobError):  # somebody else was faster
                    await self.retry(job.id, "analysis")
            else:
                await self._record(job.id, found.values())

    def _unfit(self, job: Job, step: str) -> str:
        """Say why a step of a job cannot be done; empty where it can."""
        settings = self._settings.post_upload
        if job.state is not JobState.COMPLETED or not job.location or job.script:
            return f"there is no verified asset ({job.state}), so there is no {step}"
        if step == "analysis" and not settings.code_ocean_enabled:
            return "this service knows no Code Ocean; set CODEOCEAN_DOMAIN and CODEOCEAN_TOKEN"
        if step == "analysis" and urlsplit(job.location).scheme != "s3":
            return NO_BUCKET
        if step == "registration" and not settings.registration_url:
            return "this service knows no hook for registration; set REGISTRATION_URL"
        return ""

    async def _do(self, job: Job, step: str) -> None:
        """Do a step of a job, and record what became of it."""
        work = self._analyse if step == "analysis" else self._register
        try:
            done: Analysis | Registration = await self._aside(lambda: work(job))
            values = done.values()
            if self._closing.is_set() and values[step] == "FAILED":
                values[f"{step}_reason"] = _INTERRUPTED
        except Exception as error:  # it has to be recorded, whatever it is
            logger.error("afterwards: %s", error, exc_info=error, extra={"job_id": job.id})
            values = {step: "FAILED", f"{step}_reason": f"unexpected {type(error).__name__}"}
        await self._record(job.id, values)

    def _analyse(self, job: Job) -> Analysis:
        """Have Code Ocean take the asset, and run what is to run."""
        from aind_data_transfer_service.post_upload import code_ocean  # takes a while

        config = BasicUploadJobConfigs.model_validate_json(
            job.upload_job_settings,
            context=ReadingContext(processor_optional=True, is_recorded=True),
        )
        wanted = code_ocean.AnalysisRequest.from_config(config, job.location, job.submitted_at)
        patience = self._patience(self._settings.post_upload.codeocean_timeout)
        with code_ocean.CodeOcean(self._settings.post_upload, patience) as asked:
            return asked.run_analysis(wanted)

    def _register(self, job: Job) -> Registration:
        """Post the record of the asset, as it is stored."""
        settings = self._settings
        parts = urlsplit(job.location)
        if parts.scheme == "s3":
            root, bucket = "s3://", parts.netloc
        else:
            place = Path(job.location)
            root, bucket = str(place.parent.parent), place.parent.name
        try:
            store = open_destination(settings, root, bucket)
            document = store.get(f"{job.name}/{RECORD_NAME}")
        except UploadError as error:
            return Registration(RegistrationState.FAILED, str(error))
        if document is None:
            return Registration(RegistrationState.FAILED, f"the asset has no {RECORD_NAME}")
        return post_registration(settings.post_upload, job.location, document)

    def _look(self, jobs: Sequence[Job]) -> list[tuple[Job, Analysis | None]]:
        """Find out what is new of jobs that run, or wait to run (None for those that may now)."""
        from aind_data_transfer_service.post_upload import code_ocean  # takes a while

        news: list[tuple[Job, Analysis | None]] = []
        patience = self._patience(_ROUND_SECONDS)
        with code_ocean.CodeOcean(self._settings.post_upload, patience) as asked:
            for job in jobs:
                try:
                    if job.analysis == AnalysisState.WAITING:
                        if not asked.is_ingesting(job.data_asset_id):
                            news.append((job, None))
                    elif job.analysis == AnalysisState.RUNNING:
                        before = _analysis_of(job)
                        after = asked.poll(before)
                        if after != before:
                            news.append((job, after))
                except code_ocean.NotFound:
                    lost = replace(_analysis_of(job), state=AnalysisState.FAILED)
                    reason = "Code Ocean does not know it any more"
                    news.append((job, replace(lost, reason=reason)))
                except PostUploadError as error:  # neither will it answer the other questions
                    if str(error) != self._trouble:
                        self._trouble = str(error)
                        logger.warning("afterwards: %s", error, extra={"job_id": job.id})
                    break
        return news

    def _patience(self, seconds: float) -> Any:
        """Make a patience that ends with the service."""
        from aind_data_transfer_service.post_upload.code_ocean import Deadline

        closing = self._closing

        def clock() -> float:
            return _OVER if closing.is_set() else time.monotonic()

        return Deadline(seconds, clock, closing.wait)

    async def _record(self, job_id: str, values: dict[str, Any]) -> None:
        """Record what is new, and tell of it."""
        job = await self._store.in_thread(lambda: self._store.update(job_id, **values))
        self._feed.publish([job])

    async def _tell(self, job_id: str) -> Job:
        """Tell of a job as it is now, and give it."""
        job = await self._store.in_thread(self._store.get, job_id)
        self._feed.publish([job])
        return job

    async def _aside(self, work: Callable[[], R]) -> R:
        """Do something in a thread that nobody waits for at the end."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()

        def settle(set_it: Callable[[], None]) -> None:
            if not done.done():
                set_it()

        def run() -> None:
            try:
                set_it = partial(done.set_result, work())
            except Exception as error:
                set_it = partial(done.set_exception, error)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, set_it)

        threading.Thread(target=run, name="afterwards", daemon=True).start()
        return await done


def _analysis_of(job: Job) -> Analysis:
    """Read how an analysis stands by the record."""
    return Analysis(
        AnalysisState(job.analysis),
        job.analysis_reason,
        job.data_asset_id,
        job.data_asset_link,
        job.computation_id,
        job.computation_link,
    )
