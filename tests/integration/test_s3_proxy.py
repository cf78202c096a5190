"""The data transfer job behind a forward proxy as campuses have them (Squid)."""

import os
import uuid
from unittest.mock import patch
from urllib.parse import quote, urlsplit

from aind_data_transfer_service.errors import DestinationError
from tests.support import seaweedfs, squid
from tests.support.https import ca_file
from tests.support.transfer import TransferTestCase

_plain: seaweedfs.SeaweedFS = None  # type: ignore[assignment]
_tls: seaweedfs.SeaweedFS = None  # type: ignore[assignment]
_open: squid.Squid = None  # type: ignore[assignment]
_closed: squid.Squid = None  # type: ignore[assignment]
LOGIN = f"{squid.USER}:{quote(squid.PASSWORD, safe='')}@"


def setUpModule():
    """Start the servers, and a proxy for all and one for those with a login."""
    global _plain, _tls, _open, _closed
    _plain, _tls = seaweedfs.start(), seaweedfs.start(tls=True)
    ports = [urlsplit(server.endpoint_url).port for server in (_plain, _tls)]
    _open, _closed = squid.start(ports), squid.start(ports, login=True)


def tearDownModule():
    """Stop them."""
    for each in (_open, _closed, _plain, _tls):
        if each is not None:
            each.stop()


class ProxyTestCase(TransferTestCase):
    """Gives each test a bucket and a session."""

    destination = "s3://"

    def setUp(self):
        """Make them."""
        super().setUp()
        self.write("large.bin", os.urandom(20 * 1024**2 + 1))
        for number in range(50):
            self.write(f"many/{number:03}.bin", os.urandom(number * 500))

    def behind(self, server, address):
        """Have jobs reach a server, under a name that they cannot look up, through a proxy."""
        scheme, _, place = server.endpoint_url.partition("://")
        port = place.rpartition(":")[2]
        self.bucket = server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= server.env | {"AWS_CA_BUNDLE": str(ca_file()), f"{scheme}_proxy": address}
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.endpoint_url = f"{scheme}://{squid.SERVER}:{port}"
        return f"{squid.SERVER}:{port}"

    def assert_arrives(self):
        """Run the job, and compare what the server has with the source."""
        self.run_job()
        stored = self.stored()
        for path in self.source.rglob("*.bin"):
            name = f"behavior/{path.relative_to(self.source)}"
            self.assertEqual(stored[name], path.read_bytes(), name)


class TestSquid(ProxyTestCase):
    """Ways through."""

    def test_an_http_server_behind_a_proxy_without_a_scheme(self):
        place = self.behind(_plain, f"127.0.0.1:{_open.port}")
        self.assert_arrives()
        self.assertIn(f"PUT http://{place}/{self.bucket}/", _open.requests())
        self.assertNotIn(f"CONNECT {place}", _open.requests())

    def test_an_http_server_behind_a_proxy_with_a_login(self):
        self.behind(_plain, f"http://{LOGIN}127.0.0.1:{_closed.port}")
        self.assert_arrives()

    def test_an_https_server_behind_a_proxy_with_a_login(self):
        place = self.behind(_tls, f"http://{LOGIN}127.0.0.1:{_closed.port}")
        self.assert_arrives()
        self.assertIn(f"CONNECT {place} ", _closed.requests())

    def test_an_https_server_behind_a_proxy_over_tls(self):
        self.behind(_tls, f"https://{LOGIN}127.0.0.1:{_closed.tls_port}")
        self.assert_arrives()

    def test_an_http_server_behind_a_proxy_over_tls(self):
        self.behind(_plain, f"https://127.0.0.1:{_open.tls_port}")
        self.assert_arrives()


class TestSquidRefuses(ProxyTestCase):
    """Its refusals, which are final at once: the job's budget is ten minutes."""

    def assert_refused(self, words):
        """Run the job, which fails."""
        with self.assertRaisesRegex(DestinationError, words) as caught:
            self.run_job(self.settings(upload_retry_seconds=600))
        self.assertNotIn("given up after", str(caught.exception))
        self.assertNotIn("cr@t", str(caught.exception))

    def test_a_missing_login_is_named(self):
        for server, what in ((_plain, "the request"), (_tls, "a tunnel to s3.lab.test")):
            with self.subTest(what):
                self.behind(server, f"http://127.0.0.1:{_closed.port}")
                self.assert_refused(f"the proxy .* refused {what}.* status 407: it needs a user")

    def test_a_wrong_login_is_named(self):
        self.behind(_tls, f"http://anna:wrong-cr%40t@127.0.0.1:{_closed.port}")
        self.assert_refused("status 407: it does not accept this user and password")

    def test_a_port_that_is_not_allowed_is_named(self):
        for server, words in ((_plain, "or the server answered 403"), (_tls, "tunnel .*403")):
            with self.subTest(words):
                self.behind(server, f"http://127.0.0.1:{_open.port}")
                self.endpoint_url = self.endpoint_url.rpartition(":")[0] + ":81"
                self.assert_refused(f"the proxy http://127.0.0.1:{_open.port} .*{words}")

    def test_a_proxy_that_speaks_no_tls_though_its_address_says_so(self):
        self.behind(_tls, f"https://127.0.0.1:{_open.port}")
        self.assert_refused("the proxy https://.* does not speak TLS; write http://")
