"""A local folder that stands for a bucket.

Every object is written to a file of its own beneath `.transfer/` first and then moved into place,
so that nothing half-written ever bears an asset's name. An ETag is made of size and time of
writing, which no drive invents as it may invent inode numbers. Zeros are left out as holes.
"""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import random
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO

from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.storage import page_cache
from aind_data_transfer_service.storage.base import (
    AssetStore,
    Body,
    MultipartCheckpoint,
    OnPart,
    PreconditionFailed,
)
from aind_data_transfer_service.storage.layout import RECORDS
from aind_data_transfer_service.storage.s3.model import Buffer, StoredObject, Unfinished
from aind_data_transfer_service.storage.system_calls import has_no_locks, rename_new

_PATH_LIMIT = 4095
_MOVES = 50
_AT_HAND = 2
"""Parts in memory while one is written: that and the next."""
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
_LONGEST_LOCK, _LOCK_PAUSE = 10.0, 0.01
"""Seconds that another process may hold the lock of a bucket, and between two attempts."""
_LONGEST_HOLD = 0.1
"""Seconds for which the lock of a bucket is held to delete files, before others may have it."""
_OWNED = "~"  # stands in no asset's name
_RECORD = f"{_OWNED}r-"
"""Stands in the names of records that are being written; the job itself writes its lease."""


class LocalAssetStore(AssetStore):
    """A folder in the layout of a bucket.

    Parameters
    ----------
    folder : Path
        The bucket's own folder.
    bandwidth : float | None
        Bytes per second that may be written.
    """

    is_local = True
    proves_by_reading = True

    def __init__(self, folder: Path, bandwidth: float | None = None):
        self._bandwidth = TokenBucket(bandwidth) if bandwidth else None
        self._folder = folder
        self._lock, self._from_cache = threading.Lock(), 0
        self._incoming = folder / RECORDS / ".incoming"
        self.key_limit = _PATH_LIMIT - len(os.fsencode(folder)) - 1

    def location(self, key: str) -> str:
        """Write the place of a key as a path."""
        return str(self._folder / key)

    def objects(self, prefix: str, cuts: Sequence[str] = ()) -> Iterator[StoredObject]:
        """Walk the folder of a prefix."""
        waiting = [str(self._path(prefix))]
        root = len(str(self._folder)) + 1
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            status = entry.stat(follow_symlinks=False)
                            yield StoredObject(
                                entry.path[root:], status.st_size, _etag(status), _modified(status)
                            )
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise DestinationError(f"{error.filename} cannot be listed: {error.strerror}")

    def folders(self, prefix: str = "") -> set[str]:
        """List the folders directly beneath a prefix, or at the root."""
        try:
            with os.scandir(self._path(prefix) if prefix else self._folder) as entries:
                return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise DestinationError(f"{error.filename} cannot be listed: {error.strerror}")

    def put(
        self,
        key: str,
        data: Buffer,
        new: bool = False,
        halt: threading.Event | None = None,
        if_match: str | None = None,
    ) -> str:
        """Write a file of its own and move it into place."""
        if if_match is None:
            return self._write(key, (data,), new)
        with self._exclusive():
            if self._etag_of(key) != if_match:
                raise PreconditionFailed(self.location(key))
            return self._write(key, (data,), new)

    def put_parts(
        self,
        key: str,
        parts: Iterable[Body],
        part_size: int,
        traffic: Traffic | None = None,
        checkpoint: MultipartCheckpoint | None = None,
        on_part: OnPart | None = None,
        memory_cost: int | None = None,
    ) -> str:
        """Write parts one after another and move the file into place; nothing is resumed."""
        with (traffic or Traffic(1, _AT_HAND * part_size)).memory(_AT_HAND * part_size):
            return self._write(key, _pieces(parts, on_part), False)

    def fetch(self, key: str) -> tuple[bytes, str] | None:
        """Read a file and its ETag."""
        try:
            with open(self._path(key), "rb") as file:
                return file.read(), _etag(os.fstat(file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DestinationError(f"{self.location(key)} cannot be read: {error.strerror}")

    def read(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read a file in pieces."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                while chunk := file.read(chunk_size):
                    yield chunk
        except OSError as error:
            raise DestinationError(f"{self.location(key)} cannot be read: {error.strerror}")

    def read_back(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read a file in pieces: from its disk rather than from the page cache, if possible."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                if self._file_system not in page_cache.IN_MEMORY:
                    if not page_cache.drop(file.fileno()):
                        with self._lock:
                            self._from_cache += 1
                while chunk := file.read(chunk_size):
                    yield chunk
        except OSError as error:
            raise DestinationError(f"{self.location(key)} cannot be read back: {error.strerror}")

    @property
    def read_back_from(self) -> str:
        """Where bytes come from that are read back, and how many files may not have."""
        words = page_cache.source_words(self._file_system)
        with self._lock:
            cached = self._from_cache
        more = f", but {cached:,} files perhaps from this machine's cache" if cached else ""
        return f"{words}{more}"

    @cached_property
    def _file_system(self) -> str:
        """The type of the file system that the folder is on."""
        return page_cache.file_system(self._folder)

    def delete_matching(self, objects: Mapping[str, str]) -> list[str]:
        """Remove files that are still those that were listed."""
        others: list[str] = []
        waiting = deque(objects.items())
        while waiting:
            with self._exclusive():
                others += self._delete_some(waiting)
            if waiting:
                time.sleep(2 * _LOCK_PAUSE)  # a process that waits for the lock tries it meanwhile
        return others

    def _delete_some(self, waiting: deque[tuple[str, str]]) -> Iterator[str]:
        """Remove files for a moment, and give the keys at which there is another one now."""
        end = time.monotonic() + _LONGEST_HOLD
        while waiting:
            key, etag = waiting.popleft()
            found = self._etag_of(key)
            if found == etag:
                self._remove(key)
            elif found is not None:
                yield key
            if time.monotonic() >= end:
                return

    def _etag_of(self, key: str) -> str | None:
        """Return the ETag of a file; None if there is none."""
        try:
            return _etag(_status(self._path(key)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DestinationError(f"{self.location(key)} cannot be read: {error.strerror}")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock that makes conditional writes to this bucket atomic."""
        self.guard.check()
        path = self._folder / RECORDS / ".lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "ab")
        except OSError as error:
            raise TransferError(f"{path} cannot be written: {error.strerror}") from error
        with lock:
            self.conditional = _lock(lock, path)
            yield

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files, and the folders that become empty."""
        self.guard.check()
        for key in keys:
            self._remove(key)

    def _remove(self, key: str) -> None:
        """Remove a file, and the folders that become empty."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise DestinationError(f"{path} cannot be removed: {error.strerror}")
        for parent in itertools.takewhile(lambda p: p != self._folder, path.parents):
            try:
                parent.rmdir()
            except OSError:
                break

    def create(self) -> None:
        """Make the bucket's folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationError(f"{self._folder} cannot be made: {error.strerror}")

    def free_bytes(self) -> int:
        """Tell the room on the disk that the folder is on, or will be on."""
        existing = next(p for p in (self._folder, *self._folder.parents) if p.exists())
        return shutil.disk_usage(existing).free

    def settle(self, prefix: str) -> None:
        """Have the system write this disk, and no other; nothing is coming in any more."""
        self.clear_unfinished(prefix)
        try:
            _sync(self._folder)
        except OSError as error:
            raise TransferError(f"{self._folder} cannot be written: {error.strerror}") from error

    def clear_unfinished(self, prefix: str) -> None:
        """Remove what a broken-off transfer of this asset was writing."""
        self.guard.check()
        try:
            names = os.listdir(self._incoming)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(f"{prefix}{_OWNED}") and not name.startswith(f"{prefix}{_RECORD}"):
                (self._incoming / name).unlink(missing_ok=True)

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """List the files that a broken-off transfer was writing."""
        incoming = f"{RECORDS}/{self._incoming.name}"
        for found in list(self.objects(incoming)):
            name = found.key.removeprefix(f"{incoming}/")
            owner = name.partition(_OWNED)[0]
            if not prefix or owner == prefix:
                yield Unfinished(owner, name, found.modified)

    def abort(self, upload: Unfinished) -> None:
        """Remove a file that a broken-off transfer was writing."""
        self.guard.check()
        (self._incoming / upload.upload_id).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        """Find the file of a key; a key can never lead out of the bucket."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise DestinationError(f"{key!r} is no place in {self._folder}")
        return self._folder.joinpath(*parts)

    def _write(self, key: str, parts: Iterable[Buffer], new: bool) -> str:
        """Write to a file of its own, then give it its name."""
        self.guard.check()
        path = self._path(key)
        is_record = key.startswith(f"{RECORDS}/")
        owner = key.removeprefix(f"{RECORDS}/").split("/")[0]
        mark = _RECORD if is_record else _OWNED
        incoming = self._incoming / f"{owner}{mark}{uuid.uuid4().hex}"
        try:
            incoming.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(incoming, "xb", buffering=0) as file:
                    ends_in_hole = False
                    for part in parts:
                        ends_in_hole = self._write_all(file.fileno(), part)
                    if ends_in_hole:
                        os.ftruncate(file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_CUR))
                    if is_record:
                        _settle_record(file.fileno())
                self.guard.check()
                _move(incoming, path, new)
            except BaseException:
                incoming.unlink(missing_ok=True)
                raise
            return _etag(os.stat(path))
        except FileExistsError:
            if new:
                raise
            raise TransferError(f"{path} cannot be written: a file is where a folder must be")
        except OSError as error:
            raise TransferError(f"{path} cannot be written: {error.strerror}")

    def _write_all(self, descriptor: int, data: Buffer) -> bool:
        """Write every byte, however little the system takes at a time, and seek over zeros.

        Returns
        -------
        bool
            Whether the end was left out, so that the file still has to be given its size.
        """
        view, is_hole = memoryview(data), False
        while view:
            piece = view[: _SMOOTH_PIECE if self._bandwidth else _PIECE]
            is_hole = len(piece) >= _LEAST_HOLE and _is_zero(piece)
            if is_hole:
                os.lseek(descriptor, len(piece), os.SEEK_CUR)
                view = view[len(piece) :]
                continue
            count = os.write(descriptor, piece)
            if self._bandwidth:
                self._bandwidth.take(count)
            view = view[count:]
        return is_hole


def _pieces(parts: Iterable[Body], on_part: OnPart | None = None) -> Iterator[Buffer]:
    """Yield the chunks of parts; a part is written once the next chunk is requested."""
    for number, part in enumerate(parts, 1):
        yield from part.read_and_hash()
        part.release()
        if on_part is not None:
            on_part(number, len(part), True)


def _move(incoming: Path, path: Path, new: bool) -> None:
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


def _settle_record(descriptor: int) -> None:
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


def _lock(file: IO[bytes], path: Path) -> bool:
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
        time.sleep(_LOCK_PAUSE)


def _sync(folder: Path) -> None:
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


def _status(path: Path) -> os.stat_result:
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


def _modified(status: os.stat_result) -> datetime:
    """Tell when a file was last written."""
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _etag(status: os.stat_result) -> str:
    """Make an ETag of what changes when a file does."""
    return f"{status.st_size:x}-{status.st_mtime_ns:x}"
