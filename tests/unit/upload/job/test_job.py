"""The data transfer job, end to end, into a local folder."""

import io
import json
import os
import socket
import unittest
import zipfile
from datetime import datetime
from unittest.mock import patch
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    MetadataError,
    RequestError,
    SourceChangedError,
    SourceError,
    VerificationError,
)
from aind_data_transfer_service.metadata.schemas import RECORD
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.storage.layout import mark_key
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.job.preflight import check_session
from tests.support import campaign, slow
from tests.support.transfer import PREFIX, TransferTestCase, as_an_ordinary_user, is_uploaded

DOCUMENTS = {"data_description.json", "metadata.nd.json", "processing.json"}
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\\ufffe\uffff"), min_size=1
).filter(lambda name: is_uploaded(name) and len(name.encode()) < 200)


@slow
class TestWholeJob(TransferTestCase):
    """From the request to the verified asset."""

    def test_every_file_arrives_described_and_proven(self):
        self.write("session.csv", "a,b\n")
        self.write("deep/er/still.bin", bytes(range(256)) * 100)
        self.write("empty.txt", b"")
        self.write("large.dat", os.urandom(20_000_001))
        outcome = self.run_job()
        stored = self.stored()
        for name in ("session.csv", "deep/er/still.bin", "empty.txt", "large.dat"):
            self.assertEqual(stored[f"behavior/{name}"], (self.source / name).read_bytes())
        self.assertEqual(
            set(stored),
            DOCUMENTS
            | {f"behavior/{n}" for n in os.listdir(self.source) if n != "deep"}
            | {"behavior/deep/er/still.bin"},
        )
        self.assertEqual(set(self.manifest()), set(stored))
        self.assertEqual(outcome.files, len(stored))
        self.assertEqual(outcome.bytes, sum(map(len, stored.values())))
        self.assertEqual(outcome.location, str(self.folder / "store" / self.bucket / PREFIX))

    def test_the_steps_are_told_in_their_order(self):
        self.write("a.txt")
        self.run_job()
        starts = [step for step, kind in self.told.steps() if kind == "start"]
        self.assertEqual(starts, ["preflight", "metadata", "modality", "transfer", "verify"])
        self.assertEqual(self.told.all[-1][:2], ("done", "end"))
        done = self.told.figures("done", "end")
        self.assertEqual(set(done), {"files", "bytes", "seconds", "location"})
        last = self.told.figures("transfer", "progress")
        self.assertEqual((last["files_done"], last["bytes_done"]), (1, 4))
        self.assertEqual(last["seconds_left"], 0)

    def test_second_of_a_kind_gets_a_folder_of_its_own(self):
        other = self.folder / "other"
        self.write("a.txt")
        self.write("a.txt", b"other", root=other)
        both = [{"modality": "behavior", "source": str(s)} for s in (self.source, other)]
        self.run_job(modalities=both)
        stored = self.stored()
        self.assertEqual(stored["behavior/a.txt"], b"data")
        self.assertEqual(stored["behavior1/a.txt"], b"other")

    def test_a_source_may_be_a_single_file(self):
        path = self.write("only.csv", "x")
        self.run_job(modalities=[{"modality": "behavior", "source": str(path)}])
        self.assertEqual(self.stored()["behavior/only.csv"], b"x")

    def test_an_empty_source_is_a_warning(self):
        self.run_job()
        self.assertEqual(set(self.stored()), DOCUMENTS)
        self.assertTrue(any("holds no files" in warning for warning in self.told.warnings()))

    def test_compressed_data_arrive_as_one_zip(self):
        self.write("a.txt", "text " * 1000)
        self.write("b/ü.mp4", os.urandom(9_000_000))
        modality = {"modality": "behavior", "source": str(self.source), "compress_raw_data": True}
        self.run_job(modalities=[modality])
        stored = self.stored()
        self.assertEqual(set(stored), DOCUMENTS | {"behavior/behavior.zip"})
        with zipfile.ZipFile(io.BytesIO(stored["behavior/behavior.zip"])) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual(archive.namelist(), ["a.txt", "b/ü.mp4"])
            for name in archive.namelist():
                self.assertEqual(archive.read(name), (self.source / name).read_bytes())
        processes = json.loads(stored["processing.json"])["processing_pipeline"]["data_processes"]
        self.assertEqual([p["name"] for p in processes], ["Compression", "Other"])

    def test_ecephys_data_travel_as_they_are_and_the_job_says_so(self):
        self.write("continuous.dat", b"12")
        self.run_job(modalities=[{"modality": "ecephys", "source": str(self.source)}])
        self.assertEqual(self.stored()["ecephys/continuous.dat"], b"12")
        self.assertTrue(any("not compressed" in warning for warning in self.told.warnings()))

    def test_wishes_that_are_not_fulfilled_are_told(self):
        modality = {"modality": "behavior", "source": str(self.source), "extra_configs": {"a": 1}}
        self.run_job(modalities=[modality])
        words = "extra_configs have no effect"
        self.assertTrue(any(words in text for text in self.told.warnings()), words)

    def test_nothing_of_a_finished_job_stays_on_the_machine(self):
        self.run_job()
        state = self.settings().state_dir
        self.assertEqual([p for p in state.rglob("*") if p.is_file()], [])
        incoming = self.folder / "store" / self.bucket / ".transfer" / ".incoming"
        self.assertEqual(os.listdir(incoming), [])

    def test_processing_tells_of_this_upload(self):
        self.write("a.txt")
        self.run_job()
        document = json.loads(self.stored()["processing.json"])
        (process,) = document["processing_pipeline"]["data_processes"]
        self.assertEqual(process["outputs"], {"files": 1, "bytes": 4})
        self.assertEqual(process["input_location"], str(self.source))
        self.assertRegex(process["start_date_time"], r"-0[78]:00$")

    @settings(max_examples=campaign(10), suppress_health_check=list(HealthCheck))
    @given(
        st.dictionaries(
            st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=64), max_size=6
        )
    )
    def test_any_tree_arrives_as_it_is(self, tree):
        expected = {}
        self.setUp()
        for parts, data in tree.items():
            try:
                self.write("/".join(parts), data)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # a name was already that of a folder, or the other way round
            expected["behavior/" + "/".join(parts)] = data
        self.run_job()
        stored = {k: v for k, v in self.stored().items() if k not in DOCUMENTS}
        self.assertEqual(stored, expected)


class TestSources(TransferTestCase):
    """What can lie in a source, and what becomes of it."""

    def test_all_missing_sources_are_named_at_once(self):
        gone = [f"{self.folder}/gone{i}" for i in range(2)]
        modalities = [
            {"modality": m, "source": s} for m, s in zip(("behavior", "behavior-videos"), gone)
        ]
        with self.assertRaises(SourceError) as caught:
            self.run_job(modalities=modalities)
        for path in gone:
            self.assertIn(f"{path} does not exist", str(caught.exception))
        self.assertFalse((self.folder / "store").exists())

    def test_a_source_that_looks_the_same_is_named(self):
        typed = str(self.source).replace("Behavior", "behavior")
        with self.assertRaisesRegex(SourceError, f'"{self.source}" exists: it differs in upper'):
            self.run_job(modalities=[{"modality": "behavior", "source": typed}])

    def test_a_link_within_the_source_is_sent_as_its_file(self):
        self.write("real.txt", b"real")
        os.symlink("real.txt", self.source / "link.txt")
        self.run_job()
        self.assertEqual(self.stored()["behavior/link.txt"], b"real")

    def test_links_that_cannot_be_followed_are_all_named(self):
        os.symlink("/etc/hostname", self.source / "out")
        os.symlink("nowhere", self.source / "broken")
        os.symlink(".", self.source / "round")
        with self.assertRaises(SourceError) as caught:
            self.run_job()
        text = str(caught.exception)
        for words in (
            "out leads to /etc/hostname",
            "broken is a link that leads",
            "round is a link to",
        ):
            self.assertIn(words, text)

    def test_sockets_and_pipes_are_left_out_with_a_warning(self):
        self.write("a.txt")
        os.mkfifo(self.source / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.source / "socket"))
            self.run_job()
        self.assertEqual(set(self.stored()), DOCUMENTS | {"behavior/a.txt"})
        (warning,) = [w for w in self.told.warnings() if "pipes" in w]
        self.assertIn("pipe", warning)
        self.assertIn("socket", warning)

    def test_empty_folders_are_left_out_and_named(self):
        self.write("a.txt")
        (self.source / "nothing" / "here").mkdir(parents=True)
        self.run_job()
        self.assertTrue(any("behavior/nothing/here" in w for w in self.told.warnings()))
        header = self.store.get(f".transfer/{PREFIX}/manifest.jsonl").splitlines()[0]
        self.assertEqual(json.loads(header)["empty_folders"], ["behavior/nothing/here"])

    def test_the_header_of_the_manifest_stays_small_whatever_it_lists(self):
        self.write("a.txt")
        for number in range(1500):
            os.mkdir(self.source / f"{number} {'x' * 230}")
        self.run_job()
        header = self.store.get(f".transfer/{PREFIX}/manifest.jsonl").splitlines()[0]
        self.assertLess(len(header), 270_000)
        document = json.loads(header)
        self.assertEqual(1500, document["empty_folders_total"])
        self.assertLess(1000, len(document["empty_folders"]))

    def test_unreadable_files_and_folders_are_all_named(self):
        os.chmod(self.write("secret.txt"), 0)
        self.write("closed/x.txt")
        os.chmod(self.source / "closed", 0)
        self.addCleanup(os.chmod, self.source / "closed", 0o755)
        os.chmod(self.folder, 0o777)
        with as_an_ordinary_user(), self.assertRaises(SourceError) as caught:
            self.run_job()
        self.assertIn("secret.txt may not be read", str(caught.exception))
        self.assertIn("closed", str(caught.exception))

    def test_a_folder_that_may_be_listed_and_not_entered_is_told(self):
        self.write("closed/x.txt")
        os.chmod(self.source / "closed", 0o444)
        self.addCleanup(os.chmod, self.source / "closed", 0o755)
        os.chmod(self.folder, 0o777)
        with as_an_ordinary_user(), self.assertRaisesRegex(SourceError, "x.txt cannot be read: "):
            self.run_job()

    def test_a_file_that_vanishes_while_the_source_is_looked_at_is_named(self):
        self.write("a.txt")
        with patch("os.lstat", side_effect=FileNotFoundError):
            with self.assertRaisesRegex(SourceError, "a.txt vanished while the source was looked"):
                self.run_job()

    def test_an_unreadable_source_is_named(self):
        os.chmod(self.source, 0)
        self.addCleanup(os.chmod, self.source, 0o755)
        with as_an_ordinary_user(), self.assertRaisesRegex(SourceError, "may not be read"):
            self.run_job()

    def test_a_source_that_is_neither_folder_nor_file_is_refused(self):
        os.mkfifo(self.folder / "pipe")
        with self.assertRaisesRegex(SourceError, "neither a folder nor a file"):
            self.run_job(modalities=[{"modality": "behavior", "source": str(self.folder / "pipe")}])

    def test_names_that_a_store_would_change_are_refused(self):
        self.write("a\nb")
        self.write("c\\d")
        self.write(os.fsdecode(b"\xff"))
        with self.assertRaises(SourceError) as caught:
            self.run_job()
        text = str(caught.exception)
        self.assertIn("a\\nb: the name holds a control character", text)
        self.assertIn("not valid UTF-8", text)
        self.assertEqual(text.count("the name"), 3)
        self.assertEqual(len(text.splitlines()), 1)

    def test_paths_of_a_thousand_characters_arrive(self):
        name = "/".join(["d" * 99] * 10) + "/file"
        self.write(name)
        self.run_job()
        self.assertIn(f"behavior/{name}", self.stored())

    def test_a_destination_within_a_source_is_refused(self):
        inside = self.settings(destination=str(self.source / "store"))
        with self.assertRaisesRegex(SourceError, "lies in the source"):
            self.run_job(inside)

    def test_a_file_that_changes_while_the_job_runs_is_named(self):
        path = self.write("a.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: path.write_bytes(b"other data"))
        with self.assertRaisesRegex(SourceChangedError, "a.txt changed"):
            self.run_job()

    def test_a_file_that_vanishes_is_named(self):
        path = self.write("a.txt")
        self.told.when(Step.TRANSFER, Kind.START, path.unlink)
        with self.assertRaisesRegex(SourceChangedError, "a.txt vanished"):
            self.run_job()


class TestDestination(TransferTestCase):
    """What is there already, and what an earlier attempt left."""

    def test_an_existing_asset_is_refused_and_left_alone(self):
        self.write("a.txt")
        self.store.put(f"{PREFIX}/old.txt", b"old")
        with self.assertRaisesRegex(DestinationExistsError, "force_cloud_sync"):
            self.run_job()
        self.assertEqual(self.stored(), {"old.txt": b"old"})

    def test_a_prefix_that_merely_begins_alike_is_no_hindrance(self):
        self.write("a.txt")
        self.store.put(f"{PREFIX}_sorted/old.txt", b"old")
        self.run_job()
        self.assertEqual(self.stored(f"{PREFIX}_sorted"), {"old.txt": b"old"})

    def test_force_keeps_what_it_does_not_send_and_says_so(self):
        self.write("a.txt")
        self.write("b.txt")
        self.run_job()
        (self.source / "b.txt").unlink()
        self.store.put(f"{PREFIX}/foreign.txt", b"foreign")
        self.run_job(force_cloud_sync=True)
        self.assertTrue({"behavior/b.txt", "foreign.txt"} <= set(self.stored()))
        self.assertTrue(any("behavior/b.txt" in warning for warning in self.told.warnings()))
        self.assertIn("behavior/b.txt", self.manifest())
        self.assertNotIn("foreign.txt", self.manifest())

    def test_force_does_not_mix_two_sessions_of_the_hour_that_the_clock_shows_twice(self):
        first, second = "2024-11-03T01:30:00-07:00", "2024-11-03T01:30:00-08:00"
        prefix = "behavior_690165_2024-11-03_01-30-00"
        self.write("a.txt")
        self.run_job(acq_datetime=first)
        stored = self.stored(prefix)
        described = json.loads(stored["data_description.json"])
        self.assertEqual(first, described["creation_time"])
        self.write("b.txt")
        with self.assertRaisesRegex(DestinationExistsError, f"another session.*{first}.*{second}"):
            self.run_job(acq_datetime=second, force_cloud_sync=True)
        self.assertEqual(stored, self.stored(prefix))
        self.run_job(acq_datetime=first, force_cloud_sync=True)
        self.assertIn("behavior/b.txt", self.stored(prefix))

    def test_force_goes_by_the_time_of_the_job_that_wrote_the_asset(self):
        first, second = "2024-11-03T01:30:00-07:00", "2024-11-03T01:30:00-08:00"
        description = "behavior_690165_2024-11-03_01-30-00/data_description.json"
        self.write("a.txt")
        self.run_job(acq_datetime=first)
        for stated in ("2024-12-01T00:00:00Z", second, "2024-11-03T01:30:00", "yesterday"):
            with self.subTest(stated=stated):
                self.store.put(description, json.dumps({"creation_time": stated}).encode())
                with self.assertRaisesRegex(DestinationExistsError, "acquired at .*-07:00; "):
                    self.run_job(acq_datetime=second, force_cloud_sync=True)
                self.run_job(acq_datetime=first, force_cloud_sync=True)

    def test_the_description_of_an_asset_without_a_time_in_its_manifest(self):
        zone = ZoneInfo("America/Los_Angeles")
        acquired = datetime.fromisoformat("2024-11-03T01:30:00.5-07:00")
        for stated, words in (
            ("2024-11-03T01:30:00-07:00", None),
            ("2024-11-03T08:30:00Z", None),
            ("2024-11-03T09:30:00Z", "is the asset of another session, acquired at .*-08:00;"),
            ("2024-11-03T01:30:00.25-08:00", "is the asset of another session"),
            ("2024-11-03T01:30:00", "may be the asset of another session.* without an offset"),
            ("2024-11-03T01:30:01-08:00", None),
            ("2024-11-03T01:31:00", None),
            ("2024-12-01T00:00:00Z", None),
            ("0001-01-01T00:00:00+14:00", None),
            ("9999-12-31T23:59:59-14:00", None),
            (20241103, None),
        ):
            with self.subTest(stated=stated):
                description = json.dumps({"creation_time": stated}).encode()
                self.store.put(f"{PREFIX}/data_description.json", description)
                if words is None:
                    check_session(self.store, PREFIX, acquired, zone)
                    continue
                with self.assertRaisesRegex(DestinationExistsError, words) as caught:
                    check_session(self.store, PREFIX, acquired, zone)
                self.assertIn("another s3_bucket", str(caught.exception))

    def test_the_documents_hold_the_offset_of_the_second_reading(self):
        self.write("a.txt")
        self.run_job(acq_datetime="2024-11-03T01:30:00-08:00")
        stored = self.stored("behavior_690165_2024-11-03_01-30-00")
        for name in ("data_description.json", "metadata.nd.json"):
            self.assertIn(b'"2024-11-03T01:30:00-08:00"', stored[name])

    def test_force_sends_only_what_changed(self):
        self.write("a.txt")
        self.write("b.txt")
        self.run_job()
        self.write("b.txt", b"newer data")
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/b.txt"], b"newer data")

    def processes(self):
        """Tell what was done to the asset, as it says itself."""
        document = json.loads(self.stored()["processing.json"])
        return document["processing_pipeline"]["data_processes"]

    def test_a_further_upload_is_told_after_the_earlier_ones(self):
        self.write("a.txt")
        self.run_job()
        (first,) = self.processes()
        self.write("b.txt")
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.processes()[0], first)
        self.assertEqual([p["outputs"]["files"] for p in self.processes()], [1, 2])

    def test_a_further_upload_that_failed_and_was_run_again_is_told_once(self):
        self.write("a.txt")
        self.run_job()
        self.told.when(
            Step.VERIFY, Kind.START, lambda: self.store.delete([f"{PREFIX}/behavior/a.txt"])
        )
        with self.assertRaises(VerificationError):
            self.run_job(force_cloud_sync=True)
        self.run_job(force_cloud_sync=True)
        self.assertEqual(len(self.processes()), 2)

    def test_a_document_that_cannot_be_gone_on_with_is_replaced_with_a_warning(self):
        self.write("a.txt")
        for damaged in (b"no json", b"[]", b"{}"):
            self.store.put(f"{PREFIX}/processing.json", damaged)
            self.run_job(force_cloud_sync=True)
            self.assertEqual(len(self.processes()), 1)
            self.assertTrue(any("replaced, for" in w for w in self.told.warnings()))

    def fail_at_the_last_file(self):
        """Run a job that sends `a.txt` and fails at `z.txt`."""
        self.write("a.txt")
        last = self.write("z.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: last.write_bytes(b"changed"))
        with self.assertRaises(SourceChangedError):
            self.run_job(self.settings(upload_connections=1))

    def test_a_failed_job_run_again_sends_only_what_is_missing(self):
        self.fail_at_the_last_file()
        self.assertTrue(self.store.get(mark_key(PREFIX)))
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/z.txt"], b"changed")
        self.assertIsNone(self.store.get(mark_key(PREFIX)))

    def test_what_an_earlier_attempt_left_and_nobody_wants_is_removed(self):
        self.fail_at_the_last_file()
        (self.source / "a.txt").unlink()
        self.run_job()
        self.assertEqual(set(self.stored()), DOCUMENTS | {"behavior/z.txt"})

    def test_a_file_damaged_since_is_sent_again(self):
        self.fail_at_the_last_file()
        self.store.put(f"{PREFIX}/behavior/a.txt", b"DATA")
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 2)

    def test_a_failed_forced_job_run_again_still_keeps_what_it_found(self):
        self.store.put(f"{PREFIX}/foreign.txt", b"foreign")
        self.write("a.txt")
        last = self.write("z.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: last.write_bytes(b"changed"))
        with self.assertRaises(SourceChangedError):
            self.run_job(force_cloud_sync=True)
        self.run_job()
        self.assertEqual(self.stored()["foreign.txt"], b"foreign")

    def test_a_lost_or_damaged_record_only_means_that_all_is_sent_again(self):
        self.fail_at_the_last_file()
        self.store.put(mark_key(PREFIX), b"no json")
        state = self.settings().state_dir / self.bucket / PREFIX
        (state / "journal.jsonl").write_bytes(b'{"no": "entry"}\n{"torn')
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 2)

    def test_what_a_killed_job_was_writing_is_removed(self):
        self.fail_at_the_last_file()
        incoming = self.folder / "store" / self.bucket / ".transfer" / ".incoming"
        (incoming / f"{PREFIX}~123").write_bytes(b"half")
        (incoming / f"{PREFIX}1~123").write_bytes(b"another's")
        self.run_job()
        self.assertEqual(os.listdir(incoming), [f"{PREFIX}1~123"])

    def test_two_jobs_cannot_write_one_asset_at_once(self):
        self.write("a.txt")
        errors = []

        def second():
            try:
                self.run_job(force_cloud_sync=True)
            except DestinationExistsError as error:
                errors.append(str(error))

        self.told.when(Step.TRANSFER, Kind.START, second)
        self.run_job()
        self.assertEqual(len(errors), 1)
        self.assertIn("another job", errors[0])

    def test_an_asset_that_appears_meanwhile_is_not_overwritten(self):
        self.write("a.txt")
        self.told.when(Step.MODALITY, Kind.END, lambda: self.store.put(mark_key(PREFIX), b"{}"))
        with self.assertRaisesRegex(DestinationExistsError, "at the same moment"):
            self.run_job()

    def test_too_little_room_is_told_before_anything_is_sent(self):
        self.write("a.txt")
        with patch("shutil.disk_usage") as usage:
            usage.return_value.free = 1000
            with self.assertRaisesRegex(DestinationError, "room for 1,000"):
                self.run_job()
        self.assertEqual(self.stored(), {})

    def test_a_destination_that_cannot_be_written_is_told(self):
        self.write("file", root=self.folder)
        with self.assertRaises(DestinationError):
            self.run_job(self.settings(destination=str(self.folder / "file")))

    def test_damage_at_the_destination_is_found(self):
        self.write("a.txt")
        place = self.folder / "store" / self.bucket / PREFIX / "behavior" / "a.txt"

        def damage():
            times = os.stat(place)
            place.write_bytes(b"DATA")
            os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))

        self.told.when(Step.VERIFY, Kind.START, damage)
        with self.assertRaisesRegex(VerificationError, "a.txt has other bytes"):
            self.run_job()

    def test_a_missing_and_a_foreign_file_are_found(self):
        self.write("a.txt")

        def meddle():
            self.store.delete([f"{PREFIX}/behavior/a.txt"])
            self.store.put(f"{PREFIX}/foreign", b"x")

        self.told.when(Step.VERIFY, Kind.START, meddle)
        with self.assertRaises(VerificationError) as caught:
            self.run_job()
        self.assertIn("behavior/a.txt is missing", str(caught.exception))
        self.assertIn("foreign is there, and nobody sent it", str(caught.exception))

    def test_a_dry_run_prints_the_plan_and_changes_nothing(self):
        self.write("a b.txt")
        (self.source / "nothing").mkdir()
        os.mkfifo(self.source / "pipe")
        outcome = self.run_job(dry_run=True)
        self.assertEqual((outcome.files, outcome.bytes), (1, 4))
        text = self.printed.getvalue()
        for words in ("1 files, 4 bytes", "behavior/a b.txt", "nothing/  empty", "pipe  holds no"):
            self.assertIn(words, text)
        self.assertEqual(os.listdir(self.folder), ["session"])

    def test_a_dry_run_says_what_is_to_be_expected_and_marks_it_as_an_estimate(self):
        os.truncate(self.write("large.bin", b""), 20 * 1024**2)
        os.truncate(self.write("larger.bin", b""), 30 * 1024**2)
        self.write("a.txt")
        settings = self.settings(upload_bandwidth="1MB/s", upload_connections=16)
        self.run_job(settings, dry_run=True)
        text = self.printed.getvalue()
        places = [text.index(f"behavior/{n}") for n in ("larger.bin", "large.bin", "a.txt")]
        self.assertEqual(places, sorted(places), "the largest first")
        for words in (
            "2 objects in 7 parts, the largest first; between them 4 in one request each",
            "about 16 requests over 16 connections",
            "estimate: 0:00:52 at 1 MB/s (the cap that is set)",
        ):
            self.assertIn(words, text)
        self.run_job(dry_run=True)
        self.assertIn("125 MB/s (assumed, for no cap is set)", self.printed.getvalue())

    def test_a_dry_run_of_nothing_says_that_there_is_nothing(self):
        self.run_job(dry_run=True)
        self.assertIn("no files: the asset will hold its documents", self.printed.getvalue())

    def test_a_request_without_a_bucket_is_refused(self):
        with self.assertRaisesRegex(RequestError, "s3_bucket"):
            UploadJob(self.config(s3_bucket=None), self.settings(destination="s3://"))


class TestMetadata(TransferTestCase):
    """The documents that come along."""

    def setUp(self):
        """Make a folder of metadata."""
        super().setUp()
        self.write("a.txt")
        self.metadata = self.folder / "metadata"
        self.metadata.mkdir()

    def document(self, name, **content):
        """Write a document of the folder."""
        return self.write(name, json.dumps(content), root=self.metadata)

    @slow
    def test_documents_are_copied_byte_for_byte(self):
        path = self.write("subject.json", b'{ "subject_id":"690165" }', root=self.metadata)
        self.document("session.json", rig_id="r")
        self.write("notes.txt", b"no document", root=self.metadata)
        self.run_job(metadata_dir=str(self.metadata))
        stored = self.stored()
        self.assertEqual(stored["subject.json"], path.read_bytes())
        self.assertIn("session.json", stored)
        self.assertTrue(any("notes.txt" in warning for warning in self.told.warnings()))
        record = json.loads(stored["metadata.nd.json"])
        self.assertEqual(record["subject"], {"subject_id": "690165"})
        self.assertEqual(record["name"], PREFIX)
        self.assertEqual(record["metadata_status"], "Invalid")
        self.assertEqual([], problems_of(RECORD, record))
        [*_, told] = [
            figures["documents"] for *_, figures in self.told.all if "documents" in figures
        ]
        statuses = {row["name"]: row["status"] for row in told}
        self.assertEqual("Invalid", statuses["session.json"])
        self.assertEqual("Missing", statuses["procedures.json"])
        self.assertEqual("Valid", statuses["metadata.nd.json"], told)

    def test_hidden_files_are_not_taken_from_metadata_dir(self):
        for number in range(12):
            self.write(f".{number:02}.json", b"{}", root=self.metadata)
        self.write("._session.json", b"\x00\x05\x16\x07", root=self.metadata)
        self.run_job(metadata_dir=str(self.metadata))
        names = ", ".join(f".{number:02}.json" for number in range(10))
        self.assertIn(f"not taken from metadata_dir: {names} and 2 more", self.told.warnings())
        self.assertNotIn("._session.json", self.stored())

    def test_a_metadata_dir_that_is_not_there_is_a_warning(self):
        self.run_job(metadata_dir=str(self.folder / "Config"))
        self.assertTrue(any("Config does not exist" in w for w in self.told.warnings()))

    def test_another_subject_stops_the_job_before_any_byte_moves(self):
        self.document("subject.json", subject_id="111")
        with self.assertRaisesRegex(MetadataError, "names the subject 111, the job 690165"):
            self.run_job(metadata_dir=str(self.metadata))
        self.assertEqual(self.stored(), {})

    def test_a_document_that_is_no_json_is_named_with_its_place(self):
        self.write("rig.json", b'{"a":\n oops}', root=self.metadata)
        with self.assertRaisesRegex(MetadataError, "rig.json: is not JSON.*line 2, column 2"):
            self.run_job(metadata_dir=str(self.metadata))

    def test_what_was_done_earlier_stays_in_processing(self):
        earlier = {"data_processes": [{"name": "Denoising"}], "processor_full_name": "B"}
        self.document("processing.json", processing_pipeline=earlier)
        self.run_job(metadata_dir=str(self.metadata))
        pipeline = json.loads(self.stored()["processing.json"])["processing_pipeline"]
        self.assertEqual([p["name"] for p in pipeline["data_processes"]], ["Denoising", "Other"])

    def test_a_document_name_that_a_store_would_change_is_refused(self):
        self.document("a\\b.json")
        with self.assertRaisesRegex(MetadataError, "backslash"):
            self.run_job(metadata_dir=str(self.metadata))


if __name__ == "__main__":
    unittest.main()
