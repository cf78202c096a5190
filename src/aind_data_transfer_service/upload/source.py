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
from aind_data_transfer_service.upload.store import key_problem

_EFFECTIVE = os.access in os.supports_effective_ids
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Tree:
    """A source, and the folder of the asset that it goes to."""

    root: str
    folder: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was found."""

    tree: Tree
    name: str
    """Its path within the source; the source's own name where the source is a single file."""
    size: int
    mtime_ns: int
    inode: int
    alone: bool = False
    """Whether the source is this file rather than a folder."""

    @property
    def path(self) -> str:
        """Where it lies."""
        return self.tree.root if self.alone else f"{self.tree.root}/{self.name}"

    @property
    def key(self) -> str:
        """Its place in the asset."""
        return f"{self.tree.folder}/{self.name}"


@dataclass
class Scan:
    """What was found in one source."""

    tree: Tree
    files: list[SourceFile] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    """Places in the asset that hold nothing."""
    left_out: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    problems: list[str] = field(default_factory=list)
    """What has to be put right before anything can be sent."""

    @property
    def size(self) -> int:
        """How many bytes were found."""
        return sum(file.size for file in self.files)


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
    found = Scan(Tree(root, folder))
    try:
        status = os.stat(root)
        if stat.S_ISREG(status.st_mode):
            name = os.path.basename(root)
            _check_name(found, prefix, f"{folder}/{name}", root, key_limit)
            found.files.append(_source_file(found.tree, name, status, alone=True))
        else:
            _walk(found, prefix, key_limit)
    except OSError as error:
        found.problems.append(f"{shown(root)} cannot be read: {error.strerror}")
    found.files.sort(key=lambda file: file.name)
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
    before = {file.name: file for file in found.files}
    after = {file.name: file for file in now.files}
    problems = [f"{shown(after[name].path)} appeared" for name in after.keys() - before.keys()]
    for name, file in before.items():
        if name not in after:
            problems.append(f"{shown(file.path)} vanished")
        elif file != after[name]:
            problems.append(f"{shown(file.path)} changed")
    problems += now.problems
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
    path = shown(file.path)
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceChangedError(f"{path} vanished after the job had found it") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    try:
        _check_unchanged(file, os.fstat(descriptor))
        count = 0
        while chunk := _read_full(descriptor, chunk_size):
            count += len(chunk)
            if count > file.size:
                break
            yield chunk
        _check_unchanged(file, os.fstat(descriptor))
        _check_unchanged(file, os.stat(file.path))
        if count != file.size:
            raise SourceChangedError(f"{path} changed while it was read: its size is not {count:,}")
    except FileNotFoundError as error:
        raise SourceChangedError(f"{path} vanished while it was read") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


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


def _check_unchanged(file: SourceFile, status: os.stat_result) -> None:
    """Compare a file with what was found."""
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


def _walk(found: Scan, prefix: str, key_limit: int) -> None:
    """Go through a folder and everything beneath."""
    real_root = os.path.realpath(found.tree.root) + "/"
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        folder = f"{found.tree.root}/{inner}"
        try:
            with os.scandir(folder) as entries:
                seen = 0
                for entry in entries:
                    seen += 1
                    name = inner + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name + "/")
                    else:
                        _take(found, name, entry, real_root, prefix, key_limit)
        except OSError as error:
            found.problems.append(f"{shown(folder)} cannot be read: {error.strerror}")
            continue
        if not seen:
            found.empty_folders.append(f"{found.tree.folder}/{inner}".rstrip("/"))


def _take(
    found: Scan, name: str, entry: os.DirEntry[str], real_root: str, prefix: str, key_limit: int
) -> None:
    """Decide what becomes of one entry that is no folder."""
    if entry.is_symlink():
        problem = _link_problem(entry.path, real_root)
        if problem:
            found.problems.append(f"{shown(entry.path)} {problem}")
            return
    try:
        status = entry.stat()
    except FileNotFoundError:  # between the listing and now
        found.problems.append(f"{shown(entry.path)} vanished while the source was looked at")
        return
    if not stat.S_ISREG(status.st_mode):
        found.left_out.append(entry.path)
        return
    if not os.access(entry.path, os.R_OK, effective_ids=_EFFECTIVE):
        found.problems.append(f"{shown(entry.path)} may not be read")
    _check_name(found, prefix, f"{found.tree.folder}/{name}", entry.path, key_limit)
    found.files.append(_source_file(found.tree, name, status))


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


def _source_file(tree: Tree, name: str, status: os.stat_result, alone: bool = False) -> SourceFile:
    """Note a file as it is now."""
    return SourceFile(tree, name, status.st_size, status.st_mtime_ns, status.st_ino, alone)
