"""`aind-data-transfer-service clean`: what dead jobs left behind, found and removed.

Removed without being asked twice is only what nobody can go on with: uploads in parts that were
never completed, records on this machine of transfers that are over, files of long-ended jobs. Half
an asset is what a job goes on from that is run again; it is listed, and removed where it is named.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aind_data_transfer_service.errors import RequestError
from aind_data_transfer_service.upload.claim import forget
from aind_data_transfer_service.upload.source import shown
from aind_data_transfer_service.upload.store import (
    RECORDS,
    AssetStore,
    StoredObject,
    Unfinished,
    manifest_key,
    mark_key,
    record_folder,
)

_ASSET = re.compile(r"[^_]+_[^_]+_\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")
_AGE = re.compile(r"(\d{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_MARK = mark_key("").rpartition("/")[2]


@dataclass(frozen=True)
class Finding:
    """Something that was found, and what becomes of it."""

    words: str
    """What it is, for people."""
    remove: Callable[[], None] | None = None
    """How it is removed; None where it is kept."""


@dataclass(frozen=True)
class Half:
    """An asset whose transfer has not ended."""

    asset: str
    seen: datetime | None
    """The last sign of life of the job that brings it."""
    holds_more: bool
    """Whether there was an asset before."""


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
        The time.
    """

    def __init__(self, older_than: timedelta, now: datetime):
        self._older_than, self._now = older_than, now

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
        halves = {half.asset: half for half in _halves(records) if half.asset.startswith(beneath)}
        removed = [self._checked(store, halves, asset) for asset in named]
        for upload in store.unfinished():
            if _owner(upload.key).startswith(beneath):
                yield self._upload(store, upload, halves, records)
        for half in halves.values():
            if half.asset in removed:
                yield _half_that_goes(store, half.asset, state_dir)
            else:
                yield self._half_that_stays(store, half)
        yield from self._journals(store, beneath, state_dir, set(halves))

    def of_jobs(self, folder: Path) -> Iterator[Finding]:
        """Find the files, logs among them, of jobs that ended long ago."""
        for job in sorted(folder.iterdir()) if folder.is_dir() else ():
            seen = _last_change(job)
            if job.is_dir() and self._is_old(seen):
                yield Finding(
                    f"files of job {job.name}, last written {self._age(seen)} ago: {job}",
                    lambda job=job: shutil.rmtree(job),
                )

    def _checked(self, store: AssetStore, halves: dict[str, Half], asset: str) -> str:
        """Make sure that half an asset may be removed."""
        half, place = halves.get(asset), store.location(asset)
        if half is None:
            raise RequestError(f"{place} is no unfinished asset")
        if half.holds_more:
            raise RequestError(
                f"{place} holds an earlier upload, into which a further one began; run that job "
                "again, it goes on where it stopped"
            )
        if not self._is_old(half.seen):
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
    ) -> Finding:
        """Decide what becomes of an upload in parts that was never completed."""
        asset = _owner(upload.key)
        words = (
            f"unfinished upload of {store.location(upload.key)}, begun "
            f"{self._age(upload.started)} ago"
        )
        ours = _ASSET.fullmatch(asset) or manifest_key(asset) in records or asset in halves
        if not ours:
            return Finding(f"{words}: of no asset of ours")
        if not self._is_old(upload.started):
            return Finding(words)
        if asset in halves and not self._is_old(halves[asset].seen):
            return Finding(f"{words}: its job was there {self._age(halves[asset].seen)} ago")
        return Finding(words, lambda: store.abort(upload))

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
            f"again, or remove it by --remove-unfinished {half.asset}"
        )

    def _journals(
        self, store: AssetStore, beneath: str, state_dir: Path, halves: set[str]
    ) -> Iterator[Finding]:
        """Find this machine's records of transfers that are over."""
        for folder in sorted(state_dir.iterdir()) if state_dir.is_dir() else ():
            seen, asset = _last_change(folder), folder.name
            if asset.startswith(beneath) and asset not in halves and self._is_old(seen):
                yield Finding(
                    f"record of a transfer that is over, of {self._age(seen)} ago: {folder}",
                    lambda folder=folder, asset=asset: forget(folder, store.location(asset)),
                )

    def _is_old(self, moment: datetime | None) -> bool:
        """Tell whether something is old enough to be touched; of no age known, it never is."""
        return moment is not None and self._now - moment > self._older_than

    def _age(self, moment: datetime | None) -> str:
        """Write for how long something has been there."""
        if moment is None:
            return "some time"
        seconds = max(0.0, (self._now - moment).total_seconds())
        for length, name in ((86400, "days"), (3600, "hours")):
            if seconds >= 2 * length:
                return f"{seconds / length:,.0f} {name}"
        return f"{seconds / 60:,.0f} minutes"


def _half_that_goes(store: AssetStore, asset: str, state_dir: Path) -> Finding:
    """Remove half an asset: what has arrived, and then all that is known of it."""

    def remove() -> None:
        store.clear_unfinished(asset)
        store.delete([item.key for item in store.objects(asset)])
        forget(state_dir / asset, store.location(asset))
        store.delete([item.key for item in store.objects(record_folder(asset))])

    return Finding(f"half an asset {store.location(asset)}", remove)


def _halves(records: dict[str, StoredObject]) -> Iterator[Half]:
    """Find the marks of transfers that have not ended."""
    for key, item in records.items():
        asset = key.removeprefix(f"{RECORDS}/").rpartition("/")[0]
        if key == mark_key(asset):
            yield Half(asset, item.modified, manifest_key(asset) in records)


def _owner(key: str) -> str:
    """Tell which asset an object is of."""
    return key.removeprefix(f"{RECORDS}/").split("/", 1)[0]


def _last_change(folder: Path) -> datetime:
    """Tell when anything in a folder was last written."""
    files = [folder, *(path for path in folder.rglob("*") if path.name != "lock")]
    newest = max(path.stat(follow_symlinks=False).st_mtime for path in files)
    return datetime.fromtimestamp(newest, UTC)
