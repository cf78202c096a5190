"""How far a transfer is: counted by many threads, told at most once a second.

Bytes count once the destination has acknowledged them, not when they are read or sent.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

_WINDOW = 15.0
"""Seconds over which the rate is taken."""


class Progress:
    """Counts files and bytes, and tells of them now and then.

    Parameters
    ----------
    files_total, bytes_total : int
        How much there is to do.
    tell : Callable
        Takes the figures, at most every `interval` seconds and once at the end.
    label : str
        What the bar in a terminal says.
    bar : bool | None
        Whether to draw one; by default where the standard error is a terminal.
    interval : float
        Seconds between two reports.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(
        self,
        files_total: int,
        bytes_total: int,
        tell: Callable[[dict[str, Any]], None],
        label: str = "",
        bar: bool | None = None,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._files_total, self._bytes_total = files_total, bytes_total
        self._files = self._bytes = self._earlier = 0
        self._tell, self._interval, self._clock = tell, interval, clock
        self._lock = threading.Lock()
        self._last = clock()
        self._marks = deque([(self._last, 0)])
        wanted = sys.stderr.isatty() if bar is None else bar
        self._bar = _Bar(label, bytes_total, files_total) if wanted else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(self.figures())
        if self._bar is not None:
            self._bar.update(self._bytes, self._files)
            self._bar.stop()

    def already(self, files: int, size: int) -> None:
        """Count what needed no work: it says nothing of the rate."""
        self._count(size, files, size)

    def add(self, size: int, files: int = 0) -> None:
        """Count bytes that the destination has acknowledged, and files that are done."""
        self._count(size, files, 0)

    def _count(self, size: int, files: int, earlier: int) -> None:
        """Count bytes, and report if it is time."""
        with self._lock:
            self._bytes += size
            self._files += files
            self._earlier += earlier
            now = self._clock()
            due = now - self._last >= self._interval
            if due:
                self._last = now
                self._marks.append((now, self._bytes - self._earlier))
                while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
                    self._marks.popleft()
        if due:
            self._tell(self.figures())
            if self._bar is not None:
                self._bar.update(self._bytes, self._files)

    def figures(self) -> dict[str, Any]:
        """Tell how far it is, how fast, and how long it will take."""
        with self._lock:
            now, (since, before) = self._clock(), self._marks[0]
            done = self._bytes - self._earlier - before
            rate = done / (now - since) if now > since else 0.0
            left = max(0, self._bytes_total - self._bytes)
            return {
                "files_done": self._files,
                "files_total": self._files_total,
                "bytes_done": self._bytes,
                "bytes_total": self._bytes_total,
                "bytes_per_second": round(rate),
                "seconds_left": round(left / rate, 1) if rate else (0.0 if not left else None),
            }


class _Bar:
    """A bar in the terminal."""

    def __init__(self, label: str, total: int, files: int):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn
        from rich.progress import Progress as RichProgress
        from rich.progress import TextColumn, TimeRemainingColumn, TransferSpeedColumn

        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn(f"{{task.fields[files]:,}} of {files:,} files"),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(label, total=total, files=0)
        self._progress.start()

    def update(self, done: int, files: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, files=files)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()
