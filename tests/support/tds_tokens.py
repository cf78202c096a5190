"""Bytes of Microsoft's Tabular Data Stream, as a server writes them; TDS 7.2 to 7.4.

The numbers of sections are those of [MS-TDS], "Tabular Data Stream Protocol".
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

COLLATION = b"\x09\x04\xd0\x00\x34"
"""Latin1_General_CI_AS, windows-1252 (2.2.5.1.2)."""
DONE_FINAL, DONE_ERROR, DONE_COUNT, DONE_ATTENTION = 0x00, 0x02, 0x10, 0x20


@dataclass(frozen=True)
class Integer:
    """INTNTYPE (2.2.5.4.2): INT with 4 bytes, BIGINT with 8."""

    size: int = 4

    @property
    def info(self) -> bytes:
        """Write the TYPE_INFO (2.2.5.6)."""
        return bytes((0x26, self.size))

    def value(self, value: Any) -> bytes:
        """Write a value; none has the length 0."""
        return (
            b"\0"
            if value is None
            else _short(int(value).to_bytes(self.size, "little", signed=True))
        )


@dataclass(frozen=True)
class Bit:
    """BITNTYPE (2.2.5.4.2)."""

    info = b"\x68\x01"

    def value(self, value: Any) -> bytes:
        """Write a value."""
        return b"\0" if value is None else _short(bytes((bool(int(value)),)))


@dataclass(frozen=True)
class Numeric:
    """NUMERICNTYPE (2.2.5.4.2) with 18 digits and none after the point, as LabTracks' ids are."""

    info = bytes((0x6C, 9, 18, 0))

    def value(self, value: Any) -> bytes:
        """Write a sign, 1 for plus, and a magnitude (2.2.5.5.1)."""
        if value is None:
            return b"\0"
        number = int(Decimal(str(value)))
        return _short(bytes((number >= 0,)) + abs(number).to_bytes(8, "little"))


@dataclass(frozen=True)
class Text:
    """NVARCHARTYPE (2.2.5.4.2), up to 4,000 characters."""

    info = b"\xe7" + struct.pack("<H", 8000) + COLLATION

    def value(self, value: Any) -> bytes:
        """Write a value; none is CHARBIN_NULL."""
        data = None if value is None else str(value).encode("utf-16-le")
        return b"\xff\xff" if data is None else struct.pack("<H", len(data)) + data


@dataclass(frozen=True)
class LongText:
    """NVARCHAR(MAX), partially length-prefixed (2.2.5.2.3)."""

    info = b"\xe7\xff\xff" + COLLATION

    def value(self, value: Any) -> bytes:
        """Write a value in chunks, so that a reader has to put them together."""
        if value is None:
            return b"\xff" * 8
        data = str(value).encode("utf-16-le")
        chunks = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        body = b"".join(struct.pack("<I", len(chunk)) + chunk for chunk in chunks)
        return struct.pack("<Q", len(data)) + body + bytes(4)


@dataclass(frozen=True)
class AnsiText:
    """BIGVARCHARTYPE (2.2.5.4.2), in the code page of the collation."""

    info = b"\xa7" + struct.pack("<H", 8000) + COLLATION

    def value(self, value: Any) -> bytes:
        """Write a value."""
        data = None if value is None else str(value).encode("cp1252")
        return b"\xff\xff" if data is None else struct.pack("<H", len(data)) + data


@dataclass(frozen=True)
class Xml:
    """XMLTYPE (2.2.5.4.3), without a schema; its text is partially length-prefixed."""

    info = b"\xf1\x00"

    def value(self, value: Any) -> bytes:
        """Write a value, with the mark of its order of bytes."""
        return LongText().value(None if value is None else f"\ufeff{value}")


@dataclass(frozen=True)
class DateTime:
    """DATETIMNTYPE of 8 bytes (2.2.5.5.1): days since 1900, and 300ths of a second."""

    info = b"\x6f\x08"

    def value(self, value: Any) -> bytes:
        """Write a value that is given in ISO 8601, or as `days:` and their number."""
        if value is None:
            return b"\0"
        if value.startswith("days:"):
            return _short(struct.pack("<iI", int(value[5:]), 0))
        since = datetime.fromisoformat(value) - datetime(1900, 1, 1)
        ticks = since.seconds * 300 + since.microseconds * 300 // 10**6
        return _short(struct.pack("<iI", since.days, ticks))


@dataclass(frozen=True)
class DateTime2:
    """DATETIME2NTYPE with 7 digits (2.2.5.5.1): 100 ns since midnight, days since year 1."""

    info = b"\x2a\x07"

    def value(self, value: Any) -> bytes:
        """Write a value that is given in ISO 8601."""
        if value is None:
            return b"\0"
        since = datetime.fromisoformat(value) - datetime(1, 1, 1)
        ticks = (since.seconds * 10**6 + since.microseconds) * 10
        return _short(ticks.to_bytes(5, "little") + since.days.to_bytes(3, "little"))


Type = Integer | Bit | Numeric | Text | LongText | AnsiText | Xml | DateTime | DateTime2


def column_metadata(columns: Sequence[tuple[str, Type]]) -> bytes:
    """Write COLMETADATA (2.2.7.4); every column may be null and is read only."""
    body = b"".join(
        struct.pack("<IH", 0, 0x0001) + type_.info + _b_varchar(name) for name, type_ in columns
    )
    return b"\x81" + struct.pack("<H", len(columns)) + body


def row(types: Sequence[Type], values: Sequence[Any]) -> bytes:
    """Write ROW (2.2.7.20)."""
    return b"\xd1" + b"".join(t.value(v) for t, v in zip(types, values, strict=True))


def done(status: int = DONE_FINAL, count: int = 0) -> bytes:
    """Write DONE (2.2.7.6)."""
    return b"\xfd" + struct.pack("<HHQ", status, 0xC1, count)


def done_in_proc(count: int) -> bytes:
    """Write DONEINPROC (2.2.7.7), after a result within a procedure."""
    return b"\xff" + struct.pack("<HHQ", 0x01 | DONE_COUNT, 0xC1, count)


def procedure_end() -> bytes:
    """Write RETURNSTATUS (2.2.7.18) of success, and DONEPROC (2.2.7.8)."""
    return b"\x79" + bytes(4) + b"\xfe" + struct.pack("<HHQ", DONE_FINAL, 0xE0, 0)


def error(number: int, severity: int, text: str) -> bytes:
    """Write ERROR (2.2.7.10)."""
    return b"\xaa" + _message(number, severity, text)


def info(number: int, text: str) -> bytes:
    """Write INFO (2.2.7.13)."""
    return b"\xab" + _message(number, 0, text)


def environment_change(kind: int, new: str, old: str = "") -> bytes:
    """Write ENVCHANGE (2.2.7.9) of something that is text: 1 is the database, 4 the packet size."""
    body = bytes((kind,)) + _b_varchar(new) + _b_varchar(old)
    return b"\xe3" + struct.pack("<H", len(body)) + body


def collation_change() -> bytes:
    """Write ENVCHANGE (2.2.7.9) of the collation, which is 7."""
    body = bytes((7, len(COLLATION))) + COLLATION + b"\0"
    return b"\xe3" + struct.pack("<H", len(body)) + body


def login_acknowledgement(version: bytes) -> bytes:
    """Write LOGINACK (2.2.7.14) for the version that the client asked for."""
    body = b"\x01" + version + _b_varchar("Microsoft SQL Server") + bytes((15, 0, 0x07, 0xD0))
    return b"\xad" + struct.pack("<H", len(body)) + body


def _message(number: int, severity: int, text: str) -> bytes:
    """Write what ERROR and INFO have in common."""
    body = struct.pack("<iBBH", number, 1, severity, len(text)) + text.encode("utf-16-le")
    body += _b_varchar("LABTRACKS") + _b_varchar("") + struct.pack("<I", 1)
    return struct.pack("<H", len(body)) + body


def _short(data: bytes) -> bytes:
    """Write bytes after their number, in one byte."""
    return bytes((len(data),)) + data


def _b_varchar(text: str) -> bytes:
    """Write a B_VARCHAR (2.2.5.2.2): the number of characters in one byte, then the text."""
    return bytes((len(text),)) + text.encode("utf-16-le")
