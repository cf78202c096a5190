"""Servers that repeat each request, in place of those that jobs and notifications talk to."""

import base64
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch
from urllib.parse import quote

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.jobs.notification_events import Occasion
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.metadata.sources.metadata_service import MetadataService
from aind_data_transfer_service.notifications.base import Unreachable
from aind_data_transfer_service.notifications.email import MailChannel
from aind_data_transfer_service.notifications.messages import Message
from aind_data_transfer_service.post_upload.registration import post_registration
from aind_data_transfer_service.redaction import HIDDEN
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from tests.support import slow
from tests.support.echo import EchoServer
from tests.support.jobs import a_request
from tests.support.raw import RawServer

PASSWORD = "pass-w0rd/of+lab="
SESSION = "FwoGZ/session+token=="
KEY = "wJalr/XUtnFEMI+K7MDENG"
MESSAGE = Message(Occasion.FAIL, JobState.FAILED, "FAILED: a_1", "The job failed.")


def traces(text: str, *secrets: str) -> list[str]:
    """List the parts of secrets that a text has, of those that every spelling leaves alone."""
    parts = {"w0rd", "XUtnFEMI", "K7MDENG", "FwoGZ", "adts_"}
    return sorted(one for one in (*parts, *secrets) if one in text)


class EchoesOfServices(unittest.TestCase):
    """What the clients of other services say is without the secrets that they sent."""

    def test_a_metadata_service(self) -> None:
        for status, kind in ((500, "text"), (200, "html"), (404, "text")):
            with self.subTest(status=status, kind=kind), EchoServer(status, kind) as server:
                url = server.url.replace("//", f"//svc:{quote(PASSWORD, safe='')}@")
                environment = {"METADATA_SERVICE_URL": url, "LAB_TIMEZONE": "UTC"}
                with patch.dict(os.environ, environment):
                    address = UploadSettings().metadata_service_url or ""
                with MetadataService(address, timeout=2) as service:
                    with self.assertRaises(TransferServiceError) as caught:
                        service.subject("690165")
                self.assertIn("Basic", "".join(server.requests))
                self.assertEqual([], traces(str(caught.exception), PASSWORD))

    @slow
    def test_the_hook_for_registration(self) -> None:
        settings = PostUploadSettings(registration_token=PASSWORD, registration_url="http://[::1]")
        for status, kind in ((400, "json"), (403, "text"), (200, "html")):
            with self.subTest(status=status, kind=kind), EchoServer(status, kind) as server:
                there = settings.model_copy(update={"registration_url": server.url})
                told = post_registration(there, "s3://bucket/asset", b"{}")
                self.assertIn(PASSWORD, "".join(server.requests))
                self.assertEqual([], traces(told.reason, PASSWORD))

    def test_a_mail_server(self) -> None:
        settings = NotificationSettings(
            smtp_host="127.0.0.1",
            smtp_user="svc",
            smtp_password=PASSWORD,
            smtp_from="svc@example.org",
            smtp_security="tls",
        )
        heard: list[bytes] = []

        def talk(stream: BinaryIO, server: RawServer) -> None:
            stream.write(b"220 here\r\n")
            for line in iter(stream.readline, b""):
                heard.append(line)
                if line.upper().startswith(b"EHLO"):
                    stream.write(b"250-here\r\n250 AUTH PLAIN\r\n")
                else:
                    stream.write(b"535 no: " + line.strip() + b"\r\n")

        with RawServer(talk) as server:
            update = {"smtp_port": server.port, "smtp_security": "none"}
            channel = MailChannel(settings.model_copy(update=update))
            with self.assertRaises(Unreachable) as caught:
                channel.send(MESSAGE, "a@example.org")
        sent = base64.b64encode(f"\0svc\0{PASSWORD}".encode())
        self.assertTrue(any(sent in line for line in heard))
        self.assertIn(HIDDEN, str(caught.exception))
        self.assertNotIn(sent.decode()[8:], str(caught.exception))


@slow
class EchoesOfStores(unittest.TestCase):
    """A job whose store, and proxy before the store, repeat what they are asked."""

    def run_job(self, **variables: str) -> str:
        """Run a job, and give all that it said and wrote."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "session").mkdir()
            (folder / "session" / "a").write_text("a")
            usual = {
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "DESTINATION": "s3://",
                "DATA_DIR": str(folder / "data"),
                "LAB_TIMEZONE": "UTC",
                "UPLOAD_EVENTS_FILE": str(folder / "events.jsonl"),
                "UPLOAD_RETRY_SECONDS": "1",
                "AWS_ACCESS_KEY_ID": "AKIA",
                "AWS_SECRET_ACCESS_KEY": KEY,
                "AWS_SESSION_TOKEN": SESSION,
                "AWS_DEFAULT_REGION": "us-west-2",
            }
            request = a_request(str(folder / "session"), s3_bucket="bucket")
            command = [sys.executable, "-m", "aind_data_transfer_service.upload", "--json-args"]
            done = subprocess.run(
                [*command, request], env=usual | variables, capture_output=True, text=True
            )
            self.assertNotEqual(0, done.returncode, done.stdout)
            files = [path for path in folder.rglob("*") if path.is_file()]
            written = "".join(path.read_text(errors="replace") for path in files)
            return done.stdout + done.stderr + written

    def test_a_store(self) -> None:
        for status, kind in ((403, "xml"), (400, "text"), (503, "text")):
            with self.subTest(status=status, kind=kind), EchoServer(status, kind) as server:
                said = self.run_job(AWS_ENDPOINT_URL=server.url)
                self.assertIn(SESSION, "".join(server.requests))
                self.assertEqual([], traces(said, SESSION, KEY))

    def test_a_proxy_before_the_store(self) -> None:
        login = f"svc:{quote(PASSWORD, safe='')}"
        with EchoServer(407, "text") as server:
            proxy = f"{login}@127.0.0.1:{server.port}"
            said = self.run_job(AWS_ENDPOINT_URL="http://s3.example.org", http_proxy=proxy)
            self.assertIn("proxy-authorization", "".join(server.requests))
        sent = base64.b64encode(f"svc:{PASSWORD}".encode()).decode()
        self.assertEqual([], traces(said, SESSION, KEY, PASSWORD, sent))


if __name__ == "__main__":
    unittest.main()
