"""A server on loopback that talks as a test wants it, byte for byte."""

import socket
import threading
from collections.abc import Callable
from typing import BinaryIO, Self

Talk = Callable[[BinaryIO, "RawServer"], None]


class RawServer:
    """Takes every connection, and talks.

    Parameters
    ----------
    talk : Callable
        What is done with a connection.
    """

    def __init__(self, talk: Talk):
        self._talk = talk
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def trickle(self, stream: BinaryIO) -> None:
        """Send a byte now and then, without end."""
        while not self._over.wait(0.02):
            stream.write(b"x")

    def flood(self, stream: BinaryIO) -> None:
        """Send as much as is taken, without end."""
        block = b" " * 2**20
        while not self._over.is_set():
            stream.write(block)

    def _listen(self) -> None:
        """Take connections until the end."""
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Talk with one."""
        with connection, connection.makefile("rwb", buffering=0) as stream:
            try:
                self._talk(stream, self)
            except OSError:  # the other side has gone
                return
