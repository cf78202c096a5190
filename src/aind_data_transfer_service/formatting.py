"""Sizes, times and numbers as a person reads them."""

SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float | None) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> size(999), size(1_234_567), size(None)
    ('999 B', '1.23 MB', '–')
    """
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(SIZE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit == 0 or value >= 100:
        return f"{value:.0f} {SIZE_UNITS[unit]}"
    return f"{value:.{1 if value >= 10 else 2}f} {SIZE_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Write a length of time, in its two largest units.

    Examples
    --------
    >>> duration(0.4), duration(75), duration(7_380)
    ('under 1 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds is None:
        return "–"
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    for unit, part, length, sub in (
        ("d", "h", 86_400, 3_600),
        ("h", "min", 3_600, 60),
        ("min", "s", 60, 1),
    ):
        if whole >= length:
            rest = whole % length // sub
            return f"{whole // length} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def number(value: float) -> str:
    """Write a whole number with its thousands set apart."""
    return f"{value:,.0f}"
