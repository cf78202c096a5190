"""`aind-data-transfer-service clean`: what dead jobs left behind, found and removed.

Removed without a name is only what no job can continue: multipart uploads that were never completed
and whose ids are in our records, probes of jobs that were killed before they began, records on this
machine of transfers that are over, files of jobs that ended long ago. An unfinished asset is what
its job continues when it is run again; it is listed, and what our records name of it is removed if
it is named. Ages of what is at the store are by the store's clock, and nothing of an asset is
touched whose lease is not older than its TTL.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aind_data_transfer_service.errors import DestinationError, RequestError, UploadError
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.storage.base import AssetState, AssetStore
from aind_data_transfer_service.storage.layout import (
    RECORDS,
    former_manifest_key,
    is_probe,
    manifest_key,
    mark_key,
)
from aind_data_transfer_service.storage.model import StoredObject, Unfinished
from aind_data_transfer_service.storage.probes import check_conditions
from aind_data_transfer_service.upload.manifest.shard_records import transfer_journals
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.host_lock import forget
from aind_data_transfer_service.upload.resume.lease import is_ended, read_lease, ttl_of
from aind_data_transfer_service.upload.resume.lease_contention import store_time
from aind_data_transfer_service.upload.resume.multipart_state import noted_ids
from aind_data_transfer_service.upload.resume.state_removal import PROBE_LIFE, release, remove_lease

_CLOCK = ".clock"
"""Under `.transfer`: an object is written there briefly, to read the time of the store's clock."""
_AGE = re.compile(r"(\d{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@dataclass(frozen=True)
class Finding:
    """Something that was found, and what becomes of it."""

    words: str
    """What it is, for people."""
    remove: Callable[[], str] | None = None
    """Removes it, and returns what else there is to say; None where it is kept."""


@dataclass(frozen=True)
class Half:
    """An asset whose transfer has not ended."""

    asset: str
    seen: datetime | None
    """When its lease was last renewed."""
    holds_more: bool
    """Whether there was an asset before."""
    is_published: bool
    """Whether its job had published it, and only the lease was left."""
    ttl: timedelta
    """How long its job may live without renewing the lease."""


def read_age(text: str) -> timedelta:
    """Read an age such as 7d, 12h or 30m.

    Raises
    ------
    RequestError
        Where it is none.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise RequestError(f"{shown(text)} is no age; write days, hours or minutes as 7d, 12h, 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Leftovers:
    """Finds what lies about.

    Parameters
    ----------
    older_than : timedelta
        What is younger is never touched.
    now : datetime
        The time on this machine.
    """

    def __init__(self, older_than: timedelta, now: datetime):
        self._older_than, self._now = older_than, now
        self._store_now: datetime | None = None

    def of_bucket(
        self, store: AssetStore, beneath: str, state_dir: Path, named: Iterable[str] = ()
    ) -> Iterator[Finding]:
        """Find what lies about in a bucket, and on this machine of transfers to it.

        Parameters
        ----------
        store : AssetStore
            The bucket.
        beneath : str
            How the names begin of the assets that are looked at; empty for all.
        state_dir : Path
            Where this machine keeps its records of transfers to the bucket.
        named : Iterable[str]
            Half assets that are to be removed.

        Raises
        ------
        RequestError
            Where one is named that may not be removed.
        """
        records = {item.key: item for item in store.objects(RECORDS)}
        halves = {
            half.asset: half for half in _halves(store, records) if half.asset.startswith(beneath)
        }
        uploads = [one for one in store.unfinished() if _owner(one.key).startswith(beneath)]
        probes = [item for item in records.values() if _is_probe(item.key, beneath)]
        self._store_now = _time_of(store) if halves or uploads or probes else None
        removed = [self._checked(store, halves, asset) for asset in named]
        for upload in uploads:
            yield self._upload(store, upload, halves, records, state_dir)
        for half in halves.values():
            if half.is_published:
                yield self._left_lease(store, half)
            elif half.asset in removed:
                yield _half_that_goes(store, half.asset, state_dir)
            else:
                yield self._half_that_stays(store, half)
        yield from (self._probe(store, probe) for probe in probes if self._is_gone(probe))
        yield from self._journals(store, beneath, state_dir, set(halves))

    def of_jobs(self, folder: Path) -> Iterator[Finding]:
        """Find the files, logs among them, of jobs that ended long ago."""
        for job in sorted(folder.iterdir()) if folder.is_dir() else ():
            seen = _last_change(job)
            if job.is_dir() and self._now - seen > self._older_than:
                yield Finding(
                    f"files of job {job.name}, last written {_written(self._now - seen)} ago: "
                    f"{job}",
                    partial(_removed_folder, job),
                )

    def _checked(self, store: AssetStore, halves: dict[str, Half], asset: str) -> str:
        """Make sure that half an asset may be removed."""
        half, place = halves.get(asset), store.location(asset)
        if half is None or half.is_published:
            raise RequestError(f"{place} is no unfinished asset")
        if half.holds_more:
            raise RequestError(
                f"{place} holds an earlier upload, into which a further one began; run that job "
                "again, it goes on where it stopped"
            )
        if self._may_live(half) or not self._is_old(half.seen):
            raise RequestError(
                f"the job that brings {place} was there {self._age(half.seen)} ago; stop it and "
                "give a shorter --older-than"
            )
        return asset

    def _upload(
        self,
        store: AssetStore,
        upload: Unfinished,
        halves: dict[str, Half],
        records: dict[str, StoredObject],
        state_dir: Path,
    ) -> Finding:
        """Decide what becomes of an upload in parts that was never completed."""
        asset = _owner(upload.key)
        words = (
            f"unfinished upload of {store.location(upload.key)}, begun "
            f"{self._age(upload.started)} ago"
        )
        if manifest_key(asset) not in records and asset not in halves:
            return Finding(f"{words}: of no asset of ours")
        if not store.is_local and upload.upload_id not in _noted(state_dir / asset):
            return Finding(
                f"{words}: no record in {state_dir / asset} names it; if it is of a job, run clean "
                "where that ran, with the same UPLOAD_STATE_DIR"
            )
        if not self._is_old(upload.started):
            return Finding(words)
        half = halves.get(asset)
        if half is not None and (self._may_live(half) or not self._is_old(half.seen)):
            return Finding(f"{words}: its job was there {self._age(half.seen)} ago")

        def remove() -> str:
            store.abort(upload)
            return ""

        return Finding(words, remove)

    def _left_lease(self, store: AssetStore, half: Half) -> Finding:
        """Remove the lease of a job that published its asset and could not remove it."""
        words = (
            f"lease of an upload that was published, renewed {self._age(half.seen)} ago: "
            f"{store.location(mark_key(half.asset))}"
        )
        if self._may_live(half) or not self._is_old(half.seen):
            return Finding(words)

        def remove() -> str:
            remove_lease(store, half.asset)
            return ""

        return Finding(words, remove)

    def _probe(self, store: AssetStore, probe: StoredObject) -> Finding:
        """Remove an object with which a job that is gone tried the store."""

        def remove() -> str:
            store.delete_matching({probe.key: probe.etag})
            return ""

        return Finding(
            f"probe of a job that was killed, written {self._age(probe.modified)} ago: "
            f"{store.location(probe.key)}",
            remove,
        )

    def _half_that_stays(self, store: AssetStore, half: Half) -> Finding:
        """Tell of an asset that a job can go on with."""
        place = store.location(half.asset)
        if half.holds_more:
            return Finding(
                f"a further upload into {place} has not ended, its job last there "
                f"{self._age(half.seen)} ago: run that job again"
            )
        return Finding(
            f"half an asset {place}, its job last there {self._age(half.seen)} ago: run that job "
            f"again, or remove what it sent by --remove-unfinished {half.asset}"
        )

    def _journals(
        self, store: AssetStore, beneath: str, state_dir: Path, halves: set[str]
    ) -> Iterator[Finding]:
        """Find this machine's records of transfers that are over."""
        for folder in sorted(state_dir.iterdir()) if state_dir.is_dir() else ():
            seen, asset = _last_change(folder), folder.name
            is_old = self._now - seen > self._older_than
            if asset.startswith(beneath) and asset not in halves and is_old:
                age = _written(self._now - seen)
                yield Finding(
                    f"record of a transfer that is over, of {age} ago: {folder}",
                    partial(_forgotten, folder, store.location(asset)),
                )

    def _is_old(self, moment: datetime | None) -> bool:
        """Return whether something at the store is old enough; of unknown age, it never is."""
        age = self._since(moment)
        return age is not None and age >= self._older_than

    def _is_gone(self, probe: StoredObject) -> bool:
        """Return whether the job that wrote a probe is gone."""
        age = self._since(probe.modified)
        return age is not None and age >= max(self._older_than, PROBE_LIFE)

    def _may_live(self, half: Half) -> bool:
        """Return whether the job that holds a lease may still run."""
        age = self._since(half.seen)
        return age is None or age < half.ttl

    def _since(self, moment: datetime | None) -> timedelta | None:
        """Return how long ago something was written, both times by the store's clock."""
        if moment is None or self._store_now is None:
            return None
        return self._store_now - moment

    def _age(self, moment: datetime | None) -> str:
        """Write for how long something has been at the store."""
        age = self._since(moment)
        return "some time" if age is None else _written(age)


def _written(age: timedelta) -> str:
    """Write an age."""
    seconds = max(0.0, age.total_seconds())
    for length, name in ((86400, "days"), (3600, "hours")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {name}"
    return f"{seconds / 60:,.0f} minutes"


def _half_that_goes(store: AssetStore, asset: str, state_dir: Path) -> Finding:
    """Remove half an asset, as far as our records name it."""
    remove = partial(_remove_half, store, asset, state_dir / asset)
    return Finding(f"half an asset {store.location(asset)}", remove)


def _remove_half(store: AssetStore, asset: str, state_dir: Path) -> str:
    """Remove what records name of half an asset, by key and ETag; then the records themselves.

    The asset's lease is held meanwhile, so that no job begins.

    Raises
    ------
    DestinationError
        If there are files, and no record on this machine or beside the asset names any.
    """
    for warning in check_conditions(store, asset):
        store.tell(warning)
    arguments = state_dir, AssetState.PARTIAL, False, None, lambda: datetime.now(UTC)
    with claim_asset(store, asset, *arguments) as claim:
        skip = len(asset) + 1
        sent = [*claim.journal.entries().values(), *claim.known()]
        stored = {item.key[skip:]: item for item in store.objects(asset)}
        if stored and not sent:
            claim.journal.remove()
            raise DestinationError(
                f"no record in {state_dir} or beside the asset names what was sent of "
                f"{store.location(asset)}, so nothing was removed; run the command where the job "
                "ran, with the same UPLOAD_STATE_DIR, or delete the files by other means"
            )
        ours = {
            stored[entry.path].key: entry.etag
            for entry in sent
            if entry.is_stored_as(stored.get(entry.path))
        }
        replaced = store.delete_matching(ours)
        store.clear_unfinished(asset)
        for path, begun in claim.ledger().uploads():
            store.abort(Unfinished(f"{asset}/{path}", begun.upload_id))
        release(store, asset, claim)
    left = sorted(path for path, item in stored.items() if item.key not in ours)
    left += [key[skip:] for key in replaced]
    return f"; not sent by it, and left there: {listed(list(map(shown, left)))}" if left else ""


def _noted(state_dir: Path) -> set[str]:
    """Read which multipart uploads of an asset were begun by jobs with records on this machine."""
    return noted_ids(transfer_journals(state_dir))


def _removed_folder(folder: Path) -> str:
    """Remove a folder."""
    shutil.rmtree(folder)
    return ""


def _forgotten(folder: Path, location: str) -> str:
    """Remove this machine's record of a transfer."""
    return "" if forget(folder, location) else "; a job holds it, it stays"


def _halves(store: AssetStore, records: dict[str, StoredObject]) -> Iterator[Half]:
    """Find the leases of transfers, and read them."""
    for key, item in records.items():
        asset = key.removeprefix(f"{RECORDS}/").rpartition("/")[0]
        if key == mark_key(asset) and (found := read_lease(store, key)) is not None:
            former = records.get(former_manifest_key(asset))
            has_manifest = former.size > 0 if former else manifest_key(asset) in records
            is_published = has_manifest and store.is_published(asset)
            ttl = timedelta(seconds=0 if is_ended(found.record) else ttl_of(found.record))
            yield Half(asset, item.modified, has_manifest, is_published, ttl)


def _time_of(store: AssetStore) -> datetime | None:
    """Return the store's time; None if nothing may be written there to find it out."""
    try:
        return store_time(store, _CLOCK)[0]
    except UploadError:
        return None


def _owner(key: str) -> str:
    """Tell which asset an object is of."""
    return key.removeprefix(f"{RECORDS}/").split("/", 1)[0]


def _is_probe(key: str, beneath: str) -> bool:
    """Return whether a record is a probe of an asset whose name begins so."""
    return _owner(key).startswith(beneath) and is_probe(_owner(key), key)


def _last_change(folder: Path) -> datetime:
    """Tell when anything in a folder was last written."""
    files = [folder, *(path for path in folder.rglob("*") if path.name != "lock")]
    newest = max(path.stat(follow_symlinks=False).st_mtime for path in files)
    return datetime.fromtimestamp(newest, UTC)
