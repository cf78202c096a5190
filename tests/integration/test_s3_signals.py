"""Jobs that get a signal while they wait for a real S3 server (SeaweedFS) that gives no answer."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import ExitCode
from tests.support import seaweedfs, wait_until
from tests.support.fault_proxy import FaultProxy, Trouble, nothing
from tests.support.transfer import PREFIX, TransferTestCase

MEBI = 1024**2
SECONDS = 10.0
"""Within which a job has to end."""
_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


class From:
    """Troubles every request from the first that fits on.

    Parameters
    ----------
    trouble : Trouble
        What happens to it.
    fits : Callable
        Says whether a request is meant.
    number : int
        How many requests are troubled before `happened` is set.
    """

    def __init__(self, trouble, fits, number=1):
        self.trouble, self.fits, self.left = trouble, fits, number
        self.happened = threading.Event()

    def __call__(self, asked):
        """Decide on one request."""
        if not self.fits(asked):
            return None
        self.left -= 1
        if self.left <= 0:
            self.happened.set()
        return self.trouble


def is_list(asked):
    """Pick lists of objects."""
    return asked.method == "GET" and "list-type" in asked.target


def is_piece(asked):
    """Pick pieces of a long list, which are asked for at once."""
    return is_list(asked) and "start-after" in asked.target


def is_small(asked):
    """Pick small files of the asset."""
    return asked.method == "PUT" and "/behavior/small/" in asked.target


def is_part(asked):
    """Pick parts of large files."""
    return asked.method == "PUT" and "/behavior/" in asked.target and "partNumber" in asked.target


def is_delete(asked):
    """Pick the removal of the lease when the asset is verified."""
    return asked.method == "DELETE" and asked.target.split("?")[0].endswith("in-progress.json")


class SignalsTestCase(TransferTestCase):
    """Gives each test a bucket, a proxy before the server, and a session."""

    destination = "s3://"

    def setUp(self):
        """Make them."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.proxy = self.enterContext(FaultProxy(_server.endpoint_url))
        self.endpoint_url = self.proxy.endpoint_url
        self.events = self.folder / "events.jsonl"
        for number in range(20):
            self.write(f"small/{number:04}", b"data")

    def start(self, **more):
        """Start a job with the budget for retries that is the default."""
        environment = {
            **os.environ,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "AWS_ENDPOINT_URL": self.proxy.endpoint_url,
            "UPLOAD_EVENTS_FILE": str(self.events),
            "UPLOAD_CONNECTIONS": "8",
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
            **more,
        }
        command = [sys.executable, "-m", "aind_data_transfer_service.upload"]
        job = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.addCleanup(job.stderr.close)
        self.addCleanup(job.wait, 30)
        self.addCleanup(job.kill)
        return job

    def stop(self, job, number=signal.SIGTERM):
        """Send a signal; give the exit code, the last event and the last line of the log."""
        before = time.monotonic()
        job.send_signal(number)
        _, errors = job.communicate(timeout=60)
        self.assertLess(time.monotonic() - before, SECONDS)
        event = json.loads(self.events.read_bytes().splitlines()[-1])
        return job.returncode, event, errors.splitlines()[-1]

    def check_terminated(self, schedule, step):
        """Have a job terminated in the middle of trouble, and bring its asset home."""
        self.proxy.begin(schedule)
        job = self.start()
        self.assertTrue(schedule.happened.wait(60))
        code, event, line = self.stop(job)
        self.assertEqual(code, ExitCode.TERMINATED)
        self.assertEqual((event["kind"], event["step"]), ("fail", step))
        self.assertEqual((event["figures"], event["message"]), ({"exit_code": 143}, line))
        self.assertIn("terminated by SIGTERM", line)
        self.proxy.begin(nothing)
        self.run_job()
        stored = self.stored()
        for path in self.source.rglob("*"):
            if path.is_file():
                name = f"behavior/{path.relative_to(self.source)}"
                self.assertEqual(stored[name], path.read_bytes(), name)


class TestSignals(SignalsTestCase):
    """A job ends within ten seconds, and a further one completes the asset."""

    def test_in_a_pause_before_a_retry(self):
        self.check_terminated(From(Trouble.ERROR, is_list, 2), "preflight")

    def test_at_a_list_that_does_not_come(self):
        self.check_terminated(From(Trouble.STALL, is_list), "preflight")

    def test_at_small_files_that_are_not_acknowledged(self):
        self.check_terminated(From(Trouble.STALL, is_small), "transfer")

    def test_at_small_files_that_are_refused_for_a_while(self):
        self.check_terminated(From(Trouble.SLOW_DOWN, is_small, 12), "transfer")

    def test_at_parts_that_are_not_acknowledged(self):
        self.write("large", os.urandom(20 * MEBI))
        self.check_terminated(From(Trouble.STALL, is_part), "transfer")

    def test_at_pieces_of_a_long_list_that_do_not_come(self):
        for number in range(1000):
            self.write(f"small/{number:04}", b"data")
        self.check_terminated(From(Trouble.STALL, is_piece), "verify")

    def test_at_pieces_of_a_long_list_that_are_refused_for_a_while(self):
        for number in range(1000):
            self.write(f"small/{number:04}", b"data")
        self.check_terminated(From(Trouble.ERROR, is_piece, 2), "verify")

    def test_while_the_store_is_away(self):
        self.write("large", os.urandom(20 * MEBI))
        started = threading.Event()
        self.proxy.begin(lambda asked: started.set() if is_part(asked) else None)
        job = self.start()
        self.assertTrue(started.wait(60))
        self.proxy.__exit__()  # nobody listens any more
        code, event, _ = self.stop(job)
        self.assertEqual((code, event["figures"]), (ExitCode.TERMINATED, {"exit_code": 143}))

    def test_after_the_asset_is_published_the_job_has_done_its_work(self):
        schedule = From(Trouble.STALL, is_delete)
        self.proxy.begin(
            lambda asked: schedule(asked) if self.is_published(asked) else None,
        )
        self.published = False
        job = self.start()
        self.assertTrue(schedule.happened.wait(60))
        code, event, _ = self.stop(job)
        self.assertEqual((code, event["kind"], event["step"]), (ExitCode.DONE, "end", "done"))

    def is_published(self, asked):
        """Tell whether the manifest has been sent."""
        self.published |= asked.method == "PUT" and asked.target.endswith("manifest.jsonl")
        return self.published

    def test_each_signal_lets_another_machine_go_on_at_once(self):
        """The lease is released: else the next job would wait until that has expired."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
            with self.subTest(number):
                schedule = From(Trouble.SLOW_DOWN, is_small)
                self.proxy.begin(schedule)
                self.events = self.folder / f"{number.name}.jsonl"
                job = self.start(UPLOAD_STATE_DIR=str(self.folder / number.name))
                self.assertTrue(schedule.happened.wait(60))  # perhaps by the job before this one
                wait_until(self.events.exists, 60, "the job to begin")
                self.stop(job, number)
        self.proxy.begin(nothing)
        before = time.monotonic()
        self.run_job(self.settings(upload_state_dir=self.folder / "another"))
        self.assertLess(time.monotonic() - before, SECONDS)
        self.assertEqual(len(self.manifest()), len(self.stored(PREFIX)))
