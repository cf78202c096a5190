"""Root without its power over files, so that what it may not read is denied to it too."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION_3 = 0x20080522
_POWERS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def unprivileged() -> Iterator[None]:
    """Take the power from this thread, and from those that it starts meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION_3, 0))
    before = ctypes.create_string_buffer(24)

    def call(name: str, data: ctypes.Array) -> None:
        if getattr(libc, name)(header, data):
            raise OSError(ctypes.get_errno(), name)

    call("capget", before)
    effective, *rest = struct.unpack("6I", before.raw[:24])
    call("capset", ctypes.create_string_buffer(struct.pack("6I", effective & ~_POWERS, *rest)))
    try:
        yield
    finally:
        call("capset", before)
