"""Asking a system over HTTPS, and what happens where it does not answer as it should."""

import gzip
import json
import socket
import tempfile
import unittest
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.http import Patience, Web, client
from tests.support import slow
from tests.support.clock import Clock
from tests.support.https import Fault, HttpsServer, Reply, Request, ca_file


class Server(HttpsServer):
    """Answers everything alike."""

    def answer(self, request: Request) -> Reply:
        """Say that all is well."""
        return Reply(200, {"said": "yes"})


class Asking(unittest.TestCase):
    """One question to one system."""

    def setUp(self) -> None:
        self.server = self.enterContext(Server())
        self.clock = Clock()

    def ask(self, url: str = "", ca: Path | None = None, **patience: Any) -> httpx.Response:
        """Ask the server something."""
        chosen = {"seconds": 5.0, "clock": self.clock, "sleep": self.clock.sleep} | patience
        web = Web("The system", client(ca or ca_file()), Patience(**chosen))
        self.addCleanup(web.close)
        return web.ask("GET", url or f"{self.server.url}/thing")

    def refused(self, words: str, *answers: Reply | Fault, **details: Any) -> None:
        """Have a question fail, in these words."""
        self.server.next("/thing", *answers)
        with self.assertRaisesRegex(MetadataError, f"^The system at 127.0.0.1:\\d+ {words}"):
            self.ask(**details)

    def test_an_answer_is_given_as_it_came(self) -> None:
        body = gzip.compress(json.dumps({"said": "ü" * 100}).encode())
        self.server.next("/thing", Reply(404, body, {"Content-Encoding": "gzip"}))
        found = self.ask()
        self.assertEqual((404, {"said": "ü" * 100}), (found.status_code, found.json()))

    def test_passing_troubles_are_waited_out(self) -> None:
        for trouble in (Reply(500), Reply(429), Fault.CLOSE, Fault.CUT):
            with self.subTest(trouble):
                self.server.next("/thing", trouble, trouble)
                self.assertEqual(200, self.ask().status_code)

    def test_lasting_troubles_are_told(self) -> None:
        self.refused("has trouble of its own \\(502\\)$", *[Reply(502)] * 3)
        self.refused("is asked too often \\(429\\); try again", *[Reply(429)] * 3)
        self.refused("cannot be reached", *[Fault.CLOSE] * 3)

    def test_a_wait_that_is_asked_for_is_kept(self) -> None:
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        for value, least, most in (("2", 2, 2), (later, 1, 3), ("soon", 0.5, 0.5), ("", 0.5, 0.5)):
            with self.subTest(value):
                self.clock.slept.clear()
                self.server.next("/thing", Reply(429, {}, {"Retry-After": value}))
                self.ask()
                [slept] = self.clock.slept
                self.assertTrue(least <= slept <= most, slept)

    def test_a_wait_beyond_the_time_is_not_begun(self) -> None:
        busy = Reply(503, {}, {"Retry-After": "120"})
        self.refused("has trouble of its own \\(503\\) and asks to wait 120 s", busy)
        self.assertEqual([], self.clock.slept)

    def test_a_system_that_hangs_is_given_up(self) -> None:
        real = {"seconds": 0.2, "clock": Patience().clock, "sleep": Patience().sleep}
        self.refused("did not answer within 0.2 s", Fault.HANG, **real)

    @slow
    def test_a_system_that_dribbles_is_given_up(self) -> None:
        real = {"seconds": 0.3, "clock": Patience().clock, "sleep": Patience().sleep}
        self.refused("did not answer within 0.3 s", Fault.TRICKLE, **real)

    @slow
    def test_an_answer_that_grows_without_end_is_given_up_at_once(self) -> None:
        bomb = gzip.compress(bytes(80 * 1024**2))
        self.refused(
            "answers with more than 64 MiB", Reply(200, bomb, {"Content-Encoding": "gzip"})
        )
        self.assertEqual(1, len(self.server.seen))

    def test_a_wait_that_nobody_can_read_is_none(self) -> None:
        for value in (
            "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
            "Mon, 01 Jan 99999999999999 00:00:00 GMT",
            "Mon, 01 Jan 2024 00:00:00 +99999999999999",
            ",",
        ):
            with self.subTest(value):
                self.server.next("/thing", Reply(503, {}, {"Retry-After": value}))
                self.assertEqual(200, self.ask().status_code)

    @slow
    def test_a_clock_that_jumps_over_the_end_makes_no_error_of_its_own(self) -> None:
        self.server.next("/thing", Reply(500))

        def sleep(seconds: float) -> None:
            self.clock.sleep(60)

        self.refused("(did not answer|cannot be reached|has trouble)", Reply(500), sleep=sleep)

    def test_a_certificate_of_strangers_is_not_taken(self) -> None:
        web = Web("The system", client(), Patience(5.0, clock=self.clock, sleep=self.clock.sleep))
        self.addCleanup(web.close)
        with self.assertRaisesRegex(MetadataError, "certificate that is not trusted"):
            web.ask("GET", self.server.url)

    def test_a_file_that_holds_no_certificates_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ca.pem"
            for content in (None, "not one"):
                with self.subTest(content):
                    if content is not None:
                        path.write_text(content)
                    with self.assertRaisesRegex(MetadataError, f"{path} holds no certificates"):
                        client(path)

    def test_a_system_that_is_not_there_is_told(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{taken.getsockname()[1]}/x"
            with self.assertRaisesRegex(MetadataError, "The system at 127.* cannot be reached"):
                self.ask(url)

    def test_neither_login_nor_path_is_shown(self) -> None:
        with self.assertRaises(MetadataError) as raised:
            self.ask("https://me:hunter2@127.0.0.1:1/secret?key=hunter3")
        self.assertNotRegex(str(raised.exception), "hunter|secret")

    def test_redirects_are_not_followed(self) -> None:
        self.server.next("/thing", Reply(302, {}, {"Location": "/elsewhere"}))
        self.assertEqual(302, self.ask().status_code)
        self.assertEqual([], self.server.asked("/elsewhere"))
