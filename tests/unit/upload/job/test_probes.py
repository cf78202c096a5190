"""Jobs that try the store while another job publishes the same asset."""

import os
import threading
import time
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import DestinationExistsError
from aind_data_transfer_service.storage import layout as store_module
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import record_folder
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.resume.lease_contention import silent_for
from tests.support.transfer import PREFIX, Told, TransferTestCase


class TestProbes(TransferTestCase):
    """Two jobs of two modalities, and the objects with which they try the store."""

    def setUp(self) -> None:
        """Make a source of each."""
        super().setUp()
        self.write("a.txt")
        other = self.write("b.bin", root=self.folder / "session" / "Ecephys").parent
        self.ecephys = [{"modality": "ecephys", "source": str(other)}]

    def publish(self) -> None:
        """Let a job in another process publish its modality."""
        with patch.object(store_module, "_PROCESS", uuid.uuid4().hex[:16]):
            config = self.config(modalities=self.ecephys)
            UploadJob(config, self.settings(), Told()).run()

    def once(self, method: str) -> None:
        """Have the other job publish just before this one calls a method with a probe."""
        real, begun = getattr(LocalAssetStore, method), []

        def call(store: AssetStore, key, *arguments, **more):
            if "probe-" in str(key) and not begun:
                begun.append(key)
                self.publish()
                self.assertIsNotNone(self.store.get(begun[0]), "it is another job's")
            return real(store, key, *arguments, **more)

        self.enterContext(patch.object(LocalAssetStore, method, call))

    def records(self) -> list[str]:
        """List what lies beside the asset."""
        skip = len(record_folder(PREFIX)) + 1
        return [item.key[skip:] for item in self.store.objects(record_folder(PREFIX))]

    def test_a_job_that_reads_its_probe_back_finds_it(self):
        self.once("fetch")
        self.run_job(force_cloud_sync=True)
        self.assertLessEqual({"behavior/a.txt", "ecephys/b.bin"}, self.manifest().keys())
        self.assertEqual(self.records(), ["manifest.jsonl"])

    def test_a_job_that_is_too_late_is_refused_for_the_right_reason(self):
        self.once("fetch")
        with self.assertRaisesRegex(DestinationExistsError, "another job completed"):
            self.run_job()
        self.assertEqual(self.records(), ["manifest.jsonl"])

    def test_a_job_that_reads_the_stores_clock_is_not_disturbed(self):
        objects, begun = LocalAssetStore.objects, []

        def list_late(store, prefix, cuts=()):
            if not begun:
                begun.append(prefix)
                self.publish()
            return objects(store, prefix, cuts)

        key = f"{record_folder(PREFIX)}/other"
        self.store.put(key, b"x")
        os.utime(self.store.location(key), (time.time() - 90, time.time() - 90))
        (found,) = self.store.objects(record_folder(PREFIX))
        with patch.object(LocalAssetStore, "objects", list_late):
            self.assertGreater(silent_for(self.store, PREFIX, key, found.etag), 60)
        self.assertEqual(sorted(self.records()), ["manifest.jsonl", "other"])


class TestSideBySide(TransferTestCase):
    """What need not wait for an answer does not: those of a store far away take long."""

    def asked_at_once(self, count: int, ends: tuple[str, ...], **more) -> None:
        """Run a job whose first puts of such keys are answered once so many of them were begun."""
        meeting, left, put = threading.Barrier(count), [None] * count, LocalAssetStore.put

        def meet(store: AssetStore, key: str, *arguments, **options):
            if any(end in key for end in ends) and left:
                left.pop()
                meeting.wait(10)
            return put(store, key, *arguments, **options)

        self.write("a.txt")
        with patch.object(LocalAssetStore, "put", meet):
            self.run_job(**more)
        self.assertFalse(left)

    def test_documents(self):
        documents = ("data_description.json", "processing.json", "metadata.nd.json")
        self.asked_at_once(3, documents)

    def test_probes_of_writing_and_of_conditions(self):
        self.asked_at_once(2, ("/probe-",))
