"""Reading the time of an acquisition, however a person or a program wrote it.

The rules, in one place:

- **Date and time are both needed.** A date alone is refused, and so is a spreadsheet's date cell
  without a time of day: the two cannot be told from midnight. Who means midnight writes
  `2024-02-19T00:00:00` as text.
- **Year first** is always year, month, day: `2024-02-19 11:25:17`, `2024/2/19 11:25`,
  `20240219T112517`.
- **Year last** with slashes or dashes is read in the lab's date order (`DATE_ORDER`, month first
  unless set): `2/19/2024 11:25 AM`. With dots it is always day first: `19.02.2024 11:25`.
- **Month names** (English) settle the order: `19-Feb-2024 11:25`, `Mon, 19 Feb 2024 11:25:17 GMT`,
  `Monday, February 19, 2024 11:25 AM`, `Mon Feb 19 11:25:17 2024`.
- **Two-digit years** are in this century: `2/19/24` is 2024.
- **The time of day** is `H:MM` or `H:MM:SS`, with any fraction of a second after `.` or `,`;
  digits beyond the microsecond are dropped. `AM`, `PM`, `a.m.` and `p.m.` go with hours 1 to 12.
- **Zone.** A time that names none is the lab's wall clock. One with `Z`, `UTC`, `GMT` or an offset
  is converted to the lab's wall clock where the lab's zone is known (the service), and kept as it
  is where it is not (a client). Abbreviations such as `PST` are refused: they mean different
  things to different people.
- **Clock changes.** Where the lab's clock is set back, its wall clock shows one hour twice: a time
  in that hour needs an offset, and keeps it. Where it is set forward, it skips an hour: a time in
  that hour is refused.
- **Years** lie between 1980 and 2099: what lies outside is a slip or a damaged cell.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal
from zoneinfo import ZoneInfo

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs.vocabulary import quoted

DateOrder = Literal["MDY", "DMY"]

FIRST_YEAR = 1980
LAST_YEAR = 2099

RIGHT = "write date and time, for example 2024-02-19T11:25:17 or 2/19/2024 11:25:17 AM"
_RIGHT_DAY_FIRST = "write date and time, for example 2024-02-19T11:25:17 or 19/2/2024 11:25:17"

_MONTHS = {
    name: number
    for number, names in enumerate(
        "jan january|feb february|mar march|apr april|may|jun june|jul july|aug august|"
        "sep sept september|oct october|nov november|dec december".split("|"),
        start=1,
    )
    for name in names.split()
}
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?"
)
_ZONE = (
    r"(?: ?(?P<zone>z|utc|gmt|(?:(?:utc|gmt) ?)?[+-]\d{2}(?::?\d{2}(?::\d{2})?)?)"
    r"(?: ?\((?:utc|gmt)\))?)?"
)
_GAP = r"(?:, ?| |t| ?at )"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?"
_MONTH_NAME = r"(?P<name>[a-z]{3,9})\.?"

_ISO = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})[ Tt]" + _CLOCK + _ZONE, re.I | re.A
)
_PLAIN = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[ T](\d{2}):(\d{2}):(\d{2})"
    r"|(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2})",
    re.A,
)
"""What most times look like: year first, or year last with slashes."""
_FORMS = tuple(
    re.compile(form, re.I | re.A)
    for form in (
        # 2/19/2024 11:25 AM, 19.02.2024 11:25
        r"(?P<first>\d{1,2})(?P<mark>[-/.])(?P<other>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})"
        rf"{_GAP}{_CLOCK}{_ZONE}",
        # 2024/2/19 11:25 and 2024-02-19_11-25-17, as an asset's name has it
        rf"(?P<year>\d{{4}})([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}}){_GAP}{_CLOCK}{_ZONE}",
        r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})[_T ]"
        r"(?P<hour>\d{2})-(?P<minute>\d{2})-(?P<second>\d{2})",
        # 20240219T112517
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[T_ ]?(?P<hour>\d{2})(?P<minute>\d{2})"
        rf"(?P<second>\d{{2}})(?:[.,](?P<fraction>\d+))?{_ZONE}",
        # 19-Feb-2024 11:25, Mon, 19 Feb 2024 11:25:17 GMT
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})\.?[- ]{_MONTH_NAME}[-, ] ?(?P<year>\d{{4}}|\d{{2}})"
        rf"{_GAP}{_CLOCK}{_ZONE}",
        # Monday, February 19, 2024 11:25 AM
        rf"{_WEEKDAY}{_MONTH_NAME} (?P<day>\d{{1,2}}),? (?P<year>\d{{4}}){_GAP}{_CLOCK}{_ZONE}",
        # Mon Feb 19 11:25:17 2024
        rf"{_WEEKDAY}{_MONTH_NAME} (?P<day>\d{{1,2}}) {_CLOCK}{_ZONE} (?P<year>\d{{4}})",
    )
)
_DATE_ALONE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(\d{4}|\d{2})|\d{8}"
    rf"|{_WEEKDAY}(\d{{1,2}}[- ][a-z]{{3,9}}[-, ] ?\d{{2,4}}|[a-z]{{3,9}} \d{{1,2}},? \d{{4}})",
    re.I | re.A,
)
_TIME_ALONE = re.compile(_CLOCK + _ZONE, re.I | re.A)
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?", re.A)
_ZONE_NAME = re.compile(r".*\d ?(?:[ap]m )?(?P<name>[a-z]{2,5}|[a-z]+/[a-z_/]+)", re.I | re.A)


def parse_acq_datetime(
    value: object, date_order: DateOrder = "MDY", lab_timezone: ZoneInfo | None = None
) -> datetime:
    """Read the time of an acquisition by the rules of this module.

    Parameters
    ----------
    value : object
        A `datetime`, or text.
    date_order : DateOrder
        How a date with slashes or dashes and its year last is read.
    lab_timezone : ZoneInfo | None
        The lab's zone: a time with an offset is converted to its wall clock. None: it keeps its
        offset.

    Returns
    -------
    datetime
        The lab's wall clock, without a zone; with its offset if the wall clock shows this time
        twice, or if the value has an offset and no `lab_timezone` is given.

    Raises
    ------
    ValueError
        Where the value is no date and time; the text says why, and what would be right.
    """
    if isinstance(value, str):
        moment = _from_text(value, date_order)
    elif isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        raise ValueError(f"{quoted(value.isoformat())} is a date without a time; {RIGHT}")
    else:
        raise ValueError(f"{quoted(value)} is no date and time; {RIGHT}")
    if moment.tzinfo is not None:
        moment = _on_the_wall(moment, lab_timezone)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(
            f"the year {moment.year} does not lie between {FIRST_YEAR} and {LAST_YEAR}; {RIGHT}"
        )
    if moment.tzinfo is None and lab_timezone is not None:
        _refuse_clock_change(moment, lab_timezone, or_repeated=True)
    return moment


def recorded_wall_clock(value: object) -> datetime | None:
    """Return the time of a recorded request if it is a wall clock's; None if it has an offset.

    An earlier release may have recorded a time that the clock skips or shows twice. The request
    was accepted with it, so it is not refused now.

    Parameters
    ----------
    value : object
        The value in the record.

    Examples
    --------
    >>> recorded_wall_clock("2024-11-03T01:30:00")
    datetime.datetime(2024, 11, 3, 1, 30)
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is None else None


def from_serial(serial: float, date1904: bool = False) -> datetime:
    """Read a date and time as spreadsheets keep it: days since the end of 1899 (or since 1904).

    Rounded to the millisecond, which is as fine as spreadsheets count.

    Raises
    ------
    ValueError
        Where the number is a whole one (a date without a time), or no likely date at all.
    """
    epoch = datetime(1904, 1, 1) if date1904 else datetime(1899, 12, 30)
    first = (datetime(FIRST_YEAR, 1, 1) - epoch).days
    last = (datetime(LAST_YEAR + 1, 1, 1) - epoch).days
    if not first <= serial < last:
        raise ValueError(f"{quoted(f'{serial:.15g}')} is a number and no date and time; {RIGHT}")
    moment = epoch + timedelta(milliseconds=round(serial * 86_400_000))
    if float(serial).is_integer():
        raise ValueError(date_cell_without_time(moment))
    return moment


def to_millisecond(moment: datetime) -> datetime:
    """Round the time of a cell to the millisecond, as `from_serial` does.

    Strict Open XML writes the binary fraction of a day in full, often just below the second.

    Parameters
    ----------
    moment : datetime
        The time as the workbook holds it.

    Examples
    --------
    >>> to_millisecond(datetime(2014, 1, 16, 15, 59, 59, 999999))
    datetime.datetime(2014, 1, 16, 16, 0)
    """
    if not moment.microsecond:
        return moment
    if moment.year > LAST_YEAR:
        return moment  # refused later, and the last moment of all cannot be rounded up
    rounded = moment + timedelta(microseconds=500)
    return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000)


def date_cell_without_time(day: date) -> str:
    """Say that a cell holds a date and no time of day, which may be midnight or not."""
    text = f"{day:%Y-%m-%d}"
    return (
        f'"{text}" is a date without a time; add the time of day, or write {text}T00:00:00 as text '
        "where midnight is meant"
    )


def _on_the_wall(moment: datetime, lab_timezone: ZoneInfo | None) -> datetime:
    """Convert to the lab's wall clock, or pin the offset where the lab's zone is not known."""
    try:
        if isinstance(moment.tzinfo, ZoneInfo):
            _refuse_clock_change(moment, moment.tzinfo, or_repeated=False)
        if lab_timezone is None:
            return _with_offset(moment)
        local = moment.astimezone(lab_timezone)
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            return _with_offset(local)
        return local.replace(tzinfo=None, fold=0)
    except OverflowError as error:
        raise ValueError(f"{moment} does not lie between {FIRST_YEAR} and {LAST_YEAR}") from error


def _with_offset(moment: datetime) -> datetime:
    """Replace the zone of a time by its offset at that time."""
    offset = moment.utcoffset()
    if offset is None:
        return moment.replace(tzinfo=None)
    if offset % timedelta(minutes=1):
        return moment.astimezone(UTC)  # JSON has no offsets with seconds
    return moment.replace(tzinfo=timezone(offset) if offset else UTC, fold=0)


def _refuse_clock_change(moment: datetime, zone: ZoneInfo, or_repeated: bool) -> None:
    """Refuse a time that the wall clock of a zone skips or, if asked, shows twice."""
    local = moment.replace(tzinfo=zone, fold=0)
    if local.utcoffset() == local.replace(fold=1).utcoffset():
        return
    readings = [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]
    is_skipped = readings[0] > readings[1]
    if not (is_skipped or or_repeated):
        return
    first, second = (one.astimezone(zone).isoformat() for one in sorted(readings))
    shown = quoted(moment.replace(tzinfo=None).isoformat())
    if is_skipped:
        problem = f"does not exist: the clock of {zone} was set forward and skipped it"
    else:
        problem = f"is ambiguous: the clock of {zone} was set back and showed it twice"
    raise ValueError(f"{shown} {problem}; write {first} or {second} as text")


def _from_text(value: str, date_order: DateOrder) -> datetime:
    """Read text in any of the known forms."""
    if moment := _from_plain_text(value, date_order):
        return moment
    value = plain_text.trim(value)
    found = _ISO.fullmatch(value)
    if found is None:
        text = " ".join(value.split())
        for form in _FORMS:
            if found := form.fullmatch(text):
                break
        else:
            if problem := plain_text.wrong_character(value):
                raise ValueError(f"{quoted(value)} holds {problem}; {_right(date_order)}")
            raise ValueError(_why_not(text, date_order))
    return _assemble(value, found.groupdict(), date_order)


def _from_plain_text(value: str, date_order: DateOrder) -> datetime | None:
    """Read text in one of the usual forms; return None if it is in no such form, or wrong."""
    if not (found := _PLAIN.fullmatch(value)):
        return None
    parts = found.groups()
    if parts[0]:
        year, month, day, hour, minute, second = map(int, parts[:6])
    else:
        first, other, year, hour, minute, second = map(int, parts[6:])
        month, day = (first, other) if date_order == "MDY" else (other, first)
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _assemble(text: str, part: dict[str, str | None], date_order: DateOrder) -> datetime:
    """Make a time of the parts that a form found."""
    year = int(part["year"] or 0)
    if len(part["year"] or "") == 2:
        year += 2000
    month, day = _month_and_day(text, part, date_order)
    hour = _hour(text, int(part["hour"] or 0), part.get("half"))
    fraction = (part.get("fraction") or "")[:6].ljust(6, "0")
    try:
        return datetime(
            year,
            month,
            day,
            hour,
            int(part["minute"] or 0),
            int(part.get("second") or 0),
            int(fraction),
            _offset(part.get("zone")),
        )
    except ValueError as error:
        raise ValueError(f"{quoted(text)} does not exist: {error}; {_right(date_order)}") from error


def _month_and_day(
    text: str, part: dict[str, str | None], date_order: DateOrder
) -> tuple[int, int]:
    """Tell the month from the day."""
    name = part.get("name")
    if name is not None:
        if name.lower() not in _MONTHS:
            raise ValueError(f"{quoted(text)} names no month; {_right(date_order)}")
        return _MONTHS[name.lower()], int(part["day"] or 0)
    if part.get("first") is None:
        return int(part["month"] or 0), int(part["day"] or 0)
    first, other = int(part["first"] or 0), int(part["other"] or 0)
    month, day = (first, other) if date_order == "MDY" and part["mark"] != "." else (other, first)
    if month > 12 >= day:
        order = "month/day/year" if month == first else "day/month/year"
        raise ValueError(
            f"{quoted(text)} has no month {month}: such dates are read {order} here; "
            f"{_right(date_order)}"
        )
    return month, day


def _hour(text: str, hour: int, half: str | None) -> int:
    """Turn an hour with AM or PM into one of 24."""
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"{quoted(text)}: AM and PM go with hours 1 to 12; {RIGHT}")
    return hour % 12 + (12 if half in "pP" else 0)


def _offset(zone: str | None) -> timezone | None:
    """Read `Z`, `UTC`, `GMT`, or an offset such as `-08:00`."""
    if zone is None:
        return None
    digits = re.sub(r"[^0-9]", "", zone).ljust(6, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    if int(digits[2:4]) > 59 or int(digits[4:]) > 59:
        raise ValueError("the offset's minutes must be below 60")
    return timezone(-offset if "-" in zone else offset) if offset else UTC


def _right(date_order: DateOrder) -> str:
    """Say what would be right, in the lab's date order."""
    return RIGHT if date_order == "MDY" else _RIGHT_DAY_FIRST


def _why_not(text: str, date_order: DateOrder) -> str:
    """Say why a text is no date and time."""
    right = _right(date_order)
    if _DATE_ALONE.fullmatch(text):
        return f"{quoted(text)} is a date without a time; {right}"
    if _TIME_ALONE.fullmatch(text):
        return f"{quoted(text)} is a time without a date; {right}"
    if _NUMBER.fullmatch(text):
        return (
            f"{quoted(text)} is a number and no date and time: give the column a date and time "
            f"format before saving; {right}"
        )
    zone = _ZONE_NAME.fullmatch(text)
    if zone and zone["name"].lower() not in _MONTHS:
        name = quoted(zone["name"])
        return (
            f"{quoted(text)}: {name} is not understood; leave the zone out for the lab's own time, "
            "or write an offset as in 2024-02-19T11:25:17-08:00"
        )
    return f"{quoted(text)} is no date and time; {right}"
