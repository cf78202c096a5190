"""An SMTP server on loopback that keeps what it is sent, and refuses what it is told to."""

import ssl
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class _AnyPort(Controller):
    """A server that listens wherever there is room."""

    def _trigger_server(self) -> None:
        """Find out where that is before the first connection is tried."""
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailbox:
    """Takes e-mails.

    Parameters
    ----------
    login : tuple of str | None
        The name and password without which nothing is taken.
    certificate : ssl.SSLContext | None
        Ask for STARTTLS first, with this.
    """

    def __init__(
        self, login: tuple[str, str] | None = None, certificate: ssl.SSLContext | None = None
    ):
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers: dict[str, list[str]] = {}
        """By recipient, what to say instead of taking a letter, one after the other."""
        self._login = login
        options: dict[str, Any] = {}
        if login:
            options = {"auth_required": True, "authenticator": self._authenticate}
        if certificate:
            options |= {"tls_context": certificate, "require_starttls": True}
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0, **options)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._controller.port

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:
        """Take a recipient, or not."""
        if self.answers.get(address):
            return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        """Take a letter."""
        self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients += envelope.rcpt_tos
        return "250 taken"

    def _authenticate(self, server, session, envelope, mechanism, data) -> AuthResult:
        """Let in whoever knows the password."""
        right = isinstance(data, LoginPassword) and self._login == (
            data.login.decode(),
            data.password.decode(),
        )
        return AuthResult(success=right, handled=right)
