"""Gathering the documents of an asset, and deciding who wins where two sources have one.

The metadata service wins over the folder, unless `metadata_dir_force` turns that round. What
neither has is missing, which the asset's record says. A subject is another matter: once there is
a source that ought to know the subject, a missing or contradicting one stops the job before any
byte moves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.documents import (
    Document,
    Facts,
    Status,
    check_processing,
    data_description,
    status_of,
)
from aind_data_transfer_service.metadata.folder import Folder
from aind_data_transfer_service.metadata.service import MetadataService
from aind_data_transfer_service.metadata.sources import Found

_NAMES_THE_SUBJECT = ("subject", "procedures", "data_description", "session", "acquisition")
_NAMED_BY = {"rig": ("session", "rig_id"), "instrument": ("acquisition", "instrument_id")}


@dataclass
class Gathered:
    """The documents of an asset, as far as they are known before its data move."""

    documents: dict[str, Document] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def gather(
    facts: Facts,
    folder: Folder | None,
    service: MetadataService | None,
    folder_wins: bool = False,
) -> Gathered:
    """Gather all documents of an asset but those that are written at its end.

    Parameters
    ----------
    facts : Facts
        What the request says of the asset.
    folder : Folder | None
        What `metadata_dir` holds, where there is one.
    service : MetadataService | None
        The lab's metadata service, where there is one.
    folder_wins : bool
        Whether the folder's documents win over the service's.

    Raises
    ------
    MetadataError
        Where the subject is missing and ought to be known, or documents name another.
    """
    gathering = _Gathering(facts, folder, service, folder_wins)
    gathering.from_service("subject", lambda s: s.subject(facts.subject_id))
    gathering.from_service("procedures", lambda s: s.procedures(facts.subject_id))
    for kind, (named_in, name) in _NAMED_BY.items():
        gathering.instrument(kind, named_in, name)
    gathering.description()
    gathering.check()
    return gathering.result


class _Gathering:
    """One gathering under way."""

    def __init__(
        self,
        facts: Facts,
        folder: Folder | None,
        service: MetadataService | None,
        folder_wins: bool,
    ):
        self._facts = facts
        self._service = service
        self._folder_wins = folder_wins
        self.result = Gathered(dict(folder.documents) if folder else {})
        self._failed: dict[str, str] = {}
        if folder and folder.left_out:
            names = ", ".join(folder.left_out[:10])
            self.result.warnings.append(f"not taken from metadata_dir: {names}")

    def from_service(self, kind: str, ask: Callable[[MetadataService], Found | None]) -> None:
        """Take a document from the service, where it has one and may win."""
        held = self.result.documents.get(kind)
        if self._service is None or (held and self._folder_wins):
            return
        try:
            found = ask(self._service)
        except MetadataError as error:
            self._failed[kind] = str(error)
            instead = f"; that of {held.source} is taken" if held else ""
            self.result.warnings.append(f"no {kind} from the metadata service: {error}{instead}")
            return
        if found is not None:
            self.result.documents[kind] = _document(kind, found)

    def instrument(self, kind: str, named_in: str, name: str) -> None:
        """Take the rig or instrument that the session or acquisition names."""
        document = self.result.documents.get(named_in)
        identifier = document.content.get(name) if document else None
        if isinstance(identifier, str) and identifier:
            ask = MetadataService.rig if kind == "rig" else MetadataService.instrument
            self.from_service(kind, lambda service: ask(service, identifier))

    def description(self) -> None:
        """Compose the description of the data, where none was given."""
        if "data_description" in self.result.documents:
            return
        funding: list[dict[str, Any]] = []
        if self._service is not None:
            try:
                funding = self._service.funding(self._facts.project_name)
            except MetadataError as error:
                self.result.warnings.append(f"no funding from the metadata service: {error}")
            else:
                if not funding:
                    self.result.warnings.append(
                        f'the metadata service knows no funding of "{self._facts.project_name}": '
                        "data_description.json calls it internal"
                    )
        self.result.documents["data_description"] = data_description(self._facts, funding)

    def check(self) -> None:
        """Make sure that all documents speak of the same subject, and warn of what is odd."""
        problems = self._other_subjects()
        if "subject" not in self.result.documents:
            if "subject" in self._failed:
                problems.append(f"no subject.json: {self._failed['subject']}")
            elif self._service is not None:
                problems.append(
                    f"subject {self._facts.subject_id} is not known to the metadata service "
                    f"{self._service.url}, and metadata_dir has no subject.json"
                )
            else:
                self.result.warnings.append(
                    "there is no subject.json: no metadata service is set and metadata_dir has none"
                )
        earlier = self.result.documents.get("processing")
        if earlier is not None:
            try:
                check_processing(earlier)
            except MetadataError as error:
                problems.append(str(error))
        if problems:
            raise MetadataError("; ".join(problems))
        for document in self.result.documents.values():
            if document.status == Status.INVALID:
                self.result.warnings.append(
                    f"{document.file_name} from {document.source} is not valid"
                )
        name = self.result.documents["data_description"].content.get("name")
        if name != self._facts.asset:
            self.result.warnings.append(
                f"data_description.json speaks of {name}, not of {self._facts.asset}"
            )

    def _other_subjects(self) -> list[str]:
        """Name the documents that speak of another subject."""
        problems = []
        for kind in _NAMES_THE_SUBJECT:
            document = self.result.documents.get(kind)
            if document is None:
                continue
            named = document.content.get("subject_id")
            missing = named is None and kind == "subject"
            if missing or (named is not None and str(named) != self._facts.subject_id):
                problems.append(
                    f"{document.source} names the subject {named}, the job {self._facts.subject_id}"
                )
        return problems


def _document(kind: str, found: Found) -> Document:
    """Take a document from the service: it knows of an invalid one, the schema of others."""
    status = status_of(kind, found.document) if found.valid else Status.INVALID
    return Document(kind, found.document, status, found.source)
