"""A cluster of one node that only pretends: jobs wait, run, end and are forgotten by the clock."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds."""

    pending: float = 2.0
    run: float = 5.0
    min_job_age: float = 300.0
    """How long an ended job is still listed, as Slurm's own MinJobAge says."""


@dataclass
class MockJob:
    """A job: what was asked for, and when what happened."""

    job_id: int
    script: str
    properties: dict[str, Any]
    submitted: float
    cancelled: float | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def exit_code(self) -> int:
        """The code of the script's last line, where that reads `exit N`; nothing is really run."""
        lines = self.script.strip().splitlines()
        found = re.fullmatch(r"\s*exit\s+(\d{1,3})\s*", lines[-1]) if lines else None
        return int(found[1]) if found else 0

    @property
    def starts(self) -> float:
        """When the job leaves the queue."""
        return self.submitted + self.pace.pending

    @property
    def limit(self) -> float:
        """How long the job may run, in seconds (`time_limit` is in minutes)."""
        minutes = self.properties.get("time_limit")
        return float("inf") if minutes is None else 60.0 * float(minutes)

    @property
    def ends(self) -> float:
        """When the job ends, or ended."""
        natural = self.starts + min(self.pace.run, self.limit)
        return natural if self.cancelled is None else min(self.cancelled, natural)

    def state(self, now: float) -> str:
        """Slurm's word for where the job stands."""
        if self.cancelled is not None and self.cancelled <= now and self.cancelled <= self.ends:
            return "CANCELLED"
        if now < self.starts:
            return "PENDING"
        if now < self.ends:
            return "RUNNING"
        if self.pace.run > self.limit:
            return "TIMEOUT"
        return "FAILED" if self.exit_code else "COMPLETED"


class Cluster:
    """All jobs; safe to use from several threads."""

    def __init__(
        self,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        max_job_count: int = 10_000,
    ) -> None:
        self.clock = clock
        self.max_job_count = max_job_count
        """How many jobs are listed at most, as Slurm's own MaxJobCount says."""
        self.partitions: list[dict[str, Any]] = [{"name": "part", "flags": ["default"]}]
        """The partitions, as v0.0.36 lists them."""
        self.cpus, self.memory_mb = 8, 64_000
        """What the node has."""
        self._pace = pace or Pace()
        self._jobs: dict[int, MockJob] = {}
        self._last_id = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether no more jobs are taken; Slurm too keeps one place free."""
        return len(self.jobs()) + 1 >= self.max_job_count

    def submit(self, script: str, properties: dict[str, Any]) -> MockJob:
        """Put a job into the queue."""
        with self._lock:
            self._last_id += 1
            job = MockJob(self._last_id, script, properties, self.clock(), pace=self._pace)
            self._jobs[job.job_id] = job
            return job

    def jobs(self) -> list[MockJob]:
        """List the jobs that are still remembered."""
        with self._lock:
            now = self.clock()
            self._jobs = {
                number: job
                for number, job in self._jobs.items()
                if job.state(now) not in ENDED or now < job.ends + self._pace.min_job_age
            }
            return list(self._jobs.values())

    def job(self, job_id: int) -> MockJob | None:
        """Find a job that is still remembered."""
        return next((job for job in self.jobs() if job.job_id == job_id), None)

    def cancel(self, job: MockJob) -> bool:
        """Stop a job; tell whether there was anything to stop."""
        with self._lock:
            now = self.clock()
            if job.state(now) in ENDED:
                return False
            job.cancelled = now
            return True
