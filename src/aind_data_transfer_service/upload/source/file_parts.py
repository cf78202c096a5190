"""Parts of large files, which lie in a buffer, or are read once more where they are too large.

A stretch is read in the order of its file, in pieces so small that they are hashed while the
processor's own cache holds them. It is kept in a buffer that is used over and over, and sent from
there. Parts of huge files do not fit into memory. Those are read a second time as they are sent,
soon after the first, when the system still has them in its cache: so many can be on their way at
once in a few megabytes. What is sent bears the checksum of what was hashed: a server that checks
it refuses any byte that became another in between.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from aind_data_transfer_service.errors import SourceChangedError
from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.upload.source.file_table import SourceFile
from aind_data_transfer_service.upload.source.reader import OpenFile

_PIECE = 1 << 21
"""So much is read, hashed and sent while a processor's own cache holds it."""
_AHEAD = 32 * 1024**2
"""What a part that is read twice counts for in memory. It takes far less, but this bounds how far
hashing is ahead of sending: so far the system's cache should reach."""


class Handle(OpenFile):
    """A file that is read in pieces that a processor's cache holds."""

    def fill(self, buffer: memoryview, start: int) -> Iterator[memoryview]:
        """Read into a buffer until it is full, and give each piece."""
        filled = 0
        while filled < len(buffer):
            piece = buffer[filled : filled + _PIECE]
            count = self.read_into(piece, start + filled)
            if not count:
                path = shown(self.file.path)
                raise SourceChangedError(f"{path} became shorter while it was read")
            yield piece[:count]
            filled += count

    def pieces(self, start: int, size: int) -> Iterator[memoryview]:
        """Read a stretch; each piece holds only until the next is asked for."""
        buffer, end = memoryview(bytearray(min(size, _PIECE))), start + size
        while start < end:
            for piece in self.fill(buffer[: end - start], start):
                yield piece
                start += len(piece)

    def forget(self, start: int, size: int) -> None:
        """Have the system's cache let go of a stretch.

        What is there besides stays, and the room is used over and over: 2 TB that pass through
        would else take all of it, at ten times the cost.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, start, size, os.POSIX_FADV_DONTNEED)


class Buffers:
    """Memory for parts, used over and over: to be given new memory costs about as much as reading.

    May be used from several threads at once. Each transfer has one size of parts mostly, so those
    of other sizes are not kept.

    Parameters
    ----------
    size : int
        How large they are.
    """

    def __init__(self, size: int):
        self._size = size
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """Get one that has room for so many bytes."""
        if size > self._size:
            return bytearray(size)
        try:
            return self._spare.pop()
        except IndexError:
            return bytearray(self._size)

    def give(self, buffer: bytearray) -> None:
        """Hand one back."""
        if len(buffer) == self._size:
            self._spare.append(buffer)


class Stretch:
    """A part of a large file.

    Parameters
    ----------
    handle : Handle
        The file.
    start, size : int
        Where it lies.
    on_piece : Callable
        Takes each piece as it is read for the first time.
    buffers : Buffers | None
        Where it is kept in memory; None where it is too large for that.
    """

    def __init__(
        self,
        handle: Handle,
        start: int,
        size: int,
        on_piece: Callable[[memoryview], None],
        buffers: Buffers | None = None,
    ):
        self._handle, self._start, self._size = handle, start, size
        self._on_piece, self._buffers = on_piece, buffers
        self._kept: bytearray | None = None

    def __len__(self) -> int:
        return self._size

    def read_and_hash(self) -> Iterator[memoryview]:
        """Read it for the first time: once, and after the part before it."""
        if self._buffers is None:
            read = self.chunks()
        else:
            self._kept = self._buffers.take(self._size)
            read = self._handle.fill(memoryview(self._kept)[: self._size], self._start)
        for piece in read:
            self._on_piece(piece)
            yield piece

    def chunks(self) -> Iterator[memoryview]:
        """Return it again: from memory, or read once more."""
        if self._kept is not None:
            return iter([memoryview(self._kept)[: self._size]])
        return self._handle.pieces(self._start, self._size)

    def release(self) -> None:
        """Free its buffer, or its pages in the system's cache."""
        if self._buffers is None:
            self._handle.forget(self._start, self._size)
        elif self._kept is not None:
            self._buffers.give(self._kept)
            self._kept = None


class Stretches(Iterable[Stretch]):
    """A file in stretches; it is made sure that it stays as it was found.

    Parameters
    ----------
    file : SourceFile
        Which file.
    size : int
        How long each stretch is but the last.
    on_piece : Callable
        Takes each piece as it is read for the first time.
    buffers : Buffers | None
        Where stretches are kept in memory; None where they are too large for that.
    """

    def __init__(
        self,
        file: SourceFile,
        size: int,
        on_piece: Callable[[memoryview], None],
        buffers: Buffers | None = None,
    ):
        self._file, self._size = file, size
        self._on_piece, self._buffers = on_piece, buffers

    @property
    def held(self) -> int:
        """What each counts for in memory."""
        return self._size if self._buffers else min(self._size, _AHEAD)

    def __iter__(self) -> Iterator[Stretch]:
        """Give them in their order.

        Raises
        ------
        SourceChangedError
            Where the file is not, or does not stay, what was found.
        SourceError
            Where it cannot be read.
        """
        handle, size = Handle(self._file), self._size
        handle.check()
        for start in range(0, self._file.size, size):
            length = min(size, self._file.size - start)
            yield Stretch(handle, start, length, self._on_piece, self._buffers)
        handle.check()
