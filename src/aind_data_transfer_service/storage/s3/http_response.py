"""Read HTTP/1.1 responses from the bytes of one connection: one parser, and a bound on each size.

Interim responses (100, 102, 103) are skipped, wherever they come: they never answer a request.
"""

from dataclasses import dataclass, field

import httptools

from aind_data_transfer_service.storage.s3.retry import Fault, Kind

HEAD_LIMIT = 1 << 16
"""Bytes of a head at most, interim responses before it included."""
REFUSAL_LIMIT = 1 << 16
"""Bytes of a refusal's body that are read."""
_CHUNKED = 8
"""Chunks may be so small that this many bytes arrive for each byte of a body."""
_END = b"\r\n\r\n"


@dataclass(slots=True)
class Reply:
    """The response to one request."""

    status: int = 0
    fields: dict[bytes, bytes] = field(default_factory=dict)
    """Header fields as the server wrote them."""
    body: bytes = b""
    is_cut: bool = False
    """Whether the body was longer than asked for: the rest was not read."""

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by their names in lower case.

        Small files take one response each: their headers are not decoded until they are needed.
        """
        return {
            name.decode("latin-1").lower(): value.decode("latin-1").strip()
            for name, value in self.fields.items()
        }


class ResponseReader:
    """Reads the responses of one connection, one after the other.

    The parser is made once for a connection, and header fields go straight into a dictionary: of
    the time that a response to a small file takes, that saves half. After HEAD the parser would
    expect a body, and the reader is not used again.
    """

    def __init__(self) -> None:
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.__setitem__
        """Called by the parser for each header and trailer."""
        self._parser = httptools.HttpResponseParser(self)
        self.begin(False, 0)

    def begin(self, is_head: bool, limit: int) -> None:
        """Expect the response to a request.

        Parameters
        ----------
        is_head : bool
            Whether the request's method is HEAD: the response then has no body.
        limit : int
            Bytes of a successful response's body that are read at most.
        """
        self._is_head, self._limit, self._seen = is_head, limit, b""
        self._fields.clear()  # of trailers of the response before
        self._head: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._status = self._heads = self._size = self._read = 0
        self.is_complete = self.has_surplus = self._is_cut = self._keeps_alive = False

    def feed(self, data: bytes) -> bool:
        """Read the next bytes and return whether the response is complete.

        Raises
        ------
        Fault
            If they are not a response, or its head does not end.
        """
        if self._is_head:
            self._seen += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            if cause is not None and not isinstance(cause, Exception):
                raise cause  # this thread was interrupted while it read: that is no fault of it
            if not self.is_complete:
                raise Fault(Kind.PASSING, f"the reply makes no sense: {error}") from error
            self.has_surplus = True
        if not self.is_complete:
            self._bound(len(data))
        return self.is_complete

    @property
    def is_begun(self) -> bool:
        """Whether any byte of a response has arrived."""
        return self.is_complete or self._read > 0

    @property
    def is_reusable(self) -> bool:
        """Whether the connection is certainly clean: nothing but the response has arrived."""
        if self.has_surplus or self._is_cut or not self._keeps_alive:
            return False
        return not self._is_head or self._ends_with_head()

    @property
    def ends_with_connection(self) -> bool:
        """Whether this is a refusal of unknown length, which goes on until the server closes.

        Some proxies and servers refuse so what they do not understand. Other responses must name
        their length, or nobody would notice that they were cut off.
        """
        is_measured = {"content-length", "transfer-encoding"} & self.reply().headers.keys()
        return self._status >= 300 and not is_measured

    def reply(self) -> Reply:
        """Return what was read."""
        return Reply(self._status, self._head, b"".join(self._body), self._is_cut)

    def on_message_begin(self) -> None:
        """Note a second response, which no request asked for."""
        if self.is_complete:
            self.has_surplus = True

    def on_headers_complete(self) -> None:
        """Take the status and the header fields; trailers do not change them."""
        if self.is_complete:
            return
        self._status = self._parser.get_status_code()
        self._head = self._fields.copy()
        self._fields.clear()
        self._heads += 1
        if self._status >= 300:
            self._limit = REFUSAL_LIMIT
        if self._is_head and self._status >= 200:
            self._end()

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.is_complete:
            return
        self._size += len(data)
        if self._size > self._limit:
            data = data[: self._limit - self._size]
            self._cut()
        self._body.append(data)

    def on_message_complete(self) -> None:
        """End the response, unless it is an interim one."""
        if self.is_complete:
            return
        if 100 <= self._status < 200:
            self._status, self._head = 0, {}
        else:
            self._end()

    def _end(self) -> None:
        """Note that the response is complete."""
        self.is_complete = True
        self._keeps_alive = self._parser.should_keep_alive()

    def _cut(self) -> None:
        """Read no more of the response."""
        self.is_complete = self._is_cut = True

    def _bound(self, count: int) -> None:
        """Let neither a head nor chunks without content go on for ever."""
        self._read += count
        if self._status == 0 and self._read > HEAD_LIMIT:
            raise Fault(Kind.PASSING, f"the reply's head is longer than {HEAD_LIMIT:,} bytes")
        if self._read > HEAD_LIMIT + _CHUNKED * self._limit:
            self._cut()

    def _ends_with_head(self) -> bool:
        """Return whether the head of a response to HEAD is the last that has arrived."""
        return self._seen.endswith(_END) and self._seen.count(_END) == self._heads
