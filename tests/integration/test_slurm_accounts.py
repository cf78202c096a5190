"""Several accounts of S3: the bucket of a job on the cluster decides which keys it gets."""

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import httpx

from tests.integration import test_slurm_service as slurm_service
from tests.support import seaweedfs, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service

OWN, OPEN, PARTNER = "recordings", "open-data", "partner-2"
OWN_SECRET, OPEN_SECRET, PARTNER_SECRET = "key-of-the-lab", "key-of-open-data", "key-of-partner"
SECRETS = (OWN_SECRET, OPEN_SECRET, PARTNER_SECRET)
ACCOUNTS = {
    "open data": {
        "buckets": [OPEN],
        "aws_access_key_id": "open",
        "aws_secret_access_key": OPEN_SECRET,
    },
    "partner": {
        "buckets": ["partner-*"],
        "aws_access_key_id": "partner",
        "aws_secret_access_key": PARTNER_SECRET,
    },
}
PRINT = "#!/bin/bash\nenv\n"


def may(bucket: str) -> list[str]:
    """Say what the keys for one bucket may do."""
    return [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]


class AccountsTest(slurm_service.ClusterTest):
    """Keys that are good for one bucket each."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        users = {
            "lab": (OWN_SECRET, may(OWN)),
            "open": (OPEN_SECRET, may(OPEN)),
            "partner": (PARTNER_SECRET, may(PARTNER)),
        }
        cls.s3 = seaweedfs.start(**users)
        cls.addClassCleanup(cls.s3.stop)
        for bucket in (OWN, OPEN, PARTNER):
            cls.s3.create_bucket(bucket)

    def setUp(self) -> None:
        super().setUp()
        self.logs = self.folder / "logs"
        self.source = self.folder / "Behavior"
        for folder in (self.logs, self.source):
            folder.mkdir()
        (self.source / "a.bin").write_bytes(os.urandom(50_000))
        variables = {
            **self.variables(HPC_LOGGING_DIRECTORY=str(self.logs), HPC_PYTHON=sys.executable),
            "HPC_AWS_ACCESS_KEY_ID": "lab",
            "HPC_AWS_SECRET_ACCESS_KEY": OWN_SECRET,
            "HPC_AWS_DEFAULT_REGION": "us-east-1",
            "S3_ACCOUNTS": json.dumps(ACCOUNTS),
            "AWS_ENDPOINT_URL": self.s3.endpoint_url,
        }
        self.enterContext(patch.dict(os.environ, variables))
        self.service = self.enterContext(Service(default_s3_bucket=OWN, open_data_bucket_name=OPEN))
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def submit(self, **changes) -> httpx.Response:
        """Submit a job."""
        request = {
            "upload_job_settings": upload_settings(self.source, **changes),
            "hpc_settings": json.dumps({}),
            "script": "",
        }
        return self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})

    def end_of(self, answer: httpx.Response) -> dict:
        """Wait for a job's end."""
        [response] = answer.json()["data"]["responses"]

        def ended() -> dict | None:
            job = self.api.get(f"/api/jobs/{response['job_id']}").json()["data"]["job"]
            return job if job["state"] in slurm_service.ENDED else None

        return wait_until(ended, 90, "its end")

    def test_each_bucket_is_written_to_and_looked_at_with_its_own_keys(self) -> None:
        for written, bucket in (("default", OWN), ("open", OPEN), (PARTNER, PARTNER)):
            with self.subTest(bucket):
                answer = self.submit(s3_bucket=written)
                self.assertEqual([], answer.json()["data"]["warnings"], "it could be looked at")
                job = self.end_of(answer)
                self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
                self.assertTrue(job["location"].startswith(f"s3://{bucket}/"))
                pages = ("/jobs", "/service", "/healthz", f"/jobs/{job['id']}")
                for page in pages:
                    self.assert_no_secret(self.api.get(page).raise_for_status().content)
                again = self.submit(s3_bucket=bucket)
                self.assertEqual(406, again.status_code)
                self.assertIn("exists already", again.json()["data"]["errors"][0])
        files = [*self.service.data_dir.rglob("*"), *self.logs.rglob("*")]
        for path in [*files, *self.cluster.folder.glob("*.log")]:
            if Path(path).is_file():
                self.assert_no_secret(path.read_bytes(), path)

    def test_a_job_sees_the_keys_of_no_other_account(self) -> None:
        script = {"upload_job_settings": "{}", "hpc_settings": '{"name": "x"}', "script": PRINT}
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [script]})
        job = self.end_of(answer)
        self.assertEqual("COMPLETED", job["state"])
        printed = (self.logs / f"{job['id']}.out").read_text()
        self.assertIn(f"AWS_SECRET_ACCESS_KEY={OWN_SECRET}\n", printed)
        for text in (OPEN_SECRET, PARTNER_SECRET, "S3_ACCOUNTS"):
            self.assertNotIn(text, printed)

    def assert_no_secret(self, data: bytes, where: Path | None = None) -> None:
        """Make sure that none of the secrets is in some data."""
        for secret in SECRETS:
            self.assertNotIn(secret.encode(), data, where)
