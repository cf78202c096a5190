"""What people write into cells, and what is read of it."""

import unittest
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.metadata.sources.sharepoint import field_values
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import (
    Item,
    quantities,
    quantity,
    readable,
)
from tests.support import slow

UNITS = (
    field_values.MILLIMETRES,
    field_values.DEGREES,
    field_values.GRAMS,
    field_values.NANOLITRES,
    field_values.MICROLITRES,
    field_values.MICROAMPERES,
    field_values.PERCENT,
    field_values.MINUTES,
    field_values.HOURS_AS_MINUTES,
)


class Quantities(unittest.TestCase):
    """Numbers with units."""

    def test_numbers_are_read_as_people_write_them(self) -> None:
        for words, units, expected in (
            ("-3.8 mm", field_values.MILLIMETRES, -3.8),
            ("+1.8", field_values.MILLIMETRES, 1.8),
            (".98", field_values.MILLIMETRES, 0.98),
            ("- 0.58", field_values.MILLIMETRES, -0.58),
            ("400 microns", field_values.MILLIMETRES, 0.4),
            ("400um", field_values.MILLIMETRES, 0.4),
            ("0 degree", field_values.DEGREES, 0),
            ("30.", field_values.GRAMS, 30),
            ("20.5g", field_values.GRAMS, 20.5),
            ("500 nL", field_values.NANOLITRES, 500),
            ("1.25ul", field_values.MICROLITRES, 1.25),
            ("3uAmp", field_values.MICROAMPERES, 3),
            ("2 %", field_values.PERCENT, 2),
            ("10  min", field_values.MINUTES, 10),
            ("30 sec", field_values.MINUTES, 0.5),
            ("4min 30 sec", field_values.MINUTES, 4.5),
            ("1:45", field_values.HOURS_AS_MINUTES, 105),
            ("2.5 hour ", field_values.HOURS_AS_MINUTES, 150),
            ("0.75", field_values.HOURS_AS_MINUTES, 45),
            ("7.00E+12", {"": 1}, 7_000_000_000_000),
        ):
            with self.subTest(words):
                self.assertEqual(expected, quantity(words, units))

    def test_what_is_no_number_is_none(self) -> None:
        for words in (
            "-4.72, rostral to lambda",
            "3.08 Anterior!",
            "calamus 0.2",
            "~1.3",
            "2.8/",
            "3x3 grid",
            "18/.2",
            "5uA",
            "1:45",
            "1e999",
            ".",
            "",
        ):
            with self.subTest(words):
                self.assertIsNone(quantity(words, field_values.MILLIMETRES))

    def test_several_share_the_last_unit(self) -> None:
        for words, expected in (
            ("0.3, 0.6", [0.3, 0.6]),
            ("0.3 and 0.6mm", [0.3, 0.6]),
            ("[0.3,0.6]", [0.3, 0.6]),
            ("-3.0 / -1.5", [-3, -1.5]),
            ("400um, 0.8mm", [0.4, 0.8]),
            ("300, 600 microns", [0.3, 0.6]),
            ("0, -1", [0, -1]),
            ("2.64", [2.64]),
            ("-3/2", []),
            ("0.3, deep", []),
            ("300 microns from pia", []),
            (".3 and ,6", []),
        ):
            with self.subTest(words):
                self.assertEqual(expected, quantities(words, field_values.MILLIMETRES))

    def test_a_comma_that_may_be_a_decimal_point_does_not_separate(self) -> None:
        for words, expected in (
            ("0,5", []),
            ("0,5 mm", []),
            ("-0,5", []),
            ("(1,25)", []),
            ("0,5 / 1,0", []),
            ("0,5, 1,0", []),
            ("0,5 and 1,0 mm", []),
            ("0,5; 1", []),
            ("1,200 um", []),
            ("1,200.5 um", []),
            ("300,5 um", []),
            ("300,600 um", [0.3, 0.6]),
            ("0.3,0.6", [0.3, 0.6]),
            ("1.5,2", [1.5, 2]),
            ("2,2.5", [2, 2.5]),
            ("1,2,3", [1, 2, 3]),
            ("0, 5", [0, 5]),
            ("0 ,5", [0, 5]),
            ("-3,-1", [-3, -1]),
            ("1mm,2mm", [1, 2]),
        ):
            with self.subTest(words):
                self.assertEqual(expected, quantities(words, field_values.MILLIMETRES))
        item = Item({"A": "0,5"})
        self.assertEqual([], item.numbers(field_values.COORDINATE, "A"))
        self.assertEqual(['A: "0,5" is no number that can be used'], item.problems)

    @given(st.text(), st.sampled_from(UNITS))
    def test_no_words_are_too_odd(self, words: str, units: field_values.Units) -> None:
        value = quantity(words, units)
        self.assertTrue(value is None or abs(value) < float("inf"))
        quantities(words, units)

    @given(st.floats(-1e6, 1e6).map(lambda value: round(value, 4)), st.sampled_from(UNITS))
    def test_a_number_that_was_written_is_read(
        self, value: float, units: field_values.Units
    ) -> None:
        for unit, factor in units.items():
            self.assertAlmostEqual(value * factor, quantity(f"{value:f} {unit}", units), places=4)


class Items(unittest.TestCase):
    """Cells of an item."""

    def test_cells_that_say_nothing_are_empty(self) -> None:
        for value in (None, "", " ", "Select...", "Select if applicable...", [], {}, [None, ""]):
            with self.subTest(value):
                item = Item({"A": value})
                self.assertIsNone(item.text("A"))
                self.assertIsNone(item.number(field_values.WEIGHT, "A"))
                self.assertEqual(([], []), (item.rest(), item.problems))

    def test_cells_that_deny_are_no_values_and_are_kept(self) -> None:
        for value in (False, "N/A", "NA", "none", "-"):
            with self.subTest(value):
                item = Item({"A": value})
                self.assertIsNone(item.text("A"))
                self.assertIsNone(item.number(field_values.WEIGHT, "A"))
                self.assertEqual(([f"A: {value}"], []), (item.rest(), item.problems))

    def test_several_choices_are_listed(self) -> None:
        item = Item({"A": ["LC - Locus ceruleus", "CA1 - Field CA1"], "B": {"0": "Brain"}})
        self.assertEqual(["A: LC - Locus ceruleus; CA1 - Field CA1", "B: Brain"], item.rest())

    def test_columns_are_found_in_any_case_and_the_exact_one_first(self) -> None:
        item = Item({"INJ1VOL": "1", "Inj1Vol": "2"})
        self.assertEqual("2", item.text("Inj1Vol"))
        self.assertEqual(["INJ1VOL: 1"], item.rest())
        self.assertEqual("1", Item({"INJ1VOL": "1"}).text("Inj1Vol"))

    def test_only_the_column_that_was_used_is_no_longer_part_of_the_rest(self) -> None:
        item = Item({"A": "1", "B": "2"})
        self.assertEqual("1", item.text("A", "B"))
        self.assertEqual(["B: 2"], item.rest())

    def test_numbers_that_cannot_be_meant_are_noted(self) -> None:
        for measure, words in (
            (field_values.WEIGHT, "1537"),
            (field_values.WEIGHT, "2209"),
            (field_values.WEIGHT, "0"),
            (field_values.ANAESTHESIA, "45"),
            (field_values.ANAESTHESIA, "045"),
            (field_values.ANAESTHESIA, "11.5"),
            (field_values.ANAESTHESIA, "10:00"),
            (field_values.VOLUME, "15000"),
            (field_values.COORDINATE, "300"),
            (field_values.ANGLE, "270"),
            (field_values.CURRENT, "5000"),
            (field_values.LEVEL, "15"),
            (field_values.TITER, "7"),
        ):
            with self.subTest(words, measure=measure):
                item = Item({"A": words})
                self.assertIsNone(item.number(measure, "A"))
                [problem] = item.problems
                self.assertIn(f'A: "{words}" is not plausible (expected ', problem)
        item = Item({"A": "150uL"})
        self.assertIsNone(item.number(field_values.VOLUME, "A"))
        self.assertEqual(['A: "150uL" is no number that can be used'], item.problems)
        item = Item({"A": "0.3, 300"})
        self.assertEqual([], item.numbers(field_values.COORDINATE, "A"))
        self.assertEqual(1, len(item.problems))

    def test_rich_text_is_read_as_words(self) -> None:
        item = Item({"A": "<div>Premixed &quot;\u200bdL+Cre&quot;<br>x &lt; 3</div>"})
        self.assertEqual('Premixed "dL+Cre" x < 3', item.text("A"))
        self.assertEqual("x <3 or > 5", Item({"A": "x <3 or > 5"}).text("A"))
        link = "<a class='x' href='http://lims2/specimens?search=1&amp;a=2'>Search</a>"
        self.assertEqual(
            "Search (http://lims2/specimens?search=1&a=2)", Item({"A": link}).text("A")
        )

    def test_the_first_column_that_says_something_counts(self) -> None:
        self.assertEqual("3", Item({"A": "Select...", "B": 3}).text("A", "B"))

    def test_what_was_not_read_is_the_rest_without_what_sharepoint_writes(self) -> None:
        item = Item(
            {
                "@odata.etag": "x",
                "GUID": "y",
                "AuthorLookupId": "3",
                "Virus_x0020_A_x002f_P": "1.5",
                "Weight_x0020_before_x0020_Surger": 20,
                "IACUC_x0020_Protocol_x0020__x002": "2115",
                "ComDamage": "None",
            }
        )
        item.number(field_values.WEIGHT, "Weight_x0020_before_x0020_Surger")
        self.assertEqual(["ComDamage: None", "IACUC Protocol: 2115", "Virus A/P: 1.5"], item.rest())

    def test_columns_are_named_as_people_see_them_and_apart(self) -> None:
        for column, expected in (
            ("Virus_x0020_A_x002f_P", "Virus A/P"),
            ("IACUC_x0020_Protocol_x0020__x002", "IACUC Protocol"),
            ("Burr_x0020_1_x0020_Injectable_x0", "Burr 1 Injectable"),
            ("Burr_x0020_1_x0020_Injectable_x03", "Burr 1 Injectable 3"),
            ("TEST_x0020_1st_x0020_Round_x0020LookupId", "TEST 1st Round LookupId"),
            ("OData__x0023__x0020_of_x0020_Burr_x002", "# of Burr"),
            ("Inj_x0", "Inj_x0"),
            ("_xd800_", "_xd800_"),
        ):
            with self.subTest(column):
                self.assertEqual(expected, readable(column))

    def test_a_cell_of_no_use_is_noted_word_for_word(self) -> None:
        item = Item({"Virus_x0020_A_x002f_P": "3.08 Anterior!", "D": "0.3, deep", "T": "today"})
        self.assertIsNone(item.number(field_values.COORDINATE, "Virus_x0020_A_x002f_P"))
        self.assertEqual([], item.numbers(field_values.COORDINATE, "D"))
        self.assertIsNone(item.day(ZoneInfo("UTC"), "T"))
        self.assertEqual(
            [
                'Virus A/P: "3.08 Anterior!" is no number that can be used',
                'D: "0.3, deep" is no number that can be used',
                'T: "today" is no date',
            ],
            item.problems,
        )

    def test_a_day_before_all_days_is_noted(self) -> None:
        item = field_values.Item({"T": "0001-01-01T00:00:00Z", "U": "9999-12-31T23:59:59-12:00"})
        self.assertIsNone(item.day(ZoneInfo("America/Los_Angeles"), "T"))
        self.assertIsNone(item.day(ZoneInfo("Asia/Tokyo"), "U"))
        self.assertEqual(2, len(item.problems))

    def test_a_date_of_another_century_is_no_date(self) -> None:
        for words in ("0001-01-01T12:00:00", "1900-01-01", "1899-12-30T00:00:00Z", "2202-12-06"):
            item = Item({"D": words})
            self.assertIsNone(item.day(ZoneInfo("UTC"), "D"))
            self.assertEqual([f'D: "{words}" is not plausible as a date'], item.problems)

    def test_a_date_to_come_is_no_date_and_today_is_one(self) -> None:
        zone = ZoneInfo("UTC")
        today = datetime.now(zone).date()
        soon = Item({"D": (today + timedelta(days=2)).isoformat()})
        self.assertIsNone(soon.day(zone, "D"))
        self.assertIn("is not plausible as a date", soon.problems[0])
        self.assertEqual(today, Item({"D": today.isoformat()}).day(zone, "D"))

    def test_a_day_is_that_of_the_place(self) -> None:
        for words, zone, expected in (
            ("2022-12-06T08:00:00Z", "America/Los_Angeles", date(2022, 12, 6)),
            ("2022-06-06T07:00:00Z", "America/Los_Angeles", date(2022, 6, 6)),
            ("2022-12-05T23:00:00Z", "Europe/Berlin", date(2022, 12, 6)),
            ("2022-12-06", "Asia/Tokyo", date(2022, 12, 6)),
        ):
            with self.subTest(words, zone=zone):
                self.assertEqual(expected, Item({"D": words}).day(ZoneInfo(zone), "D"))

    @slow
    @given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.text()))
    def test_no_item_is_too_odd(self, fields: dict[str, Any]) -> None:
        item = Item(fields)
        for column in fields:
            readable(column)
            item.text(column)
            item.number(field_values.COORDINATE, column)
            item.day(ZoneInfo("UTC"), column)
        for line in item.rest():  # what denies is no value
            self.assertIn(line.rpartition(": ")[2].lower(), ("", "-", "n/a", "na", "none", "false"))
