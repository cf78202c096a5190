"""Reads of a drive that hangs."""

import asyncio
import contextlib
import threading
import time
import unittest

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.job_files import FileReads
from tests.support import slow


class FileReadsTest(unittest.IsolatedAsyncioTestCase):
    """A read that hangs until the test lets it go."""

    async def asyncSetUp(self) -> None:
        self.free = threading.Event()
        self.addCleanup(self.free.set)

    async def test_a_read_that_hangs_is_given_up_and_the_others_go_on(self) -> None:
        reads = FileReads(seconds=0.05, threads=2)
        with self.assertRaisesRegex(ExecutorError, "did not answer"):
            await reads.read(self.free.wait)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ExecutorError):  # a busy machine starts threads late
                    self.assertEqual(7, await reads.read(lambda: 7))
                    break

    async def test_threads_that_came_back_work_again(self) -> None:
        reads = FileReads(seconds=0.2, threads=1)
        late: list[int] = []
        for work in (self.free.wait, lambda: late.append(1)):
            with self.assertRaises(ExecutorError):
                await reads.read(work)
        self.free.set()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ExecutorError):
                    self.assertEqual(7, await reads.read(lambda: 7))
                    break
        self.assertEqual([], late, "what was given up is not done later")

    @slow
    async def test_while_every_thread_hangs_others_are_refused_at_once(self) -> None:
        reads = FileReads(seconds=0.5, threads=2)
        first = (reads.read(self.free.wait) for _ in range(2))
        errors = await asyncio.gather(*first, return_exceptions=True)
        self.assertEqual([ExecutorError] * 2, [type(error) for error in errors])
        began = time.monotonic()
        for _ in range(20):
            with self.assertRaisesRegex(ExecutorError, "does not answer: 2 reads hang"):
                await reads.read(lambda: 7)
        self.assertLess(time.monotonic() - began, 0.5)
        self.free.set()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ExecutorError):
                    self.assertEqual(7, await reads.read(lambda: 7))
                    break

    async def test_an_error_of_a_read_is_that_of_the_caller(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            await FileReads().read(lambda: 1 // 0)
