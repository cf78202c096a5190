"""The tokens of jobs that call."""

import hmac
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.executors.callback_tokens import Callbacks

URL = "http://transfer.example:5000/"


class CallbacksTest(unittest.TestCase):
    """A secret in a folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "data" / "secret"

    def open(self, url: str | None = URL) -> Callbacks:
        """Make callbacks as a service does that starts."""
        callbacks = Callbacks(url, self.file)
        callbacks.open()
        return callbacks

    def token(self, callbacks: Callbacks, job_id: str) -> str:
        """Give the token that a job gets."""
        return callbacks.environment(job_id)["UPLOAD_CALLBACK_TOKEN"]

    def test_a_job_gets_an_address_and_a_token_of_its_own(self):
        callbacks = self.open()
        environment = callbacks.environment("2n11")
        self.assertEqual(
            "http://transfer.example:5000/api/jobs/2n11/events", environment["UPLOAD_CALLBACK_URL"]
        )
        token = environment["UPLOAD_CALLBACK_TOKEN"]
        self.assertTrue(callbacks.admits("2n11", token))
        for job_id, other in (("2n12", token), ("2n11", ""), ("2n11", "ü☃"), ("2n11", token[:-1])):
            self.assertFalse(callbacks.admits(job_id, other))

    def test_where_nobody_calls_nobody_is_let_in_by_a_token_made_of_no_secret(self):
        for callbacks in (self.open(None), Callbacks(URL, self.file)):  # the latter never opened
            self.assertEqual({}, callbacks.environment("2n11"))
            self.assertFalse(callbacks.admits("2n11", hmac.new(b"", b"2n11", "sha256").hexdigest()))

    def test_the_secret_is_made_once_and_is_its_owners_alone(self):
        token = self.token(self.open(), "a")
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)
        self.assertEqual(token, self.token(self.open(), "a"))
        self.assertNotIn(self.file.read_bytes().hex(), token)
        self.assertEqual([self.file], list(self.file.parent.iterdir()))

    def test_services_that_start_together_have_the_same_secret(self):
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _: self.open(), range(8)))
        self.assertEqual(1, len({self.token(one, "a") for one in opened}))

    def test_a_secret_that_cannot_be_kept_is_told_in_words(self):
        self.file.parent.write_text("in the way")
        with self.assertRaisesRegex(TransferServiceError, "INTERNAL_URL"):
            self.open()

    def test_a_file_that_holds_no_secret_is_not_used(self):
        self.open()
        self.file.write_bytes(b"")
        with self.assertRaisesRegex(TransferServiceError, "holds no secret"):
            self.open()

    def test_without_an_address_nobody_calls_and_nobody_is_let_in(self):
        callbacks = self.open(url=None)
        self.assertEqual({}, callbacks.environment("a"))
        self.assertFalse(callbacks.admits("a", ""))
        self.assertFalse(self.file.exists())
