"""Numbers as the number formats of their cells show them: `000123`, `M000123`, `12-0003`. Pure.

A format that shows numbers in a way that is not certain, such as one with conditions, shows none
here, and a number with it is refused.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

BUILT_IN = {
    "1": "0",
    "2": "0.00",
    "3": "#,##0",
    "4": "#,##0.00",
    "9": "0%",
    "10": "0.00%",
    "11": "0.00E+00",
    "12": "# ?/?",
    "13": "# ??/??",
    "37": "#,##0 ;(#,##0)",
    "38": "#,##0 ;[Red](#,##0)",
    "39": "#,##0.00;(#,##0.00)",
    "40": "#,##0.00;[Red](#,##0.00)",
    "48": "##0.0E+0",
}
"""Formats that a workbook uses without defining them, by their ids, as far as they matter here."""

_LONGEST_CODE = 255
"""Characters of a number format in Excel."""
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*(?P<fill>.)|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<general>General)|(?P<sign>.)",
    re.S | re.I,
)
_PLAIN_BRACKET = re.compile(
    r"black|blue|cyan|green|magenta|red|white|yellow|colou?r ?\d+"
    r"|\$[^\w.<>=-]*(?:-[0-9a-f]{1,4})?",
    re.I,
)
"""What brackets may hold: colours, currency symbols without letters, and languages."""
_ELAPSED = re.compile(r"h+|m+|s+", re.I)
_DATE_LETTERS = frozenset("ymdhs")
_PLACEHOLDERS = frozenset("0#?")
_BLANKS = {"0": "0", "#": "", "?": " "}
"""What a placeholder shows that has no digit."""
_LARGEST = 10**15
_LARGEST_GENERAL = 10**11
"""General shows larger numbers in scientific notation."""


class _Date(Exception):
    """The format is one of dates or times."""


@dataclass(frozen=True, slots=True)
class Section:
    """How one section of a number format shows numbers."""

    pieces: tuple[str, ...] = ()
    """Literal texts, and a placeholder `0`, `#` or `?` for each digit before the decimal sign, each
    in a text of its own with a NUL before it; empty if the section shows something else than the
    number, as `50%`."""
    decimals: int = 0
    """Digits after the decimal sign."""
    has_literals: bool = False
    """Whether there are literal texts besides blanks and currency symbols."""
    is_exact: bool = True
    """Whether a whole number is shown with neither grouping nor decimal places."""
    largest: int = _LARGEST

    def show(self, number: float) -> str | None:
        """Return a number of 0 or more as the section shows it; None if that is not certain.

        Around the digits of a number as it is stored, grouping, a currency and zeros after the
        decimal sign are left out.

        Parameters
        ----------
        number : float
            The number.
        """
        if not self.pieces or not 0 <= number < self.largest:
            return None
        if not number.is_integer():
            return None if self.has_literals else self._rounded(number)
        digits = str(int(number)) if number else ""
        missing = sum(piece[0] == "\0" for piece in self.pieces) - len(digits)
        place = 0
        shown: list[str] = []
        for piece in self.pieces:
            if piece[0] != "\0":
                shown.append(piece)
            elif missing > 0:
                missing -= 1
                shown.append(_BLANKS[piece[1]])
            else:  # the first placeholder takes the digits for which there is none
                end = place + 1 - missing
                shown.append(digits[place:end])
                place, missing = end, 0
        text = "".join(shown).strip()
        if self.has_literals:
            return text
        plain = "".join(filter(str.isdigit, text))
        is_shown = plain == str(int(number)) or (self.is_exact and plain == text)
        return plain if plain and is_shown else None

    def _rounded(self, number: float) -> str:
        """Return a number with as many digits after the decimal sign as are shown."""
        stored = Decimal(f"{number:.15g}")
        rounded = stored.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP)
        return f"{stored if stored == rounded else rounded:f}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a number format shows numbers."""

    sections: tuple[Section, ...] = ()
    """For positive numbers, for negative ones, and for 0, or fewer; none if nothing is certain."""

    def show(self, number: float) -> str | None:
        """Return a number as the cell shows it; None if that is not certain.

        Parameters
        ----------
        number : float
            The value of the cell.
        """
        if not self.sections:
            return None
        first = self.sections[0]
        if number < 0:
            shown = first.show(-number)
            is_certain = shown and len(self.sections) == 1 and not first.has_literals
            return f"-{shown}" if is_certain else None
        return self.sections[2 if number == 0 and len(self.sections) > 2 else 0].show(number)


def layout_of(code: str) -> Layout | None:
    """Return how a number format shows numbers; None if by their digits alone, or as dates.

    Parameters
    ----------
    code : str
        The format, as `"M"000000`.

    Examples
    --------
    >>> layout_of("000000").show(123.0), layout_of('"M"000').show(7.0), layout_of("General")
    ('000123', 'M007', None)
    >>> layout_of('[<1000]"A"000;"B"0000').show(5000.0) is None
    True
    """
    if len(code) > _LONGEST_CODE:
        return Layout()
    sections: list[list[re.Match[str]]] = [[]]
    for token in _TOKEN.finditer(code):
        if token["sign"] == ";":
            sections.append([])
        else:
            sections[-1].append(token)
    if len(sections) > 4:
        return Layout()
    if code.strip().lower() in ("", "@", "general"):
        return None
    if any(token["sign"] == "@" for token in sections[-1]):
        sections.pop()  # it is for texts
    try:
        found = tuple(map(_section, sections))
    except _Date:
        return None
    except ValueError:
        return Layout()
    return Layout(found[:3])


def _section(tokens: list[re.Match[str]]) -> Section:
    """Read a section.

    Raises
    ------
    ValueError
        If it is not certain when it counts, or what it shows.
    _Date
        If it shows dates or times.
    """
    pieces: list[str] = []
    literals = marks = ""
    decimals = 0
    for token in tokens:
        sign = token["sign"] or ""
        literal = _literal(token)
        if literal:
            pieces.append(literal)
            literals += literal
        elif sign in _PLACEHOLDERS and "." in marks:
            decimals += 1
        elif sign in _PLACEHOLDERS or token["general"]:
            marks += token["general"] or "0"
            pieces.append("\0" + (sign or "0"))
        else:
            marks += sign
    has_literals = any(map(_is_of_a_name, literals))
    is_general = "General" in marks.title()
    has_digits = any(piece[0] == "\0" for piece in pieces)
    if not has_digits or marks.count(".") > 1 or (is_general and marks.title() != "General"):
        return Section()
    if set(marks) & set("%/") or not _is_grouped(marks):
        return Section()
    if has_literals and set(marks) & set(".,"):
        return Section()
    largest = _LARGEST_GENERAL if is_general else _LARGEST
    if is_general and not has_literals:
        decimals = 15
    is_exact = not set(marks) & set(".,")
    return Section(tuple(pieces), decimals, has_literals, is_exact, largest)


def _is_of_a_name(character: str) -> bool:
    """Return whether a literal character can be a part of an id or a name."""
    return not character.isspace() and unicodedata.category(character) != "Sc"


def _is_grouped(marks: str) -> bool:
    """Return whether commas only group digits: one after the last digit divides by a thousand."""
    return not marks.partition(".")[0].endswith(",") and not marks.endswith(",")


def _literal(token: re.Match[str]) -> str:
    """Return the text that a token shows in any case; empty if it shows digits or nothing."""
    sign, bracket = token["sign"], token["bracket"]
    if bracket is not None:
        if _ELAPSED.fullmatch(bracket):
            raise _Date
        if not _PLAIN_BRACKET.fullmatch(bracket):
            raise ValueError(f"[{bracket}] is a condition, or a text")
        return bracket[1:].partition("-")[0] if bracket[0] == "$" else ""
    if token["fill"] and _is_of_a_name(token["fill"]):
        raise ValueError("the width of the column decides how often it is shown")
    if sign is None:
        return token["quoted"] or token["escaped"] or ""
    if sign.lower() in _DATE_LETTERS:
        raise _Date
    if sign.isalpha() or sign in '@"[]\\*_\0' or sign.isdigit() and sign != "0":
        raise ValueError(f"{sign} is no sign of a number format")
    return "" if sign in _PLACEHOLDERS or sign in ".,%/" else sign
