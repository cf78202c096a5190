"""The jobs: a list of them, one of them, its log, and what can be done to it."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.models import Job, event_to_json, job_to_json, others_to_json
from aind_data_transfer_service.jobs.resubmission import suggested_limits
from aind_data_transfer_service.jobs.states import ENDED, JobState
from aind_data_transfer_service.jobs.store.job_store import JobQuery
from aind_data_transfer_service.jobs.store.tables import SORTABLE
from aind_data_transfer_service.server.dependencies import Manager, Settings
from aind_data_transfer_service.server.json_body import OptionalJsonRoute
from aind_data_transfer_service.server.log_ranges import read_log
from aind_data_transfer_service.server.responses import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import MOST_SHARDS
from aind_data_transfer_service.slurmrest.job_properties import read_property

PAGE_SIZES = (25, 50, 100, 200)
LOG_BYTES = 256 * 1024
SORT_HINT = ", ".join(SORTABLE)
StateName: Any = Literal[("", *(state.value for state in JobState))]

router = APIRouter(
    prefix="/api/jobs",
    tags=["Jobs"],
    responses=DOCUMENTED_ERRORS,
    route_class=OptionalJsonRoute,
)


def job_query(
    settings: Settings,
    state: Annotated[list[StateName], Query(max_length=20)] = [],
    text: Annotated[str, Query(max_length=200, description="Part of any name in a job.")] = "",
    submitter: Annotated[str, Query(max_length=200)] = "",
    since: Annotated[str, Query(description="Date or time; a date begins in the lab.")] = "",
    until: Annotated[str, Query(description="Date or time; a date counts to its end.")] = "",
    sort: Annotated[str, Query(description=f"One of {SORT_HINT}.")] = "submitted_at",
    order: Literal["asc", "desc"] = "desc",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobQuery:
    """Read which jobs are asked for."""
    if sort not in SORTABLE:
        raise HTTPException(422, f'sort: "{sort}" is no column to sort by; take one of {SORT_HINT}')
    zone = ZoneInfo(settings.lab_timezone)
    return JobQuery(
        states=tuple(JobState(one) for one in state if one),
        text=text.replace("\0", "").strip(),
        submitter=submitter.replace("\0", "").strip(),
        since=_moment("since", since, zone, end=False),
        until=_moment("until", until, zone, end=True),
        sort=sort,
        descending=order == "desc",
        page=page,
        page_size=page_size,
    )


Wanted = Annotated[JobQuery, Depends(job_query)]


def _check_limit(value: Any, info: ValidationInfo) -> Any:
    """Check a limit as `hpc_settings` are checked, and return it as it was written."""
    if value not in (None, ""):
        try:
            read_property(str(info.field_name), value)
        except ValueError as error:
            raise PydanticCustomError("limit", "{words}", {"words": str(error)}) from error
    return value


Limit = Annotated[Any, PlainValidator(_check_limit, json_schema_input_type=int | str | None)]
_MEGABYTES = "Megabytes, or a size such as 16G."


class Limits(BaseModel):
    """What a job that is submitted again asks for otherwise; null is the default."""

    model_config = ConfigDict(extra="forbid")

    time_limit: Limit = Field(
        default=None, description="Minutes, or a time such as 02:00:00 or 1-12:00:00."
    )
    memory_per_cpu: Limit = Field(default=None, description=_MEGABYTES)
    memory_per_gpu: Limit = Field(default=None, description=_MEGABYTES)
    memory_per_node: Limit = Field(default=None, description=_MEGABYTES)


@router.get("", response_model=Envelope)
async def list_jobs(manager: Manager, query: Wanted) -> EnvelopeResponse:
    """List jobs: filtered, sorted, a page of them; with how many there are in each state.

    `others` are jobs on the cluster that this service did not start: they are listed as they stand,
    and nothing here is done to them. Where nothing answers where the jobs run, `silent_since` says
    since when; the jobs are listed as they stood then.
    """
    found, counts = await asyncio.gather(
        manager.store.in_thread(manager.store.find, query),
        manager.store.in_thread(manager.store.counts),
    )
    data = {
        "jobs": [job_to_json(job) for job in found.jobs],
        "total": found.total,
        "page": query.page,
        "page_size": query.page_size,
        "counts": {state.value: counts.get(state, 0) for state in JobState},
        "others": others_to_json(manager.others),
        "silent_since": since.isoformat() if (since := manager.silent_since) else None,
    }
    return EnvelopeResponse("Jobs", data)


@router.get("/{job_id}", response_model=Envelope)
async def get_job(job_id: str, manager: Manager, settings: Settings) -> EnvelopeResponse:
    """Show one job and its timeline.

    `suggested_limits` has the time limit (minutes) and the memory (megabytes) with which to submit
    an ended job of a cluster again: as before, or twice what it ran out of, but not more than its
    partitions allow. Null is the default. `limit_notes` has a sentence for each of the two of which
    a partition allows less than that: what it allows. `asked_limits` has those that the job asked
    for, or that the site set for it; default memory only if the cluster is known to take it: the
    job is sent without it otherwise.
    """
    job = await manager.store.in_thread(manager.store.get, job_id)
    events = await manager.store.in_thread(manager.store.events, job_id)
    offer = await offered_limits(job, manager, settings)
    data: dict[str, Any] = {
        "job": job_to_json(job, full=True),
        "events": [event_to_json(event) for event in events],
        "suggested_limits": offer.suggested,
        "asked_limits": offer.asked,
        "limit_notes": offer.notes,
    }
    return EnvelopeResponse("Job", data)


@dataclass(frozen=True)
class LimitOffer:
    """The limits with which an ended job of a cluster can be submitted again; empty for others."""

    suggested: Mapping[str, int | None] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


async def offered_limits(job: Job, manager: JobManager, settings: ServiceSettings) -> LimitOffer:
    """Suggest limits for a job that is submitted again, as far as its partitions allow."""
    if not settings.on_cluster or job.state not in ENDED:
        return LimitOffer()
    asked = manager.asked_limits(job)
    if asked is None:
        return LimitOffer()
    limits = suggested_limits(job, asked, settings.hpc)
    capped = await manager.cap_limits(job, limits, asked)
    return LimitOffer(capped.limits, asked, capped.notes)


@router.get("/{job_id}/log", response_model=Envelope)
async def get_log(
    job_id: str,
    manager: Manager,
    stream: Literal["stdout", "stderr"] = "stderr",
    offset: Annotated[
        int, Query(ge=-(2**53), le=2**53, description="Negative: from the end.")
    ] = -LOG_BYTES,
    limit: Annotated[int, Query(ge=1, le=LOG_BYTES)] = LOG_BYTES,
    shard: Annotated[int, Query(ge=0, le=MOST_SHARDS, description="0: the job itself.")] = 0,
) -> EnvelopeResponse:
    """Read a range of what a job wrote to `stdout` or `stderr`, in bytes.

    While the job runs, the last line is returned when it is complete. A job on a cluster may be cut
    into `shards`, each of which has a log of its own.
    """
    piece = await read_log(manager, job_id, stream, offset, limit, shard)
    return EnvelopeResponse("Log", asdict(piece))


@router.post("/{job_id}/cancel", response_model=Envelope)
async def cancel_job(job_id: str, manager: Manager) -> EnvelopeResponse:
    """Stop a job, or take it out of the queue."""
    job = await manager.cancel(job_id)
    return EnvelopeResponse("Cancellation requested", {"job": job_to_json(job)})


@router.post("/{job_id}/resubmit", response_model=Envelope)
async def resubmit_job(
    job_id: str, manager: Manager, limits: Limits | None = None
) -> EnvelopeResponse:
    """Submit an ended job once more, as a new job; what has arrived already is not sent again.

    On a cluster the new job can have another time limit and more memory. They are checked as those
    of a submission. A body that is not sent as JSON is ignored.
    """
    changes = limits.model_dump(exclude_unset=True) if limits is not None else {}
    job = await manager.resubmit(job_id, changes)
    return EnvelopeResponse("Submitted the job again", {"job": job_to_json(job)})


@router.post("/{job_id}/analysis", response_model=Envelope)
async def retry_analysis(job_id: str, manager: Manager) -> EnvelopeResponse:
    """Have Code Ocean take the asset of a finished job, and run what was asked for.

    What is there already is used again, so nothing is registered or started twice. The answer comes
    at once; the job's `analysis` tells how it goes.
    """
    job = await manager.retry(job_id, "analysis")
    return EnvelopeResponse("Code Ocean is being asked", {"job": job_to_json(job)})


@router.post("/{job_id}/registration", response_model=Envelope)
async def retry_registration(job_id: str, manager: Manager) -> EnvelopeResponse:
    """Post `metadata.nd.json` of a finished job to the hook for registration once more."""
    job = await manager.retry(job_id, "registration")
    return EnvelopeResponse("The metadata are being registered", {"job": job_to_json(job)})


def _moment(name: str, text: str, zone: ZoneInfo, end: bool) -> datetime | None:
    """Read a bound of a span of time; what names no zone is the lab's."""
    text = text.strip()
    if not text:
        return None
    try:
        if len(text) == 10:
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            return datetime.combine(day, time(), zone).astimezone(UTC)
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        said = f'{name}: "{text}" is no date; write one such as 2024-02-19 or 2024-02-19T11:25:17'
        raise HTTPException(422, said) from None
