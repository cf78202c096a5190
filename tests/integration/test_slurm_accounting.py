"""Jobs that Slurm has forgotten, on a real slurmdbd with its database."""

import asyncio
import unittest
from unittest.mock import patch

from aind_data_transfer_service.executors.base import RunState, RunStatus
from tests.integration import test_slurm_service
from tests.support import wait_until
from tests.support.executor_contract import a_script


class AccountingTest(test_slurm_service.ClusterTest):
    """A cluster that forgets jobs in a moment, and slurmdbd, which does not."""

    options = {"cpus": 4, "min_job_age": 2, "accounting": True}

    async def asyncSetUp(self):
        self.executor = self.make()
        self.addAsyncCleanup(self.executor.close)

    async def begin(self, *lines: str, **settings) -> str:
        """Start a script and give its reference."""
        [started] = await self.executor.start([a_script(*lines, settings=settings)])
        self.assertIsNone(started.error)
        return started.ref

    async def end_of(self, *refs: str) -> list[RunStatus]:
        """Wait until jobs are over."""
        async with asyncio.timeout(60):
            while True:
                found = await self.executor.statuses(refs)
                if all(one.state not in ("PENDING", "RUNNING") for one in found.values()):
                    return [found[ref] for ref in refs]
                await asyncio.sleep(0.05)

    async def forgotten(self, *refs: str) -> None:
        """Wait until Slurm's controller knows jobs no longer; take their own last words away."""
        numbers = [ref.split(":")[0] for ref in refs]

        def is_gone() -> bool:
            said = self.cluster.run("scontrol", "-o", "show", "jobs")
            return not any(f"JobId={number} " in said for number in numbers)

        await asyncio.to_thread(wait_until, is_gone, 150, "Slurm to forget them")
        for path in self.folder.glob("*.end"):
            path.unlink()
        self.executor._past._found.clear()  # as if it had not seen their ends

    async def test_slurmdbd_tells_the_end_of_forgotten_jobs(self):
        done = await self.begin("exit 0")
        failed = await self.begin("exit 17")
        killed = await self.begin("kill -9 $PPID")
        stopped = await self.begin("sleep 100")
        while (await self.executor.statuses([stopped]))[stopped].state is not RunState.RUNNING:
            await asyncio.sleep(0.05)
        number = stopped.split(":")[0]
        self.cluster.run("scontrol", "update", f"jobid={number}", "comment=mine")
        self.cluster.run("scancel", number)
        before = await self.end_of(done, failed, killed, stopped)
        await self.forgotten(done, failed, killed, stopped)
        asked = 0
        request = self.executor._client._http.request

        async def count(method: str, path: str, **more):
            nonlocal asked
            asked += "/slurmdb/" in path
            return await request(method, path, **more)

        with patch.object(self.executor._client._http, "request", count):
            for _ in range(3):
                after = await self.end_of(done, failed, killed, stopped)
        self.assertEqual(asked, 1, "one question for all of them, once")
        self.assertEqual([one.state for one in after], [one.state for one in before])
        self.assertEqual([one.reason for one in after], [one.reason for one in before])
        self.assertEqual([one.node for one in after], [one.node for one in before])
        self.assertEqual([one.ended_at for one in after], [one.ended_at for one in before])
        self.assertEqual(
            [one.state for one in after],
            [RunState.COMPLETED, RunState.FAILED, RunState.FAILED, RunState.CANCELLED],
        )
        await self.a_service_started_anew(*(one.ref for one in before))
        await self.a_number_of_another_cluster(done)

    async def a_service_started_anew(self, *refs: str) -> None:
        """Ask with an executor that saw nothing of all this, by what was recorded."""
        executor = self.make()
        self.addAsyncCleanup(executor.close)
        found = await executor.statuses(refs)
        self.assertEqual(
            [RunState.COMPLETED, RunState.FAILED, RunState.FAILED, RunState.CANCELLED],
            [found[ref].state for ref in refs],
        )

    async def a_number_of_another_cluster(self, ref: str) -> None:
        """Give a job the number of another; slurmdbd's record is not its own."""
        number = ref.split(":")[0]
        other = f"{number}:another-job"
        status = (await self.executor.statuses([other]))[other]
        self.assertEqual(status.state, RunState.LOST)

    async def test_slurmdbd_is_away_and_comes_back(self):
        ref = await self.begin("exit 17")
        await self.end_of(ref)
        await self.forgotten(ref)
        self.executor._past._again = 0.0
        await asyncio.to_thread(self.cluster.kill, "slurmdbd")
        try:
            status = (await self.executor.statuses([ref]))[ref]
            self.assertEqual(status.state, RunState.RUNNING)
            self.assertIn("accounting", status.reason)
        finally:
            await asyncio.to_thread(self.cluster.start_daemon, "slurmdbd")
        [status] = await self.end_of(ref)
        self.assertEqual(status.state, RunState.FAILED)


class NoCommentsTest(AccountingTest):
    """slurmdbd is not told of comments: number, name and time of submission have to do."""

    options = AccountingTest.options | {"keeps_comments": False}
    test_slurmdbd_is_away_and_comes_back = None  # that is no different


class NextAccountingTest(test_slurm_service.Next, AccountingTest):
    """The same on the newer generation of Slurm."""


if __name__ == "__main__":
    unittest.main()
