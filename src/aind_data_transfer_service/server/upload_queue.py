"""Admission of spreadsheets: how many uploads the service holds in memory at once.

An upload that would exceed the limits waits before its body is read, so that it costs no memory.
When too many wait, or one waits too long, the answer is 503. An upload is counted from before its
body is read until its answer is sent, and both have a deadline.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.server.exception_handlers import RETRY_AFTER
from aind_data_transfer_service.server.responses import failure

logger = logging.getLogger(__name__)

MAX_UPLOADS = 16
"""Uploads that are received, checked or answered at the same time."""

MAX_BYTES = 64 * 1024**2
"""Bytes of these uploads, in total."""

MAX_WAITING = 64
"""Uploads that wait for their turn."""

WAIT_SECONDS = 60.0
"""How long an upload waits for its turn."""

RECEIVE_SECONDS = 120.0
"""How long receiving an upload may take."""

SEND_SECONDS = 120.0
"""How long sending its answer may take."""

DRAIN_SECONDS = 10.0
"""How long a refused upload is still received, and dropped, so that its sender reads the answer."""

_PIECE = 256 * 1024
_PATH = "/api/validate_csv"
_BUSY = "The service is checking as many spreadsheets as it can. Try again in a moment."


class UploadQueue:
    """Lets uploads to the spreadsheet check pass as far as the limits allow.

    Parameters
    ----------
    app : ASGIApp
        The application behind it.
    max_file : int
        The most bytes that one upload may have; also assumed of one that does not say.
    max_uploads : int
        Uploads at the same time.
    max_bytes : int
        Bytes of these uploads, in total.
    max_waiting : int
        Uploads that wait.
    wait_seconds : float
        How long an upload waits.
    receive_seconds : float
        How long receiving an upload may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_file: int,
        max_uploads: int = MAX_UPLOADS,
        max_bytes: int = MAX_BYTES,
        max_waiting: int = MAX_WAITING,
        wait_seconds: float = WAIT_SECONDS,
        receive_seconds: float = RECEIVE_SECONDS,
    ) -> None:
        self.app = app
        self.max_file, self.max_uploads, self.max_bytes = max_file, max_uploads, max_bytes
        self.max_waiting, self.wait_seconds = max_waiting, wait_seconds
        self.receive_seconds = receive_seconds
        self._uploads = self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, unless it is an upload that has to wait or is refused."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _is_upload(scope):
            await self.app(scope, receive, send)
            return
        size = self._size(Headers(scope=scope))
        if not await self._enter(size):
            await _refuse(scope, receive, send, self.max_file)
            return
        try:
            await self.app(scope, self._timed(receive), _in_pieces(send))
        finally:
            self._leave(size)

    def _size(self, headers: Headers) -> int:
        """Return how many bytes to set aside for an upload."""
        text = headers.get("content-length", "")
        return min(int(text), self.max_file) if text.isdecimal() else self.max_file

    def _fits(self, size: int) -> bool:
        """Return whether another upload may begin. The first one always may."""
        if not self._uploads:
            return True
        return self._uploads < self.max_uploads and self._bytes + size <= self.max_bytes

    async def _enter(self, size: int) -> bool:
        """Wait for the turn of an upload; return whether it came."""
        if not self._waiting and self._fits(size):
            self._take(size)
            return True
        if len(self._waiting) >= self.max_waiting:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self.wait_seconds)
        except TimeoutError:
            return turn.done()
        except asyncio.CancelledError:
            if turn.done():
                self._leave(size)
            raise
        finally:
            if not turn.done():
                self._waiting.remove(entry)
        return True

    def _take(self, size: int) -> None:
        """Count an upload in."""
        self._uploads += 1
        self._bytes += size

    def _leave(self, size: int) -> None:
        """Count an upload out, and let those in that wait."""
        self._uploads -= 1
        self._bytes -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self._take(size)
            turn.set_result(None)

    def _timed(self, receive: Receive) -> Receive:
        """Give the body of an upload a deadline."""
        deadline = time.monotonic() + self.receive_seconds
        is_complete = False

        async def receive_in_time() -> Message:
            nonlocal is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                detail = f"The file did not arrive within {self.receive_seconds:g} s."
                raise HTTPException(408, detail) from None
            is_complete = not message.get("more_body", False)
            return message

        return receive_in_time


def _is_upload(scope: Scope) -> bool:
    """Return whether a request brings a spreadsheet."""
    return str(scope["path"]).endswith(_PATH)


def _in_pieces(send: Send) -> Send:
    """Send an answer in pieces, so that a slow reader does not leave all of it in a buffer."""
    deadline = math.inf

    async def send_piece(message: Message) -> None:
        nonlocal deadline
        deadline = min(deadline, time.monotonic() + SEND_SECONDS)
        if time.monotonic() >= deadline:
            return  # given up: the server closes the connection of an answer without an end
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                for piece in _pieces(message):
                    await send(piece)
        except TimeoutError:
            logger.warning("the answer to an upload was not read within %g s", SEND_SECONDS)
            deadline = -math.inf

    return send_piece


def _pieces(message: Message) -> Iterator[Message]:
    """Split the body of a message."""
    body = memoryview(message.get("body", b""))
    while len(body) > _PIECE:
        yield {**message, "body": bytes(body[:_PIECE]), "more_body": True}
        body = body[_PIECE:]
    yield {**message, "body": bytes(body)} if "body" in message else message


async def _refuse(scope: Scope, receive: Receive, send: Send, most: int) -> None:
    """Answer that the service is busy, and drop what the sender still sends meanwhile."""
    answer = failure(503, "Service Unavailable", [_BUSY])
    answer.headers["Retry-After"] = RETRY_AFTER
    seen = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while seen <= most:
                message = await receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        answer.headers["Connection"] = "close"
    await answer(scope, receive, send)
