"""The sample script that people have, unchanged but for its host: a service with no settings."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import httpx

from aind_data_transfer_service.demo.service import DemoService
from tests.support import free_port, wait_until
from tests.test_server.cluster import Cluster, Pace
from tests.test_server.slurmrestd import make_server

README = Path(__file__).parents[2] / "README.md"
HOST = "http://aind-data-transfer-service"


def sample_script() -> str:
    """Take the sample out of the README, where people find it."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = (block for block in blocks if "submit_hpc_jobs" in block)
    return script


class SeedSample(unittest.TestCase):
    """It is accepted; whether it completes is a matter of its folders."""

    def setUp(self) -> None:
        """Start a service with a folder of its own and nothing else set."""
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        service = DemoService(self.folder / "service", free_port())
        service.__enter__()
        self.addCleanup(service.stop)
        self.url = service.url

    def submit(self, drive: str) -> dict:
        """Run the sample as a script; give its job once it has ended."""
        script = sample_script().replace(HOST, self.url).replace("/shared_drive", drive)
        path = self.folder / "sample.py"
        path.write_text(script, encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(0, done.returncode, done.stderr)
        status, body = done.stdout.splitlines()
        self.assertEqual("200", status, body)
        self.assertIn("'message': 'Submitted Jobs.'", body)
        job_id = re.search(r"'job_id': '([^']+)'", body)[1]
        return wait_until(lambda: self.ended(job_id), 30, "the job's end")

    def ended(self, job_id: str) -> dict | None:
        """Look at the job; None while it goes on."""
        job = httpx.get(f"{self.url}/api/jobs/{job_id}", trust_env=False).json()["data"]["job"]
        return job if job["state"] not in ("SUBMITTED", "PENDING", "RUNNING") else None

    def test_with_its_folders_it_completes(self) -> None:
        drive = self.folder / "shared_drive"
        session = drive / "vr_foraging" / "690165" / "20240219T112517"
        for name in ("Behavior", "Behavior videos", "Configs"):
            (session / name).mkdir(parents=True)
        (session / "Behavior" / "trials.csv").write_text("trial\n1\n", encoding="utf-8")
        job = self.submit(str(drive))
        self.assertEqual(
            ("COMPLETED", "behavior_690165_2024-02-19_11-25-17"), (job["state"], job["name"])
        )
        asset = Path(job["location"])
        self.assertEqual("select_a_bucket", asset.parent.name)
        self.assertEqual(
            "trial\n1\n", (asset / "behavior" / "trials.csv").read_text(encoding="utf-8")
        )

    def test_without_them_it_fails_and_names_the_folder(self) -> None:
        job = self.submit("/shared_drive_that_is_not_there")
        self.assertEqual("FAILED", job["state"])
        self.assertIn("/shared_drive_that_is_not_there/vr_foraging/690165", job["reason"])


class LocalDevelopment(unittest.TestCase):
    """The commands of the README, as they stand there."""

    def test_the_service_comes_up_in_the_mock_environment(self) -> None:
        blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        (script,) = (block for block in blocks if "HPC_HOST" in block)
        port = free_port()
        script = script.replace("--host 0.0.0.0 --port 5000", f"--host 127.0.0.1 --port {port}")
        script = script.replace("HPC_PORT=3000", f"HPC_PORT={self.mock_cluster()}")
        script = script.replace("\nuvicorn ", f"\nexec {sys.executable} -m uvicorn ")
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "HOME": home}
            with open(Path(home) / "log.txt", "wb") as log:
                service = subprocess.Popen(
                    ["bash", "-c", script], env=environment, stdout=log, stderr=log
                )
            try:
                page = wait_until(lambda: answer(f"http://127.0.0.1:{port}/jobs"), 60, "/jobs")
                self.assertEqual(200, page.status_code)
                self.submit_and_follow(f"http://127.0.0.1:{port}")
            finally:
                service.terminate()
                service.wait(30)

    def mock_cluster(self) -> int:
        """Serve the mock as its container does, only faster; give its port."""
        server = make_server("127.0.0.1", 0, Cluster(Pace(pending=0.3, run=0.5)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_address[1]

    def submit_and_follow(self, url: str) -> None:
        """Submit a job, see it end and see it on the page."""
        job = {"upload_job_settings": "{}", "hpc_settings": '{"name": "mine"}'}
        body = {"jobs": [job | {"script": "#!/bin/bash\n"}]}
        accepted = httpx.post(f"{url}/api/submit_hpc_jobs", json=body, trust_env=False)
        self.assertEqual(200, accepted.status_code, accepted.text)
        job_id = accepted.json()["data"]["responses"][0]["job_id"]

        def state() -> str:
            found = httpx.get(f"{url}/api/jobs/{job_id}", trust_env=False).json()
            return found["data"]["job"]["state"]

        wait_until(lambda: state() == "COMPLETED", 30, "the mock job to end")
        self.assertIn("mine", httpx.get(f"{url}/jobs", trust_env=False).text)


def answer(url: str) -> httpx.Response | None:
    """Ask for a page; None while nobody listens."""
    try:
        return httpx.get(url, trust_env=False)
    except httpx.ConnectError:
        return None
