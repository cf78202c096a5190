"""A cluster whose queue is full: jobs wait in the service; the cluster is a mock on HTTP."""

import asyncio
import unittest

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import JobState
from tests.support import slow
from tests.support.mock_cluster import ClusterServiceTest
from tests.support.slurm_faults import FaultyServer, Reply

INVALID = {"error_code": 2000, "error": "Invalid partition name specified"}


class QueueFullTest(ClusterServiceTest):
    """The cluster takes no more jobs for now."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.cluster.max_job_count = 1

    async def submit(self, manager: JobManager, count: int) -> list[str]:
        """Submit jobs, and return their IDs."""
        submission = await manager.submit_hpc(self.requests(count))
        return [response["job_id"] for response in submission.responses]

    async def until(self, manager: JobManager, ids: list[str], state: JobState) -> None:
        """Wait until all jobs are in a state."""
        async with asyncio.timeout(20):
            while {(await manager.get(job_id)).state for job_id in ids} != {state}:
                await asyncio.sleep(0.02)

    def comments(self) -> list[str]:
        """List the marks of the jobs on the cluster."""
        return sorted(job.properties["comment"] for job in self.cluster.jobs())

    @slow
    async def test_jobs_stay_submitted_with_the_reason_and_are_sent_once_there_is_room(self):
        manager = await self.start()
        ids = await self.submit(manager, 12)
        for job in [await manager.get(job_id) for job_id in ids]:
            self.assertEqual(JobState.SUBMITTED, job.state)
            self.assertIn("its queue is full", job.reason)
            self.assertIn("Resource temporarily unavailable (11)", job.reason)
        self.cluster.max_job_count = 100
        await self.until(manager, ids, JobState.PENDING)
        marks = sorted(f"aind-data-transfer-service:{job_id}" for job_id in ids)
        self.assertEqual(marks, self.comments())
        for job_id in ids:
            self.assertNotIn("full", (await manager.get(job_id)).reason)

    @slow
    async def test_a_waiting_job_is_cancelled_for_good(self):
        manager = await self.start()
        first, second = await self.submit(manager, 2)
        job = await manager.cancel(first)
        self.assertEqual(JobState.CANCELLED, job.state)
        self.assertIn("before it was sent", job.reason)
        self.cluster.max_job_count = 100
        await self.until(manager, [second], JobState.PENDING)
        self.assertEqual([f"aind-data-transfer-service:{second}"], self.comments())

    @slow
    async def test_a_restart_keeps_waiting_jobs(self):
        manager = await self.start(monitor_interval=60)
        ids = await self.submit(manager, 3)
        await manager.stop()
        self.cluster.max_job_count = 100
        manager = await self.start()
        await self.until(manager, ids, JobState.PENDING)
        self.assertEqual(3, len(self.cluster.jobs()))

    @slow
    async def test_what_the_cluster_refuses_for_good_fails_at_once(self):
        self.cluster.max_job_count = 100
        upstream = f"http://127.0.0.1:{self.port}"
        for passes_on, state in ((False, JobState.FAILED), (True, JobState.PENDING)):
            refusal = Reply(200, {"errors": [INVALID]}, passes_on=passes_on)
            choose = lambda seen: refusal if seen.method == "POST" else None  # noqa: E731
            server = FaultyServer(upstream=upstream, choose=choose)
            await self.enterAsyncContext(server)
            manager = await self.start(int(server.url.rpartition(":")[2]))
            [job_id] = await self.submit(manager, 1)
            job = await manager.get(job_id)
            self.assertEqual(state, job.state)
            self.assertEqual(state is JobState.FAILED, "Invalid partition" in job.reason)
            await manager.stop()
        self.assertEqual(1, len(self.cluster.jobs()))


class UnreachableTest(ClusterServiceTest):
    """The cluster is away."""

    @slow
    async def test_a_job_that_waits_for_the_cluster_says_so(self):
        manager = await self.start(port=1)
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            submission = await manager.submit_hpc(self.requests(1))
            job = await manager.get(submission.responses[0]["job_id"])
        self.assertEqual(JobState.SUBMITTED, job.state)
        self.assertIn("cannot be reached", job.reason)


if __name__ == "__main__":
    unittest.main()
