"""An HTTP server that repeats each request in its answer, as a proxy that debugs does."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import quote


class EchoServer:
    """Answers every request with the request itself; a context manager.

    Parameters
    ----------
    status : int
        The status of every answer.
    kind : str
        `text`, `html`, `json` (as an object with a list of errors, as slurmrestd has it) or `xml`
        (as a refusal of S3).
    changes_only : bool
        Whether a question (GET) gets the answer of a cluster without jobs instead.
    """

    def __init__(self, status: int = 502, kind: str = "text", changes_only: bool = False) -> None:
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _echo(self) -> None:
                """Answer one request."""
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode("latin-1")
                request = f"{self.requestline}\n{self.headers}{body}"
                server.requests.append(request)
                content, data = _ANSWERS[kind](request)
                is_question = changes_only and self.command == "GET"
                if is_question:
                    content, data = "application/json", b'{"jobs": [], "pings": [], "errors": []}'
                self.send_response(200 if is_question else status)
                self.send_header("Content-Type", content)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _echo

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _flat(request: str) -> str:
    """Put what matters of a request first, since answers are cut."""
    lines = request.splitlines()
    lines.sort(key=lambda line: not re.search("token|authorization", line, re.IGNORECASE))
    return " ".join(lines)


def _text(request: str) -> tuple[str, bytes]:
    return "text/plain", _flat(request).encode()


def _html(request: str) -> tuple[str, bytes]:
    words = _flat(request).replace("&", "&amp;").replace("<", "&lt;")
    return "text/html", f"<html><body>{words} {quote(words)}</body></html>".encode()


def _json(request: str) -> tuple[str, bytes]:
    encoded = base64.b64encode(request.encode()).decode()
    texts = (_flat(request), quote(_flat(request), safe=""), encoded)
    errors = [{"error": "echo", "description": text, "error_number": 9001} for text in texts]
    return "application/json", json.dumps({"errors": errors, "echo": {"of": [request]}}).encode()


def _xml(request: str) -> tuple[str, bytes]:
    words = _flat(request).replace("&", "&amp;").replace("<", "&lt;")
    answer = f"<Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
    return "application/xml", answer.encode()


_ANSWERS = {"text": _text, "html": _html, "json": _json, "xml": _xml}
