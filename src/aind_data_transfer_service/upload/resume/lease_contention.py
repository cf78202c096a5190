"""A job that finds the lease of another, and waits until that one has surely ended.

A holder has ended if its lease says so, if it was a process on this machine that is known to be
dead, or if the lease was not renewed for its TTL. Ages are differences of two times of the store's
clock, so no clock is compared with another.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aind_data_transfer_service.errors import DestinationExistsError
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import probe_key, record_folder
from aind_data_transfer_service.upload.resume.lease import (
    Found,
    Record,
    Timing,
    is_ended,
    read_lease,
    ttl_of,
)


def silent_for(store: AssetStore, prefix: str, key: str, etag: str) -> float:
    """Return for how many seconds a lease has not been renewed, by the store's clock.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    key : str
        The lease.
    etag : str
        Its ETag when it was read; if the store lists another one, it has been renewed since.
    """
    now, records = store_time(store, prefix)
    found = records.get(key)
    if now is None or found is None or found[1] != etag or found[0] is None:
        return 0.0
    return max(0.0, (now - found[0]).total_seconds())


def store_time(
    store: AssetStore, prefix: str
) -> tuple[datetime | None, dict[str, tuple[datetime | None, str]]]:
    """Return the store's time, and when each record of an asset was written, with its ETag."""
    probe = probe_key(prefix)
    store.put(probe, uuid.uuid4().bytes)
    try:
        found = {
            item.key: (item.modified, item.etag) for item in store.objects(record_folder(prefix))
        }
    finally:
        store.delete([probe])
    return found.pop(probe, (None, ""))[0], found


@dataclass(frozen=True)
class Contender:
    """A job that finds the lease of another, and waits until that one has surely ended.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    key : str
        The lease.
    job_id : str | None
        The service's id of this job.
    died_here : Callable
        Returns whether the holder of a record was a process on this machine that is dead.
    live_shards : Callable
        Returns whether shards that share a lease may still run.
    tell : Callable
        Takes warnings.
    timing : Timing
        How often it looks.
    wait : Callable
        Waits for a number of seconds.
    """

    store: AssetStore
    prefix: str
    key: str
    job_id: str | None
    died_here: Callable[[Record], bool] = lambda record: False
    live_shards: Callable[[Record], bool] = lambda record: True
    tell: Callable[[str], None] = lambda words: None
    timing: Timing = Timing()
    wait: Callable[[float], None] = time.sleep

    def await_end(
        self, found: Found, joins: Callable[[Record], bool] = lambda record: False
    ) -> Found | None:
        """Return the lease, as last read, once its holder has surely ended; None if it is gone.

        Parameters
        ----------
        found : Found
            The lease.
        joins : Callable
            Returns whether a record is one that this job shares: then it need not wait.

        Raises
        ------
        DestinationExistsError
            If the holder lives.
        """
        if joins(found.record) or self._is_over(found.record):
            return found
        place = self.store.location(self.prefix)
        host, ttl = found.record.get("host", "another machine"), ttl_of(found.record)
        silent = silent_for(self.store, self.prefix, self.key, found.etag)
        if silent <= ttl:
            self.tell(
                f"a job on {host} renewed its lease of {place} {silent:.0f} s ago; this job waits "
                f"until that lease has not been renewed for {ttl:.0f} s, and then continues"
            )
        while silent <= ttl:
            self.wait(self.timing.look_every)
            silent += self.timing.look_every
            now = read_lease(self.store, self.key)
            if now is None:
                return None
            if joins(now.record) or self._is_over(now.record):
                return now
            if now.etag != found.etag:
                raise DestinationExistsError(f"another job, on {host}, is sending {place} just now")
        return found

    def _is_over(self, record: Record) -> bool:
        """Return whether nobody who holds a lease can be alive."""
        if is_ended(record):
            return True
        died_here = self.died_here(record)
        if not record.get("shared"):
            return died_here
        is_same = self.job_id is not None and record.get("job_id") == self.job_id
        return (died_here or is_same) and not self.live_shards(record)
