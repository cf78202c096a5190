"""A job reads what it may read, whatever changes while it waits and while it runs."""

import contextlib
import io
import json
import os
import shutil
import unittest
from unittest.mock import patch

from aind_data_transfer_service.errors import (
    ExitCode,
    MetadataError,
    SourceChangedError,
    SourceError,
)
from aind_data_transfer_service.upload.cli.upload import main
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.plan.plan import PART_SIZE
from aind_data_transfer_service.upload.source.confined_open import SourceReader
from tests.support.transfer import TransferTestCase

SECRET = b'{"secret": true}'


class SecretTestCase(TransferTestCase):
    """A source, and a file beside it that is nobody's to read."""

    def setUp(self):
        super().setUp()
        self.secret = self.write("session.json", SECRET, root=self.folder / "outside")
        self.outside = self.secret.parent
        self.write("a.bin", SECRET)
        self.write("inner/b.bin", SECRET)

    def assert_nothing_leaked(self):
        """Make sure that the secret's bytes are in no file of the store but those of the source."""
        store = self.folder / "store"
        found = [p.name for p in store.rglob("*") if p.is_file() and p.read_bytes() == SECRET]
        self.assertEqual([], [name for name in found if name not in ("a.bin", "b.bin")])

    def strict(self, **more):
        """Make settings that allow the session alone."""
        return self.settings(source_roots=[self.folder / "session"], **more)

    def swap_for_link(self, name: str, target) -> None:
        """Put a link in the place of a file or folder, which looks the same through it."""
        path = self.source / name
        path.rename(self.folder / "before")
        path.symlink_to(target)


class BeforeTheScan(SecretTestCase):
    """What is named by the request, or was swapped while the job waited."""

    def test_a_source_under_no_root_is_refused_with_the_root_and_what_to_do(self):
        modality = {"modality": "behavior", "source": str(self.outside)}
        with self.assertRaisesRegex(SourceError, "behavior: .*/outside is not under .*/session.*"):
            self.run_job(self.strict(), modalities=[modality])

    def test_a_source_that_became_a_link_is_refused(self):
        for target in (self.outside, "/etc", "/", self.folder / "data"):
            with self.subTest(target):
                shutil.rmtree(self.source, ignore_errors=True)
                self.source.unlink(missing_ok=True)
                self.source.symlink_to(target)
                with self.assertRaisesRegex(SourceError, "Behavior leads to ") as raised:
                    self.run_job(self.strict())
                self.assertEqual(ExitCode.SOURCE, raised.exception.exit_code)
        self.assert_nothing_leaked()

    def test_a_source_that_is_a_link_to_another_root_is_uploaded(self):
        real = self.folder / "session" / "elsewhere"
        self.source.rename(real)
        self.source.symlink_to(real)
        self.run_job(self.strict())
        self.assertEqual(SECRET, self.stored()["behavior/inner/b.bin"])

    def test_a_single_file_that_became_a_link_is_refused(self):
        (self.source / "a.bin").unlink()
        (self.source / "a.bin").symlink_to(self.secret)
        modality = {"modality": "behavior", "source": str(self.source / "a.bin")}
        with self.assertRaisesRegex(SourceError, "leads to .*session.json"):
            self.run_job(self.strict(), modalities=[modality])

    def test_all_that_is_wrong_is_named_at_once(self):
        modality = {
            "modality": "behavior",
            "source": str(self.outside),
            "extra_configs": str(self.secret),
        }
        asked = {"modalities": [modality], "metadata_dir": "/etc"}
        with self.assertRaisesRegex(
            SourceError, "behavior: .*metadata_dir: /etc is never.*extra_configs: .*session.json is"
        ):
            self.run_job(self.strict(), **asked)

    def test_without_roots_the_folders_of_the_service_are_refused(self):
        self.write("jobs.sqlite3", root=self.folder / "data")
        for source in (self.folder / "data", self.folder, "/etc", "/proc/self"):
            modality = {"modality": "behavior", "source": str(source)}
            with self.subTest(source), self.assertRaisesRegex(SourceError, "never uploaded"):
                self.run_job(modalities=[modality])

    def test_keys_within_a_source_stop_the_job(self):
        for name in (".ssh/id_rsa", "deep/.config/gcloud/x", ".netrc", "inner/.aws/credentials"):
            with self.subTest(name):
                path = self.write(name)
                with self.assertRaisesRegex(SourceError, "holds keys, which are never uploaded"):
                    self.run_job()
                path.unlink()
                if path.parent not in (self.source, self.source / "inner"):
                    path.parent.rmdir()
        self.write(".config/rclone.txt")
        self.run_job()


class Metadata(SecretTestCase):
    """Documents of `metadata_dir`."""

    def test_a_link_out_of_the_roots_is_refused_by_its_name(self):
        folder = self.folder / "session" / "metadata"
        folder.mkdir()
        (folder / "session.json").symlink_to(self.secret)
        (folder / "rig.json").symlink_to("/etc/hosts")
        with self.assertRaises(MetadataError) as raised:
            self.run_job(self.strict(), metadata_dir=str(folder))
        for words in ("session.json leads to ", "rig.json leads to /etc/hosts, which is never"):
            self.assertIn(words, str(raised.exception))
        self.assert_nothing_leaked()

    def test_a_link_within_the_roots_is_read(self):
        folder = self.folder / "session" / "metadata"
        self.write("rig.json", '{"rig_id": "1"}', root=self.folder / "session" / "rigs")
        folder.mkdir()
        (folder / "rig.json").symlink_to("../rigs/rig.json")
        self.run_job(self.strict(), metadata_dir=str(folder))
        self.assertIn("rig.json", self.stored())

    def test_a_folder_that_becomes_a_link_while_the_job_runs_is_refused(self):
        folder = self.folder / "session" / "metadata"
        folder.mkdir()

        def swap():
            folder.rmdir()
            folder.symlink_to(self.outside)

        self.told.when(Step.PREFLIGHT, Kind.END, swap)
        with self.assertRaisesRegex(MetadataError, "metadata leads to .*outside"):
            self.run_job(self.strict(), metadata_dir=str(folder))
        self.assert_nothing_leaked()


class AfterTheScan(SecretTestCase):
    """Files and folders that are swapped for links between the scan and the sending."""

    def check_swapped(self, name, target, **request):
        """Swap a file or folder once the plan is made."""
        status = (self.source / "inner/b.bin").stat()
        for path in (*self.outside.rglob("*"), self.outside):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.told.when(Step.METADATA, Kind.END, lambda: self.swap_for_link(name, target))
        with self.assertRaisesRegex(SourceChangedError, "a link took its place") as raised:
            self.run_job(self.settings(), **request)
        self.assertEqual(ExitCode.SOURCE_CHANGED, raised.exception.exit_code)
        self.assertIn("submit again", str(raised.exception))
        self.assert_nothing_leaked()

    def test_a_file(self):
        self.check_swapped("inner/b.bin", self.secret)

    def test_a_folder(self):
        self.write("b.bin", SECRET, root=self.outside)
        self.check_swapped("inner", self.outside)

    def test_a_file_that_becomes_part_of_a_zip(self):
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        self.check_swapped("inner/b.bin", self.secret, modalities=[modality])

    def test_a_large_file(self):
        data = bytes(PART_SIZE + 1)
        self.write("inner/b.bin", data)
        self.write("large.bin", data, root=self.outside)
        self.check_swapped("inner/b.bin", self.outside / "large.bin")

    def test_a_folder_that_is_swapped_while_it_is_scanned_is_not_listed(self):
        real = os.lstat
        secret = self.write("unheard-of.bin", SECRET, root=self.outside)

        def swap(path, **more):
            if str(path).endswith("a.bin"):  # which comes after the list of its folder
                self.swap_for_link("inner", self.outside)
            return real(path, **more)

        with patch.object(os, "lstat", swap), self.assertRaises(SourceError) as raised:
            self.run_job(dry_run=True)
        self.assertIn("inner/ became a link", str(raised.exception))
        self.assertNotIn(secret.name, str(raised.exception))

    def test_a_source_that_is_re_linked_is_read_where_it_was_found(self):
        real = self.folder / "session" / "one"
        self.source.rename(real)
        self.source.symlink_to(real)
        for name in ("a.bin", "inner/b.bin"):
            self.write(name, b'{"secret": TRUE}', root=self.outside / "two")
            status = (real / name).stat()
            os.utime(self.outside / "two" / name, ns=(status.st_atime_ns, status.st_mtime_ns))

        def swap():
            self.source.unlink()
            self.source.symlink_to(self.outside / "two")

        self.told.when(Step.METADATA, Kind.END, swap)
        with self.assertRaises((SourceError, SourceChangedError)):
            self.run_job(self.strict())
        stored = [path.read_bytes() for path in (self.folder / "store").rglob("*.bin")]
        self.assertNotIn(b'{"secret": TRUE}', stored)

    def test_links_to_files_of_the_same_source_are_sent(self):
        (self.source / "link").symlink_to("inner/b.bin")
        (self.source / "inner" / "link").symlink_to(self.source / "a.bin")
        self.run_job(self.strict())
        self.assertEqual(SECRET, self.stored()["behavior/link"])
        self.assertEqual(SECRET, self.stored()["behavior/inner/link"])

    def test_a_folder_that_was_made_again_is_found(self):
        def replace():
            shutil.copytree(self.source / "inner", self.folder / "copy", copy_function=shutil.copy2)
            shutil.rmtree(self.source / "inner")
            (self.folder / "copy").rename(self.source / "inner")

        self.told.when(Step.METADATA, Kind.END, replace)
        self.run_job()
        self.assertEqual(SECRET, self.stored()["behavior/inner/b.bin"])

    def test_files_of_many_folders_at_any_depth(self):
        names = [f"{'d/' * (number % 20)}{number}/x{number}.bin" for number in range(40)]
        for name in names:
            self.write(name, name)
        self.run_job()
        stored = self.stored()
        for name in names:
            self.assertEqual(name.encode(), stored[f"behavior/{name}"])


class OpenFolders(SecretTestCase):
    """Folders that stay open while files in them are opened."""

    def test_one_that_another_thread_lets_go_of_stays_open_while_it_is_used(self):
        reader = SourceReader(str(self.source))
        real = os.open

        def let_go_first(path, flags, mode=0o777, *, dir_fd=None):
            reader.let_go()
            return real(path, flags, mode, dir_fd=dir_fd)

        for name in ("inner/b.bin", "a.bin", "inner/b.bin"):
            with patch.object(os, "open", let_go_first):
                descriptor = reader.open(name)
            self.assertEqual(SECRET, os.read(descriptor, 100))
            os.close(descriptor)
        with patch.object(os, "open", let_go_first):
            descriptor = reader.open_folder("inner")
        self.assertEqual(["b.bin"], os.listdir(descriptor))
        os.close(descriptor)

    def test_no_more_than_a_few_stay_open(self):
        reader = SourceReader(str(self.source))
        before = len(os.listdir("/proc/self/fd"))
        for number in range(100):
            self.write(f"{number}/x.bin")
            os.close(reader.open(f"{number}/x.bin"))
        self.assertLessEqual(len(os.listdir("/proc/self/fd")) - before, 20)
        reader.let_go()
        self.assertLess(len(os.listdir("/proc/self/fd")) - before, 5)


class AsAProgram(TransferTestCase):
    """Roots and buckets as a job on any machine gets them: by its environment."""

    def run_main(self, request: str, **environment: str) -> int:
        """Run the program, and return its exit code; its last line is kept."""
        self.write("a.txt")
        state = {"DATA_DIR": str(self.folder / "data"), "DESTINATION": str(self.folder / "store")}
        with (
            patch.dict(os.environ, state | environment),
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            code = main(["--json-args", request])
        self.last_line = (said.getvalue().splitlines() or [""])[-1]
        return code

    def test_the_roots_of_the_environment_are_enforced(self):
        text = self.config().model_dump_json()
        code = self.run_main(text, SOURCE_ROOTS=str(self.folder / "other"))
        self.assertEqual(ExitCode.SOURCE, code)
        self.assertIn("SOURCE_ROOTS", self.last_line)
        self.assertEqual(0, self.run_main(text, SOURCE_ROOTS=str(self.folder)))

    def test_a_drive_of_windows_is_where_the_environment_says(self):
        given = {"modality": "behavior", "source": r"Z:\Behavior"}
        request = json.dumps(json.loads(self.config().model_dump_json()) | {"modalities": [given]})
        self.assertEqual(ExitCode.REQUEST, self.run_main(request))
        self.assertIn("add Z: to PATH_MAPPINGS", self.last_line)
        mappings = json.dumps({"Z:": str(self.source.parent)})
        strict = {"PATH_MAPPINGS": mappings, "SOURCE_ROOTS": str(self.folder / "other")}
        self.assertEqual(ExitCode.SOURCE, self.run_main(request, **strict))
        self.assertIn("/session/Behavior is not under a folder", self.last_line)
        self.assertEqual(0, self.run_main(request, PATH_MAPPINGS=mappings))

    def test_private_paths_of_the_environment_are_enforced(self):
        text = self.config().model_dump_json()
        private = json.dumps([str(self.folder / "a:b"), str(self.source)])
        code = self.run_main(text, UPLOAD_PRIVATE_PATHS=private)
        self.assertEqual(ExitCode.SOURCE, code)
        self.assertIn("never uploaded", self.last_line)

    def test_another_bucket_is_refused_by_the_job(self):
        text = self.config().model_dump_json()
        code = self.run_main(text, ALLOWED_BUCKETS="lab-*,open")
        self.assertEqual(ExitCode.REQUEST, code)
        self.assertRegex(self.last_line, 's3_bucket: "test-bucket" is not .* lab-\\*, open')
        self.assertFalse((self.folder / "store").exists())
        self.assertEqual(0, self.run_main(text, ALLOWED_BUCKETS="test-*"))

    def test_a_word_in_place_of_a_bucket_is_replaced_or_refused_by_the_job(self):
        text = self.config().model_copy(update={"s3_bucket": "private"}).model_dump_json()
        self.assertEqual(ExitCode.REQUEST, self.run_main(text))
        self.assertRegex(self.last_line, 's3_bucket: "private" .* set PRIVATE_BUCKET_NAME')
        self.assertFalse((self.folder / "store").exists())
        self.assertEqual(0, self.run_main(text, PRIVATE_BUCKET_NAME="lab-data"))
        self.assertTrue((self.folder / "store" / "lab-data").is_dir())

    def test_characters_that_no_text_may_hold_are_refused_by_the_job(self):
        for character, words in (
            ("\u202e", "U\\+202E"),
            ("\ud800", "U\\+D800"),
            ("\x07", "U\\+0007"),
        ):
            request = json.loads(self.config().model_dump_json()) | {
                "project_name": f"Ephys{character}Platform"
            }
            with self.subTest(words):
                self.assertEqual(ExitCode.REQUEST, self.run_main(json.dumps(request)))
                self.assertRegex(self.last_line, f"project_name: .*{words}.* at character 6")


if __name__ == "__main__":
    unittest.main()
