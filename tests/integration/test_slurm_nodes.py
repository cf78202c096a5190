"""Shards on real Slurm clusters of two nodes: which shard runs on which node."""

import asyncio
import uuid

from aind_data_transfer_service.executors.base import JobSpec, RunState
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from tests.integration.test_slurm_service import ClusterTest
from tests.support import slurm, slurm_newest, slurm_next, wait_until
from tests.support.slurm_nodes import NodesCluster


class SpreadTest(ClusterTest):
    """Two nodes, each of which has room for all shards of a job."""

    options = {
        "nodes": 2,
        "cpus": 4,
        "memory": 3500,
        "extra": "SelectTypeParameters=CR_CPU_Memory\n"
        "PartitionName=least Nodes=ALL LLN=YES\n"
        "PartitionName=few Nodes=ALL MaxCPUsPerNode=2",
    }
    versions = (36, 37, 38)

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(NodesCluster, **cls.options)

    def setUp(self) -> None:
        super().setUp()
        self.python = self.folder / "python"
        self.python.write_text('#!/bin/bash\nwhile [ -e "$DATA_DIR/wait" ]; do sleep 0.1; done\n')
        self.python.chmod(0o755)
        (self.folder / "wait").touch()

    def nodes(self, job_id: str) -> list[str]:
        """Return the nodes on which shards of a job run."""
        lines = self.cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%N %k").splitlines()
        return sorted(line.split()[0] for line in lines if f":{job_id}.shards" in line)

    async def run_two(
        self, version: int, settings: dict, wait_for: int = 2, **values
    ) -> tuple[list[str], str]:
        """Run a job in two shards; return the nodes of the shards, and what the service says."""
        hpc = self.hpc(
            shards=2, python=str(self.python), api_endpoint=f"slurm/v0.0.{version}", **values
        )
        executor = SlurmExecutor(make_client(hpc), hpc, {}, settle=0.5)
        self.addAsyncCleanup(executor.close)
        job_id = f"job-{uuid.uuid4().hex[:8]}"
        (self.folder / "wait").touch()
        [started] = await executor.start([JobSpec(job_id, "a name", "{}", settings=settings)])
        self.assertIsNone(started.error)
        ref = started.ref
        await asyncio.to_thread(
            wait_until, lambda: len(self.nodes(job_id)) == wait_for, 90, "the shards"
        )
        nodes = self.nodes(job_id)
        told = (await executor.statuses([ref]))[ref].node
        (self.folder / "wait").unlink()
        async with asyncio.timeout(90):
            while (await executor.statuses([ref]))[ref].state is not RunState.COMPLETED:
                await asyncio.sleep(0.1)
        return nodes, told

    async def test_each_shard_has_a_node_of_its_own_in_every_version_of_the_api(self):
        for version in self.versions:
            with self.subTest(version):
                nodes, told = await self.run_two(version, {})
                self.assertEqual((["node1", "node2"], "node1,node2"), (nodes, told))

    async def test_without_exclusive_slurm_puts_both_on_one_node(self):
        for values, settings in (
            ({"shards_exclusive": False}, {}),
            ({}, {"exclusive": "false"}),
            ({"shards_exclusive": False}, {"spread_job": True}),
        ):
            with self.subTest(values=values, settings=settings):
                nodes, told = await self.run_two(self.versions[-1], settings, **values)
                self.assertEqual((["node1", "node1"], "node1"), (nodes, told))

    async def test_memory_per_cpu_is_counted_for_the_cpus_that_a_shard_asks_for(self):
        for cpus in (1, 3):
            with self.subTest(cpus=cpus):
                settings = {"memory_per_cpu": 1000, "cpus_per_task": cpus}
                nodes, _ = await self.run_two(self.versions[-1], settings)
                self.assertEqual(["node1", "node2"], nodes)

    async def test_tasks_of_a_shard_that_do_not_fit_on_one_node_run_all_the_same(self):
        settings = {"memory_per_cpu": 1000, "tasks": 4}
        nodes, _ = await self.run_two(self.versions[-1], settings, wait_for=1)
        self.assertEqual(["node[1-2]"], nodes)

    async def test_a_partition_that_limits_the_cpus_on_a_node_takes_shards(self):
        nodes, _ = await self.run_two(self.versions[-1], {"partition": "few"})
        self.assertEqual(2, len(nodes))

    async def test_a_partition_that_takes_the_least_loaded_node_spreads_them_too(self):
        nodes, _ = await self.run_two(
            self.versions[-1], {}, shards_exclusive=False, partition="least"
        )
        self.assertEqual(["node1", "node2"], nodes)


class NextSpreadTest(SpreadTest):
    """The same on the newer generation of Slurm."""

    versions = (40, 41, 42)

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up."""
        return slurm.start(NodesCluster, root=slurm_next.provide(), **cls.options)


class NewestSpreadTest(SpreadTest):
    """The same on the newest Slurm of Debian's packages."""

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newest Slurm up."""
        root = slurm_newest.provide()
        cls.versions = tuple(int(one.rpartition(".")[2]) for one in slurm.spoken_in(root))
        return slurm.start(NodesCluster, root=root, **cls.options)
