"""The service in a process of its own, with few open files, and clients that want all of them."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import httpx

from aind_data_transfer_service.server.connection_limits import MOST_CONNECTIONS
from tests.support import wait_until

FILES = 1024
SECONDS = 60
"""How long an answer may take on a busy machine."""
STREAM = b"GET /api/jobs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"


class FewFilesTest(unittest.TestCase):
    """`ulimit -Hn 1024`, as on many machines, and a soft limit below that."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start the service as an administrator would."""
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="service-"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            cls.port = listener.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
        command += ["--port", str(cls.port), "--log-level", "warning"]
        environment = os.environ | {"DATA_DIR": folder, "LAB_TIMEZONE": "America/Los_Angeles"}
        limit = f"ulimit -Sn {FILES // 2} && ulimit -Hn {FILES} && exec "
        cls.process = subprocess.Popen(
            ["sh", "-c", limit + '"$@"', "sh", *command], env=environment
        )
        cls.addClassCleanup(cls.process.wait, 30)
        cls.addClassCleanup(cls.process.terminate)
        wait_until(cls.answers, SECONDS, "the service")

    @classmethod
    def answers(cls) -> bool:
        """Return whether the service answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{cls.port}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def test_the_soft_limit_is_raised_to_the_hard_one(self) -> None:
        limits = Path(f"/proc/{self.process.pid}/limits").read_text()
        [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
        self.assertEqual([str(FILES)] * 2, line.split()[3:5])

    def test_silent_connections_and_streams_lock_nobody_out(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < MOST_CONNECTIONS:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * MOST_CONNECTIONS), hard))
        with contextlib.ExitStack() as stack:
            streams = [self.connect(stack) for _ in range(500)]
            for stream in streams:
                stream.sendall(STREAM)
            for stream in streams:
                self.assertIn(b" 200 ", self.head(stream))
            for _ in range(FILES + 76):
                self.connect(stack)
            for path in ("/", "/jobs", "/readyz", "/api/jobs"):
                answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS)
                self.assertEqual(200, answer.status_code, path)
            self.assertIsNone(self.process.poll())
            # Each closes a silent one; beyond those, they would close each other.
            more = [self.connect(stack) for _ in range(200)]
            for stream in more:
                stream.sendall(STREAM)
            answers = [self.head(stream) for stream in more]
            refused = [answer for answer in answers if b" 503 " in answer]
            self.assertTrue(refused)
            self.assertIn(b"retry-after", refused[0].lower())
            answer = httpx.get(f"http://127.0.0.1:{self.port}/", timeout=SECONDS)
            self.assertEqual(200, answer.status_code)

    def connect(self, stack: contextlib.ExitStack) -> socket.socket:
        """Connect, and say nothing."""
        return stack.enter_context(socket.create_connection(("127.0.0.1", self.port), SECONDS))

    def head(self, stream: socket.socket) -> bytes:
        """Read the status line and the headers of an answer."""
        read = b""
        while b"\r\n\r\n" not in read and (more := stream.recv(2000)):
            read += more
        return read
