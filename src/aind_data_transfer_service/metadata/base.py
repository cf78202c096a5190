"""What a source of metadata is, and what it answers.

Each source is one module beside this one. A source that has no such document, or does not know the
id, answers None; one that fails raises `MetadataError`, in words that name the source and say what
would help. Sources may be asked from several threads at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.common import CommonSettings


@dataclass(frozen=True)
class Found:
    """A document that a source of metadata had."""

    document: dict[str, Any]
    valid: bool
    """Whether the source itself holds the document to be valid."""
    source: str
    """Where it came from, for people: an address, a table or a path, without secrets."""
    complete: bool = True
    """Whether this is all that the source ought to have."""
    notes: tuple[str, ...] = ()
    """What is amiss, in words, a line each."""
    is_draft: bool = False
    """Whether it was composed here of a lab system's values, in the shape of generation 0.34;
    `conversion.in_generation` writes it in the generation of the asset."""


class Funding(list[dict[str, Any]]):
    """The sources of a project's funding, with notes.

    Parameters
    ----------
    items : Iterable
        The sources, or items that only name investigators.
    notes : tuple of str
        What could not be found out, a line each.
    """

    def __init__(self, items: Iterable[dict[str, Any]] = (), notes: tuple[str, ...] = ()):
        super().__init__(items)
        self.notes = notes


@dataclass(frozen=True)
class SourceContext:
    """What a source is opened with."""

    common: CommonSettings
    """The settings that all jobs and the service have."""
    settings: Any = None
    """The source's own settings, of the class that it declares."""
    timeout: float = 10.0
    """Seconds to wait for one answer."""
    attempts: int = 3
    """How often a question is asked in all if it fails."""

    @property
    def zone(self) -> ZoneInfo:
        """The lab's time zone."""
        return ZoneInfo(self.common.lab_timezone)


class Source(Protocol):
    """Somewhere that documents come from."""

    name: str
    """As the settings call it."""
    kinds: frozenset[str]
    """What it can be asked for: some of subject, procedures, instrument, rig, project_names
    and funding."""

    def subject(self, subject_id: str) -> Found | None:
        """Ask for `subject.json` of a subject."""
        ...

    def procedures(self, subject_id: str) -> Found | None:
        """Ask for `procedures.json` of a subject."""
        ...

    def instrument(self, instrument_id: str) -> Found | None:
        """Ask for `instrument.json` of an instrument."""
        ...

    def rig(self, rig_id: str) -> Found | None:
        """Ask for `rig.json` of a rig."""
        ...

    def project_names(self) -> list[str]:
        """Ask for the names of all projects."""
        ...

    def funding(self, project_name: str) -> list[dict[str, Any]]:
        """Ask how a project is funded; an empty list where that is not known.

        A `Funding` list also has notes.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class SourceBase:
    """A source that has nothing yet: what it can give, a subclass says."""

    name = ""
    label = ""
    """What people call it."""
    kinds: frozenset[str] = frozenset()
    rank = 50
    """Its place among the sources of a document: the metadata service has 10, SharePoint,
    LabTracks and SLIMS have 20 to 40, and files 90."""
    settings: type[EnvironmentSettings] | None = None
    """The class of its settings, if it has any."""

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source; None if it is not configured.

        Parameters
        ----------
        context : SourceContext
            The settings, and how long to wait.

        Raises
        ------
        MetadataError
            If it cannot be used as it is configured.
        """
        return cls()

    def subject(self, subject_id: str) -> Found | None:
        """Know no subject."""
        return None

    def procedures(self, subject_id: str) -> Found | None:
        """Know no procedures."""
        return None

    def instrument(self, instrument_id: str) -> Found | None:
        """Know no instrument."""
        return None

    def rig(self, rig_id: str) -> Found | None:
        """Know no rig."""
        return None

    def project_names(self) -> list[str]:
        """Know no project."""
        return []

    def funding(self, project_name: str) -> list[dict[str, Any]]:
        """Know no funding."""
        return []

    def close(self) -> None:
        """Hold nothing open."""
