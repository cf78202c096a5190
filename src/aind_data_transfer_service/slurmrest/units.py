"""Times and sizes as Slurm's commands take them, such as `02:00:00` and `16G`."""

import math
import re
from typing import Any

MINUTES = "minutes, such as 120, or a time, such as 02:00:00 or 1-12:00:00"
MEGABYTES = "megabytes, such as 16000, or a size, such as 16G"

_CLOCK = re.compile(r"([0-9]{1,9}):([0-9]{1,9})(?::([0-9]{1,9}))?", re.A)
_DAYS = re.compile(r"([0-9]{1,9})-([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?", re.A)
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([KMGT])(?:I?B)?", re.A | re.I)
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}


def to_minutes(value: Any) -> Any:
    """Return the minutes of a time, rounded up; any other value as it is.

    Two numbers are minutes and seconds, and three are hours, minutes and seconds, as Slurm reads
    them. Behind a number of days the first one is hours. Each may be larger than on a clock.

    Parameters
    ----------
    value : Any
        What was written.

    Examples
    --------
    >>> [to_minutes(one) for one in ("02:00:00", "90:30", "1-12", "1-12:30", 120, "soon")]
    [120, 91, 2160, 2190, 120, 'soon']
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if found := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif found := _CLOCK.fullmatch(text):
        first, second, third = found.groups()
        days = 0
        hours, minutes, seconds = map(int, (first, second, third) if third else (0, first, second))
    else:
        return value
    return math.ceil((((days * 24 + hours) * 60 + minutes) * 60 + seconds) / 60)


def two_part_time(value: Any) -> str:
    """Return what a time of two numbers means, which many take for hours and minutes.

    Parameters
    ----------
    value : Any
        What was written.

    Returns
    -------
    str
        A sentence; empty if the value is something else.

    Examples
    --------
    >>> two_part_time("06:30")
    '"06:30" is 6 minutes and 30 seconds; for hours and minutes, write "06:30:00"'
    """
    text = value.strip() if isinstance(value, str) else ""
    found = _CLOCK.fullmatch(text)
    if found is None or found[3]:
        return ""
    minutes, seconds = int(found[1]), int(found[2])
    return (
        f'"{text}" is {minutes} minutes and {seconds} seconds; for hours and minutes, write '
        f'"{text}:00"'
    )


def to_megabytes(value: Any) -> Any:
    """Return the megabytes of a size with a unit, rounded up; any other value as it is.

    The units are powers of 1,024, as in Slurm, with or without a `B` or `iB` behind them.

    Parameters
    ----------
    value : Any
        What was written.

    Examples
    --------
    >>> [to_megabytes(one) for one in ("16G", "1.5 GB", "512MiB", "1T", "2000K", "16000", 8)]
    [16384, 1536, 512, 1048576, 2, '16000', 8]
    """
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return value
    return math.ceil(float(found[1]) * _MEGABYTES[found[2].upper()])
