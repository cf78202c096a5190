"""What the shards of an asset have sent: their records, journals and leases."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from operator import attrgetter
from pathlib import Path

from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import record_folder
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.upload.manifest.entry import Entry, read_entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.json_lines import (
    Content,
    is_intact,
    read_lines,
    write_lines,
)
from aind_data_transfer_service.upload.plan.shards import Shard

JOURNAL = "journal.jsonl"
"""The name of the journal of a transfer, and of a shard, on this machine."""
_FOLDER = "shards"
_RECORD, _LEASE = ".jsonl", ".lease.json"


def shard_folder(state_dir: Path, shard: Shard | None = None) -> Path:
    """Tell where this machine keeps what it knows of an asset's shards, or of one of them."""
    return state_dir / _FOLDER / shard.name if shard else state_dir / _FOLDER


def shard_journal(state_dir: Path, shard: Shard) -> Journal:
    """Make the journal of a shard."""
    return Journal(shard_folder(state_dir, shard) / JOURNAL)


def transfer_journals(state_dir: Path) -> list[Journal]:
    """Find the journals of a transfer on this machine: its own, and those of its shards."""
    files = (state_dir / JOURNAL, *sorted(shard_folder(state_dir).glob(f"*/{JOURNAL}")))
    return [Journal(file) for file in files]


def shard_records(prefix: str) -> str:
    """Return the folder of the records and leases of an asset's shards."""
    return f"{record_folder(prefix)}/{_FOLDER}"


def shard_lease_key(prefix: str, shard: Shard) -> str:
    """Return the key of the lease of a shard."""
    return f"{shard_records(prefix)}/{shard.name}{_LEASE}"


def record_key(prefix: str, shard: Shard) -> str:
    """Return the key of what a shard records of what it has brought."""
    return f"{shard_records(prefix)}/{shard.name}{_RECORD}"


def shard_leases(store: AssetStore, prefix: str) -> Iterator[tuple[str, str]]:
    """List the leases of shards: the name of each shard, and its key."""
    for item in store.objects(shard_records(prefix)):
        if item.key.endswith(_LEASE):
            yield item.key.rpartition("/")[2].removesuffix(_LEASE), item.key


def write_record(
    store: AssetStore,
    prefix: str,
    shard: Shard,
    entries: Iterable[Entry],
    fence: int,
    job_id: str,
    broken_links: Sequence[str],
) -> None:
    """Write beside the asset what a shard has brought.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    shard : Shard
        Which shard it is.
    entries : Iterable of Entry
        What it has brought.
    fence : int
        Under which fencing number.
    job_id : str
        Whose shard it is.
    broken_links : Sequence of str
        What was wrong with the links that its plan leaves out.
    """
    header: Content = {
        "shard": shard.name,
        "fence": fence,
        "job": job_id,
        "broken_links": len(broken_links),
        "broken_links_digest": _digest(broken_links),
    }
    lines: Iterator[Content] = itertools.chain((header,), entries)
    write_lines(store, record_key(prefix, shard), lines)


def unlike(
    store: AssetStore, prefix: str, shards: int, job_id: str, broken_links: Sequence[str]
) -> dict[str, int]:
    """Return the shards of a job that left out other broken links, and how many each left out.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    shards : int
        How many shards there were.
    job_id : str
        Whose shards they are; what an earlier job recorded is not looked at.
    broken_links : Sequence of str
        What is wrong with the links that are left out now.
    """
    there = {item.key for item in store.objects(shard_records(prefix))}
    digest, found = _digest(broken_links), {}
    for shard in (Shard(number, shards) for number in range(1, shards + 1)):
        key = record_key(prefix, shard)
        first = next(iter(read_lines(store, key)), b"") if key in there else b""
        header = json.loads(first) if is_intact(first) else {}
        if header.get("job") == job_id and header.get("broken_links_digest") != digest:
            found[str(shard)] = header["broken_links"]
    return found


def _digest(texts: Iterable[str]) -> str:
    """Return a digest of texts, whatever their order."""
    lines = "\n".join(sorted(texts))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


class ShardRecords(Iterable[Entry]):
    """What the shards of an asset have brought: by their records, and by journals left behind.

    The journal of a shard that was killed is here where its machine shares the folder.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    state_dir : Path
        Where this machine keeps what it knows of the asset's transfer.
    but : Shard | None
        A shard whose journal is left alone.
    """

    def __init__(self, store: AssetStore, prefix: str, state_dir: Path, but: Shard | None = None):
        self._store, self._prefix = store, prefix
        self.folder = shard_folder(state_dir)
        self._but = shard_folder(state_dir, but) if but else None

    def journals(self) -> list[Journal]:
        """Find the journals that shards left behind."""
        files = sorted(self.folder.glob(f"*/{JOURNAL}"))
        return [Journal(file) for file in files if file.parent != self._but]

    def doubt(self, paths: Iterable[str]) -> None:
        """Take files out of the records beside the asset: they are not what was sent.

        The journal of the job that found out says so too, but a job on another machine cannot see
        that.
        """
        wrong = set(paths)
        for found in self._records():
            lines = list(read_lines(self._store, found.key))
            left = [line for line in lines if not _names(line, wrong)]
            if len(left) < len(lines):
                self._store.put(found.key, b"\n".join(left) + b"\n")

    def __iter__(self) -> Iterator[Entry]:
        for journal in self.journals():
            yield from journal.entries().values()
        for found in self._records():
            yield from _entries(read_lines(self._store, found.key))

    def _records(self) -> list[StoredObject]:
        """List the records beside the asset."""
        listing = self._store.objects(shard_records(self._prefix))
        records = [item for item in listing if item.key.endswith(_RECORD)]
        return sorted(records, key=attrgetter("key"))


def records_there(store: AssetStore, prefix: str, shards: int) -> int:
    """Count the shards, of so many, that have left their records."""
    there = {item.key.rsplit("/", 1)[-1] for item in store.objects(shard_records(prefix))}
    names = {f"{Shard(number, shards).name}{_RECORD}" for number in range(1, shards + 1)}
    return len(there & names)


def _names(line: bytes, paths: Set[str]) -> bool:
    """Return whether a line of a record names one of these files."""
    entry = read_entry(line)
    return entry is not None and entry.path in paths


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Read a record; a damaged line only means that a file is sent again."""
    return (entry for entry in map(read_entry, lines) if entry is not None)
