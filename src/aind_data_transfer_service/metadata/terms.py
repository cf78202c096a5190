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


def funder(generation: Generation, stated: Any) -> Any:
    """Complete a funder with what the generation lists of it.

    Parameters
    ----------
    generation : Generation
        Whose list of funders is searched.
    stated : Any
        A name, an abbreviation, or an organization as a generation of the schema writes it.
    """
    return _organization(generation, "funders", stated)


def institution(generation: Generation, stated: Any) -> Any:
    """Complete an institution with what the generation lists of it.

    Parameters
    ----------
    generation : Generation
        Whose list of institutions is searched.
    stated : Any
        A name, an abbreviation, or an organization as a generation of the schema writes it.
    """
    return _organization(generation, "institutions", stated)


def registry(generation: Generation, value: Any) -> Any:
    """Return a registry, such as ORCID, as the generation writes it; None if it lists none.

    Parameters
    ----------
    generation : Generation
        Whose list of registries is searched.
    value : Any
        A name, an abbreviation, both as `name (abbreviation)`, or a registry as a generation of the
        schema writes it.
    """
    wanted = _spellings(value)
    known = read_terms(generation)["registries"]
    return next((one for one in known if _spellings(one) & wanted), None)


def _spellings(stated: Any) -> set[str]:
    """Return the name and the abbreviation of a registry, folded."""
    if isinstance(stated, Mapping):
        found = [stated.get("name"), stated.get("abbreviation")]
    elif isinstance(stated, str):
        name, _, abbreviation = stated.partition(" (")
        found = [name, abbreviation.rstrip(") ")]
    else:
        found = []
    return {folded(one) for one in found if isinstance(one, str) and one.strip()}


def _organization(generation: Generation, role: str, stated: Any) -> Any:
    """Return the organization that is stated, with what the generation lists of it besides.

    What is stated is never replaced: if a value contradicts the list, nothing is added.
    """
    given = {"name": stated} if isinstance(stated, str) else stated
    name = given.get("name") if isinstance(given, Mapping) else None
    found = _listed(generation, role, name) if isinstance(name, str) else None
    if found is None:
        return stated
    if isinstance(stated, str):
        return found
    values = {key: value for key, value in stated.items() if value is not None and key != "name"}
    if "registry" in values:
        values["registry"] = registry(generation, values["registry"]) or values["registry"]
    if any(key in found and found[key] != value for key, value in values.items()):
        return stated
    return {**found, **values, "name": name}


def _listed(generation: Generation, role: str, name: str) -> dict[str, Any] | None:
    """Find an organization of a role by its name or, if it is nobody's, by its abbreviation.

    Generation 2 accepts every organization in each role. Abbreviations, which organizations share
    with others that no schema lists, are compared with those of the role in generation 1.
    """
    known = read_terms(generation)["organizations"]
    roles = read_terms(generation)[role] or read_terms(Generation.V1)[role]
    in_role = [one for one in known if one["name"] in roles]
    by_name = in_role if read_terms(generation)[role] else known
    for key, terms in (("name", by_name), ("abbreviation", in_role)):
        found = [one for one in terms if one[key] and folded(one[key]) == folded(name)]
        if len(found) == 1:
            return dict(found[0])
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
