"""Lists and other XML as servers of every kind write them, whole or not, right or not."""

import itertools
import unittest
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.storage.base import BufferBody
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.parallel_list import PageGuard
from aind_data_transfer_service.storage.s3.responses import read_objects
from aind_data_transfer_service.storage.s3.retry import Fault
from tests.support import slow
from tests.support.scripted import OK, refusal, reply
from tests.unit.storage.s3.test_faults import MEBI, FaultTest

AMAZON = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
KEYS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8)
    | st.text("ab +%2B/&<é", min_size=1, max_size=8),
    unique=True,
    max_size=8,
)
MARKERS = ("continuation-token",)


def entry_of(key, etag="e", size=1):
    """Write an object of a list."""
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;{etag}&quot;</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    )


def page_of(*entries, token="", encoding="", space=AMAZON):
    """Write a page of a list."""
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    said = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{space}>{said}'
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{more}{''.join(entries)}"
        "</ListBucketResult>"
    ).encode()


class TestPages(unittest.TestCase):
    """One page, read."""

    @settings(max_examples=150, deadline=None)
    @given(
        KEYS,
        st.sampled_from(["plain", "quote", "plus"]),
        st.sampled_from(["", AMAZON, ' xmlns="urn:other"', ' xmlns:a="urn:a"']),
        st.sampled_from(["", " \n\t ", "\ufeff", " \ufeff", "<!-- x --> ", "\n<!-- <a> -->\n"]),
    )
    @slow
    def test_keys_survive_every_kind_of_server(self, keys, kind, space, before):
        write = {"plain": str, "quote": lambda k: quote(k, safe="/"), "plus": quote_plus}[kind]
        entries = [entry_of(write(key)) for key in keys]
        encoding = "" if kind == "plain" else "url"
        body = before.encode() + page_of(*entries, encoding=encoding, space=space)
        page = read_objects(Reply(200, {}, body), MARKERS)
        self.assertEqual([item.key for item in page.items], keys)
        self.assertEqual({item.etag for item in page.items} - {'"e"'}, set())
        self.assertIsNone(page.next)

    @slow
    @settings(max_examples=150, deadline=None)
    @given(KEYS, st.data())
    def test_a_page_that_was_cut_off_is_a_fault(self, keys, data):
        body = page_of(*map(entry_of, keys))
        with self.assertRaisesRegex(Fault, "not complete XML"):
            read_objects(Reply(200, {}, body[: data.draw(st.integers(0, len(body) - 1))]), MARKERS)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=40), st.data())
    def test_damage_is_a_fault_or_a_list_and_nothing_else(self, noise, data):
        body = page_of(entry_of("a+b"), entry_of("c%20d"), token="t", encoding="url")
        place = data.draw(st.integers(0, len(body)))
        try:
            read_objects(Reply(200, {}, body[:place] + noise + body[place + len(noise) :]), MARKERS)
        except Fault:
            return

    def test_what_says_that_it_is_encoded_and_shows_that_it_is_not_is_taken_as_it_is(self):
        keys = ["a/50%", "a/x+y", "a/%2B z"]
        body = page_of(*map(entry_of, keys), encoding="url")
        page = read_objects(Reply(200, {}, body), MARKERS)
        self.assertEqual([item.key for item in page.items], keys)

    def test_a_page_of_a_proxy_is_no_empty_list(self):
        with self.assertRaisesRegex(Fault, "it is not a list but html"):
            read_objects(Reply(200, {}, b"<html><body>Log in</body></html>"), MARKERS)

    def test_pages_of_which_each_is_new_are_no_endless_list(self):
        guard = PageGuard()
        for number in range(3000):
            guard.check(number, {"marker": str(number)})
        for number in range(3000, 3900):
            guard.check(None, {"marker": str(number)})
        guard.check(3000, None)


class TestLists(FaultTest):
    """Lists from servers that make them badly."""

    def pages(self, *pages, count=None):
        """Open a store whose server gives these pages, the last one again and again."""
        replies = itertools.chain(pages, itertools.repeat(pages[-1]))
        return self.open(*itertools.islice((reply(200, page) for page in replies), count or 30))

    def listed(self, store):
        """List what a store has."""
        return [(item.key, item.etag) for item in store.objects("a")]

    def test_a_list_that_repeats_a_page_for_ever_ends_and_is_named(self):
        same = page_of(entry_of("a/1"), token="t")
        with self.assertRaisesRegex(DestinationError, "list s3://bucket/a: the list does not end"):
            self.listed(self.pages(same))
        self.assertEqual(len(self.server.requests), 2)
        ever_new = itertools.count()
        many = self.open(
            by_line=lambda line: reply(200, page_of(entry_of("a/1"), token=f"t{next(ever_new)}"))
        )
        with self.assertRaisesRegex(DestinationError, "page 2 is page 1 once more"):
            self.listed(many)

    def test_pages_that_come_in_turns_end_too(self):
        pages = [page_of(entry_of(f"a/{n}"), token=f"t{n}") for n in (1, 2, 1)]
        with self.assertRaisesRegex(DestinationError, "page 3 is page 1 once more"):
            self.listed(self.pages(*pages))
        empty = [page_of(token=f"t{n}") for n in (1, 2, 1)]
        with self.assertRaisesRegex(DestinationError, "page 3 has the marker of an earlier page"):
            self.listed(self.pages(*empty))

    def test_empty_pages_without_end_end(self):
        ever_new = itertools.count()
        store = self.open(by_line=lambda line: reply(200, page_of(token=f"t{next(ever_new)}")))
        with self.assertRaisesRegex(DestinationError, "1,001 pages in a row are empty"):
            self.listed(store)

    def test_folders_and_unfinished_uploads_end_too(self):
        folders = page_of("<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>", token="t")
        with self.assertRaisesRegex(DestinationError, "the list does not end"):
            self.pages(folders).folders()
        uploads = (
            b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k"
            b"</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><Upload><Key>k+%20</Key>"
            b"<UploadId>u</UploadId></Upload></ListMultipartUploadsResult>"
        )
        with self.assertRaisesRegex(DestinationError, "the list does not end"):
            list(self.pages(uploads).unfinished("a"))
        found = next(iter(self.pages(uploads).unfinished("a")))
        self.assertEqual(found.key, "k+%20")

    def test_parts_end_too(self):
        parts = reply(
            200,
            b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1"
            b"</NextPartNumberMarker><Part><PartNumber>1</PartNumber><Size>1</Size></Part>"
            b"</ListPartsResult>",
        )
        begun = reply(200, b"<R><UploadId>u</UploadId></R>")
        gone = refusal(404, "NoSuchUpload")
        store = self.open(begun, OK, gone, reply(404), parts, parts)
        with self.assertRaisesRegex(TransferError, "the list does not end"):
            store.put_parts("a", [BufferBody(b"1")], MEBI, Traffic(1, 4 * MEBI))

    def test_keys_that_are_listed_twice_are_listed_once(self):
        first = page_of(entry_of("a/1"), entry_of("a/2"), entry_of("a/1"), token="t")
        last = page_of(entry_of("a/2"), entry_of("a/3"))
        self.assertEqual(
            self.listed(self.pages(first, last)), [(f"a/{n}", '"e"') for n in (1, 2, 3)]
        )

    @slow
    def test_a_page_that_contradicts_itself_is_asked_for_again(self):
        twice = page_of(entry_of("a/1", "e"), entry_of("a/1", "other"))
        self.assertEqual(self.listed(self.pages(twice, page_of(entry_of("a/1")))), [("a/1", '"e"')])
        with self.assertRaisesRegex(DestinationError, "a/1 is listed twice, with different sizes"):
            self.listed(self.pages(twice))

    @slow
    def test_entries_without_what_they_need_are_asked_for_again(self):
        for tag in ("Key", "Size"):
            bad = page_of(entry_of("a/1").replace(tag, "X"))
            self.assertEqual(len(self.listed(self.pages(bad, page_of(entry_of("a/1"))))), 1)
            self.assertIn("no sense: Contents without", self.told[-1])
        unmarked = page_of(entry_of("a/1")).replace(b"false", b"true")
        self.assertEqual(len(self.listed(self.pages(unmarked, page_of(entry_of("a/1"))))), 1)

    def test_what_comes_before_the_xml_of_an_object_made_of_parts_does_no_harm(self):
        begun = reply(200, b"<R><UploadId>u</UploadId></R>")
        made = b'<?xml version="1.0"?><CompleteMultipartUploadResult><ETag>w</ETag>'
        made += b"</CompleteMultipartUploadResult>"
        for before in (b" \n " * 50, b"\xef\xbb\xbf", b"\n\xef\xbb\xbf ", b"<!-- a\nb -->\n"):
            with self.subTest(before=before):
                store = self.open(begun, OK, reply(200, before + made))
                self.assertEqual(
                    store.put_parts("a", [BufferBody(b"1")], MEBI, Traffic(1, MEBI)), '"w"'
                )
                self.assertEqual(self.told, [])
                error = b'<?xml version="1.0"?><Error><Code>InvalidPart</Code></Error>'
                store = self.open(begun, OK, reply(200, before + error), reply(204))
                with self.assertRaisesRegex(TransferError, "InvalidPart"):
                    store.put_parts("a", [BufferBody(b"1")], MEBI, Traffic(1, MEBI))
                self.told.clear()
