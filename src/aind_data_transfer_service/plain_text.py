"""Which characters a text of a request may hold. Pure.

Refused are those that nobody sees and that change what is seen or stored: control characters, line
breaks in a text of one line, marks that change the direction of the text around them, and halves
of characters (unpaired surrogates), which cannot be sent or stored. Each is named by its code
point and its place.

A text of one line, such as a name or a path, may hold no other invisible character either (zero
width spaces, soft hyphens, byte order marks, fillers). Copying from web pages and other programs
adds them. They are dropped at both ends, as blanks are, and refused within. What a script needs is
a part of the letter or sign before it, and allowed there: joiners and variation selectors between
the letters of Persian, of the languages of India and of emoji, a joiner after a virama also at the
end of a word (RFC 5892, appendix A), U+200D after an Arabic letter, which keeps its joined form
there, variation selectors after an ideograph, the tags of a flag.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

MAX_INTEGER = 2**63 - 1
"""Larger numbers are not the same in every program that reads JSON."""
_NAME_SHOWN = 60
"""Characters of a name that an error shows."""
_PLACES_SHOWN = 3
"""Wrong places of a JSON value that an error lists."""
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HALVES = "\ud800-\udfff"
_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff"
)
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f"
_JOINED = f"\u0600-\u1fff\u2100-\u3163\u3165-\ud7ff\uf900-\ufdff\U00010000-\U000dffff{_SELECTORS}"
"""Letters and signs that joiners and variation selectors may follow."""
_OUT_OF_PLACE = (
    f"[{_JOINERS}](?![{_JOINED}])|(?<![{_JOINED}])[{_JOINERS}]|(?<![{_JOINED}])[{_SELECTORS}]"
)
_VIRAMAS = (
    "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u0e3a\u0eba"
    "\u0f84\u1039\u103a\u1714\u1715\u1734\u17d2\u1a60\u1b44\u1baa\u1bab\u1bf2\u1bf3\u2d7f"
    "\ua806\ua82c\ua8c4\ua953\ua9c0\uaaf6\uabed\U00010a3f\U00011046\U00011070\U0001107f"
    "\U000110b9\U00011133\U00011134\U000111c0\U00011235\U000112ea\U0001134d\U00011442"
    "\U000114c2\U000115bf\U0001163f\U000116b6\U0001172b\U00011839\U0001193d\U0001193e"
    "\U000119e0\U00011a34\U00011a47\U00011a99\U00011c3f\U00011d44\U00011d45\U00011d97"
)
"""Characters of the canonical combining class Virama, which join the letters around them."""
_IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_SEQUENCE = re.compile(
    f"[{_VIRAMAS}][{_JOINERS}]"
    "|[\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f\u08a0-\u08c9]\u200d"
    f"|[{_IDEOGRAPHS}][\U000e0100-\U000e01ef]"
    "|[\u00a9\u00ae\u203c\u2049][\ufe0e\ufe0f]"
    "|[0-9#*]\ufe0f\u20e3"
    "|\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
)
"""Letters and signs of several characters, of which only the first can be seen by itself."""
_LETTER = "\u4e00"
_IN_LINE = re.compile(
    f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}{_HALVES}{_INVISIBLE}]|{_OUT_OF_PLACE}"
)
_AT_END = f"[\\s{_DIRECTIONS}{_INVISIBLE}{_JOINERS}]"
_ENDS = re.compile(f"(?<!{_AT_END}){_AT_END}+$")
_AT_BEGIN = re.compile(f"^{_AT_END}+")
_UNSEEN = re.compile(f"[{_DIRECTIONS}{_INVISIBLE}{_JOINERS}]")
_IN_LINES = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}{_HALVES}]")
_IS_DIRECTION = re.compile(f"[{_DIRECTIONS}]")
_IS_HALF = re.compile(f"[{_HALVES}]")
_IS_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def trim(text: str) -> str:
    """Return a text without the blanks and invisible characters at its ends.

    Parameters
    ----------
    text : str
        The text.

    Examples
    --------
    >>> trim("\\u202a /data/a\\u200b ")
    '/data/a'
    """
    stripped = text.strip()
    if stripped.isascii() or ("!" <= stripped[0] <= "~" and "!" <= stripped[-1] <= "~"):
        return stripped
    kept = _AT_BEGIN.sub("", _as_letters(stripped))
    begin = len(stripped) - len(kept)
    return stripped[begin : begin + len(_ENDS.sub("", kept))]


def _as_letters(text: str) -> str:
    """Return a text of the same length with letters instead of the sequences that are allowed."""
    return _SEQUENCE.sub(lambda found: _LETTER * len(found[0]), text)


def without_unseen(text: str) -> str:
    """Return a text without the invisible characters in it; a zero width space becomes a blank.

    Parameters
    ----------
    text : str
        The text.

    Examples
    --------
    >>> without_unseen("sub\\u00adject\\u200bid")
    'subject id'
    """
    return text if text.isascii() else _UNSEEN.sub("", text.replace("\u200b", " "))


def show(text: str) -> str:
    """Return a text with the characters escaped that nobody would see.

    Parameters
    ----------
    text : str
        The text.

    Examples
    --------
    >>> show("/data/a\\u200b")
    '/data/a\\\\u200b'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and not _UNSEEN.match(c) else repr(c)[1:-1] for c in text)


def wrong_character(text: str, has_lines: bool = False, place: str = "") -> str:
    """Describe the first character that a text may not contain; return an empty text if none is.

    Parameters
    ----------
    text : str
        The text.
    has_lines : bool
        Whether it may have line breaks and tabs.
    place : str
        Where the text is in what was sent, if it is a part of that.

    Examples
    --------
    >>> wrong_character("Anna\\u202eApple")
    'a text-direction character (U+202E) at character 5'
    """
    if text.isascii() and text.isprintable():
        return ""
    found = _IN_LINES.search(text) if has_lines else _IN_LINE.search(_as_letters(text))
    if found is None:
        return ""
    character = found[0]
    if _IS_HALF.match(character):
        kind = "half a character"
    elif _IS_DIRECTION.match(character):
        kind = "a text-direction character"
    elif _IS_CONTROL.match(character):
        kind = "a line break or control character"
    else:
        kind = "an invisible character"
    inside = f" in {place}" if place else ""
    return f"{kind} (U+{ord(character):04X}){inside} at character {found.start() + 1:,}"


def refuse(text: str, shown: str) -> None:
    """Refuse a text of one line that holds such a character.

    Parameters
    ----------
    text : str
        The text.
    shown : str
        How it is quoted in the error.

    Raises
    ------
    ValueError
        If it does.
    """
    if problem := wrong_character(text):
        what_to_do = "write it again" if problem.startswith("half") else "remove it"
        raise ValueError(f"{shown} holds {problem}; {what_to_do}")


def wrong_places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Yield each place of a JSON value that holds such a character or an unbounded number.

    Texts may have line breaks. The names in an object are texts, too. A value can have thousands of
    such places, so take only as many as are shown (`first_wrong_places`).

    Parameters
    ----------
    value : Any
        The JSON value.
    place : tuple[str | int, ...]
        Names and indices that lead to it.

    Yields
    ------
    str
        What is wrong, and where.
    """
    if isinstance(value, str):
        if wrong_character(value, True):
            yield wrong_character(value, True, _joined(place))
    elif isinstance(value, dict):
        for name, child in value.items():
            if wrong_character(name, True):
                yield wrong_character(name, True, f"the name {_shortened(name)}")
            yield from wrong_places(child, (*place, name))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from wrong_places(child, (*place, number))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"a number that is not finite in {_joined(place) or 'it'}"
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        yield f"a number beyond 64 bits in {_joined(place) or 'it'}"


def first_wrong_places(value: Any) -> str:
    """Return the first wrong places of a JSON value, separated by commas; empty if none.

    Parameters
    ----------
    value : Any
        The JSON value.

    Examples
    --------
    >>> first_wrong_places({"a": ["b\\0"]})
    'a line break or control character (U+0000) in a[0] at character 2'
    """
    found = list(islice(wrong_places(value), _PLACES_SHOWN + 1))
    more = ", and more" if len(found) > _PLACES_SHOWN else ""
    return f"{', '.join(found[:_PLACES_SHOWN])}{more}"


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether objects and lists of JSON are nested in more levels.

    Parameters
    ----------
    value : Any
        What was read, or what is to be written.
    levels : int
        The most levels that are allowed.
    """
    found = [value]
    for _ in range(levels):
        found = [child for one in found for child in _children(one)]
    return bool(found)


def _children(value: Any) -> list[Any]:
    """Return what a value contains."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _joined(place: tuple[str | int, ...]) -> str:
    """Return how a place is written: `resources.memory[2]`."""
    parts = (f"[{one}]" if isinstance(one, int) else f".{_shortened(one)}" for one in place)
    return "".join(parts).removeprefix(".")


def _shortened(name: str) -> str:
    """Return a name with invisible characters escaped, cut to the length that errors show."""
    head = name[: _NAME_SHOWN + 1]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in head)
    return shown if len(shown) <= _NAME_SHOWN else f"{shown[: _NAME_SHOWN - 1]}…"


def listed(names: Sequence[str], limit: int = 10, separator: str = "; ") -> str:
    """Write the first of many things on one line, and count the others.

    Parameters
    ----------
    names : Sequence of str
        All of them.
    limit : int
        How many are written.
    separator : str
        What stands between two of them.
    """
    rest = f" and {more(len(names) - limit)}" if len(names) > limit else ""
    return separator.join(names[:limit]) + rest


def first_lines(
    lines: Sequence[str], limit: int, singular: str, plural: str, count: int | None = None
) -> list[str]:
    """Return the first of many lines, and a line that counts the others.

    Parameters
    ----------
    lines : Sequence of str
        All of them, or at least the first `limit`.
    limit : int
        How many are returned.
    singular : str
        What a line is: `error`.
    plural : str
        What several lines are: `errors`.
    count : int, optional
        How many lines there are, if `lines` are not all of them.

    Examples
    --------
    >>> first_lines(["a", "b", "c"], 2, "error", "errors", 1_003)
    ['a', 'b', '1,001 more errors']
    """
    rest = (len(lines) if count is None else count) - len(lines[:limit])
    return [*lines[:limit], *([more(rest, singular, plural)] if rest > 0 else [])]


def more(count: int, singular: str = "", plural: str = "") -> str:
    """Return how a list counts what it leaves out.

    Parameters
    ----------
    count : int
        How many are left out.
    singular : str
        What one of them is; empty where the list itself says it.
    plural : str
        What several of them are.

    Examples
    --------
    >>> more(1_105, "error", "errors"), more(1, "file without data", "files without data"), more(3)
    ('1,105 more errors', '1 more file without data', '3 more')
    """
    return f"{count:,} more {singular if count == 1 else plural}".rstrip()


def shown(name: str) -> str:
    """Write a name so that it stands on one line and can be read."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
