"""Instruments and rigs from SLIMS: the JSON file that is attached to a record of that name.

`{host}/rest/ReferenceDataRecord/advanced` finds the record, `{host}/rest/attachment/…` lists what
is attached to it, and `{host}/rest/repo/{pk}` gives the file. If no reference data has the
document, the table `Instrument` is searched likewise. All with basic authentication.
"""

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.http import Patience, Web, client
from aind_data_transfer_service.settings.metadata_sources import SlimsSettings

logger = logging.getLogger(__name__)
_TABLE, _INSTRUMENTS = "ReferenceDataRecord", "Instrument"
_NAMES = {_TABLE: "rdrc_name", _INSTRUMENTS: "nstr_name"}
_MADE = {_TABLE: "rdrc_createdOn", _INSTRUMENTS: "nstr_createdOn"}
"""The columns of a record's name and age, by table."""
_FILE_COLUMN = "rdrc_cf_instrumentJsonAttachment"
"""A column of newer records: the number of the attachment that is the document."""
_MOST_FILES = 10
"""Of a record, that are read to find a document."""
_IDS = {"rig": "rig_id", "instrument": "instrument_id"}
"""How a document of a kind names itself, and by which it is told from the other kind."""


class _NotReadable(MetadataError):
    """A table is not there, or not for this user."""


class SlimsSource(SourceBase):
    """Reads the documents that are attached to reference data.

    May be used from several threads at once.

    Parameters
    ----------
    settings : SlimsSettings
        Where SLIMS is, and who asks; set.
    patience : Patience
        How long and how often to ask.
    """

    name = "slims"
    kinds = frozenset({"instrument", "rig"})

    def __init__(self, settings: SlimsSettings, patience: Patience = Patience()):
        self._root = f"{(settings.host or '').rstrip('/')}/rest"
        self._type = settings.record_type
        password = settings.password.get_secret_value() if settings.password else ""
        login = (settings.username or "", password)
        self._web = Web("SLIMS", client(settings.ca_file, login), patience)

    def close(self) -> None:
        """Let go of the connections."""
        self._web.close()

    def instrument(self, instrument_id: str) -> Found | None:
        """Ask for `instrument.json` of an instrument."""
        return self._document("instrument", instrument_id)

    def rig(self, rig_id: str) -> Found | None:
        """Ask for `rig.json` of a rig."""
        return self._document("rig", rig_id)

    def _document(self, kind: str, name: str) -> Found | None:
        """Take a document from the first table that has it.

        The table of instruments is an addition: a user who may not read it gets what the other has.
        """
        found = self._of_table(_TABLE, kind, name)
        if found is not None:
            return found
        try:
            return self._of_table(_INSTRUMENTS, kind, name)
        except _NotReadable as error:
            logger.warning("no %s of %s from the table %s: %s", kind, name, _INSTRUMENTS, error)
            return None

    def _of_table(self, table: str, kind: str, name: str) -> Found | None:
        """Take the newest record of a name whose document is not one of the other kind."""
        records = self._records(table, name)
        for record in records:
            attached = self._attached(table, record, kind, name)
            if attached is None:
                continue
            document, notes = attached
            if len(records) > 1:
                number = record["pk"]
                notes.append(f"SLIMS has {len(records)} records {name}; record {number} is taken")
            named = document.get(_IDS[kind])
            if named != name:
                notes.append(f"the document attached to {name} has the {_IDS[kind]} {named}")
            source = f"{self._web.at(self._root)}, {table} {record['pk']}"
            return Found(document, named is not None, source, notes=tuple(notes))
        return None

    def _records(self, table: str, name: str) -> list[dict[str, Any]]:
        """Find the records that are called exactly so, the newest first."""
        criteria: dict[str, Any] = _equals(_NAMES[table], name)
        if self._type and table == _TABLE:
            both = [criteria, _equals("rdty_name", self._type)]
            criteria = {"operator": "and", "criteria": both}
        body: dict[str, Any] = {"sortBy": [], "startRow": None, "endRow": None}
        body["criteria"] = criteria
        records = self._entities(f"{table}/advanced", json=body)
        same = [one for one in records if _value(one, _NAMES[table]) in (name, None)]
        return sorted(same, key=lambda one: _age(one, _MADE[table]), reverse=True)

    def _attached(
        self, table: str, record: Mapping[str, Any], kind: str, name: str
    ) -> tuple[dict[str, Any], list[str]] | None:
        """Read the document of a record: the newest JSON file that is of a kind.

        A file of reference data that does not say its kind is taken if there is no other; what is
        attached to an instrument may be anything.
        """
        files = self._files(table, record, name)
        unclear: tuple[dict[str, Any], list[str]] | None = None
        for place, (number, file) in enumerate(files[:_MOST_FILES]):
            document = self._read(number)
            if place == 0 and (
                document is None or table == _TABLE and not isinstance(document, dict)
            ):
                raise MetadataError(
                    f"{self._web.at(self._root)}: {file}, attached to {name}, is no JSON document; "
                    "attach one that is"
                )
            which = "the newest that is a " + kind if place else "the newest"
            words = f"{len(files)} JSON files are attached to {name}; {which} is taken: {file}"
            notes = [words] if len(files) > 1 else []
            if _kind(document) == kind:
                return document, notes
            if _kind(document) is None and table == _TABLE and unclear is None:
                unclear = document, notes
        return unclear

    def _read(self, number: int) -> Any:
        """Read an attached file; None if it is no JSON."""
        response = self._get(f"repo/{number}")
        try:
            return response.json()
        except (ValueError, RecursionError):
            return None

    def _files(self, table: str, record: Mapping[str, Any], name: str) -> list[tuple[int, str]]:
        """List the numbers and names of a record's JSON files: that of its column, or the newest
        first."""
        number = _value(record, _FILE_COLUMN)
        if isinstance(number, int):
            return [(number, f"the file of {_FILE_COLUMN}")]
        attachments = self._entities(f"attachment/{quote(table, safe='')}/{record['pk']}")
        files = [one for one in attachments if _file_name(one).lower().endswith(".json")]
        if not files and table == _TABLE:  # most instruments are an inventory, without documents
            there = ", ".join(_file_name(one) for one in attachments[:5]) or "nothing"
            raise MetadataError(
                f"{self._web.at(self._root)}: no JSON file is attached to {name} ({there} is); "
                "attach the document to the record"
            )
        files.sort(key=lambda one: _age(one, "attm_file_date_created"), reverse=True)
        return [(one["pk"], _file_name(one)) for one in files]

    def _entities(self, path: str, **details: Any) -> list[dict[str, Any]]:
        """Ask for a list of entities."""
        answer = self._web.json(self._get(path, **details))
        entities = answer.get("entities") if isinstance(answer, dict) else None
        if isinstance(entities, list) and all(
            isinstance(one, dict) and isinstance(one.get("pk"), int) for one in entities
        ):
            return entities
        raise MetadataError(
            f"{self._web.at(self._root)} answered without a list of entities; "
            "look whether SLIMS_HOST is the address of its REST service"
        )

    def _get(self, path: str, **details: Any) -> Any:
        response = self._web.ask("GET", f"{self._root}/{path}", **details)
        if response.status_code == 200:
            return response
        reason = {
            401: "refuses the login; look at SLIMS_USERNAME and SLIMS_PASSWORD",
            403: "does not let this user read; have it granted reference data and attachments",
            404: "has nothing at this address; look whether SLIMS_HOST is right",
        }.get(response.status_code, f"answered {response.status_code}")
        failure = _NotReadable if response.status_code in (403, 404) else MetadataError
        raise failure(f"{self._web.at(self._root)} {reason}")


def _equals(field: str, value: str) -> dict[str, str]:
    """Write a criterion of SLIMS's."""
    return {"fieldName": field, "operator": "equals", "value": value}


def _value(entity: Mapping[str, Any], column: str) -> Any:
    """Read a column of an entity."""
    columns = entity.get("columns")
    for one in columns if isinstance(columns, list) else []:
        if isinstance(one, dict) and one.get("name") == column:
            return one.get("value")
    return None


def _age(entity: Mapping[str, Any], column: str) -> tuple[float, int]:
    """Tell by what entities are put in order: when it was made, or else its number."""
    when = _value(entity, column)
    return (when if isinstance(when, (int, float)) else 0.0, entity["pk"])


def _file_name(attachment: Mapping[str, Any]) -> str:
    name = _value(attachment, "attm_file_filename") or _value(attachment, "attm_name")
    return str(name or f"attachment {attachment['pk']}")


def _kind(document: Any) -> str | None:
    """Tell a rig from an instrument; None where the document does not say."""
    if not isinstance(document, dict):
        return None
    return next((kind for kind, name in _IDS.items() if document.get(name)), None)
