"""A system that allows no more than a few further threads."""

import threading
from unittest.mock import patch


def limit_threads(most):
    """Let the system start only so many threads from now on."""
    start, lock, left = threading.Thread.start, threading.Lock(), [most]

    def limited(thread):
        with lock:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    return patch.object(threading.Thread, "start", limited)
