"""The lab's metadata service, over HTTP, in both of its generations.

The first answers `GET /subject/{id}` with an envelope `{"message", "data"}`; the second answers
`GET /api/v2/subject/{id}` with the document itself. A root address may have either or both: the
first is asked first, and the second if the first does not know, has no such routes or is out of
order.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

import httpx

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found, Funding, SourceBase
from aind_data_transfer_service.metadata.http import TooLong, receive
from aind_data_transfer_service.network.tls_trust import trust
from aind_data_transfer_service.redaction import on_a_line, redact

V2_PATH = "/api/v2"
_PREFIXES = {1: "", 2: V2_PATH}
_USABLE = {
    1: {200: True, 300: True, 422: True, 207: False, 400: False, 406: False},
    2: {200: True, 300: True, 400: False},
}
"""Status codes that come with a document, by generation, and whether the document may be valid.

A 422 of the first generation is a document that the service did not validate; a 406 of the second
is an error message.
"""
_MESSAGES = {"detail", "message"}
"""A body with nothing else in it is an error message, whatever its status code."""
_REFUSALS = {400, 406, 422}
_ERROR_HEADER = "X-Error-Message"
_LONGEST = 300
"""Characters of an error message that are shown."""
_RETRY_SECONDS = 0.5
_NO_JSON = object()
_NO_ROUTE = {"detail": "Not Found"}
"""How a service of the second generation answers where it has no route; a document that it does not
know has other words."""


class _OutOfOrder(MetadataError):
    """A generation fails, so it may know what was asked for."""


class _NoStatement(MetadataError):
    """A generation refuses such a question, or a page of something else is at its address."""


@dataclass(frozen=True)
class _Answer:
    """What came back for a question."""

    data: Any
    valid: bool
    address: str
    remark: str = ""
    """What the service says about the data."""


class MetadataService(SourceBase):
    """Asks for documents by id, and gives None where there is none.

    May be used from several threads at once.

    Parameters
    ----------
    url : str
        Address of the service; with `/api/v2` at its end only the second generation is asked.
        A name and password in it are used, and never shown.
    timeout : float
        Seconds to wait for one answer, from its question to its end.
    attempts : int
        How often a request that failed (no answer, or a 5xx) is made in all.
    sleep : Callable
        How to wait between two attempts.
    """

    name = "service"
    kinds = frozenset({"subject", "procedures", "instrument", "rig", "project_names", "funding"})

    def __init__(
        self,
        url: str,
        timeout: float = 10.0,
        attempts: int = 1,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.url, login = _without_login(url.rstrip("/"))
        self._v2_only = self.url.endswith(V2_PATH)
        self._root = self.url.removesuffix(V2_PATH)
        self._generations: tuple[int, ...] = (2,) if self._v2_only else (1, 2)
        self._missing_routes: set[tuple[int, str]] = set()
        """Routes that a generation does not have and another generation does."""
        self._attempts = max(1, attempts)
        self._sleep = sleep
        self._timeout = timeout
        self._client = httpx.Client(
            verify=trust(), timeout=timeout, follow_redirects=True, auth=login
        )

    def __enter__(self) -> "MetadataService":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def subject(self, subject_id: str) -> Found | None:
        """Ask for `subject.json` of a subject."""
        return self._document("subject", subject_id)

    def procedures(self, subject_id: str) -> Found | None:
        """Ask for `procedures.json` of a subject."""
        return self._document("procedures", subject_id)

    def instrument(self, instrument_id: str) -> Found | None:
        """Ask for `instrument.json` of an instrument."""
        return self._document("instrument", instrument_id)

    def rig(self, rig_id: str) -> Found | None:
        """Ask for `rig.json` of a rig."""
        return self._document("rig", rig_id)

    def funding(self, project_name: str) -> Funding:
        """Ask how a project is funded and who investigates; an empty list if neither is known.

        The second generation has a route of its own for the investigators, who are added to each
        source of funding, or returned alone if no funding is known. If they cannot be asked for,
        a note says so.
        """
        name = quote(project_name, safe="")
        answer = self._ask(f"funding/{name}")
        data = answer.data if answer is not None else []
        found = [item for item in (data if isinstance(data, list) else [data]) if item]
        if not all(isinstance(item, dict) for item in found):
            raise MetadataError(f"{self.url}/funding answered something that is no funding")
        if answer is not None and V2_PATH not in answer.address:
            return Funding(found)
        try:
            people = self._investigators(name)
        except MetadataError as error:
            return Funding(found, (f"no investigators: {error}",))
        if not people:
            return Funding(found)
        return Funding({**item, "investigators": people} for item in found or [{}])

    def _investigators(self, name: str) -> list[Any]:
        """Ask the second generation who investigates a project."""
        if (2, "funding") in self._missing_routes:
            return []
        answer = self._of_generation(2, f"investigators/{name}")
        data = answer.data if isinstance(answer, _Answer) else None
        return data if isinstance(data, list) else []

    def project_names(self) -> list[str]:
        """Ask for the names of all projects."""
        answer = self._ask("project_names")
        names = [] if answer is None else answer.data
        if not isinstance(names, list):
            raise MetadataError(f"{self.url}/project_names answered something that is no list")
        return [str(name) for name in names]

    def _document(self, kind: str, identifier: str) -> Found | None:
        """Ask for one document; of several, the one that was modified last is taken."""
        path = f"{kind}/{quote(identifier, safe='')}"
        answer = self._ask(path)
        if answer is None:
            return None
        data, notes = answer.data, [answer.remark] if answer.remark else []
        if isinstance(data, list):
            data, several = _newest(kind, data)
            notes += several
        if not data:
            return None
        if not isinstance(data, dict):
            raise MetadataError(f"{answer.address} answered something that is no document")
        return Found(data, answer.valid, answer.address, notes=tuple(notes))

    def _ask(self, path: str) -> _Answer | None:
        """Get the data below a path from the first generation that has them.

        None if one of them answers that there are none, and none of them fails.
        """
        route = path.partition("/")[0]
        problems: list[str] = []
        without_route: list[int] = []
        unclear: list[str] = []
        found: _Answer | None = None
        is_in_order = False
        for generation in self._generations:
            if (generation, route) in self._missing_routes:
                continue
            try:
                answer = self._of_generation(generation, path)
            except _OutOfOrder as error:
                problems.append(str(error))
                continue
            except _NoStatement as error:
                unclear.append(str(error))
                continue
            if answer is False:
                without_route.append(generation)
                continue
            found, is_in_order = answer, True
            if found is not None:
                break
        if is_in_order and "%2F" not in path:  # for a name with a slash there is no route anyway
            self._missing_routes.update((generation, route) for generation in without_route)
        failed = problems + unclear
        if found is None and (problems or not is_in_order) and failed:
            raise MetadataError("; ".join(failed))
        if found is not None and failed:  # of the generation before
            self._generations = (2, 1)
        return found

    def _of_generation(self, generation: int, path: str) -> _Answer | Literal[False] | None:
        """Ask one generation: None if it does not know, False if it has no such route."""
        address = f"{self._root}{_PREFIXES[generation]}/{path}"
        response = self._get(address)
        body = _json(response)
        enveloped = isinstance(body, dict) and "data" in body
        if response.status_code == 404 and body is not _NO_JSON:
            has_no_route = not enveloped if generation == 1 else enveloped or body == _NO_ROUTE
            return False if has_no_route and not self._v2_only else None
        if generation == 1 and enveloped:
            return _read(generation, response, body["data"], address, body.get("message"))
        return _read(generation, response, body, address, None)

    def _get(self, address: str) -> httpx.Response:
        """Ask once, or as often as is allowed while nothing of use comes back."""
        failure = MetadataError()
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(_RETRY_SECONDS * 2 ** (attempt - 1))
            try:
                until = time.monotonic() + self._timeout
                with self._client.stream("GET", address) as stream:
                    response = receive(stream, until)
            except TooLong as error:
                raise MetadataError(f"{address} {error}") from error
            except httpx.TimeoutException:
                failure = MetadataError(f"{address} did not answer in time")
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = MetadataError(f"{address} cannot be reached: {error}")
            else:
                if response.status_code < 500:
                    return response
                failure = _OutOfOrder(f"{address} answered {_said(response)}")
        raise failure


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Part an address from the name and password that it may hold."""
    start, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, at, host = place.rpartition("@")
    if not at:
        return url, None
    name, _, password = login.partition(":")
    return f"{start}{separator}{host}{slash}{path}", (unquote(name), unquote(password))


def _read(
    generation: int, response: httpx.Response, data: Any, address: str, message: Any
) -> _Answer:
    """Take what a response carries, by its status code."""
    status = response.status_code
    if data is _NO_JSON:  # the page of a proxy, or of another service altogether
        what = "something that is no JSON" if status < 400 else _said(response)
        if status in (200, 404):
            raise _NoStatement(f"{address} answered {what}")
        raise _OutOfOrder(f"{address} answered {what}")
    valid = _USABLE[generation].get(status)
    is_error = generation == 1 and status not in (200, 300) and message is None
    is_error |= isinstance(data, dict) and bool(data) and data.keys() <= _MESSAGES
    if valid is None or is_error or (data is None and status != 200):
        failure = _NoStatement if status in _REFUSALS else MetadataError
        raise failure(f"{address} answered {_said(response)}")
    remark = response.headers.get(_ERROR_HEADER) or ("" if valid else str(message or ""))
    return _Answer(data, valid, address, on_a_line(redact(remark), _LONGEST) if remark else "")


def _newest(kind: str, documents: list[Any]) -> tuple[Any, list[str]]:
    """Choose the document that was modified last, or else the first, and note the others."""
    if not documents:
        return None, []
    usable = [one for one in documents if isinstance(one, dict) and one]
    newest = max(usable, key=_modified, default=documents[0])
    if len(documents) == 1:
        return newest, []
    day = _modified(newest) if isinstance(newest, dict) else ""
    which = f"the one of {day}" if day else "the first"
    return newest, [f"the metadata service has {len(documents)} of this {kind}; {which} is taken"]


def _modified(document: dict[str, Any]) -> str:
    """Return when a document was modified, which sorts as text."""
    return str(document.get("modification_date") or "")


def _said(response: httpx.Response) -> str:
    """Return the status of a response, with the error message that it carries."""
    body = _json(response)
    said = body.get("detail") or body.get("message") if isinstance(body, dict) else None
    words = response.headers.get(_ERROR_HEADER) or (said if isinstance(said, str) else "")
    told = f": {on_a_line(redact(words), _LONGEST)}" if words else ""
    return f"{response.status_code}{told}"


def _json(response: httpx.Response) -> Any:
    """Read a body as JSON; `_NO_JSON` where it is something else."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return _NO_JSON
