"""Reading back from the disk."""

import errno
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import VerificationError
from aind_data_transfer_service.storage import page_cache
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.verify.compare import verify
from tests.support import missing, slow
from tests.support.transfer import TransferTestCase
from tests.unit.upload.verify.test_audit import AuditTestCase

MEBI = 1024**2
_ROOT = Path(__file__).parents[3]
_MOUNTS = r"""
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 24 0:26 / /dev/shm rw,nosuid - tmpfs tmpfs rw
41 24 0:40 / /data rw - xfs /dev/sdb rw
42 41 0:41 / /data/lab\040share rw,relatime shared:7 master:2 - nfs4 server:/export rw
43 24 0:42 / /mnt/rig rw - cifs //rig/d rw
44 24 0:43 / /mnt/remote rw - fuse.sshfs host: rw
45 41 0:44 / /data rw - zfs pool/data rw
"""


def bytes_from_disk() -> int:
    """Count the bytes that this process had read from disks so far."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        raise missing("/proc/self/io")
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def folder_on_disk() -> str:
    """Find a folder whose file system has a disk."""
    for folder in (tempfile.gettempdir(), "/var/tmp", str(_ROOT)):
        name = page_cache.file_system(Path(folder))
        if page_cache.source_words(name) == "from the disk" and os.access(folder, os.W_OK):
            return folder
    raise missing("a folder on a disk")


class TestReadBack(TransferTestCase):
    """A job whose destination is a folder on a disk."""

    def setUp(self) -> None:
        """Make a session, and a destination on a disk."""
        super().setUp()
        self.root = self.enterContext(tempfile.TemporaryDirectory(dir=folder_on_disk()))
        self.destination = self.root
        self.size = 0
        for number, size in enumerate((1, 4096, 5000, 9 * MEBI)):
            self.write(f"{number}.bin", os.urandom(size))
            self.size += size

    def run_and_count(self) -> int:
        """Run the job; count the bytes that verification had read from the disk."""
        begun: list[int] = []
        self.told.when(Step.VERIFY, Kind.START, lambda: begun.append(bytes_from_disk()))
        self.run_job()
        return bytes_from_disk() - begun[0]

    def words(self) -> str:
        """Give what the job says at the end of verification."""
        return [e[2] for e in self.told.all if e[:2] == ("verify", "end")][-1]

    def test_every_byte_comes_from_the_disk(self):
        self.assertGreaterEqual(self.run_and_count(), self.size)
        self.assertRegex(self.words(), "are proven, read back from the disk$")

    def test_what_stays_in_the_cache_is_counted(self):
        keep = patch.object(os, "posix_fadvise", lambda *_: None)
        with keep:
            self.assertLess(self.run_and_count(), self.size)
        self.assertRegex(self.words(), r"the disk, but 7 files perhaps from this machine's cache$")

    def test_what_is_not_written_yet_is_written_first(self):
        path = Path(self.root) / "x"
        path.write_bytes(os.urandom(MEBI))
        with open(path, "rb") as file:
            before = bytes_from_disk()
            self.assertTrue(page_cache.drop(file.fileno()))
            self.assertEqual(len(file.read()), MEBI)
        self.assertGreaterEqual(bytes_from_disk() - before, MEBI)

    def test_a_disk_that_cannot_write_what_it_took_fails_the_job(self):
        error = OSError(errno.EIO, "Input/output error")
        self.told.when(Step.VERIFY, Kind.START, lambda: self.enterContext(broken))
        broken = patch.object(page_cache, "drop", side_effect=error)
        with self.assertRaisesRegex(Exception, "cannot be read back: Input/output error"):
            self.run_job()

    def test_verify_deep_reads_from_the_disk_too(self):
        self.run_job()
        entries = list(self.manifest().values())
        verify(self.store, self.config().s3_prefix, entries)
        before = bytes_from_disk()
        store = self.store
        self.assertEqual(verify(store, self.config().s3_prefix, entries, deep=True), [])
        self.assertGreaterEqual(bytes_from_disk() - before, self.size)
        with self.assertRaises(VerificationError):
            verify(store, self.config().s3_prefix, entries[1:], deep=True)


class TestWords(AuditTestCase):
    """What reading back proves, said of each kind of file system."""

    def test_the_file_system_of_a_folder_is_found(self):
        for path, name in (
            ("/home/x", "ext4"),
            ("/dev/shm", "tmpfs"),
            ("/dev/shmem", "ext4"),
            ("/data/lab share/bucket", "nfs4"),
            ("/mnt/rig/a", "cifs"),
            ("/mnt/remote", "fuse.sshfs"),
            ("/data/x", "zfs"),
        ):
            self.assertEqual(page_cache.type_of(path, _MOUNTS.strip()), name, path)

    @slow
    def test_memory_and_servers_are_named(self):
        for name, words in (
            ("tmpfs", "from memory: tmpfs has no disk"),
            ("nfs4", "through nfs4, which may answer from a cache of its own"),
            ("cifs", "through cifs, which may answer from a cache of its own"),
            ("zfs", "through zfs, which may answer from a cache of its own"),
            ("xfs", "from the disk"),
        ):
            with patch.object(page_cache, "file_system", return_value=name):
                self.run_job(force_cloud_sync=True)
                message = [e[2] for e in self.told.all if e[:2] == ("verify", "end")][-1]
                self.assertIn(f"are proven, read back {words}", message)
                self.assertIn(
                    f"are proven, read back {words}", self.verify("--deep", self.asset)[1]
                )
