"""Retries for reads from drives whose faults may pass, such as network drives that fail over."""

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from aind_data_transfer_service.plain_text import shown

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRANSIENT_NAMES = (
    "EAGAIN",
    "ECONNABORTED",
    "ECONNRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EINTR",
    "EIO",
    "ENETDOWN",
    "ENETUNREACH",
    "ENOTCONN",
    "EREMOTEIO",
    "ESTALE",
    "ETIMEDOUT",
)
TRANSIENT = frozenset(getattr(errno, name) for name in _TRANSIENT_NAMES if hasattr(errno, name))
"""Errors of a read that may succeed when the file is opened again; not every system has all."""
DELAYS = (0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds before each retry, 138 in all: an NFS server that fails over answers again within its
grace period, which is 90 seconds by default."""


class Drive:
    """The drives that a job reads from, with retries. May be used from several threads at once.

    Once a fault has outlasted all retries, later faults are final at once: the job is about to
    fail, and a drive with a thousand bad files must not be waited for a thousand times.

    Parameters
    ----------
    tell : Callable
        Receives one warning, at the first retry.
    delays : Sequence[float] | None
        Seconds before each retry; by default `DELAYS`.
    """

    def __init__(
        self,
        tell: Callable[[str], None] = logger.warning,
        delays: Sequence[float] | None = None,
    ):
        self._tell = tell
        self._delays = delays
        self._lost = threading.Event()
        self._lock = threading.Lock()
        self._told = False

    def run(self, path: str, work: Callable[[], T]) -> T:
        """Return the result of an operation, and retry it if it fails with a transient error.

        Parameters
        ----------
        path : str
            What is read, for the warning.
        work : Callable
            The operation; it opens files itself.

        Raises
        ------
        OSError
            If the error is not transient, or does not pass.
        """
        try:
            return work()
        except OSError as error:
            return self.retry(path, work, error)

    def retry(self, path: str, work: Callable[[], T], error: OSError) -> T:
        """Do the same as `run` for an operation that has just failed."""
        for delay in self._waits():
            if error.errno not in TRANSIENT or self._lost.is_set():
                raise error
            self._tell_once(path, error)
            self._lost.wait(delay)
            try:
                return work()
            except OSError as latest:
                error = latest
        if error.errno in TRANSIENT:
            self._lost.set()
        raise error

    def _waits(self) -> Sequence[float]:
        """Return the seconds before each retry."""
        return DELAYS if self._delays is None else self._delays

    def _tell_once(self, path: str, error: OSError) -> None:
        """Warn at the first retry of the job."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._tell(
                f"{path} could not be read: {reason(error)}; the read is retried for up to "
                f"{sum(self._waits()):.0f} seconds. Further retries of this job are not reported"
            )


def reason(error: OSError) -> str:
    """Return what an error says, with its name: `Stale file handle (ESTALE)`."""
    name = errno.errorcode.get(error.errno or 0)
    return f"{error.strerror} ({name})" if name else str(error.strerror or error)


def unreadable(path: str, error: OSError) -> str:
    """Return the message that a path cannot be read, with the reason."""
    return f"{shown(path)} cannot be read: {reason(error)}"
