"""Settings: read once, typed, and refused in words."""

import json
import os
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.batch_script import compose_environment
from aind_data_transfer_service.network.host_names import Authority
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.env_policy import is_administrators, shared_variables
from aind_data_transfer_service.settings.metadata_sources import LabtracksSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.slurmrest.job_properties import PROPERTIES
from tests.support.seed import SEED

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(sorted(PROPERTIES)) | st.text(), JSON, max_size=8)


def service(**variables: str) -> ServiceSettings:
    """Read the service's settings from exactly these variables."""
    with mock.patch.dict(os.environ, {"HOME": "/home/anna", **variables}, clear=True):
        return ServiceSettings()


class Defaults(unittest.TestCase):
    """With no variable set, everything happens on this machine beneath one folder."""

    def test_everything_lies_beneath_the_data_folder(self) -> None:
        found = service(DATA_DIR="/data")
        self.assertEqual("/data/destination", found.destination_root)
        self.assertEqual("sqlite:////data/jobs.sqlite3", found.resolved_database_url)
        self.assertEqual(Path("/data/jobs"), found.jobs_dir)
        self.assertEqual(Path("/data/transfers"), UploadSettings(data_dir="/data").state_dir)

    def test_the_data_folder_is_the_users_own(self) -> None:
        self.assertEqual(Path("/home/anna/.aind-data-transfer-service"), service().data_dir)

    def test_a_user_without_a_home_has_a_data_folder_too(self) -> None:
        with mock.patch.object(Path, "home", side_effect=RuntimeError("no home")):
            self.assertTrue(service().data_dir.is_absolute())

    def test_what_a_container_platform_sets_for_a_service_is_no_setting(self) -> None:
        links = {name: "tcp://10.0.0.1:25" for name in ("SMTP_PORT", "hpc_port", "LABTRACKS_PORT")}
        found = service(**links, **{"SMTP_SERVICE_HOST": "10.0.0.1", "METADATA_PORT": "udp://a:1"})
        self.assertEqual(
            (service().notifications.smtp_port, 6820),
            (found.notifications.smtp_port, found.hpc.port),
        )
        self.assertEqual(2525, service(**links, smtp_port="2525").notifications.smtp_port)
        with self.assertRaisesRegex(ValidationError, "smtp_port"):
            service(SMTP_PORT="http://10.0.0.1:25")

    def test_an_empty_variable_is_as_good_as_none(self) -> None:
        self.assertFalse(service(HPC_HOST="", METADATA_SERVICE_URL="").on_cluster)

    def test_the_case_of_a_variable_does_not_count(self) -> None:
        self.assertEqual(Path("/data"), service(data_dir="/data").data_dir)
        self.assertEqual(2, service(Hpc_Shards="2").hpc.shards)

    def test_what_is_passed_in_wins_over_the_environment(self) -> None:
        with mock.patch.dict(os.environ, {"UPLOAD_JOB_JSON_ARGS": "a", "JOB_ID": "1"}, clear=True):
            self.assertEqual("b", UploadSettings(upload_json="b").upload_json)
            self.assertEqual("2", UploadSettings(job_id="2").job_id)
            self.assertEqual("a", UploadSettings().upload_json)

    def test_a_variable_named_like_a_group_of_settings_is_disregarded(self) -> None:
        """Clusters have a variable `HPC` for purposes of their own."""
        groups = ("HPC", "NOTIFICATIONS", "AFTERWARDS", "METADATA")
        found = service(**dict.fromkeys(groups, "something else"), HPC_SHARDS="2")
        self.assertEqual(2, found.hpc.shards)
        self.assertTrue(service().model_dump() | {"hpc": 0} == found.model_dump() | {"hpc": 0})

    def test_a_relative_data_folder_is_made_absolute(self) -> None:
        self.assertEqual(Path.cwd() / "state", service(DATA_DIR="state").data_dir)


class Destinations(unittest.TestCase):
    """Where assets go."""

    def test_what_is_taken(self) -> None:
        for text, expected in {
            "s3://": "s3://",
            "s3:": "s3://",
            "s3": "s3://",
            "/mnt/assets": "/mnt/assets",
            "file:///mnt/my%20assets": "/mnt/my assets",
        }.items():
            with self.subTest(text):
                self.assertEqual(expected, service(DESTINATION=text).destination_root)

    def test_what_is_refused_is_told_what_would_be_right(self) -> None:
        for text in ("s3://bucket", "assets", "gs://bucket", "file://"):
            with self.subTest(text), self.assertRaisesRegex(ValidationError, "write s3://"):
                service(DESTINATION=text)


class Values(unittest.TestCase):
    """Other values that have rules."""

    def test_an_unknown_zone_is_refused(self) -> None:
        for zone in ("Seattle", "../etc/passwd", "America"):
            with self.subTest(zone), self.assertRaisesRegex(ValidationError, "is not a time zone"):
                service(LAB_TIMEZONE=zone)

    def test_source_roots_are_separated_as_the_shell_does(self) -> None:
        roots = service(SOURCE_ROOTS=os.pathsep.join(("/vast", " ", "/shared drive"))).source_roots
        self.assertEqual([Path("/vast"), Path("/shared drive")], roots)

    def test_source_roots_may_be_given_as_a_list(self) -> None:
        self.assertEqual([Path("/vast")], ServiceSettings(source_roots=["/vast"]).source_roots)

    def test_roots_buckets_and_what_is_private_are_passed_to_every_job(self) -> None:
        found = ServiceSettings(
            data_dir="/srv/a:b",
            source_roots=["/vast", "/shared drive"],
            allowed_buckets="open,lab-*",
            hpc=HpcSettings(token_file="/srv/token"),
        )
        for environment in (found.job_environment(), found.agreed_environment()):
            with mock.patch.dict(os.environ, environment, clear=True):
                job = UploadSettings()
            self.assertEqual([Path("/vast"), Path("/shared drive")], job.source_roots)
            self.assertEqual({"open", "lab-*"}, job.allowed_buckets)
            self.assertEqual([Path("/srv/a:b"), Path("/srv/token")], job.private_paths)

    def test_the_buckets_behind_words_are_passed_to_every_job(self) -> None:
        names = {"default": "inbox", "open": "open", "private": "lab", "scratch": "tmp-lab"}
        found = service(
            DEFAULT_S3_BUCKET="inbox",
            OPEN_DATA_BUCKET_NAME="open",
            PRIVATE_BUCKET_NAME="lab",
            SCRATCH_BUCKET_NAME="tmp-lab",
        )
        self.assertEqual(names, found.bucket_names)
        for environment in (found.job_environment(), found.agreed_environment()):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual(names, UploadSettings().bucket_names)
        self.assertEqual({"default": "data"}, service().bucket_names)
        with mock.patch.dict(os.environ, service().job_environment(), clear=True):
            self.assertEqual({"default": "data"}, UploadSettings().bucket_names)
        self.assertEqual({}, service(DESTINATION="s3://").bucket_names)

    def test_a_bucket_with_the_name_of_another_word_is_refused(self) -> None:
        for variables, words in (
            (
                {"DEFAULT_S3_BUCKET": "private"},
                "DEFAULT_S3_BUCKET: .*PRIVATE_BUCKET_NAME; write .*, or set "
                "PRIVATE_BUCKET_NAME=private if it is called private$",
            ),
            (
                {"OPEN_DATA_BUCKET_NAME": "scratch", "SCRATCH_BUCKET_NAME": "lab-tmp"},
                "OPEN_DATA_BUCKET_NAME: .*SCRATCH_BUCKET_NAME; write",
            ),
        ):
            with self.subTest(words), self.assertRaises(ValidationError) as caught:
                service(**variables)
            [line] = explain_settings(caught.exception)
            self.assertRegex(line, words)
        both = {"DEFAULT_S3_BUCKET": "private", "PRIVATE_BUCKET_NAME": "private"}
        self.assertEqual("private", service(**both).bucket_names["default"])

    def test_where_paths_of_windows_are_is_passed_to_every_job(self) -> None:
        given = {"//Server/Share/": "/vast/share/", "z:": "/vast/lab"}
        expected = {"//server/share": "/vast/share", "z:": "/vast/lab"}
        found = service(PATH_MAPPINGS=json.dumps(given))
        self.assertEqual(expected, found.path_mappings)
        for environment in (found.job_environment(), found.agreed_environment()):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual(expected, UploadSettings().path_mappings)

    def test_mappings_of_paths_that_could_never_work_are_all_named(self) -> None:
        for value, words in (
            ('{"/vast": "/x"}', '"/vast": is not a network name or a drive; write one such as'),
            ('{"Z:": "x"}', '"Z:": "x" does not begin with /'),
            ('{"Z:": "//s/h"}', '"Z:": "//s/h" is not a path of the cluster'),
            ('{"Z:": 5}', '"Z:": "5" is no path'),
            ('{"Z:": "/a/../b"}', r'"Z:": "/a/\.\./b" holds'),
            (r'{"Z:": "/a", "z:\\": "/b"}', "is the same as another one"),
            ('["Z:"]', "a list is not a JSON object"),
        ):
            with self.subTest(value), self.assertRaises(ValidationError) as caught:
                service(PATH_MAPPINGS=value)
            [line] = explain_settings(caught.exception)
            self.assertRegex(line, f"^PATH_MAPPINGS: .*{words}")

    def test_network_names_that_differ_in_more_than_case_are_two(self) -> None:
        text = '{"//server/Stra\u00dfe": "/a", "//server/STRASSE": "/b"}'
        self.assertEqual({"/a", "/b"}, set(service(PATH_MAPPINGS=text).path_mappings.values()))

    def test_excluded_names_are_passed_to_every_job(self) -> None:
        for text, expected in (
            (" , ", None),
            ("*.tmp, .DS_Store ,", ("*.tmp", ".DS_Store")),
            ('["a,b", "x*"]', ("a,b", "x*")),
            ("[]", ()),
            ("[ab]*.txt", ("[ab]*.txt",)),
        ):
            with self.subTest(text):
                if expected is None:
                    with self.assertRaisesRegex(ValidationError, "names nothing; leave it out"):
                        service(EXCLUDE=text)
                    continue
                found = service(EXCLUDE=text)
                for environment in (found.job_environment(), found.agreed_environment()):
                    with mock.patch.dict(os.environ, environment, clear=True):
                        self.assertEqual(expected, UploadSettings().exclude)
        self.assertNotIn("EXCLUDE", service().agreed_environment())
        self.assertIn(".DS_Store", UploadSettings().exclude)

    def test_what_broken_links_do_is_passed_to_every_job(self) -> None:
        self.assertEqual("fail", UploadSettings().broken_links)
        found = service(BROKEN_LINKS="Warn")
        for environment in (found.job_environment(), found.agreed_environment()):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual("warn", UploadSettings().broken_links)
        with self.assertRaises(ValidationError):
            service(BROKEN_LINKS="ignore")

    def test_names_that_could_never_be_excluded_are_all_named(self) -> None:
        with self.assertRaises(ValidationError) as caught:
            service(EXCLUDE='["a/b", "*", "?*", "", 5, "x\\u0000"]')
        lines = explain_settings(caught.exception)
        self.assertEqual(6, len(lines), lines)
        self.assertRegex(lines[0], '^EXCLUDE: "a/b" is not a name or a pattern of names')
        self.assertRegex(
            lines[1], r'^EXCLUDE: "\*" would exclude nearly every name, such as a and 0'
        )

    def test_a_mistyped_list_of_excluded_names_is_an_error_with_its_place(self) -> None:
        for text, place in (
            ("['tmp']", 2),
            ('["*.tmp", "*.bak",]', "1[89]"),  # the comma, or what follows it
            ('["*.tmp", "*.bak"', 18),
            ('["*.tmp" "*.bak"]', 10),
            ("[*.tmp, *.bak]", 2),
            ("[*.tmp, *.bak],", 2),
        ):
            with self.subTest(text):
                with self.assertRaises(ValidationError) as caught:
                    service(EXCLUDE=text)
                [line] = explain_settings(caught.exception)
                self.assertRegex(
                    line, rf"^EXCLUDE: .*is not a JSON list: .* at character {place}; "
                )

    def test_patterns_of_nearly_every_name_are_refused(self) -> None:
        for text in ("[!.]*", "*.*", "**", "??*", "*[!#]", "[!._]*", "*.[!#]*"):
            with self.subTest(text):
                with self.assertRaises(ValidationError) as caught:
                    service(EXCLUDE=f"*.tmp,{text}")
                [line] = explain_settings(caught.exception)
                self.assertIn(f'"{text}" would exclude nearly every name, such as ', line)
        for text in ("*.bin", "data*", "*a*", "[0-9]*", "?.b", "*_*", "[!a-z]*.txt", ".*", "*~"):
            with self.subTest(text):
                self.assertEqual(("x", text), service(EXCLUDE=f"x,{text}").exclude)

    def test_the_database_and_the_settings_file_are_private_wherever_they_are(self) -> None:
        for url, file in (
            ("sqlite:////vast/jobs.db", "/vast/jobs.db"),
            ("sqlite+pysqlite:////vast/jobs.db?timeout=5", "/vast/jobs.db"),
            ("sqlite:///jobs.db", f"{os.getcwd()}/jobs.db"),
            ("sqlite:///file:/vast/my%20jobs.db?mode=rw&uri=true", "/vast/my jobs.db"),
            ("sqlite:///file:///vast/jobs.db?uri=true", "/vast/jobs.db"),
        ):
            private = set(map(os.path.realpath, service(DATABASE_URL=url).private_paths))
            for ending in ("", "-wal", "-shm", "-journal"):
                with self.subTest(url, ending=ending):
                    self.assertIn(f"{file}{ending}", private)
        for variable in ("SETTINGS_FILE", "Settings_File"):
            with mock.patch.dict(os.environ, {variable: "/vast/service.toml"}, clear=True):
                private = ServiceSettings(data_dir="/srv").private_paths
            self.assertIn(Path("/vast/service.toml"), private)

    def test_limits_have_to_be_positive(self) -> None:
        for name in ("LOCAL_EXECUTOR_SLOTS", "MONITOR_INTERVAL"):
            with self.subTest(name), self.assertRaises(ValidationError):
                service(**{name: "0"})

    def test_values_that_could_never_work_are_refused_in_words(self) -> None:
        for name, value, words in (
            ("MONITOR_INTERVAL", "inf", "MONITOR_INTERVAL: .*less than or equal to 3600"),
            ("MONITOR_INTERVAL", "abc", 'MONITOR_INTERVAL: "abc" is refused: .*valid number'),
            ("METADATA_TIMEOUT", "nan", "METADATA_TIMEOUT: "),
            ("SOURCE_ROOTS", "vast", 'SOURCE_ROOTS: "vast" is no absolute path; write one such as'),
            ("SOURCE_ROOTS", ":", "SOURCE_ROOTS: names no folder; leave it out"),
            ("ALLOWED_BUCKETS", " ,", "ALLOWED_BUCKETS: names no bucket; leave it out"),
            ("ALLOWED_BUCKETS", "lab-*,s3://x", 'ALLOWED_BUCKETS: "s3://x" is neither a bucket'),
            ("METADATA_SERVICE_URL", "meta:8000", "METADATA_SERVICE_URL: .* no web address; write"),
            ("AWS_ENDPOINT_URL", "http://[", "AWS_ENDPOINT_URL: .* no web address; write"),
            ("DEFAULT_S3_BUCKET", "s3://x/y", "DEFAULT_S3_BUCKET: .* no name of a bucket; write"),
        ):
            with self.subTest(name), self.assertRaises(ValidationError) as caught:
                service(**{name: value})
            [line] = explain_settings(caught.exception)
            self.assertRegex(line, words)

    def test_sources_in_the_folder_of_the_service_are_refused(self) -> None:
        for roots in ("/data", "/vast:/data/lab", "/data/../data/lab/"):
            with self.subTest(roots), self.assertRaises(ValidationError) as caught:
                service(DATA_DIR="/data", SOURCE_ROOTS=roots)
            [line] = explain_settings(caught.exception)
            self.assertRegex(
                line, r"^SOURCE_ROOTS: /data\S* is in DATA_DIR \(/data\).*choose another"
            )
        for roots in ("/data2", "/", "/vast"):
            service(DATA_DIR="/data", SOURCE_ROOTS=roots)

    def test_a_password_in_an_address_is_not_shown(self) -> None:
        found = service(METADATA_SERVICE_URL="http://anna:hunter2@meta:8000/")
        self.assertEqual("http://meta:8000/project_names", found.project_names_link)
        with self.assertRaises(ValidationError) as caught:
            service(METADATA_SERVICE_URL="ftp://anna:hunter2@meta")
        self.assertNotIn("hunter2", " ".join(explain_settings(caught.exception)))

    def test_the_service_says_what_is_wrong_with_its_settings_and_ends(self) -> None:
        from aind_data_transfer_service import server

        variables = {"METADATA_TIMEOUT": "x", "DATE_ORDER": "YMD"}
        with mock.patch.dict(os.environ, variables), self.assertRaises(SystemExit) as caught:
            server.__getattr__("app")
        for name in variables:
            self.assertIn(f"\n  {name}: ", str(caught.exception))

    def test_the_address_of_the_store_is_a_secret(self) -> None:
        found = service(DATABASE_URL="postgresql+psycopg://u:pass@host/jobs")
        self.assertNotIn("pass@", repr(found))
        self.assertEqual("postgresql+psycopg://u:pass@host/jobs", found.resolved_database_url)

    def test_project_names_are_the_metadata_services(self) -> None:
        self.assertEqual("http://aind-metadata-service/project_names", service().project_names_link)
        found = service(METADATA_SERVICE_URL="http://meta:8000/").project_names_link
        self.assertEqual("http://meta:8000/project_names", found)

    def test_no_lab_is_named_by_default(self) -> None:
        found = service()
        self.assertEqual((None, None), (found.institution, found.default_funder))
        self.assertEqual("data", found.bucket_for(None))
        found = service(DESTINATION="s3://")
        self.assertIsNone(found.bucket_for(None))
        self.assertEqual("mine", found.bucket_for("mine"))
        self.assertEqual("ours", service(DEFAULT_S3_BUCKET="ours").bucket_for(None))
        self.assertIsNone(service(**SEED).bucket_for(None))


class JobEnvironment(unittest.TestCase):
    """What a job on this machine gets to see."""

    def test_both_agree_on_everything_that_matters(self) -> None:
        found = service(
            DATA_DIR="/data",
            LAB_TIMEZONE="America/Los_Angeles",
            INSTITUTION="NYU",
            DEFAULT_FUNDER="NINDS",
            METADATA_SERVICE_URL="http://meta",
            AWS_ENDPOINT_URL="http://127.0.0.1:8333",
        )
        with mock.patch.dict(os.environ, found.job_environment(), clear=True):
            job = UploadSettings()
        for name in (
            "data_dir",
            "destination_root",
            "lab_timezone",
            "institution",
            "default_funder",
            "metadata_service_url",
            "metadata_timeout",
            "aws_endpoint_url",
        ):
            with self.subTest(name):
                self.assertEqual(getattr(found, name), getattr(job, name))

    def test_jobs_anywhere_speak_to_the_store_as_the_service_does(self) -> None:
        store = {
            "AWS_ENDPOINT_URL": "https://s3.example.org",
            "AWS_CA_BUNDLE": "/etc/ours.pem",
            "AWS_CHECKSUM_ALGORITHM": "SHA256",
            "AWS_ENDPOINT_URL_S3": "https://s3-fast.example.org",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            "AWS_USE_FIPS_ENDPOINT": "false",
            "AWS_USE_DUALSTACK_ENDPOINT": "true",
            "S3_ADDRESSING_STYLE": "virtual",
            "S3_ENCRYPTION": "aws:kms",
            "S3_KMS_KEY_ID": "alias/lab",
            "S3_BUCKET_KEY": "true",
            "S3_ACL": "bucket-owner-full-control",
            "S3_STORAGE_CLASS": "STANDARD_IA",
            "S3_TAGS": "project=mapping&lab=north",
            "S3_REQUESTER_PAYS": "true",
            "S3_BUCKET_OWNER": "123456789012",
        }
        self.assertLessEqual(store.items(), service(**store).agreed_environment().items())
        self.assertFalse(store.keys() & service().agreed_environment().keys())
        with self.assertRaisesRegex(ValidationError, "'CRC64NVME' or 'SHA256'"):
            service(AWS_CHECKSUM_ALGORITHM="CRC32")

    def test_secrets_of_the_service_stay_with_it(self) -> None:
        secrets = {
            "Database_Url": "postgresql://svc:db-word@db/jobs",
            "hpc_token": "token-1",
            "HPC_PASSWORD": "pin1",
            "Hpc_Aws_Secret_Access_Key": "hpc-key",
            "HPC_AWS_SESSION_TOKEN": "hpc-session",
            "s3_accounts": '{"open": {"buckets": ["open"], "aws_access_key_id": "id", '
            '"aws_secret_access_key": "open-key", "aws_session_token": "open-session"}}',
            "smtp_password": "smtp-word",
            "NOTIFY_WEBHOOK_URL": "https://hooks.example.org/services/T0",
            "SLURM_JWT": "token-2",
            "PGPASSWORD": "db-word",
            "MY_DATABASE_URL": "postgresql://svc:db-word@db/jobs",
            "aws_copy": "x smtp-word x",
            "PYTHON_THING": "/services/T0",
            "LC_ALL": "pin1",
            "TERM": "token-1",
            "COLOUR": "blue",
        }
        more = {"SMTP_USER": "svc", "SMTP_SECURITY": "tls"}
        with mock.patch.dict(os.environ, secrets | more, clear=True):
            environment = ServiceSettings().job_environment()
        self.assertEqual([], sorted(secrets.keys() & environment.keys()))
        text = " ".join(environment.values())
        self.assertEqual([], [value for value in secrets.values() if value in text])

    def test_jobs_get_what_programs_and_s3_need(self) -> None:
        wanted = {
            "PATH": "/usr/lib/token-1:/bin",
            "https_proxy": "http://proxy:3128",
            "LANG": "C.UTF-8",
            "LC_TIME": "C",
            "AWS_SECRET_ACCESS_KEY": "key-of-jobs",
            "AWS_PROFILE": "lab",
            "AWS_PARAM_STORE_NAME": "/lab/transfer",
            "UPLOAD_CONNECTIONS": "8",
            "ca_file": "/etc/lab.pem",
            "PYTHONPATH": "/opt/lab",
            "FREETDSCONF": "/etc/freetds.conf",
        }
        more = {"HPC_TOKEN": "token-1", "data_dir": "/wrong", "UPLOAD_SHARD": "1/2", "job_id": "x"}
        with mock.patch.dict(os.environ, wanted | more, clear=True):
            environment = ServiceSettings(data_dir="/data").job_environment()
        self.assertLessEqual(wanted.items(), environment.items())
        self.assertEqual("/data", environment["DATA_DIR"])
        self.assertEqual([], sorted({"data_dir", "UPLOAD_SHARD", "job_id"} & environment.keys()))

    def test_the_value_that_both_agree_on_has_no_rival_of_another_case(self) -> None:
        with mock.patch.dict(os.environ, {"aws_ca_bundle": "ours.pem", "lab_timezone": "UTC"}):
            environment = ServiceSettings().job_environment()
        upper = [name.upper() for name in environment]
        self.assertEqual(sorted(set(upper)), sorted(upper))
        self.assertEqual(str(Path("ours.pem").absolute()), environment["AWS_CA_BUNDLE"])

    def test_scripts_run_on_a_cluster_unless_somebody_says_otherwise(self) -> None:
        self.assertFalse(service().takes_scripts)
        self.assertTrue(service(**SEED).takes_scripts)
        self.assertTrue(service(ALLOW_CUSTOM_SCRIPTS="true").takes_scripts)
        self.assertFalse(service(**SEED, ALLOW_CUSTOM_SCRIPTS="false").takes_scripts)


class DatabaseUrlFile(unittest.TestCase):
    """The address of the database, in a file."""

    def setUp(self) -> None:
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "url"

    def test_its_only_line_is_the_address(self) -> None:
        self.file.write_text("postgresql://me:hunter2@db/jobs\n")
        found = service(DATABASE_URL_FILE=str(self.file))
        self.assertEqual("postgresql://me:hunter2@db/jobs", found.resolved_database_url)
        self.assertNotIn("hunter2", repr(found) + str(found.model_dump()))

    def test_its_password_is_a_secret_in_every_text_and_of_every_job(self) -> None:
        self.file.write_text("postgresql://me:only-in-a-file-77@db/jobs\n")
        environment = {"DATABASE_URL_FILE": str(self.file), "BACKUP": "me only-in-a-file-77"}
        with mock.patch.dict(os.environ, environment):
            found = ServiceSettings()
            self.assertNotIn("BACKUP", found.job_environment())
        self.assertNotIn("in-a-file", redact('password of "me" is only-in-a-file-77'))

    def test_what_is_wrong_is_said_without_the_address(self) -> None:
        secret = "postgresql://me:hunter2@db/jobs"
        for content, more, words in (
            (None, {}, "cannot be read: No such file or directory"),
            (b"", {}, "must hold one line"),
            (f"{secret}\n{secret}".encode(), {}, "must hold one line"),
            (b"\xff", {}, "it is not UTF-8 text"),
            (secret.encode(), {"DATABASE_URL": secret}, "both set"),
        ):
            with self.subTest(words):
                if content is not None:
                    self.file.write_bytes(content)
                with self.assertRaisesRegex(ValidationError, words) as caught:
                    service(DATABASE_URL_FILE=str(self.file), **more)
                self.assertNotIn("hunter2", str(caught.exception))


class ParameterStore(unittest.TestCase):
    """Where further settings of jobs lie in AWS, under the setting's name and its older one."""

    def seen_by_jobs(self, **variables: str) -> list[str | None]:
        """Return what jobs here and on the cluster see: transfers, then scripts of users."""
        with mock.patch.dict(os.environ, variables, clear=True):
            found = ServiceSettings()
            environments = [found.job_environment()]
        hpc = HpcSettings(logging_directory="/l", current_working_directory="/w")
        for spec in (JobSpec("j", "n", request="{}"), JobSpec("j", "n", script="#!/bin/sh")):
            environments.append(compose_environment(spec, hpc, found.agreed_environment()))
        return [environment.get("AWS_PARAM_STORE_NAME") for environment in environments]

    def test_jobs_on_this_machine_and_on_the_cluster_get_it_by_either_name(self) -> None:
        cluster = {name: v for name, v in SEED.items() if name != "HPC_AWS_PARAM_STORE_NAME"}
        newer = {"AWS_PARAM_STORE_NAME": "/lab/transfer"}
        older = {"hpc_aws_param_store_name": "/lab/transfer"}
        for names in (newer, older, newer | older):
            for others in ({}, cluster):
                with self.subTest(names, on_cluster=bool(others)):
                    self.assertEqual(["/lab/transfer"] * 3, self.seen_by_jobs(**names, **others))
        self.assertEqual([None] * 3, self.seen_by_jobs(**cluster))

    def test_two_different_values_are_an_error_that_names_both(self) -> None:
        with self.assertRaises(ValidationError) as caught:
            service(**SEED, AWS_PARAM_STORE_NAME="/other")
        [line] = explain_settings(caught.exception)
        self.assertIn("AWS_PARAM_STORE_NAME and HPC_AWS_PARAM_STORE_NAME are set to diff", line)

    def test_no_user_and_no_parameter_sets_it(self) -> None:
        self.assertTrue(is_administrators("AWS_PARAM_STORE_NAME"))
        self.assertFalse(
            {"AWS_PARAM_STORE_NAME", "HPC_AWS_PARAM_STORE_NAME", "S3_ACCOUNTS"} & shared_variables()
        )


class Cluster(unittest.TestCase):
    """What is known of the cluster."""

    def test_every_variable_that_people_have_is_taken(self) -> None:
        found = service(**SEED)
        self.assertEqual("http://localhost:3000", found.hpc.url)
        self.assertEqual((1, 1), found.hpc.nodes)
        self.assertTrue(found.on_cluster)
        for name in SEED:
            with self.subTest(name):
                self.assertIsNotNone(getattr(found.hpc, name.removeprefix("HPC_").lower()))

    def test_secrets_are_not_shown(self) -> None:
        shown = repr(service(**SEED))
        for secret in ("some_token", "def-456", "password=SecretStr('p"):
            self.assertNotIn(secret, shown)

    def test_assets_go_to_s3_unless_told(self) -> None:
        self.assertEqual("s3://", service(**SEED).destination_root)
        self.assertEqual("/mnt/a", service(**SEED, DESTINATION="/mnt/a").destination_root)

    def test_all_that_is_missing_is_named_at_once(self) -> None:
        with self.assertRaises(ValidationError) as raised:
            service(HPC_HOST="slurm")
        for name in ("USERNAME", "CURRENT_WORKING_DIRECTORY", "LOGGING_DIRECTORY", "TOKEN_FILE"):
            self.assertIn(f"HPC_{name}", str(raised.exception))

    def test_one_source_of_tokens_counts(self) -> None:
        with self.assertRaisesRegex(ValidationError, "HPC_TOKEN and HPC_TOKEN_FILE are set"):
            service(**SEED, HPC_TOKEN_FILE="/run/token")

    def test_numbers_of_nodes_are_taken_as_people_write_them(self) -> None:
        for text, expected in {
            "2": (2, 2),
            "[1,4]": (1, 4),
            "1-4": (1, 4),
            " [2, 2]": (2, 2),
        }.items():
            with self.subTest(text):
                self.assertEqual(expected, service(**(SEED | {"HPC_NODES": text})).hpc.nodes)
        for text in ("0", "[2,1]", "many", "[1,2,3]", "[1.5,2]", "-", "{}"):
            with self.subTest(text), self.assertRaisesRegex(ValidationError, "how many nodes"):
                service(**(SEED | {"HPC_NODES": text}))

    def test_job_defaults_and_the_older_variables_set_the_same_properties(self) -> None:
        older = {
            "partition": "part",
            "minimum_cpus_per_node": 8,
            "memory_per_cpu": 8000,
            "nodes": [1, 1],
            "tasks": 1,
            "time_limit": 360,
            "qos": "dev",
        }
        variables = {name: v for name, v in SEED.items() if name[4:].lower() not in older}
        self.assertEqual(older, service(**SEED).hpc.default_properties)
        found = service(**variables, HPC_JOB_DEFAULTS=json.dumps(older))
        self.assertEqual(older, found.hpc.default_properties)
        same = {name: str(value) for name, value in older.items()} | {"comment": "night"}
        found = service(**SEED, HPC_JOB_DEFAULTS=json.dumps(same))
        self.assertEqual(older | {"comment": "night"}, found.hpc.default_properties)

    def test_times_and_sizes_may_have_units(self) -> None:
        units = {"HPC_TIME_LIMIT": "06:00:00", "HPC_MEMORY_PER_CPU": "8G"}
        defaults = '{"time_limit": "6:00:00", "memory_per_cpu": "8 GB"}'
        found = service(**(SEED | units), HPC_JOB_DEFAULTS=defaults).hpc.default_properties
        self.assertEqual((360, 8192), (found["time_limit"], found["memory_per_cpu"]))
        for name, value, words in (
            ("HPC_TIME_LIMIT", "2h", "write minutes, such as 120, or a time, such as 02:00:00"),
            ("HPC_TIME_LIMIT", "0", "write 1 to 2,147,483,647 minutes"),
            ("HPC_MEMORY_PER_CPU", "8X", "write megabytes, such as 16000, or a size, such as 16G"),
            ("HPC_MEMORY_PER_CPU", "9999T", "write 0 to 2,147,483,647 megabytes"),
        ):
            [line] = self.refused(**(SEED | {name: value}))
            self.assertIn(f'{name}: "{value}" is wrong here; {words}', line)

    def refused(self, **variables: str) -> list[str]:
        """Return the lines that say what is wrong with variables."""
        with self.assertRaises(ValidationError) as raised:
            service(**variables)
        return explain_settings(raised.exception)

    def test_a_property_that_two_variables_set_differently_is_refused(self) -> None:
        defaults = {"time_limit": 60, "nodes": "2", "partition": "x", "account": "lab"}
        self.assertEqual(
            [
                'HPC_ACCOUNT is "other", and HPC_JOB_DEFAULTS.account is "lab"; keep one of them',
                'HPC_NODES is "[1, 1]", and HPC_JOB_DEFAULTS.nodes is "[2, 2]"; keep one of them',
                'HPC_PARTITION is "part", and HPC_JOB_DEFAULTS.partition is "x"; keep one of them',
                'HPC_TIME_LIMIT is "360", and HPC_JOB_DEFAULTS.time_limit is "60"; keep one of '
                "them",
            ],
            self.refused(**SEED, HPC_ACCOUNT="other", HPC_JOB_DEFAULTS=json.dumps(defaults)),
        )
        [line] = self.refused(**SEED, HPC_JOB_DEFAULTS='{"memory_per_node": 5}')
        self.assertIn("HPC_MEMORY_PER_CPU and HPC_JOB_DEFAULTS.memory_per_node exclude", line)

    def test_what_is_wrong_with_job_defaults_is_said_at_once_by_property(self) -> None:
        wrong = {
            "tme_limit": 5,
            "tasks": -3,
            "nodes": "[" * 100_000,
            "qos": {"a": 1},
            "standard_output": "/x",
            "name": "x",
            "environment": {"TOKEN": "hunter2"},
            "script": "#!/bin/sh",
            "current_working_directory": "/x",
            "mail_user": "anna@example.org",
            "memory_per_cpu": 1,
            "memory_per_node": 2,
        }
        lines = self.refused(**SEED, HPC_JOB_DEFAULTS=json.dumps(wrong))
        own = "cannot have a default; leave it out"
        for words in (
            r'"tme_limit" is no job property of Slurm; did you mean time_limit\?',
            r"tasks: -3 is wrong here; write a whole number",
            r"nodes: .* write the fewest and the most nodes|nodes: .* write a list",
            r'qos: \{"a": 1\} is wrong here; write a text',
            rf"standard_output: {own} and set HPC_LOGGING_DIRECTORY",
            rf"name: {own}",
            rf"environment: {own}",
            rf"script: {own}",
            rf"current_working_directory: {own} and set HPC_CURRENT_WORKING_DIRECTORY",
            rf"mail_user: {own} and set NOTIFY_EMAILS",
            "memory_per_cpu and memory_per_node exclude each other; keep one",
        ):
            with self.subTest(words):
                pattern = f"^HPC_JOB_DEFAULTS: (?:{words})"
                self.assertEqual(1, len([one for one in lines if re.search(pattern, one)]), lines)
        self.assertEqual(11, len(lines))
        self.assertNotIn("hunter2", str(lines))

    def test_job_defaults_that_are_no_object_are_refused(self) -> None:
        for text, words in {
            "time_limit=5": "is not valid JSON",
            "[1]": "a list is not a JSON object",
            "5": '"5" is not a JSON object',
            "[" * 100_000: "is nested too deeply",
            '{"qos": "a", "qos": "b"}': '"qos" is there twice',
        }.items():
            with self.subTest(text[:20]):
                [line] = self.refused(**SEED, HPC_JOB_DEFAULTS=text)
                self.assertTrue(line.startswith(f"HPC_JOB_DEFAULTS: {words}"), line)

    def test_signs_that_cannot_be_shown_are_written_out(self) -> None:
        for sign in ("\ud800", "\u202e", "\x1b"):
            for given_value in ({"comment": f"a{sign}"}, {sign: 1}, {"time_limit": sign}):
                with self.subTest(given_value=given_value):
                    [line] = self.refused(**SEED, HPC_JOB_DEFAULTS=json.dumps(given_value))
                    self.assertTrue(line.isprintable(), line)
                    self.assertIn(json.dumps(sign)[1:-1], line)

    @settings(deadline=None, max_examples=40)
    @given(st.text() | OBJECTS.map(json.dumps))
    def test_any_job_defaults_are_taken_or_refused_in_words(self, text: str) -> None:
        try:
            found = HpcSettings(job_defaults=text)
        except ValidationError as error:
            for line in explain_settings(error):
                self.assertTrue(line.startswith("HPC_JOB_DEFAULTS: "), line)
        else:
            again = HpcSettings(job_defaults=json.dumps(found.default_properties))
            self.assertEqual(found.default_properties, again.default_properties)

    def test_paths_that_would_be_taken_apart_are_refused(self) -> None:
        for path in ("logs", "/a:b", "/a,b", "/a\\b", "/a\nb"):
            with self.subTest(path), self.assertRaisesRegex(ValidationError, "absolute path"):
                service(**(SEED | {"HPC_LOGGING_DIRECTORY": path}))

    def test_names_of_properties_are_separated_by_commas(self) -> None:
        found = service(HPC_USER_SETTINGS="time_limit, qos,").hpc.user_settings
        self.assertEqual({"time_limit", "qos"}, found)

    def test_an_address_of_the_sixth_version_is_bracketed(self) -> None:
        found = service(**(SEED | {"HPC_HOST": "::1"}))
        self.assertEqual("http://[::1]:3000", found.hpc.url)

    def test_an_address_takes_the_place_of_host_and_port(self) -> None:
        others = {name: v for name, v in SEED.items() if name not in ("HPC_HOST", "HPC_PORT")}
        for address, url in {
            "https://slurm:6821": "https://slurm:6821",
            "http://slurm": "http://slurm:6820",
            "https://[::1]:1/": "https://[::1]:1",
        }.items():
            found = service(**others, HPC_URL=address)
            self.assertEqual(url, found.hpc.url)
            self.assertTrue(found.on_cluster)
        for address in ("slurm", "ftp://slurm", "http://slurm:x", "http://a:b@slurm", "http://s/p"):
            with self.subTest(address), self.assertRaisesRegex(ValidationError, "HPC_URL: write"):
                service(**others, HPC_URL=address)
        with self.assertRaisesRegex(ValidationError, "HPC_HOST and HPC_PORT must not be set"):
            service(**SEED, HPC_URL="http://slurm")
        with self.assertRaisesRegex(ValidationError, "HPC_URL is set, so these are needed too"):
            service(HPC_URL="http://slurm")

    def test_a_variable_that_clusters_have_is_no_concern_of_ours(self) -> None:
        self.assertFalse(service(HPC="/opt/hpc").on_cluster)


class Systems(unittest.TestCase):
    """What is known of the systems that metadata come from."""

    login = {
        "LABTRACKS_SERVER": "labtracks.example.org",
        "LABTRACKS_DATABASE": "colony",
        "LABTRACKS_USER": "reader",
        "LABTRACKS_PASSWORD": "hunter2",
    }

    def labtracks(self, **variables: str) -> LabtracksSettings:
        """Read what is said of LabTracks from exactly these variables."""
        with mock.patch.dict(os.environ, variables, clear=True):
            return LabtracksSettings()

    def refused(self, **variables: str) -> str:
        """Have variables refused, and give the one line that says why."""
        with self.assertRaises(ValidationError) as caught:
            self.labtracks(**variables)
        self.assertNotIn("hunter2", str(caught.exception))
        [line] = explain_settings(caught.exception)
        return line

    def test_nothing_said_is_no_error(self) -> None:
        self.assertFalse(self.labtracks().is_set)
        self.assertFalse(self.labtracks(**dict.fromkeys(self.login, "")).is_set)

    def test_all_of_it_is_taken_and_the_password_not_shown(self) -> None:
        found = self.labtracks(**self.login)
        self.assertTrue(found.is_set)
        self.assertEqual(("labtracks.example.org", 1433), (found.server, found.port))
        self.assertNotIn("hunter2", f"{found!r} {found} {found.model_dump()}")

    def test_a_part_of_it_is_refused_with_what_is_missing(self) -> None:
        for name in self.login:
            with self.subTest(name):
                line = self.refused(**{name: self.login[name]})
                self.assertEqual(3, sum(other in line for other in self.login))
                self.assertNotIn(name, line)

    def test_values_that_cannot_work_are_refused_by_the_variables_name(self) -> None:
        for name, value, words in (
            ("SERVER", "db\\colony", "write the name of the host alone"),
            ("SERVER", "db,1433", "write the name of the host alone"),
            ("PORT", "abc", '"abc" is refused'),
            ("PORT", "70000", "less than 65536"),
        ):
            with self.subTest(value):
                line = self.refused(**(self.login | {f"LABTRACKS_{name}": value}))
                self.assertRegex(line, f"^LABTRACKS_{name}: .*{words}")
        with self.assertRaises(ValidationError) as caught:
            service(HPC_PORT="abc")
        self.assertEqual("HPC_PORT", explain_settings(caught.exception)[0].split(":")[0])


class Secrets(unittest.TestCase):
    """What may be secret, and was written where or as it should not be, is not repeated."""

    def test_no_refusal_shows_a_secret_nor_does_its_traceback(self) -> None:
        for variables in (
            {"METADATA_SERVICE_URL": "ftp://u:hunter2@h"},
            {"METADATA_SERVICE_URL": "http://u:hunter2@[h"},
            {"AWS_ENDPOINT_URL": "u:hunter2@h"},
            {"SLIMS_HOST": "https://u:hunter2@h"},
            {"SLIMS_HOST": "https://h/?token=hunter2"},
            {"SLIMS_HOST": "http://h/hunter2"},
            {"LABTRACKS_PASSWORD": "hunter2"},
            {"TARS_CLIENT_SECRET": "hunter2"},
            {"CODEOCEAN_TOKEN": "hunter2"},
            {"HPC_HOST": "http://u:hunter2@h"},
            {"SMTP_HOST": "smtp://u:hunter2@h", "SMTP_FROM": "a@b.org"},
            {"NOTIFY_WEBHOOK_URL": "hooks.example.org/hunter2"},
            {"S3_ACCOUNTS": '{"open": {"aws_secret_access_key": "hunter2"}}'},
            {"S3_ACCOUNTS": '{"open": "hunter2", "aws_access_key_id": "hunter2"}'},
            {"S3_ACCOUNTS": "hunter2"},
        ):
            with self.subTest(variables), self.assertRaises(ValidationError) as caught:
                service(**variables)
            said = [*explain_settings(caught.exception), str(caught.exception)]
            self.assertNotIn("hunter2", " ".join(said))
            self.assertTrue(said[0])


class OwnNames(unittest.TestCase):
    """Under which names and below which path the service is opened."""

    def test_names_are_read_as_browsers_send_them(self) -> None:
        found = service(
            ALLOWED_HOSTS="Transfer.LAB, *.lab.example,Bücher.example",
            SERVICE_URL="https://Upload.example:8443/below",
            INTERNAL_URL="http://[FE80::1]:5000",
        )
        expected = {"transfer.lab", "*.lab.example", "xn--bcher-kva.example"}
        self.assertEqual(expected, found.allowed_hosts)
        addresses = {Authority("upload.example", 8443), Authority("fe80::1", 5000)}
        self.assertEqual(addresses, found.own_addresses)
        found = service(SERVICE_URL="https://Bücher.example:443")
        self.assertEqual({Authority("xn--bcher-kva.example")}, found.own_addresses)

    def test_what_is_not_a_name_is_refused_with_an_example(self) -> None:
        for text in ("http://transfer.lab", "transfer.lab:5000", "*", "transfer.lab/path"):
            with self.subTest(text), self.assertRaises(ValidationError) as caught:
                service(ALLOWED_HOSTS=text)
            [line] = explain_settings(caught.exception)
            self.assertRegex(line, r"^ALLOWED_HOSTS: .*such as transfer\.lab\.example")
        with self.assertRaisesRegex(ValidationError, 'SERVICE_URL: "a_b..c" is not a host name'):
            service(SERVICE_URL="http://a_b..c")

    def test_a_path_prefix_is_read_with_and_without_a_slash_at_its_end(self) -> None:
        for text, expected in {"/transfer/": "/transfer", "/a/b-c": "/a/b-c", "/": ""}.items():
            self.assertEqual(expected, service(ROOT_PATH=text).root_path)
        for text in ("transfer", "//a", "/a//b", "/a?b", "/../a", "http://a/b", "/a b"):
            with self.subTest(text), self.assertRaisesRegex(ValidationError, "such as /transfer"):
                service(ROOT_PATH=text)
