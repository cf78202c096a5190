"""What checks are about, and what they find: jobs by their labels, errors and warnings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aind_data_transfer_service.errors import TransferServiceError

LATE = "did not answer in time"


class ModalityToCheck(Protocol):
    """What the checks need to know of a modality."""

    @property
    def modality(self) -> object:
        """The modality; as text, its abbreviation."""
        ...

    @property
    def source(self) -> object:
        """The folder of its data; as text, its path."""
        ...

    @property
    def extra_configs(self) -> object:
        """More settings: if that is a text, the path of their file."""
        ...

    @property
    def former_field(self) -> str:
        """The field of the request that names it, if that is not `modalities`; else empty."""
        ...


class ConfigToCheck(Protocol):
    """What the checks need to know of a job: `BasicUploadJobConfigs` has it, and a row's job."""

    @property
    def platform(self) -> object:
        """The platform; as text, its abbreviation."""
        ...

    @property
    def subject_id(self) -> str:
        """The subject's id."""
        ...

    @property
    def project_name(self) -> str:
        """The project."""
        ...

    @property
    def s3_bucket(self) -> str | None:
        """The bucket, if the job names one."""
        ...

    @property
    def s3_prefix(self) -> str:
        """The asset's name."""
        ...

    @property
    def force_cloud_sync(self) -> bool:
        """Whether to upload into an asset that exists."""
        ...

    @property
    def process_capsule_id(self) -> str | None:
        """Capsule to run afterwards."""
        ...

    @property
    def metadata_dir(self) -> object | None:
        """Folder of metadata documents; as text, its path."""
        ...

    @property
    def modalities(self) -> Sequence[ModalityToCheck]:
        """The folders to upload."""
        ...


class Labelled(Protocol):
    """A job to be checked, and how it is called in messages."""

    @property
    def label(self) -> str:
        """`row 17`, or `job 3`."""
        ...

    @property
    def config(self) -> ConfigToCheck | None:
        """What is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class ToCheck:
    """A job to be checked, and how it is called in messages."""

    label: str
    config: ConfigToCheck


class SourcePlace(NamedTuple):
    """A path that a job will read."""

    label: str
    """How the job is called in messages."""
    place: str
    """Where the request names the path."""
    path: str
    is_needed: bool
    """Whether the job fails without it."""


@dataclass
class CheckResult:
    """What is wrong, and what could not be found out, by the label of the job."""

    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    warnings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def flat_errors(self) -> list[str]:
        """List all errors, job by job."""
        return [text for texts in self.errors.values() for text in texts]

    def flat_warnings(self) -> list[str]:
        """List all warnings, job by job."""
        return [text for texts in self.warnings.values() for text in texts]

    def add(self, other: "CheckResult") -> None:
        """Take in what another check found."""
        for mine, theirs in ((self.errors, other.errors), (self.warnings, other.warnings)):
            for label, texts in theirs.items():
                mine[label] += texts

    def in_order(self, labels: Iterable[str]) -> "CheckResult":
        """Sort by the order of the jobs."""
        ordered = CheckResult()
        for label in labels:
            if label in self.errors:
                ordered.errors[label] += self.errors[label]
            if label in self.warnings:
                ordered.warnings[label] += self.warnings[label]
        return ordered


def said(error: object) -> str:
    """Say what went wrong; in our own words only where they are ours."""
    if isinstance(error, TransferServiceError):
        return str(error)
    return f"the check itself failed ({type(error).__name__})"
