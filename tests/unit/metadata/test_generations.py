"""Documents of each generation of aind-data-schema."""

import json
import os
import unittest
from dataclasses import replace
from unittest.mock import patch

from pydantic import ValidationError

from aind_data_transfer_service.configs.vocabulary import Modality, Platform
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.asset_facts import Process
from aind_data_transfer_service.metadata.documents import (
    Document,
    Status,
    data_description,
    processing,
)
from aind_data_transfer_service.metadata.schemas import RECORD, version_of
from aind_data_transfer_service.metadata.terms import missing_terms, modality, organization
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.cli.request import read_request
from aind_data_transfer_service.upload.job.job import UploadJob
from tests.support import slow
from tests.support.transfer import TransferTestCase
from tests.unit.metadata.test_assemble import FACTS, MOMENT
from tests.unit.metadata.test_validation import sample

ORCID = "Open Researcher and Contributor ID"
FRAME = (MOMENT, MOMENT, ["/a"], "s3://b", "1.2")
TRANSFER = Process("Other", "sent", *FRAME, {"x": 1}, {"files": 1})


class Settings(unittest.TestCase):
    """METADATA_SCHEMA."""

    def test_the_default_is_that_of_the_seed(self) -> None:
        with patch.dict(os.environ, {}, clear=True):
            self.assertEqual(Generation.V0, UploadSettings().generation)

    def test_it_reaches_the_jobs_of_a_cluster_and_of_this_machine(self) -> None:
        for generation in Generation:
            with patch.dict(os.environ, {"METADATA_SCHEMA": generation.value}, clear=True):
                settings = ServiceSettings()
                written = settings.agreed_environment(), settings.job_environment()
            for environment in written:
                with patch.dict(os.environ, environment, clear=True):
                    self.assertEqual(generation, UploadSettings().generation)

    def test_anything_else_is_refused_with_what_would_be_right(self) -> None:
        with patch.dict(os.environ, {"METADATA_SCHEMA": "3"}, clear=True):
            with self.assertRaisesRegex(ValidationError, '"3" is not .* write 0.34, 1, 2'):
                UploadSettings()


class Terms(unittest.TestCase):
    """Terms that changed their names."""

    def test_a_modality_has_the_name_of_the_generation(self) -> None:
        for written, generation, expected in (
            ("ophys", Generation.V2, "pophys"),
            ("ophys", Generation.V1, "pophys"),
            ("pophys", Generation.V0, "ophys"),
            ("slap", Generation.V2, "slap2"),
            ("behavior-videos", Generation.V2, "behavior-videos"),
            ("SPIM", Generation.V2, "SPIM"),
        ):
            with self.subTest(written, generation=generation):
                found = modality(generation, written)
                self.assertEqual(expected, found["abbreviation"])
                self.assertTrue(found["name"])

    def test_a_modality_that_a_generation_lacks_is_named_and_makes_the_document_invalid(
        self,
    ) -> None:
        document = data_description(replace(FACTS, modalities=["STPT"]), (), "NYU")
        named = {"abbreviation": "STPT", "name": "Serial two-photon tomogrophy"}
        self.assertEqual([named], document.content["modality"])
        self.assertIn("modality.0.name: ", " ".join(document.problems))

    def test_a_document_is_valid_if_the_generation_has_its_platform_and_its_modality(self) -> None:
        platforms, modalities = Platform.known(), Modality.known()
        pairs = [(platforms[0], one) for one in modalities] + [
            (one, modalities[0]) for one in platforms
        ]
        counts = []
        for generation in Generation:
            found = [
                described_by(generation, platform.abbreviation, kind.abbreviation)
                for platform, kind in pairs
            ]
            self.assertEqual([not missing for _, missing in found], [valid for valid, _ in found])
            counts.append(sum(bool(missing) for _, missing in found))
        self.assertEqual([8, 7, 0], counts)

    def test_an_organization_of_one_generation_is_found_in_another(self) -> None:
        old = organization(Generation.V0, "institutions", "AIND")
        self.assertEqual("ROR", old["registry"]["abbreviation"])
        new = organization(Generation.V2, "institutions", old)
        self.assertEqual("Research Organization Registry (ROR)", new["registry"])
        self.assertEqual(old["registry_identifier"], new["registry_identifier"])


def described_by(generation: Generation, platform: str, modality: str) -> tuple[bool, list[str]]:
    """Return whether a description is valid, and which terms its generation lacks."""
    grant = {"funder": "AI", "investigators": "Bo Bee"}
    facts = replace(FACTS, generation=generation, platform=platform, modalities=[modality])
    document = data_description(facts, [grant], "NYU")
    problems = [one for one in document.problems if not one.startswith("name: ")]
    return not problems, missing_terms(generation, platform, [modality])


class Funders(unittest.TestCase):
    """Funders and institutions, as sources and settings state them."""

    @staticmethod
    def describe(funder, generation=Generation.V0, institution="NYU"):
        """Compose a description with one funder, and return how the funder is written."""
        facts = replace(FACTS, generation=generation)
        content = data_description(facts, [{"funder": funder}], institution).content
        return content["funding_source"][0]["funder"]

    def test_a_name_that_is_the_abbreviation_of_another_organization_stays(self) -> None:
        for generation in Generation:
            for name in ("ASI", "Columbia", "MGI", "CRL", "AIND", "NJ"):
                for stated in (name, {"name": name, "abbreviation": name}):
                    with self.subTest(stated, generation=generation):
                        found = self.describe(stated, generation)
                        self.assertEqual(stated, found)

    def test_what_a_source_states_of_a_funder_is_never_replaced(self) -> None:
        for more in (
            {"registry_identifier": "x"},
            {"abbreviation": "SF"},
            {"registry": {"name": "Funder Registry"}, "registry_identifier": "01cmst727"},
            {"registry": ORCID, "registry_identifier": "01cmst727"},
        ):
            stated = {"name": "Simons Foundation", **more}
            for generation in Generation:
                with self.subTest(stated, generation=generation):
                    self.assertEqual(stated, self.describe(stated, generation))

    def test_what_is_absent_is_added_to_a_funder_that_the_schema_lists(self) -> None:
        for stated in (
            "Simons Foundation",
            " simons  foundation ",
            {"name": "Simons Foundation"},
            {"name": "Simons Foundation", "registry": None, "registry_identifier": "01cmst727"},
        ):
            for generation in Generation:
                with self.subTest(stated, generation=generation):
                    found = self.describe(stated, generation)
                    self.assertEqual("Simons Foundation", found["name"])
                    self.assertEqual("01cmst727", found["registry_identifier"])
                    self.assertIn("Research Organization Registry", str(found["registry"]))

    def test_an_abbreviation_of_a_funder_in_the_schema_is_written_in_full(self) -> None:
        name = "National Institute of Neurological Disorders and Stroke"
        for generation in Generation:
            self.assertEqual(name, self.describe("NINDS", generation)["name"])

    def test_funders_and_institutions_of_settings_are_those_of_the_generation(self) -> None:
        for generation in Generation:
            facts = replace(FACTS, generation=generation)
            content = data_description(facts, (), "ASI", "Columbia").content
            self.assertEqual(empty("ASI"), content["institution"])
            self.assertEqual(empty("Columbia"), content["funding_source"][0]["funder"])
            content = data_description(facts, (), "columbia", "AI").content
            self.assertEqual("Columbia University", content["institution"]["name"])
            self.assertEqual("Allen Institute", content["funding_source"][0]["funder"]["name"])


def empty(name: str) -> dict:
    """Write an organization of which only the name is known."""
    return {"name": name, "abbreviation": None, "registry": None, "registry_identifier": None}


class Licence(unittest.TestCase):
    """No source states a licence, and none of the schemas needs one."""

    def test_no_description_has_a_licence_and_all_are_valid(self) -> None:
        person = {"name": "Bo Bee"}
        grant = {"funder": "NINDS", "grant_number": "R01", "investigators": [person]}
        for generation in Generation:
            facts = replace(FACTS, generation=generation)
            with self.subTest(generation):
                document = data_description(facts, [grant], "NYU")
                self.assertEqual((Status.VALID, []), (document.status, document.problems))
                self.assertNotIn("license", document.content)
                self.assertNotIn("CC-BY", json.dumps(document.content))


class SecondGeneration(unittest.TestCase):
    """Documents of generation 2."""

    facts = replace(FACTS, generation=Generation.V2, asset="690165_2024-02-19_19-25-17")

    def test_a_description_has_modalities_and_persons_and_no_platform(self) -> None:
        known = {"name": "Bo Bee", "registry": ORCID, "registry_identifier": "0000-0001"}
        grant = {"funder": "NINDS", "grant_number": "R01", "fundee": "Di Dee, Ed Eel"}
        document = data_description(self.facts, [grant | {"investigators": [known]}], "NYU")
        content = document.content
        self.assertEqual((Status.VALID, []), (document.status, document.problems))
        self.assertNotIn("platform", content)
        self.assertNotIn("license", content)  # the schema has several, and nobody states one
        self.assertEqual("Data description", content["object_type"])
        self.assertEqual(
            ["behavior", "behavior-videos"], [m["abbreviation"] for m in content["modalities"]]
        )
        person = {"object_type": "Person", "name": "Bo Bee", "registry": f"{ORCID} (ORCID)"}
        self.assertEqual([person | {"registry_identifier": "0000-0001"}], content["investigators"])
        [funding] = content["funding_source"]
        self.assertEqual(["Di Dee", "Ed Eel"], [one["name"] for one in funding["fundee"]])

    def test_what_no_source_states_is_missing_and_reported(self) -> None:
        document = data_description(self.facts)
        self.assertEqual(Status.INVALID, document.status)
        for words in ("institution: missing", "investigators: missing", "funding_source: "):
            self.assertIn(words, " ".join(document.problems))

    def test_what_was_done_is_one_flat_list_under_names_of_their_own(self) -> None:
        document = processing([TRANSFER], "Anna Apple", None, Generation.V2)
        again = processing([TRANSFER], "Anna Apple", document, Generation.V2)
        for one in (document, again):
            self.assertEqual((Status.VALID, []), (one.status, one.problems))
        self.assertEqual(["Other", "Other_1"], [p["name"] for p in again.content["data_processes"]])

    def test_each_source_is_a_data_asset_of_its_own(self) -> None:
        process = replace(TRANSFER, input_locations=["/a", "/b, c", "/a"])
        document = processing([process], "Anna Apple", None, Generation.V2)
        [written] = document.content["data_processes"]
        urls = [one["url"] for one in written["code"]["input_data"]]
        self.assertEqual((["/a", "/b, c"], []), (urls, document.problems))
        pipeline = processing([process], "Anna Apple").content["processing_pipeline"]
        self.assertEqual("/a, /b, c, /a", pipeline["data_processes"][0]["input_location"])

    def test_nobody_is_named_where_nobody_is_known(self) -> None:
        [process] = processing([TRANSFER], None, None, Generation.V2).content["data_processes"]
        self.assertEqual([], process["experimenters"])
        pipeline = processing([TRANSFER], None).content["processing_pipeline"]
        self.assertNotIn("processor_full_name", pipeline)

    def test_a_graph_of_processes_names_the_new_ones_too(self) -> None:
        earlier = processing([TRANSFER], "Anna Apple", None, Generation.V2).content
        earlier["dependency_graph"] = {"Other": []}
        document = Document("processing", earlier, Status.VALID, "a file")
        both = [replace(TRANSFER, name="Compression"), TRANSFER]
        content = processing(both, "Anna Apple", document, Generation.V2).content
        graph = {"Other": [], "Compression": [], "Other_1": ["Compression"]}
        self.assertEqual(graph, content["dependency_graph"])

    def test_an_earlier_document_is_continued_in_its_own_generation(self) -> None:
        for mine, other in ((Generation.V0, Generation.V2), (Generation.V2, Generation.V0)):
            earlier = processing([TRANSFER], "Anna Apple", None, other)
            document = processing([TRANSFER], "Anna Apple", earlier, mine)
            self.assertEqual([], problems_of("processing", document.content, other))
            self.assertEqual(Status.INVALID, document.status)
            self.assertIn(f"is of generation {other} of the schema", document.problems[0])

    def test_odd_names_of_earlier_processes_are_kept(self) -> None:
        for odd in ({"name": ["x"]}, {"name": {"a": 1}}, {"name": None}, {}):
            earlier = Document("processing", {"data_processes": [odd]}, Status.INVALID, "a file")
            found = processing([TRANSFER], "Anna Apple", earlier, Generation.V2).content
            self.assertEqual(odd, found["data_processes"][0])
            self.assertEqual("Other", found["data_processes"][1]["name"])

    def test_an_earlier_document_with_a_process_that_is_no_object_is_refused(self) -> None:
        for odd in ("x", ["x"], 5, None):
            done = [{"name": "Other"}, odd]
            for content, place in (
                ({"data_processes": done}, "data_processes.1"),
                (
                    {"processing_pipeline": {"data_processes": done}},
                    "processing_pipeline.data_processes.1",
                ),
            ):
                earlier = Document("processing", content, Status.INVALID, "a file")
                with self.subTest(content), self.assertRaises(MetadataError) as caught:
                    processing([TRANSFER], "Anna Apple", earlier, Generation.V2)
                self.assertIn(f"a file: {place}: ", str(caught.exception))
                self.assertIn("is not an object", str(caught.exception))


@slow
class Jobs(TransferTestCase):
    """Whole jobs."""

    def test_a_job_of_generation_2_keeps_what_people_wrote_and_says_of_which_generation_it_is(self):
        self.write("a.txt")
        folder = self.folder / "metadata"
        paths = {
            kind: self.write(f"{kind}.json", json.dumps(sample(kind)), root=folder)
            for kind in ("subject", "rig")
        }
        with patch.dict(os.environ, {"METADATA_SCHEMA": "2", "INSTITUTION": "NYU"}):
            settings = self.settings()
            text = self.config(metadata_dir=str(folder)).model_dump_json()
            config = read_request(text, settings)
            UploadJob(config, settings, self.told).run()
        name = "690165_2024-02-19_11-25-17"
        stored = self.stored(name)
        for kind, path in paths.items():
            self.assertEqual(path.read_bytes(), stored[f"{kind}.json"])
        record = json.loads(stored["metadata.nd.json"])
        self.assertEqual(("Metadata", name), (record["object_type"], record["name"]))
        self.assertEqual([], problems_of(RECORD, record, Generation.V2))
        self.assertEqual(sample("subject"), record["subject"])
        self.assertFalse({"rig", "session", "_id", "metadata_status"} & record.keys())
        self.assertEqual(name, record["data_description"]["name"])
        [*_, told] = [f["documents"] for *_, f in self.told.all if "documents" in f]
        rows = {row["name"]: row for row in told}
        self.assertEqual(
            ("0.34", "Invalid"),
            (rows["subject.json"]["generation"], rows["subject.json"]["status"]),
        )
        self.assertEqual(
            ("2", "Valid"),
            (rows["processing.json"]["generation"], rows["processing.json"]["status"]),
        )
        self.assertEqual("Missing", rows["acquisition.json"]["status"])
        self.assertEqual(
            ["generation 2 of the schema has no rig.json"], rows["rig.json"]["problems"]
        )
        words = "subject.json .* is not valid: .* is of generation 0.34 of the schema"
        self.assertRegex("\n".join(self.told.warnings()), words)

    def test_a_record_of_generation_2_names_its_invalid_parts(self) -> None:
        self.write("a.txt")
        folder = self.folder / "metadata"
        injection = {"object_type": "Brain injection", "coordinate_system_name": "B"}
        surgery = {"object_type": "Surgery", "start_date": "2024-01-01", "procedures": [injection]}
        procedures = {
            "object_type": "Procedures",
            "schema_version": version_of(Generation.V2, "procedures"),
            "subject_id": "690165",
            "subject_procedures": [surgery],
        }
        acquisition = {"schema_version": "2.0.0", "subject_id": "690165", "data_streams": 5}
        self.write("procedures.json", json.dumps(procedures), root=folder)
        self.write("acquisition.json", json.dumps(acquisition), root=folder)
        with patch.dict(os.environ, {"METADATA_SCHEMA": "2", "INSTITUTION": "NYU"}):
            settings = self.settings()
            text = self.config(metadata_dir=str(folder)).model_dump_json()
            UploadJob(read_request(text, settings), settings, self.told).run()
        [*_, told] = [f["documents"] for *_, f in self.told.all if "documents" in f]
        rows = {row["name"]: row for row in told}
        place = "subject_procedures.0.procedures.0.injection_materials"
        line = f"{place} (Brain injection, Surgery of 2024-01-01): missing"
        self.assertEqual(line, rows["procedures.json"]["problems"][0])
        notes = " ".join(rows["metadata.nd.json"]["notes"])
        self.assertIn(f"procedures is not valid: {line}", notes)
        self.assertIn("acquisition is not valid: ", notes)
        self.assertIn("see acquisition.json", notes)

    def test_a_job_with_two_modalities_states_both_sources_as_they_are(self) -> None:
        other = self.folder / "videos"
        self.write("a.txt")
        self.write("b.txt", root=other)
        with patch.dict(os.environ, {"METADATA_SCHEMA": "2"}):
            settings = self.settings()
            both = [
                {"modality": "behavior", "source": str(self.source)},
                {"modality": "behavior-videos", "source": str(other)},
            ]
            text = self.config(modalities=both).model_dump_json()
            UploadJob(read_request(text, settings), settings).run()
        document = json.loads(self.stored("690165_2024-02-19_11-25-17")["processing.json"])
        [process] = document["data_processes"]
        urls = [one["url"] for one in process["code"]["input_data"]]
        self.assertEqual([str(self.source), str(other)], urls)

    def test_a_folder_with_an_odd_process_is_refused_before_anything_is_sent(self) -> None:
        self.write("a.txt")
        folder = self.folder / "metadata"
        self.write("processing.json", '{"data_processes": [7]}', root=folder)
        with patch.dict(os.environ, {"METADATA_SCHEMA": "2"}):
            settings = self.settings()
            text = self.config(metadata_dir=str(folder)).model_dump_json()
            with self.assertRaisesRegex(MetadataError, 'data_processes.0: "7" is not an object'):
                UploadJob(read_request(text, settings), settings).run()
        self.assertEqual({}, self.stored("690165_2024-02-19_11-25-17"))

    def test_a_job_of_generation_1_is_named_by_its_platform(self) -> None:
        self.write("a.txt")
        with patch.dict(os.environ, {"METADATA_SCHEMA": "1"}):
            settings = self.settings()
            UploadJob(read_request(self.config().model_dump_json(), settings), settings).run()
        record = json.loads(self.stored()["metadata.nd.json"])
        self.assertEqual([], problems_of(RECORD, record, Generation.V1))
        self.assertEqual(({}, None), (record["external_links"], record["quality_control"]))


if __name__ == "__main__":
    unittest.main()
