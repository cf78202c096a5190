"""Items of the two lists, and the surgeries that are read of them."""

import json
import unittest
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.sources.sharepoint import nsb_2019, nsb_2023
from tests.support import campaign
from tests.support.nsb import item_2019, item_2023

ZONE = ZoneInfo("America/Los_Angeles")
SAID = st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["Select...", "N/A"])


def read(module: ModuleType, item: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the surgeries of an item, and what could not be read."""
    return module.surgeries(item, ZONE)


def kinds(one: dict[str, Any]) -> list[str]:
    """Name what was done in a surgery."""
    return [procedure["procedure_type"] for procedure in one["procedures"]]


def only(one: dict[str, Any], kind: str) -> dict[str, Any]:
    """Give the one procedure of a kind."""
    [found] = [item for item in one["procedures"] if item["procedure_type"] == kind]
    return found


class Rows(unittest.TestCase):
    """What the tests of both lists need."""

    def assert_rows(self, found: dict[str, Any], **expected: Any) -> None:
        """Compare what a procedure says, by name."""
        self.assertEqual(expected, {name: found[name] for name in expected})


class List2019(Rows):
    """The list of 2019 to 2022."""

    def test_the_headpost_and_each_round_are_surgeries_of_their_own(self) -> None:
        headpost, first, second = read(nsb_2019, item_2019())[0]
        self.assertEqual(["Headframe", "Fiber implant"], kinds(headpost))
        self.assertEqual(["Nanoject injection"], kinds(first))
        self.assertEqual(["Iontophoresis injection"], kinds(second))
        self.assertEqual([], read(nsb_2019, item_2019())[1])

    def test_a_surgery_tells_when_by_whom_and_how(self) -> None:
        headpost, first, second = read(nsb_2019, item_2019())[0]
        self.assert_rows(
            headpost,
            start_date="2022-12-06",
            experimenter_full_name="NSB-2916",
            iacuc_protocol="2115",
            animal_weight_prior=22.2,
            animal_weight_post=22.9,
            workstation_id="SWS 3",
            protocol_id="unknown",
            anaesthesia={
                "type": "isoflurane",
                "duration": 105,
                "duration_unit": "minute",
                "level": 1.5,
            },
        )
        self.assert_rows(
            first,
            start_date="2022-12-06",
            experimenter_full_name="NSB",
            animal_weight_prior=None,
            anaesthesia=None,
            workstation_id=None,
        )
        self.assert_rows(
            second,
            start_date="2022-12-20",
            experimenter_full_name="NSB-3001",
            animal_weight_prior=None,
            anaesthesia=None,
        )

    def test_headframe_and_craniotomy(self) -> None:
        first, *_ = read(nsb_2019, item_2019(Procedure="INJ+HP+C"))[0]
        self.assert_rows(
            only(first, "Headframe"),
            headframe_type="NGC-style",
            headframe_part_number="0160-100-10",
            well_type="Mesoscope-style",
            well_part_number="0160-200-20",
        )
        self.assert_rows(
            only(first, "Craniotomy"),
            craniotomy_type="3 mm",
            craniotomy_hemisphere="Left",
            bregma_to_lambda_distance=4,
            dura_removed=True,
            recovery_time=25,
        )

    def test_injections(self) -> None:
        _, first, second = read(nsb_2019, item_2019())[0]
        self.assert_rows(
            only(first, "Nanoject injection"),
            injection_coordinate_ml=-3.3,
            injection_coordinate_ap=-1.6,
            injection_coordinate_depth=[0.3, 0.6],
            injection_volume=[200, 200],
            injection_angle=0,
            injection_hemisphere="Left",
            instrument_id="NJ#3",
            injection_coordinate_reference="Bregma",
            bregma_to_lambda_distance=4,
            injection_materials=[
                {
                    "material_type": "Virus",
                    "name": 'Premixed "dL+Cre" VT3214g',
                    "tars_identifiers": {"prep_lot_number": "VT3214g"},
                    "addgene_id": None,
                    "titer": None,
                    "titer_unit": "gc/mL",
                }
            ],
        )
        self.assert_rows(
            only(second, "Iontophoresis injection"),
            injection_coordinate_depth=[0.3],
            injection_current=5,
            alternating_current="7/7",
            injection_duration=5,
            injection_hemisphere=None,
        )

    def test_a_fibre_lies_where_its_injection_is(self) -> None:
        first, *_ = read(nsb_2019, item_2019())[0]
        [probe] = only(first, "Fiber implant")["probes"]
        self.assert_rows(
            probe,
            stereotactic_coordinate_ap=-1.6,
            stereotactic_coordinate_ml=-3.3,
            stereotactic_coordinate_dv=4.2,
            angle=0,
            stereotactic_coordinate_reference="Bregma",
            bregma_to_lambda_distance=4,
        )
        self.assertEqual("Fiber_0", probe["ophys_probe"]["name"])

    def test_coordinates_from_lambda_are_not_said_to_be_from_bregma(self) -> None:
        for words, point in (
            ("-4.72, rostral to lambda", None),
            ("-2.5 from transverse sinus", None),
            ("calamus 0.2", None),
            ("see notes", "Bregma"),
        ):
            _, first, _ = read(nsb_2019, item_2019(**{"Virus_x0020_A_x002f_P": words}))[0]
            self.assert_rows(
                only(first, "Nanoject injection"),
                injection_coordinate_ap=None,
                injection_coordinate_ml=-3.3,
                injection_coordinate_reference=point,
            )

    def test_coordinates_that_are_no_numbers_have_no_reference(self) -> None:
        words = ("-2.5 from transverse sinus", "see notes")
        columns = ("Virus_x0020_A_x002f_P", "Virus_x0020_M_x002f_L")
        for module, item in ((nsb_2019, item_2019), (nsb_2023, item_2023)):
            item = item(**dict(zip(columns, words, strict=True)))
            first = [
                one
                for made in read(module, item)[0]
                for one in made["procedures"]
                if "injection_coordinate_reference" in one
            ][0]
            self.assertIsNone(first["injection_coordinate_ml"])
            self.assertIsNone(first["injection_coordinate_ap"])
            self.assertIsNone(first["injection_coordinate_reference"])

    def test_the_rest_of_the_item_is_kept_as_notes_of_the_first_surgery(self) -> None:
        first, second, third = read(nsb_2019, item_2019())[0]
        lines = first["notes"].splitlines()
        self.assertEqual("item: 5554", lines[0])
        self.assertIn("LongSurgeonComments: went very well", lines)
        self.assertIn("LabTracks Requestor: Ines Example", lines)
        self.assertFalse([line for line in lines if line.startswith(("Virus", "Weight"))])
        self.assertEqual(["item: 5554"] * 2, [second["notes"], third["notes"]])

    def test_the_volume_of_one_depth_may_be_told_as_a_whole(self) -> None:
        for cells, expected in (
            ({"inj1volperdepth": None, "Inj1Vol": "400"}, [400]),
            ({"inj1volperdepth": "Select...", "Inj1Vol": "1uL (1000nl)"}, []),
        ):
            item = item_2019(Virus_x0020_D_x002f_V="0.3", **cells)
            _, first, _ = read(nsb_2019, item)[0]
            self.assertEqual(expected, only(first, "Nanoject injection")["injection_volume"])

    def test_injections_of_another_day_are_surgeries_of_their_own(self) -> None:
        other = {"Date1stInjection": "2022-12-13T08:00:00Z", "HP_x0020__x0026__x0020_Inj": "No"}
        found, _ = read(nsb_2019, item_2019(**other))
        days = [one["start_date"] for one in found]
        self.assertEqual(["2022-12-06", "2022-12-13", "2022-12-20"], days)

    def test_an_injection_in_no_stated_round_has_no_date(self) -> None:
        for words in (None, "NA", "Select...", "3rd"):
            found, _ = read(nsb_2019, item_2019(Inj1Round=words))
            self.assertEqual(["2022-12-06", "2022-12-20", None], [o["start_date"] for o in found])
            self.assertEqual(["Nanoject injection"], kinds(found[-1]))
            self.assert_rows(
                found[-1],
                experimenter_full_name="NSB",
                animal_weight_prior=None,
                anaesthesia=None,
                workstation_id=None,
            )

    def test_a_second_injection_is_stated_by_its_round(self) -> None:
        found, _ = read(nsb_2019, item_2019(Inj2Round="Select..."))
        self.assertEqual(
            [["Headframe", "Fiber implant"], ["Nanoject injection"]], list(map(kinds, found))
        )
        self.assertIn("Inj2Type: Iontophoresis", found[0]["notes"].splitlines())

    def test_what_the_form_does_not_offer_is_kept_in_its_own_words(self) -> None:
        cells = {
            "Procedure": "INJ+HP+C",
            "HeadpostType": "a new one",
            "CraniotomyType": "Trench",
            "Inj1Type": "Pipette",
        }
        (first, second, _), problems = read(nsb_2019, item_2019(**cells))
        self.assert_rows(
            only(first, "Headframe"), headframe_type="a new one", headframe_part_number="unknown"
        )
        self.assertEqual("Other", only(first, "Craniotomy")["craniotomy_type"])
        self.assertEqual(
            "Injection, Pipette", only(second, "Other Subject Procedure")["description"]
        )
        self.assertIn('item 5554: CraniotomyType: "Trench" is written as "Other"', problems)

    def test_an_item_that_states_no_procedure_says_so(self) -> None:
        cells = {"id": "7", "LabTracks_x0020_ID": "1", "SurgeryStatus": "New"}
        self.assertEqual(
            ([], ['item 7: Procedure: "" states no known procedure']), read(nsb_2019, cells)
        )
        item = item_2019(Procedure="Custom")
        self.assertEqual(
            ([], ['item 5554: Procedure: "Custom" states no known procedure']), read(nsb_2019, item)
        )


class List2023(Rows):
    """The list since 2023."""

    def test_each_sitting_is_a_surgery(self) -> None:
        (first, second), problems = read(nsb_2023, item_2023())
        self.assertEqual(
            ["Headframe", "Craniotomy", "Nanoject injection", "Fiber implant"], kinds(first)
        )
        self.assertEqual(["Iontophoresis injection"], kinds(second))
        self.assert_rows(first, start_date="2023-01-03", experimenter_full_name="NSB-2846")
        self.assert_rows(
            second,
            start_date="2023-07-10",
            experimenter_full_name="NSB-187",
            animal_weight_prior=25.9,
            workstation_id="SWS 1",
        )
        self.assertEqual(1, len(problems))
        self.assertIn("names several materials", problems[0])

    def test_headframe_and_craniotomy(self) -> None:
        first, _ = read(nsb_2023, item_2023())[0]
        self.assert_rows(
            only(first, "Headframe"),
            headframe_type="Visual Ctx",
            headframe_part_number="0160-100-10",
            well_type="Mesoscope",
            well_part_number="0160-200-20",
        )
        self.assert_rows(
            only(first, "Craniotomy"),
            craniotomy_type="5 mm",
            implant_part_number="5mm stacked coverslip",
            dura_removed=True,
        )

    def test_each_lot_is_a_material_with_its_titer(self) -> None:
        first, second = read(nsb_2023, item_2023())[0]
        materials = only(first, "Nanoject injection")["injection_materials"]
        self.assertEqual(
            [("VT3214g", 7_000_000_000_000), ("230929-12", None)],
            [(one["tars_identifiers"]["prep_lot_number"], one["titer"]) for one in materials],
        )
        [retro] = only(second, "Iontophoresis injection")["injection_materials"]
        self.assertEqual(("AAV-retro", None), (retro["name"], retro["tars_identifiers"]))

    def test_a_concentration_makes_a_reagent_and_an_odd_titer_a_note(self) -> None:
        cells = {
            "Burr_x0020_1_x0020_Injectable_x03": "0.5 mg/mL",
            "Burr_x0020_1_x0020_Injectable_x04": "plenty",
        }
        (first, _), problems = read(nsb_2023, item_2023(**cells))
        one, two = only(first, "Nanoject injection")["injection_materials"]
        self.assert_rows(
            one,
            material_type="Reagent",
            lot_number="VT3214g",
            concentration=0.5,
            concentration_unit="mg/mL",
        )
        self.assertEqual(("Virus", None), (two["material_type"], two["titer"]))
        self.assertTrue(any('"plenty" is no number' in problem for problem in problems))

    def test_injections_and_fibres_of_every_burr_hole(self) -> None:
        first, second = read(nsb_2023, item_2023())[0]
        self.assert_rows(
            only(first, "Nanoject injection"),
            injection_coordinate_ml=-5.2,
            injection_coordinate_ap=-0.85,
            injection_coordinate_depth=[-3.1, -2.9],
            injection_volume=[500, 500],
        )
        self.assert_rows(
            only(second, "Iontophoresis injection"),
            injection_coordinate_ml=-2.5,
            injection_coordinate_ap=1,
            injection_coordinate_depth=[3],
            injection_angle=15,
            injection_hemisphere="Right",
            injection_current=5,
            injection_duration=10,
        )
        [probe] = only(first, "Fiber implant")["probes"]
        self.assertEqual(-2.95, probe["stereotactic_coordinate_dv"])
        self.assertEqual(2.5, probe["ophys_probe"]["total_length"])
        for number, prefix in (
            (3, "Burr3_x0020_"),
            (4, "Burr4_x0020_"),
            (6, "Burr_x0020_6_x0020_"),
        ):
            cells = {
                f"Burr_x0020_hole_x0020_{number}": "Injection",
                f"Burr{number}_x0020_Perform_x0020_During": "Initial Surgery",
                f"Inj{number}Type": "Nanoject (Pressure)",
                f"{prefix}M_x002f_L": "1.5",
                f"{prefix}A_x002f_P": "2.5",
                f"Inj{number}volperdepth": "50 nl",
            }
            with self.subTest(number):
                first, _ = read(nsb_2023, item_2023(**cells))[0]
                found = [one for one in first["procedures"] if "Nanoject" in one["procedure_type"]]
                self.assert_rows(
                    found[-1],
                    injection_coordinate_ml=1.5,
                    injection_coordinate_ap=2.5,
                    injection_volume=[50],
                )

    def test_a_window_without_its_type_is_a_craniotomy_and_no_headframe(self) -> None:
        cells = {"Headpost": "Select...", "CraniotomyType": None}
        first, _ = read(nsb_2023, item_2023(**cells))[0]
        self.assertEqual(["Craniotomy", "Nanoject injection", "Fiber implant"], kinds(first))
        self.assertIsNone(only(first, "Craniotomy")["craniotomy_type"])

    def test_a_type_of_craniotomy_that_nobody_asked_for_is_a_note(self) -> None:
        cells = {"Procedure": "Injection", "Procedure_x0020_Family": "Fiber Optic Implant"}
        (first, _), _ = read(nsb_2023, item_2023(**cells))
        self.assertNotIn("Craniotomy", kinds(first))
        self.assertIn("CraniotomyType: 5mm", first["notes"].splitlines())

    def test_what_the_form_does_not_offer_is_kept_in_its_own_words(self) -> None:
        cells = {
            "CraniotomyType": "Trench",
            "Headpost": "AI Straight bar",
            "HeadpostType": "No Well",
            "Inj1Type": "Select...",
            "Burr_x0020_hole_x0020_2": "Electrode",
            "Inj5VirusStrain_rt": None,
            "Iso_x0020_On": None,
        }
        (first, second), _ = read(nsb_2023, item_2023(**cells))
        self.assert_rows(
            only(first, "Headframe"), well_type="No Well", headframe_part_number="unknown"
        )
        self.assertEqual("Other", only(first, "Craniotomy")["craniotomy_type"])
        others = [
            one["description"]
            for one in first["procedures"]
            if one["procedure_type"] == "Other Subject Procedure"
        ]
        self.assertEqual(["Injection, of no kind given"], others)
        self.assertIn("Burr hole 2: Electrode", first["notes"].splitlines())
        self.assertEqual([], only(second, "Iontophoresis injection")["injection_materials"])
        self.assertIn("anaesthesia: isoflurane, level 2", first["notes"])


class Documents(unittest.TestCase):
    """What the surgeries of an item make, and what it lacks."""

    def test_it_says_what_the_schema_needs_and_nobody_wrote_down(self) -> None:
        cells = {"Virus_x0020_A_x002f_P": "anterior half of the craniotomy", "Inj5Current": None}
        made, problems = read(nsb_2023, item_2023(**cells))
        found = procedure_builders.document("657849", made, "here")
        self.assertFalse(found.valid)
        self.assertEqual(
            (
                "Nanoject injection (2023-01-03) lacks injection_coordinate_ap",
                "Fiber implant (2023-01-03) lacks stereotactic_coordinate_ap",
                "Iontophoresis injection (2023-07-10) lacks injection_current",
            ),
            found.notes,
        )
        self.assertIn("anterior half of the craniotomy", made[0]["notes"])
        self.assertIn("anterior half", problems[0])

    def test_a_surgery_that_lacks_nothing_is_valid(self) -> None:
        cells = {"FiberImplant1": False}
        made, problems = read(nsb_2019, item_2019(**cells))
        found = procedure_builders.document("650102", made, "here")
        self.assertEqual((True, (), []), (found.valid, found.notes, problems))

    def test_depths_without_a_volume_each_are_told(self) -> None:
        cells = {"inj1volperdepth": None, "Inj1Vol": "400", "FiberImplant1": False}
        made, _ = read(nsb_2019, item_2019(**cells))
        [note] = procedure_builders.document("650102", made, "here").notes
        self.assertIn("an injection_volume for each of 2 depths", note)

    def test_a_surgery_that_was_not_done_is_none(self) -> None:
        for module, item in ((nsb_2019, item_2019), (nsb_2023, item_2023)):
            for status in ("No Surgery", "Cancelled", "canceled by requestor"):
                made, [problem] = read(module, item(SurgeryStatus=status))
                self.assertEqual([], made)
                self.assertRegex(problem, f'^item \\d+: left out: SurgeryStatus is "{status}"$')
            made, _ = read(module, item(SurgeryStatus="Ready for Feedback"))
            self.assertIn("SurgeryStatus: Ready for Feedback", made[0]["notes"])

    @settings(max_examples=campaign(60))
    @given(st.data())
    def test_no_item_is_too_odd(self, data: st.DataObject) -> None:
        for module, item in ((nsb_2019, item_2019()), (nsb_2023, item_2023())):
            names = st.sampled_from(sorted(item))
            cells = data.draw(st.dictionaries(names, SAID, min_size=1))
            made, problems = read(module, item | cells)
            found = procedure_builders.document("1", made, "here")
            json.dumps(found.document, allow_nan=False)
            self.assertTrue(all("\n" not in line for line in problems))
