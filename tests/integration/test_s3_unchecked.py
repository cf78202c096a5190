"""Uploads to S3 servers that do not check checksums, and to one that does, past a proxy."""

import contextlib
import io
import os
import uuid
from unittest.mock import patch

import boto3

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import DestinationExistsError, ExitCode, VerificationError
from aind_data_transfer_service.storage import probes
from aind_data_transfer_service.storage.base import AssetState
from aind_data_transfer_service.storage.layout import former_manifest_key, manifest_key
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3.client import S3Client
from aind_data_transfer_service.upload.manifest import manifest
from aind_data_transfer_service.upload.manifest.json_lines import write_lines
from aind_data_transfer_service.upload.manifest.manifest import Manifest
from tests.support import missing, seaweedfs
from tests.support.fault_proxy import Asked, FaultProxy, Trouble, nothing
from tests.support.transfer import PREFIX, TransferTestCase

MEBI = 1024**2


class UncheckedTestCase(TransferTestCase):
    """Gives each test a bucket, and a proxy before the server."""

    destination = "s3://"
    url: str
    env: dict[str, str]

    def setUp(self) -> None:
        """Make them, and a session of small and large files."""
        super().setUp()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.enterContext(patch.dict(os.environ, environment | self.env, clear=True))
        self.bucket = f"test-{uuid.uuid4().hex[:12]}"
        keys = {name.lower(): self.env[name] for name in self.env if name.endswith("KEY_ID")}
        keys |= {name.lower(): self.env[name] for name in self.env if name.endswith("ACCESS_KEY")}
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=self.bucket)
        self.proxy = self.enterContext(FaultProxy(self.url))
        self.endpoint_url = self.proxy.endpoint_url
        for number in range(5):
            self.write(f"{number}.bin", os.urandom(1000))
        self.write("empty", b"")
        self.write("large.bin", os.urandom(9 * MEBI))

    def corrupt(self, pattern: str, times: int = 1) -> None:
        """Have the proxy change a byte of the first requests whose target has these words."""

        def schedule(asked: Asked) -> Trouble | None:
            hit = asked.method == "PUT" and pattern in asked.target and asked.attempt < times
            return Trouble.CORRUPT if hit else None

        self.proxy.begin(schedule)

    def read(self) -> set[str]:
        """Tell which of the asset's objects were read so far."""
        targets = (a.target.split("?")[0] for a in self.proxy.asked if a.method == "GET")
        paths = (target.partition(f"/{PREFIX}/") for target in targets)
        return {path for before, _, path in paths if path and ".transfer" not in before}

    def verify(self, *arguments: str) -> tuple[int, str]:
        """Run `verify` past the proxy; give its exit code and what it printed."""
        out, url = io.StringIO(), {"AWS_ENDPOINT_URL": self.url}
        with patch.dict(os.environ, url), contextlib.redirect_stdout(out):
            with contextlib.redirect_stderr(out):
                code = main.main(["verify", *arguments, f"s3://{self.bucket}/{PREFIX}"])
        return code, out.getvalue()

    def assert_whole(self) -> None:
        """Compare what the server has with the source, and see that no probe is left."""
        self.proxy.schedule = nothing
        for path in self.source.iterdir():
            found = self.store.get(f"{PREFIX}/behavior/{path.name}")
            self.assertEqual(found, path.read_bytes(), path.name)
        self.assert_nothing_is_left()
        records = [item.key for item in self.store.objects(f".transfer/{PREFIX}")]
        self.assertEqual(records, [manifest_key(PREFIX)])
        self.assertEqual(self.verify("--deep")[0], 0)

    def assert_nothing_is_left(self) -> None:
        """See that no probe is left, nor an upload in parts."""
        keys = [item.key for item in self.store.objects(f".transfer/{PREFIX}")]
        self.assertEqual([key for key in keys if "probe" in key], [])
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        self.assertEqual(uploads, [])


class TestServerThatChecksNothing(UncheckedTestCase):
    """moto, which keeps the checksum that it is given."""

    env = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    @classmethod
    def setUpClass(cls) -> None:
        """Start it."""
        try:
            from moto.server import ThreadedMotoServer
        except ImportError:
            raise missing("moto (pip install moto[server])")
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        cls.url = "http://127.0.0.1:{1}".format(*server.get_host_and_port())
        cls.addClassCleanup(server.stop)

    def test_everything_is_read_back_and_the_job_says_why(self):
        self.run_job()
        names = {f"behavior/{path.name}" for path in self.source.iterdir()}
        self.assertLessEqual(names | {"processing.json", "data_description.json"}, self.read())
        (warning,) = [w for w in self.told.warnings() if "checksum" in w]
        self.assertRegex(warning, "accepts data whose checksum is wrong.*read back.*takes about")
        verify = [e[2] for e in self.told.all if e[:2] in (("verify", "start"), ("verify", "end"))]
        self.assertRegex(" ".join(verify), "is read back and verified .*read back from the server")
        self.assert_whole()

    def test_verify_says_what_it_proves_without_reading(self):
        self.run_job()
        code, out = self.verify()
        self.assertEqual(code, 0)
        self.assertRegex(out, "does not check data itself: the job read back every byte before 20")
        self.assertRegex(out, "only --deep finds later damage")
        self.assertEqual(Manifest(self.store, PREFIX).header["proof"], "read back")
        self.assertNotIn("does not check", self.verify("--deep")[1])

    def test_a_server_that_checks_one_way_only_is_read_back(self):
        """Some gateways refuse a damaged object and take a damaged part."""
        for way in (False, True):
            for checked, store in ((way, self.store), (None, self.store)):
                with patch.object(
                    S3Client, "refuses_damage", lambda _, key, i="": checked in (None, bool(i))
                ):
                    probes.probe(store, PREFIX)
                self.assertEqual(store.proves_by_reading, checked is not None)
        self.assert_nothing_is_left()

    def fails_and_is_sent_again(self, pattern: str, name: str) -> None:
        """Damage what is sent once; see the job fail, and the next one bring it right."""
        self.corrupt(pattern)
        with self.assertRaisesRegex(VerificationError, f"{name} has other bytes") as caught:
            self.run_job()
        self.assertEqual(caught.exception.exit_code, ExitCode.VERIFICATION)
        self.assertEqual(self.proxy.troubled[Trouble.CORRUPT], 1)
        self.assert_nothing_is_left()
        self.run_job()
        self.assertLess(self.told.figures("transfer", "end")["files_sent"], 2)
        self.assert_whole()

    def test_a_flipped_bit_of_a_small_file_is_found_and_it_is_sent_again(self):
        self.fails_and_is_sent_again("behavior/3.bin", "behavior/3.bin")

    def test_a_flipped_bit_of_a_part_is_found_and_the_file_is_sent_again(self):
        self.fails_and_is_sent_again("partNumber=2", "behavior/large.bin")

    def test_a_flipped_bit_of_a_document_is_found(self):
        self.fails_and_is_sent_again("data_description.json", "data_description.json")

    def test_what_an_earlier_job_did_not_read_back_is_read_back_now(self):
        """By a release that took the server for one that checks."""
        self.corrupt("behavior/3.bin")
        with patch.object(S3Client, "refuses_damage", return_value=True):
            self.run_job()
        (self.source / "3.bin").unlink()
        with self.assertRaisesRegex(VerificationError, "earlier upload.*behavior/3.bin has other"):
            self.run_job(force_cloud_sync=True)

    def test_what_an_earlier_job_read_back_is_not_read_again(self):
        self.run_job()
        (self.source / "3.bin").unlink()
        self.proxy.asked.clear()
        self.run_job(force_cloud_sync=True)
        self.assertNotIn("behavior/3.bin", self.read())
        self.assertIn("behavior/2.bin", self.read())
        self.assertIn("behavior/3.bin", self.manifest())

    def test_files_of_other_software_are_kept_without_a_manifest(self):
        self.store.put(f"{PREFIX}/other.txt", b"other")
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.store.get(f"{PREFIX}/other.txt"), b"other")

    def test_a_manifest_that_was_damaged_is_written_again(self):
        self.corrupt("manifest.jsonl", times=2)
        self.run_job()
        self.assertEqual(self.proxy.troubled[Trouble.CORRUPT], 2)
        self.assert_whole()

    def test_a_manifest_that_is_damaged_each_time_is_not_left(self):
        self.corrupt("manifest.jsonl", times=9)
        with self.assertRaisesRegex(VerificationError, "written 3 times.*damaged each time"):
            self.run_job()
        self.proxy.begin(nothing)
        self.assertIsNone(self.store.get(manifest_key(PREFIX)))
        self.run_job()
        self.assert_whole()

    def begin_forced(self) -> bytes:
        """Publish an asset, and have a file more to upload into it; return its manifest."""
        (self.source / "large.bin").unlink()
        self.run_job()
        (self.source / "0.bin").unlink()
        self.write("more.bin", b"more")
        return self.store.get(manifest_key(PREFIX))

    def assert_goes_on(self) -> None:
        """See that the same job, run again, brings everything home."""
        self.proxy.begin(nothing)
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PARTIAL)
        self.run_job(force_cloud_sync=True)
        self.assertLessEqual({"behavior/0.bin", "behavior/more.bin"}, self.manifest().keys())
        self.assertEqual(Manifest(self.store, PREFIX).left.fields(), {})
        self.assert_whole()

    def test_the_manifest_of_an_earlier_upload_is_put_back(self):
        before = self.begin_forced()
        self.corrupt("/manifest.jsonl", times=3)
        with self.assertRaisesRegex(VerificationError, "damaged each.*in place again"):
            self.run_job(force_cloud_sync=True)
        self.assertEqual(self.store.get(manifest_key(PREFIX)), before)
        self.assertIsNone(self.store.get(former_manifest_key(PREFIX)))
        self.assert_goes_on()

    def test_the_manifest_of_an_earlier_upload_is_not_replaced_without_a_copy(self):
        before = self.begin_forced()
        self.corrupt("manifest", times=9)
        with self.assertRaisesRegex(VerificationError, "was not replaced: a copy.*damaged each"):
            self.run_job(force_cloud_sync=True)
        self.assertEqual(self.store.get(manifest_key(PREFIX)), before)
        self.assert_goes_on()

    def test_the_copy_is_used_where_the_manifest_cannot_be_put_back(self):
        before = self.begin_forced()
        self.corrupt("/manifest.jsonl", times=99)
        with self.assertRaisesRegex(VerificationError, "is in .*manifest-before.jsonl; run"):
            self.run_job(force_cloud_sync=True)
        self.assertEqual(self.store.get(former_manifest_key(PREFIX)), before)
        self.assertIn("a further upload into it began", self.verify()[1])
        self.assert_goes_on()

    def die_at(self, function: str, **more) -> None:
        """Let a job end as one that is killed at the manifest: in the writing, or before proof."""
        real, written = getattr(manifest, function), []

        def write(store, key, lines):
            if key == manifest_key(PREFIX):
                written.append(key)
            return write_lines(store, key, lines)

        def die(*arguments):
            if arguments[-1 if function == "_damage" else 1] == manifest_key(PREFIX) and (
                written or function == "write_lines"
            ):
                raise KeyboardInterrupt
            return real(*arguments)

        with patch.object(manifest, "write_lines", write), patch.object(manifest, function, die):
            with self.assertRaises(KeyboardInterrupt):
                self.run_job(**more)

    def killed_and_gone_on(self, function: str, times: int) -> None:
        """Kill a forced job at the manifest, damaged or not, and see that nothing is lost."""
        before = self.begin_forced()
        self.corrupt("/manifest.jsonl", times)
        self.die_at(function, force_cloud_sync=True)
        self.assertEqual(self.store.get(former_manifest_key(PREFIX)), before)
        is_old = self.store.get(manifest_key(PREFIX)) == before
        self.assertEqual(is_old, function == "write_lines")
        self.assert_goes_on()

    def test_a_job_that_is_killed_before_it_replaces_the_manifest_loses_nothing(self):
        self.killed_and_gone_on("write_lines", 0)

    def test_a_job_that_is_killed_after_it_replaced_the_manifest_loses_nothing(self):
        self.killed_and_gone_on("_damage", 0)

    def test_a_job_that_is_killed_after_its_manifest_was_damaged_loses_nothing(self):
        self.killed_and_gone_on("_damage", 1)

    def test_a_job_that_is_killed_before_its_manifest_is_proven_has_not_published(self):
        (self.source / "large.bin").unlink()
        settings = self.settings(job_id="one")
        self.corrupt("/manifest.jsonl")
        self.die_at("_damage", settings=settings)
        self.proxy.begin(nothing)
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PARTIAL)
        held = DestinationExistsError("another job is sending it")
        with patch("aind_data_transfer_service.upload.job.job.claim_asset", side_effect=held):
            with self.assertRaises(DestinationExistsError):
                self.run_job(settings)
        self.run_job(settings)
        self.assert_whole()


class TestServerThatChecks(UncheckedTestCase):
    """SeaweedFS: nothing is read back from it."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start it."""
        server = seaweedfs.start()
        cls.addClassCleanup(server.stop)
        cls.url = server.endpoint_url
        cls.env = server.env

    def test_nothing_is_read_back(self):
        self.run_job()
        self.assertEqual(self.read(), set())
        self.assertEqual([w for w in self.told.warnings() if "checksum" in w], [])
        self.assertEqual(Manifest(self.store, PREFIX).header["proof"], "checksums")
        code, out = self.verify()
        self.assertEqual(code, 0)
        self.assertNotIn("does not check", out)
        self.assert_whole()

    def test_a_wrong_checksum_is_refused_at_once_in_one_request_and_in_parts(self):
        for algorithm in Algorithm:
            with patch.dict(os.environ, {"AWS_CHECKSUM_ALGORITHM": algorithm}):
                for in_parts in (False, True):
                    refused = self.store.refuses_damage(f".transfer/{PREFIX}/x", in_parts)
                    self.assertTrue(refused, (algorithm, in_parts))
        puts = [asked for asked in self.proxy.asked if asked.method == "PUT"]
        self.assertEqual(len(puts), 4, "nothing is sent again")
        self.assertIsNone(self.store.get(f".transfer/{PREFIX}/x"))
        self.assert_nothing_is_left()

    def test_a_damaged_answer_to_the_probe_is_not_taken_for_a_refusal(self):
        self.proxy.begin(lambda asked: Trouble.ERROR if asked.method == "PUT" else None)
        self.assertFalse(self.store.refuses_damage(f".transfer/{PREFIX}/x", False))
        self.assert_nothing_is_left()
