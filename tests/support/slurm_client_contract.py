"""What the client of slurmrestd has to do, whichever slurmrestd is behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import NotSlurm, Refused
from aind_data_transfer_service.slurmrest.models import SlurmJob, Submission
from tests.support import slow


def a_submission(*lines: str, **properties) -> Submission:
    """Build a submission."""
    usual = {
        "name": "ecephys_690165_2024-02-19_11-25-17",
        "current_working_directory": "/tmp",
        "standard_out": "/dev/null",
        "standard_error": "/dev/null",
        "nodes": [1, 1],
    }
    script = "\n".join(["#!/bin/bash", *lines, ""])
    return Submission(script, usual | properties, {"PATH": "/usr/bin:/bin"})


class SlurmClientContract:
    """Mixed into an asynchronous test case that makes `self.client`.

    `patience` is how long a job may take to come to its end, in seconds.
    """

    client: SlurmClient
    patience = 60.0
    tells_of_the_unknown = True
    """Whether the cancelling of a job that nobody knows is told apart from a good one."""

    async def until(self, what: str, ask: Callable[[], Awaitable]):
        """Wait until there is an answer."""
        async with asyncio.timeout(self.patience):
            while not (answer := await ask()):
                await asyncio.sleep(0.05)
        return answer

    async def ended(self, job_id: int) -> SlurmJob:
        """Wait for a job's end."""

        async def found() -> SlurmJob | None:
            job = await self.client.job(job_id)
            return job if job and job.has_ended else None

        return await self.until(f"the end of job {job_id}", found)

    async def running(self, job_id: int) -> SlurmJob:
        """Wait for a job's start."""

        async def found() -> SlurmJob | None:
            job = await self.client.job(job_id)
            return job if job and job.state == "RUNNING" else None

        return await self.until(f"the start of job {job_id}", found)

    async def test_what_is_submitted_is_listed_as_it_was_asked_for(self):
        before = datetime.now(UTC) - timedelta(seconds=2)
        comment = "aind-data-transfer-service:O'Brien $(id) ünï"
        submitted = await self.client.submit(a_submission("exit 0", comment=comment, time_limit=7))
        self.assertEqual(submitted.slurm_id, submitted.raw["job_id"])
        listed = {job.job_id: job for job in await self.client.jobs()}
        job = listed[submitted.slurm_id]
        self.assertEqual(comment, job.comment)
        self.assertEqual("ecephys_690165_2024-02-19_11-25-17", job.name)
        self.assertEqual((7, "/tmp"), (job.time_limit_minutes, job.working_directory))
        self.assertEqual("/dev/null", job.standard_output)
        self.assertLess(before, job.submitted)
        self.assertIn(job.user, ("", "root"))

    @slow
    async def test_a_job_completes(self):
        submitted = await self.client.submit(a_submission("exit 0"))
        job = await self.ended(submitted.slurm_id)
        self.assertEqual(("COMPLETED", 0, None), (job.state, job.exit_code, job.signal))
        self.assertLessEqual(job.started, job.ended)
        self.assertTrue(job.nodes)

    @slow
    async def test_a_job_that_fails_tells_its_exit_code(self):
        submitted = await self.client.submit(a_submission("exit 17"))
        job = await self.ended(submitted.slurm_id)
        self.assertEqual(("FAILED", 17), (job.state, job.exit_code))

    async def test_a_running_job_is_cancelled(self):
        submitted = await self.client.submit(a_submission("sleep 60"))
        self.assertIsNone((await self.running(submitted.slurm_id)).exit_code)
        self.assertTrue(await self.client.cancel(submitted.slurm_id))
        self.assertEqual("CANCELLED", (await self.ended(submitted.slurm_id)).state)

    async def test_a_job_that_nobody_knows(self):
        self.assertIsNone(await self.client.job(999_999))
        self.assertEqual(not self.tells_of_the_unknown, await self.client.cancel(999_999))

    async def test_a_refusal_is_told_in_the_words_of_slurm(self):
        with self.assertRaises(Refused) as caught:
            await self.client.submit(Submission("no script at all", a_submission().properties))
        self.assertTrue(caught.exception.complaints)
        self.assertIn(caught.exception.complaints[0].text, str(caught.exception))

    @slow
    async def test_many_jobs_are_submitted_at_once_each_with_its_own_id(self):
        wanted = [a_submission("exit 0", name=f"job {number}") for number in range(30)]
        submitted = await asyncio.gather(*(self.client.submit(one) for one in wanted))
        ids = {one.slurm_id for one in submitted}
        self.assertEqual(30, len(ids))
        names = {job.name for job in await self.client.jobs() if job.job_id in ids}
        self.assertEqual({f"job {number}" for number in range(30)}, names)

    async def test_the_controller_and_the_nodes_are_there(self):
        [controller] = await self.client.ping()
        self.assertTrue(controller.up and controller.host)
        [node] = await self.client.nodes()
        self.assertIn(node.state, ("IDLE", "MIXED", "ALLOCATED"))
        self.assertTrue(node.cpus and node.memory_mb and node.name)


class DaemonsContract(SlurmClientContract):
    """What beyond that the tests' mock cannot show: only Slurm's own daemons have it."""

    cluster_command: Callable[..., str]
    """Runs one of Slurm's own commands."""

    async def test_a_job_gets_the_fewest_and_the_most_nodes_that_it_asks_for(self):
        for asked, shown in ([1, 1], "1-1"), ([1, 3], "1-3"):
            submitted = await self.client.submit(
                a_submission("exit 0", nodes=asked, begin_time="2040-01-01T00:00:00")
            )
            told = self.cluster_command("scontrol", "show", "job", "-o", str(submitted.slurm_id))
            self.assertRegex(told, rf"NumNodes={shown} ")
            await self.client.cancel(submitted.slurm_id)

    async def test_an_array_that_waits_tells_which_tasks_are_left(self):
        submitted = await self.client.submit(a_submission("exit 0", array="1-3", hold=True))
        [job] = [one for one in await self.client.jobs() if one.job_id == submitted.slurm_id]
        self.assertEqual(("PENDING", "1-3"), (job.state, job.array_tasks_left))
        self.assertIn(job.array_task_id, (None, 0))
        self.assertEqual([job], await self.client.tasks(submitted.slurm_id))
        self.assertTrue(await self.client.cancel(submitted.slurm_id))

    async def test_the_tasks_of_an_array_that_runs_are_told_by_its_number(self):
        array = a_submission("sleep 60", array="1-2")
        number = (await self.client.submit(array)).slurm_id
        self.addAsyncCleanup(self.client.cancel, number)

        async def found() -> list[SlurmJob]:
            tasks = await self.client.tasks(number)
            return tasks if all(task.state == "RUNNING" for task in tasks) else []

        tasks = await self.until("two tasks to run", found)
        self.assertEqual({1, 2}, {task.array_task_id for task in tasks})
        self.assertEqual({number}, {task.array_job_id for task in tasks})
        listed = [job for job in await self.client.jobs() if job.array_job_id == number]
        self.assertCountEqual(listed, tasks)

    async def test_a_dialect_that_the_server_no_longer_has_is_not_slurm(self):
        async with SlurmClient(
            self.client.base_url, "root", self.client.tokens, dialect="slurm/v0.0.35"
        ) as client:
            with self.assertRaises(NotSlurm):
                await client.jobs()
