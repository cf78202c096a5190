"""A script that runs as the service's user finds no secret of the service in /proc."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import httpx

from tests.support import free_port, missing, slow, wait_until

SECRETS = {
    "smtp_password": "smtp-password-1",
    "HPC_PASSWORD": "hpc-password-1",
    "Notify_Webhook_Url": "https://hooks.example.org/services/T0/B0/webhook-1",
    "CODEOCEAN_TOKEN": "code-ocean-token-1",
    "PGPASSWORD": "pg-password-1",
    "MY_COPY": "see smtp-password-1",
    "AWS_COPY": "hpc-password-1",
    "HPC_TOKEN": "pin1",
    "S3_accounts": '{"open": {"buckets": ["open-*"], "aws_access_key_id": "open-id-1", '
    '"aws_secret_access_key": "open-secret-1"}}',
    "AWS_COPY_OF_AN_ACCOUNT": "open-secret-1",
}
OTHERS = {
    "SMTP_HOST": "smtp.example.org",
    "SMTP_USER": "svc",
    "SMTP_FROM": "svc@example.org",
    "SMTP_SECURITY": "tls",
    "CODEOCEAN_DOMAIN": "https://co.example.org",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-1",
    "ALLOW_CUSTOM_SCRIPTS": "true",
}
SPY = """#!/bin/sh
env
for process in /proc/%d /proc/self; do
    tr '\\0' '\\n' <$process/environ
    ls -l $process/fd/
    cat $process/maps >/dev/null && echo "$process: maps are open"
    (: <$process/mem) && echo "$process: memory is open"
done
exit 0
"""


@slow
@unittest.skipUnless(sys.platform.startswith("linux"), "the protection is Linux's")
class ServiceAndScript(unittest.TestCase):
    """A service and a job of its own, both as an ordinary user."""

    def setUp(self) -> None:
        """Make a folder that the ordinary user owns."""
        folder = tempfile.TemporaryDirectory(prefix="protection-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.prefix: list[str] = []
        if os.geteuid() == 0:
            if not shutil.which("setpriv"):
                raise missing("setpriv")
            os.chown(self.folder, 65534, 65534)
            self.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            # Python may be installed in a folder of root's.
            self.prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]

    def start(self) -> subprocess.Popen[bytes]:
        """Start the service, and wait for it."""
        self.port = free_port()
        basics = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        database = {"database_url": f"sqlite:///{self.folder}/secret-place.sqlite3"}
        data = {"DATA_DIR": str(self.folder / "data"), "HOME": str(self.folder)}
        command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
        service = subprocess.Popen(
            [*self.prefix, *command, "--port", str(self.port)],
            env=basics | SECRETS | OTHERS | database | data,
            stdout=(self.folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(service.wait)
        self.addCleanup(service.terminate)
        wait_until(lambda: service.poll() is not None or self.is_up(), 30, "the service")
        self.assertIsNone(service.poll(), (self.folder / "log").read_text())
        return service

    def is_up(self) -> bool:
        """Tell whether the service answers."""
        try:
            return self.get("/healthz").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str) -> httpx.Response:
        """Ask the service."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False)

    def run_script(self, script: str) -> str:
        """Run a script as a job, and give all that it said."""
        job: dict[str, Any] = {"upload_job_settings": "{}", "hpc_settings": '{"name": "spy"}'}
        url = f"http://127.0.0.1:{self.port}/api/submit_hpc_jobs"
        answer = httpx.post(url, json={"jobs": [job | {"script": script}]}, trust_env=False)
        self.assertEqual(200, answer.status_code, answer.text)
        [response] = answer.json()["data"]["responses"]
        path = f"/api/jobs/{response['job_id']}"

        def look() -> dict[str, Any]:
            return self.get(path).json()["data"]["job"]

        wait_until(lambda: look()["ended_at"], 30, "the script")
        self.assertEqual(("COMPLETED", ""), (look()["state"], look()["reason"]))
        folder = self.folder / "data" / "jobs" / response["job_id"]
        return (folder / "stdout.log").read_text(errors="replace") + (
            folder / "stderr.log"
        ).read_text(errors="replace")

    def test_neither_environment_nor_memory_nor_files_of_the_service_can_be_read(self) -> None:
        service = self.start()
        said = self.run_script(SPY % service.pid)
        for name, value in SECRETS.items():
            self.assertNotIn(value, said, name)
            self.assertNotIn(f"\n{name}=", said)
        self.assertNotIn("sqlite:", said)
        self.assertNotIn(f"/proc/{service.pid}: ", said)
        self.assertIn("\nAWS_SECRET_ACCESS_KEY=aws-secret-1\n", said, "jobs need it")
        self.assertIn("\nJOB_ID=", said)
        self.assertIn("/proc/self: memory is open", said)
        if os.geteuid() == 0:  # who may look all the same
            environment = Path(f"/proc/{service.pid}/environ").read_bytes().decode()
            for name, value in SECRETS.items():
                self.assertNotIn(value, environment, name)
            self.assertNotIn("aws-secret-1", environment)
            self.assertIn("SMTP_HOST=smtp.example.org", environment)


if __name__ == "__main__":
    unittest.main()
