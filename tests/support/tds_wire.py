"""Packets of Microsoft's Tabular Data Stream, plain or encrypted, as a server has them.

The numbers of sections are those of [MS-TDS], "Tabular Data Stream Protocol".
"""

import select
import socket
import ssl
import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import cache

import trustme

BATCH, RPC, ATTENTION, LOGIN7, PRELOGIN, _ANSWER = 0x01, 0x03, 0x06, 0x10, 0x12, 0x04
"""Types of packets (2.2.3.1.1)."""
PACKET_SIZE = 4096
_END_OF_MESSAGE = 0x01
_HEADER = struct.Struct(">BBHHBB")
_PROCESS = 51


class Encryption(IntEnum):
    """What a server says of encryption in PRELOGIN (2.2.6.5)."""

    LOGIN_ONLY = 0x00
    ALL = 0x03
    NONE = 0x02


class Wire:
    """A connection, and what encrypts it while something does.

    Attributes
    ----------
    trickles : bool
        Send a byte at a time, with pauses, for as long as the client is there.
    """

    def __init__(self, connection: socket.socket):
        self.trickles = False
        self._connection = connection
        self._file = connection.makefile("rb")
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    @property
    def encrypted(self) -> bool:
        """Whether what comes now is encrypted."""
        return self._tls is not None

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Read messages, put together from packets (2.2.3.1), until the client leaves."""
        body = b""
        while header := self._read(_HEADER.size):
            kind, status, length, *_ = _HEADER.unpack(header)
            body += self._read(length - _HEADER.size)
            if status & _END_OF_MESSAGE:
                yield kind, body
                body = b""

    def send(self, message: bytes, whole: bool = True, kind: int = _ANSWER) -> None:
        """Send a message in packets; one that is not whole lacks its end."""
        room = PACKET_SIZE - _HEADER.size
        parts = [message[start : start + room] for start in range(0, len(message), room)]
        for number, part in enumerate(parts, 1):
            last = whole and number == len(parts)
            length = len(part) + _HEADER.size
            self._write(_HEADER.pack(kind, last, length, _PROCESS, number % 256, 0) + part)

    def leave(self, last_words: bytes = b"") -> None:
        """Say something that is no packet, and wait for the client to go."""
        self._connection.sendall(last_words)
        self._file.read()

    def start_tls(self) -> None:
        """Shake hands over TLS, whose records stand in packets meanwhile (3.3.5.2)."""
        tls = _server_context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_handshake()
                _kind, body = next(self.messages())
                self._incoming.write(body)
            else:
                self._send_handshake()
                self._tls = tls
                return

    def stop_tls(self) -> None:
        """Go on unencrypted."""
        self._tls = None

    def _send_handshake(self) -> None:
        """Send what TLS wants to send."""
        if data := self._outgoing.read():
            self.send(data, kind=PRELOGIN)

    def _read(self, length: int) -> bytes:
        """Read bytes; fewer, or none, where the client has gone."""
        if self._tls is None:
            return self._file.read(length)
        data = b""
        while len(data) < length:
            try:
                data += self._tls.read(length - len(data))
            except ssl.SSLWantReadError:  # one record more, and no byte of what follows it
                start = self._file.read(5)
                if len(start) < 5:
                    return b""
                self._incoming.write(start + self._file.read(int.from_bytes(start[3:], "big")))
        return data

    def _write(self, data: bytes) -> None:
        """Send bytes."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        if not self.trickles:
            self._connection.sendall(data)
            return
        for place in range(len(data)):
            self._connection.sendall(data[place : place + 1])
            select.select([self._connection], [], [], 0.05)  # the client may leave meanwhile


@cache
def _server_context() -> ssl.SSLContext:
    """Make what a server needs for TLS: a certificate that nobody knows, as SQL Server's own is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS within TDS 7 knows nothing newer
    trustme.CA().issue_cert("labtracks.example.org").configure_cert(context)
    return context
