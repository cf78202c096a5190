"""Work in background threads, and what becomes of it where the system allows no more of them."""

import threading
import time
import unittest
from concurrent.futures import CancelledError, wait
from unittest.mock import patch

from aind_data_transfer_service.concurrency.daemon_thread import Pool, beside
from aind_data_transfer_service.concurrency.gather import ask_together
from aind_data_transfer_service.errors import TerminatedError
from aind_data_transfer_service.upload.cli.shutdown import Halted
from tests.support.threads import limit_threads


def interrupt():
    """Do what the handler of a signal does in the main thread."""
    raise Halted(TerminatedError("terminated"))


class BesideTest(unittest.TestCase):
    """One piece of work."""

    def test_an_error_is_raised_where_the_answer_is_asked_for(self):
        with self.assertRaises(ZeroDivisionError):
            beside(lambda: 1 // 0, "work").result(10)

    def test_without_another_thread_it_is_done_at_once(self):
        with limit_threads(0):
            self.assertEqual(beside(threading.get_ident, "work").result(0), threading.get_ident())
            with self.assertRaises(ZeroDivisionError):
                beside(lambda: 1 // 0, "work").result(0)

    def test_what_interrupts_the_thread_of_the_caller_is_raised_at_once(self):
        with limit_threads(0), self.assertRaises(Halted):
            beside(interrupt, "work")

    def test_questions_are_all_asked_with_the_threads_that_there_are(self):
        for most in (0, 1, 3):
            with self.subTest(most), limit_threads(most):
                answers = ask_together([lambda n=n: n for n in range(20)], 8)
                self.assertEqual([answer.result() for answer in answers], list(range(20)))


class PoolTest(unittest.TestCase):
    """Many pieces of work."""

    def test_all_is_done_by_as_many_threads_as_there_may_be(self):
        barrier, seen = threading.Barrier(3), set()

        def work(number):
            if number < 3:
                barrier.wait(10)  # three at once, or never
            seen.add(threading.get_ident())
            return number

        with Pool(3, "pool") as pool:
            answers = [pool.submit(work, number) for number in range(50)]
            pool.join()
            self.assertEqual([answer.result(0) for answer in answers], list(range(50)))
        self.assertLessEqual(len(seen), 3)
        self.assertNotIn(threading.get_ident(), seen)

    def test_an_idle_thread_is_used_before_another_is_started(self):
        with Pool(8, "pool") as pool:
            seen = set()
            for _ in range(10):
                seen.add(pool.submit(threading.get_ident).result(10))
                pool.join()
        self.assertLessEqual(len(seen), 2)

    def test_all_is_done_with_the_threads_that_there_are(self):
        for most in (0, 1, 2):
            with self.subTest(most), limit_threads(most), Pool(8, "pool") as pool:
                answers = [pool.submit(lambda n=n: n) for n in range(100)]
                pool.join()
                self.assertEqual([answer.result(0) for answer in answers], list(range(100)))

    def test_what_interrupts_the_thread_of_the_caller_is_raised_at_once(self):
        """Nobody waits for what is dropped then."""
        with limit_threads(0), Pool(8, "pool") as pool:
            self.assertEqual(pool.submit(lambda: 1).result(0), 1)
            with self.assertRaises(Halted):
                pool.submit(interrupt)
            pool.join()

    def test_threads_that_are_refused_to_several_at_once_leave_nothing_undone(self):
        """Each that submits counts its thread before the system refuses it."""
        refused = threading.Barrier(2)

        def refuse(thread):
            refused.wait(10)
            raise RuntimeError("can't start new thread")

        pool = Pool(8, "pool")
        start = threading.Thread.start
        answers = []
        callers = [
            threading.Thread(target=lambda: answers.append(pool.submit(time.monotonic)))
            for _ in range(2)
        ]

        def only_callers(thread):
            start(thread) if thread in callers else refuse(thread)

        with patch.object(threading.Thread, "start", only_callers):
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join(10)
        self.assertEqual(len(wait(answers, 10).done), 2)

    def test_leaving_it_waits_for_nothing_and_drops_what_has_not_begun(self):
        go, begun = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def hang():
            begun.set()
            go.wait(20)

        with Pool(1, "pool") as pool:
            pool.submit(hang)
            dropped = pool.submit(hang)
            begun.wait(10)
        with self.assertRaises(CancelledError):
            dropped.result(0)

    def test_an_error_spoils_no_thread(self):
        with Pool(1, "pool") as pool:
            bad, good = pool.submit(lambda: 1 // 0), pool.submit(lambda: 1)
            self.assertEqual(good.result(10), 1)
            self.assertIsInstance(bad.exception(10), ZeroDivisionError)
