"""What events may tell of what follows an upload, and what the settings take."""

import os
import unittest
from unittest import mock

from pydantic import ValidationError

from aind_data_transfer_service.jobs.event_parser import read_events
from aind_data_transfer_service.post_upload.states import Analysis, AnalysisState, status_from_event
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.env_policy import (
    is_administrators,
    shared_variables,
    without_sources,
)
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support.jobs import event_line

DONE = Analysis(
    AnalysisState.RUNNING,
    "",
    "a1",
    "https://co.example.org/data-assets/a1",
    "c1",
    "https://co.example.org/capsule/1/tree",
)
SECRET = "hunter2"


class Events(unittest.TestCase):
    """From the job's file of events into the record."""

    def test_what_a_job_tells_becomes_its_record(self) -> None:
        lines = event_line("analysis", "start", "asked")
        self.assertEqual("PENDING", read_events(lines).values["analysis"])
        lines += event_line("analysis", "end", "done", **DONE.values())
        report = read_events(lines)
        self.assertEqual(DONE.values() | {"step": "analysis"}, report.values)
        self.assertEqual((False, True), (report.is_done, report.is_proven))
        report += read_events(event_line("done", "end", "all"))
        self.assertEqual((True, True), (report.is_done, report.is_proven))
        self.assertFalse(read_events(event_line("verify", "end", "all")).is_proven)

    def test_other_steps_tell_nothing_of_it(self) -> None:
        self.assertEqual({}, status_from_event("verify", "end", DONE.values()))
        self.assertEqual({}, status_from_event("analysis", "warning", {}))
        self.assertEqual({}, status_from_event("analysis", "end", {"analysis": "BREWING"}))

    def test_nothing_comes_through_that_a_page_may_not_show(self) -> None:
        for name, value in (
            ("data_asset_link", "javascript:alert(1)"),
            ("computation_link", "https://[::1"),
            ("computation_link", "//elsewhere"),
            ("data_asset_id", "../../admin"),
            ("computation_id", 7),
        ):
            found = status_from_event("analysis", "end", DONE.values() | {name: value})
            self.assertEqual("", found[name], value)
        reason = status_from_event(
            "registration", "end", {"registration": "FAILED", "registration_reason": "x" * 9999}
        )
        self.assertEqual(500, len(reason["registration_reason"]))


class Settings(unittest.TestCase):
    """`CODEOCEAN_…` and `REGISTRATION_…`."""

    def read(self, **variables: str) -> PostUploadSettings:
        """Read exactly these variables."""
        with mock.patch.dict(os.environ, variables, clear=True):
            return PostUploadSettings()

    def test_nothing_said_is_no_error(self) -> None:
        self.assertFalse(self.read().code_ocean_enabled)
        self.assertFalse(self.read(CODEOCEAN_DOMAIN="", REGISTRATION_TOKEN="").code_ocean_enabled)
        self.assertEqual({}, self.read().environment())

    def test_secrets_are_not_shown(self) -> None:
        found = self.read(CODEOCEAN_DOMAIN="https://co.example.org", CODEOCEAN_TOKEN=SECRET)
        self.assertTrue(found.code_ocean_enabled)
        self.assertNotIn(SECRET, f"{found} {found!r} {found.model_dump()}")

    def test_what_does_not_go_together_is_refused_without_the_secret(self) -> None:
        for variables, words in (
            ({"CODEOCEAN_TOKEN": SECRET}, "must be set together"),
            ({"CODEOCEAN_DOMAIN": "https://co.example.org"}, "must be set together"),
            ({"REGISTRATION_TOKEN": SECRET}, "REGISTRATION_URL is needed too"),
            (
                {"CODEOCEAN_DOMAIN": "http://co.example.org", "CODEOCEAN_TOKEN": SECRET},
                "CODEOCEAN_DOMAIN is not encrypted",
            ),
            (
                {"REGISTRATION_URL": "http://db.example.org/x", "REGISTRATION_TOKEN": SECRET},
                "REGISTRATION_URL is not encrypted",
            ),
            ({"REGISTRATION_URL": f"https://u:{SECRET}@db.example.org"}, "without a name"),
        ):
            with self.subTest(variables), self.assertRaises(ValidationError) as caught:
                self.read(**variables)
            [line] = explain_settings(caught.exception)
            self.assertIn(words, line)
            self.assertNotIn(SECRET, line)

    def test_jobs_hear_of_them_and_no_user_sets_them(self) -> None:
        variables = {
            "CODEOCEAN_DOMAIN": "https://co.example.org",
            "CODEOCEAN_TOKEN": SECRET,
            "REGISTRATION_URL": "http://127.0.0.1:1/x",
            "AFTERWARDS": "none of ours",
            "HOME": "/home/anna",
        }
        with mock.patch.dict(os.environ, variables, clear=True):
            agreed = ServiceSettings().agreed_environment()
        for name, value in variables.items():
            if name.startswith(("CODEOCEAN", "REGISTRATION")):
                self.assertEqual(value, agreed[name])
                self.assertTrue(is_administrators(name))
                self.assertIn(name, shared_variables())
        self.assertEqual(
            {"DESTINATION": "s3://"},
            without_sources({"DESTINATION": "s3://", "CODEOCEAN_TOKEN": SECRET}),
        )


if __name__ == "__main__":
    unittest.main()
