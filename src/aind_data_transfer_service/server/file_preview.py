"""What a checked spreadsheet of jobs looks like on the page: its rows, with the errors of each."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from aind_data_transfer_service.jobs.json_text import MOST_CHARACTERS
from aind_data_transfer_service.jobs.manager import FileValidation
from aind_data_transfer_service.server.template_filters import Problem, problem

ROWS_AT_ONCE = 200
"""Rows that the page shows at first, and with each click for more."""


def _abbreviation(value: Any) -> Any:
    """Return the short name of a platform or modality."""
    return value.get("abbreviation", "") if isinstance(value, dict) else value


Abbreviated = Annotated[str, BeforeValidator(_abbreviation)]


class PreviewModality(BaseModel):
    """What the page shows of a modality."""

    modality: Abbreviated
    source: str


class PreviewJob(BaseModel):
    """What the page shows of a job."""

    subject_id: str
    platform: Abbreviated
    acq_datetime: str
    modalities: list[PreviewModality]
    metadata_dir: str | None = None
    project_name: str = ""
    processor_full_name: str | None = None
    s3_bucket: str | None = None


class Entry(BaseModel):
    """A row of the file with a job in it."""

    row: int
    job: Annotated[str, Field(max_length=MOST_CHARACTERS)]
    """JSON text of the job's settings."""
    asset: str


@dataclass
class PreviewRow:
    """A row of the file as the page shows it: its job, if that can be read, and its errors."""

    row: int
    job: PreviewJob | None = None
    asset: str = ""
    problems: list[Problem] = field(default_factory=list)


def preview_row(entry: Entry) -> PreviewRow:
    """Return the row of a job without errors."""
    return PreviewRow(entry.row, PreviewJob.model_validate_json(entry.job), entry.asset)


def preview_context(found: FileValidation, name: str) -> dict[str, Any]:
    """Return what the page shows of a checked file, and what it needs to submit its jobs.

    Rows with errors are first: in a long file they are looked for.

    Parameters
    ----------
    found : FileValidation
        What the check found.
    name : str
        Name of the file.
    """
    by_row: dict[int | None, list[Problem]] = defaultdict(list)
    for error in found.errors:
        one = problem(error)
        by_row[one.row].append(one)
    general = by_row.pop(None, [])
    places = {row: place for place, row in enumerate(found.rows)}
    bad = sorted(row for row in by_row if row is not None)
    good = [row for row in found.rows if row not in by_row]
    first = good[: max(0, ROWS_AT_ONCE - len(bad))]
    rest = good[len(first) :]
    rows = [_row(found, row, places.get(row), by_row.get(row, [])) for row in [*bad, *first]]
    return {
        "found": found,
        "name": name,
        "file_problems": [one.text for one in general],
        "bad_rows": len(bad),
        "rows": rows,
        "shown": len(rows),
        "total": len(bad) + len(good),
        "data": {
            "jobs": found.jobs,
            "assets": found.assets,
            "rest": [[row, places[row]] for row in rest],
        },
    }


def _row(found: FileValidation, row: int, place: int | None, problems: list[Problem]) -> PreviewRow:
    """Return a row, whose job is at a place among those that can be read."""
    if place is None:
        return PreviewRow(row, problems=problems)
    entry = Entry.model_construct(row=row, job=found.jobs[place], asset=found.assets[place])
    return replace(preview_row(entry), problems=problems)
