"""Messages by e-mail, over SMTP (RFC 5321)."""

import contextlib
import smtplib
import socket
import ssl
import threading
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from aind_data_transfer_service.notifications.base import Refused, Unreachable
from aind_data_transfer_service.notifications.messages import Message
from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.settings.notifications import NotificationSettings

TIMEOUT = 20.0
"""Seconds to wait for any answer of the server."""
DEADLINE = 60.0
"""Seconds for one e-mail in all: a server that speaks a byte at a time ends no wait for a byte."""
_SHOWN = 300


class MailChannel:
    """Sends e-mails.

    Parameters
    ----------
    settings : NotificationSettings
        Which server takes them, and from whom they come.
    """

    def __init__(self, settings: NotificationSettings):
        self._settings = settings

    def send(self, message: Message, address: str) -> None:
        """Send one e-mail.

        Raises
        ------
        Refused
            Where the server will not have it, now or later.
        Unreachable
            Where it may fare better later.
        """
        server = self._connect()
        try:
            self._deliver(server, self._letter(message, address))
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()  # however it takes leave, it has the letter
        finally:
            server.close()

    def _connect(self) -> smtplib.SMTP:
        """Open a connection, private and logged in where that is wanted.

        What goes wrong here is nothing that this e-mail has done: it waits until that is mended.
        """
        settings = self._settings
        server: smtplib.SMTP | None = None
        host, password = settings.smtp_host or "", settings.smtp_password
        context = ssl.create_default_context()
        try:
            if settings.smtp_security == "tls":
                server = _Private(host, settings.smtp_port, timeout=TIMEOUT, context=context)
            else:
                server = _Bounded(host, settings.smtp_port, timeout=TIMEOUT)
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_user and password:
                server.login(settings.smtp_user, password.get_secret_value())
            return server
        except BaseException as error:
            if server is not None:
                server.close()
            if isinstance(error, smtplib.SMTPAuthenticationError):
                reason = _answer(host, error.smtp_code, error.smtp_error)
                raise Unreachable(f"{reason}; check SMTP_USER and SMTP_PASSWORD") from error
            if isinstance(error, smtplib.SMTPResponseException):
                raise Unreachable(_answer(host, error.smtp_code, error.smtp_error)) from error
            if isinstance(error, smtplib.SMTPException | OSError):
                raise Unreachable(f"{host} does not take e-mails: {error}") from error
            raise

    def _deliver(self, server: smtplib.SMTP, letter: EmailMessage) -> None:
        """Hand the letter over."""
        host = self._settings.smtp_host
        try:
            server.send_message(letter)
        except smtplib.SMTPSenderRefused as error:  # as are all e-mails, until that is mended
            reason = _answer(host, error.smtp_code, error.smtp_error)
            raise Unreachable(f"{reason}; check SMTP_FROM and SMTP_USER") from error
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            raise _by_code(host, code, words) from error
        except smtplib.SMTPResponseException as error:
            raise _by_code(host, error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise Refused(f"{host}: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise Unreachable(f"{host} does not take e-mails: {error}") from error

    def _letter(self, message: Message, address: str) -> EmailMessage:
        """Write the e-mail."""
        sender = self._settings.smtp_from or ""
        letter = EmailMessage()
        letter["From"] = Address("Data transfer service", addr_spec=sender)
        letter["To"] = address
        letter["Subject"] = message.subject
        letter["Date"] = formatdate(localtime=True)
        letter["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
        letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        letter.set_content(message.text)
        return letter


def _answer(host: str | None, code: int, words: bytes | str) -> str:
    """Write down what a server answered."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{host} answered {code} {on_a_line(text, _SHOWN)}"


def _by_code(host: str | None, code: int, words: bytes | str) -> Refused | Unreachable:
    """Tell by the code of an answer whether to try again: 4xx yes, 5xx no (RFC 5321, 4.2.1)."""
    reason = _answer(host, code, words)
    return Unreachable(reason) if 400 <= code < 500 else Refused(reason)


class _Bounded(smtplib.SMTP):
    """A connection that is cut when the time for one e-mail is over."""

    _timer: threading.Timer | None = None

    def connect(self, *args: Any, **details: Any) -> tuple[int, bytes]:
        """Connect, and have the time run."""
        self._timer = threading.Timer(DEADLINE, self._cut)
        self._timer.daemon = True
        self._timer.start()
        try:
            return super().connect(*args, **details)
        except BaseException:
            self._timer.cancel()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _cut(self) -> None:
        """End whatever the other thread waits for."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Private(_Bounded, smtplib.SMTP_SSL):
    """A connection over TLS from its beginning."""
