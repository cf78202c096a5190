"""What a person or a program is told when a request cannot be answered.

Every failure ends here, in an envelope (or, for a browser that asked for a page, on a page). A
fault of our own is logged with an id, and only the id is shown.
"""

import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.configs.error_messages import MOST_ERRORS, first_errors
from aind_data_transfer_service.configs.vocabulary import limited_hints, nearest
from aind_data_transfer_service.errors import (
    ExecutorError,
    JobError,
    JobNotFound,
    SpreadsheetError,
    SubmissionError,
    TransferServiceError,
    UnavailableError,
)
from aind_data_transfer_service.logging_config import REQUEST_ID
from aind_data_transfer_service.redaction import redact_all
from aind_data_transfer_service.server.responses import EnvelopeResponse, failure
from aind_data_transfer_service.server.templating import (
    is_partial,
    render,
    root_path,
    route_path,
)
from aind_data_transfer_service.settings.slurm import MEMORY
from aind_data_transfer_service.slurmrest.job_properties import property_meant

logger = logging.getLogger(__name__)

STATUS_OF_ERRORS: tuple[tuple[type[TransferServiceError], int], ...] = (
    (JobNotFound, 404),
    (JobError, 409),
    (SpreadsheetError, 406),
    (SubmissionError, 406),
    (ExecutorError, 502),
    (UnavailableError, 503),
    (TransferServiceError, 500),
)
"""The first class that fits decides."""

RETRY_AFTER = "10"
"""Seconds after which a client may try again what the service cannot do now."""

MALFORMED = {
    "/api/validate_csv": "There were errors",
    "/api/submit_basic_jobs": "There were errors parsing the basic job configs",
    "/api/submit_hpc_jobs": "There were errors parsing the job configs",
}
"""What a body that cannot be understood is answered with, with status 406 as any other bad job."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_JSON_TEXT = "write it as JSON text, as model_dump_json() and json.dumps() make it"
_LIMITS = ("time_limit", *sorted(MEMORY))
"""What the body of a request can hold that submits a job again."""
_WORDS = {
    "missing": "is missing",
    "list_type": "is no list",
    "too_short": "is empty; send at least one job",
    "model_attributes_type": "is no JSON object",
    "value_error": "is no file; send one as multipart/form-data, with its name",
    "string_unicode": "holds half a character (a lone surrogate)",
}


def install(app: FastAPI) -> None:
    """Have every failure of `app` end here."""
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(TransferServiceError)(_ours)
    for kind in (InterfaceError, OperationalError, PoolTimeout):
        app.exception_handler(kind)(_no_database)


class RequestId:
    """Gives each request a reference, which all log lines that are written meanwhile have."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, in a context that has its reference."""
        if scope["type"] == "http":
            REQUEST_ID.set(secrets.token_hex(4))
        await self.app(scope, receive, send)


class Failsafe:
    """Answers a request that ran into a fault of ours, and logs the fault once."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand around `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through; where it raises, answer in its stead."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            reference = REQUEST_ID.get() or secrets.token_hex(4)
            fields = {"method": scope.get("method"), "path": scope.get("path")}
            logger.exception("request failed", extra=fields | {"request_id": reference})
            if started:  # half an answer is out: breaking off is the only way to say so
                raise
            response = _fault_response(Request(scope), reference)
            await response(scope, receive, send)


def sentences(errors: Iterable[Any]) -> list[str]:
    """Turn the places and messages of a malformed request into sentences.

    Examples
    --------
    >>> sentences([{"loc": ("body", "jobs", 1, "script"), "msg": "…", "type": "missing"}])
    ['job 2, script: is missing']
    """
    return [_sentence(error) for error in errors]


def _sentence(error: Any) -> str:
    """Name the place of one error as a person would."""
    place = [part for part in error["loc"] if part not in ("body", "query", "path")]
    if error.get("type") == "json_invalid":
        detail = error.get("ctx", {}).get("error", "")
        return f"the request is no JSON: {detail} at character {error['loc'][-1]}"
    if len(place) > 1 and place[0] == "jobs" and isinstance(place[1], int):
        place[:2] = [f"job {place[1] + 1}"]
    name = ", ".join(str(part) for part in place) or "the request"
    kind = error.get("type")
    if kind == "over_limit":
        return str(error["msg"])
    if kind == "string_too_long":
        return f"{name}: is longer than {error['ctx']['max_length']:,} characters"
    if kind == "string_type":
        is_script = bool(place) and place[-1] == "script"
        return f"{name}: {'is no text' if is_script else 'is no text; ' + _JSON_TEXT}"
    if kind == "extra_forbidden":
        return f"{name}: {_unknown_field(error['loc'])}"
    return f"{name}: {_WORDS.get(kind, error['msg'])}"


def _unknown_field(place: Sequence[str | int]) -> str:
    """Say which fields there are: those of a job, or the limits of one that is submitted again."""
    if "jobs" in place[:-1]:
        return "is not known; a job has upload_job_settings, hpc_settings and script"
    meant = property_meant(str(place[-1]))
    guess = meant if meant in _LIMITS else nearest(str(place[-1]), _LIMITS)
    hint = f"did you mean {guess}? The" if guess else "the"
    return f"is not known; {hint} fields are {', '.join(_LIMITS)}"


_OTHER_API = re.compile(r"/api/v\d+(/|$)")
"""Routes of other services that clients of this one may know."""


async def _refused(request: Request, error: HTTPException) -> Response:
    """Answer 404, 405, 413 and the like."""
    phrase = HTTPStatus(error.status_code).phrase
    detail = str(error.detail)
    if error.status_code == 400 and (message := MALFORMED.get(_route(request))):
        return _bad_jobs(request, message, [f"the request cannot be read: {detail}"])
    if error.status_code == 404 and detail == phrase:
        detail = f"There is nothing at {request.scope['path']}."
        if _OTHER_API.match(request.scope["path"]):
            detail += (
                " This service has no versions of its API in the path: submit jobs to "
                "/api/submit_basic_jobs or /api/submit_hpc_jobs; /docs lists all routes."
            )
    headers = dict(error.headers or {})
    path = request.scope["path"]
    if error.status_code == 405:
        return _wrong_method(request, _possible_methods(request, path), headers)
    if error.status_code == 404 and "route" not in request.scope:
        path = path.rstrip("/") if path.endswith("/") else f"{path}/"
        methods = _possible_methods(request, path)
        if request.method in methods:
            return RedirectResponse(URL(scope={**request.scope, "path": path}))
        if methods:
            return _wrong_method(request, methods, headers)
    response = refusal(request, error.status_code, phrase, [detail])
    response.headers.update(headers)
    return response


def _wrong_method(request: Request, methods: list[str], headers: dict[str, str]) -> Response:
    """Answer a request with a method that is not possible at its path."""
    if methods:
        headers["Allow"] = ", ".join(methods)
    use = headers.get("Allow", "").replace(", ", " or ")
    detail = f"{request.method} is not possible at {request.scope['path']}." + (
        f" Use {use}." if use else ""
    )
    response = refusal(request, 405, HTTPStatus(405).phrase, [detail])
    response.headers.update(headers)
    return response


def _possible_methods(request: Request, path: str) -> list[str]:
    """Return the methods of all routes at a path, which may be several routes."""
    asked = {
        "type": "http",
        "path": path,
        "root_path": root_path(request),
        "headers": [],
    }
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    return [
        method
        for method in _METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _malformed(request: Request, error: RequestValidationError) -> Response:
    """Answer a request of the wrong shape, all of its errors at once."""
    with limited_hints(MOST_ERRORS):
        errors = first_errors(sentences(error.errors()))
    if message := MALFORMED.get(_route(request)):
        return _bad_jobs(request, message, errors)
    return refusal(request, 422, "The request could not be understood", errors)


def _bad_jobs(request: Request, message: str, errors: list[str]) -> Response:
    """Answer a request for jobs that could not even be read."""
    kind = "jobs" if _route(request) == "/api/validate_csv" else "responses"
    return EnvelopeResponse(message, {kind: [], "errors": errors, "warnings": []}, 406)


def _route(request: Request) -> str:
    """Tell which route a request came to, wherever a proxy has put us."""
    return getattr(request.scope.get("route"), "path", "")


async def _ours(request: Request, error: TransferServiceError) -> Response:
    """Answer an error that was raised on purpose, in its own words."""
    status = next(status for kind, status in STATUS_OF_ERRORS if isinstance(error, kind))
    response = refusal(request, status, HTTPStatus(status).phrase, [str(error)])
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


async def _no_database(request: Request, error: Exception) -> Response:
    """Answer a request that the database cannot answer now."""
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    logger.error("the database does not answer: %s", reason)
    said = "The database does not answer. Try again in a moment."
    response = refusal(request, 503, HTTPStatus(503).phrase, [said])
    response.headers["Retry-After"] = RETRY_AFTER
    return response


def _fault_response(request: Request, reference: str) -> Response:
    """Answer a request that failed unexpectedly, with the reference that its log lines have."""
    said = f"Internal error. For details, search the server log for {reference}."
    return refusal(request, 500, "Something went wrong", [said])


def refusal(request: Request, status: int, message: str, errors: list[str]) -> Response:
    """Answer a browser with a page, and scripts of pages and everyone else with an envelope."""
    errors = redact_all(errors)
    wants_page = "text/html" in request.headers.get("accept", "") and not is_partial(request)
    if wants_page and not route_path(request).startswith("/api/"):
        context = {"status": status, "heading": message, "errors": first_errors(errors)}
        return render(request, "error.html", context, status_code=status)
    return failure(status, message, errors)
