"""Events that jobs bring themselves."""

import asyncio
from typing import Any

import httpx

from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.event_parser import PIECE
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.server.middleware import EVENTS_BYTES
from tests.support import slow
from tests.support.application import ApplicationTest
from tests.support.jobs import a_job, event_line

BEGIN = event_line("transfer", "start", "begins")
HALF = event_line("transfer", "progress", files_done=1, files_total=2)
END = event_line("done", "end", "all is there")


class CallbackTest(ApplicationTest):
    """A job that runs where the service sees none of its files."""

    settings = {"callback_url": "http://transfer.example"}

    async def asyncSetUp(self) -> None:
        """Record a job."""
        await super().asyncSetUp()
        self.job = a_job(state=JobState.RUNNING, executor="elsewhere", executor_ref="7")
        self.manager.store.add([self.job])

    def token(self, job_id: str) -> str:
        """Give a job's token."""
        return self.manager.callbacks.environment(job_id)["UPLOAD_CALLBACK_TOKEN"]

    async def bring(
        self, data: bytes, offset: Any = 0, job_id: str = "", **headers: str
    ) -> httpx.Response:
        """Bring a piece of the job's events."""
        job_id = job_id or self.job.id
        headers = {"authorization": f"Bearer {self.token(job_id)}"} | headers
        path = f"/api/jobs/{job_id}/events"
        params = {} if offset is None else {"offset": offset}
        return await self.client.post(path, params=params, content=data, headers=headers)

    async def told(self) -> list[str]:
        """Give the messages that are on record."""
        return [event.message for event in await self.manager.events(self.job.id)]

    async def test_what_is_brought_is_on_record_and_on_the_pages_at_once(self) -> None:
        listener = self.manager.feed.subscribe()
        response = await self.bring(BEGIN + HALF)
        self.assertEqual((200, len(BEGIN + HALF)), self.position(response))
        async with asyncio.timeout(5):
            heard = await anext(listener)
        self.assertEqual((self.job.id, "transfer", 1), (heard.id, heard.step, heard.files_done))
        self.assertEqual(["begins"], await self.told())
        await self.bring(END, len(BEGIN + HALF))
        self.assertEqual(["begins", "all is there"], await self.told())

    async def test_the_host_of_the_callback_url_needs_no_further_setting(self) -> None:
        response = await self.bring(BEGIN, host="transfer.example")
        self.assertEqual((200, len(BEGIN)), self.position(response))
        response = await self.bring(HALF, len(BEGIN), host="other.example")
        self.assertEqual(400, response.status_code)

    def position(self, response: httpx.Response) -> tuple[int, int]:
        """Give the status, and where the service wants to go on."""
        return response.status_code, self.envelope(response)["offset"]

    async def test_what_comes_twice_or_too_early_is_not_taken(self) -> None:
        await self.bring(BEGIN)
        self.assertEqual((409, len(BEGIN)), self.position(await self.bring(BEGIN)))
        self.assertEqual((409, len(BEGIN)), self.position(await self.bring(END, 10_000)))
        self.assertEqual(["begins"], await self.told())

    @slow
    async def test_of_two_who_bring_the_same_at_once_one_is_heard(self) -> None:
        answers = await asyncio.gather(*(self.bring(BEGIN) for _ in range(8)))
        self.assertEqual([200, *[409] * 7], sorted(one.status_code for one in answers))
        self.assertEqual(["begins"], await self.told())

    @slow
    async def test_a_line_that_is_not_whole_is_left_for_later(self) -> None:
        response = await self.bring(BEGIN + END[:20])
        self.assertEqual((200, len(BEGIN)), self.position(response))
        self.assertEqual((200, len(BEGIN)), self.position(await self.bring(END[:20], len(BEGIN))))
        await self.bring(END, len(BEGIN))
        self.assertEqual(["begins", "all is there"], await self.told())

    @slow
    async def test_what_is_no_event_is_passed_over(self) -> None:
        endless = b"x" * PIECE
        response = await self.bring(endless)
        self.assertEqual((200, PIECE), self.position(response))
        await self.bring(b"x\n\xff\n" + BEGIN, PIECE)
        self.assertEqual(["begins"], await self.told())

    @slow
    async def test_only_the_jobs_own_token_is_let_in(self) -> None:
        other = a_job(state=JobState.RUNNING, executor="elsewhere", executor_ref="8")
        self.manager.store.add([other])
        good = self.token(self.job.id)
        for header in ("", good, f"Basic {good}", "Bearer x", f"Bearer {self.token(other.id)}"):
            response = await self.bring(BEGIN, authorization=header)
            self.assertEqual(401, response.status_code, header)
            self.assertEqual("Bearer", response.headers["www-authenticate"])
            self.assertNotIn(good, response.text)
        response = await self.bring(BEGIN, authorization="", cookie=f"token={good}")
        self.assertEqual(401, response.status_code)
        self.assertEqual([], await self.told())

    @slow
    async def test_a_job_that_is_not_there_or_over_is_told_so(self) -> None:
        self.assertEqual(404, (await self.bring(BEGIN, job_id="nowhere")).status_code)
        self.manager.store.update(self.job.id, state=JobState.CANCELLED)
        response = await self.bring(BEGIN)
        self.assertEqual(410, response.status_code)
        self.assertIn("has ended", self.envelope(response)["errors"][0])
        self.assertEqual([], await self.told())

    @slow
    async def test_a_job_whose_end_nobody_knew_gets_it(self) -> None:
        failed = a_job(state=JobState.UNKNOWN, executor="elsewhere", executor_ref="8")
        self.manager.store.add([failed])
        self.manager.store.update(self.job.id, state=JobState.UNKNOWN, reason="forgotten")
        await self.bring(BEGIN)
        self.assertIs(JobState.UNKNOWN, (await self.manager.get(self.job.id)).state)
        await self.bring(END, len(BEGIN))
        job = await self.manager.get(self.job.id)
        self.assertEqual((JobState.COMPLETED, ""), (job.state, job.reason))
        await self.bring(event_line("transfer", "fail", "the disk is gone"), job_id=failed.id)
        job = await self.manager.get(failed.id)
        self.assertEqual((JobState.FAILED, "the disk is gone"), (job.state, job.reason))

    async def test_a_job_can_ask_whether_a_user_has_cancelled_it(self) -> None:
        environment = self.manager.callbacks.environment(self.job.id)
        path = environment["UPLOAD_CANCEL_URL"].removeprefix("http://transfer.example")

        async def ask(token: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}"}
            return await self.client.get(path, headers=headers)

        token = environment["UPLOAD_CALLBACK_TOKEN"]
        self.assertEqual({"cancel_requested": False}, self.envelope(await ask(token)))
        self.manager.store.update(self.job.id, cancel_requested=True)
        self.assertEqual({"cancel_requested": True}, self.envelope(await ask(token)))
        self.manager.store.update(self.job.id, state=JobState.CANCELLED)
        self.assertEqual({"cancel_requested": True}, self.envelope(await ask(token)))
        for other in ("", self.token("another")):
            self.assertEqual(401, (await ask(other)).status_code)

    async def test_what_is_asked_wrongly_is_refused_in_words(self) -> None:
        for offset in (None, -1, "x", 2**70):
            self.assertEqual(422, (await self.bring(BEGIN, offset)).status_code)
        response = await self.bring(b"x" * (EVENTS_BYTES + 1))
        self.assertEqual(413, response.status_code)
        self.assertIn("1 MiB", self.envelope(response)["errors"][0])
        cross = await self.bring(BEGIN, origin="https://evil.example")
        self.assertEqual(403, cross.status_code)

    @slow
    async def test_a_request_that_breaks_off_is_no_fault_of_ours(self) -> None:
        messages = [
            {"type": "http.request", "body": BEGIN, "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[dict] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/api/jobs/{self.job.id}/events",
            "query_string": b"offset=0",
            "headers": [(b"authorization", f"Bearer {self.token(self.job.id)}".encode())],
        }

        async def receive() -> dict:
            return messages.pop(0)

        async def send(message: dict) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        self.assertEqual(400, sent[0]["status"])
        self.assertEqual([], await self.told())


class BothWaysTest(ApplicationTest):
    """The service reads the file, and the job brings the same events."""

    settings = {"callback_url": "http://transfer.example", "monitor_interval": 0.002}

    @slow
    async def test_nothing_is_told_twice_and_nothing_is_left_out(self) -> None:
        job = a_job(state=JobState.RUNNING, executor="hand", executor_ref="7")
        self.executor.states["7"] = RunStatus("7", RunState.RUNNING)
        self.manager.store.add([job])
        lines = [event_line("transfer", "warning", f"number {index}") for index in range(150)]
        lines.append(END)
        position, file = 0, b""
        for index, line in enumerate(lines):
            file += line
            self.executor.files["7", "events"] = file
            if index % 3:
                receipt = await self.manager.inbox.take(job.id, position, file[position:])
                position = receipt.position
            if index % 10 == 0:
                await asyncio.sleep(0.005)  # the monitor's turn
        self.executor.states["7"] = RunStatus("7", RunState.COMPLETED, exit_code=0)
        async with asyncio.timeout(10):
            while (await self.manager.get(job.id)).state is not JobState.COMPLETED:
                await asyncio.sleep(0.01)
        told = [event.message for event in await self.manager.events(job.id)]
        self.assertEqual([*(f"number {index}" for index in range(150)), "all is there"], told)
        self.assertEqual(len(file), (await self.manager.get(job.id)).events_offset)


class SwitchedOffTest(ApplicationTest):
    """A service without INTERNAL_URL."""

    async def test_nobody_is_let_in(self) -> None:
        response = await self.client.post("/api/jobs/a/events?offset=0", content=BEGIN)
        self.assertEqual(401, response.status_code)
        self.assertFalse((self.state_dir / "callback.secret").exists())
