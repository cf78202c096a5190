"""The demo from end to end: a service as a process, a session through it, a proven asset."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path

import httpx

from aind_data_transfer_service.demo.tour import main
from tests.support import free_port, wait_until

COMMAND = (sys.executable, "-m", "aind_data_transfer_service.demo")
SMALL = ("--seconds", "1")


def run_demo(
    folder: Path, *arguments: str, meanwhile: Callable[[io.StringIO], None] | None = None
) -> tuple[int, str]:
    """Run the demo in this process; give its exit code and what it printed.

    `meanwhile` runs in a thread beside it, and may look at what has been printed.
    """
    out = io.StringIO()
    thread = threading.Thread(target=meanwhile or (lambda _: None), args=(out,))
    with contextlib.redirect_stdout(out):
        thread.start()
        code = main(["--folder", str(folder), "--port", str(free_port()), *SMALL, *arguments])
        thread.join()
    return code, out.getvalue()


def printed(out: io.StringIO, words: str) -> bool:
    """Wait until the demo has printed something; tell whether it came that far."""
    wait_until(lambda: words in out.getvalue() or "error:" in out.getvalue(), 60, words)
    return words in out.getvalue()


def press_ctrl_c() -> None:
    """Do what a person does who has seen enough."""
    os.kill(os.getpid(), signal.SIGINT)


def files_beneath(folder: Path) -> dict[str, str]:
    """Sum up every file beneath a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Demo(unittest.TestCase):
    """What somebody sees who runs it for the first time, and for the second."""

    def setUp(self) -> None:
        """Take an empty folder."""
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_two_runs_leave_two_verified_assets(self) -> None:
        for day in ("2024-02-19", "2024-02-20"):
            code, text = run_demo(self.folder, "--exit")
            self.assertEqual(0, code, text)
            asset = self.folder / "destination" / "data" / f"ecephys_690165_{day}_11-25-17"
            self.assertIn(str(asset), text)
            self.assert_complete(asset)
            told = re.search(r"Verified: +(\d+) files, ([\d,]+) bytes", text)
            self.assertIsNotNone(told, text)
            sent = [path for path in asset.rglob("*") if path.is_file()]
            self.assertLessEqual(int(told[1]), len(sent))
            self.assertGreater(int(told[1]), 300)
            self.assertRegex(text, r"Page: +http://127.0.0.1:\d+/jobs/\w+")
            self.assertRegex(text, r"subject.json +Valid +\S+/lab_metadata/subject/690165.json")

    def assert_complete(self, asset: Path) -> None:
        """Compare every file of the asset with the session's own."""
        session = self.folder / "shared_drive" / "690165"
        for source, name in (
            ("Ecephys", "ecephys"),
            ("Behavior", "behavior"),
            ("Behavior videos", "behavior-videos"),
        ):
            self.assertEqual(files_beneath(session / source), files_beneath(asset / name))
        subject = json.loads((asset / "subject.json").read_text(encoding="utf-8"))
        self.assertEqual("690165", subject["subject_id"])
        record = json.loads((asset / "metadata.nd.json").read_text(encoding="utf-8"))
        self.assertEqual("Valid", record["metadata_status"])

    def test_a_job_that_is_refused_is_told_with_the_reason(self) -> None:
        bucket = self.folder / "destination" / "data"
        bucket.parent.mkdir(parents=True)
        bucket.write_text("a file stands where the bucket should be", encoding="utf-8")
        code, text = run_demo(self.folder, "--exit")
        self.assertEqual(1, code, text)
        self.assertRegex(text, "FAILED:|error:")

    def test_a_job_that_fails_is_told_with_its_reason_and_its_code(self) -> None:
        records = self.folder / "destination" / "data" / ".transfer"
        records.parent.mkdir(parents=True)
        records.write_text("a file stands where records go", encoding="utf-8")
        code, text = run_demo(self.folder, "--exit")
        self.assertEqual(1, code, text)
        self.assertRegex(text, r"FAILED: .*\.transfer")
        self.assertNotIn("Verified", text)

    def test_the_service_stays_up_until_ctrl_c(self) -> None:
        def look_then_leave(out: io.StringIO) -> None:
            if not printed(out, "until Ctrl-C"):
                return
            page = re.search(r"Page: +(\S+)", out.getvalue())[1]
            self.pages.append(httpx.get(page, trust_env=False).status_code)
            press_ctrl_c()

        self.pages: list[int] = []
        code, text = run_demo(self.folder, meanwhile=look_then_leave)
        self.assertEqual((0, [200]), (code, self.pages), text)

    def test_a_service_that_ends_by_itself_is_told(self) -> None:
        def end_it(out: io.StringIO) -> None:
            if printed(out, "until Ctrl-C"):
                claim = (self.folder / ".lock").read_text(encoding="utf-8")
                os.kill(int(claim.split("process ")[1]), signal.SIGTERM)

        code, text = run_demo(self.folder, meanwhile=end_it)
        self.assertEqual(1, code)
        self.assertIn("the service ended by itself", text)

    def test_a_folder_in_use_is_refused_by_name(self) -> None:
        port = free_port()
        command = [*COMMAND, "--folder", str(self.folder), "--port", str(port), *SMALL]
        with open(self.folder / "out.txt", "w+b") as out:
            first = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            try:
                self.wait_for_words(first, "until Ctrl-C")
                self.assertTrue(httpx.get(f"http://127.0.0.1:{port}/jobs").is_success)
                code, text = run_demo(self.folder, "--exit")
                self.assertEqual(1, code)
                self.assertIn(f"http://127.0.0.1:{port}", text)
                self.assertIn("--folder", text)
                first.send_signal(signal.SIGINT)
                self.assertEqual(0, first.wait(30))
            finally:
                if first.poll() is None:
                    first.terminate()
                    first.wait(30)
        with self.assertRaises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/jobs")

    def wait_for_words(self, process: subprocess.Popen, words: str) -> None:
        """Wait until the demo has printed something."""
        log = self.folder / "out.txt"

        def printed() -> bool:
            text = log.read_text(encoding="utf-8")
            self.assertIsNone(process.poll(), text)
            return words in text

        wait_until(printed, 60, words)

    def test_a_stop_in_the_midst_cancels_the_job(self) -> None:
        def stop_when_submitted(out: io.StringIO) -> None:
            if printed(out, "Submitted"):
                press_ctrl_c()

        code, text = run_demo(self.folder, meanwhile=stop_when_submitted)
        self.assertIn(code, (0, 130))  # 0 where the job was quicker than the signal
        self.assertIn("Stopped.", text)
