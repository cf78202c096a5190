"""The operations of S3 on multipart uploads."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from xml.sax.saxutils import escape

from aind_data_transfer_service.storage.base import Body, BufferBody
from aind_data_transfer_service.storage.model import Part, Unfinished
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3.responses import (
    Decode,
    moment_of,
    quoted,
    read_etag,
    read_page,
    read_xml,
    text_of,
)
from aind_data_transfer_service.storage.s3.retry import Fault
from aind_data_transfer_service.storage.s3.session import (
    CHECKSUM_ALGORITHM,
    Pending,
    S3Session,
    unread,
)


class MultipartOperations(S3Session):
    """Creates, fills, lists, completes and aborts multipart uploads."""

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
        headers = {CHECKSUM_ALGORITHM: self.algorithm.value, self.algorithm.header: checksum}
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
            self._ask("DELETE", key, {"uploadId": upload_id}, read=unread)
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


def _read_upload(fields: Mapping[str, str], decode: Decode) -> Unfinished:
    """Read an upload of a list."""
    started = moment_of(fields.get("Initiated", ""))
    return Unfinished(decode(fields["Key"]), fields["UploadId"], started)
