"""Messages by e-mail, over SMTP (RFC 5321)."""

import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from aind_data_transfer_service.notifications.channel import Refused, Unreachable
from aind_data_transfer_service.notifications.message import Message
from aind_data_transfer_service.settings.notifications import NotificationSettings

TIMEOUT = 20.0
"""Seconds to wait for any answer of the server."""


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
        host = self._settings.smtp_host
        try:
            with self._connect() as server:
                server.send_message(self._letter(message, address))
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            raise _by_code(host, code, words) from error
        except smtplib.SMTPResponseException as error:
            raise _by_code(host, error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise Refused(f"{host}: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise Unreachable(f"{host} does not take e-mails: {error}") from error

    def _connect(self) -> smtplib.SMTP:
        """Open a connection, private and logged in where that is wanted."""
        settings = self._settings
        context = ssl.create_default_context()
        if settings.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.smtp_host, settings.smtp_port, timeout=TIMEOUT, context=context
            )
        else:
            server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT)
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

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


def _by_code(host: str | None, code: int, words: bytes | str) -> Refused | Unreachable:
    """Tell by the code of an answer whether to try again: 4xx yes, 5xx no (RFC 5321, 4.2.1)."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    reason = f"{host} answered {code} {' '.join(text.split())}"
    return Unreachable(reason) if 400 <= code < 500 else Refused(reason)
