"""Whom the service tells how jobs go, and by what way."""

import re
from email.headerregistry import Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from aind_data_transfer_service.plugins import NOTIFICATION_CHANNELS
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.plugin_settings import OfPlugins, settings_of
from aind_data_transfer_service.settings.types import HostName, Names, WebAddress

_ADDRESS = re.compile(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+")
_OCCASIONS = ("BEGIN", "END", "FAIL", "REQUEUE", "ALL")


def _addresses(value: frozenset[str]) -> frozenset[str]:
    """Refuse what is no e-mail address."""
    for address in sorted(value):
        if not _ADDRESS.fullmatch(address):
            raise ValueError(f'"{address}" is no e-mail address')
    return value


def _address(value: str) -> str:
    """Refuse what is no e-mail address."""
    [address] = _addresses(frozenset({value}))
    try:
        Address(addr_spec=address)  # as every e-mail will have it
    except ValueError as error:
        raise ValueError(f'"{address}" is no e-mail address: {error}') from error
    return address


def _occasions(value: frozenset[str]) -> frozenset[str]:
    """Refuse occasions that there are not."""
    found = frozenset(word.upper() for word in value)
    if unknown := sorted(found - set(_OCCASIONS)):
        raise ValueError(f"{', '.join(unknown)} is unknown; known are {', '.join(_OCCASIONS)}")
    return found


_CHANNELS = OfPlugins(NOTIFICATION_CHANNELS)
_OWN_CHANNELS = frozenset({"mailto", "webhook"})
"""The channels whose settings are here."""


class NotificationSettings(EnvironmentSettings):
    """What the web service reads about telling people."""

    service_url: WebAddress | None = None
    """Where people open the service's pages; messages link there."""
    smtp_host: HostName | None = None
    """The server that takes e-mails; without one, the service sends none."""
    smtp_port: int = Field(default=25, gt=0, lt=65536)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    """How the connection to it is kept private."""
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: Annotated[str, AfterValidator(_address)] | None = None
    """Whom the e-mails come from."""
    notify_emails: Annotated[Names, AfterValidator(_addresses)] = frozenset()
    """Who gets e-mails about all jobs, separated by commas."""
    notify_on: Annotated[Names, AfterValidator(_occasions)] = frozenset({"FAIL"})
    """On what occasions these, the webhook, and the channels of plug-ins are told."""
    notify_webhook_url: SecretStr | None = None
    """An address that is told too; it is kept secret, since whoever knows it can write there."""
    notify_webhook_kind: Literal["plain", "slack", "teams"] = "plain"
    """Whose form the webhook takes."""
    channels: Annotated[EnvironmentSettings, _CHANNELS] = Field(default_factory=_CHANNELS)
    """The settings of each further channel that is installed and has any."""

    @property
    def further_channels(self) -> tuple[str, ...]:
        """The channels of plug-ins that are configured, by name: they hear of all jobs."""
        return tuple(
            name
            for name in sorted(NOTIFICATION_CHANNELS.plugins.keys() - _OWN_CHANNELS)
            if (own := settings_of(self.channels, name)) is None or own.is_set
        )

    @property
    def is_on(self) -> bool:
        """Whether anybody can be told at all."""
        return bool(self.smtp_host or self.notify_webhook_url or self.further_channels)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Name what is missing, or does not go together."""
        problems, password = [], self.smtp_password
        if self.smtp_host and not self.smtp_from:
            problems.append("SMTP_HOST is set, so SMTP_FROM is needed too")
        if self.notify_emails and not self.smtp_host:
            problems.append("NOTIFY_EMAILS is set, so SMTP_HOST is needed too")
        if bool(self.smtp_user) != bool(self.smtp_password):
            problems.append("SMTP_USER and SMTP_PASSWORD are needed together")
        if self.smtp_password and self.smtp_security == "none":
            problems.append(
                "SMTP_PASSWORD would travel readable; set SMTP_SECURITY to starttls or tls"
            )
        login = (self.smtp_user or "") + (password.get_secret_value() if password else "")
        if not login.isascii():
            problems.append("SMTP_USER and SMTP_PASSWORD have letters that no SMTP login takes")
        url = self.notify_webhook_url and self.notify_webhook_url.get_secret_value()
        if url and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", url):
            problems.append("NOTIFY_WEBHOOK_URL is no web address")
        if problems:
            raise ValueError("; ".join(problems))
        return self
