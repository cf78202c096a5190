"""What several service processes of one database have to do, whatever database it is."""

import signal
import sqlite3
import tempfile
import unittest
from contextlib import closing
from pathlib import Path

from tests.support import wait_until
from tests.support.replica import LONG_TTL, TTL, Replica

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "UNKNOWN"}


class ReplicaContract:
    """Mixed into a test case that knows the settings of the database."""

    assertEqual = unittest.TestCase.assertEqual

    def database(self) -> dict[str, str]:
        """Return the variables that name a new database."""
        raise NotImplementedError

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="replicas-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.settings = {"DATA_DIR": str(self.folder / "data"), "LOCAL_EXECUTOR_SLOTS": "4"}
        self.settings["ALLOW_CUSTOM_SCRIPTS"] = "true"
        self.settings |= self.database()

    def start(self, name: str, ttl: float = TTL, **settings: str) -> Replica:
        """Start a process."""
        log = self.folder / f"{name}.log"
        return self.enterContext(Replica(log, self.settings | settings, ttl))

    def script(self, number: int, then: str = "") -> tuple[str, str]:
        """Make a script that leaves a line each time that it runs."""
        return f"job {number}", f"echo x >> {self.folder}/ran-{number}{then}"

    def suspend(self, replica: Replica) -> None:
        """Suspend a process, but not in the middle of a write to a file: that keeps it locked."""
        self.addCleanup(replica.send, signal.SIGCONT)
        file = self.folder / "data" / "jobs.sqlite3"
        while True:
            replica.send(signal.SIGSTOP)
            if not file.exists():
                return
            with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
                    return
                except sqlite3.OperationalError:
                    replica.send(signal.SIGCONT)

    def wait_for_takeover(self, replica: Replica) -> None:
        """Wait until a process runs the jobs."""
        try:
            wait_until(replica.is_active, 20)
        except AssertionError:
            log = replica.log[-1500:]
            raise AssertionError(f"no takeover: {replica.health('/healthz')}, {log}") from None

    def assert_ran_once(self, replica: Replica, count: int) -> None:
        """Wait for the ends of all jobs, and make sure that each ran exactly once."""

        def have_ended() -> bool:
            states = replica.states()
            return len(states) == count and set(states.values()) <= ENDED

        wait_until(have_ended, 60, f"the ends of {count} jobs")
        self.assertEqual({"COMPLETED"}, set(replica.states().values()))
        ran = [file.read_text() for file in sorted(self.folder.glob("ran-*"))]
        self.assertEqual(["x\n"] * count, ran)

    def test_one_process_runs_the_jobs_and_the_other_takes_them_too(self) -> None:
        first, second = (self.start(name, ttl=LONG_TTL) for name in ("first", "second"))
        self.assertEqual([True, False], [first.is_active(), second.is_active()])
        for replica in (first, second):
            health = replica.health("/healthz")
            self.assertIn(f"process {first.process.pid}", health["active"])
            self.assertIsNotNone(health["active_since"])
            page = replica.client.get("/service").text
            self.assertIn(f"process {first.process.pid}", page)
            self.assertIn("this one" if replica is first else "is on standby", page)
        for number in range(8):
            (first, second)[number % 2].submit(self.script(number))
        self.assert_ran_once(second, 8)

    def test_a_job_is_cancelled_by_way_of_the_process_that_stands_by(self) -> None:
        first, second = (self.start(name, ttl=LONG_TTL) for name in ("first", "second"))
        [job_id] = first.submit(("endless", "exec sleep 300"))
        wait_until(lambda: second.states()[job_id] == "RUNNING", 30)
        self.assertEqual(200, second.client.post(f"/api/jobs/{job_id}/cancel").status_code)
        wait_until(lambda: second.states()[job_id] == "CANCELLED", 30)

    def test_the_other_takes_over_at_once_when_the_first_is_stopped_in_order(self) -> None:
        first, second = self.start("first", ttl=600), self.start("second", ttl=5)
        first.submit(self.script(0))
        first.stop()
        self.wait_for_takeover(second)
        second.submit(self.script(1))
        self.assert_ran_once(second, 2)

    def test_the_other_takes_over_when_the_first_is_killed(self) -> None:
        first, second = self.start("first"), self.start("second", ttl=LONG_TTL)
        go = self.folder / "go"
        wait = f"; until [ -e {go} ]; do sleep 0.05; done"
        first.submit(*(self.script(number, wait) for number in range(6)))
        wait_until(lambda: list(self.folder.glob("ran-*")), 30, "the first job to begin")
        second.submit(self.script(6))
        first.kill()
        self.wait_for_takeover(second)
        go.touch()
        second.submit(self.script(7))
        self.assert_ran_once(second, 8)

    def test_one_that_was_suspended_starts_nothing_when_it_goes_on(self) -> None:
        first, second = self.start("first"), self.start("second", ttl=LONG_TTL)
        go = self.folder / "go"
        wait = f"; until [ -e {go} ]; do sleep 0.05; done"
        first.submit(*(self.script(number, wait) for number in range(6)))
        self.suspend(first)
        self.wait_for_takeover(second)
        second.submit(self.script(6))
        go.touch()
        first.send(signal.SIGCONT)
        self.assertEqual(False, first.is_active())
        first.submit(self.script(7))
        self.assert_ran_once(second, 8)
        self.assertEqual(True, second.is_active())
        self.assertIn("is on standby", first.client.get("/service").text)
        second.stop()
        wait_until(first.is_active, 20, "the first process to take over again")
        first.submit(self.script(8))
        self.assert_ran_once(first, 9)
