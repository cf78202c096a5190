"""Keys that expire while requests are in flight."""

import os
import shlex
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import TransferError
from aind_data_transfer_service.upload.credentials import Credentials
from aind_data_transfer_service.upload.store import Conduct, Window, open_store
from tests.support import slow
from tests.support.scripted import OK, Scripted, refusal

_PROCESS = """
import json, pathlib, sys, datetime
folder = pathlib.Path(sys.argv[1])
with open(folder / "runs", "a") as file:
    file.write("x")
if (folder / "broken").exists():
    (folder / "broken").unlink()
    sys.exit("the vault is sealed")
keys = json.loads((folder / "keys").read_text())
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=keys.pop("seconds"))
print(json.dumps({"Version": 1, "SecretAccessKey": "s", "Expiration": ends.isoformat(), **keys}))
"""


@slow
class TestRenewedKeys(unittest.TestCase):
    """A `credential_process`, and a server that refuses keys as expired."""

    def setUp(self):
        """Make a profile whose keys a process prints."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "process.py").write_text(_PROCESS)
        words = (sys.executable, "-S", self.folder / "process.py", self.folder)
        command = shlex.join(map(str, words))
        (self.folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        environment |= {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_CONFIG_FILE": str(self.folder / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.hold("first")
        self.valid, self.told = "first", []

    def hold(self, key, seconds=300):
        """Have the process print a key, by default one that botocore would refresh at once."""
        (self.folder / "keys").write_text(f'{{"AccessKeyId": "{key}", "seconds": {seconds}}}')

    def runs(self):
        """Return how often the process ran: botocore runs it twice for keys of a few minutes."""
        return len((self.folder / "runs").read_text())

    def open(self, seconds=20.0, refused="ExpiredToken"):
        """Open a store at a server that takes the keys that are valid and no others."""

        def answer(head):
            return OK if f"Credential={self.valid}/".encode() in head else expired

        expired = refusal(400, refused)
        self.server = Scripted(answer, by_head=True)
        self.addCleanup(self.server.stop)
        conduct = Conduct(seconds, tell=self.told.append)
        return open_store("s3://", "bucket", self.server.url, conduct=conduct)

    def send(self, store, count, size=8):
        """Send objects, several of them in flight."""
        objects = ((f"a/{number}", b"x") for number in range(count))
        return len(list(store.put_all(objects, Window(size))))

    def test_keys_that_live_for_minutes_are_fetched_once_for_hundreds_of_requests(self):
        self.assertEqual(self.send(self.open(), 400), 400)
        self.assertLessEqual(self.runs(), 2)

    def test_requests_in_flight_with_expired_keys_are_all_sent_again_after_one_refresh(self):
        store = self.open()
        self.send(store, 8)
        self.hold("second")
        self.valid = "second"
        stored = []
        threads = [
            threading.Thread(target=lambda: stored.append(self.send(store, 20))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(stored, [20] * 4)
        self.assertLessEqual(self.runs(), 4)

    def test_keys_that_were_replaced_by_others_are_renewed(self):
        """The old ones are deleted, so that the server does not know them any more."""
        store = self.open(refused="InvalidAccessKeyId")
        self.hold("second")
        self.valid = "second"
        self.assertEqual(self.send(store, 20), 20)

    def test_a_refresh_that_fails_is_retried_within_the_budget(self):
        store = self.open()
        self.hold("second")
        self.valid = "second"
        (self.folder / "broken").touch()
        with patch("aind_data_transfer_service.upload.credentials._RENEW_EVERY", 0.0):
            self.assertEqual(self.send(store, 2, 1), 2)
        self.assertIn("could not be refreshed: ", self.told[0])
        self.assertIn("the vault is sealed", self.told[0])

    def test_a_refresh_that_never_succeeds_ends_with_the_reason(self):
        store = self.open(seconds=0.3)
        (self.folder / "process.py").write_text("print('no JSON')")
        self.valid = "second"
        with self.assertRaisesRegex(TransferError, "ExpiredToken; AWS .*not be refresh.*given up"):
            store.put("a/x", b"1")

    def test_keys_that_botocore_cannot_refresh_are_used_until_the_server_refuses_them(self):
        now = [0.0]
        credentials = Credentials(clock=lambda: now[0])
        (self.folder / "broken").touch()
        now[0] += 60
        with self.assertLogs("aind_data_transfer_service.upload.credentials", "WARNING"):
            self.assertEqual(credentials.keys().access_key, "first")
        self.hold("second", seconds=-5)  # botocore raises RuntimeError
        now[0] += 60
        with self.assertLogs("aind_data_transfer_service.upload.credentials", "WARNING"):
            self.assertEqual(credentials.keys().access_key, "first")
        self.hold("third")
        now[0] += 60
        self.assertEqual(credentials.keys().access_key, "third")
