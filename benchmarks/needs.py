"""What a transfer needs of a node: memory, and cores for the speed that is wanted.

Each row is a complete job in a process of its own, from its start to the published manifest,
against the sink (`sink.py`), which answers at once or later, with 256 connections and 256 MiB for
parts unless the row says otherwise. Memory is the peak of the resident
set. The CPU seconds say how fast one core can send: they hardly depend on what else the machine
does, so the server may share it. Run it with::

    python benchmarks/needs.py
    python benchmarks/needs.py --only many    # one kind of data

Memory: the peak and a margin. Cores: the speed of the link, divided by what one core sends.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from clients import OURS, Target, clients, environment
from transfer import MEBI, Reading, check, machine, make_data, run, sink, sizes_of

DATA = {
    "large": ((2, 2048 * MEBI),),
    "mixed": ((4, 256 * MEBI), (2_000, 20 * 1024)),
    "small": ((20_000, 10 * 1024),),
    "many": ((200_000, 200),),
}
LATE, VERY_LATE = 0.03, 1.0
"""Seconds after which a store far away answers, and one that keeps all memory for parts in use."""
SETTINGS = (
    ("at once", 0.0, {}),
    ("late", LATE, {}),
    ("late, 16 connections", LATE, {"UPLOAD_CONNECTIONS": "16"}),
    ("very late", VERY_LATE, {}),
    ("very late, 1 GiB", VERY_LATE, {"UPLOAD_MEMORY": "1GiB"}),
)
"""How late the store answers, and which settings the job has."""


def main() -> None:
    """Make the data, run the jobs, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", choices=DATA, help="one kind of data")
    parser.add_argument("--folder", type=Path, help="where the data are made; needs 5 GB")
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    print(f"{'data':<8}{'answers':<26}{'peak MB':>8}{'CPU s':>8}{'wall s':>8}  one core sends")
    for kind in [arguments.only] if arguments.only else DATA:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            source = Path(name) / "source"
            make_data(source, DATA[kind])
            for label, delay, variables in SETTINGS:
                if delay == VERY_LATE and kind != "large":  # small files need no memory for parts
                    continue
                reading = measure(source, Path(name) / "scratch", delay, variables)
                print(row(kind, label, reading, sizes_of(source)), flush=True)


def measure(source: Path, scratch: Path, delay: float, variables: dict[str, str]) -> Reading:
    """Run one job, and check that everything arrived."""
    [ours] = (client for client in clients({}, None) if client.name == OURS)
    scratch.mkdir()
    with sink(delay) as server:
        target = Target(source, server.host, server.port, "bucket", scratch)
        reading = run(ours, target, environment(target) | variables)
        check(ours, server.holds("bucket"), sizes_of(source))
    shutil.rmtree(scratch)
    return reading


def row(kind: str, label: str, reading: Reading, sizes: dict[str, int]) -> str:
    """Write what one job took."""
    speed = f"{sum(sizes.values()) / 1e6 / reading.cpu:,.0f} MB/s"
    if len(sizes) >= 2_000:
        speed += f", {len(sizes) / reading.cpu:,.0f} files/s"
    figures = f"{reading.peak:>8.0f}{reading.cpu:>8.1f}{reading.wall:>8.1f}"
    return f"{kind:<8}{label:<26}{figures}  {speed}"


if __name__ == "__main__":
    main()
