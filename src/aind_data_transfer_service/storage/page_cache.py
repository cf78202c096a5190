"""Reading files from the disk rather than from this machine's page cache.

What was just written is read back from memory, unless the page cache lets go of it first.
`POSIX_FADV_DONTNEED` asks for that, and mincore(2) shows whether it was done. O_DIRECT is no better
proof: some file systems accept it and read from a cache all the same, and small files took as long.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import re
from functools import cache
from pathlib import Path

_WINDOW = 1 << 30
"""Bytes of a file that are looked at in one go: mincore gives a byte for each page of them."""
_MOUNTS = Path("/proc/self/mountinfo")
ON_DISK = frozenset("ext2 ext3 ext4 xfs btrfs f2fs jfs ntfs3 vfat exfat overlay".split())
"""File systems of disks whose only cache in this machine is the page cache."""
IN_MEMORY = frozenset(("tmpfs", "ramfs"))


def drop(descriptor: int) -> bool:
    """Have the page cache let go of a file; return whether it did.

    Raises
    ------
    OSError
        If what was written to the file could not be brought to the disk.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    size = os.fstat(descriptor).st_size
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if not _is_cached(descriptor, size):
        return True
    try:
        os.fdatasync(descriptor)  # pages that are not written yet stay
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOSYS):
            raise
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return not _is_cached(descriptor, size)


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, as the kernel names it."""
    with contextlib.suppress(OSError):
        return type_of(os.path.realpath(folder), _MOUNTS.read_text("utf-8", "surrogateescape"))
    return "an unknown file system"


def type_of(path: str, mounts: str) -> str:
    """Find a path in a table of mounts; see proc_pid_mountinfo(5)."""
    best, found = -1, "an unknown file system"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split(" ")[4]).rstrip("/")
        if f"{path}/".startswith(f"{point}/") and len(point) >= best:  # later mounts cover earlier
            best, found = len(point), after.split(" ")[0]
    return found


def source_words(name: str) -> str:
    """Say where bytes come from that are read past the page cache on a type of file system."""
    if name in IN_MEMORY:
        return f"from memory: {name} has no disk"
    if name in ON_DISK:
        return "from the disk"
    return f"through {name}, which may answer from a cache of its own"


def _is_cached(descriptor: int, size: int) -> bool:
    """Return whether any page of a file is in the page cache, or cannot be shown not to be."""
    libc = _libc()
    for start in range(0, size, _WINDOW):
        length = min(_WINDOW, size - start)
        pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        place = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
        if place == ctypes.c_void_p(-1).value:
            return True
        try:
            if libc.mincore(place, length, pages) != 0 or pages.raw.strip(b"\0"):
                return True
        finally:
            libc.munmap(place, length)
    return False


@cache
def _libc() -> ctypes.CDLL:
    """Load the C library, and say what three of its functions take."""
    libc = ctypes.CDLL(None, use_errno=True)
    number, size, pointer = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
    libc.mmap.restype = pointer
    libc.mmap.argtypes = [pointer, size, number, number, number, ctypes.c_longlong]
    libc.mincore.argtypes = [pointer, size, pointer]
    libc.munmap.argtypes = [pointer, size]
    return libc


def _unescaped(text: str) -> str:
    """Read a field of the table: blanks in it are written as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), text)
