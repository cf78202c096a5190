"""Whether a document is valid, by the JSON Schema of the generation that is chosen.

A document of another generation, by its `schema_version`, is not valid (`check_version`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.metadata.schema_formats import FORMATS
from aind_data_transfer_service.metadata.schemas import KINDS, read_schema, version_of
from aind_data_transfer_service.settings.schema_generation import Generation

MOST_PROBLEMS = 5
"""How many problems of one document are listed."""
_LONGEST = 200
_LONGEST_LIST = 1000
"""How many entries of a list are looked into for several problems."""
_TYPES = ("object_type", "procedure_type", "device_type", "material_type")
"""The fields in which parts of documents name their type."""
_LONGEST_PART = 60
_HALF = re.compile("[\ud800-\udfff]")


class Status(StrEnum):
    """What is known of a document."""

    VALID = "Valid"
    INVALID = "Invalid"
    MISSING = "Missing"
    UNKNOWN = "Unknown"
    """It is there, and there is no schema for it."""


def status_of(
    kind: str, content: Mapping[str, Any], generation: Generation = Generation.V0
) -> Status:
    """Return whether a document is valid for a generation of the schema."""
    validator, content, problems = _judge(kind, content, generation)
    if problems is None:
        return Status.UNKNOWN
    if validator is None:
        return Status.INVALID
    try:
        return Status.VALID if validator.is_valid(_clean(content)) else Status.INVALID
    except (ValueError, RecursionError):  # nested too deeply
        return Status.INVALID


def problems_of(
    kind: str, content: Mapping[str, Any], generation: Generation = Generation.V0
) -> list[str] | None:
    """List the first problems of a document, each as `place: what is wrong`.

    If the place is within a part that names its type, such as a surgery, the part follows the
    place: `subject_procedures.0.start_date (Surgery): missing`.

    None if there is no schema for it: another kind of document, or another release of 0.34. Of many
    problems, the list ends with a line that says so.
    """
    validator, content, problems = _judge(kind, content, generation)
    if validator is None:
        return problems
    try:
        return _first(
            line for error in _errors(validator, _clean(content)) for line in _lines(error, content)
        )
    except (ValueError, RecursionError) as error:
        return _first([f"the document is nested too deeply: {error}"])


def _judge(
    kind: str, content: Mapping[str, Any], generation: Generation
) -> tuple[Any, Mapping[str, Any], list[str] | None]:
    """Return the validator and what it is given; or None, and the problems known without it."""
    if read_schema(generation, kind) is None:
        is_older = kind in KINDS[Generation.V0]
        without = [f"generation {generation} of the schema has no {kind}.json"]
        return None, content, without if is_older else None
    version = check_version(kind, content, generation)
    if version.match == Match.OTHER_GENERATION:
        return None, content, [version.message]
    if version.match == Match.OTHER_RELEASE:
        if not _judges_releases(generation):
            return None, content, None
        content = {**content, "schema_version": version_of(generation, kind)}
    return _validator(generation, kind), content, []


class Match(StrEnum):
    """How the `schema_version` of a document relates to the generation of the asset."""

    SAME = "same"
    """It is that of the release whose schemas are used, or the document states none."""
    OTHER_RELEASE = "other release"
    OTHER_GENERATION = "other generation"


@dataclass(frozen=True)
class VersionCheck:
    """What is to be said about the `schema_version` of a document."""

    match: Match
    message: str = ""
    """What was found, what becomes of the document, and what to do; empty if it is the same."""


def check_version(kind: str, content: Mapping[str, Any], generation: Generation) -> VersionCheck:
    """Compare the `schema_version` of a document with the generation of the asset.

    This is the one rule for all documents that are not composed here, wherever they come from: they
    are stored unchanged. One of another generation is invalid. One of another release of the same
    generation is judged by the schema that is used for it, in generations 1 and 2, and is unknown
    in 0.34, whose models accept their own release alone.

    Parameters
    ----------
    kind : str
        The kind of document.
    content : Mapping
        The document.
    generation : Generation
        The generation of the asset.
    """
    written = content.get("schema_version")
    if written is None or read_schema(generation, kind) is None:
        return VersionCheck(Match.SAME)
    release = version_of(generation, kind)
    if written == release:
        return VersionCheck(Match.SAME)
    found = generation_of(content)
    if found != generation:
        belongs = f"of generation {found} of the schema" if found else "of no known generation"
        return VersionCheck(
            Match.OTHER_GENERATION,
            f"schema_version: {quoted(written)} is {belongs}, and METADATA_SCHEMA is {generation}; "
            f"the document is stored unchanged: provide one of generation {generation} "
            f"({release}), or change METADATA_SCHEMA",
        )
    judged = f"checked by {release}" if _judges_releases(generation) else "not checked"
    return VersionCheck(
        Match.OTHER_RELEASE,
        f"schema_version: {quoted(written)} is another release of generation {generation} than "
        f"{release}; the document is stored unchanged, and {judged}",
    )


def _judges_releases(generation: Generation) -> bool:
    """Return whether the models of a generation accept documents of its other releases."""
    return generation != Generation.V0


def _errors(validator: Any, content: Any) -> Iterator[Any]:
    """Find errors; the validator collects all, so that long lists are looked into in part first."""
    short = _shortened(content)
    if not validator.is_valid(short):
        yield from validator.iter_errors(short)
        return
    from jsonschema_rs import ValidationError

    try:
        validator.validate(content)
    except ValidationError as error:  # the first alone, behind many entries without any
        yield error


def _shortened(value: Any) -> Any:
    """Cut long lists."""
    if isinstance(value, Mapping):
        return {key: _shortened(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(one) for one in value[:_LONGEST_LIST]]
    return value


def generation_of(content: Mapping[str, Any]) -> Generation | None:
    """Return the generation that a document's `schema_version` is of; None if it is of none."""
    major = str(content.get("schema_version")).partition(".")[0]
    return next((one for one in Generation if one.partition(".")[0] == major), None)


@cache
def _validator(generation: Generation, kind: str) -> Any:
    """Compile a schema; this takes up to some tens of milliseconds, so it is done when needed."""
    from jsonschema_rs import Draft202012Validator  # loads a large library

    schema = read_schema(generation, kind) or {}
    return Draft202012Validator(schema, formats=FORMATS, validate_formats=True)


def _clean(content: Mapping[str, Any]) -> Any:
    """Replace halves of characters, which the validator cannot read; no rule depends on them."""
    text = json.dumps(content, ensure_ascii=False)
    return json.loads(_HALF.sub("\ufffd", text)) if _HALF.search(text) else content


def _lines(error: Any, content: Mapping[str, Any]) -> Iterator[str]:
    """Describe an error of the validator: `place: what is wrong`, a line a field."""
    kind, place = error.kind, [*error.instance_path]
    if kind.name == "required":
        yield f"{_named([*place, kind.property], content)}: missing"
    elif kind.name == "additionalProperties":
        for name in kind.unexpected:
            yield f"{_named([*place, name], content)}: not a field of this document"
    elif kind.name == "anyOf":
        yield from _nearest(kind.context, content)
    else:
        yield f"{_named(place, content)}: {_found(error.instance, kind)}"


def _nearest(variants: Sequence[Sequence[Any]], content: Mapping[str, Any]) -> Iterator[str]:
    """Describe the errors of the variant that a value comes closest to."""
    deepest = [max(len(error.instance_path) for error in errors) for errors in variants]
    best = min(range(len(variants)), key=lambda place: (-deepest[place], len(variants[place])))
    for error in variants[best]:
        yield from _lines(error, content)


def _named(place: Sequence[str | int], content: Any) -> str:
    """Write a place, with the parts of the document that it is in."""
    parts = []
    for step in place[: -2 if place and place[-1] in _TYPES else -1]:
        try:
            content = content[step]
        except (LookupError, TypeError):
            break
        if isinstance(step, int) and isinstance(content, Mapping) and (part := _part(content)):
            parts.append(part)
    named = f" ({', '.join(reversed(parts))})" if parts else ""
    return (".".join(map(str, place)) or "the document") + named


def _part(content: Mapping[str, Any]) -> str:
    """Name a part of a list by its type, and by its name or day; empty if it states no type."""
    kind = next((content[key] for key in _TYPES if isinstance(content.get(key), str)), "")
    name, day = content.get("name"), content.get("start_date")
    if isinstance(name, str) and kind:
        kind = f"{kind} {name}"
    elif isinstance(day, str) and kind:
        kind = f"{kind} of {day}"
    return kind[:_LONGEST_PART]


def _found(value: Any, kind: Any) -> str:
    """Say what was found, and what it would have to be."""
    match kind.name:
        case "minItems":
            return f"has {len(value)} entries, at least {kind.limit} needed"
        case "type":
            expected = f"is not of type {' or '.join(kind.types)}"
        case "enum":
            expected = f"is not one of {', '.join(map(quoted, kind.options))}"
        case "const":
            expected = f"is not {quoted(kind.expected_value)}"
        case "format":
            expected = f"is not a {kind.format}"
        case "pattern":
            expected = f"does not match {kind.pattern}"
        case name:
            expected = f"does not comply with {name} {getattr(kind, 'limit', '')}".rstrip()
    return f"{quoted(value)} {expected}"


def _first(problems: Iterable[str]) -> list[str]:
    """Keep the first different problems, each on one short line."""
    found: dict[str, None] = {}
    for problem in problems:
        line = " ".join(problem.split())
        found[line if len(line) <= _LONGEST else f"{line[:_LONGEST - 1]}…"] = None
        if len(found) > MOST_PROBLEMS:
            return [*[*found][:MOST_PROBLEMS], "and more"]
    return [*found]
