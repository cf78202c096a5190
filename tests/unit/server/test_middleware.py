"""Headers, origins, sizes, and faults."""

from unittest import TestCase

import httpx

from aind_data_transfer_service.configs.limits import MAX_FILE_BYTES
from aind_data_transfer_service.server.exception_handlers import Failsafe
from tests.support import slow
from tests.support.application import SITE, ApplicationTest
from tests.support.requests import csv_file, csv_row, upload_settings


class SecurityHeadersTest(ApplicationTest):
    """What every answer carries."""

    @slow
    async def test_no_page_may_run_scripts_of_its_own_text(self) -> None:
        for path in ("/", "/jobs", "/help", "/nowhere", "/api/jobs", "/healthz"):
            with self.subTest(path=path):
                response = await self.client.get(path, headers={"accept": "text/html"})
                policy = response.headers["content-security-policy"]
                self.assertIn("script-src 'self'", policy)
                self.assertNotIn("unsafe", policy)
                self.assertEqual("nosniff", response.headers["x-content-type-options"])
                self.assertEqual("DENY", response.headers["x-frame-options"])
                self.assertNotRegex(response.text, r"<script(?![^>]*\bsrc=)|\son\w+=|style=")

    @slow
    async def test_assets_may_be_kept_and_answers_may_not(self) -> None:
        page = await self.client.get("/")
        self.assertEqual("no-store", page.headers["cache-control"])
        sheet = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
        asset = await self.client.get(sheet)
        self.assertEqual(200, asset.status_code)
        self.assertIn("immutable", asset.headers["cache-control"])
        missing = await self.client.get(sheet + ".map")
        self.assertEqual(404, missing.status_code)
        self.envelope(missing)

    async def test_pages_and_their_assets_ask_nobody_else(self) -> None:
        page = await self.client.get("/")
        self.assertNotRegex(page.text, r'(?:src|rel="stylesheet" href)="(?:https?:)?//')

    async def test_the_api_description_allows_its_one_script_by_hash(self) -> None:
        response = await self.client.get("/docs")
        policy = response.headers["content-security-policy"]
        self.assertRegex(policy, r"script-src 'self' 'sha256-[A-Za-z0-9+/=]+';")
        self.assertNotIn("cdn", response.text)


class CrossSiteTest(ApplicationTest):
    """Requests that the pages of other sites send."""

    settings = {"allowed_hosts": "upload.example"}

    async def post(self, **headers: str) -> httpx.Response:
        """Submit a job as a browser would, with `_` for `-` in header names."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"jobs": [upload_settings(self.data_dir)]}
        return await self.client.post("/api/submit_basic_jobs", json=body, headers=named)

    async def test_another_sites_page_can_change_nothing(self) -> None:
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site", "origin": SITE},
        ):
            with self.subTest(headers=headers):
                response = await self.post(**headers)
                self.assertEqual(403, response.status_code)
                self.envelope(response)
        self.assertEqual(0, (await self.manager.find()).total)

    @slow
    async def test_our_own_pages_and_scripts_can(self) -> None:
        for number, headers in enumerate(
            (
                {},
                {"origin": SITE},
                {"sec_fetch_site": "same-origin", "origin": SITE},
                {"origin": "https://upload.example", "x_forwarded_host": "upload.example"},
            )
        ):
            with self.subTest(headers=headers):
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                body = {"jobs": [upload_settings(self.data_dir, subject_id=str(number))]}
                answer = await self.client.post("/api/submit_basic_jobs", json=body, headers=named)
                self.assertEqual(200, answer.status_code, answer.text)

    @slow
    async def test_reading_is_not_refused(self) -> None:
        headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        response = await self.client.get("/api/jobs", headers=headers)
        self.assertEqual(200, response.status_code)
        self.assertNotIn("access-control-allow-origin", response.headers)


class BodyLimitTest(ApplicationTest):
    """Bodies that are too large."""

    async def test_a_file_over_the_limit_is_refused_with_the_limit(self) -> None:
        files = {"file": ("jobs.csv", b"x" * (MAX_FILE_BYTES + 100_000))}
        response = await self.client.post("/api/validate_csv", files=files)
        self.assertEqual(413, response.status_code)
        [error] = self.envelope(response)["errors"]
        self.assertEqual("The file is larger than 32 MiB.", error)

    async def test_a_body_that_never_names_its_length_is_counted_while_it_is_read(self) -> None:
        sent = 0

        async def endless():
            nonlocal sent
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            while sent < 2 * MAX_FILE_BYTES:
                sent += 1_000_000
                yield b"x" * 1_000_000
            yield b"\r\n--b--\r\n"

        headers = {"content-type": "multipart/form-data; boundary=b"}
        response = await self.client.post("/api/validate_csv", content=endless(), headers=headers)
        self.assertEqual(413, response.status_code)
        self.envelope(response)

    async def test_a_file_within_the_limit_passes(self) -> None:
        files = {"file": ("jobs.csv", csv_file(csv_row(self.data_dir)))}
        response = await self.client.post("/api/validate_csv", files=files)
        self.assertEqual(200, response.status_code, response.text)


class FaultTest(ApplicationTest):
    """Faults of our own."""

    async def test_a_fault_is_answered_with_a_word_for_the_log_and_nothing_else(self) -> None:
        self.manager.store.close()
        self.manager._store = None
        with self.assertLogs(
            "aind_data_transfer_service.server.exception_handlers", "ERROR"
        ) as log:
            response = await self.client.get("/api/jobs")
        self.assertEqual(500, response.status_code)
        [error] = self.envelope(response)["errors"]
        reference = error.split()[-1].rstrip(".")
        self.assertEqual(reference, log.records[0].request_id)
        self.assertNotIn("Traceback", response.text)
        self.assertIn("content-security-policy", response.headers)

    async def test_an_answer_that_breaks_off_is_seen_to_break_off(self) -> None:
        async def half(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise OSError("gone")

        sent = []

        async def send(message):
            sent.append(message["type"])

        with self.assertLogs("aind_data_transfer_service.server.exception_handlers", "ERROR"):
            with self.assertRaises(OSError):
                await Failsafe(half)({"type": "http"}, None, send)
        self.assertEqual(["http.response.start"], sent)

    @slow
    async def test_a_browser_gets_a_page_instead(self) -> None:
        self.manager._store = None
        with self.assertLogs("aind_data_transfer_service.server.exception_handlers", "ERROR"):
            response = await self.client.get("/jobs", headers={"accept": "text/html"})
        self.assertEqual(500, response.status_code)
        self.assertIn("<h1>Something went wrong</h1>", response.text)


class WebSocketTest(ApplicationTest):
    """What is no request at all."""

    async def test_a_web_socket_is_turned_away(self) -> None:
        answers = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            answers.append(message["type"])

        scope = {"type": "websocket", "path": "/api/jobs/stream", "headers": []}
        await self.app(scope, receive, send)
        self.assertEqual(["websocket.close"], answers)


class ImportTest(TestCase):
    """The application that `uvicorn` is told of."""

    def test_the_package_names_the_application_and_nothing_that_is_not_there(self) -> None:
        from aind_data_transfer_service import server

        self.assertEqual("aind-data-transfer-service", server.app.title)
        self.assertIs(server.app, server.app)
        with self.assertRaises(AttributeError):
            server.nothing
