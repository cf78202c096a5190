"""A test with a manager of jobs whose executor does as it is told."""

import asyncio
import tempfile
import unittest
from pathlib import Path

from aind_data_transfer_service.jobs.completion_evidence import Patience
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import untraced
from tests.support.jobs import ToldExecutor, a_request
from tests.support.spreadsheets import shared_reader


class ManagerTest(unittest.IsolatedAsyncioTestCase):
    """A manager whose jobs do what the test tells them to."""

    patience = Patience()

    async def asyncSetUp(self):
        untraced()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "service"
        self.source = Path(folder.name) / "source"
        for one in (self.folder, self.source):
            one.mkdir()
        self.executor = ToldExecutor()
        self.manager = self.make()
        await self.manager.start()
        self.addAsyncCleanup(self.stop)

    async def stop(self):
        await self.manager.stop()

    def make(self, **settings) -> JobManager:
        usual = {
            "data_dir": self.folder,
            "lab_timezone": "America/Los_Angeles",
            "monitor_interval": 0.01,
            "allow_custom_scripts": True,
        }
        return self.new_manager(
            ServiceSettings(**(usual | settings)),
            executor=self.executor,
            spreadsheets=shared_reader(),
            patience=self.patience,
        )

    def new_manager(self, settings: ServiceSettings, **options) -> JobManager:
        return JobManager(settings, **options)

    async def restart(self, **settings):
        await self.manager.stop()
        self.manager = self.make(**settings)
        await self.manager.start()

    def request(self, **values) -> str:
        return a_request(str(self.source), **values)

    async def submit(self, **values) -> str:
        submission = await self.manager.submit_basic([self.request(**values)])
        self.assertEqual(submission.stage, "ok", submission.errors)
        return submission.responses[0]["job_id"]

    async def until(self, job_id: str, *states: JobState):
        async with asyncio.timeout(10):
            while (job := await self.manager.get(job_id)).state not in states:
                await asyncio.sleep(0.01)
        return job

    async def is_silent(self, expected: bool) -> bool:
        return (self.manager.silent_since is not None) is expected

    @staticmethod
    async def has_said(logs, count: int) -> bool:
        return len(logs.records) >= count

    async def until_true(self, ask):
        async with asyncio.timeout(10):
            while not (answer := await ask()):
                await asyncio.sleep(0.01)
        return answer
