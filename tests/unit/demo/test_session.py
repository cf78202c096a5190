"""The sample session: the same bytes every time, in formats that other programs read."""

import hashlib
import json
import shutil
import struct
import subprocess
import tempfile
import unittest
from array import array
from pathlib import Path

from aind_data_transfer_service.demo.formats import Video
from aind_data_transfer_service.demo.session import SampleSession, SessionSize, make_session
from tests.support import missing, slow

SMALL = SessionSize(seconds=2, channels=4, trials=12, video=Video(64, 48, 10))


def digest(session: SampleSession) -> dict[str, str]:
    """Sum up every file of a session."""
    return {
        path.relative_to(session.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(session.folder.rglob("*"))
        if path.is_file()
    }


def read_npy(path: Path, typecode: str) -> array:
    """Read what NumPy would read."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<H", data, 8)
    assert (10 + length) % 64 == 0 and data[:8] == b"\x93NUMPY\x01\x00"
    header = eval(data[10 : 10 + length], {"__builtins__": {}})  # NumPy's own format is a literal
    values = array(typecode, data[10 + length :])
    assert header["shape"] == (len(values),) and int(header["descr"][2:]) == values.itemsize
    return values


class MakingASession(unittest.TestCase):
    """Where it lies, and what becomes of one that is there already."""

    def setUp(self) -> None:
        """Take an empty folder."""
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_it_is_the_same_every_time(self) -> None:
        first = make_session(self.folder / "a", SMALL)
        second = make_session(self.folder / "b", SMALL)
        self.assertEqual(digest(first), digest(second))
        self.assertEqual(12 + 3 + 2 + 9, len(digest(first)))

    def test_a_session_that_is_there_is_left_as_it_is(self) -> None:
        session = make_session(self.folder / "a", SMALL)
        before = (session.behavior / "trials.csv").stat().st_mtime_ns
        make_session(self.folder / "a", SMALL)
        self.assertEqual(before, (session.behavior / "trials.csv").stat().st_mtime_ns)

    def test_an_unfinished_session_is_made_anew(self) -> None:
        (self.folder / "a" / "Ecephys").mkdir(parents=True)
        (self.folder / "a" / "Ecephys" / "half.dat").write_bytes(b"half")
        session = make_session(self.folder / "a", SMALL)
        self.assertNotIn("Ecephys/half.dat", digest(session))

    def test_another_size_replaces_it(self) -> None:
        make_session(self.folder / "a", SMALL)
        longer = SessionSize(3, SMALL.channels, SMALL.trials, SMALL.video)
        session = make_session(self.folder / "a", longer)
        (recording,) = session.ecephys.rglob("continuous.dat")
        self.assertEqual(3 * 30_000 * 4 * 2, recording.stat().st_size)


class Formats(unittest.TestCase):
    """What is in the files."""

    @classmethod
    def setUpClass(cls) -> None:
        """Make one session for all."""
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.session = make_session(cls.folder / "session", SMALL)

    def test_the_recording_is_described_by_its_structure(self) -> None:
        (structure,) = self.session.ecephys.rglob("structure.oebin")
        (stream,) = json.loads(structure.read_text(encoding="utf-8"))["continuous"]
        folder = structure.parent / "continuous" / stream["folder_name"]
        samples = read_npy(folder / "sample_numbers.npy", "q")
        self.assertEqual(list(range(2 * 30_000)), list(samples))
        self.assertEqual(1 / 30_000, read_npy(folder / "timestamps.npy", "d")[1])
        size = (folder / "continuous.dat").stat().st_size
        self.assertEqual(len(samples) * stream["num_channels"] * 2, size)
        self.assertEqual(4, len(stream["channels"]))

    def test_the_events_lie_within_the_recording(self) -> None:
        (structure,) = self.session.ecephys.rglob("structure.oebin")
        (events,) = json.loads(structure.read_text(encoding="utf-8"))["events"]
        folder = structure.parent / "events" / events["folder_name"]
        self.assertEqual([1, -1, 1, -1], list(read_npy(folder / "states.npy", "h")))
        numbers = list(read_npy(folder / "sample_numbers.npy", "q"))
        self.assertEqual([0, 3_000, 30_000, 33_000], numbers)

    def test_the_signal_is_noise_with_spikes(self) -> None:
        (recording,) = self.session.ecephys.rglob("continuous.dat")
        samples = array("h", recording.read_bytes())
        mean = sum(samples) / len(samples)
        deviation = (sum((x - mean) ** 2 for x in samples) / len(samples)) ** 0.5
        self.assertLess(abs(mean), 2)
        self.assertTrue(30 < deviation < 60, deviation)
        self.assertLess(min(samples), -250)

    def test_every_trial_has_a_file_of_its_own_and_a_row(self) -> None:
        trials = sorted((self.session.behavior / "trials").iterdir())
        rows = (self.session.behavior / "trials.csv").read_text(encoding="utf-8").splitlines()
        self.assertEqual((12, 13), (len(trials), len(rows)))
        self.assertEqual(7, json.loads(trials[7].read_text(encoding="utf-8"))["trial"])

    @slow
    def test_a_video_program_reads_the_video(self) -> None:
        if shutil.which("ffprobe") is None:
            raise missing("ffprobe")
        command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json"]
        video = self.session.behavior_videos / "body_camera.avi"
        answer = subprocess.run([*command, str(video)], check=True, capture_output=True, text=True)
        self.assertEqual("", answer.stderr)
        (stream,) = json.loads(answer.stdout)["streams"]
        found = {key: stream[key] for key in ("width", "height", "nb_read_frames", "r_frame_rate")}
        expected = {"width": 64, "height": 48, "nb_read_frames": "5", "r_frame_rate": "10/1"}
        self.assertEqual(expected, found)
