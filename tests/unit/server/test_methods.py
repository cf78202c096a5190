"""Requests with a method that is not possible at a path."""

import httpx

from tests.support.application import ApplicationTest

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class MethodsTest(ApplicationTest):
    """Programs get an envelope and browsers a page, and both are told what is possible."""

    async def ask(self, method: str, path: str, accept: str = "*/*") -> httpx.Response:
        """Send a request, and make sure that it is refused for its method."""
        response = await self.client.request(method, path, headers={"accept": accept})
        self.assertEqual(405, response.status_code, response.text)
        return response

    async def test_programs_get_an_envelope_with_the_possible_methods(self) -> None:
        for method, path, allowed in (
            ("POST", "/", "GET, HEAD"),
            ("OPTIONS", "/", "GET, HEAD"),
            ("FOO", "/", "GET, HEAD"),
            ("DELETE", "/jobs", "GET, HEAD"),
            ("PUT", "/jobs/abc", "GET, HEAD"),
            ("POST", "/help", "GET, HEAD"),
            ("POST", "/metrics", "GET"),
            ("POST", "/docs", "GET"),
            ("POST", "/openapi.json", "GET, HEAD"),
            ("GET", "/api/submit_basic_jobs", "POST"),
            ("GET", "/api/submit_hpc_jobs", "POST"),
            ("PUT", "/api/validate_csv", "POST"),
            ("POST", "/api/jobs", "GET"),
            ("DELETE", "/api/jobs/abc", "GET"),
            ("GET", "/api/jobs/abc/resubmit", "POST"),
            ("POST", "/api/job_upload_template", "GET, HEAD"),
            ("POST", "/static-offline-docs/swagger-ui.css", "GET, HEAD"),
            ("POST", "/jobs/", "GET, HEAD"),
            ("PUT", "/jobs/abc/", "GET, HEAD"),
            ("POST", "/api/jobs/", "GET"),
            ("DELETE", "/api/jobs/abc//", "GET"),
            ("GET", "/api/submit_basic_jobs/", "POST"),
            ("FOO", "/help/", "GET, HEAD"),
        ):
            with self.subTest(f"{method} {path}"):
                response = await self.ask(method, path)
                self.assertEqual(allowed, response.headers["allow"])
                self.assertEqual("Method Not Allowed", response.json()["message"])
                self.assertEqual(
                    [f"{method} is not possible at {path}. Use {allowed.replace(', ', ' or ')}."],
                    self.envelope(response)["errors"],
                )

    async def test_a_possible_method_is_sent_to_the_path_without_the_slash(self) -> None:
        for method, path, location in (
            ("GET", "/jobs/?text=a%20b", "/jobs?text=a%20b"),
            ("HEAD", "/help//", "/help"),
            ("GET", "/api/jobs/", "/api/jobs"),
            ("POST", "/api/submit_basic_jobs/", "/api/submit_basic_jobs"),
        ):
            response = await self.client.request(method, path, follow_redirects=False)
            self.assertEqual((307, location), (response.status_code, response.headers["location"]))
        for path in ("/nothing/", "/api/nothing/", "/static-offline-docs/"):
            response = await self.client.post(path)
            self.assertIn(response.status_code, (404, 405))
            self.assertTrue(self.envelope(response)["errors"])

    async def test_browsers_get_a_page(self) -> None:
        for method, path in (
            ("POST", "/jobs/"),
            *(("POST", "/"), ("DELETE", "/jobs"), ("POST", "/help")),
            ("POST", "/static-offline-docs/swagger-ui.css"),
        ):
            with self.subTest(f"{method} {path}"):
                response = await self.ask(method, path, BROWSER)
                self.assertEqual("GET, HEAD", response.headers["allow"])
                self.assertIn(f"{method} is not possible at {path}.", response.text)
                sheet = response.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
                self.assertEqual(200, (await self.client.get(sheet)).status_code)

    async def test_programs_that_ask_the_api_get_no_page(self) -> None:
        response = await self.ask("GET", "/api/submit_hpc_jobs", BROWSER)
        self.assertIn("errors", self.envelope(response))

    async def test_a_body_does_not_matter(self) -> None:
        for content in (b"", b"{}", b"x" * 100_000):
            response = await self.client.post("/", content=content)
            self.assertEqual(405, response.status_code)
            self.assertIn("POST is not possible", self.envelope(response)["errors"][0])
        response = await self.client.post("/", files={"file": ("jobs.csv", b"a,b")})
        self.assertEqual(405, response.status_code)


class BelowAPrefixTest(ApplicationTest):
    """The same behind a proxy that serves the pages below a path prefix."""

    settings = {"root_path": "/transfer"}

    async def test_the_possible_methods_are_found(self) -> None:
        for path in (
            "/transfer/",
            "/transfer/api/job_upload_template",
            "/jobs",
            "/transfer/help/",
            "/transfer",
        ):
            response = await self.client.post(path)
            self.assertEqual(405, response.status_code)
            self.assertEqual("GET, HEAD", response.headers["allow"])

    async def test_the_page_has_its_style(self) -> None:
        path = "/transfer/static-offline-docs/swagger-ui.css"
        response = await self.client.post(path, headers={"accept": BROWSER})
        self.assertIn('data-root="/transfer"', response.text)
