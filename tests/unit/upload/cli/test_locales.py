"""Names of files in locales that are not UTF-8."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile

from tests.support import missing, slow
from tests.support.transfer import PREFIX, TransferTestCase

NAMES = ("Müller_Größe.csv", "鼠/каша.txt", unicodedata.normalize("NFD", "é.bin"))
MODULE = [sys.executable, "-m", "aind_data_transfer_service.upload"]
COMMAND = [sys.executable, "-m", "aind_data_transfer_service", "upload"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@slow
class TestLocales(TransferTestCase):
    """The program, in a process with a locale of its own."""

    def setUp(self):
        """Write files with names that ASCII does not have."""
        super().setUp()
        for name in NAMES:
            self.write(name, name)
        self.metadata = self.folder / "Metadaten_für_Müller"
        self.write("größe.json", "{}", root=self.metadata)

    def latin1(self):
        """Return the variables of a latin-1 locale, made for this test."""
        program = shutil.which("localedef")
        if program is None:
            raise missing("localedef")
        folder = self.folder / "locales"
        folder.mkdir()
        command = [program, "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
        if subprocess.run(command, capture_output=True).returncode > 1:
            raise missing("the definitions of locales")
        return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}

    def run_program(self, command, locale, *arguments, **request):
        """Run a job; give its exit code and what it printed."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LC_", "LANG"))
        }
        environment |= locale | {
            "DATA_DIR": str(self.folder / "data"),
            "DESTINATION": str(self.folder / "bücket_root"),
            "LAB_TIMEZONE": "America/Los_Angeles",
        }
        config = self.config(**{"metadata_dir": str(self.metadata), **request}).model_dump_json()
        done = subprocess.run(
            [*command, "--json-args", config, *arguments],
            env=environment,
            capture_output=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def check_arrived(self):
        """Compare names, as bytes, at the destination and in the manifest."""
        bucket = self.folder / "bücket_root" / self.bucket
        asset = os.fsencode(bucket / PREFIX / "behavior")
        for name in NAMES:
            with open(asset + b"/" + name.encode(), "rb") as file:
                self.assertEqual(file.read(), name.encode())
        manifest = bucket / ".transfer" / PREFIX / "manifest.jsonl"
        lines = [json.loads(line) for line in manifest.read_bytes().splitlines()]
        paths = {line.get("path") for line in lines}
        self.assertLessEqual({f"behavior/{name}" for name in NAMES} | {"größe.json"}, paths)

    @slow
    def test_names_arrive_as_they_are_in_latin_1(self):
        code, printed = self.run_program(MODULE, self.latin1())
        self.assertEqual(code, 0, printed)
        self.check_arrived()

    def test_and_in_ascii(self):
        code, printed = self.run_program(COMMAND, ASCII)
        self.assertEqual(code, 0, printed)
        self.check_arrived()

    def test_so_they_do_in_a_zip(self):
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        code, printed = self.run_program(MODULE, ASCII, modalities=[modality])
        self.assertEqual(code, 0, printed)
        folder = self.folder / "bücket_root" / self.bucket / PREFIX / "behavior-videos"
        with zipfile.ZipFile(folder / "behavior-videos.zip") as archive:
            self.assertEqual(set(archive.namelist()), set(NAMES))

    def test_a_plan_is_printed_in_utf_8(self):
        code, printed = self.run_program(MODULE, ASCII, "--dry-run")
        self.assertEqual(code, 0, printed)
        self.assertIn("behavior/Müller_Größe.csv", printed.decode())

    @slow
    def test_a_name_that_is_not_utf_8_is_named(self):
        self.write(os.fsdecode(b"M\xfcller"))
        code, printed = self.run_program(MODULE, self.latin1())
        self.assertEqual(code, 10, printed)
        self.assertIn("M\\udcfcller: the name is not valid UTF-8", printed.decode())

    def test_a_python_that_is_told_otherwise_sends_nothing(self):
        command = [MODULE[0], "-X", "utf8=0", *MODULE[1:]]
        code, printed = self.run_program(command, ASCII, metadata_dir=None)
        self.assertEqual(code, 10, printed)
        self.assertIn("start it with -X utf8", printed.decode())
        self.assertFalse((self.folder / "bücket_root").exists())
