"""The page of one job: its parts as they change, its log, and what can be done to the job.

The scripts of the page ask for parts of it (`is_partial`). What changes something is asked for by
POST. Errors are answered as by the API.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import Job, event_to_json, job_to_json
from aind_data_transfer_service.jobs.resubmission import suggested_limits
from aind_data_transfer_service.jobs.secret_env import without_values
from aind_data_transfer_service.jobs.states import ENDED
from aind_data_transfer_service.server.dependencies import Manager, Settings
from aind_data_transfer_service.server.log_ranges import LogPiece, read_log
from aind_data_transfer_service.server.routers.jobs import LOG_BYTES, Limits, offered_limits
from aind_data_transfer_service.server.template_filters import LIMIT_LABELS, pretty_json
from aind_data_transfer_service.server.templating import is_partial, render, root_path
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import MEMORY, MOST_SHARDS

router = APIRouter(
    prefix="/jobs/{job_id}", include_in_schema=False, default_response_class=Response
)


@router.api_route("", methods=["GET", "HEAD"])
async def job_page(request: Request, job_id: str, manager: Manager, settings: Settings) -> Response:
    """Show one job: its state, its steps, its log."""
    job = await manager.store.in_thread(manager.store.get, job_id)
    return await _render_job(request, job, manager, settings)


@router.post("/cancel")
async def cancel(request: Request, job_id: str, manager: Manager, settings: Settings) -> Response:
    """Cancel a job, and show it."""
    await manager.cancel(job_id)
    return await job_page(request, job_id, manager, settings)


@router.get("/resubmit")
async def resubmit_form(
    request: Request, job_id: str, manager: Manager, settings: Settings
) -> Response:
    """Show the form for the limits of a job that is submitted again."""
    job = await manager.store.in_thread(manager.store.get, job_id)
    offer = await offered_limits(job, manager, settings)
    notes = [f"{LIMIT_LABELS.get(name, name)}: {text}" for name, text in offer.notes.items()]
    context = {
        "job": job_to_json(job),
        "is_transfer": not job.script,
        "limits": offer.suggested,
        "notes": notes,
        "labels": LIMIT_LABELS,
    }
    return render(request, "partials/limits.html", context)


@router.post("/resubmit")
async def resubmit(request: Request, job_id: str, manager: Manager, settings: Settings) -> Response:
    """Submit a job again, with the limits of the form if there was one, and open its page."""
    job = await manager.store.in_thread(manager.store.get, job_id)
    asked = manager.asked_limits(job) if settings.on_cluster else None
    async with request.form() as form:
        shown = {str(name): _limit(str(text)) for name, text in form.items()}
    changes = _changed_limits(asked or {}, shown)
    try:
        Limits.model_validate(changes)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    new = await manager.resubmit(job_id, changes)
    return Response(headers={"HX-Redirect": f"{root_path(request)}/jobs/{new.id}"})


@router.post("/{step}")
async def retry(
    request: Request,
    job_id: str,
    step: Literal["analysis", "registration"],
    manager: Manager,
    settings: Settings,
) -> Response:
    """Try a step after the upload again, and show the job."""
    job = await manager.retry(job_id, step)
    return await _render_job(request, job, manager, settings)


class LogQuery(BaseModel):
    """What part of a job's log a page asks for."""

    stream: Literal["stdout", "stderr"] = "stderr"
    shard: int = Field(default=0, ge=0, le=MOST_SHARDS)
    offset: int | None = Field(default=None, ge=0, le=2**53)
    """Where the log is read on; None for its end."""
    begin: int = Field(default=0, ge=0, le=2**53)
    """Where the part begins that the page shows already."""
    shards: int = Field(default=0, ge=0, le=MOST_SHARDS)
    """How many shards the page offers already."""
    auto: str = ""
    """Not empty if the shard is chosen here, as the reader has not."""


@router.get("/log")
async def log(
    request: Request, job_id: str, manager: Manager, query: Annotated[LogQuery, Query()]
) -> Response:
    """Show more of a job's log."""
    has_ended = (await manager.get(job_id)).state in ENDED  # nothing is written after this
    shard, offset = query.shard, query.offset
    if query.auto and has_ended and shard:
        shard, offset = 0, None
    piece = await _read(manager, job_id, query.stream, shard, offset)
    if query.auto and not has_ended and not shard and piece.shards and not piece.size:
        shard, offset = 1, None  # the last job of a sharded job waits for the others
        piece = await _read(manager, job_id, query.stream, shard, offset)
    is_first = offset is None
    is_read = piece.next_offset >= piece.size
    context = {
        "job_id": job_id,
        "piece": piece,
        "is_first": is_first,
        "begin": piece.offset if is_first else query.begin,
        "query": query,
        "shard": shard,
        "offers_shards": piece.shards and (is_first or piece.shards != query.shards),
        "is_settled": has_ended and is_read,
        "has_more": bool(piece.text) and not is_read,
    }
    return render(request, "partials/log.html", context)


async def _read(
    manager: JobManager,
    job_id: str,
    stream: Literal["stdout", "stderr"],
    shard: int,
    offset: int | None,
) -> LogPiece:
    """Read a log on from an offset, or its end."""
    start = -LOG_BYTES if offset is None else offset
    return await read_log(manager, job_id, stream, start, LOG_BYTES, shard)


async def _render_job(
    request: Request, job: Job, manager: JobManager, settings: ServiceSettings
) -> Response:
    """Render the page of a job, or the part of it that changes."""
    events = await manager.store.in_thread(manager.store.events, job.id)
    job = await manager.store.in_thread(manager.store.get, job.id)
    context = {
        "job": job_to_json(job),
        "events": [event_to_json(event) for event in events],
        "settings_text": pretty_json(job.upload_job_settings),
        "hpc_text": pretty_json(without_values(job.hpc_settings)),
        "is_transfer": not job.script,
        "limits_form": _has_limits(job, manager, settings),
    }
    template = "partials/job.html" if is_partial(request) else "job.html"
    return render(request, template, context)


def _has_limits(job: Job, manager: JobManager, settings: ServiceSettings) -> bool:
    """Return whether users may set limits of a job when they submit it again."""
    if not settings.on_cluster or job.state not in ENDED:
        return False
    asked = manager.asked_limits(job)
    return asked is not None and bool(suggested_limits(job, asked, settings.hpc))


def _limit(text: str) -> int | str | None:
    """Read a field of the form; an empty one stands for the default."""
    return int(text) if text.isdecimal() and text.isascii() else text or None


def _changed_limits(asked: Mapping[str, int], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from what the job asked for; an empty memory field clears all kinds."""
    changes = {name: value for name, value in shown.items() if value != asked.get(name)}
    if any(name in MEMORY and value is None for name, value in shown.items()):
        changes |= {name: None for name in MEMORY if name in asked}
    return changes
