"""The end of a job's log on its way to a real service, by HTTP."""

import asyncio
import os
import tempfile
import time
import unittest
from pathlib import Path

import httpx

from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.upload.log_tail import PIECE, LogTail
from tests.support import free_port
from tests.support.application import HandExecutor
from tests.support.jobs import a_job
from tests.support.service import Service
from tests.support.slurm_faults import Fault, FaultyServer


class LogTailTest(unittest.IsolatedAsyncioTestCase):
    """A service that sees no file of the job, and a job that writes a log."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        port = free_port()
        self.service = Service(port, callback_url=f"http://127.0.0.1:{port}")
        self.executor = HandExecutor()
        self.executor.states["7"] = RunStatus("7", RunState.RUNNING)
        self.service.manager.executor = self.executor
        self.enterContext(self.service)
        self.job = a_job(state=JobState.RUNNING, executor="hand", executor_ref="7")
        self.service.manager.store.add([self.job])
        environment = self.service.manager.callbacks.environment(self.job.id)
        self.headers = {"Authorization": f"Bearer {environment['UPLOAD_CALLBACK_TOKEN']}"}
        self.client = self.enterContext(httpx.Client(headers=self.headers, trust_env=False))

    def log(self, name: str = "log") -> int:
        """Open a log as Slurm does, to which the job appends."""
        number = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.addCleanup(os.close, number)
        return number

    def tail(self, url: str = "", **descriptors: int) -> LogTail:
        """Make what sends the logs, each time that it is asked to."""
        url = f"{url or self.service.url}/api/jobs/{self.job.id}/log"
        tail = LogTail(url, descriptors, interval=0.0)
        self.addCleanup(tail.close)
        return tail

    def shown(self, stream: str = "stderr", **query: int) -> dict:
        """Ask for the log as the page does."""
        path = f"{self.service.url}/api/jobs/{self.job.id}/log"
        answer = httpx.get(path, params={"stream": stream, **query}, trust_env=False)
        return answer.json()["data"]

    def test_lines_arrive_once_and_the_last_one_at_the_end(self) -> None:
        out, err = self.log("out"), self.log("err")
        tail = self.tail(stdout=out, stderr=err)
        os.write(err, b"one\ntw")
        os.write(out, "ünï ☃\n".encode())
        tail.send(self.client)
        self.assertEqual(("one\n", "ünï ☃\n"), (self.shown()["text"], self.shown("stdout")["text"]))
        os.write(err, b"o\nthree")
        tail.send(self.client)
        tail.send(self.client)
        place = self.shown()["next_offset"]
        tail.send(self.client, is_last=True)
        self.service.manager.store.update(self.job.id, state=JobState.CANCELLED)
        self.assertEqual("three", self.shown(offset=place)["text"])
        self.assertEqual("one\ntwo\nthree", self.shown()["text"])

    def test_secrets_are_not_stored(self) -> None:
        err, token = self.log(), self.headers["Authorization"].split()[1]
        os.write(err, f"curl -H 'Authorization: Bearer {token}'\n".encode())
        self.tail(stderr=err).send(self.client)
        self.assertIn("curl -H", self.shown()["text"])
        for path in self.service.data_dir.rglob("*"):
            if path.is_file():
                self.assertNotIn(token.encode(), path.read_bytes(), path)

    async def test_an_answer_that_is_lost_tells_nothing_twice(self) -> None:
        err = self.log()
        os.write(err, b"one\n")
        async with FaultyServer(Fault.CLOSE, None, upstream=self.service.url) as server:
            tail = self.tail(server.url, stderr=err)
            await asyncio.to_thread(tail.send, self.client)
            os.write(err, b"two\n")
            await asyncio.to_thread(tail.send, self.client)
            await asyncio.to_thread(tail.send, self.client)
        self.assertEqual("one\ntwo\n", self.shown()["text"])

    def test_a_job_that_runs_again_on_another_node_goes_on_after_the_first_run(self) -> None:
        first, second = self.log("first"), self.log("second")
        os.write(first, b"a long line of the first run\n")
        self.tail(stderr=first).send(self.client)
        tail = self.tail(stderr=second)
        for line in (b"again\n", b"and on\n"):
            os.write(second, line)
            tail.send(self.client)
        told = "a long line of the first run\nagain\nand on\n"
        self.assertEqual(told, self.shown()["text"])

    def test_of_much_text_the_last_is_sent(self) -> None:
        err = self.log()
        os.write(err, b"first\n" + b"x" * 5 * PIECE + b"\nlast\n")
        self.tail(stderr=err).send(self.client)
        text = self.shown()["text"]
        self.assertNotIn("first", text)
        self.assertTrue(text.endswith("x\nlast\n"))
        self.assertLessEqual(len(text), PIECE)

    def test_a_service_that_reads_the_log_itself_or_knows_the_end_wants_none(self) -> None:
        for state, file in ((JobState.RUNNING, b"read\n"), (JobState.CANCELLED, b"")):
            self.executor.files["7", "stderr"] = file
            self.service.manager.store.update(self.job.id, state=state)
            err = self.log(state.value)
            os.write(err, b"brought\n")
            tail = self.tail(stderr=err)
            tail.send(self.client)
            self.assertEqual([], tail._streams)
            self.assertEqual(file.decode(), self.shown()["text"])

    def test_what_is_no_file_is_not_sent_and_a_service_that_is_away_does_no_harm(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        err = self.log()
        os.write(err, b"one\n")
        began = time.monotonic()
        tail = self.tail(f"http://127.0.0.1:{free_port()}", stdout=write, stderr=err)
        tail.send(self.client)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual("", self.shown()["text"])

    def test_only_the_jobs_own_token_is_let_in(self) -> None:
        path = f"{self.service.url}/api/jobs/{self.job.id}/log"
        for params, headers, status in (
            ({"stream": "stderr", "offset": 0}, {"Authorization": "Bearer x"}, 401),
            ({"stream": "events", "offset": 0}, self.headers, 422),
            ({"stream": "stderr", "offset": -1}, self.headers, 422),
        ):
            answer = httpx.post(path, params=params, headers=headers, content=b"x\n")
            self.assertEqual(status, answer.status_code)
        large = b"x" * (1024**2 + 1)
        params = {"stream": "stderr", "offset": 0}
        answer = httpx.post(path, params=params, headers=self.headers, content=large)
        self.assertEqual(413, answer.status_code)


if __name__ == "__main__":
    unittest.main()
