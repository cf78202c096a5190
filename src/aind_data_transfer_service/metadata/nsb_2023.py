"""The list in which the neurosurgery group (NSB) has kept its surgeries since 2023.

An item is a request of up to two sittings, the initial and a follow-up surgery, with a headpost, a
craniotomy and up to six burr holes, each for an injection, a fibre or both. Column names are
SharePoint's internal ones: cut after 32 characters, and numbered where the cut made two the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

from aind_data_transfer_service.metadata import cells, surgery
from aind_data_transfer_service.metadata.cells import Item
from aind_data_transfer_service.metadata.nsb_2019 import (
    called_off,
    compose,
    dura_removed,
    side,
    sitting,
)
from aind_data_transfer_service.metadata.surgery import Sitting, Spot

SUBJECT_COLUMN = "LabTracks_x0020_ID1"
"""Holds the subject's id, and is what is filtered on."""
_INITIAL = (
    "Date_x0020_of_x0020_Surgery",
    ("Test1LookupId", "Test1Id"),
    ("Weight_x0020_before_x0020_Surger", "Weight_x0020_after_x0020_Surgery"),
    ("Iso_x0020_On", "HPIsoLevel"),
    ("HpWorkStation", "HPRecovery"),
)
_FOLLOW_UP = (
    "Date1stInjection",
    ("TEST_x0020_1st_x0020_Round_x0020LookupId", "TEST_x0020_1st_x0020_Round_x0020Id"),
    ("FirstInjectionWeightBefor", "FirstInjectionWeightAfter"),
    ("FirstInjectionIsoDuration", "Round1InjIsolevel"),
    ("WorkStation1stInjection", "FirstInjRecovery"),
)
_HEADFRAME_PARTS = {
    "Visual Ctx": "0160-100-10",
    "WHC NP": "0160-100-42",
    "WHC 2P": "0160-100-45",
    "Frontal Ctx": "0160-100-46",
    "Motor Ctx": "0160-100-51",
}
_WELL_PARTS = {
    "Scientifica (CAM)": "Rev A",
    "Mesoscope": "0160-200-20",
    "Neuropixel": "0160-200-36",
    "WHC NP": "0160-055-08",
    "WHC 2P": "0160-200-62",
}
_CRANIOTOMIES = {"5mm": "5 mm", "3mm": "3 mm", "WHC": "Whole hemisphere craniotomy"}
_NAMES_A_CRANIOTOMY = re.compile(r"\b(ctx|whc|craniotomy|window)\b", re.IGNORECASE)
_CONCENTRATION = re.compile(r"(\d*\.?\d+)\s*((?:m|u|µ|n)g/(?:m|u|µ)l)", re.IGNORECASE)
_MATERIALS = (("x0", "x03"), ("x00", "x04"), ("x01", "x05"), ("x02", "x06"))
"""How the columns of a material end: of its lot, and of its titer."""


@dataclass(frozen=True)
class _Burr:
    """The columns of one burr hole."""

    number: int
    during: str
    ml: str
    ap: str
    depths: tuple[str, ...]
    angle: str
    hemisphere: str
    strain: str
    volume: tuple[str, ...]
    fibre_depth: str


def _burr(number: int, **columns: Any) -> _Burr:
    """Name the columns as far as they follow a rule."""
    spaced = f"Burr_x0020_{number}_x0020_"
    joined = spaced if number > 4 else f"Burr{number}_x0020_"
    rule = {
        "during": f"Burr{number}_x0020_Perform_x0020_During",
        "ml": f"{joined}M_x002f_L",
        "ap": f"{joined}A_x002f_P",
        "depths": (
            f"{joined}D_x002f_V",
            f"{spaced}D_x002f_V_x00",
            f"{spaced}D_x002f_V_x000",
            f"{spaced}D_x002f_V_x001",
        ),
        "angle": f"{spaced}Angle",
        "hemisphere": f"{spaced}Hemisphere",
        "strain": f"Inj{number}VirusStrain_rt",
        "volume": (f"inj{number}volperdepth", f"Inj{number}volperdepth"),
        "fibre_depth": f"Fiber_x0020_Implant{number}_x0020_D_x00",
    }
    return _Burr(number, **(rule | columns))


_BURRS = (
    _burr(
        1,
        ml="Virus_x0020_M_x002f_L",
        ap="Virus_x0020_A_x002f_P",
        depths=(
            "Virus_x0020_D_x002f_V",
            "Burr_x0020_1_x0020_DV_x0020_2",
            "Burr_x0020_1_x0020_D_x002f_V_x00",
        ),
        angle="Inj1Angle_v2",
        hemisphere="Virus_x0020_Hemisphere",
        fibre_depth="FiberImplant1DV",
    ),
    _burr(
        2,
        ml="ML2ndInj",
        ap="AP2ndInj",
        depths=(
            "DV2ndInj",
            "Burr_x0020_2_x0020_D_x002f_V_x00",
            "Burr_x0020_2_x0020_D_x002f_V_x000",
        ),
        angle="Inj2Angle_v2",
        hemisphere="Hemisphere2ndInj",
        fibre_depth="FiberImplant2DV",
    ),
    _burr(3, strain="InjVirusStrain_rt"),
    _burr(4),
    _burr(5),
    _burr(6),
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
    sittings = {
        False: sitting(item, zone, _INITIAL),
        True: sitting(item, zone, _FOLLOW_UP),
    }
    done: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    probes: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    done[_later(item, "Headpost_x0020_Perform_x0020_Dur")] += _headframe(item)
    later = _later(item, "Craniotomy_x0020_Perform_x0020_D")
    done[later] += _craniotomy(item, sittings[later])
    for burr in _BURRS:
        what = (item.text(f"Burr_x0020_hole_x0020_{burr.number}") or "").lower()
        if not what:
            continue
        later = _later(item, burr.during)
        spot = _spot(item, burr)
        if "injection" in what:
            done[later].append(_injection(item, burr, spot, sittings[later], later))
        if "fiber" in what:
            probes[later].append(_fibre(item, burr, spot))
        if "injection" not in what and "fiber" not in what:
            done[later].append(surgery.other(f"Burr hole {burr.number}: {what}", None))
    for later, found in probes.items():
        done[later] += surgery.implants(found)
    return compose(item, [(sittings[later], parts) for later, parts in done.items()])


def _later(item: Item, column: str) -> bool:
    """Tell whether something was done in the follow-up surgery."""
    return (item.text(column) or "").lower().startswith("follow")


def _headframe(item: Item) -> list[dict[str, Any]]:
    kind = item.text("Headpost")
    well = item.text("HeadpostType")
    if kind is None:
        return []
    well = None if well == "No Well" else well
    part = _HEADFRAME_PARTS.get(kind)
    return [surgery.headframe(kind, part, well, _WELL_PARTS.get(well or ""))]


def _craniotomy(item: Item, sitting: Sitting) -> list[dict[str, Any]]:
    """Read the craniotomy; the form keeps a type of craniotomy where none is asked for, too."""
    kind = item.text("CraniotomyType")
    if kind is None:
        return []
    procedure = item.text("Procedure") or ""
    asked = (
        item.text("Craniotomy_x0020_Perform_x0020_D") is not None
        or (item.text("Procedure_x0020_Family") or "") == "Cranial Window"
        or bool(_NAMES_A_CRANIOTOMY.search(procedure))
    )
    if not asked:
        words = f'is no craniotomy: the procedure is "{procedure}"'
        item.problem(("CraniotomyType",), kind, words)
        return []
    if kind not in _CRANIOTOMIES:
        item.problem(("CraniotomyType",), kind, 'is written as "Other"')
    return [
        surgery.craniotomy(
            _CRANIOTOMIES.get(kind, "Other"),
            None,
            item.number(cells.MILLIMETRES, "Breg2Lamb"),
            item.text("ImplantIDCoverslipType"),
            dura_removed(item, "ComDurotomy"),
            sitting.recovery_minutes,
        )
    ]


def _spot(item: Item, burr: _Burr) -> Spot:
    depths = [depth for column in burr.depths for depth in item.numbers(cells.MILLIMETRES, column)]
    return Spot(
        ml=item.number(cells.MILLIMETRES, burr.ml),
        ap=item.number(cells.MILLIMETRES, burr.ap),
        depths=tuple(depths),
        angle=item.number(cells.DEGREES, burr.angle),
        hemisphere=side(item, burr.hemisphere),
    )


def _injection(item: Item, burr: _Burr, spot: Spot, sitting: Sitting, later: bool) -> dict:
    kind = item.text(f"Inj{burr.number}Type") or ""
    materials = _materials(item, burr)
    device = f"Burr{burr.number}_x0020_Injection_x0020_Devi"
    if "iontophoresis" in kind.lower():
        return surgery.iontophoresis(
            spot,
            materials,
            sitting,
            item.text(device, "IontoNumberInj2" if later else "IontoNumberInj1"),
            item.number(cells.MICROAMPERES, f"Inj{burr.number}Current"),
            item.text(f"Inj{burr.number}AlternatingTime"),
            item.number(cells.MINUTES, f"Inj{burr.number}IontoTime"),
        )
    if "nanoject" in kind.lower():
        each = item.number(cells.NANOLITRES, *burr.volume)
        volumes = [] if each is None else [each] * max(1, len(spot.depths))
        instrument = item.text(device, "NanojectNumberInj2" if later else "NanojectNumberInj10")
        return surgery.nanoject(spot, materials, sitting, instrument, volumes)
    names = "; ".join(material["name"] for material in materials)
    return surgery.other(f"Injection, {kind or 'of no kind given'}", names or None)


def _materials(item: Item, burr: _Burr) -> list[dict[str, Any]]:
    """Read what was injected: up to four lots, each with its titer or concentration."""
    strain = item.text(burr.strain)
    begins = f"Burr_x0020_{burr.number}_x0020_Injectable_"
    told = [
        (item.text(begins + lot), item.text(begins + titer), begins + titer)
        for lot, titer in _MATERIALS
    ]
    told = [(lot, titer, column) for lot, titer, column in told if lot or titer]
    if not told:
        return [surgery.virus(strain)] if strain else []
    name = strain if len(told) == 1 else None
    if strain and name is None:
        item.problem((burr.strain,), strain, f"names several materials: {len(told)} lots are told")
    return [_material(item, name, *of) for of in told]


def _material(
    item: Item, name: str | None, lot: str | None, titer: str | None, column: str
) -> dict[str, Any]:
    concentration = _CONCENTRATION.fullmatch(titer or "")
    if concentration:
        amount, unit = concentration.groups()
        return surgery.reagent(name or lot or surgery.UNKNOWN, lot, float(amount), unit)
    count = cells.quantity(titer or "", {"": 1, "gc/ml": 1, "vg/ml": 1})
    if titer and count is None:
        item.problem((column,), titer, "is no titer")
    return surgery.virus(name, lot, None if count is None else round(count))


def _fibre(item: Item, burr: _Burr, spot: Spot) -> dict[str, Any]:
    depth = item.number(cells.MILLIMETRES, burr.fibre_depth)
    length = item.number(cells.MILLIMETRES, f"Fiber_x0020_Implant{burr.number}_x0020_Lengt")
    spaced = f"Burr_x0020_{burr.number}_x0020_Fiber_x0020_"
    kind = item.text(f"{spaced}t", f"{spaced}T")
    there = replace(spot, depths=() if depth is None else (depth,))
    return surgery.fibre(burr.number, there, length, kind)
