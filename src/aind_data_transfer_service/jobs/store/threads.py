"""Threads for questions to the database, and how long an answer is waited for.

A database that hangs keeps the threads that ask it. So it has threads of its own, few of them, and
a caller waits for a limited time. The lease and the health checks have their own, because they
must not wait behind the pages.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")
PoolName = Literal["work", "lease", "probe"]

ANSWER_SECONDS = 10.0
"""Seconds that an answer of the database is waited for."""
LONG_WRITE_SECONDS = 60.0
"""Seconds in which thousands of jobs are recorded."""
_SIZES: dict[PoolName, int] = {"work": 8, "lease": 1, "probe": 2}
_MOST_WAITING = 1000
"""Questions that may wait for a thread; further ones are refused at once."""


class StoreThreads:
    """The threads of one store."""

    def __init__(self) -> None:
        self._pools = {name: Pool(size, f"store {name}") for name, size in _SIZES.items()}
        self._waiting = dict.fromkeys(_SIZES, 0)

    async def run(self, name: PoolName, work: Callable[[], T], seconds: float) -> T:
        """Do something in a thread, and wait for its answer.

        Parameters
        ----------
        name : str
            Which threads do it.
        work : Callable
            What is done. It is not interrupted if it takes too long.
        seconds : float
            How long the answer is waited for.

        Raises
        ------
        StoreUnavailable
            If there is no answer in time, or too many questions wait already.
        """
        if self._waiting[name] >= _MOST_WAITING:
            raise StoreUnavailable("the database is overloaded: too many questions wait for it")
        self._waiting[name] += 1
        submitted = self._pools[name].submit(work)
        answer = asyncio.wrap_future(submitted)
        answer.add_done_callback(_take_error)  # it may come when nobody waits any more
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            if answer.done() and not answer.cancelled() and answer.exception() is error:
                raise  # the work itself raised it
            submitted.cancel()  # if it has not begun
            raise StoreUnavailable(
                f"the database did not answer within {seconds:.3g} s; see DATABASE_URL"
            ) from None
        finally:
            self._waiting[name] -= 1

    def close(self) -> None:
        """Drop what has not begun, and let the threads end."""
        for pool in self._pools.values():
            pool.close()


def _take_error(answer: asyncio.Future[Any]) -> None:
    """Take the error of an answer, so that asyncio does not log it as forgotten."""
    if not answer.cancelled():
        answer.exception()
