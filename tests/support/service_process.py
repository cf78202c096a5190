"""The service as an administrator starts it: a process of its own, with its log."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import httpx

from tests.support import free_port, wait_until

APP = "aind_data_transfer_service.server:app"
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL")


def environment_of(**variables: str) -> dict[str, str]:
    """Compose an environment of exactly these variables, and what Python needs."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PYTHONUTF8": "1", **variables}


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `aind-data-transfer-service` to its end, with exactly these variables."""
    return subprocess.run(
        [sys.executable, "-m", "aind_data_transfer_service", *arguments],
        env=environment_of(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def run_service(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected not to start, with exactly these variables."""
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(free_port())]
    return subprocess.run(
        command, env=environment_of(**variables), capture_output=True, text=True, timeout=60
    )


class ServiceProcess:
    """A service on a free port; a context manager.

    Parameters
    ----------
    arguments : Sequence[str]
        Further arguments of uvicorn.
    **variables : str
        All of its environment, besides what Python needs.
    """

    def __init__(self, arguments: Sequence[str] = (), **variables: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", APP, "--port", str(port), *arguments],
            env=environment_of(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="service log", daemon=True)

    @property
    def log(self) -> list[str]:
        """The lines that the service has written so far."""
        return list(self._lines)

    def wait_for_line(self, pattern: str) -> str:
        """Wait for a line of the log that contains a pattern, and return it."""
        return wait_until(
            lambda: next((line for line in self.log if re.search(pattern, line)), None),
            20,
            f"a line with {pattern}",
        )

    def __enter__(self) -> Self:
        self._reader.start()
        try:
            wait_until(self._answers, 20, "the service")
        except AssertionError as error:
            self.__exit__(None, None, None)
            raise AssertionError("\n".join(self.log)) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _answers(self) -> bool:
        """Return whether the service answers."""
        if self._process.poll() is not None:
            raise AssertionError("the service has ended")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/livez", trust_env=False).is_success
        return False

    def _read(self) -> None:
        """Collect the log."""
        for line in self._process.stdout or ():
            self._lines.append(line.rstrip("\n"))
