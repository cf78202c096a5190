"""Lines of JSON with a CRC: how journals, manifests and records of shards are written and read."""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from aind_data_transfer_service.storage.base import AssetStore, BufferBody

_PIECE = 8 * 1024**2
"""How much of a manifest is read or written at once."""
CRC = b'{"crc":"'
"""How every line begins. Eight hexadecimal digits follow: the CRC-32 of the rest of the line."""
SEALED = len(CRC) + 8
"""Where the part of a line that the CRC covers starts."""

Content = Mapping[str, Any] | msgspec.Struct
"""What a line holds."""
_ENCODER = msgspec.json.Encoder()
"""A million files are written twice: the json module would take minutes."""


def write_lines(store: AssetStore, key: str, lines: Iterable[Content]) -> None:
    """Store a JSON object a line, in pieces where there are many."""
    pieces = _pieces(lines)
    first = next(pieces)
    rest = next(pieces, None)
    if rest is None:
        store.put(key, first)
    else:
        parts = itertools.chain((first, rest), pieces)
        store.put_parts(key, map(BufferBody, parts), _PIECE)


def read_lines(store: AssetStore, key: str) -> Iterator[bytes]:
    """Read an object line by line, the empty ones included."""
    rest = b""
    for piece in store.read(key, _PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def is_intact(line: bytes) -> bool:
    """Return whether a line, without its line break, has a CRC and is what was written."""
    return line[:SEALED] == b"%s%08x" % (CRC, zlib.crc32(line[SEALED:]))


def _pieces(lines: Iterable[Content]) -> Iterator[bytes]:
    """Write lines in pieces, each but the last of the same size."""
    pending = bytearray()
    for line in lines:
        pending += line_of(line)
        if len(pending) >= _PIECE:
            yield bytes(pending[:_PIECE])
            del pending[:_PIECE]
    yield bytes(pending)


def line_of(content: Content) -> bytes:
    """Write one line, with its CRC."""
    rest = b'",' + _ENCODER.encode(content)[1:]
    return b"%s%08x%s\n" % (CRC, zlib.crc32(rest), rest)
