"""The end of the process within seconds of SIGTERM or SIGINT, whatever hangs.

Usually the server ends by itself. But a thread that waits for a hung drive or database cannot be
stopped, and Python waits for it at exit. All that must survive is in the database and in the jobs'
folders, so that nothing is lost by leaving at once.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aind_data_transfer_service.concurrency.daemon_thread import start_thread

logger = logging.getLogger(__name__)

LONGEST = 9.0
"""Seconds from the signal to the end. Service managers wait for ten at least."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CODE = 1
"""Of a process that could not end by itself."""
_LAST_WORDS = 0.5
_Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def ended_in_time(seconds: float = LONGEST) -> Iterator[None]:
    """Have the process end so long after a signal at the latest, if the signal comes meanwhile.

    The handlers that are installed already go on doing their work, and are put back at the end.
    Nothing happens outside the main thread, where no handler can be installed.

    Parameters
    ----------
    seconds : float
        From the signal to the end.
    """
    before: dict[signal.Signals, _Handler] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):  # a signal that is ignored, or ends the process at once, stays so
                before[number] = handler
    for number, handler in before.items():
        signal.signal(number, _with_deadline(handler, seconds))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_deadline(handler: _Handler, seconds: float) -> _Handler:
    """Add the deadline to what a signal does already."""

    def handle(number: int, frame: FrameType | None) -> None:
        start_thread(lambda: _end(seconds), "shutdown")
        handler(number, frame)

    return handle


def _end(seconds: float) -> None:
    """Wait, then end the process: its threads hang. The log may hang as well."""
    time.sleep(seconds)
    told = threading.Event()

    def tell() -> None:
        logger.error("the service did not end by itself within %g s: something hangs", seconds)
        told.set()

    start_thread(tell, "last words")
    told.wait(_LAST_WORDS)
    os._exit(EXIT_CODE)
