"""Jobs on this machine: a queue on disk, a set number at once.

Each job runs beneath a supervisor of its own, which outlives the service. A service that starts
again finds its queue, its running jobs and those that ended meanwhile in the jobs' folders.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from aind_data_transfer_service.concurrency.loop_health import Heartbeat
from aind_data_transfer_service.errors import ExecutorError, LeaseLostError
from aind_data_transfer_service.executors.base import (
    CANCELLED_BEFORE,
    FileChunk,
    Guard,
    JobFile,
    JobSpec,
    RunState,
    RunStatus,
    Started,
    unguarded,
)
from aind_data_transfer_service.executors.job_files import READ_SECONDS, FileReads, unreadable
from aind_data_transfer_service.executors.local import supervisor
from aind_data_transfer_service.executors.local.job_directory import FILES, VANISHED, JobFolder
from aind_data_transfer_service.settings.env_policy import without_sources

logger = logging.getLogger(__name__)

UPLOAD_COMMAND = (sys.executable, "-m", "aind_data_transfer_service.upload")
NOT_STARTED = "the job's process could not be started"
_LONGEST_ID = 100
_IDLE_SECONDS = 2.0
"""Between two rounds while no job runs, so that a loop which has stopped is noticed."""
P = ParamSpec("P")
T = TypeVar("T")


class LocalExecutor:
    """Runs jobs as processes of this machine, in the order in which they came.

    Parameters
    ----------
    folder : Path
        Where each job gets a folder. Services of one database at a time work in it, and of these
        the one that holds the lease.
    environment : mapping of str to str
        The environment of every job, to which the job's own id and files are added.
    slots : int
        How many jobs run at once.
    command : sequence of str
        The data transfer job; ``--json-file FILE`` is added.
    grace : float
        Seconds that a cancelled job has to stop by itself.
    poll_interval : float
        Seconds between two looks at the running jobs.
    guard : Callable
        Raises an error if this process may not start jobs.
    database : str
        Tells services of the same database from others.

    Attributes
    ----------
    heartbeat : Heartbeat
        Beats each time that the queue and the running jobs were looked at.
    """

    name = "local"
    patience = READ_SECONDS
    token_ends = None

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        slots: int = 2,
        command: Sequence[str] = UPLOAD_COMMAND,
        grace: float = 10.0,
        poll_interval: float = 0.2,
        guard: Guard = unguarded,
        database: str = "",
    ):
        self._spool = _Spool(
            Path(folder), dict(environment), slots, list(command), grace, guard, database
        )
        self._poll_interval = poll_interval
        self._files = FileReads()
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.heartbeat = Heartbeat(_IDLE_SECONDS, self.patience)

    @property
    def is_late(self) -> bool:
        """Whether this process should start and follow jobs, and its loop has not come round."""
        return self._task is not None and self.heartbeat.is_late

    async def open(self, in_doubt: Collection[str] = ()) -> None:
        """Find the queue and the running jobs again, and begin to work.

        What a former process accepted is in the folder, so that no job is in doubt.

        Raises
        ------
        ExecutorError
            Where another service works in the same folder.
        """
        await self._in_turn(self._spool.open)
        self.heartbeat = Heartbeat(_IDLE_SECONDS, self.patience)
        self._task = asyncio.create_task(self._work(), name="local executor")

    async def suspend(self) -> None:
        """Leave the queue and the running jobs to another process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._in_turn(self._spool.close)

    async def place(self) -> str:
        """Return the id of the folder, by which it is known from those of other machines."""
        return await self._in_turn(self._spool.place)

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Put jobs into the queue, each once; the reference is the job's own id."""
        started = await self._in_turn(self._spool.accept, specs)
        self._wake.set()
        return started

    async def find(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Look for jobs in the queue and among the running and ended ones."""
        return await self._in_turn(self._spool.find, [spec.job_id for spec in specs])

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Tell how the named jobs stand."""
        return await self._files.read(lambda: self._spool.statuses(refs))

    async def cancel(self, ref: str) -> None:
        """Stop a job with all that it started, or take it out of the queue."""
        with _in_words(f"job {ref} cannot be cancelled"):
            await self._in_turn(self._spool.cancel, ref)
        self._wake.set()

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of a job's files."""
        folder = self._spool.folder(ref)
        try:
            return await self._files.read(lambda: folder.read(file, offset, limit))
        except OSError as error:
            raise unreadable(f"{file} of job {ref}", error) from error

    async def close(self) -> None:
        """Leave the queue and the running jobs to whoever comes next."""
        await self.suspend()
        self._files.close()

    async def _work(self) -> None:
        """Start what can be started, whenever something may have changed."""
        trouble = ""
        while True:
            self._wake.clear()
            try:
                busy = await self._in_turn(self._spool.advance)
                trouble = ""
            except LeaseLostError:  # `suspend` follows
                busy = True
            except Exception as error:  # the next round may fare better
                busy = True
                if repr(error) != trouble:
                    logger.exception("local executor: jobs cannot be started or looked after now")
                trouble = repr(error)
            interval = self._poll_interval if busy else _IDLE_SECONDS
            self.heartbeat.beat(interval)
            try:
                async with asyncio.timeout(interval):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _in_turn(
        self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Run a function in a thread, one such function at a time, to its end."""
        async with self._turn:
            task = asyncio.create_task(asyncio.to_thread(function, *arguments, **options))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise


@contextmanager
def _in_words(failure: str) -> Iterator[None]:
    """Say what a failure of the disk means."""
    try:
        yield
    except OSError as error:
        raise ExecutorError(f"{failure}: {error.strerror or error}") from error


class _Spool:
    """The queue itself: files and processes. One thread at a time works on it."""

    def __init__(
        self,
        root: Path,
        environment: dict[str, str],
        slots: int,
        command: list[str],
        grace: float,
        guard: Guard,
        database: str,
    ):
        self._root = root
        self._guard = guard
        self._database = database
        self._active = root / ".active"
        self._environment = environment
        self._slots = slots
        self._command = command
        self._grace = grace
        self._queue: deque[str] = deque()
        self._running: set[str] = set()
        self._children: dict[str, int] = {}
        self._troubled: set[str] = set()
        self._last_accepted = 0
        self._lock: int | None = None

    def folder(self, job_id: str) -> JobFolder:
        """Name a job's folder."""
        return JobFolder(self._root, job_id)

    def open(self) -> None:
        """Claim the folder and read what lies in it."""
        self._active.mkdir(parents=True, exist_ok=True)
        self._claim()
        self._queue.clear()
        self._running.clear()
        waiting = []
        for job_id in os.listdir(self._active):
            folder = self.folder(job_id)
            if not folder.exists():  # never accepted; whoever handed it over hands it over again
                self._forget(job_id)
            elif folder.is_started():
                self._running.add(job_id)
            else:
                waiting.append((folder.accepted(), job_id))
        self._queue.extend(job_id for _, job_id in sorted(waiting))
        self._last_accepted = max((accepted for accepted, _ in waiting), default=0)

    def place(self) -> str:
        """Read the id of the folder, or give it one."""
        self._root.mkdir(parents=True, exist_ok=True)
        file = self._root / ".id"
        if not file.exists():
            draft = self._root / f".id.{secrets.token_hex(4)}"
            draft.write_text(secrets.token_hex(8), encoding="ascii")
            try:
                os.link(draft, file)
            except FileExistsError:  # another process was faster
                logger.debug("local executor: %s has an id already", self._root)
            finally:
                draft.unlink()
        return file.read_text(encoding="ascii")

    def accept(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Put jobs into the queue."""
        return [self._accept_one(spec) for spec in specs]

    def find(self, job_ids: Sequence[str]) -> list[Started]:
        """Look for jobs that were accepted."""
        return [
            Started(job_id, ref=job_id if self.folder(job_id).exists() else None)
            for job_id in job_ids
        ]

    def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Tell how jobs stand. Reads files only, so it needs no turn."""
        return {ref: self._status(ref) for ref in refs}

    def cancel(self, job_id: str) -> None:
        """Stop a job, or take it out of the queue."""
        folder = self.folder(job_id)
        if not folder.exists() or folder.is_ended():
            return
        folder.request_cancel()
        if job_id in self._queue:
            self._queue.remove(job_id)
            self._forget(job_id)

    def advance(self) -> bool:
        """Put away what has ended, start what can be; tell whether to look again soon."""
        self._guard()
        for job_id in list(self._running):
            try:
                if self._has_ended(job_id):
                    self._running.discard(job_id)
                    self._forget(job_id)
            except Exception as error:  # the other jobs are none the worse for it
                self._complain(job_id, error)
        while self._queue and len(self._running) < self._slots:
            self._guard()
            job_id = self._queue.popleft()
            self._running.add(job_id)
            self._launch(self.folder(job_id))
        return bool(self._running)

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        """Make sure that no service of another database works here.

        Of those of the same database the lease decides. One that was suspended may still hold the
        lock; it starts nothing when it goes on.
        """
        if self._lock is not None:
            return
        lock = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, _LONGEST_ID, 0).decode("utf-8", "replace")
            os.close(lock)
            if self._database and holder == self._database:
                return
            raise ExecutorError(
                f"another service runs jobs in {self._root}; stop it, or give this one "
                "a DATA_DIR of its own"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, self._database.encode(), 0)
        self._lock = lock

    def _status(self, job_id: str) -> RunStatus:
        """Tell how one job stands; one whose files cannot be read may well go on."""
        try:
            return self.folder(job_id).status()
        except ExecutorError as error:
            return RunStatus(ref=job_id, state=RunState.LOST, reason=str(error))
        except OSError as error:
            reason = f"the job's folder cannot be read: {error.strerror or error}"
            return RunStatus(ref=job_id, state=RunState.RUNNING, reason=reason)

    def _accept_one(self, spec: JobSpec) -> Started:
        """Put one job into the queue, unless it is known."""
        try:
            folder = self.folder(spec.job_id)
            if not folder.exists():
                self._guard()
                if not spec.is_wanted():
                    return Started(spec.job_id, error=CANCELLED_BEFORE, again=True)
                self._last_accepted = max(self._last_accepted + 1, time.time_ns())
                (self._active / spec.job_id).touch()
                folder.create(spec, self._last_accepted)
                self._queue.append(spec.job_id)
        except OSError as error:
            self._forget(spec.job_id)
            return Started(spec.job_id, error=f"{NOT_STARTED}: {error.strerror or error}")
        except LeaseLostError as error:
            return Started(spec.job_id, error=str(error), again=True)
        except ExecutorError as error:
            return Started(spec.job_id, error=str(error))
        return Started(spec.job_id, ref=spec.job_id)

    def _launch(self, folder: JobFolder) -> None:
        """Start a job's supervisor, away from our own session."""
        arguments = [str(folder.path), str(self._grace), *folder.command(self._command)]
        is_script = (folder.path / "script").exists()
        environment = without_sources(self._environment) if is_script else self._environment
        log = (str(folder.path / "supervisor.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._children[folder.job_id] = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", supervisor.__file__, *arguments],
                {
                    **environment,
                    "JOB_ID": folder.job_id,
                    **({} if is_script else folder.recorded()),
                    "UPLOAD_EVENTS_FILE": str(folder.path / FILES["events"]),
                    "UPLOAD_CANCEL_FILE": str(folder.cancel_file),
                },
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, *log),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            folder.record_failure(f"{NOT_STARTED}: {error.strerror}")

    def _has_ended(self, job_id: str) -> bool:
        """Tell whether nobody stands over a job any more; if so, its end is on paper then."""
        folder = self.folder(job_id)
        child = self._children.get(job_id)
        if self._child_lives(job_id):
            return False
        # Two processes may have started supervisors of one job; the first of them runs it.
        is_own = child is not None and folder.supervisor_pid() in (child, None)
        if not is_own and not folder.is_ended() and folder.is_supervised():
            return False
        if not folder.is_ended():
            try:
                if folder.is_started():
                    folder.stop_leftovers()
                    folder.record_failure(VANISHED)
                elif not folder.is_cancelled():
                    folder.record_failure(NOT_STARTED)
            except OSError as error:  # the job spoiled its folder; its place is free all the same
                self._complain(job_id, error)
        return True

    def _complain(self, job_id: str, error: Exception) -> None:
        """Log once that a job cannot be looked after."""
        if job_id not in self._troubled:
            self._troubled.add(job_id)
            logger.error("local executor: job %s cannot be looked after: %s", job_id, error)

    def _child_lives(self, job_id: str) -> bool:
        """Tell whether a supervisor that we started ourselves lives, and bury it if not."""
        pid = self._children.get(job_id)
        if pid is None:
            return False
        try:
            gone = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # somebody else buried it
            gone = True
        if gone:
            del self._children[job_id]
        return not gone

    def _forget(self, job_id: str) -> None:
        """Take a job off the list of those to look after."""
        (self._active / job_id).unlink(missing_ok=True)
