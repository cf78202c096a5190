"""The list in which the neurosurgery group (NSB) kept its surgeries from 2019 to 2022.

An item is a request: a headframe and craniotomy, and injections or fibres at two places, each in
the first or the second round of injections, with dates, weights and anaesthesia of its own. Column
names are SharePoint's internal ones, spelling mistakes included.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from aind_data_transfer_service.metadata import cells, surgery
from aind_data_transfer_service.metadata.cells import Item
from aind_data_transfer_service.metadata.surgery import Sitting, Spot

SUBJECT_COLUMN = "LabTracks_x0020_ID"
"""Holds the subject's id, and is what is filtered on."""
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
_ROUNDS = {
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
_HEADPOST_ROUND = (
    "Date_x0020_of_x0020_Surgery",
    ("Test1LookupId", "Test1Id"),
    ("Weight_x0020_before_x0020_Surger", "Weight_x0020_after_x0020_Surgery"),
    ("Iso_x0020_On", "HPIsoLevel"),
    ("HpWorkStation", "HPRecovery"),
)


def surgeries(fields: Mapping[str, Any], zone: tzinfo) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the surgeries of one item, and what could not be read.

    Parameters
    ----------
    fields : Mapping
        The item's cells by internal column name.
    zone : tzinfo
        Where the surgeries are done: dates are kept as midnights of that place.
    """
    item = Item(fields)
    item.text(SUBJECT_COLUMN)  # known: it is what was asked for
    if off := called_off(item, fields):
        return [], off
    sittings = {"headpost": sitting(item, zone, _HEADPOST_ROUND)}
    sittings |= {name: sitting(item, zone, columns) for name, columns in _ROUNDS.items()}
    with_headpost = item.yes("HP_x0020__x0026__x0020_Inj")
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in sittings}
    done["headpost"] += _headframe(item) + _craniotomy(item, sittings["headpost"])
    probes: dict[str, list[dict[str, Any]]] = {}
    for number in _COORDINATES:
        name = "2nd" if item.text(f"Inj{number}Round") == "2nd" else "1st"
        together = done["headpost"] and (
            sittings[name].start in (None, sittings["headpost"].start)
            or (with_headpost and name == "1st")
        )
        name = "headpost" if together else name
        spot = _spot(item, number)
        done[name] += _injection(item, number, spot, sittings[name])
        probes.setdefault(name, []).extend(_fibre(item, number, spot))
    for name, found in probes.items():
        done[name] += surgery.implants(found)
    return compose(item, [(sittings[name], parts) for name, parts in done.items()])


def sitting(item: Item, zone: tzinfo, columns: tuple) -> Sitting:
    """Read when, by whom and how a surgery was done."""
    date, surgeons, weights, anaesthesia, place = columns
    surgeon = item.text(*surgeons)
    return Sitting(
        start=item.day(zone, date),
        experimenter=f"NSB-{surgeon}" if surgeon else None,
        weight_before=item.number(cells.GRAMS, weights[0]),
        weight_after=item.number(cells.GRAMS, weights[1]),
        anaesthesia_minutes=item.number(cells.HOURS_AS_MINUTES, anaesthesia[0]),
        anaesthesia_level=item.number(cells.PERCENT, anaesthesia[1]),
        workstation=item.text(place[0]),
        recovery_minutes=item.number(cells.MINUTES, place[1]),
    )


def called_off(item: Item, fields: Mapping[str, Any]) -> list[str]:
    """Say that a surgery was cancelled, where it was: it is none then."""
    status = str(fields.get("SurgeryStatus") or "")
    if "cancel" not in status.lower():
        return []
    return [f'item {item.text("id", "Id", "ID")}: left out, for its status is "{status}"']


def compose(
    item: Item, parts: list[tuple[Sitting, list[dict[str, Any]]]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Make surgeries of what was done in each sitting; the first keeps the item's other cells."""
    iacuc = item.text("IACUC_x0020_Protocol_x0020__x002")
    number = item.text("id", "Id", "ID")
    begins = [f"item: {number}"] if number else []
    done = [(sitting, procedures) for sitting, procedures in parts if procedures]
    if not done:
        item.problems.append("no procedure is described")
        done = [(parts[0][0], [])]
    rest = [*(f"not used: {line}" for line in item.problems), *item.rest()]
    made = [
        surgery.surgery(sitting, iacuc, procedures, begins + (rest if place == 0 else []))
        for place, (sitting, procedures) in enumerate(done)
    ]
    about = f"item {number}: " if number else ""
    return made, [f"{about}{problem}" for problem in item.problems]


def dura_removed(item: Item, *columns: str) -> bool | None:
    """Read whether the dura was taken off: wholly, or not at all."""
    words = (item.text(*columns) or "").lower()
    return {"yes": True, "complete": True, "no": False}.get(words)


def _headframe(item: Item) -> list[dict[str, Any]]:
    kind = item.text("HeadpostType")
    if kind is None:
        return []
    return [surgery.headframe(*_HEADPOSTS.get(kind, (kind, None, None, None)))]


def _craniotomy(item: Item, sitting: Sitting) -> list[dict[str, Any]]:
    kind = item.text("CraniotomyType")
    if kind is None:
        return []
    if kind not in _CRANIOTOMIES:
        item.problem(("CraniotomyType",), kind, 'is written as "Other"')
    return [
        surgery.craniotomy(
            _CRANIOTOMIES.get(kind, "Other"),
            side(item, "HpLoc"),
            item.number(cells.MILLIMETRES, "Breg2Lamb"),
            item.text("ImplantIDCoverslipType"),
            dura_removed(item, "HPDurotomy", "ComDurotomy"),
            sitting.recovery_minutes,
        )
    ]


def side(item: Item, column: str) -> str | None:
    """Read a hemisphere."""
    words = item.text(column)
    return words if words in ("Left", "Right") else None


def _spot(item: Item, number: int) -> Spot:
    """Read where to; columns of a place at which nothing is done stay among the notes."""
    if item.text(f"Inj{number}Type") is None and not item.yes(f"FiberImplant{number}"):
        return Spot()
    ml, ap, dv, hemisphere = _COORDINATES[number]
    return Spot(
        ml=item.number(cells.MILLIMETRES, ml),
        ap=item.number(cells.MILLIMETRES, ap),
        depths=tuple(item.numbers(cells.MILLIMETRES, dv)),
        angle=item.number(cells.DEGREES, f"Inj{number}Angle_v2", f"Inj{number}angle0"),
        hemisphere=side(item, hemisphere),
    )


def _injection(item: Item, number: int, spot: Spot, sitting: Sitting) -> list[dict[str, Any]]:
    kind = item.text(f"Inj{number}Type")
    if kind is None:
        return []
    strain = item.text(f"Inj{number}VirusStrain_rt")
    materials = [surgery.virus(strain)] if strain else []
    if "nanoject" in kind.lower():
        instrument = item.text("NanojectNumberInj10" if number == 1 else "NanojectNumberInj2")
        return [
            surgery.nanoject(spot, materials, sitting, instrument, _volumes(item, number, spot))
        ]
    if "iontophoresis" in kind.lower():
        return [
            surgery.iontophoresis(
                spot,
                materials,
                sitting,
                item.text(f"IontoNumberInj{number}", "IontoNumberHPINJ"),
                item.number(cells.MICROAMPERES, f"Inj{number}Current"),
                item.text(f"Inj{number}AlternatingTime"),
                item.number(cells.MINUTES, f"Inj{number}LenghtofTime"),
            )
        ]
    return [surgery.other(f"Injection, {kind}", strain)]


def _volumes(item: Item, number: int, spot: Spot) -> list[float]:
    """Read how much went into each depth: told for each, or in all for a single one."""
    each = item.number(cells.NANOLITRES, f"inj{number}volperdepth")
    if each is not None:
        return [each] * max(1, len(spot.depths))
    whole = item.number(cells.NANOLITRES, f"Inj{number}Vol")
    return [] if whole is None else [whole]


def _fibre(item: Item, number: int, spot: Spot) -> list[dict[str, Any]]:
    if not item.yes(f"FiberImplant{number}"):
        return []
    depth = item.number(cells.MILLIMETRES, f"FiberImplant{number}DV")
    there = replace(spot, depths=() if depth is None else (depth,))
    return [surgery.fibre(number, there, None, None)]
