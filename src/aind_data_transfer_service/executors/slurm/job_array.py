"""A job that is cut into shards: an array, and a last job that runs when the array has ended.

The array has an id of its own, `<id>.shards`, and is submitted, marked, found and given again as
any job is. Which job is cut, and into how many shards, stands in the marks of both.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.job_files import FileReads
from aind_data_transfer_service.executors.slurm.batch_script import (
    ENDINGS,
    compose_environment,
    compose_script,
    job_file,
)
from aind_data_transfer_service.executors.slurm.job_properties import (
    job_properties,
    mark_of,
    pattern,
)
from aind_data_transfer_service.executors.slurm.log_directory import LogFolder
from aind_data_transfer_service.executors.slurm.partition_limits import exclusive_memory
from aind_data_transfer_service.executors.slurm.states import has_begun
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import Refused
from aind_data_transfer_service.slurmrest.models import SlurmJob, Submission

logger = logging.getLogger(__name__)

SHARDS = ".shards"
"""How the id of an array ends."""


@dataclass(frozen=True)
class ArraySpec(JobSpec):
    """The shards of a job, as an executor runs them."""

    shards: int = 0
    whole: JobSpec | None = None
    """The job that is cut."""


@dataclass(frozen=True)
class LastSpec(JobSpec):
    """The job that completes what shards began; it bears the id of the whole."""

    shards: int = 0
    after: int | None = None
    """Slurm's number of the array; None where that has ended and is forgotten."""


def shards_id(job_id: str) -> str:
    """Name the array of a job."""
    return f"{job_id}{SHARDS}"


def shard_id(job_id: str, shard: int) -> str:
    """Return how the names of a shard's files begin."""
    return f"{shards_id(job_id)}.{shard}"


def is_cut(spec: JobSpec, hpc: HpcSettings) -> bool:
    """Tell whether a job is to be cut; a script of the user's own never is."""
    return hpc.shards > 1 and not spec.script


def array_of(spec: JobSpec, hpc: HpcSettings) -> ArraySpec:
    """Compose the array of a job."""
    whole = JobSpec(**_common(spec))
    common = _common(spec) | {"job_id": shards_id(spec.job_id)}
    return ArraySpec(**common, shards=hpc.shards, whole=whole)


def last_of(spec: JobSpec, hpc: HpcSettings, after: int | None) -> LastSpec:
    """Compose the last job of one that is cut."""
    return LastSpec(**_common(spec), shards=hpc.shards, after=after)


def _common(spec: JobSpec) -> dict[str, Any]:
    """Take what all kinds of jobs have."""
    return {one.name: getattr(spec, one.name) for one in fields(JobSpec)}


def submission_of(spec: JobSpec, hpc: HpcSettings, agreed: dict[str, str]) -> Submission:
    """Write down a job, an array of shards, or the last job after them."""
    if isinstance(spec, ArraySpec) and spec.whole is not None:
        return _array_submission(spec, spec.whole, hpc, agreed)
    properties = job_properties(spec, hpc)
    if isinstance(spec, LastSpec):
        properties = _after(spec, properties)
        agreed = agreed | {"UPLOAD_SHARDS_DONE": str(spec.shards)}
    environment = compose_environment(spec, hpc, agreed)
    script = compose_script(spec, hpc, time_limit=properties.get("time_limit"))
    return Submission(script, properties, environment)


def _array_submission(
    spec: ArraySpec, whole: JobSpec, hpc: HpcSettings, agreed: dict[str, str]
) -> Submission:
    """Compose an array: each task has files of its own and a node of its own, and sends no mail.

    Nothing but `exclusive` keeps Slurm from starting tasks of one array on the same node.
    `spread_job` spreads the tasks of one job, and each task of an array is a job.
    """
    properties = job_properties(spec, hpc)
    base = pattern(job_file(hpc.logging_directory, spec.job_id, ""))
    properties |= {
        "array": f"1-{spec.shards}",
        "standard_out": f"{base}.%a{ENDINGS['stdout']}",
        "standard_error": f"{base}.%a{ENDINGS['stderr']}",
        "comment": mark_of(spec.job_id, spec.shards),
    }
    for name in ("mail_type", "mail_user"):
        properties.pop(name, None)
    if hpc.shards_exclusive and "exclusive" not in properties:
        properties = _exclusive(properties)
    if hpc.shard_bytes:
        agreed = agreed | {"UPLOAD_SHARD_BYTES": str(hpc.shard_bytes)}
    environment = compose_environment(whole, hpc, agreed)
    script = compose_script(spec, hpc, spec.shards, properties.get("time_limit"))
    return Submission(script, properties, environment)


def _exclusive(properties: dict[str, Any]) -> dict[str, Any]:
    """Ask for a node of its own, with the memory that a task would get without.

    For an exclusive job Slurm counts `memory_per_cpu` for each CPU of the node.
    """
    kept = {name: value for name, value in properties.items() if name != "memory_per_cpu"}
    if (megabytes := exclusive_memory(properties)) is not None:
        kept["memory_per_node"] = megabytes
    return kept | {"exclusive": "true"}


def _after(spec: LastSpec, properties: dict[str, Any]) -> dict[str, Any]:
    """Have the last job wait for the array, and for nothing that the array has waited for."""
    mark = mark_of(spec.job_id)
    comment = properties["comment"].replace(mark, mark_of(spec.job_id, spec.shards), 1)
    for name in ("begin_time", "dependency", "hold"):
        properties.pop(name, None)
    waits = {"dependency": f"afterany:{spec.after}"} if spec.after else {}
    return properties | {"comment": comment} | waits


def array_number(job: SlurmJob) -> int:
    """Give the number by which Slurm knows a job, or the array that it is part of."""
    return job.array_job_id or job.job_id


def choose_duplicate(
    jobs: Sequence[SlurmJob], claimed: int | None, known: int
) -> tuple[int, list[SlurmJob]]:
    """Decide which submission counts of a job, or of an array, that was sent more than once.

    If the service sees no claim, the folder of logs may not be mounted here. What has begun is
    never cancelled then: it may have left its claim.

    Parameters
    ----------
    jobs : sequence of SlurmJob
        What Slurm lists of them.
    claimed : int | None
        Slurm's number of the one that does the work, if that is known.
    known : int
        Slurm's number of the one that is followed.

    Returns
    -------
    tuple[int, list[SlurmJob]]
        Slurm's number of the one that counts, and the jobs that have no use.
    """
    begun = sorted({array_number(job) for job in jobs if has_begun(job)})
    if claimed or not begun:
        number = claimed or known
        return number, [job for job in jobs if array_number(job) != number]
    number = known if known in begun else begun[0]
    return number, [job for job in jobs if array_number(job) not in begun]


def was_cancelled(tasks: Sequence[SlurmJob]) -> bool:
    """Tell whether an array was cancelled as a whole, or all that was left of it.

    One shard of several that was cancelled is a shard that failed, and the last job does its part.
    """
    ends = Counter(task.state for task in tasks if task.has_ended)
    is_over = all(task.has_ended for task in tasks)
    unsent = [task for task in tasks if task.state == "CANCELLED" and not task.array_task_id]
    return is_over and (ends["CANCELLED"] > 1 or bool(unsent) or len(tasks) == ends["CANCELLED"])


class ArrayKeeper:
    """Sees to it that of an array and its last job neither goes on when the other is over.

    Parameters
    ----------
    client : SlurmClient
        Who speaks to slurmrestd.
    folder : LogFolder
        Where it stands which array does the work, should there be two.
    files : FileReads
        By which that is read.
    """

    def __init__(self, client: SlurmClient, folder: LogFolder, files: FileReads):
        self._client, self._folder, self._files = client, folder, files
        self._refused: set[int] = set()

    async def mind(
        self, job_id: str, tasks: Sequence[SlurmJob], last: Sequence[SlurmJob], known: int
    ) -> None:
        """Cancel what has no use any more.

        Parameters
        ----------
        job_id : str
            The id of the whole.
        tasks, last : sequence of SlurmJob
            What Slurm lists of the array, and as the last job.
        known : int
            Slurm's number of the array, as far as is known.
        """
        tasks = await self._end_others(job_id, tasks, known)
        if last and all(job.has_ended for job in last):
            await self.end(tasks)
        elif last and was_cancelled(tasks):
            logger.warning("slurm: the shards of job %s were cancelled", job_id)
            await self.end(last)

    async def cancel(self, look: Callable[[], Awaitable[Sequence[SlurmJob]]]) -> None:
        """Cancel every shard of a job, those too that begin meanwhile; `look` lists them."""
        asked: set[int] = set()
        while left := _numbers(await look()) - asked:
            for number in left:
                await self._client.cancel(number)
            asked |= left

    async def end(self, jobs: Iterable[SlurmJob]) -> None:
        """Cancel what has no use; what Slurm refuses to cancel is left, and said once."""
        for number in _numbers(jobs) - self._refused:
            try:
                await self._client.cancel(number)
                logger.warning("slurm: job %d has no use any more; cancelled", number)
            except Refused as error:  # somebody else's, say: the other jobs are followed on
                self._refused.add(number)
                logger.warning("slurm: job %d cannot be cancelled: %s", number, error)

    async def _end_others(
        self, job_id: str, tasks: Sequence[SlurmJob], known: int
    ) -> Sequence[SlurmJob]:
        """Cancel what of an array was sent twice after all, and give the tasks that count."""
        if len({array_number(task) for task in tasks}) < 2:
            return tasks
        claimed = await self._files.read(lambda: self._folder.claim(shards_id(job_id)))
        number, surplus = choose_duplicate(tasks, claimed, known)
        if any(not task.has_ended for task in surplus):
            logger.warning("slurm: the shards of job %s came twice; array %d stays", job_id, number)
        await self.end(surplus)
        return [task for task in tasks if array_number(task) == number]


def _numbers(jobs: Iterable[SlurmJob]) -> set[int]:
    """Return the numbers by which jobs that have not ended are cancelled.

    Tasks are cancelled together, by the number of their array: Slurm 22.05 does not find a running
    task by its own number.
    """
    return {array_number(job) for job in jobs if not job.has_ended}
