"""Cancelling jobs that the executor has not got, or may have got."""

import asyncio
from unittest.mock import patch

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import RunState, Started
from aind_data_transfer_service.jobs import dispatcher
from aind_data_transfer_service.jobs.dispatcher import Handover
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import slow
from tests.support.jobs import a_job
from tests.support.manager import ManagerTest


class UnsentTest(ManagerTest):
    """The executor does not answer, or its answer is lost."""

    async def submit_in_vain(self, **values) -> str:
        """Submit a job to an executor that does not answer."""
        self.executor.silent = "out of order"
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            submission = await self.manager.submit_basic([self.request(**values)])
        self.assertEqual("SUBMITTED", submission.responses[0]["state"])
        return submission.responses[0]["job_id"]

    async def lose_answer(self, specs):
        """Take jobs, or not, and answer nothing."""
        for spec in specs:
            if spec.is_wanted() and self.is_taken:
                await self.start([spec])
        lost = "the answer was lost"
        return [Started(spec.job_id, error=lost, again=True, in_doubt=True) for spec in specs]

    async def submit_in_doubt(self, is_taken: bool) -> str:
        """Submit a job so that nobody knows whether the executor has it, which is silent then."""
        self.is_taken, self.start = is_taken, self.executor.start
        self.executor.start = self.lose_answer
        submission = await self.manager.submit_basic([self.request()])
        self.executor.silent = "out of order"
        self.executor.start = self.start
        return submission.responses[0]["job_id"]

    @slow
    async def test_a_job_that_was_not_sent_is_cancelled_at_once_and_for_good(self):
        job_id = await self.submit_in_vain()
        job = await self.manager.cancel(job_id)
        self.assertEqual((JobState.CANCELLED, True), (job.state, job.cancel_requested))
        self.assertIn("before it was sent", job.reason)
        self.assertIsNotNone(job.ended_at)
        self.executor.silent = ""
        other = await self.submit(subject_id="2")
        self.executor.tell(other, RunState.COMPLETED)
        await self.until(other, JobState.COMPLETED)
        self.assertEqual([other], list(self.executor.specs), "only the other job was ever sent")

    async def test_its_asset_is_free_then_for_others_and_for_a_resubmission(self):
        job_id = await self.submit_in_vain()
        await self.manager.cancel(job_id)
        with self.assertLogs("aind_data_transfer_service", "WARNING"):
            again = await self.manager.resubmit(job_id)
        self.assertEqual([again.id], [one.id for one in self.manager.store.active()])
        self.assertEqual((job_id, JobState.SUBMITTED), (again.resubmit_of, again.state))
        self.assertIn("out of order", again.reason)
        await self.manager.cancel(again.id)
        self.executor.silent = ""
        await self.submit()

    @slow
    async def test_a_job_whose_request_may_be_on_its_way_is_looked_for_and_cancelled_there(self):
        job_id = await self.submit_in_doubt(is_taken=True)
        job = await self.manager.cancel(job_id)
        self.assertEqual((JobState.SUBMITTED, True), (job.state, job.cancel_requested))
        self.executor.silent = ""
        await self.until_true(self._cancelled)
        self.assertEqual([f"ref-{job_id}"], self.executor.cancelled)

    async def _cancelled(self):
        return self.executor.cancelled

    async def test_one_that_the_executor_never_got_is_not_sent_when_it_is_back(self):
        job_id = await self.submit_in_doubt(is_taken=False)
        self.executor.doubtful = {job_id}
        job = await self.manager.cancel(job_id)
        self.assertEqual(JobState.SUBMITTED, job.state)
        self.executor.silent = ""
        await asyncio.wait_for(self.manager._term.monitor.look(), 10)
        self.assertEqual(JobState.SUBMITTED, (await self.manager.get(job_id)).state)
        self.executor.doubtful = set()
        await self.until(job_id, JobState.CANCELLED)
        self.assertEqual({}, self.executor.specs)

    async def test_one_in_doubt_that_nobody_cancels_is_handed_over_again(self):
        job_id = await self.submit_in_doubt(is_taken=False)
        self.executor.silent = ""
        await self.until(job_id, JobState.PENDING)

    @slow
    async def test_a_job_that_waits_for_its_turn_is_cancelled_while_others_are_being_sent(self):
        reached, gate = asyncio.Event(), asyncio.Event()
        start = self.executor.start

        async def slowly(specs):
            first = await start([spec for spec in specs[:1] if spec.is_wanted()])
            reached.set()
            await gate.wait()
            rest = [spec for spec in specs[1:] if spec.is_wanted()]
            unwanted = [spec for spec in specs[1:] if spec not in rest]
            left = [Started(spec.job_id, error="unwanted", again=True) for spec in unwanted]
            return first + await start(rest) + left

        self.executor.start = slowly
        requests = [self.request(subject_id=str(number)) for number in range(1, 4)]
        task = asyncio.create_task(self.manager.submit_basic(requests))
        await reached.wait()
        first, second, third = sorted(self.manager.store.active(), key=lambda job: job.id)
        self.assertEqual(JobState.CANCELLED, (await self.manager.cancel(second.id)).state)
        wish = await self.manager.cancel(first.id)
        self.assertEqual((JobState.SUBMITTED, True), (wish.state, wish.cancel_requested))
        gate.set()
        submission = await task
        states = [response["state"] for response in submission.responses]
        self.assertEqual(["PENDING", "CANCELLED", "PENDING"], states)
        self.assertEqual({first.id, third.id}, set(self.executor.specs))
        await self.until_true(self._cancelled)
        self.assertEqual([f"ref-{first.id}"], self.executor.cancelled)

    async def test_a_wish_while_an_attempt_fails_is_final_when_it_has_failed(self):
        reached, gate = asyncio.Event(), asyncio.Event()

        async def fail(specs):
            self.assertTrue(all(spec.is_wanted() for spec in specs))
            reached.set()
            await gate.wait()
            return [Started(spec.job_id, error="no connection", again=True) for spec in specs]

        self.executor.start = fail
        task = asyncio.create_task(self.manager.submit_basic([self.request()]))
        await reached.wait()
        [job] = self.manager.store.active()
        self.assertEqual(JobState.SUBMITTED, (await self.manager.cancel(job.id)).state)
        gate.set()
        await task
        self.assertEqual(JobState.CANCELLED, (await self.manager.get(job.id)).state)

    @slow
    async def test_a_job_that_a_killed_service_was_sending_is_in_doubt(self):
        job = a_job()
        self.manager.store.add([job])
        self.manager.store.claims.take([job.id], "told")
        self.executor.silent = "out of order"
        self.assertEqual(JobState.SUBMITTED, (await self.manager.cancel(job.id)).state)

    @slow
    async def test_a_job_whose_answer_was_lost_is_in_doubt_after_an_orderly_stop_too(self):
        job_id = await self.submit_in_doubt(is_taken=True)
        told: list[str] = []

        async def note(in_doubt=()):
            told.extend(in_doubt)

        await self.manager.stop()
        self.executor.open = note
        self.manager = self.make()
        await self.manager.start()
        self.assertEqual([job_id], told)

    @slow
    async def test_a_job_of_another_executor_is_neither_sent_nor_looked_for(self):
        job, later = a_job(), a_job()
        self.manager.store.add([job])
        self.manager.store.claims.take([job.id], "slurm")
        self.manager.store.add([later])
        await self.until(later.id, JobState.PENDING)
        self.assertEqual(JobState.SUBMITTED, (await self.manager.get(job.id)).state)


class PiecesTest(ManagerTest):
    """A request of five jobs that is sent in pieces of two."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.enterContext(patch.object(dispatcher, "AT_ONCE", 2))
        self.calls = 0
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.start, self.executor.start = self.executor.start, self.second_waits
        self.fault: Exception | None = None

    async def second_waits(self, specs):
        """Take jobs; the second call waits, and may fail."""
        self.calls += 1
        if self.calls == 2:
            self.reached.set()
            await self.gate.wait()
            if self.fault:
                raise self.fault
        return await self.start([spec for spec in specs if spec.is_wanted()])

    def submit_five(self):
        """Begin to submit jobs."""
        requests = [self.request(subject_id=str(number)) for number in range(1, 6)]
        return asyncio.create_task(self.manager.submit_basic(requests))

    async def test_what_was_sent_is_recorded_and_can_be_cancelled_before_the_rest_is_sent(self):
        task = self.submit_five()
        await asyncio.wait_for(self.reached.wait(), 10)
        jobs = sorted(self.manager.store.active(), key=lambda job: job.id)
        self.assertEqual(["PENDING"] * 2 + ["SUBMITTED"] * 3, [job.state.value for job in jobs])
        await self.manager.cancel(jobs[0].id)
        self.assertEqual([f"ref-{jobs[0].id}"], self.executor.cancelled)
        self.assertEqual(JobState.CANCELLED, (await self.manager.cancel(jobs[4].id)).state)
        self.gate.set()
        states = [response["state"] for response in (await task).responses]
        self.assertEqual(["PENDING"] * 4 + ["CANCELLED"], states)
        self.assertEqual({job.id for job in jobs[:4]}, set(self.executor.specs))

    async def test_a_piece_that_cannot_be_sent_stops_the_rest_for_now(self):
        self.fault = ExecutorError("out of order")
        task = self.submit_five()
        await asyncio.wait_for(self.reached.wait(), 10)
        self.gate.set()
        submission = await task
        states = [response["state"] for response in submission.responses]
        self.assertEqual(["PENDING"] * 2 + ["SUBMITTED"] * 3, states)
        self.assertEqual(("ok", []), (submission.stage, submission.errors))
        [warning] = submission.warnings
        self.assertIn("out of order", warning)
        for response in submission.responses[2:]:
            self.assertIn(response["job_id"], warning)
            await self.until(response["job_id"], JobState.PENDING)


class RaceTest(ManagerTest):
    """A cancellation and a handover that meet, in two processes that share the database."""

    @slow
    async def test_either_the_job_is_sent_or_it_is_cancelled(self):
        url = self.manager.settings.resolved_database_url
        await self.manager.stop()
        other_store = JobStore(url)
        self.addCleanup(other_store.close)
        store = JobStore(url)
        self.addCleanup(store.close)
        ours = Handover(store, self.executor, self.manager.feed)
        theirs = Handover(other_store, self.executor, self.manager.feed)
        both = 0
        for _ in range(30):
            job = a_job()
            store.add([job])
            _, is_final = await asyncio.gather(ours.give([job]), theirs.withdraw(job.id))
            is_sent = job.id in self.executor.specs
            self.assertNotEqual(is_sent, is_final)
            state = store.get(job.id).state
            self.assertEqual(JobState.PENDING if is_sent else JobState.CANCELLED, state)
            both |= 1 << is_sent
        self.assertTrue(both)
