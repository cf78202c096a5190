"""HTTP requests with a deadline for the complete response, for `requests`."""

import io
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 30.0
_CHUNK_SIZE = 65536
_MAX_RESPONSE_BYTES = 64 * 1024**2


class DeadlineAdapter(HTTPAdapter):
    """Sends requests, and reads each complete response before the deadline.

    The timeouts of `requests` apply to each socket operation: a response that arrives slowly would
    never time out.

    Parameters
    ----------
    remaining : Callable
        Returns how many seconds remain.
    """

    def __init__(self, remaining: Callable[[], float]):
        self._remaining = remaining
        super().__init__()

    def send(self, request: Any, *args: Any, **details: Any) -> requests.Response:
        """Send one request.

        Raises
        ------
        requests.Timeout
            If the time is up.
        requests.ConnectionError
            If the connection is closed early, or the response is too large.
        """
        remaining = self._check_deadline()
        details["stream"] = True
        details["timeout"] = (min(_CONNECT_SECONDS, remaining), min(_IDLE_SECONDS, remaining))
        response = super().send(request, **details)
        try:
            response.raw = io.BytesIO(self._read_body(response))
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(request=request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(
                "the connection was closed early", request=request
            ) from error
        return response

    def _read_body(self, response: requests.Response) -> bytes:
        """Return the complete body of a response."""
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK_SIZE, decode_content=True):  # `read` would block
            body += chunk
            self._check_deadline()
            if len(body) > _MAX_RESPONSE_BYTES:
                raise requests.ConnectionError(
                    "the response is too large", request=response.request
                )
        return bytes(body)

    def _check_deadline(self) -> float:
        """Return how many seconds remain; raise an error if the time is up."""
        remaining = self._remaining()
        if remaining <= 0:
            raise requests.Timeout
        return remaining
