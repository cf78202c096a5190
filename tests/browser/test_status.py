"""The status pages in a real browser: live, filtered, sorted, paged; a job's own page."""

import json
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from aind_data_transfer_service.jobs.models import Job, JobEvent, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import free_port, wait_until
from tests.support.browser import PageTest
from tests.support.requests import upload_settings
from tests.support.service import Service
from tests.test_server import slurmrestd
from tests.test_server.cluster import Cluster, Pace

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SCRIPT = "#!/bin/sh\necho begun\necho careful >&2\nexec sleep 600\n"


class StatusPageTest(PageTest):
    """A person who waits for jobs."""

    def setUp(self) -> None:
        """Start a service of the test's own."""
        super().setUp()
        self.service = self.enterContext(Service(allow_custom_scripts=True))
        self.addCleanup(self.page.context.close)  # before the service is stopped

    def add(self, *jobs: dict[str, Any]) -> list[Job]:
        """Record jobs that ended, unless told otherwise."""
        usual = {"state": JobState.COMPLETED, "submitted_at": NOON, "name": "a_1_b_c"}
        made = [Job(**({"id": new_job_id()} | usual | one)) for one in jobs]
        self.service.manager.store.add(made)
        return made

    def open(self, path: str = "/jobs") -> None:
        """Open a page, and wait until it is live."""
        self.page.goto(self.service.url + path)
        if self.page.locator("#live").count():
            self.page.locator('#live[data-live="on"]').wait_for()

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the service from outside the page."""
        answer = self.page.request.post(self.service.url + path, data=body)
        self.assertEqual(200, answer.status, answer.text())
        return answer.json()["data"]

    def start_script(self, name: str = "long_job") -> str:
        """Submit a script that runs until it is stopped."""
        job = {"upload_job_settings": "{}", "hpc_settings": f'{{"name": "{name}"}}'}
        data = self.post("/api/submit_hpc_jobs", {"jobs": [job | {"script": SCRIPT}]})
        job_id = data["responses"][0]["job_id"]
        self.addCleanup(self._stop, job_id)
        return job_id

    def _stop(self, job_id: str) -> None:
        """Let no script outlive its test."""
        job = self.service.manager.store.get(job_id)
        if job.ended_at is None:
            httpx.post(f"{self.service.url}/api/jobs/{job_id}/cancel", timeout=20)

    def names(self) -> list[str]:
        """Read the names in the list."""
        return self.page.locator("#rows .job-name").all_inner_texts()

    def wait_for_names(self, *names: str) -> None:
        """Wait until the list shows just these."""
        self.page.wait_for_function(
            """names => JSON.stringify(names) === JSON.stringify(
                [...document.querySelectorAll("#rows .job-name")].map(one => one.textContent))""",
            arg=list(names),
        )

    def test_jobs_appear_and_change_without_reloading(self) -> None:
        self.open()
        self.page.get_by_text("No jobs yet").wait_for()
        job_id = self.start_script()
        self.page.locator(f'tr[data-job="{job_id}"][data-state="RUNNING"]').wait_for()
        self.assertFalse(self.page.get_by_text("No jobs yet").is_visible())
        self.post(f"/api/jobs/{job_id}/cancel")
        self.page.locator(f'tr[data-job="{job_id}"][data-state="CANCELLED"]').wait_for()
        self.page.locator('[data-count="CANCELLED"]').get_by_text("1", exact=True).wait_for()

    def test_progress_tells_bytes_files_rate_and_time_left(self) -> None:
        self.add(
            {
                "state": JobState.COMPLETED,
                "name": "behavior_1_2024-02-19_11-25-17",
                "files_done": 412,
                "files_total": 412,
                "bytes_done": 207_300_000,
                "bytes_total": 207_300_000,
            }
        )
        running = {
            "name": "behavior_2_2024-02-19_11-25-17",
            "state": JobState.RUNNING,
            "executor": "local",
            "files_done": 812,
            "files_total": 2004,
            "bytes_done": 171_000_000_000,
            "bytes_total": 402_000_000_000,
            "bytes_per_second": 356_000_000,
            "seconds_left": 649,
        }
        self.open()
        shown = self.page.locator("#rows").inner_text().replace("\xa0", " ")
        self.assertIn("207 MB · 412 files", shown)
        [job] = self.add(running)
        self.service.manager.feed.publish([job])
        self.page.locator(f'tr[data-job="{job.id}"]').wait_for()
        said = self.page.locator(f'tr[data-job="{job.id}"] .progress-cell').inner_text()
        expected = "171 GB of 402 GB · 812 of 2,004 files · 356 MB/s · 10 min 49 s left"
        self.assertEqual(expected, said.replace("\xa0", " "))

    def test_filters_sorting_and_pages_work_without_reloading_and_go_into_the_address(self) -> None:
        self.add(
            *({"name": f"job {n:02}", "submitter": "Anna Apple"} for n in range(30)),
            {"name": "one of Ben's", "submitter": "Ben Birch", "state": JobState.FAILED},
        )
        self.open("/jobs?page_size=25")
        self.page.evaluate("window.stayed = true")
        self.assertEqual(25, len(self.names()))
        self.page.get_by_role("link", name="Next").click()
        self.page.get_by_text("26–31 of 31").wait_for()
        self.page.get_by_role("checkbox", name="Failed").check()
        self.wait_for_names("one of Ben's")
        self.assertIn("state=FAILED", self.page.url)
        self.page.go_back()
        self.page.get_by_text("26–31 of 31").wait_for()
        self.assertFalse(self.page.get_by_role("checkbox", name="Failed").is_checked())
        self.page.get_by_label("Search").fill("job 07")
        self.wait_for_names("job 07")
        self.page.get_by_role("link", name="Clear filters").click()
        self.page.get_by_text("1–25 of 31").wait_for()
        self.page.get_by_label("Submitter").select_option("Ben Birch")
        self.wait_for_names("one of Ben's")
        self.page.get_by_label("Submitter").select_option("")
        self.page.get_by_role("columnheader", name="Job", exact=True).get_by_role("link").click()
        self.page.locator('th[data-sort="name"][aria-sort="descending"]').wait_for()
        self.page.locator("#rows tr:first-child").get_by_text("one of Ben's").wait_for()
        self.assertTrue(self.page.evaluate("window.stayed"))

    def test_an_address_with_filters_opens_as_it_was(self) -> None:
        self.add({"name": "one"}, {"name": "two", "state": JobState.FAILED})
        self.open("/jobs?state=FAILED&sort=name&order=asc")
        self.assertEqual(["two"], self.names())
        self.assertTrue(self.page.get_by_role("checkbox", name="Failed").is_checked())

    def test_a_filter_that_nothing_fits_says_so(self) -> None:
        self.add({})
        self.open("/jobs?text=nothing")
        self.page.get_by_text("No job fits these filters").wait_for()
        self.page.get_by_role("link", name="clear the filters").click()
        self.wait_for_names("a_1_b_c")

    def test_times_are_in_the_readers_zone_and_the_zone_is_named(self) -> None:
        self.add({})
        page = self.new_page(timezone_id="Asia/Tokyo")
        page.goto(self.service.url + "/jobs")
        page.get_by_text("2026-03-04 21:00").wait_for()
        self.assertIn("Asia/Tokyo", page.locator("#zone-note").inner_text())
        page.context.close()

    def test_a_page_that_hears_nothing_asks_again(self) -> None:
        self.page.route("**/jobs/stream", lambda route: route.abort())
        self.page.goto(self.service.url + "/jobs")
        self.page.locator('#live[data-live="poll"]').wait_for()
        self.add({"name": "unheard of"})
        self.wait_for_names("unheard of")

    def test_a_page_that_nobody_looks_at_lets_go_of_its_connection(self) -> None:
        self.open()
        hide = """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        self.page.evaluate(hide, True)
        self.page.locator('#live[data-live="off"]').wait_for()
        self.add({"name": "while away"})
        self.page.evaluate(hide, False)
        self.wait_for_names("while away")

    def test_a_jobs_page_shows_its_log_and_stops_it(self) -> None:
        job_id = self.start_script()
        self.open(f"/jobs/{job_id}")
        self.page.locator('#job[data-state="RUNNING"]').wait_for()
        self.page.locator("#log").get_by_text("careful").wait_for()
        self.page.get_by_role("radio", name="stdout").check()
        self.page.locator("#log").get_by_text("begun").wait_for()
        self.page.get_by_role("button", name="Cancel job").click()
        self.page.get_by_role("button", name="Keep running").click()
        self.assertEqual(JobState.RUNNING, self.service.manager.store.get(job_id).state)
        self.page.get_by_role("button", name="Cancel job").click()
        self.page.get_by_role("dialog").get_by_role("button", name="Cancel job").click()
        self.page.locator('#job[data-state="CANCELLED"]').wait_for(timeout=20_000)
        self.page.get_by_role("button", name="Resubmit").wait_for()

    def test_a_failed_job_says_why_and_is_submitted_again(self) -> None:
        folder = self.service.folder / "session"
        folder.mkdir()
        text = upload_settings(folder)
        [job] = self.add(
            {
                "name": "behavior_690165_2024-02-19_11-25-17",
                "state": JobState.FAILED,
                "reason": "the drive went away",
                "exit_code": 10,
                "upload_job_settings": text,
                "warnings": ("the subject was not looked up",),
            }
        )
        event = JobEvent(time=NOON, step="preflight", kind="fail", message="the drive went away")
        self.service.manager.store.add_events(job.id, [event])
        self.open(f"/jobs/{job.id}")
        self.page.locator(".notice").get_by_text("the drive went away").wait_for()
        self.page.get_by_text("the subject was not looked up").wait_for()
        self.page.locator("#timeline").get_by_text("preflight").wait_for()
        self.page.get_by_role("button", name="Resubmit").click()
        self.page.get_by_role("link", name=job.id).wait_for()  # "Resubmission of"
        new_id = self.page.locator("#job").get_attribute("data-job")
        self.assertEqual(job.id, self.service.manager.store.get(new_id).resubmit_of)
        store = self.service.manager.store
        wait_until(lambda: store.get(new_id).ended_at, 60, "the new job to end")

    def test_the_documents_of_a_job_are_listed_with_what_is_wrong_with_them(self) -> None:
        [job] = self.add({"state": JobState.RUNNING, "executor": "local"})
        row = {"name": "subject.json", "status": "Invalid", "source": "LabTracks", "seconds": 0.3}
        row |= {"complete": False, "problems": ["sex: missing"], "notes": ["two <b>rows</b>"]}
        self.open(f"/jobs/{job.id}")
        self.assertTrue(self.page.locator("#documents-panel").is_hidden())
        event = JobEvent(
            time=NOON, step="metadata", kind="end", message="told", figures={"documents": [row]}
        )
        self.service.manager.store.add_events(job.id, [event])
        self.page.reload()
        shown = self.page.locator('[data-document="subject.json"]')
        for words in ("LabTracks", "Not complete", "sex: missing", "two <b>rows</b>", "0.3 s"):
            shown.get_by_text(words, exact=True).wait_for()

    def test_what_cannot_be_done_is_told(self) -> None:
        [job] = self.add({"upload_job_settings": "{}", "state": JobState.FAILED})
        self.open(f"/jobs/{job.id}")
        self.page.get_by_role("button", name="Resubmit").click()
        self.page.get_by_text("The job could not be resubmitted").wait_for()


class NarrowAndDarkTest(PageTest):
    """The same pages on a telephone at night."""

    viewport = {"width": 360, "height": 740}

    def test_no_page_is_wider_than_the_screen(self) -> None:
        with Service() as service:
            store = service.manager.store
            name = "single-plane-ophys_690165-with-a-long-name_2024-02-19_11-25-17"
            job = Job(
                id=new_job_id(),
                name=name,
                state=JobState.FAILED,
                reason="/" + "long" * 60,
                location="s3://" + "bucket" * 20,
            )
            store.add([job])
            page = self.new_page(color_scheme="dark")
            for path in ("/", "/jobs", f"/jobs/{job.id}", "/help"):
                with self.subTest(path=path):
                    page.goto(service.url + path)
                    width = page.evaluate("document.documentElement.scrollWidth")
                    self.assertLessEqual(width, 360)
            page.context.close()


class ClusterPageTest(PageTest):
    """A person who looks at jobs on a cluster (the mock of it, spoken to over HTTP)."""

    def setUp(self) -> None:
        """Start the mock, and a service that uses it."""
        super().setUp()
        self.cluster = Cluster(Pace(pending=0, run=3600))
        server = self.serve(0)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        hpc = HpcSettings(
            host="127.0.0.1",
            port=server.server_port,
            username="svc",
            token="some_token",
            partition="part",
            current_working_directory=folder,
            logging_directory=folder,
        )
        self.hpc = hpc
        self.service = self.enterContext(Service(hpc=hpc))
        self.addCleanup(self.page.context.close)

    def serve(self, port: int) -> Any:
        """Have the mock answer, until the test ends."""
        server = slurmrestd.make_server("127.0.0.1", port, self.cluster)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def test_a_cluster_that_does_not_answer_is_told_for_as_long(self) -> None:
        port = free_port()  # where nobody listens yet
        service = self.enterContext(Service(hpc=self.hpc.model_copy(update={"port": port})))
        self.addCleanup(self.page.context.close)
        self.page.goto(service.url + "/jobs")
        silence = self.page.get_by_text("unreachable since")
        silence.wait_for()
        self.page.reload()
        self.assertRegex(silence.locator("time").inner_text(), "Today|Yesterday|UTC")
        self.serve(port)
        silence.wait_for(state="hidden")

    def end_job(self, **values: Any) -> str:
        """Record an ended upload, and open the form by which it is submitted again."""
        folder = self.service.folder / "session"
        folder.mkdir(exist_ok=True)
        usual = {"name": "behavior_690165_2024-02-19_11-25-17", "submitted_at": NOON}
        usual["upload_job_settings"] = upload_settings(folder, s3_bucket="some-bucket")
        job = Job(id=new_job_id(), **(usual | values))
        self.service.manager.store.add([job])
        self.page.goto(f"{self.service.url}/jobs/{job.id}")
        self.page.get_by_role("button", name="Resubmit").click()
        self.page.locator("#limits").wait_for()
        return job.id

    def test_a_job_that_ran_out_of_time_is_submitted_again_with_twice_the_limit(self) -> None:
        own = '{"time_limit": 60, "memory_per_cpu": 500}'
        job_id = self.end_job(state=JobState.TIMEOUT, reason="stopped", hpc_settings=own)
        limit, memory = self.page.get_by_label("Time limit"), self.page.get_by_label("MB per CPU")
        self.assertEqual(("120", "500"), (limit.input_value(), memory.input_value()))
        limit.fill("240")
        memory.fill("")
        memory.press("Enter")
        self.page.get_by_role("link", name=job_id).wait_for()  # "Resubmission of"
        new_id = self.page.locator("#job").get_attribute("data-job")
        new = self.service.manager.store.get(new_id)
        self.assertEqual('{"time_limit": 240}', new.hpc_settings)

    def test_limits_that_were_raised_on_the_cluster_are_doubled(self) -> None:
        own = '{"time_limit": 60, "memory_per_cpu": 500}'
        reason = "ran out of memory (8000 MB per CPU); resubmit it"
        self.end_job(state=JobState.FAILED, reason=reason, hpc_settings=own)
        limit, memory = self.page.get_by_label("Time limit"), self.page.get_by_label("MB per CPU")
        self.assertEqual(("60", "16000"), (limit.input_value(), memory.input_value()))
        ran = {"started_at": NOON, "ended_at": NOON + timedelta(hours=10)}
        self.end_job(state=JobState.TIMEOUT, hpc_settings=own, **ran)
        self.assertEqual(("1200", "500"), (limit.input_value(), memory.input_value()))

    def submit_form(self, job_id: str) -> str:
        """Press the form's button, and return the settings of the new job."""
        self.page.get_by_role("button", name="Submit", exact=True).click()
        self.page.get_by_role("link", name=job_id).wait_for()  # "Resubmission of"
        new_id = self.page.locator("#job").get_attribute("data-job")
        store = self.service.manager.store
        store.update(new_id, state=JobState.CANCELLED)  # the next one is of the same asset
        return store.get(new_id).hpc_settings

    def test_what_is_not_changed_in_the_form_stays_as_it_was(self) -> None:
        for own in ('{"memory_per_node": 0}', '{"time_limit": "60", "memory_per_cpu": "500"}'):
            job_id = self.end_job(state=JobState.FAILED, hpc_settings=own)
            self.assertEqual(own, self.submit_form(job_id))

    def test_the_memory_of_a_whole_node_can_be_asked_for_and_given_up(self) -> None:
        own = '{"memory_per_node": 500}'
        job_id = self.end_job(state=JobState.FAILED, hpc_settings=own)
        self.page.get_by_label("MB per node").fill("0")
        self.assertEqual('{"memory_per_node": 0}', self.submit_form(job_id))
        reason = "ran out of memory (8000 MB); resubmit it"
        own = '{"memory_per_cpu": 500}'
        job_id = self.end_job(state=JobState.FAILED, reason=reason, hpc_settings=own)
        self.page.get_by_label("MB per node").fill("")
        self.assertEqual("{}", self.submit_form(job_id))

    def test_limits_that_are_refused_are_told_in_the_form(self) -> None:
        self.end_job(state=JobState.FAILED, reason="ran out of memory (1800 MB); resubmit it")
        memory = self.page.get_by_label("MB per node")
        self.assertEqual("3600", memory.input_value())
        self.assertEqual("", self.page.get_by_label("Time limit").input_value())
        memory.fill("99999999999")
        self.page.get_by_role("button", name="Submit", exact=True).click()
        self.page.locator("#limits").get_by_text("memory_per_node").wait_for()
        self.page.get_by_role("button", name="Close").click()
        self.page.locator("#limits").wait_for(state="hidden")

    def test_a_suggestion_that_a_partition_limits_says_so(self) -> None:
        recorded = Path(__file__).parents[1] / "unit/slurmrest/recorded/limits_v0.0.36.json"
        self.cluster.partitions = json.loads(recorded.read_text())["partitions"]["partitions"]
        self.service = self.enterContext(Service(hpc=self.hpc))  # it asks for them only now
        values = {"state": JobState.FAILED, "reason": "ran out of memory (8000 MB)"}
        note = self.page.locator("#limits").get_by_text(
            'Memory (MB per node; 0 is the whole node): partition "memory" allows at most 10,000 MB'
        )
        for own, megabytes, count in (('{"partition": "memory"}', "10000", 1), ("{}", "16000", 0)):
            self.end_job(hpc_settings=own, **values)
            self.assertEqual(megabytes, self.page.get_by_label("MB per node").input_value())
            self.assertEqual(count, note.count())

    def test_jobs_that_others_started_come_and_go(self) -> None:
        self.page.goto(self.service.url + "/jobs")
        self.page.locator('#live[data-live="on"]').wait_for()
        section = self.page.locator("#others")
        self.assertFalse(section.is_visible())
        job = self.cluster.submit(
            "#!/bin/sh\nsleep 9\n",
            {
                "name": "<i>nightly</i> backup",
                "partition": "part",
                "current_working_directory": "/tmp",
                "environment": {"PATH": "/bin"},
            },
        )
        row = section.locator(f'tr[data-number="{job.job_id}"]')
        row.locator('[data-state="RUNNING"]').wait_for()
        self.assertIn("<i>nightly</i> backup", row.inner_text())
        self.assertIn(f"Slurm job {job.job_id}", row.inner_text())
        self.assertEqual(0, section.locator("button, a").count(), "nothing can be done to it")
        self.assertTrue(self.page.locator("#empty-all").is_visible(), "it is none of ours")
        self.page.get_by_label("Search").fill("nowhere")
        self.page.locator("#empty-filtered").wait_for()
        self.assertTrue(row.is_visible(), "filters are for our own")
        self.cluster.cancel(job)
        row.locator('[data-state="CANCELLED"]').wait_for()
        sent = httpx.get(f"{self.service.url}/jobs").text
        self.assertIn("&lt;i&gt;nightly&lt;/i&gt;", sent)
