"""What the service does about verified assets: trying again, and following computations."""

import asyncio
import tempfile
import unittest
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import DestinationError, JobError, JobNotFound
from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.jobs import post_upload_worker as module
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import Job, utc_now
from aind_data_transfer_service.jobs.post_upload_worker import AfterwardsKeeper
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import slow, untraced
from tests.support.code_ocean import CAPSULE, TOKEN, CodeOceanStub
from tests.support.hook import Hook
from tests.support.jobs import ToldExecutor, a_job, a_request, event_line
from tests.support.spreadsheets import shared_reader

REASON = "Code Ocean at co.example.org cannot be reached"


class KeeperTest(unittest.IsolatedAsyncioTestCase):
    """A store with jobs that have ended."""

    async def asyncSetUp(self) -> None:
        untraced()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.stub = self.enterContext(CodeOceanStub())
        self.store = JobStore(f"sqlite:///{self.folder / 'jobs.sqlite3'}")
        self.addCleanup(self.store.close)
        self.feed = Feed()
        self.keeper = self.keep()
        self.subject = 1

    def keep(self, **afterwards) -> AfterwardsKeeper:
        """Make a keeper."""
        usual = {"codeocean_domain": self.stub.url, "codeocean_token": TOKEN}
        known = PostUploadSettings(**(usual | afterwards))
        settings = ServiceSettings(data_dir=self.folder, lab_timezone="UTC", post_upload=known)
        keeper = AfterwardsKeeper(settings, self.store, self.feed)
        self.addAsyncCleanup(keeper.close)
        return keeper

    def add(self, capsule: str | None = CAPSULE, **values) -> Job:
        """Record a job that has ended well."""
        self.subject += 1
        asked = {"subject_id": str(self.subject), "process_capsule_id": capsule}
        usual = {
            "state": JobState.COMPLETED,
            "upload_job_settings": a_request("/source", **asked),
            "analysis": "FAILED",
            "analysis_reason": REASON,
        }
        job = a_job(**(usual | values))
        self.store.add([job])
        return job

    async def until(self, job: Job, *states: str, step: str = "analysis") -> Job:
        """Wait until a step is in a state."""
        for _ in range(1000):
            found = await asyncio.to_thread(self.store.get, job.id)
            if getattr(found, step) in states:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"it is {getattr(found, step)}: {found}")


class Retries(KeeperTest):
    """A person presses a button."""

    @slow
    async def test_an_analysis_that_failed_is_done_again_and_told_of(self) -> None:
        job, told = self.add(), self.feed.subscribe()
        meanwhile = await self.keeper.retry(job.id, "analysis")
        self.assertEqual(("PENDING", ""), (meanwhile.analysis, meanwhile.analysis_reason))
        done = await self.until(job, "RUNNING")
        self.assertIn(done.data_asset_id, self.stub.assets)
        self.assertIn(done.computation_id, self.stub.computations)
        self.assertEqual(job.id, (await anext(told)).id)

    @slow
    async def test_a_job_that_names_no_person_is_analysed_too(self) -> None:
        asked = {"process_capsule_id": CAPSULE, "processor_full_name": None}
        job = self.add(upload_job_settings=a_request("/source", **asked))
        await self.keeper.retry(job.id, "analysis")
        await self.until(job, "RUNNING")

    async def test_a_job_that_an_earlier_release_accepted_is_analysed_too(self) -> None:
        asked = {"process_capsule_id": CAPSULE, "project_name": "-", "subject_id": "none"}
        job = self.add(upload_job_settings=a_request("/source", **asked))
        await self.keeper.retry(job.id, "analysis")
        await self.until(job, "RUNNING")

    @slow
    async def test_pressed_by_several_at_once_it_is_done_once(self) -> None:
        job, other = self.add(), self.keep()
        answers = await asyncio.gather(
            *(keeper.retry(job.id, "analysis") for keeper in (self.keeper, other) * 5),
            return_exceptions=True,
        )
        self.assertEqual(9, sum(isinstance(answer, JobError) for answer in answers))
        await self.until(job, "RUNNING")
        self.assertEqual((1, 1), (len(self.stub.assets), len(self.stub.runs)))
        with self.assertRaisesRegex(JobError, "its analysis is RUNNING already"):
            await self.keeper.retry(job.id, "analysis")

    async def test_what_fails_again_says_why(self) -> None:
        job = self.add(capsule="gone")
        await self.keeper.retry(job.id, "analysis")
        self.assertIn("no capsule or pipeline", (await self.until(job, "FAILED")).analysis_reason)

    async def test_what_cannot_be_done_is_refused_in_words(self) -> None:
        nobody = PostUploadSettings().model_dump()
        for job, step, words, keeper in (
            (self.add(state=JobState.FAILED), "analysis", "no verified asset", self.keeper),
            (self.add(location=""), "analysis", "no verified asset", self.keeper),
            (self.add(script="#!/bin/sh"), "analysis", "no verified asset", self.keeper),
            (self.add(location="/data/b/a"), "analysis", "is in a local folder", self.keeper),
            (self.add(), "registration", "set REGISTRATION_URL", self.keeper),
            (self.add(), "analysis", "set CODEOCEAN_DOMAIN", self.keep(**nobody)),
        ):
            with self.subTest(words), self.assertRaisesRegex(JobError, words):
                await keeper.retry(job.id, step)
        with self.assertRaises(JobNotFound):
            await self.keeper.retry("nobody", "analysis")
        self.assertEqual([], self.stub.asked)

    @slow
    async def test_a_registration_posts_the_document_that_is_stored(self) -> None:
        hook = self.enterContext(Hook())
        asset = self.folder / "destination" / "bucket" / "behavior_1"
        asset.mkdir(parents=True)
        keeper = self.keep(registration_url=hook.url)
        job = self.add(name="behavior_1", location=str(asset), registration="FAILED")
        await keeper.retry(job.id, "registration")
        failed = await self.until(job, "FAILED", step="registration")
        self.assertEqual("the asset has no metadata.nd.json", failed.registration_reason)
        s3 = self.add(location="s3://bucket/behavior_1", name="behavior_1", registration="FAILED")
        place = "aind_data_transfer_service.jobs.validation.checks.open_store"
        with patch(place, side_effect=DestinationError("bucket: no credentials were found")):
            await keeper.retry(s3.id, "registration")
            failed = await self.until(s3, "FAILED", step="registration")
        self.assertIn("no credentials were found", failed.registration_reason)
        (asset / "metadata.nd.json").write_bytes(b'{"name":  "x"}')
        await keeper.retry(job.id, "registration")
        await self.until(job, "COMPLETED", step="registration")
        self.assertEqual([b'{"name":  "x"}'], hook.raw)

    @slow
    async def test_a_fault_of_our_own_leaves_nothing_pending(self) -> None:
        job = self.add()
        with patch.object(self.keeper, "_analyse", side_effect=RuntimeError("hunter2")):
            with self.assertLogs(module.logger, "ERROR"):
                await self.keeper.retry(job.id, "analysis")
                failed = await self.until(job, "FAILED")
        self.assertEqual("unexpected RuntimeError", failed.analysis_reason)

    async def test_the_end_of_the_service_does_not_wait_and_can_be_made_good(self) -> None:
        job = self.add()
        self.stub.fail("", 503, times=1000)
        await self.keeper.retry(job.id, "analysis")
        await self.keeper.close()
        failed = await self.until(job, "FAILED")
        self.assertEqual("it was interrupted; try it again", failed.analysis_reason)

    async def test_what_begins_as_the_service_ends_asks_nobody(self) -> None:
        job = self.add()
        self.stub.fail("", 503, times=1000)
        await self.keeper.close()
        await self.keeper.retry(job.id, "analysis")
        failed = await self.until(job, "FAILED")
        self.assertEqual("it was interrupted; try it again", failed.analysis_reason)
        self.assertEqual([], self.stub.asked)


class Rounds(KeeperTest):
    """The service looks by itself."""

    @slow
    async def test_computations_are_followed_to_their_end(self) -> None:
        jobs = [self.add(), self.add(), self.add()]
        for job in jobs:
            await self.keeper.retry(job.id, "analysis")
            await self.until(job, "RUNNING")
        await self.keeper.round()
        for job in jobs:
            self.assertEqual("RUNNING", self.store.get(job.id).analysis)
        first = self.store.get(jobs[0].id)
        self.stub.end()
        self.stub.computations[first.computation_id].update(end_status="failed", exit_code=9)
        self.stub.computations.pop(self.store.get(jobs[1].id).computation_id)
        await self.keeper.round()
        found = [self.store.get(job.id) for job in jobs]
        self.assertEqual(["FAILED", "FAILED", "COMPLETED"], [job.analysis for job in found])
        self.assertEqual("the computation failed (exit code 9)", found[0].analysis_reason)
        self.assertIn("does not know it any more", found[1].analysis_reason)
        asked = len(self.stub.asked)
        await self.keeper.round()
        self.assertEqual(asked, len(self.stub.asked))

    async def test_an_asset_that_waited_goes_on_when_it_is_taken_in(self) -> None:
        self.stub.is_ready_at_once = False
        keeper = self.keep(codeocean_timeout=3)
        job = self.add()
        await keeper.retry(job.id, "analysis")
        waiting = await self.until(job, "WAITING")
        await keeper.round()
        self.assertEqual(waiting, self.store.get(job.id))
        self.stub.make_ready()
        await keeper.round()
        await self.until(job, "RUNNING")
        self.assertEqual(1, len(self.stub.assets))

    @slow
    async def test_a_round_asks_for_a_part_and_the_next_goes_on_there(self) -> None:
        jobs = [self.add() for _ in range(3)]
        for job in jobs:
            await self.keeper.retry(job.id, "analysis")
            await self.until(job, "RUNNING")
        self.stub.end()
        with patch.object(module, "_A_ROUND", 2):
            await self.keeper.round()
            states = [self.store.get(job.id).analysis for job in jobs]
            self.assertEqual(["COMPLETED", "COMPLETED", "RUNNING"], states)
            await self.keeper.round()
        self.assertEqual("COMPLETED", self.store.get(jobs[2].id).analysis)

    async def test_one_that_does_not_answer_is_asked_once_a_round_and_nothing_changes(self) -> None:
        jobs = [self.add(), self.add()]
        for job in jobs:
            await self.keeper.retry(job.id, "analysis")
            await self.until(job, "RUNNING")
        asked = len(self.stub.asked)
        self.stub.fail("computations", 503, times=4)
        with self.assertLogs(module.logger, "WARNING") as logged:
            await self.keeper.round()
            await self.keeper.round()
        self.assertEqual((2, 1), (len(self.stub.asked) - asked, len(logged.output)))
        self.assertEqual("RUNNING", self.store.get(jobs[0].id).analysis)

    async def test_nothing_is_asked_where_that_is_not_wanted(self) -> None:
        job = self.add(analysis="RUNNING", computation_id="c1")
        await self.keep(codeocean_domain=None, codeocean_token=None).round()
        self.assertEqual([], self.stub.asked)
        self.assertEqual("RUNNING", self.store.get(job.id).analysis)

    async def test_what_was_cut_off_is_given_up_after_a_while_and_can_be_tried_again(self) -> None:
        long_ago = utc_now() - timedelta(hours=1)
        pending = {"analysis": "PENDING", "registration": "PENDING"}
        old = self.add(**pending, updated_at=long_ago)
        new = self.add(**pending)
        at_work = self.add(**pending, updated_at=long_ago, state=JobState.RUNNING)
        await self.keeper.round()
        found = self.store.get(old.id)
        self.assertEqual(("FAILED", "FAILED"), (found.analysis, found.registration))
        self.assertIn("try it again", found.analysis_reason)
        for job in (new, at_work):
            self.assertEqual("PENDING", self.store.get(job.id).analysis)

    async def test_rounds_go_on_after_one_that_went_wrong(self) -> None:
        outcomes = iter([RuntimeError("no"), None])
        done = asyncio.Event()

        async def round_() -> None:
            outcome = next(outcomes)
            if outcome:
                raise outcome
            done.set()

        with patch.object(self.keeper, "round", round_), patch.object(module, "INTERVAL", 0):
            with self.assertLogs(module.logger, "ERROR"):
                task = asyncio.create_task(self.keeper.run())
                await asyncio.wait_for(done.wait(), 10)
                task.cancel()


class Killed(unittest.IsolatedAsyncioTestCase):
    """A job that is killed when its asset is whole."""

    @slow
    async def test_a_kill_in_the_last_steps_does_not_undo_the_upload(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        executor = ToldExecutor()
        state = folder / "service"
        settings = ServiceSettings(data_dir=state, lab_timezone="UTC", monitor_interval=0.01)
        manager = JobManager(settings, executor=executor, spreadsheets=shared_reader())
        await manager.start()
        self.addAsyncCleanup(manager.stop)
        for number, (state, code, expected) in enumerate(
            (
                (RunState.TIMEOUT, None, JobState.COMPLETED),
                (RunState.FAILED, 137, JobState.COMPLETED),
                (RunState.FAILED, 1, JobState.FAILED),
            )
        ):
            with self.subTest(state, code=code):
                asked = a_request(str(folder / "session"), subject_id=str(number + 1))
                [answer] = (await manager.submit_basic([asked])).responses
                job_id = answer["job_id"]
                executor.write(job_id, "events", event_line("verify", "end"))
                executor.write(job_id, "events", event_line("analysis", "start", "asked"))
                executor.tell(job_id, state, exit_code=code)
                while not (job := await manager.get(job_id)).ended_at:
                    await asyncio.sleep(0.01)
                self.assertEqual((expected, "PENDING"), (job.state, job.analysis))


if __name__ == "__main__":
    unittest.main()
