"""How platforms and modalities may be written."""

import copy
import pickle
import unittest
from types import SimpleNamespace

from aind_data_schema.models.modalities import Modality as SchemaModality
from aind_data_schema.models.platforms import Platform as SchemaPlatform
from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.configs.vocabulary import (
    MODALITIES,
    PLATFORMS,
    Modality,
    Platform,
    nearest,
)


def shuffled_spelling(word: str) -> st.SearchStrategy[str]:
    """Write a word in any case, with any of the marks that count as one."""
    pieces = [
        st.sampled_from(["-", "_", " "]) if c in "- " else st.sampled_from([c.lower(), c.upper()])
        for c in word
    ]
    return st.tuples(*pieces).map("".join)


class VocabularyTest(unittest.TestCase):
    """Words, objects and mappings lead to the right term."""

    def test_the_lists_begin_with_those_of_the_first_schema(self):
        for ours, theirs in ((MODALITIES, SchemaModality), (PLATFORMS, SchemaPlatform)):
            expected = [(kind().name, kind().abbreviation) for kind in theirs._ALL]
            found = [(term.name, term.abbreviation) for term in ours]
            self.assertEqual(expected, found[: len(expected)])

    def test_the_terms_of_later_schemas_are_known(self):
        names = "BARseq brightfield EM MAPseq one-photon STPT scRNAseq".split()
        for name in names:
            self.assertEqual(name, Modality.parse(name).abbreviation)
        self.assertEqual("EM", Modality.parse("Electron microscopy").abbreviation)
        self.assertEqual("one-photon", Modality.parse("One_Photon").abbreviation)
        self.assertEqual("motor-observatory", Platform.parse("Motor Observatory").abbreviation)

    def test_spellings_of_all_generations_are_one_term(self):
        for abbreviation, others in (
            ("ophys", ("ophys", "pophys", "POPHYS", "Planar optical physiology")),
            (
                "slap",
                (
                    *("slap", "slap2", "SLAP2", "Scanned line projection imaging"),
                    "Random access projection microscopy",
                ),
            ),
        ):
            for other in others:
                for value in (other, {"abbreviation": other}, SimpleNamespace(abbreviation=other)):
                    self.assertEqual(abbreviation, Modality.parse(value).abbreviation)
        self.assertEqual(1, len({Modality.parse(one) for one in ("ophys", "pophys")}))

    def test_a_word_near_to_a_synonym_leads_to_its_term(self):
        with self.assertRaisesRegex(ValueError, 'did you mean "slap"'):
            Modality.parse("random access projektion microscopy")

    def test_objects_of_the_schema_are_taken(self):
        self.assertEqual(Modality.parse(SchemaModality.BEHAVIOR_VIDEOS).name, "Behavior videos")
        self.assertEqual(Platform.parse(SchemaPlatform.SMARTSPIM).abbreviation, "SmartSPIM")

    def test_objects_of_another_release_are_taken_by_abbreviation_or_else_by_name(self):
        later = SimpleNamespace(name="Planar optical physiology", abbreviation="pophys")
        self.assertEqual(Modality.parse(later).abbreviation, "ophys")

        class Behavior:
            name = "Behaviour of a later release"
            abbreviation = "behavior"

        self.assertIs(Modality.parse(Behavior), MODALITIES[0])

    def test_mappings_are_taken_and_other_keys_ignored(self):
        for mapping in (
            {"abbreviation": "ecephys", "name": "anything", "schema": 7},
            {"name": "Extracellular electrophysiology"},
            {"name": "Extracellular electrophysiology", "abbreviation": None},
        ):
            self.assertEqual(Modality.parse(mapping).abbreviation, "ecephys")

    @given(st.sampled_from(MODALITIES).flatmap(lambda m: shuffled_spelling(m.abbreviation)))
    def test_any_case_and_mark_of_an_abbreviation_is_taken(self, word):
        self.assertEqual(
            Modality.parse(f" {word}\t").abbreviation.casefold(),
            word.casefold().replace("_", "-").replace(" ", "-"),
        )

    @given(st.sampled_from(PLATFORMS).flatmap(lambda p: shuffled_spelling(p.name)))
    def test_any_case_and_mark_of_a_full_name_is_taken(self, word):
        self.assertIn(Platform.parse(word), PLATFORMS)

    def test_an_unknown_word_is_refused_with_the_nearest_known_one(self):
        with self.assertRaises(ValueError) as caught:
            Modality.parse("ecefys")
        self.assertIn('unknown modality "ecefys"; did you mean "ecephys"?', str(caught.exception))
        self.assertIn("behavior-videos, confocal", str(caught.exception))

    def test_a_word_near_to_a_full_name_leads_to_its_abbreviation(self):
        with self.assertRaisesRegex(ValueError, 'did you mean "SPIM"'):
            Modality.parse("selective plane ilumination microscopie")

    def test_a_word_near_to_nothing_is_refused_with_the_list(self):
        with self.assertRaisesRegex(ValueError, r'unknown platform "qqq"; Known are behavior'):
            Platform.parse("qqq")

    def test_what_names_nothing_is_refused(self):
        for value in (None, 5, "", "  ", {}, {"abbreviation": 3}, SimpleNamespace(abbreviation="")):
            with self.subTest(value=value), self.assertRaisesRegex(ValueError, "is no modality"):
                Modality.parse(value)

    @given(st.text())
    def test_any_text_is_either_taken_or_refused_on_one_line(self, text):
        try:
            self.assertIn(Modality.parse(text), MODALITIES)
        except ValueError as error:
            self.assertTrue(str(error).isprintable())

    def test_a_platform_is_no_modality_though_spelled_alike(self):
        self.assertNotEqual(Platform.parse("behavior"), Modality.parse("behavior"))

    def test_terms_are_values(self):
        term = MODALITIES[3]
        self.assertEqual(str(term), "ecephys")
        self.assertEqual({term: 1}[copy.deepcopy(term)], 1)
        self.assertEqual(pickle.loads(pickle.dumps(term)), term)
        with self.assertRaises(AttributeError):
            term.name = "other"

    def test_the_nearest_word_is_told_as_it_stands_in_the_list(self):
        self.assertEqual(nearest("SUBJECTID", ["platform", "subject_id"]), "subject_id")
        self.assertIsNone(nearest("zzz", ["platform", "subject_id"]))
        self.assertIsNone(nearest("zzz", []))
