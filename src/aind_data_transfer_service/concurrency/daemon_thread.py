"""Background threads that the end of the program does not wait for.

The threads of `concurrent.futures` have to end before the process does, and they may wait for a
drive or a server that nobody needs an answer from any more. Where the system refuses another thread
(`ulimit -u`, the pids limit of a container), the work is done by the threads that there are: in the
end by the caller.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

NO_THREAD = (
    "the system refuses to start another thread; raise the limit on processes (ulimit -u, or the "
    "pids limit of the container or of the Slurm job)"
)


def start_thread(work: Callable[[], Any], name: str) -> bool:
    """Start a daemon thread, and return whether the system allowed it.

    Parameters
    ----------
    work : Callable
        What the thread runs.
    name : str
        What the thread is called.
    """
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:  # "can't start new thread"
        return False
    return True


def beside(work: Callable[[], T], name: str) -> "Future[T]":
    """Run something in a background thread; at once, in this one, if no thread can be started.

    Where it runs in this thread, what is no `Exception`, such as the end of the job by a signal, is
    raised at once.

    Parameters
    ----------
    work : Callable
        What is done; an error of it is raised where the answer is asked for.
    name : str
        What the thread is called.
    """
    answer: Future[T] = Future()

    if not start_thread(partial(_settle, answer, work), name):
        _settle(answer, work)
        _raise_interrupt(answer)
    return answer


def _settle(answer: Future[Any], work: Callable[[], Any]) -> None:
    """Do something, and keep its result or its error for who looks at the answer."""
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)


def _raise_interrupt(answer: Future[Any]) -> None:
    """Raise what interrupted this thread in some work, and was no error of the work."""
    error = answer.exception()
    if error is not None and not isinstance(error, Exception):
        raise error


class Pool:
    """A bounded number of background threads that share a queue of work.

    Leaving it as a context manager drops the work that has not begun, and waits for nothing.

    Parameters
    ----------
    size : int
        How many threads there are at most.
    name : str
        What the threads are called.
    in_caller : bool
        Whether who submits work does it where no thread can be started. Else it is dropped.
    """

    def __init__(self, size: int, name: str, in_caller: bool = True):
        self._size, self._name, self._in_caller = size, name, in_caller
        self._changed = threading.Condition()
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = self._idle = self._unfinished = 0
        self._closed = False

    def submit(self, work: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Queue a call, and start a thread for it if none is idle and there may be more."""
        answer: Future[T] = Future()
        with self._changed:
            self._queue.append((answer, partial(work, *arguments)))
            self._unfinished += 1
            self._changed.notify()
            if self._idle >= len(self._queue) or self._threads >= self._size:
                return answer
            self._threads += 1
        if not start_thread(self._work, self._name):
            with self._changed:
                self._threads -= 1
                calls = [] if self._threads else list(self._queue)
                if calls:
                    self._queue.clear()
            if self._in_caller:
                self._run_here(calls)
            else:
                self._drop(calls)
        return answer

    def join(self) -> None:
        """Wait until everything that was submitted is done."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unfinished)

    def close(self) -> None:
        """Drop what has not begun, and let the threads end."""
        with self._changed:
            self._closed = True
            dropped = list(self._queue)
            self._queue.clear()
        self._drop(dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        """Do what is in the queue until the pool is closed."""
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._idle -= 1
                if not self._queue:
                    self._threads -= 1
                    return
                call = self._queue.popleft()
            self._run(*call)
            del call

    def _run_here(self, calls: list[tuple[Future[Any], Callable[[], Any]]]) -> None:
        """Do several pieces of work in this thread, until it is interrupted."""
        for number, call in enumerate(calls, 1):
            self._run(*call)
            try:
                _raise_interrupt(call[0])
            except BaseException:
                self._drop(calls[number:])
                raise

    def _drop(self, calls: list[tuple[Future[Any], Callable[[], Any]]]) -> None:
        """Cancel what has not begun and is in the queue no more."""
        with self._changed:
            self._unfinished -= len(calls)
            self._changed.notify_all()
        for answer, _ in calls:
            answer.cancel()

    def _run(self, answer: Future[Any], work: Callable[[], Any]) -> None:
        """Do one piece of work, unless nobody waits for it any more."""
        try:
            if answer.set_running_or_notify_cancel():
                _settle(answer, work)
        finally:
            with self._changed:
                self._unfinished -= 1
                if not self._unfinished:
                    self._changed.notify_all()
