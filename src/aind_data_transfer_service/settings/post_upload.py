"""Settings of the steps after an upload: Code Ocean and the registration."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.types import WebAddress

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def _without_credentials(value: str) -> str:
    """Refuse an address with a user name or password: messages show the address."""
    if "@" in urlsplit(value).netloc:
        raise ValueError("write the address without a name or password; the token has a variable")
    return value


PlainAddress = Annotated[WebAddress, AfterValidator(_without_credentials)]


class PostUploadSettings(EnvironmentSettings):
    """Settings of Code Ocean and of the registration."""

    constants = frozenset({"codeocean_timeout", "registration_timeout"})

    codeocean_domain: PlainAddress | None = None
    """The address of Code Ocean."""
    codeocean_token: SecretStr | None = None
    """An access token of Code Ocean."""
    codeocean_register: Literal["always", "with_capsule"] = "always"
    """Which assets are registered in Code Ocean: all, or only those of jobs that name a capsule."""
    codeocean_timeout: float = Field(default=120.0, gt=0, le=600)
    """Time limit in seconds for all calls of one job to Code Ocean."""
    registration_url: PlainAddress | None = None
    """Where `metadata.nd.json` is posted once an asset is verified."""
    registration_token: SecretStr | None = None
    """The bearer token of these requests."""
    registration_timeout: float = Field(default=60.0, gt=0, le=600)
    """Time limit in seconds, retries included."""

    @property
    def code_ocean_enabled(self) -> bool:
        """Whether Code Ocean is configured."""
        return self.codeocean_domain is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Raise an error that lists missing and contradictory settings."""
        problems = []
        if bool(self.codeocean_domain) != bool(self.codeocean_token):
            problems.append("CODEOCEAN_DOMAIN and CODEOCEAN_TOKEN must be set together")
        if self.registration_token and not self.registration_url:
            problems.append("REGISTRATION_TOKEN is set, so REGISTRATION_URL is needed too")
        for name, address, token in (
            ("CODEOCEAN_DOMAIN", self.codeocean_domain, self.codeocean_token),
            ("REGISTRATION_URL", self.registration_url, self.registration_token),
        ):
            if address and token and _is_unencrypted(address):
                problems.append(f"{name} is not encrypted, and a token is sent to it; use https")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _is_unencrypted(address: str) -> bool:
    """Return whether requests to an address are sent unencrypted over a network."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in _LOOPBACK_HOSTS
