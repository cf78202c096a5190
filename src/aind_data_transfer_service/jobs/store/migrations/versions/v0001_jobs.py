"""Jobs, their requests and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_SORTABLE = (
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


def _text(name: str) -> sa.Column[str]:
    """Make a column of text that is never null."""
    return sa.Column(name, _TEXT, nullable=False, server_default="")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
        sa.Column("id", _TEXT, nullable=False, unique=True),
        _text("name"),
        sa.Column("state", _TEXT, nullable=False),
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
        sa.Column("submitted_at", _MOMENT, nullable=False),
        sa.Column("started_at", _MOMENT),
        sa.Column("ended_at", _MOMENT),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("exit_code", sa.Integer),
        _text("step"),
        sa.Column("files_done", _BIG),
        sa.Column("files_total", _BIG),
        sa.Column("bytes_done", _BIG),
        sa.Column("bytes_total", _BIG),
        sa.Column("bytes_per_second", sa.Float),
        sa.Column("seconds_left", sa.Float),
        sa.Column("events_offset", _BIG, nullable=False, server_default="0"),
        _text("resubmit_of"),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        _text("search"),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name in _SORTABLE:  # SQLite puts nulls first by itself, and cannot be told to
        nulls_first = postgresql and name in ("started_at", "ended_at")
        column = sa.text(f"{name} NULLS FIRST") if nulls_first else name
        covered = [] if name == "state" else ["state"]  # so that filtering needs no look at rows
        op.create_index(f"jobs_by_{name}", "jobs", [column, "seq", *covered])
    if not postgresql:  # which has a limit on such entries, and less need
        op.create_index("jobs_by_text", "jobs", ["search", "state", "submitter", "submitted_at"])
    in_flight = sa.text("location != '' AND state IN ('PENDING', 'RUNNING', 'SUBMITTED')")
    op.create_index(
        "jobs_one_in_flight",
        "jobs",
        ["location"],
        unique=True,
        sqlite_where=in_flight,
        postgresql_where=in_flight,
    )
    op.create_table(
        "job_requests",
        sa.Column("job_seq", _BIG, sa.ForeignKey("jobs.seq"), primary_key=True),
        _text("upload_job_settings"),
        _text("hpc_settings"),
        _text("script"),
        _text("warnings"),
    )
    op.create_table(
        "job_events",
        sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
        sa.Column("job_seq", _BIG, sa.ForeignKey("jobs.seq"), nullable=False),
        sa.Column("time", _MOMENT, nullable=False),
        _text("step"),
        _text("kind"),
        _text("message"),
        _text("figures"),
    )
    op.create_index("job_events_of_job", "job_events", ["job_seq", "seq"])


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("job_events")
    op.drop_table("job_requests")
    op.drop_table("jobs")
