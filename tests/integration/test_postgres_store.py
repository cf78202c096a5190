"""The store of jobs on a real PostgreSQL."""

import unittest
from concurrent.futures import ThreadPoolExecutor

from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import postgres
from tests.support.jobs import a_job
from tests.support.lease_contract import LeaseContract
from tests.support.retention_contract import RetentionContract
from tests.support.store_contract import StoreContract


class PostgresTest:
    """A server with an empty database for each test."""

    @classmethod
    def setUpClass(cls):
        cls.server = postgres.start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.server.sql("DROP SCHEMA public CASCADE")
        self.server.sql("CREATE SCHEMA public")
        self.url = self.server.url
        self.store = JobStore(self.url)
        self.addCleanup(lambda: self.store.close())


class PostgresStoreTest(PostgresTest, StoreContract, LeaseContract, unittest.TestCase):
    """The whole contract, and what only a server can do."""

    def test_a_new_database_may_be_opened_by_many_at_once(self):
        self.server.sql("DROP SCHEMA public CASCADE")
        self.server.sql("CREATE SCHEMA public")
        with ThreadPoolExecutor(5) as pool:
            stores = list(pool.map(JobStore, [self.url] * 5))
        stores[0].add([a_job()])
        self.assertEqual([store.find().total for store in stores], [1] * 5)
        for store in stores:
            store.close()

    def test_connections_that_the_server_dropped_are_made_anew(self):
        self.store.add([a_job()])
        self.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        self.assertEqual(self.store.find().total, 1)


class PostgresRetentionTest(RetentionContract, PostgresTest, unittest.IsolatedAsyncioTestCase):
    """Old jobs are deleted from a server as from a file."""
