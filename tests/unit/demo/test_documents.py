"""The sample's metadata and its spreadsheet."""

import csv
import io
import json
import tempfile
import unittest
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aind_data_schema.core.subject import Subject

from aind_data_transfer_service.demo.documents import (
    PROJECT,
    acquisition_time,
    sample_asset_name,
    sample_spreadsheet,
    write_lab_folder,
    write_metadata,
)
from aind_data_transfer_service.demo.session import SampleSession
from aind_data_transfer_service.metadata.documents import data_description
from aind_data_transfer_service.metadata.sources.folder import FolderSource
from tests.unit.metadata.test_assemble import FACTS


class Documents(unittest.TestCase):
    """Documents that fit the session that they describe."""

    def setUp(self) -> None:
        """Write the documents of the third sample."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.acquired = acquisition_time(2)
        self.folder = write_metadata(Path(folder.name) / "m", self.acquired, "America/Los_Angeles")
        self.lab = FolderSource(write_lab_folder(Path(folder.name) / "lab"))
        self.session = json.loads((self.folder / "session.json").read_text(encoding="utf-8"))

    def test_the_subject_is_valid_by_its_schema(self) -> None:
        found = self.lab.subject("690165").document
        self.assertEqual("690165", Subject.model_validate(found).subject_id)

    def test_the_lab_knows_the_project_and_its_funding(self) -> None:
        self.assertEqual([PROJECT], self.lab.project_names())
        facts = replace(FACTS, project_name=PROJECT)
        described = data_description(facts, self.lab.funding(PROJECT), "Other")
        self.assertEqual("Valid", described.status)
        self.assertEqual("Anna Apple", described.content["investigators"][0]["name"])

    def test_the_documents_name_the_same_subject_rig_and_devices(self) -> None:
        session = self.session
        rig = self.lab.rig(session["rig_id"]).document
        self.assertEqual(session["rig_id"], rig["rig_id"])
        self.assertEqual("690165", self.lab.procedures("690165").document["subject_id"])
        (stream,) = session["data_streams"]
        cameras = [assembly["camera"]["name"] for assembly in rig["cameras"]]
        self.assertEqual(cameras, stream["camera_names"])
        probes = [probe["name"] for a in rig["ephys_assemblies"] for probe in a["probes"]]
        self.assertEqual(
            probes, [p["name"] for m in stream["ephys_modules"] for p in m["ephys_probes"]]
        )

    def test_all_times_are_those_of_this_recording_in_the_zone_of_the_lab(self) -> None:
        session = self.session
        self.assertEqual("2024-02-21T11:25:17-08:00", session["session_start_time"])
        (stream,) = session["data_streams"]
        self.assertEqual("2024-02-21T11:25:47-08:00", stream["stream_end_time"])
        self.assertNotIn("2024-02-19", json.dumps(session))


class Spreadsheet(unittest.TestCase):
    """The columns of the template."""

    def test_it_names_the_three_folders_in_the_columns_people_know(self) -> None:
        session = SampleSession(Path("/shared drive/690165"))
        data = sample_spreadsheet(
            session, Path("/shared drive/M"), datetime(2024, 2, 19, 11, 25, 17)
        )
        (row,) = csv.DictReader(io.StringIO(data.decode("utf-8")))
        self.assertEqual("2024-02-19 11:25:17", row["acq_datetime"])
        self.assertEqual("/shared drive/690165/Behavior videos", row["modality2.source"])
        known = (
            "processor_full_name project_name process_capsule_id platform acq_datetime subject_id"
        )
        for column in f"{known} modality0 modality0.source metadata_dir".split():
            self.assertIn(column, row)

    def test_an_asset_is_named_by_platform_subject_and_time(self) -> None:
        self.assertEqual(
            "ecephys_690165_2024-02-20_11-25-17", sample_asset_name(acquisition_time(1))
        )
