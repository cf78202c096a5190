"""The service behind nginx and Apache, with the configurations of the documentation."""

import json
import re
import ssl
import unittest
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from aind_data_transfer_service.configs.limits import MAX_FILE_BYTES
from aind_data_transfer_service.server.middleware import REQUEST_BYTES
from aind_data_transfer_service.settings.notifications import NotificationSettings
from tests.support import free_port
from tests.support.documents import SOURCE, adapt, code_block
from tests.support.https import ca_file
from tests.support.requests import HEADER
from tests.support.reverse_proxy import NAME, Apache, Nginx, ReverseProxy
from tests.support.service import Service

PAGE = "reverse_proxy.rst"
NGINX = "/etc/nginx/conf.d/transfer.conf"
SHORTEST = "nginx: the shortest configuration"
BELOW = "nginx: below a path"
REPLICAS = "nginx: two replicas"
APACHE = "/etc/apache2/sites-available/transfer.conf"
JOB = {
    "upload_job_settings": "{}",
    "hpc_settings": '{"name": "one"}',
    "script": "#!/bin/sh\nexit\n",
}


class ProxyTest(unittest.TestCase):
    """A test with a service and a proxy before it."""

    scheme = "https"
    prefix = ""
    name = NAME

    @classmethod
    def setUpClass(cls) -> None:
        """Start the service, and the proxy of the class."""
        super().setUpClass()
        cls.port = free_port()
        address = f"{cls.scheme}://{cls.name}:{cls.port}{cls.prefix}"
        notifications = NotificationSettings(service_url=address)
        settings = {"notifications": notifications, "root_path": cls.prefix}
        settings |= {"allow_custom_scripts": True}
        cls.service = cls.enterClassContext(Service(**settings))
        cls.proxy = cls.enterClassContext(cls.make_proxy())
        context = ssl.create_default_context(cafile=str(ca_file()))
        cls.client = cls.enterClassContext(httpx.Client(verify=context, timeout=10))

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make the proxy of the class."""
        raise unittest.SkipTest("a base class")

    def ask(self, method: str, path: str, name: str = "", **options: Any) -> httpx.Response:
        """Send a request through the proxy, as a browser that opened a page there does."""
        name = name or self.name
        headers = {"host": f"{name}:{self.port}", "origin": f"{self.scheme}://{name}:{self.port}"}
        headers |= options.pop("headers", {})
        url = f"{self.scheme}://127.0.0.1:{self.port}{self.prefix}{path}"
        known = {"sni_hostname": self.name}
        return self.client.request(method, url, headers=headers, extensions=known, **options)

    def submit(self, name: str = "", headers: Mapping[str, str] = {}) -> httpx.Response:
        """Submit a script."""
        body = {"jobs": [JOB]}
        return self.ask("POST", "/api/submit_hpc_jobs", name, json=body, headers=dict(headers))

    def events(self, response: httpx.Response) -> Iterator[tuple[str, Any]]:
        """Read an event stream."""
        kind = ""
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)

    def check_everything(self) -> None:
        """Open a page and its assets, submit, send a large file, and follow the jobs."""
        page = self.ask("GET", "/jobs", headers={"accept": "text/html"})
        self.assertEqual(200, page.status_code, page.text)
        for link in re.findall(r'(?:href|src)="(/[^"]*\.(?:js|css|svg))"', page.text):
            path = link.removeprefix(self.prefix)
            self.assertEqual(200, self.ask("GET", path).status_code, link)
        self.assertEqual(200, self.ask("GET", "/readyz").status_code)
        submitted = self.submit()
        self.assertEqual(200, submitted.status_code, submitted.text)
        large = HEADER + "\n" + "x" * 2_000_000
        checked = self.ask("POST", "/api/validate_csv", files={"file": ("jobs.csv", large)})
        self.assertEqual(406, checked.status_code, checked.text[:200])
        self.check_stream()

    def check_stream(self) -> None:
        """Follow the jobs: an event comes while the stream is open."""
        headers = {"host": f"{self.name}:{self.port}"}
        url = f"{self.scheme}://127.0.0.1:{self.port}{self.prefix}/api/jobs/stream"
        known = {"sni_hostname": self.name}
        with self.client.stream("GET", url, headers=headers, extensions=known) as response:
            events = self.events(response)
            self.assertEqual("ready", next(events)[0])
            job_id = self.submit().json()["data"]["responses"][0]["job_id"]
            for kind, data in events:
                if kind == "job" and data["id"] == job_id:
                    break

    def check_size(self) -> None:
        """Send a file that the service finds too large: its own words come back."""
        large = b"x" * (MAX_FILE_BYTES + 100_000)
        answer = self.ask("POST", "/api/validate_csv", files={"file": ("jobs.csv", large)})
        self.assertEqual(413, answer.status_code)
        self.assertIn("The file is larger than 32 MiB.", answer.json()["data"]["errors"])

    def check_rebinding(self, expected: int) -> None:
        """Ask under a name that points here but is not the service's."""
        before = self.service.manager.store.counts()
        self.assertEqual(expected, self.submit("evil.example").status_code)
        forged = {"x-forwarded-host": f"localhost:{self.port}", "forwarded": "host=localhost"}
        self.assertEqual(expected, self.submit("evil.example", forged).status_code)
        self.assertEqual(sum(before.values()), sum(self.service.manager.store.counts().values()))


class NginxTest(ProxyTest):
    """nginx with TLS."""

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx as documented."""
        changes = {
            "listen 443 ssl http2": f"listen 127.0.0.1:{cls.port} ssl http2",
            "/etc/nginx/tls": "FOLDER",
            "http://127.0.0.1:5000": cls.service.url,
        }
        return Nginx(adapt(code_block(PAGE, NGINX), changes), cls.port)

    def test_everything_works(self) -> None:
        self.check_everything()

    def test_a_file_that_is_too_large_is_refused_by_the_service(self) -> None:
        self.check_size()

    def test_another_name_is_answered_by_the_proxy(self) -> None:
        self.check_rebinding(421)

    def test_a_redirect_stays_at_the_proxy(self) -> None:
        answer = self.ask("GET", "/jobs/")
        self.assertEqual((307, "/jobs"), (answer.status_code, answer.headers["location"]))


class NginxHostWithoutPortTest(ProxyTest):
    """nginx that passes on `$host`, which has no port, as many examples do."""

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx without the block that answers other names."""
        text = code_block(PAGE, NGINX).partition("# Any other name")[0]
        changes = {
            "listen 443 ssl http2": f"listen 127.0.0.1:{cls.port} ssl http2",
            "/etc/nginx/tls": "FOLDER",
            "http://127.0.0.1:5000": cls.service.url,
            "Host $http_host": "Host $host",
        }
        return Nginx(adapt(text, changes), cls.port)

    def test_everything_works(self) -> None:
        self.check_everything()

    def test_another_name_is_refused_by_the_service(self) -> None:
        self.check_rebinding(400)
        answer = self.ask("GET", "/api/jobs", "evil.example")
        self.assertEqual(400, answer.status_code)
        self.assertIn("ALLOWED_HOSTS", answer.text)


class NginxShortestTest(ProxyTest):
    """nginx that replaces `Host`, as it does by default, without TLS."""

    scheme = "http"

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx as documented."""
        changes = {
            "listen 80": f"listen 127.0.0.1:{cls.port}",
            "http://127.0.0.1:5000": cls.service.url,
        }
        return Nginx(adapt(code_block(PAGE, SHORTEST), changes), cls.port)

    def test_everything_works(self) -> None:
        self.check_everything()

    def test_another_name_is_answered_by_the_proxy(self) -> None:
        self.check_rebinding(421)


class NginxForAllNamesTest(ProxyTest):
    """nginx that replaces `Host` and answers every name."""

    scheme = "http"

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx without the block that answers other names."""
        first = code_block(PAGE, SHORTEST).split("\nserver {")[0]
        changes = {
            "listen 80": f"listen 127.0.0.1:{cls.port}",
            "http://127.0.0.1:5000": cls.service.url,
        }
        return Nginx(adapt(first, changes), cls.port)

    def test_the_page_of_another_name_can_start_nothing(self) -> None:
        before = self.service.manager.store.counts()
        self.assertEqual(403, self.submit("evil.example").status_code)
        forged = {"x-forwarded-host": "evil.example"}
        self.assertEqual(400, self.submit("evil.example", forged).status_code)
        self.assertEqual(before, self.service.manager.store.counts())


class NginxBelowPathTest(ProxyTest):
    """nginx that serves the pages below a path."""

    prefix = "/transfer"
    name = "www.lab.example"
    slash = ""

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx as documented."""
        changes = {"http://127.0.0.1:5000": cls.service.url + cls.slash}
        site = (
            f"server {{ listen 127.0.0.1:{cls.port} ssl; server_name _;"
            "ssl_certificate FOLDER/transfer.pem; ssl_certificate_key FOLDER/transfer.key;"
        )
        return Nginx(site + adapt(code_block(PAGE, BELOW), changes) + "}", cls.port)

    def test_everything_works(self) -> None:
        self.check_everything()

    def test_the_prefix_leads_to_the_first_page(self) -> None:
        answer = self.ask("GET", "")
        self.assertEqual(308, answer.status_code)
        self.assertTrue(answer.headers["location"].endswith("/transfer/"))


class NginxRemovesPathTest(NginxBelowPathTest):
    """nginx that removes the prefix from the path."""

    slash = "/"


class NginxReplicasTest(ProxyTest):
    """nginx before two replicas of the service."""

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make nginx as documented; of the two replicas, one does not run."""
        upstream = {
            "transfer-a.lab.example:5000": f"127.0.0.1:{free_port()}",  # nobody listens there
            "transfer-b.lab.example:5000": cls.service.url.removeprefix("http://"),
        }
        changes = {
            "listen 443 ssl http2": f"listen 127.0.0.1:{cls.port} ssl http2",
            "/etc/nginx/tls": "FOLDER",
            "http://127.0.0.1:5000": "http://transfer",
        }
        text = adapt(code_block(PAGE, REPLICAS), upstream) + adapt(code_block(PAGE, NGINX), changes)
        return Nginx(text, cls.port)

    def test_everything_works_while_one_of_them_is_down(self) -> None:
        self.check_everything()


class ApacheTest(ProxyTest):
    """Apache with TLS."""

    @classmethod
    def make_proxy(cls) -> ReverseProxy:
        """Make Apache as documented."""
        changes = {
            "*:443": f"127.0.0.1:{cls.port}",
            "/etc/apache2/tls": "FOLDER",
            "http://127.0.0.1:5000": cls.service.url,
        }
        return Apache(adapt(code_block(PAGE, APACHE), changes), cls.port)

    def test_everything_works(self) -> None:
        self.check_everything()

    def test_a_file_that_is_too_large_is_refused_by_the_service(self) -> None:
        self.check_size()

    def test_another_name_is_refused_by_the_service(self) -> None:
        self.check_rebinding(400)


class SizeTest(unittest.TestCase):
    """The size of requests in the documentation."""

    def test_the_proxies_let_through_what_the_service_takes(self) -> None:
        text = (SOURCE / PAGE).read_text(encoding="utf-8")
        [mebibytes] = set(re.findall(r"client_max_body_size (\d+)m;", text))
        self.assertGreaterEqual(int(mebibytes) * 1024**2, REQUEST_BYTES)
        self.assertIn(f"LimitRequestBody {int(mebibytes) * 1024**2}\n", text)
        self.assertIn(f"Let requests of {mebibytes} MiB pass.", text)
