"""What rows of LabTracks become: table by table, without a server."""

import json
import unittest
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from aind_data_schema.core.subject import BackgroundStrain, Subject
from aind_data_schema.models.species import Species

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.sources.labtracks.rows import Reading, read_subject
from tests.support.labtracks import xml


def row(**columns: Any) -> dict[str, Any]:
    """Give a row in which nothing is missing, but for what is told."""
    return {
        "id": Decimal("690165"),
        "sex": "M",
        "birth_date": datetime(2023, 8, 14),
        "class_values": xml("wt/wt"),
        "cage_id": Decimal("4711"),
        "room_id": Decimal("271"),
        "species_name": "mouse",
        "group_description": "C57BL/6J",
        "maternal_id": Decimal("600001"),
        "maternal_class_values": xml("Vip-IRES-Cre/wt"),
        "paternal_id": Decimal("600002"),
        "paternal_class_values": xml("Ai32/Ai32"),
        "breeding_group": "Exp-ND-01",
        "breeding_description": None,
        **columns,
    }


def read(**columns: Any) -> Reading:
    """Read one row."""
    return read_subject([row(**columns)])


class Fields(unittest.TestCase):
    """One field after the other."""

    def test_a_whole_row_is_what_the_schema_itself_would_write(self) -> None:
        reading = read()
        model = Subject.model_validate_json(json.dumps(reading.document))
        self.assertEqual(json.loads(model.model_dump_json()), reading.document)
        self.assertEqual(([], True), (reading.notes, reading.complete))
        self.assertEqual("690165", model.subject_id)
        self.assertEqual("Allen Institute", model.source.name)
        self.assertEqual(("4711", "271"), (model.housing.cage_id, model.housing.room_id))
        self.assertEqual(
            {
                "breeding_group": "Exp-ND-01",
                "maternal_id": "600001",
                "maternal_genotype": "Vip-IRES-Cre/wt",
                "paternal_id": "600002",
                "paternal_genotype": "Ai32/Ai32",
            },
            reading.document["breeding_info"],
        )

    def test_sexes(self) -> None:
        for value, expected in {
            "M": "Male",
            "f": "Female",
            " F ": "Female",
            "male": "Male",
        }.items():
            with self.subTest(value):
                self.assertEqual(expected, read(sex=value).document["sex"])
        for value, words in {"U": 'sex is "U"', "": "sex is not known", None: "not known"}.items():
            with self.subTest(value):
                reading = read(sex=value)
                self.assertNotIn("sex", reading.document)
                self.assertIn(words, reading.notes[0])
                self.assertFalse(reading.complete)

    def test_dates_of_birth(self) -> None:
        for value in (datetime(2023, 8, 14, 23, 59), date(2023, 8, 14)):
            self.assertEqual("2023-08-14", read(birth_date=value).document["date_of_birth"])
        for empty in (
            datetime(1900, 1, 1),
            datetime(1753, 1, 1),
            date(1, 1, 1),
            date(1899, 12, 30),
            datetime(2098, 1, 1),
            datetime.now() + timedelta(days=3),
        ):
            reading = read(birth_date=empty)
            self.assertNotIn("date_of_birth", reading.document)
            self.assertIn(f"{empty.isoformat()[:10]} is not plausible", reading.notes[0])
            self.assertFalse(reading.complete)
        for value in (None, "yesterday"):
            reading = read(birth_date=value)
            self.assertNotIn("date_of_birth", reading.document)
            self.assertEqual(["date of birth is not known"], reading.notes)

    def test_species(self) -> None:
        for value, expected in {
            "mouse": Species.MUS_MUSCULUS,
            "Mouse": Species.MUS_MUSCULUS,
            "mus musculus": Species.MUS_MUSCULUS,
            "RAT": Species.RATTUS_NOVEGICUS,
            "marmoset": Species.CALLITHRIX_JACCHUS,
            "Rhesus Macaque": Species.MACACA_MULATTA,
        }.items():
            with self.subTest(value):
                document = read(species_name=value).document
                self.assertEqual(json.loads(expected.model_dump_json()), document["species"])
        for value, words in {"zebrafish": '"zebrafish" is none', None: "no species"}.items():
            reading = read(species_name=value)
            self.assertNotIn("species", reading.document)
            self.assertIn(words, reading.notes[0])

    def test_words_for_no_genotype_are_none(self) -> None:
        for words in (
            *("N/A", "n.a.", "unknown", " TBD ", "-", "--", "?", "???", "?/?", "null", "TBD?"),
            *("not genotyped", "Not yet genotyped", "not typed", "not known", "(pending)"),
            *("pending genotyping results", "Pending 3/5/2024", "to be determined", "no genotype"),
            *("genotype unknown", "Genotyping failed; retest", "UNK", "un-typed", "not_tested"),
            *("awaiting results from the lab", "has not been genotyped yet"),
        ):
            reading = read(class_values=xml(words), maternal_class_values=xml(words))
            self.assertIsNone(reading.document["genotype"])
            self.assertIsNone(reading.document["breeding_info"]["maternal_genotype"])
            self.assertIn(f'Full_Genotype in CLASS_VALUES is "{words.strip()}"', reading.notes[0])

    def test_genotypes_with_odd_words_are_genotypes(self) -> None:
        for words in ("-/-", "+/+", "wt/wt", "a/a", "null/null", "Ai14/wt?", "Ai14 pending", "A/a"):
            self.assertEqual(words, read(class_values=xml(words)).document["genotype"])

    def test_background_strains(self) -> None:
        for strain in BackgroundStrain:
            for value in (strain.value, strain.value.upper(), f" {strain.value} "):
                document = read(group_description=value).document
                self.assertEqual(strain.value, document["background_strain"])
        other = read(group_description="CD-1")
        self.assertIsNone(other.document["background_strain"])
        self.assertEqual("background strain: CD-1", other.document["notes"])
        self.assertRegex(other.notes[0], 'in the notes: "CD-1", as the group is described')
        self.assertTrue(other.complete)
        self.assertEqual([], read(group_description=None).notes)

    def test_the_strain_is_that_of_the_dams_group_if_the_animals_says_nothing(self) -> None:
        for value in (None, " "):
            reading = read(group_description=value, breeding_description="BALB/c")
            self.assertEqual("BALB/c", reading.document["background_strain"])
        reading = read(breeding_description="BALB/c")
        self.assertEqual("C57BL/6J", reading.document["background_strain"])

    def test_negative_cages_and_rooms_are_none(self) -> None:
        none = Decimal("-99999999999999")
        self.assertIsNone(read(cage_id=none, room_id="-1").document["housing"])
        housing = read(cage_id=none).document["housing"]
        self.assertEqual((None, "271"), (housing["cage_id"], housing["room_id"]))

    def test_housing(self) -> None:
        self.assertIsNone(read(cage_id=None, room_id=None).document["housing"])
        housing = read(cage_id=None).document["housing"]
        self.assertEqual((None, "271"), (housing["cage_id"], housing["room_id"]))
        self.assertEqual("A-1", read(cage_id="A-1").document["housing"]["cage_id"])

    def test_genotypes(self) -> None:
        for value, expected in {
            xml("Ai32(RCL-ChR2(H134R)_EYFP)/wt"): "Ai32(RCL-ChR2(H134R)_EYFP)/wt",
            xml(" a &amp; b&lt;c "): "a & b<c",
            "<a xmlns='urn:x'><b><FULL_GENOTYPE>wt</FULL_GENOTYPE></b></a>": "wt",
            "\ufeff" + xml("wt"): "wt",
            "<Full_Genotype>w<i>t</i></Full_Genotype>": "wt",
        }.items():
            with self.subTest(value):
                self.assertEqual(expected, read(class_values=value).document["genotype"])

    def test_without_a_genotype_the_reason_is_told(self) -> None:
        for value, words in {
            None: "CLASS_VALUES is empty",
            xml(None): "has no Full_Genotype",
            xml(" "): "Full_Genotype in CLASS_VALUES is empty",
            "<a><Full_Genotype>wt": "CLASS_VALUES is not XML",
            "wt/wt": "CLASS_VALUES is not XML",
            "<a>\0</a>": "CLASS_VALUES is not XML",
            "<a>\ud800</a>": "CLASS_VALUES is not XML",
        }.items():
            with self.subTest(ascii(value)):
                reading = read(class_values=value)
                self.assertIsNone(reading.document["genotype"])
                self.assertRegex(reading.notes[0], f"^genotype is not known: .*{words}")
                self.assertFalse(reading.complete)

    def test_without_parents_the_source_is_unknown(self) -> None:
        reading = read(
            maternal_id=None,
            maternal_class_values=None,
            paternal_id=None,
            paternal_class_values=None,
            breeding_group=None,
        )
        self.assertIsNone(reading.document["breeding_info"])
        self.assertEqual("Other", reading.document["source"]["name"])
        self.assertEqual(["parents are not known, so the source is given as Other"], reading.notes)
        self.assertTrue(reading.complete)
        model = Subject.model_validate_json(json.dumps(reading.document))
        self.assertEqual(json.loads(model.model_dump_json()), reading.document)

    def test_of_parents_the_rest_is_kept_if_one_is_not_known(self) -> None:
        for columns, words, lost in (
            (
                {"paternal_id": None, "paternal_class_values": None},
                "^breeding information lacks the sire$",
                ("paternal_id", "paternal_genotype"),
            ),
            (
                {"maternal_class_values": "<", "breeding_group": None},
                "lacks the dam's group, the dam's genotype .CLASS_VALUES is not XML",
                ("breeding_group", "maternal_genotype"),
            ),
        ):
            with self.subTest(columns):
                reading = read(**columns)
                whole = read().document["breeding_info"]
                self.assertEqual(whole | dict.fromkeys(lost), reading.document["breeding_info"])
                self.assertEqual("Allen Institute", reading.document["source"]["name"])
                self.assertRegex(reading.notes[0], words)
                self.assertFalse(reading.complete)


class SeveralRows(unittest.TestCase):
    """More rows than one for an animal."""

    def test_the_first_of_equal_ones_is_taken(self) -> None:
        reading = read_subject([row(), row(), row()])
        self.assertEqual(read().document, reading.document)
        self.assertEqual(
            ["LabTracks has 3 rows, which say the same; the first is taken"], reading.notes
        )

    def test_where_an_animal_lives_may_differ(self) -> None:
        reading = read_subject([row(), row(cage_id=Decimal(1), group_description="BALB/c")])
        self.assertEqual("4711", reading.document["housing"]["cage_id"])
        self.assertIn("which differ in background_strain, housing; the first", reading.notes[0])

    def test_who_an_animal_is_may_not(self) -> None:
        with self.assertRaises(MetadataError) as raised:
            read_subject([row(), row(sex="F"), row(birth_date=None)])
        self.assertEqual(
            "LabTracks has 3 rows of 690165 that contradict each other in date_of_birth, sex; "
            "have it put right there",
            str(raised.exception),
        )
