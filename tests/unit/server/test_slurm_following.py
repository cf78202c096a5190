"""How a service on a cluster follows and cancels jobs; the cluster is a mock on HTTP."""

import asyncio
import time
import unittest

from aind_data_transfer_service.jobs.manager import JobManager
from tests.support import slow
from tests.support.mock_cluster import ClusterServiceTest
from tests.support.slurm_faults import Fault, FaultyServer, Seen


class SlurmFollowingTest(ClusterServiceTest):
    """A service that asks a mock through a server that counts, and may keep it waiting."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.slow: set[tuple[str, str]] = set()
        upstream = f"http://127.0.0.1:{self.port}"
        server = FaultyServer(upstream=upstream, choose=self.choose)
        self.server = await self.enterAsyncContext(server)

    def choose(self, seen: Seen) -> Fault | None:
        """Keep those waiting whom the test names."""
        return Fault.HANG if self.kind(seen) in self.slow else None

    @staticmethod
    def kind(seen: Seen) -> tuple[str, str]:
        """Tell what is asked for: `jobs`, `job`, …"""
        return seen.method, (seen.path.partition("?")[0].split("/") + [""] * 3)[3]

    def count(self, method: str, what: str) -> int:
        """Count requests of a kind."""
        return sum(self.kind(seen) == (method, what) for seen in self.server.seen)

    async def serve(self, monitor_interval: float | None = None) -> JobManager:
        """Start a service that asks through the server."""
        return await self.start(int(self.server.url.rpartition(":")[2]), monitor_interval)

    async def until(self, ask) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(10):
            while not ask():
                await asyncio.sleep(0.01)

    @slow
    async def test_a_job_is_cancelled_while_a_poll_gets_no_answer(self):
        manager = await self.serve(monitor_interval=0.05)
        submission = await manager.submit_hpc(self.requests(1))
        job_id = submission.responses[0]["job_id"]
        self.slow = {("GET", "jobs"), ("GET", "job")}
        polled = len(self.server.seen)
        await self.until(lambda: len(self.server.seen) > polled)
        [job] = self.cluster.jobs()
        self.slow = {("GET", "jobs")}
        began = time.monotonic()
        await manager.cancel(job_id)
        self.assertLess(time.monotonic() - began, 5, "the poll is given up after 10 s")
        self.assertEqual("CANCELLED", job.state(self.cluster.clock()))

    @slow
    async def test_one_waiting_job_costs_one_list_and_then_few_single_questions(self):
        manager = await self.serve(monitor_interval=0.05)
        await manager.submit_hpc(self.requests(1))
        before = self.count("GET", "jobs")
        await self.until(lambda: self.count("GET", "job") >= 5)
        self.assertLessEqual(self.count("GET", "jobs") - before, 1)

    @slow
    async def test_a_cluster_is_asked_every_ten_seconds_unless_told_otherwise(self):
        manager = await self.serve()
        await manager.submit_hpc(self.requests(1))
        await self.until(lambda: self.count("GET", "jobs") + self.count("GET", "job") >= 2)
        self.assertEqual(10, manager._term.monitor.pace.interval)
        self.assertEqual([], manager.late_loops)


if __name__ == "__main__":
    unittest.main()
