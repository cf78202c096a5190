"""Servers that misbehave: what is sent goes out once, no wait is for ever, no secret is shown."""

import io
import logging
import threading
import time
import unittest
from typing import BinaryIO
from unittest import mock

from aind_data_transfer_service.jobs.notification_events import Occasion
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.notifications import email
from aind_data_transfer_service.notifications.base import Refused, Unreachable
from aind_data_transfer_service.notifications.email import MailChannel
from aind_data_transfer_service.notifications.messages import Message
from aind_data_transfer_service.notifications.webhook import WebhookChannel, teams_body
from aind_data_transfer_service.settings.notifications import NotificationSettings
from tests.support import slow
from tests.support.hook import Hook
from tests.support.raw import RawServer, Talk

MESSAGE = Message(Occasion.FAIL, JobState.FAILED, "FAILED: a_1", "The job failed.")


class MailTest(unittest.TestCase):
    """SMTP servers."""

    def port_of(self, talk: Talk) -> int:
        """Start a server, and tell its port."""
        return self.enterContext(RawServer(talk)).port

    def channel(self, port: int, **values: str) -> MailChannel:
        """Make a channel to a server."""
        usual = {"smtp_host": "127.0.0.1", "smtp_from": "transfer@lab.org"}
        return MailChannel(NotificationSettings(smtp_port=port, **usual | values))

    def smtp(self, answers: dict[str, str]) -> Talk:
        """Speak SMTP, with these answers in place of the usual ones; letters are kept."""
        self.letters: list[bytes] = []

        def talk(stream: BinaryIO, server: RawServer) -> None:
            lines = io.BufferedReader(stream)  # type: ignore[type-var]
            stream.write(b"220 here\r\n")
            for line in lines:
                word = line[:4].decode().strip().upper()
                stream.write(
                    answers.get(word, "354 go on" if word == "DATA" else "250 ok").encode()
                )
                stream.write(b"\r\n")
                if word == "DATA":
                    self.letters.append(b"".join(iter(lines.readline, b".\r\n")))
                    stream.write(b"250 taken\r\n")
                if word == "QUIT":
                    return

        return talk

    @slow
    def test_a_server_that_takes_leave_oddly_has_the_letter_all_the_same(self) -> None:
        for farewell in ("421 too busy", "500 what?", "nonsense"):
            with self.subTest(farewell):
                self.channel(self.port_of(self.smtp({"QUIT": farewell}))).send(MESSAGE, "a@lab.org")
                self.assertEqual(1, len(self.letters))

    def test_what_is_wrong_with_the_settings_is_tried_again(self) -> None:
        answers = {"MAIL": "530 5.7.0 log in first"}
        with self.assertRaisesRegex(Unreachable, "answered 530 .* log in first; check SMTP_FROM"):
            self.channel(self.port_of(self.smtp(answers))).send(MESSAGE, "a@lab.org")
        with self.assertRaisesRegex(Unreachable, "STARTTLS"):
            port = self.port_of(self.smtp({}))
            self.channel(port, smtp_security="starttls").send(MESSAGE, "a@lab.org")

    @slow
    def test_what_is_wrong_with_the_recipient_is_not(self) -> None:
        for answers in ({"RCPT": "550 nobody"}, {"DATA": "554 no"}):
            with self.subTest(answers), self.assertRaises(Refused):
                self.channel(self.port_of(self.smtp(answers))).send(MESSAGE, "a@lab.org")

    def test_one_that_hangs_up_is_tried_again_later(self) -> None:
        def at_once(stream: BinaryIO, server: RawServer) -> None:
            return

        def nonsense(stream: BinaryIO, server: RawServer) -> None:
            stream.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        for talk in (at_once, nonsense):
            with self.subTest(talk.__name__), self.assertRaisesRegex(Unreachable, "127.0.0.1"):
                self.channel(self.port_of(talk)).send(MESSAGE, "a@lab.org")

    @slow
    def test_a_server_that_speaks_a_byte_at_a_time_is_given_up(self) -> None:
        def greeting(stream: BinaryIO, server: RawServer) -> None:
            stream.write(b"220 ")
            server.trickle(stream)

        def later(stream: BinaryIO, server: RawServer) -> None:
            stream.write(b"220 here\r\n")
            server.trickle(stream)

        for talk in (greeting, later):
            began = time.monotonic()
            with (
                self.subTest(talk.__name__),
                mock.patch.object(email, "DEADLINE", 0.2),
                self.assertRaisesRegex(Unreachable, "127.0.0.1 does not take e-mails"),
            ):
                self.channel(self.port_of(talk)).send(MESSAGE, "a@lab.org")
            self.assertLess(time.monotonic() - began, 5)


class WebhookTest(unittest.TestCase):
    """Web servers."""

    def test_an_answer_without_end_is_not_waited_for(self) -> None:
        def talk(stream: BinaryIO, server: RawServer) -> None:
            stream.read(100)
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            server.trickle(stream)

        port = self.enterContext(RawServer(talk)).port
        sent = threading.Thread(
            target=WebhookChannel(f"http://127.0.0.1:{port}/", "plain").send,
            args=(MESSAGE, ""),
            daemon=True,
        )
        sent.start()
        sent.join(5)
        self.assertFalse(sent.is_alive())

    def test_one_that_does_not_answer_is_tried_again_later(self) -> None:
        def cut(stream: BinaryIO, server: RawServer) -> None:
            stream.read(100)

        def nonsense(stream: BinaryIO, server: RawServer) -> None:
            stream.read(100)
            stream.write(b"SSH-2.0-OpenSSH_9.2\r\n")

        for talk in (cut, nonsense):
            with self.subTest(talk.__name__), RawServer(talk) as server:
                with self.assertRaises(Unreachable) as caught:
                    address = f"http://127.0.0.1:{server.port}/s3cr3t"
                    WebhookChannel(address, "plain").send(MESSAGE, "")
                self.assertNotRegex(str(caught.exception), "s3cr3t|\n")

    def test_a_wrong_token_is_told_without_the_address(self) -> None:
        with Hook() as hook, self.assertRaises((Refused, Unreachable)) as caught:
            hook.answers = [401]
            WebhookChannel(hook.url, "plain").send(MESSAGE, "")
        self.assertIn("401", str(caught.exception))
        self.assertNotIn("s3cr3t", str(caught.exception))

    def test_the_address_is_not_logged_whatever_else_is(self) -> None:
        heard = io.StringIO()
        handler, root = logging.StreamHandler(heard), logging.getLogger()
        level = root.level
        self.addCleanup(root.setLevel, level)
        self.addCleanup(root.removeHandler, handler)
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        with Hook() as hook:
            WebhookChannel(hook.url, "plain").send(MESSAGE, "")
        self.assertEqual(1, len(hook.bodies))
        self.assertNotIn("s3cr3t", heard.getvalue())

    def test_a_name_makes_no_link_in_teams(self) -> None:
        facts = (("Job", "[your payslip](http://evil.org)"), ("Asset", "s3://b/behavior_1_2"))
        message = Message(Occasion.FAIL, JobState.FAILED, "FAILED: [x](http://y)", "…", facts)
        title, _, listed = teams_body(message)["attachments"][0]["content"]["body"]
        self.assertEqual("FAILED: \\[x\\](http://y)", title["text"])
        self.assertEqual(
            ["\\[your payslip\\](http://evil.org)", "s3://b/behavior_1_2"],
            [fact["value"] for fact in listed["facts"]],
        )
