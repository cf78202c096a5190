"""Jobs of one request that end together are told of in one message."""

import json
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from aind_data_transfer_service.jobs.models import Job, new_job_id, utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import outbox
from aind_data_transfer_service.jobs.store.job_store import JobChange, JobStore
from aind_data_transfer_service.jobs.store.queries import JobQuery
from aind_data_transfer_service.jobs.validation.requests import draft_basic, make_jobs
from aind_data_transfer_service.notifications import notifier as module
from aind_data_transfer_service.notifications.notifier import Notifier
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support import slow
from tests.support.hook import Hook
from tests.support.jobs import a_job
from tests.support.mailbox import Mailbox
from tests.support.requests import upload_settings

KILLED_WHILE_IT_SENDS = """
import asyncio, os, signal, sys
from zoneinfo import ZoneInfo
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.notifications.notifier import Notifier
from aind_data_transfer_service.notifications.webhook import WebhookChannel
from aind_data_transfer_service.settings.notifications import NotificationSettings
from datetime import timedelta
from aind_data_transfer_service.jobs.store import outbox

class Deadly(WebhookChannel):
    def send(self, message, address):
        super().send(message, address)
        os.kill(os.getpid(), signal.SIGKILL)

outbox.BATCH_WAIT = timedelta(0)
store = JobStore(sys.argv[1], keep_notices=True)
settings = NotificationSettings(notify_webhook_url=sys.argv[2])
notifier = Notifier(store, settings, ZoneInfo("UTC"), {"webhook": Deadly(sys.argv[2], "plain")})

async def run():
    while await notifier.look():
        continue

asyncio.run(run())
"""


class DigestTest(unittest.IsolatedAsyncioTestCase):
    """A store with jobs that were submitted together, and people who hear of them."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{Path(folder) / 'jobs.sqlite3'}"
        self.store = JobStore(self.url, keep_notices=True)
        self.addCleanup(self.store.close)
        self.box = self.enterContext(Mailbox())
        self.hook = self.enterContext(Hook())
        self.settings = NotificationSettings(
            service_url="https://transfer.example.org/",
            smtp_host="127.0.0.1",
            smtp_port=self.box.port,
            smtp_from="transfer@lab.org",
            notify_emails={"data@lab.org"},
            notify_webhook_url=self.hook.url,
        )

    def batch(self, count: int, **values) -> list[Job]:
        """Record jobs of one request."""
        batch_id, now = new_job_id(), utc_now()
        jobs = [a_job(batch_id=batch_id, submitted_at=now, **values) for _ in range(count)]
        self.store.add(jobs)
        return jobs

    def end_jobs(self, jobs: list[Job], reason: str = "no room", state=JobState.FAILED) -> None:
        """End jobs."""
        self.store.apply([JobChange(job.id, state, {"reason": reason}) for job in jobs])

    async def tell(self) -> None:
        """Send all that can be sent now."""
        notifier = Notifier(self.store, self.settings, ZoneInfo("UTC"))
        while await notifier.look():
            continue

    @contextmanager
    def later(self, **after: float) -> Iterator[None]:
        """Let the clock be ahead."""
        now = utc_now() + timedelta(**after)
        with (
            mock.patch.object(outbox, "utc_now", lambda: now),
            mock.patch.object(module, "utc_now", lambda: now),
        ):
            yield

    def told(self) -> list[str]:
        """Return the subjects of what was told, by e-mail and by webhook."""
        subjects = [str(letter["Subject"]) for letter in self.box.letters]
        return sorted(subjects + [body["subject"] for body in self.hook.bodies])

    async def test_a_batch_that_fails_is_one_message_an_address(self) -> None:
        jobs = self.batch(40)
        self.end_jobs(jobs[:30])
        self.end_jobs(jobs[30:], "", JobState.TIMEOUT)
        await self.tell()
        self.assertEqual([], self.told(), "the others may end in a moment")
        with self.later(seconds=61):
            await self.tell()
        self.assertEqual((1, 1), (len(self.box.letters), len(self.hook.bodies)))
        [body] = self.hook.bodies
        self.assertIn("40 jobs", body["subject"])
        facts = body["facts"]
        self.assertEqual(("40", "30", "10"), (facts["Jobs"], facts["FAILED"], facts["TIMEOUT"]))
        self.assertIn(jobs[0].name, facts["Job 1"])
        self.assertIn("no room", facts["Job 1"])
        self.assertEqual("30 more jobs", facts["More"])
        self.assertIn(jobs[9].name, self.box.letters[0].get_content())
        self.assertEqual(0, self.store.outbox.waiting())

    async def test_its_link_lists_these_jobs(self) -> None:
        self.end_jobs(self.batch(3))
        jobs = self.batch(4)
        self.end_jobs(jobs)
        with self.later(seconds=61):
            await self.tell()
        [link] = [body["link"] for body in self.hook.bodies if body["facts"]["Jobs"] == "4"]
        asked = parse_qs(urlsplit(link).query)
        self.assertEqual({"state", "since", "until"}, set(asked))
        since, until = (datetime.fromisoformat(asked[name][0]) for name in ("since", "until"))
        found = self.store.find(JobQuery(states=[JobState.FAILED], since=since, until=until))
        self.assertEqual({job.id for job in jobs}, {job.id for job in found.jobs})

    @slow
    async def test_one_job_alone_is_told_at_once(self) -> None:
        job = a_job()
        self.store.add([job])
        self.end_jobs([job])
        await self.tell()
        self.assertEqual([f"FAILED: {job.name}"] * 2, self.told())

    async def test_the_only_one_of_a_batch_that_fails_is_told_as_a_job(self) -> None:
        jobs = self.batch(5)
        self.end_jobs(jobs[:1])
        self.end_jobs(jobs[1:], "", JobState.COMPLETED)
        with self.later(seconds=61):
            await self.tell()
        self.assertEqual([f"FAILED: {jobs[0].name}"] * 2, self.told())

    @slow
    async def test_those_that_fail_much_later_are_a_message_of_their_own(self) -> None:
        jobs = self.batch(6)
        self.end_jobs(jobs[:3])
        with self.later(seconds=61):
            await self.tell()
        self.end_jobs(jobs[3:])
        with self.later(seconds=200):
            await self.tell()
        self.assertEqual(4, len(self.told()))
        self.assertTrue(all("3 jobs" in subject for subject in self.told()))

    async def test_each_user_hears_of_their_own_jobs(self) -> None:
        for name in ("anna", "ben"):
            asked = json.dumps({"mail_user": f"{name}@lab.org", "mail_type": "FAIL"})
            self.end_jobs(self.batch(2, hpc_settings=asked))
        self.settings = self.settings.model_copy(update={"notify_on": frozenset({"BEGIN"})})
        with self.later(seconds=61):
            await self.tell()
        self.assertEqual(["anna@lab.org", "ben@lab.org"], sorted(self.box.recipients))

    @slow
    async def test_a_server_that_is_down_gets_one_message_when_it_is_back(self) -> None:
        self.hook.answers = [503]
        self.end_jobs(self.batch(20))
        with self.later(seconds=61), self.assertLogs(module.logger, "WARNING") as logged:
            await self.tell()
        self.assertEqual(1, len(logged.output))
        self.assertEqual(20, self.store.outbox.waiting())
        with self.later(seconds=120):
            await self.tell()
        self.assertEqual((2, 0), (len(self.hook.bodies), self.store.outbox.waiting()))
        self.assertIn("20 jobs", self.hook.bodies[1]["subject"])

    @slow
    async def test_a_process_killed_while_it_sends_loses_nothing(self) -> None:
        self.end_jobs(self.batch(20))
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_IT_SENDS, self.url, self.hook.url], timeout=60
        )
        self.assertEqual(-signal.SIGKILL, killed.returncode)
        self.assertEqual(20, self.store.outbox.waiting())
        self.settings = NotificationSettings(notify_webhook_url=self.hook.url)
        with self.later(minutes=6):
            await self.tell()
        told = [body["facts"]["Jobs"] for body in self.hook.bodies]
        self.assertEqual(["20", "20"], told, "once by each process")
        self.assertEqual(0, self.store.outbox.waiting())

    def test_the_jobs_of_one_request_are_one_batch(self) -> None:
        settings = ServiceSettings(lab_timezone="UTC")
        texts = [upload_settings(subject_id=str(number)) for number in (1, 2, 3)]
        for count in (1, 3):
            jobs = make_jobs(draft_basic(texts[:count], settings).drafts, {}, settings)
            batches = {(job.batch_id, job.submitted_at) for job in jobs}
            self.assertEqual(1, len(batches))
            self.assertEqual(count > 1, bool(jobs[0].batch_id))
