"""The words that the lab uses for platforms and modalities, and how a person may write them.

The lists are those of all generations of aind-data-schema, read from a file so that a request can
be read without that package. `Platform.parse` and `Modality.parse` take

- an object of any release of that schema: anything with an `abbreviation`;
- a mapping with an `abbreviation` (or only a `name`); other keys are ignored;
- text: the abbreviation or the full name, in any case, with `-`, `_` and blanks alike.

What has another abbreviation in a later generation, such as `pophys` for `ophys`, is one term with
the abbreviation of the first generation that has it; the other spellings are synonyms.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs.vocabulary_file import Entry, read_entries

_SHOWN = 60
_SEPARATORS = re.compile(r"[\s_-]+")


@dataclass(slots=True)
class _Hints:
    """How many guesses may still be made."""

    left: float = math.inf


_hints: ContextVar[_Hints] = ContextVar("hints", default=_Hints())


def quoted(value: object) -> str:
    """Show a value in an error: in quotation marks, on one line, and not too long."""
    text = value if isinstance(value, str) else repr(value)
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f'"{plain_text.show(shown)}"'


def folded(word: str) -> str:
    """Reduce a word to what is compared of it: `Behavior_Videos ` becomes `behavior-videos`."""
    return _SEPARATORS.sub("-", plain_text.trim(word)).casefold()


@contextmanager
def limited_hints(most: int) -> Iterator[None]:
    """Limit the guesses at what was meant, which take milliseconds each.

    Parameters
    ----------
    most : int
        Guesses that are made; further errors come without one.
    """
    token = _hints.set(_Hints(most))
    try:
        yield
    finally:
        _hints.reset(token)


def without_hints() -> AbstractContextManager[None]:
    """Have errors made without a guess at what was meant."""
    return limited_hints(0)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that `word` was probably meant to be.

    Parameters
    ----------
    word : str
        What was written.
    known : Iterable[str]
        The words that would be right.

    Returns
    -------
    str | None
        The word as it stands in `known`, or None where nothing is near enough to be worth a guess.
    """
    hints = _hints.get()
    if hints.left <= 0:
        return None
    hints.left -= 1
    by_fold: dict[str, str] = {}
    for candidate in known:
        by_fold.setdefault(folded(candidate), candidate)
    found = difflib.get_close_matches(folded(word[:200]), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


@dataclass(frozen=True, slots=True)
class _Term:
    """A full name and the short one that stands in asset names and folders."""

    name: str
    abbreviation: str

    noun: ClassVar[str]
    _by_spelling: ClassVar[dict[str, Any]]
    _synonyms: ClassVar[dict[str, tuple[str, ...]]]

    def __str__(self) -> str:
        """Give the short name."""
        return self.abbreviation

    @property
    def synonyms(self) -> tuple[str, ...]:
        """Abbreviations and names that other generations of the schema have for it."""
        return self._synonyms.get(self.abbreviation, ())

    @classmethod
    def known(cls) -> tuple[Self, ...]:
        """List all terms of this kind, in the schema's order."""
        return tuple(dict.fromkeys(cls._by_spelling.values()))

    @classmethod
    def parse(cls, value: object) -> Self:
        """Find the term that a value stands for.

        Raises
        ------
        ValueError
            Where it stands for none; the text names the nearest known term and lists all of them.
        """
        known: dict[str, Self] = cls._by_spelling
        if type(value) is str and (term := known.get(value)) is not None:
            return term
        if isinstance(value, cls):
            return value
        spellings = [s for s in _spellings(value) if isinstance(s, str) and plain_text.trim(s)]
        for spelling in spellings:
            term = known.get(spelling) or known.get(folded(spelling))
            if term is not None:
                return term
        if not spellings:
            raise ValueError(f"{quoted(value)} is no {cls.noun}; write one of {cls._listed()}")
        word = plain_text.trim(spellings[0])
        plain_text.refuse(word, quoted(word))
        # mypy holds the `__hash__` of a class's instances against the class
        said = _unknown if _hints.get().left > 0 else _unknown.__wrapped__
        raise ValueError(said(cls, word))  # type: ignore[arg-type]

    @classmethod
    def _listed(cls) -> str:
        """List the short names for an error."""
        return ", ".join(term.abbreviation for term in cls.known())

    @classmethod
    def _words(cls) -> Iterator[str]:
        """Yield every spelling of every term."""
        for term in cls.known():
            yield from (term.abbreviation, term.name, *term.synonyms)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Tell pydantic to read with `parse` and to write `{"name", "abbreviation"}`."""
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the JSON form for OpenAPI and other readers of JSON Schema."""
        return {
            "title": cls.__name__,
            "anyOf": [
                {"type": "string", "enum": [*dict.fromkeys(cls._words())]},
                {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "abbreviation": {"type": "string"}},
                    "required": ["abbreviation"],
                },
            ],
        }


class Platform(_Term):
    """The rig or method that a session was recorded with; the first part of an asset's name."""

    __slots__ = ()
    noun = "platform"
    _by_spelling = {}
    _synonyms = {}


class Modality(_Term):
    """A kind of data in a session; the name of its folder in the asset."""

    __slots__ = ()
    noun = "modality"
    _by_spelling = {}
    _synonyms = {}


@lru_cache(maxsize=1024)
def _unknown(kind: type[_Term], word: str) -> str:
    """Say that a word is not known, and which would be. The same slip often fills a column."""
    near = nearest(word, kind._words())
    hint = f'; did you mean "{kind.parse(near)}"?' if near else ";"
    return f"unknown {kind.noun} {quoted(word)}{hint} Known are {kind._listed()}"


def _spellings(value: object) -> tuple[object, ...]:
    """List what in a value may name a term, the most telling first."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return (value.get("abbreviation"), value.get("name"))
    return (getattr(value, "abbreviation", None), getattr(value, "name", None))


def _register(kind: type[_Term], entries: Iterable[Entry]) -> tuple[Any, ...]:
    """Make the terms of one kind, and note every spelling of each."""
    spellings = kind._by_spelling
    terms = []
    for entry in entries:
        term = kind(entry.name, entry.abbreviation)
        spellings[term.abbreviation] = spellings[folded(term.abbreviation)] = term
        kind._synonyms[term.abbreviation] = entry.synonyms
        terms.append(term)
    for term in terms:
        for spelling in (term.name, *term.synonyms):
            spellings.setdefault(spelling, term)
            spellings.setdefault(folded(spelling), term)
    return tuple(terms)


PLATFORMS: tuple[Platform, ...] = _register(Platform, read_entries("platforms"))
"""Every platform, in the order of the schema's generations."""

MODALITIES: tuple[Modality, ...] = _register(Modality, read_entries("modalities"))
"""Every modality, in the order of the schema's generations."""
