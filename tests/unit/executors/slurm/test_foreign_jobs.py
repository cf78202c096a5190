"""Which of the jobs that Slurm lists are told of as somebody else's."""

import unittest
from datetime import UTC, datetime

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm.foreign_jobs import MOST, OthersJobs
from aind_data_transfer_service.executors.slurm.job_properties import mark_of
from aind_data_transfer_service.slurmrest.models import SlurmJob

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def a_job(number: int = 1, **values) -> SlurmJob:
    """Make a job of the service's user that the service did not start."""
    usual = {"state": "RUNNING", "user": "svc", "user_id": 7, "partition": "part"}
    return SlurmJob(number, **(usual | values))


class OthersJobsTest(unittest.TestCase):
    """No mark of ours, our user, our partition."""

    def numbers(self, *jobs: SlurmJob, picked: OthersJobs | None = None) -> list[int]:
        """Give the numbers of those that are picked."""
        picked = picked or OthersJobs("svc", "part")
        return [job.number for job in picked.among(jobs).jobs]

    def test_ours_and_those_of_other_users_and_partitions_are_left_out(self):
        ours = a_job(1, comment=f"{mark_of('2n11')} my words")
        other_user, elsewhere = a_job(2, user="anna"), a_job(3, partition="gpu")
        several = a_job(4, partition="gpu,part")
        self.assertEqual([5, 4], self.numbers(ours, other_user, elsewhere, several, a_job(5)))

    def test_a_dialect_that_names_no_users_is_told_ours_by_our_own_jobs(self):
        ours = a_job(1, user="", comment=mark_of("2n11"))
        same, other = a_job(2, user=""), a_job(3, user="", user_id=8)
        picked = OthersJobs("svc", "part")
        self.assertEqual([3, 2], self.numbers(same, other, picked=picked))
        self.assertEqual([2], self.numbers(ours, same, other, picked=picked))
        self.assertEqual([2], self.numbers(same, other, picked=picked), "it is remembered")

    def test_where_neither_user_nor_partition_is_known_nothing_is_picked(self):
        picked = OthersJobs("svc", "")
        self.assertEqual([], self.numbers(a_job(user="", user_id=None), picked=picked))
        self.assertEqual([1], self.numbers(a_job(), picked=picked))

    def test_what_has_not_ended_comes_first_and_the_rest_is_counted(self):
        ended = [a_job(number, state="COMPLETED") for number in range(500, 700)]
        found = OthersJobs("svc", "part").among([*ended, a_job(1), a_job(2)])
        self.assertEqual([2, 1, 699], [job.number for job in found.jobs[:3]])
        self.assertEqual((MOST, 202), (len(found.jobs), found.total))

    def test_they_are_told_in_the_same_words_as_ours(self):
        waits = a_job(1, state="PENDING", reason="Priority", submitted=NOON, name="theirs")
        runs = a_job(2, nodes="node3", started=NOON)
        second, first = OthersJobs("svc", "part").among([waits, runs]).jobs
        self.assertEqual(
            (RunState.PENDING, "theirs", NOON), (first.state, first.name, first.submitted_at)
        )
        self.assertIn("higher priority", first.reason)
        self.assertEqual(
            (RunState.RUNNING, "node3", NOON), (second.state, second.node, second.started_at)
        )
