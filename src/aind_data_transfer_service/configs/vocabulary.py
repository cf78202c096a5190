"""The words that the lab uses for platforms and modalities, and how a person may write them.

The lists are those of aind-data-schema 0.34.4. They stand here so that reading a request needs
neither that package nor the time to import it. `Platform.parse` and `Modality.parse` take

- an object of any release of that schema: anything with an `abbreviation`;
- a mapping with an `abbreviation` (or only a `name`); other keys are ignored;
- text: the abbreviation or the full name, in any case, with `-`, `_` and blanks alike.
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

from aind_data_transfer_service.configs import plain_text

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

    def __str__(self) -> str:
        """Give the short name."""
        return self.abbreviation

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
        if type(value) is str and (term := cls._by_spelling.get(value)) is not None:
            return term
        if isinstance(value, cls):
            return value
        spellings = [s for s in _spellings(value) if isinstance(s, str) and plain_text.trim(s)]
        for spelling in spellings:
            term = cls._by_spelling.get(spelling) or cls._by_spelling.get(folded(spelling))
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
                {"type": "string", "enum": [term.abbreviation for term in cls.known()]},
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


class Modality(_Term):
    """A kind of data in a session; the name of its folder in the asset."""

    __slots__ = ()
    noun = "modality"
    _by_spelling = {}


@lru_cache(maxsize=1024)
def _unknown(kind: type[_Term], word: str) -> str:
    """Say that a word is not known, and which would be. The same slip often fills a column."""
    near = nearest(word, (s for t in kind.known() for s in (t.abbreviation, t.name)))
    hint = f'; did you mean "{kind.parse(near)}"?' if near else ";"
    return f"unknown {kind.noun} {quoted(word)}{hint} Known are {kind._listed()}"


def _spellings(value: object) -> tuple[object, ...]:
    """List what in a value may name a term, the most telling first."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return (value.get("abbreviation"), value.get("name"))
    return (getattr(value, "abbreviation", None), getattr(value, "name", None))


def _register(kind: type[_Term], names: Mapping[str, str]) -> tuple[Any, ...]:
    """Make the terms of one kind, and note every spelling of each."""
    terms = tuple(kind(name, abbreviation) for abbreviation, name in names.items())
    spellings = kind._by_spelling
    for term in terms:
        spellings[term.abbreviation] = spellings[folded(term.abbreviation)] = term
    for term in terms:
        spellings.setdefault(term.name, term)
        spellings.setdefault(folded(term.name), term)
    return terms


PLATFORMS: tuple[Platform, ...] = _register(
    Platform,
    {
        "behavior": "Behavior platform",
        "confocal": "Confocal microscopy platform",
        "ecephys": "Electrophysiology platform",
        "exaSPIM": "ExaSPIM platform",
        "FIP": "Frame-projected independent-fiber photometry platform",
        "HCR": "Hybridization chain reaction platform",
        "HSFP": "Hyperspectral fiber photometry platform",
        "ISI": "Intrinsic signal imaging platform",
        "mesoSPIM": "MesoSPIM platform",
        "MERFISH": "MERFISH platform",
        "MRI": "Magnetic resonance imaging platform",
        "multiplane-ophys": "Multiplane optical physiology platform",
        "single-plane-ophys": "Single-plane optical physiology platform",
        "SLAP2": "SLAP2 platform",
        "SmartSPIM": "SmartSPIM platform",
    },
)
"""Every platform, in the schema's order."""

MODALITIES: tuple[Modality, ...] = _register(
    Modality,
    {
        "behavior": "Behavior",
        "behavior-videos": "Behavior videos",
        "confocal": "Confocal microscopy",
        "ecephys": "Extracellular electrophysiology",
        "EMG": "Electromyography",
        "fMOST": "Fluorescence micro-optical sectioning tomography",
        "icephys": "Intracellular electrophysiology",
        "ISI": "Intrinsic signal imaging",
        "fib": "Fiber photometry",
        "merfish": "Multiplexed error-robust fluorescence in situ hybridization",
        "MRI": "Magnetic resonance imaging",
        "ophys": "Planar optical physiology",
        "slap": "Scanned line projection imaging",
        "SPIM": "Selective plane illumination microscopy",
    },
)
"""Every modality, in the schema's order."""
