"""What people are still to be told, kept in the store until they have been.

A row is made in the very transaction that changes a job's state, so that no message is lost with
the service. It has no address at first; whoever sends messages takes it apart into one row an
address, so that each is tried until it has gone out, and none twice for another's sake.

A row about a job that was submitted with others waits for `BATCH_WAIT`, and then goes out with
those of the same request, address and occasion, as one message.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from aind_data_transfer_service.jobs.models import Job, storable, utc_now
from aind_data_transfer_service.jobs.notification_events import Occasion, occasion_of
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database, chunks

BATCH_WAIT = timedelta(seconds=60)
"""How long a notice about one of several jobs of a request waits for those about the others."""
GIVE_UP = timedelta(days=1)
"""How long a message is tried."""


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
    batch_id: str = ""
    """The same for all jobs of one request; empty if it had one job alone."""

    @property
    def occasion(self) -> Occasion | None:
        """What happened, as far as people are concerned."""
        return occasion_of(self.before, self.after)


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
        Those without an address come first, so that all that can go out in one message does.
        """
        now, table = utc_now(), tables.notices
        with self._database.writing() as connection:
            for is_wanted in (table.c.address == "", table.c.address != ""):
                due = _notices().where(table.c.due_at <= now, is_wanted).limit(limit)
                if found := [_notice(row) for row in connection.execute(due)]:
                    _lease(connection, found, now + lease)
                    return found
        return []

    def gather(self, notices: Sequence[Notice], lease: timedelta) -> list[list[Notice]]:
        """Group notices that were taken by the message in which they go out.

        A notice about one of several jobs of a request goes out with what else waits for its
        address, on the same occasion, about jobs of that request; that is taken as well.
        """
        groups: dict[tuple[Any, ...], list[Notice]] = {}
        for notice in notices:
            is_shared = notice.batch_id and notice.address
            key = (notice.batch_id, notice.address, notice.occasion) if is_shared else (notice.seq,)
            groups.setdefault(key, []).append(notice)
        now, table = utc_now(), tables.notices
        for key, group in groups.items():
            if len(key) == 1:
                continue
            waiting = _notices().where(
                table.c.due_at <= now + BATCH_WAIT,
                table.c.address == group[0].address,
                tables.jobs.c.batch_id == group[0].batch_id,
            )
            with self._database.writing() as connection:
                rows = connection.execute(waiting).all()
                found = [one for one in map(_notice, rows) if one.occasion is group[0].occasion]
                _lease(connection, found, now + lease)
            group += found
            group.sort(key=lambda one: one.job_id)  # in the order of submission
        return list(groups.values())

    def address(self, notice: Notice, addresses: Sequence[str]) -> None:
        """Replace a notice by one for each address; by none where nobody wants to be told."""
        table = tables.notices
        due = utc_now()
        if notice.batch_id:
            due = max(due, notice.created_at + BATCH_WAIT)
        with self._database.writing() as connection:
            job_seq = connection.scalar(
                sa.delete(table).where(table.c.seq == notice.seq).returning(table.c.job_seq)
            )
            if job_seq is None or not addresses:
                return
            rows = [
                _row(job_seq, notice.before, notice.after, notice.reason, notice.created_at, due)
                | {"address": storable(address)}
                for address in addresses
            ]
            connection.execute(sa.insert(table), rows)

    def done(self, *notices: Notice) -> None:
        """Forget notices: they have gone out, or never will."""
        with self._database.writing() as connection:
            for chosen in _chosen(notices):
                connection.execute(sa.delete(tables.notices).where(chosen))

    def postpone(self, wait: timedelta, *notices: Notice) -> None:
        """Have notices tried again later."""
        with self._database.writing() as connection:
            for chosen in _chosen(notices):
                connection.execute(
                    sa.update(tables.notices)
                    .where(chosen)
                    .values(due_at=utc_now() + wait, tries=tables.notices.c.tries + 1)
                )

    def waiting(self) -> int:
        """Count what has not gone out."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(tables.notices)) or 0


def _notices() -> sa.Select[*tuple[Any, ...]]:
    """Compose the question for notices, the oldest first; those that are being taken are left."""
    table = tables.notices
    return (
        sa.select(table, tables.jobs.c.id.label("job_id"), tables.jobs.c.batch_id.label("batch_id"))
        .join(tables.jobs, tables.jobs.c.seq == table.c.job_seq)
        .order_by(table.c.seq)
        .with_for_update(of=table, skip_locked=True)
    )


def _lease(connection: sa.Connection, notices: Sequence[Notice], until: datetime) -> None:
    """Have nobody else get notices before a moment."""
    for chosen in _chosen(notices):
        connection.execute(sa.update(tables.notices).where(chosen).values(due_at=until))


def _chosen(notices: Sequence[Notice]) -> Iterator[sa.ColumnElement[bool]]:
    """Compose conditions for notices, as many of them at once as a statement can take."""
    for chunk in chunks(one.seq for one in notices):
        yield tables.notices.c.seq.in_(chunk)


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


def _notice(row: sa.Row[*tuple[Any, ...]]) -> Notice:
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
        batch_id=row.batch_id,
    )
