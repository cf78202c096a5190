"""What jobs on the cluster leave in the folder of logs, as the service reads it.

A user's script can write there: see `executors.plain_files`.
"""

import logging
import os
from pathlib import PurePosixPath

from aind_data_transfer_service.executors.base import FileChunk, JobFile, RunState, RunStatus
from aind_data_transfer_service.executors.plain_files import (
    read_document,
    read_integer,
    read_moment,
    read_piece,
    unreadable,
)
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
_LONGEST_NUMBER = 32


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
            return read_piece(path, offset, limit)
        except (FileNotFoundError, PermissionError):  # or the folder is not to be seen from here
            return FileChunk(data=b"", offset=0, size=0)
        except OSError as error:
            raise unreadable(f"{file} of job {job_id} ({path})", error) from error

    def claim(self, job_id: str) -> int | None:
        """Tell as which Slurm job a job runs or ran; None where it never began."""
        try:
            data = read_piece(job_file(self.path, job_id, CLAIM), 0, _LONGEST_NUMBER).data
        except OSError:
            return None
        return int(data) if data.strip().isdigit() else None

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
        found = read_document(job_file(self.path, job_id, END))
        code = read_integer(found.get("exit_code"))
        if code is None:
            never = self.is_there() and self.claim(job_id) is None
            return RunStatus(ref, RunState.LOST, NEVER_BEGAN if never else FORGOTTEN)
        state, reason = RunState.FAILED, ""
        if code == 0:
            state = RunState.COMPLETED
        elif found.get("stopped") is True:
            state, reason = RunState.CANCELLED, "the cluster told it to stop"
        return RunStatus(ref, state, reason, code, ended_at=read_moment(found.get("ended")))
