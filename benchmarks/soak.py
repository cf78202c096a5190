"""Two hundred honest jobs on a service to which everything bad happens at once.

``python -m benchmarks.soak`` from the project's folder runs it for ten minutes, with jobs on this
machine; ``--slurm`` (as root, with Debian's Slurm installed) with jobs on a real cluster, whose
answers are lost, cut off, or make no sense now and then. All the time there are

* scripts that replace, remove or fill the files of their own jobs,
* spreadsheets, bodies and request heads that were made to cost time or memory,
* connections that say nothing, and event streams that are left open,
* SIGKILL and SIGTERM for the service, in turn, which is started again.

Meanwhile pages are asked for. At the end each honest job has to have ended rightly, and each asset
is compared with its source, byte by byte. The exit code says whether all of that holds.
"""

import argparse
import asyncio
import collections
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support import free_port, hostile_files, slurm, wait_until
from tests.support.hostile_scripts import HOSTILE
from tests.support.requests import upload_settings
from tests.support.service_process import environment_of
from tests.support.slurm_faults import Fault, FaultyServer, Reply, Seen

PAGES = ("/", "/jobs", "/livez", "/api/jobs?state=FAILED")
END = 10
"""Seconds in which the service has to end after SIGTERM."""
SERVED = 200, 503
"""What a page may answer: 503 says that too much is asked at once, and when to come back."""
LAST = 600
"""Seconds that the last jobs have once the trouble is over."""


class Service:
    """The service as a process of its own, which is killed and started again."""

    def __init__(self, folder: Path, variables: dict[str, str]):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "service.log"
        self._variables = variables
        self._process: subprocess.Popen | None = None
        self.is_up = threading.Event()
        self.ends: list[float] = []
        """Seconds that it took to end after each SIGTERM."""
        self.starts: list[float] = []
        """Seconds that it took to answer after each start."""
        self.kills = 0
        self.peak = 0
        """Bytes of its resident set, at most."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        began = time.monotonic()
        command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                env=environment_of(**self._variables),
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 60, "the service to answer")
        self.starts.append(time.monotonic() - began)
        self.is_up.set()

    def end(self, number: signal.Signals) -> None:
        """End it by a signal."""
        assert self._process is not None
        self.is_up.clear()
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(60)
        if number == signal.SIGTERM:
            self.ends.append(time.monotonic() - began)
        else:
            self.kills += 1

    def look(self) -> None:
        """Note how much memory it has."""
        try:
            assert self._process is not None
            self.peak = max(self.peak, psutil.Process(self._process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "it did not start"
        try:
            return httpx.get(f"{self.url}/livez", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class Soak:
    """What happens to a service, and what is known of it.

    Parameters
    ----------
    service : Service
        The service.
    folder : Path
        Where sessions are made.
    seed : int
        Of what happens when.
    is_on_cluster : bool
        Whether jobs run on a cluster.
    """

    def __init__(self, service: Service, folder: Path, seed: int, is_on_cluster: bool):
        self.service, self.folder, self.lot = service, folder, random.Random(seed)
        self.is_on_cluster = is_on_cluster
        self.hostile = folder.with_name("hostile")
        """Holds the working directories of hostile scripts on a cluster."""
        self.hostile.mkdir()
        self.is_over = threading.Event()
        self.honest: dict[str, str] = {}
        """Ids of jobs by the subject, or by the name of the script."""
        self.times: dict[str, list[float]] = {page: [] for page in PAGES}
        self.statuses: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    # --- honest jobs ------------------------------------------------------------------------------

    def submit(self, count: int, seconds: float) -> None:
        """Submit honest jobs, spread over so many seconds: two uploads, then a script."""
        pause = seconds / count
        for number in range(count):
            name = str(700_000 + number)
            job = self._script(name) if number % 3 == 2 else self._upload(name)
            while name not in self.honest:
                self._ask_for(name, job)
            self.is_over.wait(self.lot.uniform(0, 2 * pause))

    def _ask_for(self, name: str, job: dict[str, str]) -> None:
        """Submit a job unless it is recorded: the answer may have been lost with the service."""
        self.service.is_up.wait()
        try:
            found = httpx.get(f"{self.service.url}/api/jobs?text={name}", timeout=60)
            if found.status_code == 200 and found.json()["data"]["jobs"]:
                self.honest[name] = found.json()["data"]["jobs"][0]["id"]
                return
            if found.status_code == 200:
                body = {"jobs": [job]}
                url = f"{self.service.url}/api/submit_hpc_jobs"
                answer = httpx.post(url, json=body, timeout=60)
                if answer.status_code == 200:
                    self.honest[name] = answer.json()["data"]["responses"][0]["job_id"]
                elif answer.status_code != 503:
                    self.failures.append(f"honest job {name} was refused: {answer.text[:300]}")
                    self.honest[name] = ""
        except httpx.TransportError:
            time.sleep(0.2)

    def _upload(self, subject: str) -> dict[str, str]:
        source = self.folder / subject
        (source / "trials").mkdir(parents=True)
        for number in range(10):
            (source / "trials" / f"{number}.bin").write_bytes(self.lot.randbytes(20_000))
        settings = upload_settings(source, subject_id=subject)
        return {"upload_job_settings": settings, "hpc_settings": "{}", "script": ""}

    def _script(self, name: str) -> dict[str, str]:
        script = f"#!/bin/sh\necho x >> {self.folder}/ran-{name}\n"
        settings = json.dumps({"name": f"honest {name}"})
        return {"upload_job_settings": "{}", "hpc_settings": settings, "script": script}

    # --- trouble ----------------------------------------------------------------------------------

    def trouble(self) -> list[Callable[[], None]]:
        """Return all kinds of trouble; each call makes some."""
        files = [
            ("jobs.xlsx", hostile_files.many_sheets()),
            ("jobs.xlsx", hostile_files.many_rows()),
            ("jobs.csv", hostile_files.jobs_csv(5_000_000)),
            ("jobs.csv", b'"' + b"a," * 4_000_000),
        ]
        bodies = [
            b'{"jobs":[' + b"0," * 4_000_000 + b"0]}",
            b'{"jobs":' + b"[" * 100_000,
            b'{"jobs":[{"hpc_settings":"' + b"[" * 5_000_000 + b'"}]}',
            json.dumps({"jobs": [{"hpc_settings": '{"comment":"\\ud800"}'}]}).encode(),
            b"\xff" * 1000,
        ]

        def script() -> None:
            name = self.lot.choice(list(HOSTILE))
            settings = {"name": f"hostile {name}"}
            if self.is_on_cluster:  # there jobs share a folder, unless they ask for another
                settings["current_working_directory"] = tempfile.mkdtemp(dir=self.hostile)
            job = {
                "upload_job_settings": "{}",
                "hpc_settings": json.dumps(settings),
                "script": f"#!/bin/sh\n{HOSTILE[name]}\n",
            }
            self._post("script", "/api/submit_hpc_jobs", json={"jobs": [job]})
            self.is_over.wait(3)

        def file() -> None:
            self._post("file", "/api/validate_csv", files={"file": self.lot.choice(files)})

        def body() -> None:
            headers = {"content-type": "application/json"}
            body = self.lot.choice(bodies)
            self._post("body", "/api/submit_hpc_jobs", content=body, headers=headers)
            self.is_over.wait(1)

        return [script, file, file, body, self._head, self._silence]

    def _post(self, kind: str, path: str, **options: Any) -> None:
        """Send what a person or a job sends; anything but a clear answer is a failure."""
        self.service.is_up.wait()
        try:
            answer = httpx.post(self.service.url + path, timeout=60, **options)
        except httpx.TransportError:
            return
        self.statuses[f"{kind} {answer.status_code}"] += 1
        if answer.status_code == 500:
            self.failures.append(f"{kind}: {answer.text[:300]}")

    def _head(self) -> None:
        """Send a head without end, or one byte after the other."""
        pieces = [b"GET / HTTP/1.1\r\n", *[b"X: " + b"y" * 4000 + b"\r\n"] * 5000]
        if self.lot.random() < 0.5:
            pieces = [bytes([byte]) for byte in b"GET / HTTP/1.1\r\nHost: x"]
        try:
            with self._connected() as link:
                for piece in pieces:
                    link.sendall(piece)
                    if len(piece) == 1:
                        self.is_over.wait(0.5)
        except OSError:
            self.statuses["head cut off"] += 1

    def _silence(self) -> None:
        """Open many connections that say nothing, and event streams that nobody reads."""
        with ExitStack() as stack:
            for number in range(300):
                try:
                    link = stack.enter_context(self._connected())
                    if number % 3 == 0:
                        link.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                except OSError:
                    break
            self.is_over.wait(5)

    def _connected(self) -> socket.socket:
        self.service.is_up.wait()
        return socket.create_connection(("127.0.0.1", self.service.port), timeout=10)

    def kill(self) -> None:
        """End the service by the next signal, at any moment, and start it again."""
        if not self.is_over.wait(self.lot.uniform(20, 60)):
            number = signal.SIGKILL if self.service.kills <= len(self.service.ends) else None
            self.service.end(number or signal.SIGTERM)
            self.service.start()

    def ask(self) -> None:
        """Ask for each page, as fast as someone who clicks."""
        for page in PAGES:
            self.service.is_up.wait()
            began = time.perf_counter()
            try:
                answer = httpx.get(self.service.url + page, timeout=60)
            except httpx.TransportError as error:
                if self.service.is_up.is_set() and not isinstance(error, httpx.ConnectError):
                    self.statuses[f"page {type(error).__name__}"] += 1
                continue
            self.times[page].append(1000 * (time.perf_counter() - began))
            self.statuses[f"page {answer.status_code}"] += 1
            if answer.status_code not in SERVED:
                self.failures.append(f"{page} answered {answer.status_code}: {answer.text[:300]}")
        self.service.look()
        self.is_over.wait(0.2)

    # --- the end ----------------------------------------------------------------------------------

    def run(self, honest: int, seconds: float) -> None:
        """Let everything happen for so many seconds, then wait for the jobs."""
        work = [self.kill, self.ask, *self.trouble()]
        threads = [threading.Thread(target=self._again, args=(one,), daemon=True) for one in work]
        threads.append(threading.Thread(target=self.submit, args=(honest, seconds * 0.7)))
        for thread in threads:
            thread.start()
        self.is_over.wait(seconds)
        threads[-1].join(LAST)
        self.is_over.set()
        for thread in threads:
            thread.join(90)
        wait_until(self._have_ended, LAST, "all honest jobs to end")

    def _again(self, work: Callable[[], None]) -> None:
        """Do something again and again."""
        while not self.is_over.is_set():
            try:
                work()
            except Exception as error:  # what goes wrong here is told at the end
                self.failures.append(f"{getattr(work, '__name__', work)}: {error!r}")
                self.is_over.wait(1)

    def _have_ended(self) -> bool:
        open_states = ("SUBMITTED", "PENDING", "RUNNING")
        return all(self._job(job_id)["state"] not in open_states for job_id in self._ids())

    def _ids(self) -> list[str]:
        return [job_id for job_id in self.honest.values() if job_id]

    def _job(self, job_id: str) -> dict[str, Any]:
        """Ask for a job, again where the service has too much to do."""

        def ask() -> httpx.Response | None:
            answer = httpx.get(f"{self.service.url}/api/jobs/{job_id}", timeout=60)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = wait_until(ask, 60, f"an answer on job {job_id}")
        if answer.status_code != httpx.codes.OK:
            raise AssertionError(f"job {job_id}: {answer.status_code} {answer.text[:300]}")
        return answer.json()["data"]["job"]

    def check(self, stored: Callable[[str], dict[str, bytes]]) -> None:
        """See that each honest job ended rightly, ran once, and left its data."""
        for name, job_id in self.honest.items():
            job = self._job(job_id) if job_id else {"state": "refused", "reason": ""}
            if job["state"] != "COMPLETED":
                self.failures.append(f"honest job {name}: {job['state']} {job['reason']}")
            elif (source := self.folder / name).is_dir():
                sent = {
                    f"behavior/{path.relative_to(source)}": path.read_bytes()
                    for path in source.rglob("*.bin")
                }
                found = stored(name)
                if {key: found.get(key) for key in sent} != sent:
                    self.failures.append(f"the asset of {name} is not its source")
            elif (self.folder / f"ran-{name}").read_text() != "x\n":
                self.failures.append(f"script {name} ran more than once")
        if late := [seconds for seconds in self.service.ends if seconds > END]:
            self.failures.append(f"the service took {max(late):.1f} s to end")

    def table(self) -> Iterator[str]:
        """Tell what happened."""
        service = self.service
        yield f"{len(self.honest)} honest jobs; {dict(sorted(self.statuses.items()))}"
        ends, starts = max(service.ends, default=0), max(service.starts)
        yield f"killed {service.kills} times, ended by SIGTERM {len(service.ends)} times"
        yield f"it ended {ends:.1f} s after SIGTERM at the latest"
        yield f"answered {starts:.1f} s after a start at the latest"
        yield f"peak of its resident set: {service.peak / 1e6:,.0f} MB"
        yield f"{'milliseconds':30} {'count':>8} {'median':>8} {'95 %':>8} {'most':>8}"
        for page, times in self.times.items():
            if times:
                late = sorted(times)[int(len(times) * 0.95)]
                figures = f"{statistics.median(times):8.1f} {late:8.1f} {max(times):8.1f}"
                yield f"{page:30} {len(times):8,} {figures}"


# --- where jobs run ---------------------------------------------------------------------------


@contextmanager
def cluster(folder: Path, seed: int) -> Iterator[dict[str, str]]:
    """Run a real cluster, whose answers are spoilt now and then; give its settings."""
    lot = random.Random(seed)
    spoilt = [Fault.CLOSE, Fault.RESET, Fault.CUT, Reply(500, b"<html>no</html>")]
    spoilt += [Reply(body={"jobs": [{"job_id": {}, "job_state": 7}]}), Reply(body=b"\xff{")]

    def choose(_: Seen) -> Fault | Reply | None:
        return lot.choice(spoilt) if lot.random() < 0.1 else None

    daemons = slurm.start(cpus=4)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = FaultyServer(upstream=daemons.endpoint, choose=choose)

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    try:
        do(server.__aenter__())
        logs = folder / "logs"
        logs.mkdir()
        yield {
            "HPC_HOST": "127.0.0.1",
            "HPC_PORT": str(urlsplit(server.url).port),
            "HPC_USERNAME": daemons.username,
            "HPC_TOKEN_COMMAND": daemons.token_command(),
            "SLURM_CONF": str(daemons.conf),
            "HPC_PARTITION": daemons.partition,
            "HPC_CURRENT_WORKING_DIRECTORY": str(folder),
            "HPC_LOGGING_DIRECTORY": str(logs),
            "HPC_PYTHON": daemons.python,
        }
    finally:
        do(server.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        daemons.stop()


def local_assets(folder: Path) -> Callable[[str], dict[str, bytes]]:
    """Give what reads the asset of a subject from a folder of assets."""

    def stored(subject: str) -> dict[str, bytes]:
        return {
            str(path.relative_to(asset)): path.read_bytes()
            for asset in folder.rglob(f"behavior_{subject}_*")
            if asset.is_dir() and ".transfer" not in asset.parts
            for path in asset.rglob("*")
            if path.is_file()
        }

    return stored


def main() -> int:
    """Run it, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slurm", action="store_true", help="run jobs on a real cluster")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--honest", type=int, default=200, help="honest jobs")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    where = "a Slurm cluster" if options.slurm else "this machine"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; jobs on {where}; seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        sessions, assets = folder / "sessions", folder / "assets"
        sessions.mkdir()
        variables = {
            "DATA_DIR": str(folder / "data"),
            "DESTINATION": str(assets),
            "DEFAULT_S3_BUCKET": "bucket",
            "LAB_TIMEZONE": "America/Los_Angeles",
            "ALLOW_CUSTOM_SCRIPTS": "true",
        }
        if options.slurm:
            variables |= stack.enter_context(cluster(folder, options.seed))
        service = Service(folder, variables)
        service.start()
        soak = Soak(service, sessions, options.seed, options.slurm)
        try:
            soak.run(options.honest, 60 * options.minutes)
            soak.check(local_assets(assets))
        except AssertionError as error:
            soak.failures.append(str(error))
        finally:
            service.end(signal.SIGTERM)
        if traces := service.log.read_text("utf-8", "replace").count("Traceback"):
            soak.failures.append(f"{traces} stack traces in the log")
            print(service.log.read_text("utf-8", "replace")[-5000:])
        print("\n".join(soak.table()))
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    print("all honest jobs ended rightly" if not soak.failures else f"{len(soak.failures)} failed")
    return bool(soak.failures)


if __name__ == "__main__":
    sys.exit(main())
