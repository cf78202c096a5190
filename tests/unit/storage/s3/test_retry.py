"""What is tried again, and when it is given up."""

import threading
import unittest

from aind_data_transfer_service.errors import CancelledError
from aind_data_transfer_service.storage.s3.retry import Fault, Kind, Patience, Repeats, judge


class TestJudge(unittest.TestCase):
    """Of what kind a refusal is."""

    def test_each_refusal_is_of_the_kind_that_helps(self):
        for status, code, kind in (
            (503, "SlowDown", Kind.PASSING),
            (500, "InternalError", Kind.PASSING),
            (400, "RequestTimeout", Kind.PASSING),
            (429, "", Kind.PASSING),
            (502, "", Kind.PASSING),
            (501, "NotImplemented", Kind.FINAL),
            (400, "ExpiredToken", Kind.EXPIRED),
            (403, "RequestTimeTooSkewed", Kind.SKEWED),
            (400, "BadDigest", Kind.DAMAGED),
            (400, "", Kind.DAMAGED),
            (403, "AccessDenied", Kind.FINAL),
            (404, "NoSuchBucket", Kind.FINAL),
            (400, "InvalidArgument", Kind.FINAL),
            (403, "InvalidAccessKeyId", Kind.UNKNOWN_KEY),
            (307, "TemporaryRedirect", Kind.PASSING),
        ):
            with self.subTest(status=status, code=code):
                self.assertIs(judge(status, code), kind)


class TestPatience(unittest.TestCase):
    """How long faults are borne."""

    def setUp(self):
        """Set a clock that only waiting moves."""
        self.now, self.waits, self.told = 0.0, [], []
        self.patience = Patience(60.0, lambda: self.now, lambda low, high: high, self.wait)

    def wait(self, seconds, halt):
        """Let time pass at once."""
        self.waits.append(seconds)
        self.now += seconds
        return bool(halt and halt.is_set())

    def run_with(self, faults, mend=lambda fault: True, halt=None):
        """Try something that fails so often."""
        faults = iter(faults)

        def attempt():
            for fault in faults:
                raise fault
            return "done"

        repeats = Repeats(self.told.append, lambda: self.now)
        return self.patience.run(attempt, repeats, mend, halt)

    def test_waits_grow_up_to_a_bound_and_the_budget_ends_them(self):
        endless = iter(lambda: Fault(Kind.PASSING, "SlowDown"), None)
        with self.assertRaisesRegex(Fault, r"^SlowDown; given up after \d+ attempts in 60 s$"):
            self.run_with(endless)
        self.assertEqual(self.waits[:4], [0.2, 0.4, 0.8, 1.6])
        self.assertEqual(max(self.waits), 20.0)
        self.assertEqual(sum(self.waits), 60.0)

    def test_jitter_is_anything_below_the_bound(self):
        pauses = [Patience(60.0).pause(5) for _ in range(200)]
        self.assertLess(min(pauses), 0.8)
        self.assertGreater(max(pauses), 2.4)
        self.assertLessEqual(max(pauses), 3.2)

    def test_the_server_says_how_long_to_wait_and_the_budget_still_holds(self):
        fault = Fault(Kind.PASSING, "SlowDown")
        fault.retry_after = 30.0
        self.run_with([fault])
        self.assertEqual(self.waits, [30.2])
        with self.assertRaisesRegex(Fault, "given up after 3 attempts in 60 s"):
            self.run_with([fault] * 9)

    def test_a_key_that_is_not_known_yet_is_tried_for_some_seconds(self):
        fault = Fault(Kind.UNKNOWN_KEY, "InvalidAccessKeyId")
        self.assertEqual(self.run_with([fault] * 4, mend=lambda fault: False), "done")
        with self.assertRaisesRegex(Fault, "given up after 8 attempts in 2. s"):
            self.run_with([fault] * 99, mend=lambda fault: False)

    def test_what_passes_ends_well(self):
        self.assertEqual(self.run_with([Fault(Kind.PASSING, "reset")] * 5), "done")

    def test_the_first_cause_is_named_beside_the_last(self):
        faults = [Fault(Kind.PASSING, "connection reset"), Fault(Kind.FINAL, "AccessDenied", 403)]
        words = "^connection reset; given up after 2 attempts in 0 s; last: AccessDenied"
        with self.assertRaisesRegex(Fault, words) as caught:
            self.run_with(faults)
        self.assertEqual(caught.exception.status, 403)

    def test_what_nothing_helps_against_is_not_tried_again(self):
        with self.assertRaisesRegex(Fault, "^AccessDenied$"):
            self.run_with([Fault(Kind.FINAL, "AccessDenied")])
        self.assertEqual(self.waits, [])

    def test_damage_is_borne_twice(self):
        damage = Fault(Kind.DAMAGED, "BadDigest")
        self.assertEqual(self.run_with([damage] * 2), "done")
        with self.assertRaisesRegex(Fault, "3 times: the network or the server damages data"):
            self.run_with([damage] * 3)

    def test_credentials_that_cannot_be_had_anew_end_it(self):
        expired = Fault(Kind.EXPIRED, "ExpiredToken")
        self.assertEqual(self.run_with([expired]), "done")
        with self.assertRaisesRegex(Fault, "^ExpiredToken$"):
            self.run_with([expired], mend=lambda fault: False)
        with self.assertRaisesRegex(Fault, "given up after 4 attempts"):
            self.run_with([expired] * 9)

    def test_a_transfer_that_stops_waits_no_more(self):
        halt = threading.Event()
        halt.set()
        with self.assertRaises(CancelledError):
            self.run_with([Fault(Kind.PASSING, "reset")], halt=halt)
        with self.assertRaises(CancelledError):  # with the real clock
            Patience(60.0).run(self.fail_once, Repeats(self.told.append), halt=halt)

    @staticmethod
    def fail_once():
        """Fail."""
        raise Fault(Kind.PASSING, "reset")

    def test_repetitions_are_told_together_now_and_then(self):
        self.run_with([Fault(Kind.PASSING, "reset")] * 7)
        self.assertEqual(self.told[0], "a request is tried again: reset (1)")
        self.assertEqual(self.told[1], "6 requests are tried again: reset (6)")
        self.assertEqual(len(self.told), 2)
