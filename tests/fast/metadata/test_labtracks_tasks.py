"""Tasks of LabTracks, and the procedures that are read of them."""

import json
import unittest
from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.metadata.labtracks_rows import read_subject
from aind_data_transfer_service.metadata.labtracks_tasks import read_tasks
from tests.fast.metadata.test_labtracks_rows import row
from tests.support import campaign

VALUES = (
    st.none()
    | st.text()
    | st.datetimes()
    | st.decimals(allow_nan=False, allow_infinity=False, places=0)
    | st.sampled_from(["F", "C", "Perfusion", "RO Injection VGT", "no perfusion", "mouse", "M"])
)


def task(**columns: Any) -> dict[str, Any]:
    """Make a finished perfusion."""
    return {
        "id": Decimal(2356051),
        "type_name": "Perfusion Gel",
        "date_start": datetime(2022, 10, 11),
        "date_end": datetime(2022, 10, 11, 4, 30),
        "investigator_id": Decimal(28803),
        "description": "as\nasked",
        "task_status": "F",
        "protocol_number": "2002",
        "protocol_title": None,
    } | columns


class Tasks(unittest.TestCase):
    """Which tasks are procedures."""

    def test_a_perfusion(self) -> None:
        found = read_tasks("7", [task()], "here")
        [surgery] = found.document["subject_procedures"]
        self.assertTrue(found.valid)
        self.assertEqual("2022-10-11", surgery["start_date"])
        self.assertEqual(["Perfusion"], [one["procedure_type"] for one in surgery["procedures"]])
        self.assertEqual(
            [
                "task: 2356051",
                "task type: Perfusion Gel",
                "description: as asked",
                "ended: 2022-10-11 04:30:00",
            ],
            surgery["notes"].splitlines(),
        )

    def test_only_what_was_finished_counts(self) -> None:
        for status in ("S", "C", "D", "A", "L", "f", "", None):
            with self.subTest(status):
                found = read_tasks("7", [task(task_status=status)], "here")
                self.assertEqual([], found.document["subject_procedures"])
                self.assertIn("left out: its status is", found.notes[0])
                self.assertIn(found.notes[0], found.document["notes"])

    def test_other_types_are_no_procedures(self) -> None:
        for name in ("Tattoo/Tail Tip", "no perfusion", "Pre-Perfusion check", "", None):
            self.assertIsNone(read_tasks("7", [task(type_name=name)], "here"))

    @settings(max_examples=campaign(100))
    @given(st.lists(st.dictionaries(st.sampled_from(sorted(task())), VALUES), max_size=3))
    def test_no_task_is_too_odd_and_no_procedure_is_invented(self, changes: list[Any]) -> None:
        rows = [task(**columns) for columns in changes]
        found = read_tasks("7", rows, "here")
        made = found.document["subject_procedures"] if found else []
        finished = [one for one in rows if str(one["task_status"]).strip() == "F"]
        named = [
            one
            for one in finished
            if str(one["type_name"]).strip().lower().startswith(("perfusion", "ro injection"))
        ]
        self.assertEqual(len(named), len(made))
        json.dumps(found.document if found else None, allow_nan=False)

    @settings(max_examples=campaign(100))
    @given(st.dictionaries(st.sampled_from(sorted(row())), VALUES))
    def test_no_row_of_an_animal_is_too_odd(self, columns: dict[str, Any]) -> None:
        reading = read_subject([row(**columns)])
        json.dumps(reading.document, allow_nan=False)
        housing = reading.document["housing"] or {}
        for place in ("cage_id", "room_id"):
            self.assertFalse((housing.get(place) or "").startswith("-1"), housing)
