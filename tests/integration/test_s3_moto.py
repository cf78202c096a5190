"""What SeaweedFS cannot play: Amazon's ways to credentials, and uploads left behind."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import boto3

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.upload.store import AssetStore, open_store
from tests.support import free_port, missing

BUCKET = "test-bucket"


class TestAmazon(unittest.TestCase):
    """A server that plays S3 and STS."""

    @classmethod
    def setUpClass(cls):
        """Start it."""
        try:
            from moto.server import ThreadedMotoServer
        except ImportError:
            raise missing("moto (pip install moto[server])")
        cls.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        cls.server.start()
        host, port = cls.server.get_host_and_port()
        cls.url = f"http://127.0.0.1:{port}"
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        """Make a bucket, and forget this machine's own ways to credentials."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        environment |= {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "credentials"),
            "AWS_CONFIG_FILE": str(self.folder / "config"),
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        self.client = boto3.client("s3", region_name="us-east-1", **self.keys)
        self.client.create_bucket(Bucket=BUCKET)

    def open(self) -> AssetStore:
        """Open the bucket."""
        return open_store("s3://", BUCKET, self.url)

    def test_a_profile_that_takes_on_a_role_is_used(self):
        lines = [f"{name}={value}" for name, value in self.keys.items()]
        (self.folder / "credentials").write_text("\n".join(["[base]", *lines]))
        (self.folder / "config").write_text(
            "[profile lab]\nrole_arn=arn:aws:iam::123456789012:role/uploader\n"
            "source_profile=base\nregion=us-east-1\n"
        )
        with patch.dict(os.environ, {"AWS_PROFILE": "lab"}):
            self.open().put("asset/x", b"1")
            self.assertEqual(self.open().get("asset/x"), b"1")

    def test_no_credentials_at_all_are_told_with_what_to_set(self):
        with self.assertRaisesRegex(DestinationError, "set AWS_ACCESS_KEY_ID"):
            self.open()

    def with_keys(self):
        """Set keys in the environment."""
        keys = {name.upper(): value for name, value in self.keys.items()}
        self.enterContext(patch.dict(os.environ, {**keys, "AWS_DEFAULT_REGION": "us-east-1"}))

    def test_uploads_left_behind_are_removed_beneath_their_asset_alone(self):
        self.with_keys()
        for key in ("asset/x", "asset_2/x"):
            self.client.create_multipart_upload(Bucket=BUCKET, Key=key)
        self.open().clear_unfinished("asset")
        left = self.client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
        self.assertEqual([upload["Key"] for upload in left], ["asset_2/x"])

    def test_a_new_object_never_replaces_another(self):
        self.with_keys()
        self.open().put("asset/mark", b"1", new=True)
        with self.assertRaises(FileExistsError):
            self.open().put("asset/mark", b"2", new=True)

    def test_a_bucket_that_is_not_there_is_told(self):
        self.with_keys()
        with self.assertRaisesRegex(DestinationError, 'no bucket "other-bucket"'):
            open_store("s3://", "other-bucket", self.url).create()
        with self.assertRaisesRegex(DestinationError, 'no bucket "other-bucket"'):
            open_store("s3://", "other-bucket", self.url).clear_unfinished("a")

    def test_every_call_fails_in_words_where_there_is_no_server(self):
        self.with_keys()
        store = open_store("s3://", BUCKET, f"http://127.0.0.1:{free_port()}", quick=True)
        for call in (
            lambda: store.get("a"),
            lambda: store.put("a", b""),
            lambda: store.put_parts("a", iter([b"x"]), 5 << 20),
            lambda: store.delete(["a"]),
            lambda: store.folders(),
        ):
            with self.assertRaisesRegex(Exception, "^cannot [a-z]+ s3://test-bucket/a?"):
                call()

    def test_an_address_that_is_none_is_told(self):
        self.with_keys()
        with self.assertRaisesRegex(DestinationError, "no address.* is no address"):
            open_store("s3://", BUCKET, "no address")
