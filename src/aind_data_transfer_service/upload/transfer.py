"""Moving the bytes: each read once, hashed while it is read, and sent from the same buffer.

Two lanes run side by side, so that neither the link nor the rate of requests idles: large files
go in parts, small ones in one request each, the largest of each first. A lane that has nothing
left to do leaves its connections and its threads to the other.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from aind_data_transfer_service.errors import CancelledError, UploadError
from aind_data_transfer_service.upload.ledger import Ledger
from aind_data_transfer_service.upload.limits import Lane, Traffic
from aind_data_transfer_service.upload.manifest import Entry, utc
from aind_data_transfer_service.upload.plan import MEBI, PART_SIZE, in_order, part_size
from aind_data_transfer_service.upload.progress import Progress
from aind_data_transfer_service.upload.store import AssetStore, Unfinished
from aind_data_transfer_service.upload.transforms import Item

MEMORY = 256 * MEBI
"""How many bytes may be between source and destination at once."""
_LONGEST_READ = 16 * MEBI
"""Parts of huge files are larger: they are put together, so that memory holds each only once."""
_GRACE = 6.0
"""Seconds that the threads have to break off; whoever stops the job gives it ten in all."""


class Transfer:
    """Sends items to a store.

    Parameters
    ----------
    store : AssetStore
        Where to.
    prefix : str
        Name of the asset.
    progress : Progress
        Is told of every byte.
    arrived : Callable
        Is told of every item that has arrived, from several threads.
    connections : int
        How many files or parts are on their way at once.
    memory : int
        How many bytes may be between source and destination at once.
    ledger : Ledger | None
        What is remembered of large files, so that they can go on where they stopped.
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        progress: Progress,
        arrived: Callable[[Entry], None],
        connections: int = 16,
        memory: int = MEMORY,
        ledger: Ledger | None = None,
    ):
        self._store, self._prefix = store, prefix
        self._progress, self._arrived = progress, arrived
        self._traffic = Traffic(connections, memory)
        self._ledger = ledger
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def run(self, items: Sequence[Item]) -> None:
        """Send everything; the first failure stops all."""
        large, small = (_Queue(*pair) for pair in zip((Lane.LARGE, Lane.SMALL), in_order(items)))
        most = self._traffic.connections
        orders = [(large, small)] * min(len(large), max(1, most // 2))
        orders += [(small, large)] * min(len(small), most)
        for queue in (large, small):
            if len(queue):
                self._traffic.begin(queue.lane)
        ends: list[threading.Event] = []
        try:
            for order in orders:
                ends.append(threading.Event())
                threading.Thread(target=self._work, args=(order, ends[-1]), daemon=True).start()
            for end in ends:  # a join that a signal breaks off takes its thread for ended
                while not end.wait(0.2):  # wakes up so that a signal is heard
                    continue
        except BaseException:
            self._give_up(ends)
            raise
        if self._failure is not None:
            raise self._failure

    def send(self, item: Item) -> Entry:
        """Send one item."""
        key, traffic, digest = f"{self._prefix}/{item.key}", self._traffic, _Digest()
        if item.largest_size <= PART_SIZE:
            with traffic.place(item.largest_size):
                data = b"".join(self._pieces(item, PART_SIZE, digest))
                etag = self._store.put(key, data, halt=traffic.halt)
        else:
            size = part_size(item.largest_size)
            page = self._ledger.page(item.key, item.fingerprint) if self._ledger else None
            pieces = self._pieces(item, min(size, _LONGEST_READ), digest)
            if size > _LONGEST_READ:
                pieces = gathered(pieces, size)
            etag = self._store.put_parts(key, pieces, size, traffic, page)
        moment = utc(item.mtime_ns)
        return Entry(item.key, digest.size, digest.sha256, moment, etag, item.fingerprint)

    def _pieces(self, item: Item, size: int, digest: "_Digest") -> Iterator[bytes]:
        """Give an item's bytes, hash them, and break off when the transfer stops."""
        for piece in item.stream(size, self._progress.add):
            if self._traffic.halt.is_set():
                raise CancelledError("the transfer was stopped")
            digest.update(piece)
            yield piece

    def _work(self, queues: tuple["_Queue", "_Queue"], end: threading.Event) -> None:
        """Send items until both queues are empty."""
        try:
            for queue in queues:
                while not self._traffic.halt.is_set() and (item := queue.take()) is not None:
                    entry = self.send(item)
                    self._arrived(entry)
                    self._progress.add(0, item.file_count)
                    if queue.is_done():
                        self._traffic.end(queue.lane)
        except BaseException as error:  # handed to the thread that waits
            with self._lock:
                if self._failure is None or isinstance(self._failure, CancelledError):
                    self._failure = error
            self._traffic.stop()
        finally:
            end.set()

    def _give_up(self, ends: Sequence[threading.Event]) -> None:
        """Break everything off, and leave no parts behind that nobody sees."""
        self._traffic.stop()
        deadline = time.monotonic() + _GRACE
        for end in ends:
            end.wait(max(0.0, deadline - time.monotonic()))
        for path, begun in self._ledger.uploads() if self._ledger else ():
            try:
                self._store.abort(Unfinished(f"{self._prefix}/{path}", begun.upload_id))
            except UploadError as error:
                self._store.tell(str(error))


def gathered(pieces: Iterable[bytes], size: int) -> Iterator[memoryview]:
    """Put pieces together into longer ones, of which no more than one is held here at a time."""
    buffer, used = None, 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            buffer = buffer or bytearray(size)
            part = rest[: size - used]
            buffer[used : used + len(part)] = part
            used, rest = used + len(part), rest[len(part) :]
            if used == size:
                full, buffer, used = buffer, None, 0
                yield memoryview(full)
                del full
    if buffer:
        yield memoryview(buffer)[:used]


class _Queue:
    """Items that several threads take from."""

    def __init__(self, lane: Lane, items: Sequence[Item]):
        self.lane = lane
        self._items = iter(items)
        self._open = self._count = len(items)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def take(self) -> Item | None:
        """Take the next one; None where there are no more."""
        with self._lock:
            return next(self._items, None)

    def is_done(self) -> bool:
        """Note that one more has arrived, and tell whether that was the last."""
        with self._lock:
            self._open -= 1
            return not self._open


class _Digest:
    """The hash and the size of what was read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def update(self, piece: bytes) -> None:
        """Take a piece."""
        self._hash.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()
