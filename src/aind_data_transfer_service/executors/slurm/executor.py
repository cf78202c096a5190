"""Jobs on a Slurm cluster, through slurmrestd.

Each job has marks by which it is found again (`executors.slurm.job_matching`): after an answer that
was lost, and after a restart of the service.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aind_data_transfer_service.errors import ExecutorError, LeaseLostError
from aind_data_transfer_service.executors.base import (
    CANCELLED_BEFORE,
    CappedLimits,
    FileChunk,
    Guard,
    JobFile,
    JobSpec,
    Others,
    RunState,
    RunStatus,
    Started,
    Unfit,
    unguarded,
)
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.job_files import READ_SECONDS, FileReads
from aind_data_transfer_service.executors.slurm.accounting import PastJobs
from aind_data_transfer_service.executors.slurm.backoff import Backoff
from aind_data_transfer_service.executors.slurm.batch_script import check_id
from aind_data_transfer_service.executors.slurm.bounded_memory import remember
from aind_data_transfer_service.executors.slurm.foreign_jobs import OthersJobs
from aind_data_transfer_service.executors.slurm.job_array import (
    ArrayKeeper,
    ArraySpec,
    array_number,
    array_of,
    choose_duplicate,
    is_cut,
    last_of,
    shard_id,
    shards_id,
    submission_of,
)
from aind_data_transfer_service.executors.slurm.job_matching import Identity
from aind_data_transfer_service.executors.slurm.job_properties import (
    job_properties,
    marked_id,
    marked_shards,
)
from aind_data_transfer_service.executors.slurm.log_directory import LogFolder
from aind_data_transfer_service.executors.slurm.queue import (
    FEW,
    LONG_QUEUE,
    Listing,
    Turns,
)
from aind_data_transfer_service.executors.slurm.recent_submissions import (
    FreshJobs,
    NoEvidenceError,
)
from aind_data_transfer_service.executors.slurm.state_reasons import LOST_BY_CLUSTER
from aind_data_transfer_service.executors.slurm.status import (
    Listed,
    Standing,
    is_ours,
    not_ours,
    parts,
    submitted_at,
    submitter,
)
from aind_data_transfer_service.executors.slurm.submission_checks import JobChecks
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    Busy,
    Refused,
    SlurmError,
    Unconfirmed,
)
from aind_data_transfer_service.slurmrest.models import SlurmJob

logger = logging.getLogger(__name__)

_LONGEST_WORD = 2.0
"""Seconds that the folder of logs may take for a file, before Slurm is asked without it."""
_PROBLEM_SECONDS = 3600.0
"""How long a file of a job that could not be read is reported."""
_TRACELESS = (
    "the job runs, but no file of it is in {}: HPC_LOGGING_DIRECTORY has to be the folder that the "
    "nodes write to, or set INTERNAL_URL so that jobs bring their events by HTTP"
)
_UNCLEAR = (
    "Slurm lists a job {number} of this service's user, named {name}, but neither its comment nor "
    "its files tell whether it is this one; {action}"
)
_WAITED_FOR = (
    "it is not submitted again; look with scontrol show job, and keep the comment that jobs get"
)
_HIDDEN = (
    "the cluster's answer was lost, and Slurm has jobs that it does not show yet, of which one may "
    "be this one"
)
_NOT_CANCELLED = "it is not cancelled; look with scontrol show job, and use scancel if it is"
_CANCELLED_UNPROVEN = (
    "cancelled; Slurm does not list the job, but whether it ran before cannot be found out: {}"
)
_REFUSED_AGAIN = "the cluster lost the job before it began, and refused to take it again: {}"


@dataclass
class _Halt:
    """Why the rest of a request is not sent; empty while it is."""

    reason: str = ""


class SlurmExecutor:
    """Runs jobs on a cluster.

    Parameters
    ----------
    client : SlurmClient
        Who speaks to slurmrestd; closed with the executor.
    hpc : HpcSettings
        What is known of the cluster.
    environment : mapping of str to str
        What the service and every job must agree on.
    settle : float
        Seconds after a lost answer in which the job may still turn up; it is not sent again before.
    keep : float
        Seconds after a submission in which Slurm's controller may have written nothing down yet.
        If it dies within them, it comes back without the job, and is given it again if no sign says
        that it began.
    grace : float
        Seconds after its start in which the first files of a job may not be visible here yet.
    callbacks : Callbacks, optional
        How the jobs reach the service with their events.
    hpc_for : Callable, optional
        Gives what is known of the cluster with the keys for a bucket; by default always `hpc`.
    guard : Callable
        Raises an error if this process may not submit or cancel jobs.
    backoff : Backoff, optional
        When jobs are sent again that the cluster could not take.
    clock : Callable
        Returns seconds that only grow.
    long_queue : int
        Above how many jobs only their states are listed, if Slurm can do that.
    """

    name = "slurm"

    def __init__(
        self,
        client: SlurmClient,
        hpc: HpcSettings,
        environment: Mapping[str, str],
        *,
        settle: float = 10.0,
        keep: float = 60.0,
        grace: float = 60.0,
        callbacks: Callbacks | None = None,
        hpc_for: Callable[[str], HpcSettings] | None = None,
        guard: Guard = unguarded,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        long_queue: int = LONG_QUEUE,
    ):
        self._client = client
        self._hpc = hpc
        self._environment = dict(environment)
        self._settle = settle
        self._grace = grace
        self._callbacks = callbacks
        self._hpc_for = hpc_for or (lambda _: hpc)
        self._guard = guard
        self._backoff = backoff or Backoff()
        if hpc.logging_directory is None:
            raise ExecutorError("HPC_LOGGING_DIRECTORY is not set")
        self._folder = LogFolder(hpc.logging_directory)
        self.patience = hpc.timeout + READ_SECONDS
        self._files = FileReads()
        self._picked = OthersJobs(hpc.username or "", hpc.default_properties.get("partition", ""))
        self._others = Others()
        self._checks = JobChecks(client, hpc, clock)
        self._clock = clock
        self._listing = Listing(client, clock, _submits_as(hpc), long_queue)
        self._listed: dict[str, list[SlurmJob]] = {}
        self._unclear: dict[str, SlurmJob] = {}
        self._identity = Identity(hpc.logging_directory, _submits_as(hpc), hpc.shards)
        self._past = PastJobs(client, self._identity)
        self._arrays = ArrayKeeper(client, self._folder, self._files)
        self._turns = asyncio.Semaphore(hpc.submissions_at_once)
        self._under_way: dict[str, asyncio.Task[Started]] = {}
        self._known: dict[str, int] = {}
        self._singles = Turns(self._known, self._is_new)
        self._lost: dict[str, float] = {}
        self._inherited: set[str] = set()
        self._fresh = FreshJobs(self._folder, self._files, self._past, keep, grace, clock)
        self._giving_again = asyncio.Lock()
        self._refused_again: dict[str, str] = {}
        self._listed_at = float("-inf")
        self._absent: set[str] = set()
        self._cancelled: dict[str, None] = {}
        self._withdrawn: dict[str, None] = {}
        self._troubled: set[str] = set()
        self._unreadable: dict[str, tuple[float, str]] = {}
        self._traceless: dict[str, float] = {}
        self._standing = Standing(
            self._folder,
            self._files,
            self._past,
            self._identity,
            self._known,
            self._cancelled,
            self._fresh.may_have_begun,
        )
        self._has_looked = False

    @property
    def token_ends(self) -> datetime | None:
        """When the token in hand ends, where it says so."""
        return self._client.tokens.expires_at

    async def open(self, in_doubt: Collection[str] = ()) -> None:
        """Warn of what is amiss; the cluster itself may be down, and is asked when it is needed.

        A job in doubt is treated as one whose answer was lost: it is looked for, and is not sent
        again before it would have turned up.
        """
        doubt = self._clock() + self._settle
        for job_id in in_doubt:
            self._identity.expect(job_id)
            self._lost |= {job_id: doubt, shards_id(job_id): doubt}
            self._inherited |= {job_id, shards_id(job_id)}
        try:
            is_there = await self._files.read(self._folder.is_there, seconds=_LONGEST_WORD)
        except ExecutorError:
            is_there = False
        if not is_there:
            logger.warning(
                "slurm: HPC_LOGGING_DIRECTORY (%s) cannot be seen from here; jobs run, but their "
                "progress and logs are not shown",
                self._folder.path,
            )
        self._checks.default_problems()  # logged as soon as the cluster has answered

    async def suspend(self) -> None:
        """Submit nothing more; what another process submits is looked for after the next `open`."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._fresh.clear()
        self._known.clear()
        self._identity.clear()
        self._backoff.clear()
        self._listed = {}
        self._unclear = {}
        self._absent = set()
        self._has_looked = False
        self._listing.forget()

    async def start(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Submit jobs, several at a time, each once; look first where one may be there already.

        Raises
        ------
        ExecutorError
            Where the cluster cannot be asked; nothing was sent then.
        """
        arrays = {spec.job_id: shards_id(spec.job_id) for spec in specs}
        for spec in specs:
            self._expect(spec)
        await self._expect_others(specs)
        unsent = arrays.keys() - self._known.keys()
        begun = {arrays[one] for one in unsent if not self._backoff.reason(one)}
        begun &= self._known.keys()
        lost = {*arrays, *arrays.values()} & self._lost.keys()
        is_due = self._backoff.are_due({*arrays, *arrays.values()})  # not sent without looking
        has_to_look = not self._has_looked or bool(lost or begun)
        if is_due and not has_to_look and self._listing.is_resting:
            self._backoff.delay(self._listing.rest_left)
        elif is_due or has_to_look:
            listed = await (self._look() if has_to_look else self._look_if_changed())
            gone = begun - listed.keys() - self._unclear.keys()
            await self._forget_arrays({one for one in gone if not self._is_hidden(one)})
        if unsent:
            await self._checks.prepare()
        halt = _Halt()
        specs = sorted(specs, key=self._last_refusal)
        found = await asyncio.gather(*(self._hand(spec, halt) for spec in specs))
        if any(one.job_id in self._lost for one in found):
            found = await self._look_for(found)
        return found

    def _last_refusal(self, spec: JobSpec) -> float:
        """Return when a job, or its array, was refused last: those that never were go first."""
        return max(map(self._backoff.last_refusal, (spec.job_id, shards_id(spec.job_id))))

    async def statuses(self, refs: Sequence[str]) -> dict[str, RunStatus]:
        """Tell how the named jobs stand; one question to Slurm for all of them, or one for each.

        And one to slurmdbd, where there is one and jobs of theirs went missing. After a start with
        a long queue, jobs that were not read yet are left out.
        """
        if not refs:
            await self._ping()
            return {}
        self._guard()
        wrong = {ref: not_ours(ref) for ref in refs if not is_ours(ref)}
        refs = [ref for ref in refs if ref not in wrong]
        ids = {parts(ref)[1] for ref in refs}
        for ref in refs:
            self._expect_ref(ref)
        began = self._clock()
        numbers = {parts(ref)[0] for ref in refs} | set(map(self._number, ids))
        listed = await self._look_for_changes(ids, numbers)
        ids -= self._uncertain(refs, listed)  # they are as they were, as far as is known
        refs = [ref for ref in refs if parts(ref)[1] in ids]
        await self._end_duplicates(refs, listed)
        for job_id in ids:
            await self._mind_array(job_id, listed)
        await self._take_claimed(ids - listed.keys(), listed)
        there = listed.keys() | self._unclear.keys()
        gone = [job_id for job_id in ids - there if job_id in self._fresh]
        try:
            listed |= await self._give_again(gone, listed)
        finally:
            self._fresh.expire(self._listed_at)
            self._fresh.note_answer(began)
        refused = self._refused_refs(refs, listed)
        found = await self._standing.of([ref for ref in refs if ref not in refused], listed)
        return wrong | refused | {ref: self._not_lost(status) for ref, status in found.items()}

    def _uncertain(self, refs: Iterable[str], listed: Listed) -> set[str]:
        """Return the ids of jobs that may be there, although they were not listed."""
        ids = {parts(ref)[1]: parts(ref)[0] for ref in refs}
        there, is_complete = listed.keys() | self._unclear.keys(), self._listing.is_complete
        return {
            job_id
            for job_id, number in ids.items()
            if job_id not in there
            and (not is_complete or self._listing.hides(number) or self._is_hidden(job_id))
        }

    def _is_hidden(self, job_id: str) -> bool:
        """Return whether Slurm has a job with the number of one of ours, but did not show it."""
        return self._listing.hides(self._number(job_id))

    def _number(self, job_id: str) -> int:
        """Return Slurm's number of a job; zero if it is not known."""
        return self._known.get(job_id, 0)

    def _refused_refs(self, refs: Sequence[str], listed: Listed) -> dict[str, RunStatus]:
        """Say which jobs the cluster lost, and refused when they were submitted again."""
        reasons = {ref: self._refused_again.get(parts(ref)[1]) for ref in refs}
        return {
            ref: RunStatus(ref, RunState.FAILED, reason)
            for ref, reason in reasons.items()
            if reason and parts(ref)[1] not in listed
        }

    async def _take_claimed(
        self, missing: Collection[str], listed: dict[str, list[SlurmJob]]
    ) -> None:
        """Take jobs for ours that have nothing but the number, if ours began under that number."""
        for job_id in [one for one in missing if one in self._unclear]:
            job = self._unclear[job_id]
            if await self._is_claimed(job_id, job):
                del self._unclear[job_id]
                remember(self._known, job_id, array_number(job))
                self._listed[job_id] = listed[job_id] = [self._identity.see(job_id, job)]

    async def _is_claimed(self, job_id: str, job: SlurmJob) -> bool:
        """Return whether one of our jobs left word that it runs under the number of this one."""
        if job.state == "PENDING":
            return False
        try:
            claimed = await self._files.read(partial(self._folder.claim, job_id))
        except ExecutorError as error:
            logger.warning("slurm: the claim of job %s cannot be read: %s", job_id, error)
            return False
        return claimed == job.job_id

    def _not_lost(self, status: RunStatus) -> RunStatus:
        """Say of a job that it may be there, where Slurm lists its number."""
        job = self._unclear.get(parts(status.ref)[1])
        if job is None or status.state is not RunState.LOST:
            return status
        state = RunState.PENDING if job.state == "PENDING" else RunState.RUNNING
        reason = _UNCLEAR.format(number=job.job_id, name=redact(job.name), action=_WAITED_FOR)
        return RunStatus(status.ref, state, reason)

    async def _mind_array(self, job_id: str, listed: Listed) -> None:
        """Look after a job's array of shards, if it has one; say once if that cannot be done."""
        array = shards_id(job_id)
        if not (tasks := listed.get(array)):
            return
        try:
            await self._arrays.mind(job_id, tasks, listed.get(job_id, []), self._known[array])
        except ExecutorError as error:  # the other jobs are none the worse for it
            if array not in self._troubled:
                logger.warning("slurm: %s cannot be looked after: %s", array, error)
            self._troubled.add(array)
        else:
            self._troubled.discard(array)

    async def check(self, specs: Sequence[JobSpec], seconds: float) -> Unfit:
        """Check jobs against the cluster's API version, partitions and nodes."""
        return await self._checks.check(specs, seconds)

    async def cap(
        self,
        limits: Mapping[str, int | None],
        settings: Mapping[str, Any],
        had: Mapping[str, int],
        seconds: float,
    ) -> CappedLimits:
        """Lower a time limit and memory to what the cluster's partitions allow."""
        return await self._checks.cap(limits, settings, had, seconds)

    def left_out(self, job_id: str, settings: Mapping[str, Any]) -> Collection[str]:
        """Return which limits of the site a job was sent without, as far as is known."""
        jobs = self._listed.get(job_id) or self._past.remembered(job_id)
        return self._checks.left_out(job_id, settings, jobs)

    def default_problems(self) -> Sequence[str]:
        """Return which of the site's defaults of jobs the cluster does not take."""
        return self._checks.default_problems()

    async def find(self, specs: Sequence[JobSpec]) -> list[Started]:
        """Look for jobs by their marks; one that is not there may turn up for some seconds."""
        for spec in specs:
            if spec.job_id not in self._known:
                self._lost.setdefault(spec.job_id, self._clock() + self._settle)
            self._expect(spec)
        await self._expect_others(specs)
        listed = await self._look()
        return [await self._find(spec, listed) for spec in specs]

    async def _find(self, spec: JobSpec, listed: Listed) -> Started:
        """Look for one job; shards without a last job are cancelled."""
        job_id = spec.job_id
        number = self._known.get(job_id)
        try:
            if number is None:
                number = await self._files.read(partial(self._folder.claim, job_id))
            if number is not None:
                return self._started(job_id, number)
        except ExecutorError as error:  # the other jobs are none the worse for it
            return Started(job_id, error=str(error), again=True, in_doubt=True)
        array, now = shards_id(job_id), self._clock()
        if shards := [task for task in listed.get(array, []) if not task.has_ended]:
            await self._arrays.end(shards)
        due = max(self._lost.setdefault(job_id, now + self._settle), self._lost.get(array, 0.0))
        is_hidden = self._listing.may_hide(due - self._settle)
        if shards or now < due or is_hidden or {job_id, array} & self._under_way.keys():
            reason = "whether the cluster has the job shows in a moment"
            return Started(job_id, error=reason, again=True, in_doubt=True)
        if found := await self._find_signs(spec):
            if found.ref or found.in_doubt:
                return found
        for one in (job_id, array):
            self._identity.note_unsent(one)
            remember(self._withdrawn, one, None)
        return found or Started(job_id, error=CANCELLED_BEFORE)

    async def _find_signs(self, spec: JobSpec) -> Started | None:
        """Return what is known of a job that Slurm does not list; None if it surely never ran.

        Jobs that report themselves may use a folder of logs that the service never sees.
        """
        job_id, reports = spec.job_id, self._brings_events
        if job := self._identity.possible(job_id):
            name = redact(job.name)
            reason = _UNCLEAR.format(number=job.job_id, name=name, action=_NOT_CANCELLED)
            return Started(job_id, error=reason, again=True, in_doubt=True)
        try:
            number = await self._fresh.number_if_begun(spec, reports)
        except NoEvidenceError as error:
            return Started(job_id, error=_CANCELLED_UNPROVEN.format(error.obstacle))
        except ExecutorError as error:
            return Started(job_id, error=str(error), again=True, in_doubt=True)
        return None if number is None else self._started(job_id, number)

    async def cancel(self, ref: str) -> None:
        """Cancel a job."""
        number, job_id = parts(ref)
        if not job_id:
            return
        self._guard()
        self._expect_ref(ref)
        remember(self._cancelled, job_id, None)
        array = shards_id(job_id)
        self._fresh.discard(job_id, array)
        if not self._has_looked:
            await self._look()
        number = self._known.get(job_id, number)
        job = self._recent(job_id, number)
        if job is None and number:
            job = await self._client.job(number)
        if job is not None and not job.has_ended and self._identity.is_unclear(job_id, job):
            if not await self._is_claimed(job_id, job):
                name = redact(job.name)
                words = _UNCLEAR.format(number=number, name=name, action=_NOT_CANCELLED)
                raise ExecutorError(words)
            self._identity.see(job_id, job)
        is_alive = job is not None and self._identity.id_of(job) == job_id and not job.has_ended
        if is_alive or array in self._known:
            await self._leave_word(job_id)
        if is_alive:
            await self._client.cancel(number)
        if array in self._known:  # not sooner: the last job would begin
            await self._arrays.cancel(lambda: self._look_at(array))

    async def _leave_word(self, job_id: str) -> None:
        """Tell the job that a user cancels it; Slurm is asked even if the folder of logs hangs."""
        try:
            work = partial(self._folder.request_cancel, job_id)
            await self._files.read(work, seconds=_LONGEST_WORD)
        except ExecutorError:
            logger.warning(
                "slurm: %s does not answer; job %s keeps the parts of its large files",
                self._folder.path,
                job_id,
            )

    async def others(self, ask: bool) -> Others:
        """List jobs in our name that others started; with `ask`, Slurm is asked for them."""
        if ask:
            await self._look_for_changes(set())
        return self._others

    async def read(self, ref: str, file: JobFile, offset: int, limit: int) -> FileChunk:
        """Read from one of a job's files in the folder of logs."""
        _, job_id = parts(ref)
        work = partial(self._read, job_id, file, offset, limit)
        chunk, is_traceless = await self._files.read(work)
        if not is_traceless:
            self._traceless.pop(job_id, None)
        elif self._is_overdue(job_id):
            chunk = replace(chunk, problem=_TRACELESS.format(self._folder.path))
        if chunk.problem:
            if not self._brings_events or await self._files.read(self._folder.is_there):
                remember(self._unreadable, job_id, (self._clock(), chunk.problem))
        elif file == "events":
            self._unreadable.pop(job_id, None)
        return chunk

    async def shards(self, ref: str) -> int | None:
        """Return into how many shards a job is cut: as its mark says, else by their files."""
        _, job_id = parts(ref)
        listed = (job.comment for job in self._listed.get(job_id, []))
        if marks := [comment for comment in listed if marked_id(comment) == job_id]:
            return max(map(marked_shards, marks))
        return await self._files.read(partial(self._count_shards, job_id)) or None

    def _count_shards(self, job_id: str) -> int:
        """Count the shards of a job, from the first one on, that have left a file in the folder."""
        if not self._folder.is_there():
            return 0
        begun = (self._folder.has_begun(shard_id(job_id, number)) for number in itertools.count(1))
        return sum(1 for _ in itertools.takewhile(bool, begun))

    async def read_shard(
        self, ref: str, shard: int, file: JobFile, offset: int, limit: int
    ) -> FileChunk:
        """Read from a file of a job's shard in the folder of logs."""
        name = shard_id(parts(ref)[1], shard)
        return await self._files.read(partial(self._folder.read, name, file, offset, limit))

    def _is_overdue(self, job_id: str) -> bool:
        """Return whether a job without files in the folder has been so for long."""
        now = self._clock()
        since = self._traceless.get(job_id, now)
        remember(self._traceless, job_id, since)
        return now - since >= self._grace

    def _read(self, job_id: str, file: JobFile, offset: int, limit: int) -> tuple[FileChunk, bool]:
        """Read from a file; return also whether a job that runs leaves nothing in the folder.

        A job that brings its events itself needs no folder that the service sees.
        """
        chunk = self._folder.read(job_id, file, offset, limit)
        if file != "events" or chunk.size:
            return chunk, False
        if self._brings_events:
            return replace(chunk, problem=chunk.problem if self._folder.is_there() else ""), False
        return chunk, not chunk.problem and not self._folder.has_begun(job_id)

    @property
    def _brings_events(self) -> bool:
        """Whether jobs bring their events and the ends of their logs themselves."""
        return self._callbacks is not None and self._callbacks.is_on

    async def file_problems(self) -> list[str]:
        """Return which files of jobs the service could not read of late, and what to do.

        A folder that the service does not see is no problem where jobs bring their events and logs.
        """
        if not self._brings_events:
            try:
                problem = await self._files.read(self._folder.problem, seconds=_LONGEST_WORD)
            except ExecutorError as error:
                problem = f"{self._folder.path}: {error}"
            if problem:
                return [problem]
        since = self._clock() - _PROBLEM_SECONDS
        return [
            f"job {job_id}: {problem}"
            for job_id, (noted, problem) in reversed(self._unreadable.items())
            if noted >= since
        ]

    async def close(self) -> None:
        """Let go of the connections, after what is being sent."""
        await self._checks.close()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._client.aclose()
        self._files.close()

    async def _ping(self) -> None:
        """Make sure that a controller is there."""
        controllers = await self._client.ping()
        if not any(controller.up for controller in controllers):
            names = ", ".join(controller.host for controller in controllers) or "none is named"
            raise ExecutorError(
                f"slurmrestd answers, but no controller of the cluster does: {names}"
            )

    async def _look_for_changes(
        self, ids: set[str], numbers: Collection[int] = ()
    ) -> dict[str, list[SlurmJob]]:
        """Ask for certain jobs, and their numbers, as cheaply as will do.

        What is not listed then is not there, if the listing is complete.
        """
        odd = self._singles.odd(ids)
        if not odd and ids.isdisjoint(self._absent):
            if (listed := await self._look_at_few(ids)) is not None:
                return listed
        is_resting = self._listing.is_resting and (self._has_looked or self._listing.is_long)
        if is_resting and self._singles.odd(ids) == odd:
            if (listed := await self._look_at_some(ids)) is not None:
                return listed
        began = self._clock()
        found = await self._listing.changes(numbers)
        listed = dict(self._listed) if found is None else await self._take(found)
        if found is None and not self._listing.is_long and not ids <= self._listed.keys():
            listed = await self._look()
        if self._listing.is_complete:
            self._listed_at = began
        self._absent = ids - listed.keys()
        return listed

    async def _look_at_some(self, ids: set[str]) -> dict[str, list[SlurmJob]] | None:
        """Return jobs as last seen, some of them asked for again; None if that is not enough.

        Those that Slurm has not listed yet wait in the queue, as far as is known: it has just
        accepted them.
        """
        followed = ids - self._absent
        new = followed - self._listed.keys()
        if any(one not in self._known or not self._is_new(one) for one in new):
            return None
        numbers = self._singles.numbers(followed, self._listed)
        if not numbers:
            await self._ping()  # if nothing answers, that is to be known
        elif await self._ask_for_each(numbers) is None:
            return None
        waiting = {one: [SlurmJob(self._known[one], "PENDING")] for one in new}
        return waiting | self._listed

    def _is_new(self, job_id: str) -> bool:
        """Return whether a job was submitted from here a moment ago."""
        return job_id in self._fresh or job_id in self._cancelled

    def put_first(self, job_ids: Collection[str]) -> None:
        """Ask for jobs with news before others where not all can be asked for at each look."""
        self._singles.put_first(job_ids)

    def _expect(self, spec: JobSpec) -> None:
        """Note which job is to be started; in doubt, by what it is recognised if it was sent."""
        self._identity.expect(spec.job_id)
        is_in_doubt = spec.job_id in self._lost and spec.job_id not in self._known
        if is_in_doubt and spec.recorded_at is not None:
            properties = job_properties(spec, self._hpc_for(spec.bucket))
            self._identity.note_sent(spec.job_id, properties, spec.recorded_at)

    async def _expect_others(self, specs: Sequence[JobSpec]) -> None:
        """Note the numbers of the other jobs, so that none is taken for one whose answer was lost.

        After a restart nothing else is known of those that have ended and that Slurm still lists.
        """
        spec = next((one for one in specs if one.job_id in self._lost), None)
        if spec is None:
            return
        try:
            refs = await spec.references()
        except Exception as error:
            logger.warning("slurm: the references of the jobs cannot be read: %s", error)
            raise ExecutorError("the record of the jobs cannot be read; see the log") from error
        for ref in filter(is_ours, refs):
            self._expect_ref(ref)

    def _expect_ref(self, ref: str) -> None:
        """Note what a reference says of a job."""
        number, job_id = parts(ref)
        if job_id:
            self._identity.expect(job_id, number, submitted_at(ref), submitter(ref))

    async def _look_at_few(self, ids: set[str]) -> dict[str, list[SlurmJob]] | None:
        """Ask for a few jobs one by one, now and then for all; None if that will not do."""
        if not 0 < len(ids) <= FEW or not (self._listing.is_recent or self._listing.is_resting):
            return None
        known = {one: self._known[one] for one in ids if one in self._known}
        if len(known) < len(ids) or {shards_id(one) for one in ids} & self._known.keys():
            return None
        if any(len(self._listed.get(one, [])) > 1 for one in ids):
            return None
        return await self._ask_for_each(known)

    async def _ask_for_each(self, known: Mapping[str, int]) -> dict[str, list[SlurmJob]] | None:
        """Ask for jobs one by one, by their numbers; None if one is not what it was."""
        found = await self._listing.each(known, self._identity.id_of)
        if odd := known.keys() - found.keys():
            self._singles.note_odd(odd)
            return None
        listed = {one: [self._identity.see(one, job) for job in found[one]] for one in found}
        self._listed |= listed
        self._fresh.see(listed)
        self._past.see(listed)
        return listed

    def _recent(self, job_id: str, number: int) -> SlurmJob | None:
        """Return a job as it was at most a minute ago; None if that is not known."""
        jobs = self._listed.get(job_id, []) if self._listing.is_recent else []
        return next((job for job in jobs if job.job_id == number), None)

    async def _look(self) -> dict[str, list[SlurmJob]]:
        """Ask for all jobs and remember ours, by our own ids."""
        return await self._take(await self._listing.all())

    async def _look_if_changed(self) -> dict[str, list[SlurmJob]]:
        """Ask for all jobs, as `_look` does, unless Slurm says that none has changed."""
        found = await self._listing.changes()
        return dict(self._listed) if found is None else await self._take(found)

    async def _take(self, found: Sequence[SlurmJob]) -> dict[str, list[SlurmJob]]:
        """Remember our jobs of a list, by our own ids."""
        listed, found = self._identity.sort(found, self._listing.is_complete)
        self._unclear = self._identity.unclear(found, listed)
        self._others = self._picked.among(found)
        for job_id, jobs in listed.items():
            self._lost.pop(job_id, None)
            self._inherited.discard(job_id)
            numbers = {array_number(job) for job in jobs}
            if len(numbers) > 1 or self._known.get(job_id) not in numbers:
                remember(self._known, job_id, min(numbers))
        self._fresh.see(listed)
        self._fresh.see({job_id: [job] for job_id, job in self._unclear.items()})
        self._past.see(listed)
        self._has_looked = self._has_looked or self._listing.is_complete
        self._singles.see(listed)
        self._listed = listed
        for job_id in self._withdrawn.keys() & listed.keys():  # it turned up after all
            try:
                await self._arrays.end(listed[job_id])
            except ExecutorError as error:  # the other jobs are none the worse for it
                logger.warning("slurm: %s was cancelled, and came late: %s", job_id, error)
        return dict(listed)

    async def _forget_arrays(self, gone: set[str]) -> None:
        """Forget arrays with which the controller did not come back, so that they are sent again.

        Their last jobs are not submitted yet: they would wait for something that there is not.
        """
        if lost := await self._fresh.unstarted(gone):
            logger.warning("slurm: the cluster lost %d arrays of shards", len(lost))
            for array in lost:
                self._known.pop(array, None)
                self._fresh.note_again(array)

    async def _look_at(self, job_id: str) -> list[SlurmJob]:
        """Ask for one of our jobs."""
        return (await self._look()).get(job_id, [])

    async def _give_again(
        self, gone: Sequence[str], listed: Mapping[str, Any]
    ) -> dict[str, list[SlurmJob]]:
        """Submit jobs again with which the controller did not come back; none that ever began."""
        if not gone:
            return {}
        numbers = {one: self._known.get(one) for one in gone}
        async with self._giving_again:
            taken = {  # another look was faster
                one: self._known[one]
                for one in gone
                if one in self._known and self._known[one] != numbers[one]
            }
            given = {one: [_lost_job(number)] for one, number in taken.items()}
            wanted = set(gone) - taken.keys()
            arrays = {shards_id(one) for one in wanted} - listed.keys() - self._unclear.keys()
            arrays = {one for one in arrays if not self._is_hidden(one)}
            lost = await self._fresh.unstarted(wanted | (arrays & self._known.keys()))
            specs = [self._fresh.spec(one) for one in gone if one in wanted & lost]
            found = await self._send_again(specs, lost)
        for one in found:
            if one.again or one.ref:
                given[one.job_id] = [_lost_job(self._known.get(one.job_id, 0))]
        if given:
            logger.warning("slurm: the cluster lost %d jobs; they are submitted again", len(given))
        return given

    async def _send_again(self, specs: Sequence[JobSpec], lost: set[str]) -> list[Started]:
        """Submit jobs again, with their arrays of shards if those are lost as well."""
        halt = _Halt()
        specs = [replace(spec, is_wanted=lambda: True) for spec in specs]
        former: dict[str, int] = {}
        for spec in specs:
            again = {spec.job_id, shards_id(spec.job_id)} & lost & self._known.keys()
            former |= {one: self._known.pop(one) for one in again}
        found = await asyncio.gather(*(self._hand(spec, halt) for spec in specs))
        for job_id, number in former.items():  # what could not be sent is looked for as before
            if self._known.setdefault(job_id, number) != number:
                self._fresh.note_again(job_id)
        for one in found:
            if one.job_id in self._cancelled:  # while it was on its way
                await self._cancel_late(one)
            if one.again:
                self._fresh.renew(one.job_id)
                self._fresh.renew(shards_id(one.job_id))
            elif not one.ref:
                self._fresh.discard(one.job_id, shards_id(one.job_id))
                reason = _REFUSED_AGAIN.format(one.error)
                remember(self._refused_again, one.job_id, reason)
                logger.warning("slurm: job %s: %s", one.job_id, reason)
        return found

    async def _cancel_late(self, started: Started) -> None:
        """Cancel a job that was cancelled while it was submitted again, now or when it turns up."""
        remember(self._withdrawn, started.job_id, None)
        if started.ref:
            try:
                await self.cancel(started.ref)
            except ExecutorError as error:  # the other jobs are none the worse for it
                logger.warning("slurm: %s cannot be cancelled yet: %s", started.job_id, error)

    async def _look_for(self, found: list[Started]) -> list[Started]:
        """Look for jobs whose answers were lost."""
        try:
            await self._look()
        except ExecutorError as error:
            logger.warning("slurm: cannot look for jobs whose answers were lost: %s", error)
        return [
            (
                self._started(one.job_id, self._known[one.job_id])
                if one.again and one.job_id in self._known
                else one
            )
            for one in found
        ]

    async def _end_duplicates(self, refs: Iterable[str], listed: Listed) -> None:
        """Cancel what was sent twice after all; the script of the second would do nothing."""
        for job_id in {parts(ref)[1] for ref in refs}:
            jobs = listed.get(job_id, [])
            if len(jobs) < 2:
                continue
            try:
                claimed = await self._files.read(partial(self._folder.claim, job_id))
                _, surplus = choose_duplicate(jobs, claimed, self._known[job_id])
                await self._arrays.end(surplus)
            except ExecutorError as error:  # the other jobs are none the worse for it
                logger.warning("slurm: job %s was sent twice: %s", job_id, error)

    async def _hand(self, spec: JobSpec, halt: "_Halt") -> Started:
        """Submit a job; one that is cut as an array of shards and a last job after them."""
        array = shards_id(spec.job_id)
        if spec.job_id in self._known or not (is_cut(spec, self._hpc) or array in self._known):
            return await self._once(spec, halt)
        shards = await self._once(array_of(spec, self._hpc), halt)
        if shards.ref is None:
            return replace(shards, job_id=spec.job_id)
        last = await self._once(last_of(spec, self._hpc, self._known.get(array)), halt)
        if last.ref is None and not last.again:
            await self._drop(array)
        return replace(last, in_doubt=last.ref is None and last.again)

    async def _drop(self, array: str) -> None:
        """Cancel shards that no last job will ever complete."""
        try:
            await self._arrays.cancel(lambda: self._look_at(array))
        except ExecutorError as error:
            logger.warning("slurm: %s cannot be cancelled: %s", array, error)

    async def _once(self, spec: JobSpec, halt: "_Halt") -> Started:
        """Submit a job, unless it was, or is being submitted."""
        task = self._under_way.get(spec.job_id)
        if task is None:
            task = asyncio.create_task(self._submit(spec, halt))
            self._under_way[spec.job_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(spec.job_id))
        return await asyncio.shield(task)

    async def _submit(self, spec: JobSpec, halt: "_Halt") -> Started:
        """Submit a job, unless it is known or may still turn up."""
        job_id = spec.job_id
        try:
            check_id(job_id)
        except ExecutorError as error:
            return Started(job_id, error=str(error))
        async with self._turns:
            if job_id in self._known:
                self._fresh.add_unseen(spec, self._known[job_id])
                return self._started(job_id, self._known[job_id])
            if job_id not in self._lost and (reason := self._backoff.reason(job_id)):
                return Started(job_id, error=reason, again=True)
            try:
                number = await self._files.read(partial(self._folder.claim, job_id))
            except ExecutorError as error:
                return Started(job_id, error=str(error), again=True, in_doubt=job_id in self._lost)
            if number is not None:
                return self._started(job_id, number)
            if halt.reason:
                if self._backoff.is_active:
                    self._backoff.hold(job_id)
                is_in_doubt = job_id in self._lost
                return Started(job_id, error=halt.reason, again=True, in_doubt=is_in_doubt)
            if job_id in self._lost and (started := await self._doubt(spec)):
                return started
            hpc = await self._checks.fit(self._hpc_for(spec.bucket), spec)
            if not spec.is_wanted():
                return Started(job_id, error=CANCELLED_BEFORE, again=True)
            return await self._send(spec, hpc, halt)

    async def _doubt(self, spec: JobSpec) -> Started | None:
        """Say what is known of a job whose answer was lost; None if it surely has to be sent."""
        job_id, reason = spec.job_id, ""
        if self._clock() < self._lost[job_id]:
            reason = "the cluster's answer was lost; whether it has the job shows in a moment"
        elif self._listing.may_hide(self._lost[job_id] - self._settle):
            reason = _HIDDEN
        elif job := self._identity.possible(job_id):
            reason = _UNCLEAR.format(number=job.job_id, name=redact(job.name), action=_WAITED_FOR)
        else:
            reports = self._brings_events and not spec.script
            has_listened = job_id not in self._inherited
            try:
                number = await self._fresh.number_if_begun(spec, reports, has_listened)
            except ExecutorError as error:
                reason = str(error)
            else:
                if number is not None:
                    return self._started(job_id, number)  # it began, and Slurm has forgotten it
                self._inherited.discard(job_id)
        return Started(job_id, error=reason, again=True, in_doubt=True) if reason else None

    async def _send(self, spec: JobSpec, hpc: HpcSettings, halt: "_Halt") -> Started:
        """Send a job, and say what became of it."""
        job_id = spec.job_id
        if job_id in self._known:  # it turned up while its files were read
            return self._started(job_id, self._known[job_id])
        submission = submission_of(spec, hpc, self._environment | self._callback_environment(spec))
        self._identity.note_sent(job_id, submission.properties, datetime.now(UTC))
        self._listing.expire()
        self._absent.discard(job_id)
        self._singles.note_sent(job_id)
        try:
            self._guard()
            answer = await self._client.submit(submission)
        except Unconfirmed as error:
            self._listing.doubt()
            return await self._look_for_unconfirmed(spec, halt, error)
        except (SlurmError, LeaseLostError) as error:
            return self._unsent(spec, halt, error)
        self._listing.drop(answer.slurm_id)
        self._lost.pop(job_id, None)
        self._backoff.note_success(job_id)
        self._checks.note_sent(spec, hpc)
        self._fresh.add(spec, answer.slurm_id)
        remember(self._known, job_id, answer.slurm_id)
        sent = submission.properties
        self._identity.note_sent(job_id, sent, datetime.now(UTC), answer.slurm_id)
        return self._started(job_id, answer.slurm_id, answer.raw)

    def _callback_environment(self, spec: JobSpec) -> dict[str, str]:
        """Return how a job reaches the service; shards only ask whether their job is cancelled."""
        if self._callbacks is None:
            return {}
        if isinstance(spec, ArraySpec) and spec.whole is not None:
            return self._callbacks.cancel_environment(spec.whole.job_id)
        return self._callbacks.environment(spec.job_id)

    def _unsent(self, spec: JobSpec, halt: "_Halt", error: ExecutorError) -> Started:
        """Say what becomes of a job that got no number."""
        job_id, reason = spec.job_id, str(error)
        if not isinstance(error, AnswerLost):
            self._identity.note_unsent(job_id)
        if isinstance(error, Refused) and not isinstance(error, Busy):
            self._backoff.forget(job_id)
            return Started(job_id, error=reason, answer=error.answer)
        halt.reason = reason
        if isinstance(error, AnswerLost):
            self._listing.doubt()
            self._lost[job_id] = self._clock() + self._settle
            self._fresh.add(spec)
            return Started(job_id, error=reason, again=True, in_doubt=True)
        if isinstance(error, Busy):
            self._lost.pop(job_id, None)
            self._backoff.note_refusal(job_id, reason)
        return Started(job_id, error=reason, again=True)

    async def _look_for_unconfirmed(
        self, spec: JobSpec, halt: "_Halt", error: Unconfirmed
    ) -> Started:
        """Look for a job of which Slurm complained, but which it may have accepted."""
        job_id = spec.job_id
        lost = AnswerLost(f"{error}; it may have been carried out all the same")
        try:
            await self._look()
        except ExecutorError as failure:
            logger.warning("slurm: cannot look for job %s: %s", job_id, failure)
            return self._unsent(spec, halt, lost)
        if job_id in self._known:
            self._backoff.note_success(job_id)
            self._fresh.add_unseen(spec, self._known[job_id])
            return self._started(job_id, self._known[job_id], error.answer)
        if not isinstance(error.meaning, Refused):
            return self._unsent(spec, halt, lost)
        started = self._unsent(spec, halt, error.meaning)
        if not started.again:  # should it turn up all the same, it is cancelled
            remember(self._withdrawn, job_id, None)
        return started

    @staticmethod
    def _started(job_id: str, number: int, answer: Mapping[str, Any] | None = None) -> Started:
        """Say as what a job was taken; the number is zero if it is not known."""
        return Started(
            job_id, f"{number}:{job_id}", answer={**(answer or {}), "slurm_job_id": number}
        )


def _lost_job(number: int) -> SlurmJob:
    """Compose what stands for a job that is submitted again until Slurm lists it."""
    return SlurmJob(number, "PENDING", reason=LOST_BY_CLUSTER)


def _submits_as(hpc: HpcSettings) -> str:
    """Return whose jobs ours are; empty if the site or a job may name another user."""
    is_named = "user_id" in hpc.default_properties or "user_id" in (hpc.user_settings or ())
    return "" if is_named else hpc.username or ""
