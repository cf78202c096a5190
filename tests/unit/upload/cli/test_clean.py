"""`clean`: what dead jobs leave behind, and what must never be touched."""

import contextlib
import io
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import (
    ExitCode,
    RequestError,
    SourceChangedError,
    TransferError,
)
from aind_data_transfer_service.storage.base import AssetState
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    manifest_key,
    mark_key,
    record_folder,
)
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.storage.model import StoredObject, Unfinished
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.garbage import Leftovers, read_age
from aind_data_transfer_service.upload.resume.lease import new_record, read_lease, write_lease
from tests.support.transfer import PREFIX, Told, TransferTestCase

OTHER = "behavior_690166_2024-02-19_11-25-17"
DAYS_AGO = 30 * 86400


class CleaningTestCase(TransferTestCase):
    """Gives each test a job that failed half-way, and the command."""

    def setUp(self) -> None:
        """Let a job fail."""
        super().setUp()
        environment = {
            "DATA_DIR": str(self.folder / "data"),
            "DESTINATION": str(self.folder / "store"),
        }
        self.enterContext(patch.dict(os.environ, environment))
        self.state = self.folder / "data" / "transfers" / self.bucket
        self.incoming = self.folder / "store" / self.bucket / ".transfer" / ".incoming"
        self.write("a.txt")
        last = self.write("z.txt")
        self.told.when(Step.TRANSFER, Kind.START, lambda: last.write_bytes(b"changed"))
        with self.assertRaises(SourceChangedError):
            self.run_job(self.settings(upload_connections=1))

    def clean(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; give its exit code and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(["clean", *arguments])
        return code, out.getvalue(), err.getvalue()

    def age(self) -> None:
        """Let all records be a month old."""
        moment = time.time() - DAYS_AGO
        for folder in (self.folder / "data", self.incoming.parent):
            for path in (folder, *folder.rglob("*")):
                os.utime(path, (moment, moment))

    def everything(self) -> set[Path]:
        """List whatever there is."""
        return set(self.folder.rglob("*"))


class TestClean(CleaningTestCase):
    """The command."""

    def test_nothing_young_is_touched(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        before = self.everything()
        code, out, err = self.clean(self.bucket)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.everything(), before)
        self.assertRegex(out, rf"stays +unfinished upload of .*{PREFIX}, begun 0 minutes ago")
        self.assertRegex(out, rf"stays +half an asset .*{PREFIX}.*--remove-unfinished {PREFIX}")

    def test_a_dry_run_tells_what_would_go_and_removes_nothing(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        self.age()
        before = self.everything()
        self.assertRegex(self.clean("--dry-run")[1], "would remove +unfinished upload.*30 days")
        self.assertEqual(self.everything(), before)

    def test_old_unfinished_uploads_go_and_half_an_asset_stays_and_can_be_gone_on_with(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        (self.incoming / "notes~1").write_bytes(b"somebody else's")
        self.age()
        code, out, _ = self.clean()
        self.assertEqual(code, 0)
        self.assertEqual(os.listdir(self.incoming), ["notes~1"])
        self.assertIn("of no asset of ours", out)
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)

    def test_a_probe_goes_when_the_job_that_wrote_it_is_gone(self):
        old, young, new = (f"{record_folder(PREFIX)}/probe-{name}" for name in "abc")
        for probe, hours in ((old, 8 * 24), (young, 2), (new, 0)):
            self.store.put(probe, b"x")
            moment = time.time() - hours * 3600
            os.utime(self.store.location(probe), (moment, moment))
        self.assertRegex(self.clean(self.bucket)[1], r"removed +probe of a job.*8 days ago: .*-a")
        self.assertEqual([bool(self.store.get(probe)) for probe in (old, young, new)], [0, 1, 1])
        self.clean(self.bucket, "--older-than", "0m")
        self.assertEqual([bool(self.store.get(probe)) for probe in (old, young, new)], [0, 0, 1])

    def test_an_old_upload_of_a_job_that_lives_stays(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        self.age()
        os.utime(self.folder / "store" / self.bucket / mark_key(PREFIX))
        out = self.clean()[1]
        self.assertRegex(out, "stays +unfinished upload.*its job was there 0 minutes ago")
        self.assertEqual(os.listdir(self.incoming), [f"{PREFIX}~1"])

    def test_half_an_asset_goes_where_it_is_named(self):
        self.store.put(f"{OTHER}/x", b"x")
        self.age()
        code, out, _ = self.clean(self.bucket, "--remove-unfinished", PREFIX)
        self.assertEqual(code, 0)
        self.assertRegex(out, rf"removed +half an asset .*{PREFIX}")
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.ABSENT)
        self.assertEqual(self.store.asset_state(OTHER), AssetState.PRESENT)
        self.assertEqual(list(self.store.objects(record_folder(PREFIX))), [])
        self.assertFalse((self.state / PREFIX).exists())

    def test_so_it_does_at_a_store_without_conditional_writes(self):
        self.age()
        real = LocalAssetStore.put

        def put(store, key, data, new=False, halt=None, if_match=None):
            if store.conditional and (new or if_match):
                raise NotImplementedError("If-Match is not implemented")
            return real(store, key, data, halt=halt)

        with (
            patch("aind_data_transfer_service.storage.local_store.lock_file", lambda *_: False),
            patch.object(LocalAssetStore, "put", put),
        ):
            code, out, err = self.clean(self.bucket, "--remove-unfinished", PREFIX)
        self.assertEqual(code, 0, err)
        self.assertRegex(out, rf"removed +half an asset .*{PREFIX}")
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.ABSENT)

    def test_objects_of_other_software_are_left_and_named(self):
        foreign = {f"{PREFIX}/behavior/b.txt": b"theirs", f"{PREFIX}/behavior/a.txt": b"replaced"}
        for key, data in foreign.items():
            self.store.put(key, data)
        self.age()
        code, out, _ = self.clean(self.bucket, "--remove-unfinished", PREFIX)
        self.assertEqual(code, 0)
        self.assertRegex(out, r"removed +half an asset .*left there: behavior/a.txt.*b.txt")
        self.assertEqual({key: self.store.get(key) for key in foreign}, foreign)
        self.assertEqual(len(self.stored()), 2)
        self.assertEqual(list(self.store.objects(record_folder(PREFIX))), [])

    def test_without_any_record_of_what_was_sent_nothing_is_removed(self):
        (self.state / PREFIX / "journal.jsonl").unlink()
        before = self.stored()
        self.age()
        code, _, err = self.clean(self.bucket, "--remove-unfinished", PREFIX)
        self.assertEqual(code, ExitCode.DESTINATION)
        self.assertIn("UPLOAD_STATE_DIR", err)
        self.assertEqual(self.stored(), before)
        self.assertEqual(self.store.asset_state(PREFIX), AssetState.PARTIAL)

    def live(self):
        """Let a job on another machine hold the asset."""
        record = new_record(PREFIX, "other", datetime.now(UTC), False, 2)
        write_lease(self.store, mark_key(PREFIX), record, read_lease(self.store, mark_key(PREFIX)))

    def test_a_job_that_lives_is_never_touched_whatever_age_is_given(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        self.age()
        self.live()
        before = self.everything()
        code, out, _ = self.clean(self.bucket, "--older-than", "0m")
        self.assertEqual(code, 0)
        self.assertRegex(out, "stays +unfinished upload.*its job was there 0 minutes ago")
        code, _, err = self.clean(self.bucket, "--older-than", "0m", "--remove-unfinished", PREFIX)
        self.assertEqual(code, ExitCode.REQUEST)
        self.assertIn("was there 0 minutes ago", err)
        self.assertEqual(self.everything(), before)

    def test_ages_are_those_of_the_stores_clock(self):
        (self.incoming / f"{PREFIX}~1").write_bytes(b"half")
        future = datetime.now(UTC) + timedelta(days=30)
        with patch("aind_data_transfer_service.upload.cli.clean.datetime") as clock:
            clock.now.return_value = future  # this machine's clock is a month ahead
            out = self.clean(self.bucket)[1]
        self.assertRegex(out, "stays +unfinished upload")
        with patch.object(LocalAssetStore, "put", side_effect=TransferError("read only")):
            out = self.clean(self.bucket, "--older-than", "0m")[1]
        self.assertRegex(out, "stays +unfinished upload.*some time")

    def test_an_upload_beneath_a_name_like_that_of_an_asset_is_not_ours(self):
        (self.incoming / f"{OTHER}~1").write_bytes(b"somebody else's")
        out = self.clean(self.bucket, "--older-than", "0m")[1]
        self.assertRegex(out, f"stays +unfinished upload of .*{OTHER}.*of no asset of ours")

    def test_the_lease_of_a_published_asset_goes_and_the_asset_stays(self):
        self.told = Told()
        with patch(
            "aind_data_transfer_service.upload.job.job.release",
            side_effect=TransferError("refused"),
        ):
            self.run_job()
        self.store.put(f"{record_folder(PREFIX)}/probe-1", b"of an attempt that was killed")
        before = self.stored()
        for arguments in ((), ("--remove-unfinished", PREFIX)):
            code, out, err = self.clean(self.bucket, *arguments)
            self.assertEqual(code, ExitCode.REQUEST if arguments else 0)
        self.assertRegex(self.clean(self.bucket)[1], "stays +lease of an upload that was published")
        self.age()
        self.assertRegex(self.clean(self.bucket)[1], "removed +lease of an upload that was")
        left = [item.key for item in self.store.objects(record_folder(PREFIX))]
        self.assertEqual(left, [manifest_key(PREFIX)])
        self.assertEqual(self.stored(), before)

    def test_what_may_not_be_removed_is_refused_in_words(self):
        self.store.put(f"{OTHER}/x", b"x")
        for arguments, words in (
            ((self.bucket, "--remove-unfinished", OTHER), "is no unfinished asset"),
            ((self.bucket, "--remove-unfinished", PREFIX), "was there 0 minutes ago; stop it"),
            (("a", "b", "--remove-unfinished", PREFIX), "needs exactly one bucket"),
            ((self.bucket, "--older-than", "soon"), "soon is no age"),
            (("s3://",), "is no bucket"),
        ):
            code, _, err = self.clean(*arguments)
            self.assertEqual(code, ExitCode.REQUEST)
            self.assertIn(words, err)

    def test_an_upload_into_a_verified_asset_is_never_removed_with_it(self):
        self.run_job()
        self.store.put(mark_key(PREFIX), b'{"fence": 99}')
        self.age()
        self.refuses_to_remove()
        manifest = self.store.get(manifest_key(PREFIX))
        self.store.put(former_manifest_key(PREFIX), manifest)  # that could not be replaced
        self.store.delete([manifest_key(PREFIX)])
        self.age()
        self.refuses_to_remove()

    def refuses_to_remove(self) -> None:
        """See that the asset is known to hold an earlier upload."""
        code, _, err = self.clean(self.bucket, "--remove-unfinished", PREFIX)
        self.assertEqual(code, ExitCode.REQUEST)
        self.assertIn("holds an earlier upload", err)
        self.assertRegex(self.clean()[1], "stays +a further upload into .* has not ended")

    def test_records_of_this_machine_go_with_their_mark_and_not_before(self):
        self.age()
        self.clean()
        self.assertTrue((self.state / PREFIX / "journal.jsonl").exists())
        self.store.delete([mark_key(PREFIX)])
        self.assertRegex(self.clean()[1], "removed +record of a transfer that is over")
        self.assertFalse((self.state / PREFIX).exists())

    def test_a_record_that_a_job_holds_stays(self):
        self.store.delete([mark_key(PREFIX)])
        arguments = (self.state / PREFIX, AssetState.ABSENT, True, None, lambda: datetime.now(UTC))
        with claim_asset(self.store, PREFIX, *arguments):
            self.store.delete([mark_key(PREFIX)])
            self.age()
            self.clean()
            self.assertTrue((self.state / PREFIX / "journal.jsonl").exists())

    def test_assets_may_be_chosen_by_how_their_names_begin(self):
        self.store.delete([mark_key(PREFIX)])
        self.age()
        self.assertIn("nothing lies about", self.clean(f"{self.bucket}/ecephys")[1])
        out = self.clean(str(self.folder / "store" / self.bucket))[1]
        self.assertIn("record of a transfer", out)

    def test_files_of_jobs_go_where_that_is_asked_for(self):
        for name in ("old", "young"):
            self.write("log", root=self.folder / "data" / "jobs" / name)
        self.age()
        self.write("log", b"more", root=self.folder / "data" / "jobs" / "young")
        self.clean()
        jobs = self.folder / "data" / "jobs"
        self.assertEqual(len(os.listdir(jobs)), 2)
        self.assertRegex(self.clean("--job-files")[1], "removed +files of job old")
        self.assertEqual(os.listdir(jobs), ["young"])

    def test_with_nothing_known_and_nothing_named_it_says_so(self):
        with patch.dict(os.environ, {"UPLOAD_STATE_DIR": str(self.folder / "elsewhere")}):
            code, out, _ = self.clean("--dry-run")
        self.assertEqual(0, code)
        self.assertIn("no bucket was named", out)

    def test_what_cannot_be_removed_is_told_and_the_rest_goes(self):
        for name in ("1", "2"):
            (self.incoming / f"{PREFIX}~{name}").write_bytes(b"half")
        self.age()
        real = LocalAssetStore.abort

        def abort(store, upload):
            if upload.upload_id.endswith("1"):
                raise OSError(30, "Read-only file system")
            real(store, upload)

        with patch.object(LocalAssetStore, "abort", abort):
            code, out, err = self.clean()
        self.assertEqual(code, ExitCode.DESTINATION)
        self.assertIn("not removed  unfinished upload", out)
        self.assertIn("Read-only", err)
        self.assertEqual(os.listdir(self.incoming), [f"{PREFIX}~1"])


class TestAges(TransferTestCase):
    """How old something is."""

    def test_ages_are_read(self):
        self.assertEqual(read_age("7d"), timedelta(days=7))
        self.assertEqual(read_age(" 12h "), timedelta(hours=12))
        self.assertEqual(read_age("30m"), timedelta(minutes=30))
        for text in ("", "7", "d", "-1d", "1w", "1.5d"):
            with self.assertRaisesRegex(RequestError, "is no age"):
                read_age(text)

    def test_what_has_no_known_age_is_never_touched(self):
        store = LocalAssetStore(self.folder / "bucket")
        upload = Unfinished(f"{PREFIX}/x", "1", None)
        store.put(mark_key(PREFIX), b"{}")
        mark = StoredObject(mark_key(PREFIX), 1, "e")
        with (
            patch.object(store, "unfinished", lambda: [upload]),
            patch.object(store, "objects", lambda prefix: [mark]),
        ):
            leftovers = Leftovers(timedelta(0), datetime.now(UTC))
            found = list(leftovers.of_bucket(store, "", self.folder / "state"))
        self.assertEqual([finding.remove for finding in found], [None, None])
        self.assertIn("some time", found[0].words)
