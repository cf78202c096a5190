"""What one process of the service learns of what another one did, by the database alone."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.store.threads import ANSWER_SECONDS

if TYPE_CHECKING:
    from aind_data_transfer_service.jobs.store.job_store import JobStore

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the database."""
_OVERLAP = timedelta(seconds=30)
"""Changes are looked for so far back: the clocks of two machines differ, and commits take time."""


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
