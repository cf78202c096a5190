"""CSV files as the spreadsheet programs save them."""

import itertools
import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.spreadsheets.reader import ReadResult, read_jobs
from tests.support import slow
from tests.unit.configs.builders import csv_text, read_csv, row, rows

NAME = "Zoë Müller-Ångström"


def read(data: bytes) -> ReadResult:
    """Read a CSV file."""
    return read_jobs(data, "jobs.csv")


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

    def test_blanks_around_quotation_marks(self):
        table = [row(project_name='Ephys, "new"'), row(subject_id="7", project_name="Two\nlines")]
        for delimiter, before, after in (
            (",", " ", ""),
            (";", "", " "),
            (",", "  ", "\t"),
            (",", "\u2009", "\u202f"),
            (";", " \u200b", "\u3000"),
            ("\t", "\ufeff", "\u2003 "),
            ("|", "\u00a0", " "),
            ("\t", " ", ""),
        ):
            for quote in ('"', "'"):

                def padded(value, quote=quote, before=before, after=after):
                    return before + quote + value.replace(quote, quote * 2) + quote + after

                with self.subTest(delimiter=delimiter, before=before, after=after, quote=quote):
                    found = read(csv_text(table, delimiter, quote=padded).encode())
                    self.assertEqual(["row 3"], [e[:5] for e in found.errors])  # two lines
                    [job] = found.rows
                    self.assertEqual('Ephys, "new"', job.config.project_name)

    def test_blanks_around_one_value_in_quotation_marks(self):
        text = csv_text([row()]).replace("Ephys Platform", ' "Ephys, Platform"').encode()
        for data in (text, text.replace(b'Platform"', b'Platform" ')):
            result = read(data)
            self.assertEqual([], result.errors)
            self.assertEqual("Ephys, Platform", result.rows[0].config.project_name)

    def test_blanks_before_a_quotation_mark_that_is_part_of_the_value(self):
        for value in (' "Ephys" Platform', ' Ephys "Platform"', ' 5" probe'):
            result = read(csv_text([row()]).replace("Ephys Platform", value).encode())
            self.assertEqual(value.strip(), result.rows[0].config.project_name)

    def test_lines_in_quotation_marks_as_a_whole(self):
        table = [row(project_name='Ephys, "new"'), row(subject_id="7")]

        def quoted(value):
            return '"' + value.replace('"', '""') + '"'

        for delimiter in (",", ";"):
            text = csv_text(table, delimiter, "\n", quote=quoted)
            lines = "\n".join(quoted(line) for line in text.splitlines())
            with self.subTest(delimiter=delimiter):
                result = read(lines.encode())
                self.assertEqual([], result.errors)
                names = [job.config.project_name for job in result.rows]
                self.assertEqual(['Ephys, "new"', "Ephys Platform"], names)

    def test_values_that_are_guarded_against_excel(self):
        for value in (
            '="000123"',
            '"=""000123"""',
            ' ="000123" ',
            '= "000123"',
            ' =\u00a0"000123"\u2009',
            '"= ""000123"""',
        ):
            result = read(csv_text([row()]).replace("690165,", f"{value},", 1).encode())
            self.assertEqual([], result.errors)
            self.assertEqual("000123", result.rows[0].config.subject_id)

    def test_a_mark_of_dos_at_the_end(self):
        for end in (
            *("\x1a", "\r\n\x1a", "\x1a\x00\x00", "\n\x1a\n", "\x1a\r\n\r\n"),
            *(" \x1a \n", "\n\x1a\n\x1a\n\x00"),
        ):
            result = read((csv_text(rows(2)) + end).encode())
            self.assertEqual(([], 2), (result.errors, len(result.rows)))

    def test_quotation_marks_that_are_part_of_a_name_are_a_warning(self):
        for value in ('"""Ephys"""', "\u201cEphys\u201d", "'Ephys'"):
            result = read(csv_text([row()]).replace("Ephys Platform", value).encode())
            [warning] = result.warnings
            self.assertRegex(warning, "^row 2, project_name: the quotation marks of .Ephys. are a")
        self.assertEqual([], read(csv_text([row(project_name='The "new" one')]).encode()).warnings)

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
