"""TARS on loopback: lots and molecules, searched loosely and given in pages."""

from typing import Any

from tests.support.entra import EntraServer
from tests.support.https import Reply, Request

SCOPE = "api://tars/.default"


def lot(name: str = "VT3214g", **changes: Any) -> dict[str, Any]:
    """Make a lot, as TARS tells it."""
    return {
        "lot": name,
        "datePrepped": "2023-02-04T00:00:00Z",
        "viralPrep": {
            "viralPrepType": {"name": "Purified-SOP#VC003"},
            "virus": {
                "aliases": [
                    alias("pAAV-Syn-Flex-TREx2-tTA", False),
                    alias("AiV300024", True),
                ],
                "molecules": [],
            },
        },
        "titers": [
            {"isPreferred": False, "result": 1},
            {"isPreferred": True, "result": 41300000000000},
        ],
        "id": f"id-{name}",
    } | changes


def molecule(**changes: Any) -> dict[str, Any]:
    """Make a molecule, as TARS tells it."""
    return {
        "aliases": [alias("pAAV-Syn-Flex-TREx2-tTA", False), alias("AiP300001", True)],
        "fullName": "pAAV-Syn-Flex-TREx2-tTA-WPRE",
        "addgeneId": 12345,
        "id": "d30e",
    } | changes


def alias(name: str, preferred: bool) -> dict[str, Any]:
    """Make a name of a virus or molecule."""
    return {"name": name, "isPreferred": preferred, "citation": None}


class TarsServer(EntraServer):
    """Searches lots and molecules.

    Parameters
    ----------
    lots, molecules : list
        What it knows.
    """

    scope = SCOPE

    def __init__(self, lots: list[Any] | None = None, molecules: list[Any] | None = None) -> None:
        super().__init__()
        self.lots = [lot()] if lots is None else lots
        self.molecules = [molecule()] if molecules is None else molecules
        self.page_size: int | None = None

    def resource(self, request: Request) -> Reply:
        """Give a page of what was searched for."""
        query = request.query
        words = query["search"].lower()
        if request.path == "/tars/api/v1/ViralPrepLots" and query["searchFields"] == "lot":
            rows = [one for one in self.lots if words in str(one["lot"]).lower()]
        elif request.path == "/tars/api/v1/Molecules" and query["searchFields"] == "name":
            rows = [one for one in self.molecules if words in str(one).lower()]
        else:
            return Reply(404, {"title": "Not Found"})
        size = self.page_size or int(query["pageSize"])
        page = int(query["page"])
        return Reply(
            200,
            {
                "data": rows[page * size : (page + 1) * size],
                "totalCount": len(rows),
                "pageSize": size,
                "page": page,
                "morePages": (page + 1) * size < len(rows),
            },
        )
