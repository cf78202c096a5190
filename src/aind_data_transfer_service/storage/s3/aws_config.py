"""What AWS variables and configuration files say about the endpoint and the region.

Values have the names and the precedence that they have with AWS's own tools: a variable before the
profile, a value for S3 before one for all services. One thing differs: the profile `default`, which
is taken when nobody names a profile, says where its own keys go, and not where others do.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.settings.s3 import S3Settings

_REGION = "us-east-1"
_CONFIG_FILE = ("AWS_CONFIG_FILE", "~/.aws/config")
_NAMING = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)
"""Variables that name a profile or its file: what it says is what the environment says then."""


class KeySource(StrEnum):
    """Where keys come from."""

    CALLER = "the caller"
    """They are of the jobs on a cluster, say, and no profile of this process holds for them."""
    ENVIRONMENT = "the environment"
    MACHINE = "the role of the machine"
    PROFILE = "the profile"


@dataclass(frozen=True)
class AwsConfig:
    """Where requests go, before a bucket is known."""

    region: str
    endpoint_url: str | None = None
    """Address of a server other than Amazon's."""
    style: str = "auto"
    use_fips: bool = False
    use_dualstack: bool = False


@dataclass(frozen=True)
class Profile:
    """The selected profile, and the section of services that it names."""

    values: Mapping[str, Any]
    services: Mapping[str, Any]
    name: str = "default"

    def endpoint_of(self, service: str) -> str | None:
        """Return the address of one service alone, by the profile."""
        section = self.services.get(service.replace("-", "_"))
        return section.get("endpoint_url") if isinstance(section, dict) else None

    def rules(self, source: KeySource) -> bool:
        """Return whether keys of a source may be sent to the addresses of this profile."""
        return source is KeySource.PROFILE or any(map(os.environ.get, _NAMING))

    def flag(self, name: str) -> bool:
        """Return whether a value is `true`."""
        return str(self.values.get(name, "")).lower() == "true"


def read_profile() -> Profile:
    """Read the selected profile of AWS's configuration files; empty if there are no such files.

    Raises
    ------
    DestinationError
        If a file cannot be parsed.
    """
    config = _file(*_CONFIG_FILE)
    credentials = _file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    if not os.path.isfile(config) and not os.path.isfile(credentials):
        return Profile({}, {})
    from botocore.configloader import load_config, raw_config_parse
    from botocore.exceptions import BotoCoreError

    try:
        found = load_config(str(config)) if os.path.isfile(config) else {}
        keys = raw_config_parse(str(credentials)) if os.path.isfile(credentials) else {}
    except BotoCoreError as error:
        raise DestinationError(f"the AWS configuration cannot be read: {error}") from error
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    values = {**found.get("profiles", {}).get(name, {}), **keys.get(name, {})}
    services = found.get("services", {}).get(values.get("services"), {})
    return Profile(values, services, name)


def endpoint_of_environment(service: str) -> str | None:
    """Return the address of one service alone, by the environment."""
    return os.environ.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}") or None


def read_aws_config(
    settings: S3Settings,
    endpoint_url: str | None,
    region: str | None,
    source: KeySource,
    tell: Callable[[str], None],
) -> AwsConfig:
    """Read where requests go.

    Parameters
    ----------
    settings : S3Settings
        What the variables say.
    endpoint_url : str | None
        Address of a server other than Amazon's, if the caller names one.
    region : str | None
        The region that comes with the credentials.
    source : KeySource
        Where the credentials come from.
    tell : Callable
        Takes a warning, if the profile names an endpoint that is not used.
    """
    profile = Profile({}, {}) if source is KeySource.CALLER else read_profile()
    ignores = settings.aws_ignore_configured_endpoint_urls
    if endpoint_url is None and not ignores and not profile.flag("ignore_configured_endpoint_urls"):
        endpoint_url = endpoint_of_environment("s3") or _endpoint_of_profile(profile, source, tell)
    of_s3 = profile.values.get("s3")
    style = of_s3.get("addressing_style") if isinstance(of_s3, dict) else None
    fips, dualstack = settings.aws_use_fips_endpoint, settings.aws_use_dualstack_endpoint
    return AwsConfig(
        region
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or profile.values.get("region")
        or _REGION,
        endpoint_url,
        settings.s3_addressing_style or style or "auto",
        profile.flag("use_fips_endpoint") if fips is None else fips,
        profile.flag("use_dualstack_endpoint") if dualstack is None else dualstack,
    )


def _endpoint_of_profile(
    profile: Profile, source: KeySource, tell: Callable[[str], None]
) -> str | None:
    """Return the address of S3 by the profile, if keys of that source may be sent there."""
    found = profile.endpoint_of("s3") or profile.values.get("endpoint_url")
    if not found or profile.rules(source):
        return found
    tell(
        f'the endpoint_url of the profile "{profile.name}" in {_file(*_CONFIG_FILE)} is not used, '
        f"because the AWS keys come from {source}; to use it, set AWS_ENDPOINT_URL or AWS_PROFILE"
    )
    return None


def _file(variable: str, default: str) -> Path:
    """Return the path of a configuration file."""
    return Path(os.path.expanduser(os.environ.get(variable) or default))
