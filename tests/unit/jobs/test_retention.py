"""Old jobs are deleted: from an SQLite file, and by a service that is told to."""

import asyncio
import tempfile
import unittest
from datetime import timedelta
from pathlib import Path

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import slow
from tests.support.jobs import ToldExecutor, a_job
from tests.support.retention_contract import RetentionContract


class StoreOnFile(unittest.IsolatedAsyncioTestCase):
    """A store on a file."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{folder}/jobs.sqlite3"
        self.store = JobStore(self.url)
        self.addCleanup(self.store.close)


class SqliteRetentionTest(RetentionContract, StoreOnFile):
    """The whole contract, on a file."""


class ServiceRetentionTest(unittest.IsolatedAsyncioTestCase):
    """A service with and without the setting."""

    @slow
    async def test_nothing_is_deleted_unless_it_is_set(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        old = a_job(state=JobState.COMPLETED, ended_at=utc_now() - timedelta(days=2))
        young = a_job(state=JobState.COMPLETED, ended_at=utc_now() - timedelta(hours=20))
        for days, left in ((None, 2), (3, 2), (1, 1)):
            settings = ServiceSettings(
                data_dir=folder, lab_timezone="UTC", monitor_interval=0.01, job_retention_days=days
            )
            manager = JobManager(settings, executor=ToldExecutor())
            await manager.start()
            try:
                if days is None:
                    manager.store.add([old, young])
                names = [task.get_name() for task in asyncio.all_tasks()]
                self.assertEqual(days is not None, "retention" in names)
                async with asyncio.timeout(10):
                    while (await manager.find()).total != left:
                        await asyncio.sleep(0.01)
            finally:
                await manager.stop()
