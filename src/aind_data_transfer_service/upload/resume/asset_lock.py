"""The right to write an asset, and what is left of an earlier attempt at it.

A job that writes an asset holds a lock on this machine and leaves a mark beside the asset, until
the asset is verified. A job that finds the mark goes on where the earlier one stopped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from aind_data_transfer_service.errors import DestinationExistsError
from aind_data_transfer_service.storage.base import AssetState, AssetStore
from aind_data_transfer_service.storage.layout import fence_of, mark_key
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.shard_records import (
    JOURNAL,
    ShardRecords,
    shard_folder,
    shard_journal,
    shard_leases,
)
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.resume.claim import Claim, Earlier
from aind_data_transfer_service.upload.resume.host_lock import hold_host_lock
from aind_data_transfer_service.upload.resume.lease import (
    Found,
    Holding,
    Lease,
    Record,
    Timing,
    is_ended,
    new_record,
    read_lease,
    write_lease,
)
from aind_data_transfer_service.upload.resume.lease_contention import Contender
from aind_data_transfer_service.upload.resume.lease_holders import HoldersHere


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
    with hold_host_lock(state_dir, store.location(prefix)) as file:
        here = HoldersHere(file)
        contender = contender_for(store, prefix, state_dir, job_id, here, tell, timing)
        found = None if state == AssetState.ABSENT else read_lease(store, contender.key)
        if found is not None:
            found = contender.await_end(found)
            if found is None:
                raise completed_meanwhile(store, prefix)
        holding = take_lease(contender, found, force, now, here)
        with Lease(store, prefix, [holding], timing) as lease:
            resumed, keep = check_taken(store, prefix, found, force, holding, lease)
            started = time_of(holding.record.get("started")) or now()
            with open_claim(store, prefix, state_dir, lease, started, resumed, keep) as claim:
                yield claim


def contender_for(
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
def open_claim(
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


def take_lease(
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
    started = time_of(before.get("started")) or now()
    keep, fence = force or bool(before.get("keep_others")), fence_of(before) + 1
    record = new_record(prefix, job_id, started, keep, fence, timing, is_shared)
    here.note(record["holder"])
    return write_lease(contender.store, contender.key, record, found, is_shared)


def check_taken(
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
        raise completed_meanwhile(store, prefix)
    if header is not None and (taken or fence_of(header) >= fence_of(record)):
        record["keep_others"] = bool(record["keep_others"] or taken)
        record["fence"] = max(fence_of(record), fence_of(header) + 1)
        lease.renew()
    return taken or found is not None, bool(record["keep_others"])


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


def completed_meanwhile(store: AssetStore, prefix: str) -> DestinationExistsError:
    """Say that there is an asset now, where there was none a moment ago."""
    return DestinationExistsError(
        f"another job completed {store.location(prefix)} meanwhile; to upload into it all the "
        "same, set force_cloud_sync"
    )


def time_of(text: Any) -> datetime | None:
    """Read a time of a mark."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
