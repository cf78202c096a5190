"""Many small objects: several on their way at once, and each in trouble by itself."""

import threading
from collections import Counter
from unittest.mock import patch

from aind_data_transfer_service.errors import CancelledError, SourceError, TransferError
from aind_data_transfer_service.storage.base import Conduct
from aind_data_transfer_service.storage.model import Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3 import http
from tests.support import free_port, slow, wait_until
from tests.support.scripted import refusal, reply
from tests.unit.storage.s3.test_faults import KEYS, FaultTest

NAMES = [f"{number:02}" for number in range(12)]


class TestManyObjects(FaultTest):
    """They are stored in one request each."""

    def serve(self, trouble=lambda name, times: None):
        """Start a server that calls each object by its name, but for trouble; open a store."""
        self.asked = Counter()

        def answer(line):
            name = line.split(b" ")[1].rpartition(b"/")[2].decode()
            self.asked[name] += 1
            found = trouble(name, self.asked[name])
            return reply(200, b"", f'ETag: "{name}"') if found is None else found

        return self.open(by_line=answer)

    def put(self, store, window, names=NAMES, halt=None):
        """Store objects and give what they are called."""
        contents = ((f"a/{name}", name.encode()) for name in names)
        return list(store.put_all(contents, Window(window), halt))

    def test_each_etag_is_that_of_its_object(self):
        for window in (1, 3, 50):
            with self.subTest(window=window):
                self.assertEqual(self.put(self.serve(), window), [f'"{n}"' for n in NAMES])
                self.assertEqual(self.put(self.serve(), window, []), [])

    def test_as_many_as_the_window_holds_are_on_their_way_at_once(self):
        together = threading.Barrier(4)

        def wait(name, times):
            if name in NAMES[:4]:
                together.wait(30)

        self.assertEqual(len(self.put(self.serve(wait), 4)), len(NAMES))

    def test_connections_are_made_ahead_where_that_takes_its_time(self):
        for seconds, made in ((0.0, 8), (60.0, 1)):
            with self.subTest(made=made), patch.object(http, "_LONG_OPENING", seconds):
                store = self.serve()
                store.put("a/first", b"x")

                def contents():
                    yield "a/00", b"x"
                    wait_until(lambda: self.server.connections >= made, 30, "connections")
                    yield "a/01", b"x"

                self.assertEqual(len(list(store.put_all(contents(), Window(8)))), 2)
                self.assertEqual(len(self.put(store, 8, ["02"])), 1)
                self.assertLessEqual(self.server.connections, made + 1)

    def test_connections_that_cannot_be_made_ahead_do_no_harm(self):
        with patch.object(http, "_LONG_OPENING", 0.0):
            store = self.serve()
            store.put("a/first", b"x")
            self.server.stop()
            self.assertEqual(self.put(store, 1), [f'"{name}"' for name in NAMES])
            self.assertEqual(len(list(store.put_all([("a/00", b"x")], Window(8)))), 1)

    @slow
    def test_it_is_told_for_how_long_answers_are_waited_for(self):
        """What a fault takes does not count: more on their way would be no help."""
        pause = threading.Event()
        for seconds, trouble, least in ((0.2, None, 0.15), (0.0, refusal(503, "SlowDown"), 0.0)):

            def slowly(name, times):
                pause.wait(seconds)
                return trouble if times == 1 else None

            window = Window(4)
            contents = iter([("a/00", b"00")])
            self.assertEqual(len(list(self.serve(slowly).put_all(contents, window))), 1)
            self.assertTrue(least <= window.waited < least + 5, window)
            if trouble:
                self.assertEqual(window.waited, 0)

    @slow
    def test_a_slow_link_is_waited_for_too(self):
        self.serve()
        conduct = Conduct(20, bandwidth=1e6)
        store = open_store("s3://", "bucket", self.server.url, keys=KEYS, conduct=conduct)
        window = Window(4)
        self.assertEqual(len(list(store.put_all([("a/00", bytes(300_000))], window))), 1)
        self.assertGreater(window.waited, 0.2)

    @slow
    def test_only_what_failed_is_sent_again(self):
        troubles = {
            "00": refusal(503, "SlowDown"),
            "03": (b"",),
            "04": (b"HTTP/1.1 200 OK\r\nETag: ",),
            "07": reply(200),
            "11": refusal(400, "BadDigest"),
        }
        store = self.serve(lambda name, times: troubles.get(name) if times == 1 else None)
        self.assertEqual(self.put(store, 4), [f'"{name}"' for name in NAMES])
        for name in NAMES:
            self.assertEqual(self.asked[name], 2 if name in troubles else 1, name)
        self.assertIn("tried again", self.told[0])

    def test_the_object_that_cannot_be_stored_is_named(self):
        store = self.serve(lambda name, times: refusal(403, "Denied") if name == "05" else None)
        with self.assertRaisesRegex(TransferError, "not allowed to write s3://bucket/a/05: Denied"):
            self.put(store, 4)

    def test_the_first_cause_is_named_and_not_only_the_last(self):
        def trouble(name, times):
            if name == "02":
                return refusal(503, "SlowDown") if times == 1 else refusal(403, "Denied")
            return None

        with self.assertRaisesRegex(
            TransferError, "a/02: SlowDown; given up after 2.*last: Denied"
        ):
            self.put(self.serve(trouble), 4)

    def test_what_cannot_be_read_ends_it_after_what_is_on_its_way(self):
        def contents():
            yield "a/00", b"00"
            yield "a/01", b"01"
            raise SourceError("gone")

        stored = []
        with self.assertRaisesRegex(SourceError, "gone"):
            for etag in self.serve().put_all(contents(), Window(4)):
                stored.append(etag)
        self.assertEqual(stored, ['"00"', '"01"'])

    @slow
    def test_once_it_is_stopped_nothing_is_waited_for(self):
        halt = threading.Event()
        store = self.open(by_line=lambda line: halt.set())
        with self.assertRaises(CancelledError):
            self.put(store, 4, halt=halt)

    @slow
    def test_a_server_that_stays_away_is_given_up(self):
        address = f"http://127.0.0.1:{free_port()}"
        store = open_store("s3://", "bucket", address, keys=KEYS, conduct=Conduct(0.5))
        with self.assertRaisesRegex(TransferError, "write s3://bucket/a/00: no answer.*given up"):
            self.put(store, 4)
