"""Sources that change while their job waits, on this machine and on a real Slurm cluster."""

import json
import os
import shlex
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import httpx

from tests.integration.test_slurm_service import ENDED, ClusterTest
from tests.support import wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service

SWAPPING_PYTHON = """#!/bin/bash
# Swaps the source for a link, once, and runs the job.
if mkdir "$0.done" 2>/dev/null; then mv -T SOURCE SOURCE.before && ln -s OUTSIDE SOURCE; fi
exec PYTHON "$@"
"""


class Boundaries:
    """What jobs are asked, wherever they run."""

    def make_folders(self, folder: Path) -> None:
        """Make a source in a root, and a secret outside it."""
        self.root, self.outside = folder / "root", folder / "outside"
        self.source, self.store = self.root / "Behavior", folder / "store"
        for one in (self.source, self.outside, self.store):
            one.mkdir(parents=True)
            (one / "data.bin").write_text(one.name)

    def start(self, **settings) -> None:
        """Start a service that allows the root and one bucket."""
        usual = {
            "source_roots": [self.root],
            "allowed_buckets": "lab-*",
            "default_s3_bucket": "lab-data",
            "destination": str(self.store),
            "allow_custom_scripts": True,
        }
        self.service = self.enterContext(Service(**(usual | settings)))
        client = httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        self.api = self.enterContext(client)

    def submit(self, **job: str) -> str:
        """Submit a job and return its id."""
        job.setdefault("upload_job_settings", upload_settings(self.source))
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [job]})
        self.assertEqual(200, answer.status_code, answer.text)
        return answer.json()["data"]["responses"][0]["job_id"]

    def end_of(self, job_id: str) -> dict:
        """Wait for a job's end."""

        def ended() -> dict | None:
            job = self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]
            return job if job["state"] in ENDED else None

        return wait_until(ended, 90, "its end")

    def assert_refused(self, job: dict) -> None:
        """Make sure that a job failed because its source leads out, and sent nothing."""
        self.assertEqual(("FAILED", 10), (job["state"], job["exit_code"]), job)
        for words in (
            "Behavior leads to",
            "not under a folder that may be uploaded",
            str(self.root),
        ):
            self.assertIn(words, job["reason"])
        files = [path for path in self.store.rglob("*.bin") if path.read_text() == "outside"]
        self.assertEqual([], files)

    def check_how_sources_are_read(self, **settings) -> None:
        """Make sure that jobs read sources as the service's settings say."""
        (self.root / "raw").mkdir()
        (self.root / "raw" / "x.bin").write_text("raw")
        (self.source / "raw").symlink_to(self.root / "raw")
        (self.source / "gone").symlink_to("nowhere")
        (self.source / "a.tmp").write_text("temporary")
        self.start(
            path_mappings={"Z:": str(self.root)},
            exclude=["*.tmp"],
            broken_links="warn",
            **settings,
        )
        job = self.end_of(self.submit(upload_job_settings=upload_settings(r"Z:\Behavior")))
        self.assertEqual(("COMPLETED", 0), (job["state"], job["exit_code"]), job)
        warnings = " ".join(job["warnings"])
        self.assertIn(f"was read as {self.source}", warnings)
        self.assertIn("gone is a link that leads nowhere (nowhere); it is left out", warnings)
        [manifest] = self.store.rglob("manifest.jsonl")
        header, *entries = map(json.loads, manifest.read_text().splitlines())
        self.assertEqual(["behavior/a.tmp"], header["excluded"])
        self.assertEqual(1, header["broken_links_total"])
        target = os.path.realpath(self.root / "raw")
        self.assertEqual([{"path": "behavior/raw", "target": target}], header["links"])
        targets = {one["path"]: one.get("target") for one in entries}
        self.assertEqual(f"{target}/x.bin", targets["behavior/raw/x.bin"])
        self.assertEqual(
            {"behavior/data.bin", "behavior/raw/x.bin"},
            {path for path in targets if path.startswith("behavior/")},
        )


class OnThisMachine(Boundaries, unittest.TestCase):
    """The local executor."""

    def test_a_source_that_is_swapped_for_a_link_while_the_job_waits_is_refused(self):
        self.make_folders(Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.start(local_executor_slots=1)
        gate = self.root / "gate"
        os.mkfifo(gate)
        script = f"#!/bin/bash\nread -r line < {shlex.quote(str(gate))}\n"
        named = json.dumps({"name": "holds the slot"})
        self.submit(upload_job_settings="{}", hpc_settings=named, script=script)
        waiting = self.submit()
        self.source.rename(self.root / "before")
        self.source.symlink_to(self.outside)
        gate.write_text("go\n")
        self.assert_refused(self.end_of(waiting))
        self.source.unlink()
        (self.root / "before").rename(self.source)
        job = self.end_of(self.submit())
        self.assertEqual(("COMPLETED", 0), (job["state"], job["exit_code"]), job)

    def test_sources_are_read_as_the_settings_say(self):
        self.make_folders(Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.check_how_sources_are_read()


class OnACluster(Boundaries, ClusterTest):
    """Slurm: the roots travel in the environment."""

    def setUp(self):
        """Prepare a service that uses the cluster, whose jobs swap their source."""
        super().setUp()
        self.make_folders(self.folder)
        for folder in (self.root, self.store, self.folder):
            folder.chmod(0o777)
        python = self.folder / "python"
        text = SWAPPING_PYTHON.replace("PYTHON", shlex.quote(self.cluster.python))
        for name, path in (("SOURCE", self.source), ("OUTSIDE", self.outside)):
            text = text.replace(name, shlex.quote(str(path)))
        python.write_text(text)
        python.chmod(0o755)
        self.hpc_settings = {"python": str(python)}

    def test_the_job_refuses_a_source_that_leads_out_on_its_node(self):
        with patch.dict(os.environ, {"SLURM_CONF": str(self.cluster.conf)}):
            self.start(hpc=self.hpc(**self.hpc_settings))
            self.assert_refused(self.end_of(self.submit()))

    def test_so_do_shards_and_the_last_job(self):
        with patch.dict(os.environ, {"SLURM_CONF": str(self.cluster.conf)}):
            self.start(hpc=self.hpc(**self.hpc_settings, shards=2))
            self.assert_refused(self.end_of(self.submit()))

    def test_shards_read_sources_as_the_settings_say(self):
        with patch.dict(os.environ, {"SLURM_CONF": str(self.cluster.conf)}):
            self.check_how_sources_are_read(hpc=self.hpc(shards=2))


if __name__ == "__main__":
    unittest.main()
