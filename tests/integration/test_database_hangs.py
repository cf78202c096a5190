"""A PostgreSQL that hangs, or is away, keeps no request, no health check and no process."""

import asyncio
import os
import signal
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import httpx
import psutil

from aind_data_transfer_service.jobs.leader_election import LeaseTiming
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.server import create_app
from aind_data_transfer_service.server.routers import health
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import postgres, slow
from tests.support.application import SITE, HandExecutor
from tests.support.replica import Replica


@slow
class HungDatabaseTest(unittest.IsolatedAsyncioTestCase):
    """A service whose database is suspended, process by process."""

    async def asyncSetUp(self) -> None:
        self.server = postgres.start()
        self.addCleanup(self.server.stop)
        self.addCleanup(self.signal, signal.SIGCONT)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        settings = ServiceSettings(
            data_dir=folder, lab_timezone="UTC", monitor_interval=0.05, database_url=self.server.url
        )
        self.store = JobStore(self.server.url, answer_seconds=1.5)
        self.addCleanup(self.store.close)
        timing = LeaseTiming(ttl=6, interval=0.2, margin=2)
        self.manager = JobManager(settings, self.store, HandExecutor(), timing)
        app = create_app(settings, self.manager)
        await self.enterAsyncContext(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = await self.enterAsyncContext(
            httpx.AsyncClient(transport=transport, base_url=SITE, timeout=30)
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server."""
        server = psutil.Process(self.server.process.pid)
        for process in [server, *server.children(recursive=True)]:
            os.kill(process.pid, number)

    async def ask(self, path: str) -> tuple[int, float]:
        """Ask for a page, and return the status and how long that took."""
        began = time.monotonic()
        answer = await self.client.get(path)
        return answer.status_code, time.monotonic() - began

    async def test_pages_answer_and_the_service_goes_on_when_it_is_back(self) -> None:
        self.enterContext(unittest.mock.patch.object(health, "HEALTH_SECONDS", 0.5))
        self.assertEqual(200, (await self.ask("/jobs"))[0])
        self.signal(signal.SIGSTOP)
        for path in ("/jobs", "/api/jobs", "/api/jobs/nobody", "/healthz", "/readyz"):
            for status, took in await asyncio.gather(*(self.ask(path) for _ in range(30))):
                self.assertEqual(503, status, path)
                self.assertLess(took, 10, path)
        for path in ("/livez", "/", "/help"):
            status, took = await self.ask(path)
            self.assertEqual((200, True), (status, took < 5), path)
        async with asyncio.timeout(40):
            while self.manager.leader.is_active:
                await asyncio.sleep(0.05)
        self.signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while not self.manager.leader.is_active:
                await asyncio.sleep(0.05)
            while (await self.ask("/healthz"))[0] != 200:
                await asyncio.sleep(0.05)
        self.assertEqual(200, (await self.ask("/jobs"))[0])


@slow
class ProcessTest(unittest.TestCase):
    """A real service process."""

    def setUp(self) -> None:
        self.server = postgres.start()
        self.addCleanup(self.server.stop)
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        file = folder / "url"
        file.write_text(f"{self.server.url}\n")
        settings = {"DATA_DIR": str(folder / "data"), "DATABASE_URL_FILE": str(file)}
        self.replica = self.enterContext(Replica(folder / "log", settings))

    def test_a_database_that_is_away_is_named_and_sigterm_ends_the_process(self) -> None:
        self.server.process.send_signal(signal.SIGQUIT)  # an immediate shutdown
        self.server.process.wait(60)
        answer = self.replica.client.get("/jobs", headers={"Accept": "text/html"})
        self.assertEqual(503, answer.status_code)
        self.assertIn("The database does not answer", answer.text)
        self.assertEqual(503, self.replica.client.get("/readyz").status_code)
        began = time.monotonic()
        self.replica.stop()
        self.assertLess(time.monotonic() - began, 12)

    def test_a_lock_and_a_statement_are_given_up(self) -> None:
        import psycopg

        store = JobStore(self.server.url)
        self.addCleanup(store.close)
        with store._database.reading() as connection:
            for name, value in (("statement_timeout", "9s"), ("lock_timeout", "8s")):
                shown = connection.exec_driver_sql(f"SHOW {name}").scalar()
                self.assertEqual(value, shown)
        own = JobStore(f"{self.server.url}?options=-c%20statement_timeout%3D100")
        self.addCleanup(own.close)
        with own._database.reading() as connection, self.assertRaisesRegex(Exception, "timeout"):
            connection.exec_driver_sql("SELECT pg_sleep(20)")
        with psycopg.connect(self.server.url) as other:
            other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            answer = self.replica.client.get("/api/jobs")
            self.assertEqual(503, answer.status_code)
        self.assertEqual(200, self.replica.client.get("/api/jobs").status_code)
