"""Excel workbooks, well meant and otherwise."""

import io
import re
import unittest
import zipfile
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import openpyxl

from aind_data_transfer_service.spreadsheets.reader import ReadOptions, read_jobs
from tests.support import slow
from tests.unit.configs.builders import (
    ACQUIRED,
    ROW,
    csv_file,
    header_of,
    read_csv,
    read_xlsx,
    row,
    rows,
    saved,
    with_parts,
    workbook,
    xlsx_file,
)

MIB = 1024**2


def read(data, **options):
    """Read a workbook."""
    return read_jobs(data, "jobs.xlsx", ReadOptions(**options))


def book_with(cell, value, number_format="General"):
    """Make a workbook of one good row in which one cell is another."""
    book = workbook(Jobs=[row()])
    book["Jobs"][cell] = value
    book["Jobs"][cell].number_format = number_format
    return book


def sheet_xml(cells):
    """Make a workbook whose one sheet holds just this XML."""
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"<sheetData>{cells}</sheetData></worksheet>"
    )
    return with_parts(xlsx_file([row()]), sheet1=sheet.encode())


def text_cell(reference, text):
    """Write a cell with its text in it."""
    return f'<c r="{reference}" t="inlineStr"><is><t>{text}</t></is></c>'


class CellsTest(unittest.TestCase):
    """A workbook's cell means what its column says."""

    def test_numbers_become_the_text_that_a_person_typed(self):
        for value, expected in ((690165, "690165"), (690165.0, "690165"), ("00690165", "00690165")):
            with self.subTest(value=value):
                result = read_xlsx([row(subject_id=value)])
                self.assertEqual(result.errors, [])
                self.assertEqual(result.rows[0].config.subject_id, expected)

    def test_numbers_that_are_shown_with_zeros_before_them(self):
        for number_format, value, expected in (
            ("000000", 123, "000123"),
            ("000000", 690165, "690165"),
            ("00000", 690165, "690165"),
            ("000000;-000000", 123, "000123"),
            ("0", 123, "123"),
            ("#,##0", 123, "123"),
            ("000000", "123", "123"),
        ):
            with self.subTest(number_format=number_format, value=value):
                result = read(saved(book_with("F2", value, number_format)))
                self.assertEqual([], result.errors)
                self.assertEqual(expected, result.rows[0].config.subject_id)

    def test_numbers_that_are_shown_with_letters_and_marks(self):
        for number_format, value, expected in (
            ('"M"000000', 123, "M000123"),
            ("\\M000000", 690165, "M690165"),
            ("00-0000", 120003, "12-0003"),
            ("00\\-0000", 3, "00-0003"),
            ('"mouse-"General', 7, "mouse-7"),
            ('"A;B"0', 7, None),
            ('0"b";"neg"0', 12, "12b"),
            ('[Red]"M"#', 5, "M5"),
            ('"$"#,##0.00', 690165, "690165"),
            ("[$€-407] #,##0", 690165, "690165"),
            ("_(* #,##0_)", 690165, "690165"),
            ("#,##0.00", 690165, "690165"),
            ("0%", 0.5, None),
            ("0.00%", 12, None),
            ("0.00E+00", 5e10, None),
            ("##0.0E+0", 690165, None),
            ('0.0" days"', 1.5, None),
            ('"M"000', 1.5, None),
            ('"M"000', -5, None),
        ):
            with self.subTest(number_format=number_format, value=value):
                result = read(saved(book_with("F2", value, number_format)))
                if expected is None:
                    [error] = result.errors
                    self.assertRegex(error, "^row 2, subject_id: ")
                    self.assertRegex(error, "something else|is no subject id|has a fraction")
                else:
                    self.assertEqual([], result.errors)
                    self.assertEqual(expected, result.rows[0].config.subject_id)

    def test_a_check_box_is_not_a_subject(self):
        for value in (True, False):
            for read_one in (read_xlsx, read_csv):
                [error] = read_one([row(subject_id=value)]).errors
                self.assertRegex(error, f'^row 2, subject_id: "(?i:{value})" is a check box')

    def test_errors_and_formulas_that_were_saved_as_text(self):
        for text, words in (
            ("#N/A", "an error such as #REF!"),
            ("#NAME?", "an error such as #REF!"),
            ("#WERT!", "an error such as #REF!"),
            (" #SPILL! ", "an error such as #REF!"),
            ("Err:508", "an error such as #REF!"),
            ("########", "the column was too narrow"),
            ("=A2", '"=A2" is a formula that was saved as text'),
            ("\u200b=VLOOKUP(A1)", "is a formula that was saved as text"),
        ):
            table = [row(project_name=text)]
            quoted_csv = csv_file(table, quote=lambda one: f'"{one}"')
            as_text = sheet_xml(
                "<row>"
                + "".join(text_cell(f"{chr(65 + n)}1", name) for n, name in enumerate(ROW))
                + "</row><row>"
                + "".join(
                    text_cell(f"{chr(65 + n)}2", value)
                    for n, value in enumerate(table[0].values())
                    if value
                )
                + "</row>"
            )
            for name, data in (
                ("a.csv", csv_file(table)),
                ("b.csv", quoted_csv),
                ("c.xlsx", as_text),
            ):
                with self.subTest(text, name=name):
                    [error] = read_jobs(data, name).errors
                    self.assertRegex(error, "^row 2, project_name: ")
                    self.assertIn(words, error)

    def test_values_that_only_begin_like_errors(self):
        for text in ("#1 Ephys", "# 5", "Err: 5", "A=B", "#hello!", "#"):
            with self.subTest(text):
                result = read_xlsx([row(project_name=text)])
                self.assertEqual(([], text), (result.errors, result.rows[0].config.project_name))

    def test_an_id_in_scientific_notation_is_named_as_such(self):
        for text in ("6.90165E+05", "6,90165E+05", "1.23457e+19", "1.20E-02", "6.90E10", "5E+10"):
            [error] = read_csv([row(subject_id=f'"{text}"')]).errors
            self.assertIn("the spreadsheet program took it for a number", error)

    def test_numbers_in_columns_of_text(self):
        result = read_xlsx([row(project_name=7.0, processor_full_name=1.5)])
        config = result.rows[0].config
        self.assertEqual((config.project_name, config.processor_full_name), ("7", "1.5"))

    def test_truth_values(self):
        table = [row(dry_run=True, force_cloud_sync=1, metadata_dir_force="no", project_name=True)]
        config = read_xlsx(table).rows[0].config
        self.assertTrue(config.dry_run and config.force_cloud_sync)
        self.assertEqual((config.metadata_dir_force, config.project_name), (False, "TRUE"))

    def test_a_time_in_a_cell_of_any_date_format(self):
        for number_format in (
            "m/d/yy h:mm",
            "m/d/yyyy h:mm",
            "[$-409]m/d/yy h:mm AM/PM;@",
            "yyyy\\-mm\\-dd\\ hh:mm:ss",
            "[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy",
            "dd.mm.yyyy hh:mm:ss,000",
            "General",
            "0.00",
        ):
            for kind in (ACQUIRED, 45341 + (11 * 3600 + 25 * 60 + 17) / 86400):
                with self.subTest(number_format=number_format, kind=type(kind)):
                    book = book_with("E2", kind, number_format)
                    result = read(saved(book))
                    self.assertEqual(result.errors, [])
                    self.assertEqual(result.rows[0].config.acq_datetime, ACQUIRED)

    def test_a_time_as_text(self):
        result = read_xlsx([row(acq_datetime="2/19/2024 11:25:17 AM")])
        self.assertEqual(result.rows[0].config.acq_datetime, ACQUIRED)

    def test_times_with_milliseconds_and_from_1904(self):
        exact = ACQUIRED.replace(microsecond=123000)
        for epoch in (openpyxl.utils.datetime.WINDOWS_EPOCH, openpyxl.utils.datetime.MAC_EPOCH):
            for number_format in ("yyyy-mm-dd hh:mm:ss.000", "General"):
                book = workbook(Jobs=[row()])
                book.epoch = epoch
                book["Jobs"]["E2"] = exact
                book["Jobs"]["E2"].number_format = number_format
                with self.subTest(epoch=epoch, number_format=number_format):
                    result = read(saved(book))
                    self.assertEqual(result.rows[0].config.acq_datetime, exact)

    def test_from_1904_as_new_versions_of_excel_save_it(self):
        addition = (
            b'<extLst><ext uri="{140A7094-0E35-4892-8432-C4D2E57EDEB5}" xmlns:x15="http://schemas.'
            b'microsoft.com/office/spreadsheetml/2010/11/main"><x15:workbookPr '
            b'chartTrackingRefBase="1"/></ext></extLst></workbook>'
        )
        for number_format in ("yyyy-mm-dd hh:mm:ss", "General", "[h]:mm:ss"):
            book = book_with("E2", None, number_format)
            book.epoch = openpyxl.utils.datetime.MAC_EPOCH
            book["Jobs"]["E2"] = openpyxl.utils.datetime.to_excel(ACQUIRED, book.epoch)
            data = with_parts(
                saved(book), workbook=lambda xml: xml.replace(b"</workbook>", addition)
            )
            with self.subTest(number_format=number_format):
                [job] = read(data).rows
                self.assertEqual(job.config.acq_datetime, ACQUIRED)

    def test_a_date_and_time_shown_as_hours(self):
        for epoch in (openpyxl.utils.datetime.WINDOWS_EPOCH, openpyxl.utils.datetime.MAC_EPOCH):
            book = workbook(Jobs=[row()])
            book.epoch = epoch
            book["Jobs"]["E2"] = ACQUIRED
            book["Jobs"]["E2"].number_format = "[h]:mm:ss"
            with self.subTest(epoch=epoch):
                [job] = read(saved(book)).rows
                self.assertEqual(job.config.acq_datetime, ACQUIRED)

    def test_a_number_as_the_name_of_a_column(self):
        book = book_with("M1", 5)
        self.assertIn('column M: unknown column "5"', read(saved(book)).errors[0])

    def test_times_that_the_file_holds_in_iso(self):
        book = workbook(Jobs=[row(acq_datetime=ACQUIRED)])
        book.iso_dates = True
        self.assertEqual(read(saved(book)).rows[0].config.acq_datetime, ACQUIRED)

    def test_iso_times_are_rounded_to_the_millisecond(self):
        for text, expected in (
            ("2014-01-16T15:59:59.99999979045242400", datetime(2014, 1, 16, 16)),
            ("2014-12-31T23:59:59.9999996", datetime(2015, 1, 1)),
            ("2014-01-16T15:59:59.9994", datetime(2014, 1, 16, 15, 59, 59, 999000)),
            ("2014-01-16T16:00:00.0000001", datetime(2014, 1, 16, 16)),
            ("2014-01-16T15:59:59.9999999790452424Z", datetime(2014, 1, 16, 16)),
            ("2014-01-16T16:00:00Z", datetime(2014, 1, 16, 16)),
            ("2014-01-16T16:00", datetime(2014, 1, 16, 16)),
        ):
            cell = f'<c r="E2" t="d"><v>{text}</v></c>'.encode()
            data = with_parts(
                saved(book_with("E2", 7)),
                sheet1=lambda xml, cell=cell: re.sub(rb'<c r="E2".*?</c>', cell, xml, flags=re.S),
            )
            with self.subTest(text=text):
                [job] = read(data, lab_timezone=ZoneInfo("America/Los_Angeles")).rows
                self.assertEqual(job.config.acq_datetime, expected)

    def test_cells_in_an_hour_of_a_clock_change_are_refused(self):
        zone = ZoneInfo("America/Los_Angeles")
        for moment, problem in (
            (datetime(2024, 11, 3, 1, 30), "is ambiguous"),
            (datetime(2024, 3, 10, 2, 30), "does not exist"),
        ):
            for number_format in ("yyyy-mm-dd hh:mm:ss", "General", "[h]:mm:ss"):
                cell = openpyxl.utils.datetime.to_excel(moment)
                data = saved(book_with("E2", cell, number_format))
                with self.subTest(moment=moment, number_format=number_format):
                    [error] = read(data, lab_timezone=zone).errors
                    self.assertIn(f'row 2, acq_datetime: "{moment.isoformat()}" {problem}', error)
        [job] = read_xlsx([row(acq_datetime="2024-11-03 01:30 -08:00")], lab_timezone=zone).rows
        self.assertIn('"acq_datetime":"2024-11-03T01:30:00-08:00"', job.text)

    def test_dates_without_times_and_times_without_dates(self):
        for value, said in (
            (date(2024, 2, 19), "is a date without a time; add the time of day, or write"),
            (datetime(2024, 2, 19), "is a date without a time"),
            (time(11, 25), "is a time without a date"),
            (timedelta(hours=30), "is a time without a date"),
            (True, "is no date and time"),
            (690165, "is a number and no date and time"),
            (45341, "is a date without a time"),
        ):
            with self.subTest(value=value):
                [error] = read_xlsx([row(acq_datetime=value)]).errors
                self.assertIn("row 2, acq_datetime: ", error)
                self.assertIn(said, error)

    def test_a_value_that_the_program_took_for_a_date(self):
        for value in (date(2024, 5, 1), time(5, 1), timedelta(hours=30), ACQUIRED):
            with self.subTest(value=value):
                [error] = read_xlsx([row(subject_id=value)]).errors
                self.assertIn("row 2, subject_id: ", error)
                self.assertIn("format the cell as text and write it anew", error)
        [error] = read_xlsx([row(dry_run=date(2024, 5, 1))]).errors
        self.assertIn("row 2, dry_run: ", error)

    def test_cells_that_hold_an_error(self):
        book = book_with("F2", "#REF!")
        book["Jobs"]["F2"].data_type = "e"
        book["Jobs"]["K2"] = "#N/A"
        book["Jobs"]["K2"].data_type = "e"
        self.assertEqual(
            read(saved(book)).errors,
            [
                f"row 2, {name}: the cell holds an error such as #REF! or #N/A; correct its formula"
                for name in ("subject_id", "metadata_dir")
            ],
        )

    def test_formulas_count_with_their_stored_values(self):
        data = with_parts(
            saved(book_with("F2", "=600000+90165")),
            sheet1=lambda xml: re.sub(rb"(</f>)<v ?/>|(</f>)<v></v>", rb"</f><v>690165</v>", xml),
        )
        result = read(data)
        self.assertEqual(result.errors, [])
        self.assertEqual(result.rows[0].config.subject_id, "690165")

    def test_formulas_without_stored_values(self):
        [error] = read(saved(book_with("F2", "=600000+90165"))).errors
        self.assertIn("row 2, subject_id: the formula has no stored value; open the file", error)

    def test_formulas_that_give_an_empty_text_are_blank(self):
        cell = '<c r="K2" t="str"><f>IF(TRUE,"","")</f><v></v></c></row></sheetData>'
        data = with_parts(
            saved(book_with("K2", "x")),
            sheet1=lambda xml: re.sub(
                rb'<c r="K2".*?</c></row></sheetData>', cell.encode(), xml, flags=re.S
            ),
        )
        result = read(data)
        self.assertEqual(result.errors, [])
        self.assertIsNone(result.rows[0].config.metadata_dir)


class RowsBelowTheJobsTest(unittest.TestCase):
    """Rows that a program filled below the last job are no jobs."""

    def read_with(self, **columns):
        """Read a good row and 998 more that have only some cells."""
        below = [{name: make(n) for name, make in columns.items()} for n in range(3, 1001)]
        data = saved(workbook(Jobs=[row(dry_run=False), *below]))
        return read(with_parts(data, sheet1=self.with_results))

    @staticmethod
    def with_results(xml):
        """Store a result in each formula: a number, an error for a lookup, nothing for an IF."""
        xml = re.sub(
            rb"(VLOOKUP[^<]*</f>)<v */>|(VLOOKUP[^<]*</f>)<v></v>", rb"\1\2<v>#N/A</v>", xml
        )
        xml = re.sub(rb'(<c [^>]*?)( t="\w+")?(><f>VLOOKUP)', rb'\1 t="e"\3', xml)
        xml = re.sub(rb"</f><v */>|</f><v></v>", b"</f><v>0</v>", xml)
        nothing = rb'\1 t="str"\3<v></v>'
        return re.sub(rb'(<c [^>]*?)( t="\w+")?(><f>IF[^<]*</f>)<v>0</v>', nothing, xml)

    def test_check_boxes(self):
        for value in (False, True, "FALSE", "true"):
            with self.subTest(value=value):
                result = self.read_with(dry_run=lambda n, value=value: value)
                self.assertEqual(([], 1), (result.errors, len(result.rows)))

    def test_formulas_that_give_no_text(self):
        result = self.read_with(
            dry_run=lambda n: False,
            subject_id=lambda n: f"=Old!F{n}",
            metadata_dir=lambda n: f'=IF(F{n}="","",Old!A{n})',
        )
        self.assertEqual(([], 1), (result.errors, len(result.rows)))

    def test_formulas_that_give_errors_make_a_row(self):
        for columns in (["acq_datetime"], ["subject_id", "acq_datetime", "project_name"]):
            formulas = {
                name: lambda n: f"=VLOOKUP(F{n},Old!A:B,2,FALSE)" if n == 9 else None
                for name in columns
            }
            with self.subTest(columns=columns):
                result = self.read_with(dry_run=lambda n: False, **formulas)
                self.assertEqual(1, len(result.rows))
                for name in columns:
                    words = f"row 9, {name}: the cell holds an error such as #REF!"
                    self.assertTrue(any(line.startswith(words) for line in result.errors))

    def test_formulas_in_a_column_that_shows_zeros(self):
        book = workbook(Jobs=[row(), *[{"subject_id": f"=Old!F{n}"} for n in range(3, 100)]])
        for cell in book["Jobs"]["F"]:
            cell.number_format = "000000"
        result = read(with_parts(saved(book), sheet1=self.with_results))
        self.assertEqual(([], 1), (result.errors, len(result.rows)))

    def test_a_value_that_somebody_typed_makes_a_row(self):
        for name, value in (("subject_id", 690166), ("project_name", "P"), ("subject_id", "7")):
            with self.subTest(value=value):
                result = self.read_with(**{name: lambda n, v=value: v if n == 9 else None})
                self.assertTrue(result.errors)
                self.assertTrue(all(error.startswith("row 9, ") for error in result.errors))

    def test_a_formula_without_a_stored_value_makes_a_row(self):
        result = read_xlsx([row(), {"subject_id": "=Old!F3"}, row(subject_id="690166")])
        words = "row 3, subject_id: the formula has no stored value"
        self.assertTrue(any(error.startswith(words) for error in result.errors), result.errors)

    def test_check_boxes_of_a_csv_file(self):
        for value in ("FALSE", "TRUE", "false"):
            result = read_csv([row(dry_run="FALSE"), *[{"dry_run": value}] * 998])
            self.assertEqual(([], 1), (result.errors, len(result.rows)))

    def test_only_check_boxes_are_no_jobs(self):
        table = [dict.fromkeys(row()) | {"dry_run": False}] * 5
        self.assertIn("there are no jobs", read_xlsx(table).errors[0])


class SheetsTest(unittest.TestCase):
    """The one sheet with jobs is found among others."""

    def test_other_sheets_hidden_ones_and_empty_ones_do_not_matter(self):
        notes = [{"Notes": "call Anna", "platform": "see help"}]
        book = workbook(
            Empty=[], Notes=notes, Jobs=[row()], Old=rows(2), Begun=[dict.fromkeys(row())]
        )
        book["Old"].sheet_state = "hidden"
        book.create_chartsheet("Chart", 1)
        result = read(saved(book))
        self.assertEqual((result.errors, len(result.rows)), ([], 1))

    def test_hidden_rows_and_columns_are_read(self):
        book = workbook(Jobs=rows(2))
        book["Jobs"].row_dimensions[2].hidden = True
        book["Jobs"].column_dimensions["F"].hidden = True
        book["Jobs"].row_dimensions[9].hidden = True
        result = read(saved(book))
        self.assertEqual(len(result.rows), 2)
        [warning] = result.warnings
        self.assertIn("hidden rows are read like the others: 2; delete", warning)

    def test_two_rows_of_one_number_are_not_read_as_one(self):
        row_of = "<row r='{0}'>{1}</row>".format
        first, second = text_cell("A2", "x"), text_cell("B2", "y")
        for rows_of_two in (
            row_of(2, first) + row_of(2, first),
            row_of(2, first) + row_of(3, text_cell("A3", "z")) + row_of(2, second),
            row_of(2, first + second + first),
        ):
            with self.subTest(rows_of_two):
                [error] = read(sheet_xml(rows_of_two)).errors
                self.assertIn('the sheet "Jobs" is damaged: it has row 2 twice, or a cell', error)

    def test_rows_of_one_number_in_another_sheet_do_not_matter(self):
        again = "<row r='1'><c r='A1'><v>1</v></c></row>"
        for added in (again, "<row r='9'><c r='B9'><v>1</v></c></row>" + again, again * 3):
            for state in ("visible", "hidden"):
                with self.subTest(added, state=state):
                    book = workbook(Jobs=[row()], Notes=[{"x": "y"}])
                    book["Notes"].sheet_state = state
                    data = with_parts(
                        saved(book),
                        sheet2=lambda part, new=added: part.replace(
                            b"</sheetData>", new.encode() + b"</sheetData>"
                        ),
                    )
                    result = read(data)
                    self.assertEqual(([], 1), (result.errors, len(result.rows)))

    def test_more_than_one_sheet_with_jobs(self):
        [error] = read(saved(workbook(Monday=rows(1), Tuesday=rows(2)))).errors
        self.assertIn('more than one sheet holds jobs: "Monday", "Tuesday"', error)

    def test_only_a_hidden_sheet_has_jobs(self):
        book = workbook(Empty=[], Jobs=[row()])
        book["Jobs"].sheet_state = "veryHidden"
        self.assertIn("the only sheet with jobs is hidden", read(saved(book)).errors[0])

    def test_no_sheet_has_jobs(self):
        notes = [{"Notes": "x"}]
        [error] = read(saved(workbook(One=notes, Two=notes))).errors
        self.assertIn('none of the sheets "One", "Two" begins with a row of column names', error)
        self.assertIn("unknown column", read(saved(workbook(One=notes))).errors[0])

    def test_a_sheet_that_has_only_its_header(self):
        [error] = read(saved(workbook(One=[{"a": 1}], Jobs=[dict.fromkeys(row())]))).errors
        self.assertIn("there are no jobs", error)

    def test_formatted_blank_cells_far_below_are_nothing(self):
        book = workbook(Jobs=[row()])
        for number in range(3, 3000):
            book["Jobs"].cell(number, 1).number_format = "@"
        book["Jobs"].cell(1_048_576, 16_384).number_format = "@"
        result = read(saved(book))
        self.assertEqual((result.errors, len(result.rows)), ([], 1))


class OtherWritersTest(unittest.TestCase):
    """Workbooks as other programs write them."""

    def test_cells_without_references(self):
        table = [row(), row(subject_id="7")]
        names = header_of(table)
        lines = [names] + [[line[name] or "" for name in names] for line in table]
        cells = "".join(
            "<row>"
            + "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in line)
            + "</row>"
            for line in lines
        )
        result = read(sheet_xml(cells))
        self.assertEqual((result.errors, len(result.rows)), ([], 2))

    def test_shared_texts(self):
        table = rows(3)
        names = header_of(table)
        texts = list(dict.fromkeys([*names, *(str(v) for r in table for v in r.values() if v)]))
        shared = "".join(f"<x:si><x:t>{text}</x:t></x:si>" for text in texts)
        namespace = 'xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
        lines = [dict(zip(names, names, strict=True)), *table]
        cells = "".join(
            f'<x:row r="{number}">'
            + "".join(
                f'<x:c r="{chr(65 + names.index(name))}{number}" t="s">'
                f"<x:v>{texts.index(str(value))}</x:v></x:c>"
                for name, value in line.items()
                if value
            )
            + "</x:row>"
            for number, line in enumerate(lines, start=1)
        )
        data = self.with_shared(
            f"<x:worksheet {namespace}><x:sheetData>{cells}</x:sheetData></x:worksheet>",
            f"<x:sst {namespace}>{shared}</x:sst>",
        )
        result = read(data)
        self.assertEqual((result.errors, len(result.rows)), ([], 3))

    @staticmethod
    def with_shared(sheet, shared):
        return with_parts(
            xlsx_file([row()]),
            sheet1=sheet.encode(),
            sharedStrings=shared.encode(),
            workbook=lambda xml: xml,
            **{
                "[Content_Types]": lambda xml: xml.replace(
                    b"</Types>",
                    b'<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.'
                    b'openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>',
                )
            },
        )


class RefusedFilesTest(unittest.TestCase):
    """Files that cannot be read say why, and cost no memory."""

    def only_error(self, data, **options):
        result = read(data, **options)
        self.assertEqual(result.rows, [])
        [error] = result.errors
        self.assertTrue(error.isprintable())
        return error

    def test_encrypted_and_old_workbooks(self):
        ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
        encrypted = ole + "EncryptedPackage".encode("utf-16-le") + bytes(600)
        self.assertIn("encrypted with a password", self.only_error(encrypted))
        self.assertIn("Excel's old .xls format", self.only_error(ole))

    def test_members_of_the_zip_that_are_encrypted(self):
        data = bytearray(xlsx_file([row()]))
        for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            at = -1
            while (at := data.find(signature, at + 1)) >= 0:
                data[at + place] |= 1
        self.assertIn("encrypted with a password", self.only_error(bytes(data)))

    def test_what_is_no_workbook(self):
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("content.xml", "<office/>")
        self.assertIn("no .xlsx workbook", self.only_error(other.getvalue()))
        self.assertIn("no Excel workbook", self.only_error(b"platform,subject_id\r\nx,y"))

    def test_a_file_cut_short_or_damaged_anywhere(self):
        data = xlsx_file(rows(3))
        for cut in (4, 100, len(data) // 2, len(data) - 10):
            with self.subTest(cut=cut):
                self.assertIn("the file is damaged", self.only_error(data[:cut]))
        for at in range(0, len(data), 97):
            damaged = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            result = read(damaged)
            self.assertTrue(len(result.rows) == 3 or result.errors)

    def test_a_date_that_no_calendar_has(self):
        for value, number_format in ((1e300, "[h]:mm"), (-1e300, "yyyy-mm-dd"), (1e300, "h:mm")):
            with self.subTest(value=value, number_format=number_format):
                result = read(saved(book_with("E2", value, number_format)))
                self.assertEqual(result.rows, [])
                self.assertRegex(result.errors[0], "holds a number that is no date|no date and")

    def test_parts_that_are_missing_or_no_xml(self):
        for part, content in (
            ("sheet1", b"<worksheet"),
            ("sheet1", None),
            ("workbook", b"nonsense"),
            ("sheet1", b'<!DOCTYPE a [<!ENTITY b "c">]><worksheet>&b;</worksheet>'),
            ("sheet1", b'<worksheet><sheetData><row><c r="A0"/></row></sheetData></worksheet>'),
        ):
            with self.subTest(part=part, content=content):
                error = self.only_error(with_parts(xlsx_file([row()]), **{part: content}))
                self.assertIn("damaged", error)

    def test_names_that_stand_in_the_archive_twice(self):
        data = io.BytesIO(xlsx_file([row()]))
        with self.assertWarns(UserWarning), zipfile.ZipFile(data, "a") as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
        self.assertIn("damaged", self.only_error(data.getvalue()))

    def test_compression_that_no_program_uses(self):
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
        self.assertIn("damaged", self.only_error(other.getvalue()))

    @slow
    def test_a_file_that_unpacks_to_more_than_a_list_of_jobs_can_hold(self):
        bomb = with_parts(xlsx_file([row()]), sheet1=b"<worksheet>" + b" " * 97 * MIB)
        self.assertLess(len(bomb), MIB)
        self.assertIn("the file unpacks to 97 MiB, and at most 96 MiB", self.only_error(bomb))

    @slow
    def test_a_size_that_lies(self):
        bomb = bytearray(with_parts(xlsx_file([row()]), sheet1=b"<worksheet>" + b" " * 97 * MIB))
        size = (97 * MIB + 11).to_bytes(4, "little")
        self.assertEqual(bomb.count(size), 2)
        self.assertIn("damaged", self.only_error(bytes(bomb.replace(size, b"\x00\x10\x00\x00"))))

    def test_a_table_that_claims_every_cell_there_is(self):
        data = sheet_xml(
            f'<row r="1">{text_cell("A1", "platform")}</row>'
            f'<row r="1048576">{text_cell("XFD1048576", "x")}</row>'
        )
        self.assertIn("a sheet reaches to cell XFD1048576, far beyond", self.only_error(data))
        book = workbook(Jobs=[row()])
        book["Jobs"]["XFD1048576"] = "x"
        self.assertIn("reaches to cell XFD1048576", self.only_error(saved(book)))

    def test_a_table_that_claims_cells_without_naming_them(self):
        data = sheet_xml(
            "<row>" + "<c><v>1</v></c>" * 3000 + "</row>" + "<row><c><v>1</v></c></row>" * 2000
        )
        self.assertIn("reaches to cell DKJ2001", self.only_error(data))

    def test_many_sheets_of_many_cells(self):
        book = workbook(**{f"Sheet {n}": [row()] for n in range(5)})
        for sheet in book.worksheets:
            sheet["A65000"] = "x"
        self.assertIn("a sheet reaches to cell K65000", self.only_error(saved(book)))

    def test_a_claimed_dimension_alone_is_nothing(self):
        data = with_parts(
            xlsx_file([row()]),
            sheet1=lambda xml: re.sub(rb'ref="[A-Z0-9:]+"', b'ref="A1:XFD1048576"', xml, count=1),
        )
        self.assertEqual(read(data).errors, [])

    def test_wide_rows(self):
        book = workbook(Jobs=[row()])
        book["Jobs"].cell(2, 300, "x")
        self.assertIn("reaches beyond column IV", self.only_error(saved(book)))

    def test_more_parts_than_any_workbook(self):
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as archive:
            for number in range(2100):
                archive.writestr(f"xl/{number}.xml", "")
        self.assertIn("more parts than any workbook", self.only_error(other.getvalue()))

    def test_one_text_repeated_without_end(self):
        def repeated(length, count):
            cells = "".join(
                f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(1, count + 1)
            )
            return OtherWritersTest.with_shared(
                f"<worksheet><sheetData>{cells}</sheetData></worksheet>",
                f"<sst><si><t>{'x' * length}</t></si><si/></sst>",
            )

        self.assertIn("million characters in all", self.only_error(repeated(30_000, 3_000)))
        self.assertIn("more than 32,767 characters", self.only_error(repeated(1_000_000, 100)))


class LargeFilesTest(unittest.TestCase):
    """Nothing is lost in a file of the size that is allowed."""

    @slow
    def test_rows_are_all_there_and_in_order(self):
        result = read_xlsx(rows(500))
        self.assertEqual(result.errors, [])
        self.assertEqual([r.number for r in result.rows], list(range(2, 502)))
        self.assertEqual(
            [r.config.subject_id for r in result.rows], [str(690165 + n) for n in range(500)]
        )
