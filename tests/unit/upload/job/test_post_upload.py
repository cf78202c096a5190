"""The last steps of a job: nothing that happens there makes it fail."""

import io
import json
import threading
from datetime import UTC, datetime
from unittest.mock import patch

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import DestinationExistsError, TerminatedError
from aind_data_transfer_service.post_upload.registration import post_registration
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.upload.job import post_upload
from aind_data_transfer_service.upload.job.job import Outcome, UploadJob
from aind_data_transfer_service.upload.job.post_upload import Afterwards
from tests.support import slow
from tests.support.code_ocean import CAPSULE, TOKEN, CodeOceanStub
from tests.support.hook import Hook
from tests.support.transfer import PREFIX, TransferTestCase

LOCATION = f"s3://recordings/{PREFIX}"
NOW = datetime.now(UTC)


class WholeJob(TransferTestCase):
    """A job whose asset arrives in a folder."""

    def go(self, settings: PostUploadSettings | None = None, **request):
        """Run a job."""
        self.write("a.txt")
        config = self.config(**request)
        output = io.StringIO()
        return UploadJob(config, self.settings(), self.told, output, afterwards=settings).run()

    def test_the_stored_document_is_registered_once_the_asset_is_whole(self) -> None:
        with Hook() as hook:
            self.go(PostUploadSettings(registration_url=hook.url))
        self.assertEqual([self.stored()["metadata.nd.json"]], hook.raw)
        self.assertEqual("COMPLETED", self.told.figures("registration", "end")["registration"])
        order = [step for step, kind in self.told.steps() if kind == "end"]
        self.assertEqual(["verify", "registration", "done"], order[-3:])

    def test_a_registration_that_fails_is_told_and_the_job_ends_well(self) -> None:
        with Hook() as hook:
            hook.answers = [422]
            self.go(PostUploadSettings(registration_url=hook.url))
        self.assertEqual("FAILED", self.told.figures("registration", "end")["registration"])
        self.assertIn("rejected the document (422)", self.told.warnings()[-1])
        self.assertEqual(("done", "end"), self.told.steps()[-1])

    def test_a_job_queued_again_after_publishing_does_what_was_left(self) -> None:
        self.write("a.txt")
        with Hook() as hook:
            known = PostUploadSettings(registration_url=hook.url)

            def run(job_id: str) -> Outcome:
                settings = self.settings(job_id=job_id)
                return UploadJob(self.config(), settings, self.told, afterwards=known).run()

            first = run("j1")
            before = self.stored()
            again = run("j1")
            self.assertEqual((first.files, first.bytes), (again.files, again.bytes))
            self.assertEqual(before, self.stored())
            self.assertEqual(("done", "end"), self.told.steps()[-1])
            self.assertNotIn(("transfer", "start"), self.told.steps()[-5:])
            with self.assertRaises(DestinationExistsError):
                run("j2")
        keys = [headers["Idempotency-Key"] for headers in hook.headers]
        self.assertEqual(2, len(keys))
        self.assertEqual(keys[0], keys[1])

    def test_a_fault_of_our_own_is_none_of_the_jobs(self) -> None:
        place = f"aind_data_transfer_service.upload.job.post_upload.{post_registration.__name__}"
        with patch(place, side_effect=RuntimeError("hunter2")):
            self.go(PostUploadSettings(registration_url="http://127.0.0.1:1"))
        reason = self.told.figures("registration", "end")["registration_reason"]
        self.assertEqual("unexpected RuntimeError", reason)
        self.assertEqual(("done", "end"), self.told.steps()[-1])

    def test_a_capsule_without_a_code_ocean_is_warned_of_before_and_recorded_after(self) -> None:
        self.go(process_capsule_id=CAPSULE)
        self.assertIn("Code Ocean is not configured", self.told.warnings()[0])
        self.assertIn("the upload goes on", self.told.warnings()[0])
        self.assertEqual("FAILED", self.told.figures("analysis", "end")["analysis"])
        self.assertEqual(("done", "end"), self.told.steps()[-1])

    def test_an_asset_in_a_folder_is_not_for_code_ocean(self) -> None:
        with CodeOceanStub() as stub:
            known = PostUploadSettings(codeocean_domain=stub.url, codeocean_token=TOKEN)
            self.go(known)
            self.assertFalse(any(step == "analysis" for step, *_ in self.told.all))
            self.go(known, process_capsule_id=CAPSULE, force_cloud_sync=True)
            reason = self.told.figures("analysis", "end")["analysis_reason"]
            self.assertIn("is in a local folder", reason)
            self.assertEqual([], stub.asked)

    def test_a_dry_run_checks_and_tells_nobody(self) -> None:
        with Hook() as hook:
            known = PostUploadSettings(registration_url=hook.url)
            self.go(known, dry_run=True, process_capsule_id=CAPSULE)
        self.assertEqual([], hook.raw)
        self.assertIn("Code Ocean is not configured", self.told.warnings()[0])

    def test_the_shards_of_an_asset_leave_it_to_the_last_job(self) -> None:
        self.write("a.txt")
        with Hook() as hook:
            known = PostUploadSettings(registration_url=hook.url)
            settings = self.settings(upload_shard="1/2", job_id="j1")
            config = self.config(process_capsule_id=CAPSULE)
            UploadJob(config, settings, self.told, afterwards=known).run()
        self.assertEqual([], hook.raw)
        self.assertNotIn("Code Ocean", " ".join(self.told.warnings()))


class InABucket(TransferTestCase):
    """The steps alone, for an asset that lies in a bucket."""

    def setUp(self) -> None:
        super().setUp()
        self.stub = self.enterContext(CodeOceanStub())

    def steps(
        self,
        token: str = TOKEN,
        capsule: str | None = CAPSULE,
        halt: Halt | None = None,
        **settings,
    ) -> Afterwards:
        """Make the steps of a job."""
        known = PostUploadSettings(
            codeocean_domain=self.stub.url, codeocean_token=token, **settings
        )
        config = self.config(process_capsule_id=capsule)
        return Afterwards(known, config, LOCATION, self.told, halt)

    def test_all_well_nothing_is_told_before_and_all_after(self) -> None:
        steps = self.steps()
        self.assertEqual([], list(steps.problems()))
        steps.run(lambda: None, NOW)
        told = self.told.figures("analysis", "end")
        self.assertEqual("RUNNING", told["analysis"])
        self.assertIn(told["computation_id"], self.stub.computations)
        self.assertIn(told["data_asset_id"], self.stub.assets)

    def test_which_assets_are_registered_is_a_setting(self) -> None:
        self.steps(capsule=None, codeocean_register="with_capsule").run(lambda: None, NOW)
        self.assertEqual([], self.stub.asked)
        self.steps(capsule=None).run(lambda: None, NOW)
        self.assertEqual("REGISTERED", self.told.figures("analysis", "end")["analysis"])

    def test_what_is_amiss_is_told_before_anything_is_sent(self) -> None:
        for steps, words in (
            (self.steps(token="wrong"), "does not accept CODEOCEAN_TOKEN"),
            (self.steps(capsule="gone"), "has no capsule or pipeline gone"),
        ):
            [problem] = steps.problems()
            self.assertIn(words, problem)
            self.assertIn("the upload goes on", problem)

    def test_no_secret_is_told(self) -> None:
        self.stub.fail("search", 400)
        self.steps().run(lambda: None, NOW)
        self.assertEqual("FAILED", self.told.figures("analysis", "end")["analysis"])
        self.assertNotIn(TOKEN, json.dumps(self.told.all))

    def test_faults_of_our_own_are_none_of_the_jobs(self) -> None:
        place = "aind_data_transfer_service.post_upload.code_ocean.CodeOcean"
        with patch(place, side_effect=RuntimeError("hunter2")):
            [problem] = self.steps().problems()
            self.assertIn("the check itself failed (RuntimeError)", problem)
            self.steps().run(lambda: None, NOW)
        reason = self.told.figures("analysis", "end")["analysis_reason"]
        self.assertEqual("unexpected RuntimeError", reason)

    @slow
    def test_a_job_that_has_to_end_waits_for_none_of_it(self) -> None:
        asked, go, halt = threading.Event(), threading.Event(), Halt()
        self.addCleanup(go.set)

        def hang(*_: object) -> None:
            asked.set()
            go.wait(20)

        steps = self.steps(halt=halt, registration_url="http://127.0.0.1:1")
        reason = TerminatedError("terminated by SIGTERM")
        beside(lambda: asked.wait(20) and halt.stop(reason), "stop")
        place = "aind_data_transfer_service.post_upload.code_ocean.CodeOcean"
        with patch(place, hang), patch.object(post_upload, "_GRACE", 0.05):
            steps.run(lambda: hang(), NOW)
        for name in ("registration", "analysis"):
            told = self.told.figures(name, "end")
            self.assertEqual("FAILED", told[name])
            self.assertIn("try it again from the job's page", told[f"{name}_reason"])

    def test_a_record_that_is_gone_is_told(self) -> None:
        self.steps(registration_url="http://127.0.0.1:1").run(lambda: None, NOW)
        reason = self.told.figures("registration", "end")["registration_reason"]
        self.assertEqual("metadata.nd.json is not to be found", reason)
