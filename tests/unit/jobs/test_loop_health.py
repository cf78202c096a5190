"""Whether the loops come round."""

import unittest

from aind_data_transfer_service.concurrency.loop_health import Heartbeat


class HeartbeatTest(unittest.TestCase):
    """A loop with an interval of ten seconds, and a round that may take five."""

    def test_a_loop_is_late_after_three_intervals_and_the_longest_round(self) -> None:
        now = 100.0
        heartbeat = Heartbeat(10, 5, clock=lambda: now)
        for now, is_late in ((135.0, False), (135.1, True)):
            self.assertEqual(is_late, heartbeat.is_late)
        heartbeat.beat()
        self.assertFalse(heartbeat.is_late)
