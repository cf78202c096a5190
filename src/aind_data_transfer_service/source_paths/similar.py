"""Finding the file or folder that a path was meant to name, if they look the same."""

import os
import unicodedata
from collections.abc import Callable
from itertools import islice
from pathlib import PurePosixPath

from aind_data_transfer_service.plain_text import show, without_unseen

MAX_ENTRIES = 20_000
"""Entries of a folder that are compared; larger folders are slow to list on a shared drive."""


def similar_hint(path: str, is_allowed: Callable[[str], bool]) -> str:
    """Return the end of a message that a path does not exist, if a similar one does.

    Parameters
    ----------
    path : str
        An absolute path that does not exist.
    is_allowed : Callable
        Returns whether the similar path may be named.
    """
    found = _similar_path(path)
    if not found or not is_allowed(found):
        return ""
    pairs = zip(PurePosixPath(path).parts, PurePosixPath(found).parts)
    reasons = list(dict.fromkeys(_difference(a, b) for a, b in pairs if a != b))
    has_blank = any(part != part.strip() for part in PurePosixPath(found).parts)
    advice = "rename it without the blank" if has_blank else "correct the path, or rename it"
    shown = "".join(map(_escaped, found))
    return f' ("{shown}" exists: it differs in {" and ".join(reasons)}; {advice})'


def _similar_path(path: str) -> str:
    """Return the path of what exists and looks like a path that does not; empty if nothing does."""
    found = "/"
    for part in PurePosixPath(path).parts[1:]:
        child = os.path.join(found, part)
        if not os.path.lexists(child):
            name = _similar_entry(found, part)
            if not name:
                return ""
            child = os.path.join(found, name)
        found = child
    return found if found != path else ""


def _similar_entry(folder: str, name: str) -> str:
    """Return the first entry of a folder that looks like a name."""
    wanted = _look(name)
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in islice(entries, MAX_ENTRIES))
            return min((one for one in names if _look(one) == wanted), default="")
    except OSError:
        return ""


def _look(name: str) -> str:
    """Reduce a name to what people see of it."""
    return " ".join(unicodedata.normalize("NFKC", without_unseen(name)).casefold().split())


def _difference(name: str, other: str) -> str:
    """Return in what two names differ that look the same."""
    if name.strip() == other.strip():
        return "a blank at an end of a name"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other):
        return "the Unicode form of its accents"
    if name.casefold() == other.casefold():
        return "upper and lower case"
    return "blanks, invisible characters or the Unicode form of letters"


def _escaped(character: str) -> str:
    """Return a character so that its Unicode form can be seen."""
    if unicodedata.combining(character):
        return character.encode("ascii", "backslashreplace").decode()
    return show(character)
