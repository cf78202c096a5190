"""Whether documents are valid, by the JSON Schema of a generation."""

import json
import subprocess
import sys
import time
import unittest
from pathlib import Path

from aind_data_transfer_service.metadata import schemas
from aind_data_transfer_service.metadata.schema_formats import FORMATS
from aind_data_transfer_service.metadata.schemas import KINDS, RECORD, version_of
from aind_data_transfer_service.metadata.validation import Status, problems_of, status_of
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import slow
from tests.support.schema_changes import changes, sample


class Validity(unittest.TestCase):
    """Documents that are right, and the same with something wrong."""

    def test_the_documents_of_the_demo_are_valid(self) -> None:
        for kind in ("subject", "procedures", "rig", "session"):
            with self.subTest(kind):
                self.assertEqual([], problems_of(kind, sample(kind)))

    def test_there_is_a_schema_for_every_document(self) -> None:
        for generation, kinds in KINDS.items():
            for kind in (*kinds, RECORD):
                with self.subTest(kind, generation=generation):
                    self.assertTrue(problems_of(kind, {"name": 1}, generation))

    def test_each_problem_names_the_place_and_what_is_wrong_there(self) -> None:
        surgery = "subject_procedures.0"
        for kind, change, words in (
            ("procedures", {"subject_id": 7}, 'subject_id: "7" is not of type string'),
            ("procedures", {"subject_procedures": {}}, 'subject_procedures: "{}" is not of type'),
            ("procedures", {"subject_procedures": [3]}, f'{surgery}: "3" is not of type object'),
            ("procedures", {"subject_procedures": [{}]}, f"{surgery}.procedure_type: missing"),
            (
                "procedures",
                {"subject_procedures": [{"procedure_type": "Nap"}]},
                f'{surgery}.procedure_type: "Nap" is not one of',
            ),
            ("procedures", {"specimen_procedures": [3]}, 'specimen_procedures.0: "3" is not of'),
            ("rig", {"modification_date": "soon"}, 'modification_date: "soon" is not a date'),
            ("rig", {"mouse_platform": {"name": "x"}}, "mouse_platform.device_type: missing"),
            ("session", {"session_start_time": "2024-02-30T11:25:17"}, "is not a date-time"),
            ("session", {"animal_weight_prior": "heavy"}, '"heavy" is not a number'),
            (
                "rig",
                {"mouse_platform": sample("rig")["mouse_platform"] | {"radius": "-3"}},
                '"-3" is not a number of at least 0',
            ),
            ("session", {"active_mouse_platform": "no"}, 'platform: "no" is not of type boolean'),
            ("session", {"documents": 1}, "documents: not a field of this document"),
        ):
            with self.subTest(words):
                [problem] = problems_of(kind, sample(kind) | change)
                self.assertIn(words, problem)

    def test_every_change_of_a_value_is_judged_as_the_models_do(self) -> None:
        for kind, change, content, is_valid in changes():
            with self.subTest(change):
                expected = Status.VALID if is_valid else Status.INVALID
                self.assertEqual(expected, status_of(kind, content), problems_of(kind, content))

    def test_every_format_of_the_schemas_is_checked(self) -> None:
        used: set[str] = set()
        for path in Path(schemas.__file__).parent.glob("*.json"):
            json.loads(path.read_bytes(), object_hook=lambda part: used.add(part.get("format")))
        built_in = {"uuid", "path", "uri-reference"}
        self.assertEqual(FORMATS.keys(), {name for name in used if name} - built_in)

    def test_a_surgery_is_looked_into(self) -> None:
        document = sample("procedures")
        document["subject_procedures"][0] |= {
            "start_date": None,
            "procedures": [{"procedure_type": "Nanoject injection", "injection_materials": []}],
        }
        problems = problems_of("procedures", document)
        self.assertIn(
            'subject_procedures.0.start_date (Surgery): "None" is not of type string', problems
        )
        place = "subject_procedures.0.procedures.0.protocol_id"
        self.assertIn(f"{place} (Nanoject injection, Surgery): missing", problems)

    def test_a_problem_names_the_part_that_it_is_in(self) -> None:
        generation = Generation.V2
        surgery = {"object_type": "Surgery", "start_date": "2024-01-01"}
        injection = {"object_type": "Brain injection", "injection_materials": []}
        frame = {"object_type": "Headframe", "headframe_type": 5}
        parts = [{**surgery, "procedures": [frame, injection]}, {"object_type": "Nap"}]
        document = {"subject_id": "1", "subject_procedures": parts}
        problems = problems_of("procedures", document, generation)
        for line in (
            "subject_procedures.0.procedures.0.headframe_type (Headframe, Surgery of 2024-01-01): "
            '"5" is not of type string',
            "subject_procedures.0.procedures.1.injection_materials (Brain injection, Surgery of "
            "2024-01-01): has 0 entries, at least 1 needed",
            "subject_procedures.0.procedures.1.dynamics (Brain injection, Surgery of 2024-01-01): "
            "missing",
        ):
            self.assertIn(line, problems)
        stream = {"object_type": "Data stream", "configurations": [{"object_type": "Nap"}]}
        problems = problems_of("acquisition", {"data_streams": [stream]}, generation)
        self.assertIn("data_streams.0.stream_start_time (Data stream): missing", problems)

    def test_a_term_that_the_schema_does_not_list_is_a_problem(self) -> None:
        document = sample("subject")
        document["species"] = {**document["species"], "name": "Mus"}
        [problem] = problems_of("subject", document)
        self.assertIn('species.name: "Mus" is not one of "Callithrix jacchus"', problem)

    def test_of_files_with_other_names_nothing_is_known(self) -> None:
        for generation in Generation:
            for kind in ("terms", "metadata", "notes", "../schemas/__init__", "x" * 250):
                with self.subTest(generation=generation, kind=kind):
                    self.assertIsNone(problems_of(kind, {"a": 1}, generation))

    def test_the_record_may_hold_invalid_documents_and_no_fields_of_our_own(self) -> None:
        record = {"name": "a", "location": "b", "session": {"rig_id": 1}}
        self.assertEqual([], problems_of(RECORD, record))
        [problem] = problems_of(RECORD, record | {"document_status": {}})
        self.assertEqual("document_status: not a field of this document", problem)
        [problem] = problems_of(RECORD, record | {"metadata_status": ["Valid"]})
        self.assertIn("metadata_status: ", problem)

    def test_of_many_problems_the_first_are_told_and_how_many_more(self) -> None:
        problems = problems_of("session", {})
        self.assertEqual((6, "and more"), (len(problems), problems[-1]))

    def test_a_document_with_very_many_problems_takes_no_longer_than_one_with_few(self) -> None:
        good = sample("session")["stimulus_epochs"]
        document = sample("session") | {"stimulus_epochs": [{"x": 1}] * 50_000}
        began = time.process_time()
        self.assertEqual(Status.INVALID, status_of("session", document))
        self.assertEqual(6, len(problems_of("session", document)))
        document["stimulus_epochs"] = [*good * 1000, *document["stimulus_epochs"]]
        [problem] = problems_of("session", document)
        self.assertIn("stimulus_epochs.1000.", problem)
        self.assertLess(time.process_time() - began, 2.5)

    def test_however_deeply_a_document_is_nested_it_has_a_status(self) -> None:
        for depth in (500, 900, 985, 992, 5000):
            deep: dict = {}
            for _ in range(depth):
                deep = {"notes": deep}
            with self.subTest(depth):
                self.assertEqual(Status.INVALID, status_of("subject", sample("subject") | deep))

    def test_a_problem_is_one_short_line(self) -> None:
        for change in ({"x\n" * 300: 1}, {"sex": "y\n" * 300}, {"sex": ["z" * 10_000]}):
            [problem] = problems_of("subject", sample("subject") | change)
            self.assertLessEqual(len(problem), 200)
            self.assertNotIn("\n", problem)

    def test_values_that_few_programs_can_read_are_problems_and_no_faults(self) -> None:
        deep: dict = {}
        for _ in range(900):
            deep = {"notes": deep}
        for change in ({"notes": "half \ud800"}, {"notes": 10**400}, {"notes": deep}):
            self.assertIn(
                status_of("subject", sample("subject") | change), (Status.VALID, Status.INVALID)
            )

    def test_times_of_day_need_no_offset(self) -> None:
        document = sample("subject")
        light = {"lights_on_time": "06:00:00", "lights_off_time": "18:00:00"}
        document["housing"] = {"light_cycle": light}
        self.assertEqual([], problems_of("subject", document))

    def test_what_nobody_can_tell_is_unknown(self) -> None:
        self.assertEqual(Status.UNKNOWN, status_of("notes", {}))
        for kind in ("subject", "procedures"):
            self.assertEqual(Status.UNKNOWN, status_of(kind, {"schema_version": "0.1.0"}))

    def test_a_document_of_another_generation_is_not_valid(self) -> None:
        for version in ("2.0.0", "9.9.9", "soon", 3):
            [problem] = problems_of("subject", sample("subject") | {"schema_version": version})
            belongs = "generation 2 of the schema" if version == "2.0.0" else "no known generation"
            words = f'"{version}" is of {belongs}, and METADATA_SCHEMA is 0.34'
            self.assertIn(f"schema_version: {words}; ", problem)
            self.assertIn("provide one of generation 0.34 (0.5.6), or change METADATA", problem)
        [problem] = problems_of("subject", sample("subject"), Generation.V2)
        self.assertIn("is of generation 0.34 of the schema, and METADATA_SCHEMA is 2", problem)

    def test_of_the_later_generations_any_release_may_be_valid(self) -> None:
        quality = {"metrics": [], "default_grouping": [], "schema_version": "2.1.0"}
        self.assertEqual([], problems_of("quality_control", quality, Generation.V2))
        self.assertTrue(problems_of("quality_control", quality | {"x": 1}, Generation.V2))

    def test_a_document_that_a_generation_does_not_have_is_not_valid_there(self) -> None:
        [problem] = problems_of("rig", sample("rig"), Generation.V2)
        self.assertEqual("generation 2 of the schema has no rig.json", problem)
        self.assertIsNone(problems_of("quality_control", {}, Generation.V0))

    @slow
    def test_nothing_of_aind_data_schema_is_imported(self) -> None:
        code = (
            "import sys\n"
            "from aind_data_transfer_service.metadata.validation import problems_of\n"
            "from tests.unit.metadata.test_assemble import FACTS\n"
            "from aind_data_transfer_service.metadata.documents import data_description\n"
            "assert problems_of('procedures', {})\n"
            "assert data_description(FACTS, [{'investigators': 'B'}], 'NYU').problems\n"
            "print([name for name in sys.modules if name.startswith('aind_data_schema')])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual(("[]\n", ""), (run.stdout, run.stderr))

    def test_every_document_of_a_release_has_a_version_of_its_generation(self) -> None:
        for generation, kinds in KINDS.items():
            for kind in (*kinds, RECORD):
                version = version_of(generation, kind)
                self.assertEqual(generation.partition(".")[0], version.partition(".")[0])
