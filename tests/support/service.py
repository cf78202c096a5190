"""A real service on a free port of the loopback interface, in a thread of the test's process."""

import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from aind_data_transfer_service.jobs.completion_evidence import Patience
from aind_data_transfer_service.server import create_app
from aind_data_transfer_service.server.application import create_manager
from aind_data_transfer_service.server.connection_limits import ConnectionLimits
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import wait_until

LAB = "America/Los_Angeles"


class Service:
    """The service, with a data folder of its own in `folder`; a context manager.

    Parameters
    ----------
    port : int
        Where it listens; 0 for any port that is free.
    limits : ConnectionLimits, optional
        Of its connections; by default as usual.
    patience : Patience
        How long evidence is waited for of an end that only a scheduler reports.
    **settings
        Fields of `ServiceSettings` that are not as usual.
    """

    def __init__(
        self,
        port: int = 0,
        limits: ConnectionLimits | None = None,
        patience: Patience = Patience(),
        **settings: Any,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="service-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.data_dir = self.folder / "service"
        usual: dict[str, Any] = {
            "data_dir": self.data_dir,
            "lab_timezone": LAB,
            "monitor_interval": 0.1,
        }
        self.settings = ServiceSettings(**(usual | settings))
        self.manager = create_manager(self.settings, patience=patience)
        self.app = create_app(self.settings, self.manager, limits)
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="service", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), 20, "the service")
        if not self._server.started:
            raise AssertionError("the service did not start; its log says why")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        alive = self._thread.is_alive()
        self._folder.cleanup()
        if alive:
            raise AssertionError("the service did not stop in 30 s")
