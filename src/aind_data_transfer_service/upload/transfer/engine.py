"""Moving the bytes: each read once, hashed while it is read, and sent from the same buffer.

Two lanes run side by side, so that neither the link nor the rate of requests idles: large files
go in parts, small ones in one request each, the largest of each first. A lane that has nothing
left to do leaves its connections to the other.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import NO_THREAD, beside, start_thread
from aind_data_transfer_service.concurrency.transfer_budget import Lane, Traffic, cores
from aind_data_transfer_service.errors import CancelledError, TransferError, UploadError
from aind_data_transfer_service.storage.base import AssetStore, Body, BufferBody
from aind_data_transfer_service.storage.model import Begun, Buffer, Unfinished, Window
from aind_data_transfer_service.upload.manifest.entry import Entry, utc
from aind_data_transfer_service.upload.plan.items import Item, StreamedItem
from aind_data_transfer_service.upload.plan.plan import MEBI, PART_SIZE, in_order, part_size
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from aind_data_transfer_service.upload.source.file_parts import Buffers, Stretches
from aind_data_transfer_service.upload.transfer.autoscaler import Crew
from aind_data_transfer_service.upload.transfer.progress import Progress

MEMORY = 256 * MEBI
"""How many bytes may be between source and destination at once."""
_LONGEST_READ = 16 * MEBI
"""Parts of huge files are larger: those are read once more as they are sent. Of what has no file,
an archive made on the way, they are put together, so that memory holds each only once."""
_LOOK_EVERY = 0.2
"""Seconds between two looks at whether the job has to stop."""
_TAKEN = 512
"""How many small files a thread takes at once at most."""
_NOTED_EVERY = 0.2
"""Seconds after which arrivals of small files are noted at the latest."""
_SMALL_SHARE = 8
"""The small files of one thread take so much of the memory at most: one part in so many."""
_MOST_SMALL, _MOST_LARGE = 32, 16
"""How many threads there are at most. At first one sends small files, for Python runs one at a
time, and where drive and store answer at once more would only stand in each other's way."""
_LONG_READ = 0.001
"""Small files are waited for where each takes more than so many seconds to be read."""
_LONG_FILE, _WAITING = 0.02, 4
"""A large file is waited for where it takes more than so many seconds, and so many times as long as
the thread's own work in it: a busy machine slows it down too."""
_GRACE = 3.0
"""Seconds that the threads have to break off when the job has to stop, which has ten in all. A
connection notices within one; what is left then hangs in a read of the source."""
_FAULT_GRACE = 60.0
"""Seconds that the other threads have to break off after one of them failed."""
_ABORT_GRACE = 1.5
"""Seconds in which unfinished multipart uploads are aborted when a user cancelled the job."""


class Transfer:
    """Sends items to a store.

    Parameters
    ----------
    store : AssetStore
        Where to.
    prefix : str
        Name of the asset.
    progress : Progress
        Counts files, and bytes once the store has acknowledged them.
    arrived : Callable
        Is told of every item that has arrived, some at a time, from several threads.
    connections : int
        How many files or parts are on their way at once.
    memory : int
        How many bytes may be between source and destination at once.
    ledger : Ledger | None
        What is remembered of large files, so that they can go on where they stopped.
    halt : Halt | None
        Stops the transfer together with the rest of the job.
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        progress: Progress,
        arrived: Callable[[Sequence[Entry]], None],
        connections: int = 256,
        memory: int = MEMORY,
        ledger: Ledger | None = None,
        halt: Halt | None = None,
    ):
        self._store, self._prefix = store, prefix
        self._progress, self._arrived = progress, arrived
        self._halt = halt or Halt()
        self._traffic = Traffic(connections, memory, self._halt)
        self._ledger, self._buffers = ledger, Buffers(PART_SIZE)
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._ends: list[threading.Event] = []
        self._unnoted: dict[int, list[Entry]] = {}
        self._larges = 0
        self._crew = Crew(min(_MOST_SMALL, connections))

    def run(self, items: Sequence[Item]) -> None:
        """Send everything; the first failure stops all.

        Raises
        ------
        UploadError
            The first failure, or the reason for which the job has to stop.
        """
        large, small = (_Queue(*pair) for pair in zip((Lane.LARGE, Lane.SMALL), in_order(items)))
        for queue in (large, small):
            if len(queue):
                self._traffic.begin(queue.lane)
        try:
            self._start_all(large, small)
            self._await_ends()
            self._halt.check()
        except BaseException as error:
            self._break_off(_GRACE)
            if isinstance(self._halt.reason or error, (CancelledError, KeyboardInterrupt)):
                self._abort_uploads()
            raise
        if self._failure is not None:
            raise self._failure

    def _start_all(self, large: "_Queue", small: "_Queue") -> None:
        """Start the threads with which the lanes begin: one for each at least."""
        for queue in (large, small):
            if len(queue) and not self._start(queue):
                raise TransferError(NO_THREAD)
        started = min(len(large), 1)
        while started < min(len(large), cores()) and self._start(large):  # more would share cores
            started += 1
        with self._lock:
            self._larges += started

    def _await_ends(self) -> None:
        """Wait until every thread has ended, but not long once one of them has failed."""
        for end in self._ends:
            while not end.wait(_LOOK_EVERY):  # and a signal is heard
                if self._halt.is_set():
                    return
                if self._traffic.halt.is_set():
                    return self._break_off(_FAULT_GRACE)

    def _start(self, queue: "_Queue") -> bool:
        """Start a thread, and return whether the system allowed it."""
        end = threading.Event()
        self._ends.append(end)  # before it starts: the job may be stopped just then
        is_started = start_thread(partial(self._work, queue, end), f"{queue.lane} files")
        if not is_started:
            end.set()
        return is_started

    def _send_large(self, item: Item) -> bool:
        """Send an item in parts, and tell whether that was waited for rather than worked at."""
        began, busy = time.monotonic(), time.thread_time()
        key, digest = f"{self._prefix}/{item.key}", _Digest()
        size = part_size(item.largest_size)
        ledger = self._ledger
        checkpoint = ledger.checkpoint_for(item.key, item.fingerprint) if ledger else None
        pieces = self._parts(item, size, digest)
        on_part = partial(self._note_part, pieces)
        etag = self._store.put_parts(
            key, pieces, size, self._traffic, checkpoint, on_part, pieces.held
        )
        if checkpoint is not None:
            checkpoint.complete()
        moment = utc(item.mtime_ns)
        version, target = item.version, item.target
        entry = Entry(item.key, digest.size, digest.sha256, moment, etag, version, target)
        self._arrived([entry])
        self._progress.add(0, item.file_count)
        took, busy = time.monotonic() - began, time.thread_time() - busy
        return took > max(_LONG_FILE, _WAITING * busy)

    def _send_small(self, items: Sequence[Item]) -> int:
        """Send items in one request each, and note them together, but soon.

        Returns
        -------
        int
            How many more threads would be of use.
        """
        sent: list[Item] = []
        entries: list[Entry] = []

        def note() -> None:
            done, arrived = sent[:], entries[:]
            sent.clear()
            entries.clear()
            self._arrived(arrived)
            self._progress.add(
                sum(item.source_size for item in done), sum(item.file_count for item in done)
            )

        largest = max(1, *(item.largest_size for item in items))
        room = self._traffic.memory_size // (_SMALL_SHARE * largest)
        wanted = max(1, min(self._store.window, len(items), room))
        with self._traffic.place(largest * wanted, wanted) as seats:
            window, read = Window(seats), _Read()
            contents, halt = self._contents(items, read), self._traffic.halt
            began = time.monotonic()
            due = began + _NOTED_EVERY
            self._unnoted[id(entries)] = entries
            try:
                for item, etag in zip(items, self._store.put_all(contents, window, halt)):
                    moment, source = utc(item.mtime_ns), item.version
                    entries.append(Entry(*read.files.popleft(), moment, etag, source, item.target))
                    sent.append(item)
                    if time.monotonic() > due:
                        note()
                        due = time.monotonic() + _NOTED_EVERY
            finally:
                del self._unnoted[id(entries)]
                if entries:
                    note()
            took, left = time.monotonic() - began, self._traffic.seats_left(Lane.SMALL)
        if len(items) < 2 * wanted:  # too few to judge by
            return 0
        if read.seconds > took / 2:
            return self._crew.size if read.seconds > _LONG_READ * len(items) else 0
        return min(int(window.waited / max(1e-6, took - window.waited)), left // wanted)

    def _contents(self, items: Sequence[Item], read: "_Read") -> Iterator[tuple[str, bytes]]:
        """Read items, each when it is its turn to be sent, and tell beside what was read."""
        clock = time.monotonic
        for item in items:
            began = clock()
            data = item.read()
            read.seconds += clock() - began
            self._check()  # to read may take long, and nothing is sent once the job has to stop
            key = item.key
            read.files.append((key, len(data), hashlib.sha256(data).hexdigest()))
            yield f"{self._prefix}/{key}", data

    def _note_part(
        self, parts: "Stretches | _Archive", number: int, size: int, is_new: bool
    ) -> None:
        """Count a part that the store has, as so many bytes of the source."""
        if isinstance(parts, _Archive):
            size = parts.source_sizes[number - 1]
        if is_new:
            self._progress.add(size)
        else:
            self._progress.already(0, size)

    def _parts(self, item: Item, size: int, digest: "_Digest") -> "Stretches | _Archive":
        """Cut an item into parts."""
        is_held = size <= _LONGEST_READ
        if isinstance(item, StreamedItem):
            return _Archive(partial(self._pieces, item, digest), size)

        def take(piece: memoryview) -> None:
            self._check()
            digest.update(piece)

        return Stretches(item.file, size, take, self._buffers if is_held else None)

    def _check(self) -> None:
        """Break off when the transfer stops."""
        if self._traffic.halt.is_set():
            raise CancelledError("the transfer was stopped")

    def _pieces(
        self, item: Item, digest: "_Digest", size: int, on_read: Callable[[int], None]
    ) -> Iterator[bytes]:
        """Give an item's bytes, hash them, and break off when the transfer stops."""
        for piece in item.stream(size, on_read):
            self._check()
            digest.update(piece)
            yield piece

    def _work(self, queue: "_Queue", end: threading.Event) -> None:
        """Send items until the queue is empty."""
        try:
            with self._traffic.worker():
                if queue.lane is Lane.SMALL:
                    self._empty_small(queue)
                else:
                    self._empty_large(queue)
        except BaseException as error:  # handed to the thread that waits
            with self._lock:
                if self._failure is None or isinstance(self._failure, CancelledError):
                    self._failure = error
            self._traffic.stop()
        finally:
            end.set()

    def _empty_large(self, queue: "_Queue") -> None:
        """Send large files until there are none, with a further thread where one waits."""
        most = min(_MOST_LARGE, max(1, self._traffic.connections // 2))
        while (items := queue.take(1)) and not self._traffic.halt.is_set():
            waited = self._send_large(*items)
            if queue.is_done(1):
                self._traffic.end(queue.lane)
            with self._lock:
                wanted = waited and self._larges < most and queue.left
                if wanted and self._traffic.seats_left(queue.lane):
                    self._larges += self._start(queue)

    def _empty_small(self, queue: "_Queue") -> None:
        """Send small files until there are none, with as many threads as are of use."""
        for turn in count():
            items = queue.take(self._share(queue, turn))
            if not items or self._traffic.halt.is_set():
                return
            more = self._send_small(items)
            if queue.is_done(len(items)):
                self._traffic.end(queue.lane)
            started, ends = self._crew.review(len(items), more if queue.left else 0)
            for number in range(started):
                if not self._start(queue):
                    self._crew.refused(started - number)
                    break
            if ends:
                return

    def _share(self, queue: "_Queue", turn: int) -> int:
        """Tell how many items a thread takes: few at first, and few where few are left."""
        window = self._store.window
        fair = max(window, queue.left // (4 * self._crew.size))
        return min(_TAKEN, window << min(turn + 1, 9), fair)

    def _break_off(self, grace: float) -> None:
        """Stop all threads, and note what has arrived for those that do not end in time."""
        self._traffic.stop()
        deadline = time.monotonic() + grace
        for end in self._ends:
            end.wait(max(0.0, deadline - time.monotonic()))
        for entries in filter(None, list(self._unnoted.values())):
            try:
                self._arrived(list(entries))
            except UploadError as error:  # what stops the transfer is the first failure
                self._store.tell(str(error))

    def _abort_uploads(self) -> None:
        """Abort the unfinished multipart uploads: nobody wants their parts any more."""
        uploads = list(self._ledger.uploads()) if self._ledger else []
        if not uploads:
            return
        aborted = beside(partial(self._abort, uploads), "abort")
        wait([aborted], _ABORT_GRACE)
        if not aborted.done():
            self._store.tell(
                f"{len(uploads):,} unfinished multipart uploads could not be aborted in time; "
                "`aind-data-transfer-service clean` removes them"
            )

    def _abort(self, uploads: Iterable[tuple[str, Begun]]) -> None:
        """Abort multipart uploads."""
        for path, begun in uploads:
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


class _Archive(Iterable[Body]):
    """The parts of an archive that is made on the way, and what each has of the source.

    Parameters
    ----------
    pieces : Callable
        Returns the archive in pieces, by their size and what takes the number of bytes read.
    size : int
        The size of every part but the last.
    """

    def __init__(
        self, pieces: Callable[[int, Callable[[int], None]], Iterator[bytes]], size: int
    ) -> None:
        self._pieces, self._size = pieces, size
        self._read = 0
        self.source_sizes: list[int] = []
        """How many bytes of the source were read for each part that was given."""

    @property
    def held(self) -> int:
        """What each counts for in memory."""
        return self._size

    def __iter__(self) -> Iterator[Body]:
        """Give the parts in their order."""
        pieces = self._pieces(min(self._size, _LONGEST_READ), self._note_read)
        parts = pieces if self._size <= _LONGEST_READ else gathered(pieces, self._size)
        for part in parts:
            self.source_sizes.append(self._read)
            self._read = 0
            yield BufferBody(part)

    def _note_read(self, size: int) -> None:
        """Count bytes of the source."""
        self._read += size


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
        """Take the next ones; none where there are no more."""
        items: list[Item] = []
        with self._lock:
            while len(items) < most:
                item = next(self._items, None)
                if item is None:
                    break
                items.append(item)
            self._left -= len(items)
        return items

    def is_done(self, count: int) -> bool:
        """Note that so many more have arrived, and tell whether those were the last."""
        with self._lock:
            self._open -= count
            return not self._open


@dataclass
class _Read:
    """What a thread has read of small files."""

    files: deque[tuple[str, int, str]] = field(default_factory=deque)
    """Key, size and hash of those that are on their way."""
    seconds: float = 0.0
    """How long that took."""


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
