"""Requests for jobs as JSON: what they may hold is checked before anything is built from it.

A list of five million zeros is 10 MB of text and takes gigabytes once each of its errors is noted.
So the text is scanned first, then parsed, then checked a few jobs at a time, on a thread of its
own. Only the first errors are noted; the others are counted.
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from aind_data_transfer_service.configs.error_messages import MOST_ERRORS
from aind_data_transfer_service.configs.limits import MAX_JOBS
from aind_data_transfer_service.plain_text import more
from aind_data_transfer_service.server.responses import failure

MOST_LEVELS = 32
"""Of a body. A job that is sent as an object rather than as text is still understood and named."""
VALUES_PER_JOB = 10
"""Of a body, on average: a job is one text, or an object of three."""
FIELDS_PER_JOB = 20
_PIECE = 200
_TOKENS_PER_VALUE = 5
_TEXT = r'(?:[^"\\]{0,4096}+(?:\\.)?+){0,64}+'
"""A piece of a string, so short that no other thread waits for long."""
_TOKEN = re.compile(rf'"{_TEXT}("?)|[\[\]{{}},]|[^"\[\]{{}},]{{1,65536}}+', re.DOTALL)
_REST = re.compile(rf'{_TEXT}("?)', re.DOTALL)
_JSON_TYPE = re.compile(r"\s*application/(?:[^;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE)

M = TypeVar("M", bound=BaseModel)


class BodyError(ValueError):
    """The body of a request is over a limit."""


def check_size(text: str, most_values: int) -> None:
    """Raise `BodyError` if a JSON text has too many values or levels; it need not be valid.

    Parameters
    ----------
    text : str
        The JSON text.
    most_values : int
        How many values there may be.
    """
    levels = values = tokens = place = 0
    while match := _TOKEN.match(text, place):
        sign = text[place]
        place = match.end()
        if sign == '"' and not match[1]:
            place = _end_of_string(text, place)
        levels += (sign in "[{") - (sign in "]}")
        values += sign in "[{,"
        tokens += 1
        if levels > MOST_LEVELS:
            raise BodyError(f"the request is nested deeper than {MOST_LEVELS} levels")
        if values > most_values or tokens > _TOKENS_PER_VALUE * most_values:
            raise BodyError(
                f"the request has more than {most_values:,} values; send fewer jobs, each as JSON "
                "text (model_dump_json)"
            )


def _end_of_string(text: str, place: int) -> int:
    """Return where a string ends, from a place within it on."""
    while (match := _REST.match(text, place)) and match.end() > place:
        place = match.end()
        if match[1]:
            break
    return place


class JobsBody(Generic[M]):
    """Reads the body of a request for jobs.

    Parameters
    ----------
    model : type
        Of the body; its field `jobs` is a list.
    most_jobs : int
        How many jobs a request may have.
    """

    def __init__(self, model: type[M], most_jobs: int = MAX_JOBS):
        self._model = model
        self._most = most_jobs
        self._errors: list[Any] = []
        self._more = 0

    def read(self, body: bytes) -> M:
        """Return the body as a model.

        Raises
        ------
        RequestValidationError
            With the first errors, and the number of the others.
        """
        try:
            text = body.decode(json.detect_encoding(body))
            check_size(text, self._most * VALUES_PER_JOB)
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise _refused("json_invalid", error.msg, error.pos) from None
        except BodyError as error:
            raise _refused("over_limit", str(error)) from None
        except ValueError as error:  # not text, or a number of thousands of digits
            raise _refused("over_limit", f"the request is not valid JSON: {error}") from None
        jobs = document.get("jobs") if isinstance(document, dict) else None
        if not isinstance(jobs, list) or not jobs:
            return self._model_of(document)
        if len(jobs) > self._most:
            words = f"there are {len(jobs):,} jobs; send at most {self._most:,} in one request"
            raise _refused("over_limit", words)
        return self._check_jobs(jobs)

    def _check_jobs(self, jobs: list[Any]) -> M:
        """Check the jobs of a body, some at a time: a check of all would stop other threads."""
        checked: list[Any] = []
        for start in range(0, len(jobs), _PIECE):
            piece = [_without_surplus(job) for job in jobs[start : start + _PIECE]]
            try:
                model = self._model.model_validate({"jobs": piece}, from_attributes=True)
            except ValidationError as error:
                self._note(error, start)
            else:
                checked += model.jobs  # type: ignore[attr-defined]
        if self._errors:
            raise RequestValidationError([*self._errors, *_count(self._more)])
        return self._model.model_construct(jobs=checked)

    def _note(self, error: ValidationError, start: int) -> None:
        """Note the errors of a piece, or just count them."""
        room = MOST_ERRORS - len(self._errors)
        if room > 0:
            found = error.errors(include_url=False, include_input=False)
            for one in found[:room]:
                field, number, *rest = one["loc"]
                place = ("body", field, start + int(number), *rest)
                self._errors.append({**one, "loc": place})
        self._more += max(0, error.error_count() - max(0, room))

    def _model_of(self, document: Any) -> M:
        """Check a body that has no jobs: it is not valid."""
        try:
            return self._model.model_validate(document, from_attributes=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise RequestValidationError(
                [{**one, "loc": ("body", *one["loc"])} for one in found]
            ) from None


class JobsRoute(APIRoute):
    """A route for jobs: its body is JSON, whatever its sender says that it is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make the handler of this route."""
        handle = super().get_route_handler()
        model: Any = self.body_field.field_info.annotation if self.body_field else None
        if model is None:
            raise TypeError("a route for jobs needs a body")

        async def read_body(request: Request) -> Response:
            """Read the body here, and hand the request on with the result in its place."""
            try:
                body = await request.body()
            except ClientDisconnect:  # nobody receives the answer; it counts in the metrics
                return failure(400, "Bad Request", ["The request broke off."])
            if body:
                read = JobsBody(model).read
                found = await asyncio.get_running_loop().run_in_executor(_READER, read, body)
                request = _ReadRequest(request, found)
            return await handle(request)

        return read_body


class OptionalJsonRoute(APIRoute):
    """A route whose body, if it has one, is JSON and says so; any other body is ignored."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make the handler of this route."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def ignore_other_bodies(request: Request) -> Response:
            """Hand the request on, without its body if that is not sent as JSON."""
            if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
                request = _BodylessRequest(request.scope, request.receive)
            return await handle(request)

        return ignore_other_bodies


class _BodylessRequest(Request):
    """A request whose body is ignored."""

    async def body(self) -> bytes:
        """Stand for the body."""
        return b""


class _ReadRequest(Request):
    """A request whose body has been read."""

    def __init__(self, request: Request, found: BaseModel) -> None:
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._found = found

    async def body(self) -> bytes:
        """Stand for the body, which is needed no more."""
        return b"{}"

    async def json(self) -> Any:
        """Return what the body says."""
        return self._found


_READER = ThreadPoolExecutor(1, "request-body")
"""One thread, so that the largest bodies are built one after another."""


def _without_surplus(job: Any) -> Any:
    """Leave out all but the first fields of a job that has far too many: they are errors anyway."""
    if not isinstance(job, dict) or len(job) <= FIELDS_PER_JOB:
        return job
    return dict(list(job.items())[:FIELDS_PER_JOB])


def _refused(kind: str, words: str, place: int | None = None) -> RequestValidationError:
    """Make the error of a body that cannot be used at all."""
    location = ("body",) if place is None else ("body", place)
    return RequestValidationError(
        [{"type": kind, "loc": location, "msg": words, "ctx": {"error": words}}]
    )


def _count(count: int) -> list[Any]:
    """Say how many errors are not listed."""
    if not count:
        return []
    return [{"type": "over_limit", "loc": ("body",), "msg": more(count, "error", "errors")}]
