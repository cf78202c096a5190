"""Rules that hold for any spreadsheet of jobs, however it was saved."""

import unittest
from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.configs.deprecated_fields import FORMER_FIELDS
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, ModalityConfigs
from aind_data_transfer_service.spreadsheets.reader import ReadOptions, read_jobs
from aind_data_transfer_service.spreadsheets.schema import COLUMNS, REQUIRED_COLUMNS
from tests.support import campaign
from tests.unit.configs.builders import (
    ROW,
    csv_file,
    csv_text,
    read_csv,
    read_xlsx,
    row,
    rows,
    saved,
    workbook,
)


class NoValueTest(unittest.TestCase):
    """Words that programs write where there is no value, as `pandas` does."""

    def test_they_are_named_and_no_value(self):
        columns = (
            *("processor_full_name", "project_name", "subject_id", "process_capsule_id"),
            *("s3_bucket", "metadata_dir", "force_cloud_sync", "modality0.extra_configs"),
        )
        for word in (
            *("nan", "NaN", "None", "NULL", " null ", "n/a", "-", "\u2014", "undefined"),
            *("<NA>", "NaT", "-nan", "(null)", "\\N"),
        ):
            for column in columns:
                if column == "modality0.extra_configs" and word.strip() == "null":
                    continue  # it is JSON
                table = [row() | {column: word}]
                for read in (read_csv, read_xlsx):
                    with self.subTest(word, column=column, read=read.__name__):
                        [error] = read(table).errors
                        self.assertEqual(
                            f'row 2, {column}: "{word.strip()}" is not a value; leave it '
                            "empty, or write one",
                            error,
                        )

    def test_null_is_json_for_no_settings(self):
        for read in (read_csv, read_xlsx):
            result = read([row() | {"modality0.extra_configs": " null "}])
            self.assertEqual([], result.errors)
            self.assertIsNone(result.rows[0].config.modalities[0].extra_configs)

    def test_longer_texts_with_them_are_values(self):
        for name in ("Nanoscopy", "None of these", "A-B", "nan 2"):
            result = read_csv([row(project_name=name)])
            self.assertEqual(([], name), (result.errors, result.rows[0].config.project_name))


class RowsTest(unittest.TestCase):
    """Good rows become jobs, with the numbers that the spreadsheet program shows."""

    def read(self, table, **options):
        for read in (read_csv, read_xlsx):
            with self.subTest(read=read.__name__):
                yield read(table, **options)

    def test_a_good_row_becomes_a_job(self):
        for result in self.read([row(modality1="ecephys", modality1__source="/data/e")]):
            self.assertEqual((result.errors, result.warnings), ([], []))
            [found] = result.rows
            self.assertEqual(found.number, 2)
            self.assertEqual(found.config.s3_prefix, "behavior_690165_2024-02-19_11-25-17")
            self.assertEqual(
                [m.modality.abbreviation for m in found.config.modalities], ["behavior", "ecephys"]
            )
            self.assertIsNone(found.config.metadata_dir)

    def test_headers_may_carry_blanks_and_any_case_and_mark(self):
        header = {
            "processor_full_name": " Processor Full Name ",
            "project_name": "project-name",
            "platform": "PLATFORM",
            "acq_datetime": "acq-datetime\u00a0",
            "subject_id": "Subject ID",
            "modality0.source": "modality0 . source",
        }
        table = [{header.get(name, name): value for name, value in row().items()}]
        for result in self.read(table):
            self.assertEqual((result.errors, len(result.rows)), ([], 1))

    def test_values_may_carry_blanks(self):
        table = [{name: f" {value} " if value else "  " for name, value in row().items()}]
        for result in self.read(table):
            self.assertEqual(result.errors, [])
            self.assertEqual(result.rows[0].config.project_name, "Ephys Platform")

    def test_every_field_of_the_models_may_be_a_column(self):
        table = [
            row(
                s3_bucket="a-bucket",
                metadata_dir="/data/meta",
                metadata_dir_force="TRUE",
                force_cloud_sync="yes",
                dry_run=1,
                log_level="debug",
                modality0__compress_raw_data="no",
                modality0__extra_configs='{"a": 1}',
                modality0__skip_staging="true",
            )
        ]
        for result in self.read(table):
            self.assertEqual(result.errors, [])
            config = result.rows[0].config
            self.assertTrue(
                config.metadata_dir_force and config.force_cloud_sync and config.dry_run
            )
            self.assertEqual((config.log_level, config.s3_bucket), ("DEBUG", "a-bucket"))
            [modality] = config.modalities
            self.assertEqual(modality.extra_configs, {"a": 1})
            self.assertTrue(modality.skip_staging)
            self.assertFalse(modality.compress_raw_data)

    def test_the_described_columns_are_the_fields_of_the_models(self):
        fields = set(BasicUploadJobConfigs.model_fields) - {"modalities"} - FORMER_FIELDS
        fields |= {"modality0", "modality1", "modality1.source"}
        fields |= {
            f"modality0.{name}"
            for name in set(ModalityConfigs.model_fields) - {"modality", "number"}
        }
        self.assertEqual({column.name for column in COLUMNS}, fields)
        for column in COLUMNS:
            if column.required:
                self.assertIsNotNone(ROW[column.name])
            if column.name.startswith(("modality1", "process_", "metadata_dir")):
                continue
            result = read_csv([row() | {column.name: column.example.replace('"', '""')}])
            if '"' not in column.example:
                self.assertEqual(result.errors, [], column.name)

    def test_blank_rows_and_columns_do_not_count_but_row_numbers_do(self):
        blank = dict.fromkeys(ROW)
        table = [blank, row(), blank, blank, row(subject_id="1"), blank]
        table = [{"": None} | line | {" ": None} for line in table]
        for result in self.read(table):
            self.assertEqual(result.errors, [])
            self.assertEqual([found.number for found in result.rows], [3, 6])

    def test_rows_above_the_header_may_be_blank(self):
        text = ",,,\r\n\r\n" + csv_text([row()])
        self.assertEqual([r.number for r in read_jobs(text.encode(), "a.csv").rows], [4])
        book = workbook(Jobs=[row()])
        book["Jobs"].insert_rows(1, 2)
        book["Jobs"].insert_cols(1, 2)
        self.assertEqual([r.number for r in read_jobs(saved(book), "a.xlsx").rows], [4])

    def test_times_follow_the_lab_s_settings(self):
        options = {"date_order": "DMY", "lab_timezone": ZoneInfo("America/Los_Angeles")}
        table = [row(acq_datetime="3/2/2024 9:00"), row(acq_datetime="2024-02-19T19:25:17Z")]
        for result in self.read(table, **options):
            self.assertEqual(
                [found.config.acq_datetime for found in result.rows],
                [datetime(2024, 2, 3, 9), datetime(2024, 2, 19, 11, 25, 17)],
            )

    def test_the_second_of_a_kind_is_numbered(self):
        for result in self.read([row(modality1="behavior", modality1__source="/data/b")]):
            self.assertEqual([m.number for m in result.rows[0].config.modalities], [0, 1])


class WrongRowsTest(unittest.TestCase):
    """Every error of every row is told, with row and column; good rows are given all the same."""

    def errors(self, *table):
        found = read_csv(table)
        self.assertEqual(read_xlsx(table).errors, found.errors)
        return found.errors

    def test_a_row_with_two_errors_reports_both_in_the_order_of_columns(self):
        errors = self.errors(
            row(), row(modality0="ecefys", platform="behaviour", subject_id="690166")
        )
        self.assertEqual(len(errors), 2)
        self.assertIn('row 3, platform: unknown platform "behaviour"; did you mean', errors[0])
        self.assertIn(
            'row 3, modality0: unknown modality "ecefys"; did you mean "ecephys"? Known are',
            errors[1],
        )

    def test_good_rows_are_given_beside_the_errors(self):
        result = read_csv([row(), row(subject_id="a_b"), row(subject_id="3")])
        self.assertEqual([found.number for found in result.rows], [2, 4])
        self.assertEqual(len(result.errors), 1)

    def test_cells_that_are_needed_and_empty(self):
        names = ("processor_full_name", "project_name", "platform", "acq_datetime", "subject_id")
        self.assertEqual(
            self.errors(row(metadata_dir="/data/m", **dict.fromkeys(names, "  "))),
            [f"row 2, {name}: empty; every job needs it" for name in names],
        )

    def test_a_modality_without_its_source_and_a_source_without_its_modality(self):
        self.assertEqual(
            self.errors(
                row(modality0__source=None, modality1__source="/data/b"),
                row(modality0=None, modality0__source=None),
            ),
            [
                "row 2, modality0.source: empty; write the folder of the data of modality0",
                "row 2, modality1: empty, though other columns of modality1 are filled; "
                "name the modality",
                "row 3, modality0: empty; every job needs a modality and its source",
            ],
        )

    def test_a_gap_between_modalities(self):
        self.assertEqual(
            self.errors(
                row(
                    modality0=None,
                    modality0__source=None,
                    modality1="fib",
                    modality1__source="/data/f",
                )
            ),
            [
                "row 2, modality0: empty, though modality1 is filled; "
                "leave no gap between modalities"
            ],
        )

    def test_the_same_asset_twice(self):
        errors = self.errors(
            row(), row(acq_datetime="2/19/2024 11:25:17 AM"), row(s3_bucket="another")
        )
        self.assertEqual(len(errors), 1)
        self.assertIn(
            "row 3: the same asset as row 2 (behavior_690165_2024-02-19_11-25-17); remove one",
            errors[0],
        )

    def test_values_beside_the_table(self):
        table = [row() | {"": "mine", " ": None}, row(subject_id="2") | {" ": "yours"}]
        errors = self.errors(*table)
        self.assertEqual(
            [error.partition(" stands")[0] for error in errors],
            ['row 2, column L: "mine"', 'row 3, column M: "yours"'],
        )
        longer = csv_text([row()]).replace("/Behavior,,,", "/Behavior,,,,mine")
        [error] = read_jobs(longer.encode(), "jobs.csv").errors
        self.assertIn('row 2, column L: "mine" stands in a column without a name', error)

    def test_errors_show_long_and_odd_values_short_and_on_one_line(self):
        for odd in ("x\ny" * 1000, "a\u202ebc", "x" * 5000):
            [error] = read_xlsx([row(subject_id=odd)]).errors
            self.assertTrue(error.isprintable())
            self.assertLess(len(error), 300)

    @given(st.lists(st.fixed_dictionaries({n: st.text(max_size=9) for n in ROW}), max_size=4))
    @settings(max_examples=campaign(50))
    def test_any_cells_are_taken_or_refused_in_words(self, table):
        def quoted(cell):
            return '"' + cell.replace('"', '""') + '"'

        text = csv_text([row(), *table], quote=quoted)
        result = read_jobs(text.encode("utf-8", "replace"), "jobs.csv")
        for error in result.errors:
            self.assertTrue(error.isprintable(), error)
            self.assertRegex(error, r"^row \d+")


class WrongColumnsTest(unittest.TestCase):
    """The header is checked by itself, and no row is good while a column is wrong."""

    def test_rows_are_not_read_without_a_column_that_every_list_needs(self):
        for table in (
            [{"a": n, "b": "x"} for n in range(500)],
            [{"dry_run": "TRUE", "log_level": "x", "zzz": n} for n in range(500)],
        ):
            for read in (read_csv, read_xlsx):
                with self.subTest(table=str(table[0]), read=read.__name__):
                    result = read(table)
                    unknown = [name for name in table[0] if len(name) <= 3]
                    self.assertEqual(len(REQUIRED_COLUMNS) + len(unknown), result.error_count)
                    self.assertTrue(all(error.startswith("row 1") for error in result.errors))
        [*errors, last] = read_csv([{"subject_id": "69 01", "zzz": 1}]).errors
        self.assertTrue(last.startswith("row 2, subject_id: "), last)

    def errors(self, *table):
        found = read_csv(table)
        self.assertEqual(read_xlsx(table).errors, found.errors)
        self.assertEqual(found.rows, [])
        return found.errors

    def test_unknown_columns_are_refused_with_the_nearest_known_name(self):
        self.assertEqual(
            self.errors(row(platfrom="x", modality1__sorce="x", zzz="x", modality2__souce=1)),
            [
                'row 1, column L: unknown column "platfrom"; did you mean "platform"?',
                'row 1, column M: unknown column "modality1.sorce"; '
                'did you mean "modality1.source"?',
                'row 1, column N: unknown column "zzz"; the help page lists the known ones',
                'row 1, column O: unknown column "modality2.souce"; '
                'did you mean "modality2.source"?',
            ],
        )

    def test_columns_of_the_model_that_are_not_the_user_s_are_unknown(self):
        for name in ("modalities", "modality0.number", "modality00", "modality100", "modality"):
            with self.subTest(name=name):
                self.assertIn("unknown column", self.errors(row() | {name: None})[0])

    def test_missing_columns_are_named_once_and_not_in_every_row(self):
        table = [{n: v for n, v in line.items() if n != "subject_id"} for line in rows(3)]
        self.assertEqual(
            self.errors(*table),
            ['row 1: there is no column "subject_id"; every spreadsheet of jobs needs it'],
        )

    def test_rows_are_checked_even_so(self):
        table = [{n: v for n, v in row(platform="x").items() if n != "subject_id"}]
        errors = self.errors(*table)
        self.assertEqual(len(errors), 2)
        self.assertIn('row 2, platform: unknown platform "x"', errors[1])

    def test_a_modality_column_without_its_source_column_and_the_reverse(self):
        self.assertEqual(
            self.errors(row() | {"modality2": None, "modality3.source": None}),
            [
                'row 1: there is no column "modality2.source"; '
                "the other columns of modality2 need it",
                'row 1: there is no column "modality3"; the other columns of modality3 need it',
            ],
        )

    def test_a_gap_in_the_numbers_of_columns(self):
        self.assertEqual(
            self.errors(row() | {"modality3": None, "modality3.source": None}),
            ['row 1: there is no column "modality2"; modality3 is there, and numbers leave no gap'],
        )

    def test_duplicate_columns(self):
        errors = self.errors(row() | {"Subject ID": "1", "subject-id": "2"})
        self.assertEqual(
            errors,
            [
                'row 1: the column "subject_id" is there twice, as F and L; remove one of them',
                'row 1: the column "subject_id" is there twice, as F and M; remove one of them',
            ],
        )

    def test_a_title_above_the_column_names(self):
        for delimiter in ",;\t":
            text = "Jobs of Anna\r\n\r\n" + csv_text([row()]).replace(",", delimiter)
            [error] = read_jobs(text.encode(), "jobs.csv").errors
            with self.subTest(delimiter):
                self.assertEqual(
                    error,
                    "row 1: something stands above the column names, which are in row 3; delete "
                    "what is above them",
                )

    def test_a_file_without_a_header(self):
        text = csv_text([row()]).split("\r\n", 1)[1]
        errors = read_jobs((text * 2).encode(), "jobs.csv").errors
        self.assertIn('unknown column "Anna Apple"', errors[0])
        self.assertIn('row 1: there is no column "platform"', "\n".join(errors))

    def test_a_file_without_jobs(self):
        for read in (read_csv, read_xlsx):
            [error] = read([dict.fromkeys(ROW)]).errors
            self.assertIn("there are no jobs: no row beneath the column names (row 1)", error)


class FilesTest(unittest.TestCase):
    """What can be told of a file before its rows."""

    def only_error(self, data, name="jobs.csv", **options):
        result = read_jobs(data, name, ReadOptions(**options))
        self.assertEqual(result.rows, [])
        [error] = result.errors
        self.assertTrue(error.isprintable())
        return error

    def test_the_ending_counts_in_any_case(self):
        self.assertEqual(read_jobs(csv_file([row()]), "JOBS.v2.CSV ").errors, [])
        self.assertEqual(read_jobs(saved(workbook(a=[row()])), "C:\\x\\Jobs.XLSX").errors, [])

    def test_files_of_other_kinds(self):
        for name in ("jobs.ods", "jobs", "jobs.csv.txt", "", "\n.exe"):
            with self.subTest(name=name):
                self.assertIn("save it as .csv or .xlsx", self.only_error(b"x", name))
        self.assertIn("Excel's old .xls format", self.only_error(b"x", "jobs.xls"))

    def test_empty_files(self):
        for data in (b"", b"  \r\n\n", b"\xef\xbb\xbf", b"\xff\xfe", b",,,\r\n,,\r\n"):
            with self.subTest(data=data):
                self.assertIn("the file is empty", self.only_error(data))
        self.assertIn("the file is empty", self.only_error(saved(workbook(a=[])), "a.xlsx"))

    def test_files_over_the_limit_of_bytes(self):
        error = self.only_error(b"x" * 1001, max_bytes=1000)
        self.assertIn("at most", error)
        self.assertIn("split it", error)

    def test_files_over_the_limit_of_rows(self):
        table = rows(6)
        self.assertEqual(read_csv(table, max_rows=6).errors, [])
        for read in (read_csv, read_xlsx):
            result = read(table, max_rows=5)
            self.assertEqual(result.rows, [])
            self.assertIn("more than 5 jobs, which is the most", result.errors[0])

    def test_a_workbook_that_calls_itself_csv(self):
        error = self.only_error(saved(workbook(a=[row()])))
        self.assertIn("a workbook, though its name ends in .csv", error)

    @given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.xlsx"]))
    def test_any_bytes_are_refused_in_words(self, data, name):
        result = read_jobs(data, name)
        self.assertTrue(result.errors)
        self.assertEqual(result.rows, [])
        for error in result.errors:
            self.assertTrue(error.isprintable(), error)
