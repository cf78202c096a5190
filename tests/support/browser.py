"""Pages in a real Chromium, driven through playwright."""

import os
import shutil
import unittest
from pathlib import Path
from typing import Any

from tests.support import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str:
    """Find Chromium, by `CHROMIUM` or by its usual names."""
    named = os.environ.get("CHROMIUM")
    found = named if named and Path(named).exists() else None
    for program in PROGRAMS:
        found = found or shutil.which(program)
    if not found:
        raise missing("Chromium")
    return found


class PageTest(unittest.TestCase):
    """A test with a fresh page, in a browser that its class shares.

    A script error, or anything that the page's security policy had to block, fails the test.
    """

    viewport = {"width": 1280, "height": 900}
    timezone = "Europe/London"
    flags: tuple[str, ...] = ()
    """Further flags of the browser."""
    expected_complaints: tuple[str, ...] = ()
    """What the browser may complain of: parts of its messages."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start the browser."""
        super().setUpClass()
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            raise missing("playwright") from None
        program = chromium_path()
        driver = sync_playwright().start()
        cls.addClassCleanup(driver.stop)
        cls.browser = driver.chromium.launch(executable_path=program, args=[*FLAGS, *cls.flags])
        cls.addClassCleanup(cls.browser.close)

    def setUp(self) -> None:
        """Open an empty page."""
        super().setUp()
        self.troubles: list[str] = []
        self.page = self.new_page()

    def new_page(self, **options: Any) -> Any:
        """Open a page in a browser profile of its own."""
        usual = {"viewport": self.viewport, "timezone_id": self.timezone, "locale": "en-GB"}
        context = self.browser.new_context(**(usual | options))
        self.addCleanup(context.close)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._note)
        return page

    def tearDown(self) -> None:
        """Make sure that the scripts of the page had no trouble."""
        super().tearDown()
        self.assertEqual([], self.troubles)

    def _note(self, message: Any) -> None:
        """Keep what the browser complains of; refused requests are the tests' own business."""
        expected = ("Failed to load resource", "Failed to fetch", *self.expected_complaints)
        if message.type == "error" and not any(words in message.text for words in expected):
            self.troubles.append(message.text)
