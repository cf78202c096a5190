"""Forward proxies between a job and its S3 server."""

import base64
import os
import unittest
from unittest.mock import patch

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.storage.base import BufferBody, Conduct
from aind_data_transfer_service.storage.model import S3Keys
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.proxy import find_proxy, is_excluded
from tests.support import free_port, slow
from tests.support.forward_proxy import ForwardProxy
from tests.support.https import ca_file, server_context
from tests.support.scripted import OK, Scripted, refusal, reply

KEYS = S3Keys("key", "s3-secret", region="us-east-1")
SERVER = "s3.lab.test:9000"
LOGIN = base64.b64encode(b"anna:se:cr@t").decode()


class ProxyTest(unittest.TestCase):
    """Gives each test an environment that names no proxy."""

    def setUp(self):
        """Forget this machine's own settings."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.told = []

    def serve(self, *replies, **options):
        """Start a server, or a proxy, that answers as told."""
        server = Scripted(replies, **options)
        self.addCleanup(server.stop)
        return server

    def open(self, scheme, seconds=20.0, **variables):
        """Open a store behind a proxy."""
        os.environ.update(variables)
        conduct = Conduct(seconds, tell=self.told.append)
        return open_store("s3://", "bucket", f"{scheme}://{SERVER}", keys=KEYS, conduct=conduct)


class TestWhichProxy(ProxyTest):
    """What variables say."""

    def test_an_address_is_read_with_and_without_scheme_and_login(self):
        login = f"Basic {LOGIN}"
        for address, place, is_encrypted, authorization in (
            ("http://proxy:3128", ("proxy", 3128), False, None),
            ("proxy:3128", ("proxy", 3128), False, None),
            ("127.0.0.1:5658", ("127.0.0.1", 5658), False, None),
            ("proxy", ("proxy", 80), False, None),
            ("https://proxy", ("proxy", 443), True, None),
            ("http://[::1]:3128/", ("::1", 3128), False, None),
            ("http://anna:se%3Acr%40t@proxy:3128", ("proxy", 3128), False, login),
            ("anna:se%3Acr%40t@proxy:3128", ("proxy", 3128), False, login),
        ):
            with self.subTest(address):
                found = find_proxy("https", "s3.lab.test", 443, {"https": address})
                self.assertEqual((found.host, found.port), place)
                self.assertEqual(found.is_encrypted, is_encrypted)
                self.assertEqual(found.authorization, authorization)
                self.assertNotIn("anna", f"{found!r} {found.address}")
                self.assertNotIn(LOGIN, repr(found))

    def test_what_is_no_http_proxy_is_named_without_its_password(self):
        for address in ("socks5://anna:secret@proxy:1080", "http://anna:secret@", "http://p:x"):
            with self.assertRaisesRegex(DestinationError, "https_proxy names ") as caught:
                find_proxy("https", "s3.lab.test", 443, {"https": address})
            self.assertNotIn("secret", str(caught.exception))

    def test_no_proxy_in_all_its_forms(self):
        for no_proxy, host, port, expected in (
            ("*", "s3.lab.test", 443, True),
            ("lab.test", "s3.lab.test", 443, True),
            (".lab.test", "s3.lab.test", 443, True),
            ("*.lab.test", "s3.lab.test", 443, True),
            ("S3.Lab.Test", "s3.lab.test", 443, True),
            ("a.org, lab.test ,b.org", "s3.lab.test", 443, True),
            ("ab.test", "s3.lab.test", 443, False),
            ("3.lab.test", "s3.lab.test", 443, False),
            ("s3.lab.test:9000", "s3.lab.test", 9000, True),
            ("s3.lab.test:9000", "s3.lab.test", 443, False),
            (".lab.test:9000", "s3.lab.test", 9000, True),
            ("10.1.2.3", "10.1.2.3", 9000, True),
            ("10.1.2.3:9000", "10.1.2.3", 9000, True),
            ("10.1.2.3:9001", "10.1.2.3", 9000, False),
            ("10.0.0.0/8", "10.1.2.3", 9000, True),
            ("10.0.0.0/16", "10.1.2.3", 9000, False),
            ("10.0.0.0/8", "s3.lab.test", 9000, False),
            ("fd00::/8", "fd00::1", 443, True),
            ("fd00::1", "fd00::1", 443, True),
            ("[fd00::1]:443", "fd00::1", 443, True),
            ("", "s3.lab.test", 443, False),
            (" , ", "s3.lab.test", 443, False),
        ):
            with self.subTest(no_proxy=no_proxy, host=host, port=port):
                self.assertEqual(is_excluded(no_proxy, host, port), expected)

    def test_what_is_excluded_is_asked_directly(self):
        server = self.serve(OK)
        nobody = f"http://127.0.0.1:{free_port()}"
        os.environ.update(http_proxy=nobody, no_proxy="127.0.0.0/8")
        self.assertEqual(
            open_store("s3://", "bucket", server.url, keys=KEYS).put("a/x", b"1"), '"e"'
        )


class TestRequestsToAnHttpServer(ProxyTest):
    """They are sent to the proxy as a whole."""

    def test_the_proxy_gets_the_whole_address_and_the_login(self):
        proxy = self.serve(OK)
        address = f"http://anna:se%3Acr%40t@127.0.0.1:{proxy.port}"
        self.assertEqual(self.open("http", http_proxy=address).put("a/x", b"1"), '"e"')
        (head,) = proxy.requests
        self.assertTrue(head.startswith(f"PUT http://{SERVER}/bucket/a/x HTTP/1.1\n".encode()))
        self.assertIn(f"\nproxy-authorization: Basic {LOGIN}\n".encode(), head)
        self.assertIn(f"\nhost: {SERVER}\n".encode(), head)
        self.assertNotIn(b"proxy-authorization;", head, "no part of what is signed")

    def test_a_proxy_without_a_scheme_is_used(self):
        proxy = self.serve(OK)
        self.open("http", http_proxy=f"127.0.0.1:{proxy.port}").put("a/x", b"1")
        self.assertEqual(len(proxy.requests), 1)

    def test_a_proxy_over_tls_is_used(self):
        proxy = self.serve(OK, tls=server_context())
        self.open("http", http_proxy=proxy.url, AWS_CA_BUNDLE=str(ca_file())).put("a/x", b"1")
        self.assertTrue(proxy.requests[0].startswith(b"PUT http://"))

    def test_refusals_of_the_proxy_are_final_and_named_as_its_own(self):
        for answer, words in (
            (reply(407), "the proxy {} refused the request with status 407: it needs a user"),
            (reply(403, b"<html>no</html>"), "the proxy {} or the server answered 403"),
        ):
            proxy = self.serve(answer)
            with self.assertRaisesRegex(TransferError, words.format(proxy.url)):
                self.open("http", http_proxy=f"127.0.0.1:{proxy.port}").put("a/x", b"1")
            self.assertEqual(len(proxy.requests), 1)

    def test_a_login_that_is_refused_is_said_without_it(self):
        proxy = self.serve(reply(407))
        store = self.open("http", http_proxy=f"http://anna:secret@127.0.0.1:{proxy.port}")
        with self.assertRaisesRegex(TransferError, "407: it does not accept this user") as caught:
            store.put("a/x", b"1")
        self.assertNotIn("secret", str(caught.exception))

    def test_what_the_server_itself_refuses_is_the_servers(self):
        proxy = self.serve(refusal(403, "AccessDenied"))
        with self.assertRaisesRegex(TransferError, ": AccessDenied$"):
            self.open("http", http_proxy=proxy.url).put("a/x", b"1")

    @slow
    def test_a_proxy_that_is_away_is_named(self):
        nobody = f"http://127.0.0.1:{free_port()}"
        with self.assertRaisesRegex(TransferError, f"no answer from the proxy {nobody}"):
            self.open("http", 0.2, http_proxy=nobody).put("a/x", b"1")


class TestTunnels(ProxyTest):
    """An https server is reached through one."""

    def setUp(self):
        """Start a server that speaks TLS under its name."""
        super().setUp()
        self.server = self.serve(tls=server_context("s3.lab.test"))

    def through(self, proxy, seconds=20.0, login=""):
        """Open a store behind a proxy."""
        scheme, _, place = proxy.address.partition("//")
        address = f"{scheme}//{login}{place}"
        return self.open("https", seconds, https_proxy=address, AWS_CA_BUNDLE=str(ca_file()))

    def test_the_login_is_for_the_proxy_and_the_request_for_the_server(self):
        with ForwardProxy(self.server.port) as proxy:
            store = self.through(proxy, login="anna:se%3Acr%40t@")
            self.assertEqual(store.put("a/x", b"1"), '"e"')
        head = f"CONNECT {SERVER} HTTP/1.1\r\nhost: {SERVER}\r\n"
        head += f"proxy-authorization: Basic {LOGIN}\r\n\r\n"
        self.assertEqual(proxy.heads, [head.encode()])
        self.assertTrue(self.server.requests[0].startswith(b"PUT /bucket/a/x HTTP/1.1\n"))
        self.assertNotIn(b"proxy-authorization", self.server.requests[0])

    def test_a_tunnel_through_a_proxy_that_speaks_tls_itself(self):
        size = 3 << 20
        with ForwardProxy(self.server.port, tls=server_context()) as proxy:
            store = self.through(proxy)
            self.assertEqual(store.put("a/x", bytes(size)), '"e"')
            self.assertEqual(store.put("a/y", b"1"), '"e"')
        self.assertIn(f"\ncontent-length: {size}".encode(), self.server.requests[0])
        self.assertEqual(len(proxy.heads), 1, "one connection is used for both")

    def test_what_a_proxy_refuses_for_good_is_final_at_once(self):
        for status, words in ((407, "it needs a user and password"), (403, "status 403$")):
            answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
            with ForwardProxy(self.server.port, answers=[answer] * 2) as proxy:
                with self.assertRaisesRegex(
                    TransferError,
                    f"the proxy {proxy.address} refused a tunnel to {SERVER} .*{words}",
                ):
                    self.through(proxy).put("a/x", b"1")
            self.assertEqual(len(proxy.heads), 1)

    @slow
    def test_a_proxy_that_cannot_reach_the_server_now_is_asked_again(self):
        answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        with ForwardProxy(self.server.port, answers=[answer]) as proxy:
            self.assertEqual(self.through(proxy).put("a/x", b"1"), '"e"')
        self.assertIn("refused a tunnel to s3.lab.test:9000 with status 503", self.told[0])

    def test_a_proxy_that_closes_or_makes_no_sense_is_asked_again(self):
        with ForwardProxy(self.server.port, answers=[b"", b"hello\r\n\r\n"]) as proxy:
            self.assertRaises(TransferError, self.through(proxy, 0.5).put, "a/x", b"1")
            self.assertEqual(self.through(proxy).put("a/x", b"1"), '"e"')

    def test_large_objects_in_parts_pass(self):
        begun = reply(200, b"<R><UploadId>u</UploadId></R>")
        done = reply(200, b"<R><ETag>whole</ETag></R>")
        replies = {b"POST": iter((begun, done))}
        self.server = self.serve(tls=server_context("s3.lab.test"))
        self.server._reply = lambda line: next(replies.get(line.split(b" ")[0], iter(())), OK)
        with ForwardProxy(self.server.port, tls=server_context()) as proxy:
            parts = [os.urandom(1 << 20) for _ in range(3)]
            store = self.through(proxy)
            etag = store.put_parts("a/x", map(BufferBody, parts), 1 << 20, Traffic(2, 4 << 20))
        self.assertEqual(etag, '"whole"')
