"""A transform of a plug-in decides what is sent for its modality, and the engine does the rest."""

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from aind_data_transfer_service.errors import PluginError, SourceChangedError, TransferError
from aind_data_transfer_service.plugins import TRANSFORMS
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.plan.items import StreamedItem
from aind_data_transfer_service.upload.source.file_table import SourceFile
from aind_data_transfer_service.upload.source.reader import read_source
from aind_data_transfer_service.upload.transforms.base import Planned, TransformRequest
from tests.support.transfer import TransferTestCase

CHUNK = 1000


@dataclass(frozen=True)
class Chunk(StreamedItem):
    """A range of a file, every byte of it inverted."""

    key: str
    files: tuple[SourceFile]
    number: int
    format = "chunk"

    @property
    def parameters(self) -> str:
        """Return which range it is."""
        return str(self.number)

    @property
    def description(self) -> str:
        """Return what it is."""
        return "a chunk"

    @property
    def source_size(self) -> int:
        """Return how many bytes it has."""
        return min(CHUNK, self.files[0].size - self.number * CHUNK)

    @property
    def largest_size(self) -> int:
        """Return how many bytes it has."""
        return self.source_size

    @property
    def file_count(self) -> int:
        """Count the file once."""
        return int(self.number == 0)

    def pieces(self, on_read: Callable[[int], None]) -> Iterator[bytes]:
        """Give its bytes."""
        for data in itertools.islice(read_source(self.files[0], CHUNK), self.number, None):
            on_read(len(data))
            yield bytes(255 - byte for byte in data)
            break


class Chunks:
    """Cuts the files of `behavior` into chunks."""

    name, label, settings = "chunks", "in chunks", None
    modalities = frozenset({"behavior"})
    takes_extra_configs = True
    asked: list[Any] = []

    @classmethod
    def plan(cls, request: TransformRequest) -> Planned | None:
        """Plan an item for each range, but for a folder without data files."""
        cls.asked.append(request.extra_configs)
        items = [
            Chunk(cls.key(file, number), (file,), number)
            for file in request.scan.files
            if file.name.endswith(".dat")
            for number in range(-(-file.size // CHUNK))
        ]
        return Planned(items, (), "Inverted", {"chunk": CHUNK}) if items else None

    @staticmethod
    def key(file: SourceFile, number: int) -> str:
        """Return the place of a chunk."""
        return f"{file.key}/{number}"


class Broken(Chunks):
    """Places chunks where they may not be."""

    @staticmethod
    def key(file: SourceFile, number: int) -> str:
        """Return a place outside of the modality's folder."""
        return f"{file.tree.folder}/../../{number}"


class Elsewhere(Chunks):
    """Places chunks in the folder of another modality."""

    @staticmethod
    def key(file: SourceFile, number: int) -> str:
        """Return a place in another folder."""
        return f"ecephys/{number}"


class TransformTest(TransferTestCase):
    """A job with such a transform."""

    def setUp(self) -> None:
        """Register it."""
        super().setUp()
        Chunks.asked.clear()
        self.use(Chunks)
        self.data = os.urandom(4 * CHUNK + 17)

    def use(self, transform: type) -> None:
        """Have a transform in place of the former one."""
        found = {**TRANSFORMS.plugins, "chunks": transform}
        patched = patch.dict(TRANSFORMS.__dict__, _loaded=(found, {}))
        patched.start()
        self.addCleanup(patched.stop)

    def modality(self, compress: bool = True, **more: Any) -> dict[str, Any]:
        """Make a request for the modality."""
        source = {"modality": "behavior", "source": str(self.source)}
        return {"modalities": [source | {"compress_raw_data": compress, **more}]}

    def restored(self) -> bytes:
        """Put the chunks together again."""
        stored = self.stored()
        found = [stored[f"behavior/x.dat/{number}"] for number in range(5)]
        return bytes(255 - byte for byte in b"".join(found))

    def test_its_items_are_sent_verified_and_described(self) -> None:
        self.write("x.dat", self.data)
        self.run_job(**self.modality(extra_configs={"level": 3}))
        self.assertEqual(self.data, self.restored())
        self.assertEqual([{"level": 3}], Chunks.asked)
        self.assertEqual([], [text for text in self.told.warnings() if "extra_configs" in text])
        self.assertIn(("modality", "end", "behavior: in chunks"), [e[:3] for e in self.told.all])
        self.assertEqual(1, self.told.figures("modality", "end")["files"])
        self.assertEqual(1, self.told.figures("transfer", "end")["files_sent"])
        processing = json.loads(self.stored()["processing.json"])
        [done, _] = processing["processing_pipeline"]["data_processes"]
        self.assertEqual({"chunk": CHUNK}, done["parameters"])
        self.assertEqual(5, len(done["outputs"]["archives"]))

    def test_what_has_arrived_is_not_made_again(self) -> None:
        self.write("x.dat", self.data)
        made: list[int] = []
        pieces = Chunk.pieces

        def fail(item: Chunk, on_read: Callable[[int], None]) -> Iterator[bytes]:
            if item.number == 4:
                raise TransferError("this chunk cannot be made")
            yield from pieces(item, on_read)

        def count(item: Chunk, on_read: Callable[[int], None]) -> Iterator[bytes]:
            if threading.current_thread().name != "sources":  # which reads them again at the end
                made.append(item.number)
            yield from pieces(item, on_read)

        with patch.object(Chunk, "pieces", fail), self.assertRaises(TransferError):
            self.run_job(**self.modality())
        # What was stored while the job broke off may not be recorded, and is then sent again.
        [journal] = self.settings().state_dir.rglob("journal.jsonl")
        recorded = Journal(journal).entries()
        arrived = {int(path.rpartition("/")[2]) for path in recorded if ".dat/" in path}
        with patch.object(Chunk, "pieces", count):
            self.run_job(**self.modality())
        self.assertEqual({0, 1, 2, 3, 4} - arrived, set(made))
        self.assertTrue(arrived)
        self.assertEqual(self.data, self.restored())

    def test_shards_share_them_out(self) -> None:
        self.write("x.dat", self.data)
        counts = []
        for number in (1, 2):
            shard = self.settings(job_id="j1", upload_shard=f"{number}/2")
            self.run_job(shard, **self.modality())
            counts.append(sum(".dat/" in key for key in self.stored()))
        self.run_job(self.settings(job_id="j1", upload_shards_done=2), **self.modality())
        self.assertEqual(5, counts[1])
        self.assertIn(counts[0], (2, 3))
        self.assertEqual(self.data, self.restored())

    def test_a_source_that_changed_without_a_trace_in_its_times_fails_the_job(self) -> None:
        path = self.write("x.dat", self.data)
        other = self.write("y.dat", b"1")

        def change() -> None:
            status = path.stat()
            path.write_bytes(self.data[:-1] + bytes([self.data[-1] ^ 1]))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        os.utime(other, ns=(5, 5))
        self.told.when(Step.VERIFY, Kind.START, change)
        with self.assertRaisesRegex(SourceChangedError, "behavior/x.dat/4 holds other bytes"):
            self.run_job(**self.modality())

    def test_it_is_not_asked_about_data_that_are_not_to_be_compressed(self) -> None:
        self.write("x.dat", self.data)
        self.run_job(**self.modality(False, extra_configs={"level": 3}))
        self.assertEqual(self.data, self.stored()["behavior/x.dat"])
        self.assertEqual([], Chunks.asked)
        self.assertTrue([text for text in self.told.warnings() if "extra_configs have no" in text])

    def test_data_that_are_not_for_it_are_sent_as_without_it(self) -> None:
        self.write("x.txt", self.data)
        self.run_job(**self.modality())
        self.assertIn("behavior/behavior.zip", self.stored())
        self.assertEqual([None], Chunks.asked)

    def test_it_cannot_write_outside_of_the_folder_of_its_modality(self) -> None:
        self.write("x.dat", self.data)
        for transform in (Broken, Elsewhere):
            self.use(transform)
            with self.assertRaisesRegex(PluginError, "transform chunks: .*(folder|dotted)"):
                self.run_job(**self.modality())
            self.assertEqual({}, self.stored())

    def test_one_that_cannot_be_imported_is_a_warning_of_the_job(self) -> None:
        self.write("x.dat", self.data)
        with patch.dict(TRANSFORMS.__dict__, _loaded=(TRANSFORMS.plugins, {"flac": "flac fails"})):
            self.run_job(self.settings(), **self.modality())
        self.assertIn("flac fails", self.told.warnings())
