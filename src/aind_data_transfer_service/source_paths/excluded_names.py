"""Names of files and folders that are never uploaded: what programs leave wherever somebody looks.

They come and go while a job runs, so a job must not depend on them.
"""

import re
from collections.abc import Sequence
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
_NOTHING = re.compile("(?!)")


class ExcludedNames:
    """Patterns of names. Upper and lower case differ, as they do in names of files.

    Patterns and names are compared in Unicode's form NFC: macOS writes the same accents in NFD.

    Parameters
    ----------
    patterns : Sequence[str]
        Names, in which `*`, `?` and `[abc]` have the meaning of `fnmatch`.
    """

    def __init__(self, patterns: Sequence[str] = ()):
        self._match = _compiled(patterns).match

    def match(self, name: str) -> bool:
        """Return whether a name is excluded; asked for each of a million files."""
        return self._match(name if name.isascii() else normalize("NFC", name)) is not None


def _compiled(patterns: Sequence[str]) -> re.Pattern[str]:
    """Return one expression for all patterns; most names differ from all in the first character."""
    if not patterns:
        return _NOTHING
    patterns = [normalize("NFC", pattern) for pattern in patterns]
    any_of = "|".join(map(translate, patterns))
    if any(pattern[0] in _WILD for pattern in patterns):
        return re.compile(any_of)
    first = "".join(sorted({re.escape(pattern[0]) for pattern in patterns}))
    return re.compile(f"(?=[{first}])(?:{any_of})")


LEFT_BY_PROGRAMS = ExcludedNames(DEFAULT)
"""Names that hold no data. What only other patterns match may."""
