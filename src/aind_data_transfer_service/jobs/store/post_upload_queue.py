"""Which jobs have something left to be done after their upload, and who does it."""

from datetime import datetime

import sqlalchemy as sa

from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database

_TO_BE_DONE = ("", "WAITING", "FAILED")


class OpenEnds:
    """What is left to be done after uploads.

    Parameters
    ----------
    database : Database
        Where the jobs are recorded.
    """

    def __init__(self, database: Database):
        self._database = database

    def begin(self, job_id: str, step: str) -> bool:
        """Take a step of a job (`analysis` or `registration`) on; false where it is not to be had.

        Of several who want the same at the same moment, one gets it.
        """
        jobs = tables.jobs
        column = jobs.c[step]
        taken = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.COMPLETED.value)
            .where(column.in_(_TO_BE_DONE))
            .values({column: "PENDING", jobs.c[f"{step}_reason"]: "", jobs.c.updated_at: utc_now()})
        )
        with self._database.writing() as connection:
            return connection.execute(taken).rowcount == 1

    def listed(self, after: int, limit: int) -> tuple[list[str], int]:
        """List the next jobs whose ends are open, and say after which number to go on.

        The list goes round: where nothing comes after a number, it begins anew the next time.
        """
        jobs = tables.jobs
        query = (
            sa.select(jobs.c.seq, jobs.c.id)
            .where(tables.OPEN_AFTERWARDS, jobs.c.seq > after)
            .where(jobs.c.state == JobState.COMPLETED.value)
            .order_by(jobs.c.seq)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [row.id for row in rows], rows[-1].seq if len(rows) == limit else 0

    def abandon(self, before: datetime, reason: str) -> list[str]:
        """Give up what was begun before a moment and has not ended since; list the jobs."""
        jobs = tables.jobs
        found: list[str] = []
        with self._database.writing() as connection:
            for step in ("analysis", "registration"):
                column = jobs.c[step]
                given_up = (
                    sa.update(jobs)
                    .where(tables.OPEN_AFTERWARDS, column == "PENDING")
                    .where(jobs.c.state == JobState.COMPLETED.value, jobs.c.updated_at < before)
                    .values({column: "FAILED", jobs.c[f"{step}_reason"]: reason})
                    .returning(jobs.c.id)
                )
                found += connection.scalars(given_up)
        return found
