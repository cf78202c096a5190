"""The command `aind-data-transfer-service metadata`: what each source says, and how long it takes.

Everyone who is configured is asked, also where a job would be content with the first answer.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from pydantic import ValidationError

from aind_data_transfer_service.concurrency.deadline_gather import Answer, Inquiry
from aind_data_transfer_service.errors import ExitCode, MetadataError, RequestError
from aind_data_transfer_service.metadata.base import Found, Funding
from aind_data_transfer_service.metadata.conversion import in_generation
from aind_data_transfer_service.metadata.documents import Document
from aind_data_transfer_service.metadata.merge_procedures import merge_procedures
from aind_data_transfer_service.metadata.registry import Lab, open_lab
from aind_data_transfer_service.metadata.source_procedures import procedures_of, subject_of
from aind_data_transfer_service.metadata.validation import Status, status_of
from aind_data_transfer_service.plugins import METADATA_SOURCES
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.metadata import ENRICHES, Policy
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.settings.upload import UploadSettings


class Outcome(StrEnum):
    """What came of asking a source."""

    FOUND = "found"
    NOT_FOUND = "not found"
    FAILED = "failed"
    NOT_CONFIGURED = "not configured"


@dataclass(frozen=True)
class Row:
    """What one source says to one question."""

    kind: str
    identifier: str
    source: str
    """As the settings call it."""
    outcome: Outcome
    seconds: float = 0.0
    origin: str = ""
    """Where exactly it came from; or why there is nothing."""
    status: str = ""
    """Of a document."""
    complete: bool = True
    problems: tuple[str, ...] = ()
    """The first problems of an invalid document."""
    notes: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to look after."""
        return self.outcome != Outcome.FAILED and self.status != Status.INVALID

    def lines(self) -> Iterator[str]:
        """Write it for people."""
        words = [str(self.outcome), self.status, "" if self.complete else "not complete"]
        said = ", ".join(word for word in words if word)
        took = "" if self.outcome == Outcome.NOT_CONFIGURED else f"{self.seconds:.2f} s"
        yield f"  {self.source:<10} {said:<32}{took:>8}  {self.origin}".rstrip()
        for text in dict.fromkeys((*self.problems, *self.notes)):
            yield f"{'':13}- {text}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the answer is the process's exit code."""
    options = _parser().parse_args(argv)
    try:
        settings = _settings()
    except ValidationError as error:
        print("\n".join(explain_settings(error)), file=sys.stderr)
        return ExitCode.REQUEST
    except RequestError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for line in (*METADATA_SOURCES.errors(), *METADATA_SOURCES.warnings()):
        print(line, file=sys.stderr)
    wanted = {"subject": options.subject_id, "procedures": options.subject_id}
    wanted |= {kind: name for kind in ("instrument", "rig") if (name := getattr(options, kind))}
    if options.project:
        wanted |= dict.fromkeys(("funding", "project_names"), options.project)
    with open_lab(settings) as lab:
        rows = survey(lab, wanted)
        code = exit_code(rows, {kind: lab.policy(kind) for kind in wanted if kind in _REQUIRED})
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        print("\n".join(text_of(rows)))
    return code


_REQUIRED = ("subject", "procedures", "instrument", "rig", "funding")
"""What a policy can require."""


def survey(lab: Lab, wanted: Mapping[str, str]) -> list[Row]:
    """Ask all sources.

    Parameters
    ----------
    lab : Lab
        The sources.
    wanted : Mapping
        What is asked for, and by which id.
    """
    inquiry = lab.inquire(wanted)
    rows: list[Row] = []
    for kind, identifier in wanted.items():
        answers = [inquiry.answer(kind, name) for name in lab.chosen(kind)]
        rows += [_row(kind, identifier, answer, lab.generation) for answer in answers]
        if kind == "procedures" and lab.enriches:
            rows.append(_enriched(lab, identifier, answers, inquiry))
        rows += [Row(kind, identifier, name, Outcome.NOT_CONFIGURED) for name in lab.left_out(kind)]
    return rows


def exit_code(rows: Sequence[Row], policies: Mapping[str, Policy]) -> ExitCode:
    """Say how it went: whether anything is required and missing, or fails, or is invalid."""
    found = {row.kind for row in rows if row.outcome == Outcome.FOUND}
    missing = [kind for kind, policy in policies.items() if policy == Policy.REQUIRE]
    if any(kind not in found for kind in missing):
        return ExitCode.METADATA
    return ExitCode.DONE if all(row.is_fine for row in rows) else ExitCode.UNEXPECTED


def text_of(rows: Sequence[Row]) -> Iterator[str]:
    """Write the rows for people, under what was asked."""
    told = ""
    for row in rows:
        question = f"{row.kind.replace('_', ' ')}: {row.identifier}"
        if question != told:
            yield question
        told = question
        yield from row.lines()


def _settings() -> UploadSettings:
    """Read the settings as a job does: those of the store of parameters too."""
    settings = UploadSettings()
    if not settings.aws_param_store_name:
        return settings
    from aind_data_transfer_service.settings.aws_parameters import add_parameters

    return add_parameters(settings, lambda words: print(words, file=sys.stderr))


def _row(kind: str, identifier: str, answer: Answer, generation: Generation) -> Row:
    """Say what a source answered."""
    frame = (kind, identifier, answer.source)
    if kind == "subject":
        answer = subject_of(answer, generation)
    if answer.problem:
        return Row(*frame, Outcome.FAILED, answer.seconds, answer.problem)
    if isinstance(answer.value, Found):
        return _found(*frame, answer.value, answer.seconds, generation)
    if kind == "project_names":
        is_there = identifier in (answer.value or ())
    else:
        is_there = bool(answer.value)
    outcome = Outcome.FOUND if is_there else Outcome.NOT_FOUND
    notes = answer.value.notes if isinstance(answer.value, Funding) else ()
    return Row(*frame, outcome, answer.seconds, notes=notes)


def _found(
    kind: str, identifier: str, source: str, found: Found, seconds: float, generation: Generation
) -> Row:
    """Say how a document is."""
    if kind == "procedures":
        found = in_generation(kind, found, generation)
    is_valid = status_of(kind, found.document, generation)
    status = is_valid if found.valid else Status.INVALID
    document = Document(
        kind, found.document, status, found.source, notes=found.notes, generation=generation
    )
    return Row(
        kind,
        identifier,
        source,
        Outcome.FOUND,
        seconds,
        found.source,
        status.value,
        found.complete,
        tuple(document.problems),
        document.remarks,
    )


def _enriched(lab: Lab, identifier: str, answers: Sequence[Answer], inquiry: Inquiry) -> Row:
    """Say what TARS adds to the procedures that were found."""
    there = [answer for answer in answers if answer.value is not None]
    found = procedures_of(there, lab.generation)
    frame = ("procedures", identifier, ENRICHES)
    if not found:
        return Row(*frame, Outcome.NOT_FOUND, origin="there is nothing to complete")
    try:
        merged = merge_procedures(identifier, found, lab.generation)
    except MetadataError as error:
        return Row(*frame, Outcome.FAILED, origin=str(error))
    inquiry.ask("procedures", ENRICHES, lambda: lab.enrich(merged))
    answer = inquiry.answer("procedures", ENRICHES)
    if answer.problem:
        return Row(*frame, Outcome.FAILED, answer.seconds, answer.problem)
    news = tuple(note for note in answer.value.notes if note not in merged.notes)
    changed = answer.value.document != merged.document
    return Row(
        *frame,
        Outcome.FOUND if changed else Outcome.NOT_FOUND,
        answer.seconds,
        "completes the viruses of these procedures" if changed else "names no lot that it knows",
        complete=answer.value.complete or not merged.complete,
        notes=news,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aind-data-transfer-service metadata",
        description="Ask every configured source of metadata, as a job would from here, and show "
        "what each says and how long it takes.",
        epilog="Exit code: 0 where all is well, 12 where a document is missing that is required, "
        "1 where a source fails or a document is not valid, 2 where a setting is wrong.",
    )
    parser.add_argument("subject_id", help="the subject, for its subject and procedures documents")
    parser.add_argument("--instrument", metavar="ID", help="ask for this instrument too")
    parser.add_argument("--rig", metavar="ID", help="ask for this rig too")
    parser.add_argument("--project", metavar="NAME", help="ask for this project's funding too")
    parser.add_argument("--json", action="store_true", help="print JSON, a list of answers")
    return parser
