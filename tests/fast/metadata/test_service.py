"""The client of the metadata service, against servers of both generations."""

import base64
import unittest

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.service import MetadataService
from tests.support import free_port, slow
from tests.support.metadata import MetadataServer
from tests.support.raw import RawServer

SUBJECT = {"subject_id": "690165"}


class TestService(unittest.TestCase):
    """What each answer means."""

    def serve(self, second_generation=False):
        """Start a server."""
        return self.enterContext(MetadataServer(second_generation))

    def ask(self, server, **more):
        """Make a client of a server."""
        return self.enterContext(MetadataService(server.url, **more))

    def test_a_document_of_the_first_generation(self):
        server = self.serve().says("/subject/690165", SUBJECT)
        found = self.ask(server).subject("690165")
        self.assertEqual((found.document, found.valid), (SUBJECT, True))
        self.assertEqual(found.source, f"{server.url}/subject/690165")

    def test_a_document_of_the_second_generation(self):
        server = self.serve(True).says("/subject/690165", SUBJECT).says("/rig/r", {"a": 1})
        service = self.ask(server)
        self.assertEqual(service.subject("690165").document, SUBJECT)
        self.assertEqual(service.rig("r").document, {"a": 1})
        self.assertEqual(
            server.asked, ["/subject/690165", "/api/v2/subject/690165", "/api/v2/rig/r"]
        )

    def test_an_address_of_the_second_generation_is_taken_at_its_word(self):
        server = self.serve(True).says("/instrument/i", {"a": 1})
        with MetadataService(f"{server.url}/api/v2/") as service:
            self.assertEqual(service.instrument("i").document, {"a": 1})
        self.assertEqual(server.asked, ["/api/v2/instrument/i"])

    @slow
    def test_an_answer_without_end_is_given_up(self):
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        for fault, words in (("trickle", "did not answer in time"), ("flood", "more than 64 MiB")):

            def talk(stream, server):
                stream.read(100)
                stream.write(head)
                getattr(server, fault)(stream)

            with self.subTest(fault), RawServer(talk) as server:
                seconds = 0.3 if fault == "trickle" else 30.0
                address = f"http://127.0.0.1:{server.port}"
                with MetadataService(address, seconds) as service:
                    with self.assertRaisesRegex(MetadataError, words):
                        service.subject("1")

    def test_half_an_answer_is_none(self):
        for length, words in (
            (9, "no JSON|no document"),
            (900, "cannot be reached"),
        ):

            def talk(stream, server):
                stream.read(100)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                stream.write(head.encode() + b'{"data": ')

            with self.subTest(length), RawServer(talk) as server:
                with MetadataService(f"http://127.0.0.1:{server.port}", attempts=1) as service:
                    with self.assertRaisesRegex(MetadataError, words):
                        service.subject("1")

    def test_what_nobody_knows_is_none(self):
        for second_generation in (False, True):
            service = self.ask(self.serve(second_generation))
            self.assertIsNone(service.subject("1"))
            self.assertEqual(service.funding("p"), [])
            self.assertEqual(service.project_names(), [])

    def test_invalid_documents_are_usable_and_marked(self):
        for status in (207, 400, 406):
            server = self.serve().says("/procedures/1", {"a": 1}, status)
            self.assertFalse(self.ask(server).procedures("1").valid)

    def test_of_several_the_first_is_used(self):
        server = self.serve().says("/subject/1", [SUBJECT, {}], 300).says("/subject/2", [], 300)
        service = self.ask(server)
        self.assertEqual(service.subject("1").document, SUBJECT)
        self.assertIsNone(service.subject("2"))

    def test_failures_are_told_with_the_address(self):
        server = self.serve().says("/subject/1", None, 500).says("/subject/2", None, 401)
        server.says("/subject/3", "text").says("/subject/4", None, 406)
        service = self.ask(server)
        for identifier, words in (("1", "500"), ("2", "401"), ("3", "no document"), ("4", "406")):
            with self.assertRaisesRegex(MetadataError, f"/subject/{identifier} .*{words}"):
                service.subject(identifier)

    def test_a_failure_that_passes_is_tried_again(self):
        server = self.serve().says("/subject/1", None, 503).says("/subject/1", SUBJECT)
        waits = []
        found = self.ask(server, attempts=3, sleep=waits.append).subject("1")
        self.assertEqual(found.document, SUBJECT)
        self.assertEqual(len(waits), 1)

    def test_no_server_and_no_address_are_told(self):
        with self.assertRaisesRegex(MetadataError, "cannot be reached"):
            MetadataService(f"http://127.0.0.1:{free_port()}").subject("1")
        with self.assertRaisesRegex(MetadataError, "cannot be reached"):
            MetadataService("no address").subject("1")

    def test_a_password_in_the_address_is_used_and_never_shown(self):
        server = self.serve().says("/subject/1", SUBJECT).says("/subject/2", None, 500)
        service = MetadataService(server.url.replace("//", "//anna:p%40ss@"))
        self.addCleanup(service.close)
        self.assertEqual(service.subject("1").source, f"{server.url}/subject/1")
        self.assertEqual(server.logins, ["Basic " + base64.b64encode(b"anna:p@ss").decode()])
        with self.assertRaises(MetadataError) as raised:
            service.subject("2")
        for text in (str(raised.exception), service.url):
            self.assertNotIn("anna", text)

    def test_names_are_quoted(self):
        server = self.serve().says("/funding/Ephys%20%2F%20Platform", [{"funder": "x"}])
        self.assertEqual(self.ask(server).funding("Ephys / Platform"), [{"funder": "x"}])

    def test_project_names_are_a_list_or_an_error(self):
        service = self.ask(self.serve().says("/project_names", ["a", "b"]))
        self.assertEqual(service.project_names(), ["a", "b"])
        with self.assertRaisesRegex(MetadataError, "no list"):
            self.ask(self.serve().says("/project_names", {"a": 1})).project_names()

    def test_an_answer_that_is_no_json_tells_nothing_of_the_document(self):
        for status in (200, 404):
            server = self.serve().says("/subject/1", b"<html>", status)
            server.says("/api/v2/subject/1", b"<html>", status)
            with self.subTest(status), self.assertRaisesRegex(MetadataError, "answered"):
                self.ask(server).subject("1")
