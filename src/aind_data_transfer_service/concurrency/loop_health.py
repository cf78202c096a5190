"""Whether the service's loops are alive."""

import time
from collections.abc import Callable
from typing import Protocol

_ROUNDS = 3


class Heartbeat:
    """Says whether a loop comes round as often as it should.

    Parameters
    ----------
    interval : float
        Seconds from the end of one round to the next; `beat` can change it.
    longest : float
        Seconds that one round may take if every answer comes just within its time limit.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(
        self,
        interval: float,
        longest: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._interval = interval
        self._longest = longest
        self._clock = clock
        self._last = clock()

    def beat(self, interval: float | None = None) -> None:
        """Note that a round is over, however it went, and when the next is due if that changed."""
        self._last = self._clock()
        if interval is not None:
            self._interval = interval

    @property
    def is_late(self) -> bool:
        """Whether no round was completed for three intervals, and the time that one may take."""
        patience = _ROUNDS * self._interval + self._longest
        return self._clock() - self._last > patience


class Loop(Protocol):
    """Work that goes on as long as the service does, round after round."""

    heartbeat: Heartbeat

    async def run(self) -> None:
        """Make one round after another."""
        ...
