"""The right to write one shard of an asset, side by side with the other shards of its job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from aind_data_transfer_service.errors import DestinationExistsError
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import fence_of
from aind_data_transfer_service.upload.manifest.shard_records import shard_folder, shard_lease_key
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.resume.asset_lock import (
    check_taken,
    completed_meanwhile,
    contender_for,
    open_claim,
    take_lease,
    time_of,
)
from aind_data_transfer_service.upload.resume.claim import Claim
from aind_data_transfer_service.upload.resume.host_lock import hold_host_lock, hold_shared_host_lock
from aind_data_transfer_service.upload.resume.lease import (
    Found,
    Holding,
    Lease,
    Record,
    Timing,
    boottime,
    new_record,
    read_lease,
    write_lease,
)
from aind_data_transfer_service.upload.resume.lease_contention import Contender
from aind_data_transfer_service.upload.resume.lease_holders import HoldersHere


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
        hold_shared_host_lock(state_dir, location, job_id) as file,
        hold_host_lock(folder, f"{shard} of {location}") as own_file,
    ):
        own = _shard_holding(store, prefix, shard, job_id, now, tell, timing, HoldersHere(own_file))
        here = HoldersHere(file)
        contender = contender_for(store, prefix, state_dir, job_id, here, tell, timing)
        shared, found = _shared_holding(contender, force, now, here)
        shared.since = own.since = boottime()  # either may have waited for long
        with Lease(store, prefix, [shared, own], timing) as lease:
            lease.renew()  # both are still held, or this fails
            keep = bool(shared.record.get("keep_others"))
            if found is not None:
                _, keep = check_taken(store, prefix, *found, force, shared, lease)
            started = time_of(shared.record.get("started")) or now()
            with open_claim(store, prefix, state_dir, lease, started, True, keep, shard) as claim:
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
                raise completed_meanwhile(store, prefix)
            if joins(found.record):
                here.note(str(found.record["holder"]))
                return Holding(contender.key, found.record, found.etag, boottime(), True), None
        elif not force and next(store.objects(prefix), None) is not None:
            if read_lease(store, contender.key) is None:  # the objects are of no other shard
                raise completed_meanwhile(store, prefix)
            continue
        try:
            return take_lease(contender, found, force, now, here, is_shared=True), (found,)
        except DestinationExistsError:
            winner = read_lease(store, contender.key)
            if winner is None or not joins(winner.record):
                raise
