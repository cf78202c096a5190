"""The application without a network: asked through ASGI, with a real manager of jobs beneath it."""

import tempfile
import unittest
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from aind_data_transfer_service.executors.base import (
    FileChunk,
    JobFile,
    JobSpec,
    RunState,
    RunStatus,
    Started,
)
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.server import create_app
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import untraced
from tests.support.service import LAB
from tests.support.spreadsheets import shared_reader

SITE = "http://transfer"


class HandExecutor:
    """Runs nothing: its jobs stand as the test says, and have written what the test says."""

    name = "hand"
    patience = 0.0
    token_ends: datetime | None = None

    def __init__(self) -> None:
        self.specs: dict[str, JobSpec] = {}
        self.states: dict[str, RunStatus] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.cut: dict[str, int] = {}
        """Into how many shards jobs are cut; of `7` the files of the third are those of `7.3`."""
        self.refusal: str | None = None
        self.fault: Exception | None = None

    async def open(self, in_doubt: Collection[str] = ()) -> None:
        """Do nothing."""

    async def suspend(self) -> None:
        """Do nothing."""

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Take jobs over, or refuse all of them in the words of `refusal`."""
        if self.refusal:
            return [Started(spec.job_id, error=self.refusal) for spec in specs]
        for spec in specs:
            self.specs[spec.job_id] = spec
            self.states.setdefault(spec.job_id, RunStatus(spec.job_id, RunState.PENDING))
        return [Started(spec.job_id, ref=spec.job_id) for spec in specs]

    async def find(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Find what was taken."""
        ids = [spec.job_id for spec in specs]
        return [Started(one, ref=one if one in self.specs else None) for one in ids]

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Tell what the test wrote down, or raise `fault`."""
        if self.fault:
            raise self.fault
        return {ref: self.states.get(ref, RunStatus(ref, RunState.LOST)) for ref in refs}

    async def cancel(self, ref: str) -> None:
        """End a job."""
        self.states[ref] = RunStatus(
            ref, RunState.CANCELLED, exit_code=130, ended_at=datetime.now(UTC)
        )

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read what the test wrote down."""
        data = self.files.get((ref, file), b"")
        start = max(0, len(data) + offset) if offset < 0 else min(offset, len(data))
        return FileChunk(data[start : start + limit], start, len(data))

    async def shards(self, ref: str) -> int | None:
        """Tell what the test wrote down."""
        return self.cut.get(ref)

    async def read_shard(
        self, ref: str, shard: int, file: JobFile, offset: int, limit: int
    ) -> FileChunk:
        """Read what the test wrote down."""
        return await self.read(f"{ref}.{shard}", file, offset, limit)

    async def close(self) -> None:
        """Do nothing."""


class ApplicationTest(unittest.IsolatedAsyncioTestCase):
    """A test with an application that has started, and a client that asks it."""

    settings: dict[str, Any] = {}
    """Fields of `ServiceSettings` that are not as usual."""

    async def asyncSetUp(self) -> None:
        """Start the application, whose files are in `state_dir`; `data_dir` is a folder of data."""
        untraced()
        folder = tempfile.TemporaryDirectory(prefix="application-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.data_dir = Path(folder.name) / "session"
        self.data_dir.mkdir()
        self.state_dir = Path(folder.name) / "service"
        usual = {"data_dir": self.state_dir, "lab_timezone": LAB, "monitor_interval": 0.05}
        settings = ServiceSettings(**(usual | self.settings))
        self.executor = HandExecutor()
        self.manager = JobManager(settings, executor=self.executor, spreadsheets=shared_reader())
        self.app = create_app(settings, self.manager)
        lifespan = self.app.router.lifespan_context(self.app)
        await self.enterAsyncContext(lifespan)
        self.client = await self.enterAsyncContext(self.new_client())

    def new_client(self, **options: Any) -> httpx.AsyncClient:
        """Make a client of the application."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=SITE, **options)

    def envelope(self, response: httpx.Response) -> dict[str, Any]:
        """Take the data out of an answer, having made sure that it is an envelope."""
        answer = response.json()
        self.assertEqual({"message", "data"}, set(answer))
        self.assertIsInstance(answer["message"], str)
        self.assertIsInstance(answer["data"], dict)
        return answer["data"]
