"""Stands over one local job: runs it, passes on a request to stop, and writes down how it ended.

This file is run by itself, as ``python -I -S supervisor.py FOLDER GRACE COMMAND…``, and imports
nothing but the standard library: it starts quickly, needs little, and outlives the service. The
job's folder is all that it and the service share:

``lock``
    Held by the supervisor as long as it lives. Whoever can take it knows that nobody runs the job.
``process.json``
    Written once, before the job is started. Where it exists, the job is never started again.
``cancel``
    Written by the service when a user cancels the job, before the supervisor gets its signal. Where
    it exists before the start, the job is not started; where it does not, the signal ends the job
    as a shutdown of the machine does, and the job keeps what it has sent.
``exit.json``
    Written when the job has ended.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def write_json(path: str | os.PathLike[str], document: object) -> None:
    """Write a document so that a reader sees all of it or nothing."""
    partial = f"{path}.{os.getpid()}.tmp"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class Supervisor:
    """Runs one job, at most once.

    Parameters
    ----------
    folder : str
        The job's folder.
    command : list of str
        What to run.
    grace : float
        Seconds that a job has to stop by itself once it was asked to.
    """

    def __init__(self, folder: str, command: list[str], grace: float):
        self.folder = folder
        self.command = command
        self.grace = grace
        self._stop_signal: int | None = None
        self._ended = threading.Event()
        self._wake_end, self._wake = os.pipe()

    def request_stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Remember that the job is to stop; a signal handler, which does no more than that."""
        if self._stop_signal is None:
            self._stop_signal = number
            os.write(self._wake, b"!")

    def run(self) -> None:
        """Run the job, unless somebody else has, or nobody wants it any more."""
        lock = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(self._path("process.json")):
                return
            write_json(self._path("process.json"), {"pid": os.getpid(), "started": time.time()})
            if os.path.exists(self._path("cancel")) or self._stop_signal:
                self._record_end(None, stopped=True)
                return
            self._supervise()
        finally:
            for descriptor in (lock, self._wake, self._wake_end):
                os.close(descriptor)

    def _supervise(self) -> None:
        """Start the job, wait for its end, stop what it leaves behind, write down how it ended."""
        try:
            process = self._start()
        except OSError as error:
            self._record_end(None, error=f"{self.command[0]} cannot be run: {error.strerror}")
            return
        messenger = threading.Thread(target=self._pass_on_stop, args=(process.pid,), daemon=True)
        messenger.start()
        # The leader is not reaped yet: until then nobody else can get its number.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stopped = self._stop_signal is not None
        self._ended.set()
        os.write(self._wake, b".")
        messenger.join()
        _signal_group(process.pid, signal.SIGKILL)
        self._record_end(process.wait(), stopped=stopped)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the job as the leader of a process group of its own."""
        with (
            open(self._path("stdout.log"), "ab") as stdout,
            open(self._path("stderr.log"), "ab") as stderr,
        ):
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.folder,
                process_group=0,
            )

    def _pass_on_stop(self, group: int) -> None:
        """Wait for a request to stop; ask the job, and insist when the grace is over."""
        os.read(self._wake_end, 1)
        if self._stop_signal is not None and not self._ended.is_set():
            _signal_group(group, self._stop_signal)
            if not self._ended.wait(self.grace):
                _signal_group(group, signal.SIGKILL)

    def _record_end(self, return_code: int | None, stopped: bool = False, error: str = "") -> None:
        """Write down how the job ended."""
        ended = {
            "exit_code": return_code if return_code is None or return_code >= 0 else None,
            "signal": -return_code if return_code is not None and return_code < 0 else None,
            "stopped": stopped,
            "error": error,
            "ended": time.time(),
        }
        write_json(self._path("exit.json"), ended)

    def _path(self, name: str) -> str:
        """Name a file in the job's folder."""
        return os.path.join(self.folder, name)


def _signal_group(group: int, number: int) -> None:
    """Send a signal to whatever is left of a process group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # nothing is left


def main(arguments: list[str]) -> None:
    """Run the job whose folder, grace and command the arguments name."""
    folder, grace, *command = arguments
    supervisor = Supervisor(folder, command, float(grace))
    for number in STOP_SIGNALS:
        signal.signal(number, supervisor.request_stop)
    supervisor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
