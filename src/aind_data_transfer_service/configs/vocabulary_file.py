"""The platforms and modalities of all generations of the schema, as `vocabulary.json` has them.

`python -m tests.support.vocabulary write` makes the file from releases of the schema.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

PATH = Path(__file__).with_name("vocabulary.json")

Kind = Literal["platforms", "modalities"]


class Entry(NamedTuple):
    """One platform or modality."""

    abbreviation: str
    """As the first generation that has it writes it."""
    name: str
    synonyms: tuple[str, ...]
    """What other generations call it: abbreviations and names."""


def read_entries(kind: Kind) -> Iterator[Entry]:
    """Read the entries of one kind, those of the first generation first."""
    entries: list[dict[str, Any]] = json.loads(PATH.read_bytes())[kind]
    for entry in entries:
        yield Entry(entry["abbreviation"], entry["name"], tuple(entry.get("synonyms", ())))
