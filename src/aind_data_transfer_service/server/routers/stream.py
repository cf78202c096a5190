"""Changes of jobs, as they happen (server-sent events): as JSON, and as HTML for the pages."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial

import anyio
from fastapi import APIRouter, HTTPException, Request
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from aind_data_transfer_service.jobs.broadcast import LIST_CHANGED, Subscription
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import Job, job_to_json
from aind_data_transfer_service.server.connection_limits import RETRY_SECONDS
from aind_data_transfer_service.server.dependencies import Manager
from aind_data_transfer_service.server.templating import render_text, root_path

PING_SECONDS = 15
LEAVING_SECONDS = 2
RETRY_MILLISECONDS = 3000

ROWS_CACHED = 1000
READY = "ready"
"""The first event: from then on nothing is missed."""

_SEPARATOR = "\n"
"""The client of the pages takes a CR at the end of a network packet for a line end of its own."""
_READY_EVENT = ServerSentEvent(event=READY, data="{}", sep=_SEPARATOR).encode()
_LIST_EVENT = ServerSentEvent(event=LIST_CHANGED, data="{}", sep=_SEPARATOR).encode()
_CHANGED_EVENT = ServerSentEvent(event="changed", data="{}", sep=_SEPARATOR).encode()

router = APIRouter(tags=["Jobs"])

NewsEvent = Callable[[Job | str], ServerSentEvent | bytes | None]
"""Return what is sent for a changed job or other news; None for nothing."""


@router.get("/api/jobs/stream", response_class=EventSourceResponse)
async def stream_jobs(request: Request, manager: Manager) -> EventSourceResponse:
    """Follow all jobs: an event `job` for each change, whose data is the job as JSON.

    An event `ready` comes first: from then on nothing is missed. An event `others` says that the
    list of jobs that others started has changed. Where a listener falls too far behind, the stream
    ends; connect again, and reload the list. 503 if too many listen already.
    """
    return _stream(request, manager, _json_event)


@router.get("/jobs/stream", include_in_schema=False, response_class=EventSourceResponse)
async def stream_rows(request: Request, manager: Manager, job: str = "") -> EventSourceResponse:
    """Follow all jobs, or one of them, for a page.

    The message for a changed job is its row. An event `list` says that the list has to be read
    again; for the page of one job, an event `changed` that the job has to be.
    """
    if job:
        return _stream(request, manager, partial(_changed_event, job))
    root = root_path(request)
    return _stream(request, manager, partial(_row_event, root), follows_list=True)


def _stream(
    request: Request, manager: JobManager, event: NewsEvent, follows_list: bool = False
) -> EventSourceResponse:
    """Send events for as long as the client listens; 503 if too many listen already."""
    most = request.app.state.connections.limits.streams
    if len(manager.feed) >= most:
        raise HTTPException(
            503,
            f"{most:,} event streams are open, which is the limit. Try again shortly.",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    stopping = anyio.Event()
    return EventSourceResponse(
        changes(manager, manager.feed.subscribe(follows_list), stopping, event),
        ping=PING_SECONDS,
        sep=_SEPARATOR,
        shutdown_event=stopping,
        shutdown_grace_period=LEAVING_SECONDS,
    )


def _json_event(news: Job | str) -> ServerSentEvent:
    """Return the event of the API."""
    if isinstance(news, str):
        retry = RETRY_MILLISECONDS if news == READY else None
        return ServerSentEvent(event=news, data="{}", retry=retry)
    return ServerSentEvent(event="job", data=json.dumps(job_to_json(news)))


def _row_event(root: str, news: Job | str) -> bytes:
    """Return the event for the list of jobs."""
    if isinstance(news, str):
        return _READY_EVENT if news == READY else _LIST_EVENT
    return _row(news, root)


def _changed_event(job_id: str, news: Job | str) -> bytes | None:
    """Return the event for the page of a job."""
    if news == READY:
        return _READY_EVENT
    return _CHANGED_EVENT if isinstance(news, Job) and news.id == job_id else None


@lru_cache(ROWS_CACHED)
def _row(job: Job, root: str) -> bytes:
    """Render the row of a job, once for all listeners."""
    html = render_text("partials/row_update.html", {"job": job_to_json(job), "root": root})
    return ServerSentEvent(data=html, sep=_SEPARATOR).encode()


async def changes(
    manager: JobManager,
    subscription: Subscription,
    stopping: anyio.Event,
    event: NewsEvent = _json_event,
) -> AsyncIterator[ServerSentEvent | bytes]:
    """Yield an event for each change, for as long as the client listens and the service runs."""

    async def leave() -> None:
        """End the subscription when the service stops."""
        await stopping.wait()
        subscription.close()

    leaving = asyncio.create_task(leave(), name="end of a stream")
    try:
        if (first := event(READY)) is not None:
            yield first
        async for news in subscription:
            if (made := event(news)) is not None:
                yield made
    finally:
        leaving.cancel()
        manager.feed.unsubscribe(subscription)
