"""Connections to one server, kept open and used in turn, and single exchanges over them.

A body is sent from the buffer that it lies in. A time-out holds for each step, not for the whole:
an exchange is alive as long as bytes move. A response must in addition keep to a lowest rate.
Every way in which an exchange can break is a `Fault`.

A connection is used again only if nothing but the response to the last request has arrived on it.
"""

import logging
import os
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.errors import CancelledError
from aind_data_transfer_service.storage.base import Body, GuardSlot
from aind_data_transfer_service.storage.s3.connection import (
    MOST_READ,
    TICK,
    Connection,
    Unanswered,
    reason_of,
)
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.proxy import (
    Link,
    NestedTls,
    Proxy,
    find_proxy,
    open_tunnel,
    secured,
)
from aind_data_transfer_service.storage.s3.retry import Fault, Kind

logger = logging.getLogger(__name__)

_READ_ONLY = ("GET", "HEAD")
_LONG_OPENING = 0.005
"""Connections are made ahead where one takes more than so many seconds."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
"""What OpenSSL makes of an answer that is none of TLS."""


class Wire:
    """The connections to one server. May be used from several threads at once.

    Parameters
    ----------
    address : str
        `http://` or `https://`, the server's name and its port. Whether there is a proxy before
        it follows from the environment.
    stall : float
        Seconds without a byte moving after which an exchange is broken off.
    connect : float
        Seconds that a connection may take to be made.
    bandwidth : TokenBucket | None
        Bytes per second that may be sent.
    awaits_server : bool
        Whether a server that refuses connections, or whose name is unknown, may come up later; if
        not, the first such failure is final.
    slot : GuardSlot | None
        Holds the guard that is asked before each request that changes anything.
    """

    def __init__(
        self,
        address: str,
        stall: float,
        connect: float,
        bandwidth: TokenBucket | None = None,
        awaits_server: bool = True,
        slot: GuardSlot | None = None,
    ):
        self.address = address
        parts = urlsplit(address)
        self._tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self._tls else 80)
        self.netloc = parts.netloc.rpartition("@")[2]
        """Host and port as they are written in the address."""
        self._proxy = find_proxy(parts.scheme, self.host, self.port)
        self.forwarder = None if self._tls else self._proxy
        """The proxy to which requests are sent as a whole."""
        self.prefix = f"http://{self.netloc}" if self.forwarder else ""
        """What comes before the path in the first line of a request."""
        self.lines = self.forwarder.lines if self.forwarder else ""
        """Header lines of each request that are not the server's business."""
        self._stall, self._connect, self._bandwidth = stall, connect, bandwidth
        self._awaits_server = awaits_server
        self._context: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        weakref.finalize(self, _close, self._idle)
        self._lock = threading.Lock()
        self._open = self._wanted = 0
        self._opening = 0.0
        """How many seconds the last connection took to be made."""
        self._warned_of_surplus = False
        self._slot = slot or GuardSlot()

    @contextmanager
    def ready(self, count: int) -> Iterator[None]:
        """Have so many connections for whoever sends now, besides those that others have.

        Where it takes its time to make one, as over TLS and a long way, they are made beside, all
        at once. Whoever needs one and finds none makes it, and hears why it cannot be made.
        """
        with self._lock:
            self._wanted += count
            missing = self._wanted - self._open if self._opening > _LONG_OPENING else 0
            self._open += max(0, missing)
        for _ in range(missing):
            beside(self._prepare, "connection")
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= count

    def exchange(
        self, head: bytes, body: Body, method: str, halt: threading.Event | None = None
    ) -> Reply:
        """Send one request and read its reply.

        Raises
        ------
        Fault
            Where no whole reply came.
        CancelledError
            Where `halt` was set meanwhile.
        """
        return self.begin(head, body, method, halt).reply()

    def begin(
        self,
        head: bytes,
        body: Body,
        method: str,
        halt: threading.Event | None = None,
        fresh: bool = False,
        in_row: bool = False,
    ) -> "Exchange":
        """Send one request, whose reply is read later: meanwhile others can be sent.

        With `fresh`, it is sent over a new connection. With `in_row`, it is one of many whose
        responses are verified later, and a connection used a moment ago is not examined before.

        Raises
        ------
        Fault
            Where no connection can be made.
        CancelledError
            Where `halt` was set meanwhile.
        """
        connection, used = self._take(fresh, in_row)
        try:
            if not used and halt is not None and halt.is_set():  # to connect may take seconds
                raise CancelledError("the transfer was stopped")
            if method in _READ_ONLY:
                connection.send(head, body, halt)
            else:
                guard = self._slot.guard
                guard.check()
                connection.send(head, body, halt, guard)
        except BaseException:
            self.close(connection)
            raise
        return Exchange(self, connection, used, head, body, method, halt)

    def keep(self, connection: "Connection") -> None:
        """Take a connection back, to be used once more."""
        with self._lock:
            self._idle.append(connection)

    def warn_of_surplus(self) -> None:
        """Log, once, that the server sends what no request asked for."""
        if not self._warned_of_surplus:
            self._warned_of_surplus = True
            logger.warning(
                "%s sent bytes that no request asked for; a connection on which that happens is "
                "closed",
                self.address,
            )

    def close(self, connection: "Connection") -> None:
        """Close a connection that cannot be used once more."""
        connection.close()
        with self._lock:
            self._open -= 1

    def _take(self, fresh: bool, in_row: bool) -> tuple["Connection", bool]:
        """Take a connection, a used one if there is one that is clean and it may be used."""
        while True:
            with self._lock:
                if fresh or not self._idle:
                    self._open += 1
                    break
                connection = self._idle.pop()
            if connection.is_clean(in_row):
                return connection, True
            if connection.has_surplus:
                self.warn_of_surplus()
            self.close(connection)
        return self._make(), False

    def _prepare(self) -> None:
        """Make a connection for whoever needs one."""
        self.keep(self._make())

    def _make(self) -> "Connection":
        """Make a connection that was counted already."""
        began = time.monotonic()
        try:
            connection = Connection(self._connected(), self._stall, self._bandwidth)
        except BaseException:
            with self._lock:
                self._open -= 1
            raise
        self._opening = time.monotonic() - began
        return connection

    def _connected(self) -> Link:
        """Connect, through a proxy if there is one for this server."""
        proxy = self._proxy
        near: Proxy | Wire = proxy or self
        is_near_tls = proxy.is_encrypted if proxy else self._tls
        context = self._trust() if self._tls or is_near_tls else None
        name = f"the proxy {proxy.address}" if proxy else self.address
        with self._explaining(name):
            link = socket.create_connection((near.host, near.port), timeout=self._connect)
        try:
            with self._explaining(name):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context and is_near_tls:
                    link = context.wrap_socket(link, server_hostname=near.host)
                if proxy and self._tls:
                    open_tunnel(link, proxy, self.host, self.port, self._connect)
            secure: Link = link
            if context and proxy and self._tls:
                with self._explaining(self.address):
                    secure = secured(link, context, self.host)
            self._look_up(secure, min(TICK, self._stall))
        except BaseException:
            link.close()
            raise
        return secure

    @contextmanager
    def _explaining(self, name: str) -> Iterator[None]:
        """Raise a fault that says why the server or proxy of that name cannot be reached."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            words = (
                f"{name} is not trusted: {error.verify_message}; if it is yours, name in "
                "AWS_CA_BUNDLE a file of the certificates that vouch for it"
            )
            raise Fault(Kind.FINAL, words) from error
        except OSError as error:
            if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
                words = f"{name} does not speak TLS; write http:// if it is meant so"
                raise Fault(Kind.FINAL, words) from error
            is_final = not self._awaits_server and _is_absent(error)
            words = f"no answer from {name}: {reason_of(error)}"
            raise Fault(Kind.FINAL if is_final else Kind.PASSING, words) from error

    def _look_up(self, link: Link, seconds: float) -> None:
        """Let no step of a connection take longer than that.

        Where the kernel can do so, it does: Python would ask `poll` before each step.
        """
        if isinstance(link, ssl.SSLSocket | NestedTls):
            link.settimeout(seconds)
            return
        link.settimeout(None)
        whole = int(seconds)
        moment = struct.pack("@ll", whole, int((seconds - whole) * 1e6) or int(not whole))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, moment)

    def _trust(self) -> ssl.SSLContext:
        """Load, once, the authorities that are trusted: the machine's, or `AWS_CA_BUNDLE`."""
        with self._lock:
            if self._context is None:
                bundle = os.environ.get("AWS_CA_BUNDLE") or None
                try:
                    self._context = ssl.create_default_context(cafile=bundle)
                except OSError as error:
                    words = f"AWS_CA_BUNDLE is {bundle!r}, which cannot be used: {reason_of(error)}"
                    raise Fault(Kind.FINAL, words) from error
            return self._context


@dataclass(slots=True)
class Exchange:
    """A request that was sent, and whose reply is awaited."""

    _wire: Wire
    _connection: "Connection"
    _used: bool
    _head: bytes
    _body: Body
    _method: str
    _halt: threading.Event | None

    def reply(self, limit: int = MOST_READ) -> Reply:
        """Read the reply; raises as `Wire.exchange` does.

        Parameters
        ----------
        limit : int
            Bytes of its body that are read at most.
        """
        connection = self._connection
        reply: Reply | None = None
        try:
            reply = connection.receive(self._method, self._halt, limit)
        except Unanswered as error:
            self._wire.close(connection)
            if not self._used:
                raise error.fault from error
        except BaseException:
            self._wire.close(connection)
            raise
        if reply is None:  # the server had closed an idle connection: once more, over a new one
            request = self._head, self._body, self._method, self._halt
            return self._wire.begin(*request, fresh=True).reply(limit)
        if connection.has_surplus:
            self._wire.warn_of_surplus()
        if connection.stays:
            self._wire.keep(connection)
        else:
            self._wire.close(connection)
        return reply

    def drop(self) -> None:
        """Await no reply any more."""
        self._wire.close(self._connection)


def _close(connections: "list[Connection]") -> None:
    """Close what was kept open."""
    for connection in connections:
        connection.close()


def _is_absent(error: Exception) -> bool:
    """Return whether no server listens there, or no host has that name."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ConnectionRefusedError)
