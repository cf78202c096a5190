"""Lots of viruses, from a server that speaks as TARS does."""

import json
import unittest
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.http import Patience
from aind_data_transfer_service.metadata.merge_procedures import merge_procedures
from aind_data_transfer_service.metadata.sources.sharepoint.source import SharePointSource
from aind_data_transfer_service.metadata.sources.tars import Material, TarsSource
from aind_data_transfer_service.metadata.validation import problems_of
from aind_data_transfer_service.settings.metadata_sources import SharePointSettings, TarsSettings
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import campaign, slow
from tests.support.clock import Clock
from tests.support.entra import CLIENT_ID, SECRET, TENANT, GraphServer, ListOnGraph
from tests.support.https import Fault, Reply, ca_file
from tests.support.nsb import item_2019, item_2023
from tests.support.tars import SCOPE, TarsServer, alias, lot, molecule


def virus(name: str, number: str | None, titer: int | None = None) -> dict[str, Any]:
    """Make an injected virus."""
    identifiers = {"prep_lot_number": number} if number else None
    return {
        "material_type": "Virus",
        "name": name,
        "tars_identifiers": identifiers,
        "titer": titer,
        "addgene_id": None,
    }


def procedures(*materials: dict[str, Any]) -> Found:
    """Make procedures of one surgery that injects all of these."""
    injection = {"procedure_type": "Nanoject injection", "injection_materials": list(materials)}
    surgery = {"procedure_type": "Surgery", "procedures": [injection], "notes": "cold"}
    return Found({"subject_id": "7", "subject_procedures": [surgery]}, True, "the list")


CASES = Path(__file__).parents[1] / "cases"


ODD = st.none() | st.text(max_size=20) | st.integers() | st.just({})
NAMES = ODD | st.sampled_from(["AiV1", "VIR2_x", "AiP3", "ExP4", "rAAV-x", "pAAV_y", "AiVx"])
ALIASES = ODD | st.fixed_dictionaries({"name": NAMES, "isPreferred": st.none() | st.booleans()})


class Case(unittest.TestCase):
    """What the tests of TARS need."""

    def setUp(self) -> None:
        self.server = self.enterContext(TarsServer())
        self.clock = Clock()

    def source(self, patience: Patience | None = None, **changes: Any) -> TarsSource:
        """Make a source that knows the server, or something slightly else."""
        known = {
            "resource": f"{self.server.url}/tars",
            "scope": SCOPE,
            "tenant": TENANT,
            "client_id": CLIENT_ID,
            "client_secret": SECRET,
            "authority": self.server.url,
            "ca_file": ca_file(),
        }
        patience = patience or Patience(10.0, clock=self.clock, sleep=self.clock.sleep)
        source = TarsSource(TarsSettings(**(known | changes)), patience)
        self.addCleanup(source.close)
        return source

    @cached_property
    def kept_source(self) -> TarsSource:
        """Make a source for many questions of one test."""
        return self.source()


class Lots(Case):
    """Asking for one lot."""

    def test_a_lot_tells_what_it_is_made_of(self) -> None:
        self.assertEqual(
            Material(
                lot="VT3214g",
                virus="AiV300024",
                plasmid="AiP300001",
                name="pAAV-Syn-Flex-TREx2-tTA-WPRE",
                prepared="2023-02-04",
                preparation="Purified",
                protocol="SOP#VC003",
                titer=41300000000000,
                addgene_id="12345",
            ),
            self.source().material(" VT3214g "),
        )

    def test_the_molecules_that_the_virus_names_are_asked_for(self) -> None:
        told = lot()
        told["viralPrep"]["virus"]["molecules"] = [{"aliases": [alias("AiP1109", True)]}, "odd"]
        self.server.lots = [told]
        self.server.molecules.append(
            molecule(aliases=[alias("AiP1109", True)], fullName="pAAV-x", addgeneId=None)
        )
        found = self.source().material("VT3214g")
        self.assertEqual(("AiP1109", "pAAV-x", None), (found.plasmid, found.name, found.addgene_id))

    @slow
    def test_only_the_very_lot_counts_on_whatever_page(self) -> None:
        self.server.lots = [lot(f"VT3214{letter}") for letter in "abcdefg"] + [lot("vt3214G")]
        self.server.page_size = 2
        self.assertEqual("VT3214g", self.source().material("VT3214g").lot)
        self.assertEqual(1, len(self.server.asked("ViralPrepLots")))
        self.assertIsNotNone(self.source().material("VT3214c"))
        self.assertIsNone(self.source().material("VT3214"))
        self.assertEqual(1 + 1 + 4, len(self.server.asked("ViralPrepLots")))
        self.assertIsNone(self.source().material("  "))

    def test_of_several_lots_the_last_is_taken_and_told(self) -> None:
        self.server.lots.append(lot(datePrepped="2024-01-01T00:00:00Z"))
        found = self.source().material("VT3214g")
        self.assertEqual("2024-01-01", found.prepared)
        self.assertEqual(("TARS has 2 lots VT3214g; the one prepared last is taken",), found.notes)

    def test_a_titer_that_nobody_prefers_is_taken_if_all_agree(self) -> None:
        for titers, expected, words in (
            ([(None, 3e13), (None, 3e13)], 30000000000000, ""),
            (
                [(False, 3e13), (None, 4e13)],
                None,
                "TARS has the titers 30000000000000, 40000000000000",
            ),
            (
                [(True, 3e13), (True, 4e13)],
                None,
                "TARS has the titers 30000000000000, 40000000000000",
            ),
            ([(True, 3e13), (False, 4e13)], 30000000000000, ""),
            ([(None, 1.20001e12), (None, 1.20002e12)], None, "1200010000000, 1200020000000"),
            ([(True, None), (False, 3e12)], None, "not preferred: 3000000000000"),
            ([(True, "6e12"), (False, 3e12)], None, 'no numbers above 0: "6e12"'),
            ([(None, 0), (None, 3e12)], 3000000000000, 'no numbers above 0: "0"'),
            ([(True, None)], None, ""),
            ([], None, ""),
        ):
            told = [{"isPreferred": preferred, "result": one} for preferred, one in titers]
            self.server.lots = [lot(titers=told)]
            with self.subTest(titers):
                found = self.source().material("VT3214g")
                self.assertEqual(expected, found.titer)
                self.assertIn(words, " ".join(found.notes))
                self.assertEqual(bool(words), bool(found.notes))

    def test_an_empty_date_is_no_date(self) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        for words, what in (
            ("0001-01-01T00:00:00Z", "not plausible"),
            ("1900-01-01T00:00:00", "not plausible"),
            (tomorrow, "not plausible"),
            ("spring 2023", "not a date"),
        ):
            self.server.lots = [lot(datePrepped=words)]
            found = self.source().material("VT3214g")
            self.assertIsNone(found.prepared)
            [note] = found.notes
            self.assertEqual(
                f'lot VT3214g: TARS\'s date of preparation is "{words}", which is {what}', note
            )
        for words in (None, ""):
            self.server.lots = [lot(datePrepped=words)]
            found = self.source().material("VT3214g")
            self.assertEqual((None, ()), (found.prepared, found.notes))

    def test_a_lot_that_says_little_is_of_use_too(self) -> None:
        for told, expected in (
            ({"viralPrep": None, "titers": None, "datePrepped": None}, Material("VT3214g")),
            (
                {
                    "viralPrep": {"viralPrepType": {"name": "Odd"}, "virus": {"aliases": ["x"]}},
                    "titers": [{"result": "many"}, 3, {"result": True}],
                    "datePrepped": "2023",
                },
                Material(
                    "VT3214g",
                    notes=(
                        "lot VT3214g: TARS has titers that are no numbers above 0: "
                        '"many", "True", "3"',
                        'lot VT3214g: TARS\'s date of preparation is "2023", which is not a date',
                        'lot VT3214g: TARS\'s type of preparation is "Odd"',
                    ),
                ),
            ),
        ):
            with self.subTest(expected):
                self.server.lots = [lot(**told)]
                self.assertEqual(expected, self.source().material("VT3214g"))

    def test_aliases_are_told_apart_by_what_they_look_like(self) -> None:
        self.server.lots = json.loads((CASES / "tars_lots.json").read_text())["data"]
        self.server.molecules = []
        first, second = (self.source().material(name) for name in ("VT0001G", "VT0002G"))
        self.assertEqual(
            Material(
                lot="VT0001G",
                virus="AiV1_PHPeB_2",
                plasmid="AiP1",
                name="rAAV-gene-SYFP2",
                prepared="2024-02-04",
                preparation="Crude",
                protocol="PHPeB-SOP#VC004",
                titer=67300000000000,
            ),
            first,
        )
        self.assertEqual(
            Material(
                lot="VT0002G",
                virus="VIR2_PHPeB",
                name="pAAV-gene-tdT",
                prepared="2024-02-04",
                preparation="Crude",
                protocol="SOP#VC001",
                titer=15000000000000,
            ),
            second,
        )

    @slow
    def test_types_of_preparation(self) -> None:
        for name, expected in {
            "Crude-SOP#VC002": ("Crude", "SOP#VC002"),
            "Purified-MGT#1.0": ("Purified", "MGT#1.0"),
            "Crude-NEW#2.0": ("Crude", "NEW#2.0"),
            "Rabies-SOP#VC001": ("Crude", "SOP#VC001"),
            "Crude": ("Crude", None),
            "purified": ("Purified", None),
            "Crude-": ("Crude", None),
            "Purified - SOP#VC003": ("Purified", "SOP#VC003"),
            "Purified- MGT#1.0": ("Purified", "MGT#1.0"),
            "crude-HGT": ("Crude", "HGT"),
            "CRUDE -new#2.0": ("Crude", "new#2.0"),
            "rabies - sop#vc001": ("Crude", "SOP#VC001"),
            "crudePHPeB - SOP#VC004": ("Crude", "PHPeB-SOP#VC004"),
            "Crude \u2013 HGT": ("Crude", "HGT"),
            "Crude-HGT, twice": ("Crude", "HGT, twice"),
            "Crude lysate": (None, None),
            "Crudely purified": (None, None),
            "PHPeB-SOP-UW": (None, "PHPeB-SOP-UW"),
            "VTC-AAV1": (None, None),
            "Unknown": (None, None),
            "Iodixanol gradient purification (large scale preps)": (None, None),
        }.items():
            with self.subTest(name):
                told = lot()
                told["viralPrep"]["viralPrepType"]["name"] = name
                self.server.lots = [told]
                found = self.source().material("VT3214g")
                self.assertEqual(expected, (found.preparation, found.protocol))
                is_clear = name.strip("-").lower() in ("crude", "purified") or expected[1]
                self.assertEqual(not is_clear, f'"{name}"' in "".join(found.notes))

    @settings(max_examples=campaign(20), deadline=None)
    @given(st.lists(ALIASES, max_size=4), ODD | st.sampled_from(["Crude-SOP#VC002", "Crude-", "-"]))
    def test_no_name_is_invented(self, aliases: list[Any], type_name: Any) -> None:
        told = lot()
        told["viralPrep"]["virus"]["aliases"] = aliases
        told["viralPrep"]["viralPrepType"] = {"name": type_name}
        self.server.lots, self.server.molecules = [told], []
        found = self.kept_source.material("VT3214g")
        names = [None, *(one.get("name") for one in aliases if isinstance(one, dict))]
        for name in (found.virus, found.plasmid, found.name):
            self.assertIn(name, names)
        self.assertIn(found.preparation, ("Crude", "Purified", None))
        stated = " ".join(str(type_name or "").split())
        if stated and not found.protocol and not found.preparation:
            self.assertIn(stated, "".join(found.notes))

    def test_an_expression_plasmid_is_a_plasmid(self) -> None:
        told = lot()
        told["viralPrep"]["virus"]["aliases"] = [alias("ExP12", True), alias("some genome", False)]
        self.server.lots, self.server.molecules = [told], []
        found = self.source().material("VT3214g")
        self.assertEqual((None, "ExP12", "some genome"), (found.virus, found.plasmid, found.name))

    def test_a_molecule_that_is_not_answered_for_leaves_the_lot_incomplete(self) -> None:
        self.server.next("/Molecules", Reply(403, {}))
        found = self.source().material("VT3214g")
        self.assertEqual((False, "AiV300024", None), (found.complete, found.virus, found.plasmid))
        self.assertIn("no molecule pAAV-Syn-Flex-TREx2-tTA: TARS at", found.notes[0])
        self.server.molecules = [molecule(aliases=[alias("pAAV-Syn-Flex-TREx2-tTA-2", True)])]
        self.assertIsNone(self.source().material("VT3214g").plasmid)

    @slow
    def test_failures_are_told_in_words(self) -> None:
        odd = {"data": ["x"], "morePages": False}
        for answers, words in (
            ([Reply(500)] * 3, "has trouble of its own \\(500\\)"),
            ([Reply(403)], "granted in Entra ID"),
            ([Reply(401), Reply(401)], "look whether TARS_SCOPE is right"),
            ([Reply(404)], "look whether TARS_RESOURCE is right"),
            ([Reply(418)], "answered 418"),
            ([Reply(200, b"<html>", content_type="text/html")], "no JSON \\(text/html\\)"),
            ([Reply(200, odd)], "without a list of data"),
            ([Reply(200, [])], "without a list of data"),
            ([Fault.CUT] * 3, "cannot be reached"),
            ([Reply(429, {}, {"Retry-After": "99"})], "asks to wait 99 s"),
        ):
            with self.subTest(words):
                self.server.next("/ViralPrepLots", *answers)
                with self.assertRaisesRegex(MetadataError, f"TARS at 127.*{words}") as raised:
                    self.source().material("VT3214g")
                self.assertNotIn(SECRET, str(raised.exception))
        self.server.next("/ViralPrepLots", Fault.HANG)
        with self.assertRaisesRegex(MetadataError, "did not answer within 0.2 s"):
            self.source(Patience(0.2, attempts=1)).material("VT3214g")
        with self.assertRaisesRegex(MetadataError, "Entra ID.*client secret is wrong"):
            self.source(client_secret="wrong").material("VT3214g")

    def test_pages_without_end_are_not_read_to_the_end(self) -> None:
        endless = Reply(200, {"data": [lot("VT3214gg")], "morePages": True})
        self.server.next("/ViralPrepLots", *[endless] * 60)
        with self.assertRaisesRegex(MetadataError, "finds more than"):
            self.source().material("VT3214g")

    def test_a_page_that_promises_more_than_there_is_ends_the_search(self) -> None:
        for count in (1, None):
            page = {"data": [lot()], "morePages": True, "totalCount": count}
            self.server.next("/ViralPrepLots", Reply(200, page))
            self.assertIsNotNone(self.source().material("VT3214g"))
        self.assertEqual(1 + 2, len(self.server.asked("ViralPrepLots")))

    @settings(max_examples=campaign(40))
    @given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1))
    def test_no_lot_breaks_the_question(self, name: str) -> None:
        self.server.lots = [lot(name.strip())]
        found = self.kept_source.material(name)
        self.assertEqual(name.strip() or None, found and found.lot)


class Enriching(Case):
    """Procedures and what TARS adds to them."""

    def test_a_virus_that_names_its_lot_is_completed(self) -> None:
        before = procedures(virus("two in one", "VT3214g", 7), virus("plain", None))
        found = self.source().enrich(before)
        [part] = found.document["subject_procedures"]
        one, two = part["procedures"][0]["injection_materials"]
        self.assertEqual(
            {
                "virus_tars_id": "AiV300024",
                "plasmid_tars_alias": "AiP300001",
                "prep_lot_number": "VT3214g",
                "prep_date": "2023-02-04",
                "prep_type": "Purified",
                "prep_protocol": "SOP#VC003",
            },
            one["tars_identifiers"],
        )
        self.assertEqual(("pAAV-Syn-Flex-TREx2-tTA-WPRE", 7), (one["name"], one["titer"]))
        self.assertEqual("12345", one["addgene_id"]["registry_identifier"])
        self.assertEqual(virus("plain", None), two)
        self.assertEqual(
            "cold\npAAV-Syn-Flex-TREx2-tTA-WPRE (VT3214g) is called there: two in one",
            part["notes"],
        )
        self.assertEqual(
            ("the list and TARS", True, True), (found.source, found.complete, found.valid)
        )
        unchanged = procedures(virus("two in one", "VT3214g", 7), virus("plain", None))
        self.assertEqual(unchanged, before)

    def test_a_virus_of_generation_2_is_completed_in_its_shape(self) -> None:
        material = {
            "object_type": "Viral material",
            "name": "VT3214g",
            "tars_identifiers": {"prep_lot_number": "VT3214g"},
        }
        injection = {
            "object_type": "Injection",
            "injection_materials": [material],
            "dynamics": [
                {
                    "object_type": "Injection dynamics",
                    "profile": "Bolus",
                    "volume": 90,
                    "volume_unit": "microliter",
                }
            ],
        }
        surgery = {"object_type": "Surgery", "start_date": "2024-01-01", "procedures": [injection]}
        outside = {
            "object_type": "Non surgical injection",
            "start_date": "2024-01-01",
            "ethics_review_id": "2115",
            "injections": [injection],
        }
        content = {"subject_id": "7", "subject_procedures": [surgery, outside]}
        found = self.source().enrich(Found(content, True, "the service")).document
        self.assertEqual([], problems_of("procedures", found, Generation.V2))
        for part, inner in zip(found["subject_procedures"], ("procedures", "injections")):
            [one] = part[inner][0]["injection_materials"]
            self.assertEqual(["AiP300001"], one["tars_identifiers"]["plasmid_tars_alias"])
            self.assertEqual("Addgene (ADDGENE)", one["addgene_id"]["registry"])

    def test_identifiers_that_tars_does_not_have_stay(self) -> None:
        self.server.lots = [lot(datePrepped=None, viralPrep=None)]
        material = virus("a", "VT3214g")
        material["tars_identifiers"] |= {"virus_tars_id": "AiV1", "prep_date": "2022-01-02"}
        [part] = self.source().enrich(procedures(material)).document["subject_procedures"]
        [found] = part["procedures"][0]["injection_materials"]
        self.assertEqual("AiV1", found["tars_identifiers"]["virus_tars_id"])
        self.assertEqual("2022-01-02", found["tars_identifiers"]["prep_date"])

    def test_each_lot_is_asked_for_once(self) -> None:
        self.server.lots.append(lot("VT1"))
        same = [virus("a", "VT3214g"), virus("b", "VT3214g"), virus("VT1", "VT1")] * 3
        found = self.source().enrich(procedures(*same))
        self.assertEqual(2, len(self.server.asked("ViralPrepLots")))
        self.assertEqual(1, self.server.tokens_given)
        injection = found.document["subject_procedures"][0]["procedures"][0]
        self.assertEqual(
            {41300000000000}, {one["titer"] for one in injection["injection_materials"]}
        )

    def test_lots_that_are_not_found_or_not_answered_for_are_noted(self) -> None:
        self.server.lots.append(lot("bad"))
        self.server.lots.append(lot("230929-12"))

        def answer(request: Any, usual: Any = self.server.answer) -> Reply:
            return Reply(400) if request.query.get("search") == "bad" else usual(request)

        self.server.answer = answer
        found = self.source().enrich(
            procedures(virus("a", "bad"), virus("b", "none"), virus("c", "230929-12"))
        )
        self.assertFalse(found.complete)
        self.assertEqual(
            "lot none is not known to TARS; look whether it is written right", found.notes[0]
        )
        self.assertRegex(found.notes[1], "^lot bad: TARS at .* answered 400$")
        materials = found.document["subject_procedures"][0]["procedures"][0]["injection_materials"]
        self.assertEqual(virus("a", "bad"), materials[0])
        self.assertEqual("AiV300024", materials[2]["tars_identifiers"]["virus_tars_id"])

    def test_what_fails_for_all_lots_alike_is_told_once(self) -> None:
        before = procedures(virus("a", "VT1"), virus("b", "VT2"))
        found = self.source(client_secret="wrong").enrich(before)
        [note] = found.notes
        self.assertRegex(note, "^lot VT1, VT2: Entra ID at .* client secret is wrong")
        self.assertEqual(
            (before.document, "the list", False), (found.document, found.source, found.complete)
        )

    def test_procedures_without_lots_ask_nothing(self) -> None:
        for before in (
            procedures(virus("a", None)),
            Found({"subject_procedures": None}, True, "x"),
            Found({"subject_procedures": [{"procedures": ["odd"]}, 3]}, True, "x"),
        ):
            self.assertIs(before, self.source().enrich(before))
        self.assertEqual([], self.server.seen)

    def test_both_lists_and_tars_make_one_document(self) -> None:
        self.server.lots.append(lot("230929-12", titers=[{"result": 5e12}]))
        graph = self.enterContext(
            GraphServer(
                Old=ListOnGraph([item_2019("7", FiberImplant1=False)]),
                New=ListOnGraph([item_2023("7", Burr_x0020_hole_x0020_1="Injection")]),
            )
        )
        known = SharePointSettings(
            site=graph.site,
            list_2019="Old",
            list_2023="New",
            tenant=TENANT,
            client_id=CLIENT_ID,
            client_secret=SECRET,
            authority=graph.url,
            graph_url=graph.url,
            ca_file=ca_file(),
        )
        lists = SharePointSource(known, ZoneInfo("America/Los_Angeles"))
        self.addCleanup(lists.close)
        found = self.source().enrich(merge_procedures("7", [lists.procedures("7")]))
        self.assertEqual((True, True), (found.valid, found.complete))
        self.assertEqual(
            "SharePoint, NSB 2019-2022 (Old) and SharePoint, NSB 2023 (New) and TARS", found.source
        )
        parts = found.document["subject_procedures"]
        self.assertEqual(
            ["2022-12-06", "2022-12-06", "2022-12-20", "2023-01-03", "2023-07-10"],
            [part["start_date"] for part in parts],
        )
        self.assertEqual(
            ["source: SharePoint, NSB 2019-2022 (Old)"] * 3
            + ["source: SharePoint, NSB 2023 (New)"] * 2,
            [part["notes"].splitlines()[0] for part in parts],
        )
        materials = [
            (one["tars_identifiers"]["prep_lot_number"], one["titer"])
            for part in parts
            for procedure in part["procedures"]
            for one in procedure.get("injection_materials", [])
            if one["tars_identifiers"]
        ]
        self.assertEqual(
            [("VT3214g", 41300000000000), ("VT3214g", 7000000000000), ("230929-12", 5000000000000)],
            materials,
        )
        self.assertEqual(2, len(self.server.asked("ViralPrepLots")))
