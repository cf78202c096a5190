"""Which files jobs may read: those under `SOURCE_ROOTS`, and never private ones.

A path is judged by where it really is on the machine that asks: links are followed first, on both
sides, so that a root may be a link, and a link may lead from one root to another. What is opened is
reached without following any further link, folder by folder: nothing that changes in between leads
elsewhere.

Whatever the roots are, these are never read: the system's own folders, the service's `DATA_DIR`,
the folders and files in which programs keep a user's keys, and any folder that contains one of
these. A bind mount of them is found by what it mounts.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import NamedTuple

from aind_data_transfer_service.errors import SourceError

READ_ONLY = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open a file of a source with: a pipe in its place does not block."""
NO_LINK = READ_ONLY | os.O_NOFOLLOW
"""The same for a file that must not be a link."""
_FOLDER = (
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
) | os.O_CLOEXEC
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/run")
_DRIVES = "/run/media"
"""Where Linux desktops mount USB drives, as `/run/media/<user>/<drive>`: such a drive is data."""
_DRIVE_PARTS = 5
"""Parts of the path of such a drive, split at `/`."""
_KEY_NAMES = frozenset(
    {
        *(".ssh", ".aws", ".azure", ".docker", ".gnupg", ".kube", ".password-store"),
        *(".boto", ".git-credentials", ".netrc", ".pgpass", ".s3cfg", ".vault-token"),
    }
)
_KEYS_IN_CONFIG = frozenset({"gcloud", "rclone"})
"""Folders of keys in a folder `.config`."""
_HOME_DEPTH = 3
"""So deep lie folders of users, such as `/home/anna`, that may contain folders of keys."""
_OF_THE_KERNEL = frozenset(
    {
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs"),
        *("securityfs", "configfs", "bpf", "efivarfs", "pstore", "mqueue"),
    }
)
"""File systems that show the machine, wherever they are mounted."""
_ON_THIS_MACHINE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"})
"""File systems that say truly which folder of theirs is mounted. NFS says `/` of all."""
_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


class SourceRoots:
    """The folders that jobs may read, as they are on this machine when it is first asked.

    Parameters
    ----------
    roots : Iterable
        The folders; without one, all but the private ones.
    private : Iterable
        Folders and files that are never read, in addition to the system's.
    real_roots : Sequence of str, optional
        Where the roots really are, if that is known.
    mounts : str, optional
        The text of `/proc/self/mountinfo`; by default that of this process.
    """

    def __init__(
        self,
        roots: Iterable[str | PurePath] = (),
        private: Iterable[str | PurePath] = (),
        real_roots: Sequence[str] | None = None,
        mounts: str | None = None,
    ):
        self.roots = [os.path.normpath(root) for root in roots]
        self._private = [*_SYSTEM, *(os.path.normpath(path) for path in private)]
        self._given_real_roots, self._given_mounts = real_roots, mounts
        self._good_folders: set[str] = set()

    def root_of(self, path: str) -> str | None:
        """Return the root that a path is under by its name."""
        return next((root for root in self.roots if is_under(path, root)), None)

    def name_problem(self, path: str) -> str:
        """Return why a path may not be read by its name alone; an empty text if it may."""
        path = os.path.normpath(path)
        if problem := _private_problem(path, path, self._private):
            return problem
        if self.roots and self.root_of(path) is None:
            return f"{_shown(path)} is {self._outside()}"
        return ""

    def problem(self, path: str) -> str:
        """Return why a path may not be read, links followed; an empty text if it may."""
        try:
            self.resolve(path)
        except SourceError as error:
            return str(error)
        return ""

    def resolve(self, path: str) -> str:
        """Return where a path really is.

        Raises
        ------
        SourceError
            If it may not be read.
        """
        if problem := self.name_problem(path):
            raise SourceError(problem)
        named = os.path.normpath(path)
        real = os.path.realpath(named)
        if problem := self.target_problem(named, real):
            raise SourceError(problem)
        return real

    def target_problem(self, named: str, real: str) -> str:
        """Return why a path may not be read by where it really is; an empty text if it may.

        Parameters
        ----------
        named : str
            The path.
        real : str
            Where it really is.
        """
        private = [*self._private, *self._real_private]
        problem = _private_problem(named, real, private) or self._mount_problem(named, real)
        if not problem and self.roots and not self._is_in_roots(real):
            problem = f"{_shown(named)} leads to {_shown(real)}, which is {self._outside()}"
        return problem

    def _is_in_roots(self, real: str) -> bool:
        """Return whether a path without links is in one of the roots."""
        return any(is_under(real, root) for root in self._real_roots)

    def is_on_this_machine(self, path: str) -> bool:
        """Return whether a path is on a drive of this machine, which does not keep one waiting.

        Only the table of mounts is read. False where there is none.
        """
        backing = self._mounts.backing(path)
        return backing is not None and backing.kind in _ON_THIS_MACHINE

    def open(self, path: str) -> int:
        """Open a file for reading, and return its descriptor.

        Raises
        ------
        SourceError
            If it may not be read.
        OSError
            If it cannot be opened, or was replaced by a link meanwhile.
        """
        return open_real(self.resolve(path), NO_LINK)

    def _outside(self) -> str:
        """Say that a path is under no root, and what to do."""
        return (
            f"not under a folder that may be uploaded ({', '.join(map(_shown, self.roots))}); move "
            "the data there, or have the administrator add their folder to SOURCE_ROOTS"
        )

    @cached_property
    def _real_roots(self) -> Sequence[str]:
        """Where the roots really are."""
        if self._given_real_roots is not None:
            return self._given_real_roots
        return [os.path.realpath(root) for root in self.roots]

    @cached_property
    def _real_private(self) -> list[str]:
        """Where the private folders really are."""
        return [os.path.realpath(path) for path in self._private]

    @cached_property
    def _mounts(self) -> "_Mounts":
        """What is mounted where."""
        if self._given_mounts is not None:
            return _Mounts(self._given_mounts)
        try:
            return _Mounts(_MOUNTS.read_text("utf-8", "surrogateescape"))
        except OSError:  # not Linux
            return _Mounts("")

    @cached_property
    def _private_backings(self) -> list["_Backing"]:
        """Which folders of which file systems the private folders are."""
        found = (self._mounts.backing(path) for path in self._real_private)
        return [backing for backing in found if backing and backing.kind in _ON_THIS_MACHINE]

    def _mount_problem(self, named: str, real: str) -> str:
        """Say what is wrong with the file system of a path, or with one that is mounted in it.

        A folder in which nothing is wrong is remembered: many links may lead to files in it.
        """
        folder = os.path.dirname(real)
        if folder in self._good_folders:
            return ""
        if not self._mount_problem_of(named, folder):
            self._good_folders.add(folder)
            return ""
        return self._mount_problem_of(named, real)

    def _mount_problem_of(self, named: str, real: str) -> str:
        """Find what is wrong in the table of mounts."""
        own = self._mounts.backing(real)
        inner = self._mounts.inside(real)
        for backing in [own, *inner] if own else inner:
            if backing.kind in _OF_THE_KERNEL:
                return f"{_shown(named)} {_NEVER.format(f'a file system of kind {backing.kind}')}"
            for private in self._private_backings:
                if backing.device != private.device:
                    continue
                if _is_nested(backing.folder, private.folder):
                    return f"{_shown(named)} {_NEVER.format('a private folder, mounted there')}"
        return ""


def is_under(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it, by their names."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def holds_keys(parent: str, name: str) -> bool:
    """Return whether a folder or file of this name is where programs keep a user's keys.

    Parameters
    ----------
    parent : str
        The path of its folder.
    name : str
        Its name.
    """
    name = name.rstrip("/")
    if name in _KEY_NAMES:
        return True
    return name in _KEYS_IN_CONFIG and parent.rstrip("/").endswith("/.config")


def keys_problem(path: str) -> str:
    """Return the message that a folder or file of keys lies in a source."""
    return f"{_shown(path)} holds keys, which are never uploaded; move it out of the source"


def contained_keys(path: str) -> str | None:
    """Return a folder or file of keys in what may be a user's folder, or None."""
    if path.count("/") > _HOME_DEPTH:
        return None
    names = [*_KEY_NAMES, *(f".config/{name}" for name in _KEYS_IN_CONFIG)]
    found = (f"{path.rstrip('/')}/{name}" for name in sorted(names))
    return next((one for one in found if os.path.lexists(one)), None)


def open_real(path: str, flags: int) -> int:
    """Open an absolute path without following a link anywhere in it.

    Raises
    ------
    OSError
        If it cannot be opened; ELOOP or ENOTDIR if a link is in it.
    """
    *folders, name = path.strip("/").split("/")
    descriptor = os.open("/", _FOLDER)
    try:
        for folder in folders:
            outer, descriptor = descriptor, open_folder(folder, descriptor)
            os.close(outer)  # named no more: an interruption must not close it twice
        return os.open(name or ".", flags | os.O_NOFOLLOW, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def open_real_folder(path: str) -> int:
    """Open a folder to reach what is in it, without following a link anywhere in its path."""
    return open_real(path, _FOLDER)


def open_folder(name: str, parent: int) -> int:
    """Open a folder in a folder that is open; a link is none."""
    return os.open(name, _FOLDER, dir_fd=parent)


def _is_nested(one: str, other: str) -> bool:
    """Return whether one of two folders lies in the other, or is it."""
    return is_under(one, other) or is_under(other, one)


_NEVER = "is never uploaded: it is, or contains, {}; name another folder"


def _private_problem(named: str, real: str, private: Iterable[str]) -> str:
    """Say which private folder a path is in, or contains."""
    leads = "" if named == real else f" leads to {_shown(real)}, which"
    for folder in private:
        if _is_nested(real, folder) and not (folder == "/run" and _is_on_drive(real)):
            return f"{_shown(named)}{leads} {_NEVER.format(_shown(folder))}"
    for path in {named, real}:
        parent = ""
        for name in path.strip("/").split("/"):
            if holds_keys(parent, name):
                return f"{_shown(named)}{leads} {_NEVER.format(f'keys ({name})')}"
            parent = f"{parent}/{name}"
    return ""


def _is_on_drive(path: str) -> bool:
    """Return whether a path is on a drive that a user plugged in."""
    return is_under(path, _DRIVES) and len(path.rstrip("/").split("/")) >= _DRIVE_PARTS


class _Backing(NamedTuple):
    """A folder by the file system that it is on."""

    device: str
    folder: str
    kind: str


class _Mounts:
    """What is mounted where.

    Parameters
    ----------
    text : str
        As `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)).
    """

    def __init__(self, text: str):
        self._by_point: dict[str, _Backing] = {}
        for line in text.splitlines():
            fields, _, rest = line.partition(" - ")
            values = fields.split(" ")
            if len(values) > 4 and rest:
                point, folder = (_OCTAL.sub(_character, part) for part in (values[4], values[3]))
                self._by_point[point] = _Backing(values[2], folder, rest.split(" ")[0])

    def backing(self, path: str) -> _Backing | None:
        """Return which folder of which file system a path is."""
        point = path
        while True:
            if found := self._by_point.get(point):
                inner = path[len(point.rstrip("/")) :]
                return found._replace(folder=(found.folder.rstrip("/") + inner) or "/")
            if point == "/":
                return None
            point = os.path.dirname(point)

    def inside(self, path: str) -> Iterator[_Backing]:
        """Return what is mounted in a folder."""
        return (
            found
            for point, found in self._by_point.items()
            if point != path and is_under(point, path)
        )


def _character(found: re.Match[str]) -> str:
    """Decode a character of a path in `mountinfo`."""
    return chr(int(found[1], 8))


def _shown(path: str) -> str:
    """Write a path on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in path)
