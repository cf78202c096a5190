"""How much Slurm is asked for: single jobs, changes, or the list of all."""

from dataclasses import replace
from datetime import UTC, datetime

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import EndRecord, RunState
from aind_data_transfer_service.executors.slurm.accounting import UNTOLD
from aind_data_transfer_service.executors.slurm.backoff import Backoff
from aind_data_transfer_service.executors.slurm.queue import FEW
from aind_data_transfer_service.slurmrest.errors import Busy, SlurmComplaint, Unreachable
from aind_data_transfer_service.slurmrest.models import JobList, SlurmJob
from tests.unit.executors.slurm.test_executor import LOST, FakeClient, SlurmTest, a_job

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class CountingClient(FakeClient):
    """A cluster that counts questions, and says where nothing has changed."""

    def __init__(self):
        super().__init__()
        self.single: list[int] = []
        self.asked_since: list[datetime | None] = []
        self.told: list[SlurmJob] | None = None
        self.dates_its_list = True
        self.pause = lambda: None
        self.total = 20_000
        self.fails_lists: Exception | None = None

    async def job(self, job_id):
        self.single.append(job_id)
        return await super().job(job_id)

    async def jobs(self, updated_since=None):
        self.asked_since.append(updated_since)
        self.pause()
        if self.fails_lists:
            raise self.fails_lists
        found = JobList(await super().jobs())
        found.total = self.total
        found.as_of = NOON if self.dates_its_list else None
        if updated_since is not None and list(found) == self.told:
            unchanged = JobList()
            unchanged.is_unchanged = True
            return unchanged
        self.told = list(found)
        return found


class CountedTest(SlurmTest):
    """An executor whose questions are counted, with a clock of the test's own."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client = CountingClient()
        self.now = 0.0
        self.executor = self.make(clock=lambda: self.now)

    def questions(self) -> tuple[int, int]:
        """Count the lists and the single jobs that were asked for since the last time."""
        counts = self.client.looks, len(self.client.single)
        self.client.looks = 0
        self.client.single.clear()
        return counts


class QuestionsTest(CountedTest):
    """What the executor asks."""

    async def test_a_few_jobs_are_asked_for_one_by_one_after_one_list(self):
        refs = await self.begin("j1", "j2")
        self.questions()
        await self.executor.statuses(refs)
        self.assertEqual((1, 0), self.questions(), "nothing was sent twice")
        for _ in range(5):
            self.client.become(101, state="RUNNING")
            found = await self.executor.statuses(refs)
        self.assertEqual((0, 10), self.questions())
        self.assertEqual(RunState.RUNNING, found[refs[0]].state)
        self.now += 61
        await self.executor.statuses(refs)
        self.assertEqual((1, 0), self.questions(), "jobs of others are looked at once a minute")

    async def test_a_job_that_slurm_forgot_is_looked_for_in_the_list(self):
        [ref] = await self.begin("j1")
        self.client.become(101, state="COMPLETED")
        await self.status(ref)
        del self.client.listed[101]
        self.questions()
        (self.folder / "j1.end").write_text('{"exit_code": 0}')
        self.assertEqual(RunState.COMPLETED, (await self.status(ref)).state)
        self.assertEqual(1, self.questions()[0])

    async def test_a_number_that_is_now_anothers_is_not_taken_for_ours(self):
        [ref] = await self.begin("j1")
        self.client.become(101, state="RUNNING")
        await self.status(ref)
        others = {"comment": "aind-data-transfer-service:other", "standard_output": "/o.out"}
        others["submitted"] = NOON
        self.client.become(101, state="COMPLETED", standard_error="/o.err", **others)
        (self.folder / "j1.claim").write_text("101")
        status = await self.status(ref)
        self.assertEqual((RunState.FAILED, EndRecord.MISSING), (status.state, status.record))

    async def test_many_jobs_are_asked_for_by_one_list_and_only_if_something_changed(self):
        refs = await self.begin(*(f"j{number}" for number in range(FEW + 1)))
        await self.executor.statuses(refs)
        self.questions()
        self.client.asked_since.clear()
        first = await self.executor.statuses(refs)
        self.assertEqual(([NOON], (1, 0)), (self.client.asked_since, self.questions()))
        self.client.become(101, state="RUNNING")
        found = await self.executor.statuses(refs)
        self.assertEqual((1, 0), self.questions())
        self.assertEqual(RunState.RUNNING, found[refs[0]].state)
        self.assertEqual(RunState.PENDING, first[refs[0]].state)

    async def test_a_job_that_an_unchanged_list_lacks_is_looked_for_in_a_whole_one(self):
        self.executor._has_looked = True
        await self.executor.statuses(["7:j7"])
        self.client.asked_since.clear()
        await self.executor.statuses(["7:j7"])
        self.assertEqual([NOON, None], self.client.asked_since)

    async def test_a_list_without_a_date_is_not_believed_for_ever(self):
        self.client.dates_its_list = False
        refs = await self.begin(*(f"j{number}" for number in range(FEW + 1)))
        await self.executor.statuses(refs)
        self.now += 301
        self.client.asked_since.clear()
        await self.executor.statuses(refs)
        self.assertEqual([None], self.client.asked_since)

    async def test_a_cancellation_asks_only_for_what_it_does_not_know(self):
        refs = await self.begin("j1")
        await self.executor.statuses(refs)
        self.questions()
        await self.executor.cancel(refs[0])
        self.assertEqual((0, 0), self.questions())
        self.assertEqual([101], self.client.cancelled)


class RestingTest(CountedTest):
    """A cluster with thousands of jobs, whose slurmrestd needs two seconds for a list of them."""

    seconds = 2.0

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client.pause = self.pause
        self.client.listed[7] = SlurmJob(7, "RUNNING", comment="of another user")

    def run_job(self, ref: str) -> None:
        """Have a job run."""
        self.client.become(int(ref.partition(":")[0]), state="RUNNING")

    def pause(self) -> None:
        """Have the clock go on while a list is written."""
        self.now += self.seconds

    async def begin_many(self, count: int = FEW + 1, first: int = 1) -> list[str]:
        """Begin more jobs than are asked for one by one."""
        jobs = [a_job(f"j{number}") for number in range(first, first + count)]
        return [one.ref for one in await self.executor.start(jobs)]

    async def begin_listed(self) -> list[str]:
        """Begin jobs, and have them listed: the next rest begins."""
        refs = await self.begin_many()
        self.now += 60
        await self.executor.statuses(refs)
        self.questions()
        return refs


class RestTest(RestingTest):
    """What is asked during a rest."""

    async def test_a_list_is_not_asked_for_again_before_a_rest(self):
        refs = await self.begin_listed()
        for _ in range(4):
            await self.executor.statuses(refs)
            self.assertEqual((0, FEW), self.questions())
            self.now += 12
        self.now += 2
        await self.executor.statuses(refs)
        self.assertEqual((1, 0), self.questions())

    async def test_lists_take_a_small_share_of_the_time_if_jobs_change_all_the_time(self):
        refs = await self.begin_many()
        others = {"comment": "of another user"}
        for self.seconds in (0.1, 4.0):
            self.questions()
            end = self.now + 1800
            while self.now < end:
                self.client.listed[7] = SlurmJob(7, "RUNNING", restarts=int(self.now), **others)
                await self.executor.statuses(refs)
                self.now += 10
            spent = self.questions()[0] * self.seconds
            self.assertTrue(0 < spent < 0.041 * 1800, f"{spent} s for lists of {self.seconds} s")

    async def test_the_rest_is_not_longer_than_two_minutes(self):
        self.seconds, self.client.total = 60.0, 200_000
        refs = await self.begin_listed()
        self.now += 121
        self.questions()
        await self.executor.statuses(refs)
        self.assertEqual(1, self.questions()[0])

    async def test_a_short_list_on_a_busy_machine_needs_no_rest(self):
        self.client.total = 20
        refs = await self.begin_listed()
        self.now += 1
        self.run_job(refs[0])
        found = await self.executor.statuses(refs)
        self.assertEqual(RunState.RUNNING, found[refs[0]].state)

    async def test_jobs_that_were_submitted_during_a_rest_are_asked_for_one_by_one(self):
        refs = await self.begin_listed()
        refs += await self.begin_many(2 * FEW, first=50)
        for number in self.client.listed:
            self.client.become(number, state="RUNNING")
        self.questions()
        counts = []
        for _ in range(3):
            found = await self.executor.statuses(refs)
            states = [status.state for status in found.values()]
            counts.append(states.count(RunState.RUNNING))
            self.assertEqual(len(refs) - counts[-1], states.count(RunState.PENDING))
        self.assertEqual(([FEW, 2 * FEW, 3 * FEW], (0, 3 * FEW)), (counts, self.questions()))

    async def test_a_job_that_slurm_forgot_is_looked_for_in_the_list_at_once(self):
        refs = await self.begin("j1", "j2")
        await self.executor.statuses(refs)
        self.client.become(101, state="COMPLETED")
        await self.executor.statuses(refs)
        del self.client.listed[101]
        (self.folder / "j1.end").write_text('{"exit_code": 0}')
        self.questions()
        for _ in range(2):
            found = await self.executor.statuses(refs)
        self.assertEqual(RunState.COMPLETED, found[refs[0]].state)
        self.assertEqual(1, self.questions()[0])

    async def test_a_few_jobs_are_asked_for_one_by_one_whenever_they_were_submitted(self):
        refs = await self.begin("j1")
        await self.executor.statuses(refs)
        refs += await self.begin("j2")
        self.client.become(102, state="RUNNING")
        self.questions()
        found = await self.executor.statuses(refs)
        self.assertEqual((RunState.RUNNING, (0, 2)), (found[refs[1]].state, self.questions()))

    async def test_a_job_that_is_lost_during_a_rest_is_submitted_again(self):
        refs = await self.begin_listed()
        refs += await self.begin("late")
        self.assertEqual(RunState.PENDING, (await self.executor.statuses(refs))[refs[-1]].state)
        del self.client.listed[max(self.client.listed)]
        self.client.told = None  # a controller that starts again knows no earlier list
        sent = len(self.client.submissions)
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            while len(self.client.submissions) == sent:
                self.now += 10
                self.assertLess(self.now, 200)
                found = await self.executor.statuses(refs)
        self.assertIn("lost by the cluster", found[refs[-1]].reason)
        self.assertEqual(sent + 1, len(self.client.submissions))
        refs[-1] = found[refs[-1]].ref
        self.assertIn("waits", (await self.executor.statuses(refs))[refs[-1]].reason)
        self.assertEqual(sent + 1, len(self.client.submissions))

    async def test_an_end_that_slurmdbd_does_not_tell_yet_needs_no_lists(self):
        refs = await self.begin_listed()
        self.client.past = Unreachable("slurmdbd is away")
        self.executor._fresh.clear()
        self.now += 60
        del self.client.listed[int(refs[0].partition(":")[0])]
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            found = await self.executor.statuses(refs)
        self.assertEqual(UNTOLD, found[refs[0]].reason)
        self.questions()
        found = await self.executor.statuses(refs)
        self.assertEqual((UNTOLD, (0, FEW)), (found[refs[0]].reason, self.questions()))

    async def test_a_cluster_that_does_not_answer_is_noticed_during_a_rest(self):
        refs = await self.begin_listed()
        self.client.down = Unreachable("away")
        with self.assertRaises(Unreachable):
            await self.executor.statuses(refs)

    async def test_another_process_is_not_answered_for_by_what_was_listed_before(self):
        refs = await self.begin_listed()
        await self.executor.suspend()
        self.run_job(refs[0])
        await self.executor.open()
        self.assertEqual(RunState.RUNNING, (await self.executor.statuses(refs))[refs[0]].state)


class ExpensiveTest(RestingTest):
    """How much of slurmrestd's time lists take where they fail, or where Slurm refuses jobs."""

    async def test_a_list_that_fails_late_causes_a_rest(self):
        refs = await self.begin_listed()
        self.seconds, failed = 30.0, 0
        for _ in range(100):
            self.now += 10
            self.client.fails_lists = Unreachable("time-out")
            try:
                await self.executor.statuses(refs)
            except Unreachable:
                failed += 1
        self.assertTrue(5 <= failed <= 11, failed)

    async def test_a_list_that_fails_at_once_causes_none(self):
        refs = await self.begin_listed()
        self.now += 60
        self.seconds, self.client.fails_lists = 0.0, Unreachable("connection refused")
        with self.assertRaises(Unreachable):
            await self.executor.statuses(refs)
        self.client.fails_lists = None
        self.client.told = None
        self.questions()
        await self.executor.statuses(refs)
        self.assertEqual(1, self.questions()[0])

    async def test_refused_jobs_are_sent_again_after_the_rest(self):
        full = Busy("the queue is full", (SlurmComplaint(11, "full"),), 500)
        backoff = Backoff(1.0, 60.0, clock=lambda: self.now)
        self.executor = self.make(clock=lambda: self.now, backoff=backoff)
        self.client.faults = [full] * 1000
        began, spent = self.now, 0.0
        while self.now < began + 600:
            [one] = await self.executor.start([a_job("j1")])
            self.assertTrue(one.again)
            spent += self.questions()[0] * self.seconds
            self.client.listed[7] = SlurmJob(7, "RUNNING", restarts=int(self.now))
            self.now += 1
        self.assertTrue(0 < spent <= 26, spent)
        self.client.faults = []
        self.now += 60
        await self.begin("j1")


class RotationTest(RestingTest):
    """Jobs that are asked for one by one, some at each look, while the list rests."""

    async def looks_until(self, refs, which: int, state: RunState) -> int:
        """Count the looks until a job is told to be in a state; no list may be among them."""
        for count in range(1, 100):
            if (await self.executor.statuses(refs))[refs[which]].state is state:
                self.assertEqual(0, self.questions()[0])
                return count
            self.now += 1
        return 0

    async def test_a_change_of_any_of_a_few_dozen_jobs_is_seen_within_a_few_looks(self):
        for count, most in ((FEW + 1, 2), (3 * FEW, 3)):
            for which in (0, count // 2, count - 1):
                with self.subTest(count=count, which=which):
                    await self.asyncSetUp()
                    refs = await self.begin_many(count)
                    self.now += 60
                    await self.executor.statuses(refs)
                    await self.executor.statuses(refs)
                    self.run_job(refs[which])
                    self.questions()
                    looks = await self.looks_until(refs, which, RunState.RUNNING)
                    self.assertTrue(1 <= looks <= most, looks)

    async def test_a_job_with_news_is_asked_for_at_the_next_look(self):
        refs = await self.begin_many(10 * FEW)
        self.now += 60
        await self.executor.statuses(refs)
        for which in (0, 80, 159):
            self.questions()
            self.run_job(refs[which])
            self.executor.put_first({f"j{which + 1}"})
            self.assertEqual(1, await self.looks_until(refs, which, RunState.RUNNING))

    async def test_jobs_with_news_leave_room_for_others(self):
        refs = await self.begin_many(2 * FEW)
        self.now += 60
        await self.executor.statuses(refs)
        self.executor.put_first({f"j{number}" for number in range(1, FEW + 5)})
        self.run_job(refs[-1])
        self.questions()
        looks = await self.looks_until(refs, -1, RunState.RUNNING)
        self.assertTrue(1 <= looks <= 4, looks)

    async def test_an_ended_job_is_not_asked_for_again(self):
        refs = await self.begin_listed()
        for number in range(101, 101 + FEW + 1):
            self.client.become(number, state="CANCELLED")
        for _ in range(2):
            await self.executor.statuses(refs)
        self.questions()
        await self.executor.statuses(refs)
        self.assertEqual((0, 0), self.questions())

    async def test_a_job_that_cannot_be_told_by_its_number_does_not_cause_lists(self):
        refs = await self.begin_listed()
        shown = self.client.job

        async def show(number):
            job = await shown(number)
            return replace(job, comment="", standard_output="/x", submitted=None, user_id=7)

        self.client.job = show
        await self.executor.statuses(refs)
        self.questions()
        for _ in range(3):
            self.client.told = None
            await self.executor.statuses(refs)
        self.assertLessEqual(self.questions()[0], 1)


class CutTest(RestingTest):
    """Jobs that are cut into shards, while the list rests."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.executor = self.make(clock=lambda: self.now, shards=2)

    def run_task(self, array: int, task: int, state: str) -> None:
        """Have a shard of an array be in a state."""
        whole = self.client.listed[array]
        own = {"job_id": 1000 + task, "array_job_id": array, "array_task_id": task}
        self.client.listed[1000 + task] = replace(whole, state=state, array_tasks_left="", **own)

    async def test_its_shards_and_its_last_job_are_asked_for_by_their_numbers(self):
        for is_listed in (True, False):
            with self.subTest(is_listed=is_listed):
                await self.asyncSetUp()
                await self.executor.find([a_job("other")])  # a rest begins
                refs = await self.begin("j1")
                self.now += 60 if is_listed else 0
                await self.executor.statuses(refs)
                self.questions()
                for task in (1, 2):
                    self.run_task(101, task, "RUNNING")
                del self.client.listed[101]
                found = await self.executor.statuses(refs)
                self.assertEqual(RunState.RUNNING, found[refs[0]].state, found)
                self.assertEqual("0 of 2 shards done, 2 running", found[refs[0]].reason)
                for task in (1, 2):
                    self.run_task_over(task)
                self.client.become(102, state="RUNNING")
                await self.executor.statuses(refs)
                self.assertEqual((0, 2), self.questions())

    def run_task_over(self, task: int) -> None:
        """Have a shard end."""
        self.client.become(1000 + task, state="COMPLETED")

    async def test_the_end_of_the_last_job_of_many_is_seen(self):
        refs = await self.begin(*(f"j{number}" for number in range(1, FEW + 2)))
        self.now += 60
        await self.executor.statuses(refs)
        self.questions()
        self.client.become(101, state="CANCELLED")
        self.client.become(102, state="CANCELLED")
        for _ in range(2):
            found = await self.executor.statuses(refs)
        self.assertEqual(RunState.CANCELLED, found[refs[0]].state)
        self.assertEqual(0, self.questions()[0])


class PurgedTest(RestingTest):
    """A cluster that forgets ended jobs after a while, whose list takes five seconds."""

    seconds = 5.0
    min_job_age = 90.0

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.ended: dict[int, float] = {}

    async def look(self, refs):
        """Look once, ten seconds after the last look, and have Slurm forget what ended."""
        for number in [one for one, end in self.ended.items() if self.now >= end]:
            del self.ended[number], self.client.listed[number]
        self.now += 10
        return await self.executor.statuses(refs)

    def cancel_on_cluster(self, ref: str) -> None:
        """Cancel a job as with `scancel`."""
        number = int(ref.partition(":")[0])
        self.client.become(number, state="CANCELLED")
        self.ended[number] = self.now + self.min_job_age

    async def test_a_job_that_was_cancelled_on_the_cluster_is_not_submitted_again(self):
        for count in (FEW + 2, 12 * FEW):
            for delay in (1, 3):
                with self.subTest(count=count, delay=delay):
                    await self.asyncSetUp()
                    refs = await self.begin_many(count)
                    for _ in range(delay):
                        await self.look(refs)
                    self.cancel_on_cluster(refs[0])
                    states = set()
                    for _ in range(20):
                        states.add((await self.look(refs))[refs[0]].state)
                    self.assertEqual(count, len(self.client.submissions))
                    seen = {RunState.CANCELLED} if count < 3 * FEW else states - {RunState.PENDING}
                    self.assertTrue(seen <= states, states)
                    self.assertNotIn(RunState.RUNNING, states)


class FindTest(SlurmTest):
    """Jobs that were cancelled while their request was on its way."""

    async def find(self, job_id: str):
        [found] = await self.executor.find([a_job(job_id)])
        return found

    async def test_one_that_slurm_took_comes_with_its_reference(self):
        self.client.faults = [LOST]
        await self.executor.start([a_job("j1")])
        self.executor = self.make()
        self.assertEqual("101:j1", (await self.find("j1")).ref)

    async def test_one_that_never_arrived_is_in_doubt_until_it_cannot_turn_up(self):
        self.executor = self.make(settle=60)
        self.assertTrue((await self.find("j1")).in_doubt)
        self.executor = self.make(settle=0)
        found = await self.find("j1")
        self.assertEqual((None, False), (found.ref, found.in_doubt))
        self.assertEqual([], self.client.submissions)

    async def test_one_that_turns_up_all_the_same_is_cancelled(self):
        self.executor = self.make(settle=0)
        await self.find("j1")
        comment = "aind-data-transfer-service:j1"
        self.client.listed[500] = SlurmJob(500, "RUNNING", comment=comment)
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            await self.executor.find([a_job("other")])
        self.assertEqual([500], self.client.cancelled)

    async def test_shards_without_a_last_job_are_cancelled(self):
        self.executor = self.make(settle=0, shards=3)
        self.client.faults = [None, LOST]
        self.client.keep_lost = False
        [started] = await self.executor.start([a_job("j1")])
        self.assertTrue(started.in_doubt)
        with self.assertLogs("aind_data_transfer_service.executors", "WARNING"):
            self.assertTrue((await self.find("j1")).in_doubt)
        self.assertEqual([101], self.client.cancelled)
        self.assertFalse((await self.find("j1")).in_doubt)

    async def test_one_that_nobody_wants_any_more_is_not_sent(self):
        unwanted = replace(a_job("j1"), is_wanted=lambda: False)
        [started] = await self.executor.start([unwanted])
        self.assertEqual((True, False), (started.again, started.in_doubt))
        self.assertEqual([], self.client.submissions)


class ArrayTroubleTest(SlurmTest):
    """An array that cannot be looked after."""

    async def test_it_is_said_once_until_it_can_be_again(self):
        self.executor = self.make(shards=2)
        [ref] = await self.begin("j1")
        logger = "aind_data_transfer_service.executors.slurm.executor"
        mind = self.executor._arrays.mind

        async def fail(*arguments):
            raise ExecutorError("the drive hangs")

        self.executor._arrays.mind = fail
        with self.assertLogs(logger, "WARNING") as logs:
            for _ in range(3):
                await self.executor.statuses([ref])
        self.assertEqual(1, len(logs.records))
        self.executor._arrays.mind = mind
        await self.executor.statuses([ref])
        self.executor._arrays.mind = fail
        with self.assertLogs(logger, "WARNING") as logs:
            await self.executor.statuses([ref])
        self.assertEqual(1, len(logs.records))
