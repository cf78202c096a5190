"""The parts of a transfer, each by itself: plan, lanes, zip, journal, verification, events."""

import contextlib
import hashlib
import io
import json
import logging
import os
import signal
import threading
import tracemalloc
import unittest
import zipfile
from datetime import UTC, datetime
from unittest.mock import Mock, patch

from hypothesis import example, given
from hypothesis import strategies as st

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import (
    DestinationError,
    SourceChangedError,
    SourceError,
    TerminatedError,
    TransferError,
    VerificationError,
)
from aind_data_transfer_service.logging_config import StderrHandler
from aind_data_transfer_service.storage.base import AssetStore, BufferBody
from aind_data_transfer_service.storage.layout import manifest_key
from aind_data_transfer_service.storage.multipart import PartsUpload
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3_store import S3AssetStore
from aind_data_transfer_service.upload.cli.shutdown import Halted
from aind_data_transfer_service.upload.job.events import Events, Step
from aind_data_transfer_service.upload.manifest.entry import Entry, utc
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.manifest import read_manifest
from aind_data_transfer_service.upload.plan.items import FileItem, FileItems
from aind_data_transfer_service.upload.plan.plan import MEBI, PART_SIZE, Plan, Series, part_size
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile, Tree
from aind_data_transfer_service.upload.source.reader import read_source
from aind_data_transfer_service.upload.source.scan import scan
from aind_data_transfer_service.upload.transfer import engine as module
from aind_data_transfer_service.upload.transfer.engine import Transfer, gathered
from aind_data_transfer_service.upload.transfer.progress import Progress
from aind_data_transfer_service.upload.transforms.zip import ZipItem
from aind_data_transfer_service.upload.verify.compare import verify
from tests.support import slow
from tests.support.threads import limit_threads
from tests.support.transfer import TransferTestCase, as_an_ordinary_user


def entry(path="a", size=1, sha256="", etag="e"):
    """Make an entry."""
    return Entry(path, size, sha256, "2024-01-01T00:00:00Z", etag, "s")


class TestPlan(TransferTestCase):
    """Sizes, lanes and limits."""

    @given(st.integers(0, S3AssetStore.object_limit))
    @example(S3AssetStore.object_limit)
    @example(9_000 * 5 * 1024**3 + 1)
    def test_parts_are_never_too_many_nor_too_large(self, size):
        parts = -(-size // part_size(size))
        self.assertLessEqual(parts, 10_000)
        self.assertLessEqual(part_size(size), 5 * 1024**3)
        self.assertGreaterEqual(part_size(size), PART_SIZE)
        self.assertEqual(part_size(size) % MEBI, 0)

    def test_what_the_parts_of_an_upload_cannot_hold_is_refused_before_the_transfer(self):
        most = 10_000 * 5 * 1024**3
        for size, fits in ((6 * 1024**4, True), (most, True), (most + 1, False)):
            file = SourceFile(Tree("/r", "behavior"), "big", size, 0, 0)
            plan = Plan("p", "l", Series([[FileItem(file)]]))
            if fits:
                plan.check(S3AssetStore.object_limit)
                continue
            with self.assertRaisesRegex(SourceError, f"of {most:,} that an object may have; split"):
                plan.check(S3AssetStore.object_limit)

    def test_an_object_that_no_store_takes_is_refused(self):
        file = SourceFile(Tree("/r", "behavior"), "big", 10, 0, 0)
        plan = Plan("p", "l", Series([[FileItem(file)]]))
        plan.check(None)
        with self.assertRaisesRegex(SourceError, "behavior/big can have 10 bytes, of 9"):
            plan.check(9)

    def test_two_files_for_one_place_are_refused(self):
        """By a drive that lists one twice, two sources for one folder, a zip, or a document."""
        status = os.stat(self.write("x"))

        def files(folder, *names):
            found = Files(Tree("/r", folder))
            for name in names:
                found.add(name, status)
            return FileItems(found)

        archive = [ZipItem("behavior/b", files("behavior", "1").files)]
        for parts, documents, wrong in (
            ([files("behavior", "a", "b", "b", "c")], [], "behavior/b is the place"),
            ([files("behavior", "a/1", "a/2", "a/1", "a/2")], [], "behavior/a/1 is the place"),
            ([files("behavior", "a", "b"), files("behavior", "0", "b")], [], "behavior/b is"),
            ([files("behavior", "a", "b"), archive], [], "behavior/b is"),
            ([archive, files("behavior", "a", "b")], [], "behavior/b is"),
            ([[FileItem(files("x", "d.json").files[0])]], ["x/d.json"], "x/d.json is"),
        ):
            with self.assertRaisesRegex(SourceError, wrong):
                Plan("p", "l", Series(parts), documents).check(None)
        parts = [files("behavior", "a", "b"), files("behavior1", "a", "b"), archive[:0]]
        Plan("p", "l", Series(parts), ["a", "processing.json"]).check(None)


class TestUnfinishedUploads(unittest.TestCase):
    """What becomes of parts that have arrived when a job stops in the middle of a file."""

    def is_aborted(self, error, page=None):
        """Return whether the upload is aborted if its source raises an error."""
        client = Mock(**{"create_upload.return_value": "u"})

        def pieces():
            yield BufferBody(b"x" * 10)
            raise error

        upload = PartsUpload(client, "k", 10, Traffic(4, 100), page, self.fail)
        with self.assertRaises(type(error)):
            upload.run(pieces())
        return client.abort_upload.called

    def test_only_parts_that_no_later_job_can_use_are_removed(self):
        page = Mock(**{"state.return_value": None})
        for error in (SourceError("EIO"), TransferError("full"), Halted(TerminatedError("t"))):
            with self.subTest(error):
                self.assertFalse(self.is_aborted(error, page))
                self.assertTrue(self.is_aborted(error))
        self.assertTrue(self.is_aborted(SourceChangedError("changed"), page))


class TestReading(TransferTestCase):
    """Reading a source once, and noticing that it changes."""

    def found(self, data):
        """Write a file and find it."""
        self.write("x", data)
        return scan(str(self.source), "behavior", "p", 1024).files[0]

    def test_a_file_that_grows_while_it_is_read_is_noticed(self):
        file = self.found(b"12345")
        reader = read_source(file, 2)
        self.assertEqual(next(reader), b"12")
        with open(file.path, "ab") as output:
            output.write(b"6")
        with self.assertRaises(SourceChangedError):
            list(reader)

    def test_a_file_replaced_by_one_of_the_same_size_is_noticed(self):
        file = self.found(b"12345")
        reader = read_source(file, 2)
        next(reader)
        os.replace(self.write("y", b"abcde"), file.path)
        with self.assertRaises(SourceChangedError):
            list(reader)

    def test_a_file_removed_while_it_is_read_is_noticed(self):
        file = self.found(b"12345")
        reader = read_source(file, 2)
        next(reader)
        os.unlink(file.path)
        with self.assertRaisesRegex(SourceChangedError, "vanished while"):
            list(reader)

    def test_a_file_replaced_by_a_pipe_does_not_hang(self):
        file = self.found(b"12345")
        os.unlink(file.path)
        os.mkfifo(file.path)
        with self.assertRaises(SourceChangedError):
            list(read_source(file, 2))

    def test_a_file_replaced_by_a_folder_is_noticed(self):
        file = self.found(b"12345")
        os.unlink(file.path)
        os.mkdir(file.path)
        with self.assertRaises(SourceChangedError):
            list(read_source(file, 2))

    def test_a_file_that_may_no_longer_be_read_is_told(self):
        file = self.found(b"12345")
        os.chmod(file.path, 0)
        with as_an_ordinary_user(), self.assertRaisesRegex(SourceError, "cannot be read"):
            list(read_source(file, 2))

    def test_a_source_that_vanished_is_a_problem_of_the_scan(self):
        found = scan(str(self.source / "gone"), "behavior", "p", 1024)
        self.assertIn("cannot be read", found.problems[0])

    def test_a_sparse_file_is_read_as_zeros(self):
        os.truncate(self.write("x", b""), 3_000_000)
        (file,) = scan(str(self.source), "behavior", "p", 1024).files
        self.assertEqual(b"".join(read_source(file, 1 << 20)), bytes(3_000_000))


class TestZip(TransferTestCase):
    """A folder as one zip, made on the way."""

    def item(self):
        """Make the item of the source."""
        files = scan(str(self.source), "behavior", "p", 1024).files
        return ZipItem("behavior/behavior.zip", files)

    @slow
    @given(st.dictionaries(st.text("aüé '", min_size=1, max_size=8), st.binary(max_size=99)))
    def test_it_holds_what_the_folder_holds_and_is_never_larger_than_said(self, files):
        self.setUp()
        for name, data in files.items():
            self.write(name, data)
        item = self.item()
        data = b"".join(item.stream(64, lambda count: None))
        self.assertLessEqual(len(data), item.largest_size)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertEqual({n: archive.read(n) for n in archive.namelist()}, files)

    def test_the_same_source_gives_the_same_archive(self):
        self.write("b", os.urandom(5000))
        self.write("a.png", b"x" * 5000)
        first, second = (list(self.item().stream(1024, lambda n: None)) for _ in range(2))
        self.assertEqual(first, second)
        self.assertEqual({len(piece) for piece in first[:-1]}, {1024})

    def test_times_that_no_zip_can_hold_are_moved_to_its_bounds(self):
        os.utime(self.write("a"), (0, 0))
        os.utime(self.write("b"), (2**33, 2**33))
        data = b"".join(self.item().stream(1024, lambda n: None))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertEqual([i.date_time[0] for i in archive.infolist()], [1980, 2107])


def all_of(terminal):
    """Read from a terminal until whoever wrote to it has closed it."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1 << 16):
            yield data


class SlowStore:
    """A store that takes its time, and counts how many wait for it at once."""

    def __init__(self, store, seconds):
        self._store, self._seconds, self._lock = store, seconds, threading.Lock()
        self._now = self.most = 0

    put_all, window = AssetStore.put_all, 1

    def put(self, key, data, halt=None):
        """Store an object."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        halt.wait(self._seconds)
        with self._lock:
            self._now -= 1
        return "etag"

    def put_parts(self, key, parts, part_size, traffic, checkpoint, on_part, memory_cost):
        """Store an object in parts, each of which is hashed."""
        for part in parts:
            Algorithm.CRC64NVME.of_chunks(part.read_and_hash())
            part.release()
        return self.put(key, b"", traffic.halt)


class TestTransfer(TransferTestCase):
    """Many files at once."""

    def items(self):
        """Make the items of the source."""
        return [FileItem(f) for f in scan(str(self.source), "behavior", "p", 1024).files]

    def test_memory_stays_within_its_budget(self):
        for number in range(4):
            os.truncate(self.write(f"large{number}", b""), 40_000_000)
        arrived = []
        with Progress(4, 160_000_000, lambda figures: None, bar=False) as progress:
            transfer = Transfer(
                self.store, "p", progress, arrived.extend, connections=8, memory=32 * MEBI
            )
            tracemalloc.start()
            try:
                transfer.run(self.items())
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        self.assertEqual(len(arrived), 4)
        self.assertLess(peak, 40 * MEBI)

    @slow
    def test_a_store_that_keeps_one_waiting_gets_more_at_once(self):
        """And one that answers at once does not: threads would only hinder each other."""
        for number in range(600):
            self.write(f"{number:03}", b"abcd")
        for seconds, least, most in ((0.02, 12, 12), (0.0, 1, 6)):
            with self.subTest(seconds=seconds):
                store = SlowStore(self.store, seconds)
                progress = Progress(600, 2400, lambda figures: None, bar=False)
                arrived = []
                Transfer(store, "p", progress, arrived.extend, connections=12).run(self.items())
                self.assertEqual(len({entry.path for entry in arrived}), 600)
                self.assertTrue(least <= store.most <= most, store.most)
                self.assertEqual(progress.figures()["files_done"], 600)
                self.assertEqual(progress.figures()["bytes_done"], 2400)

    @slow
    def test_so_do_large_files(self):
        for number in range(24):
            os.truncate(self.write(f"{number:03}", b""), PART_SIZE + 1)
        store, arrived = SlowStore(self.store, 0.2), []
        progress = Progress(24, 0, lambda figures: None, bar=False)
        Transfer(store, "p", progress, arrived.extend, connections=12).run(self.items())
        self.assertEqual((len(arrived), store.most), (24, 6))

    @slow
    def test_arrivals_are_noted_soon_where_files_take_long(self):
        for number in range(40):
            self.write(f"{number:03}", b"abcd")
        told = []
        progress = Progress(40, 160, lambda figures: None, bar=False)
        store = SlowStore(self.store, 0.1)
        Transfer(store, "p", progress, told.append, connections=1).run(self.items())
        self.assertLessEqual(max(map(len, told)), 4)

    def test_the_first_failure_stops_all_and_is_the_one_told(self):
        for number in range(200):
            self.write(f"{number:03}", b"abcd")
        arrived = []

        def fail(sent):
            arrived.extend(sent)
            if len(arrived) >= 3:
                raise TransferError("the line is dead")

        progress = Progress(200, 800, lambda figures: None, bar=False)
        with self.assertRaisesRegex(TransferError, "the line is dead"):
            Transfer(self.store, "p", progress, fail, connections=2).run(self.items())
        self.assertLess(len(arrived), 100)

    @slow
    def test_whoever_stops_it_waits_until_its_threads_have_broken_off(self):
        """A thread that is killed in an upload leaves parts behind that nobody sees."""
        self.write("a")
        ended = threading.Event()
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGTERM, before)

        def arrived(entry):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(0.3)  # the time that it takes to clear away
            ended.set()

        progress = Progress(1, 4, lambda figures: None, bar=False)
        transfer = Transfer(self.store, "p", progress, arrived, connections=1)
        with self.assertRaises(KeyboardInterrupt):
            transfer.run(self.items())
        self.assertTrue(ended.is_set())

    def hang_at(self, name):
        """Have the read of one file hang, as on a drive that is gone; give when it does."""
        hangs, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        read = FileItem.read

        def hang(item):
            if item.key.endswith(name):
                hangs.set()
                go.wait(30)
            return read(item)

        self.enterContext(patch.object(FileItem, "read", hang))
        return hangs

    @slow
    def test_a_read_that_hangs_holds_nobody_up_and_what_arrived_is_noted(self):
        """It takes no signal, and comes back long after, if ever: nothing is sent then."""
        for name in "abc":
            self.write(name, name * 4)
        arrived, halt = [], Halt()
        hangs = self.hang_at("c")
        reason = TerminatedError("terminated by SIGTERM")
        progress = Progress(3, 12, lambda figures: None, bar=False)
        transfer = Transfer(self.store, "p", progress, arrived.extend, connections=1, halt=halt)
        self.enterContext(patch.object(module, "_NOTED_EVERY", 3600.0))
        self.enterContext(patch.object(module, "_GRACE", 0.1))
        beside(lambda: hangs.wait(30) and halt.stop(reason), "stop")
        with self.assertRaises(TerminatedError):
            transfer.run(self.items())
        self.assertTrue(hangs.is_set())
        self.assertEqual([entry.path for entry in arrived], ["behavior/a", "behavior/b"])

    @slow
    def test_a_read_that_hangs_does_not_keep_the_failure_of_another_file_waiting(self):
        os.truncate(self.write("large", b""), 40_000_000)
        self.write("small")
        hangs = self.hang_at("small")
        self.enterContext(patch.object(module, "_FAULT_GRACE", 0.1))

        def fail(sent):
            hangs.wait(30)
            raise TransferError("the line is dead")

        progress = Progress(2, 0, lambda figures: None, bar=False)
        with self.assertRaisesRegex(TransferError, "the line is dead"):
            Transfer(self.store, "p", progress, fail, connections=2).run(self.items())

    @slow
    def test_a_transfer_goes_on_with_the_threads_that_there_are(self):
        for number in range(200):
            self.write(f"{number:03}", b"abcd")
        for number in range(4):
            os.truncate(self.write(f"large{number}", b""), PART_SIZE + 1)
        arrived = []
        store = SlowStore(self.store, 0.002)
        progress = Progress(204, 0, lambda figures: None, bar=False)
        with limit_threads(2):  # one for each lane
            transfer = Transfer(store, "p", progress, arrived.extend, connections=12)
            transfer.run(self.items())
        self.assertEqual(len({entry.path for entry in arrived}), 204)
        self.assertLessEqual(store.most, 2)

    def test_a_lane_without_any_thread_fails_and_says_why(self):
        self.write("small")
        os.truncate(self.write("large", b""), PART_SIZE + 1)
        progress = Progress(2, 0, lambda figures: None, bar=False)
        for most in (0, 1):
            with self.subTest(most), limit_threads(most):
                transfer = Transfer(self.store, "p", progress, lambda sent: None, connections=2)
                with self.assertRaisesRegex(TransferError, "raise the limit on processes"):
                    transfer.run(self.items())

    def test_large_files_break_off_when_another_fails(self):
        os.truncate(self.write("large", b""), 100_000_000)
        self.write("small")
        progress = Progress(2, 0, lambda figures: None, bar=False)

        def fail(sent):
            raise TransferError("the line is dead")

        with self.assertRaisesRegex(TransferError, "the line is dead"):
            Transfer(self.store, "p", progress, fail, connections=2).run(self.items())
        self.assertIsNone(self.store.get("p/behavior/large"))


class TestGathering(TransferTestCase):
    """Pieces put together into parts."""

    @given(st.lists(st.binary(max_size=9), max_size=20), st.integers(1, 12))
    def test_parts_hold_the_same_bytes_and_all_but_the_last_are_full(self, pieces, size):
        parts = [bytes(part) for part in gathered(pieces, size)]
        self.assertEqual(b"".join(parts), b"".join(pieces))
        self.assertTrue(all(len(part) == size for part in parts[:-1]))
        self.assertTrue(all(parts))


class TestRecords(TransferTestCase):
    """Journal and manifest."""

    def test_a_torn_last_line_is_cut_off_and_the_journal_goes_on(self):
        file = self.folder / "state" / "journal.jsonl"
        with Journal(file) as journal:
            journal.add(entry("a"))
        with open(file, "ab") as output:
            output.write(b'{"path": "to')
        with Journal(file) as journal:
            journal.add(entry("b"))
            self.assertEqual(set(journal.entries()), {"a", "b"})
            journal.remove()
            self.assertEqual(journal.entries(), {})

    def test_a_missing_or_damaged_manifest_is_told(self):
        with self.assertRaisesRegex(DestinationError, "does not exist"):
            read_manifest(self.store, "p")
        self.store.put(manifest_key("p"), b"nonsense")
        with self.assertRaisesRegex(DestinationError, "damaged or was edited, line 1: "):
            read_manifest(self.store, "p")

    def test_times_keep_their_nanoseconds(self):
        self.assertEqual(utc(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456789Z")
        self.assertEqual(utc(-1), "1969-12-31T23:59:59.999999999Z")
        self.assertEqual(utc(10**30), f"@{10**30}")


class TestVerify(TransferTestCase):
    """What the store has, against what was sent."""

    def test_each_difference_is_told(self):
        data = b"1234"
        etag = self.store.put("p/a", data)
        good = entry("a", 4, hashlib.sha256(data).hexdigest(), etag)
        self.assertEqual(verify(self.store, "p", [good]), [])
        for wrong, words in (
            (entry("b", 4, etag=etag), "b is missing"),
            (entry("a", 5, etag=etag), "4 bytes there, 5 were sent"),
            (entry("a", 4, etag="other"), "a was replaced there"),
            (entry("a", 4, "0" * 64, etag), "a has other bytes there"),
        ):
            with self.assertRaisesRegex(VerificationError, words):
                verify(self.store, "p", [wrong], may_stay=lambda path: True)
        self.assertEqual(verify(self.store, "p", [entry("a", 4, "", etag)], deep=False), [])


class TestEvents(TransferTestCase):
    """What is told."""

    def test_each_event_is_one_line_with_all_its_fields(self):
        file = self.folder / "new" / "events.jsonl"
        moment = datetime(2024, 2, 19, tzinfo=UTC)
        events = Events(file, "job-1", "asset", lambda: moment)
        with events.during(Step.VERIFY, "begins") as figures:
            events.warn("two\nlines, ü")
            figures.update(files=2, message="ends")
        events.close()
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        self.assertEqual([line["kind"] for line in lines], ["start", "warning", "end"])
        self.assertEqual(lines[1]["message"], "two\nlines, ü")
        self.assertEqual(
            lines[2],
            {
                "time": "2024-02-19T00:00:00+00:00",
                "job_id": "job-1",
                "asset": "asset",
                "step": "verify",
                "kind": "end",
                "message": "ends",
                "figures": {"files": 2},
            },
        )


class TestProgress(TransferTestCase):
    """How far it is."""

    def test_it_is_told_at_most_once_a_second_and_at_the_end(self):
        seconds, told = [0.0], []
        with Progress(10, 1000, told.append, bar=False, clock=lambda: seconds[0]) as progress:
            progress.already(1, 100)
            for _ in range(8):
                seconds[0] += 0.5
                progress.add(100, 1)
        self.assertEqual([f["bytes_done"] for f in told], [300, 500, 700, 900, 900])
        self.assertEqual(told[-1]["bytes_per_second"], 200)
        self.assertEqual(told[-1]["seconds_left"], 0.5)
        self.assertEqual((told[-1]["files_done"], told[-1]["files_total"]), (9, 10))

    def test_nothing_is_known_before_anything_moved(self):
        progress = Progress(1, 10, lambda figures: None, bar=False, clock=lambda: 0.0)
        self.assertIsNone(progress.figures()["seconds_left"])

    def test_a_bar_in_a_terminal_leaves_the_lines_of_the_log_whole(self):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        logging.disable(logging.NOTSET)
        log = logging.getLogger("tests.bar")
        log.addHandler(StderrHandler())
        log.propagate = False
        variables = {"TERM": "xterm", "COLUMNS": "200"}
        with patch.dict(os.environ, variables), open(slave, "w") as terminal:
            with contextlib.redirect_stderr(terminal):
                with Progress(3, 30, lambda figures: None, "asset", interval=0) as progress:
                    progress.add(10, 1)
                    log.warning("the first line")
                    progress.add(20, 2)
                    log.warning("the second line")
            written = []  # a terminal hands over what it has in several pieces
            reader = threading.Thread(target=lambda: written.extend(all_of(master)))
            reader.start()
        reader.join()
        shown = b"".join(written).decode()
        for line in ("the first line", "the second line"):
            self.assertRegex(shown, rf"(\x1b\[2K|\r|\n){line} *\r\n")
        self.assertIn("3 of 3 files", shown)

    def test_a_terminal_gets_a_bar(self):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            with Progress(1, 10, lambda figures: None, "asset", bar=True, interval=0) as progress:
                progress.add(10, 1)
        self.assertIn("asset", errors.getvalue())

    def test_threads_may_count_at_once(self):
        progress = Progress(0, 0, lambda figures: None, bar=False)
        threads = [
            threading.Thread(target=lambda: [progress.add(1, 1) for _ in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(progress.figures()["files_done"], 4000)


class TestOpening(TransferTestCase):
    """Which store is opened."""

    def test_a_folder_is_a_bucket_within_the_destination(self):
        store = open_store(str(self.folder), "b")
        self.assertEqual(store.location("p"), str(self.folder / "b" / "p"))
