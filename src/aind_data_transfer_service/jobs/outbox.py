"""What people are still to be told, kept in the store until they have been.

A row is made in the very transaction that changes a job's state, so that no message is lost with
the service. It has no address at first; whoever sends messages takes it apart into one row an
address, so that each is tried until it has gone out, and none twice for another's sake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from aind_data_transfer_service.jobs import tables
from aind_data_transfer_service.jobs.database import Database
from aind_data_transfer_service.jobs.record import Job, storable, utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.notifications.occasion import occasion_of


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told."""

    seq: int
    job_id: str
    before: JobState
    after: JobState
    reason: str
    address: str
    """Whom to tell; empty until that was decided."""
    tries: int
    created_at: datetime


class Outbox:
    """The messages that have not gone out.

    Parameters
    ----------
    database : Database
        Where they lie.
    """

    def __init__(self, database: Database):
        self._database = database

    def take(self, lease: timedelta, limit: int = 16) -> list[Notice]:
        """Take what is due, the oldest first; nobody else gets it while the lease lasts.

        So few are taken at once that they do not outlast it, even where each has to be waited for.
        """
        now = utc_now()
        table = tables.notices
        due = (
            sa.select(table, tables.jobs.c.id.label("job_id"))
            .join(tables.jobs, tables.jobs.c.seq == table.c.job_seq)
            .where(table.c.due_at <= now)
            .order_by(table.c.seq)
            .limit(limit)
            .with_for_update(of=table, skip_locked=True)
        )
        with self._database.writing() as connection:
            rows = connection.execute(due).all()
            if rows:
                connection.execute(
                    sa.update(table)
                    .where(table.c.seq.in_([row.seq for row in rows]))
                    .values(due_at=now + lease)
                )
        return [_notice(row) for row in rows]

    def address(self, notice: Notice, addresses: Sequence[str]) -> None:
        """Replace a notice by one for each address; by none where nobody wants to be told."""
        table = tables.notices
        now = utc_now()
        with self._database.writing() as connection:
            job_seq = connection.scalar(
                sa.delete(table).where(table.c.seq == notice.seq).returning(table.c.job_seq)
            )
            if job_seq is None or not addresses:
                return
            rows = [
                _row(job_seq, notice.before, notice.after, notice.reason, notice.created_at, now)
                | {"address": storable(address)}
                for address in addresses
            ]
            connection.execute(sa.insert(table), rows)

    def done(self, notice: Notice) -> None:
        """Forget a notice: it has gone out, or never will."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(tables.notices).where(tables.notices.c.seq == notice.seq))

    def postpone(self, notice: Notice, wait: timedelta) -> None:
        """Have a notice tried again later."""
        with self._database.writing() as connection:
            connection.execute(
                sa.update(tables.notices)
                .where(tables.notices.c.seq == notice.seq)
                .values(due_at=utc_now() + wait, tries=notice.tries + 1)
            )

    def waiting(self) -> int:
        """Count what has not gone out."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(tables.notices)) or 0


def note_change(connection: sa.Connection, job_seq: int, before: Job, after: Job) -> None:
    """Write down what people may want to hear of, in the transaction in which it happens."""
    if occasion_of(before.state, after.state) is None:
        return
    now = utc_now()
    row = _row(job_seq, before.state, after.state, storable(after.reason), now, now)
    connection.execute(sa.insert(tables.notices), [row])


def _row(
    job_seq: int,
    before: JobState,
    after: JobState,
    reason: str,
    created_at: datetime,
    due_at: datetime,
) -> dict[str, object]:
    """Compose a row without an address."""
    return {
        "job_seq": job_seq,
        "before": before.value,
        "after": after.value,
        "reason": reason,
        "created_at": created_at,
        "due_at": due_at,
    }


def _notice(row: sa.Row) -> Notice:
    """Read a row."""
    return Notice(
        seq=row.seq,
        job_id=row.job_id,
        before=JobState(row.before),
        after=JobState(row.after),
        reason=row.reason,
        address=row.address,
        tries=row.tries,
        created_at=row.created_at,
    )
