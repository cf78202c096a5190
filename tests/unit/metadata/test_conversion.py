"""Documents of lab systems, in generations 1 and 2 of the schema."""

import json
import re
import unittest
from collections.abc import Iterator, Mapping
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.conversion import in_generation
from aind_data_transfer_service.metadata.merge_procedures import merge_procedures
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import lab_documents

LATER = (Generation.V1, Generation.V2)
NOT_VALUES = re.compile("(_unit|^describedBy|^schema_version|_type|^registry|^abbreviation)$")
"""Fields whose values are terms of the schema."""
STANDING_FOR_NOTHING = {"unknown", "Other", "", "None"}
OF_THE_SCHEMA = {
    *("AP", "ML", "Z", "BREGMA_ARD", "FIBER_ARD", "Bregma", "Tip", "millimeter", "Unknown"),
    *("Posterior_to_anterior", "Left_to_right", "Up_to_down", "Bolus", "Pulsed", "Other"),
    *("isoflurane", "CCFv3", "House mouse", "Rhesus macaque", "Common marmoset"),
}
"""Texts of generation 2 that define or classify what is stated."""


def values(content: Any, key: str = "") -> Iterator[str]:
    """List all values of a document, but units and terms of the schema."""
    if isinstance(content, Mapping):
        for name, one in content.items():
            if not NOT_VALUES.search(name):
                yield from values(one, name)
    elif isinstance(content, list):
        for one in content:
            yield from values(one, key)
    elif content is not None and not isinstance(content, bool):
        yield from (line.strip() for line in str(content).splitlines())


def number(text: str) -> float | None:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        return None


def written(name: str, generation: Generation = Generation.V2) -> Found:
    """Convert a case."""
    found = dict(lab_documents.drafts())[name]
    return in_generation("procedures", found, generation)


class Everything(unittest.TestCase):
    """All cases, and others of their kinds."""

    def test_procedures_are_valid_or_as_incomplete_as_they_say(self) -> None:
        for generation in LATER:
            for name, draft in lab_documents.drafts():
                with self.subTest(name, generation=generation):
                    found = in_generation("procedures", draft, generation)
                    self.assertEqual([], problems_of("procedures", found.document, generation))
                    lacking = [note for note in found.notes if "schema needs: " in note]
                    self.assertEqual((True, not lacking), (found.valid, found.complete))
                    self.assertFalse(found.is_draft)

    def test_every_value_of_a_draft_is_in_the_document(self) -> None:
        for generation in LATER:
            for kind, drafts in (
                ("procedures", lab_documents.drafts()),
                ("subject", lab_documents.subjects()),
            ):
                for name, draft in drafts:
                    try:
                        found = in_generation(kind, draft, generation)
                    except MetadataError:
                        continue
                    text = json.dumps(found.document, ensure_ascii=False)
                    numbers = {abs(float(one)) for one in re.findall(r"\d+\.?\d*", text)}
                    for value in {*values(draft.document)} - STANDING_FOR_NOTHING:
                        amount = number(value)
                        with self.subTest(name, generation=generation, value=value):
                            if amount is None:
                                self.assertIn(json.dumps(value, ensure_ascii=False)[1:-1], text)
                            else:
                                self.assertIn(abs(amount), numbers)

    def test_no_value_is_in_the_document_that_is_not_in_the_draft(self) -> None:
        for generation in LATER:
            for name, draft in lab_documents.drafts():
                found = in_generation("procedures", draft, generation)
                text = json.dumps(draft.document, ensure_ascii=False)
                numbers = {abs(float(one)) for one in re.findall(r"\d+\.?\d*", text)}
                numbers |= {3.0, 5.0} if '"3 mm"' in text or '"5 mm"' in text else set()
                for value in {*values(without_notes(found.document))} - OF_THE_SCHEMA:
                    amount = number(value)
                    with self.subTest(name, generation=generation, value=value):
                        if amount is None:
                            self.assertIn(json.dumps(value, ensure_ascii=False)[1:-1], text)
                        elif not value.isdigit() or len(value) < 3:  # ids of structures
                            self.assertIn(abs(amount), numbers)

    def test_a_subject_is_valid_unless_it_lacks_something(self) -> None:
        for generation in LATER:
            for name, draft in lab_documents.subjects():
                with self.subTest(name, generation=generation):
                    try:
                        found = in_generation("subject", draft, generation)
                    except MetadataError as error:
                        self.assertEqual(Generation.V2, generation)
                        self.assertRegex(
                            str(error), "LabTracks: generation 2 .* put a subject.json"
                        )
                        self.assertRegex(name, "rat|ferret")
                        continue
                    problems = problems_of("subject", found.document, generation)
                    self.assertEqual(found.valid, not problems)
                    if draft.valid:
                        self.assertEqual([], problems)


def without_notes(content: Any) -> Any:
    """Leave out notes and descriptions, which name fields, and names of structures."""
    if isinstance(content, list):
        return [without_notes(one) for one in content]
    if not isinstance(content, Mapping):
        return content
    left_out = {"notes", "device_name", "description", "object_type"}
    left_out |= {"name"} if "acronym" in content else set()
    return {key: without_notes(one) for key, one in content.items() if key not in left_out}


class Procedures(unittest.TestCase):
    """Parts of procedures.json in generation 2."""

    def test_an_injection_is_placed_from_bregma(self) -> None:
        [first, *_] = [
            one
            for part in written("2019").document["subject_procedures"]
            for one in part["procedures"]
            if one["object_type"] == "Brain injection"
        ]
        self.assertEqual("BREGMA_ARD", first["coordinate_system_name"])
        places = [one["translation"] for one, _ in first["coordinates"]]
        self.assertEqual([[-1.6, -3.3, 0.3], [-1.6, -3.3, 0.6]], places)
        amounts = [(one["profile"], one["volume"]) for one in first["dynamics"]]
        self.assertEqual([("Bolus", 200), ("Bolus", 200)], amounts)
        self.assertEqual(["Left"], first["relative_position"])

    def test_a_position_that_is_not_stated_in_full_is_in_no_field(self) -> None:
        for name, words in (
            ("2019", "for want of the axis of the angle of 10 degrees"),
            ("2019 {'Virus_x0020_M_x002f_L': '3.3'}", "one side: M/L is 3.3, and the hemisphere"),
            ("2019 {'Virus_x0020_A_x002f_P': '-1.6 from lambda'}", "a position from bregma"),
            ("2019 {'Virus_x0020_D_x002f_V': None}", "a depth"),
            ("2023 {'Burr_x0020_1_x0020_DV_x0020_2': 2.9}", "depths of one sign"),
        ):
            parts = written(name).document["subject_procedures"]
            with self.subTest(name):
                self.assertIn(words, " ".join(part["notes"] for part in parts))
                injections = [
                    one
                    for part in parts
                    for one in part["procedures"]
                    if one["object_type"] == "Injection"
                ]
                self.assertTrue(injections)
                self.assertFalse(any("coordinates" in one for one in injections))

    def test_a_fibre_is_placed_if_its_structure_is_known(self) -> None:
        name = "2023 {'Burr_x0020_1_x0020_Intended_x002': ['LC - Locus ceruleus']}"
        fibres = [
            one
            for part in written(name).document["subject_procedures"]
            for one in part["procedures"]
            if one["object_type"] == "Probe implant"
        ]
        [fibre] = fibres
        target = fibre["device_config"]["primary_targeted_structure"]
        self.assertEqual(("LC", "147"), (target["acronym"], target["id"]))
        [place, turn] = fibre["device_config"]["transform"]
        self.assertEqual([-0.85, -5.2, 2.95], place["translation"])
        self.assertEqual([0, 0, 0], turn["angles"])
        self.assertEqual("Fiber_0", fibre["implanted_device"]["name"])

    def test_a_surgery_without_a_date_is_in_the_notes_of_the_document(self) -> None:
        for generation in LATER:
            found = written("nsb2019_two_rounds", generation)
            days = [part["start_date"] for part in found.document["subject_procedures"]]
            self.assertEqual(["2022-03-08", "2022-03-08"], days)
            for words in ("surgery without a date:", "animal_weight_prior: 22.6", "7/7"):
                self.assertIn(words, found.document["notes"])
            self.assertFalse(found.complete)
            self.assertIn("Surgery (Iontophoresis injection) lacks start_date", found.notes[-1])
            self.assertIn("complete the record at its source", found.notes[-1])

    def test_all_that_a_procedure_lacks_is_named_at_once(self) -> None:
        found = written("LAS {}")
        self.assertIn("lacks injection_materials, injection_volume, which", found.notes[-1])

    def test_documents_of_others_and_of_generation_0_stay_as_they_are(self) -> None:
        draft = dict(lab_documents.drafts())["2019"]
        self.assertIs(draft, in_generation("procedures", draft, Generation.V0))
        other = Found(draft.document, True, "the service")
        self.assertIs(other, in_generation("procedures", other, Generation.V2))

    def test_lists_of_one_source_are_converted_together(self) -> None:
        drafts = dict(lab_documents.drafts())
        merged = merge_procedures("700009", [drafts["2019"], drafts["2023"]])
        found = in_generation("procedures", merged, Generation.V2)
        self.assertEqual([], problems_of("procedures", found.document, Generation.V2))
        self.assertFalse([note for note in found.notes if note.endswith("targeted_structure")])


class Subjects(unittest.TestCase):
    """subject.json in generation 2."""

    def written(self, **changes: Any) -> dict[str, Any]:
        """Convert an animal."""
        found = dict(lab_documents.subjects())[str(changes)]
        return in_generation("subject", found, Generation.V2).document

    def test_a_mouse(self) -> None:
        document = self.written()
        details = document["subject_details"]
        self.assertEqual("Mouse subject", details["object_type"])
        self.assertEqual("NCBI:txid10090", details["species"]["registry_identifier"])
        self.assertEqual("C57BL/6J", details["strain"]["name"])
        self.assertEqual("Allen Institute", details["source"]["name"])
        self.assertEqual("600001", details["breeding_info"]["maternal_id"])
        self.assertEqual("breeding group: Exp-ND-01", document["notes"])

    def test_a_strain_that_the_schema_does_not_have_is_in_the_notes(self) -> None:
        document = self.written(group_description="C57BL/6NJ")
        self.assertEqual("Unknown", document["subject_details"]["strain"]["name"])
        self.assertIn("background strain: C57BL/6NJ", document["notes"].splitlines())

    def test_a_monkey_has_no_field_for_its_genotype(self) -> None:
        document = self.written(species_name="marmoset", sex="F")
        details = document["subject_details"]
        self.assertEqual((2023, "Unknown"), (details["year_of_birth"], details["mating_status"]))
        self.assertIn("genotype: wt/wt", document["notes"].splitlines())
        self.assertIn("cage id: 4711", document["notes"].splitlines())

    def test_what_is_not_known_is_absent(self) -> None:
        self.assertNotIn("sex", self.written(sex=None)["subject_details"])
        self.assertNotIn("date_of_birth", self.written(birth_date=None)["subject_details"])


if __name__ == "__main__":
    unittest.main()
