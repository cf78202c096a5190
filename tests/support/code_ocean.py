"""A Code Ocean on loopback: the routes that the `codeocean` package asks, with a state of its own.

It refuses what the real one refuses: a wrong token (HTTP basic, the token as the name), a capsule
that is not there, a computation on a data asset that is not ready.
"""

import base64
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "cop_s3cr3t"
CAPSULE = "1f8f159a-7670-47a9-baf1-078905fc9c2e"
PIPELINE = "9f0c2d7e-0d4e-4b8e-9a53-6e1f5b0a7c11"


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


class CodeOceanStub:
    """Keeps data assets and computations.

    Attributes
    ----------
    faults : list
        What goes wrong with the next requests whose `METHOD path` a pattern finds: a status, or the
        name of a fault (`slow`, `half`, `html`, `odd`, `lost`, `elsewhere`).
    is_ready_at_once : bool
        Whether a new data asset is ready at once.
    """

    def __init__(self) -> None:
        self.faults: list[tuple[str, int | str, dict[str, str]]] = []
        self.is_ready_at_once = True
        self.assets: dict[str, dict[str, Any]] = {}
        self.computations: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            """Answers."""

            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # an answer in one piece

            def do_GET(self) -> None:
                """Answer a question."""
                stub.answer(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What has to be set, so that it is asked."""
        return {"CODEOCEAN_DOMAIN": self.url, "CODEOCEAN_TOKEN": TOKEN}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, pattern: str, fault: int | str, times: int = 1, **headers: str) -> None:
        """Have the next requests of a kind go wrong."""
        self.faults += [(pattern, fault, headers)] * times

    def end(self, state: str = "completed", end_status: str = "succeeded", exit_code: int = 0):
        """Let all computations come to an end."""
        for one in self.computations.values():
            one.update(state=state, end_status=end_status, exit_code=exit_code)

    def make_ready(self) -> None:
        """Let all data assets be taken in."""
        for one in self.assets.values():
            one["state"] = "ready"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request, or do it some harm."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.partition("?")[0]
        what = f"{request.command} {path}"
        with self._lock:
            self.asked.append(what)
            fault, headers = self._fault(what)
            if fault is None or fault == "lost":
                status, document = self._handle(request, what, json.loads(body or "{}"))
            else:
                status, document = (fault if isinstance(fault, int) else 200), {
                    "message": f"trouble for {TOKEN}\nin two lines"
                }
        data = json.dumps(document).encode()
        if fault == "lost":  # done, and nobody hears of it
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "elsewhere":
            status, headers = 302, {"Location": f"{self.url}/login"}
        if fault in ("html", "odd"):
            data = b"<html>log in</html>" if fault == "html" else b'["of no use"]'
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        extra = 1000 if fault in ("half", "slow") else 0
        request.send_header("Content-Length", str(len(data) + extra))
        request.end_headers()
        request.wfile.write(data)
        if fault == "half":
            request.close_connection = True
        while fault == "slow" and not self._over.wait(0.05):
            try:
                request.wfile.write(b" ")
                request.wfile.flush()
            except OSError:
                return

    def _fault(self, what: str) -> tuple[int | str | None, dict[str, str]]:
        """Take the next fault of a request, where there is one."""
        for place, (pattern, fault, headers) in enumerate(self.faults):
            if re.search(pattern, what):
                del self.faults[place]
                return fault, headers
        return None, {}

    def _handle(self, request: Any, what: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Do what is asked."""
        expected = "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode()
        if request.headers.get("Authorization") != expected:
            return 401, {"message": "unauthorized"}
        for pattern, act in self._routes:
            if found := re.fullmatch(pattern, what):
                return act(self, body, *found.groups())
        return 404, {"message": "not found"}

    def _search(self, body: dict[str, Any]) -> tuple[int, Any]:
        words = re.findall(r'name:"([^"]*)"', body.get("query") or "")
        found = [a for a in self.assets.values() if all(w.lower() in a["name"] for w in words)]
        start = int(body.get("next_token") or 0)
        page = found[start : start + 2]  # small pages, so that there are several
        more = start + 2 < len(found)
        answer = {"has_more": more, "results": page}
        return 200, answer | ({"next_token": str(start + 2)} if more else {})

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        source = body["source"]["aws"]
        asset = {
            "id": str(uuid.uuid4()),
            "created": int(time.time()),
            "name": body["name"],
            "mount": body["mount"],
            "tags": body["tags"],
            "last_used": 0,
            "owner": "o",
            "state": "ready" if self.is_ready_at_once else "draft",
            "type": "dataset",
            "source_bucket": {
                "origin": "aws",
                "bucket": source["bucket"],
                "prefix": source["prefix"],
                "external": source["keep_on_external_storage"],
            },
        }
        self.assets[asset["id"]] = asset
        return 200, asset

    def _asset(self, body: dict[str, Any], asset_id: str) -> tuple[int, Any]:
        found = self.assets.get(asset_id)
        return (200, found) if found else (404, {"message": "not found"})

    def _thing(self, body: dict[str, Any], kind: str, thing_id: str) -> tuple[int, Any]:
        if thing_id != {"capsules": CAPSULE, "pipelines": PIPELINE}[kind]:
            return 404, {"message": "not found"}
        return 200, {
            "id": thing_id,
            "created": 1,
            "name": "Sort spikes",
            "status": "non_release",
            "owner": "o",
            "slug": "8624294",
            "last_accessed": 1,
        }

    def _listed(self, body: dict[str, Any], kind: str, thing_id: str) -> tuple[int, Any]:
        return 200, [c for c in self.computations.values() if c["of"] == thing_id]

    def _run(self, body: dict[str, Any]) -> tuple[int, Any]:
        attached = body["data_assets"]
        if any(self.assets[one["id"]]["state"] != "ready" for one in attached):
            return 400, {"message": "a data asset is not ready"}
        self.runs.append(body)
        computation = {
            "id": str(uuid.uuid4()),
            "of": body.get("capsule_id") or body.get("pipeline_id"),
            "created": int(time.time()),
            "name": "Run",
            "owner": "o",
            "run_time": 0,
            "state": "initializing",
            "data_assets": attached,
        }
        self.computations[computation["id"]] = computation
        return 200, computation

    def _computation(self, body: dict[str, Any], computation_id: str) -> tuple[int, Any]:
        found = self.computations.get(computation_id)
        return (200, found) if found else (404, {"message": "not found"})

    _routes: tuple[tuple[str, Callable[..., tuple[int, Any]]], ...] = (
        (r"POST /api/v1/data_assets/search", _search),
        (r"POST /api/v1/data_assets", _create),
        (r"GET /api/v1/data_assets/([^/]+)", _asset),
        (r"GET /api/v1/(capsules|pipelines)/([^/]+)", _thing),
        (r"GET /api/v1/(capsules|pipelines)/([^/]+)/computations", _listed),
        (r"POST /api/v1/computations", _run),
        (r"GET /api/v1/computations/([^/]+)", _computation),
    )
