"""Deleting old jobs: their rows, and the folders in which they ran on this machine.

Assets are never touched. Rows are deleted in small transactions with pauses between them, so that
pages and submissions do not wait.
"""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import Guard, unguarded
from aind_data_transfer_service.executors.local.job_directory import JobFolder
from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.store.job_store import JobStore

logger = logging.getLogger(__name__)

INTERVAL = 3600.0
"""Seconds between two rounds."""
PAUSE = 0.05
"""Seconds between two transactions, in which others write."""
_BATCH_SECONDS = 600.0
"""Seconds in which one batch is deleted, even from a slow drive."""


class Retention:
    """Deletes jobs some days after their end.

    Parameters
    ----------
    store : JobStore
        Where the jobs are recorded.
    folder : Path
        Where each job that ran on this machine has a folder.
    days : int
        How long they are kept.
    guard : Callable
        Raises an error if this process may not delete jobs.
    """

    def __init__(self, store: JobStore, folder: Path, days: int, guard: Guard = unguarded):
        self._store, self._folder, self._guard = store, folder, guard
        self._age = timedelta(days=days)
        self._trouble = ""
        self.heartbeat = Heartbeat(INTERVAL, _BATCH_SECONDS)

    async def run(self) -> None:
        """Make one round after another, whatever goes wrong with one of them."""
        while True:
            try:
                await self.round()
                self._trouble = ""
            except Exception as error:  # the next round may fare better
                if repr(error) != self._trouble:
                    logger.error("retention: %s", error, exc_info=error)
                self._trouble = repr(error)
            self.heartbeat.beat()
            await asyncio.sleep(INTERVAL)

    async def round(self) -> int:
        """Delete all jobs that ended long enough ago, and return how many."""
        store, old, count, after = self._store, self._store.old_jobs, 0, 0
        before = utc_now() - self._age
        while found := await store.in_thread(old.find, before, after):
            after = found[-1][0]
            removed = await asyncio.to_thread(self._remove_folders, found)
            while await store.in_thread(old.delete_events, removed):
                await asyncio.sleep(PAUSE)
            count += await store.in_thread(old.delete, removed, before)
            self.heartbeat.beat()
            await asyncio.sleep(PAUSE)
        if count:
            logger.info("retention: %d jobs that ended before %s were deleted", count, before)
        return count

    def _remove_folders(self, jobs: Sequence[tuple[int, str]]) -> list[int]:
        """Remove the folders of jobs; return the numbers of those of which nothing is left.

        The rows are deleted afterwards: a process that is killed in between tries both again.
        """
        removed = []
        for seq, job_id in jobs:
            self._guard()
            try:
                folder = JobFolder(self._folder, job_id)
                if (
                    folder.is_supervised()
                ):  # its record says that it ended, but something still runs
                    continue
                if folder.path.is_symlink():
                    folder.path.unlink()
                elif folder.path.exists():
                    shutil.rmtree(folder.path)
            except ExecutorError:  # an id that no folder can have
                logger.debug("retention: job %s has no folder", job_id)
            except OSError as error:
                logger.warning(
                    "retention: the folder of a job cannot be removed: %s: %s",
                    error.strerror,
                    error.filename,
                    extra={"job_id": job_id},
                )
                continue
            removed.append(seq)
        return removed
