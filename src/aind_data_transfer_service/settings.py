"""Every environment variable, once.

`ServiceSettings` is what the web service reads, `UploadSettings` what a data transfer job reads;
each is read once, at start-up, and passed on. With no variable set, everything happens on this
machine beneath `DATA_DIR`: jobs run as local processes and assets arrive in a local folder, in the
layout of a bucket.
"""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from tzlocal import get_localzone_name

from aind_data_transfer_service.configs import values
from aind_data_transfer_service.configs.vocabulary import quoted

SECRET_VARIABLES = ("DATABASE_URL", "HPC_TOKEN", "HPC_PASSWORD", "HPC_AWS_SECRET_ACCESS_KEY")
"""What the service knows and a job that it starts has no use for."""


def _split_paths(value: Any) -> Any:
    """Take folders as the shell writes them: separated by `:` (`;` on Windows)."""
    if isinstance(value, str):
        return [part for part in value.split(os.pathsep) if part.strip()]
    return value


def _known_zone(value: str) -> str:
    """Refuse a time zone that the zone database does not have."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f'"{value}" is not a time zone; write a name such as America/Los_Angeles'
        ) from error
    return value


def _valid_destination(value: str) -> str:
    """Take `s3://`, a `file://` address or an absolute folder; refuse anything else."""
    if value.rstrip("/") == "s3:" or value == "s3":
        return "s3://"
    if value.startswith("file://"):
        value = unquote(urlsplit(value).path)
    if not Path(value).is_absolute():
        raise ValueError(
            f'"{value}" is no destination; write s3:// (each job names its bucket) '
            "or an absolute folder"
        )
    return value


def _absolute_folders(value: list[Path]) -> list[Path]:
    """Refuse folders whose meaning depends on where the process stands."""
    for folder in value:
        if not folder.is_absolute():
            raise ValueError(f'"{folder}" is no absolute path; write one such as /shared_drive')
    return value


def _web_address(value: str) -> str:
    """Refuse an address at which no web server can answer."""
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_right = False
    if not is_right:
        shown = value.rpartition("@")[2]  # without a password
        raise ValueError(f'"{shown}" is no web address; write one such as http://host:8000')
    return value


def _link(value: str) -> str:
    """Take the address of a page, or its path on this service."""
    return value if value.startswith("/") else _web_address(value)


def _bucket(value: str) -> str:
    """Refuse what cannot be the name of a bucket."""
    return values.bucket(value) or ""


def _default_data_dir() -> Path:
    """Keep state in the user's own folder, where there is one."""
    try:
        return Path.home() / ".aind-data-transfer-service"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "aind-data-transfer-service"


ZoneName = Annotated[str, AfterValidator(_known_zone)]
Destination = Annotated[str, AfterValidator(_valid_destination)]
Folders = Annotated[
    list[Path], NoDecode, BeforeValidator(_split_paths), AfterValidator(_absolute_folders)
]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Link = Annotated[str, AfterValidator(_link)]


class _Settings(BaseSettings):
    """What the service and the job agree on."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Where the service keeps its database, its jobs' files and the local destination."""
    destination: Destination | None = None
    """`s3://`, or a local folder that stands for the store; default: `DATA_DIR/destination`."""
    lab_timezone: ZoneName = Field(default_factory=get_localzone_name)
    """The zone of times that name none, and of the time in an asset's name."""
    metadata_service_url: WebAddress | None = None
    """Address of the lab's metadata service; without one, documents come from `metadata_dir`."""
    metadata_timeout: float = Field(default=10.0, gt=0, le=3600)
    """Seconds to wait for one answer of the metadata service."""
    aws_endpoint_url: WebAddress | None = None
    """Address of an S3 server other than Amazon's. A job can never set it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("data_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """Make the folder independent of where the process stands."""
        return value.expanduser().absolute()

    @property
    def destination_root(self) -> str:
        """`s3://`, or the absolute path of the folder that holds the buckets."""
        return self.destination or str(self.data_dir / "destination")


class ServiceSettings(_Settings):
    """What the web service reads from its environment."""

    database_url: SecretStr | None = None
    """SQLAlchemy address; default: SQLite at `DATA_DIR/jobs.sqlite3`."""
    default_s3_bucket: Annotated[str, AfterValidator(_bucket)] = "aind-data"
    """The bucket of a job that names none."""
    date_order: Literal["MDY", "DMY"] = "MDY"
    """How dates with slashes are read."""
    spreadsheet_max_bytes: int = Field(default=32 * 1024**2, gt=0)
    spreadsheet_max_rows: int = Field(default=20_000, gt=0)
    source_roots: Folders = []
    """Folders that the service can see as the jobs see them."""
    source_roots_strict: bool = False
    """Refuse a source beneath none of `SOURCE_ROOTS` rather than warn of it."""
    check_timeout: float = Field(default=5.0, gt=0, le=3600)
    """Seconds that the checks of one request may take before what is left becomes a warning."""
    project_names_url: Link | None = None
    """Where the page's link "Project Names" leads."""
    help_url: Link = "/help"
    allow_custom_scripts: bool = True
    """Whether a job may bring a script of its own."""
    local_executor_slots: int = Field(default=2, gt=0)
    """How many jobs this machine runs at once."""
    monitor_interval: float = Field(default=1.0, gt=0, le=3600)
    """Seconds between two looks at the executor."""
    hpc_host: str | None = None
    """Host of slurmrestd; where it is set, jobs run on the cluster."""

    @model_validator(mode="after")
    def _strict_about_something(self) -> Self:
        """Refuse a strictness that would hold for no folder."""
        if self.source_roots_strict and not self.source_roots:
            raise ValueError("SOURCE_ROOTS_STRICT is set, and SOURCE_ROOTS names no folder")
        return self

    @property
    def resolved_database_url(self) -> str:
        """The address of the store of jobs."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"

    @property
    def jobs_dir(self) -> Path:
        """Where the local executor keeps each job's files."""
        return self.data_dir / "jobs"

    @property
    def project_names_link(self) -> str:
        """Where the full list of project names is to be had."""
        if self.project_names_url:
            return self.project_names_url
        base = self.metadata_service_url or "http://aind-metadata-service"
        parts = urlsplit(base)  # the address may hold a password, which is not the readers'
        base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return f"{base.rstrip('/')}/project_names"

    def job_environment(self) -> dict[str, str]:
        """Compose the environment of a job that is started on this machine.

        It is the service's own, less the secrets that a job has no use for, with the settings that
        both must agree on written out.
        """
        environment = {k: v for k, v in os.environ.items() if k not in SECRET_VARIABLES}
        environment.update(
            DATA_DIR=str(self.data_dir),
            DESTINATION=self.destination_root,
            LAB_TIMEZONE=self.lab_timezone,
            METADATA_TIMEOUT=str(self.metadata_timeout),
        )
        if self.metadata_service_url:
            environment["METADATA_SERVICE_URL"] = self.metadata_service_url
        if self.aws_endpoint_url:
            environment["AWS_ENDPOINT_URL"] = self.aws_endpoint_url
        return environment


class UploadSettings(_Settings):
    """What a data transfer job reads from its environment."""

    job_id: str | None = None
    """The service's id of this job, repeated in every event."""
    upload_events_file: Path | None = None
    """Where events are written, one JSON object a line; without one they are only logged."""
    upload_state_dir: Path | None = None
    """Where the record of proven files lies, by which an interrupted transfer goes on."""
    upload_connections: int = Field(default=16, gt=0, le=256)
    """How many files or parts are on their way at once."""
    upload_json: str | None = Field(default=None, alias="UPLOAD_JOB_JSON_ARGS")
    """The request, where it comes neither as an argument nor as a file."""

    @property
    def state_dir(self) -> Path:
        """Where records of unfinished transfers lie."""
        return self.upload_state_dir or self.data_dir / "transfers"


def explain_settings(error: ValidationError) -> list[str]:
    """List what is wrong with the environment, a line a variable: `CHECK_TIMEOUT: "abc" …`."""
    lines = []
    for details in error.errors(include_url=False):
        variable = ".".join(str(part) for part in details["loc"]).upper()
        if details["type"] == "value_error":
            words = str(details["ctx"]["error"])
        else:
            words = f"{quoted(details['input'])} is refused: {details['msg']}"
        lines.append(f"{variable}: {words}" if variable else words)
    return lines
