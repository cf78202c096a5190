"""Messages by webhook: to Slack, to Teams, or as plain JSON to anything else.

Slack takes `{"text": …}` with blocks (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks);
Teams takes an Adaptive Card in a message (https://learn.microsoft.com/power-automate/teams/teams-flow-create).
"""  # noqa: E501

import logging
import re
from typing import Any

import httpx

from aind_data_transfer_service.notifications.base import Refused, Unreachable
from aind_data_transfer_service.notifications.messages import Message

TIMEOUT = 20.0
_LATER = frozenset({408, 425, 429})


class WebhookChannel:
    """Sends messages to one address on the web.

    Parameters
    ----------
    url : str
        The address. It is a secret, and no error names it.
    kind : str
        `plain`, `slack` or `teams`.
    """

    def __init__(self, url: str, kind: str):
        self._url = url
        self._body = _BODIES[kind]

    def send(self, message: Message, address: str) -> None:
        """Send one message.

        Raises
        ------
        Refused
            Where the other side will not have it, now or later.
        Unreachable
            Where it may fare better later.
        """
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, which is this one
        try:
            body = self._body(message)
            with httpx.stream("POST", self._url, json=body, timeout=TIMEOUT) as answer:
                pass  # what it says besides its code may be long, or never end
        except httpx.HTTPError as error:
            raise Unreachable(f"the webhook does not answer ({type(error).__name__})") from None
        if answer.is_success:
            return
        reason = f"the webhook answered {answer.status_code}"
        if answer.status_code in _LATER or answer.status_code >= 500:
            raise Unreachable(reason)
        raise Refused(reason)


def plain_body(message: Message) -> dict[str, Any]:
    """Write a message as an object whose fields anything can read."""
    return {
        "occasion": message.occasion.value,
        "state": message.state.value,
        "subject": message.subject,
        "text": message.text,
        "facts": dict(message.facts),
        "link": message.link,
    }


def slack_body(message: Message) -> dict[str, Any]:
    """Write a message as Slack takes it, what people wrote being shown as it is."""
    facts = "\n".join(f"*{name}:* {_for_slack(value)}" for name, value in message.facts)
    text = f"*{_for_slack(message.subject)}*\n{message.headline}\n{facts}"
    if message.link:
        text += f"\n<{message.link}|Open the job's page>"
    section = {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, 3000)}}
    return {"text": _for_slack(message.subject), "blocks": [section]}


def teams_body(message: Message) -> dict[str, Any]:
    """Write a message as Teams takes it: an Adaptive Card."""
    headline, subject = _for_teams(message.headline), _for_teams(message.subject)
    colour = "Attention" if message.is_bad else "Default"
    title = {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": True}
    card: dict[str, Any] = {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.4",
        "body": [
            {**title, "text": subject, "color": colour},
            {"type": "TextBlock", "text": headline, "wrap": True},
            {
                "type": "FactSet",
                "facts": [
                    {"title": name, "value": _for_teams(value)} for name, value in message.facts
                ],
            },
        ],
    }
    if message.link:
        action = {"type": "Action.OpenUrl", "title": "Open the job's page", "url": message.link}
        card["actions"] = [action]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


_BODIES = {"plain": plain_body, "slack": slack_body, "teams": teams_body}


def _for_slack(text: str) -> str:
    """Escape what Slack would read as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _for_teams(text: str) -> str:
    """Escape what Teams would read as Markdown, such as a link that is called otherwise."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", text)


def _cut(text: str, most: int) -> str:
    """Keep a text within what the other side takes."""
    return text if len(text) <= most else text[: most - 1] + "…"
