"""The folder of one local job: all that outlives the service.

What the files mean is told in `executors.local.supervisor`, which writes half of them.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import (
    FileChunk,
    JobFile,
    JobSpec,
    RunState,
    RunStatus,
)
from aind_data_transfer_service.executors.job_files import (
    NO_FILE,
    read_document,
    read_integer,
    read_moment,
    read_piece,
)
from aind_data_transfer_service.executors.local.supervisor import __file__ as supervisor_file
from aind_data_transfer_service.executors.local.supervisor import write_json

FILES: dict[str, str] = {
    "stdout": "stdout.log",
    "stderr": "stderr.log",
    "events": "events.jsonl",
}
VANISHED = "the job's process vanished: the machine was restarted, or the process was killed"
_NOT_RECORDED = ("has_reported", "is_wanted", "recorded_at", "references")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class JobFolder:
    """One job's folder beneath the folder of all jobs."""

    root: Path
    job_id: str

    def __post_init__(self) -> None:
        """Refuse an id that would lead elsewhere."""
        if not _SAFE_ID.fullmatch(self.job_id):
            raise ExecutorError(f'"{self.job_id}" cannot be the id of a job')

    @property
    def path(self) -> Path:
        """Where the folder lies."""
        return self.root / self.job_id

    def exists(self) -> bool:
        """Tell whether the job was accepted."""
        return os.path.lexists(self.path / "spec.json")

    def create(self, spec: JobSpec, accepted: int) -> None:
        """Accept the job: the folder appears whole or not at all, and never twice."""
        if self.exists():
            return
        partial = self.root / f".{self.job_id}.{os.getpid()}.{time.monotonic_ns()}"
        self.root.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        recorded = [one.name for one in fields(spec) if one.name not in _NOT_RECORDED]
        document = {name: getattr(spec, name) for name in recorded}
        document |= {"settings": dict(spec.settings), "accepted": accepted}
        _write_private(partial / "spec.json", json.dumps(document))
        if spec.script:
            _write_private(partial / "script", spec.script, executable=True)
        else:
            _write_private(partial / "request.json", spec.request)
        partial.rename(self.path)

    def accepted(self) -> int:
        """Tell the job's place in the order of acceptance."""
        return _place(read_document(self.path / "spec.json"))

    def recorded(self) -> dict[str, str]:
        """Return what the data transfer job needs of its record, as environment variables."""
        name = read_document(self.path / "spec.json").get("name")
        asset = {"UPLOAD_ASSET": name} if isinstance(name, str) and name else {}
        return {"UPLOAD_RECORDED": "true", **asset}

    def command(self, upload_command: list[str]) -> list[str]:
        """Compose the command line: the job's own script, or the data transfer job."""
        script = self.path / "script"
        if script.exists():
            return [str(script)]
        return [*upload_command, "--json-file", str(self.path / "request.json")]

    def is_started(self) -> bool:
        """Tell whether a supervisor has taken the job up."""
        return os.path.lexists(self.path / "process.json")

    def supervisor_pid(self) -> int | None:
        """Return the process id of the supervisor that took the job up, by its own word."""
        return read_integer(self._process.get("pid"))

    def is_ended(self) -> bool:
        """Tell whether the job's end is written down."""
        return os.path.lexists(self.path / "exit.json")

    @property
    def cancel_file(self) -> Path:
        """Exists once a user has asked for the job to be cancelled; the job looks for it too."""
        return self.path / "cancel"

    def is_cancelled(self) -> bool:
        """Tell whether the job was to be cancelled."""
        return os.path.lexists(self.cancel_file)

    def is_supervised(self) -> bool:
        """Tell whether a supervisor lives, by trying to take its lock."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            # the job may have removed it, or put something else in its place
            if error.errno == errno.ENOENT or error.errno in NO_FILE:
                return False
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def request_cancel(self) -> None:
        """Ask for the job's end, for good: first on paper, then aloud.

        Raises
        ------
        ExecutorError
            If the job runs, and its supervisor cannot be found or signalled.
        """
        self.cancel_file.touch()
        if not self.is_started() or self.is_ended() or not self.is_supervised():
            return
        found = self._find_supervisors()
        if not found and self.is_supervised():
            raise ExecutorError(f"job {self.job_id} runs, but its supervisor cannot be found")
        failures = []
        for process in found:
            try:
                process.terminate()
            except psutil.NoSuchProcess:  # it ended between question and answer
                continue
            except psutil.Error as error:  # the others still get the signal
                failures.append(str(error))
        if failures:
            raise ExecutorError(f"job {self.job_id} cannot be stopped: {'; '.join(failures)}")

    def _find_supervisors(self) -> list[psutil.Process]:
        """Find the job's supervisors; the job could forge what they wrote of themselves.

        There are two where two services started the job. The one that waits has nothing to lose.
        """
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError, IndexError):
                line = process.cmdline()
                if supervisor_file in line and os.path.samefile(
                    line[line.index(supervisor_file) + 1], self.path
                ):
                    found.append(process)
        return found

    def record_failure(self, reason: str) -> None:
        """Write down an end that the supervisor could not."""
        if not self.is_ended():
            ended = {"exit_code": None, "error": reason, "ended": time.time()}
            write_json(str(self.path / "exit.json"), ended)

    def stop_leftovers(self) -> None:
        """Kill what still runs of a job whose supervisor is gone."""
        mark = str(self.path / FILES["events"])
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("UPLOAD_EVENTS_FILE") == mark:
                    process.kill()

    def status(self) -> RunStatus:
        """Tell how the job stands, by what lies in its folder."""
        if not self.exists():
            return RunStatus(
                ref=self.job_id, state=RunState.LOST, reason="this machine has no record of the job"
            )
        if self.is_ended():
            return self._ended_status()
        if not self.is_started():
            state = RunState.CANCELLED if self.is_cancelled() else RunState.PENDING
            return RunStatus(ref=self.job_id, state=state)
        if self.is_supervised():
            return RunStatus(
                ref=self.job_id,
                state=RunState.RUNNING,
                started_at=read_moment(self._process.get("started")),
            )
        if self.is_ended():  # in the meantime
            return self._ended_status()
        return RunStatus(ref=self.job_id, state=RunState.FAILED, reason=VANISHED)

    def read(self, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of the job's files; one that is not there yet is empty."""
        try:
            return read_piece(self.path / FILES[file], offset, limit)
        except FileNotFoundError:
            return FileChunk(data=b"", offset=0, size=0)

    def _ended_status(self) -> RunStatus:
        """Read how the job ended."""
        ended = read_document(self.path / "exit.json")
        state, reason = judge_end(ended, cancelled=self.is_cancelled())
        return RunStatus(
            ref=self.job_id,
            state=state,
            reason=reason,
            exit_code=read_integer(ended.get("exit_code")),
            started_at=read_moment(self._process.get("started")),
            ended_at=read_moment(ended.get("ended")),
        )

    @property
    def _process(self) -> dict[str, Any]:
        """What the supervisor wrote of itself."""
        return read_document(self.path / "process.json")


def _write_private(path: Path, text: str, executable: bool = False) -> None:
    """Write a new file that its owner alone can read, from its beginning."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o700 if executable else 0o600), "wb") as stream:
        stream.write(text.encode("utf-8"))


def judge_end(ended: dict[str, Any], *, cancelled: bool) -> tuple[RunState, str]:
    """Decide what a job's end means.

    A plain exit code is no reason in words: whoever reads the job's own files knows better.
    """
    code, number = (read_integer(ended.get(name)) for name in ("exit_code", "signal"))
    if ended.get("error"):
        return RunState.FAILED, str(ended["error"])
    if code == 0:
        return RunState.COMPLETED, ""
    if ended.get("stopped") and cancelled:
        return RunState.CANCELLED, ""
    if ended.get("stopped"):
        return RunState.FAILED, "the job was told to stop, as when the machine shuts down"
    if number is None and code is None:
        return RunState.FAILED, "the job ended, but the record of its end cannot be read"
    if number is None:
        return RunState.FAILED, ""
    hint = ", as when memory runs out" if number == signal.SIGKILL else ""
    return RunState.FAILED, f"the job's process was killed by {_signal_name(number)}{hint}"


def _signal_name(number: int) -> str:
    """Name a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _place(spec: dict[str, Any]) -> int:
    """Read a job's place in the order of acceptance: nanoseconds since 1970."""
    accepted = spec.get("accepted")
    return accepted if isinstance(accepted, int) and 0 < accepted < 2**63 else 0
