"""The pages: submit, status, one job, the service itself, help."""

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from aind_data_transfer_service.configs.limits import MAX_FILE_BYTES
from aind_data_transfer_service.configs.vocabulary import MODALITIES, PLATFORMS
from aind_data_transfer_service.jobs.models import (
    job_to_json,
    others_to_json,
    utc_now,
)
from aind_data_transfer_service.jobs.store.job_store import JobQuery
from aind_data_transfer_service.jobs.validation.requests import MAIL_TYPES
from aind_data_transfer_service.plugins import EXECUTORS
from aind_data_transfer_service.server.dependencies import Manager, Settings
from aind_data_transfer_service.server.routers.health import activity, examine, file_warnings
from aind_data_transfer_service.server.routers.jobs import PAGE_SIZES, Wanted
from aind_data_transfer_service.server.template_filters import token_words
from aind_data_transfer_service.server.templating import is_partial, render, root_path
from aind_data_transfer_service.spreadsheets.schema import COLUMNS, PROCESSOR

MAIL_LABELS = {
    "BEGIN": "it begins",
    "END": "it ends",
    "FAIL": "it fails",
    "REQUEUE": "it is queued again",
    "ALL": "all of these",
}

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.api_route("/", methods=["GET", "HEAD"])
async def submit_page(request: Request, settings: Settings) -> Response:
    """Show the page on which jobs are submitted."""
    context = {
        "max_bytes": MAX_FILE_BYTES,
        "mail_types": [(kind, MAIL_LABELS[kind]) for kind in MAIL_TYPES],
        "sends_mail": settings.on_cluster or settings.sends_mail,
    }
    return render(request, "submit.html", context)


@router.api_route("/jobs", methods=["GET", "HEAD"])
async def jobs_page(request: Request, manager: Manager, query: Wanted) -> Response:
    """Show the jobs; for a script of the page, only the list and its counts."""
    store, partial = manager.store, is_partial(request)
    found, counts, submitters = await asyncio.gather(
        store.in_thread(store.find, query),
        store.in_thread(store.counts),
        store.in_thread(lambda: [] if partial else store.submitters()),
    )
    pages = max(1, -(-found.total // query.page_size))
    if query.page > pages:
        query = replace(query, page=pages)
        found = await store.in_thread(store.find, query)
    link = _linker(query, _asked(request))
    is_refresh = request.headers.get("HX-Source") == "div#list"
    context = {
        "jobs": [job_to_json(job) for job in found.jobs],
        "total": found.total,
        "counts": {state.value: count for state, count in counts.items()},
        "submitters": submitters,
        "others": others_to_json(manager.others),
        "silent_since": since.isoformat() if (since := manager.silent_since) else None,
        "query": query,
        "asked": _asked(request),
        "filtered": bool(
            query.states or query.text or query.submitter or query.since or query.until
        ),
        "pages": pages,
        "page_sizes": PAGE_SIZES,
        "link": link,
        "clear_url": link(text="", submitter="", since="", until="", state=[]),
        "announce": not is_refresh,
    }
    if not partial:
        return render(request, "jobs.html", context)
    response = render(request, "partials/jobs.html", context)
    if not is_refresh:
        response.headers["HX-Push-Url"] = (
            f"{root_path(request)}/jobs{link(page=query.page)}".rstrip("?")
        )
    return response


@router.api_route("/service", methods=["GET", "HEAD"])
async def service_page(request: Request, manager: Manager, settings: Settings) -> Response:
    """Show administrators how the service itself is."""
    health = await examine(manager)
    well = "store" not in health.faults
    context = {
        "health": health,
        "file_warnings": await file_warnings(manager),
        "activity": activity(manager),
        "executor": EXECUTORS.label(manager.executor.name),
        "cluster": settings.hpc.url if settings.on_cluster else "",
        "partition": settings.hpc.default_properties.get("partition"),
        "database": settings.resolved_database_url.partition(":")[0].partition("+")[0],
        "destination": settings.destination_root,
        "token": token_words(manager.executor.token_ends, utc_now()),
        "token_ends": (ends := manager.executor.token_ends) and ends.isoformat(),
        "tells": settings.notifications.is_on,
        "waiting": await manager.store.in_thread(manager.store.outbox.waiting) if well else None,
        "counts": await manager.store.in_thread(manager.store.counts) if well else {},
    }
    return render(request, "service.html", context)


@router.api_route("/help", methods=["GET", "HEAD"])
async def help_page(request: Request, settings: Settings) -> Response:
    """Explain how jobs are submitted, column by column."""
    context = {
        "columns": COLUMNS,
        "optional": [] if settings.require_processor_full_name else [PROCESSOR],
        "platforms": PLATFORMS,
        "modalities": MODALITIES,
        "date_order": settings.date_order,
    }
    return render(request, "help.html", context)


def _asked(request: Request) -> dict[str, str]:
    """Repeat what was asked for in words, so that the form shows it again."""
    names = ("text", "submitter", "since", "until")
    return {name: request.query_params.get(name, "") for name in names}


def _linker(query: JobQuery, asked: dict[str, str]) -> Any:
    """Make the maker of links to the same list with something changed."""
    order = "desc" if query.descending else "asc"
    now = {**asked, "sort": query.sort, "order": order, "page_size": query.page_size}
    usual = {"sort": "submitted_at", "order": "desc", "page_size": 50, "page": 1}

    def link(**changes: Any) -> str:
        wanted = now | {"state": [state.value for state in query.states]} | changes
        kept = {k: v for k, v in wanted.items() if v and v != usual.get(k)}
        return "?" + urlencode(kept, doseq=True)

    return link
