"""Which names the service answers to, and which pages may change something."""

import re
import socket
import unittest
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import httpx
from starlette.datastructures import Headers

from aind_data_transfer_service.server.trusted_hosts import ServedHosts
from aind_data_transfer_service.settings.notifications import NotificationSettings
from tests.support import slow
from tests.support.application import ApplicationTest
from tests.support.requests import upload_settings
from tests.support.service import Service

SUBJECTS = count(100_000)
MACHINE = f"http://{socket.gethostname()}:8888"
"""A page of another program on this machine."""


class HostsTest(ApplicationTest):
    """Requests with the headers that browsers and proxies send."""

    async def get(self, path: str, host: str, **headers: str) -> httpx.Response:
        """Ask for something under a name."""
        return await self.client.get(path, headers={"host": host, **headers})

    async def submit(self, headers: Mapping[str, str]) -> httpx.Response:
        """Submit a job for an asset of its own."""
        body = {"jobs": [upload_settings(self.data_dir, subject_id=str(next(SUBJECTS)))]}
        url = "/api/submit_basic_jobs"
        return await self.client.post(url, json=body, headers=dict(headers))

    async def assert_statuses(self, expected: int, cases: Iterable[Mapping[str, str]]) -> None:
        """Submit with each set of headers, and compare the status."""
        for headers in cases:
            with self.subTest(headers=headers):
                answer = await self.submit(headers)
                self.assertEqual(expected, answer.status_code, answer.text)
                self.envelope(answer)


class WithoutSettingsTest(HostsTest):
    """A service that nobody told its name."""

    @slow
    async def test_names_that_no_public_page_can_have_are_served(self) -> None:
        for host in (
            *("127.0.0.1", "127.0.0.1:5000", "10.1.2.3:80", "192.0.2.7", "[::1]", "[::1]:5000"),
            *("[fe80::1%25eth0]:5000", "localhost", "LOCALHOST:5000", "transfer", "transfer:8080"),
            *("transfer.localhost", "data_service:5000", "Rig-PC.:5000"),
        ):
            for path in ("/", "/api/jobs", "/livez", "/readyz", "/healthz", "/metrics"):
                with self.subTest(host=host, path=path):
                    status = (await self.get(path, host)).status_code
                    self.assertIn(status, (200, 503) if path == "/readyz" else (200,))

    async def test_any_other_name_is_refused_and_the_setting_is_named(self) -> None:
        for host in (
            *("evil.example:5000", "127.0.0.1.evil.example", "127.1", "a.lan."),
            *("localhost.evil.example", "evillocalhost.example", "transfer.lab.example"),
        ):
            with self.subTest(host=host):
                with self.assertLogs(
                    "aind_data_transfer_service.server.middleware", "WARNING"
                ) as log:
                    answer = await self.get("/api/jobs", host)
                self.assertEqual(400, answer.status_code)
                [error] = self.envelope(answer)["errors"]
                for text in (error, log.output[0]):
                    self.assertIn("ALLOWED_HOSTS", text)
                    self.assertIn(host.partition(":")[0].rstrip("."), text)

    async def test_a_browser_gets_a_page_that_says_so(self) -> None:
        for host in ("lab.example", "lab.example:5000", "<b>", "[::1", "a,b.example"):
            answer = await self.get("/jobs", host, accept="text/html")
            with self.subTest(host=host):
                self.assertEqual(400, answer.status_code)
                self.assertTrue(answer.headers["content-type"].startswith("text/html"))
                self.assertNotIn("<b>", answer.text)
                self.assertIn("content-security-policy", answer.headers)
        answer = await self.get("/jobs", "lab.example", accept="text/html")
        self.assertIn("ALLOWED_HOSTS=lab.example", answer.text)

    async def test_a_rebinding_page_can_neither_read_nor_run_anything(self) -> None:
        name = "evil.example:5000"
        page = {"host": name, "origin": f"http://{name}"}
        forged = (
            {},
            {"x-forwarded-host": "localhost"},
            {"x-forwarded-host": "127.0.0.1:5000", "x-forwarded-proto": "https"},
            {"forwarded": "host=localhost"},
            {"sec-fetch-site": "same-origin"},
            {"x-original-host": "localhost", "x-host": "localhost", "x-forwarded-server": "a"},
        )
        await self.assert_statuses(400, [page | extra for extra in forged])
        for extra in forged:
            answer = await self.client.get("/api/jobs", headers={"host": name} | extra)
            self.assertEqual(400, answer.status_code)
        self.assertEqual(0, (await self.manager.find()).total)

    async def test_a_rebinding_page_behind_a_proxy_that_replaces_host_is_refused(self) -> None:
        proxied = {"host": "127.0.0.1:5000", "origin": "http://evil.example"}
        await self.assert_statuses(403, [proxied])
        named = (
            {"x-forwarded-host": "evil.example"},
            {
                "x-forwarded-host": "localhost, evil.example"
            },  # as Apache adds its own to a forged one
            {"forwarded": 'for=192.0.2.1;host="evil.example:80";proto=http'},
            {"forwarded": "host=localhost, for=10.0.0.1;Host=evil.example"},
        )
        await self.assert_statuses(400, [proxied | extra for extra in named])
        for extra in named:
            headers = {"host": "127.0.0.1:5000"} | extra
            self.assertEqual(400, (await self.client.get("/", headers=headers)).status_code)

    @slow
    async def test_the_same_name_with_the_port_left_out_is_the_same_page(self) -> None:
        await self.assert_statuses(
            200,
            (
                {"host": "transfer", "origin": "http://transfer:8080"},
                {"host": "TRANSFER", "origin": "http://transfer"},
                {"host": "transfer:80", "origin": "http://transfer"},
                {"host": "transfer.", "origin": "http://transfer"},
                {"host": "transfer:443", "origin": "https://transfer"},
                {"host": "transfer:8080", "origin": "http://transfer:8080"},
                {"host": "[::1]", "origin": "http://[0:0::1]:8080"},
                {"host": "10.0.0.5:8080", "origin": "http://10.0.0.5:8080"},
            ),
        )

    @slow
    async def test_a_host_that_a_proxy_was_asked_for_counts(self) -> None:
        proxied = {"host": "127.0.0.1:5000", "origin": "http://transfer:8080"}
        await self.assert_statuses(
            200,
            (
                proxied | {"x-forwarded-host": "transfer:8080"},
                proxied | {"x-forwarded-host": "Transfer, inner"},
                proxied | {"x-forwarded-host": "transfer:8080 , inner:80,"},
                proxied | {"forwarded": 'for="[::1]:9";host="transfer:8080";proto=http, for=a'},
                proxied | {"forwarded": "Host=transfer"},
            ),
        )

    async def test_another_site_is_refused_even_under_a_safe_name(self) -> None:
        await self.assert_statuses(
            403,
            (
                {"host": "10.0.0.5:5000", "origin": "http://192.0.2.66"},
                {"host": "10.0.0.5:5000", "origin": "http://10.0.0.5:5001"},
                {"host": "transfer:5000", "origin": "http://wiki"},
                {"host": "transfer:5000", "origin": "http://localhost:5000"},
                {"host": "transfer", "origin": "null"},
                {"host": "transfer", "origin": ""},
                {"host": "transfer", "origin": "http://transfer/path"},
                {"host": "transfer", "origin": "ftp://transfer"},
                {"host": "transfer", "origin": "http://transfer", "sec-fetch-site": "cross-site"},
                {"host": "transfer", "origin": "http://transfer", "sec-fetch-site": "same-site"},
                {"host": "transfer", "origin": "http://transfer", "sec-fetch-site": "new-word"},
            ),
        )

    async def test_a_refusal_names_both_hosts_and_the_setting(self) -> None:
        headers = {"host": "127.0.0.1:5000", "origin": "http://transfer.lab:8080"}
        [error] = self.envelope(await self.submit(headers))["errors"]
        for text in ("http://transfer.lab:8080", "127.0.0.1:5000", "SERVICE_URL", "ALLOWED_HOSTS"):
            self.assertIn(text, error)

    async def test_programs_that_name_no_page_are_served(self) -> None:
        await self.assert_statuses(200, ({"host": "10.0.0.5:5000"}, {"host": "transfer"}))

    async def test_one_well_formed_host_is_needed(self) -> None:
        for hosts in ((), ("a", "a"), ("a", "localhost"), ("",), ("a b",), ("a,b",), ("a@b",)):
            with self.subTest(hosts=hosts):
                self.assertEqual(400, await self.status(hosts))
        self.assertEqual(400, await self.status(("a\xfc.example",)))

    @slow
    async def test_a_probe_in_http_1_0_needs_no_host(self) -> None:
        self.assertEqual(200, await self.status((), "1.0"))
        self.assertEqual(400, await self.status(("evil.example",), "1.0"))

    async def status(self, hosts: Iterable[str], version: str = "1.1") -> int:
        """Ask with these `Host` headers, past the client that would mend them."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": version,
            "method": "GET",
            "scheme": "http",
            "path": "/livez",
            "raw_path": b"/livez",
            "query_string": b"",
            "headers": [(b"host", host.encode("latin-1")) for host in hosts],
            "server": ("127.0.0.1", 5000),
        }
        await self.app(scope, receive, send)
        return sent[0]["status"]


class NamedTest(HostsTest):
    """A service whose administrator set its names."""

    settings = {
        "allowed_hosts": "transfer.lab, *.lab.example, Bücher.example, 10.0.0.5",
        "callback_url": "http://nodes.inner.example:5000",
        "notifications": NotificationSettings(service_url="https://Upload.Example:8443/below"),
    }

    async def test_these_names_are_served_whatever_their_case_and_port(self) -> None:
        for host in (
            *("transfer.lab", "Transfer.LAB.:8080", "a.lab.example", "a.b.lab.example:81"),
            *("xn--bcher-kva.example", "upload.example", "nodes.inner.example:5000", "10.9.9.9"),
        ):
            with self.subTest(host=host):
                self.assertEqual(200, (await self.get("/api/jobs", host)).status_code)
        for host in ("lab.example", "evil-lab.example", "b.transfer.lab", "inner.example"):
            with self.subTest(host=host):
                self.assertEqual(400, (await self.get("/api/jobs", host)).status_code)

    @slow
    async def test_their_pages_work_behind_any_proxy(self) -> None:
        await self.assert_statuses(
            200,
            (
                {"host": "127.0.0.1:5640", "origin": "http://transfer.lab"},
                {"host": "transfer.lab", "origin": "http://transfer.lab:8080"},
                {
                    "host": "x",
                    "origin": "http://transfer.lab",
                    "x-forwarded-host": "transfer.lab, in",
                },
                {
                    "host": "transfer.lab:5640",
                    "origin": "http://transfer.lab:8080",
                    "x-forwarded-host": "transfer.lab:8080",
                },
                {"host": "transfer.lab:80", "origin": "http://transfer.lab"},
                {"host": "Transfer.LAB", "origin": "http://transfer.lab"},
                {"host": "backend", "origin": "https://upload.example:8443"},
                {"host": "upload.example:5640", "origin": "https://upload.example:8443"},
                {"host": "backend", "origin": "https://a.lab.example"},
                {"host": "backend", "origin": "http://10.0.0.5:80"},
            ),
        )

    async def test_other_programs_of_the_same_machine_are_other_sites(self) -> None:
        await self.assert_statuses(
            403,
            (
                {"host": "transfer.lab:5640", "origin": "http://transfer.lab:8888"},
                {"host": "transfer.lab:5640", "origin": "http://transfer.lab"},
                {"host": "10.9.9.9:5640", "origin": "http://transfer.lab:8888"},
                {"host": "backend", "origin": "http://a.lab.example:8888"},
                {"host": "backend", "origin": "http://10.0.0.5:8080"},
                {"host": "backend", "origin": "https://upload.example"},
                {"host": "upload.example:8443", "origin": "http://upload.example:8888"},
                {"host": "backend", "origin": "http://nodes.inner.example:8888"},
                {"host": f"{socket.gethostname()}:5640", "origin": MACHINE},
                {"host": "127.0.0.1:5640", "origin": MACHINE},
                {"host": "x", "origin": MACHINE, "x-forwarded-host": "transfer.lab"},
            ),
        )

    async def test_other_pages_are_refused_all_the_same(self) -> None:
        for origin in (
            "http://evil.example",
            "http://10.0.0.6",
            "http://transfer.lab.evil.example",
        ):
            await self.assert_statuses(403, [{"host": "transfer.lab", "origin": origin}])
        headers = {"host": "transfer.lab", "origin": "https://a.lab.example"}
        await self.assert_statuses(403, [headers | {"sec-fetch-site": "same-site"}])


class MachineTest(unittest.TestCase):
    """The names of the machine itself."""

    def test_they_are_served(self) -> None:
        hosts = ServedHosts((), machine=lambda: {"Transfer.Lab.Example.", "odd name"})
        self.assertEqual("", hosts.problem(Headers({"host": "transfer.lab.example:5000"}), "1.1"))
        self.assertIn("ALLOWED_HOSTS", hosts.problem(Headers({"host": "lab.example"}), "1.1"))
        for host, port, is_ours in (
            *(("transfer.lab.example", "", True), ("transfer.lab.example:5000", ":5000", True)),
            *(("transfer.lab.example:5000", ":8888", False), ("127.0.0.1:5000", "", False)),
        ):
            headers = {"host": host, "origin": f"http://transfer.lab.example{port}"}
            with self.subTest(headers):
                problem = hosts.cross_site_problem(Headers(headers))
                self.assertEqual(is_ours, not problem, problem)


class RootPathTest(ApplicationTest):
    """Pages below a path prefix of a proxy."""

    settings = {"root_path": "/transfer/"}

    @slow
    async def test_it_does_not_matter_whether_the_proxy_removes_the_prefix(self) -> None:
        for prefix in ("", "/transfer"):
            for path in ("/", "/jobs", "/help", "/service", "/docs", "/api/jobs", "/openapi.json"):
                with self.subTest(path=prefix + path):
                    answer = await self.client.get(prefix + path)
                    self.assertEqual(200, answer.status_code)

    @slow
    async def test_every_link_and_asset_is_below_the_prefix(self) -> None:
        for path in ("/", "/jobs", "/help", "/service", "/docs", "/nowhere"):
            page = await self.client.get(f"/transfer{path}", headers={"accept": "text/html"})
            found = self.links(page.text)
            with self.subTest(path=path):
                self.assertTrue(found)
                self.assertEqual([], [link for link in found if not link.startswith("/transfer/")])
            for link in set(found):
                with self.subTest(path=path, link=link):
                    self.assertEqual(200, (await self.client.get(link)).status_code)

    @slow
    async def test_the_current_page_is_marked(self) -> None:
        page = await self.client.get("/transfer/jobs")
        self.assertIn('href="/transfer/jobs" aria-current="page"', page.text)

    @slow
    async def test_the_prefix_itself_leads_to_the_first_page(self) -> None:
        answer = await self.client.get("/transfer")
        self.assertEqual("/transfer/", answer.headers["location"])

    async def test_a_submission_works(self) -> None:
        body = {"jobs": [upload_settings(self.data_dir)]}
        answer = await self.client.post("/transfer/api/submit_basic_jobs", json=body)
        self.assertEqual(200, answer.status_code, answer.text)

    @staticmethod
    def links(page: str) -> list[str]:
        """Read the links of a page that lead to this service."""
        page = re.sub(r"<template.*?</template>", "", page, flags=re.DOTALL)
        return re.findall(r'(?:href|src)="(/[^"]*)"', page)


class RedirectTest(ApplicationTest):
    """Redirects, whose host only the proxy knows."""

    @slow
    async def test_a_redirect_names_no_host(self) -> None:
        answer = await self.client.get("/jobs/?text=a", headers={"host": "127.0.0.1:5000"})
        self.assertEqual((307, "/jobs?text=a"), (answer.status_code, answer.headers["location"]))

    async def test_no_path_makes_it_lead_to_another_site(self) -> None:
        for path in ("//evil.example/jobs/", "//evil.example//", "/\\evil.example/jobs/"):
            answer = await self.client.get(httpx.URL("http://transfer").copy_with(path=path))
            self.assertNotRegex(answer.headers.get("location", "/"), r"^(//|/\\|http)")


class WireTest(unittest.TestCase):
    """Requests as they are on the wire, which no client would send."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start a service."""
        super().setUpClass()
        cls.service = cls.enterClassContext(Service())

    def status(self, *lines: str) -> int:
        """Send lines, and return the status of the answer."""
        port = int(self.service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            text = "\r\n".join([*lines, "Connection: close", "", ""])
            connection.sendall(text.encode("utf-8"))
            with connection.makefile("rb") as answer:
                return int(answer.readline().split()[1])

    def test_one_well_formed_host_is_needed(self) -> None:
        get = "GET /api/jobs HTTP/1.1"
        self.assertEqual(200, self.status(get, "Host: localhost"))
        self.assertEqual(200, self.status(get, "hOST:\tLocalHost:5000  "))
        for hosts in (
            (),
            ("Host:",),
            ("Host: evil.example",),
            ("Host: localhost", "Host: evil.example"),
            ("Host: evil.example", "host: localhost"),
            ("Host: localhost", "Host: localhost"),
            ("Host: localhost, evil.example",),
            ("Host: localhost evil.example",),
            ("Host: localhost@evil.example",),
            ("Host: evil.example#localhost",),
            ("Host : evil.example",),
            ("Host: b\u00fccher.example",),
        ):
            with self.subTest(hosts=hosts):
                self.assertEqual(400, self.status(get, *hosts))

    def test_a_target_with_a_host_does_not_stand_for_the_header(self) -> None:
        for target in ("http://localhost/api/jobs", "http://127.0.0.1:5000/api/jobs"):
            with self.subTest(target=target):
                self.assertEqual(400, self.status(f"GET {target} HTTP/1.1"))
                self.assertEqual(400, self.status(f"GET {target} HTTP/1.1", "Host: evil.example"))

    def test_a_load_balancer_may_probe_without_a_name(self) -> None:
        self.assertEqual(200, self.status("GET /readyz HTTP/1.0"))
        self.assertEqual(200, self.status("HEAD /livez HTTP/1.1", "Host: 127.0.0.1:5000"))
