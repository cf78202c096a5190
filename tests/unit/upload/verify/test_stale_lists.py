"""Verification against a list that is not the newest, or is not what the store holds."""

from types import SimpleNamespace
from unittest.mock import patch

from aind_data_transfer_service.errors import VerificationError
from aind_data_transfer_service.storage.s3_store import S3AssetStore
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.verify.compare import verify
from tests.support.scripted import reply
from tests.unit.storage.s3.test_faults import FaultTest
from tests.unit.storage.s3.test_lists import entry_of, page_of


class TestStaleLists(FaultTest):
    """Verification against a list that is not the newest."""

    SENT = [Entry(path, 1, "", "", '"e"', "") for path in ("1", "2")]
    RIGHT = page_of(entry_of("a/1"), entry_of("a/2"))

    def setUp(self):
        """Ask again at once."""
        super().setUp()
        self.enterContext(patch.object(S3AssetStore, "list_pauses", (0.0, 0.0)))

    def verify(self, *pages, **more):
        """Prove an asset by these lists, one after the other."""
        store = self.open(*(reply(200, page) for page in pages))
        return verify(store, "a", self.SENT, **more)

    def test_a_list_that_misses_or_mismatches_an_object_is_asked_for_again(self):
        for old in (
            page_of(),
            page_of(entry_of("a/1")),
            page_of(entry_of("a/1"), entry_of("a/2", "old")),
            page_of(entry_of("a/1"), entry_of("a/2", size=7)),
            page_of(entry_of("a/0"), entry_of("a/1"), entry_of("a/2")),
        ):
            self.assertEqual(self.verify(old, self.RIGHT), [])
            self.assertEqual(len(self.server.requests), 2)
            self.assertEqual(self.verify(old, old, self.RIGHT), [])

    def test_what_stays_wrong_is_named(self):
        with self.assertRaisesRegex(VerificationError, "2 is missing"):
            self.verify(*[page_of(entry_of("a/1"))] * 3)
        self.assertEqual(len(self.server.requests), 3)

    def test_files_that_may_be_there_are_not_waited_for(self):
        more = page_of(entry_of("a/0"), entry_of("a/1"), entry_of("a/2"))
        (other,) = self.verify(more, may_stay=lambda path: path == "0")
        self.assertEqual(other.key, "a/0")
        self.assertEqual(len(self.server.requests), 1)

    def test_a_key_on_pages_far_apart_is_one_file(self):
        """Pages that are neighbours are compared anyway."""
        first = page_of(entry_of("a/1"), token="t")
        middle = page_of(entry_of("a/2"), token="u")
        last = page_of(entry_of("a/1"), entry_of("a/2"))
        pages = [first, middle, last]
        for may_stay in (False, True):
            self.assertEqual(self.verify(*pages * 2, may_stay=lambda path: may_stay), [])
        other = page_of(entry_of("a/1", "other"), entry_of("a/2"))
        with self.assertRaisesRegex(VerificationError, "1 is listed twice there"):
            self.verify(*[first, middle, other] * 3)

    def test_pauses_grow(self):
        paused = []
        clock = SimpleNamespace(sleep=paused.append)
        with patch("aind_data_transfer_service.upload.verify.compare.time", clock):
            with patch.object(S3AssetStore, "list_pauses", (0.2, 1.0, 3.0)):
                with self.assertRaises(VerificationError):
                    self.verify(*[page_of()] * 4)
        self.assertEqual(paused, [0.2, 1.0, 3.0])
