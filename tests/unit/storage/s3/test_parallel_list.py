"""Long lists, asked for in several pieces at once."""

import threading
import unittest
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.storage.s3.parallel_list import in_pieces

KEYS = st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=60).map(sorted)
PAGE = 3


class Server:
    """Lists keys, three to a page.

    Parameters
    ----------
    keys : Sequence[str]
        What there is, in the order in which it is listed.
    knows_start : bool
        Whether it can begin behind a key.
    on_page : Callable
        Is told of each page that is asked for.
    """

    def __init__(self, keys, knows_start=True, on_page=lambda after: None):
        self.keys, self.knows_start, self.on_page = list(keys), knows_start, on_page
        self.asked = 0

    def pages(self, after):
        """Give the list from behind a key."""
        keys = [key for key in self.keys if key > after or not self.knows_start]
        while True:
            self.asked += 1
            self.on_page(after)
            page, keys = keys[:PAGE], keys[PAGE:]
            yield [SimpleNamespace(key=key) for key in page]
            if not keys:
                return


def listed(server, cuts):
    """List all that a server has."""
    return [found.key for found in in_pieces(server.pages, cuts)]


class TestPieces(unittest.TestCase):
    """Together they are the whole list."""

    @given(KEYS, KEYS, st.booleans())
    def test_nothing_is_left_out_or_told_twice(self, keys, cuts, knows_start):
        self.assertEqual(listed(Server(keys, knows_start), cuts), keys)

    def test_several_are_waited_for_at_once_and_each_takes_one_question(self):
        together = threading.Barrier(5)
        server = Server("abcdefghij", on_page=lambda after: together.wait(30))
        self.assertEqual(listed(server, ["b", "d", "f", "h"]), list("abcdefghij"))
        self.assertEqual(server.asked, 5)

    def test_a_list_without_cuts_is_asked_for_page_by_page(self):
        server = Server("abcdefg")
        found = in_pieces(server.pages, [])
        self.assertEqual(next(found).key, "a")
        self.assertEqual(server.asked, 1)
        self.assertEqual([item.key for item in found], list("bcdefg"))
        self.assertEqual(server.asked, 3)

    def test_what_is_there_besides_is_listed_too(self):
        """Between two cuts there may be more than a page holds."""
        keys = ["a", *(f"b{number:02}" for number in range(20)), "c", "d"]
        self.assertEqual(listed(Server(keys), ["a", "c"]), keys)

    def test_a_server_that_always_begins_at_the_start_is_asked_once_more_and_not_for_each_cut(self):
        keys = [f"{number:03}" for number in range(60)]
        server = Server(keys, knows_start=False)
        self.assertEqual(listed(server, keys[2::2]), keys)
        self.assertLess(server.asked, 3 * len(keys) / PAGE)

    def test_a_fault_of_any_piece_is_raised(self):
        def fail(after):
            if after == "d":
                raise ConnectionError("gone")

        found = in_pieces(Server("abcdefgh", on_page=fail).pages, ["b", "d"])
        self.assertEqual([next(found).key for _ in range(4)], list("abcd"))
        with self.assertRaisesRegex(ConnectionError, "gone"):
            next(found)
