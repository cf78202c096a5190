"""The settings file: TOML in place of variables, checked as strictly."""

import json
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import httpx

from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.toml_file import apply_settings_file, read_settings_file
from tests.support import slow
from tests.support.service_process import ServiceProcess, run_command, run_service

SECRET = "hunter2"


class FileTest(unittest.TestCase):
    """With a folder for files."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "settings.toml"

    def write(self, text: str, mode: int = 0o600) -> None:
        """Write the file."""
        self.path.write_text(text, encoding="utf-8")
        self.path.chmod(mode)

    def read(self, text: str, mode: int = 0o600) -> dict[str, str]:
        """Write a good file, and return its values."""
        self.write(text, mode)
        found = read_settings_file(self.path)
        self.assertEqual(([], []), (found.problems, found.warnings))
        return found.values

    def problems(self, text: str, mode: int = 0o600) -> list[str]:
        """Write a bad file, and return what is wrong with it."""
        self.write(text, mode)
        return read_settings_file(self.path).problems


class Reading(FileTest):
    """What a file says."""

    def test_tables_are_prefixes_and_values_are_written_as_variables_have_them(self) -> None:
        found = self.read("""
            data_dir = "/data"
            SOURCE_ROOTS = ["/vast", "/shared drive"]
            local_executor_slots = 3
            s3.requester_pays = true
            [hpc]
            host = "slurm"
            nodes = [1, 4]
            user_settings = ["qos", "time_limit"]
            aws.default_region = "us-west-2"
            [smtp]
            port = 587
            """)
        self.assertEqual(
            {
                "DATA_DIR": "/data",
                "SOURCE_ROOTS": os.pathsep.join(("/vast", "/shared drive")),
                "LOCAL_EXECUTOR_SLOTS": "3",
                "S3_REQUESTER_PAYS": "true",
                "HPC_HOST": "slurm",
                "HPC_NODES": "[1, 4]",
                "HPC_USER_SETTINGS": "qos,time_limit",
                "HPC_AWS_DEFAULT_REGION": "us-west-2",
                "SMTP_PORT": "587",
            },
            found,
        )

    def test_how_sources_are_read(self) -> None:
        for text, expected in (("[]", ()), ('["a,b", "*.tmp"]', ("a,b", "*.tmp"))):
            found = self.read(f"""
                exclude = {text}
                broken_links = "warn"
                [path_mappings]
                "//server/share" = "/vast/share"
                "Z:" = "/vast/lab"
                """)
            with mock.patch.dict(os.environ, found, clear=True):
                settings = ServiceSettings(data_dir="/srv")
            self.assertEqual(expected, settings.exclude)
            self.assertEqual("warn", settings.broken_links)
            mappings = {"//server/share": "/vast/share", "z:": "/vast/lab"}
            self.assertEqual(mappings, settings.path_mappings)

    def test_accounts_of_s3_are_tables_in_a_private_file(self) -> None:
        text = f"""
            aws_param_store_name = "/lab"
            [S3_ACCOUNTS.open-data]
            buckets = ["lab-open", "open-*"]
            aws_access_key_id = "open-id"
            aws_secret_access_key = "{SECRET}"
            [S3_ACCOUNTS."partner.org"]
            buckets = ["partner"]
            """
        open_data = {"buckets": ["lab-open", "open-*"], "aws_access_key_id": "open-id"}
        open_data["aws_secret_access_key"] = SECRET
        found = self.read(text)
        expected = {"open-data": open_data, "partner.org": {"buckets": ["partner"]}}
        self.assertEqual(expected, json.loads(found["S3_ACCOUNTS"]))
        self.assertEqual("/lab", found["AWS_PARAM_STORE_NAME"])
        [problem] = self.problems(text, 0o644)
        self.assertRegex(problem, r"holds secrets \(S3_ACCOUNTS\), .*0644; set it to 0600")

    def test_values_that_cannot_be_taken_are_problems_without_the_value(self) -> None:
        for text, reason in (
            (f'S3_ACCOUNTS = {"[" * 5000}{"]" * 5000}', "nested too deeply"),
            (f"S3_ACCOUNTS.{'a.' * 5000}b = 1", "nested too deeply"),
            (f"{'a.' * 5000}b = 1", "nested too deeply"),
            (f"S3_ACCOUNTS = {'9' * 5000}", "not valid TOML: "),
            ("[S3_ACCOUNTS.a]\naws_session_token = 2024-02-19", "in quotation marks"),
            (f'[open_data]\naws_secret_access_key = "{SECRET}"', "setting; set S3_ACCOUNTS"),
        ):
            with self.subTest(text[:60]):
                [problem] = self.problems(text)
                self.assertIn(reason, problem)
                self.assertNotIn(SECRET, problem)
                self.assertNotIn("2024", problem)

    def test_what_a_container_platform_sets_does_not_win_over_the_file(self) -> None:
        self.write("[smtp]\nport = 587")
        environment = {"SETTINGS_FILE": str(self.path), "SMTP_PORT": "tcp://10.0.0.1:25"}
        apply_settings_file(environment)
        self.assertEqual("587", environment["SMTP_PORT"])

    def test_unknown_keys_are_errors_with_the_nearest_name_in_their_table(self) -> None:
        found = self.problems("""
            data_dri = "/data"
            upload_callback_token = "x"
            [hpc]
            hots = "slurm"
            [colours]
            qqqqqqqqqqqqq = 1
            """)
        self.assertEqual(4, len(found))
        self.assertTrue(found[0].endswith(", data_dri: unknown setting; did you mean data_dir?"))
        self.assertIn("upload_callback_token: unknown setting; ", found[1])
        self.assertTrue(found[2].endswith(", hpc.hots: unknown setting; did you mean hpc.host?"))
        self.assertIn("colours.qqqqqqqqqqqqq: unknown setting", found[3])

    def test_a_table_of_a_setting_that_is_one_is_its_value(self) -> None:
        found = self.read("""
            [METADATA_SOURCES]
            subject = ["labtracks", "service"]
            funding = "folder"
            [METADATA_SOURCES.procedures]
            sources = ["sharepoint", "tars"]
            if_missing = "require"
            [hpc.job_defaults]
            time_limit = 360
            nodes = [1, 2]
            """)
        found |= dict.fromkeys(("HPC_HOST", "HPC_USERNAME", "HPC_TOKEN"), "x")
        found |= dict.fromkeys(("HPC_CURRENT_WORKING_DIRECTORY", "HPC_LOGGING_DIRECTORY"), "/x")
        with mock.patch.dict(os.environ, found, clear=True):
            settings = ServiceSettings()
        choice = settings.metadata.choice
        self.assertEqual(("labtracks", "service"), choice.order_of("subject"))
        self.assertEqual(("folder",), choice.order_of("funding"))
        self.assertEqual(("sharepoint", "tars"), choice.order_of("procedures"))
        self.assertEqual("require", choice.policy_of("procedures", False))
        self.assertEqual({"time_limit": 360, "nodes": [1, 2]}, settings.hpc.default_properties)
        both = '[metadata.sources]\nrig = "slims"\n[METADATA_SOURCES]\nrig = "slims"'
        [problem] = self.problems(both)
        self.assertIn("set twice", problem)

    def test_a_setting_of_an_earlier_release_names_the_key_that_replaces_it(self) -> None:
        [problem] = self.problems('[metadata]\nsubject = "labtracks"')
        self.assertIn('set METADATA_SOURCES.subject, as {"subject": ["folder"]}', problem)
        [problem] = self.problems('metadata_policy_rig = "warn"')
        self.assertIn("set if_missing in METADATA_SOURCES.rig", problem)

    def test_what_is_nested_too_deeply_is_a_problem(self) -> None:
        for text in (
            "metadata_sources = " + "[" * 50_000,
            "metadata_sources = " + "[" * 3000 + "]" * 3000,
            "metadata.sources." + "a." * 5000 + "b = 1",
            "a." * 5000 + "b = 1",
        ):
            with self.subTest(text[:20]):
                [problem] = self.problems(text)
                self.assertIn("nested too deeply", problem)

    def test_what_cannot_be_read_is_a_problem_and_nothing_else(self) -> None:
        os.mkfifo(self.folder / "pipe")
        (self.folder / "latin").write_bytes(b'data_dir = "/d\xe4ta"')
        for name, reason in (
            ("missing", "No such file"),
            ("pipe", "not a regular file"),
            ("", "cannot be read"),
            ("latin", "not UTF-8"),
        ):
            [problem] = read_settings_file(self.folder / name).problems
            self.assertRegex(problem, f"SETTINGS_FILE: .*{reason}")
        [problem] = self.problems("data_dir = /data")
        self.assertRegex(problem, "not valid TOML: .*line 1")

    def test_values_that_no_variable_could_have_are_refused(self) -> None:
        for text, reason in (
            ("date_order = 2024-02-19", "in quotation marks"),
            ('source_roots = ["/a:b"]', 'contain ":"'),
            ('notify_emails = ["a@b.c,d@e.f"]', 'contain ","'),
            ('hpc_host = "a"\n[hpc]\nhost = "b"', "set twice"),
        ):
            with self.subTest(text):
                [problem] = self.problems(text)
                self.assertIn(reason, problem)

    def test_secrets_need_a_file_that_is_private(self) -> None:
        for text in ('hpc.token = "x"', 'aws_secret_access_key = "x"', 'database_url = "x"'):
            for mode in (0o644, 0o604, 0o620, 0o660, 0o666):
                with self.subTest(text, mode=oct(mode)):
                    [problem] = self.problems(text, mode)
                    self.assertRegex(problem, f"holds secrets .*{mode:04o}; set it to 0600")
            self.write(text, 0o640)
            found = read_settings_file(self.path)
            self.assertEqual(([], 1), (found.problems, len(found.warnings)))
            self.read(text, 0o400)
        self.read('hpc.host = "x"', 0o644)

    def test_the_environment_wins(self) -> None:
        self.write('data_dir = "/file"\ndate_order = "DMY"\nlab_timezone = "UTC"')
        environment = {"SETTINGS_FILE": str(self.path), "data_dir": "/mine", "LAB_TIMEZONE": ""}
        found = apply_settings_file(environment)
        self.assertEqual({"DATE_ORDER": "DMY", "LAB_TIMEZONE": "UTC"}, found.values)
        self.assertEqual("/mine", environment["data_dir"])
        self.assertNotIn("DATA_DIR", environment)
        self.assertEqual("DMY", environment["DATE_ORDER"])


@slow
class Using(FileTest):
    """Commands and the service with a file."""

    def test_the_service_reads_it_its_log_follows_and_its_jobs_do_not_see_secrets(self) -> None:
        self.write(f"""
            data_dir = "{self.folder}/data"
            log_format = "json"
            default_s3_bucket = "from-file"
            smtp = {{host = "mail", from = "a@b.org", user = "u", password = "{SECRET}",
                     security = "tls"}}
            """.replace("\n                     ", " "))
        with ServiceProcess(SETTINGS_FILE=str(self.path)) as service:
            answer = httpx.get(f"{service.url}/healthz", trust_env=False)
            self.assertEqual(200, answer.status_code)
        self.assertTrue((self.folder / "data" / "jobs.sqlite3").exists())
        self.assertTrue(all(json.loads(line) for line in service.log))

    def test_config_names_it_as_the_source_and_reports_its_errors_with_the_rest(self) -> None:
        self.write(f'data_dir = "{self.folder}"\nsmtp.password = "{SECRET}"\nhpc.hots = 1')
        done = run_command("config", "--settings", str(self.path), SMTP_PORT="x")
        self.assertEqual(1, done.returncode)
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        self.assertRegex(done.stdout, rf"(?m)^DATA_DIR +file +{self.folder}$")
        for pattern in ("hpc.hots: unknown setting; did you mean hpc.host", "SMTP_PORT: .*integer"):
            self.assertRegex(done.stderr, pattern)
        done = run_service(SETTINGS_FILE=str(self.path))
        self.assertIn("hpc.hots: unknown setting", done.stderr)

    def test_a_named_file_that_is_missing_stops_the_service(self) -> None:
        done = run_service(SETTINGS_FILE="/nowhere/settings.toml", DATA_DIR=str(self.folder))
        self.assertRegex(done.stderr, "SETTINGS_FILE: .*cannot be read: No such file")
