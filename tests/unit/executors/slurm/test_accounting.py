"""Jobs that Slurm has forgotten, against a client that does as it is told."""

import unittest
from dataclasses import replace
from pathlib import PurePosixPath

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm.accounting import PastJobs
from aind_data_transfer_service.executors.slurm.job_matching import Identity
from aind_data_transfer_service.slurmrest.errors import Unreachable
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm import test_executor

AWAY = Unreachable("slurmdbd is away")


class PastTest(test_executor.SlurmTest):
    """What slurmdbd says comes before what the job left."""

    async def forgotten(self, *ids: str, comments: bool = True) -> list[str]:
        """Start jobs, look at them, and let Slurm forget them; slurmdbd says that they failed."""
        refs = await self.begin(*ids)
        await self.executor.statuses(refs)
        self.client.past = [
            replace(
                job,
                state="FAILED",
                comment=job.comment if comments else "",
                nodes="node7",
                standard_output="",
                standard_error="",
            )
            for job in self.client.listed.values()
        ]
        self.client.listed.clear()
        self.executor._fresh.clear()
        return refs

    async def test_many_are_asked_for_once(self):
        refs = await self.forgotten("a", "b", "c")
        for _ in range(3):
            found = await self.executor.statuses(refs)
        self.assertEqual([[101, 102, 103]], self.client.past_questions)
        self.assertEqual({RunState.FAILED}, {one.state for one in found.values()})
        self.assertEqual({"node7"}, {one.node for one in found.values()})

    async def test_where_there_is_no_slurmdbd_nothing_is_asked_again(self):
        [ref] = await self.forgotten("a")
        self.client.past = None
        self.executor._past._again = 0.0
        for _ in range(3):
            self.assertEqual(RunState.LOST, (await self.status(ref)).state)
        self.assertEqual(1, len(self.client.past_questions))

    async def test_no_question_while_all_are_listed(self):
        refs = await self.begin("a", "b")
        await self.executor.statuses(refs)
        self.assertEqual([], self.client.past_questions)

    async def test_a_number_that_was_given_out_again_proves_nothing(self):
        [ref] = await self.forgotten("a")
        self.client.past = [SlurmJob(101, "COMPLETED", comment="aind-data-transfer-service:b")]
        self.assertEqual(RunState.LOST, (await self.status(ref)).state)

    async def test_without_comments_name_and_time_tell_whose_it_is(self):
        [ref] = await self.forgotten("a", comments=False)
        self.assertEqual(RunState.FAILED, (await self.status(ref)).state)
        [other] = await self.forgotten("b", comments=False)
        self.client.past = [replace(self.client.past[0], name="another")]
        self.assertEqual(RunState.LOST, (await self.status(other)).state)

    async def test_an_exit_code_that_slurmdbd_lacks_is_the_jobs_own(self):
        [ref] = await self.forgotten("a")
        (self.folder / "a.end").write_text('{"exit_code": 17}')
        self.assertEqual(17, (await self.status(ref)).exit_code)

    async def test_an_end_that_is_not_told_yet_is_waited_for(self):
        [ref] = await self.forgotten("a")
        self.executor._past._again = 0.0
        told = self.client.past
        for untold in (AWAY, [replace(told[0], state="RUNNING")]):
            self.client.past = untold
            status = await self.status(ref)
            self.assertEqual(RunState.RUNNING, status.state)
            self.assertIn("accounting", status.reason)
        self.client.past = told
        self.assertEqual(RunState.FAILED, (await self.status(ref)).state)

    async def test_what_the_job_left_does_where_slurmdbd_is_away(self):
        [ref] = await self.forgotten("a")
        (self.folder / "a.end").write_text('{"exit_code": 0}')
        self.client.past = AWAY
        self.assertEqual(RunState.COMPLETED, (await self.status(ref)).state)

    async def test_a_slurmdbd_that_is_away_is_not_asked_at_every_look(self):
        refs = await self.forgotten("a", "b")
        self.client.past = AWAY
        for _ in range(3):
            await self.executor.statuses(refs)
        self.assertEqual(1, len(self.client.past_questions))

    async def test_tasks_of_an_array_are_found_by_the_number_of_all(self):
        past = PastJobs(self.client, Identity(PurePosixPath("/logs"), "svc"))
        mark = "aind-data-transfer-service:a"
        self.client.past = [
            SlurmJob(7, "COMPLETED", comment=mark, array_job_id=7),
            SlurmJob(8, "COMPLETED", comment=mark, array_job_id=7),
        ]
        self.assertEqual({"a": self.client.past}, await past.find({"a": 7}))


if __name__ == "__main__":
    unittest.main()
