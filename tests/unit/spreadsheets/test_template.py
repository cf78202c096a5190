"""The template, as a user downloads it."""

import io
import unittest

import openpyxl

from aind_data_transfer_service.configs.vocabulary import MODALITIES, PLATFORMS
from aind_data_transfer_service.spreadsheets.reader import read_jobs
from aind_data_transfer_service.spreadsheets.schema import COLUMNS
from aind_data_transfer_service.spreadsheets.template import (
    TIME_FORMAT,
    job_upload_template,
    sample_rows,
)

DOCUMENTED = (
    "processor_full_name",
    "project_name",
    "process_capsule_id",
    "platform",
    "acq_datetime",
    "subject_id",
    "modality0",
    "modality0.source",
    "metadata_dir",
)


class TemplateTest(unittest.TestCase):
    """It validates as it is, and helps with filling in more."""

    def setUp(self):
        self.book = openpyxl.load_workbook(io.BytesIO(job_upload_template()))
        self.jobs, self.explained = self.book.worksheets
        self.header = [cell.value for cell in self.jobs[1]]

    def column_of(self, name):
        return openpyxl.utils.get_column_letter(self.header.index(name) + 1)

    def test_it_validates_as_it_is(self):
        result = read_jobs(job_upload_template(), "job_upload_template.xlsx")
        self.assertEqual((result.errors, result.warnings), ([], []))
        self.assertEqual(
            [found.config.s3_prefix for found in result.rows],
            ["behavior_690165_2024-02-19_11-25-17", "ecephys_690166_2024-02-20_09-30-00"],
        )
        self.assertEqual(len(result.rows), len(sample_rows()))

    def test_it_has_the_documented_columns_in_their_order(self):
        self.assertEqual([name for name in self.header if name in DOCUMENTED], list(DOCUMENTED))
        self.assertEqual(set(self.header) - set(DOCUMENTED), {"modality1", "modality1.source"})

    def test_lists_of_the_known_words_are_on_the_right_columns(self):
        lists = {
            str(v.sqref): v.formula1.strip('"').split(",")
            for v in self.jobs.data_validations.dataValidation
            if v.type == "list"
        }
        modalities = [term.abbreviation for term in MODALITIES]
        self.assertEqual(
            {cells.partition("2:")[0]: words for cells, words in lists.items()},
            {
                self.column_of("platform"): [term.abbreviation for term in PLATFORMS],
                self.column_of("modality0"): modalities,
                self.column_of("modality1"): modalities,
            },
        )
        for cells, words in lists.items():
            self.assertTrue(cells.endswith("20001"))
            self.assertLess(len(",".join(words)), 255)

    def test_times_are_shown_whole_in_the_samples_and_below(self):
        letter = self.column_of("acq_datetime")
        self.assertEqual(self.jobs[f"{letter}2"].number_format, TIME_FORMAT)
        self.assertEqual(self.jobs.column_dimensions[letter].number_format, TIME_FORMAT)

    def test_subject_ids_are_kept_as_text(self):
        letter = self.column_of("subject_id")
        self.assertEqual(self.jobs[f"{letter}2"].value, "690165")
        self.assertEqual(self.jobs.column_dimensions[letter].number_format, "@")

    def test_every_column_is_explained_on_the_second_sheet(self):
        described = [
            (line[0].value, line[1].value, line[2].value)
            for line in self.explained.iter_rows(min_row=2)
        ]
        self.assertEqual(
            described,
            [(c.name, "yes" if c.required else "no", c.description) for c in COLUMNS],
        )

    def test_a_time_in_a_cell_of_the_template_without_its_sample_is_read_too(self):
        self.jobs["E4"] = "3/2/2024 9:00 AM"
        for letter, name in zip("ABCDEFGH", self.header, strict=False):
            if name != "acq_datetime":
                self.jobs[f"{letter}4"] = self.jobs[f"{letter}2"].value
        file = io.BytesIO()
        self.book.save(file)
        self.assertEqual(len(read_jobs(file.getvalue(), "a.xlsx").rows), 3)
