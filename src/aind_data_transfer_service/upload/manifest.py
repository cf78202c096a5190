"""The record of what an asset consists of, and the journal of what has arrived so far.

Both hold one JSON object a line. The journal lies on the machine that runs the job and grows file
by file, so that an interrupted job knows what is proven; the manifest lies beside the verified
asset.
"""

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import msgspec

from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.upload.store import (
    AssetStore,
    StoredObject,
    manifest_key,
    record_folder,
)

_PIECE = 8 * 1024**2
"""How much of a manifest is read or written at once."""
_LINE = 1024
"""Most lines of a journal are shorter."""
_AT_ONCE = 1 << 16
"""How much of it is read at once where many are asked for."""
_ARRIVAL = b'{"path"'
"""How lines that tell of an arrival begin."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One file of an asset, as it was sent."""

    path: str
    """Its place in the asset."""
    size: int
    sha256: str
    mtime: str
    """When it was last written at the source, in UTC."""
    etag: str
    """What the store called it when it had taken it."""
    source: str
    """What changes when the source does: by it a file need not be sent again."""

    def is_stored_as(self, stored: StoredObject | None) -> bool:
        """Tell whether the store lists what was sent."""
        return stored is not None and (stored.size, stored.etag) == (self.size, self.etag)


Content = Mapping[str, Any] | Entry
"""What a line holds."""
_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(Entry)
"""A million files are written down twice and read twice: json would take minutes."""


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
    store: AssetStore, prefix: str, header: Mapping[str, Any], entries: Iterable[Entry]
) -> None:
    """Put the manifest beside the asset."""
    write_lines(store, manifest_key(prefix), itertools.chain((header,), entries))


def write_lines(store: AssetStore, key: str, lines: Iterable[Content]) -> None:
    """Store a JSON object a line, in pieces where there are many."""
    pieces = _pieces(lines)
    first = next(pieces)
    rest = next(pieces, None)
    if rest is None:
        store.put(key, first)
    else:
        parts = itertools.chain((first, rest), pieces)
        store.put_parts(key, parts, _PIECE)


def read_lines(store: AssetStore, key: str) -> Iterator[bytes]:
    """Read an object line by line, the empty ones left out."""
    rest = b""
    for piece in store.read(key, _PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


class Manifest:
    """The manifest of a verified asset, read as often as its entries are asked for.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.

    Raises
    ------
    DestinationError
        Where there is none, or it does not begin as one does.
    """

    def __init__(self, store: AssetStore, prefix: str):
        self._store, self._key = store, manifest_key(prefix)
        if all(item.key != self._key for item in store.objects(record_folder(prefix))):
            raise DestinationError(f"{store.location(self._key)} does not exist")
        self.header: dict[str, Any] = next(self._lines(), {})
        """What is said of the asset as a whole."""
        if "manifest" not in self.header:
            raise self._damaged("its first line is not that of a manifest")

    def __iter__(self) -> Iterator[Entry]:
        """Give its entries, in the order of their paths.

        Raises
        ------
        DestinationError
            Where it is damaged, or names more or fewer files than its first line says.
        """
        files = size = 0
        try:
            for line in itertools.islice(self._lines(), 1, None):
                entry = Entry(**line)
                files, size = files + 1, size + entry.size
                yield entry
        except TypeError as error:
            raise self._damaged(str(error)) from error
        said = self.header.get("files"), self.header.get("bytes")
        if said != (files, size):
            raise self._damaged(
                f"it names {files} files of {size} bytes, and its first line says {said[0]} of "
                f"{said[1]}"
            )

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Read it line by line."""
        return map(self._parse, read_lines(self._store, self._key))

    def _parse(self, line: bytes) -> dict[str, Any]:
        """Read one line."""
        try:
            value = json.loads(line)
        except ValueError as error:
            raise self._damaged(str(error)) from error
        if not isinstance(value, dict):
            raise self._damaged("a line of it is no JSON object")
        return value

    def _damaged(self, reason: str) -> DestinationError:
        """Say that it cannot be used."""
        return DestinationError(f"{self._store.location(self._key)} is no manifest: {reason}")


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
    """Write one line."""
    return _ENCODER.encode(content) + b"\n"


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
                try:
                    yield offset, Entry(**json.loads(line))
                except (ValueError, TypeError):
                    pass
                offset += len(line)

    def notes(self) -> Iterator[dict[str, Any]]:
        """Read what was noted beside arrivals."""
        with contextlib.suppress(FileNotFoundError), open(self._file, "rb") as file:
            for line in file:
                if not line.startswith(_ARRIVAL):
                    with contextlib.suppress(ValueError):
                        content = json.loads(line)
                        if isinstance(content, dict):
                            yield content

    def at(self, offset: int) -> Entry:
        """Read the entry that stands at a place."""
        data = b""
        while b"\n" not in data:
            more = os.pread(self._output.fileno(), _LINE, offset + len(data))
            if not more:
                raise TransferError(f"{self._file} was cut off while the job ran")
            data += more
        return _DECODER.decode(data[: data.index(b"\n")])

    def several(self, offsets: Iterable[int]) -> Iterator[Entry]:
        """Read the entries that stand at many places, most of which follow one another."""
        data, begin = b"", 0
        for offset in offsets:
            place = offset - begin
            end = data.find(b"\n", place) if place >= 0 else -1
            if end < 0:
                data, begin, place = os.pread(self._output.fileno(), _AT_ONCE, offset), offset, 0
                end = data.find(b"\n")
            yield _DECODER.decode(data[place:end]) if end >= 0 else self.at(offset)

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
                offset = self._output.tell()
                self._output.write(data)
                self._output.flush()
            except OSError as error:
                raise TransferError(f"{self._file} cannot be written: {error.strerror}") from error
        return offset

    def doubt(self, paths: Iterable[str]) -> None:
        """Note that files are not what they were taken for: they will be sent again."""
        for path in paths:
            self.add(Entry(path, 0, "", "", "", ""))

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
