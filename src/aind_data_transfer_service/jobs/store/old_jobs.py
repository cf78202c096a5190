"""Which jobs ended long ago, and deleting their rows."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import ENDED
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database
from aind_data_transfer_service.jobs.store.outbox import GIVE_UP

_JOBS_AT_ONCE = 50
_EVENTS_AT_ONCE = 2000
_ABANDONED = timedelta(days=30)
"""A registration or analysis that was not changed for this long is not going to end."""


class OldJobs:
    """The rows of jobs that ended long ago.

    Parameters
    ----------
    database : Database
        Where they are recorded.
    """

    def __init__(self, database: Database):
        self._database = database

    def find(self, before: datetime, after: int = 0) -> list[tuple[int, str]]:
        """List the next jobs that may be deleted, by number and id.

        A job that has not ended, whose messages may still go out, or whose registration or
        analysis is open and not abandoned, is not among them.

        Parameters
        ----------
        before : datetime
            When they ended at the latest.
        after : int
            The number after which to go on.
        """
        seq = tables.jobs.c.seq
        query = (
            sa.select(seq, tables.jobs.c.id)
            .where(*self._conditions(before), seq > after)
            .order_by(seq)
            .limit(_JOBS_AT_ONCE)
        )
        with self._database.reading() as connection:
            return [(row.seq, row.id) for row in connection.execute(query)]

    def delete_events(self, seqs: Sequence[int]) -> bool:
        """Delete some of the events of jobs; return whether there may be more."""
        events = tables.events
        some = sa.select(events.c.seq).where(events.c.job_seq.in_(seqs)).limit(_EVENTS_AT_ONCE)
        with self._database.writing() as connection:
            deleted = connection.execute(sa.delete(events).where(events.c.seq.in_(some))).rowcount
        return deleted == _EVENTS_AT_ONCE

    def delete(self, seqs: Sequence[int], before: datetime) -> int:
        """Delete jobs that still may be deleted, and return how many that were."""
        jobs = tables.jobs
        query = sa.select(jobs.c.seq).where(jobs.c.seq.in_(seqs), *self._conditions(before))
        with self._database.writing() as connection:
            found = list(connection.scalars(query.order_by(jobs.c.seq).with_for_update()))
            for table in (tables.events, tables.requests, tables.logs, tables.notices):
                connection.execute(sa.delete(table).where(table.c.job_seq.in_(found)))
            connection.execute(sa.delete(jobs).where(jobs.c.seq.in_(found)))
        return len(found)

    @staticmethod
    def _conditions(before: datetime) -> tuple[sa.ColumnElement[bool] | sa.TextClause, ...]:
        """Compose what has to hold of a job that may be deleted."""
        jobs, notices = tables.jobs, tables.notices
        may_go_out = notices.c.created_at > utc_now() - GIVE_UP
        abandoned = min(before, utc_now() - _ABANDONED)
        is_untold = sa.select(notices.c.seq).where(notices.c.job_seq == jobs.c.seq, may_go_out)
        return (
            jobs.c.ended_at < before,
            jobs.c.state.in_(sorted(state.value for state in ENDED)),
            sa.or_(sa.text(f"NOT {tables.OPEN_AFTERWARDS.text}"), jobs.c.updated_at < abandoned),
            sa.not_(is_untold.exists()),
        )
