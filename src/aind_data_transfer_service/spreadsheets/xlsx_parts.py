"""Finding the parts of a workbook in its archive, by relationships rather than by names.

Most programs write `xl/workbook.xml` and `xl/worksheets/sheet1.xml`, but any name is allowed: the
relationship in `_rels/.rels` names the workbook, and the workbook's own relationships name its
sheets, shared texts and styles. Names differ in case, and some programs write `\\` for `/`.
"""

import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote
from xml.parsers import expat

from aind_data_transfer_service.configs.limits import (
    MAX_DEFINED_NAMES,
    MAX_PARTS,
    MAX_SHEETS,
    MAX_TAGS,
)
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.spreadsheets.number_formats import (
    BUILT_IN,
    Layout,
    layout_of,
)

DAMAGED = "the file is damaged and cannot be read as a workbook; save it again as .xlsx"
_NOT_XLSX = (
    "the file is no .xlsx workbook, though its name says so; open it and save it as Excel Workbook "
    "(.xlsx)"
)
_ENCRYPTED = (
    "the file is encrypted with a password, as protecting a workbook does too; remove the password "
    "or the protection, and save it again"
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCODING = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([\w.-]+)["'][^>]*\?>""")
_MAIN = "sheet.main+xml"
_OTHER_SHEETS = ("/chartsheet", "/dialogsheet", "/macrosheet", "/xlMacrosheet", "/xlIntlMacrosheet")


@dataclass(frozen=True, slots=True)
class SheetPart:
    """One sheet of cells."""

    name: str
    is_hidden: bool
    content: bytes
    """Its XML in UTF-8."""


@dataclass(frozen=True, slots=True)
class Package:
    """The parts of a workbook that hold its cells, each as XML in UTF-8."""

    sheets: tuple[SheetPart, ...]
    """In the order of the workbook; sheets without a part, and charts, are left out."""
    date1904: bool
    """Whether days are counted from 1904, as old Macs did."""
    shared_texts: bytes | None
    styles: bytes | None


@dataclass(slots=True)
class _Relationship:
    """A relationship of a part."""

    kind: str
    target: str
    """The path of the other part."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A sheet as the workbook lists it."""

    name: str
    state: str
    reference: str


class _Archive:
    """Reads parts by their paths in any case, up to a limit.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The file.
    max_unpacked : int
        How many bytes the parts that are read may have in all.
    """

    def __init__(self, archive: zipfile.ZipFile, max_unpacked: int):
        self._archive = archive
        self._most = max_unpacked
        self._unpacked = self._tags = 0
        self._members: dict[str, list[zipfile.ZipInfo]] = {}
        for info in archive.infolist():
            self._members.setdefault(resolved("", info.filename), []).append(info)

    def __contains__(self, path: str) -> bool:
        """Return whether there is such a part."""
        return path in self._members

    def read(self, path: str) -> bytes:
        """Read a part, and return it as XML in UTF-8."""
        [info, *others] = self._members[path]
        if others or info.compress_type not in _METHODS:
            raise SpreadsheetError(DAMAGED)
        if info.flag_bits & 1:
            raise SpreadsheetError(_ENCRYPTED)
        self._unpacked += info.file_size
        if self._unpacked > self._most:
            raise SpreadsheetError(
                f"the file unpacks to {self._unpacked / 1024**2:,.0f} MiB, and at most "
                f"{self._most / 1024**2:,.0f} MiB are read; copy the jobs' cells alone into a "
                "new spreadsheet"
            )
        content = _as_utf8(self._archive.read(info))
        self._tags += content.count(b"<")
        if self._tags > MAX_TAGS:
            raise SpreadsheetError(
                f"the workbook has {self._tags:,} XML tags, and at most {MAX_TAGS:,} are read; "
                "copy the jobs' cells alone into a new spreadsheet"
            )
        return content

    def read_if_present(self, path: str | None) -> bytes | None:
        """Read a part; return None if there is none."""
        return self.read(path) if path is not None and path in self else None

    def relationships(self, path: str) -> dict[str, _Relationship]:
        """Return the relationships of a part to others in the file, by their ids."""
        folder, name = posixpath.split(path)
        content = self.read_if_present(posixpath.join(folder, "_rels", f"{name}.rels"))
        found: dict[str, _Relationship] = {}

        def start(tag: str, attributes: dict[str, str]) -> None:
            if local(tag) == "Relationship" and attributes.get("TargetMode") != "External":
                target = self._place(path, attributes.get("Target", ""))
                found[attributes.get("Id", "")] = _Relationship(attributes.get("Type", ""), target)

        parse(content or b"<none/>", start)
        return found

    def _place(self, base: str, target: str) -> str:
        """Return the path of a target, which some programs write from the root without a slash."""
        path = resolved(base, target)
        from_root = resolved("", target)
        return from_root if path not in self and from_root in self else path

    def workbook_path(self) -> str:
        """Find the workbook."""
        for one in self.relationships("").values():
            if one.kind.endswith("/officeDocument") and one.target in self:
                return one.target
        typed = self._part_of_type(_MAIN)
        usual = (path for path in ("xl/workbook.xml", "workbook.xml") if path in self)
        path = typed or next(usual, None)
        if path is None:
            raise SpreadsheetError(_NOT_XLSX)
        return path

    def _part_of_type(self, ending: str) -> str | None:
        """Find the first part of a content type."""
        found: list[str] = []

        def start(tag: str, attributes: dict[str, str]) -> None:
            if attributes.get("ContentType", "").endswith(ending) and "PartName" in attributes:
                found.append(resolved("", attributes["PartName"]))

        parse(self.read_if_present("[content_types].xml") or b"<none/>", start)
        return next((path for path in found if path in self), None)


def open_package(data: bytes, max_unpacked: int) -> Package:
    """Find and read the parts of a workbook that hold its cells.

    Parameters
    ----------
    data : bytes
        The .xlsx file.
    max_unpacked : int
        How many bytes the parts that are read may have in all.

    Raises
    ------
    SpreadsheetError
        If the file holds no workbook, or more than can be read.
    """
    _refuse_other_formats(data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        archive = _Archive(file, max_unpacked)
        path = archive.workbook_path()
        if path.endswith(".bin"):
            raise SpreadsheetError(_NOT_XLSX)
        workbook = _Workbook(archive.read(path))
        related = archive.relationships(path)
        if not related:
            raise SpreadsheetError(DAMAGED)
        kinds = {one.kind.rpartition("/")[2]: one.target for one in related.values()}
        return Package(
            tuple(_sheet_parts(archive, workbook.sheets, related)),
            workbook.date1904,
            archive.read_if_present(
                kinds.get("sharedStrings", resolved(path, "sharedStrings.xml"))
            ),
            archive.read_if_present(kinds.get("styles", resolved(path, "styles.xml"))) or None,
        )


def _refuse_other_formats(data: bytes) -> None:
    """Say what a file is that is no .xlsx."""
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise SpreadsheetError(_ENCRYPTED)
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


def _sheet_parts(
    archive: _Archive, sheets: list[_Sheet], related: dict[str, _Relationship]
) -> Iterator[SheetPart]:
    """Read the sheets of cells. Some workbooks list sheets that were never written."""
    seen: set[str] = set()
    for sheet in sheets:
        found = related.get(sheet.reference)
        if found is None or found.kind.endswith(_OTHER_SHEETS):
            continue
        if found.target in seen:
            raise SpreadsheetError(
                "the file is damaged: two sheets have the same part; save it again as .xlsx"
            )
        if found.target not in archive:
            raise SpreadsheetError(
                f"the file is damaged: the sheet {quoted(sheet.name)} is missing; save it again as "
                ".xlsx"
            )
        seen.add(found.target)
        yield SheetPart(sheet.name, sheet.state != "visible", archive.read(found.target))


class _Workbook:
    """What the workbook's own part lists.

    Elements of other namespaces have the same names: Excel 2013 and later write a second
    `workbookPr`. Only those of the namespace of the root count.
    """

    def __init__(self, content: bytes):
        self.sheets: list[_Sheet] = []
        self.date1904 = False
        self._prefix: str | None = None
        self._names = 0
        parse(content, self._start)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        """See an element begin."""
        prefix, _, name = tag.rpartition(" ")
        if self._prefix is None:
            self._prefix = prefix
        if prefix != self._prefix:
            return
        if name == "sheet":
            self._add_sheet(attributes)
        elif name == "definedName":
            self._names += 1
            if self._names > MAX_DEFINED_NAMES:
                raise SpreadsheetError(
                    f"the workbook has more than {MAX_DEFINED_NAMES:,} named ranges; copy the "
                    "sheet of the jobs into a new workbook"
                )
        elif name == "workbookPr":
            self.date1904 = attributes.get("date1904", "").strip() in ("1", "true")

    def _add_sheet(self, attributes: dict[str, str]) -> None:
        """Add a sheet to the list."""
        title = attributes.get("name", "")
        if len(self.sheets) == MAX_SHEETS:
            raise SpreadsheetError(
                f"the workbook has more than {MAX_SHEETS} sheets; copy the sheet of the jobs "
                "into a new workbook"
            )
        if any(sheet.name == title for sheet in self.sheets):
            raise SpreadsheetError(f"two sheets have the name {quoted(title)}; rename one of them")
        ids = (value for name, value in attributes.items() if local(name) == "id")
        state = attributes.get("state", "visible")
        self.sheets.append(_Sheet(title, state, next(ids, "")))


def number_layouts(styles: bytes) -> dict[str, Layout]:
    """Find the styles of cells whose number format shows more than the number, such as `000000`.

    Parameters
    ----------
    styles : bytes
        The part of the styles.

    Returns
    -------
    dict
        How a number is shown, by the index of the style as cells write it.
    """
    formats: dict[str, str] = dict(BUILT_IN)
    used: list[str] = []
    is_of_cells = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal is_of_cells
        name = local(tag)
        if name == "numFmt":
            formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name in ("cellXfs", "cellStyleXfs"):
            is_of_cells = name == "cellXfs"
        elif name == "xf" and is_of_cells:
            used.append(attributes.get("numFmtId", ""))

    parse(styles, start)
    layouts = {name: layout_of(formats[name]) for name in set(used) & formats.keys()}
    found = ((str(index), layouts.get(name)) for index, name in enumerate(used))
    return {index: layout for index, layout in found if layout is not None}


def resolved(base: str, target: str) -> str:
    """Return the path to which a target leads, from the root and in lower case.

    Parameters
    ----------
    base : str
        The path of the part that names the target.
    target : str
        The target.

    Examples
    --------
    >>> resolved("xl/workbook.xml", "worksheets\\\\Sheet1.xml")
    'xl/worksheets/sheet1.xml'
    >>> resolved("xl/workbook.xml", "/xl/styles.xml")
    'xl/styles.xml'
    """
    path = unquote(target.replace("\\", "/"))
    joined = posixpath.join("/", posixpath.dirname(base), path)
    return posixpath.normpath(joined).lstrip("/").lower()


def local(name: str) -> str:
    """Return the name of an element or attribute without its namespace."""
    return name.rpartition(" ")[2]


def new_parser(with_namespaces: bool = True) -> expat.XMLParserType:
    """Return a parser that refuses XML with definitions of its own.

    Parameters
    ----------
    with_namespaces : bool
        Whether names are given as `namespace name`, rather than as `prefix:name`.
    """
    parser = expat.ParserCreate(namespace_separator=" " if with_namespaces else None)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    return parser


def parse(
    content: bytes,
    start: Callable[[str, dict[str, str]], None],
    text: Callable[[str], None] | None = None,
) -> None:
    """Read through XML, its names given as `namespace name`.

    Parameters
    ----------
    content : bytes
        The XML.
    start, text : Callable or None
        Called for each element that begins, and each text.
    """
    parser = new_parser()
    parser.StartElementHandler = start
    parser.CharacterDataHandler = text
    parser.Parse(content, True)


def _refuse(*_: object) -> None:
    """Refuse what is not in a workbook."""
    raise SpreadsheetError(DAMAGED)


def _as_utf8(content: bytes) -> bytes:
    """Return XML in UTF-8, as the library that reads cells needs it."""
    found = _ENCODING.match(content[:200])
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif found and found[1].lower() not in (b"utf-8", b"utf8", b"us-ascii", b"ascii"):
        encoding = found[1].decode()
    else:
        return content
    try:
        text = content.decode(encoding)
    except (LookupError, UnicodeDecodeError) as error:
        raise SpreadsheetError(DAMAGED) from error
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.S).encode()
