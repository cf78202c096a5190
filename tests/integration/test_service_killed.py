"""Jobs outlive the service: it is killed, as the machine would, and started again."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from aind_data_transfer_service.jobs.states import ENDED, JobState
from aind_data_transfer_service.jobs.store.job_store import JobQuery, JobStore
from tests.support import campaign, wait_until

ROOT = Path(__file__).parents[2]


class ServiceKilledTest(unittest.TestCase):
    """Real processes, killed with no warning."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.service = None
        self.addCleanup(self.kill)

    def start(self):
        """Start the service and wait until it works."""
        self.service = subprocess.Popen(
            [sys.executable, "-m", "tests.support.job_service", str(self.folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(self.service.stdout.readline(), "ready\n")
        self.store = JobStore(f"sqlite:///{self.folder / 'jobs.sqlite3'}")
        self.addCleanup(self.store.close)

    def kill(self):
        """Kill the service, and nothing else."""
        if self.service is not None:
            self.service.kill()
            self.service.wait()
            self.service.stdin.close()
            self.service.stdout.close()
            self.service = None

    def submit(self, *items: tuple[str, str, str]) -> list[str]:
        self.ask(*items)
        return json.loads(self.service.stdout.readline())

    def ask(self, *items: tuple[str, str, str]) -> None:
        self.service.stdin.write(json.dumps(items) + "\n")
        self.service.stdin.flush()

    def script(self, name: str, *lines: str) -> tuple[str, str, str]:
        return "{}", json.dumps({"name": name}), "\n".join(["#!/bin/sh", *lines, ""])

    def state(self, job_id: str) -> JobState:
        return self.store.get(job_id).state

    def until(self, job_id: str, *states: JobState):
        wait_until(lambda: self.state(job_id) in states, 20, f"{job_id} to be {states}")
        return self.store.get(job_id)

    def test_running_waiting_and_ended_jobs_are_found_again(self):
        self.start()
        go = self.folder / "go"
        ended, running, waiting, dead = self.submit(
            self.script("ended", "exit 0"),
            self.script("running", f"until [ -e {go} ]; do sleep 0.05; done", "echo end", "exit 4"),
            self.script("waiting", "echo mine"),
            self.script("dead", "echo here; sleep 300"),
        )
        self.until(ended, JobState.COMPLETED)
        self.until(running, JobState.RUNNING)
        self.kill()
        self.start()
        self.assertEqual(self.state(running), JobState.RUNNING)
        self.assertEqual(self.state(waiting), JobState.PENDING)
        self.kill()
        go.touch()
        wait_until(lambda: (self.folder / "jobs" / running / "exit.json").exists(), 10)
        self.start()
        self.assertEqual(self.until(running, JobState.FAILED).exit_code, 4)
        self.until(waiting, JobState.COMPLETED)
        self.until(dead, JobState.RUNNING)
        wait_until((self.folder / "jobs" / dead / "stdout.log").read_text, 10)
        self.kill()
        process = json.loads((self.folder / "jobs" / dead / "process.json").read_text())
        os.kill(process["pid"], 9)
        self.start()
        self.assertIn("vanished", self.until(dead, JobState.FAILED).reason)
        self.assertEqual(self.state(ended), JobState.COMPLETED)

    def test_a_data_transfer_goes_on_while_the_service_is_away(self):
        data = tempfile.TemporaryDirectory()
        self.addCleanup(data.cleanup)
        source = Path(data.name) / "source"
        source.mkdir()
        for number in range(200):
            (source / f"{number}.bin").write_bytes(os.urandom(20_000))
        request = {
            "processor_full_name": "Anna Apple",
            "project_name": "Ephys Platform",
            "platform": "behavior",
            "subject_id": "690165",
            "acq_datetime": "2024-02-19T11:25:17",
            "modalities": [{"modality": "behavior", "source": str(source)}],
        }
        self.start()
        [job_id] = self.submit((json.dumps(request), "{}", ""))
        wait_until(lambda: (self.folder / "jobs" / job_id / "process.json").exists(), 10)
        self.kill()
        wait_until(lambda: (self.folder / "jobs" / job_id / "exit.json").exists(), 30)
        self.start()
        job = self.until(job_id, *ENDED)
        self.assertEqual((job.state, job.reason), (JobState.COMPLETED, ""))
        self.assertGreaterEqual(job.files_done or 0, 200)
        steps = [event.step for event in self.store.events(job_id)]
        self.assertEqual(steps.count("done"), 1)

    def test_killed_at_any_moment_of_a_submission_nothing_is_lost_or_run_twice(self):
        lot = random.Random(7)
        count = round_number = 0
        while round_number < campaign(5) or not any(self.store.counts().values()):
            self.assertLess(round_number, 100, "a request was recorded")
            round_number += 1
            self.start()
            items = [
                self.script(
                    f"r{round_number}n{n}", f"echo x >> {self.folder}/ran-r{round_number}n{n}"
                )
                for n in range(10)
            ]
            self.ask(*items)
            time.sleep(lot.uniform(0, 0.12))  # not to wait for something: to kill at any moment
            self.kill()
        self.start()

        def all_ended():
            counts = self.store.counts()
            return all(not counts[state] for state in JobState if state not in ENDED)

        wait_until(all_ended, 60, "all jobs to end")
        page = self.store.find(JobQuery(page_size=1000))
        for job in page.jobs:
            ran = self.folder / f"ran-{job.name}"
            self.assertEqual((job.state, job.reason), (JobState.COMPLETED, ""), job.name)
            self.assertEqual(ran.read_text(), "x\n", f"{job.name} ran exactly once")
            count += 1
        self.assertEqual(count, len(list(self.folder.glob("ran-*"))), "nothing unrecorded ran")
        self.assertEqual(count % 10, 0, "all of a request's jobs are recorded, or none")
        self.assertGreater(count, 0)
