"""What figures look like to a person."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.server import template_filters


class SizeTest(unittest.TestCase):
    """Numbers of bytes."""

    def test_sizes_have_three_digits_and_a_unit(self) -> None:
        for count, expected in (
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (207_300_000, "207 MB"),
            (999_999_999, "1.00 GB"),
            (402_000_000_000, "402 GB"),
            (None, "–"),
        ):
            with self.subTest(count=count):
                self.assertEqual(expected, template_filters.size(count))

    @given(st.integers(min_value=0, max_value=10**19))
    def test_a_size_is_never_long(self, count: int) -> None:
        self.assertLessEqual(len(template_filters.size(count)), 8)


class DurationTest(unittest.TestCase):
    """Lengths of time."""

    def test_durations_are_told_in_their_two_largest_units(self) -> None:
        for seconds, expected in (
            (0.2, "under 1 s"),
            (59.4, "59 s"),
            (60, "1 min"),
            (75, "1 min 15 s"),
            (7_380, "2 h 3 min"),
            (90_000, "1 d 1 h"),
            (None, "–"),
        ):
            with self.subTest(seconds=seconds):
                self.assertEqual(expected, template_filters.duration(seconds))


class ProblemTest(unittest.TestCase):
    """Errors of a file, taken apart."""

    def test_row_and_column_are_taken_out_of_a_message(self) -> None:
        found = template_filters.problem('row 17, modality1.source: "a: b" is not an absolute path')
        self.assertEqual((17, "modality1.source"), found[:2])
        self.assertEqual('"a: b" is not an absolute path', found.text)

    def test_a_message_about_a_row_as_a_whole_names_no_column(self) -> None:
        found = template_filters.problem("row 3: the same asset as row 2")
        self.assertEqual((3, "", "the same asset as row 2"), found)

    def test_a_message_about_the_file_names_neither(self) -> None:
        found = template_filters.problem("the file holds no jobs")
        self.assertEqual((None, "", "the file holds no jobs"), found)

    @given(st.text())
    def test_nothing_of_a_message_is_lost(self, text: str) -> None:
        self.assertTrue(text.endswith(template_filters.problem(text).text))


class ProgressTest(unittest.TestCase):
    """How far a job is."""

    def job(self, **changes: object) -> dict[str, object]:
        """Compose a job that is under way."""
        return {
            "state": "RUNNING",
            "bytes_done": 5_000_000,
            "bytes_total": 10_000_000,
            "files_done": 3,
            "files_total": 1_007,
            "bytes_per_second": 2e6,
            "seconds_left": 2.5,
        } | changes

    def said(self, **changes: object) -> str:
        """Write its progress, with plain blanks."""
        return template_filters.progress_text(self.job(**changes)).replace("\xa0", " ")

    def test_a_running_job_tells_bytes_files_rate_and_time_left(self) -> None:
        expected = "5.00 MB of 10.0 MB · 3 of 1,007 files · 2.00 MB/s · 2 s left"
        self.assertEqual(expected, self.said())

    def test_a_completed_job_tells_what_arrived(self) -> None:
        self.assertEqual("10.0 MB · 1,007 files", self.said(state="COMPLETED"))

    def test_a_failed_job_tells_how_far_it_came(self) -> None:
        self.assertEqual(
            "5.00 MB of 10.0 MB · 3 of 1 file", self.said(state="FAILED", files_total=1)
        )

    def test_a_job_without_figures_says_nothing(self) -> None:
        self.assertEqual("", self.said(files_total=None))
        self.assertIsNone(template_filters.share(self.job(files_total=None)))

    def test_the_share_is_of_bytes_or_where_there_are_none_of_files(self) -> None:
        self.assertEqual(0.5, template_filters.share(self.job()))
        self.assertEqual(0.25, template_filters.share(self.job(bytes_total=0, files_total=12)))
        self.assertEqual(1.0, template_filters.share(self.job(bytes_done=11_000_000)))


class TimelineTest(unittest.TestCase):
    """What a job did, made short."""

    def event(self, second: float, step: str, kind: str) -> dict[str, object]:
        """Compose an event."""
        time = f"2026-03-04T12:00:{second:09.6f}+00:00"
        return {"time": time, "step": step, "kind": kind, "message": ""}

    def test_a_step_that_has_ended_is_one_entry_with_its_seconds(self) -> None:
        entries = template_filters.timeline(
            [
                self.event(1, "metadata", "start"),
                self.event(2, "metadata", "warning"),
                self.event(3.5, "metadata", "end"),
                self.event(4, "transfer", "start"),
            ]
        )
        found = [(entry["step"], entry["kind"], entry["seconds"]) for entry in entries]
        expected = [
            ("metadata", "warning", None),
            ("metadata", "end", 2.5),
            ("transfer", "start", None),
        ]
        self.assertEqual(expected, found)

    def test_each_round_of_a_step_is_an_entry(self) -> None:
        kinds = ("start", "end", "start", "fail", "end")
        events = [self.event(n, "modality", kind) for n, kind in enumerate(kinds)]
        entries = template_filters.timeline(events)
        self.assertEqual(["end", "fail", "end"], [entry["kind"] for entry in entries])
        self.assertEqual([1.0, 1.0, None], [entry["seconds"] for entry in entries])


class HeadingTest(unittest.TestCase):
    """What figures mean."""

    def test_figures_are_headed_by_what_they_mean(self) -> None:
        self.assertEqual("Arrived and verified", template_filters.progress_heading("COMPLETED"))
        self.assertEqual("Progress before failure", template_filters.progress_heading("FAILED"))
        self.assertEqual("Progress", template_filters.progress_heading("RUNNING"))

    def test_a_message_loses_the_number_of_its_job(self) -> None:
        self.assertEqual("is away", template_filters.without_label("job 12: is away"))
        self.assertEqual("a: job 1, b", template_filters.without_label("row 3, a: job 1, b"))


class MomentTest(unittest.TestCase):
    """Moments, for readers without scripts."""

    def test_moments_are_written_in_utc(self) -> None:
        self.assertEqual(
            "2024-02-19 19:25:17 UTC", template_filters.utc("2024-02-19T11:25:17-08:00")
        )
        self.assertEqual("–", template_filters.utc(None))
