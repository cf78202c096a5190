"""How fast spreadsheets of jobs are checked: rows a second, and memory at the peak.

Each row names two modalities, and a row counts as checked when its JSON text is there, as the page
needs it. Each measurement runs in a process of its own, so that its peak of memory is its own; the
best of three readings counts for speed. On a machine that does other things besides, rows per CPU
second tell more. Run it with::

    python benchmarks/validation.py
"""

import csv
import io
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import datetime, timedelta

from aind_data_transfer_service.spreadsheets.reader import read_jobs

GOALS = {"csv": 20_000, "xlsx": 8_000}
MEMORY_GOAL = 300
PEERS = {"csv": 550, "xlsx": 440}
"""Rows a second of the software in use now, on a machine of this kind."""

SIZES = (1_000, 10_000)
HEADER = (
    "processor_full_name",
    "project_name",
    "process_capsule_id",
    "platform",
    "acq_datetime",
    "subject_id",
    "modality0",
    "modality0.source",
    "modality1",
    "modality1.source",
    "metadata_dir",
)


def make_rows(count: int) -> list[list[object]]:
    """Make so many jobs of two modalities each."""
    start = datetime(2024, 2, 19, 11, 25, 17)
    folder = "/shared_drive/vr_foraging"
    return [
        [
            "Anna Apple",
            "Ephys Platform",
            None,
            "behavior",
            start + timedelta(seconds=61 * number),
            690165 + number,
            "behavior",
            f"{folder}/{690165 + number}/Behavior",
            "behavior-videos",
            f"{folder}/{690165 + number}/Behavior videos",
            f"{folder}/{690165 + number}/Configs",
        ]
        for number in range(count)
    ]


def make_file(ending: str, count: int) -> bytes:
    """Make a spreadsheet as Excel would save it."""
    if ending == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(HEADER)
        for row in make_rows(count):
            row[4] = f"{row[4]:%m/%d/%Y %H:%M:%S}"
            writer.writerow(row)
        return text.getvalue().encode("utf-8-sig")
    from openpyxl import Workbook

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("Jobs")
    sheet.append(HEADER)
    for row in make_rows(count):
        sheet.append(row)
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def check(data: bytes, ending: str, count: int) -> tuple[float, float]:
    """Check a file, make each row's JSON, and give the seconds and the CPU seconds that it took."""
    begun, worked = time.perf_counter(), time.process_time()
    result = read_jobs(data, f"jobs.{ending}")
    texts = [row.text for row in result.rows]
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    if result.errors or len(texts) != count or len(set(texts)) != count:
        raise AssertionError(f"{len(texts)} of {count} rows are good: {result.errors[:3]}")
    return seconds, cpu


def measure(path: str, ending: str, count: int) -> None:
    """Measure one file in this process, and print both times and the peak of memory in MB."""
    with open(path, "rb") as file:
        data = file.read()
    first = check(data, ending, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = [first, check(data, ending, count), check(data, ending, count)]
    print(min(seconds for seconds, _ in times), min(cpu for _, cpu in times), peak)


def main() -> None:
    """Measure every file, and print a table."""
    import tempfile

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    titles = f"{'file':<6}{'rows':>8}{'rows/s':>10}{'goal':>9}{'now in use':>12}{'rows/CPU s':>12}"
    print(f"{titles}{'peak MB':>9}{'goal':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for ending in GOALS:
            for count in SIZES:
                path = os.path.join(folder, f"jobs{count}.{ending}")
                with open(path, "wb") as file:
                    file.write(make_file(ending, count))
                run = subprocess.run(
                    [sys.executable, __file__, path, ending, str(count)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                seconds, cpu, peak = map(float, run.stdout.split())
                print(
                    f"{ending:<6}{count:>8,}{count / seconds:>10,.0f}{GOALS[ending]:>9,}"
                    f"{PEERS[ending]:>12,}{count / cpu:>12,.0f}{peak:>9.0f}{MEMORY_GOAL:>6}"
                )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
