"""Modalities, platforms, organizations and registries, as a generation writes them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from aind_data_transfer_service.configs.vocabulary import Modality, Platform, folded, quoted
from aind_data_transfer_service.metadata.schemas import read_structures, read_terms
from aind_data_transfer_service.settings.schema_generation import Generation

Role = Literal["funders", "institutions"]
"""The lists of organizations that a generation has."""


def modality(generation: Generation, abbreviation: str) -> dict[str, Any]:
    """Return a modality as the generation writes it; as the first that has it if it does not."""
    return _named(Modality, generation, "modalities", abbreviation)


def platform(generation: Generation, abbreviation: str) -> dict[str, Any]:
    """Return a platform as the generation writes it; as the first that has it if it does not."""
    return _named(Platform, generation, "platforms", abbreviation)


def missing_terms(generation: Generation, platform: str, modalities: Iterable[str]) -> list[str]:
    """Name the platform and the modalities that a generation does not have.

    Parameters
    ----------
    generation : Generation
        The generation; the second has no platforms, and needs none.
    platform : str
        Abbreviation of the platform.
    modalities : Iterable of str
        Abbreviations of the modalities.
    """
    wanted: list[tuple[str, str, Any, str]] = []
    if read_terms(generation)["platforms"]:
        wanted.append(("platform", "platforms", Platform, platform))
    wanted += [("modality", "modalities", Modality, name) for name in dict.fromkeys(modalities)]
    return [
        f"{noun} {quoted(name)}"
        for noun, kind, vocabulary, name in wanted
        if _term(generation, kind, _names(vocabulary, name)) is None
    ]


def organization(generation: Generation, role: Role | None, stated: Any) -> Any:
    """Complete an organization with what the generation lists of it.

    What is stated is never replaced: if a value contradicts the list, nothing is added.

    Parameters
    ----------
    generation : Generation
        Whose list of organizations is searched.
    role : str | None
        What the organization does: an abbreviation has to be one of an organization of this role.
        Without a role, only names are searched.
    stated : Any
        A name, an abbreviation, or an organization as a generation of the schema writes it.
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


def species(generation: Generation, name: str) -> dict[str, Any] | None:
    """Return a species as the generation writes it, by its Latin name; None if it lists none."""
    return _by_name(generation, "species", name)


def strain(generation: Generation, name: str) -> dict[str, Any] | None:
    """Return a background strain as the generation writes it; None if it lists none."""
    return _by_name(generation, "strains", name)


def structure(generation: Generation, acronym: str) -> dict[str, Any] | None:
    """Return a structure of the brain as the generation writes it; None if it lists none.

    Acronyms differ in case alone (`VI`, `vi`), so that the case counts.
    """
    found = read_structures(generation).get(acronym)
    return dict(found) if found else None


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


def _by_name(generation: Generation, kind: str, name: str) -> dict[str, Any] | None:
    """Return a term by its exact name."""
    known = read_terms(generation)[kind]
    return next((dict(one) for one in known if one["name"] == name), None)


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


def _listed(generation: Generation, role: Role | None, name: str) -> dict[str, Any] | None:
    """Find an organization of a role by its name or, if it is nobody's, by its abbreviation.

    Generation 2 accepts every organization in each role. Abbreviations, which organizations share
    with others that no schema lists, are compared with those of the role in generation 1.
    """
    known = read_terms(generation)["organizations"]
    if role is None:
        return next((dict(one) for one in known if folded(one["name"]) == folded(name)), None)
    roles = read_terms(generation)[role] or read_terms(Generation.V1)[role]
    in_role = [one for one in known if one["name"] in roles]
    by_name = in_role if read_terms(generation)[role] else known
    for key, terms in (("name", by_name), ("abbreviation", in_role)):
        found = [one for one in terms if one[key] and folded(one[key]) == folded(name)]
        if len(found) == 1:
            return dict(found[0])
    return None


def _named(
    vocabulary: Any,
    generation: Generation,
    kind: str,
    abbreviation: str,
) -> dict[str, Any]:
    """Return a term as a generation writes it, else as our vocabulary does."""
    names = _names(vocabulary, abbreviation)
    known = _term(generation, kind, names)
    if known is not None:
        return dict(known)
    return dict(zip(("abbreviation", "name"), names))


@cache
def _names(vocabulary: Any, abbreviation: str) -> tuple[str, ...]:
    """Return the abbreviation, the full name and the synonyms of a term of our vocabulary."""
    try:
        term = vocabulary.parse(abbreviation)
    except ValueError:
        return (abbreviation,)
    return (abbreviation, term.name, *term.synonyms)


@cache
def _term(generation: Generation, kind: str, names: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Find a term by its abbreviation or, if that is nobody's, by its name."""
    wanted = {folded(name) for name in names}
    for key in ("abbreviation", "name"):
        terms: Sequence[Mapping[str, Any]] = read_terms(generation)[kind]
        for term in terms:
            if folded(term[key]) in wanted:
                return term
    return None
