"""The template, and the check of a spreadsheet."""

import io

import openpyxl

from tests.support.application import ApplicationTest
from tests.support.requests import csv_file, csv_row

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class ValidateTest(ApplicationTest):
    """POST /api/validate_csv."""

    async def validate(self, data: bytes, name: str = "jobs.csv"):
        """Send a file."""
        return await self.client.post("/api/validate_csv", files={"file": (name, data)})

    async def test_a_good_file_is_valid_data(self) -> None:
        response = await self.validate(csv_file(csv_row(self.data_dir)))
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual("Valid Data", response.json()["message"])
        data = self.envelope(response)
        self.assertEqual([], data["errors"])
        self.assertEqual([2], data["rows"])
        [job] = data["jobs"]
        self.assertIsInstance(job, str)
        self.assertIn('"690165"', job)

    async def test_good_rows_are_listed_beside_the_errors_of_the_others(self) -> None:
        bad = csv_row(self.data_dir, subject_id="690166", modality0="ecefys")
        response = await self.validate(csv_file(csv_row(self.data_dir), bad), "JOBS.CSV")
        self.assertEqual(406, response.status_code)
        self.assertEqual("There were errors", response.json()["message"])
        data = self.envelope(response)
        self.assertEqual([2], data["rows"])
        self.assertEqual(1, len(data["jobs"]))
        [error] = data["errors"]
        self.assertTrue(error.startswith("row 3, modality0: "), error)
        self.assertIn("ecephys", error)
        self.assertEqual(3, data["problems"][0]["row"])
        self.assertEqual("modality0", data["problems"][0]["column"])

    async def test_what_was_validated_can_be_submitted_as_it_is(self) -> None:
        jobs = self.envelope(await self.validate(csv_file(csv_row(self.data_dir))))["jobs"]
        response = await self.client.post("/api/submit_basic_jobs", json={"jobs": jobs})
        self.assertEqual(200, response.status_code, response.text)

    async def test_a_request_without_a_file_is_told_so(self) -> None:
        for body in (
            {"files": {"other": ("jobs.csv", b"x")}},
            {"data": {"file": "text"}},
            {"content": b"nonsense"},
            {"json": {"file": 1}},
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        ):
            with self.subTest(body=body):
                response = await self.client.post("/api/validate_csv", **body)
                self.assertIn(response.status_code, (400, 406), response.text)
                self.assertTrue(self.envelope(response)["errors"])

    async def test_a_text_in_place_of_the_file_is_told_in_words(self) -> None:
        response = await self.client.post("/api/validate_csv", data={"file": "text"})
        self.assertEqual(406, response.status_code)
        [error] = self.envelope(response)["errors"]
        self.assertTrue(error.startswith("file: is no file; send one as multipart"), error)

    async def test_files_that_are_no_spreadsheets_are_errors_in_words(self) -> None:
        for name, data in (
            ("jobs.xlsx", b"PK\x03\x04 nonsense"),
            ("jobs.csv", b""),
            ("jobs.csv", b"\xff\xfe\x00"),
            ("jobs.txt", b"a,b"),
            ("", b"a,b"),
        ):
            with self.subTest(name=name, data=data):
                response = await self.validate(data, name)
                self.assertEqual(406, response.status_code, response.text)
                self.assertTrue(self.envelope(response)["errors"])


class TemplateTest(ApplicationTest):
    """GET /api/job_upload_template."""

    async def test_the_template_is_a_spreadsheet_by_its_name(self) -> None:
        response = await self.client.get("/api/job_upload_template")
        self.assertEqual(200, response.status_code)
        disposition = response.headers["content-disposition"]
        self.assertEqual("attachment; filename=job_upload_template.xlsx", disposition)
        self.assertEqual(XLSX, response.headers["content-type"])
        book = openpyxl.load_workbook(io.BytesIO(response.content))
        self.assertGreaterEqual(len(book.sheetnames), 2)
        self.assertEqual(200, (await self.client.head("/api/job_upload_template")).status_code)

    async def test_the_template_validates_as_it_is(self) -> None:
        template = (await self.client.get("/api/job_upload_template")).content
        files = {"file": ("job_upload_template.xlsx", template)}
        response = await self.client.post("/api/validate_csv", files=files)
        self.assertEqual(200, response.status_code, response.text)
        self.assertTrue(self.envelope(response)["jobs"])
