"""What both kinds of spreadsheet give: rows of cells with the numbers that a person sees."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from aind_data_transfer_service.configs.limits import MAX_COLUMNS
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.plain_text import trim

Cell = str | int | float | bool | datetime | date | time | timedelta

_CHECK_BOX = frozenset({"true", "false"})

MAX_ROW = 1_048_576
"""The last row of the spreadsheet programs."""


class Row(NamedTuple):
    """A row that is not blank."""

    number: int
    """As the spreadsheet program shows it, from 1."""
    cells: Sequence[Any]


def is_blank(*cells: Any) -> bool:
    """Tell whether cells hold nothing but blanks."""
    for cell in cells:
        if not isinstance(cell, str) or not is_empty(cell):
            return False
    return True


def is_empty(text: str) -> bool:
    """Return whether a text holds nothing but blanks and invisible characters.

    Parameters
    ----------
    text : str
        The text.
    """
    return not text or text.isspace() or not (text.isascii() or trim(text))


def is_filled(cell: Any) -> bool:
    """Return whether a cell makes its row a job: a check box alone does not.

    Parameters
    ----------
    cell : Any
        The value of the cell.
    """
    if isinstance(cell, str):
        return not is_empty(cell) and cell.strip().lower() not in _CHECK_BOX
    return not isinstance(cell, bool)


def column_letters(index: int) -> str:
    """Name a column as the spreadsheet program does: 0 is `A`, 26 is `AA`."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def refuse_wide(row: Row) -> None:
    """Refuse a row with something in a column beyond those that any list of jobs has."""
    if len(row.cells) > MAX_COLUMNS and not is_blank(*row.cells[MAX_COLUMNS:]):
        raise SpreadsheetError(
            f"row {row.number} reaches beyond column {column_letters(MAX_COLUMNS - 1)} "
            f"({MAX_COLUMNS} columns); delete what lies beside the table"
        )
