"""Limits of connections: how many are open, how large the head of a request is, how slow a client
may be.

uvicorn has a time-out for idle connections and nothing else of this. Its protocol class is replaced
by a subclass while the application starts, so that the limits hold however uvicorn is called.
"""

import asyncio
import functools
import logging
import resource
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from aind_data_transfer_service.server.responses import failure

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 2000
MOST_DESCRIPTORS = 65_536
"""The soft limit on open files is raised to the hard limit, but not above this."""
RESERVED_DESCRIPTORS = 256
"""Open files that connections leave to the database, the jobs and their logs."""
HEAD_BYTES = 64 * 1024
"""Request line, header fields and trailers of one request."""
HEADER_FIELDS = 100
URL_BYTES = 8 * 1024
PIPELINED_REQUESTS = 16
"""Requests that a client sends before it has the answers to earlier ones."""
HEAD_SECONDS = 20.0
"""From the connection, or the first byte of a further request, to the end of its head."""
STALL_SECONDS = 20.0
"""How long a body or the reading of an answer may pause."""
BODY_SECONDS = 600.0
"""For the body of a request in total."""
BYTES_PER_SECOND = 1024
"""The rate below which the time for a body or an answer runs out."""
LINGER_SECONDS = 2.0
"""How long a refused client has to read why; what it sends meanwhile is dropped."""
MOST_LINGERING = 128
RETRY_SECONDS = 5
"""For `Retry-After`."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may cost, and how many there are.

    Attributes
    ----------
    connections : int
        Open at the same time, event streams included.
    head_seconds : float
        See `HEAD_SECONDS`.
    stall_seconds : float
        See `STALL_SECONDS`.
    body_seconds : float
        See `BODY_SECONDS`.
    """

    connections: int = MOST_CONNECTIONS
    head_seconds: float = HEAD_SECONDS
    stall_seconds: float = STALL_SECONDS
    body_seconds: float = BODY_SECONDS

    @property
    def streams(self) -> int:
        """The number of event streams, which leaves connections for pages."""
        return max(1, self.connections * 3 // 4)

    @property
    def interval(self) -> float:
        """Seconds between two checks of all connections."""
        return min(self.head_seconds, self.stall_seconds, self.body_seconds) / 20


def process_limits() -> ConnectionLimits:
    """Return the limits of this process, whose soft limit on open files is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return ConnectionLimits()
    room = max(soft - RESERVED_DESCRIPTORS, soft // 2)
    return ConnectionLimits(connections=min(MOST_CONNECTIONS, room))


class Connections:
    """All connections of this process.

    Parameters
    ----------
    limits : ConnectionLimits
        What they are held to.
    """

    def __init__(self, limits: ConnectionLimits):
        self.limits = limits
        self.open: dict["LimitedProtocol", None] = {}
        """Those that are served."""
        self.waiting: dict["LimitedProtocol", None] = {}
        """Those of them that wait for a request, the one that has waited longest first."""
        self.lingering: set["LimitedProtocol"] = set()
        """Those that were refused and are not closed yet."""

    def admit(self, connection: "LimitedProtocol") -> bool:
        """Count a new connection, if there is room or can be made."""
        if len(self.open) >= self.limits.connections:
            if not self.waiting:
                return False
            next(iter(self.waiting)).give_way()
        self.open[connection] = None
        self.waiting[connection] = None
        return True

    def forget(self, connection: "LimitedProtocol") -> None:
        """Count a connection no more."""
        self.open.pop(connection, None)
        self.waiting.pop(connection, None)

    async def watch(self) -> None:
        """Check all connections again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.interval)
            now = loop.time()
            for connection in list(self.open):
                connection.check(now)


@asynccontextmanager
async def limited(connections: Connections, receive: Receive) -> AsyncIterator[None]:
    """Put the limits in force while the server runs the application.

    Parameters
    ----------
    connections : Connections
        Who keeps the limits.
    receive : Receive
        What the server passed for its `lifespan` scope. It leads to uvicorn's configuration, which
        is asked for the protocol class at each connection.
    """
    server = getattr(receive, "__self__", None)
    if isinstance(server, LifespanOn):
        protocol: Any = functools.partial(LimitedProtocol, shared=connections)
        server.config.http_protocol_class = protocol
    else:
        logger.warning("not served by uvicorn: the limits of connections are not in force")
    watch = asyncio.create_task(connections.watch(), name="connection limits")
    try:
        yield
    finally:
        watch.cancel()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    Parameters
    ----------
    shared : Connections
        All connections.
    **options
        What uvicorn passes.
    """

    def __init__(self, *, shared: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.ws_protocol_class = None  # there are no web sockets here
        self._shared = shared
        self._limits = shared.limits
        self._unfinished: dict[RequestResponseCycle, None] = {}
        """The requests without a complete answer: `cycle` is only the last of them."""
        self._is_refused = False
        self._has_begun = False
        self._refusal: tuple[int, str] | None = None
        self._head_bytes = self._fields = self._unparsed = 0
        self._head_deadline: float | None = None
        self._body_deadline: float | None = None
        self._body_end = 0.0
        self._unsent = 0
        self._write_deadline = 0.0

    @property
    def is_answering(self) -> bool:
        """Whether the application works on a request."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a new connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if not self._shared.admit(self):
            headers = {"Retry-After": str(RETRY_SECONDS)}
            self.refuse(503, "The service has too many connections. Try again shortly.", headers)
            return
        self._head_deadline = self.loop.time() + self._limits.head_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self._shared.forget(self)
        self._shared.lingering.discard(self)
        self._drop_unfinished()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what the parser keeps to itself is bounded too."""
        if self._is_refused:
            return
        if self._head_deadline is None and self._body_deadline is None:
            self._head_deadline = self.loop.time() + self._limits.head_seconds
        self._has_begun = True
        self._unparsed += len(data)
        before = self._unparsed
        super().data_received(data)
        if self._unparsed == before > HEAD_BYTES and not self._is_refused:
            self.refuse(*_HEAD_TOO_LARGE)  # a head, trailer or chunk extension without an end

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head_bytes = self._fields = self._unparsed = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._stop(414, f"The address is longer than {URL_BYTES:,} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field or a trailer."""
        self._unparsed = 0
        self._fields += 1
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        if self._fields > HEADER_FIELDS or self._head_bytes > HEAD_BYTES:
            self._stop(*_HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        if len(self.pipeline) >= PIPELINED_REQUESTS:
            self._stop(429, f"More than {PIPELINED_REQUESTS} requests wait for their answers.")
        self._unparsed = 0
        now = self.loop.time()
        self._head_deadline = None
        self._body_deadline = now + self._limits.stall_seconds
        self._body_end = now + self._limits.body_seconds
        self._shared.waiting.pop(self, None)
        super().on_headers_complete()
        self._unfinished[self.cycle] = None

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, and give time for the next."""
        self._unparsed = 0
        if self._body_deadline is not None and not self.cycle.response_complete:
            later = self._body_deadline + len(body) / BYTES_PER_SECOND
            self._body_deadline = min(later, self.loop.time() + self._limits.stall_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the wait for the body."""
        self._unparsed = 0
        self._body_deadline = None
        super().on_message_complete()
        self._wait_if_idle()

    def on_response_complete(self) -> None:
        """Wait for the next request; the rest of a body that nobody reads gets no more time."""
        for cycle in [one for one in self._unfinished if one.response_complete]:
            del self._unfinished[cycle]
        super().on_response_complete()
        self._wait_if_idle()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or is over a limit."""
        status, text = self._refusal or (400, "This is not a valid HTTP request.")
        self.refuse(status, text)

    def check(self, now: float) -> None:
        """Close the connection if its client is too slow.

        Parameters
        ----------
        now : float
            The time of the event loop.
        """
        if len(self._unfinished) > 1 and self.flow.read_paused and self._has_left():
            self.transport.abort()  # nothing is read, so the end of the connection is not seen
            return
        if not self.transport.is_closing():
            self._check_request(now)
        self._check_answer(now)

    def give_way(self) -> None:
        """Close a connection whose request has not come; say so if it has begun."""
        if self._has_begun and not self.transport.is_closing():
            self.refuse(408, "The request did not come in time.")
            return
        self._shared.forget(self)
        self.transport.close()

    def refuse(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """Answer in place of the application, and close.

        Parameters
        ----------
        status : int
            Of the answer.
        text : str
            Why.
        headers : dict of str, optional
            Further header fields.
        """
        self._is_refused = True
        self._unset_keepalive_if_required()
        self._shared.forget(self)
        # An answer may be under way: whatever is written now would be taken for a part of it.
        is_too_late = len(self._unfinished) > 1 or any(
            one.response_started for one in self._unfinished
        )
        self._drop_unfinished()
        if is_too_late:
            self.transport.abort()
            return
        answer = failure(status, _PHRASES.get(status, "Bad Request"), [text])
        fields = [*answer.raw_headers, (b"connection", b"close")]
        fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        lines = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body))
        self._leave()

    def _has_left(self) -> bool:
        """Return whether the client has closed the connection, without reading what it sent."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def _drop_unfinished(self) -> None:
        """Tell the application that nobody waits for its answers; do not begin with others."""
        for cycle in self._unfinished:
            cycle.disconnected = True
            cycle.message_event.set()
        self._unfinished.clear()
        self.pipeline.clear()

    def _leave(self) -> None:
        """Close in a way that lets the client read the answer: closing while it sends would reset
        the connection."""
        if len(self._shared.lingering) >= MOST_LINGERING or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._shared.lingering.add(self)
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _stop(self, status: int, text: str) -> None:
        """Stop the parser, which reports a fault: `send_400_response` then says what it was."""
        self._refusal = (status, text)
        raise ValueError(text)

    def _wait_if_idle(self) -> None:
        """Wait for the next request, if nothing is under way."""
        if self._body_deadline is None and not self.is_answering and not self._is_refused:
            self._has_begun = False
            self._head_deadline = self.loop.time() + self._limits.head_seconds
            self._shared.waiting[self] = None

    def _check_request(self, now: float) -> None:
        """Close if a head or body comes too slowly, unless it is the application that is slow."""
        if self._head_deadline is not None and now >= self._head_deadline:
            if self.is_answering:
                self._head_deadline = now + self._limits.head_seconds
            else:
                self.give_way()
        elif self._body_deadline is not None:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                self._body_deadline = now + self._limits.stall_seconds
            elif now >= min(self._body_deadline, self._body_end):
                self._refuse_body()

    def _refuse_body(self) -> None:
        """Refuse a body that comes too slowly; one that has been answered gets no other answer."""
        if self.is_answering:
            self.refuse(408, "The body of the request came too slowly.")
            return
        self._is_refused = True
        self._shared.forget(self)
        self._leave()

    def _check_answer(self, now: float) -> None:
        """Close if the client does not read its answer."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or not self._unsent:
            self._write_deadline = now + self._limits.stall_seconds
        elif unsent < self._unsent:
            later = self._write_deadline + (self._unsent - unsent) / BYTES_PER_SECOND
            self._write_deadline = min(later, now + self._limits.stall_seconds)
        self._unsent = unsent
        if unsent and now >= self._write_deadline:
            self.transport.abort()


_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_HEAD_TOO_LARGE = (
    431,
    f"The head of the request is larger than {HEAD_BYTES // 1024} KiB or has more than "
    f"{HEADER_FIELDS} fields. Clear the cookies of this site if you sent it with a browser.",
)
