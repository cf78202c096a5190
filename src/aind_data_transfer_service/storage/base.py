"""Where assets live: a bucket, or a local folder in the layout of one.

An asset is everything beneath `<prefix>/` in its bucket. Beside the assets, beneath
`.transfer/<prefix>/`, lies what is known of each: a mark while its transfer is unfinished, and
its manifest once it is verified.
"""

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import TransferError
from aind_data_transfer_service.storage.layout import (
    RECORDS,
    fence_of,
    former_manifest_key,
    manifest_key,
    mark_key,
    record_folder,
)
from aind_data_transfer_service.storage.model import (
    Begun,
    Buffer,
    Part,
    StoredObject,
    Unfinished,
    Window,
)

logger = logging.getLogger(__name__)

OnPart = Callable[[int, int, bool], None]
"""Takes the number and the size of a part that the store has, and whether it was sent just now."""

_FEW = 16
_ASKED_AT_ONCE = 8
_HEADER_PIECE = 1 << 16


class Body(Protocol):
    """Bytes that are sent as one request or part.

    They are read once to be hashed and then sent, perhaps several times.
    """

    def __len__(self) -> int:
        """Return the number of bytes."""
        ...

    def read_and_hash(self) -> Iterable[memoryview]:
        """Read the bytes for the first time, chunk by chunk, and update the hash of the object.

        Called once, before `chunks`, and in the order of the parts of an object.
        """
        ...

    def chunks(self) -> Iterable[memoryview]:
        """Return the bytes again, as chunks that are valid until the next one is requested."""
        ...

    def release(self) -> None:
        """Free the memory: the bytes are not needed any more."""
        ...


class BufferBody:
    """A body that is in memory.

    Parameters
    ----------
    data : Buffer
        Its bytes.
    """

    __slots__ = ("_view",)

    def __init__(self, data: Buffer):
        self._view = memoryview(data)

    def __len__(self) -> int:
        return len(self._view)

    def read_and_hash(self) -> tuple[memoryview]:
        """Return the bytes; nothing is hashed."""
        return (self._view,)

    chunks = read_and_hash

    def release(self) -> None:
        """Do nothing: the memory is freed with the body."""


class MultipartCheckpoint(Protocol):
    """Remembers the multipart upload of one object, so that a later job can resume it."""

    def state(self) -> Begun | None:
        """Return the upload that can be resumed, if there is one."""
        ...

    def start(self, upload_id: str, part_size: int, algorithm: str) -> Any:
        """Record that an upload was created."""
        ...

    def add_part(self, upload_id: str, part: Part) -> None:
        """Record that the store has a part."""
        ...


class AssetState(StrEnum):
    """What is at the destination under an asset's name."""

    ABSENT = "absent"
    PARTIAL = "partial"
    """A transfer of it began and has not ended."""
    PRESENT = "present"


class PreconditionFailed(Exception):
    """The object at a key is not the one that a conditional request named."""


class Guard:
    """Decides whether anything may be changed now: without a lease, always."""

    def check(self) -> None:
        """Wait until it may; raise if it never may again."""

    def is_expired(self) -> bool:
        """Return whether it may not now, so that what is being sent has to be broken off."""
        return False


@dataclass
class GuardSlot:
    """Holds the guard of a store, for all connections that it makes."""

    guard: Guard = field(default_factory=Guard)


@dataclass(frozen=True)
class Conduct:
    """How a store treats the server that it talks to."""

    retry_seconds: float = 600.0
    """How long a request that fails is tried again."""
    bandwidth: float | None = None
    """Bytes per second that may be sent."""
    tell: Callable[[str], None] = logger.warning
    """Takes what whoever asked for the job should know."""


class AssetStore(ABC):
    """A bucket. May be used from several threads at once."""

    key_limit: int
    """How many bytes a key may have."""
    object_limit: int | None = None
    """How many bytes an object may have."""
    is_local = False
    """Whether keys are paths of this machine."""
    tell: Callable[[str], None] = staticmethod(logger.warning)
    """Takes what whoever asked for the job should know."""
    window = 1
    """How many objects `put_all` can have on their way at once."""
    proves_by_reading = False
    """Whether verification reads everything back, for the store checks nothing by itself. Of a
    server, preflight finds that out."""
    archive_class: str | None = None
    """The storage class of data, if its objects cannot be read before they are restored."""
    list_pauses: Sequence[float] = ()
    """Seconds to wait before a list that differs from what was sent is asked for again, each time:
    some stores, and caches before them, give an old list for a while."""
    conditional = True
    """Whether conditional writes are atomic. Without that, `put` compares ETags before it writes,
    and another writer may come in between."""
    guard = Guard()
    """Asked before each request that changes anything; raises once the lease is lost."""

    @abstractmethod
    def location(self, key: str) -> str:
        """Write the place of a key or prefix as people would."""

    @abstractmethod
    def objects(self, prefix: str, cuts: Sequence[str] = ()) -> Iterator[StoredObject]:
        """List everything beneath `prefix/`, in no order.

        Parameters
        ----------
        prefix : str
            Beneath what.
        cuts : Sequence[str]
            Keys in their order, at which a long list may be cut in pieces that are asked for at
            once. A store that keeps no order may then leave some out: who misses one has to ask
            again without cuts.
        """

    @abstractmethod
    def folders(self, prefix: str = "") -> set[str]:
        """List the names of the folders directly beneath a prefix (or at the root)."""

    @abstractmethod
    def put(
        self,
        key: str,
        data: Buffer,
        new: bool = False,
        halt: threading.Event | None = None,
        if_match: str | None = None,
    ) -> str:
        """Store an object and return its ETag.

        Parameters
        ----------
        key : str
            Its place.
        data : Buffer
            Its bytes. Those of a conditional write must be unique: a write whose answer was lost
            is recognised by them.
        new : bool
            Only if there is no object at this key.
        halt : threading.Event | None
            Breaks off once it is set.
        if_match : str | None
            Only if the object at this key has this ETag.

        Raises
        ------
        FileExistsError
            With `new`, if there is an object already.
        PreconditionFailed
            With `if_match`, if there is another object, or none.
        """

    def put_all(
        self,
        objects: Iterable[tuple[str, Buffer]],
        window: Window,
        halt: threading.Event | None = None,
    ) -> Iterator[str]:
        """Store objects, and give the ETag of each, in their order.

        Parameters
        ----------
        objects : Iterable[tuple[str, Buffer]]
            Keys, and what goes there.
        window : Window
            How many may be on their way at once; is told for how long they were waited for.
        halt : threading.Event | None
            Breaks off once it is set.
        """
        for key, data in objects:
            began = time.monotonic() - time.thread_time()
            etag = self.put(key, data, halt=halt)
            window.waited += time.monotonic() - time.thread_time() - began
            yield etag

    @abstractmethod
    def put_parts(
        self,
        key: str,
        parts: Iterable[Body],
        part_size: int,
        traffic: Traffic | None = None,
        checkpoint: MultipartCheckpoint | None = None,
        on_part: OnPart | None = None,
        memory_cost: int | None = None,
    ) -> str:
        """Store one object from parts as they come, and return its ETag.

        The object appears complete or not at all.

        Parameters
        ----------
        key : str
            Its place.
        parts : Iterable[Body]
            Its bytes, in parts of `part_size`; the last may be smaller.
        part_size : int
            How many bytes a part has.
        traffic : Traffic | None
            What may be on its way; by default two parts.
        checkpoint : MultipartCheckpoint | None
            Remembers the upload, so that a later job can resume it.
        on_part : OnPart | None
            Called once for each part that the store has acknowledged, from several threads.
        memory_cost : int | None
            Bytes of memory that each part takes; by default `part_size`.
        """

    @abstractmethod
    def fetch(self, key: str) -> tuple[bytes, str] | None:
        """Read an object and its ETag; return None if there is none."""

    def get(self, key: str) -> bytes | None:
        """Read an object whole; None where there is none."""
        found = self.fetch(key)
        return None if found is None else found[0]

    @abstractmethod
    def read(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read an object in pieces."""

    def read_back(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read an object in pieces to compare them: past this machine's own cache, if possible."""
        return self.read(key, chunk_size)

    @property
    def read_back_from(self) -> str:
        """Where bytes come from that `read_back` gives, for people."""
        return "from the server"

    def refuses_damage(self, key: str, in_parts: bool) -> bool:
        """Send a few bytes with a wrong checksum; return whether the store refuses them.

        What it accepts is at the key then, unless it was sent in parts.

        Parameters
        ----------
        key : str
            A place that nothing else uses.
        in_parts : bool
            Whether to send them as a part of a multipart upload, which is given up afterwards.
        """
        return False

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""

    def check_storage_class(self, key: str) -> None:
        """Make sure that files of a source can be stored in their storage class.

        Parameters
        ----------
        key : str
            A place that may be written and deleted.

        Raises
        ------
        DestinationError
            If the store refuses the class.
        """

    def refused_setting(self, key: str, data: Buffer, error: TransferError) -> str:
        """Return which setting the store refuses an object for, as the end of a message.

        Parameters
        ----------
        key : str
            A place that may be written and deleted.
        data : Buffer
            Bytes of which nothing depends.
        error : TransferError
            How the store refused them.
        """
        return ""

    @abstractmethod
    def delete_matching(self, objects: Mapping[str, str]) -> list[str]:
        """Delete objects that still have the ETags they were listed with.

        Parameters
        ----------
        objects : Mapping[str, str]
            ETags by key.

        Returns
        -------
        list[str]
            Keys at which there is another object now; those stay.
        """

    def create(self) -> None:
        """Make the bucket where that is ours to do. Where it is not, listing says if it is missing.

        Raises
        ------
        DestinationError
            If it cannot be made.
        """

    def free_bytes(self) -> int | None:
        """Tell how much room is left; None where that has no meaning."""
        return None

    def settle(self, prefix: str) -> None:
        """Make sure that what was stored of an asset outlives a power cut."""

    def clear_unfinished(self, prefix: str) -> None:
        """Remove half-written files of an asset that only its leaseholder can have left.

        At S3 there are none: other software may have multipart uploads under the same prefix, so
        an upload is only aborted by its id.
        """

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """List what broken-off uploads left behind, beneath `prefix/` or everywhere."""
        yield from ()

    def abort(self, upload: Unfinished) -> None:
        """Remove what one broken-off upload left behind."""

    def asset_state(self, prefix: str) -> AssetState:
        """Tell what is at the destination under an asset's name, and touch nothing."""
        first = beside(lambda: next(self.objects(prefix), None), "listing")
        records = {item.key for item in self.objects(record_folder(prefix))}
        if mark_key(prefix) in records:
            if manifest_key(prefix) in records and self.is_published(prefix):
                return AssetState.PRESENT
            return AssetState.PARTIAL
        return AssetState.PRESENT if first.result() is not None else AssetState.ABSENT

    def is_published(self, prefix: str) -> bool:
        """Return whether the job that left a lease beside a manifest had published the asset."""
        found = self.fetch(mark_key(prefix))
        return found is None or fence_of(_json(found[0])) <= fence_of(self.header(prefix) or {})

    def header(self, prefix: str) -> dict[str, Any] | None:
        """Read the first line of an asset's manifest; return None if none is there and proven."""
        key = manifest_key(prefix)
        records = {item.key for item in self.objects(record_folder(prefix))}
        if key not in records or former_manifest_key(prefix) in records:
            return None
        line = b""
        for piece in self.read(key, _HEADER_PIECE):
            start, end, _ = piece.partition(b"\n")
            line += start
            if end:
                break
        return _json(line)

    def asset_states(self, prefixes: Sequence[str]) -> dict[str, AssetState]:
        """Tell the state of many assets, with as few questions as possible."""
        wanted = set(prefixes)
        if len(wanted) > _FEW:
            taken = self.folders() | self.folders(RECORDS)
            states = dict.fromkeys(wanted - taken, AssetState.ABSENT)
            wanted &= taken
        else:
            states = {}
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            return states | dict(zip(wanted, pool.map(self.asset_state, wanted)))


def _json(data: bytes) -> dict[str, Any]:
    """Read a JSON object; a damaged one is as good as an empty one."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
