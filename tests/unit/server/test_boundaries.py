"""Sources, buckets and characters that are refused, through the page's upload and the API."""

import json

from tests.support import slow
from tests.support.application import ApplicationTest
from tests.support.requests import csv_file, csv_row, upload_settings

BASIC, HPC = "/api/submit_basic_jobs", "/api/submit_hpc_jobs"


class BoundariesTest(ApplicationTest):
    """A service with one bucket and one root."""

    async def asyncSetUp(self) -> None:
        """Start a service that allows a root, which holds its folder of data."""
        self.settings = {
            "allowed_buckets": "lab-*",
            "default_s3_bucket": "lab-data",
            "allow_custom_scripts": True,
        }
        await super().asyncSetUp()

    async def validate(self, **cells: str) -> list[str]:
        """Upload a spreadsheet with one job, and return the errors."""
        row = csv_row(cells.pop("source", self.data_dir), **cells)
        header = csv_file(row)
        if extra := cells.get("s3_bucket"):
            header = header.replace(b"metadata_dir", b"metadata_dir,s3_bucket", 1)
            header = header.replace(row.encode(), f"{row},{extra}".encode())
        answer = await self.client.post("/api/validate_csv", files={"file": ("jobs.csv", header)})
        errors = self.envelope(answer)["errors"]
        self.assertEqual(406 if errors else 200, answer.status_code, answer.text)
        return errors

    async def submit(self, route: str = BASIC, **values) -> list[str]:
        """Submit one job, and return the errors."""
        text = upload_settings(values.pop("source", self.data_dir), **values)
        job = text if route == BASIC else {"upload_job_settings": text}
        answer = await self.client.post(route, content=json.dumps({"jobs": [job]}))
        errors = self.envelope(answer)["errors"]
        self.assertEqual(406 if errors else 200, answer.status_code, answer.text)
        if errors:
            self.assertEqual({}, self.executor.specs)
        return errors

    @slow
    async def test_sources_that_are_never_uploaded_are_refused_at_the_cell(self) -> None:
        link = self.data_dir / "link"
        link.symlink_to(self.state_dir)
        for source in (self.state_dir, link, "/etc", "/proc/self/root/etc", self.data_dir.parent):
            with self.subTest(source):
                [error] = await self.validate(source=str(source))
                self.assertRegex(error, f"^row 2, modality0.source: {source} .*is never uploaded")
                for route in (BASIC, HPC):
                    [error] = await self.submit(route, source=str(source))
                    self.assertRegex(error, f"^job 1, modalities.0.source: {source} .*is never")
        link.unlink()  # it lies in the source of the next job
        [error] = await self.validate(metadata_dir="/etc/ssl")
        self.assertRegex(error, "^row 2, metadata_dir: /etc/ssl is never uploaded")

    @slow
    async def test_buckets_that_are_not_allowed_are_refused_at_the_cell(self) -> None:
        self.assertEqual([], await self.validate(s3_bucket="lab-1"))
        [error] = await self.validate(s3_bucket="other")
        self.assertRegex(error, '^row 2, s3_bucket: "other" is not a bucket .* one of lab-\\*')
        for route in (BASIC, HPC):
            [error] = await self.submit(route, s3_bucket="other")
            self.assertRegex(error, '^job 1, s3_bucket: "other" is not a bucket')
        self.assertEqual([], await self.submit())

    @slow
    async def test_characters_are_refused_at_the_cell_with_code_point_and_place(self) -> None:
        for name in ("processor_full_name", "project_name", "process_capsule_id", "subject_id"):
            with self.subTest(name):
                [error] = await self.validate(**{name: "ab\u202ec"})
                self.assertRegex(error, rf"^row 2, {name}: .*\(U\+202E\) at character 3")
                for text, code in (("ab\u202ec", "202E"), ("ab\ud800", "D800"), ("ab\x07", "0007")):
                    [error] = await self.submit(**{name: text})
                    self.assertRegex(error, rf"^job 1, {name}: .*\(U\+{code}\) at character 3")

    @slow
    async def test_characters_of_the_settings_for_the_cluster_and_of_scripts(self) -> None:
        text = upload_settings(self.data_dir)
        for field, value, words in (
            ("hpc_settings", {"comment": "a\u202e"}, r"\(U\+202E\) in comment at character 2"),
            ("hpc_settings", {"name": "\ud800"}, r"\(U\+D800\) in name at character 1"),
            ("hpc_settings", {"x": 2**70}, "beyond 64 bits in x|x: "),
            ("script", "#!/bin/bash\nls \u2066", r"holds .*\(U\+2066\) in line 2 at character 4"),
            ("script", "#!/bin/bash\nls \ud800", "holds half a character"),
        ):
            with self.subTest(field, words=words):
                given = value if isinstance(value, str) else json.dumps(value)
                body = json.dumps({"jobs": [{"upload_job_settings": text, field: given}]})
                answer = await self.client.post(HPC, content=body)
                self.assertEqual(406, answer.status_code, answer.text)
                self.assertRegex(
                    self.envelope(answer)["errors"][0], f"^job 1, {field}: .*({words})"
                )
