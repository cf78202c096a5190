"""The sample session: what a rig leaves behind after half a minute with a mouse.

An Open Ephys recording, a video with the times of its frames, and a folder of behaviour: one JSON
file a trial, and tables. The same bytes every time, made in seconds with nothing but Python's
standard library.
"""

import csv
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, exp, pi, sin
from pathlib import Path
from random import Random
from statistics import NormalDist

from aind_data_transfer_service.demo.formats import (
    Recording,
    Video,
    write_avi,
    write_json,
    write_open_ephys,
)

SUBJECT_ID = "690165"
_COMPLETE = "COMPLETE"  # the file that says that a session was made to its end


@dataclass(frozen=True)
class SessionSize:
    """How much is recorded; the defaults come to about 200 MB."""

    seconds: int = 30
    channels: int = 64
    trials: int = 300
    video: Video = Video()


@dataclass(frozen=True)
class SampleSession:
    """Where the parts of a session lie."""

    folder: Path

    @property
    def ecephys(self) -> Path:
        """The recording of the electrodes."""
        return self.folder / "Ecephys"

    @property
    def behavior(self) -> Path:
        """Tables and trials."""
        return self.folder / "Behavior"

    @property
    def behavior_videos(self) -> Path:
        """What the camera saw."""
        return self.folder / "Behavior videos"

    @property
    def sources(self) -> tuple[Path, ...]:
        """The three folders that are to be sent."""
        return self.ecephys, self.behavior, self.behavior_videos


def make_session(folder: Path, size: SessionSize | None = None) -> SampleSession:
    """Make the sample session in a folder, or leave it be where it is there already."""
    size = size or SessionSize()
    session = SampleSession(folder)
    mark = folder.parent / f".{folder.name}.{_COMPLETE.lower()}"
    made = mark.is_file() and mark.read_text(encoding="utf-8") == repr(size)
    if made and all(source.is_dir() for source in session.sources):
        return session
    mark.unlink(missing_ok=True)
    for source in session.sources:
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
    _record_ecephys(session.ecephys, size)
    _film(session.behavior_videos, size)
    _watch_behavior(session.behavior, size)
    mark.write_text(repr(size), encoding="utf-8")
    return session


# --- electrodes -----------------------------------------------------------------------------------


def _record_ecephys(folder: Path, size: SessionSize) -> None:
    recording = Recording(channels=size.channels)
    pulses = range(0, size.seconds * recording.sample_rate, recording.sample_rate)
    write_open_ephys(folder, recording, _signal(recording, size.seconds), pulses)


def _signal(recording: Recording, seconds: int) -> Iterator[bytes]:
    """Make noise as an amplifier's, and over it the spikes of one unit a channel."""
    random = Random(f"ecephys {SUBJECT_ID}")
    noise = _noise_table(deviation=40.0)
    sign = bytes(255 if level >= 128 else 0 for level in range(256))
    samples = recording.sample_rate * recording.channels
    for _ in range(seconds):
        low = random.randbytes(samples).translate(noise)
        raw = bytearray(2 * samples)
        raw[0::2] = low
        raw[1::2] = low.translate(sign)
        block = array("h", bytes(raw))
        for channel in range(recording.channels):
            for _ in range(random.randint(2, 12)):
                _add_spike(block, recording, channel, random.randrange(recording.sample_rate - 60))
        yield block.tobytes()


def _noise_table(deviation: float) -> bytes:
    """Map a uniform byte to a normally distributed one (two's complement)."""
    normal = NormalDist(0.0, deviation)
    levels = (round(normal.inv_cdf((value + 0.5) / 256)) for value in range(256))
    return bytes(max(-128, min(127, level)) & 0xFF for level in levels)


def _spike(channel: int) -> list[int]:
    """Make the waveform of a channel's unit: a sharp trough and a slow recovery, 2 ms long."""
    depth = 300 + 20 * (channel % 16)
    return [
        round(-depth * exp(-(((t - 18) / 5) ** 2)) + depth / 3 * exp(-(((t - 32) / 9) ** 2)))
        for t in range(60)
    ]


_SPIKES = [_spike(channel) for channel in range(16)]


def _add_spike(block: "array[int]", recording: Recording, channel: int, start: int) -> None:
    for offset, level in enumerate(_SPIKES[channel % len(_SPIKES)]):
        block[(start + offset) * recording.channels + channel] += level


# --- camera ---------------------------------------------------------------------------------------


def _film(folder: Path, size: SessionSize) -> None:
    count = size.seconds * size.video.frames_per_second // 4  # the camera ran for a quarter of it
    write_avi(folder / "body_camera.avi", size.video, _frames(size.video, count), count)
    with (folder / "body_camera.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("frame", "seconds"))
        table.writerows((n, f"{n / size.video.frames_per_second:.6f}") for n in range(count))


def _frames(video: Video, count: int) -> Iterator[bytes]:
    """Film a bright disc, running in circles over a shaded floor."""
    floor = b"".join(
        bytes(40 + (60 * row // video.height) + (30 * column // video.width) for column in line)
        for row, line in enumerate([range(video.width)] * video.height)
    )
    radius = video.height // 12
    widths = [round((radius**2 - dy**2) ** 0.5) for dy in range(-radius, radius + 1)]
    for number in range(count):
        angle = 2 * pi * number / (4 * video.frames_per_second)
        x = round(video.width / 2 + video.width / 3 * cos(angle))
        y = round(video.height / 2 + video.height / 3 * sin(angle))
        frame = bytearray(floor)
        for row, half in enumerate(widths, start=y - radius):
            begin = row * video.width + x - half
            frame[begin : begin + 2 * half] = b"\xe6" * (2 * half)
        yield bytes(frame)


# --- behaviour ------------------------------------------------------------------------------------


def _watch_behavior(folder: Path, size: SessionSize) -> None:
    random = Random(f"behavior {SUBJECT_ID}")
    trials = [_trial(random, number) for number in range(size.trials)]
    (folder / "trials").mkdir()
    for trial in trials:
        write_json(folder / "trials" / f"trial_{trial['trial']:04d}.json", trial)
    columns = ("trial", "start_seconds", "side", "rewarded", "reaction_seconds")
    with (folder / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(trials)
    with (folder / "wheel.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", "degrees"))
        degrees = 0.0
        for tick in range(size.seconds * 100):
            degrees += random.gauss(0.4, 1.2)
            rows.writerow((f"{tick / 100:.2f}", f"{degrees:.3f}"))
    write_json(
        folder / "task.json",
        {"task": "vr_foraging", "version": "0.4.1", "trials": size.trials, "subject": SUBJECT_ID},
    )


def _trial(random: Random, number: int) -> dict[str, object]:
    licks = sorted(round(random.uniform(0.0, 2.0), 4) for _ in range(random.randint(0, 24)))
    return {
        "trial": number,
        "start_seconds": round(number * 3.2 + random.random(), 4),
        "side": random.choice(("left", "right")),
        "rewarded": random.random() < 0.7,
        "reaction_seconds": round(random.lognormvariate(-0.9, 0.3), 4),
        "lick_seconds": licks,
    }
