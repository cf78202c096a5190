"""The jobs: list, one, log, cancel, resubmit, changes as they happen."""

import asyncio
import base64
import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import anyio

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.models import Job, JobEvent, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.redaction import HIDDEN, learn, redact
from aind_data_transfer_service.server.routers.stream import changes
from aind_data_transfer_service.slurmrest.job_properties import read_properties
from tests.support import slow
from tests.support.application import ApplicationTest
from tests.support.requests import upload_settings

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class JobsTest(ApplicationTest):
    """A test with jobs in the store."""

    def add(self, *jobs: dict[str, Any]) -> list[Job]:
        """Record jobs that ended, unless told otherwise."""
        usual = {"state": JobState.COMPLETED, "submitted_at": NOON}
        made = [Job(**({"id": new_job_id(), "name": "a_1_b_c"} | usual | one)) for one in jobs]
        self.manager.store.add(made)
        return made

    async def names(self, query: str) -> list[str]:
        """List the names of the jobs that a query finds."""
        response = await self.client.get(f"/api/jobs?{query}")
        self.assertEqual(200, response.status_code, response.text)
        return [job["name"] for job in self.envelope(response)["jobs"]]

    async def submit(self, **changes: Any) -> str:
        """Submit a job, and give its id."""
        body = {"jobs": [upload_settings(self.data_dir, **changes)]}
        response = await self.client.post("/api/submit_basic_jobs", json=body)
        return self.envelope(response)["responses"][0]["job_id"]


class ListTest(JobsTest):
    """GET /api/jobs."""

    @slow
    async def test_filters_narrow_the_list(self) -> None:
        self.add(
            {"name": "one", "submitter": "Anna Apple", "state": JobState.FAILED},
            {"name": "two", "submitter": "Ben Birch", "state": JobState.COMPLETED},
            {"name": "three", "submitter": "Ben Birch", "state": JobState.CANCELLED},
        )
        for query, expected in (
            ("state=FAILED&state=CANCELLED", {"one", "three"}),
            ("state=", {"one", "two", "three"}),
            ("submitter=Ben+Birch", {"two", "three"}),
            ("text=birch+TWO", {"two"}),
            ("text=%00one", {"one"}),
            ("text=%25", set()),
        ):
            with self.subTest(query=query):
                self.assertEqual(expected, set(await self.names(query)))

    @slow
    async def test_dates_are_the_labs_and_the_last_day_counts(self) -> None:
        # Los Angeles is eight hours behind: its 4 March ends at 08:00 UTC on the 5th.
        self.add(
            {"name": "before", "submitted_at": datetime(2026, 3, 4, 7, 59, tzinfo=UTC)},
            {"name": "during", "submitted_at": datetime(2026, 3, 5, 7, 59, tzinfo=UTC)},
            {"name": "after", "submitted_at": datetime(2026, 3, 5, 8, 0, tzinfo=UTC)},
        )
        self.assertEqual(["during"], await self.names("since=2026-03-04&until=2026-03-04"))
        self.assertEqual(["after"], await self.names("since=2026-03-05T00:00:00"))
        self.assertEqual(["before"], await self.names("until=2026-03-04T08:00:00Z"))

    async def test_the_list_is_sorted_and_paged(self) -> None:
        self.add(*({"name": f"job {n}"} for n in range(5)))
        self.assertEqual(["job 0", "job 1"], await self.names("sort=name&order=asc&page_size=2"))
        self.assertEqual(["job 0"], await self.names("sort=name&page=3&page_size=2"))
        data = self.envelope(await self.client.get("/api/jobs?page=3&page_size=2"))
        self.assertEqual((5, 3, 2), (data["total"], data["page"], data["page_size"]))
        self.assertEqual(5, data["counts"]["COMPLETED"])

    @slow
    async def test_questions_that_make_no_sense_are_refused_in_words(self) -> None:
        for query, word in (
            ("page=0", "page"),
            ("page=x", "page"),
            ("page_size=100000", "page_size"),
            ("state=BROKEN", "state"),
            ("sort=script", "submitted_at"),
            ("order=up", "order"),
            ("since=tomorrow", "since"),
            ("since=0001-01-01T00:00:00%2B23:00", "since"),
            ("until=9999-12-31T23:00:00-23:00", "until"),
            ("until=9999-12-31", "until"),
            ("since=2026-13-01T00:00", "since"),
        ):
            with self.subTest(query=query):
                response = await self.client.get(f"/api/jobs?{query}")
                self.assertEqual(422, response.status_code, response.text)
                self.assertIn(word, " ".join(self.envelope(response)["errors"]))


class OneJobTest(JobsTest):
    """GET /api/jobs/{id}, its log, cancel and resubmit."""

    @slow
    async def test_a_job_comes_with_its_timeline(self) -> None:
        [job] = self.add({"name": "one", "warnings": ("look twice",)})
        event = JobEvent(time=NOON, step="verify", kind="end", message="all", figures={"files": 3})
        self.manager.store.add_events(job.id, [event])
        data = self.envelope(await self.client.get(f"/api/jobs/{job.id}"))
        self.assertEqual("one", data["job"]["name"])
        self.assertEqual(["look twice"], data["job"]["warnings"])
        self.assertEqual({"files": 3}, data["events"][0]["figures"])

    async def test_an_unknown_job_is_not_found_whatever_is_asked(self) -> None:
        for method, path in (
            ("GET", ""),
            ("GET", "/log"),
            ("POST", "/cancel"),
            ("POST", "/resubmit"),
        ):
            with self.subTest(path=path):
                response = await self.client.request(method, f"/api/jobs/nobody{path}")
                self.assertEqual(404, response.status_code)
                self.assertIn("nobody", self.envelope(response)["errors"][0])

    @slow
    async def test_a_log_is_read_on_from_where_it_ended(self) -> None:
        job = await self.submit()
        text = "größer\n" * 5
        self.executor.files[job, "stderr"] = text.encode()
        read, offset = "", 0
        for _ in range(100):
            query = f"/api/jobs/{job}/log?stream=stderr&offset={offset}&limit=4"
            chunk = self.envelope(await self.client.get(query))
            self.assertEqual(offset, chunk["offset"])
            read, offset = read + chunk["text"], chunk["next_offset"]
            if offset == chunk["size"]:
                break
        self.assertEqual(text, read)

    @slow
    async def test_a_log_that_is_no_text_is_shown_all_the_same(self) -> None:
        job = await self.submit()
        self.executor.files[job, "stdout"] = b"\x80" * 50 + b"\xf0"
        self.manager.store.update(job, state=JobState.COMPLETED)
        read, offset = "", 0
        while offset < 51:
            query = f"/api/jobs/{job}/log?stream=stdout&offset={offset}&limit=1"
            chunk = self.envelope(await self.client.get(query))
            self.assertGreater(chunk["next_offset"], offset)
            read, offset = read + chunk["text"], chunk["next_offset"]
        self.assertEqual("�" * 51, read)

    async def read_log(self, job: str, offset: int, limit: int) -> tuple[str, int]:
        """Read a log piece by piece, as far as it is shown; return it and where it ends."""
        read = ""
        while True:
            query = f"/api/jobs/{job}/log?offset={offset}&limit={limit}"
            chunk = self.envelope(await self.client.get(query))
            self.assertEqual(offset, chunk["offset"])
            read, offset = read + chunk["text"], chunk["next_offset"]
            if offset == chunk["offset"] or offset == chunk["size"]:
                return read, offset

    @slow
    async def test_no_range_of_a_log_shows_a_part_of_a_secret(self) -> None:
        secret = "pässword-of/the+mail"
        learn(secret)
        encoded = base64.b64encode(f"user:{secret}".encode()).decode()
        job = await self.submit()
        for written in (secret, quote(secret), json.dumps(secret), f"Basic {encoded}"):
            text = f"größer {written}!\n"
            self.executor.files[job, "stderr"] = text.encode()
            for limit in (3, 50):
                with self.subTest(written, limit=limit):
                    read, _ = await self.read_log(job, 0, limit)
                    self.assertEqual(redact(text), read)
            for offset in range(-len(text.encode()), len(text), 7):
                query = f"/api/jobs/{job}/log?offset={offset}&limit=4"
                shown = self.envelope(await self.client.get(query))["text"]
                self.assertIn(shown, redact(text), offset)

    @slow
    async def test_a_secret_at_the_end_of_a_growing_log_is_not_shown_in_parts(self) -> None:
        secret = "sesame-open-sesame"
        learn(secret)
        job = await self.submit()
        text, read, offset = f"one\nPASSWORD={secret}\rthree", "", 0
        for end in range(len(text) + 1):
            self.executor.files[job, "stderr"] = text[:end].encode()
            piece, offset = await self.read_log(job, offset, 1000)
            read += piece
        self.assertEqual(f"one\nPASSWORD={HIDDEN}\r", read)
        self.manager.store.update(job, state=JobState.COMPLETED)
        piece, _ = await self.read_log(job, offset, 1000)
        self.assertEqual("three", piece)

    async def test_no_range_of_a_log_shows_a_line_of_a_key(self) -> None:
        known = [f"{letter}nownKeyLine/of+the=mail" for letter in "abcdk"]
        found = [f"{letter}oundKeyLine/of+a=stranger" for letter in "efghf"]
        learn("\n".join(known))
        job = await self.submit()
        key = ["-----BEGIN PRIVATE KEY-----", *found, "-----END PRIVATE KEY-----"]
        lines = ["one: 1", *known, "two: 2", *key, "three: 3"]
        text = "".join(f"{line}\n" for line in lines)
        read, offset = "", 0
        for end in range(len(lines) + 1):  # the log grows line by line
            grown = "".join(f"{line}\n" for line in lines[:end])
            self.executor.files[job, "stderr"] = grown.encode()
            piece, offset = await self.read_log(job, offset, 1000)
            read += piece
        self.executor.files[job, "stderr"] = text.encode()
        for start in range(0, len(text), 7):
            read += (await self.read_log(job, start, 20))[0]
        for part in (line[3:12] for line in [*known, *found]):
            self.assertNotIn(part, read)
        self.assertIn("three: 3\n", read)

    @slow
    async def test_without_an_offset_the_end_of_the_log_is_read(self) -> None:
        job = await self.submit()
        self.executor.files[job, "stderr"] = b"x" * 300_000 + b"end\n"
        chunk = self.envelope(await self.client.get(f"/api/jobs/{job}/log"))
        self.assertTrue(chunk["text"].endswith("end\n"))
        self.assertEqual(300_004, chunk["next_offset"])

    async def test_a_job_is_cancelled(self) -> None:
        job = await self.submit()
        response = await self.client.post(f"/api/jobs/{job}/cancel")
        self.assertEqual(200, response.status_code, response.text)
        self.assertTrue(self.envelope(response)["job"]["cancel_requested"])
        again = await self.client.post(f"/api/jobs/{job}/cancel")
        self.assertEqual(409, again.status_code)
        self.assertIn("has ended already", self.envelope(again)["errors"][0])

    @slow
    async def test_an_ended_job_is_submitted_again_as_a_new_one(self) -> None:
        job = await self.submit()
        too_early = await self.client.post(f"/api/jobs/{job}/resubmit")
        self.assertEqual(409, too_early.status_code)
        await self.client.post(f"/api/jobs/{job}/cancel")
        response = await self.client.post(f"/api/jobs/{job}/resubmit")
        self.assertEqual(200, response.status_code, response.text)
        new = self.envelope(response)["job"]
        self.assertEqual(job, new["resubmit_of"])
        self.assertIn(new["id"], self.executor.specs)

    async def test_it_can_be_submitted_again_with_other_limits(self) -> None:
        job = await self.submit()
        await self.client.post(f"/api/jobs/{job}/cancel")
        path = f"/api/jobs/{job}/resubmit"
        for wrong in ({"time_limit": "soon"}, {"memory_per_cpu": 1.5}, {"script": "x"}, [1]):
            self.assertEqual(422, (await self.client.post(path, json=wrong)).status_code, wrong)
        limits = {"time_limit": 120, "memory_per_cpu": None}
        response = await self.client.post(path, json=limits)
        self.assertEqual(200, response.status_code, response.text)
        new = self.executor.specs[self.envelope(response)["job"]["id"]]
        self.assertEqual({"time_limit": 120}, dict(new.settings))
        shown = self.envelope(await self.client.get(f"/api/jobs/{job}"))
        self.assertEqual({}, shown["suggested_limits"], "this machine knows no limits")

    async def test_a_body_that_is_not_sent_as_json_is_ignored(self) -> None:
        for sent in (
            {},
            {"content": b"{}", "headers": {"content-type": "text/plain"}},
            {"content": b"\xff[", "headers": {"content-type": "application/octet-stream"}},
            {"content": b'{"time_limit": "x"}'},
            {"data": {"reason": "again"}},
            {"files": {"file": b"x"}},
            {"content": b"", "headers": {"content-type": "application/json"}},
            {"json": {}},
            {"content": b"null", "headers": {"content-type": "Application/JSON; charset=utf-8"}},
        ):
            with self.subTest(sent=sent):
                job = await self.submit()
                await self.client.post(f"/api/jobs/{job}/cancel")
                response = await self.client.post(f"/api/jobs/{job}/resubmit", **sent)
                new = self.envelope(response)["job"]
                self.assertEqual(job, new["resubmit_of"])
                await self.client.post(f"/api/jobs/{new['id']}/cancel")

    async def test_times_and_sizes_with_units_are_limits(self) -> None:
        job = await self.submit()
        await self.client.post(f"/api/jobs/{job}/cancel")
        for limits in (
            {"time_limit": "12:00:00", "memory_per_node": "16G"},
            {"time_limit": "720", "memory_per_node": 16384.0},
            {"time_limit": 720, "memory_per_node": "16384", "memory_per_cpu": None},
        ):
            response = await self.client.post(f"/api/jobs/{job}/resubmit", json=limits)
            self.assertEqual(200, response.status_code, response.text)
            again = self.envelope(response)["job"]["id"]
            found, problems = read_properties(self.executor.specs[again].settings)
            self.assertEqual([], problems)
            self.assertEqual({"time_limit": 720, "memory_per_node": 16384}, found)
            await self.client.post(f"/api/jobs/{again}/cancel")

    async def test_limits_are_refused_in_the_words_for_hpc_settings(self) -> None:
        job = await self.submit()
        await self.client.post(f"/api/jobs/{job}/cancel")
        wrong = {"time_limit": "2h", "memory_per_node": "2048T", "mem": "16G", "-t": 5}
        response = await self.client.post(f"/api/jobs/{job}/resubmit", json=wrong)
        self.assertEqual(422, response.status_code, response.text)
        known = "fields are time_limit, memory_per_cpu, memory_per_gpu, memory_per_node"
        self.assertEqual(
            {
                *(f"{line}" for line in read_properties(dict(list(wrong.items())[:2]))[1]),
                f"mem: is not known; did you mean memory_per_node? The {known}",
                f"-t: is not known; did you mean time_limit? The {known}",
            },
            set(self.envelope(response)["errors"]),
        )
        for value in ("soon", 0, -5, 1.5, True, [1], {}):
            body = {"time_limit": value}
            response = await self.client.post(f"/api/jobs/{job}/resubmit", json=body)
            self.assertEqual(422, response.status_code, response.text)
            self.assertEqual(read_properties(body)[1], self.envelope(response)["errors"])

    async def test_fields_that_are_not_known_are_refused_with_the_nearest_name(self) -> None:
        job = await self.submit()
        await self.client.post(f"/api/jobs/{job}/cancel")
        known = "fields are time_limit, memory_per_cpu, memory_per_gpu, memory_per_node"
        wrong = {"timelimit": 5, "reason": "again", "memory_per_cpu": "4000 cats"}
        for kind in ("application/json", "application/merge-patch+json"):
            response = await self.client.post(
                f"/api/jobs/{job}/resubmit",
                content=json.dumps(wrong),
                headers={"content-type": kind},
            )
            self.assertEqual(422, response.status_code, response.text)
            self.assertEqual(
                {
                    f"timelimit: is not known; did you mean time_limit? The {known}",
                    f"reason: is not known; the {known}",
                    'memory_per_cpu: "4000 cats" is wrong here; write megabytes, such as 16000, or '
                    "a size, such as 16G",
                },
                set(self.envelope(response)["errors"]),
            )
        many = {f"time_limit{number}": 1 for number in range(5000)}
        response = await self.client.post(f"/api/jobs/{job}/resubmit", json=many)
        errors = self.envelope(response)["errors"]
        self.assertEqual((101, "4,900 more errors"), (len(errors), errors[-1]))

    @slow
    async def test_an_executor_out_of_reach_is_named_when_a_job_is_submitted_again(self) -> None:
        job = await self.submit()
        await self.client.post(f"/api/jobs/{job}/cancel")
        self.executor.refusal = "the disk is full"
        response = await self.client.post(f"/api/jobs/{job}/resubmit")
        self.assertEqual(502, response.status_code)
        self.assertIn("the disk is full", self.envelope(response)["errors"][0])


class VariablesTest(JobsTest):
    """Variables that a user gave a job."""

    settings = {"allow_custom_scripts": True}

    @slow
    async def test_their_values_are_shown_nowhere_and_a_job_is_submitted_again_with_them(
        self,
    ) -> None:
        given = json.dumps({"name": "x", "tasks": 2, "environment": {"MODE": "hush-hush"}})
        job = {"upload_job_settings": "{}", "hpc_settings": given, "script": "#!/bin/sh\n"}
        answer = await self.client.post("/api/submit_hpc_jobs", json={"jobs": [job]})
        job_id = self.envelope(answer)["responses"][0]["job_id"]
        for path in (f"/jobs/{job_id}", f"/api/jobs/{job_id}", "/api/jobs"):
            self.assertNotIn("hush-hush", (await self.client.get(path)).text)
        shown = self.envelope(await self.client.get(f"/api/jobs/{job_id}"))["job"]
        self.assertEqual(2, json.loads(shown["hpc_settings"])["tasks"])
        self.assertIn("MODE", (await self.client.get(f"/jobs/{job_id}")).text)
        self.manager.store.update(job_id, state=JobState.FAILED)
        again = await self.client.post(f"/api/jobs/{job_id}/resubmit")
        spec = self.executor.specs[self.envelope(again)["job"]["id"]]
        self.assertEqual({"MODE": "hush-hush"}, spec.settings["environment"])

    @slow
    async def test_a_secret_is_refused_before_anything_is_recorded(self) -> None:
        given = json.dumps({"name": "x", "environment": {"MY_TOKEN": "hush-hush"}})
        job = {"upload_job_settings": "{}", "hpc_settings": given, "script": "#!/bin/sh\n"}
        answer = await self.client.post("/api/submit_hpc_jobs", json={"jobs": [job]})
        self.assertEqual(406, answer.status_code)
        self.assertIn("MY_TOKEN", answer.text)
        self.assertNotIn("hush-hush", answer.text)
        self.assertEqual(0, self.envelope(await self.client.get("/api/jobs"))["total"])


class PlaceTest(JobsTest):
    """Where a job runs, as the page and the API tell it."""

    async def test_slurms_number_and_the_nodes_are_told(self) -> None:
        [job] = self.add({"executor": "slurm", "executor_ref": "1234:x", "node": "node[1-2]"})
        shown = self.envelope(await self.client.get(f"/api/jobs/{job.id}"))["job"]
        self.assertEqual((1234, "node[1-2]"), (shown["slurm_job_id"], shown["node"]))
        page = (await self.client.get(f"/jobs/{job.id}")).text
        self.assertIn("Slurm, as its job 1234", page)
        self.assertIn("node[1-2]", page)

    async def test_a_job_on_this_machine_has_neither(self) -> None:
        [job] = self.add({"executor": "local", "executor_ref": "77"})
        shown = self.envelope(await self.client.get(f"/api/jobs/{job.id}"))["job"]
        self.assertEqual((None, ""), (shown["slurm_job_id"], shown["node"]))
        page = (await self.client.get(f"/jobs/{job.id}")).text
        self.assertRegex(page, r'id="node" hidden')


class StreamTest(JobsTest):
    """GET /api/jobs/stream."""

    @slow
    async def test_changes_are_told_as_they_happen(self) -> None:
        stopping = anyio.Event()
        told = changes(self.manager, self.manager.feed.subscribe(), stopping)
        ready = await anext(told)
        self.assertEqual("ready", ready.event)
        job = await self.submit()
        self.executor.states[job] = RunStatus(job, RunState.RUNNING, started_at=NOON)
        seen = []
        async with asyncio.timeout(10):
            while "RUNNING" not in seen:
                event = await anext(told)
                self.assertEqual("job", event.event)
                seen.append(json.loads(event.data)["state"])
        self.assertIn(seen[0], ("SUBMITTED", "PENDING"))
        stopping.set()
        async with asyncio.timeout(10):
            with self.assertRaises(StopAsyncIteration):
                while True:
                    await anext(told)

    async def test_the_stream_ends_with_the_service(self) -> None:
        response = asyncio.create_task(self.client.get("/api/jobs/stream"))
        async with asyncio.timeout(10):
            while not response.done():
                self.manager.feed.close()
                await asyncio.sleep(0.01)
        answer = await response
        self.assertEqual("text/event-stream", answer.headers["content-type"].split(";")[0])
        self.assertIn("event: ready", answer.text)


class HealthTest(JobsTest):
    """GET /healthz and /metrics."""

    async def test_a_service_that_is_well_says_so(self) -> None:
        response = await self.client.get("/healthz")
        self.assertEqual(200, response.status_code)
        data = self.envelope(response)
        active, since = data.pop("active"), data.pop("active_since")
        self.assertIn(f"process {os.getpid()}", active)
        self.assertLess(datetime.now(UTC) - datetime.fromisoformat(since), timedelta(minutes=5))
        pieces = {"store": "ok", "executor": "ok", "lease": "ok", "role": "active"}
        self.assertEqual({**pieces, "errors": []}, data)
        self.assertEqual(200, (await self.client.head("/healthz")).status_code)

    async def test_what_does_not_answer_is_named(self) -> None:
        self.executor.fault = OSError("gone")
        response = await self.client.get("/healthz")
        self.assertEqual(503, response.status_code)
        data = self.envelope(response)
        self.assertEqual(("ok", "failed"), (data["store"], data["executor"]))
        self.assertEqual(["The executor does not answer."], data["errors"])

    @slow
    async def test_when_the_token_of_a_cluster_ends_is_told(self) -> None:
        self.executor.token_ends = datetime.now(UTC) + timedelta(hours=1)
        data = self.envelope(await self.client.get("/healthz"))
        self.assertEqual(self.executor.token_ends.isoformat(), data["token_ends"])
        page = (await self.client.get("/metrics")).text
        left = re.search(r"^transfer_service_cluster_token_seconds (\S+)$", page, re.MULTILINE)[1]
        self.assertAlmostEqual(3600, float(left), delta=60)

    @slow
    async def test_a_cluster_that_is_out_of_reach_is_named(self) -> None:
        self.executor.fault = ExecutorError("the cluster is out of reach")
        response = await self.client.get("/healthz")
        self.assertEqual(["the cluster is out of reach"], self.envelope(response)["errors"])

    @slow
    async def test_a_process_that_is_alive_and_ready_says_so(self) -> None:
        for path, role in (("/livez", None), ("/readyz", "active")):
            response = await self.client.get(path)
            self.assertEqual(200, response.status_code)
            self.assertEqual(role, self.envelope(response).get("role"))
            self.assertEqual(200, (await self.client.head(path)).status_code)

    async def test_a_cluster_that_is_away_makes_no_process_unready(self) -> None:
        self.executor.fault = ExecutorError("the cluster is out of reach")
        self.assertEqual(200, (await self.client.get("/readyz")).status_code)

    async def test_a_process_without_its_database_or_loops_is_alive_but_not_ready(self) -> None:
        self.manager.store.close()
        with patch.object(Heartbeat, "is_late", True):
            response = await self.client.get("/readyz")
        errors = " ".join(self.envelope(response)["errors"])
        self.assertEqual(503, response.status_code)
        self.assertIn('"job monitor"', errors)
        self.assertEqual(200, (await self.client.get("/livez")).status_code)

    @slow
    async def test_metrics_count_jobs_and_requests(self) -> None:
        self.add({}, {})
        await self.submit()
        await self.client.get("/api/jobs/nobody")
        await self.client.get("/made/up/address")
        text = (await self.client.get("/metrics")).text
        self.assertIn('transfer_service_jobs{state="COMPLETED"} 2.0', text)
        self.assertIn('submissions_total{outcome="ok",route="submit_basic_jobs"} 1.0', text)
        self.assertIn("transfer_service_submitted_jobs_total 1.0", text)
        self.assertRegex(text, r'request_seconds_count\{[^}]*route="/api/jobs/\{job_id\}"')
        self.assertRegex(text, r'request_seconds_count\{[^}]*route="other"[^}]*status="404"')
        self.assertNotIn("made/up", text)


class EnvelopeTest(JobsTest):
    """Requests that lead nowhere."""

    async def test_unknown_addresses_and_methods_are_answered_in_the_envelope(self) -> None:
        for method, path, status in (
            ("GET", "/api/nothing", 404),
            ("GET", "/nothing", 404),
            ("DELETE", "/api/jobs", 405),
            ("GET", "/api/submit_basic_jobs", 405),
            ("POST", "/", 405),
        ):
            with self.subTest(method=method, path=path):
                response = await self.client.request(method, path)
                self.assertEqual(status, response.status_code)
                self.assertTrue(self.envelope(response)["errors"])
        self.assertIn("allow", response.headers)

    @slow
    async def test_the_api_description_names_the_routes_that_scripts_rely_on(self) -> None:
        paths = (await self.client.get("/openapi.json")).json()["paths"]
        for path in ("validate_csv", "submit_basic_jobs", "submit_hpc_jobs", "job_upload_template"):
            self.assertIn(f"/api/{path}", paths)


class ManyJobsTest(JobsTest):
    """A store with a history."""

    @slow
    async def test_pages_beyond_the_end_are_empty(self) -> None:
        self.add(*({"submitted_at": NOON - timedelta(days=n)} for n in range(3)))
        data = self.envelope(await self.client.get("/api/jobs?page=1000000"))
        self.assertEqual(([], 3), (data["jobs"], data["total"]))


class AfterwardsRoutesTest(JobsTest):
    """POST /api/jobs/{id}/analysis and /registration."""

    @slow
    async def test_what_cannot_be_done_is_refused_in_words(self) -> None:
        done, failed = self.add(
            {"location": "s3://bucket/a"}, {"state": JobState.FAILED, "location": "s3://bucket/a"}
        )
        for path, status, words in (
            (f"{done.id}/analysis", 409, "set CODEOCEAN_DOMAIN and CODEOCEAN_TOKEN"),
            (f"{done.id}/registration", 409, "set REGISTRATION_URL"),
            (f"{failed.id}/analysis", 409, "there is no verified asset (FAILED)"),
            ("nobody/analysis", 404, "there is no job nobody"),
        ):
            with self.subTest(path):
                response = await self.client.post(f"/api/jobs/{path}")
                self.assertEqual(status, response.status_code)
                self.assertIn(words, response.json()["data"]["errors"][0])

    @slow
    async def test_the_page_shows_how_it_stands_and_a_button_where_it_helps(self) -> None:
        failed, running, plain = self.add(
            {"analysis": "FAILED", "analysis_reason": "<b>no capsule"},
            {"analysis": "RUNNING", "data_asset_link": "https://co.example.org/data-assets/1"},
            {},
        )
        page = (await self.client.get(f"/jobs/{failed.id}")).text
        self.assertIn("&lt;b&gt;no capsule", page)
        self.assertRegex(page, r'data-retry="analysis" *>')
        page = (await self.client.get(f"/jobs/{running.id}")).text
        self.assertIn('href="https://co.example.org/data-assets/1"', page)
        self.assertRegex(page, r'data-retry="analysis" *hidden>')
        page = (await self.client.get(f"/jobs/{plain.id}")).text
        self.assertRegex(page, r'id="post-upload"[^>]* hidden>')
