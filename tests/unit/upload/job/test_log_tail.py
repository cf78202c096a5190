"""The end of a job's log on its way to a real service, by HTTP."""

import asyncio
import os
import tempfile
import time
import unittest
from pathlib import Path

import httpx

from aind_data_transfer_service import redaction
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.upload.job.log_tail import PIECE, LogTail
from tests.support import free_port, slow
from tests.support.application import HandExecutor
from tests.support.jobs import a_job
from tests.support.service import Service
from tests.support.slurm_faults import Fault, FaultyServer


@slow
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
        self.begin()

    def begin(self) -> None:
        """Begin a job, and a client that has its token."""
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
        os.write(err, b"first\n" + b"x" * 99 * PIECE + b"\n" + b"a line\n" * PIECE + b"last\n")
        self.tail(stderr=err).send(self.client)
        text = self.stored()
        self.assertTrue(text.endswith("a line\nlast\n"))
        self.assertEqual({"a line", "last"}, set(text.splitlines()[1:]))
        self.assertLessEqual(len(text.encode()), PIECE)
        self.assertGreater(len(text), PIECE - 20)

    def stored(self, stream: str = "stderr") -> str:
        """Return what the service has stored of a log."""
        return self.service.manager.store.logs.read(self.job.id, stream, 0, 2 * PIECE).data.decode()

    def test_no_part_of_a_secret_is_stored_wherever_a_piece_is_cut(self) -> None:
        secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYSECRETKEY9"
        redaction.learn(secret)
        line = f"AWS_SECRET_ACCESS_KEY={secret}\n".encode()
        for place in (-len(line), -50, -20, -1, 0):
            with self.subTest(place):
                self.begin()
                err = self.log(f"cut at {place}")
                rest = b"y" * (PIECE + place - 7) + b"\nafter\n"
                os.write(err, b"before\n" * 99 + line + rest)
                self.tail(stderr=err).send(self.client)
                text = self.stored()
                self.assertTrue(text.endswith("after\n"), text[-99:])
                self.assertNotIn(secret[-8:], text)
                self.assertNotIn(secret[:8], text)

    def test_no_part_of_a_secret_is_stored_if_a_piece_ends_within_it(self) -> None:
        secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYSECRETKEY9"
        redaction.learn(secret)
        err = self.log()
        tail = self.tail(stderr=err)
        os.write(err, b"y" * (PIECE - 21) + b"\n" + secret[:20].encode())
        tail.send(self.client)
        self.assertNotIn(secret[:8], self.stored())
        os.write(err, f"{secret[20:]}\nafter\n".encode())
        tail.send(self.client)
        self.assertEqual("[hidden]\nafter\n", self.stored()[-15:])

    def test_no_part_of_a_key_is_stored_though_each_line_comes_in_a_piece_of_its_own(self) -> None:
        known = ["shared secret", *(f"line{number}of/a+known=key" for number in range(4)), "short1"]
        redaction.learn("\n".join(known))
        rows = [f"MIIE{number}/ofAnUnknownKey=" for number in range(4)]
        key = ["-----BEGIN OPENSSH PRIVATE KEY-----", *rows, "-----END OPENSSH PRIVATE KEY-----"]
        for together in (1, 2, 3):
            with self.subTest(together=together):
                self.begin()
                err = self.log(f"by {together}")
                tail = self.tail(stderr=err)
                lines = ["one: 1", *known, "two: 2", *key, "three: 3"]
                for start in range(0, len(lines), together):
                    os.write(err, "".join(f"{x}\n" for x in lines[start:][:together]).encode())
                    tail.send(self.client)
                text = self.stored()
                for line in (*known, *rows):
                    self.assertNotIn(line, text)
                for line in ("one: 1\n", "two: 2\n", "three: 3\n"):
                    self.assertIn(line, text)

    def test_a_line_longer_than_a_piece_is_left_out(self) -> None:
        err = self.log()
        tail = self.tail(stderr=err)
        for text, expected in (
            (b"one\n", "one\n"),
            (b"x" * 2 * PIECE, "one\n"),
            (b"x\ntwo\n", "one\n[…]\ntwo\n"),
            (b"x" * 2 * PIECE, "one\n[…]\ntwo\n"),
        ):
            os.write(err, text)
            tail.send(self.client)
            self.assertEqual(expected, self.stored())
        tail.send(self.client, is_last=True)
        self.assertEqual("one\n[…]\ntwo\n", self.stored())

    def test_another_run_does_not_go_on_within_a_line(self) -> None:
        first, second = self.log("first"), self.log("second")
        os.write(first, b"first run\n")
        self.tail(stderr=first).send(self.client)
        os.write(second, b"a line of the second run\nlast\n")
        self.tail(stderr=second).send(self.client)
        self.assertEqual("first run\n[…]\nlast\n", self.stored())

    def test_of_a_piece_after_a_gap_the_service_drops_the_first_line(self) -> None:
        path = f"{self.service.url}/api/jobs/{self.job.id}/log"
        for offset, data, expected in (
            (5, b"half\none\n", "[…]\none\n"),
            (14, b"two\n", "[…]\none\ntwo\n"),
            (99, b"half", "[…]\none\ntwo\n[…]\n"),
        ):
            params = {"stream": "stderr", "offset": offset}
            answer = self.client.post(path, params=params, content=data)
            self.assertEqual(200, answer.status_code)
            self.assertEqual(expected, self.stored())

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

    def test_a_stream_that_the_service_reads_itself_does_not_end_the_other(self) -> None:
        for wanted, unwanted in (("stdout", "stderr"), ("stderr", "stdout")):
            with self.subTest(wanted):
                self.executor.files = {("7", unwanted): b"read\n"}
                self.begin()
                files = {"stderr": self.log(f"{wanted} err"), "stdout": self.log(f"{wanted} out")}
                tail = self.tail(**files)
                for text in (b"one\n", b"two\n"):
                    for number in files.values():
                        os.write(number, text)
                    tail.send(self.client)
                self.assertEqual("one\ntwo\n", self.stored(wanted))
                self.assertEqual("", self.stored(unwanted))

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
