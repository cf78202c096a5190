"""Jobs that do not fit into the cluster, which is a mock on HTTP, before they are recorded."""

import asyncio
import json
import unittest
from pathlib import Path
from typing import Any

import httpx

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.server import create_app
from tests.support import slow
from tests.support.jobs import a_job
from tests.support.mock_cluster import SCRIPT, ClusterServiceTest
from tests.support.slurm_faults import FaultyServer, Reply, Seen

RECORDED = Path(__file__).parents[1] / "slurmrest" / "recorded" / "limits_v0.0.36.json"
LOG = "aind_data_transfer_service.executors.slurm.submission_checks"


class LimitsOfTheClusterTest(ClusterServiceTest):
    """The partitions are those of a real cluster."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.cluster.partitions = json.loads(RECORDED.read_text())["partitions"]["partitions"]

    def client(self, manager: JobManager) -> httpx.AsyncClient:
        """Make a client of the service's API."""
        transport = httpx.ASGITransport(create_app(manager.settings, manager))
        client = httpx.AsyncClient(transport=transport, base_url="http://transfer")
        self.addAsyncCleanup(client.aclose)
        return client

    async def submit(self, manager: JobManager, *jobs: dict[str, Any]) -> httpx.Response:
        """Submit jobs by the API."""
        body = [
            {
                "upload_job_settings": "{}",
                "hpc_settings": json.dumps({"name": f"job {number}", **settings}),
                "script": SCRIPT,
            }
            for number, settings in enumerate(jobs, start=1)
        ]
        return await self.client(manager).post("/api/submit_hpc_jobs", json={"jobs": body})

    async def ready(self, manager: JobManager) -> list[str]:
        """Ask whether the service is ready, until it knows what the cluster takes."""
        client = self.client(manager)
        async with asyncio.timeout(5):
            while True:
                response = await client.get("/readyz")
                self.assertEqual(200, response.status_code)
                if warnings := response.json()["data"]["warnings"]:
                    return warnings
                await asyncio.sleep(0.01)

    @slow
    async def test_all_jobs_that_do_not_fit_are_refused_at_once_by_job_and_setting(self):
        manager = await self.start()
        response = await self.submit(
            manager,
            {"partition": "cpus", "cpus_per_task": 5, "nodes": [2, 2]},
            {"partition": "short", "time_limit": 61},
            {"tasks": 9},
            {"partition": "memory", "memory_per_node": 10_001},
        )
        errors = response.json()["data"]["errors"]
        found = [text.partition(":")[0] for text in errors]
        self.assertEqual(
            [
                "job 1, hpc_settings.nodes",
                "job 1, hpc_settings.cpus_per_task",
                "job 3, hpc_settings.tasks",
                "job 4, hpc_settings.memory_per_node",
            ],
            found,
        )
        self.assertIn('5; partition "cpus" allows at most 4 CPUs on a node', errors[1])
        self.assertEqual([], self.cluster.jobs())
        self.assertEqual(0, (await manager.find()).total)

    @slow
    async def test_what_no_cluster_takes_is_refused_by_job_and_setting(self):
        manager = await self.start()
        response = await self.submit(
            manager, {}, {"time_limit": 0, "tasks": -1, "signal": "NOPE", "memory_per_cpu": "x"}
        )
        self.assertEqual(406, response.status_code)
        found = [text.partition(":")[0] for text in response.json()["data"]["errors"]]
        names = ("time_limit", "tasks", "signal", "memory_per_cpu")
        self.assertEqual([f"job 2, hpc_settings.{name}" for name in names], found)

    @slow
    async def test_times_and_sizes_with_units_reach_the_cluster_as_numbers(self):
        manager = await self.start()
        response = await self.submit(manager, {"time_limit": "00:45:30", "memory_per_node": "1.5G"})
        self.assertEqual(200, response.status_code, response.text)
        [job] = self.cluster.jobs()
        self.assertEqual(46, job.properties["time_limit"])
        self.assertEqual(1536, int(job.properties["memory_per_node"]))

    async def test_a_time_that_may_be_meant_as_hours_and_minutes_is_warned_of(self):
        manager = await self.start()
        response = await self.submit(manager, {"time_limit": "00:45"})
        self.assertEqual(200, response.status_code, response.text)
        warnings = [
            text for text in response.json()["data"]["warnings"] if "hours and minutes" in text
        ]
        self.assertEqual(
            [
                'job 1, hpc_settings.time_limit: "00:45" is 0 minutes and 45 seconds; for hours '
                'and minutes, write "00:45:00"'
            ],
            warnings,
        )
        self.assertEqual(1, self.cluster.jobs()[0].properties["time_limit"])

    async def test_options_of_sbatch_are_refused_with_the_property(self):
        manager = await self.start()
        response = await self.submit(manager, {"mem": "16G", "time": "1:00:00"})
        self.assertEqual(406, response.status_code)
        self.assertEqual(
            [
                'job 1, hpc_settings: "mem" is no job property of Slurm; did you mean '
                "memory_per_node?",
                'job 1, hpc_settings: "time" is no job property of Slurm; did you mean time_limit?',
            ],
            response.json()["data"]["errors"],
        )

    @slow
    async def test_what_is_wrong_by_itself_and_on_this_cluster_is_said_at_once(self):
        manager = await self.start()
        response = await self.submit(
            manager, {"partition": "short", "nodes": [2, 2], "signal": "NOPE"}, {"tasks": 9}
        )
        found = [text.partition(":")[0] for text in response.json()["data"]["errors"]]
        self.assertEqual(
            [
                "job 1, hpc_settings.signal",
                "job 1, hpc_settings.nodes",
                "job 2, hpc_settings.tasks",
            ],
            found,
        )

    @slow
    async def test_defaults_that_the_cluster_does_not_take_are_in_the_log_and_in_readyz(self):
        with self.assertLogs(LOG, "WARNING") as logs:
            manager = await self.start(
                partition="short", time_limit=600, job_defaults={"nodes": [2, 2]}
            )
            warnings = await self.ready(manager)
        self.assertEqual(2, len(warnings), warnings)
        self.assertRegex(warnings[0], "^HPC_JOB_DEFAULTS.nodes: 2; ")
        self.assertRegex(warnings[1], '^HPC_TIME_LIMIT: 600 minutes; partition "short" allows')
        self.assertEqual(2, len(logs.output))
        response = await self.submit(manager, {}, {"time_limit": 5, "nodes": 1})
        errors = response.json()["data"]["errors"]
        self.assertEqual(
            ["job 1, HPC_JOB_DEFAULTS.nodes"],
            [text.partition(":")[0] for text in errors],
        )
        response = await self.submit(manager, {"time_limit": 5, "nodes": 1})
        self.assertEqual(200, response.status_code, response.text)

    async def ended(
        self, manager: JobManager, end: dict[str, Any], **settings: Any
    ) -> dict[str, Any]:
        """Submit a job with settings, have it end, and return what the service says of it."""
        response = await self.submit(manager, settings)
        job_id = response.json()["data"]["responses"][0]["job_id"]
        manager.store.update(job_id, **end)
        shown = await self.client(manager).get(f"/api/jobs/{job_id}")
        return shown.json()["data"]

    @slow
    async def test_what_is_suggested_for_a_new_attempt_is_what_the_partition_allows(self):
        manager = await self.start(monitor_interval=None)
        end = {"state": JobState.FAILED, "reason": "ran out of memory (8000 MB)"}
        for partition, megabytes, note in (
            ("memory", 10_000, "allows at most 10,000 MB on a node"),
            ("part", 16_000, ""),
        ):
            found = await self.ended(manager, end, partition=partition, memory_per_node=8000)
            self.assertEqual(megabytes, found["suggested_limits"]["memory_per_node"])
            self.assertEqual(["memory_per_node"] if note else [], list(found["limit_notes"]))
            self.assertIn(note, found["limit_notes"].get("memory_per_node", ""))

    @slow
    async def test_a_time_limit_that_a_quality_of_service_may_lift_is_suggested_with_a_note(self):
        manager = await self.start(monitor_interval=None)
        note = 'partition "short" allows at most 60 minutes (MaxTime); the job waits unless'
        end = {"state": JobState.TIMEOUT}
        for partition, minutes, said in (
            ("short", 45, note),
            ("short", 20, ""),
            ("short", 500, ""),  # it was lifted for the former attempt
            ("part", 45, ""),
        ):
            found = await self.ended(manager, end, partition=partition, time_limit=minutes)
            self.assertEqual(2 * minutes, found["suggested_limits"]["time_limit"], partition)
            self.assertEqual(["time_limit"] if said else [], list(found["limit_notes"]))
            self.assertIn(said, found["limit_notes"].get("time_limit", ""))

    async def test_memory_that_the_job_was_sent_without_is_not_stated(self):
        parts = self.cluster.partitions
        for megabytes, partitions, hpc, stated in (
            (64_000, parts, {}, {"memory_per_node": 1024}),
            (512, parts, {}, {}),
            (64_000, None, {}, {}),  # not told: sent without
            (512, parts, {"transfer_memory": 800}, {"memory_per_node": 800}),
        ):
            with self.subTest(megabytes=megabytes, told=bool(partitions), hpc=hpc):
                self.cluster.partitions = partitions
                self.cluster.memory_mb = megabytes
                manager = await self.start(monitor_interval=None, **hpc)
                job = a_job(
                    state=JobState.FAILED,
                    executor="slurm",
                    executor_ref="7:x",
                    upload_job_settings="{}",
                )
                manager.store.add([job])
                if partitions:
                    await manager.executor.check([JobSpec("x", "x", "{}")], 5)
                shown = await self.client(manager).get(f"/api/jobs/{job.id}")
                self.assertEqual(stated, shown.json()["data"]["asked_limits"])
                suggested = shown.json()["data"]["suggested_limits"]
                memory = {name: n for name, n in suggested.items() if n and name != "time_limit"}
                self.assertEqual(stated, memory)

    @slow
    async def test_a_faulty_answer_about_limits_refuses_no_job(self):
        faults = (
            Reply(500, {"errors": [{"error": "Unspecified error", "errno": -1}]}),
            Reply(200, {"partitions": [{"name": "part", "max_time_limit": -9}, 7, None]}),
        )
        for fault in faults:

            def choose(seen: Seen, fault: Reply = fault) -> Reply | None:
                return fault if "partitions" in seen.path or "nodes" in seen.path else None

            upstream = f"http://127.0.0.1:{self.port}"
            server = FaultyServer(upstream=upstream, choose=choose)
            await self.enterAsyncContext(server)
            manager = await self.start(int(server.url.rpartition(":")[2]))
            response = await self.submit(manager, {"time_limit": 100_000, "partition": "part"})
            self.assertEqual(200, response.status_code, response.text)
            await manager.stop()


if __name__ == "__main__":
    unittest.main()
