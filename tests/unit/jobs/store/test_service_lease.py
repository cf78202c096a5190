"""Which of several processes runs the jobs."""

import sqlite3
import tempfile
import unittest
from contextlib import closing
from pathlib import Path

from aind_data_transfer_service.errors import LeaseLostError, StoreUnavailable
from aind_data_transfer_service.jobs.leader_election import Candidate, Duties, Leader, LeaseTiming
from aind_data_transfer_service.jobs.liveness_file import LivenessFile
from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import slow
from tests.support.lease_contract import LeaseContract


class SqliteLeaseTest(LeaseContract, unittest.TestCase):
    """The whole contract, on a file."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{folder}/jobs.sqlite3"
        self.store = JobStore(self.url)
        self.addCleanup(self.store.close)


class LivenessTest(unittest.TestCase):
    """Locked files."""

    def test_only_a_process_of_this_machine_whose_lock_is_free_is_dead(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "new"
        one, two = LivenessFile(folder, "one"), LivenessFile(folder, "two")
        one.open()
        two.open()
        (folder / "elsewhere").write_text("the boot id of another machine")
        self.assertEqual([False] * 3, [two.is_dead(name) for name in ("one", "elsewhere", "none")])
        text = (folder / "one").read_text()
        (folder / "killed").write_text(text)  # nobody holds its lock
        self.assertTrue(two.is_dead("killed"))
        three = LivenessFile(folder, "three")
        three.open()
        self.assertFalse((folder / "killed").exists())
        self.assertTrue((folder / "elsewhere").exists())
        one.close()
        self.assertFalse((folder / "one").exists())


class Work:
    """Duties that are counted."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended = 0
        self.fault: Exception | None = None

    async def begin(self, fencing: int) -> None:
        """Count a beginning, or fail."""
        if self.fault:
            raise self.fault
        self.begun.append(fencing)

    async def end(self) -> None:
        """Count an end."""
        self.ended += 1


class LeaderTest(unittest.IsolatedAsyncioTestCase):
    """Two processes with clocks that a test sets."""

    timing = LeaseTiming(ttl=60, interval=1, margin=10)

    async def asyncSetUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{folder}/jobs.sqlite3"
        self.now = {"a": 0.0, "b": 0.0}
        self.works, self.stores = {}, {}
        self.dead: set[str] = set()
        self.a, self.b = self.leader("a"), self.leader("b")
        await self.a.start()
        await self.b.start()

    def leader(self, name: str) -> Leader:
        """Make a leader with a store of its own."""
        store, work = JobStore(self.url), Work()
        self.addCleanup(store.close)
        self.works[name], self.stores[name] = work, store
        return Leader(
            store,
            Candidate(name, is_dead=self.dead.__contains__),
            Duties(work.begin, work.end),
            self.timing,
            clock=lambda: self.now[name],
        )

    def died(self, name: str) -> None:
        """Have a process be known as dead."""
        self.dead.add(self.stores[name].lease.holder)

    @slow
    async def test_the_first_is_active_and_both_know_it(self) -> None:
        await self.a.round()
        await self.b.round()
        self.assertEqual([True, False], [self.a.is_active, self.b.is_active])
        self.assertEqual(["a", "a"], [self.a.active_name, self.b.active_name])
        self.assertEqual([1], self.works["a"].begun)
        with self.assertRaises(LeaseLostError):
            self.b.check()

    async def test_one_that_was_suspended_may_not_act_before_it_has_looked(self) -> None:
        self.now["a"] = 51.0
        with self.assertRaises(LeaseLostError):
            self.a.check()
        self.died("a")  # what is the same to the other one as an expired lease
        await self.b.round()
        self.assertEqual([2], self.works["b"].begun)
        with self.assertRaises(StoreUnavailable):
            await self.a.round()
        self.assertEqual(1, self.works["a"].ended)
        await self.a.round()
        self.assertEqual([True, False], [self.b.is_active, self.a.is_active])
        self.assertEqual("b", self.a.active_name)

    async def test_a_lease_that_is_not_renewed_is_taken_although_the_clock_was_set_back(
        self,
    ) -> None:
        await self.b.round()
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as database, database:
            database.execute("UPDATE service_lease SET expires = expires + 3600")
        await self.b.round()
        self.now["b"] = 69.0
        await self.b.round()
        self.assertFalse(self.b.is_active)
        self.now["b"] = 71.0
        with self.assertLogs("aind_data_transfer_service.jobs.leader_election", "WARNING") as logs:
            await self.b.round()
        self.assertTrue(self.b.is_active)
        self.assertIn("clock was probably set back", logs.output[0])
        await self.a.round()
        self.assertFalse(self.a.is_active)

    async def test_a_lease_that_is_renewed_stays_its_holders(self) -> None:
        for seconds in range(0, 200, 40):
            self.now["a"] = self.now["b"] = float(seconds)
            await self.a.round()
            await self.b.round()
        self.assertEqual([True, False], [self.a.is_active, self.b.is_active])

    async def test_one_that_learns_of_another_holder_stops_at_once(self) -> None:
        self.died("a")
        await self.b.round()
        await self.a.round()
        self.assertEqual((False, 1), (self.a.is_active, self.works["a"].ended))

    async def test_a_database_that_is_away_for_a_while_changes_nothing(self) -> None:
        renew = self.stores["a"].lease.renew

        def away(*_):
            raise OSError("no route to host")

        self.stores["a"].lease.renew = away
        self.now["a"] = 40.0
        with self.assertRaises(OSError):
            await self.a.round()
        self.assertTrue(self.a.is_active)
        self.now["a"] = 50.0
        with self.assertRaises(StoreUnavailable):
            await self.a.round()
        self.assertEqual((False, 1), (self.a.is_active, self.works["a"].ended))
        self.stores["a"].lease.renew = renew
        await self.a.round()
        self.assertEqual([1, 2], self.works["a"].begun)

    async def test_one_that_stops_in_order_lets_the_other_have_it(self) -> None:
        await self.a.stop()
        await self.b.round()
        self.assertEqual([2], self.works["b"].begun)
        self.assertEqual(1, self.works["a"].ended)

    async def test_one_that_cannot_begin_lets_the_other_have_it(self) -> None:
        await self.a.stop()
        self.works["b"].fault = OSError("no folder")
        with self.assertRaises(OSError):
            await self.b.round()
        self.assertFalse(self.b.is_active)
        await self.a.round()
        self.assertTrue(self.a.is_active)
