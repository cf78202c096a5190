"""The first of many texts, and how many there are: for the header of a manifest, which is short."""

from collections.abc import Iterable
from typing import Any

MOST = 1000
"""How many are listed; the others are counted."""


class Sample:
    """Texts of which the first are listed and all are counted.

    Parameters
    ----------
    texts : Iterable[str]
        The first texts.
    """

    def __init__(self, texts: Iterable[str] = ()):
        self.first: list[str] = []
        self.total = 0
        self.add(texts)

    def add(self, texts: "Iterable[str] | Sample") -> None:
        """Add further texts, or those of another sample."""
        known = texts.first if isinstance(texts, Sample) else list(texts)
        self.first += known[: MOST - len(self.first)]
        self.total += texts.total if isinstance(texts, Sample) else len(known)

    @property
    def others(self) -> int:
        """How many are not listed."""
        return self.total - len(self.first)

    def fields(self, name: str) -> dict[str, Any]:
        """Return the list, and the number of all, as fields of a JSON object."""
        return {name: self.first, f"{name}_total": self.total}
