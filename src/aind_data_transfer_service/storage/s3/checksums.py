"""Checksums that travel with a body, so that the server itself refuses a damaged one."""

import base64
import hashlib
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from enum import StrEnum

from awscrt import checksums

from aind_data_transfer_service.storage.model import Buffer


class Algorithm(StrEnum):
    """How bodies are guarded."""

    CRC64NVME = "CRC64NVME"
    SHA256 = "SHA256"

    @property
    def header(self) -> str:
        """The header that carries the checksum."""
        return f"x-amz-checksum-{self.value.lower()}"

    @property
    def element(self) -> str:
        """The XML element that carries it."""
        return f"Checksum{self.value}"

    def of(self, data: Buffer) -> str:
        """Compute the checksum of bytes in memory, as S3 writes it."""
        return self.of_chunks((data,))

    def of_chunks(self, chunks: Iterable[Buffer]) -> str:
        """Compute the checksum of consecutive chunks, as S3 writes it."""
        if self is Algorithm.SHA256:
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)
            return base64.b64encode(digest.digest()).decode()
        value = 0
        for chunk in chunks:
            value = checksums.crc64nvme(chunk, value)
        return b2a_base64(value.to_bytes(8, "big"), newline=False).decode()

    def of_whole(self, parts: Sequence[tuple[str, int]]) -> str | None:
        """Combine checksums of parts, with their sizes, into that of the whole, if possible."""
        if self is Algorithm.SHA256 or not parts:
            return None
        whole = 0
        for checksum, size in parts:
            value = int.from_bytes(base64.b64decode(checksum), "big")
            whole = checksums.combine_crc64nvme(whole, value, size)
        return base64.b64encode(whole.to_bytes(8, "big")).decode()
