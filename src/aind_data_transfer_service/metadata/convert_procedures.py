"""`procedures.json` of lab systems in generations 1 and 2 of the schema.

A procedure that lacks a value that the generation needs is described in words, with all values that
are stated, so that the document is valid and nothing is lost. A surgery without a date, which these
generations do not have, is described in the notes of the document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aind_data_transfer_service.metadata import convert_procedures_second, procedure_builders, terms
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.procedures_in_words import Lacking, in_words
from aind_data_transfer_service.metadata.schemas import version_of
from aind_data_transfer_service.settings.schema_generation import Generation


def procedures_in(found: Found, generation: Generation) -> Found:
    """Write procedures of generation 0.34 in a later generation."""
    second = generation == Generation.V2
    surgeries, remarks, lacking = [], [], []
    remarks += str(found.document["notes"] or "").splitlines()
    for part in found.document["subject_procedures"]:
        if part["start_date"] is None:
            remarks += ["surgery without a date:", *(f"  {line}" for line in in_words(part))]
            names = ", ".join(dict.fromkeys(one["procedure_type"] for one in part["procedures"]))
            lacking.append(_lacks(f"Surgery ({names})", ["start_date"], generation))
            continue
        procedures, notes, missing = _procedures(part, generation)
        lacking += missing
        lines = [*str(part["notes"] or "").splitlines(), *notes]
        written = {**part, "procedures": procedures, "notes": "\n".join(lines) or None}
        surgeries.append(convert_procedures_second.surgery(written) if second else written)
    content = {
        **({"object_type": "Procedures"} if second else {}),
        **found.document,
        "schema_version": version_of(generation, "procedures"),
        "subject_procedures": surgeries,
        "notes": "\n".join(remarks) or None,
    }
    of_draft = procedure_builders.lacking_lines(found.document["subject_procedures"])
    others = [one for one in found.notes if not one.endswith(tuple(of_draft) or ("\n",))]
    return replace(
        found,
        document=content,
        complete=found.complete and not lacking,
        notes=(*others, *lacking),
    )


def _procedures(
    surgery: Mapping[str, Any], generation: Generation
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Write the procedures of a surgery; return notes and what is lacking besides."""
    second = generation == Generation.V2
    write = convert_procedures_second.procedure if second else _first
    describe = convert_procedures_second.other if second else procedure_builders.other
    written: list[dict[str, Any]] = []
    notes: list[str] = []
    lacking: list[str] = []
    for part in _apart(surgery["procedures"], second):
        kind = part["procedure_type"]
        try:
            one, lines = write(part)
        except Lacking as error:
            name = f"{kind} ({surgery['start_date']})"
            lacking.append(_lacks(name, error.names, generation))
            one, lines = describe(kind, "\n".join(in_words(part)) or None), []
        written.append(one)
        notes += [f"procedure {len(written)} ({kind}): {line}" for line in lines]
    return written, notes, lacking


def _apart(procedures: Sequence[dict[str, Any]], second: bool) -> list[dict[str, Any]]:
    """List procedures; generation 2 has each fibre as a procedure of its own."""
    if not second:
        return list(procedures)
    return [
        {**part, "probes": [probe]} if probe else part
        for part in procedures
        for probe in part.get("probes") or [None]
    ]


def _lacks(name: str, missing: Sequence[str], generation: Generation) -> str:
    """Say what a procedure lacks, and what to do."""
    return (
        f"{name} lacks {', '.join(dict.fromkeys(missing))}, which generation {generation} of the "
        "schema needs: its values are kept in notes; complete the record at its source"
    )


def _first(part: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Write a procedure as generation 1, which lists structures of the brain."""
    missing = procedure_builders.missing_values(part)
    if "probes" in part:
        probes = [_with_structure(probe) for probe in part["probes"]]
        missing += ["targeted_structure"] if any(name for _, name in probes) else []
        part = {**part, "probes": [probe for probe, _ in probes]}
    if missing:
        raise Lacking(missing)
    part, unknown = _with_structure(part)
    return part, [f"targeted structure: {unknown}"] if unknown else []


def _with_structure(part: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Write the structure that is aimed at; return it as text if the schema does not list it."""
    name = part.get("targeted_structure")
    if name is None:
        return part, None
    known = terms.structure(Generation.V1, name)
    return {**part, "targeted_structure": known}, None if known else name
