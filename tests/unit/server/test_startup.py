"""The service refuses to start with wrong settings, and says all that is wrong at once."""

import os
import socket
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.jobs.store.engine import resolve_url
from aind_data_transfer_service.server.startup import check_settings, missing_resources
from aind_data_transfer_service.settings.env_policy import shared_variables
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.toml_file import apply_settings_file
from aind_data_transfer_service.settings.unknown_variables import (
    OWN_PREFIXES,
    REMOVED,
    check_names,
    known_variables,
)
from tests.support import slow
from tests.support.seed import SEED
from tests.support.service_process import ServiceProcess, run_command, run_service

SECRET = "hunter2"
ACCOUNTS = (
    f'{{"open": {{"buckets": ["open-*"], "aws_access_key_id": "{SECRET}-id", '
    f'"aws_secret_access_key": "{SECRET}"}}}}'
)


class Names(unittest.TestCase):
    """Variables that are no settings."""

    def test_a_misspelt_setting_is_an_error_with_the_nearest_name(self) -> None:
        for wrong, right in {
            "HPC_HOTS": "HPC_HOST",
            "hpc_hots": "HPC_HOST",
            "HPC_LOGGING_DIR": "HPC_LOGGING_DIRECTORY",
            "HPC_STAGING_DIR": "HPC_STAGING_DIRECTORY",
            "METADATA_SERVICE_ULR": "METADATA_SERVICE_URL",
            "SMTP_HOSTS": "SMTP_HOST",
            "SMTP_USERNAME": "SMTP_USER",
            "NOTIFY_EMAIL": "NOTIFY_EMAILS",
            "SHAREPOINT_CLIENT_SECRETE": "SHAREPOINT_CLIENT_SECRET",
            "SLIMS_USER": "SLIMS_USERNAME",
            "LABTRACKS_SEVER": "LABTRACKS_SERVER",
            "UPLOAD_BANDWITH": "UPLOAD_BANDWIDTH",
            "AWS_PARAM_STORE": "AWS_PARAM_STORE_NAME",
            "AWS_CHECKSUM_ALGORITM": "AWS_CHECKSUM_ALGORITHM",
            "CODEOCEAN_TOKEN_": "CODEOCEAN_TOKEN",
        }.items():
            with self.subTest(wrong):
                [error] = check_names({wrong: "x"}).errors
                self.assertEqual(f"{wrong}: unknown setting; did you mean {right}?", error)

    def test_a_name_that_resembles_none_is_an_error_too(self) -> None:
        [error] = check_names({"TARS_QQQQQQQQQQQQ": "x"}).errors
        self.assertIn("TARS_QQQQQQQQQQQQ: unknown setting; ", error)

    def test_variables_of_other_programs_are_no_errors(self) -> None:
        others = (
            *("PATH", "HOME", "SLURM_JOB_ID", "SBATCH_PARTITION", "AWS_PROFILE", "AWS_REGION"),
            *(
                "AWS_ENDPOINT_URL_SQS",
                "AWS_S3_BUCKET",
                "HPC",
                "S3_BUCKET",
                "S3_ENDPOINT",
                "TARSNAP",
            ),
            *("HPC_CUDA_LIB", "HPC_PYTHON_DIR", "HPC_GCC_BIN", "HPC_R_INC"),
            *("METADATA_SERVICE_HOST", "METADATA_SERVICE_PORT", "METADATA_SERVICE_PORT_HTTP"),
            *("SMTP_PORT_25_TCP", "SMTP_PORT_25_TCP_ADDR", "SMTP_SERVICE_HOST"),
            *("NOTIFY_SOCKET", "notify_socket"),
            *("UVICORN_PORT", "WEB_CONCURRENCY", "PYTHONPATH", "KUBERNETES_SERVICE_HOST"),
        )
        found = check_names(dict.fromkeys(others, "x") | {"SLIMS_PORT": "tcp://10.0.0.1:80"})
        self.assertEqual(([], []), (found.errors, found.warnings))

    def test_a_setting_of_an_earlier_release_is_an_error_that_says_what_is_instead(self) -> None:
        for name in REMOVED.keys() - known_variables():
            [error] = check_names({name.lower(): "1"}).errors
            self.assertRegex(error, f"^{name.lower()}: no longer a setting; ")
            self.assertIn(REMOVED[name], error)

    def test_every_setting_and_an_empty_variable_are_no_errors(self) -> None:
        found = check_names(dict.fromkeys(known_variables(), "x") | {"HPC_HOTS": ""})
        self.assertEqual(([], []), (found.errors, found.warnings))
        self.assertLessEqual(shared_variables(), known_variables())

    def test_a_slip_in_another_name_is_a_warning(self) -> None:
        for wrong, right in (("DATABASE_ULR", "DATABASE_URL"), ("DATA_DRI", "DATA_DIR")):
            found = check_names({wrong: "x"})
            self.assertEqual([], found.errors)
            self.assertEqual(
                [f"{wrong}: not a setting of this service; is it {right}?"], found.warnings
            )

    @settings(deadline=None)
    @given(st.sampled_from(OWN_PREFIXES), st.text(max_size=60))
    def test_any_other_name_with_our_prefix_is_reported_once(self, prefix: str, rest: str) -> None:
        name = prefix + rest
        if name.upper() not in known_variables():
            found = check_names({name: "x"})
            self.assertLessEqual(len(found.errors), 1)
            self.assertTrue(all(error.startswith(f"{name}: ") for error in found.errors))


@slow
class Refusals(unittest.TestCase):
    """A service in a process of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_one_message_has_all_that_is_wrong(self) -> None:
        (self.folder / "ca.pem").write_text("no certificate")
        (self.folder / "token").write_text(" \n")
        (self.folder / "file").write_text("")
        wrong = {
            "HPC_HOTS": "slurm",
            "DATABASE_URL": f"mysql://anna:{SECRET}@host/jobs",
            "DATA_DIR": str(self.folder / "file" / "data"),
            "DATE_ORDER": "YMD",
            "SMTP_PORT": "99999",
            "LOCAL_EXECUTOR_SLOTS": "many",
            "LAB_TIMEZONE": "Seattle",
            "UPLOAD_BANDWIDTH": "fast",
            "TARS_RESOURCE": "http://tars",
            "AWS_CA_BUNDLE": str(self.folder / "ca.pem"),
            "HPC_CA_FILE": str(self.folder / "missing.pem"),
            "HPC_TOKEN_FILE": str(self.folder / "token"),
            "METADATA_FOLDER": str(self.folder / "file"),
        }
        shown = self.refused(wrong)
        for name in wrong.keys() - {"DATABASE_URL"}:
            self.assertRegex(shown, rf"(?m)^  {name}: ")
        self.assertRegex(shown, '(?m)^  DATABASE_URL begins with "mysql"')
        self.assertRegex(shown, r'AWS_CA_BUNDLE: .*ca.pem" holds no certificates')
        self.assertRegex(shown, r'HPC_CA_FILE: .*missing.pem" cannot be read: No such file')
        self.assertRegex(shown, r'HPC_TOKEN_FILE: .*token" is empty')

    def test_values_that_readers_stumble_over_are_reported_with_the_rest(self) -> None:
        wrong = {
            "DATA_DIR": "~nobody9/x",
            "UPLOAD_MEMORY": "9" * 5000,
            "UPLOAD_BANDWIDTH": "9" * 5000,
            "SOURCE_ROOTS": "[" * 100_000,
            "HPC_NODES": "[" * 100_000,
            "HPC_JOB_DEFAULTS": "[" * 100_000,
            "METADATA_SOURCES": "[" * 100_000,
            "METADATA_SERVICE_URL": "http://h:abc",
            "INTERNAL_URL": "http://h:99999",
        }
        shown = self.refused(wrong)
        for name in wrong:
            self.assertRegex(shown, rf"(?m)^  {name}: ")

    def test_a_pipe_is_reported_and_not_waited_for(self) -> None:
        os.mkfifo(self.folder / "pipe")
        pipe, data_dir = str(self.folder / "pipe"), {"DATA_DIR": str(self.folder)}
        for name in ("HPC_TOKEN_FILE", "AWS_CA_BUNDLE", "HPC_CA_FILE", "CA_FILE"):
            data_dir[name] = pipe
        shown = self.refused(data_dir) + self.refused({"DATABASE_URL_FILE": pipe})
        for name in (*data_dir.keys() - {"DATA_DIR"}, "DATABASE_URL_FILE"):
            self.assertRegex(shown, f"{name}: .*not a regular file")

    def test_an_address_of_a_database_that_cannot_be_read_is_reported(self) -> None:
        for url in ("postgresql://h:port/db", "postgresql://[::1/db", "postgresql://h:p:1/db"):
            with self.subTest(url), self.assertRaisesRegex(TransferServiceError, "DATABASE_URL"):
                resolve_url(url)
        found = ServiceSettings(data_dir=self.folder, database_url="sqlite:///~nouser9/x")
        self.assertEqual([], missing_resources(found))
        self.assertIn(Path("~nouser9/x").absolute(), found.private_paths)
        found = apply_settings_file({"SETTINGS_FILE": "~nouser9/x"})
        self.assertRegex(found.problems[0], "SETTINGS_FILE: .*cannot be read: No such file")

    def test_groups_that_are_not_complete_are_reported_together(self) -> None:
        shown = self.refused(
            {
                "DATA_DIR": str(self.folder),
                "HPC_HOST": "slurm",
                "SMTP_HOST": "mail",
                "LABTRACKS_SERVER": "labtracks",
                "CODEOCEAN_DOMAIN": "https://codeocean",
            }
        )
        for name in ("HPC_USERNAME", "SMTP_FROM", "LABTRACKS_PASSWORD", "CODEOCEAN_TOKEN"):
            self.assertIn(name, shown)

    def refused(self, variables: dict[str, str]) -> str:
        """Start a service that does not, and return its only message."""
        done = run_service(**variables)
        self.assertNotEqual(0, done.returncode)
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn(SECRET, done.stderr + done.stdout)
        self.assertTrue(done.stderr.startswith("The service cannot start with"), done.stderr)
        return done.stderr

    def test_a_database_that_is_none_is_reported_in_one_line(self) -> None:
        (self.folder / "jobs.sqlite3").write_text("this is a text" * 100)
        done = run_service(DATA_DIR=str(self.folder))
        self.assertNotEqual(0, done.returncode)
        self.assertNotIn("Traceback", done.stderr)
        self.assertIn("The service cannot start: DATABASE_URL: the database cannot", done.stderr)

    def test_a_port_in_use_is_reported_with_the_rest(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = str(listener.getsockname()[1])
            done = run_command("serve", "--port", port, DATA_DIR=str(self.folder), HPC_HOTS="slurm")
        self.assertEqual(1, done.returncode)
        self.assertRegex(done.stderr, f"--port {port}: cannot listen there .Address already in use")
        self.assertIn("HPC_HOTS: ", done.stderr)

    def test_warnings_stop_nothing(self) -> None:
        variables = {"DATABASE_ULR": "x", "SLURM_CONF": "y", "S3_ACCOUNTS": ACCOUNTS}
        with ServiceProcess(DATA_DIR=str(self.folder), **variables) as service:
            self.assertRegex("\n".join(service.log), "WARNING .*DATABASE_ULR: not a setting")
            self.assertRegex("\n".join(service.log), "WARNING .*LAB_TIMEZONE: not set; times")
            self.assertRegex("\n".join(service.log), "WARNING .*S3_ACCOUNTS: not used")
            self.assertNotIn(SECRET, "\n".join(service.log))


class Warnings(unittest.TestCase):
    """Settings that probably mean something else are warned of."""

    def warnings(self, **variables: str) -> list[str]:
        """Return the warnings of these settings."""
        with tempfile.TemporaryDirectory() as folder:
            variables |= {"LAB_TIMEZONE": "UTC", "DATA_DIR": folder, "HOME": folder}
            with patch.dict(os.environ, variables, clear=True):
                checked = check_settings()
        self.assertEqual([], checked.problems)
        return checked.warnings

    def test_a_word_among_the_allowed_buckets(self) -> None:
        for variables, words in (
            ({"PRIVATE_BUCKET_NAME": "lab"}, r"PRIVATE_BUCKET_NAME \(lab\); write names of"),
            ({}, r"PRIVATE_BUCKET_NAME \(which is not set\); write names of"),
        ):
            [warning] = self.warnings(ALLOWED_BUCKETS="private,lab-*", **variables)
            self.assertRegex(warning, f'^ALLOWED_BUCKETS: "private" is the word for .*{words}')
        both = {"PRIVATE_BUCKET_NAME": "private", "ALLOWED_BUCKETS": "private"}
        self.assertEqual([], self.warnings(**both))

    def test_a_bucket_behind_a_word_that_is_not_allowed(self) -> None:
        [default, scratch] = self.warnings(
            ALLOWED_BUCKETS="lab-*",
            DEFAULT_S3_BUCKET="inbox",
            SCRATCH_BUCKET_NAME="tmp",
            PRIVATE_BUCKET_NAME="lab-data",
        )
        self.assertRegex(default, "^DEFAULT_S3_BUCKET: inbox is not in .* name no bucket are")
        self.assertRegex(scratch, "^SCRATCH_BUCKET_NAME: tmp is not in .* name scratch are refused")
        self.assertEqual([], self.warnings(ALLOWED_BUCKETS="lab-*"))

    def test_a_time_that_may_be_meant_as_hours_and_minutes(self) -> None:
        defaults = '{"time_minimum": "90:00", "time_limit": "06:00", "qos": "06:00"}'
        self.assertEqual(
            [
                'HPC_TIME_LIMIT: "06:00" is 6 minutes and 0 seconds; for hours and minutes, write '
                '"06:00:00"',
                'HPC_JOB_DEFAULTS.time_limit: "06:00" is 6 minutes and 0 seconds; for hours and '
                'minutes, write "06:00:00"',
                'HPC_JOB_DEFAULTS.time_minimum: "90:00" is 90 minutes and 0 seconds; for hours and '
                'minutes, write "90:00:00"',
            ],
            self.warnings(HPC_TIME_LIMIT="06:00", HPC_JOB_DEFAULTS=defaults),
        )
        clear = '{"time_minimum": "06:00:00", "comment": "06:00"}'
        self.assertEqual([], self.warnings(HPC_TIME_LIMIT="1-06:00", HPC_JOB_DEFAULTS=clear))


@slow
class Config(unittest.TestCase):
    """The command `config`."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_it_shows_value_and_source_of_each_setting_and_no_secret(self) -> None:
        variables = SEED | {
            "DATA_DIR": f"{self.folder}/data",
            "HPC_PASSWORD": SECRET,
            "HPC_TOKEN": SECRET,
            "HPC_AWS_SECRET_ACCESS_KEY": SECRET,
            "DATABASE_URL": f"postgresql://anna:{SECRET}@host/jobs",
            "METADATA_SERVICE_URL": f"http://anna:{SECRET}@meta:8000",
            "LAB_TIMEZONE": "America/Los_Angeles",
            "S3_ACCOUNTS": ACCOUNTS,
            "source_roots": "/vast:/allen",
            "METADATA_SOURCES": '{"subject": "folder", "rig": {"if_missing": "warn"}}',
            "HPC_JOB_DEFAULTS": '{"nice": 7, "comment": "night"}',
        }
        done = run_command("config", **variables)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertNotIn(SECRET, done.stdout)
        rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
        for name in ("HPC_TOKEN", "S3_ACCOUNTS"):
            self.assertEqual(["environment", "(set, hidden)"], rows[name])
        self.assertEqual(["environment", "/param/store/name"], rows["HPC_AWS_PARAM_STORE_NAME"])
        self.assertEqual(["environment", "/vast, /allen"], rows["SOURCE_ROOTS"])
        self.assertEqual(["environment", "3000"], rows["HPC_PORT"])
        self.assertEqual(["default", "MDY"], rows["DATE_ORDER"])
        table = '{"subject": {"sources": ["folder"]}, "rig": {"if_missing": "warn"}}'
        self.assertEqual(["environment", table], rows["METADATA_SOURCES"])
        self.assertEqual(
            ["environment", '{"nice": 7, "comment": "night"}'], rows["HPC_JOB_DEFAULTS"]
        )
        self.assertEqual(["default"], rows["SMTP_HOST"])
        self.assertIn("UPLOAD_BANDWIDTH", rows)
        self.assertNotIn("UPLOAD_CALLBACK_TOKEN", rows)
        self.assertEqual([], os.listdir(self.folder), "it creates nothing")

    def test_sources_of_metadata_that_are_wrong_are_named_by_kind(self) -> None:
        wrong = {"METADATA_SOURCES": '{"rig": "slim"}', "METADATA_RIG": "slims"}
        done = run_command("config", DATA_DIR=self.folder, **wrong)
        self.assertRegex(done.stdout, r"(?m)^METADATA_SOURCES +environment +\(wrong")
        self.assertRegex(done.stderr, "METADATA_SOURCES: rig: .*did you mean slims")
        self.assertRegex(done.stderr, "METADATA_RIG: no longer a setting; .*METADATA_SOURCES.rig")

    def test_its_exit_code_says_whether_anything_is_wrong(self) -> None:
        accounts = f'{{"open": {{"aws_access_key_id": "{SECRET}", "bukets": ["{SECRET}"]}}}}'
        wrong = {"HPC_HOTS": "slurm", "SMTP_PORT": "many", "S3_ACCOUNTS": accounts}
        done = run_command("config", DATA_DIR=self.folder, **wrong)
        self.assertEqual(1, done.returncode)
        for words in (
            '"bukets": unknown key',
            "buckets: missing",
            "aws_secret_access_key: missing",
        ):
            self.assertIn(f'  S3_ACCOUNTS: account "open": {words}', done.stderr)
        self.assertRegex(done.stdout, r"(?m)^S3_ACCOUNTS +environment +\(wrong")
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        self.assertIn("HPC_HOTS: unknown setting; did you mean HPC_HOST?", done.stderr)
        self.assertRegex(done.stderr, "SMTP_PORT: .*valid integer")
        self.assertRegex(done.stdout, r"(?m)^SMTP_PORT +environment +\(wrong")
