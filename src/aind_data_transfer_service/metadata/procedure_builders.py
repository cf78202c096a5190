"""What a surgery is made of, in the shape of the procedures of aind-data-schema 0.34.

Text that a document needs and no list holds is "unknown"; a number or a date that is needed and not
known is left null, and the document is then not valid, which is said with the names of what is
missing.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from aind_data_transfer_service.metadata.base import Found

SCHEMA_URL = (
    "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/"
    "aind_data_schema/core/procedures.py"
)
SCHEMA_VERSION = "0.13.7"
"""Of the procedures in aind-data-schema 0.34.4."""
UNKNOWN = "unknown"
_LEVELS = (1, 5)
"""The least and the greatest level of an anaesthetic, in percent, that the schema takes."""
_LOT = re.compile(r"\bVT\d{3,}[A-Za-z]?\b")
"""A lot of the viral core, as people write it among other words."""
_STANDARD = re.compile(r"standard( fib(er|re))?\s*(\(provided by nsb\))?", re.IGNORECASE)
"""How the form calls that fibre; one that is provided by others may be of any make."""
_STANDARD_FIBRE = {
    "manufacturer": {
        "name": "Neurophotometrics",
        "abbreviation": None,
        "registry": None,
        "registry_identifier": None,
    },
    "core_diameter": 200,
    "numerical_aperture": 0.37,
    "ferrule_material": "Ceramic",
}
"""What the neurosurgery group calls its standard fibre."""
_BRAIN = ("injection_coordinate_ml", "injection_coordinate_ap", "injection_angle")
_NEEDED = {
    "Surgery": ("start_date",),
    "Craniotomy": ("craniotomy_type",),
    "Nanoject injection": _BRAIN,
    "Iontophoresis injection": (*_BRAIN, "injection_current", "alternating_current"),
    "Retro-orbital injection": ("injection_volume", "injection_eye"),
}
_NEEDED_LISTS = {
    "Surgery": ("procedures",),
    "Nanoject injection": (
        "injection_materials",
        "injection_coordinate_depth",
        "injection_volume",
    ),
    "Iontophoresis injection": ("injection_materials", "injection_coordinate_depth"),
    "Retro-orbital injection": ("injection_materials",),
}
_NEEDED_PROBE = tuple(f"stereotactic_coordinate_{axis}" for axis in ("ap", "ml", "dv")) + ("angle",)
_NEEDED_FIBRE = ("core_diameter", "numerical_aperture", "total_length")


@dataclass(frozen=True)
class Sitting:
    """When, by whom and how a surgery was done."""

    start: date | None
    experimenter: str | None = None
    weight_before: float | None = None
    """Grams."""
    weight_after: float | None = None
    anaesthesia_minutes: float | None = None
    anaesthesia_level: float | None = None
    """Percent of isoflurane."""
    workstation: str | None = None
    recovery_minutes: float | None = None


@dataclass(frozen=True)
class Spot:
    """A place in the brain, in millimetres and degrees, and what is done there."""

    ml: float | None = None
    ap: float | None = None
    depths: tuple[float, ...] = ()
    angle: float | None = None
    hemisphere: str | None = None
    reference: str | None = None
    """From where `ml` and `ap` are measured: Bregma."""
    bregma_to_lambda: float | None = None
    target: str | None = None
    """The structure that is aimed at."""


def surgery(
    sitting: Sitting,
    iacuc: str | None,
    procedures: Sequence[dict[str, Any]],
    notes: Sequence[str],
    protocol: str | None = None,
) -> dict[str, Any]:
    """Describe a surgery."""
    minutes, level = sitting.anaesthesia_minutes, sitting.anaesthesia_level
    anaesthesia = None
    if minutes is not None and level is not None and _LEVELS[0] <= level <= _LEVELS[1]:
        anaesthesia = {
            "type": "isoflurane",
            "duration": minutes,
            "duration_unit": "minute",
            "level": level,
        }
    else:
        said = [f"{minutes:g} min"] if minutes is not None else []
        said += [f"level {level:g}"] if level is not None else []
        notes = [*notes, f"anaesthesia: isoflurane, {', '.join(said)}"] if said else notes
    recovery = sitting.recovery_minutes
    if recovery is not None and not any("recovery_time" in part for part in procedures):
        notes = [*notes, f"recovery time: {recovery:g} min"]
    return {
        "procedure_type": "Surgery",
        "protocol_id": protocol or UNKNOWN,
        "start_date": sitting.start.isoformat() if sitting.start else None,
        "experimenter_full_name": sitting.experimenter or UNKNOWN,
        "iacuc_protocol": iacuc,
        "animal_weight_prior": sitting.weight_before,
        "animal_weight_post": sitting.weight_after,
        "weight_unit": "gram",
        "anaesthesia": anaesthesia,
        "workstation_id": sitting.workstation,
        "procedures": list(procedures),
        "notes": "\n".join(notes) or None,
    }


def headframe(
    kind: str | None,
    part: str | None,
    well: str | None,
    well_part: str | None,
    material: str | None = None,
) -> dict[str, Any]:
    """Describe a headframe and its well."""
    return {
        "procedure_type": "Headframe",
        "protocol_id": UNKNOWN,
        "headframe_type": kind or UNKNOWN,
        "headframe_part_number": part or UNKNOWN,
        "headframe_material": material,
        "well_part_number": well_part,
        "well_type": well,
    }


def craniotomy(
    kind: str | None,
    hemisphere: str | None,
    bregma_to_lambda: float | None,
    implant: str | None,
    dura_removed: bool | None,
    recovery_minutes: float | None,
) -> dict[str, Any]:
    """Describe a craniotomy."""
    return {
        "procedure_type": "Craniotomy",
        "protocol_id": UNKNOWN,
        "craniotomy_type": kind,
        "craniotomy_hemisphere": hemisphere,
        "bregma_to_lambda_distance": bregma_to_lambda,
        "bregma_to_lambda_unit": "millimeter",
        "implant_part_number": implant,
        "dura_removed": dura_removed,
        "protective_material": None,
        "recovery_time": recovery_minutes,
        "recovery_time_unit": "minute",
    }


def virus(name: str | None, lot: str | None = None, titer: int | None = None) -> dict[str, Any]:
    """Describe viral material as far as those know who injected it."""
    if lot is None and name is not None:
        lots = _LOT.findall(name)
        lot = lots[0] if len(set(lots)) == 1 else None
    return {
        "material_type": "Virus",
        "name": name or lot or UNKNOWN,
        "tars_identifiers": {"prep_lot_number": lot} if lot else None,
        "addgene_id": None,
        "titer": titer,
        "titer_unit": "gc/mL",
    }


def reagent(name: str, lot: str | None, concentration: float, unit: str) -> dict[str, Any]:
    """Describe material that is no virus."""
    return {
        "material_type": "Reagent",
        "name": name,
        "source": {"name": "Other", "abbreviation": None},
        "lot_number": lot or UNKNOWN,
        "concentration": concentration,
        "concentration_unit": unit,
    }


def _injection(
    spot: Spot,
    materials: Sequence[dict[str, Any]],
    sitting: Sitting,
    instrument: str | None,
    minutes: float | None,
) -> dict[str, Any]:
    """Describe what all injections into the brain have in common."""
    return {
        "protocol_id": UNKNOWN,
        "injection_materials": list(materials),
        "recovery_time": sitting.recovery_minutes,
        "recovery_time_unit": "minute",
        "injection_duration": minutes,
        "injection_duration_unit": "minute",
        "instrument_id": instrument,
        "injection_coordinate_ml": spot.ml,
        "injection_coordinate_ap": spot.ap,
        "injection_coordinate_depth": list(spot.depths),
        "injection_coordinate_unit": "millimeter",
        "injection_coordinate_reference": spot.reference,
        "bregma_to_lambda_distance": spot.bregma_to_lambda,
        "bregma_to_lambda_unit": "millimeter",
        "injection_angle": spot.angle,
        "injection_angle_unit": "degrees",
        "targeted_structure": spot.target,
        "injection_hemisphere": spot.hemisphere,
    }


def nanoject(
    spot: Spot,
    materials: Sequence[dict[str, Any]],
    sitting: Sitting,
    instrument: str | None,
    volumes: Sequence[float],
    minutes: float | None,
) -> dict[str, Any]:
    """Describe an injection by pressure; a volume in nanolitres for each depth."""
    return {
        "procedure_type": "Nanoject injection",
        **_injection(spot, materials, sitting, instrument, minutes),
        "injection_volume": list(volumes),
        "injection_volume_unit": "nanoliter",
    }


def iontophoresis(
    spot: Spot,
    materials: Sequence[dict[str, Any]],
    sitting: Sitting,
    instrument: str | None,
    current: float | None,
    alternating: str | None,
    minutes: float | None,
) -> dict[str, Any]:
    """Describe an injection by a current, in microamperes."""
    return {
        "procedure_type": "Iontophoresis injection",
        **_injection(spot, materials, sitting, instrument, minutes),
        "injection_current": current,
        "injection_current_unit": "microamps",
        "alternating_current": alternating,
    }


def perfusion(specimens: Sequence[str]) -> dict[str, Any]:
    """Describe a perfusion, and the specimens that it made."""
    return {
        "procedure_type": "Perfusion",
        "protocol_id": UNKNOWN,
        "output_specimen_ids": list(specimens),
    }


def retro_orbital(
    materials: Sequence[dict[str, Any]],
    volume: float | None = None,
    eye: str | None = None,
    protocol: str | None = None,
) -> dict[str, Any]:
    """Describe an injection behind an eye; the volume is in microlitres."""
    return {
        "procedure_type": "Retro-orbital injection",
        "protocol_id": protocol or UNKNOWN,
        "injection_materials": list(materials),
        "recovery_time": None,
        "recovery_time_unit": "minute",
        "injection_duration": None,
        "injection_duration_unit": "minute",
        "instrument_id": None,
        "injection_volume": volume,
        "injection_volume_unit": "microliter",
        "injection_eye": eye,
    }


def other(description: str, notes: str | None) -> dict[str, Any]:
    """Describe what the schema has no words for."""
    return {
        "procedure_type": "Other Subject Procedure",
        "protocol_id": None,
        "description": description,
        "notes": notes,
    }


def fibre(spot: Spot, length: float | None, kind: str | None) -> dict[str, Any]:
    """Describe an implanted fibre; `implants` names it."""
    make = _STANDARD_FIBRE if _STANDARD.fullmatch(kind or "") else {}
    return {
        "ophys_probe": {
            "device_type": "Fiber optic probe",
            "name": None,
            "manufacturer": None,
            "model": kind,
            "core_diameter": None,
            "core_diameter_unit": "micrometer",
            "numerical_aperture": None,
            "ferrule_material": None,
            "total_length": length,
            "length_unit": "millimeter",
            **make,
        },
        "targeted_structure": spot.target or UNKNOWN,
        "stereotactic_coordinate_ap": spot.ap,
        "stereotactic_coordinate_ml": spot.ml,
        "stereotactic_coordinate_dv": spot.depths[0] if spot.depths else None,
        "stereotactic_coordinate_unit": "millimeter",
        "stereotactic_coordinate_reference": spot.reference,
        "bregma_to_lambda_distance": spot.bregma_to_lambda,
        "bregma_to_lambda_unit": "millimeter",
        "angle": spot.angle,
        "angle_unit": "degrees",
        "notes": f"hemisphere: {spot.hemisphere}" if spot.hemisphere else None,
    }


def implants(probes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Describe the implantation of a surgery's fibres: one procedure, or none.

    Fibres are named `Fiber_0`, `Fiber_1` and so on from front to back, then from left to right:
    by AP descending, then ML ascending. Those whose place is not known come last.
    """
    if not probes:
        return []
    for number, probe in enumerate(sorted(probes, key=_from_front)):
        probe["ophys_probe"]["name"] = f"Fiber_{number}"
    return [{"procedure_type": "Fiber implant", "protocol_id": UNKNOWN, "probes": list(probes)}]


def _from_front(probe: dict[str, Any]) -> tuple[float, float]:
    """Return by what fibres are put in order."""
    ap, ml = probe["stereotactic_coordinate_ap"], probe["stereotactic_coordinate_ml"]
    return (math.inf if ap is None else -ap, math.inf if ml is None else ml)


def document(
    subject_id: str,
    surgeries: Sequence[dict[str, Any]],
    source: str,
    remarks: Sequence[str] = (),
) -> Found:
    """Compose `procedures.json` of surgeries, and list what it lacks.

    Parameters
    ----------
    subject_id : str
        The subject.
    surgeries : Sequence
        What was done; there may be none.
    source : str
        Where the surgeries are recorded.
    remarks : Sequence of str
        What the source says besides, for the notes of the document.
    """
    content = {
        "describedBy": SCHEMA_URL,
        "schema_version": SCHEMA_VERSION,
        "subject_id": subject_id,
        "subject_procedures": list(surgeries),
        "specimen_procedures": [],
        "notes": "\n".join(remarks) or None,
    }
    lacking = lacking_lines(surgeries)
    return Found(content, not lacking, source, notes=tuple(lacking), is_draft=True)


def with_notes(found: Found, notes: Sequence[str], complete: bool = True) -> Found:
    """Add notes to an answer; one that was not complete does not become so."""
    return replace(found, notes=(*found.notes, *notes), complete=found.complete and complete)


def missing_values(item: Mapping[str, Any]) -> list[str]:
    """Name the fields that the schema needs of a surgery or procedure and that have no value."""
    names = [name for name in _NEEDED.get(item["procedure_type"], ()) if item[name] is None]
    lists = _NEEDED_LISTS.get(item["procedure_type"], ())
    names += [name for name in lists if not item[name]]
    depths = len(item.get("injection_coordinate_depth", ()))
    volumes = len(item["injection_volume"]) if depths and "injection_volume" in item else 0
    if depths and volumes and depths != volumes:
        names.append(f"an injection_volume for each of {depths} depths")
    for probe in item.get("probes", ()):
        names += [name for name in _NEEDED_PROBE if probe[name] is None]
        names += [name for name in _NEEDED_FIBRE if probe["ophys_probe"][name] is None]
    return list(dict.fromkeys(names))


def lacking_lines(surgeries: Sequence[Mapping[str, Any]]) -> list[str]:
    """List what the schema needs of surgeries and nobody wrote down, a line a procedure."""
    return [
        f"{item['procedure_type']} ({part['start_date'] or 'no date'}) lacks {', '.join(names)}"
        for part in surgeries
        for item in [part, *part["procedures"]]
        if (names := missing_values(item))
    ]
