"""An S3 server that throws bytes away, so that a client is the limit and not its server.

One process, one thread, `epoll`. The bodies of objects are dropped by the kernel (`MSG_TRUNC`:
they are not even copied); names, sizes and ETags are kept, so that every client finds what it
sent. What lies beneath `.transfer/` is kept whole, for our jobs read it back, and its checksums and
conditions are checked, as a real server does. Of other objects nothing is checked. Bodies may be
sent with a length, in AWS chunks with trailing checksums, and with `Transfer-Encoding: chunked`,
which botocore uses over TLS. Run it with::

    python benchmarks/sink.py [SECONDS]

With SECONDS, it answers so much later, as a store does that is far away or writes to disks; many
requests wait side by side. It prints its port. `GET /-/BUCKET` tells all keys of a bucket with
their sizes, as JSON, and `DELETE /-/BUCKET` forgets them.
"""

import bisect
import heapq
import itertools
import json
import re
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape, unescape

from aind_data_transfer_service.storage.s3.checksums import Algorithm

_HEAD_LIMIT = 1 << 16
_PIECE = 1 << 22
_KEPT = ".transfer/"
_TIME = "2024-02-19T11:25:17.000Z"
_HTTP_TIME = "Mon, 19 Feb 2024 11:25:17 GMT"
_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    412: "Precondition Failed",
}


@dataclass(slots=True)
class Taken:
    """An object that was taken."""

    size: int
    etag: str
    more: dict[str, str]
    """Its checksums and metadata, told as they were given."""
    data: bytes | None = None


@dataclass(slots=True)
class Upload:
    """A multipart upload that is not completed."""

    key: str
    more: dict[str, str]
    parts: dict[int, Taken] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """One request, its body read or dropped."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int = 0
    """How many bytes of an object it brought."""
    body: bytes = b""


@dataclass(slots=True)
class Answer:
    """What is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Bucket:
    """What was taken, by key, and in the order that lists have."""

    def __init__(self) -> None:
        self.objects: dict[str, Taken] = {}
        self.uploads: dict[str, Upload] = {}
        self._sorted: list[str] | None = None

    def put(self, key: str, taken: Taken) -> None:
        """Take an object."""
        if key not in self.objects:
            self._sorted = None
        self.objects[key] = taken

    def delete(self, key: str) -> None:
        """Forget an object."""
        if self.objects.pop(key, None) is not None:
            self._sorted = None

    def page(
        self, prefix: str, delimiter: str, after: str, limit: int
    ) -> tuple[list[str], list[str], str]:
        """Give keys and common prefixes of one page, and where the next begins, or nothing."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        keys, folders, last = [], [], after
        at = bisect.bisect_left(self._sorted, prefix)
        if after:
            at = max(at, bisect.bisect_right(self._sorted, after))
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            if len(keys) + len(folders) == limit:
                return keys, folders, last
            key = last = self._sorted[at]
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                keys.append(key)
                at += 1
            else:
                folder = key[: cut + len(delimiter)]
                folders.append(folder)
                last = folder + "\U0010ffff"
                at = bisect.bisect_left(self._sorted, last)
        return keys, folders, ""


class Sink:
    """Answers requests."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._count = 0

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.bucket == "-":
            return self._control(request)
        bucket = self._buckets.setdefault(request.bucket, Bucket())
        if not request.key:
            return self._of_bucket(bucket, request)
        if "uploads" in request.query or "uploadId" in request.query:
            return self._of_upload(bucket, request)
        if request.method == "PUT":
            return self._put(bucket, request)
        if request.method == "DELETE":
            if not _matches(bucket, request):
                return _error(412, "PreconditionFailed")
            bucket.delete(request.key)
            return Answer(204)
        taken = bucket.objects.get(request.key)
        if taken is None:
            return _error(404, "NoSuchKey")
        if request.method == "HEAD":
            return Answer(200, {**_headers(taken), "content-length": str(taken.size)})
        if taken.data is None:
            return _error(404, "NotKept")
        return Answer(200, _headers(taken), taken.data)

    def _control(self, request: Request) -> Answer:
        """Tell or forget what a bucket holds."""
        if request.method == "DELETE":
            self._buckets.pop(request.key, None)
            return Answer(204)
        bucket = self._buckets.get(request.key, Bucket())
        sizes = {key: taken.size for key, taken in bucket.objects.items()}
        return Answer(200, {}, json.dumps(sizes).encode())

    def _of_bucket(self, bucket: Bucket, request: Request) -> Answer:
        """Answer what concerns a bucket as a whole."""
        if request.method == "POST":  # the one that deletes many
            keys = re.findall(r"<Key>([^<]*)</Key>", request.body.decode())
            names = [unescape(key, {"&quot;": '"', "&apos;": "'"}) for key in keys]
            for name in names:
                bucket.delete(name)
            return _xml(
                "DeleteResult", [f"<Deleted><Key>{escape(n)}</Key></Deleted>" for n in names]
            )
        if request.method != "GET":
            return Answer(200)
        if "location" in request.query:
            return _xml("LocationConstraint", [])
        if "uploads" in request.query:
            prefix = request.query.get("prefix", "")
            return _xml(
                "ListMultipartUploadsResult",
                ["<IsTruncated>false</IsTruncated>"]
                + [
                    f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId>"
                    f"<Initiated>{_TIME}</Initiated></Upload>"
                    for upload_id, upload in bucket.uploads.items()
                    if upload.key.startswith(prefix)
                ],
            )
        return self._list(bucket, request.query)

    def _list(self, bucket: Bucket, query: dict[str, str]) -> Answer:
        """List objects, in the first or the second version."""
        name = quote if query.get("encoding-type") == "url" else escape
        second = query.get("list-type") == "2"
        after = unquote(query.get("continuation-token") or "") or query.get("start-after") or ""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, folders, following = bucket.page(
            prefix,
            delimiter,
            after if second else query.get("marker", ""),
            min(1000, int(query.get("max-keys") or 1000)),
        )
        lines = [
            f"<Prefix>{name(prefix)}</Prefix><MaxKeys>1000</MaxKeys>",
            f"<KeyCount>{len(keys) + len(folders)}</KeyCount>",
            f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>",
        ]
        if "encoding-type" in query:
            lines.append("<EncodingType>url</EncodingType>")
        if following:
            kind = "NextContinuationToken" if second else "NextMarker"
            lines.append(f"<{kind}>{quote(following) if second else name(following)}</{kind}>")
        for key in keys:
            taken = bucket.objects[key]
            lines.append(
                f"<Contents><Key>{name(key)}</Key><LastModified>{_TIME}</LastModified>"
                f"<ETag>{escape(taken.etag)}</ETag><Size>{taken.size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        lines += [
            f"<CommonPrefixes><Prefix>{name(folder)}</Prefix></CommonPrefixes>"
            for folder in folders
        ]
        return _xml("ListBucketResult", lines)

    def _put(self, bucket: Bucket, request: Request) -> Answer:
        """Take an object."""
        if not _matches(bucket, request):
            return _error(412, "PreconditionFailed")
        if _is_damaged(request):
            return _error(400, "BadDigest")
        taken = self._taken(request)
        taken.data = request.body if request.key.startswith(_KEPT) else None
        bucket.put(request.key, taken)
        return Answer(200, _headers(taken))

    def _of_upload(self, bucket: Bucket, request: Request) -> Answer:
        """Begin, fill, list, complete or abort a multipart upload."""
        if request.method == "POST" and "uploads" in request.query:
            self._count += 1
            upload_id = f"upload-{self._count}"
            bucket.uploads[upload_id] = Upload(request.key, _more(request.headers))
            named = f"<Key>{escape(request.key)}</Key><UploadId>{upload_id}</UploadId>"
            return _xml("InitiateMultipartUploadResult", [named])
        upload_id = request.query["uploadId"]
        upload = bucket.uploads.get(upload_id)
        if upload is None:
            return _error(404, "NoSuchUpload")
        if request.method == "PUT":
            if _is_damaged(request):
                return _error(400, "BadDigest")
            taken = upload.parts[int(request.query["partNumber"])] = self._taken(request)
            return Answer(200, _headers(taken))
        if request.method == "GET":
            return _xml("ListPartsResult", ["<IsTruncated>false</IsTruncated>", *_parts(upload)])
        del bucket.uploads[upload_id]
        if request.method == "DELETE":
            return Answer(204)
        named = [int(n) for n in re.findall(r"<PartNumber>\s*(\d+)", request.body.decode())]
        size = sum(upload.parts[number].size for number in named)
        self._count += 1
        etag = f'"{self._count:032x}-{len(named)}"'
        bucket.put(request.key, Taken(size, etag, upload.more))
        told = f"<Key>{escape(request.key)}</Key><ETag>{escape(etag)}</ETag>"
        checksum = request.headers.get("x-amz-checksum-crc64nvme")
        if checksum:
            told += f"<ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME>"
        return _xml("CompleteMultipartUploadResult", [told])

    def _taken(self, request: Request) -> Taken:
        """Note what a request brought. The ETag is none of MD5, as with encrypted buckets."""
        self._count += 1
        return Taken(request.size, f'"{self._count:032x}-1"', _more(request.headers))


def _matches(bucket: Bucket, request: Request) -> bool:
    """Return whether the conditions of a request hold."""
    there = bucket.objects.get(request.key)
    wanted = request.headers.get("if-match")
    if wanted is not None:
        return there is not None and there.etag == wanted
    return request.headers.get("if-none-match") != "*" or there is None


def _is_damaged(request: Request) -> bool:
    """Return whether a body that is kept has another checksum than its header says."""
    if not request.key.startswith(_KEPT):
        return False
    return any(
        request.headers.get(algorithm.header, algorithm.of(request.body))
        != algorithm.of(request.body)
        for algorithm in Algorithm
    )


def _more(headers: dict[str, str]) -> dict[str, str]:
    """Pick what is told again with an object."""
    wanted = ("x-amz-meta-", "x-amz-checksum-crc", "x-amz-checksum-sha")
    return {name: value for name, value in headers.items() if name.startswith(wanted)}


def _headers(taken: Taken) -> dict[str, str]:
    """Describe an object."""
    return {"etag": taken.etag, "last-modified": _HTTP_TIME, **taken.more}


def _parts(upload: Upload) -> list[str]:
    """List the parts of an upload."""
    return [
        f"<Part><PartNumber>{number}</PartNumber><LastModified>{_TIME}</LastModified>"
        f"<ETag>{escape(part.etag)}</ETag><Size>{part.size}</Size></Part>"
        for number, part in sorted(upload.parts.items())
    ]


def _xml(root: str, lines: list[str]) -> Answer:
    """Answer a document."""
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {space}>{"".join(lines)}</{root}>'
    return Answer(200, {"content-type": "application/xml"}, text.encode())


def _error(status: int, code: str) -> Answer:
    """Answer that something is not to be had."""
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Answer(status, {"content-type": "application/xml"}, text.encode())


class Answers:
    """Answers that are due later.

    Parameters
    ----------
    delay : float
        How many seconds later.
    """

    def __init__(self, delay: float):
        self._delay, self._count = delay, itertools.count()
        self._waiting: list[tuple[float, int, "Connection", bytes]] = []

    def send(self, connection: "Connection", data: bytes) -> None:
        """Have an answer written, at once where there is no delay."""
        if self._delay:
            due = time.monotonic() + self._delay
            heapq.heappush(self._waiting, (due, next(self._count), connection, data))
        else:
            connection.write(data)

    def write_due(self) -> float | None:
        """Write what is due, and tell how many seconds there are until the next is."""
        while self._waiting:
            left = self._waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, connection, data = heapq.heappop(self._waiting)
            try:
                connection.write(data)
            except OSError:  # the client is gone
                continue
        return None


class Connection:
    """One client's connection: reads requests, drops bodies, writes answers."""

    def __init__(self, peer: socket.socket, sink: Sink, scratch: memoryview, answers: Answers):
        self._peer, self._sink, self._scratch, self._answers = peer, sink, scratch, answers
        self._pending = bytearray()
        self._request: Request | None = None
        self._left = 0
        self._chunked = False
        self._kept: bytearray | None = None

    def readable(self) -> bool:
        """Read what is there; False at the end of the connection."""
        if self._left and self._kept is None and not self._pending:
            count = self._peer.recv_into(self._scratch, min(self._left, _PIECE), socket.MSG_TRUNC)
            self._left -= count
            if not self._left and not self._chunked:
                self._finish()
            return count > 0
        data = self._peer.recv(_HEAD_LIMIT)
        self._pending += data
        while self._step():
            continue
        return bool(data)

    def _step(self) -> bool:
        """Use up what was read; False where more has to come."""
        if self._request is None:
            end = self._pending.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self._pending[:end].decode("latin-1")
            del self._pending[: end + 4]
            self._begin(head)
        piece = min(self._left, len(self._pending))
        if self._kept is not None:
            self._kept += self._pending[:piece]
        del self._pending[:piece]
        self._left -= piece
        if self._left:
            return False
        if self._chunked:
            return self._begin_chunk()
        self._finish()
        return bool(self._pending)

    def _begin_chunk(self) -> bool:
        """Read the size of the next chunk; finish the request after the last one.

        Returns
        -------
        bool
            False if more bytes are needed first.
        """
        if self._pending.startswith(b"\r\n"):  # the end of the previous chunk
            del self._pending[:2]
        end = self._pending.find(b"\r\n")
        if end < 0:
            return False
        self._left = int(self._pending[:end].partition(b";")[0], 16)
        if self._left:
            del self._pending[: end + 2]
            return True
        end = self._pending.find(b"\r\n\r\n", end)  # trailers may follow the last chunk
        if end < 0:
            return False
        del self._pending[: end + 4]
        self._finish()
        return bool(self._pending)

    def _begin(self, head: str) -> None:
        """Read the head of a request."""
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if self._chunked and "x-amz-decoded-content-length" not in headers:
            raise ValueError(f"{first}: chunked without x-amz-decoded-content-length")
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path[1:]).partition("/")
        fields = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        self._left = int(headers.get("content-length", 0))
        size = int(headers.get("x-amz-decoded-content-length", self._left))
        self._request = Request(method, bucket, key, fields, headers, size)
        kept = method == "POST" or key.startswith(_KEPT)
        self._kept = bytearray() if kept else None
        if headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _finish(self) -> None:
        """Answer the request that has been read."""
        request, self._request = self._request, None
        assert request is not None
        if self._kept is not None:
            request.body, self._kept = bytes(self._kept), None
        answer = self._sink.answer(request)
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        head = [f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        data = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
        self._answers.send(self, data if request.method == "HEAD" else data + answer.body)

    def write(self, data: bytes) -> None:
        """Write an answer; they are short, and whoever asked is reading."""
        self._peer.setblocking(True)
        self._peer.sendall(data)
        self._peer.setblocking(False)


def serve(listener: socket.socket, delay: float) -> None:
    """Serve until the process is ended."""
    sink, scratch, answers = Sink(), memoryview(bytearray(_PIECE)), Answers(delay)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, tuple[socket.socket, Connection]] = {}
    while True:
        for number, _ in poll.poll(answers.write_due()):
            if number == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.setblocking(False)
                poll.register(peer.fileno(), select.EPOLLIN)
                connections[peer.fileno()] = peer, Connection(peer, sink, scratch, answers)
                continue
            peer, connection = connections[number]
            try:
                alive = connection.readable()
            except OSError:  # the client is gone
                alive = False
            if not alive:
                poll.unregister(number)
                del connections[number]
                peer.close()


def main() -> None:
    """Listen on a free port of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener, float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)


if __name__ == "__main__":
    main()
