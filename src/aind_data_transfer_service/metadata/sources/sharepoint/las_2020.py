"""The list of requests to Laboratory Animal Services (LAS), since 2020.

An item requests up to four procedures for several animals. A retro-orbital injection has five
places, each for one animal (`nROID1` to `nROID5`) with up to four substances; only the places of
the animal in question are read. Whatever else is requested is noted and nothing more.
"""

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.sources.sharepoint import field_values
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import Item, identifier
from aind_data_transfer_service.metadata.sources.sharepoint.nsb_2019 import (
    Sittings,
    compose,
    item_name,
)

_PLACES = range(1, 6)
SUBJECT_COLUMNS = tuple(f"nROID{place}" for place in _PLACES)
"""Hold the subjects' ids, and are what is filtered on."""
_DONE = "complete"
"""The value of `RequestStatus2` that states that a request was carried out."""
_REQUESTS = tuple(f"ReqPro{number}" for number in range(1, 5))
_INJECTION = "retro-orbital injection"
_EYES = {"behind left": "Left", "behind right": "Right"}
_SUBSTANCES = ("", "b", "c", "d")
"""How the columns of an injection's substances end."""
_GROUP = "LAS"


def surgeries(
    fields: Mapping[str, Any], zone: tzinfo, subject_id: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the retro-orbital injections of one animal out of one item.

    Parameters
    ----------
    fields : Mapping
        The item's cells by internal column name.
    zone : tzinfo
        Where the injections are done: dates are kept as midnights of that place.
    subject_id : str
        The animal.

    Returns
    -------
    tuple
        One surgery, whose notes hold all cells that have no field, or none if the item states no
        injection of this animal. And the problems, one line each.
    """
    item = Item(fields)
    status = item.peek("RequestStatus2")
    if (status or "").lower() != _DONE:
        why = f'RequestStatus2 is "{status}"' if status else "it has no RequestStatus2"
        return [], [f"{item_name(item)}left out: {why}"]
    done = []
    if any((item.peek(column) or "").lower() == _INJECTION for column in _REQUESTS):
        places = [
            place
            for place in _PLACES
            if identifier(item.peek(f"nROID{place}")) == identifier(subject_id)
        ]
        done = [_injection(item, place) for place in places]
    columns = {"request": ("nStart_x0020_Date", (), (), (), ())}
    return compose(item, Sittings(item, zone, columns, _GROUP), {"request": done}, "ReqPro1")


def _injection(item: Item, place: int) -> dict[str, Any]:
    """Read one place."""
    item.text(f"nROID{place}")
    materials = [_material(item, f"{place}{end}") for end in _SUBSTANCES]
    return procedure_builders.retro_orbital(
        [material for material in materials if material],
        item.number(field_values.EYE_VOLUME, f"roVol{place}"),
        item.choice(_EYES, f"roEye{place}"),
        item.text("roSOP"),
    )


def _material(item: Item, end: str) -> dict[str, Any] | None:
    """Read one substance of a place."""
    name, lot = item.text(f"roSub{end}"), item.text(f"roLot{end}")
    if name is None and lot is None:
        return None
    titer = item.number(field_values.TITER, f"roTite{end}")
    return procedure_builders.virus(name, lot, None if titer is None else round(titer))
