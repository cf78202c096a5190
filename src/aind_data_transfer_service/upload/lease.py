"""The sign of life of a job: its mark beside the asset, written again every half minute.

On one machine a lock decides who may write an asset. Between machines the mark does: a job that
finds the mark of another waits until that one has been silent for minutes, and gives up where it
shows a sign of life. No clock but the store's own is compared with any other.
"""

import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aind_data_transfer_service.errors import DestinationExistsError, UploadError
from aind_data_transfer_service.upload.store import AssetStore, mark_key, record_folder

logger = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two signs of life."""
SILENCE = 150.0
"""After so many seconds without one a job is taken for dead."""
_LOOK_EVERY = 10.0
_PATIENCE = 2.0
"""Seconds that a job which ends has to say so."""


def lock_name(state_dir: Path) -> str:
    """Name the lock that a job holds on its machine, without telling where it lies."""
    place = f"{socket.gethostname()}\0{os.path.realpath(state_dir)}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def read_mark(store: AssetStore, prefix: str) -> dict[str, Any] | None:
    """Read what a job left word of, if any; a damaged mark is as good as an empty one."""
    data = store.get(mark_key(prefix))
    if data is None:
        return None
    try:
        mark = json.loads(data)
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}


def write_mark(store: AssetStore, prefix: str, mark: dict[str, Any], new: bool = False) -> None:
    """Leave word that an asset is being written.

    Raises
    ------
    DestinationExistsError
        With `new`, where another job has left word already.
    """
    try:
        store.put(mark_key(prefix), json.dumps(mark, indent=2).encode(), new)
    except FileExistsError as error:
        raise DestinationExistsError(
            f"another job began to send {store.location(prefix)} at the same moment"
        ) from error


def await_silence(
    store: AssetStore,
    prefix: str,
    mark: dict[str, Any],
    job_id: str | None,
    lock: str,
    tell: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the job that left a mark is surely dead.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    mark : dict
        The mark that was found.
    job_id : str | None
        The service's id of this job: an earlier run of the same job is dead.
    lock : str
        The lock that this job holds: whoever held it before is dead.
    tell : Callable
        Takes what whoever asked for the job should know.
    wait : Callable
        Waits for so many seconds.

    Raises
    ------
    DestinationExistsError
        Where that job lives.
    """
    place, host = store.location(prefix), mark.get("host", "another machine")
    same_job = job_id is not None and mark.get("job_id") == job_id
    if mark.get("alive") is None or same_job or mark.get("lock") == lock:
        return
    silent = _silent_for(store, prefix)
    if silent <= SILENCE:
        tell(
            f"a job on {host} was sending {place} {silent:.0f} s ago; this one waits until that "
            f"one has been silent for {SILENCE:.0f} s"
        )
    while silent <= SILENCE:
        wait(_LOOK_EVERY)
        silent += _LOOK_EVERY
        found = read_mark(store, prefix)
        if found is None:
            raise DestinationExistsError(f"a job on {host} completed {place} just now")
        is_ours = job_id is not None and found.get("job_id") == job_id  # a shard's of the same job
        if found.get("alive") is None or is_ours:
            return
        if found != mark:
            raise DestinationExistsError(f"another job, on {host}, is sending {place} just now")


class Lease:
    """Shows signs of life while a job runs, and notices where another took its place.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    mark : dict
        What is said of the job; it has a `holder` of its own.
    shared : bool
        Whether other jobs show the same sign, so that the end of one says nothing.
    interval : float | None
        Seconds between two signs.
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        mark: dict[str, Any],
        shared: bool = False,
        interval: float | None = None,
    ):
        self._store, self._prefix, self._mark, self._shared = store, prefix, mark, shared
        self._interval = INTERVAL if interval is None else interval
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        last = threading.Thread(target=self._say_that_it_ends, daemon=True)
        last.start()
        last.join(_PATIENCE)

    def end(self) -> None:
        """Show no sign any more; the mark may be removed once this returns."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Make sure that the asset is still this job's.

        Raises
        ------
        DestinationExistsError
            Where another job has taken it over.
        """
        found = None if self._lost.is_set() else read_mark(self._store, self._prefix)
        if found is None or found.get("holder") != self._mark.get("holder"):
            raise DestinationExistsError(
                f"another job has taken {self._store.location(self._prefix)} over: this one had "
                "shown no sign of life"
            )

    def _live(self) -> None:
        """Show a sign of life now and then."""
        while not self._ended.wait(self._interval) and not self._lost.is_set():
            self._show(datetime.now(UTC).isoformat())

    def _show(self, alive: str | None) -> None:
        """Write the mark again, where it is still this job's."""
        try:
            found = read_mark(self._store, self._prefix)
            if found is None or found.get("holder") != self._mark.get("holder"):
                self._lost.set()
            else:
                write_mark(self._store, self._prefix, self._mark | {"alive": alive})
        except UploadError as error:
            logger.warning("no sign of life could be shown: %s", error)

    def _say_that_it_ends(self) -> None:
        """Let whoever comes next begin at once."""
        self._thread.join()
        if not self._shared:
            self._show(None)


def new_mark(
    prefix: str, job_id: str | None, state_dir: Path, started: datetime, keep_others: bool
) -> dict[str, Any]:
    """Say of a job what others have to know."""
    return {
        "asset": prefix,
        "job_id": job_id,
        "holder": job_id or uuid.uuid4().hex,
        "lock": lock_name(state_dir),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started.isoformat(),
        "alive": datetime.now(UTC).isoformat(),
        "keep_others": keep_others,
    }


def _silent_for(store: AssetStore, prefix: str) -> float:
    """Tell for how many seconds a mark has not been written, both moments by the store's clock."""
    clock = f"{record_folder(prefix)}/probe-{uuid.uuid4().hex}"
    store.put(clock, b"")
    try:
        times = {item.key: item.modified for item in store.objects(record_folder(prefix))}
    finally:
        store.delete([clock])
    now, last = times.get(clock), times.get(mark_key(prefix))
    return max(0.0, (now - last).total_seconds()) if now and last else 0.0
