"""Tokens of Entra ID, from a server that speaks its protocol over HTTPS."""

import threading
import unittest
from dataclasses import replace

import httpx

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.entra_auth import Application, EntraAuth
from aind_data_transfer_service.metadata.http import Patience, Web, client
from tests.support.clock import Clock
from tests.support.entra import CLIENT_ID, SECRET, TENANT, EntraServer
from tests.support.https import Fault, Reply, Request, ca_file


class Server(EntraServer):
    """Gives whoever has a token what they ask for."""

    def resource(self, request: Request) -> Reply:
        """Say that they may."""
        return Reply(200, {"said": "yes"})


class Tokens(unittest.TestCase):
    """From asking for a token to a question that is answered."""

    def setUp(self) -> None:
        self.server = self.enterContext(Server())
        self.clock = Clock()
        self.application = Application(
            self.server.url, TENANT, CLIENT_ID, SECRET, f"{self.server.url}/.default"
        )

    def auth(self, **changes: str) -> EntraAuth:
        """Make the way in for an application, as it is or otherwise."""
        patience = Patience(5.0, clock=self.clock, sleep=self.clock.sleep)
        web = Web("Entra ID", client(ca_file()), patience)
        auth = EntraAuth(replace(self.application, **changes), web, self.clock)
        self.addCleanup(auth.close)
        return auth

    def ask(self, auth: EntraAuth) -> httpx.Response:
        """Ask the resource something."""
        with client(ca_file(), auth) as http:
            return http.get(f"{self.server.url}/thing")

    def test_one_token_serves_until_shortly_before_its_end(self) -> None:
        auth = self.auth()
        for _ in range(3):
            self.assertEqual({"said": "yes"}, self.ask(auth).json())
        self.clock.now += 3200
        self.ask(auth)
        self.assertEqual(1, self.server.tokens_given)
        self.clock.now += 200
        self.ask(auth)
        self.assertEqual(2, self.server.tokens_given)

    def test_a_short_token_is_of_use_too_and_one_of_no_length_once(self) -> None:
        for lasts, given in ((60, 1), ("60", 1), (0, 2), (None, 2), ("soon", 2)):
            with self.subTest(lasts), Server() as self.server:
                self.application = replace(
                    self.application,
                    authority=self.server.url,
                    scope=f"{self.server.url}/.default",
                )
                self.server.lasts = lasts
                auth = self.auth()
                auth.token()
                auth.token()
                self.assertEqual(given, self.server.tokens_given)

    def test_a_token_that_is_refused_is_replaced_once(self) -> None:
        auth = self.auth()
        self.ask(auth)
        self.server.revoke()
        self.assertEqual(200, self.ask(auth).status_code)
        self.assertEqual(2, self.server.tokens_given)
        self.server.next("/thing", Reply(401, {}), Reply(401, {}))
        self.assertEqual(401, self.ask(auth).status_code)
        self.assertEqual(3, self.server.tokens_given)

    def test_many_threads_ask_for_one_token(self) -> None:
        auth = self.auth()
        together = threading.Barrier(8)
        found = []

        def fetch() -> None:
            together.wait(10)
            found.append(auth.token())

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual((8, 1), (len(found), len(set(found))))
        self.assertEqual(1, self.server.tokens_given)

    def test_what_is_wrong_is_told_in_words_and_without_the_secret(self) -> None:
        for changes, words in (
            ({"secret": "wrong-s3cret"}, "client secret is wrong.*AADSTS7000215"),
            ({"client_id": "nobody"}, "no application of this client id"),
            ({"tenant": "elsewhere"}, "no such tenant"),
            ({"scope": "nothing"}, "has to end in /.default"),
        ):
            with self.subTest(words):
                with self.assertRaisesRegex(MetadataError, f"Entra ID at 127.*{words}") as raised:
                    self.auth(**changes).token()
                self.assertNotIn("s3cret", str(raised.exception))
                self.assertNotIn("\n", str(raised.exception))

    def test_an_answer_of_no_use_is_told_as_such(self) -> None:
        for answer, words in (
            (
                Reply(400, {"error_description": f"AADSTS1: {SECRET} is\r\nbad"}),
                r"AADSTS1: \[hidden\] is$",
            ),
            (Reply(400, {"error": "invalid_client"}), "invalid_client$"),
            (Reply(400, {"error_codes": [True, "7000215", {}]}), "answered 400"),
            (Reply(200, {"access_token": ""}), "answered 200 and does not say why"),
            (Reply(200, {"access_token": f"{SECRET}\n"}), "does not say why"),
            (Reply(200, ["token"]), "does not say why"),
            (Reply(200, b"<html>", content_type="text/html"), r"no JSON \(text/html\)"),
            (Fault.CUT, "cannot be reached"),
        ):
            with self.subTest(words):
                self.server.next("/oauth2/", *[answer] * (3 if answer is Fault.CUT else 1))
                with self.assertRaisesRegex(MetadataError, words) as raised:
                    self.auth().token()
                self.assertNotIn(SECRET, str(raised.exception))

    def test_a_passing_trouble_is_waited_out(self) -> None:
        self.server.next("/oauth2/", Reply(503, {}), Reply(429, {}, {"Retry-After": "2"}))
        self.assertTrue(self.auth().token())
        self.assertEqual([0.5, 2.0], self.clock.slept)

    def test_nothing_secret_is_shown(self) -> None:
        self.assertNotIn(SECRET, repr(self.application))
