"""Builders of jobs, and an executor that does what a test tells it to."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import (
    FileChunk,
    JobFile,
    JobSpec,
    RunState,
    RunStatus,
    Started,
)
from aind_data_transfer_service.jobs.models import Job, JobEvent, new_job_id

_numbers = count(1)
NOON = datetime(2024, 2, 19, 12, tzinfo=UTC)


def a_job(**values: Any) -> Job:
    """Make a job that was just submitted, with an asset of its own."""
    number = next(_numbers)
    name = f"behavior_{690000 + number}_2024-02-19_11-25-17"
    usual: dict[str, Any] = {
        "id": new_job_id(),
        "name": name,
        "submitter": "Anna Apple",
        "project_name": "Ephys Platform",
        "platform": "behavior",
        "subject_id": str(690000 + number),
        "modalities": "behavior",
        "acq_datetime": "2024-02-19T11:25:17",
        "location": f"s3://bucket/{name}",
        "upload_job_settings": '{"subject_id": "1"}',
        "hpc_settings": "{}",
    }
    return Job(**(usual | values))


def an_event(step: str = "transfer", kind: str = "start", **values: Any) -> JobEvent:
    """Make an event."""
    return JobEvent(step=step, kind=kind, **({"time": NOON} | values))


def event_line(step: str, kind: str, message: str = "", **figures: Any) -> bytes:
    """Write an event as a job does."""
    event = {
        "time": NOON.isoformat(),
        "job_id": None,
        "asset": "a",
        "step": step,
        "kind": kind,
        "message": message,
        "figures": figures,
    }
    return json.dumps(event).encode() + b"\n"


def a_request(source: str, **values: Any) -> str:
    """Write the upload settings of a job as a client does."""
    usual: dict[str, Any] = {
        "processor_full_name": "Anna Apple",
        "project_name": "Ephys Platform",
        "platform": "behavior",
        "subject_id": "690165",
        "acq_datetime": "2024-02-19T11:25:17",
        "modalities": [{"modality": "behavior", "source": source}],
    }
    return json.dumps(usual | values)


class ToldExecutor:
    """Runs nothing: its jobs are in the states, and have the files, that a test gives them."""

    name = "told"
    patience = 0.0
    token_ends = None

    def __init__(self) -> None:
        self.specs: dict[str, JobSpec] = {}
        self.statuses_of: dict[str, RunStatus] = {}
        self.files: dict[tuple[str, JobFile], bytes] = {}
        self.cancelled: list[str] = []
        self.refusals: dict[str, str] = {}
        self.silent = ""
        self.questions = 0
        self.doubtful: set[str] = set()

    async def open(self, in_doubt: Collection[str] = ()) -> None:
        """Do nothing."""

    async def suspend(self) -> None:
        """Do nothing."""

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Take jobs, or refuse those that the test says."""
        self._answer()
        return [self._start(spec) for spec in specs]

    async def find(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Find what was taken, unless the test says that this does not show yet."""
        self._answer()
        return [
            Started(
                spec.job_id,
                ref=f"ref-{spec.job_id}" if spec.job_id in self.specs else None,
                in_doubt=spec.job_id in self.doubtful,
            )
            for spec in specs
        ]

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Tell the states that the test gave."""
        self._answer()
        self.questions += 1
        lost = RunState.LOST
        return {ref: self.statuses_of.get(ref, RunStatus(ref=ref, state=lost)) for ref in refs}

    async def cancel(self, ref: str) -> None:
        """Take a note."""
        self._answer()
        self.cancelled.append(ref)

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read what the test wrote."""
        self._answer()
        data = self.files.get((ref, file), b"")
        start = max(0, len(data) + offset) if offset < 0 else min(offset, len(data))
        return FileChunk(data=data[start : start + limit], offset=start, size=len(data))

    async def close(self) -> None:
        """Do nothing."""

    def tell(self, job_id: str, state: RunState, **values: Any) -> None:
        """Put a job into a state."""
        self.statuses_of[f"ref-{job_id}"] = RunStatus(ref=f"ref-{job_id}", state=state, **values)

    def write(self, job_id: str, file: JobFile, data: bytes) -> None:
        """Add to a job's file."""
        key = (f"ref-{job_id}", file)
        self.files[key] = self.files.get(key, b"") + data

    def _start(self, spec: JobSpec) -> Started:
        """Take one job."""
        if spec.job_id in self.refusals:
            return Started(spec.job_id, error=self.refusals[spec.job_id])
        self.specs[spec.job_id] = spec
        self.statuses_of.setdefault(
            f"ref-{spec.job_id}", RunStatus(ref=f"ref-{spec.job_id}", state=RunState.PENDING)
        )
        return Started(spec.job_id, ref=f"ref-{spec.job_id}", answer={"slot": 1})

    def _answer(self) -> None:
        """Be silent, where the test says so."""
        if self.silent:
            raise ExecutorError(self.silent)
