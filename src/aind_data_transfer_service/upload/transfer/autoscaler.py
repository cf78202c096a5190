"""How many threads send small files: as many as make them arrive faster, which is tried out.

A thread that mostly waits, for the drive or for the store, is a reason to have more of them. But it
may have waited for a moment only, or for the other threads, of which Python runs one at a time. So
more are taken on for a while, and sent away again where they were of no use.
"""

import threading
import time
from collections.abc import Callable

_GAIN = 1.1
"""By so much more has to arrive for more threads to stay."""
_TRIAL, _BATCHES = 0.5, 2
"""They are given so many seconds at least, and all threads so many batches each."""
_PAUSE, _LONGEST = 5.0, 300.0
"""Seconds from one attempt that was of no use to the next; twice as long each time."""
_MEMORY = 4.0
"""The rate is that of about so many seconds."""


class Crew:
    """The threads of one lane. It begins with one.

    Parameters
    ----------
    most : int
        How many there may be.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._size = self._wanted = 1
        self._before: tuple[int, float] | None = None
        self._since, self._files, self._batches = clock(), 0.0, 0
        self._pause, self._next = _PAUSE, clock()

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    def review(self, files: int, more: int) -> tuple[int, bool]:
        """Take account of a batch.

        Parameters
        ----------
        files : int
            How many files have arrived with it.
        more : int
            How many further threads would be of use, as far as the one that sent it can tell.

        Returns
        -------
        tuple[int, bool]
            How many threads to start now, and whether the one that asks has to end.
        """
        with self._lock:
            now = self._clock()
            self._files, self._batches = self._files + files, self._batches + 1
            if self._before is not None:
                self._judge(now, *self._before)
            elif more > 0 and now >= self._next and self._wanted < self._most:
                self._before = self._wanted, self._rate(now)
                self._wanted = min(self._most, self._wanted + more)
                self._begin(now)
            elif now - self._since > _MEMORY:
                self._since, self._files = now - _MEMORY / 2, self._rate(now) * _MEMORY / 2
            if self._size > self._wanted:
                self._size -= 1
                return 0, True
            started, self._size = self._wanted - self._size, self._wanted
            return started, False

    def refused(self, count: int) -> None:
        """Go on with the threads that there are: the system did not let others be started."""
        with self._lock:
            self._size -= count
            self._most = self._wanted = self._size
            self._before = None

    def _judge(self, now: float, size: int, rate: float) -> None:
        """Tell whether those that were taken on stay, once it can be told."""
        if now - self._since < _TRIAL or self._batches < _BATCHES * self._wanted:
            return
        self._before = None
        if self._rate(now) < _GAIN * rate:
            self._wanted, self._next = size, now + self._pause
            self._pause = min(_LONGEST, 2 * self._pause)
            self._since, self._files = now - _TRIAL, rate * _TRIAL
        else:
            self._pause = _PAUSE

    def _begin(self, now: float) -> None:
        """Begin to count."""
        self._since, self._files, self._batches = now, 0.0, 0

    def _rate(self, now: float) -> float:
        """Tell how many files have arrived each second."""
        return self._files / max(1e-6, now - self._since)
