"""The lease on an asset: who holds it, when it is lost, and what a job does then."""

import contextlib
import errno
import fcntl
import importlib.util
import io
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from unittest.mock import patch

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    TransferError,
)
from aind_data_transfer_service.jobs.event_parser import read_events
from aind_data_transfer_service.storage.base import AssetState, BufferBody
from aind_data_transfer_service.storage.layout import manifest_key, mark_key, record_folder
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.storage.model import Unfinished
from aind_data_transfer_service.upload.job.events import Events, Kind, Step
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.resume import lease, lease_contention
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.lease import (
    Found,
    Lease,
    Timing,
    new_record,
    read_lease,
    write_lease,
)
from aind_data_transfer_service.upload.resume.lease_contention import Contender
from aind_data_transfer_service.upload.verify.audit import audit
from tests.support import slow, wait_until
from tests.support.transfer import PREFIX, Told, TransferTestCase

KEY = mark_key(PREFIX)
CONTENDER = "aind_data_transfer_service.upload.resume.asset_lock.Contender"
NOW = datetime(2024, 2, 19, tzinfo=UTC)
QUICK = Timing(interval=0.01)


def _is_in(thread: threading.Thread, function: Callable) -> bool:
    """Return whether a thread is just now in a function."""
    frame = sys._current_frames().get(thread.ident)
    frames = traceback.walk_stack(frame) if frame is not None else ()
    return any(seen.f_code is function.__code__ for seen, _ in frames)


class LeaseTestCase(TransferTestCase):
    """Gives each test the lease of a job on another machine."""

    def setUp(self) -> None:
        """Make a source."""
        super().setUp()
        self.write("a.txt")
        self.waited = 0.0

    def elsewhere(self, **more) -> Found:
        """Let a job on another machine begin or renew, and return its lease."""
        before = read_lease(self.store, KEY)
        record = new_record(PREFIX, "other", NOW, False, 1)
        record |= {"host": "node7", "boot": "another machine's"} | more
        if before is not None:
            record["holder"] = before.record["holder"]
        write_lease(self.store, KEY, record, before)
        found = read_lease(self.store, KEY)
        assert found is not None
        return found

    def take_over(self) -> None:
        """Let another job take the asset over, as it would after a long silence."""
        record = new_record(PREFIX, "other", NOW, False, 7)
        while True:  # a renewal may come in between
            with contextlib.suppress(DestinationExistsError):
                write_lease(self.store, KEY, record, read_lease(self.store, KEY))
                return

    def contender(self, job_id: str | None = "mine", then=lambda: None, **more) -> Contender:
        """Make a job that wants the asset, and that does something at each look."""

        def wait(seconds: float) -> None:
            self.waited += seconds
            then()

        more.setdefault("tell", self.told.warn)
        return Contender(self.store, PREFIX, KEY, job_id, wait=wait, **more)

    def claim(self, job_id: str | None = None, state_dir: str = "state", force: bool = False):
        """Claim the asset."""
        state = self.store.asset_state(PREFIX)
        folder = self.folder / state_dir
        return claim_asset(self.store, PREFIX, folder, state, force, job_id, lambda: NOW)


class TestContender(LeaseTestCase):
    """What a job does that finds the lease of another."""

    def test_a_job_that_lives_is_left_alone(self):
        found = self.elsewhere()
        with self.assertRaisesRegex(DestinationExistsError, "on node7, is sending"):
            self.contender(then=self.elsewhere).await_end(found)
        self.assertEqual(self.waited, 10)

    def test_a_job_that_stays_silent_is_considered_dead(self):
        found = self.elsewhere()
        self.assertEqual(self.contender().await_end(found), found)
        self.assertGreaterEqual(self.waited, Timing.ttl)
        (warning,) = self.told.warnings()
        self.assertRegex(warning, "a job on node7 renewed its lease .* 0 s ago; this job waits")

    @slow
    def test_a_job_that_waits_says_so_by_its_step_until_it_continues(self):
        self.elsewhere(ttl=1.5)
        file = self.folder / "events.jsonl"
        events = Events(file, "job-1")
        timing = Timing(look_every=0.5)
        UploadJob(self.config(), self.settings(), events, io.StringIO(), timing=timing).run()
        events.close()
        lines = file.read_bytes().splitlines(keepends=True)
        [number] = [i for i, line in enumerate(lines) if b"this job waits until" in line]
        waiting = read_events(b"".join(lines[: number + 1]))
        self.assertEqual("waiting for the lease", waiting.values["step"])
        self.assertEqual("warning", waiting.events[-1].kind)
        self.assertIn("node7", waiting.events[-1].message)
        self.assertEqual("done", read_events(b"".join(lines)).values["step"])

    def test_a_holder_with_a_ttl_of_its_own_is_given_that(self):
        self.contender().await_end(self.elsewhere(ttl=25.0))
        self.assertEqual(self.waited, 30)

    def test_a_lease_that_is_old_by_the_stores_clock_needs_no_waiting(self):
        found = self.elsewhere()
        with patch.object(lease_contention, "silent_for", lambda *_: Timing.ttl + 1):
            self.contender().await_end(found)
        self.assertEqual(self.waited, 0)

    def test_the_same_job_on_another_node_is_another_holder(self):
        found = self.elsewhere()
        with self.assertRaisesRegex(DestinationExistsError, "is sending"):
            self.contender("other", then=self.elsewhere).await_end(found)

    def test_only_who_ended_or_surely_died_is_not_waited_for(self):
        found = self.elsewhere()
        for record, more in (
            (found.record | {"alive": None}, {}),
            ({}, {}),
            (found.record, {"died_here": lambda record: True}),
        ):
            self.contender(**more).await_end(Found(record, found.etag))
        self.assertEqual(self.waited, 0)

    def test_a_job_that_ends_meanwhile_leaves_the_asset_to_this_one(self):
        found = self.elsewhere()

        def end():
            self.store.put(KEY, json.dumps(found.record | {"alive": None}).encode())

        last = self.contender(then=end).await_end(found)
        self.assertIsNone(last.record["alive"])
        self.assertEqual(self.waited, 10)

    def test_a_lease_that_is_gone_is_reported_as_gone(self):
        found = self.elsewhere()
        self.assertIsNone(self.contender(then=lambda: self.store.delete([KEY])).await_end(found))

    def test_of_two_that_waited_for_the_same_only_one_takes_over(self):
        found = self.elsewhere()
        write_lease(self.store, KEY, new_record(PREFIX, "a", NOW, False, 2), found)
        with self.assertRaisesRegex(DestinationExistsError, "at the same moment"):
            write_lease(self.store, KEY, new_record(PREFIX, "b", NOW, False, 2), found)
        self.assertEqual(read_lease(self.store, KEY).record["job_id"], "a")

    def test_of_many_at_the_same_moment_only_one_takes_over(self):
        found, outcomes = self.elsewhere(), []
        start = threading.Barrier(6)

        def take(number: int) -> None:
            start.wait(10)
            with contextlib.suppress(DestinationExistsError):
                write_lease(self.store, KEY, new_record(PREFIX, str(number), NOW, False, 2), found)
                outcomes.append(str(number))

        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual([read_lease(self.store, KEY).record["job_id"]], outcomes)


class TestThisMachine(LeaseTestCase):
    """When a dead process of this machine is recognised, and what must not be taken for one."""

    def die(self, state_dir: str = "state", **more) -> None:
        """Leave what a process leaves that was killed."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.claim("dead", state_dir))
            record = read_lease(self.store, KEY).record
            saved = {p: p.read_bytes() for p in (self.folder / state_dir).iterdir()}
        (self.folder / state_dir).mkdir(exist_ok=True)
        for path, data in saved.items():
            path.write_bytes(data)
        self.store.put(KEY, json.dumps(record | more).encode())

    def test_a_killed_process_of_this_machine_is_not_waited_for(self):
        self.die()
        with patch(CONTENDER, partial(Contender, wait=self.fail)), self.claim("mine") as claim:
            self.assertEqual(claim.lease.fence, 2)

    def never_over(self):
        """Make sure that the job takes nothing over without waiting."""
        found = read_lease(self.store, KEY)
        with patch(CONTENDER, partial(Contender, wait=lambda seconds: self.elsewhere())):
            with self.assertRaisesRegex(DestinationExistsError, "is sending"):
                with self.claim("mine"):
                    self.fail("claimed")
        self.assertEqual(read_lease(self.store, KEY).record["holder"], found.record["holder"])

    def test_a_machine_of_the_same_name_and_path_is_another(self):
        self.die()
        (self.folder / "state" / "lock").write_text("")  # its own folder, and not that one's
        self.never_over()

    def test_a_shared_folder_of_another_machine_proves_nothing(self):
        self.die(boot="another machine's")
        self.never_over()

    def test_a_lock_that_keeps_nobody_out_proves_nothing(self):
        self.die()
        with patch(
            "aind_data_transfer_service.upload.resume.lease_holders._excludes", lambda lock: False
        ):
            self.never_over()


class TestLease(LeaseTestCase):
    """The lease itself."""

    def hold(self, timing: Timing = QUICK, store=None, clock=lease.boottime, **more) -> Lease:
        """Take the lease."""
        store = store or self.store
        record = new_record(PREFIX, "mine", NOW, False, 1, timing)
        holding = write_lease(store, KEY, record, read_lease(store, KEY))
        for name, value in more.items():
            setattr(holding, name, value)
        return Lease(store, PREFIX, [holding], timing, clock)

    def record(self) -> dict:
        """Read the lease."""
        found = read_lease(self.store, KEY)
        return {} if found is None else found.record

    def test_it_is_renewed_and_ends_with_the_job(self):
        with self.hold() as held:
            first = self.record()["nonce"]
            wait_until(lambda: self.record()["nonce"] != first, 10, "a renewal")
            held.check()
        self.assertIsNone(self.record()["alive"])

    def test_a_platform_without_a_clock_that_counts_suspension_has_the_monotonic_one(self):
        with patch.object(time, "CLOCK_BOOTTIME", create=True):
            del time.CLOCK_BOOTTIME
            spec = importlib.util.spec_from_file_location("lease_elsewhere", lease.__file__)
            elsewhere = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(elsewhere)
            self.assertAlmostEqual(elsewhere.boottime(), time.monotonic(), delta=10)

    def test_the_end_of_one_shard_says_nothing_of_the_others(self):
        with self.hold(Timing(), is_shared=True):
            pass
        self.assertIsNotNone(self.record()["alive"])

    def test_shards_renew_the_same_lease_in_turn(self):
        first = self.hold(Timing(), is_shared=True)
        found = read_lease(self.store, KEY)
        record = found.record
        second = Lease(
            self.store,
            PREFIX,
            [lease.Holding(KEY, record, found.etag, lease.boottime(), is_shared=True)],
        )
        with first, second:
            for _ in range(3):
                first.renew()
                second.renew()

    def test_a_shard_that_joined_early_takes_over_what_the_first_found_out(self):
        first = self.hold(Timing(), is_shared=True)
        found = read_lease(self.store, KEY)
        joined = lease.Holding(KEY, found.record, found.etag, lease.boottime(), is_shared=True)
        second = Lease(self.store, PREFIX, [joined])
        with first, second:
            second.renew()
            first._holdings[0].record |= {"fence": 6, "keep_others": True}
            for held in (first, second):
                held.renew()
                self.assertEqual((held.fence, self.record()["fence"]), (6, 6))
                self.assertTrue(self.record()["keep_others"])

    def test_a_renewal_whose_answer_was_lost_does_not_end_the_job(self):
        real = LocalAssetStore.put

        def lose_answer(*arguments, **more):
            real(*arguments, **more)
            raise TransferError("given up: no answer")

        with self.hold(Timing(interval=3600)) as held:
            with patch.object(LocalAssetStore, "put", lose_answer):
                with self.assertRaises(TransferError):
                    held.renew()
            held.renew()
            held.check()

    def test_a_renewal_that_took_longer_than_the_lease_lasts_is_followed_by_another(self):
        """As when the store was away just when the job made sure of its lease before publishing."""
        now, real, slow_put = [1000.0], LocalAssetStore.put, threading.Event()
        timing = Timing(interval=0.01, patience=1e6)
        held = self.hold(timing, clock=lambda: now[0], since=now[0])

        def put(*arguments, **more):
            if threading.current_thread() is threading.main_thread() and not slow_put.is_set():
                slow_put.set()
                now[0] += 1000
                wait_until(lambda: _is_in(held._threads[0], Lease.renew), 10, "the other thread")
            return real(*arguments, **more)

        with held:
            with patch.object(LocalAssetStore, "put", put):
                held.renew()
            wait_until(lambda: not held.is_expired(), 10, "a further renewal")
            held.check()

    def test_a_store_that_is_away_while_the_lease_is_removed_ends_the_job(self):
        now, real, errors = [1000.0], LocalAssetStore.delete_matching, []

        def away(*arguments):
            now[0] += Timing.ttl
            return real(*arguments)

        def release(held: Lease) -> None:
            try:
                held.release()
            except TransferError as error:
                errors.append(str(error))

        timing = Timing(interval=3600)
        with self.hold(timing, clock=lambda: now[0], since=now[0]) as held:
            with patch.object(LocalAssetStore, "delete_matching", away):
                released = threading.Thread(target=release, args=(held,), daemon=True)
                released.start()
                released.join(10)
        self.assertFalse(released.is_alive())
        self.assertRegex(errors[0], "could not be renewed")

    def test_a_job_without_threads_ends_its_lease(self):
        refused = RuntimeError("can't start new thread")
        with patch.object(threading.Thread, "start", side_effect=refused):
            with self.assertRaisesRegex(TransferError, "refuses to start another thread"):
                with self.hold():
                    self.fail("held")
        self.assertIsNone(self.record()["alive"])

    def test_a_job_that_may_start_no_more_threads_ends_its_lease(self):
        refused = RuntimeError("can't start new thread")
        held = self.hold()
        with held:
            refusing = patch.object(threading.Thread, "start", side_effect=refused)
            refusing.start()
            self.addCleanup(refusing.stop)
        self.assertIsNone(self.record()["alive"])

    def test_a_job_whose_lease_was_taken_over_is_stopped_and_changes_nothing(self):
        store, stopped = self.store, threading.Event()
        with self.hold(store=store) as held:
            held.on_loss(lambda error: stopped.set())
            self.take_over()
            self.assertTrue(stopped.wait(10))
            for change in (
                held.check,
                lambda: store.put(f"{PREFIX}/a", b"x"),
                lambda: store.put_parts(f"{PREFIX}/a", [BufferBody(b"x")], 1),
                lambda: store.delete([KEY]),
                lambda: store.delete_matching({KEY: read_lease(store, KEY).etag}),
                lambda: store.abort(Unfinished(PREFIX, f"{PREFIX}~1")),
                lambda: store.clear_unfinished(PREFIX),
                lambda: store.settle(PREFIX),
            ):
                with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
                    change()
        self.assertEqual(self.record()["job_id"], "other")
        self.assertEqual(self.stored(), {})

    def test_a_job_that_was_suspended_changes_nothing_until_its_lease_is_confirmed(self):
        now, store = [1000.0], self.store
        timing = Timing(interval=3600)
        with self.hold(timing, store, lambda: now[0], since=now[0]) as held:
            store.put(f"{PREFIX}/a", b"x")
            now[0] += timing.ttl - timing.margin + 1
            self.assertTrue(held.is_expired())
            sent = threading.Thread(target=store.put, args=(f"{PREFIX}/b", b"x"), daemon=True)
            sent.start()
            wait_until(lambda: _is_in(sent, Lease.check), 10, "the check of the lease")
            self.assertEqual(set(self.stored()), {"a"})
            held.renew()
            sent.join(10)
        self.assertEqual(set(self.stored()), {"a", "b"})

    def test_a_job_that_was_suspended_and_taken_over_changes_nothing(self):
        now, store, errors = [1000.0], self.store, []
        timing = Timing(interval=3600)

        def send() -> None:
            try:
                store.put(f"{PREFIX}/b", b"x")
            except DestinationExistsError as error:
                errors.append(str(error))

        with self.hold(timing, store, lambda: now[0], since=now[0]) as held:
            now[0] += timing.ttl - timing.margin + 1
            sent = threading.Thread(target=send, daemon=True)
            sent.start()
            self.take_over()
            with self.assertRaises(DestinationExistsError):
                held.renew()
            sent.join(10)
        self.assertRegex(errors[0], "taken .* over")
        self.assertEqual(self.stored(), {})

    def test_a_store_that_is_away_for_too_long_stops_the_job_at_the_deadline(self):
        stopped: list[BaseException] = []
        held = self.hold(Timing(ttl=0.3, interval=0.01, margin=0.2, patience=0.1))
        with patch.object(LocalAssetStore, "put", side_effect=TransferError("no answer")):
            with held:
                held.on_loss(stopped.append)
                wait_until(lambda: stopped, 10, "the job to be stopped")
        self.assertIn("could not be reached", str(stopped[0]))

    @slow
    def test_a_renewal_that_never_returns_stops_the_job_at_the_deadline(self):
        stopped, never = threading.Event(), threading.Event()
        self.addCleanup(never.set)
        held = self.hold(Timing(ttl=0.3, interval=0.01, margin=0.2, patience=0.1))
        with patch.object(LocalAssetStore, "put", lambda *_, **__: never.wait(30)):
            with held:
                held.on_loss(lambda error: stopped.set())
                self.assertTrue(stopped.wait(10))

    def test_a_store_that_fails_for_a_moment_does_not_end_it(self):
        real, failed = LocalAssetStore.put, threading.Event()

        def fail_once(*arguments, **more):
            if not failed.is_set():
                failed.set()
                raise TransferError("the line is dead")
            return real(*arguments, **more)

        held = self.hold()
        first = self.record()["nonce"]
        with patch.object(LocalAssetStore, "put", fail_once), held:
            wait_until(lambda: self.record()["nonce"] != first, 10, "a renewal")
            held.check()

    def test_any_other_error_while_renewing_is_a_lost_lease(self):
        held, stopped = self.hold(), threading.Event()
        with patch.object(LocalAssetStore, "put", side_effect=RuntimeError("botocore's")):
            with held:
                held.on_loss(lambda error: stopped.set())
                self.assertTrue(stopped.wait(10))
                with self.assertRaisesRegex(TransferError, "RuntimeError: botocore's"):
                    held.check()

    def test_what_stops_late_is_stopped_at_once(self):
        held, stopped = self.hold(), threading.Event()
        with patch.object(LocalAssetStore, "put", side_effect=RuntimeError("no")), held:
            lost = threading.Event()
            held.on_loss(lambda error: lost.set())
            self.assertTrue(lost.wait(10))
            held.on_loss(lambda error: stopped.set())
            self.assertTrue(stopped.is_set())


@slow
class TestJob(LeaseTestCase):
    """A whole job."""

    def run_with(self, timing: Timing, **more):
        """Run a job with other intervals."""
        return UploadJob(self.config(**more), self.settings(), self.told, timing=timing).run()

    def test_a_job_whose_asset_was_taken_over_publishes_nothing(self):
        self.told.when(Step.VERIFY, Kind.START, self.take_over)
        with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
            self.run_job()
        self.assertEqual(read_lease(self.store, KEY).record["fence"], 7)
        self.assertIsNone(self.store.get(manifest_key(PREFIX)))

    def test_a_job_that_loses_its_lease_stops_sending_at_once(self):
        for number in range(400):
            self.write(f"many/{number}")
        real, lost, late = LocalAssetStore.put, threading.Event(), []

        def put(store, key, data, *arguments, **more):
            if isinstance(store.guard, Lease):  # by the job itself
                if lost.is_set() and key.startswith(PREFIX):
                    late.append(key)
                if key.endswith("many/7") and not lost.is_set():
                    gone = threading.Event()
                    store.guard.on_loss(lambda error: gone.set())
                    self.take_over()
                    self.assertTrue(gone.wait(10))
                    lost.set()
            return real(store, key, data, *arguments, **more)

        with patch.object(LocalAssetStore, "put", put):
            with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
                self.run_with(QUICK)
        self.assertTrue(lost.is_set())
        self.assertNotIn("behavior/many/7", self.stored())
        self.assertLess(len(late), 40)
        self.assertFalse([name for name in self.stored() if name.endswith(".json")])
        self.assertEqual(read_lease(self.store, KEY).record["fence"], 7)

    def test_a_whole_job_takes_over_from_a_dead_one_and_leaves_what_it_did_not_send(self):
        self.store.put(f"{PREFIX}/behavior/half.txt", b"half")
        self.elsewhere()
        with patch.object(lease_contention, "ttl_of", lambda *_: -1.0):
            self.run_job()
        self.assertIn("behavior/a.txt", self.manifest())
        self.assertEqual(self.stored()["behavior/half.txt"], b"half")
        self.assertIn("half.txt", " ".join(self.told.warnings()))

    def test_each_holder_has_a_larger_fencing_number_which_is_in_its_records(self):
        self.run_job()
        self.assertEqual(self.store.header(PREFIX)["fence"], 1)
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.store.header(PREFIX)["fence"], 2)
        with self.claim(force=True) as claim:
            self.assertEqual(claim.lease.fence, 3)
            journal = (self.folder / "state" / "journal.jsonl").read_text()
            self.assertIn('"fence":3', journal)

    def test_a_store_without_conditional_writes_is_found_and_reported(self):
        real = LocalAssetStore.put

        def put(store, key, data, new=False, halt=None, if_match=None):
            return real(store, key, data, halt=halt)

        with patch.object(LocalAssetStore, "put", put):
            self.run_job()
        self.assertIn("does not support conditional writes", " ".join(self.told.warnings()))

    def test_a_file_system_without_locks_is_found_and_reported(self):
        real = fcntl.flock
        for code in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):

            def refuse(file, how, code=code):
                if str(file.name).endswith("/.lock"):
                    raise OSError(code, os.strerror(code))
                return real(file, how)

            self.told = Told()
            with self.subTest(errno.errorcode[code]), patch.object(fcntl, "flock", refuse):
                self.run_job(force_cloud_sync=True)
                warnings = " ".join(self.told.warnings())
                self.assertIn("does not support conditional writes", warnings)


class TestPublished(LeaseTestCase):
    """An asset whose job was killed between its manifest and the removal of its lease."""

    def setUp(self) -> None:
        """Let a job be killed there."""
        super().setUp()
        refused = DestinationError("not allowed to delete")
        with patch.object(LocalAssetStore, "delete_matching", side_effect=refused):
            self.run_job(self.settings(job_id="one"))
        self.before = self.stored()
        self.other = self.write("b.bin", root=self.folder / "session" / "Ecephys").parent

    def ecephys(self, **more):
        """Run a job of another modality of the same session."""
        modality = {"modality": "ecephys", "source": str(self.other)}
        return self.run_job(modalities=[modality], **more)

    def test_it_is_published_whatever_happened_to_its_lease(self):
        self.assertIsNotNone(self.store.get(KEY))
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PRESENT)
        self.assertIn("could not be removed", " ".join(self.told.warnings()))

    def test_a_job_of_another_modality_is_refused_and_deletes_nothing(self):
        with self.assertRaisesRegex(DestinationExistsError, "exists already"):
            self.ecephys()
        self.assertEqual(self.stored(), self.before)

    def test_a_forced_job_of_another_modality_deletes_nothing(self):
        self.ecephys(force_cloud_sync=True)
        after, manifest = self.stored(), self.manifest()
        self.assertEqual(after["behavior/a.txt"], self.before["behavior/a.txt"])
        self.assertLessEqual({"behavior/a.txt", "ecephys/b.bin"}, set(manifest))
        self.assertEqual(self.store.header(PREFIX)["fence"], 2)
        self.assertIsNone(self.store.get(KEY))

    def test_the_same_job_queued_again_succeeds_and_removes_its_lease(self):
        self.run_job(self.settings(job_id="one"))
        self.assertIsNone(self.store.get(KEY))
        self.assertEqual(self.stored(), self.before)

    def test_what_an_earlier_attempt_left_goes_together_with_the_lease(self):
        """It was killed before its shards were done."""
        self.store.put(f"{record_folder(PREFIX)}/shards/1-of-2.jsonl", b"data")
        self.run_job(self.settings(job_id="one"))
        left = [item.key for item in self.store.objects(record_folder(PREFIX))]
        self.assertEqual(left, [manifest_key(PREFIX)])

    def test_the_same_job_that_waited_for_its_former_process_succeeds(self):
        with patch.object(LocalAssetStore, "asset_state", lambda *_: AssetState.PARTIAL):
            outcome = self.run_job(self.settings(job_id="one"))
        self.assertEqual(outcome.files, len(self.before))
        self.assertEqual(self.stored(), self.before)

    def test_a_claim_that_finds_it_late_refuses_as_well(self):
        state = self.folder / "state"
        with self.assertRaisesRegex(DestinationExistsError, "completed"):
            with claim_asset(
                self.store, PREFIX, state, AssetState.PARTIAL, False, None, lambda: NOW
            ):
                self.fail("claimed")
        self.assertEqual(self.stored(), self.before)
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PRESENT)


class TestOthers(LeaseTestCase):
    """What a job never deletes."""

    def fail_late(self, **more) -> None:
        """Let a job fail after its data arrived."""
        self.told.when(Step.VERIFY, Kind.START, self._raise)
        with self.assertRaisesRegex(TransferError, "half-way"):
            self.run_job(**more)

    @staticmethod
    def _raise() -> None:
        raise TransferError("half-way")

    def test_a_failed_job_of_another_modality_keeps_what_it_sent(self):
        self.fail_late()
        before = self.stored()
        other = self.write("b.bin", root=self.folder / "session" / "Ecephys").parent
        self.run_job(modalities=[{"modality": "ecephys", "source": str(other)}])
        after = self.stored()
        self.assertEqual(after["behavior/a.txt"], before["behavior/a.txt"])
        self.assertIn("ecephys/b.bin", self.manifest())
        self.assertNotIn("behavior/a.txt", self.manifest())
        self.assertIn("behavior/a.txt", " ".join(self.told.warnings()))

    @slow
    def test_a_document_that_is_no_longer_sent_is_deleted(self):
        self.write("procedures.json", "{}", root=self.folder / "documents")
        self.fail_late(metadata_dir=str(self.folder / "documents"))
        self.assertIn("procedures.json", self.stored())
        self.run_job()
        self.assertNotIn("procedures.json", self.stored())
        self.assertEqual(audit(self.store, PREFIX, False).differences_total, 0)

    def test_documents_that_arrived_are_ours_though_another_did_not_arrive(self):
        self.write("procedures.json", "{}", root=self.folder / "documents")
        put = LocalAssetStore.put

        def refuse_one(store, key, *arguments, **options):
            if key.endswith("/data_description.json"):
                raise TransferError("refused")
            return put(store, key, *arguments, **options)

        with patch.object(LocalAssetStore, "put", refuse_one):
            with self.assertRaisesRegex(TransferError, "refused"):
                self.run_job(metadata_dir=str(self.folder / "documents"))
        self.assertIn("procedures.json", self.stored())
        self.run_job()
        self.assertNotIn("procedures.json", self.stored())
        self.assertEqual(audit(self.store, PREFIX, False).differences_total, 0)

    def test_what_others_put_beneath_a_half_asset_stays_and_is_named(self):
        self.fail_late()
        self.store.put(f"{PREFIX}/behavior/foreign.txt", b"foreign")
        self.run_job()
        self.assertEqual(self.stored()["behavior/foreign.txt"], b"foreign")
        self.assertIn("foreign.txt", " ".join(self.told.warnings()))

    def test_what_others_replaced_stays_though_the_plan_no_longer_has_it(self):
        self.write("b.txt")
        self.fail_late()
        self.store.put(f"{PREFIX}/behavior/a.txt", b"theirs")
        (self.source / "a.txt").unlink()
        self.run_job()
        self.assertEqual(self.stored()["behavior/a.txt"], b"theirs")
