"""What stands over a job, run within the test's own process."""

import fcntl
import json
import os
import signal
import tempfile
import threading
import unittest
from pathlib import Path

from aind_data_transfer_service.executors.local.supervisor import STOP_SIGNALS, Supervisor, main
from tests.support import wait_until


class SupervisorTest(unittest.TestCase):
    """One job, at most once."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for number in STOP_SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def run_shell(self, script: str, grace: str = "5") -> dict:
        """Run a job to its end and give what was written down."""
        main([str(self.folder), grace, "/bin/sh", "-c", script])
        return self.ended()

    def ended(self) -> dict:
        return json.loads((self.folder / "exit.json").read_text())

    def said(self) -> str:
        path = self.folder / "stdout.log"
        return path.read_text() if path.exists() else ""

    def when_said(self, text: str, act) -> threading.Thread:
        """Do something as soon as the job has said something."""

        def watch():
            wait_until(lambda: text in self.said(), 10)
            act()

        thread = threading.Thread(target=watch)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_output_and_exit_code_are_kept(self):
        ended = self.run_shell("echo out; echo err >&2; exit 7")
        self.assertEqual((ended["exit_code"], ended["signal"], ended["stopped"]), (7, None, False))
        self.assertEqual(self.said(), "out\n")
        self.assertEqual((self.folder / "stderr.log").read_text(), "err\n")
        process = json.loads((self.folder / "process.json").read_text())
        self.assertEqual(process["pid"], os.getpid())
        self.assertLessEqual(process["started"], ended["ended"])

    def test_a_job_runs_in_its_folder_in_a_group_of_its_own_without_input(self):
        self.run_shell("pwd; ps -o pgid= -p $$; cat")
        folder, group = self.said().split()
        self.assertEqual(Path(folder).resolve(), self.folder.resolve())
        self.assertNotEqual(int(group), os.getpgrp())

    def test_a_job_is_not_run_a_second_time(self):
        self.run_shell("echo once")
        self.run_shell("echo twice")
        self.assertEqual(self.said(), "once\n")

    def test_a_job_that_another_one_stands_over_is_waited_for_and_left_alone(self):
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        supervisor = Supervisor(str(self.folder), ["/bin/echo", "twice"], 1.0)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        (self.folder / "process.json").write_text("{}")
        fcntl.flock(lock, fcntl.LOCK_UN)
        thread.join(10)
        self.assertEqual(self.said(), "")
        self.assertFalse((self.folder / "exit.json").exists())

    def test_a_job_that_was_cancelled_before_is_not_started(self):
        (self.folder / "cancel").touch()
        ended = self.run_shell("echo never")
        self.assertEqual((ended["exit_code"], ended["stopped"]), (None, True))
        self.assertEqual(self.said(), "")

    def test_a_request_to_stop_is_passed_on_once(self):
        def ask_twice():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

        self.when_said("on", ask_twice)
        ended = self.run_shell("trap 'echo asked; exit 130' TERM; echo on; sleep 60 & wait")
        self.assertEqual((ended["exit_code"], ended["stopped"]), (130, True))
        self.assertEqual(self.said().count("asked"), 1)

    def test_a_job_that_is_deaf_is_killed_when_the_grace_is_over(self):
        self.when_said("deaf", lambda: os.kill(os.getpid(), signal.SIGTERM))
        ended = self.run_shell("trap '' TERM; echo deaf; sleep 60; sleep 60", grace="0.1")
        self.assertEqual((ended["signal"], ended["stopped"]), (signal.SIGKILL, True))

    def test_what_a_job_leaves_behind_is_stopped(self):
        self.run_shell("sleep 300 & echo $!")
        child = int(self.said())
        wait_until(lambda: not _lives(child), 10, "the child to be gone")

    def test_a_program_that_is_not_there_is_told_in_words(self):
        main([str(self.folder), "1", "/no/such/program"])
        ended = self.ended()
        self.assertEqual(
            ended["error"], "/no/such/program cannot be run: No such file or directory"
        )


def _lives(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
