"""Answers of every dialect, as real servers gave them, in the one internal form."""

import json
import unittest
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.slurmrest import parsing
from aind_data_transfer_service.slurmrest.models import SlurmJob

RECORDED = sorted((Path(__file__).parent / "recorded").glob("jobs_*.json"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["set", "infinite", "number", "return_code", "signal", "id", "name"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)
FIELDS = """job_id job_state exit_code start_time end_time submit_time nodes time_limit state_reason
array_task_id restart_cnt cpus""".split()


def a_job(**fields) -> SlurmJob:
    """Read a job with these fields."""
    return parsing.read_job({"job_id": 7} | fields)


class JobStatesTest(unittest.TestCase):
    """Lists that have nothing but the states of jobs."""

    def read(self, *states: tuple[object, object]) -> dict:
        """Read such a list."""
        jobs = [{"job_id": number, "state": words} for number, words in states]
        return parsing.read_job_states({"jobs": jobs})

    def test_tasks_that_have_not_begun_are_under_the_number_of_their_array(self) -> None:
        found = self.read(("6001_4", ["PENDING"]), ("6001_5", ["PENDING"]), ("6005_1", ["RUNNING"]))
        self.assertEqual(
            {6001: {"6001_4 PENDING", "6001_5 PENDING"}, 6005: {"6005_1 RUNNING"}}, found
        )

    def test_the_order_of_tasks_is_no_change(self) -> None:
        tasks = [("6001_4", ["PENDING"]), ("6001_5", ["CANCELLED"])]
        self.assertEqual(self.read(*tasks), self.read(*reversed(tasks)))

    def test_flags_are_changes(self) -> None:
        self.assertNotEqual(self.read((7, ["RUNNING"])), self.read((7, ["RUNNING", "COMPLETING"])))

    def test_what_has_no_number_is_left_out(self) -> None:
        self.assertEqual({7: {"7 "}}, self.read((None, []), ("x_1", []), (7, None)))


class Recorded(unittest.TestCase):
    """The same job, that ended with exit code 3, as each dialect tells of it."""

    def test_every_dialect_tells_the_same(self) -> None:
        self.assertEqual(6, len(RECORDED))
        for path in RECORDED:
            with self.subTest(path.name):
                job = parsing.read_jobs(json.loads(path.read_text(encoding="utf-8")))[0]
                self.assertEqual(("FAILED", 3, None), (job.state, job.exit_code, job.signal))
                self.assertEqual("NonZeroExitCode", job.reason)
                self.assertEqual(("node1", "part", 0), (job.nodes, job.partition, job.user_id))
                self.assertIsNotNone(job.ended.tzinfo)
                self.assertLessEqual(job.submitted, job.ended)
                self.assertLess(5, job.time_limit_minutes)
                self.assertIsNone(job.array_job_id)
                self.assertTrue(job.has_ended)
                self.assertIn(job.user, ("", "root"))
                self.assertTrue(job.standard_output)

    def test_a_waiting_job_has_neither_exit_code_nor_an_end(self) -> None:
        for path in RECORDED:
            for job in parsing.read_jobs(json.loads(path.read_text(encoding="utf-8")))[1:]:
                self.assertEqual(("PENDING", None), (job.state, job.exit_code))
                self.assertEqual("JobHeldUser", job.reason)
                self.assertFalse(job.has_ended)


class States(unittest.TestCase):
    """A word or a list; base states and flags."""

    def test_jobs_of_other_users_are_left_out_unless_they_have_a_comment(self) -> None:
        jobs = [
            {"job_id": 1, "user_name": "svc", "comment": ""},
            {"job_id": 2, "user_name": "anna", "comment": ""},
            {"job_id": 3, "user_name": "anna", "comment": "ours, perhaps"},
            {"job_id": 4, "user_name": "", "comment": None},
            {"job_id": 5},
        ]
        found = parsing.read_job_list({"jobs": jobs}, "svc")
        self.assertEqual([1, 3, 4, 5], [job.job_id for job in found])
        self.assertFalse(found.is_unchanged)
        self.assertEqual(5, len(parsing.read_job_list({"jobs": jobs})))

    def test_that_nothing_has_changed_is_told_apart_from_an_empty_list(self) -> None:
        warning = {"description": "No job changes since update_time[1]=1970-01-01T00:00:01"}
        self.assertTrue(parsing.read_job_list({"jobs": [], "warnings": [warning]}).is_unchanged)
        self.assertTrue(parsing.read_job_list({}).is_unchanged, "status 304")
        self.assertFalse(parsing.read_job_list({"jobs": [], "warnings": []}).is_unchanged)
        moment = {"set": True, "infinite": False, "number": 1708341917}
        self.assertEqual(
            1708341917, parsing.read_job_list({"last_update": moment}).as_of.timestamp()
        )

    def test_a_word_and_a_list_say_the_same(self) -> None:
        for said in ("RUNNING", ["RUNNING"], "running", ["COMPLETING", "RUNNING"]):
            self.assertEqual("RUNNING", a_job(job_state=said).state)

    def test_flags_stand_beside_the_state(self) -> None:
        job = a_job(job_state=["FAILED", "COMPLETING"], exit_code=256)
        self.assertEqual(("FAILED", {"COMPLETING"}), (job.state, job.flags))
        self.assertFalse(job.has_ended)

    def test_a_flag_alone_hides_a_state(self) -> None:
        hidden = {
            "COMPLETING": "RUNNING",
            "CONFIGURING": "RUNNING",
            "REQUEUED": "PENDING",
            "SPECIAL_EXIT": "PENDING",
            "STOPPED": "SUSPENDED",
            "REVOKED": "CANCELLED",
        }
        for flag, state in hidden.items():
            job = a_job(job_state=flag)
            self.assertEqual((state, {flag}), (job.state, job.flags))
            self.assertEqual(flag == "REVOKED", job.has_ended)

    def test_a_state_of_the_future_is_unknown_and_no_end(self) -> None:
        for said in ("TELEPORTED", [], None, "", {}, 7):
            self.assertEqual("UNKNOWN", a_job(job_state=said).state)
            self.assertFalse(a_job(job_state=said).has_ended)


class Numbers(unittest.TestCase):
    """Bare, as text, as structs, unset, infinite."""

    def test_every_form_of_a_number(self) -> None:
        forms = (6, "6", 6.0, {"set": True, "infinite": False, "number": 6}, {"number": 6})
        for form in forms:
            self.assertEqual(6, parsing.read_number(form))

    def test_what_is_not_set_is_none(self) -> None:
        unset = (None, True, "", "x", {"set": False, "number": 6}, {"infinite": True, "number": 6})
        for form in (*unset, 2**32 - 1, 2**32 - 2, 2**64 - 2, {}, [], float("inf"), float("nan")):
            self.assertIsNone(parsing.read_number(form))

    def test_times_are_aware_and_zero_is_no_time(self) -> None:
        moment = datetime(2024, 2, 19, 11, 25, 17, tzinfo=UTC)
        self.assertEqual(moment, parsing.read_time({"set": True, "number": 1708341917}))
        for nothing in (0, None, -5, 10**15, {"set": False, "number": 0}):
            self.assertIsNone(parsing.read_time(nothing))

    def test_how_a_job_ended(self) -> None:
        signalled = {
            "return_code": {"set": False},
            "signal": {"id": {"set": True, "number": 9}, "name": "KILL"},
        }
        older = {"status": "SIGNALED", "return_code": 0, "signal": {"signal_id": 9}}
        cases = (
            (256 * 17, (17, None)),
            (9, (None, 9)),
            (0, (0, None)),
            (signalled, (None, 9)),
            (older, (None, 9)),
            ({"return_code": 3, "signal": None}, (3, None)),
            (None, (None, None)),
        )
        for said, wanted in cases:
            job = a_job(job_state="FAILED", exit_code=said)
            self.assertEqual(wanted, (job.exit_code, job.signal))

    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine
    @given(st.dictionaries(st.sampled_from(FIELDS), JSON))
    def test_nothing_in_an_answer_breaks_the_reading(self, raw: dict) -> None:
        answer = {"jobs": [raw], "nodes": [raw, 3], "pings": raw, "errors": [raw]}
        for read in (parsing.read_jobs, parsing.read_nodes, parsing.read_pings):
            self.assertIsInstance(read(answer), list)
        for complaint in parsing.read_complaints(answer):
            self.assertNotIn("\n", str(complaint))


class OtherRecords(unittest.TestCase):
    """Nodes and controllers."""

    def test_a_node_of_every_dialect(self) -> None:
        old = {"name": "n", "state": "down", "state_flags": ["DRAIN"], "real_memory": 5}
        new = {"name": "n", "state": ["DOWN", "DRAIN"], "real_memory": 5, "partitions": ["p"]}
        for raw in (old, new):
            [node] = parsing.read_nodes({"nodes": [raw]})
            self.assertEqual(("DOWN", {"DRAIN"}, 5), (node.state, node.flags, node.memory_mb))

    def test_a_controller_of_every_dialect(self) -> None:
        for raw in ({"ping": "UP"}, {"pinged": "UP"}, {"pinged": "", "responding": True}):
            self.assertTrue(parsing.read_pings({"pings": [raw]})[0].up)
        self.assertFalse(parsing.read_pings({"pings": [{"pinged": "DOWN"}]})[0].up)

    def test_nodes_as_a_list_are_joined(self) -> None:
        self.assertEqual("a,b", a_job(nodes=["a", "b"]).nodes)
        self.assertIsNone(parsing.read_job({"name": "no id"}))


if __name__ == "__main__":
    unittest.main()
