"""Changes of jobs, as they happen (server-sent events)."""

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.record import job_to_json
from aind_data_transfer_service.server.routes import Manager

PING_SECONDS = 15

router = APIRouter(prefix="/api", tags=["Jobs"])


@router.get("/jobs/stream", response_class=EventSourceResponse)
async def stream_jobs(manager: Manager) -> EventSourceResponse:
    """Follow all jobs: an event `job` for each change, whose data is the job as JSON.

    An event `ready` comes first: from then on nothing is missed.
    """
    return EventSourceResponse(changes(manager), ping=PING_SECONDS)


async def changes(manager: JobManager) -> AsyncIterator[ServerSentEvent]:
    """Tell of each change of a job for as long as somebody listens."""
    changes = manager.feed.subscribe()
    yield ServerSentEvent(event="ready", data="{}", retry=3000)
    async for job in changes:
        yield ServerSentEvent(event="job", data=json.dumps(job_to_json(job)))
