"""A web address on loopback that keeps what is posted to it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Hook:
    """Takes what is posted, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        """Status codes to answer with, one after the other; 200 after them."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Answers POST."""

            def do_POST(self) -> None:
                """Keep the body."""
                data = self.rfile.read(int(self.headers["Content-Length"]))
                outer.raw.append(data)
                outer.bodies.append(json.loads(data))
                outer.headers.append(dict(self.headers.items()))
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens; the path is as secret as a real one."""
        return f"http://127.0.0.1:{self._server.server_port}/services/T0/s3cr3t"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
