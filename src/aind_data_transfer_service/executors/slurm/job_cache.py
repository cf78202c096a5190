"""The jobs of a long queue, each read by itself, and read again when its state changes.

Slurm's newer versions need some 150 kB of memory for each job in a list of all jobs, but only 1 kB
for its state. So of a long queue only the states are listed.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import NotSlurm, Refused
from aind_data_transfer_service.slurmrest.models import JobList, JobStates, SlurmJob

logger = logging.getLogger(__name__)

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
_UNWRITTEN_SECONDS = 120.0
"""Jobs that were new so many seconds before an outage are read again after it: a controller that
dies forgets what it has not written down, and gives the numbers to other jobs."""
_HIDDEN_SECONDS = 120.0
"""A new job that Slurm does not show for so long is not one that was sent a moment ago."""
_GIVE_UP_SECONDS = 600.0
"""A job that cannot be read for so long is not waited for, unless there are more than"""
_MOST_GIVEN_UP = 16
"""of them."""


@dataclass(slots=True)
class _Entry:
    """A job, or those tasks of an array that have no number of their own yet."""

    states: frozenset[str]
    """As they were when it was read."""
    jobs: list[SlurmJob]
    """Empty for a job that cannot be ours: another user's without a comment."""
    added_at: float
    read_at: float
    is_shown: bool = False
    """Whether Slurm has ever shown it. It lists the states also of jobs that it does not show."""


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
        Whether every job that Slurm has was read: what is not in the cache does not exist, unless
        `hides` or `may_hide` says that Slurm did not show it.
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
        self._listed_at = clock()
        self._reading: set[int] = set()
        self._doubtful: set[int] = set()
        self._failed: dict[int, float] = {}
        self._is_changed = True
        self._was_complete = self.is_complete = False

    def clear(self) -> None:
        """Forget all jobs."""
        self._entries.clear()
        self._states = {}
        self._updated_at = None
        self._doubtful.clear()
        self._failed.clear()
        self._is_changed = True
        self.is_complete = False

    def drop(self, number: int) -> None:
        """Forget what was read under a number: Slurm has just given it to a job of ours."""
        self._reading.discard(number)
        if entry := self._entries.pop(number, None):
            self._is_changed |= bool(entry.jobs)
            self.is_complete = False

    def doubt(self) -> None:
        """Have new jobs read again: Slurm may have lost them, and given others their numbers."""
        since = self._listed_at - _UNWRITTEN_SECONDS
        self._reading.clear()
        fresh = {one: entry for one, entry in self._entries.items() if entry.added_at >= since}
        for number, entry in fresh.items():
            if entry.is_shown:
                self._doubtful.add(number)
            else:
                del self._entries[number]
        self.is_complete &= not fresh

    def hides(self, number: int) -> bool:
        """Return whether Slurm has a job of a number, but did not show it."""
        entry = self._entries.get(number)
        return not entry.is_shown if entry else number in self._failed

    def may_hide(self, sent_at: float) -> bool:
        """Return whether a job that was sent at a time may be one that Slurm did not show."""
        now, last = self._clock(), sent_at + _HIDDEN_SECONDS
        return bool(self._failed.keys() - self._entries.keys()) or any(
            not entry.is_shown and now - _HIDDEN_SECONDS < entry.added_at <= last
            for entry in self._entries.values()
        )

    async def complete(self, states: JobStates) -> int:
        """Read every job that is new or whose state has changed, and return how many."""
        recent = self._clock() - _HIDDEN_SECONDS
        hidden = {
            number
            for number, entry in self._entries.items()
            if not entry.is_shown and entry.added_at > recent
        }
        return await self._read(self._sort(states, hidden), float("inf"))

    async def update(self, states: JobStates, first: Collection[int] = ()) -> int:
        """Read some of the jobs, and return how many.

        Those whose state has changed are read first, with the numbers in `first` that were not
        found to be ours; then those that were never read, and among them the numbers in `first`,
        then those that do not wait, then the newest. What cannot be read goes last. What is left of
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
        self._states, self._listed_at = states, self._clock()
        for number in self._entries.keys() - states.keys():
            self._is_changed |= bool(self._entries.pop(number).jobs)
        self._doubtful &= self._entries.keys()
        self._failed = {one: since for one, since in self._failed.items() if one in states}
        wanted = states.keys() & set(first)
        known = [
            number
            for number, entry in self._entries.items()
            if (entry.states != states[number] if entry.jobs else number in wanted)
            or number in self._doubtful
        ]
        unread = states.keys() - self._entries.keys()
        self._was_complete, self.is_complete = self.is_complete, self._is_all_read()

        def urgency(number: int) -> tuple[bool, bool, int]:
            """Return what sorts the most urgent first."""
            return number not in wanted, _waits(states[number]), -number

        found = known + sorted(unread, key=urgency)
        return sorted(found, key=self._failed.__contains__) if self._failed else found

    def _is_all_read(self) -> bool:
        """Return whether every job was read, but for a few that cannot be read for long."""
        left = self._states.keys() - self._entries.keys()
        if self._doubtful or len(left) > _MOST_GIVEN_UP:
            return False
        latest = self._clock() - _GIVE_UP_SECONDS
        return all(self._failed.get(number, float("inf")) <= latest for number in left)

    def _oldest(self, count: int, without: Collection[int]) -> list[int]:
        """Return the numbers of live jobs that were read least recently."""
        live = (
            number
            for number, entry in self._entries.items()
            if number not in without
            and not (entry.is_shown and all(job.has_ended for job in entry.jobs))
        )
        return heapq.nsmallest(count, live, lambda number: self._entries[number].read_at)

    async def _read(self, numbers: Iterable[int], end: float) -> int:
        """Read jobs, several at a time, until a time, and return how many were read.

        What was read before an error is kept. A job that cannot be read does not stop the others.
        """
        left, count, states = iter(numbers), 0, self._states
        errors: dict[int, Exception] = {}

        async def show(number: int) -> None:
            """Read a job, again if what was asked for is out of date when the answer comes."""
            while self._states is states:  # else everything was forgotten meanwhile
                self._reading.add(number)
                try:
                    jobs = await self._client.tasks(number)
                except (Refused, NotSlurm) as error:
                    errors[number] = error
                    return
                if number in self._reading and self._states is states:
                    self._put(number, states[number], jobs)
                    return

        async def work() -> None:
            nonlocal count
            for number in left:
                if self._clock() > end or self._states is not states:
                    return
                count += 1
                await show(number)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._reading.clear()
            if self._states is states:
                self._note_errors(errors)
                self.is_complete = self._is_all_read()
                self._is_changed |= self.is_complete and not self._was_complete
        return count

    def _note_errors(self, errors: Mapping[int, Exception]) -> None:
        """Note which jobs could not be read, and log those that could be until now."""
        fresh = [number for number in errors if number not in self._failed]
        self._failed |= dict.fromkeys(fresh, self._clock())
        if fresh:
            text = "slurm: %d jobs in the queue cannot be read; job %d: %s"
            logger.warning(text, len(fresh), fresh[0], errors[fresh[0]])

    def _put(self, number: int, states: frozenset[str], jobs: Sequence[SlurmJob]) -> None:
        """Remember what was read under a number.

        With the number of an array, Slurm shows all its tasks; those that have begun have numbers
        of their own as well. A job that Slurm does not show although it lists its state stays as it
        was: it has just been forgotten, or the controller that answered does not know it yet.
        """
        now, own = self._clock(), []
        self._failed.pop(number, None)
        entry = self._entries.setdefault(number, _Entry(states, [], now, now))
        entry.read_at = now
        if not jobs:
            return
        self._doubtful.discard(number)
        for job in jobs:
            if job.job_id == number or job.job_id not in self._states:
                own.append(job)
            elif (other := self._entries.get(job.job_id)) and other.jobs:
                self._replace(other, [job], now)
        entry.states, entry.is_shown = states, True
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
