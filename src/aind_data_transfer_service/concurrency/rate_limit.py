"""Rate limit: a token bucket with a clock that is passed in."""

import threading
import time
from collections.abc import Callable

REQUESTS_PER_SECOND = 3500
"""What Amazon takes of writing requests beneath one prefix (its guide, "Optimizing Amazon S3
performance"). Other servers say so when they have enough, and are obeyed."""
_SMOOTH = 0.05
"""Seconds' worth of tokens that may gather: more would come as a burst."""


class TokenBucket:
    """Lets through so many a second, from all threads together.

    Parameters
    ----------
    rate : float
        How many a second.
    clock, sleep : Callable
        Seconds that only grow, and a way to spend some.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.rate = rate
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock()

    def take(self, count: float = 1, halt: threading.Event | None = None) -> None:
        """Wait until so many may go, or until `halt` is set."""
        with self._lock:
            now = self._clock()
            begin = max(self._next, now - _SMOOTH)
            self._next = begin + count / self.rate
        if begin > now:
            (self._sleep if halt is None else halt.wait)(begin - now)
