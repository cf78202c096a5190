"""Journals, records and manifests that were damaged or edited."""

import hashlib
import json
import zlib
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    ExitCode,
    SourceChangedError,
    TransferError,
)
from aind_data_transfer_service.storage.layout import manifest_key
from aind_data_transfer_service.storage.model import Part
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.manifest import Manifest, write_manifest
from aind_data_transfer_service.upload.manifest.shard_records import ShardRecords, write_record
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from tests.support.transfer import PREFIX, TransferTestCase
from tests.unit.upload.verify.test_audit import AuditTestCase

_SHA256 = hashlib.sha256(b"data").hexdigest()


def sealed(line: bytes) -> bytes:
    """Give a line of JSON the CRC that it would have if the product had written it."""
    rest = b'",' + line[1:]
    return b'{"crc":"%08x%s\n' % (zlib.crc32(rest), rest)


def flipped(data: bytes, place: int) -> bytes:
    """Change the lowest bit of one byte."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


class TestDamagedJournal(TransferTestCase):
    """A job that goes on from a journal in which something changed."""

    def setUp(self) -> None:
        """Leave a journal: one file has arrived, and the job failed at the other."""
        super().setUp()
        self.write("a.txt")
        last = self.write("z.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: last.write_bytes(b"changed"))
        with self.assertRaises(SourceChangedError):
            self.run_job(self.settings(upload_connections=1))
        self.journal = self.settings().state_dir / self.bucket / PREFIX / "journal.jsonl"

    def assert_whole(self, sent: int) -> None:
        """Run the job; see how many files were sent again, and that the manifest is right."""
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], sent)
        entry = self.manifest()["behavior/a.txt"]
        self.assertEqual((entry.sha256, entry.size), (_SHA256, 4))
        self.assertEqual(self.stored()["behavior/a.txt"], b"data")

    def test_an_intact_line_is_believed(self):
        self.assert_whole(1)

    def test_a_flipped_bit_of_a_sha256_has_the_file_sent_again(self):
        data = self.journal.read_bytes()
        self.journal.write_bytes(flipped(data, data.index(_SHA256.encode()) + 7))
        self.assert_whole(2)

    def test_a_changed_digit_of_a_time_has_the_file_sent_again(self):
        data = self.journal.read_bytes()
        place = data.index(b'"mtime":"') + len(b'"mtime":"2026')
        self.journal.write_bytes(data[: place - 1] + b"0" + data[place:])
        self.assert_whole(2)

    def test_a_journal_of_an_earlier_release_has_all_sent_again(self):
        content = json.loads(self.journal.read_bytes().splitlines()[-1])
        del content["crc"]
        self.journal.write_bytes(json.dumps(content).encode() + b"\n")
        self.assert_whole(2)

    def test_lines_of_another_type_have_the_file_sent_again_and_end_no_job(self):
        content = json.loads(self.journal.read_bytes().splitlines()[-1])
        wrong = [{"path": 5}, {"size": "4"}, {"size": -(2**70)}, {"sha256": None}, {"etag": []}]
        lines = [sealed(json.dumps({**content, **one}).encode()) for one in wrong]
        lines += [b"[]\n", b"{}\n", b"\xff\xfe\n", b"\n", sealed(b'{"note":"part"}')]
        lines += [sealed(b'{"note":"upload","path":1}'), sealed(b'{"note":"other"}')]
        self.journal.write_bytes(b"".join(lines))
        self.assert_whole(2)

    def test_every_flipped_bit_of_a_line_is_found(self):
        with Journal(self.folder / "one") as journal:
            journal.add(Entry("a", 4, _SHA256, "t", "e", "s"))
            line = (self.folder / "one").read_bytes()
            for place in range(len(line) - 1):
                (self.folder / "one").write_bytes(flipped(line, place))
                self.assertEqual(journal.entries(), {}, place)

    def test_a_line_that_is_damaged_while_the_job_runs_ends_it_and_says_what_to_do(self):
        with Journal(self.folder / "one") as journal:
            journal.add(Entry("a", 4, _SHA256, "t", "e", "s"))
            line = (self.folder / "one").read_bytes()
            (self.folder / "one").write_bytes(flipped(line, 30))
            for read in (lambda: journal.at(0), lambda: list(journal.several([0]))):
                with self.assertRaisesRegex(TransferError, "damaged while.*submit the job again"):
                    read()


class TestDamagedNotes(TransferTestCase):
    """What a journal says of parts."""

    def setUp(self) -> None:
        """Note an upload and three parts."""
        super().setUp()
        self.file = self.folder / "journal"
        self.journal = self.enterContext(Journal(self.file))
        page = Ledger(self.journal).checkpoint_for("a", "v1").start("id", 8, "CRC64NVME")
        for number in (1, 2, 3):
            page.add_part("id", Part(number, 8, '"e"', "c"))

    def test_a_damaged_line_has_one_part_sent_again(self):
        lines = self.file.read_bytes().splitlines(keepends=True)
        lines[2] = flipped(lines[2], len(lines[2]) // 2)
        self.file.write_bytes(b"".join(lines))
        self.assertEqual(sorted(Ledger(self.journal).begun("a", "v1").parts), [1, 3])

    def test_a_file_that_proved_wrong_is_not_put_together_from_the_same_parts(self):
        self.journal.doubt(["a"])
        self.assertIsNone(Ledger(self.journal).begun("a", "v1"))


class TestDamagedShardRecord(TransferTestCase):
    """What a shard left beside the asset."""

    def test_a_damaged_line_is_not_known_and_the_others_are(self):
        entries = [Entry(name, 4, _SHA256, "t", "e", "s") for name in "abc"]
        write_record(self.store, PREFIX, Shard(1, 2), entries, 1, "one", [])
        key = f".transfer/{PREFIX}/shards/1-of-2.jsonl"
        data = self.store.get(key)
        self.store.put(key, flipped(data, data.rindex(_SHA256.encode())))
        records = ShardRecords(self.store, PREFIX, self.folder / "state")
        self.assertEqual([entry.path for entry in records], ["a", "b"])


class TestDamagedManifest(AuditTestCase):
    """An asset whose manifest was damaged or edited."""

    def setUp(self) -> None:
        """Keep the manifest's lines."""
        super().setUp()
        self.lines = self.store.get(manifest_key(PREFIX)).splitlines(keepends=True)

    def put(self, number: int, line: bytes) -> None:
        """Replace one line."""
        lines = [*self.lines]
        lines[number - 1] = line
        self.store.put(manifest_key(PREFIX), b"".join(lines))

    def without_crcs(self, **changes: object) -> None:
        """Write the manifest as earlier releases did, and change its second line."""
        contents = [json.loads(line) for line in self.lines]
        for content in contents:
            content.pop("crc", None)
        contents[1] |= changes
        lines = [json.dumps(content).encode() + b"\n" for content in contents]
        self.store.put(manifest_key(PREFIX), b"".join(lines))

    def assert_refused(self, pattern: str) -> None:
        """See that `verify` ends with 13 and one line that says what is wrong."""
        for deep in ((), ("--deep",)):
            code, _, err = self.verify(*deep, self.asset)
            self.assertEqual(code, ExitCode.DESTINATION, err)
            self.assertRegex(err, rf"manifest\.jsonl is damaged or was edited, {pattern}")
            self.assertNotIn("unexpected", err)

    def test_the_line_and_what_is_wrong_are_named(self):
        for number, line, pattern in (
            (1, b'{"manifest": 1, "files": "abc", "bytes": 1}\n', r"line 1: Expected `int`"),
            (1, b'{"manifest": 1}\n', "line 1: .*missing required field `files`"),
            (1, b'{"manifest":1,"files":5,"bytes":1,"x":' + b"[" * 9_000 + b"\n", "line 1: "),
            (2, flipped(self.lines[1], 60), "line 2: it does not match its CRC"),
            (2, b'{"path": "a"}\n', "line 2: it does not match its CRC"),
            (3, sealed(b'{"path": 5}'), r"line 3: Expected `str`.*\$\.path"),
            (3, b"\xff\xfe\n", "line 3: it does not match its CRC"),
            (4, b"", "line 1: it says 5 files"),
        ):
            with self.subTest(line=line[:50]):
                self.put(number, line)
                self.assert_refused(pattern)

    def test_a_manifest_of_an_earlier_release_is_read(self):
        self.without_crcs()
        self.assertEqual(self.verify("--deep", self.asset)[0], 0)

    def test_what_cannot_be_right_in_one_of_an_earlier_release_is_named(self):
        second = json.loads(self.lines[2])["path"]
        for changes, pattern in (
            ({"size": -1}, r"line 2: Expected `int` >= 0 - at `\$\.size`"),
            ({"size": "4"}, "line 2: Expected `int`"),
            ({"size": 2**80}, "line 2: "),
            ({"sha256": "abc"}, 'line 2: "abc" is not a SHA-256'),
            ({"path": "a/../b"}, "line 2: the name has an empty or dotted part"),
            ({"path": ""}, "line 2: the name has an empty"),
            ({"path": second}, "line 3: it names the same file as the line before it"),
        ):
            with self.subTest(changes=changes):
                self.without_crcs(**changes)
                self.assert_refused(pattern)

    def test_a_job_that_goes_on_knows_no_more_than_can_be_read(self):
        self.put(3, flipped(self.lines[2], 60))
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.verify("--deep", self.asset)[0], 0)
        self.without_crcs(size=-(2**65))
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.verify("--deep", self.asset)[0], 0)

    def test_a_job_that_finds_such_an_asset_says_that_it_exists(self):
        self.put(1, b"{}\n")
        with self.assertRaises(DestinationExistsError):
            self.run_job(self.settings(job_id="one"))

    def test_clean_ends_well(self):
        self.put(2, b"nonsense\n")
        bucket = str(self.folder / "store" / self.bucket)
        with patch("sys.stdout"):
            self.assertEqual(main.main(["clean", bucket, "--older-than", "0m"]), 0)

    def test_its_entries_come_in_the_order_of_their_paths_from_several_sources(self):
        first, second = ([Entry(n, 1, _SHA256, "t", "e", "s") for n in ns] for ns in ("ac", "b"))
        write_manifest(self.store, "x", {"manifest": 1, "files": 3, "bytes": 3}, first, second)
        self.assertEqual([entry.path for entry in Manifest(self.store, "x")], ["a", "b", "c"])
        with self.assertRaises(DestinationError):
            Manifest(self.store, "nothing")
