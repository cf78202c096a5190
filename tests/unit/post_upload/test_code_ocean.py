"""Code Ocean, asked by its own package over real sockets."""

import unittest
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import PostUploadError, RetryableError
from aind_data_transfer_service.post_upload.code_ocean import (
    AnalysisRequest,
    CodeOcean,
    Deadline,
    NotFound,
)
from aind_data_transfer_service.post_upload.states import Analysis, AnalysisState
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from tests.support import slow
from tests.support.code_ocean import CAPSULE, PIPELINE, TOKEN, CodeOceanStub
from tests.support.requests import upload_settings

ASSET = "behavior_690165_2024-02-19_11-25-17"


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


class CodeOceanTest(unittest.TestCase):
    """A Code Ocean of the test's own."""

    def setUp(self) -> None:
        self.stub = self.enterContext(CodeOceanStub())
        self.clock = Clock()
        self.wanted = AnalysisRequest(
            ASSET, "recordings", ("raw", "behavior"), CAPSULE, datetime.now(UTC)
        )

    def open(self, token: str = TOKEN, url: str = "", patience: Deadline | None = None):
        """Make a client."""
        settings = PostUploadSettings(
            codeocean_domain=url or self.stub.url + "/", codeocean_token=token
        )
        patience = patience or Deadline(120, self.clock, self.clock.sleep)
        return self.enterContext(CodeOcean(settings, patience))

    def run_analysis(self, **changes) -> Analysis:
        """Have the asset analysed."""
        return self.open().run_analysis(replace(self.wanted, **changes))

    def created(self) -> int:
        """Tell how often a data asset was made."""
        return self.stub.asked.count("POST /api/v1/data_assets")


class MainPath(CodeOceanTest):
    """All is well."""

    def test_an_asset_is_registered_where_it_lies_and_the_capsule_runs_on_it(self) -> None:
        done = self.run_analysis()
        [asset] = self.stub.assets.values()
        [run] = self.stub.runs
        self.assertEqual((AnalysisState.RUNNING, ""), (done.state, done.reason))
        self.assertEqual((ASSET, ASSET), (asset["name"], asset["mount"]))
        self.assertEqual(["raw", "behavior"], asset["tags"])
        self.assertEqual(
            {"origin": "aws", "bucket": "recordings", "prefix": ASSET, "external": True},
            asset["source_bucket"],
        )
        self.assertEqual((CAPSULE, None), (run["capsule_id"], run["pipeline_id"]))
        self.assertEqual([{"id": asset["id"], "mount": ASSET}], run["data_assets"])
        self.assertEqual(f"{self.stub.url}/data-assets/{asset['id']}", done.data_asset_link)
        self.assertEqual(f"{self.stub.url}/capsule/8624294/tree", done.computation_link)
        self.assertIn(done.computation_id, self.stub.computations)

    def test_a_pipeline_runs_as_one(self) -> None:
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis(capsule_id=PIPELINE).state)
        self.assertEqual(PIPELINE, self.stub.runs[0]["pipeline_id"])
        self.assertIsNone(self.stub.runs[0]["capsule_id"])

    def test_without_a_capsule_the_asset_is_registered_and_nothing_runs(self) -> None:
        self.assertEqual(AnalysisState.REGISTERED, self.run_analysis(capsule_id="").state)
        self.assertEqual([], self.stub.runs)

    def test_done_twice_nothing_is_there_twice(self) -> None:
        first, again = self.run_analysis(), self.run_analysis()
        self.assertEqual(first, again)
        self.assertEqual((1, 1), (self.created(), len(self.stub.runs)))

    def test_what_others_have_is_not_taken_for_ours(self) -> None:
        for changes in (
            {"bucket": "others"},
            {"name": f"{ASSET}_sorted"},
            {"name": f"{ASSET}_sorted_again"},
        ):
            self.run_analysis(capsule_id="", **changes)
        done = self.run_analysis()
        asset = self.stub.assets[done.data_asset_id]
        self.assertEqual((ASSET, "recordings"), (asset["name"], asset["source_bucket"]["bucket"]))
        self.assertEqual(done.data_asset_id, self.run_analysis().data_asset_id)  # on a later page
        self.assertEqual(4, len(self.stub.assets))

    def test_a_computation_of_an_earlier_upload_is_not_this_ones(self) -> None:
        first = self.run_analysis()
        later = self.run_analysis(since=datetime.now(UTC) + timedelta(hours=1))
        self.assertNotEqual(first.computation_id, later.computation_id)

    def test_after_a_failed_computation_a_new_one_is_started(self) -> None:
        first = self.run_analysis()
        self.stub.end("failed", "failed", 3)
        self.assertEqual(
            (AnalysisState.FAILED, "the computation failed (exit code 3)"),
            (self.open().poll(first).state, self.open().poll(first).reason),
        )
        self.assertNotEqual(first.computation_id, self.run_analysis().computation_id)

    def test_computations_are_followed_to_their_end(self) -> None:
        done = self.run_analysis()
        self.assertEqual(done, self.open().poll(done))
        self.stub.end()
        self.assertEqual(AnalysisState.COMPLETED, self.open().poll(done).state)
        self.stub.end(end_status="stopped")
        self.assertEqual("the computation was stopped", self.open().poll(done).reason)
        self.stub.computations.clear()
        with self.assertRaises(NotFound):
            self.open().poll(done)

    def test_what_a_request_says_becomes_tags(self) -> None:
        config = BasicUploadJobConfigs.model_validate_json(upload_settings())
        wanted = AnalysisRequest.from_config(
            config, "s3://recordings/690165_2024", datetime.now(UTC)
        )
        self.assertEqual(("690165_2024", "recordings"), (wanted.name, wanted.bucket))
        self.assertEqual("", wanted.capsule_id)
        for tag in ("raw", config.platform.abbreviation, config.subject_id, config.project_name):
            self.assertIn(tag, wanted.tags)


class Faults(CodeOceanTest):
    """Things go wrong."""

    def test_an_answer_that_was_lost_leaves_nothing_twice(self) -> None:
        self.stub.fail("POST /api/v1/data_assets$", "lost")
        self.stub.fail("POST /api/v1/computations", "lost")
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis().state)
        self.assertEqual((1, 1), (len(self.stub.assets), len(self.stub.runs)))

    def test_what_passes_is_borne(self) -> None:
        for fault in (500, 503, "half"):
            for route in ("search", "data_assets$", "capsules/", "computations"):
                self.stub.fail(route, fault)
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis().state)
        self.assertEqual((1, 1), (len(self.stub.assets), len(self.stub.runs)))

    def test_being_asked_to_wait_is_heeded(self) -> None:
        self.stub.fail("POST /api/v1/computations", 429, Retry_After="17")
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis().state)
        self.assertIn(17, self.clock.slept)
        self.stub.fail("search", 429, Retry_After="3600")
        slept = list(self.clock.slept)
        done = self.run_analysis()
        self.assertEqual(AnalysisState.FAILED, done.state)
        self.assertIn("(429); it asks to wait 3600 s", done.reason)
        self.assertEqual(slept, self.clock.slept)

    def test_what_does_not_pass_is_told_in_one_line_without_the_secret(self) -> None:
        for fault, words in (
            (401, "does not accept CODEOCEAN_TOKEN (401)"),
            (403, "CODEOCEAN_TOKEN has no permission for this (403)"),
            (400, "rejected the request (400): trouble for [hidden] in two lines"),
            ("html", "sent an invalid response"),
            ("odd", "sent an invalid response"),
            ("elsewhere", "redirects requests; check CODEOCEAN_DOMAIN"),
        ):
            with self.subTest(fault):
                self.stub.fail("search", fault)
                done = self.run_analysis()
                self.assertEqual(AnalysisState.FAILED, done.state)
                self.assertIn(words, done.reason)
                self.assertIn("Code Ocean at 127.0.0.1:", done.reason)
                self.assertNotIn(TOKEN, done.reason)
                self.assertNotIn("\n", done.reason)
        self.assertEqual({}, self.stub.assets)

    def test_a_capsule_that_is_not_there_fails_after_the_registration(self) -> None:
        for capsule, words in (
            ("no-such-capsule", "has no capsule or pipeline no-such-capsule"),
            ("../data_assets", "is not a valid ID of a capsule or pipeline"),
        ):
            done = self.run_analysis(capsule_id=capsule)
            self.assertEqual(AnalysisState.FAILED, done.state)
            self.assertIn(words, done.reason)
            self.assertIn(done.data_asset_id, self.stub.assets)

    def test_one_that_is_down_is_asked_again_until_the_time_is_over(self) -> None:
        done = self.open(url="http://127.0.0.1:1").run_analysis(self.wanted)
        self.assertEqual(AnalysisState.FAILED, done.state)
        self.assertIn("127.0.0.1:1 is unreachable", done.reason)
        self.assertGreater(len(self.clock.slept), 5)
        self.assertLess(self.clock.now, 120)

    @slow
    def test_one_that_trickles_is_given_up_when_the_time_is_over(self) -> None:
        self.stub.fail("search", "slow")
        done = self.open(patience=Deadline(0.5)).run_analysis(self.wanted)
        self.assertEqual(AnalysisState.FAILED, done.state)
        self.assertIn("did not respond in time", done.reason)

    def test_an_asset_that_is_not_taken_in_waits_and_goes_on_later(self) -> None:
        self.stub.is_ready_at_once = False
        done = self.run_analysis()
        self.assertEqual(AnalysisState.WAITING, done.state)
        self.assertEqual("Code Ocean is still ingesting the data asset", done.reason)
        self.assertTrue(self.open().is_ingesting(done.data_asset_id))
        self.stub.make_ready()
        self.assertFalse(self.open().is_ingesting(done.data_asset_id))
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis().state)
        self.assertEqual(1, len(self.stub.assets))

    def test_an_asset_that_cannot_be_taken_in_says_why_and_is_made_anew(self) -> None:
        self.stub.is_ready_at_once = False
        first = self.run_analysis()
        self.stub.assets[first.data_asset_id].update(
            state="failed", failure_reason="the bucket is not ours"
        )
        self.stub.is_ready_at_once = True
        self.assertEqual(AnalysisState.RUNNING, self.run_analysis().state)
        self.stub.assets.clear()
        create, self.stub.is_ready_at_once = self.stub._create, False

        def fail(body):
            status, asset = create(body)
            asset.update(state="failed", failure_reason="the bucket is not ours")
            return status, asset

        self.stub._routes = (("POST /api/v1/data_assets", lambda _, b: fail(b)),) + tuple(
            self.stub._routes
        )
        done = self.run_analysis()
        self.assertEqual(AnalysisState.FAILED, done.state)
        self.assertEqual(
            "Code Ocean could not ingest the data asset: the bucket is not ours", done.reason
        )

    def test_the_check_tells_what_is_amiss_and_changes_nothing(self) -> None:
        self.open().check_access("")
        self.open().check_access(CAPSULE)
        self.open().check_access(PIPELINE)
        for token, capsule, words in (
            ("wrong", "", "does not accept CODEOCEAN_TOKEN"),
            (TOKEN, "no-such", "has no capsule or pipeline no-such"),
        ):
            with self.assertRaises(PostUploadError) as caught:
                self.open(token).check_access(capsule)
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(RetryableError):
            self.open(url="http://127.0.0.1:1").check_access("")
        self.assertEqual(({}, {}), (self.stub.assets, self.stub.computations))


if __name__ == "__main__":
    unittest.main()
