"""Limits of connections: sockets of hostile and of slow clients against a real server."""

import itertools
import json
import socket
import time
import unittest
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from aind_data_transfer_service.server.connection_limits import (
    HEAD_BYTES,
    HEADER_FIELDS,
    PIPELINED_REQUESTS,
    URL_BYTES,
    ConnectionLimits,
)
from tests.support import slow, wait_until
from tests.support.service import Service

PATIENCE = 10.0
HOST = b"Host: localhost\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
STREAM = b"GET /api/jobs/stream HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /api/submit_basic_jobs HTTP/1.1\r\n" + HOST
ASSET = b"/static-offline-docs/swagger-ui-bundle.js"
"""Larger than what the system buffers, when it is asked for several times."""
MOST_SENT = 8 * 1024**2
"""Enough to show that something has no end."""


class Visitor:
    """A client that sends what it likes."""

    def __init__(self, service: Service) -> None:
        port = int(service.url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def read(self) -> bytes:
        """Read to the end of the connection."""
        parts = []
        try:
            while part := self.socket.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass  # an end as well
        return b"".join(parts)

    def read_until(self, mark: bytes) -> bytes:
        """Read up to some bytes, or to the end."""
        found = b""
        while mark not in found and (part := self.socket.recv(65536)):
            found += part
        return found

    def send_until_answered(self, pieces: Iterator[bytes], pause: float = 0.0) -> bytes:
        """Send pieces until the server has answered or closed; return its answer."""
        sent = 0
        for piece in pieces:
            try:
                self.socket.settimeout(PATIENCE)
                self.socket.sendall(piece)
                self.socket.settimeout(pause or 0.0001)
                found = self.socket.recv(65536)
            except TimeoutError:
                sent += len(piece)
                if sent > MOST_SENT:
                    raise AssertionError(f"{sent} bytes were taken without an answer") from None
                continue
            except (BrokenPipeError, ConnectionResetError):
                return b""
            self.socket.settimeout(PATIENCE)
            return found + self.read()
        raise AssertionError("no answer")


def status(answer: bytes) -> int:
    """Return the status of an answer."""
    return int(answer.split(b" ", 2)[1])


def envelope(answer: bytes) -> dict[str, Any]:
    """Return what an answer holds, which is an envelope."""
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(found) == {"message", "data"}, found
    return found


class ConnectionsTest(unittest.TestCase):
    """A test with a service of its own limits."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    service: ClassVar[Service]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the service."""
        cls.service = cls.enterClassContext(Service(limits=cls.limits))

    def visitor(self) -> Visitor:
        """Connect."""
        return self.enterContext(Visitor(self.service))

    def ask(self, request: bytes = GET) -> bytes:
        """Send a request over a connection of its own; return the answer."""
        with Visitor(self.service) as visitor:
            visitor.send(request.replace(HOST, HOST + b"Connection: close\r\n", 1))
            return visitor.read()


class HeadTest(ConnectionsTest):
    """The head of a request."""

    def test_a_header_without_an_end_is_refused_while_it_is_sent(self) -> None:
        for start in (b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX", b"\r\n"):
            with self.subTest(start=start):
                visitor = self.visitor()
                visitor.send(start)
                endless = itertools.repeat((b"\r\n" if start == b"\r\n" else b"a") * 16384)
                answer = visitor.send_until_answered(endless)
                self.assertEqual(431, status(answer))
                self.assertIn("KiB", envelope(answer)["data"]["errors"][0])

    def test_a_head_up_to_the_limit_is_read_and_one_above_is_not(self) -> None:
        used = len(b"Host: localhost\r\nConnection: close\r\nX: \r\n")
        for size, expected in ((HEAD_BYTES - used, 200), (HEAD_BYTES - used + 1, 431)):
            request = GET.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * size + b"\r\n\r\n")
            self.assertEqual(expected, status(self.ask(request)))

    def test_header_fields_are_counted(self) -> None:
        for count, expected in ((HEADER_FIELDS - 2, 200), (HEADER_FIELDS - 1, 431)):
            fields = b"".join(b"X-%d: a\r\n" % number for number in range(count))
            request = GET.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n")
            self.assertEqual(expected, status(self.ask(request)))

    def test_the_length_of_an_address_is_bounded(self) -> None:
        for path in (b"/jobs/" + b"a" * URL_BYTES, b"/jobs?text=" + b"a" * 100_000):
            answer = self.ask(GET.replace(b"/livez", path))
            self.assertEqual(414, status(answer))
            self.assertLess(len(answer), 1000)
        longest = b"/livez?" + b"a" * (URL_BYTES - len(b"/livez?"))
        self.assertEqual(200, status(self.ask(GET.replace(b"/livez", longest))))

    def test_an_endless_address_is_refused_while_it_is_sent(self) -> None:
        visitor = self.visitor()
        visitor.send(b"GET /")
        self.assertEqual(414, status(visitor.send_until_answered(itertools.repeat(b"a" * 16384))))

    def test_what_is_not_http_is_answered_with_an_envelope(self) -> None:
        visitor = self.visitor()
        visitor.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        answer = visitor.read()
        self.assertEqual(400, status(answer))
        self.assertEqual("Bad Request", envelope(answer)["message"])

    def test_requests_that_are_sent_ahead_are_few(self) -> None:
        visitor = self.visitor()
        visitor.send(GET * PIPELINED_REQUESTS)
        seen = b""
        while seen.count(b"HTTP/1.1 200") < PIPELINED_REQUESTS:
            seen += visitor.read_until(b"}")
        visitor.send(GET * 5000)
        self.assertLess(visitor.read().count(b"HTTP/1.1 200"), 5000)

    def test_a_web_socket_is_not_found(self) -> None:
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        visitor = self.visitor()
        visitor.send(b"GET /ws HTTP/1.1\r\n" + HOST + upgrade + b"\r\n")
        self.assertEqual(404, status(visitor.read_until(b"}")))


class ChunkedBodyTest(ConnectionsTest):
    """What a chunked body may hold beside its bytes."""

    def test_an_endless_chunk_extension_is_refused(self) -> None:
        visitor = self.visitor()
        visitor.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1;")
        answer = visitor.send_until_answered(itertools.repeat(b"a" * 16384))
        self.assertEqual(431, status(answer))

    def test_endless_trailers_are_refused(self) -> None:
        for trailer in (b"a" * 16384, b"X: y\r\n" * 2000):
            with self.subTest(trailer=trailer[:10]):
                visitor = self.visitor()
                visitor.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
                answer = visitor.send_until_answered(itertools.repeat(trailer))
                self.assertEqual(431, status(answer))


class SlowClientTest(ConnectionsTest):
    """Clients that send or read too slowly, or not at all."""

    limits = ConnectionLimits(head_seconds=0.4, stall_seconds=0.4, body_seconds=1.5)

    def trickle(self) -> Iterator[bytes]:
        """Send a byte at a time."""
        return itertools.repeat(b"a")

    @slow
    def test_a_silent_connection_is_closed(self) -> None:
        self.assertEqual(b"", self.visitor().read())

    @slow
    def test_a_head_that_comes_byte_by_byte_is_refused(self) -> None:
        visitor = self.visitor()
        visitor.send(b"GET / HTTP/1.1\r\nX: ")
        answer = visitor.send_until_answered(self.trickle(), pause=0.02)
        self.assertEqual(408, status(answer))

    @slow
    def test_a_second_request_that_comes_byte_by_byte_is_refused(self) -> None:
        visitor = self.visitor()
        visitor.send(GET)
        visitor.read_until(b"}")
        visitor.send(b"GET / HTTP/1.1\r\nX: ")
        answer = visitor.send_until_answered(self.trickle(), pause=0.02)
        self.assertEqual(408, status(answer))

    @slow
    def test_a_body_that_comes_byte_by_byte_is_refused(self) -> None:
        visitor = self.visitor()
        visitor.send(POST + b"Content-Length: 100000\r\n\r\n")
        answer = visitor.send_until_answered(self.trickle(), pause=0.02)
        self.assertEqual(408, status(answer))

    @slow
    def test_a_chunked_body_of_empty_promises_is_refused(self) -> None:
        visitor = self.visitor()
        visitor.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = visitor.send_until_answered(itertools.repeat(b"1\r\na\r\n"), pause=0.02)
        self.assertEqual(408, status(answer))

    @slow
    def test_a_body_has_an_end_however_steadily_it_comes(self) -> None:
        visitor = self.visitor()
        visitor.send(POST + b"Content-Length: 50000000\r\n\r\n")
        began = time.monotonic()
        answer = visitor.send_until_answered(itertools.repeat(b" " * 500), pause=0.02)
        self.assertEqual(408, status(answer))
        self.assertLess(time.monotonic() - began, 2 * self.limits.body_seconds)

    @slow
    def test_a_body_is_waited_for_while_it_comes(self) -> None:
        visitor = self.visitor()
        body = b'{"jobs": []}'.ljust(5000)
        visitor.send(POST + b"Connection: close\r\nContent-Length: 5000\r\n\r\n")
        began = time.monotonic()
        for start in range(0, 5000, 250):
            visitor.send(body[start : start + 250])
            time.sleep(0.03)
        self.assertGreater(time.monotonic() - began, self.limits.stall_seconds)
        self.assertEqual(406, status(visitor.read()))

    @slow
    def test_the_rest_of_an_answered_body_is_not_waited_for(self) -> None:
        visitor = self.visitor()
        cross = b"Origin: http://evil.example\r\n"
        visitor.send(POST + cross + b"Content-Length: 50000000\r\n\r\n")
        self.assertEqual(403, status(visitor.read_until(b"}")))
        visitor.send_until_answered(self.trickle(), pause=0.02)
        self.assertNotIn(b"408", visitor.read())

    @slow
    def test_a_client_that_does_not_read_its_answer_is_let_go(self) -> None:
        visitor = self.visitor()
        visitor.send(GET.replace(b"/livez", ASSET) * PIPELINED_REQUESTS)
        connections = self.service.app.state.connections
        wait_until(
            lambda: any(one.transport.get_write_buffer_size() for one in connections.open),
            PATIENCE,
            "a full buffer",
        )
        wait_until(lambda: not connections.open, PATIENCE, "the end of the connection")

    @slow
    def test_a_client_that_reads_steadily_gets_all_of_a_long_answer(self) -> None:
        visitor = self.visitor()
        visitor.send(GET.replace(b"/livez", ASSET) * PIPELINED_REQUESTS)
        visitor.send(GET.replace(HOST, HOST + b"Connection: close\r\n"))
        seen = b""
        while part := visitor.socket.recv(2**19):
            seen += part
            time.sleep(0.003)  # slower than the server, and steadily
        self.assertTrue(seen.endswith(b'{"message":"OK","data":{}}'))

    @slow
    def test_a_slow_answer_is_not_the_clients_fault(self) -> None:
        visitor = self.visitor()
        visitor.send(STREAM)
        visitor.read_until(b"ready")
        visitor.send(b"\r\n")  # some browsers send it after a body
        visitor.socket.settimeout(3 * self.limits.head_seconds)
        with self.assertRaises(TimeoutError):
            visitor.socket.recv(1)


class MostConnectionsTest(ConnectionsTest):
    """More connections than there may be."""

    limits = replace(ConnectionLimits(), connections=8, stall_seconds=4.0)

    def test_silent_connections_give_way_to_requests(self) -> None:
        silent = [self.visitor() for _ in range(4 * self.limits.connections)]
        for _ in range(3):
            self.assertEqual(200, status(self.ask()))
        self.assertEqual(b"", silent[0].read())

    def test_the_oldest_head_that_is_not_complete_gives_way_with_an_answer(self) -> None:
        slow = [self.visitor() for _ in range(self.limits.connections)]
        for one in slow:
            one.send(b"GET / HTTP/1.1\r\nX: a")
        answers = [self.ask()]
        self.assertEqual([200], list(map(status, answers)))
        self.assertEqual(408, status(slow[0].read()))

    def test_streams_leave_connections_for_pages(self) -> None:
        streams = [self.visitor() for _ in range(self.limits.streams)]
        for one in streams:
            one.send(STREAM)
            self.assertIn(b"event: ready", one.read_until(b"ready"))
        refused = self.ask(STREAM)
        self.assertEqual(503, status(refused))
        self.assertIn(b"retry-after", refused.lower())
        self.assertEqual(200, status(self.ask()))
        streams.pop().socket.close()
        wait_until(lambda: len(self.service.manager.feed) < self.limits.streams, PATIENCE, "an end")
        again = self.visitor()
        again.send(STREAM)
        self.assertIn(b"event: ready", again.read_until(b"ready"))
        for one in (*streams, again):
            one.socket.close()
        wait_until(lambda: not len(self.service.manager.feed), PATIENCE, "the end of all")

    @slow
    def test_a_stream_ends_with_its_connection_whatever_was_sent_after_it(self) -> None:
        feed = self.service.manager.feed
        for later in (GET, GET * 3, STREAM, POST + b"Content-Length: 1000\r\n\r\n", b"\0\r\n\r\n"):
            for is_at_once in (True, False):
                with self.subTest(later=later, is_at_once=is_at_once):
                    visitor = self.visitor()
                    visitor.send(STREAM + later if is_at_once else STREAM)
                    if later.startswith((b"GET", b"POST")) or not is_at_once:
                        self.assertIn(b"event: ready", visitor.read_until(b"ready"))
                    if not is_at_once:
                        visitor.send(later)
                    visitor.socket.close()
                    wait_until(lambda: not len(feed), PATIENCE, "the end of the stream")
        self.assertEqual(200, status(self.ask()))

    def test_requests_beyond_the_limit_are_answered_at_once(self) -> None:
        busy = [self.visitor() for _ in range(self.limits.connections)]
        for one in busy:
            one.send(POST + b"Content-Length: 1000\r\n\r\n")
        connections = self.service.app.state.connections
        wait_until(
            lambda: len(connections.open) == len(busy) and not connections.waiting,
            PATIENCE,
            "all to be busy",
        )
        answer = self.ask()
        self.assertEqual(503, status(answer))
        self.assertIn(b"retry-after: ", answer.lower())
        self.assertIn("too many connections", envelope(answer)["data"]["errors"][0])
        for one in busy:
            one.socket.close()
        wait_until(lambda: not connections.open, PATIENCE, "room")
        self.assertEqual(200, status(self.ask()))
