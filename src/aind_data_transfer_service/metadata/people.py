"""Persons, as sources name them."""

from collections.abc import Mapping
from typing import Any


def people_of(value: Any) -> list[dict[str, Any]]:
    """Read persons from a text with commas, or from a list of names or of objects with a name."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    people = [dict(one) if isinstance(one, Mapping) else {"name": one} for one in parts]
    named = [{**one, "name": str(one.get("name") or "").strip()} for one in people]
    return [one for one in named if one["name"]]
