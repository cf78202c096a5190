"""Backup and restore, with the commands of the documentation."""

import os
import shutil
import subprocess
import tempfile
import unittest
from datetime import UTC, datetime
from pathlib import Path

from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.jobs.models import Job, JobEvent, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobQuery, JobStore
from tests.support import missing, postgres
from tests.support.documents import code_block

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class BackupTest(unittest.TestCase):
    """A lab that loses its server's disk."""

    def setUp(self) -> None:
        """Make the folders, and a callback secret."""
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="backup-")
        self.addCleanup(folder.cleanup)
        self.data_dir, self.backup = Path(folder.name) / "data dir", Path(folder.name) / "backup"
        self.backup.mkdir()
        self.token = self.callbacks().environment("2abc")["UPLOAD_CALLBACK_TOKEN"]

    def callbacks(self) -> Callbacks:
        """Open the callbacks as the service does."""
        found = Callbacks("http://transfer:5000", self.data_dir / "callback.secret")
        found.open()
        return found

    def run_commands(self, caption: str, **variables: str) -> None:
        """Run the commands that the documentation has under a caption."""
        text = code_block("operation.rst", caption)
        variables |= {"DATA_DIR": str(self.data_dir), "BACKUP": str(self.backup)}
        command = ["bash", "-euc", text]
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)

    def add(self, store: JobStore, name: str) -> Job:
        """Record a job with an event."""
        job = Job(id=new_job_id(), name=name, state=JobState.COMPLETED, submitted_at=NOON)
        store.add([job])
        store.add_events(job.id, [JobEvent(time=NOON, step="transfer", kind="end", message="sent")])
        return job

    def assert_restored(self, store: JobStore, job: Job) -> None:
        """Make sure that the store holds one job with its event, and takes another."""
        found = store.find(JobQuery())
        self.assertEqual([job.id], [one.id for one in found.jobs])
        self.assertEqual(["sent"], [event.message for event in store.events(job.id)])
        self.add(store, "after the restore")
        self.assertEqual(2, store.find(JobQuery()).total)
        self.assertTrue(self.callbacks().admits("2abc", self.token))


class SqliteTest(BackupTest):
    """The database in a file."""

    def setUp(self) -> None:
        """Look for the program."""
        super().setUp()
        if not shutil.which("sqlite3"):
            raise missing("sqlite3 (apt-get install sqlite3)")

    def test_what_was_backed_up_while_the_service_ran_is_restored(self) -> None:
        url = f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"
        store = JobStore(url)
        job = self.add(store, "before the backup")
        self.run_commands("Back up SQLite")
        self.run_commands("Back up SQLite")  # the next night
        self.assertEqual(0o600, (self.backup / "jobs.sqlite3").stat().st_mode & 0o777)
        self.add(store, "lost")
        # As on a disk that was lost: the file, and what was not yet in it, are of no use.
        (self.data_dir / "jobs.sqlite3").write_bytes(b"damaged")
        (self.data_dir / "callback.secret").unlink()
        store.close()
        (self.data_dir / "jobs.sqlite3-wal").write_bytes(b"of another file")
        self.run_commands("Restore SQLite")
        restored = JobStore(url)
        self.addCleanup(restored.close)
        self.assert_restored(restored, job)


class PostgresTest(BackupTest):
    """The database on a server."""

    def test_what_was_backed_up_is_restored_into_an_empty_and_a_used_database(self) -> None:
        if not shutil.which("pg_dump"):
            raise missing("pg_dump (apt-get install postgresql-client)")
        server = postgres.start()
        self.addCleanup(server.stop)
        store = JobStore(server.url)
        job = self.add(store, "before the backup")
        self.run_commands("Back up PostgreSQL", DATABASE=server.url)
        self.assertEqual(0o600, (self.backup / "jobs.dump").stat().st_mode & 0o777)
        self.add(store, "lost")
        store.close()
        (self.data_dir / "callback.secret").unlink()
        server.sql("CREATE DATABASE other")
        for url in (server.url, server.url.rpartition("/")[0] + "/other"):
            with self.subTest(url):
                self.run_commands("Restore PostgreSQL", DATABASE=url)
                restored = JobStore(url)
                self.addCleanup(restored.close)
                self.assert_restored(restored, job)
