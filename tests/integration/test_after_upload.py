"""From a submitted job to a running computation: service, job, S3, Code Ocean, registration."""

import asyncio
import os
import tempfile
import unittest
import uuid
from pathlib import Path
from unittest.mock import patch

import httpx
import psutil

from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from tests.support import seaweedfs, wait_until
from tests.support.code_ocean import CAPSULE, TOKEN, CodeOceanStub
from tests.support.hook import Hook
from tests.support.requests import upload_settings
from tests.support.service import Service

ASSET = "behavior_690165_2024-02-19_11-25-17"
HOOK_TOKEN = "h00k-s3cr3t"


class AfterUpload(unittest.TestCase):
    """A service whose assets are registered and analysed."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start one S3 server for all."""
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        """Start a service with everything around it, and make a session."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.enterContext(patch.dict(os.environ, self.s3.env))
        self.stub = self.enterContext(CodeOceanStub())
        self.hook = self.enterContext(Hook())
        known = PostUploadSettings(
            codeocean_domain=self.stub.url,
            codeocean_token=TOKEN,
            codeocean_timeout=20,
            registration_url=self.hook.url,
            registration_token=HOOK_TOKEN,
        )
        self.service = self.enterContext(
            Service(
                destination="s3://",
                default_s3_bucket=self.bucket,
                institution="NYU",
                default_funder="NINDS",
                aws_endpoint_url=self.s3.endpoint_url,
                post_upload=known,
            )
        )
        self.api = self.enterContext(httpx.Client(base_url=self.service.url, trust_env=False))
        self.source = self.folder / "Behavior"
        self.source.mkdir()
        (self.source / "licks.bin").write_bytes(os.urandom(100_000))

    def submit(self) -> str:
        """Submit a job that asks for a capsule; give its id."""
        body = {"jobs": [upload_settings(self.source, process_capsule_id=CAPSULE)]}
        answer = self.api.post("/api/submit_basic_jobs", json=body, timeout=30)
        self.assertEqual(200, answer.status_code, answer.text)
        self.warnings = answer.json()["data"]["warnings"]
        return answer.json()["data"]["responses"][0]["job_id"]

    def job(self, job_id: str) -> dict:
        """Ask for a job as it stands."""
        return self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]

    def until(self, job_id: str, **wanted: str) -> dict:
        """Wait until a job has these values."""

        def look() -> dict | None:
            job = self.job(job_id)
            return job if all(job[name] == value for name, value in wanted.items()) else None

        return wait_until(look, 90, f"{wanted} of {job_id}")

    def stored(self, name: str) -> bytes:
        """Read back a file of the asset."""
        found = self.s3.client.get_object(Bucket=self.bucket, Key=f"{ASSET}/{name}")
        return found["Body"].read()

    def make_round(self) -> None:
        """Have the service look at what runs, now rather than within a minute."""
        manager = self.service.manager
        loop = manager._tasks[0].get_loop()
        asyncio.run_coroutine_threadsafe(manager._term.afterwards.round(), loop).result(60)

    def assert_secrets_kept(self) -> None:
        """Look for the tokens wherever the service leaves something."""
        secrets = [TOKEN.encode(), HOOK_TOKEN.encode()]
        places = [path for path in self.service.data_dir.rglob("*") if path.is_file()]
        self.assertTrue(places)
        for path in places:
            data = path.read_bytes()
            for secret in secrets:
                self.assertNotIn(secret, data, path)

    def test_a_verified_asset_is_registered_and_analysed_and_followed_to_the_end(self) -> None:
        job_id = self.submit()
        self.assertEqual([], self.warnings)
        job = self.until(job_id, state="COMPLETED", analysis="RUNNING", registration="COMPLETED")
        [asset] = self.stub.assets.values()
        [run] = self.stub.runs
        self.assertEqual(
            (self.bucket, ASSET),
            (asset["source_bucket"]["bucket"], asset["source_bucket"]["prefix"]),
        )
        self.assertEqual([{"id": asset["id"], "mount": ASSET}], run["data_assets"])
        self.assertEqual(asset["id"], job["data_asset_id"])
        self.assertIn(job["computation_id"], self.stub.computations)
        self.assertEqual([self.stored("metadata.nd.json")], self.hook.raw)
        self.assertEqual(f"Bearer {HOOK_TOKEN}", self.hook.headers[0]["Authorization"])
        self.stub.end()
        self.make_round()
        self.until(job_id, analysis="COMPLETED", state="COMPLETED")
        page = self.api.get(f"/jobs/{job_id}").text
        self.assertIn(job["data_asset_link"], page)
        self.assertIn(job["computation_link"], page)
        self.assertNotIn(TOKEN, page + str(self.job(job_id)))
        self.assert_secrets_kept()

    def test_a_failure_there_is_none_of_the_uploads_and_is_made_good_from_the_page(self) -> None:
        self.stub.fail("", 401, times=100)
        self.hook.answers = [422]
        job_id = self.submit()
        self.assertIn("does not accept CODEOCEAN_TOKEN (401)", self.warnings[0])
        job = self.until(job_id, state="COMPLETED", analysis="FAILED", registration="FAILED")
        self.assertEqual("", job["reason"])
        self.assertIn("does not accept CODEOCEAN_TOKEN (401)", job["analysis_reason"])
        self.assertIn("rejected the document (422)", job["registration_reason"])
        self.assertEqual(
            self.stored("behavior/licks.bin"), (self.source / "licks.bin").read_bytes()
        )
        self.stub.faults.clear()
        for step in ("analysis", "registration"):
            answer = self.api.post(f"/api/jobs/{job_id}/{step}")
            self.assertEqual(200, answer.status_code, answer.text)
            self.assertEqual("PENDING", answer.json()["data"]["job"][step])
        self.until(job_id, state="COMPLETED", analysis="RUNNING", registration="COMPLETED")
        self.assertEqual(self.hook.raw[0], self.hook.raw[1])
        keys = {headers["Idempotency-Key"] for headers in self.hook.headers}
        self.assertEqual(1, len(keys))
        again = self.api.post(f"/api/jobs/{job_id}/analysis")
        self.assertEqual(409, again.status_code)
        self.assertIn("its analysis is RUNNING already", again.json()["data"]["errors"][0])
        self.assertEqual((1, 1), (len(self.stub.assets), len(self.stub.runs)))
        self.assert_secrets_kept()

    def test_a_job_killed_while_code_ocean_is_asked_has_done_its_work(self) -> None:
        self.stub.fail("POST /api/v1/data_assets$", "slow")
        job_id = self.submit()
        self.until(job_id, step="analysis")
        killed = [process for process in psutil.process_iter() if _of_job(process, job_id)]
        for process in killed:
            process.kill()
        self.assertTrue(killed)
        job = self.until(job_id, state="COMPLETED")
        self.assertEqual("PENDING", job["analysis"])
        self.assertEqual(
            self.stored("behavior/licks.bin"), (self.source / "licks.bin").read_bytes()
        )


def _of_job(process: psutil.Process, job_id: str) -> bool:
    """Tell whether a process is a job's own."""
    try:
        is_upload = process.cmdline()[1:3] == ["-m", "aind_data_transfer_service.upload"]
        return is_upload and process.environ().get("JOB_ID") == job_id
    except psutil.Error:
        return False


if __name__ == "__main__":
    unittest.main()
