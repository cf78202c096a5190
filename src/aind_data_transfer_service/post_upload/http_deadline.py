"""Requests that end when their time is over, however slowly a server answers."""

import io
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_PIECE = 65536
_LARGEST = 64 * 1024**2


class BoundedAdapter(HTTPAdapter):
    """Sends requests, and reads their answers whole, within the time that is left.

    The time-outs of `requests` count from byte to byte; an answer that trickles in has none.

    Parameters
    ----------
    left : Callable
        Tells how many seconds there are.
    """

    def __init__(self, left: Callable[[], float]):
        self._left = left
        super().__init__()

    def send(self, request: Any, *args: Any, **details: Any) -> requests.Response:
        """Send one request.

        Raises
        ------
        requests.Timeout
            Where the time is over.
        requests.ConnectionError
            Where the answer breaks off, or has no end.
        """
        left = self._in_time()
        details["stream"] = True
        details["timeout"] = (min(_CONNECT_SECONDS, left), min(_SILENCE_SECONDS, left))
        response = super().send(request, **details)
        try:
            response.raw = io.BytesIO(self._body(response))
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(request=request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError("the answer broke off", request=request) from error
        return response

    def _body(self, response: requests.Response) -> bytes:
        """Read an answer to its end."""
        body = bytearray()
        while piece := response.raw.read1(_PIECE, decode_content=True):  # `read` waits for all
            body += piece
            self._in_time()
            if len(body) > _LARGEST:
                raise requests.ConnectionError("the answer has no end", request=response.request)
        return bytes(body)

    def _in_time(self) -> float:
        """Tell how many seconds are left; there have to be some."""
        left = self._left()
        if left <= 0:
            raise requests.Timeout
        return left
