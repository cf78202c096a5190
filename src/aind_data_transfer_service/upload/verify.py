"""Proof that what is at the destination is what was at the source.

The store itself is asked what it has: every file must be there, nothing else may be, and each
must have the size and the ETag that the store gave when it took it. An S3 server has by then
compared the body of each object with the checksum that came along. A local folder checks nothing
by itself, so there every file is read back and its SHA-256 compared.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from aind_data_transfer_service.errors import VerificationError
from aind_data_transfer_service.upload.manifest import Entry
from aind_data_transfer_service.upload.source import listed, shown
from aind_data_transfer_service.upload.store import AssetStore, StoredObject

_READ_SIZE = 4 * 1024**2


def stored_objects(store: AssetStore, prefix: str) -> dict[str, StoredObject]:
    """List an asset: by path within it, what the store has."""
    skip = len(prefix) + 1
    return {item.key[skip:]: item for item in store.objects(prefix)}


def compare(
    entries: Sequence[Entry], stored: Mapping[str, StoredObject]
) -> tuple[dict[str, str], list[str]]:
    """Compare what was sent with what the store lists.

    Returns
    -------
    tuple[dict[str, str], list[str]]
        By path, what is wrong, and the paths that nobody sent.
    """
    problems = {}
    for entry in entries:
        found = stored.get(entry.path)
        path = shown(entry.path)
        if found is None:
            problems[entry.path] = f"{path} is missing"
        elif found.size != entry.size:
            problems[entry.path] = (
                f"{path} has {found.size:,} bytes there, {entry.size:,} were sent"
            )
        elif found.etag != entry.etag:
            problems[entry.path] = (
                f"{path} was replaced there: its ETag is {found.etag}, not {entry.etag}"
            )
    expected = {entry.path for entry in entries}
    return problems, sorted(stored.keys() - expected)


def verify(
    store: AssetStore,
    prefix: str,
    entries: Sequence[Entry],
    keep_others: bool = False,
    readers: int = 8,
    deep: bool | None = None,
    on_file: Callable[[Entry], None] = lambda entry: None,
) -> list[str]:
    """Make sure that an asset is what was sent.

    Parameters
    ----------
    store : AssetStore
        Where it is.
    prefix : str
        Name of the asset.
    entries : Sequence[Entry]
        What was sent.
    keep_others : bool
        Whether there may be files that nobody sent.
    readers : int
        How many files are read back at once.
    deep : bool | None
        Whether to read everything back; by default where the store checks nothing itself.
    on_file : Callable
        Is told of each file that is proven, from several threads.

    Returns
    -------
    list[str]
        Paths that nobody sent.

    Raises
    ------
    VerificationError
        Where anything differs, naming it.
    """
    problems, others = compare(entries, stored_objects(store, prefix))
    if others and not keep_others:
        problems |= {path: f"{shown(path)} is there, and nobody sent it" for path in others}
    if not problems and (store.proves_by_reading if deep is None else deep):
        problems = _read_all_back(store, prefix, entries, readers, on_file)
    if problems:
        place = store.location(prefix)
        words = listed(list(problems.values()))
        raise VerificationError(f"{place} is not what was sent: {words}", list(problems))
    return others


def _read_all_back(
    store: AssetStore,
    prefix: str,
    entries: Sequence[Entry],
    readers: int,
    on_file: Callable[[Entry], None],
) -> dict[str, str]:
    """Read every file at the destination, and tell by path which have other bytes."""
    stop = threading.Event()

    def check(entry: Entry) -> str | None:
        problem = _read_back(store, prefix, entry, stop)
        on_file(entry)
        return problem

    pool = ThreadPoolExecutor(readers)
    try:
        told = zip(entries, pool.map(check, entries))
        return {entry.path: problem for entry, problem in told if problem}
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _read_back(store: AssetStore, prefix: str, entry: Entry, stop: threading.Event) -> str | None:
    """Read a file at the destination and compare its hash."""
    digest = hashlib.sha256()
    for chunk in store.read(f"{prefix}/{entry.path}", _READ_SIZE):
        digest.update(chunk)
        if stop.is_set():
            break
    if digest.hexdigest() == entry.sha256:
        return None
    return f"{shown(entry.path)} has other bytes there: their SHA-256 is {digest.hexdigest()}"
