"""Limits on spreadsheets: each one is named in the error, and is met before the cost."""

import io
import time
import tracemalloc
import unittest
import zipfile
from unittest.mock import patch

from aind_data_transfer_service.configs import vocabulary
from aind_data_transfer_service.configs.limits import MAX_CELL_CHARACTERS, MAX_ERRORS
from aind_data_transfer_service.spreadsheets import reader, xlsx_parts, xlsx_sanitizer
from aind_data_transfer_service.spreadsheets.reader import ReadOptions, ReadResult, read_jobs
from tests.support import hostile_files, slow
from tests.unit.configs.builders import csv_file, csv_text, row, rows, saved, workbook

MOST_SECONDS = 5.0
"""CPU time after which a refusal does not count as cheap; each takes well under a second."""


def text_cell(value: str | None) -> str:
    """Write a cell of a workbook."""
    return f'<c t="inlineStr"><is><t>{value or ""}</t></is></c>'


def with_tags(data: bytes, part: str, tag: str) -> bytes:
    """Add 500 tags to a part of a workbook, and have the workbook found by its content type."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            content = old.read(name).decode()
            if part.startswith("[") and name == "_rels/.rels":
                continue
            if name.endswith(part):
                content = content.replace(f"</{tag}>", f"{'<x/>' * 500}</{tag}>")
            new.writestr(name, content)
    return result.getvalue()


class LimitTest(unittest.TestCase):
    """A test of files that are refused as a whole."""

    def refused(self, data: bytes, name: str, said: str) -> None:
        """Make sure that a file is refused with one error, quickly."""
        began = time.process_time()
        result = read_jobs(data, name)
        self.assertLess(time.process_time() - began, MOST_SECONDS)
        self.assertEqual([], result.rows)
        self.assertEqual(1, result.error_count, result.errors)
        self.assertIn(said, result.errors[0])
        self.assertTrue(result.errors[0].isprintable())


class WorkbookTest(LimitTest):
    """Workbooks that are small to send and expensive to read."""

    def refused_book(self, data: bytes, said: str) -> None:
        """Make sure that a small workbook is refused."""
        self.assertLess(len(data), 2 * 1024**2)
        self.refused(data, "jobs.xlsx", said)

    @slow
    def test_sheets(self):
        self.refused_book(hostile_files.many_sheets(200_000), "more than 100 sheets")
        self.refused_book(hostile_files.many_sheets(101), "more than 100 sheets")
        book = workbook(Jobs=[row()], **{f"Empty {n}": [] for n in range(99)})
        self.assertEqual([], read_jobs(saved(book), "jobs.xlsx").errors)

    @slow
    def test_rows(self):
        self.refused_book(hostile_files.many_rows(2_900_000), "XML tags, and at most 6,000,000")
        self.refused_book(hostile_files.many_rows(100_001), "a value in row 100,001, and at most")
        far = '<row r="1048576"><c r="A1048576"><v>1</v></c></row>'
        self.refused_book(hostile_files.workbook(far), "reaches to cell A1048576, far")

    def test_cells(self):
        corner = '<row r="4001"><c r="IP4001"><v>1</v></c></row>'
        self.refused_book(hostile_files.workbook(corner), "reaches to cell IP4001, far")

    @slow
    def test_rows_and_cells_without_values_are_counted_as_tags(self):
        for blank in ("<row/>", "<row><c/></row>"):
            with self.subTest(blank):
                data = hostile_files.workbook(blank * (6_000_001 // blank.count("<")))
                self.refused_book(data, "XML tags")

    def test_cells_of_which_something_is_kept(self):
        for cell, words in (
            ('<c t="e"><v/></c>', "cells that are not blank"),
            ("<c><f/></c>", "cells that are not blank"),
            ('<c t="x"><v/></c>', "cells that are not blank"),
            ('<c r="A1" t="x"><v/></c>', "cells that are not blank"),
            ("<c><v/></c>", "reaches to cell"),
        ):
            with self.subTest(cell):
                data = hostile_files.workbook(f"<row>{cell * 1_001}</row>")
                with patch.object(xlsx_sanitizer, "MAX_CELLS", 1_000):
                    self.refused_book(data, words)

    def test_cells_of_errors_without_values_cost_nothing(self):
        blank = '<row><c r="ZZZ9" t="e"/></row>' + '<row><c t="e"/><c t="x"/></row>' * 20_000
        header = "".join(map(text_cell, ROW_NAMES))
        values = "".join(map(text_cell, row().values()))
        data = hostile_files.workbook(f"<row>{header}</row><row>{values}</row>{blank}")
        tracemalloc.start()
        try:
            result = read_jobs(data, "jobs.xlsx")
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual(([], 1), (result.errors, len(result.rows)))
        self.assertLess(most, 5 * 1024**2)

    def test_errors_that_the_library_knows_are_not_edited(self):
        line = '<row><c t="e"><v>#N/A</v></c><c t="e"><v></v></c></row>'
        [known] = xlsx_sanitizer.unpack(hostile_files.workbook(line * 100), 10**8).sheets
        self.assertEqual([], known.part.edits)
        self.assertEqual(200, len(known.part.errors))

    def test_tags_of_every_part_are_counted(self):
        for part, tag in (
            ("_rels/workbook.xml.rels", "Relationships"),
            ("workbook.xml", "workbook"),
            ("worksheets/sheet1.xml", "worksheet"),
            ("[Content_Types].xml", "Types"),
            ("_rels/.rels", "Relationships"),
        ):
            with self.subTest(part):
                stuffed = with_tags(hostile_files.workbook(), part, tag)
                with patch.object(xlsx_parts, "MAX_TAGS", 500):
                    self.refused_book(stuffed, "XML tags, and at most 500 are read")

    def test_nested_xml(self):
        deep = "<a>" * 500_000 + "</a>" * 500_000
        for data in (
            hostile_files.workbook(deep),
            hostile_files.workbook(styles=deep),
            hostile_files.workbook(sharedStrings=f"<sst><si>{deep}</si></sst>"),
        ):
            self.refused_book(data, "nested deeper than 64 levels")

    def test_defined_names(self):
        names = "".join(f'<definedName name="n{n}">s1!A1</definedName>' for n in range(10**5))
        self.refused_book(hostile_files.workbook(names=names), "more than 10,000 named ranges")

    def test_styles(self):
        styles = f'<styleSheet><cellXfs>{"<xf/>" * 6_000_000}</cellXfs></styleSheet>'
        self.refused_book(hostile_files.workbook(styles=styles), "XML tags")

    @slow
    def test_shared_texts(self):
        for texts in ("<si><t>x</t></si>" * 2_000_000, "<si/>" * 6_000_001):
            data = hostile_files.workbook(sharedStrings=f"<sst>{texts}</sst>")
            self.refused_book(data, "XML tags")

    def test_claims_that_are_lies_cost_nothing(self):
        merged = '<mergeCells count="9">' + '<mergeCell ref="A1:XFD1048576"/>' * 9 + "</mergeCells>"
        columns = '<cols><col min="1" max="16384" width="9"/></cols>'
        cells = "".join(map(text_cell, ROW_NAMES))
        data = hostile_files.workbook(
            f'<row spans="1:16384">{cells}</row>',
            before=f'<dimension ref="A1:XFD1048576"/>{columns}',
            after=merged,
        )
        self.refused_book(data, "there are no jobs")

    def test_one_sheet_under_many_names(self):
        wide = "<row>" + "<c><v>1</v></c>" * 200 + "</row>"
        self.refused_book(
            hostile_files.workbook(wide * 900, sheets=100), "two sheets have the same part"
        )


class TextTest(LimitTest):
    """CSV files."""

    @slow
    def test_one_line_of_ten_megabytes(self):
        for text in ("x" * 10**7, '"' + "x" * 10**7, "a," * (5 * 10**6)):
            with self.subTest(text[:3]):
                self.refused(text.encode(), "jobs.csv", "line 1 has 10,000,00")

    def test_a_million_columns(self):
        self.refused(b"a," * 400_000 + b"a", "jobs.csv", "beyond column IV (256 columns)")

    def test_a_quotation_mark_that_is_never_closed(self):
        text = csv_text([row()]) + '"' + "x\n" * 5 * 10**6
        result = read_jobs(text.encode(), "jobs.csv")
        self.assertEqual([2], [one.number for one in result.rows])
        self.assertIn("a closing quotation mark is missing", result.errors[0])

    def test_cells(self):
        text = csv_text([row()]) + ("x" + "," * 255 + "\n") * 10_000
        self.refused(text.encode(), "jobs.csv", "more than 1,000,000 cells")

    def test_letters_beyond_ascii_in_a_long_word(self):
        for text in (b"a" * 300_000 + b"\xe9", b"\xe9," + b"a" * 300_000, b"\xe9" * 300_000):
            with self.subTest(text[:3]):
                began = time.process_time()
                self.assertTrue(read_jobs(text, "jobs.csv").errors)
                self.assertLess(time.process_time() - began, MOST_SECONDS)

    @slow
    def test_blank_columns_beyond_the_last_do_not_count(self):
        text = csv_text(rows(2_000)).replace("\r\n", "," * 1000 + "\r\n")
        result = read_jobs(text.encode(), "jobs.csv")
        self.assertEqual(([], 2_000), (result.errors, len(result.rows)))


class CellTest(unittest.TestCase):
    """A cell that is too long is an error of its row."""

    def test_a_cell_with_more_characters_than_excel_allows(self):
        most = "/" + "x" * (MAX_CELL_CHARACTERS - 1)
        table = [row(), row(subject_id="2", metadata_dir=f"{most}x")]
        lines = [ROW_NAMES, *(line.values() for line in table)]
        cells = ["".join(map(text_cell, line)) for line in lines]
        book = hostile_files.workbook("".join(f"<row>{line}</row>" for line in cells))
        for data, name in ((csv_file(table), "a.csv"), (book, "a.xlsx")):
            with self.subTest(name):
                result = read_jobs(data, name)
                self.assertEqual([2], [one.number for one in result.rows])
                [error] = result.errors
                self.assertIn("row 3, metadata_dir: the cell has 32,768 characters", error)
        [error] = read_jobs(csv_file([row(metadata_dir=most)]), "a.csv").errors
        self.assertIn("is longer than 4096 bytes", error)


class ErrorsTest(unittest.TestCase):
    """The first errors are listed, and all are counted."""

    def read(self, count: int) -> ReadResult:
        """Read a file of so many rows with an error each, no two alike."""
        table = [line | {"platform": f"ecephy{n}"} for n, line in enumerate(rows(count))]
        return read_jobs(csv_file(table), "jobs.csv")

    def test_errors_up_to_the_limit_are_all_listed(self):
        result = self.read(MAX_ERRORS)
        self.assertEqual((100, 100), (len(result.errors), result.error_count))

    def test_errors_beyond_the_limit_are_counted(self):
        result = self.read(3_000)
        self.assertEqual((100, 3_000), (len(result.errors), result.error_count))
        self.assertTrue(result.errors[99].startswith("row 101, platform: "))
        self.assertIn("did you mean", result.errors[99])

    def test_no_hint_is_made_for_an_error_that_is_not_listed(self):
        before = vocabulary._unknown.cache_info().misses
        self.read(2_000)
        self.assertLessEqual(vocabulary._unknown.cache_info().misses - before, 100)
        self.assertIsNotNone(vocabulary.nearest("behaviour", ["behavior"]))

    def test_many_errors_in_every_row(self):
        table = [row(subject_id="?", platform="?", modality0="?", acq_datetime="?")] * 50
        result = read_jobs(csv_file(table), "jobs.csv")
        self.assertEqual((100, 200), (len(result.errors), result.error_count))

    def test_the_check_stops_where_nobody_needs_to_read_on(self):
        many = {f"modality{n}": "?" for n in range(2, 100)}
        sources = {f"modality{n}.source": "x" for n in range(2, 100)}
        table = [row(**many, modality1="?", modality1__source="x") | sources] * 9
        with patch.object(reader, "MAX_COUNTED_ERRORS", 500):
            result = read_jobs(csv_file(table), "jobs.csv")
        self.assertEqual((100, 594), (len(result.errors), result.error_count))
        self.assertEqual(["the check stopped at row 4, after 500 errors"], result.warnings)

    def test_rows_beyond_the_limit_are_refused_before_any_is_checked(self):
        table = [row(platform=f"x{n}") for n in range(30)]
        result = read_jobs(csv_file(table), "jobs.csv", ReadOptions(max_rows=29))
        self.assertEqual((1, []), (result.error_count, result.rows))
        self.assertIn("more than 29 jobs", result.errors[0])


ROW_NAMES = tuple(row())
