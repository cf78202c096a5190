"""HTTPS servers on loopback, in the test's own process, with a certificate authority of their own.

A server answers as the system does that it stands for, unless it was told otherwise for its next
requests: refusing, throttling, late, cut in the middle, or not at all.
"""

import json
import ssl
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import trustme


class Fault(Enum):
    """How an exchange can go wrong."""

    CLOSE = "the connection is closed without an answer"
    HANG = "no answer ever comes"
    CUT = "the answer is cut off in the middle"
    TRICKLE = "the answer comes a byte at a time, without end"


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        """Write the body as it goes over the wire."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    """Decoded, and without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str
    """Path and query as they came."""

    @property
    def json(self) -> Any:
        """What it carried."""
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        """What a form carried."""
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


@cache
def authority() -> trustme.CA:
    """Make the tests' certificate authority, once."""
    return trustme.CA()


@cache
def ca_file() -> Path:
    """Give the file of the certificate to trust; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="test-ca-")
    _KEPT.append(folder)
    path = Path(folder.name) / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return path


def server_context(*names: str) -> ssl.SSLContext:
    """Make what a server on loopback shows its clients; it may have further names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1", *names).configure_cert(context)
    return context


_KEPT: list[tempfile.TemporaryDirectory] = []


class _Server(ThreadingHTTPServer):
    """Serves TLS; the handshake is the connection's own thread's."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext):
        super().__init__(("127.0.0.1", 0), handler)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, and serve."""
        with self._context.wrap_socket(request, server_side=True) as secure:
            self.RequestHandlerClass(secure, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class HttpsServer:
    """A server for `with`; what it answers, a subclass says."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self._next: list[tuple[str, Reply | Fault]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(_handler(self), server_context())
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def next(self, path_part: str, *answers: Reply | Fault) -> None:
        """Have the next requests to such a path answered so, one each."""
        self._next += [(path_part, answer) for answer in answers]

    def asked(self, path_part: str) -> list[Request]:
        """Give the requests to such a path."""
        return [request for request in self.seen if path_part in request.path]

    def answer(self, request: Request) -> Reply:
        """Answer as the system does."""
        raise NotImplementedError

    def respond(self, request: Request) -> Reply | Fault:
        """Answer as was told, or as the system does."""
        with self._lock:
            self.seen.append(request)
            for place, (path_part, told) in enumerate(self._next):
                if path_part in request.path:
                    del self._next[place]
                    return told
        return self.answer(request)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server is over, or so long."""
        return self._over.wait(seconds)


def _handler(server: HttpsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Passes requests on, and answers over the wire."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written apart

        def handle_any(self) -> None:
            """Take a request of any method."""
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            request = Request(
                self.command,
                unquote(parts.path),
                {key: values[0] for key, values in query.items()},
                {key.lower(): value for key, value in self.headers.items()},
                self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                self.path,
            )
            self.give(server.respond(request))

        do_GET = do_POST = handle_any

        def give(self, reply: Reply | Fault) -> None:
            """Write an answer, or fail as told."""
            if isinstance(reply, Fault):
                self.close_connection = True
                if reply is Fault.HANG:
                    server.wait()
                elif reply is Fault.CUT:
                    self.begin(200, "application/json", {}, 1000)
                    self.wfile.write(b'{"value": [{"id": ')
                elif reply is Fault.TRICKLE:
                    self.begin(200, "application/json", {}, 10**6)
                    while not server.wait(0.01):
                        self.wfile.write(b" ")
                return
            data = reply.encoded()
            self.begin(reply.status, reply.content_type, reply.headers, len(data))
            self.wfile.write(data)

        def begin(
            self, status: int, content_type: str, headers: Mapping[str, str], length: int
        ) -> None:
            """Write what stands before the body."""
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(length))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
