"""The web service as a process of its own, with a folder of its own, on this machine only."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
from tzlocal import get_localzone_name

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.settings.env_policy import shared_variables
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.unknown_variables import own_prefixes
from aind_data_transfer_service.settings.upload import UploadSettings

DEFAULT_PORT = 5000
SETTINGS = "settings.toml"
"""An empty settings file, so that none of another service is read."""
LAB_FOLDER = "lab_metadata"
"""Where the lab's documents lie, beneath the demo's folder."""
_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class DemoError(TransferServiceError):
    """The demo cannot go on; says why, and what would help."""


def choose_port(wanted: int | None = None) -> int:
    """Take the wanted port; with none wanted, 5000 where it is free and else any that is.

    Raises
    ------
    DemoError
        Where a port was asked for by number and something listens there already.
    """
    for port in (DEFAULT_PORT, 0) if wanted is None else (wanted,):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((_HOST, port))
            return int(listener.getsockname()[1])
    raise DemoError(f"port {wanted} is not free; choose another, or leave --port out")


def service_environment(folder: Path) -> dict[str, str]:
    """Compose the service's environment: the user's own, without any setting of another service."""
    ours = {
        name.upper() for model in (ServiceSettings, UploadSettings) for name in model.model_fields
    }
    ours |= shared_variables()
    foreign = ("AWS_", *own_prefixes())
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in ours and not name.upper().startswith(foreign)
    }
    environment.update(
        DATA_DIR=str(folder / "service"),
        DESTINATION=str(folder / "destination"),
        INSTITUTION="Other",
        LAB_TIMEZONE=get_localzone_name(),
        SETTINGS_FILE=str(folder / SETTINGS),
        MONITOR_INTERVAL="0.2",
        PYTHONUNBUFFERED="1",
    )
    if (folder / LAB_FOLDER).is_dir():
        environment["METADATA_FOLDER"] = str(folder / LAB_FOLDER)
    return environment


class DemoService:
    """A running service; use it as a context."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://{_HOST}:{port}"
        self.log_file = folder / "service.log"
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DemoService":
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / SETTINGS).touch()
        lock = self._lock()
        try:
            self._process = self._spawn(service_environment(self._folder), lock)
        finally:
            os.close(lock)  # the service itself holds it from here on
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _lock(self) -> int:
        """Claim the folder; a service holds the claim for as long as it lives."""
        lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            where = os.read(lock, 200).decode("utf-8", "replace")
            os.close(lock)
            raise DemoError(
                f"a demo lives in {self._folder} already ({where}); "
                "end it with Ctrl-C there, or choose another folder with --folder"
            ) from error
        return lock

    def _spawn(self, environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "aind_data_transfer_service.server:app"]
        command += ["--host", _HOST, "--port", str(self._port)]
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C is for the demo, which then ends the service in order.
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        os.ftruncate(lock, 0)
        os.write(lock, f"{self.url}, process {process.pid}".encode())
        return process

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if not self.alive:
                raise DemoError(f"the service did not start; {self._last_words()}")
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", timeout=2.0, trust_env=False).is_success:
                    return
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the service was not up after {_START_SECONDS:g} s; {self._last_words()}"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"its log {self.log_file} ends with: {lines[-1] if lines else '(nothing)'}"

    @property
    def alive(self) -> bool:
        """Whether the service's process runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Stay until the service ends."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End the service in order; end it by force where that takes too long."""
        if self._process is None or not self.alive:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
