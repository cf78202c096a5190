"""The inside of a worker process: it answers requests that arrive on its standard input.

A request and a reply are frames: eight bytes of length, then the content. The worker limits its own
memory, gives way to the service's threads, and ends when its standard input closes or, on Linux,
when the process that started it is gone, killed or not.
"""

import ctypes
import gc
import io
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable

HEADER = struct.Struct(">Q")
"""The length in front of each frame."""

READY = b"ready"
"""What a worker sends once it has loaded its modules."""

_NICENESS = 5
_PR_SET_PDEATHSIG = 1


def serve(handle: Callable[[bytes], bytes], warm: Callable[[], object]) -> None:
    """Answer requests until the standard input ends. Arguments: parent's id, bytes of memory.

    Parameters
    ----------
    handle : Callable
        Makes the reply to a request.
    warm : Callable
        Loads what the first request needs; called once, before the worker says that it is ready.
    """
    parent, memory = int(sys.argv[1]), int(sys.argv[2])
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the service, which ends us
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    os.nice(_NICENESS)
    requests, replies = open(0, "rb", closefd=False), open(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a stray print must not end up in a reply
    warm()
    gc.collect()
    gc.freeze()  # the modules stay
    gc.disable()  # a reply is made of objects that are kept; afterwards there is time
    _write(replies, READY)
    while (header := requests.read(HEADER.size)) and len(header) == HEADER.size:
        (length,) = HEADER.unpack(header)
        _write(replies, handle(requests.read(length)))
        gc.collect()


def _write(stream: io.BufferedWriter, content: bytes) -> None:
    """Write a frame."""
    stream.write(HEADER.pack(len(content)))
    stream.write(content)
    stream.flush()


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the system was asked
        raise SystemExit(1)


def _limit(what: int, most: int) -> None:
    """Set a limit of this process, unless a lower one holds already."""
    hard = resource.getrlimit(what)[1]
    if hard == resource.RLIM_INFINITY or most <= hard:
        resource.setrlimit(what, (most, most))
