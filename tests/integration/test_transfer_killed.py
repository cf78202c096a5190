"""One transfer, killed with SIGKILL at 50 random moments, and started again each time.

It ends with an asset that is byte for byte the session, and over all attempts hardly anything was
sent twice. What travelled is counted by a proxy before the server.
"""

import hashlib
import os
import random
import subprocess
import sys
import time
import uuid
from unittest.mock import patch

from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.upload.verify import verify
from tests.support import campaign, seaweedfs
from tests.support.fault_proxy import FaultProxy
from tests.support.transfer import PREFIX, TransferTestCase

MEBI = 1024**2
KILLS = campaign(50)
LARGE_FILES, LARGE_SIZE = 6, 600 * MEBI
SMALL_FILES = 400
SENT_TWICE = 0.1
"""The share of all bytes that may travel more than once."""
_EARLY = 0.2
"""The share of kills that come by the clock, most of them before any byte has moved."""
_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


class TestKilled(TransferTestCase):
    """A job that dies again and again."""

    destination = "s3://"

    def setUp(self):
        """Make a session: large files with few bytes that are not zero, and small ones."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.proxy = self.enterContext(FaultProxy(_server.endpoint_url))
        self.endpoint_url = self.proxy.endpoint_url
        for number in range(LARGE_FILES):
            with open(self.write(f"large/{number}.bin"), "r+b") as file:
                for begin in range(0, LARGE_SIZE, MEBI):  # no two parts alike
                    file.seek(begin)
                    file.write(f"{number}-{begin}".encode())
                file.truncate(LARGE_SIZE - number)
        for number in range(SMALL_FILES):
            self.write(f"small/{number:03}.bin", os.urandom(20_000))
        self.size = sum(path.stat().st_size for path in self.source.rglob("*.bin"))

    def start(self):
        """Start the job."""
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.folder / "data"),
            "UPLOAD_CONNECTIONS": "2",
            "UPLOAD_JOB_JSON_ARGS": self.config().model_dump_json(),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "aind_data_transfer_service.upload"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_at(self, chance, kills_left):
        """Start the job and kill it at a moment that chance chooses; tells whether it ended."""
        before = self.proxy.bytes_received
        if chance.random() < _EARLY:
            seconds, more = chance.uniform(0, 0.6), self.size
        else:  # so much at most that something is left for each further kill
            left = max(kills_left * MEBI, 0.95 * self.size - before)
            seconds, more = 120.0, chance.uniform(0, 2 * left / kills_left)
        job = self.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.proxy.bytes_received - before < more:
            if job.poll() is not None:
                break
            time.sleep(0.002)
        job.kill()
        errors = job.communicate()[1]
        self.assertIn(job.returncode, (-9, ExitCode.DONE), errors)
        return job.returncode == ExitCode.DONE

    def test_killed_fifty_times_it_ends_whole_and_sent_hardly_anything_twice(self):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        words = f"seed {seed}"
        for number in range(KILLS):
            ended = self.kill_at(chance, KILLS - number)
            self.assertFalse(ended, f"it ended before kill {number + 1}; {words}")
        job = self.start()
        errors = job.communicate(timeout=300)[1]
        self.assertEqual(job.returncode, ExitCode.DONE, f"{errors}; {words}")
        sent = self.proxy.received["PUT"]
        self.assertLess(sent, (1 + SENT_TWICE) * self.size, words)
        self.assert_whole(words)

    def assert_whole(self, words):
        """Have everything read back and compared with the manifest, and that with the source."""
        self.endpoint_url = _server.endpoint_url
        entries = self.manifest()
        self.assertEqual(verify(self.store, PREFIX, list(entries.values()), deep=True), [])
        for path in self.source.rglob("*.bin"):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = f"behavior/{path.relative_to(self.source)}"
            self.assertEqual(entries[name].sha256, digest, f"{name}; {words}")
        self.assertEqual(seaweedfs.parts_left(_server, self.bucket), [], words)
