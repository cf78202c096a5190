"""The documents that describe an asset, and how those of our own are composed.

A document that someone else wrote is kept byte for byte. Whether it is valid is asked of the JSON
Schema of aind-data-schema (`metadata.validity`).
"""

import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.schemas import Generation
from aind_data_transfer_service.metadata.terms import modality, organization, platform, registry
from aind_data_transfer_service.metadata.validity import (
    MOST_PROBLEMS,
    Status,
    problems_of,
    status_of,
)

KINDS = (
    "subject",
    "procedures",
    "data_description",
    "session",
    "acquisition",
    "rig",
    "instrument",
    "processing",
)
"""The documents that an asset can have, each a file of that name with `.json` at its end."""
RECORD_NAME = "metadata.nd.json"
"""The one file that repeats all of them."""
_HALF = re.compile("[\ud800-\udfff]")
_EXPECTED = ("subject", "procedures", "data_description", "processing")
_PAIRS = (("session", "acquisition"), ("rig", "instrument"))
_SCHEMA_URL = "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/"
_OF_A_TERM = ("abbreviation", "registry", "registry_identifier")
_GENERATION = Generation.V0
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

    @property
    def file_name(self) -> str:
        """The name that it has in the asset."""
        return f"{self.kind}.json"

    @property
    def data(self) -> bytes:
        """The bytes that are stored."""
        return self.raw if self.raw is not None else to_json(self.content)

    @property
    def problems(self) -> list[str]:
        """List the first problems of an invalid document, each as ``place: what is wrong``."""
        if self.status != Status.INVALID:
            return []
        found = problems_of(self.kind, self.content) or list(self.notes[:MOST_PROBLEMS])
        return found or ["its source holds it to be invalid"]


@dataclass(frozen=True)
class Facts:
    """What the request for an upload says of the asset."""

    asset: str
    location: str
    subject_id: str
    project_name: str
    platform: str
    """Abbreviation of the platform."""
    modalities: Sequence[str]
    """Abbreviations of the modalities, each once."""
    acquired: datetime
    """With its zone."""


@dataclass(frozen=True)
class Process:
    """Something that was done to the data on their way."""

    name: str
    """One of aind-data-schema's names of processes."""
    notes: str
    started: datetime
    ended: datetime
    input_location: str
    output_location: str
    software_version: str
    parameters: Mapping[str, Any]
    outputs: Mapping[str, Any]


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
    sources = [_funding(item) for item in funding if item.get("funder")]
    if default_funder and not sources:
        sources = [{"funder": _organization(default_funder)}]
    content: dict[str, Any] = {
        "describedBy": _SCHEMA_URL + "aind_data_schema/core/data_description.py",
        "schema_version": "0.13.4",
        "license": "CC-BY-4.0",
        "platform": platform(_GENERATION, facts.platform),
        "subject_id": facts.subject_id,
        "creation_time": facts.acquired.isoformat(),
        "label": None,
        "name": facts.asset,
    }
    if institution:
        content["institution"] = _organization(institution)
    content |= {"funding_source": sources, "data_level": "raw", "group": None}
    investigators = [_person(one) for one in _investigators(funding)]
    if investigators:
        content["investigators"] = investigators
    content |= {
        "project_name": facts.project_name,
        "restrictions": None,
        "modality": [modality(_GENERATION, name) for name in facts.modalities],
        "related_data": [],
        "data_summary": None,
    }
    status = status_of("data_description", content)
    return Document("data_description", content, status, "composed here")


def processing(
    processes: Sequence[Process], processor_full_name: str | None, earlier: Document | None = None
) -> Document:
    """Compose `processing.json`, after what was done earlier where someone says so.

    If no person is named, the document names none, which the schema calls invalid. A person whom
    the earlier document names stays.

    Raises
    ------
    MetadataError
        Where the earlier document has no list of processes to go on with.
    """
    done = [_process(item) for item in processes]
    if earlier is None:
        content: dict[str, Any] = {
            "describedBy": _SCHEMA_URL + "aind_data_schema/core/processing.py",
            "schema_version": "0.4.7",
            "processing_pipeline": {
                "data_processes": done,
                **({"processor_full_name": processor_full_name} if processor_full_name else {}),
            },
            "analyses": [],
        }
        return Document("processing", content, status_of("processing", content), "composed here")
    content = json.loads(json.dumps(earlier.content))
    check_processing(earlier)
    pipeline = content["processing_pipeline"]
    pipeline["data_processes"] += done
    if processor_full_name and not pipeline.get("processor_full_name"):
        pipeline["processor_full_name"] = processor_full_name
    return Document("processing", content, status_of("processing", content), earlier.source)


def check_processing(earlier: Document) -> None:
    """Make sure that an earlier `processing.json` can be gone on with.

    Raises
    ------
    MetadataError
        Where it cannot.
    """
    pipeline = earlier.content.get("processing_pipeline")
    if not (isinstance(pipeline, Mapping) and isinstance(pipeline.get("data_processes"), list)):
        raise MetadataError(
            f"{earlier.source} has no list processing_pipeline.data_processes to add this upload to"
        )


def record(
    facts: Facts, documents: Mapping[str, Document], created: datetime, now: datetime
) -> dict[str, Any]:
    """Compose `metadata.nd.json`: every document, and what is known of each."""
    statuses = statuses_of(documents)
    return {
        "describedBy": _SCHEMA_URL + "aind_data_schema/core/metadata.py",
        "schema_version": "0.2.16",
        "_id": str(uuid.uuid5(uuid.NAMESPACE_URL, facts.location)),
        "name": facts.asset,
        "created": created.isoformat(),
        "last_modified": now.isoformat(),
        "location": facts.location,
        "metadata_status": _overall(statuses),
        "external_links": [],
        **{kind: documents[kind].content if kind in documents else None for kind in KINDS},
    }


def statuses_of(documents: Mapping[str, Document]) -> dict[str, Status]:
    """Tell the status of every document that an asset has or ought to have."""
    statuses = {kind: documents[kind].status for kind in documents if kind in KINDS}
    statuses |= {kind: Status.MISSING for kind in _EXPECTED if kind not in statuses}
    for first, second in _PAIRS:
        if first not in statuses and second not in statuses:
            statuses |= {first: Status.MISSING}
    return {kind: statuses[kind] for kind in KINDS if kind in statuses}


def _overall(statuses: Mapping[str, Status]) -> Status:
    """Sum up: no subject is the worst that can be said, then an invalid document."""
    if statuses["subject"] == Status.MISSING:
        return Status.MISSING
    for status in (Status.INVALID, Status.UNKNOWN):
        if status in statuses.values():
            return status
    return Status.VALID


def _investigators(funding: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Take the investigators out of what is known of the funding, each once, by name."""
    people: dict[str, Mapping[str, Any]] = {}
    for item in funding:
        value = item.get("investigators") or ()
        parts = value.split(",") if isinstance(value, str) else value
        for part in parts:
            person = part if isinstance(part, Mapping) else {"name": part}
            name = str(person.get("name") or "").strip()
            if name and len(person) > len(people.get(name, ())):
                people[name] = {**person, "name": name}
    return list(people.values())


def _organization(name: str) -> dict[str, Any]:
    """Write an organization as the schema does; of one that it does not list, only the name."""
    return organization(_GENERATION, name) or {"name": name, **dict.fromkeys(_OF_A_TERM)}


def _person(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Write a person as the schema does, with the registry's identifier if the source states it."""
    identifier = stated.get("registry_identifier")
    known = registry(_GENERATION, stated.get("registry")) if identifier else None
    person = {"name": stated["name"], "abbreviation": None, "registry": known}
    return {**person, "registry_identifier": identifier if known else None}


def _funding(item: Mapping[str, Any]) -> dict[str, Any]:
    """Take what the schema knows of a source of funding."""
    found = {key: item[key] for key in ("funder", "grant_number", "fundee") if key in item}
    return found | {"funder": organization(_GENERATION, item["funder"]) or item["funder"]}


def _process(item: Process) -> dict[str, Any]:
    """Write what was done as the schema does."""
    return {
        "name": item.name,
        "software_version": item.software_version,
        "start_date_time": item.started.isoformat(),
        "end_date_time": item.ended.isoformat(),
        "input_location": item.input_location,
        "output_location": item.output_location,
        "code_url": _CODE_URL,
        "code_version": item.software_version,
        "parameters": dict(item.parameters),
        "outputs": dict(item.outputs),
        "notes": item.notes,
    }
