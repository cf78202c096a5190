"""Logging of the service, of jobs and of the command line: one handler, one line per event.

As text, a line has its time, level, logger and fields before the message::

    2024-02-19T11:25:17.123-08:00 INFO uvicorn.error request_id=15758b67: request failed

As JSON (`LOG_FORMAT=json`) the same values are the members of an object, with a traceback as the
member `exception`. Fields are what a log call passes as `extra`, and the reference of the request
that is being answered. What comes from outside is escaped: it cannot begin a line of its own.
"""

import json
import logging
import math
import os
import re
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, TextIO

from aind_data_transfer_service.redaction import protect_logs

PACKAGE = __name__.partition(".")[0]
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The reference of the HTTP request that is being answered; an error page shows it."""

LogFormat = Literal["text", "json"]

_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName"),
    "color_message",  # uvicorn's message once more, with colours for a terminal
}
"""Attributes of a record that are not fields."""
_WARNING_ONLY = ("httpx", "httpcore", "botocore", "urllib3")
"""Libraries whose lines below WARNING hold one line per request, with its address or its keys."""
_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_PLAIN_VALUE = re.compile(r"[\w.:/@+-]+", re.ASCII)
_INDENT = "    "


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the standard error of the moment.

    While a terminal shows a progress bar, `sys.stderr` puts each line above the bar.
    """

    @property
    def stream(self) -> TextIO:
        """Return the standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Keep no stream: it may be another one at the next line."""


class TextFormatter(logging.Formatter):
    """One line per event; the lines of a traceback follow, indented.

    Parameters
    ----------
    zone : tzinfo, optional
        The zone of the times; default: the machine's own.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        super().__init__()
        self._zone = zone

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone(self._zone)
        fields = "".join(f" {name}={_written(v)}" for name, v in fields_of(record).items())
        head = f"{time.isoformat(timespec='milliseconds')} {record.levelname} {record.name}"
        lines = [f"{head}{fields}: {escape(record.getMessage().rstrip())}"]
        if trace := self._traceback(record):
            lines += [f"{_INDENT}{escape(line)}" for line in trace.splitlines()]
        return "\n".join(lines)

    def _traceback(self, record: logging.LogRecord) -> str:
        parts = []
        if record.exc_text:  # as the filter against secrets wrote it
            parts.append(record.exc_text)
        elif record.exc_info and record.exc_info[0]:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)


class JsonFormatter(TextFormatter):
    """One JSON object per event, always on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone(self._zone)
        values: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().rstrip(),
        }
        if trace := self._traceback(record):
            values["exception"] = trace
        return json.dumps(values | {n: v for n, v in fields_of(record).items() if n not in values})


def configure_logging(level: str = "INFO", form: LogFormat = "text") -> None:
    """Send the log to the standard error, in one form for all libraries.

    An application that has set up the root logger already keeps its own handlers and levels.

    Parameters
    ----------
    level : str
        The lowest level of this package's lines; libraries log INFO at the lowest.
    form : str
        ``text`` or ``json``.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, StderrHandler):
            root.removeHandler(handler)
    if root.handlers:
        return
    handler = StderrHandler()
    handler.setLevel(level)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    protect_logs([handler])
    root.addHandler(handler)
    root.setLevel(max(logging.getLevelName(level), logging.INFO))
    logging.getLogger(PACKAGE).setLevel(level)
    for name in _WARNING_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _UVICORN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_exception


def configured_from_environment() -> None:
    """Set up logging before any other setting is read; a wrong value is reported with the rest."""
    wanted = {name.upper(): value for name, value in os.environ.items()}
    form: LogFormat = "json" if wanted.get("LOG_FORMAT", "").strip().lower() == "json" else "text"
    level = wanted.get("LOG_LEVEL", "").strip().upper()
    configure_logging(level if level in logging.getLevelNamesMapping() else "INFO", form)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record: what its call passed as `extra`, and the request's reference.

    Parameters
    ----------
    record : logging.LogRecord
        What was logged.
    """
    found = {n: _simple(v) for n, v in vars(record).items() if n not in _ATTRIBUTES}
    request_id = REQUEST_ID.get()
    if request_id is not None:
        found.setdefault("request_id", request_id)
    return {name: value for name, value in found.items() if value not in (None, "")}


def escape(text: str) -> str:
    r"""Write control and invisible characters as escapes, line breaks as ``\n``.

    Parameters
    ----------
    text : str
        Any text.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _simple(value: Any) -> str | int | float | bool | None:
    """Return a value that JSON has."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _written(value: Any) -> str:
    """Write a field's value, in quotation marks if it could be mistaken for more than a value."""
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text)


def _log_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread."""
    if arguments.exc_type is SystemExit:
        return
    name = arguments.thread.name if arguments.thread else "unknown"
    value = arguments.exc_value or arguments.exc_type()
    logging.getLogger(__name__).error("thread %s failed: %s", name, value, exc_info=value)
