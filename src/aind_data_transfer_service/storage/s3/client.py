"""The operations of S3, each as one method.

Written against Amazon's API reference of S3 (version 2006-03-01). Bodies carry a checksum of their
own, CRC64NVME or (`AWS_CHECKSUM_ALGORITHM=SHA256`) SHA-256, so that the server itself refuses a
damaged one.
"""

import base64
import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from xml.sax.saxutils import escape

from aind_data_transfer_service.errors import InputError
from aind_data_transfer_service.storage.base import BufferBody, PreconditionFailed
from aind_data_transfer_service.storage.model import Buffer, StoredObject, Window
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.multipart_operations import MultipartOperations
from aind_data_transfer_service.storage.s3.parallel_list import Pages, in_pieces
from aind_data_transfer_service.storage.s3.responses import (
    quoted,
    read_body,
    read_etag,
    read_objects,
    read_page,
    read_range,
    see_deleted,
)
from aind_data_transfer_service.storage.s3.retry import Fault, Kind
from aind_data_transfer_service.storage.s3.session import (
    CHECKSUM_ALGORITHM,
    NO_BODY,
    NOTHING,
    Pending,
    unread,
)

_LONG_BODY = 1 << 16
"""Shorter bodies never wait for the link: the system takes them whole."""
_PAGE = 1000
_DELETES_IN_FLIGHT = 16
_NOT_IMPLEMENTED = (400, 405, 501)
"""What stores without DeleteObjects answer to it. Google Cloud Storage answers 400."""
_LIST = {"list-type": "2", "encoding-type": "url"}
_LARGEST_DOCUMENT = 1 << 28
"""Bytes of an object that is read whole: a record or a document."""
_REFUSED = (400, 409, 412, 422)
"""How a server refuses a body that its checksum does not fit."""
_ASKED = 3
"""How often it is asked at most, if it fails."""
_WITH_CHECKSUM = {"x-amz-checksum-mode": "ENABLED"}


class S3Client(MultipartOperations):
    """The operations of S3 on one bucket. May be used from several threads at once."""

    _has_delete_objects = True
    """Whether the server deletes many objects in one request, as far as is known."""
    _knows_ranges = True
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
        headers[CHECKSUM_ALGORITHM] = self.algorithm.value
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
                headers[CHECKSUM_ALGORITHM] = algorithm
                headers[header] = self.algorithm.of(data)
                body = BufferBody(data)
                send = partial(self._begin, "PUT", key, NOTHING, headers, body, halt, in_row=True)
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
            return self._ask("HEAD", key, headers=_WITH_CHECKSUM, read=unread).headers
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
                waiting.append(self._send("DELETE", key, NOTHING, NOTHING, NO_BODY, None, unread))
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
        query = {"partNumber": "1", "uploadId": upload_id} if upload_id else NOTHING
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
            self._ask("DELETE", key, headers={"if-match": etag}, read=unread)
        except Fault as fault:
            if fault.status == 412:  # some servers say so where there is nothing, too
                return self.head(key) is None
            if not _is_absent(fault):
                raise
        return True


def _body_and_etag(reply: Reply) -> tuple[bytes, str]:
    """Read an object that came, and its ETag."""
    return read_body(reply), quoted(reply.headers.get("etag", ""))


def _is_absent(fault: Fault) -> bool:
    """Return whether a fault says that there is no such object."""
    return fault.code == "NoSuchKey" or (fault.status == 404 and not fault.code)
