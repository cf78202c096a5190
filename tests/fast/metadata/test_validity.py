"""Whether documents are valid, by model and by rule."""

import json
import unittest
from importlib.resources import files

from aind_data_transfer_service.metadata.validity import Status, problems_of, status_of
from tests.support import slow


def sample(kind: str) -> dict:
    """Read a document of the demo."""
    folder = files("aind_data_transfer_service.demo") / "metadata"
    return json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))


class Validity(unittest.TestCase):
    """Documents that are right, and the same with something wrong."""

    def test_the_documents_of_the_demo_are_valid(self) -> None:
        for kind in ("subject", "procedures", "rig", "session"):
            with self.subTest(kind):
                self.assertEqual([], problems_of(kind, sample(kind)))

    @slow
    def test_each_rule_names_the_place_and_what_is_wrong_there(self) -> None:
        surgery = "subject_procedures.0"
        for kind, change, words in (
            ("procedures", {"subject_id": 7}, "subject_id: no text"),
            ("procedures", {"subject_procedures": {}}, "subject_procedures: no list"),
            ("procedures", {"subject_procedures": [3]}, f'{surgery}.procedure_type: "None" is'),
            ("procedures", {"subject_procedures": [{"procedure_type": []}]}, 'type: "[]" is none'),
            ("procedures", {"specimen_procedures": [3]}, "specimen_procedures.0: no object"),
            ("rig", {"modification_date": "soon"}, "modification_date: no day"),
            ("rig", {"mouse_platform": {"name": "x"}}, "mouse_platform.device_type: missing"),
            ("session", {"session_start_time": "2024-02-19T11:25:17"}, "_time: no time with its"),
            ("session", {"active_mouse_platform": "no"}, "platform: neither true nor false"),
        ):
            with self.subTest(words):
                [problem] = problems_of(kind, sample(kind) | change)
                self.assertIn(words, problem)

    def test_a_surgery_is_looked_into(self) -> None:
        document = sample("procedures")
        document["subject_procedures"][0] |= {
            "start_date": None,
            "procedures": [{"procedure_type": "Nanoject injection", "injection_materials": []}],
        }
        problems = problems_of("procedures", document)
        self.assertIn("subject_procedures.0.start_date: no day, such as 2024-02-19", problems)
        place = "subject_procedures.0.procedures.0"
        self.assertIn(f"{place}.protocol_id: missing", problems)
        self.assertIn(f"{place}.injection_materials: empty", problems)

    def test_a_list_in_the_place_of_a_word_is_a_problem(self) -> None:
        document = {"name": "a", "location": "b", "metadata_status": ["Valid"]}
        problems = problems_of("metadata", document)
        self.assertIn("metadata_status: none of Valid, Invalid, Missing, Unknown", problems)

    def test_of_many_problems_the_first_are_told_and_how_many_more(self) -> None:
        problems = problems_of("session", {})
        self.assertEqual((6, "and 3 more"), (len(problems), problems[-1]))

    def test_a_problem_is_one_short_line(self) -> None:
        [problem] = problems_of("subject", sample("subject") | {"x\n" * 300: 1})
        self.assertLessEqual(len(problem), 200)
        self.assertNotIn("\n", problem)

    def test_what_nobody_can_tell_is_unknown(self) -> None:
        self.assertEqual(Status.UNKNOWN, status_of("notes", {}))
        for kind in ("subject", "procedures"):
            self.assertEqual(Status.UNKNOWN, status_of(kind, {"schema_version": "2.0.0"}))
