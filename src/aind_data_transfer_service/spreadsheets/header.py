"""The header of a spreadsheet of jobs: which column fills which field, and what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aind_data_transfer_service.configs import error_messages
from aind_data_transfer_service.configs.deprecated_fields import REPLACED
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.spreadsheets import schema
from aind_data_transfer_service.spreadsheets.cell_values import as_text
from aind_data_transfer_service.spreadsheets.rows import Row, column_letters
from aind_data_transfer_service.spreadsheets.schema import Kind, Target

_KINDS: dict[str, Kind] = {column.name: column.kind for column in schema.COLUMNS}


@dataclass(frozen=True, slots=True)
class Source:
    """Where in a row a value stands."""

    index: int
    column: str
    field: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Header:
    """What the header row says."""

    row: int
    job: tuple[Source, ...]
    """The columns of the job's own fields."""
    modalities: tuple[tuple[int, tuple[Source, ...]], ...]
    """The columns of each modality, by its number and in the order of numbers."""
    nameless: frozenset[int]
    """The places of columns without a name."""
    positions: Mapping[str, int]
    """Where each column stands, from 0."""
    width: int
    missing: frozenset[str]
    """The columns that are needed and not there."""
    required: tuple[str, ...]
    """The columns that every list of jobs has."""
    errors: tuple[str, ...]

    @property
    def has_required(self) -> bool:
        """Whether a column is there that every list of jobs has."""
        return not self.missing.issuperset(self.required)


def count_known(cells: Sequence[object]) -> int:
    """Count the names of known columns in a row: many of them make it a header."""
    return sum(
        schema.target(schema.normalised(cell)) is not None
        for cell in cells
        if isinstance(cell, str)
    )


def read_header(row: Row, processor_optional: bool = False) -> Header:
    """Read the header row.

    Parameters
    ----------
    row : Row
        The first row that is not blank.
    processor_optional : bool
        Whether the column `processor_full_name` may be absent or empty.

    Returns
    -------
    Header
        Which column fills which field; its `errors` name unknown, duplicate and missing columns.
    """
    sources: dict[Target, Source] = {}
    errors: list[str] = []
    nameless: set[int] = set()
    shown = [as_text(cell) if isinstance(cell, float) else str(cell) for cell in row.cells]
    for index, text in enumerate(shown):
        name = schema.normalised(text)
        if not name:
            nameless.add(index)
            continue
        target = schema.target(name)
        if target is None:
            errors.append(_unknown(row.number, index, text))
        elif target in sources:
            errors.append(
                f"row {row.number}: the column {quoted(target.column)} is there twice, as "
                f"{column_letters(sources[target].index)} and {column_letters(index)}; "
                "remove one of them"
            )
        else:
            kind = _KINDS.get(_general(target).column, "text")
            sources[target] = Source(index, target.column, target.field, kind)
    left_out = {schema.PROCESSOR} if processor_optional else set()
    required = tuple(name for name in schema.REQUIRED_COLUMNS if name not in left_out)
    missing = _missing(sources, required)
    errors.extend(
        f"row {row.number}: there is no column {quoted(name)}; {why}"
        for name, why in missing.items()
    )
    return Header(
        row=row.number,
        job=tuple(source for target, source in sources.items() if target.modality is None),
        modalities=_by_number(sources),
        nameless=frozenset(nameless),
        positions={source.column: source.index for source in sources.values()},
        width=len(shown),
        missing=frozenset(missing),
        required=required,
        errors=tuple(errors),
    )


def _general(target: Target) -> Target:
    """Find the described column that stands for a column of any modality."""
    return target if target.modality is None else Target(target.field, 0)


def _unknown(row: int, index: int, text: str) -> str:
    """Say that a column is not known."""
    if replaced := REPLACED.get(schema.normalised(text)):
        return f"row {row}, column {column_letters(index)}: {quoted(text.strip())} {replaced}"
    words = error_messages.unknown("column", text.strip(), schema.known_names(text))
    end = "" if words.endswith("?") else "; the help page lists the known ones"
    return f"row {row}, column {column_letters(index)}: {words}{end}"


def _missing(sources: dict[Target, Source], required: Sequence[str]) -> dict[str, str]:
    """Find the columns that are needed and not there, with the reason why they are."""
    there = {source.column for source in sources.values()}
    missing = {name: "every spreadsheet of jobs needs it" for name in required if name not in there}
    for number in sorted({t.modality for t in sources if t.modality is not None}):
        needs = f"the other columns of modality{number} need it"
        for column in (f"modality{number}", f"modality{number}.source"):
            if column not in there:
                missing.setdefault(column, needs)
        if number and f"modality{number - 1}" not in there:
            missing.setdefault(
                f"modality{number - 1}", f"modality{number} is there, and numbers leave no gap"
            )
    return missing


def _by_number(
    sources: dict[Target, Source],
) -> tuple[tuple[int, tuple[Source, ...]], ...]:
    """Put the columns of each modality together."""
    groups: dict[int, list[Source]] = {}
    for target, source in sources.items():
        if target.modality is not None:
            groups.setdefault(target.modality, []).append(source)
    return tuple((number, tuple(groups[number])) for number in sorted(groups))
