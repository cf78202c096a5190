"""A local folder that stands for a bucket.

Every object is written to a file of its own beneath `.transfer/` first and then moved into place,
so that nothing half-written ever bears an asset's name. An ETag is made of size and time of
writing, which no drive invents as it may invent inode numbers. Zeros are left out as holes.
"""

import itertools
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

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
from aind_data_transfer_service.storage.local_files import (
    LOCK_PAUSE,
    etag_from,
    lock_file,
    modified_at,
    move_file,
    settle_record,
    status_of,
    sync_disk,
    write_all,
)
from aind_data_transfer_service.storage.model import Buffer, StoredObject, Unfinished

_PATH_LIMIT = 4095
_AT_HAND = 2
"""Parts in memory while one is written: that and the next."""
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
                                entry.path[root:],
                                status.st_size,
                                etag_from(status),
                                modified_at(status),
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
                return file.read(), etag_from(os.fstat(file.fileno()))
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
                time.sleep(2 * LOCK_PAUSE)  # a process that waits for the lock tries it meanwhile
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
            return etag_from(status_of(self._path(key)))
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
            self.conditional = lock_file(lock, path)
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
            sync_disk(self._folder)
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
                        ends_in_hole = write_all(file.fileno(), part, self._bandwidth)
                    if ends_in_hole:
                        os.ftruncate(file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_CUR))
                    if is_record:
                        settle_record(file.fileno())
                self.guard.check()
                move_file(incoming, path, new)
            except BaseException:
                incoming.unlink(missing_ok=True)
                raise
            return etag_from(os.stat(path))
        except FileExistsError:
            if new:
                raise
            raise TransferError(f"{path} cannot be written: a file is where a folder must be")
        except OSError as error:
            raise TransferError(f"{path} cannot be written: {error.strerror}")


def _pieces(parts: Iterable[Body], on_part: OnPart | None = None) -> Iterator[Buffer]:
    """Yield the chunks of parts; a part is written once the next chunk is requested."""
    for number, part in enumerate(parts, 1):
        yield from part.read_and_hash()
        part.release()
        if on_part is not None:
            on_part(number, len(part), True)
