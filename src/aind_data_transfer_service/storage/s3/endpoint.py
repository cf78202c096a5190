"""The address of a bucket: at Amazon by botocore's rules, elsewhere as configured.

botocore's rules take some 80 ms to load, so they are loaded only for Amazon's addresses.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.storage.s3.aws_config import AwsConfig
from aind_data_transfer_service.storage.s3.http import Wire

_DIRECTORY_BUCKET = "--x-s3"
_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+/?\S*")
_REGION = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket's requests are sent, and for which region they are signed."""

    address: str
    """Scheme, host and port."""
    root: str
    """The path before an object's key, without a slash at its end."""
    region: str


def resolve(bucket: str, config: AwsConfig, region: str | None = None) -> Endpoint:
    """Return the endpoint of a bucket.

    Parameters
    ----------
    bucket : str
        Its name, or the ARN of an access point.
    config : AwsConfig
        What is configured.
    region : str | None
        The bucket's region, if it is known to be another than the configured one.

    Raises
    ------
    DestinationError
        If the configuration contradicts itself, or the bucket needs what is not supported.
    """
    region = region or config.region
    if bucket.endswith(_DIRECTORY_BUCKET):
        raise DestinationError(
            f'"{bucket}" is a directory bucket (S3 Express One Zone), which is not supported; '
            "name a general purpose bucket"
        )
    if config.endpoint_url is None or bucket.startswith("arn:"):
        return _at_amazon(bucket, config, region)
    if not _ADDRESS.fullmatch(config.endpoint_url):
        raise DestinationError(
            f'"{config.endpoint_url}" is no address of an S3 server; write http:// or https://, '
            "its name and its port"
        )
    for is_used, name in ((config.use_fips, "fips"), (config.use_dualstack, "dualstack")):
        if is_used:
            raise DestinationError(
                f"AWS_USE_{name.upper()}_ENDPOINT (use_{name}_endpoint in a profile) is for "
                f"Amazon's endpoints, and {config.endpoint_url} is configured as the S3 server; "
                "unset one of them"
            )
    parts = urlsplit(config.endpoint_url)
    host, base = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
    if config.style == "virtual":
        return Endpoint(f"{parts.scheme}://{bucket}.{host}", base, region)
    return Endpoint(f"{parts.scheme}://{host}", f"{base}/{bucket}", region)


def _at_amazon(bucket: str, config: AwsConfig, region: str) -> Endpoint:
    """Return the endpoint of a bucket at Amazon."""
    from botocore.exceptions import BotoCoreError

    try:
        found = _rules().resolve_endpoint(
            Bucket=bucket,
            Region=region,
            UseFIPS=config.use_fips,
            UseDualStack=config.use_dualstack,
            ForcePathStyle=config.style == "path",
            Accelerate=False,
            UseGlobalEndpoint=False,
            UseArnRegion=True,
            **({"Endpoint": config.endpoint_url} if config.endpoint_url else {}),
        )
    except BotoCoreError as error:
        raise DestinationError(f'no endpoint for the bucket "{bucket}": {error}') from error
    scheme = found.properties["authSchemes"][0]
    if scheme["name"] != "sigv4" or scheme["signingName"] != "s3":
        raise DestinationError(
            f'"{bucket}" needs signatures of the kind {scheme["name"]} for '
            f'{scheme["signingName"]}, which are not supported; name a bucket'
        )
    parts = urlsplit(found.url)
    root = unquote(parts.path).rstrip("/")
    return Endpoint(f"{parts.scheme}://{parts.netloc}", root, scheme["signingRegion"])


@lru_cache(maxsize=1)
def _rules() -> Any:
    """Load botocore's rules of S3's endpoints."""
    from botocore.endpoint_provider import EndpointProvider
    from botocore.loaders import Loader

    loader = Loader()
    rules = loader.load_service_model("s3", "endpoint-rule-set-1")
    return EndpointProvider(rules, loader.load_data("partitions"))


@dataclass(frozen=True, slots=True)
class Route:
    """The connections to an endpoint, with what requests over them need."""

    wire: Wire
    root: str
    region: str


class Routes:
    """The route of a bucket, which changes if the bucket turns out to be in another region.

    Parameters
    ----------
    resolve : Callable
        Returns the endpoint, in a region if one is given.
    connect : Callable
        Returns the connections to an address.
    """

    def __init__(self, resolve: Callable[[str | None], Endpoint], connect: Callable[[str], Wire]):
        self._resolve, self._connect = resolve, connect
        self._lock = threading.Lock()
        self.current = self._route(None)
        """The route of new requests."""

    def follow(self, region: str, used: Route) -> bool:
        """Change to a region that a server named.

        Parameters
        ----------
        region : str
            Where the bucket is.
        used : Route
            The route of the request that was refused.

        Returns
        -------
        bool
            Whether requests go another way now, because of this call or of another request's.
        """
        with self._lock:
            if self.current is used:
                if region == used.region or not _REGION.fullmatch(region):
                    return False
                self.current = self._route(region)
            return True

    def _route(self, region: str | None) -> Route:
        """Make a route; one to the same address shares its connections."""
        found = self._resolve(region)
        before = getattr(self, "current", None)
        if before is not None and before.wire.address == found.address:
            return Route(before.wire, found.root, found.region)
        return Route(self._connect(found.address), found.root, found.region)
