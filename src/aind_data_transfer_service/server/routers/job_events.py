"""The door for jobs that bring their events themselves, each with a token for its own only."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from aind_data_transfer_service.jobs.event_ingest import Outcome
from aind_data_transfer_service.server.dependencies import Manager
from aind_data_transfer_service.server.responses import EnvelopeResponse, failure
from aind_data_transfer_service.settings.slurm import MOST_SHARDS

router = APIRouter(prefix="/api/jobs", include_in_schema=False)

_STATUS = {Outcome.TAKEN: 200, Outcome.ELSEWHERE: 409, Outcome.OVER: 410}


@router.post("/{job_id}/events")
async def take_events(
    request: Request,
    job_id: str,
    manager: Manager,
    offset: Annotated[int, Query(ge=0, le=2**62, description="Where the piece begins.")],
) -> EnvelopeResponse:
    """Take a piece of a job's file of events: whole lines, and where in the file they begin.

    409 says where the next piece has to begin, 410 that the job has ended: then nothing more is
    wanted.
    """
    if refusal := _refusal(request, job_id, manager):
        return refusal
    try:
        data = await request.body()
    except ClientDisconnect:  # the job was killed while it spoke; nobody hears this
        return failure(400, "Bad Request", ["The request broke off."])
    receipt = await manager.inbox.take(job_id, offset, data)
    errors = [] if receipt.outcome is Outcome.TAKEN else [f"{receipt.outcome.value}."]
    answer = {"offset": receipt.position, "errors": errors}
    return EnvelopeResponse("Events", answer, _STATUS[receipt.outcome])


@router.post("/{job_id}/log")
async def take_log(
    request: Request,
    job_id: str,
    manager: Manager,
    stream: Literal["stdout", "stderr"],
    offset: Annotated[int, Query(ge=0, le=2**62, description="Where the piece begins.")],
    shard: Annotated[int, Query(ge=0, le=MOST_SHARDS, description="0: the job itself.")] = 0,
) -> EnvelopeResponse:
    """Take the end of a job's log, if the service cannot read it itself (`wanted`).

    409 says where the next piece has to begin: what is before that was taken already.
    """
    if refusal := _refusal(request, job_id, manager):
        return refusal
    try:
        data = await request.body()
    except ClientDisconnect:  # the job was killed while it sent
        return failure(400, "Bad Request", ["The request broke off."])
    job = await manager.get(job_id)
    brought = await manager.take_log(job, stream, offset, data, shard)
    if brought is None:
        return EnvelopeResponse("Log", {"wanted": False, "offset": offset})
    answer = {"wanted": True, "offset": brought.position}
    return EnvelopeResponse("Log", answer, 200 if brought.is_taken else 409)


@router.get("/{job_id}/cancel_request")
async def get_cancel_request(request: Request, job_id: str, manager: Manager) -> EnvelopeResponse:
    """Tell a job that is being terminated whether a user asked for it."""
    if refusal := _refusal(request, job_id, manager):
        return refusal
    job = await manager.get(job_id)
    return EnvelopeResponse("Cancel request", {"cancel_requested": bool(job.cancel_requested)})


def _refusal(request: Request, job_id: str, manager: Manager) -> EnvelopeResponse | None:
    """Return the refusal of a request that does not carry the job's token."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and manager.callbacks.admits(job_id, token.strip()):
        return None
    refusal = failure(401, "Unauthorized", ["This is not the token of that job."])
    refusal.headers["WWW-Authenticate"] = "Bearer"
    return refusal
