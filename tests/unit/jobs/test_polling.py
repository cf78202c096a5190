"""How long the monitor waits between two looks."""

import asyncio
import unittest

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.jobs.polling import Pace
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings


class PaceTest(unittest.IsolatedAsyncioTestCase):
    """Slower while nothing changes, faster after a request."""

    @staticmethod
    def delays(pace: Pace, *changed: bool) -> list[float]:
        """Give the waits after looks that found changes, or none."""
        found = []
        for one in changed:
            pace.note(one)
            found.append(pace.delay)
        return found

    async def test_it_backs_off_while_nothing_changes_and_comes_back(self):
        pace = Pace(10, 60)
        waits = self.delays(pace, False, False, False, False, True, True, False)
        self.assertEqual([20, 40, 60, 60, 10, 10, 20], waits)

    async def test_without_a_longest_wait_it_stays_as_it_is(self):
        pace = Pace(1.0)
        pace.hasten()
        async with asyncio.timeout(10):
            await Pace(0.01).wait()
        self.assertEqual([1.0, 1.0], self.delays(pace, False, True))

    async def test_after_a_request_it_looks_soon_and_slows_down_again(self):
        pace = Pace(0.1, 0.6)
        self.delays(pace, False, False, False)
        self.assertAlmostEqual(0.6, pace.delay)
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.create_task(pace.wait())
        await asyncio.sleep(0)
        pace.hasten()
        await waiting
        self.assertLess(loop.time() - began, 0.5)
        waits = self.delays(pace, False, True, True, True, False)
        for expected, found in zip([0.02, 0.04, 0.08, 0.1, 0.2], waits):
            self.assertAlmostEqual(expected, found)

    async def test_a_request_during_a_look_is_not_forgotten(self):
        pace = Pace(0.1, 0.6)
        pace.hasten()
        pace.note(False)
        self.assertAlmostEqual(0.01, pace.delay)

    async def test_a_cluster_is_asked_every_ten_seconds_to_a_minute_and_this_machine_each(self):
        here = ServiceSettings(data_dir="/tmp")
        self.assertEqual((1, 1), (here.look_interval, here.longest_look_interval))
        hpc = HpcSettings(
            host="slurm",
            username="svc",
            token="t",
            current_working_directory="/hpc",
            logging_directory="/logs",
        )
        for given, shortest, longest in ((None, 10, 60), (2, 2, 12), (30, 30, 60), (90, 90, 90)):
            there = ServiceSettings(data_dir="/tmp", hpc=hpc, monitor_interval=given)
            self.assertEqual(
                (shortest, longest), (there.look_interval, there.longest_look_interval)
            )

    async def test_readiness_allows_for_the_wait_that_was_chosen(self):
        now = 0.0
        heartbeat = Heartbeat(10, 5, clock=lambda: now)
        heartbeat.beat(60)
        for now, is_late in ((184.0, False), (186.0, True)):
            self.assertEqual(is_late, heartbeat.is_late)
