"""Emptying the outbox: who is told, by what way, and what if that fails."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from zoneinfo import ZoneInfo

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import LeaseLostError
from aind_data_transfer_service.executors.base import Guard, unguarded
from aind_data_transfer_service.jobs.models import Job, utc_now
from aind_data_transfer_service.jobs.notification_events import Occasion, is_wanted, occasion_of
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.store.outbox import GIVE_UP, Notice
from aind_data_transfer_service.notifications.base import Channel, Refused, Unreachable
from aind_data_transfer_service.notifications.messages import (
    NAMED_IN_DIGEST,
    Message,
    compose,
    compose_digest,
)
from aind_data_transfer_service.notifications.registry import make_channels
from aind_data_transfer_service.settings.notifications import NotificationSettings

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the outbox."""
_LEASE = timedelta(minutes=5)
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=1)
_AT_ONCE = 4


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
        """Look at regular intervals; an error of one look is logged once and ends nothing.

        Once it is cancelled, no further message is sent.
        """
        try:
            await self._run()
        finally:
            self._threads.close()

    async def _run(self) -> None:
        """Make one look after another."""
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
        outbox = self._store.outbox
        notices = await self._store.in_thread(outbox.take, _LEASE)
        groups = await self._store.in_thread(outbox.gather, notices, _LEASE)
        await asyncio.gather(*(self._handle(group) for group in groups))
        return len(notices)

    async def _handle(self, notices: Sequence[Notice]) -> None:
        """Bring notices that belong together one step on."""
        async with self._turns:
            await asyncio.wrap_future(self._threads.submit(self._step, notices))

    def _step(self, notices: Sequence[Notice]) -> None:
        """Address a notice, or deliver some; what fails oddly stops no other, and not for ever."""
        try:
            if notices[0].address:
                self._tell(notices)
            else:
                self._address(notices[0])
        except LeaseLostError:  # another process sends it
            return
        except Exception as error:
            logger.debug("this was not foreseen", exc_info=True)
            words = f"a message failed in a way that was not foreseen ({type(error).__name__})"
            self._try_later(notices, words)

    def _address(self, notice: Notice) -> None:
        """Decide who is told."""
        job = self._store.get(notice.job_id)
        self._store.outbox.address(notice, addresses(job, notice, self._settings))

    def _tell(self, notices: Sequence[Notice]) -> None:
        """Deliver one message; try again later where that may help."""
        way, _, address = notices[0].address.partition(":")
        try:
            channel = self._channels.get(way)
            if channel is None:
                raise Refused(f"the settings name no {way} any more")
            if (occasion := notices[0].occasion) is not None:
                message = self._message(notices, occasion)
                self._guard()
                channel.send(message, address)
        except Unreachable as error:
            self._try_later(notices, str(error))
            return
        except Refused as error:
            logger.error("notifications: %s", error, extra={"job_id": notices[0].job_id})
        self._store.outbox.done(*notices)

    def _message(self, notices: Sequence[Notice], occasion: Occasion) -> Message:
        """Compose a message about one job, or about several jobs of one request."""
        url, first = self._settings.service_url, notices[0]
        if len(notices) == 1:
            job = self._store.get(first.job_id)
            return compose(job, occasion, first.after, first.reason, url, self._zone)
        named = {one.job_id: one for one in notices[:NAMED_IN_DIGEST]}
        jobs = self._store.get_many(list(named))
        told = [(job, named[job.id].after, named[job.id].reason) for job in jobs]
        counts = Counter(one.after for one in notices)
        return compose_digest(told, counts, occasion, url, self._zone)

    def _try_later(self, notices: Sequence[Notice], reason: str) -> None:
        """Put notices off, which is told once; give up those that have been tried for long."""
        fields = {"job_id": notices[0].job_id}
        old = [one for one in notices if utc_now() - one.created_at >= GIVE_UP]
        if old:
            logger.error("notifications: given up: %s", reason, extra=fields)
            self._store.outbox.done(*old)
        tries = min(one.tries for one in notices)
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(tries, 10))
        self._store.outbox.postpone(wait, *(one for one in notices if one not in old))
        if not tries and len(old) < len(notices):
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
        found.update((f"{channel}:", None) for channel in settings.further_channels)
    return list(found)
