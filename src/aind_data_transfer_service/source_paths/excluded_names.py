"""Names of files and folders that are never uploaded: what programs leave wherever somebody looks.

They come and go while a job runs, so a job must not depend on them.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from unicodedata import normalize

DEFAULT = (
    *(".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd"),
    *(".TemporaryItems", "Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini"),
    *("$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "~$*", ".~lock.*#"),
    *(".nfs*", ".fuse_hidden*", ".Trash-*", "@eaDir", "#recycle", "@Recycle"),
)
"""What macOS, Windows, Office programs, NFS and FUSE clients, Linux desktops and NAS systems of
Synology and QNAP leave."""
_WILD = "*?["
_NOTHING, _ANYTHING = re.compile("(?!)"), re.compile("")
_NOT_ASCII = r"[^\x00-\x7f]"


class ExcludedNames:
    """Patterns of names. Upper and lower case differ, as they do in names of files.

    Patterns and names are compared in Unicode's form NFC: macOS writes the same accents in NFD.

    Parameters
    ----------
    patterns : Sequence[str]
        Names, in which `*`, `?` and `[abc]` have the meaning of `fnmatch`.

    Attributes
    ----------
    may_match : Callable
        Tells at little cost that a name is not excluded, which most are not: where its result is
        true, ask `match`. It is for a million files.
    """

    def __init__(self, patterns: Sequence[str] = ()):
        patterns = [normalize("NFC", pattern) for pattern in patterns]
        self._match = _compiled(patterns).match
        self.may_match: Callable[[str], object] = _first_look(patterns).match

    def match(self, name: str) -> bool:
        """Return whether a name is excluded."""
        return self._match(name if name.isascii() else normalize("NFC", name)) is not None


def _compiled(patterns: Sequence[str]) -> re.Pattern[str]:
    """Return one expression for all patterns."""
    return re.compile("|".join(map(translate, patterns))) if patterns else _NOTHING


def _first_look(patterns: Sequence[str]) -> re.Pattern[str]:
    """Return an expression for the names that patterns may match in form NFC.

    Form NFC leaves the first character of a name as it is, makes one of it that is not ASCII, or
    makes ASCII of one that is not. So a name of which the first is ASCII and begins no pattern is
    not matched, if all patterns begin with ASCII characters; nor is a name of ASCII characters that
    no pattern matches as it is.
    """
    if not patterns:
        return _NOTHING
    if not all(pattern[0].isascii() for pattern in patterns):
        return _ANYTHING
    any_of = "|".join(map(translate, patterns))
    perhaps = rf"{any_of}|[\x00-\x7f]*+{_NOT_ASCII}"
    if any(pattern[0] in _WILD for pattern in patterns):
        return re.compile(perhaps)
    first = "".join(sorted({re.escape(pattern[0]) for pattern in patterns}))
    return re.compile(f"(?=[{first}])(?:{perhaps})|{_NOT_ASCII}")


LEFT_BY_PROGRAMS = ExcludedNames(DEFAULT)
"""Names that hold no data. What only other patterns match may."""
