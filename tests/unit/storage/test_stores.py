"""The store of assets, as a local folder."""

import errno
import os
import unittest
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    TransferError,
)
from aind_data_transfer_service.storage import local_files, local_store, system_calls
from aind_data_transfer_service.storage.base import AssetState, BufferBody
from aind_data_transfer_service.storage.layout import key_problem, manifest_key, mark_key
from aind_data_transfer_service.storage.open import open_store
from tests.support import slow
from tests.support.transfer import PREFIX, TransferTestCase, as_an_ordinary_user


class TestKeys(unittest.TestCase):
    """Which keys are used."""

    @given(st.text())
    def test_a_key_without_a_problem_survives_every_store(self, key):
        if key_problem(key, 1024) is None:
            self.assertNotRegex(key, r"[\x00-\x1f\x7f\\]|^/|/$|//")
            self.assertLessEqual(len(key.encode()), 1024)

    def test_the_limit_counts_bytes(self):
        self.assertIsNone(key_problem("a" * 1024, 1024))
        self.assertIn("1026 bytes", key_problem("ü" * 513, 1024))


class TestLocalStore(TransferTestCase):
    """Objects and assets in a folder."""

    def test_states_of_assets(self):
        store = self.store
        self.assertEqual(store.asset_state("a"), AssetState.ABSENT)
        self.assertFalse((self.folder / "store").exists())
        store.put("a/x", b"")
        store.put("b/x", b"")
        store.put(mark_key("b"), b"{}")
        store.put(manifest_key("a"), b"{}")
        store.put("abc/x", b"")
        store.put(mark_key("only-begun"), b"{}")
        expected = {
            "a": AssetState.PRESENT,
            "b": AssetState.PARTIAL,
            "ab": AssetState.ABSENT,
            "only-begun": AssetState.PARTIAL,
        }
        self.assertEqual(store.asset_states(list(expected)), expected)
        many = dict.fromkeys((f"none{i}" for i in range(50)), AssetState.ABSENT)
        self.assertEqual(store.asset_states([*expected, *many]), expected | many)

    def test_many_absent_assets_without_a_bucket(self):
        states = self.store.asset_states([f"n{i}" for i in range(50)])
        self.assertEqual(set(states.values()), {AssetState.ABSENT})

    def test_an_object_is_read_back_as_it_was_written(self):
        etag = self.store.put("a/ü b/'x'", b"12")
        self.assertEqual(self.store.get("a/ü b/'x'"), b"12")
        (found,) = self.store.objects("a")
        self.assertEqual((found.key, found.size, found.etag), ("a/ü b/'x'", 2, etag))
        self.assertEqual(list(self.store.read("a/ü b/'x'", 1)), [b"1", b"2"])

    def test_a_disk_that_cannot_be_written_is_told_before_anything_is_called_whole(self):
        """Only the system can say that what it took did not reach the disk."""
        self.store.put("a/x", b"1")
        self.store.settle("a")
        with patch.object(local_files.ctypes, "CDLL") as library:
            library.return_value.syncfs.return_value = -1
            with patch.object(local_files.ctypes, "get_errno", lambda: errno.EIO):
                with self.assertRaisesRegex(TransferError, "cannot be written: Input/output"):
                    self.store.settle("a")

    def test_where_one_disk_cannot_be_named_all_are_written(self):
        self.store.put("a/x", b"1")
        library = type("Library", (), {})()
        with patch.object(local_files.ctypes, "CDLL", lambda *_, **__: library):
            with patch("os.sync") as sync:
                self.store.settle("a")
        sync.assert_called_once_with()

    def test_a_new_object_never_replaces_another(self):
        self.store.put("a/x", b"1", new=True)
        with self.assertRaises(FileExistsError):
            self.store.put("a/x", b"2", new=True)
        self.assertEqual(self.store.get("a/x"), b"1")

    def test_parts_that_fail_leave_nothing(self):
        def parts():
            yield BufferBody(b"1")
            raise KeyError("mine")

        with self.assertRaises(KeyError):
            self.store.put_parts("a/x", parts(), 1)
        self.assertIsNone(self.store.get("a/x"))
        files = [p for p in (self.folder / "store").rglob("*") if p.is_file()]
        self.assertEqual(files, [])

    def test_keys_never_lead_out_of_the_bucket(self):
        for key in ("../x", "a/../../x", "/x", "a//b", "a/\0"):
            with self.assertRaises(DestinationError):
                self.store.put(key, b"")

    def test_deleting_removes_folders_that_become_empty(self):
        self.store.put("a/b/c", b"")
        self.store.put("a/d", b"")
        self.store.delete(["a/b/c", "a/none", "a/d/none"])
        self.assertEqual([o.key for o in self.store.objects("a")], ["a/d"])
        self.assertEqual(self.store.folders("a"), set())

    def test_others_may_write_while_many_files_are_deleted(self):
        store, other, key = self.store, self.store, mark_key("b")
        listed = {f"a/{number}": store.put(f"a/{number}", b"x") for number in range(3)}
        renewed = [other.put(key, b"0")]

        def renew(seconds: float) -> None:
            renewed.append(other.put(key, str(len(renewed)).encode(), if_match=renewed[-1]))

        with (
            patch.object(local_store, "_LONGEST_HOLD", 0),
            patch.object(local_store.time, "sleep", renew),
        ):
            self.assertEqual(store.delete_matching(listed), [])
        self.assertEqual(len(renewed), 3)
        self.assertEqual(list(store.objects("a")), [])

    def test_a_lease_that_is_lost_meanwhile_ends_the_deletion(self):
        store = self.store
        listed = {f"a/{number}": store.put(f"a/{number}", b"x") for number in range(3)}
        lost = [None, DestinationExistsError("another job has taken it over")]
        with (
            patch.object(local_store, "_LONGEST_HOLD", 0),
            patch.object(store.guard, "check", side_effect=lost),
        ):
            with self.assertRaises(DestinationExistsError):
                store.delete_matching(listed)
        self.assertEqual({item.key for item in store.objects("a")}, {"a/1", "a/2"})

    def test_records_that_are_being_written_are_not_taken_for_left_over(self):
        real, store = local_store.settle_record, self.store

        def settle(descriptor: int) -> None:
            store.settle("a")
            real(descriptor)

        with patch.object(local_store, "settle_record", settle):
            store.put(mark_key("a"), b"{}")
        self.assertEqual(store.get(mark_key("a")), b"{}")

    def test_a_link_in_the_place_of_an_object_is_another_object(self):
        store = self.store
        etag = store.put("a/x", b"x")
        place = Path(store.location("a/x"))
        place.unlink()
        place.symlink_to(self.write("theirs"))
        self.assertEqual(store.delete_matching({"a/x": etag}), ["a/x"])
        self.assertTrue(place.is_symlink())

    def test_a_file_where_a_folder_must_be_is_told(self):
        self.store.put("a", b"")
        with self.assertRaises(TransferError):
            self.store.put("a/b", b"")
        self.assertIsNone(self.store.get("a/b"))

    def test_what_may_not_be_touched_is_told(self):
        self.store.put("a/b/c", b"1")
        bucket = self.folder / "store" / self.bucket
        os.chmod(bucket / "a", 0)
        self.addCleanup(os.chmod, bucket / "a", 0o755)
        with as_an_ordinary_user():
            for call in (
                lambda: list(self.store.objects("a")),
                lambda: self.store.folders("a"),
                lambda: self.store.get("a/b/c"),
                lambda: list(self.store.read("a/b/c", 1)),
                lambda: self.store.delete(["a/b/c"]),
                lambda: open_store(str(bucket), "new").create(),
            ):
                with self.assertRaises(DestinationError):
                    call()

    def test_room_is_that_of_the_disk_it_will_be_on(self):
        store = open_store(str(Path(self.folder) / "not" / "yet"), "b")
        self.assertGreater(store.free_bytes(), 0)


class TestDrivesWithoutHardLinks(TransferTestCase):
    """exFAT, FUSE mounts of buckets and some network drives have none."""

    def take_away(self, code, renames=False):
        """Make the drive one without hard links, and by default without atomic renames."""
        fault = OSError(code, os.strerror(code))
        self.enterContext(patch("os.link", side_effect=fault))
        if not renames:
            self.enterContext(patch.object(local_files, "rename_new", lambda old, new: False))

    def test_a_job_works_as_ever(self):
        self.write("a.txt")
        for code in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            with self.subTest(errno.errorcode[code]):
                self.take_away(code)
                self.run_job(force_cloud_sync=True)
                self.assertEqual(self.stored()["behavior/a.txt"], b"data")

    def test_a_new_object_never_replaces_another(self):
        for renames in (True, False):
            with self.subTest(renames=renames):
                self.take_away(errno.EPERM, renames)
                key = f"a/{renames}"
                self.store.put(key, b"first", new=True)
                with self.assertRaises(FileExistsError):
                    self.store.put(key, b"second", new=True)
                self.assertEqual(self.store.get(key), b"first")
        self.assertEqual(list(self.store.unfinished()), [])

    def test_what_cannot_be_moved_leaves_no_empty_object(self):
        self.take_away(errno.EPERM)
        with patch("os.replace", side_effect=OSError(errno.EIO, "Input/output error")):
            with self.assertRaisesRegex(TransferError, "Input/output error"):
                self.store.put("a/x", b"data", new=True)
        self.assertIsNone(self.store.get("a/x"))

    def test_a_name_that_is_taken_is_not_replaced_by_a_rename(self):
        old, new = self.write("old", b"old"), self.write("new", b"new")
        with self.assertRaises(FileExistsError):
            system_calls.rename_new(old, new)
        self.assertEqual((old.read_bytes(), new.read_bytes()), (b"old", b"new"))
        new.unlink()
        self.assertTrue(system_calls.rename_new(old, new))
        self.assertEqual(new.read_bytes(), b"old")


class TestHoles(TransferTestCase):
    """Zeros take no room at the destination."""

    @slow
    def test_a_sparse_file_stays_sparse(self):
        path = self.write("sparse.bin", b"begin")
        os.truncate(path, 40 << 20)
        with open(path, "r+b") as file:
            file.seek(20 << 20)
            file.write(b"middle")
        self.run_job()
        there = Path(self.store.location(f"{PREFIX}/behavior/sparse.bin"))
        self.assertEqual(there.stat().st_size, 40 << 20)
        self.assertLess(there.stat().st_blocks * 512, 4 << 20)
        self.assertEqual(there.read_bytes(), path.read_bytes())

    @given(
        st.lists(st.sampled_from([b"\0" * 40, b"\0" * 7, b"x", b"\0x\0", b"y" * 40]), max_size=9),
        st.integers(1, 50),
    )
    def test_every_byte_is_read_back_as_it_was(self, runs, part):
        data = b"".join(runs)
        parts = [data[start : start + part] for start in range(0, len(data), part)]
        sizes = {"_LEAST_HOLE": 8, "_PIECE": 16, "_SAMPLES": 4, "_SAMPLE": 4}
        with patch.multiple(local_files, **sizes):
            self.store.put("a/x", data)
            self.store.put_parts("a/y", map(BufferBody, parts), part)
        self.assertEqual((self.store.get("a/x"), self.store.get("a/y")), (data, data))


class TestETags(TransferTestCase):
    """What tells one version of an object from another."""

    def test_records_of_one_size_in_quick_succession_have_different_ones(self):
        key = mark_key("a")
        self.assertEqual(len({self.store.put(key, b"%03d" % n) for n in range(50)}), 50)
