"""Errors of the models, in words for the person who made the request."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from aind_data_transfer_service.configs.deprecated_fields import REFUSED, REPLACED
from aind_data_transfer_service.configs.validators import MAX_MODALITIES, MISSING
from aind_data_transfer_service.configs.vocabulary import nearest, quoted
from aind_data_transfer_service.plain_text import more

Location = tuple[int | str, ...]

MOST_ERRORS = 100
"""Errors, or warnings, that one answer lists; the others are counted."""
MOST_JOB_ERRORS = 20
"""Errors of one job that are listed."""
MOST_CHARACTERS = 2000
"""Of one error or warning in an answer."""

_REWORDED = "job_configs"
_WORDS = {
    "missing": MISSING,
    "list_type": "no list; write a list of modalities, each with its source",
    "model_type": "no object; write one with a name for each value",
    "model_attributes_type": "no object; write one with a name for each value",
    "int_parsing": "no whole number",
    "int_type": "no whole number",
    "greater_than_equal": "below 0",
    "less_than_equal": f"above {MAX_MODALITIES:,}",
}


def reworded(
    error: ValidationError, known: Iterable[str], most: int = MOST_JOB_ERRORS
) -> ValidationError:
    """Make pydantic's error anew in plain words, every line of it in its place.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    known : Iterable[str]
        The fields that the model has, for a guess at what an unknown one was meant to be.
    most : int
        How many errors are kept; the others are counted.
    """
    names = list(known)
    found = error.errors(include_url=False)
    lines = [
        InitErrorDetails(
            type=PydanticCustomError(_REWORDED, "{words}", {"words": _words(details, names)}),
            loc=details["loc"],
            input=details["input"],
        )
        for details in found[:most]
    ]
    if len(found) > most:
        words = more(len(found) - most, "error", "errors")
        kind = PydanticCustomError(_REWORDED, "{words}", {"words": words})
        lines.append(InitErrorDetails(type=kind, loc=(), input=None))
    return ValidationError.from_exception_data(error.title, lines)


def first_errors(
    texts: Sequence[str],
    singular: str = "error",
    plural: str = "errors",
    most: int = MOST_ERRORS,
) -> list[str]:
    """Return the first of many messages and the number of the others; few are all returned.

    Examples
    --------
    >>> first_errors(["row 2: empty"])
    ['row 2: empty']
    >>> first_errors(["row 2: empty"] * 1205)[99:]
    ['row 2: empty', '1,105 more errors']
    """
    if len(texts) <= most + 1:  # one of them may be a number of others already
        return list(map(_cut, texts))
    return [*map(_cut, texts[:most]), more(len(texts) - most, singular, plural)]


def _cut(text: str) -> str:
    """Cut a message to a length that people read."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def listed(error: ValidationError) -> list[tuple[Location, str]]:
    """List what a model found wrong: the place, and the words."""
    return [(d["loc"], _words(d, ())) for d in error.errors(include_url=False)]


def explain(error: ValidationError) -> list[str]:
    """List what a model found wrong, a line each: `modalities.0.source: missing; …`."""
    lines = []
    for location, words in listed(error):
        place = dotted(location)
        lines.append(f"{place}: {words}" if place else words)
    return lines


def dotted(location: Sequence[int | str]) -> str:
    """Name a place in a request: `modalities.0.source`."""
    return ".".join(
        quoted(part) if isinstance(part, str) and not part.isidentifier() else str(part)
        for part in location
    )


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """Say that a field or column is not known, and which one was probably meant."""
    near = nearest(name, known)
    hint = f'; did you mean "{near}"?' if near else ""
    return f"unknown {noun} {quoted(name)}{hint}"


def _words(details: ErrorDetails, known: Iterable[str]) -> str:
    """Say what is wrong with one value."""
    kind = details["type"]
    if kind == _REWORDED:
        return details["msg"]
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        return REFUSED.get(name) or REPLACED.get(name) or unknown("field", name, known)
    if kind == "json_invalid":
        return f"no valid JSON: {details['ctx']['error']}"
    if kind == "string_unicode":
        return "the text holds half a character (a lone surrogate) and is no JSON"
    if kind in _WORDS:
        found = "" if kind == "missing" else f"{quoted(details['input'])} is "
        return found + _WORDS[kind]
    return details["msg"]
