"""Which jobs are being handed to an executor, so that nobody else cancels or takes them meanwhile.

A job that is recorded but was not sent is `SUBMITTED` and names no executor. A process claims it
before handing it over: the record names the executor then, and no reference yet. From there on the
request may be on its way, and only the executor can tell.
"""

from collections.abc import Collection

import sqlalchemy as sa

from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database, chunks

MOST_REFERENCES = 5000
"""How many references are returned at most."""


class Claims:
    """Claims jobs for an executor, and gives them back.

    Parameters
    ----------
    database : Database
        Where the jobs are recorded.
    """

    def __init__(self, database: Database):
        self._database = database

    def take(self, job_ids: Collection[str], executor: str) -> set[str]:
        """Claim jobs; return the ids of those that nobody has cancelled or handed over."""
        jobs = tables.jobs
        return self._change(job_ids, executor, jobs.c.cancel_requested.is_(sa.false()))

    def give_back(self, job_ids: Collection[str]) -> set[str]:
        """Record that jobs were not sent; return the ids of those to which that applies."""
        return self._change(job_ids, "", sa.true())

    def references(self) -> list[str]:
        """Return the executor's references of the newest jobs that have one."""
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.executor_ref)
            .where(jobs.c.executor_ref != "")
            .order_by(jobs.c.seq.desc())
            .limit(MOST_REFERENCES)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def _change(
        self, job_ids: Collection[str], executor: str, condition: sa.ColumnElement[bool]
    ) -> set[str]:
        """Name another executor, of jobs that have no reference yet."""
        jobs = tables.jobs
        found: set[str] = set()
        with self._database.writing() as connection:
            for chunk in chunks(sorted(job_ids)):
                unsent = (
                    sa.select(jobs.c.id)
                    .where(jobs.c.id.in_(chunk), condition)
                    .where(jobs.c.state == JobState.SUBMITTED.value, jobs.c.executor_ref == "")
                    .order_by(jobs.c.seq)  # as other changes lock rows, so that none deadlock
                    .with_for_update()
                )
                ids = connection.scalars(unsent).all()
                values = {"executor": executor, "updated_at": utc_now()}
                connection.execute(sa.update(jobs).where(jobs.c.id.in_(ids)).values(values))
                found.update(ids)
        return found
