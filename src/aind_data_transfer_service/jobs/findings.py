"""What checks are about, and what they find: jobs by their labels, errors and warnings."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import TransferServiceError

LATE = "did not answer in time"


class Labelled(Protocol):
    """A job to be checked, and how it is called in messages."""

    @property
    def label(self) -> str:
        """`row 17`, or `job 3`."""
        ...

    @property
    def config(self) -> BasicUploadJobConfigs | None:
        """What is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class ToCheck:
    """A job to be checked, and how it is called in messages."""

    label: str
    config: BasicUploadJobConfigs


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
