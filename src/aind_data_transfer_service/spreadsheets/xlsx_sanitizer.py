"""Unpacking a workbook that a stranger sent, before any library sees it.

An .xlsx file is a zip of XML. A few kilobytes of it can unpack to gigabytes, claim a table of
seventeen billion cells, or repeat one long text a hundred thousand times. So this module unpacks
only the parts that are needed and only up to a limit, reads through them once to see what they
hold, and hands on a plain archive of just those parts, under the usual names and without what the
library that reads cells refuses. What it saw on the way (cells with errors, formulas without
values) is kept, because libraries for reading do not tell.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from aind_data_transfer_service.configs.limits import (
    MAX_CELL_CHARACTERS,
    MAX_CELLS,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_SHEET_ROWS,
)
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.spreadsheets.number_formats import Layout
from aind_data_transfer_service.spreadsheets.rows import column_letters
from aind_data_transfer_service.spreadsheets.xlsx_parts import (
    DAMAGED,
    Package,
    local,
    new_parser,
    number_layouts,
    open_package,
    parse,
)
from aind_data_transfer_service.spreadsheets.xlsx_plain_table import find_plain_table

_REFERENCE = re.compile(r"([A-Za-z]{1,3})([1-9]\d{0,6})", re.A)
_KIND = re.compile(rb"""\st\s*=\s*(?:"[^"]*"|'[^']*')""")
_PADDED_TEXT = re.compile(rb"<((?:\w+:)?t)>(?=\s|[^<]*\s</)")
_KINDS = frozenset({None, "b", "d", "inlineStr", "n", "s", "str"})
"""Types of cells that the library reads whatever their value is."""
_ERRORS = frozenset(
    {b"", b"#DIV/0!", b"#N/A", b"#NAME?", b"#NULL!", b"#NUM!", b"#REF!", b"#VALUE!"}
)
"""Errors that the library knows."""
_SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change to a part."""

    begin: int
    """The place of the first byte that is replaced."""
    end: int
    content: bytes


@dataclass(slots=True)
class Part:
    """What reading through one part of a workbook showed."""

    rows: int = 0
    columns: int = 0
    errors: set[Place] = field(default_factory=set)
    """Cells that hold an error such as `#REF!`, by row and column from 0."""
    formulas: set[Place] = field(default_factory=set)
    """Formulas whose result is not a text."""
    layouts: dict[Place, Layout] = field(default_factory=dict)
    """Cells whose number format shows more than the number, as zeros before it."""
    hidden_rows: set[int] = field(default_factory=set)
    """Rows that are hidden, from 1."""
    repeated_row: int = 0
    """The first row that is there twice, or has a cell twice, from 1; 0 if none is."""
    shared: int = 0
    """How many cells refer to the table of shared texts."""
    edits: list[Edit] = field(default_factory=list)
    """Changes without which the library that reads cells would refuse the sheet."""


@dataclass(frozen=True, slots=True)
class CheckedSheet:
    """A sheet of a workbook that is safe to read."""

    name: str
    is_hidden: bool
    part: Part


@dataclass(frozen=True, slots=True)
class Workbook:
    """A workbook that is safe to read."""

    data: bytes
    """A plain archive of the parts that are needed."""
    sheets: tuple[CheckedSheet, ...]
    """The sheets of cells in the order of the archive."""
    date1904: bool
    """Whether days are counted from 1904, as old Macs did."""


def unpack(data: bytes, max_unpacked: int) -> Workbook:
    """Unpack and look through a workbook.

    Parameters
    ----------
    data : bytes
        The .xlsx file.
    max_unpacked : int
        How many bytes its parts may have in all.

    Raises
    ------
    SpreadsheetError
        Where it is encrypted, of another format, damaged, or larger inside than any list of jobs.
    """
    try:
        package = open_package(data, max_unpacked)
        for content in filter(None, (package.shared_texts, package.styles)):
            _Look(content, {})
        layouts = number_layouts(package.styles or b"<none/>")
        parts: list[Part] = []
        for sheet in package.sheets:
            parts.append(_look_through_sheet(sheet.content, layouts))
            _limit(parts)
    except (
        zipfile.BadZipFile,
        zlib.error,
        expat.ExpatError,
        EOFError,
        NotImplementedError,
        ValueError,
        OSError,
    ) as error:
        raise SpreadsheetError(DAMAGED) from error
    if package.shared_texts is not None:
        _limit_texts(parts, package, package.shared_texts)
    sheets = (
        CheckedSheet(sheet.name, sheet.is_hidden, part)
        for sheet, part in zip(package.sheets, parts, strict=True)
    )
    return Workbook(_packed(package, parts), tuple(sheets), package.date1904)


def _look_through_sheet(content: bytes, layouts: Mapping[str, Layout]) -> Part:
    """Read through a sheet for what its cells reach to, and what is wrong with them."""
    table = find_plain_table(content, layouts)
    if table is None:
        return _Look(content, layouts).part
    part = _Look(table.shell, layouts).part
    part.rows = max(part.rows, table.rows)
    part.columns = max(part.columns, table.columns)
    part.shared += table.shared
    part.layouts |= table.layouts
    _limit_cells(len(part.layouts))
    return part


class _Look:
    """Keeps where in a part the reading stands, and what was seen.

    Parameters
    ----------
    content : bytes
        The part.
    layouts : Mapping
        How number formats show numbers, by the style of a cell.
    """

    def __init__(self, content: bytes, layouts: Mapping[str, Layout]) -> None:
        self.part = Part()
        self._content = content
        self._layouts = layouts
        self._rows: set[int] = set()
        self._columns: set[int] = set()
        self._filled_row = -1
        self._depth = self._cell_begin = self._value_begin = 0
        self._row = self._column = -1
        self._kind: str | None = None
        self._style: str | None = None
        self._texts: list[str] | None = None
        self._is_past_table = False
        self._parser = new_parser(with_namespaces=False)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.Parse(content, True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        """See an element begin."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SpreadsheetError(
                f"the workbook holds XML nested deeper than {MAX_DEPTH} levels; save it again "
                "as .xlsx"
            )
        if self._is_past_table:
            return
        tag = name if ":" not in name else name.rpartition(":")[2]
        if tag == "c":
            self._cell(attributes)
        elif tag == "v" or tag == "is":
            self._reach()
            if tag == "v":
                self._value()
        elif tag == "f" and self._kind not in ("s", "str", "inlineStr"):
            self.part.formulas.add((self._row, self._column))
            _limit_cells(len(self.part.formulas))
        elif tag == "row":
            number = attributes.get("r", "")
            self._row = int(number) - 1 if _is_row_number(number) else self._row + 1
            self._column = -1
            if attributes.get("hidden", "0") not in ("0", "false"):
                self.part.hidden_rows.add(self._row + 1)
                _limit_cells(len(self.part.hidden_rows))
        elif tag == "dimension":
            begin = self._parser.CurrentByteIndex
            end = self._tag_end(begin)
            close = b"/>" if self._content[end - 2 : end] == b"/>" else b">"
            self._edit(begin, end, b'<%s ref="A1"%s' % (name.encode(), close))

    def _end(self, name: str) -> None:
        """See an element end."""
        self._depth -= 1
        if self._texts is not None:
            self._end_value()
        if name.endswith("sheetData"):
            self._is_past_table = True  # extensions have elements of the same names

    def _cell(self, attributes: dict[str, str]) -> None:
        """See a cell begin, which names its place or follows the one before."""
        reference = attributes.get("r")
        if reference is None:
            self._column += 1
        else:
            self._row, self._column = _place(reference)
        self._kind = attributes.get("t")
        self._style = attributes.get("s")
        self._cell_begin = self._parser.CurrentByteIndex
        if self._kind == "s":
            self.part.shared += 1

    def _reach(self) -> None:
        """See that a cell has a value, and note what it is besides."""
        part, place = self.part, (self._row, self._column)
        self._note_repeated()
        if self._row >= part.rows:
            part.rows = self._row + 1
        if self._column >= part.columns:
            part.columns = self._column + 1
        if self._kind == "e":
            part.errors.add(place)
            _limit_cells(len(part.errors))
        elif self._kind not in _KINDS:
            self._make_text(self._cell_begin)
        if self._style is not None and self._style in self._layouts:
            part.layouts[place] = self._layouts[self._style]
            _limit_cells(len(part.layouts))

    def _note_repeated(self) -> None:
        """Note a second value of one cell, of which the library keeps the last."""
        row = self._row
        if row != self._filled_row:
            self._filled_row = row
            self._columns = set()
            is_repeated = row in self._rows
            self._rows.add(row)
        else:
            is_repeated = self._column in self._columns
        self._columns.add(self._column)
        if is_repeated and not self.part.repeated_row:
            self.part.repeated_row = row + 1

    def _value(self) -> None:
        """See the value of a cell begin."""
        content = self._content
        begin = self._tag_end(self._parser.CurrentByteIndex)
        end = begin if content[begin - 2 : begin] == b"/>" else content.index(b"<", begin)
        value = content[begin:end]
        has_references = b"&" in value and self._kind != "str"
        if has_references or content[end : end + 2] in (b"<!", b"<?"):
            self._value_begin = begin
            self._texts = []
            self._parser.CharacterDataHandler = self._texts.append
        else:
            self._write(begin, end, value)

    def _end_value(self) -> None:
        """See the end of a value that is more than characters."""
        value = escape("".join(self._texts or ())).encode()
        self._texts = self._parser.CharacterDataHandler = None
        self._write(self._value_begin, self._parser.CurrentByteIndex, value)

    def _write(self, begin: int, end: int, value: bytes) -> None:
        """Have a value written as the library needs it.

        The library reads the number of a shared text as 0 if there are blanks around it, and no
        number with references to characters.
        """
        value = value.strip()
        if self._kind == "d":
            value = value.removesuffix(b"Z")  # every program shows it as the wall clock
        elif self._kind == "s" and not value:
            return self._make_text(self._cell_begin)
        elif self._kind == "s" and not value.isdigit():
            raise SpreadsheetError(DAMAGED)
        elif self._kind == "e" and value not in _ERRORS:
            return self._make_text(self._cell_begin)
        if value != self._content[begin:end]:
            self._edit(begin, end, value)

    def _make_text(self, begin: int) -> None:
        """Have a cell read as the text that its value is."""
        end = self._tag_end(begin)
        tag = _KIND.sub(b' t="str"', self._content[begin:end])
        self._edit(begin, end, tag)

    def _edit(self, begin: int, end: int, content: bytes) -> None:
        """Have bytes of the part replaced."""
        self.part.edits.append(Edit(begin, end, content))
        _limit_cells(len(self.part.edits))

    def _tag_end(self, begin: int) -> int:
        """Return where the tag ends that begins at a byte."""
        return self._content.index(b">", begin) + 1


def _is_row_number(text: str) -> bool:
    """Tell whether a text can be the number of a row."""
    return text.isascii() and text.isdigit() and len(text) <= 7 and text != "0"


def _place(reference: str) -> Place:
    """Turn a cell's name into its row and column, both from 0."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise SpreadsheetError(DAMAGED)
    letters = found[1]
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return int(found[2]) - 1, column - 1


def _limit(parts: Sequence[Part]) -> None:
    """Refuse tables and texts that would fill the memory."""
    total = 0
    for part in parts:
        total += part.rows * part.columns
        if total > MAX_CELLS:
            raise SpreadsheetError(
                f"a sheet reaches to cell {column_letters(part.columns - 1)}{part.rows}, far "
                "beyond any list of jobs; delete what lies beside and below the table"
            )
        if part.rows > MAX_SHEET_ROWS:
            raise SpreadsheetError(
                f"a sheet has a value in row {part.rows:,}, and at most {MAX_SHEET_ROWS:,} rows "
                "are read; delete what lies below the table"
            )


def _limit_cells(count: int) -> None:
    """Refuse more cells than any list of jobs has."""
    if count > MAX_CELLS:
        raise SpreadsheetError(
            f"a sheet has more than {MAX_CELLS:,} cells that are not blank; copy the jobs' cells "
            "alone into a new spreadsheet"
        )


def _limit_texts(parts: Sequence[Part], package: Package, shared: bytes) -> None:
    """Refuse texts that are too long, or that are repeated too often."""
    ends = [found.end() for found in re.finditer(rb"</(?:\w+:)?si\s*>", shared)]
    longest = max((b - a for a, b in zip([0, *ends], [*ends, len(shared)], strict=True)), default=0)
    if longest * sum(part.shared for part in parts) <= MAX_CHARACTERS:
        return
    lengths = _shared_lengths(shared)
    if any(length > MAX_CELL_CHARACTERS for length in lengths):
        raise SpreadsheetError(
            f"a cell holds more than {MAX_CELL_CHARACTERS:,} characters, which is more than a "
            "spreadsheet allows"
        )
    total = sum(
        lengths[index]
        for sheet, part in zip(package.sheets, parts, strict=True)
        if part.shared
        for index in _shared_uses(_edited(sheet.content, part.edits))
        if index < len(lengths)
    )
    if total > MAX_CHARACTERS:
        raise SpreadsheetError(
            f"the cells hold {total / 1024**2:,.0f} million characters in all; no list of jobs does"
        )


def _shared_lengths(content: bytes) -> list[int]:
    """Give the length of each shared text."""
    lengths: list[int] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if local(name) == "si":
            lengths.append(0)

    def text(characters: str) -> None:
        if lengths:
            lengths[-1] += len(characters)

    parse(content, start, text)
    return lengths


def _shared_uses(content: bytes) -> list[int]:
    """Give the number of the shared text of each cell that has one."""
    uses: list[int] = []
    inside = shared = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal inside, shared
        tag = local(name)
        if tag == "c":
            shared = attributes.get("t") == "s"
        inside = tag == "v" and shared

    def text(characters: str) -> None:
        if inside and characters.strip().isdecimal():
            uses.append(int(characters))

    parse(content, start, text)
    return uses


def _edited(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a part with its changes made."""
    if not edits:
        return content
    pieces = []
    place = 0
    for edit in edits:
        pieces += [content[place : edit.begin], edit.content]
        place = edit.end
    return b"".join([*pieces, content[place:]])


def _with_blanks(content: bytes) -> bytes:
    """Have the blanks at the ends of texts kept, which separate the words of formatted runs."""
    return _PADDED_TEXT.sub(rb'<\1 xml:space="preserve">', content)


def _packed(package: Package, parts: Sequence[Part]) -> bytes:
    """Put the parts into a plain archive, under the names that every program expects."""
    numbers = range(1, len(parts) + 1)
    sheets = "".join(f'<sheet name="{n}" sheetId="{n}" r:id="rId{n}"/>' for n in numbers)
    members: dict[str, str | bytes] = {
        "_rels/.rels": _relationships({"rId1": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f'<workbook xmlns="{_SPREADSHEET}" xmlns:r="{_OFFICE}">'
        f'<workbookPr date1904="{int(package.date1904)}"/><sheets>{sheets}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relationships(
            {f"rId{n}": ("worksheet", f"worksheets/sheet{n}.xml") for n in numbers}
        ),
    }
    for number, sheet, part in zip(numbers, package.sheets, parts, strict=True):
        table = _with_blanks(_edited(sheet.content, part.edits))
        members[f"xl/worksheets/sheet{number}.xml"] = table
    if package.shared_texts is not None:
        members["xl/sharedStrings.xml"] = _with_blanks(package.shared_texts)
    if package.styles is not None:
        members["xl/styles.xml"] = package.styles
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _relationships(targets: Mapping[str, tuple[str, str]]) -> str:
    """Write relationships: the kind and the target of each id."""
    lines = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_RELATIONSHIPS}">{lines}</Relationships>'
