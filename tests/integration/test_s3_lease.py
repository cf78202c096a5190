"""The lease on an asset, and what is never deleted, against a real S3 server (SeaweedFS)."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import DestinationExistsError, ExitCode, TransferError
from aind_data_transfer_service.storage.base import AssetState, PreconditionFailed
from aind_data_transfer_service.storage.layout import mark_key
from aind_data_transfer_service.storage.model import Unfinished
from aind_data_transfer_service.storage.probes import check_conditions
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.lease import (
    Timing,
    new_record,
    read_lease,
    write_lease,
)
from aind_data_transfer_service.upload.resume.lease_contention import silent_for
from aind_data_transfer_service.upload.verify.audit import audit
from tests.support import seaweedfs, wait_until
from tests.support.fault_proxy import FaultProxy, Seeded, Trouble
from tests.support.transfer import PREFIX, Told, TransferTestCase

KEY = mark_key(PREFIX)
MEBI = 1024**2
NOW = datetime(2024, 2, 19, tzinfo=UTC)
SHORT = Timing(ttl=1.5, interval=0.2, margin=0.5, look_every=0.1)
ROOT = Path(__file__).parents[2]
_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


class S3LeaseTestCase(TransferTestCase):
    """Gives each test a bucket of its own."""

    destination = "s3://"

    def setUp(self):
        """Make the bucket."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")

    def uploads(self):
        """List the multipart uploads that are not completed."""
        return _server.uploads(self.bucket)

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload as other software does, and return its id."""
        begun = _server.client.create_multipart_upload(Bucket=self.bucket, Key=key)
        more = {"UploadId": begun["UploadId"], "PartNumber": 1, "Body": bytes(5 * MEBI)}
        _server.client.upload_part(Bucket=self.bucket, Key=key, **more)
        return begun["UploadId"]

    def clean(self, *arguments: str) -> tuple[int, str, str]:
        """Run `clean` on the bucket."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with patch.dict(os.environ, {"DATA_DIR": str(self.folder / "data")}):
                code = main.main(["clean", f"s3://{self.bucket}", *arguments])
        return code, out.getvalue(), err.getvalue()


class TestConditions(S3LeaseTestCase):
    """Conditional writes."""

    def test_the_server_supports_them_and_preflight_finds_that(self):
        self.assertEqual(list(check_conditions(self.store, PREFIX)), [])
        self.assertEqual(list(self.store.objects(f".transfer/{PREFIX}")), [])

    def test_an_object_is_replaced_only_if_it_is_the_one_that_was_seen(self):
        store = self.store
        etag = store.put("a", b"1", new=True)
        self.assertEqual(store.fetch("a"), (b"1", etag))
        second = store.put("a", b"2", if_match=etag)
        for condition, error in (
            ({"new": True}, FileExistsError),
            ({"if_match": etag}, PreconditionFailed),
        ):
            with self.assertRaises(error):
                store.put("a", b"3", **condition)
        with self.assertRaises(PreconditionFailed):
            store.put("b", b"3", if_match=etag)
        self.assertEqual(store.fetch("a"), (b"2", second))
        self.assertEqual(store.delete_matching({"a": etag, "none": etag}), ["a"])
        self.assertEqual(store.delete_matching({"a": second}), [])
        self.assertIsNone(store.fetch("a"))

    def test_a_conditional_write_whose_answer_is_lost_is_recognised(self):
        with FaultProxy(_server.endpoint_url) as proxy:
            self.endpoint_url = proxy.endpoint_url
            store = self.store
            etag = store.put("a", b"1")
            proxy.begin(Seeded(1, [Trouble.LOSE], share=1.0, most=1))
            second = store.put("a", b"2", if_match=etag)
            self.assertGreaterEqual(proxy.troubled[Trouble.LOSE], 1)
        self.endpoint_url = _server.endpoint_url
        self.assertEqual(self.store.fetch("a"), (b"2", second))

    def test_of_two_that_wait_for_the_same_dead_job_one_takes_over(self):
        dead = new_record(PREFIX, "dead", NOW, False, 1) | {"boot": "another's", "ttl": 0.5}
        write_lease(self.store, KEY, dead, None)
        start, won, lost = threading.Barrier(2), [], []

        def contend(number: int) -> None:
            folder, store = self.folder / f"machine{number}", self.store
            start.wait(10)
            try:
                with claim_asset(
                    store,
                    PREFIX,
                    folder,
                    AssetState.PARTIAL,
                    False,
                    "same job",
                    lambda: NOW,
                    timing=SHORT,
                ) as claim:
                    won.append(claim.lease.fence)
                    wait_until(lambda: lost, 20, "the other to give up")
            except DestinationExistsError as error:
                lost.append(str(error))

        threads = [threading.Thread(target=contend, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual((won, len(lost)), ([2], 1))
        self.assertRegex(lost[0], "at the same moment|is sending")


class TestSuspended(S3LeaseTestCase):
    """A job as a process that is suspended while another takes its asset over."""

    def setUp(self):
        """Make a session that takes a while."""
        super().setUp()
        for number in range(200):
            self.write(f"{number:03}.bin", os.urandom(2000))
        self.write("large.bin", os.urandom(24 * MEBI))
        self.proxy = self.enterContext(FaultProxy(_server.endpoint_url))
        self.journal = self.folder / "other/transfers" / self.bucket / PREFIX / "journal.jsonl"

    def start(self, job_id: str = "same"):
        """Start the job, as on another machine: with a folder and a boot id of its own."""
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.proxy.endpoint_url,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "other"),
            "JOB_ID": job_id,
            "UPLOAD_CONNECTIONS": "2",
            "UPLOAD_BANDWIDTH": "4MB/s",
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
        }
        timing = json.dumps({"ttl": SHORT.ttl, "interval": SHORT.interval, "margin": SHORT.margin})
        command = [sys.executable, "-m", "tests.support.upload_process", timing]
        job = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(job.stderr.close)
        self.addCleanup(job.wait)
        self.addCleanup(job.kill)
        return job

    def has_sent(self) -> bool:
        """Return whether the job has noted a part."""
        return self.journal.exists() and b'"part"' in self.journal.read_bytes()

    def changes(self) -> list[str]:
        """List the requests of the suspended job that would change anything.

        Left out are the attempts to renew its lease, which the server refuses.
        """
        asked = [one for one in list(self.proxy.asked) if not one.target.endswith(KEY)]
        return [f"{one.method} {one.target}" for one in asked if one.method not in ("GET", "HEAD")]

    def succeed(self, told: Told):
        """Run the same job once more, on this machine."""
        job = UploadJob(self.config(), self.settings(job_id="same"), told, timing=SHORT)
        return job.run()

    def suspended(self):
        """Start the job, and suspend it until its lease has expired."""
        job = self.start()
        wait_until(self.has_sent, 60, "a part to arrive")
        job.send_signal(signal.SIGSTOP)
        found = read_lease(self.store, KEY)
        silent = lambda: silent_for(self.store, PREFIX, KEY, found.etag)  # noqa: E731
        wait_until(lambda: silent() > SHORT.ttl or self.renewed(found), 30, "the lease to expire")
        return job

    def resume(self, job) -> str:
        """Let the suspended job go on, and return the last line that it prints."""
        before = self.changes()
        job.send_signal(signal.SIGCONT)
        _, errors = job.communicate(timeout=60)
        self.assertEqual(self.changes(), before)
        self.assertIn(job.returncode, (ExitCode.TRANSFER, ExitCode.DESTINATION_EXISTS), errors)
        return errors.splitlines()[-1]

    def test_a_job_that_was_suspended_changes_nothing_after_its_successor_published(self):
        job = self.start()
        wait_until(self.has_sent, 60, "a part to arrive")
        job.send_signal(signal.SIGSTOP)
        self.succeed(self.told)
        stored = {item.key: (item.etag, item.modified) for item in self.store.objects(PREFIX)}
        self.assertRegex(self.resume(job), "lease|taken .* over")
        after = {item.key: (item.etag, item.modified) for item in self.store.objects(PREFIX)}
        self.assertEqual(after, stored)
        self.assertEqual(audit(self.store, PREFIX, deep=True).differences_total, 0)

    def test_it_leaves_the_running_uploads_of_its_successor_alone(self):
        job = self.suspended()
        claimed = claim_asset(
            self.store,
            PREFIX,
            self.folder / "successor",
            AssetState.PARTIAL,
            False,
            "same",
            lambda: NOW,
        )
        with claimed as claim:
            running = self.begin_upload(f"{PREFIX}/behavior/large.bin")
            self.resume(job)
            self.assertIn(running, [one["UploadId"] for one in self.uploads()])
            claim.lease.renew()
            self.assertEqual(claim.lease.fence, 2)

    def test_a_job_that_was_suspended_and_not_taken_over_continues(self):
        job = self.suspended()
        job.send_signal(signal.SIGCONT)
        _, errors = job.communicate(timeout=100)
        self.assertEqual(job.returncode, 0, errors)
        self.assertEqual(audit(self.store, PREFIX, deep=True).differences_total, 0)
        self.assertIsNone(self.store.get(KEY))

    def test_a_store_that_is_away_longer_than_the_lease_lasts_is_waited_for(self):
        job = self.start()
        wait_until(self.has_sent, 60, "a part to arrive")
        found = read_lease(self.store, KEY)
        self.proxy.begin(lambda asked: Trouble.ERROR)
        silent = lambda: silent_for(self.store, PREFIX, KEY, found.etag)  # noqa: E731
        wait_until(lambda: silent() > SHORT.ttl or self.renewed(found), 30, "the lease to expire")
        self.proxy.begin(lambda asked: None)
        _, errors = job.communicate(timeout=100)
        self.assertEqual(job.returncode, 0, errors)
        self.assertEqual(audit(self.store, PREFIX, deep=True).differences_total, 0)

    def renewed(self, found) -> bool:
        """Return whether the lease was renewed since it was read, in which case look again."""
        now = read_lease(self.store, KEY)
        if now is not None and now.etag != found.etag:
            object.__setattr__(found, "etag", now.etag)
        return False


class TestForeign(S3LeaseTestCase):
    """What other software has under the name of an asset."""

    def fail_late(self, **more):
        """Let a job fail after its data arrived."""

        def stop() -> None:
            raise TransferError("half-way")

        self.told.when(Step.VERIFY, Kind.START, stop)
        with self.assertRaisesRegex(TransferError, "half-way"):
            self.run_job(**more)

    def test_clean_leaves_what_other_software_brought(self):
        foreign = {f"{PREFIX}/raw/{number}": b"theirs" for number in range(5)}
        for key, data in foreign.items():
            self.store.put(key, data)
        self.write("a.txt")
        self.fail_late(force_cloud_sync=True)
        self.assertIn(f"--remove-unfinished {PREFIX}", self.clean()[1])
        code, out, err = self.clean("--older-than", "0m", "--remove-unfinished", PREFIX)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("left there: raw/0", out)
        stored = {item.key: self.store.get(item.key) for item in self.store.objects(PREFIX)}
        self.assertEqual(stored, foreign)
        self.assertIsNone(self.store.get(KEY))

    def test_clean_never_touches_a_job_that_lives(self):
        self.write("large.bin", os.urandom(20 * MEBI))
        outputs = []

        def look() -> None:
            begun = self.begin_upload(f"{PREFIX}/behavior/more.bin")
            outputs.append(self.clean("--older-than", "0m"))
            outputs.append(self.clean("--older-than", "0m", "--remove-unfinished", PREFIX))
            self.assertIn(begun, [one["UploadId"] for one in self.uploads()])
            self.store.abort(Unfinished(f"{PREFIX}/behavior/more.bin", begun))

        self.told.when(Step.VERIFY, Kind.START, look)
        self.run_job()
        self.assertEqual([code for code, _, _ in outputs], [0, ExitCode.REQUEST])
        self.assertRegex(outputs[0][1], "stays +unfinished upload ")

    def test_a_multipart_upload_of_other_software_is_left_alone(self):
        ours, theirs = f"{PREFIX}/behavior/b.bin", "behavior_1_2024-01-01_00-00-00/a.bin"
        self.write("a.txt")
        begun = {self.begin_upload(ours), self.begin_upload(theirs)}
        self.fail_late()
        self.run_job()
        self.assertEqual({one["UploadId"] for one in self.uploads()}, begun)
        _, out, _ = self.clean("--older-than", "0m")
        self.assertRegex(out, f"stays +unfinished upload of .*{theirs}.*of no asset of ours")
        self.assertRegex(out, f"stays +unfinished upload of .*{ours}.*no record in .* names it")
        self.assertEqual({one["UploadId"] for one in self.uploads()}, begun)

    def test_a_failed_job_of_another_modality_keeps_what_it_sent(self):
        self.write("a.txt")
        self.fail_late()
        before = {item.key: item.etag for item in self.store.objects(f"{PREFIX}/behavior")}
        other = self.write("b.bin", root=self.folder / "session" / "Ecephys").parent
        self.run_job(modalities=[{"modality": "ecephys", "source": str(other)}])
        after = {item.key: item.etag for item in self.store.objects(f"{PREFIX}/behavior")}
        self.assertEqual(after, before)
