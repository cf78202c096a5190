"""CSV files as the spreadsheet programs save them."""

import itertools
import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.configs.spreadsheet import read_jobs
from tests.fast.configs.builders import csv_text, read_csv, row, rows
from tests.support import slow

NAME = "Zoë Müller-Ångström"


class EncodingsTest(unittest.TestCase):
    """The encoding is told by the file itself."""

    def name_in(self, data):
        result = read_jobs(data, "jobs.csv")
        self.assertEqual(result.errors, [])
        return result.rows[0].config.processor_full_name, result.warnings

    def test_unicode_with_and_without_a_mark(self):
        text = csv_text([row(processor_full_name=NAME)])
        for data in (
            text.encode("utf-8"),
            text.encode("utf-8-sig"),
            text.encode("utf-16"),
            b"\xff\xfe" + text.encode("utf-16-le"),
            b"\xfe\xff" + text.encode("utf-16-be"),
            text.encode("utf-16-le"),
            text.encode("utf-16-be"),
            text.encode("utf-32"),
            b"\x00\x00\xfe\xff" + text.encode("utf-32-be"),
        ):
            with self.subTest(start=data[:8]):
                self.assertEqual(self.name_in(data), (NAME, []))

    def test_older_encodings_are_told_apart_by_what_makes_sense(self):
        names = (NAME, "François Lefèvre", "José Muñoz", "Jürgen Weiß", "Søren Ærø", "Ñandú Ávila")
        for name, (encoding, shown) in itertools.product(
            names,
            {"cp1252": "Windows-1252", "mac_roman": "Mac Roman", "cp437": "code page 437"}.items(),
        ):
            try:
                data = csv_text([row(processor_full_name=name)]).encode(encoding)
            except UnicodeEncodeError:
                continue
            if encoding == "cp437" and name.startswith("François"):
                continue  # "Franáois Lefävre" in Mac Roman makes as much sense to a machine
            with self.subTest(name=name, encoding=encoding):
                found, [warning] = self.name_in(data)
                self.assertEqual(found, name)
                self.assertIn(f"was read as {shown}", warning)

    def test_quotation_marks_and_dashes_of_older_programs(self):
        text = csv_text([row(processor_full_name="Miles O’Brien – “Chief”")])
        for encoding in ("cp1252", "mac_roman"):
            with self.subTest(encoding=encoding):
                self.assertEqual(self.name_in(text.encode(encoding))[0], "Miles O’Brien – “Chief”")

    def test_a_mark_that_lies_is_told(self):
        for data, said in (
            (b"\xef\xbb\xbfplatform\xff", "UTF-8, and byte"),
            (b"\xff\xfep\x00l\x00a\x00t", "UTF-16, and byte"),
        ):
            [error] = read_jobs(data, "jobs.csv").errors
            self.assertIn(f"the file is damaged: it says that it is {said}", error)

    def test_what_is_no_text_is_told(self):
        [error] = read_jobs(bytes(range(256)) * 20, "jobs.csv").errors
        self.assertIn("the file is no text", error)


class DialectsTest(unittest.TestCase):
    """Delimiters, quotation marks and line ends."""

    def test_any_delimiter_quotation_mark_and_line_end_of_the_programs(self):
        def always(cell):
            return f'"{cell}"'

        def single(cell):
            return f"'{cell}'"

        for delimiter, end, quote in itertools.product(
            ",;\t|: ", ("\n", "\r\n", "\r"), (str, always, single)
        ):
            if quote is str and delimiter in ": ":
                continue  # the programs quote what holds the delimiter
            with self.subTest(delimiter=delimiter, end=end, quote=quote.__name__):
                text = csv_text(rows(3), delimiter=delimiter, end=end, quote=quote)
                result = read_jobs(text.encode(), "jobs.csv")
                self.assertEqual(result.errors, [])
                self.assertEqual([r.number for r in result.rows], [2, 3, 4])

    def test_a_line_that_names_the_delimiter_is_heeded_and_not_counted(self):
        for line in ("sep=;\r\n", '"sep=;"\n', "sep=;;;;\r"):
            with self.subTest(line=line):
                result = read_jobs((line + csv_text([row()], delimiter=";")).encode(), "jobs.csv")
                self.assertEqual((result.errors, [r.number for r in result.rows]), ([], [2]))

    def test_a_comma_within_quotation_marks_is_part_of_the_value(self):
        result = read_csv([row(processor_full_name='"Apple, Anna ""A"""')])
        self.assertEqual(result.rows[0].config.processor_full_name, 'Apple, Anna "A"')

    def test_a_line_break_within_quotation_marks_does_not_count_as_a_row(self):
        result = read_csv([row(project_name='"a\r\nb"'), row(), row(platform="x")])
        self.assertEqual([r.number for r in result.rows], [3])
        self.assertIn("row 2, project_name: ", result.errors[0])
        self.assertIn("row 4, platform: ", result.errors[1])

    def test_a_missing_line_end_and_short_rows(self):
        text = csv_text(rows(2)).replace("/Behavior,,,\r\n", "/Behavior\r\n").rstrip()
        self.assertEqual(len(read_jobs(text.encode(), "jobs.csv").rows), 2)

    def test_leading_zeros_survive(self):
        self.assertEqual(read_csv([row(subject_id="000123")]).rows[0].config.subject_id, "000123")

    def test_a_quotation_mark_that_is_never_closed(self):
        result = read_csv([row(), row(project_name='"Ephys'), row(subject_id="3")])
        self.assertEqual([r.number for r in result.rows], [2])
        [error] = result.errors
        self.assertIn("row 3: a quotation mark is opened and never closed", error)

    def test_text_after_a_closing_quotation_mark(self):
        [error] = read_csv([row(project_name='"Ephys"x')]).errors
        self.assertIn("row 2: something stands between a closing quotation mark", error)

    @slow
    def test_values_and_lines_beyond_any_sense(self):
        header, _ = csv_text([row()]).split("\r\n", 1)
        for body, said in (
            ('"' + "x" * 140_000 + '"', "longer than any cell"),
            ("x" * 1_000_001, "line 2 has 1,000,001 characters"),
            ("," * 300 + "x", "row 2 reaches beyond column IV"),
            ("\n" * 1_048_577, "more than 1,048,576 rows"),
        ):
            with self.subTest(said=said):
                [error] = read_jobs(f"{header}\n{body}".encode(), "jobs.csv").errors
                self.assertIn(said, error)

    def test_many_blank_columns_are_nothing(self):
        text = csv_text([row()]).replace("\r\n", "," * 1000 + "\r\n")
        self.assertEqual(read_jobs(text.encode(), "jobs.csv").errors, [])

    @given(st.text(max_size=200), st.sampled_from(["utf-8", "utf-16", "cp437"]))
    def test_any_text_after_a_header_is_read_or_refused_in_words(self, text, encoding):
        data = (csv_text([row()]) + text).encode(encoding, "replace")
        for error in read_jobs(data, "jobs.csv").errors:
            self.assertTrue(error.isprintable(), error)
