"""The jobs of an API request."""

import json
import unittest
from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.configs.job_requests import parse_jobs
from tests.unit.configs.builders import job


class ParseJobsTest(unittest.TestCase):
    """All errors of all jobs, with the job and the place."""

    def test_good_jobs_come_in_their_order(self):
        configs, errors = parse_jobs([json.dumps(job(subject_id=str(n))) for n in (3, 1, 2)])
        self.assertEqual(([c.subject_id for c in configs], errors), (["3", "1", "2"], []))

    def test_the_lab_s_zone_and_date_order_are_heeded(self):
        texts = [json.dumps(job(acq_datetime=t)) for t in ("2024-02-19T19:25:17Z", "1/2/2024 9:00")]
        configs, errors = parse_jobs(texts, ZoneInfo("America/Los_Angeles"), "DMY")
        self.assertEqual(errors, [])
        self.assertEqual(
            [c.acq_datetime for c in configs],
            [datetime(2024, 2, 19, 11, 25, 17), datetime(2024, 2, 1, 9)],
        )

    def test_every_error_of_every_job_is_told_with_its_place(self):
        bad = job(modalities=[{"modality": "ecefys", "source": "x"}], platform="behaviour")
        configs, errors = parse_jobs(["{", json.dumps(job()), json.dumps(bad)])
        self.assertEqual(len(configs), 1)
        self.assertEqual(
            [error.partition("; ")[0] for error in errors],
            [
                "job 1: no valid JSON: EOF while parsing an object at line 1 column 1",
                'job 3, platform: unknown platform "behaviour"',
                'job 3, modalities.0.modality: unknown modality "ecefys"',
                'job 3, modalities.0.source: "x" does not begin with /',
            ],
        )

    def test_what_is_no_job_at_all_is_told(self):
        _, errors = parse_jobs(["[]", "null", '"x"', 5, None, "\ud800", "", '{"number": 1}'])
        for number, error in enumerate(errors[:7], start=1):
            self.assertTrue(error.startswith(f"job {number}: "), error)
        self.assertIn("no object", errors[0])
        self.assertIn("send the job as a JSON string", errors[3])
        self.assertIn('job 8, number: unknown field "number"', errors)

    def test_the_same_asset_twice_is_refused(self):
        texts = [json.dumps(job(**c)) for c in ({}, {"s3_bucket": "another"}, {"dry_run": True})]
        configs, errors = parse_jobs(texts)
        self.assertEqual(len(configs), 2)
        self.assertEqual(len(errors), 1)
        self.assertIn(
            "job 3: the same asset as job 1 (behavior_690165_2024-02-19_11-25-17)", errors[0]
        )

    def test_jobs_can_be_called_by_other_numbers(self):
        _, errors = parse_jobs(["{}"], numbers=[17])
        self.assertTrue(all(error.startswith("job 17, ") for error in errors))

    def test_a_request_without_jobs_is_refused(self):
        self.assertEqual(
            parse_jobs([]).errors, ["there are no jobs in the request; send at least one"]
        )

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*job(), "modality", "source"]) | st.text(max_size=5), inner
            ),
            max_leaves=12,
        )
    )
    def test_any_json_is_read_or_refused_in_words(self, value):
        configs, errors = parse_jobs([json.dumps(value), json.dumps(job() | {"modalities": value})])
        self.assertEqual((configs, bool(errors)), ([], True))
        for error in errors:
            self.assertTrue(error.isprintable())
            self.assertNotIn("Input should", error)
