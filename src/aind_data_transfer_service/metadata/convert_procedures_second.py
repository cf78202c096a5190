"""Surgeries and procedures of generation 0.34, written as generation 2.

Positions in the brain are translations in a coordinate system with its origin at bregma, whose axes
point to where the lists' numbers grow: A/P forwards, M/L to the right, and the depth downwards,
whatever its sign. A position is written only if the source states all of it: a point that is
measured from bregma, a depth, and an angle of 0. (Around which axis another angle is measured, the
lists do not say.) Otherwise its numbers are notes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.metadata import terms
from aind_data_transfer_service.metadata.procedure_builders import UNKNOWN
from aind_data_transfer_service.metadata.procedures_in_words import Lacking, in_words
from aind_data_transfer_service.settings.schema_generation import Generation

_G = Generation.V2
_SYSTEM = "BREGMA_ARD"
_AXES = (
    ("AP", "Posterior_to_anterior"),
    ("ML", "Left_to_right"),
    ("Z", "Up_to_down"),
)
_SIZES = {"3 mm": 3, "5 mm": 5}
"""Craniotomies that the first generations name by their size, in millimetres."""
_LEFT_OVER = {
    "instrument_id": "instrument",
    "recovery_time": "recovery time, minutes",
    "bregma_to_lambda_distance": "bregma to lambda, mm",
}
"""What generation 2 has no field for, and how it is noted."""
_POSITION = ("reference", "ap", "ml", "depth", "unit", "angle")
_Written = tuple[dict[str, Any], list[str]]


def surgery(part: Mapping[str, Any]) -> dict[str, Any]:
    """Write a surgery whose procedures are written already."""
    who = _stated(part["experimenter_full_name"])
    gas = part["anaesthesia"]
    anaesthesia = None
    if gas:
        others = {key: value for key, value in gas.items() if key != "type"}
        anaesthesia = {"object_type": "Anaesthetic", "anaesthetic_type": gas["type"], **others}
    procedures = part["procedures"]
    is_placed = any(one.get("coordinate_system_name") for one in procedures)
    return {
        "object_type": "Surgery",
        "protocol_id": _stated(part["protocol_id"]),
        "start_date": part["start_date"],
        "experimenters": [who] if who else None,
        "ethics_review_id": part["iacuc_protocol"],
        "animal_weight_prior": part["animal_weight_prior"],
        "animal_weight_post": part["animal_weight_post"],
        "weight_unit": part["weight_unit"],
        "anaesthesia": anaesthesia,
        "workstation_id": part["workstation_id"],
        "global_coordinate_system": _coordinate_system(_SYSTEM, "Bregma") if is_placed else None,
        "procedures": procedures,
        "notes": part["notes"],
    }


def procedure(part: dict[str, Any]) -> _Written:
    """Write a procedure, and notes for what has no field.

    Raises
    ------
    Lacking
        If it lacks values that generation 2 needs.
    """
    return _WRITERS[part["procedure_type"]](part)


def other(description: str, notes: str | None) -> dict[str, Any]:
    """Describe what the schema has no fields for."""
    return {
        "object_type": "Generic surgery procedure",
        "protocol_id": None,
        "description": description,
        "notes": notes,
    }


def _other(part: Mapping[str, Any]) -> _Written:
    """Write a procedure that is described already."""
    return other(part["description"], part["notes"]), []


def _perfusion(part: Mapping[str, Any]) -> _Written:
    return {
        "object_type": "Perfusion",
        "protocol_id": _stated(part["protocol_id"]),
        "output_specimen_ids": part["output_specimen_ids"],
    }, []


def _headframe(part: Mapping[str, Any]) -> _Written:
    if not _stated(part["headframe_type"]):
        raise Lacking(["headframe_type"])
    names = ("headframe_type", "headframe_part_number", "well_part_number", "well_type")
    return {
        "object_type": "Headframe",
        "protocol_id": _stated(part["protocol_id"]),
        **{name: _stated(part[name]) for name in names},
        "headframe_material": part["headframe_material"],
    }, []


def _craniotomy(part: Mapping[str, Any]) -> _Written:
    kind, side = part["craniotomy_type"], part["craniotomy_hemisphere"]
    if kind is None:
        raise Lacking(["craniotomy_type"])
    known = kind if kind.endswith("hemisphere craniotomy") else "Other"
    if known.startswith("Whole") and not side:
        raise Lacking(["craniotomy_hemisphere"])
    size = _SIZES.get(kind)
    notes = [] if kind == known or size else [f"craniotomy type: {kind}"]
    return {
        "object_type": "Craniotomy",
        "protocol_id": _stated(part["protocol_id"]),
        "craniotomy_type": known,
        "coordinate_system_name": _SYSTEM if side else None,
        "position": [side] if side else None,
        "size": size,
        "size_unit": "millimeter" if size else None,
        "protective_material": part["protective_material"],
        "implant_part_number": part["implant_part_number"],
        "dura_removed": part["dura_removed"],
    }, notes + _left_over(part)


def _brain_injection(part: Mapping[str, Any]) -> _Written:
    """Write an injection into the brain; one whose position is not known has none."""
    depths = part["injection_coordinate_depth"]
    missing = _without_materials(part)
    missing += _without_amount(part, len(depths))
    if missing:
        raise Lacking(missing)
    dynamics, notes = _dynamics(part, len(depths))
    found, common = _injection(part, part["injection_hemisphere"], dynamics)
    notes += common
    if target := part["targeted_structure"]:
        notes += [f"targeted structure: {target}"]
    stated = {
        "reference": part["injection_coordinate_reference"],
        "ap": part["injection_coordinate_ap"],
        "ml": part["injection_coordinate_ml"],
        "depth": depths,
        "unit": part["injection_coordinate_unit"],
        "angle": part["injection_angle"],
    }
    unplaced = _unplaced(stated, part["injection_hemisphere"])
    if unplaced:
        return found, [*notes, *_position_in_words(stated, unplaced)]
    known = terms.structure(_G, target or "")
    if known:
        notes.remove(f"targeted structure: {target}")
    return {
        **found,
        "object_type": "Brain injection",
        "targeted_structure": known,
        "coordinate_system_name": _SYSTEM,
        "coordinates": [_transform(stated, depth) for depth in depths],
    }, notes


def _without_materials(part: Mapping[str, Any]) -> list[str]:
    """Name the materials if there are none."""
    return [] if part["injection_materials"] else ["injection_materials"]


def _without_amount(part: Mapping[str, Any], depths: int) -> list[str]:
    """Name what is not known of the amount that was injected into the brain."""
    if part["procedure_type"] != "Nanoject injection":
        names = ("injection_current", "alternating_current")
        return [name for name in names if part[name] is None]
    volumes = part["injection_volume"]
    if not volumes:
        return ["injection_volume"]
    is_clear = not depths or depths == len(volumes)
    return [] if is_clear else [f"an injection_volume for each of {depths} depths"]


def _dynamics(part: Mapping[str, Any], depths: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Write how much was injected at each depth, and notes for what is not known for each.

    A volume at one place is a bolus; a current that alternates is pulsed.
    """
    minutes = part["injection_duration"]
    if part["procedure_type"] == "Nanoject injection":
        unit = part["injection_volume_unit"]
        found = [
            {"profile": "Bolus", "volume": volume, "volume_unit": unit}
            for volume in part["injection_volume"]
        ]
    else:
        names = ("injection_current", "injection_current_unit", "alternating_current")
        current = {name: part[name] for name in names}
        found = [{"profile": "Pulsed", **current} for _ in range(depths or 1)]
    notes = []
    if minutes is not None and len(found) == 1:
        found[0] |= {"duration": minutes, "duration_unit": part["injection_duration_unit"]}
    elif minutes is not None:
        notes = [f"injection duration, minutes: {minutes:g}"]
    return [{"object_type": "Injection dynamics", **one} for one in found], notes


def _retro_orbital(part: Mapping[str, Any]) -> _Written:
    """Write an injection behind an eye: a bolus."""
    volume, eye = part["injection_volume"], part["injection_eye"]
    missing = _without_materials(part) + (["injection_volume"] if volume is None else [])
    if missing:
        raise Lacking(missing)
    dynamics = {
        "object_type": "Injection dynamics",
        "profile": "Bolus",
        "volume": volume,
        "volume_unit": part["injection_volume_unit"],
    }
    found, notes = _injection(part, eye, [dynamics])
    return found, [f"behind the {eye.lower()} eye" if eye else "behind an eye", *notes]


def _injection(
    part: Mapping[str, Any], side: str | None, dynamics: Sequence[Mapping[str, Any]]
) -> _Written:
    """Write what all injections have."""
    return {
        "object_type": "Injection",
        "protocol_id": _stated(part["protocol_id"]),
        "injection_materials": [_material(one) for one in part["injection_materials"]],
        "targeted_structure": None,
        "relative_position": [side] if side else None,
        "dynamics": list(dynamics),
    }, _left_over(part)


def _material(part: Mapping[str, Any]) -> dict[str, Any]:
    """Write a virus or a reagent."""
    others = {key: value for key, value in part.items() if key != "material_type"}
    if part["material_type"] == "Virus":
        tars = others["tars_identifiers"]
        named = {"object_type": "Tars virus identifiers", **tars} if tars else None
        return {"object_type": "Viral material", **others, "tars_identifiers": named}
    source = terms.organization(_G, None, "Unknown")  # the lists name none
    lot = _stated(part["lot_number"])
    return {"object_type": "Non viral material", **others, "source": source, "lot_number": lot}


def _fibre(part: Mapping[str, Any]) -> _Written:
    """Write the implantation of one fibre."""
    [implanted] = part["probes"]
    probe = implanted["ophys_probe"]
    needed = ("name", "core_diameter", "numerical_aperture", "total_length")
    missing = [name for name in needed if probe[name] is None]
    target = _stated(implanted["targeted_structure"])
    structure = terms.structure(_G, target or "")
    if structure is None:
        missing.append("targeted_structure" if not target else f"one targeted_structure ({target})")
    depth = implanted["stereotactic_coordinate_dv"]
    stated = {
        "reference": implanted["stereotactic_coordinate_reference"],
        "ap": implanted["stereotactic_coordinate_ap"],
        "ml": implanted["stereotactic_coordinate_ml"],
        "depth": [] if depth is None else [depth],
        "unit": implanted["stereotactic_coordinate_unit"],
        "angle": implanted["angle"],
    }
    side = str(implanted["notes"] or "").removeprefix("hemisphere: ") or None
    missing += _unplaced(stated, side)
    if missing:
        raise Lacking(missing)
    kept = {key: value for key, value in probe.items() if key not in ("device_type",)}
    maker = probe["manufacturer"]
    return {
        "object_type": "Probe implant",
        "protocol_id": _stated(part["protocol_id"]),
        "implanted_device": {
            "object_type": "Fiber probe",
            **kept,
            "manufacturer": terms.organization(_G, None, maker) if maker else None,
        },
        "device_config": {
            "object_type": "Probe config",
            "device_name": probe["name"],
            "primary_targeted_structure": structure,
            "local_coordinate_system": _coordinate_system("FIBER_ARD", "Tip"),
            "transform": _transform(stated, depth),
            "notes": implanted["notes"],
        },
    }, _left_over(implanted)


_WRITERS = {
    "Craniotomy": _craniotomy,
    "Fiber implant": _fibre,
    "Headframe": _headframe,
    "Iontophoresis injection": _brain_injection,
    "Nanoject injection": _brain_injection,
    "Other Subject Procedure": _other,
    "Perfusion": _perfusion,
    "Retro-orbital injection": _retro_orbital,
}


def _unplaced(stated: Mapping[str, Any], side: str | None) -> list[str]:
    """Say why a position cannot be written; an empty list if it can."""
    missing = [f"the coordinate {name}" for name in ("ap", "ml") if stated[name] is None]
    missing += [] if stated["depth"] else ["a depth"]
    if min(stated["depth"], default=0) < 0 < max(stated["depth"], default=0):
        missing.append("depths of one sign")
    if stated["reference"] != "Bregma":
        missing.append("a position from bregma")
    if stated["angle"] is None:
        missing.append("an angle")
    elif stated["angle"] != 0:
        missing.append(f"the axis of the angle of {stated['angle']:g} degrees")
    ml = stated["ml"] or 0
    if (side == "Left" and ml > 0) or (side == "Right" and ml < 0):
        missing.append(f"one side: M/L is {ml:g}, and the hemisphere {side}")
    return missing


def _position_in_words(stated: Mapping[str, Any], missing: Sequence[str]) -> list[str]:
    """Write the numbers of a position that cannot be written as one."""
    lines = in_words({name: stated[name] for name in _POSITION if name != "unit"})
    if not any(stated[name] not in (None, []) for name in ("ap", "ml", "depth")):
        return lines
    said = f"position in {stated['unit']}s: {'; '.join(lines)}"
    return [f"{said} (in no field, for want of {', '.join(missing)})"]


def _transform(stated: Mapping[str, Any], depth: float) -> list[dict[str, Any]]:
    """Write a position, and that the angle is 0."""
    return [
        {"object_type": "Translation", "translation": [stated["ap"], stated["ml"], abs(depth)]},
        {"object_type": "Rotation", "angles": [stated["angle"]] * 3, "angles_unit": "degrees"},
    ]


def _coordinate_system(name: str, origin: str) -> dict[str, Any]:
    """Define a coordinate system; that of a fibre is not turned against that of the brain."""
    axes = [{"object_type": "Axis", "name": one, "direction": to} for one, to in _AXES]
    return {
        "object_type": "Coordinate system",
        "name": name,
        "origin": origin,
        "axes": axes,
        "axis_unit": "millimeter",
    }


def _left_over(part: Mapping[str, Any]) -> list[str]:
    """Note what generation 2 has no field for."""
    found = {name: part.get(key) for key, name in _LEFT_OVER.items()}
    return [f"{name}: {value}" for name, value in found.items() if value is not None]


def _stated(text: str | None) -> str | None:
    """Return a text; None if it only stands for one that is not known."""
    return None if text == UNKNOWN else text
