"""How jobs ended that Slurm forgot while the service was away; the cluster is a mock on HTTP."""

import asyncio
import unittest

from aind_data_transfer_service.jobs.completion_evidence import Patience
from aind_data_transfer_service.jobs.states import ENDED, JobState
from tests.support import slow
from tests.support.mock_cluster import ClusterServiceTest
from tests.test_server.cluster import Pace

STOPPED = '{"slurm_job_id": 1, "exit_code": 143, "stopped": true, "ended": 1767322800}'
LIMIT = "slurmstepd: error: *** JOB %d ON n1 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***"


class ForgottenTest(ClusterServiceTest):
    """A service that comes back when Slurm knows its jobs no more, and there is no slurmdbd."""

    patience = Patience(files=0.1)
    pace = Pace(pending=0, run=0.2, min_job_age=0.1)

    @slow
    async def test_jobs_are_judged_by_what_they_and_slurm_left(self):
        manager = await self.start()
        submission = await manager.submit_hpc(self.requests(5))
        jobs = {one["job_id"]: one["slurm_job_id"] for one in submission.responses}
        await manager.stop()
        late, deaf, killed, stopped, away = jobs
        for job_id, number in jobs.items():
            self.leave(job_id, "claim", str(number))
        for job_id in (late, stopped):
            self.leave(job_id, "end", STOPPED)
        for job_id in (late, deaf):
            self.leave(job_id, "err", f"working\n{LIMIT % jobs[job_id]}\n")
        self.leave(away, "end", '{"exit_code": 137, "stopped": false}')
        async with asyncio.timeout(10):
            while self.cluster.jobs():
                await asyncio.sleep(0.01)
        manager = await self.start()
        for job_id, state, reason in (
            (late, JobState.TIMEOUT, "stopped at its time limit"),
            (deaf, JobState.TIMEOUT, "stopped at its time limit"),
            (killed, JobState.FAILED, "as when it is killed (SIGKILL)"),
            (stopped, JobState.FAILED, "by its time limit, preemption or scancel"),
            (away, JobState.FAILED, "killed by SIGKILL"),
        ):
            async with asyncio.timeout(10):
                while (job := await manager.get(job_id)).state not in ENDED:
                    await asyncio.sleep(0.01)
            self.assertEqual(state, job.state)
            self.assertIn(reason, job.reason)

    @slow
    async def test_a_folder_in_which_no_job_left_anything_does_not_show_that_one_never_began(self):
        logs = self.folder / "logs"  # the nodes have another one under the same name
        logs.mkdir()
        manager = await self.start(logging_directory=str(logs))
        submission = await manager.submit_hpc(self.requests(1))
        [job_id] = [one["job_id"] for one in submission.responses]
        await manager.stop()
        async with asyncio.timeout(10):
            while self.cluster.jobs():
                await asyncio.sleep(0.01)
        manager = await self.start(logging_directory=str(logs))
        async with asyncio.timeout(10):
            while (job := await manager.get(job_id)).state not in ENDED:
                await asyncio.sleep(0.01)
        self.assertEqual(JobState.UNKNOWN, job.state)
        self.assertIn("Slurm has forgotten the job, and it left no word", job.reason)

    def leave(self, job_id: str, ending: str, text: str) -> None:
        """Leave a file in the folder of logs, as a job or slurmstepd does."""
        (self.folder / f"{job_id}.{ending}").write_text(text)


if __name__ == "__main__":
    unittest.main()
