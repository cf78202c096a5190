"""Procedures from several sources, made one document in which each part tells its origin."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.validation import Match, check_version, generation_of
from aind_data_transfer_service.settings.schema_generation import Generation

ORIGIN = "source: "
"""Begins the line of a part's notes that tells where it came from."""
LISTS = ("subject_procedures", "specimen_procedures")
_WITHOUT_NOTES = frozenset({"Water restriction", "Injection"})
"""Types of procedures to which the schema gives no notes, by `procedure_type` or `object_type`."""
_ORDER = [*Match]
"""Which document the fields of the whole are taken from, the best first."""


def merge_procedures(
    subject_id: str, found: Sequence[Found], generation: Generation = Generation.V0
) -> Found:
    """Make one document of what several sources know of a subject.

    Each part keeps the order of its source and is marked with it in its notes; a part that two
    sources tell alike is kept once, marked with both. The result is complete where all of them are,
    and valid where all of them are and follow the same generation of the schema.

    Parameters
    ----------
    subject_id : str
        Whom all the documents have to speak of.
    found : Sequence of Found
        What the sources answered: one answer at least.
    generation : Generation
        The generation of the asset.

    Raises
    ------
    MetadataError
        Where a document speaks of another subject, or is no document of procedures.
    """
    if not found:
        raise ValueError("there is nothing to merge")
    for one in found:
        _check(subject_id, one)
    checks = [check_version("procedures", one.document, generation) for one in found]
    first = min(zip(checks, found), key=lambda pair: _ORDER.index(pair[0].match))[1].document
    content: dict[str, Any] = {
        **first,
        "subject_id": subject_id,
        **{name: _merged(name, found) for name in LISTS},
        "notes": _notes(found),
    }
    notes = [_said(one, note, found) for one in found for note in one.notes]
    is_mixed = len({_generation(one, generation) for one in found}) > 1
    if is_mixed:
        notes += [
            f"{one.source}: {check.message}"
            for one, check in zip(found, checks)
            if check.match == Match.OTHER_GENERATION
        ]
    sources = list(dict.fromkeys(one.source for one in found))
    return Found(
        content,
        valid=not is_mixed and all(one.valid for one in found),
        source=" and ".join(sources),
        complete=all(one.complete for one in found),
        notes=tuple(notes),
        is_draft=all(one.is_draft for one in found),
    )


def _generation(found: Found, usual: Generation) -> Generation | None:
    """Return the generation of a document; the usual one if it states none."""
    stated = found.document.get("schema_version")
    return usual if stated is None else generation_of(found.document)


def _check(subject_id: str, found: Found) -> None:
    """Make sure that a document is about this subject, and has the shape of procedures."""
    named = found.document.get("subject_id")
    if named is not None and str(named) != subject_id:
        raise MetadataError(
            f"{found.source} names the subject {named}, where {subject_id} was asked for"
        )
    for name in LISTS:
        parts = found.document.get(name)
        is_list = isinstance(parts, list) and all(isinstance(part, dict) for part in parts)
        if parts is not None and not is_list:
            raise MetadataError(f"{found.source} has {name} that are no list of procedures")


def _merged(name: str, found: Sequence[Found]) -> list[dict[str, Any]]:
    """Put the parts together: each once, by date, marked with its origins."""
    parts: dict[tuple[str, int], dict[str, Any]] = {}
    origins: dict[tuple[str, int], list[str]] = {}
    for one in found:
        told: Counter[str] = Counter()  # what a source tells twice was done twice
        for part in one.document.get(name) or []:
            words = json.dumps({**part, "notes": None}, sort_keys=True, default=str)
            key = (words, told[words])
            told[words] += 1
            parts[key] = {**part, **_both_notes(parts[key], part)} if key in parts else part
            origins.setdefault(key, []).append(one.source)
    marked = [_marked(part, origins[key]) for key, part in parts.items()]
    return sorted(marked, key=lambda part: str(part.get("start_date") or "9999"))


def _both_notes(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """Keep the lines of notes that either has."""
    lines = [line for part in (one, two) for line in str(part.get("notes") or "").splitlines()]
    return {"notes": "\n".join(dict.fromkeys(lines))} if lines else {}


def _marked(part: dict[str, Any], origins: Sequence[str]) -> dict[str, Any]:
    """Write a part's origin into its notes, where it does not stand there and may."""
    if {part.get("procedure_type"), part.get("object_type")} & _WITHOUT_NOTES:
        return part
    lines = str(part.get("notes") or "").splitlines()
    marks = [f"{ORIGIN}{origin}" for origin in dict.fromkeys(origins)]
    if _is_marked(part):
        marks = []  # merged before, by whoever asked its own sources
    return {**part, "notes": "\n".join([*marks, *lines])}


def _is_marked(part: dict[str, Any]) -> bool:
    return any(line.startswith(ORIGIN) for line in str(part.get("notes") or "").splitlines())


def _notes(found: Sequence[Found]) -> str | None:
    """Tell of the document where it comes from, and whether that is all there ought to be."""
    lines = [line for one in found for line in str(one.document.get("notes") or "").splitlines()]
    lines += list(_provenance(found))
    return "\n".join(dict.fromkeys(lines)) or None


def _provenance(found: Sequence[Found]) -> Iterator[str]:
    """List the sources, each with how many procedures it told."""
    for one in found:
        if any(_is_marked(part) for name in LISTS for part in one.document.get(name) or []):
            continue  # merged before: its notes tell it already
        count = sum(len(one.document.get(name) or []) for name in LISTS)
        told = f"{count} procedure{'' if count == 1 else 's'}"
        yield f"{one.source}: {told}{'' if one.complete else ', not all that there ought to be'}"


def _said(one: Found, note: str, found: Sequence[Found]) -> str:
    """Say who says something, where there is more than one and the words do not say it."""
    who = one.source.partition(" and ")[0].partition(",")[0]
    return note if len(found) == 1 or note.startswith(who) else f"{one.source}: {note}"
