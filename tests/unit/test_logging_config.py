"""Logging: every line in one form, with its time and its ids, and none that anybody can forge."""

import contextlib
import io
import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import httpx

from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.logging_config import (
    JsonFormatter,
    StderrHandler,
    TextFormatter,
    configure_logging,
    fields_of,
)
from tests.support import slow
from tests.support.jobs import a_job
from tests.support.service_process import ServiceProcess, run_command

ZONE = timezone(timedelta(hours=-8))
TIME = datetime(2024, 2, 19, 19, 25, 17, 123000, UTC).timestamp()
PREFIX = (
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) [\w.]+[ :]"
)
FORGED = "2024-02-19T11:25:17.123-08:00 ERROR aind_data_transfer_service: all data are lost"
BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029")


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    """Make a record as a log call does."""
    logger = logging.getLogger("transfer.test")
    made = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 1, message, arguments, None, extra=fields
    )
    made.created = TIME
    return made


def failed(error: Exception) -> logging.LogRecord:
    """Make the record of an exception."""
    made = record("it failed")
    try:
        raise error
    except type(error):
        made.exc_info = sys.exc_info()
    return made


class Text(unittest.TestCase):
    """Lines for people."""

    def setUp(self) -> None:
        self.format: Callable[[logging.LogRecord], str] = TextFormatter(ZONE).format

    def test_a_line_has_time_level_logger_and_fields(self) -> None:
        self.assertEqual(
            "2024-02-19T11:25:17.123-08:00 ERROR transfer.test job_id=j1 tries=2: 3 lines",
            self.format(record("%d lines", 3, job_id="j1", tries=2, asset="", reason=None)),
        )

    def test_a_field_cannot_be_mistaken_for_several(self) -> None:
        line = self.format(record("x", path="/a job_id=j2: y", name_="ä\n"))
        self.assertIn(' path="/a job_id=j2: y" name_="\\u00e4\\n": x', line)

    def test_no_message_and_no_field_begins_a_line_of_its_own(self) -> None:
        for line_break in BREAKS:
            hostile = f"x{line_break}{FORGED}"
            for made in (record(hostile), record("%s", hostile), record("x", who=hostile)):
                with self.subTest(repr(line_break), made=made):
                    self.assertEqual(1, len(self.format(made).splitlines()))

    def test_a_terminal_is_not_controlled_by_a_message(self) -> None:
        shown = self.format(record("\x1b[2Jgone \u202egnp.exe \udcff"))
        self.assertTrue(shown.isprintable())
        self.assertIn(r"\x1b[2Jgone \u202egnp.exe \udcff", shown)

    def test_the_lines_of_a_traceback_are_indented(self) -> None:
        for line_break in BREAKS:
            first, *others = self.format(failed(ValueError(f"x{line_break}{FORGED}"))).splitlines()
            self.assertTrue(first.endswith("transfer.test: it failed"))
            self.assertGreater(len(others), 2)
            for line in others:
                self.assertTrue(line.startswith("    "), line)


class Json(unittest.TestCase):
    """Lines for programs."""

    def test_an_event_is_one_object_on_one_line(self) -> None:
        for made in (
            record("x\n" + FORGED, job_id="j1", size=float("inf"), where={"a": "\n"}),
            failed(ValueError("\n".join(BREAKS) + FORGED)),
        ):
            line = JsonFormatter(ZONE).format(made)
            self.assertEqual(1, len(line.splitlines()))
            found = json.loads(line, parse_constant=self.fail)
            self.assertEqual("2024-02-19T11:25:17.123-08:00", found["time"])
            self.assertEqual(("ERROR", "transfer.test"), (found["level"], found["logger"]))
            for name, value in fields_of(made).items():
                self.assertEqual(value, found[name])
        self.assertIn("ValueError", found["exception"])

    def test_a_field_does_not_replace_what_every_line_has(self) -> None:
        found = json.loads(JsonFormatter(ZONE).format(record("x", time="never", level="NONE")))
        self.assertEqual("2024-02-19T11:25:17.123-08:00", found["time"])
        self.assertEqual("ERROR", found["level"])


class Job(unittest.TestCase):
    """A job on the command line."""

    @slow
    def test_its_lines_are_of_the_same_form_and_its_last_word_stays_plain(self) -> None:
        variables = {"DATA_DIR": tempfile.gettempdir(), "LOG_LEVEL": "DEBUG"}
        with tempfile.NamedTemporaryFile() as events:
            variables |= {"UPLOAD_EVENTS_FILE": events.name, "JOB_ID": "j1"}
            for form in ("text", "json"):
                with self.subTest(form):
                    done = run_command("upload", "--json-args", "{", LOG_FORMAT=form, **variables)
                    *lines, last = done.stderr.splitlines()
                    self.assertEqual(2, done.returncode)
                    self.assertIn("JSON", last)
                    self.assertEqual(1, len(lines))
                    if form == "text":
                        self.assertRegex(lines[0], PREFIX + ".*job_id=j1")
                    else:
                        self.assertEqual("j1", json.loads(lines[0])["job_id"])

    @slow
    def test_a_wrong_level_and_a_wrong_form_are_reported(self) -> None:
        done = run_command("clean", LOG_LEVEL="LOUD", LOG_FORMAT="xml")
        self.assertEqual(2, done.returncode)
        last = done.stderr.splitlines()[-1]
        self.assertRegex(last, "LOG_LEVEL: .*DEBUG.*LOG_FORMAT: .*'text' or 'json'")


@slow
class Service(unittest.TestCase):
    """A service in a process of its own, whose database breaks."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def fail_a_request(self, service: ServiceProcess) -> str:
        """Spoil a job's row, and return the reference that a visitor of the page is shown."""
        store = JobStore(f"sqlite:///{self.folder}/jobs.sqlite3")
        store.add([a_job(state=JobState.COMPLETED)])
        store.close()
        with contextlib.closing(sqlite3.connect(f"{self.folder}/jobs.sqlite3")) as database:
            database.execute("UPDATE jobs SET state = 'nonsense'")
            database.commit()
        answer = httpx.get(f"{service.url}/jobs", headers={"accept": "text/html"}, trust_env=False)
        self.assertEqual(500, answer.status_code)
        [line] = [one for one in answer.text.splitlines() if "server log for" in one]
        return line.partition("server log for ")[2][:8]

    def test_the_reference_on_an_error_page_is_in_the_line_with_the_traceback(self) -> None:
        with ServiceProcess(DATA_DIR=self.folder, LOG_FORMAT="json") as service:
            reference = self.fail_a_request(service)
            service.wait_for_line('"GET /jobs')
        lines = [json.loads(line) for line in service.log]
        [fault] = [line for line in lines if line["message"] == "request failed"]
        self.assertEqual(reference, fault["request_id"])
        self.assertIn("Traceback", fault["exception"])
        self.assertIn("nonsense", fault["exception"])
        self.assertEqual("/jobs", fault["path"])
        [access] = [line for line in lines if "GET /jobs" in line["message"]]
        self.assertEqual(reference, access["request_id"])
        self.assertIn("alembic.runtime.migration", {line["logger"] for line in lines})
        self.assertIn("uvicorn.error", {line["logger"] for line in lines})
        for line in lines:
            self.assertIsNotNone(datetime.fromisoformat(line["time"]).tzinfo)

    def test_text_is_of_one_form_too(self) -> None:
        with ServiceProcess(DATA_DIR=self.folder) as service:
            reference = self.fail_a_request(service)
            service.wait_for_line("GET /jobs")
        for line in service.log:
            self.assertRegex(line, f"{PREFIX}|^    ")
        self.assertRegex("\n".join(service.log), f"request_id={reference}: request failed\n    Tra")

    def test_the_level_holds_for_all(self) -> None:
        with ServiceProcess(DATA_DIR=self.folder, LOG_LEVEL="error", LOG_FORMAT="json") as service:
            self.fail_a_request(service)
            service.wait_for_line("request failed")
        self.assertEqual({"ERROR"}, {json.loads(line)["level"] for line in service.log})


class Warnings(unittest.TestCase):
    """Python's warnings."""

    def test_they_are_lines_of_the_log(self) -> None:
        source = (
            "import warnings\n"
            "from aind_data_transfer_service.logging_config import configure_logging\n"
            "configure_logging(form='json')\n"
            "warnings.warn('old\\nway')\n"
            "import threading\n"
            "thread = threading.Thread(target=lambda: 1 / 0, name='sum')\n"
            "thread.start(); thread.join()\n"
        )
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
        warning, error = [json.loads(line) for line in done.stderr.splitlines()]
        self.assertEqual("py.warnings", warning["logger"])
        self.assertIn("UserWarning: old\nway", warning["message"])
        self.assertIn("ZeroDivisionError", error["exception"])
        self.assertIn("thread sum failed", error["message"])

    def test_an_application_with_a_log_of_its_own_keeps_it(self) -> None:
        root, heard = logging.getLogger(), logging.StreamHandler(io.StringIO())
        self.addCleanup(root.removeHandler, heard)
        root.addHandler(heard)
        configure_logging()
        self.assertFalse([one for one in root.handlers if isinstance(one, StderrHandler)])
