"""What one node and two take to send an asset: the last table of `benchmarks.slurm`."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.support import seaweedfs, slurm, slurm_nodes, wait_until
from tests.support.requests import upload_settings

Service = Callable[..., AbstractContextManager[str]]
FILE_BYTES = 16_000_000


def two_nodes(service: Service, megabytes: float, files: int) -> None:
    """Measure how long one node and two take to send an asset, each over a limited link.

    Parameters
    ----------
    service : Callable
        Runs a service for a cluster, a store, a bucket and a folder, and returns its address.
    megabytes : float
        How many megabytes a second each node can send.
    files : int
        How many files of 16 MB the asset has.
    """
    size = files * FILE_BYTES
    print(f"\n{size / 1e6:,.0f} MB from nodes that send {megabytes:g} MB/s each\n")
    print(f"{'':38} {'sending, s':>10} {'MB/s':>8} {'whole job, s':>13}   nodes")
    cluster = slurm_nodes.LimitedCluster(nodes=2, cpus=4, megabytes=megabytes)
    cluster.connect()
    try:
        cluster.start()
        s3 = seaweedfs.start(address=cluster.address)
        try:
            taken = [_send_in_shards(service, cluster, s3, files, shards) for shards in (1, 2)]
        finally:
            s3.stop()
    finally:
        cluster.stop()
    sending, whole = (one / two for one, two in zip(*taken))
    print(f"{'two nodes are so many times as fast':38} {sending:10.2f} {'':8} {whole:13.2f}")


def _send_in_shards(
    service: Service,
    cluster: slurm.SlurmCluster,
    s3: seaweedfs.SeaweedFS,
    files: int,
    shards: int,
) -> tuple[float, float]:
    """Send an asset, print what that took, and return the seconds of sending and of all of it."""
    bucket = s3.create_bucket(f"recordings-{shards}")
    with tempfile.TemporaryDirectory(dir=cluster.folder) as name:
        folder, source = Path(name) / "service", Path(name) / "Behavior"
        (folder / "logs").mkdir(parents=True)
        source.mkdir()
        for number in range(files):
            (source / f"{number:03}.bin").write_bytes(os.urandom(FILE_BYTES))
        more = {"HPC_SHARDS": str(shards), "HPC_PYTHON": sys.executable}
        with service(cluster, s3, bucket, folder, **more) as url:
            job = {"upload_job_settings": upload_settings(source), "hpc_settings": "{}"}
            answer = httpx.post(f"{url}/api/submit_hpc_jobs", json={"jobs": [job | {"script": ""}]})
            assert answer.status_code == 200, answer.text[:500]
            job_id = answer.json()["data"]["responses"][0]["job_id"]
            nodes: set[str] = set()

            def ended() -> dict[str, Any] | None:
                found = httpx.get(f"{url}/api/jobs/{job_id}").json()["data"]["job"]
                nodes.update(filter(None, (found["node"] or "").split(",")))
                return found if found["ended_at"] else None

            found = wait_until(ended, 600, "the job's end")
        assert found["state"] == "COMPLETED", found["reason"]
        everything = _moments(folder / "logs", "*.events.jsonl")
        senders = _moments(folder / "logs", "*.shards.*.events.jsonl") if shards > 1 else everything
    sending = [moment for step, moment in senders if step == "transfer"]
    seconds = max(sending) - min(sending)
    moments = [moment for _, moment in everything]
    whole = max(moments) - min(moments)
    rate = files * FILE_BYTES / 1e6 / seconds
    label = "one node" if shards == 1 else f"{shards} shards"
    print(f"{label:38} {seconds:10.1f} {rate:8.1f} {whole:13.1f}   {', '.join(sorted(nodes))}")
    return seconds, whole


def _moments(folder: Path, pattern: str) -> list[tuple[str, float]]:
    """Return the step and the time of each event that jobs reported."""
    events = [
        json.loads(line) for path in folder.glob(pattern) for line in path.read_text().splitlines()
    ]
    return [(one["step"], datetime.fromisoformat(one["time"]).timestamp()) for one in events]
