"""Opening the files of one source, and nothing outside it.

The source's real path is found once, without links. From there a file is reached folder by folder,
none of which may be a link, and neither may the file. Only the links that the scan found and judged
are followed: not themselves, but by the real path that was judged. So a file or folder that is
swapped for a link after the scan leads nowhere, and a link that is changed leads where it did.
Folders that are in use stay open: a file in them costs no more to open than by its path.
"""

import errno
import os
import threading

from aind_data_transfer_service.source_paths.roots import (
    NO_LINK,
    open_folder,
    open_real,
    open_real_folder,
)

_HELD = 16
"""How many folders stay open. Files are sent in the order of their names."""
_IS_LINK = frozenset({errno.ELOOP, errno.EMLINK})
"""What opening a link without following it says; the latter on BSD."""
LED_AWAY = frozenset({*_IS_LINK, errno.ENOTDIR})
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
        self.links: dict[str, str] = {}
        """Where links in the source lead, to files or folders: a real path by each link's name."""
        self._held: dict[str, _Folder] = {}
        self._lock = threading.Lock()

    @property
    def real(self) -> str:
        """Return where the source really is."""
        if self._real is None:
            self._real = os.path.realpath(self._root)
        return self._real

    def target_of(self, name: str) -> str | None:
        """Return the real path of something that is reached over a link; None if it is not."""
        link = self.last_link(name)
        return None if link is None else self.links[link] + name[len(link) :]

    def real_path(self, name: str) -> str:
        """Return where a file or folder of the source really is."""
        return self.target_of(name) or (f"{self.real}/{name}" if name else self.real)

    def last_link(self, name: str) -> str | None:
        """Return the last link on the way to something, which may be that itself."""
        while name and self.links:
            if name in self.links:
                return name
            name = name.rpartition("/")[0]
        return None

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
        if name in self.links:
            return open_real(self.links[name], NO_LINK)
        folder, _, base = name.rpartition("/")
        held = self._held.get(folder)
        try:
            return (held or self._reach(folder)).open(base)
        except OSError as error:
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
            if not name or name in self.links:
                return open_real(self.real_path(name), NO_LINK | os.O_DIRECTORY)
            return self._reach(parent).open(base, NO_LINK | os.O_DIRECTORY)
        except OSError:
            self.let_go()
            raise

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
            target = self.links.get(path)
            held = _Folder(open_real_folder(target)) if target else held.enter(name)
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
