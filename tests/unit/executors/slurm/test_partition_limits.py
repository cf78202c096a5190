"""Whether a job fits into a cluster, by what real clusters said of themselves."""

import asyncio
import json
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.partition_limits import (
    ClusterLimits,
    cap_limits,
    find_limits,
)
from aind_data_transfer_service.executors.slurm.submission_checks import JobChecks
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.api_versions import Dialect
from aind_data_transfer_service.slurmrest.job_properties import read_properties
from aind_data_transfer_service.slurmrest.parsing import read_nodes
from aind_data_transfer_service.slurmrest.partitions import (
    SlurmPartition,
    SlurmQos,
    read_partitions,
    read_qos,
)
from tests.support import slow
from tests.support.limit_cases import BAD, GOOD

RECORDED = Path(__file__).parents[2] / "slurmrest" / "recorded"
VERSIONS = (36, 37, 38, 40, 41, 42)
BY_NODES = frozenset(
    {
        *("minimum_cpus_per_node=9", "tasks_per_node=9", "gres=gpu:1"),
        *("memory_per_node=64001", "memory_per_cpu=64001"),
        *("memory_per_cpu=8001,cpus_per_task=8", "memory_per_cpu=8001,tasks_per_node=8"),
        *("exclusive=true,memory_per_cpu=8001", "partition=cpus,exclusive=true"),
        "partition=memory,exclusive=true,memory_per_cpu=1251",
        *("nodes=[1, 1],tasks=8,memory_per_cpu=8001", "tasks_per_node=3,cpus_per_task=3"),
    }
)
"""What only nodes tell; v0.0.36 does not say which partition a node belongs to."""
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def recorded(version: int) -> ClusterLimits:
    """Read what a real cluster said of itself."""
    said = json.loads((RECORDED / f"limits_v0.0.{version}.json").read_text())
    partitions = read_partitions(said["partitions"])
    return ClusterLimits(partitions, read_nodes(said["nodes"]), read_qos(said["qos"]))


def place(name: str) -> str:
    """Name a property of a user's."""
    return f"hpc_settings.{name}"


def errors(cluster: ClusterLimits, **settings: Any) -> list[str]:
    """List what is wrong with a job."""
    properties, problems = read_properties(settings)
    assert not problems, problems
    return list(find_limits(properties, place, cluster).errors)


class CappedLimitsTest(unittest.TestCase):
    """What is suggested for a job that is submitted again is what its partitions take."""

    WANTED = {"time_limit": 500, "memory_per_node": 70_000}

    def test_time_and_memory_are_lowered_to_what_a_partition_of_the_job_allows(self) -> None:
        for version in VERSIONS:
            cluster = recorded(version)
            largest = 70_000 if version == 36 else 64_000  # it does not tell whose the nodes are
            for partition, minutes, memory in (
                ("short", 60, largest),
                ("memory", 500, 10_000),
                ("short,dev", 60, largest),
                ("dev,memory", 500, 10_000),
                ("unknown", 500, 70_000),
                ("", 500, largest),
            ):
                with self.subTest(version=version, partition=partition):
                    properties = {"partition": partition, "qos": "normal"}
                    found = cap_limits(self.WANTED, properties, cluster).limits
                    expected = {"time_limit": minutes, "memory_per_node": memory}
                    self.assertEqual(expected, found)

    def test_the_result_is_taken_for_a_new_job(self) -> None:
        for partition in ("short", "memory", "dev,memory"):
            for qos in ({"qos": "normal"}, {}):
                properties = {"partition": partition, **qos}
                found = cap_limits(self.WANTED, properties, recorded(42)).limits
                self.assertEqual([], errors(recorded(42), **properties, **found))

    def test_memory_for_each_cpu_counts_for_all_cpus_on_a_node(self) -> None:
        for cpus, count in (
            ({"cpus_per_task": 4}, 4),
            ({"minimum_cpus_per_node": 8}, 8),
            ({"tasks_per_node": 2}, 2),
            ({"tasks_per_node": 2, "cpus_per_task": 4, "minimum_cpus_per_node": 5}, 8),
            ({"minimum_cpus_per_node": 5, "cpus_per_task": 2}, 5),
        ):
            with self.subTest(**cpus):
                properties = {"partition": "memory", **cpus}
                for wanted, most in ((20_000, 10_000 // count), (900, 900)):
                    found = cap_limits({"memory_per_cpu": wanted}, properties, recorded(38))
                    self.assertEqual({"memory_per_cpu": most}, found.limits)
                    self.assertEqual(most < wanted, bool(found.notes), found.notes)
                text = errors(recorded(38), memory_per_cpu=10_000 // count + 1, **properties)
                self.assertRegex(text[0], f"MB for each of {count} CPUs on a node; partition")

    def test_what_is_not_limited_or_not_known_stays(self) -> None:
        limits = {"time_limit": None, "memory_per_node": 0, "memory_per_gpu": 90_000}
        found = cap_limits(limits, {"partition": "memory"}, recorded(42))
        self.assertEqual((limits, {}), (found.limits, found.notes))
        found = cap_limits(self.WANTED, {}, ClusterLimits())
        self.assertEqual((self.WANTED, {}), (found.limits, found.notes))

    def test_a_quality_of_service_that_lifts_limits_is_heeded(self) -> None:
        limit = 'partition "short" allows at most 60 minutes (MaxTime)'
        perhaps = f"{limit}; the job waits unless its quality of service allows more"
        cluster = recorded(42)
        for known, qos, minutes, note in (
            (cluster, "long", 500, None),
            (cluster, "normal", 60, limit),
            (cluster, "", 500, perhaps),  # the default of the user may lift it
            (replace(cluster, qos=None), "", 500, perhaps),
            (replace(cluster, qos=None), "normal", 500, perhaps),
            (replace(cluster, qos=()), "", 60, limit),
        ):
            with self.subTest(qos=qos, known=known.qos):
                properties = {"partition": "short", "qos": qos}
                found = cap_limits({"time_limit": 500}, properties, known)
                self.assertEqual({"time_limit": minutes}, found.limits)
                self.assertEqual(note, found.notes.get("time_limit"))

    def test_a_limit_that_the_former_attempt_exceeded_does_not_count(self) -> None:
        properties = {"partition": "short", "qos": "normal"}
        wanted = {"time_limit": 1000, "memory_per_node": 70_000}
        for had, expected in (
            ({"time_limit": 500, "memory_per_node": 35_000}, (1000, 64_000)),
            ({"time_limit": 60, "memory_per_node": 64_001}, (60, 70_000)),
            ({"time_limit": 60}, (60, 64_000)),
        ):
            with self.subTest(**had):
                found = cap_limits(wanted, properties, recorded(42), had)
                self.assertEqual(expected, tuple(found.limits.values()))
                capped = {name for name in wanted if found.limits[name] < wanted[name]}
                self.assertEqual(capped, found.notes.keys())


class RecordedLimitsTest(unittest.TestCase):
    """Every version says the same in a form of its own."""

    def test_jobs_that_run_on_the_cluster_are_not_refused(self) -> None:
        for version in VERSIONS:
            for settings in GOOD:
                if settings.get("partition") == "hidden":
                    continue  # not recorded
                with self.subTest(version=version, **settings):
                    self.assertEqual([], errors(recorded(version), **settings))

    def test_jobs_that_never_run_are_refused_by_property(self) -> None:
        for version in VERSIONS:
            for name, settings in BAD:
                if version == 36 and ",".join(f"{k}={v}" for k, v in settings.items()) in BY_NODES:
                    continue
                with self.subTest(version=version, **settings):
                    [error] = errors(recorded(version), **settings)
                    expected = "partition" if settings.get("partition") == "hidden" else name
                    self.assertRegex(error, rf"^hpc_settings\.{expected}: ")

    def test_a_sentence_says_what_was_found_what_is_allowed_and_where_it_fits(self) -> None:
        cluster = recorded(38)
        [error] = errors(cluster, partition="short", time_limit=6000, qos="normal")
        self.assertEqual(
            'hpc_settings.time_limit: 6,000 minutes; partition "short" allows at most 60 minutes '
            "(MaxTime); partitions that fit: part, memory, percpu, cpus",
            error,
        )
        [error] = errors(cluster, partition="short,dev", time_limit=61, qos="normal")
        self.assertIn('partition "short" allows at most 60 minutes (MaxTime), ', error)
        self.assertIn('partition "dev" allows at most 30 minutes (MaxTime)', error)

    def test_everything_that_is_wrong_is_said_at_once(self) -> None:
        found = errors(
            recorded(42),
            partition="short",
            qos="normal",
            time_limit=61,
            nodes=[2, 2],
            tasks=9,
            memory_per_node=64_001,
            gres="gpu:1",
        )
        names = [text.partition(":")[0].removeprefix("hpc_settings.") for text in found]
        self.assertEqual({"gres", "time_limit", "nodes", "tasks", "memory_per_node"}, set(names))

    def test_while_qos_are_unknown_what_none_may_lift_is_an_error(self) -> None:
        cluster = replace(recorded(38), qos=None)
        for settings in ({"tasks": 9}, {"partition": "short", "nodes": [2, 2]}):
            self.assertEqual(1, len(errors(cluster, **settings)))
        self.assertEqual([], errors(cluster, partition="dev", qos="slow"))

    def test_while_slurmdbd_is_silent_a_limit_that_it_may_lift_is_a_warning(self) -> None:
        cluster = replace(recorded(38), qos=None)
        properties = {"partition": "short", "time_limit": 61}
        found = find_limits(properties, place, cluster)
        self.assertEqual((), found.errors)
        [warning] = found.warnings
        self.assertRegex(warning, "time_limit: 61 minutes; .*waits unless its quality of service")

    def test_names_that_slurm_may_ignore_are_warnings(self) -> None:
        cluster = replace(
            recorded(40),
            partitions=[SlurmPartition("lab", allowed_accounts=frozenset({"neuro"}))],
        )
        found = find_limits({"qos": "typo", "account": "other"}, place, cluster)
        self.assertEqual((), found.errors)
        self.assertRegex(found.warnings[0], '^hpc_settings.qos: "typo" is not a quality of service')
        self.assertRegex(found.warnings[1], "^hpc_settings.account: .*neuro .AllowAccounts")
        found = find_limits({"account": "Neuro"}, place, cluster)
        self.assertEqual((), found.warnings)

    def test_a_resource_that_is_asked_for_zero_times_is_not_missing(self) -> None:
        for settings in (
            *({name: "0"} for name in ("gpus", "gpus_per_node", "gpus_per_socket")),
            *({"gpus": "a100:0,v100:0"}, {"gpus_per_task": "a100:00"}, {"cpus_per_gpu": "0"}),
            *({"gres": "gpu:0"}, {"gres": "gres:gpu:a100:0,ssd:0"}, {"gres": "gpu=0"}),
            *({"gres": "none"}, {"gres": "NONE"}),
        ):
            with self.subTest(**settings):
                found = find_limits(settings, place, recorded(42))
                self.assertEqual((), found.errors)
        for settings in ({"gpus": "a100:0,v100:1"}, {"gpus": "10"}, {"gres": "gpu:0,gpu:a100:1"}):
            with self.subTest(**settings):
                self.assertEqual(1, len(find_limits(settings, place, recorded(42)).errors))
        self.assertTrue(find_limits({"gres": "gpu"}, place, recorded(42)).errors)

    def test_hidden_nodes_may_be_larger(self) -> None:
        cluster = recorded(42)
        more = [replace(one, total_nodes=2, total_cpus=500) for one in cluster.partitions]
        cluster = replace(cluster, partitions=more)
        for settings in ({"cpus_per_task": 9}, {"memory_per_node": 10**6}, {"gres": "gpu:1"}):
            self.assertEqual([], errors(cluster, **settings))


class AlternatePartitionTest(unittest.TestCase):
    """Slurm sends the jobs of a partition that takes none to its alternate."""

    @staticmethod
    def cluster(*alternates: tuple[str, str], closed: tuple[str, ...]) -> ClusterLimits:
        """Make a cluster of the recorded partitions and of closed ones with an alternate."""
        more = [SlurmPartition(name, closed="DRAIN", alternate=to) for name, to in alternates]
        known = recorded(38)
        parts = [
            replace(one, closed="DRAIN") if one.name in closed else one for one in known.partitions
        ]
        return replace(known, partitions=[*parts, *more])

    def test_every_version_tells_the_alternate(self) -> None:
        for raw in (
            {"name": "alt", "alternative": "part", "nodes_online": 2},
            {"name": "alt", "alternative": "part", "state": "DRAIN"},
            {"name": "alt", "alternate": "part", "partition": {"state": ["INACTIVE"]}},
        ):
            [one] = read_partitions({"partitions": [raw]})
            self.assertEqual("part", one.alternate)
            cluster = replace(recorded(38), partitions=[*recorded(38).partitions, one])
            self.assertEqual([], errors(cluster, partition="alt"))

    def test_a_job_is_compared_with_the_first_alternate_that_takes_jobs(self) -> None:
        cluster = self.cluster(("a", "b"), ("b", "short"), closed=())
        self.assertEqual([], errors(cluster, partition="a", time_limit=60, qos="normal"))
        [error] = errors(cluster, partition="a", time_limit=61, qos="normal")
        self.assertEqual(
            'hpc_settings.time_limit: 61 minutes; partition "short" (in place of "a") allows at '
            "most 60 minutes (MaxTime); partitions that fit: part, memory, percpu, cpus",
            error,
        )
        for names in ("a,short", "short,a"):
            [error] = errors(cluster, partition=names, time_limit=61, qos="normal")
            self.assertEqual(1, error.count("allows at most"))
            self.assertNotIn("in place of", error)

    def test_the_alternate_of_an_open_partition_is_not_used(self) -> None:
        cluster = self.cluster(closed=())
        parts = [
            replace(one, alternate="part") if one.name == "short" else one
            for one in cluster.partitions
        ]
        cluster = replace(cluster, partitions=parts)
        self.assertTrue(errors(cluster, partition="short", time_limit=61, qos="normal"))

    def test_alternates_that_take_no_jobs_or_lead_in_a_circle_refuse_the_job(self) -> None:
        for alternates in (
            [("a", "drained")],
            [("a", "a")],
            [("a", "b"), ("b", "a")],
            [("a", "b"), ("b", "c"), ("c", "b")],
        ):
            cluster = self.cluster(*alternates, closed=())
            [error] = errors(cluster, partition="a")
            self.assertRegex(error, r'^hpc_settings.partition: "a"; .* takes no jobs now \(DRAIN\)')

    def test_an_alternate_that_is_not_listed_refuses_nobody(self) -> None:
        cluster = self.cluster(("a", "elsewhere"), closed=())
        self.assertEqual([], errors(cluster, partition="a", time_limit=10**6))

    def test_jobs_without_a_partition_go_to_the_alternate_of_the_default(self) -> None:
        cluster = self.cluster(closed=("part",))
        self.assertTrue(errors(cluster))
        parts = [
            replace(one, alternate="short") if one.is_default else one for one in cluster.partitions
        ]
        cluster = replace(cluster, partitions=parts)
        self.assertEqual([], errors(cluster))
        self.assertTrue(errors(cluster, time_limit=61, qos="normal"))


class FaultyAnswersTest(unittest.TestCase):
    """An answer that makes no sense refuses nobody."""

    HUGE = {
        "time_limit": 2**31 - 1,
        "nodes": [2**31 - 1, 2**31 - 1],
        "tasks": 2**31 - 1,
        "cpus_per_task": 65_533,
        "memory_per_node": 2**31 - 1,
        "memory_per_cpu": 2**31 - 1,
        "qos": "x",
    }

    def test_numbers_that_are_absurd_are_no_limits(self) -> None:
        for value in (None, 0, -1, "x", "", [], {}, True, 2**64, 2**32 - 2, -(2**63) + 9, 1e300):
            older = {
                **{"name": "part", "flags": value, "max_time_limit": value, "qos": value},
                **{"maximum_nodes_per_job": value, "min_nodes_per_job": value},
                **{"maximum_cpus_per_node": value, "maximum_memory_per_node": value},
                **{"total_cpus": value, "total_nodes": value, "allowed_accounts": ""},
            }
            number = {"set": True, "infinite": False, "number": value}
            newer = {
                "name": "part",
                "maximums": dict.fromkeys(
                    ("time", "nodes", "cpus_per_node", "partition_memory_per_node"), number
                ),
                "nodes": {"total": value},
                "cpus": {"total": value},
                "qos": {"allowed": "ALL", "deny": None},
            }
            for raw in (older, newer):
                partitions = read_partitions({"partitions": [raw, None, {"name": value}]})
                nodes = read_nodes({"nodes": [{"name": "n", "cpus": value, "real_memory": value}]})
                cluster = ClusterLimits(partitions[:1], nodes, read_qos({"qos": [{}, {"name": 1}]}))
                self.assertEqual((), find_limits(self.HUGE, place, cluster).errors, value)

    @slow
    @given(ANYTHING, ANYTHING, ANYTHING)
    def test_any_answer_is_read(self, one: Any, two: Any, three: Any) -> None:
        names = ("name", "maximums", "qos", "accounts", "partition", "state", "flags", "nodes")
        names += ("alternate",)
        raw = dict.fromkeys(names, one) | {"name": "part"}
        for listed in ([raw], one, [one, two]):
            partitions = read_partitions({"partitions": listed})
            nodes = read_nodes({"nodes": [{"name": "n", "gres": two, "partitions": three}]})
            find_limits(self.HUGE, place, ClusterLimits(partitions, nodes, read_qos({"qos": two})))


class _Client:
    """A client whose cluster answers as it is told to."""

    def __init__(self, limits: ClusterLimits) -> None:
        self.limits: ClusterLimits | None = limits
        self.asked = 0
        self.silent: set[str] = set()
        self.unanswered: list[str] = []

    async def dialect(self) -> Dialect:
        """Speak v0.0.42."""
        return Dialect(42)

    async def partitions(self) -> list:
        """List partitions."""
        self.asked += 1
        return list(self._there.partitions)

    async def nodes(self) -> list:
        """List nodes."""
        await self._hang("nodes")
        return list(self._there.nodes)

    async def qos(self) -> list | None:
        """List qualities of service."""
        await self._hang("qos")
        return None if self._there.qos is None else list(self._there.qos)

    async def _hang(self, question: str) -> None:
        """Give no answer to a question that is to have none."""
        if question in self.silent:
            self.unanswered.append(question)
            await asyncio.Event().wait()

    @property
    def _there(self) -> ClusterLimits:
        if self.limits is None:
            raise ExecutorError("the cluster is away")
        return self.limits


class KnownLimitsTest(unittest.IsolatedAsyncioTestCase):
    """The cluster is asked once in a while."""

    def setUp(self) -> None:
        self.now = 100.0
        self.client = _Client(replace(recorded(42), qos=[SlurmQos("normal")]))
        self.checks = JobChecks(self.client, HpcSettings(), lambda: self.now)
        self.addAsyncCleanup(self.checks.close)

    async def found(self, **settings: Any) -> list[str]:
        """Check one job."""
        unfit = await self.checks.check([JobSpec("1", "job", settings=settings)], 5)
        return list(unfit.errors.get("1", ()))

    def allow(self, minutes: int | None) -> None:
        """Change what all partitions allow."""
        limits = self.client.limits
        partitions = [replace(one, max_minutes=minutes) for one in limits.partitions]
        self.client.limits = replace(limits, partitions=partitions)

    async def test_good_jobs_ask_once_a_minute(self) -> None:
        for _ in range(20):
            self.assertEqual([], await self.found(partition="short", time_limit=60))
            self.now += 2.9
        self.assertEqual(1, self.client.asked)
        self.now += 2.9
        self.assertEqual([], await self.found(partition="short", time_limit=60))
        self.assertEqual(2, self.client.asked)

    async def test_a_limit_that_was_raised_a_moment_ago_refuses_nobody(self) -> None:
        self.assertEqual([], await self.found())
        self.allow(None)
        self.now += 3
        self.assertEqual([], await self.found(partition="short", time_limit=61))
        self.assertEqual(2, self.client.asked)

    async def test_a_cluster_that_is_away_refuses_nobody_and_is_asked_again_soon(self) -> None:
        limits, self.client.limits = self.client.limits, None
        for _ in range(3):
            self.assertEqual([], await self.found(partition="nowhere", time_limit=10**6))
        self.assertEqual(1, self.client.asked)
        self.client.limits = limits
        self.now += 10
        self.assertEqual(1, len(await self.found(partition="short", time_limit=61)))

    async def test_where_slurmrestd_does_not_offer_slurmdbd_a_qos_may_lift_limits(self) -> None:
        self.client.limits = replace(self.client.limits, qos=None)
        job = JobSpec("1", "job", settings={"partition": "short", "time_limit": 61})
        unfit = await self.checks.check([job], 5)
        self.assertEqual({}, dict(unfit.errors))
        self.assertRegex(unfit.warnings["1"][0], "time_limit: .*waits unless its quality of serv")

    async def test_what_is_not_answered_is_asked_again_after_ten_seconds(self) -> None:
        for question in ("qos", "nodes"):
            with self.subTest(question):
                self.setUp()
                self.client.silent = {question}
                job = JobSpec("1", "job", settings={"partition": "nowhere"})
                for _ in range(4):  # each later than the age at which an error is looked into again
                    unfit = await self.checks.check([job], 0.01)
                    self.assertEqual(1, len(unfit.errors["1"]))
                    self.now += 2.4
                self.assertEqual(4, self.client.asked)
                self.assertEqual([question], self.client.unanswered)
                self.client.silent = set()
                self.now += 0.4
                self.assertEqual(1, len(await self.found(partition="nowhere")))
                self.assertEqual(1, len(await self.found(partition="short", time_limit=61)))
                self.assertEqual(1, len(await self.found(memory_per_node=64_001)))

    async def test_jobs_are_checked_while_the_threads_that_all_share_are_busy(self) -> None:
        hold = threading.Event()
        with ThreadPoolExecutor(1) as shared:
            asyncio.get_running_loop().set_default_executor(shared)
            shared.submit(hold.wait)
            try:
                async with asyncio.timeout(1):
                    self.assertEqual(1, len(await self.found(partition="nowhere")))
            finally:
                hold.set()

    async def test_an_old_answer_is_not_used_once_the_cluster_is_away(self) -> None:
        self.assertEqual([], await self.found())
        self.client.limits = None
        self.now += 61
        self.assertEqual([], await self.found(partition="short", time_limit=61))


class DefaultsTest(unittest.IsolatedAsyncioTestCase):
    """Defaults are named by the setting that holds them."""

    async def test_each_default_is_named_by_its_setting(self) -> None:
        hpc = HpcSettings(
            partition="short", time_limit=61, job_defaults={"tasks": 9, "nodes": [2, 2]}
        )
        client = _Client(replace(recorded(42), qos=[SlurmQos("normal")]))
        checks = JobChecks(client, hpc)
        self.addAsyncCleanup(checks.close)
        unfit = await checks.check([JobSpec("1", ""), JobSpec("2", "", settings={"tasks": 10})], 5)
        settings = [text.partition(":")[0] for text in unfit.errors["1"]]
        self.assertEqual(
            ["HPC_TIME_LIMIT", "HPC_JOB_DEFAULTS.nodes", "HPC_JOB_DEFAULTS.tasks"], settings
        )
        settings = [text.partition(":")[0] for text in unfit.errors["2"]]
        self.assertIn("hpc_settings.tasks", settings)
        self.assertIn("HPC_TIME_LIMIT", settings)


if __name__ == "__main__":
    unittest.main()
