"""What a million small files take, and one file of 2 TB: seconds, and memory that stays flat.

The million are sent twice: by a job that runs to its end, and by one that is killed half way and
the next one, which goes on. All are whole jobs, with hashing, manifest and verification, against
the sink beside this file: an S3 server that throws bytes away. Run it with::

    python benchmarks/scale.py

`--tree` names a folder for the million files, made where it is not there and left for the next
run; elsewhere it is made anew and removed. The large file is sparse: it takes no room. 2 TB of
zeros take a quarter of an hour and more, so that job is ended after `--seconds`; what is shown is
how the file would be cut, and that memory does not grow with the bytes. `--seconds 0` lets it run
to its end.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.job.events import Events, Kind
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.plan.plan import part_size

MEBI = 1024**2
TERA = 1000**4
_PER_FOLDER = 1000
_SMALL = 200
_BUCKET = "scale"
_SECRET = "benchmark"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=1_000_000, help="how many small files")
    parser.add_argument("--tree", type=Path, help="where they are, or are to be made and stay")
    parser.add_argument("--tera", type=float, default=2.0, help="size of the large file")
    parser.add_argument("--seconds", type=float, default=60.0, help="when its job is ended")
    parser.add_argument("--only", choices=("files", "large"), help="one of the two")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(*map(Path, options.child))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, _sink() as url:
        if options.only != "large":
            tree = options.tree or Path(folder) / "tree"
            _many(tree, options.files, Path(folder), url)
            _killed(tree, Path(folder), url)
        if options.only != "files":
            _large(int(options.tera * TERA), options.seconds, Path(folder), url)


def _many(tree: Path, files: int, folder: Path, url: str) -> None:
    """Bring many small files."""
    if not tree.is_dir():
        began = time.monotonic()
        _make(tree, files)
        print(f"{files:,} files made in {time.monotonic() - began:.0f} s")
    said = list(_job(tree, folder / "many", url))
    planned, end = _last(said, "modality", "end"), _last(said, "done", "end")
    sent, proven = _last(said, "transfer", "end"), _last(said, "verify", "end")
    files = end["figures"]["files"]
    seconds = sent["seconds"] - planned["seconds"]
    print(f"{files:,} small files")
    print(f"  planned in            {planned['seconds']:8.1f} s, {planned['memory']:,} MB")
    print(f"  sent in               {seconds:8.1f} s, {files / seconds:,.0f} files/s")
    print(f"  verified in           {proven['seconds'] - sent['seconds']:8.1f} s")
    print(f"  published in          {end['seconds'] - proven['seconds']:8.1f} s")
    print(f"  whole job             {end['seconds']:8.1f} s, peak {end['peak']:,} MB\n")


def _killed(tree: Path, folder: Path, url: str) -> None:
    """Kill a job that has sent half of many small files, and have the next one go on."""
    done = 0
    with closing(_job(tree, folder / "killed", url)) as job:
        for said in job:
            if said["kind"] == "progress":
                done, total = (said["figures"][f"files_{name}"] for name in ("done", "total"))
                if done > total / 2:
                    break
    said = list(_job(tree, folder / "killed", url))
    sent, proven = _last(said, "transfer", "end"), _last(said, "verify", "end")
    end = _last(said, "done", "end")
    first = next(each for each in said if each["kind"] == "progress")
    print(f"the same, killed when {done:,} had arrived, and started again")
    print(f"  sending again after   {first['seconds']:8.1f} s, {first['memory']:,} MB")
    print(f"  sent                  {sent['figures']['files_sent']:8,} files")
    print(f"  verified in           {proven['seconds'] - sent['seconds']:8.1f} s")
    print(f"  whole job             {end['seconds']:8.1f} s, peak {end['peak']:,} MB\n")


def _large(size: int, seconds: float, folder: Path, url: str) -> None:
    """Bring one file that is larger than any disk here."""
    source = folder / "large"
    source.mkdir()
    with open(source / "recording.dat", "wb") as file:
        file.truncate(size)
    said = list(_job(source, folder / "one", url, seconds))
    cut = part_size(size)
    print(f"one file of {size:,} bytes: {-(-size // cut):,} parts of {cut // MEBI} MiB")
    told = [each for each in said if each["step"] == "transfer" and each["kind"] == "progress"]
    done = told[-1]["figures"]["bytes_done"]
    duration = told[-1]["seconds"] - told[0]["seconds"]
    rate = (done - told[0]["figures"]["bytes_done"]) / duration
    half = told[len(told) // 2 :]
    print(f"  sent                  {done:,} bytes in {duration:.0f} s, {rate / 1e9:.2f} GB/s")
    print(f"  memory at the start   {told[min(5, len(told) - 1)]['memory']:,} MB")
    low, high = (pick(each["memory"] for each in half) for pick in (min, max))
    print(f"  in the second half    {low:,} to {high:,} MB; peak {said[-1]['peak']:,} MB")
    print(f"  all of it would take  {size / rate / 60:.0f} min, reckoned")


def _make(tree: Path, files: int) -> None:
    """Make small files, no two of the same content."""
    for number in range(files):
        folder = tree / f"trial_{number // _PER_FOLDER:04}"
        if number % _PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = f"{folder}/camera_left_frame_{number % _PER_FOLDER:06}.bin"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, f"{number:08}".encode() * (_SMALL // 8))
        os.close(descriptor)


@contextmanager
def _sink() -> Iterator[str]:
    """Run the server that throws bytes away."""
    command = [sys.executable, str(Path(__file__).with_name("sink.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def _job(
    source: Path, state: Path, url: str, seconds: float | None = None
) -> Iterator[dict[str, Any]]:
    """Run a job in a process of its own, and give what it tells."""
    environment = os.environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": _SECRET,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "DESTINATION": "s3://",
        "DATA_DIR": str(state),
        "LAB_TIMEZONE": "UTC",
    }
    command = [sys.executable, __file__, "--child", str(source), str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            for line in process.stdout:
                said = json.loads(line)
                yield said
                if seconds and said["seconds"] > seconds:
                    process.send_signal(signal.SIGINT)
                    seconds = None
        finally:
            process.kill()


class _Told(Events):
    """Prints each event with the time and the memory."""

    began = time.monotonic()

    def emit(self, kind: Kind, message: str, **figures: Any) -> None:
        """Print an event."""
        said = {
            "seconds": time.monotonic() - self.began,
            "memory": _memory(),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "step": self.step.value,
            "kind": kind.value,
            "figures": figures,
        }
        print(json.dumps(said), flush=True)


def _child(source: Path, state: Path) -> None:
    """Run one job."""
    config = BasicUploadJobConfigs(
        processor_full_name="Anna Apple",
        project_name="Ephys Platform",
        s3_bucket=_BUCKET,
        platform="behavior",
        subject_id="690165",
        acq_datetime=f"2024-02-19T11:25:{len(state.name):02}",  # each has an asset of its own
        modalities=[{"modality": "behavior", "source": str(source)}],
    )
    try:
        UploadJob(config, UploadSettings(), _Told()).run()
    except KeyboardInterrupt:
        return


def _memory() -> int:
    """Tell how many megabytes of memory this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1000**2


def _last(said: list[dict[str, Any]], step: str, kind: str) -> dict[str, Any]:
    """Find the last event of a kind; a job that failed has none, and its log says why."""
    found = [each for each in said if (each["step"], each["kind"]) == (step, kind)]
    if not found:
        sys.exit(f"the job did not come to the {kind} of {step}")
    return found[-1]


if __name__ == "__main__":
    main()
