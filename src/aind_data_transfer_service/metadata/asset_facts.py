"""What a job knows of an asset and of what was done to it, from which documents are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aind_data_transfer_service.settings.schema_generation import Generation


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
    generation: Generation = Generation.V0
    """The generation of the schema that the documents of the asset follow."""


@dataclass(frozen=True)
class Process:
    """Something that was done to the data on their way."""

    name: str
    """One of aind-data-schema's names of processes."""
    notes: str
    started: datetime
    ended: datetime
    input_locations: Sequence[str]
    """One for each source."""
    output_location: str
    software_version: str
    parameters: Mapping[str, Any]
    outputs: Mapping[str, Any]
