"""Huge files, of which no part is held in memory."""

import hashlib
import os
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.errors import SourceChangedError, SourceError
from aind_data_transfer_service.source_paths import drive_retry
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.upload.source import file_parts
from aind_data_transfer_service.upload.source.file_parts import Buffers, Stretches
from aind_data_transfer_service.upload.source.scan import scan
from aind_data_transfer_service.upload.transfer import engine
from tests.support import slow
from tests.support.transfer import PREFIX, TransferTestCase

MEBI = 1024**2


class TestStretches(TransferTestCase):
    """A file, cut."""

    def cut(self, data, size, on_piece=lambda piece: None, buffers=None):
        """Write a file and cut it."""
        self.path = self.write("huge", data)
        (file,) = scan(str(self.source), "behavior", "p", 1024).files
        return Stretches(file, size, on_piece, buffers)

    @slow
    @given(
        st.binary(min_size=1, max_size=90),
        st.integers(1, 40),
        st.integers(1, 9),
        st.sampled_from([None, 1, 40]),
    )
    def test_each_byte_is_hashed_in_order_and_sent(self, data, size, piece, kept):
        self.setUp()
        told, parts = [], []
        buffers = Buffers(kept) if kept else None
        with patch.object(file_parts, "_PIECE", piece):
            for part in self.cut(data, size, lambda each: told.append(bytes(each)), buffers):
                checksum = Algorithm.CRC64NVME.of_chunks(part.read_and_hash())
                again = b"".join(map(bytes, part.chunks()))
                self.assertEqual(len(part), len(again))
                self.assertEqual(checksum, Algorithm.CRC64NVME.of(again))
                part.release()
                parts.append(again)
        self.assertEqual((b"".join(told), b"".join(parts)), (data, data))
        self.assertTrue(all(len(each) == size for each in parts[:-1]))

    def test_what_is_written_to_meanwhile_is_told(self):
        whole = self.cut(b"x" * 100, 60)
        parts = iter(whole)
        next(parts)
        self.path.write_bytes(b"y" * 101)
        next(parts)
        for late in (parts, iter(whole)):
            with self.assertRaisesRegex(SourceChangedError, "changed while the job ran"):
                next(late)

    def test_buffers_are_used_again(self):
        buffers = Buffers(60)
        first, second, third = self.cut(b"x" * 180, 60, buffers=buffers)
        kept = [
            memoryview(next(part.chunks())).obj
            for part in (first, second)
            if list(part.read_and_hash())
        ]
        self.assertIsNot(kept[0], kept[1])
        first.release()
        list(third.read_and_hash())
        self.assertIs(next(third.chunks()).obj, kept[0])

    def test_what_becomes_shorter_is_told(self):
        part = next(iter(self.cut(b"x" * 100, 60)))
        os.truncate(self.path, 30)
        with self.assertRaisesRegex(SourceChangedError, "became shorter"):
            list(part.read_and_hash())

    def test_what_vanishes_or_cannot_be_read_is_told(self):
        whole = self.cut(b"x" * 100, 60)
        parts = iter(whole)
        list(next(parts).read_and_hash()), next(parts)
        self.path.unlink()
        with self.assertRaisesRegex(SourceChangedError, "vanished while it was read"):
            next(parts)
        with self.assertRaisesRegex(SourceChangedError, "vanished after the job had found it"):
            next(iter(whole))
        part = next(iter(self.cut(b"x" * 100, 60)))
        fault = patch("os.preadv", side_effect=OSError(5, "Input/output error"))
        with fault, patch.object(drive_retry, "DELAYS", (0.0, 0.0)):
            with self.assertRaisesRegex(SourceError, "cannot be read: Input/output error"):
                list(part.chunks())


class TestJob(TransferTestCase):
    """A whole job, to a local folder."""

    @slow
    def test_a_huge_file_arrives(self):
        data = os.urandom(20 * MEBI + 7)
        self.write("huge.bin", data)
        with patch.object(engine, "_LONGEST_READ", MEBI):
            self.run_job()
        self.assertEqual(self.store.get(f"{PREFIX}/behavior/huge.bin"), data)
        entry = self.manifest()["behavior/huge.bin"]
        self.assertEqual(entry.sha256, hashlib.sha256(data).hexdigest())
