"""What people write into the cells of a list, read as what it means.

A cell that says nothing ("Select...", "N/A") is empty. One that says something else than is
expected, or a number that cannot be meant (a mouse of 1,537 g), is read as nothing either, and
noted word for word: coordinates such as "anterior half of the craniotomy" are of use to a person
and to nobody else. Every cell is either used or listed by `Item.rest`.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any

from aind_data_transfer_service.metadata.plausible_dates import is_plausible

_SAYS_NOTHING = frozenset(
    {"", "-", "n/a", "na", "none", "false", "select...", "select if applicable..."}
)
_UNFILLED = frozenset({"", "select...", "select if applicable..."})
"""What a form holds before anybody fills it in."""
_NUMBER = re.compile(r"([-+]?)\s*(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*([^\d\s.].*)?", re.IGNORECASE)
_MINUTES_SECONDS = re.compile(r"(\d+)\s*min\w*\s*(\d+)\s*sec\w*", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)")
_BETWEEN = re.compile(r"[,;/&]|\band\b")
_TIGHT_COMMA = re.compile(r"\d,\d")
_TIGHT_LIST = re.compile(r"([-+]?[\d.]+(?:,[\d.]+)+)([^\d,]*)")
_POINT_ZERO = re.compile(r"(?<=\d)\.0+$")
_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
_LINK = re.compile(
    r"""<a\s[^<>]*?href\s*=\s*["']([^"'<>]*)["'][^<>]*>(.{0,500}?)</a>""",
    re.IGNORECASE | re.DOTALL,
)
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff]")
_ENCODED = re.compile(r"_x([0-9a-f]{4})_", re.IGNORECASE)
_CUT_AFTER = 32
_CUT = re.compile(r"_x[0-9a-f]{0,4}$", re.IGNORECASE)

Units = Mapping[str, float]
"""What each unit counts in the unit that is wanted; "" for a number alone."""

MILLIMETRES: Units = {"": 1, "mm": 1} | dict.fromkeys(
    ("um", "µm", "μm", "micron", "microns", "micrometers"), 0.001
)
DEGREES: Units = dict.fromkeys(("", "°", "deg", "degree", "degrees"), 1)
GRAMS: Units = dict.fromkeys(("", "g", "gram", "grams"), 1)
NANOLITRES: Units = {"": 1, "nl": 1}
"""Microlitres in such a column are a slip of the pen."""
MICROLITRES: Units = dict.fromkeys(("", "ul", "µl", "μl"), 1)
MICROAMPERES: Units = dict.fromkeys(("", "ua", "µa", "μa", "uamp", "uamps"), 1)
PERCENT: Units = {"": 1, "%": 1}
_SECONDS = dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 60)
_MINUTES = dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1)
_HOURS = dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 60)
MINUTES: Units = {"": 1} | _SECONDS | _MINUTES | _HOURS
HOURS_AS_MINUTES: Units = {"": 60} | _MINUTES | _HOURS
"""Of columns that are filled in with hours."""


@dataclass(frozen=True)
class Measure:
    """What a number can be: its units, and the least and the greatest value that can be meant."""

    units: Units
    least: float
    most: float


COORDINATE = Measure(MILLIMETRES, -15, 15)
"""A mouse's brain is 13 mm long."""
DISTANCE = Measure(MILLIMETRES, -10, 10)
"""Between bregma and lambda: about 4 mm in a mouse; some write it with a sign."""
LENGTH = Measure(MILLIMETRES, 0.1, 20)
ANGLE = Measure(DEGREES, -90, 90)
WEIGHT = Measure(GRAMS, 1, 100)
"""Of a mouse."""
VOLUME = Measure(NANOLITRES, 0.1, 5000)
"""At one depth of a brain."""
EYE_VOLUME = Measure(MICROLITRES, 1, 500)
"""Behind an eye of a mouse."""
CURRENT = Measure(MICROAMPERES, 0.01, 100)
LEVEL = Measure(PERCENT, 0.01, 5)
"""Of isoflurane, as far as vaporizers go."""
ANAESTHESIA = Measure(HOURS_AS_MINUTES, 1, 360)
"""Six hours: "45" in a column of hours means minutes, or nothing that can be known."""
TITER = Measure({"": 1, "gc/ml": 1, "vg/ml": 1}, 1e6, 1e17)
DURATION = Measure(MINUTES, 0.01, 600)
RECOVERY = Measure(MINUTES, 0, 1440)

BOOKKEEPING = frozenset(
    {
        "id",
        "guid",
        "contenttype",
        "contenttypeid",
        "complianceassetid",
        "filesystemobjecttype",
        "attachments",
        "edit",
        "modified",
        "created",
        "odata__uiversionstring",
        "_uiversionstring",
        "odata__colortag",
        "_colortag",
        "linktitle",
        "linktitlenomenu",
        "itemchildcount",
        "folderchildcount",
        "serverredirectedembeduri",
        "serverredirectedembedurl",
        "authorid",
        "editorid",
        "authorlookupid",
        "editorlookupid",
        "appauthorlookupid",
        "appeditorlookupid",
        "_compliancetag",
        "_complianceflags",
        "_compliancetagwrittentime",
        "_compliancetaguserid",
    }
)
"""Columns in which SharePoint writes for itself."""


class Item:
    """One item of a list, which remembers what was used of it.

    Parameters
    ----------
    fields : Mapping
        The cells by the internal names of their columns, in any case.
    """

    def __init__(self, fields: Mapping[str, Any]):
        self._fields = fields
        self._names: dict[str, list[str]] = {}
        for column in fields:
            self._names.setdefault(column.lower(), []).append(column)
        self._used: set[str] = set()
        self.problems: list[str] = []

    def peek(self, *columns: str) -> str | None:
        """Return the first of these columns that says something; the cell stays unused."""
        return self._first(columns)[1]

    def text(self, *columns: str) -> str | None:
        """Use the first of these columns that says something."""
        column, words = self._first(columns)
        if column is not None:
            self._used.add(column)
        return words

    def choice(self, meanings: Mapping[str, Any], *columns: str) -> Any:
        """Use the first of these columns that holds one of these words, and return its meaning.

        Cells with other words stay unused.
        """
        for column in columns:
            words = (self.peek(column) or "").lower()
            if words in meanings:
                self.text(column)
                return meanings[words]
        return None

    def yes(self, column: str) -> bool:
        """Return whether a box is ticked."""
        return (self.peek(column) or "").lower() in ("true", "yes", "1")

    def number(self, measure: Measure, *columns: str) -> float | int | None:
        """Use a number, in the unit that is wanted."""
        words = self.text(*columns)
        if words is None:
            return None
        value = quantity(words, measure.units)
        return self._plausible([] if value is None else [value], measure, columns, words)

    def numbers(self, measure: Measure, *columns: str) -> list[float | int]:
        """Use one number or several, such as `0.3, 0.6 mm`."""
        words = self.text(*columns)
        if words is None:
            return []
        values = quantities(words, measure.units)
        usable = self._plausible(values, measure, columns, words) is not None
        return values if usable else []

    def day(self, zone: tzinfo, *columns: str) -> date | None:
        """Use a date; SharePoint keeps it as the midnight of its own place, in UTC."""
        words = self.text(*columns)
        if words is None:
            return None
        try:
            when = datetime.fromisoformat(words)
            day = when.astimezone(zone).date() if when.tzinfo else when.date()
        except (ValueError, OverflowError):  # what is left empty by some programs is the year 1
            self.problem(columns, words, "is no date")
            return None
        if not is_plausible(day):
            self.problem(columns, words, "is not plausible as a date")
            return None
        return day

    def problem(self, columns: tuple[str, ...], words: str, what: str) -> None:
        """Note a cell that cannot be used, in full."""
        column = self._first(columns)[0] or columns[0]
        line = f'{readable(column)}: "{words}" {what}'
        if line not in self.problems:
            self.problems.append(line)

    def rest(self) -> list[str]:
        """List the cells that somebody filled in and that were not used, one line per column."""
        lines = []
        for column in sorted(self._fields, key=str):
            own = column.lower() in BOOKKEEPING or column.startswith("@") or "@odata" in column
            if own or column in self._used:
                continue
            words = _plain(self._fields[column])
            if words.lower() not in _UNFILLED:
                lines.append(f"{readable(column)}: {words}")
        return lines

    def _first(self, columns: tuple[str, ...]) -> tuple[str | None, str | None]:
        """Return the first column that says something, by its name in the item, and its words."""
        for wanted in columns:
            for column in sorted(self._names.get(wanted.lower(), ()), key=wanted.__ne__):
                words = _plain(self._fields[column])
                if words.lower() not in _SAYS_NOTHING:
                    return column, words
        return None, None

    def _plausible(
        self, values: list[float | int], measure: Measure, columns: tuple[str, ...], words: str
    ) -> float | int | None:
        """Return the first value, or None after a note if one of them cannot be meant."""
        if not values:
            self.problem(columns, words, "is no number that can be used")
            return None
        if not all(measure.least <= value <= measure.most for value in values):
            limits = f"{measure.least:g} to {measure.most:g}"
            self.problem(columns, words, f"is not plausible (expected {limits})")
            return None
        return values[0]


def quantity(words: str, units: Units) -> float | int | None:
    """Read a number and its unit, `-3.8 mm`; None where it is anything else."""
    both = _MINUTES_SECONDS.fullmatch(words.strip()) if units is MINUTES else None
    if both is not None:
        return round(int(both.group(1)) + int(both.group(2)) / 60, 6)
    match = _NUMBER.fullmatch(words.strip())
    if match is None or ":" in words:
        return _of_clock(words, units)
    sign, digits, exponent, unit = match.groups()
    factor = units.get((unit or "").strip().rstrip(".").lower())
    if factor is None:
        return None
    value = round(float(f"{sign}{digits}{exponent or ''}") * factor, 6)
    if value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() else value


def quantities(words: str, units: Units) -> list[float | int]:
    """Read numbers that share the last one's unit; none where one of them is anything else.

    Numbers of both signs are not taken: `-3/2` may be a range, a fraction or two depths. Nor is
    what may have a decimal comma, such as `0,5`.
    """
    if _has_unclear_comma(words, units):
        return []
    parts = [part.strip() for part in _BETWEEN.split(words.strip().strip("[]()"))]
    last = _NUMBER.fullmatch(parts[-1])
    unit = (last.group(4) or "") if last else ""
    values = []
    for part in parts:
        bare = _NUMBER.fullmatch(part)
        alone = bare is not None and not bare.group(4)
        value = quantity(f"{part} {unit}" if alone else part, units)
        if value is None:
            return []
        values.append(value)
    signs = {value < 0 for value in values if value}
    return values if len(signs) <= 1 else []


def _has_unclear_comma(words: str, units: Units) -> bool:
    """Return whether a comma between two digits may be part of a number: `0,5` or `1,200 um`.

    It separates numbers if there are three, if one has a decimal point, or if both are micrometres
    of three digits, which together are no depth.
    """
    if not _TIGHT_COMMA.search(words):
        return False
    match = _TIGHT_LIST.fullmatch(words.strip().strip("[]()").strip())
    if match is None:  # another separator, or no list
        return True
    numbers = match.group(1).split(",")
    if len(numbers) > 2:
        return False
    first, second = numbers
    if units.get(match.group(2).strip().rstrip(".").lower()) == 0.001:
        thousands = re.fullmatch(r"\d{3}(\.\d*)?", second) is not None
        return not (thousands and len(first.lstrip("+-")) == 3) and "." not in first
    return "." not in match.group(1)


def identifier(value: Any) -> str:
    """Read an id, which a column of numbers holds as a number: 690165.0."""
    return _POINT_ZERO.sub("", _plain(value))


def readable(column: str) -> str:
    """Write a column's internal name as people see it: `Virus_x0020_A_x002f_P`, Virus A/P.

    SharePoint cuts such a name after 32 characters, within a sign's code if need be, and tells
    columns apart that are the same then by what it adds.
    """
    name = column.removeprefix("OData_")
    told = _ENCODED.sub(lambda match: _sign(match.group(1)), name[:_CUT_AFTER])
    if len(name) >= _CUT_AFTER:
        told = _CUT.sub("", told)
    return " ".join(f"{told} {name[_CUT_AFTER:]}".split()) or column


def _sign(code: str) -> str:
    """Give the sign of a code; half of a pair is none."""
    sign = chr(int(code, 16))
    return sign if sign.isprintable() else ""


def _of_clock(words: str, units: Units) -> float | int | None:
    """Read `1:45` where hours are wanted as minutes."""
    match = _CLOCK.fullmatch(words.strip())
    if match is None or units is not HOURS_AS_MINUTES:
        return None
    return int(match.group(1)) * 60 + int(match.group(2))


def _plain(value: Any) -> str:
    """Take the words out of a cell: rich text comes as HTML, several choices as a list."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return "; ".join(words for one in value if (words := _plain(one)))
    if value is None:
        return ""
    words = html.unescape(_TAG.sub(" ", _LINK.sub(r"\2 (\1)", str(value))))
    return " ".join(_UNSEEN.sub("", words).split())
