"""A real Slurm that has forgotten a job, of which a service that starts again knows no number."""

import asyncio
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.executors.base import JobSpec, RunState
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from tests.integration.test_slurm_service import ClusterTest, Next
from tests.support import wait_until
from tests.support.executor_contract import a_script


class LostAnswerTest(ClusterTest):
    """A cluster that forgets jobs in a moment, and has no slurmdbd."""

    options = {"cpus": 4, "min_job_age": 2}

    def executor(self, **values) -> SlurmExecutor:
        """Make an executor that is closed in the end, as a service that starts again has one."""
        executor = self.make(**values)
        self.addAsyncCleanup(executor.close)
        return executor

    async def run_and_forget(self) -> tuple[JobSpec, str]:
        """Run a job until Slurm has forgotten it; return it as if no answer had ever come."""
        executor = self.executor()
        spec = replace(a_script("exit 0"), recorded_at=datetime.now(UTC) - timedelta(hours=1))
        [started] = await executor.start([spec])
        async with asyncio.timeout(60):
            while (await executor.statuses([started.ref]))[started.ref].state in (
                RunState.PENDING,
                RunState.RUNNING,
            ):
                await asyncio.sleep(0.05)
        number = started.ref.partition(":")[0]

        def is_gone() -> bool:
            said = self.cluster.run("scontrol", "-o", "show", "jobs")
            return f"JobId={number} " not in said

        await asyncio.to_thread(wait_until, is_gone, 150, "Slurm to forget it")
        return spec, number

    async def start_again(self, spec: JobSpec, **values):
        """Start a service again that may have sent the job."""
        executor = self.executor(**values)
        executor._settle = 0.0
        await executor.open([spec.job_id])
        return (await executor.start([spec]))[0]

    def listed(self) -> str:
        """Return what Slurm lists now."""
        return self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i").strip()

    async def test_a_folder_that_is_not_mounted_says_nothing(self) -> None:
        spec, number = await self.run_and_forget()
        away = self.folder.with_name("away")
        shutil.move(self.folder, away)
        for is_mount_point in (False, True):
            with self.subTest(is_mount_point=is_mount_point):
                if is_mount_point:
                    self.folder.mkdir()
                await self.assert_unmounted(await self.start_again(spec), number)
        self.folder.rmdir()
        shutil.move(away, self.folder)
        started = await self.start_again(spec)
        self.assertEqual(f"{number}:{spec.job_id}", started.ref)
        self.assertEqual("", self.listed())

    async def assert_unmounted(self, started, number: str) -> None:
        """Check that the job is in doubt, and was not sent."""
        self.assertEqual((None, True, True), (started.ref, started.again, started.in_doubt))
        self.assertIn("mount", started.error)
        self.assertEqual("", self.listed())


class NextLostAnswerTest(Next, LostAnswerTest):
    """The same with the newer generation of Slurm."""


class AccountingLostAnswerTest(LostAnswerTest):
    """With slurmdbd, which knows the job."""

    options = {"cpus": 4, "min_job_age": 2, "accounting": True}

    async def assert_unmounted(self, started, number: str) -> None:
        """Check that slurmdbd told which job it was."""
        self.assertEqual(number, (started.ref or "").partition(":")[0], started)
        self.assertEqual("", self.listed())


class NextAccountingLostAnswerTest(Next, AccountingLostAnswerTest):
    """The same with the newer generation of Slurm."""
