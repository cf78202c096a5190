"""Responses as servers, proxies and networks send them: read right, bounded, and never mixed up."""

import http.client
import io
import unittest
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError, TerminatedError, TransferError
from aind_data_transfer_service.storage.base import BufferBody
from aind_data_transfer_service.storage.s3 import client
from aind_data_transfer_service.storage.s3.http_response import ResponseReader
from aind_data_transfer_service.upload.cli.shutdown import Halted
from tests.support import slow
from tests.support.scripted import OK, reply
from tests.unit.storage.s3.test_faults import MEBI, FaultTest

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY = b'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nETag: "early"\r\n\r\n'
PROCESSING = b"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n"
INTERIM = st.lists(st.sampled_from([CONTINUE, EARLY, PROCESSING]), max_size=3)
STATUSES = st.sampled_from([200, 204, 206, 304, 403, 404, 412, 500, 503])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
BODIES = st.binary(max_size=300)
CONNECTIONS = st.sampled_from([None, "close", "Keep-Alive", "x, CLOSE ,y", "keep-alive, close"])
SURPLUS = st.sampled_from([b"", b"", CONTINUE, EARLY, OK, b"x", b"HTTP/1.1 200", b"0\r\n\r\n"])


class Memory:
    """Bytes that `http.client` takes for a connection."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def makefile(self, mode):
        """Give the bytes that are left."""
        return self.file


def read_by_library(data, method):
    """Read the response to a request, as Python's own library does."""
    memory = Memory(data)
    memory.file.close = lambda: None
    while True:
        found = http.client.HTTPResponse(memory, method=method)
        found.begin()
        if found.status >= 200:
            return found, found.read()


def read(pieces, method, limit=MEBI):
    """Read the response to a request from pieces; give the reader, and how many it did not see."""
    reader = ResponseReader()
    reader.begin(method == "HEAD", limit)
    for number, piece in enumerate(pieces, 1):
        if reader.feed(piece):
            return reader, len(pieces) - number
    return reader, 0


@st.composite
def responses(draw):
    """Make a method and the bytes of a response to it."""
    method = draw(st.sampled_from(["GET", "PUT", "POST", "HEAD"]))
    status, body = draw(STATUSES), draw(BODIES)
    lines = [f"HTTP/1.1 {status} Some words"]
    case = draw(st.sampled_from([str, str.lower, str.upper, str.swapcase]))
    has_body = method != "HEAD" and status not in (204, 304)
    for name in draw(st.lists(st.sampled_from(["ETag", "X-Amz-Id-2", "Server"]), unique=True)):
        lines.append(f"{case(name)}: {draw(VALUES)}")
    if connection := draw(CONNECTIONS):
        lines.append(f"{case('Connection')}: {connection}")
    if draw(st.booleans()):
        lines.append("Keep-Alive: timeout=5, max=100")
    if draw(st.booleans()) or not has_body:
        lines.append(f"{case('Content-Length')}: {len(body)}")
    else:
        lines.append(f"{case('Transfer-Encoding')}: chunked")
        body = draw(chunked(body))
    return method, "\r\n".join(lines).encode() + b"\r\n\r\n" + body * has_body


@st.composite
def chunked(draw, body):
    """Write a body in chunks, with extensions and trailers."""
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=5)) | {0, len(body)})
    extension = draw(st.sampled_from(["", ";a=b", ';name="a b"']))
    chunks = [
        f"{end - begin:x}{extension}\r\n".encode() + body[begin:end] + b"\r\n"
        for begin, end in zip(cuts, cuts[1:])
    ]
    trailers = draw(st.sampled_from(["", "ETag: trailer\r\n", "a: b\r\nc: d\r\n"]))
    return b"".join(chunks) + f"0{extension}\r\n{trailers}\r\n".encode()


@st.composite
def pieces_of(draw, data):
    """Cut bytes anywhere."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=6)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)])]


class TestReading(unittest.TestCase):
    """Any response, in any pieces."""

    @slow
    @settings(max_examples=150, deadline=None)
    @given(responses(), INTERIM, SURPLUS, st.data())
    def test_it_is_what_pythons_own_library_reads(self, response, interim, surplus, data):
        method, sent = response
        whole = b"".join(interim) + sent
        expected, body = read_by_library(whole, method)
        reader, left = read(data.draw(pieces_of(whole + surplus)), method)
        found = reader.reply()
        self.assertTrue(reader.is_complete)
        self.assertEqual((found.status, found.body), (expected.status, body))
        headers = {name.lower(): value for name, value in expected.getheaders()}
        self.assertEqual(found.headers, headers)
        is_clean = reader.is_reusable and not left
        self.assertFalse(is_clean and (surplus or expected.will_close))
        if not surplus:
            self.assertEqual(is_clean, not expected.will_close)

    @slow
    @settings(max_examples=40, deadline=None)
    @given(st.lists(responses(), min_size=1, max_size=5), st.data())
    def test_several_on_one_connection_stay_apart(self, several, data):
        reader = ResponseReader()
        for method, sent in several:
            expected, body = read_by_library(sent, method)
            reader.begin(method == "HEAD", MEBI)
            for piece in data.draw(pieces_of(sent)):
                reader.feed(piece)
            found = reader.reply()
            self.assertEqual((found.status, found.body), (expected.status, body))
            if not reader.is_reusable or method == "HEAD":
                reader = ResponseReader()

    @slow
    @settings(max_examples=100, deadline=None)
    @given(responses(), BODIES, st.data())
    def test_damage_is_a_fault_or_a_response_and_nothing_else(self, response, noise, data):
        method, sent = response
        place = data.draw(st.integers(0, len(sent)))
        try:
            reader, _ = read([sent[:place] + noise, sent[place:]], method)
        except client.Fault:
            return
        self.assertIsInstance(reader.reply().headers, dict)

    def test_a_body_after_the_answer_to_head_makes_its_connection_unusable(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
        self.assertTrue(read([head], "HEAD")[0].is_reusable)
        self.assertTrue(read([EARLY, head[:20], head[20:]], "HEAD")[0].is_reusable)
        for more in (b"body", CONTINUE, OK):
            reader, _ = read([head + more], "HEAD")
            self.assertFalse(reader.is_reusable, more)
            self.assertEqual(reader.reply().body, b"")


class TestInterruption(unittest.TestCase):
    """The end of the job, which comes as a signal in the middle of a response."""

    def test_it_is_not_taken_for_a_response_that_makes_no_sense(self):
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
        for where in ("on_message_begin", "on_headers_complete", "on_body", "on_message_complete"):
            with self.subTest(where):

                class Interrupted(ResponseReader):
                    """One that a signal interrupts."""

                def interrupt(*_):
                    raise Halted(TerminatedError("terminated"))

                setattr(Interrupted, where, interrupt)
                reader = Interrupted()
                reader.begin(False, 100)
                with self.assertRaises(Halted):
                    reader.feed(response)


class TestUnaskedFor(FaultTest):
    """What a server sends besides its answers."""

    def etags(self, *answers, count=3):
        """Store objects one after the other, and give their ETags."""
        store = self.open(*answers)
        return [store.put(f"a/{number}", b"x") for number in range(count)]

    @staticmethod
    def named(name):
        """Write the answer to the storing of an object."""
        return OK.replace(b'"e"', b'"%s"' % name)

    def test_interim_answers_answer_nothing(self):
        """Of row upon row of parts, each would have had the ETag of the one before it."""
        for interim in (CONTINUE, EARLY, PROCESSING, CONTINUE * 2 + EARLY):
            with self.subTest(interim=interim):
                answers = [interim + self.named(name) for name in (b"0", b"1", b"2")]
                self.assertEqual(self.etags(*answers), ['"0"', '"1"', '"2"'])
                self.assertEqual(self.server.connections, 1)
                self.assertEqual(self.told, [])

    def test_an_interim_answer_may_come_in_pieces_before_its_answer(self):
        def slowly(link):
            for piece in (CONTINUE, EARLY[:12], EARLY[12:], self.named(b"0")):
                link.sendall(piece)
                self.server.ended.wait(0.02)

        self.assertEqual(self.etags(slowly, self.named(b"1"), count=2), ['"0"', '"1"'])

    def test_what_comes_with_an_answer_and_after_it_closes_the_connection(self):
        for surplus in (CONTINUE, EARLY, self.named(b"other"), b"nonsense"):
            with self.subTest(surplus=surplus), self.assertLogs(level="WARNING") as logs:
                answers = [self.named(name) + surplus for name in (b"0", b"1", b"2")]
                self.assertEqual(self.etags(*answers), ['"0"', '"1"', '"2"'])
                self.assertEqual(self.server.connections, 3)
            self.assertEqual(len(logs.output), 1, "once")
            self.assertRegex(logs.output[0], "127.0.0.1:.* sent bytes that no request asked for")

    def test_what_comes_later_answers_nothing_either(self):
        for surplus in (CONTINUE, self.named(b"other"), b"x"):
            links = []

            def answer(link):
                links.append(link)
                link.sendall(self.named(b"0"))

            with self.subTest(surplus=surplus), self.assertLogs(level="WARNING"):
                store = self.open(answer, self.named(b"1"))
                self.assertEqual(store.put("a/0", b"x"), '"0"')
                links[0].sendall(surplus)
                self.assertEqual(store.put("a/1", b"x"), '"1"')
                self.assertEqual(self.server.connections, 2)

    def test_connections_that_the_server_ends_are_not_used_again(self):
        for line, version in (
            ("Connection: close", b"1.1"),
            ("CONNECTION: Close", b"1.1"),
            ("connection: x-y, CLOSE", b"1.1"),
            ("Server: old", b"1.0"),
        ):
            with self.subTest(line=line):
                ending = self.named(b"0").replace(b"1.1", version)[:-2] + f"{line}\r\n\r\n".encode()
                self.assertEqual(self.etags(ending, ending), ['"0"', '"0"', '"e"'])
                self.assertEqual(self.server.connections, 3)
                self.assertEqual(self.told, [])

    def test_other_connections_are(self):
        for line in ("Connection: keep-alive", "Keep-Alive: timeout=5, max=1000", "X: close"):
            going_on = OK[:-2] + f"{line}\r\n\r\n".encode()
            self.etags(going_on, going_on)
            self.assertEqual(self.server.connections, 1, line)

    def test_answers_in_chunks_with_extensions_and_trailers_are_read(self):
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3;a="b"\r\nabc\r\n2;c\r\nde\r\n0\r\nETag: "x"\r\nX: y\r\n\r\n'
        )
        store = self.open(answer, answer)
        self.assertEqual([store.get("a"), store.get("b")], [b"abcde", b"abcde"])
        self.assertEqual(self.server.connections, 1)

    def test_switching_protocols_is_no_answer(self):
        switched = b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
        self.assertEqual(self.etags(switched, self.named(b"1"), count=1), ['"1"'])


@slow
class TestWithoutEnd(FaultTest):
    """Answers that go on and on, or come byte by byte."""

    def drip(self, first, more=b"x", seconds=0.02):
        """Make an answer that never ends, and comes slowly."""

        def answer(link):
            link.sendall(first)
            while not self.server.ended.wait(seconds):
                link.sendall(more)

        return answer

    def flood(self, first, more):
        """Make an answer that never ends, and comes fast."""

        def answer(link):
            link.sendall(first)
            while True:
                link.sendall(more)

        return answer

    def test_an_answer_that_comes_byte_by_byte_is_broken_off(self):
        for first in (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"):
            with self.subTest(first=first):
                store = self.open(self.drip(first), reply(200, b"whole"), seconds=1.0)
                self.assertEqual(store.get("a"), b"whole")
                self.assertRegex(self.told[0], "only [0-9]+ bytes of the reply came in [0-9]+ s")

    def test_interim_answers_without_end_are_broken_off(self):
        store = self.open(self.drip(b"", PROCESSING, 0.1), OK, seconds=1.0)
        self.assertEqual(store.put("a", b"x"), '"e"')
        self.assertIn("only", self.told[0])

    def test_the_making_of_an_object_may_take_longer(self):
        """Amazon sends a space now and then meanwhile."""

        def slowly(link):
            link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(8):
                self.server.ended.wait(0.05)
                link.sendall(b"1\r\n \r\n")
            body = b'<?xml version="1.0"?><R><ETag>whole</ETag></R>'
            link.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

        begun = reply(200, b"<R><UploadId>u</UploadId></R>")
        store = self.open(begun, OK, slowly, seconds=1.0)
        self.assertEqual(
            store.put_parts("a", [BufferBody(b"1")], MEBI, Traffic(1, 4 * MEBI)), '"whole"'
        )
        self.assertEqual(self.told, [])

    def test_a_head_without_end_is_broken_off(self):
        for first, more in (
            (b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 9000 + b"\r\n"),
            (b"HTTP/1.1 200 ", b"z" * 9000),
            (b"", CONTINUE * 400),
        ):
            with self.subTest(first=first, more=more[:9]):
                self.assertEqual(self.open(self.flood(first, more), OK).put("a", b"x"), '"e"')
                self.assertIn("head is longer than 65,536 bytes", self.told[0])

    def test_of_a_refusal_only_its_beginning_is_read(self):
        endless = b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n"
        store = self.open(self.flood(endless, b"2000\r\n" + b" " * 0x2000 + b"\r\n"), OK)
        self.assertEqual(store.put("a", b"x"), '"e"')
        self.assertIn("the server answered 503", self.told[0])

    def test_chunks_without_content_come_to_an_end(self):
        endless = b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n2;"
        store = self.open(self.flood(endless, b"e" * 9000), OK)
        self.assertEqual(store.put("a", b"x"), '"e"')

    def test_more_than_was_asked_for_is_not_read(self):
        whole = self.flood(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", bytes(MEBI))
        piece = self.flood(b"HTTP/1.1 206 X\r\nContent-Length: 99999999999\r\n\r\n", bytes(MEBI))
        words = "data .the reply is longer than the .* bytes that were asked for"
        with self.assertRaisesRegex(DestinationError, words):
            list(self.open(*[whole] * 3).objects("a"))
        with self.assertRaisesRegex(DestinationError, words):
            list(self.open(*[piece] * 3).read("a", 1000))
        with patch.object(client, "_LARGEST_DOCUMENT", 1000):
            with self.assertRaisesRegex(DestinationError, words):
                self.open(*[whole] * 3).get("a")
        self.assertEqual(next(self.open(whole).read("a", 1000)), bytes(1000))

    def test_another_piece_than_was_asked_for_is_not_taken(self):
        other = reply(206, b"abcd", "Content-Range: bytes 4-7/8")
        right = reply(206, b"abc", "Content-Range: bytes 0-2/3")
        self.assertEqual(list(self.open(other, right).read("a", 4)), [b"abc"])
        self.assertIn("the server sent bytes from 4 on, not from 0", self.told[0])

    def test_what_cannot_be_read_is_named(self):
        double = OK.replace(b"Content", b"Content-Length: 0\r\nContent")
        with self.assertRaisesRegex(TransferError, "no sense: Duplicate Content-Length; given up"):
            self.open(*[double] * 99, seconds=0.3).put("a", b"x")

    def test_a_status_that_is_none_is_a_refusal(self):
        with self.assertRaisesRegex(TransferError, "the server answered 99"):
            self.open(OK.replace(b"200", b"099")).put("a", b"x")
