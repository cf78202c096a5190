"""The right to write an asset, and what is left of an earlier attempt at it.

A job that writes an asset holds a lock on this machine and leaves a mark beside the asset, until
the asset is verified. A job that finds the mark goes on where the earlier one stopped.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    TransferError,
)
from aind_data_transfer_service.upload.manifest import Entry, Journal, Manifest
from aind_data_transfer_service.upload.store import (
    AssetState,
    AssetStore,
    manifest_key,
    mark_key,
    record_folder,
)


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

    Raises
    ------
    DestinationExistsError
        Where another job holds it.
    """
    with _lock(state_dir, store.location(prefix)):
        mark = _read_mark(store, prefix) if state == AssetState.PARTIAL else None
        started = _time(mark.get("started")) if mark else None
        started = started or now()
        keep = force or bool(mark and mark.get("keep_others"))
        _write_mark(store, prefix, mark is None, started, keep, job_id)
        resumed = mark is not None or _is_taken(store, prefix, force)
        with Journal(state_dir / "journal.jsonl") as journal:
            yield Claim(started, resumed, keep, journal, Earlier(store, prefix))


def _is_taken(store: AssetStore, prefix: str, force: bool) -> bool:
    """Tell whether there is an asset, now that nobody else can begin one.

    It may have been completed since the destination was looked at, by a job on another machine.
    """
    taken = next(store.objects(prefix), None) is not None
    if taken and not force:
        store.delete([mark_key(prefix)])
        raise DestinationExistsError(
            f"another job completed {store.location(prefix)} meanwhile; to upload into it all the "
            "same, set force_cloud_sync"
        )
    return taken


def _unwritable(state_dir: Path, error: OSError) -> TransferError:
    """Say that this machine cannot keep the record of a transfer."""
    return TransferError(
        f"the record of this transfer cannot be kept in {state_dir}: {error.strerror}; set "
        "UPLOAD_STATE_DIR to a folder that can be written"
    )


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


def _locked(path: Path, location: str) -> IO[str]:
    """Open a file and lock it; once more where whoever held it removed it in between."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "w")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(path.parent, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise DestinationExistsError(
                f"another job on this machine is sending {location} just now"
            ) from error
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
        lock.close()


def release(store: AssetStore, prefix: str, claim: Claim) -> None:
    """Leave nothing beside the asset but its manifest; last of all the mark goes: it is whole."""
    claim.journal.remove()
    beside = [item.key for item in store.objects(record_folder(prefix))]
    store.delete([key for key in beside if key not in (manifest_key(prefix), mark_key(prefix))])
    store.delete([mark_key(prefix)])


def _read_mark(store: AssetStore, prefix: str) -> dict[str, Any] | None:
    """Read what an earlier job left word of, if any; a damaged mark is as good as an empty one."""
    data = store.get(mark_key(prefix))
    if data is None:
        return None
    try:
        mark = json.loads(data)
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}


def _write_mark(
    store: AssetStore,
    prefix: str,
    new: bool,
    started: datetime,
    keep: bool,
    job_id: str | None,
) -> None:
    """Leave word that this asset is being written."""
    mark = {
        "asset": prefix,
        "job_id": job_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started.isoformat(),
        "keep_others": keep,
    }
    data = json.dumps(mark, indent=2).encode()
    try:
        store.put(mark_key(prefix), data, new)
    except FileExistsError as error:
        raise DestinationExistsError(
            f"another job began to send {store.location(prefix)} at the same moment"
        ) from error


def _time(text: Any) -> datetime | None:
    """Read a time of a mark."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
