"""The executor for a cluster, against a client that does as it is told."""

import asyncio
import json
import os
import shutil
import tempfile
import unittest
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import EndRecord, JobSpec, RunState
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.executors.slurm.queue import LONG_QUEUE
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.api_versions import Dialect
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    Refused,
    SlurmComplaint,
    Unreachable,
)
from aind_data_transfer_service.slurmrest.models import (
    JobStates,
    Pinged,
    SlurmJob,
    Submission,
    Submitted,
)
from tests.support.transfer import as_an_ordinary_user

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DOWN = Unreachable("the cluster cannot be reached")
LOST = AnswerLost("the answer was lost")


class FakeClient:
    """A cluster in memory. `faults` are raised by the next submissions, one each."""

    def __init__(self):
        self.listed: dict[int, SlurmJob] = {}
        self.submissions: list[Submission] = []
        self.faults: list[Exception | None] = []
        self.keep_lost = True
        self.down: Exception | None = None
        self.looks = 0
        self.cancelled: list[int] = []
        self.at_once = self.most_at_once = 0
        self.controllers = [Pinged("ctl", True)]
        self.is_closed = False
        self.past: list[SlurmJob] | Exception | None = None
        self.past_questions: list[list[int]] = []
        self.refusal: Refused | None = None
        self.lists_states = False

    async def dialect(self) -> Dialect:
        """Return the API version; it is away while the service starts."""
        raise DOWN

    async def partitions(self) -> list:
        """List partitions; nobody tells them."""
        raise DOWN

    async def nodes(self) -> list:
        """List nodes; nobody tells them."""
        raise DOWN

    async def qos(self) -> None:
        """List no qualities of service."""

    async def past_jobs(self, job_ids) -> list[SlurmJob] | None:
        """Tell of ended jobs."""
        self.past_questions.append(list(job_ids))
        if isinstance(self.past, Exception):
            raise self.past
        return self.past

    async def past_jobs_since(self, since, name) -> list[SlurmJob] | None:
        """Tell of jobs of a name."""
        found = await self.past_jobs([])
        return found and [job for job in found if job.name == name and job.submitted >= since]

    async def submit(self, submission: Submission) -> Submitted:
        """Take a job."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        fault = self.faults.pop(0) if self.faults else None
        if fault and not (isinstance(fault, AnswerLost) and self.keep_lost):
            raise fault
        self.submissions.append(submission)
        number = len(self.submissions) + 100
        sent = submission.properties
        self.listed[number] = SlurmJob(
            number,
            "PENDING",
            comment=sent["comment"],
            submitted=NOW,
            standard_output=sent["standard_out"],
            standard_error=sent["standard_error"],
        )
        if fault:
            raise fault
        return Submitted(number, {"job_id": number, "step_id": "BATCH"})

    async def states(self) -> JobStates | None:
        """List the states of all jobs, if it is new enough."""
        if self.down:
            raise self.down
        if not self.lists_states:
            return None
        return {
            number: frozenset({" ".join([str(number), job.state, *sorted(job.flags)])})
            for number, job in self.listed.items()
        }

    async def jobs(self, updated_since=None) -> list[SlurmJob]:
        """List the jobs."""
        self.looks += 1
        if self.down:
            raise self.down
        return list(self.listed.values())

    async def job(self, job_id: int) -> SlurmJob | None:
        """Show a job."""
        if self.down:
            raise self.down
        return self.listed.get(job_id)

    async def tasks(self, job_id: int) -> list[SlurmJob]:
        """Show an array."""
        if self.down:
            raise self.down
        jobs = self.listed.values()
        return [job for job in jobs if job_id in (job.job_id, job.array_job_id)]

    async def cancel(self, job_id: int, signal=None) -> bool:
        """Cancel a job."""
        self.cancelled.append(job_id)
        if self.refusal:
            raise self.refusal
        self.become(job_id, state="CANCELLED")
        return True

    async def ping(self) -> list[Pinged]:
        """Name the controllers."""
        if self.down:
            raise self.down
        return self.controllers

    async def aclose(self) -> None:
        """Note it."""
        self.is_closed = True

    def become(self, number: int, **values) -> None:
        """Change a job."""
        self.listed[number] = replace(self.listed[number], **values)


class SlurmTest(unittest.IsolatedAsyncioTestCase):
    """An executor with a cluster in memory."""

    async def asyncSetUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.client = FakeClient()
        self.executor = self.make()
        await self.executor.open()

    def make(
        self,
        settle: float = 60.0,
        keep: float = 60.0,
        callbacks=None,
        backoff=None,
        grace: float = 60.0,
        clock=monotonic,
        long_queue: int = LONG_QUEUE,
        **values,
    ) -> SlurmExecutor:
        """Make an executor."""
        hpc = HpcSettings(
            host="slurm",
            username="svc",
            token="t",
            current_working_directory="/hpc",
            **({"logging_directory": str(self.folder)} | values),
        )
        return SlurmExecutor(
            self.client,
            hpc,
            {"DESTINATION": "s3://"},
            settle=settle,
            keep=keep,
            grace=grace,
            callbacks=callbacks,
            backoff=backoff,
            clock=clock,
            long_queue=long_queue,
        )

    async def begin(self, *ids: str) -> list[str]:
        """Start jobs, one after the other, and give their references."""
        found = [one for job_id in ids for one in await self.executor.start([a_job(job_id)])]
        self.assertEqual([one.error for one in found], [None] * len(ids))
        return [one.ref for one in found]

    async def status(self, ref: str):
        """Ask for one job."""
        return (await self.executor.statuses([ref]))[ref]


def a_job(job_id: str, **values) -> JobSpec:
    """Make a transfer job."""
    return JobSpec(**({"job_id": job_id, "name": f"job {job_id}", "request": "{}"} | values))


class SubmissionTest(SlurmTest):
    """Each job once, whatever happens to the answers."""

    async def test_a_job_bears_a_mark_and_slurms_number_is_told(self):
        [started] = await self.executor.start([a_job("j1")])
        self.assertEqual(started.ref, "101:j1")
        self.assertEqual(started.answer, {"job_id": 101, "step_id": "BATCH", "slurm_job_id": 101})
        comment = self.client.submissions[0].properties["comment"]
        self.assertEqual(comment, "aind-data-transfer-service:j1")

    async def test_many_are_sent_at_once_but_not_too_many(self):
        found = await self.executor.start([a_job(f"j{number}") for number in range(40)])
        self.assertEqual(len({one.ref for one in found} - {None}), 40)
        self.assertEqual(self.client.most_at_once, 8)
        self.assertEqual(self.client.looks, 1)

    async def test_the_same_job_at_the_same_time_is_sent_once(self):
        found = await asyncio.gather(*(self.begin("j1", "j1") for _ in range(3)))
        self.assertEqual({ref for refs in found for ref in refs}, {"101:j1"})
        self.assertEqual(len(self.client.submissions), 1)

    async def test_a_service_that_starts_again_finds_what_was_sent(self):
        await self.begin("j1")
        self.executor = self.make()
        self.assertEqual(await self.begin("j1", "j2"), ["101:j1", "102:j2"])
        self.assertEqual(len(self.client.submissions), 2)

    async def test_a_number_is_learnt_anew_where_another_process_sent_a_lost_job_again(self):
        await self.begin("j1")
        await self.executor.statuses(["101:j1"])
        await self.executor.suspend()
        await self.send_again_elsewhere()
        await self.executor.open()
        await self.executor.cancel("102:j1")
        self.assertEqual([102], self.client.cancelled)

    async def test_its_state_is_told_by_the_new_number_then(self):
        await self.begin("j1")
        await self.executor.suspend()
        await self.send_again_elsewhere()
        self.client.become(102, state="RUNNING")
        await self.executor.open()
        found = (await self.executor.statuses(["102:j1"]))["102:j1"]
        self.assertEqual(
            (f"102:j1@{NOW.timestamp():.0f}", RunState.RUNNING), (found.ref, found.state)
        )
        self.assertEqual(["102:j1"], await self.begin("j1"))

    async def test_a_number_that_is_listed_no_more_gives_way_to_the_one_that_is(self):
        await self.begin("j1")
        await self.executor.statuses(["101:j1"])
        await self.send_again_elsewhere()
        await self.executor.find([a_job("j1")])
        await self.executor.cancel("102:j1")
        self.assertEqual([102], self.client.cancelled)

    async def send_again_elsewhere(self):
        """Have the controller lose the first job, and another service submit it again."""
        del self.client.listed[101]
        other = self.make()
        await other.open()
        [started] = await other.start([a_job("j1")])
        self.assertEqual("102:j1", started.ref)

    async def test_a_job_that_ran_and_was_forgotten_is_not_sent_again(self):
        (self.folder / "j1.claim").write_text("77\n")
        self.assertEqual(await self.begin("j1"), ["77:j1"])
        self.assertEqual(self.client.submissions, [])

    async def test_a_job_whose_answer_was_lost_is_found_by_its_mark(self):
        self.client.faults = [LOST]
        self.assertEqual(await self.begin("j1"), ["101:j1"])
        self.assertEqual(len(self.client.submissions), 1)

    async def test_a_job_that_was_lost_on_the_way_is_sent_again_but_not_at_once(self):
        self.client.faults, self.client.keep_lost = [LOST], False
        [started] = await self.executor.start([a_job("j1")])
        self.assertEqual((started.ref, started.again), (None, True))
        [started] = await self.executor.start([a_job("j1")])
        self.assertTrue(started.again)
        self.assertIn("whether it has the job shows", started.error)
        self.assertEqual(self.client.submissions, [])
        self.executor = self.make(settle=0.0)
        self.client.faults = [LOST]
        await self.executor.start([a_job("j1")])
        self.assertEqual(await self.begin("j1"), ["101:j1"])
        self.assertEqual(len(self.client.submissions), 1)

    async def test_a_job_that_turns_up_late_is_taken_as_it_is(self):
        self.client.faults, self.client.keep_lost = [LOST], False
        await self.executor.start([a_job("j1")])
        self.client.listed[500] = SlurmJob(500, "RUNNING", comment="aind-data-transfer-service:j1")
        self.assertEqual(await self.begin("j1"), ["500:j1"])

    async def test_while_nobody_can_look_nothing_is_decided(self):
        await self.begin("j0")
        self.client.faults, self.client.down = [LOST], DOWN
        with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
            [started] = await self.executor.start([a_job("j1")])
        self.assertTrue(started.again)
        with self.assertRaisesRegex(ExecutorError, "cannot be reached"):
            await self.executor.start([a_job("j1")])
        self.client.down = None
        self.assertEqual(await self.begin("j1"), ["102:j1"])

    async def test_a_refusal_is_the_jobs_own_and_told_in_slurms_words(self):
        complaint = SlurmComplaint(2000, "Invalid partition name specified")
        answer = {"errors": [{"error": complaint.text}]}
        self.client.faults = [
            None,
            Refused("no: Invalid partition name", (complaint,), 500, answer),
        ]
        found = await self.executor.start([a_job(x) for x in ("a", "b", "c")])
        [refused] = [one for one in found if one.error]  # whichever came to be the second
        self.assertEqual((refused.ref, refused.again), (None, False))
        self.assertIn("Invalid partition", refused.error)
        self.assertEqual(refused.answer, answer)

    async def test_a_cluster_that_goes_away_leaves_the_rest_for_later(self):
        self.client.faults = [None] * 3 + [DOWN] * 50
        found = await self.executor.start([a_job(f"j{number}") for number in range(40)])
        taken = [one for one in found if one.ref]
        later = [one for one in found if one.again]
        self.assertEqual((len(taken), len(taken) + len(later)), (3, 40))
        self.assertGreater(len(self.client.faults), 30, "the others are not even tried")
        self.client.faults = []
        self.assertEqual(len(await self.begin(*(f"j{number}" for number in range(40)))), 40)
        self.assertEqual(len(self.client.submissions), 40)

    async def test_nothing_is_sent_while_it_is_not_known_what_is_there(self):
        self.client.down = DOWN
        with self.assertRaisesRegex(ExecutorError, "cannot be reached"):
            await self.executor.start([a_job("j1")])
        self.client.down = None
        await self.begin("j1")

    async def test_an_id_that_no_file_can_have_is_refused(self):
        [started] = await self.executor.start([a_job("../x")])
        self.assertIn("cannot be the id", started.error)
        self.assertFalse(started.again)

    async def test_keys_are_in_the_environment_and_nowhere_else(self):
        self.executor = self.make(aws_access_key_id="AKIA1", aws_secret_access_key="s3cr3t")
        [started] = await self.executor.start([a_job("j1")])
        [submission] = self.client.submissions
        self.assertEqual(submission.environment["AWS_SECRET_ACCESS_KEY"], "s3cr3t")
        self.assertEqual(submission.environment["DESTINATION"], "s3://")
        shown = [submission.script, json.dumps(dict(submission.properties)), repr(submission)]
        self.assertNotIn("s3cr3t", "".join([*shown, repr(started)]))

    async def test_the_keys_of_a_job_are_those_of_its_bucket(self):
        def hpc_for(bucket: str) -> HpcSettings:
            keys = {"aws_access_key_id": f"id of {bucket}", "aws_secret_access_key": "s3cret"}
            return HpcSettings(
                current_working_directory="/hpc", logging_directory=str(self.folder), **keys
            )

        hpc = hpc_for("nobody")
        self.executor = SlurmExecutor(self.client, hpc, {}, hpc_for=hpc_for)
        for bucket in ("", "open"):
            await self.executor.start([a_job(f"j{bucket}", bucket=bucket)])
        first, second = self.client.submissions
        self.assertEqual("id of ", first.environment["AWS_ACCESS_KEY_ID"])
        self.assertEqual("id of open", second.environment["AWS_ACCESS_KEY_ID"])
        self.assertNotIn("s3cret", second.script + repr(second.properties) + repr(second))

    async def test_the_token_of_a_callback_goes_the_same_way_and_into_the_container(self):
        callbacks = Callbacks("http://transfer.example", self.folder / "secret")
        callbacks.open()
        self.executor = self.make(callbacks=callbacks, sif_location="/hpc/job.sif")
        await self.begin("j1")
        [submission] = self.client.submissions
        token = callbacks.environment("j1")["UPLOAD_CALLBACK_TOKEN"]
        holders = {name for name, value in submission.environment.items() if token in value}
        prefixes = ("", "SINGULARITYENV_", "APPTAINERENV_")
        self.assertEqual({f"{prefix}UPLOAD_CALLBACK_TOKEN" for prefix in prefixes}, holders)
        self.assertNotIn(token, submission.script + repr(submission.properties) + repr(submission))

    async def test_closing_waits_for_what_is_on_its_way(self):
        task = asyncio.create_task(self.executor.start([a_job("j1")]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.executor.close()
        self.assertTrue(self.client.is_closed)


class FollowingTest(SlurmTest):
    """How jobs stand."""

    async def test_one_question_is_enough_for_all(self):
        refs = await self.begin(*(f"j{number}" for number in range(30)))
        self.client.looks = 0
        found = await self.executor.statuses(refs)
        self.assertEqual(self.client.looks, 1)
        self.assertEqual({one.state for one in found.values()}, {RunState.PENDING})

    async def test_a_forgotten_job_is_told_by_what_it_left(self):
        for text, state, code in (
            ('{"exit_code": 0, "ended": 1767322800}', RunState.COMPLETED, 0),
            ('{"exit_code": 14, "stopped": false, "ended": 1e300}', RunState.FAILED, 14),
            ('{"exit_code": 137, "stopped": false}', RunState.FAILED, 137),
            ('{"exit_code": 143, "stopped": true}', RunState.FAILED, 143),
            ('{"exit_code": "x"}', RunState.LOST, None),
            ("[1]", RunState.LOST, None),
            ("half {", RunState.LOST, None),
        ):
            with self.subTest(text):
                (self.folder / "j1.end").write_text(text)
                status = await self.status("55:j1")
                self.assertEqual((status.state, status.exit_code), (state, code))

    async def test_a_forgotten_job_that_left_nothing_is_lost_in_words(self):
        status = await self.status("55:j1")
        self.assertEqual((RunState.LOST, EndRecord.UNREADABLE), (status.state, status.record))
        self.assertIn("Slurm has forgotten the job", status.reason, "no job leaves files here")
        (self.folder / "other.claim").write_text("54")
        status = await self.status("55:j1")
        self.assertEqual((RunState.LOST, EndRecord.MISSING), (status.state, status.record))
        self.assertIn("it never began", status.reason)
        self.folder.rename(self.folder.with_suffix(".gone"))
        self.addCleanup(self.folder.with_suffix(".gone").rename, self.folder)
        status = await self.status("55:j1")
        self.assertEqual((RunState.LOST, EndRecord.UNREADABLE), (status.state, status.record))
        self.assertIn("Slurm has forgotten the job", status.reason)

    async def test_a_forgotten_job_that_began_and_left_no_end_was_killed(self):
        (self.folder / "j1.claim").write_text("55")
        status = await self.status("55:j1")
        self.assertEqual((RunState.FAILED, EndRecord.MISSING), (status.state, status.record))
        self.assertIn("killed (SIGKILL)", status.reason)

    async def test_files_that_belong_to_somebody_else_are_not_taken_for_none(self):
        self.folder.chmod(0o755)
        [ref] = await self.begin("j1")
        self.client.become(101, state="COMPLETED", nodes="n7", exit_code=0)
        for name, text in (("other.claim", "9"), ("j1.claim", "101"), ("j1.end", '{"x": 1}')):
            (self.folder / name).write_text(text)
        for name in ("j1.claim", "j1.end"):
            (self.folder / name).chmod(0o600)
        with as_an_ordinary_user():
            self.assertIs(EndRecord.UNREADABLE, self.executor._folder.record("j1"))
            ended = self.executor._folder.end(ref, "j1")
        self.assertEqual((RunState.LOST, EndRecord.UNREADABLE), (ended.state, ended.record))

    async def test_why_the_cluster_stopped_a_forgotten_job_is_in_its_output(self):
        due = {
            " DUE TO TIME LIMIT": (RunState.TIMEOUT, "stopped at its time limit"),
            " DUE TO PREEMPTION": (RunState.FAILED, "made way for a job of higher priority"),
            " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS": (
                RunState.FAILED,
                "the node failed (n1)",
            ),
            "": (RunState.CANCELLED, "cancelled on the cluster, not from here"),
        }
        (self.folder / "j1.claim").write_text("55")
        for end in ("", '{"exit_code": 143, "stopped": true}'):
            for words, (state, reason) in due.items():
                with self.subTest(words + end):
                    line = f"*** JOB 55 ON n1 CANCELLED AT 2026-01-02T03:04:05{words} ***\n"
                    other = line.replace("55", "54").replace(words, " DUE TO TIME LIMIT")
                    said = f"slurmstepd: error: {line}slurmstepd-n1: error: {other}last\n"
                    (self.folder / "j1.err").write_text(said)
                    (self.folder / "j1.end").write_text(end)
                    status = await self.status("55:j1")
                    self.assertEqual(state, status.state)
                    self.assertIn(reason, status.reason)

    async def test_the_last_stop_of_the_job_itself_is_the_reason_and_no_other(self):
        at = "CANCELLED AT 2026-01-02T03:04:05"
        preempted = f"JOB 55 ON n1 {at} DUE TO PREEMPTION"
        node_failed = f"JOB 55 ON n1 {at} DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"
        killed = (RunState.FAILED, "killed (SIGKILL)")
        for lines, (state, reason) in (
            ([preempted, node_failed], (RunState.FAILED, "the node failed")),
            ([node_failed, preempted], (RunState.FAILED, "made way")),
            ([preempted, f"JOB 55 ON n1 {at} DUE TO JOB REQUEUE"], killed),
            ([preempted, "JOB 55 ON n1 UNCORRECTABLE MEMORY ERROR AT 2026-01-02T03:04:05"], killed),
            ([preempted, f"JOB 55 ON n1 {at} DUE to SIGNAL Killed"], killed),
            ([f"STEP 55.3 ON n1 {at} DUE TO TIME LIMIT"], killed),
            ([f"STEP 55.3 ON n1 {at}"], killed),
            ([f"STEP 55.interactive ON n1 {at}"], killed),
            ([preempted, f"STEP 55.0 ON n1 {at}"], (RunState.FAILED, "made way")),
            ([f"JOB 551 ON n1 {at} DUE TO TIME LIMIT"], killed),
            (
                [
                    f"JOB 55 ON n1 {at} DUE TO TIME LIMIT",
                    "JOB 55 STEPD TERMINATED ON n1 AT 2026-01-02T03:06:05 DUE TO JOB NOT RUNNING",
                ],
                (RunState.TIMEOUT, "stopped at its time limit"),
            ),
        ):
            for start in ("slurmstepd:", "[2026-01-02T03:04:05.010]"):  # Slurm 22.05, 26.05
                with self.subTest(lines, start=start):
                    said = "".join(f"{start} error: *** {line} ***\n" for line in lines)
                    (self.folder / "j1.claim").write_text("55")
                    (self.folder / "j1.err").write_text(said)
                    status = await self.status("55:j1")
                    self.assertEqual(state, status.state)
                    self.assertIn(reason, status.reason)

    async def test_a_forgotten_job_that_a_user_cancelled_is_cancelled(self):
        for name, text in (("claim", "55"), ("cancel", "")):
            (self.folder / f"j1.{name}").write_text(text)
        for text in ("", '{"exit_code": 143, "stopped": true}'):
            with self.subTest(text):
                (self.folder / "j1.end").write_text(text)
                status = await self.status("55:j1")
                self.assertEqual((RunState.CANCELLED, ""), (status.state, status.reason))

    async def test_an_end_that_slurm_listed_is_remembered_when_it_is_forgotten(self):
        [ref] = await self.begin("j1")
        self.client.become(101, state="TIMEOUT", nodes="n7", time_limit_minutes=5)
        listed = await self.status(ref)
        self.client.listed.clear()
        self.assertEqual(listed, await self.status(ref))
        self.assertEqual([], self.client.past_questions)

    async def test_a_success_comes_with_what_the_job_left(self):
        [ref] = await self.begin("j1")
        self.client.become(101, state="COMPLETED", nodes="n7", exit_code=0)
        other = self.folder / "other.claim"
        for name, text, record, doubt in (
            ("j1.none", "", EndRecord.UNREADABLE, f"cannot read the job's files in {self.folder}"),
            (other.name, "9", EndRecord.MISSING, "no sign of having run on n7: check slurmd there"),
            ("j1.claim", "101", EndRecord.BEGUN, "began on n7, left no record of its end"),
            ("j1.end", '{"exit_code": 143}', EndRecord.BEGUN, "left no record"),
            ("j1.end", '{"exit_code": 0}', EndRecord.FOUND, ""),
        ):
            with self.subTest(name):
                (self.folder / name).write_text(text)
                status = await self.status(ref)
                self.assertEqual((RunState.COMPLETED, record), (status.state, status.record))
                self.assertIn(doubt, status.doubt)
        (self.folder / "j1.end").unlink()
        (self.folder / "j1.claim").unlink()
        self.client.become(101, standard_output="/former/logs/j1.out")
        status = await self.status(ref)
        self.assertIs(EndRecord.UNREADABLE, status.record, "it was sent with another folder")
        (self.folder / "j1.claim").write_text("101")
        self.client.become(101, standard_output=f"{self.folder}/j1.out", restarts=1)
        status = await self.status(ref)
        self.assertIs(EndRecord.MISSING, status.record, "an earlier run proves nothing")

    async def test_a_job_that_was_queued_again_began_if_its_last_run_left_something(self):
        [ref] = await self.begin("j1")
        started = datetime.now(UTC).replace(microsecond=0)
        self.client.become(101, state="COMPLETED", nodes="n7", exit_code=0, restarts=1)
        (self.folder / "j1.claim").write_text("101")
        self.assertIs(EndRecord.MISSING, (await self.status(ref)).record)
        for ending in ("script", "request.json"):
            file = self.folder / f"j1.{ending}"
            file.write_text("{}")
            for seconds, time, record in (
                (0, started, EndRecord.BEGUN),
                (-30, started, EndRecord.BEGUN),
                (-120, started, EndRecord.MISSING),
                (0, None, EndRecord.MISSING),
            ):
                with self.subTest(ending, seconds=seconds, started=time):
                    self.client.become(101, started=time)
                    written = started.timestamp() + seconds
                    os.utime(file, (written, written))
                    self.assertIs(record, (await self.status(ref)).record)
            file.unlink()

    async def test_a_job_with_which_the_controller_did_not_come_back_is_submitted_again(self):
        refs = await self.begin("j1", "j2", "j3")
        self.client.become(102, state="RUNNING")
        await self.executor.statuses(refs)
        (self.folder / "j2.claim").write_text("102")
        self.client.listed.clear()
        with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
            found = await self.executor.statuses(refs)
        self.assertIn("lost by the cluster", found[refs[0]].reason)
        self.assertEqual(
            [found[ref].state for ref in refs],
            [RunState.PENDING, RunState.FAILED, RunState.PENDING],
            "one that began is not begun again",
        )
        self.assertEqual(len(self.client.submissions), 5)
        self.assertNotIn(found[refs[0]].ref, refs, "it has another number now")
        found = await self.executor.statuses(refs)
        self.assertIn("waits for the scheduler", found[refs[0]].reason)
        await self.executor.cancel(refs[0])
        self.client.listed.clear()
        self.assertEqual((await self.status(refs[0])).state, RunState.CANCELLED)

    async def test_a_job_that_ended_and_was_forgotten_is_not_submitted_again(self):
        for state in ("CANCELLED", "COMPLETED", "NODE_FAIL"):
            with self.subTest(state):
                [ref] = await self.begin(f"j-{state}")
                number = int(ref.split(":")[0])
                self.client.become(number, state=state)
                await self.executor.statuses([ref])
                del self.client.listed[number]
                sent = len(self.client.submissions)
                await self.executor.statuses([ref])
                self.assertEqual(len(self.client.submissions), sent)

    async def test_a_job_that_is_cancelled_while_it_is_submitted_again_does_not_run(self):
        [ref] = await self.begin("a")
        del self.client.listed[101]
        looking = asyncio.create_task(self.executor.statuses([ref]))
        while not self.client.at_once:
            await asyncio.sleep(0)
        await self.executor.cancel(ref)
        await looking
        self.assertEqual(self.client.listed[102].state, "CANCELLED")
        self.assertEqual((await self.status(ref)).state, RunState.CANCELLED)

    async def test_a_job_that_cannot_be_submitted_again_yet_waits(self):
        [ref] = await self.begin("j1")
        self.client.listed.clear()
        self.client.faults = [DOWN, LOST]
        self.client.keep_lost = False
        for _ in range(3):
            with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
                status = await self.status(ref)
            self.assertEqual(status.state, RunState.PENDING)

    async def test_a_job_that_was_long_since_written_down_is_not_submitted_again(self):
        self.executor = self.make(keep=0)
        [ref] = await self.begin("j1")
        await self.status(ref)
        self.client.listed.clear()
        self.assertEqual((await self.status(ref)).state, RunState.LOST)
        self.assertEqual(len(self.client.submissions), 1)

    async def test_a_service_that_starts_again_cancels_by_the_mark(self):
        [ref] = await self.begin("j1")
        self.client.listed[900] = replace(self.client.listed.pop(101), job_id=900)
        self.executor = self.make()
        await self.executor.cancel(ref)
        self.assertEqual(self.client.cancelled, [900])

    async def test_another_job_with_the_same_number_is_not_taken_for_ours(self):
        self.client.listed[55] = SlurmJob(55, "RUNNING", comment="aind-data-transfer-service:other")
        self.assertEqual((await self.status("55:j1")).state, RunState.LOST)
        await self.executor.cancel("55:j1")
        self.assertEqual(self.client.cancelled, [])

    async def test_a_job_that_came_twice_is_followed_where_it_runs(self):
        [ref] = await self.begin("j1")
        self.client.listed[300] = replace(self.client.listed[101], job_id=300, state="RUNNING")
        (self.folder / "j1.claim").write_text("300")
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            self.assertEqual((await self.status(ref)).state, RunState.RUNNING)
        self.assertEqual(self.client.cancelled, [101])

    async def test_a_duplicate_that_may_not_be_cancelled_leaves_the_others_followed(self):
        first, second = await self.begin("a", "b")
        number = int(first.partition(":")[0])
        comment = self.client.listed[number].comment
        self.client.listed[900] = SlurmJob(900, "RUNNING", comment=comment, submitted=NOW)
        self.client.become(int(second.partition(":")[0]), state="RUNNING")
        self.client.refusal = Refused("Access/permission denied")
        for _ in range(2):
            found = await self.executor.statuses([first, second])
        self.assertEqual(found[first].state, RunState.RUNNING, "it may have left its claim")
        self.assertEqual(found[second].state, RunState.RUNNING)
        self.assertEqual(self.client.cancelled, [101])

    async def test_a_mark_that_another_user_copied_is_disregarded(self):
        [ref] = await self.begin("a")
        number = int(ref.partition(":")[0])
        ours = replace(self.client.listed.pop(number), user="svc", user_id=1000)
        copied = SlurmJob(900, "COMPLETED", comment=ours.comment, user="eve", exit_code=0)
        unnamed = replace(copied, job_id=901, state="RUNNING", user="svc", user_id=1001)
        self.client.listed |= {900: copied, 901: unnamed, number: ours}
        (self.folder / "a.claim").write_text("901\n")
        self.assertEqual((await self.status(ref)).state, RunState.PENDING)
        self.assertEqual(self.client.cancelled, [])

    async def test_a_running_job_finds_word_of_a_cancellation_before_slurm_ends_it(self):
        running, ended = await self.begin("j1", "j2")
        self.client.become(102, state="COMPLETED")
        seen = []
        cancel = self.client.cancel

        async def look_and_cancel(number):
            seen.append(sorted(path.name for path in self.folder.glob("*.cancel")))
            return await cancel(number)

        self.client.cancel = look_and_cancel
        await self.executor.cancel(running)
        await self.executor.cancel(ended)
        self.assertEqual(seen, [["j1.cancel"]])
        self.assertEqual([path.name for path in self.folder.glob("*.cancel")], ["j1.cancel"])

    async def test_word_of_a_cancellation_is_written_through_no_link(self):
        [ref] = await self.begin("j1")
        (self.folder / "j1.cancel").symlink_to(self.folder / "elsewhere")
        await self.executor.cancel(ref)
        self.assertFalse((self.folder / "elsewhere").exists())
        self.assertEqual(self.client.cancelled, [101])

    async def test_a_folder_of_logs_that_is_not_here_hinders_no_cancellation(self):
        [ref] = await self.begin("j1")
        self.addCleanup(self.folder.mkdir)
        self.folder.rmdir()
        await self.executor.cancel(ref)
        self.assertEqual(self.client.cancelled, [101])

    async def test_who_cancelled_is_told_apart(self):
        here, there = await self.begin("j1", "j2")
        await self.executor.cancel(here)
        self.client.become(102, state="CANCELLED")
        self.assertEqual((await self.status(here)).reason, "")
        self.assertIn("not from here", (await self.status(there)).reason)
        self.assertEqual(self.client.cancelled, [101])
        await self.executor.cancel(there)
        self.assertEqual(self.client.cancelled, [101], "it had ended")

    async def test_jobs_that_others_started_are_told_of_without_a_further_question(self):
        self.executor = self.make(clock=lambda: 0.0)
        refs = await self.begin("j1")
        self.client.listed[500] = SlurmJob(500, "RUNNING", user="svc", name="theirs")
        await self.executor.statuses(refs)
        looks = self.client.looks
        others = await self.executor.others(ask=False)
        self.assertEqual([(500, "theirs")], [(job.number, job.name) for job in others.jobs])
        self.assertEqual(looks, self.client.looks)
        del self.client.listed[500]
        self.assertEqual(0, (await self.executor.others(ask=True)).total)

    async def test_health_is_whether_a_controller_answers(self):
        self.assertEqual(await self.executor.statuses([]), {})
        self.client.controllers = [Pinged("ctl", False)]
        with self.assertRaisesRegex(ExecutorError, "no controller of the cluster does: ctl"):
            await self.executor.statuses([])
        self.client.down = DOWN
        with self.assertRaisesRegex(ExecutorError, "cannot be reached"):
            await self.executor.statuses([])

    async def test_a_reference_of_another_executor_is_refused_in_words(self):
        for ref in ("01jabc", "../1", "1:../x", "1:", ""):
            with self.subTest(ref), self.assertRaisesRegex(ExecutorError, "no reference"):
                await self.executor.cancel(ref)
        self.assertIn("none of this service's", (await self.status("404")).reason)


class FilesTest(SlurmTest):
    """The folder of logs."""

    async def test_a_folder_that_cannot_be_seen_is_told_when_the_service_starts(self):
        shutil.rmtree(self.folder)
        with self.assertLogs(
            "aind_data_transfer_service.executors.slurm.executor", "WARNING"
        ) as logs:
            await self.executor.open()
        self.folder.mkdir()
        self.assertIn("HPC_LOGGING_DIRECTORY", logs.output[0])

    async def test_links_and_pipes_are_not_followed(self):
        (self.folder / "j1.out").symlink_to("/proc/self/environ")
        os.mkfifo(self.folder / "j1.err")
        (self.folder / "j1.events.jsonl").mkdir()
        (self.folder / "j1.claim").symlink_to("/etc/hostname")
        for file in ("stdout", "stderr", "events"):
            with self.subTest(file), self.assertRaisesRegex(ExecutorError, "cannot be read"):
                await self.executor.read("101:j1", file, 0, 10)
        self.assertEqual(await self.begin("j1"), ["101:j1"])

    async def test_a_file_is_read_in_pieces(self):
        (self.folder / "j1.out").write_bytes(b"0123456789")
        piece = await self.executor.read("9:j1", "stdout", -4, 2)
        self.assertEqual((piece.data, piece.offset, piece.size), (b"67", 6, 10))
        self.assertEqual((await self.executor.read("9:j1", "stderr", 5, 2)).size, 0)
