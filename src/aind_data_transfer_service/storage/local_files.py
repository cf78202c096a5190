"""Files of a local store: written with holes, moved into place, locked and compared."""

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.errors import TransferError
from aind_data_transfer_service.storage.model import Buffer
from aind_data_transfer_service.storage.system_calls import has_no_locks, rename_new

_MOVES = 50
_SMOOTH_PIECE = 1 << 16
_PIECE = 1 << 20
"""What is written in one go at most: for more, Linux looked for huge pages, at three times the
cost."""
_ZEROS = bytes(_PIECE)
_LEAST_HOLE = 1 << 16
"""Shorter pieces are written even if they are zeros."""
_SAMPLES, _SAMPLE = 16, 1 << 12
"""Bytes across a piece, and then at its start, that are looked at before all of it is compared."""
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK, errno.EACCES}
)
"""What a file system without hard links says."""
_TENTH_NS = 100_000_000
_LONGEST_LOCK, LOCK_PAUSE = 10.0, 0.01
"""Seconds that another process may hold the lock of a bucket, and between two attempts."""


def move_file(incoming: Path, path: Path, new: bool) -> None:
    """Give a file its name; try again where another job removes the empty folder just then."""
    for attempts_left in reversed(range(_MOVES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError):
            if not attempts_left:
                raise
            continue
        try:
            if new:
                _move_new(incoming, path)
            else:
                os.replace(incoming, path)
            return
        except FileNotFoundError:
            if not attempts_left:
                raise


def _move_new(incoming: Path, path: Path) -> None:
    """Give a file a name that is not taken, by what the file system offers for that.

    The last way is for drives such as exFAT and FUSE mounts of buckets: for a moment the name
    belongs to an empty file.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    if rename_new(incoming, path):
        return
    try:
        os.link(incoming, path)
        os.unlink(incoming)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    try:
        os.replace(incoming, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def settle_record(descriptor: int) -> None:
    """Have a record outlive a power cut, and give it a time that no other record has.

    The drive's own time of writing moves on every few milliseconds only. It stays the time of the
    drive's clock, less at most a tenth of a second.
    """
    moment = os.fstat(descriptor).st_mtime_ns - random.randrange(_TENTH_NS)
    with contextlib.suppress(OSError):  # a drive that sets no times keeps its own
        os.utime(descriptor, ns=(moment, moment))
    os.fsync(descriptor)


def _is_zero(piece: memoryview) -> bool:
    """Return whether a piece is all zeros; of other data, hardly anything is looked at."""
    if any(piece[:: len(piece) // _SAMPLES]) or bytes(piece[:_SAMPLE]) != _ZEROS[:_SAMPLE]:
        return False
    return bytes(piece) == _ZEROS[: len(piece)]


def lock_file(file: IO[bytes], path: Path) -> bool:
    """Lock a file; return False if its file system knows no locks.

    Raises
    ------
    TransferError
        If another process holds the lock for too long.
    """
    deadline = time.monotonic() + _LONGEST_LOCK
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if has_no_locks(error):
                return False
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise TransferError(f"{path} cannot be locked: {error.strerror}") from error
        if time.monotonic() > deadline:
            raise TransferError(f"{path} has been locked for {_LONGEST_LOCK:.0f} s; try again")
        time.sleep(LOCK_PAUSE)


def sync_disk(folder: Path) -> None:
    """Have the system write the disk that a folder is on; see syncfs(2)."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except AttributeError:  # not Linux: then every disk
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)


def status_of(path: Path) -> os.stat_result:
    """Look at a file: opened first, so that NFS asks its server and not a cache."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError:  # a symbolic link, or a file that may not be read
        return os.stat(path, follow_symlinks=False)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def modified_at(status: os.stat_result) -> datetime:
    """Tell when a file was last written."""
    return datetime.fromtimestamp(status.st_mtime, UTC)


def etag_from(status: os.stat_result) -> str:
    """Make an ETag of what changes when a file does."""
    return f"{status.st_size:x}-{status.st_mtime_ns:x}"


def write_all(descriptor: int, data: Buffer, bandwidth: TokenBucket | None) -> bool:
    """Write every byte, however little the system takes at a time, and seek over zeros.

    Returns
    -------
    bool
        Whether the end was left out, so that the file still has to be given its size.
    """
    view, is_hole = memoryview(data), False
    while view:
        piece = view[: _SMOOTH_PIECE if bandwidth else _PIECE]
        is_hole = len(piece) >= _LEAST_HOLE and _is_zero(piece)
        if is_hole:
            os.lseek(descriptor, len(piece), os.SEEK_CUR)
            view = view[len(piece) :]
            continue
        count = os.write(descriptor, piece)
        if bandwidth:
            bandwidth.take(count)
        view = view[count:]
    return is_hole
