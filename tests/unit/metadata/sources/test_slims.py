"""Rigs and instruments, from a server that speaks as SLIMS does."""

import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.http import Patience
from aind_data_transfer_service.metadata.sources.slims import SlimsSource
from aind_data_transfer_service.settings.metadata_sources import SlimsSettings
from tests.support import campaign, slow
from tests.support.clock import Clock
from tests.support.https import Fault, Reply, ca_file
from tests.support.slims import PASSWORD, USER, SlimsServer

RIG = {"rig_id": "323_EPHYS1", "schema_version": "0.3.0"}
INSTRUMENT = {"instrument_id": "440-SmartSPIM2", "schema_version": "0.10.0"}


class Asking(unittest.TestCase):
    """The document of a rig or instrument."""

    def setUp(self) -> None:
        self.server = self.enterContext(SlimsServer())
        self.clock = Clock()

    def source(self, patience: Patience | None = None, **changes: Any) -> SlimsSource:
        """Make a source that knows the server, or something slightly else."""
        known = {
            "host": f"{self.server.url}/slimsrest",
            "username": USER,
            "password": PASSWORD,
            "ca_file": ca_file(),
        }
        patience = patience or Patience(10.0, clock=self.clock, sleep=self.clock.sleep)
        source = SlimsSource(SlimsSettings(**(known | changes)), patience)
        self.addCleanup(source.close)
        return source

    @cached_property
    def kept_source(self) -> SlimsSource:
        """Make a source for many questions of one test."""
        return self.source()

    def test_the_attached_document_is_the_rig_or_instrument(self) -> None:
        self.server.has("323_EPHYS1", ("photo.png", b"x"), ("rig.JSON", RIG))
        self.server.has("440-SmartSPIM2", ("instrument.json", INSTRUMENT))
        source = self.source()
        found = source.rig("323_EPHYS1")
        self.assertEqual(
            (RIG, True, True, ()), (found.document, found.valid, found.complete, found.notes)
        )
        self.assertRegex(found.source, "^SLIMS at 127.0.0.1:\\d+, ReferenceDataRecord 1$")
        self.assertEqual(INSTRUMENT, source.instrument("440-SmartSPIM2").document)
        self.assertIsNone(source.rig("440-SmartSPIM2"))
        self.assertIsNone(source.instrument("323_EPHYS1"))

    def test_the_table_of_instruments_is_searched_too(self) -> None:
        self.server.has_instrument("440-SmartSPIM2", ("photo.png", b"x"), made=3)
        self.server.has_instrument("440-SmartSPIM2", ("instrument.json", INSTRUMENT), made=2)
        for source in (self.source(), self.source(record_type="AIND Instruments")):
            found = source.instrument("440-SmartSPIM2")
            self.assertEqual(INSTRUMENT, found.document)
            self.assertRegex(found.source, ", Instrument 2$")
            self.assertIsNone(source.rig("440-SmartSPIM2"))

    def test_reference_data_win_over_the_table_of_instruments(self) -> None:
        self.server.has_instrument("440-SmartSPIM2", ("instrument.json", {"instrument_id": "x"}))
        self.server.has("440-SmartSPIM2", ("instrument.json", INSTRUMENT))
        found = self.source().instrument("440-SmartSPIM2")
        self.assertRegex(found.source, ", ReferenceDataRecord 2$")

    def test_an_instrument_without_a_document_is_not_found(self) -> None:
        self.server.has_instrument("440-SmartSPIM2", ("photo.png", b"x"))
        self.assertIsNone(self.source().instrument("440-SmartSPIM2"))

    def test_a_file_that_is_not_such_a_document_is_not_one(self) -> None:
        for document in ({"exposure": 5}, {}, [1], INSTRUMENT, {"rig_id": None}):
            with self.subTest(document):
                self.server.records.clear()
                self.server.instruments.clear()
                self.server.has_instrument("323_EPHYS1", ("camera_settings.json", document))
                self.assertIsNone(self.source().rig("323_EPHYS1"))

    def test_the_newest_file_that_is_such_a_document_is_taken(self) -> None:
        files = [("rig.json", RIG), ("cut.json", b"{"), ("camera.json", {"exposure": 5})]
        for has in (self.server.has, self.server.has_instrument):
            with self.subTest(has.__name__):
                self.server.records.clear()
                has("323_EPHYS1", *files)
                found = self.source().rig("323_EPHYS1")
                self.assertEqual(RIG, found.document)
                note = "3 JSON files are attached to 323_EPHYS1; the newest that is a rig is taken"
                self.assertEqual((f"{note}: rig.json",), found.notes)

    def test_a_table_of_instruments_that_may_not_be_read_is_a_note(self) -> None:
        for status in (403, 404):
            self.server.next("/Instrument/advanced", Reply(status))
            with self.subTest(status), self.assertLogs("aind_data_transfer_service") as logs:
                self.assertIsNone(self.source().rig("323_EPHYS1"))
            self.assertRegex(logs.output[0], "the table Instrument: SLIMS at ")
        self.server.next("/ReferenceDataRecord/advanced", Reply(403))
        with self.assertRaisesRegex(MetadataError, "granted reference data"):
            self.source().rig("323_EPHYS1")

    def test_what_is_not_there_is_not_found(self) -> None:
        self.assertIsNone(self.source().rig("323_EPHYS1"))
        self.server.has("323_ephys1", ("rig.json", RIG))
        self.assertIsNone(self.source().rig("323_EPHYS1"))

    def test_the_type_of_the_record_counts_where_it_is_set(self) -> None:
        self.server.has("323_EPHYS1", ("rig.json", RIG), kind="Dome Module")
        self.assertIsNotNone(self.source().rig("323_EPHYS1"))
        self.assertIsNone(self.source(record_type="AIND Instruments").rig("323_EPHYS1"))
        self.assertIsNotNone(self.source(record_type="Dome Module").rig("323_EPHYS1"))

    def test_of_several_the_newest_is_taken_and_told(self) -> None:
        self.server.has("323_EPHYS1", ("old.json", {}), ("new.json", RIG), made=2)
        self.server.has("323_EPHYS1", ("older.json", {"rig_id": "x"}), made=1)
        self.server.has("323_EPHYS1", ("other.json", INSTRUMENT), made=3)
        found = self.source().rig("323_EPHYS1")
        self.assertEqual(RIG, found.document)
        self.assertEqual(
            (
                "2 JSON files are attached to 323_EPHYS1; the newest is taken: new.json",
                "SLIMS has 3 records 323_EPHYS1; record 1 is taken",
            ),
            found.notes,
        )

    def test_the_file_that_a_record_names_is_the_document(self) -> None:
        self.server.has("323_EPHYS1", ("rig.json", RIG), ("newer.json", {"rig_id": "x"}))
        self.server.records[1]["rdrc_cf_instrumentJsonAttachment"] = 100
        found = self.source().rig("323_EPHYS1")
        self.assertEqual((RIG, ()), (found.document, found.notes))
        self.assertEqual([], self.server.asked("/attachment"))
        self.server.next("/repo", Reply(200, b"{"))
        with self.assertRaisesRegex(MetadataError, "the file of rdrc_cf.* is no JSON document"):
            self.source().rig("323_EPHYS1")

    def test_a_document_that_names_another_or_none_is_told(self) -> None:
        for document, valid in (({"rig_id": "other"}, True), ({"notes": "half"}, False)):
            with self.subTest(document):
                self.server.records.clear()
                self.server.has("323_EPHYS1", ("rig.json", document))
                found = self.source().rig("323_EPHYS1")
                self.assertEqual(valid, found.valid)
                self.assertIn("attached to 323_EPHYS1 has the rig_id", found.notes[0])

    def test_what_is_attached_and_no_document_is_told_in_words(self) -> None:
        for files, words in (
            ((), r"no JSON file is attached to 323_EPHYS1 \(nothing is\); attach"),
            ((("a.pdf", b"%PDF"),), r"\(a.pdf is\)"),
            ((("rig.json", b'{"rig_id": '),), "rig.json, attached to 323_EPHYS1, is no JSON"),
            ((("rig.json", [RIG]),), "is no JSON document"),
            ((("rig.json", b"\xff\xfe"),), "is no JSON document"),
        ):
            with self.subTest(words):
                self.server.records.clear()
                self.server.has("323_EPHYS1", *files)
                with self.assertRaisesRegex(MetadataError, words):
                    self.source().rig("323_EPHYS1")

    @slow
    def test_failures_are_told_in_words_without_the_login(self) -> None:
        self.server.has("323_EPHYS1", ("rig.json", RIG))
        for path, answers, words in (
            ("/advanced", [Reply(503)] * 3, "trouble of its own \\(503\\)"),
            ("/advanced", [Reply(403)], "granted reference data"),
            ("/advanced", [Reply(404)], "look whether SLIMS_HOST is right"),
            ("/advanced", [Reply(400)], "answered 400"),
            ("/advanced", [Reply(200, b"<html>", content_type="text/html")], "no JSON"),
            ("/advanced", [Reply(200, {"entities": [{"pk": "1"}]})], "without a list of entities"),
            ("/attachment", [Reply(200, [])], "without a list of entities"),
            ("/repo", [Fault.CUT] * 3, "cannot be reached"),
            ("/repo", [Reply(429, {}, {"Retry-After": "60"})], "asks to wait 60 s"),
        ):
            with self.subTest(words, path=path):
                self.server.next(path, *answers)
                with self.assertRaisesRegex(MetadataError, f"SLIMS at 127.*{words}") as raised:
                    self.source().rig("323_EPHYS1")
                self.assertNotRegex(str(raised.exception), "hunter2|reader|\n")
        with self.assertRaisesRegex(MetadataError, "refuses the login; look at SLIMS_USERNAME"):
            self.source(password="wrong").rig("323_EPHYS1")
        self.server.next("/advanced", Fault.HANG)
        with self.assertRaisesRegex(MetadataError, "did not answer within 0.2 s"):
            self.source(Patience(0.2, attempts=1)).rig("323_EPHYS1")

    def test_entities_without_columns_are_of_use_too(self) -> None:
        self.server.has("323_EPHYS1", ("rig.json", RIG))
        bare = Reply(200, {"entities": [{"pk": 1, "columns": ["odd"]}]})
        self.server.next("/advanced", bare)
        self.assertEqual(RIG, self.source().rig("323_EPHYS1").document)
        self.server.next("/attachment", bare)
        with self.assertRaisesRegex(MetadataError, r"\(attachment 1 is\)"):
            self.source().rig("323_EPHYS1")

    def test_many_threads_may_ask_at_once(self) -> None:
        self.server.has("323_EPHYS1", ("rig.json", RIG))
        source = self.source()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(source.rig, ["323_EPHYS1"] * 16))
        self.assertEqual([RIG] * 16, [one.document for one in found])

    @settings(max_examples=campaign(40))
    @given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1))
    def test_no_name_breaks_the_question(self, name: str) -> None:
        self.server.records.clear()
        self.server.has(name, ("rig.json", {"rig_id": name}))
        self.assertEqual((), self.kept_source.rig(name).notes)
