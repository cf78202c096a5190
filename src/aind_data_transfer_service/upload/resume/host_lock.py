"""Locks on this machine: the record of a transfer has one writer at a time."""

import errno
import fcntl
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aind_data_transfer_service.errors import DestinationExistsError, TransferError
from aind_data_transfer_service.source_paths.drive_retry import reason
from aind_data_transfer_service.storage.system_calls import has_no_locks
from aind_data_transfer_service.upload.manifest.shard_records import shard_folder

logger = logging.getLogger(__name__)

_STATE_SETTINGS = "UPLOAD_STATE_DIR (of jobs on a cluster: HPC_CURRENT_WORKING_DIRECTORY)"
"""The settings that say where the record of a transfer is kept."""
_MOST_REMOVALS = 20
"""How often a file may be removed between opening and locking it."""


def _unwritable(state_dir: Path, error: OSError) -> TransferError:
    """Say that this machine cannot keep the record of a transfer."""
    return TransferError(
        f"the record of this transfer cannot be kept in {state_dir}: {error.strerror}; set "
        f"{_STATE_SETTINGS} to a folder that can be written"
    )


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
def hold_host_lock(state_dir: Path, location: str) -> Iterator[IO[str]]:
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
def hold_shared_host_lock(state_dir: Path, location: str, job_id: str) -> Iterator[IO[str]]:
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
