"""Jobs on several machines that want one asset: the sign of life between them."""

import json
import threading
from unittest.mock import patch

from aind_data_transfer_service.errors import DestinationExistsError, TransferError
from aind_data_transfer_service.upload import lease
from aind_data_transfer_service.upload.events import Kind, Step
from aind_data_transfer_service.upload.lease import Lease, await_silence, read_mark, write_mark
from aind_data_transfer_service.upload.store import mark_key
from tests.support import wait_until
from tests.support.transfer import PREFIX, TransferTestCase

ELSEWHERE = {
    "holder": "other",
    "job_id": "other",
    "lock": "another machine's",
    "host": "node7",
    "alive": "2024-01-01T00:00:00+00:00",
}


class TestAnotherMachine(TransferTestCase):
    """What a job does that finds the mark of another."""

    def setUp(self) -> None:
        """Let a job on another machine have begun."""
        super().setUp()
        self.write("a.txt")
        self.store.put(f"{PREFIX}/behavior/half.txt", b"half")
        write_mark(self.store, PREFIX, ELSEWHERE)
        self.waited = 0.0

    def await_silence(self, mark=ELSEWHERE, job_id="mine", lock="mine", then=lambda: None):
        """Wait for the other's end."""

        def wait(seconds: float) -> None:
            self.waited += seconds
            then()

        await_silence(self.store, PREFIX, mark, job_id, lock, self.told.warn, wait)

    def test_a_job_that_lives_is_left_alone(self):
        def beat():
            write_mark(self.store, PREFIX, ELSEWHERE | {"alive": "2024-01-01T00:00:30+00:00"})

        with self.assertRaisesRegex(DestinationExistsError, "on node7, is sending"):
            self.await_silence(then=beat)
        self.assertEqual(self.waited, 10)

    def test_a_job_that_stays_silent_is_taken_for_dead(self):
        self.await_silence()
        self.assertGreaterEqual(self.waited, lease.SILENCE)
        (warning,) = self.told.warnings()
        self.assertRegex(warning, "a job on node7 was sending .* 0 s ago; this one waits")

    def test_whoever_was_silent_for_long_by_the_stores_clock_is_not_waited_for(self):
        with patch.object(lease, "_silent_for", lambda *_: lease.SILENCE + 1):
            self.await_silence()
        self.assertEqual(self.waited, 0)

    def test_a_job_that_ended_or_was_this_one_is_not_waited_for(self):
        for mark, job_id, lock in (
            (ELSEWHERE | {"alive": None}, "mine", "mine"),
            ({}, "mine", "mine"),
            (ELSEWHERE, "other", "mine"),
            (ELSEWHERE, None, "another machine's"),
        ):
            self.await_silence(mark, job_id, lock)
        self.assertEqual(self.waited, 0)

    def test_a_job_that_ends_meanwhile_leaves_the_asset_to_this_one(self):
        self.await_silence(then=lambda: write_mark(self.store, PREFIX, ELSEWHERE | {"alive": None}))
        self.assertEqual(self.waited, 10)

    def test_an_asset_completed_meanwhile_is_left_alone(self):
        with self.assertRaisesRegex(DestinationExistsError, "on node7 completed"):
            self.await_silence(then=lambda: self.store.delete([mark_key(PREFIX)]))

    def test_a_whole_job_takes_over_from_a_dead_one(self):
        with patch.object(lease, "SILENCE", -1.0):
            self.run_job()
        self.assertIn("behavior/a.txt", self.manifest())
        self.assertNotIn("behavior/half.txt", self.stored())


class TestLease(TransferTestCase):
    """The sign of life itself."""

    mark = {"holder": "mine", "alive": "then"}

    def setUp(self) -> None:
        """Leave the mark."""
        super().setUp()
        write_mark(self.store, PREFIX, self.mark)

    def alive(self):
        """Read the sign of life."""
        return (read_mark(self.store, PREFIX) or {}).get("alive")

    def test_it_is_shown_now_and_then_and_ends_with_the_job(self):
        with Lease(self.store, PREFIX, self.mark, interval=0.01) as held:
            wait_until(lambda: self.alive() != "then", 10, "a sign of life")
            held.check()
        self.assertIsNone(self.alive())

    def test_the_end_of_one_of_many_says_nothing_of_the_others(self):
        with Lease(self.store, PREFIX, self.mark, shared=True):
            pass
        self.assertEqual(self.alive(), "then")

    def test_a_job_that_was_given_up_notices_and_changes_nothing(self):
        other = self.mark | {"holder": "other"}
        with Lease(self.store, PREFIX, self.mark, interval=0.01) as held:
            write_mark(self.store, PREFIX, other)
            wait_until(lambda: not held._thread.is_alive(), 10, "the job to notice")
            with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
                held.check()
        self.assertEqual(read_mark(self.store, PREFIX), other)

    def test_once_it_has_ended_nothing_is_written_any_more(self):
        with Lease(self.store, PREFIX, self.mark, interval=0.0) as held:
            held.end()
            self.store.delete([mark_key(PREFIX)])
        self.assertIsNone(self.store.get(mark_key(PREFIX)))

    def test_a_store_that_fails_for_a_moment_does_not_end_it(self):
        failed = threading.Event()
        real = lease.write_mark

        def fail_once(*arguments):
            if not failed.is_set():
                failed.set()
                raise TransferError("the line is dead")
            real(*arguments)

        with patch.object(lease, "write_mark", fail_once):
            with Lease(self.store, PREFIX, self.mark, interval=0.01):
                wait_until(lambda: self.alive() != "then", 10, "a sign of life")

    def test_a_job_whose_asset_was_taken_over_publishes_nothing(self):
        self.store.delete([mark_key(PREFIX)])
        self.write("a.txt")

        def take_over():
            self.store.put(mark_key(PREFIX), json.dumps(ELSEWHERE).encode())

        self.told.when(Step.VERIFY, Kind.START, take_over)
        with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
            self.run_job()
        self.assertEqual(read_mark(self.store, PREFIX), ELSEWHERE)
