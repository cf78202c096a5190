"""The application: everything else in this folder, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fastapi_offline
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

import aind_data_transfer_service
from aind_data_transfer_service.concurrency.loop_health import Loop
from aind_data_transfer_service.configs.limits import MAX_FILE_BYTES
from aind_data_transfer_service.executors.base import Guard
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.notifications.notifier import Notifier
from aind_data_transfer_service.redaction import protect_logs
from aind_data_transfer_service.server import exception_handlers, templating
from aind_data_transfer_service.server.connection_limits import (
    ConnectionLimits,
    Connections,
    limited,
    process_limits,
)
from aind_data_transfer_service.server.metrics import Metrics, RequestTimer
from aind_data_transfer_service.server.middleware import (
    BodyLimit,
    CrossSiteGuard,
    HostGuard,
    SecurityHeaders,
)
from aind_data_transfer_service.server.root_path import RootPath
from aind_data_transfer_service.server.routers import (
    docs,
    health,
    job_events,
    job_page,
    jobs,
    pages,
    spreadsheets,
    stream,
    submission,
)
from aind_data_transfer_service.server.shutdown import ended_in_time
from aind_data_transfer_service.server.startup import ReadableStartup
from aind_data_transfer_service.server.trusted_hosts import ServedHosts
from aind_data_transfer_service.server.upload_queue import UploadQueue
from aind_data_transfer_service.settings.service import ServiceSettings

DESCRIPTION = """
Submit recording sessions for upload, and follow them until they are verified at their destination.

Every answer is an envelope: `{"message": …, "data": …}`. Errors come in the same shape, with
`data.errors`, a list of sentences.
"""


class _Application(FastAPI):
    """An application that limits the connections of the server that starts it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let everything through; FastAPI would hide from what is within who the server is."""
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        async with limited(self.state.connections, receive):
            await super().__call__(scope, receive, send)


def create_manager(settings: ServiceSettings, **options: Any) -> JobManager:
    """Make the keeper of the jobs, with what sends the notifications that the settings ask for.

    Parameters
    ----------
    settings : ServiceSettings
        The settings of the service.
    **options : Any
        Further arguments of `JobManager`.
    """
    notifications, zone = settings.notifications, ZoneInfo(settings.lab_timezone)

    def make_notifier(store: JobStore, guard: Guard) -> Loop:
        return Notifier(store, notifications, zone, guard=guard)

    notifier = make_notifier if notifications.is_on else None
    return JobManager(settings, notifier=notifier, **options)


def create_app(
    settings: ServiceSettings | None = None,
    manager: JobManager | None = None,
    limits: ConnectionLimits | None = None,
) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings : ServiceSettings, optional
        Default: read from the environment.
    manager : JobManager, optional
        Keeper of the jobs, started and stopped with the application; default: a new one.
    limits : ConnectionLimits, optional
        What connections may cost; default: what this process has room for.

    Returns
    -------
    FastAPI
        The application, whose manager starts when the application does.
    """
    settings = settings or ServiceSettings()
    protect_logs()
    manager = manager or create_manager(settings)
    app = _Application(
        docs_url=None,
        redoc_url=None,
        title="aind-data-transfer-service",
        version=aind_data_transfer_service.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        strict_content_type=False,
        redirect_slashes=False,  # `failures` redirects where the method is possible
    )
    app.state.settings = settings
    app.state.manager = manager
    app.state.metrics = Metrics()
    app.state.connections = Connections(limits or process_limits())
    assets = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/static-offline-docs", StaticFiles(directory=assets), name="static-offline-docs")
    templating.install(app)
    exception_handlers.install(app)
    for module in (
        spreadsheets,
        submission,
        stream,
        job_events,
        jobs,
        health,
        docs,
        pages,
        job_page,
    ):
        app.include_router(module.router)
    app.include_router(spreadsheets.page_router)
    hosts = ServedHosts(settings.allowed_hosts, settings.own_addresses)
    # The last one added sees a request first.
    app.add_middleware(exception_handlers.Failsafe)
    app.add_middleware(BodyLimit, file_bytes=MAX_FILE_BYTES)
    app.add_middleware(UploadQueue, max_file=MAX_FILE_BYTES)
    app.add_middleware(CrossSiteGuard, hosts=hosts)
    app.add_middleware(HostGuard, hosts=hosts)
    app.add_middleware(RequestTimer, metrics=app.state.metrics)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RootPath, root_path=settings.root_path or "")
    app.add_middleware(exception_handlers.RequestId)
    app.add_middleware(ReadableStartup)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the manager of jobs before the first request, and stop it after the last."""
    with ended_in_time():
        await app.state.manager.start()
        try:
            yield
        finally:
            await app.state.manager.stop()
