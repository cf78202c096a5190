"""Jobs on a real Slurm cluster: slurmctld, slurmd and slurmrestd on loopback."""

import asyncio
import html
import json
import os
import random
import re
import shlex
import shutil
import tempfile
import unittest
import uuid
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import httpx

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import parameters, seaweedfs, slims, slurm, slurm_next, wait_until
from tests.support.executor_contract import ExecutorContract, a_script
from tests.support.https import ca_file
from tests.support.requests import upload_settings
from tests.support.service import Service

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "UNKNOWN")


class ClusterTest(unittest.IsolatedAsyncioTestCase):
    """A cluster of one node that runs one job at once, shared by the tests of a class."""

    cluster: slurm.SlurmCluster
    options: dict = {"cpus": 1}

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = cls.start_cluster()
        cls.addClassCleanup(cls.cluster.stop)

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(**cls.options)

    def setUp(self) -> None:
        prefix = "logs of O'Brien 100% "
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.cluster.folder))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)  # a cancelled job may write

    def variables(self, **changes: str) -> dict[str, str]:
        """Return the variables of a service that uses the cluster."""
        return {
            "HPC_HOST": "127.0.0.1",
            "HPC_PORT": str(self.cluster.port),
            "HPC_USERNAME": self.cluster.username,
            "HPC_TOKEN": self.cluster.token(),
            "HPC_PARTITION": self.cluster.partition,
            "HPC_CURRENT_WORKING_DIRECTORY": str(self.folder),
            "HPC_LOGGING_DIRECTORY": str(self.folder),
            "HPC_PYTHON": self.cluster.python,
        } | changes

    def hpc(self, **values) -> HpcSettings:
        """Make the settings of a service that uses the cluster."""
        defaults = {
            "host": "127.0.0.1",
            "port": self.cluster.port,
            "username": self.cluster.username,
            "token": self.cluster.token(),
            "partition": self.cluster.partition,
            "current_working_directory": str(self.folder),
            "logging_directory": str(self.folder),
            "python": self.cluster.python,
        }
        return HpcSettings(**(defaults | values))

    def make(self, **values) -> SlurmExecutor:
        """Make an executor for the cluster."""
        hpc = self.hpc(**values)
        return SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5)


class SlurmContractTest(ExecutorContract, ClusterTest):
    """What every executor has to do."""

    patience = 120.0

    async def asyncSetUp(self):
        self.executor = self.make()
        await self.executor.open()
        self.addAsyncCleanup(self.executor.close)


class Next(ClusterTest):
    """A cluster of the newer generation of Slurm."""

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up."""
        return slurm.start(root=slurm_next.provide(), **cls.options)


class NextContractTest(Next, SlurmContractTest):
    """What every executor has to do, there."""


class OnService(ClusterTest):
    """A service on a cluster, with a bucket."""

    options = {"cpus": 4}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)
        cls.parameters = parameters.start({"/param/store/name": {"UPLOAD_CONNECTIONS": 5}})
        cls.addClassCleanup(cls.parameters.stop)

    def setUp(self) -> None:
        """Start a service as the variables of its environment say."""
        super().setUp()
        self.bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.source = self.folder / "Behavior"
        self.source.mkdir()
        for number in range(30):
            (self.source / f"lick's $(id) {number}.bin").write_bytes(os.urandom(50_000))
        variables = {
            "HPC_HOST": "127.0.0.1",
            "HPC_PORT": str(self.cluster.port),
            "HPC_USERNAME": self.cluster.username,
            "HPC_PASSWORD": "password",
            "HPC_TOKEN_COMMAND": self.cluster.token_command(),
            "HPC_PARTITION": self.cluster.partition,
            "HPC_CURRENT_WORKING_DIRECTORY": str(self.folder),
            "HPC_LOGGING_DIRECTORY": str(self.logs),
            "HPC_PYTHON": self.cluster.python,
            **self.s3.cluster_env,
            "HPC_STAGING_DIRECTORY": "/hpc/staging_dir",
            "HPC_AWS_PARAM_STORE_NAME": "/param/store/name",
            "HPC_MINIMUM_CPUS_PER_NODE": "1",
            "HPC_MEMORY_PER_CPU": "500",
            "HPC_NODES": "[1,1]",
            "HPC_TASKS": "1",
            "HPC_TIME_LIMIT": "360",
            "HPC_JOB_DEFAULTS": json.dumps(
                {"time_limit": 360, "nice": 7, "comment": "from rig 3", "requeue": False}
            ),
            "AWS_ENDPOINT_URL_SSM": self.parameters.url,
            **self.sources_of_metadata(),
            "SLURM_CONF": str(self.cluster.conf),
        }
        self.enterContext(patch.dict(os.environ, variables))
        self.service = self.enterContext(
            Service(default_s3_bucket=self.bucket, source_roots=[self.folder])
        )
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def sources_of_metadata(self) -> dict[str, str]:
        """Have a SLIMS that knows a rig, and a folder that knows the subject and the session."""
        server = self.enterContext(slims.SlimsServer())
        server.has("rig 1", ("rig.json", {"rig_id": "rig 1"}))
        self.metadata = self.folder / "Metadata"
        known = {
            self.folder / "lab" / "subject" / "690165.json": {"subject_id": "690165"},
            self.metadata / "session.json": {"subject_id": "690165", "rig_id": "rig 1"},
        }
        for path, document in known.items():
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(document), encoding="utf-8")
        return {
            "METADATA_FOLDER": str(self.folder / "lab"),
            "METADATA_SOURCES": '{"procedures": {"if_missing": "ignore"}, "rig": "slims"}',
            "SLIMS_HOST": f"{server.url}/slimsrest",
            "SLIMS_USERNAME": slims.USER,
            "SLIMS_PASSWORD": slims.PASSWORD,
            "CA_FILE": str(ca_file()),
        }

    def submit(self, *requests: dict) -> list[dict]:
        """Submit jobs and give the answers, one each."""
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": list(requests)})
        self.assertEqual((200, "Submitted Jobs."), (answer.status_code, answer.json()["message"]))
        return answer.json()["data"]["responses"]

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""
        return wait_until(
            lambda: job if (job := self.job(job_id))["state"] in ENDED else None, 60, "its end"
        )

    def request(self, script: str = "", hpc_settings: dict | None = None, **changes) -> dict:
        """Write one job as the API takes it."""
        return {
            "upload_job_settings": "{}" if script else upload_settings(self.source, **changes),
            "hpc_settings": json.dumps(hpc_settings or {}),
            "script": script,
        }


class Session:
    """The whole main path: HTTP, service, slurmrestd, node, bucket, verified asset."""

    def test_a_session_becomes_a_verified_asset(self):
        mail = {"mail_user": "anna@example.org", "mail_type": ["END", "FAIL"]}
        asked = {"processor_full_name": "Ann O'Brien", "metadata_dir": str(self.metadata)}
        [answer] = self.submit(self.request(hpc_settings=mail, **asked))
        shown = self.cluster.run("scontrol", "show", "job", str(answer["slurm_job_id"]))
        job = self.end_of(answer["job_id"])
        self.assertEqual(("COMPLETED", "", 0), (job["state"], job["reason"], job["exit_code"]))
        asset = "behavior_690165_2024-02-19_11-25-17"
        self.assertEqual(f"s3://{self.bucket}/{asset}", job["location"])
        for path in self.source.iterdir():
            key = f"{asset}/behavior/{path.name}"
            stored = self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self.assertEqual(path.read_bytes(), stored)
        self.s3.client.head_object(Bucket=self.bucket, Key=f".transfer/{asset}/manifest.jsonl")
        for name, document in (("subject", {"subject_id": "690165"}), ("rig", {"rig_id": "rig 1"})):
            key = f"{asset}/{name}.json"
            stored = self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self.assertEqual(document, json.loads(stored))
        self.assertEqual(job["files_done"], job["files_total"])
        page = self.api.get("/jobs").text
        self.assertIn("COMPLETED", page)
        self.assertIn(asset, page)
        log = self.api.get(f"/api/jobs/{job['id']}/log?stream=stderr").json()["data"]["text"]
        self.assertIn("verif", log)
        self.assertIn("settings from /param/store/name: UPLOAD_CONNECTIONS", log)
        self.assertIn("session.json is not valid", log)
        self.assertNotIn("no procedures.json", log, "METADATA_SOURCES reaches the job")
        for line in (f"JobName={asset}", "TimeLimit=06:00:00", "MailUser=anna@example.org"):
            self.assertIn(line, shown)
        for secret in (self.s3.env["AWS_SECRET_ACCESS_KEY"], slims.PASSWORD):
            self.assertNotIn(secret, shown)
        again = self.api.post("/api/submit_hpc_jobs", json={"jobs": [self.request()]})
        self.assertEqual(406, again.status_code, "the service looks with the keys of the jobs")
        self.assertIn("exists already", again.json()["data"]["errors"][0])
        self.assert_keys_are_nowhere()

    def assert_keys_are_nowhere(self) -> None:
        """Search every file of the service and of the cluster's logs."""
        secrets = (self.s3.env["AWS_SECRET_ACCESS_KEY"].encode(), slims.PASSWORD.encode())
        files = [*self.service.data_dir.rglob("*"), *self.folder.rglob("*")]
        for path in [*files, *self.cluster.folder.glob("*.log")]:
            if path.is_file():
                for secret in secrets:
                    self.assertNotIn(secret, path.read_bytes(), path)


class ServiceTest(Session, OnService):
    """A service, and what users ask of it."""

    inexpressible = "cpu_binding"
    """What the newest API version of this generation of Slurm cannot express."""

    def test_a_job_gets_the_defaults_of_the_site_unless_it_says_otherwise(self):
        script = "#!/bin/bash\ntrue\n"
        own = {"name": "own", "hold": True, "nice": 3, "time_limit": 90, "comment": "mine"}
        usual, changed = self.submit(
            self.request(script, {"name": "usual", "hold": True}), self.request(script, own)
        )
        for answer, lines in (
            (usual, ("TimeLimit=06:00:00", "Nice=7", f":{usual['job_id']} from rig 3")),
            (changed, ("TimeLimit=01:30:00", "Nice=3", f":{changed['job_id']} mine")),
        ):
            number = str(answer["slurm_job_id"])
            shown = self.cluster.run("scontrol", "show", "job", number)
            for line in (*lines, "Requeue=0", "MinMemoryCPU=500M", "NumNodes=1"):
                self.assertIn(line, shown)
            self.cluster.run("scontrol", "release", number)
            self.assertEqual("COMPLETED", self.end_of(answer["job_id"])["state"])

    def test_jobs_that_others_started_are_listed_as_such_and_not_kept(self):
        wrap = ["--wrap", "sleep 100", "--output", "/dev/null", "--job-name", "an O'Brien <b>"]
        number = int(self.cluster.run("sbatch", "--parsable", *wrap))

        def other(state: str) -> dict | None:
            data = self.api.get("/api/jobs").json()["data"]
            self.assertEqual((0, []), (data["total"], data["jobs"]))
            jobs = [job for job in data["others"]["jobs"] if job["number"] == number]
            return jobs[0] if jobs and jobs[0]["state"] == state else None

        job = wait_until(lambda: other("RUNNING"), 30, "it to be listed")
        self.assertEqual(("an O'Brien <b>", self.cluster.node), (job["name"], job["node"]))
        page = self.api.get("/jobs").text
        self.assertIn("an O&#39;Brien &lt;b&gt;", page)
        self.cluster.run("scancel", str(number))
        job = wait_until(lambda: other("CANCELLED"), 30, "its end")
        self.assertIn("cancelled on the cluster", job["reason"])

    def test_a_job_without_its_folders_fails_and_names_them(self):
        gone = self.folder / "gone"
        gone.mkdir()
        source = {"modality": {"abbreviation": "behavior"}, "source": str(gone)}
        request = self.request(hpc_settings={"hold": True}, modalities=[source])
        [answer] = self.submit(request)
        gone.rmdir()
        number = self.job(answer["job_id"])["executor_ref"].partition(":")[0]
        self.cluster.run("scontrol", "release", number)
        job = self.end_of(answer["job_id"])
        self.assertEqual(("FAILED", 10), (job["state"], job["exit_code"]))
        self.assertIn(str(gone), job["reason"])

    def test_what_the_cluster_may_not_be_asked_is_told_before_anything_is_sent(self):
        wrong = {"tme_limit": 5, "environment": {"A": "b"}, "standard_out": "/etc/x", "tasks": "x"}
        body = {"jobs": [self.request(hpc_settings=wrong)]}
        answer = self.api.post("/api/submit_hpc_jobs", json=body)
        self.assertEqual(406, answer.status_code)
        errors = "\n".join(answer.json()["data"]["errors"])
        for words in ("did you mean time_limit", "environment", "standard_out", "tasks"):
            self.assertIn(words, errors)

    def test_what_this_cluster_cannot_run_is_refused_for_all_jobs_before_any_is_sent(self):
        sent = self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i")
        good = [self.request("#!/bin/bash\n", {"name": f"good {n}"}) for n in range(49)]
        wrong = {"name": "wrong", "partition": "nowhere", self.inexpressible: 1}
        body = {"jobs": [*good, self.request("#!/bin/bash\n", wrong)]}
        answer = self.api.post("/api/submit_hpc_jobs", json=body)
        self.assertEqual(406, answer.status_code)
        errors = answer.json()["data"]["errors"]
        self.assertEqual(2, len(errors), errors)
        self.assertRegex("\n".join(errors), f"job 50, hpc_settings.{self.inexpressible}: .*v0.0.")
        listed = f'job 50, hpc_settings.partition: "nowhere" .* use one of {self.cluster.partition}'
        self.assertRegex("\n".join(errors), listed)
        self.assertEqual(0, self.api.get("/api/jobs").json()["data"]["total"])
        self.assertEqual(sent, self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i"))

    def test_a_job_that_is_cancelled_while_the_cluster_is_away_never_runs(self):
        self.cluster.kill("slurmrestd")
        try:
            script = f"#!/bin/bash\ntouch {shlex.quote(str(self.folder / 'ran'))}\n"
            body = {"jobs": [self.request(script, {"name": "unsent"})]}
            answer = self.api.post("/api/submit_hpc_jobs", json=body)
            [response] = answer.json()["data"]["responses"]
            path = f"/api/jobs/{response['job_id']}"
            cancelled = self.api.post(f"{path}/cancel")
            self.assertEqual(200, cancelled.status_code, cancelled.text)
            self.assertEqual("CANCELLED", cancelled.json()["data"]["job"]["state"])
            again = self.api.post("/api/submit_hpc_jobs", json={"jobs": [self.request()]})
            [response] = again.json()["data"]["responses"]
        finally:
            self.cluster.start_daemon("slurmrestd")
        self.assertEqual("COMPLETED", self.end_of(response["job_id"])["state"])
        self.assertFalse((self.folder / "ran").exists())
        self.assertNotIn("unsent", self.cluster.run("scontrol", "show", "jobs"))

    def test_a_refusal_of_slurms_is_told_in_its_words(self):
        body = {"jobs": [self.request(hpc_settings={"reservation": "nowhere"})]}
        answer = self.api.post("/api/submit_hpc_jobs", json=body)
        self.assertEqual(500, answer.status_code)
        self.assertIn("reservation is invalid", answer.json()["data"]["errors"][0])
        [response] = answer.json()["data"]["responses"]
        self.assertEqual("FAILED", response["state"])
        self.assertTrue(response["errors"])

    def test_a_waiting_job_says_why_and_is_cancelled(self):
        script = "#!/bin/bash\necho never\n"
        held = {"name": "held", "hold": True}
        [answer] = self.submit(self.request(script, held))
        job = wait_until(
            lambda: job if (job := self.job(answer["job_id"]))["reason"] else None, 20, "a reason"
        )
        self.assertEqual("PENDING", job["state"])
        self.assertIn("is held by", job["reason"])
        self.assertEqual(200, self.api.post(f"/api/jobs/{job['id']}/cancel").status_code)
        self.assertEqual("CANCELLED", self.end_of(job["id"])["state"])

    def until_reason(self, job_id: str, words: str) -> dict:
        """Wait until a pending job has a reason, and return the job."""
        job: dict = {}

        def is_so() -> bool:
            job.update(self.job(job_id))
            return job["state"] == "PENDING" and re.search(words, job["reason"]) is not None

        try:
            wait_until(is_so, 30, words)
        except AssertionError as error:
            raise AssertionError(f"{error}: {job['state']}, {job['reason']}") from None
        return job

    def test_a_pending_job_says_whether_it_starts_by_itself_and_what_to_do(self):
        script = "#!/bin/bash\necho done\n"
        part, node = f"PartitionName={self.cluster.partition}", f"NodeName={self.cluster.node}"
        self.cluster.run("scontrol", "update", node, "State=DRAIN", "Reason=disk")
        try:
            held, drained, late = self.submit(
                self.request(script, {"name": "held", "hold": True}),
                self.request(script, {"name": "drained", "time_limit": 5}),
                self.request(script, {"name": "late", "time_limit": 60}),
            )
            self.cluster.run("scontrol", "update", part, "MaxTime=10")
            for answer, words, own in (
                (held, "starts only after the jobs' user or a cluster", "JobHeldUser"),
                (
                    drained,
                    "drained.* cluster administrator",
                    "(Nodes required for|ReqNodeNotAvail)",
                ),
                (late, "submit it again with a shorter time_limit", "PartitionTimeLimit"),
            ):
                with self.subTest(own):
                    job = self.until_reason(answer["job_id"], words)
                    self.assertRegex(job["reason"], f"; Slurm: {own}")
                    page = html.unescape(self.api.get(f"/jobs/{job['id']}").text)
                    self.assertRegex(page, words)
        finally:
            self.cluster.run("scontrol", "update", node, "State=RESUME")
            self.cluster.run("scontrol", "update", part, "MaxTime=INFINITE")
        self.cluster.run("scontrol", "release", str(held["slurm_job_id"]))
        for answer in (held, drained, late):
            self.assertEqual("COMPLETED", self.end_of(answer["job_id"])["state"])

    def test_a_cluster_that_is_away_keeps_jobs_for_later(self):
        self.cluster.kill("slurmrestd")
        try:
            body = {"jobs": [self.request()]}
            answer = self.api.post("/api/submit_hpc_jobs", json=body)
            self.assertEqual(200, answer.status_code)
            [warning] = answer.json()["data"]["warnings"]
            self.assertRegex(
                warning, "(are saved and start|is saved and starts) once this is resolved"
            )
            [response] = answer.json()["data"]["responses"]
            self.assertEqual("SUBMITTED", response["state"])
            self.assertEqual(503, self.api.get("/healthz").status_code)
        finally:
            self.cluster.start_daemon("slurmrestd")
        self.assertEqual("COMPLETED", self.end_of(response["job_id"])["state"])
        self.assertEqual(200, self.api.get("/healthz").status_code)


class EndsTest(ClusterTest):
    """How jobs end that do not end by themselves, and what is left of those that Slurm forgot."""

    options = {"cpus": 2, "min_job_age": 2}

    async def asyncSetUp(self):
        self.executor = self.make()
        self.addAsyncCleanup(self.executor.close)

    async def begin(self, *lines: str, **settings) -> str:
        """Start a script and give its reference."""
        [started] = await self.executor.start([a_script(*lines, settings=settings)])
        self.assertIsNone(started.error)
        return started.ref

    async def until(self, ref: str, *states: RunState, seconds: float = 120.0, reason: str = ""):
        """Wait until a job is in one of the states, for a reason."""
        async with asyncio.timeout(seconds):
            while True:
                status = (await self.executor.statuses([ref]))[ref]
                if status.state in states and reason in status.reason:
                    return status
                await asyncio.sleep(0.05)

    def number(self, ref: str) -> str:
        """Slurm's own number of a job."""
        return ref.split(":")[0]

    async def test_a_forgotten_job_keeps_its_end(self):
        good = await self.begin("echo said")
        bad = await self.begin("exit 17")
        killed = await self.begin("kill -9 $PPID; sleep 1")
        stopped = await self.begin("touch begun; sleep 60")
        wait_until((self.folder / "begun").exists, 120, "the job to begin")
        await self.executor.cancel(stopped)
        late = await self.begin("touch late; sleep 100", time_limit=9)
        deaf = await self.begin("trap '' TERM; touch deaf; sleep 100; sleep 100", time_limit=9)
        for name, ref in (("late", late), ("deaf", deaf)):
            wait_until((self.folder / name).exists, 120, "the job to begin")
            self.cluster.run("scontrol", "update", f"JobId={self.number(ref)}", "EndTime=now+2")
        refs = [good, bad, killed, stopped, late, deaf]
        for ref in refs:
            wait_until(lambda: not self.is_listed(ref), 150, "Slurm to forget it")
        executor = self.make()  # of a service that was away meanwhile
        self.addAsyncCleanup(executor.close)
        found = await executor.statuses(refs)
        self.assertEqual(found[good].state, RunState.COMPLETED)
        self.assertEqual((found[bad].state, found[bad].exit_code), (RunState.FAILED, 17))
        self.assertEqual(found[killed].state, RunState.FAILED)
        self.assertIn("killed (SIGKILL)", found[killed].reason)
        self.assertEqual((found[stopped].state, found[stopped].reason), (RunState.CANCELLED, ""))
        for ref in (late, deaf):
            self.assertEqual(found[ref].state, RunState.TIMEOUT)
            self.assertIn("stopped at its time limit", found[ref].reason)
        self.assertEqual((await executor.read(good, "stdout", 0, 99)).data, b"said\n")
        (self.folder / f"{good.split(':')[1]}.claim").unlink()
        (self.folder / f"{good.split(':')[1]}.end").unlink()
        lost = (await executor.statuses([good]))[good]
        self.assertEqual(lost.state, RunState.LOST)
        self.assertIn("never began", lost.reason)

    def is_listed(self, ref: str) -> bool:
        """Ask Slurm itself."""
        return f"JobId={self.number(ref)} " in self.cluster.run("scontrol", "-o", "show", "jobs")

    async def test_a_job_that_is_cancelled_on_the_cluster_says_so(self):
        ref = await self.begin("sleep 60")
        await self.until(ref, RunState.RUNNING)
        self.cluster.run("scancel", self.number(ref))
        status = await self.until(ref, RunState.CANCELLED)
        self.assertIn("cancelled on the cluster", status.reason)

    async def test_a_job_that_is_queued_again_runs_again_and_says_so(self):
        ref = await self.begin("echo run", "touch begun", "[ -e go ] || sleep 60", requeue=True)
        wait_until((self.folder / "begun").exists, 120, "the job to begin")
        self.cluster.run("scontrol", "requeuehold", self.number(ref))
        await self.until(ref, RunState.PENDING, reason="back into the queue")
        (self.folder / "go").touch()
        self.cluster.run("scontrol", "release", self.number(ref))
        self.start_now(ref)
        await self.until(ref, RunState.COMPLETED)
        said = await self.executor.read(ref, "stdout", 0, 99)
        self.assertEqual(said.data.count(b"run\n"), 2)

    async def test_a_job_that_can_never_start_says_why(self):
        first = await self.begin("exit 1")
        await self.until(first, RunState.FAILED)
        ref = await self.begin("exit 0", dependency=f"afterok:{self.number(first)}")
        await self.until(ref, RunState.PENDING, reason="can never start")
        await self.executor.cancel(ref)

    async def test_a_job_that_reaches_its_time_limit_says_so(self):
        lines = ("trap 'echo asked' TERM", "echo ready", "sleep 100 & wait; wait")
        ref = await self.begin(*lines, time_limit=9)
        await self.wait_for_output(ref, b"ready\n")
        self.cluster.run("scontrol", "update", f"JobId={self.number(ref)}", "EndTime=now+2")
        status = await self.until(ref, RunState.TIMEOUT, seconds=60)
        self.assertIn("stopped at its time limit", status.reason)
        await self.wait_for_output(ref, b"asked\n")  # the state changes before the node is told

    async def wait_for_output(self, ref: str, text: bytes) -> None:
        """Wait until a job has written a text."""
        async with asyncio.timeout(60):
            while text not in (await self.executor.read(ref, "stdout", 0, 99)).data:
                await asyncio.sleep(0.05)

    def start_now(self, ref: str) -> None:
        """Spare a job that was put back into the queue most of the two minutes that it has to wait.

        Not all: a node starts no job that it was told to end in the same second or a later one.
        """
        self.cluster.run("scontrol", "update", f"JobId={self.number(ref)}", "StartTime=now+2")

    async def test_a_node_that_goes_down_puts_its_job_back_into_the_queue(self):
        ref = await self.begin("[ -e go ] || sleep 60")
        await self.until(ref, RunState.RUNNING)
        node = ("scontrol", "update", f"NodeName={self.cluster.node}")
        self.cluster.run(*node, "State=DOWN", "Reason=test")
        await self.until(ref, RunState.PENDING, reason="back into the queue")
        (self.folder / "go").touch()
        await asyncio.to_thread(self.cluster.wait_for_node, "idle")
        self.start_now(ref)
        await self.until(ref, RunState.COMPLETED)

    async def test_a_job_that_may_not_be_queued_again_fails_with_its_node(self):
        ref = await self.begin("sleep 60", requeue=False)
        await self.until(ref, RunState.RUNNING)
        node = ("scontrol", "update", f"NodeName={self.cluster.node}")
        self.cluster.run(*node, "State=DOWN", "Reason=test")
        status = await self.until(ref, RunState.FAILED)
        self.assertIn(f"the node failed ({self.cluster.node})", status.reason)
        self.assertTrue(status.decisive)
        await asyncio.to_thread(self.cluster.wait_for_node, "idle")

    async def test_a_job_that_waits_for_a_drained_node_says_so(self):
        node = ("scontrol", "update", f"NodeName={self.cluster.node}")
        self.cluster.run(*node, "State=DRAIN", "Reason=test")
        try:
            ref = await self.begin("exit 0")
            await self.until(ref, RunState.PENDING, reason="drained")
        finally:
            self.cluster.run(*node, "State=RESUME")
        await self.until(ref, RunState.COMPLETED)

    async def test_a_token_that_runs_out_is_replaced(self):
        tokens = self.folder / "token"
        tokens.write_text(self.cluster.token(lifespan=2))
        executor = self.make(token=None, token_file=tokens)
        self.addAsyncCleanup(executor.close)
        [first] = await executor.start([a_script("exit 0")])
        self.assertIsNone(first.error)
        await asyncio.sleep(3.5)  # the life of the token
        [second] = await executor.start([a_script("exit 0")])
        self.assertTrue(second.again)
        tokens.write_text(self.cluster.token())
        [third] = await executor.start([a_script("exit 0")])
        self.assertIsNone(third.error)


class NextServiceTest(Next, ServiceTest):
    """The main path on the newer generation."""

    inexpressible = "cores_per_socket"


class NextEndsTest(Next, EndsTest):
    """How jobs end there."""


class StormTest(ClusterTest):
    """Daemons are killed while jobs are submitted: nothing is lost, nothing runs twice."""

    options = {"cpus": 8}

    async def test_daemons_die_in_the_middle_of_a_submission(self):
        specs = [a_script(f'echo run >> "{index}.ran"') for index in range(200)]
        hpc = self.hpc(timeout=5)
        executor = SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5)
        self.addAsyncCleanup(executor.close)
        storm = asyncio.create_task(self.storm())
        refs: dict[str, str] = {}
        async with asyncio.timeout(120):
            while len(refs) < len(specs):
                left = [spec for spec in specs if spec.job_id not in refs]
                try:
                    found = await executor.start(left)
                except ExecutorError:
                    found = []
                self.assertEqual([one.error for one in found if not one.ref and not one.again], [])
                refs |= {one.job_id: one.ref for one in found if one.ref}
                await asyncio.sleep(0.1)
            await storm
            while True:
                await asyncio.to_thread(self.cluster.mend)
                statuses = await executor.statuses(list(refs.values()))
                states = Counter(status.state for status in statuses.values())
                if not states.keys() & {RunState.PENDING, RunState.RUNNING}:
                    break
                await asyncio.sleep(0.5)
        others = [one for one in statuses.values() if one.state is not RunState.COMPLETED]
        self.assertEqual(others, [])
        ran = {path.stem: path.read_text() for path in self.folder.glob("*.ran")}
        names = {str(index) for index in range(200)}
        self.assertEqual(names - ran.keys(), set(), "these did not run")
        self.assertEqual({name for name in ran if ran[name] != "run\n"}, set(), "these ran twice")

    async def storm(self) -> None:
        """Kill daemons at moments that nobody chose."""
        chance = random.Random(20260101)
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            name = chance.choice(["slurmrestd", "slurmctld"])
            await asyncio.to_thread(self.cluster.restart, name)


class NextStormTest(Next, StormTest):
    """The same on the newer generation."""
