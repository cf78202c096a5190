"""A database that hangs keeps nobody waiting, and no other threads."""

import asyncio
import tempfile
import threading
import unittest
import unittest.mock

from aind_data_transfer_service.errors import StoreUnavailable
from aind_data_transfer_service.jobs.store import threads
from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import slow


class StoreThreadsTest(unittest.IsolatedAsyncioTestCase):
    """A store whose answers come when the test says so."""

    async def asyncSetUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.store = JobStore(f"sqlite:///{folder}/jobs.sqlite3", answer_seconds=0.1)
        self.addCleanup(self.store.close)
        self.answers = threading.Event()
        self.addCleanup(self.answers.set)

    async def test_an_answer_and_an_error_come_as_they_are(self) -> None:
        self.assertEqual(0, (await self.store.in_thread(self.store.find, seconds=10)).total)
        for error in (ZeroDivisionError("x"), TimeoutError("the work's own")):

            def fail(error=error):
                raise error

            with self.assertRaises(type(error)) as caught:
                await self.store.in_thread(fail, seconds=10)
            self.assertEqual(str(error), str(caught.exception))

    @slow
    async def test_many_that_ask_a_database_that_hangs_are_answered_in_time(self) -> None:
        before = threading.active_count()
        asked = [self.store.in_thread(self.answers.wait) for _ in range(50)]
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        self.assertEqual({StoreUnavailable}, {type(one) for one in found})
        self.assertIn("did not answer within 0.1 s", str(found[0]))
        self.assertLessEqual(threading.active_count() - before, 8)
        for pool in ("probe", "lease"):  # these do not wait behind the others
            self.assertTrue(await self.store.in_thread(lambda: True, pool=pool, seconds=10))
        self.answers.set()
        self.assertTrue(await self.store.in_thread(lambda: True, seconds=10))

    async def test_more_than_can_wait_are_refused_at_once(self) -> None:
        with unittest.mock.patch.object(threads, "_MOST_WAITING", 3):
            waiting = [
                asyncio.create_task(self.store.in_thread(self.answers.wait, seconds=10))
                for _ in range(3)
            ]
            await asyncio.sleep(0)
            with self.assertRaisesRegex(StoreUnavailable, "overloaded"):
                await self.store.in_thread(lambda: True, seconds=10)
            self.answers.set()
            await asyncio.gather(*waiting)
