"""Transfers that are ended at 100 random moments and run again, on three machines in turn.

Each attempt is a process against a real server. It is ended by SIGKILL or SIGTERM after some
seconds, bytes or requests; the next one runs on one of three machines, each with a state folder of
its own. Meanwhile keys expire, and three of four stores are difficult with conditional writes.

In the end every asset is byte for byte the session and proven, and nothing else is there. A failure
prints the seed that the moments follow from, and `TRANSFER_SEED` in the environment sets it.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.upload.plan.plan import PART_SIZE
from tests.support import campaign, seaweedfs
from tests.support.ending_proxy import Attempt, EndingProxy, Moment, Store, When
from tests.support.transfer import TransferTestCase
from tests.support.upload_process import await_job, fork_job

MEBI = 1024**2
SERIES, MOMENTS = campaign(10), 10
"""Each series is ended this often, at one asset after the other."""
AT_ONCE = 5
"""Series that run at the same time: most of an attempt is spent waiting."""
MACHINES = 3
CONNECTIONS = 2
LARGE = (2 * PART_SIZE + 4 * MEBI + 7, PART_SIZE + MEBI)
SMALL_FILES, SMALL_SIZE = 40, 20_000
REQUESTS = 45
"""About as many as a machine makes that sends all of an asset, but for those for small files."""
DOCUMENTS = {"data_description.json", "metadata.nd.json", "processing.json"}
SENT_TWICE = 0.25
"""The share of its bytes that a machine may send again, on average. What is in flight when an
attempt is ended, at most two of five parts, is lost; most attempts end before or after that."""
SECONDS = 10.0
"""Within which a job ends after SIGTERM."""
TIMING = json.dumps(
    {"ttl": 1.0, "interval": 0.15, "margin": 0.3, "look_every": 0.1, "patience": 60}
)
KEYS = {f"key{number}": f"secret{number}" for number in range(4)}
_server: seaweedfs.SeaweedFS = None  # type: ignore[assignment]


def setUpModule():
    """Start the server."""
    global _server
    actions = ["Admin", "Read", "Write", "List"]
    _server = seaweedfs.start(**{name: (secret, actions) for name, secret in KEYS.items()})


def tearDownModule():
    """Stop it."""
    _server.stop()


def is_part(key: str) -> bool:
    """Return whether something that was sent is a part of a large file."""
    return " " in key


@dataclass
class Asset:
    """An asset, and what was seen on its way."""

    prefix: str
    request: str
    job_id: str | None
    """Of a job that is queued again; None if each attempt is a new job."""
    proxy: EndingProxy
    codes: list[int | None] = field(default_factory=list)
    words: str = ""

    def repeated(self) -> Counter[int]:
        """Count, by attempt, the acknowledged parts that its machine sent again later."""
        return Counter(
            one.attempt
            for (_, key), sent in self.proxy.sent.items()
            for one in [one for one in sent if one.is_acknowledged][:-1]
            if is_part(key)
        )

    def bytes_sent(self) -> tuple[int, int, int]:
        """Return how many bytes each machine sent once, again, and in vain with an old key."""
        once = again = refused = 0
        for sent in self.proxy.sent.values():
            came = sum(one.came for one in sent if not one.is_refused)
            refused += sum(one.came for one in sent if one.is_refused)
            once += min(came, sent[0].size)
            again += max(0, came - sent[0].size)
        return once, again, refused


class TestKilled(TransferTestCase):
    """Jobs that are ended again and again."""

    destination = "s3://"

    def setUp(self):
        """Make a session of large and small files, and a bucket."""
        super().setUp()
        self.seed = int(os.environ.get("TRANSFER_SEED") or random.randrange(2**32))
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.client = _server.client
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        chance = random.Random(self.seed)
        for number, size in enumerate(LARGE):
            self.write(f"large{number}.bin", chance.randbytes(size))
        for number in range(SMALL_FILES):
            self.write(f"small/{number:03}.bin", chance.randbytes(SMALL_SIZE))
        self.digests = {
            f"behavior/{path.relative_to(self.source)}": hashlib.sha256(path.read_bytes())
            for path in self.source.rglob("*.bin")
        }
        self.size = sum(LARGE) + SMALL_FILES * SMALL_SIZE
        self.assets: list[Asset] = []

    def machine(self, number: int) -> Path:
        """Return the state folder of a machine."""
        return self.folder / f"machine{number}"

    def open_asset(self, series: int, number: int, chance: random.Random) -> Asset:
        """Choose the name, the store and the job of an asset."""
        moment = f"2024-02-{1 + series % 28:02}T{series // 28:02}:{number:02}:00"
        config = self.config(acq_datetime=moment)
        folder = self.folder / f"keys-{config.s3_prefix}"
        folder.mkdir()
        (folder / "config").write_text(
            f"[default]\ncredential_process = /bin/cat {folder / 'keys'}\n"
        )
        proxy = EndingProxy(
            _server.endpoint_url,
            prefix=config.s3_prefix,
            store=list(Store)[(series + number) % len(Store)],
            keys=list(KEYS.items()),
            keys_file=folder / "keys",
            chance=random.Random(chance.random()),
        )
        job_id = chance.choice((None, f"job-{config.s3_prefix}"))
        words = f"series {series}, {config.s3_prefix}, {proxy.store.name}, seed {self.seed}"
        asset = Asset(config.s3_prefix, config.model_dump_json(), job_id, proxy, words=words)
        self.assets.append(asset)
        return asset

    def run_attempt(self, asset: Asset, machine: int, moment: Moment | None) -> Attempt:
        """Run the job once, ended at a moment if that comes."""
        attempt = Attempt(machine, moment)
        asset.proxy.begin_attempt(attempt)
        keys = asset.proxy.keys_file.parent
        dropped = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        environment = {name: v for name, v in os.environ.items() if name not in dropped}
        environment |= {
            "AWS_CONFIG_FILE": str(keys / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(keys / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": asset.proxy.endpoint_url,
            "DESTINATION": "s3://",
            "DATA_DIR": str(self.machine(machine)),
            "UPLOAD_CONNECTIONS": str(CONNECTIONS),
            "UPLOAD_RETRY_SECONDS": "30",
            "UPLOAD_JOB_JSON_ARGS": asset.request,
            "JOB_ID": asset.job_id or uuid.uuid4().hex,
        }
        errors = self.folder / f"errors-{uuid.uuid4().hex}"
        attempt.process = job = fork_job(environment, TIMING, errors)
        timer = None
        if moment is not None and moment.when is When.CLOCK:
            timer = threading.Timer(moment.amount, attempt.end)
            timer.start()
        try:
            asset.codes.append(await_job(job, 120))
            attempt.seconds = time.monotonic() - attempt.seconds if attempt.is_ended else 0.0
        finally:
            if timer is not None:
                timer.cancel()
            job.kill()
        self.check_end(asset, attempt, errors.read_text() if errors.exists() else "")
        return attempt

    def check_end(self, asset: Asset, attempt: Attempt, errors: str) -> None:
        """Make sure that an attempt ended as it may."""
        words = f"attempt {len(asset.codes)}, {attempt.moment}: {errors}; {asset.words}"
        allowed = {int(ExitCode.DONE)}
        if attempt.is_ended:
            is_killed = attempt.moment.number == signal.SIGKILL
            allowed |= {-9} if is_killed else {-15, int(ExitCode.TERMINATED)}
        if asset.job_id is None and self.is_published(asset):
            allowed.add(int(ExitCode.DESTINATION_EXISTS))
        self.assertIn(asset.codes[-1], allowed, words)
        self.assertLess(attempt.seconds, SECONDS, words)

    def is_published(self, asset: Asset) -> bool:
        """Return whether an asset has a manifest."""
        key = f".transfer/{asset.prefix}/manifest.jsonl"
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=key)
        return bool(found["KeyCount"])

    def run_series(self, series: int) -> None:
        """Bring one asset after the other, until attempts were ended as often as is wanted."""
        chance, left, number = random.Random(f"{self.seed} {series}"), MOMENTS, 0
        while left:
            asset = self.open_asset(series, number, chance)
            ends, machine = min(left, chance.randint(2, 7)), 0
            with asset.proxy:
                while True:
                    machine = chance.choice((machine, machine, *range(MACHINES)))
                    moment = Moment.draw(chance, self.size, REQUESTS) if ends else None
                    attempt = self.run_attempt(asset, machine, moment)
                    ends, left = ends - attempt.is_ended, left - attempt.is_ended
                    if asset.codes[-1] in (ExitCode.DONE, ExitCode.DESTINATION_EXISTS):
                        break
            number += 1

    def test_ended_a_hundred_times_every_asset_is_whole_and_hardly_anything_was_sent_twice(self):
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.run_series, range(SERIES)))
        ran = time.monotonic() - began
        self.clean()
        for asset in self.assets:
            with self.subTest(asset.words):
                self.check(asset)
                self.check_sent(asset)
        places = [f"s3://{self.bucket}/{asset.prefix}" for asset in self.assets]
        self.command("verify", "--deep", *places)
        self.check_nothing_else_is_there()
        self.report(ran, time.monotonic() - began)

    def command(self, *arguments: str, machine: int = 0) -> str:
        """Run a command of the product on a machine, and return what it prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            with patch.dict(os.environ, {"DATA_DIR": str(self.machine(machine))}):
                code = main.main(list(arguments))
        self.assertEqual(code, 0, f"{arguments}: {out.getvalue()}; seed {self.seed}")
        return out.getvalue()

    def clean(self) -> None:
        """Remove what dead jobs left, on each machine."""
        for number in range(MACHINES):
            self.command("clean", f"s3://{self.bucket}", "--older-than", "0m", machine=number)

    def check(self, asset: Asset) -> None:
        """Compare what is stored of an asset with the session, and with its manifest."""
        client, skip = self.client, len(asset.prefix) + 1
        found = client.list_objects_v2(Bucket=self.bucket, Prefix=f"{asset.prefix}/")["Contents"]
        listed = {one["Key"][skip:]: one for one in found}
        key = f".transfer/{asset.prefix}/manifest.jsonl"
        body = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        header, *entries = map(json.loads, body.splitlines())
        self.assertEqual(header["files"], len(entries))
        self.assertEqual({entry["path"] for entry in entries}, set(listed))
        self.assertEqual(set(self.digests) | DOCUMENTS, set(listed))
        for entry in entries:
            key = f"{asset.prefix}/{entry['path']}"
            data = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            digest = hashlib.sha256(data).hexdigest()
            stored = listed[entry["path"]]
            self.assertEqual((entry["size"], entry["sha256"]), (len(data), digest), key)
            self.assertEqual(entry["etag"].strip('"'), stored["ETag"].strip('"'), key)
            if entry["path"].startswith("behavior/"):
                self.assertEqual(digest, self.digests[entry["path"]].hexdigest(), key)

    def check_sent(self, asset: Asset) -> None:
        """Make sure that no machine sent parts again that it knew to have arrived.

        It does not know of those in flight when an attempt was ended: the store may have
        acknowledged them, but nobody had read that.
        """
        for number, parts in asset.repeated().items():
            words = f"attempt {number + 1}, {asset.proxy.attempts[number]}"
            self.assertLessEqual(parts, CONNECTIONS, words)

    def check_nothing_else_is_there(self) -> None:
        """Make sure that the bucket has the assets and their manifests, and no unfinished part.

        A probe that a killed attempt left stays until it is older than any job that may need it.
        """
        words = f"seed {self.seed}"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = {one["Key"] for page in pages for one in page["Contents"]}
        keys = {key for key in keys if "/probe-" not in key}
        records = {key for key in keys if key.startswith(".transfer/")}
        prefixes = {asset.prefix for asset in self.assets}
        manifests = {f".transfer/{prefix}/manifest.jsonl" for prefix in prefixes}
        self.assertEqual(records, manifests, words)
        self.assertEqual({key.partition("/")[0] for key in keys - records}, prefixes, words)
        self.assertEqual(seaweedfs.parts_left(_server, self.bucket), [], words)

    def report(self, ran: float, took: float) -> None:
        """Print what was done, and make sure that it was."""
        attempts = [attempt for asset in self.assets for attempt in asset.proxy.attempts]
        published = sum(one.is_ended and one.published > 0 for one in attempts)
        ended = [attempt.moment for attempt in attempts if attempt.is_ended]
        longest = max(attempt.seconds for attempt in attempts)
        self.assertEqual(len(ended), SERIES * MOMENTS)
        sent = zip(*(asset.bytes_sent() for asset in self.assets))
        once, again, refused = map(sum, sent)
        renewals = sum(asset.proxy.renewals for asset in self.assets)
        codes = [code for asset in self.assets for code in asset.codes]
        kills = sum(moment.number == signal.SIGKILL for moment in ended)
        figures = (
            f"seed {self.seed}: {len(self.assets)} assets, {len(attempts)} attempts, {len(ended)} "
            f"ended ({kills} by SIGKILL, {published} after the manifest), {renewals} keys; "
            f"exit codes { {code: codes.count(code) for code in set(codes)} }; sent again "
            f"{again / once:.3f}, refused with old keys {refused / once:.3f}, by all machines "
            f"{once / self.size / len(self.assets):.2f} of the session; SIGTERM to end "
            f"{longest:.1f} s at most; {ran:.0f} s, with the checks {took:.0f} s"
        )
        self.assertLess(again, SENT_TWICE * once, figures)
        if "TRANSFER_SEED" in os.environ:
            print(figures, file=sys.stderr)
