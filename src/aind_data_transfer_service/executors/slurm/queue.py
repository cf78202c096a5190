"""What Slurm lists, asked for as seldom as will do.

A list of all jobs is expensive for slurmrestd, which writes some kilobytes for each job of every
user: with thousands of jobs, seconds of CPU time. So after each list there is a rest that grows
with the time that the list took; meanwhile jobs are asked for one by one, some at each look.

If Slurm can list the states of jobs alone, a long queue is never listed: see `job_cache`.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Container, Mapping
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.executors.slurm import job_cache
from aind_data_transfer_service.executors.slurm.job_array import (
    SHARDS,
    array_number,
    shards_id,
)
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import NotSlurm, Refused, SlurmError
from aind_data_transfer_service.slurmrest.models import JobList, JobStates, SlurmJob

logger = logging.getLogger(__name__)

FEW = 16
"""Up to so many jobs are asked for one by one, rather than with those of all users."""
WHOLE_SECONDS = 60.0
"""How old the list of all jobs may be while jobs are asked for one by one."""
SHARE = 0.04
"""How much of the time slurmrestd may spend on lists, as long as one takes less than 5 seconds."""
_LEAST_OTHERS = 4
"""Of the jobs that are asked for one by one, so many are left for those without news."""
LONG_QUEUE = 1000
"""Of more jobs than this only the states are listed, until half of them are left. A list of so many
takes 150 MB of slurmrestd's memory with Slurm 24.11 and 26.05."""
LONGEST_REST = 120.0
"""Seconds between two lists of all jobs at most, however long a list takes."""
_SECONDS_PER_JOB = 0.0005
"""CPU time of slurmrestd for each job in a list: 0.2 ms with Slurm 22.05, 0.5 ms with 26.05. An
answer that takes longer was waited for, because the machine is busy, say."""
_WITHOUT_STATES_SECONDS = 600.0
"""For how long jobs are listed where a list of their states was refused."""
_REMEMBERED = 1000
"""Of so many jobs that are not followed any more it is remembered when they were asked for."""
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
    username : str
        Whose jobs ours are; empty if a job can be submitted for another user.
    long_queue : int
        Above how many jobs only their states are listed, if Slurm can do that.
    """

    def __init__(
        self,
        client: SlurmClient,
        clock: Callable[[], float] = time.monotonic,
        username: str = "",
        long_queue: int = LONG_QUEUE,
    ):
        self._client = client
        self._clock = clock
        self._cache = job_cache.JobCache(client, username, clock)
        self._long_queue = long_queue
        self._is_long = False
        self._turn = asyncio.Lock()
        self._as_of: datetime | None = None
        self._trusted_until = 0.0
        self._read_at: float | None = None
        self._no_states_until = float("-inf")
        self._rests_until = 0.0

    @property
    def is_recent(self) -> bool:
        """Whether the list of all jobs was read less than a minute ago."""
        return self._read_at is not None and self._clock() - self._read_at < WHOLE_SECONDS

    @property
    def is_resting(self) -> bool:
        """Whether the list of all jobs is better not read now, because it was expensive."""
        return self._clock() < self._rests_until

    @property
    def rest_left(self) -> float:
        """How many seconds the rest after the last list still takes."""
        return max(0.0, self._rests_until - self._clock())

    @property
    def is_complete(self) -> bool:
        """Whether what the last look did not bring does not exist."""
        return self._cache.is_complete or not self._is_long

    @property
    def is_long(self) -> bool:
        """Whether the queue is so long that only the states of its jobs are listed."""
        return self._is_long

    def hides(self, number: int) -> bool:
        """Return whether Slurm has a job of a number, but did not show it."""
        return self._is_long and self._cache.hides(number)

    def may_hide(self, sent_at: float) -> bool:
        """Return whether a job that was sent at a time may be there, although it was not listed."""
        return not self.is_complete or (self._is_long and self._cache.may_hide(sent_at))

    def drop(self, number: int) -> None:
        """Forget what is known of a number: Slurm has just given it to a job of ours."""
        self._cache.drop(number)

    def doubt(self) -> None:
        """Note that Slurm may have been away, and may have lost new jobs."""
        self._cache.doubt()

    def forget(self) -> None:
        """Begin again, as after a start."""
        self._as_of = self._read_at = None
        self._cache.clear()

    def expire(self) -> None:
        """Have the list of all jobs read, after its rest, before jobs are asked for one by one."""
        self._read_at = None

    async def all(self) -> list[SlurmJob]:
        """List all jobs of all users, whatever that takes."""
        asked, moment = self._clock(), datetime.now(UTC)
        async with self._turn:
            if (states := await self._states_if_long()) is not None:
                await self._read(states, self._cache.complete(states))
                return self._cache.jobs()
        found = await self._ask()
        self._read_at = asked
        dated = found.as_of if isinstance(found, JobList) else None
        self._as_of = dated or moment - _SKEW
        self._trusted_until = float("inf") if dated else asked + _TRUST_SECONDS
        return found

    async def changes(self, first: Collection[int] = ()) -> list[SlurmJob] | None:
        """List all jobs of all users, or return None if none has changed since the last list.

        Of a long queue some jobs may not have been read yet; `is_complete` says so. The numbers in
        `first` are read before others.
        """
        async with self._turn:
            if (states := await self._states_if_long()) is not None:
                await self._read(states, self._cache.update(states, first))
                return self._cache.changes()
        if self._as_of is None or self._clock() >= self._trusted_until:
            return await self.all()
        asked = self._clock()
        found = await self._ask(self._as_of)
        if isinstance(found, JobList) and found.is_unchanged:
            self._read_at = asked
            return None
        if isinstance(found, JobList) and found.as_of:
            self._as_of = found.as_of
        else:
            self._as_of = datetime.now(UTC) - _SKEW
        self._read_at = asked
        return found

    async def _states_if_long(self) -> JobStates | None:
        """Return the states of all jobs if the queue is long and Slurm lists them, else None."""
        states = None
        if self._clock() >= self._no_states_until:
            states = await self._states()
        longest = self._long_queue // 2 if self._is_long else self._long_queue
        was_long, self._is_long = self._is_long, states is not None and len(states) > longest
        if was_long and not self._is_long:
            self.forget()
        return states if self._is_long else None

    async def _states(self) -> JobStates | None:
        """Return the states of all jobs; None, for some minutes, if Slurm fails to list them."""
        try:
            return await self._client.states()
        except (Refused, NotSlurm) as error:
            self._no_states_until = self._clock() + _WITHOUT_STATES_SECONDS
            logger.warning("slurm: the states of jobs are not listed, so jobs are: %s", error)
            return None
        except SlurmError:
            self.doubt()
            raise

    async def _read(self, states: JobStates, reading: Awaitable[int]) -> None:
        """Wait until jobs of a long queue were read, and begin the rest after that."""
        asked, count = self._clock(), job_cache.MOST_READ
        try:
            count = await reading
            self._read_at = asked
        finally:
            cost = job_cache.SECONDS_PER_STATE * len(states) + job_cache.SECONDS_PER_READ * count
            self._rest(min(self._clock() - asked, cost))

    def _rest(self, cost: float) -> None:
        """Begin a rest after something that took slurmrestd some seconds."""
        self._rests_until = self._clock() + min(cost / SHARE, LONGEST_REST)

    async def _ask(self, since: datetime | None = None) -> list[SlurmJob]:
        """Ask for a list, and begin the rest after it; one that fails is as expensive."""
        asked, most = self._clock(), float("inf")
        try:
            found = await self._client.jobs(since)
            total = found.total if isinstance(found, JobList) else len(found)
            most = _SECONDS_PER_JOB * total
            return found
        finally:
            if most:  # else no job has changed
                self._rest(min(self._clock() - asked, most))

    async def each(
        self, numbers: Mapping[str, int], id_of: Callable[[SlurmJob], str]
    ) -> dict[str, list[SlurmJob]]:
        """Ask for jobs and arrays one by one, by our own ids; what is not as it was is left out."""
        turns = asyncio.Semaphore(FEW)

        async def ask(job_id: str, number: int) -> list[SlurmJob]:
            """Ask for a job, or for the tasks of an array."""
            async with turns:
                if job_id.endswith(SHARDS):
                    tasks = await self._client.tasks(number)
                    self._cache.note(number, tasks)
                    return tasks
                job = await self._client.job(number)
            if job is None or job.job_id != number:
                return []
            self._cache.note(number, [job])
            return [job]

        found = await asyncio.gather(*(ask(*pair) for pair in numbers.items()))
        return {
            job_id: jobs
            for (job_id, number), jobs in zip(numbers.items(), found)
            if jobs and all(array_number(job) == number and id_of(job) == job_id for job in jobs)
        }


class Turns:
    """Chooses which jobs are asked for one by one while the list of all jobs rests.

    Jobs with news go first, then those that were not listed yet, the newest before the others, then
    those that were asked for least recently.

    Parameters
    ----------
    known : mapping of str to int
        Slurm's numbers of jobs and arrays as they are known now, by our own ids.
    is_new : Callable
        Returns whether a job or array, by our own id, was submitted a moment ago.
    """

    def __init__(self, known: Mapping[str, int], is_new: Callable[[str], bool]):
        self._known, self._is_new = known, is_new
        self._with_news: Collection[str] = ()
        self._asked: dict[str, int] = {}
        self._turn = 0
        self._odd: set[str] = set()

    def put_first(self, job_ids: Collection[str]) -> None:
        """Note which jobs have news, such as their own word that they began; replaces the last."""
        self._with_news = frozenset(job_ids)

    def note_odd(self, job_ids: Collection[str]) -> None:
        """Note jobs that were not told by their numbers, so that only lists tell of them."""
        self._odd |= set(job_ids)

    def odd(self, job_ids: Collection[str]) -> set[str]:
        """Return which jobs were not told by their numbers the last time."""
        return self._odd.intersection(job_ids)

    def note_sent(self, job_id: str) -> None:
        """Note that a job is submitted, and gets a new number."""
        self._odd.discard(job_id)

    def see(self, listed: Container[str]) -> None:
        """Forget what is no longer listed."""
        self._odd = {one for one in self._odd if one in listed}

    def numbers(
        self, job_ids: Collection[str], listed: Mapping[str, list[SlurmJob]]
    ) -> dict[str, int]:
        """Return the numbers of jobs whose turn it is, and of their arrays of shards.

        Parameters
        ----------
        job_ids : collection of str
            The jobs that are followed.
        listed : mapping of str to list of SlurmJob
            What Slurm told of them last.
        """
        turns = self._take([one for one in job_ids if self._is_live(one, listed)], listed)
        arrays = [one for one in map(shards_id, turns) if self._is_live(one, listed)]
        return {one: self._known[one] for one in turns + arrays}

    def _is_live(self, job_id: str, listed: Mapping[str, list[SlurmJob]]) -> bool:
        """Return whether a job or array has not ended, and can be asked for by its number."""
        if job_id not in self._known or job_id in self._odd:
            return False
        jobs = listed.get(job_id)
        if not jobs:
            return self._is_new(job_id)
        is_one = all(array_number(job) == self._known[job_id] for job in jobs)
        return is_one and not all(job.has_ended for job in jobs)

    def _take(self, job_ids: Collection[str], listed: Container[str]) -> list[str]:
        """Choose among jobs that can be asked for."""

        def rank(job_id: str) -> tuple[bool, int]:
            """Return what sorts those that were asked for least recently first."""
            return job_id in listed, self._asked.get(job_id, 0)

        newest = sorted(job_ids, reverse=True)
        news = [one for one in newest if one in self._with_news]
        first = heapq.nsmallest(FEW - _LEAST_OTHERS, news, rank)
        chosen = set(first)
        others = (one for one in newest if one not in chosen)
        taken = first + heapq.nsmallest(FEW - len(first), others, rank)
        self._turn += 1
        self._asked |= dict.fromkeys(taken, self._turn)
        if len(self._asked) > len(newest) + _REMEMBERED:
            self._asked = {one: self._asked[one] for one in newest if one in self._asked}
        return taken
