"""The language of S3: each operation as one function, tried again where that helps.

Written against Amazon's API reference of S3 (version 2006-03-01). Bodies carry a checksum of their
own, CRC64NVME or (`AWS_CHECKSUM_ALGORITHM=SHA256`) SHA-256, so that the server itself refuses a
damaged one.
"""

import base64
import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Generic, TypeVar
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from aind_data_transfer_service.concurrency.rate_limit import REQUESTS_PER_SECOND, TokenBucket
from aind_data_transfer_service.errors import InputError
from aind_data_transfer_service.storage.base import Body, BufferBody, PreconditionFailed
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3.credentials import Credentials
from aind_data_transfer_service.storage.s3.endpoint import Route, Routes
from aind_data_transfer_service.storage.s3.http import MOST_READ, Exchange
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.model import (
    Buffer,
    Keys,
    Part,
    StoredObject,
    Unfinished,
    Window,
)
from aind_data_transfer_service.storage.s3.object_headers import Headers
from aind_data_transfer_service.storage.s3.parallel_list import PageGuard, Pages, in_pieces
from aind_data_transfer_service.storage.s3.proxy import refusal
from aind_data_transfer_service.storage.s3.responses import (
    Decode,
    ListPage,
    moment_of,
    quoted,
    read_body,
    read_error,
    read_etag,
    read_objects,
    read_page,
    read_range,
    read_region,
    read_retry_after,
    read_words,
    read_xml,
    see_deleted,
    text_of,
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
_LONG_BODY = 1 << 16
"""Shorter bodies never wait for the link: the system takes them whole."""
_SHA256 = Algorithm.SHA256.header
_ALGORITHM = "x-amz-sdk-checksum-algorithm"
"""Names the checksum; buckets with Object Lock may demand it besides the checksum itself."""
_PAGE = 1000
_DELETES_IN_FLIGHT = 16
_NOT_IMPLEMENTED = (400, 405, 501)
"""What stores without DeleteObjects answer to it. Google Cloud Storage answers 400."""
_AMAZON = re.compile(r"(.+\.)?amazonaws\.(com|com\.cn|eu)")
_LIST = {"list-type": "2", "encoding-type": "url"}
_LARGEST_DOCUMENT = 1 << 28
"""Bytes of an object that is read whole: a record or a document."""
_REFUSED = (400, 409, 412, 422)
"""How a server refuses a body that its checksum does not fit."""
_ASKED = 3
"""How often it is asked at most, if it fails."""
_NOTHING: Mapping[str, str] = MappingProxyType({})
_WITH_CHECKSUM = {"x-amz-checksum-mode": "ENABLED"}
_NO_BODY = BufferBody(b"")


class S3Client:
    """One bucket. May be used from several threads at once.

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
        self._has_delete_objects = True
        self._knows_ranges = True
        """Whether the server gives pieces of objects, as far as is known."""

    def put(
        self,
        key: str,
        data: Buffer,
        new: bool = False,
        halt: threading.Event | None = None,
        if_match: str | None = None,
    ) -> str:
        """Store an object and return its ETag.

        Raises
        ------
        FileExistsError
            With `new`, if there is one already.
        PreconditionFailed
            With `if_match`, if there is another one, or none.
        """
        headers = self._headers.of_object(key, is_data=False)
        headers[_ALGORITHM] = self.algorithm.value
        headers[self.algorithm.header] = self.algorithm.of(data)
        if new:
            headers["if-none-match"] = "*"
        if if_match is not None:
            headers["if-match"] = if_match
        try:
            return self._ask(
                "PUT", key, headers=headers, body=BufferBody(data), halt=halt, read=read_etag
            )
        except Fault as fault:
            is_refused = fault.status == 412 or (if_match is not None and _is_absent(fault))
            if not is_refused or not (new or if_match is not None):
                raise
        found = self.fetch(key)
        if found is not None and found[0] == data:  # this request did it, and its answer got lost
            return found[1]
        raise FileExistsError(key) if new else PreconditionFailed(key)

    def put_all(
        self, objects: Iterable[tuple[str, Buffer]], window: Window, halt: threading.Event | None
    ) -> Iterator[str]:
        """Store objects one after the other, and give their ETags in the same order.

        Parameters
        ----------
        objects : Iterable[tuple[str, Buffer]]
            Keys, and what goes there.
        window : Window
            How many are on their way before the first of them has to be answered: the next is read
            and signed meanwhile. Is told for how long that was waited for.
        halt : threading.Event | None
            Breaks off once it is set.
        """
        with self._routes.current.wire.ready(window.size):
            yield from self._put_all(objects, window, halt)

    def _put_all(
        self, objects: Iterable[tuple[str, Buffer]], window: Window, halt: threading.Event | None
    ) -> Iterator[str]:
        """Store objects over connections that are there."""
        waiting: deque[Pending[str]] = deque()
        header, algorithm = self.algorithm.header, self.algorithm.value

        def first() -> str:
            put = waiting[0]
            etag = put.result()
            window.waited += put.waited
            waiting.popleft()
            return etag

        source, failure = iter(objects), None
        try:
            while True:
                try:
                    key, data = next(source)
                except StopIteration:
                    break
                except InputError as error:
                    failure = error  # raised once the requests in flight are answered
                    break
                if len(waiting) >= window.size:
                    yield first()
                headers = self._headers.of_object(key, is_data=True)
                headers[_ALGORITHM] = algorithm
                headers[header] = self.algorithm.of(data)
                body = BufferBody(data)
                send = partial(self._begin, "PUT", key, _NOTHING, headers, body, halt, in_row=True)
                began = time.monotonic()
                waiting.append(Pending(self, send, read_etag, halt))
                if len(data) > _LONG_BODY:
                    window.waited += time.monotonic() - began
            while waiting:
                yield first()
            if failure is not None:
                raise failure
        finally:
            for put in waiting:
                put.drop()

    def fetch(self, key: str) -> tuple[bytes, str] | None:
        """Read an object and its ETag; return None if there is none."""
        try:
            return self._ask("GET", key, read=_body_and_etag, limit=_LARGEST_DOCUMENT)
        except Fault as fault:
            if _is_absent(fault):
                return None
            raise

    def read(self, key: str, start: int, size: int) -> bytes:
        """Read a piece of an object; empty beyond its end."""
        headers = {"range": f"bytes={start}-{start + size - 1}"}
        limit = size if self._knows_ranges else start + size
        try:
            read = partial(read_range, start)
            is_piece, data = self._ask("GET", key, headers=headers, read=read, limit=limit)
        except Fault as fault:
            if fault.status == 416:
                return b""
            raise
        if is_piece:
            return data
        if start and self._knows_ranges:  # only the object's first bytes were read
            self._knows_ranges = False
            return self.read(key, start, size)
        self._knows_ranges = False
        return data[start : start + size]

    def head(self, key: str) -> dict[str, str] | None:
        """Read an object's headers, its checksum among them; None where there is none."""
        try:
            return self._ask("HEAD", key, headers=_WITH_CHECKSUM, read=_as_it_is).headers
        except Fault as fault:
            if fault.status == 404:
                return None
            raise

    def list(self, start: str, cuts: Sequence[str] = ()) -> Iterator[StoredObject]:
        """List every object whose key starts in this way; at once what lies between the cuts."""
        return in_pieces(partial(self._list, start), cuts)

    def _list(self, start: str, after: str) -> Pages:
        """List objects page by page, from behind a key where one is given."""
        query = {**_LIST, "prefix": start}
        if after:
            query["start-after"] = after
        before: dict[str, StoredObject] = {}
        read = partial(read_objects, markers=("continuation-token",))
        for page in self._pages("", query, read):
            items = page.items
            if not before.keys().isdisjoint(item.key for item in items):
                items = [i for i in items if i.key not in before or not i.is_like(before[i.key])]
            yield items
            before = {item.key: item for item in items}

    def folders(self, start: str) -> Iterator[str]:
        """List what stands between a start and the next slash."""
        query = {**_LIST, "prefix": start, "delimiter": "/"}
        read = partial(
            read_page,
            tag="CommonPrefixes",
            markers=("continuation-token",),
            read=lambda fields, decode: decode(fields["Prefix"]),
        )
        for page in self._pages("", query, read):
            for prefix in page.items:
                yield prefix[len(start) :].rstrip("/")

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects: a thousand in a request, or one by one if the store cannot do that."""
        for first in range(0, len(keys), _PAGE):
            page = keys[first : first + _PAGE]
            if self._has_delete_objects:
                try:
                    self._delete_objects(page)
                    continue
                except Fault as fault:
                    if fault.kind is not Kind.FINAL or fault.status not in _NOT_IMPLEMENTED:
                        raise
            self._delete_one_by_one(page)
            self._has_delete_objects = False

    def _delete_objects(self, keys: Sequence[str]) -> None:
        """Delete objects in one request."""
        names = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f"<Delete>{names}</Delete>".encode()
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"content-md5": base64.b64encode(digest).decode()}
        read = partial(see_deleted, set(keys))
        self._ask("POST", "", {"delete": ""}, headers, BufferBody(body), read=read)

    def _delete_one_by_one(self, keys: Sequence[str]) -> None:
        """Delete objects in a request each, several of them in flight."""
        waiting: deque[Pending[Reply]] = deque()

        def finish_first() -> None:
            try:
                waiting.popleft().result()
            except Fault as fault:
                if fault.status != 404 or fault.code == "NoSuchBucket":
                    raise

        try:
            for key in keys:
                if len(waiting) >= _DELETES_IN_FLIGHT:
                    finish_first()
                waiting.append(
                    self._send("DELETE", key, _NOTHING, _NOTHING, _NO_BODY, None, _as_it_is)
                )
            while waiting:
                finish_first()
        finally:
            for request in waiting:
                request.drop()

    def refuses_damage(self, key: str, upload_id: str = "") -> bool:
        """Send a body with a wrong checksum; return whether the server refuses it.

        A server that fails at it, rather than refuse it in S3's words, is taken for one that does
        not check.

        Parameters
        ----------
        key : str
            Its place.
        upload_id : str
            The multipart upload whose first part it is; empty for an object of its own.
        """
        query = {"partNumber": "1", "uploadId": upload_id} if upload_id else _NOTHING
        headers = {} if upload_id else self._headers.of_object(key, is_data=False)
        headers[self.algorithm.header] = self.algorithm.of(b"what is not sent")
        failures, keys, route = 0, None, None

        def attempt() -> bool:
            nonlocal failures, keys, route
            try:
                body = BufferBody(b"what is sent")
                sent = self._begin("PUT", key, query, headers, body, None)
                exchange, keys, route = sent
                self.checked(exchange.reply(), route)
            except Fault as fault:
                if fault.code and fault.status in _REFUSED:
                    if fault.kind is Kind.DAMAGED or fault.code == "InvalidRequest":
                        return True
                    if fault.kind is Kind.FINAL:
                        return False  # refused for another reason: nothing is known of checksums
                failures += 1
                if fault.status < 500 or failures < _ASKED:
                    raise
            return False

        return self.patiently(attempt, lambda fault: self.mend(fault, keys, route), None)

    def delete_matching(self, key: str, etag: str) -> bool:
        """Delete an object that has this ETag; return whether it is gone."""
        try:
            self._ask("DELETE", key, headers={"if-match": etag}, read=_as_it_is)
        except Fault as fault:
            if fault.status == 412:  # some servers say so where there is nothing, too
                return self.head(key) is None
            if not _is_absent(fault):
                raise
        return True

    def create_upload(self, key: str) -> str:
        """Begin an upload in parts and give its id."""
        headers = self._headers.of_object(key, is_data=True)
        headers["x-amz-checksum-algorithm"] = self.algorithm.value
        if self.algorithm is Algorithm.CRC64NVME:
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        read = lambda reply: text_of(read_xml(reply), "UploadId", needed=True)  # noqa: E731
        return self._ask("POST", key, {"uploads": ""}, headers, read=read)

    def send_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: Body,
        checksum: str,
        halt: threading.Event | None = None,
    ) -> "Pending[Part]":
        """Send one part, and do not wait for the answer."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers = {_ALGORITHM: self.algorithm.value, self.algorithm.header: checksum}
        read = lambda reply: Part(number, len(body), read_etag(reply), checksum)  # noqa: E731
        return self._send("PUT", key, query, headers, body, halt, read)

    def parts(self, key: str, upload_id: str) -> dict[int, Part] | None:
        """List, by number, the parts that have arrived; None where there is no such upload."""
        read = partial(read_page, tag="Part", markers=("part-number-marker",), read=self._read_part)
        found: dict[int, Part] = {}
        try:
            for page in self._pages(key, {"uploadId": upload_id}, read):
                found |= {part.number: part for part in page.items}
        except Fault as fault:
            if fault.code == "NoSuchUpload" or fault.status == 404:
                return None
            raise
        return found

    def _read_part(self, fields: Mapping[str, str], _: Decode) -> Part:
        """Read a part of a list."""
        checksum = fields.get(self.algorithm.element, "")
        number, size = int(fields["PartNumber"]), int(fields["Size"])
        return Part(number, size, quoted(fields.get("ETag", "")), checksum)

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Make an object of parts and give its ETag."""
        element = self.algorithm.element
        items = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>"
            f"<{element}>{part.checksum}</{element}></Part>"
            for part in parts
        )
        body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
        headers = {}
        whole = self.algorithm.of_whole([(part.checksum, part.size) for part in parts])
        if whole:
            headers = {self.algorithm.header: whole, "x-amz-checksum-type": "FULL_OBJECT"}
        read = lambda reply: quoted(text_of(read_xml(reply), "ETag", needed=True))  # noqa: E731
        return self._ask("POST", key, {"uploadId": upload_id}, headers, BufferBody(body), read=read)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not there is no error."""
        try:
            self._ask("DELETE", key, {"uploadId": upload_id}, read=_as_it_is)
        except Fault as fault:
            if fault.status != 404:
                raise

    def uploads(self, start: str) -> Iterator[Unfinished]:
        """List uploads that are not completed and whose keys start in this way.

        Their keys are not asked for encoded: SeaweedFS says that they are, and does not encode.
        """
        query = {"uploads": "", "prefix": start}
        markers = ("key-marker", "upload-id-marker")
        read = partial(read_page, tag="Upload", markers=markers, read=_read_upload)
        try:
            for page in self._pages("", query, read):
                yield from page.items
        except Fault as fault:
            if fault.code != "NoSuchUpload":  # what some servers say where there are none at all
                raise

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
        query: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: Body = _NO_BODY,
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


def _as_it_is(reply: Reply) -> Reply:
    """Return a reply of which nothing is read."""
    return reply


def _body_and_etag(reply: Reply) -> tuple[bytes, str]:
    """Read an object that came, and its ETag."""
    return read_body(reply), quoted(reply.headers.get("etag", ""))


def _is_absent(fault: Fault) -> bool:
    """Return whether a fault says that there is no such object."""
    return fault.code == "NoSuchKey" or (fault.status == 404 and not fault.code)


class Pending(Generic[T]):
    """A request that was sent, and whose answer is read when it is asked for.

    Parameters
    ----------
    client : S3Client
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
        client: S3Client,
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


def _read_upload(fields: Mapping[str, str], decode: Decode) -> Unfinished:
    """Read an upload of a list."""
    started = moment_of(fields.get("Initiated", ""))
    return Unfinished(decode(fields["Key"]), fields["UploadId"], started)
