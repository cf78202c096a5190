"""A job's settings out of Systems Manager and Secrets Manager, as moto plays them."""

import contextlib
import io
import json
import os
import unittest
from unittest.mock import patch

import httpx

from aind_data_transfer_service.cli.metadata import main as ask_sources
from aind_data_transfer_service.errors import RequestError
from aind_data_transfer_service.settings.aws_parameters import add_parameters, read_parameters
from aind_data_transfer_service.settings.env_policy import shared_variables
from aind_data_transfer_service.settings.metadata import MetadataSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.cli.upload import main
from tests.support import parameters, slow
from tests.support.metadata import MetadataServer
from tests.support.raw import RawServer
from tests.support.transfer import TransferTestCase

NAME = "/lab/transfer"
PASSWORD = 'o\'Brien "hunter2"'


@slow
class TestParameters(TransferTestCase):
    """The store of parameters is asked at a job's start."""

    @classmethod
    def setUpClass(cls):
        """Start a server that plays both."""
        super().setUpClass()
        cls.server = parameters.start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        """Name the server, and forget what it was told before."""
        super().setUp()
        environment = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",  # the data's own server: not asked
            "AWS_ENDPOINT_URL_SSM": self.server.url,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.server.url,
            "DATA_DIR": str(self.folder / "data"),
            "DESTINATION": str(self.folder / "store"),
            "LAB_TIMEZONE": "America/Los_Angeles",
            "PATH": os.environ["PATH"],
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.secrets = self.server.client("secretsmanager")
        self.addCleanup(httpx.post, f"{self.server.url}/moto-api/reset")

    def put(self, value, name=NAME, kind="SecureString"):
        """Store a parameter."""
        self.server.put(name, value, kind)

    def read(self, name=NAME):
        """Read what is stored."""
        return read_parameters(name, shared_variables())

    def test_one_parameter_holds_all_settings_and_points_to_secrets(self):
        secret = self.secrets.create_secret(
            Name="labtracks", SecretString=json.dumps({"user": "reader", "password": PASSWORD})
        )
        self.secrets.create_secret(Name="plain", SecretString="s p a c e")
        self.put(
            {
                "metadata-service-url": "http://meta",
                "UPLOAD_CONNECTIONS": 8,
                "LABTRACKS_PASSWORD": {"secret": secret["ARN"], "key": "password"},
                "labtracks_user": {"secret": "labtracks", "key": "user"},
                "LABTRACKS_DATABASE": {"secret": "plain"},
                "metadata-sources": {"subject": ["folder"], "rig": {"if_missing": "require"}},
                "LD_PRELOAD": "/tmp/x.so",
                "JOB_ID": "another",
            }
        )
        found = self.read()
        sources = '{"subject": ["folder"], "rig": {"if_missing": "require"}}'
        self.assertEqual(
            {
                "METADATA_SERVICE_URL": "http://meta",
                "METADATA_SOURCES": sources,
                "UPLOAD_CONNECTIONS": "8",
                "LABTRACKS_PASSWORD": PASSWORD,
                "LABTRACKS_USER": "reader",
                "LABTRACKS_DATABASE": "s p a c e",
            },
            found.values,
        )
        self.assertEqual(("JOB_ID", "LD_PRELOAD"), found.unknown)

    def test_each_parameter_beneath_a_path_is_a_setting(self):
        for number in range(12):  # more than a page
            self.put("x", f"{NAME}/more/unknown_{number}", "String")
        self.put("http://meta", f"{NAME}/METADATA_SERVICE_URL", "String")
        self.put(PASSWORD, f"{NAME}/labtracks/LABTRACKS_PASSWORD")
        found = self.read()
        self.assertEqual(
            {"METADATA_SERVICE_URL": "http://meta", "LABTRACKS_PASSWORD": PASSWORD}, found.values
        )
        self.assertEqual(12, len(found.unknown))

    def test_what_cannot_be_read_is_said_without_any_value(self):
        self.put("hunter2", "/lab/text")
        self.put(["hunter2"], "/lab/list")
        self.put({"METADATA_SERVICE_URL": {"hunter2": 1}}, "/lab/odd")
        self.put({"TARS_CLIENT_SECRET": {"secret": "nowhere"}}, "/lab/lost")
        self.secrets.create_secret(Name="known", SecretString='{"a": "hunter2"}')
        self.put({"TARS_CLIENT_SECRET": {"secret": "known", "key": "b"}}, "/lab/field")
        self.secrets.create_secret(Name="bytes", SecretBinary=b"hunter2")
        self.put({"TARS_CLIENT_SECRET": {"secret": "bytes"}}, "/lab/bytes")
        self.put('{"TARS_CLIENT_SECRET": "hunter2\\u0000", "TARS_SCOPE": "\\ud800"}', "/lab/nul")
        for name, words in (
            ("/lab/none", "there is no parameter of this name, and none beneath it"),
            ("/lab/text", "its value is no JSON object of settings"),
            ("/lab/list", "its value is no JSON object of settings"),
            ("/lab/odd", "METADATA_SERVICE_URL is neither a text nor a number nor a pointer"),
            ("/lab/lost", "ResourceNotFoundException"),
            ("/lab/field", 'asks for "b" of the secret known, which has no such field'),
            ("/lab/nul", "TARS_CLIENT_SECRET, TARS_SCOPE has characters that no variable can hold"),
            ("/lab/bytes", "points to the secret bytes, which is no text"),
        ):
            with self.subTest(name), self.assertRaises(RequestError) as caught:
                self.read(name)
            self.assertIn(words, str(caught.exception))
            self.assertIn(name, str(caught.exception))
            self.assertNotIn("hunter2", str(caught.exception))

    def test_a_whole_secret_where_a_field_was_meant_is_shown_nowhere(self):
        self.write("a.txt")
        self.secrets.create_secret(Name="tars", SecretString='{"password": "hunter2"}')
        events = self.folder / "events.jsonl"
        variables = {"AWS_PARAM_STORE_NAME": NAME, "UPLOAD_EVENTS_FILE": str(events)}
        for variable in ("UPLOAD_CONNECTIONS", "LAB_TIMEZONE", "LABTRACKS_PORT", "SLIMS_HOST"):
            self.put({variable: {"secret": "tars"}}, f"{NAME}/{variable}")
            variables["AWS_PARAM_STORE_NAME"] = f"{NAME}/{variable}"
            with (
                self.subTest(variable),
                patch.dict(os.environ, variables),
                self.assertNoLogs("aind_data_transfer_service", "ERROR"),
            ):
                os.environ.pop(variable, None)
                self.assertEqual(2, main(["--json-args", self.config().model_dump_json()]))
                last = json.loads(events.read_bytes().splitlines()[-1])["message"]
                self.assertIn(f"{variable}: what it is set to cannot be used", last)
        self.assertNotIn("hunter2", events.read_text())

    def test_a_store_that_does_not_answer_stops_the_job_in_words(self):
        self.write("a.txt")
        with patch.dict(
            os.environ,
            {
                "AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:1",
                "AWS_PARAM_STORE_NAME": NAME,
                "UPLOAD_EVENTS_FILE": str(self.folder / "events.jsonl"),
            },
        ):
            self.assertEqual(2, main(["--json-args", self.config().model_dump_json()]))
        event = json.loads((self.folder / "events.jsonl").read_bytes().splitlines()[-1])
        self.assertIn(f"AWS_PARAM_STORE_NAME ({NAME}) cannot be read", event["message"])

    def test_what_is_no_answer_of_aws_is_told_in_words(self):
        def answer(status, body):
            def talk(stream, server):
                stream.read(200)
                head = f"HTTP/1.1 {status} x\r\nContent-Length: 900\r\nConnection: close\r\n\r\n"
                stream.write(head.encode() + body)

            return talk

        denied = b'{"__type": "AccessDeniedException", "message": "not authorized"}'
        expired = b'{"__type": "ExpiredTokenException", "message": "it is expired"}'
        for status, body, words in (
            (200, b"<html>hunter2", "what answers is not AWS"),
            (200, b"", "what answers is not AWS"),
            (200, b'{"Parameter": {"Na', "the answer broke off"),
            (200, b'["hunter2"]', "what answers is not AWS"),
            (200, b'{"Parameter": {"Value": 3}, "SecretString": 3}', "what answers is not AWS"),
            (200, b"\xff\xfe", "what answers is not AWS"),
            (403, b"<html>hunter2", "answered 403: that is no answer of AWS"),
            (400, denied, "AccessDeniedException: not authorized"),
            (400, expired, "ExpiredTokenException: it is expired"),
        ):
            with RawServer(answer(status, body.ljust(900))) as odd:
                for service in ("SSM", "SECRETS_MANAGER"):
                    self.put({"TARS_CLIENT_SECRET": {"secret": "tars"}})
                    known = {f"AWS_ENDPOINT_URL_{service}": f"http://127.0.0.1:{odd.port}"}
                    with (
                        self.subTest(body, service=service),
                        patch.dict(os.environ, known),
                        self.assertRaises(RequestError) as caught,
                    ):
                        self.read()
                    self.assertIn(words, str(caught.exception))
                    self.assertNotIn("hunter2", str(caught.exception))

    def test_an_address_that_is_none_is_told(self):
        with (
            patch.dict(os.environ, {"AWS_ENDPOINT_URL_SSM": "a:hunter2@nonsense"}),
            self.assertRaisesRegex(RequestError, "AWS_ENDPOINT_URL_SSM: .* no address") as caught,
        ):
            self.read()
        self.assertNotIn("hunter2", str(caught.exception))

    def test_an_answer_that_trickles_is_given_up(self):
        def talk(stream, server):
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            server.trickle(stream)

        with RawServer(talk) as slow:
            known = {"AWS_ENDPOINT_URL_SSM": f"http://127.0.0.1:{slow.port}"}
            with (
                patch.dict(os.environ, known),
                self.assertRaisesRegex(RequestError, "AWS did not answer within 0.3 s"),
            ):
                read_parameters(NAME, shared_variables(), seconds=0.3)

    def test_the_command_that_asks_all_sources_uses_them_too(self):
        with MetadataServer() as server:
            server.says("/subject/1", {"subject_id": "1"})
            values = {"METADATA_SERVICE_URL": server.url, "METADATA_RIG": "slims", "NOT_OURS": "x"}
            self.put(values)
            out, err = io.StringIO(), io.StringIO()
            with (
                patch.dict(os.environ, {"AWS_PARAM_STORE_NAME": NAME}),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                ask_sources(["1"])
                os.environ["AWS_PARAM_STORE_NAME"] = "/lab/none"
                self.assertEqual(2, ask_sources(["1"]))
        self.assertRegex(out.getvalue(), r"service +found, Invalid")
        self.assertRegex(
            err.getvalue(),
            r"not settings of a job: METADATA_RIG \(set METADATA_SOURCES.rig, .*\), NOT_OURS",
        )
        self.assertIn("(/lab/none): there is no parameter of this name", err.getvalue())

    def test_the_environment_wins_for_each_kind_of_document(self):
        name = "METADATA_SOURCES"
        subject, rig = "METADATA_POLICY_SUBJECT", {"if_missing": "require"}
        ignored = {"Rig": {"if_missing": "ignore"}}
        warned = {"subject": {"if_missing": "warn"}}
        for given, stored, kind, policy, without_effect in (
            ({name: {"subject": ["folder"]}}, {name: {"rig": rig}}, "rig", "require", []),
            ({name: {"rig": ["folder"]}}, {name: {"rig": rig}}, "rig", "require", []),
            ({name: ignored}, {name: {"rig": rig}}, "rig", "ignore", [f"{name}.rig"]),
            ({name: {"rig": rig}}, {name: {"rig": rig}}, "rig", "require", []),
            ({name: warned}, {subject: "require"}, "subject", "warn", [subject]),
            ({subject: "ignore"}, {name: {"subject": rig}}, "subject", "ignore", [f"{name}.subj"]),
            (
                {subject: "ignore"},
                {name: {"subject": rig, "rig": rig}},
                "rig",
                "require",
                [f"{name}.subject"],
            ),
            ({subject: "ignore"}, {subject: "require"}, "subject", "ignore", [subject]),
            ({subject: "ignore"}, {subject: "ignore"}, "subject", "ignore", []),
            ({}, {subject: "require"}, "subject", "require", []),
        ):
            with self.subTest(given=given, stored=stored):
                self.put(stored)
                written = {
                    key: value if isinstance(value, str) else json.dumps(value)
                    for key, value in given.items()
                }
                with patch.dict(os.environ, {"AWS_PARAM_STORE_NAME": NAME, **written}):
                    warnings: list[str] = []
                    add_parameters(UploadSettings(), warnings.append)
                    self.assertEqual(len(without_effect), len(warnings), warnings)
                    for words in without_effect:
                        self.assertIn(words, warnings[0])
                    self.assertEqual(policy, MetadataSettings().policy_of(kind, False))

    def test_settings_that_a_job_gets_from_the_service_are_named_all_at_once(self):
        stored = {
            "metadata-schema": "2",
            "LAB_TIMEZONE": "Europe/Zurich",
            "EXCLUDE": ["*.tmp"],
            "DESTINATION": os.environ["DESTINATION"],
            "METADATA_TIMEOUT": 7,
            "UPLOAD_CONNECTIONS": 8,
            "METADATA_SERVICE_URL": "http://a:hunter2@b",
        }
        self.put(stored)
        with patch.dict(os.environ, {"EXCLUDE": '["*.bak"]', "METADATA_SCHEMA": "1"}):
            environment = ServiceSettings().job_environment()
        environment |= {"AWS_PARAM_STORE_NAME": NAME, "METADATA_SERVICE_URL": "http://a:hunter3@b"}
        environment |= {name: self.server.url for name in os.environ if "URL_S" in name}
        warnings: list[str] = []
        with patch.dict(os.environ, environment, clear=True):
            settings = UploadSettings()
            found = add_parameters(settings, warnings.append)
        self.assertEqual(("1", 8), (found.generation.value, found.upload_connections))
        [warning] = warnings
        names = "EXCLUDE, LAB_TIMEZONE, METADATA_SCHEMA, METADATA_SERVICE_URL, METADATA_TIMEOUT"
        self.assertIn(
            f"({NAME}): ignored, because the job's environment sets them: {names}. ", warning
        )
        self.assertIn("change them in its settings", warning)
        self.assertNotIn("hunter", warning)

    def test_a_job_uses_them_and_its_environment_wins(self):
        self.write("a.txt")
        with MetadataServer() as right, MetadataServer() as wrong:
            subject_id = self.config().subject_id
            right.says(f"/subject/{subject_id}", {"subject_id": subject_id})
            self.put({"METADATA_SERVICE_URL": right.url, "NOT_OURS": "x"})
            variables = {
                "AWS_PARAM_STORE_NAME": NAME,
                "UPLOAD_EVENTS_FILE": str(self.folder / "events.jsonl"),
            }
            with patch.dict(os.environ, variables):
                self.assertEqual(0, main(["--json-args", self.config().model_dump_json()]))
            self.assertTrue(right.asked)
            force = self.config(force_cloud_sync=True).model_dump_json()
            asked = len(right.asked)
            variables["METADATA_SERVICE_URL"] = wrong.url
            with patch.dict(os.environ, variables):
                self.assertNotEqual(0, main(["--json-args", force]))  # which knows no subject
            self.assertEqual(asked, len(right.asked))
            self.assertTrue(wrong.asked)
        events = (self.folder / "events.jsonl").read_text()
        self.assertIn("not settings of a job: NOT_OURS", events)


if __name__ == "__main__":
    unittest.main()
