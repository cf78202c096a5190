"""A server that answers as it is told: well, badly, or not at all; with a real one behind it."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit


class Fault(Enum):
    """How an exchange can go wrong."""

    CLOSE = "the connection is closed without an answer"
    RESET = "the connection is reset without an answer"
    HANG = "no answer ever comes"
    CUT = "the answer is cut off in the middle"


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    body: Any = field(default_factory=lambda: {"jobs": [], "errors": []})
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    passes_on: bool = False
    """Whether the real server does what it is asked before this is answered in its place."""

    def encoded(self) -> bytes:
        """Put it on the wire."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What it carried."""
        return json.loads(self.body)


class FaultyServer:
    """An HTTP server for the tests' own event loop; an asynchronous context manager.

    Parameters
    ----------
    *answers
        What is answered, one a request; the last one again and again. None passes the request on.
    upstream : str
        A real server that requests are passed on to, before a fault too: it does what it is asked,
        and only the answer is lost.
    choose : Callable, optional
        Gives the answer to a request, in place of `answers`.
    """

    def __init__(
        self,
        *answers: Reply | Fault | None,
        upstream: str = "",
        choose: Callable[[Seen], Reply | Fault | None] | None = None,
    ) -> None:
        self.answers: list[Reply | Fault | None] = list(answers)
        self.seen: list[Seen] = []
        self._choose = choose or (lambda _: self._next())
        self._upstream = urlsplit(upstream)
        self._server: asyncio.Server | None = None
        self._held: list[asyncio.StreamWriter] = []
        self._over = asyncio.Event()

    async def __aenter__(self) -> "FaultyServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:%d" % self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()
        for writer in self._held:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._held.append(writer)
        try:
            while request := await self._read(reader):
                head, seen = request
                self.seen.append(seen)
                answer = self._choose(seen)
                passed = b""
                is_passed_on = not isinstance(answer, Reply) or answer.passes_on
                if self._upstream.hostname and is_passed_on:
                    passed = await self._pass_on(head, seen)
                if not await self._answer(writer, answer, passed):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()

    def _next(self) -> Reply | Fault | None:
        """Take the next answer; the last one again and again."""
        return self.answers[0] if len(self.answers) < 2 else self.answers.pop(0)

    async def _answer(
        self, writer: asyncio.StreamWriter, answer: Reply | Fault | None, passed: bytes
    ) -> bool:
        """Answer, and tell whether the connection goes on."""
        if answer is Fault.HANG:
            await self._over.wait()
            return False
        if answer is Fault.RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        if answer is Fault.CLOSE:
            writer.close()
            return False
        wire = answer.encoded() if isinstance(answer, Reply) else passed
        if answer is Fault.CUT:
            writer.write((wire or Reply(body={"jobs": []}).encoded())[:-3])
            await writer.drain()
            writer.close()
            return False
        writer.write(wire)
        await writer.drain()
        if not isinstance(answer, Reply):
            writer.close()
        return isinstance(answer, Reply)

    async def _pass_on(self, head: bytes, seen: Seen) -> bytes:
        """Ask the real server, and give its answer as it came."""
        reader, writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection")]
        writer.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + seen.body)
        await writer.drain()
        start = await reader.readuntil(b"\r\n\r\n")
        length = int(_headers(start).get("content-length", 0))
        answer = start + await reader.readexactly(length)
        writer.close()
        return answer

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[bytes, Seen] | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        headers = _headers(head)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return head, Seen(method, path, headers, body)


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
