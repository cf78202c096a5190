"""Moving the bytes: each read once, hashed while it is read, and sent from the same buffer.

Two lanes run side by side, so that neither the link nor the rate of requests idles: large files
go in parts, small ones in one request each, and a thread whose lane is empty helps in the other.
A budget of bytes bounds the memory, whatever the data.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aind_data_transfer_service.errors import CancelledError
from aind_data_transfer_service.upload.manifest import Entry, utc
from aind_data_transfer_service.upload.plan import MEBI, PART_SIZE, in_order, part_size
from aind_data_transfer_service.upload.progress import Progress
from aind_data_transfer_service.upload.store import AssetStore
from aind_data_transfer_service.upload.transforms import Item

MEMORY = 256 * MEBI
"""How many bytes may be between source and destination at once."""
_MOST_LARGE = 4
_PIECES_AT_HAND = 2
_GRACE = 6.0
"""Seconds that the threads have to break off; whoever stops the job gives it ten in all."""


@dataclass(frozen=True)
class Lanes:
    """How the connections are shared out."""

    large_threads: int
    parts_at_once: int
    small_threads: int


def share_out(connections: int, large: int, small: int) -> Lanes:
    """Share connections between large and small files.

    Parameters
    ----------
    connections : int
        How many there are in all.
    large, small : int
        How many files of each there are.
    """
    if not large:
        return Lanes(0, 1, max(1, min(connections, small)))
    for_large = connections if not small else max(1, connections // 2)
    threads = min(large, _MOST_LARGE, for_large)
    return Lanes(threads, max(1, for_large // threads), min(small, connections - for_large))


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
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        progress: Progress,
        arrived: Callable[[Entry], None],
        connections: int = 16,
        memory: int = MEMORY,
    ):
        self._store, self._prefix = store, prefix
        self._progress, self._arrived = progress, arrived
        self._connections = connections
        self._budget = _Budget(memory)
        self._memory = memory
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def run(self, items: Sequence[Item]) -> None:
        """Send everything; the first failure stops all."""
        large, small = in_order(items)
        lanes = share_out(self._connections, len(large), len(small))
        large_lane, small_lane = _Lane(large), _Lane(small)
        orders = [(large_lane, small_lane)] * lanes.large_threads
        orders += [(small_lane, large_lane)] * lanes.small_threads
        ends = [threading.Event() for _ in orders]
        for order, end in zip(orders, ends):
            arguments = (order, lanes.parts_at_once, end)
            threading.Thread(target=self._work, args=arguments, daemon=True).start()
        try:
            for end in ends:  # a join that a signal breaks off takes its thread for ended
                while not end.wait(0.2):  # wakes up so that a signal is heard
                    continue
        except BaseException:
            self._stop.set()
            deadline = time.monotonic() + _GRACE
            for end in ends:
                end.wait(max(0.0, deadline - time.monotonic()))
            raise
        if self._failure is not None:
            raise self._failure

    def send(self, item: Item, parts_at_once: int = 1) -> Entry:
        """Send one item."""
        key = f"{self._prefix}/{item.key}"
        stream = _Hashed(self._watched(item))
        if item.largest_size <= PART_SIZE:
            with self._budget.hold(item.largest_size):
                etag = self._store.put(key, b"".join(stream))
        else:
            size = part_size(item.largest_size)
            spare = size + _PIECES_AT_HAND * PART_SIZE  # the part that is being filled
            at_once = max(1, min(parts_at_once, (self._memory - spare) // size))
            with self._budget.hold(size * at_once + spare):
                etag = self._store.put_parts(key, stream, size, at_once)
        return Entry(
            item.key, stream.size, stream.sha256, utc(item.mtime_ns), etag, item.fingerprint
        )

    def _watched(self, item: Item) -> Iterator[bytes]:
        """Give an item's bytes, count them, and break off when the transfer stops."""
        for piece in item.stream(PART_SIZE, self._progress.add):
            if self._stop.is_set():
                raise CancelledError("the transfer was stopped")
            yield piece

    def _work(
        self, lanes: tuple["_Lane", "_Lane"], parts_at_once: int, end: threading.Event
    ) -> None:
        """Send items until both lanes are empty."""
        try:
            for lane in lanes:
                while not self._stop.is_set() and (item := lane.take()) is not None:
                    entry = self.send(item, parts_at_once)
                    self._arrived(entry)
                    self._progress.add(0, item.file_count)
        except BaseException as error:  # handed to the thread that waits
            with self._lock:
                self._failure = self._failure or error
            self._stop.set()
        finally:
            end.set()


class _Lane:
    """Items that several threads take from."""

    def __init__(self, items: Sequence[Item]):
        self._items = iter(items)
        self._lock = threading.Lock()

    def take(self) -> Item | None:
        """Take the next one; None where there are no more."""
        with self._lock:
            return next(self._items, None)


class _Hashed:
    """Hands bytes on and hashes them."""

    def __init__(self, pieces: Iterator[bytes]):
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._digest.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        """The hash of what was handed on."""
        return self._digest.hexdigest()


class _Budget:
    """A number of bytes that threads share."""

    def __init__(self, size: int):
        self._size = self._free = size
        self._changed = threading.Condition()

    def hold(self, size: int) -> "_Held":
        """Hold bytes for a while; a wish for more than there are is granted alone."""
        return _Held(self, min(size, self._size))

    def take(self, size: int) -> None:
        """Wait for so many bytes and take them."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._free += size
            self._changed.notify_all()


class _Held:
    """Bytes of a budget that are held."""

    def __init__(self, budget: _Budget, size: int):
        self._budget, self._size = budget, size

    def __enter__(self) -> None:
        self._budget.take(self._size)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._size)
