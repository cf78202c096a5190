"""The pages in a real browser, through nginx; and the page of a stranger."""

from aind_data_transfer_service.settings.notifications import NotificationSettings
from tests.integration.test_reverse_proxy import NGINX, PAGE, SHORTEST
from tests.support import free_port
from tests.support.browser import PageTest
from tests.support.documents import adapt, code_block
from tests.support.requests import csv_file, csv_row
from tests.support.reverse_proxy import NAME, Nginx
from tests.support.service import Service

RULES = f"MAP {NAME} 127.0.0.1, MAP evil.example 127.0.0.1"
OVER_HTTP = "Cross-Origin-Opener-Policy header has been ignored"
ATTACK = """async () => {
    const job = {upload_job_settings: "{}", hpc_settings: '{"name": "evil"}', script: "#!/bin/sh"};
    const body = JSON.stringify({jobs: [job]});
    const statuses = [];
    const forged = [{}, {"X-Forwarded-Host": "localhost"}, {"Forwarded": "host=localhost"}];
    for (const headers of forged) {
        const posted = await fetch("/api/submit_hpc_jobs", {method: "POST", body, headers});
        const read = await fetch("/api/jobs", {headers});
        statuses.push(posted.status, read.status);
    }
    return statuses;
}"""


class ThroughProxyTest(PageTest):
    """A person whose lab put the service behind nginx."""

    flags = (f"--host-resolver-rules={RULES}",)
    expected_complaints = (OVER_HTTP,)

    def open(self, caption: str, scheme: str, changes: dict[str, str]) -> Service:
        """Start a service and nginx as documented, and open the first page."""
        self.port = free_port()
        notifications = NotificationSettings(service_url=f"{scheme}://{NAME}:{self.port}")
        self.service = self.enterContext(Service(notifications=notifications))
        changes = {key: value.replace("PORT", str(self.port)) for key, value in changes.items()}
        changes["http://127.0.0.1:5000"] = self.service.url
        self.enterContext(Nginx(adapt(code_block(PAGE, caption), changes), self.port))
        self.page = self.new_page(ignore_https_errors=True)
        self.addCleanup(self.page.context.close)  # before the service is stopped
        self.page.goto(f"{scheme}://{NAME}:{self.port}/")
        return self.service

    def submit_and_follow(self) -> None:
        """Send a session through the page, and see it arrive on the list without reloading."""
        session = self.service.folder / "session"
        session.mkdir()
        (session / "trial.csv").write_text("time,licks\n0.1,3\n")
        watcher = self.page.context.new_page()
        watcher.goto(self.page.url + "jobs")
        watcher.locator('#live[data-live="on"]').wait_for()
        file = {"name": "jobs.csv", "mimeType": "text/csv", "buffer": csv_file(csv_row(session))}
        self.page.get_by_label("Browse").set_input_files(file)
        self.page.get_by_text("Successfully validated jobs from file").wait_for()
        self.page.get_by_role("button", name="Submit", exact=True).click()
        self.page.get_by_text("Successfuly submitted jobs").wait_for()
        watcher.locator('tr[data-job][data-state="COMPLETED"]').wait_for(timeout=30_000)

    def test_a_session_is_submitted_and_followed_over_https(self) -> None:
        listen = {"listen 443 ssl http2": "listen 127.0.0.1:PORT ssl http2"}
        self.open(NGINX, "https", listen | {"/etc/nginx/tls": "FOLDER"})
        self.submit_and_follow()

    def test_a_session_is_submitted_and_followed_over_http_with_another_host(self) -> None:
        self.open(SHORTEST, "http", {"listen 80": "listen 127.0.0.1:PORT"})
        self.submit_and_follow()


class RebindingTest(PageTest):
    """A page on the internet whose name now points to the service."""

    flags = (f"--host-resolver-rules={RULES}",)
    expected_complaints = (
        OVER_HTTP,
        "MIME type ('application/json')",
    )  # its style sheet is refused

    def test_it_can_neither_read_nor_run_anything(self) -> None:
        service = self.enterContext(Service(allow_custom_scripts=True))
        url = service.url.replace("127.0.0.1", "evil.example")
        # Scripts of any page at that address have the same rights, also those of an error page.
        self.page.goto(f"{url}/holiday.html")
        self.assertEqual([400] * 6, self.page.evaluate(ATTACK))
        self.assertEqual(0, sum(service.manager.store.counts().values()))

    def test_a_person_who_opens_an_unknown_name_reads_what_to_set(self) -> None:
        service = self.enterContext(Service())
        answer = self.page.goto(service.url.replace("127.0.0.1", NAME) + "/jobs")
        self.assertEqual(400, answer.status)
        self.assertIn(f"ALLOWED_HOSTS={NAME}", self.page.locator("main").inner_text())
        stylesheet = self.page.locator('link[rel="stylesheet"]').get_attribute("href")
        self.assertTrue(stylesheet)
