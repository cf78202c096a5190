"""A few worker processes for work on data that may be hostile.

Threads would make all pages wait while one of them computes, and share their memory with them. A
worker process has a limit on memory and a deadline for each request; when it dies or exceeds its
deadline it is replaced, and only the request that it worked on fails.

The workers are new programs, never forks of this one, which has threads. They get no variable of
the environment but those that Python needs.
"""

import asyncio
import logging
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import BinaryIO, cast

from aind_data_transfer_service.concurrency.daemon_thread import NO_THREAD, start_thread
from aind_data_transfer_service.concurrency.worker_process import HEADER, READY
from aind_data_transfer_service.errors import UnavailableError, WorkerDied, WorkerTimeout

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a worker may take to load its modules. A busy machine takes seconds."""

_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_PYTHON_VARIABLES = {"PYTHONUTF8": "1"}
_READ_BYTES = 1024**2
_LAST_SECONDS = 1.0
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a worker gets: no secrets, and nothing of the service's settings.

    Parameters
    ----------
    environment : Mapping[str, str]
        The variables of the service.
    """
    kept = {name: environment[name] for name in _KEPT_VARIABLES if name in environment}
    return kept | _PYTHON_VARIABLES


class ProcessPool:
    """Worker processes that share a queue of requests. The caller bounds the queue.

    Parameters
    ----------
    module : str
        The module that a worker runs; it calls `concurrency.worker_process.serve`.
    size : int
        The number of workers.
    memory : int
        Bytes of address space that a worker may use.
    seconds : float
        How long a worker may take for one request.
    """

    def __init__(self, module: str, size: int, memory: int, seconds: float):
        self.memory, self.seconds = memory, seconds
        self._module, self._size = module, size
        self._queue: queue.SimpleQueue[tuple[bytes, Future[bytearray]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._is_open = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        with self._lock:
            return [worker.pid for worker in self._workers if worker.is_running]

    def open(self) -> None:
        """Start the workers, without waiting for them."""
        self._is_open = True
        started = [start_thread(self._work, "spreadsheet worker") for _ in range(self._size)]
        if not any(started):
            self._is_open = False
            logger.error("the pool of worker processes cannot be started: %s", NO_THREAD)

    def close(self) -> None:
        """End the workers at once; requests that are not answered yet fail."""
        with self._lock:
            self._is_open = False
            for worker in self._workers:
                worker.kill()
        for _ in range(self._size):
            self._queue.put(None)

    async def ask(self, request: bytes) -> bytearray:
        """Send a request to the next worker that is free, and wait for its reply.

        Raises
        ------
        WorkerTimeout
            The worker exceeded its deadline.
        WorkerDied
            The worker ended while it worked on the request.
        UnavailableError
            No worker can be started.
        """
        if not self._is_open:
            raise UnavailableError("the pool of worker processes is not running")
        answer: Future[bytearray] = Future()
        self._queue.put((request, answer))
        return await asyncio.wrap_future(answer)

    def _work(self) -> None:
        """Pass requests to one worker after another until the pool is closed."""
        worker: _Worker | None = None
        try:
            worker = self._start()
        except UnavailableError as error:
            if self._is_open:  # a worker that is killed while it starts is no news
                logger.warning("%s", error)
        while (item := self._queue.get()) is not None:
            request, answer = item
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                worker = self._living(worker)
                try:
                    reply = worker.ask(request, self.seconds)
                except WorkerDied as error:
                    if error.status not in _FROM_OUTSIDE or not self._is_open:
                        raise
                    worker = self._living(worker)
                    reply = worker.ask(request, self.seconds)
                answer.set_result(reply)
            except Exception as error:
                answer.set_exception(error)
            del item, request, answer
        if worker is not None:
            self._end(worker)

    def _living(self, worker: "_Worker | None") -> "_Worker":
        """Return the worker if it runs, else another."""
        if worker is not None:
            if worker.is_running:
                return worker
            self._end(worker)
        return self._start()

    def _start(self) -> "_Worker":
        """Start a worker, and wait until it is ready."""
        command = [sys.executable, "-m", self._module, str(os.getpid()), str(self.memory)]
        with self._lock:
            if not self._is_open:
                raise UnavailableError("the service is shutting down")
            try:
                worker = _Worker(command, worker_environment(os.environ))
            except OSError as error:
                raise UnavailableError(
                    f"a worker process cannot be started: {error.strerror}; raise the limits on "
                    "processes and memory of the service (ulimit -u and -v, or those of the "
                    "container)"
                ) from error
            self._workers.add(worker)
        try:
            worker.wait_until_ready(START_SECONDS)
        except (WorkerDied, WorkerTimeout) as error:
            self._end(worker)
            raise UnavailableError(
                f"a worker process did not start: {error}; try it by hand: python -m "
                f"{self._module} {os.getpid()} {self.memory}"
            ) from error
        return worker

    def _end(self, worker: "_Worker") -> None:
        """Make sure that a worker is gone."""
        worker.end()
        with self._lock:
            self._workers.discard(worker)


class _Worker:
    """One worker process, as the service sees it."""

    def __init__(self, command: list[str], environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)
        for stream in (self._requests, self._replies):
            os.set_blocking(stream.fileno(), False)
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the first word of the worker."""
        if self._exchange([], seconds) != READY:
            raise WorkerDied("it sent something unexpected", None)

    def ask(self, request: bytes, seconds: float) -> bytearray:
        """Send a request, and return the reply."""
        return self._exchange([HEADER.pack(len(request)), request], seconds)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End the process, and let go of it."""
        self.kill()
        self._requests.close()
        self._replies.close()

    def _exchange(self, outgoing: Sequence[bytes], seconds: float) -> bytearray:
        """Send what is outgoing and receive one frame, both before the deadline."""
        deadline = time.monotonic() + seconds
        left = deque(memoryview(piece) for piece in outgoing if piece)
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            if left:
                selector.register(self._requests, selectors.EVENT_WRITE)
            while not _is_complete(received):
                patience = deadline - time.monotonic()
                if patience <= 0:
                    self.kill()
                    raise WorkerTimeout(f"no reply within {seconds:g} s")
                for key, _ in selector.select(patience):
                    if key.fileobj is self._replies:
                        received += self._receive()
                    else:
                        self._send(left)
                        if not left:
                            selector.unregister(self._requests)
        del received[: HEADER.size]
        return received

    def _send(self, left: deque[memoryview]) -> None:
        """Send as much as the pipe takes, and leave the rest."""
        piece = left.popleft()
        try:
            rest = piece[os.write(self._requests.fileno(), piece) :]
        except BlockingIOError:
            rest = piece
        except BrokenPipeError:
            raise self._death() from None
        if rest:
            left.appendleft(rest)

    def _receive(self) -> bytes:
        """Receive what is there."""
        try:
            data = os.read(self._replies.fileno(), _READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise self._death()
        return data

    def _death(self) -> WorkerDied:
        """Say how the process ended; it has closed its end of a pipe."""
        try:
            status = self._process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return WorkerDied(f"it ended with status {status}", status)


def _is_complete(received: bytearray) -> bool:
    """Return whether a whole frame has arrived."""
    if len(received) < HEADER.size:
        return False
    length: int = HEADER.unpack_from(received)[0]
    return len(received) >= HEADER.size + length
