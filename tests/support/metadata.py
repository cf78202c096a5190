"""A metadata service on loopback, of either generation, inside the test's own process."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class MetadataServer:
    """Answers what it was told to, and counts what it is asked.

    Parameters
    ----------
    second_generation : bool
        Answer beneath `/api/v2` with the documents themselves, rather than in envelopes.
    """

    def __init__(self, second_generation: bool = False):
        self.second_generation = second_generation
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.logins: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Answers GET."""

            def do_GET(self) -> None:
                """Answer as the server was told to."""
                outer.logins.append(self.headers.get("Authorization"))
                status, body = outer.answer(self.path)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def says(self, path: str, body: Any, status: int = 200) -> Self:
        """Have it give an answer; of several to one question, the last is repeated."""
        self.answers.setdefault(path, []).append((status, body))
        return self

    def answer(self, path: str) -> tuple[int, Any]:
        """Find the answer to a question."""
        self.asked.append(path)
        if self.second_generation:
            if not path.startswith("/api/v2/"):
                return 404, {"detail": "Not Found"}
            path = path.removeprefix("/api/v2")
        told = self.answers.get(path)
        if told is None:
            missing = {"detail": "Not found"}
            return 404, missing if self.second_generation else {"message": "none", "data": None}
        status, body = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(body, bytes) or self.second_generation:
            return status, body
        return status, {"message": "as told", "data": body}
