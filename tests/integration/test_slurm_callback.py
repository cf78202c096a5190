"""Jobs on a real Slurm cluster whose folder of logs the service cannot see."""

import json
import os
import sys
import time
import uuid
from pathlib import Path
from unittest.mock import patch

import httpx

from tests.integration import test_slurm_service as slurm_service
from tests.support import free_port, seaweedfs, slurm, wait_until
from tests.support.requests import upload_settings
from tests.support.service import Service


class ApartCluster(slurm.SlurmCluster):
    """A cluster whose node has a folder for logs of its own, under a path that all can name."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.apart = self.folder / "apart"
        self.apart.mkdir()

    def _recipes(self):
        recipes = super()._recipes()
        command, user, answers = recipes["slurmd"]
        script = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "-"]
        recipes["slurmd"] = ([*private, str(self.apart), *command], user, answers)
        return recipes


class CallbackTest(slurm_service.ClusterTest):
    """Service, slurmrestd, node, and the way back by HTTP alone."""

    shards = 1

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up, the node's with a view of its own."""
        return slurm.start(ApartCluster, **cls.options)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.s3 = seaweedfs.start()
        cls.addClassCleanup(cls.s3.stop)

    def setUp(self) -> None:
        super().setUp()
        self.bucket = self.s3.create_bucket(f"recordings-{uuid.uuid4().hex[:12]}")
        self.source = self.folder / "Behavior"
        self.source.mkdir()
        for number in range(30):
            (self.source / f"{number}.bin").write_bytes(os.urandom(50_000))
        port = free_port()
        variables = {
            **self.variables(
                HPC_LOGGING_DIRECTORY=str(self.cluster.apart), HPC_PYTHON=sys.executable
            ),
            **self.s3.cluster_env,
            "HPC_SHARDS": str(self.shards),
            "HPC_SHARDS_EXCLUSIVE": "false",  # all of them on the only node
            "INTERNAL_URL": f"http://127.0.0.1:{port}",
        }
        self.enterContext(patch.dict(os.environ, variables))
        self.service = self.enterContext(Service(port, default_s3_bucket=self.bucket))
        self.api = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def end_of(self, **changes) -> tuple[dict, list[dict]]:
        """Submit a job, wait for its end, and give it with its timeline."""
        return self.await_end(self.submit(**changes))

    def end_of_request(self, request: dict) -> tuple[dict, list[dict]]:
        """Submit a request, wait for its job's end, and give it with its timeline."""
        return self.await_end(self.send(request))

    def submit(self, **changes) -> str:
        """Submit a job and give its id."""
        return self.send(
            {
                "upload_job_settings": upload_settings(self.source, **changes),
                "hpc_settings": json.dumps({}),
                "script": "",
            }
        )

    def send(self, request: dict) -> str:
        """Submit a request and give its job's id."""
        answer = self.api.post("/api/submit_hpc_jobs", json={"jobs": [request]})
        [response] = answer.json()["data"]["responses"]
        return response["job_id"]

    def await_end(self, job_id: str) -> tuple[dict, list[dict]]:
        """Wait for a job's end, and give it with its timeline."""

        def ended() -> dict | None:
            data = self.api.get(f"/api/jobs/{job_id}").json()["data"]
            return data if data["job"]["state"] in slurm_service.ENDED else None

        data = wait_until(ended, 90, "its end")
        return data["job"], data["events"]

    def test_a_job_is_followed_to_its_end(self) -> None:
        job, events = self.end_of()
        seen = [one for one in self.cluster.apart.iterdir() if one.name.startswith(job["id"])]
        self.assertEqual([], seen, "the folder is to be hidden")
        self.assertEqual(("COMPLETED", "", 0), (job["state"], job["reason"], job["exit_code"]))
        self.assertEqual(("done", "end"), (events[-1]["step"], events[-1]["kind"]))
        self.assertGreaterEqual(job["files_total"], 30)
        self.assertEqual(job["files_done"], job["files_total"])
        steps = {event["step"] for event in events}
        self.assertLessEqual({"preflight", "metadata", "transfer", "verify", "done"}, steps)
        for stream, words in (("stderr", ("step=verify", "step=done")), ("stdout", ())):
            log = self.api.get(f"/api/jobs/{job['id']}/log?stream={stream}").json()["data"]
            self.assertEqual("", log["problem"])
            for word in words:
                self.assertIn(word, log["text"].lower())
        self.assertEqual([], self.api.get("/readyz").json()["data"]["warnings"])
        self.assert_tokens_are_nowhere(job["id"])

    def test_why_a_job_failed_is_told(self) -> None:
        sources = [{"modality": {"abbreviation": "behavior"}, "source": "/not/on/the/node"}]
        job, events = self.end_of(modalities=sources)
        self.assertEqual(("FAILED", 10), (job["state"], job["exit_code"]))
        self.assertIn("/not/on/the/node", job["reason"])
        log = self.api.get(f"/api/jobs/{job['id']}/log").json()["data"]
        self.assertIn("/not/on/the/node", log["text"], "the last line is brought too")
        self.assertEqual("fail", events[-1]["kind"])

    def test_a_script_which_tells_nothing_counts_by_slurms_word_and_says_so(self) -> None:
        for script, state, reason in (
            ("true", "COMPLETED", f"cannot read the job's files in {self.cluster.apart}"),
            ("exit 7", "FAILED", "exit code 7"),
        ):
            with self.subTest(script):
                settings = json.dumps({"name": "script"})
                request = {"upload_job_settings": "{}", "hpc_settings": settings}
                job, _ = self.end_of_request(request | {"script": f"#!/bin/bash\n{script}\n"})
                self.assertEqual(state, job["state"])
                self.assertIn(reason, job["reason"])

    def parts(self) -> dict[tuple[str, int], str]:
        """Return the parts of uploads that are not completed, with their ETags."""
        return {place: part["ETag"] for place, part in self.s3.parts(self.bucket).items()}

    def begin_large(self) -> str:
        """Submit a job that sends a large file slowly, and wait until parts have arrived."""
        (self.source / "large.bin").write_bytes(os.urandom(100 * 1024**2))
        self.service.manager.executor._environment |= {
            "UPLOAD_BANDWIDTH": "6MB/s",
            "UPLOAD_CONNECTIONS": "2",
        }
        job_id = self.submit()
        wait_until(lambda: len(self.parts()) >= 2, 60, "parts to arrive")
        return job_id

    def test_a_user_who_cancels_leaves_no_parts_though_no_folder_is_shared(self) -> None:
        job_id = self.begin_large()
        self.assertEqual(200, self.api.post(f"/api/jobs/{job_id}/cancel").status_code)
        job, _ = self.await_end(job_id)
        self.assertEqual("CANCELLED", job["state"])
        wait_until(lambda: not self.s3.uploads(self.bucket), 20, "the uploads to be aborted")
        found = self.s3.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        self.assertEqual([], [one["Key"] for one in found if "large" in one["Key"]])

    def test_scancel_by_hand_keeps_the_parts_for_the_next_job(self) -> None:
        job_id = self.begin_large()
        number = self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]["executor_ref"]
        self.cluster.run("scancel", number.split(":")[0])
        job, _ = self.await_end(job_id)
        self.assertEqual("CANCELLED", job["state"])
        kept = self.parts()
        self.assertGreaterEqual(len(kept), 2)
        self.service.manager.executor._environment["UPLOAD_BANDWIDTH"] = "1GB/s"
        began = time.monotonic()
        again = self.api.post(f"/api/jobs/{job_id}/resubmit").json()["data"]["job"]["id"]
        seen = kept

        def completed() -> bool:
            nonlocal seen
            seen = seen | self.parts()
            return not self.s3.uploads(self.bucket)

        wait_until(completed, 60, "the end of the upload")
        self.assertLessEqual(kept.items(), seen.items())
        self.assertEqual({number for number, _ in kept}, {number for number, _ in seen})
        job, _ = self.await_end(again)
        self.assertEqual("COMPLETED", job["state"], job["reason"])
        self.assertLess(time.monotonic() - began, 45, "the lease of the ended job was waited for")

    def assert_tokens_are_nowhere(self, job_id: str) -> None:
        """Search every file of the service, the answers, and the cluster's logs."""
        token = self.service.manager.callbacks.environment(job_id)["UPLOAD_CALLBACK_TOKEN"]
        files = [*self.service.data_dir.rglob("*"), *self.folder.rglob("*")]
        for path in [*files, *self.cluster.folder.glob("*.log")]:
            if Path(path).is_file():
                self.assertNotIn(token.encode(), path.read_bytes(), path)
        for path in (f"/jobs/{job_id}", f"/api/jobs/{job_id}", "/metrics"):
            self.assertNotIn(token, self.api.get(path).text)
        shown = self.cluster.run("scontrol", "-d", "show", "jobs")
        self.assertIn("JobName=", shown)
        self.assertNotIn(token, shown)


class CallbackInShardsTest(CallbackTest):
    """A session that several jobs send, which only ask whether they are cancelled."""

    options = {"cpus": 2}
    shards = 2
    test_a_job_is_followed_to_its_end = None
    test_why_a_job_failed_is_told = None
    test_scancel_by_hand_keeps_the_parts_for_the_next_job = None

    def test_the_log_of_each_shard_is_shown_while_it_runs(self) -> None:
        job_id = self.begin_large()
        path = f"/api/jobs/{job_id}/log"

        def log(shard: int) -> dict:
            return self.api.get(path, params={"shard": shard}).json()["data"]

        for shard in (1, 2):
            wait_until(lambda: "step=transfer" in log(shard)["text"], 60, f"shard {shard}'s log")
            self.assertEqual(("", 2), (log(shard)["problem"], log(shard)["shards"]))
        job = self.api.get(f"/api/jobs/{job_id}").json()["data"]["job"]
        self.assertEqual("RUNNING", job["state"])
        seen = [one for one in self.cluster.apart.iterdir() if one.name.startswith(job_id)]
        self.assertEqual([], seen, "the folder is to be hidden")
        self.assertEqual(200, self.api.post(f"/api/jobs/{job_id}/cancel").status_code)
        self.await_end(job_id)
        self.assertIn("step=transfer", log(1)["text"])
        self.assert_tokens_are_nowhere(job_id)
