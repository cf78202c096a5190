"""All six sources of metadata feed one asset: service, job process, and a server for each system.

Nothing stands in for a client: the job speaks TDS through pymssql to LabTracks, and HTTPS to Entra
ID, Graph, TARS and SLIMS, each on loopback.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from unittest.mock import patch
from zoneinfo import ZoneInfo

import httpx

from aind_data_transfer_service.cli.metadata import main as ask_sources
from aind_data_transfer_service.metadata.assemble import gather
from aind_data_transfer_service.metadata.asset_facts import Facts
from aind_data_transfer_service.metadata.documents import RECORD_NAME
from aind_data_transfer_service.metadata.registry import open_lab
from aind_data_transfer_service.metadata.schemas import RECORD, version_of
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.settings.upload import UploadSettings
from tests.support import entra, labtracks, slims, tars, wait_until
from tests.support.entra import GraphServer, ListOnGraph
from tests.support.https import Reply, ca_file
from tests.support.labtracks import Labtracks
from tests.support.metadata import MetadataServer
from tests.support.nsb import item_2019, item_2023
from tests.support.requests import upload_settings
from tests.support.service import Service
from tests.support.slims import SlimsServer
from tests.support.tars import TarsServer

ID = "690165"
ASSET = f"behavior_{ID}_2024-02-19_11-25-17"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "UNKNOWN")
SECRETS = (entra.SECRET, labtracks.PASSWORD, slims.PASSWORD)
FUNDER = {
    "name": "Allen Institute",
    "abbreviation": "AI",
    "registry": {"name": "Research Organization Registry", "abbreviation": "ROR"},
    "registry_identifier": "03cpe7c52",
}


def sample(kind: str) -> dict:
    """Read a document of the demo."""
    folder = files("aind_data_transfer_service.demo") / "metadata"
    return json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))


class SixSystems(unittest.TestCase):
    """The systems that metadata come from."""

    def setUp(self) -> None:
        """Start all of them."""
        self.folder = Path(tempfile.mkdtemp(prefix="all-sources-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.source, self.metadata = self.folder / "Behavior", self.folder / "Metadata"
        for folder in (self.source, self.metadata, self.folder / "lab" / "procedures"):
            folder.mkdir(parents=True)
        (self.source / "trials.csv").write_text("trial\n1\n", encoding="utf-8")
        self.write(self.metadata / "session.json", sample("session"))
        self.write(self.folder / "lab" / "procedures" / f"{ID}.json", self.training())
        self.labtracks = self.enterContext(Labtracks()).has_a_family()
        old = item_2019(ID, FiberImplant1=False)
        new = item_2023(ID, **{"Burr_x0020_hole_x0020_1": "Injection", "FiberImplant1DV": None})
        lists = {"Old": ListOnGraph([old]), "New": ListOnGraph([new])}
        self.graph = self.enterContext(GraphServer(**lists))
        self.tars = self.enterContext(TarsServer([tars.lot("VT3214g"), tars.lot("230929-12")]))
        self.slims = self.enterContext(SlimsServer())
        self.slims.has(sample("rig")["rig_id"], ("rig.json", sample("rig")))
        self.api = self.enterContext(MetadataServer())
        self.api.says("/project_names", ["Ephys Platform"])
        self.api.says("/funding/Ephys%20Platform", [{"funder": FUNDER, "investigators": "Bo Bee"}])
        self.variables = self.settings()
        self.enterContext(patch.dict(os.environ, self.variables))

    def write(self, path: Path, content: dict) -> None:
        """Write a document."""
        path.write_text(json.dumps(content), encoding="utf-8")

    def training(self) -> dict:
        """Make procedures that only the lab's folder knows."""
        part = {"procedure_type": "Training", "training_name": "wheel", "protocol_id": "p"}
        parts = [part | {"start_date": "2024-01-08", "notes": None}]
        return sample("procedures") | {"subject_procedures": parts, "notes": None}

    def settings(self) -> dict[str, str]:
        """Write what an administrator writes."""
        application = {
            "CLIENT_ID": entra.CLIENT_ID,
            "CLIENT_SECRET": entra.SECRET,
            "CA_FILE": str(ca_file()),
        }
        return {
            "METADATA_SERVICE_URL": self.api.url,
            "METADATA_FOLDER": str(self.folder / "lab"),
            "METADATA_SOURCES": '{"procedures": ["sharepoint", "folder", "tars"]}',
            "LABTRACKS_SERVER": "127.0.0.1",
            "LABTRACKS_PORT": str(self.labtracks.port),
            "LABTRACKS_DATABASE": "colony",
            "LABTRACKS_USER": "reader",
            "LABTRACKS_PASSWORD": labtracks.PASSWORD,
            "SHAREPOINT_SITE": self.graph.site,
            "SHAREPOINT_LIST_2019": "Old",
            "SHAREPOINT_LIST_2023": "New",
            "SHAREPOINT_AUTHORITY": self.graph.url,
            "SHAREPOINT_GRAPH_URL": self.graph.url,
            **{f"SHAREPOINT_{name}": value for name, value in application.items()},
            "TARS_RESOURCE": f"{self.tars.url}/tars",
            "TARS_SCOPE": tars.SCOPE,
            "TARS_AUTHORITY": self.tars.url,
            "ENTRA_TENANT": entra.TENANT,
            **{f"TARS_{name}": value for name, value in application.items()},
            "SLIMS_HOST": f"{self.slims.url}/slimsrest",
            "SLIMS_USERNAME": slims.USER,
            "SLIMS_PASSWORD": slims.PASSWORD,
            "CA_FILE": str(ca_file()),
        }


class AllSources(SixSystems):
    """One session, described by six systems."""

    def setUp(self) -> None:
        """Start a service that knows them."""
        super().setUp()
        self.service = self.enterContext(
            Service(
                destination=str(self.folder / "store"),
                default_s3_bucket="recordings",
                institution="NYU",
            )
        )
        self.client = self.enterContext(
            httpx.Client(base_url=self.service.url, trust_env=False, timeout=60)
        )

    def run_job(self) -> dict:
        """Submit the session, and give the job at its end."""
        text = upload_settings(self.source, metadata_dir=str(self.metadata))
        body = {"jobs": [{"upload_job_settings": text, "hpc_settings": "{}", "script": ""}]}
        answer = self.client.post("/api/submit_hpc_jobs", json=body)
        self.assertEqual(200, answer.status_code, answer.text)
        [response] = answer.json()["data"]["responses"]
        self.path = f"/api/jobs/{response['job_id']}"

        def ended() -> dict | None:
            job = self.client.get(self.path).json()["data"]["job"]
            return job if job["state"] in ENDED else None

        return wait_until(ended, 60, "the job's end")

    def documents(self) -> dict[str, dict]:
        """Give what the job told of its documents last."""
        events = self.client.get(self.path).json()["data"]["events"]
        told = [
            event["figures"]["documents"] for event in events if "documents" in event["figures"]
        ]
        return {row["name"]: row for row in told[-1]}

    def stored(self, name: str) -> dict:
        """Read a document of the asset."""
        path = self.folder / "store" / "recordings" / ASSET / name
        return json.loads(path.read_text(encoding="utf-8"))

    def test_one_asset_is_described_by_all_six(self) -> None:
        job = self.run_job()
        self.assertEqual(("COMPLETED", []), (job["state"], job["warnings"]), job)
        told = self.documents()
        for name, words in (
            ("subject.json", "LabTracks (127.0.0.1"),
            ("procedures.json", "SharePoint, NSB 2019-2022 (Old)"),
            ("procedures.json", "SharePoint, NSB 2023 (New)"),
            ("procedures.json", f"lab/procedures/{ID}.json"),
            ("procedures.json", "TARS"),
            ("rig.json", "SLIMS at 127.0.0.1"),
            ("session.json", "Metadata/session.json"),
            ("data_description.json", "funding from the metadata service"),
        ):
            self.assertIn(words, told[name]["source"])
        for name in ("subject", "rig", "session", "data_description", "processing"):
            self.assertEqual([], problems_of(name, self.stored(f"{name}.json")), name)
            self.assertEqual("Valid", told[f"{name}.json"]["status"])
        self.assertEqual("Valid", told["procedures.json"]["status"], told["procedures.json"])
        self.assert_procedures(self.stored("procedures.json"))
        self.assert_record(self.stored(RECORD_NAME))
        page = self.client.get(f"/jobs/{job['id']}").text
        self.assertIn("SLIMS at 127.0.0.1", page)
        self.assert_secrets_are_nowhere(page)

    def assert_procedures(self, document: dict) -> None:
        """See that each part tells its origin, and that the lots are completed."""
        parts = document["subject_procedures"]
        origins = {line for part in parts for line in part["notes"].splitlines()}
        for words in ("SharePoint, NSB 2019-2022", "SharePoint, NSB 2023", f"{ID}.json"):
            marks = [line for line in origins if line.startswith("source: ") and words in line]
            self.assertTrue(marks, words)
        text = json.dumps(document)
        self.assertIn("AiV300024", text)
        self.assertIn("AiP300001", text)

    def assert_record(self, record: dict) -> None:
        """See that the record repeats all of it, with what people asked for, and zones."""
        self.assertEqual([], problems_of(RECORD, record))
        self.assertEqual((ASSET, "Valid"), (record["name"], record["metadata_status"]))
        self.assertEqual(str(self.folder / "store" / "recordings" / ASSET), record["location"])
        kinds = ("subject", "procedures", "data_description", "session", "rig", "processing")
        statuses = {kind: self.documents()[f"{kind}.json"]["status"] for kind in kinds}
        self.assertEqual(dict.fromkeys(kinds, "Valid"), statuses)
        description = record["data_description"]
        self.assertEqual("Ephys Platform", description["project_name"])
        self.assertEqual("Bo Bee", description["investigators"][0]["name"])
        self.assertEqual("2024-02-19T11:25:17-08:00", description["creation_time"])
        pipeline = record["processing"]["processing_pipeline"]
        self.assertEqual("Anna Apple", pipeline["processor_full_name"])
        for kind in kinds:
            self.assertEqual(self.stored(f"{kind}.json"), record[kind])

    def assert_secrets_are_nowhere(self, page: str) -> None:
        """Search the page, and every file of the service and of the asset."""
        for secret in SECRETS:
            self.assertNotIn(secret, page)
            for folder in (self.service.data_dir, self.folder):
                for path in folder.rglob("*"):
                    if path.is_file():
                        self.assertNotIn(secret.encode(), path.read_bytes(), path)

    def test_what_fails_is_told_on_the_jobs_page_and_the_rest_arrives(self) -> None:
        refusal = Reply(503, {"title": "down"})
        self.slims.next("/slimsrest", *[refusal] * 9)
        self.graph.next("/lists/Old", *[refusal] * 9)
        self.labtracks.execute("UPDATE ANIMALS_COMMON SET SEX = 'X' WHERE ID = 690165")
        job = self.run_job()
        self.assertEqual("COMPLETED", job["state"], job)
        told = self.documents()
        self.assertEqual("Missing", told["rig.json"]["status"])
        self.assertFalse(told["procedures.json"]["complete"])
        notes = " ".join(told["procedures.json"]["notes"])
        self.assertIn("SharePoint, NSB 2019-2022 (Old): Microsoft Graph at", notes)
        self.assertEqual("Invalid", told["subject.json"]["status"])
        self.assertIn("sex: missing", told["subject.json"]["problems"])
        self.assertEqual("Invalid", self.stored(RECORD_NAME)["metadata_status"])
        page = self.client.get(f"/jobs/{job['id']}").text
        for words in ("sex: missing", "Not complete", "no rig.json of", "503"):
            self.assertIn(words, page)
        self.assert_secrets_are_nowhere(page)

    def test_a_subject_that_is_not_known_is_refused_when_it_is_submitted(self) -> None:
        text = upload_settings(self.source, subject_id="123456")
        body = {"jobs": [{"upload_job_settings": text, "hpc_settings": "{}", "script": ""}]}
        answer = self.client.post("/api/submit_hpc_jobs", json=body)
        self.assertEqual(406, answer.status_code)
        self.assertIn(
            "the metadata service and LabTracks and METADATA_FOLDER know no subject", answer.text
        )

    def test_the_command_shows_all_of_them(self) -> None:
        rig = sample("rig")["rig_id"]
        command = [sys.executable, "-m", "aind_data_transfer_service", "metadata", ID]
        done = subprocess.run(
            [*command, "--rig", rig, "--project", "Ephys Platform"],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)
        for words in (
            r"labtracks +found, Valid +\S+ s  LabTracks",
            r"sharepoint +found, Valid",
            r"tars +found +\S+ s  completes the viruses",
            r"slims +found, Valid",
            r"folder +found, Valid",
            r"(?m)^project names: Ephys Platform\n  service +found",
        ):
            self.assertRegex(done.stdout, words)
        for secret in SECRETS:
            self.assertNotIn(secret, done.stdout)


class Generations(SixSystems):
    """The same session, in the later generations of the schema."""

    def test_what_the_systems_state_is_valid_in_each_generation(self) -> None:
        zone = ZoneInfo("America/Los_Angeles")
        acquired = datetime(2024, 2, 19, 11, 25, 17, tzinfo=zone)
        frame = ("s3://b/a", ID, "Ephys Platform", "behavior", ["behavior"], acquired)
        for generation in (Generation.V1, Generation.V2):
            variables = {"METADATA_SCHEMA": generation.value, "INSTITUTION": "NYU"}
            variables["METADATA_SOURCES"] = '{"procedures": ["sharepoint", "labtracks", "tars"]}'
            with (
                self.subTest(generation=generation),
                patch.dict(os.environ, variables),
                open_lab(UploadSettings()) as lab,
            ):
                gathered = gather(Facts(ASSET, *frame, generation), None, lab)
                for kind in ("subject", "procedures", "data_description"):
                    document = gathered.documents[kind]
                    self.assertEqual((kind, []), (kind, document.problems))
                    self.assertEqual("Valid", document.status)
                    self.assertEqual(
                        version_of(generation, kind), document.content["schema_version"]
                    )
                procedures = json.dumps(gathered.documents["procedures"].content)
                for words in ("AiV300024", "AiP300001", "source: SharePoint, NSB 2023 (New)"):
                    self.assertIn(words, procedures)
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    ask_sources([ID])
                self.assertRegex(out.getvalue(), r"labtracks +found, Valid")
                self.assertRegex(out.getvalue(), r"sharepoint +found, Valid")


if __name__ == "__main__":
    unittest.main()
