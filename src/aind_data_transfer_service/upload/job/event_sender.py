"""Bringing a job's events to the service by HTTP, as they are written.

What is brought is the file of events itself, piece by piece, each with its place in the file. The
service says where it wants to go on, so that an answer that was lost, a service that was restarted
or that reads the file too does no harm. The transfer never waits for any of this.
"""

import logging
import os
import threading
import time
from pathlib import Path

import httpx

from aind_data_transfer_service.network.tls_trust import trust
from aind_data_transfer_service.upload.job.log_tail import LogTail

logger = logging.getLogger(__name__)

PIECE = 256 * 1024
"""Bytes that are sent at once."""
_CORRECTIONS = 20
_FIRST_DELAY = 1.0
_LAST_DELAY = 0.3


class Callback:
    """Sends what is written to a file, on a thread of its own.

    Parameters
    ----------
    url : str
        Where to.
    token : str
        By which the service knows the job.
    file : Path, optional
        The file of events; without one only the log is sent.
    interval : float
        Seconds between two pieces, while there is no hurry.
    patience : float
        Seconds that `close` waits for the last piece to arrive.
    longest_delay : float
        Seconds between two attempts, when the service has been away for long.
    log_tail : LogTail, optional
        Sent after the events.
    """

    def __init__(
        self,
        url: str,
        token: str,
        file: Path | None,
        *,
        interval: float = 1.0,
        patience: float = 5.0,
        longest_delay: float = 30.0,
        log_tail: LogTail | None = None,
    ):
        self._url = url
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/x-ndjson",
        }
        self._interval, self._patience, self._longest = interval, patience, longest_delay
        self._log_tail = log_tail
        self._file = None if file is None else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._begin = self._position = 0 if self._file is None else os.fstat(self._file).st_size
        self._shift = 0
        self._news, self._closing = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="callback", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether what is written is still sent."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Have what was written sent soon."""
        self._news.set()

    def close(self) -> None:
        """Send what is left, for a bounded time."""
        self._deadline = time.monotonic() + self._patience
        self._closing.set()
        self._news.set()
        self._thread.join(self._patience)

    def _run(self) -> None:
        """Send, until the file ends or the service wants no more."""
        try:
            with httpx.Client(
                verify=trust(), headers=self._headers, timeout=self._patience
            ) as client:
                self._follow(client)
        except Exception as error:  # the telling may fail, the transfer goes on
            self._complain(f"an error of its own ({type(error).__name__})")
        finally:
            if self._file is not None:
                os.close(self._file)
            if self._log_tail is not None:
                self._log_tail.close()

    def _follow(self, client: httpx.Client) -> None:
        """Send what is written, at most once an interval."""
        delay = 0.0
        while time.monotonic() < self._deadline:
            self._news.wait()
            self._news.clear()
            ending = self._closing.is_set()
            trouble = self._deliver(client)
            if trouble == "" and self._log_tail is not None:
                self._log_tail.send(client, is_last=ending)
            if trouble is None or (ending and not trouble):
                return
            if not trouble:
                delay = 0.0
                self._closing.wait(self._interval)
                continue
            if not delay:
                self._complain(f"{trouble}; it is tried again")
            delay = min(2 * delay or _FIRST_DELAY, self._longest)
            self._news.set()
            if ending:
                time.sleep(_LAST_DELAY)
            else:
                self._closing.wait(delay)

    def _deliver(self, client: httpx.Client) -> str | None:
        """Send all that is there; give what went wrong, or None where nothing more is wanted."""
        corrections = 0
        while self._file is not None and (data := _next_lines(self._file, self._position)):
            try:
                offset = self._position + self._shift
                answer = client.post(self._url, params={"offset": offset}, content=data)
                wanted = answer.json()["data"]["offset"] if answer.status_code == 409 else 0
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                return f"the service does not answer as it should ({type(error).__name__})"
            if answer.status_code == 200:
                self._position += len(data)
            elif answer.status_code == 409 and isinstance(wanted, int):
                self._go_on_at(wanted, os.fstat(self._file).st_size)
                corrections += 1
                if corrections > _CORRECTIONS:
                    return "the service does not say where to go on"
            elif answer.status_code >= 500 or answer.status_code in (408, 429):
                return f"the service answers {answer.status_code}"
            else:
                if answer.status_code != 410:
                    self._complain(f"the service answers {answer.status_code}")
                return None
        return ""

    def _go_on_at(self, wanted: int, size: int) -> None:
        """Go on where the service's record ends.

        A record that is longer than the file has more than this file in it: an earlier run's of the
        job, on a node with a folder of its own. This run's events come after that.
        """
        for shift in (self._shift, 0, wanted - self._begin):
            if 0 <= wanted - shift <= size:
                self._shift, self._position = shift, wanted - shift
                return

    def _complain(self, what: str) -> None:
        """Say once why nothing arrives; at the very end the last word is the job's."""
        if not self._closing.is_set():
            logger.warning("the service cannot be told of the progress: %s", what)


def _next_lines(file: int, position: int) -> bytes:
    """Read whole lines; part of one only where it is too long for an event."""
    data = os.pread(file, PIECE, position)
    end = data.rfind(b"\n") + 1
    return data[:end] if end or len(data) < PIECE else data
