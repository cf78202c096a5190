"""States, records and ids."""

import json
import unittest
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import TransitionError
from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.jobs.models import (
    event_to_json,
    job_to_json,
    new_job_id,
    storable,
)
from aind_data_transfer_service.jobs.states import (
    ACTIVE,
    ENDED,
    TRANSITIONS,
    JobState,
    check_transition,
    job_state,
)
from tests.support import campaign
from tests.support.jobs import NOON, a_job, an_event


class StatesTest(unittest.TestCase):
    """Which states there are, and what follows what."""

    def test_every_state_is_active_or_ended_and_no_active_one_follows_an_end(self):
        self.assertEqual(ACTIVE | ENDED, set(JobState))
        for state in ENDED:
            self.assertFalse(TRANSITIONS[state] & ACTIVE)

    def test_staying_is_always_allowed(self):
        for state in JobState:
            check_transition("j", state, state)

    def test_a_forbidden_transition_names_the_job_and_both_states(self):
        with self.assertRaisesRegex(TransitionError, "job j is FAILED and cannot become RUNNING"):
            check_transition("j", JobState.FAILED, JobState.RUNNING)

    def test_every_word_of_an_executor_has_a_state(self):
        self.assertEqual(job_state(RunState.LOST), JobState.UNKNOWN)
        for state in RunState:
            self.assertIn(job_state(state), JobState)


class RecordTest(unittest.TestCase):
    """What the API shows of a job."""

    def test_a_job_is_shown_without_its_long_fields_unless_asked_for(self):
        job = a_job(started_at=NOON, warnings=("w",), script="#!/bin/sh")
        short, full = job_to_json(job), job_to_json(job, full=True)
        self.assertEqual(json.loads(json.dumps(short)), short)
        self.assertEqual(short["state"], "SUBMITTED")
        self.assertEqual(short["started_at"], "2024-02-19T12:00:00+00:00")
        self.assertEqual(short["warnings"], ["w"])
        self.assertEqual(set(full) - set(short), {"upload_job_settings", "hpc_settings", "script"})

    def test_an_event_is_shown(self):
        shown = event_to_json(an_event("verify", "end", message="m", figures={"files": 3}))
        self.assertEqual(shown["time"], "2024-02-19T12:00:00+00:00")
        self.assertEqual(
            (shown["step"], shown["kind"], shown["figures"]), ("verify", "end", {"files": 3})
        )

    def test_ids_are_short_sort_by_time_and_are_never_the_same(self):
        first = new_job_id()
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _: [new_job_id() for _ in range(2000)], range(8)))
        flat = [one for some in ids for one in some]
        self.assertEqual(len(set(flat)), len(flat))
        self.assertTrue(all(some == sorted(some) for some in ids))
        self.assertTrue(all(one > first and len(one) == 12 and one.isalnum() for one in flat))

    @settings(max_examples=campaign(200))
    @given(st.text(st.characters(codec=None)))
    def test_any_text_becomes_storable_and_a_good_one_stays(self, text):
        made = storable(text)
        self.assertNotIn("\0", made)
        made.encode("utf-8")
        self.assertEqual(storable(made), made)
