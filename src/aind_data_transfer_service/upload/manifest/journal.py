"""The journal of a transfer: what has arrived so far, on the machine that runs the job.

It grows file by file, so that the next job knows what an interrupted one has sent.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from aind_data_transfer_service.errors import TransferError
from aind_data_transfer_service.upload.manifest.entry import Entry, read_entry
from aind_data_transfer_service.upload.manifest.json_lines import (
    SEALED,
    Content,
    is_intact,
    line_of,
)

_LINE = 1024
"""Most lines of a journal are shorter."""
_AT_ONCE = 1 << 16
"""How much of it is read at once where many are asked for."""
_ARRIVAL = b'","path"'
"""How that part begins in lines that tell of an arrival."""


class Forgotten(msgspec.Struct, frozen=True, tag_field="note", tag="forgotten"):
    """A note in a journal: what an earlier upload in parts sent of a file is not what it holds."""

    path: str


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
                if not line.startswith(_ARRIVAL, SEALED) and is_intact(line):
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
        lines = [line_of(entry) for entry in entries]
        ends = itertools.accumulate(map(len, lines), initial=self._write(b"".join(lines)))
        return list(ends)[:-1]

    def note(self, content: Content) -> int:
        """Note anything, as a line of its own, and tell where it stands."""
        return self._write(line_of(content))

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
