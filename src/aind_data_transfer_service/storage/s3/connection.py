"""One connection to a server: sends a request, and reads the response to it."""

import itertools
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.errors import CancelledError
from aind_data_transfer_service.storage.base import Body, Guard
from aind_data_transfer_service.storage.s3.http_response import Reply, ResponseReader
from aind_data_transfer_service.storage.s3.proxy import Link, NestedTls
from aind_data_transfer_service.storage.s3.retry import Fault, Kind

T = TypeVar("T")
MOST_READ = 1 << 24
"""Bytes of a response that are read at most, unless asked otherwise: a page of a list with 1000
keys of 1024 bytes, each byte encoded as three, has some 4 MB."""
_LOWEST_RATE = 1024
"""Bytes per second. A response that arrives more slowly, on average over the time without any byte
after which an exchange is broken off, has stalled."""
_LONG_WORK = 10
"""POST completes uploads: for minutes the server may send nothing but a space now and then. Its
response may stay below the lowest rate so many times longer."""
TICK = 1.0
"""Seconds between two looks at whether the transfer was stopped."""
_TLS_PIECE = 1 << 20
"""What is encrypted counts as sent only when all of it is: a slow link is to be seen moving."""
_SMOOTH_PIECE = 1 << 16
_WITH_HEAD = 1 << 16
"""Bodies up to this size go out together with their head."""
_READ = 1 << 18
_SHORT_READ = 1 << 14
_JUST_USED = 0.005
"""Seconds after its last response for which a connection is taken to be clean in a row of requests
whose responses are verified later. To ask the kernel takes 3 to 5 % of the time of a small file."""


class Unanswered(Exception):
    """A connection broke before any of the reply came."""

    def __init__(self, fault: Fault):
        super().__init__(fault.words)
        self.fault = fault


class Connection:
    """One connection."""

    def __init__(self, link: Link, stall: float, bandwidth: TokenBucket | None):
        self._link, self._stall, self._bandwidth = link, stall, bandwidth
        self._tick = link.gettimeout()
        self._halt: threading.Event | None = None
        self._broken: OSError | None = None
        self._moved = 0.0
        self._reader: ResponseReader | None = None
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)
        self.stays = False
        """Whether it can be used once more."""
        self.has_surplus = False
        """Whether the server sent more than the reply."""

    def is_clean(self, in_row: bool) -> bool:
        """Return whether an idle connection is open, and nothing has arrived on it."""
        if in_row and time.monotonic() - self._moved < _JUST_USED:
            return True
        link = self._link
        pending = link.pending() if isinstance(link, ssl.SSLSocket | NestedTls) else 0
        if not self._poll.poll(0) and not pending:
            return True
        try:
            link.settimeout(0)
            self.has_surplus = link.recv(1) != b""
        except ssl.SSLWantReadError:  # TLS itself had something to say: a session ticket
            link.settimeout(self._tick)
            return True
        except OSError:  # it was reset
            self.has_surplus = False
        return False

    def close(self) -> None:
        """Close it."""
        self._link.close()

    def send(
        self,
        head: bytes,
        body: Body,
        halt: threading.Event | None,
        guard: Guard | None = None,
    ) -> None:
        """Send one request; break off where the guard says that its right to be sent expired."""
        self._halt, self._broken = halt, None
        self._moved = time.monotonic()
        try:
            if len(body) > _WITH_HEAD:
                chunks = itertools.chain((memoryview(head),), body.chunks())
                self._send_all(chunks, guard or Guard())
                return
            data = head
            for chunk in body.chunks():
                data += chunk
            if not self._bandwidth:
                data = self._send_whole(data)
            if data:
                self._send_all((memoryview(data),), guard or Guard())
        except OSError as error:  # a server that refuses may have answered before it closed
            self._broken = error

    def receive(self, method: str, halt: threading.Event | None, limit: int = MOST_READ) -> Reply:
        """Read the reply to what was sent last."""
        self._halt, broken = halt, self._broken
        self.stays = False
        reader, self._reader = self._reader or ResponseReader(), None
        reader.begin(method == "HEAD", limit)
        size = _READ if method == "GET" else _SHORT_READ
        try:
            data = self._receive(size)
            if not reader.feed(data):
                self._receive_rest(reader, size, len(data), _LONG_WORK if method == "POST" else 1)
        except OSError as error:
            fault = Fault(Kind.PASSING, f"the connection broke: {reason_of(broken or error)}")
            if reader.is_begun:
                fault = Fault(Kind.PASSING, "the reply was cut off")
                raise fault from error
            raise Unanswered(fault) from error
        self.has_surplus = reader.has_surplus
        self.stays = reader.is_reusable and broken is None
        if self.stays and method != "HEAD":
            self._reader = reader
        return reader.reply()

    def _receive_rest(self, reader: ResponseReader, size: int, count: int, periods: int) -> None:
        """Read a reply that did not come in one piece, at the lowest rate or faster.

        Parameters
        ----------
        reader : ResponseReader
            Has read what came so far.
        size : int
            Bytes that are read at once.
        count : int
            Bytes that came so far.
        periods : int
            How much longer than usual it may take.
        """
        seconds, since = self._stall * periods, self._moved
        last, is_complete = count, False
        while not is_complete:
            if not last:
                if reader.ends_with_connection:
                    return
                raise ConnectionResetError("the server closed the connection")
            data = self._receive(size)
            is_complete, last = reader.feed(data), len(data)
            count += last
            passed = self._moved - since
            if passed < seconds or is_complete:
                continue
            if count < _LOWEST_RATE * passed:
                words = f"only {count:,} bytes of the reply came in {passed:.0f} s"
                raise Fault(Kind.PASSING, words)
            since, count = self._moved, 0

    def _receive(self, size: int) -> bytes:
        """Read what came, which is there at once most often."""
        try:
            data = self._link.recv(size)
            self._moved = time.monotonic()
            return data
        except (TimeoutError, BlockingIOError):
            return self._step(lambda: self._link.recv(size))

    def _send_whole(self, data: bytes) -> bytes:
        """Send what most often goes out in one step, and give what did not."""
        try:
            sent = self._link.send(data)
        except (TimeoutError, BlockingIOError):
            return data
        return data[sent:]

    def _send_all(self, chunks: Iterable[memoryview], guard: Guard) -> None:
        """Send all chunks, in as many steps as it takes."""
        tls = _TLS_PIECE if isinstance(self._link, ssl.SSLSocket | NestedTls) else None
        most = _SMOOTH_PIECE if self._bandwidth else tls
        for piece in chunks:
            while piece:
                if guard.is_expired():
                    raise Fault(Kind.PASSING, "the lease has to be renewed first")
                part = piece[:most]
                sent = self._step(lambda: self._link.send(part))
                if self._bandwidth:
                    self._bandwidth.take(sent, self._halt)
                    self._moved = time.monotonic()
                piece = piece[sent:]

    def _step(self, move: Callable[[], T]) -> T:
        """Do one step, for which the connection may have to wait."""
        while True:
            if self._halt is not None and self._halt.is_set():
                raise CancelledError("the transfer was stopped")
            try:
                done = move()
                self._moved = time.monotonic()
                return done
            except (TimeoutError, BlockingIOError):
                if time.monotonic() - self._moved >= self._stall:
                    words = f"no byte moved for {self._stall:.0f} s"
                    raise Fault(Kind.PASSING, words) from None


def reason_of(error: BaseException) -> str:
    """Say, briefly, why a connection failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
