"""What is refused before a job is accepted, against what a real Slurm does with such a job."""

import asyncio
import pwd
import re
import unittest
from collections.abc import Callable
from typing import Any

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.submission_checks import JobChecks
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import Refused
from aind_data_transfer_service.slurmrest.job_properties import read_properties
from aind_data_transfer_service.slurmrest.models import Submission
from aind_data_transfer_service.slurmrest.tokens import FixedToken
from tests.support import slurm, slurm_next
from tests.support.limit_cases import BAD, GOOD

_USER = "daemon"
_PARTITIONS = """\
PartitionName=short Nodes={host} MaxTime=60 MaxNodes=1
PartitionName=dev Nodes={host} MaxTime=30 AllowQos=normal
PartitionName=memory Nodes={host} MaxMemPerNode=10000 DefMemPerNode=500
PartitionName=percpu Nodes={host} MaxMemPerCPU=2000 DefMemPerCPU=100
PartitionName=cpus Nodes={host} MaxCPUsPerNode=4
PartitionName=hidden Nodes={host} Hidden=YES MaxTime=30
PartitionName=drained Nodes={host} State=DRAIN
PartitionName=down Nodes={host} State=DOWN
PartitionName=alternate Nodes={host} State=DRAIN Alternate=chain
PartitionName=chain Nodes={host} State=INACTIVE Alternate=part
PartitionName=circle Nodes={host} State=DRAIN Alternate=round
PartitionName=round Nodes={host} State=DRAIN Alternate=circle
PartitionName=dry Nodes={host} State=DRAIN Alternate=short
"""
_WAITS_FOR_EVER = frozenset(
    {
        *("PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "MaxMemPerLimit"),
        *("QOSNotAllowed", "AccountNotAllowed", "BadConstraints"),
    }
)


class LimitsTest(unittest.IsolatedAsyncioTestCase):
    """Slurm 22.05."""

    dialects = ("slurm/v0.0.38",)
    cluster: "_Cluster"

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(**options)

    @classmethod
    def setUpClass(cls) -> None:
        """Start a cluster with partitions of every kind, and qualities of service."""
        cls.cluster = cls.start_cluster(accounting=True, kind=_Cluster)
        cls.addClassCleanup(cls.cluster.stop)
        add = ("sacctmgr", "--immediate", "add", "qos")
        cls.cluster.run(*add, "long", "Flags=PartitionTimeLimit")
        cls.cluster.run(*add, "slow")
        made = cls.cluster.run("scontrol", "token", f"username={_USER}", "lifespan=3600")
        cls.token = made.strip().removeprefix("SLURM_JWT=")

    async def asyncSetUp(self) -> None:
        self.clients = [
            SlurmClient(self.cluster.endpoint, _USER, FixedToken(self.token), dialect=name)
            for name in self.dialects
        ]
        for client in self.clients:
            self.addAsyncCleanup(client.aclose)

    def given(self, settings: dict[str, Any], number: int) -> JobSpec:
        """Write a job that asks for little memory, unless it says otherwise."""
        asks = any(name.startswith("memory") for name in settings)
        return JobSpec(
            str(number), "job", settings=settings if asks else {"memory_per_node": 9, **settings}
        )

    async def errors(self, client: SlurmClient, specs: list[JobSpec]) -> dict[str, list[str]]:
        """Check jobs before they are accepted."""
        checks = JobChecks(client, HpcSettings())
        self.addAsyncCleanup(checks.close)
        found = await checks.check(specs, 20)
        return {job_id: list(texts) for job_id, texts in found.errors.items()}

    async def submit(self, client: SlurmClient, spec: JobSpec) -> int | None:
        """Submit a job all the same; None if Slurm refuses it."""
        properties, problems = read_properties(
            {
                "current_working_directory": "/tmp",
                "standard_out": "/dev/null",
                "standard_error": "/dev/null",
                "name": f"job {spec.job_id}",
                **spec.settings,
            }
        )
        self.assertEqual([], problems)
        try:
            answer = await client.submit(Submission("#!/bin/sh\n", properties, {"A": "b"}))
        except Refused:
            return None
        return answer.slurm_id

    async def until(self, client: SlurmClient, numbers: set[int], waits_for_ever: bool) -> None:
        """Wait until every job has ended, or until every job waits for ever."""
        async with asyncio.timeout(60):
            while True:
                jobs = {job.job_id: job for job in await client.jobs() if job.job_id in numbers}
                if waits_for_ever:
                    left = [one for one in jobs.values() if one.reason not in _WAITS_FOR_EVER]
                else:
                    left = [one for one in jobs.values() if one.state != "COMPLETED"]
                if not left:
                    return
                await asyncio.sleep(0.2)

    async def test_jobs_that_run_are_not_refused(self) -> None:
        specs = [self.given(settings, number) for number, settings in enumerate(GOOD)]
        for client in self.clients:
            self.assertEqual({}, await self.errors(client, specs))
            numbers = [await self.submit(client, spec) for spec in specs]
            self.assertNotIn(None, numbers)
            await self.until(client, set(numbers), waits_for_ever=False)

    async def test_jobs_that_never_run_are_refused_by_property(self) -> None:
        specs = [self.given(settings, number) for number, (_, settings) in enumerate(BAD)]
        for client in self.clients:
            errors = await self.errors(client, specs)
            for number, (name, settings) in enumerate(BAD):
                with self.subTest(client=str(await client.dialect()), **settings):
                    [error] = errors.get(str(number), ["none"])
                    self.assertRegex(error, rf"^hpc_settings\.{name}: ")
            sent = [spec for spec in specs if "gres" not in spec.settings]
            numbers = {await self.submit(client, spec) for spec in sent} - {None}
            await self.until(client, numbers, waits_for_ever=True)
            for number in numbers:
                await client.cancel(number)

    async def test_jobs_of_a_closed_partition_are_compared_with_its_alternate(self) -> None:
        good = [{"partition": "alternate"}, {"partition": "dry", "time_limit": 60}]
        bad = [{"partition": "circle"}, {"partition": "dry", "nodes": [2, 2], "qos": "normal"}]
        for client in self.clients:
            specs = [self.given(settings, number) for number, settings in enumerate(good + bad)]
            self.assertEqual({"2", "3"}, set(await self.errors(client, specs)))
            numbers = [await self.submit(client, spec) for spec in specs]
            self.assertIsNone(numbers[2])
            await self.until(client, set(numbers[:2]), waits_for_ever=False)
            await self.until(client, set(numbers[3:]) - {None}, waits_for_ever=True)

    async def test_a_down_partition_lets_jobs_wait(self) -> None:
        for client in self.clients:
            spec = self.given({"partition": "down"}, 1)
            self.assertEqual({}, await self.errors(client, [spec]))
            await client.cancel(await self.submit(client, spec))

    async def test_a_time_limit_that_a_default_qos_may_lift_is_a_warning(self) -> None:
        for client in self.clients:
            spec = self.given({"partition": "short", "time_limit": 61}, 1)
            checks = JobChecks(client, HpcSettings())
            self.addAsyncCleanup(checks.close)
            found = await checks.check([spec], 20)
            self.assertEqual({}, dict(found.errors))

    async def test_a_default_qos_lifts_limits_though_slurmrestd_offers_no_slurmdbd(self) -> None:
        manage = ("sacctmgr", "--immediate")
        self.cluster.run(*manage, "add", "user", _USER, "Account=tests", "Cluster=tests")
        self.addCleanup(self.cluster.run, *manage, "delete", "user", _USER)
        rights = ("set", "QOS=normal,long,slow", "DefaultQOS=long")
        self.cluster.run(*manage, "modify", "user", _USER, *rights)
        self.offer_slurmdbd(False)
        self.addCleanup(self.offer_slurmdbd, True)
        for client in self.clients:
            self.assertIsNone(await client.qos())
            spec = self.given({"partition": "short", "time_limit": 61}, 1)
            self.assertEqual({}, await self.errors(client, [spec]))
            number = await self.submit(client, spec)
            await self.until(client, {number}, waits_for_ever=False)

    def offer_slurmdbd(self, is_offered: bool) -> None:
        """Start slurmrestd again, with or without its plugin for slurmdbd."""
        self.cluster.offers_slurmdbd = is_offered
        self.cluster.restart("slurmrestd")


class NextLimitsTest(LimitsTest):
    """Slurm 24.11."""

    dialects = ("slurm/v0.0.40", "slurm/v0.0.42")

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up."""
        return slurm.start(root=slurm_next.provide(), **options)


class _Cluster(slurm.SlurmCluster):
    """A cluster that shares out memory, with partitions of every kind."""

    offers_slurmdbd = True
    """Whether slurmrestd, once it starts, has its plugin for slurmdbd."""

    def __init__(self, **options: Any) -> None:
        pwd.getpwnam(_USER)
        super().__init__(**options)
        conf = self.conf.read_text().replace("Parameters=CR_CPU\n", "Parameters=CR_CPU_Memory\n")
        self.conf.write_text(conf + _PARTITIONS.format(host=self.host))

    def _recipes(self) -> dict[str, tuple[list[str], str, Callable[[], bool]]]:
        """Tell how each daemon is started."""
        recipes = super()._recipes()
        if not self.offers_slurmdbd:
            command, user, answers = recipes["slurmrestd"]
            command = [re.sub(r",openapi/(db\S*|slurmdbd)", "", word) for word in command]
            recipes["slurmrestd"] = (command, user, answers)
        return recipes


if __name__ == "__main__":
    unittest.main()
