"""A forward proxy that opens tunnels: all of them to one server, whatever name is asked for."""

import contextlib
import socket
import threading


class ForwardProxy:
    """Answers CONNECT. A context manager.

    Parameters
    ----------
    port : int
        Of the server on loopback to which tunnels lead.
    tls : ssl.SSLContext | None
        What it shows its clients, if they speak TLS to it.
    answers : iterable of bytes
        What the first requests for a tunnel are answered; the others are granted.
    """

    def __init__(self, port, tls=None, answers=()):
        self._target, self._tls, self._answers = port, tls, iter(answers)
        self.heads: list[bytes] = []
        """What was asked for."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _listen(self):
        """Take connections."""
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        """Answer one request, and pass on what follows."""
        with contextlib.suppress(OSError), link:
            if self._tls:
                link = self._tls.wrap_socket(link, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                data = link.recv(1 << 16)
                if not data:
                    return
                head += data
            self.heads.append(head)
            answer = next(self._answers, None)
            if answer is not None:
                link.sendall(answer)
                return
            with link, socket.create_connection(("127.0.0.1", self._target)) as server:
                link.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=_pass_on, args=(server, link), daemon=True).start()
                _pass_on(link, server)


def _pass_on(source, target):
    """Pass on bytes until an end is gone."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
