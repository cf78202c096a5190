"""What a job tells of itself."""

import json
import tempfile
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.event_parser import (
    Report,
    last_line,
    read_event,
    read_events,
    reason_of_end,
)
from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import campaign, slow
from tests.support.jobs import NOON, a_job, event_line


def status(state: RunState, **values) -> RunStatus:
    """Make an executor's word."""
    return RunStatus(ref="r", state=state, **values)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**420), 10**420)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
    | st.sampled_from(["progress", "end", "fail", "done", "analysis", "PENDING", "transfer"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["kind", "step", "message", "time", "figures"])
FIGURES = st.dictionaries(
    st.sampled_from(["bytes_done", "files_total", "seconds_left", "documents", "analysis", "x"]),
    JSON,
)


class ReadEventsTest(unittest.TestCase):
    """Lines of events, whole, half and broken."""

    @classmethod
    def setUpClass(cls):
        """Make a store, for whatever events are read."""
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.store = JobStore(f"sqlite:///{folder}/jobs.sqlite3")
        cls.addClassCleanup(cls.store.close)

    def test_events_and_progress_are_told_apart(self):
        data = (
            event_line("preflight", "start")
            + event_line("transfer", "progress", bytes_done=5, bytes_total=9, files_done=1, x="y")
            + event_line("transfer", "warning", "look out", files=2)
        )
        report = read_events(data)
        self.assertEqual([event.kind for event in report.events], ["start", "warning"])
        self.assertEqual(report.events[1].message, "look out")
        self.assertEqual(report.events[0].time, NOON)
        self.assertEqual(report.values["step"], "transfer")
        self.assertEqual((report.values["bytes_done"], report.values["bytes_total"]), (5, 9))
        self.assertNotIn("x", report.values)
        self.assertEqual(report.consumed, len(data))

    def test_a_line_without_its_end_waits_for_the_rest(self):
        first, second = event_line("preflight", "start"), event_line("preflight", "end", "ü")
        for cut in range(len(second)):
            report = read_events(first + second[:cut])
            self.assertEqual((len(report.events), report.consumed), (1, len(first)))

    def test_the_last_line_of_an_ended_job_needs_no_end(self):
        report = read_events(event_line("metadata", "fail", "no subject")[:-1], final=True)
        self.assertEqual(report.failure, "no subject")

    @settings(max_examples=campaign(300))
    @given(
        st.dictionaries(NAMES, JSON, min_size=5), FIGURES, st.sampled_from(["start", "progress"])
    )
    @slow
    def test_whatever_a_script_writes_can_be_read_and_recorded(self, document, figures, kind):
        hostile = [document, document | {"kind": kind, "figures": figures, "step": "a"}]
        lines = b"".join(json.dumps(one).encode() + b"\n" for one in hostile)
        report = read_events(lines)
        self.assertEqual(report.consumed, len(lines))
        job = a_job()
        self.store.add([job])
        self.store.update(job.id, events=report.events, **report.values)
        shown = [(event.step, event.message, event.figures) for event in report.events]
        told = [(event.step, event.message, event.figures) for event in self.store.events(job.id)]
        self.assertEqual(shown, told)
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()

    def test_what_is_no_event_is_counted_and_passed_over(self):
        lines = [
            b"plain words",
            b"[]",
            b'{"kind": "dance"}',
            b'{"kind": "start", "step": 3}',
            b'{"kind": "start", "step": "a", "message": {}}',
            b"\xff\xfe",
            b"[" * 100_000,
        ]
        data = b"\n".join([*lines, b"", event_line("done", "end")])
        report = read_events(data)
        self.assertEqual((report.unreadable, len(report.events)), (len(lines), 1))
        self.assertTrue(report.is_done)

    def test_odd_values_do_no_harm(self):
        line = json.dumps(
            {
                "kind": "progress",
                "step": "s" * 1000,
                "time": 12,
                "message": "m" * 10_000,
                "figures": {
                    "bytes_done": 1e30,
                    "files_done": -1,
                    "files_total": True,
                    "bytes_total": "9",
                    "bytes_per_second": float("nan"),
                    "seconds_left": 3,
                    "deep": {"a": 1},
                },
            }
        )
        report = read_events(line.encode() + b"\n")
        self.assertEqual(report.values, {"step": "s" * 100, "seconds_left": 3.0})
        event = read_event(line.encode())
        self.assertEqual(len(event.message), 4000)
        self.assertNotIn("deep", event.figures)
        self.assertIsNotNone(event.time.tzinfo)
        self.assertEqual(
            read_event(b'{"kind": "start", "time": "0001-01-01T00:00:00+14:00"}').step, ""
        )

    def test_what_is_told_of_documents_is_kept_within_bounds(self):
        told = [
            {
                "name": "subject.json",
                "status": "Invalid",
                "source": "s" * 1000,
                "seconds": 0.25,
                "complete": False,
                "problems": ["sex: missing"] * 20,
                "more": {"deep": 1},
            },
            {"name": 3, "seconds": "soon", "problems": "x", "notes": [{"a": 1}]},
            "no document",
        ]
        line = event_line("metadata", "end", documents=told + [{}] * 100)
        [event] = read_events(line + b"\n").events
        first, second, *others = event.figures["documents"]
        self.assertEqual(
            (49, 10, 500), (len(others) + 2, len(first["problems"]), len(first["source"]))
        )
        self.assertEqual((0.25, False, []), (first["seconds"], first["complete"], first["notes"]))
        self.assertEqual(
            {
                "name": "3",
                "status": "",
                "source": "",
                "seconds": None,
                "complete": True,
                "problems": [],
                "notes": [""],
            },
            second,
        )

    def test_pieces_add_up_to_the_whole(self):
        first = read_events(event_line("transfer", "progress", bytes_done=1))
        second = read_events(event_line("transfer", "fail", "gone"))
        both = first + second + Report()
        self.assertEqual((both.failure, both.is_done), ("gone", False))
        self.assertEqual(both.values["bytes_done"], 1)
        self.assertEqual(both.consumed, first.consumed + second.consumed)

    @settings(max_examples=campaign(200))
    @given(st.lists(st.binary(max_size=40) | st.just(event_line("a", "start")), max_size=8))
    def test_any_bytes_cut_anywhere_give_the_same_events(self, pieces):
        data = b"".join(pieces)
        whole = read_events(data)
        report = Report()
        for end in range(0, len(data) + 1, 7):
            report += read_events(data[report.consumed : end])
        report += read_events(data[report.consumed :])
        self.assertEqual([e.step for e in report.events], [e.step for e in whole.events])
        self.assertEqual(report.consumed, whole.consumed)


class ReasonTest(unittest.TestCase):
    """The one line that says why."""

    def test_the_jobs_own_word_comes_first_then_the_executors_then_the_last_complaint(self):
        failed = status(RunState.FAILED, exit_code=10, reason="killed")
        self.assertEqual(reason_of_end(failed, "no folder", "x"), "no folder")
        self.assertEqual(reason_of_end(failed, "", "x"), "killed")
        failed = status(RunState.FAILED, reason="the node failed", decisive=True)
        self.assertEqual(reason_of_end(failed, "told to stop", "x"), "the node failed")
        failed = status(RunState.FAILED, exit_code=3)
        self.assertEqual(reason_of_end(failed, "", "a\n\x1b[31mb\x1b[0m \n\n"), "b")
        self.assertEqual(reason_of_end(failed, "", ""), "exit code 3")

    def test_known_exit_codes_are_told_in_words(self):
        reason = reason_of_end(status(RunState.FAILED, exit_code=16), "", "")
        self.assertIn("what arrived is not what was sent (exit code 16)", reason)
        self.assertIn("left no word", reason_of_end(status(RunState.FAILED), "", ""))

    def test_other_ends(self):
        self.assertEqual(reason_of_end(status(RunState.COMPLETED), "x", "y"), "")
        self.assertEqual(reason_of_end(status(RunState.CANCELLED), "x", ""), "cancelled on request")
        self.assertEqual(reason_of_end(status(RunState.TIMEOUT), "", ""), "timeout")
        self.assertEqual(reason_of_end(status(RunState.LOST, reason="gone"), "x", ""), "gone")

    def test_a_reason_is_one_line_of_bounded_length(self):
        reason = reason_of_end(status(RunState.FAILED), "a\nb\tc" + "d" * 1000, "")
        self.assertTrue(reason.startswith("a b c"))
        self.assertEqual(len(reason), 500)
        self.assertEqual(last_line("\x07\n \n"), "")
