"""The service below a path prefix of a proxy, and redirects that hold behind any proxy."""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RootPath:
    """Serves the application below a path prefix.

    The prefix may be part of the request's path, or a proxy may have removed it. Redirects are made
    relative to the host: which scheme, name and port the browser used, only the proxy knows.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        """Stand around `app`, whose pages are below `root_path`."""
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the path of a request, and the address that a redirect leads to."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if root := self.root_path:
            path = scope["path"]
            is_below = path == root or path.startswith(f"{root}/")
            scope = {**scope, "root_path": root, "path": path if is_below else root + path}

        async def adapt(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                headers = MutableHeaders(scope=message)
                if location := headers.get("location"):
                    headers["location"] = _without_host(location)
            await send(message)

        await self.app(scope, receive, adapt)


def _without_host(address: str) -> str:
    """Return the path and query of an address; no path begins with `//`, which names a host."""
    parts = urlsplit(address)
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path
