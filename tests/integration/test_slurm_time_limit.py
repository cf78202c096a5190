"""Transfers that reach their time limit on a real Slurm cluster, and go on after it."""

import json
import os
import re
import uuid
from unittest.mock import patch

import httpx

from tests.integration.test_slurm_service import ENDED, ClusterTest, Next
from tests.support import seaweedfs, slurm, slurm_next, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service

MEBI = 1024**2
SIZE = 120 * MEBI


class TimeLimitTest(ClusterTest):
    """Service, slurmrestd, node and store, and a session of one large file."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up, with time for a job to end by itself."""
        return slurm.start(kill_wait=15, **cls.options)

    def setUp(self) -> None:
        super().setUp()
        self.bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.source = self.folder / "Behavior"
        self.source.mkdir()
        (self.source / "large.bin").write_bytes(os.urandom(SIZE))
        variables = {
            **self.variables(),
            **self.s3.cluster_env,
        }
        self.enterContext(patch.dict(os.environ, variables))
        self.service = self.enterContext(
            Service(default_s3_bucket=self.bucket, source_roots=[self.folder])
        )
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def begin(self, **hpc_settings) -> tuple[str, str]:
        """Start a slow transfer; return our id and Slurm's once some parts have arrived."""
        self.service.manager.executor._environment |= {
            "UPLOAD_BANDWIDTH": "1.5MB/s",
            "UPLOAD_CONNECTIONS": "2",
        }
        request = {
            "upload_job_settings": upload_settings(self.source),
            "hpc_settings": json.dumps(hpc_settings),
            "script": "",
        }
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})
        [response] = answer.json()["data"]["responses"]
        wait_until(lambda: len(self.parts()) >= 2, 60, "parts to arrive")
        return response["job_id"], self.job(response["job_id"])["executor_ref"].split(":")[0]

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""
        return wait_until(
            lambda: job if (job := self.job(job_id))["state"] in ENDED else None, 120, "its end"
        )

    def parts(self) -> dict[tuple[str, int], int]:
        """Return the sizes of the parts that have arrived of uploads that are not completed."""
        return {place: part["Size"] for place, part in self.s3.parts(self.bucket).items()}

    def go_on(self, job_id: str) -> None:
        """Submit the job again, and see that it completes the upload that was begun."""
        [upload] = {number for number, _ in self.parts()}
        self.service.manager.executor._environment["UPLOAD_BANDWIDTH"] = "1GB/s"
        again = self.api.post(f"/api/jobs/{job_id}/resubmit").json()["data"]["job"]["id"]
        seen = set()

        def completed() -> bool:
            seen.update(number for number, _ in self.parts())
            return not self.s3.uploads(self.bucket)

        wait_until(completed, 60, "the end of the upload")
        self.assertLessEqual(seen, {upload})
        job = self.end_of(again)
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        stored = self.s3.client.get_object(
            Bucket=self.bucket, Key=f"{job['name']}/behavior/large.bin"
        )
        self.assertEqual((self.source / "large.bin").read_bytes(), stored["Body"].read())

    def test_the_announced_limit_lets_parts_arrive_and_says_how_much_is_kept(self):
        job_id, _ = self.begin(time_limit=1)
        job = self.end_of(job_id)
        self.assertEqual(("TIMEOUT", 17), (job["state"], job["exit_code"]))
        said = re.fullmatch(
            r"stopped before its time limit: ([\d,]+) of 125,829,120 bytes are kept; "
            "submit again with a longer time limit",
            job["reason"],
        )
        self.assertIsNotNone(said, job["reason"])
        kept = sum(self.parts().values())
        self.assertEqual(kept, int(said[1].replace(",", "")))
        self.go_on(job_id)

    def test_at_a_limit_that_is_not_announced_parts_are_kept_too(self):
        job_id, number = self.begin(time_limit=60)
        self.cluster.run("scontrol", "update", f"JobId={number}", "EndTime=now+1")
        job = self.end_of(job_id)
        self.assertEqual("TIMEOUT", job["state"], job["reason"])
        self.assertTrue(self.parts())
        self.go_on(job_id)


class NextTimeLimitTest(Next, TimeLimitTest):
    """The same on the newer generation of Slurm."""

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up, with time for a job to end by itself."""
        return slurm.start(kill_wait=15, root=slurm_next.provide(), **cls.options)
