"""The store of assets, as a local folder."""

import errno
import os
import unittest
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.upload import local_store
from aind_data_transfer_service.upload.store import (
    AssetState,
    key_problem,
    manifest_key,
    mark_key,
    open_store,
)
from tests.support.transfer import TransferTestCase, as_an_ordinary_user


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
        with patch.object(local_store.ctypes, "CDLL") as library:
            library.return_value.syncfs.return_value = -1
            with patch.object(local_store.ctypes, "get_errno", lambda: errno.EIO):
                with self.assertRaisesRegex(TransferError, "cannot be written: Input/output"):
                    self.store.settle("a")

    def test_where_one_disk_cannot_be_named_all_are_written(self):
        self.store.put("a/x", b"1")
        library = type("Library", (), {})()
        with patch.object(local_store.ctypes, "CDLL", lambda *_, **__: library):
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
            yield b"1"
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
