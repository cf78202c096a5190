"""Builders of jobs and of spreadsheets, so that each test writes only what it is about."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import openpyxl

from aind_data_transfer_service.spreadsheets.reader import ReadOptions, ReadResult, read_jobs

ROW: dict[str, Any] = {
    "processor_full_name": "Anna Apple",
    "project_name": "Ephys Platform",
    "process_capsule_id": None,
    "platform": "behavior",
    "acq_datetime": "2024-02-19 11:25:17",
    "subject_id": "690165",
    "modality0": "behavior",
    "modality0.source": "/shared_drive/690165/Behavior",
    "modality1": None,
    "modality1.source": None,
    "metadata_dir": None,
}
"""A good row."""


def row(**changes: Any) -> dict[str, Any]:
    """Make a good row, with changes; `modality0__source` stands for `modality0.source`."""
    return ROW | {name.replace("__", "."): value for name, value in changes.items()}


def rows(count: int) -> list[dict[str, Any]]:
    """Make so many good rows, each of another subject."""
    return [row(subject_id=str(690165 + number)) for number in range(count)]


def job(**changes: Any) -> dict[str, Any]:
    """Make the fields of a good job, as the API takes them."""
    return {
        "processor_full_name": "Anna Apple",
        "project_name": "Ephys Platform",
        "platform": "behavior",
        "subject_id": "690165",
        "acq_datetime": "2024-02-19T11:25:17",
        "modalities": [{"modality": "behavior", "source": "/shared_drive/690165/Behavior"}],
    } | changes


def header_of(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the columns of a table, in the order in which they turn up."""
    return list(dict.fromkeys(name for line in table for name in line))


def csv_text(
    table: Sequence[Mapping[str, Any]],
    delimiter: str = ",",
    end: str = "\r\n",
    quote: Callable[[str], str] = str,
) -> str:
    """Write a table as the text of a CSV file."""
    header = header_of(table)
    lines = [header] + [
        ["" if line.get(name) is None else str(line[name]) for name in header] for line in table
    ]
    return "".join(delimiter.join(map(quote, line)) + end for line in lines)


def csv_file(table: Sequence[Mapping[str, Any]], **how: Any) -> bytes:
    """Write a table as a CSV file in UTF-8."""
    return csv_text(table, **how).encode()


def workbook(**sheets: Sequence[Mapping[str, Any]]) -> openpyxl.Workbook:
    """Make a workbook with a table a sheet."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, table in sheets.items():
        sheet = book.create_sheet(name)
        header = header_of(table)
        for line in [dict(zip(header, header, strict=True)), *table] if header else []:
            sheet.append([line.get(column) for column in header])
    return book


def saved(book: openpyxl.Workbook) -> bytes:
    """Save a workbook."""
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def xlsx_file(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table as a workbook."""
    return saved(workbook(Jobs=table))


def with_parts(data: bytes, **parts: bytes | Callable[[bytes], bytes] | None) -> bytes:
    """Change parts of a workbook by their names' last piece: `sheet1=…` for `…/sheet1.xml`."""
    result = io.BytesIO()
    changes = dict(parts)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", 8) as new:
        for info in old.infolist():
            content: bytes | None = old.read(info)
            stem = info.filename.rpartition("/")[2].partition(".")[0]
            if stem in changes:
                change = changes.pop(stem)
                content = change(content) if callable(change) else change
            if content is not None:
                new.writestr(info.filename, content)
        for name, content in changes.items():
            new.writestr(f"xl/{name}.xml", content)
    return result.getvalue()


def read_csv(table: Sequence[Mapping[str, Any]], **options: Any) -> ReadResult:
    """Write a table as CSV, and read it."""
    return read_jobs(csv_file(table), "jobs.csv", ReadOptions(**options))


def read_xlsx(table: Sequence[Mapping[str, Any]], **options: Any) -> ReadResult:
    """Write a table as a workbook, and read it."""
    return read_jobs(xlsx_file(table), "jobs.xlsx", ReadOptions(**options))


ACQUIRED = datetime(2024, 2, 19, 11, 25, 17)
