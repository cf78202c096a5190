"""Bytes of Microsoft's Tabular Data Stream, as a server reads them; TDS 7.2 to 7.4.

The numbers of sections are those of [MS-TDS], "Tabular Data Stream Protocol".
"""

import re
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Login:
    """What a client said of itself (2.2.6.4)."""

    user: str
    password: str
    application: str
    database: str
    read_only: bool
    encrypted: bool


def encryption(body: bytes) -> int:
    """Read what PRELOGIN says of encryption: 0x02 is that the client can do without it only."""
    for place in range(0, len(body), 5):
        option, start, _length = struct.unpack_from(">BHH", body, place)
        if option == 0x01:
            return body[start]
        if option == 0xFF:
            break
    return 0x02


def headers_length(body: bytes) -> int:
    """Tell how long ALL_HEADERS is (2.2.5.3), which stands before every request."""
    return struct.unpack_from("<I", body)[0]


def login(body: bytes, encrypted: bool) -> Login:
    """Read LOGIN7 (2.2.6.4)."""

    def text(place: int) -> bytes:
        start, characters = struct.unpack_from("<HH", body, place)
        return body[start : start + characters * 2]

    turned = bytes(byte ^ 0xA5 for byte in text(44))  # then half bytes are swapped
    password = bytes((byte >> 4) | (byte << 4 & 0xF0) for byte in turned)
    return Login(
        user=text(40).decode("utf-16-le"),
        password=password.decode("utf-16-le"),
        application=text(48).decode("utf-16-le"),
        database=text(68).decode("utf-16-le"),
        read_only=bool(body[26] & 0x20),  # fReadOnlyIntent of TypeFlags
        encrypted=encrypted,
    )


def procedure_call(body: bytes) -> tuple[str, dict[str, Any]]:
    """Read an RPC request (2.2.6.6) for sp_executesql: the statement, and values by their names."""
    length = struct.unpack_from("<H", body)[0]
    place = 4 if length == 0xFFFF else 2 + 2 * length
    place += 2  # option flags
    values: list[tuple[str, Any]] = []
    while place < len(body):
        characters = body[place]
        name = body[place + 1 : place + 1 + 2 * characters].decode("utf-16-le")
        value, place = _parameter(body, place + 2 + 2 * characters)
        values.append((name.lstrip("@"), value))
    statement, _declarations, *rest = (value for _, value in values)
    names = re.findall(r"@(\w+)", str(_declarations))
    return str(statement), dict(zip(names, rest, strict=True))


def _parameter(body: bytes, place: int) -> tuple[Any, int]:
    """Read TYPE_INFO and a value (2.2.5.6), and tell where the next one begins."""
    kind = body[place]
    if kind == 0x26:  # INTNTYPE
        length = body[place + 2]
        data = body[place + 3 : place + 3 + length]
        value = int.from_bytes(data, "little", signed=True) if data else None
        return value, place + 3 + length
    if kind in (0xE7, 0xA7):  # NVARCHARTYPE, BIGVARCHARTYPE
        length = struct.unpack_from("<H", body, place + 8)[0]
        data = body[place + 10 : place + 10 + length]
        return data.decode("utf-16-le" if kind == 0xE7 else "cp1252"), place + 10 + length
    raise ValueError(f"no parameters of type {kind:#x} are known here")
