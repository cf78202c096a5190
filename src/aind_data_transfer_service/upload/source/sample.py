"""The first of many values, and how many there are: the header of a manifest has to be short."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST = 1000
"""How many are listed; the others are counted."""


class Sample(Generic[T]):
    """Values of which the first are listed and all are counted.

    Parameters
    ----------
    values : Iterable
        The first values.
    """

    def __init__(self, values: Iterable[T] = ()):
        self.first: list[T] = []
        self.total = 0
        self.add(values)

    def add(self, values: "Iterable[T] | Sample[T]") -> None:
        """Add further values, or those of another sample."""
        known = values.first if isinstance(values, Sample) else list(values)
        self.first += known[: MOST - len(self.first)]
        self.total += values.total if isinstance(values, Sample) else len(known)

    @property
    def others(self) -> int:
        """How many are not listed."""
        return self.total - len(self.first)

    def fields(self, name: str) -> dict[str, Any]:
        """Return the list, and the number of all, as fields of a JSON object."""
        return {name: self.first, f"{name}_total": self.total}
