"""A spreadsheet of jobs: the template for one, and the check of one."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, HTTPException, Request, Response, UploadFile
from pydantic import BaseModel, Field, ValidationError

from aind_data_transfer_service.jobs.manager import FileValidation
from aind_data_transfer_service.server import template_filters
from aind_data_transfer_service.server.dependencies import Figures, Manager
from aind_data_transfer_service.server.file_preview import (
    ROWS_AT_ONCE,
    Entry,
    preview_context,
    preview_row,
)
from aind_data_transfer_service.server.responses import (
    DOCUMENTED_ERRORS,
    Envelope,
    EnvelopeResponse,
)
from aind_data_transfer_service.server.templating import is_partial, render, render_fragment
from aind_data_transfer_service.server.uploaded_file import FileRoute
from aind_data_transfer_service.spreadsheets.template import job_upload_template

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

router = APIRouter(prefix="/api", tags=["Spreadsheets"], route_class=FileRoute)
page_router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.post("/validate_csv", response_model=Envelope, responses=DOCUMENTED_ERRORS)
async def validate_csv(
    request: Request,
    manager: Manager,
    metrics: Figures,
    file: Annotated[UploadFile, File(description="A .csv or .xlsx file of jobs.")],
) -> Response:
    """Check a spreadsheet of jobs, every cell of it, and the world that its jobs need.

    The good rows are listed as `data.jobs` (JSON text, as the submission routes take it) whether
    or not there were errors; `data.rows` holds their row numbers, `data.assets` the names of their
    assets, `data.error_count` the number of errors, and `data.problems` the listed errors taken
    apart into row, column and text.
    """
    with metrics.validation_seconds.time():
        found = await manager.validate_file(file.filename or "", await file.read())
    metrics.validations.labels("errors" if found.errors else "valid").inc()
    if is_partial(request):
        name = file.filename or ""
        return await asyncio.to_thread(_preview, request, found, name)
    return await asyncio.to_thread(_answer, found)  # of a long file, it is long


class MoreRows(BaseModel):
    """Rows of a checked file that the page is to show as well."""

    entries: Annotated[list[Entry], Field(max_length=ROWS_AT_ONCE)]
    shown: int
    total: int


@page_router.post("/preview_rows")
async def preview_rows(request: Request, more: MoreRows) -> Response:
    """Show more rows of a file that was checked before."""
    shown = more.shown + len(more.entries)
    try:
        rows = [preview_row(entry) for entry in more.entries]
    except ValidationError as error:
        raise HTTPException(422, "The rows are not those of a checked file.") from error
    context = {"rows": rows, "shown": shown, "total": more.total}
    return render(request, "partials/more_rows.html", context)


@router.head("/job_upload_template", include_in_schema=False)
@router.get("/job_upload_template", response_class=Response)
async def get_job_upload_template() -> Response:
    """Download the template: a spreadsheet with sample jobs and an explanation of each column."""
    return Response(
        await asyncio.to_thread(job_upload_template),
        media_type=XLSX,
        headers={"Content-Disposition": "attachment; filename=job_upload_template.xlsx"},
    )


def _preview(request: Request, found: FileValidation, name: str) -> Response:
    """Show a checked file on the page."""
    status = 406 if found.errors else 200
    return render_fragment(request, "partials/checked.html", preview_context(found, name), status)


def _answer(found: FileValidation) -> EnvelopeResponse:
    """Tell what was found, as a list and taken apart."""
    data = {
        "jobs": list(found.jobs),
        "errors": list(found.errors),
        "warnings": list(found.warnings),
        "rows": list(found.rows),
        "assets": list(found.assets),
        "error_count": found.error_count,
        "problems": [template_filters.problem(error)._asdict() for error in found.errors],
    }
    if found.errors:
        return EnvelopeResponse("There were errors", data, 406)
    return EnvelopeResponse("Valid Data", data)
