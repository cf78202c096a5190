"""A modality's data as one zip.

A zip is a pure function of the files' names, times and bytes, so the same source gives the same
archive.
"""

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from aind_data_transfer_service.upload.plan.items import FileItems, StreamedItem
from aind_data_transfer_service.upload.source.file_table import Files
from aind_data_transfer_service.upload.source.reader import read_source
from aind_data_transfer_service.upload.transforms.base import Planned, TransformRequest

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


@dataclass(frozen=True)
class ZipItem(StreamedItem):
    """A folder that is sent as one zip, made while it is sent."""

    key: str
    files: Files
    format = "zip"

    @property
    def description(self) -> str:
        """What it is, in the plan for people."""
        return f"zip of {self.file_count:,} files"

    @cached_property
    def largest_size(self) -> int:
        """How many bytes it can have at the destination at most."""
        names = sum(2 * len(file.name.encode()) for file in self.files)
        packing = self.source_size // 1000
        return self.source_size + packing + names + _PER_MEMBER * (len(self.files) + 1)

    def pieces(self, on_read: Callable[[int], None]) -> Iterator[bytes]:
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


class Zip:
    """Packs the folder of a modality into one zip."""

    name, label = "zip", "as one zip"
    modalities: frozenset[str] = frozenset()
    takes_extra_configs = False
    settings = None

    @classmethod
    def plan(cls, request: TransformRequest) -> Planned | None:
        """Plan one zip, unless the modality has a format of its own or is too large for one."""
        files, folder = request.scan.files, request.scan.tree.folder
        if request.modality == "ecephys":
            warning = f"{folder}: ecephys data travel as they are, not compressed to Zarr"
            return Planned(FileItems(files), (warning,))
        if not files:
            return None
        problem = _zip_problem(files)
        if problem is not None:
            return Planned(FileItems(files), (f"{folder}: {problem}; they travel as they are",))
        return Planned(
            [ZipItem(f"{folder}/{folder}.zip", files)],
            notes="Folders were packed into one zip each while they were sent",
            parameters={"format": "zip", "method": "deflate"},
        )


def _zip_problem(files: Files) -> str | None:
    """Tell why files cannot be one zip, if they cannot: it would take more memory than a job has.

    A zip has a table of its files at its end, which is in memory until then; and an object of so
    many bytes has parts so large that a few of them fill the memory.
    """
    if len(files) > ZIP_FILES:
        return f"{len(files):,} files are too many for one zip ({ZIP_FILES:,} at most)"
    if files.size > ZIP_SIZE:
        return f"{files.size:,} bytes are too many for one zip ({ZIP_SIZE:,} at most)"
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
