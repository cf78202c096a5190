"""Drives that have faults, lie about files, or hide changes."""

import errno
import mmap
import os
import re
import shutil
import stat
import struct
import threading
from collections.abc import Callable
from unittest.mock import patch

from aind_data_transfer_service.errors import MetadataError, SourceChangedError, SourceError
from aind_data_transfer_service.source_paths import drive_retry
from aind_data_transfer_service.storage import page_cache, system_calls
from aind_data_transfer_service.upload.job import source_recheck
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.plan.items import sha256_of
from aind_data_transfer_service.upload.plan.plan import PART_SIZE
from aind_data_transfer_service.upload.source import scan
from tests.support import missing, slow
from tests.support.transfer import NOBODY, PREFIX, TransferTestCase, as_an_ordinary_user


class FaultyCall:
    """A system call that fails for one path, a number of times.

    Parameters
    ----------
    name : str
        The function of `os`.
    part : str
        Part of the path.
    code : int
        The error.
    times : int
        How often it fails.
    then : Callable
        Runs at each failure.
    """

    def __init__(
        self,
        name: str,
        part: str,
        code: int = errno.ESTALE,
        times: int = 1,
        then: Callable[[], object] = lambda: None,
    ):
        self._real = getattr(os, name)
        self._part, self._code, self._then = part, code, then
        self.left = times
        self.patch = patch.object(os, name, self)

    def __call__(self, target, *arguments, **more):
        """Fail, or do what the system does."""
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        if self.left and self._part in path:
            self.left -= 1
            self._then()
            raise OSError(self._code, os.strerror(self._code), path)
        return self._real(target, *arguments, **more)


class FaultTestCase(TransferTestCase):
    """Retries without waiting."""

    def setUp(self):
        """Retry at once."""
        super().setUp()
        self.enterContext(patch.object(drive_retry, "DELAYS", (0.0, 0.0, 0.0)))

    def break_call(self, name, part, *arguments, **more):
        """Make a system call fail; give the fault."""
        fault = FaultyCall(name, part, *arguments, **more)
        self.enterContext(fault.patch)
        return fault

    def reported(self):
        """Return the warnings about retries."""
        return [warning for warning in self.told.warnings() if "is retried" in warning]


@slow
class TestPassingFaults(FaultTestCase):
    """One error of a network drive, which is gone when the file is opened again."""

    def check(self, call, part, code=errno.ESTALE, **request):
        """Run a job over a drive with one fault."""
        data = {"small.bin": os.urandom(3000), "large.bin": os.urandom(PART_SIZE + 5)}
        for name, content in data.items():
            self.write(name, content)
        fault = self.break_call(call, part, code)
        self.run_job(**request)
        self.assertEqual(fault.left, 0)
        (warning,) = self.reported()
        reason = f"{os.strerror(code)} ({errno.errorcode[code]})"
        self.assertRegex(
            warning, f"{part}/? could not be read: {re.escape(reason)}; the read is retried"
        )
        if not request:
            stored = self.stored()
            self.assertEqual({name: stored[f"behavior/{name}"] for name in data}, data)

    def test_opening_a_small_file(self):
        self.check("open", "small.bin")

    def test_reading_a_small_file(self):
        self.check("read", "small.bin", errno.EIO)

    def test_asking_what_an_open_file_is(self):
        self.check("fstat", "small.bin", errno.ETIMEDOUT)

    def test_opening_a_large_file(self):
        self.check("open", "large.bin", errno.EHOSTDOWN)

    def test_reading_a_large_file(self):
        self.check("preadv", "large.bin", errno.EAGAIN)

    def test_reading_a_file_into_a_zip(self):
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        self.check("pread", "large.bin", modalities=[modality])

    def test_looking_at_a_file(self):
        self.check("lstat", "small.bin")

    def test_listing_a_folder(self):
        self.check("scandir", "session/Behavior")

    def test_finding_the_source(self):
        self.check("stat", "session/Behavior", errno.EIO)

    def test_reading_a_folder_of_metadata(self):
        folder = self.folder / "metadata"
        self.write("session.json", "{}", root=folder)
        fault = self.break_call("listdir", str(folder))
        self.write("a.txt")
        self.run_job(metadata_dir=str(folder))
        self.assertEqual(fault.left, 0)
        self.assertIn("session.json", self.stored())

    def test_asking_whether_a_source_may_be_read(self):
        real, answers = os.access, [False]

        def access(*arguments, **more):
            return answers.pop() if answers else real(*arguments, **more)

        self.write("a.txt")
        fault = self.break_call("open", "session/Behavior/.")
        with patch.object(os, "access", access):
            self.run_job()
        self.assertEqual((fault.left, answers), (0, []))
        self.assertIn("behavior/a.txt", self.manifest())

    def test_many_faults_are_reported_once(self):
        for number in range(20):
            self.write(f"{number}.bin")
        self.break_call("read", ".bin", times=20)
        with patch.object(drive_retry, "DELAYS", (0.0,) * 30):
            self.run_job()
        self.assertEqual(len(self.reported()), 1)
        self.assertEqual(self.stored()["behavior/7.bin"], b"data")


class TestLastingFaults(FaultTestCase):
    """A drive that does not recover."""

    def test_the_file_and_the_error_are_named(self):
        self.write("a.bin")
        for call in ("read", "pread"):
            self.break_call(call, "a.bin", times=99)
        with self.assertRaisesRegex(
            SourceError, r"/a\.bin cannot be read: Stale file handle \(ESTALE\)"
        ):
            self.run_job()

    def test_so_are_those_of_a_large_file(self):
        self.write("a.bin", bytes(PART_SIZE + 1))
        self.break_call("preadv", "a.bin", errno.EIO, times=99)
        with self.assertRaisesRegex(
            SourceError, r"/a\.bin cannot be read: Input/output error \(EIO\)"
        ):
            self.run_job()

    def test_a_drive_with_many_bad_files_is_waited_for_once(self):
        for number in range(5):
            self.write(f"{number}.bin")
        fault = self.break_call("lstat", ".bin", errno.EIO, times=99)
        with self.assertRaisesRegex(SourceError, "Input/output error"):
            self.run_job()
        self.assertEqual(99 - fault.left, 1 + len(drive_retry.DELAYS) + 4)

    def test_a_fault_at_the_last_look_is_no_change_of_the_source(self):
        self.write("a.bin")
        for call, part in (("lstat", "a.bin"), ("scandir", "session/Behavior")):
            with self.subTest(call):
                faults = []
                self.told.when(
                    Step.TRANSFER,
                    Kind.END,
                    lambda: faults.append(self.break_call(call, part, errno.EIO, times=99)),
                )
                with self.assertRaisesRegex(SourceError, r"cannot be read: .*\(EIO\)"):
                    self.run_job()
                faults[0].left = 0

    def test_metadata_that_cannot_be_read_are_named(self):
        self.write("a.txt")
        path = self.write("session.json", "{}", root=self.folder / "metadata")
        self.break_call("listdir", str(path.parent), times=99)
        with self.assertRaisesRegex(MetadataError, r"metadata cannot be read: .*\(ESTALE\)"):
            self.run_job(metadata_dir=str(path.parent))

    def test_an_error_that_does_not_pass_is_not_retried(self):
        self.write("a.bin")
        fault = self.break_call("read", "a.bin", errno.EISDIR, times=99)
        with self.assertRaisesRegex(SourceError, "EISDIR"):
            self.run_job()
        self.assertEqual(fault.left, 98)

    def test_another_file_in_its_place_is_not_read_on(self):
        path = self.write("a.bin", bytes(PART_SIZE + 1))
        self.break_call("preadv", "a.bin", then=lambda: path.write_bytes(b"other"))
        with self.assertRaisesRegex(SourceChangedError, "were found, now there are 5"):
            self.run_job()

    def test_a_link_is_not_said_to_lead_nowhere(self):
        self.write("a.bin")
        os.symlink("a.bin", self.source / "link")
        with patch.object(os.path, "realpath", side_effect=_faulty_realpath()):
            with self.assertRaisesRegex(SourceError, r"link cannot be read: .*\(EIO\)"):
                self.run_job()


def _faulty_realpath():
    """Make `realpath` fail where a link is resolved for good."""
    real = os.path.realpath

    def realpath(path, strict=False):
        if strict:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    return realpath


class TestHiddenChanges(TransferTestCase):
    """Changes that leave size and time of writing as they were."""

    def setUp(self):
        """Let no file be read again for being new."""
        super().setUp()
        self.enterContext(patch.object(scan, "_UNSETTLED_NS", -(10**18)))

    def rewrite(self, path, data):
        """Write other bytes and set the time back."""
        before = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def check_noticed(self, **request):
        """Expect the job to fail, and the next one to send the file again."""
        with self.assertRaisesRegex(SourceChangedError, "holds other bytes than were sent"):
            self.run_job(**request)
        self.run_job(**request)
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)

    def test_a_time_that_was_set_back_is_noticed(self):
        path = self.write("a.txt", "before")
        self.write("b.txt")
        self.told.when(Step.TRANSFER, Kind.END, lambda: self.rewrite(path, b"AFTER!"))
        self.check_noticed()
        self.assertEqual(self.stored()["behavior/a.txt"], b"AFTER!")

    def test_so_is_one_in_a_zip(self):
        path = self.write("a.txt", "before")
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        self.told.when(Step.TRANSFER, Kind.END, lambda: self.rewrite(path, b"AFTER!"))
        self.check_noticed(modalities=[modality])

    def test_a_replacement_with_the_time_of_the_original_is_noticed(self):
        path = self.write("a.txt", "before")
        other = self.write("other.txt", "AFTER!", root=self.folder)
        shutil.copystat(path, other)

        def replace():
            path.unlink()
            shutil.copy2(other, path)

        self.told.when(Step.TRANSFER, Kind.END, replace)
        self.check_noticed()

    def test_a_page_that_mmap_changed_shortly_before_and_once_more_is_noticed(self):
        self.enterContext(patch.object(scan, "_UNSETTLED_NS", 60 * 10**9))
        path = self.write("a.txt", "before")
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 6) as page:
            page[0:1] = b"B"

            def change():
                page[0:6] = b"AFTER!"

            self.told.when(Step.TRANSFER, Kind.END, change)
            with self.assertRaisesRegex(SourceChangedError, r"a\.txt"):
                self.run_job()

    def test_a_job_that_goes_on_after_such_a_page_was_changed_sends_it(self):
        path = self.write("a.txt", "before")
        self.write("b.txt")
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 6) as page:
            page[0:1] = b"B"
            self.told.when(Step.VERIFY, Kind.START, _stop)
            with patch.object(scan, "_UNSETTLED_NS", 60 * 10**9):
                with self.assertRaises(KeyboardInterrupt):
                    self.run_job()
            page[0:6] = b"AFTER!"
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/a.txt"], b"AFTER!")

    def test_several_doubtful_files_are_read_again_at_once(self):
        paths = [self.write(f"{number}.txt", "before") for number in range(5)]
        both = threading.Barrier(2, timeout=10)
        waited = iter(range(2))

        def read(item):
            if next(waited, None) is not None:
                both.wait()  # two at once, or never
            return sha256_of(item)

        def change():
            for path in paths:
                os.chmod(path, 0o600)
            self.rewrite(paths[-1], b"AFTER!")

        self.told.when(Step.TRANSFER, Kind.END, change)
        self.enterContext(patch.object(source_recheck, "cores", lambda: 2))
        self.enterContext(patch.object(source_recheck, "sha256_of", read))
        self.enterContext(patch.object(source_recheck, "_BATCH", 2))
        with self.assertRaisesRegex(SourceChangedError, r": behavior/4\.txt holds other bytes"):
            self.run_job()

    def test_a_change_time_alone_is_no_change(self):
        path = self.write("a.txt")
        self.told.when(Step.TRANSFER, Kind.END, lambda: os.chmod(path, 0o600))
        self.run_job()
        self.assertIn("behavior/a.txt", self.manifest())
        os.chmod(path, 0o644)
        self.run_job(force_cloud_sync=True)
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 0)

    def test_a_change_before_a_job_goes_on_is_sent(self):
        path = self.write("a.txt", "before")
        self.write("b.txt")
        self.told.when(Step.VERIFY, Kind.START, _stop)
        with self.assertRaises(KeyboardInterrupt):
            self.run_job()
        self.rewrite(path, b"AFTER!")
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 1)
        self.assertEqual(self.stored()["behavior/a.txt"], b"AFTER!")


def _stop():
    raise KeyboardInterrupt


class TestInventedInodes(TransferTestCase):
    """Clients of network drives give a file another inode number each time they forget it."""

    def renumber(self, folder=None):
        """Give every file another inode, and leave all else as it is."""
        for path in (folder or self.source).iterdir():
            copy = self.folder / "copy"
            shutil.copy2(path, copy)
            os.replace(copy, path)

    def test_another_number_is_no_change(self):
        self.write("a.txt")
        self.write("large.bin", bytes(PART_SIZE + 1))
        for moment in ((Step.TRANSFER, Kind.START), (Step.VERIFY, Kind.START)):
            self.told.when(*moment, self.renumber)
        self.run_job()
        self.assertEqual(len(self.manifest()), 5)

    def test_a_job_that_goes_on_sends_nothing_again(self):
        for number in range(20):
            self.write(f"{number}.txt")
        self.told.when(Step.VERIFY, Kind.START, _stop)
        with self.assertRaises(KeyboardInterrupt):
            self.run_job()
        self.renumber()
        self.run_job()
        self.assertEqual(self.told.figures("transfer", "end")["files_sent"], 0)

    def test_so_it_is_at_a_local_destination(self):
        self.write("a.txt")
        there = self.folder / "store" / self.bucket / PREFIX / "behavior"
        self.told.when(Step.TRANSFER, Kind.END, lambda: self.renumber(there))
        self.run_job()
        self.assertIn("behavior/a.txt", self.manifest())

    def test_the_message_names_what_differs(self):
        path = self.write("a.txt")
        os.utime(path, ns=(0, 1_700_000_000_000_000_001))
        self.told.when(Step.TRANSFER, Kind.START, lambda: os.utime(path, ns=(0, 5)))
        expected = (
            r"a\.txt changed while the job ran: it was written at "
            r"2023-11-14T22:13:20\.000000001Z, now at 1970-01-01T00:00:00\.000000005Z;"
        )
        with self.assertRaisesRegex(SourceChangedError, expected):
            self.run_job()


class TestCachedAttributes(TransferTestCase):
    """A network drive, whose client does not ask the server each time."""

    def test_the_last_look_asks_past_the_cache(self):
        path = self.write("a.txt")
        cached, real = {}, os.lstat

        def lstat(target):
            return cached.setdefault(str(target), real(target))

        self.enterContext(patch.object(scan, "may_cache_attributes", lambda root: True))
        self.enterContext(patch.object(os, "lstat", lstat))
        self.told.when(Step.TRANSFER, Kind.END, lambda: path.write_bytes(b"longer data"))
        with self.assertRaisesRegex(SourceChangedError, r"a\.txt changed"):
            self.run_job()

    def test_what_is_asked_so_is_what_the_system_says(self):
        path = self.write("a.txt", b"12345")
        os.symlink("a.txt", self.source / "link")
        for name in (path, self.source / "link", self.source):
            for follow in (True, False):
                found = system_calls.fresh_status(str(name), follow)
                known = os.stat(name, follow_symlinks=follow)
                for field in ("mode", "uid", "size", "mtime_ns", "ctime_ns"):
                    field = f"st_{field}"
                    self.assertEqual(getattr(found, field), getattr(known, field), field)
        with self.assertRaises(FileNotFoundError):
            system_calls.fresh_status(str(self.source / "gone"))

    def test_a_system_without_the_call_is_asked_as_ever(self):
        path = self.write("a.txt")
        with patch.object(system_calls, "_LIBC", object()):
            self.assertEqual(system_calls.fresh_status(str(path)), os.stat(path))

    def test_which_drives_may_have_one(self):
        for name, expected in (
            ("nfs4", True),
            ("cifs", True),
            ("fuse.sshfs", True),
            ("xfs", False),
        ):
            with patch.object(page_cache, "file_system", lambda folder, name=name: name):
                self.assertEqual(system_calls.may_cache_attributes("/"), expected, name)


class TestAccessControlLists(TransferTestCase):
    """Rights that the mode of a file does not show."""

    def test_a_file_that_a_list_denies_is_named_before_any_byte_moves(self):
        self.write("a.txt")
        denied = self.write("denied.txt")
        os.chmod(denied, 0o644)
        os.chmod(self.folder, 0o777)
        _deny(denied, NOBODY)
        with as_an_ordinary_user(), self.assertRaisesRegex(SourceError, "denied.txt may not be"):
            self.run_job()
        self.assertFalse((self.folder / "store" / self.bucket / PREFIX).exists())
        self.assertTrue(stat.S_IMODE(denied.stat().st_mode) & stat.S_IROTH)


def _deny(path, user):
    """Deny a user to read a file, by an ACL of POSIX; see acl(5) for its entries."""
    if os.geteuid() != 0:
        raise missing("root, who can act as another user")
    nobody = 0xFFFFFFFF
    entries = ((1, 6, nobody), (2, 0, user), (4, 4, nobody), (16, 4, nobody), (32, 4, nobody))
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except OSError as error:
        raise missing("a file system with access control lists") from error
