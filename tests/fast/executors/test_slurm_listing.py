"""How much Slurm is asked for: single jobs, changes, or the list of all."""

from dataclasses import replace
from datetime import UTC, datetime

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import EndRecord, RunState
from aind_data_transfer_service.executors.slurm_listing import FEW, Listing
from aind_data_transfer_service.hpc.models import JobList, SlurmJob
from tests.fast.executors.test_slurm import LOST, FakeClient, SlurmTest, a_job

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class CountingClient(FakeClient):
    """A cluster that counts questions, and says where nothing has changed."""

    def __init__(self):
        super().__init__()
        self.single: list[int] = []
        self.asked_since: list[datetime | None] = []
        self.told: list[SlurmJob] | None = None
        self.dates_its_list = True

    async def job(self, job_id):
        self.single.append(job_id)
        return await super().job(job_id)

    async def jobs(self, updated_since=None):
        self.asked_since.append(updated_since)
        found = JobList(await super().jobs())
        found.as_of = NOON if self.dates_its_list else None
        if updated_since is not None and list(found) == self.told:
            unchanged = JobList()
            unchanged.is_unchanged = True
            return unchanged
        self.told = list(found)
        return found


class QuestionsTest(SlurmTest):
    """What the executor asks."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client = CountingClient()
        self.executor = self.make()
        self.now = 0.0
        self.executor._listing = Listing(self.client, clock=lambda: self.now)

    def questions(self) -> tuple[int, int]:
        """Count the lists and the single jobs that were asked for since the last time."""
        counts = self.client.looks, len(self.client.single)
        self.client.looks = 0
        self.client.single.clear()
        return counts

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


class FindTest(SlurmTest):
    """Jobs that were cancelled while their request was on its way."""

    async def find(self, job_id: str):
        [found] = await self.executor.find([job_id])
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
            await self.executor.find(["other"])
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
        logger = "aind_data_transfer_service.executors.slurm"
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
