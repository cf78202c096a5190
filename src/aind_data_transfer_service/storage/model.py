"""What the stores and the S3 client exchange: objects, credentials, uploads and their parts."""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

Buffer = bytes | bytearray | memoryview


class StoredObject(msgspec.Struct, frozen=True, gc=False):
    """One object, as the store itself lists it."""

    key: str
    size: int
    etag: str
    modified: datetime | None = None
    """When it was last written, by the store's own clock."""

    def is_like(self, other: "StoredObject") -> bool:
        """Return whether another entry of a list names the same content."""
        return self.size == other.size and same_etag(self.etag, other.etag)


def same_etag(one: str, other: str) -> bool:
    """Return whether two ETags name the same content.

    Servers write one ETag in several ways: with or without quotes, as a weak one, in upper case.
    """
    return one == other or bare_etag(one) == bare_etag(other)


def bare_etag(etag: str) -> str:
    """Return an ETag without what differs between a server's answers."""
    return etag.strip('"').removeprefix("W/").strip('"').lower()


@dataclass(slots=True)
class Window:
    """What one thread may have on its way, and for how long it waited for answers."""

    size: int = 1
    """How many objects may be on their way at once."""
    waited: float = 0.0
    """Seconds for which the link and the store's answers were waited for. What a fault takes does
    not count: more on their way would be no help."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload in parts that was never completed: parts that cost, and that no list shows."""

    key: str
    upload_id: str
    started: datetime | None = None
    """When it was begun, as the store says."""


@dataclass(frozen=True)
class S3Keys:
    """Credentials for S3 that do not come from the environment."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None


@dataclass(frozen=True)
class Keys:
    """Credentials, as they are at one moment."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an object that the server has."""

    number: int
    size: int
    etag: str
    checksum: str
    """As S3 writes it; empty where the server does not tell."""


@dataclass(frozen=True)
class Begun:
    """An upload in parts, as it was begun, and what of it has arrived."""

    upload_id: str
    part_size: int
    algorithm: str
    """How the parts are guarded."""
    source: str
    """What changes when the source does."""
    parts: dict[int, Part] = field(default_factory=dict)
