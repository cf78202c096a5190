"""What TARS knows of the viruses that were injected, by the lot of their preparation.

`GET {resource}/api/v1/ViralPrepLots?…searchFields=lot&search=…` finds lots that look alike, one of
which is exactly the one that is meant; `/Molecules` knows the plasmid of its virus. Both answer in
pages, and to a token of Entra ID.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

from aind_data_transfer_service.concurrency.gather import ask_together
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata import procedure_builders, terms
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.entra_auth import Application, EntraAuth
from aind_data_transfer_service.metadata.http import Patience, Web, client
from aind_data_transfer_service.metadata.plausible_dates import is_plausible
from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.settings.metadata_sources import TarsSettings
from aind_data_transfer_service.settings.schema_generation import Generation

_PAGE_SIZE = 50
_PAGES = 50
"""A search that finds more is too loose to be of use."""
_AT_ONCE = 4
_VIRUS = re.compile(r"(AiV|VIR)\w[\w-]*")
_PLASMID = re.compile(r"(AiP|ExP)\w[\w-]*")
_GENOME = re.compile(r"[rp]AAV[-_].+")
"""What TARS's ids of viruses and of plasmids, and names of genomes look like."""
_PREPARATIONS = {
    "Crude-SOP#VC002": ("Crude", "SOP#VC002"),
    "Purified-SOP#VC003": ("Purified", "SOP#VC003"),
    "Crude-HGT": ("Crude", "HGT"),
    "Crude-HGT#1.0": ("Crude", "HGT#1.0"),
    "Rabies-SOP#VC001": ("Crude", "SOP#VC001"),
    "CrudePHPeB-SOP#VC004": ("Crude", "PHPeB-SOP#VC004"),
    "Crude-MGT#1.0": ("Crude", "MGT#1.0"),
    "Crude-MGT#2.0": ("Crude", "MGT#2.0"),
    "Purified-MGT#1.0": ("Purified", "MGT#1.0"),
    "PHPeB-SOP-UW": (None, "PHPeB-SOP-UW"),
}
"""What TARS's types of preparation mean: the kind, and the protocol that was followed."""
_PREPARATIONS_IN_ANY_CASE = {name.casefold(): told for name, told in _PREPARATIONS.items()}
_TYPE = re.compile(r"(Crude|Purified)(?:-(.*))?", re.IGNORECASE)
"""A type of preparation that names the kind, and possibly the protocol."""
_DASH = re.compile("\\s*[-\u2010-\u2015\u2212]\\s*")


@dataclass(frozen=True)
class Material:
    """A lot of a virus."""

    lot: str
    virus: str | None = None
    """TARS's id of the virus, `AiV…` or `VIR…`."""
    plasmid: str | None = None
    """TARS's id of the plasmid, `AiP…` or `ExP…`."""
    name: str | None = None
    """The full name of the genome."""
    prepared: str | None = None
    """The day of the preparation."""
    preparation: str | None = None
    """Crude or Purified."""
    protocol: str | None = None
    titer: int | None = None
    """Genome copies in a millilitre."""
    addgene_id: str | None = None
    notes: tuple[str, ...] = ()
    """What is amiss, in words."""
    complete: bool = True
    """Whether TARS answered all that it was asked."""


class TarsSource(SourceBase):
    """Completes the injected materials of procedures; it has no documents of its own.

    May be used from several threads at once.

    Parameters
    ----------
    settings : TarsSettings
        Where TARS is, and who asks; set.
    patience : Patience
        How long and how often to ask.
    """

    name = "tars"

    def __init__(self, settings: TarsSettings, patience: Patience = Patience()):
        self._root = f"{(settings.resource or '').rstrip('/')}/api/v1"
        application = Application(
            settings.authority,
            settings.tenant or "",
            settings.client_id or "",
            settings.client_secret.get_secret_value() if settings.client_secret else "",
            settings.scope or "",
        )
        ask_entra = Web("Entra ID", client(settings.ca_file), patience)
        self._auth = EntraAuth(application, ask_entra)
        self._web = Web("TARS", client(settings.ca_file, self._auth), patience)

    def close(self) -> None:
        """Let go of the connections."""
        self._web.close()
        self._auth.close()

    def material(self, lot: str) -> Material | None:
        """Ask for a lot; None where TARS has none that is called exactly so.

        Raises
        ------
        MetadataError
            Where TARS does not answer.
        """
        lot = lot.strip()
        if not lot:
            return None
        lots = [one for one in self._search("ViralPrepLots", "lot", lot) if one.get("lot") == lot]
        if not lots:
            return None
        lots.sort(key=lambda one: str(one.get("datePrepped") or ""), reverse=True)
        found = _read_lot(lot, lots[0])
        if len(lots) > 1:
            words = f"TARS has {len(lots)} lots {lot}; the one prepared last is taken"
            found = replace(found, notes=(*found.notes, words))
        return self._with_molecule(found, lots[0])

    def enrich(self, procedures: Found) -> Found:
        """Add to the viruses of procedures what TARS knows of their lots, each asked for once.

        A lot that is not found, or not answered for, is noted, and the answer is not complete.
        """
        content = copy.deepcopy(procedures.document)
        viruses = list(_viruses(content))
        lots = list(dict.fromkeys(lot for _, _, lot in viruses))
        if not lots:
            return procedures
        questions = [partial(self.material, lot) for lot in lots]
        known: dict[str, Material] = {}
        notes: list[str] = []
        failed: dict[str, list[str]] = {}
        for lot, task in zip(lots, ask_together(questions, _AT_ONCE)):
            try:
                found = task.result()
            except MetadataError as error:
                failed.setdefault(str(error), []).append(lot)
                continue
            if found is None:
                notes.append(f"lot {lot} is not known to TARS; look whether it is written right")
                continue
            known[lot] = found
            notes += found.notes
        for part, virus, lot in viruses:
            if lot in known:
                _complete(part, virus, known[lot])
        notes += [f"lot {', '.join(named)}: {error}" for error, named in failed.items()]
        whole = len(known) == len(lots) and all(one.complete for one in known.values())
        source = f"{procedures.source} and TARS" if known else procedures.source
        changed = replace(procedures, document=content, source=source)
        return procedure_builders.with_notes(changed, list(dict.fromkeys(notes)), whole)

    def _with_molecule(self, found: Material, lot: Mapping[str, Any]) -> Material:
        """Add the plasmid of a lot's virus; without it, the rest is still of use."""
        for name in _molecule_names(lot):
            try:
                molecules = self._search("Molecules", "name", name)
            except MetadataError as error:
                words = f"lot {found.lot}: no molecule {name}: {error}"
                return replace(found, notes=(*found.notes, words), complete=False)
            for molecule in molecules:
                if name == molecule.get("fullName") or name in _aliases(molecule):
                    return _add_molecule(found, molecule)
        return found

    def _search(self, table: str, field: str, words: str) -> list[dict[str, Any]]:
        """Search a table, page after page."""
        url = f"{self._root}/{table}"
        found: list[dict[str, Any]] = []
        for page in range(_PAGES):
            query = {
                "order": "1",
                "orderBy": "id",
                "searchFields": field,
                "search": words,
                "page": str(page),
                "pageSize": str(_PAGE_SIZE),
            }
            answer = self._page(url, query)
            found += answer["data"]
            total = answer.get("totalCount")
            all_there = isinstance(total, int) and len(found) >= total
            if answer.get("morePages") is not True or not answer["data"] or all_there:
                return found
        raise MetadataError(
            f"{self._web.at(url)} finds more than {_PAGES * _PAGE_SIZE} of {table} "
            "for one search; write the whole lot"
        )

    def _page(self, url: str, query: Mapping[str, str]) -> dict[str, Any]:
        response = self._web.ask("GET", url, params=query)
        reason = {
            401: "refuses the token; look whether TARS_SCOPE is right",
            403: "does not let the application read; have it granted in Entra ID",
            404: "has nothing at this address; look whether TARS_RESOURCE is right",
        }.get(response.status_code, f"answered {response.status_code}")
        if response.status_code != 200:
            raise MetadataError(f"{self._web.at(url)} {reason}")
        answer = self._web.json(response)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise MetadataError(f"{self._web.at(url)} answered without a list of data")
        found: dict[str, Any] = answer
        return found


def _read_lot(lot: str, told: Mapping[str, Any]) -> Material:
    """Read what a lot says of itself."""
    preparation = _inner(told, "viralPrep")
    type_name = " ".join(str(_inner(preparation, "viralPrepType").get("name") or "").split())
    kind, protocol = _preparation(type_name)
    aliases = _aliases(_inner(preparation, "virus"))
    titer, notes = _titer(told)
    prepared, doubts = _day(told.get("datePrepped"))
    notes += doubts
    if type_name and not (kind or protocol):
        notes.append(f'TARS\'s type of preparation is "{type_name}"')
    return Material(
        lot=lot,
        virus=_matching(_VIRUS, aliases),
        plasmid=_matching(_PLASMID, aliases),
        name=_genome(aliases),
        prepared=prepared,
        preparation=kind,
        protocol=protocol,
        titer=titer,
        notes=tuple(f"lot {lot}: {note}" for note in notes),
    )


def _preparation(type_name: str) -> tuple[str | None, str | None]:
    """Return the kind of a preparation and its protocol; what the type does not say is None."""
    name = _DASH.sub("-", type_name)
    both = _TYPE.fullmatch(name)
    stated = (both.group(1).capitalize(), both.group(2) or None) if both else (None, None)
    return _PREPARATIONS_IN_ANY_CASE.get(name.casefold(), stated)


def _matching(pattern: re.Pattern[str], aliases: Sequence[str]) -> str | None:
    """Return the first name of a kind; the preferred one comes first."""
    return next((name for name in aliases if pattern.fullmatch(name)), None)


def _genome(aliases: Sequence[str]) -> str | None:
    """Return the name of the genome: one that looks like it, or else one that is no id."""
    others = [name for name in aliases if not (_VIRUS.fullmatch(name) or _PLASMID.fullmatch(name))]
    return _matching(_GENOME, others) or next(iter(others), None)


def _add_molecule(found: Material, molecule: Mapping[str, Any]) -> Material:
    aliases = _aliases(molecule)
    addgene = molecule.get("addgeneId")
    return replace(
        found,
        plasmid=_matching(_PLASMID, aliases) or found.plasmid,
        name=molecule.get("fullName") or found.name,
        addgene_id=str(addgene) if addgene else None,
    )


def _molecule_names(lot: Mapping[str, Any]) -> list[str]:
    """Name what to search the molecules for: those that the virus names, else its genome."""
    virus = _inner(_inner(lot, "viralPrep"), "virus")
    molecules = virus.get("molecules")
    named = [
        aliases[0]
        for molecule in (molecules if isinstance(molecules, list) else [])
        if isinstance(molecule, dict) and (aliases := _aliases(molecule))
    ]
    return named or [name for name in _aliases(virus) if not _VIRUS.fullmatch(name)]


def _aliases(thing: Mapping[str, Any]) -> list[str]:
    """List the names of a virus or molecule, the preferred one first."""
    told = thing.get("aliases")
    aliases = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    aliases.sort(key=lambda one: one.get("isPreferred") is not True)
    return [one["name"] for one in aliases if isinstance(one.get("name"), str) and one["name"]]


def _day(words: Any) -> tuple[str | None, list[str]]:
    """Read the day of `2023-02-04T00:00:00Z`, which TARS keeps as a day of no zone.

    Returns
    -------
    tuple
        The day, and a note if there is a value that cannot be meant.
    """
    if words in (None, ""):
        return None, []
    try:
        day = date.fromisoformat(str(words)[:10])
    except ValueError:
        return None, [f"TARS's date of preparation is {quoted(words)}, which is not a date"]
    if not is_plausible(day):
        return None, [f"TARS's date of preparation is {quoted(words)}, which is not plausible"]
    return day.isoformat(), []


def _titer(lot: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Take the titer that is preferred; without one, the one that all measurements agree on.

    Returns
    -------
    tuple
        The titer, and a note of each value that is stated and not taken for lack of a decision.
    """
    told = lot.get("titers")
    entries = told if isinstance(told, list) else [told]
    odd = [{"result": str(one)} for one in entries if not isinstance(one, dict | None)]
    titers = [*(one for one in entries if isinstance(one, dict)), *odd]
    preferred = [one for one in titers if one.get("isPreferred") is True]
    numbers, unusable = _results(preferred or titers)
    notes = []
    if unusable:
        shown = listed([quoted(one) for one in unusable], separator=", ")
        notes.append(f"TARS has titers that are no numbers above 0: {shown}")
    if len(numbers) > 1:
        words = f"TARS has the titers {listed([str(one) for one in numbers], separator=', ')}"
        return None, [*notes, f"{words}, and none or several are preferred"]
    if numbers:
        return numbers[0], notes
    others, _ = _results(titers)
    if others:
        words = "TARS's preferred titer has no result that can be used; titers not preferred"
        notes.append(f"{words}: {listed([str(one) for one in others], separator=', ')}")
    return None, notes


def _results(titers: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Any]]:
    """Return the different results of measurements, and what is stated and is no titer."""
    results = [one.get("result") for one in titers]
    stated = [one for one in results if one not in (None, "")]
    numbers = [round(one) for one in stated if _is_titer(one)]
    return list(dict.fromkeys(numbers)), [one for one in stated if not _is_titer(one)]


def _is_titer(value: Any) -> bool:
    """Return whether a value is a number of genome copies."""
    return type(value) in (int, float) and 0.5 < value < 1e30


def _inner(thing: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = thing.get(name)
    return inner if isinstance(inner, dict) else {}


def _viruses(content: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Find the viruses that name a lot: the surgery, the material and the lot of each."""
    for part in _dicts(content.get("subject_procedures")):
        for procedure in [*_dicts(part.get("procedures")), *_dicts(part.get("injections"))]:
            for material in _dicts(procedure.get("injection_materials")):
                lot = _inner(material, "tars_identifiers").get("prep_lot_number")
                is_virus = material.get("material_type") == "Virus" or _is_second(material)
                if is_virus and isinstance(lot, str) and lot:
                    yield part, material, lot


def _is_second(material: Mapping[str, Any]) -> bool:
    """Return whether a material is a virus as generation 2 of the schema writes it."""
    return material.get("object_type") == "Viral material"


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _complete(part: dict[str, Any], virus: dict[str, Any], known: Material) -> None:
    """Write into a virus what is known; a titer that was told is that of the mixture, and stays."""
    called = virus.get("name")
    lines = str(part.get("notes") or "").splitlines()
    lines += [note for note in known.notes if note not in lines]
    plasmids = [known.plasmid] if known.plasmid else None
    second = _is_second(virus)
    earlier = virus["tars_identifiers"]
    of_tars = {
        "virus_tars_id": known.virus,
        "plasmid_tars_alias": plasmids if second else known.plasmid,
        "prep_lot_number": known.lot,
        "prep_date": known.prepared,
        "prep_type": known.preparation,
        "prep_protocol": known.protocol,
    }
    virus["tars_identifiers"] = {
        **({"object_type": "Tars virus identifiers"} if second else {}),
        **earlier,
        **{key: earlier.get(key) if value is None else value for key, value in of_tars.items()},
    }
    if virus.get("titer") is None:
        virus["titer"] = known.titer
    if known.addgene_id and not virus.get("addgene_id"):
        virus["addgene_id"] = {
            "name": known.name or known.plasmid or known.addgene_id,
            "abbreviation": None,
            "registry": terms.registry(Generation.V2 if second else Generation.V0, "Addgene"),
            "registry_identifier": known.addgene_id,
        }
    if known.name and known.name != called:
        virus["name"] = known.name
        if called and called != known.lot:
            lines.append(f"{known.name} ({known.lot}) is called there: {called}")
    part["notes"] = "\n".join(lines) or None
