"""The data transfer job against a real S3 server on loopback (SeaweedFS)."""

import json
import os
import signal
import subprocess
import sys
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    ExitCode,
    SourceChangedError,
    SourceError,
    TransferError,
    VerificationError,
)
from aind_data_transfer_service.storage.base import AssetState, BufferBody
from aind_data_transfer_service.storage.layout import manifest_key, mark_key
from aind_data_transfer_service.storage.model import StoredObject, Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3_store import S3AssetStore
from aind_data_transfer_service.upload.job.events import Kind, Step
from tests.support import free_port, seaweedfs, wait_until
from tests.support.transfer import PREFIX, TransferTestCase

DOCUMENTS = {"data_description.json", "metadata.nd.json", "processing.json"}
_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


class S3TestCase(TransferTestCase):
    """Gives each test a bucket of its own."""

    destination = "s3://"

    def setUp(self):
        """Make the bucket."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.enterContext(patch.object(S3AssetStore, "list_pauses", (0.0,)))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")

    def uploads(self):
        """List unfinished multipart uploads."""
        return _server.uploads(self.bucket)


class TestUpload(S3TestCase):
    """One job."""

    def test_every_file_arrives_described_and_proven(self):
        odd = ["a b.txt", 'it\'s "x".txt', "ü+é&=%20#1?.txt", "deep/er/x", "[a]{b}|^`~.csv"]
        for name in odd:
            self.write(name, name)
        self.write("empty.txt", b"")
        for number in range(100):
            self.write(f"many/{number}.bin", os.urandom(number * 50))
        self.write("edge.bin", os.urandom(8 * 1024**2))
        self.write("large.bin", os.urandom(20 * 1024**2 + 1))
        zipped = {"modality": "behavior-videos", "source": str(self.source)}
        modalities = [
            {"modality": "behavior", "source": str(self.source)},
            {**zipped, "compress_raw_data": True},
        ]
        outcome = self.run_job(modalities=modalities)
        self.assertEqual(outcome.location, f"s3://{self.bucket}/{PREFIX}")
        stored = self.stored()
        files = [p for p in self.source.rglob("*") if p.is_file()]
        for path in files:
            name = f"behavior/{path.relative_to(self.source)}"
            self.assertEqual(stored[name], path.read_bytes(), name)
        self.assertEqual(len(stored), len(files) + len(DOCUMENTS) + 1)
        self.assertEqual(set(self.manifest()), set(stored))
        self.assertIsNone(self.store.get(mark_key(PREFIX)))
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PRESENT)
        self.assertEqual(self.uploads(), [])
        for name in ("behavior/large.bin", "behavior/a b.txt"):
            head = _server.client.head_object(
                Bucket=self.bucket, Key=f"{PREFIX}/{name}", ChecksumMode="ENABLED"
            )
            self.assertIn("ChecksumCRC64NVME", head)
        location = json.loads(stored["metadata.nd.json"])["location"]
        self.assertEqual(location, outcome.location)

    def test_a_key_beyond_what_s3_takes_is_refused_before_any_byte_moves(self):
        self.write("/".join(["d" * 100] * 10) + "/file")
        with self.assertRaisesRegex(SourceError, "bytes long, of 1024 possible"):
            self.run_job()
        self.assertEqual(self.stored(), {})

    def test_an_existing_asset_is_refused_and_one_that_begins_alike_is_not(self):
        self.write("a.txt")
        self.store.put(f"{PREFIX}_sorted/x", b"x")
        self.run_job()
        with self.assertRaises(DestinationExistsError):
            self.run_job()
        self.write("b.txt")
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)

    def test_a_failed_job_run_again_sends_only_what_is_missing(self):
        self.write("a.txt")
        self.write("large.bin", os.urandom(20 * 1024**2))
        last = self.write("z.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: last.write_bytes(b"changed"))
        with self.assertRaises(SourceChangedError):
            self.run_job(self.settings(upload_connections=1))
        self.store.put(f"{PREFIX}/behavior/left-over", b"x")
        self.run_job()
        self.assertLess(self.told.figures("transfer", "end")["files_sent"], 3)
        self.assertEqual(self.stored()["behavior/left-over"], b"x")  # no record of ours names it
        self.assertIn("left-over", " ".join(self.told.warnings()))
        self.assertEqual(self.stored()["behavior/z.txt"], b"changed")

    def test_a_large_file_that_changes_is_not_stored(self):
        path = self.write("large.bin", os.urandom(40 * 1024**2))
        grown = []

        def grow(*_):
            if not grown:
                grown.append(os.truncate(path, 41 * 1024**2))

        self.told.when(Step.TRANSFER, Kind.START, grow)
        with self.assertRaisesRegex(SourceChangedError, "large.bin"):
            self.run_job()
        self.assertEqual(self.stored(), {})
        self.assertEqual(self.uploads(), [])

    def test_an_upload_that_breaks_off_half_way_leaves_nothing_behind(self):
        other = _server.client.create_multipart_upload(Bucket=self.bucket, Key="a/x.bin.2")

        def parts():
            yield from [BufferBody(os.urandom(8 * 1024**2))] * 4
            raise SourceChangedError("it changed")

        with self.assertRaisesRegex(SourceChangedError, "it changed"):
            self.store.put_parts("a/x.bin", parts(), 8 * 1024**2)
        left = [upload["UploadId"] for upload in self.uploads()]
        self.assertEqual(left, [other["UploadId"]], "that of another file is let alone")

    def test_a_name_that_no_xml_can_hold_is_refused_before_any_byte_moves(self):
        self.write("u\uffffv")
        with self.assertRaisesRegex(SourceError, "U\\+FFFF"):
            self.run_job()

    def test_an_object_replaced_before_verification_is_found(self):
        self.write("a.txt")
        replace = lambda: self.store.put(f"{PREFIX}/behavior/a.txt", b"DATA")  # noqa: E731
        self.told.when(Step.VERIFY, Kind.START, replace)
        with self.assertRaisesRegex(VerificationError, "a.txt was replaced there"):
            self.run_job()
        self.assertIsNone(self.store.get(manifest_key(PREFIX)))

    def test_what_the_server_lists_by_another_name_is_read_back(self):
        """As `rclone serve s3` does with objects that were made of parts."""
        self.write("a.txt")
        self.write("b.txt")
        listed = S3AssetStore.objects

        def objects(store, prefix, cuts=()):
            for found in listed(store, prefix, cuts):
                other = found.key.endswith("a.txt")
                yield StoredObject(found.key, found.size, '"other"') if other else found

        with patch.object(S3AssetStore, "objects", objects):
            self.run_job()
        self.assertEqual(self.manifest()["behavior/a.txt"].etag, '"other"')
        self.assertNotEqual(self.manifest()["behavior/b.txt"].etag, '"other"')
        self.assertIn("lists 1 files with other ETags", " ".join(self.told.warnings()))

    def test_a_long_list_is_the_same_in_pieces(self):
        for number in range(2_100):
            self.write(f"{number % 7}/{number:04}.bin", b"data")
        self.run_job()
        whole = sorted(found.key for found in self.store.objects(PREFIX))
        self.assertEqual(len(whole), 2_103)
        for step in (10, 500, 900):
            cut = sorted(found.key for found in self.store.objects(PREFIX, whole[step::step]))
            self.assertEqual(cut, whole)

    def test_a_server_with_an_order_of_its_own_makes_no_file_missing(self):
        """SeaweedFS goes through folders: it has `0/…` before `0-1`, and S3 after it."""
        for number in range(1_000):
            self.write(f"0/{number:04}.bin", b"data")
            self.write(f"0-{number:04}.bin", b"data")
        self.run_job()
        self.assertEqual(len(self.manifest()), 2_003)

    def test_the_server_itself_refuses_a_body_that_its_checksum_does_not_fit(self):
        """Every way in which bytes are sent: the checksum that comes along is of other bytes."""
        window, parts = Window(2), [os.urandom(5 * 1024**2), b"rest"]
        for algorithm in Algorithm:
            with patch.dict(os.environ, {"AWS_CHECKSUM_ALGORITHM": algorithm.value}):
                store = self.store
            right = Algorithm.of_chunks
            wrong = lambda found, chunks: right(found, (b"other bytes",))  # noqa: E731
            for name, send in (
                ("put", lambda: store.put("x", b"damaged")),
                ("put_all", lambda: list(store.put_all([("x", b"damaged")], window))),
                ("put_parts", lambda: store.put_parts("x", map(BufferBody, parts), 5 * 1024**2)),
            ):
                with self.subTest(name, algorithm=algorithm):
                    with patch.object(Algorithm, "of_chunks", wrong):
                        with self.assertRaisesRegex(
                            TransferError, "3 times: the network or the server damages data"
                        ):
                            send()
                    self.assertEqual(list(store.objects("")), [])
                    self.assertEqual(self.uploads(), [])

    def test_an_unfinished_upload_is_found_by_its_own_key_whatever_is_in_it(self):
        """SeaweedFS says of this list that its keys are encoded, and does not encode them."""
        key = "a/x+y %20z.bin"
        _server.client.create_multipart_upload(Bucket=self.bucket, Key=key)
        (found,) = self.store.unfinished("a")
        self.assertEqual(found.key, key)
        self.store.abort(found)
        self.assertEqual(self.uploads(), [])

    def test_an_answer_to_head_leaves_its_connection_as_it_was(self):
        self.store.put("a/x", b"12345")
        client = self.store._client
        for _ in range(3):
            self.assertEqual(client.head("a/x")["content-length"], "5")
            self.assertEqual(client.fetch("a/x")[0], b"12345")
            self.assertIsNone(client.head("a/none"))

    def test_wrong_credentials_and_a_missing_bucket_are_told_in_words(self):
        self.write("a.txt")
        with patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "wrong"}):
            with self.assertRaisesRegex(DestinationError, "not allowed to .*InvalidAccessKeyId"):
                self.run_job(self.settings(upload_retry_seconds=0.5))
        with self.assertRaisesRegex(DestinationError, 'no bucket "not-there"'):
            self.run_job(s3_bucket="not-there")

    def test_a_server_that_is_not_there_is_told_in_seconds_where_a_person_waits(self):
        store = open_store("s3://", "bucket", f"http://127.0.0.1:{free_port()}", quick=True)
        with self.assertRaisesRegex(DestinationError, "s3://bucket.*no answer from http"):
            store.asset_state("a")

    def test_states_of_many_assets_take_few_questions(self):
        self.store.put("a/x", b"")
        self.store.put(mark_key("b"), b"{}")
        states = self.store.asset_states(["a", "b", *(f"n{i}" for i in range(50))])
        self.assertEqual((states["a"], states["b"]), (AssetState.PRESENT, AssetState.PARTIAL))
        self.assertEqual(states["n7"], AssetState.ABSENT)

    def test_an_object_can_be_read_in_pieces_and_deleted_twice(self):
        self.store.put("a/x", b"12345")
        self.assertEqual(b"".join(self.store.read("a/x", 2)), b"12345")
        self.store.delete(["a/x", "a/none"])
        self.store.delete([])
        self.assertIsNone(self.store.get("a/x"))
        with self.assertRaises(DestinationError):
            list(self.store.read("a/x", 2))


class TestProcess(S3TestCase):
    """The job as a process that is stopped in the middle."""

    def setUp(self):
        """Make a session that takes a while."""
        super().setUp()
        for number in range(300):
            self.write(f"{number:03}.bin", os.urandom(2000))
        self.write("large.bin", os.urandom(60 * 1024**2))
        self.journal = self.folder / "data/transfers" / self.bucket / PREFIX / "journal.jsonl"

    def start(self):
        """Start the job."""
        environment = {
            **os.environ,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "UPLOAD_CONNECTIONS": "2",
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "aind_data_transfer_service.upload"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop_in_the_middle(self, number):
        """Start the job, send a signal when something has arrived, and wait for its end."""
        job = self.start()
        arrived = lambda: self.journal.exists() and self.journal.stat().st_size > 3000  # noqa: E731
        wait_until(arrived, 30, "files to arrive")
        job.send_signal(number)
        _, errors = job.communicate(timeout=60)
        return job.returncode, errors

    def check_the_second_run(self):
        """Run the job again and see that it went on."""
        self.run_job()
        figures = self.told.figures("transfer", "end")
        self.assertLess(figures["files_sent"], 295)
        stored = self.stored()
        for path in self.source.iterdir():
            self.assertEqual(stored[f"behavior/{path.name}"], path.read_bytes())
        self.assertEqual(len(stored), 301 + len(DOCUMENTS))
        self.assertEqual(seaweedfs.parts_left(_server, self.bucket), [])

    def test_killed_and_started_again_it_goes_on(self):
        code, _ = self.stop_in_the_middle(signal.SIGKILL)
        self.assertEqual(code, -signal.SIGKILL)
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PARTIAL)
        self.check_the_second_run()

    def test_told_to_stop_it_ends_cleanly_and_can_be_started_again(self):
        code, errors = self.stop_in_the_middle(signal.SIGTERM)
        self.assertEqual(code, ExitCode.TERMINATED)
        self.assertIn("terminated by SIGTERM", errors.splitlines()[-1])
        self.check_the_second_run()
