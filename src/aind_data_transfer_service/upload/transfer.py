"""Moving the bytes: each read once, hashed while it is read, and sent from the same buffer.

Two lanes run side by side, so that neither the link nor the rate of requests idles: large files
go in parts, small ones in one request each, the largest of each first. A lane that has nothing
left to do leaves its connections and its threads to the other.
"""

import hashlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from aind_data_transfer_service.errors import CancelledError, UploadError
from aind_data_transfer_service.upload.ledger import Ledger
from aind_data_transfer_service.upload.limits import Lane, Traffic
from aind_data_transfer_service.upload.manifest import Entry, utc
from aind_data_transfer_service.upload.plan import LEAST_PART, MEBI, in_order, part_size
from aind_data_transfer_service.upload.progress import Progress
from aind_data_transfer_service.upload.store import AssetStore, Buffer, Unfinished
from aind_data_transfer_service.upload.stretch import Buffers, Stretch, Stretches
from aind_data_transfer_service.upload.transforms import Item, ZipItem

MEMORY = 256 * MEBI
"""How many bytes may be between source and destination at once."""
_LONGEST_READ = 16 * MEBI
"""Parts of huge files are larger: those are read once more as they are sent. Of what has no file,
an archive made on the way, they are put together, so that memory holds each only once."""
_TAKEN = 128
"""How many small files a thread takes at once at most."""
_TAKEN_SIZE = 4 * MEBI
_NOTED_EVERY = 0.2
"""Seconds after which arrivals of small files are noted at the latest."""
_WINDOW = 8
"""So many small files are on their way from one thread: while the server takes one, the next is
read and signed. At first there is one such thread, for Python runs one of them at a time, and where
the server answers at once more would only stand in each other's way."""
_WAITING = {Lane.SMALL: 16, Lane.LARGE: 4}
"""Where a thread's files take so many times as long as its own work, one more is of use,"""
_LONG = {Lane.SMALL: 0.0015, Lane.LARGE: 0.02}
"""if each takes longer than so many seconds: a busy machine slows them down too."""
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
        Is told of every item that has arrived, some at a time, from several threads.
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
        arrived: Callable[[Sequence[Entry]], None],
        connections: int = 16,
        memory: int = MEMORY,
        ledger: Ledger | None = None,
    ):
        self._store, self._prefix = store, prefix
        self._progress, self._arrived = progress, arrived
        self._traffic = Traffic(connections, memory)
        self._ledger, self._buffers = ledger, Buffers(LEAST_PART)
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._ends: list[threading.Event] = []
        self._started: Counter[Lane] = Counter()

    def run(self, items: Sequence[Item]) -> None:
        """Send everything; the first failure stops all."""
        large, small = (_Queue(*pair) for pair in zip((Lane.LARGE, Lane.SMALL), in_order(items)))
        orders = [(large, small)] * min(len(large), cores())  # more would share the same cores
        orders += [(small, large)] * min(len(small), 1)
        for queue in (large, small):
            if len(queue):
                self._traffic.begin(queue.lane)
        try:
            for order in orders:
                self._start(order)
            for end in self._ends:  # a join that a signal breaks off takes its thread for ended
                while not end.wait(0.2):  # wakes up so that a signal is heard
                    continue
        except BaseException:
            self._give_up()
            raise
        if self._failure is not None:
            raise self._failure

    def _start(self, order: tuple["_Queue", "_Queue"]) -> None:
        """Start a thread, or none where its lane has as many as can be of use."""
        lane, most = order[0].lane, self._traffic.connections
        with self._lock:
            if self._started[lane] >= (most if lane is Lane.SMALL else max(1, most // 2)):
                return
            self._started[lane] += 1
            end = threading.Event()
            self._ends.append(end)
        threading.Thread(target=self._work, args=(order, end), daemon=True).start()

    def _send_large(self, items: Sequence[Item]) -> None:
        """Send items in parts."""
        for item in items:
            key, digest = f"{self._prefix}/{item.key}", _Digest()
            size = part_size(item.largest_size)
            page = self._ledger.page(item.key, item.fingerprint) if self._ledger else None
            pieces = self._parts(item, size, digest)
            etag = self._store.put_parts(key, pieces, size, self._traffic, page)
            moment = utc(item.mtime_ns)
            entry = Entry(item.key, digest.size, digest.sha256, moment, etag, item.fingerprint)
            self._arrived([entry])
            self._progress.add(0, item.file_count)

    def _send_small(self, items: Sequence[Item]) -> None:
        """Send items in one request each, and note them together, but soon."""
        sent: list[Item] = []
        entries: list[Entry] = []

        def note() -> None:
            done, arrived = sent[:], entries[:]
            sent.clear(), entries.clear()
            self._arrived(arrived)
            self._progress.add(
                sum(item.source_size for item in done), sum(item.file_count for item in done)
            )

        size = sum(item.largest_size for item in items)
        wanted = min(_WINDOW, max(1, self._traffic.connections // len(self._ends)))
        with self._traffic.place(size, wanted) as window:
            read: deque[tuple[str, int, str]] = deque()
            contents, halt = self._contents(items, read), self._traffic.halt
            due = time.monotonic() + _NOTED_EVERY
            try:
                for item, etag in zip(items, self._store.put_all(contents, window, halt)):
                    moment, source = utc(item.mtime_ns), item.fingerprint
                    entries.append(Entry(*read.popleft(), moment, etag, source))
                    sent.append(item)
                    if time.monotonic() > due:
                        note()
                        due = time.monotonic() + _NOTED_EVERY
            finally:
                if entries:
                    note()

    def _contents(
        self, items: Sequence[Item], read: deque[tuple[str, int, str]]
    ) -> Iterator[tuple[str, bytes]]:
        """Read items, each when it is its turn to be sent, and tell beside what was read."""
        for item in items:
            self._check()
            data = item.read()
            key = item.key
            read.append((key, len(data), hashlib.sha256(data).hexdigest()))
            yield f"{self._prefix}/{key}", data

    def _parts(self, item: Item, size: int, digest: "_Digest") -> Iterable[Buffer | Stretch]:
        """Cut an item into parts."""
        is_held = size <= _LONGEST_READ
        if isinstance(item, ZipItem):
            pieces = self._pieces(item, min(size, _LONGEST_READ), digest)
            return pieces if is_held else gathered(pieces, size)

        def take(piece: memoryview) -> None:
            self._check()
            digest.update(piece)
            self._progress.add(len(piece))

        return Stretches(item.file, size, take, self._buffers if is_held else None)

    def _check(self) -> None:
        """Break off when the transfer stops."""
        if self._traffic.halt.is_set():
            raise CancelledError("the transfer was stopped")

    def _pieces(self, item: Item, size: int, digest: "_Digest") -> Iterator[bytes]:
        """Give an item's bytes, hash them, and break off when the transfer stops."""
        for piece in item.stream(size, self._progress.add):
            self._check()
            digest.update(piece)
            yield piece

    def _work(self, queues: tuple["_Queue", "_Queue"], end: threading.Event) -> None:
        """Send items until both queues are empty."""
        try:
            for queue in queues:
                send = self._send_small if queue.lane is Lane.SMALL else self._send_large
                for turn in count():
                    items = queue.take(self._share(queue, turn))
                    if not items or self._traffic.halt.is_set():
                        break
                    began, busy = time.monotonic(), time.thread_time()
                    send(items)
                    if queue.is_done(len(items)):
                        self._traffic.end(queue.lane)
                    took, busy = time.monotonic() - began, time.thread_time() - busy
                    warm = turn or queue.lane is Lane.LARGE  # its first small file had to connect
                    if warm and queue.left and waited(queue.lane, len(items), took, busy):
                        self._start(queues if queue is queues[0] else queues[::-1])
        except BaseException as error:  # handed to the thread that waits
            with self._lock:
                if self._failure is None or isinstance(self._failure, CancelledError):
                    self._failure = error
            self._traffic.stop()
        finally:
            end.set()

    def _share(self, queue: "_Queue", turn: int) -> int:
        """Tell how many items a thread takes: few at first, and few where few are left."""
        if queue.lane is Lane.LARGE:
            return 1
        return max(1, min(_TAKEN, 2 ** min(turn, 9), queue.left // (4 * len(self._ends))))

    def _give_up(self) -> None:
        """Break everything off, and leave no parts behind that nobody sees."""
        self._traffic.stop()
        deadline = time.monotonic() + _GRACE
        for end in self._ends:
            end.wait(max(0.0, deadline - time.monotonic()))
        for path, begun in self._ledger.uploads() if self._ledger else ():
            try:
                self._store.abort(Unfinished(f"{self._prefix}/{path}", begun.upload_id))
            except UploadError as error:
                self._store.tell(str(error))


def waited(lane: Lane, files: int, took: float, busy: float) -> bool:
    """Tell whether a thread waited, for the store or the drive, for most of the time.

    Parameters
    ----------
    lane : Lane
        Which files it sent,
    files : int
        how many,
    took, busy : float
        and for how many seconds, of which so many were its own work.
    """
    return took > _LONG[lane] * files and took > _WAITING[lane] * busy


def cores() -> int:
    """Tell how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        self._open = self._left = self._count = len(items)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    @property
    def left(self) -> int:
        """How many nobody has taken yet."""
        return self._left

    def take(self, most: int) -> list[Item]:
        """Take the next ones, fewer of larger ones; none where there are no more."""
        items: list[Item] = []
        size = 0
        with self._lock:
            while len(items) < most and size < _TAKEN_SIZE:
                item = next(self._items, None)
                if item is None:
                    break
                items.append(item)
                size += item.largest_size
            self._left -= len(items)
        return items

    def is_done(self, count: int) -> bool:
        """Note that so many more have arrived, and tell whether those were the last."""
        with self._lock:
            self._open -= count
            return not self._open


class _Digest:
    """The hash and the size of what was read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def update(self, piece: Buffer) -> None:
        """Take a piece."""
        self._hash.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()
