"""The logs of the shards of a job: read where the job runs, or brought by the shards."""

from typing import Any

import httpx

from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_logs import SHARD_TAIL_BYTES
from tests.support.application import ApplicationTest
from tests.support.jobs import a_job


class ShardLogTest(ApplicationTest):
    """A job that is cut into three."""

    settings = {"callback_url": "http://transfer.example"}

    async def asyncSetUp(self) -> None:
        """Record a job."""
        await super().asyncSetUp()
        self.job = a_job(state=JobState.RUNNING, executor="hand", executor_ref="7")
        self.manager.store.add([self.job])
        self.executor.cut["7"] = 3
        self.executor.states |= {ref: RunStatus(ref, RunState.RUNNING) for ref in "78"}

    async def log(self, shard: int = 0, stream: str = "stderr", **query: Any) -> dict[str, Any]:
        """Read a log as the page does."""
        path = f"/api/jobs/{self.job.id}/log"
        params = {"stream": stream, "shard": shard, **query}
        return self.envelope(await self.client.get(path, params=params))

    async def bring(
        self, text: str, offset: int = 0, shard: int = 1, job_id: str = ""
    ) -> httpx.Response:
        """Bring a piece of a shard's log."""
        job_id = job_id or self.job.id
        token = self.manager.callbacks.cancel_environment(job_id)["UPLOAD_CALLBACK_TOKEN"]
        return await self.client.post(
            f"/api/jobs/{job_id}/log",
            params={"stream": "stderr", "offset": offset, "shard": shard},
            content=text.encode(),
            headers={"authorization": f"Bearer {token}"},
        )

    async def test_each_shard_is_read_by_its_number(self) -> None:
        self.executor.files |= {
            ("7", "stderr"): b"the last job\n",
            ("7.2", "stderr"): b"one\ntwo\nunfinished",
            ("7.2", "stdout"): b"output\n",
        }
        self.assertEqual("the last job\n", (await self.log())["text"])
        found = await self.log(2)
        self.assertEqual(("one\ntwo\n", 3), (found["text"], found["shards"]))
        self.assertEqual("two\n", (await self.log(2, offset=4))["text"])
        self.assertEqual("output\n", (await self.log(2, "stdout"))["text"])
        self.assertEqual("", (await self.log(3))["text"])
        answer = await self.client.get(f"/api/jobs/{self.job.id}/log", params={"shard": 1001})
        self.assertEqual(422, answer.status_code)

    async def test_a_job_that_is_not_cut_has_no_shards(self) -> None:
        self.executor.cut.clear()
        self.executor.files["7", "stderr"] = b"all\n"
        found = await self.log()
        self.assertEqual(("all\n", 0), (found["text"], found["shards"]))
        self.assertEqual("", (await self.log(1))["text"])

    async def test_what_shards_bring_is_shown_where_their_files_cannot_be_read(self) -> None:
        self.executor.cut.clear()
        token = self.manager.callbacks.environment(self.job.id)["UPLOAD_CALLBACK_TOKEN"]
        for shard in (1, 3):
            answer = await self.bring(f"shard {shard}, {token}\n", shard=shard)
            self.assertTrue(self.envelope(answer)["wanted"])
        found = await self.log(3)
        self.assertTrue(found["text"].startswith("shard 3, "), found)
        self.assertNotIn(token, found["text"])
        self.assertEqual(3, found["shards"])
        self.assertIn("shard 1", (await self.log(1))["text"])
        self.assertEqual("", (await self.log())["text"])

    async def test_of_much_text_the_last_is_stored(self) -> None:
        text = "a line\n" * SHARD_TAIL_BYTES
        await self.bring(text)
        shown = (await self.log(1))["text"]
        self.assertLessEqual(len(shown), SHARD_TAIL_BYTES)
        self.assertGreater(len(shown), SHARD_TAIL_BYTES - 20)

    async def test_a_shard_that_runs_before_the_job_is_known_to_be_submitted_sends_again(
        self,
    ) -> None:
        early = a_job(state=JobState.SUBMITTED, executor="hand", executor_ref="")
        self.manager.store.add([early])
        answer = await self.bring("early\n", job_id=early.id)
        self.assertEqual((409, 0), (answer.status_code, self.envelope(answer)["offset"]))
        self.manager.store.update(early.id, executor_ref="8")
        answer = await self.bring("early\n", job_id=early.id)
        self.assertEqual((200, 6), (answer.status_code, self.envelope(answer)["offset"]))

    async def test_what_can_be_read_or_is_nobodys_is_not_wanted(self) -> None:
        self.executor.files["7.1", "stderr"] = b"here\n"
        self.assertFalse(self.envelope(await self.bring("here\n"))["wanted"])
        path = f"/api/jobs/{self.job.id}/log?stream=stderr&offset=0&shard=1"
        answer = await self.client.post(path, content=b"x\n")
        self.assertEqual(401, answer.status_code)
