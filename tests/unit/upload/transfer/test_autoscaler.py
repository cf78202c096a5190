"""How many threads send small files, found out by trying."""

import heapq
import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.upload.transfer.autoscaler import Crew
from tests.support import slow

BATCH = 100


class Day:
    """Threads that send batches at a rate that depends on how many there are.

    Parameters
    ----------
    rate : Callable
        By the number of threads and the time, how many files a second all of them send.
    wish : int
        How many more each of them holds to be of use.
    most : int
        How many there may be.
    """

    def __init__(self, rate, wish=1, most=32):
        self.now, self.rate, self.wish = 0.0, rate, wish
        self.crew = Crew(most, lambda: self.now)
        self.sizes, self.files = [1], 0

    def work(self, seconds):
        """Let them work until a time, and tell how many there are."""
        ends = [(self.now + self._takes(1), 0)]
        threads, count = 1, 0
        while ends and ends[0][0] < seconds:
            self.now, _ = heapq.heappop(ends)
            self.files += BATCH
            more, leaves = self.crew.review(BATCH, self.wish)
            threads += more - leaves
            assert threads >= 1
            for _ in range(more + (not leaves)):
                count += 1
                heapq.heappush(ends, (self.now + self._takes(threads), count))
            self.sizes.append(threads)
        return threads

    def _takes(self, threads):
        """Tell how long a batch takes one of so many threads."""
        return BATCH * threads / self.rate(threads, self.now)


class CrewTest(unittest.TestCase):
    """As many as make files arrive faster."""

    def test_where_each_waits_there_are_soon_as_many_as_may_be(self):
        day = Day(lambda threads, now: 300 * threads, wish=7)
        day.work(10)
        self.assertEqual(day.sizes[1], 8)
        self.assertGreaterEqual(day.crew.size, 29)

    def test_where_one_is_as_fast_as_many_there_is_one_nearly_always(self):
        day = Day(lambda threads, now: 20_000 / threads**0.3, wish=3)
        day.work(60)
        alone = day.sizes.count(1) / len(day.sizes)
        self.assertGreater(alone, 0.9)
        self.assertGreater(day.files, 0.95 * 60 * 20_000)

    def test_where_four_are_enough_there_are_four(self):
        day = Day(lambda threads, now: 1000 * min(threads, 4), wish=1)
        day.work(20)
        self.assertEqual(day.crew.size, 4)

    def test_a_store_that_becomes_slow_has_more_of_them_later(self):
        day = Day(lambda threads, now: 20_000 if now < 30 else 300 * threads, wish=7)
        day.work(200)
        self.assertGreaterEqual(day.crew.size, 29)

    def test_slow_answers_are_waited_for_before_it_is_judged(self):
        """A batch may take longer than the shortest trial."""
        day = Day(lambda threads, now: 10 * threads, wish=7)
        day.work(200)
        self.assertGreaterEqual(day.crew.size, 29)

    def test_without_a_wish_there_is_one(self):
        day = Day(lambda threads, now: 300 * threads, wish=0)
        self.assertEqual(day.work(20), 1)

    @slow
    @given(
        st.floats(-1, 1.2), st.integers(0, 40), st.integers(1, 32), st.sampled_from([10, 1e3, 1e5])
    )
    def test_there_is_always_one_and_never_too_many(self, power, wish, most, rate):
        day = Day(lambda threads, now: rate * threads**power, wish, most)
        day.work(2_000 * BATCH / rate)
        self.assertTrue(set(day.sizes) <= set(range(1, most + 1)))

    def test_threads_that_the_system_refuses_are_wished_for_no_more(self):
        day = Day(lambda threads, now: 300 * threads)
        review, refused = day.crew.review, []

        def refuse(files, more):
            started, ends = review(files, more)
            for _ in range(started):
                refused.append(day.now)
                day.crew.refused(1)
            return 0, ends

        day.crew.review = refuse
        day.work(60)
        self.assertEqual((day.crew.size, len(refused)), (1, 1))
