"""What has to be known of the systems that hear of an asset once it is verified."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.types import WebAddress

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def _without_credentials(value: str) -> str:
    """Refuse an address that holds a name or a password: it is shown."""
    if "@" in urlsplit(value).netloc:
        raise ValueError("write the address without a name or password; the token has a variable")
    return value


PlainAddress = Annotated[WebAddress, AfterValidator(_without_credentials)]


class AfterwardsSettings(EnvironmentSettings):
    """What service and job have to know of Code Ocean, and of the hook for registration."""

    constants = frozenset({"codeocean_timeout", "registration_timeout"})

    codeocean_domain: PlainAddress | None = None
    """Address of Code Ocean."""
    codeocean_token: SecretStr | None = None
    """An access token of Code Ocean."""
    codeocean_register: Literal["always", "with_capsule"] = "always"
    """Which assets are registered there: all, or those for which a capsule is to run."""
    codeocean_timeout: float = Field(default=120.0, gt=0, le=600)
    """Seconds that a job has for all it asks of Code Ocean."""
    registration_url: PlainAddress | None = None
    """Where `metadata.nd.json` is posted once an asset is verified."""
    registration_token: SecretStr | None = None
    """Sent with it, as a bearer token."""
    registration_timeout: float = Field(default=60.0, gt=0, le=600)
    """Seconds in all, attempts included."""

    @property
    def knows_code_ocean(self) -> bool:
        """Whether there is a Code Ocean to ask."""
        return self.codeocean_domain is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name what is missing, or does not go together."""
        problems = []
        if bool(self.codeocean_domain) != bool(self.codeocean_token):
            problems.append("CODEOCEAN_DOMAIN and CODEOCEAN_TOKEN are needed together")
        if self.registration_token and not self.registration_url:
            problems.append("REGISTRATION_TOKEN is set, so REGISTRATION_URL is needed too")
        for name, address, token in (
            ("CODEOCEAN_DOMAIN", self.codeocean_domain, self.codeocean_token),
            ("REGISTRATION_URL", self.registration_url, self.registration_token),
        ):
            if address and token and _is_readable(address):
                problems.append(f"{name} is not encrypted, and a secret is sent there; use https")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _is_readable(address: str) -> bool:
    """Tell whether others on the way could read what is sent to an address."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in _THIS_MACHINE
