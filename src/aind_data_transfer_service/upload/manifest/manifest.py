"""The record of what an asset consists of, and the journal of what has arrived so far.

Both hold one JSON object a line. The journal lies on the machine that runs the job and grows file
by file, so that an interrupted job knows what is proven; the manifest lies beside the verified
asset. Each line starts with the CRC-32 of what follows, so that a damaged line is never believed.
"""

import contextlib
import heapq
import itertools
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import msgspec

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import DestinationError, TransferError, VerificationError
from aind_data_transfer_service.storage.base import AssetStore, BufferBody
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    key_problem,
    manifest_key,
    record_folder,
)
from aind_data_transfer_service.storage.s3.model import StoredObject, same_etag
from aind_data_transfer_service.upload.manifest.unlisted import Left

T = TypeVar("T")
_PIECE = 8 * 1024**2
"""How much of a manifest is read or written at once."""
_LINE = 1024
"""Most lines of a journal are shorter."""
_AT_ONCE = 1 << 16
"""How much of it is read at once where many are asked for."""
_CRC = b'{"crc":"'
"""How every line begins. Eight hexadecimal digits follow: the CRC-32 of the rest of the line."""
_SEALED = len(_CRC) + 8
"""Where the part of a line that the CRC covers starts."""
_ARRIVAL = b'","path"'
"""How that part begins in lines that tell of an arrival."""
CHECKSUMS, READ_BACK = "checksums", "read back"
"""How the bytes of an asset were proven: by the store itself, or by the job that read them back."""
DOCUMENT = "document"
"""What stands as the source of a metadata document."""
_SHA256_DIGITS = 64
_LONGEST_PATH = 4095
"""Bytes: what the file systems of local destinations allow."""
_WRITES = 3
"""How often a manifest is written to a store that does not check what it takes."""


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One file of an asset, as it was sent."""

    path: str
    """Its place in the asset."""
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    sha256: str
    mtime: str
    """When it was last written at the source, in UTC."""
    etag: str
    """What the store called it when it had taken it."""
    source: str
    """What changes when the source does: by it a file need not be sent again."""
    target: str = ""
    """Where the file really is, if a link led to it or to a folder that it is in."""

    def is_stored_as(self, stored: StoredObject | None) -> bool:
        """Tell whether the store lists what was sent."""
        if stored is None or stored.size != self.size:
            return False
        return stored.etag == self.etag or same_etag(stored.etag, self.etag)


class _Header(Left, kw_only=True):
    """What the first line of a manifest must hold, and of which types."""

    manifest: int
    files: int
    bytes: int
    verified: datetime | None = None
    started: datetime | None = None
    job_id: str | None = None
    proof: str | None = None


class Forgotten(msgspec.Struct, frozen=True, tag_field="note", tag="forgotten"):
    """A note in a journal: what an earlier upload in parts sent of a file is not what it holds."""

    path: str


Content = Mapping[str, Any] | msgspec.Struct
"""What a line holds."""
_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(Entry)
"""A million files are written down twice and read twice: json would take minutes."""
_HEADER, _OBJECT = msgspec.json.Decoder(_Header), msgspec.json.Decoder(dict[str, Any])


def utc(mtime_ns: int) -> str:
    """Write a file's time, to the nanosecond."""
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    try:
        return f"{_second(seconds)}.{rest:09d}Z"
    except (OverflowError, ValueError, OSError):
        return f"@{mtime_ns}"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Write a second, in which many files of a session were often written."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def write_manifest(
    store: AssetStore, prefix: str, header: Mapping[str, Any], *sources: Iterable[Entry]
) -> None:
    """Put the manifest beside the asset; read it back from a server that checks no checksums.

    What is there so far is copied before, and put back if the new manifest cannot be proven. As
    long as the copy is there, the asset does not count as published: a job that is killed meanwhile
    leaves it, and the next one goes by it.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    header : Mapping[str, Any]
        What is said of the asset as a whole.
    *sources : Iterable[Entry]
        Its entries, each source in the order of the paths; read again if it is written again.

    Raises
    ------
    VerificationError
        If it was damaged each time it was written. The earlier one is there again then, or its copy
        is, if it cannot be put back.
    """

    def lines() -> Iterator[Content]:
        return itertools.chain((header,), heapq.merge(*sources, key=attrgetter("path")))

    key, former = manifest_key(prefix), former_manifest_key(prefix)
    if not store.proves_by_reading or store.is_local:  # a local folder has it on disk
        records = beside(lambda: list(store.objects(record_folder(prefix))), "listing")
        write_lines(store, key, lines())
        if any(item.key == former for item in records.result()):
            store.delete([former])  # of a job that took the store for one that checks nothing
        return
    has_former = _keep_former(store, prefix)
    problem = _write_proven(store, prefix, key, lines)
    if problem is None:
        store.delete([former])
        return
    words = f"written {_WRITES} times, and damaged each time: {problem}"
    if not has_former:
        store.delete([key])
        store.delete([former])
        raise VerificationError(words)
    if _write_proven(store, prefix, key, partial(_lines_of, store, prefix, former)) is None:
        store.delete([former])
        raise VerificationError(f"{words}. The manifest of the earlier upload is in place again")
    store.delete([key])
    raise VerificationError(
        f"{words}. The manifest of the earlier upload is in {store.location(former)}; run the job "
        "again, it continues from there"
    )


def _keep_former(store: AssetStore, prefix: str) -> bool:
    """Copy the manifest that is going to be replaced, if it is intact.

    If it is damaged, a job was killed while it replaced it, and the copy is there already.

    Returns
    -------
    bool
        Whether there is a copy now that can be put back.

    Raises
    ------
    VerificationError
        If the copy was damaged each time it was written.
    """
    key, former = manifest_key(prefix), former_manifest_key(prefix)
    sizes = {item.key: item.size for item in store.objects(record_folder(prefix))}
    # what it reads may be damaged too, so it reads more than once
    if key in sizes and any(_damage(store, prefix, key) is None for _ in range(_WRITES)):
        problem = _write_proven(store, prefix, former, partial(_lines_of, store, prefix, key))
        if problem is not None:
            store.delete([former])
            raise VerificationError(
                f"the manifest of the earlier upload was not replaced: a copy of it was written "
                f"{_WRITES} times, and damaged each time: {problem}"
            )
        return True
    if former not in sizes:
        store.put(former, b"")
    return sizes.get(former, 0) > 0


def _write_proven(
    store: AssetStore, prefix: str, key: str, lines: Callable[[], Iterator[Content]]
) -> str | None:
    """Write a manifest until it reads back well; return what is wrong if it never does."""
    problem = None
    for _ in range(_WRITES):
        write_lines(store, key, lines())
        problem = _damage(store, prefix, key)
        if problem is None:
            return None
    return problem


def _lines_of(store: AssetStore, prefix: str, key: str) -> Iterator[Content]:
    """Read the lines of a manifest, to write them once more."""
    manifest = Manifest(store, prefix, key)
    yield manifest.header
    yield from manifest


def _damage(store: AssetStore, prefix: str, key: str) -> str | None:
    """Read a manifest and return what is wrong with it; None if nothing is."""
    try:
        deque(Manifest(store, prefix, key), maxlen=0)
    except DestinationError as error:
        return str(error)
    return None


def write_lines(store: AssetStore, key: str, lines: Iterable[Content]) -> None:
    """Store a JSON object a line, in pieces where there are many."""
    pieces = _pieces(lines)
    first = next(pieces)
    rest = next(pieces, None)
    if rest is None:
        store.put(key, first)
    else:
        parts = itertools.chain((first, rest), pieces)
        store.put_parts(key, map(BufferBody, parts), _PIECE)


def read_lines(store: AssetStore, key: str) -> Iterator[bytes]:
    """Read an object line by line, the empty ones included."""
    rest = b""
    for piece in store.read(key, _PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def is_intact(line: bytes) -> bool:
    """Return whether a line, without its line break, has a CRC and is what was written."""
    return line[:_SEALED] == b"%s%08x" % (_CRC, zlib.crc32(line[_SEALED:]))


def read_entry(line: bytes) -> Entry | None:
    """Read a line of a journal or record; return None if it is damaged or holds something else."""
    if not is_intact(line):
        return None
    try:
        return _DECODER.decode(line)
    except ValueError:
        return None


class Manifest:
    """The manifest of a verified asset, read as often as its entries are asked for.

    Manifests of earlier releases have no CRC in their lines. If the first line has one, all must.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    key : str | None
        The key of the manifest, if it is a copy.

    Raises
    ------
    DestinationError
        If there is none, or its first line is not that of a manifest.
    """

    def __init__(self, store: AssetStore, prefix: str, key: str | None = None):
        self._store, self._key = store, key or manifest_key(prefix)
        if all(item.key != self._key for item in store.objects(record_folder(prefix))):
            raise DestinationError(f"{store.location(self._key)} does not exist")
        _, first = next(self._lines(), (1, b""))
        self._has_crc = first.startswith(_CRC)
        known = self._decode(1, first, _HEADER)
        self.left = Left(known.left, known.left_folders)
        """What lies under the asset and is not of it."""
        self.header: dict[str, Any] = self._decode(1, first, _OBJECT)
        """What is said of the asset as a whole."""
        self.header.pop("crc", None)

    def __iter__(self) -> Iterator[Entry]:
        """Give its entries, in the order of their paths.

        Raises
        ------
        DestinationError
            If a line is damaged, or more or fewer files are named than the first line says.
        """
        files = size = 0
        last: str | None = None
        for number, line in itertools.islice(self._lines(), 1, None):
            entry = self._decode(number, line, _DECODER)
            if problem := _problem(entry, last):
                raise self._damaged(number, problem)
            files, size, last = files + 1, size + entry.size, entry.path
            yield entry
        said = self.header["files"], self.header["bytes"]
        if said != (files, size):
            raise self._damaged(
                1,
                f"it says {said[0]:,} files of {said[1]:,} bytes, but {files:,} files of "
                f"{size:,} bytes follow",
            )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Read it line by line, each with its number."""
        lines = enumerate(read_lines(self._store, self._key), 1)
        return ((number, line) for number, line in lines if line)

    def _decode(self, number: int, line: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
        """Read one line."""
        if (self._has_crc or line.startswith(_CRC)) and not is_intact(line):
            raise self._damaged(number, "it does not match its CRC")
        try:
            return decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged(number, str(error)) from error

    def _damaged(self, number: int, reason: str) -> DestinationError:
        """Say which line cannot be used, why, and what to do."""
        return DestinationError(
            f"{self._store.location(self._key)} is damaged or was edited, line {number}: {reason}; "
            "restore it from a copy, or upload the session again with force_cloud_sync"
        )


def _problem(entry: Entry, last: str | None) -> str | None:
    """Return what is wrong with an entry of a manifest that follows a path; None if nothing is."""
    if len(entry.sha256) != _SHA256_DIGITS:
        return f'"{entry.sha256}" is not a SHA-256'
    if entry.path == last:
        return "it names the same file as the line before it"
    return key_problem(entry.path, _LONGEST_PATH)


def read_manifest(store: AssetStore, prefix: str) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Read the manifest of a verified asset: its header and, by path, its entries.

    Raises
    ------
    DestinationError
        Where there is none, or it is damaged.
    """
    manifest = Manifest(store, prefix)
    return manifest.header, {entry.path: entry for entry in manifest}


def _pieces(lines: Iterable[Content]) -> Iterator[bytes]:
    """Write lines in pieces, each but the last of the same size."""
    pending = bytearray()
    for line in lines:
        pending += _line(line)
        if len(pending) >= _PIECE:
            yield bytes(pending[:_PIECE])
            del pending[:_PIECE]
    yield bytes(pending)


def _line(content: Content) -> bytes:
    """Write one line, with its CRC."""
    rest = b'",' + _ENCODER.encode(content)[1:]
    return b"%s%08x%s\n" % (_CRC, zlib.crc32(rest), rest)


class Journal:
    """The journal of one transfer. Threads may add to it at once.

    Parameters
    ----------
    file : Path
        Where it lies.
    """

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()
        self._output: Any = None

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._mend()
        self._output = open(self._file, "a+b")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told when it was added
            self._output.close()

    def entries(self) -> dict[str, Entry]:
        """Tell, by path, what had arrived; the newest word on each file holds."""
        return {entry.path: entry for _, entry in self.lines()}

    def lines(self) -> Iterator[tuple[int, Entry]]:
        """Read what can be read, and where it stands.

        A damaged line only means that a file is sent again.
        """
        with contextlib.suppress(FileNotFoundError), open(self._file, "rb") as file:
            offset = 0
            for line in file:
                entry = read_entry(line.rstrip(b"\n"))
                if entry is not None:
                    yield offset, entry
                offset += len(line)

    def notes(self) -> Iterator[bytes]:
        """Read the intact lines that are not of arrivals."""
        with contextlib.suppress(FileNotFoundError), open(self._file, "rb") as file:
            for line in file:
                line = line.rstrip(b"\n")
                if not line.startswith(_ARRIVAL, _SEALED) and is_intact(line):
                    yield line

    def at(self, offset: int) -> Entry:
        """Read the entry that stands at a place."""
        data = b""
        while b"\n" not in data:
            more = os.pread(self._output.fileno(), _LINE, offset + len(data))
            if not more:
                raise TransferError(f"{self._file} was cut off while the job ran")
            data += more
        return self._entry(data[: data.index(b"\n")])

    def several(self, offsets: Iterable[int]) -> Iterator[Entry]:
        """Read the entries that stand at many places, most of which follow one another."""
        data, begin = b"", 0
        for offset in offsets:
            place = offset - begin
            end = data.find(b"\n", place) if place >= 0 else -1
            if end < 0:
                data, begin, place = os.pread(self._output.fileno(), _AT_ONCE, offset), offset, 0
                end = data.find(b"\n")
            yield self._entry(data[place:end]) if end >= 0 else self.at(offset)

    def _entry(self, line: bytes) -> Entry:
        """Read the line of an entry that was intact when its place was noted."""
        entry = read_entry(line)
        if entry is None:
            raise TransferError(
                f"{self._file} was damaged while the job ran; check that disk, and submit the job "
                "again: what the damaged lines named is sent again"
            )
        return entry

    def add(self, entry: Entry) -> int:
        """Note that a file has arrived, and tell where the note stands."""
        return self.note(entry)

    def add_all(self, entries: Iterable[Entry]) -> list[int]:
        """Note files that have arrived, all at once, and tell where each note stands."""
        lines = [_line(entry) for entry in entries]
        ends = itertools.accumulate(map(len, lines), initial=self._write(b"".join(lines)))
        return list(ends)[:-1]

    def note(self, content: Content) -> int:
        """Note anything, as a line of its own, and tell where it stands."""
        return self._write(_line(content))

    def _write(self, data: bytes) -> int:
        """Append lines, and tell where they begin."""
        with self._lock:
            try:
                offset: int = self._output.tell()
                self._output.write(data)
                self._output.flush()
            except OSError as error:
                raise TransferError(f"{self._file} cannot be written: {error.strerror}") from error
        return offset

    def doubt(self, paths: Iterable[str]) -> None:
        """Note that files are not what they were taken for: they are sent again, all of each."""
        for path in paths:
            self.add(Entry(path, 0, "", "", "", ""))
            self.note(Forgotten(path))

    def remove(self) -> None:
        """Forget everything: the asset has its manifest now."""
        self._file.unlink(missing_ok=True)

    def _mend(self) -> None:
        """Cut off a last line that was never finished."""
        if not self._file.exists():
            return
        with open(self._file, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            start, rest = end, b""
            while start and b"\n" not in rest:
                start = max(0, start - _LINE)
                rest = os.pread(file.fileno(), end - start, start)
            whole = start + rest.rfind(b"\n") + 1
            if whole != end:
                file.truncate(whole)
