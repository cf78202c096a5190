"""Files of a source, a million as easily as ten: each takes its name and some 36 bytes."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, cast

import msgspec

from aind_data_transfer_service.source_paths.drive_retry import Drive
from aind_data_transfer_service.upload.source.confined_open import SourceReader

_BILLION = 1_000_000_000
_UNKNOWN = -1
"""Recorded for a change time that proves nothing."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A source, and the folder of the asset that it goes to."""

    root: str
    folder: str
    drive: Drive = field(default_factory=Drive, compare=False, repr=False)
    """Retries reads of it."""
    reader: SourceReader = field(default=cast(Any, None), compare=False, repr=False)
    """Opens its files, and nothing outside it."""

    def __post_init__(self) -> None:
        """Find out where the source really is when its first file is opened, if nobody has."""
        if self.reader is None:
            object.__setattr__(self, "reader", SourceReader(self.root))


class Status(Protocol):
    """What is recorded of a file; `os.stat_result` has it."""

    @property
    def st_mode(self) -> int:
        """Return its kind and its rights."""

    @property
    def st_uid(self) -> int:
        """Return who owns it."""

    @property
    def st_size(self) -> int:
        """Return its size in bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """Return when it was last written."""

    @property
    def st_ctime_ns(self) -> int:
        """Return when it or what the system keeps of it last changed."""


class SourceFile(msgspec.Struct, frozen=True, gc=False):
    """A file as it was when it was found."""

    tree: Tree
    name: str
    """Its path within the source; the source's own name where the source is a single file."""
    size: int
    mtime_ns: int
    ctime_ns: int
    """When the file or what the system keeps of it last changed. If only this differs, the bytes
    are compared: some drives change it though nobody wrote to the file."""
    alone: bool = False
    """Whether the source is this file rather than a folder."""

    @property
    def path(self) -> str:
        """Where it lies."""
        return self.tree.root if self.alone else f"{self.tree.root}/{self.name}"

    @property
    def target(self) -> str:
        """Where it really is, if a link led to it or to a folder that it is in; else empty."""
        return self.tree.reader.target_of(self.name) or ""

    @property
    def key(self) -> str:
        """Its place in the asset."""
        return f"{self.tree.folder}/{self.name}"


class Files(Sequence[SourceFile]):
    """The files of one source, in the order of their names.

    Parameters
    ----------
    tree : Tree
        The source.
    alone : bool
        Whether the source is a single file rather than a folder.
    """

    _COLUMNS = ("tree", "_alone", "_names", "_ends", "_sizes", "_seconds", "_rests")

    def __init__(self, tree: Tree, alone: bool = False):
        self.tree, self._alone = tree, alone
        self.size = 0
        """How many bytes they have together."""
        self._next = 0
        self._names = bytearray()
        self._ends = array("Q", (0,))
        self._sizes, self._changes = array("Q"), array("q")
        self._seconds, self._rests = array("q"), array("L")

    def add(self, name: str, status: Status, is_settled: bool = True) -> None:
        """Add a file as it is now; its name comes after all that are there.

        Parameters
        ----------
        name : str
            Its path within the source.
        status : Status
            Its attributes.
        is_settled : bool
            Whether its change time will change if its bytes do.
        """
        self._names += os.fsencode(name)
        self._ends.append(len(self._names))
        self._sizes.append(status.st_size)
        try:
            self._changes.append(status.st_ctime_ns if is_settled else _UNKNOWN)
        except OverflowError:
            self._changes.append(_UNKNOWN)
        seconds, rest = divmod(status.st_mtime_ns, _BILLION)
        self._seconds.append(seconds)
        self._rests.append(rest)
        self.size += status.st_size

    def find(self, name: str) -> int | None:
        """Tell at which place the file of a name stands."""
        wanted = os.fsencode(name)
        place = self._next  # names are mostly asked for in their order
        if place < len(self) and self._name(place) == wanted:
            self._next = place + 1
            return place
        place = bisect_left(range(len(self)), wanted, key=self._name)
        if place == len(self) or self._name(place) != wanted:
            return None
        self._next = place + 1
        return place

    def is_same(self, other: "Files") -> bool:
        """Return whether another look found the same names, sizes and times of writing."""
        return all(getattr(self, name) == getattr(other, name) for name in self._COLUMNS)

    def repeated(self) -> Iterator[str]:
        """Return names that do not come after the one before them.

        Some drives list a file or a folder twice while others write to it; all files of such a
        folder follow twice.
        """
        names, ends = bytes(self._names), self._ends
        before = b""
        for place, (start, end) in enumerate(pairwise(ends)):
            name = names[start:end]
            if name <= before:
                yield self[place].name
            before = name

    def doubtful(self, later: "Files") -> Iterator[int]:
        """Return the places of files whose bytes may have changed though size and time did not.

        Parameters
        ----------
        later : Files
            A later look at the source.
        """
        if self.is_same(later):
            for place, (before, after) in enumerate(zip(self._changes, later._changes)):
                if before != after or before == _UNKNOWN:
                    yield place
            return
        for place, file in enumerate(self):
            if is_doubtful(file, later):
                yield place

    def sizes(self) -> Iterator[int]:
        """Give the size of each."""
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, place: int) -> SourceFile:  # type: ignore[override]
        place = range(len(self))[place]
        return SourceFile(
            self.tree,
            os.fsdecode(self._name(place)),
            self._sizes[place],
            self._seconds[place] * _BILLION + self._rests[place],
            self._changes[place],
            self._alone,
        )

    def __iter__(self) -> Iterator[SourceFile]:
        return map(self.__getitem__, range(len(self)))

    def _name(self, place: int) -> bytes:
        """Give the name of the file at a place."""
        return bytes(self._names[self._ends[place] : self._ends[place + 1]])


def is_doubtful(file: SourceFile, later: Files) -> bool:
    """Return whether the bytes of a file may have changed though size and time did not.

    Parameters
    ----------
    file : SourceFile
        The file as it was.
    later : Files
        A later look at its source.
    """
    there = later.find(file.name)
    found = None if there is None else later[there]
    if found is None or (found.size, found.mtime_ns) != (file.size, file.mtime_ns):
        return False
    return file.ctime_ns != found.ctime_ns or file.ctime_ns == _UNKNOWN
