"""How a job stands that is cut into shards: each of them, and the whole."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import EndRecord, RunState, RunStatus
from aind_data_transfer_service.executors.slurm.job_array import shard_id, shards_id
from aind_data_transfer_service.executors.slurm.log_directory import LogFolder
from aind_data_transfer_service.executors.slurm.states import doubted, run_status
from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.slurmrest.models import SlurmJob

_COUNTED = ("files_done", "files_total", "bytes_done", "bytes_total", "bytes_per_second")
_LARGEST = 2**62
_LAST_EVENTS = 4096
_NAMED = 5
_LONGEST = 200
_LAST_OF_ALL = "a last job sends what they left and verifies the whole"


def whole_status(
    last: RunStatus,
    job_id: str,
    shards: int,
    tasks: Sequence[SlurmJob],
    folder: LogFolder,
    cancelled: bool = False,
) -> RunStatus:
    """Say how a job stands that is cut into shards; from when its last job runs, that counts.

    It began with the first of its shards, as long as that is known.

    Parameters
    ----------
    last : RunStatus
        How the last job stands.
    job_id : str
        The id of the whole.
    shards : int
        How many there are.
    tasks : sequence of SlurmJob
        What Slurm lists of the array.
    folder : LogFolder
        Where shards leave word.
    cancelled : bool
        Whether we asked for its end.
    """
    if last.state is not RunState.PENDING:
        starts = [task.started for task in tasks if task.started]
        return replace(last, started_at=min(starts, default=None))
    return with_shards(last, shard_statuses(job_id, shards, tasks, folder, cancelled), folder)


def shard_statuses(
    job_id: str, shards: int, tasks: Iterable[SlurmJob], folder: LogFolder, cancelled: bool = False
) -> list[RunStatus]:
    """Tell how each shard of a job stands, whether or not Slurm still lists it.

    Tasks of an array that wait are one record, without a number; a task that ended some time ago
    is known by what it left in the folder of logs.
    """
    by_number = {task.array_task_id or 0: task for task in tasks}
    rest = by_number.get(0)
    if rest is not None and rest.array_tasks_left == f"1-{shards}":  # none has left anything yet
        waiting = run_status(shards_id(job_id), rest, cancelled)
        return [replace(waiting, ref=f"{waiting.ref}.{n}") for n in range(1, shards + 1)]
    found = []
    for number in range(1, shards + 1):
        shard = shard_id(job_id, number)
        status = RunStatus(shard, RunState.LOST)
        if task := by_number.get(number):
            status = _listed_status(shard, task, folder, cancelled)
        else:
            status = folder.end(shard, shard)
            if status.state is RunState.LOST and rest is not None:
                status = run_status(shard, rest, cancelled)
        if status.state is RunState.FAILED and not status.reason:
            status = replace(status, reason=_failure(shard, folder))
        found.append(status)
    return found


def _listed_status(shard: str, task: SlurmJob, folder: LogFolder, cancelled: bool) -> RunStatus:
    """Say how a shard stands that Slurm lists; a success without a trace counts as unknown."""
    status = run_status(shard, task, cancelled)
    if status.state is RunState.COMPLETED:
        record = folder.record(shard, task.restarts)
        if record is EndRecord.MISSING:
            return replace(status, state=RunState.LOST, reason=doubted(record, task, folder.path))
    return status


def with_shards(last: RunStatus, shards: Sequence[RunStatus], folder: LogFolder) -> RunStatus:
    """Say how a job stands as a whole whose last job waits for its shards, or for its turn."""
    counts = Counter(shard.state for shard in shards)
    waiting, running = counts[RunState.PENDING], counts[RunState.RUNNING]
    why = next((one.reason for one in shards if one.state is RunState.PENDING), "")
    why = f" ({why})" if why else ""
    if waiting == len(shards):
        return replace(last, reason=f"{waiting} shards are pending{why}")
    done = counts[RunState.COMPLETED]
    words = [f"{done} of {len(shards)} shards done"]
    words += [f"{running} running"] if running else []
    words += [f"{waiting} pending{why}"] if waiting else []
    text = ", ".join(words) + _failed(shards)
    if not running + waiting:
        text += f"; the last job {last.reason}"
    started = min((one.started_at for one in shards if one.started_at), default=None)
    nodes = sorted({one.node for one in shards if one.node and one.state is RunState.RUNNING})
    return replace(
        last,
        state=RunState.RUNNING,
        reason=text,
        started_at=started,
        node=",".join(nodes),
        progress=_summed(shards, folder),
    )


def _failed(shards: Sequence[RunStatus]) -> str:
    """Name the shards that did not end well, and count those of which nobody knows."""
    ended_badly = (RunState.FAILED, RunState.TIMEOUT, RunState.CANCELLED)
    failed = []
    for number, one in enumerate(shards, 1):
        if one.state in ended_badly:
            why = one.reason.partition(";")[0] or f"exit code {one.exit_code}"
            failed.append(f"shard {number} {one.state.value.lower()} ({why})")
    text = ""
    if lost := sum(one.state is RunState.LOST for one in shards):
        text = f", {lost} without a word of how they ended"
        why = next((one.reason for one in shards if one.state is RunState.LOST and one.node), "")
        text += f" ({why})" if why else ""
    if failed:
        text += f"; {listed(failed, _NAMED, ', ')}: {_LAST_OF_ALL}"
    return text


def _summed(shards: Iterable[RunStatus], folder: LogFolder) -> dict[str, Any]:
    """Add up how far the shards are, by the last that each of them told."""
    sums: Counter[str] = Counter()
    asset = {"files_total": 0, "bytes_total": 0}
    for shard in shards:
        figures = _last_figures(shard.ref, folder)
        for name in _COUNTED:
            if name != "bytes_per_second" or shard.state is RunState.RUNNING:
                sums[name] += figures.get(name, 0)
        asset["files_total"] = max(asset["files_total"], figures.get("asset_files", 0))
        asset["bytes_total"] = max(asset["bytes_total"], figures.get("asset_bytes", 0))
    if not asset["files_total"]:
        return {}
    found: dict[str, Any] = {"step": "transfer"} | {name: sums[name] for name in _COUNTED} | asset
    rate, left = found["bytes_per_second"], found["bytes_total"] - found["bytes_done"]
    found["seconds_left"] = round(max(0, left) / rate, 1) if rate else None
    return found


def _last_figures(shard: str, folder: LogFolder) -> dict[str, int]:
    """Read the last progress that a shard has told."""
    figures = _last_event(shard, folder, "progress").get("figures")
    told = figures.items() if isinstance(figures, dict) else ()
    return {name: n for name, n in told if type(n) is int and 0 <= n < _LARGEST}


def _failure(shard: str, folder: LogFolder) -> str:
    """Read why a shard failed, in its own words, on one line."""
    message = _last_event(shard, folder, "fail").get("message")
    return on_a_line(message, _LONGEST) if isinstance(message, str) else ""


def _last_event(shard: str, folder: LogFolder, kind: str) -> dict[str, Any]:
    """Find the last event of a kind; whoever may write there may have made it up."""
    try:
        data = folder.read(shard, "events", -_LAST_EVENTS, _LAST_EVENTS).data
    except ExecutorError:
        return {}
    for line in reversed(data.splitlines()):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and event.get("kind") == kind:
            return event
    return {}
