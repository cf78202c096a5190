"""Jobs that are cut into shards, against a cluster that does as it is told."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from unittest.mock import AsyncMock

from aind_data_transfer_service.executors.base import EndRecord, JobSpec, RunState
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.executors.slurm.job_array import array_of, submission_of
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.errors import Refused, Unreachable
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm.test_batch_script import ScriptTest
from tests.unit.executors.slurm.test_executor import LOST, NOW, SlurmTest, a_job

LOGGER = "aind_data_transfer_service.executors"


class ShardsTest(SlurmTest):
    """An executor that cuts each job into four."""

    def make(self, settle: float = 60.0, keep: float = 60.0, **values) -> SlurmExecutor:
        """Make an executor."""
        return super().make(settle, keep, **({"shards": 4} | values))

    async def begin_one(self) -> str:
        """Start a job: its array is 101, its last job 102."""
        [ref] = await self.begin("j1")
        self.client.become(101, array_job_id=101)
        self.client.become(102, reason="Dependency", dependency="afterany:101_*(unfulfilled)")
        return ref

    def task(self, number: int, state: str, **values) -> None:
        """Have a shard leave the queue; its number in Slurm is 200 and its own."""
        rest = self.client.listed[101]
        task = replace(rest, state=state, array_task_id=number, **values)
        self.client.listed[200 + number] = replace(task, job_id=200 + number)

    def sent(self) -> list[tuple[str, str, str]]:
        """Tell what was submitted: marks, arrays, dependencies."""
        found = [one.properties for one in self.client.submissions]
        return [(p["comment"], p.get("array", ""), p.get("dependency", "")) for p in found]

    def leave(self, ending: str, text: str) -> None:
        """Leave a file in the folder of logs."""
        (self.folder / ending).write_text(text)


ARRAY = ("aind-data-transfer-service:j1.shards+4", "1-4", "")
LAST = ("aind-data-transfer-service:j1+4", "", "afterany:101")


class CutTest(ShardsTest):
    """What is submitted."""

    async def test_a_job_is_an_array_and_a_last_job_after_it(self):
        wishes = {
            "mail_type": ["END"],
            "mail_user": "a@example.org",
            "dependency": "afterok:7",
            "hold": True,
            "comment": "for Anna",
            "standard_out": f"{self.folder}/mine.out",
        }
        [one] = await self.executor.start([a_job("j1", settings=wishes)])
        self.assertEqual((one.ref, one.error), ("102:j1", None))
        array, last = self.client.submissions
        self.assertEqual(array.properties["array"], "1-4")
        self.assertEqual(array.properties["dependency"], "afterok:7")
        self.assertNotIn("mail_user", array.properties)
        self.assertEqual(
            array.properties["standard_out"], f"{self.folder}/j1.shards.%a.out".replace("%a", "%a")
        )
        self.assertEqual(array.environment["JOB_ID"], "j1")
        self.assertEqual(last.properties["dependency"], "afterany:101")
        self.assertEqual(last.properties["mail_user"], "a@example.org")
        self.assertEqual(last.properties["comment"], f"{LAST[0]} for Anna")
        self.assertNotIn("hold", last.properties)
        self.assertEqual(last.environment["UPLOAD_SHARDS_DONE"], "4")
        self.assertNotIn("UPLOAD_SHARDS_DONE", array.environment)

    async def test_each_shard_has_a_node_of_its_own_unless_the_site_or_the_user_says_otherwise(
        self,
    ):
        for number, (values, asked, expected) in enumerate(
            (
                ({}, {}, "true"),
                ({}, {"exclusive": "false"}, "false"),
                ({}, {"exclusive": "user"}, "user"),
                ({"job_defaults": {"exclusive": "false"}}, {}, "false"),
                ({"shards_exclusive": False}, {}, None),
                ({"shards_exclusive": False}, {"exclusive": "true"}, "true"),
            )
        ):
            with self.subTest(values=values, asked=asked):
                self.executor = self.make(**values)
                await self.executor.start([a_job(f"j{number}", settings=asked)])
                array, last = self.client.submissions[-2:]
                self.assertIn("array", array.properties)
                self.assertEqual(array.properties.get("exclusive"), expected)
                site_or_user = (values.get("job_defaults") or {}) | asked
                self.assertEqual(last.properties.get("exclusive"), site_or_user.get("exclusive"))

    async def test_an_exclusive_shard_asks_for_the_memory_that_it_would_get_without(self):
        for number, (asked, expected) in enumerate(
            (
                ({}, 1000),
                ({"cpus_per_task": 3}, 3000),
                ({"tasks": 2}, 2000),
                ({"tasks": 2, "nodes": [2, 2]}, 1000),
                ({"minimum_cpus_per_node": 2}, 2000),
                ({"memory_per_cpu": 0}, 0),
                ({"exclusive": "false"}, None),
            )
        ):
            with self.subTest(asked=asked):
                settings = {"memory_per_cpu": 1000} | asked
                await self.executor.start([a_job(f"j{number}", settings=settings)])
                array, last = (one.properties for one in self.client.submissions[-2:])
                self.assertEqual(expected, array.get("memory_per_node"))
                self.assertIs(expected is None, "memory_per_cpu" in array)
                self.assertEqual(settings["memory_per_cpu"], last["memory_per_cpu"])

    async def test_a_script_of_the_users_own_is_never_cut(self):
        await self.executor.start([a_job("j1", request="", script="#!/bin/sh\n")])
        self.assertEqual(self.sent(), [("aind-data-transfer-service:j1", "", "")])

    async def test_shards_do_not_speak_for_the_job_to_the_service(self):
        callbacks = Callbacks("http://service:5000", self.folder / "secret")
        callbacks.open()
        hpc = HpcSettings(**self.executor._hpc.model_dump() | {"shard_bytes": 10**9})
        self.executor = SlurmExecutor(self.client, hpc, {}, callbacks=callbacks)
        await self.begin("j1")
        array, last = self.client.submissions
        self.assertNotIn("UPLOAD_CALLBACK_URL", array.environment)
        self.assertIn("UPLOAD_CALLBACK_URL", last.environment)
        for name in ("UPLOAD_CANCEL_URL", "UPLOAD_CALLBACK_TOKEN"):  # they ask whether it goes on
            self.assertEqual(array.environment[name], callbacks.environment("j1")[name])
            self.assertEqual(last.environment[name], array.environment[name])
        self.assertEqual(array.environment["UPLOAD_SHARD_BYTES"], "1000000000")


class OnceTest(ShardsTest):
    """Each of the two exactly once, whatever goes wrong."""

    async def test_the_arrays_answer_is_lost_and_it_is_found_again(self):
        self.client.faults = [LOST]
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual((one.job_id, one.ref, one.again), ("j1", None, True))
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual(one.ref, "102:j1")
        self.assertEqual(self.sent(), [ARRAY, LAST])

    async def test_an_array_that_never_arrived_is_sent_again(self):
        self.client.keep_lost = False
        self.client.faults = [LOST]
        self.executor = self.make(settle=0)
        [one] = await self.executor.start([a_job("j1")])
        self.assertTrue(one.again)
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual(one.ref, "102:j1")
        self.assertEqual(self.sent(), [ARRAY, LAST])

    async def test_the_last_jobs_answer_is_lost_and_it_is_found_again(self):
        self.client.faults = [None, LOST]
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual((one.ref, one.again), ("102:j1", False))
        self.assertEqual(self.sent(), [ARRAY, LAST])

    async def test_a_service_that_was_killed_in_between_sends_the_last_job(self):
        self.client.faults = [None, Unreachable("gone")]
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual((one.job_id, one.ref, one.again), ("j1", None, True))
        for shards in (4, 1):  # whatever the setting is by then
            self.executor = self.make(shards=shards)
            [one] = await self.executor.start([a_job("j1")])
            self.assertEqual(one.ref, "102:j1")
        self.assertEqual(len(self.client.submissions), 2)

    async def test_an_array_that_ran_meanwhile_and_was_forgotten_is_not_sent_again(self):
        self.leave("j1.shards.claim", "101\n")
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual(one.ref, "101:j1")
        self.assertEqual(self.sent(), [LAST[:2] + ("",)])

    async def test_a_refusal_of_either_is_the_jobs(self):
        self.client.faults = [Refused("no such array", (), 500, {})]
        [one] = await self.executor.start([a_job("j1")])
        self.assertEqual((one.job_id, one.ref, one.again), ("j1", None, False))
        self.client.faults = [None, Refused("no such dependency", (), 500, {})]
        [one] = await self.executor.start([a_job("j2")])
        self.assertEqual((one.ref, one.error, one.again), (None, "no such dependency", False))
        self.assertEqual(self.client.cancelled, [101], "an array that nobody waits for")
        self.client.faults = [None, Refused("no such dependency", (), 500, {})]
        self.client.cancel = AsyncMock(side_effect=Unreachable("gone"))
        with self.assertLogs(LOGGER, "WARNING") as logs:
            [one] = await self.executor.start([a_job("j3")])
        self.assertEqual((one.ref, one.error), (None, "no such dependency"))
        self.assertIn("j3.shards cannot be cancelled: gone", logs.output[0])

    async def test_a_controller_that_came_back_without_them_is_given_both_again(self):
        ref = await self.begin_one()
        self.client.listed.clear()
        with self.assertLogs(LOGGER, "WARNING"):
            status = await self.status(ref)
        self.assertEqual(status.state, RunState.PENDING)
        self.assertEqual(self.sent()[2:], [ARRAY, LAST[:2] + ("afterany:103",)])
        self.assertEqual(set(self.client.listed), {103, 104})

    async def test_a_controller_that_came_back_without_the_last_job_is_given_that(self):
        ref = await self.begin_one()
        del self.client.listed[102]
        with self.assertLogs(LOGGER, "WARNING"):
            await self.status(ref)
        self.assertEqual(self.sent()[2:], [LAST])

    async def test_a_controller_that_came_back_without_the_array_is_given_that_again_first(self):
        self.client.faults = [None, Unreachable("gone")]
        await self.executor.start([a_job("j1")])
        self.client.listed.clear()
        with self.assertLogs(LOGGER, "WARNING"):
            [one] = await self.executor.start([a_job("j1")])
        self.assertEqual(one.ref, "103:j1")
        self.assertEqual(self.sent(), [ARRAY, ARRAY, LAST[:2] + ("afterany:102",)])
        self.client.faults = [None, Unreachable("gone")]
        await self.executor.start([a_job("j2")])
        self.client.listed.clear()
        self.leave("j2.shards.claim", "104")
        with self.assertLogs(LOGGER, "WARNING"):
            await self.executor.start([a_job("j2")])
        self.assertEqual(len(self.sent()), 5, "an array that began is not begun again")

    async def test_an_array_that_came_twice_runs_once(self):
        ref = await self.begin_one()
        self.task(1, "RUNNING")
        self.client.listed[150] = SlurmJob(150, "PENDING", comment=ARRAY[0], array_job_id=150)
        with self.assertLogs(LOGGER, "WARNING"):
            status = await self.status(ref)
        self.assertEqual(self.client.cancelled, [150])
        self.assertIn("1 running", status.reason)


class StandingTest(ShardsTest):
    """How the whole stands."""

    async def test_it_waits_while_all_of_them_do(self):
        ref = await self.begin_one()
        self.client.become(101, reason="Resources")
        status = await self.status(ref)
        self.assertEqual(status.state, RunState.PENDING)
        self.assertEqual(
            status.reason,
            "4 shards are pending (waits for nodes to become free; it starts by itself;"
            " Slurm: Resources)",
        )

    async def test_for_shards_that_all_wait_no_file_is_read(self):
        ref = await self.begin_one()
        self.client.become(101, reason="Priority", array_tasks_left="1-4")
        self.leave("j1.shards.1.end", '{"exit_code": 0, "stopped": false}')
        status = await self.status(ref)
        self.assertEqual(
            status.reason,
            "4 shards are pending (waits behind jobs of higher priority; it starts by itself;"
            " Slurm: Priority)",
        )
        self.client.become(101, array_tasks_left="2-4")
        self.assertIn("1 of 4 shards done, 3 pending", (await self.status(ref)).reason)

    async def test_it_runs_as_soon_as_one_does_and_adds_up_what_they_tell(self):
        ref = await self.begin_one()
        self.client.become(101, reason="Resources")
        self.task(1, "COMPLETED", started=NOW, nodes="n1")
        self.task(2, "RUNNING", started=NOW + timedelta(seconds=5), nodes="n2")
        self.task(3, "RUNNING", started=NOW + timedelta(seconds=5), nodes="n3")
        figures = {"files_done": 3, "bytes_done": 30, "bytes_per_second": 5}
        figures |= {"files_total": 5, "asset_files": 20, "asset_bytes": 100, "seconds_left": None}
        for number in (1, 2):
            event = {"kind": "progress", "figures": figures}
            end = {"kind": "end", "figures": {}}
            lines = "\n".join(["[1]", "no event", json.dumps(event), json.dumps(end)])
            self.leave(f"j1.shards.{number}.events.jsonl", lines)
        self.leave(
            "j1.shards.3.events.jsonl", '{"kind": "progress", "figures": {"files_done": -1}}'
        )
        status = await self.status(ref)
        self.assertEqual((status.state, status.started_at), (RunState.RUNNING, NOW))
        self.assertEqual(
            status.reason,
            "1 of 4 shards done, 2 running, 1 pending (waits for nodes to become free; it starts by"
            " itself; Slurm: Resources)",
        )
        self.assertEqual(status.node, "n2,n3")
        self.assertEqual(
            dict(status.progress),
            {
                "step": "transfer",
                "files_done": 6,
                "files_total": 20,
                "bytes_done": 60,
                "bytes_total": 100,
                "bytes_per_second": 5,
                "seconds_left": 8.0,
            },
        )

    async def test_a_shard_that_left_no_sign_of_having_run_is_not_done(self):
        ref = await self.begin_one()
        self.leave("other.claim", "7")
        self.leave("j1.shards.1.end", '{"exit_code": 0}')
        for number in (1, 2):
            self.task(number, "COMPLETED", nodes=f"n{number}")
        reason = (await self.status(ref)).reason
        self.assertIn("1 of 4 shards done, 2 pending", reason)
        self.assertIn("1 without a word of how they ended (Slurm reports success, but", reason)
        self.assertIn("no sign of having run on n2: check slurmd there", reason)
        self.client.become(102, state="COMPLETED", nodes="n3")
        status = await self.status(ref)
        self.assertEqual((RunState.COMPLETED, EndRecord.MISSING), (status.state, status.record))
        self.assertIn("no sign of having run on n3", status.doubt)
        self.leave("j1.end", '{"exit_code": 0}')
        self.assertIs(EndRecord.FOUND, (await self.status(ref)).record)

    async def test_each_shard_has_a_log_of_its_own_while_it_runs_and_later(self):
        ref = await self.begin_one()
        self.assertIsNone(await self.executor.shards(ref))  # nothing is known yet
        self.leave("j1.shards.1.err", "one\n")
        self.leave("j1.shards.2.err", "two\n")
        self.leave("j1.shards.2.out", "output\n")
        self.assertEqual(await self.executor.shards(ref), 2)  # by their files
        self.client.become(102, comment=LAST[0])
        await self.status(ref)
        self.assertEqual(await self.executor.shards(ref), 4)  # by the mark of the last job
        for shard, file, text in (
            (1, "stderr", b"one\n"),
            (2, "stderr", b"two\n"),
            (2, "stdout", b"output\n"),
            (3, "stderr", b""),
        ):
            chunk = await self.executor.read_shard(ref, shard, file, 0, 100)
            self.assertEqual((chunk.data, chunk.problem), (text, ""))
        self.client.become(102, comment="aind-data-transfer-service:j1")
        await self.status(ref)
        self.assertEqual(await self.executor.shards(ref), 0)  # the mark of one that is not cut

    async def test_progress_is_told_while_no_shard_runs(self):
        ref = await self.begin_one()
        self.task(1, "COMPLETED")
        figures = {"files_done": 3, "bytes_done": 30, "asset_files": 20, "asset_bytes": 100}
        event = {"kind": "progress", "figures": figures}
        self.leave("j1.shards.1.events.jsonl", json.dumps(event))
        progress = (await self.status(ref)).progress
        self.assertEqual((progress["bytes_done"], progress["bytes_per_second"]), (30, 0))
        self.assertIsNone(progress["seconds_left"])

    async def test_failed_shards_are_named_and_the_last_job_is_next(self):
        ref = await self.begin_one()
        del self.client.listed[101]
        self.client.become(102, reason="Priority")
        self.client.listed[201] = SlurmJob(201, "OUT_OF_MEMORY", comment=ARRAY[0])
        for number, task in enumerate(("COMPLETED", "TIMEOUT", "FAILED"), 1):
            self.client.listed[200 + number] = SlurmJob(
                200 + number, task, comment=ARRAY[0], array_job_id=101, array_task_id=number
            )
        fail = {"kind": "fail", "message": "s3 says\nno"}
        self.leave("j1.shards.3.events.jsonl", json.dumps(fail))
        status = await self.status(ref)
        self.assertEqual(status.state, RunState.RUNNING)
        begin = (
            "1 of 4 shards done, 1 without a word of how they ended; shard 2 timeout (stopped at"
        )
        self.assertTrue(status.reason.startswith(begin), status.reason)
        self.assertIn("shard 3 failed (s3 says no)", status.reason)
        self.assertIn("the last job waits behind jobs of higher priority", status.reason)
        self.leave("j1.shards.4.end", '{"exit_code": 0, "ended": 1}')
        self.assertIn("2 of 4 shards done", (await self.status(ref)).reason)

    async def test_shards_that_are_forgotten_are_told_by_what_they_left(self):
        ref = await self.begin_one()
        del self.client.listed[101]
        for number in (1, 2, 3, 4):
            self.leave(f"j1.shards.{number}.end", '{"exit_code": 0, "ended": 1}')
        self.client.become(102, reason="")
        status = await self.status(ref)
        self.assertEqual(
            status.reason,
            "4 of 4 shards done; the last job waits for the scheduler to consider it; there is"
            " nothing to do",
        )
        os.symlink("/etc/passwd", self.folder / "j1.shards.1.events.jsonl")
        self.assertEqual(await self.status(ref), status)

    async def test_the_last_job_decides_and_the_job_began_with_its_shards(self):
        ref = await self.begin_one()
        self.task(1, "FAILED", started=NOW)
        del self.client.listed[101]
        later = NOW + timedelta(hours=1)
        for state in ("RUNNING", "COMPLETED", "TIMEOUT"):
            self.client.become(102, state=state, started=later, ended=later, exit_code=0)
            status = await self.status(ref)
            self.assertEqual((status.state.value, status.started_at), (state, NOW))
        del self.client.listed[201]
        self.assertIsNone((await self.status(ref)).started_at)


class CancelTest(ShardsTest):
    """Cancelling from here, and on the cluster."""

    async def test_all_of_it_is_cancelled_the_last_job_first(self):
        ref = await self.begin_one()
        self.task(1, "RUNNING")
        await self.executor.cancel(ref)
        self.assertEqual(self.client.cancelled, [102, 101])
        self.assertEqual((await self.status(ref)).state, RunState.CANCELLED)

    async def test_shards_run_on_after_the_one_with_the_number_of_the_array_and_are_cancelled(self):
        """Slurm 22.05 finds running tasks by the number of their array alone."""
        ref = await self.begin_one()
        for number in (1, 2, 3):
            self.task(number, "RUNNING")
        self.client.become(101, state="COMPLETED", array_task_id=4, array_tasks_left="")
        await self.executor.cancel(ref)
        self.assertEqual(self.client.cancelled, [102, 101])

    async def test_after_a_restart_the_shards_are_found(self):
        ref = await self.begin_one()
        self.executor = self.make()
        await self.executor.cancel(ref)
        self.assertEqual(self.client.cancelled, [102, 101])

    async def test_an_array_that_was_cancelled_on_the_cluster_takes_the_last_job_along(self):
        ref = await self.begin_one()
        self.task(1, "COMPLETED")
        self.client.become(101, state="CANCELLED")
        with self.assertLogs(LOGGER, "WARNING"):
            await self.status(ref)
        self.assertEqual(self.client.cancelled, [102])
        self.assertEqual((await self.status(ref)).state, RunState.CANCELLED)

    async def test_one_shard_that_was_cancelled_is_made_up_for(self):
        ref = await self.begin_one()
        for number, state in enumerate(("COMPLETED", "CANCELLED", "COMPLETED", "COMPLETED"), 1):
            self.task(number, state)
        del self.client.listed[101]
        status = await self.status(ref)
        self.assertEqual(self.client.cancelled, [])
        self.assertIn("shard 2 cancelled", status.reason)

    async def test_shards_of_a_job_whose_last_job_is_over_are_stopped(self):
        ref = await self.begin_one()
        self.task(1, "RUNNING")
        self.client.become(102, state="CANCELLED")
        self.assertEqual((await self.status(ref)).state, RunState.CANCELLED)
        self.assertEqual(self.client.cancelled, [101])


class ScriptOfShardsTest(ScriptTest):
    """The batch script of an array, run by bash."""

    def run_shard(self, number: int, slurm_id: int = 31, array: int = 30, **more):
        """Run one task of an array as Slurm would."""
        hpc = self.hpc(shards=4, **more)
        submission = submission_of(array_of(JobSpec("j1", "name", "{}"), hpc), hpc, {})
        script = self.folder / "slurm_script"
        script.write_text(submission.script)
        environment = {
            **submission.environment,
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "ARGUMENTS": str(self.folder / "arguments"),
            "SLURM_JOB_ID": str(slurm_id),
            "SLURM_ARRAY_JOB_ID": str(array),
            "SLURM_ARRAY_TASK_ID": str(number),
        }
        (self.folder / "a python").write_text(
            '#!/bin/bash\necho "$JOB_ID $UPLOAD_SHARD $UPLOAD_EVENTS_FILE"\n'
        )
        return subprocess.run(
            ["bash", str(script)], env=environment, cwd=self.folder, capture_output=True, timeout=30
        )

    def test_each_knows_which_it_is_and_has_files_of_its_own(self):
        for number in (3, 4):
            done = self.run_shard(number, 30 + number)
            said = f"j1 {number}/4 {self.folder}/j1.shards.{number}.events.jsonl\n"
            self.assertEqual((done.stdout.decode(), done.returncode), (said, 0), done.stderr)
            self.assertEqual(self.end(f"j1.shards.{number}")["exit_code"], 0)
        self.assertEqual((self.folder / "j1.shards.claim").read_text(), "30\n")
        again = self.run_shard(3, 33)
        self.assertIn(b"has done its work already", again.stderr)
        other = self.run_shard(1, 41, 40)
        self.assertIn(b"runs as Slurm job 30; as Slurm job 40 it does nothing", other.stderr)
        self.assertFalse((self.folder / "j1.shards.1.end").exists())

    def test_in_a_container_too(self):
        (self.folder / "singularity").chmod(0o700)
        done = self.run_shard(2, sif_location="/job.sif")
        self.assertIn(f"j1 2/4 {self.folder}/j1.shards.2.events.jsonl", done.stdout.decode())
