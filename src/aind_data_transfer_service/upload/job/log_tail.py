"""Bringing the end of a job's log to the service, where that cannot read it.

The log is what the job writes to its standard output and standard error, if these are files. Only
whole lines are sent: of a secret within a line the service would not find half. Of a secret of
several lines it hides the part that a piece has. Of much text the last lines are sent, and a line
that is longer than a piece is left out. The service says at once which of the two it does not want.
"""

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

PIECE = 64 * 1024
"""Bytes that are sent at once, and of more the last."""
INTERVAL = 2.0
"""Seconds between two pieces of a log."""
_STREAMS = {"stderr": 2, "stdout": 1}


@dataclass
class _Stream:
    """A log, and how far it was sent."""

    name: str
    descriptor: int
    position: int = 0
    shift: int = 0
    """How much of an earlier run's log the service has, which lies before this file, in bytes."""


class LogTail:
    """Sends what was written to the log.

    Parameters
    ----------
    url : str
        Where to.
    descriptors : mapping of str to int
        The files to which the job writes, by the names of the streams.
    interval : float
        Seconds between two pieces.
    shard : int
        Which shard of the job writes it; 0 for the job itself.
    """

    def __init__(
        self,
        url: str,
        descriptors: Mapping[str, int] = _STREAMS,
        interval: float = INTERVAL,
        shard: int = 0,
    ):
        self._url = url
        self._of_shard: dict[str, str | int] = {"shard": shard} if shard else {}
        self._interval = interval
        self._due = 0.0
        self._streams = [
            stream for name, number in descriptors.items() if (stream := _open(name, number))
        ]

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams:
            os.close(stream.descriptor)
        self._streams = []

    def send(self, client: httpx.Client, is_last: bool = False) -> None:
        """Send what is new, if it is time; an error is left for the next time.

        Parameters
        ----------
        client : httpx.Client
            By which the service is reached.
        is_last : bool
            Whether the log ends, so that a last line without its end is all that there will be.
        """
        now = time.monotonic()
        if now < self._due and not is_last:
            return
        self._due = now + self._interval
        for stream in tuple(self._streams):
            try:
                is_wanted = self._send(client, stream, is_last)
            except httpx.HTTPError:
                return  # the events tell of a service that is away
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if not is_wanted:
                os.close(stream.descriptor)
                self._streams.remove(stream)

    def _send(self, client: httpx.Client, stream: _Stream, is_last: bool) -> bool:
        """Send what is new of one stream; return whether more is wanted."""
        for _ in range(2):  # once more if the service has another place in mind
            size = os.fstat(stream.descriptor).st_size
            start, data = _read_lines(stream, size, is_last)
            if not data:
                return True
            params = {"stream": stream.name, "offset": start + stream.shift, **self._of_shard}
            answer = client.post(self._url, params=params, content=data)
            if answer.status_code == 200:
                stream.position = start + len(data)
                return bool(answer.json()["data"]["wanted"])
            if answer.status_code != 409:
                return answer.status_code >= 500 or answer.status_code in (408, 429)
            wanted = int(answer.json()["data"]["offset"])
            if not 0 <= wanted - stream.shift <= size:
                stream.shift = wanted - stream.position
            stream.position = wanted - stream.shift
        return True


def _read_lines(stream: _Stream, size: int, is_last: bool) -> tuple[int, bytes]:
    """Read the whole lines at the end of a log, and return also where they begin.

    After a gap they begin with the end of the line that is left out: the service drops what is
    before the first line break then.
    """
    start = max(stream.position, size - PIECE)
    data = os.pread(stream.descriptor, size - start, start) if start < size else b""
    is_cut = start > stream.position
    if not is_cut and start > 0:  # the service may have named any place
        is_cut = os.pread(stream.descriptor, 1, start - 1) != b"\n"
    if not is_last:
        data = data[: data.rfind(b"\n") + 1]
    if is_cut:
        first = data.find(b"\n")
        start, data = (start + first, data[first:]) if first >= 0 else (start, b"")
    return start, data


def _open(name: str, number: int) -> _Stream | None:
    """Open the file to which a stream is written; None if it is not a file."""
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        descriptor = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    return _Stream(name, descriptor)
