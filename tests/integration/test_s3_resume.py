"""Large files that go on where they stopped, against a real S3 server (SeaweedFS)."""

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import ExitCode, SourceError, TerminatedError, TransferError
from aind_data_transfer_service.source_paths import drive_retry
from aind_data_transfer_service.storage.s3.client import S3Client
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.job.send_and_verify import Delivery
from aind_data_transfer_service.upload.plan.plan import MEBI, PART_SIZE
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.source.file_parts import Stretch
from aind_data_transfer_service.upload.transfer import engine
from tests.support import seaweedfs, wait_until
from tests.support.scripted import Scripted
from tests.support.transfer import PREFIX, TransferTestCase

SIZE = 100 * MEBI + 7
PARTS = SIZE // PART_SIZE + 1
_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


def _interrupt():
    """Cancel the job, as Ctrl-C does."""
    raise KeyboardInterrupt


def _terminate():
    """End the job, as a time limit does."""
    raise TerminatedError("terminated")


class TestResume(TransferTestCase):
    """A job that is ended in the middle of a large file, and the next one."""

    destination = "s3://"
    terminates = signal.SIGTERM

    def setUp(self):
        """Make a bucket, and a session of one large file and some small ones."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.large = self.write("large.bin", os.urandom(SIZE))
        for number in range(5):
            self.write(f"{number}.bin", os.urandom(3000))
        self.journal = self.folder / "data/transfers" / self.bucket / PREFIX / "journal.jsonl"

    def uploads(self):
        """List unfinished multipart uploads."""
        return _server.uploads(self.bucket)

    def lines(self, name):
        """Read the lines of the journal that hold something."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_bytes().split(b"\n")[:-1]
        return [line for line in map(json.loads, lines) if name in line]

    def stop_in_the_middle(self, number, parts=3, **variables):
        """Start a job, slowly, and end it once some parts have arrived."""
        environment = {
            **os.environ,
            **variables,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "UPLOAD_CONNECTIONS": "2",
            "UPLOAD_BANDWIDTH": "40MB/s",
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
        }
        command = [sys.executable, "-m", "aind_data_transfer_service.upload"]
        job = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        known = len(self.lines("part"))
        wait_until(lambda: len(self.lines("part")) >= known + parts, 60, "parts to arrive")
        job.send_signal(number)
        job.communicate(timeout=10)
        return job.returncode

    def run_and_count(self):
        """Run the job, and tell which parts it sends."""
        sent = []
        send_part = S3Client.send_part

        def counted(client, key, upload_id, number, *rest):
            sent.append(number)
            return send_part(client, key, upload_id, number, *rest)

        with patch.object(S3Client, "send_part", counted):
            self.run_job()
        return sent

    def check_whole(self):
        """See that everything is there, proven, and that nothing is left behind."""
        stored = self.stored()
        for path in self.source.iterdir():
            self.assertEqual(stored[f"behavior/{path.name}"], path.read_bytes())
        digest = hashlib.sha256(self.large.read_bytes()).hexdigest()
        self.assertEqual(self.manifest()["behavior/large.bin"].sha256, digest)
        self.assertEqual(self.uploads(), [])
        head = _server.client.head_object(
            Bucket=self.bucket, Key=f"{PREFIX}/behavior/large.bin", ChecksumMode="ENABLED"
        )
        self.assertIn("ChecksumCRC64NVME", head)

    def check_that_only_missing_parts_are_sent(self):
        """Run the job again, and see that it goes on from the parts that arrived."""
        arrived = {line["part"]["number"] for line in self.lines("part")}
        self.assertEqual(len(self.uploads()), 1)
        sent = self.run_and_count()
        self.assertFalse(arrived & set(sent))
        self.assertEqual(len(set(sent)), len(sent))
        self.check_whole()

    def test_killed_in_a_large_file_only_missing_parts_are_sent(self):
        self.assertEqual(self.stop_in_the_middle(signal.SIGKILL), -signal.SIGKILL)
        self.check_that_only_missing_parts_are_sent()

    def test_terminated_in_a_large_file_only_missing_parts_are_sent(self):
        """As at a time limit, or when the node is drained or the terminal is gone."""
        self.assertEqual(self.stop_in_the_middle(self.terminates), ExitCode.TERMINATED)
        self.check_that_only_missing_parts_are_sent()

    def test_before_a_time_limit_parts_in_flight_arrive_and_are_counted(self):
        events = self.folder / "events.jsonl"
        code = self.stop_in_the_middle(signal.SIGUSR1, UPLOAD_EVENTS_FILE=str(events))
        self.assertEqual(code, ExitCode.TIME_LIMIT)
        said = json.loads(events.read_bytes().splitlines()[-1])["message"]
        [upload] = self.uploads()
        where = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        parts = _server.client.list_parts(**where)["Parts"]
        noted = {line["part"]["number"] for line in self.lines("part")}
        self.assertEqual(noted, {part["PartNumber"] for part in parts})
        kept = sum(part["Size"] for part in parts) + sum(
            item["Size"]
            for item in _server.client.list_objects_v2(
                Bucket=self.bucket, Prefix=f"{PREFIX}/behavior/"
            ).get("Contents", [])
        )
        self.assertRegex(said, f"stopped before its time limit: {kept:,} of [0-9,]+ bytes are kept")
        self.assertIn("submit again with a longer time limit", said)
        self.check_that_only_missing_parts_are_sent()

    def test_after_a_lasting_fault_of_the_drive_only_missing_parts_are_sent(self):
        preadv = os.preadv

        def faulty(file, buffers, offset, *flags):
            if offset >= SIZE // 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return preadv(file, buffers, offset, *flags)

        with patch.object(drive_retry, "DELAYS", (0.0,)), patch.object(os, "preadv", faulty):
            with self.assertRaisesRegex(SourceError, "EIO"):
                self.run_job()
        self.assertTrue(self.lines("part"))
        self.check_that_only_missing_parts_are_sent()

    def test_a_job_that_a_user_cancelled_leaves_no_parts_behind(self):
        """By Ctrl-C, or on the page: then its executor left word before it sent the signal."""
        self.assertEqual(self.stop_in_the_middle(signal.SIGINT), ExitCode.CANCELLED)
        self.assertEqual(self.uploads(), [])
        word = self.folder / "cancel"
        word.touch()
        code = self.stop_in_the_middle(signal.SIGTERM, UPLOAD_CANCEL_FILE=str(word))
        self.assertEqual(code, ExitCode.CANCELLED)
        self.assertEqual(self.uploads(), [])
        self.assertEqual(len(self.run_and_count()), PARTS)
        self.check_whole()

    def test_a_user_who_cancels_before_the_transfer_leaves_no_parts_of_earlier_attempts(self):
        self.stop_in_the_middle(self.terminates)
        self.assertEqual(len(self.uploads()), 1)
        silent = Scripted(lambda _: None)
        self.addCleanup(silent.stop)
        environment = {
            **os.environ,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "METADATA_SERVICE_URL": silent.url,
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
        }
        command = [sys.executable, "-m", "aind_data_transfer_service.upload"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as job:
            try:
                wait_until(lambda: silent.requests, 60, "the job to ask for metadata")
                began = time.monotonic()
                job.send_signal(signal.SIGINT)
                self.assertEqual(job.wait(30), ExitCode.CANCELLED)
                self.assertLess(time.monotonic() - began, 10)
            finally:
                job.kill()
        self.assertEqual(self.uploads(), [])
        self.assertEqual(len(self.run_and_count()), PARTS)
        self.check_whole()

    def test_so_does_one_who_cancels_while_it_is_found_out_what_is_there(self):
        self.stop_in_the_middle(signal.SIGKILL)
        self.assertEqual(len(self.uploads()), 1)
        with patch.object(Delivery, "_already_there", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                self.run_job()
        self.assertEqual(self.uploads(), [])

    def test_parts_stay_if_another_job_has_the_asset_or_the_job_is_terminated(self):
        self.stop_in_the_middle(signal.SIGKILL)
        state_dir = self.folder / "data/transfers" / self.bucket / PREFIX
        with open(state_dir / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.told.when(Step.METADATA, Kind.START, _interrupt)
            with self.assertRaises(KeyboardInterrupt):
                self.run_job()
        self.assertRegex(self.told.warnings()[-1], "may be left: another job .* clean` removes")
        self.told.when(Step.METADATA, Kind.START, _terminate)
        with self.assertRaises(TerminatedError):
            self.run_job()
        self.assertEqual(len(self.uploads()), 1)

    def test_an_upload_that_the_server_forgot_is_begun_anew(self):
        self.stop_in_the_middle(signal.SIGKILL)
        (upload,) = self.uploads()
        _server.client.abort_multipart_upload(
            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
        self.assertEqual(len(self.run_and_count()), PARTS)
        self.check_whole()

    def test_a_source_that_changed_meanwhile_is_sent_whole(self):
        self.stop_in_the_middle(signal.SIGKILL)
        self.large.write_bytes(os.urandom(88 * MEBI))
        self.assertEqual(len(self.run_and_count()), 88 * MEBI // PART_SIZE)
        self.check_whole()

    def test_a_source_that_changed_without_its_time_doing_so_is_noticed(self):
        self.stop_in_the_middle(signal.SIGKILL)
        arrived = {line["part"]["number"] for line in self.lines("part")}
        changed, status = min(arrived), self.large.stat()
        with open(self.large, "r+b") as file:
            file.seek((changed - 1) * PART_SIZE)
            file.write(b"otherwise")
        os.utime(self.large, ns=(status.st_atime_ns, status.st_mtime_ns))
        sent = self.run_and_count()
        self.assertIn(changed, sent)
        self.assertLess(len(sent), PARTS)
        self.assertIn("the source changed without its time", " ".join(self.told.warnings()))
        self.check_whole()

    def test_parts_are_removed_if_another_machine_brought_the_file_meanwhile(self):
        self.stop_in_the_middle(self.terminates)
        self.run_job(self.settings(upload_state_dir=self.folder / "another machine"))
        self.assertEqual(len(self.uploads()), 1)
        self.run_job(force_cloud_sync=True)
        self.check_whole()

    def test_killed_after_the_last_part_nothing_is_sent_again(self):
        """The server has the object, and the job did not live to note so.

        Nor did the one before it live to note the last part that it sent.
        """
        self.stop_in_the_middle(signal.SIGKILL)
        lines = self.journal.read_bytes().splitlines(keepends=True)
        lines.remove([line for line in lines if b'"part"' in line][-1])
        noted = b"".join(lines)
        self.journal.write_bytes(noted)
        with patch.object(S3Client, "complete_upload", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                self.run_job()
        self.assertGreater(len(self.journal.read_bytes()), len(noted))
        (begun,), parts = self.lines("upload"), self.lines("part")
        listed = [
            {"PartNumber": line["part"]["number"], "ETag": line["part"]["etag"]} for line in parts
        ]
        _server.client.complete_multipart_upload(
            Bucket=self.bucket,
            Key=f"{PREFIX}/behavior/large.bin",
            UploadId=begun["upload"]["upload_id"],
            MultipartUpload={"Parts": sorted(listed, key=lambda part: part["PartNumber"])},
        )
        self.assertEqual(self.run_and_count(), [])
        self.check_whole()


class TestResumeOfShards(TestResume):
    """A shard that is ended in the middle of a large file, and who does its part then."""

    terminates = signal.SIGHUP

    def setUp(self):
        """Have the first of two shards send the large file."""
        super().setUp()
        self.single = self.journal
        self.journal = self.single.parent / "shards" / Shard(1, 2).name / self.single.name

    def stop_in_the_middle(self, number, parts=3, **variables):
        """Start a shard, slowly, and end it once some parts have arrived."""
        variables |= {"JOB_ID": "one", "UPLOAD_SHARD": "1/2"}
        return super().stop_in_the_middle(number, parts, **variables)

    def run_job(self, *args, **more):
        """Run the job that completes what shards began."""
        return super().run_job(self.settings(job_id="one", upload_shards_done=2))

    test_killed_after_the_last_part_nothing_is_sent_again = None
    test_parts_are_removed_if_another_machine_brought_the_file_meanwhile = None
    test_after_a_lasting_fault_of_the_drive_only_missing_parts_are_sent = None  # it is no shard

    def test_killed_once_more_it_still_goes_on(self):
        """What the shard has noted, and what the last job adds to it, is known together."""
        self.stop_in_the_middle(signal.SIGKILL)
        first = {line["part"]["number"] for line in self.lines("part")}
        self.journal = self.single
        environment = {"JOB_ID": "one", "UPLOAD_SHARDS_DONE": "2"}
        TestResume.stop_in_the_middle(self, signal.SIGKILL, 2, **environment)
        second = {line["part"]["number"] for line in self.lines("part")}
        self.assertFalse(first & second)
        self.assertEqual(self.lines("upload"), [])
        self.assertFalse((first | second) & set(self.run_and_count()))
        self.check_whole()


class TestResumeOfHugeFiles(TestResume):
    """The next one, where parts are too large to be held in memory."""

    terminates = signal.SIGQUIT

    def setUp(self):
        """Take all parts for such."""
        super().setUp()
        self.enterContext(patch.object(engine, "_LONGEST_READ", MEBI))

    def test_a_byte_that_changed_between_hashing_and_sending_is_refused_by_the_server(self):
        status, first = self.large.stat(), Stretch.read_and_hash
        other = bytes([self.large.read_bytes()[0] ^ 1])

        def changed(stretch):
            yield from first(stretch)
            with open(self.large, "r+b") as file:
                file.write(other)
            os.utime(self.large, ns=(status.st_atime_ns, status.st_mtime_ns))

        with patch.object(Stretch, "read_and_hash", changed):
            with self.assertRaisesRegex(TransferError, "what arrived was not what was sent"):
                self.run_job()
        self.assertIsNone(self.store.get(f"{PREFIX}/behavior/large.bin"))
