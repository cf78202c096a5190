"""The formats of text in the JSON Schemas, checked as the models of aind-data-schema read them."""

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError


def _checks(meant: Any) -> Callable[[str], bool]:
    """Return whether pydantic, which those models use, reads a text as a type."""
    adapter = TypeAdapter(meant)

    def check(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return check


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _checks(date),
    "time": _checks(time),
    "date-time": _checks(datetime),
    "number": _checks(Decimal),
    "number of at least 0": _checks(Annotated[Decimal, Field(ge=0)]),
    "number from 0 to 100": _checks(Annotated[Decimal, Field(ge=0, le=100)]),
    "number from 1 to 5": _checks(Annotated[Decimal, Field(ge=1, le=5)]),
}
"""Whether a text is of a format, by the name of the format.

Times need no offset: the models take those without one as local times.
"""
