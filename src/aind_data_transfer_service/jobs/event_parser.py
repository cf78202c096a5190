"""What a job tells of itself: its events, and the reason of its end. Pure."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.models import JobEvent, storable, utc_now
from aind_data_transfer_service.post_upload.states import POST_UPLOAD_STEPS, status_from_event

PROGRESS_FIGURES = (
    "files_done",
    "files_total",
    "bytes_done",
    "bytes_total",
    "bytes_per_second",
    "seconds_left",
)
PIECE = 256 * 1024
"""Bytes of events read at once; a longer line is no event."""
_COUNTS = frozenset(PROGRESS_FIGURES[:4])
_KINDS = frozenset({"start", "progress", "warning", "end", "fail"})
_LONGEST_MESSAGE = 4000
_LONGEST_REASON = 500
LONGEST_FIGURES = 64 * 1024
"""Of one event, in characters of JSON: the documents of an asset need less than half of it."""
_MOST_DOCUMENTS = 50
_MOST_TEXTS = 10
_LARGEST = 2**62
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]+")
_MEANINGS = {
    ExitCode.UNEXPECTED: "ended with an error that it did not foresee",
    ExitCode.REQUEST: "could not read its request",
    ExitCode.SOURCE: "found a source folder or file missing or unreadable",
    ExitCode.SOURCE_CHANGED: "found that a file changed while it was read",
    ExitCode.METADATA: "found the metadata missing or contradictory",
    ExitCode.DESTINATION: "could not reach or write the destination",
    ExitCode.DESTINATION_EXISTS: "found the asset at the destination already",
    ExitCode.TRANSFER: "could not send all bytes",
    ExitCode.VERIFICATION: "found that what arrived is not what was sent",
    ExitCode.TIME_LIMIT: "stopped before its time limit",
    126: "could not be run",
    127: "could not be found",
    ExitCode.CANCELLED: "was cancelled",
    ExitCode.TERMINATED: "was terminated by a signal (time limit, preemption or shutdown)",
}


@dataclass(frozen=True)
class Report:
    """What a piece of a job's file of events says.

    Attributes
    ----------
    events : tuple of JobEvent
        All but progress.
    values : dict
        The job's fields that follow from it: step and progress.
    consumed : int
        How many bytes have been dealt with; a line without its end is not.
    failure : str
        The message of the last event of kind `fail`.
    is_done : bool
        Whether the last event tells that the job did all it had to.
    is_proven : bool
        Whether the last event tells that the asset is whole, be there more to do or not.
    unreadable : int
        How many lines were no events.
    """

    events: tuple[JobEvent, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    consumed: int = 0
    failure: str = ""
    is_done: bool = False
    is_proven: bool = False
    unreadable: int = 0

    def __add__(self, later: "Report") -> "Report":
        """Put a later piece after this one."""
        has_news = bool(later.events or later.values)
        return Report(
            events=self.events + later.events,
            values=self.values | later.values,
            consumed=self.consumed + later.consumed,
            failure=later.failure or self.failure,
            is_done=later.is_done if has_news else self.is_done,
            is_proven=later.is_proven if has_news else self.is_proven,
            unreadable=self.unreadable + later.unreadable,
        )


def read_events(data: bytes, *, final: bool = False) -> Report:
    """Read lines of events.

    Parameters
    ----------
    data : bytes
        From the start of a line on.
    final : bool
        Whether the file has ended, so that a last line without its end is all that there will be.
    """
    end = len(data) if final else data.rfind(b"\n") + 1
    events: list[JobEvent] = []
    values: dict[str, Any] = {}
    failure, is_done, is_whole, unreadable = "", False, False, 0
    for line in data[:end].splitlines():
        if not line.strip():
            continue
        event = read_event(line)
        if event is None:
            unreadable += 1
            continue
        is_done, is_whole = ends_well(event), proves(event)
        values["step"] = event.step
        if event.kind == "progress":
            values.update(_progress(event))
            continue
        events.append(event)
        values.update(status_from_event(event.step, event.kind, event.figures))
        if event.kind == "fail":
            failure = event.message
    return Report(tuple(events), values, end, failure, is_done, is_whole, unreadable)


def read_event(line: bytes) -> JobEvent | None:
    """Read one line; None where it is no event."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    kind, step, message = (document.get(name, "") for name in ("kind", "step", "message"))
    if not all(isinstance(text, str) for text in (kind, step, message)) or kind not in _KINDS:
        return None
    figures = document.get("figures")
    return JobEvent(
        time=_moment(document.get("time")),
        step=storable(step[:100]),
        kind=kind,
        message=storable(message[:_LONGEST_MESSAGE]),
        figures=_bounded(_plain(figures)) if isinstance(figures, dict) else {},
    )


def ends_well(event: JobEvent) -> bool:
    """Tell whether an event says that the job did all it had to."""
    return event.step == "done" and event.kind == "end"


def proves(event: JobEvent) -> bool:
    """Tell whether an event comes only where the asset is whole."""
    return ends_well(event) or event.step in POST_UPLOAD_STEPS


def reason_of_end(status: RunStatus, failure: str, last_words: str) -> str:
    """Say in one line why a job ended as it did.

    Parameters
    ----------
    status : RunStatus
        The executor's word.
    failure : str
        The message of the job's last event of kind `fail`.
    last_words : str
        The end of what it complained of (stderr).
    """
    if status.state is RunState.COMPLETED:
        return _one_line(status.reason)
    if status.state is RunState.CANCELLED:
        return status.reason or "cancelled on request"
    if status.state is not RunState.FAILED:
        return status.reason or failure or status.state.value.lower()
    if status.decisive:
        failure = ""
    candidates = (failure, status.reason, last_line(last_words), _in_words(status.exit_code))
    return _one_line(next(text for text in candidates if text))


def last_line(text: str) -> str:
    """Find the last line that says something, free of control characters."""
    for line in reversed(text.splitlines()):
        words = _CONTROL.sub(" ", line).strip()
        if words:
            return words
    return ""


def _one_line(text: str) -> str:
    """Fit a text onto a line."""
    words = _CONTROL.sub(" ", text).strip()
    return words if len(words) <= _LONGEST_REASON else f"{words[: _LONGEST_REASON - 1]}…"


def _in_words(exit_code: int | None) -> str:
    """Say what an exit code means."""
    if exit_code is None:
        return "the job failed and left no word of why"
    meaning = _MEANINGS.get(exit_code)
    return f"the job {meaning} (exit code {exit_code})" if meaning else f"exit code {exit_code}"


def _progress(event: JobEvent) -> dict[str, Any]:
    """Pick the figures that a job's record has fields for."""
    values: dict[str, Any] = {}
    for name in PROGRESS_FIGURES:
        figure = event.figures.get(name)
        if isinstance(figure, bool) or not isinstance(figure, int | float):
            continue
        if 0 <= figure < _LARGEST:
            values[name] = int(figure) if name in _COUNTS else float(figure)
    if "seconds_left" not in values:
        values["seconds_left"] = None
    return values


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """Keep what JSON has words for (`NaN` is none), and only one level of it.

    `documents` is a list of the asset's documents.
    """
    kept = {
        storable(name[:100]): _short(value, _LONGEST_MESSAGE) if isinstance(value, str) else value
        for name, value in list(figures.items())[:100]
        if value is None or isinstance(value, str | bool) or _number(value) is not None
    }
    documents = figures.get("documents")
    if isinstance(documents, list):
        rows = [row for row in documents[:_MOST_DOCUMENTS] if isinstance(row, dict)]
        kept["documents"] = [_document(row) for row in rows]
    return kept


def _bounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Keep the first figures that are short enough together; the documents come first."""
    room, kept = LONGEST_FIGURES, {}
    for name in sorted(figures, key=lambda name: name != "documents"):
        room -= len(json.dumps({name: figures[name]}))
        if room < 0:
            break
        kept[name] = figures[name]
    return kept


def _document(row: dict[str, Any]) -> dict[str, Any]:
    """Take what is told of one document."""
    return {
        **{name: _short(row.get(name)) for name in ("name", "status", "source")},
        "seconds": _number(row.get("seconds")),
        "complete": row.get("complete") is not False,
        "problems": _texts(row.get("problems")),
        "notes": _texts(row.get("notes")),
    }


def _texts(value: Any) -> list[str]:
    """Take the first texts of a list, each cut to a length that people read."""
    texts = value if isinstance(value, list) else []
    return [_short(text) for text in texts[:_MOST_TEXTS]]


def _short(value: Any, most: int = _LONGEST_REASON) -> str:
    """Take a text or a number, cut to a length that people read; of anything else nothing."""
    if isinstance(value, int | float):
        value = "" if _number(value) is None else str(value)
    return storable(value[:most]) if isinstance(value, str) else ""


def _number(value: Any) -> int | float | None:
    """Take a number that can be stored; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _LARGEST else None  # neither infinity nor NaN is less


def _moment(text: Any) -> datetime:
    """Read a time; now, where there is none to be read."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return utc_now()
