"""Stores that list other ETags than they gave."""

import contextlib
import io
import os
from collections.abc import Callable
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import ExitCode, VerificationError
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.storage.model import Begun, Part, StoredObject, same_etag
from aind_data_transfer_service.storage.multipart import agreed
from aind_data_transfer_service.upload.job.events import Kind, Step
from tests.support.transfer import PREFIX, TransferTestCase

_OBJECTS = LocalAssetStore.objects


class ListedETagsTestCase(TransferTestCase):
    """Gives each test a store whose list has ETags of its own."""

    def setUp(self) -> None:
        """Make a session."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, {"DATA_DIR": str(self.folder / "data")}))
        self.enterContext(patch.dict(os.environ, {"DESTINATION": str(self.folder / "store")}))
        self.write("a.txt")
        self.write("b.txt")

    def list_as(self, change: Callable[[str], str], checks: bool) -> None:
        """Have objects listed by other ETags; `checks` is whether the store checks what it takes.

        Such stores are told from each other by nothing but these two, so a folder stands for them.
        """
        listed = _OBJECTS

        def objects(store, prefix, cuts=()):
            for found in listed(store, prefix, cuts):
                yield StoredObject(found.key, found.size, change(found.etag), found.modified)

        self.enterContext(patch.object(LocalAssetStore, "objects", objects))
        self.enterContext(patch.object(LocalAssetStore, "proves_by_reading", not checks))
        self.enterContext(patch.object(LocalAssetStore, "refuses_damage", lambda *_: True))

    def verify(self) -> tuple[int, str]:
        """Run `verify`; give its exit code and what it printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main.main(["verify", f"{self.bucket}/{PREFIX}"])
        return code, out.getvalue()


class TestOtherETags(ListedETagsTestCase):
    """Lists that name everything otherwise, metadata documents too."""

    def test_the_manifest_of_a_store_that_checks_holds_what_verify_will_see(self):
        self.list_as(lambda etag: f'"other-{etag}"', checks=True)
        self.run_job()
        self.assertTrue(all(e.etag.startswith('"other-') for e in self.manifest().values()))
        self.assertIn("lists 5 files with other ETags", " ".join(self.told.warnings()))
        self.assertEqual(self.verify()[0], 0, self.verify()[1])

    def test_so_does_that_of_a_store_that_is_read_back(self):
        """As a network mount that invents inode numbers."""
        self.list_as(lambda etag: f"other-{etag}", checks=False)
        self.run_job()
        self.assertEqual(self.verify()[0], 0, self.verify()[1])

    def test_a_list_without_etags_is_verified_too(self):
        self.list_as(lambda etag: "", checks=True)
        self.run_job()
        self.assertEqual(self.verify()[0], 0, self.verify()[1])

    def test_other_bytes_under_another_etag_are_found(self):
        for checks in (True, False):
            with self.subTest(checks=checks):
                self.list_as(lambda etag: f"other-{etag}", checks)
                self.told.when(Step.VERIFY, Kind.START, self.replace_a_document)
                with self.assertRaisesRegex(VerificationError, "processing.json"):
                    self.run_job()

    def replace_a_document(self) -> None:
        """Replace a document by another of its size."""
        key = f"{PREFIX}/processing.json"
        self.store.put(key, b"x" * len(self.store.get(key)))

    def test_what_was_replaced_later_is_found_by_verify(self):
        self.list_as(lambda etag: f"other-{etag}", checks=True)
        self.run_job()
        self.replace_a_document()
        code, out = self.verify()
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn("processing.json was replaced", out)


class TestOtherSpellings(ListedETagsTestCase):
    """One ETag, written in several ways."""

    def test_nothing_is_read_back_for_quotes_case_or_weakness(self):
        self.run_job()
        for change in (str.upper, lambda etag: f'"{etag}"', lambda etag: f'W/"{etag}"'):
            self.list_as(change, checks=True)
            read = self.enterContext(patch.object(LocalAssetStore, "read_back"))
            self.write("a.txt", os.urandom(4))
            self.run_job(force_cloud_sync=True)
            self.assertEqual(read.call_count, 0)
            self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
            self.assertEqual(self.verify()[0], 0)

    def test_they_are_the_same(self):
        for other in ('"ab"', "ab", '"AB"', 'W/"ab"', '"W/"ab""'):
            self.assertTrue(same_etag('"ab"', other), other)
        for other in ('"ab-1"', "", '""', "b"):
            self.assertFalse(same_etag('"ab"', other), other)

    def test_parts_are_gone_on_with(self):
        begun = Begun("id", 8, "CRC64NVME", "s", {1: Part(1, 8, '"ab"', "c")})
        self.assertEqual(list(agreed(begun, {1: Part(1, 8, '"AB"', "c")})), [1])
        self.assertEqual(list(agreed(begun, {1: Part(1, 8, '"AC"', "c")})), [])
