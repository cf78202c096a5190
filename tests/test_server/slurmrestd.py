"""A mock of slurmrestd that keeps state, for trying out the service without a cluster.

It speaks the v0.0.36 dialect, at the paths of a real server (`/slurm/v0.0.36/jobs`) and without
the prefix (`/jobs`). What is submitted is listed, waits, runs and ends; nothing is executed.
Standard library only.

The pace comes from the environment, in seconds: PENDING_SECONDS (2), RUN_SECONDS (5),
MIN_JOB_AGE (300).
"""

import argparse
import json
import os
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

try:
    from tests.test_server.cluster import Cluster, MockJob, Pace
    from tests.test_server.submission import Crash, Refusal, admit, read_submission
except ImportError:  # in its container the files lie side by side
    from cluster import Cluster, MockJob, Pace
    from submission import Crash, Refusal, admit, read_submission

PREFIX = "/slurm/v0.0.36"
_META = {
    "plugin": {"type": "openapi/v0.0.36", "name": "REST v0.0.36"},
    "Slurm": {"version": {"major": 22, "micro": 9, "minor": 5}, "release": "22.05.9"},
}
_MAX_BODY_BYTES = 4 * 1024**2

Answer = tuple[int, dict[str, Any]]


class SlurmError(Exception):
    """What Slurm answers in the `errors` list."""

    def __init__(self, number: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.number = number
        self.status = status


class Api:
    """The answers, apart from HTTP."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._routes: list[tuple[str, str, Callable[..., dict[str, Any]]]] = [
            ("GET", "/jobs", self.jobs),
            ("GET", "/job/{job_id}", self.job),
            ("DELETE", "/job/{job_id}", self.cancel),
            ("POST", "/job/submit", self.submit),
            ("GET", "/nodes", self.nodes),
            ("GET", "/partitions", self.partitions),
            ("GET", "/ping", self.ping),
        ]

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer a request of somebody who has a token."""
        if path in ("/openapi", "/openapi/v3", "/openapi.json"):
            return 200, self.openapi()
        known = [
            (verb, run, match)
            for verb, route, run in self._routes
            if (match := re.fullmatch(_pattern(route), path.removeprefix(PREFIX)))
        ]
        for verb, run, match in known:
            if verb == method:
                arguments = list(match.groups()) + ([body] if method == "POST" else [])
                return self._guarded(run, arguments)
        if known:
            return 405, _envelope(errors=[_error(9001, f"{method} is not allowed here")])
        return 404, _envelope(errors=[_error(9000, "Unable find requested URL")])

    @staticmethod
    def _guarded(run: Callable[..., dict[str, Any]], arguments: list[Any]) -> Answer:
        try:
            return 200, _envelope(**run(*arguments))
        except SlurmError as error:
            return error.status, _envelope(errors=[_error(error.number, str(error))])
        except Refusal as refusal:
            errors = [_complaint(number, text) for number, text in refusal.errors]
            return refusal.status, _envelope(errors=errors)

    def jobs(self) -> dict[str, Any]:
        """List every job that Slurm still remembers."""
        return {"jobs": [self._properties(job) for job in self.cluster.jobs()]}

    def job(self, job_id: str) -> dict[str, Any]:
        """Show one job, in a list."""
        return {"jobs": [self._properties(self._find(job_id))]}

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job."""
        if not self.cluster.cancel(self._find(job_id)):
            raise SlurmError(2021, "Job/step already completing or completed")
        return {}

    def submit(self, body: bytes) -> dict[str, Any]:
        """Put a job into the queue."""
        try:
            request = json.loads(body)
        except ValueError as error:
            raise SlurmError(9005, "Unable to parse the request as JSON", 400) from error
        script, properties = read_submission(request)
        cluster = self.cluster
        names = frozenset(str(one["name"]) for one in cluster.partitions)
        complaints = admit(properties, names, cluster.cpus, cluster.memory_mb)
        if cluster.is_full:
            raise SlurmError(11, "Resource temporarily unavailable")
        job = cluster.submit(script, properties)
        errors = [_complaint(number, text) for number, text in complaints]
        answer = {"job_id": job.job_id, "step_id": "BATCH", "job_submit_user_msg": ""}
        return answer | ({"errors": errors} if errors else {})

    def nodes(self) -> dict[str, Any]:
        """List the one node."""
        running = any(job.state(self.cluster.clock()) == "RUNNING" for job in self.cluster.jobs())
        node = {
            "name": "mock1",
            "hostname": "mock1",
            "address": "mock1",
            "architecture": "x86_64",
            "state": "allocated" if running else "idle",
            "state_flags": [],
            "cpus": self.cluster.cpus,
            "real_memory": self.cluster.memory_mb,
            "slurmd_version": "22.05.9",
        }
        return {"nodes": [node]}

    def partitions(self) -> dict[str, Any]:
        """List the partitions."""
        return {"partitions": self.cluster.partitions}

    def ping(self) -> dict[str, Any]:
        """Say that the controller is there."""
        return {"pings": [{"hostname": "mock", "ping": "UP", "status": 0, "mode": "primary"}]}

    def openapi(self) -> dict[str, Any]:
        """List the paths, by which a client finds out what is spoken here."""
        paths: dict[str, dict[str, Any]] = {}
        for method, route, run in self._routes:
            name = f"slurmctld_{method.lower()}_{run.__name__}"
            operation = {"operationId": name, "summary": run.__doc__, "responses": {}}
            paths.setdefault(PREFIX + route, {})[method.lower()] = operation
        info = {"title": "Slurm Rest API", "version": "0.0.36"}
        return {"openapi": "3.0.2", "info": info, "paths": paths}

    def _find(self, job_id: str) -> MockJob:
        job = self.cluster.job(int(job_id)) if job_id.isdigit() else None
        if job is None:
            raise SlurmError(2017, "Invalid job id specified")
        return job

    def _properties(self, job: MockJob) -> dict[str, Any]:
        now = self.cluster.clock()
        state = job.state(now)
        asked = job.properties
        started = state != "PENDING" and job.starts <= job.ends
        return {
            "account": "",
            "batch_flag": True,
            "batch_host": "mock1" if started else "",
            "cluster": "mock",
            "comment": asked.get("comment", ""),
            "current_working_directory": asked.get("current_working_directory", ""),
            "end_time": 0 if state == "PENDING" else int(job.ends),
            "exit_code": job.exit_code << 8 if state == "FAILED" else 0,
            "group_id": 0,
            "job_id": job.job_id,
            "job_state": state,
            "name": asked.get("name", "openapi"),
            "nodes": "mock1" if started else "",
            "partition": asked.get("partition", "part"),
            "qos": "",  # a cluster without accounting has none
            "standard_error": asked.get("standard_error", ""),
            "standard_input": asked.get("standard_in", "/dev/null"),
            "standard_output": asked.get("standard_out", ""),
            "start_time": int(job.starts) if started else 0,
            "state_reason": "Priority" if state == "PENDING" else "None",
            "submit_time": int(job.submitted),
            "time_limit": asked.get("time_limit") or 0,
            "user_id": 0,
            "user_name": "",  # v0.0.36 leaves it empty
        }


def _pattern(route: str) -> str:
    """Turn a route into a pattern; a job's id never takes `submit` for its own."""
    return re.sub(r"\{\w+\}", "(?!submit$)([^/]+)", route) + "/?"


def _error(number: int, text: str) -> dict[str, Any]:
    return {"error": text, "errno": number}


def _complaint(number: int, text: str) -> dict[str, Any]:
    return {"error_code": number, "error": text}


def _envelope(errors: list[dict[str, Any]] | None = None, **content: Any) -> dict[str, Any]:
    return {"meta": _META, "errors": errors or [], **content}


class Server(ThreadingHTTPServer):
    """A server that many clients may call at the same moment."""

    request_queue_size = 128


def make_server(host: str, port: int, cluster: Cluster) -> ThreadingHTTPServer:
    """Make the server, listening; `serve_forever` starts it."""
    api = Api(cluster)

    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # head and body leave together

        def do_GET(self) -> None:
            """Answer a question."""
            self._answer()

        do_POST = do_DELETE = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet about what went well."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > _MAX_BODY_BYTES:
                self.close_connection = True
                return self._send(413, b"Request Entity Too Large", "text/plain")
            body = self.rfile.read(length)
            if not self.headers.get("X-SLURM-USER-TOKEN"):
                return self._send(401, b"Authentication failure", "text/plain")
            try:
                status, document = api.answer(self.command, urlsplit(self.path).path, body)
            except Crash:
                self.close_connection = True
                return None
            self._send(status, json.dumps(document).encode(), "application/json")

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = Server((host, port), Handler)
    server.daemon_threads = True
    return server


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A mock of slurmrestd that keeps state.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    options = parser.parse_args()
    pace = Pace(
        pending=float(os.environ.get("PENDING_SECONDS", 2)),
        run=float(os.environ.get("RUN_SECONDS", 5)),
        min_job_age=float(os.environ.get("MIN_JOB_AGE", 300)),
    )
    server = make_server(options.host, options.port, Cluster(pace))
    print(f"mock slurmrestd at http://{options.host}:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
