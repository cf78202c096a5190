"""`verify`: an asset proven again from its manifest alone."""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import DestinationError, ExitCode, RequestError
from aind_data_transfer_service.storage.layout import former_manifest_key, manifest_key, mark_key
from aind_data_transfer_service.storage.local_store import LocalAssetStore
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.upload.cli import verify
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.manifest import Manifest, write_manifest
from aind_data_transfer_service.upload.verify import audit
from aind_data_transfer_service.upload.verify.compare import differences
from tests.support import slow
from tests.support.transfer import PREFIX, TransferTestCase


class AuditTestCase(TransferTestCase):
    """Gives each test an asset, and the command."""

    def setUp(self) -> None:
        """Bring the asset."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, {"DATA_DIR": str(self.folder / "data")}))
        self.enterContext(patch.dict(os.environ, {"DESTINATION": str(self.folder / "store")}))
        self.write("a.txt")
        self.write("deep/b.bin", os.urandom(300_000))
        self.run_job()

    def verify(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; give its exit code and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(["verify", *arguments])
        return code, out.getvalue(), err.getvalue()

    def damage(self, name: str) -> None:
        """Change a stored file's bytes and neither its size nor its time."""
        path = self.folder / "store" / self.bucket / PREFIX / name
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    @property
    def asset(self) -> str:
        """The asset's bucket and name."""
        return f"{self.bucket}/{PREFIX}"


@slow
class TestVerify(AuditTestCase):
    """The command."""

    def test_an_untouched_asset_is_proven_however_it_is_named(self):
        path = str(self.folder / "store" / self.bucket / PREFIX)
        for arguments in ((self.asset,), (path,), (path + "/",), ("--bucket", self.bucket, PREFIX)):
            code, out, err = self.verify(*arguments)
            self.assertEqual((code, err), (0, ""), arguments)
            self.assertRegex(out, rf"^{path}: 5 files, [\d,]+ bytes are proven, as the store lists")

    def test_every_difference_is_told_and_documents_are_said_to_be_documents(self):
        self.store.delete([f"{PREFIX}/behavior/a.txt"])
        self.store.put(f"{PREFIX}/behavior/deep/b.bin", b"short")
        self.store.put(f"{PREFIX}/foreign.txt", b"x")
        self.store.put(f"{PREFIX}/subject.json", b"{}")
        self.store.put(f"{PREFIX}/processing.json", b"{}")
        code, out, err = self.verify(self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        for words in (
            "5 differences",
            "behavior/a.txt is missing\n",
            "behavior/deep/b.bin has 5 bytes there, 300,000 were sent\n",
            "foreign.txt is there, and nobody sent it\n",
            "subject.json is there, and nobody sent it (a metadata document)",
        ):
            self.assertIn(words, out)
        self.assertRegex(out, r"processing\.json has 2 bytes there.*\(a metadata document\)")
        self.assertEqual(len(err.splitlines()), 1)

    def test_damage_that_keeps_its_looks_is_found_by_reading(self):
        self.damage("behavior/deep/b.bin")
        code, out, _ = self.verify("--deep", self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn("behavior/deep/b.bin has other bytes there", out)

    def test_the_bytes_decide_where_they_are_read_and_no_etag(self):
        path = self.folder / "store" / self.bucket / PREFIX / "behavior" / "a.txt"
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(0, 0))
        code, out, _ = self.verify(self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn("a.txt was replaced there", out)
        code, out, _ = self.verify("--deep", self.asset)
        self.assertEqual(code, 0)
        self.assertIn("are proven, read back", out)

    def test_programs_get_one_object_an_asset(self):
        self.store.delete([f"{PREFIX}/behavior/a.txt"])
        code, out, err = self.verify("--json", self.asset, f"{self.bucket}/nothing", self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        first, second, third = map(json.loads, out.splitlines())
        self.assertEqual(first, third)
        self.assertFalse(first["proven"])
        self.assertEqual(first["differences_total"], 1)
        (difference,) = first["differences"]
        self.assertEqual(
            (difference["path"], difference["fault"], difference["document"]),
            ("behavior/a.txt", "missing", False),
        )
        self.assertEqual(second["exit_code"], ExitCode.DESTINATION)
        self.assertIn("there is no asset", second["error"])
        self.assertIn("(and 2 more of 3 assets)", err)

    def test_an_asset_that_cannot_be_proven_is_told_why(self):
        self.store.put("unfinished/x", b"x")
        self.store.put(mark_key("unfinished"), b"{}")
        self.store.put("foreign/x", b"x")
        self.store.put("damaged/x", b"x")
        self.store.put(manifest_key("damaged"), b'{"manifest": 1, "files": 2, "bytes": 3}\n')
        for name, words in (
            ("unfinished", "is unfinished"),
            ("foreign", "has no manifest"),
            ("gone", "there is no asset"),
            ("damaged", "line 1: it says 2 files of 3 bytes, but 0 files of 0 bytes follow"),
        ):
            code, _, err = self.verify("--bucket", self.bucket, name)
            self.assertEqual(code, ExitCode.DESTINATION)
            self.assertIn(words, err)

    def test_a_further_upload_that_has_begun_is_told(self):
        self.store.put(mark_key(PREFIX), b'{"fence": 99}')
        code, out, _ = self.verify(self.asset)
        self.assertEqual(code, 0)
        self.assertIn("a further upload into it began", out)

    def test_the_copy_of_a_manifest_that_could_not_be_replaced_is_used(self):
        self.store.put(mark_key(PREFIX), b'{"fence": 99}')
        self.store.put(former_manifest_key(PREFIX), self.store.get(manifest_key(PREFIX)))
        self.store.delete([manifest_key(PREFIX)])
        code, out, _ = self.verify(self.asset)
        self.assertEqual(code, 0)
        self.assertIn("5 files", out)
        self.assertIn("a further upload into it began", out)

    def test_what_names_no_asset_is_refused_with_what_would_be_right(self):
        for text in ("s3://bucket", "asset", "s3://bucket/asset/file", "/", "a/b/c"):
            code, _, err = self.verify(text)
            self.assertEqual(code, ExitCode.REQUEST, text)
            self.assertIn("write s3://bucket/asset", err)
        place = verify.place_of("s3://b/a/", None, "/root")
        self.assertEqual(place, verify.Place("s3://", "b", "a"))
        with self.assertRaises(RequestError):
            verify.place_of("b/a", "bucket", "/root")

    def test_a_wrong_setting_is_one_line(self):
        with patch.dict(os.environ, {"LAB_TIMEZONE": "Moon"}):
            code, _, err = self.verify(self.asset)
        self.assertEqual(code, ExitCode.REQUEST)
        self.assertRegex(err, "^a setting is wrong: [A-Z_]+: .*\n$")

    def test_what_was_not_foreseen_and_a_key_pressed_end_in_words(self):
        for error, code in (
            (RuntimeError("odd"), ExitCode.UNEXPECTED),
            (KeyboardInterrupt(), ExitCode.CANCELLED),
        ):
            with patch.object(verify, "audit", side_effect=error):
                self.assertEqual(self.verify(self.asset)[0], code)

    def test_a_reader_that_has_heard_enough_is_no_error_of_ours(self):
        path = str(self.folder / "store" / self.bucket / PREFIX)
        command = [sys.executable, "-m", "aind_data_transfer_service", "verify", path]
        receiver, sender = os.pipe()
        os.close(receiver)
        ended = subprocess.run(command, stdout=sender, stderr=subprocess.PIPE, timeout=60)
        os.close(sender)
        self.assertEqual(ended.returncode, ExitCode.UNEXPECTED)
        self.assertNotIn(b"Traceback", ended.stderr)


@slow
class TestManyFiles(AuditTestCase):
    """Sizes that do not fit into one piece."""

    def test_a_manifest_of_many_pieces_comes_back_as_it_was(self):
        entries = [Entry(f"{i:06}", i, "0" * 64, "t", "e", "s") for i in range(60_000)]
        size = sum(entry.size for entry in entries)
        header = {"manifest": 1, "files": len(entries), "bytes": size}
        write_manifest(self.store, "many", header, entries)
        manifest = Manifest(self.store, "many")
        self.assertEqual(manifest.header, header)
        self.assertEqual(list(manifest), entries)

    def test_a_manifest_that_was_cut_off_is_not_taken_for_whole(self):
        data = self.store.get(manifest_key(PREFIX))
        lines = data.splitlines(keepends=True)
        self.store.put(manifest_key(PREFIX), b"".join(lines[:-1]))
        with self.assertRaisesRegex(DestinationError, "line 1: it says 5 files.*but 4 files"):
            list(Manifest(self.store, PREFIX))
        for junk in (b"", b"[]\n", b"\xff\n", b"{}\n"):
            self.store.put(manifest_key(PREFIX), junk)
            with self.assertRaisesRegex(DestinationError, "damaged or was edited, line 1: "):
                Manifest(self.store, PREFIX)
        self.store.put(manifest_key(PREFIX), lines[0] + b'{"odd": 1}\n')
        with self.assertRaisesRegex(DestinationError, "damaged or was edited, line 2: "):
            list(Manifest(self.store, PREFIX))

    @slow
    def test_a_long_list_comes_in_pieces_and_whole_where_those_leave_something_out(self):
        for number in range(2_000):
            self.write(f"{number:04}.bin")
        self.run_job(force_cloud_sync=True)
        whole, asked = LocalAssetStore.objects, []

        def objects(store, prefix, cuts=()):
            if prefix == PREFIX:
                asked.append(cuts)
            return itertools.islice(whole(store, prefix), 100 if cuts else None)

        self.enterContext(patch.object(LocalAssetStore, "objects", objects))
        self.enterContext(patch.object(LocalAssetStore, "proves_by_reading", False))
        self.enterContext(patch.object(audit, "_INTERVAL", 0.0))
        tell = self.enterContext(patch.object(audit, "_tell"))
        self.assertEqual(self.verify(self.asset)[0], 0)
        self.assertEqual([len(cuts) for cuts in asked], [2, 0])
        self.assertEqual([PREFIX] * 2, [cut.split("/")[0] for cut in asked[0]])
        self.assertEqual(tell.call_args.args[0]["files_done"], 2_005)
        self.store.delete([f"{PREFIX}/behavior/0007.bin"])
        code, out, _ = self.verify(self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn(": 1 differences\n  behavior/0007.bin is missing\n", out)

    def test_no_more_differences_are_kept_than_a_person_reads(self):
        for number in range(150):
            self.store.put(f"{PREFIX}/extra/{number}", b"")
        code, out, _ = self.verify(self.asset)
        self.assertEqual(code, ExitCode.VERIFICATION)
        self.assertIn("150 differences", out)
        self.assertIn("  50 more differences\n", out)
        self.assertEqual(len(out.splitlines()), 102)

    def test_the_order_of_neither_side_matters(self):
        entries = [Entry(str(i), 1, "", "", "e", "") for i in range(50)]
        stored = [StoredObject(f"p/{i}", 1, "e") for i in reversed(range(49))]
        (found,) = differences(entries, stored, 2)
        self.assertEqual((found.path, found.fault), ("49", "missing"))


class TestProgressOfAProof(AuditTestCase):
    """How far a proof is."""

    def test_it_is_told_where_there_is_no_terminal(self):
        with patch.object(audit, "_INTERVAL", 0.0), patch.object(audit.logger, "info") as info:
            self.assertEqual(self.verify(self.asset)[0], 0)
        self.assertIn("5 of 5 files", info.call_args.args[0] % info.call_args.args[1:])
