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
from types import FrameType

from aind_data_transfer_service.beside import start_thread

logger = logging.getLogger(__name__)

LONGEST = 9.0
"""Seconds from the signal to the end. Service managers wait for ten at least."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
FORCED = 1
"""The exit code of a process that could not end by itself."""


def end_in_time(seconds: float = LONGEST) -> None:
    """Have the process end so long after a signal at the latest.

    The handlers that are installed already go on doing their work. Does nothing outside the main
    thread, where no handler can be installed.

    Parameters
    ----------
    seconds : float
        From the signal to the end.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        _extend(number, seconds)


def _extend(number: signal.Signals, seconds: float) -> None:
    """Add the deadline to what a signal does already."""
    before = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        start_thread(lambda: _end(seconds), "shutdown")
        if callable(before):
            before(received, frame)
        elif before is not signal.SIG_IGN:
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

    signal.signal(number, handle)


def _end(seconds: float) -> None:
    """Wait, then end the process: its threads hang."""
    time.sleep(seconds)
    logger.error("the service did not end by itself within %g s: something hangs", seconds)
    logging.shutdown()
    os._exit(FORCED)
