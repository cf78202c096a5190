"""What changes on an open page, and what a reader is doing there meanwhile, in a real browser."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service import formatting
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from tests.support.application import HandExecutor
from tests.support.browser import PageTest
from tests.support.jobs import a_job
from tests.support.service import Service

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
CRAFTED = "<img src=x onerror=alert(1)><hx-partial hx-target='#main'></template>"
PARTIAL = {"accept": "text/html", "HX-Request-Type": "partial", "HX-Source": "div#list"}
SELECT = """selector => {
    const text = document.querySelector(selector).firstChild;
    getSelection().setBaseAndExtent(text, 0, text, text.length);
}"""
WATCH = """() => {
    window.changed = [];
    new MutationObserver(records => {
        for (const one of records) {
            const element = one.target.closest?.("[data-field], tr") ?? one.target.parentElement;
            window.changed.push(element?.dataset?.field ?? element?.tagName);
        }
    }).observe(document.querySelector("#rows"), {
        subtree: true, childList: true, characterData: true,
    });
}"""


class LiveUpdateTest(PageTest):
    """A reader of a page that changes."""

    def setUp(self) -> None:
        """Start a service whose jobs are in the states that the test says."""
        super().setUp()
        self.service = Service(monitor_interval=3600)
        self.executor = HandExecutor()
        self.service.manager.executor = self.executor
        self.enterContext(self.service)
        self.addCleanup(self.page.context.close)

    def add(self, **values: object) -> Job:
        """Record a running job."""
        usual = {"state": JobState.RUNNING, "executor": "hand", "submitted_at": NOON}
        usual |= {"started_at": NOON, "files_total": 10, "files_done": 1, "executor_ref": "7"}
        job = a_job(**(usual | values))
        self.executor.states[job.executor_ref] = RunStatus(job.executor_ref, RunState.RUNNING)
        self.service.manager.store.add([job])
        return job

    def change(self, job: Job, **values: object) -> Job:
        """Record a change of a job, and tell of it."""
        store = self.service.manager.store
        store.update(job.id, **values)
        [job] = store.get_many([job.id])
        self.service.manager.feed.publish([job])
        return job

    def open(self, path: str = "/jobs") -> None:
        """Open a page, and wait until it is live."""
        self.page.goto(self.service.url + path)
        self.page.locator('#live[data-live="on"]').wait_for()

    def active(self) -> str:
        """Return the text of what has the focus."""
        return self.page.evaluate("document.activeElement.textContent")

    def test_focus_and_selection_stay_while_rows_change_and_move(self) -> None:
        job, other = self.add(name="first_job"), self.add(name="other_job", executor_ref="8")
        self.open()
        row = self.page.locator(f'tr[data-job="{job.id}"]')
        row.get_by_role("link").focus()
        self.page.evaluate(SELECT, f"#row-{job.id} .meta")
        job = self.change(job, files_done=5)
        row.get_by_text("5 of 10 files").wait_for()
        self.add(name="newest", executor_ref="9")
        self.change(other, state=JobState.FAILED, reason="it broke")
        self.page.get_by_text("it broke").wait_for()
        self.page.get_by_text("newest").wait_for()
        self.assertEqual("first_job", self.active())
        self.assertEqual("Ephys Platform · behavior", self.page.evaluate("getSelection() + ''"))

    def test_only_what_has_changed_is_touched(self) -> None:
        job = self.add(state=JobState.COMPLETED, ended_at=NOON)
        running = self.add(executor_ref="8", started_at=None)
        self.open()
        self.page.evaluate(WATCH)
        self.change(running, files_done=7)
        self.page.get_by_text("7 of 10 files").wait_for()
        self.change(job, analysis="RUNNING")  # as the list is read again
        self.page.evaluate("htmx.trigger('#list', 'refresh')")
        self.change(running, files_done=8)
        self.page.get_by_text("8 of 10 files").wait_for()
        self.assertEqual({"progress"}, set(self.page.evaluate("window.changed")))

    def test_a_list_that_was_read_before_a_row_changed_does_not_undo_the_change(self) -> None:
        job = self.add()
        self.open()
        before = httpx.get(f"{self.service.url}/jobs", headers=PARTIAL).text
        self.page.route("**/jobs?*", lambda route: route.fulfill(body=before))
        self.page.route("**/jobs", lambda route: route.fulfill(body=before))
        self.change(job, files_done=8)
        self.page.get_by_text("8 of 10 files").wait_for()
        with self.page.expect_event("requestfinished"):
            self.page.evaluate("htmx.trigger('#list', 'refresh')")
        self.page.locator("#list:not(.htmx-request)").wait_for()
        self.assertTrue(self.page.get_by_text("8 of 10 files").is_visible())

    def test_hostile_names_and_reasons_stay_text_in_a_row_that_changes(self) -> None:
        job = self.add(name=CRAFTED)
        self.open()
        self.change(job, reason=f"why: {CRAFTED}")
        self.page.get_by_text(f"why: {CRAFTED}").wait_for()
        self.assertEqual(CRAFTED, self.page.locator("#rows .job-name").inner_text())
        self.assertEqual(0, self.page.locator("#main img").count())

    def test_a_page_finds_its_stream_again(self) -> None:
        job = self.add()
        self.open()
        self.service.manager.feed.close()  # as for a page that is too far behind
        self.service.manager.store.update(job.id, files_done=6)
        self.page.get_by_text("6 of 10 files").wait_for()
        self.page.locator('#live[data-live="on"]').wait_for()

    def test_the_page_of_a_job_changes_around_its_reader(self) -> None:
        job = self.add(upload_job_settings='{"subject_id": "1"}')
        self.page.goto(f"{self.service.url}/jobs/{job.id}")
        self.page.get_by_text("Request", exact=True).click()
        settings_text = self.page.locator("details .code").first
        self.assertTrue(settings_text.is_visible())
        self.page.evaluate(SELECT, "h1")
        self.page.locator("#follow").focus()
        self.change(job, files_done=6, step="transfer")
        self.page.get_by_text("6 of 10 files").wait_for()
        self.assertTrue(settings_text.is_visible(), "what was opened stays open")
        self.assertEqual(job.name, self.page.evaluate("getSelection() + ''"))
        self.assertEqual("follow", self.page.evaluate("document.activeElement.id"))
        self.change(job, state=JobState.FAILED, ended_at=NOON, reason="it broke")
        self.page.get_by_text("it broke").wait_for()
        self.assertTrue(self.page.get_by_role("button", name="Resubmit").is_visible())

    def test_hostile_lines_of_a_log_stay_text_and_are_read_on(self) -> None:
        self.executor.files["7", "stderr"] = f"{CRAFTED}\n\n".encode()
        job = self.add()
        self.page.goto(f"{self.service.url}/jobs/{job.id}")
        log = self.page.locator("#log")
        log.get_by_text(CRAFTED).wait_for()
        for line in (b"\n", b"10 %\r20 %\n", b"<b>end</b>\n"):
            self.executor.files["7", "stderr"] += line
            self.page.evaluate("htmx.trigger('#log-note', 'more')")
            size = len(self.executor.files["7", "stderr"])
            self.page.locator("#log-note").get_by_text(f"{size} B in all.").wait_for()
        expected = f"{CRAFTED}\n\n\n10 %\r20 %\n<b>end</b>\n"
        self.assertEqual(expected, log.evaluate("log => log.textContent"))
        self.assertEqual(0, self.page.locator("#main img").count())

    def test_filters_that_follow_one_another_show_the_last(self) -> None:
        for name in ("apple", "birch", "cedar"):
            self.add(name=name, state=JobState.COMPLETED, executor_ref=name)
        self.open()
        search = self.page.get_by_label("Search")
        search.press_sequentially("cedar", delay=10)
        self.page.evaluate("htmx.trigger('#list', 'refresh')")
        self.page.get_by_text("1–1 of 1").wait_for()
        self.page.evaluate("htmx.trigger('#list', 'refresh')")
        self.page.locator("#list:not(.htmx-request)").wait_for()
        self.assertEqual(["cedar"], self.page.locator("#rows .job-name").all_inner_texts())
        self.assertEqual("text", self.page.evaluate("document.activeElement.id"))
        self.assertTrue(self.page.url.endswith("/jobs?text=cedar"))

    def test_durations_are_written_as_on_the_server(self) -> None:
        self.open()
        source = "document.querySelector('script[src$=\"jobs.js\"]').src.replace('jobs', 'times')"
        self.page.evaluate(f"async () => {{ window.times = await import({source}); }}")

        @settings(max_examples=50, deadline=None, derandomize=True)
        @given(st.lists(st.floats(0, 1e7).map(lambda one: round(one, 1) + 0.05)))
        def agree(seconds: list[float]) -> None:
            said = self.page.evaluate("all => all.map(one => times.duration(one))", seconds)
            self.assertEqual(list(map(formatting.duration, seconds)), said)

        agree()


class WithoutScriptsTest(PageTest):
    """A reader whose browser runs no scripts."""

    def test_the_list_and_the_page_of_a_job_can_be_read(self) -> None:
        with Service() as service:
            job = a_job(state=JobState.COMPLETED, submitted_at=NOON, started_at=NOON)
            job = replace(job, ended_at=NOON.replace(hour=14))
            service.manager.store.add([job])
            page = self.new_page(java_script_enabled=False)
            page.goto(f"{service.url}/jobs?text={job.name}&page_size=25")
            page.get_by_text("2026-03-04 12:00:00 UTC").wait_for()
            page.get_by_text("2 h", exact=True).wait_for()
            page.get_by_role("button", name="Apply").click()
            page.get_by_role("link", name="Clear filters").click()
            page.get_by_role("link", name=job.name).click()
            page.get_by_text("took 2 h").wait_for()
            page.context.close()
