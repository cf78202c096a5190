"""What stands between the network and the application: headers, origins, sizes.

Each guard is an ASGI middleware of its own; streams pass through them unbuffered.
"""

import re
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.server.answers import failure

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
REQUEST_BYTES = 96 * 1024**2
"""How large the JSON of a request may be: the largest spreadsheet's jobs fit in easily."""
EVENTS_BYTES = 1024**2
"""How much a job may tell of itself at once."""
FORM_OVERHEAD = 64 * 1024
"""What a form may hold around its file."""
DRAINED_BYTES = 512 * 1024**2
"""How much of a body that is too large is still taken off the wire, so that its sender, who listens
only when all is sent, gets to read why it was refused."""


_EVENTS = re.compile(r"/api/jobs/[^/]+/events$")


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


class CrossSiteGuard:
    """Refuses requests that would change something and were sent by the page of another site.

    A browser names the page's site in such a request; programs other than browsers name none.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand around `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through unless another site sent it."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            if _is_cross_site(Headers(scope=scope)):
                said = (
                    "This request was sent by the page of another site, so it was not carried out."
                )
                await failure(403, "Forbidden", [said])(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too large, while they are read."""

    def __init__(self, app: ASGIApp, file_bytes: int, request_bytes: int = REQUEST_BYTES) -> None:
        """Stand around `app`; files may have `file_bytes`, other bodies `request_bytes`."""
        self.app = app
        self.file_bytes = file_bytes
        self.request_bytes = request_bytes

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
        seen = 0

        async def count() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                while message.get("more_body") and seen <= DRAINED_BYTES:
                    message = await receive()
                    seen += len(message.get("body", b""))
                what = "file" if is_file else "request"
                raise HTTPException(413, f"The {what} is larger than {_mebibytes(allowed)} MiB.")
            return message

        await self.app(scope, count, send)


def _mebibytes(count: int) -> str:
    """Write a limit as its setting is most likely written."""
    return f"{count / 1024**2:.4g}"


def _is_cross_site(headers: Headers) -> bool:
    """Tell whether a browser says that another site's page sent this."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    hosts = (headers.get("host"), headers.get("x-forwarded-host"))
    return urlsplit(origin).netloc not in [host for host in hosts if host]
