"""Emptying the outbox: who is told, by what way, and what if that fails."""

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from zoneinfo import ZoneInfo

from aind_data_transfer_service.beside import Pool
from aind_data_transfer_service.errors import LeaseLostError
from aind_data_transfer_service.executors.base import Guard, unguarded
from aind_data_transfer_service.jobs.heartbeat import Heartbeat
from aind_data_transfer_service.jobs.outbox import Notice
from aind_data_transfer_service.jobs.record import Job, utc_now
from aind_data_transfer_service.jobs.store import JobStore
from aind_data_transfer_service.notifications.channel import Channel, Refused, Unreachable
from aind_data_transfer_service.notifications.mail import MailChannel
from aind_data_transfer_service.notifications.message import compose
from aind_data_transfer_service.notifications.occasion import is_wanted, occasion_of
from aind_data_transfer_service.notifications.webhook import WebhookChannel
from aind_data_transfer_service.settings.notifications import NotificationSettings

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the outbox."""
GIVE_UP = timedelta(days=1)
"""How long a message is tried."""
_LEASE = timedelta(minutes=5)
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=1)
_AT_ONCE = 4


def make_channels(settings: NotificationSettings) -> dict[str, Channel]:
    """Make the ways of telling that the settings name, by the beginning of their addresses."""
    channels: dict[str, Channel] = {}
    if settings.smtp_host:
        channels["mailto"] = MailChannel(settings)
    if settings.notify_webhook_url:
        url = settings.notify_webhook_url.get_secret_value()
        channels["webhook"] = WebhookChannel(url, settings.notify_webhook_kind)
    return channels


class Notifier:
    """Tells people of what the outbox holds.

    Parameters
    ----------
    store : JobStore
        Whose outbox it is.
    settings : NotificationSettings
        Whom to tell.
    zone : ZoneInfo
        The lab's, in which times are written.
    channels : Mapping[str, Channel] | None
        The ways; by default those that the settings name.
    guard : Callable
        Raises an error if this process may not send messages.
    """

    def __init__(
        self,
        store: JobStore,
        settings: NotificationSettings,
        zone: ZoneInfo,
        channels: Mapping[str, Channel] | None = None,
        guard: Guard = unguarded,
    ):
        self._store, self._settings, self._zone = store, settings, zone
        self._channels = make_channels(settings) if channels is None else channels
        self._guard = guard
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._threads = Pool(_AT_ONCE, "notifications")
        self.heartbeat = Heartbeat(INTERVAL, _LEASE.total_seconds())

    async def run(self) -> None:
        """Look again and again, whatever goes wrong with one look; it is told once."""
        trouble = ""
        while True:
            try:
                while await self.look():
                    self.heartbeat.beat()
                trouble = ""
            except Exception as error:  # the next look may fare better
                if repr(error) != trouble:
                    logger.error("notifications: %s", error, exc_info=error)
                trouble = repr(error)
            self.heartbeat.beat()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> int:
        """Tell of everything that is due, and say how many notices that were."""
        notices = await self._store.in_thread(self._store.outbox.take, _LEASE)
        await asyncio.gather(*(self._handle(notice) for notice in notices))
        return len(notices)

    async def _handle(self, notice: Notice) -> None:
        """Bring one notice one step on."""
        async with self._turns:
            await asyncio.wrap_future(self._threads.submit(self._step, notice))

    def _step(self, notice: Notice) -> None:
        """Address a notice, or deliver it; what fails oddly stops no other, and not for ever."""
        try:
            if notice.address:
                self._tell(notice)
            else:
                self._address(notice)
        except LeaseLostError:  # another process sends it
            return
        except Exception as error:
            logger.debug("this was not foreseen", exc_info=True)
            words = f"a message failed in a way that was not foreseen ({type(error).__name__})"
            self._try_later(notice, words)

    def _address(self, notice: Notice) -> None:
        """Decide who is told."""
        job = self._store.get(notice.job_id)
        self._store.outbox.address(notice, addresses(job, notice, self._settings))

    def _tell(self, notice: Notice) -> None:
        """Deliver one message; try again later where that may help."""
        way, _, address = notice.address.partition(":")
        fields = {"job_id": notice.job_id}
        try:
            channel = self._channels.get(way)
            if channel is None:
                raise Refused(f"the settings name no {way} any more")
            job = self._store.get(notice.job_id)
            occasion = occasion_of(notice.before, notice.after)
            if occasion is not None:
                self._guard()
                url = self._settings.service_url
                channel.send(
                    compose(job, occasion, notice.after, notice.reason, url, self._zone), address
                )
        except Unreachable as error:
            self._try_later(notice, str(error))
            return
        except Refused as error:
            logger.error("notifications: %s", error, extra=fields)
        self._store.outbox.done(notice)

    def _try_later(self, notice: Notice, reason: str) -> None:
        """Put a notice off, which is told once; give it up where it has been tried for long."""
        fields = {"job_id": notice.job_id}
        if utc_now() - notice.created_at >= GIVE_UP:
            logger.error("notifications: given up: %s", reason, extra=fields)
            self._store.outbox.done(notice)
            return
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(notice.tries, 10))
        self._store.outbox.postpone(notice, wait)
        if not notice.tries:
            logger.warning("notifications: %s; tried again", reason, extra=fields)


def addresses(job: Job, notice: Notice, settings: NotificationSettings) -> list[str]:
    """List who is to be told: whom the job names, then whom the settings name; each once.

    Parameters
    ----------
    job : Job
        The job, whole.
    notice : Notice
        What happened to it.
    settings : NotificationSettings
        What the lab wants.
    """
    occasion = occasion_of(notice.before, notice.after)
    if occasion is None:
        return []
    found: dict[str, None] = {}
    if settings.smtp_host:
        asked = json.loads(job.hpc_settings or "{}")
        kinds = asked.get("mail_type") or []
        kinds = kinds.split(",") if isinstance(kinds, str) else kinds
        kinds = [str(kind).strip() for kind in kinds]
        user = asked.get("mail_user")
        if user and "@" in user and is_wanted(occasion, kinds):
            found[f"mailto:{user}"] = None
    if is_wanted(occasion, settings.notify_on):
        found.update((f"mailto:{address}", None) for address in sorted(settings.notify_emails))
        if settings.notify_webhook_url:
            found["webhook:"] = None
    return list(found)
