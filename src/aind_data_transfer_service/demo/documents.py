"""What describes the sample session: its metadata, and the spreadsheet that asks for its upload."""

import csv
import io
import json
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from aind_data_transfer_service.configs.job_configs import asset_name
from aind_data_transfer_service.demo.formats import write_json
from aind_data_transfer_service.demo.session import SUBJECT_ID, SampleSession

PLATFORM = "ecephys"
PROJECT = "Ephys Platform"
FIRST_TIME = datetime(2024, 2, 19, 11, 25, 17)
"""When the first sample was recorded; each further run of the demo is a day later."""

_OF_THE_LAB = {"subject": "subject_id", "procedures": "subject_id", "rig": "rig_id"}
"""What the lab knows beforehand, and by which of its ids it is found."""
_FUNDING = {
    "funder": {
        "name": "Allen Institute",
        "abbreviation": "AI",
        "registry": {"name": "Research Organization Registry", "abbreviation": "ROR"},
        "registry_identifier": "03cpe7c52",
    },
    "investigators": "Anna Apple",
}
_SESSION_LENGTH = timedelta(seconds=30)


def acquisition_time(number: int) -> datetime:
    """Tell when the sample with this number, from 0, was recorded."""
    return FIRST_TIME + timedelta(days=number)


def sample_asset_name(acquired: datetime) -> str:
    """Return the name of the asset that the service makes of the sample."""
    return asset_name(PLATFORM, SUBJECT_ID, acquired)


def write_lab_folder(folder: Path) -> Path:
    """Write what the lab knows beforehand, as `METADATA_FOLDER` wants it: by kind and id."""
    for kind, name in _OF_THE_LAB.items():
        document = _document(f"{kind}.json")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_json(folder / kind / f"{document[name]}.json", document)
    write_json(folder / "project_names.json", [PROJECT])
    (folder / "funding").mkdir(exist_ok=True)
    write_json(folder / "funding" / f"{PROJECT}.json", [_FUNDING])
    return folder


def write_metadata(folder: Path, acquired: datetime, zone: str) -> Path:
    """Write the document that comes with the recording, with its times."""
    folder.mkdir(parents=True, exist_ok=True)
    start = acquired.replace(tzinfo=ZoneInfo(zone))
    write_json(folder / "session.json", _with_times(_document("session.json"), start))
    return folder


def _document(name: str) -> Any:
    return json.loads((files(__package__) / "metadata" / name).read_text(encoding="utf-8"))


def _with_times(value: Any, start: datetime) -> Any:
    """Put the true times in place of those of the first sample, however deep they lie."""
    if isinstance(value, list):
        return [_with_times(item, start) for item in value]
    if not isinstance(value, dict):
        return value
    times = {"start_time": start, "end_time": start + _SESSION_LENGTH}
    return {
        key: (
            times[key.split("_", 1)[1]].isoformat()
            if key.endswith(("_start_time", "_end_time"))
            else _with_times(item, start)
        )
        for key, item in value.items()
    }


def sample_spreadsheet(session: SampleSession, metadata_dir: Path, acquired: datetime) -> bytes:
    """Compose the spreadsheet, as a .csv file, that asks for the upload of the session."""
    row = {
        "processor_full_name": "Anna Apple",
        "project_name": PROJECT,
        "process_capsule_id": "",
        "platform": PLATFORM,
        "acq_datetime": f"{acquired:%Y-%m-%d %H:%M:%S}",
        "subject_id": SUBJECT_ID,
        "modality0": "ecephys",
        "modality0.source": session.ecephys,
        "modality1": "behavior",
        "modality1.source": session.behavior,
        "modality2": "behavior-videos",
        "modality2.source": session.behavior_videos,
        "metadata_dir": metadata_dir,
    }
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, row)
    table.writeheader()
    table.writerow(row)
    return text.getvalue().encode("utf-8")
