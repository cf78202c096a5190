"""A locked file that shows that a process of this machine lives.

A lease in the database has to expire before another process takes over. On the same machine there
is no need to wait for that: the kernel releases the file lock of a process when it dies, however
it dies.
"""

import fcntl
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LivenessFile:
    """The locked file of one process, and a look at those of others.

    Parameters
    ----------
    folder : Path
        Where the files are.
    holder : str
        Id of this process.
    """

    def __init__(self, folder: Path, holder: str):
        self._folder = folder
        self._holder = holder
        self._descriptor: int | None = None

    def open(self) -> None:
        """Make and lock the file of this process, and remove those of dead ones.

        If that is not possible, other processes wait until the lease expires.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._folder / self._holder, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, _boot_id().encode())
            self._descriptor = descriptor
            for file in list(self._folder.iterdir()):
                if self.is_dead(file.name):
                    file.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("service lease: no file can be locked in %s: %s", self._folder, error)

    def is_dead(self, holder: str) -> bool:
        """Return whether a process is known to be dead. One of another machine never is."""
        if holder == self._holder:
            return False
        try:
            descriptor = os.open(self._folder / holder, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.read(descriptor, 100).decode("utf-8", "replace") != _boot_id():
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """Remove the file of this process."""
        if self._descriptor is not None:
            (self._folder / self._holder).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def _boot_id() -> str:
    """Return what is the same for all processes of a running kernel, and no others."""
    return _BOOT_ID.read_text(encoding="ascii").strip()
