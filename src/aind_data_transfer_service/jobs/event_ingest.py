"""Events that jobs bring to the service themselves, rather than leave in a file for it to find.

What is brought is the file of events itself, piece by piece, each with its place in the file. A
piece is taken only where the record ends. So it does not matter who is faster, the job or the
monitor that reads the file: nothing is told twice, and nothing is left out.
"""

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aind_data_transfer_service.errors import EventsElsewhere
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.event_parser import PIECE, Report, read_events, reason_of_end
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.polling import Pace
from aind_data_transfer_service.jobs.states import ENDED, JobState
from aind_data_transfer_service.jobs.store.job_store import JobChange, JobStore

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Of so many jobs it is remembered that they told of their ends."""
_CLOSED = ENDED - {JobState.UNKNOWN}


class Outcome(Enum):
    """What became of a piece."""

    TAKEN = "taken"
    ELSEWHERE = "it does not begin where the record ends"
    OVER = "the job has ended"


@dataclass(frozen=True)
class Receipt:
    """The answer to whoever brought a piece."""

    outcome: Outcome
    position: int
    """Where in the file of events the record ends now, in bytes."""


class Inbox:
    """Takes events in.

    Parameters
    ----------
    store : JobStore
        Where they are recorded.
    feed : Feed
        Who hears of them.
    pace : Pace, optional
        Hastened when a job tells of its end, so that the executor is asked for it soon.
    """

    def __init__(self, store: JobStore, feed: Feed, pace: Pace | None = None):
        self._store = store
        self._feed = feed
        self._pace = pace
        self._told: dict[str, Job] = {}
        self._ends: dict[str, None] = {}

    async def take(self, job_id: str, offset: int, data: bytes) -> Receipt:
        """Take a piece in: whole lines that begin at `offset`.

        A job whose end nobody knew gets the end that it tells of.

        Raises
        ------
        JobNotFound
            Where no job has this id.
        """
        job = await self._store.in_thread(self._store.get, job_id)
        if job.state in _CLOSED:
            return Receipt(Outcome.OVER, job.events_offset)
        if offset != job.events_offset:
            return Receipt(Outcome.ELSEWHERE, job.events_offset)
        report = await asyncio.to_thread(read_events, data)
        if not report.consumed and len(data) >= PIECE:  # too long to be an event
            report = Report(consumed=len(data), unreadable=1)
        if not report.consumed:
            return Receipt(Outcome.TAKEN, offset)
        if report.unreadable:
            logger.warning("callback: %d lines were no events", report.unreadable, extra=_of(job))
        applied = await self._store.in_thread(self._store.apply, [_change(job, report)])
        for error in applied.refused.values():
            if not isinstance(error, EventsElsewhere):
                raise error
            job = await self._store.in_thread(self._store.get, job_id)
            return Receipt(Outcome.ELSEWHERE, job.events_offset)
        [job] = applied.jobs
        self._told[job_id] = job
        self._feed.publish([job])
        if report.failure or report.is_done:
            self._ends[job_id] = None
            if len(self._ends) > _REMEMBERED:
                del self._ends[next(iter(self._ends))]
            if self._pace is not None:
                self._pace.hasten()
        return Receipt(Outcome.TAKEN, job.events_offset)

    def forget(self) -> None:
        """Let go of what came before now: whoever reads the record after this finds it there."""
        self._told.clear()

    def has_told_end(self, job_id: str) -> bool:
        """Return whether a job told of its end here."""
        return job_id in self._ends

    def newer(self, job: Job) -> Job:
        """Give a job as it is with what came since it was read."""
        told = self._told.get(job.id, job)
        return told if told.events_offset > job.events_offset else job


def _change(job: Job, report: Report) -> JobChange:
    """Decide what to record."""
    values: dict[str, Any] = {
        **report.values,
        "events_offset": job.events_offset + report.consumed,
    }
    state = None
    if job.state is JobState.UNKNOWN and (report.failure or report.is_done):
        state = JobState.FAILED if report.failure else JobState.COMPLETED
        run_state = RunState.FAILED if report.failure else RunState.COMPLETED
        values["reason"] = reason_of_end(RunStatus("", run_state), report.failure, "")
        values["seconds_left"] = None
    return JobChange(job.id, state, values, report.events, from_offset=job.events_offset)


def _of(job: Job) -> dict[str, str]:
    """Name a job in a line of the log."""
    return {"job_id": job.id}
