"""Items of the surgery lists whose right answer is known, and invented ones of their shape."""

import json
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.sources.sharepoint import las_2020, nsb_2019, nsb_2023
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import (
    BOOKKEEPING,
    Item,
    identifier,
)
from tests.support import campaign, slow
from tests.support.nsb import item_2019, item_2023, item_las

CASES = Path(__file__).parents[2] / "cases"
ZONE = ZoneInfo("America/Los_Angeles")
PARTS_OF_2019 = {
    "HP+C CAM": "hc",
    "HP+C Multiscope": "hc",
    "HP+C Neuropixel style": "hc",
    "INJ+HP+C": "hci",
    "WHC NP": "c",
    "INJ+WHC NP": "ci",
    "HP+INJ": "hi",
    "HP only": "h",
    "HP Transcranial (for ISI)": "h",
    "HP+Injection+Optic Fiber Implant": "hif",
    "Stereotaxic Injection": "i",
    "Custom": "",
    "Training Surgery": "",
    "no HP+C CAM": "",
    "Select...": "",
}
LETTERS = {
    "Headframe": "h",
    "Craniotomy": "c",
    "Nanoject injection": "i",
    "Iontophoresis injection": "i",
    "Fiber implant": "f",
}


def case(name: str) -> Any:
    """Read a case."""
    return json.loads((CASES / f"{name}.json").read_text())


def read(module: ModuleType, item: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the surgeries of an item, and its problems."""
    return module.surgeries(item, ZONE)


def done(surgeries: list[dict[str, Any]]) -> list[tuple[str | None, list[str]]]:
    """Return the day of each surgery and what was done in it."""
    return [
        (one["start_date"], [part["procedure_type"] for part in one["procedures"]])
        for one in surgeries
    ]


def parts(surgeries: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return all procedures of a kind."""
    return [p for one in surgeries for p in one["procedures"] if p["procedure_type"] == kind]


class Statements(unittest.TestCase):
    """What was done is what the item states."""

    def test_no_surgery_is_no_surgery_whatever_else_is_filled_in(self) -> None:
        item = case("nsb2023_no_surgery")
        for module, column in ((nsb_2023, "LabTracks_x0020_ID1"), (nsb_2019, "LabTracks_x0020_ID")):
            for status in ("No Surgery", "no surgery ", None, "Select...", "Cancelled", "perhaps"):
                with self.subTest(module.__name__, status=status):
                    cells = item | {column: "700001", "SurgeryStatus": status}
                    made, problems = read(module, cells)
                    self.assertEqual([], made)
                    self.assertRegex(problems[0], "^item 7001: left out: .*SurgeryStatus")

    def test_a_headpost_alone_has_no_injection_and_no_craniotomy(self) -> None:
        made, _ = read(nsb_2019, case("nsb2019_hp_only"))
        self.assertEqual([("2022-03-08", ["Headframe"])], done(made))
        [frame] = parts(made, "Headframe")
        self.assertEqual("NGC-style", frame["headframe_type"])
        self.assertEqual("0160-100-10", frame["headframe_part_number"])
        self.assertEqual((None, None), (frame["well_type"], frame["well_part_number"]))

    def test_an_injection_alone_has_no_headframe_and_no_craniotomy(self) -> None:
        made, _ = read(nsb_2023, case("nsb2023_injection_only"))
        self.assertEqual([("2024-03-05", ["Iontophoresis injection"])], done(made))

    def test_the_procedure_of_2019_decides_which_parts_exist(self) -> None:
        filled = case("nsb2019_two_rounds") | {
            "CraniotomyType": "Visual Cortex 5mm",
            "FiberImplant1": True,
            "FiberImplant1DV": "3.0",
        }
        for procedure, letters in PARTS_OF_2019.items():
            for words in (procedure, procedure.upper(), f" {procedure.replace(' ', '  ')} "):
                with self.subTest(words):
                    made, _ = read(nsb_2019, filled | {"Procedure": words})
                    kinds = [kind for _, found in done(made) for kind in found]
                    self.assertEqual(set(letters), {LETTERS[kind] for kind in kinds})

    def test_the_procedure_of_2023_decides_on_headframe_and_craniotomy(self) -> None:
        filled = case("nsb2023_dhc") | {"Headpost": "Visual Ctx", "CraniotomyType": "5mm"}
        for procedure, letters in {
            "Sx-01 Visual Ctx 2P": "hc",
            "INJ + Motor Ctx": "hc",
            "Grid INJ (6 or 9) + Visual Ctx 2P": "hc",
            "Frontal Ctx 2P": "hc",
            "Sx-15 WHC NP": "hc",
            "WHC 2P": "hc",
            "DHC": "hc",
            "INJ+DHC": "hc",
            "HP Only": "h",
            "Sx-11&19 HP Transcranial": "h",
            "Stereotaxic Injection (with Headpost)": "h",
            "ISI-guided Injection (with Headpost)": "h",
            "Injection + Fiber Optic Implant (with Headpost)": "h",
            "Stereotaxic Injection": "",
            "Stereotaxic injections: 2+ INJ materials": "",
            "Custom": "",
            "EMG Array": "",
            "without Headpost": "",
            "Select...": "",
            "": "",
        }.items():
            with self.subTest(procedure):
                made, _ = read(nsb_2023, filled | {"Procedure": procedure})
                kinds = [kind for _, found in done(made) for kind in found]
                self.assertEqual(letters, "".join(LETTERS[kind] for kind in kinds))

    def test_a_burr_hole_is_what_its_cell_states(self) -> None:
        filled = case("nsb2023_injection_only")
        for words, kinds in {
            "Injection": ["Iontophoresis injection"],
            "Stereotaxic Injection & Fiber Implant": ["Iontophoresis injection", "Fiber implant"],
            "Fiber Implant": ["Fiber implant"],
            "No Injection": [],
            "not injected": [],
            "Electrode": [],
            "Select...": [],
        }.items():
            with self.subTest(words):
                made, problems = read(nsb_2023, filled | {"Burr_x0020_hole_x0020_1": words})
                self.assertEqual(kinds, [kind for _, found in done(made) for kind in found])
                if not kinds:
                    lines = "\n".join([*(one["notes"] for one in made), *problems])
                    self.assertIn("states no known procedure", lines)


class Rounds(unittest.TestCase):
    """Each round is a surgery of its own."""

    def test_a_second_round_without_a_date_takes_nothing_from_the_first(self) -> None:
        made, _ = read(nsb_2019, case("nsb2019_two_rounds"))
        self.assertEqual(
            [
                ("2022-03-08", ["Headframe"]),
                ("2022-03-08", ["Nanoject injection"]),
                (None, ["Iontophoresis injection"]),
            ],
            done(made),
        )
        headpost, first, second = made
        weights = [(one["animal_weight_prior"], one["animal_weight_post"]) for one in made]
        self.assertEqual([(None, None), (21.3, 21.4), (22.6, 22.5)], weights)
        gas = {"type": "isoflurane", "duration": 60, "duration_unit": "minute", "level": 1.5}
        self.assertEqual([None, gas, None], [one["anaesthesia"] for one in made])
        [one], [two] = first["procedures"], second["procedures"]
        self.assertEqual((5, None), (one["injection_duration"], two["injection_duration"]))
        self.assertEqual(
            ([200], [3.2]), (one["injection_volume"], one["injection_coordinate_depth"])
        )
        self.assertEqual(5, two["injection_current"])
        for injection in (one, two):
            self.assertEqual(4.2, injection["bregma_to_lambda_distance"])

    def test_what_is_performed_at_no_stated_time_has_no_date(self) -> None:
        item = case("nsb2023_dhc") | {
            "Headpost_x0020_Perform_x0020_Dur": None,
            "Craniotomy_x0020_Perform_x0020_D": "some day",
        }
        made, _ = read(nsb_2023, item)
        self.assertEqual([(None, ["Headframe", "Craniotomy"])], done(made))
        self.assertEqual("NSB", made[0]["experimenter_full_name"])
        lines = made[0]["notes"].splitlines()
        self.assertIn("Date of Surgery: 2024-03-05T08:00:00Z", lines)
        self.assertIn("Craniotomy Perform D: some day", lines)


class Details(unittest.TestCase):
    """Coordinates, fibres, the dual hemisphere craniotomy and numbers that cannot be meant."""

    def test_an_injection_has_its_reference_and_distance(self) -> None:
        made, _ = read(nsb_2023, case("nsb2023_injection_only"))
        [injection] = parts(made, "Iontophoresis injection")
        self.assertEqual("Bregma", injection["injection_coordinate_reference"])
        self.assertEqual(4.4, injection["bregma_to_lambda_distance"])
        made, _ = read(nsb_2023, case("nsb2023_injection_only") | {"Breg2Lamb": -4.5})
        [injection] = parts(made, "Iontophoresis injection")
        self.assertEqual(4.5, injection["bregma_to_lambda_distance"])

    def test_the_dual_hemisphere_craniotomy(self) -> None:
        [made], _ = read(nsb_2023, case("nsb2023_dhc"))
        self.assertEqual("2414", made["iacuc_protocol"])
        [frame] = parts([made], "Headframe")
        self.assertEqual(
            ("DHC", "0160-100-57", "Titanium", "DHC well", "0160-075-01"),
            (
                frame["headframe_type"],
                frame["headframe_part_number"],
                frame["headframe_material"],
                frame["well_type"],
                frame["well_part_number"],
            ),
        )
        [craniotomy] = parts([made], "Craniotomy")
        self.assertEqual("Dual hemisphere craniotomy", craniotomy["craniotomy_type"])
        self.assertEqual("3006", craniotomy["implant_part_number"])
        title = case("nsb2023_dhc")["Protocol"]
        self.assertIn(f"Protocol: {title}", made["notes"].splitlines())

    def test_the_column_of_the_form_wins_over_the_protocol(self) -> None:
        item = case("nsb2023_dhc") | {"IACUC_x0020_Protocol_x0020__x002": "2115"}
        [made], _ = read(nsb_2023, item)
        self.assertEqual("2115", made["iacuc_protocol"])

    def test_a_protocol_on_protocols_io_is_that_of_the_surgery(self) -> None:
        address = "https://www.protocols.io/x (dx.doi.org/10.17504/protocols.io.kqdg3b)"
        [made], _ = read(nsb_2023, case("nsb2023_dhc") | {"LongRequestorComments": address})
        self.assertEqual("https://dx.doi.org/10.17504/protocols.io.kqdg3b", made["protocol_id"])

    def test_only_the_fibre_of_the_group_is_of_its_make(self) -> None:
        for words, is_known in (
            ("Standard (provided by NSB)", True),
            ("standard fiber", True),
            ("Standard (provided by investigator)", False),
            ("standard length, custom core", False),
            ("Custom", False),
            (None, False),
        ):
            item = item_2023(**{"Burr_x0020_1_x0020_Fiber_x0020_t": words})
            [implant] = parts(read(nsb_2023, item)[0], "Fiber implant")
            probe = implant["probes"][0]["ophys_probe"]
            with self.subTest(words):
                self.assertEqual(200 if is_known else None, probe["core_diameter"])
                self.assertEqual(is_known, probe["manufacturer"] is not None)

    def test_standard_fibres_are_named_from_front_to_back_in_each_surgery(self) -> None:
        made, _ = read(nsb_2023, case("nsb2023_fibres"))
        self.assertEqual(
            [("2024-03-05", ["Headframe", "Fiber implant"]), (None, ["Fiber implant"])], done(made)
        )
        probes = [probe for part in parts(made, "Fiber implant") for probe in part["probes"]]
        self.assertEqual(
            [("Fiber_1", -0.9, -2.4), ("Fiber_0", 1.7, -1.2), ("Fiber_0", -5.5, -1.9)],
            [
                (
                    probe["ophys_probe"]["name"],
                    probe["stereotactic_coordinate_ap"],
                    probe["stereotactic_coordinate_dv"],
                )
                for probe in probes
            ],
        )
        self.assertEqual(["LC", "unknown", "unknown"], [p["targeted_structure"] for p in probes])
        for probe in probes:
            fibre = probe["ophys_probe"]
            self.assertEqual("Bregma", probe["stereotactic_coordinate_reference"])
            self.assertEqual(
                ("Neurophotometrics", 200, 0.37, "Ceramic"),
                (
                    fibre["manufacturer"]["name"],
                    fibre["core_diameter"],
                    fibre["numerical_aperture"],
                    fibre["ferrule_material"],
                ),
            )

    def test_a_custom_fibre_is_of_no_known_make(self) -> None:
        cells = {f"Burr_x0020_1_x0020_Fiber_x0020_{letter}": "Custom" for letter in "tT"}
        made, _ = read(nsb_2023, case("nsb2023_fibres") | cells)
        fibre = parts(made, "Fiber implant")[0]["probes"][0]["ophys_probe"]
        self.assertEqual(
            (None, None, None, "Custom"),
            (
                fibre["manufacturer"],
                fibre["core_diameter"],
                fibre["numerical_aperture"],
                fibre["model"],
            ),
        )

    def test_fibres_at_the_same_depth_of_the_brain_are_named_from_the_left(self) -> None:
        cells = {"AP2ndInj": -0.9, "ML2ndInj": -3.5}
        made, _ = read(nsb_2023, case("nsb2023_fibres") | cells)
        probes = parts(made, "Fiber implant")[0]["probes"]
        self.assertEqual(["Fiber_1", "Fiber_0"], [p["ophys_probe"]["name"] for p in probes])

    def test_numbers_that_cannot_be_meant_are_no_values(self) -> None:
        filled = case("nsb2019_two_rounds")
        for column, entries in case("nsb2019_cells").items():
            for words in entries:
                with self.subTest(column, words=words):
                    usual, _ = read(nsb_2019, filled | {column: None})
                    made, problems = read(nsb_2019, filled | {column: words})
                    self.assertEqual(without_notes(usual), without_notes(made))
                    said = f'"{words}" is n(ot plausible|o number that can be used)'
                    self.assertRegex("\n".join(problems), said)
                    self.assertRegex(made[0]["notes"], said)


def without_notes(surgeries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return surgeries without their notes."""
    return [one | {"notes": None} for one in surgeries]


def everything(module: ModuleType, item: dict[str, Any]) -> str:
    """Return all that becomes of an item: its surgeries, or the notes of an item without any."""
    made, problems = read(module, item)
    kept = [] if made else [*problems, *Item(item).rest()]
    return json.dumps([made, kept], allow_nan=False, ensure_ascii=False)


LISTS = (
    (nsb_2019, item_2019()),
    (nsb_2019, item_2019(Procedure="INJ+HP+C")),
    (nsb_2019, case("nsb2019_hp_only")),
    (nsb_2019, case("nsb2019_two_rounds")),
    (nsb_2023, item_2023()),
    (nsb_2023, case("nsb2023_no_surgery")),
    (nsb_2023, case("nsb2023_dhc")),
    (nsb_2023, case("nsb2023_fibres")),
    (nsb_2023, case("nsb2023_injection_only")),
)
COLUMNS = sorted({name for _, item in LISTS for name in item} - {"@odata.etag"})
SUBJECTS = {"LabTracks_x0020_ID", "LabTracks_x0020_ID1"}
WORDS = st.sampled_from(
    ["No Surgery", "New", "Injection", "Fiber Implant", "1st", "2nd", "Initial Surgery", "HP only"]
    + ["Select...", "N/A", "None", "DHC", "Nanoject (Pressure)", "Iontophoresis", "Left", "true"]
)
CELLS = st.none() | st.booleans() | st.floats() | st.integers() | st.text() | WORDS
NAMES = st.sampled_from(COLUMNS) | st.text(min_size=1)


class Anything(unittest.TestCase):
    """Invented items of the same shape."""

    @slow
    def test_every_cell_of_a_case_is_a_value_or_a_note(self) -> None:
        for module, item in LISTS:
            for column in item:
                if column.lower() in BOOKKEEPING or column in SUBJECTS or column.startswith("@"):
                    continue
                for marker in ("zq17 markiert", "8.0193", "0.0717"):
                    with self.subTest(module.__name__, column=column, marker=marker):
                        text = everything(module, item | {column: marker})
                        hours = f"{round(float(marker) * 60, 6):g}" if marker[0] != "z" else marker
                        self.assertTrue(marker in text or hours in text, text)

    @settings(max_examples=campaign(150))
    @given(st.sampled_from(LISTS), NAMES, st.dictionaries(NAMES, CELLS, max_size=6))
    def test_no_cell_is_lost(self, chosen: Any, column: str, cells: dict[str, Any]) -> None:
        module, item = chosen
        if column.lower() in BOOKKEEPING or column in SUBJECTS or "@" in column:
            return
        same = [name for name in (*item, *cells) if name.lower() == column.lower()]
        if same and column not in same:
            return
        self.assertIn("zq17 markiert", everything(module, item | cells | {column: "zq17 markiert"}))

    @settings(max_examples=campaign(150))
    @given(st.sampled_from(LISTS), st.dictionaries(NAMES, CELLS, max_size=8))
    def test_no_procedure_is_invented(self, chosen: Any, cells: dict[str, Any]) -> None:
        module, item = chosen
        item = item | cells
        made, problems = read(module, item)
        json.dumps(procedure_builders.document("1", made, "here").document, allow_nan=False)
        self.assertTrue(all("\n" not in line for line in problems))
        kinds = [part["procedure_type"] for one in made for part in one["procedures"]]
        status = " ".join(str(item.get("SurgeryStatus")).lower().split())
        if status not in ("new", "ready for feedback"):
            self.assertEqual([], kinds)
        if module is nsb_2019:
            stated = PARTS_OF_2019.get(" ".join(str(item.get("Procedure")).split()), "")
            self.assertLessEqual({LETTERS.get(kind, "i") for kind in kinds}, set(stated))
            return
        holes = [str(item.get(f"Burr_x0020_hole_x0020_{number}")) for number in range(1, 7)]
        injected = sum("injection" in hole.lower() for hole in holes)
        self.assertLessEqual(sum("njection" in kind or "Other" in kind for kind in kinds), injected)
        probes = [probe for part in parts(made, "Fiber implant") for probe in part["probes"]]
        self.assertLessEqual(len(probes), sum("fiber" in hole.lower() for hole in holes))

    @settings(max_examples=campaign(100))
    @given(st.sampled_from(LISTS), st.dictionaries(NAMES, CELLS, max_size=8))
    def test_no_date_is_asserted(self, chosen: Any, cells: dict[str, Any]) -> None:
        module, item = chosen
        item = item | cells | {"Date1stInjection": None, "Date2ndInjection": None}
        made, _ = read(module, item)
        for one in made:
            if one["start_date"] is not None:
                self.assertEqual(str(item["Date_x0020_of_x0020_Surgery"])[:10], one["start_date"])


class Requests(unittest.TestCase):
    """Requests to Laboratory Animal Services."""

    def read(self, **cells: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """Read what was done to an animal."""
        return las_2020.surgeries(item_las("7", **cells), ZONE, "7")

    def test_the_injections_of_one_animal_are_a_surgery(self) -> None:
        [made], problems = self.read()
        self.assertEqual(
            [("2024-06-21", ["Retro-orbital injection"] * 2)],
            done([made]),
        )
        self.assertEqual(("LAS", "2212"), (made["experimenter_full_name"], made["iacuc_protocol"]))
        first, second = made["procedures"]
        self.assertEqual(
            ("Left", 90, "microliter"),
            (first["injection_eye"], first["injection_volume"], first["injection_volume_unit"]),
        )
        self.assertEqual(
            [("AiP12017", 15_000_000_000_000), ("AiP1586", None)],
            [(one["name"], one["titer"]) for one in first["injection_materials"]],
        )
        lot = first["injection_materials"][0]["tars_identifiers"]["prep_lot_number"]
        self.assertEqual("VT0001G", lot)
        self.assertEqual((None, None), (second["injection_eye"], second["injection_volume"]))
        self.assertEqual("AF0131 Retro-orbital Injection", first["protocol_id"])
        lines = made["notes"].splitlines()
        self.assertIn("roEye3: Behind Either", lines)
        self.assertIn("roSub2: AiP999", lines)
        self.assertIn("TCPrep: Mouse Cardiac Perfusion (SOP AF0075)", lines)
        self.assertEqual(2, len([line for line in problems if "is not plausible" in line]))

    def test_an_id_may_be_a_number(self) -> None:
        for number in (7, 7.0, "7.0", " 7 ", "7\u200b"):
            with self.subTest(number):
                [made], _ = self.read(nROID1=number, nROID3=None)
                self.assertEqual(1, len(made["procedures"]))
                self.assertEqual(90, made["procedures"][0]["injection_volume"])

    def test_what_was_not_done_is_none(self) -> None:
        for cells in (
            {"RequestStatus2": "Cancelled"},
            {"RequestStatus2": "New"},
            {"RequestStatus2": "In Progress"},
            {"RequestStatus2": None},
            {"ReqPro2": "Dosing"},
            {"nROID1": "8", "nROID3": "77"},
        ):
            with self.subTest(cells):
                made, [problem, *_] = self.read(**cells)
                self.assertEqual([], made)
                self.assertRegex(problem, "^item 6709: ")

    @settings(max_examples=campaign(100))
    @given(st.sampled_from(sorted(item_las())), st.data())
    def test_no_cell_is_lost_and_no_injection_invented(self, column: str, data: Any) -> None:
        names = st.sampled_from(sorted(item_las())) | st.text(min_size=1)
        cells = data.draw(st.dictionaries(names, CELLS, max_size=6))
        item = item_las("7") | cells
        if column not in ("id", "nROID1", "nROID3"):
            item[column] = "zq17 markiert"
        made, problems = las_2020.surgeries(item, ZONE, "7")
        kept = [] if made else [*problems, *Item(item).rest()]
        text = json.dumps([made, kept], allow_nan=False, ensure_ascii=False)
        if "zq17 markiert" in item.values():
            self.assertIn("zq17 markiert", text)
        injected = sum(identifier(item.get(f"nROID{place}")) == "7" for place in range(1, 6))
        self.assertLessEqual(sum(len(one["procedures"]) for one in made), injected)
