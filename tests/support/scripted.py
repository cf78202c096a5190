"""A server that answers as it is told: for faults that no real one produces on demand."""

import contextlib
import socket
import threading

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Write a reply."""
    lines = "".join(f"{header}\r\n" for header in headers)
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


def refusal(status: int, code: str, *headers: str) -> bytes:
    """Write a refusal as S3 does."""
    return reply(status, f"<Error><Code>{code}</Code></Error>".encode(), *headers)


class Scripted:
    """Answers each request with the next reply; None stays silent.

    A reply that ends a connection is given as a tuple of it alone; a function is called with the
    connection, and sends what it likes. Where requests come over several
    connections at once, replies are given as a function of the request's first line.
    """

    def __init__(self, replies):
        if not callable(replies):
            waiting = iter(replies)
            replies = lambda line: next(waiting, OK)  # noqa: E731
        self._reply = replies
        self.requests: list[bytes] = []
        self.connections = 0
        """How many were taken."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.ended = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self.ended.set()
        self._listener.close()

    def _listen(self) -> None:
        """Take connections."""
        while not self.ended.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        """Answer on one connection."""
        with contextlib.suppress(ConnectionError), link, link.makefile("rb") as file:
            while lines := list(iter(lambda: file.readline().rstrip(b"\r\n"), b"")):
                (size,) = [int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")]
                file.read(size)
                self.requests.append(b"\n".join(lines))
                answer = self._reply(lines[0])
                if answer is None:
                    self.ended.wait(30)
                    return
                if callable(answer):
                    answer(link)
                    continue
                link.sendall(answer[0] if isinstance(answer, tuple) else answer)
                if isinstance(answer, tuple):
                    return
