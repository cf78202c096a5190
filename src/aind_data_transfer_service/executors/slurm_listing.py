"""What Slurm lists, asked for as seldom as will do.

A list of all jobs is expensive for slurmrestd, which writes some kilobytes for each job of every
user: with thousands of jobs, seconds of CPU time. So after each list there is a rest that grows
with the time that the list took; meanwhile jobs are asked for one by one, or not at all.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.hpc.client import SlurmClient
from aind_data_transfer_service.hpc.models import JobList, SlurmJob

FEW = 16
"""Up to so many jobs are asked for one by one, rather than with those of all users."""
WHOLE_SECONDS = 60.0
"""How old the list of all jobs may be while jobs are asked for one by one."""
SHARE = 0.04
"""How much of the time slurmrestd may spend on lists of all jobs."""
LONGEST_REST = 120.0
"""Seconds between two lists of all jobs at most, however long a list takes."""
_SECONDS_PER_JOB = 0.0005
"""CPU time of slurmrestd for each job in a list: 0.2 ms with Slurm 22.05, 0.5 ms with 26.05. An
answer that takes longer was waited for, because the machine is busy, say."""
_SKEW = timedelta(seconds=120)
"""How far our clock may be ahead of Slurm's, where Slurm does not date its list."""
_TRUST_SECONDS = 300.0
"""How long Slurm is believed that nothing has changed, where it does not date its list."""


class Listing:
    """Asks Slurm for jobs.

    Parameters
    ----------
    client : SlurmClient
        Who speaks to slurmrestd.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(self, client: SlurmClient, clock: Callable[[], float] = time.monotonic):
        self._client = client
        self._clock = clock
        self._as_of: datetime | None = None
        self._trusted_until = 0.0
        self._read_at: float | None = None
        self._rests_until = 0.0

    @property
    def is_recent(self) -> bool:
        """Whether the list of all jobs was read less than a minute ago."""
        return self._read_at is not None and self._clock() - self._read_at < WHOLE_SECONDS

    @property
    def is_resting(self) -> bool:
        """Whether the list of all jobs is better not read now, because it was expensive."""
        return self._clock() < self._rests_until

    def expire(self) -> None:
        """Have the list of all jobs read, after its rest, before jobs are asked for one by one."""
        self._read_at = None

    async def all(self) -> list[SlurmJob]:
        """List all jobs of all users, whatever that takes."""
        asked, moment = self._clock(), datetime.now(UTC)
        found = await self._client.jobs()
        self._rest(asked, found)
        self._read_at = asked
        dated = found.as_of if isinstance(found, JobList) else None
        self._as_of = dated or moment - _SKEW
        self._trusted_until = float("inf") if dated else asked + _TRUST_SECONDS
        return found

    async def changes(self) -> list[SlurmJob] | None:
        """List all jobs of all users, or return None if none has changed since the last list."""
        if self._as_of is None or self._clock() >= self._trusted_until:
            return await self.all()
        asked = self._clock()
        found = await self._client.jobs(self._as_of)
        if isinstance(found, JobList) and found.is_unchanged:
            self._read_at = asked
            return None
        self._rest(asked, found)
        if isinstance(found, JobList) and found.as_of:
            self._as_of = found.as_of
        else:
            self._as_of = datetime.now(UTC) - _SKEW
        self._read_at = asked
        return found

    def _rest(self, asked: float, found: list[SlurmJob]) -> None:
        """Begin the rest after a list that was asked for at a time."""
        now = self._clock()
        total = found.total if isinstance(found, JobList) else len(found)
        cost = min(now - asked, _SECONDS_PER_JOB * total)
        self._rests_until = now + min(cost / SHARE, LONGEST_REST)

    async def each(
        self, numbers: Mapping[str, int], id_of: Callable[[SlurmJob], str]
    ) -> dict[str, list[SlurmJob]] | None:
        """Ask for jobs one by one, by our own ids; None if one is not what it was."""
        jobs = await asyncio.gather(*(self._client.job(number) for number in numbers.values()))
        found = {}
        for (job_id, number), job in zip(numbers.items(), jobs):
            if job is None or job.job_id != number or id_of(job) != job_id:
                return None
            found[job_id] = [job]
        return found
