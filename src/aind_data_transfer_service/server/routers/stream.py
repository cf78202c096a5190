"""Changes of jobs, as they happen (server-sent events)."""

import asyncio
import json
from collections.abc import AsyncIterator

import anyio
from fastapi import APIRouter, HTTPException, Request
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from aind_data_transfer_service.jobs.broadcast import Subscription
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import job_to_json
from aind_data_transfer_service.server.connection_limits import RETRY_SECONDS
from aind_data_transfer_service.server.dependencies import Manager

PING_SECONDS = 15
LEAVING_SECONDS = 2
RETRY_MILLISECONDS = 3000

router = APIRouter(prefix="/api", tags=["Jobs"])


@router.get("/jobs/stream", response_class=EventSourceResponse)
async def stream_jobs(request: Request, manager: Manager) -> EventSourceResponse:
    """Follow all jobs: an event `job` for each change, whose data is the job as JSON.

    An event `ready` comes first: from then on nothing is missed. An event `others` says that the
    list of jobs that others started has changed. Where a listener falls too far behind, the stream
    ends; connect again, and read the list anew. 503 if too many listen already.
    """
    most = request.app.state.connections.limits.streams
    if len(manager.feed) >= most:
        raise HTTPException(
            503,
            f"{most:,} event streams are open, which is the limit. Try again shortly.",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    stopping = anyio.Event()
    return EventSourceResponse(
        changes(manager, manager.feed.subscribe(), stopping),
        ping=PING_SECONDS,
        shutdown_event=stopping,
        shutdown_grace_period=LEAVING_SECONDS,
    )


async def changes(
    manager: JobManager, subscription: Subscription, stopping: anyio.Event
) -> AsyncIterator[ServerSentEvent]:
    """Tell of each change of a job, for as long as somebody listens and the service runs."""

    async def leave() -> None:
        """End the subscription when the service stops."""
        await stopping.wait()
        subscription.close()

    leaving = asyncio.create_task(leave(), name="end of a stream")
    try:
        yield ServerSentEvent(event="ready", data="{}", retry=RETRY_MILLISECONDS)
        async for news in subscription:
            if isinstance(news, str):
                yield ServerSentEvent(event=news, data="{}")
            else:
                yield ServerSentEvent(event="job", data=json.dumps(job_to_json(news)))
    finally:
        leaving.cancel()
        manager.feed.unsubscribe(subscription)
