"""Unpacking a workbook that a stranger sent, before any library sees it.

An .xlsx file is a zip of XML. A few kilobytes of it can unpack to gigabytes, claim a table of
seventeen billion cells, or repeat one long text a hundred thousand times. So this module unpacks
only the parts that are needed and only up to a limit, reads through them once to see what they
hold, and hands on a plain archive of just those parts. What it saw on the way (cells with errors,
formulas without values) is kept, because libraries for reading do not tell.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

from aind_data_transfer_service.configs.spreadsheet_limits import (
    MAX_CELL_CHARACTERS,
    MAX_CELLS,
    MAX_CHARACTERS,
    MAX_DEFINED_NAMES,
    MAX_DEPTH,
    MAX_PARTS,
    MAX_SHEET_ROWS,
    MAX_SHEETS,
    MAX_TAGS,
)
from aind_data_transfer_service.configs.tables import column_letters
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import SpreadsheetError

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NEEDED = re.compile(
    r"\[content_types\]\.xml|_rels/\.rels"
    r"|xl/(?!theme|drawings|charts|media|comments|printer).*\.(xml|rels)"
)
_REFERENCE = re.compile(r"([A-Z]{1,3})([1-9]\d{0,6})", re.A)
_DAMAGED = "the file is damaged and cannot be read as a workbook; save it again as .xlsx"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Place = tuple[int, int]


@dataclass(slots=True)
class Part:
    """What reading through one part of a workbook showed."""

    rows: int = 0
    columns: int = 0
    errors: set[Place] = field(default_factory=set)
    """Cells that hold an error such as `#REF!`, by row and column from 0."""
    formulas: set[Place] = field(default_factory=set)
    """Formulas that should have left a number."""
    shared: int = 0
    """How many cells refer to the table of shared texts."""
    date1904: bool = False


@dataclass(frozen=True, slots=True)
class Workbook:
    """A workbook that is safe to read."""

    data: bytes
    """A plain archive of the parts that are needed."""
    parts: dict[str, Part]
    """What each part holds, by its path in lower case."""
    paths: dict[str, str]
    """The path, in lower case, of the part behind each sheet's name."""

    def part_of(self, sheet: str) -> Part:
        """Find what reading through a sheet showed."""
        return self.parts.get(self.paths.get(sheet, ""), Part())

    @property
    def date1904(self) -> bool:
        """Whether days are counted from 1904, as old Macs did."""
        return any(part.date1904 for part in self.parts.values())


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
    _refuse_other_formats(data)
    try:
        members = _members(data, max_unpacked)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise SpreadsheetError(_DAMAGED) from error
    _limit_tags(members)
    parts = {}
    for name, content in members.items():
        try:
            parts[name.lower()] = _look_through(content)
        except expat.ExpatError as error:
            raise SpreadsheetError(_DAMAGED) from error
    _limit(parts, members)
    return Workbook(_packed(members), parts, _sheet_paths(members))


def _refuse_other_formats(data: bytes) -> None:
    """Say what a file is that is no .xlsx."""
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise SpreadsheetError(
                "the file is encrypted with a password; remove the password and save it again"
            )
        raise SpreadsheetError(
            "the file is in Excel's old .xls format, though its name ends in .xlsx; "
            "open it and save it as Excel Workbook (.xlsx)"
        )
    if not data.startswith(b"PK"):
        raise SpreadsheetError(
            "the file is no Excel workbook, though its name ends in .xlsx; "
            "save the spreadsheet as .xlsx or as .csv"
        )
    if data.count(b"PK\1\2") > MAX_PARTS:
        raise SpreadsheetError("the file has more parts than any workbook; save it again as .xlsx")


def _members(data: bytes, max_unpacked: int) -> dict[str, bytes]:
    """Unpack the parts that are needed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [info.filename.replace("\\", "/").lower() for info in archive.infolist()]
        if "xl/workbook.xml" not in names:
            raise SpreadsheetError(
                "the file is no .xlsx workbook, though its name says so; open it and save it as "
                "Excel Workbook (.xlsx)"
            )
        needed = [info for info in archive.infolist() if _NEEDED.fullmatch(info.filename.lower())]
        if len(set(names)) < len(names) or any(i.compress_type not in _METHODS for i in needed):
            raise SpreadsheetError(_DAMAGED)
        if any(info.flag_bits & 1 for info in needed):
            raise SpreadsheetError(
                "the file is encrypted with a password; remove the password and save it again"
            )
        unpacked = sum(info.file_size for info in needed)
        if unpacked > max_unpacked:
            raise SpreadsheetError(
                f"the file unpacks to {unpacked / 1024**2:,.0f} MiB, and at most "
                f"{max_unpacked / 1024**2:,.0f} MiB are read; copy the jobs' cells alone into a "
                "new spreadsheet"
            )
        return {info.filename: archive.read(info) for info in needed}


def _limit_tags(members: dict[str, bytes]) -> None:
    """Refuse more XML than any list of jobs has, before it is parsed."""
    tags = sum(content.count(b"<") for content in members.values())
    if tags > MAX_TAGS:
        raise SpreadsheetError(
            f"the workbook has {tags:,} XML tags, and at most {MAX_TAGS:,} are read; copy the "
            "jobs' cells alone into a new spreadsheet"
        )


def _look_through(content: bytes) -> Part:
    """Read through one part for what its cells reach to, and what is wrong with them."""
    look = _Look()
    _parse(content, look.start, end=look.end)
    return look.part


class _Look:
    """Keeps where in a sheet the reading stands, and what was seen."""

    def __init__(self) -> None:
        self.part = Part()
        self._depth = self._sheets = self._names = 0
        self._row = self._column = -1
        self._kind: str | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See an element begin."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SpreadsheetError(
                f"the workbook holds XML nested deeper than {MAX_DEPTH} levels; save it again "
                "as .xlsx"
            )
        tag = name if ":" not in name else name.rpartition(":")[2]
        if tag == "c":
            self._cell(attributes)
        elif tag == "v" or tag == "is":
            part = self.part
            if self._row >= part.rows:
                part.rows = self._row + 1
            if self._column >= part.columns:
                part.columns = self._column + 1
        elif tag == "f" and self._kind in (None, "n"):
            self.part.formulas.add((self._row, self._column))
        elif tag == "row":
            number = attributes.get("r", "")
            self._row = int(number) - 1 if _is_row_number(number) else self._row + 1
            self._column = -1
        else:
            self._other(tag, attributes)

    def end(self, name: str) -> None:
        """See an element end."""
        self._depth -= 1

    def _other(self, tag: str, attributes: dict[str, str]) -> None:
        """See an element begin that is not a part of a table."""
        if tag == "sheet":
            self._sheets += 1
            if self._sheets > MAX_SHEETS:
                raise SpreadsheetError(
                    f"the workbook has more than {MAX_SHEETS} sheets; copy the sheet of the jobs "
                    "into a new workbook"
                )
        elif tag == "definedName":
            self._names += 1
            if self._names > MAX_DEFINED_NAMES:
                raise SpreadsheetError(
                    f"the workbook has more than {MAX_DEFINED_NAMES:,} named ranges; copy the "
                    "sheet of the jobs into a new workbook"
                )
        elif tag == "workbookPr" and attributes.get("date1904", "").strip() in ("1", "true"):
            # Only ever set: Excel 2013 and later add a second workbookPr of another namespace.
            self.part.date1904 = True

    def _cell(self, attributes: dict[str, str]) -> None:
        """See a cell begin, which names its place or follows the one before."""
        reference = attributes.get("r")
        if reference is None:
            self._column += 1
        else:
            self._row, self._column = _place(reference)
        self._kind = attributes.get("t")
        if self._kind == "s":
            self.part.shared += 1
        elif self._kind == "e":
            self.part.errors.add((self._row, self._column))


def _parse(
    content: bytes,
    start: Callable[[str, dict[str, str]], None],
    text: Callable[[str], None] | None = None,
    end: Callable[[str], None] | None = None,
) -> None:
    """Read through XML; what brings definitions of its own is no workbook."""

    def refuse(*_: object) -> None:
        raise SpreadsheetError(_DAMAGED)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.Parse(content, True)


def _is_row_number(text: str) -> bool:
    """Tell whether a text can be the number of a row."""
    return text.isascii() and text.isdigit() and len(text) <= 7 and text != "0"


def _place(reference: str) -> Place:
    """Turn a cell's name into its row and column, both from 0."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise SpreadsheetError(_DAMAGED)
    letters = found[1]
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return int(found[2]) - 1, column - 1


def _limit(parts: dict[str, Part], members: dict[str, bytes]) -> None:
    """Refuse tables and texts that would fill the memory."""
    total = 0
    for part in parts.values():
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
    for name, content in members.items():
        if name.lower() == "xl/sharedstrings.xml":
            _limit_texts(parts, members, content)


def _limit_texts(parts: dict[str, Part], members: dict[str, bytes], shared: bytes) -> None:
    """Refuse texts that are too long, or that are repeated too often."""
    ends = [found.end() for found in re.finditer(rb"</(?:\w+:)?si\s*>", shared)]
    longest = max((b - a for a, b in zip([0, *ends], [*ends, len(shared)], strict=True)), default=0)
    if longest * sum(part.shared for part in parts.values()) <= MAX_CHARACTERS:
        return
    lengths = _shared_lengths(shared)
    if any(length > MAX_CELL_CHARACTERS for length in lengths):
        raise SpreadsheetError(
            f"a cell holds more than {MAX_CELL_CHARACTERS:,} characters, which is more than a "
            "spreadsheet allows"
        )
    total = sum(
        lengths[index]
        for name, content in members.items()
        if parts[name.lower()].shared
        for index in _shared_uses(content)
        if index < len(lengths)
    )
    if total > MAX_CHARACTERS:
        raise SpreadsheetError(
            f"the cells hold {total / 1024**2:,.0f} million characters in all; no list of jobs does"
        )


def _sheet_paths(members: dict[str, bytes]) -> dict[str, str]:
    """Find which part each sheet is, by the workbook's two lists of them."""
    parts = {name.lower(): content for name, content in members.items()}
    sheets: dict[str, str] = {}
    targets: dict[str, str] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        if tag == "sheet":
            ids = (v for k, v in attributes.items() if k.rpartition(":")[2] == "id")
            title = attributes.get("name", "")
            if title in sheets:
                raise SpreadsheetError(
                    f"two sheets have the name {quoted(title)}; rename one of them"
                )
            sheets[title] = next(ids, "")
        elif tag == "Relationship":
            targets[attributes.get("Id", "")] = attributes.get("Target", "").lower()

    for path in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels"):
        _parse(parts.get(path, b"<none/>"), start)
    paths = {
        name: target.lstrip("/") if target.startswith(("/", "xl/")) else f"xl/{target}"
        for name, reference in sheets.items()
        if (target := targets.get(reference))
    }
    if len(set(paths.values())) < len(paths):
        raise SpreadsheetError(
            "the file is damaged: two sheets have the same part; save it again as .xlsx"
        )
    return paths


def _shared_lengths(content: bytes) -> list[int]:
    """Give the length of each shared text."""
    lengths: list[int] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] == "si":
            lengths.append(0)

    def text(characters: str) -> None:
        if lengths:
            lengths[-1] += len(characters)

    _parse(content, start, text)
    return lengths


def _shared_uses(content: bytes) -> list[int]:
    """Give the number of the shared text of each cell that has one."""
    uses: list[int] = []
    inside = shared = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal inside, shared
        tag = name.rpartition(":")[2]
        if tag == "c":
            shared = attributes.get("t") == "s"
        inside = tag == "v" and shared

    def text(characters: str) -> None:
        if inside and characters.strip().isdecimal():
            uses.append(int(characters))

    _parse(content, start, text)
    return uses


def _packed(members: dict[str, bytes]) -> bytes:
    """Put parts into a plain archive, each as it is."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()
