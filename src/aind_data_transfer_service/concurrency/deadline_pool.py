"""Asking many questions at once, and waiting no longer than there is patience for.

A question to a shared drive or a remote service may never be answered. So these threads are
daemons, which nobody waits for at exit, and few: when all of them hang, further questions stay
unanswered, and no more threads are made.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from aind_data_transfer_service.concurrency.daemon_thread import Pool

Q = TypeVar("Q")
A = TypeVar("A")
_RAMP_SECONDS = 0.05


class Workers:
    """Threads for questions of one kind.

    Parameters
    ----------
    name : str
        What the threads are called.
    count : int
        How many questions are open at once.
    """

    def __init__(self, name: str, count: int):
        self._count = count
        self._pool = Pool(count, name, in_caller=False)

    def ask(
        self, question: Callable[[Q], A], subjects: Iterable[Q], seconds: float
    ) -> dict[Q, A | Exception]:
        """Ask about every subject; what has no answer in time is not in the result.

        One thread begins. Quick answers are all its own, as several would only be in each other's
        way; where answers take time, more join.
        """
        batch = _Batch(question, deque(subjects))
        deadline = time.monotonic() + seconds
        for _ in range(self._count):
            if batch.is_taken():
                break
            submitted = self._pool.submit(batch.work)
            submitted.add_done_callback(batch.give_up_if_dropped)
            batch.done.wait(min(_RAMP_SECONDS, max(0.0, deadline - time.monotonic())))
        batch.done.wait(max(0.0, deadline - time.monotonic()))
        return batch.close()

    def close(self) -> None:
        """Let the threads end."""
        self._pool.close()


class _Batch(Generic[Q, A]):
    """Questions that are asked together."""

    def __init__(self, question: Callable[[Q], A], subjects: deque[Q]):
        self._question = question
        self._subjects = subjects
        self._answers: dict[Q, A | Exception] = {}
        self._open = len(subjects)
        self._lock = threading.Lock()
        self._closed = False
        self.done = threading.Event()
        if not subjects:
            self.done.set()

    def is_taken(self) -> bool:
        """Tell whether there is nothing left for another thread to do."""
        return not self._subjects

    def work(self) -> None:
        """Ask about one subject after another."""
        while not self._closed:
            try:
                subject = self._subjects.popleft()
            except IndexError:
                return
            try:
                answer: A | Exception = self._question(subject)
            except Exception as error:  # an answer as well: whoever asked judges it
                answer = error
            with self._lock:
                self._answers[subject] = answer
                self._open -= 1
                if not self._open:
                    self.done.set()

    def give_up_if_dropped(self, work: Future[Any]) -> None:
        """Wait no longer where no thread will do the work."""
        if work.cancelled():
            self.done.set()

    def close(self) -> dict[Q, A | Exception]:
        """Ask no more, and give what is answered."""
        self._closed = True
        with self._lock:
            return dict(self._answers)
