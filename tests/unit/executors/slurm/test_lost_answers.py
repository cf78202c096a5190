"""Jobs whose answers were lost: which sign decides whether they are submitted again."""

import itertools
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest import TestCase
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.executors.base import (
    CANCELLED_BEFORE,
    RunState,
    Started,
)
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.slurm import recent_submissions
from aind_data_transfer_service.executors.slurm.job_matching import Identity
from aind_data_transfer_service.slurmrest.errors import Refused, Unreachable
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.support.transfer import as_an_ordinary_user
from tests.unit.executors.slurm.test_executor import LOST, SlurmTest, a_job
from tests.unit.executors.slurm.test_job_matching import CHANGED, RewritingClient

KINDS = {"transfer": {}, "script": {"request": "", "script": "#!/bin/sh\n"}}


class DoubtTest(SlurmTest):
    """A service that starts again an hour after it may have sent a job, which Slurm forgot."""

    def setUp(self):
        logger = "aind_data_transfer_service.executors"
        self.enterContext(self.assertNoLogs(logger, "ERROR"))

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.hour_ago = datetime.now(UTC) - timedelta(hours=1)
        self.callbacks = Callbacks("http://transfer", self.folder.parent / f"{self.folder.name}.s")
        self.callbacks.open()
        self.addCleanup(os.unlink, self.folder.parent / f"{self.folder.name}.s")

    async def start(self, job=None, **values) -> Started:
        """Start the service again, and hand over the job that is in doubt."""
        self.executor = self.make(**({"settle": 0} | values))
        await self.executor.open(["j1"])
        [started] = await self.executor.start([job or self.job()])
        return started

    def job(self, **values):
        """Make the job that is in doubt."""
        return a_job("j1", **({"recorded_at": self.hour_ago} | values))

    def assert_in_doubt(self, started: Started, text: str) -> None:
        """Check that the job was not sent, stays in doubt, and says why."""
        self.assertEqual((None, True, True), (started.ref, started.again, started.in_doubt))
        self.assertIn(text, started.error)
        self.assertEqual([], self.client.submissions)

    def leave_files(self, *names: str) -> None:
        """Leave claims of jobs, as on a folder that is mounted."""
        for name in names:
            (self.folder / f"{name}.claim").write_text("7")

    async def test_a_folder_that_is_not_mounted_is_not_one_without_files(self):
        file = self.folder / "a-file"
        file.touch()
        file.chmod(0o755)
        for logs in (self.folder / "gone", file, file / "beneath", self.folder):
            for kind, values in KINDS.items():
                for callbacks in (None, self.callbacks):
                    with self.subTest(logs=logs, kind=kind, callbacks=callbacks is not None):
                        options = {"logging_directory": str(logs), "callbacks": callbacks}
                        started = await self.start(self.job(**values), **options)
                        self.assert_in_doubt(started, str(logs))
                        self.assertIn("HPC_LOGGING_DIRECTORY", started.error)

    async def test_a_folder_that_the_service_may_not_enter_is_not_one_without_files(self):
        self.leave_files("other")
        self.folder.chmod(0o600)
        with as_an_ordinary_user():
            started = await self.start()
        self.folder.chmod(0o700)
        self.assert_in_doubt(started, "not readable by")

    async def test_a_folder_that_hangs_is_not_one_without_files(self):
        self.leave_files("other")
        listed, answers = os.lstat, threading.Event()
        self.addCleanup(answers.set)

        def lstat(path, *args, **kwargs):
            if str(path).startswith(str(self.folder)):
                answers.wait(10)
            return listed(path, *args, **kwargs)

        for kind, values in KINDS.items():
            with (
                self.subTest(kind),
                patch("os.lstat", lstat),
                patch.object(recent_submissions, "_READ_SECONDS", 0.05),
            ):
                self.assert_in_doubt(await self.start(self.job(**values)), "did not answer")

    async def test_a_claim_that_cannot_be_read_leaves_the_job_in_doubt(self):
        self.leave_files("j1")
        (self.folder / "j1.claim").chmod(0)
        self.folder.chmod(0o755)
        with as_an_ordinary_user():
            self.assert_in_doubt(await self.start(), "j1.claim")

    async def test_jobs_that_wait_behind_a_failure_stay_in_doubt(self):
        self.leave_files("other")
        self.executor = self.make(settle=0, submissions_at_once=1)
        await self.executor.open(["j1", "j2"])
        self.client.faults = [Unreachable("away")]
        specs = [replace(self.job(), job_id=one) for one in ("j1", "j2")]
        found = {one.job_id: one for one in await self.executor.start(specs)}
        waiting = [one for one in found.values() if one.in_doubt]
        self.assertEqual(1, len(waiting), "what was not tried is as doubtful as before")

    async def test_without_any_sign_the_job_is_sent_again(self):
        self.leave_files("other")
        started = await self.start()
        self.assertEqual("101:j1", started.ref)

    async def test_as_soon_as_the_folder_is_mounted_it_decides(self):
        for is_begun in (False, True):
            with self.subTest(is_begun=is_begun):
                await self.asyncSetUp()
                self.assert_in_doubt(await self.start(), "mount")
                self.leave_files("j1" if is_begun else "other")
                [started] = await self.executor.start([self.job()])
                self.assertEqual("7:j1" if is_begun else "101:j1", started.ref)

    async def test_slurmdbd_knows_that_the_job_ran(self):
        row = SlurmJob(55, "COMPLETED", name="job j1", user="svc", submitted=datetime.now(UTC))
        for marks in ({}, {"comment": "aind-data-transfer-service:j1"}):
            for logs in (self.folder, self.folder / "gone"):
                with self.subTest(marks=marks, logs=logs):
                    self.client.past = [
                        replace(row, job_id=54, submitted=self.hour_ago - timedelta(hours=1)),
                        replace(row, job_id=56, user="eve", **marks),
                        replace(row, job_id=57, comment="aind-data-transfer-service:j9"),
                        replace(row, job_id=58, array_job_id=58),
                        replace(row, **marks),
                    ]
                    started = await self.start(logging_directory=str(logs))
                    self.assertEqual("55:j1", started.ref)
        self.assertEqual([], self.client.submissions)

    async def test_slurmdbd_knows_nothing_of_the_job(self):
        row = SlurmJob(55, "PENDING", name="job j1", user="svc", submitted=datetime.now(UTC))
        for number, past in enumerate(([], [row]), 101):
            self.client.past = past
            self.assertEqual(f"{number}:j1", (await self.start()).ref, "it may be a first job")
            self.client.listed.clear()

    async def test_slurmdbd_does_not_make_up_for_a_folder_that_cannot_be_seen(self):
        self.client.past = []
        started = await self.start(logging_directory=str(self.folder / "gone"))
        self.assert_in_doubt(started, "mount")

    async def test_slurmdbd_decides_where_jobs_report_and_no_folder_is_shared(self):
        self.client.past = []
        logs = {"logging_directory": str(self.folder / "gone"), "callbacks": self.callbacks}
        self.assertEqual("101:j1", (await self.start(**logs)).ref)

    async def test_a_slurmdbd_that_is_away_decides_nothing(self):
        self.leave_files("other")
        self.client.past = Unreachable("slurmdbd is away")
        self.assert_in_doubt(await self.start(), "slurmdbd is away")

    async def test_events_of_the_job_decide_whatever_the_folder_is(self):
        async def has_reported() -> bool:
            return True

        for logs in (self.folder, self.folder / "gone"):
            job = self.job(has_reported=has_reported)
            started = await self.start(job, logging_directory=str(logs))
            self.assertEqual("0:j1", started.ref)
        self.assertEqual([], self.client.submissions)

    async def test_slurm_would_still_list_a_job_that_was_sent_a_moment_ago(self):
        now = datetime.now(UTC)
        for number, logs in enumerate(({}, {"callbacks": self.callbacks}), 101):
            logs |= {"logging_directory": str(self.folder / "gone")} if logs else {}
            started = await self.start(self.job(recorded_at=now), **logs)
            self.assertEqual(f"{number}:j1", started.ref)
            self.client.listed.clear()

    async def test_where_jobs_report_a_service_that_ran_on_needs_no_folder(self):
        logs = {"logging_directory": str(self.folder / "gone"), "callbacks": self.callbacks}
        self.executor = self.make(settle=0, keep=0, **logs)
        self.client.faults, self.client.keep_lost = [LOST], False
        await self.executor.start([self.job()])
        [started] = await self.executor.start([self.job()])
        self.assertEqual("101:j1", started.ref)

    async def find(self, job=None, **values) -> Started:
        """Start the service again, and look for the job, which a user has cancelled."""
        self.executor = self.make(**({"settle": 0} | values))
        await self.executor.open(["j1"])
        [found] = await self.executor.find([job or self.job()])
        return found

    async def test_slurmdbd_knows_that_a_cancelled_job_ran(self):
        row = SlurmJob(55, "COMPLETED", name="job j1", user="svc", submitted=datetime.now(UTC))
        for marks in ({}, {"comment": "aind-data-transfer-service:j1"}):
            for is_mounted in (False, True):
                with self.subTest(marks=marks, is_mounted=is_mounted):
                    self.client.past = [replace(row, job_id=54, user="eve"), replace(row, **marks)]
                    if is_mounted:
                        self.leave_files("other")
                    self.assertEqual("55:j1", (await self.find()).ref)

    async def test_events_tell_that_a_cancelled_job_ran(self):
        async def has_reported() -> bool:
            return True

        for options in ({}, {"callbacks": self.callbacks}):
            job = self.job(has_reported=has_reported)
            self.assertEqual("0:j1", (await self.find(job, **options)).ref)

    async def test_a_cancelled_job_is_in_doubt_while_a_sign_cannot_be_asked_for(self):
        async def fail() -> bool:
            raise OSError("the database is away")

        self.leave_files("other")
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            self.assertTrue((await self.find(self.job(has_reported=fail))).in_doubt)
        self.client.past = Unreachable("slurmdbd is away")
        self.assertTrue((await self.find()).in_doubt)

    async def test_a_cancelled_job_that_no_sign_tells_of_was_never_sent(self):
        for past in (None, []):
            self.client.past = past
            found = await self.find()
            self.assertEqual((None, False), (found.ref, found.in_doubt))
            is_known = past is not None  # without slurmdbd an empty folder proves nothing
            self.assertEqual(is_known, found.error == CANCELLED_BEFORE, found.error)
            self.assertEqual(not is_known, "cannot be found out" in found.error, found.error)
            self.assertEqual(not is_known, str(self.folder) in found.error, found.error)
        self.client.past = None
        self.leave_files("other")
        self.assertEqual(CANCELLED_BEFORE, (await self.find()).error)

    async def test_a_job_that_left_files_was_not_cancelled_before_it_was_sent(self):
        (self.folder / "j1.out").touch()
        self.assertEqual("0:j1", (await self.find()).ref)

    async def test_a_cancelled_job_is_in_doubt_while_its_files_cannot_be_looked_for(self):
        self.assertTrue((await self.find(logging_directory="/nowhere/logs")).in_doubt)
        logs = {"logging_directory": "/nowhere/logs", "callbacks": self.callbacks}
        self.assertFalse((await self.find(**logs)).in_doubt)
        self.assertFalse((await self.find()).in_doubt)

    async def test_a_claim_that_cannot_be_read_keeps_no_other_job_from_being_cancelled(self):
        self.leave_files("j1")
        (self.folder / "j1.claim").chmod(0)
        self.folder.chmod(0o755)
        self.executor = self.make(settle=0)
        with as_an_ordinary_user():
            found = await self.executor.find([a_job("j1"), a_job("j2")])
        self.assertEqual([True, False], [one.in_doubt for one in found])


class TwiceTest(SlurmTest):
    """A job that Slurm has twice, and a folder that does not say which of them does the work."""

    async def test_what_runs_is_not_cancelled_while_the_claim_cannot_be_read(self):
        for is_mounted in (False, True):
            with self.subTest(is_mounted=is_mounted):
                await self.asyncSetUp()
                logs = self.folder if is_mounted else self.folder / "gone"
                self.executor = self.make(logging_directory=str(logs))
                [ref] = await self.begin("j1")
                self.client.listed[102] = replace(
                    self.client.listed[101], job_id=102, state="RUNNING"
                )
                with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
                    status = await self.status(ref)
                self.assertEqual([101], self.client.cancelled)
                self.assertEqual(RunState.RUNNING, status.state)

    async def test_of_two_that_run_none_is_cancelled_without_a_claim(self):
        [ref] = await self.begin("j1")
        for number in (101, 102):
            self.client.listed[number] = replace(
                self.client.listed[101], job_id=number, state="RUNNING"
            )
        await self.status(ref)
        self.assertEqual([], self.client.cancelled)
        (self.folder / "j1.claim").write_text("102")
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            await self.status(ref)
        self.assertEqual([101], self.client.cancelled)


class NamesakesTest(SlurmTest):
    """Earlier jobs of the same name, after a restart, on a cluster that rewrites comments."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client = RewritingClient()
        self.client.rewrites = CHANGED
        self.executor = self.make()
        self.own = {
            "standard_out": f"{self.folder}/mine-%j.out",
            "standard_error": f"{self.folder}/mine-%j.err",
        }
        (self.folder / "other.claim").write_text("7")

    async def submit(self, job_id: str, fault: Exception | None = None) -> Started:
        """Submit a job by the service that is stopped afterwards."""
        self.client.faults = [fault]
        [started] = await self.executor.start([self.job(job_id)])
        return started

    def job(self, job_id: str = "j2", **values):
        """Make a job of the usual name and output files of its own."""
        common = {"name": "same", "settings": self.own, "recorded_at": datetime.now(UTC)}
        return a_job(job_id, **(common | values))

    async def start_again(self, *jobs) -> list[Started]:
        """Start a service that knows nothing but which jobs are in doubt."""
        self.executor = self.make(settle=0)
        await self.executor.open([job.job_id for job in jobs])
        return await self.executor.start(jobs)

    async def test_the_newest_counts_whatever_is_listed_besides(self):
        for age in (1, 60, 119):
            for state in ("RUNNING", "COMPLETED"):
                with self.subTest(age=age, state=state):
                    self.client = RewritingClient()
                    self.client.rewrites = CHANGED
                    self.executor = self.make()
                    await self.submit("j1")
                    earlier = datetime.now(UTC) - timedelta(seconds=age)
                    self.client.become(101, state=state, submitted=earlier)
                    job = self.job()
                    self.executor = self.make(settle=60)
                    await self.submit("j2", LOST)
                    [started] = await self.start_again(job)
                    self.assertEqual("102:j2", started.ref)
                    self.assertEqual(2, len(self.client.submissions))

    async def test_an_older_one_alone_is_not_taken_and_nothing_is_sent_while_it_is_listed(self):
        await self.submit("j1")
        earlier = datetime.now(UTC) - timedelta(seconds=60)
        self.client.become(101, submitted=earlier)
        [started] = await self.start_again(job := self.job())
        self.assertEqual((None, True, True), (started.ref, started.again, started.in_doubt))
        self.assertIn("lists a job 101", started.error)
        self.client.listed.clear()
        [started] = await self.executor.start([job])
        self.assertEqual("102:j2", started.ref)

    async def test_a_cancelled_job_is_in_doubt_while_one_is_listed_that_may_be_it(self):
        self.executor = self.make(settle=0)
        earlier = datetime.now(UTC) - timedelta(seconds=60)
        self.client.rewrites = CHANGED | {"submitted": earlier}
        await self.submit("j2", LOST)
        [found] = await self.executor.find([a_job("j2")])
        self.assertTrue(found.in_doubt)
        self.assertIn("it is not cancelled", found.error)
        self.client.listed.clear()
        [found] = await self.executor.find([a_job("j2")])
        self.assertFalse(found.in_doubt)

    async def test_one_that_was_refused_is_not_taken_for_the_next_of_its_name(self):
        self.executor = self.make(settle=60)
        self.client.faults = [Refused("Invalid account")]
        [refused] = await self.executor.start([self.job("j1")])
        self.assertIsNotNone(refused.error)
        self.client.submissions.append(None)  # so that numbers go on
        started = await self.submit("j2", LOST)
        self.assertEqual("102:j2", started.ref)

    async def test_one_that_the_record_names_is_not_taken_and_holds_up_nothing(self):
        for past in (0, 60):
            with self.subTest(past=past):
                self.client = RewritingClient()
                self.client.rewrites = CHANGED
                self.executor = self.make()
                ref = (await self.submit("j1")).ref
                submitted = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=past)
                self.client.become(101, state="COMPLETED", submitted=submitted)

                async def references():
                    return [f"{ref}@{submitted.timestamp():.0f}", "not a reference"]

                [started] = await self.start_again(self.job(references=references))
                self.assertEqual("102:j2", started.ref)

    async def test_a_number_of_ours_that_slurm_gave_again_is_no_claim(self):
        async def references():
            return ["101:old@1000"]

        await self.submit("j2", LOST)
        job = self.job(recorded_at=datetime.now(UTC), references=references)
        [started] = await self.start_again(job)
        self.assertEqual("101:j2", started.ref)

    async def test_of_two_in_doubt_none_is_sent_again_until_a_claim_tells_which_is_which(self):
        jobs = [self.job("j1"), self.job("j2")]
        self.executor = self.make(settle=60)
        for job in jobs:
            self.client.faults = [LOST]
            await self.executor.start([job])
        found = await self.start_again(*jobs)
        self.assertEqual([True, True], [one.in_doubt for one in found])
        (self.folder / "j2.claim").write_text("102")
        found = {one.job_id: one for one in await self.executor.start(jobs)}
        self.assertEqual("102:j2", found["j2"].ref)
        self.assertEqual(2, len(self.client.submissions))


class OrderTest(TestCase):
    """Which of several listed jobs is taken does not depend on the order of the list."""

    RECORDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @given(
        st.lists(st.integers(-300, 300), min_size=1, max_size=6),
        st.sets(st.integers(0, 5)),
        st.randoms(use_true_random=False),
    )
    def test_the_newest_that_nobody_claims_is_taken_and_never_an_older_one(
        self, seconds, claimed, random
    ):
        out, error = "/logs/x-%j.out", "/logs/x-%j.err"
        jobs = [
            SlurmJob(
                100 + number,
                "RUNNING",
                name="same",
                user="svc",
                comment="",
                submitted=self.RECORDED + timedelta(seconds=offset),
                standard_output=out,
                standard_error=error,
            )
            for number, offset in enumerate(seconds)
        ]
        random.shuffle(jobs)
        identity = Identity("/logs", "svc")
        sent = {"name": "same", "standard_out": out, "standard_error": error}
        identity.note_sent("j1", sent, self.RECORDED)
        for number in claimed:
            identity.expect(f"other{number}", 100 + number)
        listed, _ = identity.sort(jobs)
        free = [job for job in jobs if job.job_id - 100 not in claimed]
        newest = max(free, key=lambda job: (job.submitted, job.job_id), default=None)
        is_ours = newest is not None and newest.submitted >= self.RECORDED
        expected = [newest.job_id] if is_ours else []
        self.assertEqual(expected, [job.job_id for job in listed.get("j1", [])])
        near = newest is not None and newest.submitted >= self.RECORDED - timedelta(seconds=120)
        self.assertEqual(near and not is_ours, identity.possible("j1") is not None)

    def test_a_list_that_is_not_complete_decides_nothing(self):
        identity = Identity("/logs", "svc")
        sent = {"name": "n", "standard_out": "/a-%j", "standard_error": "/b-%j"}
        identity.note_sent("j1", sent, self.RECORDED)
        paths = {"standard_output": "/a-9", "standard_error": "/b-9"}
        old = SlurmJob(9, "RUNNING", name="n", submitted=self.RECORDED - timedelta(60), **paths)
        near = replace(old, submitted=self.RECORDED - timedelta(seconds=9))
        new = replace(old, submitted=self.RECORDED)
        for job, is_complete, is_possible in (
            (new, False, False),
            (near, True, True),
            (old, False, True),
            (old, True, False),
        ):
            listed, others = identity.sort([job], is_complete)
            self.assertEqual(({}, [job]), (listed, others))
            self.assertEqual(is_possible, identity.possible("j1") is not None)
        self.assertEqual(["j1"], list(identity.sort([new])[0]))

    def test_all_orders_of_three(self):
        numbers = (101, 102, 103)
        for order in itertools.permutations(numbers):
            identity = Identity("/logs", "svc")
            sent = {"name": "n", "standard_out": "/a-%j", "standard_error": "/b-%j"}
            identity.note_sent("j1", sent, self.RECORDED)
            listed, others = identity.sort(
                SlurmJob(
                    number,
                    "PENDING",
                    name="n",
                    submitted=self.RECORDED + timedelta(seconds=number - 102),
                    standard_output=f"/a-{number}",
                    standard_error=f"/b-{number}",
                )
                for number in order
            )
            self.assertEqual([103], [job.job_id for job in listed["j1"]])
            self.assertEqual(3, len(others))
