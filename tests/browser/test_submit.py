"""The submit page in a real browser: from the drop of a file to its arrival."""

import json
import re
from pathlib import Path

from aind_data_transfer_service.configs.limits import MAX_FILE_BYTES
from aind_data_transfer_service.jobs.store.job_store import JobQuery
from aind_data_transfer_service.settings.metadata import LabSettings, MetadataSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import free_port
from tests.support.browser import PageTest
from tests.support.requests import csv_file, csv_row
from tests.support.service import Service

CSV = "text/csv"


class SubmitPageTest(PageTest):
    """A person with a spreadsheet."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start a service and lay out a session."""
        super().setUpClass()
        cls.service = cls.enterClassContext(Service())
        cls.session = cls.service.folder / "session"
        cls.session.mkdir()
        for number in range(3):
            (cls.session / f"trial {number}.csv").write_text("time,licks\n0.1,3\n" * 1000)

    def setUp(self) -> None:
        """Open the page."""
        super().setUp()
        self.posts: list[tuple[str, dict]] = []
        self.page.on("request", self._note_post)
        self.page.goto(self.service.url)

    def _note_post(self, request) -> None:
        """Keep what the page submits."""
        if request.method == "POST" and "submit" in request.url:
            self.posts.append((request.url.rsplit("/", 1)[1], json.loads(request.post_data)))

    def choose(self, data: bytes, name: str = "jobs.csv") -> None:
        """Choose a file with Browse."""
        file = {"name": name, "mimeType": CSV, "buffer": data}
        self.page.get_by_label("Browse").set_input_files(file)

    def drop(self, data: bytes, name: str = "jobs.csv") -> None:
        """Drop a file on the drop area."""
        transfer = self.page.evaluate_handle(
            """([text, name]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([text], name));
                return transfer;
            }""",
            [data.decode(), name],
        )
        for kind in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("#drop", kind, {"dataTransfer": transfer})

    def says(self, text: str) -> None:
        """Wait until the page says something, where screen readers hear it."""
        self.page.get_by_role("status").get_by_text(text, exact=True).wait_for()

    @property
    def submit(self):
        """The button."""
        return self.page.get_by_role("button", name="Submit", exact=True)

    def row(self, subject: str, source: Path | None = None, **changes: str) -> str:
        """Write a row for a session of its own."""
        return csv_row(source or self.session, subject_id=subject, **changes)

    def test_from_the_drop_of_a_file_to_completed(self) -> None:
        self.drop(csv_file(self.row("690165")))
        self.says("Successfully validated jobs from file")
        self.assertIn(str(self.session), self.page.locator("#rows").inner_text())
        self.assertIn(
            "behavior_690165_2024-02-19_11-25-17", self.page.locator("#rows").inner_text()
        )
        self.submit.click()
        self.says("Successfuly submitted jobs")
        self.page.get_by_role("link", name="behavior_690165_2024-02-19_11-25-17").click()
        badge = self.page.locator('#job [data-field="state"]')
        self.page.locator('#job[data-state="COMPLETED"]').wait_for(timeout=60_000)
        self.assertEqual("COMPLETED", badge.inner_text())
        self.page.get_by_text("3 files", exact=False).first.wait_for()
        self.page.locator("#log").get_by_text("is complete and verified").wait_for()
        asset = "destination/data/behavior_690165_2024-02-19_11-25-17/behavior/trial 0.csv"
        arrived = self.service.data_dir / asset
        self.assertEqual((self.session / "trial 0.csv").read_bytes(), arrived.read_bytes())
        self.page.get_by_role("link", name="Job Status").first.click()
        row = self.page.get_by_role("row").filter(has_text="behavior_690165")
        self.assertIn("COMPLETED", row.inner_text())

    def test_errors_are_shown_at_their_row_and_column(self) -> None:
        good, bad = self.row("1"), self.row("2", modality0="ecefys", acq_datetime="2024-02-19")
        self.choose(csv_file(good, bad))
        self.says("Error validating jobs from file")
        line = self.page.locator('tr[data-row="3"]')
        columns = line.locator("code").all_inner_texts()
        self.assertEqual({"modality0", "acq_datetime"}, set(columns))
        self.assertIn("ecephys", line.inner_text())
        self.assertEqual(1, self.page.locator('tr[data-row="2"]:not([data-bad])').count())
        self.assertTrue(self.submit.is_disabled())

    def test_a_corrected_file_of_the_same_name_is_checked_anew(self) -> None:
        self.choose(csv_file(self.row("3", platform="nothing")))
        self.says("Error validating jobs from file")
        self.choose(csv_file(self.row("3")))
        self.says("Successfully validated jobs from file")
        self.assertFalse(self.submit.is_disabled())
        self.assertEqual(0, self.page.locator("tr[data-bad]").count())

    def test_files_that_cannot_be_right_are_refused_before_they_are_sent(self) -> None:
        large = self.service.data_dir / "jobs.csv"
        with large.open("wb") as file:
            file.truncate(MAX_FILE_BYTES + 1)
        other = self.service.data_dir / "jobs.docx"
        other.write_bytes(b"x")
        for path, words in (
            (other, "neither a .csv nor an .xlsx"),
            (large, "32 MiB is the most"),
        ):
            self.page.get_by_label("Browse").set_input_files(path)
            self.says("Error validating jobs from file")
            self.page.get_by_role("status").get_by_text(re.compile(re.escape(words))).wait_for()
            self.assertTrue(self.submit.is_disabled())

    def test_two_clicks_submit_once(self) -> None:
        self.choose(csv_file(self.row("4")))
        self.says("Successfully validated jobs from file")
        self.page.evaluate("""() => {
                const button = document.getElementById("submit");
                for (let click = 0; click < 3; click += 1) button.click();
            }""")
        self.says("Successfuly submitted jobs")
        self.assertTrue(self.submit.is_disabled())
        self.assertEqual(1, len(self.posts))
        found = self.service.manager.store.find(JobQuery(text="behavior_4_"))
        self.assertEqual(1, found.total)

    def test_e_mail_choices_travel_with_the_jobs(self) -> None:
        self.choose(csv_file(self.row("5")))
        self.says("Successfully validated jobs from file")
        self.page.get_by_label("Send to").fill("anna@example.org")
        self.submit.click()
        self.page.get_by_text("Choose when a message is to be sent").wait_for()
        self.assertEqual([], self.posts)
        for choice in ("END", "FAIL"):
            self.page.get_by_role("checkbox", name=choice).check()
        self.submit.click()
        self.says("Successfuly submitted jobs")
        [(route, body)] = self.posts
        self.assertEqual("submit_hpc_jobs", route)
        settings = json.loads(body["jobs"][0]["hpc_settings"])
        expected = {"mail_user": "anna@example.org", "mail_type": ["END", "FAIL"]}
        self.assertEqual(expected, settings)

    def test_all_stands_for_every_occasion(self) -> None:
        self.page.get_by_role("checkbox", name="BEGIN").check()
        self.page.get_by_role("checkbox", name="ALL").check()
        self.assertFalse(self.page.get_by_role("checkbox", name="BEGIN").is_checked())
        self.assertTrue(self.page.get_by_role("checkbox", name="END").is_disabled())

    def test_without_e_mail_the_basic_route_is_taken(self) -> None:
        self.choose(csv_file(self.row("6")))
        self.says("Successfully validated jobs from file")
        self.submit.click()
        self.says("Successfuly submitted jobs")
        self.assertEqual("submit_basic_jobs", self.posts[0][0])

    def test_what_has_become_wrong_meanwhile_is_told_and_nothing_is_submitted(self) -> None:
        self.choose(csv_file(self.row("7")))
        self.says("Successfully validated jobs from file")
        taken = self.service.data_dir / "destination/data/behavior_7_2024-02-19_11-25-17"
        taken.mkdir(parents=True)
        (taken / "file").write_text("here first")
        self.submit.click()
        self.says("Error submitting jobs")
        self.says("There were errors parsing the basic job configs")
        self.assertFalse(self.submit.is_disabled())

    def test_a_long_file_is_shown_a_piece_at_a_time(self) -> None:
        self.choose(csv_file(*(self.row(str(1000 + n)) for n in range(450))))
        self.says("Successfully validated jobs from file")
        rows = self.page.locator("#rows tr")
        self.assertEqual(200, rows.count())
        self.page.get_by_role("button", name="Show more rows").click()
        self.page.get_by_role("button", name="Show more rows").click()
        self.page.locator('#rows tr[data-row="451"]').wait_for()
        self.assertEqual(450, rows.count())
        self.assertFalse(self.page.get_by_role("button", name="Show more rows").is_visible())

    def test_two_files_at_once_are_one_too_many(self) -> None:
        self.page.evaluate("""() => {
                const dataTransfer = new DataTransfer();
                for (const name of ["a.csv", "b.csv"]) {
                    dataTransfer.items.add(new File(["x"], name));
                }
                document.getElementById("drop").dispatchEvent(
                    new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
            }""")
        self.page.get_by_text("Drop one file at a time.").wait_for()

    def test_the_whole_page_can_be_used_by_keyboard(self) -> None:
        reached = []
        for _ in range(20):
            self.page.keyboard.press("Tab")
            reached.append(self.page.evaluate("document.activeElement.id"))
        for name in ("file", "mail-user"):
            self.assertIn(name, reached)
        outline = self.page.evaluate("""() => {
                document.getElementById("file").focus();
                return getComputedStyle(document.querySelector(".browse .button")).outlineStyle;
            }""")
        self.assertEqual("solid", outline)

    def test_a_service_that_is_away_is_named_and_nothing_is_lost(self) -> None:
        self.choose(csv_file(self.row("8")))
        self.says("Successfully validated jobs from file")
        self.page.route("**/api/submit_basic_jobs", lambda route: route.abort())
        self.submit.click()
        self.says("The service does not answer")
        self.page.unroute("**/api/submit_basic_jobs")
        self.submit.click()
        self.says("Successfuly submitted jobs")

    def test_jobs_that_are_recorded_while_the_cluster_is_away_are_not_submitted_again(self) -> None:
        arrived = self.session.with_name("arrived")
        hpc = HpcSettings(
            host="127.0.0.1",
            port=free_port(),  # where nobody listens
            username="svc",
            token="some_token",
            current_working_directory=self.session,
            logging_directory=self.session,
        )
        with Service(hpc=hpc, destination=str(arrived)) as service:
            self.page.goto(service.url)
            self.choose(csv_file(self.row("9")))
            self.says("Successfully validated jobs from file")
            self.submit.click()
            self.says("Successfuly submitted jobs")
            self.page.get_by_text("the jobs are saved and start once this is resolved").wait_for()
            self.assertTrue(self.submit.is_disabled())
            self.page.get_by_role("status").get_by_role("link", name="Job Status").click()
            self.page.get_by_text("unreachable since").wait_for()
            self.page.locator('#rows tr[data-state="SUBMITTED"]').wait_for()
            self.page.goto("about:blank")


class AssetNameTest(PageTest):
    """The submit page of a lab that has chosen generation 2 of the metadata schema."""

    def test_a_row_shows_the_name_that_its_asset_will_have(self) -> None:
        lab = LabSettings(choice=MetadataSettings(generation="2"))
        service = self.enterContext(Service(metadata=lab))
        (service.folder / "session").mkdir()
        data = csv_file(csv_row(service.folder / "session", subject_id="690165"))
        self.page.goto(service.url)
        file = {"name": "jobs.csv", "mimeType": CSV, "buffer": data}
        self.page.get_by_label("Browse").set_input_files(file)
        name = self.page.get_by_text(re.compile(r"690165_\d{4}-")).inner_text()
        self.assertRegex(name, r"^(\w+/)?690165_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$")
