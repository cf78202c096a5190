"""Files of jobs on a real Slurm that belong to another user, and whom the service tells of it."""

import os
import pwd
import re
import tempfile
import unittest
from pathlib import Path, PurePosixPath
from unittest.mock import patch

import httpx

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm.log_directory import LogFolder
from tests.integration.test_slurm_service import ENDED, ClusterTest, Next
from tests.support import missing, slurm_next, wait_until
from tests.support.service import Service
from tests.support.unprivileged import unprivileged

_SCRIPT = """#!/bin/bash
umask 077
cd "$(dirname "$UPLOAD_EVENTS_FILE")"
touch "$UPLOAD_EVENTS_FILE"
chown nobody "$UPLOAD_EVENTS_FILE" "$JOB_ID.out" "$JOB_ID.err"
chmod 600 "$UPLOAD_EVENTS_FILE" "$JOB_ID.out" "$JOB_ID.err"
while [ ! -e go ]; do sleep 0.05; done
"""


class UnreadableFilesTest(ClusterTest):
    """A service that may not read what its jobs write."""

    def setUp(self) -> None:
        """Start a service that has no power over the files of others."""
        super().setUp()
        variables = self.variables()
        self.enterContext(patch.dict(os.environ, variables))
        self.enterContext(unprivileged())
        self.service = self.enterContext(Service())
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def test_the_page_and_readyz_name_the_file_and_the_user(self) -> None:
        request = {"upload_job_settings": "{}", "hpc_settings": '{"name": "a"}', "script": _SCRIPT}
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})
        job_id = answer.json()["data"]["responses"][0]["job_id"]
        wait_until(lambda: "cannot be read" in self.job(job_id)["reason"], 60, "the reason")
        log = self.api.get(f"/api/jobs/{job_id}/log").json()["data"]["problem"]
        [warning] = self.api.get("/readyz").json()["data"]["warnings"]
        shown = (self.job(job_id)["reason"], log, warning)
        user = pwd.getpwuid(os.geteuid()).pw_name
        for words in (f"{self.folder}/{job_id}.out", user, "nobody", "mode 0600", "umask 027"):
            for text in shown:
                self.assertIn(words, text)
        self.assertIn("mode 0600", self.api.get(f"/jobs/{job_id}").text)
        (self.folder / "go").touch()
        job = wait_until(
            lambda: job if (job := self.job(job_id))["state"] in ENDED else None, 60, "its end"
        )
        self.assertIn("mode 0600", job["reason"])


class NextUnreadableFilesTest(Next, UnreadableFilesTest):
    """The same on the newer generation of Slurm."""


class StopLinesTest(unittest.TestCase):
    """The lines that slurmstepd writes as it stops a job, as they are in the program itself."""

    root = Path("/")

    def formats(self) -> set[bytes]:
        """Return the formats of the lines about a job or step that is stopped on a node."""
        programs = [p for p in (self.root / "usr/sbin").glob("slurmstepd*") if not p.is_symlink()]
        if not programs:
            raise missing("Slurm (slurmstepd; Debian's package slurmd)")
        program = programs[0].read_bytes()
        self.assertIn(b"\0JOB %u\0", program)
        return set(re.findall(rb"\0(\*\*\* %s ON %s [^\0]+ \*\*\*)\0", program))

    def test_every_line_has_its_reason(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "j1.claim").write_text("55")
        found = {}
        for line in self.formats():
            values = (b"JOB 55", b"n1", b"2026-01-02T03:04:05")[: line.count(b"%s")]
            (folder / "j1.err").write_bytes(b"slurmstepd: error: " + line % values + b"\n")
            status = LogFolder(PurePosixPath(folder)).end("55:j1", "j1")
            found[status.reason.partition(";")[0].partition(",")[0]] = status.state
        self.assertEqual(
            {
                "stopped at its time limit": RunState.TIMEOUT,
                "made way for a job of higher priority": RunState.FAILED,
                "the node failed (n1)": RunState.FAILED,
                "cancelled on the cluster": RunState.CANCELLED,
                "the job began and ended without a record": RunState.FAILED,
            },
            found,
        )


class NextStopLinesTest(StopLinesTest):
    """The same lines of the newer generation."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.root = slurm_next.provide()


if __name__ == "__main__":
    unittest.main()
