"""Worker processes: limits, deadlines, and what happens when one dies."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import unittest
from unittest.mock import patch

import psutil

from aind_data_transfer_service.concurrency import process_pool
from aind_data_transfer_service.concurrency.process_pool import ProcessPool
from aind_data_transfer_service.errors import UnavailableError, WorkerDied, WorkerTimeout
from tests.support import slow, wait_until

WORKER = "tests.support.worker"
MIB = 1024**2
OWNER = """
import asyncio, sys
from aind_data_transfer_service.concurrency.process_pool import ProcessPool

async def main():
    pool = ProcessPool("tests.support.worker", 2, 512 * 1024**2, 60.0)
    pool.open()
    await asyncio.gather(pool.ask(b"pid"), pool.ask(b"pid"))
    asyncio.create_task(pool.ask(b"hang"))
    await asyncio.sleep(0.01)
    print(*pool.pids, flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class PoolTest(unittest.IsolatedAsyncioTestCase):
    """A pool of one worker, so that its replacement is seen."""

    async def asyncSetUp(self):
        self.pool = ProcessPool(WORKER, 1, 512 * MIB, 30.0)
        self.addCleanup(self.pool.close)
        with patch.dict(os.environ, {"HPC_TOKEN": "secret", "DATABASE_URL": "secret"}):
            self.pool.open()
            await self.pid()

    async def pid(self) -> int:
        return int((await self.pool.ask(b"pid")).split()[0])

    @slow
    async def test_requests_and_replies_larger_than_a_pipe(self):
        self.assertEqual(b"5000000", (await self.pool.ask(b"pid " + b"x" * 5_000_000)).split()[1])
        self.assertEqual(5_000_000, len(await self.pool.ask(b"repeat 5000000")))

    async def test_a_stray_print_does_not_get_into_a_reply(self):
        self.assertEqual(b"%d 0" % await self.pid(), await self.pool.ask(b"print"))

    async def test_a_worker_gets_no_variable_of_the_service(self):
        environment = json.loads(await self.pool.ask(b"environment"))
        self.assertNotIn("secret", environment.values())
        block = psutil.Process(await self.pid()).environ()
        self.assertLessEqual(set(block), {*process_pool._KEPT_VARIABLES, "PYTHONUTF8"})

    async def test_a_worker_cannot_take_more_memory_than_its_limit(self):
        self.assertEqual(b"1000000", await self.pool.ask(b"allocate 1000000"))
        self.assertEqual(b"MemoryError", await self.pool.ask(b"allocate %d" % (600 * MIB)))

    @slow
    async def test_a_worker_that_exceeds_its_deadline_is_replaced(self):
        before = await self.pid()
        self.pool.seconds = 0.1
        with self.assertRaises(WorkerTimeout):
            await self.pool.ask(b"hang")
        self.assertTrue(is_gone(before))
        self.pool.seconds = 30.0
        self.assertNotEqual(before, await self.pid())

    @slow
    async def test_a_worker_that_dies_of_a_request_is_replaced(self):
        before = await self.pid()
        with self.assertRaises(WorkerDied) as raised:
            await self.pool.ask(b"abort")
        self.assertEqual(-signal.SIGABRT, raised.exception.status)
        self.assertNotEqual(before, await self.pid())

    @slow
    async def test_a_request_that_kills_two_workers_fails(self):
        with self.assertRaises(WorkerDied):
            await self.pool.ask(b"kill")
        self.assertTrue(await self.pid())

    @slow
    async def test_an_idle_worker_that_somebody_kills_is_replaced_and_nobody_notices(self):
        before = await self.pid()
        os.kill(before, signal.SIGKILL)
        self.assertNotEqual(before, await self.pid())

    async def test_closing_ends_the_workers_and_what_they_work_on(self):
        pid = await self.pid()
        asked = asyncio.create_task(self.pool.ask(b"hang"))
        waiting = asyncio.create_task(self.pool.ask(b"pid"))
        await asyncio.sleep(0)
        self.pool.close()
        for task in (asked, waiting):
            with self.assertRaises((WorkerDied, UnavailableError)):
                await task
        self.assertTrue(is_gone(pid))
        with self.assertRaises(UnavailableError):
            await self.pool.ask(b"pid")


class StartTest(unittest.IsolatedAsyncioTestCase):
    """Workers that cannot be started."""

    async def test_the_error_says_why_and_what_to_do(self):
        pool = ProcessPool(WORKER, 1, 512 * MIB, 30.0)
        self.addCleanup(pool.close)
        with (
            patch.object(process_pool.sys, "executable", "/nowhere/python"),
            self.assertLogs(process_pool.logger, "WARNING"),
        ):
            pool.open()
            with self.assertRaisesRegex(UnavailableError, "cannot be started: No such file.*ulimi"):
                await pool.ask(b"pid")
        self.assertTrue(await pool.ask(b"pid"), "the next request tries again")

    @slow
    async def test_a_worker_that_fails_at_once_is_reported(self):
        pool = ProcessPool("tests.support.no_such_module", 1, 512 * MIB, 30.0)
        self.addCleanup(pool.close)
        with self.assertLogs(process_pool.logger, "WARNING"):
            pool.open()
            with self.assertRaisesRegex(UnavailableError, "did not start: .*status 1"):
                await pool.ask(b"pid")


class OwnerTest(unittest.TestCase):
    """The end of the process that owns the workers."""

    @slow
    def test_workers_end_with_their_owner_however_it_ends(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with (
                self.subTest(number),
                subprocess.Popen(
                    [sys.executable, "-c", OWNER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                ) as owner,
            ):
                self.addCleanup(owner.kill)
                pids = [int(word) for word in owner.stdout.readline().split()]
                self.assertEqual(2, len(pids))
                owner.send_signal(number)
                owner.wait(10)
                wait_until(lambda: all(map(is_gone, pids)), 10, "the end of the workers")
