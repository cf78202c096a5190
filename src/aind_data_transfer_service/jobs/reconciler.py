"""Following jobs: one question to the executor for all of them, as often as the pace says."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import (
    EventsElsewhere,
    ExecutorError,
    ExitCode,
    LeaseLostError,
    SpoiledFileError,
    StoreUnavailable,
    TransferServiceError,
)
from aind_data_transfer_service.executors.base import (
    AsksInTurn,
    Executor,
    Others,
    RunState,
    RunStatus,
    SeesOthers,
)
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.completion_evidence import Evidence
from aind_data_transfer_service.jobs.dispatcher import AT_ONCE, Handover
from aind_data_transfer_service.jobs.event_ingest import Inbox
from aind_data_transfer_service.jobs.event_parser import (
    PIECE,
    Report,
    proves,
    read_events,
    reason_of_end,
)
from aind_data_transfer_service.jobs.models import Job, JobEvent, utc_now
from aind_data_transfer_service.jobs.polling import Pace
from aind_data_transfer_service.jobs.states import ENDED, JobState, job_state
from aind_data_transfer_service.jobs.store.job_store import Applied, JobChange, JobStore, recorded
from aind_data_transfer_service.jobs.store.threads import LONG_WRITE_SECONDS
from aind_data_transfer_service.redaction import redact

T = TypeVar("T")

logger = logging.getLogger(__name__)

PIECES_PER_LOOK = 16
_LAST_WORDS = 8192
_READ_AT_ONCE = 16
_ASKED_AT_ONCE = 16
_CANCELS_AT_ONCE = 8
_SECONDS_OF_CANCELS = 2.0
"""In which a look begins to cancel jobs; the next one goes on."""
_TROUBLES_KEPT = 1000
_OTHERS = "others"
"""The word that says so when the list has to be asked for anew: others' jobs, or silence."""
_SECONDS_UNWATCHED = 10.0
LONGEST_READING = 600.0
"""Seconds for which an ended job's events are tried to be read before its end is recorded. They
decide how it ended, and are not read any more once it is."""
READ_INLINE = 16 * 1024
"""Bytes of events that are read without a thread: they take less than 10 ms."""
_MOST_EVENTS = 64 * 1024**2
"""Bytes of events of an ended job that are read at most; what comes before them is passed over."""
_UNREADABLE = "what it tells of itself cannot be read"
_UNRECORDABLE = "what it tells of itself cannot be recorded"
_NEAR_LIMIT = "stopped before its time limit; submit again with a longer time limit"
_KILLED = 128 + signal.SIGKILL  # as a shell tells it
_NO_WORD = (RunState.LOST, RunState.FAILED, RunState.TIMEOUT)


class Monitor:
    """Keeps the record of jobs in step with the executor.

    Parameters
    ----------
    store : JobStore
        Where the jobs are recorded.
    executor : Executor
        Who runs them.
    handover : Handover
        By whom a job that was recorded but not handed over is handed over.
    feed : Feed
        Who hears of changes.
    inbox : Inbox
        What jobs tell by themselves meanwhile.
    pace : Pace or float
        How long to wait between two looks; a number means always so many seconds.
    evidence : Evidence
        Judges ends that only a scheduler reports.

    Attributes
    ----------
    others : Others
        The jobs that others started where ours run, as they stood at the last look.
    silent_since : datetime, optional
        Since when the executor has given no answer, and all stands as it was then; None while it
        does.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        handover: Handover,
        feed: Feed,
        inbox: Inbox,
        pace: Pace | float,
        evidence: Evidence,
    ):
        self._store = store
        self._executor = executor
        self._handover = handover
        self._feed = feed
        self._inbox = inbox
        self._evidence = evidence
        self.pace = pace if isinstance(pace, Pace) else Pace(pace)
        self._turn = asyncio.Lock()
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self.heartbeat = Heartbeat(self.pace.interval, executor.patience)
        self.others = Others()
        self.silent_since: datetime | None = None
        self._others_due = 0.0
        self._cancelled: set[str] = set()
        self._uncancelled: set[str] = set()
        self._tried: set[str] = set()
        self._troubles: set[str] = set()
        self._ended: dict[str, float] = {}
        self._refreshed: set[str] = set()

    async def run(self) -> None:
        """Look again and again, whatever goes wrong with one look."""
        try:
            await self._run()
        finally:
            self._evidence.forget(())

    async def _run(self) -> None:
        """Look again and again."""
        while True:
            changed = False
            try:
                changed = await self.look()
            except Exception as error:  # the next look may fare better
                self._complain(error)
                self._note_silence(self.silent_since or utc_now())
            else:
                if self.silent_since:
                    logger.warning("monitor: the jobs are followed again")
                    self._troubles.clear()  # what comes back is told again
                self._note_silence(None)
            self.pace.note(changed)
            self.heartbeat.beat(max(self.pace.interval, self.pace.delay))
            await self.pace.wait()

    def _note_silence(self, since: datetime | None) -> None:
        """Note since when there is no answer, and have the open pages say so."""
        if since != self.silent_since:
            self.silent_since = since
            self._feed.mention(_OTHERS)

    async def look(self) -> bool:
        """Bring the record of all active jobs up to date; return whether anything had changed."""
        async with self._turn:
            self._inbox.forget()
            self._refreshed.clear()
            jobs = await self._store.in_thread(self._store.active)
            active = {job.id for job in jobs}
            self._cancelled &= active
            self._uncancelled &= active
            self._evidence.forget(active)
            self._ended = {one: since for one, since in self._ended.items() if one in active}
            followed = [
                job for job in jobs if job.executor_ref and job.executor == self._executor.name
            ]
            if isinstance(self._executor, AsksInTurn):
                self._executor.put_first({job.id for job in followed if self._has_news(job)})
            changed, silence = False, None
            try:
                changed = bool(followed) and await self._follow(followed)
            except LeaseLostError:
                raise
            except ExecutorError as error:  # what users ask for is tried all the same
                silence = error
                self._note_silence(self.silent_since or utc_now())
                self.heartbeat.beat()
            await self._cancel_some(followed)
            try:
                await self._hand_over_some(jobs)
            except Exception as error:  # those that were handed over are followed
                self._complain(error)
            self.heartbeat.beat()
            if silence is not None:
                raise silence
            await self._look_at_others(ask=not followed)
            return changed

    def _has_news(self, job: Job) -> bool:
        """Return whether the executor is about to tell a new state: a job told so, or a user."""
        began = job.state is JobState.PENDING and job.events_offset > 0
        return began or job.cancel_requested or self._inbox.has_told_end(job.id)

    async def refresh(self, job: Job) -> None:
        """Bring the record of one job up to date, without waiting for a look that is under way.

        What that look was told of the job is older, and is disregarded.
        """
        await self._follow([job], is_refresh=True)

    def expect_cancel(self, job_id: str) -> None:
        """Note that a job is being cancelled, so that the next look does not cancel it too."""
        self._cancelled.add(job_id)

    def forget_cancel(self, job_id: str) -> None:
        """Note that a job could not be cancelled yet."""
        self._cancelled.discard(job_id)

    async def cancel(self, job: Job) -> None:
        """Have the executor stop a job whose cancellation is recorded."""
        self.expect_cancel(job.id)
        self.pace.hasten()
        try:
            await self._executor.cancel(job.executor_ref)
        except BaseException:
            self._cancelled.discard(job.id)
            raise

    async def _look_at_others(self, ask: bool) -> None:
        """Note which jobs others started; where that has to be asked for, less often unwatched."""
        executor, now = self._executor, time.monotonic()
        if not isinstance(executor, SeesOthers):
            return
        if ask and now < self._others_due and not len(self._feed):
            return
        others = await executor.others(ask)
        self._others_due = now + _SECONDS_UNWATCHED
        if others != self.others:
            self.others = others
            self._feed.mention(_OTHERS)

    async def _cancel_some(self, jobs: Sequence[Job]) -> None:
        """Have jobs cancelled whose cancellation is recorded: as many as can be begun soon."""
        wanted = [job for job in jobs if job.cancel_requested and job.id not in self._cancelled]
        wanted.sort(key=lambda job: job.id in self._uncancelled)  # they hold up nobody
        end, turns = time.monotonic() + _SECONDS_OF_CANCELS, asyncio.Semaphore(_CANCELS_AT_ONCE)

        async def cancel(job: Job) -> None:
            async with turns:
                if time.monotonic() > end:  # the next look goes on
                    self.pace.hasten()
                    return
                try:
                    await self.cancel(job)
                except Exception as error:  # the other jobs are none the worse for it
                    self._uncancelled.add(job.id)
                    self._complain(error, job.id)
                self.heartbeat.beat()

        await asyncio.gather(*map(cancel, wanted))

    async def _hand_over_some(self, jobs: Sequence[Job]) -> None:
        """Hand over what was recorded and no more, as when the service was killed.

        At most one piece at each look, so that the others are followed meanwhile.
        """
        left = [
            job
            for job in jobs
            if not job.executor_ref and job.executor in ("", self._executor.name)
        ]
        await self._recall([job for job in left if job.cancel_requested])
        self.heartbeat.beat()
        waiting_ids = [job.id for job in left if not self._is_taken(job)]
        self._tried.intersection_update(waiting_ids)
        untried = [job_id for job_id in waiting_ids if job_id not in self._tried]
        if not untried:  # all had their turn
            self._tried.clear()
            untried = waiting_ids
        ids = untried[:AT_ONCE]
        self._tried.update(ids)
        whole = await self._store.in_thread(self._store.get_many, ids)
        waiting = [job for job in whole if not self._is_taken(job)]
        if not waiting:
            return
        try:
            started = await self._handover.give(waiting)
            if not all(one.again for one in started):
                self.pace.hasten()
        except ExecutorError as error:
            self._complain(error)

    def _is_taken(self, job: Job) -> bool:
        """Return whether a job is not to be handed over by a look."""
        is_waiting = job.state is JobState.SUBMITTED and not job.cancel_requested
        return not is_waiting or self._handover.is_under_way(job.id)

    async def _recall(self, jobs: Sequence[Job]) -> None:
        """Cancel jobs of which it is not known whether they were sent."""
        jobs = [job for job in jobs if not self._handover.is_under_way(job.id)]
        if not jobs:
            return
        try:
            if await self._handover.recall(jobs):
                self.pace.hasten()
        except ExecutorError as error:  # the other jobs are handed over
            self._complain(error)

    async def _follow(self, jobs: Sequence[Job], is_refresh: bool = False) -> bool:
        """Ask for the jobs' states, read their new events, record what changed, if anything."""
        statuses = await self._executor.statuses([job.executor_ref for job in jobs])
        if is_refresh:
            self._refreshed |= {job.id for job in jobs}
        else:
            self.heartbeat.beat()
        found = [
            (self._inbox.newer(job), statuses[job.executor_ref])
            for job in jobs
            if job.executor_ref in statuses
        ]
        found = [(job, status) for job, status in found if not _still_waits(job, status)]
        changes = await asyncio.gather(
            *(self._change(job, status) for job, status in found), return_exceptions=True
        )
        if not is_refresh:
            pairs = [pair for pair in zip(found, changes) if pair[0][0].id not in self._refreshed]
            found, changes = [one for one, _ in pairs], [change for _, change in pairs]
        needed = [change for change in changes if isinstance(change, JobChange)]
        for (job, _), change in zip(found, changes):
            if isinstance(change, Exception):  # the other jobs are none the worse for it
                self._complain(change, job.id)
                if job.reason != _words(change):
                    needed.append(JobChange(job.id, None, {"reason": _words(change)}))
        if not needed:
            return False
        applied = await self._apply(needed)
        for job_id, refusal in applied.refused.items():
            level = logging.DEBUG if isinstance(refusal, EventsElsewhere) else logging.WARNING
            logger.log(level, "monitor: %s", refusal, extra={"job_id": job_id})
        self._feed.publish(applied.jobs)
        return bool(applied.jobs)

    async def _apply(self, changes: Sequence[JobChange]) -> Applied:
        """Record changes; one that cannot be recorded leaves the others alone."""
        try:
            return await self._store.in_thread(
                self._store.apply, changes, seconds=LONG_WRITE_SECONDS
            )
        except (InterfaceError, OperationalError, LeaseLostError, StoreUnavailable):  # for all
            raise
        except Exception as error:
            if len(changes) > 1:
                parts = [await self._apply([change]) for change in changes]
                jobs = tuple(job for part in parts for job in part.jobs)
                return Applied(
                    jobs, {one: why for part in parts for one, why in part.refused.items()}
                )
            [change] = changes
            self._complain(error, change.job_id)
            bare = JobChange(change.job_id, change.state, {"reason": _UNRECORDABLE})
            return await self._store.in_thread(self._store.apply, [bare])

    def _complain(self, error: Exception, job_id: str = "") -> None:
        """Log what went wrong; what goes wrong at every look, only once."""
        trouble = f"{job_id} {error!r}"
        if trouble not in self._troubles:
            if len(self._troubles) >= _TROUBLES_KEPT:
                self._troubles.clear()
            self._troubles.add(trouble)
            worded = isinstance(error, TransferServiceError)
            trace = None if worded else error
            logger.error("monitor: %s", error, exc_info=trace, extra={"job_id": job_id})

    async def _change(self, job: Job, status: RunStatus) -> JobChange | None:
        """Decide what to record of one job; None where nothing is new."""
        state = job_state(status.state)
        report, trouble, is_whole = Report(), "", True
        if state is not JobState.PENDING:
            report, trouble, is_whole = await self._try_events(job, final=state in ENDED)
        self.heartbeat.beat()
        if state in ENDED and not is_whole and self._may_wait(job.id):
            tried = f"{trouble}; tried again for {LONGEST_READING / 60:.0f} minutes"
            told = report.values | ({"reason": tried} if trouble else {})
            return _compose_change(job, None, told, report)
        if state in ENDED:
            status = await self._confirm(job, status, report)
            state = job_state(status.state)
        values: dict[str, Any] = {**status.progress, **report.values}
        values |= {
            name: value
            for name in ("exit_code", "started_at", "ended_at")
            if (value := getattr(status, name)) is not None
        }
        if state in ENDED:
            state, values["reason"] = await self._judge(job, status, report)
            values["reason"] = "; ".join(filter(None, (values["reason"], trouble)))
            values["seconds_left"] = None
        else:
            values["reason"] = status.reason or trouble
        values["executor_ref"] = status.ref
        if status.node:
            values["node"] = status.node
        if state is JobState.PENDING:  # never begun, or put back into the queue
            values |= {"started_at": None, "node": ""}
        return _compose_change(job, state, values, report)

    async def _confirm(self, job: Job, status: RunStatus, report: Report) -> RunStatus:
        """Return the end for which there is evidence; until then, that the job is running."""
        if status.record is None or any(map(proves, report.events)):
            return status
        events = await self._ask(self._store.events, job.id, 20)
        if any(map(proves, events)):
            return status
        whole = await self._ask(self._store.get, job.id)
        return self._evidence.judge(whole, status, has_news=bool(report.consumed))

    async def _judge(self, job: Job, status: RunStatus, report: Report) -> tuple[JobState, str]:
        """Decide how a job ended, and why.

        Where the executor does not know how it ended, the job's own last word counts: one that was
        killed when its asset was whole has done what it had to.
        """
        failure, is_whole = report.failure, report.is_proven
        if status.state is not RunState.COMPLETED and not (failure or is_whole):
            failure, is_whole = await self._told_end(job)
        had_no_word = status.exit_code in (None, _KILLED) and status.state in _NO_WORD
        if had_no_word and is_whole:
            status = replace(status, state=RunState.COMPLETED, reason="")
        if status.state is RunState.LOST and failure:
            status = replace(status, state=RunState.FAILED, reason="")
        if status.state is RunState.FAILED and status.exit_code == ExitCode.TIME_LIMIT:
            whole = await self._ask(self._store.get, job.id)
            if not whole.script:  # a script's exit codes are its own
                status = replace(status, state=RunState.TIMEOUT, reason=failure or _NEAR_LIMIT)
        last_words = ""
        if status.state is RunState.FAILED and not failure and not status.reason:
            try:
                async with self._reading:
                    chunk = await self._executor.read(
                        job.executor_ref, "stderr", -_LAST_WORDS, _LAST_WORDS
                    )
                text = chunk.data.decode("utf-8", "replace")
                if chunk.offset:  # its first line lacks its beginning, and may have half a secret
                    text = text.partition("\n")[2]
                last_words = redact(text, is_cut=True)
            except ExecutorError as error:  # its end is known without them
                self._complain(error, job.id)
        return job_state(status.state), reason_of_end(status, failure, last_words)

    async def _told_end(self, job: Job) -> tuple[str, bool]:
        """Find what the job told in earlier looks: of its failure, and whether all was whole."""
        events = await self._ask(self._store.events, job.id, 20)
        failure = next((event.message for event in reversed(events) if event.kind == "fail"), "")
        return failure, bool(events) and proves(events[-1])

    async def _ask(self, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the store about one job. After an outage thousands may have ended since a look."""
        async with self._asking:
            return await self._store.in_thread(question, *arguments)

    def _may_wait(self, job_id: str) -> bool:
        """Return whether there is time to read the rest of an ended job's events."""
        since = self._ended.setdefault(job_id, time.monotonic())
        return time.monotonic() - since < LONGEST_READING

    async def _try_events(self, job: Job, final: bool) -> tuple[Report, str, bool]:
        """Read events, or say why that cannot be done; and whether that was all there is."""
        try:
            report, is_whole, problem = await self._read_events(job, final)
        except Exception as error:  # whatever it is, the job's state is known without it
            self._complain(error, job.id)
            return Report(), _words(error), isinstance(error, SpoiledFileError)
        return report, problem, is_whole

    async def _read_events(self, job: Job, final: bool) -> tuple[Report, bool, str]:
        """Read a bounded amount of what the job has told since the last look, or all of it.

        Return that, whether it is all, and which of the job's files cannot be read.
        """
        report, is_whole, problem = Report(), False, ""
        for _ in range(PIECES_PER_LOOK):
            offset = job.events_offset + report.consumed
            async with self._reading:
                chunk = await self._executor.read(job.executor_ref, "events", offset, PIECE)
            problem = chunk.problem
            if not chunk.data:
                is_whole = True
                break
            if final and (surplus := chunk.size - offset - _MOST_EVENTS) > 0:
                words = f"{surplus:,} bytes of events were passed over: there are too many"
                told = JobEvent(time=utc_now(), step="monitor", kind="warning", message=words)
                report += Report(events=(told,), consumed=surplus)
                continue
            last = chunk.offset + len(chunk.data) >= chunk.size
            if len(chunk.data) > READ_INLINE:
                piece = await asyncio.to_thread(read_events, chunk.data, final=final and last)
            else:
                piece = read_events(chunk.data, final=final and last)
            if not piece.consumed and len(chunk.data) == PIECE:
                piece = replace(piece, consumed=PIECE, unreadable=1)
            report += piece
            if last or not piece.consumed:
                is_whole = True
                break
        if report.unreadable:
            logger.warning(
                "monitor: %d lines were no events", report.unreadable, extra={"job_id": job.id}
            )
        return report, is_whole, problem


def _compose_change(
    job: Job, state: JobState | None, values: dict[str, Any], report: Report
) -> JobChange | None:
    """Compose a change of what is new; None where nothing is. No state leaves the state alone."""
    place = job.events_offset if report.consumed else None
    if place is not None:
        values = {**values, "events_offset": place + report.consumed}
    changed = {name: value for name, value in values.items() if not _is_recorded(job, name, value)}
    if state in (None, job.state) and not changed and not report.events:
        return None
    return JobChange(job.id, state, changed, report.events, from_offset=place)


def _words(error: Exception) -> str:
    """Say why a job cannot be followed; only words that were written for people are shown."""
    text = str(error) if isinstance(error, TransferServiceError) else _UNREADABLE
    return str(recorded("reason", text))


def _is_recorded(job: Job, name: str, value: Any) -> bool:
    """Return whether a value of a job is as it was recorded, without secrets and cut to size."""
    found = getattr(job, name)
    return bool(found == value or found == recorded(name, value))


def _still_waits(job: Job, status: RunStatus) -> bool:
    """Tell whether a job waits as it did; of thousands of live jobs most do."""
    return (
        job.state is JobState.PENDING
        and status.state is RunState.PENDING
        and job.executor_ref == status.ref
        and _is_recorded(job, "reason", status.reason)
        and (job.started_at, job.node) == (None, "")
        and (status.exit_code, status.started_at, status.ended_at) == (None, None, None)
    )
