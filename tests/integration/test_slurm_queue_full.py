"""A real Slurm that takes no more jobs for now, and answers that do not say what was done."""

import json
import os
import shlex
import shutil
import signal
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import httpx

from tests.integration.test_slurm_service import ClusterTest, Next
from tests.support import wait_until
from tests.support.executor_contract import a_script
from tests.support.service import Service
from tests.support.slurm_faults import FaultyServer, Reply

_JOBS = 20


class QueueFullTest(ClusterTest):
    """A cluster with room for a few jobs, and more of them."""

    options = {"cpus": 8, "extra": "MaxJobCount=8"}

    def setUp(self) -> None:
        super().setUp()
        self.data = Path(tempfile.mkdtemp(prefix="service-"))
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)
        variables = self.variables()
        self.enterContext(patch.dict(os.environ, variables))

    def service(self) -> Service:
        """Make a service; every one of them has the same record of jobs."""
        destination = str(self.folder / "destination")
        return Service(data_dir=self.data / "data", destination=destination)

    def jobs(self, service: Service) -> dict[str, dict]:
        """Ask the service for all jobs, by their names."""
        url = f"{service.url}/api/jobs?limit=100"
        found = httpx.get(url, trust_env=False, timeout=30).json()["data"]["jobs"]
        return {job["name"]: job for job in found}

    def request(self, name: str) -> dict:
        """Write a job that notes that it ran."""
        script = f"#!/bin/bash\necho run >> {shlex.quote(str(self.folder / name))}.ran\n"
        return {
            "upload_job_settings": "{}",
            "hpc_settings": json.dumps({"name": name}),
            "script": script,
        }

    def make_room(self) -> None:
        """Raise the limit, as an administrator does, once no job is about to start or end."""
        queue = ("squeue", "-h", "-o", "%i")
        wait_until(lambda: not self.cluster.run(*queue).strip(), 60, "an empty queue")
        text = self.cluster.conf.read_text()
        self.cluster.conf.write_text(text.replace("MaxJobCount=8\n", "MaxJobCount=1000\n"))
        self.cluster.restart("slurmctld", signal.SIGTERM)
        self.cluster.wait_for_node("idle")

    def test_jobs_wait_in_the_service_until_the_cluster_has_room(self):
        names = [f"job {number}" for number in range(_JOBS)]
        with self.service() as service:
            body = {"jobs": [self.request(name) for name in names]}
            url = f"{service.url}/api/submit_hpc_jobs"
            httpx.post(url, json=body, trust_env=False, timeout=60)
            jobs = self.jobs(service)
            states = Counter(job["state"] for job in jobs.values())
            self.assertEqual(0, states["FAILED"], jobs)
            waiting = [job for job in jobs.values() if job["state"] == "SUBMITTED"]
            self.assertGreater(len(waiting), _JOBS - 8)
            for job in waiting:
                self.assertIn("its queue is full (MaxJobCount)", job["reason"])
            cancelled = waiting[0]
            page = httpx.get(f"{service.url}/jobs/{cancelled['id']}", trust_env=False).text
            self.assertIn("its queue is full (MaxJobCount)", page)
            url = f"{service.url}/api/jobs/{cancelled['id']}/cancel"
            self.assertEqual(200, httpx.post(url, trust_env=False, timeout=30).status_code)
            wait_until(  # it may just be on its way to the cluster
                lambda: self.jobs(service)[cancelled["name"]]["state"] == "CANCELLED",
                60,
                "the cancellation",
            )
        self.make_room()
        with self.service() as service:
            wait_until(
                lambda: Counter(job["state"] for job in self.jobs(service).values())
                == {"COMPLETED": _JOBS - 1, "CANCELLED": 1},
                120,
                "the jobs' ends",
            )
        ran = {path.stem: path.read_text() for path in self.folder.glob("*.ran")}
        self.assertEqual({name: "run\n" for name in names if name != cancelled["name"]}, ran)


class NextQueueFullTest(Next, QueueFullTest):
    """The same on the newer generation of Slurm."""


class UnconfirmedTest(ClusterTest):
    """An answer of 200 with errors and no ID, in front of a real slurmrestd."""

    options = {"cpus": 4}
    api_versions = ("slurm/v0.0.36", "slurm/v0.0.38")
    invalid = {"error_code": 2000, "error_number": 2000, "error": "Invalid partition name"}

    async def submit(self, passes_on: bool, endpoint: str) -> list:
        """Submit four jobs of which Slurm complains."""
        complaint = Reply(200, {"errors": [self.invalid]}, passes_on=passes_on)
        server = FaultyServer(
            upstream=self.cluster.endpoint,
            choose=lambda seen: complaint if seen.method == "POST" else None,
        )
        async with server:
            executor = self.make(port=int(server.url.rpartition(":")[2]), api_endpoint=endpoint)
            self.addAsyncCleanup(executor.close)
            specs = [a_script(f"echo run >> {number}.ran") for number in range(4)]
            return await executor.start(specs)

    async def test_a_job_that_slurm_took_all_the_same_is_followed_and_runs_once(self):
        for endpoint in self.api_versions:
            with self.subTest(endpoint):
                found = await self.submit(True, endpoint)
                self.assertEqual([None] * 4, [one.error for one in found])
                executor = self.make(api_endpoint=endpoint)
                self.addAsyncCleanup(executor.close)
                numbers = {one.ref.partition(":")[0] for one in found}
                self.assertEqual(4, len(numbers))
                listed = self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i").split()
                self.assertLessEqual(numbers, set(listed))
                ran = wait_until(self.ran_four, 60, "four jobs")
                self.assertEqual(["run\n"] * 4, ran)
                for path in self.folder.glob("*.ran"):
                    path.unlink()

    def ran_four(self) -> list[str] | None:
        """Return what four jobs wrote, once no job is left."""
        left = self.cluster.run("squeue", "-h", "-o", "%i").split()
        ran = [path.read_text() for path in self.folder.glob("*.ran")]
        return ran if not left and len(ran) >= 4 else None

    async def test_a_job_that_slurm_did_not_take_is_refused_at_once(self):
        before = self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i")
        found = await self.submit(False, self.api_versions[-1])
        self.assertEqual([(None, False, False)] * 4, [(x.ref, x.again, x.in_doubt) for x in found])
        self.assertIn("Invalid partition name", found[0].error)
        self.assertEqual(before, self.cluster.run("squeue", "-h", "-t", "all", "-o", "%i"))


class NextUnconfirmedTest(Next, UnconfirmedTest):
    """The same on the newer generation of Slurm."""

    api_versions = ("slurm/v0.0.40", "slurm/v0.0.42")


if __name__ == "__main__":
    unittest.main()
