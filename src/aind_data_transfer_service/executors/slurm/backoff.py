"""When jobs are sent again that the cluster could not take."""

import time
from collections.abc import Callable, Iterable

from aind_data_transfer_service.executors.slurm.bounded_memory import drop_oldest


class Backoff:
    """Delays further submissions after the cluster refused one for the time being.

    The delay doubles with each attempt that fails, and is the first one again after a submission
    that succeeds. It applies to the jobs that were refused or held back; a job that has not been
    sent yet is sent once without it.

    Parameters
    ----------
    first : float
        Seconds until the first new attempt.
    longest : float
        Seconds between two attempts at most.
    clock : Callable
        Returns seconds that only grow.
    """

    def __init__(
        self,
        first: float = 1.0,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._first, self._longest, self._clock = first, longest, clock
        self._delay = 0.0
        self._due = 0.0
        self._reason = ""
        self._refusals: dict[str, float] = {}

    @property
    def is_active(self) -> bool:
        """Whether refused jobs are not sent now."""
        return self._clock() < self._due

    def note_refusal(self, job_id: str, reason: str) -> None:
        """Delay a job that was sent and refused; parallel refusals count as one attempt."""
        now = self._clock()
        self._reason = reason
        self._remember(job_id, now)
        if now >= self._due:
            self._delay = min(2 * self._delay or self._first, self._longest)
            self._due = now + self._delay

    def delay(self, seconds: float) -> None:
        """Send refused jobs again after some seconds, and not sooner."""
        self._due = max(self._due, self._clock() + seconds)

    def hold(self, job_id: str) -> None:
        """Delay a job that was not sent because another one was refused."""
        self._remember(job_id, self._refusals.get(job_id, 0.0))

    def note_success(self, job_id: str) -> None:
        """Begin with the shortest delay next time: the cluster took a job."""
        self.forget(job_id)
        self._delay = 0.0

    def forget(self, job_id: str) -> None:
        """Delay a job no more."""
        self._refusals.pop(job_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._refusals.clear()
        self._delay = self._due = 0.0

    def reason(self, job_id: str) -> str:
        """Return why a job is not to be sent now; empty if it may be."""
        return self._reason if job_id in self._refusals and self.is_active else ""

    def are_due(self, job_ids: Iterable[str]) -> bool:
        """Return whether some of the jobs were delayed and may be sent again now."""
        return not self.is_active and any(job_id in self._refusals for job_id in job_ids)

    def last_refusal(self, job_id: str) -> float:
        """Return when a job was refused last, to send that job after the others; 0 if never."""
        return self._refusals.get(job_id, 0.0)

    def _remember(self, job_id: str, moment: float) -> None:
        """Keep a bounded number of jobs in mind."""
        self._refusals[job_id] = moment
        drop_oldest(self._refusals)
