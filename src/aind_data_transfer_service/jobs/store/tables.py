"""The tables in which jobs are kept, for SQLite and PostgreSQL alike.

Long texts lie apart from the rows that lists, filters and sorting walk over. The migrations in
`jobs/migrations` make these tables; a change here needs a migration there.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text, sorted the same way everywhere."""

BigNumber = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment. Goes in and comes out with its zone, whatever the database keeps."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Store in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Give back in UTC."""
        if value is None:
            return None
        stored: datetime = value
        return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


def _text(name: str) -> sa.Column[str]:
    """Make a column of text that is never null."""
    return sa.Column(name, Text, nullable=False, server_default="")


jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("seq", BigNumber, primary_key=True, autoincrement=True),
    sa.Column("id", Text, nullable=False, unique=True),
    _text("name"),
    sa.Column("state", Text, nullable=False),
    _text("reason"),
    _text("submitter"),
    _text("project_name"),
    _text("platform"),
    _text("subject_id"),
    _text("modalities"),
    _text("acq_datetime"),
    _text("location"),
    _text("executor"),
    _text("executor_ref"),
    _text("node"),
    sa.Column("submitted_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("exit_code", sa.Integer),
    _text("step"),
    sa.Column("files_done", BigNumber),
    sa.Column("files_total", BigNumber),
    sa.Column("bytes_done", BigNumber),
    sa.Column("bytes_total", BigNumber),
    sa.Column("bytes_per_second", sa.Float),
    sa.Column("seconds_left", sa.Float),
    sa.Column("events_offset", BigNumber, nullable=False, server_default="0"),
    _text("resubmit_of"),
    _text("batch_id"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    _text("analysis"),
    _text("analysis_reason"),
    _text("data_asset_id"),
    _text("data_asset_link"),
    _text("computation_id"),
    _text("computation_link"),
    _text("registration"),
    _text("registration_reason"),
    _text("search"),
)
"""One row a job, but for its long texts. `search` is what the text filter looks at."""

requests = sa.Table(
    "job_requests",
    metadata,
    sa.Column("job_seq", BigNumber, sa.ForeignKey("jobs.seq"), primary_key=True),
    _text("upload_job_settings"),
    _text("hpc_settings"),
    _text("script"),
    _text("warnings"),
    sa.Column("has_bucket_word", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""The long texts of a job: what was asked for, and what could not be checked (a JSON list)."""

events = sa.Table(
    "job_events",
    metadata,
    sa.Column("seq", BigNumber, primary_key=True, autoincrement=True),
    sa.Column("job_seq", BigNumber, sa.ForeignKey("jobs.seq"), nullable=False),
    sa.Column("time", UtcDateTime, nullable=False),
    _text("step"),
    _text("kind"),
    _text("message"),
    _text("figures"),
)
"""What jobs told of themselves, progress aside, in the order in which they told it."""

sa.Index("job_events_of_job", events.c.job_seq, events.c.seq)

logs = sa.Table(
    "job_logs",
    metadata,
    sa.Column("job_seq", BigNumber, sa.ForeignKey("jobs.seq"), primary_key=True),
    sa.Column("stream", Text, primary_key=True),
    sa.Column("position", BigNumber, nullable=False, server_default="0"),
    sa.Column("dropped", BigNumber, nullable=False, server_default="0"),
    _text("text"),
)
"""Ends of logs that jobs brought: where the next piece begins, and how many bytes were dropped."""

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("seq", BigNumber, primary_key=True, autoincrement=True),
    sa.Column("job_seq", BigNumber, sa.ForeignKey("jobs.seq"), nullable=False),
    _text("before"),
    _text("after"),
    _text("reason"),
    _text("address"),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again
)
"""Changes of states that people are still to be told of: who, once that is known, and when."""

sa.Index("notices_by_due_at", notices.c.due_at, notices.c.seq)

service_lease = sa.Table(
    "service_lease",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _text("holder"),
    _text("name"),
    _text("place"),
    sa.Column("fencing", BigNumber, nullable=False, server_default="0"),
    sa.Column("since", sa.Float(53), nullable=False, server_default="0"),
    sa.Column("expires", sa.Float(53), nullable=False, server_default="0"),
)
"""One row: the process that runs the jobs. Times are seconds since 1970 by the database's clock."""

SORTABLE = (
    "submitted_at",
    "started_at",
    "ended_at",
    "updated_at",
    "name",
    "state",
    "submitter",
    "project_name",
    "platform",
    "subject_id",
)
"""The columns that a list of jobs may be sorted by."""

for _name in SORTABLE:
    _covered = () if _name == "state" else (jobs.c.state,)
    sa.Index(f"jobs_by_{_name}", jobs.c[_name], jobs.c.seq, *_covered)

sa.Index(
    "jobs_by_text",
    jobs.c.search,
    jobs.c.state,
    jobs.c.submitter,
    jobs.c.submitted_at,
)
"""What SQLite looks through for a text."""

IN_FLIGHT = sa.text("location != '' AND state IN ('PENDING', 'RUNNING', 'SUBMITTED')")
"""Written out, so that SQLite sees that the partial index serves the query."""
sa.Index(
    "jobs_one_in_flight",
    jobs.c.location,
    unique=True,
    sqlite_where=IN_FLIGHT,
    postgresql_where=IN_FLIGHT,
)

OPEN_AFTERWARDS = sa.text(
    "(analysis IN ('PENDING', 'WAITING', 'RUNNING') OR registration = 'PENDING')"
)
"""Written out as well, for the same reason."""
sa.Index(
    "jobs_open_afterwards",
    jobs.c.seq,
    sqlite_where=OPEN_AFTERWARDS,
    postgresql_where=OPEN_AFTERWARDS,
)
