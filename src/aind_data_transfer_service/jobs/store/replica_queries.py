"""Questions of one service process about what another one has recorded."""

from datetime import datetime

import sqlalchemy as sa

from aind_data_transfer_service.jobs.states import ACTIVE, JobState
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database

_MOST_CHANGES = 500


class Requests:
    """Questions about what users asked for, and what was done.

    Parameters
    ----------
    database : Database
        Where the jobs are recorded.
    """

    def __init__(self, database: Database):
        self._database = database

    def waiting(self) -> list[str]:
        """List the jobs that were recorded and not handed over."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == JobState.SUBMITTED.value, jobs.c.executor_ref == "")
            .order_by(jobs.c.seq)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def in_doubt(self) -> list[str]:
        """List the jobs that may have been sent to the executor, and have no reference."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == JobState.SUBMITTED.value, jobs.c.executor_ref == "")
            .where(jobs.c.executor != "")
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def open(self) -> frozenset[tuple[str, str]]:
        """List what waits to be done for users: jobs to be handed over, and to be cancelled."""
        jobs = tables.jobs
        states = sorted(state.value for state in ACTIVE)
        to_cancel = sa.select(jobs.c.id).where(
            jobs.c.state.in_(states), jobs.c.cancel_requested.is_(True)
        )
        with self._database.reading() as connection:
            found = {("cancel", job_id) for job_id in connection.scalars(to_cancel)}
        return frozenset(found | {("start", job_id) for job_id in self.waiting()})

    def changed(self, since: datetime) -> list[tuple[str, datetime]]:
        """List the jobs that were changed since a moment, and when."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.id, jobs.c.updated_at)
            .where(jobs.c.updated_at >= since)
            .order_by(jobs.c.updated_at.desc())
            .limit(_MOST_CHANGES)
        )
        with self._database.reading() as connection:
            return [(row.id, row.updated_at) for row in connection.execute(query)]
