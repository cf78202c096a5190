"""How quickly pages answer: while a large file is checked, and with a long history of jobs.

``python benchmarks/page_latency.py`` starts a real service with uvicorn in a process of its own and
asks it over the loopback interface. Two goals: `GET /` under 50 ms (median) while a file of 10,000
rows is being checked, and any page, filter or sort of a list of 100,000 jobs under 100 ms. Between
them it asks for `GET /` while 500 event streams and 1,000 silent connections are open.
"""

import argparse
import csv
import io
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from aind_data_transfer_service.jobs.models import Job, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore

PROJECTS = ("Ephys Platform", "Dynamic Foraging", "Brain Computer Interface")
PEOPLE = ("Anna Apple", "Ben Birch", "Chloë D’Arcy", "Dan Dahl")
_ZONE = {"LAB_TIMEZONE": "America/Los_Angeles"}
QUERIES = (
    "",
    "page=1000",
    "page=2000",
    "page_size=200",
    "sort=name&order=asc",
    "sort=name&order=desc&page=900",
    "sort=state&page=700",
    "sort=submitter&order=asc&page=1500",
    "state=FAILED",
    "state=FAILED&state=RUNNING&sort=name",
    "state=COMPLETED&page=900",
    "submitter=Ben+Birch",
    "submitter=Ben+Birch&state=FAILED&sort=name",
    "text=712345",
    "text=behavior+anna",
    "text=nothing+at+all",
    "since=2026-03-01&until=2026-03-31",
    "since=2026-03-01&text=dynamic&sort=submitter",
)


def jobs_file(rows: int, folder: Path, kind: str) -> bytes:
    """Write a spreadsheet of jobs, two modalities a row, whose folders are there."""
    sources = [folder / "Behavior", folder / "Behavior videos"]
    for source in sources:
        source.mkdir(parents=True, exist_ok=True)
    header = "processor_full_name project_name process_capsule_id platform acq_datetime subject_id"
    header += " modality0 modality0.source modality1 modality1.source metadata_dir"
    lines = [header.split()]
    start = datetime(2024, 2, 19, 11, 25, 17)
    for number in range(rows):
        moment = f"{start + timedelta(minutes=number):%Y-%m-%d %H:%M:%S}"
        line = [PEOPLE[number % 4], PROJECTS[number % 3], "", "behavior", moment]
        line += [str(700_000 + number), "behavior", str(sources[0])]
        lines.append([*line, "behavior-videos", str(sources[1]), ""])
    if kind == "csv":
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        return text.getvalue().encode()
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("jobs")
    for line in lines:
        sheet.append(line)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def fill_store(url: str, count: int) -> None:
    """Record jobs of the last year or so."""
    store = JobStore(url)
    begin = datetime(2025, 6, 1, tzinfo=UTC)
    states = [JobState.COMPLETED] * 17 + [JobState.FAILED] * 2 + [JobState.CANCELLED]
    batch = []
    for number in range(count):
        moment = begin + timedelta(minutes=5 * number)
        name = f"behavior_{700_000 + number % 30_000}_{moment:%Y-%m-%d_%H-%M-%S}"
        job = Job(
            id=new_job_id(),
            name=name,
            state=states[number % 20],
            submitter=PEOPLE[number % 4],
            project_name=PROJECTS[number % 3],
            platform="behavior",
            subject_id=str(700_000 + number % 30_000),
            modalities="behavior,behavior-videos",
            location=f"s3://aind-data/{name}",
            upload_job_settings="x" * 1500,
            submitted_at=moment,
            updated_at=moment,
            started_at=moment,
            ended_at=moment + timedelta(minutes=3),
            files_done=2004,
            files_total=2004,
            bytes_done=2**38,
            bytes_total=2**38,
            exit_code=0,
        )
        batch.append(job)
        if len(batch) == 5000:
            store.add(batch)
            batch = []
    store.add(batch)
    store.close()


@contextmanager
def service(data_dir: Path) -> Iterator[str]:
    """Run the service in a process of its own, as an administrator would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
    command += ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, env=os.environ | {"DATA_DIR": str(data_dir), **_ZONE})
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    raise SystemExit("the service did not start") from None
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def timed(client: httpx.Client, path: str) -> float:
    """Ask once; give milliseconds."""
    began = time.perf_counter()
    response = client.get(path)
    assert response.status_code == 200, response.text
    return (time.perf_counter() - began) * 1000


def while_checking(url: str, data: bytes, name: str, rows: int) -> None:
    """Measure `GET /` while a file is checked."""
    result: dict[str, float] = {}

    def check() -> None:
        began = time.perf_counter()
        response = httpx.post(f"{url}/api/validate_csv", files={"file": (name, data)}, timeout=120)
        took = time.perf_counter() - began
        assert response.status_code == 200, response.text[:300]
        assert len(response.json()["data"]["jobs"]) == rows
        result["seconds"] = took

    times: list[float] = []
    with httpx.Client(base_url=url) as client:
        timed(client, "/")
        for _ in range(3):
            thread = threading.Thread(target=check)
            thread.start()
            while thread.is_alive():
                times.append(timed(client, "/"))
            thread.join()
    line = f"GET / while {rows:,} rows of .{name.split('.')[1]} are checked"
    shown = f"{statistics.median(times):8.1f} {percentile(times):8.1f} {max(times):8.1f}"
    print(f"{line:58} {shown}   (a check took {result['seconds']:.2f} s)")


def while_connected(url: str, streams: int = 500, silent: int = 1000) -> None:
    """Measure `GET /` while clients listen for events, or are silent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < (needed := streams + silent + 100):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with ExitStack() as stack, httpx.Client(base_url=url) as client:
        connections = [
            stack.enter_context(socket.create_connection(address, 10))
            for _ in range(streams + silent)
        ]
        for one in connections[:streams]:
            one.sendall(b"GET /api/jobs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for one in connections[:streams]:
            assert b" 200 " in one.recv(100)
        timed(client, "/")
        times = [timed(client, "/") for _ in range(500)]
    line = f"GET / with {streams} event streams, {silent:,} silent connections"
    shown = f"{statistics.median(times):8.1f} {percentile(times):8.1f} {max(times):8.1f}"
    print(f"{line:58} {shown}")


def percentile(times: list[float]) -> float:
    """Give the time that all but one in twenty stay below."""
    return sorted(times)[int(len(times) * 0.95)]


def lists(url: str, count: int) -> None:
    """Measure the list in all its forms."""
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/api/jobs").json()["data"]["total"] == count
        for path in ("/api/jobs", "/jobs"):
            for query in QUERIES:
                address = f"{path}?{query}" if query else path
                timed(client, address)
                times = [timed(client, address) for _ in range(10)]
                median, most = statistics.median(times), max(times)
                print(f"{address:58} {median:8.1f} {percentile(times):8.1f} {most:8.1f}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; milliseconds, client's side\n")
    print(f"{'':58} {'median':>8} {'95 %':>8} {'most':>8}")
    with tempfile.TemporaryDirectory() as folder:
        data_dir, source = Path(folder) / "data", Path(folder) / "source"
        data_dir.mkdir()
        fill_store(f"sqlite:///{data_dir / 'jobs.sqlite3'}", options.jobs)
        files = {kind: jobs_file(options.rows, source, kind) for kind in ("csv", "xlsx")}
        with service(data_dir) as url:
            for kind, data in files.items():
                while_checking(url, data, f"jobs.{kind}", options.rows)
            while_connected(url)
            lists(url, options.jobs)


if __name__ == "__main__":
    main()
