"""Every environment variable, once.

`ServiceSettings` is what the web service reads, `HpcSettings` its part about the cluster, and
`UploadSettings` what a data transfer job reads; each is read once, at start-up, and passed on. With
no variable set, everything happens on this machine beneath `DATA_DIR`: jobs run as local processes
and assets arrive in a local folder, in the layout of a bucket.
"""

import json
import os
import tempfile
from pathlib import Path, PurePosixPath
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

SECRET_VARIABLES = (
    "DATABASE_URL",
    "HPC_TOKEN",
    "HPC_PASSWORD",
    "HPC_AWS_SECRET_ACCESS_KEY",
    "HPC_AWS_SESSION_TOKEN",
)
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


def _split_names(value: Any) -> Any:
    """Take names that are separated by commas."""
    if isinstance(value, str):
        return frozenset(part.strip() for part in value.split(",") if part.strip())
    return value


def _node_counts(value: Any) -> Any:
    """Take `2`, `1-4` or `[1,4]`: how many nodes, or the least and the most."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text if "-" not in text else f"[{text.replace('-', ',')}]")
        except ValueError:
            value = None
    counts = [value, value] if isinstance(value, int) else value
    if isinstance(counts, list | tuple) and len(counts) == 2:
        least, most = counts
        if isinstance(least, int) and isinstance(most, int) and 1 <= least <= most:
            return (least, most)
    raise ValueError("write how many nodes, as 1, or the least and the most, as [1,2]")


def _node_path(value: PurePosixPath) -> PurePosixPath:
    """Refuse a path that is not absolute, or that Slurm or a container would take apart."""
    text = str(value)
    if not value.is_absolute() or not text.isprintable() or any(sign in text for sign in "\\:,"):
        raise ValueError(f"write an absolute path on the nodes, without : , or \\, not {text!r}")
    return value


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
Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_split_names)]
NodeCounts = Annotated[tuple[int, int], NoDecode, BeforeValidator(_node_counts)]
NodePath = Annotated[PurePosixPath, AfterValidator(_node_path)]
NodePaths = Annotated[list[NodePath], NoDecode, BeforeValidator(_split_paths)]


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
        """Name the place of all buckets: `s3://`, or the absolute path of a folder."""
        return self.destination or str(self.data_dir / "destination")


class HpcSettings(BaseSettings):
    """What the web service reads of the cluster: every variable begins with `HPC_`."""

    model_config = SettingsConfigDict(
        env_prefix="HPC_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str | None = None
    """Host of slurmrestd; where it is set, jobs run on the cluster."""
    port: int = Field(default=6820, gt=0, lt=65536)
    scheme: Literal["http", "https"] = "http"
    api_endpoint: str | None = None
    """Pins the dialect, as `slurm/v0.0.38`; otherwise found out from the server."""
    ca_file: Path | None = None
    """Certificates to trust, for https."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for one answer of the cluster."""
    username: str | None = None
    """In whose name jobs are submitted."""
    password: SecretStr | None = None
    """Read so that set-ups that have it go on working; slurmrestd takes tokens only."""
    token: SecretStr | None = None
    token_file: Path | None = None
    """Holds the token; read again when the token is refused."""
    token_command: str | None = None
    """Prints a token, as `scontrol token username=svc`; run again when the token is refused."""
    partition: str | None = None
    sif_location: NodePath | None = None
    """The container that holds the data transfer job; without one it runs as it is installed."""
    python: str = "python"
    """The Python that has the data transfer job, in the container or on the nodes."""
    bind_paths: NodePaths = []
    """Folders of the nodes that the container is to see besides those that it sees anyway."""
    current_working_directory: NodePath | None = None
    logging_directory: NodePath | None = None
    """Where jobs leave their logs and events. The service reads them there."""
    staging_directory: NodePath | None = None
    """Kept for set-ups that have it; nothing is staged."""
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None
    aws_param_store_name: str | None = None
    """Handed to the jobs as `AWS_PARAM_STORE_NAME`."""
    minimum_cpus_per_node: int | None = Field(default=None, gt=0)
    memory_per_cpu: int | None = Field(default=None, gt=0)
    """Megabytes."""
    nodes: NodeCounts | None = None
    tasks: int | None = Field(default=None, gt=0)
    time_limit: int | None = Field(default=None, gt=0)
    """Minutes."""
    qos: str | None = None
    account: str | None = None
    user_settings: Names | None = None
    """The job properties that users may set themselves."""
    submissions_at_once: int = Field(default=8, gt=0, le=64)
    """How many jobs are on their way to slurmrestd at the same time."""

    @model_validator(mode="after")
    def _complete(self) -> "HpcSettings":
        """Name everything that a cluster needs and that is not there."""
        if not self.host:
            return self
        needed = ("username", "current_working_directory", "logging_directory")
        missing = [f"HPC_{name.upper()}" for name in needed if not getattr(self, name)]
        tokens = [name for name in ("token", "token_file", "token_command") if getattr(self, name)]
        if not tokens:
            missing.append("one of HPC_TOKEN, HPC_TOKEN_FILE and HPC_TOKEN_COMMAND")
        if missing:
            raise ValueError(f"HPC_HOST is set, so these are needed too: {', '.join(missing)}")
        if len(tokens) > 1:
            names = " and ".join(f"HPC_{name.upper()}" for name in tokens)
            raise ValueError(f"{names} are set; set one of them, so that it is clear which counts")
        return self

    @property
    def url(self) -> str:
        """The address of slurmrestd."""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def _own_variables(value: Any) -> Any:
    """Disregard a variable `HPC`, which clusters have for purposes of their own."""
    return HpcSettings() if isinstance(value, str) else value


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
    hpc: Annotated[HpcSettings, NoDecode, BeforeValidator(_own_variables)] = Field(
        default_factory=HpcSettings
    )
    """What is known of the cluster."""

    @property
    def on_cluster(self) -> bool:
        """Whether jobs run on a cluster rather than on this machine."""
        return bool(self.hpc.host)

    @property
    def destination_root(self) -> str:
        """Name the place of all buckets: `s3://`, or the absolute path of a folder.

        Where nothing is said, jobs on a cluster send to S3, and jobs on this machine to a folder.
        """
        if self.destination is None and self.on_cluster:
            return "s3://"
        return super().destination_root

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
        return environment | self.agreed_environment() | {"DATA_DIR": str(self.data_dir)}

    def agreed_environment(self) -> dict[str, str]:
        """Write out the settings that the service and a job anywhere must agree on."""
        environment = {
            "DESTINATION": self.destination_root,
            "LAB_TIMEZONE": self.lab_timezone,
            "METADATA_TIMEOUT": str(self.metadata_timeout),
        }
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
