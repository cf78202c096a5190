"""Several transfers on one node of a real Slurm cluster that limits the memory of jobs."""

import asyncio
import os
import uuid
from unittest.mock import patch

import httpx

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from tests.integration.test_slurm_service import ENDED, ClusterTest
from tests.support import seaweedfs, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service

MEGABYTES = 3500
WAITING = """#!/bin/bash
touch "$DATA_DIR/runs.$JOB_ID"
while [ -e "$DATA_DIR/wait" ]; do sleep 0.1; done
exec "$REAL_PYTHON" "$@"
"""


class SeveralTransfersTest(ClusterTest):
    """A node with four CPUs whose memory is shared out, and kernel limits for each job."""

    options = {"cpus": 4, "memory": MEGABYTES, "limits_memory": True}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        super().setUp()
        self.python = self.folder / "python"
        head, _, rest = WAITING.partition("\n")
        self.python.write_text(f"{head}\nexport REAL_PYTHON={self.cluster.python}\n{rest}")
        self.python.chmod(0o755)
        (self.folder / "wait").touch()

    def running(self) -> int:
        """Count the jobs that run."""
        return len(list(self.folder.glob("runs.*")))

    def test_transfers_share_a_node_and_their_memory_is_enough(self) -> None:
        bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        jobs = []
        for subject in ("690165", "690166", "690167"):
            source = self.folder / subject
            source.mkdir()
            (source / "large.bin").write_bytes(os.urandom(100_000_000))
            for number in range(200):
                (source / f"{number}.bin").write_bytes(os.urandom(5000))
            settings = upload_settings(source, subject_id=subject)
            jobs.append({"upload_job_settings": settings, "hpc_settings": "{}", "script": ""})
        variables = {**self.variables(HPC_PYTHON=str(self.python)), **self.s3.cluster_env}
        self.enterContext(patch.dict(os.environ, variables))
        service = Service(default_s3_bucket=bucket, source_roots=[self.folder])
        self.enterContext(service)
        api = self.enterContext(httpx.Client(base_url=service.url, trust_env=False, timeout=60))
        answer = api.post("/api/submit_hpc_jobs", json={"jobs": jobs})
        self.assertEqual(200, answer.status_code, answer.text)
        ids = [one["job_id"] for one in answer.json()["data"]["responses"]]
        wait_until(lambda: self.running() == 3, 60, "three transfers at once")
        shown = self.cluster.run("squeue", "-h", "-t", "R", "-o", "%N %m").splitlines()
        self.assertEqual([f"{self.cluster.node} 1G"] * 3, shown)
        (self.folder / "wait").unlink()

        def job(job_id: str) -> dict:
            return api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

        for job_id in ids:
            wait_until(lambda: job(job_id)["state"] in ENDED, 120, "its end")
            self.assertEqual(("COMPLETED", ""), (job(job_id)["state"], job(job_id)["reason"]))

    async def test_without_a_request_for_memory_one_keeps_out_the_others(self) -> None:
        hpc = self.hpc(python=str(self.python), transfer_memory=0)
        executor = SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5)
        self.addAsyncCleanup(executor.close)
        specs = [JobSpec(f"job-{number}", "a name", "{}") for number in range(2)]
        self.assertEqual([None, None], [one.error for one in await executor.start(specs)])
        await asyncio.to_thread(wait_until, lambda: self.running() == 1, 60, "the first")

        def reasons() -> list[str]:
            return self.cluster.run("squeue", "-h", "-t", "PD", "-o", "%r").split()

        await asyncio.to_thread(wait_until, lambda: reasons() == ["Resources"], 60, "the other")
        self.assertEqual(1, self.running())
        (self.folder / "wait").unlink()
