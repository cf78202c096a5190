"""Jobs on a real Slurm whose comments, names or numbers change are followed, and run once."""

import asyncio
import itertools
import shlex
import shutil
import unittest
from dataclasses import replace
from datetime import UTC, datetime

from aind_data_transfer_service.executors.base import JobSpec, RunState, RunStatus
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from tests.integration.test_slurm_service import ClusterTest, Next
from tests.support import slurm, slurm_next
from tests.support.executor_contract import a_script
from tests.support.slurm_faults import Fault, FaultyServer

_PLUGIN = """
function slurm_job_submit(job, partitions, user)
    job.comment = "checked by the site"
    if job.name ~= "own" then
        job.name = "site: " .. job.name
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end
"""
_numbers = itertools.count(1)
_ENDED = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.LOST)


class RewritingCluster(slurm.SlurmCluster):
    """A cluster whose job submit plugin rewrites the comment and the name of every job."""

    def __init__(self, **options) -> None:
        super().__init__(**options, extra="JobSubmitPlugins=lua")
        (self.folder / "job_submit.lua").write_text(_PLUGIN)


class Followed(ClusterTest):
    """What the tests of this module share."""

    options = {"cpus": 4}
    api_versions = ("slurm/v0.0.36", "slurm/v0.0.38")

    def executor(self, endpoint: str, **values) -> SlurmExecutor:
        """Make an executor that is closed in the end, as a service that starts again has one."""
        executor = self.make(api_endpoint=endpoint, **values)
        self.addAsyncCleanup(executor.close)
        return executor

    def script(self, *lines: str, own: bool = False, **settings) -> JobSpec:
        """Compose a job that notes that it ran, perhaps with output files of its own."""
        if own:
            stem = f"{self.folder}/own-{next(_numbers)}-%j"  # ended jobs are listed for a while
            settings |= {"standard_out": f"{stem}.out", "standard_error": f"{stem}.err"}
        noted = f'echo run >> {shlex.quote(str(self.folder))}/"$JOB_ID.ran"'
        return a_script(noted, *lines, name="own" if own else "usual", settings=settings)

    def update(self, ref: str, *changes: str) -> None:
        """Change a job as an administrator does."""
        self.cluster.run("scontrol", "update", f"jobid={ref.partition(':')[0]}", *changes)

    async def until(self, executor: SlurmExecutor, ref: str, *states: RunState) -> RunStatus:
        """Wait until a job is in one of some states."""
        async with asyncio.timeout(60):
            while (found := (await executor.statuses([ref]))[ref]).state not in states:
                self.assertNotIn(found.state, _ENDED, found)
                await asyncio.sleep(0.05)
        return found

    def ran(self, job_id: str) -> int:
        """Count how often a job ran."""
        path = self.folder / f"{job_id}.ran"
        return path.read_text().count("run") if path.exists() else 0


class IdentityTest(Followed):
    """Comments and names that are changed by hand, and a controller that begins again."""

    async def test_a_comment_that_is_changed_while_the_job_waits_or_runs(self) -> None:
        for endpoint in self.api_versions:
            for own in (False, True):
                with self.subTest(endpoint=endpoint, own=own):
                    await self.assert_followed(endpoint, own)

    async def assert_followed(self, endpoint: str, own: bool) -> None:
        """Change a job again and again, and follow it by the same service and by others."""
        executor = self.executor(endpoint)
        spec = self.script(
            f"while [ ! -e {self.cluster.folder}/go ]; do sleep 0.05; done", hold=True, own=own
        )
        [started] = await executor.start([spec])
        found = await self.until(executor, started.ref, RunState.PENDING)
        self.update(found.ref, "comment=mine", "jobname=mine")
        await self.until(executor, found.ref, RunState.PENDING)
        await self.until(executor := self.executor(endpoint), found.ref, RunState.PENDING)
        self.cluster.run("scontrol", "release", found.ref.partition(":")[0])
        found = await self.until(executor, found.ref, RunState.RUNNING)
        self.update(found.ref, "comment=theirs")
        await self.until(executor, found.ref, RunState.RUNNING)
        await self.until(executor := self.executor(endpoint), found.ref, RunState.RUNNING)
        [again] = await self.executor(endpoint).start([spec])
        self.assertEqual(found.ref.partition(":")[0], again.ref.partition(":")[0])
        (self.cluster.folder / "go").touch()
        await self.until(executor, found.ref, RunState.COMPLETED)
        self.assertEqual(1, self.ran(spec.job_id))
        (self.cluster.folder / "go").unlink()

    async def test_a_job_of_a_changed_comment_is_cancelled(self) -> None:
        endpoint = self.api_versions[-1]
        [started] = await self.executor(endpoint).start([self.script("sleep 100")])
        self.update(started.ref, "comment=mine")
        executor = self.executor(endpoint)
        await self.until(executor, started.ref, RunState.RUNNING)
        await executor.cancel(started.ref)
        await self.until(executor, started.ref, RunState.CANCELLED)

    async def test_a_job_of_a_changed_comment_that_is_queued_again(self) -> None:
        endpoint = self.api_versions[-1]
        executor = self.executor(endpoint)
        lines = '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || exec sleep 100'
        [started] = await executor.start([self.script(lines, requeue=True, own=True)])
        found = await self.until(executor, started.ref, RunState.RUNNING)
        self.update(found.ref, "comment=mine")
        self.cluster.run("scontrol", "requeue", found.ref.partition(":")[0])
        found = await self.until(executor, found.ref, RunState.PENDING)
        executor = self.executor(endpoint)
        number = found.ref.partition(":")[0]
        soon = "starttime=now+3"  # Slurm revokes a credential of the second of the requeue
        self.cluster.run("scontrol", "update", f"jobid={number}", soon)
        await self.until(executor, found.ref, RunState.COMPLETED)

    async def test_shards_of_changed_comments(self) -> None:
        endpoint = self.api_versions[-1]
        spec = a_script("exit 0")
        cut = replace(spec, script="", request="{}", settings={"hold": True})
        [started] = await self.executor(endpoint, shards=2).start([cut])
        for number in self.cluster.run("squeue", "-h", "-o", "%A").split():
            self.cluster.run("scontrol", "update", f"jobid={number}", "comment=mine")
        executor = self.executor(endpoint, shards=2)
        found = await self.until(executor, started.ref, RunState.PENDING)
        self.assertIn("2 shards are pending", found.reason)
        await executor.cancel(started.ref)
        await self.until(executor, started.ref, RunState.CANCELLED)
        self.assertEqual("", self.cluster.run("squeue", "-h", "-o", "%i").strip())

    async def test_a_controller_that_lost_its_state_gives_numbers_again(self) -> None:
        endpoint = self.api_versions[-1]
        executor = self.executor(endpoint)
        [started] = await executor.start([self.script("sleep 100", hold=True, own=True)])
        found = await self.until(executor, started.ref, RunState.PENDING)
        executor._fresh.clear()  # as a minute later: the controller had written it down
        number = int(found.ref.partition(":")[0])
        await asyncio.to_thread(self.lose_state)
        wrap = ["--wrap", "sleep 100", "--output", "/dev/null", "--job-name", "by hand"]
        given = [int(self.cluster.run("sbatch", "--parsable", *wrap)) for _ in range(number)]
        self.assertIn(number, given)
        for one in (executor, self.executor(endpoint)):
            status = (await one.statuses([found.ref]))[found.ref]
            self.assertEqual(RunState.LOST, status.state, status)
            await one.cancel(found.ref)
        left = self.cluster.run("squeue", "-h", "-o", "%i").split()
        self.assertLessEqual(set(map(str, given)), set(left), "nobody else's job is cancelled")
        self.cluster.run("scancel", *map(str, given))

    def lose_state(self) -> None:
        """Have the controller begin again, as a new one."""
        self.cluster.kill("slurmctld")
        shutil.rmtree(self.cluster.folder / "state")
        (self.cluster.folder / "state").mkdir(mode=0o755)
        self.cluster.start_daemon("slurmctld")
        self.cluster.wait_for_node("idle")


class PluginTest(Followed):
    """A job submit plugin that rewrites every job."""

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up, with the plugin."""
        return slurm.start(RewritingCluster, **cls.options)

    async def test_a_job_is_followed_and_runs_once(self) -> None:
        for endpoint in self.api_versions:
            for own in (False, True):
                with self.subTest(endpoint=endpoint, own=own):
                    executor = self.executor(endpoint)
                    spec = self.script(own=own)
                    [started] = await executor.start([spec])
                    await self.until(executor, started.ref, RunState.COMPLETED)
                    shown = self.cluster.run(
                        "scontrol", "show", "job", started.ref.partition(":")[0]
                    )
                    self.assertIn("Comment=checked by the site", shown)
                    self.assertEqual(1, self.ran(spec.job_id))

    async def test_a_job_whose_answer_was_lost_is_not_sent_twice(self) -> None:
        for endpoint in self.api_versions:
            for own in (False, True):
                with self.subTest(endpoint=endpoint, own=own):
                    await self.assert_sent_once(endpoint, own)

    async def assert_sent_once(self, endpoint: str, own: bool) -> None:
        """Lose an answer, wait longer than it may take, and start the job again."""
        server = FaultyServer(
            upstream=self.cluster.endpoint,
            choose=lambda seen: Fault.CLOSE if seen.method == "POST" else None,
        )
        recorded_at = datetime.now(UTC)
        spec = self.script(hold=True, own=own)
        async with server:
            executor = self.executor(endpoint, port=int(server.url.rpartition(":")[2]))
            for _ in range(2):
                [started] = await executor.start([spec])
                self.assertIsNotNone(started.ref, started)
                executor._lost[spec.job_id] = 0.0
            posts = [seen for seen in server.seen if seen.method == "POST"]
            self.assertEqual(1, len(posts))
        executor = self.executor(endpoint)
        await executor.open([spec.job_id])
        await executor.start([replace(spec, recorded_at=recorded_at)])
        self.cluster.run("scontrol", "release", started.ref.partition(":")[0])
        await self.until(executor, started.ref, RunState.COMPLETED)
        self.assertEqual(1, self.ran(spec.job_id))


class NextIdentityTest(Next, IdentityTest):
    """The same on the newer generation of Slurm."""

    api_versions = ("slurm/v0.0.40", "slurm/v0.0.42")


class NextPluginTest(PluginTest):
    """The same on the newer generation of Slurm."""

    api_versions = ("slurm/v0.0.40", "slurm/v0.0.42")

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up, with the plugin."""
        return slurm.start(RewritingCluster, root=slurm_next.provide(), **cls.options)


if __name__ == "__main__":
    unittest.main()
