"""What a cluster says of its partitions, nodes and qualities of service, asked once in a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.slurm.partition_limits import ClusterLimits
from aind_data_transfer_service.slurmrest.client import SlurmClient

T = TypeVar("T")
LONGEST_AGE = 60.0
"""Seconds for which an answer is used."""
_RETRY = 10.0
"""Seconds after an answer without partitions, or none, until the same is asked again."""


class KnownLimits:
    """Remembers what a cluster allows.

    Parameters
    ----------
    client : SlurmClient
        Asks slurmrestd.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(self, client: SlurmClient, clock: Callable[[], float] = time.monotonic):
        self._client = client
        self._clock = clock
        self._limits = ClusterLimits()
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._ask_again_at: dict[str, float] = {}

    @property
    def age(self) -> float:
        """Seconds since the cluster was asked."""
        return self._clock() - self._asked_at

    @property
    def latest(self) -> ClusterLimits:
        """The latest answer, however old it is; empty if there was none."""
        return self._limits

    async def get(self, seconds: float, max_age: float = LONGEST_AGE) -> ClusterLimits:
        """Return what the cluster allows; whatever it does not say in time is empty.

        Parameters
        ----------
        seconds : float
            How long to wait for answers.
        max_age : float
            How many seconds old an earlier answer may be. One without partitions is used for ten
            seconds, so that a cluster that is away does not delay each submission. For as long,
            nodes and qualities of service that were not told in time are not asked for again.
        """
        if not self._is_older(max_age):  # without waiting for others
            return self._limits
        async with self._asking:
            if self._is_older(max_age):
                self._limits = await self._ask(seconds)
                self._asked_at = self._clock()
            return self._limits

    def _is_older(self, max_age: float) -> bool:
        """Return whether the answer at hand is too old to be used."""
        return self.age >= (max_age if self._limits.partitions else _RETRY)

    async def _ask(self, seconds: float) -> ClusterLimits:
        """Ask for everything at once; each answer counts by itself."""
        client = self._client
        partitions, nodes, qos = await asyncio.gather(
            self._answer("partitions", client.partitions, seconds),
            self._answer("nodes", client.nodes, seconds),
            self._answer("qos", client.qos, seconds),
        )
        are_told = partitions is not None and nodes is not None
        return ClusterLimits(tuple(partitions or ()), tuple(nodes or ()), qos or None, are_told)

    async def _answer(self, name: str, ask: Callable[[], Awaitable[T]], seconds: float) -> T | None:
        """Wait for an answer, unless there was none a moment ago; None if there is none."""
        if self._clock() < self._ask_again_at.get(name, float("-inf")):
            return None
        try:
            async with asyncio.timeout(seconds):
                return await ask()
        except (TimeoutError, ExecutorError):  # Slurm itself refuses what it does not have
            self._ask_again_at[name] = self._clock() + _RETRY
            return None
