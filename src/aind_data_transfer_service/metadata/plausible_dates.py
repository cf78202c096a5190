"""Dates that stand for no date, and dates that cannot have been."""

from datetime import date, datetime, timedelta, timezone

_FIRST_YEAR = 1980
"""Databases write an empty date as one of the years 1, 1753, 1899 and 1900."""
_EASTERNMOST = timezone(timedelta(hours=14))
"""Where a day begins first: a record states a day without a zone."""


def is_plausible(day: date, today: date | None = None) -> bool:
    """Return whether a date can be meant: of what has been, and of an animal of our time.

    Parameters
    ----------
    day : date
        When an animal was born or operated on, or a virus prepared.
    today : date | None
        The last day that can be; by default, today wherever that began first.
    """
    last = today or datetime.now(_EASTERNMOST).date()
    return _FIRST_YEAR <= day.year and date(day.year, day.month, day.day) <= last
