"""Which sources are asked for what, in which order, and what a missing document means."""

import errno
import json
import os
import tempfile
import threading
import time
import unittest
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import settings as quick
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.assemble import gather, provenance
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.documents import Status
from aind_data_transfer_service.metadata.registry import Lab, open_lab
from aind_data_transfer_service.metadata.schemas import version_of
from aind_data_transfer_service.metadata.sources.folder import FolderSource, read_folder
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.env_policy import shared_variables
from aind_data_transfer_service.settings.metadata import (
    KINDS,
    MetadataSettings,
    Policy,
    sources_of,
)
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.settings.upload import UploadSettings
from tests.support import slow
from tests.unit.metadata.test_assemble import FACTS

ID = FACTS.subject_id
WORDS = st.sampled_from([*KINDS, *sources_of("procedures"), *Policy, "sources", "if_missing"])
TABLES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS | st.text(), inner),
)
"""Any JSON, with the words that settings have in many places."""


class Known(SourceBase):
    """A source that knows what it was told, or fails as it was told."""

    def __init__(self, problem: str = "", gate: threading.Event | None = None, **documents):
        self.problem, self.gate, self.documents = problem, gate, documents
        self.asked: list[str] = []

    def _tell(self, kind):
        self.asked.append(kind)
        if self.gate is not None:
            self.gate.wait(30)
        if self.problem:
            raise MetadataError(self.problem)
        return self.documents.get(kind)

    def subject(self, subject_id):
        """Tell of a subject."""
        return self._tell("subject")

    def procedures(self, subject_id):
        """Tell of procedures."""
        return self._tell("procedures")

    def rig(self, rig_id):
        """Tell of a rig."""
        return self._tell("rig")

    def funding(self, project_name):
        """Tell of funding."""
        return self._tell("funding") or []


class Odd(SourceBase):
    """A source that fails in a way that nobody foresaw."""

    def subject(self, subject_id):
        """Stumble."""
        raise ZeroDivisionError("hunter2")


def subject(origin: str, **more) -> Found:
    """Make a subject that tells where it comes from."""
    return Found({"subject_id": ID, "origin": origin}, True, origin, **more)


def procedures(origin: str, **more) -> Found:
    """Make procedures of one training."""
    part = {"procedure_type": "Training", "training_name": origin, "protocol_id": "p"}
    part["start_date"] = "2024-01-01"
    content = {"schema_version": "0.13.7", "subject_id": ID, "subject_procedures": [part]}
    return Found(content, True, origin, **more)


def settings(**variables: str) -> MetadataSettings:
    """Read settings from exactly these variables."""
    with patch.dict(os.environ, variables, clear=True):
        return MetadataSettings()


class ChooseTest(unittest.TestCase):
    """Gathering from sources of several kinds."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, path: str, content) -> None:
        """Write a JSON file of the folder."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(json.dumps(content))

    def gather(self, folder_wins=False, variables=None, time_limit=60.0, **sources):
        """Gather from sources."""
        choice = settings(**(variables or {})).model_copy(update={"time_limit": time_limit})
        lab = Lab(sources, choice, institution="NYU", default_funder="NINDS")
        self.addCleanup(lab.close)
        return gather(FACTS, read_folder(self.folder), lab, folder_wins)


class Order(ChooseTest):
    """Who is asked, and who wins."""

    def test_the_first_that_knows_gives_the_document(self) -> None:
        gathered = self.gather(labtracks=Known(subject=subject("l")), service=Known())
        self.assertEqual("l", gathered.documents["subject"].source)

    def test_the_order_is_that_of_the_settings(self) -> None:
        sources = {name: Known(subject=subject(name)) for name in ("service", "labtracks")}
        for order in ("service,labtracks", " LabTracks , service"):
            gathered = self.gather(
                variables={"METADATA_SOURCES": json.dumps({"subject": order})}, **sources
            )
            first = order.split(",")[0].strip().lower()
            self.assertEqual(first, gathered.documents["subject"].source)

    def test_a_source_that_is_not_chosen_is_not_asked(self) -> None:
        service = Known(subject=subject("s"))
        chosen = {"METADATA_SOURCES": '{"subject": ["labtracks"]}'}
        self.gather(variables=chosen, service=service, labtracks=Known(subject=subject("l")))
        self.assertNotIn("subject", service.asked)

    def test_one_that_fails_is_named_with_its_reason_and_the_next_is_asked(self) -> None:
        gathered = self.gather(
            service=Known(problem="it is down"), labtracks=Known(subject=subject("l"))
        )
        words = "no subject from the metadata service: it is down; that of l is taken"
        self.assertIn(words, gathered.warnings)
        document = gathered.documents["subject"]
        self.assertEqual(("the metadata service: it is down",), document.notes)
        self.assertIsNotNone(document.seconds)

    def test_one_that_fails_in_an_unforeseen_way_takes_nobody_with_it(self) -> None:
        gathered = self.gather(service=Odd(), labtracks=Known(subject=subject("l")))
        text = " ".join(gathered.warnings)
        self.assertIn("not foreseen (ZeroDivisionError)", text)
        self.assertNotIn("hunter2", text)

    def test_one_that_is_slow_is_given_up_and_does_not_hold_up_the_rest(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)
        began = time.monotonic()
        gathered = self.gather(
            time_limit=0.2,
            service=Known(gate=gate),
            labtracks=Known(subject=subject("l")),
        )
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual("l", gathered.documents["subject"].source)
        self.assertIn("did not answer within 0.2 s in all", " ".join(gathered.warnings))

    def test_a_slower_source_that_is_not_needed_is_not_waited_for(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)
        gathered = self.gather(
            variables={"METADATA_SOURCES": '{"procedures": "service"}'},
            service=Known(subject=subject("s")),
            labtracks=Known(gate=gate),
        )
        self.assertFalse([text for text in gathered.warnings if "LabTracks" in text])

    def test_what_metadata_dir_holds_is_a_last_resort(self) -> None:
        self.write("subject.json", {"subject_id": ID, "origin": "dir"})
        self.write("procedures.json", {"subject_id": ID})
        gathered = self.gather(service=Known(subject=subject("s"), problem="down"))
        self.assertEqual("dir", gathered.documents["subject"].content["origin"])
        self.assertEqual(
            2, len([text for text in gathered.warnings if "that of /" in text]), gathered.warnings
        )
        self.assertEqual(("the metadata service: down",), gathered.documents["subject"].notes)


class Policies(ChooseTest):
    """What it means that nobody has a document."""

    def test_a_subject_that_nobody_knows_stops_the_job_with_everyone_who_was_asked(self) -> None:
        with self.assertRaisesRegex(
            MetadataError,
            "no subject.json of 690165: LabTracks: no login; the metadata service does not know "
            "it; metadata_dir has no subject.json",
        ):
            self.gather(service=Known(), labtracks=Known(problem="LabTracks: no login"))

    def test_a_lab_may_be_content_with_a_warning_or_with_nothing(self) -> None:
        for policy, told in (("warn", 1), ("Ignore", 0)):
            variables = {"METADATA_POLICY_SUBJECT": policy}
            gathered = self.gather(variables=variables, labtracks=Known())
            found = [text for text in gathered.warnings if "no subject.json" in text]
            self.assertEqual(told, len(found), policy)

    def test_without_any_source_a_missing_subject_is_a_warning_unless_it_is_required(self) -> None:
        self.assertIn("no source of it is configured", " ".join(self.gather().warnings))
        with self.assertRaisesRegex(MetadataError, "no source of it is configured"):
            self.gather(variables={"METADATA_POLICY_SUBJECT": "require"})

    def test_everything_that_is_required_and_missing_is_named_at_once(self) -> None:
        self.write("session.json", {"subject_id": ID, "rig_id": "rig 1"})
        kinds = ("subject", "procedures", "rig", "funding")
        table = {kind: {"if_missing": "require"} for kind in kinds}
        variables = {"METADATA_SOURCES": json.dumps(table)}
        with self.assertRaises(MetadataError) as caught:
            self.gather(variables=variables, service=Known())
        for words in ("subject.json of", "procedures.json of", "rig.json of rig 1", "no funding"):
            self.assertIn(words, str(caught.exception))

    def test_a_rig_that_nobody_has_is_a_warning_unless_it_is_ignored(self) -> None:
        self.write("session.json", {"subject_id": ID, "rig_id": "rig 1"})
        for policy, told in (("warn", 1), ("ignore", 0)):
            table = {"rig": {"if_missing": policy}, "subject": {"if_missing": "ignore"}}
            variables = {"METADATA_SOURCES": json.dumps(table)}
            gathered = self.gather(variables=variables, slims=Known())
            found = [text for text in gathered.warnings if "no rig.json of rig 1: SLIMS" in text]
            self.assertEqual(told, len(found), gathered.warnings)


class OtherDevices(ChooseTest):
    """A rig or instrument that is not that of the session or acquisition."""

    def test_a_rig_of_another_name_is_a_warning_wherever_it_comes_from(self) -> None:
        self.write("session.json", {"subject_id": ID, "rig_id": "rig 1"})
        self.write("acquisition.json", {"subject_id": ID, "instrument_id": "scope"})
        self.write("instrument.json", {"instrument_id": "scope"})
        variables = {"METADATA_POLICY_SUBJECT": "ignore"}
        for content, told in (({"rig_id": "rig 2"}, 1), ({"rig_id": "rig 1"}, 0)):
            rig = Found(content, True, "SLIMS")
            warnings = self.gather(variables=variables, slims=Known(rig=rig)).warnings
            words = [text for text in warnings if "rig.json from SLIMS has the rig_id" in text]
            self.assertEqual(told, len(words), warnings)
            self.assertFalse([text for text in warnings if "instrument_id" in text])
        for content in ({}, {"rig_id": None}, {"rig_id": ""}):
            slims = Known(rig=Found(content, True, "SLIMS"))
            text = " ".join(self.gather(variables=variables, slims=slims).warnings)
            self.assertIn(
                'rig.json from SLIMS has no rig_id, session.json has "rig 1": add the rig_id to '
                "rig.json there",
                text,
            )
            self.assertNotIn('the rig_id "None"', text)
        self.write("rig.json", {"rig_id": "rig 3"})
        text = " ".join(self.gather(variables=variables).warnings)
        self.assertIn('has the rig_id "rig 3", session.json has "rig 1": correct the one', text)


class OtherVersions(ChooseTest):
    """Documents of another `schema_version` than the release of the chosen generation."""

    def test_one_rule_holds_wherever_a_document_comes_from(self) -> None:
        self.write("session.json", {"subject_id": ID, "rig_id": "rig 1"})
        self.write("lab/subject/690165.json", {"subject_id": ID, "schema_version": "2.0.0"})
        rig = {"rig_id": "rig 1", "schema_version": "2.0.0"}
        self.write("rig.json", rig)
        of_service = Known(
            subject=Found({"subject_id": ID, "schema_version": "2.0.0"}, True, "the service")
        )
        lab = FolderSource(self.folder / "lab")
        slims = Known(rig=Found(rig, True, "SLIMS"))
        for kind, sources in (
            ("subject", {"service": of_service}),
            ("subject", {"folder": lab}),
            ("rig", {"slims": slims}),
            ("rig", {}),
        ):
            variables = {"METADATA_POLICY_SUBJECT": "ignore"}
            gathered = self.gather(variables=variables, **sources)
            document = gathered.documents[kind]
            with self.subTest(kind, source=document.source):
                self.assertEqual(Status.INVALID, document.status)
                words = (
                    'schema_version: "2.0.0" is of generation 2 of the schema, and METADATA_SCHEMA '
                    "is 0.34; the document is stored unchanged: provide one of generation 0.34 ("
                )
                [problem] = document.problems
                self.assertIn(words, problem)
                self.assertIn(words, " ".join(gathered.warnings))

    def test_another_release_is_named_on_the_page(self) -> None:
        for generation, version, status, words in (
            (Generation.V0, "0.5.0", Status.UNKNOWN, "and not checked"),
            (Generation.V2, "2.0.1", Status.INVALID, "and checked by 2."),
        ):
            content = {"subject_id": ID, "schema_version": version}
            service = Known(subject=Found(content, True, "the service"))
            lab = Lab({"service": service}, settings(METADATA_SCHEMA=generation.value))
            facts = replace(FACTS, generation=generation)
            documents = gather(facts, None, lab).documents
            self.assertEqual(status, documents["subject"].status)
            rows = {row["name"]: row for row in provenance(documents, generation)}
            [note] = rows["subject.json"]["notes"]
            self.assertIn(f'"{version}" is another release of generation {generation} than', note)
            self.assertIn(words, note)

    def test_procedures_of_two_generations_are_not_valid_and_name_their_source(self) -> None:
        surgery = {"object_type": "Surgery", "start_date": "2024-01-01"}
        part = {**surgery, "procedures": [{"object_type": "Perfusion", "output_specimen_ids": []}]}
        version = version_of(Generation.V2, "procedures")
        second = Found({"schema_version": version, "subject_procedures": [part]}, True, "the new")
        facts = replace(FACTS, generation=Generation.V2)
        choice = {"METADATA_POLICY_SUBJECT": "ignore"}
        lab = Lab(
            {
                "service": Known(procedures=procedures("the old")),
                "folder": Known(procedures=second),
            },
            settings(**choice),
        )
        document = gather(facts, None, lab).documents["procedures"]
        self.assertEqual(version, document.content["schema_version"])
        self.assertEqual(Status.INVALID, document.status)
        self.assertIn('the old: schema_version: "0.13.7" is of generation 0.34', document.notes[0])


class Together(ChooseTest):
    """Procedures of several sources."""

    variables = {"METADATA_POLICY_SUBJECT": "ignore"}

    def test_each_part_is_marked_with_its_origin(self) -> None:
        document = self.gather(
            variables=self.variables,
            service=Known(procedures=procedures("one")),
            sharepoint=Known(procedures=procedures("two")),
        ).documents["procedures"]
        self.assertEqual("one and two", document.source)
        notes = [part["notes"] for part in document.content["subject_procedures"]]
        self.assertEqual(["source: one", "source: two"], notes)
        self.assertEqual((Status.VALID, True), (document.status, document.complete))

    def test_a_partial_result_says_so(self) -> None:
        gathered = self.gather(
            variables=self.variables,
            service=Known(procedures=procedures("one")),
            sharepoint=Known(problem="no right"),
        )
        document = gathered.documents["procedures"]
        self.assertFalse(document.complete)
        self.assertIn("SharePoint: no answer, so its part is missing", document.content["notes"])
        self.assertIn("SharePoint: no right", document.notes)

    def test_those_of_another_subject_stop_the_job(self) -> None:
        wrong = Found({"subject_id": "1"}, True, "two")
        with self.assertRaisesRegex(MetadataError, "two names the subject 1"):
            self.gather(variables=self.variables, sharepoint=Known(procedures=wrong))

    def test_a_source_that_cannot_be_opened_is_told_and_the_others_are_asked(self) -> None:
        lab = Lab(
            {"service": Known(procedures=procedures("one"))},
            settings(**self.variables),
            {"tars": "no certificates", "sharepoint": "no certificates"},
        )
        document = gather(FACTS, None, lab).documents["procedures"]
        self.assertFalse(document.complete)
        self.assertEqual(("SharePoint: no certificates", "TARS: no certificates"), document.notes)


class Provenance(ChooseTest):
    """What people are told of the documents."""

    @slow
    def test_every_document_tells_where_it_is_from_and_what_is_wrong_with_it(self) -> None:
        self.write("session.json", {"subject_id": ID, "schema_version": "0.2.4"})
        gathered = self.gather(labtracks=Known(subject=subject("colony")))
        listed = {one["name"]: one for one in provenance(gathered.documents)}
        self.assertEqual("colony", listed["subject.json"]["source"])
        self.assertEqual("Invalid", listed["subject.json"]["status"])
        self.assertIn("sex: missing", listed["subject.json"]["problems"])
        self.assertIn("rig_id: missing", listed["session.json"]["problems"])
        self.assertIn("and more", listed["session.json"]["problems"])
        self.assertEqual("Invalid", listed["data_description.json"]["status"])
        self.assertRegex(listed["data_description.json"]["problems"][0], "investigators")
        self.assertEqual("subject.json", next(iter(listed)))
        missing = [name for name, one in listed.items() if one["status"] == "Missing"]
        self.assertEqual(["procedures.json", "rig.json"], missing)

    def test_the_list_stays_short_enough_for_an_event(self) -> None:
        for number in range(300):
            self.write(f"more {number}.json", {"a": 1})
        notes = tuple("n" * 2000 for _ in range(100))
        gathered = self.gather(labtracks=Known(subject=subject("l" * 2000, notes=notes)))
        self.assertIn("more 299", gathered.documents)
        listed = provenance(gathered.documents)
        self.assertEqual(("subject.json", 50), (listed[0]["name"], len(listed)))
        self.assertLess(len(json.dumps(listed)), 30_000)


class LabFolder(ChooseTest):
    """The lab's folder of documents by id."""

    def setUp(self) -> None:
        super().setUp()
        self.source = FolderSource(self.folder)

    def test_a_passing_fault_of_its_drive_is_retried(self) -> None:
        self.write(f"subject/{ID}.json", {"subject_id": ID})
        read = Path.read_bytes
        for attempts, faults in ((2, 1), (1, 1), (2, 2)):
            left = [OSError(errno.ESTALE, "Stale file handle")] * faults

            def read_bytes(path: Path) -> bytes:
                if left:
                    raise left.pop()
                return read(path)

            source = FolderSource(self.folder, attempts)
            with self.subTest(attempts), patch.object(Path, "read_bytes", read_bytes):
                if attempts > faults:
                    self.assertEqual({"subject_id": ID}, source.subject(ID).document)
                else:
                    with self.assertRaisesRegex(MetadataError, r"Stale file handle \(ESTALE\)"):
                        source.subject(ID)

    def test_documents_are_found_by_kind_and_id(self) -> None:
        self.write(f"subject/{ID}.json", {"subject_id": ID})
        self.write(f"procedures/{ID}.json", {"subject_id": ID})
        self.write("rig/a rig.json", {"rig_id": "a rig"})
        self.write("instrument/ü.json", {"instrument_id": "ü"})
        self.write("funding/Ephys Platform.json", [{"grant_number": "1"}])
        self.write("project_names.json", ["Ephys Platform"])
        found = self.source.subject(ID)
        self.assertEqual(({"subject_id": ID}, True), (found.document, found.valid))
        self.assertEqual(f"{self.folder}/subject/{ID}.json", found.source)
        self.assertTrue(self.source.procedures(ID).valid)
        self.assertEqual({"rig_id": "a rig"}, self.source.rig("a rig").document)
        self.assertEqual({"instrument_id": "ü"}, self.source.instrument("ü").document)
        self.assertEqual([{"grant_number": "1"}], self.source.funding("Ephys Platform"))
        self.assertEqual(["Ephys Platform"], self.source.project_names())

    def test_what_is_not_there_is_not_known(self) -> None:
        self.write("secret.json", {"subject_id": ID})
        for name in ("1", "../secret", "", ".", "a\0b", "x" * 200):
            with self.subTest(name):
                self.assertIsNone(self.source.subject(name))
        self.assertEqual([], self.source.funding("none"))
        self.assertEqual([], self.source.project_names())

    def test_what_cannot_be_read_is_named(self) -> None:
        self.write("subject/1.json", [])
        self.write("funding/x.json", {"a": 1})
        self.write("project_names.json", [1])
        (self.folder / "rig").mkdir()
        (self.folder / "rig" / "r.json").write_text("{")
        for ask, words in (
            (lambda: self.source.subject("1"), "one JSON object"),
            (lambda: self.source.funding("x"), "x.json .* list of objects"),
            (self.source.project_names, "list of texts"),
            (lambda: self.source.rig("r"), "r.json: is not JSON"),
            (lambda: FolderSource(self.folder / "gone").rig("r"), "METADATA_FOLDER .* not there"),
        ):
            with self.subTest(words), self.assertRaisesRegex(MetadataError, words):
                ask()


class Settings(unittest.TestCase):
    """The variables."""

    def refused(self, **variables: str) -> list[str]:
        """Have variables refused, and give the lines that say why."""
        with patch.dict(os.environ, variables, clear=True):
            with self.assertRaises(ValidationError) as caught:
                UploadSettings()
        return explain_settings(caught.exception)

    def test_everything_that_is_wrong_is_told_at_once_with_what_would_be_right(self) -> None:
        self.assertEqual(
            [
                'METADATA_FOLDER: "a/b" is no absolute path; write one such as /shared/metadata',
                'METADATA_SOURCES: "rigs" is not a kind of document; write subject, procedures, '
                "instrument, rig, funding, project_names; did you mean rig?",
                'METADATA_SOURCES: subject: "labtrack" is not a source of subject; write service, '
                "labtracks, folder; did you mean labtracks?",
                'METADATA_SOURCES: subject: the source "sharepoint" has no subject; write service, '
                "labtracks, folder",
                "METADATA_SOURCES: procedures.sources: no source is named; write service, "
                "sharepoint, labtracks, folder",
                'METADATA_SOURCES: procedures: "if_missin" is not a key of it; write sources, '
                "if_missing; did you mean if_missing?",
                'METADATA_SOURCES: instrument: "5" says nothing about sources; write a list of '
                "sources, or an object with sources, if_missing or both",
                'METADATA_SOURCES: funding.if_missing: "requires" is not a policy; write require, '
                "warn, ignore; did you mean require?",
                "METADATA_SOURCES: project_names.if_missing: there is no policy for "
                "project_names; leave it out",
                'METADATA_POLICY_SUBJECT: "maybe" is not a policy; write require, warn, ignore',
            ],
            self.refused(
                METADATA_FOLDER="a/b",
                METADATA_SOURCES=json.dumps(
                    {
                        "rigs": ["folder"],
                        "subject": ["labtrack", "sharepoint"],
                        "procedures": {"sources": ["tars"], "if_missin": "warn"},
                        "instrument": 5,
                        "funding": {"if_missing": "requires"},
                        "project_names": {"sources": "folder", "if_missing": "warn"},
                    }
                ),
                METADATA_POLICY_SUBJECT="maybe",
            ),
        )

    def test_what_is_no_table_is_refused_with_an_example_of_one(self) -> None:
        for text, words in {
            "labtracks,service": "is not valid JSON",
            '["labtracks"]': "a list is not a JSON object",
            "7": '"7" is not a JSON object',
            "9" * 5000: "is not valid JSON",
            "[" * 100_000: "is nested too deeply",
            '{"rig": ' + "[" * 50 + "]" * 50 + "}": "is nested too deeply",
        }.items():
            with self.subTest(text[:20]):
                [line] = self.refused(METADATA_SOURCES=text)
                self.assertRegex(line, rf"^METADATA_SOURCES: {words}.*write an object such as {{")

    def test_wrong_types_and_keys_that_are_there_twice_are_named(self) -> None:
        for text, words in {
            '{"rig": null}': 'rig: "None" says nothing about sources',
            '{"rig": {}}': "rig: .* says nothing about sources",
            '{"rig": []}': "rig: no source is named",
            '{"rig": ""}': "rig: no source is named",
            '{"rig": [5]}': 'rig: "5" is not a source of rig',
            '{"rig": {"sources": {"a": 1}}}': "rig.sources: .* is not a list of sources",
            '{"rig": {"if_missing": true}}': 'rig.if_missing: "True" is not a policy',
            '{"rig": "folder", "rig": "slims"}': '"rig" is there twice',
            '{"rig": "folder", "Rig": "slims"}': '"rig" is there twice',
            '{"\\ud800": 1}': r'"\\ud800" is not a kind of document',
        }.items():
            with self.subTest(text):
                [line] = self.refused(METADATA_SOURCES=text)
                self.assertRegex(line, f"^METADATA_SOURCES: {words}")

    def test_a_hundred_mistakes_are_counted(self) -> None:
        table = json.dumps({f"kind {number}": 1 for number in range(100)})
        lines = self.refused(METADATA_SOURCES=table)
        self.assertEqual((21, "METADATA_SOURCES: 80 more problems"), (len(lines), lines[-1]))

    def test_two_different_policies_for_subjects_are_refused(self) -> None:
        table = {"METADATA_SOURCES": '{"subject": {"if_missing": "Warn"}}'}
        self.assertEqual(
            [
                'METADATA_POLICY_SUBJECT is "require", and if_missing in METADATA_SOURCES.subject '
                'is "warn"; keep one of them'
            ],
            self.refused(**table, METADATA_POLICY_SUBJECT="require"),
        )
        found = settings(**table, METADATA_POLICY_SUBJECT="warn")
        self.assertEqual("warn", found.policy_of("subject", True))

    def test_a_kind_has_its_sources_and_its_policy(self) -> None:
        table = {
            "subject": "folder, LabTracks",
            "Project-Names": ["folder", "folder"],
            "rig": {"sources": ["slims"], "if_missing": "Ignore"},
        }
        found = settings(METADATA_SOURCES=json.dumps(table))
        self.assertEqual(("folder", "labtracks"), found.order_of("subject"))
        self.assertEqual(("folder",), found.order_of("project_names"))
        self.assertEqual(("slims",), found.order_of("rig"))
        self.assertEqual(sources_of("funding"), found.order_of("funding"))
        policies = [found.policy_of(kind, True) for kind in ("subject", "rig", "funding")]
        self.assertEqual(["require", "ignore", "warn"], policies)
        self.assertEqual("warn", found.policy_of("subject", False))

    @quick(deadline=None)
    @given(st.text() | TABLES.map(json.dumps))
    def test_whatever_is_written_is_taken_or_refused_in_words(self, text: str) -> None:
        try:
            found = MetadataSettings(sources=text)
        except ValidationError as error:
            for line in explain_settings(error):
                self.assertTrue(line.startswith("METADATA_SOURCES: "), line)
                self.assertTrue(line.isprintable(), line)
        else:
            for kind in KINDS:
                self.assertTrue(set(found.order_of(kind)) <= set(sources_of(kind)))

    def test_a_foreign_variable_of_that_name_is_disregarded(self) -> None:
        with patch.dict(os.environ, {"METADATA": "x"}, clear=True):
            self.assertEqual((), open_lab(UploadSettings()).chosen("subject"))

    def test_all_that_is_configured_is_opened_and_what_cannot_be_is_told(self) -> None:
        entra = {"CLIENT_ID": "c", "CLIENT_SECRET": "s"}
        variables = {
            "METADATA_SERVICE_URL": "http://127.0.0.1:1",
            "METADATA_FOLDER": "/nowhere",
            "LABTRACKS_SERVER": "l",
            "LABTRACKS_DATABASE": "d",
            "LABTRACKS_USER": "u",
            "LABTRACKS_PASSWORD": "p",
            "SLIMS_HOST": "https://s",
            "SLIMS_USERNAME": "u",
            "SLIMS_PASSWORD": "p",
            "CA_FILE": "/nowhere.pem",
            "SHAREPOINT_SITE": "s",
            "SHAREPOINT_LIST_2023": "l",
            "TARS_RESOURCE": "https://t",
            "TARS_SCOPE": "api://t/.default",
            "ENTRA_TENANT": "t",
            **{f"{system}_{k}": v for system in ("TARS", "SHAREPOINT") for k, v in entra.items()},
        }
        with patch.dict(os.environ, variables, clear=True):
            lab = self.enterContext(open_lab(UploadSettings()))
        self.assertEqual(("service", "labtracks", "folder"), lab.chosen("subject"))
        self.assertEqual(("service", "sharepoint", "labtracks", "folder"), lab.chosen("procedures"))
        self.assertTrue(lab.enriches)
        with self.assertRaisesRegex(MetadataError, "nowhere.pem holds no certificates"):
            lab.ask("slims", "rig", "r")
        self.assertLessEqual(set(variables), shared_variables())

    def test_jobs_get_what_was_said_and_nothing_else(self) -> None:
        variables = {
            "METADATA_SOURCES": json.dumps(
                {"subject": {"sources": ["folder"]}, "rig": {"if_missing": "ignore"}}
            ),
            "METADATA_POLICY_SUBJECT": "warn",
            "SLIMS_HOST": "https://s",
            "SLIMS_USERNAME": "u",
            "SLIMS_PASSWORD": "hunter2",
        }
        with patch.dict(os.environ, variables, clear=True):
            found = UploadSettings().metadata
        self.assertEqual(variables, found.environment())
        with patch.dict(os.environ, found.environment(), clear=True):
            self.assertEqual(found, UploadSettings().metadata)
        self.assertNotIn("hunter2", repr(found))
