"""Reading through the usual rows of a sheet quickly, by patterns instead of element by element.

Nearly all sheets have nothing but cells with a number, a shared text or a text of their own, each
with its place. Patterns find what such cells reach to. Everything else (the other elements, the
rows' own tags) is left to the parser, and so is a sheet with any other cell.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aind_data_transfer_service.configs.limits import MAX_DEPTH
from aind_data_transfer_service.spreadsheets.number_formats import Layout

_BEGIN, _END = b"<sheetData>", b"</sheetData>"
_DEPTH_IN_TABLE = 6
"""How deep elements are nested in a table, at most."""
_SEEN = rb"[^<>&\"\x00-\x20\x7f\xef]"
_TEXT = rb"[^<>&\"\x00-\x1f\x7f\xef]"  # U+FFFE and U+FFFF, which XML forbids, begin with 0xEF
_PLACE = rb'<c r="([A-Z]{1,3})([1-9][0-9]{0,6})"(?: s="([0-9]{1,9})")?'
_CELL = (
    rb'<c r="[A-Z]{1,3}[1-9][0-9]{0,6}"(?: s="[0-9]{1,9}")?'
    rb'(?:(?: t="(?:n|str|b|inlineStr)")?(?: ?/>|></c>)'
    rb'|(?: t="n")?><v>[0-9.eE+-]++</v></c>'
    rb'| t="s"><v>[0-9]++</v></c>'
    rb'| t="str"><v>' + _SEEN + rb"(?:" + _TEXT + rb"*" + _SEEN + rb")?</v></c>"
    rb'| t="b"><v>[01]</v></c>'
    rb'| t="inlineStr"><is><t(?: xml:space="preserve")?>' + _TEXT + rb"*+</t></is></c>)"
)
_ROW = re.compile(
    rb"[ \t\r\n]*(<row(?: [^<>']*)?)(?:(?<=/)>|(?<!/)>(?:[ \t\r\n]*"
    + _CELL
    + rb")*+[ \t\r\n]*</row>)"
)
_FILLED = re.compile(_PLACE + rb'(?: t="(n|s|str|b|inlineStr)")?><[vi]')
_NUMBERED_ROW = re.compile(rb'<row r="[1-9][0-9]{0,6}"[ />]?')
_VALUE = re.compile(rb"<(?:[^\s<>/]*:)?(?:v|is)[\s/>]")
_DECLARATION = re.compile(rb"<\?xml[^<>]*\?>")


@dataclass(frozen=True, slots=True)
class PlainTable:
    """What the cells of a table show, if all of them are plain."""

    shell: bytes
    """The sheet without its cells."""
    rows: int
    columns: int
    shared: int
    """How many cells refer to the table of shared texts."""
    layouts: dict[tuple[int, int], Layout]
    """Cells whose number format shows more than the number, as zeros before it."""


def find_plain_table(content: bytes, layouts: Mapping[str, Layout]) -> PlainTable | None:
    """Look through the cells of a sheet; return None if not all of them are plain.

    Parameters
    ----------
    content : bytes
        The sheet as XML in UTF-8.
    layouts : Mapping
        How number formats show numbers, by the style of a cell.
    """
    begin = content.find(_BEGIN) + len(_BEGIN)
    end = content.find(_END, begin)
    head, table = content[:begin], content[begin:end]
    if begin < len(_BEGIN) or end < 0 or not _is_plain_head(head, table):
        return None
    tags = _row_tags(table)
    if tags is None:
        return None
    cells: list[tuple[bytes, bytes, bytes, bytes]] = _FILLED.findall(table)
    if not _is_in_order(cells):
        return None
    return PlainTable(
        b"".join((head, *tags, content[end:])),
        max(map(int, {number for _, number, _, _ in cells}), default=0),
        max(map(_column_number, {letters for letters, _, _, _ in cells}), default=0),
        sum(kind == b"s" for _, _, _, kind in cells),
        _laid_out(cells, {style.encode(): layout for style, layout in layouts.items()}),
    )


def _is_plain_head(head: bytes, table: bytes) -> bool:
    """Return whether a sheet begins with nothing but elements, and its table is text in UTF-8."""
    if (
        head.count(b"<") > MAX_DEPTH - _DEPTH_IN_TABLE
        or head.count(b"sheetData") > 1
        or _VALUE.search(head)
    ):
        return False
    declaration = _DECLARATION.match(head)
    if b"<!" in head or head.count(b"<?") != (declaration is not None):
        return False
    if table.isascii():
        return True
    try:
        table.decode()
    except UnicodeDecodeError:
        return False
    return declaration is None or b"ascii" not in declaration[0].lower()


def _row_tags(table: bytes) -> list[bytes] | None:
    """Return the rows without their cells; None if there is anything else."""
    tags = []
    place = 0
    while found := _ROW.match(table, place):
        if b"hidden" in found[1] and not _NUMBERED_ROW.match(found[1]):
            return None  # its number depends on the cells before it
        tags.append(found[1] + b">" if found[1].endswith(b"/") else found[1] + b"></row>")
        place = found.end()
    return None if table[place:].strip(b" \t\r\n") else tags


def _is_in_order(cells: Sequence[tuple[bytes, bytes, bytes, bytes]]) -> bool:
    """Return whether no row goes back behind another, and no cell has two values."""
    numbers = [int(number) for _, number, _, _ in cells]
    places = {(letters, number) for letters, number, _, _ in cells}
    return len(places) == len(cells) and all(map(operator.le, numbers, numbers[1:]))


def _laid_out(
    cells: Sequence[tuple[bytes, bytes, bytes, bytes]], layouts: Mapping[bytes, Layout]
) -> dict[tuple[int, int], Layout]:
    """Find the cells whose number format shows more than the number."""
    if not layouts:
        return {}
    return {
        (int(number) - 1, _column_number(letters) - 1): layouts[style]
        for letters, number, style, _ in cells
        if style in layouts
    }


def _column_number(letters: bytes) -> int:
    """Return the number of a column from 1."""
    column = 0
    for letter in letters:
        column = column * 26 + letter - 64
    return column
