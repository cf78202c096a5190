"""Shards of one asset: the cut, the jobs that send them, and the job that completes the whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service.errors import (
    DestinationExistsError,
    TransferError,
    VerificationError,
)
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.base import AssetState
from aind_data_transfer_service.storage.layout import mark_key, record_folder
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.manifest.shard_records import shard_lease_key
from aind_data_transfer_service.upload.plan.items import FileItem
from aind_data_transfer_service.upload.plan.shards import Shard, cost, cut, places_of, worth
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.lease import new_record, read_lease, write_lease
from aind_data_transfer_service.upload.resume.lease_contention import Contender
from aind_data_transfer_service.upload.resume.shard_lock import claim_shard
from aind_data_transfer_service.upload.source.file_table import SourceFile, Tree
from tests.support import slow, wait_until
from tests.support.transfer import PREFIX, Told, TransferTestCase

MEBI = 1024**2
CONTENDER = "aind_data_transfer_service.upload.resume.asset_lock.Contender"
SHARD_CONTENDER = "aind_data_transfer_service.upload.resume.shard_lock.Contender"
SHARDS = 4
SIZES = st.lists(
    st.one_of(st.integers(0, 5000), st.integers(0, 500 * 1024**3)), min_size=0, max_size=120
)


def plan_of(sizes) -> list[FileItem]:
    """Make a plan of files of these sizes."""
    tree = Tree("/session", "behavior")
    return [FileItem(SourceFile(tree, f"{n:04}", size, 1, 1)) for n, size in enumerate(sizes)]


class CutTest(unittest.TestCase):
    """Which shard sends what."""

    @given(SIZES, st.integers(1, 20))
    def test_every_file_is_in_one_shard_whoever_cuts(self, sizes, shards):
        items = plan_of(sizes)
        parts = cut(items, shards)
        self.assertEqual(len(parts), shards)
        self.assertEqual(sorted(place for part in parts for place in part), [*range(len(items))])
        self.assertEqual(parts, cut(plan_of(sizes), shards))

    @given(SIZES, st.integers(1, 20))
    def test_no_two_shards_differ_by_more_than_the_largest_file(self, sizes, shards):
        items = plan_of(sizes)
        loads = [sum(cost(items[place]) for place in part) for part in cut(items, shards)]
        self.assertLessEqual(max(loads) - min(loads), max(map(cost, items), default=0))

    def test_many_small_files_are_shared_out_by_their_number(self):
        self.assertEqual([len(part) for part in cut(plan_of([10] * 1000), 8)], [125] * 8)

    def test_a_small_asset_has_fewer_shards_where_the_size_counts(self):
        sizes = (0, 1, 100, 101, 799, 10_000)
        self.assertEqual([worth(size, 8, 100) for size in sizes], [1, 1, 1, 2, 8, 8])
        self.assertEqual(worth(1, 8, None), 8)
        items = plan_of([50, 50, 50])
        parts = [places_of(items, Shard(n, 8), 100) for n in range(1, 9)]
        self.assertEqual([len(part) for part in parts], [2, 1, 0, 0, 0, 0, 0, 0])

    def test_a_shard_is_named_or_refused(self):
        shard = UploadSettings(job_id="a", upload_shard="3/8").upload_shard
        self.assertEqual(shard, (3, 8))
        for text in ("0/8", "9/8", "3", "x/8", ""):
            with self.subTest(text), self.assertRaisesRegex(ValidationError, "3/8"):
                UploadSettings(job_id="a", upload_shard=text)
        with self.assertRaisesRegex(ValidationError, "JOB_ID is needed"):
            UploadSettings(upload_shard="3/8")
        with self.assertRaisesRegex(ValidationError, "one of the two"):
            UploadSettings(job_id="a", upload_shard="3/8", upload_shards_done=8)


class ShardTestCase(TransferTestCase):
    """A session, and the jobs that send it in shards."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(24):
            self.write(f"part {number % 3}/{number}.bin", os.urandom(1000 * number))
        self.write("large.bin", os.urandom(20 * MEBI))

    def send(self, number: int, job_id: str = "one", told: Told | None = None, **more):
        """Run one shard's job."""
        settings = self.settings(job_id=job_id, upload_shard=(number, SHARDS), **more)
        return UploadJob(self.config(), settings, told or Told()).run()

    def send_all(self, job_id: str = "one", numbers=range(1, SHARDS + 1)) -> list[Told]:
        """Run shards at the same time."""
        told = [Told() for _ in numbers]
        with ThreadPoolExecutor(SHARDS) as pool:
            list(pool.map(lambda n, t: self.send(n, job_id, t), numbers, told))
        return told

    def complete(self, job_id: str = "one", **more):
        """Run the last job."""
        settings = self.settings(job_id=job_id, upload_shards_done=SHARDS, **more)
        return self.run_job(settings)

    def assert_whole(self) -> None:
        """Compare every file with its source, and look at what is left beside the asset."""
        stored = self.stored()
        for path in self.source.rglob("*"):
            if path.is_file():
                key = f"behavior/{path.relative_to(self.source)}"
                self.assertEqual(stored[key], path.read_bytes(), key)
        self.assertEqual(set(self.manifest()), set(stored))
        beside = [o.key for o in self.store.objects(record_folder(PREFIX))]
        self.assertEqual(beside, [f".transfer/{PREFIX}/manifest.jsonl"])
        state = self.folder / "data" / "transfers" / self.bucket / PREFIX
        self.assertFalse(state.exists(), list(state.rglob("*")) if state.exists() else "")

    def records(self) -> dict[str, list[dict]]:
        """Read what shards left beside the asset."""
        folder = f"{record_folder(PREFIX)}/shards"
        return {
            item.key.rsplit("/", 1)[1]: [
                json.loads(line) for line in self.store.get(item.key).splitlines()[1:]
            ]
            for item in self.store.objects(folder)
        }


@slow
class TogetherTest(ShardTestCase):
    """Shards that do their part."""

    def test_shards_at_the_same_time_and_then_the_last_job(self):
        told = self.send_all()
        records = self.records()
        self.assertEqual(set(records), {f"{n}-of-4.jsonl" for n in (1, 2, 3, 4)})
        paths = [line["path"] for lines in records.values() for line in lines]
        self.assertEqual(len(paths), 25)
        self.assertEqual(len(set(paths)), 25)
        progress = [one.figures("transfer", "progress") for one in told]
        self.assertEqual(sum(one["files_done"] for one in progress), 25)
        sizes = sum(p.stat().st_size for p in self.source.rglob("*") if p.is_file())
        self.assertEqual({one["asset_bytes"] for one in progress}, {sizes})
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PARTIAL)
        outcome = self.complete()
        self.assertEqual(self.told.figures("transfer", "end")["bytes_sent"], 0)
        self.assertNotIn("shards", " ".join(self.told.warnings()))
        self.assertEqual(outcome.files, 28)
        self.assert_whole()

    def test_a_small_asset_leaves_the_other_shards_nothing_to_do(self):
        self.send(1, upload_shard_bytes=1024**4)
        self.send(2, upload_shard_bytes=1024**4)
        self.assertEqual([len(lines) for lines in self.records().values()], [25, 0])

    def test_a_shard_that_is_run_again_sends_nothing_again(self):
        self.send(2)
        arrived = {o.key: o.etag for o in self.store.objects(PREFIX)}
        self.send(2)
        self.assertEqual(arrived, {o.key: o.etag for o in self.store.objects(PREFIX)})

    def test_the_lease_is_the_jobs_and_stays_until_all_is_proven(self):
        self.send(1)
        first = json.loads(self.store.get(mark_key(PREFIX)))
        self.send(2)
        second = json.loads(self.store.get(mark_key(PREFIX)))
        for name in ("holder", "fence", "job_id"):
            self.assertEqual(first[name], second[name])
        self.assertEqual((first["job_id"], first["shared"]), ("one", True))
        record = self.store.get(f"{record_folder(PREFIX)}/shards/1-of-4.jsonl")
        self.assertEqual(json.loads(record.splitlines()[0])["fence"], first["fence"])


@slow
class BrokenOffTest(ShardTestCase):
    """Shards that do not."""

    def test_shards_that_never_ran_are_done_by_the_last_job(self):
        self.send_all(numbers=[1, 3])
        self.complete()
        self.assertIn("2 of 4 shards did not end well", " ".join(self.told.warnings()))
        self.assertGreater(self.told.figures("transfer", "end")["files_sent"], 0)
        self.assert_whole()

    def test_without_any_shard_the_last_job_does_all(self):
        self.complete()
        self.assert_whole()

    def kill_a_shard(self) -> set[str]:
        """Kill a shard with SIGKILL when it has sent something, and tell what."""
        for number in range(3000):
            self.write(f"many/{number}", str(number))
        environment = {
            **os.environ,
            "DESTINATION": self.destination or str(self.folder / "store"),
            "DATA_DIR": str(self.folder / "data"),
            "JOB_ID": "one",
            "UPLOAD_SHARD": f"2/{SHARDS}",
            "UPLOAD_CONNECTIONS": "1",
        }
        request = self.config().model_dump_json()
        command = [
            sys.executable,
            "-m",
            "aind_data_transfer_service.upload",
            "--json-args",
            request,
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, **quiet)
        try:
            wait_until(self.has_sent, 60, "a file")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        whole, _, _ = self.journal.read_bytes().rpartition(b"\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["path"] for line in lines if "path" in line}

    def has_sent(self) -> bool:
        """Return whether the second shard has noted a file."""
        return self.journal.exists() and b'"path"' in self.journal.read_bytes()

    @property
    def journal(self) -> Path:
        """Where the second shard's journal lies."""
        state = self.folder / "data" / "transfers" / self.bucket / PREFIX
        return state / "shards" / Shard(2, SHARDS).name / "journal.jsonl"

    def test_a_killed_shard_goes_on_where_it_stopped(self):
        arrived = self.kill_a_shard()
        etags = {o.key: o.etag for o in self.store.objects(PREFIX)}
        self.send(2)
        [lines] = self.records().values()
        self.assertLess(len(arrived), len(lines))
        kept = {
            line["path"] for line in lines if etags.get(f"{PREFIX}/{line['path']}") == line["etag"]
        }
        self.assertLessEqual(arrived, kept)
        self.assertFalse(self.journal.exists())

    def test_what_a_killed_shard_sent_is_known_to_the_last_job(self):
        arrived = self.kill_a_shard()
        self.complete()
        figures = self.told.figures("transfer", "end")
        self.assertEqual(figures["files_sent"], 3025 - len(arrived))
        self.assert_whole()

    def test_a_source_that_changed_is_sent_again_by_the_last_job(self):
        self.send_all()
        self.write("part 0/3.bin", b"something else")
        self.write("part 0/new.bin", b"something new")
        (self.source / "part 1" / "4.bin").unlink()
        self.complete()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 2)
        self.assert_whole()

    def test_after_a_failure_a_new_job_goes_on(self):
        self.send_all(numbers=[1, 2])
        with patch.object(type(self.store), "settle", side_effect=TransferError("no")):
            with self.assertRaisesRegex(TransferError, "no"):
                self.complete()
        self.send_all("two")
        mark = json.loads(self.store.get(mark_key(PREFIX)))
        self.assertEqual(mark["job_id"], "two")
        self.complete("two")
        self.assertEqual(self.told.figures("transfer", "end")["bytes_sent"], 0)
        self.assert_whole()

    def test_a_damaged_record_costs_time_only(self):
        self.send_all()
        self.store.put(f"{record_folder(PREFIX)}/shards/1-of-4.jsonl", b'{"path": 1}\nnonsense')
        self.complete()
        self.assert_whole()


@slow
class DamagedFileTest(ShardTestCase):
    """A file that is not at the destination as a shard sent it, in a folder that looks the same."""

    def test_a_file_that_proved_wrong_is_sent_again_by_a_job_on_another_machine(self):
        self.send_all()
        path = self.folder / "store" / self.bucket / PREFIX / "behavior" / "part 1" / "7.bin"
        status = path.stat()
        with open(path, "r+b") as file:
            file.write(b"damage")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with self.assertRaisesRegex(VerificationError, "part 1/7.bin has other bytes"):
            self.complete()
        shutil.rmtree(self.folder / "data")
        self.complete()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assert_whole()


@slow
class CollisionTest(ShardTestCase):
    """Two jobs that want the same asset."""

    def claim(self, number: int, job_id: str):
        """Claim a shard for a job."""
        state_dir = self.folder / "state"
        shard = Shard(number, SHARDS)
        now = self.job_now
        return claim_shard(self.store, PREFIX, state_dir, shard, False, job_id, now)

    def claim_all(self, job_id: str):
        """Claim the asset for a job that is not cut."""
        state = self.store.asset_state(PREFIX)
        return claim_asset(
            self.store, PREFIX, self.folder / "state", state, False, job_id, self.job_now
        )

    def setUp(self) -> None:
        super().setUp()
        self.job_now = UploadJob(self.config(), self.settings())._now

    def test_shards_of_one_job_share_the_asset_and_no_other_job_does(self):
        with self.claim(1, "one"), self.claim(2, "one"):
            for other in (self.claim(3, "two"), self.claim(1, "one"), self.claim_all("two")):
                with self.assertRaisesRegex(DestinationExistsError, "on this machine"):
                    other.__enter__()
            with self.claim(3, "one"):
                pass
        with self.claim_all("two"), self.assertRaises(DestinationExistsError):
            self.claim(3, "one").__enter__()
        with self.claim(3, "two"):
            pass

    def test_a_finished_asset_is_not_begun_again(self):
        self.send_all()
        self.complete()
        with self.assertRaisesRegex(DestinationExistsError, "exists already"):
            self.send(1, "two")
        with self.assertRaisesRegex(DestinationExistsError, "completed .* meanwhile"):
            self.claim(1, "two").__enter__()
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PRESENT)

    def elsewhere(self, job_id: str, **more) -> dict:
        """Let a job on another machine hold the asset, and return its record."""
        record = new_record(PREFIX, job_id, self.job_now(), False, 1) | {"boot": "another's"}
        record |= more
        found = read_lease(self.store, mark_key(PREFIX))
        write_lease(self.store, mark_key(PREFIX), record, found)
        return record

    def test_two_jobs_at_the_same_moment_on_two_machines(self):
        store = self.store

        def other_first(key, data, new=False, **more):
            if key == mark_key(PREFIX) and new:
                real(key, json.dumps({"job_id": "other", "alive": "now"}).encode(), new)
            return real(key, data, new, **more)

        real = store.put
        with (
            patch.object(store, "put", other_first),
            patch.object(type(self), "store", property(lambda case: store)),
        ):
            with self.assertRaisesRegex(DestinationExistsError, "at the same moment"):
                self.claim(1, "one").__enter__()

    def test_a_shard_that_another_machine_takes_first_is_joined(self):
        store = self.store

        def other_first(key, data, new=False, **more):
            if key == mark_key(PREFIX) and new:
                record = json.loads(data) | {"holder": "elsewhere"}
                real(key, json.dumps(record).encode(), new)
            return real(key, data, new, **more)

        real = store.put
        with (
            patch.object(store, "put", other_first),
            patch.object(type(self), "store", property(lambda case: store)),
        ):
            with self.claim(1, "one") as claim:
                self.assertEqual(claim.lease.holder, "elsewhere")

    def test_shards_that_wait_for_a_silent_job_go_on_together(self):
        self.elsewhere("dead")
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            self.elsewhere("one", holder="first", shared=True)

        with patch(CONTENDER, partial(Contender, wait=wait)), self.claim(1, "one") as claim:
            self.assertEqual(claim.lease.holder, "first")
        self.assertEqual(len(waits), 1)

    def test_a_shard_that_lives_elsewhere_is_not_sent_twice(self):
        key = shard_lease_key(PREFIX, Shard(1, SHARDS))
        record = new_record(PREFIX, "one", self.job_now(), False, 1) | {"boot": "another's"}
        write_lease(self.store, key, record, None)

        def renew(seconds: float) -> None:
            write_lease(self.store, key, record | {"nonce": "new"}, read_lease(self.store, key))

        with patch(SHARD_CONTENDER, partial(Contender, wait=renew)):
            with self.assertRaisesRegex(DestinationExistsError, "is sending"):
                self.claim(1, "one").__enter__()
        with self.claim(2, "one"):
            pass

    def test_the_last_job_waits_for_a_shard_that_lives_elsewhere(self):
        self.elsewhere("one", holder="first", shared=True)
        key = shard_lease_key(PREFIX, Shard(1, SHARDS))
        record = new_record(PREFIX, "one", self.job_now(), False, 1) | {"boot": "another's"}
        write_lease(self.store, key, record, None)
        waits: list[float] = []

        def end(seconds: float) -> None:
            waits.append(seconds)
            self.store.delete([key])

        with patch(CONTENDER, partial(Contender, wait=end)), self.claim_all("one") as claim:
            self.assertEqual(claim.lease.fence, 2)
        self.assertEqual(len(waits), 1)

    def test_a_shard_of_an_array_whose_asset_was_taken_over_stops(self):
        self.elsewhere("one", holder="first", shared=True)
        with self.claim(1, "one") as claim:
            self.elsewhere("two")
            with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
                claim.lease.renew()
            with self.assertRaisesRegex(DestinationExistsError, "taken .* over"):
                claim.lease.check()

    def test_a_record_that_cannot_be_kept_is_told_in_words(self):
        (self.folder / "state").write_text("a file")
        with self.assertRaisesRegex(TransferError, "UPLOAD_STATE_DIR"):
            self.claim(1, "one").__enter__()


class FolderTest(ShardTestCase):
    """A folder as destination, from which others remove empty folders."""

    def test_a_folder_that_vanishes_meanwhile_is_made_again(self):
        def vanishing(source, target):
            os.rmdir(os.path.dirname(target))
            patcher.stop()
            return os.replace(source, target)

        patcher = patch("aind_data_transfer_service.storage.local_files.os.replace", vanishing)
        patcher.start()
        self.store.put("a/b", b"data")
        self.assertEqual(self.store.get("a/b"), b"data")

    def test_one_that_cannot_be_made_is_told(self):
        self.store.put("a", b"a file")
        with self.assertRaisesRegex(TransferError, "a file is where a folder must be"):
            self.store.put("a/b", b"data")
        replace = "aind_data_transfer_service.storage.local_files.os.replace"
        with patch(replace, side_effect=FileNotFoundError(2, "gone")):
            with self.assertRaisesRegex(TransferError, "cannot be written: gone"):
                self.store.put("b/c", b"data")
