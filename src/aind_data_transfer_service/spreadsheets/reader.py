"""Reading a spreadsheet of jobs: every cell checked, every error with its row and column."""

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import PurePath
from zoneinfo import ZoneInfo

from aind_data_transfer_service.configs.datetimes import DateOrder
from aind_data_transfer_service.configs.duplicates import AssetRegister
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, ReadingContext
from aind_data_transfer_service.configs.limits import (
    MAX_CELL_CHARACTERS,
    MAX_COLUMNS,
    MAX_COUNTED_ERRORS,
    MAX_ERRORS,
    MAX_FILE_BYTES,
    MAX_JOB_CHARACTERS,
    MAX_JOBS,
    MAX_UNPACKED_BYTES,
)
from aind_data_transfer_service.configs.vocabulary import quoted, without_hints
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.plain_text import listed, more
from aind_data_transfer_service.spreadsheets import csv_reader, xlsx_reader
from aind_data_transfer_service.spreadsheets.header import Header, count_known, read_header
from aind_data_transfer_service.spreadsheets.row_parser import Draft
from aind_data_transfer_service.spreadsheets.rows import (
    Row,
    column_letters,
    is_blank,
    is_filled,
    refuse_wide,
)

_ENOUGH_NAMES = 3
"""So many names of columns make a row the header of a list of jobs."""

_NAMES = ("processor_full_name", "project_name", "process_capsule_id")
_OPENING, _CLOSING = tuple("\"'\u201c\u201e\u2018\u00ab"), tuple("\"'\u201d\u201c\u2019\u00bb")

_MOST_READ_PATHS = 20
"""Paths that were read as others and are listed one by one."""

_FEW_ROWS = 20
"""So far down the column names are looked for, to say where they are."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The settings that bear on how a spreadsheet is read."""

    date_order: DateOrder = "MDY"
    lab_timezone: ZoneInfo | None = None
    allowed_buckets: Collection[str] = ()
    bucket_names: Mapping[str, str] | None = None
    """The buckets behind words such as `private`; without it, a word stays as it is."""
    processor_optional: bool = False
    """Whether `processor_full_name` may be absent."""
    path_mappings: Mapping[str, str] | None = None
    names_platform: bool = True
    max_bytes: int = MAX_FILE_BYTES
    max_rows: int = MAX_JOBS


@dataclass(frozen=True, slots=True)
class JobRow:
    """One good row."""

    number: int
    """As the spreadsheet program shows it."""
    config: BasicUploadJobConfigs
    text: str
    """The job as JSON text."""


@dataclass(slots=True)
class ReadResult:
    """What a spreadsheet holds: its good rows, and what is wrong with the others."""

    rows: list[JobRow] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """The first `MAX_ERRORS` errors."""
    warnings: list[str] = field(default_factory=list)
    """What the reader had to guess."""
    error_count: int = 0
    """How many errors there are, those included that are not listed."""

    def add_errors(self, lines: Sequence[str]) -> None:
        """Count errors, and list them up to the limit."""
        self.error_count += len(lines)
        self.errors.extend(lines[: MAX_ERRORS - len(self.errors)])


def read_jobs(data: bytes, filename: str, options: ReadOptions = ReadOptions()) -> ReadResult:
    """Read a spreadsheet of jobs.

    Parameters
    ----------
    data : bytes
        The file.
    filename : str
        Its name; the ending, in any case, tells .csv from .xlsx.
    options : ReadOptions
        Date order, the lab's zone, and limits.

    Returns
    -------
    ReadResult
        All good rows, the first errors and the number of all; nothing is raised for bad input. A
        file that cannot be read at all is one error.
    """
    result = ReadResult()
    try:
        with _garbage_left():
            rows, date1904 = _open(data, filename, options, result.warnings)
            _Reader(result, options, date1904).read(rows)
    except SpreadsheetError as error:
        result.add_errors([str(error)])
    return result


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Look for no reference cycles meanwhile.

    Reading makes many objects that are kept and no cycles; to look through them again and again
    takes a quarter of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # count what was made as old, without a look through it
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def _open(
    data: bytes, filename: str, options: ReadOptions, warnings: list[str]
) -> tuple[Iterator[Row], bool]:
    """Open a file by its ending, and give the rows of its jobs."""
    if len(data) > options.max_bytes:
        raise SpreadsheetError(
            f"the file has {len(data) / 1024**2:.1f} MiB, and at most "
            f"{options.max_bytes / 1024**2:g} MiB are read; split it into several"
        )
    if not data.strip():
        raise SpreadsheetError("the file is empty; write a row of column names and a row a job")
    ending = PurePath(filename.strip()).suffix.lower()
    if ending == ".csv":
        if data.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
            raise SpreadsheetError(
                "the file is a workbook, though its name ends in .csv; "
                "save it as CSV, or give it its right ending"
            )
        return csv_reader.read_rows(data, warnings), False
    if ending == ".xlsx":
        sheets = xlsx_reader.read_sheets(data, MAX_UNPACKED_BYTES)
        sheet = _sheet_of_jobs(sheets.sheets)
        if sheet.repeated_row:
            raise SpreadsheetError(
                f"the sheet {quoted(sheet.name)} is damaged: it has row {sheet.repeated_row} "
                "twice, or a cell in it, and one of them would be lost; look whether all jobs are "
                "there, and save it again as .xlsx"
            )
        if hidden := [str(row.number) for row in sheet.rows[1:] if row.number in sheet.hidden_rows]:
            warnings.append(
                f"hidden rows are read like the others: {listed(hidden, separator=', ')}; delete "
                "those that you do not want to submit"
            )
        return iter(sheet.rows), sheets.date1904
    if ending == ".xls":
        raise SpreadsheetError(
            f"{quoted(filename)} is in Excel's old .xls format; open it and save it as "
            "Excel Workbook (.xlsx) or as CSV"
        )
    raise SpreadsheetError(
        f"{quoted(filename)} is no spreadsheet that can be read; save it as .csv or .xlsx"
    )


def _sheet_of_jobs(sheets: Sequence[xlsx_reader.Sheet]) -> xlsx_reader.Sheet:
    """Choose the one sheet that holds jobs; hidden and empty ones do not count."""
    filled = [sheet for sheet in sheets if sheet.rows and not sheet.hidden]
    listing = [s for s in filled if count_known(s.rows[0].cells) >= _ENOUGH_NAMES]
    with_jobs = [sheet for sheet in listing if len(sheet.rows) > 1]
    if len(with_jobs) > 1:
        names = ", ".join(quoted(sheet.name) for sheet in with_jobs)
        raise SpreadsheetError(
            f"more than one sheet holds jobs: {names}; put them into one file each"
        )
    if len(with_jobs or listing or filled) == 1 or with_jobs or listing:
        return (with_jobs or listing or filled)[0]
    if any(s.rows and count_known(s.rows[0].cells) >= _ENOUGH_NAMES for s in sheets):
        raise SpreadsheetError(
            "the only sheet with jobs is hidden; unhide it and save the file again"
        )
    if not filled:
        raise SpreadsheetError("the file is empty; write a row of column names and a row a job")
    names = ", ".join(quoted(sheet.name) for sheet in filled)
    raise SpreadsheetError(
        f"none of the sheets {names} begins with a row of column names; the template shows them"
    )


class _Reader:
    """Goes through the rows once, and collects what is good and what is wrong."""

    def __init__(self, result: ReadResult, options: ReadOptions, date1904: bool):
        self._result = result
        self._options = options
        self._date1904 = date1904
        context = ReadingContext(
            lab_timezone=options.lab_timezone,
            date_order=options.date_order,
            allowed_buckets=options.allowed_buckets,
            processor_optional=options.processor_optional,
            path_mappings=options.path_mappings,
            names_platform=options.names_platform,
            most_errors=MAX_COLUMNS,  # each belongs to a column
        )
        if options.bucket_names is not None:
            context["bucket_names"] = options.bucket_names
        self._context = dict(context)
        self._assets = AssetRegister("row")
        self._read_paths = 0

    def read(self, rows: Iterator[Row]) -> None:
        """Read the header, then every row."""
        first = next((row for row in rows if not is_blank(*row.cells)), None)
        if first is None:
            raise SpreadsheetError("the file is empty; write a row of column names and a row a job")
        refuse_wide(first)
        if not count_known(first.cells):
            rows = _refuse_title(first, rows)
        lines, end = self._collect(rows)
        header = read_header(first, self._options.processor_optional)
        self._result.add_errors(header.errors)
        # Without such a column, the errors of the rows would only repeat those of the header.
        for row in lines if header.has_required else ():
            # A hint costs more than the rest of the check, and only a listed error needs it.
            is_listed = len(self._result.errors) < MAX_ERRORS
            with nullcontext() if is_listed else without_hints():
                self._read_row(header, row)
            if self._result.error_count >= MAX_COUNTED_ERRORS:
                self._result.warnings.append(
                    f"the check stopped at row {row.number}, after {MAX_COUNTED_ERRORS:,} errors"
                )
                break
        if self._read_paths > _MOST_READ_PATHS:
            others = self._read_paths - _MOST_READ_PATHS
            read = more(
                others, "path of Windows was read as a path", "paths of Windows were read as paths"
            )
            self._result.warnings.append(f"{read} of the cluster; see the rows")
        if header.errors:
            self._result.rows.clear()
        if end is not None:
            raise end
        if not lines:
            raise SpreadsheetError(
                f"there are no jobs: no row beneath the column names (row {first.number}) is filled"
            )

    def _collect(self, rows: Iterator[Row]) -> tuple[list[Row], SpreadsheetError | None]:
        """Read the rows that are filled, up to the limits or to where the file is damaged."""
        lines: list[Row] = []
        try:
            for row in rows:
                if any(map(is_filled, row.cells)):
                    lines.append(row)
                    if len(lines) > self._options.max_rows:
                        break
        except csv_reader.DamagedText as error:
            return lines, error
        if len(lines) > self._options.max_rows:
            raise SpreadsheetError(
                f"more than {self._options.max_rows:,} jobs, which is the most that is read; "
                "split the file into several"
            )
        for row in lines:
            if len(row.cells) > MAX_COLUMNS:
                refuse_wide(row)
        return lines, None

    def _read_row(self, header: Header, row: Row) -> None:
        """Check one row, and put it among the good ones or say what is wrong with it."""
        draft = Draft(row, header, self._date1904)
        _note_long(row, header, draft)
        if header.nameless or len(row.cells) > header.width:
            _note_strays(header, row, draft)
        config = draft.finish(self._context)
        if config is None:
            self._result.add_errors(draft.lines())
            return
        text = config.model_dump_json()
        if len(text) > MAX_JOB_CHARACTERS:
            self._result.add_errors(
                [
                    f"row {row.number}: the job has {len(text):,} characters as JSON, and at most "
                    f"{MAX_JOB_CHARACTERS:,} can be submitted; shorten extra_configs, or name the "
                    "path of a file with them"
                ]
            )
            return
        if problem := self._assets.add(row.number, config):
            self._result.add_errors([f"row {row.number}: {problem}"])
            return
        self._result.rows.append(JobRow(row.number, config, text))
        for warning in config.warnings:
            self._warn(row, warning)
        self._warn_of_paths(draft.warnings)
        for name in _NAMES:
            value = getattr(config, name) or ""
            if value[:1] in _OPENING and value[-1:] in _CLOSING and len(value) > 1:
                self._warn(
                    row,
                    f"{name}: the quotation marks of {value} are a part of the value; remove them "
                    "unless they are meant",
                )

    def _warn(self, row: Row, text: str) -> None:
        """Add a warning of a row, up to the limit."""
        if len(self._result.warnings) < MAX_ERRORS:
            self._result.warnings.append(f"row {row.number}, {text}")

    def _warn_of_paths(self, warnings: Sequence[str]) -> None:
        """Show the first paths that were read as others; those of one file are mostly alike."""
        left = max(0, _MOST_READ_PATHS - self._read_paths)
        self._result.warnings += warnings[:left]
        self._read_paths += len(warnings)


def _refuse_title(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    """Refuse what stands above the column names; give back the rows that were looked at."""
    ahead = list(islice(rows, _FEW_ROWS))
    for row in ahead:
        if count_known(row.cells) >= _ENOUGH_NAMES:
            raise SpreadsheetError(
                f"row {first.number}: something stands above the column names, which are in row "
                f"{row.number}; delete what is above them"
            )
    return chain(ahead, rows)


def _note_long(row: Row, header: Header, draft: Draft) -> None:
    """Find cells with more characters than a spreadsheet program allows."""
    for index, cell in enumerate(row.cells):
        if type(cell) is str and len(cell) > MAX_CELL_CHARACTERS:
            names = {place: name for name, place in header.positions.items()}
            draft.note(
                names.get(index, f"column {column_letters(index)}"),
                f"the cell has {len(cell):,} characters, and at most {MAX_CELL_CHARACTERS:,} are "
                "read; shorten it",
            )


def _note_strays(header: Header, row: Row, draft: Draft) -> None:
    """Find values in columns that have no name."""
    for index, cell in enumerate(row.cells):
        if (index >= header.width or index in header.nameless) and not is_blank(cell):
            draft.note(
                f"column {column_letters(index)}",
                f"{quoted(cell)} stands in a column without a name; write one into row "
                f"{header.row}, or empty the cell",
            )
