"""Sending one object in parts, and going on with an upload that was broken off.

The calling thread reads, hashes and sends each part. If it would wait for the link, or leave a core
idle, other threads send while it reads on. A job that resumes an upload reads the file from its
start, because the hash needs every byte, and sends only the missing parts: a part counts as stored
if the checkpoint and the server's list agree on its size and ETag, and its checksum is that of the
bytes just read.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.concurrency.transfer_budget import Lane, Traffic
from aind_data_transfer_service.errors import CancelledError, InputError
from aind_data_transfer_service.storage.base import Body, MultipartCheckpoint, OnPart
from aind_data_transfer_service.storage.model import Begun, Buffer, Part, same_etag
from aind_data_transfer_service.storage.s3.client import S3Client
from aind_data_transfer_service.storage.s3.retry import Fault, Kind

_COMPLETED = 3
"""How often the server is asked to make the object, where it does not know its own upload."""


class PartsUpload:
    """The sending of one object.

    Parameters
    ----------
    client : S3Client
        The bucket.
    key : str
        The object.
    part_size : int
        The size of every part but the last.
    traffic : Traffic
        What may be on its way.
    checkpoint : MultipartCheckpoint | None
        Remembers the upload; without one it cannot be resumed.
    tell : Callable
        Takes what whoever asked for the job should know.
    on_part : OnPart | None
        Called once for each part that the server has acknowledged, now or to an earlier job.
    memory_cost : int | None
        Bytes of memory that each part takes; by default `part_size`.
    """

    def __init__(
        self,
        client: S3Client,
        key: str,
        part_size: int,
        traffic: Traffic,
        checkpoint: MultipartCheckpoint | None,
        tell: Callable[[str], None],
        on_part: OnPart | None = None,
        memory_cost: int | None = None,
    ):
        self._client, self._key, self._size = client, key, part_size
        self._traffic, self._checkpoint, self._tell = traffic, checkpoint, tell
        self._on_part, self._memory_cost = on_part, memory_cost or part_size
        self._lock = threading.Lock()
        self._done: dict[int, Part] = {}
        self._noted: dict[int, Part] = {}
        self._failure: BaseException | None = None
        self._upload_id = ""
        self._is_complete = False

    def run(self, pieces: Iterable[Body]) -> str:
        """Send what is missing and give the object's ETag.

        Raises
        ------
        Fault
            If a part cannot be sent. As after every error but a changed source, the parts are kept
            for the next job if the journal has them.
        """
        known = self._go_on() or self._begin()
        try:
            self._send_all(pieces, known)
        except BaseException as error:
            if self._checkpoint is None or _is_changed(error):
                self.abort()  # no later job can use the parts
            raise
        parts = [self._done[number] for number in sorted(self._done)]
        return self._complete(parts)

    def abort(self) -> None:
        """Leave nothing behind, as far as that can be done."""
        try:
            self._client.abort_upload(self._key, self._upload_id)
        except Fault as fault:
            self._tell(f"an unfinished upload of {self._key} could not be removed: {fault}")

    def _begin(self) -> Mapping[int, Part]:
        """Begin anew."""
        self._upload_id = self._client.create_upload(self._key)
        if self._checkpoint is not None:
            self._checkpoint.start(self._upload_id, self._size, self._client.algorithm.value)
        return {}

    def _go_on(self) -> Mapping[int, Part] | None:
        """Find what an earlier job left, if it can be gone on with."""
        begun = self._checkpoint.state() if self._checkpoint is not None else None
        if begun is None:
            return None
        if (begun.part_size, begun.algorithm) != (self._size, self._client.algorithm.value):
            self._client.abort_upload(self._key, begun.upload_id)
            return None
        self._upload_id, self._noted = begun.upload_id, dict(begun.parts)
        listed = self._client.parts(self._key, begun.upload_id)
        if listed is not None:
            return agreed(begun, listed)
        parts = [begun.parts[number] for number in sorted(begun.parts)]
        self._is_complete = bool(parts) and self._find(parts) is not None
        return begun.parts if self._is_complete else None

    def _send_all(self, pieces: Iterable[Body], known: Mapping[int, Part]) -> None:
        """Read every piece, and send those that are missing."""
        source = iter(pieces)
        with Pool(self._traffic.connections, "parts") as pool:
            try:
                self._send_each(source, known, pool)
            finally:
                pool.join()
        if self._failure is not None:
            raise self._failure

    def _send_each(self, source: Iterator[Body], known: Mapping[int, Part], pool: Pool) -> None:
        """Read every piece, and have those sent that are missing."""
        number = 0
        while self._failure is None:
            try:
                held = self._traffic.take(self._memory_cost)
            except CancelledError:
                if self._failure is None:
                    raise
                break  # a part that failed stopped the rest: it is the cause
            piece = next(source, None) if self._failure is None else None
            if piece is None:
                self._traffic.give(held)
                break
            number += 1
            checksum = self._client.algorithm.of_chunks(piece.read_and_hash())
            if self._is_there(known.get(number), piece, checksum):
                self._keep(replace(known[number], checksum=checksum), is_new=False)
                self._let_go(piece, held)
            elif self._traffic.sends_apart:
                pool.submit(self._send, number, piece, checksum, held)
            else:
                self._send(number, piece, checksum, held)
            del piece

    def _is_there(self, part: Part | None, piece: Body, checksum: str) -> bool:
        """Tell whether a part need not be sent."""
        if part is None:
            return False
        if not part.checksum:
            return part.size == len(piece) and part.etag.strip('"') == _md5(piece.chunks())
        if (part.size, part.checksum) == (len(piece), checksum):
            return True
        self._tell(
            f"part {part.number} of {self._key} is not what was sent earlier: the source changed "
            "without its time doing so; it is sent again"
        )
        if self._is_complete:
            raise Fault(Kind.FINAL, "the source is not what was sent earlier; submit again")
        return False

    def _send(self, number: int, piece: Body, checksum: str, held: int) -> None:
        """Send one part."""
        begun = self._key, self._upload_id
        try:
            with self._traffic.seat(Lane.LARGE):
                start = time.monotonic()
                sent = self._client.send_part(*begun, number, piece, checksum, self._traffic.halt)
                middle = time.monotonic()
                part = sent.result()
                self._traffic.note(len(piece), middle - start, time.monotonic() - middle)
            self._keep(part, is_new=True)
        except BaseException as error:  # handed to the thread that reads
            with self._lock:
                if self._failure is None or isinstance(self._failure, CancelledError):
                    self._failure = error
            self._traffic.stop()
        finally:
            self._let_go(piece, held)

    def _keep(self, part: Part, is_new: bool) -> None:
        """Note a part that has arrived, unless just that was noted before.

        One that an earlier job sent and did not live to note counts too: by the parts it knows of,
        a job that comes after this one recognises the object.
        """
        if self._checkpoint is not None and self._noted.get(part.number) != part:
            self._checkpoint.add_part(self._upload_id, part)
        with self._lock:
            self._done[part.number] = part
        if self._on_part is not None:
            self._on_part(part.number, part.size, is_new)

    def _let_go(self, piece: Body, held: int) -> None:
        """Give back what a part took."""
        piece.release()
        self._traffic.give(held)

    def _complete(self, parts: Sequence[Part]) -> str:
        """Have the server make the object, unless it has done so already."""
        fault = Fault(Kind.FINAL, "the object was replaced while it was looked at")
        for _ in range(1 if self._is_complete else _COMPLETED):
            try:
                if not self._is_complete:
                    return self._client.complete_upload(self._key, self._upload_id, parts)
            except Fault as error:
                if error.code != "NoSuchUpload":
                    raise
                fault = error
            etag = self._find(parts)
            if etag is not None:
                return etag
            if self._client.parts(self._key, self._upload_id) is None:
                break  # else the request came in damaged: the upload is there
        raise fault

    def _find(self, parts: Sequence[Part]) -> str | None:
        """Look whether the object is there already, made of just these parts; give its ETag."""
        found = self._client.head(self._key)
        if found is None or found.get("content-length") != str(sum(part.size for part in parts)):
            return None
        whole = self._client.algorithm.of_whole([(part.checksum, part.size) for part in parts])
        same = found.get(self._client.algorithm.header) == whole is not None
        etag = found.get("etag", "").strip('"')
        return f'"{etag}"' if same or same_etag(etag, composite_etag(parts)) else None


def agreed(begun: Begun, listed: Mapping[int, Part]) -> dict[int, Part]:
    """Tell which parts may have arrived: what journal and server agree on, or the server has.

    Those that the journal does not know count only once their checksum, or where the server tells
    none their MD5 sum (which the ETag of a part commonly is), is that of the source.

    Parameters
    ----------
    begun : Begun
        What the journal says.
    listed : Mapping[int, Part]
        By number, what the server lists; an empty checksum where it does not tell.
    """
    result = {}
    for number, there in listed.items():
        noted = begun.parts.get(number)
        if noted is not None and noted.size == there.size and same_etag(noted.etag, there.etag):
            if there.checksum in ("", noted.checksum):
                result[number] = noted
        elif noted is None:  # it arrived, and the job ended before it could note so
            result[number] = there
    return result


def composite_etag(parts: Sequence[Part]) -> str:
    """Compute the ETag of an object of parts, where those of the parts are their MD5 sums."""
    try:
        sums = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    except ValueError:
        return ""
    return f"{_md5((sums,))}-{len(parts)}"


def _md5(chunks: Iterable[Buffer]) -> str:
    """Compute an MD5 sum, of which ETags are made; it proves nothing else."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _is_changed(error: BaseException) -> bool:
    """Return whether the bytes to be sent changed, so that the parts sent so far are useless."""
    return isinstance(error, InputError) and error.is_changed
