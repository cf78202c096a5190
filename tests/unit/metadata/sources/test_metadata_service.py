"""The client of the metadata service, against servers of both generations."""

import base64
import json
import unittest
from pathlib import Path
from urllib.parse import quote

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.sources.metadata_service import MetadataService
from tests.support import free_port, slow
from tests.support.metadata import MetadataServer
from tests.support.raw import RawServer

SUBJECT = {"subject_id": "690165"}
CASES = Path(__file__).parents[1] / "cases"


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
        self.assertEqual(service.subject("690165").document, SUBJECT)
        asked = ["/subject/690165", "/api/v2/subject/690165", "/rig/r", "/api/v2/rig/r"]
        self.assertEqual(server.asked, [*asked, "/api/v2/subject/690165"])

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

    def test_the_answers_of_the_cases(self):
        server = self.serve()
        for answer in json.loads((CASES / "service_answers.json").read_text()):
            path = quote(answer["GET"].split(" (")[0])
            server.says(path, json.dumps(answer["body"]).encode(), answer["status"])
        first = self.ask(server)
        found = first.instrument("INST_1")
        self.assertEqual("INST_1", found.document["instrument_id"])
        self.assertTrue(found.valid)
        second = self.enterContext(MetadataService(f"{server.url}/api/v2"))
        with self.assertRaisesRegex(MetadataError, "406: Project 'Project A' has subprojects"):
            second.funding("Project A")
        with self.assertRaisesRegex(MetadataError, "406: Subject ID abc is not valid"):
            second.subject("abc")
        [funding] = second.funding("Project A - Part 1")
        self.assertEqual("Allen Institute", funding["funder"]["name"])
        self.assertEqual(["Person Two"], [one["name"] for one in funding["investigators"]])

    def test_an_error_of_the_second_generation_is_never_a_document(self):
        for status in (401, 406, 422):
            server = self.serve(True).says("/subject/1", {"detail": "no such thing"}, status)
            for address in (server.url, f"{server.url}/api/v2"):
                with self.subTest(status), MetadataService(address) as service:
                    with self.assertRaisesRegex(MetadataError, f"{status}: no such thing"):
                        service.subject("1")

    def test_a_body_that_only_holds_a_message_is_never_a_document(self):
        for body in (
            {"detail": "There was an error parsing the body"},
            {"message": "There was an error parsing the body"},
            {"message": "There was an error parsing the body", "detail": None},
        ):
            for status in (200, 300, 400):
                server = self.serve(True).says("/subject/1", body, status)
                server.says("/funding/P", body, status)
                with self.subTest(body, status=status):
                    for ask in (self.ask(server).subject, self.ask(server).funding):
                        words = f"{status}: There was an error parsing the body"
                        with self.assertRaisesRegex(MetadataError, words):
                            ask("1" if ask.__name__ == "subject" else "P")
        server = self.serve().says("/subject/1", {"detail": "wrong"}, 400)
        with self.assertRaisesRegex(MetadataError, "/subject/1 answered 400"):
            self.ask(server).subject("1")
        document = {"detail": "of a subject", "subject_id": "1"}
        server = self.serve(True).says("/subject/1", document, 400)
        self.assertEqual(document, self.ask(server).subject("1").document)

    def test_a_422_of_the_first_generation_without_a_document_is_an_error(self):
        for body in ({"detail": "wrong"}, {"message": "wrong", "data": None}):
            server = self.serve().says("/rig/1", json.dumps(body).encode(), 422)
            with self.assertRaisesRegex(MetadataError, "422: wrong"):
                self.ask(server).rig("1")

    def test_of_several_instruments_the_newest_is_used(self):
        days = ("2024-01-01", "2025-03-01", "2024-12-31")
        several = [{"instrument_id": "i", "modification_date": day} for day in days]
        for second_generation, status in ((False, 300), (True, 200)):
            server = self.serve(second_generation).says("/instrument/i", several, status)
            found = self.ask(server).instrument("i")
            self.assertEqual("2025-03-01", found.document["modification_date"])
            self.assertEqual(
                ("the metadata service has 3 of this instrument; the one of 2025-03-01 is taken",),
                found.notes,
            )

    def test_the_error_message_of_the_service_is_shown(self):
        for second_generation in (False, True):
            server = self.serve(second_generation)
            server.headers["X-Error-Message"] = "2 validation errors: sex, species"
            server.says("/subject/1", SUBJECT, 400).says("/subject/2", None, 500)
            found = self.ask(server).subject("1")
            self.assertFalse(found.valid)
            self.assertEqual(("2 validation errors: sex, species",), found.notes)
            with self.assertRaisesRegex(MetadataError, "500: 2 validation errors: sex, species"):
                self.ask(server).subject("2")

    def test_a_generation_that_is_out_of_order_leaves_it_to_the_other(self):
        failure = b"Proxy request failed: All connection attempts failed"
        for status in (500, 502, 404, 200):
            server = self.serve().says("/subject/1", failure, status)
            server.says("/rig/r", failure, status)
            server.says("/api/v2/subject/1", json.dumps(SUBJECT).encode())
            server.says("/api/v2/rig/r", json.dumps({"detail": "Not found"}).encode(), 404)
            service = self.ask(server)
            with self.subTest(status):
                for _ in range(2):
                    self.assertEqual(SUBJECT, service.subject("1").document)
                self.assertEqual(1, server.asked.count("/subject/1"))

    def test_a_generation_that_fails_may_have_what_the_other_does_not_know(self):
        unknown = json.dumps({"detail": "Not found"}).encode()
        for status in (500, 502, 403):
            server = self.serve().says("/subject/1", b"down", status)
            server.says("/api/v2/subject/1", unknown, 404).says("/subject/3", None, 404)
            server.says("/api/v2/subject/3", b"down", status)
            service = self.ask(server)
            for identifier, path in (("1", "/subject/1"), ("3", "/api/v2/subject/3")):
                with self.subTest(path, status=status):
                    with self.assertRaisesRegex(MetadataError, f"{path} answered {status}"):
                        service.subject(identifier)
            server.says("/api/v2/rig/r", json.dumps({"rig_id": "r"}).encode())
            server.says("/rig/r", b"down", status)
            service.rig("r")  # from now on the second generation is asked first
            with self.assertRaisesRegex(MetadataError, f"/subject/1 answered {status}"):
                service.subject("1")

    def test_a_generation_that_does_not_answer_may_have_what_the_other_does_not_know(self):
        def talk(stream, server):
            if stream.read(1000).startswith(b"GET /subject"):
                body = b'{"message": "none", "data": null}'
                stream.write(b"HTTP/1.1 404 X\r\nConnection: close\r\n\r\n" + body)

        with RawServer(talk) as server:
            with MetadataService(f"http://127.0.0.1:{server.port}") as service:
                with self.assertRaisesRegex(MetadataError, "/api/v2/subject/1 cannot be reached"):
                    service.subject("1")

    def test_a_page_of_a_proxy_is_no_generation_that_could_know(self):
        unknown = json.dumps({"detail": "Not found"}).encode()
        for status in (404, 200):
            server = self.serve().says("/subject/1", b"<html>", status)
            server.says("/api/v2/subject/1", unknown, 404)
            server.says("/api/v2/subject/2", b"<html>", status)
            service = self.ask(server)
            with self.subTest(status):
                self.assertIsNone(service.subject("1"))
                self.assertIsNone(service.subject("2"))

    def test_what_the_first_generation_does_not_know_the_second_may(self):
        server = self.serve().says("/api/v2/subject/1", json.dumps(SUBJECT).encode())
        server.says("/api/v2/subject/abc", json.dumps({"detail": "not valid"}).encode(), 406)
        service = self.ask(server)
        self.assertEqual(SUBJECT, service.subject("1").document)
        self.assertIsNone(service.subject("abc"))

    def test_a_generation_without_routes_is_asked_once(self):
        for second_generation in (False, True):
            server = self.serve(second_generation)
            service = self.ask(server)
            for number in range(3):
                self.assertIsNone(service.subject(str(number)))
            of_the_second = sum(path.startswith("/api/v2") for path in server.asked)
            self.assertEqual((4, 3 if second_generation else 1), (len(server.asked), of_the_second))

    def test_if_both_generations_are_out_of_order_both_are_named(self):
        server = self.serve().says("/subject/1", b"down", 500).says("/api/v2/subject/1", b"x", 503)
        with self.assertRaisesRegex(MetadataError, "/subject/1 .*500; .*/api/v2/subject/1 .*503"):
            self.ask(server).subject("1")

    def test_investigators_are_known_without_any_funding(self):
        people = [{"name": "Person Two"}]
        server = self.serve(True).says("/investigators/p", people)
        self.assertEqual([{"investigators": people}], self.ask(server).funding("p"))

    def test_funding_that_is_known_survives_a_failure_of_the_investigators(self):
        grant = {"funder": "AI", "grant_number": "1"}
        for status, words in ((500, "smartsheet down"), (406, "not valid")):
            server = self.serve(True).says("/funding/P", [grant])
            server.says("/investigators/P", {"detail": words}, status)
            for address in (server.url, f"{server.url}/api/v2"):
                with self.subTest(status, address=address), MetadataService(address) as service:
                    found = service.funding("P")
                    self.assertEqual([grant], found)
                    [note] = found.notes
                    self.assertRegex(note, f"/investigators/P answered {status}: {words}")

    def test_funding_that_is_unknown_is_none_where_a_proxy_answers_for_investigators(self):
        server = self.serve().says("/api/v2/funding/P", b"<html>404</html>", 404)
        server.says("/api/v2/investigators/P", b"<html>404</html>", 404)
        found = self.ask(server).funding("P")
        self.assertEqual([], found)
        self.assertRegex(found.notes[0], "/investigators/P answered 404")

    def test_a_route_that_is_missing_says_nothing_about_other_routes(self):
        missing = json.dumps({"detail": "Not Found"}).encode()
        for has_second in (False, True):
            server = self.serve().says("/subject/1", SUBJECT).says("/rig/r", missing, 404)
            rig = json.dumps({"rig_id": "r"}).encode() if has_second else missing
            server.says("/api/v2/rig/r", rig, 200 if has_second else 404)
            service = self.ask(server)
            with self.subTest(has_second):
                for _ in range(2):
                    self.assertEqual(SUBJECT, service.subject("1").document)
                    found = service.rig("r")
                    self.assertEqual(
                        {"rig_id": "r"} if has_second else None, found and found.document
                    )
                asked = 1 if has_second else 2  # of the first, once it is known to have no route
                self.assertEqual(asked, server.asked.count("/rig/r"))

    def test_a_slash_in_a_name_says_nothing_about_the_route(self):
        missing = json.dumps({"detail": "Not Found"}).encode()
        server = self.serve().says("/rig/a%2Fb", missing, 404).says("/rig/r", {"rig_id": "r"})
        server.says("/api/v2/rig/a%2Fb", json.dumps({"detail": "unknown"}).encode(), 404)
        service = self.ask(server)
        self.assertIsNone(service.rig("a/b"))
        self.assertEqual({"rig_id": "r"}, service.rig("r").document)

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

    def test_funding_is_objects_or_an_error(self):
        for wrong in (["x"], "x", [[1]]):
            with self.assertRaisesRegex(MetadataError, "no funding"):
                self.ask(self.serve().says("/funding/p", wrong)).funding("p")

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
