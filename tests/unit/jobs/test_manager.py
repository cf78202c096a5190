"""The door to jobs: submission, cancelling, resubmission, logs; and the monitor behind it."""

import asyncio
import json
from itertools import count
from unittest.mock import patch

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import (
    ExecutorError,
    JobError,
    JobNotFound,
    SubmissionError,
    TransferServiceError,
)
from aind_data_transfer_service.executors.base import FileChunk, RunState, RunStatus, Started
from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.jobs import reconciler
from aind_data_transfer_service.jobs.leader_election import LeaseTiming
from aind_data_transfer_service.jobs.manager import HpcJobRequest, JobManager
from aind_data_transfer_service.jobs.states import ENDED, JobState
from aind_data_transfer_service.jobs.store import threads
from aind_data_transfer_service.jobs.store.job_store import JobQuery, JobStore
from aind_data_transfer_service.redaction import learn
from aind_data_transfer_service.server.application import create_manager
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import slow
from tests.support.jobs import NOON, ToldExecutor, a_job, event_line
from tests.support.mailbox import Mailbox
from tests.support.manager import ManagerTest
from tests.support.spreadsheets import shared_reader

SCRIPT = "#!/bin/bash\necho hi\n"


class SubmissionTest(ManagerTest):
    """All of a request's jobs, or none."""

    async def test_the_executor_is_told_the_bucket_that_a_job_writes_to(self):
        named = await self.submit(s3_bucket="aind-open-data")
        usual = await self.submit(subject_id="2")
        script = await self.manager.submit_hpc([HpcJobRequest("{}", '{"name": "x"}', SCRIPT)])
        ids = (named, usual, script.responses[0]["job_id"])
        buckets = [self.executor.specs[job_id].bucket for job_id in ids]
        self.assertEqual(["aind-open-data", "data", ""], buckets)

    async def test_a_job_is_recorded_and_handed_over(self):
        submission = await self.manager.submit_basic([self.request()])
        [response] = submission.responses
        name = "behavior_690165_2024-02-19_11-25-17"
        self.assertEqual((response["name"], response["state"]), (name, "PENDING"))
        self.assertEqual(response["slot"], 1, "what the executor answered is passed on")
        job = await self.manager.get(response["job_id"])
        self.assertEqual(job.location, f"{self.folder}/destination/data/{name}")
        self.assertEqual((job.executor, job.executor_ref), ("told", f"ref-{job.id}"))
        self.assertEqual((job.submitter, job.modalities), ("Anna Apple", "behavior"))
        request = json.loads(self.executor.specs[job.id].request)
        self.assertEqual(request["s3_bucket"], "data", "the default is filled in")
        self.assertEqual(request["acq_datetime"], "2024-02-19T11:25:17")

    async def test_times_with_an_offset_become_the_labs(self):
        job_id = await self.submit(acq_datetime="2024-02-19T19:25:17Z")
        job = await self.manager.get(job_id)
        self.assertEqual(job.acq_datetime, "2024-02-19T11:25:17")

    async def test_the_instant_is_kept_in_the_hour_that_the_clock_shows_twice(self):
        for sent, local in (
            ("2024-11-03T08:30:00Z", "2024-11-03T01:30:00-07:00"),
            ("2024-11-03T01:31:00-08:00", "2024-11-03T01:31:00-08:00"),
        ):
            job = await self.manager.get(await self.submit(acq_datetime=sent))
            self.assertEqual(job.acq_datetime, local)
            request = json.loads(self.executor.specs[job.id].request)
            self.assertEqual(request["acq_datetime"], local)

    async def test_two_sessions_with_one_name_are_refused(self):
        times = ("2024-11-03T01:30:00-07:00", "2024-11-03T01:30:00-08:00")
        submission = await self.manager.submit_basic(
            [self.request(acq_datetime=moment) for moment in times]
        )
        [error] = submission.errors
        self.assertRegex(error, "^job 2: the same asset name as job 1 .* another session: ")
        self.assertIn(" and ".join(times), error)
        self.assertIn("if both times are exact, give one of them another s3_bucket", error)

    @slow
    async def test_one_bad_job_and_nothing_is_recorded(self):
        submission = await self.manager.submit_basic(
            [self.request(), self.request(platform="x"), "{"]
        )
        self.assertEqual((submission.stage, submission.responses), ("parse", []))
        self.assertTrue(any(text.startswith("job 2, platform") for text in submission.errors))
        self.assertTrue(any(text.startswith("job 3") for text in submission.errors))
        self.assertEqual((await self.manager.find()).total, 0)
        self.assertEqual(self.executor.specs, {})

    async def test_the_checks_decide_too_and_warnings_are_kept_with_the_job(self):
        gone = {"modality": "behavior", "source": f"{self.source}/gone"}
        submission = await self.manager.submit_basic([self.request(modalities=[gone])])
        self.assertEqual(submission.stage, "ok")
        [warning] = submission.warnings
        job = await self.manager.get(submission.responses[0]["job_id"])
        self.assertEqual(job.warnings, (warning,))
        await self.restart(source_roots=[self.source.parent / "roots"])
        submission = await self.manager.submit_basic([self.request(subject_id="2")])
        self.assertEqual(submission.stage, "parse")

    async def test_the_same_asset_twice_in_a_request_is_refused(self):
        submission = await self.manager.submit_basic(
            [self.request(), self.request(s3_bucket="data")]
        )
        self.assertEqual(submission.stage, "parse")
        self.assertRegex(submission.errors[0], "job 2: the same asset as job 1")

    @slow
    async def test_two_submissions_of_one_asset_at_once_name_the_job_in_flight(self):
        results = await asyncio.gather(
            *(self.manager.submit_basic([self.request()]) for _ in range(6))
        )
        [winner] = [one for one in results if one.stage == "ok"]
        job_id = winner.responses[0]["job_id"]
        for loser in results:
            if loser is not winner:
                self.assertEqual((loser.stage, loser.responses), ("parse", []))
                self.assertRegex(loser.errors[0], f"job 1: job {job_id} is bringing .* cancel it")
        self.assertEqual(len(self.executor.specs), 1)

    @slow
    async def test_a_job_that_the_executor_refuses_has_failed_and_the_others_go_on(self):
        original = self.executor.start

        async def refuse_first(specs):
            self.executor.refusals = {specs[0].job_id: "no such partition"}
            return await original(specs)

        self.executor.start = refuse_first
        submission = await self.manager.submit_basic([self.request(), self.request(subject_id="2")])
        self.assertEqual(submission.stage, "executor")
        first, second = submission.responses
        self.assertEqual((first["state"], second["state"]), ("FAILED", "PENDING"))
        self.assertIn("no such partition", first["error"])
        self.assertEqual(len(submission.errors), 1)
        job = await self.manager.get(first["job_id"])
        self.assertEqual((job.state, job.reason), (JobState.FAILED, "no such partition"))

    async def test_jobs_wait_for_an_executor_that_does_not_answer(self):
        self.executor.silent = "the cluster does not answer"
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            submission = await self.manager.submit_basic([self.request()])
        self.assertEqual(("ok", []), (submission.stage, submission.errors))
        self.assertIn("are saved and start once this is resolved", submission.warnings[0])
        job_id = submission.responses[0]["job_id"]
        self.assertEqual((await self.manager.get(job_id)).state, JobState.SUBMITTED)
        self.executor.silent = ""
        await self.until(job_id, JobState.PENDING)
        self.assertEqual(list(self.executor.specs), [job_id])

    async def test_somebody_who_goes_away_does_not_leave_a_job_half_submitted(self):
        gate = asyncio.Event()
        original = self.executor.start

        async def slow(specs):
            await gate.wait()
            return await original(specs)

        self.executor.start = slow
        task = asyncio.create_task(self.manager.submit_basic([self.request()]))
        await self.until_true(lambda: self._recorded())
        await asyncio.sleep(0.05)
        task.cancel()
        gate.set()
        [job] = (await self.manager.find()).jobs
        await self.until(job.id, JobState.PENDING)
        self.assertEqual(list(self.executor.specs), [job.id])

    async def _recorded(self):
        return (await self.manager.find()).total

    @slow
    async def test_a_job_that_waits_for_a_process_to_take_the_lease_says_so(self):
        await self.manager.stop()
        first, second = (
            JobManager(
                self.manager.settings,
                executor=self.executor,
                spreadsheets=shared_reader(),
                timing=LeaseTiming(ttl=1.0, margin=0.2, interval=interval),
            )
            for interval in (0.2, 3600)
        )
        await first.start()
        self.manager = second  # stopped in the end
        await second.start()
        submission = await second.submit_basic([self.request()])
        self.assertEqual(("ok", []), (submission.stage, submission.warnings))
        await first.stop()
        await self.until_true(lambda: self._has_no_leader(second))
        submission = await second.submit_basic([self.request(subject_id="2")])
        [warning] = submission.warnings
        self.assertRegex(warning, "^no process of the service runs jobs now: .*; the job starts")
        job = await second.get(submission.responses[0]["job_id"])
        self.assertEqual((JobState.SUBMITTED, warning), (job.state, job.reason))
        self.manager = self.make()
        await second.stop()
        await self.manager.start()
        job = await self.until(job.id, JobState.PENDING)
        self.assertEqual("", job.reason)

    @staticmethod
    async def _has_no_leader(manager):
        return not manager.leader.active_name

    async def test_a_store_that_cannot_be_opened_is_told_in_words_without_its_password(self):
        (self.folder / "file").touch()
        for change in (
            {"data_dir": self.folder / "file" / "below"},
            {"database_url": "postgresql://anna:hunter2@127.0.0.1:1/jobs"},
        ):
            with self.subTest(change), self.assertRaises(TransferServiceError) as caught:
                await self.make(**change).start()
            self.assertRegex(str(caught.exception), "^the store of jobs cannot be opened: .")
            self.assertNotIn("hunter2", str(caught.exception))

    async def test_jobs_of_which_nothing_is_decided_are_handed_over_again(self):
        original = self.executor.start

        async def lose_first(specs):
            taken = await original(specs[1:])
            return [Started(specs[0].job_id, error="the answer was lost", again=True), *taken]

        self.executor.start = lose_first
        submission = await self.manager.submit_basic([self.request(), self.request(subject_id="2")])
        self.executor.start = original
        first, second = submission.responses
        self.assertEqual((first["state"], second["state"]), ("SUBMITTED", "PENDING"))
        self.assertEqual(("ok", []), (submission.stage, submission.errors))
        [warning] = submission.warnings
        self.assertIn(first["job_id"], warning)
        self.assertIn("saved and start", warning)
        await self.until(first["job_id"], JobState.PENDING)


class HpcSubmissionTest(ManagerTest):
    """Jobs with settings and scripts of their own."""

    async def hpc(self, *items: HpcJobRequest):
        return await self.manager.submit_hpc(items)

    async def test_an_empty_script_is_the_data_transfer_job(self):
        submission = await self.hpc(HpcJobRequest(self.request(), '{"qos": "dev"}', ""))
        self.assertEqual(submission.stage, "ok", submission.errors)
        [spec] = self.executor.specs.values()
        self.assertEqual((spec.script, spec.settings), ("", {"qos": "dev"}))
        self.assertIn("690165", spec.request)

    async def test_a_script_alone_is_a_job_by_the_name_that_it_gives(self):
        for empty in ("{}", "", " { } "):
            submission = await self.hpc(HpcJobRequest(empty, '{"name": " my job "}', SCRIPT))
            self.assertEqual(submission.responses[0]["name"], "my job", submission.errors)
        job = await self.manager.get(submission.responses[0]["job_id"])
        self.assertEqual((job.location, job.upload_job_settings), ("", ""))
        self.assertEqual(self.executor.specs[job.id].script, SCRIPT)

    async def test_a_script_with_upload_settings_is_the_job_of_that_asset(self):
        script = SCRIPT.replace("\n", "\r\n")
        submission = await self.hpc(HpcJobRequest(self.request(), "{}", script))
        [spec] = self.executor.specs.values()
        self.assertEqual((spec.script, spec.request), (SCRIPT, ""))
        self.assertEqual(submission.responses[0]["name"], "behavior_690165_2024-02-19_11-25-17")

    async def test_all_that_is_wrong_is_told_at_once(self):
        submission = await self.hpc(
            HpcJobRequest("{}", "{}", ""),
            HpcJobRequest(self.request(), "[]", "echo"),
            HpcJobRequest(self.request(platform="x"), "{", ""),
            HpcJobRequest("{}", '{"name": "a\\nb"}', SCRIPT + "\0"),
            HpcJobRequest(
                self.request(subject_id="5"),
                '{"mail_user": "a b", "mail_type": ["END", "LATER", 3]}',
            ),
            HpcJobRequest("{}", '{"name": "x", "mail_type": 7}', "#!" + "x" * 2**20),
            HpcJobRequest("[" * 100_000, "[" * 100_000, ""),
        )
        self.assertEqual(submission.stage, "parse")
        said = "\n".join(submission.errors)
        for pattern in (
            "job 1, upload_job_settings: empty, and there is no script",
            "job 1, hpc_settings.name: missing",
            "job 2, hpc_settings: not a JSON object",
            'job 2, script: does not begin with "#!"',
            "job 3, platform",
            "job 3, hpc_settings: not JSON",
            "job 4, hpc_settings.name: .*is no name",
            "job 4, script: holds a line break or control character",
            'job 5, hpc_settings.mail_user: "a b" is no e-mail address',
            'job 5, hpc_settings.mail_type: "LATER" is unknown; known are BEGIN, END',
            "job 5, hpc_settings.mail_type: 3 is unknown",
            "job 6, hpc_settings.mail_type: 7",
            "job 6, script: longer than",
            "job 7",
        ):
            self.assertRegex(said, pattern)

    async def test_nobody_is_mailed_whom_a_mailer_would_take_for_something_else(self):
        for user in ("-Sa@b.org", "|id@b.org", "/etc/x@b.org", "a@b.org\0", "a@b.org,c@d.org"):
            with self.subTest(user):
                settings = json.dumps({"mail_user": user, "mail_type": "ALL"})
                submission = await self.hpc(HpcJobRequest(self.request(), settings))
                words = "mail_user: .* is no e-mail address|control .* in mail_user"
                self.assertRegex(submission.errors[0], words)
        self.assertEqual(0, self.manager.store.find().total)

    async def test_mail_choices_are_accepted_with_a_warning_that_nothing_is_sent_here(self):
        for number, kinds in enumerate((["BEGIN", "ALL"], "END, FAIL")):
            settings = json.dumps({"mail_user": "anna@lab.org", "mail_type": kinds})
            submission = await self.hpc(
                HpcJobRequest(self.request(subject_id=str(number)), settings)
            )
            self.assertEqual(submission.stage, "ok", submission.errors)
            self.assertIn("job 1, mail_type: no e-mails are sent", submission.warnings[0])

    async def test_on_a_cluster_mails_are_sent_and_what_it_is_asked_is_checked(self):
        hpc = HpcSettings(
            host="slurm",
            username="svc",
            token="t",
            current_working_directory="/hpc",
            logging_directory="/logs",
        )
        await self.restart(hpc=hpc, destination=str(self.folder / "destination"))
        good = json.dumps({"mail_user": "anna@lab.org", "mail_type": ["END"], "time_limit": "90"})
        submission = await self.hpc(HpcJobRequest(self.request(), good))
        self.assertEqual((submission.stage, submission.warnings), ("ok", []))
        bad = json.dumps({"tme_limit": 1, "environment": {"A": "b"}, "mail_type": "LATER"})
        submission = await self.hpc(HpcJobRequest(self.request(subject_id="2"), bad))
        self.assertEqual((submission.stage, len(submission.errors)), ("parse", 3))
        self.assertIn("did you mean time_limit?", "".join(submission.errors))

    @slow
    async def test_scripts_are_off_on_this_machine_unless_the_setting_allows_them(self):
        allowed = await self.hpc(HpcJobRequest(self.request(), "{}", SCRIPT))
        job_id = allowed.responses[0]["job_id"]
        self.executor.tell(job_id, RunState.FAILED)
        await self.until(job_id, JobState.FAILED)
        for given in (False, None):
            await self.restart(allow_custom_scripts=given)
            request = HpcJobRequest(self.request(subject_id="2"), "{}", SCRIPT)
            [error] = (await self.hpc(request)).errors
            self.assertIn("turned off for jobs on this machine", error)
            self.assertIn("ALLOW_CUSTOM_SCRIPTS=true", error)
            with self.assertRaisesRegex(SubmissionError, "ALLOW_CUSTOM_SCRIPTS=true"):
                await self.manager.resubmit(job_id)


class FollowingTest(ManagerTest):
    """The monitor keeps the record in step."""

    @slow
    async def test_text_that_is_recorded_otherwise_than_it_came_changes_nothing_again(self):
        learn("proxy-t0ken-of-the-lab")
        reasons = ("sent by proxy-t0ken-of-the-lab", "a long one " * 900, "half \ud83d", "a \0")
        for state in (RunState.PENDING, RunState.RUNNING):
            ids = [await self.submit(subject_id=str(690001 + n)) for n in range(len(reasons))]
            for job_id, reason in zip(ids, reasons):
                self.executor.tell(job_id, state, reason=reason, node=reason)
            await self.until(ids[-1], JobState(state.value))
            await self.manager._term.monitor.look()
            changed = {one.id: one.updated_at for one in (await self.manager.find()).jobs}
            for _ in range(2):
                self.assertFalse(await self.manager._term.monitor.look())
            for job_id in ids:
                job = await self.manager.get(job_id)
                self.assertEqual(changed[job_id], job.updated_at, job.reason)
                self.assertNotIn("proxy-t0ken", job.reason + job.node)
                self.executor.tell(job_id, RunState.COMPLETED)
            await self.until(ids[-1], JobState.COMPLETED)

    async def test_jobs_of_which_the_executor_knows_nothing_yet_stay_as_they_were(self):
        told, untold = await self.submit(), await self.submit(subject_id="2")
        for job_id in (told, untold):
            self.executor.tell(job_id, RunState.RUNNING, node="n1")
            await self.until(job_id, JobState.RUNNING)
        statuses = self.executor.statuses

        async def answer(refs):
            found = await statuses(refs)
            return {ref: status for ref, status in found.items() if ref != f"ref-{untold}"}

        self.executor.statuses = answer
        for job_id in (told, untold):
            self.executor.tell(job_id, RunState.FAILED, exit_code=3, decisive=True)
        await self.until(told, JobState.FAILED)
        self.assertEqual(JobState.RUNNING, (await self.manager.get(untold)).state)
        self.executor.statuses = statuses
        await self.until(untold, JobState.FAILED)

    async def test_a_job_is_followed_to_its_end(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING, started_at=NOON)
        self.executor.write(job_id, "events", event_line("preflight", "start"))
        self.executor.write(
            job_id, "events", event_line("transfer", "progress", bytes_done=3, seconds_left=9)
        )
        job = await self.until(job_id, JobState.RUNNING)
        self.assertEqual((job.step, job.bytes_done, job.seconds_left), ("transfer", 3, 9.0))
        self.assertEqual(job.started_at, NOON)
        self.executor.write(job_id, "events", event_line("done", "end")[:-1])
        self.executor.tell(job_id, RunState.COMPLETED, exit_code=0)
        job = await self.until(job_id, JobState.COMPLETED)
        self.assertEqual((job.step, job.seconds_left, job.exit_code), ("done", None, 0))
        events = await self.manager.events(job_id)
        self.assertEqual([event.step for event in events], ["preflight", "done"])

    @slow
    async def test_progress_that_the_executor_knows_is_recorded(self):
        job_id = await self.submit()
        progress = {"step": "transfer", "bytes_done": 7, "bytes_total": 9}
        self.executor.tell(job_id, RunState.RUNNING, progress=progress)
        job = await self.until(job_id, JobState.RUNNING)
        self.assertEqual((job.step, job.bytes_done, job.bytes_total), ("transfer", 7, 9))

    @slow
    async def test_where_a_job_runs_and_as_what_is_on_record_as_it_changes(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING, node="node[1-2]")
        job = await self.until(job_id, JobState.RUNNING)
        self.assertEqual((f"ref-{job_id}", "node[1-2]"), (job.executor_ref, job.node))
        ref = f"ref-{job_id}"
        self.executor.statuses_of[ref] = RunStatus("other", RunState.PENDING)
        self.executor.statuses_of["other"] = RunStatus("other", RunState.PENDING)
        job = await self.until(job_id, JobState.PENDING)
        self.assertEqual(("other", ""), (job.executor_ref, job.node))
        self.executor.statuses_of["other"] = RunStatus("other", RunState.RUNNING, node="node3")
        await self.until(job_id, JobState.RUNNING)
        self.executor.statuses_of["other"] = RunStatus("other", RunState.FAILED, "broke")
        self.assertEqual("node3", (await self.until(job_id, JobState.FAILED)).node)

    @slow
    async def test_each_event_is_recorded_once_although_lines_come_in_halves(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING)
        data = b"".join(event_line("transfer", "warning", f"ü{n}") for n in range(20))
        for start in range(0, len(data), 100):
            self.executor.write(job_id, "events", data[start : start + 100])
            await asyncio.sleep(0.01)
        self.executor.tell(job_id, RunState.COMPLETED)
        await self.until(job_id, JobState.COMPLETED)
        events = await self.manager.events(job_id)
        self.assertEqual([event.message for event in events], [f"ü{n}" for n in range(20)])

    async def test_a_line_without_end_does_not_hold_up_what_follows(self):
        job_id = await self.submit()
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            self.executor.write(job_id, "events", b"x" * 2_000_000 + b"\n")
            self.executor.write(job_id, "events", event_line("transfer", "start"))
            self.executor.tell(job_id, RunState.RUNNING)
            await self.until_true(lambda: self.manager.events(job_id))

    async def test_the_reason_is_the_jobs_own_word_even_if_told_long_before(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING)
        self.executor.write(job_id, "events", event_line("preflight", "fail", "no such folder"))
        await self.until_true(lambda: self.manager.events(job_id))
        self.executor.write(job_id, "stderr", b"something else\n")
        self.executor.tell(job_id, RunState.FAILED, exit_code=10)
        job = await self.until(job_id, JobState.FAILED)
        self.assertEqual((job.reason, job.exit_code), ("no such folder", 10))

    async def test_a_job_that_stopped_before_its_time_limit_has_timed_out(self):
        for subject, event, reason in (
            ("1", event_line("transfer", "fail", "3 of 9 bytes are kept"), "3 of 9 bytes are kept"),
            ("2", b"", "stopped before its time limit; submit again with a longer time limit"),
        ):
            job_id = await self.submit(subject_id=subject)
            self.executor.write(job_id, "events", event)
            self.executor.tell(job_id, RunState.FAILED, exit_code=17)
            job = await self.until(job_id, *ENDED)
            self.assertEqual((job.state, job.reason), (JobState.TIMEOUT, reason))
            self.assertEqual(job.exit_code, 17)

    async def test_a_script_gives_its_exit_codes_a_meaning_of_its_own(self):
        for settings in ("{}", self.request()):
            request = HpcJobRequest(settings, '{"name": "a"}', SCRIPT)
            [response] = (await self.manager.submit_hpc([request])).responses
            job_id = response["job_id"]
            self.executor.tell(job_id, RunState.FAILED, exit_code=17)
            job = await self.until(job_id, *ENDED)
            self.assertEqual((job.state, job.exit_code), (JobState.FAILED, 17))

    async def test_the_last_complaint_is_the_reason_where_there_is_no_word(self):
        job_id = await self.submit()
        self.executor.write(job_id, "stderr", b"Traceback\nKeyError: 'x'\n\n")
        self.executor.tell(job_id, RunState.FAILED, exit_code=1)
        self.assertEqual((await self.until(job_id, JobState.FAILED)).reason, "KeyError: 'x'")

    async def test_a_job_killed_after_it_had_told_that_all_was_done_is_completed(self):
        for told_before in (False, True):
            job_id = await self.submit(subject_id=f"7{int(told_before)}")
            self.executor.tell(job_id, RunState.RUNNING)
            self.executor.write(job_id, "events", event_line("done", "end", "verified"))
            if told_before:
                await self.until_true(lambda: self.manager.events(job_id))
            self.executor.tell(job_id, RunState.FAILED, reason="the job's process was killed")
            job = await self.until(job_id, *ENDED)
            self.assertEqual((job.state, job.reason), (JobState.COMPLETED, ""), told_before)

    async def test_a_job_killed_before_that_has_failed(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.RUNNING)
        self.executor.write(job_id, "events", event_line("verify", "end", "proven"))
        await self.until_true(lambda: self.manager.events(job_id))
        self.executor.tell(job_id, RunState.FAILED, reason="the job's process was killed")
        job = await self.until(job_id, *ENDED)
        self.assertEqual(job.reason, "the job's process was killed")

    @slow
    async def test_a_forgotten_job_ends_by_its_own_last_word(self):
        ids = [await self.submit(subject_id=str(number)) for number in (1, 2, 3)]
        self.executor.write(ids[0], "events", event_line("done", "end"))
        self.executor.write(ids[1], "events", event_line("verify", "fail", "differs"))
        for job_id in ids:
            self.executor.tell(job_id, RunState.LOST, reason="forgotten")
        self.assertEqual((await self.until(ids[0], *ENDED)).state, JobState.COMPLETED)
        second = await self.until(ids[1], *ENDED)
        self.assertEqual((second.state, second.reason), (JobState.FAILED, "differs"))
        third = await self.until(ids[2], *ENDED)
        self.assertEqual((third.state, third.reason), (JobState.UNKNOWN, "forgotten"))

    @slow
    async def test_one_question_is_asked_for_all_jobs_and_none_for_no_jobs(self):
        self.assertEqual(self.executor.questions, 0)
        await self.manager.submit_basic([self.request(subject_id=str(n)) for n in range(30)])
        before = self.executor.questions
        await asyncio.sleep(0.2)
        self.assertLess(self.executor.questions - before, 25)

    @patch.object(threads, "_MOST_WAITING", 100)
    async def test_many_jobs_that_ended_between_two_looks_do_not_overload_the_store(self):
        jobs = [a_job(executor="told", executor_ref=f"ref-{n}") for n in range(300)]
        for number in range(len(jobs)):
            self.executor.tell(str(number), RunState.FAILED, exit_code=3)
        with self.assertNoLogs("aind_data_transfer_service.jobs.reconciler", "ERROR"):
            self.manager.store.add(jobs)

            async def have_ended() -> bool:
                return (await self.manager.counts())[JobState.FAILED] == len(jobs)

            await self.until_true(have_ended)

    @slow
    async def test_trouble_is_told_once_and_does_not_stop_the_following(self):
        job_id = await self.submit()
        with self.assertLogs("aind_data_transfer_service", "ERROR") as logs:
            self.executor.silent = "out of order"
            await asyncio.sleep(0.15)
            self.executor.silent = ""
            self.executor.tell(job_id, RunState.COMPLETED)
            await self.until(job_id, JobState.COMPLETED)
        self.assertEqual(len(logs.records), 1)

    async def test_trouble_that_comes_back_is_told_again_in_words_and_so_is_its_end(self):
        await self.submit()
        told = []
        with self.assertLogs("aind_data_transfer_service.jobs.reconciler", "WARNING") as logs:
            for silence in ("out of order", "", "out of order", ""):
                self.executor.silent = silence
                told.append(len(logs.records) + 1)
                await self.until_true(lambda: self.has_said(logs, told[-1]))
                await self.until_true(lambda: self.is_silent(bool(silence)))
        messages = [record.getMessage() for record in logs.records]
        self.assertEqual(
            messages, ["monitor: out of order", "monitor: the jobs are followed again"] * 2
        )
        self.assertEqual([record.exc_info for record in logs.records], [None] * 4)

    @slow
    async def test_one_job_whose_files_cannot_be_read_does_not_hold_up_the_others(self):
        broken, sound = await self.submit(), await self.submit(subject_id="2")
        original = self.executor.read

        async def read(ref, *arguments):
            if ref == f"ref-{broken}":
                raise ExecutorError("its disk is gone")
            return await original(ref, *arguments)

        self.executor.read = read
        with self.assertLogs("aind_data_transfer_service", "ERROR"):
            self.executor.tell(broken, RunState.RUNNING)
            self.executor.tell(sound, RunState.RUNNING)
            await self.until(sound, JobState.RUNNING)

    @slow
    async def test_a_job_that_ended_and_whose_events_cannot_be_read_ends_and_says_so(self):
        for error, words in (
            (ExecutorError("its disk is gone"), "its disk is gone"),
            (TypeError("unhashable"), "cannot be read"),
        ):
            with self.subTest(error=error):
                job_id = await self.submit(subject_id=str(len(words)))
                original = self.executor.read

                async def read(ref, *arguments):
                    if ref == f"ref-{job_id}":
                        raise error
                    return await original(ref, *arguments)

                self.executor.read = read
                with self.assertLogs("aind_data_transfer_service", "ERROR"):
                    self.executor.tell(job_id, RunState.COMPLETED)
                    while not (job := await self.manager.get(job_id)).reason:
                        await asyncio.sleep(0.01)
                self.assertEqual(job.state, JobState.PENDING, "it is tried again for a while")
                self.assertIn(words, job.reason)
                with patch.object(reconciler, "LONGEST_READING", 0):
                    job = await self.until(job_id, *ENDED)
                self.assertEqual(job.state, JobState.COMPLETED)
                self.assertIn(words, job.reason)

    async def test_events_that_can_be_read_again_are_not_lost(self):
        job_id = await self.submit()
        original, failures = self.executor.read, iter(range(2))

        async def read(*arguments):
            if next(failures, None) is not None:
                raise ExecutorError("it is busy")
            return await original(*arguments)

        self.executor.write(job_id, "events", event_line("done", "end"))
        self.executor.read = read
        with self.assertLogs("aind_data_transfer_service", "ERROR"):
            self.executor.tell(job_id, RunState.COMPLETED)
            job = await self.until(job_id, *ENDED)
        self.assertEqual(job.reason, "")
        self.assertEqual(len(await self.manager.events(job_id)), 1)

    @slow
    async def test_events_without_end_hold_up_nobody(self):
        endless, long, sound = [await self.submit(subject_id=str(n)) for n in (1, 2, 3)]
        original = self.executor.read

        async def read(ref, file, offset, limit):
            if ref == f"ref-{endless}" and file == "events":
                return FileChunk(b"\0" * limit, offset, 2**41)
            return await original(ref, file, offset, limit)

        self.executor.read = read
        line = event_line("x", "warning", "m" * 1000)
        self.executor.write(long, "events", line * 6000 + event_line("done", "end"))
        for job_id in (endless, long, sound):
            self.executor.tell(job_id, RunState.COMPLETED)
        for job_id in (sound, long):
            self.assertEqual((await self.until(job_id, *ENDED)).state, JobState.COMPLETED)
        self.assertEqual((await self.manager.events(long))[-1].step, "done")
        with patch.object(reconciler, "LONGEST_READING", 0):
            await self.until(endless, *ENDED)
        self.assertIn("passed over", (await self.manager.events(endless))[0].message)

    async def test_a_job_that_the_executor_stumbles_over_fails_alone(self):
        odd, sound = a_job(name="odd"), a_job(upload_job_settings="[]", script="#!/bin/sh")
        plain = a_job()
        original = self.executor.start

        async def start(specs):
            if any(spec.name == "odd" for spec in specs):
                raise ValueError("odd")
            return await original(specs)

        self.executor.start = start
        with self.assertLogs("aind_data_transfer_service", "ERROR"):
            self.manager.store.add([odd, sound, plain])
            for job, state in ((odd, "FAILED"), (sound, "FAILED"), (plain, "PENDING")):
                self.assertEqual(state, (await self.until(job.id, JobState.PENDING, *ENDED)).state)

    async def test_a_change_that_cannot_be_recorded_leaves_the_others_alone(self):
        odd, sound = await self.submit(), await self.submit(subject_id="2")
        self.executor.tell(sound, RunState.COMPLETED)
        with self.assertLogs("aind_data_transfer_service", "ERROR"):
            self.executor.tell(odd, RunState.FAILED, exit_code=10**30)
            self.assertEqual((await self.until(sound, *ENDED)).state, JobState.COMPLETED)
            job = await self.until(odd, *ENDED)
        self.assertEqual((job.state, job.exit_code), (JobState.FAILED, None))
        self.assertIn("cannot be recorded", job.reason)

    async def test_a_record_that_cannot_be_handed_over_fails_alone(self):
        deep = "{" + '"a": {' * 600 + "}" * 601
        jobs = [a_job(hpc_settings=text) for text in (deep, '{"comment": "\\ud800"}', "{}")]
        self.manager.store.add(jobs)
        states = [(await self.until(job.id, JobState.PENDING, *ENDED)).state for job in jobs]
        self.assertEqual(states, [JobState.FAILED, JobState.FAILED, JobState.PENDING])
        self.assertIn("settings cannot be read", (await self.manager.get(jobs[0].id)).reason)

    async def test_settings_that_no_cluster_can_be_sent_are_refused(self):
        for text, words in (
            ('{"comment": "\\ud800"}', "in comment"),
            ('{"name": "a\\u0000b"}', "in name"),
            ('{"environment": ["A=1", "B=\\u202e"]}', "in environment[1]"),
            ('{"x": {"\\udfff": 1}}', "the name"),
            ("{" + '"a": {' * 20 + "}" * 21, "levels"),
            ("[" * 100_000, "characters"),
            ("[" * 20_000, "not JSON"),
            (json.dumps({"comment": "a" * 70_000}), "characters"),
        ):
            request = HpcJobRequest(self.request(), text)
            submission = await self.manager.submit_hpc([request])
            self.assertEqual(submission.stage, "parse", text[:40])
            self.assertIn("hpc_settings: ", submission.errors[0])
            self.assertIn(words, submission.errors[0])
        sound = HpcJobRequest(self.request(), '{"comment": "Größe\\n\\ud83d\\ude00"}')
        self.assertEqual((await self.manager.submit_hpc([sound])).stage, "ok")

    async def test_changes_are_published(self):
        listener = self.manager.feed.subscribe()
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.COMPLETED)
        states = []
        async for job in listener:
            states.append(job.state)
            if job.state in ENDED:
                break
        self.assertEqual(states[-1], JobState.COMPLETED)
        await self.manager.stop()
        self.assertEqual([job async for job in listener], [])

    async def test_a_service_killed_before_handing_over_does_so_when_it_is_back(self):
        await self.manager.stop()
        store = JobStore(self.manager.settings.resolved_database_url)
        jobs = [a_job() for _ in range(3)]
        store.add(jobs)
        store.close()
        self.manager = self.make()
        await self.manager.start()
        for job in jobs:
            await self.until(job.id, JobState.PENDING)
        self.assertEqual(self.executor.specs[jobs[0].id].request, jobs[0].upload_job_settings)

    async def test_a_store_of_the_callers_own_is_left_open(self):
        await self.manager.stop()
        store = JobStore(self.manager.settings.resolved_database_url)
        self.addCleanup(store.close)
        manager = JobManager(self.manager.settings, store, ToldExecutor(), shared_reader())
        await manager.start()
        await manager.stop()
        self.assertEqual(manager.store.find().total, 0)
        with self.assertRaisesRegex(RuntimeError, "not been started"):
            _ = self.make().store


class CancelTest(ManagerTest):
    """Cancelling, resubmission and logs."""

    async def test_cancelling_is_recorded_and_passed_on_once(self):
        job_id = await self.submit()
        job = await self.manager.cancel(job_id)
        self.assertTrue(job.cancel_requested)
        await asyncio.sleep(0.05)
        self.assertEqual(self.executor.cancelled, [f"ref-{job_id}"])
        self.executor.tell(job_id, RunState.CANCELLED)
        job = await self.until(job_id, JobState.CANCELLED)
        self.assertEqual(job.reason, "cancelled on request")

    @slow
    async def test_a_wish_that_could_not_be_passed_on_is_passed_on_later(self):
        job_id = await self.submit()
        self.executor.silent = "out of order"
        with self.assertLogs("aind_data_transfer_service", "ERROR"):
            with self.assertRaises(ExecutorError):
                await self.manager.cancel(job_id)
            await asyncio.sleep(0.05)
        self.executor.silent = ""
        await self.until_true(lambda: self._passed_on())

    async def _passed_on(self):
        return self.executor.cancelled

    async def test_a_job_that_cannot_be_cancelled_does_not_hold_up_the_others(self):
        stuck, other = [await self.submit(subject_id=str(number)) for number in (1, 2)]
        cancel = self.executor.cancel

        async def refuse(ref):
            if ref == f"ref-{stuck}":
                raise ExecutorError("its folder cannot be read")
            await cancel(ref)

        self.executor.cancel = refuse
        with self.assertLogs("aind_data_transfer_service.jobs.reconciler", "ERROR") as logs:
            with self.assertRaisesRegex(ExecutorError, "cannot be read; the wish is recorded"):
                await self.manager.cancel(stuck)
            await self.until_true(lambda: self.has_said(logs, 1))
            self.executor.tell(other, RunState.COMPLETED)
            self.assertEqual((await self.until(other, *ENDED)).state, JobState.COMPLETED)

    async def record_wishes(self, count: int) -> list[str]:
        """Have many jobs run, and record that they are to be cancelled, as a standby does."""
        requests = [self.request(subject_id=str(number)) for number in range(1, count + 1)]
        submission = await self.manager.submit_basic(requests)
        ids = sorted(response["job_id"] for response in submission.responses)
        for job_id in ids:
            self.manager.store.update(job_id, cancel_requested=True)
        return ids

    @slow
    async def test_many_cancellations_do_not_hold_up_the_following(self):
        self.enterContext(patch.object(reconciler, "_SECONDS_OF_CANCELS", 0.05))
        cancel, busy, most, looks = self.executor.cancel, 0, 0, set()

        async def slowly(ref):
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            looks.add(self.executor.questions)
            await asyncio.sleep(0.02)
            busy -= 1
            await cancel(ref)

        self.executor.cancel = slowly
        ids = await self.record_wishes(60)
        await self.until_true(lambda: self._have_passed_on(ids))
        self.assertEqual(60, len(self.executor.cancelled), "each once")
        self.assertLessEqual(most, 8)
        self.assertGreater(len(looks), 1, "the jobs' states were asked for in between")

    async def _have_passed_on(self, ids):
        return {f"ref-{job_id}" for job_id in ids} <= set(self.executor.cancelled)

    @slow
    async def test_cancellations_that_fail_slowly_leave_time_for_the_others(self):
        self.enterContext(patch.object(reconciler, "_SECONDS_OF_CANCELS", 0.05))
        cancel, bad = self.executor.cancel, set()

        async def fail_slowly(ref):
            if len(bad) < 8 or ref in bad:
                bad.add(ref)
                await asyncio.sleep(0.1)
                raise ExecutorError("its node does not answer")
            await cancel(ref)

        self.executor.cancel = fail_slowly
        with self.assertLogs("aind_data_transfer_service.jobs.reconciler", "ERROR"):
            await self.record_wishes(16)
            await self.until_true(lambda: self._has_passed_on_some(8))
        self.assertFalse(bad & set(self.executor.cancelled))

    async def _has_passed_on_some(self, count):
        return len(self.executor.cancelled) >= count

    async def test_silence_is_noted_before_wishes_are_passed_on(self):
        noted = []

        async def fail(ref):
            noted.append(self.manager.silent_since)
            raise ExecutorError("out of order")

        self.executor.cancel = fail
        job_id = await self.submit()
        with self.assertLogs("aind_data_transfer_service.jobs.reconciler", "ERROR"):
            self.executor.silent = "out of order"
            self.manager.store.update(job_id, cancel_requested=True)
            await self.until_true(lambda: self._has_tried(noted))
        self.assertIsNotNone(noted[0])

    async def _has_tried(self, noted):
        return noted

    async def test_a_backlog_is_handed_over_a_piece_at_each_look(self):
        self.enterContext(patch.object(reconciler, "AT_ONCE", 2))
        running = await self.submit()
        start, calls, looks = self.executor.start, [], []

        async def note(specs):
            calls.append(len(specs))
            looks.append(self.executor.questions)
            return await start(specs)

        self.executor.start = note
        jobs = [a_job() for _ in range(5)]
        self.manager.store.add(jobs)
        for job in jobs:
            await self.until(job.id, JobState.PENDING)
        self.assertEqual([2, 2, 1], calls)
        self.assertEqual(3, len(set(looks)), f"{running} is followed in between")

    async def test_jobs_that_cannot_be_sent_yet_do_not_keep_others_from_their_turn(self):
        self.enterContext(patch.object(reconciler, "AT_ONCE", 2))
        start = self.executor.start
        jobs = sorted((a_job() for _ in range(4)), key=lambda job: job.id)
        stuck = {job.id for job in jobs[:2]}

        async def not_all(specs):
            left = [
                Started(spec.job_id, error="not now", again=True)
                for spec in specs
                if spec.job_id in stuck
            ]
            return left + await start([spec for spec in specs if spec.job_id not in stuck])

        self.executor.start = not_all
        self.manager.store.add(jobs)
        for job in jobs[2:]:
            await self.until(job.id, JobState.PENDING)

    async def test_what_has_ended_or_is_unknown_cannot_be_cancelled(self):
        job_id = await self.submit()
        self.executor.tell(job_id, RunState.COMPLETED)
        await self.until(job_id, JobState.COMPLETED)
        with self.assertRaisesRegex(JobError, "has ended already .COMPLETED"):
            await self.manager.cancel(job_id)
        with self.assertRaises(JobNotFound):
            await self.manager.cancel("nowhere")

    async def test_the_loop_of_the_local_executor_is_watched_too(self):
        await self.manager.stop()
        self.executor = LocalExecutor(self.folder / "jobs", {})
        self.manager = self.make(monitor_interval=1)
        await self.manager.start()
        self.assertEqual([], self.manager.late_loops)
        self.executor.heartbeat = Heartbeat(1, clock=count(step=60).__next__)
        self.assertEqual(["local executor"], self.manager.late_loops)

    async def test_a_job_of_another_executor_is_left_to_it(self):
        job = a_job()
        self.manager.store.add([job])
        self.manager.store.update(
            job.id, executor="slurm", executor_ref="7", state=JobState.PENDING
        )
        with self.assertRaisesRegex(JobError, '"slurm", which this service does not use'):
            await self.manager.cancel(job.id)
        self.assertEqual((await self.manager.log(job.id, "stdout", 0, 10)).data, b"")

    @slow
    async def test_an_ended_job_is_submitted_again_as_a_new_one(self):
        first = await self.submit()
        with self.assertRaisesRegex(JobError, "has not ended yet .*cancel it first"):
            await self.manager.resubmit(first)
        self.executor.tell(first, RunState.FAILED)
        await self.until(first, JobState.FAILED)
        second = await self.manager.resubmit(first)
        self.assertNotEqual(second.id, first)
        self.assertEqual((second.resubmit_of, second.state), (first, JobState.PENDING))
        self.assertEqual(self.executor.specs[second.id].request, self.executor.specs[first].request)
        with self.assertRaisesRegex(SubmissionError, f"^job {second.id} is bringing"):
            await self.manager.resubmit(first)

    async def test_a_script_is_submitted_again_with_its_name(self):
        submission = await self.manager.submit_hpc([HpcJobRequest("{}", '{"name": "n"}', SCRIPT)])
        first = submission.responses[0]["job_id"]
        self.executor.tell(first, RunState.FAILED)
        await self.until(first, JobState.FAILED)
        second = await self.manager.resubmit(first)
        self.assertEqual((second.name, second.script), ("n", SCRIPT))
        self.executor.tell(second.id, RunState.FAILED)
        await self.until(second.id, JobState.FAILED)
        self.executor.silent = "out of order"
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            third = await self.manager.resubmit(second.id)
        self.assertEqual((JobState.SUBMITTED, "out of order"), (third.state, third.reason))

    async def test_a_log_is_read_from_the_executor(self):
        job_id = await self.submit()
        self.executor.write(job_id, "stdout", b"0123456789")
        chunk = await self.manager.log(job_id, "stdout", -4, 2)
        self.assertEqual((chunk.data, chunk.offset, chunk.size), (b"67", 6, 10))

    async def test_lists_counts_and_people(self):
        await self.submit()
        self.assertEqual((await self.manager.find(JobQuery(text="anna"))).total, 1)
        self.assertEqual((await self.manager.counts())[JobState.PENDING], 1)


class FileTest(ManagerTest):
    """Checking a spreadsheet."""

    async def test_good_rows_are_listed_beside_the_errors_of_the_others(self):
        lines = [
            "processor_full_name,project_name,platform,acq_datetime,subject_id,"
            "modality0,modality0.source",
            f"Anna,P,behavior,2024-02-19 11:25:17,1,behavior,{self.source}",
            f"Anna,P,behaviour!,2024-02-19 11:25:17,2,behavior,{self.source}",
            f"Anna,P,behavior,2024-02-19 11:25:17,3,behavior,{self.source}/gone",
        ]
        await self.restart(source_roots=[self.source])
        found = await self.manager.validate_file("jobs.csv", "\n".join(lines).encode())
        self.assertEqual(found.rows, [2])
        self.assertEqual(len(found.errors), 2)
        self.assertTrue(found.errors[0].startswith("row 3, platform"), found.errors)
        self.assertIn("row 4, modality0.source", found.errors[1])
        submission = await self.manager.submit_basic(found.jobs)
        self.assertEqual(submission.stage, "ok")

    async def test_what_the_reading_of_the_file_had_to_guess_is_told(self):
        lines = [
            "processor_full_name,project_name,platform,acq_datetime,subject_id,"
            "modality0,modality0.source",
            f"Zoë Müller,P,behavior,2024-02-19 11:25:17,1,behavior,{self.source}",
        ]
        found = await self.manager.validate_file("jobs.csv", "\n".join(lines).encode("cp1252"))
        self.assertEqual(found.errors, [])
        self.assertTrue(any("Windows-1252" in warning for warning in found.warnings))

    async def test_a_file_that_is_none_is_an_error_not_an_accident(self):
        found = await self.manager.validate_file("jobs.xlsx", b"\x00\x01")
        self.assertEqual((found.jobs, found.rows), ([], []))
        self.assertEqual(len(found.errors), 1)


class TellingTest(ManagerTest):
    """A service that sends the e-mails that jobs ask for."""

    async def asyncSetUp(self):
        self.box = self.enterContext(Mailbox())
        await super().asyncSetUp()

    def make(self, **settings) -> JobManager:
        told = NotificationSettings(
            smtp_host="127.0.0.1", smtp_port=self.box.port, smtp_from="transfer@lab.org"
        )
        return super().make(notifications=told, **settings)

    def new_manager(self, settings: ServiceSettings, **options) -> JobManager:
        return create_manager(settings, **options)

    @slow
    async def test_a_job_that_fails_is_told_to_whom_it_names(self):
        asked = {"mail_user": "anna@lab.org", "mail_type": ["FAIL"], "qos": "dev"}
        answer = await self.manager.submit_hpc([HpcJobRequest(self.request(), json.dumps(asked))])
        self.assertEqual(("ok", []), (answer.stage, answer.warnings))
        [job_id] = self.executor.specs
        self.assertEqual({"qos": "dev"}, self.executor.specs[job_id].settings)
        self.executor.tell(job_id, RunState.FAILED, reason="no room")
        while not self.box.letters:
            await asyncio.sleep(0.01)
        self.assertIn("Reason: no room", self.box.letters[0].get_content())

    async def test_a_name_without_a_place_is_no_address(self):
        asked = json.dumps({"mail_user": "anna", "mail_type": ["FAIL"]})
        answer = await self.manager.submit_hpc([HpcJobRequest(self.request(), asked)])
        self.assertEqual("parse", answer.stage)
        self.assertIn('"anna" is no e-mail address', answer.errors[0])


del ManagerTest
