"""Signatures of requests to S3: AWS Signature Version 4, of the headers.

Bodies are signed if their SHA-256 is known; the others carry a checksum of another kind.
The way is that of Amazon's guide, "Create a signed AWS API request"; a test compares it with
botocore's. Written here because a small file costs less than botocore's signer alone would.
"""

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote

from aind_data_transfer_service.storage.model import Keys

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256().hexdigest()
"""What the signature of a request without a body says of it."""
_PLAIN = re.compile(r"[\w/.~-]*", re.ASCII)
_ALGORITHM = "AWS4-HMAC-SHA256"


class Clock:
    """The time that requests are signed with: this machine's, or the server's where they differ."""

    def __init__(self, now: Callable[[], float] = time.time):
        self._now, self._offset = now, 0.0
        self._lock = threading.Lock()

    def stamp(self) -> str:
        """Write the present moment."""
        return _written(int(self._now() + self._offset))

    def follow(self, date: str) -> bool:
        """Go by what a server says the time is; tells whether that can be read."""
        try:
            moment = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return False
        with self._lock:
            self._offset = moment - self._now()
        return True


@lru_cache(maxsize=8)
def _written(second: int) -> str:
    """Write a second, in which thousands of requests may be signed."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def encode_path(path: str) -> str:
    """Write a path as it is sent and signed."""
    if _PLAIN.fullmatch(path):
        return path
    return quote(path, safe="/-_.~")


def encode_query(query: Mapping[str, str]) -> str:
    """Write a query as it is sent and signed."""
    if not query:
        return ""
    pairs = sorted((quote(name, safe="-_.~"), quote(query[name], safe="-_.~")) for name in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    keys: Keys,
    region: str,
    stamp: str,
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    payload: str = UNSIGNED,
) -> dict[str, str]:
    """Give a request's headers, the signature among them.

    Parameters
    ----------
    keys : Keys
        Whose signature it is.
    region : str
        Where the bucket is.
    stamp : str
        The moment, as `Clock.stamp` writes it.
    method, path, query : str
        The request, path and query encoded.
    headers : dict[str, str]
        What is signed, names in lower case, `host` among them.
    payload : str
        The SHA-256 of the body, or that it is not signed.
    """
    headers = {**headers, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names, signed = _ordered(tuple(headers))
    lines = "".join([f"{name}:{headers[name]}\n" for name in names])
    if "  " in lines:  # runs of spaces are signed as one
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    started, finished = _signing_key(keys.secret_key, stamp[:8], region)
    inner, outer = started.copy(), finished.copy()
    inner.update(text.encode())
    outer.update(inner.digest())
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={signed}, "
        f"Signature={outer.hexdigest()}"
    )
    return headers


@lru_cache(maxsize=256)
def _ordered(names: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the names of headers in the order of signing, and as a signature lists them."""
    ordered = tuple(sorted(names))
    return ordered, ";".join(ordered)


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Return the inner and the outer hash of a day's HMAC (RFC 2104), the key read already.

    To copy the two takes less than half as long as `hmac.digest`, which begins anew each time.
    """
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    block = key.ljust(hashlib.sha256().block_size, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    return inner, hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
