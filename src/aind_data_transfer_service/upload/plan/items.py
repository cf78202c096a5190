"""What is done to a modality's data on their way: nothing, or one zip.

The seam for further ways (compression of ecephys recordings to Zarr): `items_of` decides, and an
item that is made on the way gives its bytes through `stream`. A zip is a pure function of the
files' names, times and bytes, so the same source gives the same archive.
"""

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile
from aind_data_transfer_service.upload.source.reader import read_source, read_whole
from aind_data_transfer_service.upload.source.sample import Sample
from aind_data_transfer_service.upload.source.scan import Scan

_READ_SIZE = 1 << 20
_LEVEL = 3
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
ZIP_FILES = 200_000
"""How many files a zip may have,"""
ZIP_SIZE = 500 * 10**9
"""and how many bytes they may have together; what has more is sent as it is."""
_PER_MEMBER = 1024
"""More than a zip adds for each file, its name aside."""
PACKED = frozenset(
    ".7z .avi .bz2 .flac .gz .jpeg .jpg .lz4 .m4v .mkv .mov .mp4 .ogg .png .webm .webp .xlsx .xz "
    ".zip .zst".split()
)
"""Files that would not become smaller: stored in a zip as they are."""


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


@dataclass(frozen=True)
class ZipItem:
    """A folder that is sent as one zip, made while it is sent."""

    key: str
    files: Files

    @cached_property
    def source_size(self) -> int:
        """How many bytes are read for it."""
        return sum(file.size for file in self.files)

    @cached_property
    def largest_size(self) -> int:
        """How many bytes it can have at the destination at most."""
        names = sum(2 * len(file.name.encode()) for file in self.files)
        packing = self.source_size // 1000
        return self.source_size + packing + names + _PER_MEMBER * (len(self.files) + 1)

    @property
    def target(self) -> str:
        """Its files may have many targets: the header of the manifest has all of them."""
        return ""

    @property
    def file_count(self) -> int:
        """How many files of the source are in it."""
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
        return f"zip-{digest.hexdigest()}"

    @cached_property
    def version(self) -> str:
        """The fingerprint and a hash of the files' change times."""
        changes = " ".join(str(file.ctime_ns) for file in self.files)
        return f"{self.fingerprint}-{hashlib.sha256(changes.encode()).hexdigest()}"

    def read(self) -> bytes:
        """Give the archive's bytes at once."""
        return b"".join(self._pieces(lambda size: None))

    def stream(self, chunk_size: int, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Give the archive's bytes, each piece but the last of the size asked for."""
        pending = bytearray()
        for piece in self._pieces(on_read):
            pending += piece
            while len(pending) >= chunk_size:
                yield bytes(pending[:chunk_size])
                del pending[:chunk_size]
        if pending:
            yield bytes(pending)

    def _pieces(self, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Write the archive file by file, and give what was written as it comes."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", allowZip64=True) as archive:
            for file in self.files:
                info = zipfile.ZipInfo(file.name, _zip_time(file.mtime_ns))
                info.external_attr = 0o644 << 16
                info.file_size = file.size
                info.compress_type = _method(file.name)
                # The one name that every Python from 3.11 on has.
                info._compresslevel = _LEVEL  # type: ignore[attr-defined]
                with archive.open(info, "w", force_zip64=True) as member:
                    for chunk in read_source(file, _READ_SIZE):
                        member.write(chunk)
                        on_read(len(chunk))
                        yield sink.take()
        yield sink.take()


Item = FileItem | ZipItem


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


def items_of(
    scan: Scan, abbreviation: str, compress: bool, zipped_links: Sample[dict[str, str]]
) -> tuple[Sequence[Item], list[str]]:
    """Decide what is sent for a modality.

    Parameters
    ----------
    scan : Scan
        What its source holds.
    abbreviation : str
        Which modality it is.
    compress : bool
        Whether the data were asked to be compressed.
    zipped_links : Sample[dict[str, str]]
        Receives the links in the source if it becomes a zip. All of them have to be listed, because
        the manifest has one line for the zip and none for the files in it.

    Returns
    -------
    tuple[Sequence[Item], list[str]]
        The items, and warnings for whoever asked.
    """
    if compress and abbreviation == "ecephys":
        warning = f"{scan.tree.folder}: ecephys data travel as they are, not compressed to Zarr"
        return FileItems(scan.files), [warning]
    if compress and scan.files:
        links = Sample(links_of(scan))
        problem = _zip_problem(scan.files, links, zipped_links)
        if problem is None:
            zipped_links.add(links)
            return [ZipItem(f"{scan.tree.folder}/{scan.tree.folder}.zip", scan.files)], []
        return FileItems(scan.files), [f"{scan.tree.folder}: {problem}; they travel as they are"]
    return FileItems(scan.files), []


def _zip_problem(
    files: Files, links: Sample[dict[str, str]], zipped_links: Sample[dict[str, str]]
) -> str | None:
    """Return why files cannot be one zip; None if they can.

    It would take more memory than a job has: a zip has a table of its files at its end, which is in
    memory until then; and an object of so many bytes has parts so large that a few of them fill the
    memory. Or the manifest has no room for the targets of all links in it.
    """
    if len(files) > ZIP_FILES:
        return f"{len(files):,} files are too many for one zip ({ZIP_FILES:,} at most)"
    if files.size > ZIP_SIZE:
        return f"{files.size:,} bytes are too many for one zip ({ZIP_SIZE:,} at most)"
    if not zipped_links.has_room_for(links):
        return (
            f"{links.total:,} links are too many for zips: the manifest has no room for the "
            "targets of all of them"
        )
    return None


class _Sink(io.RawIOBase):
    """Takes what the archive writes and hands it on; it cannot be rewound."""

    def __init__(self) -> None:
        super().__init__()
        self._data = bytearray()

    def writable(self) -> bool:
        """Tell zipfile that it may write."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keep what is written until it is taken."""
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """Hand over what was written since the last time."""
        data = bytes(self._data)
        self._data.clear()
        return data


def _zip_time(mtime_ns: int) -> tuple[int, int, int, int, int, int]:
    """Write a time as a zip can hold it, in UTC."""
    try:
        moment = time.gmtime(mtime_ns // 1_000_000_000)[:6]
    except (OverflowError, ValueError, OSError):
        moment = _LATEST
    return min(max(moment, _EARLIEST), _LATEST)


def _method(name: str) -> int:
    """Choose how a file is packed."""
    packed = PurePosixPath(name).suffix.lower() in PACKED
    return zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
