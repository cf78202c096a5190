"""The template goes through LibreOffice and back."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from aind_data_transfer_service.spreadsheets.reader import read_jobs
from aind_data_transfer_service.spreadsheets.template import job_upload_template
from tests.support import missing

_TEXT = "csv:Text - txt - csv (StarCalc):"


class LibreOfficeTest(unittest.TestCase):
    """Opened and saved again, in each form that people choose, the template still validates."""

    @classmethod
    def setUpClass(cls):
        cls.program = shutil.which("soffice") or shutil.which("libreoffice")
        if cls.program is None:
            raise missing("LibreOffice (soffice)")
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.expected = [
            found.config for found in read_jobs(job_upload_template(), "template.xlsx").rows
        ]

    def saved_as(self, form: str, source: bytes) -> bytes:
        """Let LibreOffice open a workbook and save it in some form."""
        template = self.folder / "template.xlsx"
        template.write_bytes(source)
        ending = form.partition(":")[0]
        out = Path(tempfile.mkdtemp(dir=self.folder))
        subprocess.run(
            [
                self.program,
                "--headless",
                f"-env:UserInstallation={(self.folder / 'profile').as_uri()}",
                "--convert-to",
                form,
                "--outdir",
                str(out),
                str(template),
            ],
            check=True,
            capture_output=True,
            timeout=80,
        )
        return (out / f"template.{ending}").read_bytes()

    def test_saved_again_as_a_workbook(self):
        result = read_jobs(self.saved_as("xlsx", job_upload_template()), "again.xlsx")
        self.assertEqual(result.errors, [])
        self.assertEqual([found.config for found in result.rows], self.expected)

    def test_saved_as_text_in_each_of_the_usual_forms(self):
        forms = {
            "as it comes": "csv",
            "semicolons, Windows-1252, all texts quoted": f"{_TEXT}59,34,1,1,,0,true",
            "tabs, UTF-16": f"{_TEXT}9,34,65535",
            "single quotation marks, UTF-8": f"{_TEXT}44,39,76,1,,0,true",
            "Mac Roman": f"{_TEXT}44,34,2",
        }
        for name, form in forms.items():
            with self.subTest(form=name):
                result = read_jobs(self.saved_as(form, job_upload_template()), "again.csv")
                self.assertEqual(result.errors, [])
                self.assertEqual([found.config for found in result.rows], self.expected)
