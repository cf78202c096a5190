"""Whether a document is valid: by the models of aind-data-schema, or else by rule.

The models are asked where they can be imported, and of a document of the same release. With
today's pydantic those of procedures, rig, session and of the whole record cannot, so that what
they need stands here as a table.
"""

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from aind_data_transfer_service.configs.vocabulary import quoted

MOST_PROBLEMS = 5
"""How many problems of one document are told."""
_LONGEST = 200
_MODELS = {
    "subject": ("subject", "Subject"),
    "procedures": ("procedures", "Procedures"),
    "data_description": ("data_description", "DataDescription"),
    "session": ("session", "Session"),
    "acquisition": ("acquisition", "Acquisition"),
    "rig": ("rig", "Rig"),
    "instrument": ("instrument", "Instrument"),
    "processing": ("processing", "Processing"),
}


Judge = Callable[[Any], Iterator[str]]
"""Finds what is wrong with a value, each as what follows its name: `: no text`, `.0.name: missing`.
"""


class Status(StrEnum):
    """What is known of a document."""

    VALID = "Valid"
    INVALID = "Invalid"
    MISSING = "Missing"
    UNKNOWN = "Unknown"
    """It is there, and nothing here can tell whether it is right."""


def status_of(kind: str, content: Mapping[str, Any]) -> Status:
    """Tell whether a document is valid."""
    problems = problems_of(kind, content)
    if problems is None:
        return Status.UNKNOWN
    return Status.INVALID if problems else Status.VALID


def problems_of(kind: str, content: Mapping[str, Any]) -> list[str] | None:
    """List the first problems of a document, each as `place: what is wrong`.

    None where nobody can tell: no model, no rule, or another release of the schema.
    """
    model = _model(kind)
    if model is None:
        return _by_rule(kind, content) if kind in _RULES else None
    release = model.model_fields["schema_version"].default
    if content.get("schema_version", release) != release:
        return None
    try:
        model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        return _first(_in_words(error))
    except ValueError as error:
        return _first([str(error)])
    return []


def _model(kind: str) -> Any:
    """Import the schema's model of a document; None where it cannot be had."""
    if kind not in _MODELS:
        return None
    module, name = _MODELS[kind]
    try:
        return getattr(importlib.import_module(f"aind_data_schema.core.{module}"), name)
    except (
        Exception
    ):  # some of the schema's modules fail in ways of their own with today's pydantic
        return None


def _in_words(error: ValidationError) -> Iterator[str]:
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in details["loc"])
        yield f"{place or 'the document'}: {details['msg']}"


def _first(problems: Iterable[str]) -> list[str]:
    """Keep the first problems, each on one short line."""
    lines = [" ".join(problem.split()) for problem in problems]
    shown = [line if len(line) <= _LONGEST else f"{line[:_LONGEST - 1]}…" for line in lines]
    more = len(shown) - MOST_PROBLEMS
    return shown[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])


def _by_rule(kind: str, content: Mapping[str, Any]) -> list[str] | None:
    """List what is wrong by a rule; None where the document follows another release."""
    release, needed = _RULES[kind]
    if content.get("schema_version", release) != release:
        return None
    return _first(problem.removeprefix(".") for problem in _object(needed)(content))


def _object(needed: Mapping[str, Judge]) -> Judge:
    """Judge an object by what it needs; a name that ends with `?` may be missing or null."""

    def judge(value: Any) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield ": no object"
            return
        for name, inner in needed.items():
            may_be_missing, name = name.endswith("?"), name.removesuffix("?")
            if may_be_missing and value.get(name) is None:
                continue
            if name not in value:
                yield f".{name}: missing"
            else:
                yield from (f".{name}{problem}" for problem in inner(value[name]))

    return judge


def _list(inner: Judge | None = None, least: int = 0) -> Judge:
    """Judge a list, and what it holds."""

    def judge(value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            yield ": no list"
            return
        if len(value) < least:
            yield ": empty"
        if inner is not None:
            for number, one in enumerate(value):
                yield from (f".{number}{problem}" for problem in inner(one))

    return judge


def _by_kind(kinds: Mapping[str, Mapping[str, Judge]]) -> Judge:
    """Judge a procedure by the kind that it says it is of."""

    def judge(value: Any) -> Iterator[str]:
        kind = value.get("procedure_type") if isinstance(value, Mapping) else None
        if isinstance(kind, str) and kind in kinds:
            yield from _object(kinds[kind])(value)
        else:
            yield f".procedure_type: {quoted(kind)} is none of {', '.join(kinds)}"

    return judge


def _is(right: Callable[[Any], Any], words: str) -> Judge:
    """Judge by a test, which answers or raises."""

    def judge(value: Any) -> Iterator[str]:
        try:
            passed = right(value)
        except (ValueError, TypeError):
            passed = False
        if not passed:
            yield f": {words}"

    return judge


_text = _is(lambda value: isinstance(value, str), "no text")
_truth = _is(lambda value: isinstance(value, bool), "neither true nor false")
_day = _is(lambda value: date.fromisoformat(str(value)), "no day, such as 2024-02-19")
_moment = _is(
    lambda value: datetime.fromisoformat(str(value)).tzinfo,
    "no time with its zone, such as 2024-02-19T11:25:17-08:00",
)
_injection = {"protocol_id": _text, "injection_materials": _list(least=1)}
_surgical: dict[str, dict[str, Judge]] = {
    "Craniotomy": {"protocol_id": _text, "craniotomy_type": _text},
    "Fiber implant": {"protocol_id": _text, "probes": _list()},
    "Ground wire": {"protocol_id": _text},
    "Headframe": {
        "protocol_id": _text,
        "headframe_type": _text,
        "headframe_part_number": _text,
    },
    "ICM injection": _injection,
    "ICV injection": _injection,
    "Intraperitoneal injection": _injection,
    "Iontophoresis injection": {**_injection, "injection_coordinate_depth": _list()},
    "Nanoject injection": {
        **_injection,
        "injection_coordinate_depth": _list(),
        "injection_volume": _list(),
    },
    "Other Subject Procedure": {"description": _text},
    "Perfusion": {"protocol_id": _text},
    "Retro-orbital injection": _injection,
}
_on_a_subject: dict[str, dict[str, Judge]] = {
    "Surgery": {
        "protocol_id": _text,
        "start_date": _day,
        "experimenter_full_name": _text,
        "procedures": _list(_by_kind(_surgical), least=1),
    },
    "Training": {"training_name": _text, "protocol_id": _text, "start_date": _day},
    "Water restriction": {"iacuc_protocol": _text, "start_date": _day},
    "Other Subject Procedure": _surgical["Other Subject Procedure"],
}
_specimen = {
    "procedure_type": _text,
    "specimen_id": _text,
    "start_date": _day,
    "end_date": _day,
    "experimenter_full_name": _text,
    "protocol_id": _list(_text),
}
_RULES: dict[str, tuple[str, dict[str, Judge]]] = {
    "procedures": (
        "0.13.7",
        {
            "subject_id": _text,
            "subject_procedures?": _list(_by_kind(_on_a_subject)),
            "specimen_procedures?": _list(_object(_specimen)),
            "notes?": _text,
        },
    ),
    "rig": (
        "0.3.6",
        {
            "rig_id": _text,
            "modification_date": _day,
            "mouse_platform": _object({"device_type": _text, "name": _text}),
            "calibrations": _list(),
            "modalities": _list(_object({"name": _text, "abbreviation": _text})),
            "notes?": _text,
        },
    ),
    "session": (
        "0.2.4",
        {
            "subject_id": _text,
            "rig_id": _text,
            "session_type": _text,
            "experimenter_full_name": _list(_text),
            "session_start_time": _moment,
            "session_end_time?": _moment,
            "data_streams": _list(
                _object({"stream_start_time": _moment, "stream_end_time": _moment})
            ),
            "mouse_platform_name": _text,
            "active_mouse_platform": _truth,
        },
    ),
    "metadata": (
        "0.2.16",
        {
            "_id": _is(lambda value: UUID(str(value)), "no UUID"),
            "name": _text,
            "created": _moment,
            "last_modified": _moment,
            "location": _text,
            "metadata_status": _is(set(Status).__contains__, f"none of {', '.join(Status)}"),
            "external_links": _list(),
            **{f"{kind}?": _object({}) for kind in _MODELS},
        },
    ),
}
"""What the fields without a default of `Procedures`, `Rig`, `Session` and `Metadata` are in
aind-data-schema 0.34.4 (`core/procedures.py`, `core/rig.py`, `core/session.py`,
`core/metadata.py`), and those of the parts that people put there."""
