"""Reading the sheets of an Excel workbook (.xlsx).

Formulas count with the values that were stored with them. A hidden sheet is left alone; hidden rows
and columns are read, as they would be after saving as CSV.
"""

import io
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Self

from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.spreadsheets import xlsx_sanitizer
from aind_data_transfer_service.spreadsheets.number_formats import Layout
from aind_data_transfer_service.spreadsheets.rows import Cell, Row, is_filled


class Unusable(str):
    """A cell without a value of use: its text says why."""


ERROR_CELL = Unusable("the cell holds an error such as #REF! or #N/A; correct its formula")
UNSAVED_FORMULA = Unusable(
    "the formula has no stored value; open the file in Excel or LibreOffice and save it again"
)


class FormattedNumber(float):
    """A number whose number format may show something else than its digits.

    Parameters
    ----------
    number : float
        The number that is stored.
    layout : Layout
        How its format shows numbers.
    """

    __slots__ = ("_layout",)
    _layout: Layout

    def __new__(cls, number: float, layout: Layout) -> Self:
        """Make it."""
        self = super().__new__(cls, number)
        self._layout = layout
        return self

    def show(self) -> str | None:
        """Return what the cell shows; None if that is not certain."""
        return self._layout.show(self)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet that a person can see or has hidden."""

    name: str
    hidden: bool
    rows: tuple[Row, ...]
    """Its rows that are filled: neither blank nor check boxes and copied formulas alone."""
    hidden_rows: Set[int] = frozenset()
    """The numbers of the rows that are hidden, those that are not filled included."""
    repeated_row: int = 0
    """The first row of which only a part could be read, as it is there twice; 0 if none is."""


@dataclass(frozen=True, slots=True)
class Sheets:
    """The sheets of a workbook in their order."""

    sheets: tuple[Sheet, ...]
    date1904: bool


def read_sheets(data: bytes, max_unpacked: int) -> Sheets:
    """Read a workbook.

    Parameters
    ----------
    data : bytes
        The .xlsx file.
    max_unpacked : int
        How many bytes its parts may have in all once they are unpacked.

    Raises
    ------
    SpreadsheetError
        Where it cannot be read at all.
    """
    from python_calamine import CalamineError  # imported late: clients never read workbooks

    safe = xlsx_sanitizer.unpack(data, max_unpacked)
    try:
        return Sheets(tuple(_sheets(safe)), safe.date1904)
    except (CalamineError, ValueError, KeyError, OSError) as error:
        raise SpreadsheetError(
            "the file is damaged and cannot be read as a workbook; save it again as .xlsx"
        ) from error
    except BaseException as error:
        if not isinstance(error, OverflowError) and type(error).__name__ != "PanicException":
            raise  # the library's panics stand outside Exception and have no importable name
        raise SpreadsheetError(
            "the file is damaged, or a cell with a date format holds a number that is no date; "
            "correct it and save the file again as .xlsx"
        ) from error


def _sheets(safe: xlsx_sanitizer.Workbook) -> Iterator[Sheet]:
    """Read each sheet of cells."""
    from python_calamine import CalamineWorkbook

    with CalamineWorkbook.from_filelike(io.BytesIO(safe.data)) as workbook:
        for number, sheet in enumerate(safe.sheets):
            table = workbook.get_sheet_by_index(number).to_python(skip_empty_area=False)
            rows = _rows(table, sheet.part)
            part = sheet.part
            yield Sheet(sheet.name, sheet.is_hidden, rows, part.hidden_rows, part.repeated_row)


def _rows(table: list[list[Cell]], part: xlsx_sanitizer.Part) -> tuple[Row, ...]:
    """Return the filled rows with their numbers; cells without a usable value are marked."""
    for row, column in part.formulas:
        if row < len(table) and column < len(table[row]) and table[row][column] == "":
            table[row][column] = UNSAVED_FORMULA
    for row, column in part.errors:
        table.extend([] for _ in range(row + 1 - len(table)))
        table[row].extend([""] * (column + 1 - len(table[row])))
        table[row][column] = ERROR_CELL
    rows = tuple(
        Row(number, cells)
        for number, cells in enumerate(table, start=1)
        if any(
            is_filled(cell) and not _is_copied_down(cell, (number - 1, column), part)
            for column, cell in enumerate(cells)
        )
    )
    for (row, column), layout in part.layouts.items():
        if row < len(table) and column < len(table[row]):
            cell = table[row][column]
            if isinstance(cell, float):
                table[row][column] = FormattedNumber(cell, layout)
    return rows


def _is_copied_down(cell: Cell, place: xlsx_sanitizer.Place, part: xlsx_sanitizer.Part) -> bool:
    """Return whether a cell may be a formula that was copied down below the last job.

    A number or a date that a formula gives does not make its row a job; a text or an error does.
    """
    return place in part.formulas and not isinstance(cell, str)
