"""Asking a system of the lab over HTTPS: patiently, within a time, and with errors in words.

A question is put again where nothing of use came back (no answer, 429, 5xx), as long as its time
lasts; `Retry-After` (RFC 9110, 10.2.3) is honoured, and where it reaches beyond that time the
question is given up at once. Neither names nor passwords are ever part of a message.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.network.tls_trust import trust
from aind_data_transfer_service.redaction import redact

_PAUSE_SECONDS = 0.5
_LEAST_SECONDS = 0.01
_BUSY = 429
_SHOWN = 200
_MOST_BYTES = 64 * 1024**2
"""More than any document has; an answer that goes on is not for us."""
_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True)
class Patience:
    """How long and how often a system is asked.

    Clock and sleep are passed in, so that a test of long waits takes none.
    """

    seconds: float = 10.0
    """For one question in all, waiting included."""
    attempts: int = 3
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)


class TooLong(Exception):
    """An answer is longer than any answer ought to be."""


def client(
    ca_file: Path | None = None, auth: httpx.Auth | tuple[str, str] | None = None
) -> httpx.Client:
    """Make a client that trusts this machine's certificates, and those of a file.

    Redirects are not followed: they would carry questions to places that nobody set.

    Raises
    ------
    MetadataError
        Where the file of certificates cannot be read.
    """
    try:
        return httpx.Client(verify=trust(ca_file), auth=auth)
    except OSError as error:
        raise MetadataError(
            f"{ca_file} holds no certificates that can be read ({error}); "
            "it has to be a file in PEM format"
        ) from error


class Web:
    """One system, as asked over HTTPS.

    May be used from several threads at once.

    Parameters
    ----------
    name : str
        What people call the system.
    http : httpx.Client
        Asks; it is closed with this object.
    patience : Patience
        How long and how often.
    """

    def __init__(self, name: str, http: httpx.Client, patience: Patience = Patience()):
        self.name = name
        self._http = http
        self._patience = patience

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def ask(self, method: str, url: str, **details: Any) -> httpx.Response:
        """Put a question until there is an answer that is neither 429 nor a 5xx.

        Raises
        ------
        MetadataError
            Where there is none in time.
        """
        until = self._patience.clock() + self._patience.seconds
        problem = ""
        for attempt in range(1, self._patience.attempts + 1):
            pause = _PAUSE_SECONDS * 2 ** (attempt - 1)
            try:
                response = self._exchange(method, url, until, details)
            except httpx.TimeoutException:
                problem = (
                    f"{self.at(url)} did not answer within {self._patience.seconds:g} s; "
                    "look whether it is up, or allow more time"
                )
            except TooLong as error:
                raise MetadataError(f"{self.at(url)} {error}") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = self._unreachable(url, error)
            else:
                if response.status_code != _BUSY and response.status_code < 500:
                    return response
                problem = self._unwilling(url, response)
                pause = max(pause, _retry_after(response))
            if attempt == self._patience.attempts or self._patience.clock() + pause >= until:
                break
            self._patience.sleep(pause)
        raise MetadataError(problem)

    def _exchange(
        self, method: str, url: str, until: float, details: dict[str, Any]
    ) -> httpx.Response:
        """Ask once; the time-outs of httpx count from byte to byte, this one over all."""
        clock = self._patience.clock
        left = max(until - clock(), _LEAST_SECONDS)
        with self._http.stream(method, url, timeout=left, **details) as response:
            return receive(response, until, clock)

    def at(self, url: str) -> str:
        """Name the system and its host, without what stands in the address besides."""
        return f"{self.name} at {urlsplit(url).netloc.rpartition('@')[2]}"

    def json(self, response: httpx.Response) -> Any:
        """Read an answer as JSON.

        Raises
        ------
        MetadataError
            Where it is something else: the page of a proxy or of a login, half an answer.
        """
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("Content-Type", "no type").partition(";")[0]
            raise MetadataError(
                f"{self.at(str(response.url))} answered something that is no JSON ({kind}); "
                "look whether the address is right and no proxy or login page stands before it"
            ) from error

    def _unreachable(self, url: str, error: Exception) -> str:
        words = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return (
                f"{self.at(url)} shows a certificate that is not trusted; name the file of the "
                "certificates to trust in the settings"
            )
        return f"{self.at(url)} cannot be reached: {redact(words)[:_SHOWN]}"

    def _unwilling(self, url: str, response: httpx.Response) -> str:
        wait = _retry_after(response)
        asks = f" and asks to wait {wait:g} s" if wait else ""
        if response.status_code == _BUSY:
            return f"{self.at(url)} is asked too often (429){asks}; try again later"
        return f"{self.at(url)} has trouble of its own ({response.status_code}){asks}"


def receive(
    response: httpx.Response, until: float, clock: Callable[[], float] = time.monotonic
) -> httpx.Response:
    """Read what comes after the headers of an answer, for so long and no longer.

    Raises
    ------
    httpx.ReadTimeout
        Where the time is over before the answer is.
    TooLong
        Where it is no document, by its size.
    """
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise TooLong(
                f"answers with more than {_MOST_BYTES >> 20} MiB, which is no document; "
                "look whether the address is right"
            )
        if clock() > until:
            raise httpx.ReadTimeout("too slow", request=response.request)
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _OF_THE_WIRE]
    return httpx.Response(
        response.status_code, headers=headers, content=b"".join(parts), request=response.request
    )


def _retry_after(response: httpx.Response) -> float:
    """Read how long the server wants to be left alone: seconds, or until a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError, IndexError, TypeError):  # email.utils trips over oddities
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
