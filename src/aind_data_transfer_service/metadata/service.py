"""The lab's metadata service, over HTTP, in both of its generations.

The first answers `GET /subject/{id}` with an envelope `{"message", "data"}`; the second answers
`GET /api/v2/subject/{id}` with the document itself. Which one is there is found out by asking.
"""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import httpx

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.sources import Found, SourceBase
from aind_data_transfer_service.metadata.web import TooLong, receive
from aind_data_transfer_service.trust import trust

V2_PATH = "/api/v2"
_USABLE = {200: True, 300: True, 207: False, 400: False, 406: False}
"""Status codes that come with a document, and whether the service holds it to be valid."""
_RETRY_SECONDS = 0.5
_NO_JSON = object()


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
        self._second_generation = self._v2_only
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

    def funding(self, project_name: str) -> list[dict[str, Any]]:
        """Ask how a project is funded; an empty list where that is not known."""
        answer = self._ask(f"funding/{quote(project_name, safe='')}")
        if answer is None:
            return []
        data = answer[0]
        return [item for item in (data if isinstance(data, list) else [data]) if item]

    def project_names(self) -> list[str]:
        """Ask for the names of all projects."""
        answer = self._ask("project_names")
        names = [] if answer is None else answer[0]
        if not isinstance(names, list):
            raise MetadataError(f"{self.url}/project_names answered something that is no list")
        return [str(name) for name in names]

    def _document(self, kind: str, identifier: str) -> Found | None:
        """Ask for one document."""
        path = f"{kind}/{quote(identifier, safe='')}"
        answer = self._ask(path)
        if answer is None:
            return None
        data, valid, address = answer
        if isinstance(data, list):
            data = data[0] if data else None
        if not data:
            return None
        if not isinstance(data, dict):
            raise MetadataError(f"{address} answered something that is no document")
        return Found(data, valid, address)

    def _ask(self, path: str) -> tuple[Any, bool, str] | None:
        """Get the data beneath a path, whether they are valid, and their address."""
        if not self._second_generation:
            address = f"{self._root}/{path}"
            response = self._get(address)
            body = _json(response)
            enveloped = isinstance(body, dict) and "data" in body
            if enveloped or response.status_code != 404:
                return self._read(response, body["data"] if enveloped else body, address)
        address = f"{self._root}{V2_PATH}/{path}"
        response = self._get(address)
        self._second_generation = self._v2_only or response.status_code != 404
        return self._read(response, _json(response), address)

    def _read(
        self, response: httpx.Response, data: Any, address: str
    ) -> tuple[Any, bool, str] | None:
        """Take what a response carries, by its status code."""
        if response.status_code == 404 and data is not _NO_JSON:
            return None
        valid = _USABLE.get(response.status_code)
        if valid is None or (data is None and response.status_code != 200):
            raise MetadataError(f"{address} answered {response.status_code}")
        if data is _NO_JSON:  # the page of a proxy, or of another service altogether
            raise MetadataError(f"{address} answered something that is no JSON")
        return data, valid, address

    def _get(self, address: str) -> httpx.Response:
        """Ask once, or as often as is allowed while nothing of use comes back."""
        problem = ""
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
                problem = f"{address} did not answer in time"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = f"{address} cannot be reached: {error}"
            else:
                if response.status_code < 500:
                    return response
                problem = f"{address} answered {response.status_code}"
        raise MetadataError(problem)


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Part an address from the name and password that it may hold."""
    start, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, at, host = place.rpartition("@")
    if not at:
        return url, None
    name, _, password = login.partition(":")
    return f"{start}{separator}{host}{slash}{path}", (unquote(name), unquote(password))


def _json(response: httpx.Response) -> Any:
    """Read a body as JSON; `_NO_JSON` where it is something else."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return _NO_JSON
