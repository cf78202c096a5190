"""Slurm reports success for jobs of which no line ran, on a real node that cannot run any."""

import json
import os
import re
import subprocess
import uuid
from unittest.mock import patch

import httpx

from aind_data_transfer_service.jobs.completion_evidence import Patience
from tests.integration.test_slurm_service import ENDED, ClusterTest
from tests.support import seaweedfs, slurm, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service

_PRIVATE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_INIT = ("sh", "-c", '"$@"; exit', "-")
"""The first process of a PID namespace, which has to wait for orphans: slurmd does not."""
SCRIPT = "#!/bin/bash\necho done\n"
QUEUED_AGAIN = """#!/bin/bash
cd "$(dirname "$UPLOAD_EVENTS_FILE")"
touch "$JOB_ID.begun"
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || exec sleep 600
rm -f "$JOB_ID.end.$SLURM_JOB_ID"  # of a first run that was killed as it wrote
mkdir "$JOB_ID.end.$SLURM_JOB_ID"
"""
"""Its first run waits to be queued again; the second cannot leave a record of its end."""


class FragileCluster(slurm.SlurmCluster):
    """A cluster whose node may lose a plugin, so that slurmstepd ends before it starts the job.

    A slurmstepd that is told to end a job which it has not begun may take all processes for that
    job. So the node has a PID namespace of its own, and signals process groups alone.
    """

    def _inside(self, command, user="root"):
        inside = super()._inside(command, user)
        return [*_PRIVATE, *_INIT, *inside] if "/usr/sbin/slurmd" in command else inside

    def set_broken(self, is_broken: bool) -> None:
        """Hide a plugin that slurmd has loaded already from slurmstepd, or show it again."""
        config = self.run("scontrol", "show", "config")
        plugin = re.search(r"^PluginDir\s*=\s*(\S+)", config, re.MULTILINE)[1] + "/task_none.so"
        change = ["mount", "--bind", "/dev/null", plugin] if is_broken else ["umount", plugin]
        node = self._processes["slurmd"].pid
        pids = f"--pid=/proc/{node}/ns/pid_for_children"
        subprocess.run(["nsenter", f"--target={node}", "--mount", pids, *change], check=True)

    def resume(self) -> None:
        """Put the node back into service: Slurm drains one that failed to run a job."""
        if "drain" in self.run("sinfo", "-h", "-o", "%T"):
            self.run("scontrol", "update", f"nodename={self.node}", "state=resume")


class BrokenNodeTest(ClusterTest):
    """Service, slurmrestd, slurmctld, and a slurmd that cannot start a job's first process."""

    options = {"cpus": 4, "extra": "ProctrackType=proctrack/pgid"}
    shards = 1

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(FragileCluster, **cls.options)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        super().setUp()
        bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.source = self.folder / "Behavior"
        self.source.mkdir()
        (self.source / "a.bin").write_bytes(os.urandom(50_000))
        variables = {
            **self.variables(),
            "HPC_SHARDS": str(self.shards),
            **self.s3.cluster_env,
        }
        self.enterContext(patch.dict(os.environ, variables))
        service = Service(
            default_s3_bucket=bucket, source_roots=[self.folder], patience=Patience(files=0.5)
        )
        self.enterContext(service)
        client = httpx.Client(base_url=service.url, trust_env=False, timeout=60)
        self.api = self.enterContext(client)

    def submit(self, script: str = "") -> str:
        """Submit the session or a script, and give the job's id."""
        request = {
            "upload_job_settings": "{}" if script else upload_settings(self.source),
            "hpc_settings": json.dumps({"name": "script"} if script else {}),
            "script": script,
        }
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})
        self.assertEqual(200, answer.status_code, answer.text)
        return answer.json()["data"]["responses"][0]["job_id"]

    def until(self, job_id: str, what: str, test) -> dict:
        """Wait until a job is as it should be."""

        def found() -> dict | None:
            job = self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]
            return job if test(job) else None

        return wait_until(found, 60, f"{what}: {job_id}")

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""
        return self.until(job_id, "its end", lambda job: job["state"] in ENDED)

    def slurm_state(self, job: dict) -> str:
        """Ask Slurm itself how it saw the job end."""
        number = job["executor_ref"].partition(":")[0]
        shown = self.cluster.run("scontrol", "-o", "show", "job", number)
        return " ".join(word for word in shown.split() if word.startswith(("JobState", "ExitCode")))

    def assert_left_no_sign(self, job: dict) -> None:
        """See that a job failed which Slurm takes for a success."""
        self.assertEqual("JobState=COMPLETED ExitCode=0:0", self.slurm_state(job))
        reason = (
            "Slurm reports success, but the job left no sign of having run on "
            f"{self.cluster.node}: check slurmd there"
        )
        self.assertEqual(("FAILED", reason, None), (job["state"], job["reason"], job["exit_code"]))
        self.assertIn(reason, self.api.get(f"/jobs/{job['id']}").text)


class NoSignTest(BrokenNodeTest):
    """Jobs in one piece."""

    def test_jobs_of_which_no_line_ran_have_failed(self):
        self.assertEqual("COMPLETED", self.end_of(self.submit(SCRIPT))["state"])
        self.cluster.set_broken(True)
        try:
            for script in ("", SCRIPT):
                with self.subTest(script):
                    self.cluster.resume()
                    self.assert_left_no_sign(self.end_of(self.submit(script)))
        finally:
            self.cluster.set_broken(False)
        self.cluster.resume()
        job = self.end_of(self.submit())
        self.assertEqual(("COMPLETED", "", 0), (job["state"], job["reason"], job["exit_code"]))

    def test_the_first_job_on_a_broken_node_fails_by_what_the_store_says(self):
        self.cluster.set_broken(True)
        try:
            job = self.end_of(self.submit())
        finally:
            self.cluster.set_broken(False)
            self.cluster.resume()
        self.assertEqual("JobState=COMPLETED ExitCode=0:0", self.slurm_state(job))
        self.assertEqual("FAILED", job["state"])
        self.assertIn(f"cannot read the job's files in {self.folder}", job["reason"])
        self.assertIn("has no manifest of this job", job["reason"])

    def test_a_script_that_was_queued_again_and_could_not_record_its_end_is_completed(self):
        job_id = self.submit(QUEUED_AGAIN)
        wait_until((self.folder / f"{job_id}.begun").exists, 30, "its first run")
        job = self.until(job_id, "its number", lambda job: job["executor_ref"])
        number = job["executor_ref"].partition(":")[0]
        self.cluster.run("scontrol", "requeue", number)
        self.until(job_id, "the queue", lambda job: "put back into the queue" in job["reason"])
        # slurmd refuses to launch a job in the second in which it was killed
        self.cluster.run("scontrol", "update", f"jobid={number}", "starttime=now+2")
        job = self.end_of(job_id)
        self.assertEqual("COMPLETED", job["state"], job["reason"])
        self.assertIn("left no record of its end", job["reason"])


class ShardsTest(BrokenNodeTest):
    """An asset in shards."""

    shards = 2

    def test_shards_of_which_no_line_ran_are_not_done_and_the_last_job_sends_them(self):
        before = self.end_of(self.submit(SCRIPT))
        self.assertEqual("COMPLETED", before["state"])
        self.cluster.set_broken(True)
        try:
            job_id = self.submit()
            words = f"no sign of having run on {self.cluster.node}"
            job = self.until(job_id, "a shard without a sign", lambda job: words in job["reason"])
            self.assertIn("0 of 2 shards done", job["reason"])
        finally:
            self.cluster.set_broken(False)
        self.cluster.resume()
        job = self.end_of(job_id)
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        events = self.api.get(f"/api/jobs/{job_id}").json()["data"]["events"]
        self.assertIn("shards did not end well", " ".join(event["message"] for event in events))
