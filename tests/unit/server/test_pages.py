"""The pages, as the service writes them."""

from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.jobs.models import JobEvent, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from tests.support import slow
from tests.support.requests import upload_settings
from tests.unit.server.test_jobs import NOON, JobsTest

CRAFTED = "<script>alert(1)</script>\"'"


class PagesTest(JobsTest):
    """What a browser gets."""

    async def page(self, path: str, status: int = 200) -> str:
        """Ask for a page as a browser does."""
        response = await self.client.get(path, headers={"accept": "text/html,*/*"})
        self.assertEqual(status, response.status_code)
        self.assertTrue(response.headers["content-type"].startswith("text/html"))
        return response.text

    async def test_every_page_links_to_the_others(self) -> None:
        for path in ("/", "/jobs", "/help", "/nowhere"):
            with self.subTest(path=path):
                text = await self.page(path, 404 if path == "/nowhere" else 200)
                for words in ("Job Submit Template", "Project Names", "Help", "Job Status"):
                    self.assertIn(f">{words}</a>", text)
                self.assertIn("http://aind-metadata-service/project_names", text)

    async def test_pages_answer_head_requests(self) -> None:
        for path in ("/", "/jobs", "/help", "/service"):
            self.assertEqual(200, (await self.client.head(path)).status_code)

    async def test_the_first_list_is_there_without_scripts(self) -> None:
        [job] = self.add({"name": "behavior_1_2024-02-19_11-25-17", "submitter": "Anna Apple"})
        text = await self.page("/jobs")
        self.assertIn(f'href="/jobs/{job.id}"', text)
        self.assertIn("2026-03-04 12:00:00 UTC", text)
        self.assertIn("1–1 of 1", text)

    async def test_an_empty_list_says_what_to_do(self) -> None:
        self.assertRegex(await self.page("/jobs"), r'id="empty-all" >')
        self.assertRegex(await self.page("/jobs?state=FAILED"), r'id="empty-filtered" >')

    @slow
    async def test_an_administrator_sees_how_the_service_is(self) -> None:
        self.add({}, {"state": JobState.FAILED})
        self.executor.token_ends = datetime.now(UTC) + timedelta(hours=2, minutes=3, seconds=30)
        text = await self.page("/service")
        self.assertIn("Jobs can be recorded and run.", text)
        self.assertIn("2 h 3 min left", text)
        self.assertRegex(text, r"Failed</th><td>1</td>")
        self.assertIn('href="/service"', await self.page("/jobs"))

    async def test_an_administrator_sees_what_is_wrong(self) -> None:
        self.executor.fault = ExecutorError("slurm <b>is down</b>")
        self.executor.token_ends = datetime.now(UTC) - timedelta(hours=1)
        text = await self.page("/service")
        self.assertIn("slurm &lt;b&gt;is down&lt;/b&gt;", text)
        self.assertIn("ran out 1 h ago", text)
        self.assertNotIn("Jobs can be recorded and run.", text)

    @slow
    async def test_links_keep_the_filters(self) -> None:
        self.add(*({"submitter": "Anna & Co"} for _ in range(60)))
        text = await self.page("/jobs?submitter=Anna+%26+Co&state=COMPLETED&page=2&page_size=25")
        self.assertIn("26–50 of 60", text)
        expected = "?submitter=Anna+%26amp%3B+Co".replace("%26amp%3B", "%26")
        self.assertIn(f'href="{expected}&amp;page_size=25&amp;state=COMPLETED"', text)
        self.assertIn("page=3", text)

    async def test_names_cannot_become_markup(self) -> None:
        [job] = self.add(
            {
                "name": CRAFTED,
                "submitter": CRAFTED,
                "reason": CRAFTED,
                "warnings": (CRAFTED,),
                "upload_job_settings": upload_settings(subject_id=CRAFTED),
                "hpc_settings": CRAFTED,
                "location": CRAFTED,
            }
        )
        event = JobEvent(time=NOON, step=CRAFTED, kind="end", message=CRAFTED)
        self.manager.store.add_events(job.id, [event])
        for path in ("/jobs", f"/jobs/{job.id}", "/jobs?text=" + CRAFTED):
            with self.subTest(path=path):
                self.assertNotIn("<script>", await self.page(path))

    @slow
    async def test_a_jobs_page_tells_its_outcome(self) -> None:
        [job, other] = self.add(
            {"name": "one", "state": JobState.FAILED, "reason": "no folder", "exit_code": 10},
            {"name": "two", "script": "#!/bin/sh", "hpc_settings": '{"name": "two"}'},
        )
        text = await self.page(f"/jobs/{job.id}")
        self.assertIn("no folder", text)
        self.assertIn('<dd data-field="exit_code">10</dd>', text)
        self.assertIn("Custom scripts do not report steps", await self.page(f"/jobs/{other.id}"))

    async def test_a_jobs_page_lists_its_documents_as_they_were_told_of_last(self) -> None:
        [job] = self.add({"name": "one"})
        row = {"name": "subject.json", "status": "Missing", "source": "", "seconds": None}
        row |= {"complete": True, "problems": [], "notes": []}
        found = row | {"status": "Invalid", "source": "LabTracks <b>", "seconds": 1.26}
        found |= {"complete": False, "problems": ["sex: missing"], "notes": ["sex: missing", "odd"]}
        for rows in ([row], [found]):
            figures = {"documents": rows}
            event = JobEvent(
                time=NOON, step="metadata", kind="end", message="told", figures=figures
            )
            self.manager.store.add_events(job.id, [event])
        text = await self.page(f"/jobs/{job.id}")
        for words in ("LabTracks &lt;b&gt;", ">Invalid<", "1.3 s", "<li>sex: missing</li><li>odd"):
            self.assertIn(words, text)
        self.assertNotIn(">Missing<", text)
        self.assertNotIn('id="documents-panel" aria-labelledby="documents-heading" hidden', text)

    @slow
    async def test_an_unknown_job_has_a_page_that_says_so(self) -> None:
        self.assertIn("nobody", await self.page(f"/jobs/nobody{new_job_id()}", 404))

    @slow
    async def test_a_list_that_makes_no_sense_is_refused_on_a_page(self) -> None:
        self.assertIn("is no date", await self.page("/jobs?since=tomorrow", 422))

    async def test_help_explains_every_column_and_word(self) -> None:
        text = await self.page("/help")
        for word in ("processor_full_name", "metadata_dir", "behavior-videos", "ecephys"):
            self.assertIn(word, text)
        self.assertIn("America/Los_Angeles", text)
