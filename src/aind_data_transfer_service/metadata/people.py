"""Persons, as sources name them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.configs.vocabulary import quoted


def doubts_about(funding: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which stated persons are left out, and which texts with commas are read as one name.

    Parameters
    ----------
    funding : Sequence
        The sources of a project's funding.
    """
    doubts: dict[str, None] = {}
    for item in funding:
        for key in ("investigators", "fundee"):
            value = item.get(key)
            for part in _parts(value):
                shown = f"{key}: {quoted(part)}"
                if part not in (None, "") and not _person(part)["name"]:
                    doubts[f"{shown} is no person and is left out; write a name"] = None
                elif isinstance(value, str) and "," in part:
                    advice = "if it names several people, write a list of names"
                    doubts[f"{shown} is read as one name; {advice}"] = None
    return list(doubts)


def _parts(value: Any) -> Sequence[Any]:
    """Divide what a source states into what is to be one person each."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, str):
        return [value]
    parts = [part.strip() for part in value.split(",") if part.strip()]
    are_names = len(parts) < 2 or all(len(part.split()) > 1 for part in parts)
    return parts if are_names else [value.strip()]


def _person(stated: Any) -> dict[str, Any]:
    """Read one person, with an empty name if none is stated."""
    person = dict(stated) if isinstance(stated, Mapping) else {"name": stated}
    name = person.get("name")
    return {**person, "name": name.strip() if isinstance(name, str) else ""}


def people_of(value: Any) -> list[dict[str, Any]]:
    """Read persons from a text, an object with a name, or a list of names or such objects.

    A text with commas is several persons only if each part has at least two words: `Koch, Christof`
    and `Anna Smith, PhD` are one name.
    """
    named = [_person(part) for part in _parts(value)]
    return [one for one in named if one["name"]]


def investigators_of(funding: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Take the investigators out of what is known of the funding, each once.

    Of one name are several people if their identifiers differ. Of one person, the statement with an
    identifier is taken, else the one with most values.

    Parameters
    ----------
    funding : Sequence
        The sources of a project's funding.
    """
    people: list[Mapping[str, Any]] = []
    for item in funding:
        for person in people_of(item.get("investigators")):
            same = (place for place, one in enumerate(people) if _may_be_one(one, person))
            place = next(same, None)
            if place is None:
                people.append(person)
            elif _richness(person) > _richness(people[place]):
                people[place] = person
    return people


def _may_be_one(person: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two statements of a person have the same name and no different identifiers."""
    identifiers = [str(one.get("registry_identifier") or "") for one in (person, other)]
    return person["name"] == other["name"] and len({*identifiers} - {""}) < 2


def _richness(person: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """Return how much is stated of a person, for comparisons."""
    stated = [bool(person.get(key)) for key in ("registry_identifier", "registry")]
    return stated[0], stated[1], sum(value is not None for value in person.values())
