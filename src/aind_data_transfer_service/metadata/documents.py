"""The documents that describe an asset, and how those of our own are composed.

A document that someone else wrote is kept byte for byte. Whether it is valid is asked of the JSON
Schema of aind-data-schema (`metadata.validation`).
"""

import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata import second_generation, terms
from aind_data_transfer_service.metadata.asset_facts import Facts, Process
from aind_data_transfer_service.metadata.people import investigators_of, people_of
from aind_data_transfer_service.metadata.schemas import KINDS, RECORD, version_of
from aind_data_transfer_service.metadata.terms import modality, platform, registry
from aind_data_transfer_service.metadata.validation import (
    MOST_PROBLEMS,
    Match,
    Status,
    check_version,
    problems_of,
    status_of,
)
from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.settings.schema_generation import Generation

COMPOSED = "composed here"
"""The source of documents that the job itself writes."""
RECORD_NAME = f"{RECORD}.json"
"""The one file that repeats all of them."""
_HALF = re.compile("[\ud800-\udfff]")
_EXPECTED = ("subject", "procedures", "data_description", "processing")
_PAIRS = (("session", "acquisition"), ("rig", "instrument"))
"""Of each pair, an asset has one; generation 2 has the second alone."""
_SCHEMA_URL = "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/"
_OF_A_TERM = ("abbreviation", "registry", "registry_identifier")
_CODE_URL = "https://github.com/AllenNeuralDynamics/aind-data-transfer-service"


@dataclass(frozen=True)
class Document:
    """A document of an asset."""

    kind: str
    content: Mapping[str, Any]
    status: Status
    source: str
    """Where it came from, for people."""
    raw: bytes | None = None
    """Its bytes, where someone else wrote them."""
    complete: bool = True
    """Whether this is all that there ought to be."""
    notes: tuple[str, ...] = ()
    """What is amiss besides, in words."""
    seconds: float | None = None
    """How long the answer took, where someone was asked."""
    generation: Generation = Generation.V0
    """The generation of the schema that it ought to follow."""

    @property
    def file_name(self) -> str:
        """The name that it has in the asset."""
        return f"{self.kind}.json"

    @property
    def data(self) -> bytes:
        """The bytes that are stored."""
        return self.raw if self.raw is not None else to_json(self.content)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the notes, and what is to be said about the release that the document follows."""
        version = check_version(self.kind, self.content, self.generation)
        return (
            (*self.notes, version.message) if version.match == Match.OTHER_RELEASE else self.notes
        )

    @cached_property
    def problems(self) -> list[str]:
        """List the first problems of an invalid document, each as ``place: what is wrong``.

        They are found once: a document does not change.
        """
        if self.status != Status.INVALID:
            return []
        found = problems_of(self.kind, self.content, self.generation)
        found = found or list(self.notes[:MOST_PROBLEMS])
        return found or ["its source holds it to be invalid"]


def to_json(content: Mapping[str, Any]) -> bytes:
    """Write a document as all of ours are written.

    What UTF-8 has no bytes for is escaped; NaN and infinity, which JSON has no words for, are null.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False)
    if not text.isascii():
        text = _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:
    """Put nothing in the place of what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def data_description(
    facts: Facts,
    funding: Sequence[Mapping[str, Any]] = (),
    institution: str | None = None,
    default_funder: str | None = None,
) -> Document:
    """Compose `data_description.json` from what was asked for and how the project is funded.

    What nobody has stated is absent, even if the schema then calls the document invalid:
    investigators, for one, are those whom the source of the funding names, and nobody else.

    Parameters
    ----------
    facts : Facts
        What the request says of the asset.
    funding : Sequence
        The sources of the project's funding.
    institution, default_funder : str | None
        The organization that collected the data, and the one that funds projects of which no
        funding is known; each by its name or abbreviation.
    """
    generation = facts.generation
    second = generation == Generation.V2
    paid = [item for item in funding if item.get("funder")]
    write_funding = second_generation.funding if second else _funding
    sources = [write_funding(item, generation) for item in paid]
    if default_funder and not sources:
        funder = _organization(terms.organization(generation, "funders", default_funder))
        sources = [write_funding({"funder": funder}, generation)]
    people = investigators_of(funding)
    located = (
        _organization(terms.organization(generation, "institutions", institution))
        if institution
        else None
    )
    write = second_generation.data_description if second else _description
    content = write(facts, sources, people, located)
    content = _headed("data_description", content, generation)
    funded = [one for item in paid for one in people_of(item.get("fundee"))] if second else []
    notes = dict.fromkeys(_lost_identifiers([*people, *funded], generation))
    return replace(_composed("data_description", content, generation), notes=tuple(notes))


def _description(
    facts: Facts,
    sources: Sequence[Mapping[str, Any]],
    people: Sequence[Mapping[str, Any]],
    institution: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write `data_description.json` as the first generations do."""
    generation = facts.generation
    content: dict[str, Any] = {
        "platform": platform(generation, facts.platform),
        "subject_id": facts.subject_id,
        "creation_time": facts.acquired.isoformat(),
        "label": None,
        "name": facts.asset,
    }
    if institution:
        content["institution"] = institution
    content |= {"funding_source": list(sources), "data_level": "raw", "group": None}
    if people:
        content["investigators"] = [_person(one, generation) for one in people]
    content |= {
        "project_name": facts.project_name,
        "restrictions": None,
        "modality": [modality(generation, name) for name in facts.modalities],
        "related_data": [],
        "data_summary": None,
    }
    return content


def processing(
    processes: Sequence[Process],
    processor_full_name: str | None,
    earlier: Document | None = None,
    generation: Generation = Generation.V0,
) -> Document:
    """Compose `processing.json`, after what was done earlier where someone says so.

    An earlier document is continued in the shape of its own generation. If no person is named, the
    document names none, which the schemas of generations 0.34 and 1 call invalid. A person whom
    the earlier document names stays.

    Raises
    ------
    MetadataError
        Where the earlier document has no list of processes to go on with.
    """
    if earlier is None:
        content = _headed(
            "processing", _new_processing(generation, processor_full_name), generation
        )
        source = COMPOSED
    else:
        check_processing(earlier)
        content, source = json.loads(json.dumps(earlier.content)), earlier.source
    if _is_flat(content):
        second_generation.add_processes(content, processes, processor_full_name)
    else:
        pipeline = content["processing_pipeline"]
        pipeline["data_processes"] += [_process(item) for item in processes]
        if processor_full_name and not pipeline.get("processor_full_name"):
            pipeline["processor_full_name"] = processor_full_name
    return replace(_composed("processing", content, generation), source=source)


def _new_processing(generation: Generation, processor_full_name: str | None) -> dict[str, Any]:
    """Write a `processing.json` in which nothing was done yet."""
    if generation == Generation.V2:
        return {"data_processes": []}
    pipeline: dict[str, Any] = {"data_processes": []}
    if processor_full_name:
        pipeline["processor_full_name"] = processor_full_name
    return {"processing_pipeline": pipeline, "analyses": []}


def _is_flat(content: Mapping[str, Any]) -> bool:
    """Return whether a `processing.json` has its processes in one list, as in generation 2."""
    return "processing_pipeline" not in content and isinstance(content.get("data_processes"), list)


def processes_of(content: Mapping[str, Any]) -> list[Any] | None:
    """Return the list of what was done that a `processing.json` holds; None if it holds none."""
    if _is_flat(content):
        processes: list[Any] = content["data_processes"]
        return processes
    pipeline = content.get("processing_pipeline")
    found = pipeline.get("data_processes") if isinstance(pipeline, Mapping) else None
    return found if isinstance(found, list) else None


def check_processing(earlier: Document) -> None:
    """Make sure that an earlier `processing.json` can be gone on with.

    Raises
    ------
    MetadataError
        Where it cannot.
    """
    done = processes_of(earlier.content)
    if done is None:
        raise MetadataError(
            f"{earlier.source} has no list processing_pipeline.data_processes or data_processes to "
            "add this upload to"
        )
    place = "data_processes" if _is_flat(earlier.content) else "processing_pipeline.data_processes"
    odd = [
        f"{place}.{number}: {quoted(one)} is not an object"
        for number, one in enumerate(done)
        if not isinstance(one, Mapping)
    ]
    if odd:
        raise MetadataError(f"{earlier.source}: {listed(odd, MOST_PROBLEMS)}")


def record(
    facts: Facts, documents: Mapping[str, Document], created: datetime, now: datetime
) -> dict[str, Any]:
    """Compose `metadata.nd.json`: every document, and one status of all of them."""
    generation = facts.generation
    content: dict[str, Any] = {"name": facts.asset, "location": facts.location}
    if generation != Generation.V2:
        content = {
            "_id": str(uuid.uuid5(uuid.NAMESPACE_URL, facts.location)),
            "name": facts.asset,
            "created": created.isoformat(),
            "last_modified": now.isoformat(),
            "location": facts.location,
            "metadata_status": _overall(statuses_of(documents, generation)),
            "external_links": [] if generation == Generation.V0 else {},
        }
    parts = {k: documents[k].content if k in documents else None for k in KINDS[generation]}
    return _headed(RECORD, content, generation) | parts


def invalid_parts(documents: Mapping[str, Document]) -> list[str]:
    """Name the invalid documents that the record repeats, each with its first problem."""
    return [
        f"{kind} is not valid: {_first_of(document.problems)}; see {document.file_name}"
        for kind, document in documents.items()
        if document.status == Status.INVALID
    ]


def _first_of(problems: Sequence[str]) -> str:
    """Return the first problem, and how many others are listed."""
    more = len(problems) - 1
    return problems[0] + (f" (and {more} more)" if more else "")


def _headed(kind: str, content: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """Begin a document with what says of which kind and release it is."""
    head = {
        "describedBy": f"{_SCHEMA_URL}aind_data_schema/core/{kind.removesuffix('.nd')}.py",
        "schema_version": version_of(generation, kind),
    }
    named = {"object_type": second_generation.TYPES[kind]} if generation == Generation.V2 else {}
    return {**named, **head, **content}


def _composed(kind: str, content: Mapping[str, Any], generation: Generation) -> Document:
    """Make a document of what was composed."""
    status = status_of(kind, content, generation)
    return Document(kind, content, status, COMPOSED, generation=generation)


def statuses_of(
    documents: Mapping[str, Document], generation: Generation = Generation.V0
) -> dict[str, Status]:
    """Return the status of every document that an asset has or ought to have."""
    kinds = KINDS[generation]
    statuses = {kind: documents[kind].status for kind in documents if kind in kinds}
    statuses |= {kind: Status.MISSING for kind in _EXPECTED if kind not in statuses}
    for pair in _PAIRS:
        known = [kind for kind in pair if kind in kinds]
        if not statuses.keys() & set(known):
            statuses |= {known[0]: Status.MISSING}
    return {kind: statuses[kind] for kind in kinds if kind in statuses}


def _overall(statuses: Mapping[str, Status]) -> Status:
    """Sum up: no subject is the worst that can be said, then an invalid document."""
    if statuses["subject"] == Status.MISSING:
        return Status.MISSING
    for status in (Status.INVALID, Status.UNKNOWN):
        if status in statuses.values():
            return status
    return Status.VALID


def _lost_identifiers(people: Sequence[Mapping[str, Any]], generation: Generation) -> list[str]:
    """Name the identifiers that the generation cannot express."""
    lost = []
    for one in people:
        identifier, stated = one.get("registry_identifier"), one.get("registry")
        if identifier and not registry(generation, stated):
            named = stated.get("name") if isinstance(stated, Mapping) else stated
            why = (
                f"the schema has no registry {quoted(named)}" if named else "no registry is stated"
            )
            lost.append(f"{one['name']}: the identifier {quoted(identifier)} is left out: {why}")
    return lost


def _organization(found: Any) -> dict[str, Any]:
    """Write an organization as the schema does; of one that it does not list, only the name."""
    return {"name": found, **dict.fromkeys(_OF_A_TERM)} if isinstance(found, str) else found


def _person(stated: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """Write a person as the schema does, with the registry's identifier if the source states it."""
    identifier = stated.get("registry_identifier")
    known = registry(generation, stated.get("registry")) if identifier else None
    person = {"name": stated["name"], "abbreviation": None, "registry": known}
    return {**person, "registry_identifier": identifier if known else None}


def _funding(item: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    """Take what the schema knows of a source of funding; it has those funded as one text."""
    found = {key: item[key] for key in ("funder", "grant_number", "fundee") if key in item}
    if not isinstance(found.get("fundee"), str | None):
        found["fundee"] = ", ".join(str(one["name"]) for one in people_of(found["fundee"])) or None
    return found | {"funder": terms.organization(generation, "funders", item["funder"])}


def _process(item: Process) -> dict[str, Any]:
    """Write what was done as the schema does."""
    return {
        "name": item.name,
        "software_version": item.software_version,
        "start_date_time": item.started.isoformat(),
        "end_date_time": item.ended.isoformat(),
        "input_location": ", ".join(item.input_locations),
        "output_location": item.output_location,
        "code_url": _CODE_URL,
        "code_version": item.software_version,
        "parameters": dict(item.parameters),
        "outputs": dict(item.outputs),
        "notes": item.notes,
    }
