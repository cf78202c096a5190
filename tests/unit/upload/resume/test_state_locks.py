"""The lock of an asset on this machine, on drives with and without locks."""

import errno
import fcntl
import logging
import os
from unittest.mock import patch

from aind_data_transfer_service.errors import DestinationExistsError, TransferError
from aind_data_transfer_service.upload.job.events import Kind, Step
from tests.support.transfer import PREFIX, TransferTestCase

LOGGER = "aind_data_transfer_service.upload.resume.host_lock"


class TestStateLocks(TransferTestCase):
    """A job on a folder of records that lies on an odd drive."""

    def setUp(self):
        """Let warnings through."""
        super().setUp()
        logging.disable(logging.NOTSET)
        self.write("a.txt")

    def refuse_locks(self, code):
        """Have every attempt to lock a file fail, but for that of the bucket."""
        real = fcntl.flock

        def flock(file, how):
            if str(file.name).endswith("/.lock"):
                return real(file, how)
            raise OSError(code, os.strerror(code))

        self.enterContext(patch.object(fcntl, "flock", flock))

    def test_a_drive_without_locks_is_a_warning(self):
        for code in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            with self.subTest(errno.errorcode[code]):
                self.refuse_locks(code)
                with self.assertLogs(LOGGER, logging.WARNING) as log:
                    self.run_job(force_cloud_sync=True)
                (line,) = log.output
                self.assertIn(f"lock cannot be locked: {os.strerror(code)}", line)
                self.assertRegex(line, "UPLOAD_STATE_DIR .*HPC_CURRENT_WORKING_DIRECTORY")
                self.assertIn("behavior/a.txt", self.manifest())

    def test_shards_work_there_too(self):
        self.refuse_locks(errno.ENOLCK)
        for number in (1, 2):
            self.run_job(self.settings(job_id="job-1", upload_shard=f"{number}/2"))
        self.run_job(self.settings(job_id="job-1", upload_shards_done=2))
        self.assertIn("behavior/a.txt", self.manifest())

    def test_a_fault_of_the_drive_is_not_another_job(self):
        self.refuse_locks(errno.EIO)
        with self.assertRaisesRegex(
            TransferError, "Input/output error; set UPLOAD_STATE_DIR .*HPC_CURRENT_WORKING"
        ):
            self.run_job()

    def test_another_job_still_is(self):
        state = self.settings().state_dir / self.bucket / PREFIX
        state.mkdir(parents=True)
        with open(state / "lock", "a+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with self.assertRaisesRegex(DestinationExistsError, "another job on this machine"):
                self.run_job()

    def test_a_drive_that_invents_inode_numbers_is_no_endless_loop(self):
        self.enterContext(patch.object(os.path, "samestat", lambda one, other: False))
        self.run_job()
        self.assertIn("behavior/a.txt", self.manifest())

    def test_a_lock_that_its_holder_removed_is_taken_again(self):
        state = self.settings().state_dir / self.bucket / PREFIX
        real, removed = fcntl.flock, []

        def flock(file, how):
            real(file, how)
            if not removed and str(file.name) == str(state / "lock"):
                removed.append(os.unlink(state / "lock"))

        self.enterContext(patch.object(fcntl, "flock", flock))
        seen = []
        self.told.when(Step.TRANSFER, Kind.START, lambda: seen.append((state / "lock").exists()))
        self.run_job()
        self.assertEqual((len(removed), seen), (1, [True]))
