"""The lease on an asset: which job may write it, and until when.

The lease is a record beside the asset, `.transfer/<asset>/in-progress.json`. It is created,
renewed, taken over and removed by conditional writes, so that it never has two holders. A holder is
a process with a random id; each has a fencing number larger than the one before. The holder renews
the record regularly, and stops all work as soon as a renewal is refused, or none succeeded for so
long that another job may take the lease over before long.

The shards of one job share the lease of the asset; each has besides a lease of its own. Ages are
differences between two times of the store's clock; deadlines use this machine's clock alone.
"""

import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from aind_data_transfer_service.concurrency.daemon_thread import NO_THREAD, beside
from aind_data_transfer_service.errors import (
    CancelledError,
    DestinationExistsError,
    TransferError,
    UploadError,
)
from aind_data_transfer_service.storage.base import AssetStore, Guard, PreconditionFailed
from aind_data_transfer_service.storage.layout import fence_of

logger = logging.getLogger(__name__)

_LAST_WORD = 2.0
"""Seconds that a job which ends has to write so into its lease."""
_TURN = 0.2
"""Seconds until a thread that waits for another's renewal looks whether the lease is lost."""
_RENEWALS = 20
"""Attempts to renew a shared lease that other shards renew at the same moment."""
_LONGEST_TTL = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has a clock of its own that counts while the machine is suspended. On macOS the monotonic
clock does; elsewhere a suspended job finds out by the refusal of its next renewal."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """The intervals of a lease, in seconds."""

    ttl: float = 150.0
    """A holder that has not renewed the lease for this long is considered dead."""
    interval: float = 30.0
    """Time between two renewals."""
    margin: float = 30.0
    """A holder stops this long before the lease expires: requests in flight have ended then."""
    look_every: float = 10.0
    """Time between two looks at the lease of a silent job."""
    patience: float = 600.0
    """How long a holder that has stopped waits for a renewal that shows that the lease is still
    its own: then it continues."""


@dataclass(frozen=True)
class Found:
    """A lease, as it was read."""

    record: Record
    etag: str


@dataclass
class Holding:
    """A lease record that this process holds."""

    key: str
    record: Record
    etag: str
    since: float
    """When the last successful renewal began, by `boottime`."""
    is_shared: bool = False
    """Whether other shards of the job hold it too."""
    remove_at_end: bool = False
    """Whether the record goes when the job ends, however it ends."""


def boottime() -> float:
    """Return seconds that also count while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def new_record(
    prefix: str,
    job_id: str | None,
    started: datetime,
    keep_others: bool,
    fence: int,
    timing: Timing = Timing(),
    is_shared: bool = False,
) -> Record:
    """Make the lease record of a new holder.

    Parameters
    ----------
    prefix : str
        Name of the asset.
    job_id : str | None
        The service's id of the job. It says nothing about the holder: a job that was queued again
        has the same.
    started : datetime
        When the first attempt began.
    keep_others : bool
        Whether files that the job does not send stay where they are.
    fence : int
        The fencing number.
    timing : Timing
        The intervals of the lease.
    is_shared : bool
        Whether the shards of the job share it.
    """
    return _fresh(
        {
            "asset": prefix,
            "job_id": job_id,
            "holder": uuid.uuid4().hex,
            "fence": fence,
            "shared": is_shared,
            "host": socket.gethostname(),
            "boot": boot_id(),
            "started": started.isoformat(),
            "keep_others": keep_others,
            "ttl": timing.ttl,
        }
    )


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the id of this machine since it was started; a random one if it has none."""
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return uuid.uuid4().hex


def ttl_of(record: Record, default: float = Timing.ttl) -> float:
    """Return after how many seconds without a renewal the holder of a lease is dead."""
    ttl = record.get("ttl")
    if isinstance(ttl, int | float) and 0 < ttl <= _LONGEST_TTL:
        return float(ttl)
    return default


def is_ended(record: Record) -> bool:
    """Return whether the holder itself has written that it ended."""
    return record.get("alive") is None


def read_lease(store: AssetStore, key: str) -> Found | None:
    """Read a lease; a damaged one is as good as one whose holder ended."""
    found = store.fetch(key)
    if found is None:
        return None
    try:
        record = json.loads(found[0])
    except ValueError:
        record = {}
    return Found(record if isinstance(record, dict) else {}, found[1])


def write_lease(
    store: AssetStore, key: str, record: Record, replaces: Found | None, is_shared: bool = False
) -> Holding:
    """Create a lease, or take over the one that was found.

    Raises
    ------
    DestinationExistsError
        If another job was faster.
    """
    began, data = boottime(), _encoded(record)
    try:
        if replaces is None:
            etag = store.put(key, data, new=True)
        else:
            etag = store.put(key, data, if_match=replaces.etag)
    except (FileExistsError, PreconditionFailed) as error:
        raise DestinationExistsError(
            f"another job began to send {store.location(record['asset'])} at the same moment"
        ) from error
    return Holding(key, record, etag, began, is_shared)


class Lease(Guard):
    """Holds lease records while a job runs, and stops the job when one of them is lost.

    Parameters
    ----------
    store : AssetStore
        Where the asset is. As long as the lease is held, its `guard` is this lease.
    prefix : str
        Name of the asset.
    holdings : Sequence[Holding]
        The records: that of the asset, and for a shard its own as well.
    timing : Timing
        When they are renewed, and when they expire.
    clock : Callable
        Seconds that only grow, also while the machine is suspended.
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        holdings: Sequence[Holding],
        timing: Timing = Timing(),
        clock: Callable[[], float] = boottime,
    ):
        self._store, self._location = store, store.location(prefix)
        self._holdings, self._timing, self._clock = holdings, timing, clock
        self._deadline = self._next_deadline()
        self._lost: UploadError | None = None
        self._halt = threading.Event()
        self._on_loss: list[Callable[[UploadError], object]] = []
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._renewer = 0
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._renew_often, self._watch)
        ]

    def __enter__(self) -> Self:
        self._store.guard = self
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # "can't start new thread"
            self.__exit__()
            raise TransferError(NO_THREAD) from error
        return self

    def __exit__(self, *_: object) -> None:
        has_ended = self._ended.is_set()
        self._end()
        if not has_ended and self._lost is None:
            wait([beside(self._write_end, "lease")], _LAST_WORD)
        if self._lost is None:
            self._store.guard = Guard()

    @property
    def fence(self) -> int:
        """Return the fencing number of the asset's lease."""
        return fence_of(self._holdings[0].record)

    @property
    def holder(self) -> str:
        """Return the id of the holder of the asset's lease."""
        return str(self._holdings[0].record["holder"])

    def check(self) -> None:
        """Make sure that the asset is still this job's. Cheap: called before every request.

        After the deadline it waits until a renewal succeeds, or the lease is lost; not after the
        last renewal.

        Raises
        ------
        DestinationExistsError
            If another job has taken it over.
        TransferError
            If the lease was not renewed in time.
        """
        if self._lost is None and self.is_expired():
            with self._changed:
                self._changed.wait_for(
                    lambda: self._lost or self._ended.is_set() or not self.is_expired()
                )
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        """Raise what `check` raises, without waiting for a renewal."""
        if self._lost is None and self._ended.is_set() and self.is_expired():
            raise self._expired()
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))

    def is_expired(self) -> bool:
        """Return whether nothing may be sent now, but by the thread that renews the lease."""
        return self._clock() > self._deadline and threading.get_ident() != self._renewer

    def on_loss(self, stop: Callable[[UploadError], object]) -> None:
        """Have something stopped, from another thread, at the moment when the lease is lost."""
        with self._lock:
            self._on_loss.append(stop)
            lost = self._lost
        if lost is not None:
            stop(lost)

    def renew(self) -> None:
        """Renew the lease now: the store itself confirms that it is still this job's.

        Raises
        ------
        DestinationExistsError
            If another job has taken it over.
        UploadError
            If the store cannot be asked.
        """
        while not self._renewing.acquire(timeout=_TURN):  # `check` could wait for this very thread
            self._raise_if_over()
        try:
            self._renewer = threading.get_ident()
            for holding in self._holdings:
                self._renew(holding)
            with self._changed:
                self._deadline = self._next_deadline()
                self._changed.notify_all()
        except DestinationExistsError as error:
            self._lose(error)
            raise
        except CancelledError:
            self.check()
            raise
        finally:
            self._renewer = 0
            self._renewing.release()

    def release(self) -> None:
        """Stop renewing, and remove the records: the asset is published, or was never begun.

        Raises
        ------
        UploadError
            If they cannot be removed. A published asset is published all the same.
        """
        self._end()
        self._await_renewer()
        self._store.delete_matching({one.key: one.etag for one in self._holdings})

    def _renew_often(self) -> None:
        """Renew the records until the job ends."""
        while not self._ended.wait(self._timing.interval) and self._lost is None:
            try:
                self.renew()
            except DestinationExistsError:  # which stopped the job
                return
            except UploadError as error:  # the store is away
                logger.warning("the lease on %s was not renewed: %s", self._location, error)
                if self._clock() > self._deadline:
                    self._lose(self._expired())
            except BaseException as error:
                logger.exception("the lease on %s was not renewed", self._location)
                words = " ".join(f"{type(error).__name__}: {error}".split())
                self._lose(
                    TransferError(
                        f"the lease on {self._location} could not be renewed ({words}); run the "
                        "job again, it continues where it stopped"
                    )
                )

    def _watch(self) -> None:
        """Stop the job when patience is at its end, whatever the renewal is waiting for."""
        while self._lost is None:
            left = self._deadline + self._timing.patience - self._clock()
            if left < 0:
                self._lose(self._expired())
            elif self._ended.wait(left):
                return

    def _renew(self, holding: Holding) -> None:
        """Renew one record."""
        for _ in range(_RENEWALS):
            began, record = self._clock(), _fresh(holding.record)
            try:
                holding.etag = self._store.put(
                    holding.key, _encoded(record), halt=self._halt, if_match=holding.etag
                )
                holding.since = began
                return
            except PreconditionFailed:
                found = read_lease(self._store, holding.key)
                if found is None or found.record.get("holder") != holding.record["holder"]:
                    raise DestinationExistsError(
                        f"another job has taken {self._location} over: this one had not renewed "
                        "its lease in time"
                    ) from None
                # another shard renewed it, or the answer to the last renewal was lost
                holding.etag = found.etag
                if holding.is_shared:
                    _adopt(holding.record, found.record)
        raise TransferError(f"{_RENEWALS} attempts to renew a shared lease collided")

    def _end(self) -> None:
        """Note that nothing is renewed any more; nobody waits for a renewal then."""
        with self._changed:
            self._ended.set()
            self._changed.notify_all()

    def _await_renewer(self) -> None:
        """Wait for a renewal that has begun, until the deadline."""
        if self._threads[0].is_alive():
            self._threads[0].join(self._left())

    def _left(self) -> float:
        """Return the seconds until the deadline."""
        return max(0.0, self._deadline - self._clock())

    def _next_deadline(self) -> float:
        """Return when the job has to stop unless it renews its leases before."""
        oldest = min(holding.since for holding in self._holdings)
        return oldest + self._timing.ttl - self._timing.margin

    def _expired(self) -> TransferError:
        """Say that the lease was not renewed in time."""
        return TransferError(
            f"the lease on {self._location} could not be renewed for "
            f"{self._clock() - min(one.since for one in self._holdings):.0f} s: the store could "
            "not be reached; nothing more was sent meanwhile. Run the job again, it continues "
            "where it stopped"
        )

    def _lose(self, error: UploadError) -> None:
        """Note that the lease is lost, and stop everything that depends on it."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = error
            waiting = list(self._on_loss)
        self._halt.set()
        with self._changed:
            self._changed.notify_all()
        for stop in waiting:
            stop(error)

    def _write_end(self) -> None:
        """Let the next job begin at once."""
        self._await_renewer()
        for holding in self._holdings:
            try:
                if holding.remove_at_end:
                    self._store.delete_matching({holding.key: holding.etag})
                elif not holding.is_shared:
                    record = _fresh(holding.record) | {"alive": None}
                    self._store.put(holding.key, _encoded(record), if_match=holding.etag)
            except Exception as error:  # the lease expires then
                logger.warning("the lease on %s was not ended: %s", self._location, error)


def _adopt(record: Record, found: Record) -> None:
    """Take over what another shard found out about the asset, and wrote into the shared lease."""
    record["fence"] = max(fence_of(record), fence_of(found))
    record["keep_others"] = bool(record.get("keep_others") or found.get("keep_others"))


def _fresh(record: Record) -> Record:
    """Return a record as it is written next: never the same bytes twice."""
    return record | {"alive": datetime.now(UTC).isoformat(), "nonce": uuid.uuid4().hex}


def _encoded(record: Record) -> bytes:
    """Return the bytes of a record."""
    return json.dumps(record, indent=2).encode()
