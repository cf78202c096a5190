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
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    TransferError,
)
from aind_data_transfer_service.storage.base import AssetState, AssetStore
from aind_data_transfer_service.storage.layout import (
    fence_of,
    former_manifest_key,
    is_own_probe,
    is_probe,
    manifest_key,
    mark_key,
    record_folder,
)
from aind_data_transfer_service.storage.s3.model import StoredObject, Unfinished
from aind_data_transfer_service.storage.system_calls import has_no_locks
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.manifest import READ_BACK, Manifest
from aind_data_transfer_service.upload.manifest.shard_records import (
    JOURNAL,
    ShardRecords,
    shard_folder,
    shard_journal,
    shard_lease_key,
    shard_leases,
    shard_records,
)
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.resume.lease import (
    Found,
    Holding,
    Lease,
    Record,
    Timing,
    boottime,
    is_ended,
    new_record,
    read_lease,
    write_lease,
)
from aind_data_transfer_service.upload.resume.lease_contention import Contender
from aind_data_transfer_service.upload.resume.lease_holders import HoldersHere
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from aind_data_transfer_service.upload.source.drive_retry import reason

logger = logging.getLogger(__name__)

PROBE_LIFE = timedelta(hours=1)
"""A probe that is older was left by a job that is gone: even one that retries needs minutes."""
_STATE_SETTINGS = "UPLOAD_STATE_DIR (of jobs on a cluster: HPC_CURRENT_WORKING_DIRECTORY)"
"""The settings that say where the record of a transfer is kept."""
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

    What cannot be read is not known, and sent again. A job that was killed while it replaced the
    manifest left a copy as well. The newer manifest comes first then.

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
        for manifest in self._manifests():
            with contextlib.suppress(DestinationError):
                yield from manifest

    @property
    def was_read_back(self) -> bool:
        """Return whether the job that brought its files had read all of them back."""
        return {one.header.get("proof") for one in self._manifests()} == {READ_BACK}

    def _manifests(self) -> Iterator[Manifest]:
        """Open the manifest and the copy of the one before, as far as they are there."""
        for key in (manifest_key(self._prefix), former_manifest_key(self._prefix)):
            try:
                manifest = Manifest(self._store, self._prefix, key)
            except DestinationError:
                continue
            yield manifest


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
    timing: Timing = Timing(),
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
    timing : Timing
        The intervals of the lease.

    Raises
    ------
    DestinationExistsError
        Where another job holds it.
    """
    with _lock(state_dir, store.location(prefix)) as file:
        here = HoldersHere(file)
        contender = _contender(store, prefix, state_dir, job_id, here, tell, timing)
        found = None if state == AssetState.ABSENT else read_lease(store, contender.key)
        if found is not None:
            found = contender.await_end(found)
            if found is None:
                raise _completed_meanwhile(store, prefix)
        holding = _take(contender, found, force, now, here)
        with Lease(store, prefix, [holding], timing) as lease:
            resumed, keep = _check_taken(store, prefix, found, force, holding, lease)
            started = _time(holding.record.get("started")) or now()
            with _claimed(store, prefix, state_dir, lease, started, resumed, keep) as claim:
                yield claim


def _contender(
    store: AssetStore,
    prefix: str,
    state_dir: Path,
    job_id: str | None,
    here: HoldersHere,
    tell: Callable[[str], None],
    timing: Timing,
) -> Contender:
    """Make the contender for the lease of an asset."""
    shards = partial(_live_shards, store, prefix, state_dir, here)
    return Contender(store, prefix, mark_key(prefix), job_id, here.died, shards, tell, timing)


@contextmanager
def _claimed(
    store: AssetStore,
    prefix: str,
    state_dir: Path,
    lease: Lease,
    started: datetime,
    resumed: bool,
    keep_others: bool,
    shard: Shard | None = None,
) -> Iterator[Claim]:
    """Open the records of a transfer under its lease: those of a shard have a journal apart."""
    records, earlier = ShardRecords(store, prefix, state_dir, but=shard), Earlier(store, prefix)
    own, before = Journal(state_dir / JOURNAL), None
    if shard is not None:
        own, before = shard_journal(state_dir, shard), own
    with own as journal:
        journal.note({"fence": lease.fence, "holder": lease.holder})
        yield Claim(started, resumed, keep_others, journal, earlier, records, lease, before)


def _take(
    contender: Contender,
    found: Found | None,
    force: bool,
    now: Callable[[], datetime],
    here: HoldersHere,
    is_shared: bool = False,
) -> Holding:
    """Create the lease of an asset, or take over one whose holder has ended."""
    before = found.record if found is not None else {}
    prefix, job_id, timing = contender.prefix, contender.job_id, contender.timing
    started = _time(before.get("started")) or now()
    keep, fence = force or bool(before.get("keep_others")), fence_of(before) + 1
    record = new_record(prefix, job_id, started, keep, fence, timing, is_shared)
    here.note(record["holder"])
    return write_lease(contender.store, contender.key, record, found, is_shared)


def _check_taken(
    store: AssetStore,
    prefix: str,
    found: Found | None,
    force: bool,
    holding: Holding,
    lease: Lease,
) -> tuple[bool, bool]:
    """Look at what is there, now that nobody else can begin or publish the asset.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    found : Found | None
        The lease that was taken over.
    force : bool
        Whether to upload into an asset that exists.
    holding : Holding
        The lease that this job holds.
    lease : Lease
        Keeps it.

    Returns
    -------
    tuple[bool, bool]
        Whether there is something to continue, and whether files that this job does not send stay.

    Raises
    ------
    DestinationExistsError
        If there is a published asset, and nobody asked for an upload into it.
    """
    record = holding.record
    taken = next(store.objects(prefix), None) is not None
    header = store.header(prefix) if taken or found is not None else None
    before = fence_of(found.record) if found is not None else 0
    if found is None:  # other shards may have begun to send
        is_finished = taken and (header is not None or not holding.is_shared)
    else:
        is_finished = taken and header is not None and before <= fence_of(header)
    if is_finished and not force:
        lease.release()
        raise _completed_meanwhile(store, prefix)
    if header is not None and (taken or fence_of(header) >= fence_of(record)):
        record["keep_others"] = bool(record["keep_others"] or taken)
        record["fence"] = max(fence_of(record), fence_of(header) + 1)
        lease.renew()
    return taken or found is not None, bool(record["keep_others"])


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
    timing: Timing = Timing(),
) -> Iterator[Claim]:
    """Hold the right to write one shard of an asset, beside the other shards of the same job.

    The parameters are those of `claim_asset`, and which shard it is. The shards share the lease of
    the asset, which the first of them creates; each has a lease of its own as well, so that a shard
    that was queued again is not written by two processes.

    Raises
    ------
    DestinationExistsError
        Where another job holds the asset, or another process the shard.
    """
    folder, location = shard_folder(state_dir, shard), store.location(prefix)
    with (
        _together(state_dir, location, job_id) as file,
        _lock(folder, f"{shard} of {location}") as own_file,
    ):
        own = _shard_holding(store, prefix, shard, job_id, now, tell, timing, HoldersHere(own_file))
        here = HoldersHere(file)
        contender = _contender(store, prefix, state_dir, job_id, here, tell, timing)
        shared, found = _shared_holding(contender, force, now, here)
        shared.since = own.since = boottime()  # either may have waited for long
        with Lease(store, prefix, [shared, own], timing) as lease:
            lease.renew()  # both are still held, or this fails
            keep = bool(shared.record.get("keep_others"))
            if found is not None:
                _, keep = _check_taken(store, prefix, *found, force, shared, lease)
            started = _time(shared.record.get("started")) or now()
            with _claimed(store, prefix, state_dir, lease, started, True, keep, shard) as claim:
                yield claim


def _shard_holding(
    store: AssetStore,
    prefix: str,
    shard: Shard,
    job_id: str,
    now: Callable[[], datetime],
    tell: Callable[[str], None],
    timing: Timing,
    here: HoldersHere,
) -> Holding:
    """Take the lease of one shard."""
    key = shard_lease_key(prefix, shard)
    found = read_lease(store, key)
    if found is not None:
        contender = Contender(store, prefix, key, job_id, here.died, tell=tell, timing=timing)
        found = contender.await_end(found)
    fence = fence_of(found.record) + 1 if found is not None else 1
    record = new_record(prefix, job_id, now(), False, fence, timing)
    here.note(record["holder"])
    holding = write_lease(store, key, record, found)
    holding.remove_at_end = True
    return holding


def _shared_holding(
    contender: Contender, force: bool, now: Callable[[], datetime], here: HoldersHere
) -> tuple[Holding, tuple[Found | None] | None]:
    """Join the lease that the shards of a job share; the first of them takes it.

    Returns
    -------
    tuple[Holding, tuple[Found | None] | None]
        The lease; and in a tuple what was there before, if this shard is the first.
    """
    store, prefix, job_id = contender.store, contender.prefix, contender.job_id

    def joins(record: Record) -> bool:
        return bool(record.get("shared")) and record.get("job_id") == job_id

    while True:
        found = read_lease(store, contender.key)
        if found is not None:
            found = contender.await_end(found, joins)
            if found is None:
                raise _completed_meanwhile(store, prefix)
            if joins(found.record):
                here.note(str(found.record["holder"]))
                return Holding(contender.key, found.record, found.etag, boottime(), True), None
        elif not force and next(store.objects(prefix), None) is not None:
            if read_lease(store, contender.key) is None:  # the objects are of no other shard
                raise _completed_meanwhile(store, prefix)
            continue
        try:
            return _take(contender, found, force, now, here, is_shared=True), (found,)
        except DestinationExistsError:
            winner = read_lease(store, contender.key)
            if winner is None or not joins(winner.record):
                raise


def _live_shards(
    store: AssetStore, prefix: str, state_dir: Path, here: HoldersHere, record: Record
) -> bool:
    """Return whether shards that share a lease may still run.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    state_dir : Path
        Where this machine keeps what it knows of this transfer.
    here : HoldersHere
        The lock of the asset on this machine. A shard that lives here has it too.
    record : Record
        The lease that they share.
    """
    for name, key in shard_leases(store, prefix):
        found = read_lease(store, key)
        if found is None or found.record.get("job_id") != record.get("job_id"):
            continue
        path = state_dir / shard_folder(state_dir).name / name / "lock"
        if not is_ended(found.record) and not here.died(found.record, path):
            return True
    return False


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
        f"{_STATE_SETTINGS} to a folder that can be written"
    )


def abort_noted_uploads(
    store: AssetStore, prefix: str, state_dir: Path, shard: Shard | None = None
) -> None:
    """Abort the multipart uploads that earlier attempts noted here and did not complete.

    The local lock is held meanwhile. Nothing is aborted while a job may live that goes on with
    them: one that has the lock, or whose lease has neither ended nor expired by the death of its
    process here.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    state_dir : Path
        Where this machine keeps what it knows of this transfer.
    shard : Shard | None
        The shard whose uploads are meant; by default those of the whole asset.

    Raises
    ------
    UploadError
        If another job has the asset, or the store cannot be asked.
    """
    folder = shard_folder(state_dir, shard) if shard else state_dir
    if not (folder / JOURNAL).exists() and (shard or not shard_folder(state_dir).exists()):
        return
    key = shard_lease_key(prefix, shard) if shard else mark_key(prefix)
    with _lock(folder, store.location(prefix)) as file:
        here, found = HoldersHere(file), read_lease(store, key)
        if found is not None and not is_ended(found.record) and not here.died(found.record):
            raise DestinationExistsError(f"another job may be sending {store.location(prefix)}")
        whole = read_lease(store, mark_key(prefix)) if shard else None
        if whole is not None and not (whole.record.get("shared") or is_ended(whole.record)):
            raise DestinationExistsError(
                f"another job may go on with the shards of {store.location(prefix)}"
            )
        journal = Journal(folder / JOURNAL)
        others = [] if shard else ShardRecords(store, prefix, state_dir).journals()
        for path, begun in Ledger(journal, others).uploads():
            store.abort(Unfinished(f"{prefix}/{path}", begun.upload_id))


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
def _lock(state_dir: Path, location: str) -> Iterator[IO[str]]:
    """Hold the lock of an asset on this machine; leave nothing behind once its journal is gone."""
    path = state_dir / "lock"
    with _locked(path, location) as file:
        try:
            yield file
        finally:
            if os.listdir(state_dir) == [path.name]:
                path.unlink()
                state_dir.rmdir()


@contextmanager
def _together(state_dir: Path, location: str, job_id: str) -> Iterator[IO[str]]:
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
        yield lock


def _locked(path: Path, location: str, how: int = fcntl.LOCK_EX) -> IO[str]:
    """Open a file and lock it, again if its former holder removed it in between.

    The number of attempts is limited: on drives that invent inode numbers an open file never looks
    like the one at its path.
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
        if not has_no_locks(error):
            raise
        logger.warning(
            "%s cannot be locked: %s; only the lease at the destination keeps other jobs from this "
            "asset. Set %s to a folder on a drive with locks",
            file.name,
            reason(error),
            _STATE_SETTINGS,
        )


def release(store: AssetStore, prefix: str, claim: Claim) -> None:
    """Remove all records of the transfer but the manifest; the lease goes last."""
    claim.journal.remove()
    shutil.rmtree(claim.shards.folder, ignore_errors=True)
    store.delete_matching(transfer_records(store, prefix))
    claim.lease.release()


def transfer_records(store: AssetStore, prefix: str) -> dict[str, str]:
    """List the ETags, by key, of what jobs write beside an asset but its lease and its manifest.

    Of the probes, those of this process and those that are older than any job needs: another job
    that wants the asset may be trying the store just now. The newest record, the lease at the
    latest, says how late it is by the store's clock.
    """
    records = list(store.objects(record_folder(prefix)))
    newest = max((item.modified for item in records if item.modified), default=None)

    def goes(item: StoredObject) -> bool:
        if not is_probe(prefix, item.key):
            is_former = item.key == former_manifest_key(prefix)
            return is_former or item.key.startswith(f"{shard_records(prefix)}/")
        if is_own_probe(prefix, item.key):
            return True
        return bool(item.modified and newest and newest - item.modified > PROBE_LIFE)

    return {item.key: item.etag for item in records if goes(item)}


def remove_lease(store: AssetStore, prefix: str) -> None:
    """Remove a lease that was left beside a published asset, and what else attempts left there."""
    found = store.fetch(mark_key(prefix))
    if found is not None and store.is_published(prefix):
        store.delete_matching(transfer_records(store, prefix))
        store.delete_matching({mark_key(prefix): found[1]})


def _time(text: Any) -> datetime | None:
    """Read a time of a mark."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
