"""What jobs on the cluster leave in the folder of logs, as the service reads it.

A user's script can write there: see `executors.job_files`.
"""

import logging
import os
import pwd
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import (
    EndRecord,
    FileChunk,
    JobFile,
    RunState,
    RunStatus,
)
from aind_data_transfer_service.executors.job_files import (
    LARGEST_DOCUMENT,
    NO_FILE,
    may_pass,
    parse_document,
    read_integer,
    read_moment,
    read_piece,
    unreadable,
)
from aind_data_transfer_service.executors.slurm.batch_script import (
    CANCEL,
    CLAIM,
    END,
    ENDINGS,
    REQUEST,
    SCRIPT,
    job_file,
)
from aind_data_transfer_service.executors.slurm.job_properties import pattern
from aind_data_transfer_service.executors.slurm.states import killed, run_status
from aind_data_transfer_service.slurmrest.models import SlurmJob

logger = logging.getLogger(__name__)

FORGOTTEN = (
    "Slurm has forgotten the job, and it left no word of its end in the folder of logs; "
    "look for the asset at its destination, or resubmit"
)
NEVER_BEGAN = "Slurm no longer knows the job, and it never began: resubmit it"
KILLED = (
    "the job began and ended without a record, as when it is killed (SIGKILL) or its node fails, "
    "and Slurm has forgotten it; resubmit it to go on"
)
STOPPED = (
    "the cluster stopped the job, by its time limit, preemption or scancel, and Slurm has "
    "forgotten which; resubmit it to go on"
)
_STATES = {
    "": "CANCELLED",
    "TIME LIMIT": "TIMEOUT",
    "PREEMPTION": "PREEMPTED",
    "NODE FAILURE": "NODE_FAIL",
}
"""Slurm's states of jobs, by what slurmstepd writes after `DUE TO` into the output of one that it
stops."""
_STOP_LINE = re.compile(
    rb"^(?:slurmstepd\S*:|\[[0-9T:.-]+\]) error: \*\*\* JOB ([0-9]{1,18}) ON (\S+) (.+) \*\*\*",
    re.MULTILINE,
)
"""What slurmstepd writes as it stops a job; of a step that `srun` started it writes `STEP`. Slurm
26.05 begins the line with a time instead of a name."""
_CANCELLED = re.compile(rb"CANCELLED AT \S+(?: DUE TO ([A-Z ]+)(?:,.*)?)?")
_LAST_OUTPUT = 8192
_LONGEST_NUMBER = 32
_CLOCKS_DIFFER = 60.0
"""Seconds by which the clocks of Slurm and of the drive may differ. A job that Slurm queues again
waits for 120 s before its next run."""
_FILES = (*ENDINGS.values(), CLAIM, END)
_REMEDY = (
    "let the service run as the user of the jobs, or put both users into one group and have the "
    "jobs write with umask 027"
)


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
        return _is_allowed(self.path, os.R_OK | os.X_OK)

    def problem(self) -> str:
        """Return why the service cannot see the folder, and what to do; empty if it can."""
        if self.is_there():
            return ""
        remedy = f"HPC_LOGGING_DIRECTORY has to be the folder that the nodes write to; {_REMEDY}"
        if not os.path.lexists(self.path):
            remedy = "mount the folder of the nodes there, or correct HPC_LOGGING_DIRECTORY"
        return f"the logs of the jobs cannot be read: {_obstacle(self.path)}; {remedy}"

    def read(self, job_id: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of a job's files; one that is not there yet is empty."""
        path = job_file(self.path, job_id, ENDINGS[file])
        try:
            chunk = read_piece(path, offset, limit)
        except (FileNotFoundError, PermissionError):
            chunk = FileChunk(data=b"", offset=0, size=0, problem=self.problem())
        except OSError as error:
            raise unreadable(f"{file} of job {job_id} ({path})", error) from error
        return chunk if chunk.problem else replace(chunk, problem=self._file_problem(job_id))

    def has_begun(self, job_id: str) -> bool:
        """Return whether a job has left anything in the folder.

        Raises
        ------
        ExecutorError
            If that cannot be found out: the folder cannot be seen, or does not answer.
        """
        try:
            found = any(self._has(job_id, ending) for ending in (CLAIM, *ENDINGS.values()))
        except OSError as error:
            raise unreadable(f"the files of job {job_id} in {self.path}", error) from error
        if not found and (problem := self.problem()):
            raise ExecutorError(problem)
        return found

    def is_empty(self) -> bool:
        """Return whether no job has left anything here, as in a mount point without its mount.

        Raises
        ------
        ExecutorError
            If that cannot be found out this time.
        """
        try:
            return not self.is_shared()
        except OSError as error:
            raise unreadable(f"{self.path}", error) from error

    def _file_problem(self, job_id: str, endings: Iterable[str] = _FILES) -> str:
        """Return which of a job's files cannot be read, and what to do; empty if all can."""
        for ending in endings:
            path = job_file(self.path, job_id, ending)
            if _is_forbidden(path):
                return f"the files of the job cannot be read: {_obstacle(path)}; {_REMEDY}"
        return ""

    def claim(self, job_id: str) -> int | None:
        """Tell as which Slurm job a job runs or ran; None where it never began.

        Raises
        ------
        ExecutorError
            If it began, but its claim cannot be read, or that cannot be found out this time.
        """
        path = job_file(self.path, job_id, CLAIM)
        try:
            data = read_piece(path, 0, _LONGEST_NUMBER).data
        except PermissionError as error:
            if not self.is_there():
                return None
            raise ExecutorError(
                f"the files of the job cannot be read: {_obstacle(path)}; {_REMEDY}"
            ) from error
        except OSError as error:
            if may_pass(error):
                raise unreadable(f"the claim of job {job_id} ({path})", error) from error
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

    def record(self, job_id: str, restarts: int = 0, started: datetime | None = None) -> EndRecord:
        """Find out what a job left that Slurm reports as successful.

        Parameters
        ----------
        job_id : str
            Our own id, or that of a shard.
        restarts : int
            How often Slurm queued it again: what an earlier run left proves nothing then.
        started : datetime | None
            When its last run began, by Slurm's clock.
        """
        try:
            if self._read_end(job_id).get("exit_code") == 0:
                return EndRecord.FOUND
            if self._has(job_id, CLAIM) and (not restarts or self._has_begun(job_id, started)):
                return EndRecord.BEGUN
            return EndRecord.MISSING if self.is_shared() else EndRecord.UNREADABLE
        except OSError as error:
            return _failed_look(error)

    def is_elsewhere(self, job_id: str, standard_output: str) -> bool:
        """Return whether a job writes its files to another folder: this one was set since.

        Parameters
        ----------
        job_id : str
            Our own id.
        standard_output : str
            The path of its output, as Slurm lists it.
        """
        ours = job_file(self.path, job_id, ENDINGS["stdout"])
        path = PurePosixPath(standard_output)
        return path.name == ours.name and path not in (ours, PurePosixPath(pattern(ours)))

    def _read_end(self, job_id: str) -> dict[str, Any]:
        """Return the record of a job's end; empty if there is none, or a damaged one.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        try:
            data = read_piece(job_file(self.path, job_id, END), 0, LARGEST_DOCUMENT).data
        except FileNotFoundError:
            return {}
        return parse_document(data)

    def _has(self, job_id: str, ending: str) -> bool:
        """Return whether a job has one of its files, readable or not.

        Raises
        ------
        OSError
            If that cannot be found out this time.
        """
        try:
            os.lstat(job_file(self.path, job_id, ending))
        except OSError as error:
            if may_pass(error):
                raise
            return False
        return True

    def _has_begun(self, job_id: str, started: datetime | None) -> bool:
        """Return whether the last run of a job, which began at a time, wrote what it is to do."""
        if started is None:
            return False
        earliest = started.timestamp() - _CLOCKS_DIFFER
        for ending in (REQUEST, SCRIPT):
            try:
                if os.lstat(job_file(self.path, job_id, ending)).st_mtime >= earliest:
                    return True
            except OSError as error:
                if may_pass(error):
                    raise
        return False

    def is_shared(self) -> bool:
        """Return whether any job left files here: else it is another folder than the nodes see.

        Raises
        ------
        OSError
            If that cannot be found out this time.
        """
        try:
            with os.scandir(self.path) as entries:
                return any(entry.name.endswith(CLAIM) for entry in entries)
        except OSError as error:
            if may_pass(error):
                raise
            return False

    def end(self, ref: str, job_id: str, cancelled: bool = False) -> RunStatus:
        """Tell how a job ended that Slurm has forgotten.

        Parameters
        ----------
        ref : str
            The executor's name of the job.
        job_id : str
            Our own id, or that of a shard.
        cancelled : bool
            Whether a user asked for its end.
        """
        try:
            return self._end(ref, job_id, cancelled)
        except OSError as error:
            return RunStatus(ref, RunState.LOST, FORGOTTEN, record=_failed_look(error))

    def _end(self, ref: str, job_id: str, cancelled: bool) -> RunStatus:
        """Decide how a job ended; raise an `OSError` if that cannot be found out this time."""
        try:
            found = self._read_end(job_id)
        except OSError as error:
            if may_pass(error):
                raise
            found = {}
        code = read_integer(found.get("exit_code"))
        record = EndRecord.MISSING if code is None else EndRecord.FOUND
        cancelled = cancelled or self._has(job_id, CANCEL)
        if code == 0:
            state, reason = RunState.COMPLETED, ""
        elif code is not None and found.get("stopped") is not True:
            state, reason = RunState.FAILED, killed(code)
        elif cancelled:
            state, reason = RunState.CANCELLED, ""
        elif code is not None:
            state, reason = self._stop(ref, job_id) or (RunState.FAILED, STOPPED)
        elif problem := self._file_problem(job_id, (CLAIM, END)):
            reason = f"Slurm has forgotten the job, and {problem}"
            state, record = RunState.LOST, EndRecord.UNREADABLE
        elif _is_allowed(job_file(self.path, job_id, CLAIM), os.R_OK):
            state, reason = self._stop(ref, job_id) or (RunState.FAILED, KILLED)
        elif self.is_shared() and not self._has(job_id, CLAIM):
            state, reason = RunState.LOST, NEVER_BEGAN
        else:
            state, reason, record = RunState.LOST, FORGOTTEN, EndRecord.UNREADABLE
        ended_at = read_moment(found.get("ended"))
        return RunStatus(ref, state, reason, code, ended_at=ended_at, record=record)

    def _stop(self, ref: str, job_id: str) -> tuple[RunState, str] | None:
        """Find out why Slurm stopped a job, by what slurmstepd wrote into the job's output."""
        number = ref.partition(":")[0].encode()
        for file in ("stderr", "stdout"):
            path = job_file(self.path, job_id, ENDINGS[file])
            try:
                data = read_piece(path, -_LAST_OUTPUT, _LAST_OUTPUT).data
            except OSError as error:
                if may_pass(error):
                    raise
                continue
            for found in reversed(list(_STOP_LINE.finditer(data))):
                if found[1] != number and number.isdigit():
                    continue
                cancelled = _CANCELLED.fullmatch(found[3])
                state = _STATES.get((cancelled[1] or b"").decode()) if cancelled else None
                if not state:
                    return None
                node = found[2].decode("utf-8", "replace")
                status = run_status(ref, SlurmJob(int(found[1]), state, nodes=node))
                return status.state, status.reason
        return None


def _failed_look(error: OSError) -> EndRecord:
    """Return what is known of the record of a job's end that could not be read."""
    if may_pass(error):
        return EndRecord.UNAVAILABLE
    return EndRecord.MISSING if error.errno in NO_FILE else EndRecord.UNREADABLE


def _is_allowed(path: PurePosixPath, mode: int) -> bool:
    """Return whether the service's user may use a path; a server of NFS has its own say."""
    return os.access(path, mode, effective_ids=True)


def _is_forbidden(path: PurePosixPath) -> bool:
    """Return whether a regular file is there, but cannot be read."""
    if _is_allowed(path, os.R_OK):
        return False
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _obstacle(path: PurePosixPath) -> str:
    """Say what is in the way of the service's user at a path."""
    user = f"the service's user {_name(os.geteuid())}"
    if not os.geteuid():
        user += ", whom a server of NFS may take for nobody (root_squash)"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return f"{path} does not exist on the machine of the service ({user})"
    except OSError as error:
        return f"{path}: {error.strerror} ({user})"
    mode = stat.S_IMODE(found.st_mode)
    return f"{path} belongs to {_name(found.st_uid)} with mode {mode:04o}, not readable by {user}"


def _name(uid: int) -> str:
    """Name a user, with the number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
