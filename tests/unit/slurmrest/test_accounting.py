"""What slurmdbd tells of jobs, as real ones of Slurm 22.05 and 24.11 wrote it."""

import json
import unittest
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from aind_data_transfer_service.slurmrest.accounting import PastDialect, read_past_jobs
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import Refused, Unreachable
from aind_data_transfer_service.slurmrest.tokens import FixedToken
from tests.support.slurm_faults import FaultyServer, Reply
from tests.unit.slurmrest.builders import a_jwt

RECORDED = sorted((Path(__file__).parent / "recorded").glob("past_*.json"))


class Reading(unittest.TestCase):
    """From what is answered to the internal form."""

    def test_ends_are_read_in_every_dialect(self) -> None:
        self.assertEqual(4, len(RECORDED))
        for path in RECORDED:
            with self.subTest(path.stem):
                done, failed, killed = read_past_jobs(json.loads(path.read_text()))
                self.assertEqual(("COMPLETED", 0, None), (done.state, done.exit_code, done.signal))
                self.assertEqual(("FAILED", None), (failed.state, failed.signal))
                self.assertIn(failed.exit_code, (17, None), "22.05 does not keep it")
                self.assertEqual(
                    ("FAILED", None, 9), (killed.state, killed.exit_code, killed.signal)
                )
                for number, job in enumerate((done, failed, killed), start=1):
                    self.assertEqual(
                        (number, "a job", "a mark"), (job.job_id, job.name, job.comment)
                    )
                    self.assertEqual(("node1", "", True), (job.nodes, job.reason, job.has_ended))
                    self.assertLessEqual(job.submitted, job.ended)
                    self.assertEqual({50}, {job.memory_per_cpu_mb, job.memory_per_node_mb} - {None})

    def test_memory_for_each_cpu_is_told_apart_by_its_mark(self) -> None:
        [job] = read_past_jobs({"jobs": [{"job_id": 1, "required": {"memory": 2**63 + 50}}]})
        self.assertEqual((50, None), (job.memory_per_cpu_mb, job.memory_per_node_mb))

    def test_what_is_no_job_is_left_out(self) -> None:
        self.assertEqual([], read_past_jobs({"jobs": [{}, 3, {"job_id": 0}]}))
        self.assertEqual([], read_past_jobs({"jobs": None}))


class Asking(unittest.IsolatedAsyncioTestCase):
    """Which way it is asked for."""

    NOTHING = {"errors": [{"error_number": 9003, "error": "Nothing found with query"}]}

    def a_client(self, server: FaultyServer) -> SlurmClient:
        """Make a client that is closed in the end."""
        client = SlurmClient(server.url, "someone", FixedToken(a_jwt()))
        self.addAsyncCleanup(client.aclose)
        return client

    @staticmethod
    def offering(*paths: str) -> Reply:
        """Answer with the paths that there are."""
        return Reply(body={"paths": dict.fromkeys(paths, {})})

    def test_the_newest_that_is_known_is_chosen(self) -> None:
        paths = [f"/slurmdb/v0.0.{version}/jobs/" for version in (40, 45, 47, 46)]
        self.assertEqual(PastDialect(45, paths[1]), PastDialect.among(paths))
        self.assertEqual(PastDialect(46, paths[3]), PastDialect.among(paths[2:]))
        self.assertIsNone(PastDialect.among(["/slurm/v0.0.38/jobs", "/slurmdb/v0.0.35/jobs"]))

    def test_each_generation_is_asked_in_its_way(self) -> None:
        old, new = PastDialect(38, "/slurmdb/v0.0.38/jobs"), PastDialect(
            42, "/slurmdb/v0.0.42/jobs/"
        )
        self.assertIn(("step", "3,4"), old.query([3, 4]))
        self.assertLessEqual({("step", "3"), ("step", "4")}, set(new.query([3, 4])))

    async def test_a_cluster_that_offers_none_is_asked_once_what_it_offers(self) -> None:
        async with FaultyServer(self.offering("/slurm/v0.0.38/job/submit")) as server:
            client = self.a_client(server)
            for _ in range(3):
                self.assertIsNone(await client.past_jobs([1]))
            self.assertEqual(["/openapi/v3"], [seen.path for seen in server.seen])

    async def test_many_jobs_are_asked_for_together(self) -> None:
        nothing = Reply(body=self.NOTHING)
        async with FaultyServer(self.offering("/slurmdb/v0.0.38/jobs"), nothing, nothing) as server:
            self.assertEqual([], await self.a_client(server).past_jobs(range(1, 302)))
            self.assertEqual(3, len(server.seen))

    async def test_jobs_without_a_number_are_asked_for_by_time_and_name(self) -> None:
        since = datetime.fromtimestamp(1796075286.9, UTC)
        row = {"job_id": 5, "name": "a, b", "state": {"current": "RUNNING"}}
        for path in ("/slurmdb/v0.0.38/jobs", "/slurmdb/v0.0.42/jobs/"):
            for name, filters in (("a_b-1.c", ["a_b-1.c"]), ("a, b", [])):
                replies = [self.offering(path), Reply(body={"jobs": [row]})]
                async with FaultyServer(*replies) as server:
                    found = await self.a_client(server).past_jobs_since(since, name)
                    asked = parse_qs(urlsplit(server.seen[-1].path).query)
                self.assertEqual([5], [job.job_id for job in found])
                self.assertEqual(["uts1796075286"], asked["start_time"])
                self.assertEqual(filters, asked.get("job_name", []))

    async def test_a_cluster_without_slurmdbd_has_no_jobs_since_a_time(self) -> None:
        now = datetime.now(UTC)
        async with FaultyServer(self.offering("/slurm/v0.0.38/job/submit")) as server:
            self.assertIsNone(await self.a_client(server).past_jobs_since(now, "x"))
        nothing = Reply(body=self.NOTHING)
        async with FaultyServer(self.offering("/slurmdb/v0.0.38/jobs"), nothing) as server:
            self.assertEqual([], await self.a_client(server).past_jobs_since(now, "x"))

    async def test_a_slurmdbd_that_is_away_and_another_complaint_are_told_apart(self) -> None:
        for number, error in ((7000, Unreachable), (9000, Refused)):
            wrong = Reply(body={"errors": [{"error_number": number, "error": "wrong"}]})
            async with FaultyServer(self.offering("/slurmdb/v0.0.38/jobs"), wrong) as server:
                with self.assertRaises(error):
                    await self.a_client(server).past_jobs([1])


if __name__ == "__main__":
    unittest.main()
