"""What follows an upload, on a job's page in a real browser."""

import os
from typing import Any

from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from tests.support.browser import PageTest
from tests.support.code_ocean import CAPSULE, TOKEN, CodeOceanStub
from tests.support.jobs import a_job, a_request
from tests.support.service import Service

REASON = "Code Ocean at co.example.org is unreachable, or closed the connection"


class AfterwardsTest(PageTest):
    """A person whose analysis failed at night."""

    def setUp(self) -> None:
        """Start a service that knows a Code Ocean."""
        super().setUp()
        self.stub = self.enterContext(CodeOceanStub())
        known = PostUploadSettings(codeocean_domain=self.stub.url, codeocean_token=TOKEN)
        self.service = self.enterContext(Service(post_upload=known))
        self.addCleanup(self.page.context.close)  # before the service is stopped

    def open(self, **values: Any) -> Job:
        """Record a job that ended well, and open its page."""
        asked = a_request("/source", process_capsule_id=CAPSULE)
        usual = {"state": JobState.COMPLETED, "upload_job_settings": asked}
        job = a_job(**(usual | values))
        self.service.manager.store.add([job])
        self.page.goto(f"{self.service.url}/jobs/{job.id}")
        return job

    def test_an_analysis_that_failed_says_why_and_is_tried_again_by_a_button(self) -> None:
        failed = {"analysis": "FAILED", "analysis_reason": REASON, "registration": "COMPLETED"}
        self.open(**failed)
        panel = self.page.locator("#post-upload")
        panel.get_by_text(REASON).wait_for()
        self.assertEqual(1, panel.get_by_role("button", name="Try again").count())
        self.assertEqual(0, panel.get_by_role("link").count())
        self.shoot("failed")
        panel.get_by_role("button", name="Try again").click()
        panel.locator('[data-field="analysis"][data-state="RUNNING"]').wait_for()
        self.assertFalse(panel.get_by_text(REASON).is_visible())
        self.assertEqual(0, panel.get_by_role("button", name="Try again").count())
        [asset] = self.stub.assets
        link = panel.get_by_role("link", name="Data asset").get_attribute("href")
        self.assertEqual(f"{self.stub.url}/data-assets/{asset}", link)
        self.assertTrue(panel.get_by_role("link", name="Capsule or pipeline").is_visible())
        self.shoot("running")
        self.page.reload()
        panel.locator('[data-field="analysis"][data-state="RUNNING"]').wait_for()

    def test_a_refusal_is_told_and_the_button_stays(self) -> None:
        self.open(registration="FAILED", registration_reason="it refuses (422)")
        panel = self.page.locator("#post-upload")
        panel.get_by_role("button", name="Try again").click()
        self.page.get_by_text("set REGISTRATION_URL").wait_for()
        self.assertTrue(panel.get_by_role("button", name="Try again").is_enabled())

    def test_without_anything_to_follow_nothing_is_shown(self) -> None:
        self.open()
        self.assertFalse(self.page.locator("#post-upload").is_visible())

    def shoot(self, name: str) -> None:
        """Keep a picture, where somebody wants to see them."""
        if folder := os.environ.get("PICTURES"):
            self.page.screenshot(path=f"{folder}/post-upload-{name}.png", full_page=True)
