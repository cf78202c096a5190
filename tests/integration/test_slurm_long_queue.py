"""Real clusters whose queue is followed by the states of its jobs, as a long one is.

What is tested of a short queue is tested here again. No list of jobs may be asked for.
"""

import asyncio
from unittest.mock import patch

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm import executor as slurm_executor
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.slurmrest.client import SlurmClient
from tests.integration import test_slurm_identity, test_slurm_service, test_slurm_shards
from tests.integration.test_slurm_newest import NewestCluster
from tests.support.executor_contract import a_script


class LongQueue(test_slurm_service.ClusterTest):
    """An executor to which every queue is a long one."""

    def setUp(self) -> None:
        super().setUp()
        no_lists = AssertionError("a list of all jobs was asked for")
        for patched in (
            patch.object(SlurmClient, "jobs", side_effect=no_lists),
            patch.object(slurm_executor, "FEW", 0),  # else few jobs are asked for by their numbers
        ):
            patched.start()
            self.addCleanup(patched.stop)

    def make(self, **values) -> SlurmExecutor:
        """Make an executor for the cluster."""
        hpc = self.hpc(**values)
        return SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5, long_queue=-1)


class Following:
    """What is different if only states are listed."""

    async def test_a_reason_that_changes_without_the_state(self):
        ref = await self.begin("exit 0", begin_time="2040-01-01T00:00:00")
        await self.until(ref, RunState.PENDING, reason="waits for its begin time")
        self.cluster.run("scontrol", "hold", self.number(ref))
        await self.until(ref, RunState.PENDING, reason="held by an administrator")
        await self.executor.cancel(ref)

    async def test_a_job_that_others_started_is_shown_until_slurm_forgets_it(self):
        ref = await self.begin("sleep 100", hold=True)
        wrap = ("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 3", "--job-name=by-hand")
        number = int(self.cluster.run(*wrap))
        shown = await self.others_until(lambda job: job is not None and job.ended_at)
        self.assertEqual((number, RunState.FAILED), (shown.number, shown.state))
        self.assertEqual(self.cluster.node, shown.node)
        await self.others_until(lambda job: job is None)
        await self.executor.cancel(ref)

    async def others_until(self, is_reached):
        """Wait for the only job of others to be in a state, and return it."""
        async with asyncio.timeout(120):
            while True:
                jobs = [
                    job
                    for job in (await self.executor.others(ask=True)).jobs
                    if job.name == "by-hand"
                ]
                self.assertLessEqual(len(jobs), 1)
                if is_reached(found := next(iter(jobs), None)):
                    return found
                await asyncio.sleep(0.1)

    async def test_an_array_that_others_started(self):
        wrap = ("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 0", "--array=1-4")
        number = self.cluster.run(*wrap).strip()
        states = {RunState.COMPLETED}
        async with asyncio.timeout(120):
            while True:
                others = await self.executor.others(ask=True)
                found = {job.number: job.state for job in others.jobs if job.name == "wrap"}
                if set(found.values()) == states and len(found) == 4:
                    break
                await asyncio.sleep(0.1)
        self.assertIn(int(number), found)

    async def test_a_lost_answer_is_found_by_a_service_that_starts_again(self):
        spec = a_script("sleep 100", settings={"hold": True})
        [started] = await self.executor.start([spec])
        again = self.make()
        self.addAsyncCleanup(again.close)
        await again.open([spec.job_id])
        [found] = await again.find([spec])
        self.assertEqual(started.ref, found.ref)
        await again.cancel(found.ref)

    async def test_a_controller_that_is_down_ends_no_job(self):
        ref = await self.begin("sleep 100", hold=True)
        await self.until(ref, RunState.PENDING)
        await asyncio.to_thread(self.cluster.kill, "slurmctld")
        try:
            with self.assertRaises(test_slurm_service.ExecutorError):
                await self.executor.statuses([ref])
        finally:
            await asyncio.to_thread(self.cluster.start_daemon, "slurmctld")
        await self.until(ref, RunState.PENDING)
        await self.executor.cancel(ref)


class NextEndsTest(Following, LongQueue, test_slurm_service.NextEndsTest):
    """How jobs end, with Slurm 24.11."""


class NextIdentityTest(LongQueue, test_slurm_identity.NextIdentityTest):
    """Which jobs are ours, with Slurm 24.11."""


class NextOnceTest(LongQueue, test_slurm_shards.NextOnceTest):
    """Jobs in shards, with Slurm 24.11."""

    def make(self, **values) -> SlurmExecutor:
        """Make an executor that cuts jobs into three."""
        options = {"shards": 3, "shards_exclusive": False, "python": str(self.python)}
        return super().make(**options | values)


class NewestEndsTest(Following, LongQueue, NewestCluster, test_slurm_service.EndsTest):
    """How jobs end, with the newest Slurm."""


class NewestOnceTest(NewestCluster, NextOnceTest):
    """Jobs in shards, with the newest Slurm."""
