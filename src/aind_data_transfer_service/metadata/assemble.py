"""Gathering the documents of an asset, and deciding who wins where several have one.

The lab's sources are asked at once, and the first in their order that has a document gives it;
procedures of several are put together. They win over the job's own folder (`metadata_dir`), unless
`metadata_dir_force` turns that round. What nobody has is missing, and the policy of that document
says what it means: by default, a missing subject stops the job before any byte moves, once there
is a source that ought to know it, and of the rest is warned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aind_data_transfer_service.concurrency.deadline_gather import Answer, Inquiry
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.asset_facts import Facts
from aind_data_transfer_service.metadata.base import Found, Funding
from aind_data_transfer_service.metadata.documents import (
    COMPOSED,
    Document,
    check_processing,
    data_description,
    statuses_of,
)
from aind_data_transfer_service.metadata.merge_procedures import LISTS, merge_procedures
from aind_data_transfer_service.metadata.people import doubts_about
from aind_data_transfer_service.metadata.registry import Lab, label_of
from aind_data_transfer_service.metadata.schemas import KINDS
from aind_data_transfer_service.metadata.source_procedures import procedures_of, subject_of
from aind_data_transfer_service.metadata.sources.folder import Folder
from aind_data_transfer_service.metadata.validation import Status, generation_of, status_of
from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.settings.metadata import Policy
from aind_data_transfer_service.settings.schema_generation import Generation

_OF_THE_SUBJECT = ("subject", "procedures")
_NAMES_THE_SUBJECT = (*_OF_THE_SUBJECT, "data_description", "session", "acquisition")
_MOST_ROWS, _MOST_NOTES, _LONGEST = 50, 10, 500
_NAMED_BY = {"rig": ("session", "rig_id"), "instrument": ("acquisition", "instrument_id")}


@dataclass
class Gathered:
    """The documents of an asset, as far as they are known before its data move."""

    documents: dict[str, Document] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def gather(facts: Facts, folder: Folder | None, lab: Lab, folder_wins: bool = False) -> Gathered:
    """Gather all documents of an asset but those that are written at its end.

    Parameters
    ----------
    facts : Facts
        What the request says of the asset.
    folder : Folder | None
        What `metadata_dir` holds, where there is one.
    lab : Lab
        The sources that are configured; there may be none.
    folder_wins : bool
        Whether the folder's documents win over those of the sources.

    Raises
    ------
    MetadataError
        Where a document is missing that is required, or documents name another subject.
    """
    gathering = _Gathering(facts, folder, lab, folder_wins)
    wanted = gathering.wanted()
    inquiry = lab.inquire(wanted)
    for kind in wanted:
        if kind == "procedures":
            gathering.put_together(inquiry)
        elif kind != "funding":
            gathering.take_first(kind, inquiry)
    gathering.describe(inquiry)
    gathering.check()
    return gathering.result


class _Gathering:
    """One gathering under way."""

    def __init__(self, facts: Facts, folder: Folder | None, lab: Lab, folder_wins: bool):
        self._facts = facts
        self._lab = lab
        self._folder_wins = folder_wins
        self._ids: dict[str, str] = {}
        self._problems: list[str] = []
        self.result = Gathered(dict(folder.documents) if folder else {})
        if folder and folder.left_out:
            names = listed(folder.left_out, separator=", ")
            self.result.warnings.append(f"not taken from metadata_dir: {names}")
        if folder and folder.broken_links:
            names = listed(folder.broken_links)
            self.result.warnings.append(f"left out of metadata_dir: {names}")

    def wanted(self) -> dict[str, str]:
        """Say what is to be asked for, and by which id."""
        held = self.result.documents
        self._ids = dict.fromkeys(_OF_THE_SUBJECT, self._facts.subject_id)
        for kind, (named_in, name) in _NAMED_BY.items():
            identifier = held[named_in].content.get(name) if named_in in held else None
            if isinstance(identifier, str) and identifier:
                self._ids[kind] = identifier
        wanted = {k: i for k, i in self._ids.items() if not (k in held and self._folder_wins)}
        if "data_description" not in held:
            wanted["funding"] = self._facts.project_name
        return wanted

    def take_first(self, kind: str, inquiry: Inquiry) -> None:
        """Take a document from the first source that has it."""
        failed: list[Answer] = []
        for name in self._lab.chosen(kind):
            answer = inquiry.answer(kind, name)
            if kind == "subject":
                answer = subject_of(answer, self._facts.generation)
            if answer.problem:
                failed.append(answer)
            elif answer.value is not None:
                self._take(kind, answer.value, answer.seconds, failed)
                return
        self._miss(kind, failed)

    def put_together(self, inquiry: Inquiry) -> None:
        """Make one document of what all sources know of the procedures.

        Sources that know of no procedure do not replace a document of the job's own folder.
        """
        answers = [inquiry.answer("procedures", name) for name in self._lab.chosen("procedures")]
        failed = [answer for answer in answers if answer.problem]
        there = [answer for answer in answers if answer.value is not None]
        if not there:
            self._miss("procedures", failed)
            return
        try:
            generation = self._facts.generation
            parts = procedures_of(there, generation)
            found = merge_procedures(self._facts.subject_id, parts, generation)
        except MetadataError as error:
            self._problems.append(str(error))
            return
        seconds = max(answer.seconds for answer in there)
        if self._lab.enriches:
            found, more = self._enriched(found, failed, inquiry)
            seconds += more
        found = _without(found, failed)
        held = self.result.documents.get("procedures")
        if held is not None and not any(found.document.get(name) for name in LISTS):
            self.result.documents["procedures"] = replace(held, notes=(*held.notes, *found.notes))
            return
        self._take("procedures", found, seconds, failed)

    def _enriched(
        self, found: Found, failed: list[Answer], inquiry: Inquiry
    ) -> tuple[Found, float]:
        """Have TARS complete the procedures, and tell how long that took."""
        inquiry.ask("procedures", "tars", lambda: self._lab.enrich(found))
        answer = inquiry.answer("procedures", "tars")
        if answer.problem:
            failed.append(answer)
        return answer.value or found, answer.seconds

    def _take(self, kind: str, found: Found, seconds: float, failed: Sequence[Answer]) -> None:
        """Take a document: its source knows of an invalid one, the schema of others."""
        generation = self._facts.generation
        is_valid = status_of(kind, found.document, generation)
        status = is_valid if found.valid else Status.INVALID
        notes = (*found.notes, *(_failure(answer) for answer in failed))
        document = Document(
            kind,
            found.document,
            status,
            found.source,
            complete=found.complete,
            notes=notes,
            seconds=round(seconds, 3),
            generation=generation,
        )
        self.result.documents[kind] = document
        if self._lab.policy(kind) == Policy.IGNORE:
            return
        for answer in failed:
            instead = f"; that of {found.source} is taken"
            self.result.warnings.append(f"no {kind} from {_failure(answer)}{instead}")
        if not found.complete:
            why = "; ".join(found.notes) or "some of its sources failed"
            self.result.warnings.append(f"{document.file_name} is not complete: {why}")

    def _miss(self, kind: str, failed: Sequence[Answer]) -> None:
        """Say that none of the sources has a document, which the job's own folder may have."""
        held = self.result.documents.get(kind)
        policy = self._lab.policy(kind)
        chosen = self._lab.chosen(kind)
        if held is not None:
            notes = tuple(_failure(answer) for answer in failed)
            self.result.documents[kind] = replace(held, notes=(*held.notes, *notes))
            if policy != Policy.IGNORE:
                self.result.warnings += [
                    f"no {kind} from {note}; that of {held.source} is taken" for note in notes
                ]
            return
        if policy == Policy.IGNORE or not (chosen or kind == "subject" or policy == Policy.REQUIRE):
            return
        words = self._missing(kind, failed)
        if policy == Policy.REQUIRE:
            self._problems.append(words)
        else:
            self.result.warnings.append(words)

    def _missing(self, kind: str, failed: Sequence[Answer]) -> str:
        """Say why there is no document of a kind."""
        bad = {answer.source for answer in failed}
        asked = [label_of(name) for name in self._lab.chosen(kind) if name not in bad]
        reasons = [_failure(answer) for answer in failed]
        if asked:
            verb = "does not know it" if len(asked) == 1 else "do not know it"
            reasons.append(f"{' and '.join(asked)} {verb}")
        if not reasons:
            reasons.append("no source of it is configured")
        reasons.append(f"metadata_dir has no {kind}.json")
        return f"no {kind}.json of {self._ids[kind]}: {'; '.join(reasons)}"

    def describe(self, inquiry: Inquiry) -> None:
        """Compose the description of the data, where none was given."""
        if "data_description" in self.result.documents:
            return
        funding, source, seconds = self._funding(inquiry)
        if self._lab.policy("funding") != Policy.IGNORE:
            self.result.warnings += doubts_about(funding)
        document = data_description(
            self._facts, funding, self._lab.institution, self._lab.default_funder
        )
        if source:
            words = f"{document.source}, funding from {source}"
            document = replace(document, source=words, seconds=seconds)
        self.result.documents["data_description"] = document

    def _funding(self, inquiry: Inquiry) -> tuple[list[dict[str, Any]], str, float | None]:
        """Find out how the project is funded, and who says so."""
        policy, chosen = self._lab.policy("funding"), self._lab.chosen("funding")
        failed: list[str] = []
        people: list[dict[str, Any]] = []
        for name in chosen:
            answer = inquiry.answer("funding", name)
            if answer.problem:
                failed.append(f"no funding from {_failure(answer)}")
                continue
            if isinstance(answer.value, Funding) and policy != Policy.IGNORE:
                self.result.warnings += [f"{label_of(name)}: {note}" for note in answer.value.notes]
            if any(item.get("funder") for item in answer.value):
                self.result.warnings += failed if policy != Policy.IGNORE else []
                return [*people, *answer.value], label_of(name), answer.seconds
            people = people or answer.value  # investigators, and no funding
        required = policy == Policy.REQUIRE
        if policy != Policy.IGNORE and (chosen or required):
            asked = " and ".join(label_of(name) for name in chosen) or "nobody that is configured"
            project = self._facts.project_name
            known = f'{asked}: no funding of "{project}" is known'
            words = [*failed, *([known] if len(failed) < len(chosen) or required else [])]
            if required:
                self._problems += words
            else:
                funder = self._lab.default_funder
                instead = f"the default funder, {funder}" if funder else "no funder"
                words[-1] += f"; data_description.json names {instead}"
                self.result.warnings += words
        return people, "", None

    def check(self) -> None:
        """Make sure that all documents speak of the same subject, and warn of what is odd."""
        problems = self._problems + self._other_subjects()
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
                    f"{document.file_name} from {document.source} is not valid: "
                    + f"{'; '.join(document.problems)}. {_advice(document)}"
                )
        self.result.warnings += self._other_devices()
        name = self.result.documents["data_description"].content.get("name")
        if name != self._facts.asset:
            speaks = f"speaks of {name}, not of" if name else "has no name; it ought to be"
            self.result.warnings.append(f"data_description.json {speaks} {self._facts.asset}")

    def _other_devices(self) -> list[str]:
        """Name the rig and the instrument that are not those of the session or acquisition."""
        warnings = []
        for kind, (named_in, name) in _NAMED_BY.items():
            document, wanted = self.result.documents.get(kind), self._ids.get(kind)
            if document is None or wanted is None:
                continue
            named = document.content.get(name)
            start = f"{document.file_name} from {document.source} has"
            if named is None or named == "":
                warnings.append(
                    f"{start} no {name}, {named_in}.json has {quoted(wanted)}: add the {name} to "
                    f"{document.file_name} there"
                )
            elif named != wanted:
                warnings.append(
                    f"{start} the {name} {quoted(named)}, {named_in}.json has {quoted(wanted)}: "
                    "correct the one that is wrong"
                )
        return warnings

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
                names = "no subject (subject_id)" if missing else f"the subject {named}"
                problems.append(
                    f"{document.source} names {names}, the job {self._facts.subject_id}"
                )
        return problems


def provenance(
    documents: Mapping[str, Document], generation: Generation = Generation.V0
) -> list[dict[str, Any]]:
    """List the documents that an asset has or ought to have, each as a few plain values.

    `processing.json` is never missing: where it is not there, it is yet to be written. However
    much there is, the list stays short enough for an event.
    """
    known = documents.keys() | {"processing"}
    kinds = KINDS[generation]
    missing = [kind for kind in statuses_of(documents, generation) if kind not in known]
    others = [kind for kind in documents if kind not in kinds]
    rows = {
        kind: {
            "name": document.file_name,
            "status": document.status.value,
            "generation": generation_of(document.content),
            "source": document.source[:_LONGEST],
            "seconds": document.seconds,
            "complete": document.complete,
            "problems": document.problems,
            "notes": [note[:_LONGEST] for note in document.remarks[:_MOST_NOTES]],
        }
        for kind, document in documents.items()
    }
    rows |= {k: {"name": f"{k}.json", "status": Status.MISSING.value} for k in missing}
    return [rows[kind] for kind in (*kinds, *others) if kind in rows][:_MOST_ROWS]


def _without(procedures: Found, failed: Sequence[Answer]) -> Found:
    """Say in procedures whose part is missing."""
    if not failed:
        return procedures
    lines = [f"{label_of(answer.source)}: no answer, so its part is missing" for answer in failed]
    notes = "\n".join([*str(procedures.document.get("notes") or "").splitlines(), *lines])
    return replace(procedures, document={**procedures.document, "notes": notes}, complete=False)


def _advice(document: Document) -> str:
    """Say what to do about an invalid document."""
    if document.raw is not None:
        return "Correct this file"
    if document.source.startswith(COMPOSED):
        return "Enter the missing values where they come from: the settings, and the funding"
    return (
        f"Have it corrected there, or put a valid {document.file_name} into metadata_dir and set "
        "metadata_dir_force"
    )


def _failure(answer: Answer) -> str:
    """Say which source failed, and why, once."""
    shown = label_of(answer.source)
    return answer.problem if answer.problem.startswith(shown) else f"{shown}: {answer.problem}"
