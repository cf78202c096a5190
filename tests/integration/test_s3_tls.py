"""The data transfer job against a real S3 server that speaks TLS, as Amazon's does (SeaweedFS)."""

import contextlib
import io
import os
import socket
import threading
import uuid
from unittest.mock import patch
from urllib.parse import urlsplit

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import DestinationError
from tests.support import seaweedfs
from tests.support.transfer import PREFIX, TransferTestCase

_server = seaweedfs.Shared(tls=True)
setUpModule, tearDownModule = _server.begin, _server.end


class TestOverTls(TransferTestCase):
    """Everything that is said is encrypted, and the server proves who it is."""

    destination = "s3://"

    def setUp(self):
        """Make a bucket, and a session."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.write("large.bin", os.urandom(20 * 1024**2 + 1))
        for number in range(200):
            self.write(f"many/{number:03}.bin", os.urandom(number * 500))

    def assert_whole(self):
        """Compare what the server has with the source."""
        stored = self.stored()
        self.assertEqual(set(self.manifest()), set(stored))
        for path in self.source.rglob("*.bin"):
            name = f"behavior/{path.relative_to(self.source)}"
            self.assertEqual(stored[name], path.read_bytes(), name)

    def test_every_file_arrives_and_is_proven(self):
        self.run_job()
        self.assertNotIn("tried again", " ".join(self.told.warnings()))
        self.assert_whole()
        with contextlib.redirect_stdout(io.StringIO()) as told:
            code = main.main(["verify", "--deep", f"s3://{self.bucket}/{PREFIX}"])
        self.assertEqual(code, 0)
        self.assertIn("204 files", told.getvalue())

    def test_a_server_that_nobody_vouches_for_gets_nothing(self):
        with patch.dict(os.environ):
            del os.environ["AWS_CA_BUNDLE"]
            with self.assertRaisesRegex(DestinationError, "is not trusted.*AWS_CA_BUNDLE"):
                self.run_job()
        self.assertEqual(self.stored(), {})

    def test_an_address_that_takes_tls_for_plain_or_plain_for_tls_is_told(self):
        """The server's first port speaks plain HTTP, that of S3 does not."""
        (plain,) = (word[13:] for word in _server.process.args if word.startswith("-master.port="))
        for address, words in (
            (f"https://127.0.0.1:{plain}", "does not speak TLS; write http://"),
            (_server.endpoint_url.replace("https", "http"), "400: Client sent an HTTP request to"),
        ):
            self.endpoint_url = address
            with self.assertRaisesRegex(DestinationError, words) as caught:
                self.run_job()
            self.assertNotIn("tried again", " ".join(self.told.warnings()))
            self.assertNotIn("given up", str(caught.exception))

    def test_bytes_that_are_changed_on_their_way_are_seen_at_once(self):
        with Flipping(_server.endpoint_url) as line:
            self.endpoint_url = line.endpoint_url
            self.run_job(self.settings(upload_retry_seconds=30))
            self.assertEqual(line.flipped, line.most)
        self.endpoint_url = _server.endpoint_url
        self.assert_whole()


class Flipping:
    """A line that changes a bit after every few million bytes; it knows nothing of TLS."""

    every, most = 2_000_000, 5

    def __init__(self, server: str):
        parts = urlsplit(server)
        self._address = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint_url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._left = self.every
        self.flipped = 0
        """How many bits were changed."""

    def __enter__(self) -> "Flipping":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        """Take connections."""
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._address)
            for ends in ((link, server), (server, link)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        """Pass on what comes, until an end is gone."""
        try:
            while piece := source.recv(1 << 16):
                target.sendall(self._changed(piece))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close(), target.close()

    def _changed(self, piece: bytes) -> bytes:
        """Change a bit where it is time."""
        with self._lock:
            self._left -= len(piece)
            if self._left > 0 or self.flipped == self.most:
                return piece
            self._left = self.every
            self.flipped += 1
        middle = len(piece) // 2
        return piece[:middle] + bytes([piece[middle] ^ 1]) + piece[middle + 1 :]
