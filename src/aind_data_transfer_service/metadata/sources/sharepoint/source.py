"""Procedures from lists on SharePoint, through Microsoft Graph.

The neurosurgery group (NSB) has lists of surgeries, Laboratory Animal Services (LAS) a list of
requests.
`GET /v1.0/sites/{site}/lists/{list}/items?expand=fields&$filter=…` with a token of Entra ID;
further pages stand at `@odata.nextLink`. A lab has any number of lists, each of a known layout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from aind_data_transfer_service.concurrency.gather import ask_together
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata import procedure_builders
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.entra_auth import Application, EntraAuth
from aind_data_transfer_service.metadata.http import Patience, Web, client
from aind_data_transfer_service.metadata.merge_procedures import merge_procedures
from aind_data_transfer_service.metadata.sources.sharepoint import las_2020, nsb_2019, nsb_2023
from aind_data_transfer_service.metadata.sources.sharepoint.field_values import Item, identifier
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.metadata_sources import SharePointSettings

_PAGES = 100
"""More pages than any subject has; a server that always names another is not followed on."""
_NOT_INDEXED = {"Prefer": "HonorNonIndexedQueriesWarningMayFailRandomly"}
"""Without it Graph refuses to filter on a column that has no index. It may still refuse, where the
list has more items than its threshold."""


@dataclass(frozen=True)
class _List:
    """One list, and how its items are read."""

    label: str
    name: str
    """Its id or its title."""
    columns: tuple[str, ...]
    """Hold subjects' ids."""
    surgeries: Callable[[Mapping[str, Any], tzinfo, str], tuple[list[dict[str, Any]], list[str]]]


class SharePointSource(SourceBase):
    """Reads a subject's surgeries from the lists.

    May be used from several threads at once.

    Parameters
    ----------
    settings : SharePointSettings
        Where the lists are, and who asks; set.
    zone : tzinfo
        Where the surgeries are done.
    patience : Patience
        How long and how often to ask.
    """

    name = "sharepoint"
    kinds = frozenset({"procedures"})

    def __init__(self, settings: SharePointSettings, zone: tzinfo, patience: Patience = Patience()):
        self._root = settings.graph_url.rstrip("/")
        self._site = settings.site or ""
        self._zone = zone
        named: dict[str | None, str] = {settings.list_2019: "2019", settings.list_2023: "2023"}
        named.update(settings.lists or {})
        self._lists = [_list(name, layout) for name, layout in named.items() if name]
        application = Application(
            settings.authority,
            settings.tenant or "",
            settings.client_id or "",
            settings.client_secret.get_secret_value() if settings.client_secret else "",
            f"{self._root}/.default",
        )
        ask_entra = Web("Entra ID", client(settings.ca_file), patience)
        self._auth = EntraAuth(application, ask_entra)
        http = client(settings.ca_file, self._auth)
        self._web = Web("Microsoft Graph", http, patience)

    def close(self) -> None:
        """Let go of the connections."""
        self._web.close()
        self._auth.close()

    def procedures(self, subject_id: str) -> Found | None:
        """Ask all lists for the surgeries of a subject, at once.

        Where one of them fails and another has something, that is given, and is not complete.
        """
        questions = [partial(self._of_list, one, subject_id) for one in self._lists]
        asked = ask_together(questions, len(questions))
        found, failed = [], {}
        for one, task in zip(self._lists, asked):
            try:
                answer = task.result()
            except MetadataError as error:
                failed[one] = str(error)
            else:
                found += [answer] if answer is not None else []
        if failed and not found:
            raise MetadataError("; ".join(dict.fromkeys(failed.values())))
        if not found:
            return None
        notes = [f"{_place(one)}: {words}" for one, words in failed.items()]
        return procedure_builders.with_notes(merge_procedures(subject_id, found), notes, not failed)

    def _of_list(self, one: _List, subject_id: str) -> Found | None:
        """Ask one list, and read the items that are this subject's.

        The cells of an item that states no surgery are kept in the notes of the document.
        """
        items, notes, complete = self._items(one, subject_id)
        surgeries: list[dict[str, Any]] = []
        remarks: list[str] = []
        others = 0
        wanted = identifier(subject_id)
        for fields in items:
            if wanted not in [identifier(fields.get(column)) for column in one.columns]:
                others += 1
                continue
            made, problems = one.surgeries(fields, self._zone, subject_id)
            surgeries += made
            notes += problems
            if not made:
                about = f"item {fields['id']}: " if fields.get("id") else ""
                remarks += problems + [f"{about}{line}" for line in Item(fields).rest()]
        if others:
            notes.append(f"{others} of its items are of another subject and left out")
        if not surgeries and not complete:
            raise MetadataError("; ".join(notes))
        if len(items) == others:
            return None
        found = procedure_builders.document(subject_id, surgeries, _place(one), remarks)
        return procedure_builders.with_notes(found, notes, complete)

    def _items(self, one: _List, subject_id: str) -> tuple[list[dict[str, Any]], list[str], bool]:
        """Fetch the cells of all items, page after page; what came before a failure is kept."""
        url = f"{self._root}/v1.0/sites/{site_path(self._site)}/lists/{quote(one.name, safe='')}"
        url += "/items"
        query: dict[str, str] | None = {
            "expand": "fields",
            "$filter": " or ".join(
                f"fields/{column} eq {literal(subject_id)}" for column in one.columns
            ),
        }
        items: list[dict[str, Any]] = []
        seen: set[str] = set()
        while True:
            seen.add(url)
            try:
                page = self._page(one, url, query)
                items += [_fields(item) for item in page["value"]]
                url, query = self._next(page), None
            except MetadataError as error:
                if not items:
                    raise
                return items, [f"not all items could be read: {error}"], False
            if not url:
                return items, [], True
            if url in seen or len(seen) >= _PAGES:
                words = f"{self._web.at(url)} names pages without end for the list {one.name}"
                return items, [words], False

    def _page(self, one: _List, url: str, query: dict[str, str] | None) -> dict[str, Any]:
        """Fetch one page."""
        response = self._web.ask("GET", url, params=query, headers=_NOT_INDEXED)
        where = f"{self._web.at(url)}, list {one.name}"
        if response.status_code != 200:
            columns = " and ".join(one.columns)
            raise MetadataError(f"{where}: {_reason(response, columns)}")
        page = self._web.json(response)
        items = page.get("value") if isinstance(page, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise MetadataError(f"{where}: the answer holds no list of items")
        found: dict[str, Any] = page
        return found

    def _next(self, page: Mapping[str, Any]) -> str:
        """Give the address of the next page; the token goes to no other host."""
        link = page.get("@odata.nextLink") or ""
        if link and urlsplit(str(link))[:2] != urlsplit(self._root)[:2]:
            raise MetadataError(
                f"{self._web.at(self._root)} names a next page on another host "
                f"({urlsplit(str(link)).netloc}), which is not followed"
            )
        return str(link)


def _list(name: str, layout: str) -> _List:
    """Return how the items of a list are read."""
    if layout == "las":
        return _List("LAS", name, las_2020.SUBJECT_COLUMNS, las_2020.surgeries)
    label, module = {"2019": ("NSB 2019-2022", nsb_2019), "2023": ("NSB 2023", nsb_2023)}[layout]

    def read(fields: Mapping[str, Any], zone: tzinfo, _subject_id: str) -> Any:
        return module.surgeries(fields, zone)

    return _List(label, name, (module.SUBJECT_COLUMN,), read)


def literal(value: str) -> str:
    """Write text as OData 4.01 wants it: in apostrophes, and those in it doubled."""
    return "'" + value.replace("'", "''") + "'"


def site_path(site: str) -> str:
    """Write a site as Graph wants it in an address.

    A site is named by its id (`host,guid,guid`) or by its place (`host:/sites/NSB`); the latter is
    closed with a colon.
    """
    host, colon, path = site.partition(":")
    if not colon:
        return quote(site, safe=",")
    return f"{quote(host, safe='')}:/{quote(path.strip('/:'), safe='/')}:"


def _place(one: _List) -> str:
    """Name a list for people."""
    return f"SharePoint, {one.label} ({one.name})"


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = item.get("fields")
    if not isinstance(fields, dict):
        raise MetadataError(f"item {item.get('id')} comes without its cells")
    return {"id": item.get("id"), **fields}


def _reason(response: Any, column: str) -> str:
    """Say in words why Graph refuses, and what would help."""
    try:
        said = response.json()["error"]
        words = str(said.get("message") or said.get("code") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = ""
    said_so = f" ({redact(words).strip().splitlines()[0][:200]})" if words.strip() else ""
    if response.status_code == 401:
        return f"the token is refused; look whether SHAREPOINT_GRAPH_URL is right{said_so}"
    if response.status_code == 403:
        return (
            f"the application may not read it; grant it Sites.Selected or Sites.Read.All{said_so}"
        )
    if response.status_code == 404:
        return (
            f"there is no such site or list; look at SHAREPOINT_SITE and the list's name{said_so}"
        )
    if "index" in words.lower() or "threshold" in words.lower():
        return f"the list is too large to be searched; have {column} indexed in it{said_so}"
    return f"it answered {response.status_code}{said_so}"
