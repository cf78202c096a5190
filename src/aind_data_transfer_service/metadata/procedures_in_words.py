"""Procedures that a generation of the schema cannot hold, as described procedures with notes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aind_data_transfer_service.metadata.procedure_builders import UNKNOWN


class Lacking(Exception):
    """A procedure lacks values that the generation needs.

    Parameters
    ----------
    names : Sequence of str
        The fields.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__(", ".join(names))
        self.names = names


def in_words(part: Mapping[str, Any]) -> list[str]:
    """List all values that are stated of a surgery or procedure, but its type, a line each."""
    return [*_lines("", {key: one for key, one in part.items() if key != "procedure_type"})]


def _lines(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key.endswith("_unit") and not _measured(key, value):
                continue
            yield from _lines(f"{place} {key}".strip(), one)
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        for number, one in enumerate(value, start=1):
            yield from _lines(f"{place} {number}".strip() if len(value) > 1 else place, one)
    elif isinstance(value, list | tuple):
        if value:
            yield f"{place}: {', '.join(map(str, value))}"
    elif value not in (None, UNKNOWN):
        yield from (f"{place}: {line}" for line in str(value).splitlines())


def _measured(key: str, values: Mapping[str, Any]) -> bool:
    """Return whether there is a value in this unit."""
    begins = key.removesuffix("_unit")
    others = (one for name, one in values.items() if name.startswith(begins) and name != key)
    return any(one not in (None, []) for one in others)
