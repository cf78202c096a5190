"""Which holders of leases were processes of this machine that are dead."""

import fcntl
from pathlib import Path
from typing import IO

from aind_data_transfer_service.upload.resume.lease import Record, boot_id


class HoldersHere:
    """The ids of holders, in the file whose lock each of them held on this machine.

    By it a holder is known to be dead: this process has the lock that it held, and the machine was
    not started since. A host name and a path prove nothing, for containers share them; nor does a
    lock that a network file system grants twice.

    Parameters
    ----------
    lock : IO[str]
        The file, locked by this process.
    """

    def __init__(self, lock: IO[str]):
        self._lock = lock
        self._excludes = _excludes(lock)
        self._holders = _read_holders(Path(lock.name))

    def note(self, holder: str) -> None:
        """Note the id under which this process will hold a lease."""
        self._lock.write(f"{holder}\n")
        self._lock.flush()

    def died(self, record: Record, lock: Path | None = None) -> bool:
        """Return whether the holder of a record was a process on this machine that is dead.

        Parameters
        ----------
        record : Record
            The lease.
        lock : Path | None
            Another file whose lock it held, together with the lock of this one.
        """
        holders = self._holders if lock is None else _read_holders(lock)
        is_this_machine = record.get("boot") == boot_id() and self._excludes
        return is_this_machine and record.get("holder") in holders


def _read_holders(path: Path) -> set[str]:
    """Read the ids in a file; none if there is no such file."""
    try:
        return set(path.read_text("utf-8", "replace").split())
    except OSError:
        return set()


def _excludes(lock: IO[str]) -> bool:
    """Return whether a lock that is held keeps others out: not every file system sees to that."""
    with open(lock.name, "rb") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
