"""Graceful shutdown of a job: signals, what they mean, and the deadline after which it is over.

A signal only wakes a watchdog thread. That decides whether a user cancelled the job or something
else terminated it, stops all work (`Halt`), and then interrupts the main thread, so that whatever
waits there breaks off and cleans up. The signal that announces a time limit lets requests in
flight end first. What hangs all the same, such as a read from a drive that is
gone, ends with the process: at the deadline the watchdog has the last word said, and exits.

The watchdog itself must not wait for anything without a deadline. What may hang runs in threads
that are started with it, because the system may refuse another one when it is needed.
"""

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, Self

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.errors import (
    CancelledError,
    TerminatedError,
    TimeLimitError,
    UploadError,
)

logger = logging.getLogger(__name__)

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


class _Standby:
    """A thread that runs calls one after the other, and is there before the first of them.

    Parameters
    ----------
    name : str
        What the thread is called.
    """

    def __init__(self, name: str):
        self._calls: SimpleQueue[tuple[Callable[[], Any], threading.Event] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; raise a `RuntimeError` if the system refuses it."""
        self._thread.start()

    def run(self, call: Callable[[], Any]) -> threading.Event:
        """Have something called, and return what is set once that has ended."""
        has_ended = threading.Event()
        self._calls.put((call, has_ended))
        return has_ended

    def end(self) -> None:
        """Let the thread end after its calls; it is not waited for."""
        self._calls.put(None)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # those are for the main thread
        while (item := self._calls.get()) is not None:
            call, has_ended = item
            try:
                call()
            except Exception as error:  # the job ends all the same
                logger.error("the shutdown of the job failed: %s", error, exc_info=error)
            finally:
                has_ended.set()


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
        self._wind_down, self._speaker = _Standby("wind down"), _Standby("last word")

    def __enter__(self) -> Self:
        """Install the handlers.

        Raises
        ------
        RuntimeError
            If the threads cannot be started.
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
            self._wind_down.start()
            self._speaker.start()
            self._thread.start()
        except RuntimeError:
            self._end_standbys()
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
        self._rouse(_CLOSED)
        self._thread.join()
        self._end_standbys()
        self._restore()

    def protect(self) -> None:
        """Interrupt the main thread no more: the outcome of the job is certain."""
        self._is_protected = True

    def _rouse(self, byte: bytes) -> None:
        """Wake the watchdog; it is awake already if the pipe is full, as of a flood of signals."""
        with suppress(BlockingIOError):
            os.write(self._wake, byte)

    def _end_standbys(self) -> None:
        """Let the threads end that wait for something to do."""
        self._wind_down.end()
        self._speaker.end()

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
                self._rouse(_STOPPED)
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
            self._wind_down.run(partial(self._halt.wind_down, limit, _WIND_DOWN))
        if number is None:
            return
        end = time.monotonic() + self._deadline
        reason = self._stop(number)
        while (left := end - time.monotonic()) > 0:
            if self._closed.wait(min(left, _KNOCK_EVERY)):
                return
            self._knock()
        self._speaker.run(partial(self._last_word.overdue, reason)).wait(_LAST_WORD)
        with self._lock:
            if not self._closed.is_set():
                self._leave(self._last_word.code)

    def _stop(self, number: int) -> UploadError:
        """Stop all work, and return why; a listener that fails does not keep the job alive."""
        reason = self._halt.reason or self._reason(number)
        try:
            return self._halt.stop(reason)
        except Exception as error:
            logger.error("the job could not be stopped in order: %s", error, exc_info=error)
            return self._halt.reason or reason

    def _next_signal(self) -> int | None:
        """Wait for a signal, or for the halt; return None once the job is over.

        A main thread that hangs in the kernel takes no signal, which then stays pending.
        """
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        while not self._closed.is_set():
            if poll.poll(_LOOK_EVERY * 1000):
                [byte] = os.read(self._wakeup, 1)
                if byte == _CLOSED[0]:
                    return None
                if byte in _HEARD or byte == _STOPPED[0]:
                    return byte
            elif pending := signal.sigpending() & set(SIGNALS):
                return int(min(pending))
        return None

    def _reason(self, number: int) -> UploadError:
        """Say whether a user cancelled the job, or what terminated it."""
        if number == signal.SIGINT or self._was_cancelled():
            return CancelledError("cancelled")
        return TerminatedError(
            f"terminated by {signal.Signals(number).name} (time limit, preemption or shutdown); "
            "what was sent is kept: resubmit the job to resume it"
        )

    def _was_cancelled(self) -> bool:
        """Return whether a user cancelled the job; not if that cannot be found out."""
        try:
            return self.is_cancelled()
        except Exception as error:
            logger.warning("whether the job was cancelled cannot be found out: %s", error)
            return False
