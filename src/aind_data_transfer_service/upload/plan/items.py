"""What is sent: files as they are, and objects that are made of files on the way.

Which of them a modality has is decided by its transform (`transforms`).
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile
from aind_data_transfer_service.upload.source.reader import read_source, read_whole
from aind_data_transfer_service.upload.source.scan import Scan

_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class FileItem:
    """A file that is sent as it is."""

    file: SourceFile

    @property
    def key(self) -> str:
        """Its place in the asset."""
        return self.file.key

    @property
    def source_size(self) -> int:
        """How many bytes are read for it."""
        return self.file.size

    @property
    def largest_size(self) -> int:
        """How many bytes it can have at the destination at most."""
        return self.file.size

    @property
    def file_count(self) -> int:
        """How many files of the source are in it."""
        return 1

    @property
    def mtime_ns(self) -> int:
        """When it was last written."""
        return self.file.mtime_ns

    @property
    def fingerprint(self) -> str:
        """What changes when the file is written, unless its time is set back, or its link is."""
        file = self.file
        return f"{file.size}-{file.mtime_ns}{_suffix(file)}"

    @property
    def version(self) -> str:
        """The fingerprint and the change time, which also tells of a time that was set back."""
        file = self.file
        return f"{file.size}-{file.mtime_ns}{_suffix(file)}-{file.ctime_ns}"

    @property
    def target(self) -> str:
        """Where the file really is, if a link led to it; else empty."""
        return shown(self.file.target)

    def read(self) -> bytes:
        """Give its bytes at once."""
        return read_whole(self.file)

    def stream(self, chunk_size: int, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Give its bytes, each piece but the last of the size asked for."""
        for chunk in read_source(self.file, chunk_size):
            yield chunk
            on_read(len(chunk))


class StreamedItem(ABC):
    """An object that is made from files of the source while it is sent: an archive, say.

    It must be a function of its files and of `parameters` alone: whenever it is made, it has the
    same bytes. An interrupted transfer, and the last look at the sources, rely on that. What
    compresses data compares them with the source before it gives them, and raises `SourceError` or
    `TransferError` if they differ.
    """

    format: ClassVar[str]
    """How it is made, such as `zip`: a part of the fingerprint."""
    key: str
    """Its place in the asset: below the folder of its modality."""
    files: Sequence[SourceFile]
    """The files that it is made of. All of them are looked at again once everything is sent."""

    @property
    def parameters(self) -> str:
        """What its bytes depend on besides the files: a range of them, options, versions."""
        return ""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it is, in the plan for people: `zip of 12 files`."""

    @property
    @abstractmethod
    def largest_size(self) -> int:
        """How many bytes it can have at the destination at most: memory is set aside for them."""

    @abstractmethod
    def pieces(self, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Give its bytes in pieces of any size, and report how many bytes of the source were read.

        Read files by `read_source`, which raises an error if a file has changed.
        """

    @cached_property
    def source_size(self) -> int:
        """How many bytes are read for it."""
        return sum(file.size for file in self.files)

    @property
    def target(self) -> str:
        """Its files may have many targets: the header of the manifest has all of them."""
        return ""

    @property
    def file_count(self) -> int:
        """How many files of the source are in it. A file in several items counts in one of them."""
        return len(self.files)

    @cached_property
    def mtime_ns(self) -> int:
        """When the newest of its files was last written."""
        return max((file.mtime_ns for file in self.files), default=0)

    @cached_property
    def fingerprint(self) -> str:
        """What changes when a file is written, unless its time is set back."""
        digest = hashlib.sha256()
        for file in self.files:
            version = f"{file.size}-{file.mtime_ns}{_suffix(file)}"
            digest.update(f"{file.name}\0{version}\0".encode())
        digest.update(self.parameters.encode())
        return f"{self.format}-{digest.hexdigest()}"

    @cached_property
    def version(self) -> str:
        """The fingerprint and a hash of the files' change times."""
        changes = " ".join(str(file.ctime_ns) for file in self.files)
        return f"{self.fingerprint}-{hashlib.sha256(changes.encode()).hexdigest()}"

    def read(self) -> bytes:
        """Give its bytes at once."""
        return b"".join(self.pieces(lambda size: None))

    def stream(self, chunk_size: int, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Give its bytes, each piece but the last of the size asked for."""
        pending = bytearray()
        for piece in self.pieces(on_read):
            pending += piece
            while len(pending) >= chunk_size:
                yield bytes(pending[:chunk_size])
                del pending[:chunk_size]
        if pending:
            yield bytes(pending)


Item = FileItem | StreamedItem


def _suffix(file: SourceFile) -> str:
    """Return what differs by where a file really is, if a link led to it; else an empty text."""
    if not file.tree.reader.links or not (target := file.target):
        return ""
    return f"-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}"


def sha256_of(item: Item) -> str:
    """Read an item from its source, and return its SHA-256."""
    digest = hashlib.sha256()
    for piece in item.stream(_READ_SIZE, lambda count: None):
        digest.update(piece)
    return digest.hexdigest()


def is_what_was_sent(item: Item, version: str, sha256: str) -> bool:
    """Return whether a source still holds what was sent of it.

    Size and time of writing have to be the same. If the change time is another, the bytes decide:
    permissions, a backup or the drive itself may have changed it.

    Parameters
    ----------
    item : Item
        The source as it is now.
    version, sha256 : str
        What was recorded when it was sent.
    """
    if version == item.version:
        return True
    return version.startswith(f"{item.fingerprint}-") and sha256 == sha256_of(item)


class FileItems(Sequence[Item]):
    """Files that are sent as they are, each made into an item when it is asked for.

    Parameters
    ----------
    files : Files
        What was found.
    """

    def __init__(self, files: Files):
        self.files = files

    def find(self, key: str) -> int | None:
        """Tell at which place the item of a key stands."""
        folder = f"{self.files.tree.folder}/"
        return self.files.find(key.removeprefix(folder)) if key.startswith(folder) else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Item:  # type: ignore[override]
        return FileItem(self.files[place])

    def __iter__(self) -> Iterator[Item]:
        return map(FileItem, self.files)


def links_of(scan: Scan) -> Iterator[dict[str, str]]:
    """Return the place of each link in the asset, and what it leads to."""
    for name, target in sorted(scan.tree.reader.links.items()):
        yield {"path": shown(f"{scan.tree.folder}/{name}"), "target": shown(target)}
