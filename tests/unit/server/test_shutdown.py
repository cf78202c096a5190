"""The process ends in time, whatever hangs."""

import signal
import subprocess
import sys
import time
import unittest

from tests.support import slow

PROGRAM = """
import signal, sys, threading
import logging
from aind_data_transfer_service.server.shutdown import ended_in_time

told = threading.Event()
signal.signal({signal}, lambda *_: told.set())
with ended_in_time({seconds}):
    if {hangs}:
        threading.Thread(target=threading.Event().wait).start()
    if {hangs} > 1:
        logging.getLogger().addHandler(logging.StreamHandler())
        logging.getLogger().handlers[0].acquire()
    print("ready", flush=True)
    while not told.wait(0.01):
        pass
sys.exit(7)
"""


class ShutdownTest(unittest.TestCase):
    """A process with and without a thread that never ends."""

    def end(self, number: signal.Signals, hangs: int, seconds: float) -> tuple[int, str, float]:
        """Run a process, end it by a signal; give its exit code, its log, and how long it took."""
        source = PROGRAM.format(signal=int(number), hangs=hangs, seconds=seconds)
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        self.assertEqual("ready\n", process.stdout.readline())
        process.send_signal(number)
        began = time.monotonic()
        _, log = process.communicate(timeout=20)
        return process.returncode, log, time.monotonic() - began

    @slow
    def test_a_process_that_hangs_ends_and_says_so(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                code, log, _ = self.end(number, hangs=1, seconds=0.2)
                self.assertEqual(1, code)
                self.assertIn("something hangs", log)

    @slow
    def test_a_log_that_hangs_does_not_keep_it(self) -> None:
        self.assertEqual((1, ""), self.end(signal.SIGTERM, hangs=2, seconds=0.2)[:2])

    @slow
    def test_a_process_that_ends_by_itself_is_left_alone(self) -> None:
        code, log, took = self.end(signal.SIGTERM, hangs=0, seconds=60)
        self.assertEqual((7, ""), (code, log))
        self.assertLess(took, 30)
