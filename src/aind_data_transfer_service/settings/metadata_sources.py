"""What is known of the systems that metadata come from, a class a system.

A system of which nothing is said is not there, which is no error. One of which something is said,
but not enough, is refused with the names of what is missing.
"""

from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, model_validator

from aind_data_transfer_service.configs.vocabulary import nearest, quoted
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.json_objects import read_object, refuse
from aind_data_transfer_service.settings.types import HostName, WebAddress


def _encrypted(value: str) -> str:
    """Refuse an address at which a secret would be readable on its way, or that holds one."""
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("write the address without a name or password; they have variables")
    if parts.scheme != "https":
        raise ValueError(
            f'"{parts.scheme}://{parts.netloc}" is not encrypted, and a secret is sent there; '
            "write https://"
        )
    if parts.query or parts.fragment:
        raise ValueError("it is more than a host and a path; leave out what begins at ? or #")
    return value.rstrip("/")


SecureAddress = Annotated[WebAddress, AfterValidator(_encrypted)]


class _SystemSettings(EnvironmentSettings):
    """What the settings of all systems have in common."""

    def _missing(self, *names: str) -> list[str]:
        """List the variables that have to be set and are not, if any of this system's own is."""
        variables = self.variables()
        own = [name for name in names if variables[name].startswith(self.prefix)]
        if not any(getattr(self, name) for name in own):
            return []
        return [variables[name] for name in names if not getattr(self, name)]


class LabtracksSettings(_SystemSettings):
    """LabTracks, the colony's database, on a Microsoft SQL Server."""

    prefix = "LABTRACKS_"

    server: HostName | None = None
    """The database's host."""
    port: int = Field(default=1433, gt=0, lt=65536)
    database: str | None = None
    user: str | None = None
    """Someone who may read the tables of animals and of tasks, and nothing more."""
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


LAYOUTS = ("2019", "2023", "las")
"""How the columns of a list on SharePoint are named: as in the surgery list of 2019 or of 2023, or
as in the requests to Laboratory Animal Services."""


def _read_lists(value: Any) -> dict[str, str]:
    """Read the layout of each list, by its id or title."""
    found, mistakes = read_object(value, '{"SWR 2023-Present": "2023"}')
    lists = {}
    for name, layout in found.items():
        written = str(layout).strip().lower()
        if not name.strip():
            mistakes.append("a list has an empty name")
        elif written not in LAYOUTS:
            hint = nearest(written, LAYOUTS)
            meant = f'did you mean "{hint}"?' if hint else f"write one of {', '.join(LAYOUTS)}"
            mistakes.append(f"{quoted(name)}: {quoted(layout)} is not a layout; {meant}")
        lists[name.strip()] = written
    refuse(mistakes)
    return lists


class SharePointSettings(_SystemSettings):
    """The lists of the neurosurgery group on SharePoint, through Microsoft Graph."""

    prefix = "SHAREPOINT_"

    site: str | None = None
    """The site: its id, or its place as `lab.sharepoint.com:/sites/NSB`."""
    list_2019: str | None = None
    """Id or title of the list of 2019 to 2022."""
    list_2023: str | None = None
    """Id or title of the list since 2023."""
    lists: Annotated[dict[str, str], PlainValidator(_read_lists)] | None = None
    """Further lists: the layout of each, one of `LAYOUTS`, by its id or title."""
    tenant: str | None = Field(default=None, alias="ENTRA_TENANT")
    """Id or domain of the tenant in Entra ID."""
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority: SecureAddress = "https://login.microsoftonline.com"
    """Entra ID; national clouds have others."""
    graph_url: SecureAddress = "https://graph.microsoft.com"
    """Microsoft Graph; national clouds have others."""
    ca_file: Path | None = Field(default=None, alias="CA_FILE")
    """Certificates to trust besides this machine's."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name everything that is needed and not there."""
        missing = self._missing("site", "tenant", "client_id", "client_secret")
        lists = self.list_2019 or self.list_2023 or self.lists
        if lists and not self.site and not missing:
            login = ("site", "tenant", "client_id", "client_secret")
            missing = [self.variables()[name] for name in login if not getattr(self, name)]
        if not lists and (missing or self.site):
            missing.append("one of SHAREPOINT_LIST_2019, SHAREPOINT_LIST_2023 and SHAREPOINT_LISTS")
        if missing:
            raise ValueError(
                f"SharePoint is configured in part; set {', '.join(missing)} too, or none of them"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether there are lists to ask."""
        return self.site is not None


class TarsSettings(_SystemSettings):
    """TARS, which knows what viruses are made of."""

    prefix = "TARS_"

    resource: SecureAddress | None = None
    """Its address, before `/api/v1`."""
    scope: str | None = None
    """What the token is for: `api://…/.default`."""
    tenant: str | None = Field(default=None, alias="ENTRA_TENANT")
    """Id or domain of the tenant in Entra ID."""
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority: SecureAddress = "https://login.microsoftonline.com"
    """Entra ID; national clouds have others."""
    ca_file: Path | None = Field(default=None, alias="CA_FILE")
    """Certificates to trust besides this machine's."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name everything that is needed and not there."""
        missing = self._missing("resource", "scope", "tenant", "client_id", "client_secret")
        if missing:
            raise ValueError(
                f"TARS is configured in part; set {', '.join(missing)} too, or none of them"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a TARS to ask."""
        return self.resource is not None


class SlimsSettings(_SystemSettings):
    """SLIMS, which keeps the documents of rigs and instruments."""

    prefix = "SLIMS_"

    host: SecureAddress | None = None
    """Its address, before `/rest`."""
    username: str | None = None
    password: SecretStr | None = None
    record_type: str | None = None
    """The type of reference data that is looked through; without one, any."""
    ca_file: Path | None = Field(default=None, alias="CA_FILE")
    """Certificates to trust besides this machine's."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name everything that a login needs and that is not there."""
        missing = self._missing("host", "username", "password")
        if missing:
            raise ValueError(
                f"SLIMS is configured in part; set {', '.join(missing)} too, or none of them"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a SLIMS to ask."""
        return self.host is not None
