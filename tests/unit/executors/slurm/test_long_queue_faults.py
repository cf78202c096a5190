"""A long queue while Slurm's controller fails, restarts, or answers wrongly."""

import asyncio
from unittest.mock import patch

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm import job_cache
from aind_data_transfer_service.slurmrest.errors import NotSlurm, Refused, Unreachable
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm.test_executor import LOST, a_job
from tests.unit.executors.slurm.test_job_cache import LongQueueTest

LOGGER = "aind_data_transfer_service.executors"


class NumbersGivenAgainTest(LongQueueTest):
    """A controller that lost others' job 121, and gives its number to ours."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.refs = await self.begin_many()
        self.now += 300
        self.others(121, 1)
        await self.look(self.refs)
        self.read.clear()

    async def assert_followed(self, ref: str) -> None:
        """Check that a job is followed to its end, and was submitted once."""
        refs = [*self.refs, ref]
        self.assertEqual(RunState.PENDING, (await self.look(refs))[ref])
        self.become(ref, state="RUNNING")
        self.assertEqual(RunState.RUNNING, (await self.look(refs))[ref])
        self.assertEqual(21, len(self.client.submissions))

    async def test_a_submission_that_is_answered(self):
        del self.client.listed[121]
        [started] = await self.executor.start([a_job("new")])
        await self.assert_followed(started.ref)

    async def test_an_outage_between_two_looks(self):
        self.client.down = Unreachable("away")
        for _ in range(3):
            with self.assertRaises(Unreachable):
                await self.look(self.refs)
        self.client.down = None
        del self.client.listed[121]
        [started] = await self.executor.start([a_job("new")])
        await self.assert_followed(started.ref)

    async def test_a_submission_whose_answer_is_lost(self):
        for _ in range(3):  # it was not read at the last look
            await self.look(self.refs)
        del self.client.listed[121]
        self.client.faults = [LOST]
        [started] = await self.executor.start([a_job("new")])
        self.assertEqual("121:new", started.ref)
        await self.assert_followed(started.ref)

    async def test_a_number_that_is_given_again_while_it_is_read(self):
        del self.client.listed[121]
        await self.look(self.refs)
        submit, shown, starting = self.client.submit, self.client.tasks, []
        is_sending, may_send = asyncio.Event(), asyncio.Event()

        async def submit_later(submission):
            is_sending.set()
            await may_send.wait()
            return await submit(submission)

        async def tasks(number: int) -> list[SlurmJob]:
            """Answer as the controller did before it died."""
            found = await shown(number)
            if number == 121 and not may_send.is_set():
                del self.client.listed[121]
                may_send.set()
                await starting[0]
            return found

        self.client.submit, self.client.tasks = submit_later, tasks
        starting.append(asyncio.create_task(self.executor.start([a_job("new")])))
        await is_sending.wait()
        self.others(121, 1)
        await self.look(self.refs)
        [started] = await starting[0]
        self.assertEqual(2, self.read.count(121), "the first answer is out of date")
        await self.assert_followed(started.ref)

    async def test_the_number_of_a_job_that_another_process_submitted(self):
        del self.client.listed[121]
        [started] = await self.make_long().start([a_job("new")])
        await self.assert_followed(started.ref)


class NotShownTest(LongQueueTest):
    """Jobs that Slurm does not show, although it lists their states."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.refs = await self.begin_many()
        self.now += 300
        await self.look(self.refs)
        self.hidden: set[int] = set()
        shown = self.client.tasks

        async def tasks(number: int) -> list[SlurmJob]:
            return [] if number in self.hidden else await shown(number)

        self.client.tasks = tasks

    async def test_a_new_job_is_not_shown_for_a_while(self):
        self.hidden = {121}
        [started] = await self.executor.start([a_job("new")])
        refs = [*self.refs, started.ref]
        for _ in range(3):
            self.now += 30
            states = await self.look(refs)
            self.assertNotIn(started.ref, states)
        self.hidden = set()
        self.assertEqual(RunState.PENDING, (await self.look(refs))[started.ref])
        self.assertEqual(21, len(self.client.submissions))

    async def test_a_job_that_is_not_shown_when_its_state_changes_stays_as_it_was(self):
        self.become(self.refs[0], state="RUNNING")
        self.hidden = {101}
        self.assertEqual(RunState.PENDING, (await self.look(self.refs))[self.refs[0]])
        self.hidden = set()
        self.assertEqual(RunState.RUNNING, (await self.look(self.refs))[self.refs[0]])
        self.assertEqual(20, len(self.client.submissions))

    async def test_a_job_whose_answer_was_lost_is_not_shown_for_a_while(self):
        self.executor = self.make_long(settle=10)
        await self.look(self.refs)
        self.hidden = {121}
        self.client.faults = [LOST]
        await self.executor.start([a_job("new")])
        for _ in range(3):
            self.now += 15
            [started] = await self.executor.start([a_job("new")])
            self.assertEqual((None, True), (started.ref, started.in_doubt))
        self.hidden = set()
        [started] = await self.executor.start([a_job("new")])
        self.assertEqual(("121:new", 21), (started.ref, len(self.client.submissions)))

    async def test_jobs_that_are_never_shown_do_not_keep_others_from_being_lost(self):
        self.others(1000, 5)
        self.hidden = set(range(1000, 1005))
        self.become(self.refs[0], state="RUNNING")
        await self.look(self.refs)
        del self.client.listed[101]
        self.assertEqual(RunState.LOST, (await self.look(self.refs))[self.refs[0]])


class ErrorsTest(LongQueueTest):
    """Answers that are errors."""

    async def test_a_job_that_cannot_be_read_does_not_stop_the_others(self):
        for error in (NotSlurm("job 1002: no JSON"), Refused("job 1002: no")):
            with self.subTest(error=error):
                await self.asyncSetUp()
                refs = await self.begin_many()
                self.others(1000, 5)
                shown = self.client.tasks

                async def tasks(number: int) -> list[SlurmJob]:
                    if number == 1002:
                        raise error
                    return await shown(number)

                self.client.tasks = tasks
                with self.assertLogs(LOGGER, "WARNING") as logs:
                    for state in ("RUNNING", "COMPLETED"):
                        self.become(refs[3], state=state)
                        states = await self.look(refs)
                        self.assertEqual(state, states[refs[3]].name)
                self.assertEqual(1, "".join(logs.output).count("1002: no"))
                self.assertIn(1004, self.read)
                self.become(refs[0], state="RUNNING")
                await self.look(refs)
                del self.client.listed[101]
                self.assertNotIn(refs[0], await self.look(refs), "1002 may be the job")
                self.now += 600
                self.assertEqual(RunState.LOST, (await self.look(refs))[refs[0]])

    async def test_jobs_are_listed_where_the_list_of_states_is_refused(self):
        for error in (NotSlurm("states: no JSON"), Refused("states: no")):
            for is_long in (False, True):
                with self.subTest(error=error, is_long=is_long):
                    await self.asyncSetUp()
                    self.executor = self.make_long(long_queue=10 if is_long else 1000)
                    refs = await self.begin_many()
                    states, asked = self.client.states, []

                    async def fail() -> None:
                        asked.append(self.now)
                        raise error

                    self.client.states = fail
                    self.become(refs[0], state="RUNNING")
                    self.now += 120
                    with self.assertLogs(LOGGER, "WARNING"):
                        self.assertEqual(RunState.RUNNING, (await self.look(refs))[refs[0]])
                    self.now += 120
                    await self.look(refs)
                    self.assertEqual(1, len(asked))
                    self.client.states = states
                    self.now += 600
                    self.assertEqual(20, len(await self.look(refs)))


class ForgettingTest(LongQueueTest):
    """A cache that is emptied."""

    async def test_a_job_that_vanished_when_the_queue_became_long(self):
        [started] = await self.executor.start([a_job("j1")])
        self.become(started.ref, state="RUNNING")
        await self.look([started.ref])
        del self.client.listed[101]
        self.others(1000, 30)
        for _ in range(3):
            self.now += 120
            states = await self.look([started.ref])
        self.assertEqual(RunState.LOST, states[started.ref])

    async def test_a_queue_that_becomes_short_while_it_is_read(self):
        refs = await self.begin_many(60)
        for ref in refs:
            self.become(ref, state="RUNNING")
        shown, is_reading, may_answer = self.client.tasks, asyncio.Event(), asyncio.Event()

        async def tasks(number: int) -> list[SlurmJob]:
            is_reading.set()
            await may_answer.wait()
            return await shown(number)

        self.client.tasks = tasks
        looking = asyncio.create_task(self.look(refs))
        await is_reading.wait()
        for number in range(104, 161):
            del self.client.listed[number]
        other = asyncio.create_task(self.executor.others(ask=True))
        await asyncio.sleep(0)
        may_answer.set()
        states = await looking
        await other
        self.assertEqual(60, len(self.client.submissions))
        self.assertEqual([RunState.RUNNING] * 3, [states[ref] for ref in refs[:3]])

    async def test_another_process_takes_over_while_all_jobs_are_read(self):
        refs = await self.begin_many(60)
        for ref in refs:
            self.become(ref, state="RUNNING")
        shown, counted = self.client.tasks, []

        async def tasks(number: int) -> list[SlurmJob]:
            counted.append(number)
            if len(counted) == 20:
                await self.executor.suspend()
            return await shown(number)

        self.client.tasks = tasks
        with patch.object(job_cache, "AT_ONCE", 4):
            self.assertEqual({}, await self.look(refs))
        self.assertLess(len(counted), 30)
        self.assertEqual(60, len(self.client.submissions))
