"""What jobs on the cluster leave in the folder of logs, as the service reads it.

Whoever may run a script may write there. So nothing is followed out of the folder: a link, a
device or a pipe in the place of a file is refused.
"""

import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import FileChunk, JobFile, RunState, RunStatus
from aind_data_transfer_service.executors.slurm_script import (
    CANCEL,
    CLAIM,
    END,
    ENDINGS,
    job_file,
)

logger = logging.getLogger(__name__)

FORGOTTEN = (
    "Slurm has forgotten the job, and it left no word of its end in the folder of logs; "
    "look for the asset at its destination, or resubmit"
)
NEVER_BEGAN = "Slurm no longer knows the job, and it never began: resubmit it"
_SMALL = 4096


class LogFolder:
    """The folder of logs, which the service and the nodes share.

    Parameters
    ----------
    path : PurePosixPath
        Where it lies, for the service as for the nodes.
    """

    def __init__(self, path: PurePosixPath):
        self.path = path

    def is_there(self) -> bool:
        """Tell whether the service can see the folder."""
        return os.access(self.path, os.R_OK | os.X_OK)

    def read(self, job_id: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of a job's files; one that is not there yet is empty."""
        path = job_file(self.path, job_id, ENDINGS[file])
        try:
            return _read(path, offset, limit)
        except (FileNotFoundError, PermissionError):  # or the folder is not to be seen from here
            return FileChunk(data=b"", offset=0, size=0)
        except OSError as error:
            raise ExecutorError(
                f"{file} of job {job_id} cannot be read: {error.strerror or error} ({path})"
            ) from error

    def claim(self, job_id: str) -> int | None:
        """Tell as which Slurm job a job runs or ran; None where it never began."""
        text = self._small(job_id, CLAIM)
        return int(text) if text.strip().isdigit() else None

    def request_cancel(self, job_id: str) -> None:
        """Leave word that a user cancels a job, for the job to find when Slurm ends it.

        Without it the job takes the signal for a time limit, and keeps the parts of large files for
        a job that resumes it: `clean` removes them.
        """
        path = job_file(self.path, job_id, CANCEL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(path, flags, 0o644))
        except FileExistsError:
            return
        except OSError as error:
            logger.info("slurm: %s cannot be created: %s", path, error.strerror)

    def end(self, ref: str, job_id: str) -> RunStatus:
        """Tell how a job ended that Slurm has forgotten."""
        try:
            found = json.loads(self._small(job_id, END))
        except ValueError:
            found = None
        code = found.get("exit_code") if isinstance(found, dict) else None
        if not isinstance(code, int):
            never = self.is_there() and self.claim(job_id) is None
            return RunStatus(ref, RunState.LOST, NEVER_BEGAN if never else FORGOTTEN)
        state, reason = RunState.FAILED, ""
        if code == 0:
            state = RunState.COMPLETED
        elif found.get("stopped") is True:
            state, reason = RunState.CANCELLED, "the cluster told it to stop"
        return RunStatus(ref, state, reason, code, ended_at=_moment(found.get("ended")))

    def _small(self, job_id: str, ending: str) -> str:
        """Read a small file whole; one that cannot be read is empty."""
        try:
            chunk = _read(job_file(self.path, job_id, ending), 0, _SMALL)
        except OSError:
            return ""
        return chunk.data.decode("utf-8", "replace")


def _read(path: PurePosixPath, offset: int, limit: int) -> FileChunk:
    """Read from a plain file."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as stream:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no plain file")
        size = found.st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        stream.seek(start)
        return FileChunk(data=stream.read(min(limit, size - start)), offset=start, size=size)


def _moment(stamp: Any) -> datetime | None:
    """Read a time as the script writes it."""
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
