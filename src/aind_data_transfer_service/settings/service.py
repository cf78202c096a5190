"""What the web service reads from its environment."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, Secret, SecretStr, model_validator

from aind_data_transfer_service import redaction
from aind_data_transfer_service.errors import PluginError
from aind_data_transfer_service.network.host_names import DEFAULT_PORTS, Authority, parse_pattern
from aind_data_transfer_service.plugins import EXECUTORS
from aind_data_transfer_service.redaction import Redactor
from aind_data_transfer_service.settings.base import SETTINGS_FILE, EnvironmentSettings
from aind_data_transfer_service.settings.common import CommonSettings
from aind_data_transfer_service.settings.env_policy import SECRETS_OF_AWS, inherited_variables
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.plugin_settings import (
    OfPlugins,
    environment_of,
    secrets_in,
)
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.s3_accounts import S3Accounts, account_of
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.settings.types import (
    HostPatterns,
    RootPath,
    WebAddress,
    home_expanded,
    joined_paths,
    refuse_special_file,
    sqlite_files,
)
from aind_data_transfer_service.source_paths.roots import is_under

_EXECUTORS = OfPlugins(EXECUTORS)


class ServiceSettings(CommonSettings):
    """What the web service reads from its environment."""

    constants = frozenset({"check_timeout"})

    database_url: SecretStr | None = None
    """SQLAlchemy address; default: SQLite at `DATA_DIR/jobs.sqlite3`."""
    database_url_file: Path | None = None
    """A file that holds the address, in place of `DATABASE_URL`."""
    require_processor_full_name: bool = True
    """Whether every job has to name the person who submits it."""
    date_order: Literal["MDY", "DMY"] = "MDY"
    """How dates with slashes are read."""
    check_timeout: float = Field(default=5.0, gt=0, le=3600)
    """Seconds that the checks of one request may take before what is left becomes a warning."""
    allowed_hosts: HostPatterns = frozenset()
    """Further names of this service; `*.lab.example` stands for all names below a domain."""
    root_path: RootPath | None = None
    """The path prefix below which a proxy serves the pages."""
    allow_custom_scripts: bool | None = None
    """Whether a job may bring a script of its own; by default on a cluster only."""
    local_executor_slots: int = Field(default=2, gt=0)
    """How many jobs this machine runs at once."""
    callback_url: WebAddress | None = Field(default=None, alias="INTERNAL_URL")
    """This service's address as the cluster's nodes see it; they bring their events there."""
    job_retention_days: int | None = Field(default=None, gt=0, le=36500)
    """Days after their end for which jobs are kept; by default they are kept for good."""
    monitor_interval: float | None = Field(default=None, gt=0, le=3600)
    """Seconds between two looks at the executor; by default 10 on a cluster, else 1."""
    executor: str | None = None
    """The executor that runs the jobs; by default `slurm` if a cluster is set, else `local`."""
    executors: Annotated[EnvironmentSettings, _EXECUTORS] = Field(default_factory=_EXECUTORS)
    """The settings of each installed executor that has any."""
    hpc: HpcSettings = Field(default_factory=HpcSettings)
    """What is known of the cluster."""
    s3_accounts: S3Accounts = Secret(())
    """Other accounts of S3 with their buckets, whose keys replace those of `HPC_AWS_*`."""
    notifications: NotificationSettings = Field(default_factory=NotificationSettings)
    """Whom to tell how jobs go."""
    post_upload: PostUploadSettings = Field(default_factory=PostUploadSettings)
    """Who hears of an asset once it is verified."""

    _database_url: SecretStr | None = PrivateAttr(default=None)

    @property
    def on_cluster(self) -> bool:
        """Whether jobs run on a cluster of Slurm."""
        return self.executor_name == "slurm"

    @property
    def executor_name(self) -> str:
        """The name of the executor that runs the jobs."""
        return self.executor or ("slurm" if self.hpc.host else "local")

    @model_validator(mode="after")
    def _executor_can_run(self) -> Self:
        """Refuse an executor that is not installed, or lacks what it needs."""
        if self.executor is None:
            return self
        try:
            EXECUTORS.get(self.executor)
        except PluginError as error:
            raise ValueError(f"EXECUTOR: {error}") from None
        if self.on_cluster and not self.hpc.host:
            raise ValueError("EXECUTOR is slurm, so HPC_HOST or HPC_URL is needed")
        return self

    @property
    def look_interval(self) -> float:
        """Seconds between two looks at the executor while jobs change."""
        return self.monitor_interval or (10.0 if self.on_cluster else 1.0)

    @property
    def longest_look_interval(self) -> float:
        """Seconds between two looks while nothing changes: a cluster is asked less often then."""
        if not self.on_cluster:
            return self.look_interval
        return max(self.look_interval, min(6 * self.look_interval, 60.0))

    @property
    def takes_scripts(self) -> bool:
        """Whether a job may bring a script; on this machine, it would run as the service's user."""
        if self.allow_custom_scripts is None:
            return self.on_cluster
        return self.allow_custom_scripts

    def hpc_for(self, bucket: str) -> HpcSettings:
        """Return the cluster's settings with the keys that a job for a bucket needs.

        Parameters
        ----------
        bucket : str
            The bucket that the job writes to.
        """
        account = account_of(bucket, self.s3_accounts.get_secret_value())
        return account.in_place_of(self.hpc) if account else self.hpc

    @property
    def param_store_name(self) -> str | None:
        """Name the parameter with settings of jobs, by whichever of its two names it is set."""
        return self.aws_param_store_name or self.hpc.aws_param_store_name

    @model_validator(mode="after")
    def _one_param_store(self) -> Self:
        """Refuse two values of what is one setting with two names."""
        older = self.hpc.aws_param_store_name
        if older and self.aws_param_store_name and older != self.aws_param_store_name:
            raise ValueError(
                "AWS_PARAM_STORE_NAME and HPC_AWS_PARAM_STORE_NAME are set to different values; "
                "the second is the older name of the first, so remove it"
            )
        return self

    @property
    def sends_mail(self) -> bool:
        """Whether the e-mails that jobs ask for are this service's affair, not the cluster's."""
        return bool(self.notifications.smtp_host)

    @property
    def own_addresses(self) -> frozenset[Authority]:
        """Return where the settings say that this service is: hosts with their ports."""
        found = [(parse_pattern(parts.hostname or ""), parts) for _, parts in self._own_urls()]
        ports = DEFAULT_PORTS.values()
        return frozenset(
            Authority(host, None if parts.port in ports else parts.port) for host, parts in found
        )

    def _own_urls(self) -> list[tuple[str, SplitResult]]:
        """List the settings that are addresses of this service."""
        addresses = {
            "SERVICE_URL": self.notifications.service_url,
            "INTERNAL_URL": self.callback_url,
        }
        return [(name, urlsplit(url)) for name, url in addresses.items() if url]

    @model_validator(mode="after")
    def _addresses_have_hosts(self) -> Self:
        """Refuse an address of this service under which no browser can ask for it."""
        for name, parts in self._own_urls():
            try:
                parse_pattern(parts.hostname or "")
            except ValueError:
                raise ValueError(f'{name}: "{parts.hostname}" is not a host name') from None
        return self

    @model_validator(mode="after")
    def _sources_are_not_private(self) -> Self:
        """Refuse a folder of sources that lies in `DATA_DIR`, where no job may read."""
        own = os.path.abspath(self.data_dir)
        for root in self.source_roots:
            if is_under(os.path.abspath(root), own):
                raise ValueError(
                    f"SOURCE_ROOTS: {root} is in DATA_DIR ({own}), where no job may read; "
                    "choose another folder for DATA_DIR"
                )
        return self

    @property
    def destination_root(self) -> str:
        """Name the place of all buckets: `s3://`, or the absolute path of a folder.

        Where nothing is said, jobs on a cluster send to S3, and jobs on this machine to a folder.
        """
        if self.destination is None and self.on_cluster:
            return "s3://"
        return super().destination_root

    @model_validator(mode="after")
    def _read_database_url(self) -> Self:
        """Read the address of the database once, from where it is."""
        if self.database_url_file is None:
            self._database_url = self.database_url
            return self
        if self.database_url is not None:
            raise ValueError("DATABASE_URL and DATABASE_URL_FILE are both set; set one of them")
        try:
            refuse_special_file(self.database_url_file)
            text = self.database_url_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ValueError(
                f"DATABASE_URL_FILE: {self.database_url_file} cannot be read: {why}"
            ) from None
        if not text or "\n" in text:
            raise ValueError(
                f"DATABASE_URL_FILE: {self.database_url_file} must hold one line, the address of "
                "the database"
            )
        self._database_url = SecretStr(text)
        redaction.learn_setting(text)
        return self

    @property
    def resolved_database_url(self) -> str:
        """The address of the store of jobs."""
        if self._database_url is not None:
            return self._database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"

    @property
    def private_paths(self) -> list[Path]:
        """Return what no job may read: the service's own data and secrets."""
        settings = [v for name, v in os.environ.items() if name.upper() == SETTINGS_FILE and v]
        files = [self.hpc.token_file, self.database_url_file, *map(Path, settings)]
        if self._database_url is not None:
            files += sqlite_files(self._database_url.get_secret_value())
        return [self.data_dir, *(home_expanded(file).absolute() for file in files if file)]

    @property
    def jobs_dir(self) -> Path:
        """Where the local executor keeps each job's files."""
        return self.data_dir / "jobs"

    @property
    def callback_secret_file(self) -> Path:
        """Where the secret lies that the jobs' tokens for callbacks are made with."""
        return self.data_dir / "callback.secret"

    @property
    def project_names_link(self) -> str:
        """Where the full list of project names is to be had."""
        base = self.metadata_service_url or "http://aind-metadata-service"
        parts = urlsplit(base)  # the address may hold a password, which is not the readers'
        base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return f"{base.rstrip('/')}/project_names"

    def job_environment(self) -> dict[str, str]:
        """Compose the environment of a job that is started on this machine.

        It is what a job needs of the service's own, with the settings that both must agree on
        written out. No name or value of another secret is in it, in whatever case its name is. A
        job's log is text in any case: people read it on a page.
        """
        notifications, private = self.notifications, Redactor()
        for secret in (
            *(self._database_url, self.hpc.token, self.hpc.password),
            *(notifications.smtp_password, notifications.notify_webhook_url),
        ):
            if secret is not None:
                private.learn_setting(secret.get_secret_value())
        for value in (*secrets_in(self.executors), *secrets_in(notifications.channels)):
            private.learn_setting(value)
        of_jobs = {os.environ.get(name) for name in SECRETS_OF_AWS}
        for account in self.s3_accounts.get_secret_value():
            for key in account.secrets:
                if key not in of_jobs:
                    private.learn_setting(key)
        agreed = self.agreed_environment() | {
            "DATA_DIR": str(self.data_dir),
            "LOG_FORMAT": "text",
        }
        found = inherited_variables(os.environ, private)
        return {name: v for name, v in found.items() if name.upper() not in agreed} | agreed

    def agreed_environment(self) -> dict[str, str]:
        """Write out the settings that the service and a job anywhere must agree on."""
        environment = {
            "DESTINATION": self.destination_root,
            "LAB_TIMEZONE": self.lab_timezone,
            "METADATA_SCHEMA": self.generation.value,
            "METADATA_TIMEOUT": str(self.metadata_timeout),
            "UPLOAD_PRIVATE_PATHS": joined_paths(self.private_paths),
        }
        if self.source_roots:
            environment["SOURCE_ROOTS"] = joined_paths(self.source_roots)
        if self.path_mappings:
            environment["PATH_MAPPINGS"] = json.dumps(self.path_mappings)
        if "exclude" in self.model_fields_set:
            environment["EXCLUDE"] = json.dumps(self.exclude)
        if self.allowed_buckets:
            environment["ALLOWED_BUCKETS"] = ",".join(sorted(self.allowed_buckets))
        if self.metadata_service_url:
            environment["METADATA_SERVICE_URL"] = self.metadata_service_url
        if self.param_store_name:
            environment["AWS_PARAM_STORE_NAME"] = self.param_store_name
        for name in (
            "institution",
            "default_funder",
            "aws_endpoint_url",
            "aws_endpoint_url_ssm",
            "aws_endpoint_url_secrets_manager",
            "aws_ca_bundle",
            "aws_checksum_algorithm",
            "default_s3_bucket",
            "open_data_bucket_name",
            "private_bucket_name",
            "scratch_bucket_name",
            "broken_links",
        ):
            if name in self.model_fields_set and (value := getattr(self, name)):
                environment[name.upper()] = str(value)
        environment |= self.s3.environment()
        environment |= environment_of(self.transforms)
        return environment | self.metadata.environment() | self.post_upload.environment()
