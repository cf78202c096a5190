"""The right to write an asset, and what is left of an earlier attempt at it.

A job that writes an asset holds a lock on this machine and leaves a mark beside the asset, until
the asset is verified. A job that finds the mark goes on where the earlier one stopped.
"""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from aind_data_transfer_service.drives import reason
from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    TransferError,
)
from aind_data_transfer_service.upload.lease import (
    Lease,
    await_silence,
    lock_name,
    new_mark,
    read_mark,
    write_mark,
)
from aind_data_transfer_service.upload.ledger import Ledger
from aind_data_transfer_service.upload.manifest import Entry, Journal, Manifest
from aind_data_transfer_service.upload.shards import (
    Shard,
    ShardRecords,
    shard_folder,
    shard_journal,
)
from aind_data_transfer_service.upload.store import (
    AssetState,
    AssetStore,
    manifest_key,
    mark_key,
    record_folder,
)

logger = logging.getLogger(__name__)

_JOURNAL = "journal.jsonl"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system without locks says."""
_MOST_REMOVALS = 20
"""How often a file may be removed between opening and locking it."""


@dataclass(frozen=True)
class Claim:
    """The right to write an asset."""

    started: datetime
    """When the first attempt began."""
    resumed: bool
    """Whether an earlier attempt left something."""
    keep_others: bool
    """Whether files that this job does not send stay where they are."""
    journal: Journal
    earlier: "Earlier"
    """What the asset's manifest of an earlier upload names."""
    shards: ShardRecords
    """What shards of the asset have brought."""
    lease: Lease
    """The sign of life of this job."""
    before: Journal | None = None
    """For a shard: the journal of an attempt that had none."""

    def ledger(self) -> Ledger:
        """Open what is noted of uploads in parts, by this job and by those that it goes on for."""
        others = self.shards.journals() if self.before is None else [self.before]
        return Ledger(self.journal, others)

    def known(self) -> Iterator[Entry]:
        """Give what other jobs than this one are known to have brought, the newest first."""
        yield from self.shards
        if self.before is not None:
            yield from self.before.entries().values()
        yield from self.earlier


class Earlier(Iterable[Entry]):
    """The manifest of an earlier upload, as far as there is one that can be read.

    What cannot be read is not known, and sent again.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    """

    def __init__(self, store: AssetStore, prefix: str):
        self._store, self._prefix = store, prefix

    def __iter__(self) -> Iterator[Entry]:
        with contextlib.suppress(DestinationError):
            yield from Manifest(self._store, self._prefix)


@contextmanager
def claim_asset(
    store: AssetStore,
    prefix: str,
    state_dir: Path,
    state: AssetState,
    force: bool,
    job_id: str | None,
    now: Callable[[], datetime],
    tell: Callable[[str], None] = lambda words: None,
) -> Iterator[Claim]:
    """Hold the right to write an asset.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    state_dir : Path
        Where this machine keeps what it knows of this transfer.
    state : AssetState
        What was found under its name.
    force : bool
        Whether to upload into an asset that exists.
    job_id : str | None
        Who wants it.
    now : Callable
        The clock.
    tell : Callable
        Takes what whoever asked for the job should know.

    Raises
    ------
    DestinationExistsError
        Where another job holds it.
    """
    with _lock(state_dir, store.location(prefix)):
        mark = read_mark(store, prefix) if state == AssetState.PARTIAL else None
        if mark is not None:
            await_silence(store, prefix, mark, job_id, lock_name(state_dir), tell)
        started = _time(mark.get("started")) if mark else None
        started = started or now()
        keep = force or bool(mark and mark.get("keep_others"))
        ours = new_mark(prefix, job_id, state_dir, started, keep)
        write_mark(store, prefix, ours, new=mark is None)
        resumed = mark is not None or _is_taken(store, prefix, force)
        shards = ShardRecords(store, prefix, state_dir)
        with Lease(store, prefix, ours) as lease, Journal(state_dir / _JOURNAL) as journal:
            yield Claim(started, resumed, keep, journal, Earlier(store, prefix), shards, lease)


@contextmanager
def claim_shard(
    store: AssetStore,
    prefix: str,
    state_dir: Path,
    shard: Shard,
    force: bool,
    job_id: str,
    now: Callable[[], datetime],
    tell: Callable[[str], None] = lambda words: None,
) -> Iterator[Claim]:
    """Hold the right to write one shard of an asset, beside the other shards of the same job.

    The parameters are those of `claim_asset`, and which shard it is. The mark beside the asset is
    the job's: its first shard leaves it, and the others find it.

    Raises
    ------
    DestinationExistsError
        Where another job holds the asset.
    """
    folder, location = shard_folder(state_dir, shard), store.location(prefix)
    with _together(state_dir, location, job_id), _lock(folder, f"{shard} of {location}"):
        mark = _joined_mark(store, prefix, state_dir, force, job_id, now, tell)
        started = _time(mark.get("started")) or now()
        keep = force or bool(mark.get("keep_others"))
        shards = ShardRecords(store, prefix, state_dir, but=shard)
        before = Journal(state_dir / _JOURNAL)
        lease = Lease(store, prefix, mark, shared=True)
        with lease, shard_journal(state_dir, shard) as journal:
            earlier = Earlier(store, prefix)
            yield Claim(started, True, keep, journal, earlier, shards, lease, before)


def _joined_mark(
    store: AssetStore,
    prefix: str,
    state_dir: Path,
    force: bool,
    job_id: str,
    now: Callable[[], datetime],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Find the mark that this job's shards share; the first of them leaves it."""
    mark = read_mark(store, prefix)
    if mark is None and not force and next(store.objects(prefix), None) is not None:
        mark = read_mark(store, prefix)  # whose objects are these?
        if mark is None:
            raise _completed_meanwhile(store, prefix)
    if mark is None:
        try:
            ours = new_mark(prefix, job_id, state_dir, now(), force)
            write_mark(store, prefix, ours, new=True)
        except DestinationExistsError:
            ours = read_mark(store, prefix) or {}
            if ours.get("job_id") != job_id:
                raise
        return ours
    if mark.get("job_id") == job_id:
        return mark
    await_silence(store, prefix, mark, job_id, lock_name(state_dir), tell)
    mark = read_mark(store, prefix) or {}
    if mark.get("job_id") == job_id:  # another shard waited for the same
        return mark
    keep = force or bool(mark.get("keep_others"))  # of a job that came to nothing
    ours = new_mark(prefix, job_id, state_dir, _time(mark.get("started")) or now(), keep)
    write_mark(store, prefix, ours)
    return ours


def _is_taken(store: AssetStore, prefix: str, force: bool) -> bool:
    """Tell whether there is an asset, now that nobody else can begin one.

    It may have been completed since the destination was looked at, by a job on another machine.
    """
    taken = next(store.objects(prefix), None) is not None
    if taken and not force:
        store.delete([mark_key(prefix)])
        raise _completed_meanwhile(store, prefix)
    return taken


def _completed_meanwhile(store: AssetStore, prefix: str) -> DestinationExistsError:
    """Say that there is an asset now, where there was none a moment ago."""
    return DestinationExistsError(
        f"another job completed {store.location(prefix)} meanwhile; to upload into it all the "
        "same, set force_cloud_sync"
    )


def _unwritable(state_dir: Path, error: OSError) -> TransferError:
    """Say that this machine cannot keep the record of a transfer."""
    return TransferError(
        f"the record of this transfer cannot be kept in {state_dir}: {error.strerror}; set "
        "UPLOAD_STATE_DIR to a folder that can be written"
    )


def forget(state_dir: Path, location: str) -> bool:
    """Remove this machine's record of a transfer, unless a job holds it; tell whether it did.

    Parameters
    ----------
    state_dir : Path
        Where it lies.
    location : str
        The asset.
    """
    if not state_dir.is_dir():
        return False
    try:
        with _locked(state_dir / "lock", location):
            shutil.rmtree(state_dir)
    except DestinationExistsError:
        return False
    return True


@contextmanager
def _lock(state_dir: Path, location: str) -> Iterator[None]:
    """Hold the lock of an asset on this machine; leave nothing behind once its journal is gone."""
    path = state_dir / "lock"
    with _locked(path, location):
        try:
            yield
        finally:
            if os.listdir(state_dir) == [path.name]:
                path.unlink()
                state_dir.rmdir()


@contextmanager
def _together(state_dir: Path, location: str, job_id: str) -> Iterator[None]:
    """Hold the lock of an asset on this machine together with other shards of the same job."""
    path, gate = state_dir / "lock", shard_folder(state_dir) / "job"
    try:
        gate.parent.mkdir(parents=True, exist_ok=True)
        holder = open(gate, "a+")
    except OSError as error:
        raise _unwritable(gate.parent, error) from error
    with holder:
        _flock(holder, fcntl.LOCK_EX)  # held for a moment: one of them decides at a time
        try:
            _locked(path, location).close()  # nobody had it: from now on it is this job's
            holder.truncate(0)
            holder.write(job_id)
            holder.flush()
        except DestinationExistsError:
            holder.seek(0)
            if holder.read() != job_id:
                raise
        lock = _locked(path, location, fcntl.LOCK_SH)
    with lock:
        yield


def _locked(path: Path, location: str, how: int = fcntl.LOCK_EX) -> IO[str]:
    """Open a file and lock it; once more where whoever held it removed it in between.

    Not for ever: on drives that invent inode numbers an open file never looks like the one at its
    path.
    """
    for attempt in itertools.count():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "a+")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(path.parent, error) from error
        try:
            _flock(lock, how | fcntl.LOCK_NB)
            is_there = path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except FileNotFoundError:
            is_there = False
        except OSError as error:
            lock.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise _unwritable(path.parent, error) from error
            raise DestinationExistsError(
                f"another job on this machine is sending {location} just now"
            ) from error
        if is_there or attempt >= _MOST_REMOVALS:
            break
        lock.close()
    return lock


def _flock(file: IO[str], how: int) -> None:
    """Lock a file; warn where its file system has no locks, and leave it to the lease then.

    Raises
    ------
    OSError
        If another process has the lock, or the drive has a fault.
    """
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "%s cannot be locked: %s; only the lease at the destination keeps other jobs from this "
            "asset. Set UPLOAD_STATE_DIR to a folder on a drive with locks",
            file.name,
            reason(error),
        )


def release(store: AssetStore, prefix: str, claim: Claim) -> None:
    """Leave nothing beside the asset but its manifest; last of all the mark goes: it is whole."""
    claim.lease.end()
    claim.journal.remove()
    shutil.rmtree(claim.shards.folder, ignore_errors=True)
    beside = [item.key for item in store.objects(record_folder(prefix))]
    store.delete([key for key in beside if key not in (manifest_key(prefix), mark_key(prefix))])
    store.delete([mark_key(prefix)])


def _time(text: Any) -> datetime | None:
    """Read a time of a mark."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
