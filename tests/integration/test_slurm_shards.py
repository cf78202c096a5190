"""One asset in shards on a real Slurm cluster: arrays, dependencies, and what goes wrong."""

import asyncio
import contextlib
import os
import random
import shlex
import signal
import uuid
from pathlib import Path
from unittest.mock import patch

import httpx

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec, RunState
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from tests.integration.test_slurm_service import ENDED, ClusterTest, Next
from tests.support import seaweedfs, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service
from tests.support.slurm_faults import Fault, FaultyServer

ASSET = "behavior_690165_2024-02-19_11-25-17"
SHARDS = 8
HELD_PYTHON = """#!/bin/bash
# Runs the job; a shard that is named in "held" says who it is, and waits until it no longer is.
if grep -qsx "${UPLOAD_SHARD:-last}" "$HELD"; then
    echo $$ >"$HELD.${UPLOAD_SHARD%/*}"
    echo "shard $UPLOAD_SHARD is held" >&2
    while grep -qsx "$UPLOAD_SHARD" "$HELD"; do sleep 0.1; done
fi
exec "$REAL_PYTHON" "$@"
"""


class ServiceInShardsTest(ClusterTest):
    """The whole main path: HTTP, service, slurmrestd, array, bucket, verified asset."""

    options = {"cpus": 4}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        """Start a service that cuts each asset into eight."""
        super().setUp()
        self.bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.logs, self.source = self.folder / "logs", self.folder / "Behavior"
        self.logs.mkdir()
        self.source.mkdir()
        for number in range(40):
            (self.source / f"lick's {number}.bin").write_bytes(os.urandom(20_000 * (number % 7)))
        self.held = self.folder / "held"
        python = self.folder / "python"
        lines = f"export HELD={shlex.quote(str(self.held))} REAL_PYTHON={self.cluster.python}"
        head, _, rest = HELD_PYTHON.partition("\n")
        python.write_text(f"{head}\n{lines}\n{rest}")
        python.chmod(0o755)
        variables = {
            **self.variables(HPC_LOGGING_DIRECTORY=str(self.logs), HPC_PYTHON=str(python)),
            "HPC_SHARDS": str(SHARDS),
            "HPC_SHARDS_EXCLUSIVE": "false",  # all of them on the only node
            **self.s3.cluster_env,
        }
        self.enterContext(patch.dict(os.environ, variables))
        self.service = self.enterContext(
            Service(default_s3_bucket=self.bucket, source_roots=[self.folder])
        )
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def submit(self) -> str:
        """Submit the session and give the job's id."""
        request = {
            "upload_job_settings": upload_settings(self.source),
            "hpc_settings": "{}",
            "script": "",
        }
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})
        self.assertEqual(200, answer.status_code, answer.text)
        return answer.json()["data"]["responses"][0]["job_id"]

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def until(self, job_id: str, what: str, test) -> dict:
        """Wait until a job is as it should be."""
        return wait_until(
            lambda: job if test(job := self.job(job_id)) else None, 180, f"{what}: {job_id}"
        )

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""
        return self.until(job_id, "its end", lambda job: job["state"] in ENDED)

    def hold(self, *shards: int) -> None:
        """Have shards wait before they begin."""
        self.held.write_text("".join(f"{number}/{SHARDS}\n" for number in shards))

    def pid_of(self, shard: int) -> int:
        """Wait for a held shard to run, and give its process."""
        file = Path(f"{self.held}.{shard}")
        return int(wait_until(lambda: file.exists() and file.read_text(), 120, f"shard {shard}"))

    def assert_whole(self) -> None:
        """Compare every object with its file, and look at what lies beside the asset."""
        for path in self.source.iterdir():
            key = f"{ASSET}/behavior/{path.name}"
            stored = self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self.assertEqual(path.read_bytes(), stored)
        found = self.s3.client.list_objects_v2(Bucket=self.bucket, Prefix=f".transfer/{ASSET}/")
        keys = [item["Key"] for item in found["Contents"]]
        records = [key for key in keys if "/probe-" not in key]  # of a job ended in its preflight
        self.assertEqual(records, [f".transfer/{ASSET}/manifest.jsonl"])
        self.assertEqual(list((self.folder / "transfers").rglob("journal.jsonl")), [])

    def tasks(self) -> list[str]:
        """Tell how Slurm sees what has not ended."""
        return self.cluster.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def test_one_shard_is_killed_and_the_asset_is_whole_all_the_same(self):
        self.hold(2, 3)
        job_id = self.submit()
        os.kill(self.pid_of(2), signal.SIGKILL)
        job = self.until(job_id, "a failed shard", lambda job: "shard 2 failed" in job["reason"])
        self.assertEqual("RUNNING", job["state"])
        self.assertIn("SIGKILL", job["reason"])
        job = self.until(job_id, "six shards", lambda job: "6 of 8 shards done" in job["reason"])
        self.assertEqual(("RUNNING", "transfer"), (job["state"], job["step"]))
        self.assertIn("1 running", job["reason"])
        self.assertEqual(job["files_total"], 40)
        self.assertTrue(0 < job["files_done"] < 40, job["files_done"])
        self.hold()
        job = self.end_of(job_id)
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        self.assertEqual(job["files_done"], job["files_total"])
        [row] = self.api.get("/api/jobs").json()["data"]["jobs"]
        self.assertEqual(row["id"], job_id)
        events = self.api.get(f"/api/jobs/{job_id}").json()["data"]["events"]
        told = " ".join(event["message"] for event in events)
        self.assertIn("1 of 8 shards did not end well", told)
        self.assert_whole()

    def test_the_log_of_each_shard_is_shown_while_it_runs(self):
        self.hold(2, 3)
        job_id = self.submit()

        def log(shard: int) -> dict:
            return self.api.get(f"/api/jobs/{job_id}/log?shard={shard}").json()["data"]

        for shard, words in ((2, "shard 2/8 is held"), (3, "shard 3/8 is held"), (1, "step=")):
            wait_until(lambda: words in log(shard)["text"], 120, f"the log of shard {shard}")
            # Until the queue has been read, only shards with a file in the folder are known.
            wait_until(lambda: log(shard)["shards"] == SHARDS, 60, "the number of shards")
        self.assertEqual(("RUNNING", ""), (self.job(job_id)["state"], log(0)["text"]))
        self.hold()
        self.assertEqual("COMPLETED", self.end_of(job_id)["state"])
        self.assertIn("step=verify", log(0)["text"])
        self.assertIn("shard 2/8 is held", log(2)["text"])

    def test_cancelled_all_of_it_stops_and_a_further_job_goes_on(self):
        self.hold(*range(2, 7))
        job_id = self.submit()
        self.pid_of(2)
        self.assertTrue(self.tasks())
        self.assertEqual(200, self.api.post(f"/api/jobs/{job_id}/cancel").status_code)
        self.assertEqual("CANCELLED", self.end_of(job_id)["state"])
        wait_until(lambda: not self.tasks(), 60, "an empty queue")
        self.hold()
        answer = self.api.post(f"/api/jobs/{job_id}/resubmit").json()
        again = answer["data"]["job"]["id"]
        job = self.end_of(again)
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        self.assert_whole()

    def test_a_shard_that_is_queued_again_goes_on(self):
        self.hold(1)
        job_id = self.submit()
        first = self.pid_of(1)
        number = next(line for line in self.tasks() if "_1 " in line).split()[0]
        self.cluster.run("scontrol", "requeue", number)
        job = self.until(job_id, "it to wait", lambda job: "1 pending" in job["reason"])
        self.assertIn("was put back into the queue", job["reason"])
        self.cluster.run("scontrol", "update", f"JobId={number}", "StartTime=now+2")
        wait_until(lambda: self.pid_of(1) != first, 120, "the shard to run again")
        self.hold()
        self.assertEqual("COMPLETED", self.end_of(job_id)["state"])
        self.assert_whole()


class ShardsOnCluster(ClusterTest):
    """A cluster, and an executor that cuts jobs into three that do next to nothing."""

    options = {"cpus": 4}

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.cluster.mend)
        self.python = self.folder / "python"
        self.python.write_text(
            '#!/bin/bash\necho ran >>"$UPLOAD_EVENTS_FILE.ran"\n'
            'while [ -e "$DATA_DIR/wait" ]; do sleep 0.1; done\n'
        )
        self.python.chmod(0o755)

    def make(self, **values) -> SlurmExecutor:
        """Make an executor that cuts jobs into three."""
        hpc = self.hpc(shards=3, shards_exclusive=False, python=str(self.python), **values)
        return SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5)

    async def end_of(self, executor: SlurmExecutor, ref: str, mends: bool = False):
        """Wait for a job's end; as an administrator who mends the cluster, where one is needed."""
        status = None
        try:
            async with asyncio.timeout(180):
                while True:
                    status = (await executor.statuses([ref]))[ref]
                    if status.state not in (RunState.PENDING, RunState.RUNNING):
                        return status
                    if mends:
                        await asyncio.to_thread(self.cluster.mend)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            listed = self.cluster.run("squeue", "-o", "%i %T %r %N")
            node = self.cluster.run("scontrol", "show", "node")
            self.fail(f"{status} has not ended; Slurm says:\n{listed}\n{node}")


class OnceTest(ShardsOnCluster):
    """An array and a last job, each once, whatever happens to answers and daemons."""

    def assert_ran_once(self, job_id: str) -> None:
        """Look at what each shard and the last job left."""
        left = sorted(path.name for path in self.folder.glob(f"{job_id}*.ran"))
        shards = [f"{job_id}.shards.{number}.events.jsonl.ran" for number in (1, 2, 3)]
        self.assertEqual(left, [f"{job_id}.events.jsonl.ran", *shards])
        for name in left:
            self.assertEqual((self.folder / name).read_text(), "ran\n", name)
        shown = self.cluster.run("scontrol", "-o", "show", "jobs")
        ours = [line for line in shown.splitlines() if f"service:{job_id}" in line]
        self.assertEqual(len(ours), 4, ours)

    async def test_every_answer_that_can_be_lost_is_lost(self):
        for fault in (Fault.CLOSE, Fault.CUT):
            for before in (0, 1):
                with self.subTest(fault=fault, before=before):
                    await self.lose(fault, before)

    async def lose(self, fault: Fault, before: int) -> None:
        """Lose the answer to the array's submission, or to the last job's."""
        job_id = f"job-{uuid.uuid4().hex[:8]}"
        spec = JobSpec(job_id, "a name", "{}")
        # the list of paths and the list of jobs come first
        answers = [None, None, *[None] * before, fault, None]
        async with FaultyServer(*answers, upstream=self.cluster.endpoint) as server:
            port = int(server.url.rpartition(":")[2])
            executor = self.make(port=port)
            ref = None
            async with asyncio.timeout(60):
                while ref is None:
                    [started] = await executor.start([spec])
                    self.assertTrue(started.ref or started.again, started)
                    ref = started.ref
            sent = [one for one in server.seen if one.path.endswith("/job/submit")]
            self.assertEqual(len(sent), 2)
            status = await self.end_of(executor, ref)
            await executor.close()
        self.assertEqual(status.state, RunState.COMPLETED, status)
        self.assert_ran_once(job_id)

    async def test_a_controller_that_dies_keeps_both_or_is_given_them_again(self):
        # A shard that a dead controller had launched may be launched again: that is Slurm's doing.
        await asyncio.to_thread(self.cluster.drain)
        executor = self.make()
        [started] = await executor.start([JobSpec("job-killed", "a name", "{}")])
        await asyncio.to_thread(self.cluster.restart, "slurmctld")
        status = await self.end_of(executor, started.ref, mends=True)
        self.assertEqual(status.state, RunState.COMPLETED, status)
        await executor.close()
        self.assert_ran_once("job-killed")

    async def test_a_service_that_dies_in_between_begins_no_second_array(self):
        (self.folder / "wait").touch()
        first, spec = self.make(), JobSpec("job-between", "a name", "{}")
        submit = first._client.submit

        async def once(submission):
            answer = await submit(submission)
            first._client.submit = never
            return answer

        async def never(submission):
            raise asyncio.CancelledError

        first._client.submit = once
        with self.assertRaises(asyncio.CancelledError):
            await first.start([spec])
        await first._client.aclose()
        second = self.make()
        [started] = await second.start([spec])
        (self.folder / "wait").unlink()
        self.assertEqual((await self.end_of(second, started.ref)).state, RunState.COMPLETED)
        await second.close()
        self.assert_ran_once("job-between")

    async def test_an_array_that_is_cancelled_on_the_cluster_ends_the_job(self):
        (self.folder / "wait").touch()
        executor = self.make()
        [started] = await executor.start([JobSpec("job-stopped", "a name", "{}")])
        ref = started.ref
        wait_until(lambda: len(list(self.folder.glob("job-stopped.shards*.ran"))) == 3, 120)
        status = (await executor.statuses([ref]))[ref]
        self.assertEqual((status.state, status.node), (RunState.RUNNING, self.cluster.node))
        shown = self.cluster.run("scontrol", "-o", "show", "jobs").splitlines()
        [array] = {
            part.partition("=")[2]
            for line in shown
            if "service:job-stopped.shards" in line
            for part in line.split()
            if part.startswith("ArrayJobId=")
        }
        self.cluster.run("scontrol", "hold", ref.partition(":")[0])  # that it does not run at once
        self.cluster.run("scancel", array)
        status = await self.end_of(executor, ref)
        self.assertEqual(status.state, RunState.CANCELLED)
        (self.folder / "wait").unlink()
        await executor.close()
        self.assertFalse((self.folder / "job-stopped.events.jsonl.ran").exists())


class StormTest(ShardsOnCluster):
    """Daemons are killed while jobs are submitted: nothing is lost, nothing runs twice."""

    async def test_daemons_die_in_the_middle_of_a_submission(self):
        specs = [JobSpec(f"job{number}", "a name", "{}") for number in range(30)]
        executor = self.make(timeout=5)
        self.addAsyncCleanup(executor.close)
        storm = asyncio.create_task(self.storm())
        refs: dict[str, str] = {}
        async with asyncio.timeout(300):
            while len(refs) < len(specs):
                left = [spec for spec in specs if spec.job_id not in refs]
                with contextlib.suppress(ExecutorError):
                    found = await executor.start(left)
                    self.assertEqual([o.error for o in found if not o.ref and not o.again], [])
                    refs |= {one.job_id: one.ref for one in found if one.ref}
                await asyncio.sleep(0.1)
            await storm
            await executor.statuses(list(refs.values()))  # all at once, as the service asks
            ends = [await self.end_of(executor, ref, mends=True) for ref in refs.values()]
        self.assertEqual([end for end in ends if end.state is not RunState.COMPLETED], [])
        ran = {path.name: path.read_text() for path in self.folder.glob("*.ran")}
        self.assertEqual({name for name, text in ran.items() if text != "ran\n"}, set(), "twice")
        whole = {f"{spec.job_id}.events.jsonl.ran" for spec in specs}
        self.assertEqual(whole - ran.keys(), set(), "these did not run")
        shards = len(ran) - len(whole)  # where an array was lost unseen, the last job does it all
        self.assertGreater(shards, 30)

    async def storm(self) -> None:
        """Kill daemons at moments that nobody chose."""
        chance = random.Random(20260102)
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            name = chance.choice(["slurmrestd", "slurmctld"])
            await asyncio.to_thread(self.cluster.restart, name)


class NextOnceTest(Next, OnceTest):
    """Each once, on the newer generation of Slurm."""


class NextServiceInShardsTest(Next, ServiceInShardsTest):
    """The main path there."""
