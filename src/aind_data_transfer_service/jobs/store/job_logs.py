"""Ends of logs that jobs bring to the service, because it cannot read them where the jobs run.

Of each stream the last lines are stored, without secrets. Their place in the text is counted from
the first line that was brought, so that a page can read on from where it stopped.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from aind_data_transfer_service.executors.base import FileChunk, JobFile
from aind_data_transfer_service.jobs.models import storable
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database
from aind_data_transfer_service.redaction import redact_range

LOG_TAIL_BYTES = 64 * 1024
"""Bytes of each stream that are stored, and"""
SHARD_TAIL_BYTES = 16 * 1024
"""those of each stream of a shard: a job may be cut into hundreds."""
_CONTEXT = 20 * 1024
"""Characters of the stored text with which a piece is redacted: it may go on with a private key."""
_GAP = "[…]\n"
"""Written where lines are left out."""


@dataclass(frozen=True)
class Brought:
    """What became of a piece of a log."""

    is_taken: bool
    position: int
    """Where in the job's file the next piece has to begin, in bytes."""


class JobLogs:
    """Stores and reads the ends of logs.

    Parameters
    ----------
    database : Database
        Where they are stored.
    """

    def __init__(self, database: Database):
        self._database = database

    def append(
        self, job_id: str, stream: JobFile, offset: int, size: int, text: str, shard: int = 0
    ) -> Brought:
        """Store a piece after what is stored already; refuse one that was stored before.

        Of a piece that does not follow on what is stored, the text up to the first line break is
        dropped. A private key that began in an earlier piece is removed up to its end.

        Parameters
        ----------
        job_id : str
            The job.
        stream : str
            Which of its logs.
        offset, size : int
            Where in the job's file the piece begins, and how long it is there, in bytes.
        text : str
            The piece, without the secrets that it has by itself.
        shard : int
            Which shard of the job wrote it; 0 for the job itself.
        """
        name = _name(stream, shard)
        jobs, logs = tables.jobs, tables.logs
        with self._database.writing() as connection:
            query = sa.select(jobs.c.seq).where(jobs.c.id == job_id).with_for_update()
            seq = connection.scalar(query)
            if seq is None:  # deleted meanwhile
                return Brought(False, offset)
            is_this = sa.and_(logs.c.job_seq == seq, logs.c.stream == name)
            found = connection.execute(sa.select(logs).where(is_this)).first()
            if found is not None and offset < found.position:
                return Brought(False, found.position)
            stored = found.text if found is not None else ""
            is_gap = offset > (found.position if found is not None else 0)
            if is_gap:  # the first line may lack its beginning, and have half a secret
                text = text.partition("\n")[2]
            before = stored[-_CONTEXT:]
            text = redact_range(before + text, len(before), len(before) + len(text), is_cut=True)
            data = f"{stored}{_GAP if is_gap else ''}{storable(text)}".encode()
            most = SHARD_TAIL_BYTES if shard else LOG_TAIL_BYTES
            kept = data[-most:].decode("utf-8", "ignore")
            dropped = found.dropped if found is not None else 0
            values = {
                "position": offset + size,
                "dropped": dropped + len(data) - len(kept.encode()),
                "text": kept,
            }
            if found is not None:
                connection.execute(sa.update(logs).where(is_this).values(values))
            else:
                row = {"job_seq": seq, "stream": name, **values}
                connection.execute(sa.insert(logs).values(row))
        return Brought(True, offset + size)

    def has_any(self, job_id: str) -> bool:
        """Return whether a job, or a shard of it, has brought a log."""
        jobs, logs = tables.jobs, tables.logs
        query = (
            sa.select(logs.c.stream)
            .join(jobs, jobs.c.seq == logs.c.job_seq)
            .where(jobs.c.id == job_id)
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.scalar(query) is not None

    def shards(self, job_id: str) -> int:
        """Return the highest number of a shard that has brought a log; 0 if there is none."""
        jobs, logs = tables.jobs, tables.logs
        query = (
            sa.select(logs.c.stream)
            .join(jobs, jobs.c.seq == logs.c.job_seq)
            .where(jobs.c.id == job_id, logs.c.stream.like("%.%"))
        )
        with self._database.reading() as connection:
            names = connection.scalars(query).all()
        return max((int(name.partition(".")[2]) for name in names), default=0)

    def read(
        self, job_id: str, stream: JobFile, offset: int, limit: int, shard: int = 0
    ) -> FileChunk:
        """Read from the end of a log as from a file; empty if the job has brought none."""
        jobs, logs = tables.jobs, tables.logs
        query = (
            sa.select(logs.c.dropped, logs.c.text)
            .join(jobs, jobs.c.seq == logs.c.job_seq)
            .where(jobs.c.id == job_id, logs.c.stream == _name(stream, shard))
        )
        with self._database.reading() as connection:
            found = connection.execute(query).first()
        if found is None:
            return FileChunk(data=b"", offset=0, size=0)
        data = found.text.encode()
        size = found.dropped + len(data)
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        start = max(start, found.dropped)
        begin = start - found.dropped
        return FileChunk(data=data[begin : begin + limit], offset=start, size=size)


def _name(stream: JobFile, shard: int) -> str:
    """Return the name under which a log is stored: `stderr`, or `stderr.3` of a shard."""
    return f"{stream}.{shard}" if shard else stream
