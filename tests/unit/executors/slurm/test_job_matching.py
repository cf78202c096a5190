"""Our jobs are recognised, and no others, whatever becomes of their comments and numbers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.slurmrest.models import SlurmJob
from tests.unit.executors.slurm.test_executor import LOST, FakeClient, SlurmTest, a_job

MARK = "aind-data-transfer-service:"
CHANGED = {"comment": "do not touch"}


class RewritingClient(FakeClient):
    """A cluster whose job submit plugin rewrites jobs, and which tells users and names."""

    def __init__(self):
        super().__init__()
        self.rewrites: dict = {}

    async def submit(self, submission):
        try:
            return await super().submit(submission)
        finally:
            number = len(self.submissions) + 100
            if number in self.listed:
                told = {"name": submission.properties["name"], "user": "svc", "user_id": 7}
                told["submitted"] = datetime.now(UTC).replace(microsecond=0)
                self.become(number, **(told | self.rewrites))


class IdentityTest(SlurmTest):
    """A cluster on which jobs are changed after they were submitted, or while they are."""

    def setUp(self):
        logger = "aind_data_transfer_service.executors"
        self.enterContext(self.assertNoLogs(logger, "ERROR"))

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.client = RewritingClient()
        self.executor = self.make()
        self.own = {
            "standard_out": f"{self.folder}/mine-%j.out",
            "standard_error": f"{self.folder}/mine-%j.err",
        }

    async def begin_with(self, job_id: str = "j1", **settings) -> str:
        """Start a job with properties of its own."""
        [started] = await self.executor.start([a_job(job_id, settings=settings)])
        self.assertIsNone(started.error)
        return started.ref

    async def assert_state(self, ref: str, state: RunState = RunState.RUNNING) -> str:
        """Ask for a job, and return the reference under which it is recorded then."""
        found = await self.status(ref)
        self.assertEqual(state, found.state, found)
        return found.ref

    async def test_a_comment_that_was_changed(self):
        for settings in ({}, self.own):
            with self.subTest(settings=settings):
                ref = await self.begin_with(f"j{len(settings)}", **settings)
                number = int(ref.partition(":")[0])
                ref = await self.assert_state(ref, RunState.PENDING)
                self.client.become(number, state="RUNNING", **CHANGED)
                ref = await self.assert_state(ref)
                self.client.become(number, name="another name")
                ref = await self.assert_state(ref)
                self.executor = self.make()
                await self.assert_state(ref)
                await self.executor.cancel(ref)
                self.assertIn(number, self.client.cancelled)

    async def test_a_plugin_that_rewrites_every_job(self):
        self.client.rewrites = CHANGED | {"name": "site job"}
        refs = [await self.begin_with("j1"), await self.begin_with("j2", **self.own)]
        for _ in range(2):
            refs = [await self.assert_state(ref, RunState.PENDING) for ref in refs]
            self.assertEqual(0, (await self.executor.others(ask=True)).total)
            self.executor = self.make(settle=0)
        found = await self.executor.start([a_job("j1")])
        self.assertEqual(["101:j1"], [one.ref for one in found])
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_lost_answer_about_a_job_that_a_plugin_rewrites(self):
        self.client.rewrites = CHANGED
        for settings in ({}, self.own):
            with self.subTest(settings=settings):
                spec = a_job(f"j{len(settings)}", settings=settings)
                self.executor = self.make(settle=0)
                self.client.faults = [LOST]
                for _ in range(2):
                    [started] = await self.executor.start([spec])
                    self.assertEqual(
                        f"{100 + len(self.client.submissions)}:{spec.job_id}", started.ref
                    )
        self.assertEqual(2, len(self.client.submissions))

    async def test_a_lost_answer_and_a_service_that_starts_again(self):
        self.client.rewrites = CHANGED
        recorded_at = datetime.now(UTC)
        for number, settings in enumerate(({}, self.own), 101):
            spec = a_job(f"j{number}", settings=settings, recorded_at=recorded_at)
            self.executor = self.make()
            self.client.faults, self.client.down = [LOST], None
            await self.executor.start([spec])
            self.executor = self.make(settle=0)
            await self.executor.open([spec.job_id])
            [started] = await self.executor.start([spec])
            self.assertEqual(f"{number}:j{number}", started.ref)
        self.assertEqual(2, len(self.client.submissions))

    async def test_an_older_job_of_the_same_name_is_not_taken_for_one_in_doubt(self):
        self.client.rewrites = CHANGED
        await self.begin_with("j1", **self.own)
        old = datetime.now(UTC) - timedelta(days=1)
        self.client.become(101, name="job j2", submitted=old)
        self.executor = self.make(settle=0)
        await self.executor.open(["j2"])
        spec = a_job("j2", settings=self.own, recorded_at=datetime.now(UTC))
        [started] = await self.executor.start([spec])
        self.assertEqual("102:j2", started.ref)

    async def test_a_number_that_was_given_to_another_job(self):
        for settings in ({}, self.own):
            for seen in (True, False):
                with self.subTest(settings=settings, seen=seen):
                    await self.assert_number_is_anothers(settings, seen)

    async def assert_number_is_anothers(self, settings: dict, seen: bool) -> None:
        """Give the number of a job of ours to one of our user that is not ours."""
        self.client = RewritingClient()
        self.executor = self.make()
        ref = await self.begin_with("j1", **settings)
        if seen:
            self.client.become(101, state="RUNNING")
            ref = await self.assert_state(ref)
        later = datetime.now(UTC) + timedelta(hours=seen)
        self.client.listed[101] = SlurmJob(
            101, "RUNNING", name="by hand", user="svc", submitted=later, standard_output="/x.out"
        )
        for restarted in (False, True) if seen else (False,):
            if restarted:
                self.executor = self.make()
            self.executor._fresh.clear()
            if seen:
                await self.assert_state(ref, RunState.LOST)
                await self.executor.cancel(ref)
            else:
                await self.assert_is_unclear(ref)
        self.assertEqual([], self.client.cancelled)
        self.assertEqual(1, (await self.executor.others(ask=True)).total)

    async def assert_is_unclear(self, ref: str, state: RunState = RunState.RUNNING) -> None:
        """Ask for a job of which Slurm lists the number alone: it is neither lost nor cancelled."""
        found = await self.status(ref)
        self.assertEqual((ref, state), (found.ref, found.state))
        self.assertIn("it is not submitted again", found.reason)
        with self.assertRaisesRegex(ExecutorError, "it is not cancelled"):
            await self.executor.cancel(ref)

    async def test_a_job_is_not_sent_again_while_its_number_is_listed(self):
        ref = await self.begin_with("j1")
        self.client.listed[101] = SlurmJob(
            101, "RUNNING", name="by hand", user="svc", submitted=datetime.now(UTC)
        )
        for _ in range(3):
            await self.assert_state(ref)
        await self.assert_is_unclear(ref)
        self.assertEqual(1, len(self.client.submissions))
        self.assertEqual([], self.client.cancelled)

    async def test_a_plugin_that_rewrites_everything_has_no_job_sent_again(self):
        paths = {"standard_output": "/site/101.out", "standard_error": "/site/101.err"}
        self.client.rewrites = CHANGED | paths | {"name": "site job"}
        ref = await self.begin_with("j1")
        for _ in range(3):
            await self.assert_state(ref, RunState.PENDING)
        self.client.become(101, state="RUNNING")
        (self.folder / "j1.claim").write_text("101")
        ref = await self.assert_state(ref)
        self.assertIn("101:j1@", ref)
        await self.executor.cancel(ref)
        self.assertEqual([101], self.client.cancelled)
        self.assertEqual(1, len(self.client.submissions))

    async def test_a_controller_whose_clock_is_wrong(self):
        for minutes in (-5, 5):
            with self.subTest(minutes=minutes):
                submitted = datetime.now(UTC) + timedelta(minutes=minutes)
                self.client = RewritingClient()
                self.client.rewrites = CHANGED | {"submitted": submitted}
                self.executor = self.make()
                ref = await self.begin_with("j1", **self.own)
                for _ in range(3):
                    ref = await self.assert_state(ref, RunState.PENDING)
                self.assertIn("101:j1@", ref)
                self.assertEqual(1, len(self.client.submissions))

    async def test_a_restart_before_a_rewritten_job_was_listed(self):
        self.client.rewrites = CHANGED
        ref = await self.begin_with("j1", **self.own)
        for state in (RunState.PENDING, RunState.RUNNING):
            self.client.become(101, state=state.name)
            self.executor = self.make()
            await self.assert_is_unclear(ref, state)
        (self.folder / "j1.claim").write_text("101")
        self.executor = self.make()
        self.assertIn("101:j1@", await self.assert_state(ref))
        await self.make().cancel(ref)
        self.assertEqual([101], self.client.cancelled)
        self.assertEqual(1, len(self.client.submissions))

    async def test_a_copy_of_the_comment_or_of_the_paths_by_another_user(self):
        ref = await self.begin_with("j1")
        self.client.become(101, state="RUNNING")
        ref = await self.assert_state(ref)
        copy = replace(self.client.listed.pop(101), job_id=500, user="mallory", user_id=9)
        (self.folder / "j1.claim").write_text("101")
        for changes in ({}, CHANGED):
            for restarted in (False, True):
                with self.subTest(changes=changes, restarted=restarted):
                    self.client.listed = {500: replace(copy, **changes)}
                    if restarted:
                        self.executor = self.make()
                    self.executor._fresh.clear()
                    await self.assert_state(ref, RunState.FAILED)
                    await self.make().cancel(ref)
        self.assertEqual([], self.client.cancelled)

    async def test_a_job_that_is_queued_again_has_another_time_of_submission(self):
        ref = await self.begin_with("j1", **self.own)
        self.client.become(101, state="RUNNING")
        ref = await self.assert_state(ref)
        later = self.client.listed[101].submitted + timedelta(minutes=5)
        self.client.become(101, state="PENDING", submitted=later, restarts=1, **CHANGED)
        again = await self.assert_state(ref, RunState.PENDING)
        self.assertNotEqual(ref, again)
        self.executor = self.make()
        await self.assert_state(again, RunState.PENDING)

    async def test_the_comment_of_another_job_of_ours(self):
        for other in ("j2", "j0"):
            with self.subTest(other=other):
                self.client = RewritingClient()
                self.executor = self.make()
                refs = [await self.begin_with(one, **self.own) for one in ("j1", "j2")]
                for number in (101, 102):
                    self.client.become(number, state="RUNNING")
                refs = [await self.assert_state(ref) for ref in refs]
                self.client.become(101, comment=MARK + other)
                for restarted in (False, True, False):
                    if restarted:
                        self.executor = self.make()
                    found = await self.executor.statuses(refs)
                    self.assertEqual(set(refs), {one.ref for one in found.values()})
                    self.assertEqual({RunState.RUNNING}, {one.state for one in found.values()})
                self.assertEqual([], self.client.cancelled)
                self.assertEqual(2, len(self.client.submissions))
                await self.executor.cancel(refs[0])
                self.assertEqual([101], self.client.cancelled)

    async def test_the_comment_of_another_job_of_ours_before_the_first_look(self):
        refs = [await self.begin_with(one, **self.own) for one in ("j1", "j2")]
        for number in (101, 102):
            self.client.become(number, state="RUNNING", comment=MARK + "j2")
        self.executor = self.make()
        found = await self.executor.statuses(refs)
        self.assertEqual(["101", "102"], [found[ref].ref.partition(":")[0] for ref in refs])
        self.assertEqual({RunState.RUNNING}, {one.state for one in found.values()})
        await self.assert_is_unclear(refs[0])
        self.assertEqual([], self.client.cancelled)

    async def test_the_number_and_the_comment_of_ours_on_a_job_of_another_user(self):
        later = datetime.now(UTC) + timedelta(days=9)
        for user, restarted in (("eve", False), ("eve", True), ("", False), ("", True)):
            for path in ("/x.out", f"{self.folder}/j1.out"):
                with self.subTest(user=user, restarted=restarted, path=path):
                    await self.assert_is_strangers(
                        restarted, user=user, user_id=9, submitted=later, standard_output=path
                    )

    async def assert_is_strangers(self, restarted: bool, **changes) -> None:
        """Have a job of a stranger take the place of one of ours, with its number and comment."""
        self.client = RewritingClient()
        self.client.rewrites = {} if changes["user"] else {"user": ""}
        self.executor = self.make(keep=0)
        ref = await self.begin_with("j1")
        self.client.become(101, state="RUNNING")
        ref = await self.assert_state(ref)
        self.client.become(101, standard_error="/x.err", **changes)
        if restarted:
            self.executor = self.make()
        await self.assert_state(ref, RunState.LOST)
        await self.executor.cancel(ref)
        self.assertEqual([], self.client.cancelled)

    async def test_an_older_job_of_a_user_without_a_name_gets_our_comment(self):
        for paths in ({}, {"standard_output": f"{self.folder}/j1.out"}):
            for restarted in (False, True):
                with self.subTest(paths=paths, restarted=restarted):
                    await self.assert_older_is_not_ours(paths, restarted)

    async def assert_older_is_not_ours(self, paths: dict, restarted: bool) -> None:
        """Have a stranger write our comment on a job that is older than ours, and list both."""
        self.client = RewritingClient()
        self.client.rewrites = {"user": ""}
        self.executor = self.make()
        ref = await self.begin_with("j1")
        self.client.become(101, state="RUNNING")
        ref = await self.assert_state(ref)
        ours = self.client.listed.pop(101)
        submitted = ours.submitted - timedelta(days=1)
        copied = {"user_id": 9, "comment": MARK + "j1", "submitted": submitted, **paths}
        self.client.listed = {55: SlurmJob(55, "FAILED", name="old", **copied), 101: ours}
        if restarted:
            self.executor = self.make()
        for _ in range(2):
            self.assertEqual(ref, await self.assert_state(ref))
        await self.executor.cancel(ref)
        self.assertEqual([101], self.client.cancelled)

    async def test_the_number_of_our_user_is_known_after_a_restart_where_slurm_names_no_users(self):
        for state in ("PENDING", "RUNNING"):
            with self.subTest(state=state):
                self.client = RewritingClient()
                self.client.rewrites = {"user": ""}
                self.executor = self.make()
                ref = await self.begin_with("j1")
                self.client.become(101, state=state)
                ref = await self.assert_state(ref, RunState(state))
                self.assertTrue(ref.endswith("~7"), ref)
                self.assertEqual(ref, await self.assert_state(ref, RunState(state)))
                self.executor = self.make()
                self.assertEqual(ref, await self.assert_state(ref, RunState(state)))
                self.client.become(101, state="RUNNING", user_id=9)
                self.executor = self.make()
                await self.assert_state(ref, RunState.LOST)
                await self.executor.cancel(ref)
                self.assertEqual([], self.client.cancelled)

    async def test_a_job_of_another_user_with_our_paths_is_not_ours_after_a_restart(self):
        self.client.rewrites = {"user": ""}
        ref = await self.assert_state(await self.begin_with("j1"), RunState.PENDING)
        ours = self.client.listed.pop(101)
        self.client.listed[55] = replace(ours, job_id=55, user_id=9, state="RUNNING")
        self.executor = self.make()
        await self.assert_state(ref, RunState.LOST)

    async def test_a_service_whose_account_changed_finds_its_job_after_a_lost_answer(self):
        for is_listed in (False, True):
            for is_suspended in (False, True):
                with self.subTest(is_listed=is_listed, is_suspended=is_suspended):
                    await self.find_after_change_of_account(is_listed, is_suspended)

    async def find_after_change_of_account(self, is_listed: bool, is_suspended: bool) -> None:
        """Follow a job of the former account, lose the answer about a new one, and look for it."""
        self.client = RewritingClient()
        self.client.rewrites = {"user": "", "user_id": 9}
        self.executor = self.make(settle=0)
        old = f"50:jold@{datetime.now(UTC).timestamp():.0f}~7"
        if is_listed:
            moment = datetime.fromtimestamp(int(old.split("@")[1].split("~")[0]), UTC)
            marks = {"comment": MARK + "jold", "user_id": 7, "submitted": moment}
            self.client.listed[50] = SlurmJob(50, "RUNNING", **marks)
        state = RunState.RUNNING if is_listed else RunState.LOST
        self.assertEqual(old, await self.assert_state(old, state))
        if is_suspended:
            await self.executor.suspend()
            await self.executor.open()
        self.client.faults = [LOST]
        for _ in range(2):
            [started] = await self.executor.start([a_job("j1")])
        self.assertEqual("101:j1", started.ref)
        self.assertEqual(1, len(self.client.submissions))
        ref = await self.assert_state(started.ref, RunState.PENDING)
        self.assertTrue(ref.endswith("~9"), ref)
        self.assertEqual(old, await self.assert_state(old, state))

    async def test_a_suspended_service_forgets_who_its_user_is(self):
        self.client.rewrites = {"user": ""}
        await self.assert_state(await self.begin_with("j1"), RunState.PENDING)
        await self.executor.suspend()
        self.client.rewrites = {"user": "", "user_id": 9}
        self.client.faults = [LOST]
        [started] = await self.executor.start([a_job("j2")])
        self.assertEqual("102:j2", started.ref)

    async def test_slurmdbd_tells_of_a_job_of_another_user_with_our_number_and_comment(self):
        ref = await self.begin_with("j1")
        self.client.become(101, state="RUNNING")
        ref = await self.assert_state(ref)
        row = self.client.listed.pop(101)
        self.client.past = [replace(row, state="FAILED", user="eve", user_id=9)]
        self.executor = self.make()
        await self.assert_state(ref, RunState.LOST)

    async def test_shards_are_known_without_their_comments(self):
        self.client.rewrites = CHANGED
        self.executor = self.make(shards=3)
        [ref] = await self.begin("j1")
        self.client.become(101, array_job_id=101, array_tasks_left="1-3")
        for _ in range(2):
            found = await self.status(ref)
            self.assertEqual(RunState.PENDING, found.state)
            self.assertIn("3 shards are pending", found.reason)
            self.executor = self.make(shards=3)
        await self.executor.cancel(ref)
        self.assertEqual({101, 102}, set(self.client.cancelled))

    async def test_slurmdbd_tells_the_end_of_a_job_whose_comment_was_changed(self):
        ref = await self.begin_with("j1", **self.own)
        self.client.become(101, state="RUNNING", **CHANGED)
        ref = await self.assert_state(ref)
        row = replace(self.client.listed.pop(101), state="FAILED")
        for standard_output in (row.standard_output, ""):
            for hours, state in ((0, RunState.FAILED), (1, RunState.LOST)):
                with self.subTest(standard_output=standard_output, hours=hours):
                    self.executor = self.make()
                    submitted = row.submitted + timedelta(hours=hours)
                    told = {"standard_output": standard_output, "submitted": submitted}
                    self.client.past = [replace(row, **told)]
                    await self.assert_state(ref, state)
        self.client.past = [replace(row, user="mallory")]
        await self.assert_state(ref, RunState.LOST)
