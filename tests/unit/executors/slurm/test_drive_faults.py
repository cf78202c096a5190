"""What the executor for a cluster makes of a drive with the jobs' files that fails for a while."""

import errno
import os
import resource
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

from aind_data_transfer_service.executors.base import EndRecord, RunState
from aind_data_transfer_service.executors.job_files import FileReads
from aind_data_transfer_service.executors.slurm import executor, log_directory
from tests.unit.executors.slurm.test_executor import SlurmTest


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Have the system refuse to open files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class FailingDriveTest(SlurmTest):
    """A look that fails says nothing of a job."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        [self.ref] = await self.begin("j1")
        self.client.become(101, state="COMPLETED", nodes="n7", exit_code=0)
        (self.folder / "other.claim").write_text("9")

    async def test_a_success_whose_files_cannot_be_read_now_is_to_be_looked_at_again(self):
        await self.status(self.ref)  # so that everything is loaded
        with no_descriptor_left():
            status = await self.status(self.ref)
        self.assertIs(EndRecord.UNAVAILABLE, status.record, "EMFILE")
        for number in (errno.ESTALE, errno.EIO, errno.ETIMEDOUT):
            for function in ("open", "lstat", "scandir"):
                with self.subTest(errno.errorcode[number], function=function):
                    fault = OSError(number, os.strerror(number))
                    with patch.object(os, function, side_effect=fault):
                        status = await self.status(self.ref)
                    self.assertIs(EndRecord.UNAVAILABLE, status.record)
                    self.assertIn("cannot read the job's files", status.doubt)
        self.assertIs(EndRecord.MISSING, (await self.status(self.ref)).record)

    async def test_a_file_that_the_service_may_not_read_is_no_fault_that_passes(self):
        for number in (errno.EACCES, errno.EPERM):
            with patch.object(os, "open", side_effect=OSError(number, os.strerror(number))):
                self.assertIs(EndRecord.UNREADABLE, (await self.status(self.ref)).record)

    async def test_a_drive_that_does_not_answer_in_time_is_asked_again(self):
        release = threading.Event()
        self.addCleanup(release.set)
        with patch.object(executor, "FileReads", partial(FileReads, 0.05)):
            self.executor = self.make()
        await self.executor.open()
        with patch.object(log_directory, "read_piece", side_effect=lambda *_: release.wait(10)):
            status = await self.status(self.ref)
        self.assertEqual((RunState.COMPLETED, EndRecord.UNAVAILABLE), (status.state, status.record))

    async def test_the_end_of_a_forgotten_job_is_not_judged_by_a_look_that_failed(self):
        files = {"j1.claim": "101", "j1.end": '{"exit_code": 143, "stopped": true}'}
        line = "*** JOB 101 ON n1 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***"
        files["j1.err"] = f"slurmstepd: error: {line}\n"
        for name, text in files.items():
            (self.folder / name).write_text(text)
        found = log_directory.read_piece
        for ending in (".end", ".err"):
            with self.subTest(ending):

                def fail(path, *rest, ending=ending):
                    if path.name.endswith(ending):
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                    return found(path, *rest)

                with patch.object(log_directory, "read_piece", side_effect=fail):
                    status = self.executor._folder.end(self.ref, "j1")
                self.assertEqual(
                    (RunState.LOST, EndRecord.UNAVAILABLE), (status.state, status.record)
                )
        self.assertIs(RunState.TIMEOUT, self.executor._folder.end(self.ref, "j1").state)


if __name__ == "__main__":
    unittest.main()
