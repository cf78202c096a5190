"""The one door to jobs: what the pages and the API may do with them."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from aind_data_transfer_service.concurrency.loop_health import Loop
from aind_data_transfer_service.configs.limits import MAX_ERRORS
from aind_data_transfer_service.errors import (
    ExecutorError,
    InFlightError,
    JobError,
    LeaseLostError,
    SubmissionError,
    TransferServiceError,
)
from aind_data_transfer_service.executors.base import (
    CappedLimits,
    ChecksJobs,
    CutsJobs,
    Executor,
    FileChunk,
    Guard,
    JobFile,
    JobSpec,
    LeavesOutDefaults,
    Others,
    Started,
)
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.executors.registry import choose_executor
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.completion_evidence import Destinations, Evidence, Patience
from aind_data_transfer_service.jobs.dispatcher import Handover
from aind_data_transfer_service.jobs.event_ingest import Inbox
from aind_data_transfer_service.jobs.leader_election import Candidate, Duties, Leader, LeaseTiming
from aind_data_transfer_service.jobs.liveness_file import LivenessFile
from aind_data_transfer_service.jobs.models import Job, JobEvent
from aind_data_transfer_service.jobs.polling import Pace
from aind_data_transfer_service.jobs.post_upload_worker import AfterwardsKeeper
from aind_data_transfer_service.jobs.private_files import make_private_folder
from aind_data_transfer_service.jobs.reconciler import Monitor
from aind_data_transfer_service.jobs.replica_sync import Replicas
from aind_data_transfer_service.jobs.resubmission import (
    asked_limits,
    changed_settings,
    former_limits,
    stated_settings,
)
from aind_data_transfer_service.jobs.retention import Retention
from aind_data_transfer_service.jobs.states import ENDED, JobState
from aind_data_transfer_service.jobs.store.job_logs import Brought
from aind_data_transfer_service.jobs.store.job_store import JobPage, JobQuery, JobStore
from aind_data_transfer_service.jobs.store.threads import LONG_WRITE_SECONDS
from aind_data_transfer_service.jobs.validation.checks import Checks, in_flight_error
from aind_data_transfer_service.jobs.validation.requests import (
    Draft,
    Drafts,
    HpcJobRequest,
    draft_basic,
    draft_hpc,
    make_jobs,
)
from aind_data_transfer_service.jobs.validation.results import CheckResult, ToCheck
from aind_data_transfer_service.plain_text import first_lines
from aind_data_transfer_service.redaction import redact, redact_all
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.spreadsheets.worker import ReadReply
from aind_data_transfer_service.spreadsheets.worker_pool import SpreadsheetReader

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0
"""How long the answer to a cancellation waits to tell the job's state."""

_CAP_SECONDS = 2.0
"""How long the suggestion for a job that is submitted again waits for the cluster's limits."""

FILES_AT_ONCE = 3
"""Spreadsheets that are read or checked at the same time: two workers read, and one is checked."""

NotifierFactory = Callable[[JobStore, Guard], Loop]
"""Makes the loop that sends the notifications in the outbox of a store; it calls the guard before
each message, which raises unless this process may send it."""

_DRAFTS = ThreadPoolExecutor(1, "drafts")
"""One thread, so that large requests are read one after another and hold up nothing else."""

__all__ = ["FileValidation", "HpcJobRequest", "JobManager", "Submission"]


@dataclass(frozen=True)
class FileValidation:
    """What a spreadsheet holds. The good rows are listed whether or not there are errors."""

    jobs: list[str] = field(default_factory=list)
    """JSON text of each good row."""
    errors: list[str] = field(default_factory=list)
    """The first errors, and a line with the number of the others."""
    warnings: list[str] = field(default_factory=list)
    """The first warnings, and a line with the number of the others."""
    rows: list[int] = field(default_factory=list)
    """The number of each good row, as the spreadsheet program shows it."""
    assets: list[str] = field(default_factory=list)
    """The name of each good row's asset."""
    error_count: int = 0
    """How many errors there are."""


@dataclass(frozen=True)
class Submission:
    """What became of a request for jobs."""

    stage: Literal["ok", "parse", "executor"]
    """How far it came: after `parse` nothing is recorded; after `executor` some have failed. Jobs
    that are recorded and wait for the executor are `ok`, with a warning."""
    responses: list[dict[str, Any]] = field(default_factory=list)
    """For each job its `job_id`, `name` and `state`, and what the executor answered."""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Components:
    """What works for the manager from `start` on."""

    checks: Checks
    destinations: Destinations
    spreadsheets: SpreadsheetReader
    file_turns: asyncio.Semaphore
    inbox: Inbox
    pace: Pace
    withdrawals: Handover
    """Cancels jobs that were not sent, for a process that stands by."""
    afterwards: AfterwardsKeeper
    leader: Leader
    liveness: LivenessFile


@dataclass(frozen=True)
class _Term:
    """What works as long as this process holds the lease and runs the jobs."""

    handover: Handover
    monitor: Monitor
    afterwards: AfterwardsKeeper
    loops: Mapping[str, Loop]
    tasks: Sequence[asyncio.Task[None]]


class JobManager:
    """Takes jobs in, sees them through, and tells how they stand.

    Parameters
    ----------
    settings : ServiceSettings
        How to do so.
    store : JobStore, optional
        Where jobs are recorded; by default the one that the settings name, opened by `start`.
    executor : Executor, optional
        Who runs them; by default the one that the settings ask for.
    spreadsheets : SpreadsheetReader, optional
        Reads files of jobs; by default a new one, opened by `start` and closed by `stop`.
    timing : LeaseTiming
        How long this process may run jobs without renewing its lease.
    patience : Patience
        How long evidence is waited for of an end that only a scheduler reports.
    notifier : NotifierFactory, optional
        Makes the loop that sends notifications; by default none are sent.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        store: JobStore | None = None,
        executor: Executor | None = None,
        spreadsheets: SpreadsheetReader | None = None,
        timing: LeaseTiming = LeaseTiming(),
        patience: Patience = Patience(),
        notifier: NotifierFactory | None = None,
    ):
        self.settings = settings
        self.feed = Feed()
        self.callbacks = Callbacks(settings.callback_url, settings.callback_secret_file)
        self.executor: Executor = executor or choose_executor(
            settings, self.callbacks, self._check_lease
        )
        self._timing = timing
        self._patience = patience
        self._make_notifier = notifier
        self._store = store
        self._brings_store = store is not None
        self._spreadsheets = spreadsheets
        self._components: _Components | None = None
        self._term: _Term | None = None
        self._loops: dict[str, Loop] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._handing_over: set[asyncio.Task[list[Started]]] = set()
        self._refreshing: set[asyncio.Task[None]] = set()

    @property
    def store(self) -> JobStore:
        """Where jobs are recorded. Its methods block: call them in a thread."""
        if self._store is None:
            raise RuntimeError("the manager of jobs has not been started")
        return self._store

    @property
    def others(self) -> Others:
        """The jobs that others started where ours run; never recorded, and not to be changed."""
        return Others() if self._term is None else self._term.monitor.others

    @property
    def silent_since(self) -> datetime | None:
        """Since when whoever runs the jobs has given no answer; None while it does."""
        return None if self._term is None else self._term.monitor.silent_since

    @property
    def late_loops(self) -> list[str]:
        """The loops that have not come round for three intervals."""
        loops = self._loops | dict(self._term.loops if self._term is not None else {})
        late = [name for name, loop in loops.items() if loop.heartbeat.is_late]
        if isinstance(self.executor, LocalExecutor) and self.executor.is_late:
            late.append("local executor")
        return late

    @property
    def leader(self) -> Leader:
        """The part that knows which process runs the jobs."""
        return self._started.leader

    @property
    def inbox(self) -> Inbox:
        """Where jobs bring their events."""
        return self._started.inbox

    @property
    def _started(self) -> _Components:
        """Return what works for the manager."""
        if self._components is None:
            raise RuntimeError("the manager of jobs has not been started")
        return self._components

    async def start(self) -> None:
        """Open the store, and run the jobs that have not ended unless another process does."""
        if self._store is None:
            self._store = await asyncio.to_thread(self._open_store)
        await asyncio.to_thread(self.callbacks.open)
        store, feed, settings = self._store, self.feed, self.settings
        liveness = LivenessFile(settings.data_dir / ".processes", store.lease.holder)
        await asyncio.to_thread(liveness.open)
        local = self.executor if isinstance(self.executor, LocalExecutor) else None
        candidate = Candidate(
            name=f"{socket.gethostname()}, process {os.getpid()}",
            place=await local.place() if local is not None else "",
            is_dead=liveness.is_dead,
        )
        leader = Leader(store, candidate, Duties(self._begin, self._end), self._timing)
        pace = Pace(settings.look_interval, settings.longest_look_interval)
        reader = self._spreadsheets or SpreadsheetReader()
        self._components = _Components(
            Checks(settings, store),
            Destinations(settings),
            reader,
            asyncio.Semaphore(FILES_AT_ONCE),
            Inbox(store, feed, pace),
            pace,
            Handover(store, self.executor, feed),
            AfterwardsKeeper(settings, store, feed),
            leader,
            liveness,
        )
        await leader.start()
        if self._spreadsheets is None:
            reader.open()
        replicas = Replicas(store, feed, self._pass_on, self._timing.interval)
        self._loops = {"service lease": leader, "replicas": replicas}
        self._tasks = _run_all(self._loops)

    async def _begin(self, fencing: int) -> None:
        """Begin to run jobs: this process holds the lease now."""
        store, executor, feed, settings = self.store, self.executor, self.feed, self.settings
        await executor.open(await store.in_thread(store.requests.in_doubt))
        fenced = store.fenced(fencing)
        handover = Handover(
            fenced, executor, feed, settings.sends_mail, bucket_names=settings.bucket_names
        )
        inbox, pace = self._started.inbox, self._started.pace
        is_verified = self._started.destinations.is_verified
        evidence = Evidence(is_verified, pace.hasten, self._patience)
        monitor = Monitor(fenced, executor, handover, feed, inbox, pace, evidence)
        afterwards = AfterwardsKeeper(settings, fenced, feed)
        loops: dict[str, Loop] = {"job monitor": monitor, "afterwards": afterwards}
        if self._make_notifier is not None:
            loops["notifier"] = self._make_notifier(fenced, self._check_lease)
        if settings.job_retention_days is not None:
            loops["retention"] = Retention(
                fenced, settings.jobs_dir, settings.job_retention_days, self._check_lease
            )
        self._term = _Term(handover, monitor, afterwards, loops, _run_all(loops))

    async def _end(self) -> None:
        """Stop running jobs; those that run go on."""
        term, self._term = self._term, None
        if term is not None:
            for task in term.tasks:
                task.cancel()
            await asyncio.gather(*term.tasks, return_exceptions=True)
        await asyncio.gather(*self._handing_over, return_exceptions=True)
        if term is not None:
            await term.afterwards.close()
        await self.executor.suspend()

    def _check_lease(self) -> None:
        """Raise `LeaseLostError` unless this process may start and cancel jobs."""
        self._started.leader.check()

    def _pass_on(self, is_new: bool) -> bool:
        """Have the jobs looked at if something new waits; return whether this process runs them."""
        if self._term is not None and is_new:
            self._term.monitor.pace.hasten()
        return self._term is not None

    def _make_folder(self) -> None:
        """Make the data folder, for nobody but this service."""
        settings, logs = self.settings, self.settings.hpc.logging_directory
        shared = [Path(logs)] if logs is not None and settings.on_cluster else []
        if settings.destination and settings.destination != "s3://":
            shared.append(Path(settings.destination))
        make_private_folder(settings.data_dir, shared)

    def _open_store(self) -> JobStore:
        """Open the store, or say in words why that cannot be."""
        try:
            self._make_folder()
            return JobStore(self.settings.resolved_database_url, self.settings.notifications.is_on)
        except OSError as error:
            why = f"{error.strerror}: {error.filename}"
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise TransferServiceError(
            f"the store of jobs cannot be opened: {why}; see DATABASE_URL and DATA_DIR"
        )

    async def stop(self) -> None:
        """Finish what is half done and let go. Running jobs go on; the next start finds them."""
        self.feed.close()
        stopped = [*self._tasks, *self._refreshing]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        self._tasks = []
        if self._components is not None:
            await self._components.leader.stop()
            await self._components.afterwards.close()
        await self.executor.close()
        if self._components is not None:
            self._components.checks.close()
            self._components.destinations.close()
            if self._spreadsheets is None:
                await asyncio.to_thread(self._components.spreadsheets.close)
            await asyncio.to_thread(self._components.liveness.close)
        if self._store is not None and not self._brings_store:
            await asyncio.to_thread(self._store.close)
            self._store = None

    async def validate_file(self, filename: str, data: bytes) -> FileValidation:
        """Check a spreadsheet of jobs: every cell, and the world that the jobs need."""
        settings = self.settings
        async with self._started.file_turns:
            read = await self._started.spreadsheets.read(
                filename,
                data,
                settings.date_order,
                settings.lab_timezone,
                sorted(settings.allowed_buckets),
                settings.bucket_names,
                not settings.require_processor_full_name,
                settings.path_mappings,
                settings.names_platform,
            )
            jobs = [ToCheck(f"row {job.row}", job) for job in read.jobs]
            found = await self._started.checks.run(jobs)
            return await asyncio.to_thread(_file_validation, read, found)

    async def submit_basic(self, texts: Sequence[str]) -> Submission:
        """Submit jobs that are given by their upload settings alone: all of them, or none."""
        return await self._submit(lambda: draft_basic(texts, self.settings))

    async def submit_hpc(self, items: Sequence[HpcJobRequest]) -> Submission:
        """Submit jobs that bring settings or scripts of their own: all of them, or none."""
        return await self._submit(lambda: draft_hpc(items, self.settings))

    async def find(self, query: JobQuery = JobQuery()) -> JobPage:
        """List jobs, a page at a time."""
        return await self.store.in_thread(self.store.find, query)

    async def get(self, job_id: str) -> Job:
        """Read one job, whole."""
        return await self.store.in_thread(self.store.get, job_id)

    async def events(self, job_id: str) -> list[JobEvent]:
        """List what a job did."""
        return await self.store.in_thread(self.store.events, job_id)

    async def counts(self) -> Mapping[JobState, int]:
        """Tell how many jobs are in each state."""
        return await self.store.in_thread(self.store.counts)

    async def cancel(self, job_id: str) -> Job:
        """Stop a job, or take it out of the queue. Gives the job as it is shortly afterwards.

        One that was not sent is cancelled at once, whether or not the executor can be reached. One
        whose request may be on its way is looked for and cancelled as soon as the executor answers.

        Raises
        ------
        JobError
            Where the job has ended already, or another executor has it.
        ExecutorError
            Where the executor cannot be reached; the wish is recorded, and tried again.
        """
        job = await self.get(job_id)
        if job.state in ENDED:
            raise JobError(f"job {job_id} has ended already ({job.state})")
        if job.executor and job.executor != self.executor.name:
            raise JobError(
                f'job {job_id} was given to the executor "{job.executor}", which this service '
                "does not use now"
            )
        term = self._term
        handover = self._started.withdrawals if term is None else term.handover
        if not job.executor_ref and await handover.withdraw(job_id):
            return await self.get(job_id)
        if term is not None:  # else a look that is under way cancels it too
            term.monitor.expect_cancel(job_id)
        job = await self.store.in_thread(lambda: self.store.update(job_id, cancel_requested=True))
        self.feed.publish([job])
        if job.executor_ref and term is not None:  # else the process that runs the jobs does it
            try:
                await term.monitor.cancel(job)
            except ExecutorError as error:
                raise ExecutorError(
                    f"{error}; the wish is recorded, and passed on as soon as that is mended"
                ) from error
            await self._refresh(term.monitor, job)
        elif term is not None:
            term.monitor.forget_cancel(job_id)
            if not job.executor:  # given back meanwhile
                await handover.withdraw(job_id)
            term.monitor.pace.hasten()
        return await self.get(job_id)

    async def _refresh(self, monitor: Monitor, job: Job) -> None:
        """Bring the record of a job up to date, if the executor answers soon."""
        task = asyncio.create_task(monitor.refresh(job))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)
        done, _ = await asyncio.wait({task}, timeout=_REFRESH_SECONDS)
        if any(one.exception() for one in done):
            logger.info("cancel: the next look tells how job %s is", job.id)

    async def resubmit(
        self, job_id: str, changes: Mapping[str, int | str | None] | None = None
    ) -> Job:
        """Submit an ended job once more, as a new one.

        Parameters
        ----------
        job_id : str
            The job that ended.
        changes : Mapping[str, int | str | None], optional
            Properties in `hpc_settings` that are to be different; None stands for the default.

        Raises
        ------
        JobError
            Where the job has not ended yet.
        SubmissionError
            Where the checks find something against it.
        ExecutorError
            If it was recorded, and the executor refused it.
        """
        job = await self.get(job_id)
        if job.state not in ENDED:
            raise JobError(f"job {job_id} has not ended yet ({job.state}); cancel it first")
        hpc_settings = changed_settings(job.hpc_settings, changes or {})
        request = HpcJobRequest(
            job.upload_job_settings,
            hpc_settings,
            job.script,
            is_recorded=not job.has_bucket_word,
            asset_name=job.name,
        )
        submission = await self._submit(
            lambda: draft_hpc([request], self.settings), resubmit_of=job_id
        )
        if submission.stage == "parse":
            raise SubmissionError(" ".join(_without_number(text) for text in submission.errors))
        if submission.stage == "executor":
            raise ExecutorError(" ".join(submission.errors))
        return await self.get(submission.responses[0]["job_id"])

    def asked_limits(self, job: Job) -> dict[str, int] | None:
        """Return the limits with which a job was sent, as far as is known; see `asked_limits`."""
        asked = asked_limits(job, self.settings.hpc)
        if not asked or not isinstance(self.executor, LeavesOutDefaults):
            return asked
        left_out = self.executor.left_out(job.id, stated_settings(job))
        return {name: value for name, value in asked.items() if name not in left_out}

    async def cap_limits(
        self, job: Job, limits: Mapping[str, int | None], asked: Mapping[str, int]
    ) -> CappedLimits:
        """Lower limits that a new job is to have to what the cluster allows.

        The cluster is asked only if they are not what the job itself had asked for.
        """
        is_same = all(asked.get(name) == value for name, value in limits.items())
        if is_same or not isinstance(self.executor, ChecksJobs):
            return CappedLimits(dict(limits))
        had = former_limits(limits, asked)
        return await self.executor.cap(limits, stated_settings(job), had, _CAP_SECONDS)

    async def retry(self, job_id: str, step: Literal["analysis", "registration"]) -> Job:
        """Have what follows an upload done once more. Gives the job as it is meanwhile.

        Raises
        ------
        JobError
            Where there is nothing to be done, or nobody to do it.
        """
        return await self._started.afterwards.retry(job_id, step)

    async def log(
        self, job_id: str, stream: JobFile, offset: int, limit: int, shard: int = 0
    ) -> FileChunk:
        """Read from a file of a job or of one of its shards; a negative offset is from the end."""
        job = await self.get(job_id)
        if not job.executor_ref or job.executor != self.executor.name:
            return FileChunk(data=b"", offset=0, size=0)
        chunk = await self._read(job, stream, offset, limit, shard)
        if chunk.size or not self.callbacks.is_on:
            return chunk
        read = partial(self.store.logs.read, job_id, stream, offset, limit, shard)
        brought = await self.store.in_thread(read)
        return brought if brought.size else chunk

    async def shards(self, job: Job) -> int:
        """Return how many shards of a job have logs of their own, as far as is known."""
        executor = self.executor
        if not job.executor_ref or job.executor != executor.name:
            return 0
        count = await executor.shards(job.executor_ref) if isinstance(executor, CutsJobs) else 0
        if count is not None or not self.callbacks.is_on:
            return count or 0
        return await self.store.in_thread(partial(self.store.logs.shards, job.id))

    async def take_log(
        self, job: Job, stream: JobFile, offset: int, data: bytes, shard: int = 0
    ) -> Brought | None:
        """Store the end of a log that a job or a shard brings; None if it is not wanted.

        It is wanted while the job runs and its log cannot be read where the job writes it.
        """
        if job.state in ENDED or job.executor != self.executor.name:
            return None
        if not job.executor_ref:  # its shards may run before it is known that it was submitted
            return Brought(False, offset)
        if (await self._read(job, stream, 0, 1, shard)).size:
            return None
        text = await asyncio.to_thread(redact, data.decode("utf-8", "replace"), is_cut=True)
        append = partial(self.store.logs.append, job.id, stream, offset, len(data), text, shard)
        return await self.store.in_thread(append)

    async def _read(
        self, job: Job, stream: JobFile, offset: int, limit: int, shard: int
    ) -> FileChunk:
        """Read from a file where the job runs."""
        if not shard:
            return await self.executor.read(job.executor_ref, stream, offset, limit)
        if not isinstance(self.executor, CutsJobs):
            return FileChunk(data=b"", offset=0, size=0)
        return await self.executor.read_shard(job.executor_ref, shard, stream, offset, limit)

    async def _submit(self, draft: Callable[[], Drafts], resubmit_of: str = "") -> Submission:
        """Understand, check, record, hand over."""
        loop = asyncio.get_running_loop()
        drafts = await loop.run_in_executor(_DRAFTS, draft)
        if drafts.errors:
            of_cluster = await self._check_settings(drafts.asked)
            return Submission("parse", errors=[*drafts.errors, *of_cluster.flat_errors()])
        found = await self._started.checks.run(drafts.drafts)
        await self._check_with_executor(drafts.drafts, found)
        for label, texts in drafts.warnings.items():
            found.warnings[label] += texts
        warnings = found.flat_warnings()
        if found.errors:
            return Submission("parse", errors=found.flat_errors(), warnings=warnings)
        make = partial(make_jobs, drafts.drafts, found.warnings, self.settings, resubmit_of)
        jobs = await loop.run_in_executor(_DRAFTS, make)
        term = self._term
        if term is None and (why := self.leader.absence):
            jobs = [replace(job, reason=why) for job in jobs]
            warnings = [*warnings, why]
        ids = [job.id for job in jobs]
        if term is not None:
            term.handover.expect(ids)
        try:
            await self.store.in_thread(self.store.add, jobs, seconds=LONG_WRITE_SECONDS)
        except InFlightError as error:
            if term is not None:
                term.handover.forget(ids)
            errors = [
                in_flight_error(one.label, one.location, error.job_ids[one.location])
                for one in drafts.drafts
                if one.location in error.job_ids
            ]
            return Submission("parse", errors=errors, warnings=warnings)
        except BaseException:
            if term is not None:
                term.handover.forget(ids)
            raise
        self.feed.publish(jobs)
        return await self._hand_over(jobs, warnings, term)

    async def _check_settings(self, asked: Mapping[str, Mapping[str, Any]]) -> CheckResult:
        """Find what the cluster does not allow of jobs that are refused for other reasons."""
        found = CheckResult()
        specs = [JobSpec(label, label, settings=settings) for label, settings in asked.items()]
        if specs:
            await self._check_specs(specs, found)
        return found

    async def _check_with_executor(self, drafts: Sequence[Draft], found: CheckResult) -> None:
        """Add what the executor knows to be wrong with jobs before it is given them."""
        specs = [
            JobSpec(
                job_id=one.label,
                name=one.label,
                request=one.request.upload_job_settings,
                script=one.request.script,
                settings=one.hpc_settings,
            )
            for one in drafts
        ]
        await self._check_specs(specs, found)

    async def _check_specs(self, specs: Sequence[JobSpec], found: CheckResult) -> None:
        """Have the executor check jobs, if it can."""
        if not isinstance(self.executor, ChecksJobs):
            return
        unfit = await self.executor.check(specs, self.settings.check_timeout)
        for label, texts in unfit.errors.items():
            found.errors[label] += [f"{label}, {text}" for text in texts]
        for label, texts in unfit.warnings.items():
            found.warnings[label] += [f"{label}, {text}" for text in texts]

    async def _hand_over(
        self, jobs: Sequence[Job], warnings: list[str], term: _Term | None
    ) -> Submission:
        """Have recorded jobs started, whether or not somebody still waits for the answer."""
        recorded = Submission(
            "ok", [_response(job, JobState.SUBMITTED) for job in jobs], [], warnings
        )
        if term is None or term is not self._term:  # the process that runs the jobs finds them
            return recorded
        term.monitor.pace.hasten()
        task = asyncio.create_task(term.handover.give(jobs))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)
        try:
            started = await asyncio.shield(task)
        except LeaseLostError:
            return recorded
        except ExecutorError as error:
            logger.warning("submission: the executor does not answer: %s", error)
            told = f"{redact(str(error))}; the jobs are saved and start once this is resolved"
            return replace(recorded, warnings=[*warnings, told])
        by_id = {one.job_id: one for one in started}
        responses = [_response(job, _state(by_id.get(job.id)), by_id.get(job.id)) for job in jobs]
        names = {job.id: job.name for job in jobs}
        errors = [
            f"job {one.job_id} ({names[one.job_id]}): {redact(one.error)}"
            for one in started
            if one.error and not one.again
        ]
        waiting = _undecided([one for one in started if one.again])
        return Submission("executor" if errors else "ok", responses, errors, [*warnings, *waiting])


def _run_all(loops: Mapping[str, Loop]) -> list[asyncio.Task[None]]:
    """Start loops."""
    return [asyncio.create_task(loop.run(), name=name) for name, loop in loops.items()]


def _file_validation(read: ReadReply, found: CheckResult) -> FileValidation:
    """Put together what the reader and the checks found in a file."""
    errors, warnings = found.flat_errors(), [*read.warnings, *found.flat_warnings()]
    count = read.error_count + len(errors)
    good = [job for job in read.jobs if f"row {job.row}" not in found.errors]
    return FileValidation(
        jobs=[job.text for job in good],
        errors=first_lines([*read.errors, *errors], MAX_ERRORS, "error", "errors", count),
        warnings=first_lines(warnings, MAX_ERRORS, "warning", "warnings"),
        rows=[job.row for job in good],
        assets=[job.s3_prefix for job in good],
        error_count=count,
    )


def _state(started: Started | None) -> JobState:
    """Say what state a job is in, as far as the handover goes."""
    if started is None:
        return JobState.CANCELLED
    if started.again:
        return JobState.SUBMITTED
    return JobState.FAILED if started.ref is None else JobState.PENDING


def _undecided(started: Sequence[Started]) -> list[str]:
    """Say, once for each reason, that jobs are going to be handed over again."""
    reasons: dict[str, list[str]] = {}
    for one in started:
        reasons.setdefault(redact(one.error or ""), []).append(one.job_id)
    return [f"{reason}; {_saved(ids)} once this is resolved" for reason, ids in reasons.items()]


def _saved(job_ids: Sequence[str]) -> str:
    """Say that jobs are not lost."""
    if len(job_ids) == 1:
        return f"job {job_ids[0]} is saved and starts"
    return f"the jobs {', '.join(job_ids)} are saved and start"


def _response(job: Job, state: JobState, started: Started | None = None) -> dict[str, Any]:
    """Compose the answer for one job."""
    answer = redact_all(started.answer) if started is not None else {}
    if started is not None and started.error:
        answer["error"] = redact(started.error)
    return {**answer, "job_id": job.id, "name": job.name, "state": state.value}


def _without_number(text: str) -> str:
    """Leave out which job of a request an error is about, where there is only one."""
    return text.removeprefix("job 1, ").removeprefix("job 1: ")
