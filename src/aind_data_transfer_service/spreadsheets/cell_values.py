"""Turning a workbook's cells into what was meant by them.

A workbook's cell is a number, a date or a truth value wherever its program thought that it was one:
a subject id comes as `690165.0`, an id such as `5-1` as a date. What a cell means depends on its
column.
"""

from datetime import date, datetime, time, timedelta
from typing import Any

from aind_data_transfer_service.configs import datetimes
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.spreadsheets.rows import Cell
from aind_data_transfer_service.spreadsheets.schema import Kind
from aind_data_transfer_service.spreadsheets.xlsx_reader import (
    FormattedNumber,
    Unusable,
)

_LONGEST_CLOCK = timedelta(days=10_000)


def meant(cell: Cell, kind: Kind, date1904: bool = False) -> Any:
    """Give what a cell that is not blank means in a column of some kind.

    Parameters
    ----------
    cell : Cell
        The cell's value.
    kind : Kind
        What the column holds.
    date1904 : bool
        Whether the workbook counts days from 1904.

    Returns
    -------
    Any
        Text, for most columns; a `datetime` for times, a truth value or number for flags.

    Raises
    ------
    ValueError
        Where the cell cannot mean anything in such a column.
    """
    if isinstance(cell, Unusable):
        raise ValueError(str(cell))
    if isinstance(cell, str) or (kind == "flag" and isinstance(cell, (bool, int, float))):
        return cell
    if kind == "time":
        return _moment(cell, date1904)
    if isinstance(cell, FormattedNumber):
        return _as_shown(cell)
    if isinstance(cell, (bool, int, float)):
        return as_text(cell)
    shown = f"{cell:%Y-%m-%d}" if isinstance(cell, date) else str(cell)
    raise ValueError(
        f"{quoted(shown)} is a date or time: perhaps the spreadsheet program made it one; "
        "format the cell as text and write it anew"
    )


def as_text(number: bool | int | float) -> str:
    """Write a number as a person would: `690165.0` is `690165`, True is `TRUE`."""
    if isinstance(number, bool):
        return str(number).upper()
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.15g}" if isinstance(number, float) else str(number)


def fraction_problem(cell: Cell) -> str:
    """Return why a cell does not name a subject if it is a number with a fraction; else nothing.

    A program shows such a number rounded, and leaves out zeros at its end.

    Parameters
    ----------
    cell : Cell
        The cell's value.

    Examples
    --------
    >>> fraction_problem(690165.4).split(";")[0], fraction_problem(690165.0)
    ('the number in the cell has a fraction (690165.4)', '')
    """
    if not isinstance(cell, float) or cell.is_integer():
        return ""
    shown = cell.show() if isinstance(cell, FormattedNumber) else None
    shows = "" if shown is None else f", and the cell shows {shown}"
    return (
        f"the number in the cell has a fraction ({as_text(float(cell))}){shows}; format the cell "
        "as text and write the subject's id, such as 690165"
    )


def _as_shown(number: FormattedNumber) -> str:
    """Return a number as its cell shows it, unless that is another number."""
    stored, shown = as_text(float(number)), number.show()
    if shown is None:
        raise ValueError(
            f"the number format of the cell shows something else than the number in it ({stored}), "
            "such as 50% for 0.5 or 5.00E+10 for an id 5E10; format the cell as text and retype "
            "the value"
        )
    if shown != stored and not number.is_integer():
        raise ValueError(
            f"the cell stores {stored} and shows {shown}; format the cell as text and write the "
            "value that you mean"
        )
    return shown


def _moment(cell: Cell, date1904: bool) -> datetime:
    """Read the cell of a time."""
    if isinstance(cell, datetime):
        return datetimes.to_millisecond(cell)
    if isinstance(cell, date):
        raise ValueError(datetimes.date_cell_without_time(cell))
    if isinstance(cell, timedelta) and cell > _LONGEST_CLOCK:  # a date in a format such as [h]:mm
        return datetimes.from_serial(cell / timedelta(days=1), date1904)
    if isinstance(cell, (time, timedelta)):
        raise ValueError(f"{quoted(str(cell))} is a time without a date; {datetimes.RIGHT}")
    if isinstance(cell, bool):
        raise ValueError(f"{quoted(as_text(cell))} is no date and time; {datetimes.RIGHT}")
    return datetimes.from_serial(float(cell), date1904)
