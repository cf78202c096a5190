"""The list in which the neurosurgery group (NSB) kept its surgeries from 2019 to 2022.

An item is a request: a headframe and craniotomy, and injections or fibres at two places.
`Procedure` states which of them were done; the form keeps what else was filled in, which is noted
and nothing more. The headpost and each round of injections are surgeries of their own, with their
own date, weights, anaesthesia and surgeon. Column names are SharePoint's internal ones, spelling
mistakes included.
"""

import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.procedure_builders import Sitting, Spot
from aind_data_transfer_service.metadata.sources.sharepoint import field_values
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import Item

SUBJECT_COLUMN = "LabTracks_x0020_ID"
"""Holds the subject's id, and is what is filtered on."""
_DONE = frozenset(
    {
        "injection pending",
        "new",
        "phase 2 pending",
        "planned acute",
        "ready for feedback",
        "unplanned acute",
    }
)
"""The values of `SurgeryStatus` other than "No Surgery"."""
_HEADFRAME, _CRANIOTOMY, _INJECTION, _FIBRE = "headframe", "craniotomy", "injection", "fibre"
_PARTS = {
    "hp+c cam": {_HEADFRAME, _CRANIOTOMY},
    "hp+c multiscope": {_HEADFRAME, _CRANIOTOMY},
    "hp+c neuropixel style": {_HEADFRAME, _CRANIOTOMY},
    "inj+hp+c": {_HEADFRAME, _CRANIOTOMY, _INJECTION},
    "whc np": {_CRANIOTOMY},
    "inj+whc np": {_CRANIOTOMY, _INJECTION},
    "hp+inj": {_HEADFRAME, _INJECTION},
    "hp only": {_HEADFRAME},
    "hp transcranial (for isi)": {_HEADFRAME},
    "hp+injection+optic fiber implant": {_HEADFRAME, _INJECTION, _FIBRE},
    "stereotaxic injection": {_INJECTION},
}
"""What was done, by `Procedure`. Other values, such as "Custom", do not state it."""
_HEADPOSTS = {
    "CAM-style headframe (0160-100-10 Rev A)": (
        "CAM-style",
        "0160-100-10 Rev A",
        "CAM-style",
        None,
    ),
    "Neuropixel-style headframe (0160-100-10/0160-200-36)": (
        "Neuropixel-style",
        "0160-100-10",
        "Neuropixel-style",
        "0160-200-36",
    ),
    "Mesoscope-style well with NGC-style headframe (0160-200-20/0160-100-10)": (
        "NGC-style",
        "0160-100-10",
        "Mesoscope-style",
        "0160-200-20",
    ),
    "WHC #42 with Neuropixel well and well cap": (
        "WHC #42",
        "42",
        "Neuropixel-style",
        "0160-200-36",
    ),
    "NGC-style headframe, no well (0160-100-10)": ("NGC-style", "0160-100-10", None, None),
    "AI Straight Headbar": ("AI Straight Headbar", None, None, None),
}
"""Headframe, its part number, well and its part number, by what the form offers."""
_CRANIOTOMIES = {
    "Visual Cortex 5mm": "Visual Cortex",
    "Frontal Window 3mm": "3 mm",
    "WHC NP": "Whole hemisphere craniotomy",
    "WHC 2P": "Whole hemisphere craniotomy",
}
_COORDINATES = {
    1: (
        "Virus_x0020_M_x002f_L",
        "Virus_x0020_A_x002f_P",
        "Virus_x0020_D_x002f_V",
        "Virus_x0020_Hemisphere",
    ),
    2: ("ML2ndInj", "AP2ndInj", "DV2ndInj", "Hemisphere2ndInj"),
}
_HEADPOST, _ROUNDS = "headpost", {"1st": "1st", "2nd": "2nd"}
_SITTINGS = {
    _HEADPOST: (
        "Date_x0020_of_x0020_Surgery",
        ("Test1LookupId", "Test1Id"),
        ("Weight_x0020_before_x0020_Surger", "Weight_x0020_after_x0020_Surgery"),
        ("Iso_x0020_On", "HPIsoLevel"),
        ("HpWorkStation", "HPRecovery"),
    ),
    "1st": (
        "Date1stInjection",
        ("TEST_x0020_1st_x0020_Round_x0020LookupId", "TEST_x0020_1st_x0020_Round_x0020Id"),
        ("FirstInjectionWeightBefor", "FirstInjectionWeightAfter"),
        ("FirstInjectionIsoDuration", "Round1InjIsolevel"),
        ("WorkStation1stInjection", "FirstInjRecovery"),
    ),
    "2nd": (
        "Date2ndInjection",
        ("TEST_x0020_2nd_x0020_Round_x0020LookupId", "TEST_x0020_2nd_x0020_Round_x0020Id"),
        ("SecondInjectionWeightBefore", "SecondInjectionWeightAfter"),
        ("SecondInjectionIsoDuration", "Round2InjIsolevel"),
        ("WorkStation2ndInjection", "SecondInjRecover"),
    ),
}
UNSTATED = ""
"""Names the surgery of what is done in no stated round: nothing else is known of it."""
GROUP = "NSB"
"""Who operates, if no surgeon is named."""
_DURA = {"yes": True, "complete": True, "no": False}
_SIDES = {"left": "Left", "right": "Right"}
_IACUC = re.compile(r"(\d{4})(?:\s*-.*)?")
_OTHER_POINT = re.compile("lambda|sinus|calamus|obex|interaural", re.IGNORECASE)
"""Names a point other than bregma from which coordinates are measured."""
_DOI = re.compile(r"10\.17504/protocols\.io\.\w+", re.IGNORECASE)
"""A protocol on protocols.io."""


_Columns = tuple[Any, ...]
"""Arguments of the readers of `Item`."""


class Sittings(dict[str, Sitting]):
    """The surgeries of an item, each read once something that was done in it is asked for.

    Parameters
    ----------
    item : Item
        The item.
    zone : tzinfo
        Where the surgeries are done.
    columns : Mapping
        By the name of each surgery, the columns of its date, surgeon, weights, anaesthesia and
        place. The surgery `UNSTATED` has none.
    group : str
        Who operates, if no surgeon is named.
    """

    def __init__(
        self, item: Item, zone: tzinfo, columns: Mapping[str, tuple[Any, ...]], group: str = GROUP
    ):
        super().__init__()
        self._item, self._zone, self._columns, self._group = item, zone, columns, group

    def __missing__(self, name: str) -> Sitting:
        self[name] = self._read(*self._columns[name]) if name else Sitting(None, self._group)
        return self[name]

    def _read(
        self, date: str, surgeons: _Columns, weights: _Columns, gas: _Columns, place: _Columns
    ) -> Sitting:
        """Read when, by whom and how a surgery was done."""
        item = self._item
        surgeon = item.text(*surgeons)
        return Sitting(
            start=item.day(self._zone, date),
            experimenter=f"{self._group}-{surgeon}" if surgeon else self._group,
            weight_before=item.number(field_values.WEIGHT, *weights[:1]),
            weight_after=item.number(field_values.WEIGHT, *weights[1:]),
            anaesthesia_minutes=item.number(field_values.ANAESTHESIA, *gas[:1]),
            anaesthesia_level=item.number(field_values.LEVEL, *gas[1:]),
            workstation=item.text(*place[:1]),
            recovery_minutes=item.number(field_values.RECOVERY, *place[1:]),
        )


def surgeries(fields: Mapping[str, Any], zone: tzinfo) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the surgeries of one item, and what could not be read.

    Parameters
    ----------
    fields : Mapping
        The item's cells by internal column name.
    zone : tzinfo
        Where the surgeries are done: dates are kept as midnights of that place.

    Returns
    -------
    tuple
        The surgeries, whose notes hold all cells that have no field; there are none if the item
        states none. And the problems, one line each.
    """
    item = Item(fields)
    item.text(SUBJECT_COLUMN)  # known: it is what was asked for
    if left_out := not_done(item):
        return [], left_out
    stated = _PARTS.get(_normalized(item.peek("Procedure")), set())
    sittings = Sittings(item, zone, _SITTINGS)
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_SITTINGS, UNSTATED)}
    if _HEADFRAME in stated:
        done[_HEADPOST].append(_headframe(item))
    if _CRANIOTOMY in stated:
        done[_HEADPOST].append(_craniotomy(item, sittings[_HEADPOST]))
    if _INJECTION in stated:
        for number in _injections(item):
            name = item.choice(_ROUNDS, f"Inj{number}Round") or UNSTATED
            done[name].append(_injection(item, number, sittings[name]))
    if _FIBRE in stated:
        fibres = [_fibre(item, n) for n in _COORDINATES if item.yes(f"FiberImplant{n}")]
        done[_HEADPOST] += procedure_builders.implants(fibres)
    return compose(item, sittings, done)


def not_done(item: Item) -> list[str]:
    """Return why an item states no surgery, by its `SurgeryStatus`; an empty list if it does."""
    status = item.peek("SurgeryStatus")
    if _normalized(status) in _DONE:
        return []
    why = f'SurgeryStatus is "{status}"' if status else "it has no SurgeryStatus"
    return [f"{item_name(item)}left out: {why}"]


def compose(
    item: Item,
    sittings: Sittings,
    done: Mapping[str, list[dict[str, Any]]],
    stated_by: str = "Procedure",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Make surgeries of what was done in each sitting; the first keeps the item's other cells.

    Parameters
    ----------
    item : Item
        The item.
    sittings : Sittings
        Its surgeries.
    done : Mapping
        The procedures of each, by its name.
    stated_by : str
        The column that states what was done.
    """
    names = [name for name, procedures in done.items() if procedures]
    about = item_name(item)
    if not names:
        item.problem((stated_by,), item.peek(stated_by) or "", "states no known procedure")
        return [], [f"{about}{problem}" for problem in item.problems]
    iacuc = _iacuc(item)
    protocol = _protocol(item)
    held = [(sittings[name], done[name]) for name in names]
    begins = [about.removesuffix(": ").replace("item ", "item: ")] if about else []
    rest = [*(f"not used: {line}" for line in item.problems), *item.rest()]
    made = [
        procedure_builders.surgery(
            sitting, iacuc, parts, begins + (rest if not place else []), protocol
        )
        for place, (sitting, parts) in enumerate(held)
    ]
    return made, [f"{about}{problem}" for problem in item.problems]


def dura_removed(item: Item, *columns: str) -> bool | None:
    """Read whether the dura was removed: completely, or not at all."""
    removed: bool | None = item.choice(_DURA, *columns)
    return removed


def side(item: Item, column: str) -> str | None:
    """Read a hemisphere."""
    found: str | None = item.choice(_SIDES, column)
    return found


def coordinates(
    item: Item, ml_column: str, ap_column: str
) -> tuple[str | None, float | None, float | None]:
    """Read coordinates, and from where they are measured.

    That is bregma if one of them is a number, unless one of them names another point.

    Returns
    -------
    tuple
        The reference, and the coordinates M/L and A/P.
    """
    words = f"{item.peek(ml_column)} {item.peek(ap_column)}"
    ml, ap = item.number(field_values.COORDINATE, ml_column), item.number(
        field_values.COORDINATE, ap_column
    )
    is_measured = ml is not None or ap is not None
    return "Bregma" if is_measured and not _OTHER_POINT.search(words) else None, ml, ap


def bregma_to_lambda(item: Item) -> float | None:
    """Read the distance between bregma and lambda, which some write with a sign."""
    distance = item.number(field_values.DISTANCE, "Breg2Lamb")
    return None if distance is None else abs(distance)


def item_name(item: Item) -> str:
    """Return what begins a line about an item."""
    number = item.peek("id", "ID")
    return f"item {number}: " if number else ""


def _normalized(words: str | None) -> str:
    """Return words in small letters, without blanks around a plus."""
    return re.sub(r"\s*\+\s*", "+", " ".join((words or "").lower().split()))


def _iacuc(item: Item) -> str | None:
    """Read the number of the animal protocol, `2414` of `2414 - Electrophysiology …`."""
    for column in ("IACUC_x0020_Protocol_x0020__x002", "Protocol"):
        words = item.peek(column)
        if words:
            number = _IACUC.fullmatch(words)
            if number is None or number.group(1) == words:
                item.text(column)
            return number.group(1) if number else words
    return None


def _protocol(item: Item) -> str | None:
    """Return the protocol on protocols.io that the item names, if it is one."""
    found = {doi.lower() for line in item.rest() for doi in _DOI.findall(line)}
    return f"https://dx.doi.org/{found.pop()}" if len(found) == 1 else None


def _headframe(item: Item) -> dict[str, Any]:
    kind = item.text("HeadpostType")
    return procedure_builders.headframe(*_HEADPOSTS.get(kind or "", (kind, None, None, None)))


def _craniotomy(item: Item, sitting: Sitting) -> dict[str, Any]:
    kind = item.text("CraniotomyType")
    if kind and kind not in _CRANIOTOMIES:
        item.problem(("CraniotomyType",), kind, 'is written as "Other"')
    if kind is None and "whc" in _normalized(item.peek("Procedure")):
        kind = "WHC NP"
    return procedure_builders.craniotomy(
        _CRANIOTOMIES.get(kind, "Other") if kind else None,
        side(item, "HpLoc"),
        bregma_to_lambda(item),
        item.text("ImplantIDCoverslipType"),
        dura_removed(item, "HPDurotomy", "ComDurotomy"),
        sitting.recovery_minutes,
    )


def _injections(item: Item) -> list[int]:
    """Return the numbers of the injections: a second one is stated by its round."""
    rounds = {
        number: (item.peek(f"Inj{number}Round") or "").lower() in _ROUNDS for number in (1, 2)
    }
    first = item.peek("Inj1Type") or rounds[1] or not rounds[2]
    return [number for number, stated in ((1, first), (2, rounds[2])) if stated]


def _spot(item: Item, number: int, injected: bool) -> Spot:
    """Read where to; the depth is that of an injection, for fibres have a column of their own."""
    ml, ap, dv, hemisphere = _COORDINATES[number]
    depth = [] if injected else [item.number(field_values.COORDINATE, f"FiberImplant{number}DV")]
    depths = item.numbers(field_values.COORDINATE, dv) if injected else depth
    point, ml_value, ap_value = coordinates(item, ml, ap)
    return Spot(
        reference=point,
        ml=ml_value,
        ap=ap_value,
        depths=tuple(one for one in depths if one is not None),
        angle=item.number(field_values.ANGLE, f"Inj{number}Angle_v2", f"Inj{number}angle0"),
        hemisphere=side(item, hemisphere),
        bregma_to_lambda=bregma_to_lambda(item),
    )


def _injection(item: Item, number: int, sitting: Sitting) -> dict[str, Any]:
    column = f"Inj{number}Type"
    kind = (item.peek(column) or "").lower()
    if "nanoject" not in kind and "iontophoresis" not in kind:
        return procedure_builders.other(
            f"Injection, {item.text(column) or 'of no kind given'}", None
        )
    item.text(column)
    spot = _spot(item, number, True)
    strain = item.text(f"Inj{number}VirusStrain_rt")
    materials = [procedure_builders.virus(strain)] if strain else []
    minutes = item.number(field_values.DURATION, f"Inj{number}LenghtofTime")
    if "nanoject" in kind:
        instrument = item.text("NanojectNumberInj10" if number == 1 else "NanojectNumberInj2")
        volumes = _volumes(item, number, spot)
        return procedure_builders.nanoject(spot, materials, sitting, instrument, volumes, minutes)
    return procedure_builders.iontophoresis(
        spot,
        materials,
        sitting,
        item.text(f"IontoNumberInj{number}", "IontoNumberHPINJ"),
        item.number(field_values.CURRENT, f"Inj{number}Current"),
        item.text(f"Inj{number}AlternatingTime"),
        minutes,
    )


def _volumes(item: Item, number: int, spot: Spot) -> list[float]:
    """Read how much went into each depth: told for each, or in all for a single one."""
    each = item.number(field_values.VOLUME, f"inj{number}volperdepth")
    if each is not None:
        return [each] * max(1, len(spot.depths))
    whole = item.number(field_values.VOLUME, f"Inj{number}Vol")
    return [] if whole is None else [whole]


def _fibre(item: Item, number: int) -> dict[str, Any]:
    item.text(f"FiberImplant{number}")
    return procedure_builders.fibre(_spot(item, number, False), None, None)
