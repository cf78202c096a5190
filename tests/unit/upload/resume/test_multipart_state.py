"""What is remembered of uploads in parts."""

import tempfile
import unittest
from pathlib import Path

from aind_data_transfer_service.storage.model import Part
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.resume.multipart_state import Ledger


class LedgerTest(unittest.TestCase):
    """Begun, gone on with, completed."""

    def setUp(self):
        """Open a journal."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.journal = self.enterContext(Journal(self.folder / "journal"))

    def begin(self, ledger, path, parts=2):
        """Note an upload and some of its parts."""
        page = ledger.checkpoint_for(path, "v1").start(f"id of {path}", 8, "CRC64NVME")
        for number in range(1, parts + 1):
            page.add_part(f"id of {path}", Part(number, 8, '"e"', "c"))
        return page

    def test_the_next_job_knows_what_was_begun_and_what_arrived(self):
        self.begin(Ledger(self.journal), "a")
        begun = Ledger(self.journal).begun("a", "v1")
        self.assertEqual((begun.upload_id, sorted(begun.parts)), ("id of a", [1, 2]))
        self.assertIsNone(Ledger(self.journal).begun("a", "v2"))

    def test_what_is_completed_needs_not_be_given_up(self):
        """Thousands of questions in vain would leave a cancelled job no time for the others."""
        ledger = Ledger(self.journal)
        for number in range(100):
            self.begin(ledger, f"{number}").complete()
        self.begin(ledger, "open")
        self.assertEqual([path for path, _ in ledger.uploads()], ["open"])

    def test_what_others_noted_is_gone_on_with(self):
        with Journal(self.folder / "other") as other:
            self.begin(Ledger(other), "a", parts=1)
        ledger = Ledger(self.journal, [other])
        ledger.checkpoint_for("a", "v1").add_part("id of a", Part(2, 8, '"e"', "c"))
        begun = Ledger(self.journal, [other]).begun("a", "v1")
        self.assertEqual(sorted(begun.parts), [1, 2])

    def test_what_was_begun_anew_is_not_mixed_with_what_others_noted(self):
        with Journal(self.folder / "other") as other:
            self.begin(Ledger(other), "a", parts=3)
        page = Ledger(self.journal, [other]).checkpoint_for("a", "v1")
        page.start("new", 8, "CRC64NVME").add_part("new", Part(2, 8, '"e"', "c"))
        begun = Ledger(self.journal, [other]).begun("a", "v1")
        self.assertEqual((begun.upload_id, sorted(begun.parts)), ("new", [2]))
