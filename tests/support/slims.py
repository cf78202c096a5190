"""SLIMS on loopback: reference data, what is attached to it, and the files themselves."""

import base64
import json
from typing import Any

from tests.support.https import HttpsServer, Reply, Request

USER, PASSWORD = "reader", "hunter2-Ü:"
_ROOT = "/slimsrest/rest/"


class SlimsServer(HttpsServer):
    """Serves records with attachments."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[int, dict[str, Any]] = {}
        self.attachments: dict[int, list[int]] = {}
        self.files: dict[int, tuple[str, Any, int]] = {}
        self.instruments: set[int] = set()

    def has(
        self, name: str, *files: tuple[str, Any], made: int = 0, kind: str = "AIND Instruments"
    ) -> None:
        """Have it know a record, with files attached, each newer than the one before."""
        record = len(self.records) + 1
        self.records[record] = {"rdrc_name": name, "rdrc_createdOn": made, "rdty_name": kind}
        self.attachments[record] = []
        for file_name, content in files:
            number = 100 + len(self.files)
            self.files[number] = (file_name, content, number)
            self.attachments[record].append(number)

    def has_instrument(self, name: str, *files: tuple[str, Any], made: int = 0) -> None:
        """Have it know a record of the table `Instrument`, with files attached."""
        self.has(name, *files)
        self.records[len(self.records)] = {"nstr_name": name, "nstr_createdOn": made}
        self.instruments.add(len(self.records))

    def answer(self, request: Request) -> Reply:
        """Answer whoever logs in."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            return Reply(401, b"Unauthorized", content_type="text/html")
        path = request.path.removeprefix(_ROOT).split("/")
        tables = ("ReferenceDataRecord", "Instrument")
        if request.path.startswith(_ROOT) and path[0] in tables and path[1:] == ["advanced"]:
            found = [
                number
                for number, record in self.records.items()
                if (number in self.instruments) == (path[0] == "Instrument")
                and _matches(record, request.json["criteria"])
            ]
            return _entities(path[0], {number: self.records[number] for number in found})
        if path[0] == "attachment" and path[1] in tables:
            numbers = self.attachments[int(path[2])]
            return _entities(
                "Attachment",
                {
                    number: {
                        "attm_file_filename": self.files[number][0],
                        "attm_file_date_created": self.files[number][2],
                    }
                    for number in numbers
                },
            )
        if path[0] == "repo":
            content = self.files[int(path[1])][1]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            return Reply(200, data, content_type="application/octet-stream")
        return Reply(404, {"errorMessage": "not here"})


def _matches(record: dict[str, Any], criteria: dict[str, Any]) -> bool:
    if criteria["operator"] == "and":
        return all(_matches(record, one) for one in criteria["criteria"])
    assert criteria["operator"] == "equals"
    return str(record[criteria["fieldName"]]).lower() == criteria["value"].lower()


def _entities(table: str, rows: dict[int, dict[str, Any]]) -> Reply:
    return Reply(
        200,
        {
            "entities": [
                {
                    "pk": number,
                    "tableName": table,
                    "columns": [{"name": name, "value": value} for name, value in row.items()],
                }
                for number, row in rows.items()
            ]
        },
    )
