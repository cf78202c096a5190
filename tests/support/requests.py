"""What a user asks for, as JSON text and as files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADER = (
    "processor_full_name,project_name,process_capsule_id,platform,acq_datetime,subject_id,"
    "modality0,modality0.source,metadata_dir"
)


def upload_settings(source: str | Path = "/shared/session/Behavior", **changes: Any) -> str:
    """Write the upload settings of one job as JSON text; a change to None takes a field out."""
    request: dict[str, Any] = {
        "processor_full_name": "Anna Apple",
        "project_name": "Ephys Platform",
        "platform": {"name": "Behavior platform", "abbreviation": "behavior"},
        "subject_id": "690165",
        "acq_datetime": "2024-02-19T11:25:17",
        "modalities": [{"modality": {"abbreviation": "behavior"}, "source": str(source)}],
    }
    request.update(changes)
    return json.dumps({name: value for name, value in request.items() if value is not None})


def csv_row(source: str | Path = "/shared/session/Behavior", **changes: str) -> str:
    """Write one row of a spreadsheet of jobs."""
    cells: Mapping[str, str] = {
        "processor_full_name": "Anna Apple",
        "project_name": "Ephys Platform",
        "process_capsule_id": "",
        "platform": "behavior",
        "acq_datetime": "2024-02-19 11:25:17",
        "subject_id": "690165",
        "modality0": "behavior",
        "modality0.source": str(source),
        "metadata_dir": "",
    } | changes
    return ",".join(cells[name] for name in HEADER.split(","))


def csv_file(*rows: str) -> bytes:
    """Write a spreadsheet of jobs."""
    return "\r\n".join([HEADER, *rows, ""]).encode()
