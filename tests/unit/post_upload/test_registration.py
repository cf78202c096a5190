"""The hook for registration, over real sockets."""

import json
import unittest
from typing import BinaryIO

from aind_data_transfer_service.metadata.http import Patience
from aind_data_transfer_service.post_upload.registration import post_registration
from aind_data_transfer_service.post_upload.states import Registration, RegistrationState
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from tests.support import slow
from tests.support.hook import Hook
from tests.support.raw import RawServer

TOKEN = "s3cr3t-token"
DOCUMENT = json.dumps({"name": "behavior_1_é"}, ensure_ascii=False, indent=1).encode()
LOCATION = "s3://recordings/behavior_1"


class RegistrationHook(unittest.TestCase):
    """What is posted, and what becomes of it."""

    def setUp(self) -> None:
        self.hook = self.enterContext(Hook())
        self.slept: list[float] = []

    def post_registration(self, document: bytes = DOCUMENT, **settings) -> Registration:
        """Post a document."""
        usual = {"registration_url": self.hook.url, "registration_token": TOKEN}
        patience = Patience(10, 4, sleep=self.slept.append)
        known = PostUploadSettings(**(usual | settings))
        return post_registration(known, LOCATION, document, patience)

    def test_the_very_bytes_arrive_with_the_token_and_a_key_that_repeats(self) -> None:
        self.assertEqual(Registration(RegistrationState.COMPLETED), self.post_registration())
        self.post_registration()
        self.post_registration(b"{}")
        self.assertEqual([DOCUMENT, DOCUMENT, b"{}"], self.hook.raw)
        keys = [headers["Idempotency-Key"] for headers in self.hook.headers]
        self.assertEqual(keys[0], keys[1])
        self.assertNotEqual(keys[0], keys[2])
        self.assertEqual(f"Bearer {TOKEN}", self.hook.headers[0]["Authorization"])
        self.assertEqual("application/json", self.hook.headers[0]["Content-Type"])

    def test_without_a_token_none_is_sent(self) -> None:
        self.post_registration(registration_token=None)
        self.assertNotIn("Authorization", self.hook.headers[0])

    def test_what_passes_is_tried_again(self) -> None:
        self.hook.answers = [503, 429, 500]
        self.assertEqual(RegistrationState.COMPLETED, self.post_registration().state)
        self.assertEqual((4, 3), (len(self.hook.raw), len(self.slept)))

    def test_what_does_not_pass_is_told_without_the_secret_and_the_path(self) -> None:
        for answers, words in (
            ([401], "rejected the document (401); check REGISTRATION_TOKEN"),
            ([422], "rejected the document (422)"),
            ([302], "rejected the document (302)"),
            ([500] * 4, "has trouble of its own (500)"),
        ):
            with self.subTest(answers):
                self.hook.answers = list(answers)
                done = self.post_registration()
                self.assertEqual(RegistrationState.FAILED, done.state)
                self.assertIn(words, done.reason)
                self.assertNotIn(TOKEN, done.reason)
                self.assertNotIn("services", done.reason)

    @slow
    def test_one_that_is_silent_or_breaks_off_is_told(self) -> None:
        def silent(stream: BinaryIO, server: RawServer) -> None:
            while stream.read(100):
                pass

        def half(stream: BinaryIO, server: RawServer) -> None:
            stream.read(100)
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        def cut(stream: BinaryIO, server: RawServer) -> None:
            stream.read(100)

        for talk, patience, words in (
            (silent, Patience(0.2, 1), "did not answer within 0.2 s"),
            (half, Patience(10, 2, sleep=self.slept.append), "cannot be reached"),
            (cut, Patience(10, 2, sleep=self.slept.append), "cannot be reached"),
        ):
            with self.subTest(talk.__name__), RawServer(talk) as server:
                address = f"http://127.0.0.1:{server.port}/services"
                known = PostUploadSettings(registration_url=address, registration_token=TOKEN)
                done = post_registration(known, LOCATION, DOCUMENT, patience)
                self.assertEqual(RegistrationState.FAILED, done.state)
                self.assertIn(words, done.reason)
                self.assertNotRegex(done.reason, f"{TOKEN}|services|\n")

    def test_one_that_is_down_is_told(self) -> None:
        done = self.post_registration(registration_url="http://127.0.0.1:1/register")
        self.assertEqual(RegistrationState.FAILED, done.state)
        self.assertIn("the registration at 127.0.0.1:1 cannot be reached", done.reason)


if __name__ == "__main__":
    unittest.main()
