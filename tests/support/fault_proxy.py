"""A proxy between a job and an S3 server that does what networks and servers do on bad days.

Which requests it troubles, and how, follows from a seed alone: the draw for a request depends on
what is asked and how often it was asked before, not on the order in which threads come. So a
failure can be repeated with the seed that it printed.
"""

import contextlib
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from urllib.parse import urlsplit

_PIECE = 1 << 16
_HEAD_LIMIT = 1 << 20
_AWAY = 0.3
_LATE = 0.3
_VARYING = re.compile(rb"uploadId=[^&\s]+|probe-[0-9a-f]+|(?<=/)test-[0-9a-f]+")


class Trouble(StrEnum):
    """What can happen to a request."""

    RESET = "the connection is reset before the request is read"
    CUT = "the connection is reset in the middle of the body"
    REFUSE = "nobody listens for a while"
    LATE = "the answer comes late"
    STALL = "no answer comes, and the connection stays open"
    TRUNCATE = "the answer is cut off"
    CORRUPT = "a byte of the body is changed"
    LOSE = "the server acts, and its answer is lost"
    ERROR = "500 InternalError"
    SLOW_DOWN = "503 SlowDown"
    SKEWED = "403 RequestTimeTooSkewed"
    EXPIRED = "400 ExpiredToken"


_REFUSALS = {
    Trouble.ERROR: (500, "InternalError", "We encountered an internal error. Please try again."),
    Trouble.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Trouble.SKEWED: (403, "RequestTimeTooSkewed", "The difference between the times is too large."),
    Trouble.EXPIRED: (400, "ExpiredToken", "The provided token has expired."),
}


@dataclass(frozen=True)
class Asked:
    """A request, as the schedule sees it."""

    method: str
    target: str
    """What is asked, but for what differs from run to run."""
    size: int
    attempt: int
    """How often the same was asked before."""


Schedule = Callable[[Asked], Trouble | None]


def nothing(_: Asked) -> None:
    """Trouble no request."""


@dataclass(frozen=True)
class Seeded:
    """Troubles a share of all requests, each at most a few times.

    Parameters
    ----------
    seed : int
        By which the same is drawn again.
    troubles : Sequence[Trouble]
        What can happen.
    share : float
        How many of the requests, from 0 to 1.
    most : int
        How often at most one and the same request is troubled.
    """

    seed: int
    troubles: Sequence[Trouble]
    share: float = 0.2
    most: int = 2

    def __call__(self, asked: Asked) -> Trouble | None:
        """Draw for one request."""
        draw = random.Random(f"{self.seed} {asked.method} {asked.target} {asked.attempt}")
        if asked.attempt >= self.most or draw.random() >= self.share:
            return None
        return draw.choice(list(self.troubles))


@dataclass
class FaultProxy:
    """Listens on a port of its own and passes on what comes. A context manager.

    Parameters
    ----------
    server : str
        Address of the server behind it.
    schedule : Schedule
        Decides what happens to a request; may be replaced while it runs.
    bytes_per_second : float | None
        How fast bodies pass, each connection by itself.
    tls : ssl.SSLContext | None
        What it shows its clients, where they speak TLS to it. The server behind it is spoken to
        as it is.
    """

    server: str
    schedule: Schedule = nothing
    bytes_per_second: float | None = None
    tls: ssl.SSLContext | None = None
    received: Counter[str] = field(default_factory=Counter)
    """By method, how many bytes of bodies came in, whether or not they were passed on."""
    troubled: Counter[Trouble] = field(default_factory=Counter)
    """What was done, and how often."""
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "FaultProxy":
        self._lock = threading.Lock()
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._open: set[socket.socket] = set()
        self._back = threading.Condition(self._lock)
        self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            self._back.notify_all()
            _shut(self._listener)
            links = list(self._open)
        for link in links:
            _shut(link)
        self._acceptor.join(10)
        self._listener.close()

    def begin(self, schedule: Schedule) -> None:
        """Go by another schedule, and forget what was asked and done before."""
        with self._lock:
            self.schedule = schedule
            self._attempts.clear()
            self.troubled.clear()

    @property
    def endpoint_url(self) -> str:
        """The address that jobs are given."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def bytes_received(self) -> int:
        """How many bytes of bodies came in so far."""
        with self._lock:
            return sum(self.received.values())

    def _accept(self) -> None:
        """Take connections; where nobody is to listen, do so no more for a while."""
        while not self._is_over:
            try:
                link, _ = self._listener.accept()
            except OSError:
                with self._lock:
                    self._back.wait_for(lambda: self._is_over, _AWAY)
                    if not self._is_over:
                        address = ("127.0.0.1", self._port)
                        self._listener = socket.create_server(address, backlog=128)
                continue
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        """Pass on one request after the other, until an end is gone."""
        try:
            with contextlib.suppress(OSError, _Ended):
                if self.tls is not None:
                    link = self._encrypted(link)
                pending = b""
                while True:
                    pending = self._one(link, pending)
        finally:
            with self._lock:
                self._open.discard(link)
            link.close()

    def _encrypted(self, link: socket.socket) -> socket.socket:
        """Shake hands."""
        secure = self.tls.wrap_socket(link, server_side=True)
        with self._lock:
            self._open.discard(link)
            self._open.add(secure)
        return secure

    def _one(self, link: socket.socket, pending: bytes) -> bytes:
        """Pass on one request, and give what was read beyond it."""
        while b"\r\n\r\n" not in pending:
            data = link.recv(_PIECE)
            if not data or len(pending) > _HEAD_LIMIT:
                raise _Ended
            pending += data
        head, body = pending.split(b"\r\n\r\n", 1)
        size = _length(head)
        asked = self._note(head, size)
        trouble = self.schedule(asked)
        if trouble is Trouble.CORRUPT and not size:
            trouble = None
        if trouble is not None:
            with self._lock:
                self.troubled[trouble] += 1
        return self._pass_on(link, head, body, size, trouble)

    def _pass_on(
        self, link: socket.socket, head: bytes, body: bytes, size: int, trouble: Trouble | None
    ) -> bytes:
        """Pass on a request whose head was read, or do to it what is to be done."""
        if trouble is Trouble.RESET:
            _reset(link)
            raise _Ended
        if trouble is Trouble.REFUSE:
            with self._lock:
                _shut(self._listener)
                self._listener.close()
            _reset(link)
            raise _Ended
        source = Body(link, body, size, self._count(head), self.bytes_per_second)
        if trouble in _REFUSALS:
            source.drain()
            link.sendall(_refusal(head, *_REFUSALS[trouble]))
            return source.beyond
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(self._connect())
            server.sendall(_closing(head) + b"\r\n\r\n")
            if trouble is Trouble.CUT:
                source.send(server, size // 2)
                _reset(server)
                _reset(link)
                raise _Ended
            with contextlib.suppress(OSError):  # it may refuse before it has read everything
                source.send(server, size, corrupt=trouble is Trouble.CORRUPT)
            answer = _all(server)
        self._answer(link, answer, trouble)
        return source.beyond

    def _answer(self, link: socket.socket, answer: bytes, trouble: Trouble | None) -> None:
        """Pass on an answer, or do to it what is to be done."""
        if trouble is Trouble.STALL:
            while link.recv(_PIECE):
                continue
            raise _Ended
        if trouble is Trouble.LOSE:
            _reset(link)
            raise _Ended
        if trouble is Trouble.TRUNCATE:
            link.sendall(answer[: len(answer) * 2 // 3])
            raise _Ended
        if trouble is Trouble.LATE:
            with self._lock:
                self._back.wait_for(lambda: self._is_over, _LATE)
        link.sendall(answer)

    def _connect(self) -> socket.socket:
        """Connect to the server."""
        parts = urlsplit(self.server)
        return socket.create_connection((parts.hostname, parts.port), timeout=60)

    def _note(self, head: bytes, size: int) -> Asked:
        """Note a request."""
        method, target, _ = _VARYING.sub(b"x", head.split(b"\r\n", 1)[0]).decode().split(" ")
        with self._lock:
            asked = Asked(method, target, size, self._attempts[(method, target)])
            self._attempts[(method, target)] += 1
            self.asked.append(asked)
        return asked

    def _count(self, head: bytes) -> Callable[[int], None]:
        """Give what counts the bytes of a body."""
        method = head.split(b" ", 1)[0].decode()

        def count(size: int) -> None:
            with self._lock:
                self.received[method] += size

        return count


class _Ended(Exception):
    """A connection has served its time."""


class Body:
    """The body of a request that is being read."""

    def __init__(
        self,
        link: socket.socket,
        begun: bytes,
        size: int,
        count: Callable[[int], None],
        rate: float | None,
    ):
        self._link, self._left, self._count, self._rate = link, size, count, rate
        self._begun, self.beyond = begun[:size], begun[size:]
        count(len(self._begun))

    def send(self, server: socket.socket, size: int, corrupt: bool = False) -> None:
        """Pass so many bytes on."""
        while size > 0 and self._left:
            piece = self._next()[:size]
            size -= len(piece)
            if corrupt:
                piece, corrupt = bytes([piece[0] ^ 1]) + piece[1:], False
            server.sendall(piece)

    def drain(self) -> None:
        """Read it and throw it away."""
        while self._left:
            self._next()

    def _next(self) -> bytes:
        """Read a piece."""
        piece, self._begun = self._begun, b""
        if not piece:
            piece = self._link.recv(min(_PIECE, self._left))
            if not piece:
                raise _Ended
            self._count(len(piece))
        self._left -= len(piece)
        if self._rate:
            time.sleep(len(piece) / self._rate)
        return piece


def _length(head: bytes) -> int:
    """Read how long a body is."""
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found.group(1)) if found else 0


def _closing(head: bytes) -> bytes:
    """Ask the server to close after its answer, so that its end is seen."""
    return re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE) + (
        b"\r\nConnection: close"
    )


def _all(server: socket.socket) -> bytes:
    """Read an answer to its end; the client's connection stays as it is."""
    pieces = []
    while piece := server.recv(_PIECE):
        pieces.append(piece)
    head, end, body = b"".join(pieces).partition(b"\r\n\r\n")
    if not end:
        raise _Ended
    return re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE) + end + body


def _refusal(head: bytes, status: int, code: str, message: str) -> bytes:
    """Write a refusal as S3 does."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    if head.startswith(b"HEAD "):
        body = b""
    lines = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\n"
    lines += f"Date: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


def _reset(link: socket.socket) -> None:
    """Close a connection so that the other end sees a reset."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def _shut(link: socket.socket) -> None:
    """Wake whoever waits for a socket."""
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
