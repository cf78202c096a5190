"""Reading a spreadsheet saved as text (CSV): its encoding, its delimiter, its rows.

Encoding, by the first rule that applies:

1. a byte order mark tells UTF-8, UTF-16 or UTF-32;
2. zero bytes in every second place tell UTF-16 (little or big end first) without a mark;
3. what is valid UTF-8 is UTF-8;
4. anything else is an older program's "CSV": Windows-1252, Mac Roman ("CSV (Macintosh)") or code
   page 437 ("CSV (MS-DOS)"), whichever makes the most letters that fit in where they stand; Windows
   on a tie. This is a guess, so that a warning says which was taken.

Delimiter: of comma, semicolon, tab, `|`, `:` and blank, the one with which one of the first rows
holds the most names of known columns; the same goes for `"` or `'` round values. A line `sep=;` at
the top, as Excel knows it, settles the matter. Lines end with LF, CRLF or CR. Values in quotation
marks may hold delimiters and line breaks.

What some programs add is removed: blanks around quotation marks, quotation marks around lines as a
whole, `="000123"` around values that Excel shall not take for numbers, and the mark of DOS at the
end of a file.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

from aind_data_transfer_service.configs.limits import (
    MAX_CELLS,
    MAX_COLUMNS,
    MAX_LINE_CHARACTERS,
)
from aind_data_transfer_service.errors import SpreadsheetError
from aind_data_transfer_service.spreadsheets import schema
from aind_data_transfer_service.spreadsheets.rows import MAX_ROW, Row, is_blank

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OLDER = {
    "cp1252": "Windows-1252",
    "mac_roman": "Mac Roman",
    "cp437": "code page 437 (MS-DOS)",
}
_LETTERS = frozenset("àáâãäåæçèéêëìíîïñòóôöøùúûüýßÀÁÂÄÅÆÇÈÉÊËÍÎÑÒÓÔÖØÚÛÜ")
_RARE_LETTERS = frozenset("œšžÿõðþŒŠŽŸÃÕÌÏÙÝÐÞ")
_SIGNS = frozenset("’‘“”–—…•°µ€£§©®™«»\xa0")
_WORD = re.compile(r"[^\W\d_]+")
_LETTER_RUN = re.compile(rb"[A-Za-z\x80-\xff]+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_LONGEST_PIECE = 100
_ENOUGH = 5_000
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_SAMPLE = 200_000

_DELIMITERS = (",", ";", "\t", "|", ":", " ")
_QUOTES = ('"', "'")
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[ ,;\t]*(?:\r\n|\r|\n|$)", re.I)
_FIRST_LINES = 20
_GUARDED = re.compile(r'\s*=\s*"((?:[^"]|"")*)"\s*')
_BLANKS = (
    " \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"  # of any width
    "\u00ad\u200b\u2060\ufeff"  # invisible
)
_END = re.compile("[\x00\x1a]")
_TAIL = "\x00\x1a\r\n\t "


class DamagedText(SpreadsheetError):
    """The text cannot be read on from some row; the rows before are good."""


def read_rows(data: bytes, warnings: list[str]) -> Iterator[Row]:
    """Read the rows of a text file.

    Parameters
    ----------
    data : bytes
        The file.
    warnings : list[str]
        Gets a line where the encoding had to be guessed.

    Yields
    ------
    Row
        Each row that is not blank, with the number under which a spreadsheet program shows it.

    Raises
    ------
    DamagedText
        Where the text cannot be read on; the rows before have been given by then.
    SpreadsheetError
        Where the file is larger than a limit.
    """
    text = _without_mark(_decoded(data, warnings))
    text, dialect = _dialect(text)
    has_guards = "=" in text
    number = count = 0
    try:
        for number, cells in enumerate(_cells(text, dialect), start=1):
            if number > MAX_ROW:
                raise SpreadsheetError(f"more than {MAX_ROW:,} rows; no spreadsheet has so many")
            while len(cells) > MAX_COLUMNS and is_blank(cells[-1]):
                cells.pop()
            count += len(cells)
            if count > MAX_CELLS:
                raise SpreadsheetError(
                    f"row {number}: more than {MAX_CELLS:,} cells up to here; delete what lies "
                    "beside and below the table, or split the file into several"
                )
            if any(cells):
                yield Row(number, list(map(_unguarded, cells)) if has_guards else cells)
    except csv.Error as error:
        raise DamagedText(_why(number + 1, error)) from error


def _without_mark(text: str) -> str:
    """Return a text without the mark of DOS at its end, and the blanks and line ends after that."""
    end = _END.search(text, len(text.rstrip(_TAIL)))
    return text[: end.start()] if end else text


def _decoded(data: bytes, warnings: list[str]) -> str:
    """Decode by the rules of this module."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(data, encoding)
    controls = len(_CONTROLS.findall(data[:_SAMPLE]))
    if controls > len(data[:_SAMPLE]) / 20:
        return _strictly(data, _unmarked_utf16(data[:_SAMPLE]))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text, encoding = _best_older(data)
        warnings.append(
            f"the file is not in UTF-8 and was read as {_OLDER[encoding]}; "
            "look whether letters such as é are right, or save it as CSV UTF-8"
        )
        return text


def _strictly(data: bytes, encoding: str) -> str:
    """Decode in an encoding that is known."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise SpreadsheetError(
            f"the file is damaged: it says that it is {name}, and byte {error.start} is not; "
            "save it again as CSV UTF-8"
        ) from error


def _unmarked_utf16(sample: bytes) -> str:
    """Tell which UTF-16 it is by where the zero bytes stand."""
    half = max(1, len(sample) // 2)
    if sample[1::2].count(0) > 0.7 * half and sample[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if sample[::2].count(0) > 0.7 * half and sample[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    raise SpreadsheetError(
        "the file is no text, though its name ends in .csv; "
        "save the spreadsheet as CSV UTF-8 or as .xlsx"
    )


def _best_older(data: bytes) -> tuple[str, str]:
    """Choose among the encodings of older programs the one that makes the most sense."""
    readings: list[tuple[float, str]] = []
    for encoding in _OLDER:
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        readings.append((_sense(data, encoding), encoding))
    best = max(readings, key=lambda reading: reading[0])[1]
    return data.decode(best), best


def _sense(data: bytes, encoding: str) -> float:
    """Measure how well the letters and signs beyond ASCII fit in where they stand."""
    pieces = set(islice(_pieces(data), _ENOUGH))
    return sum(_sense_of(piece.decode(encoding, "replace")) for piece in pieces)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Find the words with letters beyond ASCII, each with the byte before and after it."""
    for found in _LETTER_RUN.finditer(data):
        if _BEYOND_ASCII.search(data, *found.span()):
            begin = max(0, found.start() - 1)
            yield data[begin : min(found.end() + 1, begin + _LONGEST_PIECE)]


def _sense_of(piece: str) -> float:
    """Measure one word, with the character before and after it."""
    sense = 0.0
    for word in _WORD.findall(piece):
        odd = [letter for letter in word if letter > "\x7f"]
        if not odd or len(word) == 1:
            continue
        likely = word.islower() or word.isupper() or word.istitle()
        if likely and _LETTERS.union(_RARE_LETTERS).issuperset(odd):
            sense += 1 if _LETTERS.issuperset(odd) else 0.5
        else:
            sense -= 1
    for before, sign, after in zip(" " + piece, piece, piece[1:] + " ", strict=False):
        if sign <= "\x7f" or sign.isalpha():
            continue
        if sign in _SIGNS:
            joins = before.isalpha() and after.isalpha() and sign not in "’‘–\xa0"
            sense += -0.5 if joins else 0.5
        else:
            sense -= 1
    return sense


class _Dialect(NamedTuple):
    """How a file is written."""

    delimiter: str
    quote: str
    has_quoted_lines: bool = False
    """Whether each line is in quotation marks as a whole, and is to be read a second time."""


def _dialect(text: str) -> tuple[str, _Dialect]:
    """Find how a file is written; return its text from the header on."""
    told = _SEPARATOR_LINE.match(text[:100])
    if told:
        return text[told.end() :], _Dialect(told[1], '"')
    lines = re.split(r"\r\n|\r|\n", text[:_SAMPLE])
    first = list(islice((line for line in lines if any(map(str.isalpha, line))), _FIRST_LINES))

    def known(dialect: _Dialect) -> int:
        return max((_count_known(line, dialect) for line in first), default=0)

    choices = product(_DELIMITERS, _QUOTES, (False, True))
    return text, max((_Dialect(*choice) for choice in choices), key=known)


def _count_known(line: str, dialect: _Dialect) -> int:
    """Count the names of known columns in a line, were it written like this."""
    try:
        cells = next(_cells(line, dialect), [])
    except csv.Error:
        return 0
    return sum(schema.target(schema.normalised(cell)) is not None for cell in cells[:MAX_COLUMNS])


def _cells(text: str, dialect: _Dialect) -> Iterator[list[str]]:
    """Split a text into lines of cells."""
    delimiter, quote, has_quoted_lines = dialect
    if has_quoted_lines:
        for line in _cells(text, dialect._replace(delimiter="\0", has_quoted_lines=False)):
            yield next(_cells("".join(line), dialect._replace(has_quoted_lines=False)), [])
        return
    if delimiter != " ":
        text = _without_blanks(text, delimiter, quote)
    stream = io.StringIO(text, newline="")
    yield from csv.reader(_lines(stream), delimiter=delimiter, quotechar=quote, strict=True)


def _without_blanks(text: str, delimiter: str, quote: str) -> str:
    """Remove the blanks between delimiters and the quotation marks around values."""
    if not _may_have_blanks(text, quote):
        return text
    mark, edge = re.escape(quote), f"{re.escape(delimiter)}\r\n"
    blank = f"[{_BLANKS.replace(delimiter, '')}]"
    if not re.search(f"{mark}{blank}+(?:[{edge}]|\\Z)|(?:^|[{edge}]){blank}+{mark}", text):
        return text
    value = f"{mark}(?:[^{mark}]|{mark}{mark})*+{mark}"
    quoted_value = f"(?:(?<=[{edge}])|\\A){blank}*({value}){blank}*(?=[{edge}]|\\Z)"
    return re.sub(quoted_value, r"\1", text)


def _may_have_blanks(text: str, quote: str) -> bool:
    """Return whether blanks may stand beside a quotation mark; to look is faster than to search."""
    if quote not in text:
        return False
    return not text.isascii() or any(f"{quote}{b}" in text or f"{b}{quote}" in text for b in " \t")


def _unguarded(cell: str) -> str:
    """Return the text in `="000123"`, which keeps Excel from taking it for a number."""
    found = _GUARDED.fullmatch(cell)
    return found[1].replace('""', '"') if found else cell


def _lines(stream: io.StringIO) -> Iterator[str]:
    """Give line by line, and refuse one that would fill the memory."""
    for number, line in enumerate(stream, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise SpreadsheetError(
                f"line {number} has {len(line):,} characters; no row of jobs is so long"
            )
        yield line


def _why(number: int, error: csv.Error) -> str:
    """Say why the text cannot be read on."""
    if "unexpected end of data" in str(error):
        reason = "a quotation mark is opened and never closed"
    elif "expected after" in str(error):
        reason = "something stands between a closing quotation mark and the next delimiter"
    elif "field larger" in str(error):
        reason = "a value is longer than any cell; perhaps a closing quotation mark is missing"
    else:
        reason = str(error)
    return (
        f"row {number}: {reason}, so that the file cannot be read on from here; "
        "correct the row, or save the spreadsheet again"
    )
