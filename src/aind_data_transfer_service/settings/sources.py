"""What is known of the systems that metadata come from, a class a system.

A system of which nothing is said is not there, which is no error. One of which something is said,
but not enough, is refused with the names of what is missing.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _host(value: str) -> str:
    """Refuse what names more than a host: an instance, a port, an address of the web."""
    value = value.strip()
    if any(sign in value for sign in "\\,/;@ ") or not value.isprintable():
        raise ValueError(
            "write the name of the host alone, such as labtracks.example.org; the port (an "
            "instance has one of its own) goes into the variable of that name"
        )
    return value


HostName = Annotated[str, AfterValidator(_host)]


class _SystemSettings(BaseSettings):
    """What the settings of all systems have in common."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    def _missing(self, *names: str) -> list[str]:
        """List the variables that have to be set and are not, where any of them is."""
        if not any(getattr(self, name) for name in names):
            return []
        prefix = self.model_config["env_prefix"]
        return [f"{prefix}{name}".upper() for name in names if not getattr(self, name)]


class LabtracksSettings(_SystemSettings):
    """LabTracks, the colony's database, on a Microsoft SQL Server."""

    model_config = SettingsConfigDict(env_prefix="LABTRACKS_")

    server: HostName | None = None
    """The database's host."""
    port: int = Field(default=1433, gt=0, lt=65536)
    database: str | None = None
    user: str | None = None
    """Someone who may read ANIMALS_COMMON, SPECIES and GROUPS, and nothing more."""
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name everything that a login needs and that is not there."""
        missing = self._missing("server", "database", "user", "password")
        if missing:
            raise ValueError(
                f"LabTracks is configured in part; set {', '.join(missing)} too, or none of them"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a LabTracks to ask."""
        return self.server is not None
