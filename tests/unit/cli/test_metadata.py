"""The command that shows what each source of metadata says."""

import contextlib
import io
import json
import os
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.cli.main import main
from aind_data_transfer_service.cli.metadata import Outcome, survey
from aind_data_transfer_service.demo.documents import write_lab_folder
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.registry import Lab
from tests.support import slow
from tests.support.metadata import MetadataServer
from tests.unit.metadata.test_registry import Known, procedures

ID = "690165"
RIG = "sample_rig1_20240115"


class Tars(Known):
    """Completes procedures, as it was told."""

    def enrich(self, found: Found) -> Found:
        """Give what it was told to give."""
        return self._tell("enrich") or found


class SurveyTest(unittest.TestCase):
    """The command, with a folder of documents and a metadata service."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_lab_folder(self.folder)
        self.server = self.enterContext(MetadataServer())

    def run_command(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run it with exactly these variables; give the exit code and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with patch.dict(os.environ, variables, clear=True):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(["metadata", *arguments])
        return code, out.getvalue(), err.getvalue()

    @slow
    def test_each_source_is_shown_with_what_it_says(self) -> None:
        arguments = (ID, "--rig", RIG, "--project", "Ephys Platform")
        code, out, _ = self.run_command(*arguments, METADATA_FOLDER=str(self.folder))
        self.assertEqual(0, code, out)
        for words in (
            r"(?m)^subject: 690165$",
            r"(?m)^  folder +found, Valid +0\.\d\d s  .*/subject/690165.json$",
            r"(?m)^  labtracks +not configured$",
            r"(?m)^rig: sample_rig1_20240115$",
            r"(?m)^project names: Ephys Platform$",
            r"(?m)^  slims +not configured$",
            r"(?m)^  tars +not configured$",
        ):
            self.assertRegex(out, words)

    @slow
    def test_failures_and_first_errors_are_shown_and_the_exit_code_tells(self) -> None:
        self.server.says(f"/subject/{ID}", {"subject_id": ID}).says("/rig/r", None, 500)
        code, out, _ = self.run_command(
            ID, "--rig", "r", METADATA_SERVICE_URL=self.server.url, METADATA_TIMEOUT="2"
        )
        self.assertEqual(1, code, out)
        self.assertRegex(out, r"service +found, Invalid .*127.0.0.1")
        self.assertIn("- sex: missing", out)
        self.assertRegex(out, r"service +failed +\S+ s  .*answered 500")
        self.assertRegex(out, r"service +not found")

    def test_a_required_document_that_is_missing_has_the_exit_code_of_metadata(self) -> None:
        code, out, _ = self.run_command("1", METADATA_FOLDER=str(self.folder))
        self.assertEqual(12, code, out)
        policy = {"METADATA_POLICY_SUBJECT": "warn"}
        code, out, _ = self.run_command("1", METADATA_FOLDER=str(self.folder), **policy)
        self.assertEqual(0, code, out)

    def test_json_holds_the_same(self) -> None:
        code, out, _ = self.run_command(ID, "--json", METADATA_FOLDER=str(self.folder))
        rows = {(row["kind"], row["source"]): row for row in json.loads(out)}
        self.assertEqual(
            ("found", "Valid"),
            tuple(rows["procedures", "folder"][name] for name in ("outcome", "status")),
        )
        self.assertEqual("not configured", rows["subject", "labtracks"]["outcome"])

    def test_a_setting_that_is_wrong_is_told_in_a_line(self) -> None:
        code, out, err = self.run_command(ID, METADATA_SOURCES='{"subject": "tars"}')
        self.assertEqual((2, ""), (code, out))
        self.assertIn('METADATA_SOURCES: subject: the source "tars" has no subject', err)

    def test_what_tars_adds_is_a_row_of_its_own(self) -> None:
        found = procedures("one")
        more = Found({**found.document, "notes": "n"}, True, "one", False, ("lot 1 is not known",))
        wrong = Found({"subject_id": "2"}, True, "two")
        for tars, known, outcome, words in (
            (Tars(enrich=more), found, Outcome.FOUND, "completes"),
            (Tars(problem="no token"), found, Outcome.FAILED, "no token"),
            (Tars(), None, Outcome.NOT_FOUND, "nothing to complete"),
            (Tars(), wrong, Outcome.FAILED, "names the subject 2"),
        ):
            with self.subTest(words):
                lab = Lab({"sharepoint": Known(procedures=known), "tars": tars})
                rows = {row.source: row for row in survey(lab, {"procedures": ID})}
                self.assertEqual(outcome, rows["tars"].outcome)
                self.assertIn(words, rows["tars"].origin)
