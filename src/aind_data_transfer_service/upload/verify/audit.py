"""Proof of a published asset, from its manifest alone.

What the store lists is compared with what was sent. A deep audit also reads every byte back and
compares its SHA-256.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.plain_text import listed, more
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    manifest_key,
    mark_key,
    record_folder,
)
from aind_data_transfer_service.storage.s3.parallel_list import APART
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.manifest import DOCUMENT, READ_BACK, Manifest
from aind_data_transfer_service.upload.manifest.unlisted import (
    Left,
    LeftFolder,
    LeftObject,
    name_of,
    total,
)
from aind_data_transfer_service.upload.transfer.progress import Progress
from aind_data_transfer_service.upload.verify.compare import Difference, Fault, compare, read_back

logger = logging.getLogger(__name__)

_SHOWN = 100
_INTERVAL = 10.0


@dataclass
class Report:
    """What became of one proof."""

    location: str
    deep: bool
    files: int = 0
    """How many files the manifest names."""
    bytes: int = 0
    verified: str | None = None
    """When the job that brought the asset had proven it."""
    proof: str | None = None
    """How that job had proven the bytes: by the store's own checksums, or by reading them back."""
    read_back_from: str = ""
    """Where the bytes came from, if they were read."""
    unfinished: bool = False
    """Whether a further upload into the asset began and has not ended."""
    differences: list[Difference] = field(default_factory=list)
    """The first of them, in no order."""
    differences_total: int = 0
    documents: set[str] = field(default_factory=set)
    """Which of the files named are metadata documents."""
    left: list[LeftObject | LeftFolder] = field(default_factory=list)
    """What is not of the asset, and is as it was when the asset was verified."""

    def add(self, difference: Difference, document: bool) -> None:
        """Note a difference, and keep it where there are not too many."""
        self.differences_total += 1
        if len(self.differences) < _SHOWN:
            self.differences.append(difference)
            if document:
                self.documents.add(difference.path)

    def words(self, difference: Difference) -> str:
        """Write a difference for people, and that it is of a document."""
        if difference.path in self.documents:
            return f"{difference.words} (a metadata document)"
        return difference.words

    def lines(self) -> Iterator[str]:
        """Write the report for people."""
        how = f"read back {self.read_back_from}" if self.deep else "as the store lists them"
        if not self.differences_total:
            yield f"{self.location}: {self.files:,} files, {self.bytes:,} bytes are proven, {how}"
        else:
            yield f"{self.location} is not what was sent: {self.differences_total:,} differences"
        for difference in self.differences:
            yield f"  {self.words(difference)}"
        if self.differences_total > len(self.differences):
            others = self.differences_total - len(self.differences)
            yield f"  {more(others, 'difference', 'differences')}"
        if not self.deep and self.proof == READ_BACK and not self.differences_total:
            yield (
                f"  the store does not check data itself: the job read back every byte before "
                f"{self.verified}, and no file was replaced since; only --deep finds later damage"
            )
        if self.left:
            files, size = total(self.left)
            names = listed([name_of(one) for one in self.left])
            yield (
                f"  {files:,} files, {size:,} bytes are not of this asset, left in place and not "
                f"proven: {names}"
            )
        if self.unfinished:
            yield "  a further upload into it began and has not ended: run that job again"

    def as_json(self) -> dict[str, Any]:
        """Write the report for programs."""
        return {
            "asset": self.location,
            "proven": not self.differences_total,
            "deep": self.deep,
            "files": self.files,
            "bytes": self.bytes,
            "verified": self.verified,
            "proof": self.proof,
            "read_back_from": self.read_back_from or None,
            "unfinished": self.unfinished,
            "differences": [
                {
                    "path": difference.path,
                    "fault": difference.fault.value,
                    "document": difference.path in self.documents,
                    "words": difference.words,
                }
                for difference in self.differences
            ],
            "differences_total": self.differences_total,
            "left": [name_of(one) for one in self.left[:_SHOWN]],
            "left_total": total(self.left)[0],
        }


def audit(
    store: AssetStore, asset: str, deep: bool, readers: int = 8, bar: bool | None = None
) -> Report:
    """Prove an asset again, from its manifest alone.

    Parameters
    ----------
    store : AssetStore
        Where it is.
    asset : str
        Its name.
    deep : bool
        Whether to read everything back: then the bytes decide, and no ETag.
    readers : int
        How many files are read at once.
    bar : bool | None
        Whether to draw a bar; by default in a terminal.

    Raises
    ------
    DestinationError
        Where there is no such asset, or it has no manifest that can be read.
    """
    manifest, unfinished = _manifest(store, asset)
    header = manifest.header
    files, size = header["files"], header["bytes"]
    verified, proof = header.get("verified"), header.get("proof")
    report = Report(store.location(asset), deep, files, size, verified, proof)
    report.unfinished = unfinished
    wrong: set[str] = set()
    with Progress(files, size, _tell, asset, bar, _INTERVAL) as progress:
        sent = _Sent(manifest, lambda entry: None if deep else progress.add(entry.size, 1))
        cuts = [] if store.proves_by_reading else _cuts(asset, manifest, files)
        left, others = manifest.left, []

        def may_stay(others: Sequence[Difference]) -> bool:
            return not _since(left, others)[1]

        for found in compare(store, asset, sent, cuts, not deep, may_stay):
            if found.fault == Fault.FOREIGN:
                others.append(found)
            else:
                report.add(found, _is_document(found, sent.documents))
                wrong.add(found.path)
        report.left, changed = _since(left, others)
        for found in changed:
            report.add(found, _is_document(found, sent.documents))
        if deep:
            there = (entry for entry in manifest if entry.path not in wrong)
            for found in read_back(
                store, asset, there, readers, lambda entry: progress.add(entry.size, 1)
            ):
                report.add(found, found.path in sent.documents)
            report.read_back_from = store.read_back_from
    return report


def _manifest(store: AssetStore, asset: str) -> tuple[Manifest, bool]:
    """Find an asset's manifest, and tell whether a further upload has begun."""
    place = store.location(asset)
    records = {item.key: item.size for item in store.objects(record_folder(asset))}
    unfinished = mark_key(asset) in records
    key, former = manifest_key(asset), former_manifest_key(asset)
    if key in records or records.get(former):
        manifest = Manifest(store, asset, key if key in records else former)
        return manifest, unfinished and not store.is_published(asset)
    if unfinished:
        raise DestinationError(
            f"{place} is unfinished: the job that brings it is still running or has failed; run "
            "it again"
        )
    if next(store.objects(asset), None) is None:
        raise DestinationError(f"there is no asset {place}")
    raise DestinationError(
        f"{place} has no manifest ({store.location(manifest_key(asset))}): it was brought by "
        "other software, or its records were removed"
    )


class _Sent:
    """What a manifest names, told as it is gone through, but once however often that is."""

    def __init__(self, manifest: Manifest, on_entry: Callable[[Entry], None]):
        self._manifest, self._on_entry, self._told = manifest, on_entry, 0
        self.documents: set[str] = set()
        """Which of the files are metadata documents."""

    def __iter__(self) -> Iterator[Entry]:
        for number, entry in enumerate(self._manifest, 1):
            if number > self._told:
                self._told = number
                self._on_entry(entry)
            if entry.source == DOCUMENT:
                self.documents.add(entry.path)
            yield entry


def _since(
    left: Left, others: Sequence[Difference]
) -> tuple[list[LeftObject | LeftFolder], list[Difference]]:
    """Tell what is not of an asset and as it was when that was verified from what came since."""
    stored = {other.path: other.stored for other in others if other.stored is not None}
    same, different, folders = left.split(stored)
    paths = set(different)
    found = [other for other in others if other.path in paths]
    return same, found + [_changed_folder(was, now) for was, now in folders]


def _changed_folder(was: LeftFolder, now: LeftFolder) -> Difference:
    """Name a folder in which objects that are not of the asset have changed."""
    words = (
        f"{name_of(was)}: {now.files:,} files of {now.bytes:,} bytes are there that nobody sent; "
        f"when the asset was verified there were {was.files:,} files of {was.bytes:,} bytes, or "
        "their names, sizes or ETags were others"
    )
    return Difference(was.folder, Fault.FOREIGN, words)


def _cuts(asset: str, manifest: Manifest, files: int) -> list[str]:
    """Give keys at which a list of the asset may be cut: none where it is short."""
    some = itertools.islice(manifest, APART, None, APART) if files > APART else ()
    return sorted(f"{asset}/{entry.path}" for entry in some)


def _is_document(difference: Difference, names: set[str]) -> bool:
    """Tell whether a difference is of a metadata document."""
    foreign = difference.fault == Fault.FOREIGN and "/" not in difference.path
    return difference.path in names or (foreign and difference.path.endswith(".json"))


def _tell(figures: dict[str, Any]) -> None:
    """Tell how far it is, where there is no bar."""
    logger.info(
        "%s of %s files, %s of %s bytes",
        *(f"{figures[n]:,}" for n in ("files_done", "files_total", "bytes_done", "bytes_total")),
    )
