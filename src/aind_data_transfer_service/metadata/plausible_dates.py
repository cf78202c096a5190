"""Dates that stand for no date."""

from datetime import date

_FIRST_YEAR, _LAST_YEAR = 1980, 2100
"""Databases write an empty date as one of the years 1, 1753, 1899 and 1900."""


def is_plausible(day: date) -> bool:
    """Return whether a date can be meant: no animal of a record is from another century."""
    return _FIRST_YEAR <= day.year < _LAST_YEAR
