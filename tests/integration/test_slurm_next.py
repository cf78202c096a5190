"""The client against a real Slurm of the newer generation, in every dialect that it speaks."""

import asyncio
import signal
import unittest
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import Refused, Unauthorised, Unreachable
from aind_data_transfer_service.slurmrest.tokens import FixedToken
from tests.support import slurm, slurm_next
from tests.support.slurm_client_contract import DaemonsContract, a_submission


def setUpModule() -> None:
    """Start the cluster that all tests use."""
    OnSlurm.cluster = slurm.start(root=slurm_next.provide())


def tearDownModule() -> None:
    """Stop it."""
    OnSlurm.cluster.stop()


class OnSlurm(unittest.IsolatedAsyncioTestCase):
    """Has a client of a cluster."""

    cluster: slurm.SlurmCluster
    endpoint: str | None = None

    def cluster_command(self, *command: str) -> str:
        """Run one of Slurm's own commands."""
        return self.cluster.run(*command)

    async def asyncSetUp(self) -> None:
        self.token = await asyncio.to_thread(self.cluster.token)
        self.client = self.a_client(self.token)

    def a_client(
        self, token: str, endpoint: str | None = None, timeout: float = 30.0
    ) -> SlurmClient:
        """Make a client that is closed in the end."""
        client = SlurmClient(
            self.cluster.endpoint,
            self.cluster.username,
            FixedToken(token),
            dialect=endpoint or self.endpoint,
            timeout=timeout,
        )
        self.addAsyncCleanup(client.aclose)
        return client


class Newest(DaemonsContract, OnSlurm):
    """The dialect is found out."""

    async def test_the_newest_dialect_is_chosen(self) -> None:
        self.assertEqual("v0.0.42", str(await self.client.dialect()))

    async def test_a_held_job_waits_and_a_signal_is_told(self) -> None:
        held = await self.client.submit(a_submission("exit 0", hold=True))
        job = await self.client.job(held.slurm_id)
        self.assertEqual(("PENDING", "JobHeldUser"), (job.state, job.reason))
        killed = await self.client.submit(a_submission("kill -9 $$"))
        job = await self.ended(killed.slurm_id)
        self.assertEqual(("FAILED", None, 9), (job.state, job.exit_code, job.signal))

    async def test_an_unknown_partition_is_refused_in_words(self) -> None:
        with self.assertRaisesRegex(Refused, "Invalid partition name specified"):
            await self.client.submit(a_submission("exit 0", partition="nope"))


class V40(DaemonsContract, OnSlurm):
    """The oldest dialect of this generation, by name."""

    endpoint = "slurm/v0.0.40"
    tells_of_the_unknown = False


class V41(DaemonsContract, OnSlurm):
    """The one between, by name."""

    endpoint = "slurm/v0.0.41"
    tells_of_the_unknown = False


class EveryDialect(OnSlurm):
    """What is the same in all of them."""

    ENDPOINTS = ("slurm/v0.0.40", "slurm/v0.0.41", "slurm/v0.0.42")
    away: tuple[type[Exception], ...] = (Unreachable,)
    """What is raised while slurmctld is down."""

    async def test_properties_of_every_kind_are_understood(self) -> None:
        given = {
            "account_gather_freqency": "task=30",
            "argv": ["a"],
            "begin_time": "2040-01-01T00:00:00",
            "deadline": "2041-01-01T00:00:00",
            "exclusive": "true",
            "gres_flags": "disable-binding",
            "kill_on_invalid_dependency": True,
            "mail_type": ["ALL"],
            "mail_user": "someone@example.org",
            "memory_per_node": 100,
            "minimum_nodes": True,
            "nice": 5,
            "no_kill": True,
            "open_mode": "append",
            "priority": 7,
            "signal": "B:TERM@60",
            "spread_job": True,
            "standard_in": "/dev/null",
            "time_minimum": 3,
            "wait_all_nodes": True,
        }
        for endpoint in self.ENDPOINTS:
            client = self.a_client(self.token, endpoint)
            for name, value in given.items():
                with self.subTest(endpoint=endpoint, name=name):
                    submission = a_submission("exit 0", hold=True, **{name: value})
                    submitted = await client.submit(submission)
                    self.assertTrue(await client.cancel(submitted.slurm_id))

    async def test_that_nothing_has_changed_is_an_empty_list(self) -> None:
        await self.client.submit(a_submission("exit 0"))
        now = datetime.now(UTC)
        for endpoint in self.ENDPOINTS:
            client = self.a_client(self.token, endpoint)
            self.assertEqual([], await client.jobs(now + timedelta(hours=1)))
            self.assertTrue(await client.jobs(now - timedelta(hours=1)))

    async def test_states_change_whenever_a_job_begins_or_ends(self) -> None:
        begun = await self.client.submit(a_submission("exec sleep 60"))
        array = await self.client.submit(a_submission("exec sleep 60", array="1-2", hold=True))
        numbers = (begun.slurm_id, array.slurm_id)
        clients = [self.a_client(self.token, endpoint) for endpoint in self.ENDPOINTS]
        await self.reach(numbers, "RUNNING", "PENDING")
        before = []
        for client in clients:
            states = await client.states()
            before.append({number: states[number] for number in numbers})
        self.assertEqual(before[:1] * len(before), before)
        self.assertEqual({f"{begun.slurm_id} RUNNING"}, before[0][begun.slurm_id])
        tasks = {f"{array.slurm_id}_{task} PENDING" for task in (1, 2)}
        self.assertEqual(tasks, before[0][array.slurm_id])
        for number in numbers:
            await self.client.cancel(number)
        await self.reach(numbers, "CANCELLED", "CANCELLED")
        for client in clients:
            after = await client.states()
            for number in numbers:
                self.assertNotEqual(before[0][number], after[number])

    async def reach(self, numbers: Sequence[int], *states: str) -> None:
        """Wait until jobs are in some states and nothing of them is on its way."""
        async with asyncio.timeout(60):
            while True:
                jobs = [(await self.client.tasks(number))[0] for number in numbers]
                if [job.state for job in jobs] == list(states) and not any(
                    job.flags for job in jobs
                ):
                    return
                await asyncio.sleep(0.05)

    async def test_a_token_of_another_cluster_is_not_accepted(self) -> None:
        for endpoint in self.ENDPOINTS:
            client = self.a_client(self.token[:-6] + "abcdef", endpoint)
            asked = (client.jobs, client.states, client.nodes)
            asked += (lambda: client.job(1), lambda: client.cancel(1))
            asked += (lambda: client.submit(a_submission("exit 0")),)
            for ask in asked:
                with self.assertRaises(Unauthorised):
                    await ask()

    async def test_another_users_token_is_recognised(self) -> None:
        made = self.cluster.run("scontrol", "token", "username=nobody", "lifespan=600")
        token = made.strip().removeprefix("SLURM_JWT=")
        for endpoint in self.ENDPOINTS:
            client = self.a_client(token, endpoint)
            for ask in (client.jobs, lambda: client.submit(a_submission("exit 0"))):
                with self.assertRaisesRegex(Unauthorised, '"nobody" and not for HPC_USERNAME'):
                    await ask()

    async def test_a_refusal_names_what_was_sent(self) -> None:
        for endpoint in self.ENDPOINTS:
            client = self.a_client(self.token, endpoint)
            for name, value in (("constraints", "x"), ("licenses", "m:1")):
                with self.assertRaisesRegex(Refused, f'; sent: {name} "{value}"$'):
                    await client.submit(a_submission("exit 0", **{name: value}))

    async def test_slurmctld_is_not_there_and_no_job_seems_gone(self) -> None:
        submitted = await self.client.submit(a_submission("sleep 30"))
        await asyncio.to_thread(self.cluster.kill, "slurmctld", signal.SIGTERM)
        try:
            await asyncio.gather(
                *(self.nobody_answers(endpoint, submitted.slurm_id) for endpoint in self.ENDPOINTS)
            )
        finally:
            await asyncio.to_thread(self.cluster.start_daemon, "slurmctld")
        job = await self.client.job(submitted.slurm_id)
        self.assertIn(job.state, ("PENDING", "RUNNING"))

    async def nobody_answers(self, endpoint: str, job_id: int) -> None:
        """Ask for everything in vain."""
        # slurmrestd waits for its controller in few threads, while other requests queue up.
        client = self.a_client(self.token, endpoint, timeout=120)
        asked = (client.jobs, client.states, client.nodes, lambda: client.job(job_id))
        asked += (lambda: client.cancel(job_id), lambda: client.submit(a_submission("exit 0")))
        results = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
        for result in results:
            self.assertIsInstance(result, self.away, endpoint)
        self.assertFalse(any(controller.up for controller in await client.ping()))


if __name__ == "__main__":
    unittest.main()
