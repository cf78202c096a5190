"""Requests to S3: signed, sent, repeated while that helps, and their answers checked."""

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from aind_data_transfer_service.concurrency.rate_limit import REQUESTS_PER_SECOND, TokenBucket
from aind_data_transfer_service.storage.base import Body, BufferBody
from aind_data_transfer_service.storage.model import Keys
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3.connection import MOST_READ
from aind_data_transfer_service.storage.s3.credentials import Credentials
from aind_data_transfer_service.storage.s3.endpoint import Route, Routes
from aind_data_transfer_service.storage.s3.http import Exchange
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.object_headers import Headers
from aind_data_transfer_service.storage.s3.parallel_list import PageGuard
from aind_data_transfer_service.storage.s3.proxy import refusal
from aind_data_transfer_service.storage.s3.responses import (
    ListPage,
    read_error,
    read_region,
    read_retry_after,
    read_words,
)
from aind_data_transfer_service.storage.s3.retry import Fault, Kind, Patience, Repeats, judge
from aind_data_transfer_service.storage.s3.sigv4 import (
    EMPTY,
    UNSIGNED,
    Clock,
    encode_path,
    encode_query,
    sign,
)

T = TypeVar("T")


_READ_ONLY = ("GET", "HEAD")
_SHA256 = Algorithm.SHA256.header
_AMAZON = re.compile(r"(.+\.)?amazonaws\.(com|com\.cn|eu)")
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_BODY = BufferBody(b"")
CHECKSUM_ALGORITHM = "x-amz-sdk-checksum-algorithm"
"""Names the checksum; buckets with Object Lock may demand it besides the checksum itself."""


class S3Session:
    """Sends requests for one bucket. May be used from several threads at once.

    Parameters
    ----------
    routes : Routes
        The way to it, and its region.
    credentials : Credentials
        Who asks.
    patience : Patience
        How long faults are borne.
    algorithm : Algorithm
        How bodies are guarded.
    repeats : Repeats
        Is told of each repetition.
    headers : Headers
        What settings add to requests.
    """

    def __init__(
        self,
        routes: Routes,
        credentials: Credentials,
        patience: Patience,
        algorithm: Algorithm,
        repeats: Repeats,
        headers: Headers,
    ):
        self._routes, self._credentials = routes, credentials
        self._patience, self._repeats, self._headers = patience, repeats, headers
        self.algorithm = algorithm
        self.clock = Clock()
        address = routes.current.wire.address
        is_amazon = _AMAZON.fullmatch(urlsplit(address).hostname or "")
        self.rate = TokenBucket(REQUESTS_PER_SECOND) if is_amazon else None
        """Writing requests per second; None where no number is known."""
        self._is_known = False

    def tell_rest(self) -> None:
        """Tell of repetitions that have not been told yet."""
        self._repeats.flush()

    def _pages(
        self, key: str, query: Mapping[str, str], read: Callable[[Reply], ListPage[T]]
    ) -> Iterator[ListPage[T]]:
        """Ask for a list, page by page."""
        query, guard = dict(query), PageGuard()
        while True:
            page = self._ask("GET", key, query, read=read)
            guard.check(page.identity, page.next)
            yield page
            if page.next is None:
                return
            query |= page.next

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
        body: Body = NO_BODY,
        halt: threading.Event | None = None,
        *,
        read: Callable[[Reply], T],
        limit: int = MOST_READ,
    ) -> T:
        """Ask until there is an answer, of at most so many bytes, and read it."""
        return self._send(method, key, query, headers, body, halt, read, limit).result()

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
        halt: threading.Event | None,
        read: Callable[[Reply], T],
        limit: int = MOST_READ,
    ) -> "Pending[T]":
        """Send a request whose answer is read later."""
        begin = partial(self._begin, method, key, query, headers, body, halt)
        return Pending(self, begin, read, halt, limit)

    def patiently(
        self,
        attempt: Callable[[], T],
        mend: Callable[[Fault], bool],
        halt: threading.Event | None,
    ) -> T:
        """Try until it is done."""
        return self._patience.run(attempt, self._repeats, mend, halt)

    def _begin(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
        halt: threading.Event | None,
        in_row: bool = False,
    ) -> "Sent":
        """Send a request; `in_row` is explained at `Wire.begin`."""
        if self.rate is not None and method not in _READ_ONLY:
            self.rate.take()
        route = self._routes.current
        wire = route.wire
        path = encode_path(f"{route.root}/{key}" if key else route.root or "/")
        text = encode_query(query)
        keys = self._credentials.keys()
        signed = sign(
            keys,
            route.region,
            self.clock.stamp(),
            method,
            path,
            text,
            {**self._headers.every, **headers, "host": wire.netloc},
            _payload(method, headers, body),
        )
        target = f"{path}?{text}" if text else path
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        head = (
            f"{method} {wire.prefix}{target} HTTP/1.1\r\n{lines}{wire.lines}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return wire.begin(head.encode("latin-1"), body, method, halt, in_row=in_row), keys, route

    def checked(self, reply: Reply, route: Route) -> Reply:
        """See that a reply to a request that went that way is no refusal."""
        if not 200 <= reply.status < 300:
            raise self._refusal(reply, route)
        self._is_known = True
        return reply

    def _refusal(self, reply: Reply, route: Route) -> Fault:
        """Read why a server refuses."""
        code, message = read_error(reply)
        forwarder = route.wire.forwarder
        if forwarder and reply.status == 407:
            return refusal(forwarder, reply.status, "the request")
        kind = judge(reply.status, code)
        if code == "SignatureDoesNotMatch" and self._is_known:
            kind = Kind.DAMAGED  # the keys are right: the request came in otherwise
        if kind is Kind.DAMAGED and not code and not self._is_known:
            kind = Kind.FINAL  # it never understood us: it is no S3 server, or speaks TLS
        words = ": ".join(word for word in (code, message) if word)
        server = f"the proxy {forwarder.address} or the server" if forwarder else "the server"
        words = words or f"{server} answered {reply.status}{read_words(reply)}"
        region = read_region(reply)
        if region and region != route.region:
            kind = Kind.MOVED
            words = f"the bucket is in {region}, not in {route.region}"
        fault = Fault(kind, words, reply.status, code, reply.headers.get("date", ""))
        fault.region, fault.retry_after = region, read_retry_after(reply)
        return fault

    def mend(self, fault: Fault, keys: Keys | None, route: Route | None) -> bool:
        """Get other credentials, go to another region, or set the clock.

        Parameters
        ----------
        fault : Fault
            Why a request was refused.
        keys : Keys | None
            The keys that it was signed with, if it was sent.
        route : Route | None
            The way that it went.

        Returns
        -------
        bool
            Whether it makes sense to send the request again.

        Raises
        ------
        Fault
            If no credentials can be fetched at present.
        """
        if fault.kind in (Kind.EXPIRED, Kind.UNKNOWN_KEY):
            try:
                return keys is not None and self._credentials.renew(keys)
            except Fault as error:
                raise Fault(error.kind, f"{fault.words}; {error.words}") from error
        if fault.kind is Kind.MOVED:
            return route is not None and self._routes.follow(fault.region, route)
        return self.clock.follow(fault.date)


Sent = tuple[Exchange, Keys, Route]
"""A request in flight, the keys that it was signed with, and the way that it went."""


def _payload(method: str, headers: Mapping[str, str], body: Body) -> str:
    """Return what the signature says of a body: its SHA-256, unless only a further pass has it."""
    if not len(body):
        return EMPTY
    if method == "POST":  # always short, and in memory
        return hashlib.sha256(b"".join(body.chunks())).hexdigest()
    checksum = headers.get(_SHA256)
    return base64.b64decode(checksum).hex() if checksum else UNSIGNED


def unread(reply: Reply) -> Reply:
    """Return a reply of which nothing is read."""
    return reply


class Pending(Generic[T]):
    """A request that was sent, and whose answer is read when it is asked for.

    Parameters
    ----------
    client : S3Session
        Whose it is.
    send : Callable
        Sends it: at once, and again where that did not help.
    read : Callable
        Reads the answer.
    halt : threading.Event | None
        Breaks off once it is set.
    limit : int
        Bytes of the answer that are read at most.
    """

    __slots__ = (
        "_client",
        "_fault",
        "_halt",
        "_keys",
        "_limit",
        "_read",
        "_route",
        "_send",
        "_sent",
        "waited",
    )

    def __init__(
        self,
        client: S3Session,
        send: Callable[[], Sent],
        read: Callable[[Reply], T],
        halt: threading.Event | None,
        limit: int = MOST_READ,
    ):
        self._client, self._send, self._read, self._halt = client, send, read, halt
        self._limit = limit
        self._sent: Sent | None = None
        self._keys: Keys | None = None
        self._route: Route | None = None
        self._fault: Fault | None = None
        self.waited = 0.0
        """For how many seconds the first answer had to be waited for, if it was no fault."""
        try:
            self._sent = send()
        except Fault as fault:  # what is before it on the way has its turn first
            self._fault = fault

    def result(self) -> T:
        """Give the answer, for which it may be sent again.

        Raises
        ------
        Fault
            Where it is given up.
        CancelledError
            Where the transfer was stopped.
        """
        return self._client.patiently(self._attempt, self._mend, self._halt)

    def drop(self) -> None:
        """Await no answer any more."""
        if self._sent is not None:
            self._sent[0].drop()

    def _attempt(self) -> T:
        """Read the answer to what was sent, or to what is sent again now."""
        sent, fault, self._sent, self._fault = self._sent, self._fault, None, None
        if fault is not None:
            raise fault
        if sent is None:
            exchange, self._keys, self._route = self._send()
            return self._read(self._client.checked(exchange.reply(self._limit), self._route))
        exchange, self._keys, self._route = sent
        began = time.monotonic()
        reply = self._client.checked(exchange.reply(self._limit), self._route)
        self.waited = time.monotonic() - began
        return self._read(reply)

    def _mend(self, fault: Fault) -> bool:
        """Do what helps against a fault; return whether to send the request again."""
        return self._client.mend(fault, self._keys, self._route)
