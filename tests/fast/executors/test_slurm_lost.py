"""Jobs that Slurm accepted and lost: a controller that dies early comes back without them."""

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.hpc.errors import Unreachable
from tests.fast.executors.test_slurm import SlurmTest, a_job

LOGGER = "aind_data_transfer_service.executors.slurm"


class LostTest(SlurmTest):
    """Whether and how often they are submitted again."""

    async def lose(self, ref: str):
        """Have the controller lose all jobs, and return how one of them is then."""
        self.client.listed.clear()
        return await self.status(ref)

    async def test_a_job_that_is_lost_several_times_is_submitted_again_each_time(self):
        [ref] = await self.begin("j1")
        for number in range(102, 107):
            with self.assertLogs(LOGGER, "WARNING"):
                status = await self.lose(ref)
            self.assertEqual((RunState.PENDING, f"{number}:j1"), (status.state, status.ref))
            ref = status.ref
            self.assertIs(RunState.PENDING, (await self.status(ref)).state)
        self.assertIs(RunState.LOST, (await self.lose(ref)).state)
        self.assertEqual(6, len(self.client.submissions), "five times is enough")

    async def test_a_job_that_could_not_be_submitted_again_at_once_is_counted_once(self):
        [ref] = await self.begin("j1")
        self.client.faults = [Unreachable("away")] * 7
        self.client.listed.clear()
        with self.assertLogs(LOGGER, "WARNING"):
            for _ in range(8):
                status = await self.status(ref)
        self.assertEqual((RunState.PENDING, "102:j1"), (status.state, status.ref))
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual("103:j1", (await self.lose(status.ref)).ref)

    async def test_a_folder_without_claims_of_jobs_that_began_is_not_the_one_of_the_nodes(self):
        self.executor = self.make(grace=0)
        [running, lost] = await self.begin("j1", "j2")
        self.client.become(101, state="RUNNING")
        await self.executor.statuses([running, lost])
        self.assertIs(RunState.LOST, (await self.lose(lost)).state)
        self.assertEqual(2, len(self.client.submissions), "it may have run")

    async def test_a_folder_with_claims_tells_that_a_lost_job_never_began(self):
        self.executor = self.make(grace=0)
        [running, lost] = await self.begin("j1", "j2")
        self.client.become(101, state="RUNNING")
        (self.folder / "j1.claim").write_text("101")
        await self.executor.statuses([running, lost])
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertIs(RunState.PENDING, (await self.lose(lost)).state)

    async def test_shards_are_sent_again_only_if_the_folder_tells_that_none_began(self):
        for claim in ("", "j1.claim"):
            with self.subTest(claim=claim):
                await self.asyncSetUp()
                self.executor = self.make(grace=0, shards=2)
                [whole] = await self.begin("j1")
                self.client.become(101, state="RUNNING")
                if claim:
                    (self.folder / claim).write_text("102")
                await self.executor.statuses([whole])
                self.client.faults = [None, Unreachable("away")]
                await self.executor.start([a_job("j2")])
                del self.client.listed[103]
                await self.executor.start([a_job("j2")])
                names = [one.properties["comment"] for one in self.client.submissions[2:]]
                arrays = [name for name in names if ".shards" in name]
                self.assertEqual(2 if claim else 1, len(arrays), names)
