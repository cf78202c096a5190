"""What LabTracks' rows say of an animal, as `subject.json` in the shape of aind-data-schema 0.34.

Values are taken over as they are, or left out; what is left out is told. Nothing is made up: a
document without its date of birth is invalid, and says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.plausible_dates import is_plausible

Row = Mapping[str, Any]
"""A row that the query of `labtracks.py` gives, by its names of columns."""

_SCHEMA_URL = "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/"
_SEXES = {"m": "Male", "male": "Male", "f": "Female", "female": "Female"}
_MOUSE, _RAT = ("Mus musculus", "10090"), ("Rattus norvegicus", "10116")
_MACAQUE, _MARMOSET = ("Macaca mulatta", "9544"), ("Callithrix jacchus", "9483")
_SPECIES = {
    "mouse": _MOUSE,
    "rat": _RAT,
    "rhesus macaque": _MACAQUE,
    "marmoset": _MARMOSET,
} | {species[0].lower(): species for species in (_MOUSE, _RAT, _MACAQUE, _MARMOSET)}
"""Name and number in NCBI's taxonomy of the species of the schema, by what a colony calls them."""
_NCBI = {"name": "National Center for Biotechnology Information", "abbreviation": "NCBI"}
_STRAINS = {strain.lower(): strain for strain in ("C57BL/6J", "BALB/c")}
"""The background strains that the schema has."""
_ROR = {"name": "Research Organization Registry", "abbreviation": "ROR"}
_BRED_HERE = {
    "name": "Allen Institute",
    "abbreviation": "AI",
    "registry": _ROR,
    "registry_identifier": "03cpe7c52",
}
"""What the schema wants as the source of an animal that was bred in house."""
_SOURCE_UNKNOWN = {
    "name": "Other",
    "abbreviation": None,
    "registry": None,
    "registry_identifier": None,
}
_PLACEHOLDER = re.compile(r"[-?.*_\s\u2010-\u2015]*|[?/\s]*|n\W?a\W?|null", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_WORDS_OF_NO_GENOTYPE = frozenset("""
    applicable assigned at available await awaiting awaits be been being but completed confirmation
    confirmed currently data defined determination determined done entered failed for from
    genotype genotyped genotypes genotyping given has have in incomplete inconclusive info
    information is it known lab missing na nd needed needs never no none not now nothing of
    on outstanding pcr pending performed progress provided re recorded requested required requires
    result results retest retesting retype sample specified stated still submitted tba tbc tbd
    test tested testing the this time to typed typing unavailable un unclear unconfirmed undefined
    undetermined ungenotyped unk unkn unknown unspecified untested untyped wait waiting was yet
    """.split())
"""What people write in the place of a genotype that is not known has these words alone."""
_NEGATIVE = re.compile(r"-\s*\d+(\.\d+)?")
_PARENTS = (("maternal", "dam"), ("paternal", "sire"))
_MAY_DIFFER = frozenset({"background_strain", "housing", "notes"})
"""What may differ between two rows of one animal: not who it is, but where and with whom."""


@dataclass
class Reading:
    """What rows say of an animal."""

    document: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What is amiss, in words, a line each."""
    complete: bool = True
    """Whether nothing is missing that an animal ought to have."""

    def lacks(self, words: str) -> None:
        """Note something that ought to be there."""
        self.notes.append(words)
        self.complete = False


def read_subject(rows: Sequence[Row]) -> Reading:
    """Read all rows that there are of one animal; the first of several counts.

    Raises
    ------
    MetadataError
        Where two rows contradict each other in who the animal is, naming the fields.
    """
    first, *others = (_read(row) for row in rows)
    fields = {key for reading in (first, *others) for key in reading.document}
    differing = sorted(
        key
        for key in fields
        if any(other.document.get(key) != first.document.get(key) for other in others)
    )
    contradicting = [key for key in differing if key not in _MAY_DIFFER]
    if contradicting:
        raise MetadataError(
            f"LabTracks has {len(rows)} rows of {first.document['subject_id']} that contradict "
            f"each other in {', '.join(contradicting)}; have it put right there"
        )
    if others:
        where = f", which differ in {', '.join(differing)}" if differing else ", which say the same"
        first.notes.insert(0, f"LabTracks has {len(rows)} rows{where}; the first is taken")
    return first


def _read(row: Row) -> Reading:
    """Read one row."""
    reading = Reading()
    breeding = _breeding(row, reading)
    strain, described = _strain(row, reading)
    values: dict[str, Any] = {
        "describedBy": f"{_SCHEMA_URL}aind_data_schema/core/subject.py",
        "schema_version": "0.5.6",
        "subject_id": as_text(row["id"]),
        "sex": _sex(row, reading),
        "date_of_birth": _birth(row, reading),
        "genotype": _own_genotype(row, reading),
        "species": _species(row, reading),
        "alleles": [],
        "background_strain": strain,
        "breeding_info": breeding,
        "source": _BRED_HERE if breeding else _SOURCE_UNKNOWN,
        "rrid": None,
        "restrictions": None,
        "wellness_reports": [],
        "housing": _housing(row),
        "notes": None if strain or not described else f"background strain: {described}",
    }
    needed = ("sex", "date_of_birth", "species")
    reading.document = {
        key: value for key, value in values.items() if value is not None or key not in needed
    }
    return reading


def _sex(row: Row, reading: Reading) -> str | None:
    """Read the sex: `M` or `F`, in any case."""
    value = as_text(row["sex"])
    sex = _SEXES.get((value or "").lower())
    if sex is None:
        reading.lacks(f"sex is {quoted(value)}, neither M nor F" if value else "sex is not known")
    return sex


def _birth(row: Row, reading: Reading) -> str | None:
    """Read the date of birth, whose time of day is always midnight."""
    value = row["birth_date"]
    if not isinstance(value, date):
        reading.lacks("date of birth is not known")
        return None
    if not is_plausible(value):
        reading.lacks(f"date of birth is not known: {value.isoformat()[:10]} is not plausible")
        return None
    return value.isoformat()[:10]


def _species(row: Row, reading: Reading) -> dict[str, Any] | None:
    """Read the species, under whichever name."""
    value = as_text(row["species_name"])
    species = _SPECIES.get((value or "").lower())
    if species is None:
        words = f"species {quoted(value)} is none of the schema's" if value else "no species"
        reading.lacks(words)
        return None
    return {
        "name": species[0],
        "abbreviation": None,
        "registry": _NCBI,
        "registry_identifier": species[1],
    }


def _strain(row: Row, reading: Reading) -> tuple[str | None, str | None]:
    """Read the background strain: the description of the animal's group, or else of the dam's.

    Returns
    -------
    tuple
        The strain, if the schema has it, and the description.
    """
    value = as_text(row["group_description"]) or as_text(row["breeding_description"])
    strain = _STRAINS.get((value or "").lower())
    if value and strain is None:
        reading.notes.append(
            f"background strain is in the notes: {quoted(value)}, as the group is described, is "
            "none of the schema's"
        )
    return strain, value


def _place(value: Any) -> str | None:
    """Read a cage or a room, which is a negative number if the animal has none."""
    place = as_text(value)
    return None if place is None or _NEGATIVE.fullmatch(place) else place


def _housing(row: Row) -> dict[str, Any] | None:
    """Read where the animal lives."""
    cage, room = _place(row["cage_id"]), _place(row["room_id"])
    if cage is None and room is None:
        return None
    return {
        "cage_id": cage,
        "room_id": room,
        "light_cycle": None,
        "home_cage_enrichment": [],
        "cohoused_subjects": [],
    }


def _own_genotype(row: Row, reading: Reading) -> str | None:
    """Read the animal's own genotype."""
    genotype, problem = _genotype(row["class_values"])
    if genotype is None:
        reading.lacks(f"genotype is not known: {problem}")
    return genotype


def _breeding(row: Row, reading: Reading) -> dict[str, str | None] | None:
    """Read what is known of the parents; None if that is nothing."""
    values: dict[str, str | None] = {"breeding_group": as_text(row["breeding_group"])}
    missing = [] if values["breeding_group"] else ["the dam's group"]
    for side, parent in _PARENTS:
        identifier = as_text(row[f"{side}_id"])
        genotype, problem = _genotype(row[f"{side}_class_values"])
        values |= {f"{side}_id": identifier, f"{side}_genotype": genotype}
        if identifier is None:
            missing.append(f"the {parent}")
        elif genotype is None:
            missing.append(f"the {parent}'s genotype ({problem})")
    if all(value is None for value in values.values()):
        reading.notes.append("parents are not known, so the source is given as Other")
        return None
    if missing:
        reading.lacks(f"breeding information lacks {', '.join(missing)}")
    return values


def _genotype(class_values: Any) -> tuple[str | None, str]:
    """Take the genotype out of the XML of CLASS_VALUES, or say why there is none."""
    text = as_text(class_values)
    if text is None:
        return None, "CLASS_VALUES is empty"
    try:
        root = ElementTree.fromstring(text.removeprefix("\ufeff"))  # a column of type XML has it
    except (ElementTree.ParseError, ValueError) as error:
        return None, f"CLASS_VALUES is not XML ({error})"
    for element in root.iter():
        if element.tag.rpartition("}")[2].lower() == "full_genotype":
            genotype = as_text("".join(element.itertext()))
            if genotype and _is_placeholder(genotype):
                return None, f"Full_Genotype in CLASS_VALUES is {quoted(genotype)}"
            return genotype, "Full_Genotype in CLASS_VALUES is empty"
    return None, "CLASS_VALUES has no Full_Genotype"


def _is_placeholder(genotype: str) -> bool:
    """Return whether text only says that a genotype is not known: `TBD?`, `not yet genotyped`."""
    if _PLACEHOLDER.fullmatch(genotype):
        return True
    words = [word for word in _WORD.findall(genotype.lower()) if not word.isdecimal()]
    return bool(words) and all(word in _WORDS_OF_NO_GENOTYPE for word in words)


def as_text(value: Any) -> str | None:
    """Read a value as text; numbers, which LabTracks keeps as decimals, without a point."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    text = "" if value is None else str(value).strip()
    return text or None
