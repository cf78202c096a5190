"""Read a range of a job's log without secrets.

A secret may cross an end of the range, so the bytes around it are read and redacted as well. What
is shown piece by piece is therefore the same as what is shown at once.
"""

import re
from dataclasses import dataclass, replace

from aind_data_transfer_service.executors.base import FileChunk, JobFile
from aind_data_transfer_service.jobs.manager import JobManager
from aind_data_transfer_service.jobs.states import ENDED
from aind_data_transfer_service.redaction import redact, redact_range

MARGIN = 16 * 1024
"""Bytes that are read on each side of a range: more than a secret has, escaped or not."""
_INVALID = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as `surrogateescape` decodes them."""


@dataclass(frozen=True)
class LogPiece:
    """A range of a log."""

    text: str
    offset: int
    """Where it begins, in bytes."""
    next_offset: int
    """Where it ends, in bytes."""
    size: int
    """Size of the log, in bytes."""
    problem: str = ""
    """Why files of the job cannot be read; empty if they can."""
    shards: int = 0
    """How many shards of the job have logs of their own."""


async def read_log(
    manager: JobManager, job_id: str, stream: JobFile, offset: int, limit: int, shard: int = 0
) -> LogPiece:
    """Read a range of a log.

    While the job runs, an unfinished line at the end of the log is left for the next call: it may
    end within a secret. No more than `MARGIN` bytes are left.

    Parameters
    ----------
    manager : JobManager
        Knows the job.
    job_id : str
        The job.
    stream : JobFile
        Which of its files.
    offset : int
        Where the range begins, in bytes; counted from the end if negative.
    limit : int
        Bytes at most; a character is never split, so there may be three more.
    shard : int
        Which shard of the job wrote it; 0 for the job itself.
    """
    job = await manager.get(job_id)  # read first: nothing is written after the end of a job
    before = MARGIN if offset < 0 else min(offset, MARGIN)
    chunk = await manager.log(job_id, stream, offset - before, before + limit + MARGIN, shard)
    asked = max(0, chunk.size + offset) if offset < 0 else min(offset, chunk.size)
    start = max(0, asked - chunk.offset)
    piece = _piece(chunk, start, start + limit, job.state in ENDED)
    return replace(piece, shards=await manager.shards(job))


def _piece(chunk: FileChunk, start: int, end: int, has_ended: bool) -> LogPiece:
    """Return what is shown of a chunk, from one of its bytes to another."""
    data = chunk.data
    if not has_ended and chunk.offset + len(data) >= chunk.size:
        last = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        end = min(end, max(last, len(data) - MARGIN))
    text = data.decode("utf-8", "surrogateescape")
    start, first = _boundary(data, text, min(start, len(data)))
    end, last = _boundary(data, text, max(start, min(end, len(data))))
    redacted = redact_range(text, first, last, is_cut=True)
    shown = _INVALID.sub("\N{REPLACEMENT CHARACTER}", redacted)
    size, problem = chunk.size, redact(chunk.problem)
    return LogPiece(shown, chunk.offset + start, chunk.offset + end, size, problem)


def _boundary(data: bytes, text: str, place: int) -> tuple[int, int]:
    """Return the first boundary between characters from a byte on: its byte and its character."""
    while True:
        head = data[:place].decode("utf-8", "surrogateescape")
        if text.startswith(head):
            return place, len(head)
        place += 1
