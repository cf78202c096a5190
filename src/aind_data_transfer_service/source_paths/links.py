"""Links in sources: where they lead, and whether a job may follow them.

A link is followed if it leads to something that jobs may read (`source_paths.roots`), over however
many other links. One that leads nowhere, or to a folder that contains it, is broken.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.plain_text import show
from aind_data_transfer_service.source_paths.roots import SourceRoots, is_under

REPAIR = "; repair or remove the link"
"""What to do about a broken link that is not left out."""
_LEADS_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MOST_STEPS = 40
"""Links after which Linux gives up (path_resolution(7))."""


class BrokenLinkError(SourceError):
    """A link that leads nowhere, or to a folder that contains it."""


def follow_link(path: str, places: Iterable[str], roots: SourceRoots) -> tuple[str, bool]:
    """Return where a link really leads, and whether that is a folder.

    Parameters
    ----------
    path : str
        The link.
    places : Iterable of str
        Where the folder of the link really is; if other links led there, their folders too.
    roots : SourceRoots
        What may be read.

    Raises
    ------
    BrokenLinkError
        If it leads nowhere, or to a folder that contains it.
    SourceError
        If what it leads to may not be read.
    OSError
        If that cannot be found out.
    """
    try:
        real = os.path.realpath(path, strict=True)
        is_folder = stat.S_ISDIR(os.stat(real).st_mode)
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            target = show(os.readlink(path))
            raise BrokenLinkError(
                f"{show(path)} is a link that leads nowhere ({target})"
            ) from error
        raise
    if problem := roots.target_problem(path, real):
        raise SourceError(f"the link {problem}")
    if is_folder and any(is_under(place, real) for place in places):
        raise BrokenLinkError(f"{show(path)} is a link to a folder that contains it ({show(real)})")
    return real, is_folder


def first_barred(path: str, may_look: Callable[[str], bool]) -> str | None:
    """Follow a path link by link, as far as that is allowed.

    Parameters
    ----------
    path : str
        An absolute path.
    may_look : Callable
        Returns whether a path without links may be looked at; asked before it is.

    Returns
    -------
    str | None
        Where the path leads as far as is known, if a part of it may not be looked at; None if all
        of it may.
    """
    place, names, links = "/", deque(path.split("/")), 0
    while names and links <= _MOST_STEPS:
        name = names.popleft()
        entry = os.path.normpath(f"{place}/{name}")
        if entry == place or name == "..":
            place = entry
            continue
        if not may_look(entry):
            return os.path.normpath("/".join([entry, *names]))
        try:
            target = os.readlink(entry)
        except OSError:  # no link; what is wrong with it is found when it is followed
            place = entry
            continue
        links += 1
        names.extendleft(reversed(target.split("/")))
        place = "/" if target.startswith("/") else place
    return None
