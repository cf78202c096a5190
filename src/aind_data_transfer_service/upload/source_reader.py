"""Opening the files of one source, and nothing outside it.

The source's real path is found once, without links. From there a file is reached folder by folder,
none of which may be a link, and it may be one itself only if it leads to a file in the same source.
So a file or folder that is swapped for a link after the scan leads nowhere. Folders that are in use
stay open: a file in them costs no more to open than by its path.
"""

import errno
import os
import threading

from aind_data_transfer_service.source_roots import (
    NO_LINK,
    is_under,
    open_folder,
    open_real,
    open_real_folder,
)

_HELD = 16
"""How many folders stay open. Files are sent in the order of their names."""
_IS_LINK = frozenset({errno.ELOOP, errno.EMLINK})
"""What opening a link without following it says; the latter on BSD."""
LED_AWAY = frozenset({*_IS_LINK, errno.ENOTDIR, errno.EXDEV})
"""Errors of a file that is no longer where it was found: a link took its place or its folder's."""


class _Folder:
    """A folder that stays open as long as anyone holds this.

    Its descriptor is used in here alone, so that it is never that of another file: a call of a
    method holds the folder.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    def open(self, name: str, flags: int = NO_LINK) -> int:
        """Open something in it, and return its descriptor."""
        return os.open(name, flags, dir_fd=self._descriptor)

    def enter(self, name: str) -> "_Folder":
        """Open a folder in it."""
        return _Folder(open_folder(name, self._descriptor))


class SourceReader:
    """Opens files of one source. May be used from several threads at once.

    Parameters
    ----------
    root : str
        Where the source is.
    real : str, optional
        Where it really is; by default that is found when the first file is opened.
    """

    def __init__(self, root: str, real: str | None = None):
        self._root, self._real = root, real
        self._held: dict[str, _Folder] = {}
        self._lock = threading.Lock()

    @property
    def real(self) -> str:
        """Return where the source really is."""
        if self._real is None:
            self._real = os.path.realpath(self._root)
        return self._real

    def open_itself(self) -> int:
        """Open a source that is a single file, and return its descriptor.

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        return open_real(self.real, NO_LINK)

    def open(self, name: str) -> int:
        """Open a file of a source that is a folder, and return its descriptor.

        Raises
        ------
        OSError
            If it cannot be opened; one of `LED_AWAY` if it is not in the source any more.
        """
        folder, _, base = name.rpartition("/")
        held = self._held.get(folder)
        try:
            return (held or self._reach(folder)).open(base)
        except OSError as error:
            if error.errno in _IS_LINK:
                return self._follow(name)
            self.let_go()  # the drive may know the folder by another handle now
            if held is None or error.errno != errno.ENOENT:
                raise
        return self._reach(folder).open(base)

    def open_folder(self, name: str) -> int:
        """Open a folder of the source to list it, and return its descriptor.

        Raises
        ------
        OSError
            If it cannot be opened; one of `LED_AWAY` if it is not in the source any more.
        """
        parent, _, base = name.rpartition("/")
        try:
            if not name:
                return open_real(self.real, NO_LINK | os.O_DIRECTORY)
            return self._reach(parent).open(base, NO_LINK | os.O_DIRECTORY)
        except OSError:
            self.let_go()
            raise

    def _follow(self, name: str) -> int:
        """Open what a link leads to, if that is in the source."""
        target = os.path.realpath(f"{self.real}/{name}", strict=True)
        if target == self.real or not is_under(target, self.real):
            raise OSError(errno.EXDEV, f"is a link out of the source ({target})")
        return open_real(target, NO_LINK)

    def _reach(self, folder: str) -> _Folder:
        """Open a folder of the source, from the nearest one that is open."""
        names = folder.split("/") if folder else []
        path, held = "", self._held.get("")
        parent = folder.rpartition("/")[0]
        if parent and (nearest := self._held.get(parent)):
            path, held, names = parent, nearest, names[-1:]
        if held is None:
            held = _Folder(open_real_folder(self.real))
            self._hold("", held)
        for name in names:
            path = f"{path}/{name}" if path else name
            held = held.enter(name)
            if path in (parent, folder):
                self._hold(path, held)
        return held

    def _hold(self, path: str, folder: _Folder) -> None:
        """Keep a folder open, in place of the one that is open for the longest time."""
        with self._lock:
            self._held[path] = folder
            while len(self._held) > _HELD:
                del self._held[next(iter(self._held))]

    def let_go(self) -> None:
        """Keep no folder open: the next file is reached from the source's real path again."""
        with self._lock:
            self._held.clear()
