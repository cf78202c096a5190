"""Documents that are composed of lab systems: of the kept cases, and of others of their kinds."""

import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.sources.labtracks.procedures import read_tasks
from aind_data_transfer_service.metadata.sources.labtracks.rows import read_subject
from aind_data_transfer_service.metadata.sources.sharepoint import las_2020, nsb_2019, nsb_2023
from tests.support.labtracks import xml
from tests.support.nsb import item_2019, item_2023, item_las

ZONE = ZoneInfo("America/Los_Angeles")
CASES = Path(__file__).parents[1] / "unit" / "metadata" / "cases"
LOT = {"Burr_x0020_1_x0020_Injectable_x0": "VT0001G"}
PARTS_2019 = ("HP+C CAM", "WHC NP", "INJ+WHC NP", "HP only", "Stereotaxic Injection", "Custom")
PARTS_2023 = ("Sx-01 Visual Ctx 2P", "WHC NP", "DHC", "HP Only", "Stereotaxic Injection", "Perhaps")
CHANGES_2019: tuple[dict[str, Any], ...] = (
    {"Inj2Angle_v2": "0"},
    {"Virus_x0020_M_x002f_L": "3.3"},
    {"inj1volperdepth": None, "Inj1Vol": "300"},
    {"Virus_x0020_A_x002f_P": "-1.6 from lambda"},
    {"HpLoc": None, "CraniotomyType": "WHC NP", "Procedure": "WHC NP"},
    {"CraniotomyType": "Visual Cortex 5mm", "Procedure": "HP+C CAM"},
    {"CraniotomyType": "a slit", "Procedure": "HP+C CAM"},
    {"HeadpostType": None},
    {"Date1stInjection": None},
    {"Virus_x0020_D_x002f_V": None},
    {"Inj2AlternatingTime": None},
)
CHANGES_2023: tuple[dict[str, Any], ...] = (
    {"Burr_x0020_5_x0020_Hemisphere": "Left", "Burr_x0020_5_x0020_Angle": "0"},
    {"Burr_x0020_1_x0020_Intended_x002": ["LC - Locus ceruleus"]},
    {"Burr_x0020_1_x0020_Intended_x002": ["LC - Locus ceruleus", "VTA - Ventral tegmental area"]},
    {"Burr_x0020_1_x0020_Intended_x002": ["the front"]},
    {"Burr_x0020_1_x0020_Injectable_x03": "5 mg/ml"},
    {"Burr_x0020_1_x0020_DV_x0020_2": 2.9},
    {"Inj1Type": "by hand"},
    {"Burr_x0020_hole_x0020_1": "Spinal Injection"},
    {"CraniotomyType": "3mm", "Headpost": None},
)


def case(name: str) -> Any:
    """Read a case."""
    return json.loads((CASES / f"{name}.json").read_text())


def drafts() -> Iterator[tuple[str, Found]]:
    """Compose procedures as the sources do."""
    for name in ("nsb2019_hp_only", "nsb2019_two_rounds"):
        yield name, _read(nsb_2019, case(name))
    for name in ("nsb2023_dhc", "nsb2023_fibres", "nsb2023_injection_only", "nsb2023_no_surgery"):
        yield name, _read(nsb_2023, case(name))
    yield "injection with a lot", _read(nsb_2023, case("nsb2023_injection_only") | LOT)
    yield "2019", _read(nsb_2019, item_2019())
    yield "2023", _read(nsb_2023, item_2023())
    for part in PARTS_2019:
        yield f"2019 {part}", _read(nsb_2019, item_2019(Procedure=part))
    for part in PARTS_2023:
        yield f"2023 {part}", _read(nsb_2023, item_2023(Procedure=part))
    for change in CHANGES_2019:
        yield f"2019 {change}", _read(nsb_2019, item_2019(**change))
    for change in CHANGES_2023:
        yield f"2023 {change}", _read(nsb_2023, item_2023(**change))
    for changed in ({}, {"nROID3": None}, {"nROID3": None, "roEye1": "Behind Either"}):
        made, problems = las_2020.surgeries(item_las(**changed), ZONE, "700009")
        yield f"LAS {changed}", _document(made, problems)
    for kind in ("Perfusion Gel", "RO Injection VGT", "perfusion, aborted"):
        for started in (datetime(2022, 10, 11), None):
            task = {
                "id": Decimal(2356051),
                "type_name": kind,
                "date_start": started,
                "date_end": started,
                "investigator_id": Decimal(28803),
                "description": "as asked",
                "task_status": "F",
                "protocol_number": "2002",
                "protocol_title": "Perfusion of mice",
            }
            found = read_tasks("700009", [task], "LabTracks")
            assert found is not None
            yield f"{kind} {started}", found


def subjects() -> Iterator[tuple[str, Found]]:
    """Compose subjects as LabTracks does."""
    for changes in (
        {},
        {"group_description": None, "breeding_description": "BALB/c"},
        {"group_description": "C57BL/6NJ"},
        {"cage_id": Decimal(-99999999999999), "room_id": Decimal(-1)},
        {"species_name": "rat"},
        {"species_name": "rhesus macaque"},
        {"species_name": "marmoset", "sex": "F"},
        {"species_name": "ferret"},
        {"sex": None},
        {"birth_date": None},
        {"class_values": None},
        {"maternal_id": None, "maternal_class_values": None},
        {"breeding_group": None},
        {
            **dict.fromkeys(("maternal_id", "paternal_id", "breeding_group")),
            **dict.fromkeys(("maternal_class_values", "paternal_class_values")),
        },
    ):
        reading = read_subject([_row(**changes)])
        yield str(changes), Found(
            reading.document, reading.complete, "LabTracks", notes=(), is_draft=True
        )


def _row(**columns: Any) -> dict[str, Any]:
    """Write a row of LabTracks."""
    return {
        "id": Decimal("690165"),
        "sex": "M",
        "birth_date": date(2023, 8, 14),
        "class_values": xml("wt/wt"),
        "cage_id": Decimal("4711"),
        "room_id": Decimal("271"),
        "species_name": "mouse",
        "group_description": "C57BL/6J",
        "maternal_id": Decimal("600001"),
        "maternal_class_values": xml("Vip-IRES-Cre/wt"),
        "paternal_id": Decimal("600002"),
        "paternal_class_values": xml("Ai32/Ai32"),
        "breeding_group": "Exp-ND-01",
        "breeding_description": None,
        **columns,
    }


def _read(module: Any, item: dict[str, Any]) -> Found:
    return _document(*module.surgeries(item, ZONE))


def _document(made: list[dict[str, Any]], problems: list[str]) -> Found:
    return procedure_builders.document("700009", made, "SharePoint", problems)
