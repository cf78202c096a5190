"""Small writers of the file formats that a recording session is made of."""

import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NPY_TYPES = {"h": "<i2", "q": "<i8", "Q": "<u8", "d": "<f8"}
_FRAME_INDEX_FLAG = 0x10  # AVIIF_KEYFRAME: every frame stands for itself


def write_npy(path: Path, values: "array[Any]") -> None:
    """Write a one-dimensional array as NumPy's own file format, version 1.0."""
    header = f"{{'descr': '{_NPY_TYPES[values.typecode]}', 'fortran_order': False, "
    header += f"'shape': ({len(values)},), }}"
    magic = b"\x93NUMPY\x01\x00"
    padding = -(len(magic) + 2 + len(header) + 1) % 64
    text = (header + " " * padding + "\n").encode("ascii")
    path.write_bytes(magic + struct.pack("<H", len(text)) + text + values.tobytes())


def write_json(path: Path, document: Any) -> None:
    """Write a document as people like to read it."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Video:
    """The measures of an uncompressed grey video."""

    width: int = 640
    height: int = 480
    frames_per_second: int = 30

    @property
    def frame_bytes(self) -> int:
        """One byte a pixel; `width` is a multiple of four, so that rows need no padding."""
        return self.width * self.height


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)


def _avi_header(video: Video, frames: int) -> bytes:
    """Compose the `hdrl` list: the file as a whole, and its one stream of grey pixels."""
    rate = video.frames_per_second
    main = struct.pack(
        "<14I",
        1_000_000 // rate,
        video.frame_bytes * rate,
        0,
        _FRAME_INDEX_FLAG,
        frames,
        0,
        1,
        video.frame_bytes,
        video.width,
        video.height,
        *(0, 0, 0, 0),
    )
    stream = struct.pack(
        "<4s4sIHHIIIIIIII4H",
        b"vids",
        b"Y800",
        0,
        *(0, 0),
        0,
        1,
        rate,
        0,
        frames,
        video.frame_bytes,
        0xFFFFFFFF,
        0,
        *(0, 0, video.width, video.height),
    )
    bitmap = struct.pack(
        "<IiiHH4sIiiII",
        *(40, video.width, video.height, 1, 8, b"Y800", video.frame_bytes),
        *(0, 0, 0, 0),
    )
    stream_list = _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", bitmap))
    return _list(b"hdrl", _chunk(b"avih", main) + stream_list)


def write_avi(path: Path, video: Video, frames: Iterable[bytes], count: int) -> None:
    """Write an AVI file of `count` uncompressed 8-bit frames, each with its top row first."""
    header = _avi_header(video, count)
    chunk = struct.pack("<4sI", b"00db", video.frame_bytes)
    step = len(chunk) + video.frame_bytes
    index = b"".join(
        struct.pack("<4sIII", b"00db", _FRAME_INDEX_FLAG, 4 + number * step, video.frame_bytes)
        for number in range(count)
    )
    movie_bytes = 4 + count * step
    total = 4 + len(header) + 8 + movie_bytes + 8 + len(index)
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", total, b"AVI ") + header)
        file.write(struct.pack("<4sI4s", b"LIST", movie_bytes, b"movi"))
        for frame in frames:
            file.write(chunk)
            file.write(frame)
        file.write(_chunk(b"idx1", index))


@dataclass(frozen=True)
class Recording:
    """The measures of an Open Ephys recording in the binary format."""

    channels: int = 64
    sample_rate: int = 30_000
    bit_volts: float = 0.195
    stream: str = "Rhythm Data"
    processor: str = "Acquisition Board"
    processor_id: int = 100
    node_id: int = 101

    @property
    def folder_name(self) -> str:
        """The name of the stream's folders."""
        return f"{self.processor.replace(' ', '_')}-{self.processor_id}.{self.stream}"


def structure_oebin(recording: Recording) -> dict[str, Any]:
    """Compose `structure.oebin`, which tells a reader what the other files of a recording hold."""
    node = {"recorded_processor": "Record Node", "recorded_processor_id": recording.node_id}
    source = {
        "source_processor_name": recording.processor,
        "source_processor_id": recording.processor_id,
        "stream_name": recording.stream,
    }
    channels = [
        {
            "channel_name": f"CH{number}",
            "description": "Headstage data channel",
            "identifier": "genericdata.continuous",
            "history": recording.processor,
            "bit_volts": recording.bit_volts,
            "units": "uV",
        }
        for number in range(1, recording.channels + 1)
    ]
    continuous = {
        "folder_name": f"{recording.folder_name}/",
        "sample_rate": recording.sample_rate,
        **source,
        **node,
        "num_channels": recording.channels,
        "channels": channels,
    }
    events = {
        "folder_name": f"{recording.folder_name}/TTL/",
        "channel_name": f"{recording.processor} TTL Input",
        "description": "TTL Events coming from the hardware source processor",
        "identifier": "sourceevent",
        "sample_rate": recording.sample_rate,
        "type": "int16",
        "source_processor": recording.processor,
        **source,
        "initial_state": 0,
    }
    return {"GUI version": "0.6.7", "continuous": [continuous], "events": [events], "spikes": []}


def write_open_ephys(
    folder: Path, recording: Recording, seconds: Iterable[bytes], pulses: Sequence[int]
) -> None:
    """Write one recording of a record node.

    Parameters
    ----------
    folder
        Where the folder of the record node goes.
    recording
        Its measures.
    seconds
        The samples, int16, channel after channel within a sample, second after second.
    pulses
        At which sample line 1 rises; it falls a tenth of a second later.
    """
    experiment = folder / f"Record Node {recording.node_id}" / "experiment1"
    base = experiment / "recording1"
    stream = base / "continuous" / recording.folder_name
    events = base / "events" / recording.folder_name / "TTL"
    stream.mkdir(parents=True)
    events.mkdir(parents=True)
    frame_bytes = recording.channels * 2
    samples = 0
    with (stream / "continuous.dat").open("wb") as file:
        for data in seconds:
            file.write(data)
            samples += len(data) // frame_bytes
    write_npy(stream / "sample_numbers.npy", array("q", range(samples)))
    write_npy(stream / "timestamps.npy", _clock(range(samples), recording.sample_rate))
    edges = [edge for rise in pulses for edge in (rise, rise + recording.sample_rate // 10)]
    write_npy(events / "states.npy", array("h", [1, -1] * len(pulses)))
    write_npy(events / "sample_numbers.npy", array("q", edges))
    write_npy(events / "timestamps.npy", _clock(edges, recording.sample_rate))
    write_npy(events / "full_words.npy", array("Q", [1, 0] * len(pulses)))
    write_json(base / "structure.oebin", structure_oebin(recording))
    (base / "sync_messages.txt").write_text(
        "Software Time (milliseconds since midnight Jan 1st 1970 UTC): 1708341917000\n"
        f"Start Time for {recording.processor} ({recording.processor_id}) - {recording.stream} "
        f"@ {recording.sample_rate} Hz: 0\n",
        encoding="utf-8",
    )


def _clock(samples: Iterable[int], sample_rate: int) -> "array[float]":
    return array("d", (sample / sample_rate for sample in samples))
