"""The manifest of an asset: what it consists of, stored next to it once it is verified.

It has one JSON object per line. Each line starts with the CRC-32 of what follows, so that a damaged
line is never believed.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import DestinationError, VerificationError
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    key_problem,
    manifest_key,
    record_folder,
)
from aind_data_transfer_service.upload.manifest.entry import ENTRY_DECODER, Entry
from aind_data_transfer_service.upload.manifest.json_lines import (
    CRC,
    Content,
    is_intact,
    read_lines,
    write_lines,
)
from aind_data_transfer_service.upload.manifest.unlisted import Left

T = TypeVar("T")
CHECKSUMS, READ_BACK = "checksums", "read back"
"""How the bytes of an asset were proven: by the store itself, or by the job that read them back."""
DOCUMENT = "document"
"""What stands as the source of a metadata document."""
_SHA256_DIGITS = 64
_LONGEST_PATH = 4095
"""Bytes: what the file systems of local destinations allow."""
_WRITES = 3
"""How often a manifest is written to a store that does not check what it takes."""


class _Header(Left, kw_only=True):
    """What the first line of a manifest must hold, and of which types."""

    manifest: int
    files: int
    bytes: int
    verified: datetime | None = None
    started: datetime | None = None
    job_id: str | None = None
    proof: str | None = None


_HEADER, _OBJECT = msgspec.json.Decoder(_Header), msgspec.json.Decoder(dict[str, Any])


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
        self._has_crc = first.startswith(CRC)
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
            entry = self._decode(number, line, ENTRY_DECODER)
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
        if (self._has_crc or line.startswith(CRC)) and not is_intact(line):
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
