"""Paths as Windows writes them: network names (`//server/share/x`) and drives (`Z:/x`). Pure.

Backslashes count as slashes, and so do several in a row. A network name is where the machines of
the cluster have it: at `/server/share/x`, or where the site's mappings say. A drive letter means
something else on each machine, so only a mapping says where it is.
"""

import re
import unicodedata
from collections.abc import Mapping

from aind_data_transfer_service.configs.vocabulary import quoted

_SEPARATORS = re.compile(r"[\\/]+")
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/]|$)")
_EXTENDED = re.compile(r"[\\/]{2}[?.][\\/](UNC(?=[\\/]))?", re.I)
"""How extended paths begin: `\\\\?\\UNC\\server\\share`, `\\\\?\\Z:\\x`."""


def is_windows_path(text: str) -> bool:
    """Return whether a path is a network name or that of a drive.

    Parameters
    ----------
    text : str
        The path.
    """
    return text[:2] in ("//", r"\\") or _DRIVE.match(text) is not None


def normal_form(text: str, least: int = 2) -> str:
    """Return such a path as `//server/share/x` or `Z:/x`.

    Parameters
    ----------
    text : str
        The path.
    least : int
        How many parts a network name must have.

    Raises
    ------
    ValueError
        If it is not complete, or contains `..`.

    Examples
    --------
    >>> normal_form(r"\\\\server\\share\\x"), normal_form("z:\\\\x")
    ('//server/share/x', 'Z:/x')
    """
    rest, is_network = text, True
    if extended := _EXTENDED.match(text):
        rest, is_network = text[extended.end() :], bool(extended[1])
    drive = ""
    if found := _DRIVE.match(rest):
        drive, rest, is_network = found[0].upper(), rest[found.end() :], False
    parts = [part for part in _SEPARATORS.split(rest) if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{quoted(text)} contains .., so that it may lead anywhere; remove it")
    if drive:
        return "/".join((drive, *parts))
    if not is_network or len(parts) < least:
        raise ValueError(
            f"{quoted(text)} is not a complete network name; write //server/share/folder"
        )
    return "//" + "/".join(parts)


def posix_path(text: str, mappings: Mapping[str, str]) -> str:
    """Return where the machines of the cluster have such a path.

    Parameters
    ----------
    text : str
        The path.
    mappings : Mapping[str, str]
        Where network names and drives are: POSIX folders by the beginning of the path, in its
        normal form and in lower case, because Windows makes no difference. The longest counts.

    Raises
    ------
    ValueError
        If the path is not complete, or nothing says where its drive is.

    Examples
    --------
    >>> posix_path("//server/share/x", {}), posix_path("Z:/x", {"z:": "/lab"})
    ('/server/share/x', '/lab/x')
    """
    parts = normal_form(text).split("/")
    for count in range(len(parts), 0, -1):
        folder = mappings.get(mapping_key("/".join(parts[:count])))
        if folder is not None:
            return "/".join((folder.rstrip("/"), *parts[count:])) or "/"
    if not parts[0]:
        return "/" + "/".join(parts[2:])
    raise ValueError(
        f"{quoted(text)} is a path of a Windows drive, and nothing says where the cluster has it; "
        "write the path from the root of the shared drive, for example /shared_drive/690165, or "
        f"have the administrator add {parts[0]} to PATH_MAPPINGS"
    )


def mapping_key(path: str) -> str:
    """Return the key of a path in its normal form; accents are the same in NFC and in NFD."""
    return unicodedata.normalize("NFC", path).lower()
