"""How much may be on its way at once, and how fast.

Bytes per second and requests per second are token buckets with a clock that is passed in; memory
and connections are shared out between the small files and the parts of large ones.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.errors import CancelledError

_SLOW_LINK, _SLOW_ANSWER = 800e6, 0.002
"""Whoever sends parts waits for the link where fewer bytes than this go out each second, or for the
store where its answer takes longer than so many seconds."""
_LATEST = 0.2
"""What the part that was sent last counts for in the averages of both."""


def cores() -> int:
    """Tell how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Lane(StrEnum):
    """What a connection is used for."""

    SMALL = "small"
    """Files that travel in one request."""
    LARGE = "large"
    """Parts of larger ones."""


class Traffic:
    """What one transfer may have on its way: bytes in memory, and connections.

    Each lane may use half of the connections while the other has work, and all of them once it
    has none.

    Parameters
    ----------
    connections : int
        How many requests are on their way at once.
    memory : int
        How many bytes may be between source and destination at once.
    halt : Halt | None
        Stops the transfer together with the rest of the job.
    """

    def __init__(self, connections: int, memory: int, halt: Halt | None = None):
        self._connections, self._memory = connections, memory
        self._free = memory
        self._used = dict.fromkeys(Lane, 0)
        self._idle = set(Lane)
        self._changed = threading.Condition()
        self._workers = 0
        self._sending = self._answering = 0.0
        self._cores = cores()
        self._is_winding_down = False
        self.halt = threading.Event()
        """Once it is set, everything on its way breaks off."""
        if halt is not None:
            halt.on_wind_down(self.wind_down)
            halt.listen(self.stop)

    @property
    def connections(self) -> int:
        """How many requests are on their way at once."""
        return self._connections

    @property
    def memory_size(self) -> int:
        """How many bytes may be between source and destination at once."""
        return self._memory

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Count a thread that reads files and sends them, as long as it does."""
        with self._changed:
            self._workers += 1
        try:
            yield
        finally:
            with self._changed:
                self._workers -= 1

    @property
    def sends_apart(self) -> bool:
        """Whether parts are sent by threads of their own, while their files are read on.

        That is of use where the link is waited for, or a core has nothing to do. Else the thread
        that has just read a part sends it at the least cost.
        """
        waits = self._sending > 1 / _SLOW_LINK or self._answering > _SLOW_ANSWER
        return waits or self._workers < self._cores

    def note(self, size: int, sending: float, answering: float) -> None:
        """Note how many seconds a part of so many bytes took to be sent, and to be answered."""
        with self._changed:
            self._sending += _LATEST * (sending / size - self._sending)
            self._answering += _LATEST * (answering - self._answering)

    def stop(self) -> None:
        """Break off everything that is on its way, and let nothing set out any more."""
        self.halt.set()
        with self._changed:
            self._changed.notify_all()

    def wind_down(self, seconds: float) -> bool:
        """Give out no more connections, and wait until none is in use.

        Parameters
        ----------
        seconds : float
            How long to wait at most.

        Returns
        -------
        bool
            False if nothing is being sent: not yet, no longer, or because it has broken off.
        """
        with self._changed:
            if self._idle == set(Lane):
                return False
            self._is_winding_down = True
            self._changed.wait_for(
                lambda: self.halt.is_set() or not any(self._used.values()), seconds
            )
            return not self.halt.is_set()

    def begin(self, lane: Lane) -> None:
        """Note that a lane has work."""
        with self._changed:
            self._idle.discard(lane)

    def end(self, lane: Lane) -> None:
        """Note that a lane has no more work: the other gets its connections."""
        with self._changed:
            self._idle.add(lane)
            self._changed.notify_all()

    def seats_left(self, lane: Lane) -> int:
        """Tell how many more connections a lane may use."""
        with self._changed:
            return self._seats(lane)

    @contextmanager
    def seat(self, lane: Lane) -> Iterator[None]:
        """Hold a connection for a while."""
        with self._changed:
            if self._seats(lane) <= 0:
                self._wait_for(lambda: self._seats(lane) > 0)
            self._used[lane] += 1
        try:
            yield
        finally:
            with self._changed:
                self._used[lane] -= 1
                self._changed.notify_all()

    @contextmanager
    def place(self, size: int, wanted: int = 1) -> Iterator[int]:
        """Hold the memory that small files take, and connections for them: one at least.

        Parameters
        ----------
        size : int
            How many bytes they have together.
        wanted : int
            How many connections would be of use.

        Yields
        ------
        int
            How many it has.
        """
        size = min(size, self._memory)

        def is_free() -> bool:
            return self._free >= size and self._seats(Lane.SMALL) > 0

        with self._changed:
            if not is_free():
                self._wait_for(is_free)
            seats = min(wanted, self._seats(Lane.SMALL))
            self._free -= size
            self._used[Lane.SMALL] += seats
        try:
            yield seats
        finally:
            with self._changed:
                self._free += size
                self._used[Lane.SMALL] -= seats
                self._changed.notify_all()

    def take(self, size: int) -> int:
        """Wait for so many bytes of memory; a wish for more than there are is granted alone.

        Returns
        -------
        int
            How many are to be given back.
        """
        size = min(size, self._memory)
        with self._changed:
            if self._free < size:
                self._wait_for(lambda: self._free >= size)
            self._free -= size
        return size

    def give(self, size: int) -> None:
        """Give bytes of memory back."""
        with self._changed:
            self._free += size
            self._changed.notify_all()

    @contextmanager
    def memory(self, size: int) -> Iterator[None]:
        """Hold bytes of memory for a while."""
        held = self.take(size)
        try:
            yield
        finally:
            self.give(held)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait, but not beyond the end of the transfer."""
        self._changed.wait_for(lambda: self.halt.is_set() or condition())
        if self.halt.is_set():
            raise CancelledError("the transfer was stopped")

    def _seats(self, lane: Lane) -> int:
        """Tell how many more connections a lane may use."""
        if self._is_winding_down:
            return 0
        other = Lane.LARGE if lane is Lane.SMALL else Lane.SMALL
        used = self._used[lane]
        free = self._connections - used - self._used[other]
        if other in self._idle:
            return free
        return min(free, max(1, self._connections // 2) - used)
