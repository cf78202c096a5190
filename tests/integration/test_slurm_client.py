"""The client against a real Slurm, in every dialect that it speaks."""

import asyncio
import signal
import tempfile
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    NotExpressible,
    Refused,
    SlurmError,
    Unauthorised,
    Unreachable,
)
from aind_data_transfer_service.slurmrest.tokens import CommandToken, FileToken, FixedToken
from tests.support import slurm
from tests.support.slurm_client_contract import DaemonsContract, a_submission
from tests.support.slurm_faults import Fault, FaultyServer

CLUSTER: slurm.SlurmCluster = None  # type: ignore[assignment]


def setUpModule() -> None:
    """Start the cluster that all tests use."""
    global CLUSTER
    CLUSTER = slurm.start(min_job_age=10)


def tearDownModule() -> None:
    """Stop it."""
    CLUSTER.stop()


class _OnSlurm(unittest.IsolatedAsyncioTestCase):
    endpoint: str | None = None

    @staticmethod
    def cluster_command(*command: str) -> str:
        """Run one of Slurm's own commands."""
        return CLUSTER.run(*command)

    def a_client(self, token=None, url: str = "", **options) -> SlurmClient:
        """Make a client that is closed in the end."""
        client = SlurmClient(
            url or CLUSTER.endpoint,
            CLUSTER.username,
            token or FixedToken(CLUSTER.token()),
            dialect=options.pop("endpoint", self.endpoint),
            **options,
        )
        self.addAsyncCleanup(client.aclose)
        return client

    async def asyncSetUp(self) -> None:
        self.client = self.a_client()


class Newest(DaemonsContract, _OnSlurm):
    """The dialect is found out."""

    async def test_the_newest_dialect_is_chosen(self) -> None:
        self.assertEqual("v0.0.38", str(await self.client.dialect()))

    async def test_a_held_job_is_accepted_and_says_so(self) -> None:
        submitted = await self.client.submit(a_submission("exit 0", hold=True))
        self.assertIn("held", submitted.complaints[0])
        job = await self.client.job(submitted.slurm_id)
        self.assertEqual(("PENDING", "JobHeldUser"), (job.state, job.reason))
        self.assertFalse(job.has_ended)
        await self.client.cancel(submitted.slurm_id)
        self.assertEqual("CANCELLED", (await self.ended(submitted.slurm_id)).state)

    async def test_a_signal_that_ended_a_job_is_told(self) -> None:
        submitted = await self.client.submit(a_submission("kill -9 $$"))
        job = await self.ended(submitted.slurm_id)
        self.assertEqual(("FAILED", None, 9), (job.state, job.exit_code, job.signal))

    async def test_a_requeued_job_has_not_ended(self) -> None:
        submitted = await self.client.submit(a_submission("sleep 60", requeue=True))
        await self.running(submitted.slurm_id)
        await asyncio.to_thread(CLUSTER.run, "scontrol", "requeue", str(submitted.slurm_id))
        job = await self.client.job(submitted.slurm_id)
        self.assertEqual((False, 1), (job.has_ended, job.restarts), job)
        await self.client.cancel(submitted.slurm_id)

    async def test_an_unknown_partition_is_refused_in_words(self) -> None:
        with self.assertRaisesRegex(Refused, "Invalid partition name specified"):
            await self.client.submit(a_submission("exit 0", partition="nope"))

    async def test_that_nothing_has_changed_is_an_empty_list(self) -> None:
        await self.client.submit(a_submission("exit 0"))
        now = datetime.now(UTC)
        self.assertEqual([], await self.client.jobs(now + timedelta(hours=1)))
        self.assertTrue(await self.client.jobs(now - timedelta(hours=1)))

    async def test_a_job_of_long_ago_is_forgotten(self) -> None:
        submitted = await self.client.submit(a_submission("exit 0"))
        await self.ended(submitted.slurm_id)

        async def gone() -> bool:
            return await self.client.job(submitted.slurm_id) is None

        self.patience = 120.0
        await self.until("the job to be forgotten", gone)
        self.assertFalse(await self.client.cancel(submitted.slurm_id))

    async def test_properties_of_every_kind_are_understood(self) -> None:
        given = {
            "account_gather_freqency": "task=30",
            "argv": [],
            "begin_time": "2040-01-01T00:00:00",
            "cluster_constraints": "",
            "deadline": "2041-01-01T00:00:00",
            "exclusive": "true",
            "get_user_environment": True,
            "gres_flags": "disable-binding",
            "kill_on_invalid_dependency": True,
            "mail_type": ["END", "FAIL"],
            "mail_user": "someone@example.org",
            "memory_per_cpu": 100,
            "minimum_nodes": True,
            "nice": 5,
            "no_kill": True,
            "open_mode": "append",
            "priority": 7,
            "signal": "TERM@60",
            "standard_in": "/dev/null",
            "wait_all_nodes": True,
        }
        for endpoint in ("slurm/v0.0.36", "slurm/v0.0.37", "slurm/v0.0.38"):
            client = self.a_client(endpoint=endpoint)
            for name, value in given.items():
                if (name, endpoint[-2:]) == ("priority", "36"):
                    continue  # Slurm itself has it switched off there
                with self.subTest(endpoint=endpoint, name=name):
                    submission = a_submission("exit 0", hold=True, **{name: value})
                    submitted = await client.submit(submission)
                    await client.cancel(submitted.slurm_id)
            with self.assertRaisesRegex(NotExpressible, "argv"):
                await client.submit(a_submission("exit 0", argv=["a"]))


class V36(DaemonsContract, _OnSlurm):
    """The oldest dialect, by name."""

    endpoint = "slurm/v0.0.36"


class V37(DaemonsContract, _OnSlurm):
    """The one between, by name."""

    endpoint = "slurm/v0.0.37"


class Tokens(_OnSlurm):
    """Tokens end."""

    async def test_a_token_that_ended_or_is_of_another_cluster_is_not_accepted(self) -> None:
        good = CLUSTER.token()
        ended = FixedToken(CLUSTER.token(1))
        while ended.expires_at + timedelta(seconds=1) > datetime.now(UTC):
            await asyncio.sleep(0.1)
        for endpoint in ("slurm/v0.0.36", "slurm/v0.0.38"):
            client = self.a_client(ended, endpoint=endpoint)
            asked = (client.jobs, client.ping, client.nodes, lambda: client.job(1))
            asked += (lambda: client.cancel(1), lambda: client.submit(a_submission("exit 0")))
            for ask in asked:
                with self.assertRaisesRegex(Unauthorised, "ended at .* UTC; make a new one"):
                    await ask()
            client = self.a_client(FixedToken("bad"), endpoint=endpoint)
            with self.assertRaisesRegex(Unauthorised, "does not look like one of Slurm's"):
                await client.jobs()
            client = self.a_client(FixedToken(good[:-6] + "abcdef"), endpoint=endpoint)
            with self.assertRaisesRegex(Unreachable, "or it rejects the token"):
                await client.jobs()
            with self.assertRaises(Unreachable):
                await client.job(1)
            with self.assertRaisesRegex(AnswerLost, "or it rejects the token"):
                await client.submit(a_submission("exit 0"))

    async def test_another_users_token_is_recognised(self) -> None:
        made = CLUSTER.run("scontrol", "token", "username=nobody", "lifespan=600")
        token = made.strip().removeprefix("SLURM_JWT=")
        for endpoint in ("slurm/v0.0.36", "slurm/v0.0.37", "slurm/v0.0.38"):
            client = self.a_client(FixedToken(token), endpoint=endpoint)
            for ask in (client.jobs, lambda: client.submit(a_submission("exit 0"))):
                with self.assertRaisesRegex(SlurmError, f'"nobody" and not .*{CLUSTER.username}'):
                    await ask()

    async def test_a_refusal_names_what_was_sent(self) -> None:
        for endpoint in ("slurm/v0.0.36", "slurm/v0.0.37", "slurm/v0.0.38"):
            client = self.a_client(endpoint=endpoint)
            for name, value in (("time_limit", "soon"), ("distribution", "x"), ("licenses", "m:1")):
                with self.assertRaisesRegex(Refused, f'; sent: {name} "{value}"$'):
                    await client.submit(a_submission("exit 0", **{name: value}))

    async def test_a_command_yields_a_fresh_token_when_one_ended(self) -> None:
        command = f"env SLURM_CONF={CLUSTER.conf} scontrol token lifespan=3"
        client = self.a_client(source := CommandToken(command))
        first = await source.current()
        ids = set()
        ends = source.expires_at + timedelta(seconds=2)
        while datetime.now(UTC) < ends:
            ids.add((await client.submit(a_submission("exit 0"))).slurm_id)
            await asyncio.sleep(0.2)
        self.assertNotEqual(first, await source.current())
        self.assertLessEqual(ids, {job.job_id for job in await client.jobs()})

    async def test_a_file_with_a_rejected_token_is_read_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "token"
            good = CLUSTER.token()
            path.write_text(good[:-6] + "abcdef")
            client = self.a_client(FileToken(path))
            with self.assertRaises(Unreachable):
                await client.jobs()
            path.write_text(f"SLURM_JWT={good}\n")
            self.assertIsInstance(await client.jobs(), list)


class Faults(_OnSlurm):
    """What happens when something dies."""

    async def test_a_lost_answer_is_told_and_the_job_is_there(self) -> None:
        for fault in (Fault.CLOSE, Fault.RESET, Fault.CUT, Fault.HANG):
            async with FaultyServer(fault, upstream=CLUSTER.endpoint) as server:
                client = self.a_client(url=server.url, endpoint="slurm/v0.0.38", timeout=1.0)
                with self.assertRaises(AnswerLost):
                    await client.submit(a_submission("exit 0", comment=f"mark:{fault.name}"))
                self.assertEqual(1, len(server.seen))
            marks = [job.comment for job in await self.client.jobs()]
            self.assertEqual(1, marks.count(f"mark:{fault.name}"))

    async def test_slurmrestd_is_not_there_and_comes_back(self) -> None:
        await self.client.jobs()
        await asyncio.to_thread(CLUSTER.kill, "slurmrestd")
        try:
            with self.assertRaisesRegex(Unreachable, "nothing was sent.*HPC_HOST"):
                await self.client.submit(a_submission("exit 0"))
            with self.assertRaises(Unreachable):
                await self.client.jobs()
        finally:
            await asyncio.to_thread(CLUSTER.start_daemon, "slurmrestd")
        self.assertIsInstance(await self.client.jobs(), list)

    async def test_slurmctld_is_not_there_and_no_job_seems_gone(self) -> None:
        submitted = await self.client.submit(a_submission("sleep 30"))
        token = FixedToken(CLUSTER.token())
        await asyncio.to_thread(CLUSTER.kill, "slurmctld", signal.SIGTERM)
        try:
            for endpoint in ("slurm/v0.0.36", "slurm/v0.0.38"):
                client = self.a_client(token, endpoint=endpoint)
                asked = (client.jobs, client.nodes, lambda: client.job(submitted.slurm_id))
                asked += (lambda: client.cancel(submitted.slurm_id), client.ping)
                asked += (lambda: client.submit(a_submission("exit 0")),)
                results = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
                for result in results:
                    self.assertIsInstance(result, Unreachable, endpoint)
        finally:
            await asyncio.to_thread(CLUSTER.start_daemon, "slurmctld")
        job = await self.client.job(submitted.slurm_id)
        self.assertIn(job.state, ("PENDING", "RUNNING"))
        await self.client.cancel(submitted.slurm_id)


if __name__ == "__main__":
    unittest.main()
