"""Numbers as the number formats of their cells show them: `000123`, `M000123`, `12-0003`. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

BUILT_IN = {"9": "0%", "10": "0.00%", "11": "0.00E+00", "48": "##0.0E+0"}
"""Formats that a workbook uses without defining them, by their ids, as far as they matter here."""

_TOKEN = re.compile(r'"([^"]*)"|\\(.)|[_*].|\[[^\]]*\]|(General)|(.)', re.S | re.I)
_OF_A_NAME = re.compile(r"[\w.-]")
"""Literal characters that may be a part of an id or a name; a currency or a blank is not."""
_DIGITS = frozenset("0#?")
_LARGEST = 10**15


@dataclass(frozen=True, slots=True)
class Layout:
    """How a number format shows whole numbers, if that is not by their digits alone."""

    pieces: tuple[str, ...] = ()
    """Literal texts, and a placeholder `0` or `#` for each digit, each in a text of its own with a
    NUL before it; empty if the format shows something that is not the number, as `50%`."""
    has_literals: bool = True

    def show(self, number: float) -> str | None:
        """Return a number as the cell shows it; None if that cannot be told.

        Parameters
        ----------
        number : float
            The value of the cell.
        """
        if not self.pieces or not number.is_integer() or not 0 <= number < _LARGEST:
            return None
        least = self.pieces.count("\0" + "0")
        digits = list(str(int(number)).zfill(least))
        left = sum(piece.startswith("\0") for piece in self.pieces)
        shown: list[str] = []
        for piece in self.pieces:
            if not piece.startswith("\0"):
                shown.append(piece)
                continue
            left -= 1
            count = max(0, len(digits) - left)
            shown += digits[:count]
            del digits[:count]
        return "".join(shown)


def layout_of(code: str) -> Layout | None:
    """Return how a number format shows a number; None if by its digits, as a date or as text.

    Parameters
    ----------
    code : str
        The format, as `"M"000000`. The section for positive numbers counts.

    Examples
    --------
    >>> layout_of("000000").show(123.0), layout_of('"M"000').show(7.0), layout_of("#,##0.00")
    ('000123', 'M007', None)
    """
    pieces: list[str] = []
    signs: set[str] = set()
    literals = ""
    for quoted, escaped, general, sign in _tokens(code):
        if sign in _DIGITS or general:
            pieces.append("\0" + ("0" if sign == "0" else "#"))
        elif sign.isalpha() or sign == "@":
            if sign.lower() != "e":
                return None
            signs.add("e")
        elif sign in ".,%/" and sign:
            signs.add(sign)
        elif literal := quoted or escaped or sign:
            pieces.append(literal)
            literals += literal
    if not any(piece.startswith("\0") for piece in pieces):
        return None
    if signs & {"%", "e"}:  # the id 5E10 becomes a number that is shown as 5.00E+10
        return Layout()
    if _OF_A_NAME.search(literals):
        return Layout() if signs else Layout(tuple(pieces))
    if signs or pieces.count("\0" + "0") < 2:
        return None
    return Layout(tuple(piece for piece in pieces if piece.startswith("\0")), has_literals=False)


def _tokens(code: str) -> Iterable[tuple[str, str, str, str]]:
    """Split the first section of a format: quoted text, escaped sign, `General`, other sign."""
    for found in _TOKEN.finditer(code):
        if found[4] == ";":
            return
        yield found[1] or "", found[2] or "", found[3] or "", found[4] or ""
