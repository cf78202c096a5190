"""One file of an asset, as it was sent."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

from aind_data_transfer_service.storage.model import StoredObject, same_etag
from aind_data_transfer_service.upload.manifest.json_lines import is_intact


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One file of an asset, as it was sent."""

    path: str
    """Its place in the asset."""
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    sha256: str
    mtime: str
    """When it was last written at the source, in UTC."""
    etag: str
    """What the store called it when it had taken it."""
    source: str
    """What changes when the source does: by it a file need not be sent again."""
    target: str = ""
    """Where the file really is, if a link led to it or to a folder that it is in."""

    def is_stored_as(self, stored: StoredObject | None) -> bool:
        """Tell whether the store lists what was sent."""
        if stored is None or stored.size != self.size:
            return False
        return stored.etag == self.etag or same_etag(stored.etag, self.etag)


ENTRY_DECODER = msgspec.json.Decoder(Entry)
"""A million files are read twice: the json module would take minutes."""


def utc(mtime_ns: int) -> str:
    """Write a file's time, to the nanosecond."""
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    try:
        return f"{_second(seconds)}.{rest:09d}Z"
    except (OverflowError, ValueError, OSError):
        return f"@{mtime_ns}"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Write a second, in which many files of a session were often written."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def read_entry(line: bytes) -> Entry | None:
    """Read a line of a journal or record; return None if it is damaged or holds something else."""
    if not is_intact(line):
        return None
    try:
        return ENTRY_DECODER.decode(line)
    except ValueError:
        return None
