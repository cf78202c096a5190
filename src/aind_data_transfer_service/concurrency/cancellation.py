"""Stopping all work of a job at once, for one reason."""

import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import TypeVar

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import UploadError

T = TypeVar("T")


class Halt(threading.Event):
    """Tells everything that a job has in flight to break off, and why.

    The reason is the error that ends the job: `CancelledError` if a user asked for it,
    `TerminatedError` after a signal that no user asked for, `TimeLimitError` shortly before the
    job's time limit, and whatever else must stop the job at once, such as the loss of its lease.
    The first reason counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason: UploadError | None = None
        self._guard = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._finishers: list[Callable[[float], bool]] = []

    def wind_down(self, reason: UploadError, seconds: float) -> None:
        """Begin no new request, wait until those in flight have ended, then stop all work.

        Work that has no requests in flight to wait for, such as the verification, goes on.

        Parameters
        ----------
        reason : UploadError
            The error that ends the job.
        seconds : float
            How long to wait at most.
        """
        if any([finish(seconds) for finish in self._finishers]):
            self.stop(reason)

    def on_wind_down(self, finish: Callable[[float], bool]) -> None:
        """Have `finish` called by `wind_down`: it waits, and returns whether there was work."""
        self._finishers.append(finish)

    def stop(self, reason: UploadError) -> UploadError:
        """Stop all work, and return the reason that counts.

        Must not be called by a signal handler, which could interrupt `wait`.
        """
        with self._guard:
            if self.reason is not None:
                return self.reason
            self.reason = reason
            listeners = list(self._listeners)
        self.set()
        for tell in listeners:
            tell()
        return reason

    def listen(self, tell: Callable[[], None]) -> None:
        """Have something called once work is to stop; at once if that is so already."""
        with self._guard:
            self._listeners.append(tell)
            is_late = self.reason is not None
        if is_late:
            tell()

    def check(self) -> None:
        """Raise the reason if work is to stop."""
        if self.reason is not None:
            raise self.reason

    def bounded(self, work: Callable[[], T], name: str, grace: float) -> T:
        """Do something that may go on for at most `grace` seconds once work is to stop.

        Parameters
        ----------
        work : Callable
            What is done, in a background thread.
        name : str
            What the thread is called.
        grace : float
            Seconds.

        Raises
        ------
        TimeoutError
            If it was not done by then; the thread is abandoned.
        """
        answer, woken = beside(work, name), threading.Event()
        answer.add_done_callback(lambda _: woken.set())
        self.listen(woken.set)
        woken.wait()
        wait([answer], grace)
        if not answer.done():
            raise TimeoutError(f"{name}: not done within {grace:g} s")
        return answer.result()
