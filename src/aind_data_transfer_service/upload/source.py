"""Files at the source: finding them, and reading each exactly once.

What becomes of everything that can lie in a folder:

=========================  ======================================================================
regular file               sent, empty ones too; hard links as often as they are named
link to a file             sent as the file that it leads to, if that lies in the same source
any other link             stops the job: broken, to a folder, or leading out of the source
socket, pipe, device       holds no data: left out, with a warning
empty folder               a store has no folders: left out, with a warning, named in the manifest
unreadable file or folder  stops the job
odd name                   spaces, quotes, Unicode and the like arrive as they are; a name that a
                           store would change or refuse stops the job: control characters,
                           backslashes, not UTF-8, or longer than the store's limit
=========================  ======================================================================

Whatever stops a job stops it before any byte moves, and everything found wrong is named at once.
Once all is sent the source is looked at again: what came, went or changed meanwhile fails the job.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aind_data_transfer_service.errors import SourceChangedError, SourceError
from aind_data_transfer_service.upload.files import Files, SourceFile, Tree
from aind_data_transfer_service.upload.store import key_problem

_EFFECTIVE = os.access in os.supports_effective_ids
_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
"""Whoever it is may read a file with these: to ask would take a third of the look."""
_SHOWN = 10


@dataclass
class Scan:
    """What was found in one source."""

    files: Files
    empty_folders: list[str] = field(default_factory=list)
    """Places in the asset that hold nothing."""
    left_out: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    problems: list[str] = field(default_factory=list)
    """What has to be put right before anything can be sent."""

    @property
    def tree(self) -> Tree:
        """Which source it is."""
        return self.files.tree

    @property
    def size(self) -> int:
        """How many bytes were found."""
        return self.files.size


def shown(name: str) -> str:
    """Write a name so that it stands on one line and can be read."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def listed(names: list[str], limit: int = _SHOWN) -> str:
    """Write some of many things on one line."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return "; ".join(names[:limit]) + more


def check_sources(sources: list[tuple[str, PurePosixPath]]) -> None:
    """Make sure that every source is there and can be read.

    Parameters
    ----------
    sources : list[tuple[str, PurePosixPath]]
        What each is of, for people, and where it is.

    Raises
    ------
    SourceError
        Where any is not, naming all of those.
    """
    problems = []
    for label, path in sources:
        problem = _root_problem(str(path))
        if problem:
            problems.append(f"{label}: {shown(str(path))} {problem}")
    if problems:
        raise SourceError(listed(problems))


def scan(root: str, folder: str, prefix: str, key_limit: int) -> Scan:
    """Find everything in a source. Nothing is read but folders.

    Parameters
    ----------
    root : str
        The source: a folder, or a single file.
    folder : str
        The folder of the asset that it goes to.
    prefix : str
        Name of the asset.
    key_limit : int
        How many bytes a key may have at the destination.
    """
    root = os.path.abspath(root)
    found = Scan(Files(Tree(root, folder)))
    try:
        status = os.stat(root)
        if stat.S_ISREG(status.st_mode):
            found.files = Files(found.tree, alone=True)
            name = os.path.basename(root)
            _check_name(found, prefix, f"{folder}/{name}", root, key_limit)
            found.files.add(name, status)
        else:
            _walk(found, prefix, key_limit)
    except OSError as error:
        found.problems.append(f"{shown(root)} cannot be read: {error.strerror}")
    return found


def check_still(found: Scan, now: Scan) -> None:
    """Make sure that a source is what it was when the job began.

    Parameters
    ----------
    found, now : Scan
        What it held then, and what it holds at present.

    Raises
    ------
    SourceChangedError
        Where anything came, went or changed: the asset would be neither the one nor the other.
    """
    problems = [*_changes(found.files, now.files), *now.problems]
    if problems:
        raise SourceChangedError(
            f"the source changed while the job ran: {listed(sorted(problems))}; wait until nothing "
            "writes to it and submit again"
        )


def read_source(file: SourceFile, chunk_size: int) -> Iterator[bytes]:
    """Read a file once, in pieces, and make sure that it stays as it was found.

    Raises
    ------
    SourceChangedError
        Where it is not, or does not stay, what was found.
    SourceError
        Where it cannot be read.
    """
    descriptor = open_source(file)
    try:
        check_unchanged(file, os.fstat(descriptor))
        count = 0
        while chunk := _read_full(descriptor, wanted := min(chunk_size, file.size + 1 - count)):
            count += len(chunk)
            if count > file.size:
                break
            yield chunk
            if len(chunk) < wanted:  # its end was seen
                break
        check_unchanged(file, os.fstat(descriptor))
        check_unchanged(file, os.stat(file.path))
        if count != file.size:
            raise SourceChangedError(
                f"{shown(file.path)} changed while it was read: its size is not {count:,}"
            )
    except FileNotFoundError as error:
        raise SourceChangedError(f"{shown(file.path)} vanished while it was read") from error
    except OSError as error:
        raise SourceError(f"{shown(file.path)} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def read_whole(file: SourceFile) -> bytes:
    """Read a small file once, and make sure that it is what was found.

    Raises
    ------
    SourceChangedError
        Where it is not.
    SourceError
        Where it cannot be read.
    """
    descriptor = open_source(file)
    try:
        data = _read_full(descriptor, file.size)
        check_unchanged(file, os.fstat(descriptor))  # its size too: there was nothing more to read
    except OSError as error:
        raise SourceError(f"{shown(file.path)} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) != file.size:
        raise SourceChangedError(
            f"{shown(file.path)} changed while it was read: its size is not {len(data):,}"
        )
    return data


def open_source(file: SourceFile) -> int:
    """Open a file for reading, and give its descriptor.

    Raises
    ------
    SourceChangedError
        Where it is no longer there.
    SourceError
        Where it cannot be opened.
    """
    try:
        return os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceChangedError(
            f"{shown(file.path)} vanished after the job had found it"
        ) from error
    except OSError as error:
        raise SourceError(f"{shown(file.path)} cannot be read: {error.strerror}") from error


def _read_full(descriptor: int, size: int) -> bytes:
    """Read so many bytes, or as many as there are: network drives give less at a time."""
    first = os.read(descriptor, size)
    if len(first) == size or not first:
        return first
    pieces, count = [first], len(first)
    while count < size and (piece := os.read(descriptor, size - count)):
        pieces.append(piece)
        count += len(piece)
    return b"".join(pieces)


def check_unchanged(file: SourceFile, status: os.stat_result) -> None:
    """Compare a file with what was found.

    Raises
    ------
    SourceChangedError
        Where it is another, or was written to.
    """
    if (status.st_size, status.st_mtime_ns, status.st_ino) != (
        file.size,
        file.mtime_ns,
        file.inode,
    ):
        raise SourceChangedError(
            f"{shown(file.path)} changed while the job ran: {file.size:,} bytes were found, now "
            f"there are {status.st_size:,}, or its time or file is another; wait until nothing "
            "writes to it and submit again"
        )


def _root_problem(path: str) -> str | None:
    """Tell what is wrong with a source itself."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return "is neither a folder nor a file"
    needed = os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
    return None if os.access(path, needed, effective_ids=_EFFECTIVE) else "may not be read"


def _changes(before: Files, after: Files) -> Iterator[str]:
    """Tell what came, went or changed."""
    if before.is_same(after):
        return
    left, right = iter(before), iter(after)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if new is None or (old is not None and _order(old) < _order(new)):
            yield f"{shown(old.path)} vanished"
            old = next(left, None)
        elif old is None or _order(new) < _order(old):
            yield f"{shown(new.path)} appeared"
            new = next(right, None)
        else:
            if old != new:
                yield f"{shown(old.path)} changed"
            old, new = next(left, None), next(right, None)


def _order(file: SourceFile) -> bytes:
    """Tell by what files are in order."""
    return os.fsencode(file.name)


def _walk(found: Scan, prefix: str, key_limit: int) -> None:
    """Go through a folder and everything beneath, in the order of the files' whole names."""
    real_root = os.path.realpath(found.tree.root) + "/"
    waiting = [iter(_children(found, ""))]
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
        elif name.endswith("/"):
            waiting.append(iter(_children(found, name)))
        else:
            _take(found, name, real_root, prefix, key_limit)


def _children(found: Scan, inner: str) -> list[str]:
    """List a folder by name, the folders in it with a stroke at their end."""
    folder = f"{found.tree.root}/{inner}"
    try:
        with os.scandir(folder) as entries:
            names = [
                f"{inner}{entry.name}{'/' if entry.is_dir(follow_symlinks=False) else ''}"
                for entry in entries
            ]
    except OSError as error:
        found.problems.append(f"{shown(folder)} cannot be read: {error.strerror}")
        return []
    if not names:
        found.empty_folders.append(f"{found.tree.folder}/{inner}".rstrip("/"))
    names.sort(key=os.fsencode)
    return names


def _take(found: Scan, name: str, real_root: str, prefix: str, key_limit: int) -> None:
    """Decide what becomes of one entry that is no folder."""
    path = f"{found.tree.root}/{name}"
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            problem = _link_problem(path, real_root)
            if problem:
                found.problems.append(f"{shown(path)} {problem}")
                return
            status = os.stat(path)
    except FileNotFoundError:  # between the listing and now
        found.problems.append(f"{shown(path)} vanished while the source was looked at")
        return
    except OSError as error:
        found.problems.append(f"{shown(path)} cannot be read: {error.strerror}")
        return
    if not stat.S_ISREG(status.st_mode):
        found.left_out.append(path)
        return
    everybody = status.st_mode & _READABLE == _READABLE
    if not everybody and not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
        found.problems.append(f"{shown(path)} may not be read")
    _check_name(found, prefix, f"{found.tree.folder}/{name}", path, key_limit)
    found.files.add(name, status)


def _link_problem(path: str, real_root: str) -> str | None:
    """Tell why a link cannot be followed."""
    try:
        target = os.path.realpath(path, strict=True)
    except OSError:
        return f"is a link that leads nowhere ({shown(os.readlink(path))})"
    if os.path.isdir(target):
        return f"is a link to a folder ({shown(target)}); put the folder itself there"
    if not target.startswith(real_root):
        return f"is a link out of the source ({shown(target)}); put the file itself there"
    return None


def _check_name(found: Scan, prefix: str, key: str, path: str, key_limit: int) -> None:
    """Note a name that cannot be used at the destination."""
    problem = key_problem(f"{prefix}/{key}", key_limit)
    if problem:
        found.problems.append(f"{shown(path)}: {problem}")
