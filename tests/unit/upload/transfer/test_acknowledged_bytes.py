"""Progress counts the bytes that the store has acknowledged, not those that were read or sent."""

import os
import threading
from unittest.mock import patch

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import TransferError
from aind_data_transfer_service.storage.base import BufferBody, Conduct
from aind_data_transfer_service.storage.model import Part, S3Keys
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.plan.items import FileItem
from aind_data_transfer_service.upload.plan.plan import MEBI, PART_SIZE
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from aind_data_transfer_service.upload.source.scan import scan
from aind_data_transfer_service.upload.transfer.engine import Transfer
from aind_data_transfer_service.upload.transfer.progress import Progress
from aind_data_transfer_service.upload.transforms.zip import ZipItem
from tests.support import wait_until
from tests.support.scripted import OK, Scripted, refusal, reply
from tests.support.transfer import TransferTestCase

KEYS = S3Keys("key", "secret", region="us-east-1")
BEGUN = reply(200, b"<R><UploadId>u</UploadId></R>")
DONE = reply(200, b"<R><ETag>whole</ETag></R>")


class Held:
    """Answers as a store of objects, but acknowledges a part only when it is let go."""

    def __init__(self, refuse_once=(), denied=(), kept=()):
        self.arrived: set[int] = set()
        self._gates: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        self._refused = set(refuse_once)
        self._denied, self._kept = denied, kept

    def __call__(self, line):
        """Answer a request by its first line."""
        method, path = line.split()[:2]
        if method == b"POST":
            return BEGUN if path.endswith(b"uploads=") else DONE
        if method == b"GET" and b"uploadId=" in path and self._kept:
            parts = "".join(
                f'<Part><PartNumber>{n}</PartNumber><ETag>"e"</ETag><Size>{PART_SIZE}</Size></Part>'
                for n in self._kept
            )
            return reply(200, f"<R>{parts}</R>".encode())
        if method != b"PUT":
            return reply(404)
        if b"partNumber=" not in path:
            return OK
        number = int(path.partition(b"partNumber=")[2].partition(b"&")[0])
        if number in self._refused:
            self._refused.discard(number)
            return refusal(503, "SlowDown")
        gate = self.gate(number)
        self.arrived.add(number)

        def answer(link):
            gate.wait(30)
            is_denied = number in self._denied
            link.sendall(refusal(403, "AccessDenied") if is_denied else OK)

        return answer

    def gate(self, number: int) -> threading.Event:
        """Return what a part waits for."""
        with self._lock:
            return self._gates.setdefault(number, threading.Event())


class TestAcknowledged(TransferTestCase):
    """A transfer to a server that takes its time to acknowledge."""

    def setUp(self):
        """Forget this machine's own settings."""
        super().setUp()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.seconds = 0.0

    def open(self, answers):
        """Start a server and open a store at it."""
        server = Scripted(answers)
        self.addCleanup(server.stop)
        return open_store("s3://", "bucket", server.url, keys=KEYS, conduct=Conduct(20.0))

    def files(self):
        """Find the files of the source."""
        return scan(str(self.source), "behavior", "p", 1024).files

    def start(self, held, items, ledger=None):
        """Start a transfer, and return its end and its progress."""
        size = sum(item.source_size for item in items)
        progress = Progress(
            len(items), size, lambda figures: None, bar=False, clock=lambda: self.seconds
        )
        self.addCleanup(lambda: [held.gate(number).set() for number in range(1, 20)])
        transfer = Transfer(self.open(held), "p", progress, lambda sent: None, 8, ledger=ledger)
        return beside(lambda: transfer.run(items), "transfer"), progress

    def test_parts_count_when_they_are_acknowledged_in_any_order(self):
        os.truncate(self.write("large", b""), 2 * PART_SIZE + 7)
        held = Held()
        end, progress = self.start(held, [FileItem(file) for file in self.files()])
        done = lambda: progress.figures()["bytes_done"]  # noqa: E731
        wait_until(lambda: held.arrived == {1, 2, 3}, 20, "all parts at the server")
        self.assertEqual(done(), 0)
        held.gate(3).set()
        wait_until(lambda: done() == 7, 20, "the last part to count")
        held.gate(1).set()
        wait_until(lambda: done() == PART_SIZE + 7, 20, "the first part to count")
        self.assertEqual(progress.figures()["files_done"], 0)
        held.gate(2).set()
        end.result(20)
        self.assertEqual((done(), progress.figures()["files_done"]), (2 * PART_SIZE + 7, 1))

    def test_a_part_that_is_sent_again_counts_once(self):
        os.truncate(self.write("large", b""), PART_SIZE + 7)
        held = Held(refuse_once={1})
        for number in (1, 2):
            held.gate(number).set()
        end, progress = self.start(held, [FileItem(file) for file in self.files()])
        end.result(20)
        self.assertEqual(progress.figures()["bytes_done"], PART_SIZE + 7)

    def test_of_an_archive_the_bytes_of_the_source_count_when_its_parts_are_acknowledged(self):
        for number in range(3):
            self.write(f"{number}.png", os.urandom(PART_SIZE // 2))
        held = Held()
        item = ZipItem("behavior/behavior.zip", self.files())
        end, progress = self.start(held, [item])
        done = lambda: progress.figures()["bytes_done"]  # noqa: E731
        wait_until(lambda: held.arrived == {1, 2}, 20, "all parts at the server")
        self.assertEqual(done(), 0)
        held.gate(1).set()
        wait_until(lambda: done(), 20, "the first part to count")
        self.assertAlmostEqual(done(), PART_SIZE, delta=2 * MEBI)
        held.gate(2).set()
        end.result(20)
        self.assertEqual(done(), item.source_size)

    def test_parts_that_are_there_already_count_but_say_nothing_of_the_rate(self):
        pieces = [b"1" * MEBI, b"2" * MEBI, b"3"]
        listed = "".join(
            f'<Part><PartNumber>{n}</PartNumber><ETag>"e"</ETag><Size>{MEBI}</Size></Part>'
            for n in (1, 2)
        )
        answers = [reply(200, f"<R>{listed}</R>".encode()), OK, DONE]
        store = self.open(answers)
        page = Ledger(self.enterContext(Journal(self.folder / "journal"))).checkpoint_for("x", "v1")
        page.start("u", MEBI, "CRC64NVME")
        for number in (1, 2):
            checksum = Algorithm.CRC64NVME.of(pieces[number - 1])
            page.add_part("u", Part(number, MEBI, '"e"', checksum))
        told = []
        traffic = Traffic(1, 4 * MEBI)
        store.put_parts(
            "p/x", map(BufferBody, pieces), MEBI, traffic, page, lambda *part: told.append(part)
        )
        self.assertEqual(told, [(1, MEBI, False), (2, MEBI, False), (3, 1, True)])
        progress = Progress(1, 100, lambda figures: None, bar=False, clock=lambda: self.seconds)
        progress.already(0, 60)
        progress.add(20)
        self.seconds = 2.0
        self.assertEqual(progress.figures()["bytes_per_second"], 10)
        self.assertEqual(progress.figures()["seconds_left"], 2.0)

    def test_parts_of_an_earlier_job_count_once_and_only_new_ones_make_the_rate(self):
        for number in range(3):
            self.write(f"{number}.png", os.urandom(PART_SIZE * 3 // 4))
        os.truncate(self.write("large", b""), 2 * PART_SIZE + 7)
        large = next(file for file in self.files() if file.size > PART_SIZE)
        images = [file for file in self.files() if file is not large and file.size < PART_SIZE]
        for item in (FileItem(large), ZipItem("behavior/behavior.zip", images)):
            with self.subTest(item=type(item).__name__):
                self.seconds = 0.0
                journal = Journal(self.folder / f"journal-{type(item).__name__}")
                ledger = Ledger(self.enterContext(journal))
                held = Held(denied={3})
                end, progress = self.start(held, [item], ledger)
                for number in (1, 2):
                    held.gate(number).set()
                least = 2 * PART_SIZE - 2 * MEBI
                done = lambda: progress.figures()["bytes_done"]  # noqa: B023, E731
                wait_until(lambda: done() >= least, 20, "two parts to count")  # noqa: B023
                kept = done()
                held.gate(3).set()
                with self.assertRaises(TransferError):
                    end.result(20)
                held = Held(kept=(1, 2))
                held.gate(3).set()
                end, progress = self.start(held, [item], ledger)
                end.result(20)
                self.seconds = 1.0
                figures = progress.figures()
                self.assertEqual({3}, held.arrived)
                self.assertEqual(item.source_size, figures["bytes_done"])
                self.assertEqual(item.source_size - kept, figures["bytes_per_second"])
                self.assertEqual(
                    (item.file_count, 0.0), (figures["files_done"], figures["seconds_left"])
                )

    def test_a_folder_acknowledges_a_part_when_it_is_written(self):
        store = open_store(str(self.folder / "there"), "bucket")
        store.create()
        told, seen = [], []

        def parts():
            for data in (b"12", b"3"):
                seen.append(list(told))
                yield BufferBody(data)

        store.put_parts("p/x", parts(), 2, on_part=lambda *part: told.append(part))
        self.assertEqual(seen, [[], [(1, 2, True)]])
        self.assertEqual(told, [(1, 2, True), (2, 1, True)])
