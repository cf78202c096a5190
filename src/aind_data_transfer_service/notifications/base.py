"""What a way of telling people is, and how it fails."""

from dataclasses import dataclass
from typing import Any, Protocol

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.notifications.messages import Message
from aind_data_transfer_service.settings.notifications import NotificationSettings


class Refused(TransferServiceError):
    """A message was refused, and would be refused again."""


class Unreachable(TransferServiceError):
    """A message could not be delivered now; it may be later."""


@dataclass(frozen=True)
class ChannelContext:
    """What a channel is made with."""

    notifications: NotificationSettings
    """What the service knows about messages."""
    settings: Any = None
    """The channel's own settings, of the class that it declares."""


class Channel(Protocol):
    """A way of telling people. Called from threads."""

    def send(self, message: Message, address: str) -> None:
        """Deliver a message, or raise `Refused` or `Unreachable`."""
        ...
