"""Messages go out: to a real SMTP server, and to a real web address."""

import asyncio
import json
import os
import sqlite3
import ssl
import tempfile
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock
from zoneinfo import ZoneInfo

import trustme
from pydantic import SecretStr, ValidationError

from aind_data_transfer_service.jobs.models import Job, utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import outbox
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.notifications import notifier as module
from aind_data_transfer_service.notifications.notifier import Notifier
from aind_data_transfer_service.settings.notifications import NotificationSettings
from tests.support import slow
from tests.support.hook import Hook
from tests.support.jobs import a_job
from tests.support.mailbox import Mailbox

LOGGER = "aind_data_transfer_service.notifications.notifier"


def mail_settings(box: Mailbox, **values) -> NotificationSettings:
    """Name a mailbox in the settings."""
    usual = {"smtp_host": "127.0.0.1", "smtp_port": box.port, "smtp_from": "transfer@lab.org"}
    return NotificationSettings(**usual | values)


class NotifierTest(unittest.IsolatedAsyncioTestCase):
    """A store whose jobs change, and people who hear of it."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.store = JobStore(f"sqlite:///{Path(folder) / 'jobs.sqlite3'}", keep_notices=True)
        self.addCleanup(self.store.close)
        self.box = self.enterContext(Mailbox())
        self.hook = self.enterContext(Hook())

    def run_job(self, end: JobState = JobState.COMPLETED, reason: str = "", **values) -> Job:
        """Record a job and see it through to its end."""
        job = a_job(**values)
        self.store.add([job])
        for state in (JobState.PENDING, JobState.RUNNING):
            self.store.update(job.id, state=state)
        return self.store.update(job.id, state=end, reason=reason)

    async def tell(self, settings: NotificationSettings) -> None:
        """Send all that can be sent now."""
        notifier = Notifier(self.store, settings, ZoneInfo("UTC"))
        while await notifier.look():
            continue

    async def test_one_that_is_stopped_leaves_no_threads(self) -> None:
        def threads() -> set[threading.Thread]:
            return {one for one in threading.enumerate() if one.name == "notifications"}

        before = threads()
        settings = mail_settings(
            self.box, notify_emails=frozenset({"data@lab.org"}), notify_on={"ALL"}
        )
        running = asyncio.create_task(Notifier(self.store, settings, ZoneInfo("UTC")).run())
        self.addCleanup(running.cancel)
        self.run_job()
        async with asyncio.timeout(10):
            while not self.box.letters:
                await asyncio.sleep(0.01)
        left = threads() - before
        self.assertTrue(left)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for thread in left:
            thread.join(5)
        self.assertFalse([one for one in left if one.is_alive()])

    @slow
    async def test_a_job_tells_whom_it_names_and_of_what_it_names(self) -> None:
        asked = {"mail_user": "anna@lab.org", "mail_type": ["BEGIN", "FAIL"]}
        self.run_job(JobState.FAILED, "no room", hpc_settings=json.dumps(asked), name="a_1")
        self.run_job(hpc_settings=json.dumps(asked), name="b_2")
        await self.tell(mail_settings(self.box))
        subjects = sorted(str(letter["Subject"]) for letter in self.box.letters)
        self.assertEqual(["FAILED: a_1", "RUNNING: a_1", "RUNNING: b_2"], subjects)
        self.assertEqual({"anna@lab.org"}, set(self.box.recipients))
        [letter] = [one for one in self.box.letters if one["Subject"] == "FAILED: a_1"]
        self.assertIn("Reason: no room", letter.get_content())
        self.assertEqual("auto-generated", letter["Auto-Submitted"])

    async def test_the_lab_hears_of_all_jobs_each_address_once(self) -> None:
        asked = {"mail_user": "anna@lab.org", "mail_type": "ALL"}
        self.run_job(JobState.TIMEOUT, hpc_settings=json.dumps(asked))
        lab = frozenset({"anna@lab.org", "data@lab.org"})
        await self.tell(
            mail_settings(
                self.box,
                notify_emails=lab,
                notify_webhook_url=self.hook.url,
                notify_webhook_kind="slack",
            )
        )
        self.assertEqual(["anna@lab.org"] * 2 + ["data@lab.org"], sorted(self.box.recipients))
        [body] = self.hook.bodies
        self.assertIn("TIMEOUT", body["text"])

    async def test_a_requeue_is_told(self) -> None:
        job = a_job()
        self.store.add([job])
        for state in (JobState.PENDING, JobState.RUNNING, JobState.PENDING):
            self.store.update(job.id, state=state, reason="the node went away")
        await self.tell(
            NotificationSettings(notify_webhook_url=self.hook.url, notify_on={"REQUEUE"})
        )
        [body] = self.hook.bodies
        self.assertEqual(("REQUEUE", "PENDING"), (body["occasion"], body["state"]))
        self.assertIn("back into the queue", body["text"])

    @slow
    async def test_one_that_is_put_off_is_tried_again_and_the_others_are_not_sent_twice(self):
        self.box.answers["late@lab.org"] = ["450 try later", "451 try later"]
        self.run_job(JobState.FAILED)
        settings = mail_settings(self.box, notify_emails={"late@lab.org", "data@lab.org"})
        with self.assertLogs(LOGGER, "WARNING") as logged:
            await self.tell(settings)
        self.assertIn("450 try later", logged.output[0])
        self.assertEqual(["data@lab.org"], self.box.recipients)
        self.assertEqual(1, self.store.outbox.waiting())
        await self.tell(settings)  # not due before its time
        self.assertEqual(1, len(self.box.answers["late@lab.org"]))
        for minutes in (2, 4):
            with self.later(minutes=minutes):
                await self.tell(settings)
        self.assertEqual(["data@lab.org", "late@lab.org"], self.box.recipients)
        self.assertEqual(0, self.store.outbox.waiting())

    @contextmanager
    def later(self, **after: float) -> Iterator[None]:
        """Let the clock be ahead."""
        now = utc_now() + timedelta(**after)
        with (
            mock.patch.object(outbox, "utc_now", lambda: now),
            mock.patch.object(module, "utc_now", lambda: now),
        ):
            yield

    @slow
    async def test_what_is_refused_for_good_is_told_in_the_log_and_forgotten(self) -> None:
        self.box.answers["gone@lab.org"] = ["550 no such mailbox"]
        self.hook.answers = [404]
        self.run_job(JobState.FAILED)
        settings = mail_settings(
            self.box, notify_emails={"gone@lab.org"}, notify_webhook_url=self.hook.url
        )
        with self.assertLogs(LOGGER, "ERROR") as logged:
            await self.tell(settings)
        text = " ".join(logged.output)
        self.assertIn("550 no such mailbox", text)
        self.assertIn("the webhook answered 404", text)
        self.assertNotIn("s3cr3t", text)
        self.assertEqual(0, self.store.outbox.waiting())

    async def test_servers_that_are_down_lose_nothing(self) -> None:
        self.run_job(JobState.FAILED)
        with Mailbox() as gone, Hook() as away:
            settings = mail_settings(gone, notify_emails={"a@lab.org"}, notify_webhook_url=away.url)
        with self.assertLogs(LOGGER, "WARNING") as logged:
            await self.tell(settings)
        self.assertEqual(2, self.store.outbox.waiting())
        self.assertNotIn("s3cr3t", " ".join(logged.output))
        self.hook.answers = [503]
        settings = settings.model_copy(update={"notify_webhook_url": SecretStr(self.hook.url)})
        with self.later(hours=25), self.assertLogs(LOGGER, "ERROR") as logged:
            await self.tell(settings)
        self.assertEqual(2, sum("given up" in line for line in logged.output))
        self.assertEqual(0, self.store.outbox.waiting())

    @slow
    async def test_a_login_travels_encrypted_and_a_wrong_one_is_said_and_not_shown(self) -> None:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        trusted = self.enterContext(authority.cert_pem.tempfile())
        self.enterContext(mock.patch.dict(os.environ, {"SSL_CERT_FILE": trusted}))
        for password, taken in (("right", 1), ("hunter2", 0)):
            with Mailbox(("svc", "right"), context) as box, self.assertLogs(LOGGER) as logged:
                settings = mail_settings(
                    box,
                    smtp_user="svc",
                    smtp_password=password,
                    smtp_security="starttls",
                    notify_emails={"a@lab.org"},
                )
                self.run_job(JobState.FAILED)
                await self.tell(settings)
                module.logger.info("sent")
            self.assertEqual(taken, len(box.letters))
            self.assertNotIn("hunter2", " ".join(logged.output))
        self.assertRegex(" ".join(logged.output), "127.0.0.1 answered 535 .*; check SMTP_USER and")
        with Mailbox(("svc", "hunter2"), context) as box, self.later(minutes=1):  # mended
            await self.tell(settings.model_copy(update={"smtp_port": box.port}))
        self.assertEqual(["a@lab.org"], box.recipients)

    @slow
    async def test_one_that_cannot_be_written_stops_no_other_and_is_given_up_in_time(self) -> None:
        asked = {"mail_user": "a@lab.org\nBcc: all@lab.org", "mail_type": "ALL"}
        self.run_job(JobState.FAILED, hpc_settings=json.dumps(asked))
        settings = mail_settings(self.box, notify_emails={"data@lab.org"})
        with self.assertLogs(LOGGER, "WARNING") as logged:
            await self.tell(settings)
        self.assertEqual(["data@lab.org"], self.box.recipients)
        self.assertNotIn("Traceback", " ".join(logged.output))
        with self.later(hours=25), self.assertLogs(LOGGER, "ERROR") as logged:
            await self.tell(settings)
        self.assertIn("given up", logged.output[0])
        self.assertEqual(0, self.store.outbox.waiting())
        self.assertEqual(["data@lab.org"], self.box.recipients)

    @slow
    async def test_occasions_with_spaces_between_them_all_count(self) -> None:
        asked = {"mail_user": "anna@lab.org", "mail_type": "BEGIN, FAIL"}
        self.run_job(JobState.FAILED, hpc_settings=json.dumps(asked), name="a_1")
        await self.tell(mail_settings(self.box))
        subjects = sorted(str(letter["Subject"]) for letter in self.box.letters)
        self.assertEqual(["FAILED: a_1", "RUNNING: a_1"], subjects)

    @slow
    async def test_no_password_goes_to_a_server_whose_certificate_is_a_strangers(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        self.run_job(JobState.FAILED)
        with Mailbox(("svc", "right"), context) as box:
            settings = mail_settings(
                box,
                smtp_user="svc",
                smtp_password="right",
                smtp_security="starttls",
                notify_emails={"a@lab.org"},
            )
            with self.assertLogs(LOGGER, "WARNING") as logged:
                await self.tell(settings)
            self.assertEqual([], box.letters)
        self.assertIn("CERTIFICATE_VERIFY_FAILED", logged.output[0])
        self.assertEqual(1, self.store.outbox.waiting())

    @slow
    async def test_a_service_restarted_in_between_tells_all_the_same(self) -> None:
        self.run_job(JobState.FAILED)
        settings = mail_settings(self.box, notify_emails={"a@lab.org"})
        await Notifier(self.store, settings, ZoneInfo("UTC")).look()  # addressed, not sent
        self.assertEqual([], self.box.letters)
        task = asyncio.create_task(Notifier(self.store, settings, ZoneInfo("UTC")).run())
        while not self.box.letters:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.assertEqual(["a@lab.org"], self.box.recipients)

    @slow
    async def test_a_database_that_is_away_is_told_once_and_messages_go_out_afterwards(
        self,
    ) -> None:
        self.run_job(JobState.FAILED)
        settings = mail_settings(self.box, notify_emails={"a@lab.org"})
        take, looks = self.store.outbox.take, []

        def away(*details):
            looks.append(details)
            if len(looks) < 6:
                raise sqlite3.OperationalError("database is locked")
            return take(*details)

        with (
            mock.patch.object(module, "INTERVAL", 0.001),
            mock.patch.object(self.store.outbox, "take", away),
            self.assertLogs(LOGGER, "ERROR") as logged,
        ):
            task = asyncio.create_task(Notifier(self.store, settings, ZoneInfo("UTC")).run())
            async with asyncio.timeout(10):
                while not self.box.letters:
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        [line] = logged.output
        self.assertIn("database is locked", line)

    async def test_nobody_to_tell_leaves_nothing_behind(self) -> None:
        self.run_job()
        await self.tell(mail_settings(self.box))
        self.assertEqual((0, []), (self.store.outbox.waiting(), self.box.letters))


class Settings(unittest.TestCase):
    """What does not go together is said, all at once."""

    def test_what_is_missing_is_named(self) -> None:
        for values, words in (
            ({"smtp_host": "mail"}, "SMTP_FROM is needed too"),
            ({"notify_emails": "a@b.org"}, "SMTP_HOST is needed too"),
            ({"notify_emails": "nobody"}, '"nobody" is no e-mail address'),
            ({"notify_on": "FAIL,OFTEN"}, "OFTEN is unknown; known are BEGIN"),
            ({"notify_webhook_url": "hooks.example.org/s3cr3t"}, "NOTIFY_WEBHOOK_URL is no web"),
            ({"smtp_user": "a"}, "SMTP_USER and SMTP_PASSWORD are needed together"),
            ({"smtp_host": "m", "smtp_from": "a..b@c.org"}, '"a..b@c.org" is no e-mail address'),
            (
                {"smtp_user": "a", "smtp_password": "pw123ü", "smtp_security": "tls"},
                "letters that no SMTP login takes",
            ),
            (
                {"smtp_host": "m", "smtp_from": "a@b", "smtp_user": "a", "smtp_password": "pw123"},
                "would travel readable",
            ),
        ):
            with self.subTest(words), self.assertRaisesRegex(ValidationError, words) as caught:
                NotificationSettings(**values)
            self.assertNotIn("s3cr3t", str(caught.exception))
            self.assertNotIn("pw123", str(caught.exception))
