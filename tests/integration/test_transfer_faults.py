"""A transfer through a network and a server that fail in every way that the proxy knows.

Whatever happens, either the asset ends verified, or the job fails within its budget with the
first cause named, and a job that runs when all is well again brings it to its end. Never does a
wrong byte stay, and never an upload in parts that nobody will complete.
"""

import json
import os
import shlex
import sys
import time
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import UploadError
from aind_data_transfer_service.storage.s3 import http
from tests.support import campaign, seaweedfs
from tests.support.fault_proxy import FaultProxy, Seeded, Trouble, nothing
from tests.support.https import ca_file, server_context
from tests.support.transfer import PREFIX, TransferTestCase

MEBI = 1024**2
PATIENCE = 12.0
"""Seconds that a job tries a request again."""
_OTHER_KEY = "other"
_server = seaweedfs.Shared(other=(f"{_OTHER_KEY}-secret", ["Admin", "Read", "Write", "List"]))
setUpModule, tearDownModule = _server.begin, _server.end
_PROCESS = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[1])
keys = json.loads(file.read_text())
file.write_text(json.dumps(keys[1:] + keys[:1]))
print(json.dumps({"Version": 1, **keys[0]}))
"""
"""Prints another pair of keys each time that it runs."""


class FaultsTestCase(TransferTestCase):
    """Gives each test a bucket, a proxy before the server, and a session."""

    destination = "s3://"
    is_encrypted = False
    """Whether the job speaks TLS, as it does with Amazon."""

    def setUp(self):
        """Make them."""
        super().setUp()
        trust = {"AWS_CA_BUNDLE": str(ca_file())} if self.is_encrypted else {}
        self.enterContext(patch.dict(os.environ, _server.env | trust))
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        tls = server_context() if self.is_encrypted else None
        self.enterContext(patch.object(http, "_LONG_OPENING", 0.0))  # else a matter of chance
        self.proxy = self.enterContext(FaultProxy(_server.endpoint_url, tls=tls))
        self.endpoint_url = self.proxy.endpoint_url
        self.write("a.bin", os.urandom(3 * 8 * MEBI + 1))
        self.write("b.bin", os.urandom(2 * 8 * MEBI))
        for number in range(60):
            self.write(f"small/{number:02}.bin", os.urandom(number * 300))

    def renew_keys(self):
        """Have keys come from a process that has others whenever it is asked."""
        names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY"}
        first = {field: os.environ[name] for field, name in names.items()}
        second = {"AccessKeyId": _OTHER_KEY, "SecretAccessKey": f"{_OTHER_KEY}-secret"}
        (self.folder / "keys").write_text(json.dumps([first, second]))
        (self.folder / "process.py").write_text(_PROCESS)
        words = (sys.executable, "-S", self.folder / "process.py", self.folder / "keys")
        command = shlex.join(map(str, words))
        (self.folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
        self.enterContext(patch.dict(os.environ, AWS_CONFIG_FILE=str(self.folder / "config")))
        for name in names.values():
            del os.environ[name]

    def settings(self, **more):
        """Give up soon."""
        return super().settings(**{"upload_retry_seconds": PATIENCE, **more})

    def assert_whole(self, words=""):
        """Compare what the server has, asked past the proxy, with the source."""
        self.proxy.schedule = nothing
        stored = self.stored()
        self.assertEqual(set(self.manifest()), set(stored), words)
        for path in self.source.rglob("*.bin"):
            name = f"behavior/{path.relative_to(self.source)}"
            self.assertEqual(stored.get(name), path.read_bytes(), f"{name}: {words}")
        self.assertEqual(seaweedfs.parts_left(_server, self.bucket), [], words)
        records = [item.key for item in self.store.objects(f".transfer/{PREFIX}")]
        self.assertEqual(records, [f".transfer/{PREFIX}/manifest.jsonl"], words)
        self.assertEqual(self.left_of_the_journal(), [], words)

    def left_of_the_journal(self):
        """List what this machine still knows of the transfer."""
        return [p for p in (self.folder / "data").rglob("*") if p.is_file()]

    def bring_home(self, words):
        """Run the job; where it fails, run it again with all well, and see that it says why."""
        begun = time.monotonic()
        try:
            self.run_job()
        except UploadError as error:
            self.assertLess(time.monotonic() - begun, 6 * PATIENCE, words)
            self.assertTrue(str(error), words)
            self.proxy.schedule = nothing
            self.run_job()
        self.assert_whole(words)


class OneTroubleTestCase(FaultsTestCase):
    """One kind of trouble alone: it happens to every request once, unless that takes too long."""

    def survive(self, trouble, share=1.0):
        """Bring an asset home in one go, in spite of it."""
        self.proxy.schedule = Seeded(1, [trouble], share, most=1)
        self.run_job()
        self.assertGreater(self.proxy.troubled[trouble], 3, "it happened")
        self.assert_whole(f"{trouble.name}, seed 1")


class TestBrokenConnections(OneTroubleTestCase):
    """What a network does."""

    def test_resets_are_borne(self):
        self.survive(Trouble.RESET)

    def test_bodies_cut_in_the_middle_are_sent_again(self):
        self.survive(Trouble.CUT)

    def test_a_server_that_is_away_is_waited_for(self):
        self.survive(Trouble.REFUSE, 0.1)

    def test_a_stalled_connection_is_given_up_and_another_made(self):
        self.survive(Trouble.STALL, 0.08)

    def test_answers_cut_off_are_asked_for_again(self):
        self.survive(Trouble.TRUNCATE)

    def test_an_answer_that_got_lost_does_no_harm(self):
        self.survive(Trouble.LOSE)


class TestBrokenConnectionsOverTls(TestBrokenConnections):
    """The same where all is encrypted: connections break in other ways, and time out in others."""

    is_encrypted = True


class TestRefusals(OneTroubleTestCase):
    """What a server does, or says."""

    def test_late_answers_are_waited_for(self):
        self.survive(Trouble.LATE)

    def test_damaged_bodies_are_refused_and_sent_again(self):
        self.survive(Trouble.CORRUPT)

    def test_a_damaged_list_of_what_to_delete_is_sent_again(self):
        def every_other(asked):
            is_list = asked.method == "POST" and asked.target.endswith("?delete=")
            return Trouble.CORRUPT if is_list and asked.attempt % 2 == 0 else None

        self.proxy.schedule = every_other
        self.run_job()
        self.assertGreater(self.proxy.troubled[Trouble.CORRUPT], 1, "it happened")
        self.assert_whole()

    def test_internal_errors_are_borne(self):
        self.survive(Trouble.ERROR)

    def test_a_server_that_asks_for_patience_gets_it(self):
        self.survive(Trouble.SLOW_DOWN)

    def test_keys_that_expire_are_renewed(self):
        self.renew_keys()
        self.survive(Trouble.EXPIRED, 0.3)

    def test_a_clock_that_differs_is_set_by_the_servers(self):
        self.survive(Trouble.SKEWED)


class TestMixedTroubles(FaultsTestCase):
    """Everything at once, by several seeds."""

    def test_whatever_happens_the_asset_ends_whole(self):
        self.renew_keys()
        for seed in range(campaign(4)):
            with self.subTest(seed=seed):
                self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
                troubles = [trouble for trouble in Trouble if trouble is not Trouble.STALL]
                self.proxy.begin(Seeded(seed, troubles, 0.3))
                self.bring_home(f"seed {seed}")
                self.assertGreater(sum(self.proxy.troubled.values()), 10)


class TestNoEnd(FaultsTestCase):
    """Trouble that does not pass while the job runs."""

    def fail(self, trouble, pattern, where=lambda asked: ".bin" in asked.target):
        """Trouble every request for data; see the first cause named, and the next job succeed."""
        self.proxy.schedule = lambda asked: trouble if where(asked) else None
        begun = time.monotonic()
        with self.assertRaisesRegex(UploadError, pattern) as caught:
            self.run_job(self.settings(upload_retry_seconds=3))
        self.assertLess(time.monotonic() - begun, 20, "within the budget")
        self.assertNotIn("\n", str(caught.exception))
        self.proxy.schedule = nothing
        self.run_job()
        self.assert_whole()

    def test_a_server_that_only_errs_is_given_up_with_its_words(self):
        self.fail(Trouble.ERROR, "InternalError.*given up after")

    def test_a_server_that_asks_for_ever_more_patience_is_given_up(self):
        self.fail(Trouble.SLOW_DOWN, "SlowDown.*given up after")

    def test_connections_that_always_break_are_given_up(self):
        self.fail(Trouble.CUT, "connection (broke|was).*given up after")

    def test_a_server_that_never_answers_is_given_up(self):
        self.fail(Trouble.STALL, "no byte moved.*given up after")

    def test_a_network_that_damages_everything_is_named(self):
        self.fail(Trouble.CORRUPT, "what arrived was not what was sent")

    def test_expired_keys_are_named_where_there_are_no_others(self):
        self.fail(Trouble.EXPIRED, "ExpiredToken")

    def test_the_first_cause_is_named_and_not_only_the_last(self):
        troubles = {0: Trouble.SLOW_DOWN}

        def schedule(asked):
            if ".bin" not in asked.target:
                return None
            return troubles.get(asked.attempt, Trouble.ERROR)

        self.proxy.schedule = schedule
        with self.assertRaisesRegex(UploadError, "SlowDown.*given up after.*last: InternalError"):
            self.run_job(self.settings(upload_retry_seconds=2))

    def test_parts_that_arrived_are_not_sent_again_by_the_next_job(self):
        last = "partNumber=4"
        self.proxy.schedule = lambda asked: Trouble.ERROR if last in asked.target else None
        with self.assertRaises(UploadError):
            self.run_job(self.settings(upload_retry_seconds=2))
        self.proxy.schedule = nothing
        before = self.proxy.bytes_received
        self.run_job()
        self.assertLess(self.proxy.bytes_received - before, 18 * MEBI)
        self.assert_whole()
