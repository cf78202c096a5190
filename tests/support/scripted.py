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
    connection, and sends what it likes. Where requests come over several connections at once,
    replies are given as a function of the request's first line, or with `by_head` of its whole
    head. With a context in `tls`, it speaks TLS.
    """

    def __init__(self, replies, by_head=False, tls=None):
        if not callable(replies):
            waiting = iter(replies)
            replies = lambda line: next(waiting, OK)  # noqa: E731
        self._reply, self._by_head, self._tls = replies, by_head, tls
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        """What came with each of them."""
        self.connections = 0
        """How many were taken."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
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
        if self._tls:
            try:
                link = self._tls.wrap_socket(link, server_side=True)
            except OSError:  # a client that does not trust it, or speaks no TLS
                link.close()
                return
        with contextlib.suppress(ConnectionError), link, link.makefile("rb") as file:
            while lines := list(iter(lambda: file.readline().rstrip(b"\r\n"), b"")):
                sizes = [x for x in lines if x.lower().startswith(b"content-length:")]
                self.bodies.append(file.read(int(sizes[0].split(b":")[1]) if sizes else 0))
                head = b"\n".join(lines)
                self.requests.append(head)
                answer = self._reply(head if self._by_head else lines[0])
                if answer is None:
                    self.ended.wait(30)
                    return
                if callable(answer):
                    answer(link)
                    continue
                link.sendall(answer[0] if isinstance(answer, tuple) else answer)
                if isinstance(answer, tuple):
                    return
