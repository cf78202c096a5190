"""What the service and a data transfer job agree on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from tzlocal import get_localzone_name

from aind_data_transfer_service.configs.bucket_aliases import BUCKET_WORDS
from aind_data_transfer_service.plugins import TRANSFORMS
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.metadata import LabSettings
from aind_data_transfer_service.settings.paths import NamePatterns, PathMappings
from aind_data_transfer_service.settings.plugin_settings import OfPlugins
from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.settings.types import (
    BrokenLinks,
    BucketName,
    BucketPatterns,
    Destination,
    Folders,
    LogForm,
    LogLevel,
    WebAddress,
    ZoneName,
    default_data_dir,
)
from aind_data_transfer_service.source_paths import excluded_names

LOCAL_BUCKET = "data"
"""The sub-folder of a local destination that stands for the bucket if nothing names one."""


_TRANSFORMS = OfPlugins(TRANSFORMS)


class CommonSettings(EnvironmentSettings):
    """What the service and the job agree on."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where the service keeps its database, its jobs' files and the local destination."""
    destination: Destination | None = None
    """``s3://``, or a local folder that stands for the store; else `DATA_DIR/destination`."""
    source_roots: Folders = []
    """Folders that jobs may read, as the jobs see them; without one, all but private ones."""
    path_mappings: PathMappings = {}
    """Where the cluster has network names and drives of Windows, such as drive Z, if they are not
    at `/server/share`."""
    exclude: NamePatterns = excluded_names.DEFAULT
    """Names and patterns of files and folders that are not uploaded; `[]` excludes nothing."""
    broken_links: BrokenLinks = "fail"
    """What a link that leads nowhere does: `fail` the job, or `warn` and be left out."""
    allowed_buckets: BucketPatterns = frozenset()
    """The buckets that jobs may upload to, by name or pattern such as `lab-*`; without one, all."""
    default_s3_bucket: BucketName | None = None
    """The bucket of a job that names none; without it, jobs for S3 have to name theirs, and `data`
    is the folder of such jobs in a local destination."""
    private_bucket_name: BucketName | None = None
    """The bucket of jobs that name `private`."""
    open_data_bucket_name: BucketName | None = None
    """The bucket of jobs that name `open`."""
    scratch_bucket_name: BucketName | None = None
    """The bucket of jobs that name `scratch`."""
    lab_timezone: ZoneName = Field(default_factory=get_localzone_name)
    """The zone of times that name none, and of the time in an asset's name."""
    institution: str | None = None
    """The organization that collects the data, by its name or abbreviation in aind-data-schema."""
    default_funder: str | None = None
    """The funder of projects whose funding no source knows, by its name or abbreviation."""
    metadata_service_url: WebAddress | None = None
    """Address of the lab's metadata service; without one, documents come from `metadata_dir`."""
    metadata_timeout: float = Field(default=10.0, gt=0, le=3600)
    """Seconds to wait for one answer of a source of metadata."""
    metadata: LabSettings = Field(default_factory=LabSettings)
    """Which other sources of metadata there are, and which is asked for what."""
    transforms: Annotated[EnvironmentSettings, _TRANSFORMS] = Field(default_factory=_TRANSFORMS)
    """The settings of each installed transform that has any."""
    aws_endpoint_url: WebAddress | None = None
    """Address of an S3 server other than Amazon's. A job can never set it."""
    s3: S3Settings = Field(default_factory=S3Settings)
    """How else requests to S3 are addressed, and with which headers objects are stored."""
    aws_ca_bundle: Path | None = None
    """A PEM file of the certificates to trust, in place of this machine's."""
    aws_checksum_algorithm: Literal["CRC64NVME", "SHA256"] = "CRC64NVME"
    """The checksum that travels with each body, by which the store refuses a damaged one."""
    aws_endpoint_url_ssm: WebAddress | None = None
    """Address of a Systems Manager other than Amazon's."""
    aws_endpoint_url_secrets_manager: WebAddress | None = None
    """Address of a Secrets Manager other than Amazon's."""
    aws_param_store_name: str | None = None
    """Parameter, or path of parameters, in AWS Systems Manager with further settings of jobs."""
    log_level: LogLevel = "INFO"
    """The lowest level of the log's lines."""
    log_format: LogForm = "text"
    """How the log's lines are written, for people or for programs."""

    @field_validator("data_dir", "aws_ca_bundle", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Make a path independent of where the process stands."""
        try:
            return value and value.expanduser().absolute()
        except RuntimeError:
            raise ValueError(
                f'"{value}" begins with the home folder of a user who does not exist; write an '
                "absolute path"
            ) from None

    @model_validator(mode="after")
    def _buckets_are_no_words(self) -> Self:
        """Refuse a bucket whose name is the word for another one: a second reading would differ."""
        names = self.bucket_names
        for word, name in names.items():
            if name in BUCKET_WORDS and names.get(name) != name:
                setting = BUCKET_WORDS[name]
                raise ValueError(
                    f'{BUCKET_WORDS[word]}: "{name}" is the word for the bucket of {setting}; '
                    f"write the name of the bucket, or set {setting}={name} if it is called {name}"
                )
        return self

    def bucket_for(self, named: str | None) -> str | None:
        """Return the bucket of a job; None if neither the job nor the settings name one.

        Parameters
        ----------
        named : str | None
            The bucket that the job names.
        """
        if found := named or self.default_s3_bucket:
            return found
        return LOCAL_BUCKET if self.destination_root != "s3://" else None

    @property
    def bucket_names(self) -> Mapping[str, str]:
        """The buckets behind the words that requests may use."""
        found = {
            "default": self.bucket_for(None),
            "open": self.open_data_bucket_name,
            "private": self.private_bucket_name,
            "scratch": self.scratch_bucket_name,
        }
        return {word: name for word, name in found.items() if name}

    @property
    def generation(self) -> Generation:
        """The generation of the schema that the documents of assets follow."""
        return self.metadata.choice.generation

    @property
    def names_platform(self) -> bool:
        """Whether the name of an asset begins with its platform: not in generation 2."""
        return self.generation != Generation.V2

    @property
    def s3_endpoint_url(self) -> str | None:
        """The configured address of an S3 server other than Amazon's."""
        if self.s3.aws_ignore_configured_endpoint_urls:
            return None
        return self.s3.aws_endpoint_url_s3 or self.aws_endpoint_url

    @property
    def destination_root(self) -> str:
        """Name the place of all buckets: `s3://`, or the absolute path of a folder."""
        return self.destination or str(self.data_dir / "destination")
