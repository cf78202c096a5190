"""Several service processes of one database: one runs the jobs, the others stand by."""

import shutil
import signal
import tempfile
import unittest
import uuid
from pathlib import Path

from tests.support import postgres, slow, slurm, wait_until
from tests.support.replica import LONG_TTL
from tests.support.replica_contract import ReplicaContract


@slow
class SqliteReplicasTest(ReplicaContract, unittest.TestCase):
    """On a file that both have."""

    def database(self) -> dict[str, str]:
        """Use the file of DATA_DIR."""
        return {}


@slow
class PostgresReplicasTest(ReplicaContract, unittest.TestCase):
    """On a server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = postgres.start()
        cls.addClassCleanup(cls.server.stop)

    def database(self) -> dict[str, str]:
        """Make a database."""
        name = f"jobs_{uuid.uuid4().hex}"
        self.server.sql(f"CREATE DATABASE {name}")
        return {"DATABASE_URL": self.server.url.replace("/postgres", f"/{name}")}

    def test_jobs_of_another_machine_are_not_taken_over_while_they_may_run(self) -> None:
        first = self.start("first")
        second = self.start("second", DATA_DIR=str(self.folder / "other"))
        go = self.folder / "go"
        wait = f"; until [ -e {go} ]; do sleep 0.05; done"
        [job_id] = first.submit(self.script(0, wait))
        wait_until(lambda: first.states()[job_id] == "RUNNING", 30)
        first.kill()

        def says_why() -> bool:
            answer = second.client.get("/healthz")
            return answer.status_code == 503 and "another machine" in answer.text

        wait_until(says_why, 30, "the second process to say why it does not take over")
        self.assertEqual("RUNNING", second.states()[job_id])
        second.submit(self.script(1))
        go.touch()
        third = self.start("third")
        wait_until(third.is_active, 30)
        self.assert_ran_once(second, 2)
        third.stop()
        wait_until(second.is_active, 30, "the second process to take over an idle service")
        second.submit(self.script(2))
        self.assert_ran_once(second, 3)


@slow
class SlurmReplicasTest(ReplicaContract, unittest.TestCase):
    """On a cluster, by a real slurmrestd, with a file as the database."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = slurm.start(cpus=8)
        cls.addClassCleanup(cls.cluster.stop)

    def setUp(self) -> None:
        super().setUp()
        logs = Path(tempfile.mkdtemp(prefix="logs-", dir=self.cluster.folder))
        self.addCleanup(shutil.rmtree, logs, ignore_errors=True)
        self.settings |= {
            "HPC_URL": f"http://127.0.0.1:{self.cluster.port}",
            "HPC_USERNAME": self.cluster.username,
            "HPC_TOKEN": self.cluster.token(),
            "HPC_PARTITION": self.cluster.partition,
            "HPC_CURRENT_WORKING_DIRECTORY": str(logs),
            "HPC_LOGGING_DIRECTORY": str(logs),
            "HPC_PYTHON": self.cluster.python,
        }
        self.before = len(self.numbers())

    def database(self) -> dict[str, str]:
        """Use the file of DATA_DIR."""
        return {}

    def numbers(self) -> list[int]:
        """List the Slurm jobs that were submitted so far."""
        listed = self.cluster.run("squeue", "--states=all", "--noheader", "--format=%i %j")
        return [int(line.split()[0]) for line in listed.splitlines()]

    def assert_ran_once(self, replica, count: int) -> None:
        """Make sure that each job was submitted once too."""
        super().assert_ran_once(replica, count)
        self.assertEqual(count, len(self.numbers()) - self.before)

    def test_one_suspended_while_it_submits_submits_nothing_twice(self) -> None:
        """Each job that it had not sent is sent by the other one."""
        first, second = self.start("first"), self.start("second", ttl=LONG_TTL)
        second.submit(*(self.script(number) for number in range(30)))
        wait_until(lambda: len(self.numbers()) > self.before, 30)
        self.suspend(first)
        self.wait_for_takeover(second)
        first.send(signal.SIGCONT)
        self.assert_ran_once(second, 30)
