"""What deleting old jobs has to do, whatever database it is in."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import sqlalchemy as sa

from aind_data_transfer_service.errors import JobNotFound, LeaseLostError
from aind_data_transfer_service.jobs import retention
from aind_data_transfer_service.jobs.models import Job, utc_now
from aind_data_transfer_service.jobs.retention import Retention
from aind_data_transfer_service.jobs.states import ACTIVE, ENDED, JobState
from aind_data_transfer_service.jobs.store import old_jobs
from aind_data_transfer_service.jobs.store.job_store import JobQuery, JobStore
from tests.support import slow
from tests.support.jobs import a_job, an_event

OLD = utc_now() - timedelta(days=31)


class RetentionContract:
    """Mixed into a test case that makes `self.store`, an asyncio one, and knows its `self.url`."""

    store: JobStore
    url: str

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.retention = Retention(self.store, self.folder, days=30)

    def add(self, state: JobState = JobState.COMPLETED, ended_at=OLD, **values) -> Job:
        """Record a job with events and a folder."""
        ended = ended_at if state in ENDED else None
        job = a_job(state=state, ended_at=ended, **values)
        self.store.add([job])
        self.store.add_events(job.id, [an_event(message=str(number)) for number in range(5)])
        (self.folder / job.id).mkdir()
        (self.folder / job.id / "stdout.log").write_text("said")
        return job

    def ids(self) -> set[str]:
        """List the jobs that there are."""
        return {job.id for job in self.store.find(JobQuery(page_size=500)).jobs}

    @slow
    async def test_jobs_that_ended_long_ago_are_deleted_with_all_that_is_theirs(self) -> None:
        old = [self.add(state) for state in sorted(ENDED)]
        young = [self.add(state, utc_now()) for state in sorted(ENDED)]
        young += [self.add(state) for state in sorted(ACTIVE)]
        asset = self.folder / "asset"
        asset.mkdir()
        (asset / "data.bin").write_bytes(b"data")
        (self.folder / old[0].id / "link").symlink_to(asset)
        self.assertEqual(len(old), await self.retention.round())
        self.assertEqual({job.id for job in young}, self.ids())
        folders = {path.name for path in self.folder.iterdir()} - {"asset"}
        self.assertEqual({job.id for job in young}, folders)
        self.assertEqual(b"data", (asset / "data.bin").read_bytes())
        for job in old:
            self.assertEqual([], self.store.events(job.id))
            with self.assertRaises(JobNotFound):
                self.store.get(job.id)
        self.assertTrue(all(len(self.store.events(job.id)) == 5 for job in young))
        self.assertEqual(0, await self.retention.round())

    async def test_a_job_stays_until_people_were_told_and_what_follows_is_over(self) -> None:
        store = JobStore(self.url, keep_notices=True)
        self.addCleanup(store.close)
        job = self.add(JobState.RUNNING)
        store.update(job.id, state=JobState.FAILED, ended_at=OLD)
        analysed = self.add(analysis="RUNNING")
        registered = self.add(registration="PENDING")
        self.assertEqual(0, await self.retention.round())
        [notice] = store.outbox.take(timedelta(minutes=5))
        self.assertEqual(0, await self.retention.round(), "it is being sent")
        store.outbox.done(notice)
        store.update(analysed.id, analysis="FAILED")
        store.update(registered.id, registration="DONE")
        self.assertEqual(3, await self.retention.round())

    @slow
    async def test_notices_and_steps_that_nobody_ends_any_more_keep_no_job(self) -> None:
        store = JobStore(self.url, keep_notices=True)
        self.addCleanup(store.close)
        told = [self.add(JobState.RUNNING) for _ in range(2)]
        for job in told:
            store.update(job.id, state=JobState.FAILED, ended_at=OLD)
        for step in ({"analysis": "WAITING"}, {"analysis": "RUNNING"}, {"registration": "PENDING"}):
            self.add(**step)
        now = utc_now()
        for days, deleted in ((0.9, 0), (1.1, 2), (29, 0), (31, 3)):
            later = now + timedelta(days=days)
            with (
                patch.object(old_jobs, "utc_now", return_value=later),
                patch.object(retention, "utc_now", return_value=later),
            ):
                self.assertEqual(deleted, await self.retention.round(), days)
        self.assertEqual(0, store.outbox.waiting())

    async def test_many_jobs_and_events_are_deleted_a_few_at_a_time(self) -> None:
        deleted: list[int] = []

        def note(_connection, cursor, statement, *_) -> None:
            if statement.startswith("DELETE"):
                deleted.append(cursor.rowcount)

        sa.event.listen(sa.Engine, "after_cursor_execute", note)
        self.addCleanup(sa.event.remove, sa.Engine, "after_cursor_execute", note)
        self.enterContext(patch.object(old_jobs, "_JOBS_AT_ONCE", 3))
        self.enterContext(patch.object(old_jobs, "_EVENTS_AT_ONCE", 4))
        self.enterContext(patch.object(retention, "PAUSE", 0))
        for _ in range(7):
            self.add()
        self.assertEqual(7, await self.retention.round())
        self.assertEqual(set(), self.ids())
        self.assertEqual(7 * 5 + 7 + 7, sum(deleted))
        self.assertLessEqual(max(deleted), 4)

    @slow
    async def test_a_job_whose_folder_stays_keeps_its_record(self) -> None:
        job = self.add()
        self.add()
        remove = shutil.rmtree

        def fail(path: Path) -> None:
            if path.name == job.id:
                raise PermissionError(13, "Permission denied", str(path))
            remove(path)

        with (
            patch.object(retention.shutil, "rmtree", fail),
            self.assertLogs("aind_data_transfer_service", "WARNING") as logged,
        ):
            self.assertEqual(1, await self.retention.round())
        self.assertEqual({job.id}, self.ids())
        self.assertIn("cannot be removed", logged.output[0])
        self.assertEqual(1, await self.retention.round())

    async def test_a_process_that_lost_the_lease_deletes_nothing(self) -> None:
        job = self.add()

        def refuse() -> None:
            raise LeaseLostError("lost")

        lost = Retention(self.store, self.folder, 30, guard=refuse)
        with self.assertRaises(LeaseLostError):
            await lost.round()
        self.assertTrue((self.folder / job.id / "stdout.log").exists())
        self.store.lease.acquire(60, "a")
        with self.assertRaises(LeaseLostError):
            await Retention(self.store.fenced(7), self.folder, 30).round()
        self.assertEqual({job.id}, self.ids())
