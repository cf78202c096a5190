"""What is ordinary is read by a shorter way, and comes out as by the longer one."""

import gc
import io
import unittest
import zipfile
from datetime import datetime, timedelta
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.configs import validators
from aind_data_transfer_service.configs.datetimes import parse_acq_datetime, to_millisecond
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.plain_text import trim
from aind_data_transfer_service.spreadsheets import csv_reader, xlsx_sanitizer
from aind_data_transfer_service.spreadsheets.reader import read_jobs
from aind_data_transfer_service.spreadsheets.rows import is_empty
from aind_data_transfer_service.spreadsheets.xlsx_plain_table import find_plain_table
from tests.unit.configs.builders import csv_file, rows, xlsx_file

LOOKED_FOR = "aind_data_transfer_service.spreadsheets.xlsx_sanitizer.find_plain_table"
PATH_PIECES = (
    "/",
    "a",
    "Behavior videos",
    ".",
    "..",
    " ",
    "-",
    "_",
    "~",
    "\\",
    "Z:",
    "é",
    "\u200b",
)
TIME_PIECES = ("2024", "1979", "02", "2", "13", "31", "00", "60", "-", "/", ":", " ", "T", "Z", "٣")
ODD_LETTERS = (
    "a",
    " ",
    "\u200b",
    "\u200d",
    "\ufe0f",
    "\u20e3",
    "\u094d",
    "\u202e",
    "\U000e0061",
    "1",
)
VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
CSV_PIECES = ('"', '""', " ", "\t", ",", "\n", "a", "\xa0", "'", ";", "subject_id", "é")
HEADS = (
    b'<worksheet xmlns="urn:x">',
    b'<?xml version="1.0" encoding="UTF-8"?><worksheet><dimension ref="A1:Z9"/>',
    b'<?xml version="1.0" encoding="us-ascii"?><worksheet>',
    b'\xef\xbb\xbf<?xml version="1.0"?><worksheet>',
    b"<worksheet><!-- <sheetData> -->",
    b"<worksheet><?a <sheetData> ?>",
    b"<worksheet><x:sheetData xmlns:x='urn:x'></x:sheetData>",
    b"<worksheet>" + b"<a>" * 60 + b"</a>" * 60,
)
ROWS = (
    b'<row r="1">',
    b'<row r="3" spans="1:3" ht="12.8">',
    b'<row r="4" />',
    b"<row>",
    b'<row r="8" hidden="1">',
    b'<row hidden="true">',
    b'<row r="5" r="6">',
    b"<row r='7'>",
    b'<row a=">">',
    b'<row r="5"/></row><row>',
)
CELLS = (
    b'<c r="A1"><v>1</v></c>',
    b'<c r="B1" s="1"><v>690165</v></c>',
    b'<c r="C2" s="2"/>',
    b'<c r="C3" t="inlineStr" />',
    b'<c r="C4" t="str"></c>',
    b'<c r="AB30" s="1" t="n"><v>4.5E-3</v></c>',
    b'<c r="D4" t="s"><v>0</v></c>',
    b'<c r="D5" t="str"><v>a "text"</v></c>',
    b'<c r="E5" t="str"><v>plain text</v></c>',
    b'<c r="F5" t="b"><v>1</v></c>',
    b'<c r="G6" t="inlineStr"><is><t>Anna Apple</t></is></c>',
    b'<c r="G7" t="inlineStr"><is><t xml:space="preserve"> \xc3\xa9 </t></is></c>',
)
ODD_CELLS = (
    b'<c r="D4" t="s"><v> 0 </v></c>',
    b'<c r="H6" t="inlineStr"><is><t>\xe9</t></is></c>',
    b'<c r="H6" t="inlineStr"><is><t>a\xef\xbf\xbf</t></is></c>',
    b'<c r="H6" t="inlineStr"><is><t>a]]></t></is></c>',
    b'<c r="H6" t="inlineStr"><is><t>a &amp; b</t></is></c>',
    b'<c r="I7" t="e"><v>#REF!</v></c>',
    b'<c r="I8"><f>A1+1</f></c>',
    b'<c r="I9" t="d"><v>2024-02-19T11:25:17Z</v></c>',
    b'<c r="j10"><v>1</v></c>',
    b'<c r="A0"><v>1</v></c>',
    b"<c><v>1</v></c>",
    b'<c r="K1" t="odd"><v>1</v></c>',
    b'<c r="K1"><v></v></c>',
    b"<!-- <c> -->",
    b"<c r='A1'><v><![CDATA[1]]></v></c>",
    b"<v>1</v>",
    b"</sheetData>",
    b"\x00",
)
STYLES = (
    b'<styleSheet><numFmts><numFmt numFmtId="164" formatCode="000000"/></numFmts>'
    b'<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs></styleSheet>'
)


class Slow(str):
    """A text that is not exactly of the type `str`, and so read by the longer way."""


def texts(pieces):
    """Texts made of some pieces."""
    return st.lists(st.sampled_from(pieces), max_size=12).map("".join)


def outcome(function, *arguments):
    """What a function returns, or the error that it raises, as text."""
    try:
        return function(*arguments)
    except (ValueError, SpreadsheetError) as error:
        return f"{type(error).__name__}: {error}"


@st.composite
def sheets(draw):
    """Parts of sheets, most of them ordinary."""
    cells = CELLS if draw(st.booleans()) else CELLS + ODD_CELLS
    line = st.tuples(st.sampled_from(ROWS), st.lists(st.sampled_from(cells), max_size=6))
    usual = st.tuples(st.just(ROWS[0]), st.lists(st.sampled_from(cells), min_size=1, max_size=6))
    table = b"".join(
        tag + b"".join(inside) + (b"" if tag.endswith(b"/>") else b"</row>")
        for tag, inside in draw(st.lists(usual | line, max_size=5))
    )
    head = draw(st.just(HEADS[0]) | st.sampled_from(HEADS))
    return head + b"<sheetData>" + table + b"</sheetData></worksheet>"


def changed(file, name, content):
    """A workbook with another content of a part."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(result, "w") as new:
        for one in old.namelist():
            new.writestr(one, content if one == name else old.read(one))
    return result.getvalue()


def unpacked(file):
    """What is seen in a workbook, and the parts that are handed on."""
    found = xlsx_sanitizer.unpack(file, 10**7)
    with zipfile.ZipFile(io.BytesIO(found.data)) as archive:
        return found.sheets, [(name, archive.read(name)) for name in archive.namelist()]


class SameResultTest(unittest.TestCase):
    book = changed(xlsx_file(rows(1)), "xl/styles.xml", STYLES)

    @given(texts(PATH_PIECES))
    def test_a_plain_path_is_what_the_rules_for_all_paths_make_of_it(self, text):
        self.assertEqual(outcome(validators.path, text), outcome(validators.path, Slow(text)))

    @given(VISIBLE, texts(ODD_LETTERS) | st.text(), VISIBLE)
    def test_nothing_is_trimmed_between_visible_characters(self, first, inside, last):
        text = first + inside + last
        self.assertEqual(trim(text), text)
        self.assertEqual(trim(f"\u200b{text}\u200b"), text)

    @given(texts(TIME_PIECES) | st.datetimes().map(str), st.sampled_from(["MDY", "DMY"]))
    def test_a_plain_time_is_what_the_rules_for_all_times_make_of_it(self, text, order):
        with_blank = outcome(parse_acq_datetime, f"{text}\t", order)
        self.assertEqual(outcome(parse_acq_datetime, text, order), with_blank)

    @given(
        st.datetimes(datetime(1980, 1, 1), datetime(2099, 12, 31)),
        st.sampled_from(["{0:%m/%d/%Y %H:%M:%S}", "{0.month}/{0.day}/{0.year} {0:%H:%M:%S}"]),
    )
    def test_a_time_with_slashes_is_read_as_it_was_written(self, moment, form):
        moment = moment.replace(microsecond=0)
        self.assertEqual(parse_acq_datetime(form.format(moment)), moment)

    @given(st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31)))
    def test_a_time_of_whole_seconds_needs_no_rounding(self, moment):
        moment = moment.replace(microsecond=0)
        near = to_millisecond(moment + timedelta(microseconds=1))
        self.assertEqual(to_millisecond(moment), near.replace(microsecond=0))

    @given(texts(CSV_PIECES))
    def test_a_text_without_blanks_at_quotation_marks_is_read_as_with_a_search_for_them(self, text):
        def read():
            return list(csv_reader.read_rows(f"subject_id,platform\n{text}".encode(), []))

        quick = outcome(read)
        with patch.object(csv_reader, "_may_have_blanks", return_value=True):
            self.assertEqual(quick, outcome(read))

    @given(VISIBLE, st.text())
    def test_a_text_that_begins_with_a_visible_character_is_not_empty(self, first, rest):
        self.assertFalse(is_empty(first + rest))

    @given(sheets())
    def test_a_sheet_read_by_patterns_is_what_the_parser_sees(self, sheet):
        file = changed(self.book, "xl/worksheets/sheet1.xml", sheet)
        quick = outcome(unpacked, file)
        with patch(LOOKED_FOR, return_value=None):
            self.assertEqual(quick, outcome(unpacked, file))

    def test_the_sheets_of_usual_programs_are_read_by_patterns(self):
        with zipfile.ZipFile(io.BytesIO(xlsx_file(rows(3)))) as archive:
            sheet = archive.read("xl/worksheets/sheet1.xml")
        table = find_plain_table(sheet, {})
        self.assertEqual((table.rows, table.columns), (4, 11))
        self.assertNotIn(b"<c ", table.shell)


class GarbageCollectionTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(gc.enable if gc.isenabled() else gc.disable)

    def test_reading_leaves_the_garbage_collector_as_it_was(self):
        for switch in (gc.enable, gc.disable):
            for file in (csv_file(rows(1)), b""):
                switch()
                was_enabled = gc.isenabled()
                read_jobs(file, "jobs.csv")
                self.assertEqual(gc.isenabled(), was_enabled)


if __name__ == "__main__":
    unittest.main()
