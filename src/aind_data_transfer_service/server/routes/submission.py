"""Submitting jobs: all of a request's jobs, or none of them."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from aind_data_transfer_service.jobs.manager import HpcJobRequest, Submission
from aind_data_transfer_service.server.answers import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)
from aind_data_transfer_service.server.failures import MALFORMED
from aind_data_transfer_service.server.metrics import Metrics
from aind_data_transfer_service.server.routes import Figures, Manager


class JsonRoute(APIRoute):
    """A route that reads a body as JSON, whatever its sender says that it is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make the handler of this route."""
        handle = super().get_route_handler()

        async def read_as_json(request: Request) -> Response:
            """Hand the request on with the type that its body has here."""
            headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
            return await handle(Request({**request.scope, "headers": headers}, request.receive))

        return read_as_json


router = APIRouter(prefix="/api", tags=["Submission"], route_class=JsonRoute)


class BasicJobs(BaseModel):
    """Jobs, each as JSON text of its upload settings."""

    jobs: Annotated[list[StrictStr], Field(min_length=1)]


class HpcJob(BaseModel):
    """One job, with settings of its own for the machine that runs it."""

    model_config = ConfigDict(extra="forbid")

    upload_job_settings: StrictStr = Field(
        description="JSON text of the upload settings; `{}` runs the script alone."
    )
    hpc_settings: StrictStr = Field(
        default="{}",
        description="JSON text of an object: `name`, `mail_user`, `mail_type`, … for the cluster.",
    )
    script: StrictStr = Field(default="", description="Empty: the data transfer job.")


class HpcJobs(BaseModel):
    """Jobs with settings for the machine that runs them."""

    jobs: Annotated[list[HpcJob], Field(min_length=1)]


@router.post("/submit_basic_jobs", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def submit_basic_jobs(
    request: BasicJobs, manager: Manager, metrics: Figures
) -> EnvelopeResponse:
    """Submit jobs, each as JSON text of its upload settings.

    `data.responses` has an entry for each job, with its `job_id`. One bad job, and none is
    submitted: `data.errors` names every error of every job.
    """
    submission = await manager.submit_basic(request.jobs)
    return _answer("submit_basic_jobs", submission, metrics)


@router.post("/submit_hpc_jobs", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def submit_hpc_jobs(request: HpcJobs, manager: Manager, metrics: Figures) -> EnvelopeResponse:
    """Submit jobs with settings for the machine that runs them, or with scripts of their own."""
    items = [HpcJobRequest(j.upload_job_settings, j.hpc_settings, j.script) for j in request.jobs]
    return _answer("submit_hpc_jobs", await manager.submit_hpc(items), metrics)


def _answer(route: str, submission: Submission, metrics: Metrics) -> EnvelopeResponse:
    """Say what became of a submission, in the words that scripts rely on."""
    metrics.submissions.labels(route, submission.stage).inc()
    data = {
        "responses": submission.responses,
        "errors": submission.errors,
        "warnings": submission.warnings,
    }
    if submission.stage == "parse":
        return EnvelopeResponse(MALFORMED[f"/api/{route}"], data, 406)
    if submission.stage == "executor":
        return EnvelopeResponse("There were errors submitting jobs to the hpc.", data, 500)
    metrics.submitted_jobs.inc(len(submission.responses))
    return EnvelopeResponse("Submitted Jobs.", data)
