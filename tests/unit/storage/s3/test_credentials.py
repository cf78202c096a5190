"""Whose name requests are made in."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

from pydantic import ValidationError

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.model import Keys, S3Keys
from aind_data_transfer_service.storage.s3.credentials import Credentials


class TestCredentials(unittest.TestCase):
    """What the environment has."""

    def setUp(self):
        """Leave nothing of this machine's own but a file that tests write."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = folder / "credentials"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        environment |= {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.file),
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))

    def write(self, key):
        """Write the file."""
        self.file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=s\n")

    def test_a_file_that_was_written_anew_is_read_anew(self):
        self.write("first")
        now = [0.0]
        credentials = Credentials(clock=lambda: now[0])
        first = credentials.keys()
        self.assertEqual(first.access_key, "first")
        self.assertFalse(credentials.renew(first))
        self.write("second")
        self.assertEqual(credentials.keys(), first)
        self.assertFalse(credentials.renew(first), "looked at just before")
        now[0] += 1.0
        self.assertTrue(credentials.renew(first))
        self.assertEqual(credentials.keys().access_key, "second")

    def test_keys_of_the_environment_come_first_and_need_nothing_else(self):
        self.write("of the file")
        said = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        with patch.dict(os.environ, said), patch("botocore.session.Session", None):
            credentials = Credentials()
        self.assertEqual(credentials.keys(), Keys("k", "s"))
        self.assertFalse(credentials.renew(credentials.keys()))
        for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
            with patch.dict(os.environ, {**said, name: "t"}):
                self.assertEqual(Credentials().keys(), Keys("k", "s", "t"))

    def test_none_at_all_are_told_with_what_to_set(self):
        with self.assertRaisesRegex(DestinationError, "set AWS_ACCESS_KEY_ID and"):
            Credentials()
        with patch.dict(os.environ, {"AWS_PROFILE": "nobody"}):
            with self.assertRaisesRegex(DestinationError, "could be had: .*nobody"):
                Credentials()

    def test_those_that_are_given_count(self):
        credentials = Credentials(S3Keys("k", "s", "t"))
        self.assertEqual(credentials.keys(), Keys("k", "s", "t"))
        self.assertFalse(credentials.renew(credentials.keys()))

    def test_limits_are_read_as_people_write_them(self):
        settings = UploadSettings(upload_bandwidth="8 Mbit/s", upload_memory="64MiB")
        self.assertEqual((settings.upload_bandwidth, settings.upload_memory), (1e6, 64 << 20))
        self.assertLessEqual(UploadSettings().upload_memory, 256 << 20)
        with self.assertRaisesRegex(ValidationError, "is no rate; write one such as 200MB/s"):
            UploadSettings(upload_bandwidth="fast")
