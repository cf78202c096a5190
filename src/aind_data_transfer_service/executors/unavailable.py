"""What stands in where the executor that the settings ask for is not to be had."""

from collections.abc import Sequence

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import (
    FileChunk,
    JobFile,
    JobSpec,
    RunStatus,
    Started,
)


class UnavailableExecutor:
    """Runs nothing, and says why.

    Parameters
    ----------
    reason : str
        Why there is no executor, and what to do about it.
    """

    name = "unavailable"

    def __init__(self, reason: str):
        self.reason = reason

    async def open(self) -> None:
        """Do nothing: pages work without an executor."""

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Refuse every job."""
        return [Started(spec.job_id, error=self.reason) for spec in specs]

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Say why there is no executor."""
        raise ExecutorError(self.reason)

    async def cancel(self, ref: str) -> None:
        """Say why there is no executor."""
        raise ExecutorError(self.reason)

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Say why there is no executor."""
        raise ExecutorError(self.reason)

    async def close(self) -> None:
        """Do nothing."""
