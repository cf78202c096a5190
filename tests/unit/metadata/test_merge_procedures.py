"""Procedures of several sources, made one document."""

import unittest
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.merge_procedures import merge_procedures


def surgery(day: str, **more: Any) -> dict[str, Any]:
    """Make a surgery."""
    return {"procedure_type": "Surgery", "start_date": day, "notes": None} | more


def found(source: str, *parts: dict[str, Any], **more: Any) -> Found:
    """Make an answer of a source."""
    document = {"schema_version": "0.13.7", "subject_id": "7", "subject_procedures": list(parts)}
    document |= more.pop("document", {})
    return Found(document, more.pop("valid", True), source, **more)


class Merging(unittest.TestCase):
    """The document of several answers."""

    def test_parts_come_by_date_and_tell_their_origin(self) -> None:
        merged = merge_procedures(
            "7",
            [
                found("A", surgery("2023-05-01"), surgery("2022-01-01")),
                found("B", surgery("2023-01-01")),
            ],
        )
        parts = merged.document["subject_procedures"]
        self.assertEqual(
            [("2022-01-01", "source: A"), ("2023-01-01", "source: B"), ("2023-05-01", "source: A")],
            [(part["start_date"], part["notes"]) for part in parts],
        )
        self.assertEqual("A: 2 procedures\nB: 1 procedure", merged.document["notes"])
        self.assertEqual(
            ("A and B", True, True, ()),
            (merged.source, merged.valid, merged.complete, merged.notes),
        )

    def test_what_two_sources_tell_alike_is_there_once(self) -> None:
        one, two = surgery("2023-01-01", notes="cold day"), surgery("2023-01-01", notes="item: 5")
        [part] = merge_procedures("7", [found("A", one), found("B", two)]).document[
            "subject_procedures"
        ]
        self.assertEqual("source: A\nsource: B\ncold day\nitem: 5", part["notes"])

    def test_what_one_source_tells_twice_was_done_twice(self) -> None:
        same = surgery("2023-01-01")
        merged = merge_procedures("7", [found("A", same, same), found("B", same)])
        notes = [part["notes"] for part in merged.document["subject_procedures"]]
        self.assertEqual(["source: A\nsource: B", "source: A"], notes)

    def test_what_is_not_whole_or_not_valid_makes_the_whole_so(self) -> None:
        half = found("B", surgery("2023-01-01"), complete=False, notes=("page 2 is missing",))
        merged = merge_procedures("7", [found("A"), half])
        self.assertFalse(merged.complete)
        self.assertEqual(("B: page 2 is missing",), merged.notes)
        self.assertIn("B: 1 procedure, not all that there ought to be", merged.document["notes"])
        self.assertFalse(merge_procedures("7", [found("A"), found("B", valid=False)]).valid)

    def test_merging_again_marks_nothing_twice(self) -> None:
        once = merge_procedures("7", [found("A", surgery("2023-01-01"))])
        twice = merge_procedures("7", [once, found("B")])
        [part] = twice.document["subject_procedures"]
        self.assertEqual("source: A", part["notes"])
        self.assertEqual("A: 1 procedure\nB: 0 procedures", twice.document["notes"])

    def test_kinds_that_have_no_notes_get_none(self) -> None:
        water = {"procedure_type": "Water restriction", "start_date": "2023-01-01"}
        merged = merge_procedures("7", [found("A", water)])
        self.assertEqual([water], merged.document["subject_procedures"])

    def test_specimen_procedures_are_kept_too(self) -> None:
        with_specimen = found("A", document={"specimen_procedures": [{"specimen_id": "7-1"}]})
        merged = merge_procedures("7", [found("B"), with_specimen])
        self.assertEqual(
            [{"specimen_id": "7-1", "notes": "source: A"}], merged.document["specimen_procedures"]
        )

    def test_the_answers_themselves_stay_as_they_were(self) -> None:
        part = surgery("2023-01-01")
        merge_procedures("7", [found("A", part), found("B", surgery("2023-01-01"))])
        self.assertIsNone(part["notes"])

    def test_parts_of_generation_2_that_have_no_notes_get_none(self) -> None:
        for kind in ("Water restriction", "Injection"):
            part = {"object_type": kind, "start_date": "2023-01-01"}
            merged = merge_procedures("7", [found("A", part)])
            self.assertEqual([part], merged.document["subject_procedures"])

    def test_different_schemas_make_no_valid_document(self) -> None:
        later = found("B", document={"schema_version": "2.0"})
        merged = merge_procedures("7", [found("A"), later])
        self.assertFalse(merged.valid)
        self.assertIn('B: schema_version: "2.0" is of generation 2 of the schema', merged.notes[0])

    def test_what_cannot_be_merged_is_refused_by_name(self) -> None:
        for document, words in (
            ({"subject_id": "8"}, "B names the subject 8, where 7 was asked for"),
            ({"subject_procedures": {"a": 1}}, "B has subject_procedures that are no list"),
            ({"specimen_procedures": ["x"]}, "B has specimen_procedures that are no list"),
        ):
            with self.subTest(words), self.assertRaisesRegex(MetadataError, words):
                merge_procedures("7", [found("A"), found("B", document=document)])
        with self.assertRaises(ValueError):
            merge_procedures("7", [])
