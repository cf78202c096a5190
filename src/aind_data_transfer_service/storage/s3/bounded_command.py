"""Runs a command for a limited time, and prints what it printed.

`credentials` puts this program before a profile's `credential_process`, for which botocore waits
without a limit. The command gets a session of its own and no terminal; at the deadline, or if it
prints too much, all processes of its group are killed. They are killed as well if the job is gone,
however it ended: this program leaves the job's session, so that a signal to the job's process group
does not end it first, and watches the pipe that the job reads. Run by path, with the standard
library only.
"""

import contextlib
import os
import selectors
import signal
import stat
import subprocess
import sys
import time
from types import FrameType
from typing import IO

_MOST_OUTPUT = 64 * 1024
_MOST_ERRORS = 4 * 1024
"""Bytes of standard error that are kept."""
_GRACE = 0.5
"""Seconds to wait for the end of the output of a command that has ended: a process that it left in
the background may hold the pipe open."""
_JOB = 1
"""The standard output, a pipe to the job. It has an error once the job does not read any more."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Stopped(Exception):
    """The command has to be killed, for the reason that it carries."""


def run(command: list[str], seconds: float) -> int:
    """Run a command; write what it printed to standard output, or what failed to standard error.

    Parameters
    ----------
    command : list[str]
        The program and its arguments.
    seconds : float
        How long it may take.

    Returns
    -------
    int
        The exit code: 0 if the command succeeded.
    """
    name = os.path.basename(command[0])
    with contextlib.suppress(PermissionError):  # it leads a process group already
        os.setsid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return _fail(f"{command[0]} cannot be started: {error.strerror}")
    try:
        output, errors = _read(process, woken, seconds)
    except _Stopped as stopped:
        _kill(process)
        return _fail(f"{name} {stopped}, and was killed")
    if process.returncode:
        return _fail(errors.decode(errors="replace").strip() or f"{name} failed without a message")
    sys.stdout.buffer.write(output)
    return 0


def _read(process: subprocess.Popen[bytes], woken: int, seconds: float) -> tuple[bytes, bytes]:
    """Read what a command prints until it has ended."""
    output, errors = bytearray(), bytearray()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(_pipe(process.stdout), selectors.EVENT_READ, (output, _MOST_OUTPUT))
        selector.register(_pipe(process.stderr), selectors.EVENT_READ, (errors, None))
        selector.register(woken, selectors.EVENT_READ)
        watched = 1
        if stat.S_ISFIFO(os.fstat(_JOB).st_mode):
            selector.register(_JOB, selectors.EVENT_READ)  # an error is all that is read there
            watched = 2
        is_over = False
        while len(selector.get_map()) > watched or not is_over:
            left = end - time.monotonic()
            if left <= 0:
                if is_over:  # the command has ended, and a process that it left has not
                    _kill(process)
                    break
                raise _Stopped(f"did not end within {seconds:g} s")
            for key, _ in selector.select(left):
                if key.fd == _JOB:
                    raise _Stopped("is of no use any more, since the job is gone")
                data = os.read(key.fd, 65536)
                if key.data is None:
                    continue
                if not data:
                    selector.unregister(key.fileobj)
                _take(data, *key.data)
            if not is_over and process.poll() is not None:
                is_over, end = True, min(end, time.monotonic() + _GRACE)
    return bytes(output), bytes(errors[:_MOST_ERRORS])


def _take(data: bytes, kept: bytearray, most: int | None) -> None:
    """Add what was read to what is kept; raise if that is more than it may be."""
    if most is not None and len(kept) + len(data) > most:
        raise _Stopped(f"printed more than {most:,} bytes")
    if most is not None or len(kept) < _MOST_ERRORS:
        kept += data


def _pipe(file: IO[bytes] | None) -> IO[bytes]:
    """Return a pipe, which is there because `Popen` was asked for it."""
    assert file is not None
    return file


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command together with the processes of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all have ended
        return
    process.wait()


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop the command, because this program is to end."""
    raise _Stopped(f"was stopped by {signal.Signals(number).name}")


def _fail(reason: str) -> int:
    """Write why the command failed, and return the exit code."""
    with contextlib.suppress(BrokenPipeError):  # the job is gone
        print(reason, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], float(sys.argv[1])))
