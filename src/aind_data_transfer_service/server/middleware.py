"""What stands between the network and the application: headers, origins, sizes.

Each guard is an ASGI middleware of its own; streams pass through them unbuffered.
"""

import logging
import re

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.server.connection_limits import RETRY_SECONDS
from aind_data_transfer_service.server.exception_handlers import refusal
from aind_data_transfer_service.server.trusted_hosts import ServedHosts

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REQUEST_BYTES = 64 * 1024**2
"""For the JSON of a request: the jobs of the largest spreadsheet need less than half of it."""
BODIES_BYTES = 256 * 1024**2
"""For the JSON of all requests that are being read or answered."""
SMALL_BYTES = 64 * 1024
"""A body of a request up to this size is always read."""
EVENTS_BYTES = 1024**2
"""How much a job may tell of itself at once."""
FORM_OVERHEAD = 64 * 1024
"""What a form may hold around its file."""
DRAINED_BYTES = 512 * 1024**2
"""How much of a body that is too large is still taken off the wire, so that its sender, who listens
only when all is sent, gets to read why it was refused."""


_EVENTS = re.compile(r"/api/jobs/[^/]+/(?:events|log)$")


class SecurityHeaders:
    """Adds to every answer the headers that keep browsers from doing what pages here never need."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand around `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and dress its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dress(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, dress)


class HostGuard:
    """Refuses requests for a host that is not this service, as pages that rebind names send."""

    logged_names = 100
    """Refusals that are logged; further ones would fill the log at the will of a stranger."""

    def __init__(self, app: ASGIApp, hosts: ServedHosts) -> None:
        """Stand around `app`, which has these names."""
        self.app = app
        self.hosts = hosts
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through if it is for this service."""
        if scope["type"] == "http":
            version = scope.get("http_version", "1.1")
            if problem := self.hosts.problem(Headers(scope=scope), version):
                if problem not in self._logged and len(self._logged) < self.logged_names:
                    self._logged.add(problem)
                    logger.warning("a request was refused: %s", problem)
                response = refusal(Request(scope), 400, "Bad Request", [problem])
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class CrossSiteGuard:
    """Refuses requests that would change something and were sent by the page of another site."""

    def __init__(self, app: ASGIApp, hosts: ServedHosts) -> None:
        """Stand around `app`, which has these names."""
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through unless another site sent it."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            if problem := self.hosts.cross_site_problem(Headers(scope=scope)):
                response = refusal(Request(scope), 403, "Forbidden", [problem])
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too large, alone or together, while they are read.

    Parameters
    ----------
    app : ASGIApp
        What is guarded.
    file_bytes : int
        For a file.
    request_bytes : int
        For any other body.
    bodies_bytes : int
        For all bodies but files, which are on disk.
    """

    def __init__(
        self,
        app: ASGIApp,
        file_bytes: int,
        request_bytes: int = REQUEST_BYTES,
        bodies_bytes: int = BODIES_BYTES,
    ) -> None:
        self.app = app
        self.file_bytes = file_bytes
        self.request_bytes = request_bytes
        self.bodies_bytes = bodies_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, counting what its body brings."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        path = Request(scope).url.path
        is_file = path.endswith("/api/validate_csv")
        allowed = self.file_bytes if is_file else self.request_bytes
        if _EVENTS.search(path):
            allowed = EVENTS_BYTES
        limit = allowed + FORM_OVERHEAD if is_file else allowed
        seen = held = 0

        async def count() -> Message:
            nonlocal seen, held
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                await _drain(receive, message, seen)
                what = "file" if is_file else "request"
                raise HTTPException(413, f"The {what} is larger than {_mebibytes(allowed)} MiB.")
            if not is_file and seen > SMALL_BYTES:
                self._held += seen - held
                held = seen
                if self._held > self.bodies_bytes:
                    await _drain(receive, message, seen)
                    raise HTTPException(503, _BUSY, {"Retry-After": str(RETRY_SECONDS)})
            return message

        try:
            await self.app(scope, count, send)
        finally:
            self._held -= held


_BUSY = "The service is reading too many large requests. Try again shortly."


async def _drain(receive: Receive, message: Message, seen: int) -> None:
    """Take the rest of a refused body off the wire: most senders listen only when all is sent."""
    while message.get("more_body") and seen <= DRAINED_BYTES:
        message = await receive()
        seen += len(message.get("body", b""))


def _mebibytes(count: int) -> str:
    """Write a limit as its setting is most likely written."""
    return f"{count / 1024**2:.4g}"
