"""Objects under an asset that are not of it: the manifest lists them, and `verify` knows them."""

import contextlib
import io
import json
import os
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import (
    DestinationError,
    ExitCode,
    TransferError,
    VerificationError,
)
from aind_data_transfer_service.storage.layout import (
    former_manifest_key,
    manifest_key,
    record_folder,
)
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.manifest.json_lines import write_lines
from aind_data_transfer_service.upload.manifest.manifest import Manifest, write_manifest
from aind_data_transfer_service.upload.manifest.unlisted import Left
from aind_data_transfer_service.upload.source import sample
from tests.support import slow
from tests.support.transfer import PREFIX, TransferTestCase


class LeftTestCase(TransferTestCase):
    """Gives each test a source, and `verify`."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, {"DATA_DIR": str(self.folder / "data")}))
        self.enterContext(patch.dict(os.environ, {"DESTINATION": str(self.folder / "store")}))
        self.write("a.txt")

    def verify(self, *arguments: str) -> tuple[int, str]:
        """Run `verify`; return its exit code and what it printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main.main(["verify", *arguments, f"{self.bucket}/{PREFIX}"])
        return code, out.getvalue()

    def put(self, path: str, data: bytes = b"foreign") -> None:
        """Store an object as other software does."""
        self.store.put(f"{PREFIX}/{path}", data)

    def fail_late(self, settings=None, **more) -> None:
        """Let a job fail after its data arrived."""

        def fail() -> None:
            raise TransferError("half-way")

        self.told.when(Step.VERIFY, Kind.START, fail)
        with self.assertRaisesRegex(TransferError, "half-way"):
            self.run_job(settings, **more)

    def assert_left(self, *paths: str) -> None:
        """See that exactly these are listed as left, and that `verify` ends well."""
        self.assertEqual([one.path for one in Manifest(self.store, PREFIX).left.left], [*paths])
        for how in ((), ("--deep",)):
            code, out = self.verify(*how)
            self.assertEqual(code, 0, out)
            self.assertIn(f"{len(paths)} files, ", out.splitlines()[-1])
            self.assertIn("not of this asset, left in place and not proven: ", out)
            for path in paths:
                self.assertIn(path, out)
        found = json.loads(self.verify("--json")[1])
        self.assertEqual((found["left"], found["left_total"]), ([*paths], len(paths)))


class TestJobs(LeftTestCase):
    """What jobs write, and `verify` right after them."""

    def test_what_others_put_under_a_half_asset_is_listed(self):
        self.fail_late()
        self.put("behavior/foreign.txt")
        self.run_job()
        self.assert_left("behavior/foreign.txt")
        self.assertNotIn("behavior/foreign.txt", self.manifest())

    def test_what_a_failed_job_of_another_modality_sent_is_listed_until_that_job_brings_it(self):
        self.fail_late()
        other = self.write("b.bin", root=self.folder / "session" / "Ecephys").parent
        self.run_job(modalities=[{"modality": "ecephys", "source": str(other)}])
        self.assert_left("behavior/a.txt")
        self.run_job(force_cloud_sync=True)
        self.assertEqual(Manifest(self.store, PREFIX).left.fields(), {})
        self.assertLessEqual({"behavior/a.txt", "ecephys/b.bin"}, self.manifest().keys())
        self.assertEqual(self.verify()[0], 0)

    def test_a_forced_upload_lists_what_it_found(self):
        self.put("other/x")
        self.put("y")
        self.run_job(force_cloud_sync=True)
        self.assert_left("other/x", "y")
        self.run_job(force_cloud_sync=True)
        self.assert_left("other/x", "y")

    def test_names_that_are_not_utf8_are_listed_too(self):
        path = os.fsencode(self.folder / "store" / self.bucket / PREFIX / "behavior")
        os.makedirs(path)
        for name in (b"\xff", b"\xfe"):
            with open(os.path.join(path, name), "wb") as file:
                file.write(name)
        for most in (sample.MOST_BYTES, 1):
            with patch.object(sample, "MOST_BYTES", most):
                self.run_job(force_cloud_sync=True)
            code, out = self.verify()
            self.assertEqual(code, 0)
            self.assertIn("2 files, 2 bytes are not of this asset", out)

    def test_a_file_of_a_forced_upload_replaces_what_was_left(self):
        self.put("behavior/b.txt")
        self.put("y")
        self.run_job(force_cloud_sync=True)
        self.write("b.txt", "ours")
        self.run_job(force_cloud_sync=True)
        self.assert_left("y")
        self.assertIn("behavior/b.txt", self.manifest())

    def test_a_replaced_file_of_an_earlier_upload_is_not_listed(self):
        self.write("b.txt")
        self.run_job()
        self.put("behavior/b.txt", b"theirs")
        (self.source / "b.txt").unlink()
        self.run_job(force_cloud_sync=True)
        self.assertEqual(Manifest(self.store, PREFIX).left.fields(), {})
        warnings = " ".join(self.told.warnings())
        self.assertRegex(warnings, "replaced since an earlier upload .*: behavior/b.txt")
        code, out = self.verify()
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn("behavior/b.txt is there, and nobody sent it", out)

    def test_the_last_job_of_shards_lists_what_stays(self):
        self.run_job(self.settings(job_id="one", upload_shard="1/2"))
        self.put("other/x")
        self.run_job(self.settings(job_id="one", upload_shard="2/2"))
        self.run_job(self.settings(job_id="one", upload_shards_done=2))
        self.assert_left("other/x")

    def test_what_appears_while_the_job_runs_still_fails_it(self):
        self.fail_late()
        self.put("behavior/early.txt")
        self.told.when(Step.VERIFY, Kind.START, lambda: self.put("behavior/late.txt"))
        with self.assertRaises(VerificationError) as caught:
            self.run_job()
        self.assertIn("late.txt is there, and nobody sent it", str(caught.exception))
        self.assertNotIn("early.txt", str(caught.exception))

    def test_a_name_that_is_not_utf8_and_appears_meanwhile_is_named(self):
        folder = os.fsencode(self.folder / "store" / self.bucket / PREFIX / "behavior")

        def appear() -> None:
            open(os.path.join(folder, b"\xff"), "wb").close()

        self.told.when(Step.VERIFY, Kind.START, appear)
        with self.assertRaisesRegex(VerificationError, "is there, and nobody sent it"):
            self.run_job()

    def test_a_forced_upload_lists_the_asset_once_when_it_proves_it(self):
        self.run_job()
        self.put("other/x")
        objects, asked = LocalAssetStore.objects, []

        def count(store, prefix, cuts=()):
            asked.extend([prefix] if prefix == PREFIX else ())
            return objects(store, prefix, cuts)

        def begin() -> None:
            asked.clear()

        self.enterContext(patch.object(LocalAssetStore, "objects", count))
        self.enterContext(patch.object(LocalAssetStore, "list_pauses", (0.0,)))
        self.told.when(Step.VERIFY, Kind.START, begin)
        self.run_job(force_cloud_sync=True)
        self.assertEqual(asked, [PREFIX])


class TestVerify(LeftTestCase):
    """What was listed, and what has become of it."""

    def setUp(self) -> None:
        """Publish an asset with two objects that are not of it."""
        super().setUp()
        self.put("other/x")
        self.put("other/y")
        self.run_job(force_cloud_sync=True)

    def assert_named(self, *words: str) -> None:
        """See that `verify` fails, naming just these."""
        code, out = self.verify()
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn(f"{len(words)} differences", out)
        for word in words:
            self.assertIn(word, out)

    def test_what_was_changed_or_added_since_is_a_difference(self):
        self.put("other/x", b"changed")
        self.put("other/z")
        self.assert_named("other/x is there, and nobody sent it", "other/z is there, and nobody")

    def test_what_was_deleted_since_is_none(self):
        self.store.delete([f"{PREFIX}/other/x"])
        self.assertEqual(self.verify()[0], 0)

    def test_many_are_listed_by_their_folders(self):
        for top in ("other", "more"):
            for number in range(5):
                self.put(f"{top}/deep/{number}")
        self.enterContext(patch.object(sample, "MOST_BYTES", 400))
        self.run_job(force_cloud_sync=True)
        found = Manifest(self.store, PREFIX).left
        folders = [(one.folder, one.files) for one in found.left_folders]
        self.assertEqual((found.left, folders), ([], [("more", 5), ("other", 7)]))
        code, out = self.verify()
        self.assertEqual(code, 0, out)
        self.assertRegex(out, "12 files, 84 bytes are not of this asset.*: more/; other/")
        self.put("more/deep/0", b"changed")
        self.assert_named("more/: 5 files of 35 bytes are there that nobody sent")
        self.put("root")
        self.assert_named("more/: 5 files", "root is there, and nobody sent it")

    def test_of_too_many_folders_only_the_whole_is_listed(self):
        for number in range(6):
            self.put(f"{number}/x")
        self.enterContext(patch.object(sample, "MOST_BYTES", 400))
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.verify()[0], 0)
        self.put("7/x")
        self.assert_named("all folders: 9 files of 63 bytes")

    @slow
    def test_the_header_stays_small_whatever_was_left(self):
        stored = [StoredObject(f"p/{n % 3000}/{n}", n, f'"{n}"') for n in range(100_000)]
        self.assertEqual(len(Left.of(stored, 2).left_folders), 1)
        few = Left.of((one for one in stored if one.size % 3000 < 900), 2)
        self.assertEqual((len(few.left), len(few.left_folders)), (0, 900))
        self.assertLess(len(json.dumps([str(one) for one in few.left_folders])), 200_000)

    def test_a_folder_without_a_name_is_a_folder(self):
        stored = [StoredObject(f"p//{n}", n, f'"{n}"') for n in range(3)]
        stored += [StoredObject(f"p/./{n}", n, f'"{n}"') for n in range(3)]
        stored += [StoredObject(f"p/z/{n}", n, f'"{n}"') for n in range(9000)]
        stored += [StoredObject("p/x", 1, '"x"')]
        known = Left.of(stored, 2)
        self.assertEqual(
            {one.folder: one.files for one in known.left_folders},
            {
                "": 3,
                ".": 3,
                "z": 9000,
                "./": 1,
            },
        )
        same, different, changed = known.split({one.key[2:]: one for one in stored})
        self.assertEqual((len(same), different, changed), (4, [], []))

    def test_a_copy_of_a_store_that_was_taken_for_another_kind_goes(self):
        former = former_manifest_key(PREFIX)
        self.store.put(former, b"")
        write_manifest(self.store, PREFIX, {"files": 0, "bytes": 0}, [])
        self.assertNotIn(former, {one.key for one in self.store.objects(record_folder(PREFIX))})

    @slow
    def test_the_order_and_spelling_of_a_list_do_not_matter(self):
        stored = [StoredObject(f"p/{n}", n, f'"ab{n}"') for n in range(9000)]
        known = Left.of(stored, 2)
        again = {str(n): StoredObject(f"p/{n}", n, f"AB{n}") for n in reversed(range(9000))}
        self.assertEqual([], known.left)
        same, different, changed = known.split(again)
        self.assertEqual((same, different, changed), (known.left_folders, [], []))

    def test_a_manifest_of_an_earlier_release_says_nothing_of_them(self):
        manifest = Manifest(self.store, PREFIX)
        header = {name: value for name, value in manifest.header.items() if name != "left"}
        write_lines(self.store, manifest_key(PREFIX), [header, *manifest])
        self.assert_named("other/x is there, and nobody sent it", "other/y is there, and nobody")

    def test_a_list_that_was_edited_is_not_believed(self):
        manifest = Manifest(self.store, PREFIX)
        header = manifest.header | {"left": [{"path": "other/x", "size": "7", "etag": ""}]}
        write_lines(self.store, manifest_key(PREFIX), [header, *manifest])
        with self.assertRaisesRegex(DestinationError, "line 1: Expected `int`"):
            Manifest(self.store, PREFIX)
        self.assertEqual(self.verify()[0], ExitCode.DESTINATION)
