"""Removal of what transfers leave: records, leases and multipart uploads."""

import shutil
from datetime import timedelta
from pathlib import Path

from aind_data_transfer_service.errors import DestinationExistsError
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    is_own_probe,
    is_probe,
    mark_key,
    record_folder,
)
from aind_data_transfer_service.storage.model import StoredObject, Unfinished
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.shard_records import (
    JOURNAL,
    ShardRecords,
    shard_folder,
    shard_lease_key,
    shard_records,
)
from aind_data_transfer_service.upload.plan.shards import Shard
from aind_data_transfer_service.upload.resume.claim import Claim
from aind_data_transfer_service.upload.resume.host_lock import hold_host_lock
from aind_data_transfer_service.upload.resume.lease import is_ended, read_lease
from aind_data_transfer_service.upload.resume.lease_holders import HoldersHere
from aind_data_transfer_service.upload.resume.multipart_state import Ledger

PROBE_LIFE = timedelta(hours=1)
"""A probe that is older was left by a job that is gone: even one that retries needs minutes."""


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
    with hold_host_lock(folder, store.location(prefix)) as file:
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
