"""What one process of the service learns of what another one did, by the database alone."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.loop_health import Heartbeat
from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import ACTIVE, JobState
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database
from aind_data_transfer_service.jobs.store.threads import ANSWER_SECONDS

if TYPE_CHECKING:
    from aind_data_transfer_service.jobs.store.job_store import JobStore

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the database."""
_MOST_CHANGES = 500
_OVERLAP = timedelta(seconds=30)
"""Changes are looked for so far back: the clocks of two machines differ, and commits take time."""


class Requests:
    """Questions about what users asked for, and what was done.

    Parameters
    ----------
    database : Database
        Where the jobs are recorded.
    """

    def __init__(self, database: Database):
        self._database = database

    def waiting(self) -> list[str]:
        """List the jobs that were recorded and not handed over."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == JobState.SUBMITTED.value, jobs.c.executor_ref == "")
            .order_by(jobs.c.seq)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def in_doubt(self) -> list[str]:
        """List the jobs that may have been sent to the executor, and have no reference."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == JobState.SUBMITTED.value, jobs.c.executor_ref == "")
            .where(jobs.c.executor != "")
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def open(self) -> frozenset[tuple[str, str]]:
        """List what waits to be done for users: jobs to be handed over, and to be cancelled."""
        jobs = tables.jobs
        states = sorted(state.value for state in ACTIVE)
        to_cancel = sa.select(jobs.c.id).where(
            jobs.c.state.in_(states), jobs.c.cancel_requested.is_(True)
        )
        with self._database.reading() as connection:
            found = {("cancel", job_id) for job_id in connection.scalars(to_cancel)}
        return frozenset(found | {("start", job_id) for job_id in self.waiting()})

    def changed(self, since: datetime) -> list[tuple[str, datetime]]:
        """List the jobs that were changed since a moment, and when."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id, jobs.c.updated_at)
            .where(jobs.c.updated_at >= since)
            .order_by(jobs.c.updated_at.desc())
            .limit(_MOST_CHANGES)
        )
        with self._database.reading() as connection:
            return [(row.id, row.updated_at) for row in connection.execute(query)]


class Replicas:
    """Keeps this process in step with the others.

    Parameters
    ----------
    store : JobStore
        Where jobs are recorded.
    feed : Feed
        Who hears of changes.
    wake : Callable
        Returns whether this process runs the jobs; is passed whether something new waits, and
        then has them looked at.
    interval : float
        Seconds between two looks at the database.
    """

    def __init__(
        self,
        store: "JobStore",
        feed: Feed,
        wake: Callable[[bool], bool],
        interval: float = INTERVAL,
    ):
        self._store, self._feed, self._wake, self._interval = store, feed, wake, interval
        self._open: frozenset[tuple[str, str]] = frozenset()
        self._known: dict[str, datetime] = {}
        self._since: datetime | None = None
        self._trouble = ""
        self.heartbeat = Heartbeat(interval, 2 * ANSWER_SECONDS)

    async def run(self) -> None:
        """Look again and again, whatever goes wrong with one look; it is logged once."""
        while True:
            try:
                await self.look()
                self._trouble = ""
            except Exception as error:  # the next look may fare better
                if repr(error) != self._trouble:
                    logger.error("replicas: %s", error)
                self._trouble = repr(error)
            self.heartbeat.beat()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Pass on what other processes recorded: to the job monitor, or to the open pages."""
        found = await self._store.in_thread(self._store.requests.open)
        is_new, self._open = bool(found - self._open), found
        if not self._wake(is_new):
            await self._tell_changes()

    async def _tell_changes(self) -> None:
        """Tell the open pages of this process what the one that runs the jobs recorded."""
        if not len(self._feed):
            self._since = None
            return
        if self._since is None:
            self._since, self._known = utc_now() - _OVERLAP, {}
        found = await self._store.in_thread(self._store.requests.changed, self._since)
        new = [job_id for job_id, changed in found if self._known.get(job_id) != changed]
        if found:
            self._since = max(self._since, found[0][1] - _OVERLAP)
        self._known = dict(found)
        if new:
            self._feed.publish(await self._store.in_thread(self._store.get_many, new))
