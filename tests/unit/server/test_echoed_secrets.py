"""A proxy in place of the cluster repeats each request: no secret is stored, shown or logged."""

import io
import json
import logging
import re
import tempfile
import unittest
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import httpx

from aind_data_transfer_service.redaction import HIDDEN, protect_logs
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import slow, wait_until
from tests.support.echo import EchoServer
from tests.support.jobs import a_request
from tests.support.service import Service

TOKEN = "T0ken/with+signs%&='\"1"
SECRETS = {
    "aws_secret_access_key": "aws/secret+of=jobs",
    "aws_session_token": "session//of+jobs==",
}
CODE_OCEAN = 'cop_"quoted"<token>'
ALL = (TOKEN, CODE_OCEAN, *SECRETS.values())


def traces(text: str) -> list[str]:
    """List what is left of secrets in a text, by parts that every spelling leaves alone."""
    parts = {part for secret in ALL for part in re.findall(r"[A-Za-z0-9]{5,}", secret)}
    spelled = {form for secret in ALL for form in (secret, quote(secret), json.dumps(secret))}
    parts -= {"token", "quoted", "secret", "session"}
    return [one for one in (*parts, *spelled, "adts_") if one in text]


@slow
class EchoedSecrets(unittest.TestCase):
    """The service, with a cluster that answers with what it was asked."""

    def setUp(self) -> None:
        """Make a folder, and keep the log."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "token").write_text(TOKEN)
        self.source = self.folder / "source"
        self.source.mkdir()
        self.log = io.StringIO()
        handler = logging.StreamHandler(self.log)
        protect_logs([handler])
        logging.root.addHandler(handler)
        self.addCleanup(logging.root.removeHandler, handler)

    def hpc(self, port: int) -> HpcSettings:
        """Make the settings of a cluster."""
        folder: Any = PurePosixPath(self.folder)
        given: dict[str, Any] = dict(SECRETS)
        return HpcSettings(
            host="127.0.0.1",
            port=port,
            api_endpoint="slurm/v0.0.38",
            username="svc",
            token_file=self.folder / "token",
            current_working_directory=folder,
            logging_directory=folder,
            aws_access_key_id="AKIA",
            **given,
        )

    def ask_everything(self, service: Service) -> str:
        """Submit a job, look at every page, and give all that was shown."""
        settings = a_request(str(self.source))
        job = {"upload_job_settings": settings, "hpc_settings": "{}", "script": ""}
        with httpx.Client(base_url=service.url) as client:
            answers = [client.post("/api/submit_hpc_jobs", json={"jobs": [job]})]
            [response] = answers[0].json()["data"]["responses"]
            job_id = response["job_id"]
            for kind in ("application/json", "text/html"):
                for path in (
                    *("/healthz", "/readyz", "/metrics", "/jobs", "/service", "/api/jobs"),
                    *(f"/api/jobs/{job_id}", f"/jobs/{job_id}", f"/api/jobs/{job_id}/log"),
                ):
                    answers.append(client.get(path, headers={"Accept": kind}))
            answers.append(client.post(f"/api/jobs/{job_id}/cancel"))
        shown = [f"{one.request.url.path} {one.status_code} {one.text}" for one in answers]
        return "\n".join(shown)

    def test_no_secret_is_stored_shown_or_logged(self) -> None:
        cases = (
            *((502, "text", False), (404, "text", False), (403, "html", False)),
            *((500, "json", False), (200, "json", True), (400, "text", True), (500, "json", True)),
        )
        for status, kind, changes_only in cases:
            with (
                self.subTest(status=status, kind=kind, changes_only=changes_only),
                EchoServer(status, kind, changes_only) as proxy,
                Service(
                    hpc=self.hpc(proxy.port),
                    callback_url="http://service.example.org",
                    destination=str(self.folder / "store"),
                    post_upload=PostUploadSettings(
                        codeocean_domain="https://co.example.org", codeocean_token=CODE_OCEAN
                    ),
                ) as service,
            ):
                text = self.ask_everything(service)
                wait_until(self.log.getvalue, 5, "the log")
                asked = "".join(proxy.requests)
                files = [path for path in service.data_dir.rglob("*") if path.is_file()]
                stored = b"".join(
                    path.read_bytes() for path in files if path.name != "callback.secret"
                )
                heard = [one for one in (TOKEN, *SECRETS.values()) if one in asked]
                self.assertIn(TOKEN, heard)
                self.assertEqual(changes_only, len(heard) > 1, "the job's keys were sent")
                self.assertTrue(HIDDEN in text, "the proxy repeated them")
                for where, found in (
                    ("pages", text),
                    ("log", self.log.getvalue()),
                    ("database", stored.decode("latin-1")),
                ):
                    self.assertEqual([], traces(found), where)


if __name__ == "__main__":
    unittest.main()
