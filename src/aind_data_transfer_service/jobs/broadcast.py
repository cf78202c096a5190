"""Changes of jobs, and news of other kinds, passed on to whoever listens."""

import asyncio
import weakref
from collections.abc import Iterable

from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import ACTIVE, JobState

LIST_CHANGED = "list"
"""The news that a job was added or changed its state: lists and counts are out of date."""
BACKLOG = 5000
"""How many changed jobs a listener may leave waiting before it is let go."""


class Subscription:
    """What one listener has yet to hear: of each job, the latest; other news as a word each.

    Listening begins when the subscription is made, not when it is first asked. It ends when the
    feed closes, or when the listener is so far behind that it had better read everything anew.
    With `follows_list`, `LIST_CHANGED` is news as well.
    """

    def __init__(self, backlog: int, follows_list: bool = False):
        self.follows_list = follows_list
        self._backlog = backlog
        self._waiting: dict[str, Job] = {}
        self._words: dict[str, None] = {}
        self._news = asyncio.Event()
        self._over = False

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Job | str:
        while not self._waiting and not self._words:
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        for word in list(self._words):
            del self._words[word]
            return word
        job_id = next(iter(self._waiting))
        return self._waiting.pop(job_id)

    def offer(self, job: Job) -> None:
        """Have a changed job heard, in place of an earlier form of it."""
        if self._over:
            return
        self._waiting[job.id] = job
        if len(self._waiting) > self._backlog:
            self._waiting.clear()
            self.close()
        self._news.set()

    def mention(self, word: str) -> None:
        """Have a word heard, once however often it is said before that."""
        if not self._over:
            self._words[word] = None
            self._news.set()

    def close(self) -> None:
        """End the subscription; what waits is still heard."""
        self._over = True
        self._news.set()


class Feed:
    """Tells all listeners of each change. To be used from the event loop only."""

    def __init__(self, backlog: int = BACKLOG):
        self._backlog = backlog
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._active: dict[str, JobState] = {}
        """The last published state of each active job."""

    def __len__(self) -> int:
        """Tell how many listen."""
        return len(self._subscriptions)

    def subscribe(self, follows_list: bool = False) -> Subscription:
        """Listen from now on; forgotten when nobody holds the subscription any more."""
        subscription = Subscription(self._backlog, follows_list)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription at once, even if it is still in use."""
        self._subscriptions.discard(subscription)

    def publish(self, jobs: Iterable[Job]) -> None:
        """Send changed jobs to all listeners, and `LIST_CHANGED` if one is in another state."""
        listeners = list(self._subscriptions)
        changed = False
        for job in jobs:
            changed |= self._active.pop(job.id, None) is not job.state
            if job.state in ACTIVE:
                self._active[job.id] = job.state
            for listener in listeners:
                listener.offer(job)
        for listener in listeners if changed else ():
            if listener.follows_list:
                listener.mention(LIST_CHANGED)

    def mention(self, word: str) -> None:
        """Tell of something else that is new."""
        for listener in list(self._subscriptions):
            listener.mention(word)

    def close(self) -> None:
        """Let all listeners go."""
        for listener in list(self._subscriptions):
            listener.close()
