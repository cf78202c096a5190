"""Files at the source: finding them, and noticing what changes.

What becomes of everything that can lie in a folder:

=========================  ======================================================================
regular file               sent, empty ones too; hard links as often as they are named
link                       sent as the file or folder that it leads to, as often as it is named
link to what is private    stops the job, and so does one out of the folders that may be uploaded
broken link                stops the job, or is left out with a warning: `BROKEN_LINKS` decides
folder or file of keys     stops the job: `.ssh`, `.aws`, `.netrc` and the like
socket, pipe, device       holds no data: left out, with a warning
empty folder               a store has no folders: left out, with a warning, named in the manifest
excluded name              left out, and named in the manifest: `.DS_Store` and the like
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
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.source_paths.drive_retry import Drive, unreadable
from aind_data_transfer_service.source_paths.excluded_names import LEFT_BY_PROGRAMS, ExcludedNames
from aind_data_transfer_service.source_paths.links import REPAIR, BrokenLinkError, follow_link
from aind_data_transfer_service.source_paths.roots import SourceRoots, holds_keys, keys_problem
from aind_data_transfer_service.storage.layout import key_problem
from aind_data_transfer_service.storage.system_calls import fresh_status, may_cache_attributes
from aind_data_transfer_service.upload.source.check import EFFECTIVE_IDS
from aind_data_transfer_service.upload.source.confined_open import LED_AWAY, SourceReader
from aind_data_transfer_service.upload.source.file_table import Files, Status, Tree
from aind_data_transfer_service.upload.source.sample import Sample

_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
"""The owner of a file with these can read it. For others an ACL may say otherwise."""
_UNSETTLED_NS = 60 * 1_000_000_000
"""A file that changed so shortly before the first look is read again at the last. A program that
writes by mmap changes no time of the file while its page waits to be written to the drive, which
Linux does after 35 seconds by default."""
MOST_FOLDER_LINKS = 10_000
"""Links to folders that are followed in one source. Ten folders, each with two links to the next,
are a thousand folders."""
MOST_REPEATS = 1_000
"""How often one folder is reached over links in linked folders. Such links multiply what is sent:
twelve folders, each with two links to the next, are 4,096 times the last."""


@dataclass(frozen=True)
class Rules:
    """What may be read, and what is left out."""

    roots: SourceRoots = field(default_factory=SourceRoots)
    """The folders that may be uploaded."""
    exclude: ExcludedNames = field(default_factory=ExcludedNames)
    """Names that are left out."""
    keeps_broken_links_out: bool = False
    """Whether broken links are left out, rather than stop the job."""


@dataclass
class Scan:
    """What was found in one source."""

    files: Files
    empty_folders: list[str] = field(default_factory=list)
    """Places in the asset that hold nothing."""
    left_out: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    excluded: Sample[str] = field(default_factory=Sample)
    """Places in the asset of files and folders whose names are excluded."""
    excluded_data: Sample[str] = field(default_factory=Sample)
    """Those that only the patterns of this lab exclude, and not the default ones."""
    only_excluded: list[str] = field(default_factory=list)
    """Those of the empty folders that hold excluded names."""
    rules: Rules = field(default_factory=Rules)
    """What may be read, and what is left out."""
    broken_links: list[str] = field(default_factory=list)
    """What is wrong with links that are left out."""
    folder_links: int = 0
    """How many links to folders were followed."""
    repeats: Counter[str] = field(default_factory=Counter)
    """By folder how often links in linked folders led to it."""
    caching: dict[str, bool] = field(default_factory=dict)
    """By folder whether its file system may return attributes that are out of date."""
    problems: list[str] = field(default_factory=list)
    """What has to be put right before anything can be sent."""
    is_first: bool = True
    """Whether this is the first look, which also asks whether files may be read."""
    user: int = field(default_factory=os.geteuid)
    """Who looks."""
    settled_before: int = field(default_factory=lambda: time.time_ns() - _UNSETTLED_NS)
    """A file that changed later may change once more without its change time doing so."""
    lstat: Callable[[str], Status] = field(default_factory=lambda: os.lstat)
    """Returns the attributes of a path, and"""
    stat: Callable[[str], Status] = field(default_factory=lambda: os.stat)
    """returns those of what a link leads to."""

    @property
    def tree(self) -> Tree:
        """Which source it is."""
        return self.files.tree

    @property
    def size(self) -> int:
        """How many bytes were found."""
        return self.files.size


def scan(
    root: str,
    folder: str,
    prefix: str,
    key_limit: int,
    drive: Drive | None = None,
    is_first: bool = True,
    rules: Rules | None = None,
) -> Scan:
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
    drive : Drive | None
        Retries what fails.
    is_first : bool
        Whether this is the first look. A later one asks the server of a network drive for
        attributes that the system has in its cache.
    rules : Rules | None
        What may be read, and what is left out; by default all but what is private, and nothing.

    Raises
    ------
    SourceError
        If this Python does not decode names of files as UTF-8.
    """
    if sys.getfilesystemencoding() != "utf-8":
        raise SourceError(
            f"Python decodes names of files as {sys.getfilesystemencoding()} here, and they are "
            "UTF-8; start it with -X utf8, or set PYTHONUTF8=1"
        )
    root, rules = os.path.abspath(root), rules or Rules()
    problem = ""
    try:
        reader = SourceReader(root, rules.roots.resolve(root))
    except SourceError as error:
        reader, problem = SourceReader(root, root), str(error)
    found = Scan(
        Files(Tree(root, folder, drive or Drive(), reader)),
        is_first=is_first,
        rules=rules,
    )
    if problem:
        found.problems.append(problem)
        return found
    if not is_first:
        _ask_past_cache(found, root)
    try:
        status = _status(found, root, found.stat)
        if stat.S_ISREG(status.st_mode):
            found.files = Files(found.tree, alone=True)
            name = os.path.basename(root)
            _check_name(found, f"{prefix}/{folder}/{name}", root, key_limit)
            _add(found, name, status)
        else:
            _walk(found, prefix, key_limit)
    except OSError as error:
        found.problems.append(unreadable(root, error))
    reader.let_go()
    return found


def _walk(found: Scan, prefix: str, key_limit: int) -> None:
    """Go through a folder and everything beneath, in the order of the files' whole names."""
    links, root = found.tree.reader.links, f"{found.tree.root}/"
    asset = f"{prefix}/{found.tree.folder}/"
    waiting = [iter(_children(found, ""))]
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
        elif name.endswith("/"):
            waiting.append(iter(_children(found, name)))
        else:
            path = root + name
            place = found.tree.reader.real_path(name) if links else path
            status = _look(found, name, path, place)
            if status is not None:
                _check_name(found, asset + name, path, key_limit)
                _add(found, name, status)


def _children(found: Scan, inner: str) -> list[str]:
    """List a folder by name, the folders in it with a stroke at their end."""
    folder = f"{found.tree.root}/{inner}"

    def list_names() -> tuple[list[str], list[str], list[str]]:
        may_be_excluded = found.rules.exclude.may_match
        is_excluded = found.rules.exclude.match
        names, links, excluded = [], [], []
        descriptor = found.tree.reader.open_folder(inner.rstrip("/"))
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if may_be_excluded(name := entry.name) and is_excluded(name):
                        excluded.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        names.append(inner + name)
                    elif entry.is_dir(follow_symlinks=False):
                        names.append(f"{inner}{name}/")
                    elif entry.is_symlink():
                        links.append(inner + name)
                    else:
                        names.append(inner + name)
        finally:
            os.close(descriptor)
        return names, links, excluded

    try:
        names, links, excluded = found.tree.drive.run(shown(folder), list_names)
    except OSError as error:
        found.problems.append(
            f"{shown(folder)} became a link while the source was looked at"
            if error.errno in LED_AWAY
            else unreadable(folder, error)
        )
        return []
    _note_excluded(found, inner, excluded)
    names += filter(None, (_follow(found, inner, name) for name in sorted(links)))
    if not names:
        place = f"{found.tree.folder}/{inner}".rstrip("/")
        found.empty_folders.append(place)
        if excluded:
            found.only_excluded.append(place)
    names.sort(key=os.fsencode)
    found.problems += _keys_in(found, inner, names)
    return names


def _note_excluded(found: Scan, inner: str, names: list[str]) -> None:
    """Note the names in a folder that are excluded."""
    names.sort(key=os.fsencode)
    place = f"{found.tree.folder}/{inner}"
    found.excluded.add(shown(place + name) for name in names)
    found.excluded_data.add(
        shown(place + name) for name in names if not LEFT_BY_PROGRAMS.match(name)
    )


def _keys_in(found: Scan, inner: str, names: list[str]) -> Iterator[str]:
    """Say which of the names in a folder are those of keys, by its path and by where it is."""
    start = len(inner)
    parents = {
        f"{found.tree.root}/{inner}".rstrip("/"),
        found.tree.reader.real_path(inner.rstrip("/")),
    }
    in_config = any(parent.endswith("/.config") for parent in parents)
    for name in names:
        if in_config or name.startswith(".", start):
            if any(holds_keys(parent, name[start:]) for parent in parents):
                yield keys_problem(f"{found.tree.root}/{name}")


def _follow(found: Scan, inner: str, name: str) -> str:
    """Note where a link leads; return its name, with a stroke if that is a folder.

    The name is empty if the link is not followed.
    """
    path, reader = f"{found.tree.root}/{name}", found.tree.reader
    places = list(_places_of(found, inner.rstrip("/")))
    roots, drive = found.rules.roots, found.tree.drive
    try:
        real, is_folder = drive.run(shown(path), lambda: follow_link(path, places, roots))
    except BrokenLinkError as error:
        if found.rules.keeps_broken_links_out:
            found.broken_links.append(str(error))
        else:
            found.problems.append(f"{error}{REPAIR}")
        return ""
    except SourceError as error:
        found.problems.append(str(error))
        return ""
    except OSError as error:
        found.problems.append(unreadable(path, error))
        return ""
    if is_folder and not _counts_on(found, inner, path, real):
        return ""
    reader.links[name] = real
    if not found.is_first:
        _ask_past_cache(found, real if is_folder else os.path.dirname(real))
    return f"{name}/" if is_folder else name


def _counts_on(found: Scan, inner: str, path: str, real: str) -> bool:
    """Count a link to a folder; return whether it is followed, or links multiply too much."""
    found.folder_links += 1
    if found.tree.reader.last_link(inner.rstrip("/")) is not None:
        found.repeats[real] += 1
    if found.folder_links == MOST_FOLDER_LINKS + 1:
        found.problems.append(
            f"{shown(found.tree.root)} has more than {MOST_FOLDER_LINKS:,} links to folders, "
            f"those in linked folders included, up to {shown(path)}; remove links that lead to "
            "each other, or split the source"
        )
    elif found.repeats[real] == MOST_REPEATS + 1:
        found.problems.append(
            f"links in linked folders of {shown(found.tree.root)} lead more than {MOST_REPEATS:,} "
            f"times to {shown(real)}, last {shown(path)}, and all that is in it would be sent each "
            "time; remove links that lead to each other"
        )
    return found.folder_links <= MOST_FOLDER_LINKS and found.repeats[real] <= MOST_REPEATS


def _places_of(found: Scan, inner: str) -> Iterator[str]:
    """Return where a folder really is, and the folder of each link that led there."""
    place: str | None = inner
    while place is not None:
        yield found.tree.reader.real_path(place)
        link = found.tree.reader.last_link(place)
        place = None if link is None else link.rpartition("/")[0]


def _ask_past_cache(found: Scan, folder: str) -> None:
    """Ask a server for attributes from now on, if a folder is on a drive that caches them."""
    if folder not in found.caching:
        found.caching[folder] = may_cache_attributes(folder)
        if found.caching[folder]:
            found.lstat, found.stat = partial(fresh_status, follow_symlinks=False), fresh_status


def _look(found: Scan, name: str, path: str, place: str) -> Status | None:
    """Return the attributes of one entry that is no folder; None if it is not sent.

    A link led from its path to the place, if they differ, or from the path of a folder above it.
    """
    try:
        status = _status(found, place, found.lstat)
    except FileNotFoundError:  # between the listing and now
        found.problems.append(f"{shown(path)} vanished while the source was looked at")
        return None
    except OSError as error:
        found.problems.append(unreadable(path, error))
        return None
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISLNK(status.st_mode):
            found.problems.append(f"{shown(path)} became a link while the source was looked at")
        else:
            found.left_out.append(path)
        return None
    if found.is_first:
        _check_readable(found, name, path, status)
    return status


def _add(found: Scan, name: str, status: Status) -> None:
    """Add a file to what was found."""
    found.files.add(name, status, not found.is_first or status.st_ctime_ns < found.settled_before)


def _status(found: Scan, path: str, look: Callable[[str], Status]) -> Status:
    """Return the attributes of a path."""
    try:
        return look(path)
    except OSError as error:
        return found.tree.drive.retry(shown(path), lambda: look(path), error)


def _check_readable(found: Scan, name: str, path: str, status: Status) -> None:
    """Note a file that may not be read.

    The system is asked, for an ACL can refuse what the mode allows. Where it says no, opening the
    file decides: the answer may be that of a fault, or of a client that does not know.
    """
    if status.st_uid == found.user and status.st_mode & _READABLE == _READABLE:
        return
    if os.access(path, os.R_OK, effective_ids=EFFECTIVE_IDS):
        return
    try:
        found.tree.drive.run(shown(path), lambda: os.close(found.tree.reader.open(name)))
    except PermissionError:
        found.problems.append(f"{shown(path)} may not be read")
    except OSError as error:
        found.problems.append(unreadable(path, error))


def _check_name(found: Scan, key: str, path: str, key_limit: int) -> None:
    """Note a name that cannot be used at the destination."""
    problem = key_problem(key, key_limit)
    if problem:
        found.problems.append(f"{shown(path)}: {problem}")
