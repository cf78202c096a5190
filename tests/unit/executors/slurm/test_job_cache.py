"""How a long queue is followed: by the states of its jobs, and never by a list of all."""

import json
from dataclasses import replace
from unittest.mock import patch

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm import job_cache
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.executors.slurm.queue import FEW
from aind_data_transfer_service.slurmrest.errors import Unreachable
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm.test_executor import LOST, NOW, a_job
from tests.unit.executors.slurm.test_queue import CountedTest

LONG = 10
MOST_READ = 30


class LongQueueTest(CountedTest):
    """A cluster that lists states, with more jobs than are listed in full."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client.lists_states = True
        self.read: list[int] = []
        self.client.tasks = self.tasks
        self.executor = self.make_long()

    def make_long(self, long_queue: int = LONG, **values) -> SlurmExecutor:
        """Make an executor to which a queue is long from a few jobs on."""
        executor = self.make(clock=lambda: self.now, long_queue=long_queue, **values)
        self.addAsyncCleanup(executor.close)
        return executor

    async def tasks(self, number: int) -> list[SlurmJob]:
        """Show a job or the tasks of an array, and note that it was asked for."""
        self.read.append(number)
        if self.client.down:
            raise self.client.down
        jobs = self.client.listed.values()
        return [job for job in jobs if number in (job.job_id, job.array_job_id)]

    async def begin_many(self, count: int = FEW + 4) -> list[str]:
        """Begin more jobs than are asked for one by one, and have them read."""
        refs = []
        for number in range(1, count + 1):  # one after the other: their numbers are in this order
            [started] = await self.executor.start([a_job(f"j{number}")])
            refs.append(started.ref)
        while len(await self.look(refs)) < count:
            self.now += 60
        self.read.clear()
        self.client.looks = 0
        return refs

    def number(self, ref: str) -> int:
        """Return Slurm's number of a job."""
        return int(ref.partition(":")[0])

    def become(self, ref: str, **values) -> None:
        """Change a job of ours."""
        self.client.become(self.number(ref), **values)

    async def look(self, refs: list[str]) -> dict[str, RunState]:
        """Look at jobs after a while, as the service does."""
        self.now += 5
        found = await self.executor.statuses(refs)
        return {ref: status.state for ref, status in found.items()}

    def others(self, first: int, count: int, **values) -> None:
        """Have others' jobs in the queue."""
        values = {"state": "PENDING", "user": "other"} | values
        for number in range(first, first + count):
            self.client.listed[number] = SlurmJob(number, **values)


class FollowingTest(LongQueueTest):
    """Which jobs are read, and when."""

    async def test_a_short_queue_is_listed(self):
        self.executor = self.make_long(long_queue=1000)
        await self.begin_many()
        self.now += 60
        await self.executor.others(ask=True)
        self.assertEqual((1, []), (self.client.looks, self.read))

    async def test_a_server_that_does_not_list_states_lists_jobs(self):
        self.client.lists_states = False
        await self.begin_many()
        self.now += 60
        await self.executor.others(ask=True)
        self.assertEqual(1, self.client.looks)

    async def test_up_to_500_changes_of_state_are_seen_at_the_next_look_without_a_list(self):
        refs = await self.begin_many()
        for ref in (refs[0], refs[9], refs[19]):
            self.become(ref, state="RUNNING")
        states = await self.look(refs)
        self.assertEqual(3, list(states.values()).count(RunState.RUNNING))
        self.become(refs[4], state="FAILED", exit_code=17)
        found = await self.executor.statuses(refs)
        self.now += 5
        found = await self.executor.statuses(refs)
        self.assertEqual((RunState.FAILED, 17), (found[refs[4]].state, found[refs[4]].exit_code))
        self.assertEqual(0, self.client.looks)

    async def test_a_change_that_leaves_the_state_is_seen_after_a_while(self):
        refs = await self.begin_many(100)
        self.become(refs[24], reason="JobHeldUser")
        self.become(refs[25], restarts=1)
        for _ in range(3):  # at most 10 jobs a second
            self.read.clear()
            await self.look(refs)
            self.assertLessEqual(len(self.read), 5 * 10)
        found = await self.executor.statuses(refs)
        self.assertIn("is held", found[refs[24]].reason)
        self.assertIn("back into the queue", found[refs[25]].reason)
        self.assertEqual(0, self.client.looks)

    async def test_an_ended_job_is_not_read_again(self):
        refs = await self.begin_many()
        for number in list(self.client.listed):
            self.client.become(number, state="CANCELLED")
        await self.look(refs)
        self.read.clear()
        await self.look(refs)
        self.assertEqual([], self.read)

    async def test_a_comment_that_is_changed(self):
        refs = await self.begin_many()
        self.become(refs[0], comment="changed", state="RUNNING")
        self.assertEqual(RunState.RUNNING, (await self.look(refs))[refs[0]])

    async def test_a_job_that_slurm_forgot_ends_by_its_record(self):
        refs = await self.begin_many()
        self.become(refs[0], state="RUNNING")
        await self.look(refs)
        del self.client.listed[self.number(refs[0])]
        (self.folder / "j1.end").write_text(json.dumps({"exit_code": 0}))
        self.assertEqual(RunState.COMPLETED, (await self.look(refs))[refs[0]])
        self.assertEqual(0, self.client.looks)

    async def test_a_queue_that_becomes_short_is_listed_again(self):
        refs = await self.begin_many()
        for ref in refs[:16]:
            del self.client.listed[self.number(ref)]
        states = await self.look(refs[16:])
        self.assertEqual([RunState.PENDING] * 4, list(states.values()))
        self.now += 60
        await self.look(refs[16:])
        self.assertEqual(1, self.client.looks)


class OthersTest(LongQueueTest):
    """Jobs of others in a long queue."""

    async def test_jobs_of_other_users_are_read_once(self):
        refs = await self.begin_many()
        self.others(1000, 50)
        await self.look(refs)
        self.assertEqual(1, self.read.count(1049))
        for number in range(1000, 1050):
            self.client.become(number, state="RUNNING")
        self.read.clear()
        for _ in range(10):
            await self.look(refs)
        self.assertEqual([], [number for number in self.read if number >= 1000])

    async def test_a_job_that_is_not_shown_is_asked_for_as_seldom_as_one_that_is_unchanged(self):
        refs = await self.begin_many()
        states = self.client.states

        async def more() -> dict:
            return await states() | {5000: frozenset({"5000 PENDING"})}

        self.client.states = more
        for _ in range(3):
            await self.look(refs)
        self.assertEqual(3, self.read.count(5000))
        self.assertLessEqual(max(map(self.read.count, self.read)), 3)

    async def test_jobs_in_our_name_that_others_started_are_shown(self):
        refs = await self.begin_many()
        self.others(1000, 3, user="svc", name="by hand")
        await self.look(refs)
        self.assertEqual(3, (await self.executor.others(ask=False)).total)
        self.client.become(1001, state="RUNNING")
        await self.look(refs)
        found = (await self.executor.others(ask=False)).jobs
        self.assertEqual(1, [job.state for job in found].count(RunState.RUNNING))
        del self.client.listed[1002]
        await self.look(refs)
        self.assertEqual(2, (await self.executor.others(ask=False)).total)


class StartTest(LongQueueTest):
    """What happens after a start of the service, before all jobs were read."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        patched = patch.object(job_cache, "MOST_READ", MOST_READ)
        patched.start()
        self.addCleanup(patched.stop)
        self.refs = await self.begin_many(2 * MOST_READ + 10)
        self.executor = self.make_long(settle=0)

    async def test_jobs_that_were_not_read_yet_are_left_out_and_read_little_by_little(self):
        counts, began = [], self.now
        while not counts or counts[-1] < len(self.refs):
            self.read.clear()
            states = await self.look(self.refs)
            self.assertEqual({RunState.PENDING}, set(states.values()))
            self.assertLessEqual(len(self.read), MOST_READ)
            counts.append(len(states))
        self.assertEqual((MOST_READ, 0), (counts[0], self.client.looks))
        self.assertLess(self.now - began, 120)

    async def test_our_own_jobs_are_read_before_others(self):
        self.others(5000, 2 * MOST_READ)
        self.assertEqual(MOST_READ, len(await self.look(self.refs)))
        self.assertLess(max(self.read), 5000)

    async def test_jobs_that_began_or_ended_are_read_before_those_that_wait(self):
        self.become(self.refs[0], state="RUNNING")
        self.become(self.refs[1], state="FAILED", exit_code=1)
        states = await self.look(self.refs)
        self.assertEqual(RunState.RUNNING, states[self.refs[0]])
        self.assertEqual(RunState.FAILED, states[self.refs[1]])

    async def test_a_job_that_does_not_exist_is_lost_once_all_were_read(self):
        refs = [*self.refs, "7:gone"]
        while "7:gone" not in (states := await self.look(refs)):
            self.assertLess(self.now, 2000)
        self.assertEqual((RunState.LOST, len(refs)), (states["7:gone"], len(states)))

    async def test_a_job_in_doubt_is_found_before_it_would_be_sent_again(self):
        await self.executor.open(["j1"])
        await self.look(self.refs)
        [found] = await self.executor.start([a_job("j1")])
        self.assertEqual(self.refs[0], found.ref)
        self.assertEqual(len(self.refs), len(self.client.submissions))
        self.assertEqual(0, self.client.looks)

    async def test_another_process_takes_over_while_jobs_are_read(self):
        tasks = self.client.tasks

        async def suspend_after_some(number: int) -> list[SlurmJob]:
            if len(self.read) == 10:
                await self.executor.suspend()
            return await tasks(number)

        self.client.tasks = suspend_after_some
        self.assertEqual({}, await self.look(self.refs))
        self.assertLess(len(self.read), MOST_READ)
        self.client.tasks = tasks
        self.now += 120
        self.assertEqual(MOST_READ, len(await self.look(self.refs)))

    async def test_what_was_read_before_an_error_is_kept(self):
        tasks = self.client.tasks

        async def fail_after_some(number: int) -> list[SlurmJob]:
            if len(self.read) == 10:
                raise Unreachable("away")
            return await tasks(number)

        self.client.tasks = fail_after_some
        with self.assertRaises(Unreachable):
            await self.look(self.refs)
        self.client.tasks = tasks
        self.now += 120
        self.assertEqual(MOST_READ + 10, len(await self.look(self.refs)))


class LostAnswerTest(LongQueueTest):
    """Jobs of which it is not known whether Slurm took them."""

    async def test_a_lost_answer_is_looked_for_among_the_new_jobs(self):
        refs = await self.begin_many()
        self.now += 300
        await self.look(refs)
        self.read.clear()
        self.client.faults = [LOST]
        [started] = await self.executor.start([a_job("late")])
        self.assertEqual("121:late", started.ref)
        self.assertEqual(([121], 0), (self.read, self.client.looks))

    async def test_a_job_that_the_controller_lost_is_submitted_again(self):
        refs = await self.begin_many()
        del self.client.listed[120]
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            await self.look(refs)
        self.assertEqual(21, len(self.client.submissions))


class ArrayTest(LongQueueTest):
    """Arrays in a long queue."""

    async def test_tasks_are_followed_by_their_own_numbers(self):
        refs = await self.begin_many()
        task = SlurmJob(300, "PENDING", user="svc", array_job_id=300, submitted=NOW)
        self.client.listed[300] = replace(task, array_tasks_left="1-2")
        await self.look(refs)
        self.client.listed[300] = replace(task, state="PENDING", array_tasks_left="2")
        self.client.listed[301] = replace(task, job_id=301, state="RUNNING", array_task_id=1)
        await self.look(refs)
        self.client.become(301, state="COMPLETED")
        await self.look(refs)
        found = (await self.executor.others(ask=False)).jobs
        states = {job.number: job.state for job in found}
        self.assertEqual({300: RunState.PENDING, 301: RunState.COMPLETED}, states)
        del self.client.listed[301]
        await self.look(refs)
        found = (await self.executor.others(ask=False)).jobs
        self.assertEqual([300], [job.number for job in found])
