"""The declarations of the channels `mailto` and `webhook`."""

from aind_data_transfer_service.notifications.base import Channel, ChannelContext
from aind_data_transfer_service.notifications.email import MailChannel
from aind_data_transfer_service.notifications.webhook import WebhookChannel


class Email:
    """E-mail through an SMTP server, if one is set."""

    name, label = "mailto", "e-mail"
    settings = None

    @classmethod
    def create(cls, context: ChannelContext) -> Channel | None:
        """Make the channel."""
        known = context.notifications
        return MailChannel(known) if known.smtp_host else None


class Webhook:
    """An address on the web, if one is set."""

    name, label = "webhook", "webhook"
    settings = None

    @classmethod
    def create(cls, context: ChannelContext) -> Channel | None:
        """Make the channel."""
        known = context.notifications
        if not known.notify_webhook_url:
            return None
        url = known.notify_webhook_url.get_secret_value()
        return WebhookChannel(url, known.notify_webhook_kind)
