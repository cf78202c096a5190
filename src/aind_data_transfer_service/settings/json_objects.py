"""Settings that are JSON objects: all that is wrong with one is reported at once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.plain_text import first_lines, is_deeper
from aind_data_transfer_service.settings.base import SettingErrors

MOST_LISTED = 20
"""Mistakes of one setting that are reported one by one, and guesses at what was meant."""
MOST_LEVELS = 16


def refuse(problems: Sequence[str], most: int = MOST_LISTED) -> None:
    """Raise an error that lists problems, and counts those beyond the first; none is no error.

    Parameters
    ----------
    problems : Sequence[str]
        What is wrong, each with the key that it is about: `subject.sources: …`.
    most : int
        How many are listed.

    Raises
    ------
    SettingErrors
        If there is any.
    """
    if not problems:
        return
    raise SettingErrors(first_lines(problems, most, "problem", "problems"))


def read_object(value: Any, example: str) -> tuple[dict[str, Any], list[str]]:
    """Read a JSON object.

    Parameters
    ----------
    value : Any
        The text of a variable, or the object itself.
    example : str
        What a good one is like, for the error.

    Returns
    -------
    tuple of dict and list of str
        The object, and the keys that it has twice, each a problem for `refuse`.

    Raises
    ------
    ValueError
        If it is not a JSON object, or is nested too deeply.
    """
    twice: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, one in pairs:
            if key in found:
                twice.append(f"{quoted(key)} is there twice; keep one")
            found[key] = one
        return found

    write = f"write an object such as {example}"
    try:
        found = json.loads(value, object_pairs_hook=collect) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError(f"is nested too deeply; {write}") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error}); {write}") from None
    if not isinstance(found, Mapping):
        kind = "a list" if isinstance(found, list | tuple) else quoted(found)
        raise ValueError(f"{kind} is not a JSON object; {write}")
    if is_deeper(found, MOST_LEVELS):
        raise ValueError(f"is nested too deeply; {write}")
    return {str(key): one for key, one in found.items()}, twice
