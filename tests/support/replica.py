"""One of several service processes of a database, as a process of its own that a test may kill.

::

    python -m tests.support.replica PORT TTL

It reads its settings from the environment, as the service does; its lease lasts `TTL` seconds.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support import free_port, wait_until

ROOT = Path(__file__).parents[2]
TTL = 1.5
"""Seconds that a lease lasts that a test lets expire."""
LONG_TTL = 15.0
"""Seconds that a lease lasts that must not expire, however busy the machine is."""


class Replica:
    """A running process; a context manager that kills it.

    Parameters
    ----------
    log : Path
        Where its output goes.
    environment : mapping of str to str
        Its settings.
    ttl : float
        Seconds that its lease lasts.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], ttl: float = TTL):
        self._log = log
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        usual = {"LAB_TIMEZONE": "UTC", "MONITOR_INTERVAL": "0.1", "PYTHONUNBUFFERED": "1"}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.replica", str(port), str(ttl)],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(log.parent)} | usual | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            wait_until(self._answers, 60, "a service process to answer")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()

    @property
    def log(self) -> str:
        """What it logged."""
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and nothing that it started."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it with no warning; its jobs live."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """End it in order, and return its exit code."""
        self.process.terminate()
        return self.process.wait(30)

    def health(self, path: str = "/readyz") -> dict[str, Any]:
        """Return what it says of itself."""
        return self.client.get(path).json()["data"]

    def is_active(self) -> bool:
        """Return whether it runs the jobs."""
        return self.health()["role"] == "active"

    def submit(self, *scripts: tuple[str, str]) -> list[str]:
        """Submit scripts, each with its name, and return the ids of the jobs."""
        jobs = [
            {
                "upload_job_settings": "{}",
                "hpc_settings": f'{{"name": "{name}"}}',
                "script": f"#!/bin/sh\n{script}\n",
            }
            for name, script in scripts
        ]
        answer = self.client.post("/api/submit_hpc_jobs", json={"jobs": jobs})
        assert answer.status_code == 200, answer.text
        return [one["job_id"] for one in answer.json()["data"]["responses"]]

    def states(self) -> dict[str, str]:
        """Return the state of each job."""
        answer = self.client.get("/api/jobs", params={"page_size": 500})
        return {job["id"]: job["state"] for job in answer.json()["data"]["jobs"]}

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the service ended at once: {self.log[-2000:]}")
        try:
            return self.client.get("/livez").is_success
        except httpx.TransportError:
            return False


def main(port: int, ttl: float) -> None:
    """Serve until a signal comes."""
    import uvicorn

    from aind_data_transfer_service.jobs.leader_election import LeaseTiming
    from aind_data_transfer_service.server.application import create_app, create_manager
    from aind_data_transfer_service.settings.service import ServiceSettings

    settings = ServiceSettings()
    timing = LeaseTiming(ttl=ttl, interval=ttl / 10, margin=ttl / 5)
    app = create_app(settings, create_manager(settings, timing=timing))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
