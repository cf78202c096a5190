"""Proof that what is at the destination is what was at the source.

The store itself is asked what it has: every file must be there, nothing else may be, and each
must have the size and the ETag that the store gave when it took it. An S3 server has by then
compared the body of each object with the checksum that came along. A local folder checks nothing
by itself, and neither do some servers (see `preflight.probe`): there every file is read back and
its SHA-256 compared.

What was sent and what is listed are gone through side by side, so that a million files take no
more memory than a thousand where both come in much the same order.
"""

import hashlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.errors import VerificationError
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.storage.s3.parallel_list import once_each
from aind_data_transfer_service.upload.manifest.entry import Entry

_READ_SIZE = 4 * 1024**2
_TOGETHER = 1000
"""How many differences are looked into at once."""
_AHEAD = 4
"""How many files a reader may have waiting for it."""


class Fault(StrEnum):
    """What can be wrong with a file of an asset."""

    MISSING = "missing"
    SIZE = "size"
    REPLACED = "replaced"
    """The store's own name for its content, the ETag, is another."""
    BYTES = "bytes"
    FOREIGN = "foreign"
    """It is there, and nobody sent it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is not what was sent."""

    path: str
    """Its place in the asset."""
    fault: Fault
    words: str
    """What is wrong, for people."""
    listed: Entry | None = None
    """Where only its ETag is another: what was sent, with the ETag that the store lists."""
    stored: StoredObject | None = None
    """Where nobody sent it: what the store lists."""


def differences(
    entries: Iterable[Entry], stored: Iterable[StoredObject], skip: int, by_etag: bool = True
) -> Iterator[Difference]:
    """Compare what was sent with what the store lists, the order of either being no matter.

    Parameters
    ----------
    entries : Iterable[Entry]
        What was sent.
    stored : Iterable[StoredObject]
        What the store lists.
    skip : int
        How many characters of each key come before the place in the asset.
    by_etag : bool
        Whether the ETag has to be the same.
    """
    sent: dict[str, Entry] = {}
    found: dict[str, StoredObject] = {}
    left, right = iter(entries), iter(stored)
    more = True
    while more:
        entry, item = next(left, None), next(right, None)
        more = entry is not None or item is not None
        if entry is not None:
            match = found.pop(entry.path, None)
            if match is None:
                sent[entry.path] = entry
            else:
                yield from _difference(entry, match, by_etag)
        if item is not None:
            path = item.key[skip:]
            first = sent.pop(path, None)
            if first is None:
                found[path] = item
            else:
                yield from _difference(first, item, by_etag)
    for path in sent:
        yield Difference(path, Fault.MISSING, f"{shown(path)} is missing")
    for path in sorted(found):
        words = f"{shown(path)} is there, and nobody sent it"
        yield Difference(path, Fault.FOREIGN, words, stored=found[path])


def compare(
    store: AssetStore,
    prefix: str,
    entries: Iterable[Entry],
    cuts: Sequence[str] = (),
    by_etag: bool = True,
    may_stay: Callable[[Sequence[Difference]], bool] = lambda others: not others,
) -> Iterable[Difference]:
    """Compare what was sent with what the store lists, which is asked for in pieces.

    A list that differs is asked for again, without cuts, after each of the store's `list_pauses`:
    it may be an old one, or have lost or doubled keys at the cuts.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    entries : Iterable[Entry]
        What was sent; it is gone through again if anything differs.
    cuts : Sequence[str]
        Keys at which the store's list may be cut, so that it is there sooner.
    by_etag : bool
        Whether the ETag has to be the same.
    may_stay : Callable
        Returns whether these files, which nobody sent, may be there; by default none may. If they
        may, and nothing else differs, the list is not asked for again.
    """
    skip, stored = len(prefix) + 1, store.objects(prefix, cuts)
    conflicts: list[StoredObject] = []
    pauses = store.list_pauses or ((0.0,) if cuts else ())
    for number, pause in enumerate(pauses):
        others = _only_others(differences(entries, stored, skip, by_etag))
        if others is not None and not conflicts and may_stay(others):
            if number > 0 or not _names_any(entries, others):
                return others
        time.sleep(pause)
        conflicts.clear()
        stored = once_each(store.objects(prefix), conflicts)
    doubled = (_doubled(item.key[skip:]) for item in conflicts)
    return itertools.chain(differences(entries, stored, skip, by_etag), doubled)


def verify(
    store: AssetStore,
    prefix: str,
    entries: Iterable[Entry],
    may_stay: Callable[[str], bool] = lambda path: False,
    readers: int = 8,
    deep: bool | None = None,
    on_file: Callable[[Entry], None] = lambda entry: None,
    on_renamed: Callable[[Entry], None] | None = None,
    cuts: Sequence[str] = (),
    check: Callable[[], None] = lambda: None,
) -> list[StoredObject]:
    """Make sure that an asset is what was sent.

    Parameters
    ----------
    store : AssetStore
        Where it is.
    prefix : str
        Name of the asset.
    entries : Iterable[Entry]
        What was sent; it is gone through twice where files are read back.
    may_stay : Callable
        Returns whether a file that nobody sent may be there, by its path; by default none may.
    readers : int
        How many files are read back at once.
    deep : bool | None
        Whether to read everything back; by default where the store checks nothing itself.
    on_file : Callable
        Is told of each file that is proven, from several threads.
    on_renamed : Callable | None
        Takes a file with the ETag that the store lists, if it gave another one but the bytes are
        those that were sent. Such a file is read back. Some servers list an object made of parts
        by another ETag than they gave it, and some drives invent inode numbers.
    cuts : Sequence[str]
        Keys at which the store's list may be cut, so that it is there sooner.
    check : Callable
        Is called for each piece that is read back, from several threads; raises to break off.

    Returns
    -------
    list[StoredObject]
        What nobody sent, and may be there.

    Raises
    ------
    VerificationError
        Where anything differs, naming it.
    """
    problems: list[Difference] = []
    others: list[StoredObject] = []
    reads_all = store.proves_by_reading if deep is None else deep

    def may_all_stay(others: Sequence[Difference]) -> bool:
        return all(may_stay(other.path) for other in others)

    found = compare(store, prefix, entries, cuts, may_stay=may_all_stay)
    if on_renamed is not None and reads_all:
        found = _but_renamed(found, on_renamed)
    elif on_renamed is not None:
        found = _by_bytes(found, store, prefix, readers, on_renamed)
    for difference in found:
        if difference.stored is not None and may_stay(difference.path):
            others.append(difference.stored)
        else:
            problems.append(difference)
    if not problems and reads_all:
        problems = list(read_back(store, prefix, entries, readers, on_file, check))
    if problems:
        words = listed([difference.words for difference in problems])
        paths = [one.path for one in problems if one.fault != Fault.FOREIGN]
        raise VerificationError(f"{store.location(prefix)} is not what was sent: {words}", paths)
    return others


def read_back(
    store: AssetStore,
    prefix: str,
    entries: Iterable[Entry],
    readers: int = 8,
    on_file: Callable[[Entry], None] = lambda entry: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Difference]:
    """Read every file at the destination, and tell which have other bytes than were sent.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    entries : Iterable[Entry]
        What was sent.
    readers : int
        How many files are read at once.
    on_file : Callable
        Is told of each file that was read, from several threads.
    check : Callable
        Is called for each piece that is read, from several threads; raises to break off.
    """
    stop = threading.Event()

    def prove(entry: Entry) -> Difference | None:
        found = _read(store, prefix, entry, stop, check)
        on_file(entry)
        return found

    pool = Pool(readers, "reading back")
    waiting: deque[Any] = deque()
    try:
        for entry in entries:
            waiting.append(pool.submit(prove, entry))
            if len(waiting) >= readers * _AHEAD and (found := waiting.popleft().result()):
                yield found
        while waiting:
            if found := waiting.popleft().result():
                yield found
    finally:
        stop.set()
        pool.close()


def _but_renamed(
    found: Iterable[Difference], on_renamed: Callable[[Entry], None]
) -> Iterator[Difference]:
    """Give differences but those of ETags alone: every byte is read afterwards, and decides."""
    for difference in found:
        if difference.listed is None:
            yield difference
        else:
            on_renamed(difference.listed)


def _by_bytes(
    found: Iterable[Difference],
    store: AssetStore,
    prefix: str,
    readers: int,
    on_renamed: Callable[[Entry], None],
) -> Iterator[Difference]:
    """Give differences, those of ETags alone only where the bytes differ too."""
    rest = iter(found)
    while some := list(itertools.islice(rest, _TOGETHER)):
        renamed = {one.path: one.listed for one in some if one.listed is not None}
        wrong = {one.path for one in read_back(store, prefix, renamed.values(), readers)}
        for path in renamed.keys() - wrong:
            on_renamed(renamed[path])
        yield from (one for one in some if one.listed is None or one.path in wrong)


def _only_others(found: Iterable[Difference]) -> list[Difference] | None:
    """Return the differences if all are of files that nobody sent; None if there is another one."""
    others = []
    for difference in found:
        if difference.fault != Fault.FOREIGN:
            return None
        others.append(difference)
    return others


def _names_any(entries: Iterable[Entry], others: Sequence[Difference]) -> bool:
    """Return whether any of these files was sent after all: the store listed it twice then."""
    paths = {other.path for other in others}
    return bool(paths) and any(entry.path in paths for entry in entries)


def _doubled(path: str) -> Difference:
    """Name a file that the store lists with two sizes or ETags."""
    words = f"{shown(path)} is listed twice there, with different sizes or ETags"
    return Difference(path, Fault.REPLACED, words)


def _difference(entry: Entry, found: StoredObject, by_etag: bool) -> Iterator[Difference]:
    """Compare one file with what the store lists of it."""
    if found.size != entry.size:
        path = shown(entry.path)
        words = f"{path} has {found.size:,} bytes there, {entry.size:,} were sent"
        yield Difference(entry.path, Fault.SIZE, words)
    elif by_etag and not entry.is_stored_as(found):
        path = shown(entry.path)
        words = f"{path} was replaced there: its ETag is {found.etag}, not {entry.etag}"
        now = msgspec.structs.replace(entry, etag=found.etag)
        yield Difference(entry.path, Fault.REPLACED, words, now)


def _read(
    store: AssetStore,
    prefix: str,
    entry: Entry,
    stop: threading.Event,
    check: Callable[[], None],
) -> Difference | None:
    """Read a file at the destination and compare its hash."""
    digest = hashlib.sha256()
    for chunk in store.read_back(f"{prefix}/{entry.path}", _READ_SIZE):
        if stop.is_set():
            break
        check()
        digest.update(chunk)
    if digest.hexdigest() == entry.sha256:
        return None
    path, found = shown(entry.path), digest.hexdigest()
    words = f"{path} has other bytes there: their SHA-256 is {found}, not {entry.sha256}"
    return Difference(entry.path, Fault.BYTES, words)
