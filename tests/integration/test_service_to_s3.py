"""The whole main path to a real S3 server: spreadsheet, service, job, bucket, verified asset."""

import csv
import hashlib
import io
import json
import os
import tempfile
import unittest
import uuid
from pathlib import Path
from unittest.mock import patch

import httpx
import psutil

from tests.support import seaweedfs, wait_until
from tests.support.service import Service

BUCKET = "recordings"
ASSET = "behavior_690165_2024-02-19_11-25-17"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "UNKNOWN")


class ServiceToS3(unittest.TestCase):
    """A service whose destination is a bucket."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start one S3 server for all."""
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        """Start a service that uploads into a fresh bucket, and make a session."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.bucket = self.s3.create_bucket(f"{BUCKET}-{uuid.uuid4().hex[:12]}")
        self.enterContext(patch.dict(os.environ, self.s3.env))
        self.service = self.enterContext(
            Service(
                destination="s3://",
                default_s3_bucket=self.bucket,
                aws_endpoint_url=self.s3.endpoint_url,
                source_roots=[self.folder],
            )
        )
        self.api = self.enterContext(httpx.Client(base_url=self.service.url, trust_env=False))
        self.source = self.folder / "Behavior"
        for number in range(40):
            path = self.source / f"trial {number % 4}" / f"lick's {number} é.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([number]) * (number * 1000))
        (self.source / "camera.avi").write_bytes(os.urandom(40 * 1024**2))

    def spreadsheet(self) -> bytes:
        """Write a spreadsheet with one job."""
        row = {
            "processor_full_name": "Anna Apple",
            "project_name": "Ephys Platform",
            "process_capsule_id": "",
            "platform": "behavior",
            "acq_datetime": "2/19/2024 11:25:17 AM",
            "subject_id": "690165",
            "modality0": "behavior",
            "modality0.source": str(self.source),
            "metadata_dir": "",
        }
        text = io.StringIO()
        writer = csv.DictWriter(text, row)
        writer.writeheader()
        writer.writerow(row)
        return text.getvalue().encode()

    def validate(self) -> httpx.Response:
        """Post the spreadsheet."""
        files = {"file": ("jobs.csv", self.spreadsheet())}
        return self.api.post("/api/validate_csv", files=files, timeout=30)

    def submit(self) -> str:
        """Submit the spreadsheet's job; give its id."""
        checked = self.validate()
        self.assertEqual(200, checked.status_code, checked.text)
        body = {"jobs": checked.json()["data"]["jobs"]}
        answer = self.api.post("/api/submit_basic_jobs", json=body, timeout=30)
        self.assertEqual((200, "Submitted Jobs."), (answer.status_code, answer.json()["message"]))
        return answer.json()["data"]["responses"][0]["job_id"]

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""
        return wait_until(
            lambda: job if (job := self.job(job_id))["state"] in ENDED else None, 90, "its end"
        )

    def stored(self) -> dict[str, bytes]:
        """Read the asset back with another client than ours."""
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{ASSET}/"
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key.removeprefix(f"{ASSET}/"): self.s3.client.get_object(Bucket=self.bucket, Key=key)[
                "Body"
            ].read()
            for key in keys
        }

    def assert_whole(self) -> None:
        """Compare every file of the session with what the bucket holds, and with the manifest."""
        stored = self.stored()
        sent = {
            f"behavior/{path.relative_to(self.source)}": path.read_bytes()
            for path in self.source.rglob("*")
            if path.is_file()
        }
        data = {path: content for path, content in stored.items() if "/" in path}
        self.assertEqual(sent, data)
        self.assertIn("metadata.nd.json", stored)
        key = f".transfer/{ASSET}/manifest.jsonl"
        body = self.s3.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        entries = [json.loads(line) for line in body.splitlines()[1:]]
        self.assertEqual(
            {path: hashlib.sha256(content).hexdigest() for path, content in stored.items()},
            {entry["path"]: entry["sha256"] for entry in entries},
        )

    def test_a_spreadsheet_becomes_a_verified_asset(self) -> None:
        job = self.end_of(self.submit())
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        self.assertEqual(f"s3://{self.bucket}/{ASSET}", job["location"])
        self.assert_whole()
        again = self.validate()
        self.assertEqual(406, again.status_code)
        self.assertIn("row 2", again.json()["data"]["errors"][0])
        self.assertIn(f"s3://{self.bucket}/{ASSET}", again.json()["data"]["errors"][0])

    def test_a_killed_job_is_finished_by_a_resubmission(self) -> None:
        with open(self.source / "recording.dat", "wb") as large:
            for _ in range(24):
                large.write(os.urandom(16 * 1024**2))
        job_id = self.submit()
        wait_until(lambda: self.job(job_id)["step"] == "transfer", 60, "the transfer to begin")
        killed = [
            process
            for process in psutil.process_iter()
            if cmdline(process)[1:3] == ["-m", "aind_data_transfer_service.upload"]
            and environment(process).get("JOB_ID") == job_id
        ]
        for process in killed:
            process.kill()
        self.assertTrue(killed)
        failed = self.end_of(job_id)
        self.assertEqual("FAILED", failed["state"])
        self.assertIn("SIGKILL", failed["reason"])
        answer = self.api.post(f"/api/jobs/{job_id}/resubmit", timeout=30)
        self.assertEqual(200, answer.status_code, answer.text)
        again = self.end_of(answer.json()["data"]["job"]["id"])
        self.assertEqual(("COMPLETED", ""), (again["state"], again["reason"]))
        self.assert_whole()


def cmdline(process: psutil.Process) -> list[str]:
    """Read a process's command line; empty where it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def environment(process: psutil.Process) -> dict[str, str]:
    """Read a process's environment; empty where it is gone."""
    try:
        return process.environ()
    except psutil.Error:
        return {}
