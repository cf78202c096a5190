"""Submitting jobs, in both forms."""

import asyncio
import json
import tempfile
import unittest
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.server import create_app
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import campaign, slow
from tests.support.application import SITE, ApplicationTest, HandExecutor
from tests.support.requests import upload_settings
from tests.support.spreadsheets import shared_reader

BASIC = "/api/submit_basic_jobs"
HPC = "/api/submit_hpc_jobs"
PARSE_ERRORS = {
    BASIC: "There were errors parsing the basic job configs",
    HPC: "There were errors parsing the job configs",
}


class SubmitTest(ApplicationTest):
    """What becomes of jobs that are submitted."""

    def hpc_job(self, **changes: str) -> dict[str, str]:
        """Compose a job as the sample script does."""
        usual = {
            "upload_job_settings": upload_settings(self.data_dir),
            "hpc_settings": "{}",
            "script": "",
        }
        return usual | changes

    async def test_basic_jobs_are_recorded_and_handed_over(self) -> None:
        texts = [upload_settings(self.data_dir, subject_id=str(one)) for one in (1, 2)]
        response = await self.client.post(BASIC, json={"jobs": texts})
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual("Submitted Jobs.", response.json()["message"])
        data = self.envelope(response)
        self.assertEqual([], data["errors"])
        ids = [entry["job_id"] for entry in data["responses"]]
        self.assertEqual(set(ids), set(self.executor.specs))
        job = self.envelope(await self.client.get(f"/api/jobs/{ids[1]}"))["job"]
        self.assertEqual("behavior_2_2024-02-19_11-25-17", job["name"])

    async def test_a_network_name_is_uploaded_from_the_path_of_the_cluster(self) -> None:
        text = upload_settings(f"/{self.data_dir}")
        bodies = {BASIC: text, HPC: self.hpc_job(upload_job_settings=text)}
        for number, (path, body) in enumerate(bodies.items()):
            self.executor.states.clear()
            text = json.dumps(body).replace("690165", f"69{number}")
            response = await self.client.post(path, content=f'{{"jobs": [{text}]}}')
            data = self.envelope(response)
            self.assertEqual([], data["errors"])
            [warning] = data["warnings"]
            self.assertTrue(warning.endswith(f"was read as {self.data_dir}"), warning)
            job = await self.manager.get(data["responses"][0]["job_id"])
            asked = json.loads(job.upload_job_settings)
            self.assertEqual(str(self.data_dir), asked["modalities"][0]["source"])
            self.assertEqual((warning,), job.warnings)

    async def test_a_client_that_goes_away_is_not_a_fault_of_the_service(self) -> None:
        sent: list[dict[str, Any]] = []
        for path in PARSE_ERRORS:
            messages: list[dict[str, Any]] = [
                {"type": "http.request", "body": b'{"jobs":', "more_body": True},
                {"type": "http.disconnect"},
            ]
            scope = {
                "type": "http",
                "method": "POST",
                "path": path,
                "query_string": b"",
                "headers": [(b"host", b"localhost")],
            }

            async def receive() -> dict[str, Any]:
                return messages.pop(0)

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            with self.subTest(path), self.assertNoLogs(level="ERROR"):
                await self.app(scope, receive, send)
                self.assertEqual(400, sent[0]["status"])
            sent.clear()

    async def test_the_sample_scripts_request_is_taken(self) -> None:
        response = await self.client.post(HPC, json={"jobs": [self.hpc_job()]})
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual("Submitted Jobs.", response.json()["message"])
        self.assertTrue(self.envelope(response)["responses"][0]["job_id"])

    async def test_terms_of_later_schemas_are_taken(self) -> None:
        modalities = [
            {"modality": {"name": "Anything", "abbreviation": one}, "source": str(self.data_dir)}
            for one in ("pophys", "ophys", "BARseq", "slap2")
        ]
        text = upload_settings(
            self.data_dir, platform="Motor observatory platform", modalities=modalities
        )
        response = await self.client.post(BASIC, json={"jobs": [text]})
        self.assertEqual(200, response.status_code, response.text)
        [entry] = self.envelope(response)["responses"]
        job = self.envelope(await self.client.get(f"/api/jobs/{entry['job_id']}"))["job"]
        self.assertEqual("ophys,ophys1,BARseq,slap", job["modalities"])
        self.assertTrue(job["name"].startswith("motor-observatory_690165_"), job["name"])

    async def test_e_mail_choices_reach_the_executor(self) -> None:
        mail = {"mail_user": "anna@example.org", "mail_type": ["END", "FAIL"]}
        job = self.hpc_job(hpc_settings=json.dumps(mail))
        response = await self.client.post(HPC, json={"jobs": [job]})
        self.assertEqual(200, response.status_code, response.text)
        [spec] = self.executor.specs.values()
        self.assertEqual(mail, dict(spec.settings))

    async def test_one_bad_job_and_none_is_submitted(self) -> None:
        good = upload_settings(self.data_dir)
        for route, jobs in (
            (BASIC, [good, upload_settings(self.data_dir, subject_id=None)]),
            (HPC, [self.hpc_job(), self.hpc_job(upload_job_settings="nonsense")]),
            (HPC, [self.hpc_job(hpc_settings="[1]")]),
            (HPC, [self.hpc_job(upload_job_settings="{}")]),
        ):
            with self.subTest(route=route):
                response = await self.client.post(route, json={"jobs": jobs})
                self.assertEqual(406, response.status_code, response.text)
                self.assertEqual(PARSE_ERRORS[route], response.json()["message"])
                self.assertIn("job ", self.envelope(response)["errors"][0])
        self.assertEqual({}, self.executor.specs)

    async def test_a_refusal_by_the_executor_is_an_error_here(self) -> None:
        self.executor.refusal = "Invalid partition name specified"
        response = await self.client.post(BASIC, json={"jobs": [upload_settings(self.data_dir)]})
        self.assertEqual(500, response.status_code)
        message = "There were errors submitting jobs to the hpc."
        self.assertEqual(message, response.json()["message"])
        data = self.envelope(response)
        self.assertIn("Invalid partition name specified", data["errors"][0])
        self.assertEqual(JobState.FAILED, data["responses"][0]["state"])

    async def test_jobs_that_wait_for_the_executor_are_submitted_with_a_warning(self) -> None:
        async def start(specs: list) -> list:
            raise ExecutorError("the cluster cannot be reached")

        with (
            patch.object(self.executor, "start", start),
            self.assertLogs("aind_data_transfer_service", "WARNING"),
        ):
            response = await self.client.post(
                BASIC, json={"jobs": [upload_settings(self.data_dir)]}
            )
        self.assertEqual(
            (200, "Submitted Jobs."), (response.status_code, response.json()["message"])
        )
        data = self.envelope(response)
        self.assertEqual([], data["errors"])
        self.assertIn("the cluster cannot be reached; the jobs are saved", data["warnings"][0])
        self.assertEqual(JobState.SUBMITTED, data["responses"][0]["state"])

    async def test_bodies_of_the_wrong_shape_are_errors_in_words(self) -> None:
        for route in (BASIC, HPC):
            for body in (
                b"",
                b"{",
                b"\xff\xfe",
                b"[]",
                b"null",
                b"{}",
                b'{"jobs": null}',
                b'{"jobs": "text"}',
                b'{"jobs": []}',
                b'{"jobs": [1, {}, null, "x"]}',
                b'{"jobs": ["\\ud800"]}',
                b"[" * 100_000,
            ):
                with self.subTest(route=route, body=body[:40]):
                    headers = {"content-type": "application/json"}
                    response = await self.client.post(route, content=body, headers=headers)
                    self.assertEqual(406, response.status_code, response.text[:300])
                    self.assertEqual(PARSE_ERRORS[route], response.json()["message"])
                    data = self.envelope(response)
                    self.assertTrue(data["errors"])
                    self.assertEqual([], data["responses"])

    async def test_every_misshapen_job_is_named(self) -> None:
        jobs = [self.hpc_job(), {"hpc_settings": 5}, self.hpc_job(extra="x")]
        response = await self.client.post(HPC, json={"jobs": jobs})
        errors = self.envelope(response)["errors"]
        self.assertIn("job 2, upload_job_settings: is missing", errors)
        self.assertTrue(any(one.startswith("job 2, hpc_settings: is no text; ") for one in errors))
        self.assertTrue(any(one.startswith("job 3, extra: is not known; ") for one in errors))

    @slow
    async def test_errors_of_shape_say_what_would_be_right(self) -> None:
        for route, body, words in (
            (BASIC, {"jobs": [{}]}, "job 1: is no text; write it as JSON text, as model_dump_json"),
            (BASIC, {"jobs": {}}, "jobs: is no list"),
            (BASIC, {"jobs": []}, "jobs: is empty; send at least one job"),
            (BASIC, [], "the request: is no JSON object"),
            (HPC, {"jobs": ["{}"]}, "job 1: is no JSON object"),
            (HPC, {"jobs": [self.hpc_job(script=None)]}, "job 1, script: is no text"),
            (HPC, {"jobs": [self.hpc_job(hpc_settings='{"a": NaN}')]}, "job 1, hpc_settings: not"),
            (
                HPC,
                {"jobs": [self.hpc_job(hpc_settings='{"a": 1e999}')]},
                "job 1, hpc_settings: not",
            ),
        ):
            with self.subTest(words):
                response = await self.client.post(route, json=body)
                self.assertEqual(406, response.status_code, response.text)
                [error] = self.envelope(response)["errors"]
                self.assertTrue(error.startswith(words), error)

    @slow
    async def test_json_is_read_whatever_its_sender_calls_it(self) -> None:
        types = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
        for number, kind in enumerate(types):
            with self.subTest(kind=kind):
                text = upload_settings(self.data_dir, subject_id=str(number))
                headers = {"content-type": kind} if kind else {}
                body = json.dumps({"jobs": [text]})
                response = await self.client.post(BASIC, content=body, headers=headers)
                self.assertEqual(200, response.status_code, response.text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
jobs = st.fixed_dictionaries(
    {"upload_job_settings": st.text() | json_values},
    optional={"hpc_settings": st.text() | json_values, "script": st.text() | json_values},
)


class WildTest(unittest.TestCase):
    """Requests that nobody would write."""

    def setUp(self) -> None:
        """Start an application, in an event loop that runs while it is asked."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        runner = self.enterContext(asyncio.Runner())
        settings = ServiceSettings(data_dir=folder)
        manager = JobManager(settings, executor=HandExecutor(), spreadsheets=shared_reader())
        app = create_app(settings, manager)
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        self.addCleanup(lambda: runner.run(lifespan.__aexit__(None, None, None)))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=SITE)
        self.get = lambda address: runner.run(client.get(address))
        self.post = lambda route, body: runner.run(client.post(route, content=json.dumps(body)))

    @settings(max_examples=campaign(60), suppress_health_check=list(HealthCheck))
    @given(body=json_values | st.fixed_dictionaries({"jobs": st.lists(jobs | json_values)}))
    def test_no_request_gets_a_bare_500(self, body: object) -> None:
        for route in (BASIC, HPC):
            response = self.post(route, body)
            self.assertEqual(406, response.status_code, response.text)
            self.assertEqual({"message", "data"}, set(response.json()))

    @settings(max_examples=campaign(40), suppress_health_check=list(HealthCheck))
    @given(
        route=st.sampled_from(["/api/jobs", "/jobs", "/api/jobs/stream/log", "/api/jobs/x/log"]),
        query=st.dictionaries(
            st.sampled_from("state text submitter since until sort order page offset".split()),
            st.text() | st.integers().map(str),
        ),
    )
    @slow
    def test_no_question_gets_a_bare_500(self, route: str, query: dict[str, str]) -> None:
        address = f"{route}?{urlencode(query, errors='replace')}"
        response = self.get(address)
        self.assertIn(response.status_code, (200, 404, 422), response.text)
