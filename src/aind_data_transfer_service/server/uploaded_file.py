"""Reading uploaded files whose names are given as `filename*`.

Clients with urllib3 1.x, such as older versions of `requests`, send the name of a file in this form
alone if it is not ASCII. The standard of forms does not allow it, and the form parser ignores it.
"""

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser


class FileRoute(APIRoute):
    """A route that takes files in a form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests, with a form parser that knows `filename*`."""
        handle = super().get_route_handler()

        async def with_file_names(request: Request) -> Response:
            return await handle(_FileRequest(request.scope, request.receive))

        return with_file_names


class _FileRequest(Request):
    """A request with files."""

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        """Read the form; FastAPI awaits it."""
        if not self.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
            return await super().form(**limits)
        try:
            return await _Parser(self.headers, self.stream(), **limits).parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error


class _Parser(MultiPartParser):
    """A form parser that takes `filename*` if there is no `filename`."""

    def on_headers_finished(self) -> None:
        """Begin with the content of a part."""
        part = self._current_part
        part.content_disposition = _with_file_name(part.content_disposition or b"")
        super().on_headers_finished()


def _with_file_name(disposition: bytes) -> bytes:
    """Return a `Content-Disposition` with the plain file name, if it has only an encoded one."""
    message = Message()
    message["Content-Disposition"] = disposition.decode("latin-1")
    plain = message.get_param("filename", header="Content-Disposition")
    if not isinstance(plain, tuple):  # neither RFC 2231 nor RFC 5987
        return disposition
    name = (message.get_filename() or "").replace("\\", "\\\\").replace('"', '\\"')
    return disposition + b'; filename="' + name.encode("utf-8", "replace") + b'"'
