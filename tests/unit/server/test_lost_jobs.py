"""Jobs that a cluster, a mock on HTTP, loses soon after it accepted them."""

import asyncio

import httpx

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.server import create_app
from tests.support import slow
from tests.support.mock_cluster import ClusterServiceTest

BEGIN = b'{"time": 1.5, "step": "prepare", "kind": "begin", "message": "begins"}\n'
LOG = "aind_data_transfer_service.executors"


@slow
class LostJobsTest(ClusterServiceTest):
    """The jobs reach the service by HTTP; none of their files is seen."""

    callback_url = "http://transfer.example"

    async def submit(self) -> tuple[JobManager, str]:
        """Start a service, have it submit a job, and look at the job once."""
        manager = await self.start(monitor_interval=None)
        submission = await manager.submit_hpc(self.requests(1))
        await manager._term.monitor.look()
        return manager, submission.responses[0]["job_id"]

    async def bring(self, manager: JobManager, job_id: str, what: str, data: bytes) -> None:
        """Bring something as the job does."""
        token = manager.callbacks.environment(job_id)["UPLOAD_CALLBACK_TOKEN"]
        transport = httpx.ASGITransport(create_app(manager.settings, manager))
        async with httpx.AsyncClient(
            transport=transport,
            base_url=self.callback_url,
            headers={"authorization": f"Bearer {token}"},
        ) as client:
            response = await client.post(f"/api/jobs/{job_id}/{what}", content=data)
        self.assertEqual(200, response.status_code, response.text)

    async def lose(self, manager: JobManager, job_id: str) -> tuple[JobState, int]:
        """Have the cluster lose all jobs; return the state of ours, and how many were submitted."""
        self.cluster._jobs.clear()
        with self.assertLogs(LOG, "WARNING") as logs:
            async with asyncio.timeout(10):
                while not logs.output:  # right after a list of all jobs there is a rest
                    await manager._term.monitor.look()
        return (await manager.get(job_id)).state, self.cluster._last_id

    async def test_one_that_told_nothing_is_submitted_again(self):
        manager, job_id = await self.submit()
        self.assertEqual((JobState.PENDING, 2), await self.lose(manager, job_id))

    async def test_one_that_reported_an_event_is_not_submitted_again(self):
        manager, job_id = await self.submit()
        await self.bring(manager, job_id, "events?offset=0", BEGIN)
        self.assertEqual((JobState.UNKNOWN, 1), await self.lose(manager, job_id))

    async def test_one_that_brought_its_log_is_not_submitted_again(self):
        manager, job_id = await self.submit()
        await self.bring(manager, job_id, "log?stream=stderr&offset=0", b"begins\n")
        self.assertEqual((JobState.UNKNOWN, 1), await self.lose(manager, job_id))

    async def test_one_of_which_a_shard_brought_its_log_is_not_submitted_again(self):
        manager, job_id = await self.submit()
        await self.bring(manager, job_id, "log?stream=stderr&offset=0&shard=3", b"begins\n")
        self.assertEqual((JobState.UNKNOWN, 1), await self.lose(manager, job_id))
