"""How long to wait between two looks at the executor."""

import asyncio

_SHARE = 0.1
"""Of the interval, the wait after a submission or cancellation."""


class Pace:
    """Waits longer while nothing changes, and shorter after something was asked of the executor.

    Parameters
    ----------
    interval : float
        Seconds between two looks while jobs change.
    longest : float, optional
        Seconds between two looks while nothing changes; as long as `interval` if left out.
    """

    def __init__(self, interval: float, longest: float | None = None):
        self.interval = interval
        self._longest = interval if longest is None else max(interval, longest)
        self._shortest = interval if self._longest == interval else _SHARE * interval
        self.delay = interval
        self._wake = asyncio.Event()

    def hasten(self) -> None:
        """Look soon, because something is about to change."""
        self.delay = self._shortest
        self._wake.set()

    def note(self, changed: bool) -> None:
        """Take a look's result into account: whether anything had changed."""
        if self._wake.is_set():  # hastened since the look began
            return
        limit = self.interval if changed else self._longest
        self.delay = min(2 * self.delay, limit)

    async def wait(self) -> None:
        """Wait until the next look is due."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.delay
        while (left := due - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return
            self._wake.clear()
            due = min(due, loop.time() + self.delay)
