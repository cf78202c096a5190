"""Which channels are configured, of those that are installed."""

import logging

from aind_data_transfer_service.notifications.base import Channel, ChannelContext
from aind_data_transfer_service.plugins import NOTIFICATION_CHANNELS
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.plugin_settings import settings_of

logger = logging.getLogger(__name__)


def make_channels(settings: NotificationSettings) -> dict[str, Channel]:
    """Make the configured channels, by the beginning of their addresses, which is their name.

    Parameters
    ----------
    settings : NotificationSettings
        What the administrator chose.
    """
    channels: dict[str, Channel] = {}
    for name, plugin in NOTIFICATION_CHANNELS.plugins.items():
        own = settings_of(settings.channels, name)
        if own is not None and not own.is_set:
            continue
        try:
            channel = plugin.create(ChannelContext(settings, own))
        except Exception as error:  # it may be the code of others
            logger.error("the notification channel %s cannot be opened: %s", name, error)
            continue
        if channel is not None:
            channels[name] = channel
    return channels
