"""What the scripts of the pages ask the service for: parts of pages, and streams of them."""

import asyncio
import hashlib
import json
import re
import unittest
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import anyio

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.jobs.models import Job, job_to_json
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.server import templating
from aind_data_transfer_service.server.routers import stream
from tests.support.requests import csv_file, csv_row
from tests.unit.server.test_jobs import NOON, JobsTest

PARTIAL = {"accept": "text/html", "HX-Request": "true", "HX-Request-Type": "partial"}
CRAFTED = "<script>alert(1)</script>\"'\n</template>"
RUNNING = {"state": JobState.RUNNING, "executor": "hand", "executor_ref": "7"}


class ListPartTest(JobsTest):
    """GET /jobs, as the scripts of the page ask for it."""

    async def test_the_list_comes_without_the_page_and_puts_its_filters_into_the_address(self):
        self.add(*({"name": f"job {n:02}"} for n in range(3)), {"state": JobState.FAILED})
        address = "/jobs?text=job&submitter=&since=&until=&sort=submitted_at&order=desc"
        answer = await self.client.get(address, headers=PARTIAL)
        self.assertEqual(200, answer.status_code)
        self.assertNotIn("<html", answer.text)
        self.assertEqual(3, answer.text.count("<tr id="))
        self.assertIn("3 jobs fit.", answer.text)
        self.assertRegex(answer.text, r'id="count-FAILED"[^>]*hx-swap-oob="outerMorph">1<')
        self.assertEqual("/jobs?text=job", answer.headers["HX-Push-Url"])

    async def test_a_refresh_is_not_announced_and_leaves_the_address_alone(self):
        self.add({})
        answer = await self.client.get("/jobs", headers=PARTIAL | {"HX-Source": "div#list"})
        self.assertNotIn("HX-Push-Url", answer.headers)
        self.assertNotIn("#announce", answer.text)

    async def test_a_page_behind_the_last_one_is_the_last_one(self):
        self.add(*({} for _ in range(30)))
        answer = await self.client.get("/jobs?page=9&page_size=25", headers=PARTIAL)
        self.assertIn("26–30 of 30", answer.text)
        self.assertEqual("/jobs?page_size=25&page=2", answer.headers["HX-Push-Url"])

    async def test_going_back_in_the_history_gets_the_page(self):
        headers = PARTIAL | {"HX-Request-Type": "full", "HX-History-Restore-Request": "true"}
        self.assertIn("<html", (await self.client.get("/jobs", headers=headers)).text)

    async def test_an_error_is_an_envelope_which_the_page_shows(self):
        answer = await self.client.get("/jobs?since=tomorrow", headers=PARTIAL)
        self.assertEqual(422, answer.status_code)
        self.assertIn("since", answer.json()["data"]["errors"][0])


class JobPartTest(JobsTest):
    """The parts of the page of a job, and what can be done there."""

    async def test_a_job_is_cancelled_and_shown(self):
        [job] = self.add(RUNNING)
        answer = await self.client.post(f"/jobs/{job.id}/cancel", headers=PARTIAL)
        self.assertEqual(200, answer.status_code)
        self.assertTrue(answer.text.strip().startswith('<div id="job"'))
        self.assertTrue(self.manager.store.get(job.id).cancel_requested)
        self.executor.fault = ExecutorError("away")  # so that the job stays as it is recorded
        [waiting] = self.add(RUNNING | {"cancel_requested": True, "executor_ref": "8"})
        page = (await self.client.get(f"/jobs/{waiting.id}", headers=PARTIAL)).text
        self.assertIn("Cancellation requested", page)
        self.assertRegex(page, r'id="cancel"[^>]*disabled>Cancelling…')

    async def test_another_site_cannot_cancel_a_job(self):
        [job] = self.add(RUNNING)
        headers = PARTIAL | {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
        answer = await self.client.post(f"/jobs/{job.id}/cancel", headers=headers)
        self.assertEqual(403, answer.status_code)
        self.assertFalse(self.manager.store.get(job.id).cancel_requested)

    async def test_a_job_that_cannot_be_resubmitted_says_why(self):
        [job] = self.add({"upload_job_settings": "{}", "state": JobState.FAILED})
        answer = await self.client.post(f"/jobs/{job.id}/resubmit", headers=PARTIAL)
        self.assertEqual(406, answer.status_code)
        self.assertTrue(answer.json()["data"]["errors"])

    async def read(self, job: Job, query: str) -> str:
        """Ask for more of a job's log."""
        answer = await self.client.get(f"/jobs/{job.id}/log?{query}", headers=PARTIAL)
        self.assertEqual(200, answer.status_code, answer.text)
        return answer.text

    async def test_a_log_is_read_on_from_where_it_was(self):
        [job] = self.add(RUNNING)
        key = ("7", "stderr")
        self.executor.files[key] = b"50 %\r<b>one</b>\r\n"
        text = await self.read(job, "auto=1")
        first = '<hx-partial hx-target="#log" hx-swap="innerHTML">50 %&#13;&lt;b&gt;one&lt;/b&gt;'
        self.assertIn(first + "&#13;\n</hx-partial>", text)
        following = re.search(r'/log\?([^"]+)" hx-trigger="more"', text)[1].replace("&amp;", "&")
        self.executor.files[key] += b"two\n"
        text = await self.read(job, following)
        self.assertIn('hx-swap="beforeend">two\n</hx-partial>', text)
        self.assertIn("21 B in all.", text)

    async def test_the_log_of_an_ended_job_is_asked_for_once(self):
        [job] = self.add(RUNNING | {"state": JobState.FAILED})
        self.executor.files["7", "stderr"] = b"all\n"
        self.assertNotIn("hx-get", await self.read(job, "auto=1"))

    async def test_a_log_that_does_not_exist_is_refused(self):
        [job] = self.add(RUNNING)
        for query in ("stream=other", "offset=-1", "shard=x"):
            answer = await self.client.get(f"/jobs/{job.id}/log?{query}", headers=PARTIAL)
            self.assertEqual(422, answer.status_code)


class RowStreamTest(JobsTest):
    """GET /jobs/stream: rows for all open pages."""

    @asynccontextmanager
    async def follow(self, query: str = "") -> AsyncIterator[AsyncIterator[str]]:
        """Follow the stream, past the event that it is ready."""
        scope = {"type": "http", "app": self.app, "headers": [], "path": "/jobs/stream"}
        request = stream.Request(scope)
        response = await stream.stream_rows(request, self.manager, query)
        async with aclosing(response.body_iterator) as events:
            texts = (event.decode() async for event in events)
            self.assertIn("event: ready", await anext(texts))
            yield texts

    async def heard(self, events: AsyncIterator[str], job: Job) -> list[str]:
        """Publish a job, and return the names of the events and whose rows came."""
        self.manager.feed.publish([job])
        names = []
        while not any(name.startswith("row") for name in names):
            async with asyncio.timeout(5):
                text = await anext(events)
            found = re.search(r"event: (\w+)", text) or re.search(r'id="(row-\w+)"', text)
            names.append(found[1])
        return names

    async def test_a_row_comes_with_each_change_and_the_list_with_each_state(self):
        job = Job(id="1", name=CRAFTED, submitted_at=NOON, state=JobState.RUNNING)
        async with self.follow() as events:
            self.assertEqual(["list", "row-1"], await self.heard(events, job))
            self.assertEqual(["row-1"], await self.heard(events, replace(job, bytes_done=1)))
            ended = replace(job, state=JobState.FAILED)
            self.assertEqual(["list", "row-1"], await self.heard(events, ended))

    async def test_hostile_names_stay_text_and_within_their_event(self):
        job = Job(id="2", name=CRAFTED, submitted_at=NOON, reason="a\r\n\r\ndata: x")
        async with self.follow() as events:
            self.manager.feed.publish([job])
            self.assertIn("event: list", await anext(events))
            text = await anext(events)
        self.assertNotIn("<script", text)
        self.assertNotIn("</template", text)
        lines = text.strip().split("\n")
        self.assertTrue(all(line.startswith("data:") for line in lines), lines)

    async def test_a_row_is_rendered_once_for_all_pages(self):
        job = Job(id="3", name="a", submitted_at=NOON)
        async with self.follow() as one, self.follow() as two, self.follow() as three:
            with mock.patch.object(stream, "render_text", wraps=stream.render_text) as rendered:
                for events in (one, two, three):
                    if events is one:
                        await self.heard(one, job)
                        continue
                    self.assertIn("event: list", await anext(events))
                    self.assertIn("row-3", await anext(events))
            self.assertEqual(1, rendered.call_count)

    async def test_the_page_of_a_job_hears_of_this_job_alone(self):
        job, other = (Job(id=one, name="a", submitted_at=NOON) for one in ("4", "5"))
        async with self.follow("4") as events:
            self.manager.feed.publish([other])
            self.manager.feed.publish([job])
            async with asyncio.timeout(5):
                self.assertIn("event: changed", await anext(events))

    async def test_the_stream_of_the_api_has_no_news_for_pages(self):
        told = stream.changes(self.manager, self.manager.feed.subscribe(), anyio.Event())
        self.assertEqual("ready", (await anext(told)).event)
        job = Job(id="6", name="a", submitted_at=NOON)
        self.manager.feed.publish([job])
        event = await anext(told)
        self.assertEqual(("job", job_to_json(job)), (event.event, json.loads(event.data)))
        await told.aclose()


class PreviewTest(JobsTest):
    """A checked file, as the page shows it."""

    async def check(self, *rows: str) -> str:
        """Have a file checked as the page does."""
        files = {"file": ("jobs.csv", csv_file(*rows), "text/csv")}
        answer = await self.client.post("/api/validate_csv", files=files, headers=PARTIAL)
        self.assertEqual("innerHTML", answer.headers["HX-Reswap"])
        return answer.text

    async def test_rows_with_errors_are_first_and_all_is_escaped(self):
        good = csv_row(self.data_dir, subject_id="1", project_name="<b>&'</b>")
        bad = csv_row(self.data_dir, subject_id="2", platform="<script>")
        text = await self.check(good, bad)
        self.assertEqual(["3", "2"], re.findall(r'data-row="(\d+)"', text))
        self.assertIn("1 error in 1 row of jobs.csv.", text)
        self.assertIn("behavior_1_2024-02-19_11-25-17", text)
        self.assertNotIn("<b>&", text)
        self.assertNotIn('"&lt;script', text.partition("checked-jobs")[2])
        self.assertEqual(["<script type="], re.findall(r"<script[^>]*?=", text))

    async def test_the_rest_of_a_long_file_is_rendered_on_demand(self):
        text = await self.check(*(csv_row(self.data_dir, subject_id=str(n)) for n in range(203)))
        self.assertEqual(200, text.count("data-row="))
        script = re.search(r'id="checked-jobs">(.*)</script>', text)[1]
        data = json.loads(script)
        self.assertEqual([203, 204], [row for row, _ in data["rest"]][1:])
        entries = [
            {"row": row, "job": data["jobs"][place], "asset": data["assets"][place]}
            for row, place in data["rest"]
        ]
        body = {"entries": entries, "shown": 200, "total": 203}
        answer = await self.client.post("/preview_rows", json=body, headers=PARTIAL)
        self.assertEqual(["202", "203", "204"], re.findall(r'data-row="(\d+)"', answer.text))
        self.assertIn("behavior_202_2024-02-19_11-25-17", answer.text)
        self.assertIn("203 of 203 rows are shown.", answer.text)

    async def test_rows_that_are_none_are_refused(self):
        for job in ("{}", "no JSON", "[]", '{"subject_id": {}}'):
            body = {"entries": [{"row": 1, "job": job, "asset": ""}], "shown": 0, "total": 1}
            answer = await self.client.post("/preview_rows", json=body, headers=PARTIAL)
            self.assertEqual(422, answer.status_code, answer.text)


class VendorTest(unittest.TestCase):
    """What we serve of others."""

    def test_files_are_those_that_their_licence_names(self):
        folder = templating.STATIC / "vendor"
        named = re.findall(r"^(\w{64})  (\S+)$", (folder / "LICENSE.txt").read_text(), re.M)
        self.assertEqual({one.name for one in folder.glob("*.js")}, {name for _, name in named})
        for digest, name in named:
            self.assertEqual(digest, hashlib.sha256((folder / name).read_bytes()).hexdigest())

    def test_no_template_uses_what_the_security_policy_forbids(self):
        folder = Path(templating.FOLDER) / "templates"
        for file in folder.rglob("*.html"):
            with self.subTest(file.name):
                text = file.read_text()
                self.assertNotRegex(
                    text, r"hx-on|[\"']js:|javascript:|\bon\w+=|style=|https?://\S+\.js"
                )
