"""Bodies of requests: what storage asks of them, whether they are in memory or read from a file."""

import os
import unittest

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.storage.base import BufferBody
from tests.unit.storage.s3.test_faults import MEBI, OK, FaultTest, reply

BEGUN = reply(200, b"<R><UploadId>u</UploadId></R>")
DONE = reply(200, b"<R><ETag>whole</ETag></R>")


class ReusedBufferBody:
    """A body that reads each chunk into the same memory."""

    def __init__(self, data, size):
        self.data, self.size, self.is_released = data, size, False

    def __len__(self):
        return len(self.data)

    def read_and_hash(self):
        """Return the bytes in chunks."""
        return self.chunks()

    def chunks(self):
        """Return the bytes in chunks, each of which overwrites the one before."""
        buffer = bytearray(self.size)
        for start in range(0, len(self.data), self.size):
            chunk = self.data[start : start + self.size]
            buffer[: len(chunk)] = chunk
            yield memoryview(buffer)[: len(chunk)]

    def release(self):
        """Note that nobody needs it any more."""
        self.is_released = True


class TestBodies(FaultTest):
    """What is sent of a body."""

    def test_chunks_that_share_their_memory_arrive_as_they_were(self):
        for last in (1_000, 200_000):
            with self.subTest(last=last):
                parts = [os.urandom(MEBI), os.urandom(last)]
                bodies = [ReusedBufferBody(part, 300) for part in parts]
                store = self.open(BEGUN, OK, OK, DONE)
                store.put_parts("a/x", bodies, MEBI, Traffic(1, 4 * MEBI))
                self.assertTrue(self.server.bodies[1:3] == parts)
                self.assertTrue(all(body.is_released for body in bodies))


class TestBufferBody(unittest.TestCase):
    """A body in memory."""

    def test_nothing_is_copied(self):
        data = bytearray(b"0123456789")
        body = BufferBody(data)
        (chunk,) = body.chunks()
        self.assertIs(chunk.obj, data)
        self.assertEqual((len(body), bytes(chunk)), (10, b"0123456789"))
