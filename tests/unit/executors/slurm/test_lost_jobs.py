"""Jobs that Slurm accepted and lost: a controller that dies early comes back without them."""

import errno
import os
from dataclasses import replace
from unittest.mock import patch

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.slurmrest.errors import Refused, Unreachable
from tests.unit.executors.slurm.test_executor import LOST, NOW, SlurmTest, a_job

LOGGER = "aind_data_transfer_service.executors"
CUT = {"shards": 2}


class LossTest(SlurmTest):
    """A cluster that loses jobs, and is asked for all of them at each look."""

    async def asyncSetUp(self):
        self.enterContext(
            patch("aind_data_transfer_service.executors.slurm.queue.LONGEST_REST", 0.0)
        )
        await super().asyncSetUp()

    async def lose(self, ref: str, number: int = 0):
        """Have the controller lose a job, or all of them, and return how one is then."""
        for one in [number] if number else list(self.client.listed):
            del self.client.listed[one]
        return await self.status(ref)

    async def begin_with_witness(self, **values) -> str:
        """Start a job after another one that runs and left its claim; return its reference."""
        self.executor = self.make(**values)
        [witness, ref] = await self.begin("witness", "j1")
        self.client.become(101, state="RUNNING")
        (self.folder / "witness.claim").write_text("101")
        await self.executor.statuses([witness, ref])
        return ref

    def assert_sent(self, count: int) -> None:
        """Check how many submissions there were."""
        self.assertEqual(count, len(self.client.submissions))


class AgainTest(LossTest):
    """Whether and how often a lost job is submitted again."""

    async def test_a_job_that_is_lost_several_times_is_submitted_again_five_times(self):
        ref = await self.begin_with_witness()
        for number in range(103, 108):
            with self.assertLogs(LOGGER, "WARNING"):
                status = await self.lose(ref, number - 1)
            self.assertEqual((RunState.PENDING, f"{number}:j1"), (status.state, status.ref))
            ref = status.ref
            self.assertIs(RunState.PENDING, (await self.status(ref)).state)
        self.assertIs(RunState.LOST, (await self.lose(ref, 107)).state)
        self.assert_sent(7)

    async def test_without_a_claim_of_a_job_that_began_it_is_submitted_again_once(self):
        for claim in ("", "earlier.claim"):
            with self.subTest(claim=claim):
                await self.asyncSetUp()
                if claim:  # as of an earlier cluster, or in a copy of the folder
                    (self.folder / claim).write_text("7")
                    os.utime(self.folder / claim, (0, 0))
                [ref] = await self.begin("j1")
                with self.assertLogs(LOGGER, "WARNING"):
                    status = await self.lose(ref)
                self.assertEqual((RunState.PENDING, "102:j1"), (status.state, status.ref))
                self.assertIs(RunState.LOST, (await self.lose(status.ref)).state)
                self.assert_sent(2)

    async def test_a_job_that_could_not_be_submitted_again_at_once_is_counted_once(self):
        ref = await self.begin_with_witness()
        self.client.faults = [Unreachable("away")] * 7
        del self.client.listed[102]
        with self.assertLogs(LOGGER, "WARNING"):
            for _ in range(8):
                status = await self.status(ref)
        self.assertEqual((RunState.PENDING, "103:j1"), (status.state, status.ref))
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual("104:j1", (await self.lose(status.ref, 103)).ref)

    async def test_a_folder_without_claims_of_jobs_that_began_is_not_the_one_of_the_nodes(self):
        for claim in ("", "earlier.claim"):
            with self.subTest(claim=claim):
                await self.asyncSetUp()
                self.executor = self.make(grace=0)
                [running, lost] = await self.begin("j1", "j2")
                self.client.become(101, state="RUNNING")
                if claim:
                    (self.folder / claim).write_text("7")
                await self.executor.statuses([running, lost])
                status = await self.lose(lost)
                self.assertIs(RunState.LOST, status.state)
                self.assertNotIn("never began", status.reason)
                self.assert_sent(2)

    async def test_many_jobs_that_are_lost_at_once_are_all_submitted_again(self):
        started = await self.executor.start([a_job(f"j{number}") for number in range(150)])
        refs = [one.ref for one in started]
        self.client.listed.clear()
        with self.assertLogs(LOGGER, "WARNING"):
            found = await self.executor.statuses(refs)
        self.assertEqual({RunState.PENDING}, {one.state for one in found.values()})
        self.assert_sent(300)

    async def test_a_folder_with_claims_tells_that_a_lost_job_never_began(self):
        ref = await self.begin_with_witness(grace=0)
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertIs(RunState.PENDING, (await self.lose(ref)).state)


class BegunTest(LossTest):
    """One sign that a job began is enough: it is never submitted again."""

    async def assert_lost(self, ref: str, number: int, state=RunState.LOST):
        """Lose a job, and check that it is not submitted again; return its last status."""
        sent = len(self.client.submissions)
        status = await self.lose(ref, number)
        self.assertIs(state, status.state, status)
        self.assertIs(state, (await self.status(ref)).state)
        self.assert_sent(sent)
        return status

    async def test_slurm_listed_it_as_begun(self):
        for few in (False, True):
            for values in (
                {"state": "RUNNING"},
                {"state": "SUSPENDED"},
                {"state": "PENDING", "restarts": 1},
            ):
                with self.subTest(few=few, **values):
                    await self.asyncSetUp()
                    ref = await self.begin_with_witness()
                    if not few:
                        await self.executor.find([a_job("j1")])
                    self.client.become(102, **values)
                    ref = (await self.status(ref)).ref
                    status = await self.assert_lost(ref, 102)
                    self.assertNotIn("never began", status.reason)

    async def test_it_left_a_file(self):
        for ending in ("claim", "out", "err", "events.jsonl"):
            with self.subTest(ending):
                await self.asyncSetUp()
                ref = await self.begin_with_witness()
                (self.folder / f"j1.{ending}").touch()
                sent = len(self.client.submissions)
                await self.lose(ref, 102)
                self.assert_sent(sent)

    async def test_slurmdbd_knows_that_it_began(self):
        for state in ("COMPLETED", "RUNNING", "CANCELLED"):
            with self.subTest(state):
                await self.asyncSetUp()
                ref = await self.begin_with_witness()
                self.client.past = [replace(self.client.listed[102], state=state)]
                status = await self.lose(ref, 102)
                self.assertIsNot(RunState.LOST, status.state)
                self.assertIsNot(RunState.PENDING, status.state)
                self.assert_sent(2)

    async def test_slurmdbd_does_not_answer(self):
        ref = await self.begin_with_witness()
        self.client.past = Unreachable("slurmdbd is away")
        with self.assertLogs(LOGGER, "WARNING"):
            await self.assert_lost(ref, 102, RunState.RUNNING)
        self.assertIn("accounting", (await self.status(ref)).reason)

    async def test_slurmdbd_knows_nothing_or_that_it_waits(self):
        for is_known in (False, True):
            with self.subTest(is_known=is_known):
                await self.asyncSetUp()
                ref = await self.begin_with_witness()
                for number in (102, 103):
                    self.client.past = [self.client.listed[number]] if is_known else []
                    with self.assertLogs(LOGGER, "WARNING"):
                        ref = (await self.lose(ref, number)).ref
                    self.assertEqual(f"{number + 1}:j1", ref)
                    self.assertIn([number], self.client.past_questions)

    async def test_the_service_heard_of_it(self):
        heard = {"j1": True}

        async def has_reported() -> bool:
            return heard["j1"]

        self.executor = self.make()
        spec = a_job("j1", has_reported=has_reported)
        [started] = await self.executor.start([spec])
        await self.assert_lost(started.ref, 101)

    async def test_the_service_cannot_say_whether_it_heard_of_it(self):
        async def has_reported() -> bool:
            raise OSError(errno.EIO, "Input/output error")

        [started] = await self.executor.start([a_job("j1", has_reported=has_reported)])
        with self.assertLogs(LOGGER, "WARNING"):
            await self.assert_lost(started.ref, 101)

    async def test_slurm_listed_something_as_begun_that_may_be_it(self):
        ref = await self.begin_with_witness()
        changed = {"comment": "", "standard_output": "", "standard_error": "", "submitted": None}
        self.client.become(102, state="RUNNING", **changed)
        self.assertIn("neither its comment", (await self.status(ref)).reason)
        await self.assert_lost(ref, 102)

    async def test_it_began_though_the_answer_to_its_submission_was_lost(self):
        async def has_reported() -> bool:
            return True

        for ending, values in (("out", {}), ("", {"has_reported": has_reported})):
            with self.subTest(ending=ending):
                await self.asyncSetUp()
                self.executor = self.make(settle=0)
                self.client.faults, self.client.keep_lost = [LOST], False
                [started] = await self.executor.start([a_job("j1", **values)])
                self.assertTrue(started.in_doubt)
                if ending:
                    (self.folder / f"j1.{ending}").touch()
                [started] = await self.executor.start([a_job("j1", **values)])
                self.assertEqual(("0:j1", None), (started.ref, started.error))
                self.assert_sent(0)
                self.assertIs(RunState.LOST, (await self.status(started.ref)).state)
                await self.executor.cancel(started.ref)
                self.assertEqual([[], []], [self.client.cancelled, self.client.past_questions])

    async def test_shards_that_began_are_not_sent_again_with_the_last_job(self):
        self.executor = self.make(**CUT)
        [ref] = await self.begin("j1")
        await self.status(ref)
        self.client.become(101, state="RUNNING", array_job_id=101)
        await self.status(ref)
        with self.assertLogs(LOGGER, "WARNING"):
            await self.lose(ref)
        comments = [one.properties["comment"] for one in self.client.submissions]
        self.assertEqual(1, sum(".shards" in one for one in comments), comments)

    async def test_shards_are_sent_again_only_if_none_began(self):
        for state in ("PENDING", "RUNNING"):
            with self.subTest(state):
                await self.asyncSetUp()
                self.executor = self.make(**CUT)
                self.client.faults = [None, Unreachable("away")]
                await self.executor.start([a_job("j1")])
                self.client.become(101, state=state)
                await self.executor.find([a_job("j1.shards")])
                self.client.listed.clear()
                await self.executor.start([a_job("j1")])
                comments = [one.properties["comment"] for one in self.client.submissions]
                arrays = sum(".shards" in one for one in comments)
                self.assertEqual(2 if state == "PENDING" else 1, arrays, comments)


class TroubleTest(LossTest):
    """What goes wrong on the way is the trouble of the lost job alone."""

    async def test_a_drive_that_fails_stops_nothing_but_the_new_submission(self):
        listed, seen = os.lstat, []

        def lstat(path, *args, **kwargs):
            if str(path).startswith(str(self.folder)):
                seen.append(path)
                raise OSError(errno.ESTALE, "Stale file handle")
            return listed(path, *args, **kwargs)

        ref = await self.begin_with_witness(keep=0.05)
        del self.client.listed[102]
        self.client.become(101, state="RUNNING", started=NOW)
        with self.assertLogs(LOGGER, "WARNING"), patch("os.lstat", lstat):
            found = await self.executor.statuses(["101:witness", ref])
        self.assertTrue(seen)
        states = {one.ref.partition("@")[0]: one.state for one in found.values()}
        self.assertIs(RunState.RUNNING, states["101:witness"])
        self.assert_sent(2)

    async def test_a_claim_that_cannot_be_read_now_puts_a_submission_off(self):
        opened = os.open

        def fail(path, *args, **kwargs):
            if str(path).endswith(".claim"):
                raise OSError(errno.EIO, "Input/output error")
            return opened(path, *args, **kwargs)

        with patch("os.open", fail):
            [started] = await self.executor.start([a_job("j1")])
        self.assertEqual((None, True), (started.ref, started.again))
        self.assertIn("Input/output error", started.error)
        self.assert_sent(0)

    async def test_a_refusal_of_the_second_submission_is_the_end(self):
        [ref] = await self.begin("j1")
        self.client.faults = [Refused("Invalid account or account/partition combination")]
        with self.assertLogs(LOGGER, "WARNING") as logs:
            status = await self.lose(ref)
        for said in (status.reason, (await self.status(ref)).reason, " ".join(logs.output)):
            self.assertIn("Invalid account", said)
        self.assertIs(RunState.FAILED, status.state)
        self.assert_sent(1)
