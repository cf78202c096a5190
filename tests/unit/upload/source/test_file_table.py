"""Files and items by the million: kept small, in order, and found again."""

import os
import unittest
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import SourceChangedError, TransferError
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.plan.estimate import estimate
from aind_data_transfer_service.upload.plan.items import FileItem, FileItems
from aind_data_transfer_service.upload.plan.plan import Plan, Series, in_order, part_size
from aind_data_transfer_service.upload.resume.sent_files import Arrivals, missing
from aind_data_transfer_service.upload.source import scan as source_scan
from aind_data_transfer_service.upload.source.changes import check_still
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile, Tree
from aind_data_transfer_service.upload.source.sample import Sample
from aind_data_transfer_service.upload.source.scan import scan
from aind_data_transfer_service.upload.transforms.registry import plan_modality
from aind_data_transfer_service.upload.transforms.zip import ZipItem
from tests.support import campaign, slow
from tests.support.transfer import TransferTestCase

PART = st.text("ab-/é鼠", min_size=1, max_size=4).map(lambda name: name.replace("/", "."))
NAMES = st.lists(PART.filter(lambda name: set(name) != {"."}), min_size=1, max_size=3)


class TestFiles(TransferTestCase):
    """What was found in a source."""

    @slow
    @settings(max_examples=campaign(40), suppress_health_check=list(HealthCheck))
    @given(st.sets(NAMES.map(tuple), max_size=12))
    def test_they_come_in_the_order_of_their_keys_and_are_found_by_name(self, tree):
        self.setUp()
        for parts in tree:
            try:
                self.write("/".join(parts))
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
        files = scan(str(self.source), "behavior", "p", 1024).files
        names = [file.name for file in files]
        there = [p.relative_to(self.source) for p in self.source.rglob("*") if p.is_file()]
        self.assertEqual(names, sorted(map(str, there)))
        self.assertEqual([files.find(name) for name in names], list(range(len(names))))
        for name in ("", "a", "zz", "a/b"):
            self.assertEqual(files.find(name) is not None, name in names)

    def test_they_are_what_the_system_says_of_them(self):
        self.write("a", b"12345")
        self.enterContext(patch.object(source_scan, "_UNSETTLED_NS", -(10**18)))
        for moment in (0, -1, 1_700_000_000_123_456_789):
            os.utime(self.source / "a", ns=(moment, moment))
            (file,) = scan(str(self.source), "behavior", "p", 1024).files
            known = os.stat(self.source / "a")
            self.assertEqual(
                (file.size, file.mtime_ns, file.ctime_ns),
                (known.st_size, known.st_mtime_ns, known.st_ctime_ns),
            )

    def test_a_million_take_their_names_and_some_forty_bytes_each(self):
        self.write("x")
        known = os.stat(self.source / "x")
        files = Files(Tree("/r", "behavior"))
        for number in range(10_000):
            files.add(f"{number:010}", known)
        parts = (files._names, files._ends, files._sizes, files._changes, files._seconds)
        used = sum(part.__sizeof__() for part in (*parts, files._rests))
        self.assertLess(used / len(files), 10 + 60)
        self.assertEqual(files[-1].name, "0000009999")
        with self.assertRaises(IndexError):
            files[10_000]

    def test_every_change_is_named_once(self):
        for name in "abdf":
            self.write(name)
        before = scan(str(self.source), "behavior", "p", 1024)
        for name in "ce":
            self.write(name)
        (self.source / "a").unlink()
        self.write("d", b"other")
        (self.source / "f").unlink()
        after = scan(str(self.source), "behavior", "p", 1024)
        with self.assertRaises(SourceChangedError) as caught:
            check_still([before], [after])
        text = str(caught.exception)
        for words in ("a vanished", "c appeared", "d changed", "e appeared", "f vanished"):
            self.assertEqual(text.count(f"{self.source}/{words}"), 1, words)
        self.assertNotIn(f"{self.source}/b", text)


class TestItems(unittest.TestCase):
    """What is sent, and in which order."""

    def setUp(self):
        """Make the items of two sources, and a zip."""
        self.parts = []
        for folder in ("behavior", "behavior1"):
            files = [SourceFile(Tree("/r", folder), n, i, 0, i) for i, n in enumerate("abc")]
            self.parts.append([FileItem(file) for file in files])
        self.parts += [[], [ZipItem("ecephys/ecephys.zip", ())]]
        self.items = Series(self.parts)

    def test_a_series_is_all_of_its_parts(self):
        keys = [item.key for part in self.parts for item in part]
        self.assertEqual(len(self.items), 7)
        self.assertEqual([item.key for item in self.items], keys)
        self.assertEqual([self.items[place].key for place in range(7)], keys)
        self.assertEqual(self.items[-1].key, keys[-1])
        self.assertEqual([self.items.find(key) for key in keys], list(range(7)))
        self.assertIsNone(self.items.find("behavior2/a"))

    def test_a_folder_that_begins_alike_is_another(self):
        files = Files(Tree("/r", "behavior"))
        items = FileItems(files)
        self.assertIsNone(items.find("behavior1/a"))

    @given(st.lists(st.integers(0, 30), max_size=30))
    def test_the_largest_come_first_and_small_ones_run_beside_them(self, sizes):
        tree = Tree("/r", "f")
        items = [FileItem(SourceFile(tree, f"{i}", size, 0, 0)) for i, size in enumerate(sizes)]
        large, small = in_order(items, threshold=10)
        told = [item.source_size for item in large]
        self.assertEqual(told, sorted((size for size in sizes if size > 10), reverse=True))
        self.assertEqual([i.source_size for i in small], [size for size in sizes if size <= 10])
        self.assertEqual(sorted(i.key for i in (*large, *small)), sorted(i.key for i in items))


class TestWhatIsTooMuchForOneZip(TransferTestCase):
    """A job has to go through it in the memory that it has."""

    def warning_of(self):
        """Tell what is said of the source; it is sent as it is."""
        found = scan(str(self.source), "behavior-videos", "p", 1024)
        _, planned = plan_modality(found, "behavior-videos", True, Sample())
        [warning] = planned.warnings
        self.assertIsInstance(planned.items, FileItems)
        self.assertEqual(len(planned.items), len(found.files))
        return warning

    def test_too_many_bytes_travel_as_they_are(self):
        os.truncate(self.write("large.dat", b""), 500 * 10**9 + 1)
        expected = "500,000,000,001 bytes are too many for one zip (500,000,000,000 at most)"
        self.assertEqual(self.warning_of(), f"behavior-videos: {expected}; they travel as they are")

    def test_too_many_files_travel_as_they_are(self):
        for name in "abc":
            self.write(name)
        with patch("aind_data_transfer_service.upload.transforms.zip.ZIP_FILES", 3):
            found = scan(str(self.source), "behavior", "p", 1024)
            _, planned = plan_modality(found, "behavior", True, Sample())
            self.assertIsInstance(planned.items[0], ZipItem)
        with patch("aind_data_transfer_service.upload.transforms.zip.ZIP_FILES", 2):
            self.assertIn("3 files are too many for one zip (2 at most)", self.warning_of())


class TestOneFileOfTwoTerabytes(TransferTestCase):
    """More than any disk here holds: a sparse file."""

    def test_it_is_cut_into_parts_that_s3_takes_and_that_hold_all_of_it(self):
        size = 2 * 1000**4
        os.truncate(self.write("large.dat", b""), size)
        found = scan(str(self.source), "behavior", "p", 1024)
        _, planned = plan_modality(found, "behavior", False, Sample())
        plan = Plan("p", "l", Series([planned.items]))
        plan.check(5 * 1024**4)
        (item,), small = in_order(plan.items)
        self.assertEqual((item.source_size, len(small)), (size, 0))
        expected = estimate(plan, 16, 256 * 1024**2, None)
        part = part_size(size)
        self.assertEqual(expected.parts, -(-size // part))
        self.assertLess(expected.parts, 10_000)
        self.assertTrue(5 * 1024**2 <= part <= 5 * 1024**3)
        last = size - part * (expected.parts - 1)
        self.assertTrue(0 < last <= part)


class TestArrivals(TransferTestCase):
    """What is known to have arrived."""

    def setUp(self):
        """Make a plan of three files, and its record."""
        super().setUp()
        for name in "abc":
            self.write(name)
        self.items = Series([FileItems(scan(str(self.source), "z", "p", 1024).files)])
        self.journal = self.enterContext(Journal(self.folder / "state" / "journal.jsonl"))
        self.arrivals = Arrivals(self.items, self.journal)

    def entry(self, place: int) -> Entry:
        """Make the entry of an item."""
        item = self.items[place]
        return Entry(item.key, 4, "0" * 64, "t", "e", item.version)

    def test_they_come_in_the_order_of_their_paths_with_the_documents(self):
        for place in (2, 0, 1):
            self.arrivals.add(self.entry(place))
        self.arrivals.describe([Entry(n, 1, "", "", "", "document") for n in ("~z", "a")])
        for _ in range(2):
            self.assertEqual([e.path for e in self.arrivals], ["a", "z/a", "z/b", "z/c", "~z"])
        self.assertEqual((len(self.arrivals), self.arrivals.size), (5, 14))

    def test_the_journal_goes_before_an_earlier_manifest(self):
        older = Entry("z/a", 9, "", "", "old", "old")
        self.journal.add(self.entry(0))
        self.arrivals.recall([older, self.entry(1), Entry("other", 1, "", "", "", "")])
        stored = [StoredObject(f"p/z/{name}", 4, "e") for name in "abc"]
        stored += [StoredObject("p/other", 1, ""), StoredObject("p/doc.json", 1, "")]
        there, others = self.arrivals.confirm(stored, 2, ["doc.json"])
        self.assertEqual(list(there), [1, 1, 0])
        self.assertEqual(others, ["other"])
        self.assertEqual([item.key for item in missing(self.items, there)], ["z/c"])
        self.assertEqual(self.journal.at(0).path, "z/a")

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, 11), max_size=30))
    def test_entries_are_read_together_as_they_are_read_one_by_one(self, places):
        lengths = (1, 30_000, 70_000, 2, 140_000, 3)
        entries = [Entry("x" * length, length, "", "", "", "") for length in lengths * 2]
        with Journal(self.folder / "another.jsonl") as journal:
            offsets = journal.add_all(entries)
            found = list(journal.several(offsets[place] for place in places))
            self.assertEqual(found, [entries[place] for place in places])
            self.assertEqual(found, [journal.at(offsets[place]) for place in places])
            journal.remove()

    def test_what_was_doubted_or_changed_is_sent_again(self):
        for place in range(3):
            self.journal.add(self.entry(place))
        self.journal.doubt(["z/a"])
        self.write("b", b"newer")
        items = Series([FileItems(scan(str(self.source), "z", "p", 1024).files)])
        arrivals = Arrivals(items, self.journal)
        arrivals.recall([])
        stored = [StoredObject(f"p/z/{name}", 4, "e") for name in "abc"]
        self.assertEqual(list(arrivals.confirm(stored, 2, [])[0]), [0, 0, 1])

    def test_long_lines_are_read_whole_and_a_cut_off_journal_is_told(self):
        long = Entry("x" * 4000, 1, "", "", "", "")
        self.assertEqual(self.journal.at(self.journal.add(long)), long)
        with self.assertRaisesRegex(TransferError, "was cut off"):
            self.journal.at(1 << 20)
