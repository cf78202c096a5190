"""The first of many values, and how many there are: the header of a manifest has to be short."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
MOST_BYTES = 256 * 1024
"""Bytes of JSON that one list in the header of a manifest may have; the other values are counted.
The header has six lists and is read whenever the state of an asset is checked."""


class Sample(Generic[T]):
    """Values of which all are counted and the first are listed, as many as there is room for.

    Parameters
    ----------
    values : Iterable
        The first values.
    """

    def __init__(self, values: Iterable[T] = ()):
        self.first: list[T] = []
        self.total = 0
        self._bytes = 0
        self.add(values)

    def add(self, values: "Iterable[T] | Sample[T]") -> None:
        """Add further values, or those of another sample."""
        listed = values.first if isinstance(values, Sample) else values
        count = 0
        for count, value in enumerate(listed, start=1):
            if not self.others:
                self._add(value)
            self.total += 1
        if isinstance(values, Sample):
            self.total += values.total - count

    def _add(self, value: T) -> None:
        """List a value, unless there is no room for it."""
        size = _size(value)
        if self._bytes + size <= MOST_BYTES:
            self.first.append(value)
            self._bytes += size

    def has_room_for(self, other: "Sample[T]") -> bool:
        """Return whether all values of another sample can be listed besides those of this one."""
        is_any_missing = self.others or other.others
        return not is_any_missing and self._bytes + other._bytes <= MOST_BYTES

    @property
    def others(self) -> int:
        """How many are not listed."""
        return self.total - len(self.first)

    def fields(self, name: str) -> dict[str, Any]:
        """Return the list, and the number of all, as fields of a JSON object."""
        return {name: self.first, f"{name}_total": self.total}


def fits(values: Iterable[Any]) -> bool:
    """Return whether a list of values has room in the header of a manifest."""
    size = 0
    return all((size := size + _size(value)) <= MOST_BYTES for value in values)


def _size(value: Any) -> int:
    """Return how many bytes a value takes in a list."""
    return len(msgspec.json.encode(value)) + 1
