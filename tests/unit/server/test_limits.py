"""Limits of what a request, a job or a cluster may make the service hold, show or answer."""

import asyncio
import difflib
import json
import re
import threading
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from aind_data_transfer_service.configs import job_requests
from aind_data_transfer_service.configs.error_messages import MOST_CHARACTERS as MOST_MESSAGE
from aind_data_transfer_service.configs.error_messages import MOST_ERRORS, MOST_JOB_ERRORS
from aind_data_transfer_service.configs.limits import MAX_JOBS
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.executors.slurm.foreign_jobs import OthersJobs
from aind_data_transfer_service.executors.slurm.states import LONGEST_TEXT, run_status
from aind_data_transfer_service.jobs import reconciler
from aind_data_transfer_service.jobs.event_parser import LONGEST_FIGURES, PIECE, Report, read_events
from aind_data_transfer_service.jobs.json_text import MOST_CHARACTERS
from aind_data_transfer_service.jobs.models import Job, JobEvent, new_job_id
from aind_data_transfer_service.jobs.reconciler import READ_INLINE
from aind_data_transfer_service.jobs.store.job_store import EVENT_CHARACTERS, MOST_SUBMITTERS
from aind_data_transfer_service.jobs.validation import requests
from aind_data_transfer_service.jobs.validation.requests import LONGEST_SCRIPT
from aind_data_transfer_service.server.json_body import MOST_LEVELS, VALUES_PER_JOB
from aind_data_transfer_service.server.middleware import SMALL_BYTES, BodyLimit
from aind_data_transfer_service.server.template_filters import MOST_SHOWN, timeline
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.support import slow
from tests.support.application import ApplicationTest
from tests.support.requests import upload_settings

BASIC = "/api/submit_basic_jobs"
HPC = "/api/submit_hpc_jobs"


class BodyTest(ApplicationTest):
    """The JSON of a request for jobs."""

    settings = {"allow_custom_scripts": True}

    async def errors(self, path: str, content: bytes | str) -> list[str]:
        """Send a body that is refused; return why."""
        response = await self.client.post(path, content=content)
        self.assertEqual(406, response.status_code, response.text[:500])
        self.assertLess(len(response.content), 50_000)
        data = self.envelope(response)
        self.assertEqual([], data["responses"])
        return data["errors"]

    async def test_as_many_jobs_as_a_spreadsheet_may_have(self) -> None:
        [error] = await self.errors(BASIC, json.dumps({"jobs": ["{}"] * (MAX_JOBS + 1)}))
        self.assertEqual("there are 20,001 jobs; send at most 20,000 in one request", error)
        errors = await self.errors(HPC, json.dumps({"jobs": ["{}"] * MAX_JOBS}))
        self.assertIn("job 1: is no JSON object", errors)

    @slow
    async def test_a_body_of_millions_of_values_is_not_built(self) -> None:
        for body in (
            '{"jobs":[' + "0," * 300_000 + "0]}",
            '{"jobs":[' + '{"a":[]},' * 100_000 + "0]}",
            "[" + "[]," * 300_000 + "0]",
        ):
            with self.subTest(start=body[:20]):
                [error] = await self.errors(BASIC, body)
                self.assertIn(f"more than {MAX_JOBS * VALUES_PER_JOB:,} values", error)

    async def test_nesting_is_bounded(self) -> None:
        for opening, closing in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
            body = f'{{"jobs":[{opening * 300}0{closing * 300}]}}'
            with self.subTest(opening=opening):
                [error] = await self.errors(HPC, body)
                self.assertIn(f"deeper than {MOST_LEVELS} levels", error)
        [error] = await self.errors(HPC, "[" * 1_000_000)
        self.assertIn(f"deeper than {MOST_LEVELS} levels", error)

    async def test_brackets_and_commas_within_texts_do_not_count(self) -> None:
        script = "#!/bin/bash\n" + r"echo '[[[[,,,,{{{{\"' \\ " * 10_000
        job = {"upload_job_settings": "{}", "hpc_settings": '{"name": "a"}', "script": script}
        response = await self.client.post(HPC, json={"jobs": [job]})
        self.assertEqual(200, response.status_code, response.text)

    @slow
    async def test_a_text_that_does_not_end_is_read_in_one_go(self) -> None:
        for body in ('{"jobs":["' + r"\"" * 1_000_000, '"' * 1_000_001, "\\" * 1_000_000):
            async with asyncio.timeout(5):
                [error] = await self.errors(BASIC, body)
                self.assertRegex(error, "is no JSON|more than [0-9,]+ values")

    @slow
    async def test_other_encodings_are_measured_as_well(self) -> None:
        body = '{"jobs":[' + "0," * 300_000 + "0]}"
        for encoding in ("utf-8-sig", "utf-16", "utf-32"):
            with self.subTest(encoding):
                [error] = await self.errors(BASIC, body.encode(encoding))
                self.assertTrue("values" in error or "JSON" in error, error)
        [error] = await self.errors(BASIC, b'{"jobs":["\xff\xfe\xfa"]}')
        self.assertIn("JSON", error)

    async def test_a_number_of_thousands_of_digits(self) -> None:
        [error] = await self.errors(BASIC, '{"jobs":[' + "9" * 5000 + "]}")
        self.assertIn("JSON", error)

    async def test_texts_are_bounded_before_they_are_read(self) -> None:
        usual = {"upload_job_settings": "{}", "hpc_settings": "{}", "script": ""}
        for field, most in (
            ("upload_job_settings", MOST_CHARACTERS),
            ("hpc_settings", MOST_CHARACTERS),
            ("script", LONGEST_SCRIPT),
        ):
            with self.subTest(field):
                job = usual | {field: "a" * (most + 1)}
                [error] = await self.errors(HPC, json.dumps({"jobs": [usual, job]}))
                self.assertEqual(f"job 2, {field}: is longer than {most:,} characters", error)
        [error] = await self.errors(BASIC, json.dumps({"jobs": ["a" * (MOST_CHARACTERS + 1)]}))
        self.assertEqual(f"job 1: is longer than {MOST_CHARACTERS:,} characters", error)

    async def test_a_job_of_many_fields_is_refused_by_the_first_of_them(self) -> None:
        job = dict.fromkeys(map(str, range(300)), "x" * 1000)
        errors = await self.errors(HPC, json.dumps({"jobs": [job]}))
        self.assertLess(len(errors), 30)
        self.assertIn("job 1, 0: is not known", errors[0] + errors[1])


class ErrorsTest(ApplicationTest):
    """Answers with many errors."""

    settings = {"allow_custom_scripts": True}

    async def first_errors(self, path: str, jobs: list[Any]) -> list[str]:
        """Submit jobs that are refused; return the errors."""
        response = await self.client.post(path, json={"jobs": jobs})
        self.assertEqual(406, response.status_code)
        errors = self.envelope(response)["errors"]
        self.assertEqual(MOST_ERRORS + 1, len(errors))
        self.assertRegex(errors[-1], r"^[\d,]+ more errors$")
        return errors

    async def test_jobs_of_a_wrong_kind(self) -> None:
        for jobs in ([0] * 5000, [None, "{}"] * 2500, [{"a": [1]}] * 2500):
            with self.subTest(jobs=jobs[:2]):
                errors = await self.first_errors(BASIC, jobs)
                self.assertTrue(errors[0].startswith("job 1: is no text"), errors[0])
        errors = await self.first_errors(BASIC, ["{}"] * 100 + [0] * 1205)
        self.assertTrue(errors[0].startswith("job 101: is no text"), errors[0])
        self.assertEqual("1,105 more errors", errors[-1])

    async def test_guesses_are_made_for_no_more_errors_than_are_listed(self) -> None:
        jobs = [
            upload_settings(
                modalities=[
                    {"modality": f"behavioor{job}x{number}", "source": "/a"} for number in range(20)
                ]
            )
            for job in range(8)
        ]
        wrong = json.dumps({f"tasksss{number}": 1 for number in range(300)})
        hpc = [
            {"upload_job_settings": one, "hpc_settings": wrong, "script": ""}
            for one in [upload_settings(), *jobs]
        ]
        for path, sent in ((BASIC, jobs), (HPC, hpc)):
            matches = difflib.get_close_matches
            with self.subTest(path), mock.patch("difflib.get_close_matches", wraps=matches) as made:
                errors = await self.first_errors(path, sent)
                self.assertLessEqual(made.call_count, MOST_ERRORS)
                self.assertTrue(all("did you mean" in error for error in errors[:20]), errors[0])

    async def test_the_check_stops_after_many_errors(self) -> None:
        with (
            mock.patch.object(job_requests, "MAX_COUNTED_ERRORS", 200),
            mock.patch.object(requests, "MAX_COUNTED_ERRORS", 200),
        ):
            errors = await self.first_errors(BASIC, [upload_settings(platform="x")] * 1000)
            self.assertIn("the check stopped before job 201, after 200 errors", errors[0])
            self.assertEqual("101 more errors", errors[-1])
            job = {"upload_job_settings": "{}", "hpc_settings": "[]", "script": "no"}
            errors = await self.first_errors(HPC, [job] * 1000)
            self.assertRegex(errors[0], "the check stopped before job [0-9]+, after")

    async def test_drafts_leave_the_shared_threads_alone(self) -> None:
        held = threading.Event()
        self.addCleanup(held.set)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waiting = asyncio.get_running_loop().run_in_executor(None, held.wait)
        async with asyncio.timeout(5):
            jobs = [upload_settings(platform="x")]
            response = await self.client.post(BASIC, json={"jobs": jobs})
        self.assertEqual(406, response.status_code)
        held.set()
        await waiting

    @slow
    async def test_jobs_with_errors_of_their_own(self) -> None:
        errors = await self.first_errors(BASIC, [upload_settings(platform="x")] * 2000)
        self.assertIn("job 1, platform", errors[0])
        self.assertEqual("1,900 more errors", errors[-1])
        job = {"upload_job_settings": "{}", "hpc_settings": '{"name": "a", "mail_type": [0, 1]}'}
        errors = await self.first_errors(HPC, [job | {"script": "#!/bin/sh"}] * 1000)
        self.assertEqual("1,900 more errors", errors[-1])

    @slow
    async def test_one_job_with_thousands_of_errors(self) -> None:
        unknown = dict.fromkeys((f"field_{number}" for number in range(3000)), 1)
        response = await self.client.post(BASIC, json={"jobs": [upload_settings(**unknown)]})
        errors = self.envelope(response)["errors"]
        self.assertEqual(MOST_JOB_ERRORS + 1, len(errors))
        self.assertEqual("job 1: 2,980 more errors", errors[-1])

    @slow
    async def test_a_message_is_cut(self) -> None:
        variables = [f"A_SECRET_{number}=1" for number in range(3000)]
        hpc_settings = json.dumps({"environment": variables})
        job = {"upload_job_settings": upload_settings(), "hpc_settings": hpc_settings}
        response = await self.client.post(HPC, json={"jobs": [job]})
        [error] = self.envelope(response)["errors"]
        self.assertEqual(MOST_MESSAGE, len(error))

    @slow
    async def test_an_answer_does_not_repeat_what_was_sent(self) -> None:
        long = "x" * 50_000
        for path in (f"/jobs/{long}", f"/api/jobs/{long}", f"/api/jobs/{long}/log", f"/{long}"):
            response = await self.client.get(path)
            self.assertEqual(404, response.status_code)
            self.assertLess(len(response.content), 10_000, path[:20])
        for query in ("since", "until", "sort", "order", "page", "state", "text", "submitter"):
            response = await self.client.get("/api/jobs", params={query: long})
            self.assertEqual(422, response.status_code)
            self.assertLess(len(response.content), 10_000, query)


class BodiesTest(unittest.IsolatedAsyncioTestCase):
    """The bodies of many requests together."""

    async def test_what_does_not_fit_beside_the_others_is_refused_until_they_are_done(self) -> None:
        release = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["more_body"]:
                pass
            await release.wait()

        guard = BodyLimit(application, 1, bodies_bytes=5 * SMALL_BYTES)
        first = [asyncio.create_task(self.send(guard, 2 * SMALL_BYTES)) for _ in range(2)]
        await asyncio.sleep(0)
        with self.assertRaises(Exception) as refusal:
            await self.send(guard, 2 * SMALL_BYTES)
        self.assertEqual(503, refusal.exception.status_code)
        self.assertIn("Retry-After", refusal.exception.headers)
        small = asyncio.create_task(self.send(guard, SMALL_BYTES))
        release.set()
        await asyncio.gather(*first, small)
        await self.send(guard, 2 * SMALL_BYTES)

    async def send(self, guard: BodyLimit, size: int) -> None:
        """Send a body of this size in two pieces."""
        pieces = [
            {"type": "http.request", "body": bytes(size // 2), "more_body": True},
            {"type": "http.request", "body": bytes(size // 2), "more_body": False},
        ]

        async def receive() -> dict[str, Any]:
            return pieces.pop(0)

        scope = {
            "type": "http",
            "method": "POST",
            "path": BASIC,
            "headers": [],
            "query_string": b"",
        }
        await guard(scope, receive, self.ignore)

    async def ignore(self, message: Any) -> None:
        """Take an answer."""


class EventsTest(ApplicationTest):
    """What a job writes of itself."""

    def line(self, figures: Any, message: str = "") -> bytes:
        """Write an event."""
        event = {"kind": "warning", "step": "upload", "message": message, "figures": figures}
        return json.dumps(event).encode() + b"\n"

    def test_the_figures_of_an_event_are_bounded_together(self) -> None:
        document = {"name": "a" * 900, "problems": ["b" * 900] * 50, "notes": ["c" * 900] * 50}
        for figures in (
            {f"figure_{number}": "x" * 3900 for number in range(60)},
            {"documents": [document] * 20},
        ):
            data = self.line(figures)
            self.assertLess(len(data), PIECE * 16)
            [event] = read_events(data).events
            self.assertLessEqual(len(json.dumps(dict(event.figures))), LONGEST_FIGURES + 200)
        usual = {"documents": [{"name": "subject.json", "problems": ["odd"]}], "bytes": 5}
        [event] = read_events(self.line(usual)).events
        self.assertEqual({"documents", "bytes"}, set(event.figures))

    @slow
    async def test_the_events_of_a_page_are_bounded_together(self) -> None:
        response = await self.client.post(BASIC, json={"jobs": [upload_settings(self.data_dir)]})
        job_id = self.envelope(response)["responses"][0]["job_id"]
        events = [
            JobEvent(
                time=datetime.now(UTC),
                step="upload",
                kind="warning",
                message=f"{number} " + "m" * 3000,
                figures={"text": "f" * 3000},
            )
            for number in range(1000)
        ]
        await asyncio.to_thread(self.manager.store.add_events, job_id, events)
        for path in (f"/jobs/{job_id}", f"/api/jobs/{job_id}"):
            response = await self.client.get(path)
            self.assertEqual(200, response.status_code)
            self.assertIn(f"{len(events) - 1} mmm", response.text)
            self.assertLess(len(response.content), 2 * EVENT_CHARACTERS)

    def test_a_long_timeline_is_made_quickly(self) -> None:
        moment = datetime.now(UTC).isoformat()
        usual = {"time": moment, "message": "", "figures": {}}
        starts = [usual | {"kind": "start", "step": str(number)} for number in range(1000)]
        ends = [usual | {"kind": "end", "step": str(number)} for number in reversed(range(1000))]
        entries = timeline([*starts, *ends])
        self.assertEqual(1000, len(entries))
        self.assertEqual({"end"}, {entry["kind"] for entry in entries})
        self.assertNotIn("is_over", entries[0])

    @slow
    async def test_the_settings_of_a_job_are_not_spread_over_megabytes(self) -> None:
        deep: Any = 0
        for _ in range(40):
            deep = [deep]
        modality = {
            "modality": "behavior",
            "source": str(self.data_dir),
            "extra_configs": {"deep": [deep] * 600},
        }
        text = upload_settings(self.data_dir, modalities=[modality])
        response = await self.client.post(BASIC, json={"jobs": [text]})
        self.assertEqual(200, response.status_code, response.text)
        job_id = self.envelope(response)["responses"][0]["job_id"]
        page = await self.client.get(f"/jobs/{job_id}")
        self.assertLess(len(page.content), 2 * MOST_SHOWN)


class LoopTest(ApplicationTest):
    """The event loop while events are read."""

    @slow
    async def test_many_events_are_read_on_a_thread(self) -> None:
        response = await self.client.post(BASIC, json={"jobs": [upload_settings(self.data_dir)]})
        job_id = self.envelope(response)["responses"][0]["job_id"]
        threads: list[threading.Thread] = []

        def note(data: bytes, *, final: bool = False) -> Report:
            threads.append(threading.current_thread())
            return read_events(data, final=final)

        line = b'{"kind": "warning"}\n'
        with mock.patch.object(reconciler, "read_events", note):
            self.executor.files[job_id, "events"] = line * (READ_INLINE // len(line) + 1)
            self.executor.states[job_id] = RunStatus(job_id, RunState.RUNNING)
            async with asyncio.timeout(10):
                while not await self.manager.events(job_id):
                    await asyncio.sleep(0.01)
        self.assertTrue(threads)
        self.assertNotIn(threading.main_thread(), threads)


class StatusPageTest(ApplicationTest):
    """The status page after many people were there."""

    @slow
    async def test_names_to_choose_from_are_bounded(self) -> None:
        jobs = [
            Job(id=new_job_id(), name="a", submitter=f"Person {number:05}")
            for number in range(MOST_SUBMITTERS + 100)
        ]
        await asyncio.to_thread(self.manager.store.add, jobs)
        page = await self.client.get("/jobs?submitter=Person+00550")
        listed = re.findall(r"<option[^>]*>Person \d+", page.text)
        self.assertEqual(MOST_SUBMITTERS + 1, len(listed))


class ClusterTextTest(unittest.TestCase):
    """What a cluster says of its jobs."""

    def test_is_cut(self) -> None:
        long = "x" * 100_000
        job = SlurmJob(job_id=1, state="PENDING", name=long, reason=long, user=long, nodes=long)
        status = run_status("1", job)
        self.assertLessEqual(max(len(status.reason), len(status.node)), LONGEST_TEXT)
        [other] = OthersJobs(long, "").among([job]).jobs
        longest: Callable[[str], int] = lambda name: len(getattr(other, name))
        for name in ("name", "reason", "user", "node"):
            self.assertLessEqual(longest(name), LONGEST_TEXT)
