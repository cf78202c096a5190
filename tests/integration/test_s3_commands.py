"""`verify` and `clean` against a real S3 server on loopback (SeaweedFS)."""

import contextlib
import io
import json
import os
import uuid
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.storage.layout import mark_key
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from tests.support import seaweedfs
from tests.support.transfer import PREFIX, TransferTestCase

_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(arguments)
    return code, out.getvalue(), err.getvalue()


class S3CommandTestCase(TransferTestCase):
    """Gives each test a bucket of its own."""

    destination = "s3://"

    def setUp(self):
        """Make the bucket."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.asset = f"s3://{self.bucket}/{PREFIX}"


class TestVerify(S3CommandTestCase):
    """An asset proven again."""

    def setUp(self):
        """Bring the asset."""
        super().setUp()
        for name in ("a.txt", "a-b.txt", "aa/b.txt", "ü/é.txt"):
            self.write(name, name)
        self.write("large.bin", os.urandom(20 * 1024**2 + 1))
        self.run_job()

    def test_an_untouched_asset_is_proven_by_listing_and_by_reading(self):
        for arguments in ((), ("--deep",)):
            code, out, err = run("verify", *arguments, self.asset)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("8 files", out)

    def test_whatever_was_done_to_it_is_found(self):
        large = f"{PREFIX}/behavior/large.bin"
        self.store.put(f"{PREFIX}/behavior/a.txt", b"A.TXT")
        self.store.put(f"{PREFIX}/behavior/foreign", b"")
        self.store.delete([large])
        for arguments in ((), ("--deep",)):
            code, out, _ = run("verify", "--json", *arguments, self.asset)
            self.assertEqual(code, ExitCode.VERIFICATION)
            found = {d["path"]: d["fault"] for d in json.loads(out)["differences"]}
            changed = "bytes" if arguments else "replaced"
            self.assertEqual(
                found,
                {
                    "behavior/a.txt": changed,
                    "behavior/foreign": "foreign",
                    "behavior/large.bin": "missing",
                },
            )

    def test_a_long_list_is_compared_as_a_whole(self):
        for number in range(1_000):
            self.write(f"0/{number:04}.bin", b"data")
            self.write(f"0-{number:04}.bin", b"data")
        self.run_job(force_cloud_sync=True)
        self.assertIn("2,008 files", run("verify", self.asset)[1])
        missing = [f"{PREFIX}/behavior/0/0950.bin", f"{PREFIX}/behavior/0-0003.bin"]
        self.store.delete(missing)
        code, out, _ = run("verify", "--json", self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        found = {f"{PREFIX}/{d['path']}": d["fault"] for d in json.loads(out)["differences"]}
        self.assertEqual(found, dict.fromkeys(missing, "missing"))

    def test_a_bucket_that_is_not_there_is_told(self):
        code, _, err = run("verify", f"s3://nowhere-{uuid.uuid4().hex}/asset")
        self.assertEqual(code, ExitCode.DESTINATION)
        self.assertIn("nowhere-", err)


class TestClean(S3CommandTestCase):
    """What dead jobs leave behind."""

    def note(self, key: str, upload_id: str) -> None:
        """Note an upload as the job does that begins it."""
        asset, _, path = key.partition("/")
        state = self.folder / "data" / "transfers" / self.bucket / asset
        with Journal(state / "journal.jsonl") as journal:
            Ledger(journal).checkpoint_for(path, "source").start(
                upload_id, 5 * 1024**2, "CRC64NVME"
            )

    def test_unfinished_uploads_are_told_and_removed_when_they_are_old_enough(self):
        client = _server.client
        self.enterContext(patch.dict(os.environ, {"DATA_DIR": str(self.folder / "data")}))
        self.store.put(mark_key(PREFIX), b'{"alive": null}')  # of a job that ended
        keys = (f"{PREFIX}/behavior/large.bin", "backups/somebody-elses.bin")
        for key in keys:
            begun = client.create_multipart_upload(Bucket=self.bucket, Key=key)
            client.upload_part(
                Bucket=self.bucket,
                Key=key,
                UploadId=begun["UploadId"],
                PartNumber=1,
                Body=bytes(5 * 1024**2),
            )
            self.note(key, begun["UploadId"])
        bucket = f"s3://{self.bucket}"
        for arguments, words, left in (
            ((), "stays", 2),
            (("--older-than", "0m", "--dry-run"), "would remove", 2),
            (("--older-than", "0m"), "removed", 1),
        ):
            code, out, err = run("clean", bucket, *arguments)
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, f"{words} +unfinished upload of {bucket}/{keys[0]}")
            self.assertIn("of no asset of ours", out)
            uploads = _server.uploads(self.bucket)
            self.assertEqual(len(uploads), left)
