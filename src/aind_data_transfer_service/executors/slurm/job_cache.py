"""The jobs of a long queue, each read by itself, and read again when its state changes.

Slurm's newer versions need some 150 kB of memory for each job in a list of all jobs, but only 1 kB
for its state. So of a long queue only the states are listed.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.models import JobList, JobStates, SlurmJob

AT_ONCE = 16
"""How many jobs are asked for at the same time."""
MOST_READ = 500
"""How many jobs one update reads at most: they take slurmrestd about 0.6 seconds of CPU time."""
SECONDS_PER_READ = 0.00125
"""CPU time of slurmrestd for one job: 1.1 ms with Slurm 24.11, 1.3 ms with 26.05."""
SECONDS_PER_STATE = 0.00001
"""CPU time of slurmrestd for each job in a list of states."""
_REVIEW_SHARE = 0.0125
"""How much of the time slurmrestd may spend on jobs whose state is unchanged: 10 in a second."""
_LONGEST_UPDATE = 5.0
"""Seconds in which an update begins to ask for jobs: Slurm may limit the rate of requests."""


@dataclass(slots=True)
class _Entry:
    """A job, or those tasks of an array that have no number of their own yet."""

    states: frozenset[str]
    """As they were when it was read."""
    jobs: list[SlurmJob]
    """Empty for a job that cannot be ours: another user's without a comment."""
    read_at: float


class JobCache:
    """Remembers the jobs of a long queue; one caller at a time may have it read jobs.

    Parameters
    ----------
    client : SlurmClient
        Asks slurmrestd.
    username : str
        Whose jobs ours are; empty if a job can be submitted for another user.
    clock : Callable
        Returns seconds that only grow.

    Attributes
    ----------
    is_complete : bool
        Whether every job that Slurm has was read: what is not in the cache does not exist.
    """

    def __init__(
        self,
        client: SlurmClient,
        username: str = "",
        clock: Callable[[], float] = time.monotonic,
    ):
        self._client, self._username, self._clock = client, username, clock
        self._entries: dict[int, _Entry] = {}
        self._states: JobStates = {}
        self._updated_at: float | None = None
        self._is_changed = False
        self.is_complete = False

    def clear(self) -> None:
        """Forget all jobs."""
        self._entries.clear()
        self._states = {}
        self._updated_at = None
        self.is_complete = False

    async def complete(self, states: JobStates) -> int:
        """Read every job that is new or whose state has changed, and return how many."""
        return await self._read(self._sort(states, ()), float("inf"))

    async def update(self, states: JobStates, first: Collection[int] = ()) -> int:
        """Read some of the jobs, and return how many.

        Those whose state has changed are read before those that were never read, and among the
        latter the numbers in `first`, then those that do not wait, then the newest. What is left of
        the time is for the jobs that were read least recently: with another reason, comment or
        limit, or if it was requeued and began between two updates, a job has the same state.
        """
        now = self._clock()
        numbers = self._sort(states, first)[:MOST_READ]
        if self._updated_at is not None:
            review = _REVIEW_SHARE / SECONDS_PER_READ * (now - self._updated_at)
            numbers += self._oldest(min(int(review), MOST_READ - len(numbers)), set(numbers))
        self._updated_at = now
        return await self._read(numbers, now + _LONGEST_UPDATE)

    def note(self, number: int, jobs: Sequence[SlurmJob]) -> None:
        """Note how a job, or the tasks of an array, are now."""
        if number in self._entries:
            self._put(number, self._entries[number].states, jobs)

    def jobs(self) -> JobList:
        """Return the jobs that may be ours."""
        self._is_changed = False
        found = JobList(job for entry in self._entries.values() for job in entry.jobs)
        found.total = len(self._entries)
        return found

    def changes(self) -> JobList | None:
        """Return the jobs that may be ours, or None if none has changed since the last time."""
        return self.jobs() if self._is_changed else None

    def _sort(self, states: JobStates, first: Collection[int]) -> list[int]:
        """Forget what does not exist any more; return what has to be read, in that order."""
        self._states = states
        for number in self._entries.keys() - states.keys():
            self._is_changed |= bool(self._entries.pop(number).jobs)
        changed = [
            number
            for number, entry in self._entries.items()
            if entry.jobs and entry.states != states[number]
        ]
        unread = states.keys() - self._entries.keys()
        self.is_complete = not unread
        wanted = unread.intersection(first)

        def urgency(number: int) -> tuple[bool, bool, int]:
            """Return what sorts the most urgent first."""
            return number not in wanted, _waits(states[number]), -number

        return changed + sorted(unread, key=urgency)

    def _oldest(self, count: int, without: Collection[int]) -> list[int]:
        """Return the numbers of live jobs that were read least recently."""
        live = (
            number
            for number, entry in self._entries.items()
            if number not in without and not all(job.has_ended for job in entry.jobs)
        )
        return heapq.nsmallest(count, live, lambda number: self._entries[number].read_at)

    async def _read(self, numbers: Iterable[int], end: float) -> int:
        """Read jobs, several at a time, until a time, and return how many were read.

        What was read before an error is kept.
        """
        left, count, states = iter(numbers), 0, self._states

        async def work() -> None:
            nonlocal count
            for number in left:
                if self._clock() > end:
                    return
                count += 1
                jobs = await self._client.tasks(number)
                if self._states is not states:  # everything was forgotten meanwhile
                    return
                self._put(number, states[number], jobs)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            is_current = self._states is states
            self.is_complete = is_current and not states.keys() - self._entries.keys()
        return count

    def _put(self, number: int, states: frozenset[str], jobs: Sequence[SlurmJob]) -> None:
        """Remember what was read under a number.

        With the number of an array, Slurm shows all its tasks; those that have begun have numbers
        of their own as well.
        """
        now, own = self._clock(), []
        for job in jobs:
            if job.job_id == number or job.job_id not in self._states:
                own.append(job)
            elif (entry := self._entries.get(job.job_id)) and entry.jobs:
                self._replace(entry, [job], now)
        entry = self._entries.setdefault(number, _Entry(states, [], now))
        entry.states = states
        self._replace(entry, [job for job in own if self._may_be_ours(job)], now)

    def _replace(self, entry: _Entry, jobs: list[SlurmJob], now: float) -> None:
        """Replace the jobs of an entry."""
        self._is_changed |= entry.jobs != jobs
        entry.jobs, entry.read_at = jobs, now

    def _may_be_ours(self, job: SlurmJob) -> bool:
        """Return whether a job is our user's or has a comment, as the lists of the client do."""
        return bool(job.comment) or not self._username or job.user in ("", self._username)


def _waits(states: frozenset[str]) -> bool:
    """Return whether nothing of a job or array has begun or ended."""
    return all(state.endswith(" PENDING") for state in states)
