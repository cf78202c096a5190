"""The template, and the check of a spreadsheet."""

import io
import json
from unittest.mock import patch

import httpx
import openpyxl

from aind_data_transfer_service.concurrency import process_pool
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.server import create_app
from aind_data_transfer_service.spreadsheets.worker_pool import SpreadsheetReader
from tests.support import slow
from tests.support.application import SITE, ApplicationTest, HandExecutor
from tests.support.requests import HEADER, csv_file, csv_row
from tests.support.service import LAB

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
        [asset] = data["assets"]
        self.assertRegex(asset, "^[a-z]+_690165_")
        [job] = data["jobs"]
        self.assertIsInstance(job, str)
        self.assertIn('"690165"', job)

    async def test_a_network_name_is_a_path_of_the_cluster_with_a_warning(self) -> None:
        network = f"/{self.data_dir}"  # //tmp/…, which is there as /tmp/…
        data = self.envelope(await self.validate(csv_file(csv_row(network))))
        [job] = data["jobs"]
        self.assertEqual(str(self.data_dir), json.loads(job)["modalities"][0]["source"])
        [warning] = data["warnings"]
        self.assertEqual(
            f'row 2, modality0.source: "{network}" was read as {self.data_dir}', warning
        )

    async def test_names_of_files_in_any_form(self) -> None:
        data = csv_file(csv_row(self.data_dir))
        for name in (
            'filename="jobs.csv"',
            'filename="jürgen.csv"',
            "filename*=UTF-8''j%C3%BCrgen.csv",
            "filename*=utf-8'de'j%C3%BCrgen%22.csv",
            "filename*=iso-8859-1''j%FCrgen.CSV",
            "filename*=UTF-8''other.txt; filename=\"jobs.csv\"",
            "filename=\"jobs.csv\"; filename*=UTF-8''other.txt",
            "filename*0*=UTF-8''j%C3%BC; filename*1=rgen.csv",
        ):
            head = f'--XX\r\nContent-Disposition: form-data; name="file"; {name}\r\n\r\n'
            response = await self.client.post(
                "/api/validate_csv",
                content=head.encode() + data + b"\r\n--XX--\r\n",
                headers={"Content-Type": "multipart/form-data; boundary=XX"},
            )
            with self.subTest(name=name):
                self.assertEqual(200, response.status_code, response.text)

    async def test_a_form_without_a_file_is_refused(self) -> None:
        for body in (
            b"--XX--",
            b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--XX--',
        ):
            response = await self.client.post(
                "/api/validate_csv",
                content=body,
                headers={"Content-Type": "multipart/form-data; boundary=XX"},
            )
            self.assertEqual(406, response.status_code, response.text)
            self.assertIn("There were errors", response.json()["message"])

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

    @slow
    async def test_what_was_validated_can_be_submitted_as_it_is(self) -> None:
        jobs = self.envelope(await self.validate(csv_file(csv_row(self.data_dir))))["jobs"]
        response = await self.client.post("/api/submit_basic_jobs", json={"jobs": jobs})
        self.assertEqual(200, response.status_code, response.text)

    @slow
    async def test_a_row_that_is_too_long_to_be_submitted_is_refused(self) -> None:
        for length, fits in ((30_000, False), (20_000, True)):
            value = json.dumps({"a": "x" * length})
            source = str(self.data_dir)
            row = csv_row(self.data_dir).rstrip() + "".join(
                f',behavior,{source},"{value.replace(chr(34), chr(34) * 2)}"' for _ in range(3)
            )
            columns = "".join(
                f",modality{number},modality{number}.source,modality{number}.extra_configs"
                for number in range(1, 4)
            )
            data = f"{HEADER.rstrip()}{columns}\n{row}\n".encode()
            response = await self.validate(data)
            found = self.envelope(response)
            with self.subTest(length=length):
                self.assertEqual(200 if fits else 406, response.status_code, response.text[:500])
                if fits:
                    body = {"jobs": found["jobs"]}
                    answer = await self.client.post("/api/submit_basic_jobs", json=body)
                    self.assertEqual(200, answer.status_code, answer.text[:500])
                else:
                    [error] = found["errors"]
                    self.assertRegex(error, "^row 2: the job has [0-9,]+ characters as JSON")

    @slow
    async def test_any_file_name_is_read(self) -> None:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
        content = csv_file(csv_row(self.data_dir)) + b"\r\n--b--\r\n"
        kind = "multipart/form-data; boundary=b"
        for charset, name in (("utf-7", b"+2AA-.csv"), ("utf-8", b"x" * 3000 + b".csv")):
            with self.subTest(name[:20]):
                response = await self.client.post(
                    "/api/validate_csv",
                    content=head % name + content,
                    headers={"content-type": f"{kind}; charset={charset}"},
                )
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

    @slow
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

    async def test_the_first_hundred_errors_are_listed_and_the_others_counted(self) -> None:
        bad = [csv_row(self.data_dir, platform=f"x{number}") for number in range(250)]
        response = await self.validate(csv_file(*bad, csv_row(self.data_dir)))
        self.assertEqual(406, response.status_code)
        data = self.envelope(response)
        self.assertEqual((101, 101), (len(data["errors"]), len(data["problems"])))
        self.assertTrue(data["errors"][99].startswith("row 101, platform: "))
        self.assertEqual("150 more errors", data["errors"][100])
        self.assertEqual(250, data["error_count"])
        self.assertEqual([252], data["rows"])

    @slow
    async def test_errors_of_the_checks_count_as_well(self) -> None:
        rows = [csv_row(self.data_dir, subject_id=f"{n}") for n in range(120)]
        bad = [csv_row(self.data_dir, platform="x")] * 90
        body = {"jobs": self.envelope(await self.validate(csv_file(*rows)))["jobs"]}
        self.assertEqual(
            200, (await self.client.post("/api/submit_basic_jobs", json=body)).status_code
        )
        data = self.envelope(await self.validate(csv_file(*bad, *rows)))
        self.assertEqual((101, 210), (len(data["errors"]), data["error_count"]))
        self.assertTrue(data["errors"][99].startswith("row 101: job "), data["errors"][99])

    async def test_warnings_are_listed_and_counted_alike(self) -> None:
        rows = [csv_row(f"/nowhere/{n}", subject_id=f"{n}") for n in range(130)]
        data = self.envelope(await self.validate(csv_file(*rows)))
        self.assertEqual(101, len(data["warnings"]))
        self.assertIn(" more warnings", data["warnings"][100])

    @slow
    async def test_a_file_that_takes_too_long_or_too_much_memory_is_an_error(self) -> None:
        long = "\n".join([HEADER, *[" " * 900_000] * 33]).encode()
        for limits, said in (
            ({"seconds": 0.001}, "takes longer than 0.001 s"),
            ({"memory": 200 * 1024**2}, "could not be read with 200 MiB of memory"),
        ):
            with self.subTest(said):
                reader = SpreadsheetReader(workers=1, **limits)
                self.addCleanup(reader.close)
                reader.open()
                found = await reader.read("a.csv", long, "MDY", LAB)
                self.assertEqual(1, found.error_count)
                self.assertIn(said, found.errors[0])
                self.assertIn("split it into several", found.errors[0])

    @slow
    async def test_a_service_that_cannot_start_processes_says_so(self) -> None:
        reader = SpreadsheetReader(workers=1)
        self.addCleanup(reader.close)
        executor = HandExecutor()
        manager = JobManager(self.manager.settings, executor=executor, spreadsheets=reader)
        app = create_app(self.manager.settings, manager)
        await self.enterAsyncContext(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        with (
            patch.object(process_pool.sys, "executable", "/nowhere/python"),
            self.assertLogs(process_pool.logger, "WARNING"),
        ):
            reader.open()
            async with httpx.AsyncClient(transport=transport, base_url=SITE) as client:
                files = {"file": ("jobs.csv", csv_file(csv_row(self.data_dir)))}
                response = await client.post("/api/validate_csv", files=files)
                self.assertEqual(200, (await client.get("/")).status_code)
        self.assertEqual(503, response.status_code)
        self.assertIn("retry-after", response.headers)
        [error] = self.envelope(response)["errors"]
        self.assertIn("a worker process cannot be started: No such file", error)


class TemplateTest(ApplicationTest):
    """GET /api/job_upload_template."""

    @slow
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
