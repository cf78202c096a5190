"""How quickly pages answer while hostile or many spreadsheets are uploaded.

``PYTHONPATH=. python benchmarks/uploads.py`` starts a real service with uvicorn in a process of its
own, sends it files from another process, and asks for `GET /` meanwhile. Goal: under 50 ms (median)
whatever is uploaded. Memory is the peak of the resident set of the service, and of its workers.
"""

import argparse
import asyncio
import collections
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from page_latency import percentile, service, timed

from tests.support import hostile_files

_MIB = 1024**2


async def post(url: str, name: str, data: bytes) -> int:
    """Send one file, and return the status of the answer; 0 for none."""
    place = urlsplit(url)
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body = b"".join((head, data, b"\r\n--b--\r\n"))
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(
            f"POST /api/validate_csv HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
            "".encode()
        )
        for begin in range(0, len(body), _MIB):
            writer.write(body[begin : begin + _MIB])
            await writer.drain()
        status = int((await reader.readline()).split()[1])
        while await reader.read(_MIB):
            pass
        writer.close()
        return status
    except (OSError, IndexError):
        return 0


def send(url: str, name: str, data: bytes, count: int, answers: "multiprocessing.Queue") -> None:
    """Send a file many times at once, and report the statuses."""

    async def all_at_once() -> list[int]:
        """Send all of them."""
        return await asyncio.gather(*(post(url, name, data) for _ in range(count)))

    answers.put(asyncio.run(all_at_once()))


class Memory(threading.Thread):
    """Watches the resident sets of a process and of its children."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.ended = threading.Event()
        self.service = self.workers = 0

    def run(self) -> None:
        """Look every 50 ms."""
        while not self.ended.wait(0.05):
            self.service = max(self.service, self._process.memory_info().rss)
            workers = 0
            for child in self._process.children():
                try:
                    workers += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.workers = max(self.workers, workers)


def measure(title: str, name: str, data: bytes, count: int) -> None:
    """Send a file to a service of its own, and print a line of the table."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as url:
        [process] = [
            child
            for child in psutil.Process().children()
            if "aind_data_transfer_service.server:app" in child.cmdline()
        ]
        memory = Memory(process.pid)
        memory.start()
        answers: multiprocessing.Queue = multiprocessing.Queue()
        sender = multiprocessing.Process(target=send, args=(url, name, data, count, answers))
        times: list[float] = []
        with httpx.Client(base_url=url, timeout=120) as client:
            timed(client, "/")
            began = time.perf_counter()
            sender.start()
            while sender.is_alive():
                times.append(timed(client, "/"))
                time.sleep(0.005)
            took = time.perf_counter() - began
        statuses = dict(collections.Counter(answers.get()))
        memory.ended.set()
        memory.join()
    shown = f"{statistics.median(times):8.1f} {percentile(times):8.1f} {max(times):8.1f}"
    shown += f" {memory.service / _MIB:9,.0f} {memory.workers / _MIB:9,.0f} {took:7.1f}"
    print(f"{title:42} {shown}  {statuses}", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=200, help="CSV files at once")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; GET / in milliseconds, client's side; memory in MiB; statuses of uploads\n")
    print(f"{'':42} {'median':>8} {'95 %':>8} {'most':>8} {'service':>9} {'workers':>9} {'s':>7}")
    count = options.uploads
    files = {
        f"{count} CSV files of 5 MB at once": (
            "jobs.csv",
            hostile_files.jobs_csv(5 * 10**6, length=250),
            count,
        ),
        "4 CSV files of 20,000 jobs at once": (
            "jobs.csv",
            hostile_files.jobs_csv(10**8, 20_000),
            4,
        ),
        "workbook of 200,000 sheets": ("jobs.xlsx", hostile_files.many_sheets(), 1),
        "workbook of 2.9 million rows": ("jobs.xlsx", hostile_files.many_rows(), 1),
    }
    for title, (name, data, times) in files.items():
        measure(title, name, data, times)


if __name__ == "__main__":
    main()
