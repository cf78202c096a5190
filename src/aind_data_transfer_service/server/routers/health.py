"""Whether the service is well, and what it has counted."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.executors.base import ChecksJobs, ReadsFiles
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.plain_text import first_lines
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.server.dependencies import Figures, Manager
from aind_data_transfer_service.server.responses import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)

HEALTH_SECONDS = 5.0
_MOST_WARNINGS = 5

router = APIRouter(tags=["Service"])


@dataclass(frozen=True)
class Health:
    """How the service's pieces are."""

    faults: Mapping[str, str]
    """By piece, what is wrong with it, in words; empty where all is well."""
    pieces: tuple[str, ...] = ("store", "executor", "lease")

    @property
    def states(self) -> dict[str, str]:
        """Say `ok` or `failed` of each piece."""
        return {name: "failed" if name in self.faults else "ok" for name in self.pieces}


async def examine(manager: JobManager) -> Health:
    """Ask each piece whether it can do its work; none is waited for longer than some seconds."""
    questions = manager.store.in_thread(
        manager.store.ping, pool="probe"
    ), manager.executor.statuses([])
    faults = await asyncio.gather(*map(_ask, Health.pieces, questions))
    found = {name: fault for name, fault in zip(Health.pieces, faults) if fault}
    if not found.get("store") and (why := manager.leader.vacancy):
        found["lease"] = f"No process runs the jobs: {why}."
    return Health(found)


def activity(manager: JobManager) -> dict[str, Any]:
    """Say which process runs the jobs, and since when."""
    leader = manager.leader
    since = leader.active_since
    return {
        "role": "active" if leader.is_active else "standby",
        "active": leader.active_name or None,
        "active_since": since.isoformat(timespec="seconds") if since else None,
    }


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def healthz(manager: Manager) -> EnvelopeResponse:
    """Say whether jobs can be recorded and run: 200, or 503 with what is wrong."""
    health = await examine(manager)
    errors = list(health.faults.values())
    data = {**health.states, **activity(manager), "errors": errors}
    if manager.executor.token_ends is not None:
        data["token_ends"] = manager.executor.token_ends.isoformat()
    if errors:
        return EnvelopeResponse("Unwell", data, 503)
    return EnvelopeResponse("OK", data)


@router.head("/livez", include_in_schema=False)
@router.get("/livez", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def livez() -> EnvelopeResponse:
    """Say that the process answers; if it does not, restart it."""
    return EnvelopeResponse("OK", {})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def readyz(manager: Manager) -> EnvelopeResponse:
    """Say whether this process can do its work: its database answers, and its loops come round.

    A cluster that is away does not count: jobs can be submitted and looked at meanwhile. Nor does
    it count that another process runs the jobs: `role` says so. `warnings` names the defaults of
    jobs that the cluster does not take (jobs that replace them can be submitted), and the files of
    jobs that the service cannot read.
    """
    errors = [f'The loop "{name}" has not come round.' for name in manager.late_loops]
    if fault := await _ask("store", manager.store.in_thread(manager.store.ping, pool="probe")):
        errors.append(fault)
    warnings = [*_default_problems(manager), *await file_warnings(manager)]
    data = {**activity(manager), "warnings": warnings}
    if errors:
        return EnvelopeResponse("Not ready", {**data, "errors": errors}, 503)
    return EnvelopeResponse("OK", data)


def _default_problems(manager: JobManager) -> list[str]:
    """Return which settings of all jobs whoever runs them does not take."""
    executor = manager.executor
    return list(executor.default_problems()) if isinstance(executor, ChecksJobs) else []


async def file_warnings(manager: JobManager) -> list[str]:
    """Say which files of jobs cannot be read: the latest few, and how many there are."""
    if not isinstance(manager.executor, ReadsFiles):
        return []
    found = [redact(problem) for problem in await manager.executor.file_problems()]
    return first_lines(found, _MOST_WARNINGS, "job", "jobs")


@router.get("/metrics", response_class=Response)
async def metrics(manager: Manager, figures: Figures) -> Response:
    """Show the service's figures to Prometheus."""
    figures.set_token(manager.executor.token_ends)
    figures.set_jobs(await manager.store.in_thread(manager.store.counts))
    figures.notices.set(await manager.store.in_thread(manager.store.outbox.waiting))
    return Response(figures.page(), media_type=CONTENT_TYPE_LATEST)


async def _ask(name: str, question: Awaitable[Any]) -> str:
    """Say what is wrong with a piece, if anything; only words for people are passed on."""
    try:
        await asyncio.wait_for(question, HEALTH_SECONDS)
    except TransferServiceError as error:
        return str(error)
    except Exception:  # whatever it is, there is no answer
        return f"The {name} does not answer."
    return ""
