"""Jobs that the cluster cannot take now, and those of which it complains without refusing them."""

import unittest
from dataclasses import replace

from aind_data_transfer_service.executors.slurm.backoff import Backoff
from aind_data_transfer_service.slurmrest.errors import (
    Busy,
    Refused,
    SlurmComplaint,
    Unauthorised,
    Unconfirmed,
)
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm.test_executor import DOWN, LOST, SlurmTest, a_job

FULL = Busy("the queue is full", (SlurmComplaint(11, "Resource temporarily unavailable"),), 500)
INVALID = Refused(
    "Invalid partition", (SlurmComplaint(2000, "Invalid partition"),), 500, {"errors": ["x"]}
)


def unconfirmed(meaning) -> Unconfirmed:
    """Build the error for an answer of 200 with errors and no ID."""
    return Unconfirmed(meaning, 200, {"errors": [{"error": str(meaning)}]})


class BackoffTest(unittest.TestCase):
    """The delays alone."""

    def setUp(self) -> None:
        self.now = 100.0
        self.backoff = Backoff(1.0, 60.0, clock=lambda: self.now)

    def delay(self) -> float:
        """Return how long the job has to wait, and let that time pass."""
        start = self.now
        while self.backoff.reason("a"):
            self.now += 0.5
        return self.now - start

    def test_the_delay_doubles_up_to_the_longest_and_begins_anew_after_a_success(self) -> None:
        delays = []
        for _ in range(8):
            self.backoff.note_refusal("a", "full")
            self.backoff.note_refusal("b", "full")  # of the same attempt
            delays.append(self.delay())
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60], delays)
        self.backoff.note_success("b")
        self.backoff.note_refusal("a", "full")
        self.assertEqual(1, self.delay())

    def test_only_jobs_that_were_refused_or_held_back_are_delayed(self) -> None:
        self.backoff.note_refusal("a", "full")
        self.backoff.hold("b")
        self.assertEqual(["full", "full", ""], [self.backoff.reason(one) for one in "abc"])
        self.assertFalse(self.backoff.are_due("ab"))
        self.delay()
        self.assertEqual([True, False], [self.backoff.are_due(ids) for ids in ("ab", "c")])
        self.backoff.forget("a")
        self.assertFalse(self.backoff.are_due("a"))


class _Delayed(SlurmTest):
    """An executor whose delays go by a clock of the test."""

    async def asyncSetUp(self):
        self.now = 100.0
        await super().asyncSetUp()
        self.executor = self.make(backoff=self.a_backoff())

    def make(self, **values):
        """Make an executor by the clock of the test."""
        return super().make(**({"clock": lambda: self.now} | values))

    def a_backoff(self) -> Backoff:
        """Make delays by the clock of the test."""
        return Backoff(1.0, 60.0, clock=lambda: self.now)

    async def start(self, *ids: str):
        """Hand jobs over."""
        return await self.executor.start([a_job(job_id) for job_id in ids])


class BusyTest(_Delayed):
    """The cluster cannot take a job now."""

    async def test_a_job_is_sent_again_after_the_delay_and_once(self):
        self.client.faults = [FULL]
        [one] = await self.start("j1")
        self.assertEqual((None, True, False), (one.ref, one.again, one.in_doubt))
        self.assertEqual("the queue is full", one.error)
        looks = self.client.looks
        for _ in range(3):
            [one] = await self.start("j1")
            self.assertTrue(one.again)
        self.assertEqual(([], looks), (self.client.submissions, self.client.looks))
        self.now += 1.0
        self.assertEqual(["101:j1"], await self.begin("j1"))
        self.assertEqual(["101:j1"], await self.begin("j1"))
        self.assertEqual(1, len(self.client.submissions))

    async def test_a_job_that_is_there_all_the_same_is_found_before_it_is_sent_again(self):
        self.client.faults = [FULL]
        await self.start("j1")
        self.client.listed[7] = SlurmJob(7, "RUNNING", comment="aind-data-transfer-service:j1")
        self.now += 1.0
        self.assertEqual(["7:j1"], await self.begin("j1"))
        self.assertEqual([], self.client.submissions)

    async def test_the_rest_of_a_request_is_held_back(self):
        ids = [f"j{number}" for number in range(40)]
        self.client.faults = [None] * 3 + [FULL] * 37
        found = await self.start(*ids)
        self.assertEqual(
            (3, 37), (sum(bool(one.ref) for one in found), sum(one.again for one in found))
        )
        self.assertGreater(len(self.client.faults), 25, "the others are not even tried")
        self.client.faults = []
        await self.start(*ids)
        self.assertEqual(3, len(self.client.submissions))
        self.now += 1.0
        self.assertEqual(40, len(await self.begin(*ids)))
        self.assertEqual(40, len(self.client.submissions))

    async def test_a_job_that_never_fits_does_not_keep_the_others_waiting(self):
        self.executor = self.make(backoff=self.a_backoff(), submissions_at_once=1)
        self.client.faults = [FULL]
        await self.start("large", "j1", "j2")
        self.now, self.client.faults = 101.0, [None, None, FULL]
        found = await self.start("large", "j1", "j2")
        self.assertEqual(["large"], [one.job_id for one in found if one.again])
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_definite_refusal_after_a_delay_is_final(self):
        self.client.faults = [FULL, INVALID]
        await self.start("j1")
        self.now += 1.0
        [one] = await self.start("j1")
        self.assertEqual((None, False), (one.ref, one.again))

    async def test_a_job_whose_answer_was_lost_stays_in_doubt_while_others_are_delayed(self):
        self.client.keep_lost = False
        self.client.faults = [LOST]
        await self.start("j1")
        self.client.faults = [FULL]
        await self.start("j2")
        found = {one.job_id: one for one in await self.start("j1", "j2")}
        self.assertEqual((True, False), (found["j1"].in_doubt, found["j2"].in_doubt))

    async def test_a_job_that_the_controller_lost_is_given_again_when_there_is_room(self):
        [ref] = await self.begin("j1")
        self.client.listed.clear()
        self.client.faults = [FULL]
        with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
            status = await self.status(ref)
        self.assertIn("was lost by the cluster", status.reason)
        self.now += 1.0
        with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
            await self.status(ref)
        self.assertEqual(2, len(self.client.submissions))
        self.assertEqual([102], list(self.client.listed))


class BusyArrayTest(_Delayed):
    """The cluster cannot take an array of shards, or the last job after it, now."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.executor = self.make(backoff=self.a_backoff(), shards=3)
        self.spec = replace(a_job("j1"), script="", request="{}")

    async def start_once(self):
        """Hand the job over."""
        [one] = await self.executor.start([self.spec])
        return one

    async def test_an_array_is_sent_again_after_the_delay(self):
        self.client.faults = [FULL]
        for _ in range(2):
            one = await self.start_once()
            self.assertEqual(("j1", True, False), (one.job_id, one.again, one.in_doubt))
        self.now += 1.0
        self.assertEqual("102:j1", (await self.start_once()).ref)
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_last_job_is_sent_again_and_its_array_is_not(self):
        self.client.faults = [None, FULL]
        one = await self.start_once()
        self.assertEqual((True, True), (one.again, one.in_doubt), "the cluster has the array")
        looks = self.client.looks
        self.assertTrue((await self.start_once()).again)
        self.assertEqual((looks, []), (self.client.looks, self.client.cancelled))
        self.now += 1.0
        self.assertEqual("102:j1", (await self.start_once()).ref)
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_job_whose_array_waits_on_the_cluster_can_be_cancelled(self):
        self.client.faults = [None, FULL]
        await self.start_once()
        await self.executor.find([a_job("j1")])
        self.assertEqual([101], self.client.cancelled)


class UnconfirmedTest(_Delayed):
    """Slurm complains with a status of success, and gives no number."""

    async def complain(self, meaning, is_taken: bool, job_id: str = "j1"):
        """Submit a job of which Slurm complains."""
        submit = self.client.submit

        async def complaining(submission):
            if is_taken:
                await submit(submission)
            raise unconfirmed(meaning)

        self.client.submit = complaining
        try:
            [one] = await self.start(job_id)
        finally:
            self.client.submit = submit
        return one

    async def test_a_job_that_is_listed_was_accepted_whatever_the_complaint(self):
        meanings = [INVALID, FULL, Unauthorised("no"), DOWN]
        for number, meaning in enumerate(meanings, 101):
            one = await self.complain(meaning, True, f"j{number}")
            self.assertEqual((f"{number}:j{number}", None), (one.ref, one.error))
        self.assertEqual(4, len(self.client.submissions))

    async def test_a_job_that_is_not_listed_is_refused_at_once_and_never_runs(self):
        one = await self.complain(INVALID, False)
        self.assertEqual((None, False, False), (one.ref, one.again, one.in_doubt))
        self.assertIn("Invalid partition", one.error)
        self.assertIn("errors", one.answer)
        self.client.listed[9] = SlurmJob(9, "PENDING", comment="aind-data-transfer-service:j1")
        await self.executor.statuses(["1:j0"])
        self.assertEqual([9], self.client.cancelled)

    async def test_a_job_that_is_not_listed_is_delayed_if_the_cluster_is_busy(self):
        one = await self.complain(FULL, False)
        self.assertEqual((True, False), (one.again, one.in_doubt))
        self.now += 1.0
        self.assertEqual(["101:j1"], await self.begin("j1"))

    async def test_while_nobody_can_look_the_job_is_in_doubt(self):
        await self.begin("j0")
        self.client.down = DOWN
        with self.assertLogs("aind_data_transfer_service.executors.slurm.executor", "WARNING"):
            one = await self.complain(INVALID, True)
        self.assertEqual((True, True), (one.again, one.in_doubt))
        self.client.down = None
        self.assertEqual(["102:j1"], await self.begin("j1"))
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_complaint_of_the_connection_leaves_time_for_the_job_to_turn_up(self):
        one = await self.complain(DOWN, False)
        self.assertEqual((True, True), (one.again, one.in_doubt))
        self.client.listed[9] = SlurmJob(9, "PENDING", comment="aind-data-transfer-service:j1")
        self.assertEqual(["9:j1"], await self.begin("j1"))

    async def test_an_array_of_shards_is_found_too(self):
        self.executor = self.make(shards=3)
        await self.executor.open()
        spec = replace(a_job("j1"), script="", request="{}")
        submit = self.client.submit

        async def complaining(submission):
            await submit(submission)
            raise unconfirmed(INVALID)

        self.client.submit = complaining
        [one] = await self.executor.start([spec])
        self.assertEqual("102:j1", one.ref)
        self.assertEqual(2, len(self.client.submissions))


if __name__ == "__main__":
    unittest.main()
