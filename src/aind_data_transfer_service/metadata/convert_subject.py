"""`subject.json` of a lab system in generations 1 and 2 of the schema."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata import terms
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.schemas import version_of
from aind_data_transfer_service.settings.schema_generation import Generation

_MOUSE = "Mus musculus"
_MONKEYS = frozenset({"Macaca mulatta", "Callithrix jacchus"})
_NOT_STATED = "Unknown"
"""The term of generation 2 for a strain or source that is not known."""
_NEEDED = ("sex", "date_of_birth", "genotype")


def subject_in(found: Found, generation: Generation) -> Found:
    """Write a subject of generation 0.34 in a later generation.

    Raises
    ------
    MetadataError
        If the generation has no document for the species.
    """
    write = _first if generation == Generation.V1 else _second
    content = {
        "describedBy": found.document["describedBy"],
        "schema_version": version_of(generation, "subject"),
        **write(found),
    }
    return replace(found, document=content)


def _first(found: Found) -> dict[str, Any]:
    """Write it as generation 1: it names terms otherwise, and has the same fields."""
    content = dict(found.document)
    del content["schema_version"]
    if "species" in content:
        content["species"] = terms.species(Generation.V1, content["species"]["name"])
    source = terms.organization(Generation.V1, None, content["source"])
    return content | {"source": source}


def _second(found: Found) -> dict[str, Any]:
    """Write it as generation 2, in which each kind of animal has fields of its own."""
    content = found.document
    name = (content.get("species") or {}).get("name")
    if name not in _MONKEYS | {_MOUSE}:
        raise MetadataError(
            f"{found.source}: generation 2 of the schema has no subject document for "
            f"{name or 'an animal of unknown species'}; put a subject.json into metadata_dir, or "
            "set METADATA_SCHEMA to 0.34 or 1"
        )
    write = _mouse if name == _MOUSE else _monkey
    details, lines = write(content)
    notes = [*str(content["notes"] or "").splitlines(), *lines]
    return {
        "object_type": "Subject",
        "subject_id": content["subject_id"],
        "subject_details": details,
        "notes": "\n".join(notes) or None,
    }


def _common(content: Mapping[str, Any]) -> dict[str, Any]:
    """Write what all animals have."""
    name = content["source"]["name"]
    name = _NOT_STATED if name == "Other" else name
    stated = {key: content[key] for key in _NEEDED if content.get(key) is not None}
    return {
        **stated,
        "species": terms.species(Generation.V2, content["species"]["name"]),
        "source": terms.organization(Generation.V2, None, name),
    }


def _mouse(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Write the details of a mouse, and the notes for what has no field."""
    breeding, housing = content["breeding_info"], content["housing"]
    lines = []
    if breeding:
        breeding = {"object_type": "Breeding info", **breeding}
        group = breeding.pop("breeding_group")
        lines = [f"breeding group: {group}"] if group else []
    return {
        "object_type": "Mouse subject",
        **_common(content),
        "strain": terms.strain(Generation.V2, content["background_strain"] or _NOT_STATED),
        "alleles": content["alleles"],
        "breeding_info": breeding,
        "wellness_reports": content["wellness_reports"],
        "housing": {"object_type": "Housing", **housing} if housing else None,
        "restrictions": content["restrictions"],
        "rrid": content["rrid"],
    }, lines


def _monkey(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Write the details of a monkey, and the notes for what has no field."""
    details = {"object_type": "Non human primate subject", **_common(content)}
    genotype = details.pop("genotype", None)
    if day := details.get("date_of_birth"):
        details["year_of_birth"] = int(day[:4])
    details["mating_status"] = "Unknown"
    others = {
        "genotype": genotype,
        "background strain": content["background_strain"],
        **(content["breeding_info"] or {}),
        **(content["housing"] or {}),
    }
    return details, [*_lines(others)]


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    """Write the values that are stated, a line each."""
    for name, value in values.items():
        if value:
            yield f"{name.replace('_', ' ')}: {value}"
