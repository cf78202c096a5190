"""JSON objects that users write: how long, how deep, and of which characters they may be.

What is refused here would stop others later: a half of a surrogate pair cannot be sent to any
cluster, and an object of hundreds of levels cannot be copied.
"""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 1 << 16
MOST_LEVELS = 16
_BIDIRECTIONAL = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_ALLOWED = frozenset("\t\n\r")
_SHOWN = 3


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        Says what is wrong with it, and what to write.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS:,} characters; leave out what is not used")
    try:
        found = json.loads(text.strip() or "{}")
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write an object such as {{}}") from None
    if not isinstance(found, dict):
        raise ValueError('not a JSON object; write one such as {"mail_user": "…"}')
    if _is_deep(found):
        raise ValueError(f"deeper than {MOST_LEVELS} levels; write a flat object")
    if wrong := list(_wrong_places(found)):
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"control or direction characters, or half a character, in "
            f"{', '.join(wrong[:_SHOWN])}{more}; remove them"
        )
    return found


def is_plain(text: str) -> bool:
    """Return whether a text is free of control and direction characters and lone surrogates."""
    if text.isascii() and text.isprintable():
        return True
    return not any(
        character in _BIDIRECTIONAL
        or (unicodedata.category(character) in ("Cc", "Cs") and character not in _ALLOWED)
        for character in text
    )


def _is_deep(found: Any) -> bool:
    """Return whether there are more levels than anyone needs."""
    level = [found]
    for _ in range(MOST_LEVELS):
        level = [child for value in level for child in _children(value)]
    return bool(level)


def _children(value: Any) -> list[Any]:
    """List what a value holds."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _wrong_places(value: Any, place: str = "") -> Iterator[str]:
    """Name the places of texts that are not plain; those of names are their own."""
    if isinstance(value, str) and not is_plain(value):
        yield place
    elif isinstance(value, dict):
        for name, child in value.items():
            shown = json.dumps(name) if not is_plain(name) else name
            here = f"{place}.{shown}" if place else shown
            if not is_plain(name):
                yield f"the name {shown}"
            yield from _wrong_places(child, here)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _wrong_places(child, f"{place}[{number}]")
