"""Jobs that Slurm's controller has forgotten (MinJobAge), as slurmdbd remembers them.

Slurm counts its jobs from one again after it was reinstalled, so a number alone proves nothing: see
`executors.slurm.job_matching`. slurmdbd does not store comments unless AccountingStoreFlags says
so.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aind_data_transfer_service.executors.slurm.bounded_memory import drop_oldest
from aind_data_transfer_service.executors.slurm.job_matching import Identity
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import SlurmError
from aind_data_transfer_service.slurmrest.models import SlurmJob

logger = logging.getLogger(__name__)

UNTOLD = "Slurm no longer lists the job, and its accounting does not tell its end yet"
_PATIENCE = 600.0


class PastJobs:
    """Asks slurmdbd, once for all jobs that went missing, and remembers what it said.

    Parameters
    ----------
    client : SlurmClient
        Who speaks to slurmrestd.
    identity : Identity
        By which our jobs are recognised.
    again : float
        Seconds after which a question that was not answered may be asked again.
    """

    def __init__(self, client: SlurmClient, identity: Identity, again: float = 30.0):
        self._client = client
        self._identity = identity
        self._again = again
        self._is_there = True
        self._found: dict[str, list[SlurmJob]] = {}
        self._asked: dict[tuple[str, int], float] = {}
        self._awaited: dict[str, float] = {}
        self._pending: dict[str, None] = {}

    def see(self, listed: Mapping[str, Iterable[SlurmJob]]) -> None:
        """Remember the ends of our jobs, while Slurm lists them.

        That is the only account of the end where there is no slurmdbd.
        """
        for job_id, jobs in listed.items():
            if all(job.has_ended for job in jobs):
                self._found[job_id] = list(jobs)
            elif job_id in self._found:
                del self._found[job_id]
        self._forget()

    def remembered(self, job_id: str) -> list[SlurmJob]:
        """Return a job as it ended, without asking slurmdbd; empty if that is not known."""
        return self._found.get(job_id, [])

    def is_awaited(self, job_id: str) -> bool:
        """Tell whether a job's end may still be told: slurmdbd is away, or behind."""
        since = self._awaited.get(job_id)
        return since is not None and time.monotonic() < since + _PATIENCE

    async def find(self, missing: Mapping[str, int]) -> dict[str, list[SlurmJob]]:
        """Give what is remembered of jobs that are not listed; those that have ended only.

        Parameters
        ----------
        missing : mapping of str to int
            Slurm's numbers of jobs, by our own ids; zero if it is not known.
        """
        now = time.monotonic()
        unasked = {
            job_id: number
            for job_id, number in missing.items()
            if number
            and job_id not in self._found
            and now >= self._asked.get((job_id, number), -self._again) + self._again
        }
        if unasked and self._is_there:
            self._asked |= dict.fromkeys(unasked.items(), now)
            await self._ask(unasked)
            self._forget()
        return {job_id: self._found[job_id] for job_id in missing if job_id in self._found}

    async def begun(self, missing: Mapping[str, int]) -> set[str]:
        """Return which jobs began or ended by slurmdbd's account, or may have: it is away.

        Parameters
        ----------
        missing : mapping of str to int
            Slurm's numbers of jobs that are not listed, by our own ids.
        """
        for job_id, number in missing.items():
            if job_id not in self._awaited:  # what was answered may have changed
                self._asked.pop((job_id, number), None)
        ended = await self.find(missing)
        unclear = self._awaited.keys() - self._pending.keys()
        return {job_id for job_id in missing if job_id in ended or job_id in unclear}

    async def find_sent(self, job_id: str) -> list[SlurmJob] | None:
        """Return what slurmdbd has that may be a job which was sent and got no number.

        Returns
        -------
        list[SlurmJob] | None
            The jobs that began or ended, the newest first; None if there is no slurmdbd, or
            nothing by which it could be asked.

        Raises
        ------
        SlurmError
            If it does not answer now.
        """
        sent = self._identity.sent(job_id)
        if sent is None:
            return None
        name, since = sent
        found = await self._client.past_jobs_since(since, name)
        if found is None:
            return None
        ours = [
            job
            for job in found
            if self._identity.may_be_sent(job_id, job)
            and (job.state != "PENDING" or job.restarts)  # else it is not known to have begun
        ]
        return sorted(ours, key=lambda job: (job.submitted or since, job.job_id), reverse=True)

    async def _ask(self, jobs: Mapping[str, int]) -> None:
        """Ask for jobs, and sort what comes."""
        now = time.monotonic()
        try:
            told = await self._client.past_jobs(sorted(set(jobs.values())))
        except SlurmError as error:
            logger.warning("slurm: the end of %d jobs is not told: %s", len(jobs), error)
            for job_id in jobs:
                self._awaited.setdefault(job_id, now)
                self._pending.pop(job_id, None)
            return
        self._is_there = told is not None
        by_number: dict[int, list[SlurmJob]] = {}
        for job in told or []:
            for number in {job.job_id, job.array_job_id or job.job_id}:
                by_number.setdefault(number, []).append(job)
        for job_id, number in jobs.items():
            rows = by_number.get(number, [])
            ours = [job for job in rows if self._identity.is_ended(job_id, job)]
            ours = [self._identity.marked(job_id, job) for job in ours]
            self._pending.pop(job_id, None)
            if ours and all(job.has_ended for job in ours):
                self._found[job_id] = ours
                self._awaited.pop(job_id, None)
            elif ours:
                self._awaited.setdefault(job_id, now)
                if all(job.state == "PENDING" and not job.restarts for job in ours):
                    self._pending[job_id] = None
            else:
                self._awaited.pop(job_id, None)

    def _forget(self) -> None:
        """Keep a bounded number of things in mind, the newest of them."""
        memories: tuple[dict[Any, Any], ...] = (
            self._found,
            self._asked,
            self._awaited,
            self._pending,
        )
        for memory in memories:
            drop_oldest(memory)
