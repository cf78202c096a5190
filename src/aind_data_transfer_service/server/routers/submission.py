"""Submitting jobs: all of a request's jobs, or none of them."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from aind_data_transfer_service.jobs.json_text import MOST_CHARACTERS
from aind_data_transfer_service.jobs.manager import HpcJobRequest, Submission
from aind_data_transfer_service.jobs.validation.requests import LONGEST_SCRIPT
from aind_data_transfer_service.server.dependencies import Figures, Manager
from aind_data_transfer_service.server.exception_handlers import MALFORMED
from aind_data_transfer_service.server.json_body import JobsRoute
from aind_data_transfer_service.server.metrics import Metrics
from aind_data_transfer_service.server.responses import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)
from aind_data_transfer_service.server.templating import is_partial, render_fragment

router = APIRouter(prefix="/api", tags=["Submission"], route_class=JobsRoute)


JobText = Annotated[StrictStr, Field(max_length=MOST_CHARACTERS)]


class BasicJobs(BaseModel):
    """Jobs, each as JSON text of its upload settings."""

    jobs: Annotated[list[JobText], Field(min_length=1)]


class HpcJob(BaseModel):
    """One job, with settings of its own for the machine that runs it."""

    model_config = ConfigDict(extra="forbid")

    upload_job_settings: JobText = Field(
        description="JSON text of the upload settings; `{}` runs the script alone."
    )
    hpc_settings: JobText = Field(
        default="{}",
        description="JSON text of an object: `name`, `mail_user`, `mail_type`, … for the cluster.",
    )
    script: StrictStr = Field(
        default="", max_length=LONGEST_SCRIPT, description="Empty: the data transfer job."
    )


class HpcJobs(BaseModel):
    """Jobs with settings for the machine that runs them."""

    jobs: Annotated[list[HpcJob], Field(min_length=1)]


@router.post("/submit_basic_jobs", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def submit_basic_jobs(
    http: Request, request: BasicJobs, manager: Manager, metrics: Figures
) -> Response:
    """Submit jobs, each as JSON text of its upload settings.

    `data.responses` has an entry for each job, with its `job_id`. One bad job, and none is
    submitted: `data.errors` names every error of every job.
    """
    submission = await manager.submit_basic(request.jobs)
    return _answer(http, "submit_basic_jobs", submission, metrics)


@router.post("/submit_hpc_jobs", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def submit_hpc_jobs(
    http: Request, request: HpcJobs, manager: Manager, metrics: Figures
) -> Response:
    """Submit jobs with settings for the machine that runs them, or with scripts of their own."""
    items = [HpcJobRequest(j.upload_job_settings, j.hpc_settings, j.script) for j in request.jobs]
    return _answer(http, "submit_hpc_jobs", await manager.submit_hpc(items), metrics)


def _answer(http: Request, route: str, submission: Submission, metrics: Metrics) -> Response:
    """Say what became of a submission, in the words that scripts rely on."""
    metrics.submissions.labels(route, submission.stage).inc()
    data = {
        "responses": submission.responses,
        "errors": submission.errors,
        "warnings": submission.warnings,
    }
    message, status = "Submitted Jobs.", 200
    if submission.stage == "parse":
        message, status = MALFORMED[f"/api/{route}"], 406
    elif submission.stage == "executor":
        message, status = "There were errors submitting jobs to the hpc.", 500
    else:
        metrics.submitted_jobs.inc(len(submission.responses))
    if is_partial(http):
        context = {**data, "message": message}
        return render_fragment(http, "partials/submitted.html", context, status)
    return EnvelopeResponse(message, data, status)
