"""What a source of metadata is, and what it answers.

Each source is one module beside this one. A source that has no such document, or does not know the
id, answers None; one that fails raises `MetadataError`, in words that name the source and say what
would help. Sources may be asked from several threads at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


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
    kinds: frozenset[str] = frozenset()

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
