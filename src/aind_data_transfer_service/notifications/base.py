"""What a way of telling people is, and how it fails."""

from typing import Protocol

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.notifications.messages import Message


class Refused(TransferServiceError):
    """A message was refused, and would be refused again."""


class Unreachable(TransferServiceError):
    """A message could not be delivered now; it may be later."""


class Channel(Protocol):
    """A way of telling people. Called from threads."""

    def send(self, message: Message, address: str) -> None:
        """Deliver a message, or raise `Refused` or `Unreachable`."""
        ...
