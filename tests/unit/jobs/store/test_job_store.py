"""The store of jobs on SQLite."""

import sqlite3
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import SQLAlchemyError

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.jobs.store.engine import Database, resolve_url
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.store.tables import metadata
from tests.support import slow
from tests.support.jobs import a_job
from tests.support.store_contract import StoreContract


class SqliteStoreTest(StoreContract, unittest.TestCase):
    """The whole contract, on a file."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "new folder" / "jobs 100%.sqlite3"
        self.url = f"sqlite:///{self.path}"
        self.store = JobStore(self.url)
        self.addCleanup(lambda: self.store.close())

    def test_the_migrations_make_the_tables_that_the_code_knows(self):
        database = Database(self.url)
        with database.reading() as connection:
            context = MigrationContext.configure(connection)
            self.assertEqual(compare_metadata(context, metadata), [])
        database.close()

    def test_what_fails_in_the_database_is_told_without_what_was_to_be_recorded(self):
        with sqlite3.connect(self.path) as other:
            other.execute("DROP TABLE job_requests")
        other.close()
        asked = '{"environment": {"MODE": "s3cr3t"}}'
        with self.assertRaises(SQLAlchemyError) as caught:
            self.store.add([a_job(hpc_settings=asked)])
        self.assertNotIn("s3cr3t", str(caught.exception))

    def test_a_writer_waits_for_another_one(self):
        other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.store.add, [a_job()])
            self.assertEqual(self.store.find().total, 0, "reading does not wait")
            self.assertFalse(waiting.done())
            other.execute("COMMIT")
            waiting.result(10)
        other.close()
        self.assertEqual(self.store.find().total, 1)


class OpeningTest(unittest.TestCase):
    """Addresses, and several processes that open the same database."""

    @slow
    def test_a_new_database_may_be_opened_by_many_at_once(self):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/jobs.sqlite3"
            with ThreadPoolExecutor(6) as pool:
                stores = list(pool.map(JobStore, [url] * 6))
            stores[0].add([a_job()])
            self.assertEqual([store.find().total for store in stores], [1] * 6)
            for store in stores:
                store.close()

    def test_a_database_of_a_later_release_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/jobs.sqlite3"
            JobStore(url).close()
            connection = sqlite3.connect(f"{folder}/jobs.sqlite3")
            with connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.close()
            with self.assertRaisesRegex(TransferServiceError, "perhaps of a later one"):
                JobStore(url)

    def test_postgresql_is_spoken_to_by_psycopg_whatever_the_address_says(self):
        for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
            url = resolve_url(f"{scheme}://user:secret@host/jobs")
            self.assertEqual(url.drivername, "postgresql+psycopg")

    def test_other_databases_are_refused_without_repeating_a_password(self):
        for url in ("mysql://me:secret@host/x", "no address: secret", "sqlite://"):
            with self.assertRaises(TransferServiceError) as caught:
                resolve_url(url)
            self.assertIn("DATABASE_URL", str(caught.exception))
            self.assertNotIn("secret", str(caught.exception))
