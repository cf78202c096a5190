"""Documents in the shape of generation 2 of the schema: persons, code, and no platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aind_data_transfer_service.metadata.people import people_of
from aind_data_transfer_service.metadata.schemas import RECORD
from aind_data_transfer_service.metadata.terms import modality, organization, registry
from aind_data_transfer_service.settings.schema_generation import Generation

if TYPE_CHECKING:
    from aind_data_transfer_service.metadata.asset_facts import Facts, Process

TYPES = {
    "data_description": "Data description",
    "processing": "Processing",
    RECORD: "Metadata",
}
"""What documents of this generation call themselves, by kind."""
_SOFTWARE = "aind-data-transfer-service"
_CODE_URL = f"https://github.com/AllenNeuralDynamics/{_SOFTWARE}"
_ASSET_ROOT = "."
"""Paths in documents are relative to the folder of the documents."""


def data_description(
    facts: Facts,
    sources: Sequence[Mapping[str, Any]],
    people: Sequence[Mapping[str, Any]],
    institution: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write `data_description.json`; what nobody has stated is absent."""
    content: dict[str, Any] = {
        "subject_id": facts.subject_id,
        "creation_time": facts.acquired.isoformat(),
        "name": facts.asset,
    }
    if institution:
        content["institution"] = institution
    content |= {"funding_source": list(sources), "data_level": "raw"}
    if people:
        content["investigators"] = [_person(one) for one in people]
    return content | {
        "project_name": facts.project_name,
        "modalities": [modality(Generation.V2, name) for name in facts.modalities],
    }


def funding(item: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """Write a source of funding, with those funded as persons."""
    funder = organization(generation, "funders", item["funder"])
    found = {"object_type": "Funding", "funder": funder}
    if "grant_number" in item:
        found["grant_number"] = item["grant_number"]
    funded = people_of(item.get("fundee"))
    return found | ({"fundee": [_person(one) for one in funded]} if funded else {})


def add_processes(
    content: dict[str, Any], processes: Sequence[Process], processor_full_name: str | None
) -> None:
    """Add to `processing.json` what was done, each under a name of its own."""
    done = content["data_processes"]
    names = {name for one in done if isinstance(name := one.get("name"), str)}
    graph = content.get("dependency_graph")
    inputs: list[str] = []
    for process in processes:
        name = _free_name(process.name, names)
        names.add(name)
        done.append(_process(process, name, processor_full_name))
        if isinstance(graph, dict):  # a graph has to name every process
            graph[name] = inputs
        inputs = [name]


def _free_name(wanted: str, names: set[str]) -> str:
    """Number a name that is taken."""
    name, number = wanted, 0
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _process(item: Process, name: str, processor_full_name: str | None) -> dict[str, Any]:
    """Write what was done."""
    inputs = dict.fromkeys(item.input_locations)
    code = {
        "object_type": "Code",
        "url": _CODE_URL,
        "name": _SOFTWARE,
        "version": item.software_version,
        "input_data": [{"object_type": "Data asset", "url": location} for location in inputs],
        "parameters": dict(item.parameters),
    }
    return {
        "object_type": "Data process",
        "process_type": item.name,
        "name": name,
        "stage": "Processing",
        "code": code,
        "experimenters": [processor_full_name] if processor_full_name else [],
        "start_date_time": item.started.isoformat(),
        "end_date_time": item.ended.isoformat(),
        "output_path": _ASSET_ROOT,
        "output_parameters": dict(item.outputs),
        "notes": item.notes,
    }


def _person(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Write a person, with the identifier in a registry if the source states it."""
    found: dict[str, Any] = {"object_type": "Person", "name": stated["name"]}
    identifier = stated.get("registry_identifier")
    known = registry(Generation.V2, stated.get("registry")) if identifier else None
    return found | ({"registry": known, "registry_identifier": identifier} if known else {})
