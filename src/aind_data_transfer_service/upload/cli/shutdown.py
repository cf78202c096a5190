"""Graceful shutdown of a job: signals, what they mean, and the deadline after which it is over.

A signal only wakes a watchdog thread. That decides whether a user cancelled the job or something
else terminated it, stops all work (`Halt`), and then interrupts the main thread, so that whatever
waits there breaks off and cleans up. The signal that announces a time limit lets requests in
flight end first. What hangs all the same, such as a read from a drive that is
gone, ends with the process: at the deadline the watchdog has the last word said, and exits.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, Self

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import (
    CancelledError,
    TerminatedError,
    TimeLimitError,
    UploadError,
)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Each ends the job; SIGINT, that is Ctrl-C, is a user's cancellation."""
TIME_LIMIT_SIGNAL = signal.SIGUSR1
"""Announces that the time limit is near: the job ends what it has in flight, and then itself."""
_HEARD = (*SIGNALS, TIME_LIMIT_SIGNAL)
_WIND_DOWN = 30.0
"""Seconds that requests in flight have to end then. The signal comes a minute before the limit."""
_DEADLINE = 7.0
"""Seconds from a signal until the watchdog steps in. Supervisors kill the job after ten."""
_LAST_WORD = 2.0
"""Seconds after that for the last event to be written and to reach the service."""
_KNOCK_EVERY = 0.2
"""Seconds until the main thread is interrupted again: a signal that comes between Python's look for
one and a system call is not noticed before that call returns."""
_LOOK_EVERY = 0.5
"""Seconds between two looks for a signal that a hanging main thread has not taken."""
_CLOSED, _STOPPED = b"\xfe", b"\xff"
"""What wakes the watchdog besides the numbers of signals."""


class Halted(BaseException):
    """The job has to stop, for the reason of its `Halt`.

    Raised in the main thread wherever that is; no code on the way may take it for an error of its
    own.

    Attributes
    ----------
    reason : UploadError
        The error that ends the job.
    """

    def __init__(self, reason: UploadError):
        """Carry the reason."""
        self.reason = reason
        super().__init__(str(reason))


class LastWord(Protocol):
    """Says how a job ends."""

    @property
    def code(self) -> int:
        """The exit code."""
        ...

    def overdue(self, reason: UploadError) -> None:
        """Say why the job ends, unless that was said; called in a thread of its own."""
        ...


class Shutdown:
    """Ends a job on a signal, or when its `Halt` is set, within a bounded time.

    As a context manager it installs the signal handlers, and restores the former ones.

    Parameters
    ----------
    halt : Halt
        Stops all work.
    last_word : LastWord
        How the job ends.
    deadline : float
        Seconds from a signal until the process is ended.
    leave : Callable
        Ends the process at once with an exit code.
    """

    def __init__(
        self,
        halt: Halt,
        last_word: LastWord,
        deadline: float = _DEADLINE,
        leave: Callable[[int], object] = os._exit,
    ):
        self.is_cancelled: Callable[[], bool] = lambda: False
        """Returns, soon, whether a user cancelled the job; called in the watchdog's thread."""
        self._halt, self._last_word = halt, last_word
        self._deadline, self._leave = deadline, leave
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._is_protected = self._is_broken_off = False

    def __enter__(self) -> Self:
        """Install the handlers.

        Raises
        ------
        RuntimeError
            If no thread can be started.
        Halted
            If work has to stop already.
        """
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="shutdown", daemon=True)
        self._wakeup, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._former = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        self._handlers = {
            number: signal.signal(number, self._handle)
            for number in _HEARD
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
        }
        try:
            self._thread.start()
        except RuntimeError:
            self._restore()
            raise
        try:
            self._halt.listen(self._interrupt)
        except BaseException:  # work has to stop already
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.protect()
        with self._lock:
            self._closed.set()
        os.write(self._wake, _CLOSED)
        self._thread.join()
        self._restore()

    def protect(self) -> None:
        """Interrupt the main thread no more: the outcome of the job is certain."""
        self._is_protected = True

    def _restore(self) -> None:
        """Restore the former handlers."""
        sys.unraisablehook = self._unraisable
        signal.set_wakeup_fd(self._former)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._wakeup)

    def _handle(self, *_: object) -> None:
        """Break off what the main thread does: once, and only after the watchdog said why."""
        if self._halt.reason is not None and not (self._is_protected or self._is_broken_off):
            self._is_broken_off = True
            raise Halted(self._halt.reason)

    def _lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Break off once more where Python had no way to pass it on, as in a finalizer."""
        if isinstance(unraisable.exc_value, Halted):
            self._is_broken_off = False
        else:
            self._unraisable(unraisable)

    def _interrupt(self) -> None:
        """Wake the watchdog, and have the main thread break off."""
        with self._lock:
            if not self._closed.is_set():
                os.write(self._wake, _STOPPED)
        self._knock()

    def _knock(self) -> None:
        """Have the main thread run its signal handler, unless it did."""
        with self._lock:
            if not (self._is_protected or self._is_broken_off or self._closed.is_set()):
                signal.pthread_kill(self._main, signal.SIGTERM)

    def _watch(self) -> None:
        """Wait for a signal, stop all work, and end the process when its time is over."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # those are for the main thread
        while (number := self._next_signal()) == TIME_LIMIT_SIGNAL:
            limit = TimeLimitError("stopped before its time limit; submit again with a longer one")
            beside(partial(self._halt.wind_down, limit, _WIND_DOWN), "wind down")
        if number is None:
            return
        end = time.monotonic() + self._deadline
        reason = self._halt.stop(self._halt.reason or self._reason(number))
        while (left := end - time.monotonic()) > 0:
            if self._closed.wait(min(left, _KNOCK_EVERY)):
                return
            self._knock()
        said = threading.Event()
        answer = beside(lambda: self._last_word.overdue(reason), "last word")
        answer.add_done_callback(lambda _: said.set())
        said.wait(_LAST_WORD)
        with self._lock:
            if not self._closed.is_set():
                self._leave(self._last_word.code)

    def _next_signal(self) -> int | None:
        """Wait for a signal, or for the halt; return None once the job is over.

        A main thread that hangs in the kernel takes no signal, which then stays pending.
        """
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        while True:
            if poll.poll(_LOOK_EVERY * 1000):
                [byte] = os.read(self._wakeup, 1)
                if byte == _CLOSED[0]:
                    return None
                if byte in _HEARD or byte == _STOPPED[0]:
                    return byte
            elif pending := signal.sigpending() & set(SIGNALS):
                return int(min(pending))

    def _reason(self, number: int) -> UploadError:
        """Say whether a user cancelled the job, or what terminated it."""
        if number == signal.SIGINT or self.is_cancelled():
            return CancelledError("cancelled")
        return TerminatedError(
            f"terminated by {signal.Signals(number).name} (time limit, preemption or shutdown); "
            "what was sent is kept: resubmit the job to resume it"
        )
