"""A transfer asks for the memory that it needs, unless its request or the site names some."""

import unittest
from dataclasses import replace
from typing import Any

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.executors.slurm.job_properties import job_properties, mark_of
from aind_data_transfer_service.executors.slurm.submission_checks import JobChecks
from aind_data_transfer_service.settings.slurm import MEMORY, HpcSettings
from aind_data_transfer_service.slurmrest.api_versions import Dialect
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.support.clock import Clock
from tests.unit.executors.slurm.test_executor import FakeClient, SlurmTest, a_job
from tests.unit.executors.slurm.test_partition_limits import recorded

USUAL = {"memory_per_node": 1024}


def memory(hpc: dict[str, Any], script: str = "", **asked: Any) -> dict[str, Any]:
    """Return the memory that a job asks for."""
    folders = {"current_working_directory": "/hpc", "logging_directory": "/logs"}
    spec = JobSpec("j1", "a name", "" if script else "{}", script, settings=asked)
    properties = job_properties(spec, HpcSettings(**folders, **hpc))
    return {name: value for name, value in properties.items() if name in MEMORY}


class MemoryTest(unittest.TestCase):
    """What a job asks for."""

    def test_a_transfer_asks_for_what_it_needs(self) -> None:
        self.assertEqual(USUAL, memory({}))
        self.assertEqual(USUAL, memory({}, cpus_per_task=4, exclusive="true"))
        self.assertEqual({"memory_per_node": 3000}, memory({"transfer_memory": 3000}))
        self.assertEqual({}, memory({"transfer_memory": 0}))

    def test_memory_that_the_request_or_the_site_names_wins(self) -> None:
        for kind in sorted(MEMORY):
            for value in (0, 8000):
                with self.subTest(kind=kind, value=value):
                    self.assertEqual({kind: value}, memory({}, **{kind: value}))
                    self.assertEqual({kind: value}, memory({"job_defaults": {kind: value}}))
        self.assertEqual({"memory_per_cpu": 4000}, memory({"memory_per_cpu": 4000}))
        both = memory({"memory_per_cpu": 4000}, memory_per_node=9000)
        self.assertEqual({"memory_per_node": 9000}, both)

    def test_nobody_knows_what_a_script_needs(self) -> None:
        self.assertEqual({}, memory({}, script="#!/bin/sh\n"))
        self.assertEqual({"memory_per_cpu": 7}, memory({"memory_per_cpu": 7}, script="#!/bin/sh\n"))


class Nodes(FakeClient):
    """A cluster whose nodes have so much memory."""

    def __init__(self, *megabytes: int | None):
        super().__init__()
        self._limits = recorded(42)
        node = self._limits.nodes[0]
        self._nodes = [replace(node, name=f"n{size}", memory_mb=size) for size in megabytes]
        self._partitions = [
            replace(one, total_nodes=len(self._nodes)) for one in self._limits.partitions
        ]

    def resize(self, megabytes: int) -> None:
        """Give all nodes so much memory."""
        self._nodes = [replace(node, memory_mb=megabytes) for node in self._nodes]

    def put_apart(self, *partitions: str) -> None:
        """Put each node into a partition of its own."""
        self._nodes = [
            replace(node, partitions=(name,)) for node, name in zip(self._nodes, partitions)
        ]
        self._partitions = [
            replace(one, total_nodes=1) for one in self._partitions if one.name in partitions
        ]

    def allow(self, megabytes: int) -> None:
        """Have each partition allow so much memory on a node."""
        self._partitions = [
            replace(one, max_memory_per_node_mb=megabytes) for one in self._partitions
        ]

    async def dialect(self) -> Dialect:
        """Return the API version."""
        return Dialect(42)

    async def partitions(self) -> list:
        """List partitions."""
        return self._partitions

    async def nodes(self) -> list:
        """List nodes."""
        return self._nodes


class NodesTest(SlurmTest):
    """Nodes that state less memory than a transfer asks for: `RealMemory` is missing, mostly."""

    async def sent(self, *nodes: int | None, **values: Any) -> dict[str, Any]:
        """Check and submit a job; return the memory that it asks for."""
        self.client = Nodes(*nodes)
        return await self.sent_by_client(a_job("j1"), **values)

    async def sent_by_client(self, spec: JobSpec, **values: Any) -> dict[str, Any]:
        """Check and submit a job to the cluster at hand; return the memory that it asks for."""
        executor = self.make(**values)
        unfit = await executor.check([spec], 5)
        self.assertEqual({}, dict(unfit.errors))
        return await self.sent_by(executor, spec)

    async def sent_unchecked(self, **values: Any) -> dict[str, Any]:
        """Submit a job that no check came before; return the memory that it asks for."""
        self.client.listed.clear()
        return await self.sent_by(self.make(**values), a_job("j1"))

    async def sent_by(self, executor: SlurmExecutor, spec: JobSpec) -> dict[str, Any]:
        """Submit a job; return the memory that it asks for."""
        [started] = await executor.start([spec])
        self.assertIsNone(started.error)
        await executor.close()
        properties = self.client.submissions[-1].properties
        sent = {name: value for name, value in properties.items() if name in MEMORY}
        stated = {} if executor.left_out("j1", spec.settings) else USUAL
        self.assertIn(sent, (stated, {"memory_per_node": spec.settings.get("memory_per_node")}))
        return sent

    async def test_a_transfer_runs_on_nodes_without_real_memory(self) -> None:
        self.assertEqual({}, await self.sent(1, 1))
        self.assertEqual(USUAL, await self.sent(1, 64_000))
        self.assertEqual(USUAL, await self.sent(None))

    async def test_a_recorded_job_that_is_sent_before_any_check_asks_for_what_is_there(
        self,
    ) -> None:
        for sizes, expected in (((1, 1), {}), ((64_000,), USUAL), ((), USUAL)):
            with self.subTest(sizes=sizes):
                self.client = Nodes(*sizes)
                self.assertEqual(expected, await self.sent_unchecked())

    async def test_a_default_is_left_out_as_long_as_the_cluster_does_not_tell_its_nodes(
        self,
    ) -> None:
        for question in ("nodes", "partitions"):
            with self.subTest(question):
                self.client = Nodes(1)
                setattr(self.client, question, FakeClient().nodes)  # cannot be reached
                self.assertEqual({}, await self.sent_unchecked())
                kept = await self.sent_unchecked(transfer_memory=1024)
                self.assertEqual(USUAL, kept)

    async def test_a_shard_asks_for_a_node_of_its_own_only_if_its_tasks_have_memory_there(
        self,
    ) -> None:
        for megabytes, asked, expected in (
            (4000, {"memory_per_cpu": 1000, "tasks": 4}, {"memory_per_node": 4000}),
            (3500, {"memory_per_cpu": 1000, "tasks": 4}, {"memory_per_cpu": 1000}),
            (3500, {"memory_per_cpu": 1000, "tasks": 2, "cpus_per_task": 2}, None),
            (
                3500,
                {"memory_per_cpu": 1000, "tasks": 4, "nodes": [2, 2]},
                {"memory_per_node": 1000},
            ),
            (3500, {"memory_per_node": 3500, "tasks": 4}, {"memory_per_node": 3500}),
        ):
            with self.subTest(megabytes=megabytes, asked=asked):
                self.client = Nodes(megabytes, megabytes)
                executor = self.make(shards=2)
                settings = asked | {"partition": "short"}
                [started] = await executor.start([a_job("j1", settings=settings)])
                self.assertIsNone(started.error)
                await executor.close()
                array, last = (one.properties for one in self.client.submissions)
                sent = {name: value for name, value in array.items() if name in MEMORY}
                own = {name: value for name, value in asked.items() if name in MEMORY}
                self.assertEqual(expected or own, sent)
                is_exclusive = megabytes == 4000 or "nodes" in asked or "memory_per_node" in asked
                self.assertEqual("true" if is_exclusive else None, array.get("exclusive"))
                self.assertEqual(own, {k: v for k, v in last.items() if k in MEMORY})

    async def test_the_partitions_of_the_job_decide(self) -> None:
        first, second = "short", "dev"
        both = f"{first},{second}"
        for one, other in ((first, second), (second, first)):
            with self.subTest(without=one):
                sizes = {one: 1, other: 64_000}
                self.assertEqual({}, await self.sent_to(sizes, partition=one))
                self.assertEqual(USUAL, await self.sent_to(sizes, partition=other))
                self.assertEqual({}, await self.sent_to(sizes, partition=both))
                self.assertEqual({}, await self.sent_to(sizes))  # which is the default, is not told
                asked = {"memory_per_node": 3000}
                self.assertEqual(asked, await self.sent_to(sizes, partition=other, **asked))

    async def sent_to(self, megabytes: dict[str, int], **settings: Any) -> dict[str, Any]:
        """Return the memory that a job asks for, by what the node of each partition has."""
        self.client = Nodes(*megabytes.values())
        self.client.put_apart(*megabytes)
        return await self.sent_by_client(a_job("j1", settings=settings))

    async def test_a_default_that_no_partition_allows_is_left_out(self) -> None:
        self.client = Nodes(64_000)
        self.client.allow(512)
        self.assertEqual({}, await self.sent_by_client(a_job("j1")))

    async def test_how_a_job_was_sent_is_known_whatever_becomes_of_the_cluster(self) -> None:
        for before, after, left_out in ((1, 64_000, {"memory_per_node"}), (64_000, 1, set())):
            with self.subTest(before=before, after=after):
                self.client = Nodes(before)
                self.client.listed.clear()
                clock = Clock()
                executor = self.make(clock=clock)
                [started] = await executor.start([a_job("j1")])
                self.assertIsNone(started.error)
                self.client.resize(after)
                clock.sleep(3600)
                await executor.check([a_job("j2")], 5)
                self.assertEqual(left_out, set(executor.left_out("j1", {})))
                await executor.close()

    async def test_after_a_restart_the_memory_that_slurm_lists_tells_how_a_job_was_sent(
        self,
    ) -> None:
        for listed, settings, left_out in (
            ({"memory_per_node_mb": 1024}, {}, set()),
            ({"memory_per_node_mb": 64_000}, {}, {"memory_per_node"}),
            ({"memory_per_cpu_mb": 2000}, {}, {"memory_per_node"}),
            ({"memory_per_node_mb": 3000}, {"memory_per_node": 3000}, set()),
        ):
            with self.subTest(listed=listed):
                self.client = Nodes(1 if not left_out else 64_000)
                job = SlurmJob(7, "FAILED", comment=mark_of("j1"), user="svc", **listed)
                self.client.listed[7] = job
                executor = self.make()
                await executor.statuses(["7:j1"])
                await executor.check([a_job("j2")], 5)
                self.assertEqual(left_out, set(executor.left_out("j1", settings)))
                await executor.close()

    async def test_memory_that_no_partition_allows_is_an_error_that_names_the_setting(self) -> None:
        client = Nodes(64_000)
        client.allow(512)
        checks = JobChecks(client, HpcSettings(transfer_memory=1024))
        self.addAsyncCleanup(checks.close)
        unfit = await checks.check([JobSpec("1", "", "{}"), JobSpec("2", "", "", "#!/bin/sh\n")], 5)
        self.assertEqual({"1"}, set(unfit.errors))
        self.assertIn("HPC_TRANSFER_MEMORY: 1,024 MB", unfit.errors["1"][0])
