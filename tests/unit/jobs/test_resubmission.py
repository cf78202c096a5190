"""What an ended job asks of the cluster when it is submitted again."""

import json
import unittest
from dataclasses import replace
from datetime import timedelta

from aind_data_transfer_service.errors import SubmissionError
from aind_data_transfer_service.executors.slurm.states import run_status
from aind_data_transfer_service.jobs.resubmission import (
    asked_limits,
    changed_settings,
    former_limits,
    suggested_limits,
)
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.support import slow
from tests.support.jobs import NOON, a_job
from tests.support.mock_cluster import ClusterServiceTest


def suggested(state=JobState.FAILED, reason="", own=None, hpc=None, **values):
    """Return what is suggested for a job with some settings of its own."""
    job = a_job(state=state, reason=reason, hpc_settings=json.dumps(own or {}), **values)
    settings = HpcSettings(**(hpc or {}))
    return suggested_limits(job, asked_limits(job, settings), settings)


def out_of_memory(**memory):
    """Return the reason of a job that Slurm ended for want of memory."""
    return run_status("7:j", SlurmJob(job_id=7, state="OUT_OF_MEMORY", **memory)).reason


def timed_out(**limit):
    """Return the reason of a job that Slurm ended at its time limit."""
    return run_status("7:j", SlurmJob(job_id=7, state="TIMEOUT", **limit)).reason


class SuggestedLimitsTest(unittest.TestCase):
    """The values that the form is filled with."""

    def test_a_job_that_ran_out_of_time_gets_twice_its_limit(self):
        same = {"time_limit": 90, "memory_per_cpu": 500}
        self.assertEqual(suggested(own=same), same)
        self.assertEqual(suggested(JobState.TIMEOUT, own=same), same | {"time_limit": 180})
        self.assertEqual(
            suggested(JobState.TIMEOUT, hpc={"time_limit": 360, "memory_per_cpu": 400}),
            {"time_limit": 720, "memory_per_cpu": 400},
        )

    def test_without_a_limit_of_its_own_it_gets_twice_as_long_as_it_ran(self):
        ran = {"started_at": NOON, "ended_at": NOON + timedelta(minutes=9, seconds=30)}
        unknown, no_memory = {"time_limit": None, "memory_per_cpu": None}, {"transfer_memory": 0}
        usual = {"time_limit": None, "memory_per_node": 1024}
        self.assertEqual(suggested(JobState.TIMEOUT, **ran)["time_limit"], 20)
        for reported in (ran, {}):
            self.assertEqual(suggested(hpc=no_memory, **reported), unknown)
            self.assertEqual(suggested(**reported), usual)
            self.assertEqual(suggested(script="#!/bin/sh\n", **reported), unknown)
        self.assertEqual(suggested(JobState.TIMEOUT), usual)

    def test_a_limit_that_was_raised_meanwhile_is_doubled_too(self):
        own = {"time_limit": "60"}
        ran = {"started_at": NOON, "ended_at": NOON + timedelta(minutes=600)}
        self.assertEqual(suggested(JobState.TIMEOUT, own=own, **ran)["time_limit"], 1200)
        raised = timed_out(time_limit_minutes=300)
        self.assertEqual(suggested(JobState.TIMEOUT, raised, own)["time_limit"], 600)
        lowered = timed_out(time_limit_minutes=5)
        self.assertEqual(suggested(JobState.TIMEOUT, lowered, own)["time_limit"], 120)

    def test_the_time_of_all_shards_together_is_no_time_limit(self):
        own, hpc = {"time_limit": 60}, {"shards": 4}
        ran = {"started_at": NOON, "ended_at": NOON + timedelta(minutes=150)}
        self.assertEqual(suggested(JobState.TIMEOUT, own=own, hpc=hpc, **ran)["time_limit"], 120)
        raised = timed_out(time_limit_minutes=90)
        self.assertEqual(suggested(JobState.TIMEOUT, raised, own, hpc, **ran)["time_limit"], 180)

    def test_memory_that_slurm_gave_is_doubled_if_it_is_more_than_was_asked_for(self):
        by_cpu = out_of_memory(memory_per_cpu_mb=8000)
        whole = out_of_memory(memory_per_node_mb=8000)
        for reason, own, name, found in (
            (by_cpu, {"memory_per_cpu": "500"}, "memory_per_cpu", 16_000),
            (by_cpu, {"memory_per_cpu": 9000}, "memory_per_cpu", 18_000),
            (whole, {"memory_per_node": 500}, "memory_per_node", 16_000),
            (whole, {"memory_per_cpu": 500}, "memory_per_node", 16_000),
            (by_cpu, {"memory_per_node": 500}, "memory_per_cpu", 16_000),
            (whole, {"memory_per_gpu": 500}, "memory_per_node", 16_000),
            (out_of_memory(), {"memory_per_gpu": 500}, "memory_per_gpu", 1000),
        ):
            with self.subTest(reason=reason, own=own):
                memory = {"time_limit": None, name: found}
                self.assertEqual(suggested(reason=reason, own=own), memory)
        only = {"user_settings": "memory_per_cpu"}
        own = {"memory_per_cpu": 500}
        self.assertEqual(suggested(reason=whole, own=own, hpc=only), {"memory_per_cpu": 1000})

    def test_the_whole_node_stays_the_whole_node(self):
        whole = out_of_memory(memory_per_node_mb=128_000)
        for own in ({"memory_per_node": 0}, {"memory_per_node": "0"}):
            for reason in ("", whole, out_of_memory()):
                found = {"time_limit": None, "memory_per_node": 0}
                self.assertEqual(suggested(reason=reason, own=own), found)

    def test_settings_that_cannot_be_read_suggest_nothing(self):
        for text in ("{", "[]", '{"a": NaN}'):
            job = a_job(state=JobState.TIMEOUT, hpc_settings=text)
            self.assertIsNone(asked_limits(job, HpcSettings()))
        defaults = {"memory_per_cpu": 400}
        shown = suggested(own={"memory_per_node": "4 boxes", "time_limit": 9}, hpc=defaults)
        self.assertEqual(shown, {"time_limit": 9, "memory_per_cpu": None})

    def test_a_job_that_ran_out_of_memory_gets_twice_its_memory(self):
        reason = out_of_memory(memory_per_cpu_mb=500)
        own = {"time_limit": 90, "memory_per_cpu": 600}
        self.assertEqual(suggested(reason=reason, own=own)["memory_per_cpu"], 1200)
        self.assertEqual(suggested(reason=reason)["memory_per_cpu"], 1000)
        no_memory = {"transfer_memory": 0}
        self.assertEqual(suggested(reason=out_of_memory(), hpc=no_memory)["memory_per_cpu"], None)
        self.assertEqual(suggested(reason=out_of_memory())["memory_per_node"], 2048)
        whole = out_of_memory(memory_per_node_mb=8000)
        self.assertEqual(suggested(reason=whole)["memory_per_node"], 16_000)
        defaults = {"job_defaults": {"memory_per_node": 4000}}
        self.assertEqual(suggested(reason=whole, hpc=defaults)["memory_per_node"], 16_000)

    def test_what_users_may_not_set_is_not_offered(self):
        only = {"user_settings": "time_limit"}
        self.assertEqual(suggested(own={"time_limit": 9}, hpc=only), {"time_limit": 9})
        self.assertEqual(suggested(hpc={"user_settings": "qos"}), {})


class FormerLimitsTest(unittest.TestCase):
    """What the former attempt asked for or was given."""

    def test_half_of_what_was_doubled_and_all_of_what_was_not(self):
        asked = {"time_limit": 90, "memory_per_cpu": 500}
        for suggestion, expected in (
            ({"time_limit": 90, "memory_per_cpu": 500}, asked),
            ({"time_limit": 240, "memory_per_cpu": 500}, {**asked, "time_limit": 120}),
            ({"time_limit": None, "memory_per_node": 1600}, {"memory_per_node": 800}),
        ):
            with self.subTest(**suggestion):
                self.assertEqual(expected, former_limits(suggestion, asked))


class ChangedSettingsTest(unittest.TestCase):
    """The settings of the new job."""

    def change(self, before, **changes):
        """Change settings."""
        return json.loads(changed_settings(json.dumps(before), changes))

    def test_only_what_is_named_changes(self):
        before = {"name": "é", "time_limit": 60, "environment": {"A": "1"}}
        self.assertEqual(self.change(before, time_limit=120), before | {"time_limit": 120})
        self.assertEqual(changed_settings(' {"a": 1}', {}), ' {"a": 1}')

    def test_none_stands_for_the_default(self):
        before = {"name": "n", "time_limit": 60, "memory_per_cpu": 500}
        self.assertEqual(self.change(before, time_limit=None), {"name": "n", "memory_per_cpu": 500})

    def test_memory_replaces_memory_of_another_kind(self):
        before = {"name": "n", "memory_per_cpu": 500}
        self.assertEqual(
            self.change(before, memory_per_node=4000), {"name": "n", "memory_per_node": 4000}
        )

    def test_zero_is_a_value_the_whole_node(self):
        before = {"name": "n", "memory_per_cpu": 4000}
        whole = {"name": "n", "memory_per_node": 0}
        self.assertEqual(self.change(before, memory_per_node=0), whole)
        self.assertEqual(
            self.change(whole, memory_per_cpu=500), {"name": "n", "memory_per_cpu": 500}
        )
        self.assertEqual(self.change(whole, time_limit=5), whole | {"time_limit": 5})

    def test_settings_that_cannot_be_read_are_left_to_the_check(self):
        for text in ("{", "[]"):
            self.assertEqual(text, changed_settings(text, {"time_limit": 5}))


class ResubmitTest(ClusterServiceTest):
    """On a cluster that only pretends."""

    async def end(self, manager, **settings):
        """Submit a job, and have it recorded as one that ran out of time."""
        submission = await manager.submit_hpc(self.requests(1, job_1=settings))
        [response] = submission.responses
        manager.store.update(response["job_id"], state=JobState.TIMEOUT)
        return response["job_id"]

    async def test_the_new_job_has_the_new_limits_and_the_other_settings(self):
        manager = await self.start(monitor_interval=None)
        job_id = await self.end(manager, time_limit=60, memory_per_cpu=500, nice=3)
        again = await manager.resubmit(job_id, {"time_limit": 120, "memory_per_node": 9000})
        settings = {"name": "job 1", "time_limit": 120, "memory_per_node": 9000, "nice": 3}
        self.assertEqual(json.loads(again.hpc_settings), settings)
        sent = self.cluster.jobs()[-1].properties
        self.assertEqual((sent["time_limit"], int(sent["memory_per_node"])), (120, 9000))
        self.assertNotIn("memory_per_cpu", sent)

    async def test_settings_that_cannot_be_read_are_refused_in_words(self):
        manager = await self.start(monitor_interval=None)
        job_id = await self.end(manager, time_limit=60)
        manager.store.add([replace(manager.store.get(job_id), id="broken", hpc_settings="[]")])
        with self.assertRaisesRegex(SubmissionError, "hpc_settings.*not a JSON object"):
            await manager.resubmit("broken", {"time_limit": 5})

    @slow
    async def test_limits_are_checked_as_those_of_a_submission(self):
        manager = await self.start(monitor_interval=None, user_settings="time_limit")
        job_id = await self.end(manager, time_limit=60)
        for changes, found in (
            ({"time_limit": 0}, r"hpc_settings\.time_limit: 0 is wrong"),
            ({"memory_per_cpu": 500}, r"hpc_settings\.memory_per_cpu: not to be set here"),
        ):
            with self.assertRaisesRegex(SubmissionError, found):
                await manager.resubmit(job_id, changes)
        self.assertEqual(1, len(self.cluster.jobs()))


if __name__ == "__main__":
    unittest.main()
