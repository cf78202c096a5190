"""How much may be on its way, and how fast."""

import contextlib
import threading
import time
import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.concurrency.transfer_budget import Lane, Traffic, cores
from aind_data_transfer_service.configs.units import byte_count, bytes_per_second
from aind_data_transfer_service.errors import CancelledError, TimeLimitError


class TestQuantities(unittest.TestCase):
    """What people write."""

    def test_rates(self):
        for text, rate in (
            ("200MB/s", 200e6),
            ("1.5 Gbit/s", 187.5e6),
            ("80 MiB/s", 80 * 2**20),
            ("8Mbps", 1e6),
            ("1000", 1000),
            ("10k", 10e3),
        ):
            self.assertEqual(bytes_per_second(text), rate, text)
        for text in ("fast", "-1", "", "0", "3 parsec/s", "1e9"):
            with self.assertRaisesRegex(ValueError, "is no rate; write one such as"):
                bytes_per_second(text)

    def test_sizes(self):
        self.assertEqual(byte_count("256MiB"), 256 * 2**20)
        self.assertEqual(byte_count("0.5 GB"), 500_000_000)
        self.assertEqual(byte_count("7"), 7)
        with self.assertRaisesRegex(ValueError, "is no size"):
            byte_count("much")


class TestBucket(unittest.TestCase):
    """So many a second."""

    @given(st.lists(st.tuples(st.integers(1, 70_000), st.floats(0, 0.3)), max_size=60))
    def test_whatever_is_asked_for_the_rate_holds(self, wishes):
        now = [0.0]
        bucket = TokenBucket(1_000_000.0, lambda: now[0], lambda s: now.__setitem__(0, now[0] + s))
        begin, total = 0.0, 0
        for count, idle in wishes:
            now[0] += idle
            bucket.take(count)
            self.assertLessEqual(total, 1_000_000 * (now[0] - begin + 0.051))
            total += count

    def test_threads_share_it(self):
        slept, lock = [], threading.Lock()

        def sleep(seconds):
            with lock:
                slept.append(seconds)

        bucket = TokenBucket(100.0, lambda: 0.0, sleep)
        threads = [threading.Thread(target=bucket.take, args=(100,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([round(s) for s in sorted(slept)], [1, 2, 3])


class TestTraffic(unittest.TestCase):
    """Connections and memory, shared out."""

    def test_each_lane_has_half_until_the_other_is_done(self):
        traffic = Traffic(4, 100)
        for lane in Lane:
            traffic.begin(lane)
        held = [traffic.seat(Lane.SMALL) for _ in range(3)]
        for seat in held[:2]:
            seat.__enter__()
        got = threading.Event()

        def third():
            with held[2]:
                got.set()

        thread = threading.Thread(target=third)
        thread.start()
        self.assertFalse(got.wait(0.05))
        traffic.end(Lane.LARGE)
        self.assertTrue(got.wait(5))
        thread.join()

    def test_small_files_get_the_connections_that_are_free_and_one_at_least(self):
        traffic = Traffic(8, 100)
        with traffic.place(10, 5) as first, traffic.place(10, 5) as second:
            self.assertEqual((first, second), (5, 3))
        traffic.begin(Lane.LARGE)
        with traffic.place(10, 5) as first:
            self.assertEqual(first, 4)
            got = threading.Event()

            def next_one():
                with traffic.place(10, 5) as seats:
                    if seats == 4:
                        got.set()

            thread = threading.Thread(target=next_one)
            thread.start()
            self.assertFalse(got.wait(0.05))
        self.assertTrue(got.wait(5))
        thread.join()
        with Traffic(1, 100).place(1000, 5) as seats:
            self.assertEqual(seats, 1)

    def test_before_a_time_limit_what_is_in_flight_ends_and_nothing_begins(self):
        halt = Halt()
        traffic = Traffic(4, 100, halt)
        limit = TimeLimitError("soon")
        halt.wind_down(limit, 20)  # nothing is being sent: there is nothing to wait for
        self.assertIsNone(halt.reason)
        traffic.begin(Lane.LARGE)
        refused = []

        def begin(another):
            with self.assertRaises(CancelledError), another:
                pass
            refused.append(another)

        with traffic.seat(Lane.LARGE):
            winding = threading.Thread(target=halt.wind_down, args=(limit, 20))
            winding.start()
            while traffic.seats_left(Lane.LARGE):
                time.sleep(0.001)
            others = [traffic.seat(Lane.LARGE), traffic.place(1)]
            threads = [threading.Thread(target=begin, args=(one,)) for one in others]
            for thread in threads:
                thread.start()
            self.assertIsNone(halt.reason)
        winding.join(20)
        self.assertIs(halt.reason, limit)
        for thread in threads:
            thread.join(20)
        self.assertEqual(len(refused), 2)

    def test_what_is_in_flight_is_not_waited_for_longer_than_the_time_limit_allows(self):
        halt = Halt()
        traffic = Traffic(4, 100, halt)
        traffic.begin(Lane.SMALL)
        with traffic.place(10):
            halt.wind_down(TimeLimitError("soon"), 0.01)
            self.assertIsInstance(halt.reason, TimeLimitError)

    def test_a_transfer_that_failed_is_not_said_to_have_met_its_time_limit(self):
        halt = Halt()
        traffic = Traffic(4, 100, halt)
        traffic.begin(Lane.SMALL)
        traffic.stop()
        halt.wind_down(TimeLimitError("soon"), 20)
        self.assertIsNone(halt.reason)

    def test_memory_comes_back_and_too_large_a_wish_is_granted_alone(self):
        traffic = Traffic(1, 100)
        with traffic.memory(1000):
            got = threading.Event()
            thread = threading.Thread(target=lambda: (traffic.take(1), got.set()))
            thread.start()
            self.assertFalse(got.wait(0.05))
        self.assertTrue(got.wait(5))
        thread.join()

    def test_parts_are_sent_apart_where_the_link_or_the_store_is_slow_or_a_core_idle(self):
        traffic = Traffic(4, 100)
        self.assertTrue(traffic.sends_apart)  # nobody else has work
        with contextlib.ExitStack() as workers:
            for _ in range(cores()):
                workers.enter_context(traffic.worker())
            self.assertFalse(traffic.sends_apart)
            for sending, answering, expected in (
                (0.002, 0.0001, False),
                (0.100, 0.0001, True),
                (0.002, 0.0300, True),
            ):
                for _ in range(20):
                    traffic.note(8_000_000, sending, answering)
                self.assertEqual(traffic.sends_apart, expected, (sending, answering))
                for _ in range(40):
                    traffic.note(8_000_000, 0.001, 0.0)
                self.assertFalse(traffic.sends_apart)
        self.assertTrue(traffic.sends_apart)

    def test_a_stop_wakes_whoever_waits(self):
        traffic = Traffic(1, 100)
        traffic.take(100)
        failures = []

        def wait():
            try:
                traffic.take(1)
            except CancelledError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        traffic.stop()
        thread.join(5)
        self.assertEqual(len(failures), 1)
