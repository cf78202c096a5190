"""What SeaweedFS cannot play: Amazon's ways to credentials, and uploads left behind."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import boto3

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.storage.base import AssetStore, BufferBody
from aind_data_transfer_service.storage.model import Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.probes import check_conditions, probe
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

    def test_objects_are_stored_as_settings_say(self):
        self.with_keys()
        settings = {
            "S3_ENCRYPTION": "aws:kms",
            "S3_KMS_KEY_ID": "alias/lab",
            "S3_BUCKET_KEY": "true",
            "S3_STORAGE_CLASS": "STANDARD_IA",
            "S3_TAGS": "project=brain map&lab=north",
        }
        with patch.dict(os.environ, settings):
            store = self.open()
        store.put("asset/document.json", b"{}")
        list(store.put_all([("asset/x.csv", b"1")], Window()))
        store.put_parts("asset/large.json", map(BufferBody, [b"1" * (5 << 20), b"2"]), 5 << 20)
        client = boto3.client("s3", endpoint_url=self.url)
        for key, stored_as, kind in (
            ("asset/document.json", None, "application/json"),
            ("asset/x.csv", "STANDARD_IA", "text/csv"),
            ("asset/large.json", "STANDARD_IA", "application/json"),
        ):
            found = client.head_object(Bucket=BUCKET, Key=key)
            self.assertEqual(found["ServerSideEncryption"], "aws:kms", key)
            self.assertEqual(found["SSEKMSKeyId"], "alias/lab", key)
            self.assertEqual(found.get("StorageClass"), stored_as, key)
            self.assertEqual(found["ContentType"], kind, key)
            tags = client.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
            named = {tag["Key"]: tag["Value"] for tag in tags}
            self.assertEqual(named, {"project": "brain map", "lab": "north"}, key)

    def test_a_storage_class_that_the_store_refuses_is_found_before_the_transfer(self):
        self.with_keys()
        for name, words in (
            ("NONSENSE", r"InvalidStorageClass: .*storage class of S3_STORAGE_CLASS \(NONSENSE\)"),
            ("GLACIER", "S3_STORAGE_CLASS is GLACIER, whose objects cannot be read"),
        ):
            with patch.dict(os.environ, {"S3_STORAGE_CLASS": name}):
                with self.assertRaisesRegex(DestinationError, words):
                    probe(self.open(), "classes")
        with patch.dict(os.environ, {"S3_STORAGE_CLASS": "STANDARD_IA"}):
            probe(self.open(), "classes")
        records = {"Bucket": BUCKET, "Prefix": ".transfer/classes/"}
        self.assertNotIn("Contents", self.client.list_objects(**records))
        self.assertNotIn("Uploads", self.client.list_multipart_uploads(**records))

    def test_an_archived_object_is_named_when_it_is_read(self):
        self.with_keys()
        with patch.dict(os.environ, {"S3_STORAGE_CLASS": "DEEP_ARCHIVE"}):
            store = self.open()
        list(store.put_all([("asset/x.csv", b"1")], Window()))
        store.put(".transfer/asset/manifest.jsonl", b"{}")
        self.assertEqual(store.get(".transfer/asset/manifest.jsonl"), b"{}")
        with self.assertRaisesRegex(DestinationError, "archive storage class; restore it first"):
            list(store.read("asset/x.csv", 1))

    def test_a_bucket_with_object_lock_takes_objects(self):
        self.with_keys()
        client = boto3.client("s3", endpoint_url=self.url)
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        retention = {"Mode": "GOVERNANCE", "Days": 1}
        rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        client.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=rule)
        store = open_store("s3://", "locked", self.url)
        probe(store, "asset")
        list(store.put_all([("asset/x.csv", b"1")], Window()))
        store.put_parts("asset/large", map(BufferBody, [b"1" * (5 << 20), b"2"]), 5 << 20)
        self.assertEqual(store.get("asset/x.csv"), b"1")
        found = client.head_object(Bucket="locked", Key="asset/x.csv")
        self.assertEqual(found["ObjectLockMode"], "GOVERNANCE")

    def test_uploads_left_behind_are_found_beneath_their_asset_and_aborted_by_their_id(self):
        self.with_keys()
        for key in ("asset/x", "asset/y", "asset_2/x"):
            self.client.create_multipart_upload(Bucket=BUCKET, Key=key)
        store = self.open()
        store.clear_unfinished("asset")
        found = sorted(store.unfinished("asset"), key=lambda upload: upload.key)
        self.assertEqual([upload.key for upload in found], ["asset/x", "asset/y"])
        store.abort(found[0])
        left = self.client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
        self.assertEqual([upload["Key"] for upload in left], ["asset/y", "asset_2/x"])

    def test_conditional_writes_are_found(self):
        self.with_keys()
        store = self.open()
        self.assertEqual(list(check_conditions(store, "asset")), [])
        self.assertTrue(store.conditional)

    def test_a_new_object_never_replaces_another(self):
        self.with_keys()
        self.open().put("asset/mark", b"1", new=True)
        with self.assertRaises(FileExistsError):
            self.open().put("asset/mark", b"2", new=True)

    def test_a_bucket_that_is_not_there_is_told(self):
        self.with_keys()
        with self.assertRaisesRegex(DestinationError, 'no bucket "other-bucket"'):
            open_store("s3://", "other-bucket", self.url).asset_state("a")
        with self.assertRaisesRegex(DestinationError, 'no bucket "other-bucket"'):
            list(open_store("s3://", "other-bucket", self.url).unfinished("a"))

    def test_every_call_fails_in_words_where_there_is_no_server(self):
        self.with_keys()
        store = open_store("s3://", BUCKET, f"http://127.0.0.1:{free_port()}", quick=True)
        for call in (
            lambda: store.get("a"),
            lambda: store.put("a", b""),
            lambda: store.put_parts("a", iter([BufferBody(b"x")]), 5 << 20),
            lambda: store.delete(["a"]),
            lambda: store.folders(),
        ):
            with self.assertRaisesRegex(Exception, "^cannot [a-z]+ s3://test-bucket/a?"):
                call()

    def test_an_address_that_is_none_is_told(self):
        self.with_keys()
        with self.assertRaisesRegex(DestinationError, "no address.* is no address"):
            open_store("s3://", BUCKET, "no address")
