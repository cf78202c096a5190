"""Whether the service is well, and what it has counted."""

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.server.answers import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)
from aind_data_transfer_service.server.routes import Figures, Manager

HEALTH_SECONDS = 5.0

router = APIRouter(tags=["Service"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def healthz(manager: Manager) -> EnvelopeResponse:
    """Say whether jobs can be recorded and run: 200, or 503 with what is wrong."""
    pieces = {
        "store": asyncio.to_thread(manager.store.ping),
        "executor": manager.executor.statuses([]),
    }
    results = await asyncio.gather(
        *(asyncio.wait_for(piece, HEALTH_SECONDS) for piece in pieces.values()),
        return_exceptions=True,
    )
    faults = {
        name: _fault(name, result)
        for name, result in zip(pieces, results)
        if isinstance(result, BaseException)
    }
    errors = list(faults.values())
    data = {**{name: "failed" if name in faults else "ok" for name in pieces}, "errors": errors}
    if manager.executor.token_ends is not None:
        data["token_ends"] = manager.executor.token_ends.isoformat()
    if errors:
        return EnvelopeResponse("Unwell", data, 503)
    return EnvelopeResponse("OK", data)


@router.get("/metrics", response_class=Response)
async def metrics(manager: Manager, figures: Figures) -> Response:
    """Show the service's figures to Prometheus."""
    figures.set_token(manager.executor.token_ends)
    figures.set_jobs(await asyncio.to_thread(manager.store.counts))
    figures.notices.set(await asyncio.to_thread(manager.store.outbox.waiting))
    return Response(figures.page(), media_type=CONTENT_TYPE_LATEST)


def _fault(name: str, error: BaseException) -> str:
    """Say what is wrong with a piece; only words that were written for people are passed on."""
    if isinstance(error, TransferServiceError):
        return str(error)
    return f"The {name} does not answer."
