"""Surgeries from SharePoint, through a server that speaks as Microsoft Graph does."""

import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.http import Patience
from aind_data_transfer_service.metadata.sources.sharepoint.source import (
    SharePointSource,
    literal,
    site_path,
)
from aind_data_transfer_service.settings.metadata_sources import SharePointSettings
from tests.support import campaign, slow
from tests.support.clock import Clock
from tests.support.entra import CLIENT_ID, SECRET, TENANT, GraphServer, ListOnGraph
from tests.support.https import Fault, Reply, ca_file
from tests.support.nsb import item_2019, item_2023, item_las

ZONE = ZoneInfo("America/Los_Angeles")


class Asking(unittest.TestCase):
    """A subject's surgeries out of two lists."""

    def setUp(self) -> None:
        self.old = ListOnGraph([item_2019("1"), item_2019("7", id="20")], indexed=False)
        self.new = ListOnGraph([item_2023("7", id=str(n)) for n in range(5)])
        self.server = self.enterContext(GraphServer(Old=self.old, New=self.new))
        self.clock = Clock()

    def source(self, real: bool = False, **changes: Any) -> SharePointSource:
        """Make a source that knows the server, or something slightly else."""
        known = {
            "site": self.server.site,
            "list_2019": "Old",
            "list_2023": "New",
            "tenant": TENANT,
            "client_id": CLIENT_ID,
            "client_secret": SECRET,
            "authority": self.server.url,
            "graph_url": self.server.url,
            "ca_file": ca_file(),
        }
        patience = Patience(1.0)
        if not real:
            patience = Patience(10.0, clock=self.clock, sleep=self.clock.sleep)
        source = SharePointSource(SharePointSettings(**(known | changes)), ZONE, patience)
        self.addCleanup(source.close)
        return source

    @cached_property
    def kept_source(self) -> SharePointSource:
        """Make a source for many questions of one test."""
        return self.source(list_2019=None)

    def refused(self, words: str, *told: Any, source: SharePointSource | None = None) -> None:
        """Have a question fail, in these words and on one line."""
        self.server.next(*told)
        with self.assertRaisesRegex(MetadataError, words) as raised:
            (source or self.source(list_2019=None)).procedures("7")
        self.assertNotIn(SECRET, str(raised.exception))
        self.assertNotIn("\n", str(raised.exception))

    def test_both_lists_and_all_their_pages_make_one_document(self) -> None:
        found = self.source().procedures("7")
        parts = found.document["subject_procedures"]
        self.assertEqual(13, len(parts))
        self.assertEqual(
            {"SharePoint, NSB 2019-2022 (Old)", "SharePoint, NSB 2023 (New)"},
            {part["notes"].splitlines()[0].removeprefix("source: ") for part in parts},
        )
        self.assertEqual(("7", True), (found.document["subject_id"], found.complete))
        self.assertEqual(3, len(self.server.asked("/lists/New/items")))
        self.assertEqual(1, self.server.tokens_given)

    def test_a_subject_that_no_list_has_is_not_found(self) -> None:
        self.assertIsNone(self.source().procedures("8"))

    def test_items_of_others_are_left_out_however_graph_filters(self) -> None:
        self.new.items = [item_2023("71"), item_2023("7x"), item_2023(7.0), item_2023(" 7 ")]
        found = self.source(list_2019=None).procedures("7")
        self.assertEqual(4, len(found.document["subject_procedures"]))
        self.assertTrue(any("2 of its items are of another subject" in n for n in found.notes))
        self.new.items = [item_2023("71")]
        self.assertIsNone(self.source(list_2019=None).procedures("7"))

    def test_any_number_of_lists_is_asked(self) -> None:
        self.server.lists["SWR 2023-Present"] = ListOnGraph([item_2023("7", id="900")])
        self.new.items = []
        found = self.source(lists='{"SWR 2023-Present": "2023"}').procedures("7")
        self.assertEqual(
            {"SharePoint, NSB 2019-2022 (Old)", "SharePoint, NSB 2023 (SWR 2023-Present)"},
            {
                part["notes"].splitlines()[0].removeprefix("source: ")
                for part in found.document["subject_procedures"]
            },
        )

    def test_requests_to_the_animal_services_are_a_list_of_their_own(self) -> None:
        others = [item_las("8", nROID2="79"), item_las("77")]
        self.server.lists["LAS 2020"] = ListOnGraph([item_las("7"), *others])
        source = self.source(list_2019=None, list_2023=None, lists='{"LAS 2020": "las"}')
        found = source.procedures("7")
        [surgery] = found.document["subject_procedures"]
        kinds = [procedure["procedure_type"] for procedure in surgery["procedures"]]
        self.assertEqual(["Retro-orbital injection"] * 2, kinds)
        self.assertEqual("source: SharePoint, LAS (LAS 2020)", surgery["notes"].splitlines()[0])
        self.assertIsNone(source.procedures("6"))

    def test_an_id_that_a_list_has_as_a_number_is_found_with_its_injection(self) -> None:
        self.server.lists["LAS 2020"] = ListOnGraph([item_las("7", nROID1=7.0, nROID3=None)])
        source = self.source(list_2019=None, list_2023=None, lists='{"LAS 2020": "las"}')
        [surgery] = source.procedures("7").document["subject_procedures"]
        self.assertEqual(1, len(surgery["procedures"]))

    def test_an_item_that_states_no_surgery_is_kept_in_the_notes(self) -> None:
        self.new.items = [item_2023("7", SurgeryStatus="No Surgery")]
        found = self.source(list_2019=None).procedures("7")
        self.assertEqual([], found.document["subject_procedures"])
        self.assertTrue(found.complete)
        self.assertEqual(('item 190: left out: SurgeryStatus is "No Surgery"',), found.notes)
        lines = found.document["notes"].splitlines()
        self.assertIn("item 190: Weight before Surger: 25.2", lines)
        self.assertIn("item 190: CraniotomyType: 5mm", lines)

    def test_throttling_is_waited_out_as_long_as_is_asked(self) -> None:
        busy = Reply(429, {}, {"Retry-After": "4"})
        self.server.next("/lists/New", busy, Reply(503, {}, {"Retry-After": "1"}))
        self.assertTrue(self.source(list_2019=None).procedures("7").complete)
        self.assertEqual([4.0, 1.0], self.clock.slept)

    def test_throttling_beyond_the_time_is_an_error(self) -> None:
        busy = Reply(429, {}, {"Retry-After": "300"})
        self.refused("asked too often.*asks to wait 300 s", "/lists/New", busy)

    def test_a_token_that_ended_between_pages_is_replaced(self) -> None:
        source = self.source(list_2019=None)
        source.procedures("7")
        self.server.revoke()
        self.assertTrue(source.procedures("7").complete)
        self.assertEqual(2, self.server.tokens_given)

    def test_a_list_that_fails_leaves_the_answer_incomplete(self) -> None:
        self.server.next("/lists/Old", Reply(403, {"error": {"message": "Access denied"}}))
        found = self.source().procedures("7")
        self.assertFalse(found.complete)
        self.assertEqual(10, len(found.document["subject_procedures"]))
        self.assertRegex(found.notes[-1], "list Old: .*grant it Sites.Selected.*Access denied")

    def test_a_list_that_fails_where_the_other_has_nothing_is_an_error(self) -> None:
        self.server.next("/lists/Old", Reply(404, {"error": {"code": "itemNotFound"}}))
        self.new.items = []
        with self.assertRaisesRegex(MetadataError, "list Old: there is no such site or list"):
            self.source().procedures("7")

    def test_a_subject_that_may_be_on_a_page_that_failed_is_no_subject_unknown(self) -> None:
        page = {"value": [{"id": "1", "fields": item_2023("71")}]}
        link = f"{self.server.url}/v1.0/sites/x/lists/New/items?p=2"
        first = Reply(200, page | {"@odata.nextLink": link})
        self.refused("not all items could be read: .*answered 400", "/New", first, Reply(400))

    @slow
    def test_pages_before_a_failure_are_kept(self) -> None:
        for answers, words in (
            ([Reply(400, {})], "it answered 400"),
            ([Fault.CUT] * 3, "cannot be reached"),
            ([Reply(200, {"value": "none"})], "holds no list of items"),
            ([Reply(200, b"{half")], "no JSON"),
            ([Reply(200, {"value": [{"id": "3"}]})], "item 3 comes without its cells"),
        ):
            with self.subTest(words):
                source = self.source(list_2019=None)
                first = self.server.answer
                self.server.answer = lambda request: self._then(request, first, answers)
                found = source.procedures("7")
                self.server.answer = first
                self.assertFalse(found.complete)
                self.assertEqual(4, len(found.document["subject_procedures"]))
                self.assertRegex("\n".join(found.notes), f"not all items could be read: .*{words}")

    def _then(self, request: Any, answer: Any, answers: list[Any]) -> Any:
        if "skiptoken" not in request.target and "/lists/" in request.path:
            self.server.next("/lists/", *answers)
        return answer(request)

    def test_pages_that_are_always_followed_by_another_come_to_an_end(self) -> None:
        address = f"{self.server.url}/v1.0/sites/x/lists/New/items?$skiptoken="
        pages = [{"value": [], "@odata.nextLink": f"{address}{number}"} for number in range(300)]
        pages[0]["value"] = [{"id": "1", "fields": item_2023("7")}]
        self.server.next("/lists/", *[Reply(200, page) for page in pages])
        found = self.source(list_2019=None).procedures("7")
        self.assertFalse(found.complete)
        self.assertIn("pages without end", " ".join(found.notes))
        self.assertLessEqual(len(self.server.asked("/lists/")), 100)

    def test_a_next_page_elsewhere_or_without_end_is_not_followed(self) -> None:
        items = [{"id": "1", "fields": item_2023("7")}]
        for link, words in (
            ("https://evil.example.org/x", "on another host \\(evil.example.org\\)"),
            (f"{self.server.url}/v1.0/sites/x/lists/New/items", "pages without end"),
        ):
            with self.subTest(words):
                page = Reply(200, {"value": items, "@odata.nextLink": link})
                self.server.next("/lists/New", *[page] * (2 if "x/lists" in link else 1))
                found = self.source(list_2019=None).procedures("7")
                self.assertFalse(found.complete)
                self.assertRegex("\n".join(found.notes), words)

    def test_what_graph_refuses_is_told_in_words(self) -> None:
        for status, message, words in (
            (400, "exceeds the list view threshold", "LabTracks_x0020_ID1 indexed"),
            (401, "audience", "SHAREPOINT_GRAPH_URL"),
            (418, "short\nand stout", "it answered 418 \\(short\\)"),
        ):
            with self.subTest(status):
                reply = Reply(status, {"error": {"message": message}})
                self.refused(words, "/lists/New", *[reply] * (2 if status == 401 else 1))
        self.refused("answered 400$", "/lists/New", Reply(400, ["odd"]))

    @slow
    def test_a_wrong_login_and_a_hanging_server_are_told_in_words(self) -> None:
        wrong = self.source(client_secret="wrong")
        self.refused("Entra ID.*client secret is wrong", "/none", Reply(), source=wrong)
        hanging = self.source(real=True, list_2019=None)
        self.refused("did not answer within 1 s", "/lists/New", *[Fault.HANG] * 3, source=hanging)

    def test_a_site_may_be_named_by_its_place(self) -> None:
        self.server.site = "lab.sharepoint.com:/sites/NSB Ö"
        self.assertTrue(self.source().procedures("7").complete)

    @slow
    def test_many_threads_may_ask_at_once(self) -> None:
        source = self.source()
        with ThreadPoolExecutor(8) as pool:
            counts = {
                len(found.document["subject_procedures"])
                for found in pool.map(source.procedures, ["7"] * 16)
            }
        self.assertEqual({13}, counts)
        self.assertEqual(1, self.server.tokens_given)

    @settings(max_examples=campaign(40))
    @given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(str.strip))
    @example("0\xa00")
    def test_no_id_breaks_the_question(self, subject_id: str) -> None:
        self.new.items = [item_2023(subject_id)]
        found = self.kept_source.procedures(subject_id)
        self.assertEqual(subject_id, found.document["subject_id"])


class Writing(unittest.TestCase):
    """How questions are written."""

    def test_apostrophes_are_doubled(self) -> None:
        self.assertEqual("'a''; b'' or ''1'' eq ''1'", literal("a'; b' or '1' eq '1"))

    def test_sites(self) -> None:
        for site, expected in (
            ("host,1-2,3-4", "host,1-2,3-4"),
            ("host:/sites/NSB", "host:/sites/NSB:"),
            ("host:sites/A B/:", "host:/sites/A%20B:"),
            ("../me?x#y", quote("../me?x#y", safe=",")),
        ):
            with self.subTest(site):
                self.assertEqual(expected, site_path(site))
