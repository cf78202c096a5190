"""How a job is stopped: by signals, by a lost lease, and by the watchdog where it hangs."""

import contextlib
import gc
import io
import os
import signal
import sys
import threading
import unittest
import weakref
from unittest.mock import patch

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.transfer_budget import Lane, Traffic
from aind_data_transfer_service.errors import (
    CancelledError,
    DestinationExistsError,
    ExitCode,
    TerminatedError,
    TimeLimitError,
)
from aind_data_transfer_service.upload.cli import shutdown as module
from aind_data_transfer_service.upload.cli.shutdown import SIGNALS, Halted, Shutdown
from tests.support import slow
from tests.support.threads import limit_threads

LOST = DestinationExistsError("another job has taken it over")


class Word:
    """The last word of a job that hangs."""

    code = 1

    def __init__(self):
        self.reason, self.hangs = None, None

    def overdue(self, reason):
        """Keep the reason."""
        self.code = int(reason.exit_code)
        if self.hangs is not None:
            self.hangs.wait(20)
        self.reason = reason


class ShutdownTest(unittest.TestCase):
    """Signals that come in the middle of something."""

    def setUp(self):
        """Have the process end in name only."""
        self.halt, self.word = Halt(), Word()
        self.left, self.codes = threading.Event(), []
        self.enterContext(patch.object(module, "_LOOK_EVERY", 0.02))

    def leave(self, code):
        """Take note of the end."""
        self.codes.append(code)
        self.left.set()

    def shutdown(self, deadline=60.0):
        """Make the one under test."""
        return Shutdown(self.halt, self.word, deadline, self.leave)

    def test_whatever_waits_is_broken_off_and_the_reason_is_known_by_then(self):
        for number in SIGNALS:
            with self.subTest(number):
                self.halt = Halt()
                with self.assertRaises(Halted), self.shutdown():
                    os.kill(os.getpid(), number)
                    threading.Event().wait(20)
                error = CancelledError if number == signal.SIGINT else TerminatedError
                self.assertIs(type(self.halt.reason), error)
        self.assertEqual(self.codes, [])

    def test_a_signal_while_the_handlers_are_installed_is_not_lost(self):
        install, left = signal.signal, [signal.SIGTERM]

        def install_and_send(number, handler):
            former = install(number, handler)
            if number in left:
                left.remove(number)
                os.kill(os.getpid(), number)
            return former

        with (
            patch.object(signal, "signal", install_and_send),
            self.assertRaises(Halted),
            self.shutdown(),
        ):
            threading.Event().wait(5)
        self.assertIsInstance(self.halt.reason, TerminatedError)

    @slow
    def test_it_is_broken_off_once_so_that_it_can_clean_up(self):
        cleaned = threading.Event()
        with self.shutdown():
            with self.assertRaises(Halted):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                    threading.Event().wait(20)
                finally:
                    for number in SIGNALS:
                        os.kill(os.getpid(), number)
                    threading.Event().wait(0.05)
                    cleaned.set()
        self.assertTrue(cleaned.is_set())

    @slow
    def test_what_python_swallows_is_broken_off_again(self):
        """An exception in a finalizer or a callback of the garbage collector goes nowhere."""

        class Thing:
            pass

        class WithFinalizer:
            def __del__(self):
                interrupted()

        def interrupted(*_):
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                threading.Event().wait(20)
            except Halted:
                swallowed.append(True)
                raise

        def by_finalizer():
            WithFinalizer()

        def by_weak_reference():
            thing = Thing()
            kept.append(weakref.ref(thing, interrupted))

        def by_garbage_collector():
            gc.callbacks.append(interrupted)
            try:
                gc.collect()
            finally:
                gc.callbacks.remove(interrupted)

        kept = []
        for swallow in (by_finalizer, by_weak_reference, by_garbage_collector):
            with self.subTest(swallow.__name__):
                self.halt, swallowed = Halt(), []
                hook = sys.unraisablehook
                with self.assertRaises(Halted), self.shutdown():
                    swallow()
                    self.assertEqual(swallowed, [True])
                    threading.Event().wait(20)
                self.assertIs(sys.unraisablehook, hook)
        self.assertEqual(self.codes, [])

    def test_the_announcement_of_a_time_limit_lets_work_end_first(self):
        asked, go = threading.Event(), threading.Event()

        def finish(seconds):
            asked.set()
            return go.wait(seconds)

        self.halt.on_wind_down(finish)
        with self.assertRaises(Halted), self.shutdown():
            os.kill(os.getpid(), signal.SIGUSR1)
            self.assertTrue(asked.wait(20))
            self.assertIsNone(self.halt.reason)
            go.set()
            threading.Event().wait(20)
        self.assertIsInstance(self.halt.reason, TimeLimitError)

    def test_a_signal_that_follows_the_announcement_is_not_kept_waiting(self):
        asked, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        self.halt.on_wind_down(lambda _: asked.set() or go.wait(20))
        with self.assertRaises(Halted), self.shutdown():
            os.kill(os.getpid(), signal.SIGUSR1)
            self.assertTrue(asked.wait(20))
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(20)
        self.assertIsInstance(self.halt.reason, TerminatedError)

    def test_the_announcement_changes_nothing_while_nothing_is_sent(self):
        heard = threading.Event()
        self.halt.on_wind_down(lambda _: heard.set())
        with self.shutdown():
            os.kill(os.getpid(), signal.SIGUSR1)
            self.assertTrue(heard.wait(20))
        self.assertIsNone(self.halt.reason)

    def test_where_work_has_to_stop_already_all_is_restored(self):
        hook, handlers = sys.unraisablehook, [signal.getsignal(number) for number in SIGNALS]
        self.halt.stop(LOST)
        with self.assertRaises(Halted):
            with self.shutdown():
                threading.Event().wait(20)
        self.assertIs(sys.unraisablehook, hook)
        self.assertEqual([signal.getsignal(number) for number in SIGNALS], handlers)
        self.assertEqual(self.codes, [])

    def test_other_errors_in_finalizers_are_told_as_ever(self):
        class Odd:
            def __del__(self):
                raise ValueError("odd thing")

        with contextlib.redirect_stderr(io.StringIO()) as said:
            with patch.object(sys, "unraisablehook", sys.__unraisablehook__), self.shutdown():
                Odd()
        self.assertIn("odd thing", said.getvalue())

    def test_a_lost_lease_breaks_off_whatever_waits(self):
        with self.assertRaises(Halted), self.shutdown():
            threading.Thread(target=self.halt.stop, args=(LOST,)).start()
            threading.Event().wait(20)
        self.assertIs(self.halt.reason, LOST)

    def test_a_job_whose_outcome_is_certain_is_broken_off_no_more(self):
        with self.shutdown() as shutdown:
            shutdown.protect()
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertTrue(self.halt.wait(20))
        self.assertEqual(self.codes, [])

    def test_a_main_thread_that_takes_no_signal_ends_with_the_process(self):
        """As in an uninterruptible read of a drive that is gone: no handler runs."""
        with self.assertRaises(Halted), self.shutdown(0.05):
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                self.left.wait(20)
            finally:  # broken off already, where another thread took the signal
                self.left.wait(20)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            threading.Event().wait(20)
        self.assertEqual(self.codes, [ExitCode.TERMINATED])
        self.assertIsInstance(self.word.reason, TerminatedError)

    def test_a_clean_up_that_hangs_ends_with_the_process(self):
        with self.assertRaises(Halted), self.shutdown(0.05):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(20)
            finally:
                self.assertTrue(self.left.wait(20))
        self.assertEqual(self.codes, [ExitCode.TERMINATED])

    def test_the_process_ends_though_the_last_word_hangs_too(self):
        self.word.hangs = threading.Event()
        self.addCleanup(self.word.hangs.set)
        with patch.object(module, "_LAST_WORD", 0.05):
            with self.assertRaises(Halted), self.shutdown(0.05):
                try:
                    self.halt.stop(LOST)
                    threading.Event().wait(20)
                finally:
                    self.assertTrue(self.left.wait(20))
        self.assertEqual(self.codes, [ExitCode.DESTINATION_EXISTS])

    def test_the_process_ends_though_the_last_word_hangs_and_no_thread_can_be_started(self):
        self.word.hangs = threading.Event()
        self.addCleanup(self.word.hangs.set)
        with patch.object(module, "_LAST_WORD", 0.05):
            with self.assertRaises(Halted), self.shutdown(0.05), limit_threads(0):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                    threading.Event().wait(20)
                finally:
                    self.assertTrue(self.left.wait(20))
        self.assertEqual(self.codes, [ExitCode.TERMINATED])

    def test_the_last_word_is_said_though_no_thread_can_be_started(self):
        with self.assertRaises(Halted), self.shutdown(0.05), limit_threads(0):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(20)
            finally:
                self.assertTrue(self.left.wait(20))
        self.assertIsInstance(self.word.reason, TerminatedError)

    def test_a_signal_counts_while_requests_wind_down_and_no_thread_can_be_started(self):
        asked, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        self.halt.on_wind_down(lambda _: asked.set() or go.wait(20))
        with self.assertRaises(Halted), self.shutdown(), limit_threads(0):
            os.kill(os.getpid(), signal.SIGUSR1)
            self.assertTrue(asked.wait(20))
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertTrue(self.halt.wait(5))
            threading.Event().wait(20)
        self.assertIsInstance(self.halt.reason, TerminatedError)

    def test_who_fails_to_hear_of_the_end_does_not_keep_the_process_alive(self):
        def fail(*_):
            raise OSError("broken")

        for where in ("listener", "is_cancelled", "last word"):
            with self.subTest(where), self.assertLogs(module.logger, "WARNING"):
                self.setUp()
                with contextlib.suppress(Halted), self.shutdown(0.05) as shutdown:
                    if where == "listener":
                        self.halt.listen(fail)
                    elif where == "is_cancelled":
                        shutdown.is_cancelled = fail
                    else:
                        self.word.overdue = fail
                    try:
                        os.kill(os.getpid(), signal.SIGTERM)
                        threading.Event().wait(20)
                    finally:
                        self.assertTrue(self.left.wait(20))
                self.assertIsInstance(self.halt.reason, TerminatedError)

    def test_a_flood_of_signals_that_fills_the_pipe_breaks_nothing(self):
        look, go = Shutdown._next_signal, threading.Event()

        def look_late(shutdown):
            go.wait(20)
            return look(shutdown)

        self.enterContext(patch.object(Shutdown, "_next_signal", look_late))
        with self.assertRaises(Halted), self.shutdown() as shutdown:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(shutdown._wake, b"\x11" * 4096)
            try:
                self.halt.stop(LOST)
                threading.Event().wait(20)
            finally:
                go.set()
        self.assertIs(self.halt.reason, LOST)

    def test_a_signal_that_a_user_asked_for_is_a_cancellation(self):
        with self.assertRaises(Halted), self.shutdown() as shutdown:
            shutdown.is_cancelled = lambda: True
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(20)
        self.assertIsInstance(self.halt.reason, CancelledError)

    def test_the_former_handlers_are_restored(self):
        before = [signal.getsignal(number) for number in SIGNALS]
        with self.shutdown():
            self.assertNotEqual(before, [signal.getsignal(number) for number in SIGNALS])
        self.assertEqual(before, [signal.getsignal(number) for number in SIGNALS])
        with limit_threads(0), self.assertRaisesRegex(RuntimeError, "start new thread"):
            self.shutdown().__enter__()
        self.assertEqual(before, [signal.getsignal(number) for number in SIGNALS])
        self.halt.stop(LOST)  # and nothing of either is told any more

    def test_a_job_that_is_to_stop_already_does_not_begin(self):
        self.halt.stop(LOST)
        with self.assertRaises(Halted), self.shutdown():
            threading.Event().wait(20)


class HaltTest(unittest.TestCase):
    """One reason to stop, for everyone."""

    def test_the_first_reason_counts_and_everyone_hears_of_it_once(self):
        halt, told = Halt(), []
        halt.listen(lambda: told.append("early"))
        halt.stop(LOST)
        halt.stop(CancelledError("cancelled"))
        halt.listen(lambda: told.append("late"))
        self.assertIs(halt.reason, LOST)
        self.assertEqual(told, ["early", "late"])
        with self.assertRaises(DestinationExistsError):
            halt.check()

    def test_who_waits_for_a_connection_or_for_memory_breaks_off(self):
        halt = Halt()
        traffic = Traffic(1, 10, halt)
        broken = []

        def wait_for(what):
            with self.assertRaises(CancelledError), what:
                pass
            broken.append(what)

        with traffic.seat(Lane.SMALL), traffic.memory(10):
            waiting = [
                threading.Thread(target=wait_for, args=(what,))
                for what in (traffic.seat(Lane.SMALL), traffic.memory(5), traffic.place(5))
            ]
            for thread in waiting:
                thread.start()
            halt.stop(LOST)
            for thread in waiting:
                thread.join(20)
        self.assertEqual(len(broken), 3)
        self.assertTrue(traffic.halt.is_set())

    def test_work_goes_on_for_a_while_at_most_once_it_is_to_stop(self):
        halt, go = Halt(), threading.Event()
        self.addCleanup(go.set)
        self.assertEqual(halt.bounded(lambda: 7, "work", 0.0), 7)
        with self.assertRaises(ZeroDivisionError):
            halt.bounded(lambda: 1 // 0, "work", 0.0)
        halt.stop(LOST)
        self.assertEqual(halt.bounded(lambda: 7, "work", 10.0), 7)
        with self.assertRaisesRegex(TimeoutError, "work: not done within"):
            halt.bounded(lambda: go.wait(20), "work", 0.05)
