"""Tasks of LabTracks, and the procedures that are read of them."""

import json
import unittest
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.cli.metadata import survey
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.assemble import gather
from aind_data_transfer_service.metadata.asset_facts import Facts
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.registry import Lab
from aind_data_transfer_service.metadata.sources.labtracks.procedures import read_tasks
from aind_data_transfer_service.metadata.sources.labtracks.rows import read_subject
from aind_data_transfer_service.settings.metadata import MetadataSettings, Policy
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import campaign, slow
from tests.unit.metadata.sources.labtracks.test_rows import row

MOMENT = datetime(2024, 2, 19, tzinfo=UTC)
FACTS_OF_7 = ("a", "s3://b/a", "7", "p", "behavior", [], MOMENT)
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


class Known(SourceBase):
    """A source that has procedures, or fails."""

    def __init__(self, answer: Found | MetadataError):
        self.answer = answer

    def subject(self, subject_id: str) -> Found:
        """Give a subject."""
        return Found({"subject_id": "7"}, True, "colony")

    def procedures(self, subject_id: str) -> Found:
        """Give the procedures, or fail."""
        if isinstance(self.answer, MetadataError):
            raise self.answer
        return self.answer


def service(kind: str, day: str | None, nested: bool = True) -> Known:
    """Make a service that has one procedure."""
    part: dict[str, Any] = {"procedure_type": kind, "start_date": day}
    if nested:
        part = {"procedure_type": "Surgery", "start_date": day, "procedures": [part]}
    content = {"schema_version": "0.13.7", "subject_id": "7", "subject_procedures": [part]}
    return Known(Found(content, True, "service"))


class BesideOtherSources(unittest.TestCase):
    """Tasks that another source may have too."""

    def gather(self, other: Known, tasks: Found | MetadataError) -> tuple[dict[str, Any], list]:
        """Gather procedures of both, which are required."""
        lab = Lab(
            {"service": other, "labtracks": Known(tasks)},
            MetadataSettings(sources={"procedures": {"if_missing": Policy.REQUIRE}}),
        )
        gathered = gather(Facts(*FACTS_OF_7), None, lab)
        content = gathered.documents["procedures"].content
        [row] = [row for row in survey(lab, {"procedures": "7"}) if row.source == "labtracks"]
        self.assertEqual("failed" if isinstance(tasks, MetadataError) else "found", row.outcome)
        return content, gathered.warnings

    @slow
    def test_what_another_source_has_of_that_day_is_there_once(self) -> None:
        for kind, name in (
            ("Perfusion", "Perfusion Gel"),
            ("Retro-orbital injection", "RO Injection VGT"),
        ):
            for other in (
                service(kind, "2022-10-11"),
                service(kind, "2022-10-11T00:00:00", nested=False),
                service(kind, None),
            ):
                with self.subTest(kind):
                    tasks = [task(type_name=name), task(id=2, task_status="C", type_name=name)]
                    content, _ = self.gather(other, read_tasks("7", tasks, "LabTracks"))
                    [part] = content["subject_procedures"]
                    self.assertIn("source: service", part["notes"])
                    self.assertIn("task: 2356051; task type", content["notes"])
                    self.assertIn("service has it", content["notes"])
                    self.assertIn("task 2 ", content["notes"])

    def test_generation_2_names_procedures_otherwise(self) -> None:
        orbit = {"object_type": "Injection", "targeted_structure": {"name": "retro-orbital sinus"}}
        for name, done, parts in (
            ("Perfusion Gel", {"object_type": "Perfusion"}, 1),
            ("RO Injection VGT", orbit, 1),
            ("RO Injection VGT", {"object_type": "Injection", "notes": "in the belly"}, 2),
            ("Perfusion Gel", orbit, 2),
        ):
            for inner, kind in (
                ("procedures", "Surgery"),
                ("injections", "Non surgical injection"),
            ):
                part = {"object_type": kind, "start_date": "2022-10-11", inner: [done]}
                content = {"schema_version": "2.2.3", "subject_procedures": [part]}
                lab = Lab(
                    {
                        "service": Known(Found(content, True, "service")),
                        "labtracks": Known(read_tasks("7", [task(type_name=name)], "LabTracks")),
                    }
                )
                facts = Facts(*FACTS_OF_7, Generation.V2)
                found = gather(facts, None, lab).documents["procedures"].content
                with self.subTest(name, done=done, kind=kind):
                    self.assertEqual(parts, len(found["subject_procedures"]))
                    self.assertIn("as asked", json.dumps(found))

    def test_what_no_other_source_has_is_kept(self) -> None:
        for other in (service("Perfusion", "2022-10-12"), service("Craniotomy", "2022-10-11")):
            content, _ = self.gather(other, read_tasks("7", [task()], "LabTracks"))
            self.assertEqual(2, len(content["subject_procedures"]))

    def test_a_login_that_may_not_read_tasks_is_a_warning(self) -> None:
        failure = MetadataError("LabTracks does not let reader read")
        content, warnings = self.gather(service("Perfusion", "2022-10-11"), failure)
        self.assertEqual(1, len(content["subject_procedures"]))
        self.assertTrue(any("does not let reader read" in text for text in warnings))


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

    def test_a_date_that_stands_for_none_is_no_date(self) -> None:
        for empty in (datetime(1900, 1, 1), datetime(1753, 1, 1), datetime(2098, 1, 1)):
            [surgery] = read_tasks("7", [task(date_start=empty)], "here").document[
                "subject_procedures"
            ]
            self.assertIsNone(surgery["start_date"])
            self.assertIn(f"started: {empty.date()}, which is not plausible", surgery["notes"])

    def test_only_what_was_finished_counts(self) -> None:
        for status in ("S", "C", "D", "A", "L", "f", "", None):
            with self.subTest(status):
                found = read_tasks("7", [task(task_status=status)], "here")
                self.assertEqual([], found.document["subject_procedures"])
                self.assertIn("left out: its status is", found.notes[0])
                self.assertIn(found.notes[0], found.document["notes"])

    def test_other_types_are_no_procedures(self) -> None:
        for name in ("Tattoo/Tail Tip", "Rotarod", "Injection IP", "", None):
            self.assertIsNone(read_tasks("7", [task(type_name=name)], "here"))

    def test_a_type_is_read_however_it_is_written(self) -> None:
        for kind, names in {
            "Perfusion": ("Perfusion", "PERFUSION-Gel", " perfusion  gel", "Perfusion_PFA"),
            "Retro-orbital injection": (
                "RO Injection VGT",
                "RO-Injection",
                "R.O. injection",
                "Retro-orbital Injection",
                "Retro \u2013 Orbital  Injection",
                "Retroorbital Injection",
                "RETROORBITAL-INJECTIONS (virus)",
            ),
        }.items():
            for name in names:
                with self.subTest(name):
                    found = read_tasks("7", [task(type_name=name)], "here")
                    [surgery] = found.document["subject_procedures"]
                    done = [one["procedure_type"] for one in surgery["procedures"]]
                    self.assertEqual([kind], done)
                    self.assertIn(f"task type: {' '.join(name.split())}", surgery["notes"])

    def test_a_type_that_is_nearly_one_is_a_note(self) -> None:
        for name in (
            "no perfusion",
            "Pre-Perfusion check",
            "Perfusion - cancelled",
            "Perfusion (canceled)",
            "Perfusion not done",
            "RO Injection aborted",
            "Retro-orbital bleed",
            "Perfusionist training",
        ):
            with self.subTest(name):
                found = read_tasks("7", [task(type_name=name)], "here")
                self.assertEqual([], found.document["subject_procedures"])
                note = f"task 2356051 ({name}): left out: its type is not known as a procedure"
                self.assertEqual((note,), found.notes)
                self.assertIn(note, found.document["notes"])

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
