"""The admission of uploads: few at once, some that wait, the others refused."""

import asyncio
import os
import signal

import httpx

from aind_data_transfer_service.server.upload_queue import UploadQueue
from tests.support import slow
from tests.support.application import SITE, ApplicationTest
from tests.support.requests import csv_file, csv_row
from tests.support.spreadsheets import shared_reader

ADDRESS = "/api/validate_csv"
HEADERS = {"content-type": "multipart/form-data; boundary=b"}
BEFORE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
AFTER = b"\r\n--b--\r\n"


class Upload:
    """An upload that sends the end of its file when the test says so."""

    def __init__(self, data: bytes):
        self.data = data
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def body(self):
        """Send the body."""
        self.begun.set()
        yield BEFORE + self.data
        await self.may_end.wait()
        yield AFTER


class UploadQueueTest(ApplicationTest):
    """The application behind a queue with limits that a test can reach."""

    def behind(self, **limits) -> httpx.AsyncClient:
        """Make a client of the application behind a queue of its own."""
        self.queue = UploadQueue(self.app, **({"max_file": 10**6} | limits))
        transport = httpx.ASGITransport(self.queue, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=SITE)
        self.addAsyncCleanup(client.aclose)
        return client

    def upload(self) -> Upload:
        """Make an upload of a good file."""
        return Upload(csv_file(csv_row(self.data_dir)))

    def start(self, client: httpx.AsyncClient, upload: Upload) -> "asyncio.Task[httpx.Response]":
        """Begin to send an upload."""
        return asyncio.create_task(client.post(ADDRESS, content=upload.body(), headers=HEADERS))

    async def test_an_upload_too_many_is_refused_with_a_time_to_come_back(self):
        client = self.behind(max_uploads=1, max_waiting=0)
        first, second = self.upload(), self.upload()
        sent = self.start(client, first)
        await first.begun.wait()
        second.may_end.set()
        response = await self.start(client, second)
        self.assertEqual(503, response.status_code)
        self.assertGreater(int(response.headers["retry-after"]), 0)
        [error] = self.envelope(response)["errors"]
        self.assertIn("Try again", error)
        self.assertEqual(200, (await client.get("/")).status_code)
        first.may_end.set()
        self.assertEqual(200, (await sent).status_code)
        third = self.upload()
        third.may_end.set()
        self.assertEqual(200, (await self.start(client, third)).status_code)

    async def test_an_upload_that_waits_is_not_read(self):
        client = self.behind(max_uploads=1, max_waiting=1)
        first, second = self.upload(), self.upload()
        sent = self.start(client, first)
        await first.begun.wait()
        waiting = self.start(client, second)
        while not self.queue._waiting:
            await asyncio.sleep(0)
        self.assertFalse(second.begun.is_set())
        second.may_end.set()
        first.may_end.set()
        self.assertEqual(
            [200, 200], [one.status_code for one in await asyncio.gather(sent, waiting)]
        )

    async def test_bytes_count_as_well_as_uploads(self):
        client = self.behind(max_uploads=9, max_bytes=1_500_000, max_waiting=0)
        first, second = self.upload(), self.upload()
        sent = self.start(client, first)  # says nothing of its length, so the most is assumed
        await first.begun.wait()
        second.may_end.set()
        self.assertEqual(503, (await self.start(client, second)).status_code)
        small = {"file": ("jobs.csv", csv_file(csv_row(self.data_dir)))}
        self.assertEqual(200, (await client.post(ADDRESS, files=small)).status_code)
        first.may_end.set()
        self.assertEqual(200, (await sent).status_code)

    @slow
    async def test_an_upload_that_waits_too_long_is_refused(self):
        client = self.behind(max_uploads=1, wait_seconds=0.02)
        first, second = self.upload(), self.upload()
        sent = self.start(client, first)
        await first.begun.wait()
        second.may_end.set()
        self.assertEqual(503, (await self.start(client, second)).status_code)
        self.assertFalse(self.queue._waiting)
        first.may_end.set()
        self.assertEqual(200, (await sent).status_code)

    async def test_an_upload_that_does_not_arrive_in_time_gives_its_place_back(self):
        client = self.behind(max_uploads=1, receive_seconds=0.05)
        response = await self.start(client, self.upload())
        self.assertEqual(408, response.status_code)
        self.assertIn("did not arrive within 0.05 s", response.text)
        good = self.upload()
        good.may_end.set()
        self.assertEqual(200, (await self.start(client, good)).status_code)

    async def test_a_sender_that_goes_away_while_it_waits_leaves_no_trace(self):
        client = self.behind(max_uploads=1)
        first = self.upload()
        sent = self.start(client, first)
        await first.begun.wait()
        waiting = self.start(client, self.upload())
        while not self.queue._waiting:
            await asyncio.sleep(0)
        waiting.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await waiting
        first.may_end.set()
        self.assertEqual(200, (await sent).status_code)
        self.assertEqual((0, 0), (self.queue._uploads, self.queue._bytes))

    @slow
    async def test_a_long_answer_is_sent_in_pieces(self):
        sizes = []

        async def send(message):
            sizes.append(len(message.get("body", b"")))

        async def receive():
            return {"type": "http.request", "body": BEFORE + self.many() + AFTER}

        scope = {
            "type": "http",
            "method": "POST",
            "path": ADDRESS,
            "query_string": b"",
            "headers": [
                (name.encode(), value.encode())
                for name, value in {**HEADERS, "host": "localhost"}.items()
            ],
        }
        await UploadQueue(self.app, max_file=10**6)(scope, receive, send)
        self.assertGreater(sum(sizes), 600_000)
        self.assertLessEqual(max(sizes), 256 * 1024)

    def many(self) -> bytes:
        """Write a file of many good rows."""
        return csv_file(*(csv_row(self.data_dir, subject_id=str(n)) for n in range(1_500)))

    @slow
    async def test_pages_are_served_while_no_worker_gets_on(self):
        reader = shared_reader()
        await self.client.post(ADDRESS, files={"file": ("a.csv", b"x")})
        pids = reader.pool.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            self.addCleanup(os.kill, pid, signal.SIGCONT)
        files = {"file": ("jobs.csv", csv_file(csv_row(self.data_dir)))}
        sent = [asyncio.create_task(self.client.post(ADDRESS, files=files)) for _ in range(3)]
        for _ in range(5):
            self.assertEqual(200, (await self.client.get("/")).status_code)
        self.assertFalse(any(one.done() for one in sent))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual([200] * 3, [one.status_code for one in await asyncio.gather(*sent)])
