"""What a cluster costs the service: sending a hundred jobs, following thousands, for days.

``python -m benchmarks.slurm`` from the project's folder, as root, with Debian's Slurm installed.
The first table is of a real slurmrestd, slurmctld and slurmd, and of a service in a process of its
own: how long one request of 100 jobs takes, the first of a fresh service and later ones, and how
quickly `GET /` answers meanwhile. The software in use takes 21.2 s. Goals: 1.5 s, and 30 ms.

The second is of a listing as slurmrestd writes it, served by a process of its own: the CPU time of
one look at 5,000 live jobs (goal: 300 ms), the CPU that following some jobs of ours among 5,000 of
others takes at the usual pace (goal: 2 %), and the memory of a service that looks 10,000 times.

The third is of a real slurmrestd again, with 6,000 jobs of ours in Slurm's queue: the CPU and the
memory that slurmrestd takes while a service follows them at the usual pace: on a quiet cluster, on
one on which a job changes every second, on one on which a job ends every second, and after the
service was started again. Goals: 5 % of a core, and 300 MB. ``--only queue`` measures this alone,
and ``--root`` takes Slurm from a folder with another Debian.

The last is of one asset on two nodes, each with a network namespace of its own and a link that `tc`
limits (Debian's iproute2): how long one node sends it, and two in shards. Goal: two nodes send 1.8
times as fast. ``--only nodes`` measures this alone.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.executors.slurm.job_properties import mark_of
from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.completion_evidence import Evidence
from aind_data_transfer_service.jobs.dispatcher import Handover
from aind_data_transfer_service.jobs.event_ingest import Inbox
from aind_data_transfer_service.jobs.models import Job, new_job_id, slurm_number
from aind_data_transfer_service.jobs.polling import Pace
from aind_data_transfer_service.jobs.reconciler import Monitor
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from benchmarks.slurm_nodes import two_nodes
from tests.support import free_port, seaweedfs, slurm, wait_until
from tests.support.requests import upload_settings

RECORDED = Path("tests/unit/slurmrest/recorded/jobs_v0.0.38.json")
RUNNING_SHARE = 20
"""One live job in so many runs; the others wait."""


# --- a real cluster ---------------------------------------------------------------------------


@contextmanager
def service(
    cluster: slurm.SlurmCluster,
    s3: seaweedfs.SeaweedFS,
    bucket: str,
    folder: Path,
    **more: str,
) -> Iterator[str]:
    """Run the service in a process of its own, as an administrator would; nobody has asked it."""
    port = free_port()
    variables = {
        "DATA_DIR": str(folder / "data"),
        "LAB_TIMEZONE": "America/Los_Angeles",
        "DEFAULT_S3_BUCKET": bucket,
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "HPC_AWS_ACCESS_KEY_ID": s3.env["AWS_ACCESS_KEY_ID"],
        "HPC_AWS_SECRET_ACCESS_KEY": s3.env["AWS_SECRET_ACCESS_KEY"],
        "HPC_AWS_DEFAULT_REGION": s3.env["AWS_DEFAULT_REGION"],
        "HPC_HOST": "127.0.0.1",
        "HPC_PORT": str(cluster.port),
        "HPC_USERNAME": cluster.username,
        "HPC_TOKEN_COMMAND": cluster.token_command(),
        "SLURM_CONF": str(cluster.conf),
        "HPC_PARTITION": cluster.partition,
        "HPC_CURRENT_WORKING_DIRECTORY": str(folder / "logs"),
        "HPC_LOGGING_DIRECTORY": str(folder / "logs"),
        **more,
    }
    command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
    command += ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, env=os.environ | variables)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            raise SystemExit("the service did not start")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, 60, "the service to answer")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def request(source: Path, first: int, count: int) -> dict[str, Any]:
    """Ask for upload jobs that Slurm holds back, so that only the sending of them is measured."""
    return {
        "jobs": [
            {
                "upload_job_settings": upload_settings(source, subject_id=str(first + number)),
                "hpc_settings": '{"hold": true}',
                "script": "",
            }
            for number in range(count)
        ]
    }


def send(url: str, body: dict[str, Any], pages: list[float]) -> float:
    """Send one request; give its seconds, and note how long `GET /` took meanwhile, in ms."""
    seconds: list[float] = []

    def post() -> None:
        began = time.perf_counter()
        answer = httpx.post(f"{url}/api/submit_hpc_jobs", json=body, timeout=120)
        took = time.perf_counter() - began
        assert answer.status_code == 200, answer.text[:500]
        assert len({one["job_id"] for one in answer.json()["data"]["responses"]}) == len(
            body["jobs"]
        )
        seconds.append(took)

    with httpx.Client(base_url=url) as client:
        thread = threading.Thread(target=post)
        thread.start()
        while thread.is_alive():
            began = time.perf_counter()
            assert client.get("/").status_code == 200
            pages.append(1000 * (time.perf_counter() - began))
        thread.join()
    assert seconds, "the request failed, as told above"
    return seconds[0]


def submissions(count: int, rounds: int) -> None:
    """Measure what it takes to send jobs to a real slurmrestd."""
    print(f"{count} jobs in one request, to Slurm's own daemons\n")
    print(f"{'':38} {'seconds':>8}   {'GET / meanwhile, ms: median':>28} {'most':>6}")
    s3 = seaweedfs.start()
    cluster = slurm.start()
    try:
        sent = 0
        bucket = s3.create_bucket("recordings")
        for fresh in range(2):
            with tempfile.TemporaryDirectory(dir=cluster.folder) as folder:
                source = Path(folder) / "Behavior"
                source.mkdir()
                (Path(folder) / "logs").mkdir()
                (source / "licks.csv").write_text("1,2,3\n")
                with service(cluster, s3, bucket, Path(folder)) as url:
                    for number in range(rounds):
                        pages: list[float] = []
                        taken = send(url, request(source, 100_000 + sent, count), pages)
                        sent += count
                        which = f"service {fresh + 1}, request {number + 1}"
                        shown = f"{statistics.median(pages):28.1f} {max(pages):6.0f}"
                        print(f"{which:38} {taken:8.2f}   {shown}")
        queued = cluster.run("squeue", "-h", "-o", "%k").splitlines()
        assert len(set(queued)) == len(queued) == sent, f"{len(queued)} of {sent} are in the queue"
    finally:
        cluster.stop()
        s3.stop()
    print(f"{sent} jobs, each with a mark of its own, are in Slurm's queue\n")


# --- a listing of thousands -------------------------------------------------------------------


@contextmanager
def listed(jobs: list[Job], folder: Path, others: int = 0) -> Iterator[int]:
    """Serve a listing of jobs, and of so many of other users; give the port."""
    pattern = json.loads(RECORDED.read_text())
    records = []
    for number, job in enumerate(jobs, start=1):
        state = "RUNNING" if number % RUNNING_SHARE == 0 else "PENDING"
        told = {"job_id": number, "job_state": state, "comment": mark_of(job.id)}
        told |= {
            "name": job.name,
            "user_name": "svc",
            "state_reason": "Priority" if state == "PENDING" else "None",
        }
        records.append(pattern["jobs"][0] | told)
    for number in range(len(jobs) + 1, len(jobs) + others + 1):
        told = {"job_id": number, "job_state": "PENDING", "comment": "", "user_name": "others"}
        records.append(pattern["jobs"][0] | told)
    path = folder / "listing.json"
    path.write_text(json.dumps(pattern | {"jobs": records, "errors": []}))
    server = Path(__file__).with_name("canned_slurm.py")
    process = subprocess.Popen([sys.executable, str(server), str(path)], stdout=subprocess.PIPE)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def recorded_jobs(count: int) -> list[Job]:
    """Make jobs as the service has recorded them once they were sent."""
    jobs = []
    for number in range(1, count + 1):
        job_id = new_job_id()
        name = f"behavior_{700_000 + number}_2024-02-19_11-25-17"
        jobs.append(
            Job(
                id=job_id,
                name=name,
                state=JobState.PENDING,
                executor="slurm",
                executor_ref=f"{number}:{job_id}",
                upload_job_settings="x" * 1500,
            )
        )
    return jobs


def monitor_of(store: JobStore, executor: SlurmExecutor, pace: Pace) -> Monitor:
    """Make a monitor of jobs that are recorded."""
    feed = Feed()
    handover = Handover(store, executor, feed)
    inbox, evidence = Inbox(store, feed), Evidence(lambda job: False)
    return Monitor(store, executor, handover, feed, inbox, pace, evidence)


def usual_pace() -> Pace:
    """Return the pace at which a cluster is asked by default, as it is after a submission."""
    hpc = HpcSettings(
        host="slurm",
        username="svc",
        token="t",
        current_working_directory="/",
        logging_directory="/",
    )
    settings = ServiceSettings(hpc=hpc)
    pace = Pace(settings.look_interval, settings.longest_look_interval)
    pace.hasten()
    return pace


@contextmanager
def monitor(count: int, others: int = 0, pace: Pace | None = None) -> Iterator[Monitor]:
    """Have a monitor of so many live jobs, with all that is behind it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = recorded_jobs(count)
        store = JobStore(f"sqlite:///{folder / 'jobs.sqlite3'}")
        store.add(jobs)
        with listed(jobs, folder, others) as port:
            hpc = HpcSettings(
                host="127.0.0.1",
                port=port,
                username="svc",
                token="t",
                current_working_directory=name,
                logging_directory=name,
            )
            executor = SlurmExecutor(make_client(hpc), hpc, {})
            yield monitor_of(store, executor, pace or Pace(1.0))
        states = [job.state for job in store.active()]
        assert states.count(JobState.RUNNING) == count // RUNNING_SHARE, "the look saw nothing"
        assert len(states) == count
        store.close()


async def look_cost(count: int, rounds: int) -> None:
    """Measure what one look costs."""
    with monitor(count) as watch:
        await watch.look()  # records that one in so many runs
        cpu, wall = [], []
        for _ in range(rounds):
            began, began_wall = time.process_time(), time.perf_counter()
            await watch.look()
            cpu.append(1000 * (time.process_time() - began))
            wall.append(1000 * (time.perf_counter() - began_wall))
    shown = f"{statistics.median(cpu):8.0f} {max(cpu):8.0f} {statistics.median(wall):12.0f}"
    print(f"{f'a look at {count:,} live jobs, ms':38} {shown}")


async def following_cost(ours: int, others: int, seconds: float) -> None:
    """Measure the share of a CPU that the monitor takes at a cluster's usual pace."""
    with monitor(ours, others, usual_pace()) as watch:
        began, began_wall = time.process_time(), time.perf_counter()
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(seconds)
        share = (time.process_time() - began) / (time.perf_counter() - began_wall)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    print(f"{f'{ours} jobs among {others:,} of others':38} {100 * share:7.2f} % of a CPU")


async def look_memory(count: int, looks: int) -> None:
    """Measure what memory a service has after many looks."""
    print(f"\n{f'{looks:,} looks at {count} jobs':38} {'MB':>8}")
    process = psutil.Process()
    with monitor(count) as watch:
        marks = {looks // 10, looks // 4, looks // 2, looks}
        for number in range(1, looks + 1):
            await watch.look()
            if number in marks:
                print(f"{f'after {number:,}':38} {process.memory_info().rss / 2**20:8.1f}")


# --- thousands of jobs in a real queue --------------------------------------------------------


async def queue(executor: SlurmExecutor, store: JobStore, count: int) -> list[int]:
    """Submit jobs that Slurm holds, and record them; give Slurm's numbers."""
    jobs = recorded_jobs(count)
    settings = {"hold": True, "time_limit": 600, "memory_per_cpu": 500}
    specs = [JobSpec(job.id, job.name, request="{}", settings=settings) for job in jobs]
    started = {one.job_id: one for one in await executor.start(specs)}
    assert all(one.ref for one in started.values()), "Slurm did not take all jobs"
    store.add([replace(job, executor_ref=started[job.id].ref) for job in jobs])
    return [slurm_number("slurm", one.ref) for one in started.values()]


async def change(cluster: slurm.SlurmCluster, numbers: list[int]) -> None:
    """Change a job every second, as a busy cluster does, without slurmrestd."""
    for count, number in enumerate(itertools.cycle(numbers)):
        limit = f"TimeLimit={500 + count % 100}"
        await asyncio.to_thread(cluster.run, "scontrol", "update", f"JobId={number}", limit)
        await asyncio.sleep(1)


async def end(cluster: slurm.SlurmCluster, numbers: list[int]) -> None:
    """Cancel a job every second, without slurmrestd."""
    for number in numbers:
        await asyncio.to_thread(cluster.run, "scancel", str(number))
        await asyncio.sleep(1)


async def follow(watch: Monitor, pid: int, seconds: float, what: str) -> None:
    """Follow the jobs for a while, and print what slurmrestd and the service take meanwhile."""
    process, rss, own = psutil.Process(pid), [], time.process_time()
    task = asyncio.create_task(watch.run())
    began, began_wall = sum(process.cpu_times()[:2]), time.perf_counter()
    while (left := began_wall + seconds - time.perf_counter()) > 0:
        await asyncio.sleep(min(1, left))
        rss.append(process.memory_info().rss / 2**20)
    elapsed = time.perf_counter() - began_wall
    share = (sum(process.cpu_times()[:2]) - began) / elapsed
    own = (time.process_time() - own) / elapsed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert watch.silent_since is None, "slurmrestd did not answer"
    shown = f"{100 * share:7.2f} % {statistics.median(rss):8.0f} {max(rss):8.0f} {100 * own:9.2f} %"
    print(f"{what:38} {shown}")


async def queue_cost(count: int, seconds: float, root: Path | None) -> None:
    """Measure what following a long queue costs slurmrestd."""
    cluster = slurm.start(root=root)
    try:
        cluster.environment["MALLOC_ARENA_MAX"] = "1"  # as the documentation has it
        cluster.restart("slurmrestd")
        hpc = HpcSettings(
            host="127.0.0.1",
            port=cluster.port,
            username=cluster.username,
            token=cluster.token(),
            current_working_directory=str(cluster.folder),
            logging_directory=str(cluster.folder),
        )
        store = JobStore(f"sqlite:///{cluster.folder / 'jobs.sqlite3'}")
        executor = SlurmExecutor(make_client(hpc), hpc, {})
        numbers = await queue(executor, store, count)
        pid = cluster.pid("slurmrestd")
        version = cluster.run("scontrol", "--version").split()[-1]
        api = await make_client(hpc).dialect()
        what = f"{count:,} jobs in the queue, {version} {api}"
        print(f"{what:38} {'CPU':>9} {'MB':>8} {'most':>8} {'service':>11}")
        await follow(monitor_of(store, executor, usual_pace()), pid, seconds, "a quiet cluster")
        for what, work in (("a change per second", change), ("an end per second", end)):
            working = asyncio.create_task(work(cluster, numbers))
            await follow(monitor_of(store, executor, usual_pace()), pid, seconds, what)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await executor.close()
        executor = SlurmExecutor(make_client(hpc), hpc, {})
        watch = monitor_of(store, executor, usual_pace())
        await follow(watch, pid, seconds, "a service that starts again")
        queued = len(cluster.run("squeue", "-h", "-o", "%i").split())
        left = len(store.active())
        assert queued <= left < count, f"of {queued} jobs in the queue {left} are followed"
        await executor.close()
        store.close()
    finally:
        cluster.stop()


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100, help="jobs in a request")
    parser.add_argument("--live", type=int, default=5000, help="jobs that Slurm lists")
    parser.add_argument("--seconds", type=float, default=120, help="following at the usual pace")
    parser.add_argument("--looks", type=int, default=10_000, help="looks in a row")
    parser.add_argument("--queue", type=int, default=6000, help="jobs in Slurm's queue")
    parser.add_argument("--only", choices=["queue", "nodes"], help="measure this alone")
    parser.add_argument("--root", type=Path, help="a folder with another Slurm, for the queue")
    parser.add_argument("--megabytes", type=float, default=10, help="a second, of each node")
    parser.add_argument("--files", type=int, default=70, help="of 16 MB, sent from two nodes")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}\n")
    if options.only == "queue":
        return asyncio.run(queue_cost(options.queue, options.seconds, options.root))
    if options.only == "nodes":
        return two_nodes(service, options.megabytes, options.files)
    submissions(options.jobs, rounds=3)
    print(f"{'':38} {'CPU':>8} {'most':>8} {'wall clock':>12}")
    asyncio.run(look_cost(options.live, rounds=7))
    print(f"\nfollowing for {options.seconds:g} s at the usual pace")
    for ours in (1, 10, 50):
        asyncio.run(following_cost(ours, options.live, options.seconds))
    asyncio.run(look_memory(20, options.looks))
    asyncio.run(queue_cost(options.queue, options.seconds, options.root))
    two_nodes(service, options.megabytes, options.files)


if __name__ == "__main__":
    main()
