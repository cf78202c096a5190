"""The plug-ins of the page *Extending*, installed as packages, in a job of a real service."""

import gzip
import json
import os
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.support import slow, wait_until
from tests.support.hook import Hook
from tests.support.plugins import install, page_packages
from tests.support.requests import upload_settings
from tests.support.schema_changes import sample
from tests.support.service_process import ServiceProcess, run_command

TOKEN, TOPIC = "tok-3f9a7c1e55", "topic-8d0b24aa"
TABLE = b"time,position\n" + b"0.1,17\n" * 50_000


@contextmanager
def animals() -> Iterator[tuple[str, list[str]]]:
    """Serve a database of animals: give its address, and the tokens that were brought."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Knows one animal."""

        def do_GET(self) -> None:
            """Answer with a document."""
            tokens.append(self.headers["Authorization"])
            known = self.path == "/subjects/690165"
            body = json.dumps(sample("subject")).encode() if known else b"{}"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", tokens
    finally:
        server.shutdown()
        server.server_close()


@slow
class PagePlugins(unittest.TestCase):
    """One plug-in of each kind, in one service."""

    @classmethod
    def setUpClass(cls) -> None:
        """Install the packages of the page."""
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.installed = cls.folder / "installed"
        install(page_packages(cls.folder / "packages"), cls.installed)

    def setUp(self) -> None:
        """Start what the plug-ins speak to."""
        self.work = Path(self.enterContext(tempfile.TemporaryDirectory(dir=self.folder)))
        self.animals, self.tokens = self.enterContext(animals())
        self.ntfy = self.enterContext(Hook())
        path = os.pathsep.join(filter(None, [str(self.installed), os.environ.get("PYTHONPATH")]))
        self.variables = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": path,
            "DATA_DIR": str(self.work / "data"),
            "DESTINATION": str(self.work / "destination"),
            "LAB_TIMEZONE": "UTC",
            "MONITOR_INTERVAL": "0.1",
            "ALLOW_CUSTOM_SCRIPTS": "true",
            "EXECUTOR": "processes",
            "PROCESSES_NICE": "7",
            "ANIMALS_URL": self.animals,
            "ANIMALS_TOKEN": TOKEN,
            "LAB_GZIP_LEVEL": "1",
            "NTFY_URL": self.ntfy.url,
            "NTFY_TOPIC": TOPIC,
            "NOTIFY_ON": "END",
        }

    def session(self) -> Path:
        """Make a session with a table and a video."""
        source = self.work / "session"
        (source / "day 1").mkdir(parents=True)
        (source / "day 1" / "wheel.csv").write_bytes(TABLE)
        (source / "video.avi").write_bytes(b"RIFF" * 5000)
        return source

    def submit(self, service: ServiceProcess, **job: str) -> str:
        """Submit one job, and return its id."""
        answer = httpx.post(f"{service.url}/api/submit_hpc_jobs", json={"jobs": [job]}, timeout=30)
        self.assertEqual(200, answer.status_code, answer.text)
        return answer.json()["data"]["responses"][0]["job_id"]

    def wait(self, service: ServiceProcess, job_id: str, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of some states."""

        def look() -> dict[str, Any] | None:
            job = httpx.get(f"{service.url}/api/jobs/{job_id}", timeout=30).json()["data"]["job"]
            ended = job["state"] not in ("SUBMITTED", "PENDING", "RUNNING")
            return job if job["state"] in states or ended else None

        job = wait_until(look, 60, f"the job to be {states}")
        self.assertIn(job["state"], states, f"{job}\n{self.said(service, job_id, 'stderr')}")
        return job

    def said(self, service: ServiceProcess, job_id: str, stream: str = "stdout") -> str:
        """Return what a job has written so far."""
        url = f"{service.url}/api/jobs/{job_id}/log"
        answer = httpx.get(url, params={"stream": stream}, timeout=30)
        text: str = answer.json()["data"]["text"]
        return text

    def test_a_job_runs_with_all_of_them(self) -> None:
        source = self.session()
        modality = {
            "modality": {"abbreviation": "behavior"},
            "source": str(source),
            "compress_raw_data": True,
            "extra_configs": {"gzip_level": 9},
        }
        with ServiceProcess(**self.variables) as service:
            job_id = self.submit(
                service,
                upload_job_settings=upload_settings(modalities=[modality]),
                hpc_settings="{}",
            )
            job = self.wait(service, job_id, "COMPLETED")
            wait_until(lambda: self.ntfy.bodies, 20, "the message")
            pages = httpx.get(f"{service.url}/jobs/{job_id}", timeout=30).text
            about = httpx.get(f"{service.url}/service", timeout=30).text
            log = service.log
        [asset] = (self.work / "destination").glob("*/behavior_690165_*")

        self.assertEqual("processes", job["executor"])
        self.assertIn("Processes of this machine", about)

        subject = json.loads((asset / "subject.json").read_bytes())
        self.assertEqual("690165", subject["subject_id"])
        self.assertIn(f"Bearer {TOKEN}", self.tokens)
        self.assertIn(f"{self.animals}/subjects/690165", pages)

        packed = (asset / "behavior" / "day 1" / "wheel.csv.gz").read_bytes()
        self.assertEqual(TABLE, gzip.decompress(packed))
        self.assertEqual(2, packed[8], "packed at level 9, as extra_configs say")
        self.assertTrue((asset / "behavior" / "video.avi").exists())
        self.assertFalse((asset / "behavior" / "day 1" / "wheel.csv").exists())
        processing = (asset / "processing.json").read_text(encoding="utf-8")
        self.assertIn("Tables were compressed with gzip", processing)
        self.assertNotIn("extra_configs have no effect", pages)
        verified = run_command("verify", str(asset), **self.variables)
        self.assertEqual(0, verified.returncode, verified.stderr)

        [message] = self.ntfy.bodies
        self.assertEqual(TOPIC, message["topic"])
        self.assertIn("COMPLETED: behavior_690165", message["title"])

        for text in (*log, pages, json.dumps(job)):
            self.assertNotIn(TOKEN, text)
            self.assertNotIn(TOPIC, text)

    def test_a_script_gets_no_secret_and_is_cancelled(self) -> None:
        script = "#!/bin/sh\nenv\nnice\necho ready\nsleep 300\n"
        with ServiceProcess(**self.variables) as service:
            settings = json.dumps({"name": "a script"})
            job_id = self.submit(
                service, script=script, hpc_settings=settings, upload_job_settings="{}"
            )
            self.wait(service, job_id, "RUNNING")
            wait_until(lambda: "ready" in self.said(service, job_id), 20, "the script")
            said = self.said(service, job_id)
            httpx.post(f"{service.url}/api/jobs/{job_id}/cancel", timeout=30)
            self.wait(service, job_id, "CANCELLED")
        self.assertIn(f"JOB_ID={job_id}\n", said)
        priority = min(19, os.nice(0) + 7)
        self.assertIn(f"\n{priority}\n", said, "the priority that PROCESSES_NICE names")
        for name in ("ANIMALS_", "NTFY_", "PROCESSES_", TOKEN, TOPIC):
            self.assertNotIn(name, said)

    def test_their_settings_are_listed_hidden_and_checked(self) -> None:
        done = run_command("config", **self.variables)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        rows = {row[0]: row[1:] for row in map(str.split, done.stdout.splitlines())}
        self.assertEqual(["environment", "7"], rows["PROCESSES_NICE"])
        self.assertEqual(["environment", self.animals], rows["ANIMALS_URL"])
        self.assertEqual(["environment", "1"], rows["LAB_GZIP_LEVEL"])
        for name in ("ANIMALS_TOKEN", "NTFY_TOPIC"):
            self.assertEqual(["environment", "(set,", "hidden)"], rows[name])
        self.assertNotIn(TOKEN, done.stdout)
        wrong = {"PROCESSES_NICE": "99", "LAB_GZIP_LEVEL": "x", "ANIMALS_TOKN": "1"}
        done = run_command("config", **(self.variables | wrong))
        self.assertEqual(1, done.returncode)
        for words in (
            "PROCESSES_NICE: .*99",
            "LAB_GZIP_LEVEL: .*x",
            "ANIMALS_TOKN: unknown setting; did you mean ANIMALS_TOKEN",
        ):
            self.assertRegex(done.stderr, words)

    def test_the_source_is_asked_by_the_command_and_can_be_ordered(self) -> None:
        done = run_command("metadata", "690165", "--json", **self.variables)
        rows = [row for row in json.loads(done.stdout) if row["kind"] == "subject"]
        self.assertEqual(["animals", "service", "labtracks", "folder"], [r["source"] for r in rows])
        self.assertEqual("found", rows[0]["outcome"])
        order = {"METADATA_SOURCES": '{"subject": ["folder", "animals"]}'}
        done = run_command("metadata", "690165", "--json", **self.variables, **order)
        rows = [row for row in json.loads(done.stdout) if row["kind"] == "subject"]
        self.assertEqual({"folder", "animals"}, {row["source"] for row in rows})
        wrong = {"METADATA_SOURCES": '{"rig": ["animals"], "subject": ["animal"]}'}
        done = run_command("config", **self.variables, **wrong)
        self.assertIn('rig: the source "animals" has no rig', done.stderr)
        self.assertRegex(done.stderr, 'subject: "animal" is not a source .*did you mean animals')
