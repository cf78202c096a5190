"""Names that are excluded: what programs leave wherever somebody looks."""

import inspect
import io
import json
import os
import shutil
import unittest
from unicodedata import normalize
from unittest.mock import patch

from aind_data_transfer_service.errors import SourceChangedError
from aind_data_transfer_service.source_paths.excluded_names import DEFAULT, ExcludedNames
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.manifest.manifest import read_manifest
from aind_data_transfer_service.upload.source import sample
from tests.support.transfer import PREFIX, TransferTestCase

LITTER = (
    ".DS_Store",
    "._a.txt",
    "Thumbs.db",
    "desktop.ini",
    "~$table.xlsx",
    ".~lock.table.ods#",
    ".nfs000000000123abcd00000001",
    "$RECYCLE.BIN/x.bin",
    "@eaDir/a.txt@SynoEAStream",
    "System Volume Information/x",
)
DATA = ("a.txt", "x.DS_Store", "my._file", "Thumbs.db.txt", "a~$b", "nfs1", "eaDir/x", "TDMS_a")


class PatternsTest(unittest.TestCase):
    """Which names a pattern matches."""

    def test_names_and_patterns(self):
        for patterns, excluded, others in (
            ((), (), ("", "a", ".DS_Store")),
            (DEFAULT, (".DS_Store", "._", "._x", ".nfs12", "@eaDir"), (".ds_store", "x._a", "a")),
            (("*.tmp", "x?"), ("a.tmp", ".tmp", "xa"), ("a.tmp2", "x", "xab")),
            (("[ab]*.txt", "^x", "]"), ("a.txt", "b1.txt", "^x", "]"), ("c.txt", "x")),
            (("a.b",), ("a.b",), ("axb", "a.b\n", "aa.b")),
            (("._*",), (os.fsdecode(b"._\xff"), "._\n"), (os.fsdecode(b"\xff"),)),
        ):
            match = ExcludedNames(patterns).match
            may_match = ExcludedNames(patterns).may_match
            for name in excluded:
                self.assertTrue(match(name), (patterns, name))
                self.assertTrue(may_match(name), (patterns, name))
            for name in others:
                self.assertFalse(match(name), (patterns, name))

    def test_a_first_look_needs_no_code_of_our_own_and_decides_most_names(self):
        for patterns in ((), DEFAULT, ("*.tmp", *DEFAULT), ("a*",)):
            may_match = ExcludedNames(patterns).may_match
            self.assertTrue(inspect.isbuiltin(may_match))
            for name in ("TDMS_1.dat", "continuous.dat", "x._a"):
                self.assertFalse(may_match(name), (patterns, name))

    def test_a_first_look_rules_out_no_name_that_is_excluded(self):
        for pattern, name in (
            ("K*", "\N{KELVIN SIGN}1"),
            ("?.tmp", "e\u0301.tmp"),
            ("*.tmp", "\xe9.tmp"),
            ("[!a]x", "e\u0301x"),
            ("é*", "e\u0301a"),
            ("caf?", "cafe\u0301"),
            ("*\n?", "a\ne\u0301"),
            (";", "\N{GREEK QUESTION MARK}"),
        ):
            names = ExcludedNames([pattern])
            self.assertTrue(names.match(name), (pattern, name))
            self.assertTrue(names.may_match(name), (pattern, name))

    def test_accents_are_the_same_in_both_forms_of_unicode(self):
        for pattern, excluded, others in (
            ("Müll*", ("Müll", "Müller.txt"), ("Mull", "Muller", "müll")),
            ("[äö].tmp", ("ä.tmp", "ö.tmp"), ("a.tmp", "ü.tmp")),
            ("?.tmp", ("é.tmp", "e.tmp"), ("éé.tmp",)),
            ("*é", ("é", "café"), ("cafe", "è")),
            ("cafe*", ("cafe.txt",), ("café", "caféX")),
            ("한글*", ("한글", "한글.txt"), ("한",)),
            ("[!é]x", ("ax", "èx"), ("éx",)),
        ):
            for form in ("NFC", "NFD"):
                match = ExcludedNames([normalize(form, pattern)]).match
                for written in ("NFC", "NFD"):
                    with self.subTest(pattern=pattern, form=form, written=written):
                        for name in excluded:
                            self.assertTrue(match(normalize(written, name)), name)
                        for name in others:
                            self.assertFalse(match(normalize(written, name)), name)


class ExcludedTest(TransferTestCase):
    """A job over sources that hold such files and folders."""

    def header(self):
        """Read the first line of the manifest."""
        return read_manifest(self.store, PREFIX)[0]

    def arrived(self):
        """Return the names of the files that arrived of the source."""
        return {key.removeprefix("behavior/") for key in self.stored() if "/" in key}

    def test_they_are_left_out_and_named_in_the_manifest_and_the_plan(self):
        for name in (*DATA, *LITTER, *(f"deep/er/{name}" for name in LITTER)):
            self.write(name)
        tops = [name.partition("/")[0] for name in LITTER]
        named = {f"behavior/{folder}{top}" for folder in ("", "deep/er/") for top in tops}
        self.run_job(dry_run=True)
        for name in named:
            self.assertIn(f"  {name}  excluded by its name\n", self.printed.getvalue())
        self.run_job()
        self.assertEqual(set(DATA), self.arrived())
        header = self.header()
        self.assertEqual(named, set(header["excluded"]))
        self.assertEqual(len(named), header["excluded_total"])
        self.assertEqual(["behavior/deep/er"], header["empty_folders"])

    def test_nothing_about_them_can_stop_a_job(self):
        self.write("a.txt")
        (self.source / "._broken").symlink_to("nowhere")
        (self.source / ".Trashes").symlink_to("/etc")
        self.write("@eaDir/.ssh/id_rsa")
        self.write(os.fsdecode(b"._\xff"))
        os.mkfifo(self.source / ".DS_Store")
        self.run_job()
        self.assertEqual({"a.txt"}, self.arrived())
        self.assertEqual(5, self.header()["excluded_total"])
        self.assertIn("behavior/._\\udcff", self.header()["excluded"])

    def test_they_may_come_go_and_change_while_the_job_runs(self):
        self.write("a.txt")
        for name in ("Thumbs.db", "~$table.xlsx", "@eaDir/x"):
            self.write(name)

        def look_around():
            self.write("._a.txt")
            self.write("Thumbs.db", "other")
            (self.source / "~$table.xlsx").unlink()
            shutil.rmtree(self.source / "@eaDir")
            self.write("$RECYCLE.BIN/x")

        for step, kind in ((Step.PREFLIGHT, Kind.END), (Step.TRANSFER, Kind.END)):
            self.told.when(step, kind, look_around)
            self.run_job(force_cloud_sync=step is Step.TRANSFER)
            self.assertEqual({"a.txt"}, self.arrived())
            self.write("~$table.xlsx")
            self.write("@eaDir/x")
        self.assertEqual([], [w for w in self.told.warnings() if "Thumbs" in w or "~$" in w])

    def test_so_may_they_in_a_zip(self):
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        self.write("a.txt")
        self.write(".DS_Store")
        self.told.when(Step.TRANSFER, Kind.END, lambda: self.write(".DS_Store", "other"))
        self.run_job(modalities=[modality])
        self.assertNotIn(b".DS_Store", self.stored()["behavior-videos/behavior-videos.zip"])

    def test_a_source_that_is_named_is_sent_whatever_its_name(self):
        file, folder = self.write("@eaDir/Thumbs.db"), self.source / "@eaDir"
        self.write("a.txt", root=folder)
        for source, arrived in ((file, {"Thumbs.db"}), (folder, {"a.txt"})):
            with self.subTest(source):
                modality = {"modality": "behavior", "source": str(source)}
                self.run_job(modalities=[modality], subject_id=str(len(arrived) + len(source.name)))
                prefix = self.config(subject_id=str(len(arrived) + len(source.name))).s3_prefix
                names = {key for key in self.stored(prefix) if key.startswith("behavior/")}
                self.assertEqual({f"behavior/{name}" for name in arrived}, names)

    def test_many_are_counted(self):
        self.write("a.txt")
        with patch.object(sample, "MOST_BYTES", 3 * len('"behavior/._0",')):
            for number in range(5):
                self.write(f"._{number}")
            self.run_job(dry_run=True)
            self.assertIn("  2 more excluded names\n", self.printed.getvalue())
            self.run_job()
        header = self.header()
        self.assertEqual([f"behavior/._{number}" for number in range(3)], header["excluded"])
        self.assertEqual(5, header["excluded_total"])

    def test_a_name_as_macos_writes_it_is_excluded_by_its_name_as_people_type_it(self):
        self.write("a.txt")
        self.write(normalize("NFD", "Übersicht.tmp"))
        self.run_job(self.settings(exclude=normalize("NFC", "Übersicht*")))
        self.assertEqual({"a.txt"}, self.arrived())

    def test_the_setting_decides(self):
        for name in (".DS_Store", "a.tmp", "a.txt"):
            self.write(name)
        self.run_job(self.settings(exclude="*.tmp, [xy]*"))
        self.assertEqual({".DS_Store", "a.txt"}, self.arrived())

    def test_data_that_only_patterns_of_the_lab_exclude_are_a_warning(self):
        for name in (".DS_Store", "a.txt", "keep/y.tmp", "b.tmp/1.bin", "seen/.DS_Store"):
            self.write(name)
        (self.source / "empty").mkdir()
        documents = self.folder / "session" / "metadata"
        self.write("session.json", "{}", root=documents)
        exclude = ".DS_Store, *.tmp, session*"
        self.run_job(self.settings(exclude=exclude), metadata_dir=str(documents))
        warnings = self.told.warnings()
        for words in (
            "left out, for EXCLUDE names them (2 files and folders): behavior/b.tmp; "
            "behavior/keep/y.tmp",
            "left out, for a store has no empty folders: behavior/empty",
            "left out, for only excluded names are in these folders: behavior/keep; behavior/seen",
            "not taken from metadata_dir: session.json (excluded)",
        ):
            self.assertIn(words, warnings)
        self.assertIn("metadata_dir/session.json", self.header()["excluded"])

    def test_what_is_not_excluded_is_data(self):
        self.write("a.txt")
        self.write(".DS_Store")
        self.told.when(Step.TRANSFER, Kind.END, lambda: self.write(".DS_Store", "other"))
        with self.assertRaisesRegex(SourceChangedError, r"\.DS_Store changed"):
            self.run_job(self.settings(exclude="[]"))
        self.run_job(self.settings(exclude="[]"))
        self.assertEqual({".DS_Store", "a.txt"}, self.arrived())
        self.assertEqual([], self.header()["excluded"])

    def test_a_plan_for_programs_lists_them(self):
        self.write(".DS_Store")
        printed = io.StringIO()
        config = self.config(dry_run=True)
        UploadJob(config, self.settings(), self.told, printed, plan_as_json=True).run()
        plan = json.loads(printed.getvalue())
        self.assertEqual((["behavior/.DS_Store"], 1), (plan["excluded"], plan["excluded_total"]))


class MetadataFolderTest(TransferTestCase):
    """A folder of documents that somebody looked at."""

    def setUp(self):
        """Make the folder."""
        super().setUp()
        self.metadata = self.folder / "session" / "metadata"
        self.write("session.json", '{"rig_id": "1"}', root=self.metadata)
        self.write("a.txt")

    def test_what_is_excluded_is_not_read(self):
        for name in ("._session.json", "~$session.json", ".~lock.session.json#"):
            self.write(name, b"\x00\xff", root=self.metadata)
        (self.metadata / "._rig.json").symlink_to("/etc/shadow")
        self.run_job(metadata_dir=str(self.metadata))
        self.assertEqual(
            ["session.json"], [key for key in self.stored() if key.endswith("session.json")]
        )
        excluded = read_manifest(self.store, PREFIX)[0]["excluded"]
        self.assertEqual(
            [
                f"metadata_dir/{name}"
                for name in (
                    "._rig.json",
                    "._session.json",
                    ".~lock.session.json#",
                    "~$session.json",
                )
            ],
            excluded,
        )

    def test_what_is_excluded_may_vanish_once_it_was_listed(self):
        litter = self.write("~$session.json", b"\x00", root=self.metadata)
        real = os.listdir

        def then_remove(descriptor):
            names = real(descriptor)
            litter.unlink(missing_ok=True)
            return names

        with patch.object(os, "listdir", then_remove):
            self.run_job(metadata_dir=str(self.metadata))
        self.assertFalse(litter.exists())


if __name__ == "__main__":
    unittest.main()
