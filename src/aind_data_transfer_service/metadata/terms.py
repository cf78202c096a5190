"""Modalities, platforms, organizations and registries, as a generation writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.configs.vocabulary import Modality, Platform, folded
from aind_data_transfer_service.metadata.schemas import Generation, read_terms

_RENAMED = (frozenset({"ophys", "pophys"}), frozenset({"slap", "slap2"}))
"""Abbreviations of modalities that mean the same in different generations."""


def modality(generation: Generation, abbreviation: str) -> dict[str, Any]:
    """Return a modality in full; its abbreviation alone if the generation does not have it."""
    names = {abbreviation, *_other_names(Modality, abbreviation)}
    for same in _RENAMED:
        names |= same if abbreviation in same else set()
    return _term(generation, "modalities", names) or {"abbreviation": abbreviation}


def platform(generation: Generation, abbreviation: str) -> dict[str, Any]:
    """Return a platform in full; its abbreviation alone if the generation does not have it."""
    names = {abbreviation, *_other_names(Platform, abbreviation)}
    return _term(generation, "platforms", names) or {"abbreviation": abbreviation}


def organization(generation: Generation, value: Any) -> dict[str, Any] | None:
    """Return the organization with a name or abbreviation; None if the generation lists none.

    Parameters
    ----------
    generation : Generation
        Whose list of organizations is searched.
    value : Any
        A name, an abbreviation, or an organization as a generation of the schema writes it.
    """
    name = value.get("name") if isinstance(value, Mapping) else value
    return _term(generation, "organizations", {name}) if isinstance(name, str) else None


def registry(generation: Generation, value: Any) -> Any:
    """Return a registry, such as ORCID, as the generation writes it; None if it lists none."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str):
        return None
    bare = folded(name.partition(" (")[0])
    for known in read_terms(generation).get("registries", ()):
        written = known if isinstance(known, str) else known["name"]
        if folded(written.partition(" (")[0]) == bare or folded(written).endswith(f"({bare})"):
            return known
    return None


def _term(generation: Generation, kind: str, names: set[str]) -> dict[str, Any] | None:
    """Find a term by its abbreviation or, if that is nobody's, by its name."""
    known: Sequence[dict[str, Any]] = read_terms(generation).get(kind, ())
    wanted = {folded(name) for name in names}
    for key in ("abbreviation", "name"):
        for term in known:
            if term.get(key) and folded(term[key]) in wanted:
                return dict(term)
    return None


def _other_names(vocabulary: Any, abbreviation: str) -> list[str]:
    """Return the full name of a term of ours."""
    try:
        return [vocabulary.parse(abbreviation).name]
    except ValueError:
        return []
