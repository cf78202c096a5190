"""Numbers in workbooks become ids as their cells show them, or are refused."""

import time
import unittest

from aind_data_transfer_service.spreadsheets.number_formats import layout_of
from aind_data_transfer_service.spreadsheets.reader import read_jobs
from tests.unit.configs.builders import ROW, rows, saved, workbook

SHOWN = (
    ("000;-000;@", 7, "007"),
    ("#-#", 5, "-5"),
    ("#-000", 12, "-012"),
    ("0-#-0", 5, "0--5"),
    ("0-000", 12345, "12-345"),
    ("00000-0000", 981231234, "98123-1234"),
    ("00-0000_)", 120003, "12-0003"),
    ('000"-"000;@', 690165, "690-165"),
    ('00"."00', 1234, "12.34"),
    ('"M"#', 0, "M"),
    ('"M"???', 7, "M  7"),
    ('"M"000;"N"000;"Z"00', 0, "Z00"),
    ('"M"000;"N"000', 0, "M000"),
    ('"M"000;"N"000;@', 0, "M000"),
    ("[Red]000", 5, "005"),
    ("[Color 5]000", 5, "005"),
    ("[$-409]000", 5, "005"),
    ("* 000", 5, "005"),
    ("+000", 5, "+005"),
    ("00:00", 1234, "12:34"),
    ("(000) 000", 123456, "(123) 456"),
    ("{000}", 5, "{005}"),
    ('General"x"', 5, "5x"),
    ("#,##0", 0, "0"),
    ("0.0", 12.5, "12.5"),
    ("000", -5, "-005"),
)
"""Formats, numbers, and what LibreOffice shows."""

WITHOUT_GROUPING = (
    ("0 000", 690165, "690165"),
    ("#,###", 1234567, "1234567"),
    ("[$€-407] #,##0", 690165, "690165"),
    ('"$"#,##0.00', 690165, "690165"),
)
"""Formats, numbers, and what LibreOffice shows but for grouping, currency and decimal places."""

NOT_CERTAIN = (
    ('[<1000]"A"000;"B"0000', 5000),  # B5000
    ("[>=1000000]000-0000;000000", 690165),  # 690165
    ("[<=9999999]###-####;(###) ###-####", 5551234567),  # (555) 123-4567
    ("[Blue][<=9999999]000-0000;(000) 000-0000", 5551234567),
    ('[=1]"one";0', 1),  # one
    ("[<>1]000;0", 1),
    ("[$M]000", 7),  # M007
    ("[$EUR] 000", 5),
    ("[$M-409]000", 7),
    ("[$7]000", 7),
    ("[$-2000401]000", 7),
    ("[DBNum1]General", 5),
    ("[what]000", 5),
    ("[000", 5),
    ('"000', 5),
    ('000;-000;"none"', 0),  # none
    ('General;-General;"-"', 0),  # -
    ("0;-0;;@", 0),  # nothing
    ("#", 0),  # nothing
    (";;;", 5),  # nothing
    ('"x"', 5),  # x
    ('"M"@', 5),
    ('"M"000;"N"000', -5),  # N005
    ("0;0", -5),  # 5
    ("*00", 5),  # as many zeros as there is room for
    ("0,", 690165),  # 690
    ("0.0,", 690165),  # 690.2
    ("00,000", 165),  # 00,165
    ("00.00", 7),  # 07.00
    ("000 000", 165),  # 000 165
    ('"$"000', 5),  # $005
    ("[$€-407] 000", 5),  # € 005
    ('"M"#,##0', 690165),
    ('"mouse-"General', 123456789012),
    ("N000", 5),
    ("# ?/?", 5.5),
    ("0000/00/00", 20240219),
    ("0;0;0;0;0", 5),
    ("0", 1e15),
    ("0" * 256, 5),
)
"""Formats and numbers of which nobody can tell for certain what is meant; what is shown."""


def book(number_format, value, column="subject_id", count=1):
    """Make a workbook whose jobs have a number in a column, with a number format."""
    made = workbook(Jobs=rows(count))
    for line in range(2, count + 2):
        cell = made["Jobs"].cell(line, list(ROW).index(column) + 1, value)
        cell.number_format = number_format
    return saved(made)


def read(*of_the_book, **more):
    """Read such a workbook."""
    return read_jobs(book(*of_the_book, **more), "jobs.xlsx")


class NumberFormatsTest(unittest.TestCase):
    """Ids and names are what a person sees in the cell."""

    def test_numbers_as_they_are_shown(self):
        for number_format, value, shown in (*SHOWN, *WITHOUT_GROUPING):
            with self.subTest(number_format, value=value):
                result = read(number_format, value, "project_name")
                self.assertEqual([], result.errors)
                self.assertEqual(shown, result.rows[0].config.project_name)

    def test_what_is_not_certain_is_refused(self):
        for number_format, value in NOT_CERTAIN:
            for column in ("subject_id", "project_name"):
                with self.subTest(number_format, value=value, column=column):
                    [error] = read(number_format, value, column).errors
                    self.assertRegex(error, f"^row 2, {column}: the number (format of|in) the cell")
                    self.assertIn("format the cell as text", error)

    def test_numbers_that_are_shown_rounded(self):
        for number_format, value, shown in (
            ("0", 690165.4, "690165"),
            ("0", 690165.5, "690166"),
            ("#,##0", 690165.4, "690165"),
            ("000000", 690165.4, "690165"),
            ("0.0", 12.25, "12.3"),
        ):
            with self.subTest(number_format, value=value):
                [error] = read(number_format, value).errors
                self.assertTrue(
                    error.startswith(
                        f"row 2, subject_id: the number in the cell has a fraction ({value}), and "
                        f"the cell shows {shown}; format the cell as text"
                    ),
                    error,
                )
                [error] = read(number_format, value, "project_name").errors
                self.assertIn(f"the cell stores {value} and shows {shown}; format", error)

    def test_a_fraction_is_no_subject(self):
        for number_format, value in (("General", 690165.4), ("0.0", 12.5), ("@", 12.1)):
            with self.subTest(number_format):
                [error] = read(number_format, value).errors
                self.assertIn(f"the number in the cell has a fraction ({value})", error)
        self.assertEqual("12.1", read("@", "12.1").rows[0].config.subject_id)

    def test_flags_and_times_count_as_they_are_stored(self):
        for number_format in ("00", '"Yes";;"No"', "[=1]0;00", "0%"):
            with self.subTest(number_format):
                table = workbook(Jobs=[{**row, "dry_run": 1} for row in rows(1)])
                table["Jobs"].cell(2, len(ROW) + 1).number_format = number_format
                result = read_jobs(saved(table), "jobs.xlsx")
                self.assertEqual([], result.errors)
                self.assertTrue(result.rows[0].config.dry_run)
                result = read(number_format, 45341.475891, "acq_datetime")
                self.assertEqual([], result.errors)
                self.assertEqual(2024, result.rows[0].config.acq_datetime.year)

    def test_long_formats_take_no_time(self):
        for code in ("0" * 30_000, "[" * 30_000, '"' * 29_999, "\\" * 30_000, "0;" * 15_000):
            begin = time.process_time()
            data = book(code, 690165, count=200)
            made = time.process_time()
            result = read_jobs(data, "jobs.xlsx")
            with self.subTest(code[:5]):
                self.assertEqual(200, result.error_count)
                self.assertLess(time.process_time() - made, 1 + made - begin)

    def test_the_longest_format(self):
        self.assertEqual("7".zfill(255), layout_of("0" * 255).show(7.0))
        self.assertEqual(f"{123:0>254}", layout_of("?" + "0" * 254).show(123.0))
