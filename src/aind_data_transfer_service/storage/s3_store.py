"""A bucket at Amazon S3, or at a server that speaks its language, as a store of assets."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.concurrency.rate_limit import TokenBucket
from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.storage.base import (
    AssetStore,
    Body,
    Conduct,
    Guard,
    GuardSlot,
    MultipartCheckpoint,
    OnPart,
    PreconditionFailed,
)
from aind_data_transfer_service.storage.model import (
    Buffer,
    S3Keys,
    StoredObject,
    Unfinished,
    Window,
)
from aind_data_transfer_service.storage.multipart import PartsUpload
from aind_data_transfer_service.storage.s3.aws_config import read_aws_config
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.storage.s3.client import S3Client
from aind_data_transfer_service.storage.s3.credentials import Credentials
from aind_data_transfer_service.storage.s3.endpoint import Routes, resolve
from aind_data_transfer_service.storage.s3.http import Wire
from aind_data_transfer_service.storage.s3.object_headers import Headers
from aind_data_transfer_service.storage.s3.responses import quoted
from aind_data_transfer_service.storage.s3.retry import Fault, Kind, Patience, Repeats

_KEY_LIMIT = 1024
_OBJECT_LIMIT = 10_000 * 5 * 1024**3
"""What the parts of an upload can hold, which is Amazon's limit too: 48.8 TiB."""
_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")
_ARCHIVES = frozenset(("GLACIER", "DEEP_ARCHIVE"))
"""Storage classes whose objects have to be restored before they can be read."""
_AT_ONCE = 2
_DELETED_AT_ONCE = 8
_QUICK = 4.0
_LONGEST_STALL = 60.0
_LONGEST_CONNECT = 10.0
_WITHOUT = {
    "s3_kms_key_id": {"s3_kms_key_id": None},
    "s3_bucket_key": {"s3_bucket_key": None},
    "s3_encryption": {"s3_encryption": None, "s3_kms_key_id": None, "s3_bucket_key": None},
    "s3_acl": {"s3_acl": None},
    "s3_tags": {"s3_tags": None},
}
"""Settings for which a store may refuse an object, and what is left out with each."""
_DEMANDED = (
    ("s3_encryption", "AES256"),
    ("s3_encryption", "aws:kms"),
    ("s3_acl", "bucket-owner-full-control"),
)
"""Settings that policies of buckets demand."""


class S3AssetStore(AssetStore):
    """A bucket at S3.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    endpoint_url : str | None
        Address of a server other than Amazon's.
    quick : bool
        Give up after seconds rather than minutes, and at once where no server listens.
    keys : S3Keys | None
        Credentials other than those of the environment.
    conduct : Conduct
        How it treats the server.
    """

    key_limit = _KEY_LIMIT
    object_limit = _OBJECT_LIMIT
    window = 32
    list_pauses = (0.2, 1.0, 3.0)

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        quick: bool = False,
        keys: S3Keys | None = None,
        conduct: Conduct = Conduct(),
    ):
        self._bucket, self.tell = bucket, conduct.tell
        region = keys.region if keys else None
        settings = S3Settings()
        seconds = _QUICK if quick else conduct.retry_seconds
        credentials = Credentials(keys, 0.0 if quick else seconds, tell=conduct.tell)
        config = read_aws_config(
            settings, endpoint_url or None, region, credentials.source, conduct.tell
        )
        self._slot = GuardSlot()
        connect = partial(
            Wire,
            slot=self._slot,
            stall=_QUICK if quick else min(_LONGEST_STALL, seconds / 4),
            connect=min(_LONGEST_CONNECT, seconds / 2),
            bandwidth=TokenBucket(conduct.bandwidth) if conduct.bandwidth else None,
            awaits_server=not quick,
        )
        self._settings, self._patience = settings, Patience(seconds)
        host = urlsplit(config.endpoint_url or "").hostname or ""
        self._is_amazon = not host or bucket.startswith("arn:") or host.endswith(_AMAZON)
        if settings.s3_storage_class in _ARCHIVES:
            self.archive_class = settings.s3_storage_class
        self._open = partial(
            S3Client,
            Routes(partial(resolve, bucket, config), connect),
            credentials,
            repeats=Repeats(conduct.tell),
        )
        self._client = self._open(
            patience=self._patience, algorithm=_algorithm(), headers=Headers(settings)
        )

    @property
    def guard(self) -> Guard:
        """Return what is asked before each request that changes anything."""
        return self._slot.guard

    @guard.setter
    def guard(self, guard: Guard) -> None:
        """Set what is asked."""
        self._slot.guard = guard

    @property
    def requests_per_second(self) -> float | None:
        """How many writing requests are sent a second at most; None for as many as can be."""
        return self._client.rate.rate if self._client.rate else None

    def location(self, key: str) -> str:
        """Write the place of a key as an S3 address."""
        return f"s3://{self._bucket}/{key}"

    def objects(self, prefix: str, cuts: Sequence[str] = ()) -> Iterator[StoredObject]:
        """List, page by page, everything beneath `prefix/`."""
        try:
            yield from self._client.list(f"{prefix}/", cuts)
        except Fault as fault:
            raise DestinationError(self._words("list", prefix, fault)) from fault

    def folders(self, prefix: str = "") -> set[str]:
        """List the folders directly beneath a prefix, or at the root."""
        try:
            return set(self._client.folders(f"{prefix}/" if prefix else ""))
        except Fault as fault:
            raise DestinationError(self._words("list", prefix, fault)) from fault

    def put(
        self,
        key: str,
        data: Buffer,
        new: bool = False,
        halt: threading.Event | None = None,
        if_match: str | None = None,
    ) -> str:
        """Send an object in one request."""
        try:
            if not self.conditional and (new or if_match is not None):
                return self._put_compared(key, data, if_match)
            return self._client.put(key, data, new, halt, if_match)
        except FileExistsError as error:
            raise FileExistsError(self.location(key)) from error
        except Fault as fault:
            is_conditional = new or if_match is not None
            if is_conditional and (fault.status == 501 or fault.code == "NotImplemented"):
                raise NotImplementedError(self._words("write", key, fault)) from fault
            raise TransferError(self._words("write", key, fault)) from fault

    def put_all(
        self,
        objects: Iterable[tuple[str, Buffer]],
        window: Window,
        halt: threading.Event | None = None,
    ) -> Iterator[str]:
        """Send objects in one request each, several of them on their way at once."""
        keys: deque[str] = deque()

        def noted() -> Iterator[tuple[str, Buffer]]:
            for key, data in objects:
                keys.append(key)
                yield key, data

        try:
            for etag in self._client.put_all(noted(), window, halt):
                keys.popleft()
                yield etag
        except Fault as fault:
            raise TransferError(self._words("write", keys[0], fault)) from fault

    def put_parts(
        self,
        key: str,
        parts: Iterable[Body],
        part_size: int,
        traffic: Traffic | None = None,
        checkpoint: MultipartCheckpoint | None = None,
        on_part: OnPart | None = None,
        memory_cost: int | None = None,
    ) -> str:
        """Send an object as a multipart upload, or resume one."""
        traffic = traffic or Traffic(_AT_ONCE, _AT_ONCE * part_size)
        try:
            upload = PartsUpload(
                self._client, key, part_size, traffic, checkpoint, self.tell, on_part, memory_cost
            )
            return upload.run(parts)
        except Fault as fault:
            raise TransferError(self._words("write", key, fault)) from fault

    def _put_compared(self, key: str, data: Buffer, if_match: str | None) -> str:
        """Compare what is there, then write: a store without conditional writes can do no more.

        The ETag is the one that the store serves, which need not be the one that it answered.
        """
        found = self._client.fetch(key)
        if if_match is None and found is not None:
            raise FileExistsError(key)
        if if_match is not None and (found is None or found[1] != if_match):
            raise PreconditionFailed(key)
        etag = self._client.put(key, data)
        stored = self._client.fetch(key)
        return stored[1] if stored is not None and stored[0] == data else etag

    def fetch(self, key: str) -> tuple[bytes, str] | None:
        """Read an object and its ETag."""
        try:
            return self._client.fetch(key)
        except Fault as fault:
            raise DestinationError(self._words("read", key, fault)) from fault

    def read(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read an object in pieces, each asked for by itself."""
        start = 0
        try:
            while chunk := self._client.read(key, start, chunk_size):
                yield chunk
                start += len(chunk)
                if len(chunk) < chunk_size:
                    return
        except Fault as fault:
            raise DestinationError(self._words("read", key, fault)) from fault

    def refuses_damage(self, key: str, in_parts: bool) -> bool:
        """Send a few bytes with a wrong checksum; return whether the server refuses them."""
        try:
            return self._refuses_part(key) if in_parts else self._client.refuses_damage(key)
        except Fault as fault:
            raise DestinationError(self._words("write", key, fault)) from fault

    def _refuses_part(self, key: str) -> bool:
        """Send a part with a wrong checksum; return whether the server refuses it."""
        try:
            upload_id = self._client.create_upload(key)
        except Fault as fault:
            if fault.kind is not Kind.FINAL:
                raise
            return False  # it takes no multipart uploads: those that are needed fail and say so
        try:
            return self._client.refuses_damage(key, upload_id)
        finally:
            self._abort_all(key, upload_id)

    def _abort_all(self, key: str, upload_id: str) -> None:
        """Abort an upload that was a trial, and others of its key: an answer may have got lost."""
        try:
            self._client.abort_upload(key, upload_id)
            for upload in list(self._client.uploads(key)):
                if upload.upload_id != upload_id:
                    self._client.abort_upload(upload.key, upload.upload_id)
        except Fault as fault:
            self.tell(self._words("remove the unfinished upload of", key, fault))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, a thousand in a request."""
        try:
            self._client.delete(keys)
        except Fault as fault:
            raise DestinationError(self._words("delete", keys[0], fault)) from fault

    def check_storage_class(self, key: str) -> None:
        """Begin an upload in the storage class of data, and abort it.

        Amazon charges nothing for that, whatever the class; an object of a few bytes would cost as
        much as the smallest and shortest storage of its class. Other servers look at the class only
        when they make an object, so there one is written and deleted as well.
        """
        name = self._settings.s3_storage_class
        if name is None:
            return
        client = self._open(
            patience=self._patience,
            algorithm=self._client.algorithm,
            headers=Headers(self._settings, is_trial=True),
        )
        try:
            if not self._takes_upload(client, key) or not self._is_amazon:
                client.put(key, b"storage class")
                client.delete([key])
        except Fault as fault:
            words = self._words("write", key, fault)
            if fault.kind is Kind.FINAL:
                words += f"; this object had the storage class of S3_STORAGE_CLASS ({name})"
            raise DestinationError(words) from fault

    def _takes_upload(self, client: S3Client, key: str) -> bool:
        """Begin an upload and abort it; return whether the server takes uploads in parts."""
        try:
            upload_id = client.create_upload(key)
        except Fault as fault:
            if fault.status in (405, 501) or fault.code == "NotImplemented":
                return False
            raise
        self._abort_all(key, upload_id)
        return True

    def refused_setting(self, key: str, data: Buffer, error: TransferError) -> str:
        """Try the object without each setting, and with those that policies demand.

        The first try that succeeds is named. What it wrote is deleted.
        """
        fault = error.__cause__
        if not isinstance(fault, Fault) or fault.status not in (400, 403):
            return ""
        for words, settings, algorithm in _variants(self._settings, self._client.algorithm):
            client = self._open(
                patience=Patience(_QUICK), algorithm=algorithm, headers=Headers(settings)
            )
            try:
                client.put(key, data)
            except Fault:
                continue
            try:
                client.delete([key])
            except Fault as left:
                self.tell(self._words("delete", key, left))
            return f"; the store accepts objects {words}"
        return ""

    def delete_matching(self, objects: Mapping[str, str]) -> list[str]:
        """Delete objects by conditional requests, several at once.

        A server that ignores the condition deletes what was listed a moment ago; one that refuses
        it is asked for the ETag first.
        """
        with Pool(_DELETED_AT_ONCE, "delete") as pool:
            answers = [pool.submit(self._delete_matching, *one) for one in objects.items()]
            return [key for key, is_gone in zip(objects, answers) if not is_gone.result()]

    def _delete_matching(self, key: str, etag: str) -> bool:
        """Delete one object; return whether it is gone."""
        try:
            return self._client.delete_matching(key, etag)
        except Fault as fault:
            if fault.status != 501 and fault.code != "NotImplemented":
                raise DestinationError(self._words("delete", key, fault)) from fault
        try:
            found = self._client.head(key)
            if found is not None and quoted(found.get("etag", "")) != etag:
                return False
            self._client.delete([key])
        except Fault as fault:
            raise DestinationError(self._words("delete", key, fault)) from fault
        return True

    def settle(self, prefix: str) -> None:
        """Report the retries that were not reported yet; S3 has written what it answered."""
        self._client.tell_rest()

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """List uploads beneath `prefix/`, or in the whole bucket, that were never completed."""
        try:
            yield from self._client.uploads(f"{prefix}/" if prefix else "")
        except Fault as fault:
            words = self._words("list unfinished uploads of", prefix, fault)
            raise DestinationError(words) from fault

    def abort(self, upload: Unfinished) -> None:
        """Remove what has arrived of an upload that was never completed."""
        try:
            self._client.abort_upload(upload.key, upload.upload_id)
        except Fault as fault:
            words = self._words("abort the unfinished upload of", upload.key, fault)
            raise DestinationError(words) from fault

    def _words(self, doing: str, key: str, fault: Fault) -> str:
        """Say what went wrong, where, and what would help."""
        place = self.location(key)
        if fault.code == "NoSuchBucket":
            return f'there is no bucket "{self._bucket}"; name one that exists in s3_bucket'
        if fault.code == "InvalidObjectState":
            return (
                f"cannot {doing} {place}: it is in an archive storage class; restore it first "
                "(aws s3api restore-object), or prove it without --deep"
            )
        if fault.status in (401, 403):
            owner = self._settings.s3_bucket_owner
            doubt = f"; does the account of S3_BUCKET_OWNER ({owner}) own the bucket?"
            return f"not allowed to {doing} {place}: {fault.words}{doubt if owner else ''}"
        return f"cannot {doing} {place}: {fault.words}"


def _variants(
    settings: S3Settings, algorithm: Algorithm
) -> Iterator[tuple[str, S3Settings, Algorithm]]:
    """Return other ways to store an object, each with its words for a message."""
    for name, update in _WITHOUT.items():
        if getattr(settings, name) is not None:
            yield f"without {name.upper()}", settings.model_copy(update=update), algorithm
    for name, value in _DEMANDED:
        if getattr(settings, name) is None:
            words = f"with {name.upper()}={value}"
            yield words, settings.model_copy(update={name: value}), algorithm
    if algorithm is not Algorithm.SHA256:
        yield "with AWS_CHECKSUM_ALGORITHM=SHA256", settings, Algorithm.SHA256


def _algorithm() -> Algorithm:
    """Choose how bodies are guarded."""
    name = os.environ.get("AWS_CHECKSUM_ALGORITHM", "").upper() or Algorithm.CRC64NVME.value
    try:
        return Algorithm(name)
    except ValueError:
        raise DestinationError(
            f'AWS_CHECKSUM_ALGORITHM is "{name}"; write one of {", ".join(Algorithm)}'
        ) from None
