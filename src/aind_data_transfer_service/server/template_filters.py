"""Figures and states as a person reads them."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from aind_data_transfer_service.formatting import duration, number, size
from aind_data_transfer_service.jobs.states import ENDED, JobState

MOST_SHOWN = 128 * 1024
"""Characters of a job's settings on its page."""
LIMIT_LABELS = {
    "time_limit": "Time limit (minutes)",
    "memory_per_cpu": "Memory (MB per CPU)",
    "memory_per_gpu": "Memory (MB per GPU)",
    "memory_per_node": "Memory (MB per node; 0 is the whole node)",
}


class Problem(NamedTuple):
    """An error of a file of jobs, with its place taken apart."""

    row: int | None
    column: str
    text: str


_PLACE = re.compile(r"row (\d+)(?:, ([^:]+))?: (.*)", re.DOTALL)


def problem(error: str) -> Problem:
    """Take a message apart into row, column and text.

    Examples
    --------
    >>> problem('row 17, modality1: unknown modality "ecefys"')
    Problem(row=17, column='modality1', text='unknown modality "ecefys"')
    >>> problem("the file holds no jobs")
    Problem(row=None, column='', text='the file holds no jobs')
    """
    if match := _PLACE.fullmatch(error):
        return Problem(int(match[1]), match[2] or "", match[3])
    return Problem(None, "", error)


def place(executor: str, ref: str) -> str:
    """Say who runs a job.

    Examples
    --------
    >>> place("slurm", "1234:2n11ca3ggp3n"), place("local", "2n11ca3ggp3n"), place("", "")
    ('Slurm, as its job 1234', 'local', '–')
    """
    if executor == "slurm" and ref:
        return f"Slurm, as its job {ref.partition(':')[0]}"
    return executor or "–"


def without_label(text: str) -> str:
    """Leave out which job of a request a message is about, where a page is about that job.

    Examples
    --------
    >>> without_label("job 2, metadata_dir: does not exist")
    'metadata_dir: does not exist'
    """
    return _LABEL.sub("", text)


_LABEL = re.compile(r"\A(?:job|row) \d+(?:, |: )")


def token_words(ends: datetime | None, now: datetime) -> str:
    """Say how long the token for the cluster lasts; empty where it does not tell.

    Examples
    --------
    >>> now = datetime(2024, 2, 19, 12, tzinfo=timezone.utc)
    >>> token_words(now.replace(hour=14, minute=3), now), token_words(now.replace(hour=11), now)
    ('2 h 3 min left', 'ran out 1 h ago')
    """
    if ends is None:
        return ""
    left = (ends - now).total_seconds()
    return f"{duration(left)} left" if left > 0 else f"ran out {duration(-left)} ago"


def utc(moment: str | datetime | None) -> str:
    """Write a moment in UTC, for readers whose browser runs no scripts."""
    if not moment:
        return "–"
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def is_ended(state: str) -> bool:
    """Tell whether nothing more will happen to a job."""
    return JobState(state) in ENDED


def can_retry(job: Mapping[str, Any], step: str) -> bool:
    """Return whether a person can have a step after the upload done once more."""
    return job["state"] == JobState.COMPLETED and job[step] in ("FAILED", "WAITING")


def state_name(state: str) -> str:
    """Write a state as a word in a sentence."""
    return state.capitalize()


def progress_text(job: Mapping[str, Any]) -> str:
    """Write how far a job is: bytes, files, rate, time left.

    Such as `171 GB of 402 GB · 812 of 2,004 files · 356 MB/s · 10 min 49 s left`; before there are
    figures, the job's step, or that it waits.
    """
    if not job.get("files_total"):
        if job["state"] == JobState.RUNNING:
            return f"Step: {job['step']}" if job.get("step") else ""
        return "" if is_ended(job["state"]) else "Waiting for its turn"
    if job["state"] == JobState.COMPLETED:
        return _lines([size(job["bytes_total"]), plural(job["files_total"], "file")])
    parts = [
        f"{size(job['bytes_done'] or 0)} of {size(job['bytes_total'])}",
        f"{number(job['files_done'] or 0)} of {plural(job['files_total'], 'file')}",
    ]
    if job["state"] == JobState.RUNNING:
        if job.get("bytes_per_second"):
            parts.append(f"{size(job['bytes_per_second'])}/s")
        if job.get("seconds_left") is not None:
            parts.append(f"{duration(job['seconds_left'])} left")
    return _lines(parts)


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one moment to another, both in ISO 8601; not less than 0."""
    taken = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return max(0.0, taken.total_seconds())


def share(job: Mapping[str, Any]) -> float | None:
    """Tell how much of a job's bytes have arrived, from 0 to 1."""
    if not job.get("files_total"):
        return None
    if job.get("bytes_total"):
        part: float = (job["bytes_done"] or 0) / job["bytes_total"]
    else:
        part = (job["files_done"] or 0) / job["files_total"]
    return min(1.0, part)


def progress_heading(state: str) -> str:
    """Return the heading of a job's progress in its state."""
    return _PROGRESS_HEADINGS.get(JobState(state), "Progress")


_PROGRESS_HEADINGS = {
    JobState.COMPLETED: "Arrived and verified",
    JobState.FAILED: "Progress before failure",
    JobState.TIMEOUT: "Progress before failure",
    JobState.CANCELLED: "Progress before cancellation",
    JobState.UNKNOWN: "Last known progress",
}


def timeline(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make the entries of a job's timeline: a step that has ended is one entry, with its seconds.

    Parameters
    ----------
    events : Sequence[Mapping[str, Any]]
        Events as `event_to_json` writes them, in their order.
    """
    entries: list[dict[str, Any]] = []
    begun: dict[str, dict[str, Any]] = {}
    for event in events:
        entry = {**event, "seconds": None}
        if event["kind"] == "start":
            begun[event["step"]] = entry
        elif event["kind"] in ("end", "fail") and (start := begun.pop(event["step"], None)):
            taken = datetime.fromisoformat(event["time"]) - datetime.fromisoformat(start["time"])
            entry["seconds"] = taken.total_seconds()
            start["is_over"] = True
        entries.append(entry)
    return [entry for entry in entries if not entry.pop("is_over", False)]


def log_note(size_of_log: int, begin: int) -> str:
    """Return how much of a log is shown, from a byte on.

    Examples
    --------
    >>> log_note(0, 0), log_note(1500, 0), log_note(1_000_000, 738_000)
    ('Nothing has been written yet.', '1.50 kB in all.', 'The last 262 kB of 1.00 MB.')
    """
    if not size_of_log:
        return "Nothing has been written yet."
    if begin:
        return f"The last {size(size_of_log - begin)} of {size(size_of_log)}."
    return f"{size(size_of_log)} in all."


def verbatim(text: str) -> Markup:
    """Escape a text so that a browser keeps its carriage returns, too.

    Examples
    --------
    >>> verbatim("10 %\\r<b>")
    Markup('10 %&#13;&lt;b&gt;')
    """
    return escape(text).replace("\r", Markup("&#13;"))


def pretty_json(text: str) -> str:
    """Indent JSON text; text that is not JSON, or has too many lines, is not changed."""
    try:
        lines = json.dumps(json.loads(text), indent=2, ensure_ascii=False) if text else ""
    except (ValueError, RecursionError):
        lines = text
    shown = lines if len(lines) <= MOST_SHOWN else text
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"


def plural(count: int, one: str, many: str = "") -> str:
    """Write a number of things.

    Examples
    --------
    >>> plural(1, "row"), plural(1200, "row"), plural(2, "job is", "jobs are")
    ('1 row', '1,200 rows', '2 jobs are')
    """
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def briefly(seconds: float | None) -> str:
    """Write a few seconds; nothing where they are not known.

    Examples
    --------
    >>> briefly(0.012), briefly(3.14159), briefly(None)
    ('< 0.1 s', '3.1 s', '')
    """
    if seconds is None:
        return ""
    return "< 0.1 s" if seconds < 0.05 else f"{seconds:.1f} s"


def documents(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the documents of an asset as its job told of them last.

    Parameters
    ----------
    events : Sequence[Mapping[str, Any]]
        Events as `event_to_json` writes them, in their order.
    """
    told = [rows for event in events if (rows := event["figures"].get("documents"))]
    return told[-1] if told else []


def _lines(parts: list[str]) -> str:
    """Join parts so that a line breaks between them, never within one."""
    return " · ".join(part.replace(" ", "\u00a0") for part in parts)
