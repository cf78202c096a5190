"""A bucket at Amazon S3, or at a server that speaks its language.

The bytes go through obstore, each object with a CRC64NVME of its body, so that the server itself
refuses a damaged one (`AWS_CHECKSUM_ALGORITHM=SHA256` chooses the other algorithm for servers
that lack the first). Credentials come from the usual `AWS_*` variables or, where those are not
set, from whatever boto3 finds: profiles, single sign-on, the machine's role.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.upload.store import (
    RECORDS,
    AssetStore,
    S3Keys,
    StoredObject,
    Unfinished,
)

logger = logging.getLogger(__name__)

_KEY_LIMIT = 1024
_OBJECT_LIMIT = 5 * 1024**4
_NATIVE_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_PATIENT = {
    "retry_config": {"max_retries": 10, "retry_timeout": timedelta(minutes=3)},
    "client_options": {"timeout": timedelta(minutes=10), "connect_timeout": timedelta(seconds=10)},
}
_QUICK = {
    "retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=4)},
    "client_options": {"timeout": timedelta(seconds=4), "connect_timeout": timedelta(seconds=2)},
}
_LIST_PAGE = 1000


class S3AssetStore(AssetStore):
    """A bucket at S3.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    endpoint_url : str | None
        Address of a server other than Amazon's.
    quick : bool
        Give up after seconds rather than minutes.
    keys : S3Keys | None
        Credentials other than those of the environment.
    """

    key_limit = _KEY_LIMIT
    object_limit = _OBJECT_LIMIT

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        quick: bool = False,
        keys: S3Keys | None = None,
    ):
        if endpoint_url and not re.fullmatch(r"https?://[\w.:\[\]-]+/?\S*", endpoint_url):
            raise DestinationError(
                f'"{endpoint_url}" is no address of an S3 server; write http:// or https://, '
                "its name and its port"
            )
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        patience = _QUICK if quick else _PATIENT
        config: dict[str, Any] = {"unsigned_payload": True}  # the checksum guards the body
        if endpoint_url:
            config["endpoint"] = endpoint_url
        if "AWS_CHECKSUM_ALGORITHM" not in os.environ:
            config["checksum_algorithm"] = "CRC64NVME"
        self._keys = keys
        if keys is not None:
            config |= keys.settings()
        elif not any(os.environ.get(name) for name in _NATIVE_CREDENTIALS):
            config["credential_provider"] = _boto3_credentials()
        try:
            self._store = S3Store(
                bucket,
                retry_config=patience["retry_config"],
                client_options={"allow_http": True, **patience["client_options"]},
                **config,
            )
        except (BaseError, ValueError) as error:
            raise DestinationError(f"s3://{bucket} cannot be opened: {_first_line(error)}")

    def location(self, key: str) -> str:
        """Write the place of a key as an S3 address."""
        return f"s3://{self._bucket}/{key}"

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """List, page by page, everything beneath `prefix/`."""
        try:
            for page in obstore.list(self._store, prefix, chunk_size=_LIST_PAGE):
                for item in page:
                    yield StoredObject(
                        item["path"], item["size"], item["e_tag"] or "", item["last_modified"]
                    )
        except (BaseError, OSError) as error:
            raise DestinationError(self._words("list", prefix, error))

    def folders(self, prefix: str = "") -> set[str]:
        """List the folders directly beneath a prefix, or at the root."""
        try:
            answer = obstore.list_with_delimiter(self._store, prefix or None)
        except (BaseError, OSError) as error:
            raise DestinationError(self._words("list", prefix, error))
        return {name.rstrip("/").rsplit("/", 1)[-1] for name in answer["common_prefixes"]}

    def put(self, key: str, data: bytes, new: bool = False) -> str:
        """Send an object in one request."""
        mode = "create" if new else "overwrite"
        try:
            return (
                obstore.put(self._store, key, data, use_multipart=False, mode=mode)["e_tag"] or ""
            )
        except AlreadyExistsError as error:
            raise FileExistsError(self.location(key)) from error
        except (BaseError, OSError) as error:
            raise TransferError(self._words("write", key, error)) from error

    def put_parts(self, key: str, parts: Iterable[bytes], part_size: int, at_once: int) -> str:
        """Send an object by a multipart upload."""
        source = _Parts(parts)
        try:
            answer = obstore.put(
                self._store, key, source, chunk_size=part_size, max_concurrency=at_once
            )
        except Exception as error:
            self._give_up(key)
            if source.failure is not None:  # the reading failed, not the sending
                raise source.failure
            raise TransferError(self._words("write", key, error)) from error
        return answer["e_tag"] or ""

    def get(self, key: str) -> bytes | None:
        """Read an object whole."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise DestinationError(self._words("read", key, error))

    def read(self, key: str, chunk_size: int) -> Iterator[bytes]:
        """Read an object in pieces."""
        try:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=chunk_size):
                yield bytes(chunk)
        except (BaseError, OSError) as error:
            raise DestinationError(self._words("read", key, error))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, a thousand in a request."""
        try:
            if keys:
                obstore.delete(self._store, list(keys))
        except (BaseError, OSError) as error:
            raise DestinationError(self._words("delete", keys[0], error))

    def create(self) -> None:
        """Make sure that the bucket is there: to make one is not ours to do."""
        self.folders(RECORDS)

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """List uploads beneath `prefix/`, or in the whole bucket, that were never completed."""
        yield from self._uploads(f"{prefix}/" if prefix else "")

    def abort(self, upload: Unfinished) -> None:
        """Remove what has arrived of an upload that was never completed."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client().abort_multipart_upload(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
            )
        except (BotoCoreError, ClientError) as error:
            raise DestinationError(
                f"the unfinished upload of {self.location(upload.key)} cannot be removed: "
                f"{_first_line(error)}"
            )

    def clear_unfinished(self, prefix: str) -> None:
        """Abort multipart uploads beneath a prefix that were never completed."""
        for upload in list(self.unfinished(prefix)):
            self.abort(upload)

    def _give_up(self, key: str) -> None:
        """Abort the upload of one object, as far as that can be done."""
        try:
            for upload in list(self._uploads(key)):
                if upload.key == key:
                    self.abort(upload)
        except DestinationError as error:  # the next attempt at this asset will do it
            logger.warning("%s", error)

    def _uploads(self, start: str) -> Iterator[Unfinished]:
        """List unfinished uploads whose keys begin in this way."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            pages = self._client().get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for upload in page.get("Uploads", []):
                    yield Unfinished(upload["Key"], upload["UploadId"], upload.get("Initiated"))
        except (BotoCoreError, ClientError) as error:
            raise DestinationError(
                f"unfinished uploads of {self.location(start)} cannot be listed: "
                f"{_first_line(error)}"
            )

    def _client(self) -> Any:
        """Open a client of boto3."""
        return self._session().client("s3", endpoint_url=self._endpoint_url)

    def _session(self) -> Any:
        """Open a session of boto3 with the credentials that count."""
        import boto3

        given = self._keys.settings() if self._keys else {}
        return boto3.Session(
            **{
                "region_name" if name == "region" else f"aws_{name}": value
                for name, value in given.items()
            }
        )

    def _words(self, doing: str, key: str, error: Exception) -> str:
        """Say what went wrong, where, and what would help."""
        text = str(error)
        place = self.location(key)
        if "NoSuchBucket" in text:
            return f'there is no bucket "{self._bucket}"; name one that exists in s3_bucket'
        if "error sending request" in text:
            return f"cannot {doing} {place}: no answer from {self._endpoint_url or 'Amazon S3'}"
        code = re.search(r"<Code>([^<]*)</Code>", text)
        words = re.search(r"<Message>([^<]*)</Message>", text)
        reason = ": ".join(match.group(1) for match in (code, words) if match)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or " 403 " in text:
            return f"not allowed to {doing} {place}: {reason or 'access denied'}"
        return f"cannot {doing} {place}: {reason or _first_line(error)}"


class _Parts:
    """Hands parts to obstore, and remembers the error that the reading of them ended with."""

    def __init__(self, parts: Iterable[bytes]):
        self._parts = iter(parts)
        self.failure: BaseException | None = None

    def __iter__(self) -> "_Parts":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _boto3_credentials() -> Any:
    """Find credentials as boto3 does."""
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError as error:
        raise DestinationError(
            "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
        ) from error


def _first_line(error: Exception) -> str:
    """Take the part of an error that is for people: its first line's last clause."""
    return str(error).strip().split("\n", 1)[0].rsplit(" - ", 1)[-1][:300]
