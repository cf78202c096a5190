"""Entra ID and Microsoft Graph on loopback: tokens that end, lists with pages and filters."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.support.https import HttpsServer, Reply, Request

TENANT, CLIENT_ID, SECRET = "lab.example.org", "b7e1", "hunter2-s3cret"
_SITE = re.compile(r"/v1\.0/sites/(.+?):?/lists/(.+)/items")


class EntraServer(HttpsServer):
    """Gives tokens for one application of one tenant, and knows which are good.

    Attributes
    ----------
    lasts : int
        For how many seconds it says a token is good.
    """

    scope = ""

    def __init__(self) -> None:
        super().__init__()
        self.lasts: Any = 3599
        self.good: set[str] = set()

    def revoke(self) -> None:
        """Let all tokens end at once."""
        self.good.clear()

    @property
    def tokens_given(self) -> int:
        """How often a token was asked for."""
        return len(self.asked("/oauth2/"))

    def answer(self, request: Request) -> Reply:
        """Give a token, or what a token gives access to."""
        if "/oauth2/" in request.path:
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.good:
            error = {"code": "InvalidAuthenticationToken", "message": "Lifetime has ended."}
            return Reply(401, {"error": error})
        return self.resource(request)

    def resource(self, request: Request) -> Reply:
        """Answer one who may ask."""
        raise NotImplementedError

    def _token(self, request: Request) -> Reply:
        """Speak as the v2.0 endpoint does (OAuth 2.0 client credentials)."""
        form = request.form
        if request.path != f"/{TENANT}/oauth2/v2.0/token":
            return _refusal(400, "invalid_request", 90002, "Tenant 'x' not found.")
        if form.get("grant_type") != "client_credentials" or request.method != "POST":
            return _refusal(400, "unsupported_grant_type", 70003, "Not supported.")
        if form.get("client_id") != CLIENT_ID:
            return _refusal(400, "unauthorized_client", 700016, "Application not found.")
        if form.get("client_secret") != SECRET:
            return _refusal(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if form.get("scope") != (self.scope or f"{self.url}/.default"):
            return _refusal(400, "invalid_scope", 70011, "The scope is not valid.")
        token = secrets.token_urlsafe(24)
        self.good.add(token)
        answer = {"token_type": "Bearer", "expires_in": self.lasts, "access_token": token}
        return Reply(200, answer)


def _refusal(status: int, error: str, code: int, words: str) -> Reply:
    description = f"AADSTS{code}: {words} Trace ID: 0 Correlation ID: 0\r\nTimestamp: 2026"
    return Reply(status, {"error": error, "error_description": description, "error_codes": [code]})


@dataclass
class ListOnGraph:
    """A list of a site."""

    items: list[dict[str, Any]]
    indexed: bool = True
    column_types: dict[str, str] = field(default_factory=dict)


class GraphServer(EntraServer):
    """Serves lists of one site, filtered and in pages.

    Parameters
    ----------
    site : str
        As it stands in the address.
    **lists
        Their cells, by title.
    """

    def __init__(self, site: str = "lab.sharepoint.com,1,2", **lists: ListOnGraph) -> None:
        super().__init__()
        self.site = site
        self.lists = lists
        self.page_size = 2

    def resource(self, request: Request) -> Reply:
        """Give a page of a list's items."""
        place = _SITE.fullmatch(request.path)
        if place is None or place[1] != self.site or place[2] not in self.lists:
            return _error(404, "itemNotFound", "The specified list was not found")
        chosen = self.lists[place[2]]
        prefer = request.headers.get("prefer", "")
        if not chosen.indexed and "HonorNonIndexedQueriesWarningMayFailRandomly" not in prefer:
            words = "Field cannot be referenced in filter or orderby as it is not indexed."
            return _error(400, "invalidRequest", words)
        if request.query.get("expand") != "fields" and request.query.get("$expand") != "fields":
            items: list[Any] = [{"id": cells.get("id")} for cells in chosen.items]
        else:
            clauses = re.split(r" or (?=fields/\w+ eq ')", request.query.get("$filter", ""))
            wanted = [re.fullmatch(r"fields/(\w+) eq '(.*)'", one, re.S) for one in clauses]
            if any(
                one is None or re.search("(?<!')'(?!')", one[2].replace("''", "")) for one in wanted
            ):
                return _error(400, "invalidRequest", "Invalid filter clause")
            values = {one[1]: one[2].replace("''", "'").lower() for one in wanted if one}
            items = [
                {"id": str(cells.get("id")), "fields": cells}
                for cells in chosen.items
                if any(  # as loose as it may be
                    value in str(cells.get(column)).lower() for column, value in values.items()
                )
            ]
        start = int(request.query.get("$skiptoken", 0))
        page: dict[str, Any] = {"value": items[start : start + self.page_size]}
        if start + self.page_size < len(items):
            base = re.sub(r"&\$skiptoken=\d+", "", request.target)
            page["@odata.nextLink"] = f"{self.url}{base}&$skiptoken={start + self.page_size}"
        return Reply(200, page)


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message}})
