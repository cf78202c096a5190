"""Files of jobs on a cluster that the service cannot read: the pages and /readyz say so."""

import asyncio
import os
import pwd
import unittest

import httpx

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.server import create_app
from tests.support import slow
from tests.support.mock_cluster import ClusterServiceTest
from tests.support.unprivileged import unprivileged
from tests.test_server.cluster import Pace
from tests.unit.executors.slurm.test_executor import SlurmTest, a_job

USER = pwd.getpwuid(os.geteuid()).pw_name


class UnreadableFilesTest(ClusterServiceTest):
    """A service on a cluster that only pretends: the test writes the files of its job."""

    pace = Pace(pending=0, run=600)

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.enterContext(unprivileged())
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.addCleanup(self.logs.chmod, 0o755)

    async def serve(self, **hpc_settings) -> None:
        """Start a service, and a client of it."""
        self.manager = await self.start(logging_directory=str(self.logs), **hpc_settings)
        app = create_app(self.manager.settings, self.manager)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        )
        self.addAsyncCleanup(self.client.aclose)

    async def begin(self) -> str:
        """Submit a job, and wait until it runs."""
        submission = await self.manager.submit_hpc(self.requests(1))
        job_id = submission.responses[0]["job_id"]
        await self.until(lambda job: job.state == "RUNNING", job_id)
        return job_id

    async def until(self, is_so, job_id: str):
        """Wait until a job is as expected."""
        async with asyncio.timeout(10):
            while not is_so(job := await self.manager.get(job_id)):
                await asyncio.sleep(0.01)
        return job

    def write(self, job_id: str, *endings: str, mode: int = 0o600) -> None:
        """Write files as a job does."""
        for ending in endings:
            path = self.logs / f"{job_id}{ending}"
            path.touch()
            path.chmod(mode)

    async def warnings(self) -> list[str]:
        """Ask whether the service is ready."""
        answer = await self.client.get("/readyz")
        self.assertEqual(200, answer.status_code)
        return answer.json()["data"]["warnings"]

    async def assert_said(self, job_id: str, *words: str) -> None:
        """Look for words on the page of a job, in its log and in /readyz."""
        await self.until(lambda job: words[0] in job.reason, job_id)
        page = (await self.client.get(f"/jobs/{job_id}")).text
        log = (await self.client.get(f"/api/jobs/{job_id}/log")).json()["data"]
        for word in words:
            self.assertIn(word, page)
            self.assertIn(word, log["problem"])
            self.assertIn(word, "\n".join(await self.warnings()))
            self.assertIn(word, (await self.client.get("/service")).text)

    @slow
    async def test_files_that_the_jobs_user_keeps_to_itself(self):
        await self.serve()
        for unreadable in (".events.jsonl", ".out", ".err", ".end"):
            with self.subTest(unreadable):
                job_id = await self.begin()
                self.write(job_id, ".claim", ".out", ".err", ".events.jsonl")
                self.write(job_id, unreadable, mode=0)
                path = str(self.logs / f"{job_id}{unreadable}")
                await self.assert_said(job_id, path, USER, "mode 0000", "umask 027")
                self.write(job_id, unreadable)
                await self.until(lambda job: not job.reason, job_id)
                self.assertEqual([], await self.warnings())

    @unittest.skipIf(os.geteuid(), "only root gives files away")
    async def test_an_owner_whom_only_the_nodes_know_is_named_by_number(self):
        await self.serve()
        job_id = await self.begin()
        self.write(job_id, ".claim", ".err", ".events.jsonl", ".out")
        for ending in (".err", ".events.jsonl", ".out"):
            os.chown(self.logs / f"{job_id}{ending}", 60_123, -1)
        await self.assert_said(job_id, "belongs to uid 60123 with mode 0600")

    @slow
    async def test_a_folder_that_the_service_may_not_enter_or_does_not_have(self):
        await self.serve()
        job_id = await self.begin()
        self.assertEqual([], await self.warnings())
        self.logs.chmod(0)
        await self.assert_said(job_id, str(self.logs), USER, "mode 0000")
        self.logs.chmod(0o755)
        await self.until(lambda job: not job.reason, job_id)
        moved = self.logs.rename(self.folder / "elsewhere")
        await self.assert_said(job_id, str(self.logs), USER, "does not exist", "mount the folder")
        moved.rename(self.logs)
        await self.until(lambda job: not job.reason, job_id)

    async def test_a_folder_to_which_no_node_writes(self):
        await self.serve()
        self.manager.executor._grace = 0.0
        job_id = await self.begin()
        await self.until(lambda job: "no file of it" in job.reason, job_id)
        [warning] = await self.warnings()
        self.assertIn(str(self.logs), warning)
        self.write(job_id, ".claim")
        await self.until(lambda job: not job.reason, job_id)


class ForgottenTest(SlurmTest):
    """A job that Slurm has forgotten, and whose files cannot be read."""

    async def asyncSetUp(self):
        self.enterContext(unprivileged())
        await super().asyncSetUp()
        for ending in (".claim", ".end"):
            (self.folder / f"j1{ending}").touch(mode=0)

    async def test_it_is_not_said_that_it_never_began(self):
        status = await self.status("55:j1")
        self.assertEqual(RunState.LOST, status.state)
        for words in (f"{self.folder}/j1.", USER, "mode 0000"):
            self.assertIn(words, status.reason)
        self.assertNotIn("never began", status.reason)

    async def test_it_is_not_sent_again(self):
        [started] = await self.executor.start([a_job("j1")])
        self.assertEqual((None, True), (started.ref, started.again))
        self.assertIn(f"{self.folder}/j1.claim", started.error)
        self.assertEqual([], self.client.submissions)


class CallbacksTest(SlurmTest):
    """Jobs that bring their events need no folder; a file that is there has to be readable."""

    async def test_a_folder_that_is_not_shared_is_no_problem_of_the_job(self):
        callbacks = Callbacks("http://transfer", self.folder / "secret")
        callbacks.open()
        self.enterContext(unprivileged())
        self.executor = self.make(callbacks=callbacks, logging_directory=f"{self.folder}/logs")
        self.executor._grace = 0.0
        for is_there in (False, True):
            if is_there:
                (self.folder / "logs").mkdir()
            chunk = await self.executor.read("7:j1", "events", 0, 10)
            self.assertEqual((b"", ""), (chunk.data, chunk.problem))
            await self.executor.read("7:j1", "stderr", 0, 10)
            self.assertEqual([], await self.executor.file_problems())
        (self.folder / "logs" / "j1.out").touch(mode=0)
        chunk = await self.executor.read("7:j1", "events", 0, 10)
        self.assertIn("j1.out", chunk.problem)
        [problem] = await self.executor.file_problems()
        self.assertIn("j1.out", problem)


if __name__ == "__main__":
    unittest.main()
