"""System calls that Python does not offer: attributes past caches, and renaming without replacing.

Where the system has none of them (not Linux, an old C library), the closest call of Python is made.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from aind_data_transfer_service.storage import page_cache

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_STATX_FORCE_SYNC = 0x2000
_STATX_BASIC_STATS = 0x7FF
_RENAME_NOREPLACE = 1
_NOT_OFFERED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
"""What a system call says that the system or the file system does not have."""

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""What flock(2) says on a file system without locks: ENOSYS from Lustre and FUSE, ENOLCK from NFS,
EOPNOTSUPP from SMB, which macOS calls ENOTSUP. The kernel itself says EINVAL of a wrong argument
alone, and ours are right, so it comes from the file system too."""


class Attributes(NamedTuple):
    """What `os.lstat` returns of a file, as far as a scan needs it."""

    st_mode: int
    st_uid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


class _Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("rest", ctypes.c_uint32), ("pad", ctypes.c_int32)]

    def nanoseconds(self) -> int:
        """Return the time since 1970."""
        return int(self.seconds) * 1_000_000_000 + int(self.rest)


class _Statx(ctypes.Structure):
    """`struct statx` of statx(2), up to the times."""

    _fields_ = [
        ("mask", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("links", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("pad", ctypes.c_uint16),
        ("inode", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("accessed", _Time),
        ("born", _Time),
        ("changed", _Time),
        ("written", _Time),
        ("rest", ctypes.c_uint8 * 128),
    ]


def may_cache_attributes(path: str) -> bool:
    """Return whether the file system of a path may return attributes that are out of date."""
    return page_cache.file_system(Path(path)) not in page_cache.ON_DISK | page_cache.IN_MEMORY


def fresh_status(path: str, follow_symlinks: bool = True) -> Attributes | os.stat_result:
    """Return a file's attributes as its server has them now.

    Network file systems keep attributes for up to a minute. This asks past that cache where the
    file system can be asked so.

    Raises
    ------
    OSError
        If the file is missing, or the server does not answer.
    """
    found = _Statx()
    flags = _AT_STATX_FORCE_SYNC | (0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW)
    arguments = _AT_FDCWD, os.fsencode(path), flags, _STATX_BASIC_STATS, ctypes.byref(found)
    if not _call("statx", path, *arguments):
        return os.stat(path, follow_symlinks=follow_symlinks)
    return Attributes(
        found.mode,
        found.uid,
        found.size,
        found.written.nanoseconds(),
        found.changed.nanoseconds(),
    )


def rename_new(old: Path, new: Path) -> bool:
    """Rename a file unless the new name is taken; return whether the file system offers that.

    Raises
    ------
    FileExistsError
        If the new name is taken.
    """
    names = os.fsencode(old), os.fsencode(new)
    return _call("renameat2", str(new), _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)


def has_no_locks(error: OSError) -> bool:
    """Return whether flock(2) failed because the file system of the file has no locks."""
    return error.errno in _NO_LOCKS


def _call(name: str, path: str, *arguments: object) -> bool:
    """Make a system call; return whether there is one."""
    try:
        function: Callable[..., int] = getattr(_LIBC, name)
    except AttributeError:
        return False
    if function(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), path)
