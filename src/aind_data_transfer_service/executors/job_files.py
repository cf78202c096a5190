"""Reading what jobs leave in their folders.

A user's script can write there, and can put a link, a device or a pipe where a file should be. So
only regular files are opened for reading, and no link is followed. A shared drive can hang: each
wait for it has a time limit, and uses threads that nothing else needs.
"""

import asyncio
import errno
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, TypeVar

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.errors import ExecutorError, SpoiledFileError
from aind_data_transfer_service.executors.base import FileChunk

T = TypeVar("T")

NO_FILE = (
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENODEV,
    errno.ENOTDIR,
    errno.ENXIO,
)
"""What the system says where something else lies in the place of a file."""
_CERTAIN = (*NO_FILE, errno.ENOENT, errno.EACCES, errno.EPERM)
_THREADS = 16
READ_SECONDS = 15.0
LARGEST_DOCUMENT = 1 << 16


class FileReads:
    """Threads that read files of jobs. A thread that hangs is not waited for, not even at exit.

    Parameters
    ----------
    seconds : float
        How long one answer is waited for.
    threads : int
        How many reads there are at once.
    """

    def __init__(self, seconds: float = READ_SECONDS, threads: int = _THREADS):
        self._seconds, self._threads = seconds, threads
        self._hanging = 0
        self._pool = Pool(threads, "job files")

    async def read(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do something that reads files.

        Parameters
        ----------
        work : Callable
            What is done.
        seconds : float | None
            How long this answer is waited for, if not as long as others.

        Raises
        ------
        ExecutorError
            If the drive gives no answer in time; at once while every thread waits for an earlier
            answer for longer than that.
        """
        seconds = self._seconds if seconds is None else seconds
        if self._hanging >= self._threads:
            await asyncio.sleep(
                0
            )  # callers that try again let the threads report that they are back
            raise ExecutorError(
                f"the drive with the files of the jobs does not answer: {self._hanging} reads hang"
            )
        submitted = self._pool.submit(work)
        answer = asyncio.wrap_future(submitted)
        answer.add_done_callback(_take_error)  # it may come when nobody waits any more
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answer)
        except TimeoutError:
            if not submitted.cancel():  # it has begun, and keeps its thread
                self._hanging += 1
                answer.add_done_callback(self._note_return)
            raise ExecutorError(
                f"the drive with the files of the jobs did not answer for {seconds:g} s"
            ) from None

    def _note_return(self, _: asyncio.Future[Any]) -> None:
        """Note that a read that hung has ended."""
        self._hanging -= 1

    def close(self) -> None:
        """Drop the reads that have not begun."""
        self._pool.close()


def _take_error(answer: asyncio.Future[Any]) -> None:
    """Take the error of an answer, so that asyncio does not log it as forgotten."""
    if not answer.cancelled():
        answer.exception()


def read_piece(path: PurePath, offset: int, limit: int) -> FileChunk:
    """Read from a regular file.

    Parameters
    ----------
    path : PurePath
        The file.
    offset : int
        Where the piece begins, in bytes; counted from the end if negative.
    limit : int
        Bytes to read at most.

    Raises
    ------
    OSError
        If the file is not there, is not a regular file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        size = found.st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        stream.seek(start)
        return FileChunk(data=stream.read(min(limit, size - start)), offset=start, size=size)


def may_pass(error: OSError) -> bool:
    """Return whether a later look at a file may succeed, as after ESTALE, EIO or EMFILE."""
    return error.errno not in _CERTAIN


def unreadable(what: str, error: OSError) -> ExecutorError:
    """Say that a file of a job cannot be read, and by the kind of error whether that may pass."""
    kind = SpoiledFileError if error.errno in NO_FILE else ExecutorError
    return kind(f"{what} cannot be read: {error.strerror or error}")


def read_document(path: PurePath) -> dict[str, Any]:
    """Read a small JSON object; one that is missing, damaged or not a regular file is empty."""
    try:
        return parse_document(read_piece(path, 0, LARGEST_DOCUMENT).data)
    except OSError:
        return {}


def parse_document(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; a damaged one is empty."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read_moment(stamp: Any) -> datetime | None:
    """Read a time that is written as seconds since 1970; None for anything else."""
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def read_integer(value: Any) -> int | None:
    """Read an exit code or the number of a signal or process; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**31 else None
