"""Reading files of a source, each as it was found, with retries where the drive has a fault.

Size and time of writing decide whether a file is the one that was found. The number of its inode
does not: clients of network drives invent those. What else can tell of a change, its change time,
is looked at once all is sent (`upload.job.source_recheck`).
"""

import os
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Self, TypeVar

from aind_data_transfer_service.errors import SourceChangedError, SourceError
from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.source_paths.drive_retry import unreadable
from aind_data_transfer_service.upload.source.confined_open import LED_AWAY
from aind_data_transfer_service.upload.source.file_table import SourceFile

T = TypeVar("T")

_FOUND = "after the job had found it"


def read_source(file: SourceFile, chunk_size: int) -> Iterator[bytes]:
    """Read a file once, in pieces, and make sure that it stays as it was found.

    Raises
    ------
    SourceChangedError
        Where it is not, or does not stay, what was found.
    SourceError
        Where it cannot be read.
    """
    with OpenFile(file) as handle:
        handle.check()
        count = 0
        while chunk := handle.read(wanted := min(chunk_size, file.size + 1 - count), count):
            count += len(chunk)
            if count > file.size:
                break
            yield chunk
            if len(chunk) < wanted:  # its end was seen
                break
        handle.check()
    if count != file.size:
        raise SourceChangedError(
            f"{shown(file.path)} changed while it was read: its size is not {count:,}"
        )


def read_whole(file: SourceFile) -> bytes:
    """Read a small file once, and make sure that it is what was found.

    Raises
    ------
    SourceChangedError
        Where it is not.
    SourceError
        Where it cannot be read.
    """
    try:
        data = _read_whole(file)
    except OSError as error:
        data = _retried(file, lambda: b"".join(read_source(file, file.size + 1)), error, _FOUND)
    if len(data) != file.size:
        raise SourceChangedError(
            f"{shown(file.path)} changed while it was read: its size is not {len(data):,}"
        )
    return data


class OpenFile:
    """A file that stays open as long as anyone holds this. Several threads may read it at once.

    A read that fails with an error that may pass is retried, with the file opened again.

    Parameters
    ----------
    file : SourceFile
        Which.

    Raises
    ------
    SourceChangedError
        Where it is no longer there.
    SourceError
        Where it cannot be opened.
    """

    def __init__(self, file: SourceFile):
        self.file = file
        self.descriptor = open_source(file)
        self._close = weakref.finalize(self, os.close, self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def check(self) -> None:
        """Make sure that it is what was found, and lies where it was found."""
        check_unchanged(self.file, self._try(lambda: os.fstat(self.descriptor)))
        check_unchanged(self.file, self._try(lambda: os.stat(self.file.path)))

    def read(self, size: int, start: int) -> bytes:
        """Read some bytes, or as many as there are."""
        return self._try(lambda: _read_full(partial(os.pread, self.descriptor), size, start))

    def read_into(self, buffer: memoryview, start: int) -> int:
        """Read into a buffer; return the number of bytes, which is 0 at the end of the file."""
        return self._try(lambda: os.preadv(self.descriptor, [buffer], start))

    def _try(self, work: Callable[[], T]) -> T:
        """Do something with the file, again with a new descriptor where the drive had a fault."""
        try:
            return work()
        except OSError as error:

            def again() -> T:
                self._open_again()
                return work()

            return _retried(self.file, again, error, "while it was read")

    def _open_again(self) -> None:
        """Replace the descriptor; a thread that is reading by the old one goes on with that."""
        new = _open(self.file)
        try:
            check_unchanged(self.file, os.fstat(new))
            os.dup2(new, self.descriptor, inheritable=False)
        finally:
            os.close(new)


def open_source(file: SourceFile) -> int:
    """Open a file for reading, and give its descriptor.

    Raises
    ------
    SourceChangedError
        Where it is no longer there.
    SourceError
        Where it cannot be opened.
    """
    try:
        return _open(file)
    except OSError as error:
        return _retried(file, partial(_open, file), error, _FOUND)


def _open(file: SourceFile) -> int:
    """Open a file, or raise what the system says."""
    reader = file.tree.reader
    return reader.open_itself() if file.alone else reader.open(file.name)


def _read_whole(file: SourceFile) -> bytes:
    """Open, read, check and close a file."""
    descriptor = _open(file)
    try:
        data = os.read(descriptor, file.size)
        if 0 < len(data) < file.size:
            data += _read_full(partial(os.pread, descriptor), file.size - len(data), len(data))
        check_unchanged(file, os.fstat(descriptor))  # its size too: there was nothing more to read
        return data
    finally:
        os.close(descriptor)


def _retried(file: SourceFile, work: Callable[[], T], error: OSError, when: str) -> T:
    """Repeat an operation that failed; the message says why, where it fails for good."""
    try:
        return file.tree.drive.retry(shown(file.path), work, error)
    except FileNotFoundError as gone:
        raise SourceChangedError(f"{shown(file.path)} vanished {when}") from gone
    except OSError as latest:
        if latest.errno in LED_AWAY:
            raise SourceChangedError(
                f"{shown(file.path)} was found in the source {shown(file.tree.root)}, and a link "
                "took its place or its folder's since; put the file itself there and submit again"
            ) from latest
        raise SourceError(unreadable(file.path, latest)) from latest


def _read_full(read: Callable[[int, int], bytes], size: int, start: int) -> bytes:
    """Read so many bytes, or as many as there are: network drives give less at a time."""
    first = read(size, start)
    if len(first) == size or not first:
        return first
    pieces, count = [first], len(first)
    while count < size and (piece := read(size - count, start + count)):
        pieces.append(piece)
        count += len(piece)
    return b"".join(pieces)


def check_unchanged(file: SourceFile, status: os.stat_result) -> None:
    """Compare a file with what was found.

    Raises
    ------
    SourceChangedError
        Where it is another, or was written to.
    """
    if status.st_size == file.size and status.st_mtime_ns == file.mtime_ns:
        return
    if status.st_size != file.size:
        what = f"{file.size:,} bytes were found, now there are {status.st_size:,}"
    else:
        what = f"it was written at {_moment(file.mtime_ns)}, now at {_moment(status.st_mtime_ns)}"
    raise SourceChangedError(
        f"{shown(file.path)} changed while the job ran: {what}; wait until nothing writes to it "
        "and submit again"
    )


def _moment(mtime_ns: int) -> str:
    """Write a time of writing, to the nanosecond."""
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
    except (OverflowError, ValueError, OSError):
        return f"@{mtime_ns}"
