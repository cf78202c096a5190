"""Which document wins, and what stops a job."""

import json
import os
import tempfile
import unittest
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.assemble import gather
from aind_data_transfer_service.metadata.asset_facts import Facts, Process
from aind_data_transfer_service.metadata.documents import (
    Document,
    Status,
    data_description,
    processing,
    record,
    status_of,
    to_json,
)
from aind_data_transfer_service.metadata.registry import Lab
from aind_data_transfer_service.metadata.schemas import KINDS
from aind_data_transfer_service.metadata.sources.folder import FolderSource, read_folder
from aind_data_transfer_service.metadata.sources.metadata_service import MetadataService
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support.metadata import MetadataServer

MOMENT = datetime(2024, 2, 19, 19, 25, 17, tzinfo=UTC)
FACTS = Facts(
    asset="behavior_690165_2024-02-19_19-25-17",
    location="s3://bucket/behavior_690165_2024-02-19_19-25-17",
    subject_id="690165",
    project_name="Ephys Platform",
    platform="behavior",
    modalities=["behavior", "behavior-videos"],
    acquired=MOMENT,
)


class GatherTestCase(unittest.TestCase):
    """A folder of documents and a service."""

    def setUp(self):
        """Make both, empty."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.server = self.enterContext(MetadataServer())
        self.service = self.enterContext(
            MetadataService(self.server.url, attempts=2, sleep=lambda seconds: None)
        )

    def write(self, kind, **content):
        """Write a document of the folder."""
        (self.folder / f"{kind}.json").write_text(json.dumps(content))

    def gather(self, folder_wins=False, service=True, institution="NYU", generation=Generation.V0):
        """Gather from both."""
        lab = Lab({"service": self.service} if service else {}, institution=institution)
        facts = replace(FACTS, generation=generation)
        return gather(facts, read_folder(self.folder), lab, folder_wins)


class TestWhoWins(GatherTestCase):
    """The folder or the service."""

    def setUp(self):
        """Have a subject in both."""
        super().setUp()
        self.write("subject", subject_id="690165", origin="folder")
        self.server.says("/subject/690165", {"subject_id": "690165", "origin": "service"})

    def test_the_service_wins(self):
        self.assertEqual(self.gather().documents["subject"].content["origin"], "service")

    def test_the_folder_wins_where_that_is_wanted(self):
        gathered = self.gather(folder_wins=True)
        self.assertEqual(gathered.documents["subject"].content["origin"], "folder")
        self.assertNotIn("/subject/690165", self.server.asked)

    def test_the_folder_helps_out_where_the_service_fails(self):
        self.server.answers["/subject/690165"] = [(500, None)]
        gathered = self.gather()
        self.assertEqual(gathered.documents["subject"].content["origin"], "folder")
        self.assertTrue(any("subject.json is taken" in text for text in gathered.warnings))

    def test_a_source_without_any_procedure_does_not_replace_those_of_the_folder(self):
        surgery = {"procedure_type": "Surgery", "start_date": "2024-03-05", "notes": None}
        self.write("procedures", subject_id="690165", subject_procedures=[surgery])
        nothing = {"subject_id": "690165", "subject_procedures": [], "notes": "left out"}
        self.server.says("/procedures/690165", nothing)
        document = self.gather().documents["procedures"]
        self.assertEqual([surgery], document.content["subject_procedures"])

    def test_rig_and_instrument_are_those_that_the_session_names(self):
        self.write("session", rig_id="rig 1")
        self.write("acquisition", instrument_id="scope")
        self.server.says("/rig/rig%201", {"rig_id": "rig 1"})
        self.server.says("/instrument/scope", {"instrument_id": "scope"}, 406)
        documents = self.gather().documents
        self.assertEqual(documents["rig"].content, {"rig_id": "rig 1"})
        self.assertEqual(documents["instrument"].status, Status.INVALID)


class TestSubject(GatherTestCase):
    """A subject that is missing, or another one."""

    def test_without_any_source_a_missing_subject_is_a_warning(self):
        gathered = self.gather(service=False)
        self.assertTrue(any("no subject.json" in text for text in gathered.warnings))

    def test_a_subject_that_the_service_does_not_know_stops_the_job(self):
        with self.assertRaisesRegex(
            MetadataError, "no subject.json of 690165: the metadata service does not know it"
        ):
            self.gather()

    def test_a_service_that_fails_stops_the_job_where_nobody_else_knows(self):
        self.server.says("/subject/690165", None, 500)
        with self.assertRaisesRegex(MetadataError, "no subject.json of 690165: .* answered 500"):
            self.gather()

    def test_every_document_of_another_subject_is_named(self):
        self.write("subject", name="without an id")
        self.write("session", subject_id="1")
        self.write("data_description", subject_id=690165, name=FACTS.asset)
        with self.assertRaises(MetadataError) as caught:
            self.gather(service=False)
        text = str(caught.exception)
        self.assertIn("subject.json names no subject (subject_id)", text)
        self.assertIn("session.json names the subject 1", text)
        self.assertNotIn("data_description.json", text)

    def test_an_earlier_processing_of_another_shape_stops_the_job(self):
        self.write("processing", a=1)
        with self.assertRaisesRegex(MetadataError, "processing_pipeline.data_processes"):
            self.gather(service=False)


class TestDescription(GatherTestCase):
    """`data_description.json`."""

    def setUp(self):
        """Have a subject."""
        super().setUp()
        self.server.says("/subject/690165", {"subject_id": "690165"})

    def test_it_names_funding_and_investigators_that_the_service_knows(self):
        funder = {"name": "Simons Foundation", "abbreviation": None}
        funder |= {
            "registry": {"name": "Research Organization Registry", "abbreviation": "ROR"},
            "registry_identifier": "01cmst727",
        }
        grant = {"funder": funder, "grant_number": "R01", "investigators": "Bo Bee, Cy Cee"}
        self.server.says("/funding/Ephys%20Platform", [grant])
        document = self.gather().documents["data_description"]
        self.assertEqual(document.status, Status.VALID)
        self.assertEqual(document.content["funding_source"][0]["grant_number"], "R01")
        names = [person["name"] for person in document.content["investigators"]]
        self.assertEqual(names, ["Bo Bee", "Cy Cee"])

    def test_investigators_are_those_who_are_known_to_be_and_nobody_else(self):
        fundee = {"funder": {"name": "someone"}, "fundee": [{"name": "Person One"}]}
        for funding in ([], [fundee]):
            document = data_description(FACTS, funding, "nyu")
            self.assertNotIn("investigators", document.content)
            self.assertNotIn("Person One", str(document.content.get("investigators")))
            self.assertEqual(document.status, Status.INVALID)
            self.assertRegex(" ".join(document.problems), "investigators")

    def test_investigators_without_funding_are_named_and_the_funding_is_missed(self):
        self.server.says("/funding/Ephys%20Platform", [{"investigators": [{"name": "Bo Bee"}]}])
        gathered = self.gather()
        content = gathered.documents["data_description"].content
        self.assertEqual(["Bo Bee"], [person["name"] for person in content["investigators"]])
        self.assertEqual([], content["funding_source"])
        self.assertTrue(any("no funding of" in text for text in gathered.warnings))

    def test_investigators_of_one_source_join_the_funding_of_another(self):
        self.server.says("/funding/Ephys%20Platform", [{"investigators": [{"name": "Bo Bee"}]}])
        (self.folder / "funding").mkdir()
        grants = json.dumps([{"funder": {"name": "F"}, "investigators": "Bo Bee, Cy Cee"}])
        (self.folder / "funding" / "Ephys Platform.json").write_text(grants)
        files = FolderSource(self.folder)
        gathered = gather(FACTS, None, Lab({"service": self.service, "folder": files}))
        content = gathered.documents["data_description"].content
        names = [person["name"] for person in content["investigators"]]
        self.assertEqual(["Bo Bee", "Cy Cee"], names)
        self.assertEqual([{"funder": {"name": "F"}}], content["funding_source"])

    def test_investigators_that_cannot_be_asked_for_are_a_warning_beside_the_funding(self):
        server = self.enterContext(MetadataServer(True))
        server.says("/subject/690165", {"subject_id": "690165"})
        server.says("/funding/Ephys%20Platform", [{"funder": {"name": "F"}}])
        server.says("/investigators/Ephys%20Platform", {"detail": "no such sheet"}, 500)
        service = self.enterContext(MetadataService(server.url))
        gathered = gather(FACTS, None, Lab({"service": service}))
        content = gathered.documents["data_description"].content
        self.assertEqual([{"funder": {"name": "F"}}], content["funding_source"])
        self.assertTrue(any("500: no such sheet" in text for text in gathered.warnings))

    def test_unknown_funding_is_a_warning(self):
        self.assertTrue(any("no funding of" in text for text in self.gather().warnings))

    def test_funding_that_cannot_be_asked_for_is_a_warning(self):
        self.server.says("/funding/Ephys%20Platform", None, 500)
        self.assertTrue(any("no funding from" in text for text in self.gather().warnings))

    def test_one_of_another_name_is_kept_with_a_warning(self):
        self.write("data_description", name="other")
        gathered = self.gather()
        self.assertEqual(gathered.documents["data_description"].content, {"name": "other"})
        self.assertTrue(any("speaks of other" in text for text in gathered.warnings))

    def test_persons_are_those_that_are_stated_and_no_others(self):
        anna = {"name": "Anna Smith", "object_type": "Person"}
        for stated, names, words in (
            ("Koch, Christof", ["Koch, Christof"], "as one name"),
            ("Allen Institute, Seattle", ["Allen Institute, Seattle"], "as one name"),
            ("Anna Smith, PhD", ["Anna Smith, PhD"], "as one name"),
            ("Anna Smith, Bo Bee,", ["Anna Smith", "Bo Bee"], ""),
            (" Plato ", ["Plato"], ""),
            (["Koch, Christof", anna, None, ""], ["Koch, Christof", "Anna Smith"], ""),
            (anna, ["Anna Smith"], ""),
            (5, [], '"5" is no person'),
            (True, [], '"True" is no person'),
            (["Bo Bee", 5, ["x"]], ["Bo Bee"], '"5" is no person'),
            ([{"name": 7}], [], "is no person"),
            ({"id": "x"}, [], "is no person"),
        ):
            grant = {"funder": "Simons Foundation", "investigators": stated, "fundee": stated}
            self.server.answers["/funding/Ephys%20Platform"] = [(200, [grant])]
            for generation in Generation:
                with self.subTest(stated, generation=generation):
                    gathered = self.gather(generation=generation)
                    content = gathered.documents["data_description"].content
                    found = content.get("investigators", [])
                    self.assertEqual(names, [one["name"] for one in found])
                    [funding] = content["funding_source"]
                    if generation == Generation.V2:
                        found = [one["name"] for one in funding.get("fundee", [])]
                        self.assertEqual(names, found)
                    elif not isinstance(stated, str):
                        self.assertEqual(", ".join(names) or None, funding["fundee"])
                    told = [text for text in gathered.warnings if "investigators: " in text[:15]]
                    self.assertEqual(bool(words), bool(told), told)
                    self.assertIn(words, " ".join(told))

    def test_what_nobody_has_stated_is_absent_and_said_to_be_missing(self):
        document = data_description(FACTS)
        self.assertNotIn("institution", document.content)
        self.assertEqual(document.content["funding_source"], [])
        self.assertFalse({"AIND", "AI"} & set(document.data.decode().split('"')))
        gathered = self.gather(institution=None)
        self.assertEqual(gathered.documents["data_description"].status, Status.INVALID)
        text = " ".join(gathered.warnings)
        self.assertRegex(text, "data_description.json .*is not valid: .*institution")
        self.assertIn("data_description.json names no funder", text)

    def test_the_problems_of_a_document_are_found_once(self):
        with patch(
            "aind_data_transfer_service.metadata.documents.problems_of", wraps=problems_of
        ) as found:
            document = data_description(FACTS)
            self.assertEqual([document.problems] * 3, [document.problems for _ in range(3)])
        self.assertEqual(1, found.call_count)

    def test_an_invalid_document_says_where_it_is_to_be_corrected(self):
        self.write("rig", rig_id=5)
        self.server.says("/subject/690165", {"subject_id": "690165"})
        text = "\n".join(self.gather(institution=None).warnings)
        self.assertRegex(text, 'rig.json .* is not valid: .*"5" is not .* Correct this file')
        self.assertRegex(text, "subject.json .* put a valid subject.json into metadata_dir and set")
        self.assertRegex(text, "data_description.json .* Enter the missing values where they come")

    def test_the_labs_institution_and_usual_funder_are_named(self):
        people = [{"investigators": "Bo Bee"}]
        document = data_description(FACTS, people, "nyu", "Simons Foundation")
        self.assertEqual(document.status, Status.VALID)
        self.assertEqual(document.content["institution"]["name"], "New York University")
        [source] = document.content["funding_source"]
        self.assertEqual(source["funder"]["registry_identifier"], "01cmst727")
        grant = {"funder": {"name": "someone"}, "grant_number": "R01"}
        document = data_description(FACTS, [grant], "nyu", "Simons Foundation")
        self.assertEqual(document.content["funding_source"], [grant])

    def test_an_organization_that_the_schema_does_not_list_is_named_as_it_is(self):
        document = data_description(FACTS, (), "Université de Lab", "The Fund")
        self.assertEqual(document.status, Status.INVALID)
        self.assertEqual(document.content["institution"]["name"], "Université de Lab")
        self.assertEqual(document.content["funding_source"][0]["funder"]["name"], "The Fund")

    def test_it_is_composed_where_the_schema_will_not_have_it(self):
        document = data_description(
            FACTS, [{"funder": "someone", "investigators": [{"name": "B"}]}]
        )
        self.assertEqual(document.status, Status.INVALID)
        self.assertEqual(document.content["name"], FACTS.asset)
        self.assertEqual(document.content["funding_source"], [{"funder": "someone"}])

    def test_an_investigators_identifier_is_kept_as_the_source_states_it(self):
        orcid = {"name": "Open Researcher and Contributor ID", "abbreviation": "ORCID"}
        known = {"name": "Bo Bee", "registry": orcid, "registry_identifier": "0000-0001"}
        funding = [{"funder": "Simons Foundation", "investigators": [{"name": "Bo Bee"}, known]}]
        document = data_description(FACTS, funding, "NYU")
        self.assertEqual(Status.VALID, document.status, document.problems)
        self.assertEqual([{**known, "abbreviation": None}], document.content["investigators"])

    def investigators(self, *people, generation=Generation.V0):
        """Return the investigators and the notes of a description."""
        facts = replace(FACTS, generation=generation)
        document = data_description(facts, [{"investigators": [one]} for one in people], "NYU")
        found = document.content["investigators"]
        known = [(one["name"], one.get("registry_identifier")) for one in found]
        return known, document.notes

    def test_an_identifier_is_found_in_whatever_order_and_company_it_is_stated(self):
        nulls = dict.fromkeys(("abbreviation", "registry", "registry_identifier"))
        poor = ({"name": "Bo"}, {"name": "Bo", **nulls}, {"name": "Bo", "a": 1, "b": 2, "c": 3})
        names = ("ORCID", "orcid", "Open Researcher and Contributor ID")
        full = {"name": names[2], "abbreviation": "ORCID"}
        registries = (*names, f"{names[2]} (ORCID)", full, {"abbreviation": "ORCID"})
        for registry in registries:
            rich = {"name": "Bo", "registry": registry, "registry_identifier": "0000-0001"}
            for other in poor:
                for people in ((other, rich), (rich, other)):
                    for generation in Generation:
                        with self.subTest(people, generation=generation):
                            found = self.investigators(*people, generation=generation)
                            self.assertEqual(([("Bo", "0000-0001")], ()), found)

    def test_two_people_of_one_name_stay_two(self):
        first, second = (
            {"name": "Bo", "registry": "ORCID", "registry_identifier": f"0000-{number}"}
            for number in (1, 2)
        )
        known = self.investigators(first, {"name": "Bo"}, second, first)[0]
        self.assertEqual([("Bo", "0000-1"), ("Bo", "0000-2")], known)

    def test_an_identifier_that_cannot_be_written_is_noted(self):
        for registry, words in (
            ("Foo", 'the schema has no registry "Foo"'),
            (None, "no registry is stated"),
            ({"name": "Foo (F)"}, 'the schema has no registry "Foo (F)"'),
        ):
            for generation in Generation:
                person = {"name": "Bo", "registry": registry, "registry_identifier": "7"}
                known, notes = self.investigators(person, generation=generation)
                self.assertEqual([("Bo", None)], known)
                self.assertEqual((f'Bo: the identifier "7" is left out: {words}',), notes)

    def test_its_time_has_the_offset_of_the_lab(self):
        self.assertEqual(data_description(FACTS).content["creation_time"], MOMENT.isoformat())


class TestDocuments(GatherTestCase):
    """Status, processing and the record."""

    def test_a_document_of_another_release_is_unknown(self):
        self.assertEqual(status_of("subject", {"schema_version": "0.4.0"}), Status.UNKNOWN)
        self.assertEqual(status_of("subject", {"schema_version": "9.9.9"}), Status.INVALID)
        self.assertEqual(status_of("subject", {"subject_id": "1"}), Status.INVALID)

    def test_processing_is_valid(self):
        process = Process("Other", "n", MOMENT, MOMENT, ["/a"], "s3://b", "1", {}, {"files": 1})
        self.assertEqual(processing([process], "Anna Apple").status, Status.VALID)

    def test_the_record_sums_up(self):
        def overall(**statuses):
            documents = {kind: Document(kind, {}, s, "") for kind, s in statuses.items()}
            return record(FACTS, documents, MOMENT, MOMENT)["metadata_status"]

        everything = dict.fromkeys(KINDS[Generation.V0], Status.VALID)
        self.assertEqual(overall(**everything), "Valid")
        self.assertEqual(overall(**everything | {"rig": Status.UNKNOWN}), "Unknown")
        invalid = {"rig": Status.UNKNOWN, "session": Status.INVALID}
        self.assertEqual(overall(**everything | invalid), "Invalid")
        self.assertEqual(overall(procedures=Status.VALID), "Missing")

    def test_the_record_of_an_asset_keeps_its_id(self):
        ids = {record(FACTS, {}, MOMENT, MOMENT)["_id"] for _ in range(2)}
        self.assertEqual(len(ids), 1)


class TestFolder(GatherTestCase):
    """A folder of documents."""

    def test_every_document_that_cannot_be_read_is_named(self):
        (self.folder / "list.json").write_text("[]")
        (self.folder / "latin.json").write_bytes(b'{"a": "\xff"}')
        (self.folder / "folder.json").mkdir()
        os.symlink("nowhere", self.folder / "broken.json")
        with open(self.folder / "huge.json", "wb") as output:
            output.truncate(300 * 1024**2)
        with self.assertRaises(MetadataError) as caught:
            read_folder(self.folder)
        text = str(caught.exception)
        for words in ("one JSON object", "not UTF-8", "not a file", "leads nowhere", "256 MiB"):
            self.assertIn(words, text)

    def test_what_a_source_says_that_json_has_no_words_for_is_null(self):
        told = json.loads('{"a": [NaN, {"b": 1e999}], "c": -Infinity, "d": 1.5, "NaN": "NaN"}')
        found = json.loads(to_json(told), parse_constant=self.fail)
        self.assertEqual({"a": [None, {"b": None}], "c": None, "d": 1.5, "NaN": "NaN"}, found)

    def test_what_json_has_no_word_for_is_null_in_the_record_and_halves_are_escaped(self):
        path = self.folder / "session.json"
        path.write_bytes(b'{"nothing": NaN, "half": "\\ud800", "whole": "\xc3\xbc"}')
        document = read_folder(self.folder).documents["session"]
        self.assertEqual(document.data, path.read_bytes())
        text = to_json(document.content)
        self.assertEqual(json.loads(text), {"nothing": None, "half": "\ud800", "whole": "ü"})
        self.assertIn("ü".encode(), text)

    def test_a_document_that_is_nested_too_deeply_is_named(self):
        (self.folder / "session.json").write_bytes(b'{"a":' * 100_000)
        with self.assertRaisesRegex(MetadataError, "session.json: is nested too deeply"):
            read_folder(self.folder)

    def test_a_byte_order_mark_does_no_harm(self):
        (self.folder / "rig.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
        document = read_folder(self.folder).documents["rig"]
        self.assertEqual(document.content, {"a": 1})
        self.assertTrue(document.data.startswith(b"\xef\xbb\xbf"))

    def test_a_folder_that_is_none(self):
        self.assertIsNone(read_folder(self.folder / "gone"))
        (self.folder / "file").touch()
        with self.assertRaisesRegex(MetadataError, "cannot be read"):
            read_folder(self.folder / "file")
