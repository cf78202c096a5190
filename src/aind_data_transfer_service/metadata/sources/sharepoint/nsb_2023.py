"""The lists in which the neurosurgery group (NSB) has kept its surgeries since 2023.

An item is a request of up to two sittings, the initial and a follow-up surgery, with a headpost, a
craniotomy and up to six burr holes, each for an injection, a fibre or both. `Procedure` states
whether there is a headpost and a craniotomy, and the cell of each burr hole what was done there;
what else is filled in is noted and nothing more. What names no sitting is a surgery without a date.
Column names are SharePoint's internal ones: cut after 32 characters, and numbered where the cut
made two the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.procedure_builders import Sitting, Spot
from aind_data_transfer_service.metadata.sources.sharepoint import field_values
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import Item
from aind_data_transfer_service.metadata.sources.sharepoint.nsb_2019 import (
    UNSTATED,
    Sittings,
    bregma_to_lambda,
    compose,
    coordinates,
    dura_removed,
    not_done,
    side,
)

SUBJECT_COLUMN = "LabTracks_x0020_ID1"
"""Holds the subject's id, and is what is filtered on."""
_INITIAL, _FOLLOW_UP = "initial", "follow-up"
_SITTINGS = {
    _INITIAL: (
        "Date_x0020_of_x0020_Surgery",
        ("Test1LookupId", "Test1Id"),
        ("Weight_x0020_before_x0020_Surger", "Weight_x0020_after_x0020_Surgery"),
        ("Iso_x0020_On", "HPIsoLevel"),
        ("HpWorkStation", "HPRecovery"),
    ),
    _FOLLOW_UP: (
        "Date1stInjection",
        (
            "TEST_x0020_1st_x0020_Round_x0020_LookupId",
            "TEST_x0020_1st_x0020_Round_x0020LookupId",
            "TEST_x0020_1st_x0020_Round_x0020Id",
        ),
        ("FirstInjectionWeightBefor", "FirstInjectionWeightAfter"),
        ("FirstInjectionIsoDuration", "Round1InjIsolevel"),
        ("WorkStation1stInjection", "FirstInjRecovery"),
    ),
}
_DURING = {"initial surgery": _INITIAL, "follow up surgery": _FOLLOW_UP}
_WINDOW = re.compile(r"(visual ctx|frontal ctx|motor ctx|whc|dhc)( np| 2p)?( \(.*\))?")
"""A craniotomy, as a part of `Procedure` names it; a headpost goes with it."""
_HEADPOST = re.compile(r"hp only|hp transcranial|.* \(with headpost\)")
_NUMBERED = re.compile(r"^sx\s*-\s*[\d&\s]*")
"""Begins the names of some procedures: `Sx-01`, `Sx-11&19`."""
_INJECTED, _IMPLANTED = "injection", "fiber implant"
_BURR_HOLES = {
    "injection": {_INJECTED},
    "stereotaxic injection": {_INJECTED},
    "6 grid injection": {_INJECTED},
    "9 grid injection": {_INJECTED},
    "fiber implant": {_IMPLANTED},
    "injection & fiber implant": {_INJECTED, _IMPLANTED},
    "stereotaxic injection & fiber implant": {_INJECTED, _IMPLANTED},
}
"""What was done in a burr hole of the brain, by its cell."""
_SPINAL = "spinal injection"
_HEADFRAME_PARTS = {
    "Visual Ctx": "0160-100-10",
    "WHC NP": "0160-100-42",
    "WHC 2P": "0160-100-45",
    "Frontal Ctx": "0160-100-46",
    "Motor Ctx": "0160-100-51",
    "DHC": "0160-100-57",
}
_HEADFRAME_MATERIALS = {"DHC": "Titanium"}
_WELL_PARTS = {
    "Scientifica (CAM)": "Rev A",
    "Mesoscope": "0160-200-20",
    "Neuropixel": "0160-200-36",
    "WHC NP": "0160-055-08",
    "WHC 2P": "0160-200-62",
    "DHC well": "0160-075-01",
}
_CRANIOTOMIES = {
    "5mm": "5 mm",
    "3mm": "3 mm",
    "WHC": "Whole hemisphere craniotomy",
    "WHC NP": "Whole hemisphere craniotomy",
    "WHC 2P": "Whole hemisphere craniotomy",
    "DHC": "Dual hemisphere craniotomy",
}
_STRUCTURE = re.compile(r"(\S+) - .+")
"""A structure as the form offers it, such as `LC - Locus ceruleus`."""
_CONCENTRATION = re.compile(r"(\d{0,6}\.?\d{1,6})\s*((?:m|u|µ|n)g/(?:m|u|µ)l)", re.IGNORECASE)
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
    target: str


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
        "target": f"{spaced}Intended_x002",
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
    if left_out := not_done(item):
        return [], left_out
    sittings = Sittings(item, zone, _SITTINGS)
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_SITTINGS, UNSTATED)}
    fibres: dict[str, list[dict[str, Any]]] = {name: [] for name in done}
    has_headpost, has_craniotomy = _stated(item)
    if has_headpost:
        done[_during(item, "Headpost_x0020_Perform_x0020_Dur")].append(_headframe(item))
    if has_craniotomy:
        name = _during(item, "Craniotomy_x0020_Perform_x0020_D")
        done[name].append(_craniotomy(item, sittings[name]))
    for burr in _BURRS:
        column = f"Burr_x0020_hole_x0020_{burr.number}"
        words = (item.peek(column) or "").lower()
        if words == _SPINAL:
            item.text(column)
            done[_during(item, burr.during)].append(
                procedure_builders.other("Spinal injection", None)
            )
            continue
        stated = _BURR_HOLES.get(words, set())
        if not stated:
            continue
        if "grid" not in words:  # how many injections there are is said nowhere else
            item.text(column)
        name = _during(item, burr.during)
        if _INJECTED in stated:
            done[name].append(_injection(item, burr, sittings[name], name))
        if _IMPLANTED in stated:
            fibres[name].append(_fibre(item, burr))
    for name, found in fibres.items():
        done[name] += procedure_builders.implants(found)
    return compose(item, sittings, done)


def _stated(item: Item) -> tuple[bool, bool]:
    """Return whether `Procedure` states a headpost, and whether it states a craniotomy."""
    words = " ".join((item.peek("Procedure") or "").lower().split())
    parts = [part.strip() for part in _NUMBERED.sub("", words).split("+")]
    has_craniotomy = any(_WINDOW.fullmatch(part) for part in parts)
    has_headpost = any(_HEADPOST.fullmatch(part) for part in parts)
    return has_headpost or (has_craniotomy and item.peek("Headpost") is not None), has_craniotomy


def _during(item: Item, column: str) -> str:
    """Return in which surgery something was done."""
    return item.choice(_DURING, column) or UNSTATED


def _headframe(item: Item) -> dict[str, Any]:
    kind = item.text("Headpost")
    well = item.text("HeadpostType")
    return procedure_builders.headframe(
        kind,
        _HEADFRAME_PARTS.get(kind or ""),
        well,
        _WELL_PARTS.get(well or ""),
        _HEADFRAME_MATERIALS.get(kind or ""),
    )


def _craniotomy(item: Item, sitting: Sitting) -> dict[str, Any]:
    kind = item.text("CraniotomyType")
    if kind and kind not in _CRANIOTOMIES:
        item.problem(("CraniotomyType",), kind, 'is written as "Other"')
    if kind is None:  # some procedures are named like their craniotomy
        named = [word for word in ("WHC", "DHC") if word in (item.peek("Procedure") or "").upper()]
        kind = named[0] if named else None
    return procedure_builders.craniotomy(
        _CRANIOTOMIES.get(kind, "Other") if kind else None,
        None,
        bregma_to_lambda(item),
        item.text("ImplantIDCoverslipType"),
        dura_removed(item, "ComDurotomy"),
        sitting.recovery_minutes,
    )


def _spot(item: Item, burr: _Burr, columns: tuple[str, ...]) -> Spot:
    """Read where to, with the depths of these columns."""
    depths = [depth for one in columns for depth in item.numbers(field_values.COORDINATE, one)]
    point, ml, ap = coordinates(item, burr.ml, burr.ap)
    return Spot(
        reference=point,
        ml=ml,
        ap=ap,
        depths=tuple(depths),
        angle=item.number(field_values.ANGLE, burr.angle),
        hemisphere=side(item, burr.hemisphere),
        bregma_to_lambda=bregma_to_lambda(item),
        target=_target(item, burr.target),
    )


def _target(item: Item, column: str) -> str | None:
    """Read the structures that are aimed at, by their acronyms as far as they have some."""
    words = item.text(column)
    if words is None:
        return None
    names = [_STRUCTURE.fullmatch(one.strip()) for one in words.split(";")]
    return ", ".join(name.group(1) for name in names if name) if all(names) else words


def _injection(item: Item, burr: _Burr, sitting: Sitting, during: str) -> dict[str, Any]:
    column = f"Inj{burr.number}Type"
    kind = (item.peek(column) or "").lower()
    if "nanoject" not in kind and "iontophoresis" not in kind:
        return procedure_builders.other(
            f"Injection, {item.text(column) or 'of no kind given'}", None
        )
    item.text(column)
    spot = _spot(item, burr, burr.depths)
    materials = _materials(item, burr)
    minutes = item.number(
        field_values.DURATION, f"Inj{burr.number}IontoTime", f"Inj{burr.number}LenghtofTime"
    )
    devices = [f"Burr{burr.number}_x0020_Injection_x0020_Devi"]
    if "iontophoresis" in kind:
        devices += {_INITIAL: ["IontoNumberInj1"], _FOLLOW_UP: ["IontoNumberInj2"]}.get(during, [])
        return procedure_builders.iontophoresis(
            spot,
            materials,
            sitting,
            item.text(*devices),
            item.number(field_values.CURRENT, f"Inj{burr.number}Current"),
            item.text(f"Inj{burr.number}AlternatingTime"),
            minutes,
        )
    devices += {_INITIAL: ["NanojectNumberInj10"], _FOLLOW_UP: ["NanojectNumberInj2"]}.get(
        during, []
    )
    each = item.number(field_values.VOLUME, *burr.volume)
    volumes = [] if each is None else [each] * max(1, len(spot.depths))
    return procedure_builders.nanoject(
        spot, materials, sitting, item.text(*devices), volumes, minutes
    )


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
        return [procedure_builders.virus(strain)] if strain else []
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
        return procedure_builders.reagent(
            name or lot or procedure_builders.UNKNOWN, lot, float(amount), unit
        )
    count = item.number(field_values.TITER, column)
    return procedure_builders.virus(name, lot, None if count is None else round(count))


def _fibre(item: Item, burr: _Burr) -> dict[str, Any]:
    length = item.number(field_values.LENGTH, f"Fiber_x0020_Implant{burr.number}_x0020_Lengt")
    kind = item.text(f"Burr_x0020_{burr.number}_x0020_Fiber_x0020_t")
    return procedure_builders.fibre(_spot(item, burr, (burr.fibre_depth,)), length, kind)
