"""JSON Schemas and terms of aind-data-schema, one release a generation, as data.

The files beside this one are written by `python -m tests.support.schema_releases write`; nothing
here imports aind-data-schema.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from aind_data_transfer_service.settings.schema_generation import Generation

RELEASES = {Generation.V0: "0.34.4", Generation.V1: "1.4.0", Generation.V2: "2.9.2"}
"""The release whose schemas stand for a generation."""
_OF_BOTH = ("subject", "procedures", "data_description")
_OF_THE_FIRST = (*_OF_BOTH, "session", "acquisition", "rig", "instrument", "processing")
KINDS = {
    Generation.V0: _OF_THE_FIRST,
    Generation.V1: (*_OF_THE_FIRST, "quality_control"),
    Generation.V2: (
        *(*_OF_BOTH, "acquisition", "instrument", "processing"),
        *("quality_control", "model"),
    ),
}
"""The documents that an asset can have, each a file of that name with `.json` at its end."""
RECORD = "metadata.nd"
"""The record of an asset, which repeats them."""
_FILES = {kind: kind for kinds in KINDS.values() for kind in kinds} | {RECORD: "metadata"}
"""What the schema of a document is called here. Other files of people may have any name."""


@cache
def read_schema(generation: Generation, kind: str) -> dict[str, Any] | None:
    """Return the JSON Schema of a kind of document; None if the generation has no such document."""
    return _read(file_name(generation, _FILES[kind])) if kind in _FILES else None


@cache
def read_terms(generation: Generation) -> dict[str, list[Any]]:
    """Return the modalities, platforms, organizations, registries and animals of a generation."""
    return _read(file_name(generation, "terms")) or {}


@cache
def read_structures(generation: Generation) -> dict[str, dict[str, Any]]:
    """Return the structures of the brain that a generation lists, by acronym."""
    found = _read(file_name(generation, "structures")) or []
    return {one["acronym"]: one for one in found}


def version_of(generation: Generation, kind: str) -> str:
    """Return the `schema_version` of a kind of document."""
    schema = read_schema(generation, kind) or {}
    version: str = schema["properties"]["schema_version"]["const"]
    return version


def file_name(generation: Generation, content: str) -> str:
    """Name the file with a schema or the terms of a generation."""
    return f"{RELEASES[generation]}-{content}.json"


def _read(name: str) -> Any:
    """Read a file of this folder; None if there is no such file."""
    try:
        return json.loads(Path(__file__).with_name(name).read_bytes())
    except FileNotFoundError:
        return None
