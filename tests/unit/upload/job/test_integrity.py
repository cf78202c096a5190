"""What could make an asset differ from its source without anybody noticing, or block its retry."""

import itertools
import json
import os
import threading
import time
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    SourceChangedError,
    SourceError,
    TransferError,
    VerificationError,
)
from aind_data_transfer_service.storage.layout import manifest_key, mark_key, record_folder
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.upload.job import job
from aind_data_transfer_service.upload.job.events import Events, Kind, Step
from tests.support import slow
from tests.support.transfer import PREFIX, TransferTestCase


class TestSourceThatMoves(TransferTestCase):
    """A session that is still being written, or is touched while it travels."""

    def test_a_file_that_appears_meanwhile_is_named_and_the_next_job_brings_it(self):
        self.write("a.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: self.write("late/b.txt", "late"))
        with self.assertRaisesRegex(SourceChangedError, r"late/b\.txt appeared"):
            self.run_job()
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/late/b.txt"], b"late")

    def test_a_file_that_changes_after_it_was_sent_is_named(self):
        path = self.write("a.txt")
        real = job.complete

        def change(*arguments):
            path.write_bytes(b"DATA and more")
            return real(*arguments)

        with patch.object(job, "complete", change):
            with self.assertRaisesRegex(SourceChangedError, r"a\.txt changed"):
                self.run_job()
        self.run_job()
        self.assertEqual(self.stored()["behavior/a.txt"], b"DATA and more")

    def test_a_file_that_vanishes_after_it_was_sent_is_named(self):
        self.write("a.txt")
        path = self.write("b.txt")
        real = job.complete

        def remove(*arguments):
            path.unlink()
            return real(*arguments)

        with patch.object(job, "complete", remove):
            with self.assertRaisesRegex(SourceChangedError, r"b\.txt vanished"):
                self.run_job()

    def test_the_last_look_is_taken_beside_the_proof_and_waited_for(self):
        path = self.write("a.txt")
        proven, whole = threading.Event(), job.scan

        def look(*arguments):
            if ("transfer", "end") in self.told.steps():
                proven.wait(20)
            return whole(*arguments)

        self.told.when(Step.VERIFY, Kind.START, lambda: path.write_bytes(b"DATA and more"))
        self.told.when(Step.VERIFY, Kind.END, proven.set)
        with patch.object(job, "scan", look):
            with self.assertRaisesRegex(SourceChangedError, r"a\.txt changed"):
                self.run_job()
        with self.assertRaises(DestinationError):
            self.manifest()

    def test_all_files_that_changed_are_named_not_only_the_first_that_was_read(self):
        paths = [self.write(f"{number}.txt") for number in range(3)]

        def change():
            for path in paths:
                path.write_bytes(b"longer data")
            self.write("new.txt")

        self.told.when(Step.TRANSFER, Kind.START, change)
        with self.assertRaises(SourceChangedError) as caught:
            self.run_job()
        self.assertIn("4 bytes were found, now there are 11", str(caught.exception))
        self.assertIn("4 changes in all: ", str(caught.exception))
        for name in ("0.txt changed", "1.txt changed", "2.txt changed", "new.txt appeared"):
            self.assertIn(name, str(caught.exception))

    def test_changes_of_all_modalities_are_named_at_once(self):
        sources = [self.folder / name for name in ("one", "two")]
        paths = [self.write("a.txt", root=source) for source in sources]
        modalities = [
            {"modality": modality, "source": str(source)}
            for modality, source in zip(("behavior", "ecephys"), sources)
        ]

        def change():
            for path in paths:
                path.write_bytes(b"longer data")

        self.told.when(Step.TRANSFER, Kind.END, change)
        with self.assertRaisesRegex(SourceChangedError, r"one/a\.txt changed; .*two/a\.txt cha"):
            self.run_job(modalities=modalities)

    def test_a_change_breaks_off_a_proof_that_takes_long(self):
        path = self.write("a.txt")
        pause = threading.Event()

        def read_back(*_):
            for _ in range(1000):  # five seconds
                yield b"x"
                pause.wait(0.005)

        self.told.when(Step.TRANSFER, Kind.END, lambda: path.write_bytes(b"DATA and more"))
        with patch.object(LocalAssetStore, "read_back", read_back):
            with self.assertRaisesRegex(SourceChangedError, r"a\.txt changed"):
                self.run_job()


class TestSourceAtTheDestination(TransferTestCase):
    """A job must never remove what it is to bring."""

    def test_a_source_that_is_the_asset_itself_is_refused_and_left_alone(self):
        self.write("a.txt")
        self.run_job()
        asset = self.folder / "store" / self.bucket / PREFIX
        self.store.put(mark_key(PREFIX), b"{}")
        before = self.stored()
        for source in (asset, asset / "behavior"):
            modality = {"modality": "behavior", "source": str(source)}
            with self.assertRaisesRegex(SourceError, "destination"):
                self.run_job(modalities=[modality], force_cloud_sync=True)
            with self.assertRaisesRegex(SourceError, "destination"):
                self.run_job(modalities=[modality])
        self.assertEqual(self.stored(), before)


class TestDamageThatKeepsItsLooks(TransferTestCase):
    """Bytes at the destination that changed while size and time did not."""

    def damage(self, name):
        """Change a stored file's bytes alone."""
        path = self.folder / "store" / self.bucket / PREFIX / name
        status = path.stat()
        with open(path, "r+b") as file:
            file.write(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def test_a_job_that_could_not_verify_succeeds_when_it_is_run_again(self):
        self.write("a.txt")
        self.write("b.txt")
        self.told.when(Step.VERIFY, Kind.START, lambda: self.damage("behavior/a.txt"))
        with self.assertRaisesRegex(VerificationError, "behavior/a.txt has other bytes"):
            self.run_job()
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/a.txt"], b"data")

    def test_so_does_one_that_goes_by_the_manifest_of_an_earlier_upload(self):
        self.write("a.txt")
        self.run_job()
        self.damage("behavior/a.txt")
        with self.assertRaises(VerificationError):
            self.run_job(force_cloud_sync=True)
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.stored()["behavior/a.txt"], b"data")


class TestListInPieces(TransferTestCase):
    """A long list is cut at keys, which a store with an order of its own does not take well."""

    @slow
    def test_what_it_leaves_out_is_neither_missed_nor_sent_again(self):
        for number in range(1_000):
            self.write(f"{number:04}.bin")
        whole = LocalAssetStore.objects

        def objects(store, prefix, cuts=()):
            return itertools.islice(whole(store, prefix), 100 if cuts else None)

        def fail():
            raise VerificationError("the network is gone")

        self.enterContext(patch.object(LocalAssetStore, "objects", objects))
        self.told.when(Step.VERIFY, Kind.START, fail)
        with self.assertRaisesRegex(VerificationError, "gone"):
            self.run_job()
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 0)
        self.assertEqual(len(self.manifest()), 1_003)


class TestRecords(TransferTestCase):
    """The manifest, the mark, the journal, and what else lies beside an asset."""

    def test_names_with_unicode_line_ends_do_not_break_the_manifest(self):
        names = ["a\u2028b.txt", "c\u2029d.txt", "e\x85f.txt"]
        for name in names:
            self.write(name)
        self.run_job()
        self.assertLessEqual({f"behavior/{name}" for name in names}, set(self.manifest()))
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 0)

    def test_what_killed_jobs_left_beside_the_asset_is_removed(self):
        self.write("a.txt")
        probe = f"{record_folder(PREFIX)}/probe-0123"
        self.store.put(probe, b"x")
        two_hours_ago = time.time() - 7200
        os.utime(self.store.location(probe), (two_hours_ago, two_hours_ago))
        self.run_job()
        left = [item.key for item in self.store.objects(record_folder(PREFIX))]
        self.assertEqual(left, [manifest_key(PREFIX)])

    def test_an_asset_that_another_machine_completed_meanwhile_is_left_alone(self):
        self.write("a.txt", "mine")
        done = f"{PREFIX}/behavior/a.txt"
        self.told.when(Step.METADATA, Kind.START, lambda: self.store.put(done, b"theirs"))
        with self.assertRaises(DestinationExistsError):
            self.run_job()
        self.assertEqual(self.stored(), {"behavior/a.txt": b"theirs"})
        self.assertIsNone(self.store.get(mark_key(PREFIX)))

    def test_an_interrupted_asset_that_was_completed_meanwhile_is_left_alone(self):
        self.write("a.txt", "mine")
        self.store.put(mark_key(PREFIX), b"{}")

        def complete():
            self.store.put(f"{PREFIX}/behavior/a.txt", b"theirs")
            self.store.delete([mark_key(PREFIX)])

        self.told.when(Step.METADATA, Kind.START, complete)
        with self.assertRaises(DestinationExistsError):
            self.run_job()
        self.assertEqual(self.stored(), {"behavior/a.txt": b"theirs"})
        self.assertIsNone(self.store.get(mark_key(PREFIX)))

    def test_a_folder_of_records_that_cannot_be_made_is_told(self):
        self.write("a.txt")
        file = self.write("file", root=self.folder)
        with self.assertRaisesRegex(TransferError, "UPLOAD_STATE_DIR"):
            self.run_job(self.settings(upload_state_dir=file / "state"))


class TestEventsThatCannotBeWritten(TransferTestCase):
    """The data matter more than the word of them."""

    def test_a_full_disk_beneath_the_events_does_not_stop_the_job(self):
        self.write("a.txt")
        events = Events(file=Path("/dev/full"))
        self.addCleanup(events.close)
        job.UploadJob(self.config(), self.settings(), events).run()
        self.assertEqual(self.stored()["behavior/a.txt"], b"data")

    def test_an_event_cut_short_does_not_spoil_the_next(self):
        file = self.folder / "events.jsonl"
        events = Events(file)
        with patch.object(events, "_output", _Short(events._output)):
            events.emit(Kind.WARNING, "first " * 10)
        events.emit(Kind.WARNING, "second")
        events.close()
        self.assertEqual(json.loads(file.read_bytes().splitlines()[-1])["message"], "second")


class _Short:
    """A file that takes half of the first thing written to it, as a disk does that fills up."""

    def __init__(self, file):
        self._file, self._full = file, False

    def write(self, data):
        """Take half, then nothing."""
        if self._full:
            raise OSError(28, "No space left on device")
        self._full = True
        return self._file.write(data[: len(data) // 2])
