"""Keys that expire while requests are in flight."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import DestinationError, ExitCode, TransferError
from aind_data_transfer_service.storage.base import Conduct
from aind_data_transfer_service.storage.model import Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.credentials import Credentials
from tests.support import slow, wait_until
from tests.support.scripted import OK, Scripted, refusal
from tests.support.transfer import TransferTestCase

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
class ProfileTest(unittest.TestCase):
    """A profile in a folder of the test's own, and nothing of this machine's AWS settings."""

    def setUp(self):
        """Make the folder."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        environment |= {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_CONFIG_FILE": str(self.folder / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))


class TestRenewedKeys(ProfileTest):
    """A `credential_process`, and a server that refuses keys as expired."""

    def setUp(self):
        """Make a profile whose keys a process prints."""
        super().setUp()
        (self.folder / "process.py").write_text(_PROCESS)
        words = (sys.executable, "-S", self.folder / "process.py", self.folder)
        command = shlex.join(map(str, words))
        (self.folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
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
        with patch("aind_data_transfer_service.storage.s3.credentials._RENEW_EVERY", 0.0):
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
        with self.assertLogs("aind_data_transfer_service.storage.s3.credentials", "WARNING"):
            self.assertEqual(credentials.keys().access_key, "first")
        self.hold("second", seconds=-5)  # botocore raises RuntimeError
        now[0] += 60
        with self.assertLogs("aind_data_transfer_service.storage.s3.credentials", "WARNING"):
            self.assertEqual(credentials.keys().access_key, "first")
        self.hold("third")
        now[0] += 60
        self.assertEqual(credentials.keys().access_key, "third")


class TestProcessWithoutEnd(ProfileTest):
    """A `credential_process` that hangs, prints for ever, or leaves a process behind."""

    KEYS = '{"Version": 1, "AccessKeyId": "k", "SecretAccessKey": "s"}'

    def setUp(self):
        """Keep what is told."""
        super().setUp()
        self.told = []

    def fetch(self, script, seconds=0.0, limit=0.3):
        """Fetch keys from a process that runs a script of the shell."""
        (self.folder / "process").write_text(f"cd {self.folder}\n{script}\n")
        command = f"/bin/sh {self.folder}/process"
        (self.folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
        with patch("aind_data_transfer_service.storage.s3.credentials._PROCESS_SECONDS", limit):
            return Credentials(seconds=seconds, tell=self.told.append)

    def is_killed(self, name):
        """Tell whether a process whose id is in a file is gone; its end may yet be unread."""
        status = Path("/proc", (self.folder / name).read_text().strip(), "stat")
        try:
            return status.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def assert_killed(self, name):
        """Make sure that a process whose id is in a file is gone."""
        self.assertTrue(self.is_killed(name))

    def test_one_that_hangs_is_killed_with_its_children(self):
        script = "echo $$ >own; sleep 60 & echo $! >child; wait"
        with self.assertRaisesRegex(DestinationError, "sh did not end within 0.3 s, and was kil"):
            self.fetch(script)
        self.assert_killed("own")
        self.assert_killed("child")

    def test_one_that_hangs_with_its_output_closed_is_killed(self):
        with self.assertRaisesRegex(DestinationError, "did not end within 0.3 s"):
            self.fetch("exec >&- 2>&-; echo $$ >own; sleep 60")
        self.assert_killed("own")

    def test_one_that_prints_for_ever_is_killed(self):
        with self.assertRaisesRegex(DestinationError, "printed more than 65,536 bytes, and was k"):
            self.fetch("echo $$ >own; exec yes", limit=30)
        self.assert_killed("own")

    def test_errors_without_end_are_cut(self):
        with self.assertRaisesRegex(DestinationError, "did not end within 0.3 s"):
            self.fetch("exec yes >&2")

    def test_a_child_that_holds_the_pipe_open_does_not_keep_the_keys(self):
        script = f"sleep 60 & echo $! >child; echo '{self.KEYS}'"
        self.assertEqual(self.fetch(script, limit=30).keys().access_key, "k")
        self.assert_killed("child")

    def test_one_that_fails_says_why(self):
        with self.assertRaisesRegex(DestinationError, "the vault is sealed"):
            self.fetch("echo the vault is sealed >&2; exit 3", limit=30)

    def test_a_first_fetch_that_fails_is_retried(self):
        script = f"[ -e second ] || {{ touch second; exec sleep 60; }}; echo '{self.KEYS}'"
        self.assertEqual(self.fetch(script, seconds=20.0).keys().access_key, "k")
        self.assertIn("sh did not end within 0.3 s, and was killed (1)", self.told[0])

    def test_a_first_fetch_that_never_succeeds_ends_with_the_reason(self):
        with self.assertRaisesRegex(
            DestinationError,
            "no AWS credentials could be had: .*the vault is sealed; given up after",
        ):
            self.fetch("echo the vault is sealed >&2; exit 3", seconds=0.3, limit=30)

    def test_one_that_is_not_there_is_not_retried(self):
        (self.folder / "config").write_text("[default]\ncredential_process = /nowhere/x\n")
        with self.assertRaisesRegex(DestinationError, "/nowhere/x cannot be started: No such"):
            Credentials(seconds=60.0, tell=self.told.append)
        self.assertEqual(self.told, [])

    def job(self, script: str) -> subprocess.Popen[bytes]:
        """Start a job whose keys come from a script of the shell, as leader of a group."""
        (self.folder / "process").write_text(script)
        command = f"/bin/sh {self.folder}/process"
        (self.folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
        session = TransferTestCase()
        session.source = self.folder
        environment = {
            **os.environ,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "UPLOAD_JOB_JSON_ARGS": session.config().model_dump_json(),
        }
        command = [sys.executable, "-m", "aind_data_transfer_service.upload"]
        return subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, process_group=0
        )

    def test_a_job_that_waits_for_its_first_keys_ends_on_a_signal(self):
        with self.job(f"touch {self.folder}/asked; exec sleep 60") as job:
            try:
                wait_until((self.folder / "asked").exists, 60, "the job to ask for keys")
                began = time.monotonic()
                job.terminate()
                self.assertEqual(job.wait(30), ExitCode.TERMINATED)
                self.assertLess(time.monotonic() - began, 10)
            finally:
                job.kill()

    def test_a_command_does_not_outlive_a_job_that_is_killed(self):
        script = f"cd {self.folder}; sleep 60 & echo $! >child; echo $$ >own; wait"
        own = self.folder / "own"
        for of_group in (False, True):
            own.unlink(missing_ok=True)
            with self.subTest(of_group=of_group), self.job(script) as job:
                wait_until(lambda: own.exists() and own.read_text().endswith("\n"), 60, "command")
                (os.killpg if of_group else os.kill)(job.pid, signal.SIGKILL)
                job.wait(30)
                for name in ("own", "child"):
                    wait_until(lambda: self.is_killed(name), 10, f"the end of {name}")
