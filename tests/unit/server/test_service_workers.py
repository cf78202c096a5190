"""The worker processes of a real service: they are warm, and end when the service does."""

import os
import signal
import subprocess
import sys
import tempfile
import unittest

import httpx
import psutil

from tests.support import free_port, slow, wait_until
from tests.support.requests import csv_file, csv_row


@slow
class ServiceTest(unittest.TestCase):
    """`uvicorn` in a process of its own, with a secret among its variables."""

    def setUp(self) -> None:
        """Start the service."""
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--log-level", "warning"],
            env=os.environ | {"DATA_DIR": folder.name, "AWS_SECRET_ACCESS_KEY": "very secret"},
        )
        self.addCleanup(self.process.wait, 20)
        self.addCleanup(self.process.kill)
        wait_until(self.answers, 30, "the service")
        self.workers = wait_until(self.both_workers, 30, "the workers")

    def answers(self) -> bool:
        """Return whether the service answers."""
        try:
            return httpx.get(f"{self.url}/livez").is_success
        except httpx.TransportError:
            return False

    def both_workers(self) -> list[psutil.Process]:
        """Return the worker processes once there are two."""
        found = psutil.Process(self.process.pid).children()
        return found if len(found) == 2 else []

    def test_workers_are_warm_have_no_secrets_and_end_with_the_service(self) -> None:
        files = {"file": ("jobs.csv", csv_file(csv_row("/nowhere")))}
        response = httpx.post(f"{self.url}/api/validate_csv", files=files, timeout=60)
        self.assertEqual([2], response.json()["data"]["rows"])
        for worker in self.workers:
            self.assertNotIn("very secret", worker.environ().values())
            self.assertGreater(worker.nice(), 0)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.assert_workers_end()

    def test_workers_end_when_the_service_is_killed(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self.assert_workers_end()

    def assert_workers_end(self) -> None:
        """Wait for the end of the workers."""
        _, alive = psutil.wait_procs(self.workers, 10)
        self.assertEqual([], [one for one in alive if one.status() != psutil.STATUS_ZOMBIE])
