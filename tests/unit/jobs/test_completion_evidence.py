"""What has to confirm a success that only a scheduler reports."""

import asyncio
import shutil
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import UnavailableError
from aind_data_transfer_service.executors.base import EndRecord, RunState, RunStatus
from aind_data_transfer_service.jobs.completion_evidence import Destinations, Evidence, Patience
from aind_data_transfer_service.jobs.manager import HpcJobRequest
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.job.job import UploadJob
from tests.support import slow
from tests.support.jobs import event_line
from tests.support.manager import ManagerTest

DOUBT = "Slurm reports success, but the job left no sign of having run on n1: check slurmd there"
OPEN_STORE = "aind_data_transfer_service.jobs.validation.checks.open_store"
DONE = event_line("done", "end", "all is there")
SCRIPT = "#!/bin/bash\ntrue\n"


class EvidenceTest(ManagerTest):
    """A manager that waits for evidence only for a moment, or as a test says."""

    patience = Patience(files=0.05, store=0.3, again=0.02)

    def succeed(self, job_id: str, record: EndRecord, **values: Any) -> None:
        """Have the scheduler report success."""
        usual = {"exit_code": 0, "node": "n1", "record": record, "doubt": DOUBT}
        self.executor.tell(job_id, RunState.COMPLETED, **(usual | values))

    def bucket(self) -> Path:
        """Make the folder that stands for the bucket."""
        path = Path(self.manager.settings.destination_root) / "assets"
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def script(self) -> str:
        """Submit a custom script."""
        request = HpcJobRequest("{}", '{"name": "mine"}', SCRIPT)
        submission = await self.manager.submit_hpc([request])
        self.assertEqual(submission.stage, "ok", submission.errors)
        return submission.responses[0]["job_id"]

    async def upload(self, job_id: str) -> None:
        """Do what the job would have done where it ran, without a word to the service."""
        job = await self.manager.get(job_id)
        bucket, _ = job.location.rsplit("/", 2)[-2:]
        (self.source / "a.bin").write_bytes(b"data")
        config = BasicUploadJobConfigs.model_validate_json(job.upload_job_settings)
        settings = UploadSettings(
            job_id=job_id,
            data_dir=self.folder.parent / "node",
            destination=self.manager.settings.destination_root,
            lab_timezone="America/Los_Angeles",
        )
        run = UploadJob(config.model_copy(update={"s3_bucket": bucket}), settings).run
        await asyncio.to_thread(run)


@slow
class TransferTest(EvidenceTest):
    """Transfer jobs."""

    async def test_a_success_without_a_trace_is_a_failure_that_names_the_node(self):
        for record in (EndRecord.MISSING, EndRecord.BEGUN, EndRecord.UNREADABLE):
            with self.subTest(record):
                job_id = await self.submit()
                bucket = (await self.manager.get(job_id)).location.rsplit("/", 1)[0]
                Path(bucket).mkdir(parents=True, exist_ok=True)
                self.succeed(job_id, record)
                job = await self.until(job_id, JobState.FAILED, JobState.COMPLETED)
                self.assertEqual((JobState.FAILED, None), (job.state, job.exit_code))
                self.assertTrue(job.reason.startswith(DOUBT), job.reason)
                if record is not EndRecord.MISSING:
                    self.assertIn("has no manifest of this job", job.reason)

    async def test_the_manifest_at_the_destination_is_evidence_enough(self):
        for record in (EndRecord.MISSING, EndRecord.UNREADABLE):
            with self.subTest(record):
                job_id = await self.submit(subject_id=str(690165 + len(record)))
                await self.upload(job_id)
                self.succeed(job_id, record)
                job = await self.until(job_id, JobState.FAILED, JobState.COMPLETED)
                self.assertEqual((JobState.COMPLETED, ""), (job.state, job.reason))

    async def test_the_manifest_of_another_job_is_none(self):
        first = await self.submit()
        await self.upload(first)
        self.succeed(first, EndRecord.FOUND)
        await self.until(first, JobState.COMPLETED)
        job_id = await self.submit(force_cloud_sync=True)
        self.succeed(job_id, EndRecord.MISSING)
        job = await self.until(job_id, JobState.FAILED, JobState.COMPLETED)
        self.assertEqual((JobState.FAILED, DOUBT), (job.state, job.reason))

    async def test_a_killed_job_whose_asset_is_verified_has_done_its_work(self):
        job_id = await self.submit()
        await self.upload(job_id)
        self.executor.tell(job_id, RunState.FAILED, reason="killed", record=EndRecord.MISSING)
        job = await self.until(job_id, JobState.FAILED, JobState.COMPLETED)
        self.assertEqual((JobState.COMPLETED, ""), (job.state, job.reason))

    async def test_a_store_that_gives_no_answer_leaves_the_end_unknown(self):
        job_id = await self.submit()
        shutil.rmtree(self.manager.settings.destination_root, ignore_errors=True)
        self.succeed(job_id, EndRecord.UNREADABLE)
        job = await self.until(job_id, JobState.UNKNOWN, JobState.FAILED, JobState.COMPLETED)
        self.assertEqual(JobState.UNKNOWN, job.state)
        self.assertIn("cannot be checked", job.reason)
        self.assertIn("cannot be seen from the service", job.reason)

    async def test_the_record_of_its_end_is_evidence_once_events_had_time_to_appear(self):
        job_id = await self.submit()
        self.succeed(job_id, EndRecord.FOUND)
        job = await self.until(job_id, JobState.COMPLETED)
        self.assertEqual(("", 0), (job.reason, job.exit_code))


class LateFilesTest(EvidenceTest):
    """Files that a slow drive shows late."""

    patience = Patience(files=60.0)

    async def test_events_that_appear_late_are_waited_for_and_recorded(self):
        for record in (EndRecord.MISSING, EndRecord.FOUND, EndRecord.BEGUN):
            with self.subTest(record):
                job_id = await self.submit()
                self.succeed(job_id, record)
                job = await self.until(job_id, JobState.RUNNING, JobState.FAILED)
                self.assertEqual(
                    (JobState.RUNNING, None, None), (job.state, job.exit_code, job.ended_at)
                )
                self.assertIn("reports success; waiting for the job's files", job.reason)
                self.executor.write(job_id, "events", DONE)
                job = await self.until(job_id, JobState.FAILED, JobState.COMPLETED)
                self.assertEqual(
                    (JobState.COMPLETED, "", 0), (job.state, job.reason, job.exit_code)
                )
                [event] = await self.manager.events(job_id)
                self.assertEqual("done", event.step)

    async def test_a_script_waits_for_files_that_a_drive_fails_to_give(self):
        job_id = await self.script()
        self.succeed(job_id, EndRecord.UNAVAILABLE)
        job = await self.until(job_id, JobState.RUNNING, JobState.COMPLETED)
        self.assertIs(JobState.RUNNING, job.state)
        self.assertIn("reports success; waiting for the job's files", job.reason)
        self.succeed(job_id, EndRecord.FOUND, doubt="")
        self.assertEqual("", (await self.until(job_id, JobState.COMPLETED)).reason)

    async def test_events_that_were_read_before_are_evidence(self):
        job_id = await self.submit()
        self.executor.write(job_id, "events", DONE)
        self.executor.tell(job_id, RunState.RUNNING)
        await self.until_true(lambda: self.manager.events(job_id))
        self.succeed(job_id, EndRecord.MISSING)
        self.assertEqual("", (await self.until(job_id, JobState.COMPLETED)).reason)

    async def test_events_that_the_job_brought_itself_are_evidence_at_once(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING)
        await self.until(job_id, JobState.RUNNING)
        await self.manager.inbox.take(job_id, 0, DONE)
        self.succeed(job_id, EndRecord.UNREADABLE)
        self.assertEqual("", (await self.until(job_id, JobState.COMPLETED)).reason)

    async def test_a_waiting_job_that_the_cluster_lost_does_not_run_meanwhile(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.LOST, reason="gone", record=EndRecord.MISSING)
        job = await self.until_true(lambda: self.with_reason(job_id))
        self.assertIs(JobState.PENDING, job.state)
        self.assertIn("no longer lists the job; waiting for the job's files", job.reason)

    async def with_reason(self, job_id: str) -> Job | None:
        """Return a job once it has a reason."""
        job = await self.manager.get(job_id)
        return job if job.reason else None

    async def test_a_cancelled_job_needs_no_evidence(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.CANCELLED, record=EndRecord.MISSING)
        await self.until(job_id, JobState.CANCELLED)


@slow
class ScriptTest(EvidenceTest):
    """Custom scripts: they tell no events and write no manifest."""

    async def test_a_script_counts_by_what_it_left(self):
        for record, state, reason in (
            (EndRecord.FOUND, JobState.COMPLETED, ""),
            (EndRecord.BEGUN, JobState.COMPLETED, DOUBT),
            (EndRecord.UNREADABLE, JobState.COMPLETED, DOUBT),
            (EndRecord.UNAVAILABLE, JobState.COMPLETED, DOUBT),
            (EndRecord.MISSING, JobState.FAILED, DOUBT),
        ):
            with self.subTest(record):
                job_id = await self.script()
                self.succeed(job_id, record)
                job = await self.until(job_id, JobState.COMPLETED, JobState.FAILED)
                self.assertEqual((state, reason), (job.state, job.reason))

    async def test_a_dry_run_writes_no_manifest_either(self):
        job_id = await self.submit(dry_run=True)
        self.succeed(job_id, EndRecord.UNREADABLE)
        job = await self.until(job_id, JobState.COMPLETED, JobState.FAILED)
        self.assertEqual((JobState.COMPLETED, DOUBT), (job.state, job.reason))


class ClockTest(unittest.IsolatedAsyncioTestCase):
    """How long evidence is waited for."""

    def setUp(self):
        self.now = 0.0
        self.answers: list[Any] = []
        self.asked = 0
        self.job = Job(id="j1", name="a", location="s3://b/a")
        self.evidence = Evidence(self.is_verified, clock=lambda: self.now)

    async def is_verified(self, job: Job) -> bool:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def judge(self, record: EndRecord, has_news: bool = False) -> RunStatus:
        """Judge a success, and let a look at the store that has begun end."""
        status = RunStatus("7", RunState.COMPLETED, record=record, doubt=DOUBT)
        found = self.evidence.judge(self.job, status, has_news)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)
        return found

    async def test_each_new_event_starts_the_wait_for_files_again(self):
        await self.judge(EndRecord.FOUND)
        self.now = 69
        self.assertIs(RunState.RUNNING, (await self.judge(EndRecord.FOUND, True)).state)
        self.now = 138
        self.assertIs(RunState.RUNNING, (await self.judge(EndRecord.FOUND)).state)
        self.now = 139
        self.assertIs(RunState.COMPLETED, (await self.judge(EndRecord.FOUND)).state)
        self.assertEqual(0, self.asked)

    async def test_files_count_as_unreadable_once_all_looks_failed_for_as_long(self):
        self.job = Job(id="j1", name="a", script=SCRIPT)
        for self.now, record, state in (
            (0, EndRecord.MISSING, RunState.RUNNING),
            (69, EndRecord.UNAVAILABLE, RunState.RUNNING),
            (71, EndRecord.UNAVAILABLE, RunState.RUNNING),
            (138, EndRecord.UNAVAILABLE, RunState.RUNNING),
            (139, EndRecord.UNAVAILABLE, RunState.COMPLETED),
            (140, EndRecord.MISSING, RunState.FAILED),
            (141, EndRecord.UNAVAILABLE, RunState.RUNNING),
            (142, EndRecord.UNREADABLE, RunState.COMPLETED),
        ):
            self.assertIs(state, (await self.judge(record)).state, self.now)

    async def test_a_store_that_fails_is_asked_every_half_minute_for_ten_minutes(self):
        self.answers = [OSError("away")] * 30
        with self.assertLogs("aind_data_transfer_service.jobs.completion_evidence", "ERROR"):
            for second in range(0, 600, 5):
                self.now = second
                found = await self.judge(EndRecord.UNREADABLE)
                self.assertIs(RunState.RUNNING, found.state, second)
            self.now = 600
            found = await self.judge(EndRecord.UNREADABLE)
        self.assertIs(RunState.LOST, found.state)
        self.assertAlmostEqual(20, self.asked, delta=4)

    async def test_the_first_answer_of_the_store_counts(self):
        self.answers = [OSError("away"), True]
        with self.assertLogs("aind_data_transfer_service.jobs.completion_evidence", "ERROR"):
            for second in (0, 5, 31, 32):
                self.now = second
                found = await self.judge(EndRecord.UNREADABLE)
        self.assertIs(RunState.COMPLETED, found.state)

    async def test_a_store_that_hangs_holds_up_nothing(self):
        evidence = Evidence(lambda job: asyncio.sleep(60), clock=lambda: self.now)
        status = RunStatus("7", RunState.COMPLETED, record=EndRecord.UNREADABLE, doubt=DOUBT)
        try:
            for self.now in (0, 30, 599):
                found = evidence.judge(self.job, status, False)
                self.assertIs(RunState.RUNNING, found.state)
            self.now = 600
            found = evidence.judge(self.job, status, False)
            self.assertIs(RunState.LOST, found.state)
            self.assertIn("did not answer in time", found.reason)
        finally:
            evidence.forget(())


class DestinationsTest(unittest.IsolatedAsyncioTestCase):
    """Looks at destinations, in threads of their own."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.job = Job(id="j1", name="a", location=f"{self.folder}/b/a")
        (self.folder / "b").mkdir()

    def make(self, **settings: Any) -> Destinations:
        usual = {"data_dir": self.folder, "lab_timezone": "UTC"}
        destinations = Destinations(ServiceSettings(**(usual | settings)))
        self.addCleanup(destinations.close)
        return destinations

    async def test_they_need_no_thread_that_others_use(self):
        release, shared = threading.Event(), ThreadPoolExecutor(1)
        self.addCleanup(shared.shutdown)
        self.addCleanup(release.set)
        asyncio.get_running_loop().set_default_executor(shared)
        shared.submit(release.wait, 10)
        answered = asyncio.Event()
        evidence = Evidence(self.make().is_verified, answered.set)
        status = RunStatus("7", RunState.COMPLETED, record=EndRecord.UNREADABLE, doubt=DOUBT)
        evidence.judge(self.job, status, False)
        async with asyncio.timeout(2):
            await answered.wait()
        found = evidence.judge(self.job, status, False)
        self.assertIs(RunState.FAILED, found.state)
        self.assertIn("has no manifest of this job", found.reason)

    async def test_a_look_that_hangs_is_given_up_in_time(self):
        release = threading.Event()
        self.addCleanup(release.set)
        destinations = self.make(check_timeout=0.1)
        with patch(OPEN_STORE, side_effect=lambda *_, **__: release.wait(10)):
            looks = [destinations.is_verified(self.job) for _ in range(8)]
            found = await asyncio.gather(*looks, return_exceptions=True)
        self.assertEqual({"the store did not answer in time"}, {str(one) for one in found})

    async def test_a_destination_that_cannot_be_seen_is_an_error_that_says_so(self):
        (self.folder / "b").rmdir()
        with self.assertRaisesRegex(UnavailableError, "b cannot be seen from the service"):
            await self.make().is_verified(self.job)


if __name__ == "__main__":
    unittest.main()
