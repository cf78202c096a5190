"""What a job tells of itself: a JSON object a line to a file, and a line of text to the log."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aind_data_transfer_service.redaction import redact, redact_all

if TYPE_CHECKING:
    from aind_data_transfer_service.upload.job.event_sender import Callback

logger = logging.getLogger("aind_data_transfer_service.upload")


class Step(StrEnum):
    """The steps of a job, in their order."""

    PREFLIGHT = "preflight"
    METADATA = "metadata"
    MODALITY = "modality"
    LEASE = "waiting for the lease"
    """Another job may still write the asset."""
    TRANSFER = "transfer"
    VERIFY = "verify"
    REGISTRATION = "registration"
    ANALYSIS = "analysis"
    DONE = "done"


class Kind(StrEnum):
    """What an event tells."""

    START = "start"
    PROGRESS = "progress"
    WARNING = "warning"
    END = "end"
    FAIL = "fail"


_LEVELS = {
    Kind.PROGRESS: logging.DEBUG,
    Kind.WARNING: logging.WARNING,
    Kind.FAIL: logging.DEBUG,  # the reason itself is the last line that the job prints
}


class Events:
    """Tells what happens, and remembers which step is under way.

    Parameters
    ----------
    file : Path | None
        Where events are appended, each flushed at once; None for the log alone.
    job_id : str | None
        The service's id of the job.
    asset : str
        Name of the asset; may be set later, once it is known.
    now : Callable
        The clock.
    """

    def __init__(
        self,
        file: Path | None = None,
        job_id: str | None = None,
        asset: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self.asset = asset
        self.step = Step.PREFLIGHT
        self._job_id = job_id
        self._now = now
        self._output: Any = None
        self._torn = False
        self._callback: "Callback | None" = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._output = open(file, "ab", buffering=0)

    def attach(self, callback: "Callback") -> None:
        """Have the file's events brought elsewhere too; closed with the file."""
        self._callback = callback

    def close(self) -> None:
        """Close the file, when all of it is told; bounded, and harmless the second time."""
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._callback is not None:
            self._callback.close()
            self._callback = None

    def emit(self, kind: Kind, message: str, **figures: Any) -> None:
        """Tell one thing about the step that is under way."""
        event = {
            "time": self._now().isoformat(),
            "job_id": self._job_id,
            "asset": self.asset,
            "step": self.step.value,
            "kind": kind.value,
            "message": redact(message),
            "figures": redact_all(figures),
        }
        fields = {"job_id": self._job_id, "asset": self.asset, "step": self.step.value}
        logger.log(_LEVELS.get(kind, logging.INFO), "%s", message, extra=fields)
        if self._output is not None:
            self._write(json.dumps(event).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        """Append a line; a disk that is full stops the telling, not the job."""
        data = b"\n" + line if self._torn else line
        written: int | None = 0
        try:
            written = self._output.write(data)
        except OSError as error:
            if not self._torn:
                logger.error("events cannot be written: %s", error.strerror)
        self._torn = written != len(data)
        if self._callback is not None:
            self._callback.wake()

    def warn(self, message: str) -> None:
        """Tell of something that whoever asked for the job should know."""
        self.emit(Kind.WARNING, message)

    def wait_for_lease(self, message: str) -> None:
        """Tell that the job waits until no other job holds the lease of its asset."""
        self.step = Step.LEASE
        self.emit(Kind.WARNING, message)

    @contextmanager
    def during(self, step: Step, message: str) -> Iterator[dict[str, Any]]:
        """Tell that a step starts and, where it does not fail, that it ended, with its figures.

        Gives a dictionary to put the figures in; `message` there replaces the words for the end.
        """
        self.step = step
        self.emit(Kind.START, message)
        figures: dict[str, Any] = {}
        yield figures
        self.emit(Kind.END, figures.pop("message", message), **figures)
