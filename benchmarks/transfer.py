"""How fast a session travels: ours beside what people use today, on the same data and server.

Each client sends the same folder to the same server, as one process from its cold start to its
end; the runs of all clients are interleaved, and the medians count. Ours is a whole job: it hashes
every byte, keeps a journal, verifies, and writes documents and a manifest. The others only send.
The server is a sink that throws bytes away (`sink.py`), so that the client is the limit, or a
real one: SeaweedFS, or `rclone serve s3`, which lists objects made of parts by other ETags than it
gave, and hashes them whole for each piece that is read: proving large files takes minutes there.
After each run what the server has is compared with what was sent, name by name and size by size.
Run it with::

    python benchmarks/transfer.py                      # 4 of 512 MiB and 2,000 of 20 KiB
    python benchmarks/transfer.py --data small_files   # 20,000 of 10 KiB
    python benchmarks/transfer.py --delay 0.03         # a sink that answers late
    python benchmarks/transfer.py --tls                # encrypted; needs haproxy, which decrypts
    python benchmarks/transfer.py --server seaweedfs   # a server that stores
    python benchmarks/transfer.py --small --runs 1     # a quick look
    python benchmarks/transfer.py --before OLD/bin/python  # beside another version of ours

Each peer has a run with its defaults and a tuned one, and boto3, obstore and the CRT of AWS have
programs in this folder (`clients.py` has all command lines). It asserts that the work was done,
never how fast. Peers come from PyPI, or else from PATH; AWS CLI 2 only from PATH.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import FLOOR, KEYS, OURS, Client, Target, clients, environment, find_programs, version

MEBI = 1024**2
DATA = {
    "mixed": ((4, 512 * MEBI), (2_000, 20 * 1024)),
    "small_files": ((20_000, 10 * 1024),),
}
SMALL = {"mixed": ((2, 100 * MEBI), (300, 20 * 1024)), "small_files": ((2_000, 10 * 1024),)}
GOALS = (("s5cmd cp", 2.0), ("aws s3 sync", 4.0))
"""How many times as fast as these ours shall be on the sink, on less CPU than either. The best
run of each counts, tuned or not."""
FLOOR_GOAL = 1.5
"""How many times the floor's time ours may take."""
_PATIENCE = 300
_SETTLED = 61
"""Seconds after which data are no longer new: what was written in the minute before a job starts is
read twice, to notice programs that still write to it, and sessions are commonly older."""


@dataclass(frozen=True)
class Reading:
    """What one run took."""

    wall: float
    cpu: float
    """Of the process and its children, user and system."""
    peak: float
    """MB, of the largest of its processes."""


class Server:
    """Where the clients send to."""

    host, port = "127.0.0.1", 0
    tls_port: int | None = None
    ca_file: Path | None = None

    def holds(self, bucket: str) -> dict[str, int]:
        """Tell the size of every object of a bucket."""
        raise NotImplementedError

    def forget(self, bucket: str) -> None:
        """Empty a bucket."""
        raise NotImplementedError


class SinkServer(Server):
    """The sink."""

    def __init__(self, port: int):
        self.port = port

    def holds(self, bucket: str) -> dict[str, int]:
        """Tell the size of every object of a bucket."""
        return json.loads(self._ask("GET", bucket))

    def forget(self, bucket: str) -> None:
        """Empty a bucket."""
        self._ask("DELETE", bucket)

    def _ask(self, method: str, bucket: str) -> bytes:
        url = f"http://{self.host}:{self.port}/-/{bucket}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.read()


class RcloneServer(Server):
    """A real server, its buckets being folders."""

    def __init__(self, port: int, folder: Path, pid: int):
        self.port, self._folder, self._pid = port, folder, pid

    def holds(self, bucket: str) -> dict[str, int]:
        """Tell the size of every object of a bucket."""
        return sizes_of(self._folder / bucket)

    def forget(self, bucket: str) -> None:
        """Empty a bucket."""
        shutil.rmtree(self._folder / bucket, ignore_errors=True)
        (self._folder / bucket).mkdir()
        os.kill(self._pid, signal.SIGHUP)  # flushes its cache of folders


class SeaweedServer(Server):
    """A real server, which checks every signature and every checksum."""

    def __init__(self, server: Any):
        self._client = server.client
        self.port = int(server.endpoint_url.rpartition(":")[2])

    def holds(self, bucket: str) -> dict[str, int]:
        """Tell the size of every object of a bucket."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def forget(self, bucket: str) -> None:
        """Empty a bucket, which is made where there is none."""
        buckets = [found["Name"] for found in self._client.list_buckets()["Buckets"]]
        if bucket not in buckets:
            self._client.create_bucket(Bucket=bucket)
        keys = [{"Key": key} for key in self.holds(bucket)]
        for first in range(0, len(keys), 1000):
            some = {"Objects": keys[first : first + 1000]}
            self._client.delete_objects(Bucket=bucket, Delete=some)


@contextmanager
def sink(delay: float = 0.0) -> Iterator[Server]:
    """Run the sink, which answers so many seconds late."""
    command = [sys.executable, str(Path(__file__).with_name("sink.py")), str(delay)]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        yield SinkServer(int(process.stdout.readline()))


@contextmanager
def rclone(program: str, folder: Path) -> Iterator[Server]:
    """Run rclone as a server over a folder."""
    keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    folder.mkdir()
    port = free_port()
    options = ["--ignore-checksum", f"--auth-key={keys}", f"--addr=127.0.0.1:{port}"]
    command = [program, "serve", "s3", *options, "--config=", str(folder)]
    with open(folder.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with ended(process):
        wait_for(port, "rclone serve s3")
        yield RcloneServer(port, folder, process.pid)


@contextmanager
def seaweedfs() -> Iterator[Server]:
    """Run SeaweedFS as the tests do."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.support import seaweedfs as program

    allowed = ["Admin", "Read", "Write", "List", "Tagging"]
    server = program.start(**{KEYS["AWS_ACCESS_KEY_ID"]: (KEYS["AWS_SECRET_ACCESS_KEY"], allowed)})
    try:
        yield SeaweedServer(server)
    finally:
        server.stop()


@contextmanager
def encrypted(server: Server, folder: Path) -> Iterator[None]:
    """Have haproxy speak TLS in front of a server."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise SystemExit("--tls needs haproxy (apt-get install haproxy)")
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.support.https import authority, ca_file

    certificate = folder / "server.pem"
    authority().issue_cert(server.host).private_key_and_cert_chain_pem.write_to_path(certificate)
    port = free_port()
    lines = (
        "global",
        "  nbthread 1",
        "defaults",
        "  mode tcp",
        *(f"  timeout {name} {_PATIENCE}s" for name in ("connect", "client", "server")),
        "listen tls",
        f"  bind {server.host}:{port} ssl crt {certificate}",
        f"  server behind {server.host}:{server.port}",
    )
    (folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    with ended(subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")])):
        wait_for(port, "haproxy")
        server.tls_port, server.ca_file = port, ca_file()
        yield


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """End a process when it is not needed any more."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Find a port that nobody listens on."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, name: str) -> None:
    """Wait until somebody listens on a port."""
    deadline = time.monotonic() + 30
    while not answers(port):
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} does not answer")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def make_data(folder: Path, files: tuple[tuple[int, int], ...]) -> None:
    """Write so many files of each size, no two of them alike."""
    block = os.urandom(16 * MEBI)
    for count, size in files:
        for number in range(count):
            path = folder / f"{size}" / f"{number // 500:02}" / f"{number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                file.write(f"{number:08}".encode())
                for begin in range(8, size, len(block)):
                    file.write(block[: min(len(block), size - begin)])


def sizes_of(folder: Path) -> dict[str, int]:
    """Tell the size of every file beneath a folder."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(client: Client, target: Target, variables: dict[str, str] | None = None) -> Reading:
    """Run a client once, with the usual variables unless others are given, and measure it."""
    log = target.scratch / "log"
    begun = time.perf_counter()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            client.command(target),
            env=variables or environment(target),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    previous = signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
    signal.alarm(_PATIENCE)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        words = log.read_text("utf-8", "replace")[-2000:]
        raise AssertionError(f"{client.name} ended with {process.returncode}:\n{words}")
    return Reading(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def check(client: Client, found: dict[str, int], wanted: dict[str, int]) -> None:
    """Compare what the server has with what was to be sent."""
    skip = len(client.prefix) + 1
    sent = {key[skip:]: size for key, size in found.items() if key.startswith(client.prefix + "/")}
    if sent != wanted:
        wrong = sorted(name for name in sent | wanted if sent.get(name) != wanted.get(name))
        raise AssertionError(f"{client.name}: {len(wrong)} files differ, as {wrong[:5]}")


def measure(
    chosen: list[Client], server: Server, source: Path, scratch: Path, runs: int
) -> dict[str, list[Reading]]:
    """Run all clients so many times, one after the other, and check each."""
    wanted = sizes_of(source)
    readings: dict[str, list[Reading]] = {client.name: [] for client in chosen}
    for number in range(runs):
        for client in chosen:
            server.forget("bucket")
            scratch.mkdir()
            place = source, server.host, server.port, "bucket", scratch
            target = Target(*place, server.tls_port, server.ca_file)
            reading = run(client, target)
            check(client, server.holds("bucket"), wanted)
            shutil.rmtree(scratch)
            readings[client.name].append(reading)
            words = f"{reading.wall:.2f} s, {reading.cpu:.2f} CPU s"
            print(f"  run {number + 1}: {client.name}: {words}", file=sys.stderr, flush=True)
    return readings


def median(readings: list[Reading]) -> Reading:
    """Take the median of times, and the peak of all."""
    return Reading(
        statistics.median(reading.wall for reading in readings),
        statistics.median(reading.cpu for reading in readings),
        max(reading.peak for reading in readings),
    )


def table(chosen: list[Client], medians: dict[str, Reading], size: int) -> Iterator[str]:
    """Write what was measured, and how it compares with ours."""
    titles = f"{'client':<22}{'wall s':>8}{'MB/s':>8}{'CPU s':>8}{'peak MB':>9}"
    yield f"{titles}{'wall/ours':>11}{'CPU/ours':>10}  settings"
    ours = medians.get(OURS)
    for client in chosen:
        reading = medians[client.name]
        line = f"{client.name:<22}{reading.wall:>8.2f}{size / 1e6 / reading.wall:>8.0f}"
        line += f"{reading.cpu:>8.2f}{reading.peak:>9.0f}"
        if ours:
            line += f"{reading.wall / ours.wall:>11.2f}{reading.cpu / ours.cpu:>10.2f}"
        yield f"{line}  {client.note}"


def goals(medians: dict[str, Reading]) -> Iterator[str]:
    """Tell which goals are met."""
    ours = medians[OURS]
    for name, factor in GOALS:
        runs = [reading for client, reading in medians.items() if client.startswith(name)]
        if runs:
            times = min(reading.wall for reading in runs) / ours.wall
            cpu = ours.cpu / min(reading.cpu for reading in runs)
            peer = f"the best {name}"
            yield f"{_met(times >= factor)}: {times:.1f} times as fast as {peer}, goal {factor:g}"
            yield f"{_met(cpu < 1)}: {cpu:.2f} of the CPU of {peer}, goal below 1"
    if FLOOR in medians:
        times = ours.wall / medians[FLOOR].wall
        yield f"{_met(times <= FLOOR_GOAL)}: {times:.2f} times the floor, goal {FLOOR_GOAL:g}"


def _met(is_met: bool) -> str:
    """Say whether a goal is met."""
    return "met" if is_met else "MISSED"


def machine() -> str:
    """Name the machine."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    kind = names[0] if names else platform.machine()
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores ({kind}), "
        f"Python {platform.python_version()}, load {load:.1f}"
    )


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--data", choices=DATA, default="mixed")
    parser.add_argument("--server", choices=("sink", "seaweedfs", "rclone"), default="sink")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, of the sink's answers")
    parser.add_argument("--tls", action="store_true", help="encrypted, but for the floor")
    parser.add_argument("--small", action="store_true", help="a tenth of the data")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", help="a client; may be given several times")
    parser.add_argument("--before", type=Path, help="a Python with another version of ours")
    parser.add_argument("--peers", type=Path, default=cache / "transfer-benchmark")
    parser.add_argument("--folder", type=Path, help="where the data are made; needs 5 GB")
    return parser.parse_args()


def main() -> None:
    """Make the data, run every client, and print a table."""
    arguments = read_arguments()
    programs = find_programs(arguments.peers)
    every = clients(programs, arguments.before)
    chosen = [client for client in every if client.name in (arguments.only or [client.name])]
    if arguments.server != "sink":
        print("not compared: the floor, which signs nothing; this server checks signatures")
        chosen = [client for client in chosen if client.name != FLOOR]
    files = (SMALL if arguments.small else DATA)[arguments.data]
    print(machine())
    print("; ".join(f"{name}: {version(name, path)}" for name, path in programs.items()))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_data(folder / "source", files)
        if not arguments.small:
            time.sleep(_SETTLED)
        wanted = sizes_of(folder / "source")
        size = sum(wanted.values())
        how = f", answers {arguments.delay:g} s late" if arguments.delay else ""
        how += ", over TLS" if arguments.tls else ""
        print(f"{len(wanted):,} files, {size:,} bytes; server: {arguments.server}{how}", flush=True)
        if arguments.server == "sink":
            opened = sink(arguments.delay)
        elif arguments.server == "seaweedfs":
            opened = seaweedfs()
        else:
            opened = rclone(programs["rclone"], folder / "served")
        with opened as server, ExitStack() as stack:
            if arguments.tls:
                stack.enter_context(encrypted(server, folder))
            readings = measure(
                chosen, server, folder / "source", folder / "scratch", arguments.runs
            )
    medians = {name: median(of_client) for name, of_client in readings.items()}
    print("\n".join(table(chosen, medians, size)))
    if OURS in medians and arguments.server == "sink" and not how:
        print("\n".join(goals(medians)))
    print("every client's files were all there, with their sizes, after each run")


if __name__ == "__main__":
    main()
