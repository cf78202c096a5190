"""The mock of slurmrestd, spoken to as a client of the real one would."""

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import httpx

from tests.support import free_port, wait_until
from tests.support.submissions import RECORDED, VARIANTS, answer_to
from tests.test_server import slurmrestd
from tests.test_server.cluster import Cluster, Pace

TOKEN = {"X-SLURM-USER-NAME": "some.user", "X-SLURM-USER-TOKEN": "some_token"}


class Clock:
    """A clock that goes only when told to."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def submission(script: str = "#!/bin/bash\ntrue\n", **properties) -> dict:
    """Build the body of a submission."""
    job = {
        "name": "ecephys_690165_2024-02-19_11-25-17",
        "environment": {"PATH": "/bin"},
        "current_working_directory": "/tmp",
        "standard_out": "/tmp/out",
        **properties,
    }
    return {"script": script, "job": {k: v for k, v in job.items() if v is not None}}


class MockSlurmrestd(unittest.TestCase):
    """What is submitted is listed, runs and ends."""

    def setUp(self) -> None:
        """Start a server of our own."""
        self.clock = Clock()
        cluster = Cluster(Pace(pending=2, run=90, min_job_age=300), self.clock)
        server = slurmrestd.make_server("127.0.0.1", 0, cluster)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{server.server_port}", headers=TOKEN, trust_env=False
        )
        self.addCleanup(self.http.close)

    def submit(self, **properties) -> int:
        """Submit a job that the server has to take."""
        response = self.http.post("/job/submit", json=submission(**properties))
        self.assertEqual((200, []), (response.status_code, response.json()["errors"]))
        return response.json()["job_id"]

    def job(self, job_id: int) -> dict:
        """Ask for one job."""
        return self.http.get(f"/job/{job_id}").json()["jobs"][0]

    def assert_refused(self, response: httpx.Response, number: int) -> None:
        """Check that the answer carries this error, and no job."""
        self.assertGreaterEqual(response.status_code, 400)
        self.assertEqual([number], [error["errno"] for error in response.json()["errors"]])
        self.assertEqual([], self.http.get("/jobs").json()["jobs"])

    def test_a_job_waits_runs_and_ends(self) -> None:
        job_id = self.submit()
        seen = []
        for seconds in (0, 2, 90):
            self.clock.now += seconds
            job = self.job(job_id)
            seen.append((job["job_state"], bool(job["start_time"]), job["exit_code"]))
        expected = [("PENDING", False, 0), ("RUNNING", True, 0), ("COMPLETED", True, 0)]
        self.assertEqual(expected, seen)

    def test_every_submitted_job_is_listed_beneath_both_prefixes(self) -> None:
        ids = [self.submit(name=f"job {number}") for number in range(3)]
        for path in ("/jobs", "/slurm/v0.0.36/jobs", "/jobs/"):
            jobs = self.http.get(path).json()["jobs"]
            self.assertEqual(ids, [job["job_id"] for job in jobs])
            self.assertEqual("job 1", jobs[1]["name"])

    def test_a_script_that_exits_with_a_code_fails_with_it(self) -> None:
        job_id = self.submit()
        bad = self.http.post("/job/submit", json=submission("#!/bin/bash\nexit 3\n")).json()
        self.clock.now += 92
        self.assertEqual("COMPLETED", self.job(job_id)["job_state"])
        failed = self.job(bad["job_id"])
        self.assertEqual(("FAILED", 3 << 8), (failed["job_state"], failed["exit_code"]))

    def test_a_job_over_its_limit_times_out(self) -> None:
        job_id = self.submit(time_limit=1)
        self.clock.now += 62
        self.assertEqual("TIMEOUT", self.job(job_id)["job_state"])

    def test_a_cancelled_job_stops_and_cannot_be_cancelled_again(self) -> None:
        waiting, running = self.submit(), self.submit()
        self.assertEqual([], self.http.delete(f"/job/{waiting}").json()["errors"])
        self.clock.now += 10
        self.assertEqual(200, self.http.delete(f"/slurm/v0.0.36/job/{running}").status_code)
        self.clock.now += 1
        states = [self.job(job_id)["job_state"] for job_id in (waiting, running)]
        self.assertEqual(["CANCELLED", "CANCELLED"], states)
        again = self.http.delete(f"/job/{running}")
        self.assertEqual(2021, again.json()["errors"][0]["errno"])

    def test_an_ended_job_is_forgotten_after_its_age(self) -> None:
        job_id = self.submit()
        self.clock.now += 92 + 299
        self.assertEqual("COMPLETED", self.job(job_id)["job_state"])
        self.clock.now += 2
        self.assert_refused(self.http.get(f"/job/{job_id}"), 2017)

    def test_without_a_token_nothing_is_answered(self) -> None:
        del self.http.headers["X-SLURM-USER-TOKEN"]
        for method, path in (("GET", "/jobs"), ("POST", "/job/submit"), ("GET", "/openapi/v3")):
            self.assertEqual(401, self.http.request(method, path, json={}).status_code)

    def test_each_submission_is_answered_as_by_the_real_server(self) -> None:
        recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["v0.0.36"]
        self.assertEqual([variant.name for variant in VARIANTS], list(recorded))
        for variant in VARIANTS:
            with self.subTest(variant.name):
                answer = answer_to(variant, 36, self.http, "/slurm/v0.0.36/job/submit")
                self.assertEqual(recorded[variant.name], answer)

    def test_what_is_no_json_is_refused(self) -> None:
        self.assert_refused(self.http.post("/job/submit", content=b"{"), 9005)

    def test_unknown_jobs_paths_and_methods_are_errors(self) -> None:
        for method, path, number in (
            ("GET", "/job/77", 2017),
            ("GET", "/job/abc", 2017),
            ("GET", "/elsewhere", 9000),
            ("PUT", "/jobs", 9001),
            ("GET", "/job/submit", 9001),
        ):
            with self.subTest(path):
                self.assert_refused(self.http.request(method, path), number)

    def test_a_request_of_many_megabytes_is_refused(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.http.base_url.port)
        self.addCleanup(connection.close)
        connection.putrequest("POST", "/job/submit")
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders()
        self.assertEqual(413, connection.getresponse().status)

    def test_the_node_is_busy_while_a_job_runs(self) -> None:
        states = [self.http.get("/nodes").json()["nodes"][0]["state"]]
        self.submit()
        self.clock.now += 5
        states.append(self.http.get("/slurm/v0.0.36/nodes").json()["nodes"][0]["state"])
        self.assertEqual(["idle", "allocated"], states)

    def test_ping_and_the_list_of_paths(self) -> None:
        self.assertEqual("UP", self.http.get("/ping").json()["pings"][0]["ping"])
        paths = self.http.get("/openapi/v3").json()["paths"]
        self.assertEqual({"get", "delete"}, set(paths["/slurm/v0.0.36/job/{job_id}"]))


class Container(unittest.TestCase):
    """The Dockerfile's own command, where there is no Docker."""

    def test_the_files_of_the_dockerfile_serve_by_themselves(self) -> None:
        here = Path(slurmrestd.__file__).parent
        dockerfile = (here / "Dockerfile").read_text(encoding="utf-8")
        copied = next(x for x in dockerfile.splitlines() if x.startswith("COPY")).split()[1:-1]
        self.assertIn("EXPOSE 3000", dockerfile)
        with tempfile.TemporaryDirectory() as folder:
            for name in copied:
                (Path(folder) / name).write_bytes((here / name).read_bytes())
            port = free_port()
            command = [sys.executable, "-I", "-c", "import runpy, sys; sys.path.insert(0, '.');"]
            command[-1] += "runpy.run_path('slurmrestd.py', run_name='__main__')"
            process = subprocess.Popen(
                [*command, "--port", str(port)], cwd=folder, stdout=subprocess.DEVNULL
            )
            try:
                wait_until(lambda: _answers(port), 10, "the mock to come up")
            finally:
                process.terminate()
                process.wait()


def _answers(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/ping"
        return httpx.get(url, headers=TOKEN, trust_env=False).is_success
    except httpx.TransportError:
        return False
