"""Jobs that a real cluster ends or moves for want of room: memory that ran out, and preemption."""

import unittest

from aind_data_transfer_service.executors.base import RunState
from tests.integration import test_slurm_service

_PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=cheap Nodes=ALL PriorityTier=1 PreemptMode=CANCEL
PartitionName=patient Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
_HUNGRY = "x=$(head -c 300M /dev/zero | tr '\\0' 'a')"


class PressureTest(test_slurm_service.ClusterTest):
    """One job at once, with the memory that it asked for, and partitions of several priorities."""

    options = {"cpus": 1, "limits_memory": True, "extra": _PREEMPTION}

    async def asyncSetUp(self):
        self.executor = self.make()
        self.addAsyncCleanup(self.executor.close)

    begin = test_slurm_service.EndsTest.begin
    until = test_slurm_service.EndsTest.until
    number = test_slurm_service.EndsTest.number
    start_now = test_slurm_service.EndsTest.start_now

    async def test_a_job_that_runs_out_of_memory_says_so(self):
        ref = await self.begin(_HUNGRY, "sleep 60", memory_per_cpu=50)
        status = await self.until(ref, RunState.FAILED)
        self.assertIn("ran out of memory (50 MB per CPU)", status.reason)
        self.assertTrue(status.decisive)

    async def test_a_job_that_is_preempted_says_so(self):
        ref = await self.begin("sleep 60", partition="cheap")
        await self.until(ref, RunState.RUNNING)
        urgent = await self.begin("exit 0", partition="urgent")
        status = await self.until(ref, RunState.FAILED)
        self.assertIn("made way for a job of higher priority", status.reason)
        self.assertTrue(status.decisive)
        await self.until(urgent, RunState.COMPLETED)

    async def test_a_job_that_is_preempted_and_queued_again_runs_again(self):
        ref = await self.begin("[ -e go ] || sleep 60", partition="patient")
        await self.until(ref, RunState.RUNNING)
        urgent = await self.begin("touch go", partition="urgent")
        await self.until(ref, RunState.PENDING, reason="back into the queue")
        await self.until(urgent, RunState.COMPLETED)
        self.start_now(ref)
        await self.until(ref, RunState.COMPLETED)


class NextPressureTest(test_slurm_service.Next, PressureTest):
    """The same on the newer generation of Slurm."""


if __name__ == "__main__":
    unittest.main()
