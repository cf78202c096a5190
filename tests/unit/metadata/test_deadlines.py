"""Sources that keep us waiting: whoever has waited long enough can go, and the process can end."""

import os
import subprocess
import sys
import time
import unittest

from tests.support import slow
from tests.support.entra import CLIENT_ID, SECRET, TENANT
from tests.support.https import Fault, HttpsServer, Reply, Request, ca_file

ASK = """
from zoneinfo import ZoneInfo
from aind_data_transfer_service.concurrency.deadline_gather import ask_all
from aind_data_transfer_service.metadata.sources.sharepoint.source import SharePointSource
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.sources.tars import TarsSource
from aind_data_transfer_service.metadata.http import Patience
from aind_data_transfer_service.settings.metadata_sources import SharePointSettings, TarsSettings

virus = {"material_type": "Virus", "tars_identifiers": {"prep_lot_number": "VT1"}}
part = {"procedures": [{"injection_materials": [virus]}]}
content = {"subject_procedures": [part]}
sharepoint = SharePointSource(SharePointSettings(), ZoneInfo("UTC"), Patience(60.0))
tars = TarsSource(TarsSettings(), Patience(60.0))
inquiry = ask_all(
    {
        ("procedures", "sharepoint"): lambda: sharepoint.procedures("1"),
        ("procedures", "tars"): lambda: tars.enrich(Found(content, True, "x")),
    },
    0.5,
)
print(inquiry.answer("procedures", "sharepoint").problem)
print(inquiry.answer("procedures", "tars").problem)
"""


class Silent(HttpsServer):
    """Takes every question, and answers none."""

    def respond(self, request: Request) -> Reply | Fault:
        """Have everyone wait."""
        return Fault.HANG

    def answer(self, request: Request) -> Reply:
        """Say that all is well."""
        return Reply()


@slow
class Ending(unittest.TestCase):
    """A process that has sources under way."""

    def test_a_process_ends_whatever_its_sources_still_wait_for(self) -> None:
        server = self.enterContext(Silent())
        login = {"CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": SECRET, "AUTHORITY": server.url}
        environment = os.environ | {
            **{f"SHAREPOINT_{name}": value for name, value in login.items()},
            **{f"TARS_{name}": value for name, value in login.items()},
            "ENTRA_TENANT": TENANT,
            "CA_FILE": str(ca_file()),
            "SHAREPOINT_SITE": "lab,1,2",
            "SHAREPOINT_LIST_2019": "Old",
            "SHAREPOINT_GRAPH_URL": server.url,
            "TARS_RESOURCE": server.url,
            "TARS_SCOPE": "api://tars/.default",
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=45
        )
        self.assertEqual("", done.stderr)
        self.assertEqual(["did not answer within 0.5 s in all"] * 2, done.stdout.splitlines())
        self.assertLess(time.monotonic() - began, 30)
