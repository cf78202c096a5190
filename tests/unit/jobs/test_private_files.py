"""What the service keeps is for its own user, whatever the umask is."""

import os
import stat
import tempfile
import unittest
from pathlib import Path

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.private_files import make_private_folder
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import slow
from tests.support.jobs import ToldExecutor, a_job


def mode(path: Path) -> str:
    """Return the permissions of a path."""
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


class PrivateFilesTest(unittest.IsolatedAsyncioTestCase):
    """A service that is started, and its files."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "data"

    async def modes(self) -> dict[str, str]:
        """Start a service, and list the permissions of its database and its folder."""
        settings = ServiceSettings(data_dir=self.folder, lab_timezone="UTC")
        manager = JobManager(settings, executor=ToldExecutor())
        await manager.start()
        try:
            manager.store.add([a_job()])
            files = self.folder.glob("jobs.sqlite3*")
            return {file.name: mode(file) for file in (self.folder, *files)}
        finally:
            await manager.stop()

    @slow
    async def test_new_and_existing_ones_are_closed_to_others(self) -> None:
        expected = dict.fromkeys(("jobs.sqlite3", "jobs.sqlite3-shm", "jobs.sqlite3-wal"), "600")
        expected["data"] = "700"
        for mask in (0o000, 0o022, 0o007):
            before = os.umask(mask)
            try:
                self.assertEqual(expected, await self.modes())
                self.folder.chmod(0o755)
                (self.folder / "jobs.sqlite3").chmod(0o644)
                left_open = JobStore(f"sqlite:///{self.folder}/jobs.sqlite3")
                self.addCleanup(left_open.close)
                for file in self.folder.glob("jobs.sqlite3*"):
                    file.chmod(0o664)
                self.assertEqual(expected, await self.modes())
            finally:
                os.umask(before)

    def test_a_folder_that_all_share_is_left_as_it_is(self) -> None:
        self.folder.mkdir()
        self.folder.chmod(0o1777)
        with self.assertLogs("aind_data_transfer_service", "WARNING") as logged:
            make_private_folder(self.folder)
        self.assertEqual("1777", mode(self.folder))
        self.assertIn("can be read by others", logged.output[0])

    def test_what_others_need_is_named_if_it_is_inside(self) -> None:
        with self.assertLogs("aind_data_transfer_service", "WARNING") as logged:
            make_private_folder(self.folder, [self.folder / "logs", Path("/elsewhere")])
        [line] = logged.output
        self.assertIn("logs is in DATA_DIR", line)
