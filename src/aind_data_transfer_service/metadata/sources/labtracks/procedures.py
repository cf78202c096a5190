"""What LabTracks' tasks say was done to an animal, as `procedures.json` of aind-data-schema 0.34.

A task of the colony is a perfusion or a retro-orbital injection by the name of its type, and was
done if its status is F (finished). Tasks of other types, such as tattoos, are no procedures.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.plausible_dates import is_plausible
from aind_data_transfer_service.metadata.sources.labtracks.rows import as_text

TaskRow = Mapping[str, Any]
"""A row that the query for tasks in `labtracks.py` returns, by its names of columns."""
_FINISHED = "F"
_PERFUSION, _INJECTION, _UNCLEAR = "perfusion", "injection", "unclear"
_KINDS = {
    _PERFUSION: re.compile(r"perfusions?\b"),
    _INJECTION: re.compile(r"(r ?o|retro ?orbital) ?inj(ection)?s?\b"),
}
"""How the names of types begin, in small letters and with blanks for hyphens."""
_NEARLY = re.compile(r"perfus|\br ?o\b|retro ?orbital|\broinj")
_DENIED = re.compile(r"\b(cancel\w*|abort\w*|fail\w*|not?|never|void\w*|skip\w*|pending)\b")
_BETWEEN = re.compile("[-_.\\s\u2010-\u2015\u2212]+")
_INNER = ("procedures", "injections")
"""The lists of procedures in a part of a document; the second is of generation 2."""
_GROUP = "LAS"
"""Laboratory Animal Services do the tasks of the colony."""
_NOTED = {
    "type_name": "task type",
    "description": "description",
    "protocol_title": "protocol",
    "date_end": "ended",
}


def read_tasks(subject_id: str, rows: Sequence[TaskRow], source: str) -> Found | None:
    """Read the procedures among an animal's tasks.

    Parameters
    ----------
    subject_id : str
        The animal.
    rows : Sequence
        All its tasks.
    source : str
        Where they are from, for people.

    Returns
    -------
    Found | None
        The procedures, with a note for each that was not finished or whose type only resembles
        one; None if no task is one.
    """
    surgeries, left_out = [], []
    for row in rows:
        kind = _kind(row)
        if kind is None:
            continue
        status = as_text(row["task_status"])
        why = f"its status is {status or 'not known'}" if status != _FINISHED else ""
        if kind == _UNCLEAR:
            why = "its type is not known as a procedure"
        if why:
            words = " ".join((as_text(row["type_name"]) or "").split())
            left_out.append(f"task {as_text(row['id'])} ({words}): left out: {why}")
        else:
            surgeries.append(_surgery(subject_id, row, kind))
    if not surgeries and not left_out:
        return None
    found = procedure_builders.document(subject_id, surgeries, source, left_out)
    return procedure_builders.with_notes(found, left_out)


def without_repeats(tasks: Found, others: Sequence[Found]) -> Found:
    """Leave out the tasks that another source has: a procedure of the same kind and day.

    Without a day, a procedure of that kind is taken to be the same.

    Parameters
    ----------
    tasks : Found
        What `read_tasks` returned.
    others : Sequence of Found
        The procedures of the other sources.

    Returns
    -------
    Found
        The other tasks, with a note that holds what LabTracks says of each that is left out.
    """
    known = [
        (kind, day, other.source)
        for other in others
        for kind, day in _kinds_and_days(other.document)
    ]
    kept, left_out = [], []
    for part in tasks.document["subject_procedures"]:
        [done], day = part["procedures"], part["start_date"]
        kind = done["procedure_type"]
        who = next((w for k, d, w in known if k == kind and (d is None or day in (d, None))), None)
        if who is None:
            kept.append(part)
        else:
            said = "; ".join(str(part["notes"]).splitlines())
            left_out.append(f"{kind} of {day or 'no date'} left out: {who} has it ({said})")
    if not left_out:
        return tasks
    remarks = [*str(tasks.document["notes"] or "").splitlines(), *left_out]
    found = procedure_builders.document(tasks.document["subject_id"], kept, tasks.source, remarks)
    return procedure_builders.with_notes(found, remarks, tasks.complete)


def _kinds_and_days(document: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """List the procedures of a document, in surgeries or alone, each with its day."""
    parts = document.get("subject_procedures")
    for part in parts if isinstance(parts, list) else []:
        if not isinstance(part, dict):
            continue
        day = part.get("start_date")
        inner = [one for name in _INNER if isinstance(part.get(name), list) for one in part[name]]
        for one in [part, *inner]:
            if isinstance(one, dict) and isinstance(kind := _kind_of(one, part), str):
                yield kind, str(day)[:10] if day else None


def _kind_of(procedure: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """Return the type of a procedure, as generation 0.34 calls it.

    In generation 2 all injections outside of the brain are of one type; one is behind an eye if it
    or the notes of the surgery say so.
    """
    if procedure.get("object_type") != "Injection":
        return procedure.get("procedure_type") or procedure.get("object_type")
    said = json.dumps([procedure, whole.get("notes")], default=str).lower()
    return "Retro-orbital injection" if "orbital" in said else "Injection"


def _kind(row: TaskRow) -> str | None:
    """Return which procedure a task is, by the name of its type; `_UNCLEAR` if it may be one."""
    name = " ".join(_BETWEEN.sub(" ", as_text(row["type_name"]) or "").lower().split())
    if not _NEARLY.search(name):
        return None
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.match(name)), _UNCLEAR)
    return _UNCLEAR if _DENIED.search(name) else kind


def _surgery(subject_id: str, row: TaskRow, kind: str) -> dict[str, Any]:
    """Describe a finished task."""
    started, who = row["date_start"], as_text(row["investigator_id"])
    day = date.fromisoformat(started.isoformat()[:10]) if isinstance(started, date) else None
    sitting = procedure_builders.Sitting(
        start=day if day and is_plausible(day) else None,
        experimenter=f"{_GROUP}-{who}" if who else _GROUP,
    )
    procedure = (
        procedure_builders.perfusion([subject_id])
        if kind == _PERFUSION
        else procedure_builders.retro_orbital([])
    )
    notes = [f"task: {as_text(row['id'])}"]
    notes += [f"started: {day}, which is not plausible"] if day and not sitting.start else []
    notes += [
        f"{label}: {' '.join(words.split())}"
        for name, label in _NOTED.items()
        if (words := as_text(row[name]))
    ]
    return procedure_builders.surgery(sitting, as_text(row["protocol_number"]), [procedure], notes)
