"""Figures and states as a person reads them; the pages' scripts say the same in `format.js`."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from aind_data_transfer_service.formatting import duration, number, size
from aind_data_transfer_service.jobs.states import ENDED, JobState


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


def may_retry(job: Mapping[str, Any], step: str) -> bool:
    """Tell whether a person may have a step after the upload done once more."""
    return job["state"] == JobState.COMPLETED and job[step] in ("FAILED", "WAITING")


def state_name(state: str) -> str:
    """Write a state as a word in a sentence."""
    return state.capitalize()


def progress_words(job: Mapping[str, Any]) -> str:
    """Write how far a job is: bytes, files, rate, time left.

    Such as `171 GB of 402 GB · 812 of 2,004 files · 356 MB/s · 10 min 49 s left`.
    """
    if not job.get("files_total"):
        return ""
    if job["state"] == JobState.COMPLETED:
        return _lines([size(job["bytes_total"]), _files(job["files_total"])])
    parts = [
        f"{size(job['bytes_done'] or 0)} of {size(job['bytes_total'])}",
        f"{number(job['files_done'] or 0)} of {_files(job['files_total'])}",
    ]
    if job["state"] == JobState.RUNNING:
        if job.get("bytes_per_second"):
            parts.append(f"{size(job['bytes_per_second'])}/s")
        if job.get("seconds_left") is not None:
            parts.append(f"{duration(job['seconds_left'])} left")
    return _lines(parts)


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
    """Say what the figures of a job's progress mean in its state."""
    if state == JobState.COMPLETED:
        return "Arrived and verified"
    return "How far it came" if is_ended(state) else "Progress"


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


def _files(count: int) -> str:
    """Write a number of files."""
    return f"{number(count)} {'file' if count == 1 else 'files'}"


def _lines(parts: list[str]) -> str:
    """Join parts so that a line breaks between them, never within one."""
    return " · ".join(part.replace(" ", "\u00a0") for part in parts)
