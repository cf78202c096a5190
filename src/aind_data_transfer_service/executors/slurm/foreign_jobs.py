"""Jobs in the service's name that somebody else started on the cluster. Pure."""

from collections.abc import Iterable

from aind_data_transfer_service.executors.base import OtherJob, Others
from aind_data_transfer_service.executors.slurm.job_properties import marked_id
from aind_data_transfer_service.executors.slurm.state_reasons import LONGEST_TEXT
from aind_data_transfer_service.executors.slurm.states import run_status
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.slurmrest.models import SlurmJob

MOST = 100
"""How many are told of one by one."""


class OthersJobs:
    """Picks them from what Slurm lists: no mark of ours, but our user and our partition.

    v0.0.36 names no users. There the number of our user counts, which our own jobs tell, and before
    one of them is listed the partition alone.

    Parameters
    ----------
    username : str
        In whose name the service submits jobs.
    partition : str
        Where to; empty for wherever Slurm puts them.
    """

    def __init__(self, username: str, partition: str):
        self._username = username
        self._partition = partition
        self._user_id: int | None = None

    def among(self, listed: Iterable[SlurmJob]) -> Others:
        """Pick them: those that have not ended first, the newest first."""
        found = []
        for job in listed:
            if not marked_id(job.comment):
                found.append(job)
            elif job.user_id is not None:
                self._user_id = job.user_id
        found = [job for job in found if self._is_in_our_name(job)]
        found.sort(key=lambda job: (job.has_ended, -job.job_id))
        return Others(tuple(map(_described, found[:MOST])), total=len(found))

    def _is_in_our_name(self, job: SlurmJob) -> bool:
        """Tell whether a job is our user's, and in our partition."""
        if self._partition and self._partition not in job.partition.split(","):
            return False
        if job.user:
            return job.user == self._username
        if self._user_id is not None and job.user_id is not None:
            return job.user_id == self._user_id
        return bool(self._partition)


def _described(job: SlurmJob) -> OtherJob:
    """Say how a job stands."""
    status = run_status(str(job.job_id), job)
    return OtherJob(
        number=job.job_id,
        name=redact(job.name)[:LONGEST_TEXT],
        state=status.state,
        reason=redact(status.reason),
        user=redact(job.user)[:LONGEST_TEXT],
        node=redact(status.node),
        submitted_at=job.submitted,
        started_at=status.started_at,
        ended_at=status.ended_at,
    )
