"""Being, or waiting to become, the process that runs the jobs.

One process at a time holds the lease of the database (`jobs.store.service_lease`) and runs the
loops that start and follow jobs. The others stand by: they serve pages and record submissions, and
take over when the lease is released or expires.

Times here are counted on a clock that also runs while the process, or the machine, is suspended. So
a process that was suspended for longer than its lease knows that before it does anything else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import LeaseLostError, StoreUnavailable, TransferServiceError
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.store.service_lease import LOST, LeaseState

logger = logging.getLogger(__name__)

_RELEASE_SECONDS = 3.0
_STALE = "the lease of this process could not be renewed in time; it stands by until it can"
_STOPPED_CLOCK = (
    "its holder has stopped renewing it, although by the database's clock it has not expired: that "
    "clock was probably set back; this process takes over"
)
_ELSEWHERE = (
    "jobs that run on another machine have not ended, and only a service with the DATA_DIR of that "
    "machine can follow them; see the administrator's guide"
)


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How long the lease lasts, in seconds."""

    ttl: float = 15.0
    """Without a renewal for this long, another process takes over."""
    interval: float = 2.0
    """Between two renewals, or two looks of a process that stands by."""
    margin: float = 3.0
    """So long before the expiry a holder stops, for what it has just begun to end."""


def suspended_clock() -> float:
    """Return seconds that only grow, also while the machine is suspended where the system tells."""
    number = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(number)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a process says of itself when it asks for the lease."""

    name: str
    """Host and process id, for people."""
    place: str = ""
    """Id of the folder in which it runs jobs on its own machine; empty on a cluster."""
    is_dead: Callable[[str], bool] = lambda _: False
    """Returns whether the process with an id is known to be dead."""


@dataclass(frozen=True, slots=True)
class Duties:
    """What the holder of the lease does."""

    begin: Callable[[int], Awaitable[None]]
    """Begins to run jobs, with the fencing number."""
    end: Callable[[], Awaitable[None]]
    """Stops running jobs."""


class Leader:
    """Keeps the lease while this process holds it, and takes it when it can.

    Parameters
    ----------
    store : JobStore
        Whose jobs are run.
    candidate : Candidate
        This process.
    duties : Duties
        What the holder does.
    timing : LeaseTiming
        How long the lease lasts.
    clock : Callable
        Seconds that only grow.

    Attributes
    ----------
    state : LeaseState, optional
        The lease as it was last read.
    obstacle : str
        Why this process does not take over although nobody holds the lease.
    """

    def __init__(
        self,
        store: JobStore,
        candidate: Candidate,
        duties: Duties,
        timing: LeaseTiming = LeaseTiming(),
        clock: Callable[[], float] = suspended_clock,
    ):
        self._store = store
        self._lease = store.lease
        self._candidate = candidate
        self._duties = duties
        self._timing = timing
        self._clock = clock
        self._fencing = 0
        self._valid_until = 0.0
        self._trouble = ""
        self._read_at = self._unchanged_since = 0.0
        self.state: LeaseState | None = None
        self.obstacle = ""
        self.heartbeat = Heartbeat(timing.interval, timing.ttl)

    @property
    def is_active(self) -> bool:
        """Whether this process holds the lease and may start and cancel jobs."""
        return bool(self._fencing) and self._clock() < self._valid_until

    @property
    def active_name(self) -> str:
        """The process that runs the jobs, as far as is known; empty if none does."""
        state = self.state
        if state is None or not state.holder:
            return ""
        elapsed = self._clock() - self._read_at
        return state.name if state.seconds_left > elapsed else ""

    @property
    def vacancy(self) -> str:
        """Why no process runs the jobs; empty if one does."""
        return "" if self.active_name else self.obstacle or "another one takes over in a moment"

    @property
    def absence(self) -> str:
        """Why recorded jobs wait for a process to take the lease; empty if one has it."""
        if not (why := self.vacancy):
            return ""
        return f"no process of the service runs jobs now: {why}; the job starts when one does"

    @property
    def active_since(self) -> datetime | None:
        """Since when that process runs them; None if none does."""
        return self.state.since if self.state is not None and self.active_name else None

    def check(self) -> None:
        """Raise `LeaseLostError` unless this process may start and cancel jobs."""
        if not self.is_active:
            raise LeaseLostError(LOST)

    async def start(self) -> None:
        """Take the lease if it can be had, and begin; raise what prevents the beginning."""
        await self._try_to_acquire()

    async def run(self) -> None:
        """Renew the lease, or look whether it can be taken, again and again."""
        while True:
            await asyncio.sleep(self._timing.interval)
            try:
                await self.round()
            except Exception as error:  # the next round may fare better
                self._complain(error)
            else:
                if self._trouble:
                    logger.warning("service lease: the database answers again")
                self._trouble = ""
            self.heartbeat.beat()

    async def round(self) -> None:
        """Renew the lease or try to take it; stop running jobs if it is lost."""
        try:
            if self._fencing:
                await self._renew()
            else:
                await self._try_to_acquire()
        finally:
            if self._fencing and not self.is_active:
                await self._lose(_STALE)

    async def stop(self) -> None:
        """Stop running jobs, and release the lease for another process to take over at once."""
        fencing, self._fencing = self._fencing, 0
        await self._duties.end()
        if not fencing:
            return
        try:
            await self._store.in_thread(
                self._lease.release, fencing, pool="lease", seconds=_RELEASE_SECONDS
            )
        except Exception as error:  # it expires
            logger.warning("service lease: it could not be released: %s", error)

    async def _renew(self) -> None:
        """Put off the expiry, or learn that another process has taken over."""
        asked_at = self._clock()
        seconds = max(0.0, self._valid_until - asked_at)
        state = await self._store.in_thread(
            self._lease.renew, self._fencing, self._timing.ttl, pool="lease", seconds=seconds
        )
        if state is None:
            await self._lose(LOST)
            self._note(await self._store.in_thread(self._lease.read, pool="lease"))
            return
        self._note(state)
        self._valid_until = asked_at + self._timing.ttl - self._timing.margin

    async def _try_to_acquire(self) -> None:
        """Take the lease if it can be had, and begin to run jobs."""
        lease, candidate = self._lease, self._candidate
        before = await self._store.in_thread(lease.read, pool="lease")
        self._note(before)
        stale = before.expires if self._is_stale() else None
        if (
            before.is_held
            and before.holder != lease.holder
            and stale is None
            and not candidate.is_dead(before.holder)
        ):
            self.obstacle = ""
            return
        asked_at = self._clock()
        before_us = await self._store.in_thread(
            lease.acquire,
            self._timing.ttl,
            candidate.name,
            candidate.place,
            candidate.is_dead,
            stale,
            pool="lease",
        )
        state = await self._store.in_thread(lease.read, pool="lease")
        self._note(state)
        if before_us is None:
            is_taken = state.is_held and state.expires != stale
            self._note_obstacle("" if is_taken else _ELSEWHERE)
            return
        if before_us.is_held and before_us.expires == stale:
            logger.warning("service lease: %s", _STOPPED_CLOCK)
        self._note_obstacle("")
        self._fencing = state.fencing
        self._valid_until = asked_at + self._timing.ttl - self._timing.margin
        try:
            self.check()
            await self._duties.begin(self._fencing)
        except BaseException:
            await self.stop()
            raise
        logger.info("service lease: this process runs the jobs (number %d)", self._fencing)

    async def _lose(self, why: str) -> None:
        """Stop running jobs; another process does, or is going to."""
        self._fencing = 0
        logger.warning("service lease: %s", why)
        await self._duties.end()

    def _note(self, state: LeaseState) -> None:
        """Keep the lease as it was read."""
        known, self.state, self._read_at = self.state, state, self._clock()
        if known is None or (known.fencing, known.expires) != (state.fencing, state.expires):
            self._unchanged_since = self._read_at

    def _is_stale(self) -> bool:
        """Return whether the lease was not renewed for longer than it lasts, by our own clock.

        The database's clock may have been set back since the last renewal.
        """
        return self._read_at - self._unchanged_since > self._timing.ttl + self._timing.margin

    def _note_obstacle(self, obstacle: str) -> None:
        """Note, and log once, why this process does not take over."""
        if obstacle and obstacle != self.obstacle:
            logger.warning("service lease: %s", obstacle)
        self.obstacle = obstacle

    def _complain(self, error: Exception) -> None:
        """Log what went wrong; what goes wrong in each round, only once."""
        if repr(error) != self._trouble:
            worded = isinstance(error, TransferServiceError | StoreUnavailable)
            logger.error("service lease: %s", error, exc_info=None if worded else error)
        self._trouble = repr(error)
