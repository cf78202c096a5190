"""What a real slurmrestd says if it is asked for jobs only if something has changed."""

import asyncio
import unittest
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.tokens import FixedToken
from tests.support import slurm, slurm_next
from tests.support.slurm_client_contract import a_submission


class ChangesTest(unittest.IsolatedAsyncioTestCase):
    """A cluster that forgets ended jobs soon, asked in every dialect that can tell of changes."""

    dialects = ("slurm/v0.0.37", "slurm/v0.0.38")
    dates_its_list = False
    patience = 120.0

    @classmethod
    def setUpClass(cls) -> None:
        """Start the cluster."""
        cls.cluster = cls.start_cluster(min_job_age=2)
        cls.addClassCleanup(cls.cluster.stop)

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(**options)

    async def asyncSetUp(self) -> None:
        token = await asyncio.to_thread(self.cluster.token)
        self.clients = [self.a_client(token, dialect) for dialect in self.dialects]

    def a_client(self, token: str, dialect: str) -> SlurmClient:
        """Make a client that is closed in the end."""
        client = SlurmClient(
            self.cluster.endpoint, self.cluster.username, FixedToken(token), dialect=dialect
        )
        self.addAsyncCleanup(client.aclose)
        return client

    async def test_what_is_listed_unchanged_changed_and_purged(self) -> None:
        client = self.clients[-1]
        held = await client.submit(a_submission("exit 0", hold=True))
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        for one in self.clients:
            found = await one.jobs(long_ago)
            self.assertEqual([held.slurm_id], [job.job_id for job in found])
            self.assertEqual((False, self.dates_its_list), (found.is_unchanged, bool(found.as_of)))
        since = await self.quiet()
        await client.cancel(held.slurm_id)
        for one in self.clients:
            found = await one.jobs(since)
            self.assertEqual(["CANCELLED"], [job.state for job in found])
            self.assertFalse(found.is_unchanged)
        since = await self.quiet()
        async with asyncio.timeout(self.patience):  # the only job is forgotten, which is a change
            while (found := await client.jobs(since)) or found.is_unchanged:
                await asyncio.sleep(0.2)
        for one in self.clients:
            found = await one.jobs(since)
            self.assertEqual(([], False), (found, found.is_unchanged))

    async def quiet(self) -> datetime:
        """Wait until every client hears that nothing changed; return since when it counts."""
        async with asyncio.timeout(self.patience):
            while True:
                since = (await self.clients[-1].jobs()).as_of or datetime.now(UTC)
                answers = [await one.jobs(since) for one in self.clients]
                if all(found.is_unchanged for found in answers):
                    self.assertEqual([[]] * len(answers), answers)
                    return since
                await asyncio.sleep(0.2)

    async def test_the_oldest_dialect_lists_all_always(self) -> None:
        oldest = self.a_client(await asyncio.to_thread(self.cluster.token), "slurm/v0.0.36")
        found = await oldest.jobs(datetime.now(UTC) + timedelta(hours=1))
        self.assertFalse(found.is_unchanged)

    async def test_partitions_are_listed(self) -> None:
        for client in self.clients:
            [partition] = await client.partitions()
            self.assertEqual(self.cluster.partition, partition.name)
            self.assertEqual(
                (1, 8, True), (partition.total_nodes, partition.total_cpus, partition.is_up)
            )


class NextChangesTest(ChangesTest):
    """The same on the newer generation."""

    dialects = ("slurm/v0.0.40", "slurm/v0.0.41", "slurm/v0.0.42")
    dates_its_list = True
    test_the_oldest_dialect_lists_all_always = None

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up."""
        return slurm.start(root=slurm_next.provide(), **options)


if __name__ == "__main__":
    unittest.main()
